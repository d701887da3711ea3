"""Whether the gain that twice as many labelled images are said to give is what they give.

    python tests/benchmarks/more_labels.py FEATURES [FEATURES …] [--seeds 4] [--classifier ridge]

FEATURES are stored sets, named MODEL/DATA as `nctransfer cache list` shows them, or files. Two fifths of the images of
each class are drawn at random, and the gain of twice as many is predicted from them. It is compared with the rise of
the learning curve of all images. Prints a Markdown table, in points, and the share of ranges that hold the truth.
"""

import argparse

import torch

import nctransfer as nct
from nctransfer.evaluation.all_ways import AllWaysTask, all_ways_accuracy
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.more_labels import gain_of_more_labels

PART = 0.4  # so that twice as many are the four fifths that a learning curve can have


def drawn(features: FeatureSet, count: int, seed: int) -> FeatureSet:
    """Some images of each class."""
    generator = torch.Generator().manual_seed(seed)
    rows = [(features.labels == code).nonzero()[:, 0] for code in range(len(features.classes))]
    kept = torch.cat([own[torch.randperm(len(own), generator=generator)[:count]] for own in rows])
    labels = [features.classes[code] for code in features.labels[kept].tolist()]
    return FeatureSet.from_arrays(features.features[kept].numpy(), labels)


def true_gain(features: FeatureSet, count: int, classifier: str) -> float:
    """By how much the accuracy rises from so many labelled images per class to twice as many."""
    task = AllWaysTask(shots=(count, 2 * count), classifiers=classifier)
    estimates = all_ways_accuracy(features, task).estimates
    return estimates[2 * count, classifier].accuracy - estimates[count, classifier].accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("features", nargs="+")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--classifier", default="ridge")
    given = parser.parse_args()
    held = total = 0
    print("| features | images | gain | predicted |\n|---|---:|---:|---|")
    for name in given.features:
        features = nct.load_features(name)
        count = int(PART * int(features.counts.min()))
        gain, cells = true_gain(features, count, given.classifier), []
        for seed in range(given.seeds):
            found = gain_of_more_labels(drawn(features, count, seed), given.classifier, seed=seed)
            if found is None:
                cells.append("none")
                continue
            low, high = found.gain
            total += 1
            held += low <= gain <= high
            cells.append(f"{100 * low:.1f} to {100 * high:.1f}")
        print(f"| {name} | {count} | {100 * gain:.1f} | {', '.join(cells)} |", flush=True)
    print(f"\n{held} of {total} ranges hold the gain.")


if __name__ == "__main__":
    main()
