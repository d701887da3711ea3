"""The package of docs/extending.md, installed as the page has it: its entries are in help texts and in results."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

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


PROGRAM = """
import json, sys
from typer.testing import CliRunner
from nctransfer.cli import app

found = []
for words in json.load(sys.stdin):
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    found.append((result.exit_code, result.stdout, result.stderr))
json.dump(found, sys.stdout)
"""


def nctransfer(site: Path, *commands: Sequence[str], cache: Path) -> list[tuple[int, str, str]]:
    """Exit code, stdout and stderr of each of some commands, one after the other, in a process beside the package."""
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=site.parent,
        env={**os.environ, "PYTHONPATH": path, "NCTRANSFER_CACHE": str(cache), "COLUMNS": "120"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout)]


COMMANDS = {
    "extract": "extract --data pets.sqlite --model test_vit --random-init --format json --quiet",
    "pairs": "collapse --format json --pairs all --quiet",
    "all": "collapse --all",
    "fewshot": "fewshot --classifier parzen,knn --ways 3 --queries 5 --episodes 50 --quiet --format json",
    "list": "cache list --format tsv",
    "help of fewshot": "fewshot --help",
    "help of extract": "extract --help",
}


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, str]:
    """What each of the commands prints."""
    found = nctransfer(place / "site", *map(str.split, COMMANDS.values()), cache=place / "cache")
    assert [code for code, _, _ in found] == [0] * len(COMMANDS), found
    return {name: stdout for name, (_, stdout, _) in zip(COMMANDS, found, strict=True)}


def test_the_source_is_extracted(said: dict[str, str]) -> None:
    extracted = json.loads(said["extract"])
    assert (extracted["samples"], extracted["failed"]) == (24, [])


def test_the_measure_is_in_the_results(said: dict[str, str]) -> None:
    found = json.loads(said["pairs"])
    assert found["metrics"]["largest_cdnv"] == max(pair["cdnv"] for pair in found["pairs"])
    assert "largest_cdnv" in said["all"]


def test_the_classifier_is_in_the_results(said: dict[str, str]) -> None:
    found = json.loads(said["fewshot"])
    accuracies = {row["classifier"]: row["accuracy"] for row in found["results"]}
    assert accuracies["parzen"] == pytest.approx(accuracies["knn"])  # at one shot the nearest window is the neighbour
    assert accuracies["parzen"] > 1 / 3


def test_the_format_prints_results(said: dict[str, str]) -> None:
    lines = said["list"].splitlines()
    assert "id" in lines[0].split("\t")
    assert any("test_vit" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("command", "name"),
    [("fewshot", "parzen"), ("fewshot", "tsv"), ("extract", "sqlite")],
)
def test_help_knows_the_entries(said: dict[str, str], command: str, name: str) -> None:
    assert name in said[f"help of {command}"]


def test_a_broken_package_is_named(tmp_path: Path) -> None:
    root = tmp_path / "broken"
    install(root / "site")
    (root / "site" / "nctransfer_extras" / "measures.py").write_text("1 / 0\n")
    command = "collapse --data digits --max-per-class 3 --model test_vit --random-init"
    [(code, _, stderr)] = nctransfer(root / "site", command.split(), cache=tmp_path / "cache2")
    assert code == 1
    assert "nctransfer-extras" in stderr
    assert "ZeroDivisionError" in stderr
    assert "Traceback" not in stderr
