"""Geometric complexity against exact Jacobians and finite differences; its unit, its errors, and the command."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nctransfer as nct
from messages import says
from nctransfer.backbones.backbone import Backbone, features_of_values
from nctransfer.backbones.chosen_images import chosen_pixels
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.geometric_complexity import Estimate, coarse_energy, geometric_complexity
from nctransfer.errors import DataError, ModelError, SettingError
from nctransfer.report.complexity_sheets import complexity_sheet
from nctransfer.sources.digits import Digits
from nctransfer.sources.selection import Selection
from terminal import VIT, data_of, done, refusal
from tiny import near, pixels
from tiny import random as random_backbone

SIZE = 8
Features = Callable[[torch.Tensor], torch.Tensor]


class Stub(nn.Module):
    """A model whose feature is any function of the normalised images."""

    def __init__(self, function: Features) -> None:
        super().__init__()
        self.function = function

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        return self.function(features)


def backbone_of(function: Features, size: int = SIZE, **settings: Any) -> Backbone:
    """A backbone for small images with this function, and means and deviations of its own."""
    settings = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.5), **settings}
    backbone = random_backbone("test_resnet", img_size=size, **settings)
    backbone.model = Stub(function)
    return backbone


def smooth(seed: int = 0, size: int = SIZE, width: int = 5) -> Features:
    """A small network without kinks."""
    generator = torch.Generator().manual_seed(seed)
    first = 0.2 * torch.randn(3 * size * size, 7, generator=generator)
    second = torch.randn(7, width, generator=generator)
    return lambda images: torch.tanh(images.flatten(1) @ first.to(images)) @ second.to(images)


def jacobians(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """By torch.func, of each image for itself, ``(n, d, N)``."""
    return torch.stack(
        [
            torch.func.jacrev(lambda one: features_of_values(backbone, one[None])[0])(image / 255).flatten(1).detach()
            for image in images
        ]
    )


def used_pixels(backbone: Backbone, images: int, seed: int = 0) -> torch.Tensor:
    return chosen_pixels(backbone, Digits(), images, seed=seed)


# The path through which gradients flow


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_features_are_those_that_the_backbone_gives(model: str) -> None:
    backbone = random_backbone(model, mean=(0.3, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    images = pixels(backbone, 4)
    with_gradients = features_of_values(backbone, (images / 255).requires_grad_())
    assert with_gradients.requires_grad
    assert near(with_gradients.detach(), backbone(images)[FEATURE]) < 1e-5
    fast = random_backbone(model, mean=(0.3, 0.5, 0.6), std=(0.2, 0.3, 0.4), dtype="bfloat16", layers="all")
    assert torch.equal(features_of_values(fast, images / 255), with_gradients.detach())  # float32, and no layers


def test_features_are_those_that_are_stored() -> None:
    stored = nct.extract("test_resnet", "digits", random_init=True, img_size=32, max_per_class=2, device="cpu")
    backbone = random_backbone("test_resnet", img_size=32)
    chosen = chosen_pixels(backbone, Digits(), 100, Selection(max_per_class=2))
    found = features_of_values(backbone, chosen / 255)
    expected = dict(zip(stored.ids, stored.features, strict=True))
    assert len(found) == len(expected) == 20
    apart = torch.cdist(found, stored.features).amin(dim=1) / found.norm(dim=1)
    assert float(apart.max()) < 1e-5


# The estimate


def test_many_probes_give_the_exact_jacobian() -> None:
    backbone = backbone_of(smooth())
    found = geometric_complexity(backbone, Digits(), 3, probes=100, target=0, seed=3)
    exact = jacobians(backbone, used_pixels(backbone, 3, seed=3)).double()
    squares = exact.square().sum(dim=(1, 2))
    assert abs(found.jacobian.value - float(squares.mean())) < 4 * found.jacobian.probe_error
    assert found.jacobian.probe_error < 0.15 * found.jacobian.value
    assert found.complexity.value == pytest.approx(found.jacobian.value * 3 * SIZE * SIZE)
    assert (found.images, found.size, found.width, found.probes) == (3, (SIZE, SIZE), 5, 100)


def test_a_single_feature_needs_no_average_over_probes() -> None:
    backbone = backbone_of(smooth(width=1))
    found = geometric_complexity(backbone, Digits(), 5, probes=3, target=0)
    exact = jacobians(backbone, used_pixels(backbone, 5)).double().square().sum(dim=(1, 2))
    assert found.jacobian.value == pytest.approx(float(exact.mean()), rel=1e-5)
    assert found.jacobian.probe_error == pytest.approx(0, abs=1e-5 * found.jacobian.value)
    assert found.jacobian.error == pytest.approx(float(exact.std() / math.sqrt(5)), rel=1e-4)


def test_the_jacobian_is_that_of_finite_differences() -> None:
    backbone = backbone_of(smooth())
    image = used_pixels(backbone, 2)[:1] / 255
    (exact,) = jacobians(backbone, image * 255).double()
    step, changes = 1e-2, []
    for place in range(0, image.numel(), 7):
        moved = [image.contiguous().clone() for _ in range(2)]
        for one, sign in zip(moved, (1, -1), strict=True):
            one.view(-1)[place] += sign * step
        up, down = (features_of_values(backbone, one)[0].double() for one in moved)
        changes.append((up - down) / (2 * step))
    np.testing.assert_allclose(torch.stack(changes, dim=1), exact[:, ::7], atol=2e-3 * float(exact.abs().max()))


def test_the_variance_over_probes_is_that_of_hutchinson() -> None:
    backbone = backbone_of(smooth())
    probes = 1500
    found = geometric_complexity(backbone, Digits(), 2, probes=probes, target=0)
    outer = [one @ one.T for one in jacobians(backbone, used_pixels(backbone, 2)).double()]
    variances = [2 * float(one.square().sum() - one.diagonal().square().sum()) for one in outer]
    expected = math.sqrt(sum(variances) / probes) / 2
    assert found.jacobian.probe_error == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_errors_over_many_draws() -> None:
    backbone = backbone_of(smooth())
    draws = [geometric_complexity(backbone, Digits(), 12, probes=2, target=0, seed=seed) for seed in range(150)]
    values = np.array([one.jacobian.value for one in draws])
    claimed = math.sqrt(np.mean([one.jacobian.error**2 for one in draws]))
    assert values.std(ddof=1) == pytest.approx(claimed, rel=0.2)
    truth = geometric_complexity(backbone, Digits(), 300, probes=20, target=0, seed=999)
    held = [low <= truth.complexity.value <= high for low, high in (one.interval for one in draws)]
    assert 0.88 <= np.mean(held) <= 1


def test_the_parts_of_the_error_add_up() -> None:
    one = Estimate(10.0, error=5.0, probe_error=3.0)
    assert one.image_error == 4
    assert one.times(2).to_dict() == {"value": 20, "error": 10, "image_error": 8, "probe_error": 6}
    assert Estimate(1.0, error=1.0, probe_error=2.0).image_error == 0
    assert Estimate(1.0, error=1.0, probe_error=None).image_error is None


# The unit


@pytest.mark.parametrize("times", [2, 3])
def test_a_backbone_that_averages_blocks_first_is_as_complex(times: int) -> None:
    small, large = backbone_of(smooth()), backbone_of(lambda images: inner(F.avg_pool2d(images, times)), times * SIZE)
    inner = smooth()
    images = used_pixels(small, 4)
    enlarged = images.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
    of_small, of_large = jacobians(small, images).double(), jacobians(large, enlarged).double()
    squares = of_small.square().sum(dim=(1, 2))
    np.testing.assert_allclose(of_large.square().sum(dim=(1, 2)) * times**2, squares, rtol=1e-4)
    coarse = coarse_energy(of_large.unflatten(2, (3, times * SIZE, times * SIZE)).flatten(0, 1), SIZE)
    np.testing.assert_allclose(coarse.unflatten(0, (4, -1)).sum(dim=1), squares * 3 * SIZE**2, rtol=1e-4)


def test_the_unit_is_that_of_pixels_before_they_are_normalised() -> None:
    function = smooth()
    plain = backbone_of(function, mean=(0.0,) * 3, std=(1.0,) * 3)
    scaled = backbone_of(lambda images: function(images * 0.25), mean=(0.0,) * 3, std=(0.25,) * 3)
    first, second = (geometric_complexity(one, Digits(), 4, target=0).jacobian.value for one in (plain, scaled))
    assert first == pytest.approx(second, rel=1e-4)


def test_relative_complexity_does_not_depend_on_the_scale_of_features() -> None:
    function = smooth()
    first, second = (
        geometric_complexity(backbone_of(lambda x, by=by: by * function(x)), Digits(), 8, target=0) for by in (1, 30)
    )
    assert second.complexity.value == pytest.approx(900 * first.complexity.value, rel=1e-4)
    assert second.relative.value == pytest.approx(first.relative.value, rel=1e-4)
    assert second.relative.error == pytest.approx(first.relative.error, rel=1e-3)
    features = features_of_values(backbone_of(function), used_pixels(backbone_of(function), 8) / 255).double()
    assert first.variance == pytest.approx(float(features.var(dim=0).sum()), rel=1e-5)
    assert first.relative.value == pytest.approx(first.complexity.value / first.variance)


def test_the_error_of_the_ratio_is_that_of_leaving_out_each_image() -> None:
    backbone = backbone_of(smooth(width=1))  # one feature, so that probes do not matter
    found = geometric_complexity(backbone, Digits(), 7, probes=1, target=0)
    images = used_pixels(backbone, 7)
    energies = jacobians(backbone, images).double().square().sum(dim=(1, 2)) * 3 * SIZE**2
    features = features_of_values(backbone, images / 255).double()
    kept = [torch.arange(7) != left for left in range(7)]
    without = np.array([float(energies[one].mean() / features[one].var(dim=0).sum()) for one in kept])
    assert found.relative.error == pytest.approx(math.sqrt(6 / 7 * ((without - without.mean()) ** 2).sum()), rel=1e-4)
    assert found.relative.probe_error is None


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 4), (10, 7, 4), (5, 5, 8), (6, 6, 6)])
def test_coarse_energy_is_that_of_the_means_over_cells(height: int, width: int, side: int) -> None:
    gradients = torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fine = gradients.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)  # no cell cuts these pixels
    cells = F.avg_pool2d(fine, (height, width)) * height * width  # densities: a gradient over the area of its pixel
    expected = 3 * cells.square().sum(dim=(1, 2, 3)) / side**2
    found = coarse_energy(gradients, side)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert bool((found <= 3 * height * width * gradients.square().sum(dim=(1, 2, 3)) * (1 + 1e-12)).all())


def test_the_pixels_themselves_are_as_complex_as_their_number() -> None:
    found = nct.complexity("pixels", images=4, probes=2, target=0)  # f = (x − 0.5)/0.5, so that J is twice the identity
    assert found.jacobian.value == pytest.approx(4 * 768)
    assert found.jacobian.error == pytest.approx(0, abs=1e-6)
    assert found.complexity.value == pytest.approx(4 * 768**2)


# Images


def test_images_are_drawn_once_and_by_the_seed() -> None:
    backbone = backbone_of(smooth())
    first, again, other = (used_pixels(backbone, 40, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    few = [chosen_pixels(backbone, Digits(), 500, Selection(max_per_class=3), seed) for seed in (1, None)]
    assert [len(one) for one in few] == [30, 30]
    sums = [one.double().sum(dim=(1, 2, 3)) for one in few]
    assert not torch.equal(*sums)
    assert torch.equal(*(one.sort().values for one in sums))


def test_enough_images_are_enough() -> None:
    calls = []
    found = geometric_complexity(
        backbone_of(smooth()), Digits(), 400, target=0.2, progress=lambda *given: calls.append(given)
    )
    assert 16 <= found.images < 400
    assert found.images % 8 == 0
    assert found.complexity.error <= 0.2 * found.complexity.value
    assert calls[-1] == ("measuring complexity", found.images, 400)
    assert len(calls) == found.images // 8
    all_of_them = geometric_complexity(backbone_of(smooth()), Digits(), 24, target=0)
    assert all_of_them.images == 24


def test_images_without_finite_features_are_left_out() -> None:
    function = smooth()

    def spoilt(images: torch.Tensor) -> torch.Tensor:
        bright = images.flatten(1).sum(dim=1, keepdim=True) > limit
        return torch.where(bright, torch.nan, function(images))

    limit = math.inf
    backbone = backbone_of(spoilt)
    sums = []
    backbone.model.function = lambda images: sums.append(images.flatten(1).sum(dim=1)) or function(images)
    features_of_values(backbone, used_pixels(backbone, 10) / 255)
    limit = float(sums[0].sort().values[6])
    backbone.model.function = spoilt
    found = geometric_complexity(backbone, Digits(), 10, target=0)
    assert (found.images, found.not_finite) == (7, 3)
    assert all(math.isfinite(one.value) and math.isfinite(one.error) for one in found.estimates.values())
    limit = -math.inf
    with pytest.raises(ModelError) as error:
        geometric_complexity(backbone, Digits(), 10)
    says(error, "finite", 0, 10)


def test_a_model_without_gradients() -> None:
    with pytest.raises(ModelError) as error:
        geometric_complexity(backbone_of(lambda images: images.detach().flatten(1)), Digits(), 4)
    says(error, "test_resnet", "gradients", hint="--complexity")


def test_a_batch_that_does_not_fit_the_memory_is_halved() -> None:
    function, sizes = smooth(width=1), []

    def greedy(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 3:
            raise RuntimeError("CUDA out of memory")
        return function(images)

    found = geometric_complexity(backbone_of(greedy), Digits(), 8, target=0)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    assert found.jacobian.value == pytest.approx(
        geometric_complexity(backbone_of(function), Digits(), 8, target=0).jacobian.value, rel=1e-5
    )


@pytest.mark.parametrize("given", [{"images": 1}, {"probes": 0}, {"target": -0.1}])
def test_too_small_numbers(given: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as error:
        geometric_complexity(backbone_of(smooth()), Digits(), **given)
    says(error, next(iter(given)), next(iter(given.values())))


def test_a_source_of_one_image() -> None:
    one = SimpleNamespace(list=lambda: Digits().list()[:1], name="one")
    with pytest.raises(DataError) as error:
        geometric_complexity(backbone_of(smooth()), one)  # type: ignore[arg-type]
    says(error, "one")


def test_a_feature_that_no_pixel_changes() -> None:
    found = geometric_complexity(backbone_of(lambda images: 0 * images.flatten(1)), Digits(), 20)
    assert (found.complexity.value, found.interval, found.relative) == (0, (0, 0), None)
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert complexity_sheet(found).rows


def test_a_packed_and_folded_backbone_has_the_same_complexity() -> None:
    plain, fast = (random_backbone("test_vit", img_size=160) for _ in range(2))
    fast.fold()
    fast.pack()
    one, other = (geometric_complexity(each, Digits(), 4, target=0).jacobian.value for each in (plain, fast))
    assert other == pytest.approx(one, rel=1e-4)


# The command


def test_check_measures_complexity_beside_the_numerics() -> None:
    command = ("check", "--model", "test_resnet", "--random-init", "--img-size", 32, "--max-per-class", 2)
    found = data_of(*command, "--images", 6, "--complexity", "--probes", 3, "--complexity-error", 0)
    assert len(found["differences"]) == 8
    complexity = found["complexity"]
    assert (complexity["images"], complexity["probes"], complexity["data"]) == (6, 3, "digits")
    low, high = complexity["interval"]
    assert 0 < low < complexity["complexity"]["value"] < high
    by_name = nct.complexity(
        "test_resnet", images=6, probes=3, target=0, max_per_class=2, random_init=True, img_size=32
    )
    assert json.loads(json.dumps(by_name.to_dict())) == complexity
    assert "complexity" not in data_of(*command, "--images", 2)


def test_flat_rows_hold_the_complexity_too() -> None:
    command = ("check", "--model", "test_resnet", "--random-init", "--img-size", 32, "--images", 4)
    command = (*command, "--complexity", "--probes", 2, "--complexity-error", 0)
    estimates = {name: one["value"] for name, one in data_of(*command)["complexity"].items() if isinstance(one, dict)}
    rows = list(csv.DictReader(io.StringIO(done(*command, "--format", "csv").stdout)))
    assert [row["way"] != "" for row in rows] == [True] * 8 + [False] * len(estimates)
    assert {row["quantity"]: float(row["value"]) for row in rows[8:]} == pytest.approx(estimates)


def test_the_sheet_says_what_the_errors_are_of() -> None:
    sheet = complexity_sheet(geometric_complexity(backbone_of(smooth()), Digits(), 6, target=0))
    assert [row[0] for row in sheet.rows] == ["jacobian", "complexity", "coarse", "relative", "relative_coarse"]
    assert all(row[3].endswith("%") for row in sheet.rows)
    one_probe = complexity_sheet(geometric_complexity(backbone_of(smooth()), Digits(), 6, probes=1, target=0))
    assert {row[3] for row in one_probe.rows} == {"–"}


@pytest.mark.parametrize("option", [("--probes", "2"), ("--complexity-error", "0.1")])
def test_options_of_the_complexity_alone(option: tuple[str, str]) -> None:
    refusal("check", *VIT, *option).expect("SettingError", option[0], hint="--complexity")
