"""Near-duplicates are found by their features: what was planted and nothing else, for any backbone and class size."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import nctransfer as nct
from clusters import normal_classes, set_of
from conftest import SHARED
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit import nearest_images as nearest
from nctransfer.label_audit.near_duplicates import NearDuplicates, near_duplicates
from nctransfer.label_audit.nearest_images import nearest_images, unit_rows
from pictures import encoded

CPU = torch.device("cpu")


def pairs(found: NearDuplicates) -> list[tuple[int, int]]:
    """Sorted by position."""
    return sorted(zip(found.first.tolist(), found.second.tolist(), strict=True))


def planted(near: float, counts: list[int], within: float = 1.0) -> FeatureSet:
    """Classes in which image 1 is nearly image 0, and the last image of all is nearly the first of the second class.

    Args:
        near: How far apart they are, in units of the standard deviation within classes.
        counts: The number of images per class.
        within: Their standard deviation within classes.
    """
    classes = normal_classes(counts, 40, within=within)
    noise = np.random.default_rng(9).normal(size=(2, 40)) * within
    classes[0][1] = classes[0][0] + near * noise[0]
    classes[-1][-1] = classes[1][0] + near * noise[1]
    return set_of(classes)


@pytest.mark.parametrize("within", [0.02, 0.3, 1.0])  # nearly collapsed classes, and such that overlap
@pytest.mark.parametrize("counts", [[2] * 15, [3, 4, 2, 3, 5, 3], [12] * 5, [150, 20, 40]])
def test_what_was_planted_is_found_and_nothing_else(within: float, counts: list[int]) -> None:
    found = near_duplicates([planted(0.2, counts, within=within)], device=CPU)
    assert pairs(found) == [(0, 1), (counts[0], sum(counts) - 1)]
    assert not found.copies.any()
    assert found.agreeing.tolist() == [1, 1]
    assert float(found.closeness.max()) < 1


@pytest.mark.parametrize("d", [2, 4, 16, 64])
def test_independent_images_have_no_duplicates_whatever_the_width(d: int) -> None:
    numbers = [
        len(near_duplicates([set_of(normal_classes([40] * 5, d, draw=draw))], device=CPU).first) for draw in range(10)
    ]
    assert sum(numbers) <= 10  # at most half a pair of each set by chance; the sum is Poisson


def test_scale_and_origin_of_the_features_change_nothing() -> None:
    given = planted(0.2, [10, 10, 10])
    moved = replace(given, features=given.features * 1e-3)
    one, other = (near_duplicates([each], device=CPU) for each in (given, moved))
    assert pairs(one) == pairs(other)
    torch.testing.assert_close(one.closeness, other.closeness, rtol=1e-4, atol=0)


def test_all_of_a_group_are_found() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 40))
    rows[:5] = rows[0] + 0.05 * np.random.default_rng(1).normal(size=(5, 40))
    assert pairs(near_duplicates([FeatureSet.from_arrays(rows, "a" * 60)], device=CPU)) == [
        *itertools.combinations(range(5), 2)
    ]


def test_copies_of_a_file_are_known_by_their_content() -> None:
    given = planted(5.0, [10, 10])
    digests = torch.arange(20)
    digests[[13, 17]] = 4
    found = near_duplicates([replace(given, images=digests)], device=CPU)
    assert pairs(found) == [(4, 13), (13, 17)]
    assert found.copies.all()
    assert found.closeness.tolist() == [0, 0]


def test_backbones_decide_together() -> None:
    near, far = planted(0.2, [10, 10, 10]), planted(3.0, [10, 10, 10])
    both = near_duplicates([near, near], device=CPU)
    assert both.agreeing.tolist() == [2, 2]
    assert len(near_duplicates([near, far], device=CPU).first) == 0
    between = planted(1.3, [10, 10, 10])  # not near enough alone
    assert len(near_duplicates([between], device=CPU).first) == 0
    assert near_duplicates([near, between], device=CPU).agreeing.tolist() == [1, 1]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_few_images_are_not_near_by_chance(number: int) -> None:
    rows = np.random.default_rng(0).normal(size=(number, 5))
    assert len(near_duplicates([FeatureSet.from_arrays(rows, range(number))], device=CPU).first) == 0


def test_a_backbone_that_has_died_finds_nothing() -> None:
    same = FeatureSet.from_arrays(np.ones((30, 4)), "ab" * 15)
    assert len(near_duplicates([same], device=CPU).first) == 0


def test_neighbours_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(set_of(normal_classes([9, 14, 8])), CPU)
    whole = nearest_images(rows, 4)
    monkeypatch.setattr(nearest, "ENTRIES", 100)  # three rows at a time
    stages: list[tuple[int, int]] = []
    parts = nearest_images(rows, 4, lambda _, done, total: stages.append((done, total)))
    assert stages[0] == (3, 31)
    assert stages[-1] == (31, 31)
    torch.testing.assert_close(parts.distance, whole.distance)
    assert torch.equal(parts.places, whole.places)
    distance = torch.cdist(rows, rows).fill_diagonal_(torch.inf).sort(dim=1)
    assert torch.equal(whole.places, distance.indices[:, :4])
    torch.testing.assert_close(whole.distance, distance.values[:, :4], atol=1e-3, rtol=0)


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG": lambda image: encoded(image, "JPEG", quality=60),
    "mirrored": lambda image: encoded(ImageOps.mirror(image)),
    "resized": lambda image: encoded(image.resize((image.width * 3 // 4, image.height * 3 // 4))),
}


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs photographs")
def test_changed_photographs_are_found_by_a_real_backbone(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    source = nct.open_source(SHARED / "data/caltech60.tar")
    entries = [entry for entry in source.list() if entry.label in ("llama", "lotus", "pizza", "beaver")]
    for number, (entry, read) in enumerate(zip(entries, source.contents(entries), strict=True)):
        place = folder / entry.label / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image = Image.open(io.BytesIO(read())).convert("RGB")
        place.write_bytes(encoded(image))
        if number % 10 == 0:
            change = [*CHANGES][number // 10 % 3]
            place.with_name(f"{number:03}-{change}.img.png").write_bytes(CHANGES[change](image))
    features = nct.extract("tf_efficientnet_lite0", folder, offline=True)
    found = {(features.ids[i], features.ids[j]) for i, j in pairs(near_duplicates([features], device=CPU))}
    names = [name for name in features.ids if "-" in name]
    assert [(name, name.partition("-")[0] + ".png") in found for name in names] == [True] * 12
    assert len(found) <= 16  # a picture of a beaver and one of a llama are in the data twice
