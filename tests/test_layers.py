"""Layers as few-shot candidates: joined, chosen inside the support, and the bias of the best in hindsight."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import nctransfer as nct
from nctransfer.backbones.request import BackboneRequest
from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.leaving_one_out import left_out_scores, squared_residuals
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.errors import SettingError
from nctransfer.evaluation.layer_candidates import MEAN_OF_ALL, join_features, layer_candidates, layer_sets
from nctransfer.evaluation.layer_episodes import choose
from nctransfer.evaluation.layer_results import CHOSEN, FewShotLayers
from nctransfer.evaluation.selection_bias import SPLITS, parts_of, selection_bias
from nctransfer.evaluation.spread import spread_of
from nctransfer.figures.choice_figure import choice_figure
from nctransfer.report.layer_sheets import layer_sheets
from terminal import VIT, data_of, done, missing, misused, refusal, shows

TASK: dict[str, Any] = {"queries": 5, "episodes": 60, "device": "cpu", "precision": 0, "theory": False}
SETTINGS = ClassifierSettings(shots=2)


def layers(classes: int = 9, each: int = 14, *, seed: int = 0) -> dict[str, nct.FeatureSet]:
    """Three layers of different widths and lengths; the middle one is the best."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"c{number}" for number in range(classes)], each)
    found = {}
    for name, width, spread, length in (("layer_0", 5, 1.6, 0.1), ("layer_1", 20, 1.0, 7.0), ("feature", 11, 1.3, 1.0)):
        centres = np.repeat(rng.normal(size=(classes, width)), each, axis=0)
        x = (centres + spread * rng.normal(size=centres.shape) + 2) * length
        found[name] = nct.FeatureSet.from_arrays(x, labels)
    return found


@pytest.fixture(scope="module")
def found() -> FewShotLayers:
    return nct.fewshot_layers(layers(), 4, (1, 2, 4), classifiers=("ridge", "ncc"), **TASK)


# Inside the support


def supports(ways: int, shots: int, width: int = 12) -> torch.Tensor:
    """Three supports that are no origin's: ``(3, w s, d)``."""
    generator = torch.Generator().manual_seed(ways)
    centres = torch.randn(3, ways, 1, width, generator=generator)
    x = centres + torch.randn(3, ways, shots, width, generator=generator) + 1
    return x.flatten(1, 2).double()


@pytest.mark.parametrize("name", [name for name, one in CLASSIFIERS.items() if not one.is_transductive])
@pytest.mark.parametrize(("ways", "shots"), [(2, 2), (5, 3), (3, 6)])
def test_left_out_scores_are_those_of_a_fit_to_the_other_examples(name: str, ways: int, shots: int) -> None:
    x = supports(ways, shots)
    scores = left_out_scores(CLASSIFIERS[name], Products.of(x, x, ways), SETTINGS)
    assert scores.shape == (3, ways, shots, ways)
    number = torch.arange(ways * shots).view(ways, shots)
    for left_out in range(shots):
        kept = number[:, [k for k in range(shots) if k != left_out]].flatten()
        out = number[:, left_out]
        expected = CLASSIFIERS[name].scores(Products.of(x[:, kept], x[:, out], ways), SETTINGS)
        if name == "ridge":  # whose penalty is that of the whole support, see the next test
            assert torch.allclose(scores[:, :, left_out].argmax(2), expected.argmax(2))
            continue
        centred = [one.double() - one.double().mean(dim=2, keepdim=True) for one in (scores[:, :, left_out], expected)]
        assert torch.allclose(*centred, atol=1e-6)


@pytest.mark.parametrize(("ways", "shots"), [(2, 2), (5, 4)])
def test_left_out_scores_of_ridge_are_those_of_scikit_learn(ways: int, shots: int) -> None:
    from sklearn.linear_model import Ridge

    x = supports(ways, shots)
    found = left_out_scores(CLASSIFIERS["ridge"], Products.of(x, x, ways), SETTINGS)
    labels, targets = np.arange(ways * shots), np.eye(ways).repeat(shots, axis=0)
    for episode, rows in enumerate(x.numpy()):
        penalty = SETTINGS.ridge_lambda * ((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()
        for left_out in range(shots):
            out = labels % shots == left_out
            model = Ridge(alpha=penalty).fit(rows[~out], targets[~out])
            expected = model.predict(rows[out]) - 1 / ways
            assert np.allclose(found[episode, :, left_out].numpy(), expected, atol=1e-6)


def test_a_penalty_chosen_in_each_episode_is_chosen_without_the_left_out_examples() -> None:
    x = supports(3, 4)
    settings = ClassifierSettings(shots=4, ridge_lambda="loo")
    scores = left_out_scores(CLASSIFIERS["ridge"], Products.of(x, x, 3), settings)
    kept = [place for place in range(12) if place % 4 != 2]
    expected = CLASSIFIERS["ridge"].scores(Products.of(x[:, kept], x[:, 2::4], 3), settings)
    assert torch.allclose(scores[:, :, 2], expected.double(), atol=1e-6)


def test_residuals_are_of_the_best_factor() -> None:
    scores = torch.randn(2, 3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scores += 3 * torch.eye(3)[:, None]
    found = squared_residuals(scores)
    labels = (np.eye(3) - 1 / 3).repeat(4, axis=0)
    for episode, one in enumerate(scores.numpy()):
        s = one.reshape(12, 3) - one.reshape(12, 3).mean(axis=1, keepdims=True)
        [factor], *_ = np.linalg.lstsq(s.reshape(-1, 1), labels.reshape(-1), rcond=None)
        assert np.allclose(found[episode].numpy(), ((factor * s - labels) ** 2).sum(axis=1))
    assert torch.allclose(squared_residuals(1e-9 * scores + 5), found)


def test_the_default_is_left_only_for_a_candidate_that_is_better_by_a_standard_error() -> None:
    residuals = np.random.default_rng(0).exponential(size=(4, 300, 8)) * np.array([1, 0.7, 0.9, 1])[:, None, None]
    found = choose(torch.from_numpy(residuals), 2)
    for episode in range(300):
        lows = {2: 0.0}
        for candidate in (0, 1, 3):
            gain = residuals[2, episode] - residuals[candidate, episode]
            lows[candidate] = gain.mean() - gain.std(ddof=1) / np.sqrt(8)
        assert int(found[episode]) == max(lows, key=lambda one: lows[one])
    assert {0, 1, 2, 3} == set(found.tolist())
    assert choose(torch.ones(3, 5, 4), 1).tolist() == [1] * 5  # of equals the default


# All candidates on the same episodes


def test_each_layer_has_the_accuracies_that_it_has_by_itself(found: FewShotLayers) -> None:
    for name, features in layers().items():
        alone = nct.fewshot(features, 4, (1, 2, 4), classifiers=("ridge", "ncc"), **TASK)
        for key, values in alone.accuracies.items():
            assert torch.equal(found.results[name].accuracies[key], values)


@pytest.mark.parametrize("classifier", ["ridge", "ncc", "cosine", "simpleshot", "knn"])
def test_a_join_has_the_accuracies_of_features_side_by_side(classifier: str) -> None:
    sets = layers()
    found = nct.fewshot_layers(sets, 4, 3, joins=[2], classifiers=classifier, **TASK)
    for name, parts in (("last 2", ["layer_1", "feature"]), (MEAN_OF_ALL, list(sets))):
        together = join_features({part: sets[part] for part in parts})
        alone = nct.fewshot(together, 4, 3, classifiers=classifier, **TASK)
        key = (4, 3, classifier)
        assert torch.allclose(found.results[name].accuracies[key], alone.accuracies[key], atol=1e-12)


def test_joined_layers_have_the_same_say_and_the_length_of_the_output() -> None:
    sets = layers()
    joined = join_features(sets).features.double()
    joined -= joined.mean(dim=0)
    squares = [part.square().sum(dim=1).mean() for part in joined.split([one.dim for one in sets.values()], dim=1)]
    output = sets["feature"].features.double()
    length = (output - output.mean(dim=0)).square().sum(dim=1).mean()
    assert np.allclose(squares, float(length) / 3)


def test_the_chosen_candidate_depends_on_the_support_alone() -> None:
    sets, spec = layers(), EpisodeSpec(3, 3, 4, 0)
    [batch] = sample(sets["feature"], spec, 2)
    support = set(batch.support.flatten().tolist())
    others = [row for row in range(len(sets["feature"])) if row not in support]
    changed = {}
    for name, one in sets.items():
        rows = one.features.clone()
        rows[others] = rows[others][torch.randperm(len(others), generator=torch.Generator().manual_seed(3))]
        changed[name] = dataclasses.replace(one, features=rows)
    settings = TASK | {"queries": 4, "episodes": 2, "classifiers": "ncc", "joins": None}
    before, after = (nct.fewshot_layers(one, 3, 3, **settings) for one in (sets, changed))
    assert before.choices[0].chosen_shares == after.choices[0].chosen_shares
    assert not torch.equal(*(one.results["feature"].accuracies[3, 3, "ncc"] for one in (before, after)))


def test_the_chosen_row_takes_the_accuracy_of_the_candidate_that_was_chosen(found: FewShotLayers) -> None:
    for choice in found.choices:
        key = (choice.ways, choice.shots, choice.classifier)
        every = torch.stack([found.results[one.name].accuracies[key] for one in found.candidates])
        chosen = found.results[CHOSEN].accuracies[key]
        assert bool(((every == chosen).any(dim=0)).all())
        assert sum(choice.chosen_shares.values()) == pytest.approx(1)
        assert choice.chosen_accuracy == float(chosen.mean())
        assert choice.gain == pytest.approx(choice.chosen_accuracy - choice.default_accuracy)


def test_with_one_shot_nothing_is_chosen(found: FewShotLayers) -> None:
    one, *others = [choice for choice in found.choices if choice.classifier == "ncc"]
    assert not one.is_chosen
    assert one.chosen_accuracy == one.default_accuracy
    assert one.chosen_shares == {"feature": 1.0}
    assert all(choice.is_chosen for choice in others)


def test_a_penalty_by_leave_one_out_needs_one_more_shot() -> None:
    found = nct.fewshot_layers(layers(), 3, (2, 3), classifiers="ridge", ridge_lambda="loo", **TASK)
    assert [one.is_chosen for one in found.choices] == [False, True]


def test_the_best_in_hindsight_is_the_most_accurate_and_the_guides_name_single_layers(found: FewShotLayers) -> None:
    for number, choice in enumerate(found.choices):
        means = {one.name: found.results[one.name].rows[number].accuracy for one in found.candidates}
        assert choice.best_accuracy == max(means.values()) == means[choice.best]
        assert choice.possible_bests is not None
        assert choice.best in choice.possible_bests
        single = {name: means[name] for name in layers()}
        for guide in choice.guides:
            assert guide.layer in single
            assert guide.loss == pytest.approx(max(single.values()) - means[guide.layer])
        nc1 = next(one for one in choice.guides if one.measure == "nc1")
        assert nc1.layer == min(layers(), key=lambda name: nct.collapse(layers()[name]).metrics["nc1"] or 0)


def test_a_layer_that_is_the_output_itself_is_left_out() -> None:
    sets = layers()
    sets = {**{name: sets[name] for name in ("layer_0", "layer_1")}, "layer_2": sets["feature"], **sets}
    sets["feature"] = sets.pop("feature")
    found = nct.fewshot_layers(sets, 3, 2, classifiers="ncc", **TASK)
    assert dict(found.copies) == {"layer_2": "feature"}
    assert [one.name for one in found.candidates] == ["layer_0", "layer_1", "feature", "last 2", MEAN_OF_ALL]


def test_of_all_classes_verdicts_are_about_other_images() -> None:
    sets = layers(4, 30)
    found = nct.fewshot_layers(sets, "all", 3, classifiers="ncc", **(TASK | {"episodes": 300}))
    [choice] = found.choices
    assert choice.population == "samples"
    assert choice.gain_interval is not None
    assert choice.bias_interval is not None
    alone = nct.compare_fewshot(sets, "all", 3, classifiers="ncc", **(TASK | {"episodes": 300}))
    for name in sets:
        ours, theirs = (one.left_out[4, 3, "ncc"] for one in (found.results[name], alone.results[name]))
        assert torch.allclose(ours, theirs)


# Selection bias


def test_the_selection_bias_is_that_of_halves_over_the_root_of_two() -> None:
    parts = np.random.default_rng(2).normal(size=(9, 4))

    def bias(rows: list[int]) -> float:
        generator = np.random.default_rng(0)
        total = 0.0
        for order in generator.random((SPLITS, 9)):
            first = set(np.argsort(order)[:0].tolist()) | {c for c in range(9) if np.argsort(order).tolist()[c] < 4}
            halves = [[c for c in rows if c in first], [c for c in rows if c not in first]]
            for here, there in (halves, halves[::-1]):
                chosen = parts[here].mean(axis=0).argmax()
                total += parts[here, chosen].mean() - parts[there, chosen].mean()
        return total / SPLITS / 2 / np.sqrt(2)

    found = selection_bias(torch.from_numpy(parts))
    assert found.value == pytest.approx(bias(list(range(9))))
    without = np.array([bias([c for c in range(9) if c != out]) for out in range(9)])
    error = np.sqrt(8 / 9 * ((without - without.mean()) ** 2).sum())
    assert found.high - found.value == pytest.approx(2.306004 * error, rel=1e-5)
    moved = selection_bias(torch.from_numpy(parts[:, ::-1].copy() + np.arange(9)[:, None]))
    assert moved.value == pytest.approx(found.value)


def test_parts_average_to_the_estimates_and_have_their_variance(found: FewShotLayers) -> None:
    key = (4, 2, "ncc")
    results = [found.results[one.name] for one in found.candidates]
    spread = spread_of(results, key, "classes")
    means = torch.stack([one.accuracies[key].mean() for one in results])
    parts = parts_of(means, spread, 9)
    assert torch.allclose(parts.mean(dim=0), means)
    assert torch.allclose(parts.std(dim=0) / 3, spread.errors())
    values, drawn = results[1].accuracies[key], results[1].drawn[4]
    without = torch.stack([values[(drawn != c).all(dim=1)].mean() for c in range(9)])
    assert torch.allclose(parts[:, 1] - means[1], 8 * (without.mean() - without))


# What is refused, and what is shown


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"interval": "disjoint"}, "share no image"),
        ({"joins": [1]}, "last 1"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        nct.fewshot_layers(layers(), 3, 2, **settings)


def test_one_layer_is_no_choice() -> None:
    with pytest.raises(SettingError, match="at least two"):
        layer_candidates(["feature"])


def test_json_table_and_figure_hold_the_result(found: FewShotLayers) -> None:
    data = json.loads(json.dumps(found.to_dict()))
    assert data["leaks"] == found.leaks.to_dict()
    assert [one["name"] for one in data["candidates"]] == [one.name for one in found.candidates]
    assert len(data["results"]) == (len(found.candidates) + 1) * 6
    assert len(data["choices"]) == 6
    frame = found.to_frame()
    assert set(frame["candidate"]) == {*(one.name for one in found.candidates), CHOSEN}
    assert len(found.episodes_table()) == len(frame) * 60
    first, choices, guides = layer_sheets(found)
    assert [row[0] for row in first.rows][-1] == CHOSEN
    assert len(choices.rows) == len(guides.rows) == 6
    figure = choice_figure(found)
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes[:2]] == ["ridge", "ncc"]


# The command line


@pytest.fixture
def stored(pets: Path, cache: Path) -> str:
    return str(data_of("extract", *VIT, "--data", pets, "--layers", "0,1")["id"])


FEW = ("--ways", "2", "--shots", "1,2", "--queries", "3", "--episodes", "40", "--classifier", "ncc")


@pytest.mark.parametrize(
    ("asked", "concat", "names"),
    [
        ("all", (), ["layer_0", "layer_1", "feature", "last 2", MEAN_OF_ALL]),
        ("last-1", ("--concat", "none"), ["layer_1", "feature"]),
        ("0", ("--concat", "2"), ["layer_0", "feature", MEAN_OF_ALL]),
    ],
)
def test_the_command_measures_the_layers_that_are_named(
    asked: str, concat: tuple[str, ...], names: list[str], stored: str
) -> None:
    data = data_of("fewshot", stored, "--layers", asked, *concat, *FEW)
    assert [one["name"] for one in data["candidates"]] == names
    single = [name for name in names if name.startswith("layer_") or name == "feature"]
    sets = {name: nct.FeatureStore().find(stored).read(column=name) for name in single}
    joins = None if concat == ("--concat", "none") else [2, 3]
    settings = {"queries": 3, "episodes": 40, "classifiers": "ncc", "device": "cpu"}
    expected = nct.fewshot_layers(sets, 2, (1, 2), joins=joins, **settings)
    assert [one["accuracy"] for one in data["results"]] == pytest.approx(list(expected.to_frame()["accuracy"]))


def test_layers_are_extracted_if_need_be(pets: Path, cache: Path) -> None:
    shown = done("fewshot", *VIT, "--data", pets, "--layers", "0", *FEW).stdout
    assert missing(shown, "layer_0", "feature", CHOSEN, "nc1") == []
    assert nct.FeatureStore().sets()[0].manifest().columns.keys() == {"layer_0", "feature"}


def test_files_are_written(stored: str, tmp_path: Path) -> None:
    done(
        "fewshot",
        stored,
        "--layers",
        "all",
        *FEW,
        "--save-episodes",
        tmp_path / "e.parquet",
        "--figure",
        tmp_path / "f.svg",
    )
    assert set(pd.read_parquet(tmp_path / "e.parquet")["candidate"]) >= {"layer_0", "feature", CHOSEN}
    assert "<svg" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize(
    ("options", "option"),
    [
        (("--query-split", "test"), "--query-split"),
        (("--center-on", "x"), "--center-on"),
        (("--confusions", "3"), "--confusions"),
        (("--interval", "disjoint"), "--interval"),
        (("--no-theory",), "--no-theory"),
        (("--probe",), "--probe"),
        (("--query-prior", "dirichlet:2"), "--query-prior"),
    ],
)
def test_options_that_do_not_go_with_layers_are_wrong(options: tuple[str, ...], option: str, stored: str) -> None:
    error = refusal("fewshot", stored, "--layers", "all", *FEW, *options)
    assert (error.type, option in error.message + error.hint) == ("SettingError", True)


def test_joins_without_layers_and_several_sets_are_wrong(stored: str) -> None:
    assert "--layers" in refusal("fewshot", stored, *FEW, "--concat", "2").message
    assert "--layers" in refusal("fewshot", stored, stored, *FEW, "--layers", "all").message
    assert shows(misused("fewshot", stored, *FEW, "--layers", "all", "--concat", "1"), "--concat")
    error = refusal("fewshot", stored, *FEW, "--layers", "all", "--concat", "2,99")
    assert (error.type, missing(error.message, 99, 3)) == ("SettingError", [])


@pytest.mark.parametrize("options", [("--interval", "disjoint"), ("--query-prior", "empirical")])
def test_wrong_tasks_are_refused_before_anything_is_read(options: tuple[str, ...]) -> None:
    assert refusal("fewshot", "no-such-set", "--layers", "all", *FEW, *options).type == "SettingError"


def test_what_is_missing_is_said_once(pets: Path, cache: Path) -> None:
    stored = data_of("extract", *VIT, "--data", pets, "--layers", "0,1", "--shard", "1/2", "--batch-size", "1")["id"]
    task = ("--ways", "2", "--shots", "1", "--queries", "1", "--episodes", "9", "--classifier", "ncc")
    result = done("fewshot", stored, "--layers", "all", *task, "--partial")
    assert result.stderr.count("wanted images are stored") == 1
    assert done("collapse", stored, "--layers", "all", "--partial").stderr.count("wanted images are stored") == 1


# In a ranking


def test_layers_and_joins_of_stored_sets_are_ranked(stored: str) -> None:
    data = data_of("rank", stored, "--layers", "all", "--concat", "2", "--shots", "2")
    names = ["test_vit", "test_vit last 2", "test_vit layer_0", "test_vit layer_1", "test_vit mean of all"]
    assert sorted(one["name"] for one in data["candidates"]) == names
    sets = layer_sets({name: nct.FeatureStore().find(stored).read(column=name) for name in COLUMNS}, [2])
    alone = nct.rank_features(sets, 2)
    expected = {_shown(one.name): one for one in alone.candidates}
    for one in data["candidates"]:
        assert one["accuracy"] == expected[one["name"]].to_dict()["accuracy"]
        assert one["is_possible_best"] == expected[one["name"]].is_possible_best
    widths = {one["name"]: one["width"] for one in data["candidates"]}
    assert widths["test_vit last 2"] == widths["test_vit layer_1"] + widths["test_vit"]


COLUMNS = ("layer_0", "layer_1", "feature")


def test_costs_of_an_inner_layer_are_said_to_be_those_of_its_backbone(stored: str, pets: Path) -> None:
    named = ("rank", "--data", pets, "--model", "test_vit --random-init --layers 1", "--list")
    for command in (("rank", stored, "--shots", "2", "--layers", "1"), named):
        assert shows(" ".join(done(*command).stdout.split()), "those of the whole backbone", "such as layer_1")
    assert "whole backbone" not in done("rank", stored, "--shots", "2").stdout
    found = data_of("rank", stored, "--shots", "2", "--layers", "1", "--concat", "2")
    columns = {one["name"]: one["column"] for one in found["candidates"]}
    assert columns == {"test_vit": "feature", "test_vit layer_1": "layer_1", "test_vit mean of all": MEAN_OF_ALL}


def _shown(layer: str) -> str:
    return "test_vit" if layer == "feature" else f"test_vit {layer}"


def test_backbones_that_run_have_joins_as_candidates(pets: Path, cache: Path) -> None:
    request = BackboneRequest("test_vit", random_init=True, layers="0,1", img_size=32)
    found = nct.rank_backbones(pets, request, joins=[2], shots=2, racing=False, device="cpu", offline=True)
    rows = {one.name: one for one in found.candidates if one.status != "control"}
    assert len(rows) == 5
    features = {name: nct.FeatureStore().resolve(one.features) for name, one in rows.items() if one.features}
    stored = features["test_vit --random-init"]
    assert stored is not None
    sets = layer_sets({name: stored.read(column=name) for name in COLUMNS}, [2])
    for layer in ("last 2", MEAN_OF_ALL):
        alone = nct.rank_features({layer: sets[layer]}, 2).best
        row = rows[f"test_vit {layer} --random-init"]
        assert alone is not None
        assert row.place is not None
        assert alone.place is not None
        assert row.place.interval == alone.place.interval
        assert row.facts.width == sets[layer].dim


def test_layers_of_the_whole_command_are_those_of_each_candidate(pets: Path, cache: Path) -> None:
    listed = data_of("rank", "--data", pets, "--model", "test_vit --random-init", "--layers", "last-1", "--list")
    names = [one["column"] for one in listed["candidates"] if not one["is_control"]]
    assert names == ["layer_5", "feature", MEAN_OF_ALL]
    without = data_of("rank", "--data", pets, "--model", "test_vit --random-init --layers last-1", "--list")
    assert [one["column"] for one in without["candidates"] if not one["is_control"]] == ["layer_5", "feature"]


def test_joins_of_a_ranking_need_layers(pets: Path, stored: str) -> None:
    for command in (("rank", stored), ("rank", "--data", pets, "--model", "test_vit --random-init")):
        error = refusal(*command, "--concat", "2")
        assert (error.type, "--layers" in error.hint) == ("SettingError", True)
