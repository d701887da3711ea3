"""Backbones: what is asked for is what is run, in ``eval()``, and pooled as the model pools."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from messages import logged, missing, says
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.request import BackboneRequest
from nctransfer.devices import pick_device
from nctransfer.errors import DeviceError, ModelError, SettingError
from tiny import features, in_hub, near, pixels, random, state_of

pytestmark = pytest.mark.usefixtures("hub_cache")

TINY = ("test_vit", "test_resnet", "test_efficientnet", "test_convnext")
SWIN = {"depths": [1, 1, 1, 1], "embed_dim": 16, "num_heads": [1, 2, 4, 8], "window_size": 2}


def normalised(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
    """What the model is given, from the transform as the key tells it."""
    mean, std = (torch.tensor(backbone.key.transform[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std


# Requests


def test_checkpoint_and_random_weights_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        BackboneRequest(checkpoint=tmp_path / "x.pth", random_init=True)
    says(error, "checkpoint", "random")


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float64"), ("dtype", "int8"), ("store_dtype", "bfloat16"), ("store_dtype", "")]
)
def test_unknown_dtypes_are_refused(field: str, value: str) -> None:
    with pytest.raises(SettingError) as error:
        BackboneRequest(**{field: value})
    says(error, f"'{value}'", hint="float32")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": ()},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, NAN, 0.5)},
        {"mean": (INF,)},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (-1.0,)},
        {"std": (NAN,)},
        {"std": (0.5,) * 4},
        {"crop_pct": 0.0},
        {"crop_pct": -0.5},
        {"crop_pct": 1.01},
        {"crop_pct": NAN},
        {"img_size": 0},
        {"img_size": -5},
        {"interpolation": "cubic"},
        {"interpolation": ""},
        {"layers": ""},
        {"layers": "last-0"},
        {"layers": "last"},
        {"layers": "-1"},
        {"layers": "1,"},
        {"layers": "1.5"},
        {"layers": "all,1"},
    ],
    ids=str,
)
def test_requests_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as caught:
        BackboneRequest(**wrong)
    (value,) = wrong.values()
    assert str(value) in caught.value.message


def test_wrong_choices_are_answered_by_those_there_are() -> None:
    with pytest.raises(SettingError) as error:
        BackboneRequest(interpolation="cubic")
    says(error, "cubic", hint="bicubic")
    with pytest.raises(SettingError) as error:
        BackboneRequest(layers="last")
    says(error, "last", hint="last-N")


def test_what_of_the_transform_is_asked_for() -> None:
    assert BackboneRequest().transform == {}
    assert BackboneRequest(mean=(0.5,), img_size=96).transform == {"mean": (0.5,), "img_size": 96}


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu", "cpu:1", "", "CPU", "cuda:x"])
def test_absent_devices_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError) as error:
        pick_device(name)
    says(error, f"'{name}'", hint="cpu")
    assert pick_device("auto").type == pick_device("cpu").type == "cpu"


@pytest.mark.parametrize(("name", "there"), [("cuda:1", True), ("cuda:2", False), ("cuda", True), ("cuda:-1", False)])
def test_accelerators_by_number(name: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto").type == "cuda"
    if there:
        assert str(pick_device(name)) == name
    else:
        with pytest.raises(DeviceError):
            pick_device(name)


# Features


@pytest.mark.parametrize(
    ("model", "dim"), [("test_vit", 64), ("test_resnet", 96), ("test_efficientnet", 256), ("test_convnext", 64)]
)
def test_features_are_pooled_and_before_the_classifier(model: str, dim: int) -> None:
    backbone = random(model)
    images = pixels(backbone)
    found = backbone(images)[FEATURE]
    assert backbone.columns == (FEATURE,)
    assert found.shape == (4, dim)
    assert (found.dtype, found.device.type) == (torch.float32, "cpu")
    head = backbone.head(dim)
    assert head is not None
    with torch.inference_mode():
        logits = backbone.model(normalised(backbone, images))
    torch.testing.assert_close(found @ head["weight"].T + head["bias"], logits, rtol=1e-3, atol=1e-4)


def test_the_model_is_frozen_and_in_eval() -> None:
    backbone = random("test_resnet")
    assert not any(module.training for module in backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    images = pixels(backbone)
    first = backbone(images)[FEATURE]
    assert torch.equal(backbone(images)[FEATURE], first)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
    assert any("running_mean" in name for name in before)


def test_features_do_not_depend_on_the_others_in_the_batch() -> None:
    backbone = random("test_resnet")
    images = pixels(backbone)
    assert near(backbone(images[2:3])[FEATURE], backbone(images)[FEATURE][2:3]) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_used_and_near_float32(dtype: str) -> None:
    exact, rough = random(), random(dtype=dtype)
    found = features(rough)
    assert found.dtype == torch.float32
    assert 0 < near(found, features(exact)) < 0.03
    assert exact.key.digest != rough.key.digest


def test_there_is_no_head_of_another_width() -> None:
    assert random().head(63) is None


def test_a_model_with_convolutions_over_three_axes() -> None:
    """PyTorch cannot hold their weights channels last."""
    backbone = random("lambda_resnet26t", img_size=64)
    images = pixels(backbone, 2)
    with torch.inference_mode():
        maps = backbone.model.forward_features(normalised(backbone, images))
        expected = backbone.model.forward_head(maps, pre_logits=True)
    torch.testing.assert_close(backbone(images)[FEATURE], expected)
    assert backbone.memory_format is torch.contiguous_format


def test_maps_in_place_of_vectors_are_refused() -> None:
    backbone = random()
    images = pixels(backbone)
    backbone.model = SimpleNamespace(forward_features=lambda x: x, forward_head=lambda x, pre_logits: x)
    with pytest.raises(ModelError) as error:
        backbone(images)
    says(error, "test_vit", "(4, 3, 160, 160)", 4)
    backbone.model.forward_features = lambda x: (x, x)
    with pytest.raises(ModelError) as error:
        backbone(images)
    says(error, "test_vit", "tuple", 4)


# The key


def test_the_key_names_what_changes_a_number() -> None:
    key = random().key
    assert (key.model, key.dtype, key.store_dtype) == ("test_vit", "float32", "float32")
    assert key.transform["input_size"] == (3, 160, 160)
    others = [
        random(seed=1).key,
        random(dtype="bfloat16").key,
        random(store_dtype="float16").key,
        random(pool="avg").key,
        random(img_size=96).key,
        random(mean=(0.1,)).key,
        random(std=(0.1,)).key,
        random(crop_pct=0.5).key,
        random(interpolation="nearest").key,
        random(model_kwargs={"qkv_bias": False}).key,
        replace(key, plugin="x"),
        replace(key, format=key.format + 1),
    ]
    assert len({other.digest for other in [key, *others]}) == 13
    assert random().key == key
    assert random(layers="all").key == key  # layers are columns


def test_random_weights_are_those_of_their_seed() -> None:
    one, same, other = random(seed=3), random(seed=3), random(seed=4)
    assert torch.equal(features(one), features(same))
    assert near(features(other), features(one)) > 0.1
    assert one.weights.kind == "random"
    assert "3" in one.weights.name


def test_random_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    weights = random(seed=3).key.weights
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert random(seed=3).key.weights == weights


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_patch16_224"])
def test_random_weights_of_a_short_name_are_those_of_the_model(name: str) -> None:
    assert random(name).key.model == "vit_tiny_patch16_224"


def test_what_a_short_name_stands_for_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nctransfer")
    random("vit_tiny")
    assert logged(caplog, "vit_tiny", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", level=logging.INFO)


def test_bundled_weights_are_at_hand_and_always_the_same() -> None:
    one, other = (load(BackboneRequest()) for _ in range(2))
    assert one.weights.kind == "bundled"
    assert one.key == other.key
    assert one.key.model == "tf_efficientnet_lite0.in1k"
    assert features(one, 2).shape == (2, 1280)


# Preprocessing


@pytest.mark.parametrize("size", [(8, 8), (300, 200), (20, 500), (1, 1)])
def test_images_of_any_size_fit_the_model(size: tuple[int, int]) -> None:
    found = random().preprocess(Image.new("RGB", size, (10, 20, 30)))
    assert found.shape == (3, 160, 160)
    assert found.dtype == np.uint8
    assert found.reshape(3, -1).mean(axis=1).tolist() == [10, 20, 30]


@pytest.mark.parametrize("size", [(1, 201), (60_000, 2)])
def test_images_that_resizing_would_blow_up_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]}×{size[1]}"):
        random().preprocess(Image.new("RGB", size))


@pytest.mark.parametrize(
    ("change", "name", "value"),
    [
        ({"mean": (0.1, 0.2, 0.3)}, "mean", (0.1, 0.2, 0.3)),
        ({"mean": (0.1,)}, "mean", (0.1, 0.1, 0.1)),
        ({"std": (0.2, 0.3, 0.4)}, "std", (0.2, 0.3, 0.4)),
        ({"std": (0.2,)}, "std", (0.2, 0.2, 0.2)),
        ({"crop_pct": 0.5}, "crop_pct", 0.5),
        ({"crop_pct": 1.0}, "crop_pct", 1.0),
        ({"interpolation": "nearest"}, "interpolation", "nearest"),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_a_transform_of_ones_own_is_in_the_key_and_used(
    model: str, change: dict[str, Any], name: str, value: object
) -> None:
    plain, own = random(model), random(model, **change)
    assert own.key.transform[name] == value != plain.key.transform[name]
    assert {**own.key.transform, name: None} == {**plain.key.transform, name: None}
    assert near(features(own), features(plain)) > 1e-4


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_pixels_are_normalised_by_mean_and_std_of_ones_own(model: str) -> None:
    backbone = random(model, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    images = pixels(backbone)
    with torch.inference_mode():
        model_ = backbone.model
        wanted = model_.forward_head(model_.forward_features(normalised(backbone, images)), pre_logits=True)
    assert near(backbone(images)[FEATURE], wanted) < 1e-5


@pytest.mark.parametrize("kind", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_every_interpolation_that_is_named_works(kind: str) -> None:
    assert random(interpolation=kind).preprocess(Image.new("RGB", (9, 9))).shape == (3, 160, 160)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("test_vit", {}),
        ("vit_tiny_patch16_224", {"model_kwargs": {"depth": 1}}),
        ("swin_tiny_patch4_window7_224", {"model_kwargs": SWIN}),
        ("test_resnet", {}),
        ("test_convnext", {}),
    ],
)
def test_images_of_another_size(model: str, options: dict[str, Any]) -> None:
    backbone = random(model, img_size=64, **options)
    images = pixels(backbone, 2)
    assert images.shape == (2, 3, 64, 64)
    assert backbone.key.transform["input_size"] == (3, 64, 64)
    found = backbone(images)[FEATURE]
    assert found.ndim == 2
    assert bool(found.isfinite().all())


def test_published_weights_at_another_image_size(hub_cache: Path) -> None:
    in_hub(hub_cache, state_of())
    plain, small = load(BackboneRequest("test_vit")), load(BackboneRequest("test_vit", img_size=96))
    assert small.model.pos_embed.shape == (1, 37, 64)
    assert plain.model.pos_embed.shape == (1, 101, 64)
    assert features(small).shape == (4, 64)


# Arguments of the model


def test_arguments_of_the_model_change_its_features() -> None:
    plain, same = (random("mobilenetv1_100", img_size=64, model_kwargs=kwargs) for kwargs in ({}, {"pad_type": "same"}))
    assert plain.key.weights == same.key.weights
    assert near(features(same, 2), features(plain, 2)) > 1e-3
    assert dict(same.key.model_kwargs) == {"pad_type": "same"}
    assert plain.key.digest != same.key.digest


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        ("test_vit", {"bogus": 1}),
        ("test_vit", {"act_layer": "bogus"}),
        ("test_vit", {"norm_layer": "bogus"}),
        ("test_vit", {"embed_dim": -1}),
        ("test_vit", {"num_heads": 0}),
        ("test_vit", {"class_token": False}),
        ("test_resnet", {"block": "bogus"}),
        ("test_resnet", {"output_stride": 3}),
    ],
    ids=str,
)
def test_arguments_that_no_model_takes(model: str, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ModelError) as error:
        random(model, model_kwargs=wrong)
    says(error, model, name, hint="--model-kwargs")


@pytest.mark.parametrize("value", [object(), {1, 2}, torch.ones(1), len])
def test_arguments_that_a_key_cannot_hold(value: object) -> None:
    with pytest.raises(SettingError) as error:
        BackboneRequest(model_kwargs={"a": value})
    says(error, "--model-kwargs", type(value).__name__)


# Pooling


def pooled_by_hand(model: Any, pool: str, images: torch.Tensor) -> torch.Tensor:
    """From the last map, by definition."""
    tokens = model.forward_features(images)
    if tokens.ndim == 3:
        first, places = tokens[:, 0], tokens[:, model.num_prefix_tokens :]
    else:
        first, places = tokens[:, 0], tokens.flatten(2).transpose(1, 2)
    kinds: dict[str, Callable[[], torch.Tensor]] = {
        "cls": lambda: first,
        "avg": lambda: places.mean(1),
        "max": lambda: places.amax(1),
        "avgmax": lambda: (places.mean(1) + places.amax(1)) / 2,
        "catavgmax": lambda: torch.cat([places.mean(1), places.amax(1)], dim=1),
    }
    return kinds[pool]()


@pytest.mark.parametrize(
    ("model", "pool"),
    [
        *(("test_vit", pool) for pool in ("cls", "avg", "max", "avgmax")),
        *(("test_resnet", pool) for pool in ("avg", "max", "avgmax", "catavgmax")),
        *(("test_efficientnet", pool) for pool in ("avg", "max", "avgmax", "catavgmax")),
    ],
)
def test_pooling_is_what_its_name_says(model: str, pool: str) -> None:
    backbone = random(model, pool=pool)
    images = pixels(backbone)
    found = backbone(images)[FEATURE]
    with torch.inference_mode():
        wanted = pooled_by_hand(backbone.model, pool, normalised(backbone, images))
    assert near(found, wanted) < 1e-5
    assert backbone.head(found.shape[1]) is None
    assert backbone.key.pool == pool
    assert backbone.key.weights == random(model).key.weights


def test_the_pooling_of_a_model_itself_is_one_of_them() -> None:
    assert torch.equal(features(random(pool="cls")), features(random()))
    assert near(features(random(pool="avg")), features(random())) > 0.01
    assert near(features(random("test_resnet", pool="avg")), features(random("test_resnet"))) < 1e-6
    assert random(pool="cls").key.digest != random().key.digest  # it has no head


@pytest.mark.parametrize(
    ("model", "pool"), [("test_vit", "bogus"), ("test_vit", "catavgmax"), ("test_resnet", "cls"), ("test_resnet", "x")]
)
def test_poolings_that_a_family_does_not_have(model: str, pool: str) -> None:
    with pytest.raises(ModelError) as error:
        random(model, pool=pool)
    says(error, f"'{pool}'", hint=["cls", "avg"])


# Layers


def layers_by_hand(backbone: Backbone, images: torch.Tensor, pool: str) -> list[torch.Tensor]:
    with torch.inference_mode():
        maps = backbone.model.forward_intermediates(
            normalised(backbone, images),
            intermediates_only=True,
            output_fmt="NCHW",
            **({"return_prefix_tokens": True} if pool == "cls" else {}),
        )
    return [layer[1][:, 0] if pool == "cls" else layer.mean((2, 3)) for layer in maps]


@pytest.mark.parametrize(
    ("model", "pool", "count"),
    [
        ("test_vit", "cls", 6),
        ("test_resnet", "avg", 5),
        ("test_efficientnet", "avg", 5),
        ("test_convnext", "avg", 4),
        ("test_vit4", "avg", 9),  # a ViT without a class token
        ("test_vit_relpos", "avg", 9),  # for which timm cannot give prefix tokens
    ],
)
def test_all_layers_beside_the_feature(model: str, pool: str, count: int) -> None:
    plain, backbone = random(model), random(model, layers="all")
    images = pixels(backbone, 2)
    found = backbone(images)
    wanted = layers_by_hand(backbone, images, pool)
    assert len(wanted) == count
    assert backbone.layers == tuple(range(count))
    assert list(found) == list(backbone.columns) == [FEATURE, *(f"layer_{index}" for index in range(count))]
    assert near(found[FEATURE], plain(images)[FEATURE]) < 1e-5
    for index, layer in enumerate(wanted):
        assert near(found[f"layer_{index}"], layer) < 1e-5


@pytest.mark.parametrize(
    ("wanted", "layers"),
    [
        ("last-2", (4, 5)),
        ("last-1", (5,)),
        ("last-99", (0, 1, 2, 3, 4, 5)),
        ("0,3", (0, 3)),
        ("3,0,3", (0, 3)),
        ("5", (5,)),
    ],
)
def test_some_layers(wanted: str, layers: tuple[int, ...]) -> None:
    backbone, every = random(layers=wanted), random(layers="all")
    assert backbone.layers == layers
    images = pixels(backbone, 2)
    found, all_of_them = backbone(images), every(images)
    assert list(found) == [FEATURE, *(f"layer_{index}" for index in layers)]
    assert all(torch.equal(found[column], all_of_them[column]) for column in found)


@pytest.mark.parametrize("wanted", ["6", "0,6", "99"])
def test_layers_that_are_not_there_are_answered_by_those_that_are(wanted: str) -> None:
    with pytest.raises(ModelError) as error:
        random(layers=wanted)
    says(error, "test_vit", wanted.rpartition(",")[2], hint=["0", "5"])


@pytest.mark.parametrize(
    ("model", "pool", "by_hand"),
    [
        ("test_vit", "avg", lambda places: places.mean(2)),
        ("test_vit", "max", lambda places: places.amax(2)),
        ("test_resnet", "avgmax", lambda places: (places.mean(2) + places.amax(2)) / 2),
        ("test_resnet", "catavgmax", lambda places: torch.cat([places.mean(2), places.amax(2)], dim=1)),
    ],
)
def test_layers_are_pooled_as_the_last(model: str, pool: str, by_hand: Callable[[torch.Tensor], torch.Tensor]) -> None:
    backbone = random(model, pool=pool, layers="last-2")
    images = pixels(backbone, 2)
    with torch.inference_mode():
        maps = backbone.model.forward_intermediates(normalised(backbone, images), 2, intermediates_only=True)
    for column, layer in zip(backbone.columns[1:], maps, strict=True):
        assert near(backbone(images)[column], by_hand(layer.flatten(2))) < 1e-5


def test_a_model_that_does_not_give_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of plugins, and some of older versions of timm."""
    monkeypatch.delattr(timm.models.ResNet, "forward_intermediates")
    with pytest.raises(ModelError) as error:
        random("test_resnet", layers="all")
    says(error, "test_resnet", hint="--layers")
    assert features(random("test_resnet"), 1).shape == (1, 96)


# Memory


class Full:
    """A model that has room for some images only."""

    def __init__(self, model: Any, room: int, error: Callable[[], Exception]) -> None:
        self.model, self.room, self.error = model, room, error
        self.asked: list[int] = []

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.append(len(images))
        if len(images) > self.room:
            raise self.error()
        found: torch.Tensor = self.model.forward_features(images)
        return found

    def forward_head(self, *arguments: Any, **options: Any) -> torch.Tensor:
        found: torch.Tensor = self.model.forward_head(*arguments, **options)
        return found


def full(backbone: Backbone, room: int, error: Callable[[], Exception] = torch.OutOfMemoryError) -> Full:
    backbone.model = Full(backbone.model, room, error)
    return backbone.model


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError,
        lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        lambda: RuntimeError("MPS backend out of memory"),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
    ],
)
def test_a_batch_too_large_for_the_memory_is_halved(
    error: Callable[[], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    backbone = random("test_resnet")
    images = pixels(backbone, 10)
    wanted = backbone(images)[FEATURE]
    model = full(backbone, 3, error)
    assert near(backbone(images)[FEATURE], wanted) < 1e-5
    assert model.asked == [10, 5, 3, 3, 3, 1]
    assert backbone.batch_limit == 3
    warnings = logged(caplog)
    assert [missing(*warning) for warning in zip(warnings, [("cpu", 10, 5), ("cpu", 5, 3)], strict=True)] == [[], []]


def test_what_memory_was_found_to_allow_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    backbone = random("test_resnet")
    images = pixels(backbone, 8)
    assert backbone.batch_limit is None
    model = full(backbone, 4)
    first = backbone(images)[FEATURE]
    model.asked.clear()
    caplog.clear()
    assert torch.equal(backbone(images)[FEATURE], first)
    assert model.asked == [4, 4]
    assert caplog.text == ""


def test_memory_for_each_layer_too() -> None:
    backbone = random("test_resnet", layers="last-2")
    images = pixels(backbone, 5)
    wanted = backbone(images)
    inner = backbone.model.forward_intermediates

    def limited(images: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if len(images) > 2:
            raise torch.OutOfMemoryError
        return inner(images, *arguments, **options)

    backbone.model.forward_intermediates = limited
    found = backbone(images)
    assert list(found) == list(wanted)
    assert all(near(found[column], wanted[column]) < 1e-5 for column in wanted)


def test_too_little_memory_for_a_single_image_is_told() -> None:
    backbone = random()
    images = pixels(backbone)
    full(backbone, 0)
    with pytest.raises(DeviceError) as error:
        backbone(images)
    says(error, "cpu")


def test_other_errors_are_not_of_memory() -> None:
    backbone = random()
    images = pixels(backbone)
    model = full(backbone, 0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(ModelError, match="cannot be multiplied"):
        backbone(images)
    assert model.asked == [4]
    assert backbone.batch_limit is None


# Compiling


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that kernels are asked for; nothing is compiled."""
    shapes: list[tuple[int, ...]] = []

    def compile_(function: Callable[..., Any], dynamic: bool | None = None) -> Callable[..., Any]:
        assert dynamic is False

        def call(images: torch.Tensor) -> Any:
            shapes.append(tuple(images.shape))
            return function(images)

        return call

    monkeypatch.setattr(torch, "compile", compile_)
    return shapes


@pytest.mark.parametrize("layers", [None, "last-1"])
def test_smaller_batches_are_filled_up_for_compiled_kernels(
    compiled: list[tuple[int, ...]], layers: str | None
) -> None:
    backbone = random("test_resnet", layers=layers)
    images = pixels(backbone, 8)
    wanted = backbone(images)
    backbone.compile(6)
    for batch in (images[:6], images[6:], images[:1]):
        found = backbone(batch)
        start = 6 if len(batch) == 2 else 0
        for column in backbone.columns:
            assert found[column].shape == (len(batch), wanted[column].shape[1])
            assert near(found[column], wanted[column][start : start + len(batch)]) < 1e-5
    assert set(compiled) == {(6, 3, 160, 160)}
    assert len(compiled) == 3


def test_compiled_batches_are_halved_too(compiled: list[tuple[int, ...]]) -> None:
    backbone = random("test_resnet")
    images = pixels(backbone, 8)
    wanted = backbone(images)[FEATURE]
    backbone.compile(8)
    full(backbone, 2)
    assert near(backbone(images)[FEATURE], wanted) < 1e-5
    assert [shape[0] for shape in compiled] == [8, 4, 2, 2, 2, 2]
    assert near(backbone(images[:1])[FEATURE], wanted[:1]) < 1e-5
    assert compiled[-1][0] == 2


# Variants


def test_a_variant_computes_otherwise_and_leaves_the_original(compiled: list[tuple[int, ...]]) -> None:
    backbone = random("test_resnet")
    images = pixels(backbone)
    wanted = backbone(images)[FEATURE]
    digest = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    backbone.compile(4)
    exact = backbone.variant(torch.float64)
    assert {parameter.dtype for parameter in exact.model.parameters()} == {torch.float64}
    assert 0 < near(exact(images)[FEATURE], wanted) < 1e-4
    assert 1e-4 < near(backbone.variant(torch.bfloat16)(images)[FEATURE], wanted) < 0.1
    first = backbone.variant(memory_format=torch.contiguous_format)
    assert first.model.conv1[0].weight.is_contiguous()
    assert backbone.model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert near(first(images)[FEATURE], wanted) < 1e-5
    assert compiled == []
    assert all(torch.equal(digest[name], tensor) for name, tensor in backbone.model.state_dict().items())
    assert backbone.dtype == torch.float32
