"""``nctransfer collapse``: sets, samples and layers side by side, heads, pairs, and what does not go together."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import nctransfer as nct
from conftest import Run, write_digits
from nctransfer.backbones.backbone import Backbone
from nctransfer.cli.collapse import _notes
from nctransfer.cli.set_names import short_name
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import CollapseReport
from nctransfer.neural_collapse.comparisons import compare_layers, compare_samples, compare_sets
from nctransfer.neural_collapse.linear_head import LinearHead
from nctransfer.neural_collapse.numbered_note import NumberedNote, one_note
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.store.heads import save_head
from terminal import (
    VIT,
    data_of,
    done,
    known,
    missing,
    misused,
    noted,
    refusal,
    refused,
    shows,
    tables,
    warned,
    warnings_of,
)

MEANS = np.tile(np.random.default_rng(0).normal(size=(26, 8)), 8)
PETS = {"zero": 0, "one": 1, "two": 2, "three": 3}
USUAL = [name for name, measure in MEASURES.items() if measure.is_usual]


def npz(path: Path, classes: str = "abcdef", each: int = 25, *, seed: int = 0, spread: float = 1.0, d: int = 8) -> Path:
    """Features made elsewhere: classes that overlap."""
    codes = np.repeat(range(len(classes)), each)
    x = MEANS[codes, :d] * 1.5 + spread * np.random.default_rng(seed).normal(size=(len(codes), d)) + 2
    np.savez(path, feature=x.astype("float32"), label=np.array([*classes])[codes])
    return path


def lines(path: Path, names: Iterable[str]) -> Path:
    path.write_text("\n".join(names), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def one(root: Path) -> Path:
    return npz(root / "one.npz")


@pytest.fixture(scope="module")
def other(root: Path) -> Path:
    return npz(root / "other.npz", seed=1, spread=2)


@pytest.fixture(scope="module")
def target(root: Path) -> Path:
    return npz(root / "target.npz", "xyz", seed=2, spread=1.5)


@pytest.fixture(scope="module")
def extracted(root: Path) -> tuple[Path, Path, str]:
    """Images, a cache that holds two layers of them, and their id."""
    data, cache = write_digits(root / "pets", PETS, 12), root / "cache"
    found = data_of("extract", *VIT, "--data", data, "--layers", "0,1", "--cache-dir", cache)
    return data, cache, found["id"]


@pytest.fixture
def stored(extracted: tuple[Path, Path, str], cache: Path) -> str:
    """The id of the stored set, which lies in this test's cache."""
    shutil.copytree(extracted[1], cache)
    return extracted[2]


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """What the 1,000 classes of the head are called: the pets in an order of their own."""
    return lines(tmp_path / "names.txt", [*(f"class {i}" for i in range(996)), "two", "three", "zero", "one"])


def assert_same(found: dict[str, Any], report: CollapseReport) -> None:
    """The measures that a command gave are those of a report."""
    assert found["metrics"].keys() == report.metrics.keys()
    assert known(found) == pytest.approx(known(report.to_dict()), rel=1e-5)
    assert found["undefined"] == report.undefined


def names_of(table: list[list[str]]) -> list[str]:
    """The first words of the rows of a table."""
    return [row[0] for row in table[1:]]


# One set


def test_more_is_shown_if_asked_for(one: Path) -> None:
    measures, pairs = tables(done("collapse", one).stdout)
    assert names_of(measures) == USUAL
    assert len(pairs[1:]) == 5
    shown = done("collapse", one, "--all").stdout
    every, *others = tables(shown)
    assert names_of(every) == list(MEASURES)
    assert [len(table[1:]) for table in others] == [5, 5, 5]  # closest in two ways; and the widest classes
    assert set(names_of(others[2])) < set("abcdef")
    undefined = data_of("collapse", one)["undefined"]
    assert {"self_duality", "ncc_agreement"} <= undefined.keys()
    assert shows(" ".join(shown.split()), *undefined, *undefined.values())  # why they have no value


@pytest.mark.parametrize("options", [(), ("--all",), ("--layers", "all"), ("--fit-head", "ridge")])
def test_what_is_shown_is_explained(options: tuple[str, ...], stored: str) -> None:
    plain = tables(done("collapse", stored, *options).stdout)
    shown = done("collapse", stored, *options, "--explain").stdout
    *others, measures = tables(shown)
    assert others == plain
    explained = {row[0]: row for row in measures[1:]}
    assert explained["cdnv"][:2] == ["cdnv", "NC1"]
    assert "lower" in explained["cdnv"]
    assert "higher" in explained["ncc_accuracy"]
    if "--layers" in options:
        used = {"cdnv", "ncc_accuracy", "effective_rank", "separation_fuzziness"}
    else:
        used = set(names_of(plain[0]))
    assert used <= explained.keys()
    assert ":func:" not in shown


def of_copies(*arguments: object) -> list[str]:
    """What a command warns of because of samples that are there twice."""
    lines = (line.removeprefix("warning: ") for line in warnings_of(done("collapse", *arguments)))
    return [line for line in lines if "same features as an earlier sample" in line]


def test_what_weakens_every_layer_is_said_once(tmp_path: Path, cache: Path) -> None:
    pets = write_digits(tmp_path / "pets", {"one": 1, "two": 2}, 4)
    image = next((pets / "one").iterdir())
    shutil.copy(image, image.with_name(f"copy{image.suffix}"))
    stored = data_of("extract", *VIT, "--data", pets, "--layers", "0,1", "--cache-dir", cache)["id"]
    [plain] = of_copies(stored)
    assert of_copies(stored, "--layers", "all") == [f"every layer: {plain}"]


def test_what_weakens_some_sets_is_said_with_their_names(one: Path, tmp_path: Path) -> None:
    with np.load(one) as made:
        np.savez(tmp_path / "twice.npz", **{name: np.concatenate([made[name], made[name][:1]]) for name in made})
    twice = tmp_path / "twice.npz"
    [plain] = of_copies(twice)
    assert of_copies(one, twice) == [f"2: {twice.name}: {plain}"]
    assert of_copies(twice, one, twice) == [f"1: {twice.name}, 3: {twice.name}: {plain}"]


def test_notes_with_other_numbers_are_said_once_with_their_range(tmp_path: Path) -> None:
    """Sets of as many samples, with more and more noise: one of them tells all of its classes apart."""
    sets = [npz(tmp_path / f"{seed}.npz", each=5, seed=seed, spread=spread) for seed, spread in enumerate((0.2, 2, 6))]
    reports = [nct.collapse(nct.load_features(path)).to_dict()["notes"] for path in sets]
    shares = [int(re.findall(r"(\d+)% of the squared distance", " ".join(notes))[0]) for notes in reports]
    pairs = [int(one) for notes in reports for one in re.findall(r"not tell (\d+) of 15 pairs", " ".join(notes))]
    assert shares == sorted(set(shares))
    assert pairs == sorted(set(pairs))
    assert len(pairs) == 2
    lines = [line.removeprefix("warning: ") for line in warnings_of(done("collapse", *sets))]
    [noise] = [line for line in lines if "of the squared distance" in line]
    assert noise.startswith(f"every set: 6 classes have fewer than 10 samples, and {shares[0]}% to {shares[2]}% of the")
    [untold] = [line for line in lines if "pairs of classes apart" in line]
    assert f": these samples do not tell {pairs[0]} to {pairs[1]} of 15 pairs of classes apart; cdnv_debiased" in untold


def test_many_layers_of_a_note_are_all_named() -> None:
    """Names that are cut off would leave open whether the output is meant."""
    rows = np.random.default_rng(0).normal(size=(60, 4)) + np.repeat(9 * np.eye(4)[:3], 20, axis=0)
    good, copied = rows.astype("float32"), np.concatenate([rows[:-1], rows[:1]]).astype("float32")
    features = nct.FeatureSet.from_arrays(good, np.repeat(["a", "b", "c"], 20))
    layers = {name: dataclasses.replace(features, features=torch.tensor(copied)) for name in "abcdefg"}
    some = compare_layers({**layers, "feature": features})
    assert [note.partition(":")[0] for note in _notes(some) if "earlier sample" in note] == ["every layer but feature"]
    mixed = compare_layers({**layers, **dict.fromkeys("hijklmno", features)})
    assert [note.partition(":")[0] for note in _notes(mixed) if "earlier" in note] == ["a, b, c, d, e, f, g"]


def test_a_note_with_a_number_survives_a_copy(tmp_path: Path) -> None:
    """Workers hand reports on."""
    notes = nct.collapse(nct.load_features(npz(tmp_path / "noisy.npz", each=5, spread=6))).notes
    again = pickle.loads(pickle.dumps(notes))
    assert again == notes
    assert [one_note([note, note]) for note in again] == list(notes)
    assert any(isinstance(note, NumberedNote) for note in again)


@pytest.mark.parametrize("pairs", ["0", "2", "all"])
def test_pairs(pairs: str, one: Path) -> None:
    number = {"0": 0, "2": 2, "all": 15}[pairs]
    expected = nct.collapse(nct.load_features(one), pairs=None).to_dict()["pairs"][:number]
    assert data_of("collapse", one, "--pairs", pairs)["pairs"] == expected
    _, *closest = tables(done("collapse", one, "--pairs", pairs).stdout)
    assert len(closest) == (number > 0)
    for table in closest:
        assert [row[:3] for row in table[1:]] == [[pair["class_a"], "/", pair["class_b"]] for pair in expected]


@pytest.mark.parametrize("pairs", ["x", "-1", "1.5", "", "1,2"])
def test_no_number_of_pairs(pairs: str, one: Path) -> None:
    assert missing(misused("collapse", one, "--pairs", pairs), "--pairs", pairs) == []


def test_every_pair_is_saved_whatever_is_shown(one: Path, tmp_path: Path) -> None:
    file = tmp_path / "[b].parquet"
    shown = done("collapse", one, "--pairs", 1, "--save-pairs", file).stdout
    assert len(tables(shown)[1][1:]) == 1
    saved = pd.read_parquet(file)
    assert set(saved.pop("set")) == {str(one)}
    assert saved.to_dict("records") == nct.collapse(nct.load_features(one), pairs=None).to_dict()["pairs"]


def test_pairs_of_several_sets_are_saved(one: Path, other: Path, tmp_path: Path) -> None:
    done("collapse", one, other, "--pairs", 0, "--save-pairs", tmp_path / "p.parquet")
    saved = pd.read_parquet(tmp_path / "p.parquet")
    for number, file in enumerate((one, other)):
        features = nct.load_features(file)
        own = saved[saved.set == short_name(features, number)].drop(columns="set")
        assert own.to_dict("records") == nct.collapse(features, pairs=None).to_dict()["pairs"]
    assert len(saved) == 30


@pytest.mark.parametrize("place", ["missing/p.parquet", "."])
def test_where_pairs_cannot_be_saved_is_said_before_the_work(place: str, tmp_path: Path) -> None:
    error = refusal("collapse", tmp_path / "no features", "--save-pairs", tmp_path / place)
    error.expect("NCTransferError", str(tmp_path / place), hint="--save-pairs")


def test_a_disk_that_is_full(one: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    refusal("collapse", one, "--save-pairs", "/dev/full").expect("NCTransferError", "/dev/full", hint="--save-pairs")
    assert Path("/dev/full").is_char_device()  # not deleted as if it were a half-written file


# Several sets


def test_sets_stand_side_by_side(one: Path, stored: str, target: Path) -> None:
    found = data_of("collapse", one, stored, target)
    features = [nct.load_features(name) for name in (one, stored, target)]
    expected = compare_sets({short_name(each, number): each for number, each in enumerate(features)})
    names = list(expected.reports)
    assert [each["name"] for each in found["sets"]] == names
    assert names[1] == "2: test_vit"
    assert (found["ratios"], found["fit"]) == ({}, {})
    for each, report in zip(found["sets"], expected.reports.values(), strict=True):
        assert_same(each, report)
        assert each["features"] == report.features.to_dict()
        assert len(each["pairs"]) == len(report.pairs)

    result = done("collapse", one, stored, target)
    [[_, *rows]] = tables(result.stdout)
    assert [row[0] for row in rows] == USUAL
    for row in rows:
        values = [each["metrics"][row[0]] for each in found["sets"]]
        assert [float(cell) for cell in row[1:4]] == pytest.approx(values, rel=2e-3, abs=1e-4)
    assert any(shows(line, target.name, 75, 3, 8) for line in result.stdout.splitlines())
    assert not warned(result, names[0])
    [every] = tables(done("collapse", one, target, "--all").stdout)
    assert names_of(every) == list(MEASURES)


def test_notes_say_of_which_set_they_are(one: Path, tmp_path: Path) -> None:
    few = npz(tmp_path / "few.npz", each=3)
    result = done("collapse", one, few)
    assert warned(result, 10)  # the images a class from which on measures compare
    assert len(warnings_of(result)) == len(result.stderr.splitlines())
    name = short_name(nct.load_features(few), 1)
    assert [note for note in warnings_of(result) if not shows(note, name)] == []


def test_csv_of_several_sets(one: Path, target: Path) -> None:
    frame = pd.read_csv(io.StringIO(done("collapse", one, target, "--format", "csv").stdout))
    found = data_of("collapse", one, target)["sets"]
    assert list(frame["set"]) == [each["name"] for each in found for _ in MEASURES]
    for each in found:
        own = frame[frame["set"] == each["name"]].set_index("metric")
        for name, value in each["metrics"].items():
            assert own.value[name] == value or (value is None and np.isnan(own.value[name]))


def test_markdown_of_several_sets(one: Path, target: Path) -> None:
    text = done("collapse", one, target, "--explain", "--format", "markdown").stdout
    assert len(re.findall("^### .", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^\|( -{3}:? \|)+$", text, re.MULTILINE)) == 2


def test_a_column_of_every_set(stored: str) -> None:
    found = data_of("collapse", stored, stored, "--feature-column", "layer_0")["sets"]
    assert [each["features"]["layer"] for each in found] == ["layer_0"] * 2
    assert found[0]["metrics"] == data_of("collapse", stored, "--feature-column", "layer_0")["metrics"]


# Three samples


def test_source_and_target(one: Path, other: Path, target: Path) -> None:
    command = ("collapse", target, "--source-train", one, "--source-test", other)
    found = data_of(*command)
    features = [nct.load_features(name) for name in (target, one, other)]
    expected = compare_samples(*features)
    assert [each["name"] for each in found["sets"]] == ["source-train", "source-test", "target"]
    assert [each["features"]["id"] for each in found["sets"]] == [str(one), str(other), str(target)]
    for each in found["sets"]:
        assert_same(each, expected.reports[each["name"]])
    assert list(found["ratios"]) == ["source-test/source-train", "target/source-test"]
    cdnv = [each["metrics"]["cdnv"] for each in found["sets"]]
    assert found["ratios"]["source-test/source-train"]["cdnv"] == cdnv[1] / cdnv[0]
    assert found["ratios"]["target/source-test"]["cdnv"] == cdnv[2] / cdnv[1]
    alone = data_of("collapse", other)["metrics"]
    assert found["sets"][1]["metrics"]["ncc_accuracy"] != alone["ncc_accuracy"]
    assert found["sets"][1]["metrics"]["cdnv"] == alone["cdnv"]

    shown = done(*command).stdout
    [row] = (row for row in tables(shown)[0] if row[0] == "cdnv")
    assert [float(cell) for cell in row[1:6]] == pytest.approx(
        [*cdnv, cdnv[1] / cdnv[0], cdnv[2] / cdnv[1]], rel=1e-3, abs=1e-4
    )
    reading = shown[shown.rindex("\n\n") :]
    assert shows(reading, "ncc_accuracy", "source-test", "source-train")  # whose class centres it uses


def test_pairs_of_the_samples_are_saved(one: Path, other: Path, target: Path, tmp_path: Path) -> None:
    command = ("collapse", target, "--source-train", one, "--source-test", other)
    done(*command, "--save-pairs", tmp_path / "p.parquet")
    sizes = pd.read_parquet(tmp_path / "p.parquet").groupby("set").size()
    assert dict(sizes) == {"source-train": 15, "source-test": 15, "target": 3}


def test_the_target_may_be_extracted_and_the_source_named(
    extracted: tuple[Path, Path, str], stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "__call__", lambda *_: pytest.fail("an image is run again"))
    width = data_of("collapse", stored)["features"]["dim"]
    train, test = (npz(tmp_path / f"{seed}.npz", seed=seed, d=width) for seed in (0, 1))
    command = ("collapse", *VIT, "--data", extracted[0], "--source-train", train, "--source-test", test)
    result = done(*command, "--format", "json")
    assert noted(result, 48)  # images that are in the cache
    found = json.loads(result.stdout)["sets"]
    assert [each["features"]["id"] for each in found] == [str(train), str(test), stored]
    last = data_of("collapse", "--source-train", train, "--source-test", test)["sets"]
    assert last[2]["metrics"] == found[2]["metrics"]


@pytest.mark.parametrize("option", ["--source-train", "--source-test"])
def test_one_sample_of_the_source_alone(option: str, one: Path, target: Path) -> None:
    refusal("collapse", target, option, one).expect("SettingError", "--source-train", "--source-test")


def test_a_source_of_other_classes(one: Path, target: Path) -> None:
    error = refusal("collapse", one, "--source-train", one, "--source-test", target)
    error.expect("FeaturesError", "source-train", "source-test", 9, "a")  # a to f, and x to z


def test_samples_in_order_bring_no_warning(one: Path, other: Path, target: Path) -> None:
    command = ("collapse", target, "--source-train", one, "--source-test", other)
    assert data_of(*command)["warnings"] == []
    assert all(shows(warning, "cdnv_debiased") for warning in warnings_of(done(*command)))  # a pair too close


def test_what_weakens_a_conclusion_is_said_and_in_json(one: Path, other: Path, tmp_path: Path) -> None:
    arrays = [dict(np.load(path)) for path in (one, other)]
    for name in ("feature", "label"):  # 7 images of the training sample among those of the test
        arrays[1][name] = np.concatenate([arrays[1][name], arrays[0][name][:7]])
    np.savez(leaking := tmp_path / "leaking.npz", **arrays[1])
    partly = npz(tmp_path / "partly.npz", "efxy", seed=3)
    command = ("collapse", partly, "--source-train", one, "--source-test", leaking)
    found = data_of(*command)["warnings"]
    assert len(found) == 2
    assert shows(found[0], 7, 157, "source-train", "source-test")
    assert shows(found[1], 2, 4, "'e'", "'f'", "target")
    result = done(*command)
    assert warned(result, 7, 157, "source-test")
    assert warned(result, "'e'", "'f'")


def test_another_backbone_or_the_same_samples(extracted: tuple[Path, Path, str], stored: str, tmp_path: Path) -> None:
    settings = ("--data", extracted[0], "--random-init", "--seed", "1")
    otherwise = data_of("extract", "--model", "test_vit", *settings)["id"]
    smaller = data_of("extract", *VIT, "--data", extracted[0], "--mean", "0.4,0.4,0.4")["id"]
    error = refusal("collapse", stored, "--source-train", smaller, "--source-test", otherwise)
    error.expect("FeaturesError", "source-train", "source-test", "weights", hint="--model")
    error = refusal("collapse", stored, "--source-train", stored, "--source-test", stored)
    error.expect("FeaturesError", "source-train", "source-test", 48)


def test_sets_of_other_images_under_other_backbones(
    extracted: tuple[Path, Path, str], stored: str, tmp_path: Path
) -> None:
    resnet = ("--model", "test_resnet", "--random-init")
    same = data_of("extract", *resnet, "--data", extracted[0])["id"]
    data = write_digits(tmp_path / "others", {"five": 5, "six": 6}, 12)
    others = data_of("extract", *resnet, "--data", data)["id"]
    assert warned(done("collapse", stored, others), "1: test_vit", "2: test_resnet")
    assert data_of("collapse", stored, same)["warnings"] == data_of("collapse", same, others)["warnings"] == []


# Layers


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ("all", ["layer_0", "layer_1", "feature"]),
        ("1", ["layer_1", "feature"]),
        ("1,0", ["layer_1", "layer_0", "feature"]),
        ("last-1", ["layer_1", "feature"]),
        ("last-9", ["layer_0", "layer_1", "feature"]),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_layers_have_a_row_each(asked: str, columns: list[str], is_named: bool, stored: str) -> None:
    command = ("collapse", *([stored] if is_named else []), "--layers", asked)
    found = data_of(*command)
    assert [each["name"] for each in found["sets"]] == columns
    assert [each["features"]["layer"] for each in found["sets"]] == columns
    layers = {name: nct.FeatureStore().find(stored).read(column=name) for name in columns}
    expected = compare_layers(layers)
    assert found["fit"].pop("saturated") == expected.fit["saturated"]
    assert found["fit"] == pytest.approx({name: value for name, value in expected.fit.items() if name != "saturated"})
    assert ("rho" in found["fit"]) == (len(columns) == 3)
    for each in found["sets"]:
        assert_same(each, expected.reports[each["name"]])

    shown = done(*command).stdout
    [[head, *rows]] = tables(shown)
    assert head[1:] == ["cdnv", "separation_fuzziness", "ncc_accuracy", "effective_rank"]
    assert [row[0] for row in rows] == columns
    for row, each in zip(rows, found["sets"], strict=True):
        values = [each["metrics"][name] for name in head[1:]]
        assert [float(cell) for cell in row[1:]] == pytest.approx(values, rel=1e-3, abs=1e-4)
    reading = shown[shown.rindex("\n\n") :]
    assert shows(reading, expected.fit["saturated"], "ncc_accuracy")
    if len(columns) == 3:
        assert shows(reading, f"{found['fit']['rho']:.3f}", f"{found['fit']['r_squared']:.3f}")


def test_layers_are_extracted_first(extracted: tuple[Path, Path, str]) -> None:
    found = data_of("collapse", *VIT, "--data", extracted[0], "--layers", "0,1", "--max-per-class", 3)
    assert [each["name"] for each in found["sets"]] == ["layer_0", "layer_1", "feature"]
    assert [each["features"]["samples"] for each in found["sets"]] == [12] * 3
    again = data_of("collapse", "--layers", "all")
    assert again["sets"][0]["metrics"] == found["sets"][0]["metrics"]


def test_pairs_of_layers_are_saved(stored: str, tmp_path: Path) -> None:
    done("collapse", stored, "--layers", "all", "--save-pairs", tmp_path / "p.parquet")
    saved = pd.read_parquet(tmp_path / "p.parquet")
    assert dict(saved.groupby("set").size()) == {"layer_0": 6, "layer_1": 6, "feature": 6}


@pytest.mark.parametrize(
    ("asked", "kind", "named", "tells"),
    [
        ("5", "FeaturesError", "layer_5", ("layer_0", "layer_1", "--layers")),
        ("x", "SettingError", "x", ("all", "last-N")),
        ("last-0", "SettingError", "last-0", ("all", "last-N")),
        ("", "SettingError", "", ("all", "last-N")),
    ],
)
def test_layers_that_are_not_there(asked: str, kind: str, named: str, tells: object, stored: str) -> None:
    refusal("collapse", stored, "--layers", asked).expect(kind, named, tells=tells)


def test_a_set_without_layers(extracted: tuple[Path, Path, str]) -> None:
    name = data_of("extract", *VIT, "--data", extracted[0], "--max-per-class", 2)["id"]
    error = refusal("collapse", name, "--layers", "all")
    error.expect("FeaturesError", name, hint=("nctransfer extract", "--layers"))


def test_files_have_no_layers(one: Path) -> None:
    refusal("collapse", one, "--layers", "all").expect("FeaturesError", "--layers", hint="--feature-column")


# Heads


def file_of_head(stored: str) -> Path:
    return nct.FeatureStore().find(stored).path.parent / "head.safetensors"


def replace_head(stored: str, tensors: dict[str, torch.Tensor]) -> None:
    file_of_head(stored).unlink()
    save_head(file_of_head(stored).parent, tensors)


def head_of(stored: str) -> LinearHead:
    tensors = nct.FeatureStore().find(stored).head()
    assert tensors is not None
    return LinearHead(tensors["weight"], tensors["bias"], "the model")


def test_the_backbones_own_head(stored: str, names: Path) -> None:
    command = ("collapse", stored, "--head", "--head-names", names)
    result = done(*command, "--format", "json")
    found = json.loads(result.stdout)
    called = names.read_text(encoding="utf-8").splitlines()
    features = nct.load_features(stored)
    expected = nct.collapse(features, head=head_of(stored), head_names=called)
    assert_same(found, expected)
    assert found["metrics"]["self_duality"] is not None
    assert warned(result, "self_duality", "ncc_agreement", "test_vit")
    other = nct.collapse(features, head=head_of(stored), head_names=[*reversed(called)])
    assert found["metrics"]["self_duality"] != pytest.approx(other.metrics["self_duality"], rel=1e-3)
    assert {"self_duality", "ncc_agreement"} <= {*names_of(tables(done(*command).stdout)[0])}


def test_a_head_whose_classes_are_in_another_order(stored: str, names: Path) -> None:
    """The rows of the pets are 996 to 999: two, three, zero, one. The head is right, but the names are not."""
    features = nct.load_features(stored)
    fitted = LinearHead.ridge(ClassStatistics.of(features, "cpu"), "these")
    width = features.dim
    weight, bias = torch.zeros(1000, width), torch.full((1000,), -1e6)
    called = names.read_text(encoding="utf-8").splitlines()
    rows = [called.index(name) for name in features.classes]
    weight[rows], bias[rows] = fitted.weight.float(), fitted.bias.float()
    replace_head(stored, {"weight": weight, "bias": bias})
    command = ("collapse", stored, "--head", "--head-names", names)
    assert not any("--head-names" in one for one in warnings_of(done(*command)))

    swapped = [*called[:996], "three", "zero", "two", "one"]  # one is where it was
    lines(names, swapped)
    result = done(*command, "--format", "json")
    assert warned(result, 3, 4, "--head-names")
    [note] = (note for note in json.loads(result.stdout)["notes"] if "--head-names" in note)
    [(row, right, wrong)] = re.findall(r"row (\d+) .* to be '(\w+)', not '(\w+)'", note)
    assert (called[int(row)], swapped[int(row)]) == (right, wrong)


def test_classes_that_are_numbers_are_rows_of_the_head(root: Path) -> None:
    data = write_digits(root / "numbers", {"7": 0, "999": 1, "20": 2}, 5)
    result = done("collapse", *VIT, "--data", data, "--head", "--format", "json")
    assert warned(result, "self_duality", "ncc_agreement", "test_vit")
    name = nct.FeatureStore().sets()[0].id
    head = head_of(name)
    rows = [20, 7, 999]
    assert nct.load_features(name).classes == tuple(sorted(map(str, rows)))
    chosen = LinearHead(head.weight[rows], head.bias[rows], "rows")
    expected = nct.collapse(nct.load_features(name), head=chosen, head_names=["20", "7", "999"])
    assert json.loads(result.stdout)["metrics"]["self_duality"] == pytest.approx(expected.self_duality, rel=1e-6)


def test_a_head_without_intercept(stored: str, names: Path) -> None:
    tensors = load_file(file_of_head(stored))
    replace_head(stored, {"weight": tensors["weight"]})
    weight = tensors["weight"]
    called = names.read_text(encoding="utf-8").splitlines()
    head = LinearHead(weight, torch.zeros(len(weight)), "")
    expected = nct.collapse(nct.load_features(stored), head=head, head_names=called)
    found = data_of("collapse", stored, "--head", "--head-names", names)["metrics"]
    assert found["ncc_agreement"] == expected.ncc_agreement
    assert found["self_duality"] == pytest.approx(expected.self_duality, rel=1e-6)


def test_a_head_is_fitted(stored: str, one: Path) -> None:
    for name in (stored, one):
        result = done("collapse", name, "--fit-head", "ridge", "--format", "json")
        expected = nct.collapse(nct.load_features(name), head="ridge")
        assert_same(json.loads(result.stdout), expected)
        assert expected.self_duality is not None
        assert warned(result, "self_duality", "ncc_agreement", "ridge")
    assert data_of("collapse", one)["undefined"].keys() >= {"self_duality", "ncc_agreement"}


@pytest.mark.parametrize(
    ("options", "kind", "named", "tells"),
    [
        (("--head",), "FeaturesError", (1000, 4), "--head-names"),
        (("--head", "--head-names", "{few}"), "FeaturesError", (4, 1000), "--head-names"),
        (("--head", "--head-names", "{wrong}"), "FeaturesError", (1, 4, "zero"), "zer0"),
        (("--head", "--head-names", "{twice}"), "DataError", ("two",), ()),
        (("--head", "--head-names", "no such"), "DataError", ("no such",), ()),
        (
            ("--head", "--head-names", "{names}", "--feature-column", "layer_0"),
            "SettingError",
            ("layer_0",),
            "--feature-column",
        ),
        (("--head-names", "{names}"), "SettingError", ("--head-names",), "--head"),
        (("--fit-head", "ridge", "--head-names", "{names}"), "SettingError", ("--head-names",), "--head"),
        (("--fit-head", "svm"), "SettingError", ("svm",), ("--fit-head", "ridge")),
        (("--fit-head", ""), "SettingError", ("",), ("--fit-head", "ridge")),
        (("--fit-head", "ridge", "--head"), "SettingError", (), ("--fit-head", "--head")),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) and str(value).startswith("('--") else "",
)
def test_heads_that_do_not_fit(
    options: tuple[str, ...],
    kind: str,
    named: tuple[object, ...],
    tells: object,
    stored: str,
    names: Path,
    tmp_path: Path,
) -> None:
    called = names.read_text(encoding="utf-8").splitlines()
    files = {
        "names": names,
        "few": lines(tmp_path / "few", PETS),
        "wrong": lines(tmp_path / "wrong", [name.replace("zero", "zer0") for name in called]),
        "twice": lines(tmp_path / "twice", [*called, "two"]),
    }
    refusal("collapse", stored, *(word.format(**files) for word in options)).expect(kind, *named, tells=tells)


def test_a_set_without_a_head(stored: str, one: Path) -> None:
    file_of_head(stored).unlink()
    for name in (stored, one):
        refusal("collapse", name, "--head").expect("FeaturesError", hint=("--fit-head", "ridge"))


def test_a_damaged_head(stored: str) -> None:
    file_of_head(stored).write_bytes(b"\x00" * 20)
    refusal("collapse", stored, "--head").expect("StoreError", "head.safetensors")


# What does not go together


@pytest.mark.parametrize(
    "options",
    [
        ("{one}", "{other}", "--layers", "all"),
        ("{one}", "{other}", "--source-train", "{one}", "--source-test", "{other}"),
        ("{one}", "{other}", "--source-train", "{one}"),
        ("{one}", "{other}", "--head"),
        ("{one}", "{other}", "--fit-head", "ridge"),
        ("{one}", "--layers", "all", "--head"),
        ("{one}", "--layers", "all", "--fit-head", "ridge"),
        ("{one}", "--layers", "all", "--source-test", "{other}"),
        ("{one}", "--fit-head", "ridge", "--source-train", "{one}", "--source-test", "{other}"),
    ],
)
def test_comparisons_of_several_kinds(options: tuple[str, ...], one: Path, other: Path) -> None:
    error = refusal("collapse", *(word.format(one=one, other=other) for word in options))
    error.expect("SettingError", tells=("--source-train", "--source-test", "--layers"))


def test_layers_and_a_column(stored: str) -> None:
    error = refusal("collapse", stored, "--layers", "all", "--feature-column", "layer_0")
    error.expect("SettingError", "--layers", "--feature-column")


def test_several_sets_and_a_model(one: Path, other: Path) -> None:
    refusal("collapse", one, other, *VIT).expect("FeaturesError", one, tells="--model")


def test_one_set_of_several_is_not_there(one: Path, tmp_path: Path) -> None:
    refusal("collapse", one, tmp_path / "nothing.npz").expect("FeaturesError", tmp_path / "nothing.npz")


def test_an_error_is_words_too(one: Path) -> None:
    assert "--source-test" in refused("collapse", one, "--source-train", one)


def test_a_process_of_its_own(run: Run, one: Path, other: Path, target: Path, tmp_path: Path) -> None:
    command = ("collapse", target, "--source-train", one, "--source-test", other, "--save-pairs", "p.parquet")
    result = run(*command, PYTHONUTF8="1")
    expected = done(*command[:-2])
    assert (result.returncode, result.stderr, result.stdout) == (0, expected.stderr, expected.stdout)
    assert warned(result, "source-test")
    assert len(pd.read_parquet(tmp_path / "p.parquet")) == 33
