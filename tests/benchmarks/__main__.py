"""Speed: every benchmark, or those that are named, each beside what users would run instead and what cannot be avoided.

    python tests/benchmarks [NAME …] [--write]

``--write`` puts each table into docs/performance.md, between the comments that bear its name. Each module of this
folder with a ``table()`` is such a benchmark; it makes its own data. The others measure data that they are given, and
say in their first lines how they are run.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "performance.md"
sys.path.insert(0, str(HERE.parent))

from page_tables import names, written  # noqa: E402 - it lies in the folder above


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"from {', '.join(names(HERE))}; by default all")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    for name in given.names or names(HERE):
        start = time.perf_counter()
        module = importlib.import_module(name)
        table = module.table()
        print(f"\n{module.TITLE} ({time.perf_counter() - start:.0f} s)\n\n{table}", flush=True)
        if given.write:
            PAGE.write_text(written(PAGE.read_text(), name, table))


if __name__ == "__main__":
    main()
