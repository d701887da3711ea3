"""Checks before conclusions: whether sets that are compared are of one backbone, of which images, and of which classes.

What a set does not know about itself, as a file of features made elsewhere does not know its backbone, is not checked.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from nctransfer.errors import FeaturesError, counted, join_names
from nctransfer.features.sample_content import SampleContent, images_of

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_stream import Features

__all__ = ["check_samples", "check_sets"]

COMPUTED = ("transform", "dtype", "store_dtype", "format")  # how features are computed; all else is the backbone


def check_samples(target: Features, source_train: Features, source_test: Features) -> tuple[str, ...]:
    """Check that three samples are of one backbone, and that target and source are apart.

    Returns:
        What weakens a conclusion from them: other settings, shared images, classes that the backbone was trained on.

    Raises:
        FeaturesError: They are of different backbones or widths, two of them are the same samples, or the samples of
            the source have different classes.
    """
    samples = {"source-train": source_train, "source-test": source_test, "target": target}
    pairs = list(itertools.combinations(samples, 2))
    for one, other in pairs:
        _refuse_other_backbone(one, samples[one], other, samples[other])
    _refuse_other_classes(source_train, source_test)
    contents = {name: SampleContent.of(features) for name, features in samples.items()}
    warnings = [
        warning
        for one, other in pairs
        for warning in (
            *_computed_otherwise(one, samples[one].info, other, samples[other].info),
            *_shared(one, contents[one], other, contents[other]),
        )
    ]
    return (*warnings, *_trained_classes(target, source_train))


def check_sets(sets: Mapping[str, Features]) -> tuple[str, ...]:
    """What weakens a comparison of sets side by side: those that differ from the first in backbone and images at once.

    Args:
        sets: The sets by name.
    """
    (first, one), *others = sets.items()
    return tuple(
        f"{name} differs from {first} in its backbone and in its images: no difference between them is due to one alone"
        for name, other in others
        if _differences(one.info, other.info).backbone and _have_other_images(one, other)
    )


class _Differences(NamedTuple):
    """In what two sets differ, as far as both know it: both values by name."""

    backbone: dict[str, tuple[Any, Any]]
    computation: dict[str, tuple[Any, Any]]


def _differences(one: FeatureInfo, other: FeatureInfo) -> _Differences:
    """The weights are compared by their digests if both are known, else by their names."""
    facts = [{"model": info.model, "weights": info.weights, "layer": info.layer} for info in (one, other)]
    if one.key is not None and other.key is not None:
        facts = [known | key for known, key in zip(facts, map(_as_json, (one.key, other.key)), strict=True)]
    if one.model is None or other.model is None:  # a column of a file is no layer
        facts = [known | {"layer": None} for known in facts]
    differ = {
        name: (value, facts[1][name])
        for name, value in facts[0].items()
        if value is not None and facts[1][name] is not None and value != facts[1][name]
    }
    return _Differences(
        backbone={name: values for name, values in differ.items() if name not in COMPUTED},
        computation={name: values for name, values in differ.items() if name in COMPUTED},
    )


def _as_json(key: FeatureKey) -> dict[str, Any]:
    """The fields of a key, with lists in place of tuples, because a key that was read from disk has lists."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(key)))
    return found


def _refuse_other_backbone(name: str, one: Features, other_name: str, other: Features) -> None:
    different = _differences(one.info, other.info).backbone
    if "weights" in different:  # named, not by their digests
        different["weights"] = (one.info.weights, other.info.weights)
    if different:
        what, (value, other_value) = next(iter(different.items()))
        raise FeaturesError(
            f"{name} and {other_name} are not of one backbone: {what} {value!r} and {other_value!r}",
            "extract all three samples with the same --model and the same weights",
        )
    if one.dim != other.dim:
        raise FeaturesError(
            f"{name} has features of width {one.dim:,}, {other_name} of {other.dim:,}",
            "give samples under the same backbone",
        )


def _refuse_other_classes(trained: Features, tested: Features) -> None:
    if trained.classes != tested.classes:
        odd = sorted(set(trained.classes) ^ set(tested.classes))
        raise FeaturesError(
            "source-train and source-test must have the same classes; "
            f"{counted(len(odd), 'class is', 'classes are')} in one of them only: {join_names(list(map(repr, odd)))}",
            "give two samples of the same classes, with at least 2 images of each",
        )


def _computed_otherwise(name: str, one: FeatureInfo, other_name: str, other: FeatureInfo) -> Iterator[str]:
    different = _differences(one, other).computation
    if "transform" in different:
        before, after = different.pop("transform")
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        different = {key: (before.get(key), after.get(key)) for key in keys} | different
    if different:
        values = [f"{key} {value} and {other_value}" for key, (value, other_value) in different.items()]
        yield (
            f"{name} and {other_name} were extracted differently ({join_names(values)}): "
            "their ratios show that difference too"
        )


CONSEQUENCES = {
    ("source-train", "source-test"): "source-test looks better than images that the backbone was not trained on",
    ("source-train", "target"): "the backbone was trained on them, so target looks better than new images",
    ("source-test", "target"): "target and source-test are not independent",
}


def _shared(name: str, one: SampleContent, other_name: str, other: SampleContent) -> Iterator[str]:
    """A warning if the second set has samples of the first.

    Raises:
        FeaturesError: Both have the same samples.
    """
    shared = other.is_in(one)
    if not bool(shared.any()):
        return
    count, size = int(shared.sum()), len(shared)
    if bool(shared.all()) and bool(one.is_in(other).all()):
        raise FeaturesError(
            f"{name} and {other_name} are the same {counted(size, 'sample')}", f"give other samples as {other_name}"
        )
    yield (
        f"{other_name} shares {count:,} of its {counted(size, 'sample')} with {name}: "
        f"{CONSEQUENCES[name, other_name]}; leave them out of one of the two"
    )


def _trained_classes(target: Features, source: Features) -> Iterator[str]:
    if both := [name for name in target.classes if name in source.classes]:
        yield (
            f"target shares {len(both):,} of its {counted(len(target.classes), 'class', 'classes')} with the source, "
            f"by name: {join_names(list(map(repr, both)))}; unless they are other classes of the same name, target "
            "does not show what happens on classes that the backbone was not trained on"
        )


def _have_other_images(one: Features, other: Features) -> bool:
    """Whether two sets are known to have different images."""
    images, other_images = images_of(one), images_of(other)
    if images is None or other_images is None:
        return one.classes != other.classes
    return set(images.tolist()) != set(other_images.tolist())
