"""Collapse of several feature sets side by side: sets, samples, layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import SettingError
from nctransfer.neural_collapse.class_statistics import ClassStatistics, ncc_accuracies
from nctransfer.neural_collapse.collapse_report import collapse, make_report, usable_classes
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.neural_collapse.sample_checks import check_samples, check_sets
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_stream import Features
    from nctransfer.neural_collapse.collapse_report import CollapseReport

__all__ = ["CollapseComparison", "compare_layers", "compare_samples", "compare_sets"]


@dataclass(frozen=True, kw_only=True)
class CollapseComparison(ShownInNotebooks):
    """Several feature sets side by side.

    Attributes:
        reports: The report of each set, by its name in the table.
        ratios: Ratios of the measures of two sets, by ``numerator/denominator``; empty unless samples of one backbone
            are compared.
        fit: How separation grows with depth, see :func:`compare_layers`; empty unless layers are compared.
        warnings: What weakens a conclusion from the comparison, such as images that two samples share.
    """

    reports: dict[str, CollapseReport]
    ratios: dict[str, dict[str, float | None]] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a dictionary for JSON."""
        sets = [{"name": name, **report.to_dict()} for name, report in self.reports.items()]
        return {"sets": sets, "ratios": self.ratios, "fit": self.fit, "warnings": list(self.warnings)}

    def to_frame(self) -> pd.DataFrame:
        """One row for each set and measure: ``set``, and the columns of :meth:`CollapseReport.to_frame`."""
        import pandas as pd

        frames = []
        for name, report in self.reports.items():
            frames.append(frame := report.to_frame())
            frame.insert(0, "set", name)
        return pd.concat(frames, ignore_index=True)


def compare_sets(sets: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto") -> CollapseComparison:
    """The collapse of several feature sets side by side: backbones, checkpoints, data.

    Args:
        sets: The feature sets, by their names in the table.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.

    Raises:
        FeaturesError: A set has fewer than two classes with two samples.
    """
    reports = {name: collapse(features, pairs=pairs, device=device) for name, features in sets.items()}
    return CollapseComparison(reports=reports, warnings=check_sets(sets) if sets else ())


def compare_samples(
    target: Features,
    source_train: Features,
    source_test: Features,
    *,
    pairs: int | None = 5,
    device: str = "auto",
) -> CollapseComparison:
    """Collapse on the training samples, on new samples of their classes, and on new classes: the claim of G22.

    ``ncc_accuracy`` of the source's test samples uses the class centres of its training samples.

    Args:
        target: Samples of classes that the backbone was not trained on.
        source_train: Samples that the backbone was trained on.
        source_test: Other samples of the same classes.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.

    Raises:
        FeaturesError: A set has fewer than two classes with two samples, the samples are of different backbones or
            widths, two of them are the same samples, or those of the source have different classes. What weakens the
            conclusion only is among the warnings of the result.
    """
    trained, train_notes = usable_classes(source_train)
    tested, test_notes = usable_classes(source_test)
    warnings = check_samples(target, trained, tested)
    stats = ClassStatistics.of(trained, device)
    train = make_report(stats, trained.classes, trained.describe(), train_notes, pairs)
    accuracies = ncc_accuracies(tested, stats, device)
    of_test = replace(ClassStatistics.of(tested, device), ncc_accuracies=accuracies)
    test = make_report(of_test, tested.classes, tested.describe(), test_notes, pairs)
    reports = {"source-train": train, "source-test": test, "target": collapse(target, pairs=pairs, device=device)}
    ratios = {
        f"{over}/{under}": {
            name: _ratio(reports[over].metrics[name], reports[under].metrics[name]) for name in MEASURES
        }
        for over, under in (("source-test", "source-train"), ("target", "source-test"))
    }
    return CollapseComparison(reports=reports, ratios=ratios, warnings=warnings)


def _ratio(over: float | None, under: float | None) -> float | None:
    return over / under if over is not None and under and math.isfinite(under) else None


def compare_layers(
    layers: Mapping[str, Features], *, pairs: int | None = 5, device: str = "auto"
) -> CollapseComparison:
    """The layers of one network, from the first to the last: how collapse grows with depth.

    ``fit`` holds the law of data separation, ``D_l = D_0 ρ^l`` with D the separation fuzziness (H23), fitted by least
    squares to its logarithm: ``rho`` and ``r_squared``. It also holds ``saturated``: the first layer whose
    ``ncc_accuracy`` no later layer exceeds by more than chance (1.96 standard errors of that accuracy).

    Args:
        layers: The features of each layer, by name.
        pairs: How many of the closest pairs of classes to list; ``None`` for all.
        device: Where to compute.

    Raises:
        SettingError: There is no layer.
        FeaturesError: There are fewer than two classes with two samples.
    """
    import numpy as np

    if not layers:
        raise SettingError("there are no layers to compare", "name at least one")
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
        residuals = ((y - slope * x - intercept) ** 2).sum()
        fit |= {"rho": math.exp(slope), "r_squared": 1 - residuals / spread if spread else None}
    return CollapseComparison(reports=compared.reports, fit=fit)


def _saturated(reports: Mapping[str, CollapseReport]) -> str:
    """The first layer whose ``ncc_accuracy`` no later layer exceeds by more than chance."""
    names = list(reports)
    for place, name in enumerate(names):
        accuracy, samples = reports[name].ncc_accuracy or 0.0, reports[name].features.samples
        assert samples is not None
        error = math.sqrt(accuracy * (1 - accuracy) / samples)
        if all((reports[later].ncc_accuracy or 0.0) <= accuracy + 1.96 * error for later in names[place + 1 :]):
            return name
    raise AssertionError("no layer comes after the last")
