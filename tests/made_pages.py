"""A page with every kind of block, of made-up images, for tests that need no backbone."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from nctransfer.features.feature_info import FeatureInfo
from nctransfer.maps.class_planes import ClassPlanes
from nctransfer.maps.image_map import ImageMap, Kept
from nctransfer.page.blocks import (
    Block,
    Chart,
    Facts,
    Finding,
    FindingList,
    ImageMapView,
    ImageStrip,
    Matrix,
    Notice,
    PageContent,
    PairCard,
    Paragraph,
    Section,
    Table,
    Verdict,
)

__all__ = ["HOSTILE", "PLAIN", "MadeImages", "image_map", "made_images", "made_page", "thumbnail"]

PLAIN = (
    "tabby cat",
    "Siamese cat",
    "red fox",
    "grey wolf",
    "husky",
    "polar bear",
    "brown bear",
    "sea lion",
    "walrus",
    "emperor penguin",
    "puffin",
    "barn owl",
)
HOSTILE = (
    "<script>alert('class')</script>",
    "<img src=x onerror=alert(1)>",
    "\"quoted\" & 'single'",
    "</script><b>bold</b>",
    "חתול בית",
    "gnp.\u202eevil\u202c",
    "🐈‍⬛ black cat 🏳️‍🌈",
    "two\nlines",
    "{{ 7 * 7 }}",
    "=1+2",
    "a very long name " * 12,
    "café",
)
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")


class MadeImages(NamedTuple):
    """Features of made-up images: ``(n, d)``, their class codes ``(n,)``, and ids."""

    features: np.ndarray
    labels: np.ndarray
    ids: tuple[str, ...]


@functools.cache
def made_images(classes: int = len(PLAIN), each: int = 25, d: int = 16) -> MadeImages:
    """Normal clusters about normal means, the classes in pairs that lie close together."""
    rng = np.random.default_rng(7)
    pairs = rng.normal(size=((classes + 1) // 2, d)) * 3
    means = np.repeat(pairs, 2, axis=0)[:classes] + rng.normal(size=(classes, d)) * 1.2
    labels = np.repeat(np.arange(classes), each)
    features = means[labels] + rng.normal(size=(len(labels), d))
    return MadeImages(features, labels, tuple(f"photos/{label:02d}/IMG_{i:04d}.jpg" for i, label in enumerate(labels)))


def thumbnail(label: int, number: int, size: int = 64) -> bytes:
    """A small WebP picture: a disc in the colour of the class, somewhere."""
    image = Image.new("RGB", (size, size), "#e8e4dc" if number % 2 else "#d5dde5")
    x, y, r = (
        size * (0.3 + 0.04 * (number % 11)),
        size * (0.35 + 0.05 * (number % 7)),
        size * (0.18 + 0.02 * (label % 5)),
    )
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), fill=COLOURS[label % len(COLOURS)])
    file = io.BytesIO()
    image.save(file, "WebP", quality=70)
    return file.getvalue()


def image_map(images: MadeImages, *, detailed: int | None = None, umap: bool = True) -> ImageMap:
    """The map of all images, by plain linear algebra."""
    centred = images.features - images.features.mean(axis=0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    points = (centred @ axes[:2].T).astype(np.float32)
    codes = np.arange(images.labels.max() + 1)[:detailed]
    means = np.stack([centred[images.labels == code].mean(axis=0) for code in codes])
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -np.inf)
    neighbours = np.argsort(-likeness, axis=1)[:, :5]
    nearest = np.take_along_axis(likeness, neighbours, axis=1)
    first, second = (singular[:2] ** 2 / (singular**2).sum()).tolist()
    layout = (points * 0.5 + np.random.default_rng(1).normal(size=points.shape)).astype(np.float32)
    return ImageMap(
        features=FeatureInfo(
            "animals", samples=len(centred), classes=int(images.labels.max()) + 1, dim=centred.shape[1]
        ),
        classes=PLAIN,
        rows=np.arange(len(centred)),
        labels=images.labels,
        x=points[:, 0],
        y=points[:, 1],
        shares=(first, second),
        variance=float((centred**2).sum() / len(centred)),
        kept=Kept(0.31, first + second),
        neighbours=neighbours,
        neighbour_distance=np.sqrt(np.maximum(2 - 2 * nearest, 0)).astype(np.float32),
        planes=ClassPlanes(
            codes=codes,
            products=(centred @ means.T).astype(np.float32),
            gram=means @ means.T,
            points=points,
            means=means @ axes[:2].T,
        ),
        umap_x=layout[:, 0] if umap else None,
        umap_y=layout[:, 1] if umap else None,
        umap_kept=Kept(0.42, None) if umap else None,
    )


def made_page(names: Sequence[str] = PLAIN, *, pictures: bool = True, **changes: Any) -> PageContent:
    """A page with every kind of block.

    Args:
        names: The names of the 12 classes.
        pictures: Whether there are thumbnails.
        changes: Fields of the page in place of those that are made.
    """
    images = made_images()
    by_class = {code: tuple(np.flatnonzero(images.labels == code).tolist()) for code in range(len(names))}
    thumbnails = (
        {i: thumbnail(int(label), i) for i, label in enumerate(images.labels) if i % 25 < 8} if pictures else {}
    )
    content = {
        "title": "Animals with efficientnet_lite0",
        "subtitle": f"{len(images.labels)} images of {len(names)} classes, 16 features per image",
        "notices": ("300 of 4,812 images are looked at: an even random share of each class.",),
        "sections": _sections(tuple(names), images, by_class),
        "classes": tuple(names),
        "counts": tuple(len(one) for one in by_class.values()),
        "image_ids": images.ids,
        "image_labels": images.labels,
        "thumbnails": thumbnails,
        "generated": "2026-01-31",
        "version": "0.0",
    }
    return PageContent(**(content | changes))


def _sections(names: tuple[str, ...], images: MadeImages, by_class: dict[int, tuple[int, ...]]) -> tuple[Section, ...]:
    def section(anchor: str, title: str, says: str, not_says: str, *blocks: Block) -> Section:
        return Section(id=anchor, title=title, says=says, not_says=not_says, blocks=blocks)

    return (
        section(
            "data",
            "The data",
            "These are the classes, with the number of images of each and a few examples.",
            "It does not show whether the labels are right; the section on suspicious labels does.",
            _class_table(names, by_class),
            *(ImageStrip(title=names[code], images=by_class[code][:6], code=code) for code in range(3)),
        ),
        section(
            "verdict",
            "The verdict",
            "This is how well simple classifiers do on these classes, with images that they have not seen.",
            "It does not say how well a network would do that is trained further.",
            Verdict(value="94.7%", label="accuracy with all labels", detail="93.1% to 96.0%, over other images"),
            Verdict(value="≈ 12", label="labels per class for 90%", detail="9 to 17, ridge regression"),
            Verdict(value="2.1%", label="labels likely wrong", detail="6 of 300 images"),
            Verdict(value="3.4×", label="faster than the largest", detail="112 images per second"),
            Paragraph(text="Ridge regression is the best of three classifiers here, if only by a little."),
            Notice(text="With fewer than 30 images per class the interval is wide."),
            Facts(items={"backbone": "efficientnet_lite0", "features": "1280", "images per class": "25"}),
        ),
        section(
            "class-map",
            "Class map",
            "Cells with a strong colour are classes that look alike.",
            "",
            *_class_map(names, images),
        ),
        section(
            "image-map",
            "Image map",
            "Each point is an image.",
            "Two dimensions do not show all of the space.",
            ImageMapView(map=image_map(images), alt="300 images as points.", caption="All 300 images."),
        ),
        section(
            "closest-pairs",
            "Closest pairs",
            "These classes lie closest.",
            "",
            *_pairs(by_class),
            _look_alikes(names, by_class),
        ),
        section(
            "confusion", "Confusion", "Rows are given classes, columns predicted ones.", "", _confusion(names, images)
        ),
        section("learning-curve", "Learning curve", "More labels help at first.", "", _chart("learning-curve")),
        section(
            "suspects",
            "Suspicious labels",
            "These images deserve a look.",
            "Not each of them is wrong.",
            _findings(names, images, by_class),
        ),
    )


def _class_table(names: tuple[str, ...], by_class: dict[int, tuple[int, ...]]) -> Table:
    accuracies = [99.2, 100.0, 8.5, 94.7, 70.25, 88.0, 91.5, 60.0, 94.71, 5.0, 77.7, 81.3]
    rows = tuple(
        (name, f"{1234 * (code + 1) % 5000:,}", f"{accuracies[code]}%", f"≥ {50 - code}", str(by_class[code][0]))
        for code, name in enumerate(names)
    )
    return Table(
        columns=("class", ">images", ">accuracy", ">labels needed", "example"),
        rows=rows,
        caption="The classes, by code.",
        class_columns=(0,),
        image_columns=(4,),
    )


def _look_alikes(names: tuple[str, ...], by_class: dict[int, tuple[int, ...]]) -> Table:
    return Table(
        columns=("class", "image", "image"),
        rows=tuple((names[code], str(by_class[code][0]), str(by_class[code][1])) for code in range(2)),
        caption="Images that look alike.",
        class_columns=(0,),
        image_columns=(1, 2),
        folded=True,
    )


def _class_map(names: tuple[str, ...], images: MadeImages) -> tuple[Block, ...]:
    means = np.stack([images.features[images.labels == code].mean(axis=0) for code in range(len(names))])
    distance = np.linalg.norm(means[:, None] - means[None], axis=2).astype(np.float32)
    distance[2, 5] = distance[5, 2] = np.nan
    order = tuple(reversed(range(len(names))))
    values = distance[np.ix_(order, order)]
    pairs = sorted((float(distance[a, b]), a, b) for a in range(len(names)) for b in range(a) if distance[a, b] > 0)
    table = Table(
        columns=("class", "class", ">distance"),
        rows=tuple((names[a], names[b], f"{value:.2f}") for value, a, b in pairs),
        class_columns=(0, 1),
    )
    matrix = Matrix(
        name="class-distances",
        values=values,
        codes=order,
        kind="distance",
        legend="distance in within-class standard deviations",
        alt="A heat map of the distances of 12 classes.",
        caption="n = 300, C = 12, efficientnet_lite0.",
        table=table,
    )
    return (matrix, _dendrogram(names))


def _dendrogram(names: tuple[str, ...]) -> Chart:
    from html import escape

    lines = "".join(
        f'<path d="M 150 {20 * i + 12} H {230 + 15 * (i % 3)}" style="fill: none; stroke: var(--muted)"/>'
        f'<g data-class="{i}"><text x="144" y="{20 * i + 16}" style="font-size: 10px; text-anchor: end">'
        f"{escape(name.replace(chr(10), ' ')[:24])}</text></g>"
        for i, name in enumerate(names)
    )
    return Chart(svg=_svg(300, 250, lines), alt="A tree of classes.", caption="Which classes join first.")


def _chart(name: str) -> Chart:
    shots = (1, 2, 5, 10, 20)
    accuracy = (61.2, 72.9, 85.0, 90.3, 93.8)
    places = [(50 + 80 * i, 260 - 2.4 * value) for i, value in enumerate(accuracy)]
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in places)
    marks = "".join(f'<circle cx="{x:g}" cy="{y:g}" r="3.5" style="fill: var(--c0)"/>' for x, y in places)
    words = "".join(
        f'<text x="{x:g}" y="280" style="font-size: 10px; text-anchor: middle">{shot}</text>'
        for shot, (x, _) in zip(shots, places, strict=True)
    )
    frame = '<path d="M 40 10 V 262 H 400" style="fill: none; stroke: var(--muted)"/>'
    curve = f'<path d="{path}" style="fill: none; stroke: var(--c0); stroke-width: 1.5"/>'
    rows = tuple(
        (str(shot), f"{value} ± {4 - i * 0.5}") for i, (shot, value) in enumerate(zip(shots, accuracy, strict=True))
    )
    return Chart(
        svg=_svg(420, 300, frame + curve + marks + words),
        alt="Accuracy rises with the number of labels.",
        caption="Accuracy by labelled images per class; n = 300, C = 12.",
        table=Table(columns=(">labels per class", ">accuracy (%)"), rows=rows),
    )


def _svg(width: int, height: int, inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="100%" role="img" '
        f'style="font-family: inherit; fill: currentColor">{inside}</svg>'
    )


def _pairs(by_class: dict[int, tuple[int, ...]]) -> list[PairCard]:
    return [
        PairCard(
            class_a=a,
            class_b=a + 1,
            facts={"distance": f"{2.1 + a / 10:.2f}", "accuracy of the pair": "91.0% (84.1% to 95.6%)"},
            images_a=by_class[a][:4],
            images_b=by_class[a + 1][:4],
        )
        for a in (0, 4)
    ]


def _confusion(names: tuple[str, ...], images: MadeImages) -> Matrix:
    count = len(names)
    shares = np.full((count, count), 0.0, np.float32)
    for code in range(count):
        shares[code, code ^ 1] = 0.04 * (code % 4)
        shares[code, (code + 5) % count] = 0.01
        shares[code, code] = 1 - shares[code].sum()
    table = Table(
        columns=("given", "predicted", ">share"),
        rows=tuple((names[c], names[c ^ 1], f"{shares[c, c ^ 1]:.1%}") for c in range(count)),
        class_columns=(0, 1),
    )
    return Matrix(
        name="confusion",
        values=shares,
        codes=tuple(range(count)),
        kind="share",
        legend="share of the images of a given class (rows) by predicted class (columns)",
        alt="A confusion matrix of 12 classes.",
        table=table,
    )


def _findings(names: tuple[str, ...], images: MadeImages, by_class: dict[int, tuple[int, ...]]) -> FindingList:
    ids = images.ids
    found = [
        Finding(
            id=ids[by_class[code][0]],
            image=by_class[code][0],
            kind="label",
            given=names[code],
            suggested=names[code ^ 1],
            expected_precision=0.93 - 0.06 * code,
            why="Its nearest images are of the suggested class.",
            neighbours=by_class[code ^ 1][:3],
        )
        for code in range(6)
    ]
    hostile = Finding(
        id='=HYPERLINK("http://example.com","a, b")',
        image=None,
        kind="duplicate",
        given=names[7],
        like=ids[by_class[7][2]],
        why="It stands twice.",
    )
    outlier = Finding(id=ids[by_class[9][1]], image=by_class[9][1], kind="outlier", given=names[9])
    return FindingList(name="suspects", findings=(*found, hostile, outlier))
