"""File systems of a trial's own. They need the superuser; a trial that cannot have them is not tried."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from outcomes import Impossible

__all__ = ["bind", "mounted", "remount", "tmpfs"]


def _mount(*arguments: object) -> str:
    """Call ``mount``; returns what went wrong, or an empty text."""
    try:
        done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() or "it failed" if done.returncode else ""


def tmpfs(place: Path, options: str) -> str:
    """Mount a file system in memory; returns what went wrong."""
    return _mount("-t", "tmpfs", "-o", options, "none", place)


def bind(place: Path, options: str) -> str:
    """Mount a folder on itself, so that it can become read-only; returns what went wrong."""
    return _mount("--bind", place, place)


@contextlib.contextmanager
def mounted(kind: Callable[[Path, str], str], place: Path, options: str = "") -> Iterator[None]:
    """A file system at a place, as long as the context lasts.

    Raises:
        Impossible: This machine or this user cannot mount.
    """
    place.mkdir(parents=True, exist_ok=True)
    if why := kind(place, options):
        raise Impossible(f"nothing can be mounted here ({why})")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], capture_output=True, timeout=30, check=False)


def remount(place: Path, options: str) -> bool:
    """Change the options of a file system, and wait a moment while it is busy; returns whether it could be."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if not _mount("-o", f"remount,{options}", place):
            return True
        time.sleep(0.005)
    return False
