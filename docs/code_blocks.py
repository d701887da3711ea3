"""Run the code blocks of the pages, and put their real output where a page shows it.

python docs/code_blocks.py [PAGE]...    run the blocks, and rewrite the outputs that the pages show

Blocks of ``sh`` and ``python`` are run, those of one page in order, in one empty folder with an empty cache and without
a network. A block after ``<!-- not run: why -->`` is left out. A block of ``text`` right after a block shows what that
prints on stdout; a line ``…`` in it stands for lines that are left out. The tests run the same code and compare: words
must be equal, numbers within 2%, or within the share that ``<!-- tolerance: 0.2 -->`` before the output gives. Times,
digests and folders may differ. An output after ``<!-- not compared: why -->`` is real too, but of one machine only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
TOLERANCE = 0.02
GAP = "…"

_NOTE = re.compile(r"<!-- (?P<kind>not run|not compared|tolerance): (?P<text>.*) -->")
_MASKED = re.compile(r"\b[\d.,]+ (?:ms|s|min|images/s)(?![\w/])|(?<=-)[0-9a-f]{8}\b|\b[0-9a-f]{8}(?=\))")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, its content and the lines of the page that the content fills."""

    language: str
    lines: Sequence[str]
    start: int
    note: str | None = None
    note_kind: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether it is a block that is run."""
        return self.language in ("sh", "python") and self.note_kind != "not run"


@dataclass(frozen=True)
class Output:
    """What a block printed, and the fence of the page that shows it, if there is one."""

    block: Fence
    printed: str
    shown: Fence | None

    @property
    def difference(self) -> str | None:
        """The first line that is not as the page shows it."""
        if self.shown is None or self.shown.note_kind == "not compared":
            return None
        share = float(self.shown.note or TOLERANCE) if self.shown.note_kind == "tolerance" else TOLERANCE
        expected, got = list(self.shown.lines), _tidy(self.printed)
        if GAP in expected:
            first = expected.index(GAP)
            got = _with_gap(got, first, len(expected) - first - 1)
        for number in range(max(len(expected), len(got))):
            pair = [lines[number] if number < len(lines) else "(nothing)" for lines in (expected, got)]
            if not _is_alike(*pair, share):
                return (
                    f"line {self.shown.start + number}: the page shows\n  {pair[0]}\nand the block prints\n  {pair[1]}"
                )
        return None


def fences(page: str) -> Iterator[Fence]:
    """The fenced blocks of a page."""
    lines = page.splitlines()
    number, note = 0, None
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := _NOTE.fullmatch(line.strip()):
            note = found
        elif line.startswith("```"):
            end = lines.index("```", number)
            kind, text = (note["kind"], note["text"]) if note else (None, None)
            yield Fence(line[3:].strip(), lines[number:end], number + 1, text, kind)
            number, note = end + 1, None
        elif line.strip():
            note = None


def run_page(page: str, folder: Path) -> Iterator[Output]:
    """Run the blocks of a page in a folder; the environment is the caller's.

    Raises:
        AssertionError: A command failed.
    """
    found = list(fences(page))
    names: dict[str, Any] = {"__name__": "__page__"}
    with contextlib.chdir(folder):
        for block, after in zip(found, [*found[1:], None], strict=True):
            if not block.is_run:
                continue
            printed = _run_python(block, names) if block.language == "python" else _run_shell(block)
            shown = after if after is not None and after.language == "text" and _follows(page, block, after) else None
            yield Output(block, printed.replace(str(folder / "cache"), "~/.cache/nctransfer"), shown)


def rewritten(page: str, outputs: Sequence[Output]) -> str:
    """The page with the outputs that were printed."""
    lines = page.splitlines()
    for output in reversed(outputs):
        if output.shown is None or (output.difference is None and output.shown.note_kind != "not compared"):
            continue
        old, new = list(output.shown.lines), _tidy(output.printed)
        if GAP in old:
            first = old.index(GAP)
            new = _with_gap(new, first, len(old) - first - 1)
        start = output.shown.start - 1
        lines[start : start + len(old)] = new
    return "\n".join(lines) + "\n"


def environment(folder: Path) -> dict[str, str]:
    """What the blocks of a page run with: a cache of their own, no network, 80 columns."""
    return {
        "NCTRANSFER_CACHE": str(folder / "cache"),
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "80",
    }


def _follows(page: str, block: Fence, after: Fence) -> bool:
    """Whether nothing but notes lies between two blocks."""
    between = page.splitlines()[block.start + len(block.lines) : after.start - 2]
    return all(not line.strip() or _NOTE.fullmatch(line.strip()) for line in between)


def _run_python(block: Fence, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n".join(block.lines), f"block at line {block.start}", "exec"), names)
    return printed.getvalue()


def _run_shell(block: Fence) -> str:
    text = "\n".join(block.lines).replace("\\\n", " ")
    return "".join(map(_run_line, filter(None, map(str.strip, text.splitlines()))))


def _run_line(line: str) -> str:
    """A plain ``nctransfer`` command in this process, where torch is loaded but once; anything else by bash."""
    words = shlex.split(line, comments=True)
    if not words:
        return ""
    if words[0] != "nctransfer" or set(words) & {"|", ">", "<", "&&", ";"}:
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line],
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": scripts},
            check=False,
        )
        code, printed, said = done.returncode, done.stdout, done.stderr
    else:
        code, printed, said = _run_command(words[1:])
    if code:
        raise AssertionError(f"{line!r} ends in exit code {code}:\n{said}")
    return printed


def _run_command(words: Sequence[str]) -> tuple[int, str, str]:
    from typer.testing import CliRunner

    from nctransfer.cli import app

    logger = logging.getLogger("nctransfer")
    before = logger.propagate, logger.level
    try:
        result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    finally:
        logger.propagate = before[0]
        logger.setLevel(before[1])
    return result.exit_code, result.stdout, result.stderr


def _tidy(printed: str) -> list[str]:
    """The lines without what no reader sees: spaces at their ends, and empty lines around them."""
    return [line.rstrip() for line in printed.strip("\n").splitlines()]


def _with_gap(lines: list[str], before: int, after: int) -> list[str]:
    return [*lines[:before], GAP, *(lines[-after:] if after else [])]


def _is_alike(expected: str, got: str, share: float) -> bool:
    """Whether two lines have the same words, and numbers that are near."""
    one, other = (_MASKED.sub("#", line) for line in (expected, got))
    if _words(one) != _words(other):
        return False
    pairs = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    return all(_is_near(*pair, share) for pair in pairs)


def _words(line: str) -> list[str]:
    return _NUMBER.sub("0", line).replace("─", "").split()


def _is_near(expected: str, got: str, share: float) -> bool:
    """Whether two numbers differ by no more than a share, or by one in the last digit."""
    one, other = (float(text.replace(",", "")) for text in (expected, got))
    last = 10.0 ** -len(expected.partition(".")[2]) if "." in expected else 0.0
    return abs(one - other) <= max(share * abs(one), 1.01 * last)


def main() -> None:
    """Rewrite the outputs of some pages, or of all."""
    for name in sys.argv[1:] or map(str, pages()):
        path, page = Path(name), Path(name).read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(environment(Path(folder)))
            outputs = list(run_page(page, Path(folder)))
        new = rewritten(page, outputs)
        print(f"{name}: {len(outputs)} blocks run, {'rewritten' if new != page else 'as they were'}")
        path.write_text(new, encoding="utf-8")


def pages() -> list[Path]:
    """The pages that have blocks to run."""
    found = sorted(DOCS.rglob("*.md"))
    return [path for path in found if any(fence.is_run for fence in fences(path.read_text(encoding="utf-8")))]


if __name__ == "__main__":
    main()
