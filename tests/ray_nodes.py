"""A cluster of Ray on this computer, with several nodes, for tests: run as a script, it obeys lines on stdin.

It runs in a session of its own, so that Ray, which ends its whole process group when its parent dies, ends no test.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = 100 * 2**20


class Nodes:
    """The cluster, as a test sees it."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        assert process.stdout is not None
        self._process = process
        self.environment = environment
        self.address = self._answer()

    def remove(self) -> None:
        """Kill the node that was added last, with all that runs on it."""
        self._say("remove")
        assert self._answer() == "removed"

    def workers(self) -> list[int]:
        """The processes that hold a backbone, by their numbers."""
        return [pid for pid in descendants(self._process.pid) if command_of(pid).startswith("ray::RayWorker")]

    def close(self) -> None:
        self._say("end")
        self._process.wait(60)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("answer: "):
                return line.removeprefix("answer: ").strip()
        raise AssertionError("the cluster did not start")


@contextmanager
def ray_nodes(count: int, temporary: Path, **environment: str) -> Iterator[Nodes]:
    """Nodes with one CPU each, in an environment of their own."""
    there = {
        **os.environ,
        **environment,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONWARNINGS": "ignore",
    }
    with (temporary / "cluster.log").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=there,
            start_new_session=True,
        )
    try:
        nodes = Nodes(process, there)
        yield nodes
        nodes.close()
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        if process.poll() is None:
            for pid in [*descendants(process.pid), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait(30)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(after_name[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        children = parents.get(todo.pop(), [])
        found += children
        todo += children
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def until(condition: object, seconds: float = 120.0) -> None:
    """Wait until a function returns something true."""
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    added = [cluster.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(int(sys.argv[1]) - 1)]
    cluster.wait_for_nodes()
    print("answer:", cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        cluster.remove_node(added.pop(), allow_graceful=False)
        print("answer: removed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
