"""``nctransfer collapse`` by several workers: each saves statistics of its share, and a merge prints the report."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import nctransfer as nct
from nctransfer.features.files import stream_features
from terminal import data_of, done, refusal, refused, shows, warned

CLASSES = ("ant", "bee", "cat", "dog")
ARRAY = {"SLURM_ARRAY_TASK_MIN": "4", "SLURM_ARRAY_TASK_MAX": "6", "SLURM_ARRAY_TASK_STEP": "1"}


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """A file of features with small row groups, whose rows are in no order of classes; two rows are equal."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(CLASSES, 10))
    rows = rng.normal(size=(40, 5)) + np.array([[CLASSES.index(label)] for label in labels])
    rows[30] = rows[3]
    table = pa.table({"feature": rows.tolist(), "label": labels.tolist(), "id": [str(i) for i in rng.permutation(40)]})
    parquet.write_table(table, tmp_path / "features.parquet", row_group_size=8)
    return tmp_path / "features.parquet"


def same(found: Any, expected: Any) -> None:
    """All is the same but for rounding, and for the command that made it."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in found.keys() - {"provenance"}:
            same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == (pytest.approx(expected, rel=1e-9) if isinstance(expected, float) else expected)


def test_a_slurm_array_run_twice_and_a_merge(features: Path, tmp_path: Path) -> None:
    command = ("collapse", features, "--shard", "auto", "--save-statistics", tmp_path / "statistics")
    for number in (1, 2):
        for task in ("6", "4", "5"):
            result = done(*command, **ARRAY, SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="3")
            assert shows(result.stdout, f"{number} of 2", f"{int(task) - 3} of 3")
    merged = ("collapse", "--merge", tmp_path / "statistics", "--pairs", "all")
    same(data_of(*merged), data_of("collapse", features, "--pairs", "all"))
    result = done(*merged, "--all", "--explain", "--save-pairs", tmp_path / "pairs.parquet")
    assert warned(result, 1)  # the two equal rows, which are in different shares
    assert "directional_cdnv" in result.stdout
    assert parquet.read_table(tmp_path / "pairs.parquet").num_rows == 6


def test_a_classifier_takes_a_third_pass(features: Path, tmp_path: Path) -> None:
    for _ in range(3):
        for shard in ("1/2", "2/2"):
            said = data_of(
                "collapse", features, "--fit-head", "ridge", "--shard", shard, "--save-statistics", tmp_path / "s"
            )
    assert (said["pass"], said["passes"], said["missing"]) == (3, 3, [])
    same(data_of("collapse", "--merge", tmp_path / "s"), data_of("collapse", features, "--fit-head", "ridge"))


def test_a_worker_says_what_comes_next(features: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    command = ("collapse", features, "--save-statistics", folder, "--shard")
    assert shows(done(*command, "1/2").stdout, "1 of 2", "shard 2/2")
    assert shows(refused(*command, "1/2"), "means", "2/2", "--save-statistics")
    assert "same command" in done(*command, "2/2").stdout
    assert "--merge" in done(*command, "2/2").stdout
    assert shows(refused("collapse", "--merge", folder), "moments", "1/2")
    done(*command, "1/2")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert "--merge" in done(*command, "1/2").stdout
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_one_command_may_wait_for_the_other_workers(
    features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nctransfer.neural_collapse.sums_folder.POLL", 0.01)
    command = ("collapse", features, "--save-statistics", tmp_path / "s", "--shard", "1/2", "--wait")
    assert shows(refused(*command, "0.05s"), "means", "shard 2/2")
    tried = []

    def work() -> None:
        for _ in range(2):
            tried.append(nct.collapse_shard(stream_features(features), "2/2", tmp_path / "s", wait=60))

    other = threading.Thread(target=work)
    other.start()
    try:
        assert shows(done(*command, "1m").stdout, "2 of 2")
    finally:
        other.join(60)
    assert [one.number for one in tried] == [1, 2]
    same(data_of("collapse", "--merge", tmp_path / "s"), data_of("collapse", features))


def test_each_worker_may_have_a_file_of_its_own(features: Path, tmp_path: Path) -> None:
    table = parquet.read_table(features)
    for number in range(3):
        parquet.write_table(table.slice(14 * number, 14), tmp_path / f"{number + 1}.parquet")
    for number in (1, 2, 3):
        for share in (1, 2, 3):
            said = data_of(
                *("collapse", tmp_path / f"{share}.parquet", "--separate"),
                *("--shard", f"{share}/3", "--save-statistics", tmp_path / "s"),
            )
            assert (said["pass"], said["passes"]) == (number, 3)
    found, expected = data_of("collapse", "--merge", tmp_path / "s"), data_of("collapse", features)
    assert found["features"].pop("id") != expected["features"].pop("id")
    assert found["features"].pop("path") is None
    assert found["features"].pop("data") != expected["features"].pop("data")
    expected["features"].pop("path")
    same(found, expected)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--shard", "1/2"), ("--save-statistics",)),
        (("--save-statistics", "s"), ("--shard",)),
        (("--wait", "3m"), ("--shard",)),
        (("--separate",), ("--shard",)),
        (("--shard", "3/2", "--save-statistics", "s"), ("3/2",)),
        (("--shard", "1/2", "--save-statistics", "s", "--merge", "s"), ("--merge",)),
        (("--shard", "1/2", "--save-statistics", "s", "--drop-duplicates"), ("--drop-duplicates",)),
        (("--shard", "1/2", "--save-statistics", "s", "--figure", "f.svg"), ("--figure",)),
        (("--shard", "1/2", "--save-statistics", "s", "--save-pairs", "p.parquet"), ("--save-pairs",)),
        (("--shard", "1/2", "--save-statistics", "s", "--pairs", "all"), ("--pairs",)),
        (("--shard", "1/2", "--save-statistics", "s", "--layers", "all"), ("comparison",)),
        (("--shard", "1/2", "--save-statistics", "s", "--data", "pets"), ("--data",)),
        (("--merge", "s", "--fit-head", "ridge"), ("--fit-head",)),
        (("--merge", "s", "--split", "test"), ("--split",)),
        (("--merge", "s", "FEATURES"), ("FEATURES",)),
        (("--merge", "s", "--feature-column", "layer_3"), ("--feature-column",)),
        (("--merge", "s", "--drop-duplicates"), ("--drop-duplicates",)),
    ],
)
def test_what_does_not_go_together(options: tuple[str, ...], named: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        error = refusal("collapse", *options)
    assert error.type == "SettingError"
    assert shows(error.message, *named)
    assert error.hint


def test_images_are_named_by_their_stored_set() -> None:
    error = refusal("collapse", "--data", "pets", "--shard", "1/3", "--save-statistics", "s")
    assert shows(error.hint, "stored set", "nctransfer cache list", "--shard 1/3", "--save-statistics s")


def test_a_damaged_file_is_made_again_by_its_worker(features: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for _ in range(2):
        for shard in ("1/3", "2/3", "3/3"):
            done("collapse", features, "--save-statistics", folder, "--shard", shard)
    path = folder / "moments-2-of-3.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    error = refusal("collapse", "--merge", folder)
    assert shows(error.message, path.name, "damaged")
    assert shows(error.hint, "--shard 2/3", f"--save-statistics {folder}")
    result = done("collapse", features, "--save-statistics", folder, "--shard", "2/3")
    assert shows(result.stderr, path.name, "damaged", "again")
    assert path.read_bytes() == whole
    same(data_of("collapse", "--merge", folder), data_of("collapse", features))


def test_a_folder_without_statistics(tmp_path: Path) -> None:
    error = refusal("collapse", "--merge", tmp_path / "s")
    assert error.type == "FeaturesError"
    assert shows(error.hint, "--save-statistics")
