"""Where a command speaks: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from io import TextIOWrapper
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from nctransfer.cli.notes import Notes
from nctransfer.cli.options import Format, OutputOptions
from nctransfer.errors import BrokenImagesError, NCTransferError

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from nctransfer.report.sheet import Sheet

__all__ = ["Terminal"]

LISTED = 50  # broken images that are printed; JSON has all


class Terminal:
    """The streams of one command, as a context.

    An :class:`~nctransfer.errors.NCTransferError` ends it with exit code 1, an interruption with 130.

    Args:
        options: What is printed, and how.
        files: What else will be written, by option.
        hushed: Packages of the library whose notes are shown only if more are asked for; warnings always are.
    """

    def __init__(
        self,
        options: OutputOptions,
        files: Mapping[str, Path | None] | None = None,
        hushed: Collection[ModuleType] = (),
    ) -> None:
        self._options = options
        self._files = files or {}
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # one that knows ASCII only, say
                stream.reconfigure(errors="backslashreplace")
        self._errors = _console(stderr=True)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._handler = Notes(self, () if options.verbose else hushed)

    def __enter__(self) -> Self:
        self._check_output()
        # a scheduler that ends a job is obeyed like Ctrl-C: what has been computed is stored first
        self._on_terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
        logger = logging.getLogger("nctransfer")
        logger.propagate = False
        level = logging.DEBUG if self._options.verbose else logging.INFO
        logger.setLevel(logging.ERROR if self._options.quiet else level)
        logger.addHandler(self._handler)
        if sys.stderr.isatty() and not self._options.quiet:
            self._progress = _bar(self._errors)
            self._tasks["loading"] = self._progress.add_task("loading", total=None)
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()
        signal.signal(signal.SIGTERM, self._on_terminate)
        logger = logging.getLogger("nctransfer")
        logger.removeHandler(self._handler)
        logger.propagate = True
        if isinstance(error, NCTransferError):
            self._complain(error)
            raise typer.Exit(1) from error
        if isinstance(error, KeyboardInterrupt):
            self.note("interrupted: what was extracted is kept, and the same command goes on from there", "red")
            raise typer.Exit(130) from error

    def _check_output(self) -> None:
        """Refuse before the work what could not be written after it."""
        paths = {"--output": self._options.output, **self._files}
        given = [path.absolute() for path in paths.values() if path is not None]
        if len(set(given)) < len(given):
            self._complain(
                NCTransferError(f"two results would be written to {str(given[0])!r}", "give each a file of its own")
            )
            raise typer.Exit(1)
        for option, path in paths.items():
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                self._complain(
                    NCTransferError(
                        f"{str(path)!r} cannot be written: it "
                        + ("is a folder" if path.is_dir() else "lies in no folder"),
                        f"give another {option}",
                    )
                )
                raise typer.Exit(1)

    def save(self, option: str, make: Callable[[], pa.Table]) -> None:
        """Write a table as Parquet where an option says, if it was given."""
        from pyarrow import parquet

        def write(path: Path) -> None:
            table = make()
            with path.open("wb") as file:  # given a path, Arrow would delete it where writing fails, be it a device
                parquet.write_table(table, file)

        self._put(option, write)

    def draw(self, option: str, make: Callable[[], Figure]) -> None:
        """Draw a figure where an option says, if it was given."""
        from nctransfer.report.figures import save_figure

        self._put(option, lambda path: save_figure(make(), path))

    def _put(self, option: str, write: Callable[[Path], None]) -> None:
        if (path := self._files[option]) is None:
            return
        try:
            write(path)
        except OSError as error:
            raise NCTransferError(
                f"{str(path)!r} cannot be written: {error.strerror}", f"give another {option}"
            ) from error

    def progress(self, stage: str, done: int, total: int) -> None:
        """Draw progress, if someone looks on."""
        if self._progress is None:
            return
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._progress.update(task, visible=False)
            self._tasks[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._tasks[stage], completed=done, total=total)

    def note(self, text: str, style: str = "dim") -> None:
        """A line on stderr, whatever it contains."""
        from rich.text import Text

        from nctransfer.report.sheet import plain

        console = self._progress.console if self._progress else self._errors
        console.print(Text("\n".join(map(plain, text.split("\n"))), style=style), soft_wrap=True)

    def confirms(self, question: str) -> bool:
        """Ask on stderr; no answer is no."""
        from rich.prompt import Confirm

        self.pause()
        try:
            return Confirm.ask(question, console=self._errors, default=False)
        except EOFError:
            return False

    def show(
        self,
        sheets: Sequence[Sheet],
        data: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]] | Callable[[], pd.DataFrame],
        seed: int = 0,
    ) -> None:
        """Print a result in the format that was asked for: ``sheets``, or ``data`` as JSON, or ``rows`` as CSV."""
        from nctransfer.report.csv_rows import to_frame
        from nctransfer.report.json_text import to_json
        from nctransfer.report.latex import to_latex
        from nctransfer.report.markdown import to_markdown

        self.pause()
        if self._options.format is Format.table:
            self._print_tables(sheets)
            return
        if self._options.format is Format.json:
            ascii_only = "utf" not in (sys.stdout.encoding or "").lower() and not self._options.output
            text = to_json({**data, "provenance": _provenance(seed)}, ascii_only) + "\n"
        elif self._options.format is Format.markdown:
            text = "\n".join(map(to_markdown, sheets))
        elif self._options.format is Format.latex:
            text = "\n".join(map(to_latex, sheets))
        else:
            frame = rows() if callable(rows) else to_frame(rows)
            text = frame.to_csv(index=False)
        if self._options.output:
            self._write(text)
        else:
            sys.stdout.write(text)

    def _print_tables(self, sheets: Sequence[Sheet]) -> None:
        if self._options.output:
            from io import StringIO

            buffer = StringIO()
            _print(_console(file=buffer, width=80, force_terminal=False), sheets)
            self._write(buffer.getvalue())
        else:
            _print(_console(), sheets)

    def _write(self, text: str) -> None:
        path = self._options.output
        assert path is not None
        try:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise NCTransferError(
                f"{str(path)!r} cannot be written: {error.strerror}", "give another --output"
            ) from error

    def _complain(self, error: NCTransferError) -> None:
        from nctransfer.report.json_text import to_json
        from nctransfer.report.sheet import plain

        broken = error.broken if isinstance(error, BrokenImagesError) else ()
        if self._options.format is Format.json:
            content: dict[str, Any] = {
                "type": type(error).__name__,
                "message": error.message,
                "hint": error.hint,
            }
            if broken:
                content["broken"] = [image._asdict() for image in broken]
            sys.stderr.write(to_json({"error": content}) + "\n")
            return
        for image in broken[:LISTED]:
            self.note(f"  {plain(image.id)}: {plain(image.reason)}", "")
        if len(broken) > LISTED:
            self.note(f"  … and {len(broken) - LISTED:,} more (all of them: --format json)", "")
        self.note(f"error: {error.message}", "bold red")
        if error.hint:
            self.note(f"hint: {error.hint}", "")

    def pause(self) -> None:
        """Stop drawing progress: something else is about to be printed."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _console(**settings: Any) -> Console:
    from rich.console import Console

    return Console(highlight=False, **settings)


def _bar(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed and task.total else "")

    return Progress(
        "{task.description}",
        BarColumn(),
        Count(),
        Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        speed_estimate_period=10,
    )


def _print(console: Console, sheets: Sequence[Sheet]) -> None:
    from rich.text import Text

    from nctransfer.report.terminal_tables import to_rich

    # a file has no width, so that no table need be folded there
    for_tables = console if console.is_terminal else _console(file=console.file, width=100_000, force_terminal=False)
    for number, sheet in enumerate(sheets):
        if number:
            console.print()
        for part in to_rich(sheet):
            (console if isinstance(part, Text) else for_tables).print(part)


def _provenance(seed: int) -> dict[str, Any]:
    from importlib.metadata import version

    return {
        "command": shlex.join(["nctransfer", *sys.argv[1:]]),
        "seed": seed,
        "versions": {name: version(name) for name in ("nctransfer", "timm", "torch")},
    }
