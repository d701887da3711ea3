"""Check how much the features of a backbone depend on the way in which they are computed.

Every way is compared with the plain one: float32, all images in one batch, channels last if the model can have it, no
BatchNorm folded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.chosen_images import chosen_pixels
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import ModelError, counted, reason_of
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource

__all__ = ["Difference", "NumericsReport", "check", "from_float32"]


@dataclass(frozen=True)
class Difference:
    """How the features that one way of running gives differ from those of the plain way.

    Attributes:
        way: What was done differently.
        largest: The largest relative difference ``|f' - f| / |f|`` of an image; ``None`` if this way could not be run.
        median: The median relative difference.
        same_neighbour: The share of images whose nearest neighbour among the others (by cosine) stays the same.
        reason: Why this way could not be run, or "".
    """

    way: str
    _: KW_ONLY
    largest: float | None
    median: float | None = None
    same_neighbour: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class NumericsReport(ShownInNotebooks):
    """The features of a backbone for some images, and how much they depend on the way of running.

    Attributes:
        model: The name of the model.
        weights: Where its weights came from.
        device: The device that it ran on.
        images: The number of images.
        width: The dimension d of the features.
        not_finite: The number of images with a NaN or infinite feature; the numbers below leave them out.
        dead: The number of features that are the same for every image.
        smallest_norm: The smallest Euclidean norm of a feature vector.
        largest_norm: The largest Euclidean norm of a feature vector.
        largest_value: The largest magnitude of a feature. The largest number in float16 is 65,504.
        alike: The mean cosine between the feature vectors of two images, without subtracting their mean.
        differences: One entry for each way of running.
    """

    model: str
    weights: str
    device: str
    images: int
    width: int
    not_finite: int
    dead: int
    smallest_norm: float
    largest_norm: float
    largest_value: float
    alike: float
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        return {**vars(self), "differences": [vars(difference) for difference in self.differences]}


def check(
    backbone: Backbone, source: ImageSource, images: int = 32, selection: Selection | None = None
) -> NumericsReport:
    """Run some images in every way that matters, and compare their features.

    Args:
        backbone: The backbone; it is not changed.
        source: Where the images come from.
        images: How many images to take, at least 2. They are spread evenly over the listing of the source.
        selection: Which images of the source may be taken. Default: all.

    Raises:
        DataError: The source has fewer than 2 images, or one of the images cannot be decoded.
        ModelError: ``images`` is less than 2, or the backbone gives no finite features.
    """
    import torch

    if images < 2:
        raise ModelError(f"expected at least 2 images to compare, got {images}", "give --images 2 or more")
    pixels = chosen_pixels(backbone, source, images, selection)
    plain = backbone.variant(torch.float32)
    features = plain(pixels)[FEATURE]
    finite = features.isfinite().all(dim=1)
    if not bool(finite.any()):
        raise ModelError(
            f"{backbone.key.model} gives NaN or infinite features for each of {len(pixels)} images",
            "give another --model or --checkpoint",
        )
    good = features[finite]
    norms = good.norm(dim=1)
    cosines = _cosines(good)
    count = len(good)
    return NumericsReport(
        model=backbone.key.model,
        weights=backbone.weights.name,
        device=str(backbone.device),
        images=len(pixels),
        width=features.shape[1],
        not_finite=int((~finite).sum()),
        dead=int((good == good[0]).all(dim=0).sum()),
        smallest_norm=norms.min().item(),
        largest_norm=norms.max().item(),
        largest_value=good.abs().max().item(),
        alike=((cosines.sum() - cosines.trace()) / max(1, count * (count - 1))).item(),
        differences=tuple(
            _compare(way, run, good, finite) for way, run in _ways(backbone, plain, pixels, features).items()
        ),
    )


def from_float32(backbone: Backbone, pixels: torch.Tensor, features: torch.Tensor) -> Difference:
    """How features that a backbone gave differ from those that it gives in float32.

    Args:
        backbone: The backbone, which computes in bfloat16 or float16.
        pixels: Images that it has run; see :meth:`Backbone.__call__`.
        features: What it gave for them.
    """
    plain = backbone.in_float32()(pixels)[FEATURE]
    finite = plain.isfinite().all(dim=1)
    if not bool(finite.any()):
        return Difference(backbone.key.dtype, largest=None, reason="NaN or infinite features in float32 too")
    return _difference(backbone.key.dtype, plain[finite], features[finite])


def _ways(
    backbone: Backbone, plain: Backbone, pixels: torch.Tensor, features: torch.Tensor
) -> dict[str, Callable[[], torch.Tensor]]:
    """Every way of running by its name, as a function that returns the features of all images.

    Args:
        backbone: The backbone.
        plain: The backbone in float32, which has run once.
        pixels: The images.
        features: What the plain way gave for them.
    """
    import torch

    def folded() -> torch.Tensor:
        other = backbone.variant(torch.float32)
        if not other.fold():
            raise NotImplementedError("no BatchNorm follows a convolution")
        return other(pixels)[FEATURE]

    def channels_first() -> torch.Tensor:
        if plain.memory_format is torch.contiguous_format:
            raise NotImplementedError("the plain run is channels first, as the model cannot be otherwise")
        return backbone.variant(torch.float32, torch.contiguous_format)(pixels)[FEATURE]

    def in_dtype(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        return lambda: backbone.variant(dtype)(pixels)[FEATURE]

    def in_halves(dtype: torch.dtype) -> torch.Tensor:
        other = backbone.variant(dtype)
        if other.device.type == "cpu":  # as an extraction does it
            other.fold()
        return other(pixels)[FEATURE]

    return {
        "a second time": lambda: plain(pixels)[FEATURE],
        "one image at a time": lambda: torch.cat([plain(pixels[i : i + 1])[FEATURE] for i in range(len(pixels))]),
        "channels first": channels_first,
        "BatchNorm folded": folded,
        "float64": in_dtype(torch.float64),
        "bfloat16": lambda: in_halves(torch.bfloat16),
        "float16": lambda: in_halves(torch.float16),
        "stored as float16": lambda: features.half().float(),
    }


def _compare(way: str, run: Callable[[], torch.Tensor], plain: torch.Tensor, finite: torch.Tensor) -> Difference:
    """Run one way, and compare its features with the plain ones of images whose plain features are finite."""
    try:
        return _difference(way, plain, run()[finite])
    except (ModelError, RuntimeError, NotImplementedError, TypeError) as error:  # the device may lack something
        return Difference(way, largest=None, reason=reason_of(error.__cause__ or error))


def _difference(way: str, plain: torch.Tensor, other: torch.Tensor) -> Difference:
    import torch

    if lost := int((~other.isfinite().all(dim=1)).sum()):
        return Difference(way, largest=None, reason=f"NaN or infinite features for {counted(lost, 'image')}")
    relative = (other - plain).norm(dim=1) / plain.norm(dim=1).clamp_min(torch.finfo(plain.dtype).tiny)
    same = (_neighbours(plain) == _neighbours(other)).double().mean()
    return Difference(way, largest=relative.max().item(), median=relative.median().item(), same_neighbour=same.item())


def _neighbours(features: torch.Tensor) -> torch.Tensor:
    """For each image, the index of the other image with the largest cosine."""
    return _cosines(features).fill_diagonal_(-2).argmax(dim=1)


def _cosines(features: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional as F

    directions = F.normalize(features.cpu().double(), dim=1)
    return directions @ directions.T
