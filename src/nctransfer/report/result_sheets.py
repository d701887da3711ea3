"""The sheets of any result, as a notebook shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nctransfer.report.sheet import Sheet

__all__ = ["result_to_html", "sheets_of"]


def sheets_of(result: object) -> list[Sheet]:
    """The sheets that the command line shows of a result when no option asks for more or less.

    Raises:
        TypeError: It is not a result.
    """
    makers = _makers()
    for kind in type(result).__mro__:
        if kind in makers:
            return list(makers[kind](result))
    raise TypeError(f"a {type(result).__name__} is not a result that has sheets")


def result_to_html(result: object) -> str:
    """A result as HTML, for a notebook, with its warnings."""
    from nctransfer.report.html_tables import to_html, warning_to_html

    warnings = getattr(result, "warnings", ())
    return "<div>\n" + "".join([*map(to_html, sheets_of(result)), *map(warning_to_html, warnings)]) + "</div>\n"


def _makers() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """Which function makes the sheets of which type of result. The types are imported only when one is shown."""
    return {**_of_features(), **_of_groups(), **_of_episodes(), **_of_images_and_backbones(), **_of_heads()}


def _of_features() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """The results that features give."""
    from nctransfer.checkpoints.trajectory_result import Trajectory
    from nctransfer.evaluation.expected_accuracy import ExpectedAccuracies
    from nctransfer.evaluation.label_counts import LabelCounts
    from nctransfer.evaluation.linear_probe import ProbeResult
    from nctransfer.evaluation.pair_explanation import PairExplanation
    from nctransfer.label_audit.flags import AuditResult
    from nctransfer.neural_collapse.bound_table import BoundTable
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.ood.ood_result import OodResult
    from nctransfer.rank.ranking import Ranking
    from nctransfer.report import (
        audit_sheets,
        collapse_sheets,
        fewshot_sheets,
        labels_sheets,
        ood_sheets,
        rank_sheets,
        theory_sheets,
        trajectory_sheets,
    )

    return {
        CollapseReport: collapse_sheets.collapse_sheets,
        CollapseComparison: collapse_sheets.comparison_sheets,
        ProbeResult: lambda result: [fewshot_sheets.probe_sheet(result)],
        LabelCounts: labels_sheets.labels_sheets,
        ExpectedAccuracies: lambda result: [theory_sheets.expected_sheet(result)],
        BoundTable: lambda result: [theory_sheets.bounds_sheet(result)],
        PairExplanation: lambda result: [theory_sheets.pair_sheet(result)],
        Ranking: rank_sheets.rank_sheets,
        OodResult: ood_sheets.ood_sheets,
        AuditResult: audit_sheets.audit_sheets,
        Trajectory: trajectory_sheets.trajectory_sheets,
    }


def _of_episodes() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """The results that few-shot episodes give."""
    from nctransfer.evaluation.fewshot_comparison import FewShotComparison
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.layer_results import FewShotLayers
    from nctransfer.report import fewshot_sheets, layer_sheets

    return {
        FewShotResult: fewshot_sheets.fewshot_sheets,
        FewShotComparison: fewshot_sheets.fewshot_comparison_sheets,
        FewShotLayers: layer_sheets.layer_sheets,
    }


def _of_groups() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """The results that further columns of the images give."""
    from nctransfer.evaluation.group_results import AcrossResult, GroupResult
    from nctransfer.neural_collapse.fine_results import FineStructure
    from nctransfer.report import fine_sheets, group_sheets

    return {
        GroupResult: group_sheets.group_sheets,
        AcrossResult: group_sheets.across_sheets,
        FineStructure: fine_sheets.fine_sheets,
    }


def _of_images_and_backbones() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """The results that images, backbones and the store give."""
    from nctransfer.backbones.geometric_complexity import GeometricComplexity
    from nctransfer.backbones.numerics import NumericsReport
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.report import backbone_sheets, complexity_sheets, data_sheets, look_alike_sheets, store_sheets
    from nctransfer.sources.data_report import DataReport
    from nctransfer.sources.similar_images import LookAlikes
    from nctransfer.store.extraction_report import ExtractionReport

    return {
        DataReport: data_sheets.data_sheets,
        LookAlikes: lambda result: [look_alike_sheets.look_alikes_sheet(result)],
        NumericsReport: lambda result: [backbone_sheets.numerics_sheet(result)],
        GeometricComplexity: lambda result: [complexity_sheets.complexity_sheet(result)],
        ExtractionReport: lambda result: [store_sheets.extraction_sheet(result)],
        FeatureSet: lambda result: [store_sheets.features_sheet(result)],
    }


def _of_heads() -> Mapping[type, Callable[[Any], Iterable[Sheet]]]:
    """The results that heads give."""
    from nctransfer.heads.fit_result import FitResult
    from nctransfer.heads.prediction import Predictions
    from nctransfer.report import fit_sheets, predict_sheets

    return {FitResult: fit_sheets.fit_sheets, Predictions: predict_sheets.result_sheets}
