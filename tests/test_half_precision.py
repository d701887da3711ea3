"""bfloat16 and float16: the weights too, features in float32, and a note on what changes."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import nctransfer as nct
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.feature_key import FEATURE, FORMAT, FORMAT_OF_HALVES
from nctransfer.backbones.half_precision import HalfModel, with_half_weights
from nctransfer.backbones.numerics import from_float32
from nctransfer.store import precision_note
from tiny import features, near, pixels, random

HALVES = ("bfloat16", "float16")


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("model", ["test_vit", "test_convnext"])
def test_features_are_those_of_a_model_in_that_dtype(model: str, dtype: str) -> None:
    backbone = random(model, dtype=dtype)
    found = features(backbone)
    mean, std = (torch.tensor(backbone.key.transform[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    images = ((pixels(backbone).float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    lower: Any = copy.deepcopy(backbone.model).to(getattr(torch, dtype))
    with torch.inference_mode():
        wanted = lower.forward_head(lower.forward_features(images.to(getattr(torch, dtype))), pre_logits=True)
    assert found.dtype == torch.float32
    assert near(found, wanted.float()) < 1e-2  # images that differ by a rounding of float32 may round to other halves
    assert 1e-5 < near(found, features(random(model))) < 0.05


def test_batch_norms_stay_in_float32() -> None:
    model = random("test_resnet").model
    lower = with_half_weights(model, torch.bfloat16)
    dtypes = {
        name: {tensor.dtype for tensor in module.state_dict().values() if tensor.is_floating_point()}
        for name, module in lower.named_modules()
        if not list(module.children()) and module.state_dict()
    }
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert norms
    assert {name for name, found in dtypes.items() if found == {torch.float32}} == norms
    assert {name for name, found in dtypes.items() if found == {torch.bfloat16}} == dtypes.keys() - norms
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}


def test_what_is_folded_is_folded_in_float32() -> None:
    backbone = random("test_resnet", dtype="bfloat16")
    before = features(backbone)
    assert backbone.fold() == random("test_resnet").fold() > 0
    assert {tensor.dtype for tensor in backbone.model.parameters()} == {torch.float32}
    after = features(backbone)
    assert not torch.equal(before, after)
    plain = features(random("test_resnet"))
    assert near(after, plain) < 0.02
    assert near(features(backbone.in_float32()), plain) < 1e-5


class Mixing(nn.Module):
    """A model that adds a table in float32, whatever its weights are, and multiplies the sum by a matrix."""

    def __init__(self, error: str = "") -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)
        self.error = error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.error:
            raise RuntimeError(self.error)
        output: torch.Tensor = self.linear(images + torch.arange(6.0))
        return output


def test_a_model_that_mixes_dtypes_is_run_by_autocast() -> None:
    model, half, images = Mixing(), HalfModel(torch.bfloat16), torch.randn(4, 6)
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="dtype"):
            with_half_weights(model, torch.bfloat16)(images.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            wanted = model(images)
        for _ in range(2):
            found = half.run(lambda images: half.of(model)(images), images)
            assert found.dtype == torch.bfloat16
            assert torch.equal(found, wanted)


@pytest.mark.parametrize(
    "error", [NotImplementedError('"lu_cpu" not implemented for BFloat16'), TypeError("ScalarType")]
)
def test_a_model_without_a_kernel_for_the_dtype_is_run_by_autocast(error: Exception) -> None:
    half, images = HalfModel(torch.bfloat16), torch.ones(2, 3)

    def forward(given: torch.Tensor) -> torch.Tensor:
        if given.dtype == torch.bfloat16:
            raise error
        return given + 1

    assert torch.equal(half.run(forward, images), images + 1)


def test_other_errors_are_not_retried() -> None:
    model, half = Mixing("out of memory"), HalfModel(torch.bfloat16)
    with pytest.raises(RuntimeError, match="out of memory"):
        half.run(lambda images: half.of(model)(images), torch.zeros(1, 6))
    assert half.of(model) is not model


@pytest.mark.parametrize("dtype", HALVES)
def test_keys(dtype: str) -> None:
    assert random(dtype=dtype).key.format == FORMAT_OF_HALVES != FORMAT == random().key.format


def test_the_difference_from_float32() -> None:
    backbone = random(dtype="bfloat16")
    images = pixels(backbone, 5)
    exact, rough = random()(images)[FEATURE], backbone(images)[FEATURE]
    found = from_float32(backbone, images, rough)
    relative = (rough - exact).norm(dim=1) / exact.norm(dim=1)
    assert found.largest == pytest.approx(float(relative.max()), rel=1e-3)
    assert found.median == pytest.approx(float(relative.median()), rel=1e-3)
    assert from_float32(backbone, images, exact).largest == 0
    assert from_float32(backbone, images, rough * float("inf")).largest is None


# What extraction says


def said(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if "float16" in record.getMessage()]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_note, "_is_fast", lambda _: True)


def test_a_processor_that_is_slow_at_it(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_note, "_is_fast", lambda _: False)
    backbone = random(dtype="float16")
    precision_note.note_precision(backbone, pixels(backbone, 3), features(backbone, 3))
    slow, changed = said(caplog)[0], said(caplog)[1:]
    assert slow.levelno == logging.WARNING
    assert "no fast float16" in slow.getMessage()
    assert all("no fast" not in record.getMessage() for record in changed)


@pytest.mark.parametrize(("much", "level"), [(0.0, logging.WARNING), (0.5, logging.INFO)])
def test_an_extraction_says_once_what_it_changes(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    much: float,
    level: int,
) -> None:
    caplog.set_level(logging.INFO, "nctransfer")
    monkeypatch.setattr(precision_note, "MUCH", much)
    given: dict[str, Any] = {"max_per_class": 1, "random_init": True, "cache_dir": tmp_path, "batch_size": 4}
    nct.extract("test_vit", "digits", dtype="bfloat16", **given)
    (record,) = said(caplog)
    assert record.levelno == level
    for part in ("bfloat16", "first 4 images", "%", "nearest neighbour", "nctransfer check"):
        assert part in record.getMessage()
    caplog.clear()
    nct.extract("test_vit", "digits", **given)
    nct.extract("test_vit", "digits", dtype="bfloat16", **given)  # it is in the cache
    assert said(caplog) == []


def test_features_that_are_not_finite_are_said_too(caplog: pytest.LogCaptureFixture) -> None:
    backbone: Backbone = random(dtype="float16")
    images = pixels(backbone, 3)
    precision_note.note_precision(backbone, images, torch.full((3, 64), float("nan")))
    (record,) = said(caplog)
    assert record.levelno == logging.WARNING
    assert "3 images" in record.getMessage()
