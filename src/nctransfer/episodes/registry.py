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
from nctransfer.episodes.soft_kmeans import SOFT_KMEANS
from nctransfer.errors import SettingError, did_you_mean
from nctransfer.registry import Registry

__all__ = [
    "CLASSIFIERS",
    "ONE_BY_ONE",
    "check_inductive",
    "choose_classifiers",
    "is_inductive",
    "only_centres",
    "reported_names",
]

ONE_BY_ONE = "here each image is classified by itself"

_OWN = (RIDGE, NCC, COSINE, SIMPLESHOT, LOGISTIC, KNN, PROXIES, SOFT_KMEANS)
CLASSIFIERS: Registry[Classifier] = Registry("nctransfer.classifiers", Classifier, _OWN)
"""Every classifier by name."""


def choose_classifiers(names: Iterable[str], only_inductive: str = "") -> tuple[str, ...]:
    """The names of classifiers, each once; ``all`` alone stands for all of them.

    Args:
        names: The names.
        only_inductive: Why transductive classifiers cannot be used here, which ``all`` then leaves out; empty if they
            can be used.

    Raises:
        SettingError: There is no classifier of that name, or it is transductive and cannot be used here.

    >>> choose_classifiers(["ncc", "ridge", "ncc"])
    ('ncc', 'ridge')
    """
    chosen = tuple(dict.fromkeys(names))
    if chosen == ("all",):
        return tuple(name for name in CLASSIFIERS if not (only_inductive and CLASSIFIERS[name].is_transductive))
    if unknown := [name for name in chosen if name not in CLASSIFIERS]:
        raise SettingError(
            f"there is no classifier {unknown[0]!r}",
            f"{did_you_mean(unknown[0], CLASSIFIERS)} choose --classifier from {', '.join(CLASSIFIERS)} or all".strip(),
        )
    if only_inductive:
        check_inductive(chosen, only_inductive)
    return chosen


def check_inductive(names: Iterable[str], why: str) -> None:
    """Refuse classifiers whose answer for a query depends on the other queries.

    Args:
        names: Names of classifiers.
        why: Why they cannot be used here.

    Raises:
        SettingError: One of them is transductive.
    """
    for name in names:
        if name in CLASSIFIERS and CLASSIFIERS[name].is_transductive:
            inductive = [other for other in CLASSIFIERS if not CLASSIFIERS[other].is_transductive]
            raise SettingError(
                f"{name} is transductive, its answer for one query depends on the other queries of the episode; {why}",
                f"choose from {', '.join(inductive)}; nctransfer fewshot with drawn queries measures {name}",
            )


def is_inductive(classifier: Classifier) -> bool:
    """Whether the answer for a query does not depend on the other queries."""
    return not classifier.is_transductive


def only_centres(chosen: Iterable[str]) -> bool:
    """Whether all of these classifiers depend on the support through its class centres only."""
    return all(CLASSIFIERS[name].by_centres for name in chosen)


def reported_names(chosen: Iterable[str]) -> tuple[str, ...]:
    """What classifiers report beside scores: those of this package, and the chosen ones of other packages.

    Results name all of them, so that the columns of a table do not depend on which of this package's classifiers ran.
    """
    entries = (*_OWN, *(CLASSIFIERS[name] for name in chosen))
    return tuple(dict.fromkeys(name for entry in entries for name in entry.reports))
