"""Frozen foundation-model transfer analysis: neural collapse and few-shot accuracy of any timm backbone.

>>> import nctransfer as nct
>>> features = nct.extract("vit_base", "pets/")  # doctest: +SKIP
>>> nct.collapse(features).cdnv  # doctest: +SKIP
>>> nct.fewshot(features, ways=5, shots=(1, 5)).to_frame()  # doctest: +SKIP

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nctransfer.notebook import show_with

if TYPE_CHECKING:
    from nctransfer.backbones.complexity_of_data import complexity
    from nctransfer.backbones.geometric_complexity import GeometricComplexity
    from nctransfer.checkpoints.following import trajectory
    from nctransfer.checkpoints.trajectory_result import Trajectory
    from nctransfer.errors import NCTransferError
    from nctransfer.evaluation.across_episodes import fewshot_across_groups
    from nctransfer.evaluation.expected_accuracy import expect
    from nctransfer.evaluation.fewshot_accuracy import fewshot
    from nctransfer.evaluation.fewshot_comparison import compare_fewshot
    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.group_episodes import fewshot_by_group
    from nctransfer.evaluation.group_results import AcrossResult, GroupResult
    from nctransfer.evaluation.label_counts import LabelCounts, labels
    from nctransfer.evaluation.layer_accuracy import fewshot_layers
    from nctransfer.evaluation.layer_results import FewShotLayers
    from nctransfer.evaluation.linear_probe import probe
    from nctransfer.evaluation.pair_explanation import explain
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.heads.fit_result import FitResult
    from nctransfer.heads.fitting import fit
    from nctransfer.heads.head import Head
    from nctransfer.heads.head_files import load_head
    from nctransfer.heads.onnx_export import export_onnx
    from nctransfer.label_audit.auditing import audit
    from nctransfer.label_audit.flags import AuditResult
    from nctransfer.maps.class_map import ClassMap, map_classes
    from nctransfer.maps.image_map import ImageMap, map_images
    from nctransfer.neural_collapse.collapse_in_shards import ShardProgress, collapse_shard, merge_collapse
    from nctransfer.neural_collapse.collapse_report import CollapseReport, collapse
    from nctransfer.neural_collapse.comparisons import compare_layers, compare_samples, compare_sets
    from nctransfer.neural_collapse.fine_results import FineStructure
    from nctransfer.neural_collapse.inside_classes import fine_structure
    from nctransfer.ood.detecting import detect_ood
    from nctransfer.ood.ood_result import OodResult
    from nctransfer.page.report_page import write_report
    from nctransfer.rank.images import rank_backbones
    from nctransfer.rank.ranking import Ranking
    from nctransfer.rank.running import rank_features
    from nctransfer.sources.inventory import inspect
    from nctransfer.sources.opening import open_source
    from nctransfer.sources.similar_images import look_alikes
    from nctransfer.sources.source_kind import ReadingOptions
    from nctransfer.store.cache_folder import FeatureStore, load_features
    from nctransfer.store.extraction import extract
    from nctransfer.store.ray_options import RayOptions

__version__ = "0.1.0"

_HOMES = {
    "AcrossResult": "evaluation.group_results",
    "AuditResult": "label_audit.flags",
    "ClassMap": "maps.class_map",
    "CollapseReport": "neural_collapse.collapse_report",
    "FeatureSet": "features.feature_set",
    "FeatureStore": "store.cache_folder",
    "FewShotLayers": "evaluation.layer_results",
    "FewShotResult": "evaluation.fewshot_results",
    "FineStructure": "neural_collapse.fine_results",
    "FitResult": "heads.fit_result",
    "GeometricComplexity": "backbones.geometric_complexity",
    "GroupResult": "evaluation.group_results",
    "Head": "heads.head",
    "ImageMap": "maps.image_map",
    "LabelCounts": "evaluation.label_counts",
    "NCTransferError": "errors",
    "OodResult": "ood.ood_result",
    "Ranking": "rank.ranking",
    "RayOptions": "store.ray_options",
    "ReadingOptions": "sources.source_kind",
    "ShardProgress": "neural_collapse.collapse_in_shards",
    "Trajectory": "checkpoints.trajectory_result",
    "audit": "label_audit.auditing",
    "collapse": "neural_collapse.collapse_report",
    "collapse_shard": "neural_collapse.collapse_in_shards",
    "compare_fewshot": "evaluation.fewshot_comparison",
    "compare_layers": "neural_collapse.comparisons",
    "compare_samples": "neural_collapse.comparisons",
    "compare_sets": "neural_collapse.comparisons",
    "complexity": "backbones.complexity_of_data",
    "detect_ood": "ood.detecting",
    "expect": "evaluation.expected_accuracy",
    "explain": "evaluation.pair_explanation",
    "export_onnx": "heads.onnx_export",
    "extract": "store.extraction",
    "fewshot": "evaluation.fewshot_accuracy",
    "fewshot_across_groups": "evaluation.across_episodes",
    "fewshot_by_group": "evaluation.group_episodes",
    "fewshot_layers": "evaluation.layer_accuracy",
    "fine_structure": "neural_collapse.inside_classes",
    "fit": "heads.fitting",
    "inspect": "sources.inventory",
    "labels": "evaluation.label_counts",
    "load_features": "store.cache_folder",
    "load_head": "heads.head_files",
    "look_alikes": "sources.similar_images",
    "map_classes": "maps.class_map",
    "map_images": "maps.image_map",
    "merge_collapse": "neural_collapse.collapse_in_shards",
    "open_source": "sources.opening",
    "probe": "evaluation.linear_probe",
    "rank_backbones": "rank.images",
    "rank_features": "rank.running",
    "trajectory": "checkpoints.following",
    "write_report": "page.report_page",
}

__all__ = [
    "AcrossResult",
    "AuditResult",
    "ClassMap",
    "CollapseReport",
    "FeatureSet",
    "FeatureStore",
    "FewShotLayers",
    "FewShotResult",
    "FineStructure",
    "FitResult",
    "GeometricComplexity",
    "GroupResult",
    "Head",
    "ImageMap",
    "LabelCounts",
    "NCTransferError",
    "OodResult",
    "Ranking",
    "RayOptions",
    "ReadingOptions",
    "ShardProgress",
    "Trajectory",
    "__version__",
    "audit",
    "collapse",
    "collapse_shard",
    "compare_fewshot",
    "compare_layers",
    "compare_samples",
    "compare_sets",
    "complexity",
    "detect_ood",
    "expect",
    "explain",
    "export_onnx",
    "extract",
    "fewshot",
    "fewshot_across_groups",
    "fewshot_by_group",
    "fewshot_layers",
    "fine_structure",
    "fit",
    "inspect",
    "labels",
    "load_features",
    "load_head",
    "look_alikes",
    "map_classes",
    "map_images",
    "merge_collapse",
    "open_source",
    "probe",
    "rank_backbones",
    "rank_features",
    "trajectory",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _to_html(result: object) -> str:
    from nctransfer.report.result_sheets import result_to_html

    return result_to_html(result)


show_with(_to_html)
