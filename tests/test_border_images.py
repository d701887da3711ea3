"""The images that lie nearest to the border between two classes."""

from __future__ import annotations

import numpy as np
import pytest

import nctransfer as nct
from clusters import normal_classes, set_of
from messages import raises
from nctransfer.errors import FeaturesError
from nctransfer.evaluation import line_places
from nctransfer.maps.border_images import border_between


def places_by_hand(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where each row lies between the mean of the others of its class and that of the other class: one at a time."""
    found = []
    for number, row in enumerate(rows):
        mean = np.delete(rows, number, axis=0).mean(axis=0)
        line = mean - other.mean(axis=0)
        found.append((row - (mean + other.mean(axis=0)) / 2) @ line / (line @ line))
    return np.array(found)


@pytest.mark.parametrize(("offset", "rows"), [(0.0, 1024), (1000.0, 1024), (0.0, 4)])
def test_the_order_is_that_of_the_projection_on_the_line_between_the_means(
    offset: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_places, "ROWS", rows)
    classes = normal_classes([9, 4, 12], 5, within=1.2, offset=offset)
    border = border_between(set_of(classes), 2, 0)
    places_a, places_b = places_by_hand(classes[2], classes[0]), places_by_hand(classes[0], classes[2])
    assert border.rows_a.tolist() == (13 + np.abs(places_a).argsort()).tolist()
    assert border.rows_b.tolist() == np.abs(places_b).argsort().tolist()
    assert (border.right_a, border.right_b) == ((places_a > 0).sum(), (places_b > 0).sum())
    assert 0 < border.right_a + border.right_b < 21  # so that the counts say something


def test_an_image_is_left_out_of_the_mean_that_it_is_compared_with() -> None:
    pair = nct.FeatureSet.from_arrays(np.array([[0.0], [4.0], [5.0], [6.0]]), "aabb")
    assert border_between(pair, 0, 1).right_a == 1  # 4 is nearer to 5.5 than to 0, though nearer to 2 than to 6


def test_classes_with_the_same_images_are_not_told_apart() -> None:
    rows = normal_classes([6], 3)[0]
    border = border_between(set_of([rows, rows]), 0, 1)
    assert border.right_a == border.right_b == 0


def test_one_image_has_no_mean_without_it() -> None:
    with raises(FeaturesError, "b", 1):
        border_between(nct.FeatureSet.from_arrays(np.eye(3), "aab"), 0, 1)
