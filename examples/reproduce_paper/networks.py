"""Networks of the few-shot literature for small images, registered with timm: an example of a plugin.

    nctransfer extract --plugin examples/reproduce_paper/networks.py --model conv4 --checkpoint conv4.safetensors

A plugin is Python code and is run as it is: give only files that you trust. What a model of one's own needs is in
:class:`Network`; anything that timm builds (``timm.models.ResNet`` with other arguments, say) has it already.

``wrn_28_4`` and ``conv_28_4`` are the networks of Galanti, György, Hutter (ICLR 2022): a wide residual network
(Zagoruyko, Komodakis 2016), and the same without the skip connections. ``conv4`` and ``resnet12`` are those of Tian et
al. (*Rethinking Few-Shot Image Classification*, 2020), the latter with DropBlock as they have it for images of 32
pixels, but at a constant rate.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropBlock2d
from timm.models import register_model
from torch import nn


class Network(nn.Module):
    """Stages, the mean over all places as the feature, and a linear classifier.

    Args:
        stages: Each from a map of features to the next.
        width: Channels of the last map.
        num_classes: Outputs of the classifier.
    """

    def __init__(self, stages: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.width = width
        self.reset_classifier(num_classes)
        # the transform: image size, crop and colours; what is left out is as for ImageNet
        self.pretrained_cfg = {
            "input_size": (3, 32, 32),
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """``(B, 3, H, W)`` to the last feature map, ``(B, d, h, w)``."""
        for stage in self.stages:
            images = stage(images)
        return images

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
        """The last feature map, and those of the stages that are asked for (``--layers``)."""
        if output_fmt != "NCHW":
            raise ValueError(f"the maps are NCHW, not {output_fmt}")
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return images, [maps[index] for index in (range(len(maps)) if indices is None else indices)]

    def get_classifier(self) -> nn.Module:
        """The last layer, which no feature depends on; a checkpoint may have one of another size."""
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        """Another last layer, or none."""
        self.fc: nn.Module = nn.Linear(self.width, num_classes) if num_classes else nn.Identity()


def convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Without bias, as BatchNorm follows."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


class WideBlock(nn.Module):
    """BatchNorm, ReLU, convolution, twice; added to the input unless ``skip`` is false."""

    def __init__(self, inputs: int, outputs: int, stride: int, skip: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = convolution(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = convolution(outputs, outputs)
        self.shortcut = convolution(inputs, outputs, 1, stride) if skip and inputs != outputs else None
        self.skip = skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One block."""
        active = F.relu(self.bn1(x))
        y: torch.Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        if not self.skip:
            return y
        return y + (x if self.shortcut is None else self.shortcut(active))


class ResidualBlock(nn.Module):
    """Three convolutions beside a shortcut, pooling by two, and DropBlock: a stage of ``resnet12``."""

    def __init__(self, inputs: int, outputs: int, drop: float) -> None:
        super().__init__()
        widths = (inputs, outputs, outputs, outputs)
        self.convs = nn.ModuleList(convolution(*pair) for pair in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(3))
        self.shortcut = nn.Sequential(convolution(inputs, outputs, 1), nn.BatchNorm2d(outputs))
        self.drop = DropBlock2d(drop, block_size=2) if drop else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """One stage."""
        y = x
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y if number == 0 else F.leaky_relu(y, 0.1)))
        pooled: torch.Tensor = self.drop(F.max_pool2d(F.leaky_relu(y + self.shortcut(x), 0.1), 2))
        return pooled


def _wide(depth: int, factor: int, skip: bool, num_classes: int) -> Network:
    blocks = (depth - 4) // 6  # in each of three groups, of two convolutions each
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    stages: list[nn.Module] = [convolution(3, widths[0])]
    for group, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        first = WideBlock(inputs, outputs, 1 if group == 0 else 2, skip)
        stages.append(nn.Sequential(first, *(WideBlock(outputs, outputs, 1, skip) for _ in range(blocks - 1))))
    stages[-1] = nn.Sequential(stages[-1], nn.BatchNorm2d(widths[-1]), nn.ReLU())
    return Network(stages, widths[-1], num_classes)


def _no_weights(name: str, pretrained: bool) -> None:
    if pretrained:
        raise ValueError(f"{name} has no published weights")


@register_model
def conv4(pretrained: bool = False, num_classes: int = 64, width: int = 64, **_: Any) -> Network:
    """Four blocks of convolution, BatchNorm, ReLU and pooling; ``--model-kwargs width=128`` reaches it too."""
    _no_weights("conv4", pretrained)
    pairs = itertools.pairwise((3, width, width, width, width))
    blocks = [nn.Sequential(convolution(*pair), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)) for pair in pairs]
    return Network([*blocks], width, num_classes)


@register_model
def resnet12(pretrained: bool = False, num_classes: int = 64, drop: float = 0.1, **_: Any) -> Network:
    """Four residual stages of 64, 160, 320 and 640 channels; DropBlock in the last two."""
    _no_weights("resnet12", pretrained)
    pairs = itertools.pairwise((3, 64, 160, 320, 640))
    stages = [ResidualBlock(*pair, drop if number > 1 else 0.0) for number, pair in enumerate(pairs)]
    return Network([*stages], 640, num_classes)


@register_model
def wrn_28_4(pretrained: bool = False, num_classes: int = 64, **_: Any) -> Network:
    """Wide residual network of 28 layers, widened 4 times; features of 256."""
    _no_weights("wrn_28_4", pretrained)
    return _wide(28, 4, skip=True, num_classes=num_classes)


@register_model
def conv_28_4(pretrained: bool = False, num_classes: int = 64, **_: Any) -> Network:
    """The same without skip connections."""
    _no_weights("conv_28_4", pretrained)
    return _wide(28, 4, skip=False, num_classes=num_classes)
