"""What no command has handled ends in one short error, never in a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from nctransfer import __version__
from nctransfer.errors import NCTransferError, SettingError, reason_of

__all__ = ["UNEXPECTED", "caught", "drop_rest"]

UNEXPECTED = "an unexpected error"
"""How the message of a defect begins."""
TRACEBACK = "NCTRANSFER_TRACEBACK"  # the environment variable that asks for tracebacks
OUT_OF_MEMORY = ("can't allocate memory", "out of memory")  # of PyTorch on the CPU, and on a GPU
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def caught(run: Callable[[], object]) -> None:
    """Run the command line, and end the process with an exit code whatever it raises.

    Args:
        run: Runs it. What it raises to end the process, it raises as a SystemExit.
    """
    try:
        run()
    except KeyboardInterrupt:  # while the files of a command were imported
        sys.exit(130)
    except BrokenPipeError:  # the reader wants no more
        drop_rest(sys.stdout)
        sys.exit(1)
    except NCTransferError as error:
        _complain(error)
        sys.exit(2 if isinstance(error, SettingError) else 1)
    except SystemExit:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        import traceback

        if _wants_traceback():
            _write(traceback.format_exc())
        _complain(_explained(error))
        sys.exit(1)
    finally:  # a second Ctrl-C, while Python ends, ends it without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _explained(error: BaseException) -> NCTransferError:
    """An error in words: of the machine if it is that, else as a defect."""
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return NCTransferError("the memory is not enough", "close other programs, or give fewer images or features")
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        return NCTransferError(f"the output cannot be written: {reason_of(error)}", "make room, or write it elsewhere")
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" ({Path(where[0].filename).name}, line {where[0].lineno})" if where else ""
    return NCTransferError(
        f"{UNEXPECTED}: {type(error).__name__}: {reason_of(error)[:500]}{place}",
        f"this is a defect: please report it with the version, nctransfer {__version__}, and with what the same "
        f"command prints when {TRACEBACK}=1 is set",
    )


def _complain(error: NCTransferError) -> None:
    if _wants_json(sys.argv[1:]):
        from nctransfer.report.json_text import to_json

        content = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        _write(to_json({"error": content}) + "\n")
        return
    from nctransfer.report.sheet import plain

    hint = f"\nhint: {plain(error.hint)}" if error.hint else ""
    _write(f"error: {plain(error.message)}{hint}\n")


def _write(text: str) -> None:
    """Write to stderr, as far as it takes it."""
    try:
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
        sys.stderr.flush()
    except (OSError, ValueError):
        drop_rest(sys.stderr)


def drop_rest(stream: TextIO) -> None:
    """Let what is left in the buffer of a stream go nowhere: it would fail again when Python ends."""
    try:
        target = os.open(os.devnull, os.O_WRONLY)
        os.dup2(target, stream.fileno())
    except (OSError, ValueError):  # a stream of a test may have no number
        return


def _wants_traceback() -> bool:
    return bool(os.environ.get(TRACEBACK)) or "--verbose" in sys.argv[1:]


def _wants_json(words: Sequence[str]) -> bool:
    """Whether the words of the command line ask for JSON; the options may not have been parsed."""
    pairs = zip(words, [*words[1:], ""], strict=True)
    return any(
        word in ("--format=json", "-fjson") or (word in ("--format", "-f") and after == "json") for word, after in pairs
    )
