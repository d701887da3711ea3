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

if TYPE_CHECKING:
    from nctransfer.checkpoints import Trajectory, trajectory
    from nctransfer.errors import NCTransferError
    from nctransfer.evaluation import FewShotResult, compare_fewshot, fewshot
    from nctransfer.expectation import expect
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.measures import CollapseReport, collapse, compare_layers, compare_samples, compare_sets
    from nctransfer.pairs import explain
    from nctransfer.probing import probe
    from nctransfer.sources.inventory import inspect
    from nctransfer.sources.opening import ReadingOptions, open_source
    from nctransfer.store.cache_folder import FeatureStore, load_features
    from nctransfer.store.extraction import extract

__version__ = "0.1.0"

_HOMES = {
    "CollapseReport": "measures",
    "FeatureSet": "features.feature_set",
    "FeatureStore": "store.cache_folder",
    "FewShotResult": "evaluation",
    "NCTransferError": "errors",
    "ReadingOptions": "sources.opening",
    "Trajectory": "checkpoints",
    "collapse": "measures",
    "compare_fewshot": "evaluation",
    "compare_layers": "measures",
    "compare_samples": "measures",
    "compare_sets": "measures",
    "expect": "expectation",
    "explain": "pairs",
    "extract": "store.extraction",
    "fewshot": "evaluation",
    "inspect": "sources.inventory",
    "load_features": "store.cache_folder",
    "open_source": "sources.opening",
    "probe": "probing",
    "trajectory": "checkpoints",
}

__all__ = [
    "CollapseReport",
    "FeatureSet",
    "FeatureStore",
    "FewShotResult",
    "NCTransferError",
    "ReadingOptions",
    "Trajectory",
    "__version__",
    "collapse",
    "compare_fewshot",
    "compare_layers",
    "compare_samples",
    "compare_sets",
    "expect",
    "explain",
    "extract",
    "fewshot",
    "inspect",
    "load_features",
    "open_source",
    "probe",
    "trajectory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
