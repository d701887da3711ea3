"""Where the features of a head came from, and when the licence of their weights is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nctransfer as nct
from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.heads.head_origin import origin_of


def features(model: str, weights: str, data: str = "pets") -> nct.FeatureSet:
    key = FeatureKey(model=model, weights="0" * 32, transform={})
    info = FeatureInfo("a set", model=model, weights=weights, data=data, layer="layer_3", key=key)
    return nct.FeatureSet.from_arrays(np.eye(4), list("aabb"), info=info)


def test_the_default_backbone_has_the_licence_that_timm_records(pets: Path) -> None:
    found = nct.extract(DEFAULT_MODEL, pets, device="cpu", img_size=32)
    origin = origin_of(found)
    assert origin.licence == "apache-2.0"
    assert origin.key == found.info.key
    assert origin.column == "feature"
    assert origin.data == pets.name  # not its full path
    assert origin.versions["nctransfer"] == nct.__version__


@pytest.mark.parametrize(
    ("model", "weights", "licence"),
    [
        ("resnet18.tv_in1k", "timm/resnet18.tv_in1k (digest 01234567)", "bsd-3-clause"),
        ("resnet18.tv_in1k", "mine.pth (digest 01234567)", ""),  # a published name, but weights of the user's own
        ("resnet18", "random, seed 0 (digest 01234567)", ""),
        ("my_own_model", "my_own_model.pth (digest 01234567)", ""),
        ("hf-hub:owner/name", "owner/name (digest 01234567)", ""),  # its description is not at hand
        ("pixels", "none, the pixels themselves (digest 01234567)", ""),
    ],
)
def test_the_licence_is_that_of_published_weights(model: str, weights: str, licence: str) -> None:
    assert origin_of(features(model, weights)).licence == licence


def test_a_layer_and_a_source_that_is_no_path_are_kept() -> None:
    origin = origin_of(features("resnet18", "mine.pth", "hfds/owner/pets"))
    assert (origin.column, origin.data) == ("layer_3", "hfds/owner/pets")


def test_features_made_elsewhere_have_no_backbone() -> None:
    found = features("resnet18", "mine.pth")
    origin = origin_of(replace(found, info=FeatureInfo("features.npz", data=None)))
    assert (origin.key, origin.weights, origin.licence, origin.data) == (None, None, "", None)
