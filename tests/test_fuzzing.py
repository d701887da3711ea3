"""A small part of the campaign of mutated inputs; tests/campaign has the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SMALL = """
import random, sys
from pathlib import Path
sys.path[:0] = [{campaign!r}, {tests!r}]
from children import prepare
import fuzzing
from material import Material
fuzzing.BATCH = 12
prepare()
material = Material(Path({root!r}))
for number, kind in enumerate(fuzzing.KINDS):
    folder = material.root / f"trial-{{number}}"
    folder.mkdir()
    outcome = kind.trial(material, random.Random(f"small {{kind.name}}"), folder)
    print(kind.name, outcome.faults, outcome.verdict, outcome.why)
"""


@pytest.mark.slow
def test_mutated_inputs_end_in_words(tmp_path: Path) -> None:
    code = SMALL.format(campaign=str(HERE / "campaign"), tests=str(HERE), root=str(tmp_path))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "wrong" not in found.stdout, found.stdout
    assert found.stdout.count(" 12 said") == 10, found.stdout
