"""What a head says of images: one row per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.heads.prediction_summary import PredictionSummary

__all__ = ["COLUMNS", "Prediction", "Predictions"]

COLUMNS = ("id", "class", "probability", "second", "second_probability", "abstained", "reason")
"""The names of the fields of a :class:`Prediction` in files; ``class`` is a keyword in Python."""


class Prediction(NamedTuple):
    """What a head says of one image.

    Attributes:
        id: The path of the image, or what else identifies it.
        label: The most probable class, also if the head abstains; ``None`` for a broken image. In files: ``class``.
        probability: Its calibrated probability.
        second: The second most probable class.
        second_probability: Its probability.
        abstained: Whether the answer should not be used.
        reason: Why: ``unlike every class``, ``between two classes``, or ``broken: …``; "" if the head answers.
    """

    id: str
    label: str | None
    probability: float | None
    second: str | None
    second_probability: float | None
    abstained: bool
    reason: str

    @classmethod
    def broken(cls, id_: str, reason: str) -> Prediction:
        """The row of an image that cannot be used.

        >>> Prediction.broken("1.jpg", "the file is empty (0 bytes)").reason
        'broken: the file is empty (0 bytes)'
        """
        return cls(id_, None, None, None, None, True, f"broken: {reason}")

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Prediction:
        """A prediction from the row of :meth:`to_dict`; other keys are left out.

        Raises:
            KeyError: A key is missing.
        """
        return cls(*(row[name] for name in COLUMNS))

    def to_dict(self) -> dict[str, Any]:
        """The row in files.

        >>> Prediction("1.jpg", "cat", 0.9, "dog", 0.06, False, "").to_dict()["class"]
        'cat'
        """
        return dict(zip(COLUMNS, self, strict=True))

    @property
    def is_broken(self) -> bool:
        """Whether the image cannot be used."""
        return self.label is None


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Sequence[Prediction], ShownInNotebooks):
    """The predictions of some images, in the order in which they were given: a list that cannot be changed.

    Attributes:
        rows: One prediction per image.
        summary: How many were answered, and how many were right where labels are known.
    """

    rows: tuple[Prediction, ...]
    summary: PredictionSummary

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Predictions({len(self):,} images, {self.summary.answered:,} answered)"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before using the predictions, in sentences."""
        return self.summary.warnings

    def to_frame(self) -> pd.DataFrame:
        """One row per image, with the columns of the files."""
        return rows_to_frame(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The rows and the summary as a dictionary for JSON."""
        return {"predictions": [row.to_dict() for row in self.rows], "summary": self.summary.to_dict()}


def rows_to_frame(rows: Iterable[Prediction]) -> pd.DataFrame:
    """Predictions as a table."""
    import pandas as pd

    return pd.DataFrame(list(rows), columns=list(COLUMNS))
