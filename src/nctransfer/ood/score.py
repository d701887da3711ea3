"""What an entry of the registry of scores says about itself, and what scores are made from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from nctransfer.devices import with_float64
from nctransfer.heads.class_distances import ClassDistances
from nctransfer.heads.principal_share import PrincipalShare, principal_axes

if TYPE_CHECKING:
    import torch

    from nctransfer.features.feature_set import FeatureSet
    from nctransfer.heads.linear_classifier import LinearClassifier

    Scoring = Callable[[torch.Tensor], torch.Tensor]

__all__ = ["OodScore", "Reference"]


@dataclass(frozen=True, kw_only=True)
class OodScore:
    """A score of how unlike the known classes an image is: an entry of the registry.

    Attributes:
        name: The name by which users find it.
        meaning: What it is, in a few words for the help.
        function: From :class:`Reference` to a function that gives features ``(b, d)`` their scores ``(b,)``; larger is
            more unlike. Its docstring is the definition.
        formula: The formula, for tables of documents.
        source: Where it is defined.
        needs: What it takes of the training images: their ``features`` alone, their ``classes``, or a ``classifier``
            that is fitted to them.
    """

    name: str
    meaning: str
    function: Callable[[Reference], Scoring]
    formula: str
    source: str
    needs: Literal["features", "classes", "classifier"]


class Reference:
    """Training images of the known classes, with what several scores share; each part is computed when first used.

    Args:
        features: n images of C classes, at least two of each.
        classifier: The classifier of the scores that need one; see
            :func:`~nctransfer.heads.left_out_scores.left_out_scores`.
        device: Where to compute.
    """

    def __init__(self, features: FeatureSet, classifier: str = "ridge", device: str = "auto") -> None:
        self.features, self.device = features, device
        self._classifier = classifier

    @functools.cached_property
    def distances(self) -> ClassDistances:
        """Metrics within classes and of all images, at unit length."""
        return ClassDistances(self.features, with_float64(self.device))

    @functools.cached_property
    def axes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean ``(d,)`` of the images and their principal axes ``(r, d)`` by descending variance, float32."""
        centre, axes, _ = principal_axes(self.features, self.device)
        return centre.float().cpu(), axes.float().cpu()

    @functools.cached_property
    def share(self) -> PrincipalShare:
        """The C − 1 first principal axes."""
        centre, axes = self.axes
        number = max(1, min(int((self.features.counts > 0).sum()) - 1, len(axes)))
        return PrincipalShare(centre=centre, axes=axes[:number].half().float())

    @functools.cached_property
    def fitted(self) -> tuple[LinearClassifier, torch.Tensor]:
        """A classifier with its calibrated temperature, and the logits of the images, each left out, ``(n, C)``."""
        from nctransfer.heads.calibration import fitted_temperature
        from nctransfer.heads.left_out_scores import left_out_scores

        found = left_out_scores(self.features, self._classifier, self.device, partitions=1)
        temperature = fitted_temperature(found.scores, self.features.labels)
        return replace(found.linear, temperature=temperature), found.scores / temperature

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """The scores of the classifier over its temperature, ``(b, C)`` float32."""
        linear, _ = self.fitted
        return linear.scores(features) / linear.temperature
