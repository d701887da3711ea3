"""What competes in a ranking: candidates by name and options, in files, by default; controls; their list."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
from huggingface_hub import constants

from messages import says
from nctransfer.backbones.facts import BackboneFacts
from nctransfer.backbones.names import of_timm
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.weight_files import BUNDLED, bundled
from nctransfer.cli.backbone_options import BackboneOptions
from nctransfer.cli.candidate_options import parse_candidate, read_candidates
from nctransfer.errors import ModelError, SettingError
from nctransfer.rank.candidate_facts import ListedCandidate, kept_facts, listed
from nctransfer.rank.candidates import Candidate, candidates_of
from nctransfer.rank.controls import controls
from nctransfer.rank.curated import CuratedModel, curated_models
from nctransfer.rank.default_candidates import default_candidates, with_weights
from nctransfer.rank.ranking import RankedCandidate
from nctransfer.report.candidate_sheets import candidates_sheets
from nctransfer.store.cache_folder import FeatureStore
from tiny import in_hub, state_of

VIT = BackboneRequest("test_vit")


def names(*requests: BackboneRequest | Candidate) -> list[str]:
    return [candidate.name for candidate in candidates_of(requests)]


# Names


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["resnet50 --img-size 128"], ["resnet50 --img-size 128"]),
        (["resnet50 --img-size 128", "resnet18 --img-size 128"], ["resnet50", "resnet18"]),
        (["resnet50", "resnet50 --img-size 128 --pool max"], ["resnet50", "resnet50 --img-size 128 --pool max"]),
        (["resnet18 --random-init", "test_vit"], ["resnet18 --random-init", "test_vit"]),
        (["resnet18 --mean 0.5", "test_vit --std 0.5"], ["resnet18", "test_vit"]),
        (["resnet18 --mean 0.5,0.5,0.4", "resnet18"], ["resnet18 --mean 0.5,0.5,0.4", "resnet18"]),
        (
            ["resnet18 --checkpoint a.pth --mean 0", "resnet18 --checkpoint b.pth --mean 0", "test_vit"],
            ["resnet18 --checkpoint a.pth", "resnet18 --checkpoint b.pth", "test_vit"],
        ),
        (
            ["resnet18 --random-init", "resnet18 --random-init --seed 1"],
            ["resnet18 --random-init", "resnet18 --random-init --seed 1"],
        ),
        (
            ["mobilenetv1_100", "mobilenetv1_100 --model-kwargs pad_type=same"],
            ["mobilenetv1_100", "mobilenetv1_100 --model-kwargs pad_type=same"],
        ),
        (["resnet18 --checkpoint x/a.pth", "resnet18 --checkpoint y/a.pth"], None),
    ],
)
def test_names_are_short_and_unlike_each_other(texts: list[str], expected: list[str] | None) -> None:
    found = names(*map(parse_candidate, texts))
    assert len(set(found)) == len(texts)
    assert expected is None or found == expected


def test_joins_of_different_layers_are_different_candidates() -> None:
    found = candidates_of([replace(VIT, layers="0,1,2"), replace(VIT, layers="0,1")], (2,))
    assert {one.name: one.parts for one in found if one.parts} == {
        "test_vit last 2 --layers 0,1,2": ("layer_2", "feature"),
        "test_vit mean of all --layers 0,1,2": ("layer_0", "layer_1", "layer_2", "feature"),
        "test_vit last 2 --layers 0,1": ("layer_1", "feature"),
        "test_vit mean of all --layers 0,1": ("layer_0", "layer_1", "feature"),
    }
    assert [one.column for one in found if not one.parts] == ["layer_0", "layer_1", "layer_2", "feature"]


def test_each_layer_is_a_candidate_and_the_last_one_too() -> None:
    found = candidates_of([replace(VIT, layers="last-2", random_init=True)])
    assert [one.column for one in found] == ["layer_4", "layer_5", "feature"]
    assert len({one.name for one in found}) == 3
    assert found[0].request == found[1].request == found[2].request  # one pass gives all of them
    with pytest.raises(ModelError) as error:
        candidates_of([replace(VIT, layers="1,17")])
    says(error, "test_vit", 17, hint="5")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("vit_base", "vit_base_patch16_224"),
        ("test_vit --random-init", "test_vit --random-init"),
        ("pixels", "pixels --random-init"),
        ("test_vit --layers 2", "test_vit --layers 2"),
        ("local-dir:models/mine", "local-dir:./models/../models/mine"),
    ],
)
def test_what_is_given_twice_runs_once_with_a_warning(one: str, other: str, caplog: pytest.LogCaptureFixture) -> None:
    alone = names(parse_candidate(one))
    assert caplog.records == []
    assert names(parse_candidate(one), parse_candidate(other)) == alone
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert parse_candidate(other).model in caplog.text


def test_layers_add_to_the_model_itself(caplog: pytest.LogCaptureFixture) -> None:
    assert names(VIT, replace(VIT, layers="2")) == ["test_vit", "test_vit layer_2"]
    assert caplog.records == []


def test_different_seeds_matter_to_random_weights_alone() -> None:
    assert len(names(VIT, replace(VIT, seed=1))) == 1
    assert len(names(replace(VIT, random_init=True), replace(VIT, random_init=True, seed=1))) == 2


def test_a_wrong_name_is_told_at_once() -> None:
    with pytest.raises(ModelError) as error:
        candidates_of([BackboneRequest("resnet51")])
    says(error, "resnet51", hint="resnet50")


# Controls


def test_controls_come_last_and_stay_controls(caplog: pytest.LogCaptureFixture) -> None:
    both = controls()
    assert all(one.is_control and one.why for one in both)
    assert candidates_of([*both, VIT])[1:] == both
    assert caplog.records == []
    found = candidates_of([BackboneRequest("pixels"), VIT, *both])
    assert [one.name for one in found] == ["test_vit", *(one.name for one in both)]
    assert "pixels" in caplog.text


def test_controls_need_no_weights() -> None:
    assert with_weights(controls(), offline=True) == (controls(), ())
    assert controls(1)[0].request.seed == 1


# As text


def test_options_are_those_of_the_command_line() -> None:
    text = (
        "mobilenetv1_100 --checkpoint 'my weights.pth' --allow-missing --mean 0.5,0.5,0.5 --std 0.5 --crop-pct 0.9 "
        "--interpolation bilinear --img-size 128 --pool avg --layers 0,2 --dtype bfloat16 --store-dtype float16 "
        "--model-kwargs pad_type=same --model-kwargs drop_rate=0.1 --plugin mine.py"
    )
    assert parse_candidate(text, seed=3) == BackboneRequest(
        "mobilenetv1_100",
        checkpoint=Path("my weights.pth"),
        allow_missing=True,
        mean=(0.5, 0.5, 0.5),
        std=(0.5,),
        crop_pct=0.9,
        interpolation="bilinear",
        img_size=128,
        pool="avg",
        layers="0,2",
        dtype="bfloat16",
        store_dtype="float16",
        model_kwargs={"pad_type": "same", "drop_rate": 0.1},
        plugin="mine.py",
        seed=3,
    )


def test_options_of_the_command_hold_for_all_candidates_that_set_none() -> None:
    common = BackboneOptions(img_size=96, dtype="bfloat16")
    assert parse_candidate("test_vit", common) == replace(VIT, img_size=96, dtype="bfloat16")
    assert parse_candidate("test_vit --img-size 64", common) == replace(VIT, img_size=64, dtype="bfloat16")
    assert parse_candidate("test_vit --random-init --seed 5", seed=2).seed == 5


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "MODEL"),
        ("resnet50 --img-siz 64", "--img-siz"),
        ("resnet50 --img-size many", "--img-size"),
        ("resnet50 --mean red", "--mean"),
        ("resnet50 resnet18", "resnet18"),
        ("resnet50 --model resnet18", "resnet50 --model resnet18"),
        ("resnet50 'a", "resnet50 'a"),
        ("resnet50 --help", "--help"),
        ("resnet50 --dtype int8", "int8"),
    ],
)
def test_a_wrong_text_is_refused(text: str, named: str) -> None:
    with pytest.raises(SettingError) as error:
        parse_candidate(text)
    says(error, named, hint="float32" if "dtype" in text else "--img-size")


def test_a_file_of_candidates(tmp_path: Path) -> None:
    file = tmp_path / "candidates.txt"
    file.write_text("\ufeff# small ones\nresnet18\n\n  test_vit --img-size 96  # a smaller image\n", "utf-8")
    assert read_candidates(file) == [BackboneRequest("resnet18"), replace(VIT, img_size=96)]
    assert [one.dtype for one in read_candidates(file, BackboneOptions(dtype="float16"))] == ["float16"] * 2


@pytest.mark.parametrize(
    ("content", "kind", "said", "hint"),
    [
        ("resnet18\n\nresnet51\n", ModelError, ("resnet51", "line 3"), "resnet50"),
        ("resnet18 --pol avg", SettingError, ("--pol", "line 1"), "resnet50"),
        ("test_vit --layers 9", ModelError, ("9", "line 1"), "5"),
        ("# nothing\n", SettingError, (), "resnet50"),
    ],
)
def test_a_wrong_line_is_named(
    content: str, kind: type[ModelError], said: tuple[str, ...], hint: str, tmp_path: Path
) -> None:
    (tmp_path / "c.txt").write_text(content)
    with pytest.raises(kind) as error:
        read_candidates(tmp_path / "c.txt")
    says(error, "c.txt", *said, hint=hint)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingError) as error:
        read_candidates(path)
    says(error, "c.txt", hint="text")


# The curated list


@pytest.mark.parametrize("entry", curated_models(), ids=lambda entry: entry.model)
def test_a_curated_model_exists_with_weights_and_a_licence(entry: Any) -> None:
    assert entry.model in timm.list_models(pretrained=True)
    spec = of_timm(entry.model)
    assert spec.name == entry.model, "a tag is given, so that another version of timm takes the same weights"
    assert spec.repository
    assert spec.config["license"]
    assert entry.why.endswith(".")
    assert "\n" not in entry.why


def test_the_curated_list_is_varied() -> None:
    found = [entry.model for entry in curated_models()]
    assert 20 <= len(found) == len(set(found)) <= 30
    families = ("mobilenet", "efficientnet", "resnet", "convnext", "swin", "deit3", "eva02", "augreg")
    pretraining = ("dinov2", "dinov3", "clip", "siglip", ".mae")
    assert [one for one in (*families, *pretraining) if not any(one in name for name in found)] == []


@pytest.mark.slow
def test_the_curated_list_goes_from_little_work_to_much(cache: Path) -> None:
    store = FeatureStore(cache)
    requests = [BackboneRequest(entry.model, img_size=entry.img_size) for entry in curated_models()]
    facts = [kept_facts(candidate, store) for candidate in candidates_of(requests)]
    work = [one.gmacs for one in facts if one.gmacs]
    assert len(work) == len(requests)
    assert [round(one, 2) for one in work] == sorted(round(one, 2) for one in work)
    assert all(one.width and one.pool and one.parameters for one in facts)
    assert all(" " in one.pretrained_on or "ImageNet" in one.pretrained_on for one in facts)


# By default


def test_everything_at_hand_competes_and_the_curated_list(hub_cache: Path) -> None:
    in_hub(hub_cache, state_of())
    found = default_candidates()
    models = [one.request.model for one in found]
    at_hand = ["test_vit.r160_in1k", *(name for name in BUNDLED if bundled(of_timm(name)))]
    assert sorted(models[: len(at_hand)]) == sorted(at_hand)
    assert len(models) == len(set(models))
    assert {entry.model for entry in curated_models()} <= set(models)
    by_model = {one.request.model: one for one in found}
    assert by_model["vit_small_patch14_dinov2.lvd142m"].request.img_size == 224
    assert by_model["tf_efficientnet_lite0.in1k"].why
    assert default_candidates(BackboneRequest(img_size=96, dtype="bfloat16"))[-1].request.img_size == 96


def test_an_older_timm_lacks_the_newest(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    newer = CuratedModel(model="vit_of_2031.in1k", why="It is new.")
    monkeypatch.setattr("nctransfer.rank.default_candidates.curated_models", lambda: (newer, curated_models()[0]))
    caplog.set_level(logging.INFO)
    assert default_candidates()[-1].request.model == curated_models()[0].model
    assert "vit_of_2031.in1k" in caplog.text


@pytest.mark.parametrize(("offline", "reason"), [(True, "--offline"), (False, "HF_HUB_OFFLINE")])
def test_what_has_no_weights_offline_is_kept_apart(hub_cache: Path, offline: bool, reason: str) -> None:
    run, not_run = with_weights(candidates_of([BackboneRequest("tf_efficientnet_lite0"), VIT]), offline)
    assert [one.name for one in run] == ["tf_efficientnet_lite0"]
    assert [one.candidate.name for one in not_run] == ["test_vit"]
    assert reason in not_run[0].reason
    in_hub(hub_cache, state_of())
    assert not with_weights(candidates_of([VIT]), offline)[1]


def test_the_hub_is_asked_once_whether_it_answers(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked: list[str] = []
    monkeypatch.setattr("nctransfer.backbones.hub._why_unreachable", lambda url: asked.append(url) or "")
    both = candidates_of([VIT, BackboneRequest("test_resnet")])
    assert with_weights(both) == (both, ())
    assert len(asked) == 1
    assert with_weights(candidates_of([replace(VIT, random_init=True)]))[1] == ()
    assert len(asked) == 1


# Their list


def test_facts_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(cache)
    [candidate] = candidates_of([replace(VIT, img_size=112)])
    first = kept_facts(candidate, store)
    monkeypatch.setattr("nctransfer.rank.candidate_facts.facts_of", lambda *_, **__: pytest.fail("found out again"))
    assert kept_facts(candidate, store) == first
    assert first.img_size == 112


def test_facts_need_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    [candidate] = candidates_of([VIT])
    assert kept_facts(candidate, FeatureStore(tmp_path / "file")).width == 64


def test_the_list_of_candidates(cache: Path, hub_cache: Path) -> None:
    own = replace(VIT, checkpoint=Path("mine.pth"))
    found = listed(candidates_of([VIT, own, *controls()]), FeatureStore(cache), offline=True)
    assert [one.at_hand for one in found] == [False, True, True, True]
    rows = [one.to_dict() for one in found]
    assert [row["pretrained_on"] for row in rows] == ["ImageNet-1k", "mine.pth", "nothing", "nothing"]
    assert [row["is_control"] for row in rows] == [False, False, True, True]
    facts, why = candidates_sheets(found)
    assert [row[0] for row in facts.rows] == [row["name"] for row in rows]
    assert facts.rows[0][1:5] == ["0.37M", "0.04", "64", "160"]
    assert facts.rows[3][1:5] == ["0", "0", "768", "16"]
    assert [row[0] for row in why.rows] == [one.name for one in controls()]
    assert "download" in facts.rows[0]


def test_a_model_that_is_not_there_is_listed_all_the_same(cache: Path, hub_cache: Path) -> None:
    found = listed(candidates_of([BackboneRequest("hf-hub:nobody/nothing")]), FeatureStore(cache), offline=True)
    assert (found[0].at_hand, found[0].facts.parameters) == (False, None)
    [sheet] = candidates_sheets(found)
    assert sheet.rows[0][1:5] == ["–"] * 4


@pytest.mark.parametrize("size", [None, 1000])
def test_an_inner_layer_needs_less_than_a_backbone_whose_size_is_known(size: int | None) -> None:
    inner, facts = Candidate(name="one", request=VIT, column="layer_1"), BackboneFacts(parameters=size)
    [sheet, *_] = candidates_sheets([ListedCandidate(candidate=inner, facts=facts, at_hand=True)])
    assert ("such as layer_1" in sheet.reading) is (size is not None)
    assert inner.is_inner
    assert RankedCandidate(name="one", status="not run", column="layer_1", facts=facts).is_inner
