"""Where a command prints: results on stdout; progress, notes and errors on stderr."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from io import TextIOWrapper
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from nctransfer.cli.last_net import drop_rest
from nctransfer.cli.notes import Notes
from nctransfer.cli.output_files import OutputFiles
from nctransfer.cli.output_options import PrintOptions
from nctransfer.cli.progress_bar import ProgressBar
from nctransfer.errors import BrokenImagesError, NCTransferError, SettingError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from rich.console import Console

    from nctransfer.report.sheet import Sheet

__all__ = ["Terminal", "provenance"]

LISTED = 50  # broken images that are printed; JSON lists all


def _exit_code(error: NCTransferError) -> int:
    """2 for wrong usage, 1 for an error of the user's material."""
    return 2 if isinstance(error, SettingError) else 1


class Terminal:
    """The streams and files of one command, as a context.

    An :class:`~nctransfer.errors.NCTransferError` ends it with exit code 1, one of a wrong setting with 2, an
    interruption with 130.

    Args:
        options: What is printed, and how.
        files: The other files that the command writes, by option.
        hushed: Packages of the library whose notes are printed only with ``--verbose``. Their warnings are always
            printed.
        after_interruption: What a user who interrupts the command should know.

    Attributes:
        files: Writes the files.
    """

    def __init__(
        self,
        options: PrintOptions,
        files: Mapping[str, Path | None] | None = None,
        hushed: Collection[ModuleType] = (),
        after_interruption: str = "extracted images are kept, and the same command does not run them again",
    ) -> None:
        self.files = OutputFiles({"--output": options.output, **(files or {})})
        self._options = options
        self._after_interruption = after_interruption
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):  # its character set may lack some of ours
                stream.reconfigure(errors="backslashreplace")
        self._errors = _console(stderr=True)
        self._bar: ProgressBar | None = None
        self._handler = Notes(self, () if options.verbose else hushed)

    def __enter__(self) -> Self:
        try:
            self.files.check()
        except NCTransferError as error:
            self._complain(error)
            raise typer.Exit(_exit_code(error)) from error
        # a scheduler ends a job by SIGTERM: it is obeyed like Ctrl-C, so that what was computed is stored first
        self._on_terminate = signal.signal(signal.SIGTERM, signal.default_int_handler)
        logger = logging.getLogger("nctransfer")
        self._before = logger.propagate, logger.level
        logger.propagate = False
        level = logging.DEBUG if self._options.verbose else logging.INFO
        logger.setLevel(logging.ERROR if self._options.quiet else level)
        logger.addHandler(self._handler)
        if sys.stderr.isatty() and not self._options.quiet:
            self._bar = ProgressBar(self._errors)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()
        signal.signal(signal.SIGTERM, self._on_terminate)
        logger = logging.getLogger("nctransfer")
        logger.removeHandler(self._handler)
        logger.propagate = self._before[0]
        logger.setLevel(self._before[1])
        if isinstance(error, NCTransferError):
            self._complain(error)
            raise typer.Exit(_exit_code(error)) from error
        if isinstance(error, KeyboardInterrupt):
            self.note(f"interrupted: {self._after_interruption}", "red")
            raise typer.Exit(130) from error

    def progress(self, stage: str, done: int, total: int) -> None:
        """Draw progress, if stderr is a terminal."""
        if self._bar is not None:
            self._bar.update(stage, done, total)

    def pause(self) -> None:
        """Remove the progress bar, because something else is about to be printed."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str, style: str = "dim") -> None:
        """Print a line on stderr. Its text is not interpreted."""
        from rich.text import Text

        from nctransfer.report.sheet import plain

        console = self._bar.console if self._bar else self._errors
        try:
            console.print(Text("\n".join(map(plain, text.split("\n"))), style=style), soft_wrap=True)
        except OSError:  # nobody can read notes on a full disk or a closed pipe, and the results do not depend on them
            drop_rest(sys.stderr)

    def confirms(self, question: str) -> bool:
        """Ask on stderr; without an answer it is no."""
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
        """Print a result in the format that was asked for.

        Args:
            sheets: What a reader sees of it.
            data: Everything, as a dictionary for JSON.
            rows: Flat rows, or a function that makes a table of them.
            seed: The seed of the command, for the provenance in JSON.
        """
        from nctransfer.report.format import Page, Presentation
        from nctransfer.report.terminal_tables import page_of_stdout

        self.pause()
        data = {**data, "provenance": provenance(seed)}
        page = Page() if self._options.output else page_of_stdout()
        text = self._options.chosen_format.render(Presentation(sheets=sheets, data=data, rows=rows), page)
        if self._options.output:
            self.files.text("--output", text)
        else:
            self.write(text)

    @staticmethod
    def write(text: str) -> None:
        """Write results to stdout at once.

        Raises:
            NCTransferError: They cannot be written, for example to a file on a full disk.
        """
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader wants no more
            raise
        except OSError as error:
            drop_rest(sys.stdout)
            raise NCTransferError(
                f"the results cannot be written to stdout: {reason_of(error)}", "make room, or write them elsewhere"
            ) from error

    def _complain(self, error: NCTransferError) -> None:
        """Print an error: as JSON if ``--format json`` was given, else in words."""
        from nctransfer.report.sheet import plain

        broken = error.broken if isinstance(error, BrokenImagesError) else ()
        if self._options.format == "json":
            from nctransfer.report.json_text import to_json

            content: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
            if broken:
                content["broken"] = [image._asdict() for image in broken]
            with contextlib.suppress(OSError):
                sys.stderr.write(to_json({"error": content}) + "\n")
            return
        for image in broken[:LISTED]:
            self.note(f"  {plain(image.id)}: {plain(image.reason)}", "")
        if len(broken) > LISTED:
            self.note(f"  … and {len(broken) - LISTED:,} more (all of them: --format json)", "")
        self.note(f"error: {error.message}", "bold red")
        if error.hint:
            self.note(f"hint: {error.hint}", "")


def _console(**settings: Any) -> Console:
    from rich.console import Console

    return Console(highlight=False, **settings)


def provenance(seed: int = 0) -> dict[str, Any]:
    """What made a result: the command, its seed, and the versions."""
    from importlib.metadata import version

    return {
        "command": shlex.join(["nctransfer", *sys.argv[1:]]),
        "seed": seed,
        "versions": {name: version(name) for name in ("nctransfer", "timm", "torch")},
    }
