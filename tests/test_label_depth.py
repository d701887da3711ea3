"""Classes of folders at every depth, in folders and archives."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nctransfer as nct
from conftest import write_digits
from messages import only, raises, those
from nctransfer.errors import DataError, SettingError
from nctransfer.page.image_finder import find_images
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.label_depth import LabelDepth
from nctransfer.sources.layout import FolderImages, arrange
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageSource
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from pictures import notes, png
from terminal import cli, data_of, done, refusal

FEW = ("--ways", 2, "--shots", 1, "--queries", 2, "--episodes", 5)
FRUIT = ("Fruit/1.png", "Fruit/Apple/Gala/2.png", "Fruit/Apple/Fuji/3.png", "Fruit/Pear/4.png", "Veg/Kale/Gala/5.png")


@pytest.fixture
def fruit(tmp_path: Path) -> Path:
    """Five pictures in folders of different depths."""
    return write(tmp_path / "fruit", *FRUIT)


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(number))
    return root


def at(path: Path, depth: LabelDepth | None) -> ImageSource:
    return open_source(path, ReadingOptions(label_depth=depth))


def labels(source: ImageSource) -> dict[str, str]:
    return {entry.id: entry.label for entry in source.list()}


def archives_of(folder: Path) -> list[Path]:
    tar, zipped = folder.with_suffix(".tar"), folder.with_suffix(".zip")
    with tarfile.open(tar, "w") as packed, zipfile.ZipFile(zipped, "w") as pressed:
        for path in sorted(folder.rglob("*.png")):
            name = path.relative_to(folder.parent).as_posix()
            packed.add(path, name)
            pressed.write(path, name)
    return [tar, zipped]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (None, ["Fruit", "Fruit", "Fruit", "Fruit", "Veg"]),
        (1, ["Fruit", "Fruit", "Fruit", "Fruit", "Veg"]),
        (2, ["Fruit", "Fruit/Apple", "Fruit/Apple", "Fruit/Pear", "Veg/Kale"]),
        (3, ["Fruit", "Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Fruit/Pear", "Veg/Kale/Gala"]),
        ("leaf", ["Fruit", "Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Fruit/Pear", "Veg/Kale/Gala"]),
        (99, ["Fruit", "Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Fruit/Pear", "Veg/Kale/Gala"]),
    ],
)
def test_classes_at_each_depth(fruit: Path, depth: LabelDepth | None, expected: list[str]):
    found = labels(at(fruit, depth))
    assert found == dict(zip(FRUIT, expected, strict=True))
    assert at(fruit, depth).id == at(fruit, None).id
    for archive in archives_of(fruit):
        inside = labels(at(archive, depth))
        assert inside == {f"fruit/{name}": label for name, label in found.items()}
        assert at(archive, depth).id == at(archive, None).id


def test_notes_say_which_finer_folders_there_are(fruit: Path):
    only(notes(at(fruit, None)), "2 class folders", "--label-depth 2", 4, "--label-depth 3", 5)
    assert notes(at(fruit, 1)) == notes(at(fruit, "leaf")) == ()
    only(notes(at(fruit, 3)), "2 images", 3)
    only(notes(at(fruit, 7)), "3 folders", "--label-depth 7", "leaf")
    assert those(notes(at(archives_of(fruit)[0], None)), "--label-depth 2")


def test_folders_that_divide_no_class_are_not_worth_a_note(tmp_path: Path):
    assert notes(at(write(tmp_path, "cat/images/1.png", "dog/images/2.png"), None)) == ()


def test_splits_do_not_count(tmp_path: Path):
    folder = write(tmp_path, "train/Fruit/Apple/1.png", "test/Fruit/Apple/2.png")
    assert set(labels(at(folder, 2)).values()) == {"Fruit/Apple"}
    assert {entry.split for entry in at(folder, 2).list()} == {"train", "test"}


def test_one_outer_folder_is_no_class(tmp_path: Path):
    folder = write(tmp_path / "pets", "images/cat/1.png", "images/dog/old/2.png")
    assert labels(at(folder, None)) == {"images/cat/1.png": "cat", "images/dog/old/2.png": "dog"}
    only(notes(at(folder, None)), "'images'")
    assert set(labels(at(folder, 2)).values()) == {"cat", "dog/old"}
    deep = write(tmp_path / "deep", "a/b/train/cat/1.png", "a/b/test/cat/2.png")
    assert {(entry.label, entry.split) for entry in at(deep, None).list()} == {("cat", "train"), ("cat", "test")}
    source = at(folder, None)
    assert source.read(source.list()[0]) == png(0)


@pytest.mark.parametrize("names", [("cat/1.png", "cat/old/2.png"), ("cat/1.png",), ("train/cat/1.png",)])
def test_one_folder_with_images_of_its_own_is_a_class(tmp_path: Path, names: tuple[str, ...]):
    assert set(labels(at(write(tmp_path, *names), None)).values()) == {"cat"}


def test_images_beside_the_one_outer_folder_have_no_class(tmp_path: Path):
    source = at(write(tmp_path, "0.png", "images/cat/1.png"), None)
    assert labels(source) == {"images/cat/1.png": "cat"}
    assert those(source.notes, "1 image")


paths = st.lists(st.lists(st.sampled_from(["a", "b", "test"]), min_size=1, max_size=4), min_size=1, max_size=8)


@given(paths, st.one_of(st.integers(1, 5), st.just("leaf")))
def test_classes_are_the_beginnings_of_paths(folders: list[list[str]], depth: LabelDepth):
    every = {"/".join(folder[:end]) for folder in folders for end in range(1, len(folder) + 1)}
    given_images = [FolderImages("/".join(folder), [f"{n}.png"], [1], [1], 0) for n, folder in enumerate(folders)]
    has_splits = all(folder[0] == "test" for folder in folders) and any(len(folder) > 1 for folder in folders)
    expected = [
        "/".join(folder[has_splits:][: len(folder) if depth == "leaf" else depth])
        for folder in folders
        if folder[has_splits:]
    ]
    found = arrange("it", every, given_images, label_depth=depth)
    assert [entry.label for entry in found.entries] == expected


@pytest.mark.parametrize("depth", ["0", "-1", "x", "", "1.5", "²", "9" * 30])
def test_what_is_no_depth(depth: str, fruit: Path):
    with raises(SettingError, repr(depth), hint="leaf"):
        ReadingOptions(label_depth=depth)  # type: ignore[arg-type]
    refusal("data", fruit, "--label-depth", depth).expect("SettingError", repr(depth))


def test_a_source_without_folders_has_no_depth(tmp_path: Path):
    with raises(DataError, "--label-depth", hint="--label-depth"):
        open_source("digits", ReadingOptions(label_depth=2))


def test_no_image_runs_again_at_another_depth(tmp_path: Path, ran: Callable[[], int]):
    root = tmp_path / "all"
    for top, (zero, one) in {"a": (0, 1), "b": (2, 3)}.items():
        write_digits(root / top, {f"{top}-zero": zero, f"{top}-one": one}, 3)
    coarse = nct.extract("test_resnet", root, random_init=True)
    assert (coarse.classes, ran()) == (("a", "b"), 12)
    fine = nct.extract("test_resnet", root, random_init=True, reading=ReadingOptions(label_depth=2))
    assert (fine.classes, ran()) == (("a/a-one", "a/a-zero", "b/b-one", "b/b-zero"), 0)
    assert set(fine.ids) == set(coarse.ids)
    assert nct.load_features(fine.info.id, label_column="folder-1").classes == coarse.classes
    assert nct.load_features(fine.info.id, label_column="folder-1,folder-2").classes == fine.classes
    assert len(FeatureStore().sets()) == 1


def test_a_depth_of_a_stored_set_is_a_column(fruit: Path):
    stored = data_of("extract", "--model", "test_resnet", "--random-init", "--data", fruit)["id"]
    error = refusal("collapse", stored, "--label-depth", "2")
    error.expect("FeaturesError", "--label-depth", hint=("--label-column", "folder-1,folder-2"))
    assert nct.load_features(stored, label_column="folder-1,folder-2").classes == (
        "Fruit",
        "Fruit/Apple",
        "Fruit/Pear",
        "Veg/Kale",
    )


def test_one_class_is_an_error_that_names_the_depth(tmp_path: Path):
    write_digits(tmp_path / "all" / "digits" / "few", {"zero": 0, "one": 1}, 4)
    write(tmp_path / "all" / "digits", "9.png")
    backbone = ("--model", "test_resnet", "--random-init", "--data", tmp_path / "all")
    for command in (("collapse",), ("fewshot", "--ways", "all"), ("fewshot", "--ways", 2), ("labels",)):
        assert "--label-depth" in refusal(*command, *backbone).hint
    done("fewshot", *backbone, "--label-depth", "leaf", "--drop-small", *FEW)
    assert "--label-depth 2 makes 2 classes" in cli("data", tmp_path / "all", "--fast").stdout.replace("\n", " ")


def test_images_are_found_however_their_classes_were_made(tmp_path: Path):
    for top, label in (("a", 0), ("b", 1)):
        write_digits(tmp_path / "all" / top, {"x": label}, 3)
    stored = nct.extract("test_resnet", tmp_path / "all", random_init=True).info.id
    features = nct.load_features(stored, label_column="folder-1,folder-2")
    for options in (ReadingOptions(label_column="folder-1,folder-2"), ReadingOptions(label_depth=2), None):
        assert len(find_images(features, options=options).entries) == 6


def test_hostile_names_are_escaped(tmp_path: Path):
    source = ImageFolder(write(tmp_path, "a/\x1b[31m/1.png", "b/../b/[bold]/2.png"), label_depth=2)
    assert set(labels(source).values()) == {"a/\x1b[31m", "b/[bold]"}
    write(tmp_path, "b/[bold]/2.png")
    shown = cli("data", tmp_path, "--label-depth", "2", "--fast").stdout
    assert "\x1b" not in shown
    assert "b/[bold]" in shown
