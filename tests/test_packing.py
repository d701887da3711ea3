"""Packed linear layers: the same features and the same weights; where that cannot be, nothing is touched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import nctransfer as nct
from nctransfer.backbones import packed_linear, packing
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.packed_linear import PackedLinear, can_pack, pack, unpack
from nctransfer.backbones.packing import pack_linear_layers
from nctransfer.backbones.tensor_digests import tensor_digest
from tiny import near, pixels, random

pytestmark = pytest.mark.skipif(not can_pack(), reason="this PyTorch has no packed linear layers")


def packed(model: Any) -> int:
    return sum(isinstance(module, PackedLinear) for module in model.modules())


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice does not depend on the speed of this machine, nor on the size of a model."""
    monkeypatch.setattr(packing, "SMALLEST", 0)
    monkeypatch.setattr(packing, "_fastest", lambda *_: [1.0, 1.0])


# Backbones


SMALL = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]}


@pytest.mark.parametrize(
    ("model", "options", "count"),
    [
        ("test_vit", {}, 24),
        ("test_vit2", {"layers": "all"}, 32),
        ("test_vit3", {}, 41),  # four in each of nine blocks, five in its attention pooling
        ("test_convnext", {}, 18),
        ("test_mambaout", {}, 13),
        ("swin_tiny_patch4_window7_224", {"img_size": 56, "model_kwargs": SMALL}, 23),
        # In a block of the next, one layer is not called: the block reads its weights.
        ("beit_base_patch16_224", {"img_size": 64, "model_kwargs": {"depth": 2, "embed_dim": 96, "num_heads": 3}}, 6),
    ],
)
@pytest.mark.usefixtures("always")
def test_features_of_packed_backbones_are_the_same(model: str, options: dict[str, Any], count: int) -> None:
    backbone = random(model, **options)
    images = pixels(backbone, 2)
    plain, key, state = backbone(images), backbone.key, backbone.model.state_dict()
    assert float(plain[FEATURE].std()) > 0
    assert backbone.pack() == packed(backbone.model) == count
    assert backbone.key == key
    found = backbone(images)
    assert all(near(found[column], plain[column]) < 1e-5 for column in plain)
    assert list(backbone.model.state_dict()) == list(state)
    assert tensor_digest(backbone.model.state_dict()) == tensor_digest(state) == key.weights
    assert backbone.pack() == 0
    assert packed(backbone.model) == count


@pytest.mark.usefixtures("always")
def test_variants_of_packed_backbones_are_plain() -> None:
    plain, backbone = random("test_vit"), random("test_vit")
    images, head = pixels(plain, 2), backbone.head(64)
    assert backbone.pack() == 24
    same, exact = backbone.variant(), backbone.variant(torch.float64)
    assert packed(same.model) == packed(exact.model) == 0
    assert packed(backbone.model) == 24
    assert torch.equal(same(images)[FEATURE], plain(images)[FEATURE])
    assert torch.equal(exact(images)[FEATURE], plain.variant(torch.float64)(images)[FEATURE])
    assert head is not None
    assert backbone.head(64) is head


@pytest.mark.parametrize(("model", "options"), [("test_vit", {"dtype": "bfloat16"}), ("test_resnet", {})])
@pytest.mark.usefixtures("always")
def test_other_backbones_stay(model: str, options: dict[str, Any]) -> None:
    """Other dtypes have other kernels; and of a convolutional network, only the classifier is a linear layer."""
    backbone = random(model, **options)
    assert backbone.pack() == packed(backbone.model) == 0


@pytest.mark.usefixtures("always")
def test_an_extraction_packs(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    run = Backbone.__call__

    def noted(backbone: Backbone, images: torch.Tensor) -> dict[str, torch.Tensor]:
        counts.append(packed(backbone.model))
        return run(backbone, images)

    monkeypatch.setattr(Backbone, "__call__", noted)
    nct.extract("test_vit", pets, random_init=True, device="cpu")
    assert counts == [24]


# The layer


@pytest.fixture(params=[True, False], ids=["bias", "no bias"])
def layer(request: pytest.FixtureRequest) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(37, 53, bias=request.param).requires_grad_(False)


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.randn(2, 5, 3, 37, generator=torch.Generator().manual_seed(1))


def test_a_packed_layer_gives_the_same_outputs(layer: nn.Linear, inputs: torch.Tensor) -> None:
    plain = copy.deepcopy(layer)
    pack(layer, 30)
    assert type(layer) is PackedLinear
    for each in (inputs, inputs[0, 0], inputs[0, 0, 0], inputs[:0], inputs.transpose(0, 2), inputs[:, ::2]):
        found, wanted = layer(each), plain(each)
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_packed_layer_has_its_weights(layer: nn.Linear) -> None:
    plain = copy.deepcopy(layer)
    pack(layer, 30)
    assert "weight" not in layer._parameters  # they are held once
    assert torch.equal(layer.weight, plain.weight)
    found, wanted = layer.state_dict(), plain.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert layer.extra_repr() == plain.extra_repr()


def test_a_packed_layer_becomes_plain_again(layer: nn.Linear, inputs: torch.Tensor) -> None:
    plain = copy.deepcopy(layer)
    ways: list[Callable[[nn.Linear], Any]] = [copy.deepcopy, lambda one: one.to(torch.float32), lambda one: unpack(one)]
    for way in ways:
        pack(layer, 30)
        again = way(layer) or layer
        assert type(again) is nn.Linear
        assert list(again._parameters) == ["weight", "bias"]
        assert torch.equal(again(inputs), plain(inputs))
        if isinstance(layer, PackedLinear):
            unpack(layer)
        assert torch.equal(layer(inputs), plain(inputs))


def test_a_packed_layer_takes_other_dtypes_as_a_plain_one_does(layer: nn.Linear, inputs: torch.Tensor) -> None:
    plain = copy.deepcopy(layer)
    pack(layer, 30)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(inputs), plain(inputs))
    with pytest.raises(RuntimeError, match="dtype"):
        layer(inputs.double())
    assert type(layer.double()) is nn.Linear
    assert torch.equal(layer(inputs.double()), plain.double()(inputs.double()))


# Small modules


class Two(nn.Module):
    """Two linear layers, and how they are joined."""

    def __init__(self, join: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 16), nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.join = join

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.join(self, inputs)


def two(join: Callable[[Any, torch.Tensor], torch.Tensor]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Two(join).eval().requires_grad_(False)


def both(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model.two(F.relu(model.one(inputs)))
    return found


ROWS = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("join", "names"),
    [
        (both, {"one", "two"}),
        (lambda m, x: m.one(m.one(x)), {"one"}),
        (lambda m, x: m.one(x) + F.linear(x, m.one.weight, m.two.bias), {"one"}),  # its weights are read too
        (lambda m, x: m.one(F.linear(x, m.two.weight)), {"one"}),
        (lambda m, x: m.one(m.attention(x, x, x)[0]), {"one"}),
        (lambda m, x: F.linear(x, m.one.weight), set()),
    ],
)
@pytest.mark.usefixtures("always")
def test_layers_that_are_called_are_packed(join: Callable[[Any, torch.Tensor], torch.Tensor], names: set[str]) -> None:
    model = two(join)
    plain = model(ROWS)
    assert pack_linear_layers(model, lambda: model(ROWS)) == len(names)
    assert {name for name, module in model.named_modules() if isinstance(module, PackedLinear)} == names
    assert near(model(ROWS), plain) < 1e-5
    assert not any(module._forward_pre_hooks for module in model.modules())


class Doubled(nn.Linear):
    """Another forward."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
        return 2 * super().forward(input)


@pytest.mark.usefixtures("always")
def test_other_kinds_of_linear_layers_stay() -> None:
    model = two(both)
    model.one = Doubled(16, 16)
    model.two = nn.utils.parametrizations.weight_norm(model.two)
    model.get_classifier = lambda: model.attention.out_proj
    plain = model(ROWS)
    assert pack_linear_layers(model, lambda: model(ROWS)) == 0
    assert torch.equal(model(ROWS), plain)


@pytest.mark.usefixtures("always")
def test_layers_in_other_dtypes_stay() -> None:
    model = two(both).double()
    assert pack_linear_layers(model, lambda: model(ROWS.double())) == 0


def unchanged(model: Any, before: dict[str, nn.Module], plain: torch.Tensor) -> None:
    assert dict(model.named_modules()) == before
    assert packed(model) == 0
    assert torch.equal(model(ROWS), plain)
    assert not any(module._forward_pre_hooks for module in model.modules())


def fail(*_: Any) -> torch.Tensor:
    raise RuntimeError("could not create a primitive descriptor")


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("run_packed", lambda inputs, weight, bias: 1.001 * F.linear(inputs, weight.to_dense(), bias)),
        ("run_packed", lambda inputs, weight, bias: F.linear(inputs, weight.to_dense(), bias) / 0),
        ("run_packed", fail),
        ("packed_weight", fail),
        ("packed_weight", lambda weight, rows: (weight + 1).to_mkldnn()),
        ("can_pack", lambda: False),
    ],
)
@pytest.mark.usefixtures("always")
def test_operators_that_are_absent_fail_or_differ_change_nothing(
    name: str, replacement: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = two(both)
    plain, before = model(ROWS), dict(model.named_modules())
    monkeypatch.setattr(packed_linear, name, replacement)
    assert pack_linear_layers(model, lambda: model(ROWS)) == 0
    unchanged(model, before, plain)


def test_the_operators_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_pack()
    with monkeypatch.context() as without:
        without.setattr(torch.ops, "mkldnn", object())
        assert not can_pack()
    with monkeypatch.context() as without:
        without.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not can_pack()
    assert can_pack()


@pytest.mark.parametrize(("plain", "fast", "count"), [(1.0, 0.5, 2), (1.0, 1.05, 2), (1.0, 1.2, 0)])
def test_what_is_clearly_slower_stays(plain: float, fast: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference within the noise of timing changes nothing, so that the choice is the same in every run."""
    monkeypatch.setattr(packing, "SMALLEST", 0)
    monkeypatch.setattr(packing, "_fastest", lambda *_: [plain, fast])
    model = two(both)
    assert pack_linear_layers(model, lambda: model(ROWS)) == packed(model) == count


def test_small_layers_are_not_even_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_fastest", lambda *_: pytest.fail("timed"))
    model = two(both)
    assert pack_linear_layers(model, lambda: model(ROWS)) == 0


def test_the_shape_with_the_most_work_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def timed(plain: Callable[[], torch.Tensor], fast: Callable[[], torch.Tensor]) -> list[float]:
        assert near(fast(), plain()) < 1e-5
        shapes.append(tuple(plain().shape))
        return [1.0, 0.5]

    monkeypatch.setattr(packing, "_fastest", timed)
    monkeypatch.setattr(packing, "SMALLEST", 0)
    monkeypatch.setattr(packing, "OPERATIONS", 2 * 160 * 1000)
    wide, model = nn.Linear(16, 10), nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10))
    rows = torch.randn(3000, 16)
    assert pack_linear_layers(nn.ModuleList([wide, model]), lambda: model(rows) + wide(rows)) == 3
    assert shapes == [(1000, 10)]  # two layers of this shape together have more work than the third


def test_timing_takes_the_shortest_of_each() -> None:
    calls = []
    found = packing._fastest(lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * (packing.REPEATS + 1)
    assert all(0 <= seconds < 1 for seconds in found)


def test_an_error_of_the_model_is_not_hidden() -> None:
    model = two(fail)
    with pytest.raises(RuntimeError, match="primitive"):
        pack_linear_layers(model, lambda: model(ROWS))
    assert not any(module._forward_pre_hooks for module in model.modules())
