"""Accuracies of all layers as results: of each layer, of the layer chosen inside the support, and of the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.evaluation.leaks import Leaks
from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from nctransfer.evaluation.fewshot_results import FewShotResult
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.evaluation.layer_candidates import LayerCandidate
    from nctransfer.evaluation.multiple_comparisons import Verdict
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.intervals import Interval

__all__ = ["CHOSEN", "FewShotLayers", "Guide", "LayerChoice"]

CHOSEN = "chosen"
"""The name of the row whose layer is chosen in each episode."""

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Guide:
    """The layer that a number names which takes no episode, and whether it is right.

    Attributes:
        measure: The number: ``nc1``, ``cdnv_debiased``, …, or ``explained`` for the share of the labels of a support
            that a layer explains when they are left out, its mean over the episodes.
        layer: The layer that it names; ``None`` if it is undefined for all.
        accuracy: The accuracy of that layer.
        loss: How far that is below the most accurate single layer.
        is_possible_best: Whether it may be the most accurate single layer; ``None`` if that is not known.
    """

    measure: str
    layer: str | None
    accuracy: float | None = None
    loss: float | None = None
    is_possible_best: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """What choosing a layer gives on one task.

    Attributes:
        ways: Classes per episode.
        shots: Support samples per class.
        classifier: The name of the classifier.
        population: What intervals and verdicts are about: other classes, or other images.
        default: The layer that users take who do not choose: the pooled output.
        default_accuracy: Its accuracy.
        chosen_accuracy: The accuracy if each episode chooses by its support, see
            :func:`~nctransfer.evaluation.layer_episodes.choose`; that of the default where nothing can be chosen.
        chosen_shares: The share of episodes in which each candidate was chosen.
        gain: What choosing adds to the default.
        gain_interval: Its 95% interval; ``None`` if there is none.
        gain_verdict: Whether choosing is better or worse than the default.
        best: The candidate with the highest accuracy over these episodes, which is known in hindsight only.
        best_accuracy: Its accuracy over these episodes.
        gap: How far the chosen stays below the best in hindsight.
        gap_interval: Its 95% interval, which does not know of the selection.
        bias: How much of the accuracy of the best in hindsight is selection bias: what it loses on classes (or images)
            on which it was not picked, see :func:`~nctransfer.evaluation.selection_bias.selection_bias`.
        bias_interval: Its 95% interval.
        possible_bests: The candidates that may be the best, the most accurate first; ``None`` if that is not known.
        possible_layers: The same among single layers only.
        guides: The layers that NC1 and other numbers name.
        undefined: Why a value is missing, by name.
    """

    ways: int
    shots: int
    classifier: str
    population: Interval
    default: str
    default_accuracy: float
    chosen_accuracy: float
    chosen_shares: Mapping[str, float]
    gain: float
    gain_interval: Span | None
    gain_verdict: Verdict | None
    best: str
    best_accuracy: float
    gap: float
    gap_interval: Span | None
    bias: float | None
    bias_interval: Span | None
    possible_bests: tuple[str, ...] | None
    possible_layers: tuple[str, ...] | None
    guides: tuple[Guide, ...]
    undefined: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_chosen(self) -> bool:
        """Whether a layer could be chosen inside the support."""
        return CHOSEN not in self.undefined

    def to_dict(self) -> dict[str, Any]:
        """The choice as a dictionary for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FewShotLayers(ShownInNotebooks):
    """Few-shot accuracy of the layers of one backbone, and what choosing one of them gives.

    Attributes:
        features: What was measured: the pooled output.
        task: What was asked for.
        candidates: The layers and their joins.
        results: The accuracies of each candidate, and of the layer chosen in each episode, by name.
        choices: One for each number of ways, number of shots and classifier.
        measures: Numbers of each layer that take no episode, by layer and name.
        copies: Layers that are the same as another, which is there in their place.
        leaks: The samples that give answers away.
    """

    features: FeatureInfo
    task: FewShotTask
    candidates: tuple[LayerCandidate, ...]
    results: Mapping[str, FewShotResult]
    choices: tuple[LayerChoice, ...]
    measures: Mapping[str, Mapping[str, float | None]]
    copies: Mapping[str, str] = field(default_factory=dict)
    leaks: Leaks = field(default_factory=Leaks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What weakens a conclusion."""
        return self.leaks.warnings()

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        first = next(iter(self.results.values()))
        return {
            "features": self.features.to_dict(),
            "settings": first.settings,
            "candidates": [
                {"name": one.name, "layers": list(one.layers), "measures": dict(self.measures.get(one.name, {}))}
                for one in self.candidates
            ],
            "copies": dict(self.copies),
            "leaks": self.leaks.to_dict(),
            "results": [
                {"candidate": name, **row.to_dict()} for name, result in self.results.items() for row in result.rows
            ],
            "choices": [one.to_dict() for one in self.choices],
            "warnings": list(self.warnings),
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each candidate, number of ways, number of shots and classifier."""
        import pandas as pd

        rows = []
        for name, result in self.results.items():
            about = {"candidate": name, **{f"layer_{key}": one for key, one in self.measures.get(name, {}).items()}}
            rows += [about | row.to_row() for row in result.rows]
        return pd.DataFrame(rows)

    def episodes_table(self) -> pa.Table:
        """One row for each candidate, episode, number of shots and classifier; the column ``candidate`` names it."""
        import pyarrow as pa

        tables = {name: result.episodes_table() for name, result in self.results.items()}
        return pa.concat_tables(
            [table.add_column(0, "candidate", pa.repeat(name, len(table))) for name, table in tables.items()]
        )
