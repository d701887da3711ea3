"""Everything that is measured for a page: an answer to each question, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nctransfer.errors import NCTransferError

if TYPE_CHECKING:
    from nctransfer.checkpoints.trajectory_result import Trajectory
    from nctransfer.evaluation.label_counts import LabelCounts
    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.heads.fit_result import FitResult
    from nctransfer.heads.more_labels import MoreLabels
    from nctransfer.label_audit.flags import AuditResult
    from nctransfer.maps.class_map import ClassMap
    from nctransfer.maps.image_map import ImageMap
    from nctransfer.neural_collapse.bound_table import BoundTable
    from nctransfer.neural_collapse.collapse_report import CollapseReport
    from nctransfer.neural_collapse.comparisons import CollapseComparison
    from nctransfer.rank.ranking import Ranking

__all__ = ["Measured", "Missing", "tried"]

Answer = TypeVar("Answer")


@dataclass(frozen=True, kw_only=True)
class Missing:
    """Why a question has no answer."""

    reason: str


def tried(work: Callable[[], Answer]) -> Answer | Missing:
    """The answer, or the reason why these features give none: one question must not cost the others.

    >>> from nctransfer.errors import EpisodeError
    >>> def fails():
    ...     raise EpisodeError("class 'a' has 1 image", "add images")
    >>> tried(fails), tried(lambda: 7)
    (Missing(reason="class 'a' has 1 image; add images"), 7)
    """
    try:
        return work()
    except NCTransferError as error:
        return Missing(reason="; ".join(filter(None, [error.message, error.hint])))


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """All results on a page.

    Attributes:
        features: The feature set that the page is about: classes of two images or more.
        of: How many images each class had, by its name, before some were left out so that the work stays bounded.
        left_out: What was left out, in sentences.
        collapse: Measures of collapse, and the closest pairs of classes.
        class_map: Where the classes are.
        image_map: Where the images are.
        fit: A ridge classifier, and what to expect of it.
        labels: The learning curve, and the labels that targets need.
        audit: Images that deserve a look.
        more_labels: What twice as many labelled images would give; ``None`` if it is not known.
        bounds: What is proven of the accuracy of the nearest class centre along the learning curve.
        ranking: The feature sets, ranked; ``None`` if there is only one.
        sets: All feature sets, by name; the first is ``features``.
        layers: Measures of collapse of the layers of the backbone; ``None`` if only the last is known.
        checkpoints: The sets in the order of a training; ``None`` if they are not checkpoints of one model.
        seconds: How long each question took.
    """

    features: FeatureSet
    of: Mapping[str, int]
    left_out: tuple[str, ...]
    collapse: CollapseReport
    class_map: ClassMap
    image_map: ImageMap
    fit: FitResult | Missing
    labels: LabelCounts | Missing
    audit: AuditResult | Missing
    more_labels: MoreLabels | None
    bounds: BoundTable | Missing
    sets: Mapping[str, FeatureSet]
    ranking: Ranking | Missing | None = None
    layers: CollapseComparison | Missing | None = None
    checkpoints: Trajectory | Missing | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
