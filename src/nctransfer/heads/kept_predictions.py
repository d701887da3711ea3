"""Predictions in the journal of an earlier run, found by the content of the image or by its id."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.heads.prediction import Prediction
from nctransfer.sources.source import digest_number
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from nctransfer.heads.predicting import Answer

__all__ = ["KeptPredictions", "parsed"]


class KeptPredictions:
    """The predictions in a journal. The file holds the rows; in memory are 32 bytes for each.

    Args:
        path: The journal. Its first line is no row, a last line without its end is left out, and so is what cannot be
            read as a row.

    Attributes:
        end: Where the last whole line ends, in bytes.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.end = len(self._file.readline())
        ids, digests, offsets, whole = (array("q") for _ in range(4))
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            if (row := parsed(line)) is not None and _is_row(row):
                if row["class"] is not None:  # a broken image is tried again
                    digests.append(digest_number(row["digest"]))
                    whole.append(self.end)
                ids.append(digest_number(row["id"]))
                offsets.append(self.end)
            self.end += len(line)
        self._ids, self._digests = _Places(ids, offsets), _Places(digests, whole)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._ids)

    def __contains__(self, digest: object, /) -> bool:
        """Whether the prediction of an image of this content is there; any thread may ask."""
        return isinstance(digest, str) and digest in self._digests

    def __getitem__(self, digest: str, /) -> Prediction:
        """The prediction of an image by its digest."""
        return self._newest(self._digests.of(digest), "digest", digest)[0]

    def of_image(self, id_: str) -> Prediction:
        """The latest prediction of an image by its id."""
        return self._newest(self._ids.of(id_), "id", id_)[0]

    def has(self, answer: Answer) -> bool:
        """Whether the latest row of an image is this answer."""
        try:
            found = self._newest(self._ids.of(answer.prediction.id), "id", answer.prediction.id)
        except KeyError:
            return False
        return found == (answer.prediction, answer.digest)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _newest(self, places: Sequence[int], name: str, value: str) -> tuple[Prediction, str]:
        """The last row in some places whose field has a value: other rows may share the short digest."""
        for place in reversed(places):
            self._file.seek(place)
            row = json.loads(self._file.readline())
            if row[name] == value:
                return Prediction.from_dict(row), row["digest"]
        raise KeyError(value)


class _Places:
    """Where the rows with a name are in a file.

    Args:
        names: The short digest of the name of each row.
        offsets: Where each row is.
    """

    def __init__(self, names: array[int], offsets: array[int]) -> None:
        import numpy as np

        found = np.array(names, np.int64)
        order = np.argsort(found, kind="stable")
        self._names: NDArray[np.int64] = found[order]
        self._offsets: NDArray[np.int64] = np.array(offsets, np.int64)[order]

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        low, high = self._range(name)
        return low < high

    def of(self, name: str) -> list[int]:
        """The places of rows that may have the name, in the order of the file."""
        low, high = self._range(name)
        found: list[int] = self._offsets[low:high].tolist()
        return found

    def _range(self, name: str) -> tuple[int, int]:
        short = digest_number(name)
        low, high = (int(self._names.searchsorted(short, side)) for side in ("left", "right"))
        return low, high


def parsed(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; ``None`` if there is none."""
    try:
        value = parse_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_row(row: dict[str, Any]) -> bool:
    try:
        Prediction.from_dict(row)
    except KeyError:
        return False
    return isinstance(row["id"], str) and isinstance(row.get("digest"), str)
