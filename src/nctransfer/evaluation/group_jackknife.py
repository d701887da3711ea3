"""How accuracies on new groups vary over other groups of this kind: a jackknife that leaves out one group at a time.

A group acts on the mean accuracy in two ways: its queries are asked, and its samples teach. Without group h, the mean
is over the query groups other than h, and no support holds a sample of h. The first part comes from all episodes. For
the second, the first episodes are repeated with a support whose samples of h are replaced by the next that are allowed;
all other samples stay, so that what h changes is seen through the draw of episodes. With more than 20 groups, a
twentieth of them is left out at a time.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nctransfer.evaluation.spread import Spread

if TYPE_CHECKING:
    import torch

    from nctransfer.episodes.across_groups import AcrossDraws, AcrossPlan
    from nctransfer.episodes.episode import EpisodeSpec
    from nctransfer.evaluation.group_counts import GroupCounts

__all__ = ["GroupJackknife"]

BLOCKS = 20
FEWEST_GROUPS = 3
FEWEST, PER_GROUP = 1024, 64  # episodes that are repeated
STREAM = 8  # of the seed, beside those of other draws

Key = tuple[int, str]  # shots, classifier
Shares = Callable[["AcrossDraws", "torch.Tensor"], Mapping[Key, "torch.Tensor"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupJackknife:
    """The jackknife over the groups of one plan.

    Attributes:
        plan: What can be drawn.
        spec: What is drawn, with the largest number of shots.
        rules: From where the support is drawn.
    """

    plan: AcrossPlan
    spec: EpisodeSpec
    rules: tuple[str, ...]

    @functools.cached_property
    def blocks(self) -> torch.Tensor:
        """Which groups are left out together, ``(B, G)`` bool."""
        import numpy as np
        import torch

        count = len(self.plan.groups)
        order = torch.arange(count)
        if count > BLOCKS:
            generator = np.random.default_rng(np.random.SeedSequence(self.spec.seed, spawn_key=(0, STREAM)))
            order = torch.from_numpy(generator.permutation(count))
        number = min(count, BLOCKS)
        return (order % number) == torch.arange(number)[:, None]

    @functools.cached_property
    def impossible(self) -> str | None:
        """Why there is no interval over other groups; ``None`` if there is one."""
        plan, groups = self.plan, self.plan.groups
        asked = len(plan.query_groups)
        if asked < FEWEST_GROUPS:
            return f"an interval over other groups needs queries of {FEWEST_GROUPS} groups or more; there are {asked}"
        cells, total = plan.cells, plan.cells.sum(dim=1)
        for block in self.blocks:
            left = total[:, None] - cells - cells[:, block].sum(dim=1, keepdim=True)  # (C, G): of the others' images
            short = plan.is_usable & ~block & (left < self.spec.shots)
            if bool(short.any()):
                name = groups.names[int(block.nonzero()[0])]
                return (
                    f"an interval over other groups leaves out a group at a time; without {name!r}, a class has too "
                    f"few images for {self.spec.shots} shots"
                )
        return None

    def episodes(self, most: int) -> int:
        """How many of the first episodes are repeated."""
        return min(most, max(FEWEST, PER_GROUP * len(self.plan.groups)))

    def changes(
        self,
        draws: Callable[[], Iterable[AcrossDraws]],
        shares: Shares,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> dict[Key, torch.Tensor]:
        """What the mean accuracy gains if a support has no sample of each block of groups, ``(B, K)`` for K rules.

        Args:
            draws: Draws the episodes.
            shares: The accuracy of each episode with a support of the images that are allowed, by shots and classifier.
            progress: Called as ``progress(stage, done, total)``.
        """
        import torch

        batches = list(draws())
        shape = (len(self.blocks), len(self.rules))
        sums: dict[Key, torch.Tensor] = {}
        counts = torch.zeros(len(self.blocks), 1, dtype=torch.float64)
        for number, batch in enumerate(batches):
            if progress is not None:
                progress("leaving out groups", number, len(batches))
            supports = {rule: batch.of_rule(rule) for rule in self.rules if rule != "same"}
            before = {rule: shares(batch, allowed) for rule, allowed in supports.items()}
            for place, block in enumerate(self.blocks):
                padded = torch.cat([block, block.new_zeros(1)])  # −1 is the last
                is_out = padded[batch.others_group]
                stays = ~block[batch.group]
                counts[place] += int(stays.sum())
                for rule, allowed in supports.items():
                    affected = stays & (_first(allowed, self.spec.shots) & is_out).any(dim=2).any(dim=1)
                    if not bool(affected.any()):
                        continue
                    after = shares(batch.only(affected), (allowed & ~is_out)[affected])
                    for key, values in after.items():
                        total = sums.setdefault(key, torch.zeros(shape, dtype=torch.float64))
                        total[place, self.rules.index(rule)] += float((values - before[rule][key][affected]).sum())
        return {key: total / counts.clamp(min=1) for key, total in sums.items()}

    def spread(self, counts: Mapping[str, GroupCounts], group: torch.Tensor, changes: torch.Tensor | None) -> Spread:
        """How the accuracies of the rules vary together over other groups.

        Args:
            counts: What happened, by rule.
            group: The group of the queries of each episode, ``(E,)``.
            changes: What the supports without each block change, ``(B, K)``; ``None`` if no support changes.
        """
        import torch

        values = torch.stack([counts[rule].accuracies for rule in self.rules], dim=1)  # (E, K)
        size = len(self.plan.groups)
        of_group = values.new_zeros(size, values.shape[1]).index_add_(0, group, values)
        of_group = of_group / group.bincount(minlength=size)[:, None]
        is_asked = ~of_group.isnan().any(dim=1)
        kept = (~self.blocks & is_asked).double()  # (B, G)
        without = kept @ of_group.nan_to_num() / kept.sum(dim=1, keepdim=True)
        without = without if changes is None else without + changes
        blocks = len(without)
        vectors = (without - without.mean(dim=0)) * math.sqrt((blocks - 1) / blocks)
        return Spread(vectors=vectors, degrees=min(blocks, int(is_asked.sum())) - 1)


def _first(allowed: torch.Tensor, shots: int) -> torch.Tensor:
    """Which images are the first ``shots`` that are allowed, ``(E, w, x)`` bool."""
    return allowed & (allowed.cumsum(dim=2) <= shots)
