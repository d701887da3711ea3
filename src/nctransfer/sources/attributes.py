"""Attributes of images: what a source says about each beside its class and split, such as the site of a photograph.

They are further columns of a table, or the folders that an image lies in. An attribute is text. Whole numbers and
booleans become text; a column of anything else is no attribute, nor is one with too many or too long texts, such as a
caption. So a million images need four bytes for each attribute.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nctransfer.sources.arrow_arrays import coded, values_of

if TYPE_CHECKING:
    import pyarrow as pa

    from nctransfer.sources.label_depth import LabelDepth

__all__ = [
    "MOST_ATTRIBUTES",
    "MOST_COLUMNS",
    "MOST_LETTERS",
    "MOST_NAME",
    "RULE",
    "AttributeColumn",
    "FolderAttributes",
    "RowAttributes",
    "attribute_text",
]

MOST_VALUES = 10_000  # different texts of one attribute
MOST_LETTERS = 1_000  # of one text
MOST_NAME = 200  # letters of the name of an attribute
MOST_COLUMNS = 64  # attributes of one source
MOST_LEVELS = 9  # folders within each other
MOST_ATTRIBUTES = MOST_COLUMNS + MOST_LEVELS  # with the columns of labels
RULE = (
    f"attributes are up to {MOST_COLUMNS} columns of text, whole numbers or booleans with at most {MOST_VALUES:,} "
    f"different values of at most {MOST_LETTERS:,} characters"
)


class AttributeColumn:
    """One attribute on its way into a table: the texts, and the number of each image's text among them.

    Attributes:
        is_kept: Whether it is an attribute still.
    """

    def __init__(self) -> None:
        self._codes: dict[str, int] = {"": 0}
        self._rows = array("i")
        self.is_kept = True

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, value: object) -> None:
        """The value of the next image; see :func:`attribute_text`."""
        code = self._codes.get(value) if type(value) is str else None
        self._rows.append(self._code(attribute_text(value)) if code is None else code)

    def add_many(self, texts: Sequence[str | None], numbers: Iterable[int]) -> None:
        """The texts of the next images: for each, the number of its text."""
        codes = [self._code(text) for text in texts]
        self._rows.extend(map(codes.__getitem__, numbers))

    def fill(self, rows: int) -> None:
        """Give no text to the images up to this number that are not there yet."""
        if rows > len(self._rows):
            self._rows.frombytes(bytes(self._rows.itemsize * (rows - len(self._rows))))

    def coded(self) -> pa.DictionaryArray:
        """The column. Nothing may be added afterwards, because the memory is shared."""
        import numpy as np

        return coded(np.frombuffer(self._rows, np.int32), list(self._codes))

    def _code(self, text: str | None) -> int:
        code = self._codes.get(text) if text is not None else None
        if code is not None:
            return code
        if text is None or len(self._codes) > MOST_VALUES or len(text) > MOST_LETTERS:
            self.is_kept = False
        if text is None or not self.is_kept:
            return 0
        return self._codes.setdefault(text, len(self._codes))


class RowAttributes:
    """Attributes that come row by row, as from a manifest.

    Args:
        without: The columns that are something else, such as the path.
    """

    def __init__(self, without: Collection[str | None]) -> None:
        self._columns: dict[str, AttributeColumn] = {}
        self._useless = {*without, ""}
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """The columns of the next image. One that it lacks is empty for it."""
        for name, value in row.items():
            column = self._columns.get(name)
            if column is None:
                if name in self._useless or len(self._columns) == MOST_COLUMNS or len(name) > MOST_NAME:
                    continue
                column = self._columns[name] = AttributeColumn()
            if len(column) < self._rows:
                column.fill(self._rows)
            column.add(value)
            if not column.is_kept:
                del self._columns[name]
                self._useless.add(name)
        self._rows += 1

    def columns(self) -> dict[str, pa.DictionaryArray]:
        """The attributes, by name. Nothing may be added afterwards."""
        for column in self._columns.values():
            column.fill(self._rows)
        return {_as_unicode(name): column.coded() for name, column in self._columns.items()}


class FolderAttributes:
    """The folders that images lie in: ``folder-1`` is the outermost below the split, ``folder-2`` the next, and so on.

    They are kept once for many images of one folder, which a source has millions of.
    """

    def __init__(self) -> None:
        self._levels: list[AttributeColumn] = []
        self._runs = array("q")

    def add(self, folders: Sequence[str], images: int) -> None:
        """Some images that lie in the same folders."""
        if images:
            for _ in range(len(self._levels), min(len(folders), MOST_LEVELS)):
                self._levels.append(AttributeColumn())
            for level, name in zip(self._levels, folders, strict=False):
                level.fill(len(self._runs))
                if level.is_kept:
                    level.add(name)
            self._runs.append(images)

    def classes(self) -> list[int]:
        """How many classes the outermost folder makes, the outermost two, and so on, so far as their names are kept."""
        import numpy as np

        found: list[int] = []
        groups = np.zeros(len(self._runs), np.int64)
        for level in self._levels:
            if not level.is_kept:
                break
            level.fill(len(self._runs))
            codes = values_of(level.coded().indices)
            groups = np.unique(groups * (int(codes.max(initial=0)) + 1) + codes, return_inverse=True)[1].reshape(-1)
            found.append(int(groups.max(initial=-1)) + 1)
        return found

    def shallower_than(self, depth: LabelDepth | None) -> int:
        """How many images lie in fewer folders."""
        import numpy as np

        if not isinstance(depth, int) or not 1 <= depth <= len(self._levels):
            return 0
        level = self._levels[depth - 1]
        level.fill(len(self._runs))
        codes = values_of(level.coded().indices)
        return int(np.frombuffer(self._runs, np.int64)[codes == 0].sum()) if level.is_kept else 0

    def columns(self) -> dict[str, pa.DictionaryArray]:
        """The attributes, by name; none if no image lies deeper than one folder, whose name is the class then."""
        import numpy as np

        if len(self._levels) < 2:
            return {}
        found, runs = {}, np.frombuffer(self._runs, np.int64)
        for number, level in enumerate(self._levels, 1):
            if level.is_kept:
                level.fill(len(runs))
                texts = level.coded()
                names = texts.dictionary.to_pylist()
                found[f"folder-{number}"] = coded(np.repeat(values_of(texts.indices), runs), names)
        return found


def attribute_text(value: Any) -> str | None:
    """A value as the text of an attribute, "" for null or blanks; ``None`` if no attribute has such a value.

    >>> [attribute_text(value) for value in ("a", 7, True, None, " ", 0.5)]
    ['a', '7', 'true', '', '', None]
    """
    if isinstance(value, str):
        return "" if value.isspace() else _as_unicode(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def _as_unicode(text: str) -> str:
    """A text whose halves of surrogate pairs, which JSON can hold, are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
