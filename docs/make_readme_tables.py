"""Fill the tables of the README that the code knows: data sources, classifiers, formats and commands.

python docs/make_readme_tables.py    rewrite README.md

Each table stands between ``<!-- NAME: … -->`` and ``<!-- end -->``. A test checks that the README is what this makes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from nctransfer.cli import app
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.report.registry import FORMATS
from nctransfer.sources.registry import sources_table

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- (\w+): [^\n]* -->\n).*?(<!-- end -->\n)", re.DOTALL)


def table(heads: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    """Two columns as Markdown."""
    return "".join(f"| {first} | {second} |\n" for first, second in (heads, ("---", "---"), *rows))


def argument(parameter: Any) -> str:
    """An argument of a command as its help shows it, in brackets if it may be left out."""
    name = (parameter.metavar or parameter.name.upper()).strip("[].")
    return name if parameter.required else f"[{name}]"


def commands(command: Any, words: str = "nctransfer") -> Iterator[tuple[str, str]]:
    """Every command with its required arguments, and the first line of its help."""
    for name, one in command.commands.items():
        if hasattr(one, "commands"):
            yield from commands(one, f"{words} {name}")
            continue
        arguments = [
            argument(parameter) for parameter in one.params if getattr(parameter, "param_type_name", "") == "argument"
        ]
        yield f"`{' '.join([words, name, *arguments])}`", (one.help or "").partition("\n\n")[0].replace("\n", " ")


def fill(readme: str) -> str:
    """The README with its tables made anew."""
    tables = {
        "sources": sources_table(),
        "classifiers": table(
            ("`--classifier`", "what it is"), ((f"`{one.name}`", one.meaning) for one in CLASSIFIERS.values())
        ),
        "formats": table(("`--format`", "what it is"), ((f"`{one.name}`", one.meaning) for one in FORMATS.values())),
        "commands": table(("command", "what it does"), commands(typer.main.get_command(app))),
    }
    return BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[3], readme)


if __name__ == "__main__":
    README.write_text(fill(README.read_text("utf-8")), "utf-8")
