"""Samples known by their content: duplicates within a set, and samples that two sets share."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nctransfer as nct
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.features.sample_content import (
    Duplicates,
    SampleContent,
    duplicates_in,
    row_digests,
    without_duplicates,
)

WITH_DUPLICATES = ([[1, 2], [3, 4], [1, 2], [5, 6], [1, 2], [3, 4], [7, 8]], "aabbbac")


def a_stream(features: FeatureSet, skipped: tuple[int, ...] = ()) -> FeatureStream:
    """The same rows, read in batches of three; some rows are skipped."""
    labels = features.labels.clone()
    labels[list(skipped)] = -1

    def read() -> Iterator[np.ndarray]:
        return iter([rows.numpy() for rows in features.features.split(3)])

    return FeatureStream(
        labels=labels,
        classes=features.classes,
        dim=features.dim,
        info=features.info,
        read=read,
        images=features.images,
    )


# Digests


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0, 2, 10_000]))
def test_digests_are_equal_where_rows_are(seed: int, width: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(values, size=(30, width)) / 4 if values else rng.normal(size=(30, width))
    digests = row_digests(torch.tensor(rows, dtype=torch.float32)).tolist()
    single = rows.astype(np.float32)
    for a, b in itertools.combinations(range(30), 2):
        assert (digests[a] == digests[b]) == bool((single[a] == single[b]).all())


@pytest.mark.parametrize("kind", ["one unit in the last place", "order", "sign", "scale 1e-30", "float64 only"])
def test_rows_that_nearly_agree_have_other_digests(kind: str) -> None:
    row = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
    other = row.copy()
    if kind == "one unit in the last place":
        other[0, 5] = np.nextafter(other[0, 5], np.float32(9))
    elif kind == "order":
        other[0, :2] = other[0, 1::-1]
    elif kind == "sign":
        other[0, 7] *= -1
    elif kind == "scale 1e-30":
        other = other * np.float32(1e-30)
    else:
        row, other = row.astype(np.float64) / 3, row.astype(np.float64) / 3 * (1 + 1e-12)
    assert row_digests(torch.from_numpy(row)) != row_digests(torch.from_numpy(other))


def test_digests_do_not_depend_on_type_layout_or_sign_of_zero() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    rows[2, 3] = 0.0
    expected = row_digests(torch.from_numpy(rows))
    negative = rows.copy()
    negative[2, 3] = -0.0
    for same in (rows.astype(np.float64), np.asfortranarray(rows), negative):
        assert torch.equal(row_digests(torch.from_numpy(same)), expected)
    assert len(set(expected.tolist())) == 7


def test_values_out_of_the_range_of_float32() -> None:
    rows = torch.tensor([[1e300, 1.0], [2e300, 1.0], [1e-300, 1.0], [2e-300, 1.0], [1e300, 1.0]], dtype=torch.float64)
    digests = row_digests(rows).tolist()
    assert digests[0] == digests[4]
    assert len(set(digests)) == 4


def test_no_two_of_many_binary_rows_have_the_same_digest() -> None:
    rows = (np.arange(2**17)[:, None] >> np.arange(17) & 1).astype(np.float32)
    assert len(torch.unique(row_digests(torch.from_numpy(rows)))) == 2**17


# Duplicates within a set


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1, max_size=30))
def test_duplicates_are_those_of_a_plain_count(samples: list[tuple[int, int]]) -> None:
    features = FeatureSet.from_arrays(
        [[float(value)] for value, _ in samples], [label for _, label in samples], range(len(samples))
    )
    first: dict[float, int] = {}
    expected = [0, 0]
    for (value,), label in zip(features.features.tolist(), features.labels.tolist(), strict=True):
        if value in first:
            expected[0] += 1
            expected[1] += label != first[value]
        first.setdefault(value, label)
    found = duplicates_in(features)
    assert [found.samples, found.across_classes] == expected
    assert duplicates_in(a_stream(features)) == found


def test_a_set_without_duplicates() -> None:
    features = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(50, 4)), [*"ab"] * 25)
    assert duplicates_in(features) == Duplicates()
    assert without_duplicates(features) is features


@pytest.mark.parametrize("streamed", [False, True])
def test_one_of_each_is_kept(streamed: bool) -> None:
    features = FeatureSet.from_arrays(*WITH_DUPLICATES)
    found = without_duplicates(a_stream(features) if streamed else features)
    assert list(found.classes) == ["a", "b", "c"]
    assert found.counts.tolist() == [2, 1, 1]
    rows = torch.cat([rows for rows, _ in found.batches()]).tolist()
    assert rows == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert duplicates_in(found) == Duplicates()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_class_of_nothing_else_is_gone(streamed: bool) -> None:
    features = FeatureSet.from_arrays([[1.0], [2.0], [1.0], [3.0]], "aabc")
    found = without_duplicates(a_stream(features) if streamed else features)
    assert found.classes == ("a", "c")
    assert torch.cat([labels for _, labels in found.batches()]).tolist() == [0, 0, 1]


def test_skipped_rows_of_a_stream_are_no_duplicates() -> None:
    features = FeatureSet.from_arrays(*WITH_DUPLICATES)
    stream = a_stream(features, skipped=(0, 1))  # one of [1, 2] and one of [3, 4]
    assert duplicates_in(stream).samples == 1
    assert without_duplicates(stream).counts.tolist() == [1, 2, 1]


def test_what_a_description_says() -> None:
    assert str(Duplicates(samples=1)).startswith("1 sample ")
    assert "1,200 of them" in str(Duplicates(samples=2000, across_classes=1200))
    assert Duplicates(samples=2, across_classes=1).to_dict() == {"samples": 2, "across_classes": 1}


# Samples of two sets


def test_samples_that_two_sets_share() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5)).astype(np.float32)
    one = SampleContent.of(FeatureSet.from_arrays(rows[:25], ["a"] * 25))
    other = SampleContent.of(a_stream(FeatureSet.from_arrays(rows[20:].astype(np.float64), ["b"] * 20)))
    assert (int(one.is_in(other).sum()), int(other.is_in(one).sum())) == (5, 5)
    assert one.is_in(other).tolist() == [False] * 20 + [True] * 5


def test_images_that_are_known_are_shared_although_features_were_rounded_otherwise() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 3))
    one = FeatureSet.from_arrays(rows, "aaabbb", images=torch.arange(6))
    other = FeatureSet.from_arrays(rows * (1 + 1e-6), "aaabbb", images=torch.tensor([9, 1, 8, 7, 4, 6]))
    unknown = FeatureSet.from_arrays(rows * (1 + 1e-6), "aaabbb")
    found = SampleContent.of(one).is_in(SampleContent.of(other))
    assert found.tolist() == [False, True, False, False, True, False]
    assert not SampleContent.of(one).is_in(SampleContent.of(unknown)).any()
    stream = a_stream(one, skipped=(1, 2))
    assert SampleContent.of(stream).is_in(SampleContent.of(other)).tolist() == [False, False, True, False]


def test_images_go_with_their_samples() -> None:
    features = FeatureSet.from_arrays(
        [[3.0], [1.0], [2.0]], "bab", ["x", "y", "a"], FeatureInfo("f"), images=torch.tensor([30, 10, 20])
    )
    assert features.images is not None
    assert features.images.tolist() == [10, 20, 30]
    only = features.only_classes(torch.tensor([1]))
    assert (only.ids, only.images.tolist()) == (("a", "x"), [20, 30])


def test_images_of_a_stored_set_are_known(pets, tmp_path) -> None:
    """A renamed copy of a folder has the same images, whatever the backbone."""
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted(pets.rglob("*.png"))):
        target = renamed / path.parent.name / f"other name {number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    settings = {"random_init": True, "device": "cpu"}
    one = nct.extract("test_vit", pets, **settings)
    other = nct.extract("test_resnet", renamed, seed=1, **settings)
    assert one.images is not None
    assert Counter(one.images.tolist()) == Counter(other.images.tolist())
    assert len(set(one.images.tolist())) == 18
    stream = nct.FeatureStore().resolve(one.info.id).stream()
    assert sorted(stream.images.tolist()) == sorted(one.images.tolist())
    again = nct.load_features(one.info.id)
    assert torch.equal(again.images, one.images)
    assert one.info.key is not None
    assert one.info.to_dict()["key"]["model"] == one.info.model


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 2)), max_size=12))
def test_duplicates_are_counted_as_a_loop_counts_them(rows: list[tuple[int, int]]):
    first: dict[int, int] = {}
    classes = [first.setdefault(digest, label) for digest, label in rows]
    digests, labels = (torch.tensor([row[i] for row in rows], dtype=torch.int64) for i in (0, 1))
    found = Duplicates.of(digests, labels)
    assert found.samples == len(rows) - len(first)
    assert found.across_classes == sum(one != label for one, (_, label) in zip(classes, rows, strict=True))
