"""The control whose feature is the image itself: the same pixels as by Pillow, by the usual commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import nctransfer as nct
from messages import says
from nctransfer.backbones.building import load
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.listing import list_models
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.weight_files import Weights
from nctransfer.errors import ModelError, WeightsError
from terminal import data_of, done, refusal


def photograph() -> Image.Image:
    """An image that is wider than high, and whose left end is red."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 75, 3)).astype("uint8")
    noise[:, :5] = (255, 0, 0)
    return Image.fromarray(noise)


@pytest.mark.parametrize(("options", "side"), [({}, 16), ({"img_size": 8}, 8)])
def test_the_feature_is_the_whole_image_shrunk(options: dict[str, int], side: int) -> None:
    backbone = load(BackboneRequest("pixels", **options), device="cpu")
    feature = backbone(torch.from_numpy(backbone.preprocess(photograph()))[None])[FEATURE]
    small = np.asarray(photograph().resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    np.testing.assert_allclose(feature.numpy(), small.reshape(1, -1) / 127.5 - 1, atol=1e-6)


def test_it_needs_no_weights_and_takes_none(tmp_path: Path) -> None:
    plain = load(BackboneRequest("pixels"), device="cpu", offline=True)
    assert plain.weights == Weights("none", plain.weights.name)
    assert load(BackboneRequest("pixels", random_init=True, seed=3), device="cpu").key == plain.key
    assert load(BackboneRequest("pixels", img_size=8), device="cpu").key.digest != plain.key.digest
    (tmp_path / "a.pth").touch()
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest("pixels", checkpoint=tmp_path / "a.pth"), device="cpu")
    says(error, "pixels", hint="--checkpoint")


@pytest.mark.parametrize(("option", "value"), [("pool", "avg"), ("layers", "all"), ("model_kwargs", {"depth": 2})])
def test_it_has_no_pooling_no_layers_and_no_arguments(option: str, value: object) -> None:
    with pytest.raises(ModelError) as error:
        load(BackboneRequest("pixels", **{option: value}), device="cpu")  # type: ignore[arg-type]
    assert "pixels" in error.value.message.lower()


def test_it_is_stored_like_any_other(pets: Path, ran: Callable[[], int]) -> None:
    assert data_of("extract", "--model", "pixels", "--data", pets)["extracted"] == 18
    assert ran() == 18
    again = data_of("extract", "--model", "pixels", "--data", pets)
    assert (again["reused"], ran()) == (18, 0)
    features = nct.load_features(again["id"])
    assert (features.info.model, features.dim) == ("pixels", 768)
    assert done("check", "--model", "pixels", "--data", pets)


def test_it_is_listed_when_it_is_asked_for() -> None:
    assert "pixels" not in [model.name for model in list_models()]
    (found,) = list_models("pixel?")
    assert (found.name, found.parameters, found.width, found.at_hand) == ("pixels", 0, 768, "no weights")
    assert "pixels" not in timm.list_models(pretrained=True)
    refusal("extract", "--model", "pixel", "--data", "digits").expect("ModelError", "pixel", hint="pixels")
