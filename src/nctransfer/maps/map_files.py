"""A map of images as a Parquet file, for programs that show large maps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.devices import pick_device
from nctransfer.errors import FeaturesError, SettingError, reason_of
from nctransfer.label_audit.nearest_images import nearest_images, unit_rows
from nctransfer.paths import expanded
from nctransfer.store.atomic_files import replace_file
from nctransfer.store.new_files import check_new_file, unwritable

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.maps.image_map import ImageMap

__all__ = ["check_map_file", "map_table", "save_map"]


def save_map(
    found: ImageMap,
    features: FeatureSet,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    device: str = "auto",
) -> None:
    """Write a map of images as Parquet, whole or not at all. Apple's Embedding Atlas opens it.

    ::

        embedding-atlas map.parquet --x x --y y --neighbors neighbors

    Args:
        found: The map.
        features: The set that it is of.
        path: The file, whose name ends in ``.parquet``.
        overwrite: Whether a file that exists is replaced.
        device: Where to compute, see :func:`map_table`.

    Raises:
        SettingError: The name of the file does not end in ``.parquet``.
        FeaturesError: The map is of another set.
        NCTransferError: The file exists or cannot be written.
    """
    from pyarrow import parquet

    file = expanded(path)
    check_map_file(file, overwrite)
    table = map_table(found, features, device=device)
    try:
        replace_file(file, lambda opened: parquet.write_table(table, opened, compression="zstd"))
    except OSError as error:
        raise unwritable(file, reason_of(error)) from error


def check_map_file(path: Path, overwrite: bool) -> None:
    """Refuse a file that a map could not be written into.

    Args:
        path: The file.
        overwrite: Whether a file that exists is replaced.

    Raises:
        SettingError: Its name does not end in ``.parquet``, by which programs know what it is.
        NCTransferError: It exists, or its folder does not.
    """
    if path.suffix.lower() != ".parquet":
        raise SettingError(f"{str(path)!r} does not end in .parquet", "give a name such as map.parquet")
    check_new_file(path, overwrite, "the map")


def map_table(found: ImageMap, features: FeatureSet, *, device: str = "auto") -> pa.Table:
    """The images of a map as a table of m rows.

    Args:
        found: The map.
        features: The set that it is of.
        device: Where to look for neighbours among the images of the map, if these are not all images.

    Returns:
        The columns ``id`` and ``label`` (text), ``x`` and ``y`` (float32), ``umap_x`` and ``umap_y`` if there is such a
        layout, and ``neighbors``: a struct of ``ids``, the numbers of the rows of this table that are nearest in the
        full space, from 0 on, and of ``distances``, ascending.

    Raises:
        FeaturesError: The map is of another set.
    """
    import numpy as np
    import pyarrow as pa

    if features.describe() != found.features:
        raise FeaturesError(
            f"the map is of {found.features.id}, and the features are those of {features.info.id}",
            "give the features that the map was made from",
        )
    near, distances = _among_shown(found, features, device)
    number = near.shape[1]
    ends = pa.array(np.arange(len(near) + 1, dtype=np.int32) * number)
    neighbours = [
        pa.ListArray.from_arrays(ends, pa.array(values.ravel())) for values in (near, distances.astype(np.float32))
    ]
    columns = {
        "id": pa.array([_as_text(features.ids[row]) for row in found.rows.tolist()], pa.string()),
        "label": pa.array([_as_text(found.classes[code]) for code in found.labels.tolist()], pa.string()),
        "x": pa.array(found.x),
        "y": pa.array(found.y),
    }
    if found.umap_x is not None and found.umap_y is not None:
        columns |= {"umap_x": pa.array(found.umap_x), "umap_y": pa.array(found.umap_y)}
    return pa.table({**columns, "neighbors": pa.StructArray.from_arrays(neighbours, ["ids", "distances"])})


def _among_shown(found: ImageMap, features: FeatureSet, device: str) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """The nearest images among those of the map, as their positions in it, and their distances; both ``(m, K)``."""
    if len(found.rows) == len(features):
        return found.neighbours, found.neighbour_distance
    number = min(found.neighbours.shape[1], len(found.rows) - 1)
    if number < 1:
        return found.neighbours[:, :0], found.neighbour_distance[:, :0]
    near = nearest_images(unit_rows(features, pick_device(device))[found.rows], number)
    return near.places.numpy(), near.distance.numpy()


def _as_text(name: str) -> str:
    """The name as UTF-8 can hold it: bytes of a path that are no text become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()
