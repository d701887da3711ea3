"""Results that were computed from a stored set, kept beside its rows.

::

    <cache>/features/<model>-<key>/<source>/results/<question>.json

A question is everything that the result depends on, as plain JSON: which rows, what was asked of them, and the code
that computed it (:func:`code`). A file holds the question, the answer and a digest of both, so that a file which is
damaged, foreign, or of another version of the package is never an answer: the result is then computed again. Removing
the set removes its results.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nctransfer
from nctransfer.backbones.feature_key import json_digest
from nctransfer.store.atomic_files import as_json, replace_file
from nctransfer.store.manifest import NAME
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    from nctransfer.store.stored_set import StoredSet

__all__ = ["KeptResults", "code"]

log = logging.getLogger(__name__)

LARGEST = 8 * 2**20  # bytes of one file
MOST = 32 * 2**20  # bytes of all results of one set


class _Size(NamedTuple):
    """How many results a set has, and their bytes."""

    number: int
    bytes: int


class KeptResults:
    """The kept results of one stored set. Several processes may read and write them at once.

    Args:
        stored: The set.
        folder: Where they are in the folder of the set.
    """

    def __init__(self, stored: StoredSet, folder: str = "results") -> None:
        self._set = stored.path
        self._folder = stored.path / folder

    def find(self, question: Mapping[str, Any]) -> Any:
        """The answer to a question, as JSON gives it back; ``None`` if none is kept, or its file is damaged."""
        path = self._path(question)
        try:
            if path.stat().st_size > LARGEST:
                return None
            content = parse_json(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(content, dict) or content.get("question") != as_json(question):
            return None
        try:
            return content.get("answer") if content.get("digest") == _digest(content) else None
        except RecursionError:
            return None

    def keep(self, question: Mapping[str, Any], answer: Any) -> None:
        """Keep an answer, and delete the oldest ones if they become too many. Where nothing can be written, do nothing.

        Args:
            question: Plain values, as JSON holds them.
            answer: Plain values.
        """
        content = as_json({"question": question, "answer": answer})
        text = json.dumps({**content, "digest": _digest(content)}, allow_nan=False).encode()
        if len(text) > LARGEST or not (self._set / NAME).is_file():  # the set may have been removed
            return
        try:
            replace_file(self._path(question), lambda file: file.write(text))
            self._drop_oldest()
        except OSError as error:  # a result can always be computed again
            log.debug("a result is not kept: %s", error)

    def size(self) -> _Size:
        """How many results there are, and their bytes."""
        sizes = [size for _, size, path in self._files() if path.suffix == ".json"]
        return _Size(len(sizes), sum(sizes))

    def _path(self, question: Mapping[str, Any]) -> Path:
        return self._folder / f"{json_digest(question, 32)}.json"

    def _files(self) -> list[tuple[int, int, Path]]:
        """The time, the size and the path of each file, also of those that a killed process left; the newest first."""
        found = []
        for path in self._folder.glob("*"):
            with suppress(OSError):  # another process has deleted it
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        return sorted(found, reverse=True)

    def _drop_oldest(self) -> None:
        total = 0
        for _, size, path in self._files():
            total += size
            if total > MOST:
                path.unlink(missing_ok=True)


def _digest(content: Mapping[str, Any]) -> str:
    return json_digest([content.get("question"), content.get("answer")], 32)


@functools.cache
def code() -> list[str]:
    """The code that computes results: the versions of packages, and a digest of the files of this one."""
    folder = Path(nctransfer.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*.py")):
        digest.update(b"%s\0%d\0" % (bytes(path.relative_to(folder)), path.stat().st_size))
        digest.update(path.read_bytes())
    others = [f"{name} {version(name)}" for name in ("torch", "numpy")]
    return [nctransfer.__version__, digest.hexdigest(), *others]
