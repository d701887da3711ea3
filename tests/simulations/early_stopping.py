"""Does the ± over episodes cover the mean over all episodes where drawing stops early?"""

from __future__ import annotations

import numpy as np

from nctransfer.evaluation.fewshot_accuracy import run_fewshot
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.stopping import PRECISION, sizes
from nctransfer.features.feature_set import FeatureSet

TITLE = "Stopping early: how often the ± over episodes covers the mean over all episodes"

STUDIES = 4000
CLASSES, IMAGES, WIDTH, EPISODES, BANK = 6, 20, 6, 5000, 100_000
WORLDS = ((0.7, 0.4), (2.2, 0.3), (4.0, 0.18))  # how far classes are apart, and the precision in points
RARE = ((5, 0.01), (5, 0.0025), (5, 0.001), (20, 0.0025), (81, 0.0025))  # ways, and the share of episodes that fail
MOST = 10_000


def table(studies: int) -> str:
    """One row for each world and classifier: coverage where drawing stops early, and where it does not.

    The episodes of a study are drawn, with replacement, from many real ones, whose mean is the truth.

    Args:
        studies: Draws of episodes.
    """
    lines = [
        "| classifier | accuracy | std | precision | episodes (5%, 50%, 95% of studies) | covers | never stopped |",
        "|---|---|---|---|---|---|---|",
    ]
    for apart, precision in WORLDS:
        bank = _bank(_features(apart))
        means = [float(one.mean()) for one in bank.values()]
        drawn, early, always = [], [], []
        for study in range(studies):
            places = np.random.default_rng(study).integers(BANK, size=EPISODES)
            rows = [one[places] for one in bank.values()]
            drawn.append(_stopped(rows, precision))
            always.append([_covers(row, mean) for row, mean in zip(rows, means, strict=True)])
            early.append([_covers(row[: drawn[-1]], mean) for row, mean in zip(rows, means, strict=True)])
        numbers = ", ".join(f"{size:,.0f}" for size in np.percentile(drawn, [5, 50, 95]))
        for place, (classifier, values) in enumerate(bank.items()):
            lines.append(
                f"| {classifier} | {means[place]:.2%} | {values.std():.2%} | {precision:g} points | {numbers} "
                f"| {np.mean(early, axis=0)[place]:.1%} | {np.mean(always, axis=0)[place]:.1%} |"
            )
    return "\n".join(lines) + "\n\n" + _of_rare_failures(studies)


def _of_rare_failures(studies: int) -> str:
    """The same where a few episodes lose two of their classes, as if a sample of the support had a wrong label."""
    lines = [
        "| ways | episodes that fail | episodes (5%, 50%, 95% of studies) | covers | never stopped |",
        "|---|---|---|---|---|",
    ]
    for ways, rate in RARE:
        drawn, early, always = [], [], []
        for study in range(studies):
            generator = np.random.default_rng(study)
            values = 1 - generator.binomial(15 * ways, 0.003, MOST) / (15 * ways)
            values -= 2 / ways * (generator.random(MOST) < rate)
            drawn.append(_stopped([values], PRECISION, ways, MOST))
            mean = 1 - 0.003 - 2 / ways * rate
            always.append(_covers(values, mean))
            early.append(_covers(values[: drawn[-1]], mean))
        numbers = ", ".join(f"{size:,.0f}" for size in np.percentile(drawn, [5, 50, 95]))
        lines.append(f"| {ways} | {rate:.2%} | {numbers} | {np.mean(early):.1%} | {np.mean(always):.1%} |")
    return "\n".join(lines)


def _bank(features: FeatureSet) -> dict[str, np.ndarray]:
    """The accuracy of many episodes, by classifier."""
    task = FewShotTask(ways="all", queries=10, episodes=BANK, precision=0, theory=False)
    found = run_fewshot(features, task, device="cpu").accuracies
    return {classifier: values.numpy() for (_, _, classifier), values in found.items()}


def _stopped(rows: list[np.ndarray], precision: float, ways: int = CLASSES, most: int = EPISODES) -> int:
    """The number of episodes at which drawing would have stopped."""
    import torch

    from nctransfer.evaluation.stopping import StoppingRule

    rule = StoppingRule(precision=precision, ways=ways)
    of = [torch.from_numpy(row) for row in rows]
    return next((size for size in sizes(most) if rule.is_met([one[:size] for one in of])), most)


def _covers(values: np.ndarray, mean: float) -> bool:
    return bool(abs(values.mean() - mean) <= 1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def _features(apart: float) -> FeatureSet:
    """Normal classes about normal means."""
    generator = np.random.default_rng(0)
    means = apart * generator.normal(size=(CLASSES, 1, WIDTH))
    rows = means + generator.normal(size=(CLASSES, IMAGES, WIDTH))
    return FeatureSet.from_arrays(rows.reshape(-1, WIDTH), np.repeat(range(CLASSES), IMAGES))
