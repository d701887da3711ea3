"""The examples run, and the README says what there is."""

from __future__ import annotations

import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nctransfer as nct
from conftest import write_digits
from terminal import done, shows

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def assert_library_example(shown: str) -> None:
    """A CDNV and an accuracy; and a table of accuracies by shots and classifier."""
    assert re.search(r"^.*\b\d\.\d{3}\b.*\b\d\d\.\d%$", shown, re.MULTILINE)
    assert [line.split()[0] for line in re.findall(r"^\d+ +0\.\d+ +0\.\d+$", shown, re.MULTILINE)] == ["1", "2", "5"]


def test_library_example_on_small_images(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nct, "extract", functools.partial(nct.extract, img_size=64))
    runpy.run_path(str(EXAMPLES / "library.py"), run_name="__main__")
    assert_library_example(capsys.readouterr().out)


def test_the_example_of_a_head_on_small_images(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nct, "extract", functools.partial(nct.extract, img_size=64))
    runpy.run_path(str(EXAMPLES / "label_new_images.py"), run_name="__main__")
    shown = capsys.readouterr().out
    expected, low, high = map(float, re.findall(r"(\d+\.\d)%", shown)[:3])
    assert 50 < low < expected < high < 100
    answered, images, right = map(int, re.findall(r"(\d+) of (\d+) images answered, (\d+) of them right", shown)[0])
    assert 0.7 * answered < right <= answered <= images == 50


@pytest.mark.slow
def test_library_example(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "library.py"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert_library_example(done.stdout)


def own_folder(images: Path, programs: Path) -> str:
    """What the shell script prints if ``nctransfer`` is the program in that folder."""
    done = subprocess.run(
        ["bash", EXAMPLES / "own_folder.sh", images],
        capture_output=True,
        text=True,
        cwd=images.parent,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 8)


def assert_few_shot(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["features"]["samples"], found["features"]["classes"]) == (24, 3)
    assert [(row["ways"], row["shots"]) for row in found["results"]] == [(2, 1), (2, 1), (2, 3), (2, 3)]


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_commands_of_the_own_folder_example(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that the script gives, on small images, without a process for each."""
    program = images.parent / "bin" / "nctransfer"
    program.parent.mkdir()
    program.write_text('#!/usr/bin/env bash\necho "${@@Q}"\n')
    program.chmod(0o755)
    extract, *others = map(shlex.split, own_folder(images, program.parent).splitlines())
    monkeypatch.chdir(images.parent)
    done(*extract, "--img-size", 64)
    assert len(others) == 3
    for command in others:
        done(*command)
    assert_few_shot(images.parent / "fewshot.json")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_own_folder_example(images: Path) -> None:
    shown = own_folder(images, Path(sys.executable).parent)
    assert any(shows(line, "pets", 24, 3) for line in shown.splitlines())
    assert_few_shot(images.parent / "fewshot.json")


def test_the_tables_of_the_readme_are_those_of_the_code() -> None:
    fill = runpy.run_path(str(ROOT / "docs" / "make_readme_tables.py"))["fill"]
    assert README.count("<!-- end -->") == 4
    assert fill(README) == README


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_local_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
