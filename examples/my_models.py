"""A model of one's own for nctransfer: the Conv-4 of the few-shot literature, registered with timm.

    nctransfer extract --plugin examples/my_models.py --model conv4 --checkpoint conv4.safetensors --data pets/

A plugin is Python code and is run as it is: give only files that you trust. What a model needs is below; anything that
timm builds (``timm.models.ResNet`` with other arguments, say) has it already.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from timm.models import register_model
from torch import nn


class Conv4(nn.Module):
    """Four blocks of convolution, BatchNorm, ReLU and pooling; the features are the mean over places."""

    def __init__(self, num_classes: int = 64, width: int = 64) -> None:
        super().__init__()
        channels = (3, width, width, width, width)
        self.blocks = nn.Sequential(*(self._block(*pair) for pair in itertools.pairwise(channels)))
        self.fc: nn.Module = nn.Linear(width, num_classes)
        self.width = width
        # the transform: image size, crop and colours; what is left out is as for ImageNet
        self.pretrained_cfg = {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bilinear"}

    @staticmethod
    def _block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)
        )

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` to the last feature map, ``(B, d, h, w)``."""
        features: torch.Tensor = self.blocks(images)
        return features

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The pooled features ``(B, d)``, or the logits."""
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits, for training."""
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(
        self, images: torch.Tensor, indices: list[int] | None = None, output_fmt: str = "NCHW"
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The last feature map, and those of the blocks that are asked for (``--layers``)."""
        if output_fmt != "NCHW":
            raise ValueError(f"the maps are NCHW, not {output_fmt}")
        maps = []
        for block in self.blocks:
            images = block(images)
            maps.append(images)
        return images, [maps[index] for index in (range(len(maps)) if indices is None else indices)]

    def get_classifier(self) -> nn.Module:
        """The last layer, which no feature depends on; a checkpoint may have one of another size."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Another last layer, or none."""
        self.fc = nn.Linear(self.width, num_classes) if num_classes else nn.Identity()


@register_model
def conv4(pretrained: bool = False, num_classes: int = 64, width: int = 64, **_: Any) -> Conv4:
    """``--model conv4``; ``--model-kwargs width=128`` reaches it too."""
    if pretrained:
        raise ValueError("conv4 has no published weights")
    return Conv4(num_classes, width)
