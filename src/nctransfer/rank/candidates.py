"""Candidates: the backbones that compete, each with a short name of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nctransfer.backbones.facts import layers_of
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.layers import is_layer, layer_name
from nctransfer.backbones.names import PIXELS, of_timm
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.request import BackboneRequest
from nctransfer.evaluation.layer_candidates import layer_candidates
from nctransfer.paths import expanded

__all__ = ["Candidate", "candidates_of"]

log = logging.getLogger(__name__)

NO_OPTIONS = BackboneRequest()
USUALLY_SHOWN = ("random_init", "img_size", "pool", "dtype")
"""The options that a name shows wherever candidates differ in them. It shows all others only to tell two apart."""
NEVER_SHOWN = ("model", "layers", "allow_missing")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A backbone that competes.

    Attributes:
        name: What tables show, unlike that of any other candidate: "resnet50", "resnet50 --img-size 128".
        request: The backbone that runs.
        column: Which of its outputs is the feature: ``feature`` of the last layer, ``layer_3`` and so on, or what
            several of them are called that are joined.
        parts: The outputs that are joined; empty if there is one.
        is_control: Whether it is there to be beaten.
        why: Why it competes, in one sentence; may be empty.
    """

    name: str
    request: BackboneRequest
    column: str = FEATURE
    parts: tuple[str, ...] = ()
    is_control: bool = False
    why: str = ""

    @property
    def is_inner(self) -> bool:
        """Whether it is a single inner layer, which needs only a part of the backbone."""
        return is_layer(self.column)

    @property
    def identity(self) -> Hashable:
        """Two candidates with equal identities have the same features."""
        request = self.request
        drawn = request.random_init and _full_name(request.model) != PIXELS
        same = replace(
            request,
            layers=None,
            allow_missing=False,
            random_init=drawn,
            seed=request.seed if drawn else 0,
            checkpoint=request.checkpoint and expanded(request.checkpoint).resolve(),
        )
        return (
            _full_name(request.model),
            self.parts or self.column,
            *(str(getattr(same, one.name)) for one in fields(same)[1:]),
        )


def candidates_of(
    requests: Iterable[BackboneRequest | Candidate], joins: Sequence[int] | None = None
) -> tuple[Candidate, ...]:
    """One candidate for each backbone, and one more for each of the layers that it names.

    A backbone that is given twice is one candidate, and a warning says so. Names show the options in which candidates
    differ.

    Args:
        requests: Backbones; or candidates, which keep their reasons, and their names if they are controls.
        joins: The numbers of last layers that are joined to further candidates of each backbone that names layers; then
            the mean of all of its layers is one too. ``None`` if nothing is joined.

    Raises:
        ModelError: There is no such model, or it has no such layers.

    >>> small = BackboneRequest("resnet18", img_size=128)
    >>> [candidate.name for candidate in candidates_of([BackboneRequest("resnet18"), small])]
    ['resnet18', 'resnet18 --img-size 128']
    """
    given = [one if isinstance(one, Candidate) else Candidate(name="", request=one) for one in requests]
    every = [candidate for one in given for candidate in _by_layer(one, joins)]
    once: dict[Hashable, Candidate] = {}
    for candidate in sorted(every, key=lambda one: not one.is_control):
        first = once.setdefault(candidate.identity, candidate)
        if first is not candidate and first.request.layers == candidate.request.layers:
            is_control = ", as a control" if first.is_control else ""
            log.warning("%s is given twice, and runs once%s", _described(candidate), is_control)
    return _named(sorted(once.values(), key=lambda one: one.is_control))


def _by_layer(candidate: Candidate, joins: Sequence[int] | None) -> list[Candidate]:
    """A candidate for each layer that the request names, the last one, and joins. All of them run in one pass."""
    request = candidate.request
    if request.plugin:
        import_plugin(request.plugin)
    if ":" not in request.model:
        of_timm(request.model)  # there must be such a model
    if not request.layers:
        return [candidate]
    columns = (*map(layer_name, layers_of(request)), FEATURE)
    return [
        replace(candidate, column=one.name, parts=one.layers if one.is_join else ())
        for one in layer_candidates(columns, joins)
    ]


def _full_name(model: str) -> str:
    """The same text for all names of one model."""
    kind, _, place = model.partition(":")
    if kind.replace("_", "-") == "local-dir":
        return f"local-dir:{expanded(place).resolve()}"
    return model if place else of_timm(model).name


# Names


def _named(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates with names that are short, and unlike each other. Controls keep their names."""
    requests = [one.request for one in candidates if not one.is_control]
    shown = [option for option in USUALLY_SHOWN if _is_shown(option, requests)]
    options = [list(shown) for _ in candidates]
    for further in (*_options(), "layers"):  # joins of different layers can have one name
        alike: dict[str, list[int]] = {}
        for number, candidate in enumerate(candidates):
            alike.setdefault(_described(candidate, options[number]), []).append(number)
        for numbers in alike.values():
            if len({str(getattr(candidates[number].request, further)) for number in numbers}) > 1:
                for number in numbers:
                    options[number].append(further)
    pairs = zip(candidates, options, strict=True)
    names = _unlike([one.name if one.is_control else _described(one, which) for one, which in pairs])
    return tuple(replace(one, name=name) for one, name in zip(candidates, names, strict=True))


def _is_shown(option: str, requests: Sequence[BackboneRequest]) -> bool:
    """Whether names show an option: not if all of several candidates have the same value."""
    return option == "random_init" or len(requests) == 1 or len({getattr(one, option) for one in requests}) > 1


def _options() -> list[str]:
    """The options of a request that may tell two candidates apart."""
    return [one.name for one in fields(BackboneRequest) if one.name not in NEVER_SHOWN]


def _described(candidate: Candidate, options: Sequence[str] = USUALLY_SHOWN) -> str:
    """The model of a candidate, with its layer and some of its options, as on the command line."""
    request = candidate.request
    words = [request.model]
    if candidate.column != FEATURE:
        words.append(candidate.column)
    for option in options:
        value = getattr(request, option)
        if value != getattr(NO_OPTIONS, option):
            words += [f"--{option.replace('_', '-')}", *_value(value)]
    return " ".join(words)


def _value(value: Any) -> list[str]:
    """The value of an option in words; a flag has none."""
    if value is True:
        return []
    if isinstance(value, tuple):
        return [",".join(map(str, value))]
    if isinstance(value, dict):
        return [" ".join(f"{key}={one}" for key, one in value.items())]
    return [value.name if isinstance(value, Path) else str(value)]


def _unlike(names: Sequence[str]) -> list[str]:
    """Names, with a number after each that was there before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if seen[name] > 1 else name)
    return found
