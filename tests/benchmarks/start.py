"""CPU time of commands that compute little, beside that of ``import torch`` alone.

    python tests/benchmarks/start.py [--rounds N]

Each command runs in a process of its own, all in turns, and its CPU time is that of all its threads. The floor of every
command that measures features is the import of torch. ``trajectory`` follows seven checkpoints of a tiny model on the
built-in digits: from stored features, and from kept results.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

MODEL, CHECKPOINTS = "test_resnet", 7


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


def main() -> None:
    """Print the CPU times and their ratios to that of the import."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        environment = {**os.environ, "NCTRANSFER_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        own = [sys.executable, "-m", "nctransfer"]
        follow = [*own, "trajectory", "--model", MODEL, "--checkpoints", str(folder / "run"), "--data", "digits"]
        cpu_seconds(follow, environment)
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "--help": [*own, "--help"],
            "collapse --help": [*own, "collapse", "--help"],
            "cache list": [*own, "cache", "list"],
            "collapse": [*own, "collapse"],
            "trajectory, stored features": follow,
            "trajectory, kept results": follow,
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                if name == "trajectory, stored features":
                    for results in folder.glob("cache/features/*/*/results"):
                        shutil.rmtree(results)
                found[name].append(cpu_seconds(command, environment))
    floor = statistics.median(found["import torch"])
    print(f"{'':30} CPU s   / import torch")
    for name, seconds in found.items():
        print(f"{name:30} {statistics.median(seconds):5.2f} {statistics.median(seconds) / floor:9.2f}")


if __name__ == "__main__":
    main()
