"""BatchNorm folded into convolutions: fewer modules, the same features; where that cannot be, nothing is touched."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.folding import fold_batch_norms
from nctransfer.backbones.request import BackboneRequest
from tiny import near, pixels, random


def trained(model: Any) -> Any:
    """BatchNorms whose statistics and parameters are those of no beginner."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, low, high in (("running_mean", -0.3, 0.3), ("running_var", 0.5, 2.0), ("bias", -0.3, 0.3)):
                getattr(module, name).data.uniform_(low, high, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def norms(model: Any) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def tensors(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


# Backbones


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ("test_resnet", 15),
        ("test_efficientnet", 13),
        ("test_byobnet", 14),
        ("resnet18", 20),
        ("mobilenetv1_100", 27),
        ("mobilenetv3_small_050", 34),
        ("resnetv2_50", 32),  # of which the first of each block, before its convolution, stays
    ],
)
def test_features_of_folded_backbones_are_the_same(model: str, least: int) -> None:
    backbone = random(model, img_size=64)
    trained(backbone.model)
    images = pixels(backbone, 3)
    before, plain = norms(backbone.model), backbone(images)[FEATURE]
    assert float(plain.std()) > 0
    folded = backbone.fold()
    assert folded >= least
    assert norms(backbone.model) == before - folded
    assert near(backbone(images)[FEATURE], plain) < 1e-4
    assert backbone.fold() == 0


def test_features_of_the_bundled_weights_are_the_same() -> None:
    backbone = load(BackboneRequest(img_size=128))
    images = pixels(backbone, 4)
    plain, key = backbone(images)[FEATURE], backbone.key
    assert backbone.fold() == 49
    assert norms(backbone.model) == 0
    found = backbone(images)[FEATURE]
    assert near(found, plain) < 1e-4
    assert float((found - plain).norm(dim=1).max() / plain.norm(dim=1).min()) < 1e-4
    assert backbone.key == key
    assert backbone.head(1280) is not None


@pytest.mark.parametrize("model", ["test_vit", "test_convnext"])
def test_backbones_without_batchnorm_stay(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = random(model)
    before = tensors(backbone.model)
    monkeypatch.setattr(Backbone, "_run", lambda *_: pytest.fail("the model was run"))
    assert backbone.fold() == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())


def test_layers_are_looked_at_too() -> None:
    """Folding that changed a layer but not the last would be no folding."""
    plain, backbone = (random("test_resnet", layers="all") for _ in range(2))
    for each in (plain, backbone):
        trained(each.model)
    images = pixels(plain, 2)
    assert backbone.fold() == 15
    wanted, found = plain(images), backbone(images)
    assert all(near(found[column], wanted[column]) < 1e-4 for column in wanted)


def test_padding_of_the_input_is_not_forgotten() -> None:
    """``Conv2dSame`` is another class of convolution."""
    backbone: Backbone = random("mobilenetv1_100", img_size=64, model_kwargs={"pad_type": "same"})
    trained(backbone.model)
    images = pixels(backbone, 2)
    plain = backbone(images)[FEATURE]
    assert backbone.fold() == 27
    assert near(backbone(images)[FEATURE], plain) < 1e-4


# Small modules


class Block(nn.Module):
    """A convolution, a BatchNorm, and how they are joined."""

    def __init__(self, join: Callable[[Any, torch.Tensor], torch.Tensor], bias: bool = True) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1, bias=bias), nn.Conv2d(3, 3, 1)
        self.norm, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.join = join

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.join(self, images)


def block(join: Callable[[Any, torch.Tensor], torch.Tensor], **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return trained(Block(join, **options))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def fold(model: Any, images: torch.Tensor) -> int:
    with torch.inference_mode():
        return fold_batch_norms(model, lambda: model(images))


@pytest.mark.parametrize(
    ("join", "folded"),
    [
        (lambda m, x: m.norm(m.conv(x)), 1),
        (lambda m, x: F.relu(m.norm(m.conv(x))), 1),
        (lambda m, x: m.second(m.other(F.relu(m.norm(m.conv(x))))), 2),
        (lambda m, x: m.norm(m.conv(x)) + x, 1),
        (lambda m, x: m.norm(m.conv(m.second(x))), 1),  # the second is fed by no convolution
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_pairs_are_folded(
    join: Callable[[Any, torch.Tensor], torch.Tensor], folded: int, bias: bool, images: torch.Tensor
) -> None:
    model = block(join, bias=bias)
    with torch.inference_mode():
        plain = model(images)
        assert fold(model, images) == folded
        assert near(model(images), plain) < 1e-5
    assert norms(model) == 2 - folded
    assert isinstance(model.norm, nn.Identity)


@pytest.mark.parametrize(
    "join",
    [
        lambda m, x: m.norm(m.conv(x)) + m.conv(x),  # the convolution runs twice
        lambda m, x: m.norm(m.conv(m.norm(m.conv(x)))),  # both do
        lambda m, x: m.norm(m.conv(x)) * m.norm(m.other(x)),  # the BatchNorm runs twice
        lambda m, x: m.norm(x),  # no convolution
        lambda m, x: m.norm(F.relu(m.conv(x))),  # nor straight from one
        lambda m, x: m.norm(F.relu_(m.conv(x))),  # which no id of a tensor tells
        lambda m, x: (lambda y: m.norm(y) + y)(m.conv(x)),  # its output is used elsewhere too
        lambda m, x: (lambda y: m.norm(y) + m.second(y))(m.conv(x)),  # by another BatchNorm
        lambda m, x: (lambda y: m.norm(y) + y.mean())(m.conv(x)),
        lambda m, x: m.norm(m.conv(x)) * m.conv.weight.sum(),  # its weights are
    ],
)
def test_what_cannot_be_folded_is_left_as_it_was(
    join: Callable[[Any, torch.Tensor], torch.Tensor], images: torch.Tensor
) -> None:
    model = block(join)
    before, modules = tensors(model), dict(model.named_modules())
    parameters = dict(model.named_parameters())
    with torch.inference_mode():
        plain = model(images)
        assert fold(model, images) == 0
        assert torch.equal(model(images), plain)
    assert dict(model.named_modules()) == modules
    assert all(parameters[name] is parameter for name, parameter in model.named_parameters())
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_batchnorm_of_the_batch_is_none_to_fold(images: torch.Tensor) -> None:
    """Without running statistics it depends on the other images."""
    model = block(lambda m, x: m.norm(m.conv(x)))
    model.norm = nn.BatchNorm2d(3, track_running_stats=False).eval()
    assert fold(model, images) == 0
    assert isinstance(model.norm, nn.BatchNorm2d)


def test_an_activation_that_a_batchnorm_carries_stays(images: torch.Tensor) -> None:
    from timm.layers import BatchNormAct2d

    model = block(lambda m, x: m.norm(m.conv(x)))
    model.norm = BatchNormAct2d(3, act_layer=nn.SiLU)
    trained(model)
    with torch.inference_mode():
        plain = model(images)
        assert fold(model, images) == 1
        assert near(model(images), plain) < 1e-5
    assert isinstance(model.norm, nn.SiLU)


def test_a_convolution_that_changes_its_weights_as_it_runs_is_none_to_fold(images: torch.Tensor) -> None:
    from timm.layers import StdConv2d

    model = block(lambda m, x: m.norm(m.conv(x)))
    model.conv = StdConv2d(3, 3, 3)
    assert fold(model, images) == 0
    assert isinstance(model.norm, nn.BatchNorm2d)


def test_features_that_are_not_finite_fold_nothing(images: torch.Tensor) -> None:
    model = block(lambda m, x: m.norm(m.conv(x)) / 0)
    before = tensors(model)
    assert fold(model, images) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_run_that_fails_leaves_no_hook(images: torch.Tensor) -> None:
    model = block(lambda m, x: m.norm(m.conv(x)))
    calls = 0

    def run() -> torch.Tensor:
        nonlocal calls
        calls += 1
        found: torch.Tensor = model(images)
        if calls == 1:
            raise RuntimeError("out of memory")
        return found

    with torch.inference_mode(), pytest.raises(RuntimeError, match="out of memory"):
        fold_batch_norms(model, run)
    assert not any(module._forward_hooks for module in model.modules())
    assert norms(model) == 2


def test_a_copy_is_not_folded_with_it(images: torch.Tensor) -> None:
    model = block(lambda m, x: m.norm(m.conv(x)))
    other = copy.deepcopy(model)
    assert fold(model, images) == 1
    assert norms(other) == 2
    with torch.inference_mode():
        assert near(model(images), other(images)) < 1e-5
