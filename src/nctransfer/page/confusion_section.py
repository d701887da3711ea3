"""Which classes are taken for which, when each image is classified without having been learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nctransfer.errors import counted
from nctransfer.heads.mistakes import class_accuracies, confusions
from nctransfer.page.blocks import Block, Matrix, Paragraph, Section, Table
from nctransfer.page.classifier_names import classifier_in_words
from nctransfer.page.mistaken_images import mistaken_images
from nctransfer.report.wording import percent

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from nctransfer.heads.mistakes import ClassAccuracy, Confusion

__all__ = ["MOST_CLASSES", "SOME_CLASSES", "confusion_section", "confusion_shares"]

MOST_CLASSES = 150  # in the matrix
SOME_CLASSES = 50  # in the matrix if there are more
LISTED = 20  # pairs, and classes, in the tables
LEFT_OUT = (
    "Each image was classified by a classifier that had not learned from it, nor from about one image of every other "
    "class. This share is not corrected for the images left out; an accuracy that is expected of other images is."
)


def confusion_section(
    predicted: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    order: Sequence[int],
    *,
    probability: torch.Tensor,
    classifier: str,
) -> Section | None:
    """The confusion matrix in the order of the class map, the mistakes, and the hardest classes.

    Args:
        predicted: The class code that each image gets when it is left out, ``(n,)``.
        labels: The given class codes, ``(n,)``.
        classes: The names of the C classes.
        order: The class codes in the order of the class map.
        probability: The probability of the predicted class, ``(n,)``.
        classifier: The name of the classifier.

    Returns:
        ``None`` if there are fewer than two classes.
    """
    if len(classes) < 2:
        return None
    name = classifier_in_words(classifier)
    pairs, accuracies = confusions(predicted, labels, classes), class_accuracies(predicted, labels, classes)
    wrong = sum(pair.images for pair in pairs)
    blocks: list[Block] = [
        Paragraph(text=_in_words(wrong, len(labels), pairs, name)),
        _matrix(predicted, labels, classes, _shown(pairs, classes, order), pairs),
    ]
    if (mistakes := mistaken_images(predicted, probability, labels, classes)) is not None:
        blocks.append(mistakes)
    blocks.append(_hardest(accuracies, pairs))
    return Section(
        id="confusion",
        title="What is taken for what",
        says=(
            f"It shows which class {name} gives to each of these images when it has learned from the others, and which "
            "images it gets wrong."
        ),
        not_says=(
            "It does not show who is right: where a given label is wrong, a right answer counts as a mistake. "
            "Counts are of these images; the intervals are about other images of the same classes."
        ),
        blocks=tuple(blocks),
    )


def confusion_shares(predicted: torch.Tensor, labels: torch.Tensor, codes: Sequence[int]) -> NDArray[np.float32]:
    """The share of the images of each class (row) that get each class (column), ``(K, K)`` float32.

    A row sums to 1 if no image of its class gets a class that is not shown. A class without images has a row of zeros.

    Args:
        predicted: The class codes that images get, ``(n,)``.
        labels: Their given class codes, ``(n,)``.
        codes: The K class codes that are shown, in their order.

    >>> import torch
    >>> confusion_shares(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 1]), [1, 0]).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    import torch

    shown = torch.tensor(list(codes), dtype=torch.int64)
    size = len(shown)
    place = torch.full((int(max(predicted.max(), labels.max(), shown.max())) + 1,), -1, dtype=torch.int64)
    place[shown] = torch.arange(size)
    given, taken = place[labels], place[predicted]
    both = (given >= 0) & (taken >= 0)
    counts = (given[both] * size + taken[both]).bincount(minlength=size * size).view(size, size)
    images = given[given >= 0].bincount(minlength=size).clamp(min=1)
    shares: NDArray[np.float32] = (counts / images[:, None]).float().numpy()
    return shares


def _shown(pairs: Sequence[Confusion], classes: Sequence[str], order: Sequence[int]) -> tuple[int, ...]:
    """The classes of the matrix: all, or those of the most confused pairs, filled up by the first of the order."""
    if len(classes) <= MOST_CLASSES:
        return tuple(order)
    names = dict.fromkeys(name for pair in pairs for name in (pair.given, pair.predicted))
    names |= dict.fromkeys(classes[code] for code in order)
    wanted = frozenset(list(names)[:SOME_CLASSES])
    return tuple(code for code in order if classes[code] in wanted)


def _in_words(wrong: int, images: int, pairs: Sequence[Confusion], name: str) -> str:
    begin = name[:1].upper() + name[1:]
    if not wrong:
        return f"{begin} gives all {images:,} images the class that they have as label. {LEFT_OUT}"
    said = (
        f"{begin} gives {images - wrong:,} of {images:,} images ({(images - wrong) / images:.1%}) the class that they "
        f"have as label. {LEFT_OUT}"
    )
    first = pairs[0]
    if len(pairs) == 1:
        return (
            f"{said} There {'is' if wrong == 1 else 'are'} {counted(wrong, 'mistake')}: {first.given} is taken for "
            f"{first.predicted}."
        )
    said += f" The {wrong:,} mistakes are spread over {len(pairs):,} pairs of classes"
    if first.images == 1:
        return f"{said}, one in each."
    return (
        f"{said}; the most frequent one is that {first.given} is taken for {first.predicted} ({first.images:,} images)."
    )


def _matrix(
    predicted: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    codes: tuple[int, ...],
    pairs: Sequence[Confusion],
) -> Matrix:
    caption = "Each row is a given class, each column the class that its images get; the diagonal is right."
    if len(codes) < len(classes):
        caption += (
            f" It has the {len(codes)} classes of the most confused pairs, of {len(classes):,}; images that get a "
            "class that is not here are missing from their row."
        )
    else:
        caption += " Rows and columns have the order of the class map, and each row adds up to 100%."
    first = pairs[0] if pairs else None
    return Matrix(
        name="confusion",
        values=confusion_shares(predicted, labels, codes),
        codes=codes,
        kind="share",
        legend="share of the images of the given class",
        alt=f"Confusion matrix of {counted(len(codes), 'class', 'classes')}. "
        + (
            f"The most frequent mistake: {first.images:,} of {first.of:,} images of {first.given} are taken for "
            f"{first.predicted}."
            if first
            else "There is no mistake."
        ),
        caption=caption,
        table=_confused(pairs),
    )


def _confused(pairs: Sequence[Confusion]) -> Table:
    shown = pairs[:LISTED]
    caption = "The pairs of classes that are confused most, by the number of images."
    if len(pairs) > LISTED:
        caption += f" There are {len(pairs) - LISTED:,} more."
    return Table(
        columns=("class", "taken for", ">images", ">of", ">in %"),
        rows=tuple(
            (one.given, one.predicted, f"{one.images:,}", f"{one.of:,}", percent(one.images / one.of)) for one in shown
        ),
        caption=caption,
        class_columns=(0, 1),
    )


def _hardest(accuracies: Sequence[ClassAccuracy], pairs: Sequence[Confusion]) -> Table:
    taken: dict[str, Confusion] = {}
    for pair in pairs:
        taken.setdefault(pair.given, pair)
    hard = [one for one in accuracies if one.right < one.images]
    rows = []
    for one in hard[:LISTED]:
        most = taken[one.name]
        ends = f"{percent(one.interval[0])} to {percent(one.interval[1])}"
        right = f"{one.right:,}", f"{one.images:,}", percent(one.right / one.images), ends
        rows.append((one.name, *right, most.predicted, f"{most.images:,}"))
    caption = "The hardest classes. Interval: 95%, over other images of the class."
    if len(hard) > LISTED:
        caption += f" {len(hard) - LISTED:,} more classes have mistakes."
    perfect = len(accuracies) - len(hard)
    if perfect:
        caption += f" {counted(perfect, 'class has', 'classes have')} no mistake."
    return Table(
        columns=("class", ">right", ">of", ">in %", ">95% interval", "most often taken for", ">images"),
        rows=tuple(rows),
        caption=caption,
        class_columns=(0, 5),
    )
