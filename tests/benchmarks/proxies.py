"""Several proxies per class on real features: where they beat one mean, whether collapse says so, and what they cost.

    python tests/benchmarks/proxies.py [PART …] [--data caltech60,test.parquet,omniglot] [--episodes 1000] [--draws 64]

The parts are ``decision`` (proxies minus ncc, ridge and knn for each stored set, over other classes, and the rank
correlation of the gain over ncc with NC1 and CDNV), ``coarse`` (classes that are made of several finer ones, over other
images), ``heads`` (which classifier of a head has the highest leave-one-out accuracy) and ``time`` (CPU seconds beside
ncc, knn, ridge and logistic regression); by default all. Features are the stored sets of ``$NCTRANSFER_CACHE`` whose
data bear one of the names of --data; ``time`` needs none. Differences are in points, with 95% intervals.
"""

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

import nctransfer as nct
from nctransfer.episodes.episode import EpisodeSpec
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.evaluation.fewshot_accuracy import fewshot
from nctransfer.evaluation.image_influence import common_draws
from nctransfer.evaluation.spread import spread_of
from nctransfer.heads.left_out_scores import left_out_scores
from nctransfer.intervals import t_quantile
from nctransfer.rank.rank_correlation import FEWEST, rank_correlation
from nctransfer.store.cache_folder import FeatureStore

DATA = "caltech60,test.parquet,omniglot"
SHOTS, COARSE_SHOTS = (5, 10, 20), (5, 10, 20, 40)
OTHERS = ("ncc", "ridge", "knn")
CIFAR_SUPERCLASSES = {  # of the classes of the CIFAR-FS test split, where there are at least two of them
    "people": ("baby", "man", "woman"),
    "furniture": ("bed", "table", "wardrobe"),
    "vehicles 1": ("bicycle", "pickup_truck"),
    "flowers": ("poppy", "rose"),
    "invertebrates": ("snail", "worm"),
}
KINDS = {
    "animals": ("chimpanzee", "fox", "leopard", "snail", "whale", "worm"),
    "people": CIFAR_SUPERCLASSES["people"],
    "household": ("bed", "table", "telephone", "wardrobe"),
    "plants": ("poppy", "rose", "sweet_pepper"),
    "vehicles": ("bicycle", "pickup_truck", "rocket"),
}


def stored(names: str) -> Iterator[tuple[str, str, nct.FeatureSet]]:
    """The data, the backbone and the features of the stored sets whose data bear one of the names."""
    for one in sorted(FeatureStore().sets(), key=lambda one: one.path):
        *_, model, data = one.path.parts
        short = data.rpartition("-")[0] or data
        if any(name in data for name in names.split(",")):
            yield short.removesuffix(".tar"), model.rpartition("-")[0].removesuffix(".in1k"), one.read(partial=True)


def merged(features: nct.FeatureSet, of_class: Callable[[str], str | None]) -> nct.FeatureSet:
    """The same samples with coarser classes; classes without one are left out."""
    names = [of_class(name) for name in features.classes]
    rows = [row for row, code in enumerate(features.labels.tolist()) if names[code] is not None]
    labels = [str(names[code]) for code in features.labels[rows].tolist()]
    return nct.FeatureSet.from_arrays(features.features[rows].numpy(), labels)


def coarse(data: str, features: nct.FeatureSet) -> Iterator[tuple[str, nct.FeatureSet]]:
    """The coarser classes that a data set has."""
    if "omniglot" in data:
        yield "Omniglot alphabets", merged(features, lambda name: name.rpartition("_character")[0])
    if "test.parquet" in data:
        for what, groups in (("CIFAR superclasses", CIFAR_SUPERCLASSES), ("CIFAR kinds of things", KINDS)):
            of = {fine: name for name, fines in groups.items() for fine in fines}
            yield what, merged(features, of.get)
    if "caltech" in data:
        place = {name: number for number, name in enumerate(features.classes)}
        yield "Caltech, triples of classes", merged(features, lambda name: f"triple {place[name] // 3:02}")


def differences(
    features: nct.FeatureSet, shots: int, episodes: int
) -> tuple[dict[str, tuple[float, float]], dict[str, float], float]:
    """Proxies minus each other classifier on 5-way episodes, over other classes; accuracies; and the mean k."""
    found = fewshot(
        features,
        5,
        shots,
        queries=10,
        episodes=episodes,
        classifiers=("proxies", *OTHERS),
        interval="classes",
        theory=False,
        precision=0,
    )
    rows = {row.classifier: row for row in found.rows}
    spreads = {name: spread_of([found], row.key, "classes") for name, row in rows.items()}
    result = {}
    for name in OTHERS:
        vector = (spreads["proxies"].vectors - spreads[name].vectors)[:, 0]
        half = t_quantile(spreads[name].degrees) * float(vector.square().sum().sqrt())
        result[name] = (100 * (rows["proxies"].accuracy - rows[name].accuracy), 100 * half)
    accuracies = {name: 100 * row.accuracy for name, row in rows.items()}
    return result, accuracies, float(rows["proxies"].reported["proxies_per_class"] or math.nan)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table whose first column is text."""
    print("\n| " + " | ".join(header) + " |\n|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def shown(difference: tuple[float, float]) -> str:
    """``+1.2 ± 0.4``, in bold if the interval leaves out zero."""
    text = f"{difference[0]:+.2f} ± {difference[1]:.2f}".replace("-", "−")
    return f"**{text}**" if abs(difference[0]) > difference[1] else text


def decision(names: str, episodes: int) -> None:
    """For each stored set, and the rank correlations with collapse."""
    rows, gains, measures, of_data = [], {}, {"nc1": [], "cdnv": []}, []
    for data, model, features in stored(names):
        report = nct.collapse(features, pairs=0)
        of_data.append(data)
        for name, values in measures.items():
            values.append(report.metrics[name])
        cells = []
        for shots in SHOTS:
            if int(features.counts.min()) < shots + 10:
                cells += ["–"] * 4
                continue
            found, accuracies, number = differences(features, shots, episodes)
            gains.setdefault(shots, {})[len(of_data) - 1] = found["ncc"][0]
            cells += [f"{accuracies['ncc']:.1f}", *(shown(found[name]) for name in OTHERS)]
            cells[-4] += f" (k {number:.1f})"
        rows.append([f"{data}, {model}", f"{measures['nc1'][-1]:.2f}", f"{measures['cdnv'][-1]:.2f}", *cells])
    heads = [f"{shots} shots: {what}" for shots in SHOTS for what in ("ncc", "− ncc", "− ridge", "− knn")]
    print_table(["data, backbone", "NC1", "CDNV", *heads], sorted(rows))
    table = []
    for shots, gain in gains.items():
        for group in ("all", *sorted(set(of_data))):
            places = [place for place in gain if group in ("all", of_data[place])]
            if len(places) < FEWEST:
                continue
            cells = []
            for values in measures.values():
                found = rank_correlation("", [values[place] for place in places], [gain[place] for place in places])
                assert found.value is not None
                assert found.interval is not None
                cells.append(f"{found.value:+.2f} [{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]")
            table.append([f"{shots} shots, {group}", str(len(places)), *cells])
    print_table(["gain over ncc", "pairs", *measures], table)


def all_at_once(features: nct.FeatureSet, shots: int, draws: int) -> tuple[dict[str, tuple[float, float]], float]:
    """Proxies minus each other classifier on all classes at once, over other images, and the accuracy of ncc."""
    task = AllWaysTask(shots=shots, classifiers=("proxies", *OTHERS), draws=draws)
    found = all_ways_accuracy(features, task).estimates
    result = {}
    for name in OTHERS:
        (mine, other), spread = common_draws([found[shots, "proxies"], found[shots, name]])
        half = t_quantile(spread.degrees) * float(spread.errors_of_differences()[0, 1])
        result[name] = (100 * (mine - other), 100 * half)
    return result, 100 * found[shots, "ncc"].accuracy


def of_coarse_classes(names: str, draws: int) -> None:
    """Classes that are made of several finer ones."""
    rows = []
    for data, model, features in stored(names):
        for what, some in coarse(data, features):
            cells = []
            for shots in COARSE_SHOTS:
                found, ncc = all_at_once(some, shots, draws)
                cells += [f"{ncc:.1f}", *(shown(found[name]) for name in OTHERS)]
            nc1 = nct.collapse(some, pairs=0).metrics["nc1"]
            rows.append([f"{what} ({len(some.classes)}), {model}", f"{nc1:.2f}", *cells])
            print(rows[-1], file=sys.stderr, flush=True)
    heads = [f"{shots} shots: {what}" for shots in COARSE_SHOTS for what in ("ncc", "− ncc", "− ridge", "− knn")]
    print_table(["classes, backbone", "NC1", *heads], sorted(rows))


def heads(names: str) -> None:
    """The leave-one-out accuracy of each classifier of a head."""
    rows = []
    for data, model, features in stored(names):
        for what, some in ((data, features), *coarse(data, features)):
            cells, spent = [], {}
            for name in ("ncc", "cosine", "ridge", "proxies"):
                start = time.process_time()
                found = left_out_scores(some, name, "cpu")
                spent[name] = time.process_time() - start
                cells.append(f"{100 * float(found.hits.mean()):.1f}")
            rows.append([f"{what}, {model}", *cells, str(found.linear.rows_per_class), f"{spent['proxies']:.1f}"])
            print(rows[-1], file=sys.stderr, flush=True)
    print_table(["set", "ncc", "cosine", "ridge", "proxies", "k", "seconds of proxies"], sorted(rows))


def times() -> None:
    """CPU seconds of classifiers on the same inner products, in turn, with one thread."""
    torch.set_num_threads(1)
    rows = []
    for parts, ways, shots in ((1, 5, 5), (1, 5, 20), (1, 20, 5), (1, 20, 20), (3, 5, 20)):
        generator = np.random.default_rng(parts)
        means = 0.25 * generator.normal(size=(40, parts, 1, 640))
        rows_of = (means + generator.normal(size=(40, parts, 60 // parts, 640))).reshape(-1, 640)
        features = nct.FeatureSet.from_arrays(rows_of.astype(np.float32), np.repeat(np.arange(40), 60).tolist())
        pool, spec = Pool(features.features, "cpu"), EpisodeSpec(ways, shots, 15)
        count = min(pool.batch(spec, 15), 200)
        products = [pool(batch) for batch in sample(features, spec, 4 * count, most=count)]
        spent = dict.fromkeys(("ncc", "knn", "ridge", "logistic", "proxies"), 0.0)
        for one in products:
            for name in spent:
                start = time.process_time()
                CLASSIFIERS[name].scores(one)
                spent[name] += time.process_time() - start
        start = time.process_time()
        for batch in sample(features, spec, count, most=count):
            pool(batch)
        drawn = 4 * (time.process_time() - start)
        cells = [f"{1000 * value / len(products) / count:.3f}" for value in (*spent.values(), drawn)]
        ratios = [f"{spent['proxies'] / spent[name]:.1f}" for name in ("ridge", "logistic")]
        total = (drawn + spent["proxies"]) / (drawn + spent["ridge"])
        rows.append([f"{ways}-way {shots}-shot, {parts} parts per class", *cells, *ratios, f"{total:.1f}"])
    header = ["ms per episode", "ncc", "knn", "ridge", "logistic", "proxies", "drawing and products"]
    print_table([*header, "proxies / ridge", "proxies / logistic", "whole episode, proxies / ridge"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--data", default=DATA)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=64)
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    calls = {
        "decision": lambda: decision(given.data, given.episodes),
        "coarse": lambda: of_coarse_classes(given.data, given.draws),
        "heads": lambda: heads(given.data),
        "time": times,
    }
    for name in given.parts or calls:
        calls[name]()


if __name__ == "__main__":
    main()
