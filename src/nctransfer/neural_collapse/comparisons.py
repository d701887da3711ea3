"""Collapse of several feature sets side by side: sets, samples, layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError
from nctransfer.neural_collapse.class_statistics import ClassStatistics, ncc_accuracies
from nctransfer.neural_collapse.collapse_report import collapse, make_report, usable_classes
from nctransfer.neural_collapse.registry import MEASURES

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.collapse_report import CollapseReport

__all__ = ["CollapseComparison", "compare_layers", "compare_samples", "compare_sets"]


@dataclass(frozen=True)
class CollapseComparison:
    """Several feature sets side by side.

    Attributes:
        reports: One a set, by its name in the table.
        ratios: Of the measures of two sets, by "numerator/denominator"; empty where sets are not in such a relation.
        fit: Of the layers of a network: how separation grows with depth; empty for other sets.
    """

    reports: dict[str, CollapseReport]
    ratios: dict[str, dict[str, float | None]]
    fit: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        sets = [{"name": name, **report.to_dict()} for name, report in self.reports.items()]
        return {"sets": sets, "ratios": self.ratios, "fit": self.fit}

    def to_frame(self) -> pd.DataFrame:
        """One row a set and measure: ``set``, and the columns of :meth:`CollapseReport.to_frame`."""
        import pandas as pd

        frames = []
        for name, report in self.reports.items():
            frames.append(frame := report.to_frame())
            frame.insert(0, "set", name)
        return pd.concat(frames, ignore_index=True)


def compare_sets(sets: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto") -> CollapseComparison:
    """Several feature sets side by side: backbones, checkpoints, data.

    Raises:
        FeaturesError: See :func:`collapse`.
    """
    reports = {name: collapse(features, pairs=pairs, device=device) for name, features in sets.items()}
    return CollapseComparison(reports, {}, {})


def compare_samples(
    target: Features,
    source_train: Features,
    source_test: Features,
    *,
    pairs: int | None = 5,
    device: str = "auto",
) -> CollapseComparison:
    """The paper's claim: collapse on the training samples, on new samples of their classes, and on new classes (G22).

    ``ncc_accuracy`` of the source's test samples uses the class centres of its training samples.

    Args:
        target: Classes that the backbone was not trained on.
        source_train: Samples that it was trained on.
        source_test: Other samples of the same classes.
        pairs: See :func:`collapse`.
        device: Where to compute.

    Raises:
        FeaturesError: See :func:`collapse`; or the two samples of the source are not of the same classes.
    """
    if source_test.info == source_train.info and source_train.info.path is not None:
        raise FeaturesError(
            f"source-train and source-test are the same set, {source_train.info.id}",
            "give --source-test other samples of these classes",
        )
    trained, train_notes = usable_classes(source_train)
    tested, test_notes = usable_classes(source_test)
    if trained.classes != tested.classes:
        odd = sorted(set(trained.classes) ^ set(tested.classes))
        raise FeaturesError(
            f"source-train and source-test are not of the same classes: {len(odd)} are in one only ({odd[0]!r}, …)",
            "give two samples of the same classes, with at least 2 images of each",
        )
    if trained.dim != tested.dim:
        raise FeaturesError(
            f"source-train has features of width {trained.dim:,}, source-test of {tested.dim:,}",
            "give two samples under the same backbone",
        )
    stats = ClassStatistics.of(trained, device)
    train = make_report(stats, trained, train_notes, pairs)
    accuracies = ncc_accuracies(tested, stats, device)
    of_test = replace(ClassStatistics.of(tested, device), ncc_accuracies=accuracies)
    test = make_report(of_test, tested, test_notes, pairs)
    reports = {"source-train": train, "source-test": test, "target": collapse(target, pairs=pairs, device=device)}
    ratios = {
        f"{over}/{under}": {
            name: _ratio(reports[over].metrics[name], reports[under].metrics[name]) for name in MEASURES
        }
        for over, under in (("source-test", "source-train"), ("target", "source-test"))
    }
    return CollapseComparison(reports, ratios, {})


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under and math.isfinite(under) else None


def compare_layers(
    layers: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto"
) -> CollapseComparison:
    """The layers of one network, the first first: how collapse grows with depth.

    ``fit`` holds the law of data separation, ``D_l = D_0 ρ^l`` with D the separation fuzziness (H23), fitted by least
    squares to its logarithm: ``rho`` and ``r_squared``; and ``saturated``, the first layer whose ``ncc_accuracy`` no
    later one exceeds by more than chance (1.96 standard errors of that accuracy).

    Raises:
        FeaturesError: See :func:`collapse`.
    """
    import numpy as np

    if not layers:
        raise FeaturesError("there are no layers to compare", "name at least one")
    compared = compare_sets(layers, pairs=pairs, device=device)
    reports = list(compared.reports.values())
    fuzziness = np.array([report.separation_fuzziness or math.nan for report in reports], dtype=np.float64)
    fit: dict[str, Any] = {"saturated": _saturated(compared.reports)}
    depth = np.arange(len(fuzziness))
    kept = np.isfinite(fuzziness) & (fuzziness > 0)
    if kept.sum() >= 3:
        x, y = depth[kept], np.log(fuzziness[kept])
        slope, intercept = np.polyfit(x, y, 1)
        spread = ((y - y.mean()) ** 2).sum()
        left = ((y - slope * x - intercept) ** 2).sum()
        fit |= {"rho": math.exp(slope), "r_squared": 1 - left / spread if spread else None}
    return CollapseComparison(compared.reports, {}, fit)


def _saturated(reports: Mapping[str, CollapseReport]) -> str:
    names = list(reports)
    for place, name in enumerate(names):
        accuracy, samples = reports[name].ncc_accuracy or 0.0, reports[name].features["samples"]
        error = math.sqrt(accuracy * (1 - accuracy) / samples)
        if all((reports[later].ncc_accuracy or 0.0) <= accuracy + 1.96 * error for later in names[place + 1 :]):
            return name
    raise AssertionError("the last layer has none after it")
