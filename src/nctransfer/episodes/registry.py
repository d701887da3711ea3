"""The registry of few-shot classifiers.

To add one: write its function and its :class:`~nctransfer.episodes.classifier.Classifier` in one file, list the entry
below, and give it an oracle in a test. Other packages add theirs by an entry point of the group
``nctransfer.classifiers``.
"""

from __future__ import annotations

from collections.abc import Iterable

from nctransfer.episodes.classifier import Classifier
from nctransfer.episodes.logistic import LOGISTIC
from nctransfer.episodes.nearest import COSINE, KNN, NCC, SIMPLESHOT
from nctransfer.episodes.proxies import PROXIES
from nctransfer.episodes.ridge import RIDGE
from nctransfer.errors import SettingError, did_you_mean
from nctransfer.registry import Registry

__all__ = ["CLASSIFIERS", "choose_classifiers", "only_centres", "reported_names"]

_OWN = (RIDGE, NCC, COSINE, SIMPLESHOT, LOGISTIC, KNN, PROXIES)
CLASSIFIERS: Registry[Classifier] = Registry("nctransfer.classifiers", Classifier, _OWN)
"""Every classifier by name."""


def choose_classifiers(names: Iterable[str]) -> tuple[str, ...]:
    """The names of classifiers, each once; ``all`` alone stands for all of them.

    Raises:
        SettingError: There is no classifier of that name.

    >>> choose_classifiers(["ncc", "ridge", "ncc"])
    ('ncc', 'ridge')
    """
    chosen = tuple(dict.fromkeys(names))
    if chosen == ("all",):
        return tuple(CLASSIFIERS)
    if unknown := [name for name in chosen if name not in CLASSIFIERS]:
        raise SettingError(
            f"there is no classifier {unknown[0]!r}",
            f"{did_you_mean(unknown[0], CLASSIFIERS)} choose --classifier from {', '.join(CLASSIFIERS)} or all".strip(),
        )
    return chosen


def only_centres(chosen: Iterable[str]) -> bool:
    """Whether all of these classifiers depend on the support through its class centres only."""
    return all(CLASSIFIERS[name].by_centres for name in chosen)


def reported_names(chosen: Iterable[str]) -> tuple[str, ...]:
    """What classifiers report beside scores: those of this package, and the chosen ones of other packages.

    Results name all of them, so that the columns of a table do not depend on which of this package's classifiers ran.
    """
    entries = (*_OWN, *(CLASSIFIERS[name] for name in chosen))
    return tuple(dict.fromkeys(name for entry in entries for name in entry.reports))
