"""Is a right head ever doubted, and is a head whose classes are in another order always found?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch

from nctransfer.features.feature_set import FeatureSet
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.neural_collapse.collapse_report import collapse
from nctransfer.neural_collapse.linear_head import LinearHead

TITLE = "Heads: how often a right one is doubted, and how often another order of its classes is found"

STUDIES = 200
WIDTH = 32
WORLDS = ((3, 6), (3, 20), (10, 4), (10, 20), (40, 10))  # classes, and images per class
TRAINING = 30  # images per class that the head was fitted on
RIGHT = ("fitted here", "fitted elsewhere", "another domain")
WRONG = ("another order", "two classes exchanged", "random weights")
DECENT = 0.6  # nearest-class-centre accuracy above which a wrong head has to be found


def table(studies: int) -> str:
    """One row for each number of classes and of images.

    Classes are normal; how far they are apart differs from study to study, from hardly to very far.

    Args:
        studies: Sets of features, and heads.
    """
    head = [
        "classes",
        "images per class",
        *(f"doubted: {kind}" for kind in RIGHT),
        *(f"found: {kind}" for kind in WRONG),
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for classes, images in WORLDS:
        seen: dict[str, list[bool]] = defaultdict(list)
        for study in range(studies):
            for kind, has_warning in _study(np.random.default_rng([classes, images, study]), classes, images):
                seen[kind].append(has_warning)
        shares = [f"{np.mean(seen[kind]):.1%} of {len(seen[kind])}" for kind in (*RIGHT, *WRONG)]
        lines.append(f"| {classes} | {images} | {' | '.join(shares)} |")
    return "\n".join(lines)


def _study(generator: np.random.Generator, classes: int, images: int) -> Iterator[tuple[str, bool]]:
    """Every kind of head on one set of features, and whether it brought a warning."""
    means = generator.normal(size=(classes, WIDTH)) * np.exp(generator.uniform(np.log(0.1), np.log(2)))
    scales = np.exp(0.5 * generator.normal(size=WIDTH))

    def features(each: int, matrix: np.ndarray, shift: np.ndarray) -> FeatureSet:
        codes = np.repeat(range(classes), each)
        rows = means[codes] + scales * generator.normal(size=(len(codes), WIDTH))
        return FeatureSet.from_arrays(rows @ matrix + shift, [f"{code:03d}" for code in codes])

    plain = np.eye(WIDTH), np.zeros(WIDTH)
    turned = plain[0] + 0.5 * generator.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH), generator.normal(size=WIDTH) / 2
    here = features(images, *plain)
    head = LinearHead.ridge(ClassStatistics.of(features(TRAINING, *plain), "cpu"), "others")
    yield "fitted here", _is_doubted(here, LinearHead.ridge(ClassStatistics.of(here, "cpu"), "these"))
    yield "fitted elsewhere", _is_doubted(here, head)
    yield "another domain", _is_doubted(features(images, *turned), head)
    if (collapse(here, device="cpu").ncc_accuracy or 0) < DECENT:
        return
    order = generator.permutation(classes)
    while (order == np.arange(classes)).any():  # every class is moved
        order = generator.permutation(classes)
    exchanged = np.arange(classes)
    exchanged[:2] = 1, 0
    yield "another order", _is_doubted(here, _in_order(head, order))
    yield "two classes exchanged", _is_doubted(here, _in_order(head, exchanged))
    weight = torch.from_numpy(generator.normal(size=(classes, WIDTH)))
    yield "random weights", _is_doubted(here, LinearHead(weight, torch.zeros(classes, dtype=weight.dtype), "nowhere"))


def _in_order(head: LinearHead, order: np.ndarray) -> LinearHead:
    rows = torch.from_numpy(order)
    return LinearHead(head.weight[rows], head.bias[rows], "another order")


def _is_doubted(features: FeatureSet, head: LinearHead) -> bool:
    notes = collapse(features, head=head, device="cpu").notes
    return any(note.startswith(("the head agrees", "the classes of the head")) for note in notes)
