"""Features in memory are in one order and whole; a selection draws what it says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from messages import says
from nctransfer.errors import FeaturesError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import ImageEntry

F32 = np.arange(12, dtype=np.float32).reshape(4, 3)
LABELS = ["dog", "cat", "dog", "cat"]


# In memory


def test_classes_by_name_and_ids_sorted_within() -> None:
    found = FeatureSet.from_arrays(F32, LABELS, ["z", "y", "a", "b"])
    assert found.classes == ("cat", "dog")
    assert found.ids == ("b", "y", "a", "z")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.features.tolist() == F32[[3, 1, 2, 0]].tolist()
    assert found.counts.tolist() == [2, 2]
    assert (len(found), found.dim) == (4, 3)


def test_attributes_follow_their_samples() -> None:
    sites = {"site": ["north", "south", "east", "west"]}
    found = FeatureSet.from_arrays(F32, LABELS, ["z", "y", "a", "b"], attributes=sites)
    assert found.attributes == {"site": ("west", "south", "east", "north")}
    assert found.only_rows(torch.tensor([0, 3])).attributes == {"site": ("west", "north")}
    assert found.only_classes(torch.tensor([1])).attributes == {"site": ("east", "north")}


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "2", "1"], ("1", "2", "9", "10")),
        ([10, 9, 2, 1], ("1", "2", "9", "10")),
        (["10", "9", "2", "a"], ("10", "2", "9", "a")),
        (["02", "2", "1", "10"], ("1", "02", "2", "10")),
        (None, ("0", "1", "2", "3")),
    ],
)
def test_numeric_ids_by_their_value(ids: list[object] | None, expected: tuple[str, ...]) -> None:
    assert FeatureSet.from_arrays(F32, [0, 0, 0, 0], ids).ids == expected


def test_row_numbers_are_padded_so_that_they_sort() -> None:
    ids = FeatureSet.from_arrays(np.ones((101, 1)), [0] * 101).ids
    assert (ids[0], ids[9], ids[100]) == ("000", "009", "100")


@given(st.permutations(range(6)))
def test_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    matrix, labels, ids = np.arange(12.0).reshape(6, 2), list("abacab"), list("uvwxyz")
    one = FeatureSet.from_arrays(matrix, labels, ids)
    other = FeatureSet.from_arrays(matrix[order], [labels[i] for i in order], [ids[i] for i in order])
    assert (one.ids, one.classes) == (other.ids, other.classes)
    assert torch.equal(one.features, other.features)
    assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.float16, torch.float32),
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.int64, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_float64_is_kept_and_the_rest_is_float32(dtype: object, kept: torch.dtype) -> None:
    matrix = torch.ones(2, 3, dtype=dtype) if isinstance(dtype, torch.dtype) else np.ones((2, 3), dtype)
    found = FeatureSet.from_arrays(matrix, ["a", "b"])
    assert found.features.dtype == kept
    assert found.features.device.type == "cpu"


@pytest.mark.parametrize(
    "labels",
    [[1, 0], ["1", "0"], np.array([1, 0]), np.array([1, 0], np.uint8), np.array(["1", "0"]), torch.tensor([1, 0])],
    ids=["int", "str", "int64", "uint8", "numpy str", "tensor"],
)
def test_labels_of_any_kind_name_classes(labels: object) -> None:
    found = FeatureSet.from_arrays(F32[:2], labels)
    assert found.classes == ("0", "1")
    assert found.features.tolist() == F32[[1, 0]].tolist()


def _read_only() -> np.ndarray:
    matrix = F32.copy()
    matrix.flags.writeable = False
    return matrix


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: F32.tolist(), id="lists"),
        pytest.param(lambda: np.asfortranarray(F32), id="Fortran order"),
        pytest.param(lambda: np.repeat(F32, 2, axis=0)[::2], id="every second row"),
        pytest.param(lambda: torch.tensor(F32, requires_grad=True), id="with gradient"),
        pytest.param(_read_only, id="read-only"),
        pytest.param(lambda: F32[::-1].copy()[::-1], id="reversed"),
        pytest.param(lambda: F32.astype(">f4"), id="big-endian"),
    ],
)
def test_arrays_of_any_layout(make: Callable[[], object]) -> None:
    found = FeatureSet.from_arrays(make(), [0, 0, 0, 0])
    assert found.features.tolist() == F32.tolist()
    assert not found.features.requires_grad


def test_the_set_does_not_share_memory_with_the_array() -> None:
    matrix = F32.copy()
    found = FeatureSet.from_arrays(matrix, LABELS)
    matrix[:] = -1
    assert (found.features >= 0).all()


@pytest.mark.parametrize(
    ("features", "labels", "shape"),
    [
        (F32, ["a"], "(4, 3)"),
        (F32[0], ["a"] * 3, "(3,)"),
        (F32[None], ["a"], "(1, 4, 3)"),
        (F32[:0], [], "(0, 3)"),
        (F32[:, :0], LABELS, "(4, 0)"),
    ],
)
def test_shapes_that_do_not_fit(features: np.ndarray, labels: list[str], shape: str) -> None:
    with pytest.raises(FeaturesError) as error:
        FeatureSet.from_arrays(features, labels)
    says(error, shape, len(labels), hint=["label", "row"])


@pytest.mark.parametrize("features", [[[1.0, 2.0], [3.0]], [["a"], ["b"]], np.array([[1j], [2j]])])
def test_what_is_no_matrix_of_reals(features: object) -> None:
    with pytest.raises(FeaturesError):
        FeatureSet.from_arrays(features, ["a", "b"])


def test_number_of_ids_must_fit() -> None:
    with pytest.raises(FeaturesError) as error:
        FeatureSet.from_arrays(F32, LABELS, ["a", "b", "c"])
    says(error, 3, 4)


@pytest.mark.parametrize("labels", [["a", "a", "a", "a"], ["a", "b", "c", "d"]])
@pytest.mark.parametrize("ids", [["x", "y", "x", "z"], [1, 2, 1, 3]])
def test_ids_must_differ_also_across_classes(labels: list[str], ids: list[object]) -> None:
    with pytest.raises(FeaturesError) as error:
        FeatureSet.from_arrays(F32, labels, ids)
    says(error, f"'{ids[0]}'")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_not_finite_are_counted_and_the_first_named(value: float) -> None:
    matrix = F32.copy()
    matrix[0, 1] = matrix[3, 2] = matrix[3, 0] = value
    with pytest.raises(FeaturesError) as error:
        FeatureSet.from_arrays(matrix, ["dog", "cat", "dog", "cat"], ["x", "y", "z", "late"])
    says(error, 2, 4, "'late'")


def test_only_classes_renumbers_them() -> None:
    found = FeatureSet.from_arrays(F32, ["c", "a", "b", "c"], ["0", "1", "2", "3"]).only_classes(torch.tensor([0, 2]))
    assert found.classes == ("a", "c")
    assert found.labels.tolist() == [0, 1, 1]
    assert found.ids == ("1", "0", "3")
    assert found.features.tolist() == F32[[1, 0, 3]].tolist()


def test_batches_are_the_set_in_order() -> None:
    found = FeatureSet.from_arrays(F32, LABELS)
    batches = list(found.batches(3))
    assert [len(labels) for _, labels in batches] == [3, 1]
    assert torch.equal(torch.cat([features for features, _ in batches]), found.features)
    assert torch.equal(torch.cat([labels for _, labels in batches]), found.labels)


def test_a_set_and_a_stream_are_described_with_their_sizes_in_one_order() -> None:
    info = FeatureInfo("x", model="vit", split="test")
    found = FeatureSet.from_arrays(F32, LABELS, info=info)
    stream = FeatureStream(labels=torch.tensor([1, -1, 0, 1]), classes=("a", "b"), dim=3, info=info, read=lambda: [F32])
    known = {"id": "x", "model": "vit", "weights": None, "data": None, "split": "test", "layer": "feature"}
    for features, samples in ((found, 4), (stream, 3)):
        assert features.describe() == replace(info, samples=samples, classes=2, dim=3)
        wanted = known | {
            "label_column": None,
            "path": None,
            "samples": samples,
            "classes": 2,
            "dim": 3,
            "missing": 0,
            "key": None,
        }
        assert json.dumps(features.to_dict()) == json.dumps(wanted)


# Selections

IDS = [f"{label}/{i}.png" for label in "abc" for i in range(20)]
NAMES = [id_[0] for id_ in IDS]
SPLITS = ["train" if i % 2 else "test" for i in range(60)]


def chosen(selection: Selection, n: int = 60) -> set[str]:
    rows = selection.apply(IDS[:n], NAMES[:n], SPLITS[:n])
    assert (np.diff(rows) > 0).all()
    return {IDS[row] for row in rows}


def test_everything_is_wanted_by_default() -> None:
    assert chosen(Selection()) == set(IDS)
    assert str(Selection()) == ""


def test_split_and_classes() -> None:
    found = chosen(Selection("train", classes=("c", "a")))
    assert found == {id_ for id_, split in zip(IDS, SPLITS, strict=True) if split == "train" and id_[0] in "ac"}


def test_max_per_class_is_of_each_class_and_split() -> None:
    rows = Selection(max_per_class=4).apply(IDS, NAMES, SPLITS)
    groups = [(NAMES[row], SPLITS[row]) for row in rows]
    assert {group: groups.count(group) for group in groups} == {(c, s): 4 for c in "abc" for s in ("train", "test")}
    assert chosen(Selection("test", max_per_class=4)) == {IDS[row] for row in rows if SPLITS[row] == "test"}


@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**32))
def test_fewer_are_a_subset_of_more(few: int, further: int, seed: int) -> None:
    less, more = (chosen(Selection(max_per_class=k, seed=seed)) for k in (few, few + further))
    assert less <= more


@given(st.integers(1, 60), st.integers(0, 9))
def test_a_grown_set_keeps_its_draw_but_for_newcomers(n: int, seed: int) -> None:
    """What is drawn of the grown set and was there before had been drawn before."""
    selection = Selection(max_per_class=3, seed=seed)
    assert chosen(selection) & set(IDS[:n]) <= chosen(selection, n)


def test_another_seed_draws_others() -> None:
    draws = {frozenset(chosen(Selection(max_per_class=3, seed=seed))) for seed in range(5)}
    assert len(draws) == 5


def test_the_draw_is_fixed_for_good() -> None:
    """A stored subset is found again only as long as the draw does not change between versions."""
    assert chosen(Selection("test", classes=("a",), max_per_class=3)) == {"a/12.png", "a/16.png", "a/18.png"}


def drawn_one_by_one(selection: Selection, images: list[tuple[str, str, str]]) -> list[int]:
    """What a selection takes, by its definition."""
    groups: dict[tuple[str, str], list[tuple[bytes, int]]] = {}
    for row, (id_, label, split) in enumerate(images):
        is_in = selection.classes is None or label in selection.classes
        if is_in and label not in selection.exclude_classes and selection.split in (None, split):
            digest = hashlib.blake2b(f"{selection.seed}\0{id_}".encode(), digest_size=8).digest()
            groups.setdefault((label, split), []).append((digest, row))
    return sorted(row for group in groups.values() for _, row in sorted(group)[: selection.max_per_class])


@settings(deadline=None)  # pa.array imports pandas once
@given(
    st.lists(
        st.tuples(st.text("aé/1", max_size=3), st.sampled_from("abc"), st.sampled_from(["", "x", "y"])), max_size=30
    ),
    st.builds(
        Selection,
        st.sampled_from([None, "x"]),
        classes=st.sampled_from([None, ("a", "b")]),
        exclude_classes=st.sampled_from([(), ("c",)]),
        max_per_class=st.sampled_from([None, 1, 2, 5]),
        seed=st.integers(0, 9),
    ),
)
def test_columns_of_arrow_select_the_same_as_lists(images: list[tuple[str, str, str]], selection: Selection) -> None:
    table = ImageTable.of(ImageEntry(*image, 1, 2) for image in [*images, ("z", "c", "x"), *images])[: len(images)]
    columns = [[image[column] for image in images] for column in range(3)]
    arrays = [pa.array(column, pa.string()) for column in columns]
    kinds = [
        columns,
        arrays,
        [pa.chunked_array([a[:2], a[2:]]) for a in arrays],
        [a.dictionary_encode() for a in arrays],
    ]
    kinds.append([table.ids, table.labels, table.splits])
    try:
        found = [selection.apply(*kind).tolist() for kind in kinds]
    except FeaturesError as error:
        for kind in kinds:
            with pytest.raises(FeaturesError, match=re.escape(error.message)):
                selection.apply(*kind)
    else:
        assert found == [drawn_one_by_one(selection, images)] * len(kinds)
        assert selection.choose(table) == [table[row] for row in found[0]]


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_of_a_class_is_refused(count: int) -> None:
    with pytest.raises(FeaturesError):
        chosen(Selection(max_per_class=count))


def test_no_classes_at_all_are_refused() -> None:
    with pytest.raises(FeaturesError):
        chosen(Selection(classes=()))


@pytest.mark.parametrize(
    ("selection", "facts", "hint"),
    [
        (Selection("dev"), ["'dev'"], ["'test'", "'train'"]),
        (Selection(classes=("a", "x")), ["'x'"], ["'a'", "'b'", "'c'"]),
        (Selection(classes=("x", "y", "z")), ["'x'", 2], ["'a'", "'b'", "'c'"]),
    ],
)
def test_unknown_names_are_answered_by_those_there_are(
    selection: Selection, facts: list[object], hint: list[str]
) -> None:
    with pytest.raises(FeaturesError) as error:
        chosen(selection)
    says(error, *facts, hint=hint)
    assert error.value.hint.count("'") == 2 * len(hint)


def test_long_lists_of_names_are_cut() -> None:
    with pytest.raises(FeaturesError) as caught:
        Selection(classes=("x",)).apply(IDS, IDS, SPLITS)
    assert caught.value.hint.endswith(" …")
    assert caught.value.hint.count(".png") == 10


def test_data_without_splits_have_none() -> None:
    with pytest.raises(FeaturesError) as error:
        Selection("train").apply(["1"], ["a"], [""])
    says(error, "'train'", hint="splits")


def test_selection_in_words() -> None:
    assert (
        str(Selection("test", classes=("a", "b"), max_per_class=5))
        == "split test, 2 chosen classes, at most 5 per class"
    )
