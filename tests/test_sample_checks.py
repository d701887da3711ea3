"""Whether compared samples are of one backbone, and share images or classes; what is not known is not claimed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import normal_classes
from conftest import write_digits
from messages import only, raises
from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.neural_collapse.comparisons import CollapseComparison, compare_layers, compare_samples, compare_sets

KEY = FeatureKey(model="vit", weights="1234", transform={"img_size": [224, 224], "crop_pct": 0.9})
NAMES = {"source_train": "source-train", "source_test": "source-test", "target": "target"}


def a_set(draw: int, classes: str = "abcd", *, each: int = 12, d: int = 6, **info: Any) -> FeatureSet:
    rows = np.concatenate(normal_classes([each] * len(classes), d, draw=draw)).astype(np.float32)
    described = FeatureInfo(f"set {draw}", **{"model": "vit", "weights": "w", "key": KEY} | info)
    return FeatureSet.from_arrays(rows, np.repeat([*classes], each), info=described)


def described(features: FeatureSet, **info: Any) -> FeatureSet:
    return dataclasses.replace(features, info=dataclasses.replace(features.info, **info))


def with_rows_of(features: FeatureSet, other: FeatureSet, number: int) -> FeatureSet:
    """The set with a few more rows, of its first class: rows of another set."""
    rows = torch.cat([features.features, other.features[:number]])
    labels = [features.classes[label] for label in features.labels] + [features.classes[0]] * number
    return FeatureSet.from_arrays(rows, labels, info=features.info)


def as_stream(features: FeatureSet) -> FeatureStream:
    def read() -> Iterator[np.ndarray]:
        return iter([rows.numpy() for rows in features.features.split(7)])

    return FeatureStream(
        labels=features.labels, classes=features.classes, dim=features.dim, info=features.info, read=read
    )


@pytest.fixture
def samples() -> dict[str, FeatureSet]:
    """Three samples as they should be."""
    return {"source_train": a_set(0), "source_test": a_set(1), "target": a_set(2, "xyz")}


def compared(samples: dict[str, FeatureSet], **others: FeatureSet) -> CollapseComparison:
    """The comparison, the same in memory and in passes."""
    found = compare_samples(**{**samples, **others})
    streams = {name: as_stream(one) for name, one in {**samples, **others}.items()}
    assert compare_samples(**streams).warnings == found.warnings
    return found


# No false alarm


def test_samples_as_they_should_be(samples: dict[str, FeatureSet]) -> None:
    found = compared(samples)
    assert found.warnings == ()
    assert found.to_dict()["warnings"] == []


def test_what_is_not_known_is_not_claimed(samples: dict[str, FeatureSet]) -> None:
    """Files made elsewhere say nothing of a backbone, and their rows are numbered alike."""
    nothing = {"model": None, "weights": None, "key": None}
    unknown = {
        name: described(one, **nothing, path=f"{name}.npz", layer=f"column_{name}") for name, one in samples.items()
    }
    assert compared(unknown).warnings == ()
    assert compared(samples, target=unknown["target"]).warnings == ()
    by_name = {name: described(one, key=None) for name, one in samples.items()}
    assert compared(by_name, target=samples["target"]).warnings == ()


def test_a_dead_backbone_gives_no_shared_samples(samples: dict[str, FeatureSet]) -> None:
    """Features that images of several classes have do not tell images."""
    dead = {}
    for name, one in samples.items():
        rows = one.features.clone()
        rows[::3] = 0
        dead[name] = dataclasses.replace(one, features=rows)
    assert compared(dead).warnings == ()


def test_the_same_weights_by_another_name(samples: dict[str, FeatureSet]) -> None:
    assert compared(samples, target=described(samples["target"], weights="a copy of w")).warnings == ()


# Another backbone


@pytest.mark.parametrize("which", NAMES)
@pytest.mark.parametrize(
    ("info", "what"),
    [
        ({"model": "resnet", "key": dataclasses.replace(KEY, model="resnet")}, ("model", "'vit'", "'resnet'")),
        ({"weights": "other", "key": dataclasses.replace(KEY, weights="99")}, ("weights", "'w'", "'other'")),
        ({"weights": "other", "key": None}, ("weights", "'w'", "'other'")),
        ({"layer": "layer_3"}, ("layer", "'feature'", "'layer_3'")),
        ({"key": dataclasses.replace(KEY, pool="avg")}, ("pool", "'pre_logits'", "'avg'")),
    ],
)
def test_another_backbone(samples: dict[str, FeatureSet], which: str, info: dict[str, Any], what: tuple[str]) -> None:
    if info.get("key", KEY) is None:
        samples = {name: described(one, key=None) for name, one in samples.items()}
    with raises(FeaturesError, NAMES[which], *what, hint="--model"):
        compare_samples(**{**samples, which: described(samples[which], **info)})


@pytest.mark.parametrize("which", NAMES)
def test_another_width(samples: dict[str, FeatureSet], which: str) -> None:
    narrow = dataclasses.replace(samples[which], features=samples[which].features[:, :5])
    with raises(FeaturesError, NAMES[which], 5, 6):
        compare_samples(**{**samples, which: narrow})


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"transform": {"img_size": [64, 64], "crop_pct": 0.9}}, ["img_size", "[224, 224]", "[64, 64]"]),
        ({"transform": {"img_size": [224, 224]}}, ["crop_pct", "0.9"]),
        ({"dtype": "bfloat16"}, ["dtype", "float32", "bfloat16"]),
    ],
)
def test_another_transform_is_a_warning(
    samples: dict[str, FeatureSet], change: dict[str, Any], facts: list[str]
) -> None:
    found = compared(samples, target=described(samples["target"], key=dataclasses.replace(KEY, **change)))
    assert len(found.warnings) == 2  # to each sample of the source
    for name, warning in zip(("source-train", "source-test"), found.warnings, strict=True):
        only([warning], name, "target", *facts)
    assert "crop_pct" not in found.warnings[0] or "crop_pct" in facts


# Shared images


@pytest.mark.parametrize(
    ("one", "other"), [("source_train", "source_test"), ("source_train", "target"), ("source_test", "target")]
)
def test_shared_images(samples: dict[str, FeatureSet], one: str, other: str) -> None:
    found = compared(samples, **{other: with_rows_of(samples[other], samples[one], 5)})
    only(found.warnings, 5, len(samples[other]) + 5, NAMES[one], NAMES[other])
    assert found.to_dict()["warnings"] == list(found.warnings)


def test_images_that_are_known_are_compared_too(samples: dict[str, FeatureSet]) -> None:
    numbered = {
        name: dataclasses.replace(one, images=torch.arange(100 * i, 100 * i + len(one)))
        for i, (name, one) in enumerate(samples.items())
    }
    assert compare_samples(**numbered).warnings == ()
    numbered["target"].images[:3] = torch.tensor([1, 2, 101])
    found = compare_samples(**numbered).warnings
    only(found[:1], 2, 36, "source-train", "target")
    only(found[1:], 1, 36, "source-test", "target")


@pytest.mark.parametrize(("one", "other"), [("source_train", "source_test"), ("source_test", "target")])
def test_the_same_samples_twice(samples: dict[str, FeatureSet], one: str, other: str) -> None:
    renamed = described(samples[one], id="renamed", path="renamed.npz")
    if other == "target":
        renamed = dataclasses.replace(renamed, classes=tuple("wxyz"))
    with raises(FeaturesError, NAMES[one], NAMES[other], 48, hint=NAMES[other]):
        compare_samples(**{**samples, other: renamed})


# Shared classes


def test_the_target_has_classes_of_the_source(samples: dict[str, FeatureSet]) -> None:
    found = compared(samples, target=a_set(2, "cdx"))
    only(found.warnings, 2, 3, "'c'", "'d'", "target")
    assert "'x'" not in found.warnings[0]


# Sets side by side


def test_sets_that_differ_in_backbone_and_images() -> None:
    other = described(a_set(1, "xyz"), model="resnet", key=None)
    only(compare_sets({"1: vit": a_set(0), "2: resnet": other}).warnings, "1: vit", "2: resnet")


@pytest.mark.parametrize("kind", ["another backbone", "other images", "nothing known", "a renamed copy"])
def test_sets_that_differ_in_one_thing(kind: str) -> None:
    one, other = a_set(0), a_set(1)
    if kind == "another backbone":
        other = described(other, model="resnet", key=None)
    elif kind == "other images":
        other = a_set(1, "xyz")
    elif kind == "nothing known":
        other = described(a_set(1, "xyz"), model=None, weights=None, key=None)
    else:
        one = dataclasses.replace(one, images=torch.arange(48))
        other = described(dataclasses.replace(other, images=torch.arange(48)), model="resnet", key=None)
    found = compare_sets({"one": one, "other": other})
    assert found.warnings == ()
    assert found.to_dict()["warnings"] == []


def test_layers_are_of_the_same_images() -> None:
    layers = {f"layer_{i}": described(a_set(i), layer=f"layer_{i}") for i in range(3)}
    assert compare_layers(layers).warnings == ()


# Stored sets


def test_stored_sets(tmp_path: Path) -> None:
    """Real features: a split in two, new classes; then copies of training images under other names."""
    digits = {"zero": 0, "one": 1, "two": 2}
    train = write_digits(tmp_path / "train", digits, 8)
    test = tmp_path / "test"
    for name, digit in digits.items():
        write_digits(tmp_path / f"more {name}", {name: digit}, 15)
        for path in sorted((tmp_path / f"more {name}" / name).glob("*.png"), key=lambda path: int(path.stem))[8:]:
            (test / name).mkdir(parents=True, exist_ok=True)
            path.rename(test / name / path.name)
    target = write_digits(tmp_path / "target", {"seven": 7, "eight": 8}, 8)

    def extracted(data: Path, **settings: Any) -> FeatureSet:
        return nct.extract("test_vit", data, **{"random_init": True, "device": "cpu"} | settings)

    samples = [extracted(data) for data in (target, train, test)]
    assert compare_samples(*samples).warnings == ()
    for number, path in enumerate(sorted((train / "zero").glob("*.png"))[:2]):
        (test / "zero" / f"copy {number}.png").write_bytes(path.read_bytes())
    only(compare_samples(*samples[:2], extracted(test)).warnings, 2, 23, "source-train", "source-test")
    found = compare_samples(extracted(target, mean=(0.4, 0.4, 0.4)), *samples[1:]).warnings
    assert len(found) == 2
    only(found[:1], "mean", "source-train", "target")
    with raises(FeaturesError, "weights"):
        compare_samples(extracted(target, seed=1), *samples[1:])
