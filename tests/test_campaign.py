"""The campaign of faults, in small: one trial of each kind, so that it keeps working and keeps holding."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parent / "campaign"
PAGE = CAMPAIGN.parents[1] / "docs" / "reliability.md"


def campaign(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CAMPAIGN), *arguments],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the faults are those of Linux")
def test_no_fault_of_a_small_campaign_goes_wrong(tmp_path: Path) -> None:
    parts = ["kills", "corruptions", "writers", "killed_merges", "full_disks", "read_only", "clocks"]
    done = campaign(*parts, "--trials", "1", "--seed", "1000", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(r"^\| ([^|]+) \| 1 \| \d+ \| (\d+) \| (\d+) \| 0 \|$", done.stdout, re.MULTILINE)
    assert {"SIGKILL at random moments", "one bit", "2 writers", "a limit on the size of files"} <= {
        row[0] for row in rows
    }
    assert sum(int(is_right) for _, is_right, _ in rows) > 0
    assert sum(int(is_said) for _, _, is_said in rows) > 0
    assert not list(tmp_path.glob("nctransfer-campaign*"))  # it clears up


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the faults are those of Linux")
def test_the_campaign_finds_a_defect(tmp_path: Path) -> None:
    """In a store that does not look at the content of its files, which a patch makes."""
    blind = (
        "import sys; sys.argv = ['campaign', 'one bit, size', '--trials', '8']; "
        f"sys.path.insert(0, {str(CAMPAIGN)!r}); sys.path.insert(0, {str(CAMPAIGN.parent)!r}); "
        "from nctransfer.store.manifest import Manifest; Manifest.damaged = lambda self, thorough=False: {}; "
        "import runpy; runpy.run_path(sys.path[1] + '/__main__.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", blind],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 1, done.stderr
    assert "cache verify is silent" in done.stdout
    assert re.search(r'again: python tests/campaign "one bit, size and time kept" --seed \d+ --trials 1', done.stdout)


def test_the_page_has_a_table_for_each_part_of_the_campaign() -> None:
    parts = [path.stem for path in sorted(CAMPAIGN.glob("*.py")) if "\nKINDS" in path.read_text()]
    assert "kills" in parts
    page = PAGE.read_text()
    for part in parts:
        assert re.search(rf"<!-- {part}: .*?-->\n\n\| what \|.*?\n<!-- end -->", page, re.DOTALL), part
