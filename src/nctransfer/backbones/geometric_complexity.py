"""Geometric complexity of a backbone: how much its features change with the image, ``E ‖∂f/∂x‖²`` (Munn et al. 2024).

For a random vector v of signs, ``E ‖Jᵀ v‖² = ‖J‖²_F`` (Hutchinson), and ``Jᵀ v`` takes one backward pass. The variance
is ``2 Σ_{i≠j} (J Jᵀ)²_ij``: about as large as the squared mean where J has one dominant direction.

The unit of x. An image is a function on the unit square, its values are those of pixels from 0 to 1, before the mean is
subtracted and divided by the standard deviation, and the distance of two images is the root mean square of the
difference of their N values, ``N = 3 · height · width``. In that metric the squared length of a gradient is ``N`` times
the sum of its squares. So the complexity is ``N E ‖J‖²_F``. It is the same for a backbone that sees an image of twice
the height and width and first averages blocks of 2 × 2: each of its derivatives is a quarter, and there are four times
as many. Without the factor N, it would be a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.backbone import features_of_values
from nctransfer.backbones.chosen_images import chosen_pixels
from nctransfer.devices import is_out_of_memory
from nctransfer.errors import DeviceError, ModelError, SettingError, reason_of
from nctransfer.intervals import t_quantile
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.hub import Progress
    from nctransfer.sources.selection import Selection
    from nctransfer.sources.source import ImageSource

__all__ = ["COARSE", "PROBES", "Estimate", "GeometricComplexity", "coarse_energy", "geometric_complexity"]

PROBES = 4
"""Random vectors per image, by default."""
TARGET = 0.05
"""The relative standard error at which no more images are taken, by default."""
COARSE = 32
"""The side of the grid for detail that small images have too."""
FEWEST = 16
"""Images before the relative standard error is looked at: with fewer it is often too small."""
BATCH = 8


@dataclass(frozen=True)
class Estimate:
    """A mean over images, with its standard error over the draw of images and of random vectors.

    Attributes:
        value: The estimate.
        error: Its standard error.
        probe_error: The part of it that is due to the random vectors, and shrinks with more of them per image; the
            squares of this part and of that of the images add up to that of the whole. ``None`` for one vector per
            image, where the two cannot be told apart.
    """

    value: float
    _: KW_ONLY
    error: float
    probe_error: float | None

    @property
    def image_error(self) -> float | None:
        """The part of the standard error that is due to the draw of images; 0 if the other part explains all of it."""
        return None if self.probe_error is None else math.sqrt(max(0.0, self.error**2 - self.probe_error**2))

    def to_dict(self) -> dict[str, float | None]:
        """The fields as a dictionary for JSON."""
        parts = {"image_error": self.image_error, "probe_error": self.probe_error}
        return {"value": self.value, "error": self.error, **parts}

    def times(self, factor: float) -> Estimate:
        """The same estimate in another unit."""
        part = None if self.probe_error is None else factor * self.probe_error
        return Estimate(factor * self.value, error=factor * self.error, probe_error=part)


@dataclass(frozen=True, kw_only=True)
class GeometricComplexity(ShownInNotebooks):
    """The geometric complexity of a backbone on some images.

    Attributes:
        model: The name of the model.
        weights: Where its weights came from.
        device: The device that it ran on.
        data: The name of the data source.
        images: The number of images that were used.
        not_finite: The number of further images with a NaN or infinite feature or gradient, which are left out.
        size: The height and width of the images in pixels.
        probes: Random vectors per image.
        width: The dimension d of the features.
        variance: The sum over features of their variance over these images, with divisor n − 1.
        jacobian: ``E ‖∂f/∂x‖²_F`` for pixel values from 0 to 1.
        complexity: The same times the number of values of an image, so that sizes compare.
        coarse: The same for changes of the image that are constant on each cell of a grid of 32 × 32.
        relative: ``complexity / variance``, which does not depend on the scale of the features.
        relative_coarse: ``coarse / variance``.
    """

    model: str
    weights: str
    device: str
    data: str
    images: int
    not_finite: int
    size: tuple[int, int]
    probes: int
    width: int
    variance: float
    jacobian: Estimate
    complexity: Estimate
    coarse: Estimate
    relative: Estimate | None
    relative_coarse: Estimate | None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the complexity over other images of this data, on the logarithmic scale."""
        return _interval(self.complexity, self.images)

    @property
    def estimates(self) -> dict[str, Estimate]:
        """The estimates by name, those that have a value."""
        return {one.name: value for one in fields(self) if isinstance(value := getattr(self, one.name), Estimate)}

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary for JSON."""
        estimates = {name: one.to_dict() for name, one in self.estimates.items()}
        return {**vars(self), "size": list(self.size), **estimates, "interval": list(self.interval)}

    def to_rows(self) -> list[dict[str, Any]]:
        """One row for each estimate: ``quantity``, ``value``, ``error``, ``image_error``, ``probe_error``."""
        return [{"quantity": name, **one.to_dict()} for name, one in self.estimates.items()]

    def to_frame(self) -> pd.DataFrame:
        """The :meth:`to_rows` as a table."""
        import pandas as pd

        return pd.DataFrame(self.to_rows())


def geometric_complexity(
    backbone: Backbone,
    source: ImageSource,
    images: int = 32,
    selection: Selection | None = None,
    *,
    probes: int = PROBES,
    target: float = TARGET,
    seed: int = 0,
    progress: Progress | None = None,
) -> GeometricComplexity:
    """Estimate ``E ‖∂f/∂x‖²_F`` over images by Hutchinson's method, in float32.

    Images are drawn at random, and run in batches. An image must not change the features of another in its batch.

    Args:
        backbone: The backbone; it is not changed.
        source: Where the images come from.
        images: How many images to take at most, at least 2.
        selection: Which images of the source may be taken. Default: all.
        probes: Random vectors per image.
        target: No more images are taken once the relative standard error of the complexity is below it; 0 takes all.
        seed: Seed of the draw of images and of random vectors.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        SettingError: A number is too small.
        DataError: The source has fewer than 2 images, or one of the images cannot be decoded.
        ModelError: The model has no gradients, or none that is finite.
        DeviceError: Not even one image fits the memory.
    """
    import torch

    for name, value, least in (("images", images, 2), ("probes", probes, 1), ("target", target, 0)):
        if not value >= least:
            raise SettingError(f"expected {name} of at least {least}, got {value}", f"give {name} of {least} or more")
    plain = backbone.variant(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    pixels = chosen_pixels(backbone, source, images, selection, seed=seed)
    found = _Sums()
    for batch in torch.split(pixels, BATCH):
        for part in _measured(plain, batch, probes, generator):
            found.add(*part)
        if progress:
            progress("measuring complexity", found.seen, len(pixels))
        if len(found) >= FEWEST and _mean(found.full).error <= target * _mean(found.full).value:
            break
    if len(found) < 2:
        raise ModelError(
            f"{backbone.key.model} has finite features and gradients for {len(found)} of {found.seen} images",
            "give another --model or --checkpoint",
        )
    return _result(backbone, source.name, found, (pixels.shape[2], pixels.shape[3]))


class _Sums:
    """What the images gave: the energies of the gradients ``(n, K)``, and the features ``(n, d)``; float64."""

    def __init__(self) -> None:
        self._parts: list[tuple[torch.Tensor, ...]] = []
        self.seen = 0

    def add(self, *part: torch.Tensor) -> None:
        """Add a batch, without images whose numbers are not finite."""
        import torch

        self.seen += len(part[0])
        finite = torch.stack([one.isfinite().all(dim=1) for one in part]).all(dim=0)
        self._parts.append(tuple(one[finite] for one in part))

    def __len__(self) -> int:
        return sum(len(part[0]) for part in self._parts)

    def _column(self, number: int) -> torch.Tensor:
        import torch

        return torch.cat([part[number] for part in self._parts])

    @property
    def full(self) -> torch.Tensor:
        """``‖Jᵀ v‖²``, ``(n, K)``."""
        return self._column(0)

    @property
    def coarse(self) -> torch.Tensor:
        """Those on the coarse grid, times the number of values of an image, ``(n, K)``."""
        return self._column(1)

    @property
    def features(self) -> torch.Tensor:
        """``(n, d)``."""
        return self._column(2)


def _measured(
    plain: Backbone, pixels: torch.Tensor, probes: int, generator: torch.Generator
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The energies and features of a batch; one that does not fit the memory is halved until it does."""
    try:
        yield _energies(plain, pixels, probes, generator)
        return
    except (RuntimeError, NotImplementedError) as error:
        if not is_out_of_memory(error):
            name = plain.key.model
            raise ModelError(f"{name} gives no gradients: {reason_of(error)}", "leave out --complexity") from error
        if len(pixels) == 1:
            raise DeviceError(
                f"{plain.device} has too little memory for the gradients of a single image",
                "give --device cpu, or a smaller --model",
            ) from error
    for half in pixels.tensor_split(2):
        yield from _measured(plain, half, probes, generator)


def _energies(
    plain: Backbone, pixels: torch.Tensor, probes: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    import torch

    values = pixels.to(plain.device).float().div_(255).requires_grad_()
    features = features_of_values(plain, values)
    full, coarse = [], []
    for probe in range(probes):
        signs = torch.randint(0, 2, features.shape, generator=generator).mul_(2).sub_(1)
        signs = signs.to(features.device, features.dtype)
        (gradient,) = torch.autograd.grad(features, values, signs, retain_graph=probe + 1 < probes)
        gradient = gradient.cpu().double()
        full.append(gradient.square().sum(dim=(1, 2, 3)))
        coarse.append(coarse_energy(gradient))
    return torch.stack(full, dim=1), torch.stack(coarse, dim=1), features.detach().cpu().double()


def coarse_energy(gradients: torch.Tensor, side: int = COARSE) -> torch.Tensor:
    """The squared length of gradients in the metric of images, of their projections on images of a coarse grid.

    A gradient is taken as a function that is constant on each pixel of the unit square. Its mean over each cell of the
    grid is what a change of the image that is constant on the cell can see. Cells may cut pixels.

    Args:
        gradients: ``(B, 3, height, width)`` float64.
        side: The number of cells along each axis.

    Returns:
        ``(B,)``, at most the number of values of an image times the sum of squares.

    >>> import torch
    >>> smooth = torch.ones(1, 3, 64, 64, dtype=torch.float64)
    >>> noise = smooth * (-1) ** torch.arange(64)
    >>> [float(coarse_energy(one)) / (3 * 64 * 64) / float(one.square().sum()) for one in (smooth, noise)]
    [1.0, 0.0]
    """
    height, width = gradients.shape[2:]
    cells = _overlaps(side, height) @ gradients @ _overlaps(side, width).T
    return gradients.shape[1] * side**2 * cells.square().sum(dim=(1, 2, 3))


def _overlaps(cells: int, pixels: int) -> torch.Tensor:
    """Which share of each pixel lies in each cell, if both divide the same line evenly, ``(cells, pixels)``."""
    import torch

    ends = torch.arange(cells + 1, dtype=torch.float64)[:, None] * pixels / cells
    inside = (ends - torch.arange(pixels)).clamp(0, 1)  # the share of each pixel before each end
    return inside[1:] - inside[:-1]


def _mean(energies: torch.Tensor) -> Estimate:
    """The mean of ``(n, K)`` energies of n images and K random vectors each."""
    count, probes = energies.shape
    by_image = energies.mean(dim=1)
    inner = float(energies.var(dim=1).mean()) / probes / count if probes > 1 else None
    return Estimate(
        float(by_image.mean()),
        error=math.sqrt(float(by_image.var()) / count),
        probe_error=None if inner is None else math.sqrt(inner),
    )


def _ratio(energies: torch.Tensor, features: torch.Tensor) -> Estimate | None:
    """The mean energy over the variance of the features; its error is that of the jackknife over images."""
    count = len(features)
    mean = _mean(energies)
    squares = (features - features.mean(dim=0)).square().sum(dim=1)
    total = float(squares.sum())
    if count < 3 or total == 0:
        return None
    value, by_image = mean.value * (count - 1) / total, energies.mean(dim=1)
    tops = (by_image.sum() - by_image) / (count - 1)
    without = tops / ((total - squares * count / (count - 1)) / (count - 2))
    error = math.sqrt((count - 1) / count * float((without - without.mean()).square().sum()))
    return Estimate(value, error=error, probe_error=mean.times((count - 1) / total).probe_error)


def _interval(estimate: Estimate, count: int) -> tuple[float, float]:
    if estimate.value <= 0:
        return estimate.value, estimate.value
    factor = math.exp(t_quantile(count - 1) * estimate.error / estimate.value)
    return estimate.value / factor, estimate.value * factor


def _result(backbone: Backbone, data: str, found: _Sums, size: tuple[int, int]) -> GeometricComplexity:
    full, coarse, features = found.full, found.coarse, found.features
    values = 3 * size[0] * size[1]
    return GeometricComplexity(
        model=backbone.key.model,
        weights=backbone.weights.name,
        device=str(backbone.device),
        data=data,
        images=len(found),
        not_finite=found.seen - len(found),
        size=size,
        probes=full.shape[1],
        width=features.shape[1],
        variance=float(features.var(dim=0).sum()),
        jacobian=_mean(full),
        complexity=_mean(full).times(values),
        coarse=_mean(coarse),
        relative=_ratio(full * values, features),
        relative_coarse=_ratio(coarse, features),
    )
