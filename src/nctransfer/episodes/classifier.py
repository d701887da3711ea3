"""What an entry of the classifier registry says about itself: its function, its settings, its expected form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from nctransfer.errors import SettingError

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.inner_products import Products

__all__ = ["RIDGE_LAMBDA", "Classifier", "ClassifierSettings", "ExpectedForm", "Report", "RidgePenalty"]

Report = Callable[[str, "torch.Tensor"], None]
RidgePenalty = float | Literal["loo", "paper"]

RIDGE_LAMBDA = 0.4  # λ₀, chosen by tests/benchmarks/ridge_lambda.py; docs/choosing-a-backbone.md shows its table


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What a classifier may need to know of a task beside the inner products.

    Attributes:
        shots: The smallest number of shots of the task.
        ridge_lambda: The penalty of ridge regression: a number above zero, relative to the mean squared length of the
            centred support; ``"loo"`` if each episode chooses its own by leave-one-out; ``"paper"`` for the absolute
            ``√(ways · shots)``.
        has_reference_mean: Whether the mean of a reference set has been subtracted from the features.

    Raises:
        SettingError: ``ridge_lambda`` is not a penalty.
    """

    shots: int = 1
    ridge_lambda: RidgePenalty = RIDGE_LAMBDA
    has_reference_mean: bool = False

    def __post_init__(self) -> None:
        given = self.ridge_lambda
        if given in ("loo", "paper") or (isinstance(given, int | float) and 0 < given < math.inf):
            return
        raise SettingError(
            f"the penalty of ridge is {given!r}; expected a number above zero, 'loo' or 'paper'",
            "give --ridge-lambda a number above zero, loo or paper",
        )


@dataclass(frozen=True, kw_only=True)
class ExpectedForm:
    """How the mean accuracy of a classifier over all episodes is computed without drawing one.

    It exists for classifiers whose score of class c is linear in the query f and depends, of all support samples, only
    on the centre m_c of the support of class c: ``⟨f, w(m_c)⟩ − b(m_c)``.

    Attributes:
        linear: From centres ``(t, d)`` to w ``(t, d)`` and b ``(t,)``.
        is_translation_invariant: Whether subtracting one vector from all features leaves the predictions as they are.
        scales_features: Whether features are scaled to unit length first.
        needs_reference_mean: Whether this is the form only after the mean of a reference set was subtracted.
        from_products: The score by inner products alone, if it can be had so: from ``⟨f, m_c⟩`` and ``‖m_c‖²``, of
            shapes that broadcast. Supports of few samples then cost less.
    """

    linear: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    is_translation_invariant: bool = True
    scales_features: bool = False
    needs_reference_mean: bool = False
    from_products: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None


def _no_options(settings: ClassifierSettings) -> Mapping[str, Any]:  # noqa: ARG001 - the signature of `options`
    return {}


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """A few-shot classifier: an entry of the registry.

    Attributes:
        name: The name by which users choose it.
        function: From :class:`~nctransfer.episodes.inner_products.Products` to a score for each query and class,
            ``(E, Q, w)``; the class of the highest score is predicted.
        meaning: What it does, in a few words for the help text.
        options: The keyword arguments of the function for a task; raises
            :class:`~nctransfer.errors.EpisodeError` if the settings do not suit the classifier.
        reports: Names of numbers that the function reports beside the scores. Such a function takes a keyword argument
            ``report`` and calls ``report(name, values)`` with one value per episode, ``(E,)``; results hold the
            largest.
        averaged: Those of them of which results hold the mean over episodes instead.
        expected: How its expected accuracy is computed; ``None`` if there is no such form.
        has_theory: Whether it is nearest class centre by Euclidean distance on the features as they are, which the
            error bounds and the normal approximation of the expected accuracy describe.
        by_centres: Whether the scores depend on the support through its class centres only, so that they are the same
            for one support sample per class that lies there.
        directions: The weights of the classifier by features in place of inner products, which is less work for
            supports of more samples than features have dimensions: from the centred support ``(E, N, d)`` and the
            number of ways to ``(E, d, w)``. It takes the same options as the function, and gives ``None`` for options
            that it cannot do.
        left_out: The scores of the support itself, each sample by the classifier fitted without it and without the
            sample of the same number of each other class, in closed form: from the inner products to ``(E, w, s, w)``.
            It takes the same options as the function, and gives ``None`` for options that it cannot do. Without it,
            the classifier is fitted as often as there are shots, see
            :mod:`~nctransfer.episodes.leaving_one_out`.
        is_transductive: Whether the answer for a query depends on the other queries of its episode. Such a classifier
            asks for :attr:`~nctransfer.episodes.inner_products.Products.queries`.
    """

    name: str
    function: Callable[..., torch.Tensor]
    meaning: str
    options: Callable[[ClassifierSettings], Mapping[str, Any]] = _no_options
    reports: tuple[str, ...] = ()
    averaged: tuple[str, ...] = ()
    expected: ExpectedForm | None = None
    has_theory: bool = False
    by_centres: bool = False
    directions: Callable[..., torch.Tensor | None] | None = None
    left_out: Callable[..., torch.Tensor | None] | None = None
    is_transductive: bool = False

    def scores(
        self, products: Products, settings: ClassifierSettings | None = None, report: Report | None = None
    ) -> torch.Tensor:
        """The score of each query and class, ``(E, Q, w)``.

        Args:
            products: The inner products of E episodes.
            settings: What the task says; by default nothing.
            report: Receives what the classifier reports; by default nobody does.

        Raises:
            SettingError: The settings do not suit the classifier.
        """
        options = dict(self.options(settings or ClassifierSettings()))
        if self.reports and report is not None:
            options["report"] = report
        return self.function(products, **options)
