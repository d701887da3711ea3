"""Look for wrong labels, near-duplicates and outliers in one set of features, or in several of the same images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from nctransfer.devices import pick_device
from nctransfer.errors import FeaturesError, SettingError, counted, join_names
from nctransfer.evaluation.fewshot_comparison import same_samples
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.duplicate_groups import Extra, extra_images
from nctransfer.label_audit.flags import DUPLICATE, KINDS, LABEL, OUTLIER, AuditResult, Flag, Kind
from nctransfer.label_audit.label_errors import LabelErrors, label_errors
from nctransfer.label_audit.near_duplicates import near_duplicates
from nctransfer.label_audit.outliers import Outliers, outliers

if TYPE_CHECKING:
    import torch

__all__ = ["audit", "check_auditable", "wanted_kinds"]

FEW = 200  # images
DOUBTFUL = 5  # labels that are shown although they are not flagged
Progress = Callable[[str, int, int], None]


def audit(
    features: FeatureSet | Sequence[FeatureSet],
    *,
    kinds: Collection[str] = KINDS,
    level: float = 0.5,
    device: str = "auto",
    progress: Progress | None = None,
) -> AuditResult:
    """Find the images of a labelled set that deserve a look: likely wrong labels, near-duplicates, outliers.

    A flag is a place to look, not a verdict: it marks images between two classes as well as wrong labels.

    Args:
        features: The features of labelled images; or several sets of the same images, each of another backbone, which
            then decide together. Images that not all sets have are left out.
        kinds: What to look for: ``label``, ``duplicate``, ``outlier``.
        level: A label is flagged if it is wrong with at least this estimated probability. Of the outliers, at least
            this share would not be expected by chance.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        SettingError: There is no such kind, no kind at all, or the level is not between 0 and 1.
        FeaturesError: No set is given; or labels are to be judged, and fewer than two classes have two images.
        EpisodeError: The sets have no image in common.

    >>> rows = [[0.0], [0.1], [0.2], [9.0], [9.1], [9.2], [9.3], [9.4]]
    >>> found = audit(FeatureSet.from_arrays(rows, ["a", "a", "a", "a", "b", "b", "b", "b"]), kinds=["label"])
    >>> flag, *others = found.flags
    >>> flag.id, flag.given, flag.suggested, others
    ('3', 'a', 'b', [])
    """
    wanted = wanted_kinds(kinds, level)
    sets = [features] if isinstance(features, FeatureSet) else list(features)
    if not sets:
        raise FeaturesError("no feature set is given", "give one set of features, or several of the same images")
    place = pick_device(device)
    names = tuple(one.info.model or one.info.id for one in sets)
    if len(sets) > 1:
        sets = same_samples(sets)
    first = sets[0]
    check_auditable(first, wanted)
    errors = _label_errors(sets, device, progress) if LABEL in wanted else None
    flags = [] if errors is None else _label_flags(first, errors, errors.expected_precision >= level)
    if DUPLICATE in wanted:
        flags += _duplicate_flags(sets, errors, place, progress)
    unlike = outliers(sets, level, device=device) if OUTLIER in wanted else None
    if unlike is not None:
        flags += _outlier_flags(first, unlike)
    return AuditResult(
        features=first.describe(),
        sets=names,
        kinds=wanted,
        level=level,
        flags=tuple(sorted(flags, key=_surest_first)),
        doubtful=() if errors is None else _doubtful(first, errors, level),
        noise_rate=None if errors is None else errors.noise_rate,
        outliers_by_chance=None if unlike is None else unlike.by_chance,
        labels=dict(zip(first.ids, _names(first), strict=True)),
        warnings=_warnings(first, wanted),
    )


def check_auditable(features: FeatureSet, kinds: Collection[str] = KINDS) -> None:
    """Refuse labels that cannot be judged, by the labels alone.

    Args:
        features: The set, of whose features nothing is read.
        kinds: What is looked for.

    Raises:
        FeaturesError: Labels are to be judged, and fewer than two classes have two images.
    """
    several = int((features.counts >= 2).sum())
    if LABEL in kinds and several < 2:
        raise FeaturesError(
            f"{features.info.id} has {counted(several, 'class', 'classes')} of two images or more; a label is judged "
            "by the other images of its class and of at least one other class",
            "give more images, or leave out the kind label: --kind duplicate,outlier",
        )


def wanted_kinds(kinds: Collection[str], level: float) -> tuple[Kind, ...]:
    """The kinds of flags in their usual order.

    Args:
        kinds: Their names.
        level: See :func:`audit`.

    Raises:
        SettingError: There is no such kind, no kind at all, or the level is not between 0 and 1.
    """
    given = [kinds] if isinstance(kinds, str) else list(kinds)
    if unknown := [kind for kind in given if kind not in KINDS]:
        raise SettingError(
            f"{unknown[0]!r} is not a kind of flag", f"give --kind one or several of: {join_names(KINDS)}"
        )
    if not given:
        raise SettingError("no kind of flag is given", f"give --kind one or several of: {join_names(KINDS)}")
    if not 0 < level < 1:
        raise SettingError(f"the level is {level:g}", "give --level a share between 0% and 100%, such as 50%")
    return tuple(kind for kind in KINDS if kind in given)


def _label_errors(sets: Sequence[FeatureSet], device: str, progress: Progress | None) -> LabelErrors:
    def report(done: int, total: int) -> None:
        if progress:
            progress("judging labels", done, total)

    return label_errors(sets, device=device, progress=report)


def _names(features: FeatureSet) -> list[str]:
    """The class of each image."""
    return [features.classes[code] for code in features.labels.tolist()]


def _doubtful(features: FeatureSet, errors: LabelErrors, level: float) -> tuple[Flag, ...]:
    """The labels that are not flagged although another class is likelier, as flags; the largest margins."""
    likelier = (errors.margin > 0) & (errors.expected_precision < level)
    found = sorted(_label_flags(features, errors, likelier), key=lambda flag: -(flag.margin or 0.0))
    return tuple(found[:DOUBTFUL])


def _label_flags(features: FeatureSet, errors: LabelErrors, chosen: torch.Tensor) -> list[Flag]:
    """Flags for the labels of the chosen images, ``(n,)`` bool."""
    flags = []
    for row in chosen.nonzero()[:, 0].tolist():
        neighbours = tuple(features.ids[place] for place in errors.neighbours[row].tolist() if place >= 0)
        flags.append(
            Flag(
                id=features.ids[row],
                given=features.classes[int(features.labels[row])],
                kind=LABEL,
                suggested=features.classes[int(errors.suggested[row])],
                neighbours=neighbours,
                expected_precision=float(errors.expected_precision[row]),
                margin=float(errors.margin[row]),
                agreement=int(errors.agreement[row]),
            )
        )
    return flags


def _duplicate_flags(
    sets: Sequence[FeatureSet], errors: LabelErrors | None, device: torch.device, progress: Progress | None
) -> list[Flag]:
    import torch

    first = sets[0]
    found = near_duplicates(sets, device=device, progress=progress)
    doubt = torch.zeros(len(first)) if errors is None else errors.expected_precision
    names = _names(first)
    return [
        Flag(
            id=first.ids[extra.image],
            given=names[extra.image],
            kind=DUPLICATE,
            suggested=None if names[extra.image] == names[extra.like] else names[extra.like],
            neighbours=(first.ids[extra.like],),
            expected_precision=_wrong_of_two(names, extra, errors),
            closeness=extra.closeness,
            agreement=extra.agreeing,
        )
        for extra in extra_images(found, doubt)
    ]


def _wrong_of_two(names: Sequence[str], extra: Extra, errors: LabelErrors | None) -> float | None:
    """The probability that a label is wrong, given that it or that of its duplicate is: ``p / (p + q − p q)``."""
    if errors is None or names[extra.image] == names[extra.like]:
        return None
    p, q = (float(errors.expected_precision[place]) for place in (extra.image, extra.like))
    either = p + q - p * q
    return p / either if either > 0 else 0.5


def _outlier_flags(features: FeatureSet, found: Outliers) -> list[Flag]:
    names = _names(features)
    return [
        Flag(
            id=features.ids[row],
            given=names[row],
            kind=OUTLIER,
            unlikeness=float(found.unlikeness[row]),
            agreement=int(found.agreeing[row]),
        )
        for row in found.flagged.nonzero()[:, 0].tolist()
    ]


def _surest_first(flag: Flag) -> tuple[float, float, str]:
    if flag.kind == DUPLICATE:
        return (0 if flag.contradicts else 2, flag.closeness or 0.0, flag.id)
    if flag.kind == LABEL:
        return (1, -(flag.expected_precision or 0.0), flag.id)
    return (3, -(flag.unlikeness or 0.0), flag.id)


def _warnings(features: FeatureSet, kinds: Collection[Kind]) -> tuple[str, ...]:
    if LABEL not in kinds:
        return ()
    found = []
    alone = [name for name, count in zip(features.classes, features.counts.tolist(), strict=True) if count == 1]
    if alone:
        have = counted(len(alone), "class has", "classes have")
        found.append(f"{have} one image, whose label cannot be judged: {join_names(alone)}")
    if len(features) < FEW:
        found.append(
            f"with only {counted(len(features), 'image')}, probabilities that labels are wrong are rough: in simulated "
            "sets of 40 to 500 images with overlapping classes and no wrong label, one in eight had flags"
        )
    return tuple(found)
