"""Controls: features that a backbone must beat to be of use for some images. They are in every ranking."""

from __future__ import annotations

from nctransfer.backbones.names import PIXELS
from nctransfer.backbones.request import BackboneRequest
from nctransfer.rank.candidates import Candidate

__all__ = ["controls"]

RANDOM = "mobilenetv1_100"
"""The architecture of the random network. A control should be cheap, and hard to beat on all kinds of images.

All-way accuracy with ridge and 5 images per class, in percent, mean of two seeds; 60 classes of Caltech-101, 20 of
CIFAR-100 and 136 of Omniglot (chance: 1.7, 5.0 and 0.7):

====================== ======= ===== ======== ======================
architecture           Caltech CIFAR Omniglot milliseconds per image
====================== ======= ===== ======== ======================
mobilenetv1_100           15.2  18.3     26.2                     17
resnet18                  15.6  22.0      4.4                     36
resnet10t                 14.2  20.6     14.8                     15
tf_efficientnet_lite0     13.8  16.6     12.5                     17
vit_tiny_patch16_224      10.4  17.8      4.4                     32
the pixels                21.9  21.5     17.0                      1
====================== ======= ===== ======== ======================
"""


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
            why=f"It is {RANDOM} with random weights: what an architecture gives without any training.",
        ),
        Candidate(
            name="pixels 16×16",
            request=BackboneRequest(PIXELS),
            is_control=True,
            why="A backbone that does not beat the pixels is no backbone for these images.",
        ),
    )
