"""The content of a file of features made elsewhere: checked, and reduced to the wanted rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, counted
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nctransfer.sources.selection import Selection

__all__ = ["CLASSES", "FEATURES", "IDS", "LABELS", "NAME_THEM", "SPLITS", "Contents", "pickled_error", "reading_errors"]

FEATURES = ("feature", "features", "x", "X", "embeddings")
LABELS = ("label", "labels", "y", "targets")
IDS, SPLITS, CLASSES = ("ids", "id"), ("split",), ("classes", "class_names")
NAME_THEM = "name them by --feature-column and --label-column"


def pickled_error(path: Path) -> FeaturesError:
    """The error for a file that only unpickling could read."""
    return FeaturesError(
        f"{str(path)!r} is pickled: reading it could run any code, and is refused",
        "save the arrays by numpy.savez or safetensors, or a table as Parquet",
    )


@contextmanager
def reading_errors(path: str | Path, kind: str, expected: str) -> Iterator[None]:
    """Turn whatever a library raises on a file into an error that names the file.

    Args:
        path: The file.
        kind: What the file is read as.
        expected: The hint of the error: what kind of file was expected.

    Raises:
        FeaturesError: The file cannot be read.
    """
    try:
        yield
    except FeaturesError:
        raise
    except Exception as error:  # a reader may raise anything on a damaged file
        reason = getattr(error, "strerror", None) or str(error).strip().rpartition("': ")[2] or type(error).__name__
        raise FeaturesError(f"{str(path)!r} cannot be read as {kind}: {reason}", expected) from error


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file holds, in the order of its rows.

    Attributes:
        feature: The name of the column or array of features.
        label: The name of the column or array of labels.
        matrix: The features ``(n, d)``; ``None`` if they are read in passes.
        labels: The n class names, or codes as text.
        are_codes: Whether the labels are whole numbers.
        class_names: The names of labels 0, 1, …, if the file has them.
        ids: The n sample names, if the file has them.
        splits: The n splits; "" where the file has none.
        attributes: The wanted attributes: n texts for each name.
    """

    feature: str
    label: str
    matrix: NDArray[Any] | None
    labels: Sequence[str]
    are_codes: bool
    class_names: Sequence[str] | None
    ids: Sequence[str] | None
    splits: Sequence[str]
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def selected(self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None) -> FeatureSet:
        """The wanted rows as a feature set.

        Args:
            path: The file.
            selection: Which rows are wanted; by default all.
            class_names: The names of labels 0, 1, …; by default those that the file has.

        Raises:
            FeaturesError: A label has no name, nothing is selected, or a value is not finite.
        """
        assert self.matrix is not None
        labels, chosen, info = self.chosen(path, selection, class_names)
        if selection is None or not labels:
            return FeatureSet.from_arrays(self.matrix, labels, self.ids, info, attributes=self.attributes)
        ids = self._ids()
        return FeatureSet.from_arrays(
            self.matrix[chosen],
            [labels[i] for i in chosen],
            [ids[i] for i in chosen],
            info,
            attributes={name: [texts[i] for i in chosen] for name, texts in self.attributes.items()},
        )

    def chosen(
        self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None
    ) -> tuple[Sequence[str], list[int], FeatureInfo]:
        """The class names of all rows, the numbers of the wanted rows, and the description of their features.

        The arguments are those of :meth:`selected`.

        Raises:
            FeaturesError: A label has no name, or nothing is selected.
        """
        names = self.class_names if class_names is None else class_names
        labels = self.labels if names is None else self._decoded(names)
        info = FeatureInfo(str(path), data=Path(path).name, path=str(path), layer=self.feature)
        if selection is None or not labels:
            return labels, list(range(len(labels))), info
        rows = selection.apply(self._ids(), labels, self.splits).tolist()
        return labels, rows, replace(info, split=selection.split)

    def _ids(self) -> Sequence[str]:
        return self.ids or [str(row) for row in range(len(self.labels))]

    def _decoded(self, names: Sequence[str]) -> list[str]:
        """The class names of the codes."""
        if not self.are_codes:
            raise FeaturesError(
                f"class names were given, but the labels {self.label!r} are not whole numbers",
                "leave the class names out, or name the column of whole numbers by --label-column",
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise FeaturesError(f"the class name {twice!r} stands for two codes", "class names must be distinct")
        for row, code in enumerate(map(int, self.labels)):
            if not 0 <= code < len(names):
                raise FeaturesError(
                    f"the label {code} in row {row:,} of {self.label!r} has no name: "
                    f"{counted(len(names), 'class name was', 'class names were')} given",
                    "the first name stands for code 0, the next for code 1, and so on: give one for each code",
                )
        return [names[int(code)] for code in self.labels]
