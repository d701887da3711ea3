"""Few-shot accuracies as figures: learning curves, or dots where there is one number of shots and of ways."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.figures.accuracy_panels import Curve, Floor, Panel, accuracy_figure
from nctransfer.figures.style import caption_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nctransfer.evaluation.fewshot_comparison import FewShotComparison, FewShotDifference
    from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow
    from nctransfer.intervals import Interval

__all__ = ["OVER", "fewshot_comparison_figure", "fewshot_figure"]

OVER: Mapping[Interval, str] = {
    "episodes": "over the draw of episodes",
    "samples": "over other images of these classes",
    "classes": "over other classes of this kind",
    "disjoint": "over episodes that share no image",
}
VARIANTS = ("galanti2022_sharp", "luthra2026_capped")  # of other bounds
X_LABELS = {"shots": "labelled images per class (shots)", "ways": "classes per episode (ways)"}

Along = Literal["shots", "ways"]


def fewshot_figure(found: FewShotResult) -> Figure:
    """Accuracy of each classifier over shots, with 95% intervals, chance, and what theory says.

    There is a panel for each number of ways. If there is one number of shots, the curves run over ways. If there is one
    task only, each classifier is a dot.

    Args:
        found: The accuracies.
    """
    along = _along(found.rows)
    names = list(dict.fromkeys(row.label for row in found.rows))
    groups = _groups(found.rows, along)
    panels = [
        Panel(
            title=f"{rows[0].ways}-way" if len(groups) > 1 else "",
            curves=tuple(_curve(name, [row for row in rows if row.label == name], along) for name in names),
            chance=_chance(rows, along),
            floors=tuple(_floors(rows, along)),
        )
        for rows in groups
    ]
    caption = (caption_of(found.features), *_about_features(found), *_about_intervals(found.rows))
    return accuracy_figure(panels, title=_title(found.rows), x_label=X_LABELS[along], unit=along, caption=caption)


def fewshot_comparison_figure(found: FewShotComparison) -> Figure:
    """Accuracy of each feature set over shots, with 95% intervals, and in words how it compares with the first.

    There is a panel for each classifier and number of ways. If there is one number of shots, the curves run over ways.
    If there is one task only, each set is a dot.

    Args:
        found: The comparison.
    """
    first, *_ = found.results.values()
    along = _along(first.rows)
    names = list(dict.fromkeys(row.label for row in first.rows))
    groups = _groups(first.rows, along)
    panels = [
        _panel_of_sets(found, name, [row for row in rows if row.label == name], along, len(groups), len(names))
        for rows, name in itertools.product(groups, names)
    ]
    caption = (
        caption_of(replace(first.features, model=None)),
        *_about_features(first),
        *_about_intervals(first.rows),
        *_about_verdicts(found),
    )
    title = _title(first.rows, "" if len(names) > 1 else names[0])
    return accuracy_figure(panels, title=title, x_label=X_LABELS[along], unit=along, caption=caption)


def _panel_of_sets(
    found: FewShotComparison, classifier: str, rows: Sequence[FewShotRow], along: Along, groups: int, classifiers: int
) -> Panel:
    keys = {row.key for row in rows}
    titles = [f"{rows[0].ways}-way" if groups > 1 else "", classifier if classifiers > 1 else ""]
    curves = []
    for name, result in found.results.items():
        note = _verdicts([one for one in found.differences if one.name == name], keys, along)
        curves.append(_curve(name, [row for row in result.rows if row.key in keys], along, note, with_theory=False))
    return Panel(title=", ".join(filter(None, titles)), curves=tuple(curves), chance=_chance(rows, along))


def _along(rows: Sequence[FewShotRow]) -> Along:
    return "shots" if len({row.shots for row in rows}) > 1 or len({row.ways for row in rows}) == 1 else "ways"


def _groups(rows: Sequence[FewShotRow], along: Along) -> list[list[FewShotRow]]:
    """The rows of each panel."""
    if along == "ways":
        return [list(rows)]
    return [[row for row in rows if row.ways == ways] for ways in dict.fromkeys(row.ways for row in rows)]


def _chance(rows: Sequence[FewShotRow], along: Along) -> dict[float, float]:
    return {place: 1 / ways for place, ways in sorted({(getattr(row, along), row.ways) for row in rows})}


def _curve(name: str, rows: Sequence[FewShotRow], along: Along, note: str = "", with_theory: bool = True) -> Curve:
    rows = sorted(rows, key=lambda row: row.ways if along == "ways" else row.shots)
    return Curve(
        name=name,
        places=tuple(float(getattr(row, along)) for row in rows),
        accuracies=tuple(row.accuracy for row in rows),
        intervals=tuple(
            None if row.ci95 is None else (max(0.0, row.accuracy - row.ci95), min(1.0, row.accuracy + row.ci95))
            for row in rows
        ),
        expected=tuple(row.expected_accuracy for row in rows) if with_theory else (),
        note=note,
    )


def _floors(rows: Sequence[FewShotRow], along: Along) -> Iterator[Floor]:
    """What the bounds guarantee, wherever it is more than chance."""
    bounded = sorted((row for row in rows if row.bounds), key=lambda row: row.ways if along == "ways" else row.shots)
    classifiers = dict.fromkeys(row.classifier for row in bounded)
    bounds = dict.fromkeys(name for row in bounded for name in row.bounds or {} if name not in VARIANTS)
    for classifier, name in itertools.product(classifiers, bounds):
        own = [(row, (row.bounds or {})[name]) for row in bounded if row.classifier == classifier]
        points = [
            (float(getattr(row, along)), 1 - bound["value"])
            for row, bound in own
            if bound["value"] is not None and not bound["uninformative"]
        ]
        if points:
            places, accuracies = zip(*points, strict=True)
            yield Floor(name=name, of=classifier, places=places, accuracies=accuracies)


def _title(rows: Sequence[FewShotRow], classifier: str = "") -> str:
    """What all panels have in common."""
    ways, shots = ({getattr(row, field) for row in rows} for field in ("ways", "shots"))
    parts = [f"{number}-{word}" for (number, *more), word in ((ways, "way"), (shots, "shot")) if not more]
    parts += ["few-shot"] if len(shots) > 1 else []
    title = " ".join([*parts, "accuracy", *([f"of {classifier}"] if classifier else [])])
    return title[0].upper() + title[1:]


def _about_features(found: FewShotResult) -> Iterator[str]:
    """What was done with the features, and where the queries come from, if that is not as usual."""
    if found.query_set is not None:
        yield f"Queries: {caption_of(found.query_set)}"
    if found.center_on is not None:
        yield f"The mean of {found.center_on} is subtracted"
    if found.task.l2_normalise:
        yield "Features are scaled to unit length"
    if found.task.query_prior != BALANCED:
        yield f"Queries of an episode are spread over its classes by {found.task.query_prior}"


def _about_intervals(rows: Sequence[FewShotRow]) -> Iterator[str]:
    """What bands and bars are."""
    if any(row.ci95 is not None for row in rows):
        word = "Bars" if len({(row.ways, row.shots) for row in rows}) == 1 else "Bands"
        yield f"{word}: 95% intervals {OVER[rows[0].interval]}"
    for reason in dict.fromkeys(row.undefined["ci95"] for row in rows if "ci95" in row.undefined):
        yield f"No interval: {reason}"


def _verdicts(differences: Sequence[FewShotDifference], keys: set[tuple[int, int, str]], along: Along) -> str:
    """How a set compares with the first, in words: ``better at 1 and 2, not told apart at 5 and 10 shots``."""
    own = [one for one in differences if one.key in keys]
    places: dict[str, list[int]] = {}
    for one in own:
        places.setdefault(one.verdict or "no verdict", []).append(getattr(one, along))
    if len(places) < 2:
        return "".join(places)
    return ", ".join(f"{verdict} at {_listed(numbers)}" for verdict, numbers in places.items()) + f" {along}"


def _listed(numbers: Sequence[int]) -> str:
    """Numbers as a sentence lists them.

    >>> _listed([1, 2, 5]), _listed([5])
    ('1, 2 and 5', '5')
    """
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _about_verdicts(found: FewShotComparison) -> Iterator[str]:
    """What the words beside the names mean."""
    populations = dict.fromkeys(OVER[one.population] for one in found.differences if one.interval is not None)
    if populations:
        yield (
            f"Better, worse, not told apart: compared with {next(iter(found.results))} {' or '.join(populations)}, "
            "at 95% for all sets together"
        )
    for reason in dict.fromkeys(one.reason for one in found.differences if one.reason):
        yield f"No verdict: {reason}"
