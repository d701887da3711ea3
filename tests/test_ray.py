"""Extraction on a real cluster of Ray, with three nodes on this computer, while workers, a node and the driver die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from conftest import write_digits
from ray_nodes import Nodes, command_of, descendants, ray_nodes, until

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# A small model that takes its time, and workers that write often.
PLUGIN = """
import os, time
import timm
from timm.models import register_model
from nctransfer.store import ray_engine, ray_worker
ray_worker.PART_SECONDS = 0.5

if "INTERRUPTED" in os.environ:  # as by Ctrl-C when the second answer with parts is taken, before they are recorded
    class Interrupted(ray_engine.RayEngine):
        answers = 0

        def _note(self, call, reply):
            self.answers += bool(reply.written)
            if self.answers == 2 and reply.written:
                self.answers += 1
                raise KeyboardInterrupt
            super()._note(call, reply)

    ray_engine.RayEngine = Interrupted

@register_model
def slow_vit(pretrained=False, **settings):
    model = timm.create_model("test_vit", pretrained=pretrained, **settings)
    model.patch_embed.register_forward_pre_hook(lambda *_: time.sleep(float(os.environ.get("SECONDS_PER_BATCH", 0))))
    return model
"""


def command(folder: Path, cache: str, *more: object) -> list[str]:
    plugin = folder / "slow.py"
    plugin.write_text(PLUGIN)
    model = ["--plugin", str(plugin), "--model", "slow_vit", "--random-init", "--batch-size", "8"]
    where = ["--data", "digits", "--max-per-class", "40", "--cache-dir", str(folder / cache), "--format", "json"]
    return [sys.executable, "-m", "nctransfer", "extract", *model, *where, *map(str, more)]


def started(words: Sequence[str], nodes: Nodes | None, folder: Path) -> subprocess.Popen[str]:
    environment = None if nodes is None else nodes.environment
    with (folder / "stderr").open("a") as errors:
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
        )


def files_of(folder: Path, cache: str) -> list[Path]:
    return sorted((folder / cache).glob("features/*/*/rows/*.parquet"))


def rows_of(folder: Path, cache: str) -> dict[str, bytes]:
    """The features by the digests of their images, each of which is there once."""
    found: dict[str, bytes] = {}
    for path in files_of(folder, cache):
        table = parquet.read_table(path)
        for digest, vector in zip(table["digest"].to_pylist(), table["feature"].to_pylist(), strict=True):
            assert digest not in found
            found[digest] = np.array(vector, np.float32).tobytes()
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process that nobody disturbs stores."""
    folder = tmp_path_factory.mktemp("expected")
    subprocess.run(command(folder, "one"), check=True, capture_output=True, timeout=300)
    return rows_of(folder, "one")


def test_workers_and_a_node_die(tmp_path: Path, expected: dict[str, bytes]) -> None:
    with ray_nodes(3, tmp_path, SECONDS_PER_BATCH="0.6") as nodes:
        run = started(
            command(tmp_path, "many", "--engine", "ray", "--address", nodes.address, "--actors", 3), nodes, tmp_path
        )
        until(lambda: len(files_of(tmp_path, "many")) >= 3)
        os.kill(nodes.workers()[0], signal.SIGKILL)
        before = len(files_of(tmp_path, "many"))
        until(lambda: len(files_of(tmp_path, "many")) > before)
        nodes.remove()
        out, _ = run.communicate(timeout=300)
    heard = (tmp_path / "stderr").read_text()
    assert run.returncode == 0, heard
    assert heard.count("a worker died") >= 2
    result = json.loads(out)  # Ray has printed nothing between
    assert (result["samples"], result["extracted"], result["failed"]) == (len(expected), len(expected), [])
    assert rows_of(tmp_path, "many") == expected


def test_the_driver_dies(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Its workers end, their parts are whole, and the next run goes on from there."""
    words = command(tmp_path, "many", "--engine", "ray", "--actors", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDS_PER_BATCH", "0.5")
        run = started(words, None, tmp_path)
    until(lambda: len(files_of(tmp_path, "many")) >= 3)
    ray = descendants(run.pid)
    assert any(command_of(pid).startswith("ray::RayWorker") for pid in ray)
    run.kill()
    run.communicate(timeout=60)
    until(lambda: not any(command_of(pid) for pid in ray))  # nothing is left running
    whole = sum(len(parquet.read_table(path)) for path in files_of(tmp_path, "many"))
    assert 0 < whole < len(expected)
    again = started(words, None, tmp_path)
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, (tmp_path / "stderr").read_text()
    result = json.loads(out)
    assert result["reused"] >= whole
    assert result["reused"] + result["extracted"] == len(expected)
    assert rows_of(tmp_path, "many") == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stores_what_is_computed(
    tmp_path: Path, expected: dict[str, bytes], number: signal.Signals
) -> None:
    words = command(tmp_path, "many", "--engine", "ray", "--actors", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDS_PER_BATCH", "0.5")
        run = started(words, None, tmp_path)
    until(lambda: len(files_of(tmp_path, "many")) >= 2)
    ray = descendants(run.pid)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does: Ray's processes are told too
    else:
        run.send_signal(number)
    out, _ = run.communicate(timeout=120)
    heard = (tmp_path / "stderr").read_text()
    assert (run.returncode, out) == (130, ""), heard
    assert "interrupted" in heard
    until(lambda: not any(command_of(pid) for pid in ray))
    assert_goes_on(tmp_path, words, expected)


def test_an_answer_is_lost_by_an_interruption(tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Its parts are written and nobody was told: they are found on the disk."""
    words = command(tmp_path, "many", "--engine", "ray", "--actors", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECONDS_PER_BATCH", "0.5")
        patch.setenv("INTERRUPTED", "")
        run = started(words, None, tmp_path)
    out, _ = run.communicate(timeout=300)
    assert (run.returncode, out) == (130, ""), (tmp_path / "stderr").read_text()
    assert_goes_on(tmp_path, words, expected)


def assert_goes_on(folder: Path, words: Sequence[str], expected: dict[str, bytes]) -> None:
    """All that an interrupted run has written is recorded, and the next run computes only the rest."""
    show = [
        sys.executable,
        "-m",
        "nctransfer",
        "cache",
        "list",
        "--cache-dir",
        str(folder / "many"),
        "--format",
        "json",
    ]
    [stored] = json.loads(subprocess.run(show, capture_output=True, check=True, text=True).stdout)["sets"]
    assert 0 < stored["rows"] < len(expected)
    assert stored["rows"] == len(rows_of(folder, "many"))
    again = started(words, None, folder)
    assert json.loads(again.communicate(timeout=300)[0])["reused"] == stored["rows"]
    assert rows_of(folder, "many") == expected


def test_broken_images_and_a_cluster_that_is_gone(tmp_path: Path) -> None:
    pets = write_digits(tmp_path / "pets", {"zero": 0, "one": 1}, 12)
    (pets / "one" / "3.png").write_bytes(b"no image")
    model = ("--model", "test_vit", "--random-init", "--data", pets, "--engine", "ray")
    with ray_nodes(2, tmp_path) as nodes:
        words = [sys.executable, "-m", "nctransfer", "extract", *map(str, model), "--address", nodes.address]
        heard = subprocess.run(words, capture_output=True, text=True, env=nodes.environment, timeout=300)
        assert (heard.returncode, "one/3.png" in heard.stderr) == (1, True)
        assert heard.stderr.count("\n") < 12, heard.stderr  # and nothing of Ray's own
    gone = subprocess.run(words, capture_output=True, text=True, env=nodes.environment, timeout=300)
    assert gone.returncode == 1
    assert nodes.address in gone.stderr
    assert "Traceback" not in gone.stderr
