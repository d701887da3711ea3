"""Faults on purpose: kills, damage, full disks and the like, and whether a wrong number came out.

    python tests/campaign [NAME …] [--trials N] [--seed S] [--write]

A name is that of a module of this folder (``kills``), or the beginning of a kind of fault (``"SIGKILL at"``). Every
trial draws from a generator of its own seed, and the report of a failure says the command that makes it again.
``--write`` puts each table into docs/reliability.md, between the comments that bear its name. Each module of this
folder with ``KINDS`` takes part.
"""

from __future__ import annotations

import argparse
import importlib
import math
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reliability.md"
sys.path[:0] = [str(HERE), str(HERE.parent)]

from children import prepare  # noqa: E402 - it lies in a folder that was added now
from material import Material  # noqa: E402
from outcomes import Kind, Tally, breakdown, table_of, tally  # noqa: E402

from page_tables import written  # noqa: E402


def modules() -> list[str]:
    """The modules of this folder that take part."""
    return sorted(path.stem for path in HERE.glob("*.py") if "\nKINDS" in path.read_text())


def chosen(module: str, names: Sequence[str]) -> list[Kind]:
    """The kinds of faults of a module that are named; all of them if the module is named, or nothing."""
    kinds: list[Kind] = list(importlib.import_module(module).KINDS)
    if not names or module in names:
        return kinds
    return [kind for kind in kinds if any(kind.name.startswith(name) for name in names)]


def new_folder() -> Path:
    """A folder for the material. Names in the cache follow from its path, so the same seed needs the same folder."""
    usual = Path(tempfile.gettempdir()) / "nctransfer-campaign"
    try:
        usual.mkdir()
    except FileExistsError:
        print(f"{usual} exists already, so that seeds will not give the same trials again", flush=True)
        return Path(tempfile.mkdtemp(prefix="nctransfer-campaign-"))
    return usual


def main() -> None:
    """Run the faults that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"from {', '.join(modules())}; by default all")
    parser.add_argument(
        "--trials", type=int, help="trials of each kind; by default as many as the table in the docs has"
    )
    parser.add_argument("--minutes", type=float, help="stop after about so long, with fewer trials of each kind")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first trial; the others follow")
    parser.add_argument("--keep", action="store_true", help="keep the material, and the folder of each failed trial")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/reliability.md")
    given = parser.parse_args()
    prepare()
    root = new_folder()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is cleared up
    failed = 0
    try:
        start = time.perf_counter()
        material = Material(root)
        material.make()
        parts = {module: kinds for module in modules() if (kinds := chosen(module, given.names))}
        weight = sum(kind.trials for kinds in parts.values() for kind in kinds)
        share = math.inf if given.minutes is None else 60 * given.minutes / weight  # seconds per default trial
        print(
            f"the material is made ({time.perf_counter() - start:.0f} s), in {root}; seeds from {given.seed}",
            flush=True,
        )
        for module, kinds in parts.items():
            failed += _run(module, kinds, material, given, share)
    finally:
        if not given.keep:
            shutil.rmtree(root, ignore_errors=True)
    sys.exit(1 if failed else 0)


def _run(module: str, kinds: Sequence[Kind], material: Material, given: argparse.Namespace, share: float) -> int:
    """Run some kinds of one module; returns how many trials went wrong."""
    tallies: list[Tally] = []
    print(f"\n{importlib.import_module(module).TITLE}", flush=True)
    for kind in kinds:
        start = time.perf_counter()
        trials = given.trials or kind.trials
        found = tally(kind, material, trials, given.seed, share * kind.trials, given.keep)
        print(f"  {kind.name} ({time.perf_counter() - start:.0f} s)\n{breakdown(found)}", flush=True)
        tallies.append(found)
    table = table_of(tallies)
    print(f"\n{table}", flush=True)
    if given.write:
        PAGE.write_text(written(PAGE.read_text(), module, table))
    return sum(found.verdicts["wrong"] for found in tallies)


if __name__ == "__main__":
    main()
