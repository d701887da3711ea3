"""A folder of class folders is listed as it is, and the built-in digits too."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from messages import only, says, those
from nctransfer.errors import DataError
from nctransfer.sources.decoding import decode
from nctransfer.sources.digits import Digits
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.opening import open_source
from pictures import notes


def encode(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def touch(root: Path, *names: str | bytes) -> Path:
    """Files of one byte; a listing reads none of them."""
    for name in names:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + os.fsencode(name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def listed(root: Path) -> list[tuple[str, str, str]]:
    return [(entry.id, entry.label, entry.split) for entry in ImageFolder(root).list()]


# The built-in digits


def test_digits_are_those_of_scikit_learn() -> None:
    expected = load_digits()
    source = Digits()
    entries = source.list()
    assert [entry.id for entry in entries] == [f"{i:04d}" for i in range(1797)]
    assert [int(entry.label) for entry in entries] == expected.target.tolist()
    assert {entry.split for entry in entries} == {""}
    images = np.stack([np.asarray(decode(source.read(entry))) for entry in entries])
    np.testing.assert_array_equal(images, np.rint(expected.images * (255 / 16))[..., None].repeat(3, axis=3))
    assert all(entry.size == len(source.read(entry)) for entry in entries)


def test_digits_are_opened_by_name() -> None:
    assert isinstance(open_source("digits"), Digits)


# Folders


def test_nested_folders_belong_to_the_class_on_top(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/more/2.png", "cat/more/still/more/3.png", "dog/4.png")
    assert listed(tmp_path) == [
        ("cat/1.png", "cat", ""),
        ("cat/more/2.png", "cat", ""),
        ("cat/more/still/more/3.png", "cat", ""),
        ("dog/4.png", "dog", ""),
    ]


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".Jpeg", ".tiff", ".webp", ".avif", ".jp2", ".pgm", ".TGA", ".bmp"])
def test_suffixes_of_images_whatever_their_case(tmp_path: Path, suffix: str) -> None:
    assert len(listed(touch(tmp_path, f"cat/1{suffix}"))) == 1


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/.2.png", "cat/.ipynb_checkpoints/3.png", ".git/4.png", "cat/._1.png", ".5.png")
    assert listed(tmp_path) == [("cat/1.png", "cat", "")]
    assert notes(ImageFolder(tmp_path)) == ()


def test_other_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "cat/Thumbs.db", "cat/a/labels.csv", "dog/2.png", "dog/png")
    assert len(listed(tmp_path)) == 2
    only(notes(ImageFolder(tmp_path)), 3)


def test_images_beside_class_folders_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "2.png", "3.JPG", "README.md")
    assert listed(tmp_path) == [("cat/1.png", "cat", "")]
    only(notes(ImageFolder(tmp_path)), 2)


def test_images_beside_class_folders_are_counted_in_splits_too(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.png", "train/2.png", "test/cat/3.png", "test/4.png")
    assert len(listed(tmp_path)) == 2
    only(notes(ImageFolder(tmp_path)), 2)


def test_a_class_folder_named_like_an_image_is_a_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg/1.png", "dog/2.png")
    assert [label for _, label, _ in listed(tmp_path)] == ["cat.jpg", "dog"]
    assert notes(ImageFolder(tmp_path)) == ()


def test_empty_class_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "owl/readme.txt")
    (tmp_path / "dog").mkdir()
    assert {label for _, label, _ in listed(tmp_path)} == {"cat"}
    assert those(notes(ImageFolder(tmp_path)), 2, "'dog'", "'owl'")


@pytest.mark.parametrize("splits", [("train", "val", "test"), ("Training", "validation"), ("test",)])
def test_splits_are_told_from_classes(tmp_path: Path, splits: tuple[str, ...]) -> None:
    touch(tmp_path, *(f"{split}/{name}/1.png" for split in splits for name in ("cat", "dog")))
    expected = [(f"{split}/{name}/1.png", name, split) for split in sorted(splits) for name in ("cat", "dog")]
    assert listed(tmp_path) == expected


@pytest.mark.parametrize("names", [("train/1.png", "test/2.png"), ("train/cat/1.png", "bus/cat/2.png")])
def test_folders_named_like_splits_may_be_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    touch(tmp_path, *names)
    assert {label for _, label, _ in listed(tmp_path)} == {name.partition("/")[0] for name in names}


def test_order_is_that_of_the_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{label}/{number}.png" for label in ("b", "a", "c") for number in (10, 9, 1)]
    touch(tmp_path, *names)
    assert [id_ for id_, _, _ in listed(tmp_path)] == sorted(names)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: object) -> None:
            with scandir(path) as items:
                self.items = sorted(items, key=lambda item: item.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.items

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert [id_ for id_, _, _ in listed(tmp_path)] == sorted(names)


@pytest.mark.parametrize(
    "name", ["new\nline", "qu'o\"te", "[red]bold[bold]", "\U0001f63a", "tab\t", " ", "a\\b", "%s{0}"]
)
def test_odd_names_are_kept_as_they_are(tmp_path: Path, name: str) -> None:
    content = encode(Image.new("RGB", (2, 2)))
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.png").write_bytes(content)
    source = ImageFolder(tmp_path)
    (entry,) = source.list()
    assert (entry.id, entry.label) == (f"{name}/{name}.png", name)
    assert source.read(entry) == content


def test_undecodable_names_are_escaped_and_read(tmp_path: Path) -> None:
    try:
        touch(tmp_path, b"caf\xe9/\xff\xfe.png")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    source = ImageFolder(tmp_path)
    (entry,) = source.list()
    assert (entry.id, entry.label) == ("caf\\xe9/\\xff\\xfe.png", "caf\\xe9")
    assert entry.id.encode().decode() == entry.id
    assert source.read(entry) == b"x"
    assert ImageFolder(tmp_path).read(entry) == b"x"  # listed by another object


def test_a_fresh_source_lists_a_folder_only_for_a_name_that_may_be_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "cat/1.png", "cat/a\\b.png")
    plain, odd = ImageFolder(tmp_path).list()
    listings: list[object] = []
    scan = ImageFolder.scan
    monkeypatch.setattr(ImageFolder, "scan", lambda self: (listings.append(self), scan(self))[1])
    fresh = ImageFolder(tmp_path)
    assert [give() for give in fresh.contents([plain, plain])] == [b"x", b"x"]
    assert listings == []
    assert [give() for give in fresh.contents([odd, plain, odd])] == [b"x"] * 3
    assert listings == [fresh]


def test_size_and_time_of_each_image_are_listed(tmp_path: Path) -> None:
    path = touch(tmp_path, "cat/1.png") / "cat" / "1.png"
    path.write_bytes(b"12345")
    os.utime(path, ns=(1, 987654321))
    (entry,) = ImageFolder(tmp_path).list()
    assert (entry.size, entry.mtime_ns) == (5, 987654321)


def test_sources_differ_by_path_and_agree_for_one_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/pets/cat/1.png", "b/pets/cat/1.png")
    ids = [ImageFolder(tmp_path / name / "pets").id for name in ("a", "b")]
    assert ids[0] != ids[1]
    assert all(id_.startswith("pets-") for id_ in ids)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "pets")
    monkeypatch.chdir(tmp_path / "b")
    same = [tmp_path / "link", str(tmp_path / "a" / "pets") + "/", "../a/pets", "../b/../a/pets/."]
    assert {ImageFolder(path).id for path in same} == {ids[0]}


def test_folder_named_digits_is_a_folder_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "digits/cat/1.png")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("digits"), Digits)
    assert isinstance(open_source("./digits"), ImageFolder)


# Links


def test_links_to_class_folders_and_images_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "pets/dog/2.png")
    (tmp_path / "pets" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets" / "dog" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert [id_ for id_, _, _ in listed(tmp_path / "pets")] == ["cat/1.png", "dog/2.png", "dog/3.png"]


@pytest.mark.parametrize(
    ("link", "target", "found"),
    [
        ("cat/back", "..", "cat/back"),
        ("cat/back", "../..", "cat/back/pets"),
        ("cat/self", "self", "cat/self"),
        ("cat/here", ".", "cat/here"),
        ("self", "self", "self"),
        ("all", ".", "all"),
        ("cat/a/b/back", "../../../cat", "cat/a/b/back"),
    ],
)
def test_symlink_loops_are_refused_at_once(tmp_path: Path, link: str, target: str, found: str) -> None:
    root = touch(tmp_path / "pets", "cat/1.png", "cat/a/b/2.png")
    (root / link).symlink_to(target)
    with pytest.raises(DataError) as error:
        ImageFolder(root).list()
    says(error, repr(str(root / found)), hint="link")


def test_the_same_folder_by_two_links_is_no_loop(tmp_path: Path) -> None:
    root = touch(tmp_path / "pets", "cat/1.png")
    touch(tmp_path, "other/2.png")
    for name in ("a", "b"):
        (root / "cat" / name).symlink_to(tmp_path / "other")
    assert [id_ for id_, _, _ in listed(root)] == ["cat/1.png", "cat/a/2.png", "cat/b/2.png"]


def test_dangling_link_is_listed_and_fails_when_read(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    (tmp_path / "cat" / "2.png").symlink_to("nowhere.png")
    source = ImageFolder(tmp_path)
    entries = source.list()
    assert [entry.id for entry in entries] == ["cat/1.png", "cat/2.png"]
    with pytest.raises(FileNotFoundError):
        source.read(entries[1])


# What is no source


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        ([], []),
        (["1.png", "2.png"], [2]),
        (["cat/1.txt", "cat/2"], [2]),
        (["1.png", "cat/2.txt"], [1]),
        ([".cat/1.png"], []),
    ],
)
def test_folders_without_labelled_images(tmp_path: Path, names: list[str], facts: list[int]) -> None:
    with pytest.raises(DataError) as error:
        ImageFolder(touch(tmp_path, *names)).list()
    says(error, tmp_path, *facts, hint=["folder", "class"])


@pytest.mark.parametrize("name", ["absent", "file", "x\0"])
def test_what_is_no_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "file")
    with pytest.raises(DataError) as error:
        open_source(tmp_path / name)
    says(error, repr(str(tmp_path / name)), hint=["digits", "pets.zip", "torch/cifar10"])


def test_a_name_longer_than_any_path() -> None:
    with pytest.raises(DataError) as error:
        open_source("x" * 5000)
    assert "x" * 20 in error.value.message
