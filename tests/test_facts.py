"""What is known about a backbone before it runs: compared with published numbers, and with the model that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm

from nctransfer.backbones.facts import BackboneFacts, facts_of
from nctransfer.backbones.pretraining import pretrained_on
from nctransfer.backbones.request import BackboneRequest
from tiny import features, pixels, random

# Millions of parameters and GMACs as timm's results and the papers have them. timm leaves attention out of vit_base
# (16.9); the paper of DeiT counts it for the same model (17.6), and so do timm's numbers of Swin.
PUBLISHED = {
    "resnet50": (25.56, 4.1),
    "efficientnet_b0": (5.29, 0.39),
    "convnext_tiny": (28.59, 4.5),
    "swin_tiny_patch4_window7_224": (28.29, 4.5),
    "deit_base_patch16_224": (86.57, 17.6),
    "tf_efficientnet_lite0": (4.65, 0.39),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name: str) -> None:
    facts = facts_of(BackboneRequest(name))
    assert facts.parameters is not None
    assert facts.parameters / 1e6 == pytest.approx(PUBLISHED[name][0], abs=0.01)
    assert facts.gmacs == pytest.approx(PUBLISHED[name][1], rel=0.02)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("test_vit", {}),
        ("test_vit", {"img_size": 96}),
        ("test_resnet", {"img_size": 64}),
        ("test_resnet", {"pool": "catavgmax"}),
        ("pixels", {}),
        ("pixels", {"img_size": 8}),
    ],
)
def test_width_and_size_are_those_of_the_running_model(model: str, options: dict[str, Any]) -> None:
    facts = facts_of(BackboneRequest(model, random_init=True, **options))
    backbone = random(model, **options)
    assert facts.width == features(backbone, 1).shape[1]
    assert facts.img_size == backbone.key.transform["input_size"][-1]
    assert "pool" in options or facts.parameters == sum(one.numel() for one in backbone.model.parameters())
    assert facts.pretrained_on == "nothing"


def test_work_grows_with_the_image() -> None:
    small, large = (facts_of(BackboneRequest("test_resnet", img_size=size)).gmacs for size in (64, 128))
    assert small is not None
    assert large == pytest.approx(4 * small, rel=1e-6)  # convolutions alone, and no classifier


def test_work_of_attention_is_counted() -> None:
    """Four linear maps of width d and a mixture of twice that, and two products of tokens with tokens, per block."""
    facts = facts_of(BackboneRequest("vit_tiny_patch16_224"))
    d, tokens, blocks = 192, 14 * 14 + 1, 12
    patches = 14 * 14 * 3 * 16 * 16 * d
    assert facts.gmacs == pytest.approx((patches + blocks * tokens * (12 * d * d + 2 * tokens * d)) / 1e9, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "pool"),
    [
        ("vit_tiny_patch16_224", {}, "cls"),
        ("vit_tiny_patch16_224", {"pool": "avg"}, "avg"),
        ("test_resnet", {}, "avg"),
        ("pixels", {}, "none"),
    ],
)
def test_the_pooling(model: str, options: dict[str, Any], pool: str) -> None:
    assert facts_of(BackboneRequest(model, **options)).pool == pool


def test_the_width_of_a_layer() -> None:
    request = BackboneRequest("test_resnet", random_init=True, layers="all")
    backbone = random("test_resnet", layers="all")
    assert len(backbone.columns) > 3
    outputs = backbone(pixels(backbone, 1))
    for column in backbone.columns:
        assert facts_of(request, column).width == outputs[column].shape[1]


def test_weights_of_ones_own_have_no_published_origin() -> None:
    own = facts_of(BackboneRequest("resnet18", checkpoint=Path("/nowhere/mine.pth")))
    assert (own.pretrained_on, own.licence, own.width) == ("mine.pth", "", 512)
    published = facts_of(BackboneRequest("vit_small_patch14_dinov2.lvd142m", img_size=224))
    assert (published.pretrained_on, published.licence) == ("LVD-142M (DINOv2)", "apache-2.0")


@pytest.mark.parametrize(
    "request_",
    [
        BackboneRequest("no_such_model"),
        BackboneRequest("hf-hub:nobody/nothing"),
        BackboneRequest("local-dir:/nowhere"),
        BackboneRequest("resnet18", plugin="/nowhere.py"),
    ],
)
def test_no_model_has_no_facts(request_: BackboneRequest) -> None:
    assert facts_of(request_, offline=True) == BackboneFacts()


def test_a_model_that_cannot_run_keeps_what_is_known() -> None:
    narrow = facts_of(BackboneRequest("vit_tiny_patch16_224", model_kwargs={"depth": "many"}))
    assert (narrow.parameters, narrow.gmacs, narrow.img_size) == (None, None, 224)
    pooled = facts_of(BackboneRequest("test_resnet", pool="cls"))
    assert pooled.parameters is not None
    assert (pooled.gmacs, pooled.width) == (None, None)


def test_a_second_answer_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    request = BackboneRequest("test_vit", img_size=128)
    first = facts_of(request)
    monkeypatch.setattr("nctransfer.backbones.facts.build_model", lambda *_: pytest.fail("a model was built"))
    assert facts_of(BackboneRequest("test_vit", img_size=128)) is first


@pytest.mark.parametrize(
    ("architecture", "tag", "words"),
    [
        ("resnet50", "a1_in1k", "ImageNet-1k"),
        ("vit_base_patch16_clip_224", "laion2b_ft_in12k_in1k", "LAION-2B (CLIP), then ImageNet-12k, then ImageNet-1k"),
        ("vit_base_patch16_clip_224", "openai", "OpenAI's 400M pairs (CLIP)"),
        ("vit_base_patch16_siglip_224", "webli", "WebLI (SigLIP)"),
        ("convnext_tiny", "dinov3_lvd1689m", "LVD-1689M (DINOv3)"),
        ("vit_base_patch16_224", "mae", "ImageNet-1k (MAE)"),
        ("tf_efficientnet_b0", "ns_jft_in1k", "ImageNet-1k and JFT-300M (noisy student)"),
        ("beitv2_base_patch16_224", "in1k_ft_in22k_in1k", "ImageNet-1k, then ImageNet-22k, then ImageNet-1k"),
        ("beit_base_patch16_224", "in22k_ft_in22k_in1k", "ImageNet-22k, then ImageNet-1k"),
        ("eva_giant_patch14_224", "clip_ft_in1k", "CLIP, then ImageNet-1k"),
        ("sam2_hiera_tiny", "fb_r896", "fb_r896"),
        ("resnet50", "", ""),
    ],
)
def test_tags_in_words(architecture: str, tag: str, words: str) -> None:
    assert pretrained_on(architecture, tag) == words


def test_no_tag_of_timm_is_lost() -> None:
    """Each tag gives some words, and a tag that ends in ImageNet-1k says so last."""
    for name in timm.list_models(pretrained=True):
        architecture, _, tag = name.partition(".")
        words = pretrained_on(architecture, tag)
        assert bool(words) == bool(tag)
        if tag.endswith("_in1k") and "ns_jft" not in tag:
            assert "ImageNet-1k" in words.rpartition("then ")[2]
