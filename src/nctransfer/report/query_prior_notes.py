"""What sheets say about how queries are spread over classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.episodes.query_prior import BALANCED, QueryPrior

if TYPE_CHECKING:
    from nctransfer.evaluation.fewshot_results import FewShotResult, FewShotRow

__all__ = ["about_query_priors", "query_prior_facts"]

MEANINGS = {
    "dirichlet": "the class of each query is drawn, with proportions that are drawn anew for each episode",
    "empirical": "the class of each query is drawn, in proportion to the numbers of images",
}


def query_prior_facts(result: FewShotResult) -> dict[str, str]:
    """The query prior that was asked for, as a line above a table; nothing for the usual one."""
    name = result.task.query_prior
    return {} if name == BALANCED else {"query prior": f"{name}: {MEANINGS[QueryPrior.parse(name).kind]}"}


def about_query_priors(rows: Sequence[FewShotRow]) -> str:
    """What the query priors of rows mean, and how often there were fewer queries than were drawn.

    Args:
        rows: The rows of a result.
    """
    words = []
    if twice := list(dict.fromkeys(row.classifier for row in rows if row.label != row.classifier)):
        priors = list(dict.fromkeys(row.query_prior for row in rows if row.classifier in twice))
        verb = "answers each query by all queries of the episode" if len(twice) == 1 else "answer by all queries"
        words.append(
            f"{' and '.join(twice)} {verb}, so that accuracy depends on how queries are spread over classes: "
            f"{' and '.join(priors)} are both shown."
        )
    if most := max((row.shortened or 0 for row in rows), default=0):
        words.append(
            f"In {'up to ' if len({row.shortened for row in rows if row.shortened is not None}) > 1 else ''}"
            f"{most:.0%} of the episodes a class has fewer images than queries were drawn: these episodes have fewer "
            "queries, in the same proportions."
        )
    return "".join(f" {one}" for one in words)
