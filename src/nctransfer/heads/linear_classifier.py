"""A linear classifier on features, with a temperature that makes probabilities of its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["LinearClassifier"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearClassifier:
    """Scores ``(f − centre) @ weight.T + intercept``, and probabilities ``softmax(scores / temperature)``.

    Attributes:
        classes: The C class names, in the order of the scores.
        weight: ``(C, d)``, float32.
        intercept: ``(C,)``, float32.
        centre: ``(d,)``, float32: what is subtracted from a feature first.
        unit_length: Whether a feature is then scaled to unit length.
        temperature: What scores are divided by before the softmax.

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

    @property
    def dim(self) -> int:
        """The width d of the features."""
        return self.weight.shape[1]

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
        return scores

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """The probability of each class.

        Args:
            features: ``(b, d)``.

        Returns:
            ``(b, C)`` float32; each row sums to 1.
        """
        return (self.scores(features) / self.temperature).softmax(dim=1)
