"""Images behind features: found again, checked by their content, and shown small within a budget."""

from __future__ import annotations

import io
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import nctransfer as nct
from conftest import write_digits
from messages import raises
from nctransfer.errors import DataError, DeviceError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet
from nctransfer.page import thumbnails
from nctransfer.page.blocks import Finding, FindingList, ImageStrip, PairCard, Section, Table
from nctransfer.page.image_finder import FoundImages, find_images
from nctransfer.page.thumbnails import choose_images, make_thumbnails, shrink, shuffled_by_class, wanted_images
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageEntry, content_digest, digest_number
from nctransfer.sources.source_kind import ReadingOptions
from pictures import DETAILED, Given, encoded, photographs


def features_of(place: Path | str, options: ReadingOptions | None = None, *, digests: bool = True) -> FeatureSet:
    """What an extraction stores about the images of a place, with numbers in place of features."""
    source = open_source(place, options)
    entries = source.list()
    images = [digest_number(content_digest(read())) for read in source.contents(entries)]
    return FeatureSet.from_arrays(
        np.arange(len(entries), dtype=float)[:, None],
        [entry.label for entry in entries],
        [entry.id for entry in entries],
        FeatureInfo("a set", data=str(place)) if digests else FeatureInfo("file.npz", data="file.npz"),
        images=torch.tensor(images) if digests else None,
    )


def everything(features: FeatureSet) -> range:
    return range(len(features))


def pixels(thumbnail: bytes) -> Image.Image:
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert image.format == "WEBP"
        return image.convert("RGB")


def shades(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L").resize((8, 8), Image.Resampling.BOX), dtype=float)


# Finding


def test_images_are_found_where_the_features_were_extracted(pets: Path) -> None:
    features = nct.extract("test_vit", pets, random_init=True, device="cpu")
    found = find_images(features)
    assert (len(found.entries), found.notes, found.others) == (18, (), [])
    for row, read in found.contents([17, 3]):
        assert read() == (pets / features.ids[row]).read_bytes()


def in_a_tar(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname="pets")
    return path


@pytest.mark.parametrize("kind", ["folder", "tar", "digits", "cifar100"])
def test_every_thumbnail_shows_the_image_of_its_row(kind: str, pets: Path, request: pytest.FixtureRequest) -> None:
    place: Path | str = {"folder": pets, "digits": "digits"}.get(kind, "")
    if kind == "tar":
        place = in_a_tar(pets)
    elif not place:
        place = request.getfixturevalue("shared") / "data" / "cifar100" / "test.parquet"
    features = features_of(place)
    rows = sorted({int(row) for row in np.linspace(0, len(features) - 1, 12)}, reverse=True)
    made = make_thumbnails(find_images(features), rows)
    assert sorted(made.images) == sorted(rows)
    entries = {entry.id: entry for entry in open_source(place).list()}
    for row in rows:
        with Image.open(io.BytesIO(open_source(place).read(entries[features.ids[row]]))) as image:
            assert np.abs(shades(image) - shades(pixels(made.images[row]))).mean() < 6


def test_a_manifest_is_read_with_the_options_that_are_given_again(pets: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "lists" / "pets.csv"
    manifest.parent.mkdir()
    lines = [f"{path.relative_to(pets)},{path.parent.name}" for path in sorted(pets.glob("*/*.png"))]
    manifest.write_text("\n".join(["picture,animal", *lines]))
    columns = ReadingOptions(image_column="picture", label_column="animal", image_root=pets)
    features = features_of(manifest, columns)
    (note,) = find_images(features).notes
    assert "--images" in note and "no image column" in note  # noqa: PT018
    without_labels = ReadingOptions(image_column="picture", image_root=pets)
    assert len(find_images(features, options=without_labels).entries) == 18
    assert len(find_images(features, manifest, without_labels).entries) == 18
    found = find_images(features, pets)
    assert (len(found.entries), found.notes) == (18, ())  # the ids of a folder are the same paths


def test_a_column_of_labels_need_not_be_named_again(tmp_path: Path) -> None:
    place = tmp_path / "pets.parquet"
    images = [encoded(image) for image in photographs()[:4]]
    pd.DataFrame({"image": images, "animal": ["cat", "dog", "cat", "dog"]}).to_parquet(place)
    features = features_of(place, ReadingOptions(label_column="animal"))
    found = find_images(features.only_rows(torch.tensor([0, 3])))
    assert (sorted(found.entries), len(found.others), found.notes) == ([0, 1], 2, ())


def test_images_that_are_gone_are_told_in_one_sentence(pets: Path, tmp_path: Path) -> None:
    features = features_of(pets)
    pets.rename(tmp_path / "moved")
    found = find_images(features)
    assert (found.source, dict(found.entries), list(found.contents([0]))) == (None, {}, [])
    (note,) = found.notes
    assert str(pets) in note
    assert "--images" in note
    assert make_thumbnails(found, everything(features)).images == {}
    assert len(find_images(features, tmp_path / "moved").entries) == 18


def test_a_place_that_is_asked_for_must_be_there(pets: Path, tmp_path: Path) -> None:
    with raises(DataError, "does not exist"):
        find_images(features_of(pets), tmp_path / "nothing")


def test_a_part_that_is_gone_is_counted(pets: Path) -> None:
    features = features_of(pets)
    (pets / "one" / "3.png").unlink()
    (pets / "two" / "0.png").unlink()
    Image.new("RGB", (9, 9)).save(pets / "two" / "new.png")
    found = find_images(features)
    assert len(found.entries) == 16
    assert [entry.id for entry in found.others] == ["two/new.png"]
    assert "2 images of 18" in " ".join(found.notes)
    assert len(make_thumbnails(found, everything(features)).images) == 16


def test_other_images_under_the_same_name_match_nothing(pets: Path) -> None:
    features = features_of(pets)
    for folder in pets.iterdir():
        folder.rename(pets / f"class {folder.name}")
    found = find_images(features)
    assert found.source is None
    assert "'one/0.png'" in found.notes[0]


def test_an_image_that_changed_is_counted_and_not_shown(pets: Path) -> None:
    features = features_of(pets)
    (pets / "one" / "3.png").write_bytes((pets / "two" / "3.png").read_bytes())
    (pets / "two" / "0.png").write_bytes(b"no image any more")
    made = make_thumbnails(find_images(features), everything(features))
    assert (len(made.images), made.changed, made.broken) == (16, 2, 0)
    assert not {features.ids.index("one/3.png"), features.ids.index("two/0.png")} & made.images.keys()


def test_an_image_that_is_gone_after_it_was_listed_is_counted(pets: Path) -> None:
    features = features_of(pets)
    found = find_images(features)
    (pets / "one" / "3.png").unlink()
    made = make_thumbnails(found, everything(features))
    assert (len(made.images), made.changed, made.broken) == (17, 0, 1)


class Failing(Given):
    """A source whose iterator fails after the first image."""

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        yield next(super().contents(entries))
        raise DataError("the disk is gone")


def test_a_source_that_fails_while_it_is_read_does_not_end_the_report() -> None:
    source = Failing(*(("a", "", encoded(photographs()[number])) for number in range(3)))
    found = find_images(FeatureSet.from_arrays(np.eye(3), ["a"] * 3, ["0000", "0001", "0002"]), source)
    made = make_thumbnails(found, range(3))
    assert (list(made.images), made.broken) == ([0], 2)
    with pytest.raises(OSError, match="the disk is gone"):
        list(found.contents([0, 1]))[1][1]()


def test_features_made_elsewhere_have_images_only_where_they_are_named(pets: Path, tmp_path: Path) -> None:
    elsewhere = features_of(pets, digests=False)
    write_digits(tmp_path / "file.npz", {"zero": 0}, 3)  # a folder with the name of their file is not theirs
    found = find_images(elsewhere)
    assert found.source is None
    assert "made elsewhere" in found.notes[0]
    named = find_images(elsewhere, pets)
    assert len(named.entries) == 18
    assert "was not checked" in named.notes[0]
    (pets / "one" / "3.png").write_bytes((pets / "two" / "3.png").read_bytes())
    assert len(make_thumbnails(named, everything(elsewhere)).images) == 18


def test_other_classes_of_unchecked_images_are_told(pets: Path) -> None:
    elsewhere = features_of(pets, digests=False)
    relabelled = FeatureSet.from_arrays(elsewhere.features, ["x"] * 18, elsewhere.ids)
    assert "18 of them have another class" in " ".join(find_images(relabelled, pets).notes)


def test_a_source_in_memory_can_be_given() -> None:
    source = Given(("a", "", encoded(photographs()[0])), ("b", "", encoded(photographs()[1])))
    features = FeatureSet.from_arrays(np.eye(2), ["a", "b"], ["0000", "0001"])
    assert len(make_thumbnails(find_images(features, source), [0, 1]).images) == 2


@pytest.mark.parametrize("name", ["hfds/nobody/nothing", "torch/cifar10"])
def test_data_on_a_server_are_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opened(_place: str, options: ReadingOptions) -> None:
        asked.append(options.offline)
        raise DataError("not here")

    monkeypatch.setattr("nctransfer.page.image_finder.open_source", opened)
    features = FeatureSet.from_arrays(np.eye(2), ["a", "b"], info=FeatureInfo("x", data=name), images=torch.zeros(2))
    assert "not here" in find_images(features).notes[0]
    assert set(asked) == {True}
    with raises(DataError, "not here"):
        find_images(features, name)
    assert asked[-1] is False


def test_a_list_on_stdin_is_never_waited_for() -> None:
    features = FeatureSet.from_arrays(np.eye(2), ["a", "b"], info=FeatureInfo("x", data="-"), images=torch.zeros(2))
    assert "'-'" in find_images(features).notes[0]


# Making


def test_a_broken_or_hostile_image_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    bomb = encoded(Image.new("L", (300, 300)))
    photograph = encoded(photographs()[0], "JPEG")
    contents: list[bytes | OSError] = [bomb, photograph[:-300], b"", b"<svg/>", OSError(5, "a bad disk"), photograph]
    source = Given(*(("a", "", content) for content in contents))
    features = FeatureSet.from_arrays(np.eye(6), ["a"] * 6, [entry.id for entry in source.list()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = make_thumbnails(find_images(features, source), range(6))
    assert (sorted(made.images), made.broken) == ([5], 5)


def shown(content: bytes) -> Image.Image:
    source = Given(("a", "", content))
    features = FeatureSet.from_arrays(np.eye(1), ["a"], ["0000"])
    return pixels(make_thumbnails(find_images(features, source), [0]).images[0])


def test_the_orientation_of_a_camera_is_obeyed() -> None:
    sideways = Image.new("RGB", (400, 200), "red")
    sideways.paste("blue", (0, 0, 200, 200))  # on the left; turned by a quarter to the right, it is on top
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = shown(encoded(sideways, "JPEG", exif=exif))
    assert upright.size == (48, 96)
    assert upright.getpixel((24, 10))[2] > 200 > 60 > upright.getpixel((24, 86))[2]


def test_what_is_transparent_is_white_and_of_an_animation_the_first_frame_is_shown() -> None:
    assert shown(encoded(Image.new("RGBA", (100, 50), (255, 0, 0, 0)))).getpixel((40, 20)) == (255, 255, 255)
    frames = [Image.new("RGB", (100, 50), colour) for colour in ("lime", "red")]
    red, green, _ = shown(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])).getpixel((40, 20))
    assert green > 200 > 60 > red


@pytest.mark.parametrize(
    ("mode", "form"), [("1", "PNG"), ("L", "JPEG"), ("P", "GIF"), ("I;16", "PNG"), ("CMYK", "JPEG")]
)
def test_images_of_every_mode_are_shown(mode: str, form: str) -> None:
    halves = Image.new("L", (300, 100))
    halves.paste(255, (0, 0, 150, 100))
    image = (
        halves.convert("I").point(lambda level: level * 257).convert(mode) if mode == "I;16" else halves.convert(mode)
    )
    small = shown(encoded(image, form))
    assert small.size == (96, 32)
    assert min(small.getpixel((10, 16))) > 240 > 15 > max(small.getpixel((86, 16)))


def test_a_large_jpeg_looks_the_same_though_it_is_not_decoded_in_full() -> None:
    photograph = photographs()[DETAILED[0]].resize((1280, 960), Image.Resampling.BICUBIC)
    content = encoded(photograph, "JPEG", quality=90)
    in_full = pixels(shrink(photograph.copy()))
    assert np.abs(np.asarray(shown(content), float) - np.asarray(in_full, float)).mean() < 3


def test_tiny_images_keep_their_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    large = np.asarray(pixels(shrink(Image.fromarray(noise))))
    np.testing.assert_array_equal(large, noise.repeat(8, 0).repeat(8, 1))


@given(st.integers(1, 400), st.integers(1, 400))
def test_a_thumbnail_keeps_the_proportions(width: int, height: int) -> None:
    small = pixels(shrink(Image.new("RGB", (width, height))))
    assert max(small.size) <= 96
    assert max(small.size) > 32
    scale = max(small.size) / max(width, height)
    assert abs(min(small.size) - max(1, scale * min(width, height))) <= 1


def test_the_least_important_thumbnails_are_left_out_if_all_are_too_large(pets: Path) -> None:
    features = features_of(pets)
    found = find_images(features)
    rows = [7, 3, 11, 0, 17]
    whole = make_thumbnails(found, rows)
    limit = sum(len(whole.images[row]) for row in (7, 3, 11))
    fewer = make_thumbnails(found, rows, most_bytes=limit)
    assert (list(fewer.images), fewer.left_out) == ([7, 3, 11], 2)
    assert fewer.images == {row: whole.images[row] for row in (7, 3, 11)}


def test_threads_make_the_same_thumbnails_and_tell_their_progress(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "AHEAD", 4)
    features = features_of(pets)
    told: list[tuple[str, int, int]] = []
    one, four = (
        make_thumbnails(
            find_images(features), everything(features), workers=workers, progress=lambda *a: told.append(a)
        )
        for workers in (1, 4)
    )
    assert one.images == four.images
    assert [done for _, done, total in told if total == 18] == [4, 8, 12, 16, 18] * 2
    with raises(DeviceError, "workers=0"):
        make_thumbnails(find_images(features), [0], workers=0)


def test_few_images_are_in_memory_at_once() -> None:
    """An image is asked for only after those long before it are done."""
    source = Given(*(("a", "", encoded(photographs()[0].resize((32, 32)))) for _ in range(150)))
    ids = [entry.id for entry in source.list()]
    found = find_images(FeatureSet.from_arrays(np.eye(150), ["a"] * 150, ids), source)
    ahead = []

    def note(_stage: str, done: int, _total: int) -> None:
        ahead.append(len(source.asked) - done)

    make_thumbnails(found, range(150), workers=2, progress=note)
    assert max(ahead) < 64


# Choosing

LISTS = st.lists(st.lists(st.integers(0, 39), max_size=5), max_size=6)


@given(LISTS, st.lists(st.integers(0, 3), min_size=40, max_size=40), st.integers(0, 50), st.integers(0, 9))
def test_findings_come_before_classes_and_classes_before_the_rest(
    lists: list[list[int]], labels: list[int], most: int, seed: int
) -> None:
    chosen = choose_images(lists, labels, most, seed)
    assert chosen == choose_images(lists, labels, most, seed)
    assert len(chosen) == len(set(chosen)) == min(most, 40)
    wanted = {row for one in lists for row in one}
    assert set(chosen[: len(wanted)]) <= wanted
    for rank in range(5):  # no finding has its image of a rank before every finding has those of the ranks above
        above = {one[place] for one in lists for place in range(rank) if place < len(one)}
        assert set(chosen[: len(above)]) <= above
    if most >= len(wanted) + len(set(labels)):
        assert {labels[row] for row in chosen} == set(labels)


def test_each_class_gets_as_many_images_as_the_others() -> None:
    labels = np.repeat([0, 1, 2], [500, 30, 5])
    assert Counter(labels[choose_images([], labels, 15)].tolist()) == {0: 5, 1: 5, 2: 5}
    assert Counter(labels[choose_images([], labels, 29)].tolist()) == {0: 12, 1: 12, 2: 5}
    more = Counter(labels[choose_images([], labels, 200)].tolist())
    assert more[2] == 5
    assert more[0] > 5 * more[1]


@given(st.lists(st.integers(0, 5), max_size=60), st.integers(0, 3))
def test_the_rows_of_a_class_are_all_there(labels: Sequence[int], seed: int) -> None:
    grouped = shuffled_by_class(labels, seed)
    assert [{labels[row] for row in rows} for rows in grouped] == [{code} for code in sorted(set(labels))]
    assert sorted(row for rows in grouped for row in rows) == list(range(len(labels)))


def test_the_images_that_a_page_shows_are_those_of_its_blocks() -> None:
    finding = Finding(id="a", image=3, kind="label", given="cat", neighbours=(4, 5))
    foreign = Finding(id="b", image=None, kind="label", given="cat")
    gallery = Table(columns=("class", "1", "2"), rows=(("a", "7", ""),), class_columns=(0,), image_columns=(1, 2))
    blocks = (
        ImageStrip(title="cat", images=(10, 11), code=0),
        gallery,
        ImageStrip(title="the farthest", images=(12,)),
        Table(columns=("image", "class", "other"), rows=(("1", "cat", "2"), ("6", "dog", "")), image_columns=(0, 2)),
        PairCard(class_a=0, class_b=1, facts={}, images_a=(20, 21), images_b=(30,)),
        FindingList(name="suspects", findings=(finding, foreign)),
    )
    section = Section(id="x", title="X", says="It shows.", blocks=blocks)
    findings, galleries = wanted_images([section])
    assert findings == [(12,), (1, 2), (6,), (20, 21), (30,), (3, 4, 5)]
    assert galleries == [(10, 11), (7,)]
    chosen = choose_images(findings, [0] * 40, 13, then=galleries)
    assert chosen == [12, 1, 6, 20, 30, 3, 2, 21, 4, 5, 10, 7, 11]


def test_nothing_is_found_behind_nothing() -> None:
    assert make_thumbnails(FoundImages(), [0, 1]).images == {}
    assert choose_images([], [], 10) == []
