"""What a data source holds is counted right: classes, sizes, broken images, and the same image twice."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from messages import missing, says, those
from nctransfer.errors import DeviceError, FeaturesError
from nctransfer.report.data_sheets import data_sheets
from nctransfer.report.json_text import to_json
from nctransfer.report.markdown import to_markdown
from nctransfer.report.sheet import plain
from nctransfer.sources import inventory
from nctransfer.sources.data_report import Copy, DataReport, Sizes
from nctransfer.sources.identical_images import groups_of
from nctransfer.sources.inventory import inspect
from nctransfer.sources.leakage import compare
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import ImageEntry
from pictures import Given


def png(number: int, mode: str = "RGB", size: tuple[int, int] = (4, 3), form: str = "PNG") -> bytes:
    """An image like no other of another number."""
    buffer = io.BytesIO()
    image = Image.new("L", size, number % 251).convert(mode)
    image.save(buffer, form)
    return buffer.getvalue()


TWO_SPLITS = Given(
    ("cat", "train", png(1)),
    ("cat", "train", png(2)),
    ("cat", "test", png(3)),
    ("dog", "train", png(4)),
    ("emu", "test", png(5)),
)

# Classes and splits


def test_classes_and_splits_are_counted() -> None:
    report = inspect(TWO_SPLITS)
    assert (report.kind, report.name, report.notes) == ("given", "given", ("something was left out",))
    assert report.images == 5
    assert report.classes == {"cat": 3, "dog": 1, "emu": 1}
    assert report.splits == {"test": 2, "train": 3}
    assert report.largest_class == ("cat", 3)
    assert report.smallest_class == ("dog", 1)
    assert report.median_class == 1
    assert report.file_bytes == sum(len(content) for _, _, content in TWO_SPLITS.rows if isinstance(content, bytes))


def test_the_frame_has_a_row_for_each_class_and_split() -> None:
    frame = inspect(TWO_SPLITS).to_frame()
    assert list(frame.columns) == ["class", "split", "images", "broken", "bytes"]
    assert frame[["class", "split", "images"]].to_numpy().tolist() == [
        ["cat", "test", 1],
        ["cat", "train", 2],
        ["dog", "train", 1],
        ["emu", "test", 1],
    ]
    assert frame["bytes"].iloc[2] == len(png(4))


def test_without_splits_there_are_none() -> None:
    assert inspect(Given(("a", "", png(1)))).splits == {}


def test_a_selection_restricts_what_is_read() -> None:
    source = Given(*TWO_SPLITS.rows)
    report = inspect(source, selection=Selection("train", classes=("cat",)))
    assert source.asked == ["0000", "0001"]
    assert (report.images, report.splits, report.selection) == (2, {"train": 2}, "split train, 1 chosen class")
    assert inspect(source, selection=Selection(max_per_class=1)).images == 4


def test_a_selection_of_what_is_not_there() -> None:
    with pytest.raises(FeaturesError) as error:
        inspect(TWO_SPLITS, selection=Selection("dev"))
    says(error, "'dev'", hint=["'test'", "'train'"])


# Images


def test_modes_and_formats_are_those_of_the_files() -> None:
    report = inspect(
        Given(
            ("a", "", png(1)),
            ("a", "", png(2)),
            ("a", "", png(3, "L", form="JPEG")),
            ("a", "", png(4, "1")),
            ("a", "", png(5, "RGBA")),
            ("a", "", png(6, "I;16", form="TIFF")),
        )
    )
    assert report.modes == {"RGB": 2, "L": 1, "1": 1, "RGBA": 1, "I;16": 1}
    assert report.formats == {"PNG": 4, "JPEG": 1, "TIFF": 1}
    assert not report.broken


def test_sizes_are_ordered_by_their_area() -> None:
    sizes = [(9, 9), (1, 50), (2, 10), (20, 5), (9, 9), (9, 9)]
    report = inspect(Given(*(("a", "", png(i, size=size)) for i, size in enumerate(sizes))))
    assert report.sizes == Sizes(smallest=(2, 10), median=(9, 9), largest=(20, 5), different=4)
    assert report.dimensions.tolist() == list(map(list, sizes))


@given(st.lists(st.integers(1, 5), min_size=1))
def test_the_median_size_is_that_of_the_images(widths: list[int]) -> None:
    found = inventory._sizes(np.array([(width, 1) for width in widths], np.int32))
    assert found is not None
    assert found.median[0] == sorted(widths)[(len(widths) - 1) // 2]


# Broken images

TRUNCATED = png(7, size=(64, 64))[:-30]


def test_broken_images_are_named_with_the_reason() -> None:
    report = inspect(
        Given(
            ("a", "", png(1)),
            ("a", "", b""),
            ("b", "", b"no image"),
            ("b", "", TRUNCATED),
            ("b", "", PermissionError(13, "Permission denied")),
            ("b", "", OSError("outside of the file")),
        )
    )
    words = {
        "0001": [0],
        "0002": ["format"],
        "0003": ["truncated"],
        "0004": ["Permission denied"],
        "0005": ["outside of the file"],
    }
    assert [image.id for image in report.broken] == list(words)
    assert [missing(image.reason, words[image.id]) for image in report.broken] == [[]] * 5
    assert report.sizes == Sizes(smallest=(4, 3), median=(4, 3), largest=(4, 3), different=1)
    assert (report.modes, report.formats) == ({"RGB": 1}, {"PNG": 1})
    assert report.classes == {"a": 2, "b": 4}
    assert report.usable == {"a": 1, "b": 0}
    assert report.to_frame()["broken"].tolist() == [1, 4]


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n\0\0"])
def test_headers_alone_find_what_is_no_image_at_all(content: bytes) -> None:
    reasons = [inspect(Given(("a", "", content)), headers_only=only).broken[0].reason for only in (False, True)]
    assert reasons[0] == reasons[1]


def test_headers_alone_do_not_find_truncated_images() -> None:
    report = inspect(Given(("a", "", TRUNCATED)), headers_only=True)
    assert (report.broken, report.headers_only) == ((), True)
    assert report.sizes is not None
    assert report.sizes.largest == (64, 64)
    assert "truncated" in data_sheets(report)[0].reading


@pytest.mark.parametrize("headers_only", [False, True])
def test_an_image_that_would_fill_the_memory_is_broken(headers_only: bool) -> None:
    report = inspect(Given(("a", "", b"P5\n60000 60000\n255\n0")), headers_only=headers_only)
    assert missing(report.broken[0].reason, ["3600000000"]) == []


def test_broken_images_are_duplicates_of_nothing() -> None:
    report = inspect(Given(("a", "", b""), ("b", "", b""), ("a", "", OSError("x")), ("b", "", OSError("x"))))
    assert len(report.broken) == 4
    assert report.sizes is None
    assert report.across_classes.images == 0
    assert compare(report, report).images == 0
    assert compare(report, report).share is None


# The same image twice


def test_duplicates_are_told_apart_by_what_they_spoil() -> None:
    report = inspect(
        Given(
            ("cat", "train", png(1)),  # twice in a class
            ("cat", "train", png(1)),
            ("cat", "train", png(2)),  # under two labels
            ("dog", "train", png(2)),
            ("cat", "train", png(3)),  # in both splits
            ("cat", "test", png(3)),
            ("cat", "test", png(3)),
            ("cat", "train", png(4)),  # both
            ("dog", "test", png(4)),
            ("dog", "test", png(5)),
        )
    )
    assert (report.within_class.contents, report.within_class.images) == (1, 2)
    assert (report.across_classes.contents, report.across_classes.images) == (2, 4)
    assert (report.across_splits.contents, report.across_splits.images) == (2, 5)
    assert report.within_class.first == ((Copy("0000", "cat", "train"), Copy("0001", "cat", "train")),)
    assert [[copy.id for copy in copies] for copies in report.across_classes.first] == [
        ["0002", "0003"],
        ["0007", "0008"],
    ]
    assert [[copy.id for copy in copies] for copies in report.across_splits.first] == [
        ["0004", "0005", "0006"],
        ["0007", "0008"],
    ]


def test_only_the_first_duplicates_are_named() -> None:
    rows = [("a", "", png(0))] * 30 + [("b", "", png(i)) for i in range(1, 31) for _ in "12"]
    found = inspect(Given(*rows)).within_class
    assert (found.contents, found.images) == (31, 90)
    assert [len(copies) for copies in found.first] == [20] + [2] * 19


@given(st.lists(st.sampled_from([b"", b"a", b"b", b"\0c"])))
def test_groups_are_the_contents_that_occur_more_than_once(digests: list[bytes]) -> None:
    found = list(groups_of(np.array([*digests, b"more"])))  # numpy leaves zeros out at the end of bytes
    assert all(len({digests[i] for i in group}) == 1 for group in found)
    assert {digests[group[0]]: len(group) for group in found} == {
        digest: number for digest, number in Counter(digests).items() if digest and number > 1
    }
    assert found == sorted(sorted(group) for group in found)


def test_an_overlap_is_by_content() -> None:
    one = inspect(Given(("a", "", png(1)), ("a", "", png(2)), ("b", "", png(2)), ("b", "", b"broken")))
    other = inspect(Given(("b", "x", png(3)), ("c", "x", png(2)), ("c", "x", png(2))))
    found = compare(one, other)
    assert (found.images, found.of, found.share) == (2, 3, 2 / 3)
    assert found.examples == (
        (Copy("0001", "a", ""), Copy("0001", "c", "x")),
        (Copy("0002", "b", ""), Copy("0001", "c", "x")),
    )
    assert found.classes == ("b",)
    assert compare(other, one).images == 2
    assert found.to_dict()["examples"][0]["same_as"] == {"id": "0001", "class": "c", "split": "x"}


# Reading


class Slow(Given):
    """Images whose first is read last; counts those that are in memory."""

    def __init__(self, number: int) -> None:
        super().__init__(*[("a", "", png(1))] * number)
        self.waiting = threading.Event()
        self.ahead = 0

    def contents(self, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        def first() -> bytes:
            assert self.waiting.wait(timeout=60)
            return png(2)

        yield first
        for number, _ in enumerate(entries[1:], 2):
            if not self.waiting.is_set():
                self.ahead = number
            if number == 64:
                threading.Timer(0.2, self.waiting.set).start()
            yield lambda: png(1)


def test_reading_is_at_most_64_images_ahead_of_the_slowest() -> None:
    source = Slow(200)
    report = inspect(source, workers=2)
    assert source.ahead == 64
    assert report.images == 200
    assert report.digests[0] != report.digests[1]


def test_progress_comes_to_its_end() -> None:
    told: list[tuple[str, int, int]] = []
    inspect(Given(*[("a", "", png(1))] * 70), progress=lambda *step: told.append(step))
    assert told == [("reading images", 64, 70), ("reading images", 70, 70)]


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(workers: int) -> None:
    assert inspect(TWO_SPLITS, workers=workers).to_dict() == inspect(TWO_SPLITS).to_dict()


def test_no_workers_are_refused() -> None:
    with pytest.raises(DeviceError) as error:
        inspect(TWO_SPLITS, workers=0)
    says(error, "workers", 0, 1)


def test_odd_metadata_is_no_warning() -> None:
    """Pillow warns of images that are large but not yet too large."""
    wide = png(1, "1", (10_000, 9_000))
    assert inspect(Given(("a", "", wide)), headers_only=True).broken == ()


# Reports


def test_the_report_as_json_holds_everything_but_the_images() -> None:
    report = inspect(Given(*TWO_SPLITS.rows, ("dog", "test", b"")))
    found = report.to_dict()
    assert found["smallest_class"] == {"class": "emu", "images": 1}
    assert found["largest_class"] == {"class": "cat", "images": 3}
    assert found["broken"] == [{"id": "0005", "reason": report.broken[0].reason}]
    assert found["sizes"] == {"smallest": (4, 3), "median": (4, 3), "largest": (4, 3), "different": 1}
    assert found["duplicates"]["across_splits"] == {"contents": 0, "images": 0, "first": []}
    assert len(found["counts"]) == 5
    assert not {"entries", "digests"} & found.keys()
    assert to_json(found)


def test_a_report_is_printed_without_its_images() -> None:
    assert "digests" not in repr(inspect(TWO_SPLITS))


def test_a_folder_of_real_images(pets: Path) -> None:
    (pets / "two" / "0.png").write_bytes((pets / "one" / "0.png").read_bytes())
    (pets / "zero" / "1.png").write_bytes(b"")
    report = inspect(open_source(pets))
    assert (report.kind, report.images, len(report.broken)) == ("folder of class folders", 18, 1)
    assert report.classes == {"one": 6, "two": 6, "zero": 6}
    assert report.across_classes.first == ((Copy("one/0.png", "one", ""), Copy("two/0.png", "two", "")),)
    assert report.modes == {"L": 17}


# Sheets


def facts(report: DataReport) -> dict[str, str]:
    return dict(data_sheets(report)[0].facts)


def test_the_facts_are_in_the_order_in_which_one_asks() -> None:
    shown = facts(inspect(TWO_SPLITS))
    assert list(shown) == [
        *("data", "kind", "images", "classes", "splits", "class sizes", "image sizes"),
        *("modes", "formats", "broken", "duplicates", "notes"),
    ]
    assert shown["splits"] == "test 2, train 3"
    assert shown["class sizes"] == "1 (dog) to 3 (cat), median 1"
    assert shown["image sizes"] == "4×3 each"
    assert (shown["broken"], shown["duplicates"]) == ("0", "none")


def test_what_is_wrong_is_said() -> None:
    report = inspect(
        Given(
            ("a", "train", png(1)),
            ("a", "test", png(1)),
            ("b", "test", png(2)),
            ("a", "test", png(2)),
            ("a", "test", b""),
            ("a", "test", png(3)),
            ("a", "test", png(3)),
        )
    )
    first, broken, twice = data_sheets(report)
    where = [fact.partition(" (")[0] for fact in first.facts["duplicates"].split(", ")]
    assert [missing(fact, [2, place]) for fact, place in zip(where, ["splits", "classes", "class"], strict=True)] == [
        [],
        [],
        [],
    ]
    assert missing(first.reading, ["6.0", "--skip-broken", "more than one split"]) == []
    assert broken.rows == [list(report.broken[0])]
    assert twice.rows == [["0000 (a, train) = 0001 (a, test)"], ["0002 (b, test) = 0003 (a, test)"]]


def test_what_is_not_wrong_is_not_said() -> None:
    (sheet,) = data_sheets(inspect(Given(("a", "", png(1)), ("b", "", png(2)))))
    assert len(those(sheet.reading.split(". "), 1)) == 1
    for word in ("--skip-broken", "more than one split", "times", "truncated"):
        assert word not in sheet.reading
    assert missing(sheet.facts["class sizes"], [1]) == []


def test_at_most_fifty_broken_images_are_shown() -> None:
    sheet = data_sheets(inspect(Given(*[("a", "", b"")] * 60)))[1]
    assert len(sheet.rows) == 50
    assert missing(sheet.reading, [10, "--format json"]) == []


def test_an_overlap_is_shown_last() -> None:
    report = inspect(TWO_SPLITS)
    sheet = data_sheets(report, compare(report, report))[-1]
    assert missing(sheet.facts["images in both"], [5, "100.00%"]) == []
    assert missing(sheet.facts["classes in both"], [3, "cat", "dog", "emu"]) == []
    assert sheet.rows[0] == ["0000 (cat, train)", "0000 (cat, train)"]


def test_names_are_never_markup() -> None:
    report = inspect(Given(("[red]\x1b[31m|", "", png(1)), ("b`", "", png(1))))
    text = "".join(map(to_markdown, data_sheets(report, compare(report, report))))
    assert "\x1b" not in text
    assert r"\[red\]" in text
    assert plain("[red]\x1b[31m|").startswith(r"[red]\x1b")


# Real data


def test_cifar_100(shared: Path) -> None:
    report = inspect(open_source(shared / "data" / "cifar100"), selection=Selection("test"), headers_only=True)
    assert (report.images, report.splits, len(report.classes)) == (10_000, {"test": 10_000}, 100)
    assert report.smallest_class[1] == report.largest_class[1] == 100
    assert report.sizes == Sizes(smallest=(32, 32), median=(32, 32), largest=(32, 32), different=1)
    assert report.across_classes.contents == 2
    assert not report.broken
