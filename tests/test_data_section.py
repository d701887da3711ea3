"""The data on a page: counts, sizes, what was planted among the files and nothing else, and a gallery."""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from conftest import write_digits
from nctransfer.features.feature_set import FeatureSet
from nctransfer.figures.class_counts_figure import class_counts_figure, shown_classes
from nctransfer.figures.image_sizes_figure import image_sizes_figure
from nctransfer.page import data_findings, found_data
from nctransfer.page.blocks import Chart, Facts, ImageStrip, Notice, Paragraph, Section, Table
from nctransfer.page.data_counts import copies_of
from nctransfer.page.data_section import data_section
from nctransfer.page.image_finder import FoundImages, find_images
from nctransfer.page.thumbnails import choose_images, make_thumbnails, wanted_images
from pictures import DETAILED, Given, encoded, photographs
from test_thumbnails import features_of

B = TypeVar("B")


def of(section: Section, kind: type[B]) -> list[B]:
    return [block for block in section.blocks if isinstance(block, kind)]


def words(section: Section) -> str:
    texts = [block.text for block in section.blocks if isinstance(block, Paragraph | Notice)]
    return " ".join([*texts, *(block.caption for block in section.blocks if isinstance(block, Table))])


def facts(section: Section) -> dict[str, str]:
    (found,) = of(section, Facts)
    return dict(found.items)


def table(section: Section, caption: str) -> Table:
    (found,) = (one for one in of(section, Table) if one.caption.startswith(caption))
    return found


def section_of(place: Path) -> tuple[FeatureSet, Section]:
    features = features_of(place)
    return features, data_section(features, find_images(features))


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Two classes of four photographs that show different things, two splits of one of them."""
    root = tmp_path / "animals"
    chosen = [photographs()[number] for number in DETAILED]
    for number, name in enumerate(["cat/0", "cat/1", "cat/2", "cat/3", "dog/0", "dog/1"]):
        path = root / "train" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen[number].save(path)
    (root / "test" / "cat").mkdir(parents=True)
    chosen[6].save(root / "test" / "cat" / "4.png")
    return root


# Classes


def test_the_classes_are_counted_and_the_files_described(animals: Path) -> None:
    features, section = section_of(animals)
    shown = facts(section)
    assert (shown["images"], shown["classes"], shown["splits"]) == ("7", "2", "test 1, train 6")
    assert (shown["formats"], shown["image sizes"]) == ("PNG 7", "128×96 each")
    assert shown["broken"] == "none"
    assert "The 7 images are all different files. No two of these look alike" in words(section)
    (chart,) = of(section, Chart)
    assert chart.table is not None
    assert chart.table.rows == (("cat", "5", "71.4%"), ("dog", "2", "28.6%"))
    assert "Class cat has 5 images, the most, and class dog has 2 images, the fewest" in chart.alt
    assert chart.svg.startswith("<svg")
    assert [one.title for one in of(section, ImageStrip)] == ["cat", "dog"]
    for strip in of(section, ImageStrip):
        assert {features.classes[features.labels[row]] for row in strip.images} == {strip.title}
    assert section.says
    assert section.not_says


def test_counts_are_those_of_the_whole_set_if_only_a_part_is_read(animals: Path) -> None:
    features = features_of(animals)
    part = features.only_rows(torch.tensor([0, 1, 5, 6]))
    section = data_section(part, find_images(part), counts=features.counts.tolist())
    (chart,) = of(section, Chart)
    assert facts(section)["images"] == "7"
    assert chart.table is not None
    assert chart.table.rows[0] == ("cat", "5", "71.4%")
    assert sorted(row for one in of(section, ImageStrip) for row in one.images) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("counts", "said"),
    [([3, 3], "balanced: each has 3"), ([5, 4], "Class a has 5 images"), ([9, 2], "4.5 times as many")],
)
def test_what_the_class_sizes_mean_is_said(counts: list[int], said: str) -> None:
    labels = np.repeat(["a", "b"], counts)
    section = data_section(FeatureSet.from_arrays(np.eye(len(labels)), labels), FoundImages(notes=("Gone.",)))
    assert said in words(section)
    assert ("times as many" in words(section)) == (counts == [9, 2])


def test_classes_of_one_size_are_counted_together() -> None:
    labels = np.repeat(["a", "b", "c", "d"], [30, 29, 29, 31])
    section = data_section(FeatureSet.from_arrays(np.eye(len(labels)), labels), FoundImages())
    assert "Class d has 31 images, the most, and 2 classes have 29 images each, the fewest." in words(section)
    assert of(section, Chart) == []  # bars would all look the same
    (sizes,) = of(section, Table)
    assert sizes.folded
    assert [row[1] for row in sizes.rows] == ["31", "30", "29", "29"]


def test_sizes_of_images_are_drawn_where_the_classes_are_balanced(tmp_path: Path) -> None:
    sides = [20, 31, 32, 32, 47, 150]
    for number, side in enumerate(sides):
        path = tmp_path / "sizes" / f"class {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side + 5, side) if number % 3 else (side, side + 9)).save(path)
    _, section = section_of(tmp_path / "sizes")
    (chart,) = of(section, Chart)
    assert chart.table is not None
    for low, high, images in chart.table.rows:
        assert sum(int(low) <= side < int(high) for side in sides) == int(images)
    assert sum(int(row[2]) for row in chart.table.rows) == len(sides)
    assert "20 to 150 pixels" in chart.alt
    (axes,) = image_sizes_figure(sides, 64).axes
    assert sum(bar.get_height() for bar in axes.patches) == len(sides)
    assert [text.get_text() for text in axes.texts] == ["the backbone takes 64"]
    assert not image_sizes_figure(sides, 500).axes[0].texts  # beyond all images


def test_images_that_are_not_on_the_page_are_counted(animals: Path) -> None:
    features = features_of(animals)
    part = features.only_rows(torch.tensor([0, 1, 5]))
    section = data_section(part, find_images(part))
    assert "Of the 7 images in animals, 3 are on this page and 4 are not on the page" in words(section)


def test_each_copy_counts_once_however_many_there_are(animals: Path) -> None:
    for name in ("train/cat/a", "train/cat/b", "train/dog/c", "train/dog/d", "test/cat/e"):
        shutil.copy(animals / "train/cat/0.png", animals / f"{name}.png")
    features = features_of(animals)
    report = looked(features, find_images(features), 100).report
    assert copies_of(report) == (1, 1, 3)


def test_of_many_classes_the_largest_and_the_smallest_are_drawn() -> None:
    counts = np.random.default_rng(0).permutation(200).tolist()
    codes, before = shown_classes(counts)
    assert [counts[code] for code in codes[:before]] == list(range(199, 169, -1))
    assert [counts[code] for code in codes[before:]] == list(range(29, -1, -1))
    names = [f"class {code}" for code in range(200)]
    (axes,) = class_counts_figure(names, counts).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [names[code] for code in codes]
    assert [bar.get_width() for bar in axes.patches] == [counts[code] for code in codes]
    assert any("140 classes between" in text.get_text() for text in axes.texts)


def test_bars_and_names_in_the_chart_belong_to_their_class() -> None:
    labels = np.repeat(["<b>&", "a$x$", "\N{CAT FACE}"], [1, 5, 3])
    features = FeatureSet.from_arrays(np.eye(9), labels)
    (chart,) = of(data_section(features, FoundImages()), Chart)
    root = ET.fromstring(chart.svg)
    marked = [element.get("data-class") for element in root.iter() if element.get("data-class")]
    assert {int(code) for code in marked if code} == {0, 1, 2}
    assert len(marked) == 6
    written = " ".join(root.itertext())
    assert all(name in written for name in features.classes)


# What is wrong


def test_identical_images_are_listed_by_what_they_spoil(animals: Path) -> None:
    shutil.copy(animals / "train/cat/0.png", animals / "train/dog/copy.png")
    shutil.copy(animals / "train/cat/1.png", animals / "test/cat/copy.png")
    shutil.copy(animals / "train/cat/2.png", animals / "train/cat/copy.png")
    features, section = section_of(animals)
    for caption, pair in (
        ("Identical images in different splits", {"train/cat/1.png", "test/cat/copy.png"}),
        ("Identical images in different classes", {"train/cat/0.png", "train/dog/copy.png"}),
        ("Identical images in one class", {"train/cat/2.png", "train/cat/copy.png"}),
    ):
        found = table(section, caption)
        (row,) = found.rows
        assert {features.ids[int(row[column])] for column in found.image_columns} == pair
        for image, label in zip(found.image_columns, found.class_columns, strict=True):
            assert row[label] == features.classes[features.labels[int(row[image])]]
    assert "At least one of the labels is wrong, unless" in words(section)
    assert "does not measure unseen images" in words(section)
    assert (
        "Of the 10 images, 3 are copies of another file, byte for byte: 1 repeats an image of another "
        "class, 1 repeats an image of the same class in another split and 1 repeats an image of the same class. That "
        "leaves 7 different files. No two of these look alike"  # identical images are not counted twice
    ) in words(section)


def test_images_that_look_alike_are_shown_side_by_side(animals: Path) -> None:
    mirrored = ImageOps.mirror(photographs()[DETAILED[0]])
    mirrored.save(animals / "train/dog/mirrored.png")
    photographs()[DETAILED[1]].save(animals / "test/cat/again.jpg", quality=80)
    features, section = section_of(animals)
    found = table(section, "Images that look alike")
    pairs = {
        frozenset(features.ids[int(row[column])] for column in found.image_columns): (row[4], row[6])
        for row in found.rows
    }
    assert pairs == {
        frozenset({"train/cat/0.png", "train/dog/mirrored.png"}): ("mirror image", "class"),
        frozenset({"train/cat/1.png", "test/cat/again.jpg"}): ("looks alike", "split"),
    }
    assert "accuracy on test is too good" in words(section)
    assert "check their labels" in words(section)
    chosen = choose_images(wanted_images([section])[0], features.labels, 4)
    thumbnails = make_thumbnails(find_images(features), chosen)
    assert {features.ids[row] for row in thumbnails.images} == set().union(*pairs)


def test_what_is_not_listed_or_not_compared_is_counted(animals: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_findings, "LISTED", 2)
    for number in range(4):
        photographs()[DETAILED[number]].save(animals / "train" / "cat" / f"again {number}.jpg")
        (animals / "train" / "cat" / f"broken {number}.png").write_bytes(b"")
    Image.new("RGB", (64, 64), "red").save(animals / "train" / "dog" / "blank.png")
    _, section = section_of(animals)
    assert "4 pairs (8 images) look alike although the files differ, all within a class." in words(section)
    assert "4 cannot be read" not in words(section)  # they are on the page, and listed there as broken
    assert "2 further pairs are not listed" in words(section)
    assert "2 further images are not listed" in words(section)
    assert "1 image with too little detail" in words(section)
    within = table(section, "Images that look alike")
    assert [(row[2], row[3]) for row in within.rows] == [("cat", "looks alike")] * 2
    assert within.image_columns == (0, 1)


def test_broken_images_are_listed_whether_they_broke_before_or_after(animals: Path) -> None:
    features = features_of(animals)
    (animals / "train/dog/broken.png").write_bytes(b"not an image")  # so it has no features
    found = find_images(features)
    (animals / "train/dog/0.png").unlink()
    section = data_section(features, found)
    assert dict(table(section, "Images that cannot be read").rows) == {
        "train/dog/broken.png": "not an image in a known format",
        "train/dog/0.png": "No such file or directory",
    }
    assert facts(section)["broken"] == "2 images"
    assert "Of the 8 images in animals, 7 are on this page and 1 cannot be read. The 6 images that can" in words(
        section
    )
    assert features.ids.index("train/dog/0.png") not in [row for one in of(section, ImageStrip) for row in one.images]


def test_images_that_changed_are_told_and_not_shown(animals: Path) -> None:
    features = features_of(animals)
    Image.new("RGB", (5, 5)).save(animals / "train/cat/0.png")
    section = data_section(features, find_images(features))
    assert "1 image has changed" in words(section)
    assert facts(section)["image sizes"] == "128×96 each"
    assert features.ids.index("train/cat/0.png") not in [row for one in of(section, ImageStrip) for row in one.images]
    assert facts(section)["broken"] == "none"


def test_the_section_goes_on_if_every_image_has_changed(animals: Path) -> None:
    features = features_of(animals)
    for path in animals.rglob("*.png"):
        path.write_bytes(b"something else")
    section = data_section(features, find_images(features))
    assert "7 images have changed" in words(section)
    assert "different files" not in words(section)
    assert of(section, ImageStrip) == []


# Limits


def test_without_images_the_classes_are_still_counted(animals: Path) -> None:
    features = features_of(animals)
    shutil.rmtree(animals)
    section = data_section(features, find_images(features))
    assert [type(block) for block in section.blocks] == [Facts, Paragraph, Chart]
    assert "not found" in section.not_says
    assert wanted_images([section]) == ([], [])


def many(classes: int, each: int) -> tuple[FeatureSet, FoundImages]:
    content = encoded(photographs()[0].resize((32, 24)))
    source = Given(*((f"class {number:04d}", "", content) for number in range(classes) for _ in range(each)))
    entries = source.list()
    features = FeatureSet.from_arrays(
        np.zeros((len(entries), 1)), [entry.label for entry in entries], [entry.id for entry in entries]
    )
    return features, find_images(features, source)


def test_many_classes_are_shown_in_a_table() -> None:
    features, found = many(70, 2)
    section = data_section(features, found)
    gallery = table(section, "Images of each class")
    assert (len(gallery.rows), len(gallery.columns)) == (70, 4)
    for name, *images in gallery.rows:
        assert images[2] == ""
        assert {features.classes[features.labels[int(image)]] for image in images[:2]} == {name}


def test_of_too_many_images_an_equal_share_of_each_class_is_read() -> None:
    features, found = many(5, 20)
    assert found.source is not None
    section = data_section(features, found, most=25)
    assert "25 of 100 images were read" in words(section)
    assert {len(one.images) for one in of(section, ImageStrip)} == {5}
    assert sum(one.images for one in [looked(features, found, 25).report]) == 25


def looked(features: FeatureSet, found: FoundImages, most: int) -> found_data.LookedThrough:
    return found_data.look_through(features, found, most=most)


def test_images_that_would_take_minutes_to_decode_are_not_compared(
    animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(found_data, "MOST_PIXELS", 7 * 128 * 96 - 1)
    shutil.copy(animals / "train/cat/0.png", animals / "train/dog/copy.png")
    features, section = section_of(animals)
    assert "were not looked for" in words(section)
    assert f"nctransfer data {animals}" in words(section)
    assert "1 repeats an image of another class" in words(section)
    assert "look alike although" not in words(section)
    assert sum(len(one.images) for one in of(section, ImageStrip)) == len(features)


def test_progress_is_told_and_the_section_is_the_same_again(pets: Path) -> None:
    features = features_of(write_digits(pets / "more", {"nine": 9}, 3).parent)
    told: list[tuple[str, int, int]] = []
    tell: Callable[[str, int, int], None] = lambda *what: told.append(what)  # noqa: E731
    one = data_section(features, find_images(features), progress=tell)
    other = data_section(features, find_images(features), workers=3)
    assert ("reading images", len(features), len(features)) in told
    assert one == other


def test_real_photographs_have_the_findings_that_are_known(shared: Path) -> None:
    features = features_of(shared / "data" / "cifar100" / "test.parquet")
    known = ["baby", "girl", "otter", "seal"]
    part = features.only_classes(torch.tensor([features.classes.index(name) for name in known]))
    found = table(data_section(part, find_images(part)), "Identical images in different classes")
    assert [(row[1], row[3]) for row in found.rows] == [("baby", "girl"), ("otter", "seal")]
