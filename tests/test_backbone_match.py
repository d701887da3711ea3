"""The backbone of a head is built again from what the head knows, and another one is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

import nctransfer as nct
from heads_by_hand import by_hand
from messages import raises
from nctransfer.backbones.plugins import plugin_digest
from nctransfer.errors import ModelError, WeightsError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.backbone_match import backbone_for, differences
from nctransfer.heads.head import Head
from tiny import in_hub, state_of


def extracted(pets: Path, **options: Any) -> FeatureSet:
    return nct.extract(options.pop("model", "test_vit"), pets, device="cpu", workers=1, **options)


def head(pets: Path, **options: Any) -> Head:
    return by_hand(extracted(pets, **{"random_init": True, **options}))


def with_key(found: Head, **fields: Any) -> Head:
    assert found.origin.key is not None
    return replace(found, origin=replace(found.origin, key=replace(found.origin.key, **fields)))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 3},
        {"img_size": 96},
        {"img_size": 64, "model": "test_resnet", "mean": (0.1, 0.2, 0.3), "crop_pct": 0.5, "interpolation": "nearest"},
        {"std": (0.2,), "dtype": "bfloat16", "store_dtype": "float16"},
        {"pool": "avg", "model_kwargs": {"patch_drop_rate": 0.1}},
        {"model": "pixels", "img_size": 8, "random_init": False},
    ],
    ids=str,
)
def test_a_head_knows_how_its_backbone_is_built(pets: Path, options: dict[str, Any]) -> None:
    given = head(pets, **options)
    backbone = backbone_for(given, device="cpu")
    assert given.origin.key is not None
    assert differences(backbone.key, given.origin.key) == {}
    assert backbone.key.digest == given.origin.key.digest


def test_a_layer_is_an_output_of_the_backbone(pets: Path) -> None:
    features = extracted(pets, random_init=True, layers="1,3")
    given = by_hand(features)
    layer = replace(given, origin=replace(given.origin, column="layer_3"))
    assert backbone_for(layer, device="cpu").columns == ("feature", "layer_3")
    assert backbone_for(given, device="cpu").columns == ("feature",)


def test_published_weights_are_found_by_the_name_of_the_model(pets: Path, hub_cache: Path) -> None:
    in_hub(hub_cache, state_of())
    given = head(pets, random_init=False)
    assert backbone_for(given, device="cpu").weights.kind == "hub"
    path = in_hub(hub_cache, state_of(seed=5))
    with raises(WeightsError, given.origin.key.weights[:8], hint=["timm/test_vit.r160_in1k", "--checkpoint"]):
        backbone_for(given, device="cpu")
    path.unlink()
    with raises(WeightsError, "test_vit.r160_in1k", given.origin.key.weights[:8], hint="--checkpoint"):
        backbone_for(given, device="cpu", offline=True)


def test_weights_of_the_users_own_are_asked_for(pets: Path, tmp_path: Path, hub_cache: Path) -> None:
    in_hub(hub_cache, state_of(seed=5))
    mine, other, bare = (tmp_path / f"{name}.safetensors" for name in ("mine", "other", "bare"))
    save_file(state_of(seed=1), mine)
    save_file(state_of(seed=2), other)
    save_file({name: one for name, one in state_of(seed=1).items() if not name.startswith("head.")}, bare)
    given = head(pets, random_init=False, checkpoint=mine)
    assert backbone_for(given, checkpoint=mine, device="cpu").key == given.origin.key
    with raises(WeightsError, "test_vit", hint=["--checkpoint", "mine.safetensors"]):
        backbone_for(given, device="cpu")
    with raises(WeightsError, given.origin.key.weights[:8], hint="mine.safetensors"):
        backbone_for(given, checkpoint=other, device="cpu")
    with raises(WeightsError, str(tmp_path / "absent")):
        backbone_for(given, checkpoint=tmp_path / "absent", device="cpu")
    without = head(pets, random_init=False, checkpoint=bare, allow_missing=True)
    assert backbone_for(without, checkpoint=bare, device="cpu").key == without.origin.key


def test_the_model_of_a_folder_is_asked_for(pets: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(("saved", "else")):
        torch.manual_seed(seed)
        timm.models.save_for_hf(timm.create_model("test_vit", num_classes=3), tmp_path / name, safe_serialization=True)
    given = head(pets, random_init=False, model=f"local-dir:{tmp_path / 'saved'}")
    (tmp_path / "saved").rename(tmp_path / "renamed")
    assert backbone_for(given, checkpoint=tmp_path / "renamed", device="cpu").key.weights == given.origin.key.weights
    for checkpoint in (None, tmp_path / "saved"):
        with raises(WeightsError, "'saved'", hint="--checkpoint"):
            backbone_for(given, checkpoint=checkpoint, device="cpu")
    with raises(WeightsError, given.origin.key.weights[:8], hint="--checkpoint"):
        backbone_for(given, checkpoint=tmp_path / "else", device="cpu")


PLUGIN = """
from timm.models import register_model
from timm.models.vision_transformer import _create_vision_transformer

@register_model
def test_head_vit(pretrained=False, **kwargs):
    return _create_vision_transformer("test_vit", patch_size=16, embed_dim=64, depth=2, num_heads=2, **kwargs)
"""


def test_a_plugin_is_asked_for(pets: Path, tmp_path: Path, registered: None) -> None:
    plugin, other = tmp_path / "mine.py", tmp_path / "other.py"
    plugin.write_text(PLUGIN)
    other.write_text("raise RuntimeError('this code must not run')")
    digest = plugin_digest(str(plugin))
    given = head(pets, model="test_head_vit", plugin=str(plugin))
    assert given.origin.key.plugin == digest
    assert backbone_for(given, plugin=str(plugin), device="cpu").key == given.origin.key
    with raises(ModelError, "test_head_vit", digest[:8], hint="--plugin"):
        backbone_for(given, device="cpu")
    with raises(ModelError, digest[:8], plugin_digest(str(other))[:8], hint="--plugin"):
        backbone_for(given, plugin=str(other), device="cpu")
    with raises(ModelError, plugin_digest(str(other))[:8], hint="--plugin"):
        backbone_for(head(pets), plugin=str(other), device="cpu")


def test_features_made_elsewhere_have_no_backbone() -> None:
    features = FeatureSet.from_arrays(torch.eye(4), ["cat", "cat", "dog", "dog"])
    with raises(ModelError, hint="nctransfer fit"):
        backbone_for(by_hand(features))


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"format": 99}, [99]),
        ({"transform": {"input_size": (3, 32, 48)}}, ["[3, 32, 48]"]),
        ({"transform": {"crop_mode": "border"}}, ["border", "center"]),
        ({"weights": "0123456789abcdef"}, ["01234567"]),
    ],
    ids=str,
)
def test_what_differs_is_named(pets: Path, fields: dict[str, Any], shown: list[object]) -> None:
    given = head(pets)
    if "transform" in fields:
        fields = {"transform": {**given.origin.key.transform, **fields["transform"]}}
    with raises(WeightsError if "weights" in fields else ModelError, *shown, hint="again"):
        backbone_for(with_key(given, **fields), device="cpu")


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "float8"},
        {"model_kwargs": {"pretrained": True}},
        {"model": "no_such_model"},
        {"model_kwargs": {"x": 1}},
    ],
    ids=str,
)
def test_a_head_that_nobody_can_have_fitted_is_an_error_of_the_head(pets: Path, fields: dict[str, Any]) -> None:
    with raises(
        ModelError, *fields.get("model_kwargs", {}), *[value for value in fields.values() if isinstance(value, str)]
    ):
        backbone_for(with_key(head(pets), **fields), device="cpu")
