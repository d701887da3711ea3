"""Images that look alike are found: what was planted and nothing else, within a source and between two."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from PIL import Image, ImageDraw, ImageOps

import nctransfer as nct
from conftest import write_digits
from messages import raises
from nctransfer.errors import DataError
from nctransfer.sources import likeness
from nctransfer.sources.alignment import aligned_similarity
from nctransfer.sources.fine_detail import amount_of_detail, cosine_transform, needed_similarity
from nctransfer.sources.fingerprints import fingerprint
from nctransfer.sources.inventory import inspect
from nctransfer.sources.likeness import near_pairs
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.similar_images import (
    LOOKS_ALIKE,
    MIRROR_IMAGE,
    SAME_PIXELS,
    LookAlikes,
    find_look_alikes,
    look_alikes,
)
from pictures import DETAILED, Given, encoded, photographs

Row = tuple[str, str, bytes | OSError]
PHOTOS = [photographs()[i] for i in DETAILED]


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """Without these shares of its width and height."""
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def found(result: LookAlikes) -> dict[tuple[str, str], str]:
    """The kind of each pair by the numbers of the images."""
    return {(pair.one.id, pair.other.id): pair.kind for pair in result.pairs}


def plain_colour(grey: int, size: tuple[int, int] = (40, 30), form: str = "PNG") -> bytes:
    return encoded(Image.new("RGB", size, (grey, grey, grey)), form)


def drawing(seed: int) -> Image.Image:
    """Two strokes on an empty ground: so little that two of them could be alike by chance."""
    image = Image.new("RGB", (105, 105), "white")
    points = np.random.default_rng(seed).integers(20, 85, (3, 2)).tolist()
    ImageDraw.Draw(image).line([tuple(point) for point in points], fill="black", width=3)
    return image


# What is found

CHANGES: dict[str, tuple[Callable[[Image.Image], bytes], str]] = {
    "the same": (encoded, SAME_PIXELS),
    "BMP": (lambda image: encoded(image, "BMP"), SAME_PIXELS),
    "JPEG": (lambda image: encoded(image, "JPEG", quality=50), LOOKS_ALIKE),
    "WebP": (lambda image: encoded(image, "WEBP", quality=50), LOOKS_ALIKE),
    "half the size": (lambda image: encoded(image.resize((64, 48))), LOOKS_ALIKE),
    "another shape": (lambda image: encoded(image.resize((224, 224))), LOOKS_ALIKE),
    "grey": (lambda image: encoded(image.convert("L")), LOOKS_ALIKE),
    "darker": (lambda image: encoded(image.point(lambda value: int(value * 0.7))), LOOKS_ALIKE),
    "mirrored": (lambda image: encoded(ImageOps.mirror(image)), MIRROR_IMAGE),
    "mirrored and JPEG": (lambda image: encoded(ImageOps.mirror(image), "JPEG"), MIRROR_IMAGE),
    "cropped in the middle": (lambda image: encoded(cropped(image, 0.03, 0.03, 0.03, 0.03)), LOOKS_ALIKE),
    "cropped at a corner": (lambda image: encoded(cropped(image, 0.05, 0, 0, 0.05), "JPEG"), LOOKS_ALIKE),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_planted_is_found_and_nothing_else(change: str) -> None:
    changed, kind = CHANGES[change]
    originals: list[Row] = [("a", "", encoded(image)) for image in PHOTOS[:8]]
    result = look_alikes(Given(*originals, ("a", "", changed(PHOTOS[2])), ("a", "", changed(PHOTOS[7]))))
    assert found(result) == {("0002", "0008"): kind, ("0007", "0009"): kind}
    similarities = [pair.similarity for pair in result.pairs]
    assert (min(similarities) == 1) == (kind == SAME_PIXELS or change == "mirrored")
    assert all(0.96 <= similarity <= 1 for similarity in similarities)


def test_what_is_in_several_splits_or_classes_comes_first() -> None:
    jpeg = [encoded(image, "JPEG") for image in PHOTOS]
    result = look_alikes(
        Given(
            *[("cat", "train", encoded(image)) for image in PHOTOS[:5]],
            ("cat", "train", encoded(PHOTOS[0])),  # the same pixels, but harmless
            ("dog", "train", jpeg[1]),
            ("cat", "test", jpeg[2]),
            ("dog", "test", encoded(ImageOps.mirror(PHOTOS[3]), "JPEG")),
            ("dog", "test", jpeg[9]),
        )
    )
    assert [(pair.one.id, pair.other.id, pair.across) for pair in result.pairs] == [
        ("0003", "0008", ("split", "class")),
        ("0001", "0006", ("class",)),
        ("0002", "0007", ("split",)),
        ("0000", "0005", ()),
    ]
    assert [result.count(what) for what in ("split", "class", "source", None)] == [4, 4, 0, 2]
    assert [tuple(crossing) for crossing in result.crossings] == [("test", 2, 3, "train")]
    assert result.counts == {("cat", "train"): 5, ("dog", "train"): 1, ("cat", "test"): 1, ("dog", "test"): 1}


def test_two_sources_are_compared_and_the_first_with_itself() -> None:
    first = Given(
        *[("a", "test", encoded(image)) for image in PHOTOS[:4]], ("b", "test", encoded(PHOTOS[1], "JPEG", quality=60))
    )
    second = Given(
        ("c", "train", encoded(PHOTOS[8])),
        ("c", "train", encoded(ImageOps.mirror(PHOTOS[0]), "WEBP")),
        ("c", "train", encoded(PHOTOS[3], "BMP")),
        ("c", "train", encoded(PHOTOS[8], "JPEG")),  # like another one of the second source: nothing to be said of it
    )
    second.name = "second"
    result = look_alikes(first, second)
    assert (result.name, result.other, result.images, result.other_images) == ("given", "second", 5, 4)
    assert [(pair.one.id, pair.other.id, pair.other.source, pair.kind, *pair.across) for pair in result.pairs] == [
        ("0001", "0004", "given", LOOKS_ALIKE, "class"),
        ("0003", "0002", "second", SAME_PIXELS, "source"),
        ("0000", "0001", "second", MIRROR_IMAGE, "source"),
    ]
    assert (result.count("source"), result.count("class")) == (2, 2)


def test_a_source_looks_like_itself() -> None:
    source = Given(*[("a", "", encoded(image)) for image in photographs()])
    result = look_alikes(source, source)
    assert result.count("source") == len(photographs())
    assert {pair.kind for pair in result.pairs if pair.one.id == pair.other.id} == {SAME_PIXELS}


def test_the_order_of_images_does_not_matter() -> None:
    rows: list[tuple[str, Row]] = []
    for number, image in enumerate(PHOTOS):
        rows.append((f"{number}", (str(number % 3), "train", encoded(image))))
        rows.append((f"{number}x", (str(number % 2), "test", encoded(cropped(image, 0, 0.05, 0.04, 0), "JPEG"))))
        rows.append((f"{number}y", ("0", "test", encoded(image.convert("L"), "BMP"))))

    class Named(Given):
        names: list[str]

        def list(self) -> list:  # type: ignore[type-arg]
            return [entry._replace(id=name) for name, entry in zip(self.names, super().list(), strict=True)]

        def contents(self, entries):  # type: ignore[no-untyped-def]
            where = {name: number for number, name in enumerate(self.names)}
            return super().contents([entry._replace(id=f"{where[entry.id]:04d}") for entry in entries])

    results = []
    for seed in range(3):
        random.Random(seed).shuffle(rows)
        source = Named(*(row for _, row in rows))
        source.names = [name for name, _ in rows]
        results.append(look_alikes(source, workers=1 + seed).to_dict())
    assert len(results[0]["pairs"]) > 2 * len(PHOTOS)
    assert results[1:] == results[:1] * 2


def test_a_selection_restricts_what_is_compared() -> None:
    source = Given(*[("a", split, encoded(PHOTOS[0])) for split in ("train", "test")], ("a", "train", b"broken"))
    result = look_alikes(source, selection=Selection("train"))
    assert (result.images, result.broken, result.pairs) == (1, 1, ())


# What is not found


def test_images_that_cannot_be_read_are_counted() -> None:
    cut = encoded(PHOTOS[0])[:-2000]
    source = Given(("a", "", encoded(PHOTOS[0])), ("a", "", cut), ("a", "", b""), ("a", "", OSError("gone")))
    result = look_alikes(source, Given(("b", "", b"x"), ("b", "", encoded(PHOTOS[0], "BMP"))))
    assert (result.images, result.other_images, result.broken) == (1, 1, 4)
    assert found(result) == {("0000", "0001"): SAME_PIXELS}
    nothing = look_alikes(Given(("a", "", b"")))
    assert (nothing.images, nothing.pairs, nothing.to_frame().empty) == (0, (), True)


def test_constant_images_are_equal_only_if_their_pixels_are() -> None:
    greys = [0, 1, 128, 129, 254, 255, 128]
    noisy = np.random.default_rng(0).integers(126, 130, (2, 40, 30, 3), dtype=np.uint8)
    rows: list[Row] = [("a", "", plain_colour(grey)) for grey in greys]
    rows += [("a", "", plain_colour(128, (30, 40))), ("a", "", plain_colour(128, form="BMP"))]
    result = look_alikes(Given(*rows, *[("a", "", encoded(Image.fromarray(pixels))) for pixels in noisy]))
    assert found(result) == {("0002", "0006"): SAME_PIXELS, ("0002", "0008"): SAME_PIXELS}
    assert result.plain == len(rows) + len(noisy)


def test_mere_sky_is_not_alike() -> None:
    sky = [photographs()[i] for i in range(40) if i not in DETAILED]
    assert look_alikes(Given(*[("a", "", encoded(image, "JPEG")) for image in sky])).pairs == ()


def test_drawings_are_not_alike_by_chance() -> None:
    drawings = [drawing(seed) for seed in range(150)]
    again = [encoded(drawings[3], "BMP"), encoded(ImageOps.mirror(drawings[7]))]
    result = look_alikes(Given(*[("a", "", content) for content in [*map(encoded, drawings), *again]]))
    assert found(result) == {("0003", "0150"): SAME_PIXELS, ("0007", "0151"): MIRROR_IMAGE}


def test_digits_that_are_saved_again_are_found_and_others_are_not(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits", {"zero": 0, "one": 1, "seven": 7}, 60)
    for name in ("zero", "one"):
        with Image.open(root / name / "3.png") as image:
            image.save(root / "seven" / f"{name}.bmp")
            ImageOps.mirror(image).save(root / "seven" / f"{name}-mirrored.png")
    result = look_alikes(open_source(root))
    planted = {(f"{name}/3.png", f"seven/{name}{end}") for name in ("zero", "one") for end in (".bmp", "-mirrored.png")}
    across = {tuple(sorted((pair.one.id, pair.other.id))) for pair in result.pairs if pair.across}
    assert {tuple(sorted(pair)) for pair in planted} <= across
    assert sum(pair.similarity < 1 for pair in result.pairs) <= 1


def test_noise_is_not_alike() -> None:
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)  # broad areas, as photographs have them
    images = [Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC) for pixels in small]
    assert look_alikes(Given(*[("a", "", encoded(image, "JPEG")) for image in images])).pairs == ()


# Many of the same


def test_many_equal_images_give_few_pairs() -> None:
    rows = [("abc"[i % 3], ("train", "test")[i % 2], plain_colour(7)) for i in range(120)]
    result = look_alikes(Given(*rows))
    assert len(result.pairs) <= 4 * len(rows)
    assert [result.count(what) for what in ("split", "class")] == [120, 120]
    assert result.count(None) == 120
    assert [(crossing.images, crossing.of) for crossing in result.crossings] == [(60, 60)]


def test_more_look_alikes_than_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "MOST_CANDIDATES", 3)
    again = [("a", "", encoded(PHOTOS[0], "JPEG", quality=quality)) for quality in range(60, 90)]
    result = look_alikes(Given(*again, *[("a", "", encoded(image)) for image in PHOTOS[1:]]))
    assert len(result.pairs) <= 3 * len(again)
    assert {image.id for pair in result.pairs for image in pair[:2]} == {f"{i:04d}" for i in range(len(again))}


# The result


def test_the_dictionary_and_the_frame_hold_every_pair() -> None:
    rows = [(label, "", encoded(image, form)) for image in PHOTOS for label, form in (("a", "PNG"), ("b", "JPEG"))]
    result = look_alikes(Given(*rows))
    data = result.to_dict()
    assert len(data["pairs"]) == len(result.to_frame()) == len(PHOTOS)
    assert {(pair["image"]["class"], pair["looks_like"]["class"]) for pair in data["pairs"]} == {("a", "b")}
    assert sorted((pair["image"]["id"], pair["looks_like"]["id"]) for pair in data["pairs"]) == [
        (f"{2 * i:04d}", f"{2 * i + 1:04d}") for i in range(len(PHOTOS))
    ]
    assert data["across_classes"] == 2 * len(PHOTOS)
    assert set(result.to_frame()["across"]) == {"class"}


def test_without_fingerprints_nothing_is_compared() -> None:
    source = Given(("a", "", encoded(PHOTOS[0])))
    with raises(DataError, "given", hint="fingerprints=True"):
        find_look_alikes(inspect(source))
    with raises(DataError, hint="--fast"):
        inspect(source, headers_only=True, fingerprints=True)


def test_it_is_public_and_tells_its_progress() -> None:
    told: list[tuple[str, int, int]] = []
    source = Given(*[("a", "", encoded(image, form)) for image in PHOTOS for form in ("PNG", "JPEG")])
    assert nct.look_alikes(source, progress=lambda *step: told.append(step)).pairs
    ends = {stage: (done, total) for stage, done, total in told}
    assert all(done == total for done, total in ends.values())
    assert list(ends) == ["reading images", "comparing images", "checking candidates"]


# The parts


def thumbnails(*images: Image.Image) -> np.ndarray:
    return np.stack([fingerprint(image).thumbnail for image in images])


@pytest.mark.parametrize(
    ("left", "top", "right", "bottom"), [(0.05, 0, 0.02, 0.04), (0, 0.08, 0, 0.02), (0, 0, 0.1, 0)]
)
def test_a_crop_is_aligned_as_well_as_by_cropping_the_original(
    left: float, top: float, right: float, bottom: float
) -> None:
    """What remains after the alignment is no more than the error of cropping the original itself by whole pixels."""
    crops = [cropped(image, left, top, right, bottom) for image in PHOTOS]
    unmoved = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(thumbnails(*PHOTOS), thumbnails(*crops), strict=True)
    ]
    aligned = aligned_similarity(thumbnails(*PHOTOS), thumbnails(*crops))
    assert aligned.min() > 0.93
    assert np.median(aligned) > 0.97
    assert np.median(unmoved) < np.median(aligned)
    assert aligned == pytest.approx(aligned_similarity(thumbnails(*crops), thumbnails(*PHOTOS)), abs=1e-5)


def test_pairs_of_other_thumbnails_alone_are_left_out() -> None:
    one, two, three = PHOTOS[:3]
    given = thumbnails(one, two, ImageOps.mirror(one), three, three)
    all_pairs, some = near_pairs(given), near_pairs(given, rows=2)
    assert list(zip(all_pairs.first, all_pairs.second, all_pairs.mirrored, strict=True)) == [
        (0, 2, True),
        (3, 4, False),
    ]
    assert list(zip(some.first, some.second, some.mirrored, strict=True)) == [(0, 2, True)]
    assert not all_pairs.plain.any()


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    given = thumbnails(*photographs(), *(image.resize((50, 50)) for image in photographs()))
    whole = near_pairs(given)
    monkeypatch.setattr(likeness, "ENTRIES", 1)
    monkeypatch.setattr(likeness, "TOGETHER", 2)
    parts = near_pairs(given)
    assert len(whole.first) >= len(DETAILED)
    for one, other in zip(whole[:3], parts[:3], strict=True):
        assert (one == other).all()


def test_the_cosine_transform_is_that_of_scipy() -> None:
    pictures = np.random.default_rng(0).normal(size=(3, 32, 32)).astype(np.float32)
    assert cosine_transform(pictures) == pytest.approx(scipy.fft.dctn(pictures, axes=(1, 2), norm="ortho"), abs=1e-4)


def test_detail_does_not_depend_on_the_side_or_the_contrast() -> None:
    given = thumbnails(*PHOTOS)
    assert amount_of_detail(given[:, :, ::-1]) == pytest.approx(amount_of_detail(given), rel=1e-3)
    assert amount_of_detail(255 - given) == pytest.approx(amount_of_detail(given), rel=1e-3)
    assert amount_of_detail(given // 2) == pytest.approx(amount_of_detail(given), rel=0.15)


def test_less_detail_needs_more_similarity() -> None:
    needed = needed_similarity(np.arange(0, 200, dtype=np.float32))
    assert (np.diff(needed) <= 0).all()
    assert needed[0] > 1 > needed[12] > 0.99
    assert needed[-1] == pytest.approx(0.96)


def test_equal_pixels_of_another_shape_have_other_digests() -> None:
    wide, tall = Image.new("RGB", (6, 2)), Image.new("RGB", (2, 6))
    assert fingerprint(wide).pixels != fingerprint(tall).pixels
    assert fingerprint(wide).pixels == fingerprint(wide).mirrored


def test_a_large_image_is_found_mirrored_by_its_thumbnail() -> None:
    large = PHOTOS[0].resize((512, 384))
    assert fingerprint(large).mirrored == b""
    result = look_alikes(Given(("a", "", encoded(large)), ("a", "", encoded(ImageOps.mirror(large)))))
    assert found(result) == {("0000", "0001"): MIRROR_IMAGE}


# Real photographs


def test_photographs_saved_again_are_found(shared: Path) -> None:
    source = open_source(shared / "data" / "caltech_background.tar")
    images = [Image.open(io.BytesIO(source.read(entry))).convert("RGB") for entry in source.list()]
    names = [Path(entry.id).stem[-4:] for entry in source.list()]
    among = {(pair.one.id, pair.other.id) for pair in look_alikes(source).pairs}
    twins = {("0029", "0030"), ("0039", "0040")}  # two pictures of the same scene each, as one sees
    assert {tuple(Path(name).stem[-4:] for name in pair) for pair in among} == twins
    changes: list[Callable[[Image.Image], bytes]] = [
        lambda image: encoded(image, "JPEG", quality=40),
        lambda image: encoded(ImageOps.mirror(image), "WEBP"),
        lambda image: encoded(cropped(image, 0.02, 0.04, 0.03, 0.01), "JPEG"),
    ]
    again = Given(
        *[
            (str(k), name, change(image))
            for k, change in enumerate(changes)
            for name, image in zip(names, images, strict=True)
        ]
    )
    pairs = {
        (Path(pair.one.id).stem[-4:], pair.other.split, int(pair.other.label))
        for pair in look_alikes(source, again).pairs
        if pair.other.second
    }
    wrong = {(one, other) for one, other, _ in pairs if one != other}
    assert wrong <= twins | {(other, one) for one, other in twins}
    for k, least in enumerate((0.95, 0.95, 0.75)):
        assert sum(one == other and change == k for one, other, change in pairs) >= least * len(images)
