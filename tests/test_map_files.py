"""Maps of images as Parquet files: the columns, neighbours as row numbers, and files that are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from clusters import normal_classes, set_of
from nctransfer.errors import FeaturesError, NCTransferError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.maps.image_map import ImageMap, map_images
from nctransfer.maps.map_files import map_table, save_map


@pytest.fixture
def features() -> FeatureSet:
    return set_of(normal_classes([12, 8, 20], 6))


def saved(found: ImageMap, features: FeatureSet, folder: Path) -> pd.DataFrame:
    save_map(found, features, folder / "map.parquet", device="cpu")
    assert [path.name for path in folder.glob("map*")] == ["map.parquet"]
    return pd.read_parquet(folder / "map.parquet")


def nearest(features: FeatureSet, rows: np.ndarray, number: int) -> list[list[int]]:
    """The nearest of some images among these, by plain loops."""
    units = features.features.numpy() - features.features.numpy().mean(axis=0)
    units = (units / np.linalg.norm(units, axis=1, keepdims=True))[rows]
    found = []
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        found.append(sorted(others, key=lambda j: float(np.linalg.norm(units[i] - units[j])))[:number])
    return found


@pytest.mark.parametrize("most", [100, 25])
def test_a_file_has_the_images_and_their_neighbours_among_its_rows(
    features: FeatureSet, tmp_path: Path, most: int
) -> None:
    found = map_images(features, most=most, neighbours=3, device="cpu")
    frame = saved(found, features, tmp_path)
    assert frame.columns.tolist() == ["id", "label", "x", "y", "neighbors"]
    assert len(frame) == min(most, 40)
    assert frame.id.tolist() == [features.ids[row] for row in found.rows]
    assert frame.label.tolist() == [features.classes[code] for code in found.labels]
    np.testing.assert_array_equal(frame.x, found.x)
    np.testing.assert_array_equal(frame.y, found.y)
    assert [list(one["ids"]) for one in frame.neighbors] == nearest(features, found.rows, 3)
    assert np.stack([one["ids"] for one in frame.neighbors]).dtype.kind == "i"
    lengths = np.stack([one["distances"] for one in frame.neighbors])
    assert (np.diff(lengths, axis=1) >= 0).all()
    if most > 40:
        np.testing.assert_array_equal(lengths, found.neighbour_distance)


def test_a_layout_by_umap_stands_beside_the_plane(features: FeatureSet, tmp_path: Path) -> None:
    found = map_images(features, device="cpu")
    found = replace(found, umap_x=found.x + 1, umap_y=found.y + 1)
    frame = saved(found, features, tmp_path)
    np.testing.assert_array_equal(frame.umap_x, found.x + 1)
    np.testing.assert_array_equal(frame.umap_y, found.y + 1)


def test_one_image_has_no_neighbours(tmp_path: Path) -> None:
    features = FeatureSet.from_arrays([[1.0, 2.0], [3.0, 1.0]], "aa")
    frame = saved(map_images(features, most=1, device="cpu"), features, tmp_path)
    assert [len(one["ids"]) for one in frame.neighbors] == [0]


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    features = FeatureSet.from_arrays([[1.0], [2.0]], ["a\udce9", "🐱"], ["x\udcff.png", "y\u202e.png"])
    frame = saved(map_images(features, device="cpu"), features, tmp_path)
    assert frame.label.tolist() == ["a\\udce9", "🐱"]
    assert frame.id.tolist() == ["x\\udcff.png", "y\u202e.png"]


def test_a_file_is_replaced_only_if_that_is_wanted(features: FeatureSet, tmp_path: Path) -> None:
    found, file = map_images(features, device="cpu"), tmp_path / "map.parquet"
    file.write_bytes(b"mine")
    with pytest.raises(NCTransferError, match=r"map\.parquet"):
        save_map(found, features, file, device="cpu")
    assert file.read_bytes() == b"mine"
    save_map(found, features, file, overwrite=True, device="cpu")
    assert parquet.read_table(file).num_rows == 40


@pytest.mark.parametrize(("name", "error"), [("map.csv", SettingError), ("no/map.parquet", NCTransferError)])
def test_files_that_cannot_be_written_are_refused(
    features: FeatureSet, tmp_path: Path, name: str, error: type[NCTransferError]
) -> None:
    with pytest.raises(error) as caught:
        save_map(map_images(features, device="cpu"), features, tmp_path / name, device="cpu")
    assert name in caught.value.message
    assert caught.value.hint


def test_a_map_of_other_features_is_refused(features: FeatureSet) -> None:
    with pytest.raises(FeaturesError, match="map is of"):
        map_table(map_images(features, device="cpu"), set_of(normal_classes([12, 8, 19], 6)))
