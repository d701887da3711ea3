"""A linear classifier on features, with a temperature that makes probabilities of its scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["LinearClassifier"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearClassifier:
    """Scores ``(f − centre) @ weight.T + intercept``, and probabilities ``softmax(scores / temperature)``.

    A class may have several rows, as with several proxies per class; its score is then the largest of theirs.

    Attributes:
        classes: The C class names, in the order of the scores.
        weight: ``(P, d)``, float32.
        intercept: ``(P,)``, float32.
        centre: ``(d,)``, float32: what is subtracted from a feature first.
        unit_length: Whether a feature is then scaled to unit length.
        temperature: What scores are divided by before the softmax.
        owners: The class of each row, ascending, ``(P,)`` int64; each class has at least one. ``None``: P is C, and row
            c is that of class c.

    >>> import torch
    >>> line = LinearClassifier(
    ...     classes=("left", "right"),
    ...     weight=torch.tensor([[-1.0], [1.0]]),
    ...     intercept=torch.zeros(2),
    ...     centre=torch.tensor([5.0]),
    ... )
    >>> line.scores(torch.tensor([[7.0]])).tolist()
    [[-2.0, 2.0]]
    >>> [round(p, 3) for p in line.probabilities(torch.tensor([[7.0]]))[0].tolist()]
    [0.018, 0.982]
    """

    classes: tuple[str, ...]
    weight: torch.Tensor
    intercept: torch.Tensor
    centre: torch.Tensor
    unit_length: bool = False
    temperature: float = 1.0
    owners: torch.Tensor | None = None
    _places: torch.Tensor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", None if self.owners is None else _rows_of(self.owners, len(self.classes)))

    @property
    def dim(self) -> int:
        """The width d of the features."""
        return self.weight.shape[1]

    @property
    def rows_per_class(self) -> int:
        """The number of rows of the class that has the most."""
        return 1 if self._places is None else self._places.shape[1]

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """The score of each class.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b, C)`` float32.
        """
        import torch

        moved = features.float() - self.centre
        if self.unit_length:
            moved = torch.nn.functional.normalize(moved, dim=1)
        scores: torch.Tensor = moved @ self.weight.T + self.intercept
        return scores if self._places is None else scores[:, self._places].amax(dim=2)

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """The probability of each class.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b, C)`` float32; each row sums to 1.
        """
        return (self.scores(features) / self.temperature).softmax(dim=1)


def _rows_of(owners: torch.Tensor, classes: int) -> torch.Tensor:
    """The rows of each class, ``(C, k)``; a class with fewer than k rows has its last one again.

    >>> import torch
    >>> _rows_of(torch.tensor([0, 0, 0, 1]), 2).tolist()
    [[0, 1, 2], [3, 3, 3]]
    """
    import torch

    counts = owners.bincount(minlength=classes)
    within = torch.minimum(torch.arange(int(counts.max())), counts[:, None] - 1)
    return counts.cumsum(0)[:, None] - counts[:, None] + within
