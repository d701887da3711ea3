"""How far the features of a backbone depend on how they are computed.

Every way of running is compared with the plain one: float32, a whole batch, channels last, nothing folded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import DataError, ModelError, counted
from nctransfer.sources.decoding import decode
from nctransfer.sources.selection import Selection

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.sources.source import ImageSource

__all__ = ["Difference", "NumericsReport", "check"]


@dataclass(frozen=True)
class Difference:
    """How one way of running differs from the plain one.

    Attributes:
        way: What was done otherwise.
        largest: The largest ``|f' - f| / |f|`` of an image; ``None`` if it could not be run, see ``reason``.
        median: The median of the same.
        same_neighbour: Share of images whose nearest neighbour among the others (by cosine) stays the same.
        reason: Why it could not be run, else "".
    """

    way: str
    largest: float | None
    median: float | None = None
    same_neighbour: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class NumericsReport:
    """What a backbone's features are like, and what they depend on.

    Attributes:
        model: Its name.
        weights: Where its weights came from.
        device: Where it ran.
        images: How many were run.
        width: Of the features, d.
        not_finite: Images with a NaN or infinite feature.
        dead: Features that are the same for every image.
        smallest_norm: Of a feature vector.
        largest_norm: Likewise.
        largest_value: The largest magnitude of a feature; float16 ends at 65,504.
        alike: Mean cosine between two images, the mean feature not taken off.
        differences: One for each way of running.
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
        """The fields, as JSON has them."""
        return {**vars(self), "differences": [vars(difference) for difference in self.differences]}


def check(
    backbone: Backbone, source: ImageSource, images: int = 32, selection: Selection | None = None
) -> NumericsReport:
    """Run some images in every way that matters, and compare.

    Args:
        backbone: As loaded for float32; it is not changed.
        source: Where images are taken from, evenly over its listing.
        images: How many, at least 2.
        selection: Which of the source's may be taken.

    Raises:
        DataError: The source has fewer than 2 images, or one cannot be decoded.
        ModelError: Fewer than 2 images were asked for, or the backbone gives no finite feature.
    """
    import torch

    if images < 2:
        raise ModelError(f"{images} images leave nothing to compare", "give --images 2 or more")
    pixels = _pixels(backbone, source, images, selection or Selection())
    plain = backbone.variant(torch.float32)
    features = plain(pixels)[FEATURE]
    finite = features.isfinite().all(dim=1)
    if not bool(finite.any()):
        raise ModelError(f"{backbone.key.model} gives NaN or infinite features for each of {len(pixels)} images")
    good = features[finite]

    def compare(way: str, run: Callable[[], torch.Tensor]) -> Difference:
        try:
            return _difference(way, good, run()[finite])
        except (ModelError, RuntimeError, NotImplementedError, TypeError) as error:  # whatever the device lacks
            reason = error.__cause__ or error
            return Difference(way, None, reason=str(reason).strip().partition("\n")[0])

    def folded() -> torch.Tensor:
        other = backbone.variant(torch.float32)
        if not other.fold():
            raise NotImplementedError("no BatchNorm follows a convolution")
        return other(pixels)[FEATURE]

    def in_dtype(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        return lambda: backbone.variant(dtype)(pixels)[FEATURE]

    differences = (
        compare("a second time", lambda: plain(pixels)[FEATURE]),
        compare("one image at a time", lambda: torch.cat([plain(one)[FEATURE] for one in pixels.split(1)])),  # type: ignore[no-untyped-call]
        compare("channels first", lambda: backbone.variant(torch.float32, torch.contiguous_format)(pixels)[FEATURE]),
        compare("BatchNorm folded", folded),
        compare("float64", in_dtype(torch.float64)),
        compare("bfloat16 autocast", in_dtype(torch.bfloat16)),
        compare("float16 autocast", in_dtype(torch.float16)),
        compare("stored as float16", lambda: features.half().float()),
    )
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
        differences=differences,
    )


def _pixels(backbone: Backbone, source: ImageSource, images: int, selection: Selection) -> torch.Tensor:
    import numpy as np
    import torch

    entries = source.list()
    columns = zip(*((entry.id, entry.label, entry.split) for entry in entries), strict=True)
    entries = [entries[i] for i in selection.apply(*map(list, columns)).tolist()]
    if len(entries) < 2:
        raise DataError(f"{source.name} has a single image", "give --data with more")
    chosen = [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, images).astype(int)).tolist()]
    prepared = []
    for entry, content in zip(chosen, source.contents(chosen), strict=True):
        try:
            prepared.append(backbone.preprocess(decode(content())))
        except (OSError, ValueError) as error:
            raise DataError(
                f"the image {entry.id!r} cannot be used: {error}", "take it out, or give other --data"
            ) from error
    return torch.from_numpy(np.stack(prepared))


def _difference(way: str, plain: torch.Tensor, other: torch.Tensor) -> Difference:
    import torch

    if lost := int((~other.isfinite().all(dim=1)).sum()):
        return Difference(way, None, reason=f"NaN or infinite for {counted(lost, 'image')}")
    relative = (other - plain).norm(dim=1) / plain.norm(dim=1).clamp_min(torch.finfo(plain.dtype).tiny)
    same = (_neighbours(plain) == _neighbours(other)).double().mean()
    return Difference(way, relative.max().item(), relative.median().item(), same.item())


def _neighbours(features: torch.Tensor) -> torch.Tensor:
    return _cosines(features).fill_diagonal_(-2).argmax(dim=1)


def _cosines(features: torch.Tensor) -> torch.Tensor:
    from torch.nn import functional as F

    directions = F.normalize(features.cpu().double(), dim=1)
    return directions @ directions.T
