"""CPU time of commands that compute little, beside that of ``import torch`` alone.

Each command runs in a process of its own, all in turns, and its CPU time is that of all its threads. The floor of every
command that measures features is the import of torch. ``trajectory`` follows seven checkpoints of a tiny model on the
built-in digits: from stored features, and from kept results.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

TITLE = "The start of a command, and what is kept"
MODEL, CHECKPOINTS, ROUNDS = "test_resnet", 7, 3
FROM_FEATURES = "`trajectory`, stored features"


def prepare(folder: Path) -> None:
    """Checkpoints, and a cache that holds their features and a set that was used last."""
    import timm
    import torch
    from safetensors.torch import save_file

    (folder / "run").mkdir()
    for number in range(CHECKPOINTS):
        torch.manual_seed(number)
        save_file(timm.create_model(MODEL).state_dict(), folder / "run" / f"epoch-{number}.safetensors")


def cpu_seconds(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """The CPU time of a command that ends well."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, env=environment, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def times(folder: Path) -> dict[str, float]:
    """The CPU time of each command, in the median of some rounds."""
    environment = {**os.environ, "NCTRANSFER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    own = [sys.executable, "-m", "nctransfer"]
    follow = [*own, "trajectory", "--model", MODEL, "--checkpoints", str(folder / "run"), "--data", "digits"]
    cpu_seconds(follow, environment)
    commands = {
        "`import torch`": [sys.executable, "-c", "import torch"],
        "`--help`": [*own, "--help"],
        "`collapse --help`": [*own, "collapse", "--help"],
        "`cache list`": [*own, "cache", "list"],
        "`collapse`": [*own, "collapse"],
        FROM_FEATURES: follow,
        "`trajectory`, kept results": follow,
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            if name == FROM_FEATURES:
                for results in folder.glob("cache/features/*/*/results"):
                    shutil.rmtree(results)
            found[name].append(cpu_seconds(command, environment))
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def table() -> str:
    """One row a command."""
    from page_tables import markdown

    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        found = times(Path(name))
    floor = next(iter(found.values()))
    rows = [[command, f"{seconds:.2f}", f"{seconds / floor:.2f}"] for command, seconds in found.items()]
    return markdown(["command", "CPU seconds", "times `import torch`"], rows)
