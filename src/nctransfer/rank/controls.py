"""Controls: features that a backbone must beat to be of use for some images. They are in every ranking."""

from __future__ import annotations

from nctransfer.backbones.names import PIXELS
from nctransfer.backbones.request import BackboneRequest
from nctransfer.rank.candidates import Candidate

__all__ = ["controls"]

RANDOM = "mobilenetv1_100"


def controls(seed: int = 0) -> tuple[Candidate, ...]:
    """A network with random weights, and the pixels of a small image.

    Args:
        seed: The seed of the random weights.

    >>> [control.name for control in controls()]
    ['random network', 'pixels 16×16']
    """
    return (
        Candidate(
            name="random network",
            request=BackboneRequest(RANDOM, random_init=True, seed=seed),
            is_control=True,
            why="It shows what the architecture gives without any training.",
        ),
        Candidate(
            name="pixels 16×16",
            request=BackboneRequest(PIXELS),
            is_control=True,
            why="A backbone that does not beat the pixels is no backbone for these images.",
        ),
    )
