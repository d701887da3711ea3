"""Make ``docs/demo.svg``: run ``nctransfer demo`` as a terminal of 80 columns shows it, and draw that.

python docs/make_demo_svg.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main() -> None:
    """Run the demo in an empty cache and write the picture."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "80", "NCTRANSFER_CACHE": f"{cache}/nctransfer"}
        demo = [sys.executable, "-m", "nctransfer", "demo"]
        output = subprocess.run(demo, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    output = output.replace(cache, "~/.cache")
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=80, file=nowhere)
        console.print(Text("$ nctransfer demo", style="bold green"))
        console.print(Text.from_ansi(output))
    console.save_svg(str(Path(__file__).with_name("demo.svg")), title="nctransfer demo")


if __name__ == "__main__":
    main()
