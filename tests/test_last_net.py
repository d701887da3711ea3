"""Whatever a command does not handle ends in one short error; environments that programs do not expect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from nctransfer.cli import last_net
from nctransfer.errors import FeaturesError, SettingError
from nctransfer.paths import read_list
from terminal import cli


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException, *words: str) -> int:
    """The exit code of the command line if something raises this."""

    def run() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["nctransfer", *words])
    with pytest.raises(SystemExit) as exited:
        last_net.caught(run)
    return int(exited.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("odd\x1b[2J"), 1),
        (RecursionError("deep"), 1),
        (MemoryError(), 1),
        (OSError(28, "No space left on device"), 1),
        (FeaturesError("no features"), 1),
        (SettingError("no such setting"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_that_nobody_handled_is_short(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, error, "collapse") == code
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert len(said.splitlines()) <= 2
    assert said.startswith("error: ") == (code != 130)
    assert (last_net.UNEXPECTED in said) == isinstance(error, ValueError | RecursionError)


def test_a_defect_asks_for_a_report_also_as_json(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended(monkeypatch, ValueError("odd\u202e"), "collapse", "--format", "json")
    said = capfd.readouterr().err
    assert "\u202e" not in said
    assert {"type", "message", "hint"} == json.loads(said)["error"].keys()
    monkeypatch.setenv("NCTRANSFER_TRACEBACK", "1")
    ended(monkeypatch, ValueError("odd"), "collapse")
    assert "Traceback" in capfd.readouterr().err


def test_the_last_net_holds_the_command_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import nctransfer.cli.terminal as t\n"
        "def bad(*a, **k): raise RuntimeError('broken on purpose')\n"
        "t.provenance = bad\n"
    )
    found = run(
        "cache", "list", PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    assert found.returncode == 1
    assert "broken on purpose" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("cache", "path"), ("collapse", "--help")])
def test_a_full_disk_under_stdout(words: tuple[str, ...]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "nctransfer", *words], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert found.returncode == 1
    assert "No space left" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_current_folder_that_was_deleted(tmp_path: Path) -> None:
    code = f"import os, sys; os.chdir({str(tmp_path)!r}); os.mkdir('x'); os.chdir('x'); os.rmdir('../x')\n"
    code += "sys.argv[1:] = ['cache', 'list']; from nctransfer.cli import main; main()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")
    assert "error: " in found.stderr
    assert "hint: " in found.stderr


@pytest.mark.parametrize(
    "cache", ["a" * 400, "~nobody-of-this-name/c", os.fsdecode(b"c\xff"), "a\0b"], ids=["long", "user", "bytes", "null"]
)
def test_a_cache_that_cannot_be_is_no_surprise(cache: str) -> None:
    for command in ("list", "verify", "path"):
        result = cli("cache", command, "--cache-dir", cache)
        assert result.exit_code in ((0,) if cache.startswith("~") else (1, 2))
        assert ("error" in result.stderr.lower()) == (result.exit_code > 0)


@pytest.mark.parametrize(
    "words",
    [
        ("collapse", "digits.npz", "--output", "a" * 400 + ".csv"),
        ("collapse", "digits.npz", "--figure", "a" * 400 + ".png"),
        ("fit", "digits.npz", "--output", "a" * 400 + ".head"),
        ("predict", "a" * 400, "digits"),
        ("predict", "~nobody-of-this-name/x.head", "digits"),
        ("collapse", "digits.npz", "--classes", "~nobody-of-this-name/x"),
        ("extract", "--model", "test_vit", "--checkpoint", "a" * 400),
        ("trajectory", "--model", "test_vit", "--checkpoints", "~nobody-of-this-name/x"),
        ("audit", "digits.npz", "--corrections", "a" * 400 + ".csv"),
        ("report", "digits.npz", "--output", "a" * 400 + ".html"),
    ],
)
def test_names_that_no_file_can_have(words: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "digits.npz", features=rng.normal(size=(12, 3)), labels=np.arange(12) % 2)
    names = [str(tmp_path / word) if word == "digits.npz" else word for word in words]
    result = cli(*names)
    assert result.exit_code in (1, 2)
    assert "error: " in result.stderr


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs devices")
@pytest.mark.parametrize("place", ["/dev/zero", "pipe", "folder"])
def test_lists_that_have_no_end_are_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.paths.LARGEST_LIST", 2**20)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    np.savez("f.npz", features=np.eye(8), labels=np.arange(8) % 2)
    for words in (
        ("collapse", "f.npz", "--classes", place),
        ("audit", "f.npz", "--ticked", place, "--corrections", "out.csv"),
        ("rank", "--data", "digits", "--models", place),
    ):
        result = cli(*words)
        assert result.exit_code in (1, 2)
        assert "error: " in result.stderr


def test_a_list_may_come_through_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, "\ufeffone\ntwo\n".encode())
    os.close(writing)
    assert read_list(f"/dev/fd/{reading}") == "one\ntwo\n"
    os.close(reading)
