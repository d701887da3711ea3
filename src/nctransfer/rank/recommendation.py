"""What a ranking says, in the words in which one would tell a friend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted

if TYPE_CHECKING:
    from nctransfer.evaluation.labels_needed import LabelsNeeded
    from nctransfer.rank.ranking import RankedCandidate

__all__ = ["recommend"]

MUCH_FASTER = 1.5  # times as fast, from which it is worth a word
MOST_NAMED = 3


def recommend(candidates: Sequence[RankedCandidate], is_complete: bool = True) -> str:
    """What to take, what cannot be told apart from it, and how many labels it needs.

    Args:
        candidates: The candidates, best first.
        is_complete: Whether the possible bests have been through all images.
    """
    ran = [one for one in candidates if one.has_run]
    best = next((one for one in ran if one.status != "control"), None)
    if best is None:
        when = "" if is_complete else " before time ran out"
        where = "nctransfer rank --list shows whose weights are here."
        return f"No candidate could be run{when}, so there is nothing to recommend. {where}"
    others = [one for one in ran if one.is_possible_best and one is not best and one.status != "control"]
    unbeaten = [one for one in ran if one.status == "control" and one.is_possible_best]
    if unbeaten:
        sentences = [_none_of_them(best, unbeaten)]
    else:
        sentences = [
            _take(best, others, candidates),
            *_with_fewer_labels(best, ran),
            *_faster(best, others),
            *_about_labels(best),
        ]
    if not is_complete:
        sentences.append(
            "Time ran out before every candidate that may be the best had been through all images; more time may "
            "change the choice."
        )
    return " ".join(sentences)


def _none_of_them(best: RankedCandidate, unbeaten: Sequence[RankedCandidate]) -> str:
    """What to say where controls may be the best of all."""
    assert best.place is not None
    if best.place.is_below_control:
        return (
            f"Take none of them: the control {unbeaten[0].name} is better than {best.name}, which is the best of the "
            "candidates. They are of little use for these images."
        )
    return (
        f"Take none of them yet: {best.name}, the best, cannot be told apart from the "
        f"{'control' if len(unbeaten) == 1 else 'controls'} {_listed([one.name for one in unbeaten])}. "
        "These backbones may be of no use for these images, or there are too few images to tell."
    )


def _take(best: RankedCandidate, others: Sequence[RankedCandidate], candidates: Sequence[RankedCandidate]) -> str:
    rivals = [one for one in candidates if one.status != "control" and one is not best]
    all_ran = all(one.has_run for one in rivals)
    if not any(one.has_run for one in rivals):
        beats = any(one.status == "control" and one.has_run for one in candidates)
        words = f"{best.name} is the only candidate{' that was measured' * (not all_ran)}."
        return words + " It is better than the controls." * beats
    same = [one for one in others if (one.same_as or one.name) == (best.same_as or best.name)]
    apart = [one for one in others if one not in same]
    words = f"Take {best.name}."
    if same:
        words += f" {_listed([one.name for one in same])} {_has(same)} exactly the same features."
    if apart:
        return f"{words} {_listed([one.name for one in apart])} cannot be told apart from it."
    if same:
        return words
    which = "every other candidate" if all_ran else "every other candidate that was measured,"
    return f"{words} It is better than {which} on other images of these classes."


def _with_fewer_labels(best: RankedCandidate, ran: Sequence[RankedCandidate]) -> list[str]:
    """What to take with a smaller number of labelled images, where the best with most of them cannot be the best."""
    said = []
    for shots, place in sorted(best.places.items()):
        there = [one for one in ran if shots in one.places and one.places[shots].is_possible_best]
        if place.is_possible_best or not there:
            continue
        leader = max(there, key=lambda one: one.places[shots].difference or 0.0)
        if leader.status != "control":
            said.append(f"With {counted(shots, 'labelled image')} per class, take {leader.name} instead.")
    return said


def _faster(best: RankedCandidate, others: Sequence[RankedCandidate]) -> list[str]:
    """Which of those that cannot be told apart is much faster, and what it may cost."""
    times = {one.name: _times_as_fast(one, best) for one in others}
    if not times or max(times.values()) < MUCH_FASTER:
        return []
    fastest = max(others, key=lambda one: times[one.name])
    said = f"{fastest.name} is about {times[fastest.name]:.{0 if times[fastest.name] >= 10 else 1}f} times as fast"
    if fastest.place is None or fastest.place.difference_interval is None:
        return [f"{said}."]
    return [f"{said}, and at most {abs(fastest.place.difference_interval[0]) * 100:.1f} points behind the best."]


def _times_as_fast(one: RankedCandidate, best: RankedCandidate) -> float:
    """How much faster a candidate ran, no more than its work per image explains; 0 if that is not known."""
    if one.speed is None or best.speed is None:
        return 0.0
    times = one.speed.images_per_second / best.speed.images_per_second
    if one.facts.gmacs and best.facts.gmacs and best.facts.gmacs / one.facts.gmacs < MUCH_FASTER:
        return 0.0  # on a busy machine, speeds vary
    return times


def _about_labels(best: RankedCandidate) -> list[str]:
    return [_labels(best.name, one) for one in best.labels_needed.values()]


def _labels(name: str, one: LabelsNeeded) -> str:
    target = f"{one.target * 100:g}%"
    if one.value is None:
        how = "by extrapolation, " if one.extrapolated else ""
        return f"{target} is {one.reason}; {how}{name} needs {one.between} labelled images per class."
    span = f" ({one.between})" if one.interval[0] != one.interval[1] else ""
    return f"For {target}, {name} needs about {counted(one.value, 'labelled image')} per class{span}."


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first of many.

    >>> _listed(["a", "b"]), _listed(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 others')
    >>> _listed(["a, 224×224", "a, 96×96", "b"])
    'a, 224×224; a, 96×96 and b'
    """
    comma = "; " if any("," in name for name in names) else ", "
    if len(names) > MOST_NAMED + 1:
        return f"{comma.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} others"
    return " and ".join(filter(None, [comma.join(names[:-1]), names[-1]]))


def _has(names: Sequence[object]) -> str:
    return "has" if len(names) == 1 else "have"
