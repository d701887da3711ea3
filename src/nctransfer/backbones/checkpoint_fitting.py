"""A checkpoint file, read safely and fitted to a model."""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import WeightsError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["fit", "fit_by_position", "left_at_random", "random_prints", "read", "tensor_digest"]

log = logging.getLogger(__name__)

# where a checkpoint may hold its state dict, beside the names that timm looks for
INNER = ("teacher", "target_encoder", "student", "encoder", "model_state_dict", "net", "network")


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a file, by timm's safe reader: bare, or under one of the usual names.

    Of a file that holds several, an exponential moving average or teacher comes first.

    Raises:
        WeightsError: It is damaged, unsafe, or holds no state dict.
    """
    import torch
    from timm.models import clean_state_dict, load_state_dict

    try:
        content: Any = load_state_dict(str(path), weights_only=True)
        for name in INNER:
            if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
                log.info("of the checkpoint %s: its %r", path.name, name)
                content = clean_state_dict(content[name])
                break
    except Exception as error:  # a damaged or hostile file may raise anything
        is_pickle = "weights_only" in str(error)  # whose message advises to execute it
        first_line = str(error).strip().partition("\n")[0]
        reason = (
            "it is damaged, or holds pickled objects, which could run any code"
            if is_pickle
            else f"it is not whole, or damaged ({': '.join(filter(None, [type(error).__name__, first_line]))})"
        )
        raise WeightsError(
            f"the checkpoint {str(path)!r} cannot be read safely: {reason}",
            "needed is a state dict as .safetensors, or as .pth without pickled objects",
        ) from error
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(
            f"the checkpoint {str(path)!r} is no state dict",
            "needed is a mapping from parameter names to tensors, bare or under 'state_dict', 'model', 'model_ema', "
            "'teacher' or 'student'",
        )
    return dict(content)


def fit_by_position(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Load tensors that stand in the order of the model's, whatever they are called.

    Raises:
        WeightsError: There are more or fewer, or one has another shape.
    """
    names = [*model.state_dict(), *list(state)[len(model.state_dict()) :]]  # one too many keeps its name: refused
    _load(model, dict(zip(names, state.values(), strict=False)), path, name, "")


def fit(
    model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str, allow_missing: bool = False
) -> None:
    """Load a state dict into a model: every tensor that a feature depends on, or an error.

    Prefixes of wrappers (``module.``, ``backbone.``, ``encoder.`` …) are taken off, names of the architecture's
    original code translated by timm where timm can, and the classifier made as large as the file's.

    Args:
        model: The model; its classifier may be replaced.
        state: The tensors.
        path: Their file, for messages.
        name: The model's name, for messages.
        allow_missing: Whether the classifier may be missing. It is then left out of the model too.

    Raises:
        WeightsError: Tensors are missing, unexpected, or of another shape.
    """
    state = _translated(model, _without_prefix(model, state, path))
    hint = _fit_classifier(model, state, path, allow_missing)
    _load(model, state, path, name, hint)


def _without_prefix(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with the prefix under which most of the model is found, without it."""
    needed = [key for key in model.state_dict() if not _is_counter(key)]
    prefixes = {""} | {key.removesuffix(last) for last in needed[:2] for key in state if key.endswith("." + last)}
    found = {prefix: sum(prefix + key in state for key in needed) for prefix in prefixes}
    best = max(sorted(found), key=found.__getitem__)
    if not best or found[best] <= found[""]:
        return dict(state)
    others = [key for key in state if not key.startswith(best)]
    left_out = f"; {len(others)} other tensors are left out ({_some(others)})" if others else ""
    log.info("the names in %s begin with %r%s", path.name, best, left_out)
    return {key.removeprefix(best): tensor for key, tensor in state.items() if key.startswith(best)}


def _translated(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What timm's own filter for the architecture makes of a state dict that does not fit as it is.

    It translates the names of the original code, and resamples position embeddings for another image size.
    """
    translate: Callable[..., Any] | None = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None or not _misfits(model, state):
        return state
    try:
        translated = dict(translate(dict(state), model))
    except Exception:  # it is made for files of its own kind, and anything may come of others
        return state
    return translated if _misfits(model, translated) < _misfits(model, state) else state


def _misfits(model: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """How many tensors are missing, unexpected, or of another shape."""
    needed = {key: tensor.shape for key, tensor in model.state_dict().items() if not _is_counter(key)}
    wrong: int = sum(key not in state or state[key].shape != shape for key, shape in needed.items())
    return wrong + sum(key not in needed and not _is_counter(key) for key in state)


def _fit_classifier(model: Any, state: dict[str, torch.Tensor], path: Path, allow_missing: bool) -> str:
    """Make the model's classifier as large as that of the file; returns a hint if it is the only thing missing."""
    names = classifier_names(model)
    needed = model.state_dict()
    if not names:
        return ""
    if not any(name in state for name in names):
        if all(key in state or key in names or _is_counter(key) for key in needed):
            if not allow_missing:
                return "if only the classifier is missing, as it is here, --allow-missing goes on without it"
            extra = [key for key in state if key not in needed and _below(key, names)]
            model.reset_classifier(0)
            log.warning("%s holds no classifier (%s), which no feature depends on", path.name, _some(sorted(names)))
            for key in extra:
                del state[key]
        return ""
    sizes = {state[name].shape[0] for name in names if name in state and state[name].ndim}
    if any(name in state and state[name].shape != needed[name].shape for name in names) and len(sizes) == 1:
        (size,) = sizes
        model.reset_classifier(size)
        log.info("the classifier in %s has %s classes", path.name, f"{size:,}")
        needed = model.state_dict()
        if any(name not in state or state[name].shape != needed[name].shape for name in classifier_names(model)):
            model.reset_classifier(0)
            for name in names:
                state.pop(name, None)
            log.warning("it is of another form than the model's, and left out; no feature depends on it")
    return ""


def classifier_names(model: Any) -> set[str]:
    """The names of the tensors of the model's classifier."""
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None
    parts = classifier if isinstance(classifier, tuple) else (classifier,)
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if prefix and any(module is part for part in parts)
        for name in module.state_dict()
    }


def _below(key: str, names: set[str]) -> bool:
    """Whether a tensor belongs to a module that the classifier's names belong to."""
    return any(key.startswith(name.rpartition(".")[0] + ".") for name in names)


def _load(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str, hint: str) -> None:
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
            hint or "give the --model (and --model-kwargs, --img-size) that the weights were trained with",
        )
    model.load_state_dict(dict(state), strict=False)  # but for counters, all is there


def _is_counter(key: str) -> bool:
    """Whether it is BatchNorm's count of training steps, which many files leave out and no feature depends on."""
    return key.endswith("num_batches_tracked")


def _some(names: Sequence[str], most: int = 2) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def tensor_digest(state: Mapping[str, torch.Tensor]) -> str:
    """The digest of named tensors, whatever file they came from."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted((name, tensor) for name, tensor in state.items() if not _is_counter(name)):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def random_prints(model: nn.Module) -> dict[str, bytes]:
    """What identifies each tensor of a model that was drawn at random; constants tell nothing, and are not in it."""
    return dict(_prints(model))


def left_at_random(model: nn.Module, prints: Mapping[str, bytes]) -> list[str]:
    """The tensors that are still as drawn at random, before weights were loaded into an equal model."""
    return [name for name, print_ in _prints(model) if prints.get(name) == print_]


def _prints(model: nn.Module) -> Iterator[tuple[str, bytes]]:
    for name, parameter in model.named_parameters():
        values = parameter.detach().reshape(-1)[:4096]
        if values.numel() > 1 and bool((values != values[0]).any()):
            yield name, values.contiguous().cpu().numpy().tobytes()
