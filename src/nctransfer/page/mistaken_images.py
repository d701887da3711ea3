"""The images that a classifier gets wrong, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.page.blocks import Table

if TYPE_CHECKING:
    import torch

__all__ = ["MOST_MISTAKES", "mistaken_images"]

MOST_MISTAKES = 100  # in the table


def mistaken_images(
    predicted: torch.Tensor,
    probability: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    most: int = MOST_MISTAKES,
) -> Table | None:
    """The images that get another class than their label, those with the highest probability first.

    Args:
        predicted: The class code that each image gets, ``(n,)``.
        probability: The probability of that class, from 0 to 1, ``(n,)``.
        labels: The given class codes, ``(n,)``.
        classes: The names of the C classes.
        most: How many images are listed.

    Returns:
        ``None`` if there is no mistake.

    >>> import torch
    >>> table = mistaken_images(torch.tensor([1, 1, 0]), torch.tensor([0.5, 1.0, 0.75]), torch.tensor([0, 1, 1]), "ab")
    >>> table.rows
    (('2', 'b', 'a', '75.0'), ('0', 'a', 'b', '50.0'))
    """
    wrong = (predicted != labels).nonzero()[:, 0]
    if not len(wrong):
        return None
    surest = wrong[probability[wrong].argsort(descending=True, stable=True)][:most]
    caption = "The images that get another class than their label, the surest mistakes first"
    if len(surest) < len(wrong):
        caption += f": {len(surest):,} of {len(wrong):,}"
    return Table(
        columns=("image", "label", "taken for", ">probability in %"),
        rows=tuple(
            (str(row), classes[int(labels[row])], classes[int(predicted[row])], _percent(float(probability[row])))
            for row in surest.tolist()
        ),
        caption=f"{caption}. The probability is the one that the classifier gives to the class it takes the image for; "
        "a sure mistake may be a wrong label.",
        class_columns=(1, 2),
        image_columns=(0,),
    )


def _percent(probability: float) -> str:
    """A probability in percent that is 100 only if it is 1."""
    return f"{100 * probability if probability == 1 else min(100 * probability, 99.9):.1f}"
