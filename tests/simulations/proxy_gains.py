"""Several proxies per class: how many are chosen and what they gain, on classes of one part and of several."""

from __future__ import annotations

import numpy as np
import torch
from laws import LAWS, Law

from nctransfer.episodes.inner_products import Products
from nctransfer.episodes.kernel_means import first_points, means_of
from nctransfer.episodes.nearest import ncc
from nctransfer.episodes.proxies import _Classes, _LeftOut, proxies
from nctransfer.episodes.proxy_numbers import numbers_tried
from page_tables import markdown

TITLE = "Proxies: how many are chosen, and what they gain"
STUDIES = 1
EPISODES = 100  # of a study, each of classes of its own
WAYS, QUERIES = 5, 24
SHOTS = (3, 5, 10, 20, 40)
GAUSSIAN, POWER, HEAVY, _ = LAWS
DESIGNS = ((GAUSSIAN, 1), (POWER, 1), (HEAVY, 1), (GAUSSIAN, 2), (POWER, 2), (GAUSSIAN, 4), (POWER, 4))
COMPARED = 4  # proxies, of which the bias of leaving out is shown


def table(studies: int) -> str:
    """One row for each law, number of parts and number of shots.

    Args:
        studies: Draws of 100 episodes.
    """
    rows = [_row(law, parts, shots, studies) for law, parts in DESIGNS for shots in SHOTS]
    columns = ["law", "parts", "shots", "ncc", "gain", "at best", "k at best", "mean k", "one proxy"]
    columns += [f"favours {COMPARED} by: refits", f"favours {COMPARED} by: mean only"]
    return markdown(columns, rows)


def _row(law: Law, parts: int, shots: int, studies: int) -> list[str]:
    right: dict[object, list[float]] = {}
    chosen: list[float] = []
    favours: dict[str, list[float]] = {"refits": [], "mean only": []}
    numbers = numbers_tried(shots)
    for study in range(studies):
        x, f, truth = _episodes(law, parts, shots, study)
        products = Products.of(x, f, WAYS)

        def accuracy(scores: torch.Tensor, truth: torch.Tensor = truth) -> list[float]:
            found: list[float] = (scores.argmax(dim=2) == truth).double().mean(dim=1).tolist()
            return found

        right.setdefault("ncc", []).extend(accuracy(ncc(products)))
        found = proxies(products, report=lambda _, values: chosen.extend(values.tolist()))
        right.setdefault("proxies", []).extend(accuracy(found))
        for number in numbers:
            right.setdefault(number, []).extend(accuracy(proxies(products, number)))
        if COMPARED in numbers:
            for name, rises in favours.items():
                rises.append(
                    _rise(products, x, name) - np.mean(right[COMPARED][-EPISODES:]) + np.mean(right[1][-EPISODES:])
                )
    gains = np.array(right["proxies"]) - np.array(right["ncc"])
    best = max(numbers, key=lambda number: np.mean(right[number]))
    error = 100 * gains.std() / np.sqrt(len(gains))
    return [
        law.name,
        str(parts),
        str(shots),
        f"{100 * np.mean(right['ncc']):.1f}",
        f"{100 * gains.mean():+.2f} ± {1.96 * error:.2f}",
        f"{100 * (np.mean(right[best]) - np.mean(right['ncc'])):+.2f}",
        str(best),
        f"{np.mean(chosen):.1f}",
        f"{np.mean(np.array(chosen) == 1):.0%}",
        *(f"{100 * np.mean(rises):+.1f}" if rises else "–" for rises in favours.values()),
    ]


def _episodes(law: Law, parts: int, shots: int, study: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support, queries and the classes of queries of episodes; each image belongs to a random part of its class."""
    rng = np.random.default_rng([study, parts, shots, LAWS.index(law)])
    classes = EPISODES * WAYS
    means = law.means(rng, classes * parts).reshape(classes, parts, -1) * (1 if parts == 1 else 1.3)

    def drawn(each: int) -> torch.Tensor:
        part = rng.integers(parts, size=(classes, each))
        rows = means[np.arange(classes)[:, None], part] + law.noise(rng, classes, each)
        return torch.from_numpy(rows.reshape(EPISODES, WAYS * each, -1))

    return drawn(shots), drawn(QUERIES), torch.arange(WAYS).repeat_interleave(QUERIES)


def _rise(products: Products, x: torch.Tensor, how: str) -> float:
    """By how much leaving out says that accuracy rises from one proxy to several."""
    classes = _Classes.of(products)
    one, several = (
        _by_refits(classes, number) if how == "refits" else _by_means_only(classes, x, number)
        for number in (1, COMPARED)
    )
    return several - one


def _by_refits(classes: _Classes, number: int) -> float:
    """The accuracy on samples that are left out, k-means being run again without them."""
    margins = _LeftOut(classes, number).margins(number)
    return float((margins.amax(dim=2) <= 0).double().mean())


def _by_means_only(classes: _Classes, x: torch.Tensor, number: int) -> float:
    """The same if a sample is only taken out of the mean of its own proxy, and all others stay where they are.

    The distance to a mean of n samples, without one of them, is ``n/(n − 1)`` times as large.
    """
    shots = x.shape[1] // WAYS
    every = torch.ones(1, shots, dtype=torch.bool)
    weights = means_of(classes.distances, every, first_points(classes.distances, number)[:, None])[:, :, 0]
    weights = weights.view(-1, WAYS, shots, number)
    means = weights.mT @ x.view(-1, WAYS, shots, x.shape[2])
    squares = torch.cdist(x, means.flatten(1, 2)).square().view(-1, WAYS, shots, WAYS, number)
    squares = squares.masked_fill((weights.sum(dim=2) == 0)[:, None, None], torch.inf)
    counts = 1 / weights.where(weights > 0, torch.inf)  # of the proxy of a sample, infinite for all others
    for way in range(WAYS):
        own, n = squares[:, way, :, way], counts[:, way]
        factor = (n / (n - 1)).square().where(weights[:, way] > 0, 1)
        squares[:, way, :, way] = own * factor
    predicted = squares.nan_to_num(nan=torch.inf).amin(dim=4).argmin(dim=3)
    return float((predicted == torch.arange(WAYS)[:, None]).double().mean())
