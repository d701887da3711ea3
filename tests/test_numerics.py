"""How far features depend on how they are computed: a sound model hardly, an unsound one is caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from messages import says
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.numerics import Difference, NumericsReport, check
from nctransfer.errors import DataError, ModelError
from nctransfer.sources.digits import Digits
from nctransfer.sources.source import ImageEntry, ImageSource
from tiny import pixels
from tiny import random as random_backbone

WAYS = (
    "a second time",
    "one image at a time",
    "channels first",
    "BatchNorm folded",
    "float64",
    "bfloat16",
    "float16",
    "stored as float16",
)


class Few(ImageSource):
    """Some images of the digits, or bytes that are none."""

    kind, name, id = "a few images", "few", "few"

    def __init__(self, count: int, content: bytes | None = None) -> None:
        self.digits, self.content = Digits(), content
        self.count = count
        self.asked: list[ImageEntry] = []

    def list(self) -> list[ImageEntry]:
        return self.digits.list()[: self.count]

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        self.asked.extend(entries)
        for content in self.digits.contents(entries):
            yield content if self.content is None else lambda: self.content or b""


def random(model: str = "test_resnet", **options: Any) -> Backbone:
    return random_backbone(model, img_size=32, **options)


class Changed(nn.Module):
    """A model whose features something is done to."""

    def __init__(self, inner: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.inner, self.change = inner, change

    def forward_features(self, images: torch.Tensor) -> Any:
        inner: Any = self.inner
        return inner.forward_features(images)

    def forward_head(self, features: Any, pre_logits: bool) -> torch.Tensor:
        inner: Any = self.inner
        return self.change(inner.forward_head(features, pre_logits=pre_logits))


def changed(change: Callable[[torch.Tensor], torch.Tensor], model: str = "test_resnet") -> Backbone:
    backbone = random(model)
    backbone.model = Changed(backbone.model, change)
    return backbone


def by_way(report: NumericsReport) -> dict[str, Difference]:
    return {difference.way: difference for difference in report.differences}


@pytest.fixture(scope="module")
def sound() -> NumericsReport:
    return check(random(), Digits(), 8)


# A sound model


def test_a_sound_model_hardly_depends_on_how_it_is_run(sound: NumericsReport) -> None:
    found = by_way(sound)
    assert tuple(found) == WAYS
    assert all(difference.reason == "" for difference in found.values())
    assert found["a second time"].largest == 0
    for way in ("one image at a time", "channels first", "BatchNorm folded", "float64"):
        assert found[way].largest is not None
        assert found[way].largest < 1e-4
        assert found[way].same_neighbour == 1
    for way in ("float64", "bfloat16", "float16", "stored as float16"):
        assert 0 < found[way].median <= found[way].largest < 0.1


def test_what_its_features_are_like(sound: NumericsReport) -> None:
    assert (sound.images, sound.width, sound.not_finite, sound.device) == (8, 96, 0, "cpu")
    assert (sound.model, sound.weights) == ("test_resnet", "random, seed 0")
    assert 0 < sound.smallest_norm <= sound.largest_norm
    assert sound.largest_value <= sound.largest_norm
    assert -1 <= sound.alike <= 1


def test_numbers_of_the_report_by_hand() -> None:
    backbone, source = random(), Few(5)
    report = check(backbone, source, 5)
    features = backbone(pixels(backbone, 5))[FEATURE].double()
    norms = features.norm(dim=1)
    cosines = [float(features[i] @ features[j] / (norms[i] * norms[j])) for i in range(5) for j in range(5) if i != j]
    assert report.images == 5
    assert report.alike == pytest.approx(sum(cosines) / 20, rel=1e-5)
    assert report.smallest_norm == pytest.approx(float(norms.min()), rel=1e-5)
    assert report.largest_norm == pytest.approx(float(norms.max()), rel=1e-5)
    assert report.largest_value == pytest.approx(float(features.abs().max()), rel=1e-5)
    rounded = (features.half().double() - features).norm(dim=1) / norms
    found = by_way(report)["stored as float16"]
    assert found.largest == pytest.approx(float(rounded.max()), rel=1e-3)
    assert found.median == pytest.approx(float(rounded.median()), rel=1e-3)


def test_the_report_is_json(sound: NumericsReport) -> None:
    content = json.loads(json.dumps(sound.to_dict(), allow_nan=False))
    assert content["width"] == 96
    assert [difference["way"] for difference in content["differences"]] == list(WAYS)
    assert set(content["differences"][0]) == {"way", "largest", "median", "same_neighbour", "reason"}


def test_the_backbone_is_not_changed() -> None:
    backbone = random()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    check(backbone, Digits(), 3)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
    assert (backbone.dtype, backbone.memory_format) == (torch.float32, torch.channels_last)


def test_the_plain_way_is_float32_whatever_the_backbone_computes_in() -> None:
    exact, rough = (by_way(check(random(dtype=dtype), Few(4), 4)) for dtype in ("float32", "bfloat16"))
    assert rough["float64"] == exact["float64"]
    assert rough["bfloat16"].largest == exact["bfloat16"].largest


# Unsound models


def test_a_model_that_mixes_the_batch_is_caught() -> None:
    found = by_way(check(changed(lambda features: features - features.mean(0)), Digits(), 6))
    assert found["one image at a time"].largest == pytest.approx(1)
    assert found["a second time"].largest == 0


def test_a_model_that_draws_at_random_is_caught() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = by_way(check(changed(torch.randn_like), Digits(), 6))
    assert found["a second time"].largest is not None
    assert found["a second time"].largest > 0.5
    assert found["a second time"].same_neighbour < 1


def test_a_model_that_overflows_in_half_precision_is_caught() -> None:
    report = check(changed(lambda features: features * 1e6), Digits(), 4)
    assert report.largest_value > 65504
    found = by_way(report)["stored as float16"]
    assert found.largest is None or not found.largest < 1


def test_features_that_never_change_are_counted() -> None:
    def deaden(features: torch.Tensor) -> torch.Tensor:
        return torch.cat([features[:, :-7], torch.full_like(features[:, -7:], 0.5)], dim=1)

    assert check(random("test_convnext"), Digits(), 6).dead == 0
    assert check(changed(deaden, "test_convnext"), Digits(), 6).dead == 7


def spoil(features: torch.Tensor) -> torch.Tensor:
    """Two of the images give a feature that is not finite, by what they show and not where they lie."""
    marks = features.double().sum(1)
    bad = torch.zeros(len(features), dtype=torch.bool)
    for value, mark in zip((float("nan"), float("inf")), SPOILED, strict=True):
        hit = (marks - mark).abs() < 1e-2
        bad |= hit
        features = torch.where(hit[:, None] & (torch.arange(features.shape[1]) == 3), value, features)
    return features


SPOILED: list[float] = []


@pytest.fixture
def spoiled() -> Iterator[Backbone]:
    backbone = random()
    sums = backbone(pixels(backbone, 6))[FEATURE].double().sum(1).tolist()
    assert min(abs(one - other) for one in sums[:2] for other in sums[2:]) > 0.05
    SPOILED[:] = sums[:2]
    backbone.model = Changed(backbone.model, spoil)
    yield backbone
    SPOILED.clear()


def test_images_without_finite_features_are_counted_and_left_out(spoiled: Backbone) -> None:
    report = check(spoiled, Few(6), 6)
    assert (report.images, report.not_finite) == (6, 2)
    assert report.dead < report.width
    for number in (report.smallest_norm, report.largest_norm, report.largest_value, report.alike):
        assert number == number
        assert abs(number) < float("inf")


def test_images_without_finite_features_do_not_hide_the_others(spoiled: Backbone) -> None:
    report = check(spoiled, Few(6), 6)
    found = by_way(report)
    assert found["a second time"].largest == 0
    assert found["one image at a time"].largest is not None
    assert found["one image at a time"].largest < 1e-4
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_model_without_any_finite_feature_is_an_error() -> None:
    with pytest.raises(ModelError) as error:
        check(changed(lambda features: features * float("nan")), Digits(), 4)
    says(error, "test_resnet", "NaN", 4)


def test_what_cannot_be_run_says_why() -> None:
    found = by_way(check(random("test_vit"), Digits(), 3))
    folded = found["BatchNorm folded"]
    assert folded == Difference("BatchNorm folded", largest=None, reason=folded.reason)
    assert folded.reason

    def fail(features: torch.Tensor) -> torch.Tensor:
        if features.dtype == torch.float64:
            raise NotImplementedError("no float64 here\nand a long story")
        return features

    found = by_way(check(changed(fail), Digits(), 3))
    assert found["float64"] == Difference("float64", largest=None, reason="no float64 here")
    assert found["channels first"].reason == ""
    only_first = random("test_vit")
    only_first.memory_format = torch.contiguous_format  # as of a model with convolutions over three axes
    assert "the plain run is channels first" in by_way(check(only_first, Digits(), 3))["channels first"].reason


# Images


def test_images_are_taken_evenly_over_the_listing() -> None:
    source = Few(101)
    assert check(random(), source, 5).images == 5
    entries = source.list()
    assert source.asked == [entries[i] for i in (0, 25, 50, 75, 100)]


def test_all_images_where_there_are_fewer() -> None:
    source = Few(3)
    assert check(random(), source, 32).images == 3
    assert source.asked == source.list()


@pytest.mark.parametrize("images", [1, 0, -3])
def test_one_image_leaves_nothing_to_compare(images: int) -> None:
    with pytest.raises(ModelError) as error:
        check(random(), Digits(), images)
    says(error, images)


def test_a_source_of_one_image() -> None:
    with pytest.raises(DataError) as error:
        check(random(), Few(1), 2)
    says(error, "few")


def test_an_image_that_is_none() -> None:
    with pytest.raises(DataError) as error:
        check(random(), Few(4, b"nothing"), 2)
    says(error, Few(1).list()[0].id, "format")
