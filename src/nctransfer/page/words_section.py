"""The technical terms of a page, each in one plain sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.page.blocks import (
    Chart,
    Facts,
    FindingList,
    ImageMapView,
    Matrix,
    Notice,
    PairCard,
    Paragraph,
    Section,
    Table,
    Verdict,
)

if TYPE_CHECKING:
    from nctransfer.page.blocks import Block

__all__ = ["with_words", "words_section"]

LAST = "how-it-was-made"  # the section before which the words stand


class _Term(NamedTuple):
    """A term, what it means, and a regular expression for its forms in lower case."""

    name: str
    meaning: str
    forms: str


TERMS = (
    _Term(
        "95% interval",
        "A range that is made such that it holds the true value in 95 of 100 studies like this one.",
        r"95% intervals?|95%-interval",
    ),
    _Term(
        "backbone",
        "The network that turns each image into features; it learns nothing more here.",
        r"backbones?",
    ),
    _Term(
        "bound",
        "A limit that is proven and not estimated; it supposes little, so it is often far from what is measured.",
        r"bounds?",
    ),
    _Term(
        "CDNV",
        "Class-distance normalised variance: the variance within two classes divided by the squared distance of their "
        "means, which is 0 if all images of a class have the same features.",
        r"cdnv",
    ),
    _Term(
        "collapse",
        "The images of a class lie close together compared with the distance between classes, which makes classes easy "
        "to learn; in full collapse, all images of a class have the same features.",
        r"collapsed?",
    ),
    _Term(
        "debiased",
        "Corrected for the noise in means of few images, which makes classes look farther apart than they are.",
        r"debiased",
    ),
    _Term(
        "dendrogram",
        "A tree that joins classes step by step into groups, the closest ones first.",
        r"dendrograms?",
    ),
    _Term(
        "digest",
        "A short number that is computed from the content of a file: equal files have equal digests.",
        r"digests?",
    ),
    _Term(
        "directional CDNV",
        "CDNV in which only the variance along the line between the means of the two classes counts.",
        r"directional cdnv",
    ),
    _Term(
        "episode",
        "A small task that is drawn at random to measure a classifier: some classes, some labelled images of each, and "
        "some other images that are classified.",
        r"episodes?",
    ),
    _Term(
        "extrapolated",
        "Continued beyond what was measured, along the curves that fit the measured part.",
        r"extrapolat(?:ed|es|ion)",
    ),
    _Term("features", "The numbers that a backbone computes from an image.", r"features?"),
    _Term(
        "GMACs",
        "Billions of multiplications with additions that a backbone does for one image; more take more time.",
        r"gmacs",
    ),
    _Term(
        "leave-one-out",
        "Each image is classified by a classifier that has learned from other images only.",
        r"leave-one-out",
    ),
    _Term("licence", "What the publishers of the weights of a backbone allow you to do with them.", r"licen[cs]es?"),
    _Term(
        "logistic regression",
        "A linear classifier that is fitted such that the right classes get a high probability.",
        r"logistic(?: regression)?",
    ),
    _Term(
        "nearest class centre (ncc)",
        "A classifier that gives an image the class whose mean features are nearest to its own.",
        r"nearest class cent(?:re|er)|ncc",
    ),
    _Term(
        "outlier",
        "An image that lies as far from every class as images usually lie from a class that is not their own.",
        r"outliers?",
    ),
    _Term(
        "parameters",
        "The numbers that the training of a backbone has set; M stands for a million.",
        r"parameters",
    ),
    _Term(
        "Pareto front",
        "The backbones that no other one beats in both accuracy and speed.",
        r"pareto(?: front)?",
    ),
    _Term(
        "pre_logits",
        "The output of a backbone just before the layer that tells the classes of its own training.",
        r"pre_logits",
    ),
    _Term(
        "principal axes",
        "The directions in the space of features in which the images differ most.",
        r"principal ax[ei]s",
    ),
    _Term("query", "An image that is classified to measure how accurate a classifier is.", r"quer(?:y|ies)"),
    _Term(
        "ridge regression",
        "A linear classifier whose weights are kept small, so that it follows the classes and not the single images.",
        r"ridge(?: regression)?",
    ),
    _Term(
        "shot",
        "A labelled image per class that a classifier learns from: 5-shot means five of each class.",
        r"(?:\d+-)?shots?",
    ),
    _Term(
        "UMAP",
        "A method that places images in a plane so that near ones stay near; larger distances there mean nothing.",
        r"umap",
    ),
    _Term("way", "A class of an episode: 5-way means that one of five classes is to be told.", r"\d+-way"),
    _Term(
        "width",
        "The number of features that a backbone gives to each image, which are the dimensions of their space.",
        r"width",
    ),
    _Term(
        "within-class standard deviation",
        "How far images usually lie from the mean of their own class: the root of the mean squared distance.",
        r"within-class standard deviations?",
    ),
)


def with_words(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The sections of a page, and one that explains their terms before the one on how the page was made.

    Args:
        sections: The sections, in their order.
    """
    explained = words_section(sections)
    if explained is None:
        return tuple(sections)
    place = next((number for number, one in enumerate(sections) if one.id == LAST), len(sections))
    return (*sections[:place], explained, *sections[place:])


def words_section(sections: Sequence[Section]) -> Section | None:
    """The technical terms that occur in some sections, with what they mean.

    Args:
        sections: The sections.

    Returns:
        ``None`` if no term occurs.
    """
    text = "\n".join(text for section in sections for text in _texts(section)).lower()
    found = [term for term in TERMS if re.search(rf"(?<![\w-])(?:{term.forms})(?![\w-])", text)]
    if not found:
        return None
    return Section(
        id="words",
        title="Words",
        says="It explains the technical terms of this page, each in one sentence.",
        blocks=(Facts(items={term.name: term.meaning for term in found}),),
    )


def _texts(section: Section) -> Iterator[str]:
    yield from (section.title, section.says, section.not_says)
    for block in section.blocks:
        yield from _of_block(block)


def _of_block(block: Block) -> Iterator[str]:
    """What a block says, without names of classes and images as far as they can be told apart."""
    match block:
        case Paragraph() | Notice():
            yield block.text
        case Facts():
            yield from (*block.items, *block.items.values())
        case Verdict():
            yield from (block.label, block.detail)
        case Table():
            yield from (block.caption, *block.columns)
            names = {*block.class_columns, *block.image_columns}
            yield from (cell for row in block.rows for number, cell in enumerate(row) if number not in names)
        case Chart() | Matrix():
            yield block.caption
            if isinstance(block, Matrix):
                yield block.legend
            if block.table is not None:
                yield from _of_block(block.table)
        case ImageMapView():
            yield block.caption
        case PairCard():
            yield from block.facts
        case FindingList():
            yield from (one.kind for one in block.findings)
        case _:
            return
