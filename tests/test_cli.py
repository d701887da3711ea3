"""The command line end to end: every command, what it prints on which stream, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

import nctransfer as nct
from conftest import Run, write_digits
from nctransfer.cli import _open_closed_streams
from nctransfer.cli.output_options import OutputOptions
from nctransfer.cli.terminal import Terminal
from terminal import (
    SMALL,
    VIT,
    cli,
    data_of,
    done,
    error_of,
    misused,
    noted,
    notes_of,
    on_terminal,
    refusal,
    shows,
    shows_line,
    warned,
    warnings_of,
)

COLOUR = re.compile(r"\x1b\[[\d;]*3\d")
PROGRESS = "━"  # what a bar is drawn with


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``pets``, for the whole module."""
    return write_digits(tmp_path_factory.mktemp("data") / "pets", {"zero": 0, "one": 1, "two": 2}, 6)


@pytest.fixture(scope="module")
def extracted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that holds the pets, and their id."""
    root = tmp_path_factory.mktemp("extracted")
    return root, data_of("extract", *VIT, "--data", folder, "--cache-dir", root)["id"]


@pytest.fixture
def stored(extracted: tuple[Path, str], cache: Path) -> str:
    """The id of the pets' features, which lie in this test's cache."""
    shutil.copytree(extracted[0], cache)
    return extracted[1]


def parquet(path: Path, features: Any, labels: list[str], names: tuple[str, str] = ("label", "feature")) -> Path:
    """Features made elsewhere: one file, vectors as lists."""
    path.parent.mkdir(exist_ok=True)
    rows = np.asarray(features, dtype="float32").tolist()
    pq.write_table(pa.table({names[0]: labels, names[1]: rows}), path)
    return path


LINE = [[0.0], [2.0], [10.0], [12.0]]  # a, a, b, b: CDNV 0.01


# The whole path


def ended_well(program: subprocess.CompletedProcess[str]) -> None:
    """A program ended well, and wrote text for a pipe, not for a terminal."""
    assert program.returncode == 0, program.stderr
    assert "Traceback" not in program.stderr
    assert "\x1b" not in program.stdout + program.stderr
    assert "\r" not in program.stdout + program.stderr


def test_extract_then_collapse_then_fewshot_without_arguments(run: Run, folder: Path) -> None:
    first = run("extract", *VIT, "--data", folder)
    ended_well(first)
    assert noted(first, folder, 18)
    assert warnings_of(first) == []
    stored_id = re.search(r"test_vit-[0-9a-f]+/pets-[0-9a-f]+", first.stdout)[0]  # type: ignore[index]
    assert shows(first.stdout, 18)

    second = done("collapse", "--format", "json")
    assert noted(second, stored_id)
    found = json.loads(second.stdout)
    assert found["features"]["id"] == stored_id
    provenance = found["provenance"]
    assert provenance["command"] == "nctransfer collapse --format json"
    assert provenance["seed"] == 0
    assert set(provenance["versions"]) == {"nctransfer", "timm", "torch"}
    assert provenance["versions"]["nctransfer"] == nct.__version__

    third = done("fewshot", *SMALL)
    [line] = third.stderr.splitlines()
    assert shows(line, stored_id)
    assert shows_line(third.stdout, 2, 1, "50.00")  # ways, shots and chance
    for name in ("ridge", "ncc"):
        assert re.search(rf"^{name} +\d+\.\d\d ± \d+\.\d\d +\d+\.\d\d +\d+\.\d\d\b", third.stdout, re.MULTILINE)


def test_the_demo_runs_offline_and_the_second_time_from_the_cache(run: Run) -> None:
    first = run("demo")
    ended_well(first)
    assert noted(first, "digits", 1797)
    assert noted(first, 400)
    assert warnings_of(first) == []
    assert shows(first.stdout, "tf_efficientnet_lite0.in1k", 400, "ncc_accuracy", "ridge", "ncc")

    second = done("demo", "--format", "json")
    assert noted(second, 400)
    found = json.loads(second.stdout)
    assert (found["extract"]["reused"], found["extract"]["extracted"]) == (400, 0)
    assert found["collapse"]["metrics"]["ncc_accuracy"] > 0.6  # chance is 0.1
    rows = found["fewshot"]["results"]
    assert [row["accuracy"] > 0.5 for row in rows] == [True] * 4  # chance is 0.2
    for row in rows:
        assert f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}" in first.stdout


def test_with_nothing_stored_and_nothing_said_the_default_is_extracted_and_said() -> None:
    result = done("collapse", "--max-per-class", "2", "--format", "json")
    assert noted(result, "tf_efficientnet_lite0")
    assert noted(result, "digits")
    features = json.loads(result.stdout)["features"]
    assert (features["data"], features["samples"], features["classes"]) == ("digits", 20, 10)


# Which features


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
@pytest.mark.parametrize("form", ["id", "prefix", "folder", "rows", "relative", "backbone"])
def test_features_are_found_by_any_name(
    command: str, form: str, stored: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cache / "features" / stored
    monkeypatch.chdir(here.parent)
    name = {
        "id": stored,
        "prefix": stored[:10],
        "folder": here,
        "rows": here / "rows",
        "relative": Path(here.name) / "rows",
        "backbone": stored.partition("/")[0],
    }[form]
    result = done(command, name, *(SMALL if command == "fewshot" else ()), "--format", "json")
    features = json.loads(result.stdout)["features"]
    assert features.pop("key")["model"] == "test_vit"
    assert features == {
        "id": stored,
        "model": "test_vit",
        "weights": features["weights"],
        "data": features["data"],
        "split": None,
        "layer": "feature",
        "label_column": None,
        "path": str(here / "rows"),
        "samples": 18,
        "classes": 3,
        "dim": 64,
        "missing": 0,
    }
    assert shows(features["weights"], "random", 0)  # the seed
    assert not notes_of(result)


@pytest.mark.parametrize("in_folder", [False, True])
def test_features_made_elsewhere(in_folder: bool, tmp_path: Path) -> None:
    file = parquet(tmp_path / "theirs" / "f.parquet", LINE, list("aabb"))
    found = data_of("collapse", file.parent if in_folder else file)
    assert found["metrics"]["cdnv"] == 0.01
    assert found["features"]["samples"] == 4
    assert found["features"]["model"] is None


def test_columns_of_any_name(tmp_path: Path) -> None:
    file = parquet(tmp_path / "f.parquet", LINE, list("aabb"), ("y", "x"))
    found = data_of("collapse", file, "--label-column", "y", "--feature-column", "x")
    assert found["metrics"]["cdnv"] == 0.01
    few = data_of(
        "fewshot", file, "--label-column", "y", "--feature-column", "x", "-w", 2, "--queries", 1, "-e", 50, "-c", "ncc"
    )
    assert [row["accuracy"] for row in few["results"]] == [1.0]


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_model_and_data_are_extracted_first(command: str, folder: Path) -> None:
    more = SMALL if command == "fewshot" else ()
    first = done(command, *VIT, "--data", folder, *more)
    [stored] = nct.FeatureStore().sets()
    parts = {path: path.stat().st_mtime_ns for path in stored.rows_path.iterdir()}
    second = done(command, *VIT, "--data", folder, *more)
    assert second.stdout == first.stdout
    assert {path: path.stat().st_mtime_ns for path in stored.rows_path.iterdir()} == parts, "nothing is extracted again"
    assert noted(second, 18)
    assert notes_of(second) != notes_of(first)
    assert not noted(second, stored.id)
    assert noted(done(command, *more), stored.id)


def test_features_and_a_model_at_once_are_refused(stored: str) -> None:
    refusal("collapse", stored, "--model", "test_vit").expect("FeaturesError", stored, "--model")


# Which samples


def test_a_file_of_classes(stored: str, tmp_path: Path) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("two\n\n zero \n", encoding="utf-8")
    result = done("collapse", "--classes", names, "--format", "json")
    pair = json.loads(result.stdout)["pairs"][0]
    assert (pair["class_a"], pair["class_b"]) == ("two", "zero")
    assert noted(result, stored, 2)


def test_at_most_so_many_a_class(stored: str) -> None:
    few, again, others = (
        data_of("collapse", stored, "--max-per-class", 3, "--seed", seed, "--pairs", 0) for seed in (0, 0, 1)
    )
    assert few["features"]["samples"] == 9
    assert few["metrics"] == again["metrics"]
    assert few["metrics"] != others["metrics"]
    assert others["provenance"]["seed"] == 1


def test_only_one_split(tmp_path: Path) -> None:
    for split, each in (("train", 3), ("test", 2)):
        write_digits(tmp_path / "split" / split, {"zero": 0, "one": 1}, each)
    assert data_of("extract", *VIT, "--data", tmp_path / "split", "--split", "test")["extracted"] == 4
    report = data_of("extract", *VIT, "--data", tmp_path / "split")
    assert (report["samples"], report["reused"], report["extracted"]) == (10, 8, 2)  # four images are in both splits
    for split, samples in (("train", 6), ("test", 4)):
        features = data_of("collapse", "--split", split)["features"]
        assert (features["samples"], features["classes"], features["split"]) == (samples, 2, split)
    assert data_of("collapse")["features"]["samples"] == 10
    refusal("collapse", "--split", "val").expect("FeaturesError", "val", hint=("test", "train"))


def test_the_set_used_last_is_used_as_it_was(folder: Path) -> None:
    done("extract", *VIT, "--data", folder, "--max-per-class", 2)
    result = done("collapse", "--format", "json")
    assert json.loads(result.stdout)["features"]["samples"] == 6
    assert noted(result, 2)


def test_samples_that_are_wanted_and_not_stored_are_not_passed_over_in_silence(folder: Path) -> None:
    done("extract", *VIT, "--data", folder, "--max-per-class", 3)
    refusal("collapse", "--max-per-class", 6).expect("IncompleteError", 9, 18, hint="--partial")
    result = done("collapse", "--max-per-class", 6, "--partial", "--pairs", 0, "--format", "json")
    assert json.loads(result.stdout)["features"]["samples"] == 9
    assert warned(result, 9, 18)


# Numbers


def test_every_number_of_ways_and_shots_has_its_row(stored: str) -> None:
    command = ("fewshot", stored, "--ways", "3,2", "--shots", "1,2", "--queries", 3, "--episodes", 20, "--no-theory")
    rows = data_of(*command)["results"]
    tasks = [(row["ways"], row["shots"], row["classifier"]) for row in rows]
    assert tasks == [(ways, shots, name) for ways in (2, 3) for shots in (1, 2) for name in ("ridge", "ncc")]
    assert len(re.findall(r"^ +[23] +[12] +\d", done(*command).stdout, re.MULTILINE)) == 4


def numbers(*arguments: object) -> list[float]:
    return [row["accuracy"] for row in data_of("fewshot", *SMALL, *arguments)["results"]]


def test_a_seed_decides_the_episodes(stored: str) -> None:
    assert numbers(stored) == numbers(stored, "--seed", 0) != numbers(stored, "--seed", 1)


@pytest.mark.parametrize("name", ["ridge", "ncc"])
def test_one_classifier(name: str, stored: str) -> None:
    assert [row["classifier"] for row in data_of("fewshot", stored, *SMALL, "-c", name)["results"]] == [name]


def defined(found: dict[str, Any]) -> dict[str, float]:
    """The metrics that have a value."""
    return {name: value for name, value in found["metrics"].items() if value is not None}


def test_the_batch_size_changes_no_number(folder: Path, tmp_path: Path) -> None:
    found = []
    for size, workers in ((1, 1), (32, 2)):
        options = ("--batch-size", size, "--workers", workers, "--cache-dir", tmp_path / f"cache{size}")
        found.append(data_of("collapse", *VIT, "--data", folder, *options))
    assert defined(found[0]) == pytest.approx(defined(found[1]), rel=1e-4)
    assert found[0]["features"]["id"] == found[1]["features"]["id"]
    assert found[0]["features"]["path"] != found[1]["features"]["path"]


def test_pairs_are_those_closest_first(stored: str) -> None:
    pairs = data_of("collapse", stored)["pairs"]
    assert {(pair["class_a"], pair["class_b"]) for pair in pairs} == {("one", "two"), ("one", "zero"), ("two", "zero")}
    assert [pair["cdnv"] for pair in pairs] == sorted((pair["cdnv"] for pair in pairs), reverse=True)
    assert data_of("collapse", stored, "--pairs", 1)["pairs"] == pairs[:1]
    assert data_of("collapse", stored, "--pairs", 0)["pairs"] == []


# Formats

ABOUT = {"id", "model", "weights", "data", "split", "layer", "samples", "classes", "dim"}
ROW = {"ways", "shots", "queries", "episodes", "classifier", "seed", "accuracy", "ci95", "seconds"}
KEYS = {
    "extract": {"id", "path", "samples", "classes", "extracted", "reused", "failed", "seconds", "images_per_second"},
    "collapse": {"features", "metrics", "intervals", "undefined", "pairs"},
    "fewshot": {"features", "results"},
    "models": {"models"},
    "cache list": {"sets"},
    "cache show": {"id", "path", "rows", "key"},
    "cache verify": {"damaged", "sets"},
}


@pytest.fixture
def command(request: pytest.FixtureRequest, stored: str, folder: Path) -> list[Any]:
    """A command by its name, with what it needs."""
    more = {
        "extract": [*VIT, "--data", folder],
        "fewshot": [stored, *SMALL],
        "collapse": [stored],
        "models": ["test_vit"],
        "cache show": [stored],
    }
    return [*request.param.split(), *more.get(request.param, [])]


each_command = pytest.mark.parametrize("command", KEYS, indirect=True)


@pytest.mark.parametrize(("command", "keys"), KEYS.items(), indirect=["command"])
def test_json_has_everything(command: list[Any], keys: set[str]) -> None:
    found = data_of(*command)
    assert found.keys() >= keys | {"provenance"}
    assert found["provenance"]["command"].startswith("nctransfer ")


def test_json_of_collapse(stored: str) -> None:
    found = data_of("collapse", stored)
    report = nct.collapse(nct.load_features(stored))
    assert found["features"].keys() >= ABOUT
    assert found["metrics"] == report.metrics  # to the last digit
    assert found["intervals"] == {name: list(ends) for name, ends in report.intervals.items()}
    assert found["undefined"] == report.undefined
    assert found["pairs"][0].keys() == {
        "class_a",
        "class_b",
        "cdnv",
        "directional_ab",
        "directional_ba",
        "distance",
    }


def test_json_of_fewshot(stored: str) -> None:
    found = data_of("fewshot", stored, *SMALL)
    result = nct.fewshot(nct.load_features(stored), 2, queries=3, episodes=20)
    assert found["features"].keys() >= ABOUT
    for row, expected in zip(found["results"], result.rows, strict=True):
        assert row.keys() >= ROW
        assert (row["accuracy"], row["ci95"]) == (expected.accuracy, expected.ci95)


def test_what_is_infinite_or_not_defined(tmp_path: Path) -> None:
    file = parquet(tmp_path / "f.parquet", [[1.0], [2.0], [1.0], [2.0]], list("aabb"))
    found = data_of("collapse", file)
    assert found["metrics"]["cdnv"] == "inf"
    assert found["metrics"]["nc1"] is None
    assert all(reason.strip() for reason in found["undefined"].values())
    assert found["undefined"].keys() == {name for name, value in found["metrics"].items() if value is None}
    shown = done("collapse", file, "--format", "csv").stdout
    table = pd.read_csv(io.StringIO(shown), index_col="metric")
    assert math.isinf(table.value["cdnv"])
    assert math.isnan(table.value["nc1"])


@each_command
def test_csv_is_read_by_pandas(command: list[Any]) -> None:
    shown = done(*command, "--format", "csv").stdout
    table = pd.read_csv(io.StringIO(shown)) if shown.strip() else pd.DataFrame()
    assert shown.strip() == "" or len(table.columns) > 1
    assert len(table) or command[:2] == ["cache", "verify"]
    assert not re.search(r"[{\[(]['\"]", shown), "a cell of CSV is no Python"


def test_csv_is_exact(stored: str) -> None:
    rows = csv.DictReader(io.StringIO(done("collapse", stored, "--format", "csv").stdout))
    values = {row["metric"]: float(row["value"]) if row["value"] else None for row in rows}
    assert values == data_of("collapse", stored)["metrics"]


@each_command
def test_markdown_is_a_table(command: list[Any]) -> None:
    text = done(*command, "--format", "markdown").stdout
    assert text.startswith("### ")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert bool(tables) == (command[0] in {"collapse", "fewshot", "models"} or command[:2] == ["cache", "list"])
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert re.fullmatch(r"\|( -{3}:? \|)+", lines[1])
        assert len(lines) > 2


@each_command
def test_a_table_holds_the_result_and_nothing_else(command: list[Any]) -> None:
    result = done(*command)
    assert result.stdout.strip()
    shown, said = ({line.strip() for line in text.splitlines()} - {""} for text in (result.stdout, result.stderr))
    assert not shown & said
    assert not any(line.startswith(("warning: ", "error: ", "hint: ")) for line in shown)
    assert not any(re.search(r"\d\.\d", line) for line in said)


@each_command
def test_quiet_says_nothing_beside_the_result(command: list[Any]) -> None:
    assert done(*command, "--quiet").stderr == ""


def test_without_quiet_there_is_something_to_say(folder: Path, stored: str) -> None:
    assert done("extract", *VIT, "--data", folder).stderr
    assert done("collapse", stored).stderr


@pytest.mark.parametrize("kind", ["table", "json", "csv", "markdown", "latex"])
@pytest.mark.parametrize("command", ["collapse", "cache list"], indirect=True)
def test_a_result_goes_into_a_file(command: list[Any], kind: str, tmp_path: Path) -> None:
    file = tmp_path / "result.txt"
    file.write_text("old", encoding="utf-8")
    result = done(*command, "--format", kind, "--output", file)
    assert result.stdout == ""
    written = file.read_text("utf-8")
    shown = done(*command, "--format", kind).stdout
    if kind == "json":
        written, shown = (text.partition('"provenance"')[0] for text in (written, shown))
    assert written == shown


@pytest.mark.parametrize("place", ["missing/result.txt", "."])
def test_a_file_that_cannot_be_written(place: str, stored: str, tmp_path: Path) -> None:
    error = refusal("collapse", stored, "--output", tmp_path / place, "--quiet")
    error.expect("NCTransferError", tmp_path / place, hint="--output")


@pytest.mark.parametrize("kind", ["table", "markdown", "csv"])
def test_a_stream_that_knows_ascii_only_is_no_reason_to_fail(kind: str, stored: str) -> None:
    result = done("collapse", stored, "--format", kind, charset="ascii")
    assert "ncc" in result.stdout


def test_a_wide_table_in_a_pipe_is_not_folded(stored: str) -> None:
    narrow, wide = (done("collapse", stored, COLUMNS=columns).stdout.splitlines() for columns in ("40", "200"))
    assert [line for line in narrow if line.startswith(("cdnv", "ncc", "one"))] == [
        line for line in wide if line.startswith(("cdnv", "ncc", "one"))
    ]
    assert any(line.startswith("cdnv_debiased ") for line in narrow)


# The cache


def test_the_option_beats_the_environment(stored: str, tmp_path: Path, cache: Path) -> None:
    assert done("cache", "path").stdout == f"{cache}\n"
    other = tmp_path / "other"
    assert done("cache", "path", "--cache-dir", other).stdout == f"{other}\n"
    assert data_of("cache", "list")["sets"][0]["id"] == stored
    assert data_of("cache", "list", "--cache-dir", other)["sets"] == []
    assert cli("collapse", stored, "--cache-dir", other).exit_code == 1


def test_a_set_is_listed_and_shown(stored: str, folder: Path, cache: Path) -> None:
    listed = data_of("cache", "list")["sets"]
    shown = data_of("cache", "show", stored[:9])
    del shown["provenance"]
    assert listed == [shown]
    rows = cache / "features" / stored / "rows"
    assert (shown["id"], shown["rows"], shown["data"], shown["path"]) == (stored, 18, str(folder), str(rows))
    assert shown["key"]["model"] == "test_vit"
    assert shown["bytes"] == sum(path.stat().st_size for path in rows.iterdir())
    assert len(pd.read_parquet(shown["path"])) == 18  # as any tool opens it
    assert str(rows) in done("cache", "show", stored).stdout
    assert stored in done("cache", "list").stdout


def flip_a_bit(path: Path, keep_time: bool) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize("which", [(), ("test_vit",)])
def test_an_altered_byte_is_found_and_mended(
    keep_time: bool, which: tuple[str, ...], stored: str, cache: Path, folder: Path
) -> None:
    assert data_of("cache", "verify", *which)["damaged"] == []
    before = defined(data_of("collapse", stored))
    [part] = (cache / "features" / stored / "rows").iterdir()
    flip_a_bit(part, keep_time)

    found = cli("cache", "verify", *which, "--format", "json")
    assert found.exit_code == 1
    assert [(row["id"], row["file"]) for row in json.loads(found.stdout)["damaged"]] == [(stored, part.name)]
    error_of(found.stderr).expect("StoreError", 1, hint="nctransfer cache repair")
    refusal("collapse", stored).expect("StoreError", part.name)

    assert [row["file"] for row in data_of("cache", "repair", *which)["deleted"]] == [part.name]
    done("extract", *VIT, "--data", folder)  # as the hint says
    assert data_of("cache", "verify", *which)["damaged"] == []
    assert defined(data_of("collapse", stored)) == pytest.approx(before, rel=1e-4)


def test_a_set_is_removed(stored: str, cache: Path) -> None:
    result = done("cache", "remove", stored[:9], "--yes")
    assert result.stdout == ""
    assert noted(result, stored)
    assert data_of("cache", "list")["sets"] == []
    assert not (cache / "features" / stored).exists()


@pytest.mark.parametrize(("answer", "kept"), [("y\n", False), ("n\n", True), ("\n", True), ("", True)])
def test_a_set_is_not_removed_unasked(answer: str, kept: bool, stored: str, cache: Path) -> None:
    result = cli("cache", "remove", stored, answer=answer)
    assert result.stdout == "", "a question is no part of the result"
    assert shows(result.stderr, stored, 18)
    assert (cache / "features" / stored).exists() == kept
    assert result.exit_code == kept


# Models


def test_without_a_pattern_the_bundled_model_is_at_hand() -> None:
    models = {model["name"]: model for model in data_of("models")["models"]}
    assert models["tf_efficientnet_lite0.in1k"]["at_hand"] == "package"
    assert models["vit_base_patch16_224.augreg2_in21k_ft_in1k"]["aliases"] == ["vit_base"]
    assert sum(bool(model["at_hand"]) for model in models.values()) < len(models)
    [line] = (line for line in done("models").stdout.splitlines() if "tf_efficientnet_lite0.in1k" in line)
    assert shows(line, "package")


@pytest.mark.parametrize("pattern", ["resnet50", "resnet50*"])
def test_a_pattern_chooses_models(pattern: str) -> None:
    names = [model["name"] for model in data_of("models", pattern)["models"]]
    assert "resnet50.a1_in1k" in names
    assert all("resnet50" in name for name in names)
    assert any(not name.startswith("resnet50") for name in names) == ("*" not in pattern)


# How it ends


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fewshot", "--nope"], "--nope"),
        (["fewshot", "--shots", "x"], "--shots"),
        (["fewshot", "--shots", "1.5"], "--shots"),
        (["fewshot", "--ways", ""], "--ways"),
        (["fewshot", "--queries", "x"], "--queries"),
        (["fewshot", "--episodes", "1"], "--episodes"),
        (["collapse", "--pairs", "-1"], "--pairs"),
        (["collapse", "--format", "xml"], "--format"),
        (["extract", "--batch-size", "0"], "--batch-size"),
        (["extract", "--max-per-class", "0"], "--max-per-class"),
        (["cache", "show"], "SET"),
        (["nothing"], "nothing"),
        (["--nope"], "--nope"),
    ],
)
def test_wrong_usage_ends_in_two(arguments: list[str], named: str, stored: str) -> None:
    assert shows(misused(*arguments), named)


@pytest.mark.parametrize(
    ("arguments", "values", "tells"),
    [
        (["--ways", "1"], ["ways", 1], (2,)),
        (["--ways", "2,1"], ["ways", 1], (2,)),
        (["--shots", "0"], ["shots", 0], (1,)),
        (["--queries", "0"], ["queries", 0], (1,)),
        (["--classifier", "svm"], ["svm"], ("ridge", "ncc")),
        (["--classifier", "ncc,"], [""], ("ridge", "ncc")),
    ],
)
def test_a_task_that_makes_no_sense(
    arguments: list[str], values: list[object], tells: tuple[object, ...], stored: str
) -> None:
    refusal("fewshot", stored, *arguments).expect("SettingError", *values, tells=tells)


def test_without_a_command_there_is_help() -> None:
    result = cli()
    assert "nctransfer demo" in result.stdout + result.stderr
    assert result.exit_code == 2


# A terminal


def test_a_narrow_terminal_shows_colour_and_progress_and_cuts_no_number(stored: str) -> None:
    code, screen = on_terminal("fewshot", stored, *SMALL, COLUMNS="40")
    assert code == 0
    assert COLOUR.search(screen)
    assert PROGRESS in screen
    expected = done("fewshot", stored, *SMALL).stdout
    accuracies = re.findall(r"\d+\.\d\d ± \d+\.\d\d", expected)
    assert len(accuracies) == 2
    assert all(accuracy in re.sub(r"\x1b\[[\d;]*m", "", screen) for accuracy in accuracies)


def test_no_color_is_honoured() -> None:
    code, screen = on_terminal("cache", "show", "absent", NO_COLOR="yes")
    assert code == 1
    assert shows(screen, "absent", "nctransfer extract")
    assert PROGRESS in screen
    assert not COLOUR.search(screen)


def test_quiet_draws_no_progress(cache: Path) -> None:
    assert on_terminal("cache", "path", "--quiet") == (0, f"{cache}\r\n")


def test_an_interruption_keeps_what_was_done() -> None:
    command = ("extract", *VIT, "--data", "digits", "--max-per-class", "50")
    sent = []

    def interrupt(screen: bytes, process: subprocess.Popen[bytes]) -> None:
        if not sent and re.search(rb"\b[1-9]\d*/500", screen):
            sent.append(process.send_signal(signal.SIGINT))

    code, screen = on_terminal(*command, "--batch-size", "2", "--workers", "1", react=interrupt, halts_after=200)
    assert sent, screen
    assert code == 130
    assert "Traceback" not in screen
    assert "interrupted" in screen.lower()
    [rows] = [kept.manifest().rows for kept in nct.FeatureStore().sets()]
    assert 0 < rows < 500
    assert f"{rows} of 500 images are in the cache" in screen
    assert data_of("cache", "verify")["damaged"] == []
    result = done(*command, "--format", "json")
    report = json.loads(result.stdout)
    assert (report["reused"], report["extracted"]) == (rows, 500 - rows)
    assert noted(result, rows, 500 - rows)


def test_an_interrupted_question_ends_as_any_interruption(stored: str, cache: Path) -> None:
    sent: list[threading.Timer] = []

    def interrupt(screen: bytes, process: subprocess.Popen[bytes]) -> None:
        if not sent and b"[y/n]" in screen:
            sent.append(threading.Timer(0.5, process.send_signal, [signal.SIGINT]))  # once it waits for the answer
            sent[0].start()

    code, screen = on_terminal("cache", "remove", stored, react=interrupt)
    assert sent, screen
    assert (cache / "features" / stored).exists()
    assert "Traceback" not in screen
    assert code == 130


def test_a_scheduler_that_ends_the_job_is_obeyed_as_ctrl_c() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ended_by_a_scheduler() -> None:
        with Terminal(OutputOptions()):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(typer.Exit) as caught:
        ended_by_a_scheduler()
    assert caught.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("before", [(True, logging.NOTSET), (False, logging.WARNING)])
def test_the_log_of_the_library_is_left_as_it_was(before: tuple[bool, int], monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("nctransfer")
    monkeypatch.setattr(logger, "propagate", before[0])
    monkeypatch.setattr(logger, "level", before[1])
    with Terminal(OutputOptions(quiet=True)):
        assert (logger.propagate, logger.level) == (False, logging.ERROR)
    assert (logger.propagate, logger.level) == before


def test_results_that_stdout_does_not_take_are_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as full:  # as on a full disk
        run = subprocess.run(
            [sys.executable, "-m", "nctransfer", "cache", "list"],
            env={**os.environ, "NCTRANSFER_CACHE": str(tmp_path)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert "No space left" in run.stderr
    assert "Traceback" not in run.stderr


def test_streams_that_the_caller_closed_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    _open_closed_streams()
    opened = [sys.stdin, sys.stdout, sys.stderr]
    assert (sys.stdin.read(), sys.stdout.write("1"), sys.stderr.write("1")) == ("", 1, 1)
    for stream in opened:
        stream.close()
