"""Few-shot classifiers, batched over episodes.

All of them need inner products only: of the support with itself, and of the queries with the support. Shapes: E
episodes, w ways, s shots, N = w·s support samples (class by class), Q queries. A classifier returns a score for
each query and class, ``(E, Q, w)``; the highest wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.logistic import logistic
from nctransfer.episodes.nearest import cosine, knn, ncc, simpleshot
from nctransfer.episodes.ridge import ridge

if TYPE_CHECKING:
    import torch

__all__ = ["CLASSIFIERS", "Classifier"]

Classifier = Callable[[Products], "torch.Tensor"]
CLASSIFIERS: Mapping[str, Classifier] = {
    "ridge": ridge,
    "ncc": ncc,
    "cosine": cosine,
    "simpleshot": simpleshot,
    "logistic": logistic,
    "knn": knn,
}
"""Every classifier by name."""
