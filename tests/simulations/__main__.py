"""Simulations with a known truth: how often intervals and verdicts are wrong. They take long, so tests leave them out.

    python tests/simulations [NAME …] [--studies N] [--write]

``--write`` puts each table into docs/simulations.md, between the comments that bear its name. Each module of this
folder with a ``table(studies)`` is a simulation.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "simulations.md"
sys.path.insert(0, str(HERE.parent))

from page_tables import names, written  # noqa: E402 - it lies in the folder above


def main() -> None:
    """Run the simulations that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help=f"from {', '.join(names(HERE))}; by default all")
    parser.add_argument("--studies", type=int, help="studies per cell; by default as many as the table in the docs has")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/simulations.md")
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)  # what the studies say of their data is not the point
    for name in given.names or names(HERE):
        start = time.perf_counter()
        module = importlib.import_module(name)
        table = module.table(given.studies or module.STUDIES)
        print(f"\n{module.TITLE} ({time.perf_counter() - start:.0f} s)\n\n{table}", flush=True)
        if given.write:
            PAGE.write_text(written(PAGE.read_text(), name, table))


if __name__ == "__main__":
    main()
