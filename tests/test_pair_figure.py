"""The figure of two classes: each image where a plain loop places it, and the shares on the wrong side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nctransfer.evaluation.line_places import line_places
from nctransfer.evaluation.pair_explanation import PairExplanation, explain
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.figure_files import save_figure
from nctransfer.figures.pair_figure import pair_figure
from nctransfer.figures.style import COLUMN
from nctransfer.neural_collapse.collapse_report import collapse
from terminal import done

NAMES = ("b $x$", "a 猫")


def made(n_a: int, n_b: int, spread: float = 1.0) -> FeatureSet:
    """Two classes, the first of which comes second by its name, and a third."""
    rng = np.random.default_rng(n_a)
    rows = [rng.normal(size=(n, 6)) * spread + 1.2 * code for code, n in enumerate((n_a, n_b, 4))]
    return FeatureSet.from_arrays(np.concatenate(rows), [NAMES[0]] * n_a + [NAMES[1]] * n_b + ["c"] * 4)


def explained(features: FeatureSet) -> PairExplanation:
    return explain(features, *NAMES, (1,), episodes=20, device="cpu")


def rows_of(features: FeatureSet, name: str) -> Any:
    return features.features[features.labels == features.classes.index(name)].double().numpy()


def test_places_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    own, other = rng.normal(size=(7, 5)), rng.normal(size=5) + 1
    expected = []
    for number in range(len(own)):
        mean = np.delete(own, number, axis=0).mean(axis=0)
        middle, line = (mean + other) / 2, mean - other
        expected.append(float((own[number] - middle) @ line / (line @ line)))
    np.testing.assert_allclose(line_places(torch.tensor(own), torch.tensor(other)).numpy(), expected, rtol=1e-12)


def test_the_first_class_is_on_the_left_and_the_second_on_the_right() -> None:
    features = made(50, 60, spread=0.01)
    first, second = explained(features).places  # type: ignore[misc]
    assert (len(first), len(second)) == (50, 60)
    np.testing.assert_allclose(first, -0.5, atol=0.05)
    np.testing.assert_allclose(second, 0.5, atol=0.05)


def test_those_on_the_wrong_side_are_the_mistakes_of_the_nearest_centre() -> None:
    features = made(45, 80)
    accuracies = {one.name: one.ncc_accuracy for one in collapse(_pair(features), device="cpu").classes}
    for name, places, side in zip(NAMES, explained(features).places, (-1, 1), strict=True):  # type: ignore[arg-type]
        assert 0 < (places * side > 0).mean() < 1
        assert (places * side > 0).mean() == pytest.approx(accuracies[name])


def _pair(features: FeatureSet) -> FeatureSet:
    return features.only_classes(torch.tensor([0, 1]))


def test_an_offset_that_all_features_share_moves_nothing() -> None:
    features = made(20, 20)
    moved = FeatureSet.from_arrays(
        features.features.double().numpy() + 2.0**10, [features.classes[code] for code in features.labels.tolist()]
    )
    for one, other in zip(explained(features).places, explained(moved).places, strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_places_are_not_in_json() -> None:
    found = explained(made(5, 5))
    assert "places" not in found.to_dict()
    json.dumps(found.to_dict())


def texts(figure: Any) -> list[str]:
    return [text.get_text().replace(r"\$", "$") for text in figure.axes[0].texts]


@pytest.mark.parametrize("width", [COLUMN, 7.2])
@pytest.mark.parametrize("sizes", [(12, 30), (12, 200), (300, 250)])
def test_names_and_shares_are_written(sizes: tuple[int, int], width: float, tmp_path: Path) -> None:
    found = explained(made(*sizes))
    figure = pair_figure(found, width=width)
    for text, name, places, side in zip(texts(figure), NAMES, found.places, (-1, 1), strict=True):  # type: ignore[arg-type]
        wrong = int((places * side < 0).sum())
        assert text.split("\n")[:2] == [name, f"{wrong} of {len(places)} ({wrong / len(places):.0%})"]
    assert " ".join(figure.axes[0].get_title("left").split()).lower() == found.reason.lower().replace("$", r"\$")
    said = " ".join(figure.get_supxlabel().split())
    assert "3 classes" in said
    assert f"{found.shots[0].expected:.0%} with 1" in said
    save_figure(figure, tmp_path / "a.svg")
    assert "b $x$" in (tmp_path / "a.svg").read_text()


def test_few_images_are_dots() -> None:
    found = explained(made(12, 30))
    lines = [line for line in pair_figure(found).axes[0].lines if line.get_marker() == "o"]
    drawn = np.sort(np.concatenate([line.get_xdata() for line in lines]))
    places = np.sort(np.concatenate(found.places))  # type: ignore[arg-type]
    scale = np.sqrt(np.mean([one.var() for one in found.places]))  # type: ignore[union-attr]
    np.testing.assert_allclose(drawn, places / scale)
    dark = sum(len(line.get_xdata()) for line in lines if line.get_alpha() == 1)
    assert dark == sum(int((one * side < 0).sum()) for one, side in zip(found.places, (-1, 1), strict=True))  # type: ignore[arg-type]


def test_many_images_are_counted_and_a_bin_begins_at_the_border() -> None:
    found = explained(made(300, 250))
    axes = pair_figure(found).axes[0]
    counts = [patch.get_data() for patch in axes.patches if hasattr(patch, "get_data")]
    assert [int(one.values.sum()) for one in counts] == [300, 250]
    assert np.abs(counts[0].edges).min() < 1e-12
    for one, places, side in zip(counts, found.places, (-1, 1), strict=True):  # type: ignore[arg-type]
        centres = (one.edges[1:] + one.edges[:-1]) / 2
        assert one.values[centres * side < 0].sum() == (places * side < 0).sum()


def test_classes_without_spread_are_drawn(tmp_path: Path) -> None:
    save_figure(pair_figure(explained(made(3, 3, spread=0.0))), tmp_path / "a.png")


def test_an_explanation_without_places() -> None:
    import dataclasses

    with pytest.raises(ValueError, match="places"):
        pair_figure(dataclasses.replace(explained(made(4, 4)), places=None))


def test_the_command_draws(tmp_path: Path) -> None:
    features = made(6, 6)
    labels = [features.classes[code] for code in features.labels.tolist()]
    np.savez(tmp_path / "f.npz", feature=features.features.numpy(), label=labels)
    words = ("explain", *NAMES, tmp_path / "f.npz", "-e", "20", "-s", "1")
    assert done(*words, "--figure", tmp_path / "a.svg").stdout == done(*words).stdout
    assert "on the wrong side" in (tmp_path / "a.svg").read_text()
