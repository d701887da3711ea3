"""What the query prior changes on real features: accuracies of classifiers and backbones, balanced and dirichlet:2.

    python tests/benchmarks/query_priors.py FEATURES [FEATURES …] [--shots 1,5] [--episodes 1000]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them; those of one data set are compared on
the same 5-way episodes, and both priors have the same classes and supports. There are 15 queries per class on average
where classes have 50 images or more, and 8 where they have fewer, since an uneven draw needs more. Prints a Markdown
table for each data set, in percent: accuracy of each backbone by shots, classifier and prior, the share of episodes
that have fewer queries because a class is too small, and the possible bests on other classes. `told balanced` is soft
k-means that is told that queries are balanced, see soft_kmeans.py, on 300 of the episodes.
"""

import argparse
from collections import defaultdict
from pathlib import Path

from soft_kmeans import PRIORS, packed_products, print_table, share_right, short, told_balanced

import nctransfer as nct
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.sampling import sample

TITLE = "Query priors on real features"
TOLD = 300  # episodes of the variant that is told that queries are balanced


def told(features: nct.FeatureSet, shots: int, prior: str, queries: int) -> float:
    """The accuracy of soft k-means that is told that queries are balanced."""
    spec, pool = EpisodeSpec(5, shots, queries, query_prior=prior), Pool(features.features)
    pool.prepare([spec], 10_000, 0)
    [batch] = sample(features, spec, TOLD, most=TOLD)
    products, truth, counts = packed_products(batch.cut(shots), pool)
    return share_right(told_balanced(products), truth, counts)


def measure(sets: dict[str, nct.FeatureSet], shots: list[int], episodes: int) -> list[list[str]]:
    """The rows of one data set."""
    fewest = min(int(one.counts.min()) for one in sets.values())
    queries = 15 if fewest >= 50 else 8
    common = {"episodes": episodes, "precision": 0, "theory": False, "queries": queries}
    runs = [
        nct.compare_fewshot(sets, 5, shots, classifiers=names, query_prior=prior, **common)
        for prior, names in zip(PRIORS, (("ncc", "ridge", "soft-kmeans"), ("ncc", "ridge")), strict=True)
    ]
    found = {}
    for run in runs:
        bests = {one.key: one.names for one in run.possible_bests}
        for number, row in enumerate(next(iter(run.results.values())).rows):
            values = [100 * one.rows[number].accuracy for one in run.results.values()]
            found[row.shots, row.classifier, row.query_prior] = values, row.shortened, bests[row.key]
    for number in shots:
        for prior in PRIORS:
            values = [told(one, number, prior, queries) for one in sets.values()]
            found[number, "told balanced", prior] = values, None, None
    order = ["ncc", "ridge", "soft-kmeans", "told balanced"]
    rows = []
    for (number, name, prior), (values, shortened, bests) in sorted(
        found.items(), key=lambda item: (item[0][0], order.index(item[0][1]), item[0][2])
    ):
        rows.append(
            [
                str(number),
                name,
                prior,
                *(f"{value:.1f}" for value in values),
                f"{sum(values) / len(values):.1f}",
                "–" if shortened is None else f"{shortened:.0%}",
                "–" if bests is None else ", ".join(bests),
            ]
        )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", nargs="+")
    parser.add_argument("--shots", default="1,5")
    parser.add_argument("--episodes", type=int, default=1000)
    given = parser.parse_args()
    by_data: dict[str, dict[str, nct.FeatureSet]] = defaultdict(dict)
    for name in given.features:
        *_, model, data = [part for part in Path(name).parts if part not in {"rows", "/"}]
        by_data[short(data)][short(model)] = nct.load_features(name, partial=True)
    for data, sets in by_data.items():
        print(data)
        heads = ["shots", "classifier", "queries", *sets, "mean", "shortened", "possible bests"]
        print_table(heads, measure(sets, [int(word) for word in given.shots.split(",")], given.episodes))


if __name__ == "__main__":
    main()
