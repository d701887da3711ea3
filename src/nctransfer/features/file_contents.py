"""What a file of features made elsewhere holds, checked and selected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
def reading_errors(path: str | Path, kind: str, needed: str) -> Iterator[None]:
    """Whatever a library raises on a file, as an error that names the file."""
    try:
        yield
    except FeaturesError:
        raise
    except Exception as error:  # a reader may raise anything on a damaged file
        reason = getattr(error, "strerror", None) or str(error).strip().rpartition("': ")[2] or type(error).__name__
        raise FeaturesError(f"{str(path)!r} cannot be read as {kind}: {reason}", needed) from error


class Contents(NamedTuple):
    """What a file gives, in the order of its rows."""

    names: tuple[str, str]  # of the columns or arrays of features and of labels
    matrix: NDArray[Any] | None  # None if it is streamed
    labels: Sequence[str]
    are_codes: bool
    class_names: Sequence[str] | None
    ids: Sequence[str] | None
    splits: Sequence[str]

    def selected(self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None) -> FeatureSet:
        """The wanted rows as a set; ``class_names`` go before those of the file."""
        assert self.matrix is not None
        labels, chosen, info = self.chosen(path, selection, class_names)
        if selection is None or not labels:
            return FeatureSet.from_arrays(self.matrix, labels, self.ids, info)
        ids = self.ids or [str(i) for i in range(len(labels))]
        return FeatureSet.from_arrays(self.matrix[chosen], [labels[i] for i in chosen], [ids[i] for i in chosen], info)

    def chosen(
        self, path: str | Path, selection: Selection | None, class_names: Sequence[str] | None
    ) -> tuple[Sequence[str], list[int], FeatureInfo]:
        """The class names of all rows, the rows that are wanted, and what they are."""
        feature, label = self.names
        names = self.class_names if class_names is None else class_names
        labels = self.labels if names is None else _decoded(self.labels, self.are_codes, names, label)
        info = FeatureInfo(str(path), data=Path(path).name, path=str(path), layer=feature)
        if selection is None or not labels:
            return labels, list(range(len(labels))), info
        ids = self.ids or [str(i) for i in range(len(labels))]
        return labels, selection.apply(ids, labels, self.splits).tolist(), replace(info, split=selection.split)


def _decoded(labels: Sequence[str], are_codes: bool, names: Sequence[str], column: str) -> list[str]:
    """The class names that codes stand for."""
    if not are_codes:
        raise FeaturesError(
            f"the labels {column!r} are no whole numbers that class names could stand for",
            "leave the class names out, or name the labels that are codes by --label-column",
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FeaturesError(f"the class name {twice!r} stands for two codes", "class names must be distinct")
    for row, code in enumerate(map(int, labels)):
        if not 0 <= code < len(names):
            raise FeaturesError(
                f"the label {code} in row {row:,} of {column!r} has no name among {counted(len(names), 'class name')}",
                "the first name stands for code 0, the next for code 1, and so on: give one for each code",
            )
    return [names[int(code)] for code in labels]
