"""Which model a name stands for: timm's names, short names, models on the hub or in a folder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nctransfer.backbones.hub import Progress, fetch
from nctransfer.backbones.overrides import RESERVED, check_transform, why_reserved
from nctransfer.backbones.timm_import import import_timm
from nctransfer.errors import ModelError, did_you_mean
from nctransfer.paths import expanded
from nctransfer.strict_json import parse_json

__all__ = ["ALIASES", "DEFAULT_MODEL", "PIXELS", "WEIGHT_FILES", "ModelSpec", "of_timm", "resolve"]

DEFAULT_MODEL = "tf_efficientnet_lite0"
"""The backbone whose weights come with the installation."""
PIXELS = "pixels"
"""The control whose feature is the image itself, see :mod:`nctransfer.backbones.pixels`. It has no weights."""
ALIASES = {
    **{f"vit_{size}": f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")},
    **{f"deit_{size}": f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")},
    **{f"deit3_{size}": f"deit3_{size}_patch16_224" for size in ("small", "medium", "base", "large")},
    **{f"beit_{size}": f"beit_{size}_patch16_224" for size in ("base", "large")},
    **{f"beitv2_{size}": f"beitv2_{size}_patch16_224" for size in ("base", "large")},
    **{f"eva02_{size}": f"eva02_{size}_patch14_224" for size in ("tiny", "small", "base", "large")},
    **{f"swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")},
    **{f"swinv2_{size}": f"swinv2_{size}_window8_256" for size in ("tiny", "small", "base")},
    **{f"mixer_{size}": f"mixer_{size[0]}16_224" for size in ("base", "large")},
    **{f"dino_{size}": f"vit_{size}_patch16_224.dino" for size in ("small", "base")},
    **{f"dinov2_{size}": f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large", "giant")},
    **{f"dinov3_{size}": f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large")},
    "dinov3_huge": "vit_huge_plus_patch16_dinov3",
    "dinov3_7b": "vit_7b_patch16_dinov3",
    **{f"dinov3_convnext_{size}": f"convnext_{size}.dinov3_lvd1689m" for size in ("tiny", "small", "base", "large")},
    **{f"mae_{size}": f"vit_{size}_patch16_224.mae" for size in ("base", "large")},
    "mae_huge": "vit_huge_patch14_224.mae",
    **{f"clip_{size}": f"vit_{size}_patch{p}_clip_224.openai" for size, p in (("base", 16), ("large", 14))},
    "openclip_base": "vit_base_patch16_clip_224.laion2b",
    "openclip_large": "vit_large_patch14_clip_224.laion2b",
    "openclip_huge": "vit_huge_patch14_clip_224.laion2b",
    "siglip_base": "vit_base_patch16_siglip_224.webli",
    "siglip_large": "vit_large_patch16_siglip_256.webli",
    "siglip_so400m": "vit_so400m_patch14_siglip_224.webli",
    "siglip2_base": "vit_base_patch16_siglip_224.v2_webli",
    "siglip2_large": "vit_large_patch16_siglip_256.v2_webli",
}
"""Short names for timm's usual model of a family and size. Names such as ``resnet50``, ``convnext_tiny``,
``efficientnet_b0`` and ``regnety_016`` are timm's own, and short already."""
SOURCES = ("hf-hub", "local-dir")  # what timm accepts before a colon
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
SOURCE_FIELDS = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load", "architecture"}
DESCRIBED = ("global_pool", "img_size", "in_chans")  # reserved arguments that a model's own description may set


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model that can be built, and where its published weights are.

    Attributes:
        name: timm's full name, with its tag if it has one; or ``hf-hub:…``, ``local-dir:…``.
        architecture: timm's name of the architecture.
        config: timm's description of the weights and of the images that they need; empty if there is none.
        arguments: Arguments of timm's ``create_model`` that the model's own description sets.
        repository: The repository on the hub, ``owner/name`` or ``owner/name@revision``; "" if it is not on the hub.
        filenames: The possible names of the file of weights, the preferred one first.
        url: Where the weights are if they are not on the hub; else "".
        folder: The folder of a ``local-dir:`` model; else ``None``.
    """

    name: str
    architecture: str
    config: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    repository: str = ""
    filenames: tuple[str, ...] = ()
    url: str = ""
    folder: Path | None = None


def resolve(name: str, offline: bool = False, progress: Progress | None = None) -> ModelSpec:
    """The model that a name stands for.

    Args:
        name: A short name, timm's name with or without tag, ``hf-hub:owner/name`` or ``local-dir:folder``.
        offline: Whether the hub must not be asked.
        progress: Called as ``progress(stage, done, total)`` while something is downloaded.

    Raises:
        ModelError: There is no such model; the hint gives similar names.
        WeightsError: The description of a model on the hub cannot be found or downloaded.
    """
    source, _, place = name.partition(":")
    if source.replace("_", "-") in SOURCES and place:
        if source.startswith("hf"):
            _check_repository(place)
            path = fetch(place, ["config.json"], f"the description and weights of {name}", offline, progress)
            return _described(name, path, place, None)
        folder = expanded(place)
        return _described(name, folder / "config.json", "", folder)
    return of_timm(name)


def _check_repository(place: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(place.partition("@")[0])
    except HFValidationError as error:
        raise ModelError(f"{place!r} cannot be the name of a model on the hub", "give hf-hub:owner/name") from error


def _described(name: str, path: Path, repository: str, folder: Path | None) -> ModelSpec:
    """A model on the hub or in a folder, by the ``config.json`` that timm wrote for it."""
    try:
        content = parse_json(path.read_bytes())
        config = dict(content.get("pretrained_cfg", content))
        architecture = str(content.get("architecture") or config["architecture"])
        arguments = dict(content.get("model_args") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise ModelError(
            f"{name}: {str(path)!r} {'does not exist' if missing else 'is not a description of a model by timm'}",
            "give a model that timm's push_to_hf_hub or save_for_hf wrote: config.json, and the weights beside it",
        ) from error
    import_timm()
    from timm.models import PretrainedCfg, is_model

    if not is_model(architecture):
        raise ModelError(
            f"{name} has the architecture {architecture!r}, which timm does not know", _nearest(architecture)
        )
    config |= {given: content[given] for given in ("num_classes", "label_names") if given in content}
    config |= {given: arguments.pop(given) for given in ("num_classes",) if given in arguments}
    known = {field.name for field in dataclasses.fields(PretrainedCfg)} - SOURCE_FIELDS
    config = {key: value for key, value in config.items() if key in known}
    if arguments.get("in_chans", 3) != 3:
        raise ModelError(f"{name} takes images with {arguments['in_chans']} channels", RESERVED["in_chans"])
    if refused := [key for key in arguments if key not in DESCRIBED and why_reserved(key)]:
        raise ModelError(
            f"the description of {name} sets {', '.join(sorted(refused))}, which nctransfer sets itself",
            "remove these arguments from its config.json",
        )
    check_transform(name, config)
    return ModelSpec(
        name=f"local-dir:{folder.resolve().name}" if folder else name,  # the same wherever the folder is
        architecture=architecture,
        config=config,
        arguments=arguments,
        repository=repository,
        filenames=WEIGHT_FILES,
        folder=folder,
    )


def of_timm(name: str) -> ModelSpec:
    """The model that a short name or timm's name stands for.

    Raises:
        ModelError: timm has no such model; the hint gives similar names.
    """
    import_timm()
    from timm.models import get_pretrained_cfg, is_model
    from timm.models import list_models as timm_names

    known = ALIASES.get(name, name)
    architecture, _, tag = known.partition(".")
    if ":" in known or "/" in known or not is_model(architecture):
        raise ModelError(f"there is no model {name!r}", _nearest(name))
    try:
        config = get_pretrained_cfg(known)
    except RuntimeError:
        tags = [full.partition(".")[2] for full in timm_names(f"{architecture}.*", pretrained=True)]
        raise ModelError(
            f"{architecture} has no weights with the tag {tag!r}", f"its tags are: {', '.join(tags) or 'none'}"
        ) from None
    if config is None:
        return ModelSpec(name=architecture, architecture=architecture)
    repository = config.hf_hub_id or ""
    return ModelSpec(
        name=f"{architecture}.{config.tag}" if config.tag else architecture,
        architecture=architecture,
        config=config.to_dict(),
        repository=repository,
        filenames=((config.hf_hub_filename,) if config.hf_hub_filename else WEIGHT_FILES[:2]) if repository else (),
        url=config.url if isinstance(config.url, str) else "",
    )


def _nearest(name: str) -> str:
    from timm.models import list_models as timm_names

    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return f"give hf-hub:{name} for a model on the hub, or local-dir:{name} for one in a folder"
    near = did_you_mean(name, [*ALIASES, *timm_names()], cutoff=0.5)
    return " ".join(filter(None, (near, "nctransfer models '*' lists all names")))
