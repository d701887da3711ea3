"""Measure how well scores tell images of no known class from those of the known ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import FeaturesError, SettingError, did_you_mean
from nctransfer.evaluation.leaks import Leaks
from nctransfer.evaluation.multiple_comparisons import compare_with_best
from nctransfer.evaluation.spread import Spread
from nctransfer.features.sample_content import SampleContent
from nctransfer.heads.left_out_scores import HEAD_CLASSIFIERS
from nctransfer.ood.detection import Detection, Part, detection
from nctransfer.ood.held_out_classes import ClassRound, class_detection
from nctransfer.ood.ood_result import HELD_OUT, OodResult, OodRow, OtherSet
from nctransfer.ood.orthogonality import nc5, nc5_by_chance
from nctransfer.ood.registry import SCORES
from nctransfer.ood.score import Reference
from nctransfer.ood.trials import FEWEST, FOLDS, ROUNDS, Trial, check_classes, held_out_trials, image_trials

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet

__all__ = ["check_scores", "detect_ood"]

ALL = "all"
BATCH = 4096
GRID = 101  # places of a curve

Progress = Callable[[str, int, int], None]


def detect_ood(
    known: FeatureSet,
    others: Mapping[str, FeatureSet] | None = None,
    scores: str | Sequence[str] = ALL,
    *,
    classifier: str = "ridge",
    test: FeatureSet | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> OodResult:
    """How well scores tell images of no known class from those of the known ones.

    Each fifth of the known images is scored by models that are fitted to the other four. Without other images, random
    halves of the known classes are held out and take their place.

    Args:
        known: Images of the known classes: at least 2 with 3 images each; 4 if classes are held out.
        others: Sets of images of no known class, by name, from the same backbone. Their labels play no part.
        scores: Names of the registry, or ``all``.
        classifier: The classifier of the scores that need one.
        test: Other images of the known classes, which are scored in place of those of the known set.
        seed: The seed of what is left out.
        device: Where to compute.
        progress: Called as ``progress(stage, done, total)``.

    Raises:
        SettingError: There is no such score or classifier, or ``test`` is given without other images.
        FeaturesError: There are too few images, or sets are of different backbones.

    >>> import numpy as np
    >>> from nctransfer.features.feature_set import FeatureSet
    >>> rng = np.random.default_rng(0)
    >>> rows = np.repeat(np.eye(4, 8), 20, axis=0) + 0.1 * rng.normal(size=(80, 8))
    >>> known = FeatureSet.from_arrays(rows[:60], "a" * 20 + "b" * 20 + "c" * 20)
    >>> other = FeatureSet.from_arrays(rows[60:], "?" * 20)
    >>> found = detect_ood(known, {"other": other}, ["knn", "neco"], device="cpu")
    >>> tuple(row.auroc for row in found.rows)
    (1.0, 1.0)
    """
    names = check_scores(scores)
    others = dict(others or {})
    _check_settings(classifier, test, others)
    for name, one in [*others.items(), *([("the test set", test)] if test is not None else [])]:
        _check_backbone(known, one, name)
    tell = progress or (lambda *_: None)
    if others:
        found = _on_sets(known, others, test, names, classifier, seed, device, tell)
    else:
        found = _on_held_out_classes(known, names, classifier, seed, device, tell)
    needs = any(SCORES[name].needs == "classifier" for name in names)
    rows = [row for name, (ones, degrees) in found.items() for row in _rows(name, names, [*ones], degrees)]
    return OodResult(
        features=known.describe(),
        test=None if test is None else test.describe(),
        others=tuple(_described(known, others, seed)) if others else (_held_out(known),),
        rows=tuple(rows),
        population="samples" if others else "classes",
        classifier=classifier if needs else None,
        nc5_by_chance=nc5_by_chance(known.dim),
        curves={
            (name, score): one[1] for name, (ones, _) in found.items() for score, one in zip(names, ones, strict=True)
        },
        leaks=Leaks.of(known, test),
    )


def check_scores(scores: str | Sequence[str]) -> tuple[str, ...]:
    """The names of scores, each once; ``all`` stands for every score of this package and others.

    Raises:
        SettingError: There is no such score.
    """
    names = [scores] if isinstance(scores, str) else [*scores]
    if names == [ALL]:
        return tuple(SCORES)
    for name in names:
        if name not in SCORES:
            raise SettingError(
                f"there is no score {name!r}", did_you_mean(name, SCORES) or f"choose {', '.join(SCORES)}, or all"
            )
    return tuple(dict.fromkeys(names))


def _check_settings(classifier: str, test: FeatureSet | None, others: Mapping[str, FeatureSet]) -> None:
    if classifier not in HEAD_CLASSIFIERS:
        raise SettingError(
            f"there is no classifier {classifier!r} for scores",
            did_you_mean(classifier, HEAD_CLASSIFIERS) or f"choose {', '.join(HEAD_CLASSIFIERS)}",
        )
    if test is not None and not others:
        raise SettingError(
            "a test set was given, and no other images: held-out classes are tested on the known images themselves",
            "give a set of other images too, or leave out the test set",
        )


def _check_backbone(known: FeatureSet, one: FeatureSet, name: str) -> None:
    """Refuse features of another backbone, or another layer."""
    keys, layers = (known.info.key, one.info.key), (known.info.layer, one.info.layer)
    differ = None not in keys and keys[0] != keys[1]
    if known.dim != one.dim or differ or layers[0] != layers[1]:
        raise FeaturesError(
            f"the features of {name} ({one.info.id}, {layers[1]}, width {one.dim:,}) are not of the same backbone as "
            f"those of the known images ({known.info.id}, {layers[0]}, width {known.dim:,})",
            "extract both with the same model, image size and other options",
        )


Scored = tuple[Detection, tuple[float, ...]]
Found = dict[str, tuple[list[Scored], float]]  # of each other set: an entry for each score, and degrees of freedom


def _on_sets(
    known: FeatureSet,
    others: Mapping[str, FeatureSet],
    test: FeatureSet | None,
    names: Sequence[str],
    classifier: str,
    seed: int,
    device: str,
    tell: Progress,
) -> Found:
    """How each score does on each set of others."""
    import torch

    trials: Iterable[Trial]
    if test is None:
        check_classes(known, 2, FEWEST)
        trials, count = image_trials(known, seed), FOLDS
    else:
        check_classes(known, 2, 2)
        if strange := sorted(set(test.classes) - set(known.classes)):
            raise FeaturesError(
                f"the test set has classes that the known images lack, such as {strange[0]!r}",
                "leave these out by --classes, or give the set as other images",
            )
        nothing = torch.empty(0, dtype=torch.int64)
        trials, count = [Trial(known, nothing, nothing)], 1
    parts: dict[tuple[str, str], list[Part]] = {(other, name): [] for other in others for name in names}
    for number, trial in enumerate(trials):
        tell("scoring", number, count)
        reference = Reference(trial.reference, classifier, device)
        seen = test.features if test is not None else known.features[trial.known]
        for name in names:
            of_known, *of_others = _scored(reference, name, [seen, *(one.features for one in others.values())])
            for other, values in zip(others, of_others, strict=True):
                parts[other, name].append(Part(of_known, values))
    tell("scoring", count, count)
    tested = len(known) if test is None else len(test)
    return {
        other: (
            [(detection(parts[other, name]), _curve(parts[other, name])) for name in names],
            max(1, min(tested, len(one)) - 1),
        )
        for other, one in others.items()
    }


def _on_held_out_classes(
    known: FeatureSet, names: Sequence[str], classifier: str, seed: int, device: str, tell: Progress
) -> Found:
    """How each score does on classes that are held out."""
    check_classes(known, 4, FEWEST)
    rounds: dict[str, list[ClassRound]] = {name: [] for name in names}
    for number, trial in enumerate(held_out_trials(known, seed)):
        tell("scoring", number, ROUNDS)
        reference = Reference(trial.reference, classifier, device)
        labels = known.labels[trial.known], known.labels[trial.other]
        for name in names:
            of_known, of_other = _scored(reference, name, [known.features[trial.known], known.features[trial.other]])
            rounds[name].append(ClassRound(of_known, labels[0], of_other, labels[1]))
    tell("scoring", ROUNDS, ROUNDS)
    classes = len(known.classes)
    scored = []
    for ones in rounds.values():
        curves = [_curve([Part(one.known, one.other)]) for one in ones]
        mean = tuple(sum(at) / len(curves) for at in zip(*curves, strict=True))
        scored.append((class_detection(ones, classes), mean))
    return {HELD_OUT: (scored, classes - 1)}


def _scored(reference: Reference, name: str, sets: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The scores of some sets of images, float64."""
    import torch

    score = SCORES[name].function(reference)
    found = [torch.cat([score(rows) for rows in torch.split(one, BATCH)]).double().cpu() for one in sets]
    if not all(bool(values.isfinite().all()) for values in found):
        raise FeaturesError(
            f"the score {name} is not finite for some images", "leave this score out, or scale the features"
        )
    return found


def _curve(parts: Sequence[Part]) -> tuple[float, ...]:
    """The share of the others that is found where 0%, 1%, … 100% of the known images are lost."""
    import torch

    known = torch.cat([part.known for part in parts])
    thresholds = torch.quantile(known, torch.linspace(1, 0, GRID, dtype=torch.float64), interpolation="higher")
    found = torch.zeros(GRID, dtype=torch.float64)
    for part in parts:
        ordered = part.other.sort().values
        found += len(part.known) / len(known) * (1 - torch.searchsorted(ordered, thresholds, right=True) / len(ordered))
    return tuple(found.tolist())


def _rows(other: str, names: Sequence[str], scored: Sequence[Scored], degrees: float) -> Iterator[OodRow]:
    """The rows of a set of others, each score compared with the best of the others on the same images."""
    import torch

    ones = [one for one, _ in scored]
    spread = Spread(vectors=torch.stack([one.vector for one in ones], dim=1), degrees=degrees)
    compared = compare_with_best([one.auroc for one in ones], spread) if len(ones) > 1 else [None] * len(ones)
    for name, one, with_best in zip(names, ones, compared, strict=True):
        yield OodRow(
            other=other,
            score=name,
            auroc=one.auroc,
            auroc_interval=one.auroc_interval,
            fpr95=one.fpr,
            fpr95_interval=one.fpr_interval,
            is_possible_best=with_best is None or with_best.is_possible,
            verdict=None if with_best is None else with_best.verdict,
            behind=None if with_best is None else (max(with_best.low, -1.0), min(with_best.high, 1.0)),
        )


def _described(known: FeatureSet, others: Mapping[str, FeatureSet], seed: int) -> Iterator[OtherSet]:
    content = SampleContent.of(known)
    for name, one in others.items():
        yield OtherSet(
            name=name,
            samples=len(one),
            features=one.describe(),
            nc5=nc5(known, one.features, seed),
            shared_images=int(SampleContent.of(one).is_in(content).sum()),
            shared_classes=tuple(sorted(set(known.classes) & set(one.classes))),
        )


def _held_out(known: FeatureSet) -> OtherSet:
    return OtherSet(name=HELD_OUT, samples=len(known), features=known.describe())
