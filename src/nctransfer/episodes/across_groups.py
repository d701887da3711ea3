"""Episodes whose queries are all of one group, with a support of other groups: how well does a new site do?

The rule of drawing, for w ways, s shots and q queries:

1. The group of the queries is drawn, each group with enough images of w classes with the same chance.
2. Of these classes, w are drawn.
3. Of the images of each class in the group, q are drawn as queries; if there are fewer, all of them are. All other
   images of the class are put in random order, and the first s that a rule allows are the support.

So episodes with the same queries can have supports of several rules: of all other groups, of all groups, or of the same
group, and accuracies are compared on the same queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.episodes.episode import Episodes
from nctransfer.errors import EpisodeError, counted, join_names

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.episodes.groups import Groups
    from nctransfer.features.feature_set import FeatureSet

__all__ = ["BLOCK", "AcrossDraws", "AcrossPlan", "check_classes", "draw_across", "unfit_classes"]

BLOCK = 32  # episodes that share a generator; another number would give other episodes
STREAM = 7  # of the seed, beside those of other draws


def unfit_classes(cells: torch.Tensor, shots: int) -> torch.Tensor:
    """Which classes cannot be asked on a new group, ``(C,)`` bool: no group leaves them enough images of other groups.

    Args:
        cells: The number of images of each class and group, ``(C, G)``.
        shots: Support samples per class.

    >>> import torch
    >>> unfit_classes(torch.tensor([[5, 5], [9, 0], [1, 3]]), shots=3).tolist()
    [False, True, False]
    """
    return ~((cells > 0) & (cells.sum(dim=1, keepdim=True) - cells >= shots)).any(dim=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AcrossPlan:
    """What can be drawn.

    Attributes:
        groups: The group of each sample; every sample has one.
        cells: The number of images of each class and group, ``(C, G)``.
        is_usable: Whether a group can ask a class: it has enough images of it, and the others too; ``(C, G)`` bool.
        is_paired: Whether every usable cell has images enough for a support of the same group beside a query.
        query_groups: The numbers of the groups that have enough classes, ``(g,)``.
    """

    groups: Groups
    cells: torch.Tensor
    is_usable: torch.Tensor
    is_paired: bool
    query_groups: torch.Tensor

    @classmethod
    def of(cls, features: FeatureSet, groups: Groups, spec: EpisodeSpec) -> AcrossPlan:
        """What can be drawn from a feature set in which every sample has a group.

        If two groups have more images of enough classes than the shots, only classes of which a group has so many are
        asked: then supports of other groups are compared with those of the same group, and of all groups.

        Raises:
            EpisodeError: A class cannot be asked, or no group has enough classes; the message names them.
        """
        import torch

        cells = groups.cells(features)
        check_classes(features, groups, cells, spec.shots)
        can_ask = (cells > 0) & (cells.sum(dim=1, keepdim=True) - cells >= spec.shots)
        for least in (spec.shots + 1, 1):
            usable = can_ask & (cells >= least)
            asking = (usable.sum(dim=0) >= spec.ways).nonzero()[:, 0]
            if len(asking) >= 2:
                paired = least > 1
                return cls(groups=groups, cells=cells, is_usable=usable, is_paired=paired, query_groups=asking)
        most = int(torch.max(can_ask.sum(dim=0)))
        raise EpisodeError(
            f"{spec.ways} ways need two groups with images of {spec.ways} classes or more, of which other groups have "
            f"{counted(spec.shots, 'image')}; a group of {groups.column!r} has at most {most} such classes",
            f"give --ways {most} or less" if most >= 2 else "give data in which groups share classes",
        )

    @property
    def asked(self) -> torch.Tensor:
        """The number of images of each class and group that is asked, ``(C, G)``; 0 where queries are never drawn."""
        return self.cells * self.is_usable * self.groups_asked

    @property
    def groups_asked(self) -> torch.Tensor:
        """Whether queries are drawn from each group, ``(G,)`` bool."""
        import torch

        return torch.isin(torch.arange(len(self.groups)), self.query_groups)

    @property
    def classes_asked(self) -> torch.Tensor:
        """Whether each class takes part in episodes, ``(C,)`` bool."""
        return (self.asked > 0).any(dim=1)

    def never_asked(self, features: FeatureSet, spec: EpisodeSpec) -> Iterator[str]:
        """Which classes and groups have no queries and why, in words."""
        enough = counted(spec.shots + 1 if self.is_paired else 1, "image")
        kinds = {
            ("class", "classes"): (
                features.classes,
                self.classes_asked,
                f"no group that is asked has {enough} of them",
            ),
            ("group", "groups"): (
                self.groups.names,
                self.groups_asked,
                f"they have {enough} of fewer than {counted(spec.ways, 'class', 'classes')}",
            ),
        }
        for noun, (names, is_asked, reason) in kinds.items():
            if unasked := [repr(name) for name, asked in zip(names, is_asked.tolist(), strict=True) if not asked]:
                yield (
                    f"with {spec.ways} ways, {len(unasked)} of {counted(len(names), *noun)} get no queries, because "
                    f"{reason} beside {counted(spec.shots, 'shot')} of other groups: {join_names(unasked)}"
                )


def check_classes(features: FeatureSet, groups: Groups, cells: torch.Tensor, shots: int) -> None:
    """Refuse classes that cannot be asked on a new group.

    Args:
        features: The features, of which every sample has a group.
        groups: The groups.
        cells: The number of images of each class and group, ``(C, G)``.
        shots: Support samples per class.

    Raises:
        EpisodeError: There are such classes; the message names them.
    """
    unfit = unfit_classes(cells, shots).nonzero()[:, 0].tolist()
    if not unfit:
        return
    held = [(repr(features.classes[code]), int((cells[code] > 0).sum()), int(cells[code].sum())) for code in unfit]
    said = [f"{name} ({counted(number, 'group')}, {counted(images, 'image')})" for name, number, images in held]
    if all(groups_of_class == 1 for _, groups_of_class, _ in held) and len(unfit) == len(features.classes):
        raise EpisodeError(
            f"every class has images of one group of {groups.column!r} only, for example {said[0]}, so none can be "
            "asked on a new group",
            "take classes that occur in several groups, for example by another --label-column, or another --group; "
            "without --across-groups, accuracies are by group of the queries",
        )
    fewer = shots > 1 and any(groups_of_class > 1 for _, groups_of_class, _ in held)
    ways_out = ["give fewer --shots"] * fewer + ["give images of these classes of other groups"]
    ways_out += ["leave them out by --drop-small"] * (len(features.classes) - len(unfit) >= 2)
    raise EpisodeError(
        f"queries of one group and {counted(shots, 'shot')} of others need images of two groups or more; "
        f"{len(unfit)} of {len(features.classes)} classes have too few by {groups.column!r}: {join_names(said)}",
        ", or ".join(ways_out),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class AcrossDraws:
    """A batch of E episodes before their support is chosen.

    Attributes:
        group: The group of the queries, ``(E,)``.
        classes: Class codes, ``(E, w)``.
        queries: Row numbers of the queries, ``(E, w, q)``.
        is_query: Which of them count, ``(E, w, q)`` bool: false where a class has fewer.
        others: Row numbers of all other images of the class in random order, ``(E, w, x)``; −1 where there are no more.
        others_group: Their groups, ``(E, w, x)``; −1 where there are no more.
    """

    group: torch.Tensor
    classes: torch.Tensor
    queries: torch.Tensor
    is_query: torch.Tensor
    others: torch.Tensor
    others_group: torch.Tensor

    def __len__(self) -> int:
        """The number of episodes, E."""
        return len(self.classes)

    def of_rule(self, rule: str) -> torch.Tensor:
        """Which of the other images a support may have by a rule: ``across``, ``mixed`` or ``same``; ``(E, w, x)``."""
        there, own = self.others_group >= 0, self.others_group == self.group[:, None, None]
        return {"across": there & ~own, "mixed": there, "same": own}[rule]

    def episodes(self, is_allowed: torch.Tensor, shots: int) -> Episodes:
        """The episodes whose support is the first ``shots`` images of each class that are allowed.

        Args:
            is_allowed: ``(E, w, x)`` bool, at least ``shots`` for each class.
            shots: Support samples per class.
        """
        order = (~is_allowed).int().sort(dim=2, stable=True).indices[:, :, :shots]
        return Episodes(
            classes=self.classes, queries=self.queries, support=self.others.gather(2, order), is_query=self.is_query
        )

    def only(self, which: torch.Tensor) -> AcrossDraws:
        """Some of the episodes, ``(E,)`` bool."""
        return AcrossDraws(**{name: values[which] for name, values in vars(self).items()})


def draw_across(
    features: FeatureSet,
    plan: AcrossPlan,
    spec: EpisodeSpec,
    episodes: int,
    most: int = 1024,
    *,
    ends: Sequence[int] = (),
) -> Iterator[AcrossDraws]:
    """Draw episodes with queries of one group each, in batches of at most ``most``, and at least 32.

    Episode number e depends on the seed and on e only.

    Args:
        features: The feature set, in which every sample has a group.
        plan: What can be drawn from it.
        spec: What is drawn.
        episodes: The number of episodes.
        most: The largest number of episodes per batch.
        ends: Numbers of episodes at which a batch ends, multiples of 32.
    """
    import torch

    waiting: list[AcrossDraws] = []
    for block in range(-(-episodes // BLOCK)):
        waiting.append(_block(features, plan, spec, block))
        drawn = (block + 1) * BLOCK
        if drawn >= episodes or drawn in ends or (len(waiting) + 1) * BLOCK > most:
            parts = [vars(one) for one in waiting]
            batch = AcrossDraws(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
            left = episodes - (drawn - len(waiting) * BLOCK)
            yield batch if left >= len(batch) else batch.only(torch.arange(len(batch)) < left)
            waiting = []


def _block(features: FeatureSet, plan: AcrossPlan, spec: EpisodeSpec, block: int) -> AcrossDraws:
    """The episodes of one generator."""
    import numpy as np
    import torch

    generator = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=(block, STREAM)))
    counts = features.counts
    starts, size = counts.cumsum(0) - counts, int(counts.max())
    lots = torch.from_numpy(generator.random(BLOCK))
    places = (lots * len(plan.query_groups)).long().clamp(max=len(plan.query_groups) - 1)
    group = plan.query_groups[places]
    keys = torch.from_numpy(generator.random((BLOCK, len(counts))))
    classes = keys.masked_fill(~plan.is_usable.T[group], 2).argsort(dim=1)[:, : spec.ways]  # (E, w)
    place = torch.arange(size)
    there = place < counts[classes][..., None]  # (E, w, x)
    order = torch.from_numpy(generator.random((BLOCK, spec.ways, size))).masked_fill(~there, 2).argsort(dim=2)
    rows = torch.where(there, starts[classes][..., None] + order, -1)
    of_group = torch.where(there, plan.groups.codes[rows.clamp(min=0)], -1)
    own = of_group == group[:, None, None]
    held = plan.cells[classes, group[:, None]]  # (E, w): images of the class in the group
    wanted = held - spec.shots if plan.is_paired else held
    wanted = wanted if spec.queries is None else wanted.clamp(max=spec.queries)
    is_asked = own & (own.cumsum(dim=2) <= wanted[..., None])
    first = (~is_asked).int().sort(dim=2, stable=True).indices[:, :, : int(wanted.max())]
    lots = torch.from_numpy(generator.random(order.shape))  # anew: what the group has left comes late in the order
    others = lots.masked_fill(is_asked | ~there, 2).argsort(dim=2)
    is_other = (~is_asked & there).gather(2, others)
    width = size if spec.queries is None else min(size, spec.queries)  # the same in every block, so that they join
    queries, is_query = rows.gather(2, first), is_asked.gather(2, first)
    missing = width - first.shape[2]
    return AcrossDraws(
        group=group,
        classes=classes,
        queries=torch.nn.functional.pad(queries, (0, missing)).where(
            torch.nn.functional.pad(is_query, (0, missing)), starts[classes][..., None]
        ),
        is_query=torch.nn.functional.pad(is_query, (0, missing)),
        others=rows.gather(2, others).where(is_other, -1),
        others_group=of_group.gather(2, others).where(is_other, -1),
    )
