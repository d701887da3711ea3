"""What published weights were trained on, in words, from the name of the architecture and the tag of the weights.

A tag of timm is a row of words with underscores between them: data sets, methods, recipes, and ``ft`` where training
went on with other data. ``mim_in22k_ft_in1k`` was trained on ImageNet-22k first, and on ImageNet-1k afterwards.
"""

from __future__ import annotations

import itertools

__all__ = ["pretrained_on"]

DATA = {
    **{f"in{size}": f"ImageNet-{size}" for size in ("1k", "12k", "21k", "22k")},
    "jft": "JFT-300M",
    "ig1b": "Instagram-1B",
    "swag": "Instagram-3.6B",
    "seer": "Instagram-1B",
    "yfcc100m": "YFCC100M",
    "yfcc15m": "YFCC15M",
    "cc12m": "CC12M",
    "lvd142m": "LVD-142M",
    "lvd1689m": "LVD-1689M",
    "sat493m": "SAT-493M",
    "laion2b": "LAION-2B",
    "laion400m": "LAION-400M",
    "laiona": "LAION-Aesthetic",
    "openai": "OpenAI's 400M pairs",
    "webli": "WebLI",
    "datacompxl": "DataComp-1B",
    "datacomp1b": "DataComp-1B",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "dfndr2b": "DFNDR-2B",
    "merged2b": "Merged-2B",
    "m30m": "Merged-30M",
    "m38m": "Merged-38M",
    "sa1b": "SA-1B",
    "bamboo": "Bamboo",
}
METHODS = {
    "dino": "DINO",
    "dinov3": "DINOv3",
    "eupe": "EUPE",
    "mae": "MAE",
    "fcmae": "FCMAE",
    "ijepa": "I-JEPA",
    "mim": "masked image modelling",
    "ns": "noisy student",
    "ssl": "semi-supervised",
    "swsl": "semi-weakly supervised",
    "wsl": "weakly supervised",
    "swag": "weakly supervised",
    "seer": "self-supervised",
    "mclip": "MobileCLIP",
    "mclip2": "MobileCLIP2",
    "clip": "CLIP",
}
USUAL_DATA = {"dino": "ImageNet-1k", "mae": "ImageNet-1k", "fcmae": "ImageNet-1k", "mclip": "DataCompDR-1B"}
"""The data set of a method where a tag names the method alone."""
FAMILIES = {"dinov2": "DINOv2", "dinov3": "DINOv3", "siglip": "SigLIP", "clip": "CLIP"}
"""The method that a part of the name of an architecture stands for. A tag need not name it again."""
SUPERVISED = tuple(f"in{size}" for size in ("1k", "12k", "21k", "22k"))
"""Data sets with labels: models of these families that were trained on them alone had labels."""


def pretrained_on(architecture: str, tag: str) -> str:
    """The data sets on which weights were trained, in order, and how; the tag itself if it names none that we know.

    Args:
        architecture: timm's name of the architecture.
        tag: The tag of the weights.

    >>> pretrained_on("vit_base_patch16_224", "augreg_in21k_ft_in1k")
    'ImageNet-21k, then ImageNet-1k'
    >>> pretrained_on("vit_small_patch14_dinov2", "lvd142m")
    'LVD-142M (DINOv2)'
    >>> pretrained_on("vit_base_patch16_siglip_224", "v2_webli")
    'WebLI (SigLIP 2)'
    >>> pretrained_on("some_architecture", "my_data")
    'my_data'
    """
    stages = [_stage(words.split("_"), architecture if first else "") for first, words in _parts(tag)]
    if not any(data for data, _ in stages):
        return tag
    named: list[str] = []
    for data, method in stages:
        named += [f"{data[0]} ({method})", *data[1:]] if data and method else data or [method]
    return ", then ".join(name for name, _ in itertools.groupby(filter(None, named)))


def _parts(tag: str) -> list[tuple[bool, str]]:
    """The parts of a tag, one for each training; the first is marked."""
    return [(number == 0, part) for number, part in enumerate(tag.split("_ft_"))]


def _stage(words: list[str], architecture: str) -> tuple[list[str], str]:
    """The data sets and the method of one training."""
    data = [DATA[word] for word in words if word in DATA]
    method = next((METHODS[word] for word in words if word in METHODS), "")
    data = data or [USUAL_DATA[word] for word in words if word in USUAL_DATA]
    if "ns" in words and len(data) == 2:  # at once: images with labels, and images that a teacher labelled
        data = [f"{data[1]} and {data[0]}"]
    if data and not method and not any(word in SUPERVISED for word in words):
        method = next((name for part, name in FAMILIES.items() if part in architecture), "")
        method += " 2" if method == "SigLIP" and "v2" in words else ""
    return data, method
