"""Fit the tensors of a checkpoint file to a model: take off prefixes, translate names, resize the classifier, load."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.tensor_digests import is_counter
from nctransfer.errors import WeightsError, counted, join_names

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["classifier_names", "fit", "fit_by_position"]

log = logging.getLogger(__name__)


def fit_by_position(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str) -> None:
    """Load tensors that are in the order of the model's own, whatever their names.

    Args:
        model: The model.
        state: The tensors.
        path: The file that they came from, for messages.
        name: The name of the model, for messages.

    Raises:
        WeightsError: There are more or fewer tensors than the model has, or one has another shape.
    """
    # Tensors beyond the model's keep their names, so that they are unexpected.
    names = [*model.state_dict(), *list(state)[len(model.state_dict()) :]]
    _load(model, dict(zip(names, state.values(), strict=False)), path, name, "")


def fit(
    model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str, allow_missing: bool = False
) -> None:
    """Load a state dict into a model: every tensor that a feature depends on, or raise an error.

    Prefixes of wrappers (``module.``, ``backbone.``, ``encoder.`` …) are taken off. timm translates names of the
    architecture's original code if it knows them. The classifier gets as many classes as the file has.

    Args:
        model: The model; its classifier may be replaced.
        state: The tensors.
        path: The file that they came from, for messages.
        name: The name of the model, for messages.
        allow_missing: Whether the classifier may be missing. The model then has none either.

    Raises:
        WeightsError: Tensors are missing, unexpected, or have another shape.
    """
    state = _translated(model, _without_prefix(model, state, path))
    hint = _fit_classifier(model, state, path, allow_missing)
    _load(model, state, path, name, hint)


def _without_prefix(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """The tensors without the prefix of their names under which most tensors of the model are found."""
    needed = [key for key in model.state_dict() if not is_counter(key)]
    prefixes = {""} | {key.removesuffix(last) for last in needed[:2] for key in state if key.endswith("." + last)}
    found = {prefix: sum(prefix + key in state for key in needed) for prefix in prefixes}
    best = max(sorted(found), key=found.__getitem__)
    if not best or found[best] <= found[""]:
        return dict(state)
    others = [key for key in state if not key.startswith(best)]
    left_out = f"; left out {counted(len(others), 'other tensor')} ({join_names(others, 2)})" if others else ""
    log.info("the names of tensors in %s begin with %r%s", path.name, best, left_out)
    return {key.removeprefix(best): tensor for key, tensor in state.items() if key.startswith(best)}


def _translated(model: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict that does not fit as it is, translated by timm's filter for the architecture.

    The filter translates the names of the original code, and resamples position embeddings for another image size.
    """
    translate: Callable[..., Any] | None = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None or not _misfits(model, state):
        return state
    try:
        translated = dict(translate(dict(state), model))
    except Exception:  # it is made for certain files, and may raise anything for others
        return state
    return translated if _misfits(model, translated) < _misfits(model, state) else state


def _misfits(model: nn.Module, state: Mapping[str, torch.Tensor]) -> int:
    """The number of tensors that are missing, unexpected, or have another shape."""
    needed = {key: tensor.shape for key, tensor in model.state_dict().items() if not is_counter(key)}
    wrong: int = sum(key not in state or state[key].shape != shape for key, shape in needed.items())
    return wrong + sum(key not in needed and not is_counter(key) for key in state)


def _fit_classifier(model: Any, state: dict[str, torch.Tensor], path: Path, allow_missing: bool) -> str:
    """Give the model's classifier the number of classes in the file.

    Returns:
        A hint for the case that only the classifier is missing, or "".
    """
    names = classifier_names(model)
    needed = model.state_dict()
    if not names:
        return ""
    if not any(name in state for name in names):
        if all(key in state or key in names or is_counter(key) for key in needed):
            if not allow_missing:
                return "only the classifier is missing; --allow-missing goes on without it"
            extra = [key for key in state if key not in needed and _below(key, names)]
            model.reset_classifier(0)
            missing = join_names(sorted(names), 2)
            log.warning("%s holds no classifier (%s); features do not depend on it", path.name, missing)
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
            log.warning("it differs in form from the model's, and is left out; features do not depend on it")
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
    """Whether a tensor belongs to the same module as one of these tensors."""
    return any(key.startswith(name.rpartition(".")[0] + ".") for name in names)


def _load(model: nn.Module, state: Mapping[str, torch.Tensor], path: Path, name: str, hint: str) -> None:
    """Load every tensor, or raise an error that says which are missing, unexpected, or have another shape."""
    needed = model.state_dict()
    missing = [key for key in needed if key not in state and not is_counter(key)]
    unexpected = [key for key in state if key not in needed]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in needed.items()
        if key in state and state[key].shape != tensor.shape
    ]
    problems = [
        f"{len(names)} of {len(needed)} tensors {what} ({join_names(names, 2)})"
        for what, names in (("are missing", missing), ("have another shape", misshapen))
        if names
    ]
    if unexpected:
        verb = "is" if len(unexpected) == 1 else "are"
        problems.append(f"{counted(len(unexpected), 'tensor')} {verb} unexpected ({join_names(unexpected, 2)})")
    if problems:
        raise WeightsError(
            f"the checkpoint {str(path)!r} does not fit {name}: {'; '.join(problems)}",
            hint or "give the --model (and --model-kwargs, --img-size) that these weights were trained with",
        )
    model.load_state_dict(dict(state), strict=False)  # only counters may be missing
