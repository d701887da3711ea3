"""Images placed in a plane, with their nearest neighbours in the full space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.devices import pick_device, with_float64
from nctransfer.errors import SettingError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.nearest_images import NearestImages, nearest_images, unit_rows
from nctransfer.maps.class_map import map_classes
from nctransfer.maps.class_planes import ClassPlanes
from nctransfer.maps.even_share import even_share
from nctransfer.maps.kept_neighbours import kept_neighbours
from nctransfer.maps.principal_plane import PrincipalPlane, principal_plane
from nctransfer.maps.umap_layout import UMAP_NEIGHBOURS, check_umap, umap_layout

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.maps.class_map import ClassMap

__all__ = ["MOST_POINTS", "ImageMap", "Kept", "map_images"]

MOST_POINTS = 12_000
MOST_DETAILED = 100
"""Of how many classes at most the planes can be drawn."""

SMALL = 2.0**-60  # float32 holds products between it and its inverse

Progress = Callable[[str, int, int], None]


class Kept(NamedTuple):
    """How much of the full space a picture of two dimensions keeps.

    With features of photographs (Caltech, CIFAR-FS) and characters (Omniglot), 2,000 to 2,700 images of two backbones,
    the principal plane kept 3% to 5% of the 5 nearest images, and a layout by UMAP 27% to 36%; points at random keep
    0.2% to 0.3%.

    Attributes:
        neighbours: The share of the nearest images that are also among the nearest ones in the picture, from 0 to 1,
            see :func:`~nctransfer.maps.kept_neighbours.kept_neighbours`.
        variance: The share of the variance, from 0 to 1; ``None`` for a layout that is no projection.
    """

    neighbours: float
    variance: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageMap:
    """m images of a feature set, placed in a plane.

    Attributes:
        features: What the set is, with its numbers of samples, classes and dimensions.
        classes: The C class names.
        rows: The positions of the m images among the n of the set, ``(m,)`` int64, ascending.
        labels: Their class codes, ``(m,)`` int64.
        x: Their coordinates on the first principal axis of all n images, about their mean and in the units of the
            features, ``(m,)`` float32.
        y: The same on the second axis.
        shares: The share of the variance of all images along x and along y.
        variance: The variance of all images, summed over all directions.
        kept: How much x and y keep, of all n images.
        neighbours: The nearest other images among all n, ``(m, K)`` int64, as positions among the n. Nearest means in
            the full space: by the angle between features, after the mean of all images has been subtracted.
        neighbour_distance: Their distances, ``(m, K)`` float32, ascending: the distance of unit vectors, from 0 to 2.
        planes: What the exact planes of classes need.
        umap_x: The first coordinate of a layout by UMAP, ``(m,)`` float32, or ``None``.
        umap_y: The second one.
        umap_kept: How much that layout keeps, of the m images alone.
    """

    features: FeatureInfo
    classes: tuple[str, ...]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    shares: tuple[float, float]
    variance: float
    kept: Kept
    neighbours: NDArray[np.int64]
    neighbour_distance: NDArray[np.float32]
    planes: ClassPlanes
    umap_x: NDArray[np.float32] | None = None
    umap_y: NDArray[np.float32] | None = None
    umap_kept: Kept | None = None

    @property
    def products(self) -> NDArray[np.float32] | NDArray[np.float64]:
        """The products of images with the means of the K detail classes, ``(m, K)``; see :class:`ClassPlanes`."""
        return self.planes.products

    @property
    def gram(self) -> NDArray[np.float64]:
        """The products of these class means with each other, ``(K, K)``."""
        return self.planes.gram

    def plane(self, codes: Sequence[int]) -> NDArray[np.float32]:
        """The images in the plane of two or three classes, ``(m, 2)``; see :meth:`ClassPlanes.plane`."""
        return self.planes.plane(codes)


def map_images(
    features: FeatureSet,
    *,
    most: int = MOST_POINTS,
    neighbours: int = 5,
    umap: bool = False,
    detailed: int = MOST_DETAILED,
    class_map: ClassMap | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> ImageMap:
    """Place images in the plane of their first two principal axes, and find their nearest neighbours.

    A plane cannot show all of the space: two images that are far apart may lie beside each other in it.
    ``ImageMap.kept`` says how much it keeps. The neighbours are those of the full space.

    Args:
        features: The images.
        most: How many images are placed. Of more, the same random share of every class is.
        neighbours: How many nearest images to list of each.
        umap: Whether to place the images by UMAP too, see :func:`~nctransfer.maps.umap_layout.umap_layout`.
        detailed: Of how many classes the planes can be drawn. Of more classes, those of the closest pairs are taken.
        class_map: The map of the classes, if it is known already.
        seed: Decides which images are placed, and the steps of UMAP.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        SettingError: A number is too small.
        NCTransferError: UMAP is wanted, and the package umap-learn is not installed.
        FeaturesError: The features are so large or small that their moments leave float64.

    >>> rows = [[3.0, 4.0], [-3.0, -4.0], [0.8, -0.6], [-0.8, 0.6]]
    >>> found = map_images(FeatureSet.from_arrays(rows, "aabb"), neighbours=1)
    >>> found.x.round(3).tolist()[:2], found.y.round(3).tolist()[2:]
    ([5.0, -5.0], [1.0, -1.0])
    >>> tuple(round(share, 3) for share in found.shares)
    (0.962, 0.038)
    """
    _check_settings(most, neighbours, detailed)
    if umap:
        check_umap()
    axes = principal_plane(features, with_float64(device))
    rows = even_share(features.labels, most, seed)
    everywhere, planes = _placed(features, rows, axes, _detailed_classes(features, detailed, class_map, device))
    units = unit_rows(features, pick_device(device))
    shows_all = len(rows) == len(features)
    near = _nearest(units, max(neighbours, UMAP_NEIGHBOURS if umap and shows_all else 0), progress)
    layout = None
    if umap:
        among = near if shows_all else _nearest(units[rows.to(units.device)], UMAP_NEIGHBOURS, progress)
        layout = umap_layout(among.places.numpy(), among.distance.numpy(), planes.points, seed)
        layout_keeps = Kept(kept_neighbours(among.places[:, :neighbours].numpy(), layout), None)
    shown = _measured(units, rows, near.places[rows, :neighbours])
    return ImageMap(
        features=features.describe(),
        classes=features.classes,
        rows=rows.numpy(),
        labels=features.labels[rows].numpy(),
        x=planes.points[:, 0],
        y=planes.points[:, 1],
        shares=axes.shares,
        variance=axes.total,
        kept=Kept(kept_neighbours(near.places[:, :neighbours].numpy(), everywhere.numpy()), sum(axes.shares)),
        neighbours=shown.places.numpy(),
        neighbour_distance=shown.distance.numpy(),
        planes=planes,
        umap_x=None if layout is None else layout[:, 0],
        umap_y=None if layout is None else layout[:, 1],
        umap_kept=None if layout is None else layout_keeps,
    )


def _check_settings(most: int, neighbours: int, detailed: int) -> None:
    for name, value, least in (("most", most, 1), ("neighbours", neighbours, 1), ("detailed", detailed, 2)):
        if value < least:
            raise SettingError(f"{name} is {value}", f"give {least} or more")


def _detailed_classes(features: FeatureSet, most: int, class_map: ClassMap | None, device: str) -> torch.Tensor:
    """The codes of the classes whose planes can be drawn, ascending."""
    import torch

    counts = features.counts
    there = counts.nonzero()[:, 0]
    if len(there) <= most:
        return there
    if class_map is None and len(there) == len(counts) and int(counts.max()) > 1:
        class_map = map_classes(features, device=device)
    if class_map is None:
        return counts.argsort(descending=True, stable=True)[:most].sort().values
    return torch.tensor(sorted(class_map.most_interesting(most)))


def _placed(
    features: FeatureSet, rows: torch.Tensor, axes: PrincipalPlane, codes: torch.Tensor
) -> tuple[torch.Tensor, ClassPlanes]:
    """All images on the two axes, ``(n, 2)`` float64, and what the planes need of the images at ``rows``."""
    import torch

    centre, place = axes.centre, axes.centre.device
    sums = centre.new_zeros(len(features.classes), features.dim)
    points = []
    for batch, labels in features.batches():
        centred = batch.to(place, torch.float64) - centre
        sums.index_add_(0, labels.to(place), centred)
        points.append(centred @ axes.axes.T)
    means = sums[codes.to(place)] / features.counts[codes].to(place)[:, None]
    gram = means @ means.T
    exact = torch.float32 if SMALL < float(gram.diagonal().max()) < 1 / SMALL else torch.float64
    products = [
        ((features.features[some].to(place, torch.float64) - centre) @ means.T).to("cpu", exact)
        for some in torch.split(rows, 1024)
    ]
    everywhere = torch.cat(points).cpu()
    return everywhere, ClassPlanes(
        codes=codes.numpy(),
        products=torch.cat(products).numpy(),
        gram=gram.cpu().numpy(),
        points=everywhere[rows].float().numpy(),
        means=(means @ axes.axes.T).cpu().numpy(),
    )


def _nearest(units: torch.Tensor, number: int, progress: Progress | None) -> NearestImages:
    """The nearest other images of each; fewer than ``number`` if there are fewer."""
    import torch

    number = min(number, len(units) - 1)
    if number > 0:
        return nearest_images(units, number, progress)
    return NearestImages(torch.zeros(len(units), 0), torch.zeros(len(units), 0, dtype=torch.int64))


def _measured(units: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> NearestImages:
    """The distances of images to others, from the differences: those from the cosines lose the digits of close ones."""
    import torch

    distances = [
        (units[some.to(units.device), None] - units[others.to(units.device)]).norm(dim=2).cpu()
        for some, others in zip(torch.split(rows, 256), torch.split(places, 256), strict=True)
    ]
    sorted_, order = torch.cat(distances).sort(dim=1, stable=True)
    return NearestImages(sorted_, places.gather(1, order))
