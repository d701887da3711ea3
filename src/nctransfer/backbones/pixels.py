"""The pixels of a small image as its feature: a control that every backbone should beat."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from torch import nn

from nctransfer.backbones.names import PIXELS

__all__ = ["Pixels", "pixels", "register_pixels"]

SIDE = 16  # pixels, by default

# "squash" keeps the whole image and changes its proportions. Pillow's filters average over the pixels of the original.
default_cfgs = generate_default_cfgs(
    {
        PIXELS: {
            "input_size": (3, SIDE, SIDE),
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "num_classes": 0,
        }
    }
)


class Pixels(nn.Module):
    """A model without parameters. Its feature is the image itself, flattened: red, then green, then blue.

    Attributes:
        num_features: The width of the feature for images of the usual size.

    >>> model = Pixels()
    >>> model(torch.zeros(2, 3, 16, 16)).shape, sum(1 for _ in model.parameters())
    (torch.Size([2, 768]), 0)
    """

    num_classes = 0
    global_pool = "none"
    num_features = 3 * SIDE * SIDE

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The images ``(B, 3, height, width)``, unchanged."""
        return images

    def forward_head(self, features: torch.Tensor, **_: bool) -> torch.Tensor:
        """The images as vectors ``(B, 3 · height · width)``, in the order of colour, row and column."""
        return features.flatten(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """See :meth:`forward_head`."""
        return self.forward_head(self.forward_features(images))


def pixels(pretrained: bool = False, **settings: Any) -> nn.Module:
    """Build the model, as timm builds its own."""
    given_to_all = ("num_classes", "in_chans", "global_pool")
    model: nn.Module = build_model_with_cfg(Pixels, PIXELS, pretrained, kwargs_filter=given_to_all, **settings)
    return model


def register_pixels() -> None:
    """Make timm know the architecture, unless it does already."""
    if not is_model(PIXELS):
        register_model(pixels)
