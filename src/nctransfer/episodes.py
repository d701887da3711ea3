"""Few-shot episodes: which classes, which queries, which support.

An episode draws ``ways`` classes without replacement, and for each class one random order of its samples: the first
``queries`` are the queries, the next ``shots`` the support. So episodes of fewer shots are those of more shots,
cut short. Episode number e depends on the seed and on e alone: a block of episodes has a generator of its own and
is always drawn whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.errors import EpisodeError, counted
from nctransfer.features import FeatureSet

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

__all__ = ["EpisodeSpec", "Episodes", "check", "sample"]

BLOCK = 1024  # part of the definition of an episode: another number gives other episodes


@dataclass(frozen=True)
class EpisodeSpec:
    """A task: n-way, k-shot, with so many queries a class.

    Raises:
        EpisodeError: A number is too small.
    """

    ways: int = 5
    shots: int = 1
    queries: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("seed", 0)):
            if (given := getattr(self, name)) < least:
                raise EpisodeError(f"{name} is {given}; it must be at least {least}")


@dataclass(frozen=True, eq=False)
class Episodes:
    """Some episodes of one task, as rows of a feature set.

    Attributes:
        classes: ``(E, ways)`` class codes.
        queries: ``(E, ways, queries)`` row numbers.
        support: ``(E, ways, shots)`` row numbers.
    """

    classes: torch.Tensor
    queries: torch.Tensor
    support: torch.Tensor


def check(features: FeatureSet, spec: EpisodeSpec) -> None:
    """Whether a task can be drawn from a feature set.

    Raises:
        EpisodeError: More ways than classes, or a class of too few samples; the message names them.
    """
    usable = features.counts >= 2
    if int(usable.sum()) < 2:
        small = [features.classes[code] for code in (~usable).nonzero()[:, 0].tolist()]
        raise EpisodeError(
            f"{features.info.id} has {counted(int(usable.sum()), 'class', 'classes')} of two samples or more"
            + (f"; too small: {_listed(small)}" if small else ""),
            "episodes need at least two classes",
        )
    if spec.ways > len(features.classes):
        raise EpisodeError(
            f"{spec.ways} ways were asked for, and there are {len(features.classes)} classes",
            f"give --ways {len(features.classes)} or less",
        )
    needed = spec.shots + spec.queries
    short = [
        f"{name!r} ({count})"
        for name, count in zip(features.classes, features.counts.tolist(), strict=True)
        if count < needed
    ]
    if short:
        least = int(features.counts.min())
        fewer = least - spec.shots
        raise EpisodeError(
            f"{spec.shots} shots and {spec.queries} queries need {needed} samples of every class; "
            f"{len(short)} of {len(features.classes)} have fewer: {', '.join(short[:5])}{', …' * (len(short) > 5)}",
            (f"give --queries {fewer} or less, " if fewer > 0 else "give fewer shots, ")
            + "more images of these classes, or leave them out by --classes FILE",
        )


def sample(features: FeatureSet, spec: EpisodeSpec, episodes: int) -> Iterator[Episodes]:
    """The first ``episodes`` episodes of a task, a block at a time.

    Raises:
        EpisodeError: See :func:`check`.
    """
    import numpy as np
    import torch

    check(features, spec)
    sizes = features.counts.numpy()
    starts = np.cumsum(sizes) - sizes  # rows are sorted by class
    for block in range(-(-episodes // BLOCK)):
        kept = min(BLOCK, episodes - block * BLOCK)
        of_classes, of_samples = (
            np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(block, use))) for use in (0, 1)
        )
        classes = _draw(of_classes, np.full(BLOCK, len(sizes)), spec.ways).T  # (E, w)
        drawn = _draw(of_samples, sizes[classes].reshape(-1), spec.queries + spec.shots)
        rows = torch.from_numpy(drawn.T.reshape(BLOCK, spec.ways, -1) + starts[classes][..., None])  # (E, w, q + s)
        yield Episodes(
            torch.from_numpy(classes)[:kept],
            rows[:kept, :, : spec.queries],
            rows[:kept, :, spec.queries :],
        )


def _draw(generator: np.random.Generator, sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """``count`` numbers below each size without replacement, ``(count, len(sizes))``.

    Fisher and Yates' shuffle, stopped after ``count`` steps; of the array that it would shuffle only the places that
    were written to are kept. A smaller count gives the first rows of a larger one.
    """
    import numpy as np

    columns = np.arange(len(sizes))
    places = np.empty((count, len(sizes)), np.int64)  # where step k wrote
    values = np.empty_like(places)  # and what
    drawn = np.empty_like(places)

    def value_at(place: NDArray[np.int64], steps: int) -> NDArray[np.int64]:
        written = places[:steps][::-1] == place
        latest = steps - 1 - written.argmax(axis=0)
        return np.where(written.any(axis=0), values[latest, columns], place)

    for step in range(count):
        uniform = generator.random(len(sizes))
        places[step] = step + np.minimum((uniform * (sizes - step)).astype(np.int64), sizes - step - 1)
        here = np.full(len(sizes), step)
        drawn[step] = value_at(places[step], step) if step else places[step]
        values[step] = value_at(here, step) if step else here
    return drawn


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(map(repr, names[:most])) + (", …" if len(names) > most else "")
