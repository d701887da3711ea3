"""Features of others are read from any honest file, and from no other; what is wrong is said with its place."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from messages import raises, says
from nctransfer.errors import FeaturesError
from nctransfer.features import parquet_files
from nctransfer.features.array_files import read_npz, read_safetensors
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.file_contents import NAME_THEM
from nctransfer.features.files import read_features, stream_features
from nctransfer.features.parquet_files import read_parquet
from nctransfer.sources.selection import Selection

F32 = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = ["dog", "cat", "dog", "cat"]
CODES = np.array([1, 0, 1, 0])


def write(path: Path, **columns: object) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


# Parquet


def _extension(values: list[list[float]]) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.float32(), [3])
    return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.list_(pa.float32(), 3)))


@pytest.mark.parametrize(
    ("vectors", "dtype"),
    [
        (pa.array(F32.tolist(), pa.list_(pa.float32())), torch.float32),
        (pa.array(F32.tolist(), pa.large_list(pa.float32())), torch.float32),
        (pa.array(F32.tolist(), pa.list_(pa.float32(), 3)), torch.float32),
        (pa.array(F32.tolist(), pa.list_view(pa.float32())), torch.float32),
        (pa.array(F32.tolist(), pa.large_list_view(pa.float64())), torch.float64),
        (pa.array(F32.astype(np.float16).tolist(), pa.list_(pa.float16())), torch.float32),
        (pa.array(F32.tolist(), pa.list_(pa.float64())), torch.float64),
        (pa.array(F32.tolist(), pa.list_(pa.float64(), 3)), torch.float64),
        (pa.array(F32.astype(int).tolist(), pa.list_(pa.int32())), torch.float32),
        (_extension(F32.tolist()), torch.float32),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_vectors_of_any_type(tmp_path: Path, vectors: pa.Array, dtype: torch.dtype) -> None:
    found = read_parquet(write(tmp_path / "a.parquet", label=LABELS, feature=vectors))
    assert found.features.dtype == dtype
    assert found.features.tolist() == F32[[1, 3, 0, 2]].tolist()
    assert found.classes == ("cat", "dog")


def test_float64_is_read_to_the_last_digit(tmp_path: Path) -> None:
    value = 1 + 2**-50
    found = read_parquet(write(tmp_path / "a.parquet", label=["a"], feature=[[value]]))
    assert found.features.item() == value


@pytest.mark.parametrize(
    "labels",
    [
        pa.array(["1", "0", "1", "0"]),
        pa.array(["1", "0", "1", "0"], pa.large_string()),
        pa.array(["1", "0", "1", "0"], pa.string_view()),
        pa.array(["1", "0", "1", "0"]).dictionary_encode(),
        pa.array(["1", "0", "1", "0"], pa.large_string()).dictionary_encode(),
        pa.array([1, 0, 1, 0]),
        pa.array([1, 0, 1, 0], pa.uint8()),
        pa.array([1, 0, 1, 0]).dictionary_encode(),
    ],
    ids=lambda value: str(value.type),
)
def test_labels_of_any_type(tmp_path: Path, labels: pa.Array) -> None:
    found = read_parquet(write(tmp_path / "a.parquet", label=labels, feature=F32.tolist()))
    assert found.classes == ("0", "1")
    assert found.features.tolist() == F32[[1, 3, 0, 2]].tolist()


LAYOUTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("read", [read_features, stream_features])
def test_files_whose_text_is_in_different_layouts_are_joined(tmp_path: Path, read: Any) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number, kind in enumerate(LAYOUTS):
        columns = {
            "id": pa.array([f"{number}.{row}" for row in range(4)], pa.string()).cast(kind),
            "split": pa.array(["train", "train", "test", "test"], pa.string()).cast(kind),
            "label": pa.array(LABELS, pa.string()).cast(kind),
        }
        write(folder / f"{number}.parquet", feature=(F32 + number).tolist(), **columns)
    found = read(folder, selection=Selection("train", max_per_class=9))
    assert (found.classes, found.counts.tolist(), found.info.split) == (("cat", "dog"), [4, 4], "train")
    cats = torch.cat([rows[labels == 0] for rows, labels in found.batches()])
    assert sorted(cats[:, 0].tolist()) == [3, 4, 5, 6]


def test_bytes_are_not_names(tmp_path: Path) -> None:
    for kind in (pa.binary(), pa.binary_view()):
        path = write(tmp_path / "a.parquet", label=pa.array([b"a", b"b", b"a", b"b"], kind), feature=F32.tolist())
        with raises(FeaturesError, "'label'", str(kind)):
            read_parquet(path)


def test_row_groups_and_slices_are_joined(tmp_path: Path) -> None:
    table = pa.table({"label": LABELS, "feature": F32.tolist()}).slice(1)
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    assert read_parquet(tmp_path / "a.parquet").features.tolist() == F32[[1, 3, 2]].tolist()


def test_class_is_preferred_to_label(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=[0, 1, 0, 1], feature=F32.tolist(), **{"class": LABELS})
    assert read_parquet(path).classes == ("cat", "dog")
    assert read_parquet(path, label_column="label").classes == ("0", "1")


def test_columns_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", species=LABELS, layer4=F32.tolist(), feature=[[0.0]] * 4)
    found = read_parquet(path, "species", "layer4")
    assert (found.dim, found.info.layer, found.info.path) == (3, "layer4", str(path))


def test_ids_and_splits_are_used_if_there(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", id=list("wxyz"), split=["a", "b", "b", "b"], label=LABELS, feature=F32.tolist()
    )
    assert read_parquet(path).ids == ("x", "z", "w", "y")
    found = read_parquet(path, selection=Selection("b", classes=("cat",)))
    assert (found.ids, found.classes, found.info.split) == (("x", "z"), ("cat",), "b")
    assert found.features.tolist() == F32[[1, 3]].tolist()


def test_selection_without_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=LABELS, feature=F32.tolist())
    assert read_parquet(path, selection=Selection(max_per_class=1)).counts.tolist() == [1, 1]


def test_a_folder_of_files_is_one_set(tmp_path: Path) -> None:
    for row in range(4):
        write(tmp_path / f"{row}.parquet", label=LABELS[row : row + 1], feature=F32[row : row + 1].tolist())
    found = read_parquet(tmp_path)
    assert found.features.tolist() == F32[[1, 3, 0, 2]].tolist()


def test_a_folder_whose_files_differ_in_width(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", label=["a"], feature=[[1.0]])
    write(tmp_path / "b.parquet", label=["b"], feature=[[1.0, 2.0]])
    with pytest.raises(FeaturesError) as error:
        read_parquet(tmp_path)
    says(error, "'feature'", 1, 2)


@pytest.mark.parametrize(
    ("columns", "facts"),
    [
        ({"label": ["a", "b"], "feature": [[1.0], [1.0, 2.0]]}, ["'feature'", 1, 2]),
        ({"label": ["a", "b"], "feature": [[1.0], None]}, ["'feature'", "nulls"]),
        ({"label": ["a", "b"], "feature": [[1.0, 2.0], [1.0, None]]}, ["'feature'", "nulls"]),
        ({"label": ["a"], "feature": pa.array([None], pa.list_(pa.float32(), 2))}, ["'feature'", "nulls"]),
        ({"label": ["a", None], "feature": [[1.0], [2.0]]}, ["'label'", 1]),
        ({"label": ["a", "b"], "feature": [[1.0], [2.0]], "id": ["x", None]}, ["'id'", 1]),
        ({"label": ["a", "b"], "feature": [[1.0], [2.0]], "id": ["x", "x"]}, ["'x'"]),
        ({"label": [0.5], "feature": [[1.0]]}, ["'label'", "double"]),
        ({"label": ["a"], "feature": [1.0]}, ["'feature'", "double"]),
        ({"label": ["a"], "feature": ["1.0"]}, ["'feature'", "string"]),
        ({"label": ["a"], "feature": [["1.0"]]}, ["'feature'", "string"]),
        ({"label": ["a"], "feature": [[[1.0]]]}, ["'feature'", "list"]),
        ({"label": ["a"], "feature": [[float("nan")]]}, [1, "NaN"]),
        ({"label": ["a", "b"], "feature": pa.array([[], []], pa.list_(pa.float32()))}, ["(2, 0)"]),
        ({"label": pa.array([], pa.string()), "feature": pa.array([], pa.list_(pa.float32()))}, [0]),
        ({"labels": ["a"], "feature": [[1.0]]}, ["'label'", "'labels'", "'feature'"]),
        ({"label": ["a"], "vector": [[1.0]]}, ["'feature'", "'label'", "'vector'"]),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, columns: dict[str, object], facts: list[object]) -> None:
    with pytest.raises(FeaturesError) as error:
        read_parquet(write(tmp_path / "a.parquet", **columns))
    says(error, *facts)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"label,feature\na,1\n", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_what_is_not_parquet(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(FeaturesError) as error:
        read_parquet(tmp_path / "a.parquet")
    says(error, "a.parquet", "Parquet")


def test_truncated_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=LABELS, feature=F32.tolist())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FeaturesError) as error:
        read_parquet(path)
    says(error, path.name, "Parquet")


def test_neither_file_nor_rows(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError, match=r"absent\.parquet"):
        read_parquet(tmp_path / "absent.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FeaturesError, match="folder"):
        read_parquet(tmp_path / "folder")


def test_a_selection_that_leaves_nothing_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=["a", "b"], split=["x", "y"], feature=[[1.0], [2.0]])
    with pytest.raises(FeaturesError) as caught:
        read_parquet(path, selection=Selection("x", classes=("b",)))
    assert "shape" not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "row"),
    [
        (pa.array([[1.0], None, [2.0], None]), 1),
        (pa.array([[1.0, 2.0], [1.0, 2.0], [1.0, None], None]), 2),
        (pa.array([None, [1.0, 2.0], [None, 1.0]], pa.list_(pa.float32(), 2)).slice(1), 1),
        (pa.array([[1.0, 2.0], [None, 1.0], None], pa.list_(pa.float32(), 2)), 1),
        (pa.chunked_array([[[1.0], [2.0]], [[3.0], None]]), 3),
    ],
    ids=["null row", "null inside", "sliced", "fixed size", "second chunk"],
)
def test_the_first_null_is_named(column: pa.Array, row: int) -> None:
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    with pytest.raises(FeaturesError) as error:
        parquet_files.vectors(chunked, "feature")
    says(error, "'feature'", "nulls", row)


def test_the_first_label_that_is_null_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=["a", "b", None, None], feature=F32.tolist())
    with pytest.raises(FeaturesError) as error:
        read_parquet(path)
    says(error, "'label'", 2)


@pytest.mark.parametrize("missing", [float("nan"), None, np.array([1.0, np.nan])])
def test_pandas_writes_what_is_missing_as_null(tmp_path: Path, missing: object) -> None:
    vectors = [np.ones(2), np.ones(2), missing, np.ones(2)]
    pd.DataFrame({"label": LABELS, "feature": vectors}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(FeaturesError) as error:
        read_parquet(tmp_path / "a.parquet")
    says(error, "'feature'", "nulls", 2)


# Names of codes


@pytest.mark.parametrize("codes", [pa.array(CODES), pa.array(CODES, pa.uint8()), pa.array(CODES).dictionary_encode()])
def test_names_stand_for_codes(tmp_path: Path, codes: pa.Array) -> None:
    path = write(tmp_path / "a.parquet", label=codes, feature=F32.tolist())
    found = read_parquet(path, class_names=["zebra", "ape", "never seen"])
    assert found.classes == ("ape", "zebra")
    assert found.features.tolist() == F32[[0, 2, 1, 3]].tolist()


def test_a_selection_is_by_the_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", label=CODES, feature=F32.tolist())
    found = read_parquet(path, selection=Selection(classes=("ape",)), class_names=["zebra", "ape"])
    assert found.features.tolist() == F32[[0, 2]].tolist()


@pytest.mark.parametrize(
    ("labels", "names", "facts"),
    [
        ([0, 1, 2, 3], ["a", "b"], ["'label'", 2]),
        ([0, 0, 0, -1], ["a", "b"], ["'label'", -1, 3, 2]),
        ([0, 0, 0, 0], [], ["'label'", 0]),
        (["0", "1", "0", "1"], ["a", "b"], ["'label'"]),
        (LABELS, ["a", "b"], ["'label'"]),
        ([0, 1, 0, 1], ["a", "b", "a"], ["'a'"]),
    ],
)
def test_codes_without_a_name(tmp_path: Path, labels: list[object], names: list[str], facts: list[object]) -> None:
    path = write(tmp_path / "a.parquet", label=labels, feature=F32.tolist())
    with pytest.raises(FeaturesError) as error:
        read_parquet(path, class_names=names)
    says(error, *facts)
    assert error.value.hint


# Named arrays

Save = Callable[..., Path]


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


def _packed(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path / "a.npz", **arrays)
    return path / "a.npz"


def _safetensors(path: Path, **arrays: Any) -> Path:
    tensors = {name: torch.tensor(np.ascontiguousarray(array)) for name, array in arrays.items()}
    save_file(tensors, path / "a.safetensors")
    return path / "a.safetensors"


@pytest.fixture(params=[_npz, _packed, _safetensors], ids=["npz", "compressed npz", "safetensors"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    return lambda **arrays: request.param(tmp_path, **arrays)


def same(found: FeatureSet, order: tuple[int, ...] = (1, 3, 0, 2)) -> bool:
    return found.features.tolist() == F32[list(order)].tolist()


@pytest.mark.parametrize("features", ["feature", "features", "x", "X", "embeddings"])
@pytest.mark.parametrize("labels", ["label", "labels", "y", "targets"])
def test_arrays_of_a_usual_name(tmp_path: Path, features: str, labels: str) -> None:
    more = {"other": F32 + 1, "other_too": F32 + 2, "step": np.arange(4), "score": np.ones(4)}
    found = read_features(_npz(tmp_path, **{features: F32, labels: CODES}, **more))
    assert same(found)
    assert found.classes == ("0", "1")
    assert (found.info.layer, found.info.data) == (features, "a.npz")


def test_arrays_found_by_their_shape(save: Save) -> None:
    others = {"mask": F32 > 1, "box": F32.astype(int), "weights": np.ones(4), "loss": np.ones(7), "epoch": np.array(3)}
    found = read_features(save(emb=F32, truth=CODES, split=CODES, ids=np.arange(4), **others))
    assert same(found)
    assert found.info.layer == "emb"


def test_arrays_named_by_the_user(save: Save) -> None:
    path = save(features=F32 * 0, labels=CODES * 0, layer4=F32, truth=CODES)
    assert same(read_features(path, "truth", "layer4"))


def test_ids_and_splits_of_arrays(save: Save) -> None:
    path = save(features=F32, labels=CODES, ids=np.array([13, 12, 11, 10]), split=np.array([0, 1, 1, 1]))
    assert read_features(path).ids == ("10", "12", "11", "13")
    found = read_features(path, selection=Selection("1", classes=("1",)))
    assert (found.ids, found.info.split) == (("11",), "1")
    assert same(found, (2,))


def test_ids_and_splits_that_are_text(tmp_path: Path) -> None:
    split = np.array([b"a", b"b", b"b", "é".encode()])
    path = _npz(tmp_path, features=F32, labels=np.array(LABELS), id=np.array(list("zyxw")), split=split)
    assert read_features(path).ids == ("w", "y", "x", "z")
    assert read_features(path, selection=Selection("é")).ids == ("w",)


@pytest.mark.parametrize("name", ["classes", "class_names"])
def test_names_of_codes_in_the_file(tmp_path: Path, name: str) -> None:
    path = _npz(tmp_path, features=F32, labels=CODES, **{name: np.array(["zebra", "ape"])})
    assert read_features(path).classes == ("ape", "zebra")
    assert same(read_features(path), (0, 2, 1, 3))
    assert read_features(path, class_names=["x", "y"]).classes == ("x", "y")


def test_names_of_codes_in_the_file_that_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(_npz(tmp_path, features=F32, labels=CODES, classes=np.array(["zebra"])))
    says(error, "'labels'", 1, 0)


def test_labels_that_are_names_need_no_others(tmp_path: Path) -> None:
    path = _npz(tmp_path, features=F32, labels=np.array(LABELS), classes=np.array(["cat", "dog"]))
    assert read_features(path).classes == ("cat", "dog")


def test_as_many_names_as_rows_are_no_labels(tmp_path: Path) -> None:
    path = _npz(tmp_path, features=F32, truth=CODES, classes=np.array(list("abcd")))
    assert read_features(path).classes == ("a", "b")


def test_classes_that_are_the_labels(tmp_path: Path) -> None:
    assert same(read_features(_npz(tmp_path, features=F32, classes=CODES)))
    path = _npz(tmp_path, features=F32, classes=np.array(LABELS))
    assert read_features(path, "classes").classes == ("cat", "dog")


def test_names_in_the_metadata_of_safetensors(tmp_path: Path) -> None:
    texts = {"classes": ["zebra", "ape"], "ids": list("zyxw"), "split": list("abbb")}
    metadata = {name: json.dumps(value) for name, value in texts.items()}
    tensors = {"features": torch.tensor(F32), "labels": torch.tensor(CODES)}
    save_file(tensors, tmp_path / "a.safetensors", {**metadata, "format": "pt"})
    found = read_features(tmp_path / "a.safetensors", selection=Selection("b"))
    assert (found.classes, found.ids) == (("ape", "zebra"), ("x", "w", "y"))


def test_other_metadata_of_safetensors_does_not_matter(tmp_path: Path) -> None:
    tensors = {"features": torch.tensor(F32), "labels": torch.tensor(CODES)}
    save_file(tensors, tmp_path / "a.safetensors", {"id": "run-7", "split": '"test"', "classes": "2"})
    assert same(read_features(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
        (torch.int16, torch.float32),
    ],
)
def test_tensors_of_any_type(tmp_path: Path, dtype: torch.dtype, kept: torch.dtype) -> None:
    save_file({"x": torch.tensor(F32).to(dtype), "y": torch.tensor(CODES)}, tmp_path / "a.safetensors")
    found = read_features(tmp_path / "a.safetensors")
    assert found.features.dtype == kept
    assert same(found)


@pytest.mark.parametrize("array", [np.asfortranarray(F32), F32.astype(">f4"), F32.astype(np.float16), F32[::-1][::-1]])
def test_arrays_of_any_layout(tmp_path: Path, array: np.ndarray) -> None:
    assert same(read_features(_npz(tmp_path, x=array, y=CODES)))


def test_float64_of_an_array_is_kept(tmp_path: Path) -> None:
    assert read_features(_npz(tmp_path, x=F32.astype(np.float64), y=CODES)).features.dtype == torch.float64


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"a": F32, "b": F32, "y": CODES}, ["matrix"]),
        ({"x": F32, "features": F32, "y": CODES}, ["matrix"]),
        ({"x": F32, "y": CODES, "labels": CODES}, ["vector", 4]),
        ({"x": F32, "a": CODES, "b": CODES}, ["vector", 4]),
        ({"x": F32[None], "a": F32, "y": CODES}, ["matrix"]),
        ({"x": F32, "y": CODES[:3], "a": CODES}, ["vector", 4]),
        ({"x": F32, "y": CODES[:, None]}, ["vector", 4]),
        ({"x": F32}, ["vector", 4]),
        ({"y": CODES}, ["matrix"]),
        ({"x": F32, "y": CODES, "ids": CODES[:3]}, [4]),
        ({"x": F32, "y": CODES, "split": CODES[:3]}, [4]),
    ],
)
def test_arrays_that_do_not_say_what_they_are(save: Save, arrays: dict[str, np.ndarray], facts: list[object]) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(save(**arrays))
    says(error, *facts, *(f"{name!r} {array.shape} " for name, array in arrays.items()))
    assert error.value.hint == NAME_THEM


@pytest.mark.parametrize("names", [("absent", None), (None, "absent")])
def test_a_named_array_that_is_not_there(save: Save, names: tuple[str | None, str | None]) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(save(x=F32, y=CODES), *names)
    says(error, "'absent'", "'x' (4, 3)", "'y' (4,)")


@pytest.mark.parametrize("labels", [CODES * 0.5, CODES.astype(bool)], ids=["float", "bool"])
def test_labels_that_name_nothing(save: Save, labels: np.ndarray) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(save(x=F32, y=labels))
    says(error, "'y'")


def test_a_nan_in_an_array_is_named(save: Save) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(save(x=np.where(F32 == 7, np.nan, F32), y=CODES))
    says(error, 1, 4, "NaN", "'2'")


# Hostile and damaged files


class Trap:
    """A pickle that leaves a trace where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("what", ["x", "y", "ids", "classes", "by shape"])
def test_nothing_is_unpickled(tmp_path: Path, what: str) -> None:
    trap = np.array([Trap(tmp_path / "sprung")] * 4, dtype=object)
    arrays = {"x": F32, "y": CODES, "ids": np.arange(4)} | {what: trap[:, None] if what == "x" else trap}
    if what == "by shape":
        del arrays["y"]
    with pytest.raises(FeaturesError) as error:
        read_features(_npz(tmp_path, **arrays))
    says(error, f"'{what}'", hint="dtype=str")
    assert not (tmp_path / "sprung").exists()


def test_objects_that_are_not_needed_do_not_matter(tmp_path: Path) -> None:
    assert same(read_features(_npz(tmp_path, x=F32, y=CODES, extra=np.array([{}] * 4, dtype=object))))


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.parquet", "a"])
def test_a_pickle_is_refused_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(FeaturesError) as error:
        read_features(tmp_path / name)
    says(error, name, "pickled")
    assert not (tmp_path / "sprung").exists()


def test_a_file_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.tensor(F32)}, tmp_path / "a.npz")
    with pytest.raises(FeaturesError) as error:
        read_features(tmp_path / "a.npz")
    says(error, "a.npz", "pickled", hint="safetensors")


def _header(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue()


def _zip(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(("shape", "facts"), [((4, 2**40), ["'x'", 48]), ((4, 4), ["'x'"]), ((-4, -3), [-4])], ids=str)
def test_a_header_that_lies_is_refused(tmp_path: Path, shape: tuple[int, ...], facts: list[object]) -> None:
    path = _zip(tmp_path / "a.npz", x=_header(shape) + F32.tobytes(), y=_header((4,), "<i8") + CODES.tobytes())
    with pytest.raises(FeaturesError) as error:
        read_features(path)
    says(error, *facts)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.features.array_files.PLAUSIBLE_BYTES", 2**20)
    path = _packed(tmp_path, x=np.zeros((4, 2**18), np.float32), y=CODES)
    assert path.stat().st_size < 2**15
    with pytest.raises(FeaturesError) as error:
        read_features(path)
    says(error, "'x'")
    assert len(read_features(_npz(tmp_path, x=np.zeros((4, 2**18), np.float32), y=CODES))) == 4


def test_little_is_read_however_well_it_is_compressed(tmp_path: Path) -> None:
    assert read_features(_packed(tmp_path, x=np.zeros((4, 2**18), np.float32), y=CODES)).dim == 2**18


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"{",
        struct.pack("<Q", 60) + b'{"x":{"dtype":"F32","shape":[4,3],"data_offsets":[0,9999]}}  ',
    ],
)
@pytest.mark.parametrize("name", ["a", "a.npz", "a.safetensors"])
def test_damaged_files_are_errors_that_name_them(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FeaturesError, match=name):
        read_features(tmp_path / name)


@pytest.mark.parametrize("position", range(0, 1000, 7))
def test_altered_bytes_raise_no_other_error(tmp_path: Path, position: int) -> None:
    content = bytearray(_npz(tmp_path, x=F32, y=CODES).read_bytes())
    content[position % len(content)] ^= 0xFF
    (tmp_path / "b.npz").write_bytes(content)
    with contextlib.suppress(FeaturesError):
        read_features(tmp_path / "b.npz")


def test_truncated_files(save: Save) -> None:
    path = save(x=F32, y=CODES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FeaturesError) as error:
        read_features(path)
    says(error, path.name, path.suffix[1:])


def test_an_encrypted_array(tmp_path: Path) -> None:
    content = bytearray(_npz(tmp_path, x=F32, y=CODES).read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    content[6] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FeaturesError) as error:
        read_features(tmp_path / "a.npz")
    says(error, "a.npz", "encrypted")


# Which format


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    assert same(read_features(_npz(tmp_path, x=F32, y=CODES).rename(tmp_path / "b.parquet")))
    assert same(read_features(_safetensors(tmp_path, x=F32, y=CODES).rename(tmp_path / "c.npz")))
    assert same(read_features(write(tmp_path / "d.safetensors", label=CODES, feature=F32.tolist())))


def test_a_header_of_any_length(tmp_path: Path) -> None:
    """Of 128 bytes, the file begins like a pickle."""
    starts = set()
    for padding in range(40):
        path = tmp_path / f"{padding}.bin"
        save_file({"x": torch.tensor(F32), "y": torch.tensor(CODES)}, path, {"p": "-" * 8 * padding})
        starts.add(path.read_bytes()[:1])
        assert same(read_features(path))
    assert b"\x80" in starts


def test_an_empty_archive_has_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError) as error:
        read_features(_zip(tmp_path / "a"))
    says(error, "matrix")


def test_a_folder_is_of_parquet_files(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", label=CODES, feature=F32.tolist())
    assert same(read_features(tmp_path))


@pytest.mark.parametrize(
    ("name", "kind"), [("a.npz", "npz"), ("a.safetensors", "safetensors"), ("a.parquet", "Parquet"), ("a", "Parquet")]
)
def test_where_the_content_says_nothing_the_suffix_decides(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"label,feature\n")
    with pytest.raises(FeaturesError) as error:
        read_features(tmp_path / name)
    says(error, name, kind)


def test_a_single_array_has_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", F32)
    with pytest.raises(FeaturesError) as error:
        read_features(tmp_path / "a.npy")
    says(error, "a.npy", hint="numpy.savez")


@pytest.mark.parametrize("read", [read_features, read_npz, read_safetensors, read_parquet])
@pytest.mark.parametrize("name", ["absent.npz", "a\0b"])
def test_a_file_that_is_not_there(tmp_path: Path, read: Callable[[Path], FeatureSet], name: str) -> None:
    with pytest.raises(FeaturesError) as error:
        read(tmp_path / name)
    says(error, repr(str(tmp_path / name)))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    pipe = os.open(tmp_path / "a.npz", os.O_RDWR)
    os.write(pipe, bytes(64))  # what reads it regardless does not wait for ever
    try:
        with pytest.raises(FeaturesError) as error:
            read_features(tmp_path / "a.npz")
        says(error, "a.npz")
    finally:
        os.close(pipe)


@pytest.mark.parametrize("read", [read_features, stream_features])
def test_empty_vectors(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    vectors = pa.array([[]] * 4, pa.list_(pa.float32()))
    parquet.write_table(pa.table({"feature": vectors, "label": list("aabb")}), path)
    with pytest.raises(FeaturesError, match="feature"):
        read(path)
