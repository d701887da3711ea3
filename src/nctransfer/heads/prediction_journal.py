"""The journal of a run of predictions: what is done is on disk at once, and a killed run goes on from there.

While images run, every prediction is appended to ``labels.csv.partial``, beside the wanted ``labels.csv``. The first
line says which head made the predictions, of which images, and with which settings. At the end, the wanted file is
written from the journal and replaces any older one in one step; then the journal is deleted.

A run that goes on reads every image again, because only its content says whether a prediction still holds; but no image
whose content has a prediction runs through the backbone again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from nctransfer.errors import NCTransferError, reason_of
from nctransfer.heads.kept_predictions import KeptPredictions, parsed
from nctransfer.heads.prediction import Prediction
from nctransfer.heads.prediction_files import writer_for
from nctransfer.paths import is_file, is_folder, is_something_else
from nctransfer.store.atomic_files import replace_file

if TYPE_CHECKING:
    from nctransfer.heads.predicting import Answer
    from nctransfer.heads.run_settings import RunSettings
    from nctransfer.sources.source import ImageEntry

__all__ = ["Journal", "check_output", "open_journal"]


def open_journal(output: Path, settings: RunSettings, *, resume: bool = False, overwrite: bool = False) -> Journal:
    """Begin the journal of a file of predictions, or open the one that a killed run left.

    Args:
        output: The file that is wanted; its suffix names the format.
        settings: The head, the images and all else that decides about predictions.
        resume: Whether to go on from a journal that is there.
        overwrite: Whether an output that exists is replaced, and a journal that is not resumed is deleted.

    Raises:
        NCTransferError: See :func:`check_output`; or the journal is of another head, of other images or of other
            settings, or cannot be written.
    """
    path = check_output(output, resume=resume, overwrite=overwrite)
    try:
        file = open(path, "a+b", opener=_no_link)  # noqa: SIM115 - Path.open takes no opener; Journal closes it
    except OSError as error:
        raise _unwritable(path, reason_of(error)) from error
    try:
        _lock(file, path)
        journal = Journal(path=path, output=output, file=file)
        if resume and path.stat().st_size:
            journal.earlier = _earlier(path, settings)
            file.truncate(journal.earlier.end)  # the rest is a line that was being written when the run ended
        else:
            file.truncate(0)
            journal.write([settings.to_dict()])
    except BaseException:
        file.close()
        raise
    return journal


def check_output(output: Path, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Refuse, before anything is loaded, an output that could not be written; see :func:`open_journal`.

    Returns:
        The path of the journal.

    Raises:
        SettingError: The suffix names no format.
        NCTransferError: The output exists, or cannot be written; or a journal is there and neither ``resume`` nor
            ``overwrite`` was given.
    """
    writer_for(output)
    path = output.with_name(f"{output.name}.partial")
    if is_something_else(output) or is_folder(output):  # a device would be replaced by a file
        raise _unwritable(output, "it is not a file")
    if os.path.lexists(output) and not overwrite:
        raise NCTransferError(f"{str(output)!r} exists already", "give another --output, or --overwrite to replace it")
    if path.is_symlink():
        raise _unwritable(path, "it is a symbolic link")
    if is_file(path) and not (resume or overwrite):
        raise NCTransferError(
            f"{str(path)!r} holds the predictions of a run that did not end",
            "go on from there with --resume, or start anew with --overwrite",
        )
    return path


@dataclass(kw_only=True, eq=False)
class Journal:
    """The predictions of a run, on disk as soon as they are made; it is a context that closes the file.

    Attributes:
        path: The journal.
        output: The file that is wanted.
        file: The open journal.
        earlier: What an earlier run has done.
        added: How many answers were added.
        known: How many of these an earlier run had given.
    """

    path: Path
    output: Path
    file: IO[bytes]
    earlier: KeptPredictions | None = None
    added: int = 0
    known: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which has been reported
            self.file.close()
        if self.earlier is not None:
            self.earlier.close()
        elif kind is not None and not self.added:
            self.path.unlink(missing_ok=True)  # there is nothing to go on from

    def add(self, answers: Sequence[Answer]) -> None:
        """Append answers, but those that an earlier run has given for images of the same id and content.

        Raises:
            NCTransferError: The journal cannot be written.
        """
        self.added += len(answers)
        if self.earlier is not None:
            self.known += sum(answer.digest in self.earlier for answer in answers if not answer.prediction.is_broken)
        new = [answer for answer in answers if self.earlier is None or not self.earlier.has(answer)]
        self.write([{**answer.prediction.to_dict(), "digest": answer.digest} for answer in new])

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append lines of JSON, and hand them to the system, so that they are there if the process is killed."""
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        try:
            self.file.write(lines.encode())
            self.file.flush()
        except OSError as error:
            raise NCTransferError(
                f"{str(self.path)!r} cannot be written: {reason_of(error)}",
                "make room, and go on with the same command and --resume",
            ) from error

    def finish(self, entries: Sequence[ImageEntry]) -> None:
        """Write the wanted file, and delete the journal.

        Args:
            entries: The images, in the order of the rows that are wanted; each has been added.

        Raises:
            NCTransferError: The file cannot be written; the journal stays.
        """
        write = writer_for(self.output)
        rows = self._all() if self.earlier is None else self._in_order(entries)
        try:
            with contextlib.closing(rows):
                replace_file(self.output, functools.partial(write, rows))
        except OSError as error:
            raise NCTransferError(
                f"{str(self.output)!r} cannot be written: {reason_of(error)}",
                "make room, and write it with the same command and --resume",
            ) from error
        self.path.unlink(missing_ok=True)

    def _all(self) -> Generator[Prediction, None, None]:
        """The predictions of a run that began this journal: in the order of its images."""
        with self.path.open("rb") as lines:
            lines.readline()
            for line in lines:
                yield Prediction.from_dict(json.loads(line))

    def _in_order(self, entries: Sequence[ImageEntry]) -> Generator[Prediction, None, None]:
        """The predictions of several runs: the last one for each image."""
        with contextlib.closing(KeptPredictions(self.path)) as kept:
            for entry in entries:
                yield kept.of_image(entry.id)


def _no_link(path: str, flags: int) -> int:
    """Open a file, but not what a symbolic link leads to."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep other processes from writing to the same journal, until the file is closed; on Windows they can.

    Raises:
        NCTransferError: Another process does write to it.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NCTransferError(
            f"another process is writing {str(path)!r}", "wait until it has ended, or give another --output"
        ) from None
    except OSError:  # some network file systems have no locks
        return


def _earlier(path: Path, settings: RunSettings) -> KeptPredictions:
    """What an earlier run has written to its journal.

    Raises:
        NCTransferError: It is of another head, of other images or of other settings, or is no journal.
    """
    with path.open("rb") as lines:
        settings.check(parsed(lines.readline()), str(path))
    return KeptPredictions(path)


def _unwritable(path: Path, reason: str) -> NCTransferError:
    return NCTransferError(f"{str(path)!r} cannot be written: {reason}", "give another --output")
