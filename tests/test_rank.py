"""Rankings of features that are there, and of backbones that run: rows, marks, races, failures, what a kill leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nctransfer as nct
from conftest import write_digits
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import BrokenImagesError, DeviceError, EpisodeError, ModelError, SettingError
from nctransfer.rank.ranking import Ranking
from nctransfer.report.rank_sheets import rank_sheets
from terminal import data_of, done, misused, on_terminal, refusal, refused, shows, tables, warned
from tiny import state_of

CLASSES = {"zero": 0, "one": 1, "four": 4}
EACH, IMAGES = 14, 42
VIT = BackboneRequest("test_vit", random_init=True, img_size=32)
MLP = BackboneRequest("test_resnet", random_init=True, img_size=32)
CONTROLS = {"random network", "pixels 16×16"}


def feature_set(noise, *, classes=5, each=30, seed=0, width=12):
    """Features of images that every set shares; more noise makes a worse set."""
    means = np.random.default_rng(7).normal(size=(classes, 1, width))
    rows = means + np.random.default_rng(8).normal(size=(classes, each, width)) * 0.8
    rows = rows + noise * np.random.default_rng(seed).normal(size=rows.shape)
    labels = np.repeat([f"class {i}" for i in range(classes)], each)
    return nct.FeatureSet.from_arrays(rows.reshape(-1, width).astype(np.float32), labels)


@pytest.fixture(scope="module")
def three():
    return {name: feature_set(noise, seed=i) for i, (name, noise) in enumerate({"a": 0, "b": 0.2, "c": 3}.items())}


@pytest.fixture(scope="module")
def ranked(three) -> Ranking:
    return nct.rank_features(three, (1, 5), targets=(0.6, 0.99), scores=True)


@pytest.fixture
def pets(tmp_path) -> Path:
    write_digits(tmp_path / "pets", CLASSES, EACH)
    return tmp_path / "pets"


# Features that are there


def test_the_best_come_first_and_what_is_worse_is_not_marked(ranked):
    assert [one.name for one in ranked.candidates][-1] == "c"
    assert ranked.candidates[-1].status == "not best"
    assert set(ranked.possible_bests) <= {"a", "b"}
    assert ranked.best.name == ranked.possible_bests[0]
    assert ranked.recommendation.startswith(f"Take {ranked.best.name}.")


def test_the_row_of_a_candidate(ranked):
    best, worst = ranked.candidates[0], ranked.candidates[-1]
    assert ranked.shots == 5
    assert best.place is best.places[5]
    assert best.places[1].accuracy < best.places[5].accuracy
    low, high = best.place.interval
    assert low < best.place.accuracy < high
    assert worst.place.difference == pytest.approx(worst.place.accuracy - best.place.accuracy, abs=0.01)
    assert worst.place.difference_interval[0] < worst.place.difference
    assert best.labels_needed[0.6].value in range(1, 4)
    assert worst.labels_needed[0.99].value is None
    report = nct.collapse(feature_set(0))
    found = next(one for one in ranked.candidates if one.name == "a")
    assert found.cdnv_debiased == pytest.approx(report.metrics["cdnv_debiased"])
    assert found.directional_cdnv_debiased == pytest.approx(report.metrics["directional_cdnv_debiased"])
    assert found.facts.width == 12
    assert set(found.scores) == {"logme", "h_score"}


def test_the_only_possible_best_is_not_below_any_other(three):
    found = nct.rank_features({"a": three["a"], "c": three["c"]}, targets=())
    assert found.possible_bests == ("a",)
    table = rank_sheets(found)[0]
    assert table.rows[0][table.heads.index("at most")] == "0.0"


def test_json_has_what_the_interface_promises(ranked):
    data = json.loads(json.dumps(ranked.to_dict()))
    assert data["task"].items() >= {"ways": 5, "shots": 5, "classifier": "ridge", "population": "samples"}.items()
    keys = {
        *("name", "status", "reason", "accuracy", "interval", "difference", "difference_interval", "labels_needed"),
        *("cdnv_debiased", "directional_cdnv_debiased", "parameters", "gmacs", "images_per_second", "width"),
        *("img_size", "pool", "pretrained_on", "licence", "pareto", "scores"),
    }
    for one in data["candidates"]:
        assert one.keys() >= keys
        assert one["labels_needed"]["0.99"].keys() >= {"value", "interval", "extrapolated"}
    assert data["rounds"] == [{"images_per_class": 30, "candidates": ["a", "b", "c"], "dropped": ["c"]}]
    assert data["images_run"] == data["images_without_racing"] == 450
    frame = ranked.to_frame()
    assert len(frame) == 3
    assert {str(frame[name].dtype) for name in ("draws", "width", "img_size", "labels_for_0.99_high")} == {"Int64"}
    assert "<table" in ranked._repr_html_()


def test_the_same_features_under_two_names(three):
    found = nct.rank_features({"a": three["a"], "again": three["a"]}, targets=())
    assert found.possible_bests == ("a", "again")
    assert found.candidates[1].same_as == "a"
    assert found.candidates[1].place.difference_interval == (0, 0)
    assert "exactly the same features" in found.recommendation


def test_a_warning_names_the_candidates_that_it_is_about(three):
    constant = nct.FeatureSet.from_arrays(np.ones((150, 3)), [three["a"].classes[i] for i in three["a"].labels])
    found = nct.rank_features({"a": three["a"], "constant": constant}, targets=())
    assert [text.split(":")[0] for text in found.warnings] == ["constant"]


def test_one_set_of_features(three):
    found = nct.rank_features({"a": three["a"]})
    assert found.best.place.difference is None
    assert "only candidate" in found.recommendation


def test_classes_of_two_images():
    small = {name: feature_set(noise, each=2) for name, noise in {"a": 0, "b": 1}.items()}
    with pytest.raises(EpisodeError):
        nct.rank_features(small)
    found = nct.rank_features(small, 1)
    assert found.candidates[0].undefined.keys() == {"directional_cdnv_debiased"}
    assert found.best.labels_needed[0.9].value is None or found.best.labels_needed[0.9].value == 1


def test_no_sets_and_no_such_device_are_refused(three):
    with pytest.raises(SettingError):
        nct.rank_features({})
    with pytest.raises(DeviceError, match="gpu"):
        nct.rank_features(three, device="gpu")


def test_one_target_or_several(three):
    found = nct.rank_features({"a": three["a"]}, targets=0.6)
    assert found.best.labels_needed == nct.rank_features({"a": three["a"]}, targets=(0.6, 0.6)).best.labels_needed


def test_two_classifiers_are_refused(three):
    with pytest.raises(SettingError):
        nct.rank_features(three, classifier="all")


# Backbones that run


def ranking(pets, models=(VIT, MLP), **settings) -> Ranking:
    return nct.rank_backbones(pets, models, **{"targets": (), "shots": 2, "offline": True, **settings})


def test_controls_run_too_and_the_pixels_beat_random_networks(pets):
    found = ranking(pets)
    assert {one.name for one in found.candidates if one.status == "control"} == CONTROLS
    assert found.candidates[0].name == "pixels 16×16"
    assert "pixels" in found.recommendation
    assert not found.recommendation.startswith("Take test")
    for one in found.candidates:
        assert one.facts.img_size == {"pixels 16×16": 16, "random network": 224}.get(one.name, 32)
        assert one.speed.images_per_second > 0
        assert not one.speed.is_earlier
    assert any(one.pareto for one in found.candidates)


def test_a_race_drops_who_cannot_be_the_best_and_a_second_run_does_nothing_new(tmp_path, ran):
    pets = tmp_path / "more pets"
    write_digits(pets, CLASSES | {"seven": 7}, 24)
    models = (VIT, BackboneRequest("pixels", img_size=8))
    found = ranking(pets, models, shots=2)
    assert [one.images_per_class for one in found.rounds] == [8, 24]
    saved = len(found.rounds[0].dropped) * 4 * (24 - 8)
    assert saved
    assert found.images_run == 4 * 96 - saved
    assert found.images_without_racing == 4 * 96
    assert ran() == found.images_run
    again = ranking(pets, models, shots=2)
    assert ran() == 0
    assert [(one.name, one.places) for one in again.candidates] == [(one.name, one.places) for one in found.candidates]
    assert all(one.speed.is_earlier for one in again.candidates)
    whole = ranking(pets, models, shots=2, racing=False)
    assert ran() == whole.images_run - found.images_run == saved
    assert len(whole.rounds) == 1
    assert whole.possible_bests[0] == found.possible_bests[0]


def test_an_accuracy_is_that_of_the_features(pets):
    found = ranking(pets, VIT, racing=False)
    features = nct.extract("test_vit", pets, random_init=True, img_size=32)
    alone = nct.rank_features({"test": features}, 2, targets=())
    one = next(one for one in found.candidates if one.name.startswith("test_vit"))
    assert one.place.accuracy == pytest.approx(alone.best.place.accuracy, abs=0.02)  # it shares its draws with others
    assert one.place.interval == alone.best.place.interval


def test_layers_are_candidates(pets):
    found = ranking(pets, [BackboneRequest("test_vit", random_init=True, img_size=32, layers="0,1")], racing=False)
    names = [one.name for one in found.candidates if one.status != "control"]
    assert sum("layer" in name for name in names) == 2
    assert len(names) == 3


def test_a_candidate_without_weights_is_not_run(pets):
    found = ranking(pets, [VIT, "resnet18", "resnet34"])
    absent = next(one for one in found.candidates if one.name == "resnet18")
    assert (absent.status, absent.place) == ("not run", None)
    assert "offline" in absent.reason
    assert absent in found.candidates[-2:]
    assert [row[0] for row in rank_sheets(found)[-2].rows] == ["resnet18", "resnet34"]


@pytest.mark.parametrize("after", [0, 20])
def test_a_candidate_that_fails_is_a_row(pets, monkeypatch, after):
    run, seen = Backbone.__call__, {"images": 0}

    def failing(self, pixels):
        if self.key.model == "test_vit":
            seen["images"] += len(pixels)
            if seen["images"] > after:
                raise RuntimeError("the kernel is lost")
        return run(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", failing)
    found = ranking(pets, racing=False, batch_size=16)
    row = next(one for one in found.candidates if one.name.startswith("test_vit"))
    assert row.status == "failed"
    assert "the kernel is lost" in row.reason
    assert sum(one.has_run for one in found.candidates) == 3


def test_a_candidate_without_finite_features_is_a_row(pets, tmp_path):
    from safetensors.torch import save_file

    state = state_of("test_vit")
    name = next(name for name in state if name.endswith("norm.weight"))
    save_file(state | {name: state[name] * float("nan")}, tmp_path / "diverged.safetensors")
    found = ranking(pets, [MLP, BackboneRequest("test_vit", checkpoint=tmp_path / "diverged.safetensors", img_size=32)])
    row = next(one for one in found.candidates if one.status == "failed")
    assert "NaN" in row.reason
    assert row.to_dict().items() >= {"reason": row.reason, "hint": row.hint}.items()


def test_broken_images_end_the_ranking(pets):
    (pets / "zero" / "broken.png").write_bytes(b"no image")
    with pytest.raises(BrokenImagesError):
        ranking(pets, racing=False)
    found = ranking(pets, racing=False, skip_broken=True)
    assert found.candidates[0].has_run
    assert found.images == IMAGES
    assert "1 image" in found.warnings[0]


def test_broken_images_that_leave_too_few_end_the_ranking(pets):
    for number in range(EACH - 2):
        (pets / "zero" / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(EpisodeError, match="zero"):
        ranking(pets, racing=False, skip_broken=True)


def test_no_such_model(pets):
    with pytest.raises(ModelError):
        ranking(pets, ["resnet81"])


def test_time_that_is_spent(pets):
    found = ranking(pets, budget=1e-9)
    assert not any(one.has_run for one in found.candidates)
    assert {one.status for one in found.candidates} == {"not run"}
    assert not found.is_complete
    with pytest.raises(SettingError):
        ranking(pets, budget=-1.0)


# The command line

NAMED = ("--model", "test_vit --random-init --img-size 32", "--model", "test_resnet --random-init --img-size 32")


def test_the_command_prints_a_row_per_candidate_and_a_sentence(pets):
    result = done("rank", "--data", pets, *NAMED, "--shots", 2, "--target", "80%", COLUMNS="160")
    ranking_table, backbone_table = tables(result.stdout)[:2]
    assert len(ranking_table) == len(backbone_table) == 1 + 4
    assert shows(result.stdout, "What to take", "pixels 16×16")
    assert shows(result.stderr, "round 1 of 2", "still in")


def test_json_of_the_command(pets):
    found = data_of("rank", "--data", pets, *NAMED, "--shots", 2, "--no-race", "--target", "80%,0.95")
    assert found["data"] == {"name": str(pets), "classes": 3, "images": IMAGES}
    assert {one["name"] for one in found["candidates"]} >= CONTROLS
    best = next(one for one in found["candidates"] if one["status"] != "control")
    assert best["labels_needed"].keys() == {"0.8", "0.95"}
    assert found["provenance"]["command"].startswith("nctransfer rank")


def test_shots_fit_the_smallest_class_unless_they_are_given(tmp_path):
    write_digits(tmp_path / "few", CLASSES, 4)
    assert data_of("rank", "--data", tmp_path / "few", *NAMED[:2], "--no-race")["task"]["shots"] == 3
    error = refusal("rank", "--data", tmp_path / "few", *NAMED[:2], "--shots", 5)
    error.expect("EpisodeError", 5, tells="shots")


def test_stored_sets_are_ranked(pets):
    for model in ("test_vit", "test_resnet"):
        done("extract", "--data", pets, "--model", model, "--random-init", "--img-size", 32)
    found = data_of("rank", "test_vit", "test_resnet", "--shots", 2, "--target", "50%")
    assert {one["name"] for one in found["candidates"]} == {"test_vit", "test_resnet"}
    assert all(one["images_per_second"] > 0 for one in found["candidates"])
    assert all(one["speed"]["is_earlier"] for one in found["candidates"])
    assert all(one["parameters"] > 0 for one in found["candidates"])
    with_controls = data_of("rank", "test_vit", "--shots", 2, "--data", pets)
    assert {one["name"] for one in with_controls["candidates"]} == {"test_vit", *CONTROLS}
    for option in (("--budget", "1m"), ("--no-race",), ("--model", "test_vit")):
        refusal("rank", "test_vit", *option).expect("SettingError", option[0], hint=option[0])


def test_files_of_features_are_ranked(tmp_path, three):
    for name, one in three.items():
        np.savez(tmp_path / f"{name}.npz", feature=one.features.numpy(), label=[one.classes[i] for i in one.labels])
    found = data_of("rank", *(tmp_path / f"{name}.npz" for name in three), "--scores")
    assert len(found["candidates"]) == 3
    assert found["correlations"]


def test_help_does_not_promise_the_set_used_last():
    assert "last" not in done("rank", "--help", COLUMNS="200").stdout.split("Options")[0]


def test_a_folder_of_images_is_no_feature_set(pets):
    refusal("rank", pets).expect("FeaturesError", pets, hint=("--data", pets))


def test_list_runs_nothing(ran):
    shown = done("rank", "--list", *NAMED, "--format", "csv").stdout
    assert shows(shown, "test_vit --random-init", *CONTROLS)
    assert ran() == 0
    refusal("rank", "--list", "some.npz").expect("SettingError", "some.npz")
    refusal("rank", "--list", *NAMED, "--figure", "a.svg").expect("SettingError", "--figure")


@pytest.mark.slow
def test_the_list_of_usual_candidates():
    found = data_of("rank", "--list", "--offline")
    assert len(found["candidates"]) > 20
    assert all(one["parameters"] is not None for one in found["candidates"])


def test_candidates_of_a_file(pets, tmp_path):
    file = tmp_path / "candidates.txt"
    file.write_text("# small ones\ntest_vit --random-init --img-size 32\n\ntest_resnet --random-init --img-size 32\n")
    found = data_of("rank", "--data", pets, "--models", file, "--shots", 2)
    assert len(found["candidates"]) == 4
    file.write_text("test_vit --random-init\nresnet81\n")
    assert shows(refused("rank", "--data", pets, "--models", file), "line 2", "resnet81")


def test_a_candidate_that_is_named_twice_runs_once(pets):
    result = done("rank", "--data", pets, *NAMED[:2], *NAMED[:2], "--shots", 2, "--format", "json")
    assert len(json.loads(result.stdout)["candidates"]) == 3
    assert warned(result, "twice")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--budget", "soon"),
        ("--budget", "-3m"),
        ("--target", "150%"),
        ("--target", "most"),
        ("--shots", "0"),
        ("--shots", "few"),
        ("--ridge-lambda", "x"),
    ],
)
def test_wrong_values_are_misuse(pets, option, value):
    assert option in misused("rank", "--data", pets, *NAMED, option, value)


def test_wrong_names_are_refused(pets):
    refusal("rank", "--data", pets, *NAMED, "--classifier", "rigde").expect("SettingError", "rigde", tells="ridge")
    refusal("rank", "--data", pets, *NAMED, "--classifier", "all").expect("SettingError", hint="--classifier")
    refusal("rank", "--data", pets, "--model", "test_vit --imgsize 3").expect("SettingError", "test_vit --imgsize 3")
    refusal("rank", "--data", pets, *NAMED, "--feature-column", "x").expect("SettingError", "--feature-column")


def test_a_figure(pets, tmp_path):
    done("rank", "--data", pets, *NAMED, "--shots", 2, "--figure", tmp_path / "rank.svg")
    assert "test_vit" in (tmp_path / "rank.svg").read_text()


@pytest.mark.slow
def test_a_killed_race_goes_on_where_it_was(pets, run):
    command = ("rank", "--data", pets, *NAMED, "--shots", "2", "--format", "json", "--batch-size", "4")

    killed = []

    def kill(screen, process):
        if b"still in" in screen and not killed:
            killed.append(process.kill())

    code, screen = on_terminal(*command, react=kill, halts_after=100)  # of 168: the first round took 96
    assert killed, screen
    assert code != 0
    found = json.loads(run(*command).stdout)
    fresh = json.loads(run(*command, "--cache-dir", pets.parent / "fresh").stdout)
    numbers = [
        [(one["name"], one["accuracy"], one["interval"]) for one in result["candidates"]] for result in (found, fresh)
    ]
    assert numbers[0] == numbers[1]
