"""``nctransfer trajectory``: a row a checkpoint, each number as other commands have it, and no work done twice."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats
import torch
from PIL import Image
from safetensors.torch import save_file

import nctransfer as nct
from conftest import write_digits
from nctransfer.report.json_text import to_json
from terminal import (
    command_line,
    data_of,
    done,
    facts_of,
    missing,
    misused,
    noted,
    notes_of,
    refusal,
    refused,
    shows,
    tables,
    warnings_of,
)
from tiny import pickled, random, state_of

PLUGIN = Path(__file__).resolve().parents[1] / "examples" / "reproduce_paper" / "networks.py"
VIT = ("--model", "test_vit", "--img-size", 32)
FEW = ("--ways", 2, "--queries", 3, "--episodes", 20, "--no-theory")
CLASSES = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
OLD, NEW = ("zero", "one"), ("two", "three", "four", "five")
EPOCHS = (1, 2, 9, 10)  # as words, 10 would come before 2
MEASURES = ("cdnv", "directional_cdnv")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trajectory")


@pytest.fixture(scope="module")
def training(root: Path) -> Path:
    """The checkpoints of what could be a training."""
    folder = root / "run"
    folder.mkdir()
    for seed, epoch in enumerate(EPOCHS):
        save_file(state_of(seed=seed, img_size=32), folder / f"epoch-{epoch}.safetensors")
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> Path:
    """Two splits of six classes with six images each."""
    write_digits(root / "data" / "test", CLASSES, 12)
    for name in CLASSES:
        (root / "data" / "train" / name).mkdir(parents=True)
        for image in sorted((root / "data" / "test" / name).iterdir())[:6]:
            image.rename(root / "data" / "train" / name / f"seen-{image.name}")
    return root / "data"


@pytest.fixture(scope="module")
def kept(root: Path, training: Path, data: Path) -> Path:
    """A cache that has the features of every checkpoint."""
    for path in training.iterdir():
        done("extract", *VIT, "--data", data, "--checkpoint", path, "--cache-dir", root / "kept")
    return root / "kept"


@pytest.fixture
def ready(training: Path, data: Path, kept: Path) -> tuple[object, ...]:
    """The command on stored features."""
    return ("trajectory", *VIT, "--data", data, "--cache-dir", kept, *FEW, "--checkpoints", training)


@pytest.fixture
def two(training: Path, data: Path, kept: Path) -> tuple[object, ...]:
    """The same of two checkpoints."""
    few = [training / f"epoch-{epoch}.safetensors" for epoch in (2, 10)]
    return ("trajectory", *VIT, "--data", data, "--cache-dir", kept, *FEW, *few)


@pytest.fixture
def names(tmp_path: Path) -> Callable[..., Path]:
    """A file of class names."""

    def write(*classes: str, to: str = "classes.txt") -> Path:
        (tmp_path / to).write_text("\n".join(classes), encoding="utf-8")
        return tmp_path / to

    return write


def alone(path: Path | str, data: Path | str, cache: Path, **options: Any) -> nct.FeatureSet:
    """The features of one checkpoint, without a trajectory."""
    return nct.extract(
        "test_vit", data, **{"img_size": 32, "checkpoint": Path(path), "cache_dir": cache, "seed": 0, **options}
    )


def in_json(value: Any) -> Any:
    return json.loads(to_json(value))


def but_seconds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def frame(*arguments: object) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(done(*arguments, "--format", "csv").stdout))


def with_theory(command: Sequence[object]) -> list[object]:
    return [word for word in command if word != "--no-theory"]


def four(value: float) -> str:
    """A measure as tables have it."""
    return f"{value:.4f}" if 1e-3 <= value < 10 else f"{value:.2e}"


def percent(share: float) -> str:
    return f"{share * 100:.2f}"


def rows_of(text: str, number: int = 0) -> list[list[str]]:
    """The cells of a table below its head."""
    return tables(text)[number][1:]


# Every option


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {}),
        (("-w", "3,all", "-s", "2,1", "-e", "7"), {"ways": [3, "all"], "shots": [2, 1], "episodes": 7}),
        (("--queries", "2", "--l2-normalise"), {"queries": 2, "l2_normalise": True}),
        (("--queries", "all", "--interval", "classes"), {"queries": "all", "interval": "classes"}),
        (("-c", "all", "--interval", "disjoint"), {"classifiers": "all", "interval": "disjoint"}),
        (
            ("-c", "ridge,knn", "--ridge-lambda", "1000", "-s", "2", "--device", "cpu"),
            {"classifiers": ["ridge", "knn"], "ridge_lambda": 1000.0, "shots": 2, "device": "cpu"},
        ),
        (("--ridge-lambda", "loo", "-s", "2"), {"ridge_lambda": "loo", "shots": 2}),
        (("--ridge-lambda", "paper"), {"ridge_lambda": "paper"}),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_accuracies_are_those_of_fewshot(
    options: tuple[str, ...], settings: dict[str, Any], two: tuple[object, ...], data: Path, kept: Path
) -> None:
    found = data_of(*two, *options)
    usual = {"ways": 2, "shots": 1, "queries": 3, "episodes": 20, "theory": False}
    assert [point["step"] for point in found["checkpoints"]] == [2, 10]
    for point in found["checkpoints"]:
        features = alone(point["path"], data, kept)
        expected = in_json(nct.fewshot(features, **{**usual, **settings}).to_dict(0))
        assert but_seconds(point["fewshot"]["results"]) == but_seconds(expected["results"])
        assert point["fewshot"]["settings"] == expected["settings"]
        [sample] = point["samples"]
        assert sample["name"] == "target"
        assert sample["metrics"] == in_json(nct.collapse(features).metrics)
        assert sample["features"]["samples"] == 72
        assert 0.3 < point["fewshot"]["results"][0]["accuracy"] < 1


@pytest.mark.parametrize(
    ("options", "settings", "samples"),
    [
        (("--split", "test", "--classes", "{file}"), {"split": "test", "classes": NEW}, 24),
        (("--exclude-classes", "{file}"), {"exclude_classes": NEW}, 24),
        (("--max-per-class", "4", "--seed", "5"), {"max_per_class": 4, "seed": 5}, 48),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else "",
)
def test_images_are_those_of_extract(
    options: tuple[str, ...],
    settings: dict[str, Any],
    samples: int,
    two: tuple[object, ...],
    names: Callable[..., Path],
    data: Path,
    kept: Path,
) -> None:
    options = tuple(option.format(file=names(*NEW)) for option in options)
    found = data_of(*two, *options)
    for point in found["checkpoints"]:
        features = alone(point["path"], data, kept, **settings)
        few = nct.fewshot(features, ways=2, queries=3, episodes=20, seed=settings.get("seed", 0), theory=False)
        assert but_seconds(point["fewshot"]["results"]) == but_seconds(in_json(few.to_dict(0)["results"]))
        assert point["samples"][0]["metrics"] == in_json(nct.collapse(features).metrics)
        assert point["samples"][0]["features"]["samples"] == samples
    assert found["provenance"]["seed"] == settings.get("seed", 0)
    assert any(shows(line, samples) for line in facts_of(done(*two, *options).stdout))


@pytest.mark.parametrize(("option", "dtype"), [("--dtype", "bfloat16"), ("--store-dtype", "float16")])
def test_a_variant_of_the_backbone(option: str, dtype: str, training: Path, data: Path, cache: Path) -> None:
    path = training / "epoch-2.safetensors"
    command = ("trajectory", *VIT, "-d", data, "--split", "test", *FEW, path)
    options = ("--mean", "0.2", "--pool", "max", option, dtype)
    settings: dict[str, Any] = {"mean": (0.2,), "pool": "max", option[2:].replace("-", "_"): dtype}
    [point] = data_of(*command, *options)["checkpoints"]
    expected = nct.collapse(alone(path, data, cache, split="test", **settings))
    assert point["samples"][0]["metrics"] == in_json(expected.metrics)
    for name in settings:
        others = {other: value for other, value in settings.items() if other != name}
        assert nct.collapse(alone(path, data, cache, split="test", **others)).cdnv != expected.cdnv


def test_a_network_of_ones_own(data: Path, tmp_path: Path) -> None:
    torch.save(random("conv4", plugin=str(PLUGIN)).model.state_dict(), tmp_path / "step_7.pth")
    command = ("trajectory", "--plugin", PLUGIN, "-m", "conv4", "-d", data, "--split", "test", *FEW)
    found = data_of(*command, tmp_path / "step_7.pth")
    assert (found["model"], [point["step"] for point in found["checkpoints"]]) == ("conv4", [7])


# Which checkpoints


@pytest.mark.parametrize(
    "words",
    [
        ("--checkpoints", "{run}"),
        ("{run}",),
        ("--checkpoints", "{run}/epoch-*.safetensors"),
        ("--checkpoints", "{run}/epoch-10.safetensors", *(f"{{run}}/epoch-{epoch}.safetensors" for epoch in (2, 1, 9))),
        ("--checkpoints", "{run}/epoch-1*", "--checkpoints", "{run}/epoch-[29].safetensors"),
        ("{run}/epoch-9.safetensors", "--checkpoints", "{run}", "{run}/epoch-9.*"),
    ],
    ids=["folder", "argument", "pattern", "words", "twice", "again"],
)
def test_checkpoints_go_by_their_numbers_each_once(
    words: tuple[str, ...], training: Path, data: Path, kept: Path
) -> None:
    command = ("trajectory", *VIT, "--data", data, "--cache-dir", kept, *FEW)
    found = frame(*command, *(word.format(run=training) for word in words))
    assert list(found.checkpoint) == [f"epoch-{epoch}.safetensors" for epoch in EPOCHS]
    assert list(found.step) == list(EPOCHS)
    assert list(found.path) == [str(training / name) for name in found.checkpoint]
    assert found.cdnv.nunique() == 4


def test_a_pattern_may_begin_at_home(training: Path, two: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(training.parent))
    assert len(frame(*two[:-2], "--checkpoints", "~/run/epoch-1*")) == 2


def test_files_of_one_name_are_told_apart_by_their_folders(
    training: Path, two: tuple[object, ...], tmp_path: Path
) -> None:
    for folder, epoch in (("slow", 1), ("fast", 9)):
        (tmp_path / folder).mkdir()
        shutil.copy(training / f"epoch-{epoch}.safetensors", tmp_path / folder / "last.safetensors")
    shown = done(*two[:-2], tmp_path / "slow", tmp_path / "fast")
    assert [row[0] for row in rows_of(shown.stdout)] == ["fast/last", "slow/last"]
    assert shows(shown.stderr.splitlines()[0], "'fast/last.safetensors'", "1/2")


def test_a_command_without_checkpoints(data: Path) -> None:
    assert "--checkpoints" in misused("trajectory", *VIT, "--data", data, *FEW)


@pytest.mark.parametrize("name", ["no/such.pth", "no/*.pth", ""])
def test_checkpoints_that_are_not_there(name: str, two: tuple[object, ...]) -> None:
    refusal(*two, "--checkpoints", name).expect("WeightsError", name, hint="*.safetensors")


def test_a_folder_of_something_else(data: Path, two: tuple[object, ...]) -> None:
    refusal(*two, "--checkpoints", data).expect("WeightsError", data)


@pytest.mark.parametrize("option", [("--checkpoint", "{run}/epoch-1.safetensors"), ("--random-init",)])
def test_other_weights(option: tuple[str, ...], training: Path, ready: tuple[object, ...]) -> None:
    error = refusal(*ready, *(word.format(run=training) for word in option))
    error.expect("WeightsError", hint=("--checkpoint", "--random-init"))


# What the backbone is trained on


@pytest.fixture
def trained(names: Callable[..., Path]) -> tuple[object, ...]:
    """New classes, and those that are trained on."""
    return ("--classes", names(*NEW, to="new.txt"), "--split", "test", "--source-classes", names(*OLD, to="old.txt"))


def test_collapse_is_measured_on_the_source_too(
    two: tuple[object, ...], trained: tuple[object, ...], data: Path, kept: Path
) -> None:
    found, rows = data_of(*two, *trained), frame(*two, *trained)
    chosen = {
        "target": {"split": "test", "classes": NEW},
        "source-train": {"split": "train", "classes": OLD},
        "source-test": {"split": "test", "classes": OLD},
    }
    for point, row in zip(found["checkpoints"], rows.to_dict("records"), strict=True):
        samples = {sample["name"]: sample for sample in point["samples"]}
        assert samples.keys() == chosen.keys()
        for name, selection in chosen.items():
            features = alone(point["path"], data, kept, **selection)
            expected = nct.collapse(features).metrics
            prefix = "" if name == "target" else name.replace("-", "_") + "_"
            for measure in (*MEASURES, "nc1", "effective_rank"):
                assert samples[name]["metrics"][measure] == pytest.approx(expected[measure], rel=1e-9)
                assert row[prefix + measure] == pytest.approx(expected[measure], rel=1e-9)
            assert row[f"{prefix}samples"] == len(features.labels) == samples[name]["features"]["samples"]
            assert row[f"{prefix}classes"] == len(selection["classes"])
        few = nct.fewshot(
            alone(point["path"], data, kept, **chosen["target"]), ways=2, queries=3, episodes=20, theory=False
        )
        assert row["ridge_2way_1shot"] == few.rows[0].accuracy


def test_the_source_has_tables_of_its_own(two: tuple[object, ...], trained: tuple[object, ...]) -> None:
    shown = done(*two, *trained).stdout
    rows = frame(*two, *trained)
    for name, values in {
        "source-train": ("train", 12, 2, 64),
        "source-test": ("test", 12, 2, 64),
        "target": ("test", 24, 4, 64),
    }.items():
        assert any(line.startswith(name) and shows(line, *values) for line in facts_of(shown))
    columns = ("source_train_", "source_test_", "")
    for table, measure in zip(tables(shown)[1:], MEASURES, strict=False):  # the last is of the best checkpoints
        assert table[0][1:] == ["source-train", "source-test", "target"]
        for cells, (_, row) in zip(table[1:], rows.iterrows(), strict=True):
            values = [four(row[f"{prefix}{measure}"]) for prefix in columns]
            assert cells == [row.checkpoint.removesuffix(".safetensors"), *values]
    assert len(tables(shown)) == 4
    assert len(re.findall(r"^\|( -{3}:? \|)+$", done(*two, *trained, "-f", "markdown").stdout, re.MULTILINE)) == 4
    assert done(*two, *trained, "-f", "latex").stdout.count(r"\end{table}") == 4


def test_splits_of_the_source_may_have_other_names(two: tuple[object, ...], trained: tuple[object, ...]) -> None:
    plain = frame(*two, *trained)
    swapped = frame(*two, *trained, "--train-split", "test", "--test-split", "train")
    assert list(swapped.source_train_cdnv) == list(plain.source_test_cdnv)
    assert list(swapped.source_test_cdnv) == list(plain.source_train_cdnv)
    assert list(swapped.cdnv) == list(plain.cdnv)


def test_the_source_may_be_other_data(training: Path, data: Path, cache: Path, names: Callable[..., Path]) -> None:
    path = training / "epoch-9.safetensors"
    command = ("trajectory", *VIT, "-d", "digits", "--max-per-class", 5, *FEW, path, "--source", data)
    [row] = frame(*command).to_dict("records")
    for prefix, split in (("source_train_", "train"), ("source_test_", "test")):
        expected = nct.collapse(alone(path, data, cache, split=split, max_per_class=5))
        assert row[f"{prefix}cdnv"] == pytest.approx(expected.cdnv, rel=1e-9)
        assert (row[f"{prefix}samples"], row[f"{prefix}classes"]) == (30, 6)
    assert (row["samples"], row["classes"]) == (50, 10)
    assert row["cdnv"] == pytest.approx(nct.collapse(alone(path, "digits", cache, max_per_class=5)).cdnv, rel=1e-9)
    [fewer] = frame(*command, "--source-classes", names(*OLD)).to_dict("records")
    assert (fewer["source_train_classes"], fewer["classes"], fewer["cdnv"]) == (2, 10, row["cdnv"])


@pytest.mark.parametrize(
    ("options", "kind", "named", "tells"),
    [
        (("--source-classes", "{wrong}"), "FeaturesError", "Two", "two"),
        (("--source-classes", "{empty}"), "FeaturesError", (), ()),
        (("--source-classes", "nowhere.txt"), "DataError", "nowhere.txt", ()),
        (("--source-classes", "{right}", "--train-split", "trian"), "FeaturesError", "trian", "train"),
        (("--source-classes", "{right}", "--test-split", "valid"), "FeaturesError", "valid", "test"),
        (("--source", "digits"), "FeaturesError", "train", ()),
        (("--source", "nowhere"), "DataError", "nowhere", ()),
        (("--split", "valid"), "FeaturesError", "valid", "test"),
        (("--classes", "{wrong}"), "FeaturesError", "Two", "two"),
        (("--model", "no_such_model"), "ModelError", "no_such_model", ()),
        (("--device", "abacus"), "DeviceError", "abacus", ()),
        (("--figure", "f.jpg"), "SettingError", "f.jpg", (".svg", ".png", ".pdf")),
        (("--figure", "f"), "SettingError", "'f'", (".svg", ".png", ".pdf")),
        (("--figure", "no/f.svg"), "NCTransferError", "no/f.svg", "--figure"),
        (("--figure", "."), "NCTransferError", "'.'", "--figure"),
        (("--output", "no/f.txt"), "NCTransferError", "no/f.txt", "--output"),
        (("--ways", "7"), "EpisodeError", (7, 6), ("--ways", 6)),
        (("--shots", "10"), "EpisodeError", (10, 3, 13), "images"),
        (("--shots", "0"), "SettingError", ("shots", 0), "--shots"),
        (("--classifier", "svm"), "SettingError", "svm", ("--classifier", "ridge")),
        (("--interval", "x"), "SettingError", "x", "--interval"),
        (("--interval", "disjoint", "--queries", "all"), "SettingError", (), "--queries"),
        (("--ridge-lambda", "-1"), "SettingError", -1.0, "--ridge-lambda"),
        (("--ridge-lambda", "loo"), "SettingError", 2, "--ridge-lambda"),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_what_is_wrong_is_said_before_any_image_is_run(
    options: tuple[str, ...],
    kind: str,
    named: object,
    tells: object,
    training: Path,
    data: Path,
    cache: Path,
    names: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"wrong": names("two", "Two", to="w.txt"), "right": names(*OLD, to="r.txt"), "empty": names(to="e.txt")}
    given = [word.format(**files) for word in options]
    error = refusal("trajectory", *VIT, "--data", data, *FEW, "--checkpoints", training, *given)
    error.expect(kind, *(named if isinstance(named, tuple) else (named,)), hint=None, tells=tells)
    assert list(cache.glob("features/*/*/rows/*")) == []


@pytest.mark.parametrize("option", ["--train-split", "--test-split"])
def test_a_split_of_no_source_is_not_passed_over(option: str, ready: tuple[object, ...]) -> None:
    said = misused(*ready, option, "trian")
    assert option in said
    assert "--source-classes" in said


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--ways", "x", "x"),
        ("--shots", "all", "all"),
        ("--queries", "1,2", "1,2"),
        ("--episodes", "1", 2),  # at least
        ("--ridge-lambda", "x", "x"),
        ("--format", "x", "json"),  # one to choose from
        ("--mean", "x", "x"),
    ],
)
def test_what_no_option_can_mean(option: str, value: str, named: object, ready: tuple[object, ...]) -> None:
    assert missing(misused(*ready, option, value), option, named) == []


def test_an_error_is_words_too(ready: tuple[object, ...]) -> None:
    assert shows(refused(*ready, "--split", "valid"), "valid")


# Formats


def test_the_table(ready: tuple[object, ...]) -> None:
    shown = done(*ready, "--shots", "1,5").stdout
    rows = frame(*ready, "--shots", "1,5")
    facts = facts_of(shown)
    assert any(shows(line, "test_vit") for line in facts)
    assert any(shows(line, 72, 6, 64) for line in facts)  # samples, classes, width
    assert any(shows(line, 20, 3, 0) for line in facts)  # episodes, queries, seed
    table, best = tables(shown)
    assert re.search(r"\bcdnv\b.* ridge .*1\b.* ncc .*1\b.* ridge .*5\b.* ncc .*5\b", " ".join(table[0]))
    tasks = [f"{classifier}_2way_{shots}shot" for shots in (1, 5) for classifier in ("ridge", "ncc")]
    for cells, (_, row) in zip(table[1:], rows.iterrows(), strict=True):
        numbers = [four(row[name]) for name in MEASURES]
        assert cells == [f"epoch-{row.step}", *numbers, *(percent(row[task]) for task in tasks)]
    said = " ".join(shown.split())
    assert shows(said, percent(max(rows[f"{task}_ci95"].max() for task in tasks)), "95%", "episodes")
    step = rows.step[rows.ridge_2way_1shot.idxmax()]
    assert best[1][:5] == ["2-way", "1-shot", "ridge", f"epoch-{step}", percent(rows.ridge_2way_1shot.max())]
    for name in MEASURES:
        rho = scipy.stats.spearmanr(rows[name], rows.ridge_2way_1shot).statistic
        assert re.search(rf"\b{name}\W+{re.escape(f'{rho:+.2f}')}", said)
    lines = shown.splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("─"))
    assert max(map(len, lines[rule - 1 : rule + 1 + len(rows)])) <= 80


def test_several_numbers_of_ways_stand_in_the_heads(ready: tuple[object, ...]) -> None:
    shown = done(*ready, "--ways", "2,all", "-c", "ncc,knn", "--interval", "classes", "--ways", "2,4").stdout
    rows = frame(*ready, "--ways", "2,4", "-c", "ncc,knn", "--interval", "classes")
    head = " ".join(tables(shown)[0][0])
    assert re.search(r" ncc .*2.*1\b.* knn .*2.*1\b.* ncc .*4.*1\b.* knn .*4.*1\b", head)
    tasks = [f"{classifier}_{ways}way_1shot" for ways in (2, 4) for classifier in ("ncc", "knn")]
    assert [cells[3:] for cells in rows_of(shown)] == [
        [percent(row[task]) for task in tasks] for _, row in rows.iterrows()
    ]
    widest = percent(max(rows[f"{task}_ci95"].max() for task in tasks))
    assert shows(" ".join(shown.split()), widest, "95%", "classes")


@pytest.mark.parametrize("form", ["table", "markdown", "latex"])
def test_the_number_of_ways_is_always_said(form: str, two: tuple[object, ...]) -> None:
    assert re.search(r"2[- ]ways?\b|\b2w", done(*two[:-1], "-f", form, "--shots", "1,2").stdout)


def test_one_checkpoint_is_no_trend(two: tuple[object, ...], ready: tuple[object, ...]) -> None:
    shown = done(*two[:-1]).stdout
    assert len(tables(shown)) == 1  # none is the best
    assert [cells[0] for cells in rows_of(shown)] == ["epoch-2"]
    assert "directional_cdnv" not in shown  # its correlation
    assert "directional_cdnv" not in done(*two).stdout  # nor are two a trend
    assert "directional_cdnv" in done(*ready).stdout


def test_csv_has_one_row_a_checkpoint_in_full(ready: tuple[object, ...]) -> None:
    command = with_theory(ready)
    rows, found = frame(*command), data_of(*command)
    assert len(rows) == len(found["checkpoints"]) == 4
    for (_, row), point in zip(rows.iterrows(), found["checkpoints"], strict=True):
        assert (row.checkpoint, row.step, row.path) == (point["checkpoint"], point["step"], point["path"])
        for name, value in point["samples"][0]["metrics"].items():
            assert pd.isna(row[name]) if value is None else row[name] == pytest.approx(value, rel=1e-15)
        for one in point["fewshot"]["results"]:
            task = f"{one['classifier']}_2way_1shot"
            assert row[task] == pytest.approx(one["accuracy"], rel=1e-15)
            assert row[f"{task}_ci95"] == pytest.approx(one["ci95"], rel=1e-15)
        ncc = point["fewshot"]["results"][1]
        assert row.ncc_2way_1shot_expected == pytest.approx(ncc["expected_accuracy"], rel=1e-15)
        for name, bound in ncc["bounds"].items():
            value, shown = bound["value"], row[f"ncc_2way_1shot_{name}"]
            assert pd.isna(shown) if value is None else shown == pytest.approx(float(value), rel=1e-15)
    assert "ridge_2way_1shot_expected" not in rows


def test_theory_may_be_left_out(two: tuple[object, ...]) -> None:
    whole, less = frame(*with_theory(two)), frame(*two)
    gone = set(whole) - set(less)
    assert "ncc_2way_1shot_expected" in gone
    assert len(gone) > 3
    assert all(name.startswith("ncc_2way_1shot_") for name in gone)
    pd.testing.assert_frame_equal(whole[list(less)], less)


def test_json_says_all(ready: tuple[object, ...], training: Path) -> None:
    found = data_of(*ready)
    assert found.keys() == {"model", "transform", "checkpoints", "best", "failed", "warnings", "provenance"}
    assert (found["model"], found["failed"]) == ("test_vit", {})
    assert [point["checkpoint"] for point in found["checkpoints"]] == [f"epoch-{n}.safetensors" for n in EPOCHS]
    assert [point["step"] for point in found["checkpoints"]] == list(EPOCHS)
    assert found["provenance"]["command"].startswith("nctransfer trajectory --model test_vit")
    weights = [point["samples"][0]["features"]["weights"] for point in found["checkpoints"]]
    assert all(f"epoch-{n}.safetensors" in name for n, name in zip(EPOCHS, weights, strict=True))
    assert len({point["samples"][0]["features"]["id"] for point in found["checkpoints"]}) == 4


def test_markdown_and_latex(two: tuple[object, ...]) -> None:
    rows = frame(*two)
    markdown, latex = (done(*two, "-f", form).stdout for form in ("markdown", "latex"))
    assert markdown.startswith("### ")
    assert re.search(r"^\|.* cdnv \|.*ridge.*\|.*ncc.*\|\n\| --- \| ---: \| ---: \| ---: \| ---: \|$", markdown, re.M)
    assert re.search(r"^.* & cdnv & .*ridge.* & .*ncc.* \\\\$", latex, re.M)
    for _, row in rows.iterrows():
        cells = [f"epoch-{row.step}", *(four(row[name]) for name in MEASURES)]
        cells += [percent(row[f"{name}_2way_1shot"]) for name in ("ridge", "ncc")]
        assert "| " + " | ".join(cells) + " |\n" in markdown
        assert " & ".join(cells) + r" \\" in latex
    assert latex.count(r"\caption{") == 2


@pytest.mark.parametrize("form", ["table", "csv"])
def test_results_may_go_to_a_file(form: str, two: tuple[object, ...], tmp_path: Path) -> None:
    expected = done(*two, "-f", form).stdout
    result = done(*two, "-f", form, "--output", tmp_path / "out")
    assert result.stdout == ""
    assert (tmp_path / "out").read_text(encoding="utf-8") == expected


def test_a_narrow_terminal_shows_every_number(two: tuple[object, ...]) -> None:
    options = ("--shots", "1,2", "-c", "ridge,ncc,knn")
    shown = done(*two, *options).stdout
    expected = [cell for table in tables(shown)[:2] for row in table[1:] for cell in row]
    assert len(expected) == 2 * (3 + 7)
    screen = done(*two, *options, COLUMNS="40", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm").stdout
    screen = re.sub(r"\x1b\[[\d;]*m", "", screen)
    assert [cell for cell in expected if not re.search(rf"(?<![\d.]){re.escape(cell)}(?!\d)", screen)] == []
    assert max(map(len, screen.splitlines())) == 40


# What is said


def test_stderr_has_a_line_a_checkpoint(ready: tuple[object, ...]) -> None:
    result = done(*ready, "--shots", "1,5")
    rows = frame(*ready, "--shots", "1,5")
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for number, (line, (_, row)) in enumerate(zip(lines, rows.iterrows(), strict=True)):
        assert shows(line, f"'epoch-{row.step}.safetensors'", f"{number + 1}/4", f"{row.cdnv:.3f}")
        assert shows(line, "ridge", "2-way", "1-shot", f"{row.ridge_2way_1shot:.1%}")
        assert shows(line, "ncc", "2-way", "5-shot", f"{row.ncc_2way_5shot:.1%}")
        assert line not in result.stdout


@pytest.mark.parametrize("form", ["table", "json"])
def test_quiet_says_nothing(form: str, two: tuple[object, ...]) -> None:
    quiet = done(*two, "--quiet", "-f", form)
    assert quiet.stderr == ""
    if form != "json":  # which has the time it took, and the command
        assert quiet.stdout == done(*two, "-f", form).stdout


def test_verbose_says_what_is_run(ready: tuple[object, ...]) -> None:
    plain, verbose = done(*ready), done(*ready, "--verbose")
    assert any(shows(note, 72) for note in notes_of(verbose))  # images that are in the cache; said once
    assert not noted(plain, 72)
    assert set(plain.stderr.splitlines()) < set(verbose.stderr.splitlines())
    assert verbose.stdout == plain.stdout


# Names that are no markup, and no lines of their own

ODD = {"[bold]a": 1, "[red]$x_1$": 2, "b|c&d": 9, "e\x1b[31mf": 10, "g\nerror: h": 1, "最后": 2}


@pytest.fixture
def odd(training: Path, two: tuple[object, ...], tmp_path: Path) -> tuple[object, ...]:
    (tmp_path / "odd").mkdir()
    for name, epoch in ODD.items():
        shutil.copy(training / f"epoch-{epoch}.safetensors", tmp_path / "odd" / f"{name}.safetensors")
    return (*two[:-2], "--checkpoints", tmp_path / "odd")


def test_names_are_shown_as_they_are(odd: tuple[object, ...]) -> None:
    shown = done(*odd).stdout
    escaped = {name.replace("\x1b", r"\x1b").replace("\n", r"\n") for name in ODD}
    lines = shown.splitlines()
    assert [name for name in escaped if not any(line.startswith(f"{name}  ") for line in lines)] == []
    assert "\x1b" not in shown
    markdown = done(*odd, "-f", "markdown").stdout
    assert [name for name in (r"| \[bold\]a |", r"| b\|c&d |", "| 最后 |") if name not in markdown] == []
    latex = done(*odd, "-f", "latex").stdout
    assert [name for name in (r"[red]\$x\_1\$ &", r"b|c\&d &") if name not in latex] == []
    assert "\x1b" not in markdown + latex
    rows = frame(*odd)
    assert set(rows.checkpoint) == {f"{name}.safetensors" for name in ODD}
    assert {point["checkpoint"] for point in data_of(*odd)["checkpoints"]} == set(rows.checkpoint)


def test_names_make_no_lines_on_stderr(odd: tuple[object, ...]) -> None:
    lines = done(*odd).stderr.splitlines()
    assert len(lines) == len(ODD)
    assert all(shows(line, f"{number}/6") for number, line in enumerate(lines, 1))
    assert not any("\x1b" in line or line.startswith("error") for line in lines)


def test_names_in_a_figure(odd: tuple[object, ...], tmp_path: Path) -> None:
    result = done(*odd, "--quiet", "--figure", tmp_path / "[b]$.svg")  # a warning would be an error here
    assert result.stderr == ""
    assert (tmp_path / "[b]$.svg").stat().st_size > 5000


# The figure


@pytest.mark.parametrize("name", ["f.svg", "f.png", "f.PDF"])
def test_a_figure_in_each_format(name: str, two: tuple[object, ...], tmp_path: Path) -> None:
    result = done(*two, "--figure", tmp_path / name)
    content = (tmp_path / name).read_bytes()
    kind = {"svg": b"<svg", "png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-"}[name[2:].lower()]
    assert kind in content[:1000]
    if name.lower().endswith("png"):
        with Image.open(tmp_path / name) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    assert result.stdout == done(*two).stdout


def test_a_figure_that_cannot_be_written(two: tuple[object, ...]) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder that root cannot write")
    refusal(*two, "--figure", "/proc/f.svg").expect("NCTransferError", "/proc/f.svg", hint="--figure")


def test_one_file_for_the_figure_and_for_the_results(two: tuple[object, ...], tmp_path: Path) -> None:
    file = tmp_path / "f.svg"
    refusal(*two, "--figure", file, "--output", file).expect("SettingError", file)
    assert not file.exists()


# Checkpoints that are not whole


@pytest.fixture
def unfinished(training: Path, tmp_path: Path) -> Path:
    """A training that is being written, with something else in its folder."""
    folder = shutil.copytree(training, tmp_path / "unfinished")
    (folder / "epoch-11.safetensors").write_bytes((training / "epoch-1.safetensors").read_bytes()[:100_000])
    (folder / "epoch-[red]12.pth").write_bytes(b"")
    (folder / "epoch-0.pth").write_bytes(pickled({"cls_token": torch.zeros(3)}))
    return folder


def test_a_checkpoint_that_is_not_whole_is_named_and_left_out(unfinished: Path, two: tuple[object, ...]) -> None:
    command = (*two[:-2], unfinished)
    bad = ["epoch-0.pth", "epoch-11.safetensors", "epoch-[red]12.pth"]
    result = done(*command)
    assert [shows(line, repr(name)) for line, name in zip(warnings_of(result), bad, strict=True)] == [True] * 3
    assert [cells[0] for cells in rows_of(result.stdout)] == [f"epoch-{epoch}" for epoch in EPOCHS]
    found = data_of(*command)
    assert list(found["failed"]) == bad
    assert rows_of(result.stdout, 1) == [[name, *reason.split()] for name, reason in found["failed"].items()]
    assert shows(found["failed"]["epoch-0.pth"], "epoch-0.pth", "test_vit")
    assert [point["checkpoint"] for point in found["checkpoints"]] == [f"epoch-{epoch}.safetensors" for epoch in EPOCHS]
    assert len(frame(*command)) == 4
    quiet = done(*command, "--quiet")
    assert quiet.stderr == ""
    assert quiet.stdout == result.stdout


def test_no_whole_checkpoint_at_all(unfinished: Path, two: tuple[object, ...]) -> None:
    error = refusal(*two[:-2], unfinished / "epoch-11.safetensors", unfinished / "epoch-0.pth")
    error.expect("WeightsError", "epoch-0.pth", "test_vit", hint=None)
    for warning, name in zip(error.notes.splitlines(), ("epoch-0.pth", "epoch-11.safetensors"), strict=True):
        assert shows(warning, repr(name))


def test_the_weights_of_another_model(training: Path, data: Path) -> None:
    error = refusal("trajectory", "-m", "test_resnet", "-d", data, *FEW, training / "epoch-1.safetensors")
    error.expect("WeightsError", "epoch-1.safetensors", "test_resnet", hint="--model")


def test_broken_images(training: Path, pets: Path) -> None:
    (pets / "one" / "0.png").write_bytes(b"no image")
    command = ("trajectory", *VIT, "-d", pets, *FEW, "--checkpoints", training)
    error = refusal(*command)
    error.expect("BrokenImagesError", 1, 17, hint="--skip-broken")
    assert [one["id"] for one in error.content["broken"]] == ["one/0.png"]
    assert list(frame(*command, "--skip-broken").samples) == [17] * 4


# Again


def test_the_same_command_again_runs_nothing(ready: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    before = done(*ready).stdout
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("a backbone is made"))
    assert done(*ready).stdout == before


def test_only_checkpoints_that_are_new_are_run(
    training: Path, data: Path, tmp_path: Path, ran: Callable[[], int], names: Callable[..., Path]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = ("trajectory", *VIT, "-d", data, "--split", "test", *FEW, "--checkpoints", folder)
    for epoch in (10, 2):
        shutil.copy(training / f"epoch-{epoch}.safetensors", folder)
        assert len(rows_of(done(*command).stdout)) == len([*folder.iterdir()])
        assert ran() == 36
    options = ("--split", "train", "--classes", names(*NEW), "--source", data)  # of which one half is there
    assert noted(done(*command, *options, "--verbose"), 36, 72)
    assert ran() == 2 * 36


@pytest.mark.slow  # test_cli.py interrupts an extraction, by the same means
def test_an_interruption_keeps_what_was_done(
    training: Path, data: Path, tmp_path: Path, ran: Callable[[], int]
) -> None:
    command = ("trajectory", *VIT, "--data", data, *FEW, "--checkpoints", training)
    process = subprocess.Popen(
        command_line(*command, "--batch-size", "1", "--workers", "1", halts_after=3 * 72),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    limit = threading.Timer(300, process.kill)  # no test hangs
    limit.start()
    said, sent = [], []
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line)
        if "2/4" in line and not sent:
            sent.append(process.send_signal(signal.SIGINT))  # once: a second would end it in any way
    shown, _ = process.communicate()
    limit.cancel()
    assert (process.returncode, shown) == (130, ""), said
    assert said[-1].strip()
    assert not shows(said[-1], "/4")  # that it was interrupted, not another checkpoint
    assert "Traceback" not in "".join(said)
    assert shows(said[0], "'epoch-1.safetensors'", "1/4")
    rows = sum(stored.manifest().rows for stored in nct.FeatureStore().sets())
    assert 2 * 72 <= rows < 4 * 72
    assert data_of("cache", "verify")["damaged"] == []
    result = done(*command)
    assert ran() == 4 * 72 - rows
    assert said[:2] == result.stderr.splitlines(keepends=True)[:2]
    assert len(rows_of(result.stdout)) == 4


# Beside other commands


@pytest.mark.parametrize("source", [(), ("--source-classes", "{old}"), ("--source", "{data}")])
def test_the_target_at_the_last_checkpoint_is_the_set_used_last(
    source: tuple[str, ...], training: Path, data: Path, names: Callable[..., Path]
) -> None:
    files = [training / f"epoch-{epoch}.safetensors" for epoch in (10, 1)]
    given = [word.format(old=names(*OLD), data=data) for word in source]
    target = ("digits", "--max-per-class", 5) if "--source" in source else (data, "--split", "test")
    found = data_of("trajectory", *VIT, "-d", *target, *FEW, *files, *given)
    [sample] = [sample for sample in found["checkpoints"][-1]["samples"] if sample["name"] == "target"]
    last = data_of("collapse", "--pairs", 0)
    assert last["features"] == sample["features"]
    assert "epoch-10" in last["features"]["weights"]
    assert last["metrics"]["cdnv"] == pytest.approx(sample["metrics"]["cdnv"], rel=1e-9)


def test_features_of_a_checkpoint_are_those_of_extract(ready: tuple[object, ...], training: Path, data: Path) -> None:
    path = training / "epoch-9.safetensors"
    report = data_of("extract", *VIT, "-d", data, "--checkpoint", path, *ready[ready.index("--cache-dir") :][:2])
    assert (report["extracted"], report["reused"]) == (0, 72)
    ids = [point["samples"][0]["features"]["id"] for point in data_of(*ready)["checkpoints"]]
    assert ids[2] == report["id"]


def test_a_cache_that_cannot_be_written(training: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    command = ("trajectory", *VIT, "-d", data, *FEW, "--checkpoints", training, "--cache-dir", tmp_path / "file")
    refusal(*command).expect("StoreError", tmp_path / "file", hint="--cache-dir")


def test_help_has_every_option_that_the_readme_names() -> None:
    text = done("trajectory", "--help").stdout
    options = ("--checkpoints", "--figure", "--source-classes", "--source", "--train-split", "--test-split", "--split")
    assert [option for option in options if not re.search(rf"{option}\b(?!-)", text)] == []
