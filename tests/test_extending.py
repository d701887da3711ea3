"""The package of docs/extending.md, installed as the page has it: its entries are in help texts and in results."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import write_digits

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
TITLED = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def install(folder: Path) -> Path:
    """Write the files of the page, and what an installer would make of its pyproject.toml."""
    files = dict(TITLED.findall(PAGE.read_text("utf-8")))
    project = tomllib.loads(files.pop("pyproject.toml"))["project"]
    for name, code in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    about = folder / f"nctransfer_extras-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and a database of real images."""
    root = tmp_path_factory.mktemp("extending")
    install(root / "site")
    images = sorted(write_digits(root / "pets", {"zero": 0, "one": 1, "two": 2}, 8).rglob("*.png"))
    with closing(sqlite3.connect(root / "pets.sqlite")) as database, database:
        database.execute("CREATE TABLE images (id TEXT, class TEXT, image BLOB)")
        rows = [(f"{path.parent.name}/{path.name}", path.parent.name, path.read_bytes()) for path in images]
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    return root


def nctransfer(place: Path, *arguments: str, code: int = 0) -> str:
    """Stdout of a command that runs beside the package."""
    path = os.pathsep.join(filter(None, [str(place / "site"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "NCTRANSFER_CACHE": str(place / "cache"), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", "nctransfer", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=place,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def extracted(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        nctransfer(
            place,
            *("extract", "--data", "pets.sqlite", "--model", "test_vit", "--random-init"),
            *("--format", "json", "--quiet"),
        )
    )
    return found


def test_the_source_is_extracted(extracted: dict[str, Any]) -> None:
    assert (extracted["samples"], extracted["failed"]) == (24, [])


@pytest.mark.usefixtures("extracted")
def test_the_measure_is_in_the_results(place: Path) -> None:
    found = json.loads(nctransfer(place, "collapse", "--format", "json", "--pairs", "all", "--quiet"))
    assert found["metrics"]["largest_cdnv"] == max(pair["cdnv"] for pair in found["pairs"])
    assert "largest_cdnv" in nctransfer(place, "collapse", "--all")


@pytest.mark.usefixtures("extracted")
def test_the_classifier_is_in_the_results(place: Path) -> None:
    task = ("--ways", "3", "--queries", "5", "--episodes", "50", "--quiet")
    found = json.loads(nctransfer(place, "fewshot", "--classifier", "parzen,knn", *task, "--format", "json"))
    accuracies = {row["classifier"]: row["accuracy"] for row in found["results"]}
    assert accuracies["parzen"] == pytest.approx(accuracies["knn"])  # at one shot the nearest window is the neighbour
    assert accuracies["parzen"] > 1 / 3


@pytest.mark.usefixtures("extracted")
def test_the_format_prints_results(place: Path) -> None:
    lines = nctransfer(place, "cache", "list", "--format", "tsv").splitlines()
    assert "id" in lines[0].split("\t")
    assert any("test_vit" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("command", "name"),
    [("fewshot", "parzen"), ("fewshot", "tsv"), ("extract", "sqlite")],
)
def test_help_knows_the_entries(place: Path, command: str, name: str) -> None:
    assert name in nctransfer(place, command, "--help")


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    root = tmp_path / "broken"
    install(root / "site")
    (root / "site" / "nctransfer_extras" / "measures.py").write_text("1 / 0\n")
    path = os.pathsep.join(filter(None, [str(root / "site"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "nctransfer", "collapse", "--data", "digits", "--max-per-class", "3"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path, "NCTRANSFER_CACHE": str(tmp_path / "cache2")},
        check=False,
    )
    assert done.returncode == 1
    assert "nctransfer-extras" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback" not in done.stderr
