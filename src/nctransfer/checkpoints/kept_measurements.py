"""What is measured at one checkpoint, kept beside its stored features so that it is computed once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from nctransfer.backbones.feature_key import json_digest
from nctransfer.checkpoints.plain_values import from_plain, to_plain
from nctransfer.checkpoints.samples import collapse_of_samples
from nctransfer.checkpoints.trajectory_result import TARGET
from nctransfer.devices import pick_device
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.errors import SetChangedError
from nctransfer.evaluation.fewshot_accuracy import run_fewshot, say_what_is_odd
from nctransfer.evaluation.fewshot_results import FewShotResult
from nctransfer.neural_collapse.collapse_report import CollapseReport
from nctransfer.neural_collapse.comparisons import CollapseComparison
from nctransfer.neural_collapse.registry import MEASURES
from nctransfer.store.kept_results import KeptResults, code

if TYPE_CHECKING:
    from nctransfer.backbones.hub import Progress
    from nctransfer.evaluation.fewshot_task import FewShotTask
    from nctransfer.features.feature_info import FeatureInfo
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.sources.selection import Selection
    from nctransfer.store.reading import Snapshot
    from nctransfer.store.stored_set import StoredSet

__all__ = ["KeptMeasurements"]

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(kw_only=True)
class KeptMeasurements:
    """The measurements of one checkpoint: those that are kept, else computed now, and kept.

    Measures and classifiers of other packages may change without notice. Where one takes part, nothing is kept.

    Attributes:
        samples: The stored set and the selection of each sample.
        task: The few-shot task on the target.
        device: Where to compute.
        is_whole: Whether every wanted image is stored; otherwise nothing is kept.
    """

    samples: Mapping[str, tuple[StoredSet, Selection]]
    task: FewShotTask
    device: str
    is_whole: bool = True
    _snapshots: dict[str, Snapshot] = field(init=False)
    _digests: dict[str, str] = field(default_factory=dict, init=False)
    _target: FeatureSet | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        of_set = {stored.id: stored.snapshot() for stored, _ in self.samples.values()}
        self._snapshots = {name: of_set[stored.id] for name, (stored, _) in self.samples.items()}
        if any(name not in MEASURES.own for name in MEASURES):
            self.is_whole = False
        self._kept = KeptResults(self.samples[TARGET][0])

    def collapse(self) -> CollapseComparison:
        """The collapse of every sample. The target's features stay in memory for :meth:`fewshot`."""
        question = {"measured": "collapse", "rows": {name: self._rows(name) for name in self.samples}}
        return self._answer(
            question,
            lambda: collapse_of_samples(self._read_all(), self.device),
            lambda found: {
                "warnings": list(found.warnings),
                "reports": {name: _plain(report) for name, report in found.reports.items()},
            },
            self._comparison,
        )

    def fewshot(
        self,
        at_least: Mapping[tuple[int, int], int],
        before: FewShotResult | None = None,
        progress: Progress | None = None,
    ) -> FewShotResult:
        """The few-shot accuracy on the target; see :func:`~nctransfer.evaluation.fewshot_accuracy.run_fewshot`."""
        question = {
            "measured": "few-shot accuracy",
            "rows": self._rows(TARGET),
            "task": {one.name: getattr(self.task, one.name) for one in fields(self.task)},
            "at_least": sorted(at_least.items()),
            "before": before and json_digest(to_plain(before.accuracies), 32),
        }

        held, self._target = self._target, None

        def run() -> FewShotResult:
            return run_fewshot(
                held or self._read(TARGET),
                self.task,
                device=self.device,
                for_comparison=True,
                at_least=at_least,
                before=before,
                progress=progress,
            )

        if any(name not in CLASSIFIERS.own for name in self.task.classifiers):
            return run()
        return self._answer(question, run, _plain, self._result)

    def _answer(
        self,
        question: Mapping[str, Any],
        compute: Callable[[], T],
        to_answer: Callable[[T], Any],
        from_answer: Callable[[Any], T],
    ) -> T:
        """The kept answer to a question, or else the computed one, which is then kept."""
        if not self.is_whole:
            return compute()
        question = {**question, "device": str(pick_device(self.device)), "code": code()}
        try:
            if (answer := self._kept.find(question)) is not None:
                return from_answer(answer)
        except Exception as error:  # whoever can write the file can write anything into it
            log.debug("what is kept makes no sense, and is computed again: %s", error)
        found = compute()
        if self.is_whole:  # it may have changed meanwhile
            try:
                self._kept.keep(question, to_answer(found))
            except TypeError as error:
                log.debug("a result is not kept: %s", error)
        return found

    # Features

    def _rows(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = self._snapshots[name].digest(self.samples[name][1])
        return self._digests[name]

    def _read_all(self) -> dict[str, FeatureSet]:
        sets = {name: self._read(name) for name in self.samples}
        self._target = sets[TARGET]
        return sets

    def _read(self, name: str) -> FeatureSet:
        stored, selection = self.samples[name]
        try:
            return self._snapshots[name].read(selection)
        except SetChangedError as error:
            log.info("%s; it is read again", error)
            self.is_whole = False  # what is read now need not be what the question says
            return stored.read(selection)

    def _info(self, name: str, sizes: Iterable[int]) -> FeatureInfo:
        samples, classes, dim = map(int, sizes)
        known = self._snapshots[name].manifest.info(self.samples[name][1])
        return replace(known, samples=samples, classes=classes, dim=dim)

    # Answers

    def _comparison(self, answer: Any) -> CollapseComparison:
        reports = {}
        for name in self.samples:
            given = _values(answer["reports"][name])
            report = CollapseReport(features=self._info(name, given.pop("features")), **given)
            _check_numbers(report.metrics.values(), may_be_none=True)
            if report.metrics.keys() != set(MEASURES):
                raise ValueError("the measures are not those that there are")
            reports[name] = report
        order = [name for name in answer["reports"] if name in reports]
        _check_names(answer["warnings"])
        return CollapseComparison(reports={name: reports[name] for name in order}, warnings=tuple(answer["warnings"]))

    def _result(self, answer: Any) -> FewShotResult:
        given = _values(answer)
        found = FewShotResult(features=self._info(TARGET, given.pop("features")), task=self.task, **given)
        _check_result(found)
        say_what_is_odd(found)
        return found


LEFT_OUT = ("features", "task", "query_set", "center_on")  # known, or not there in a trajectory


def _plain(found: CollapseReport | FewShotResult) -> dict[str, Any]:
    """The fields of a result as plain values; of its features only the sizes, since their names may change."""
    info = found.features
    plain = {one.name: to_plain(getattr(found, one.name)) for one in fields(found) if one.name not in LEFT_OUT}
    return plain | {"features": [info.samples, info.classes, info.dim]}


def _values(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {name: from_plain(value) for name, value in answer.items()}


def _check_numbers(values: Iterable[Any], *, may_be_none: bool = False) -> None:
    for value in values:
        if not (isinstance(value, float) or (may_be_none and value is None)):
            raise ValueError(f"{value!r} is no number")


def _check_names(names: Iterable[Any]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no text")


def _check_result(found: FewShotResult) -> None:
    """Check that the parts of a few-shot result fit together.

    Raises:
        ValueError: They do not.
    """
    classes = len(found.classes)
    rows = [row.key for row in found.rows]
    _check_numbers(number for row in found.rows for number in (row.accuracy, row.std, row.lowest_decile, row.seconds))
    _check_numbers((row.ci95 for row in found.rows), may_be_none=True)
    is_sound = (
        rows == list(found.accuracies) == list(found.counts) and {ways for ways, *_ in rows} == found.drawn.keys()
    )
    for ways, drawn in found.drawn.items():
        is_sound &= drawn.dim() == 2 and drawn.shape[1] == ways and 0 <= int(drawn.min()) <= int(drawn.max()) < classes
    for key, accuracies in found.accuracies.items():
        is_sound &= accuracies.dim() == 1 and 2 <= len(accuracies) <= len(found.drawn[key[0]])
        is_sound &= bool(((accuracies >= 0) & (accuracies <= 1)).all())
        counts = found.counts[key]
        tensors = (counts.asked, counts.right, counts.together, counts.taken)
        shapes = [(classes,)] * 2 + [(classes, classes)] * 2
        is_sound &= all(one is None or one.shape == shape for one, shape in zip(tensors, shapes, strict=True))
    _check_names(found.classes)
    is_sound &= found.left_out.keys() <= set(rows) and found.populations.keys() >= found.drawn.keys()
    if not is_sound:
        raise ValueError("the parts of the result do not fit together")
