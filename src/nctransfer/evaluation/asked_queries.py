"""The queries of a batch of episodes, ready to be classified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import BALANCED
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.uneven_queries import PackedQueries

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.classifier import ClassifierSettings, Report
    from nctransfer.episodes.episode import Episodes
    from nctransfer.episodes.inner_products import Products
    from nctransfer.episodes.pool import Pool

__all__ = ["AskedQueries"]


@dataclass(frozen=True, eq=False)
class AskedQueries:
    """Episodes of one number of shots with their inner products.

    Attributes:
        episodes: The episodes.
        products: Their inner products; without the padding of uneven queries.
        packed: How answers are put back to where the padding was; ``None`` if the products have the queries of the
            episodes as they are.
    """

    episodes: Episodes
    products: Products
    packed: PackedQueries | None = None

    @classmethod
    def of(cls, episodes: Episodes, pool: Pool, query_prior: str, *, by_centres: bool) -> AskedQueries:
        """The episodes with inner products that are computed for them.

        Args:
            episodes: Episodes of one number of shots.
            pool: The features.
            query_prior: How queries are spread over the classes.
            by_centres: Whether class centres are multiplied in place of support samples.
        """
        packed = None if query_prior == BALANCED else PackedQueries.of(episodes)
        asked = episodes if packed is None else packed.episodes
        return cls(episodes, pool(asked, by_centres=by_centres), packed)

    def answers(self, classifier: str, settings: ClassifierSettings, report: Report | None = None) -> torch.Tensor:
        """The predicted class of each query, from 0 to ``w − 1``, ``(E, Q)``.

        Args:
            classifier: The name of the classifier.
            settings: What it needs to know of the task.
            report: Receives what it reports beside scores.
        """
        chosen = CLASSIFIERS[classifier].scores(self.products, settings, report).max(dim=2).indices.cpu()
        return chosen if self.packed is None else self.packed.unpacked(chosen, self.episodes.queries[0].numel())
