"""The examples run, and the README says what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_digits

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_library_example(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "library.py"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert re.search(r"^CDNV \d\.\d{3}, nearest class centre \d\d\.\d%$", done.stdout, re.MULTILINE)
    assert re.search(r"^5 +0\.\d+ +0\.\d+$", done.stdout, re.MULTILINE)


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_own_folder_example(tmp_path: Path) -> None:
    images = write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 8)
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", ROOT / "examples" / "own_folder.sh", images],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": scripts},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "24 samples, 3 classes" in done.stdout
    assert (tmp_path / "fewshot.json").stat().st_size


def documented() -> set[str]:
    return set(re.findall(r"^\| `nctransfer ([a-z ]*[a-z])", README, re.MULTILINE))


def test_readme_lists_every_command() -> None:
    from nctransfer.cli import app
    from nctransfer.cli.cache import app as cache_app

    def names(commands: object) -> set[str]:
        return {(c.name or c.callback.__name__).replace("_", "-") for c in commands.registered_commands}  # type: ignore[attr-defined]

    assert documented() == names(app) | {f"cache {name}" for name in names(cache_app)}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert commands[1] in (ROOT / ".ci" / "run").read_text()


def test_local_links_of_the_readme_lead_somewhere() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
