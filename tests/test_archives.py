"""Tar and zip archives read like the folder they were made of, and what is damaged or hostile in them is refused."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from messages import missing, only, says, those
from nctransfer.errors import DataError
from nctransfer.sources import contents as limits
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageEntry, ImageSource
from nctransfer.sources.tar_archive import TarArchive
from nctransfer.sources.zip_archive import ZipArchive
from pictures import contents, labelled, notes, png

Files = dict[str, bytes]
PETS: Files = {f"pets/{name}/{i}.png": png(code, i, 0) for code, name in enumerate(("cat", "dog")) for i in range(4)}


def tar(path: Path, files: Files, mode: str = "w", **kinds: bytes) -> Path:
    """A tar of files; ``kinds`` are links and the like by name."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"pets/cat/{name}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return path


def zipped(path: Path, files: Files, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


MAKERS: dict[str, Callable[[Path, Files], Path]] = {
    "tar": lambda path, files: tar(path, files),
    "tar.gz": lambda path, files: tar(path, files, "w:gz"),
    "tar.bz2": lambda path, files: tar(path, files, "w:bz2"),
    "tar.xz": lambda path, files: tar(path, files, "w:xz"),
    "zip": lambda path, files: zipped(path, files),
}
every_kind = pytest.mark.parametrize("kind", MAKERS)


def made(tmp_path: Path, kind: str, files: Files) -> ImageSource:
    """The source of an archive whose name says nothing."""
    return open_source(MAKERS[kind](tmp_path / "data", files))


@every_kind
def test_archives_read_like_a_folder(tmp_path: Path, kind: str) -> None:
    source = made(tmp_path, kind, PETS)
    assert isinstance(source, ZipArchive if kind == "zip" else TarArchive)
    assert labelled(source) == [(name, name.split("/")[1], "") for name in PETS]
    assert contents(source) == list(PETS.values())
    assert source.notes == ()
    for name, content in PETS.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    unpacked = ImageFolder(tmp_path / "unpacked" / "pets")
    assert [(f"pets/{id_}", *rest) for id_, *rest in labelled(unpacked)] == labelled(source)


@every_kind
def test_some_entries_are_read_in_any_order_and_in_threads(tmp_path: Path, kind: str) -> None:
    source = made(tmp_path, kind, PETS)
    entries = source.list()
    values = list(PETS.values())
    for chosen in ([1, 3, 6], [6, 2, 2, 7, 0], [5]):
        assert contents(source, [entries[i] for i in chosen]) == [values[i] for i in chosen]
    assert source.read(entries[4]) == values[4]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda give: give(), source.contents(list(entries) * 20))) == values * 20


@every_kind
def test_a_fresh_source_reads_what_another_has_listed(tmp_path: Path, kind: str) -> None:
    entry = made(tmp_path, kind, PETS).list()[2]
    assert open_source(tmp_path / "data").read(entry) == PETS[entry.id]


def test_a_compressed_archive_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path, "tar.gz", PETS)
    entries = source.list()
    opened: list[object] = []
    monkeypatch.setattr(tarfile, "open", lambda *a, _open=tarfile.open, **k: opened.append(a) or _open(*a, **k))
    contents(source, entries[1:])
    assert len(opened) == 1


@every_kind
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["cat/1.png", "dog/2.png"], [("cat", ""), ("dog", "")]),
        (["./cat/1.png", "./dog/2.png"], [("cat", ""), ("dog", "")]),
        (["a/b/cat/1.png", "a/b/dog/2.png", "a/b/README"], [("cat", ""), ("dog", "")]),
        (["a/train/cat/1.png", "a/test/cat/2.png"], [("cat", "train"), ("cat", "test")]),
        (["train/cat/1.png", "train/dog/2.png"], [("cat", "train"), ("dog", "train")]),
        (["cat/1.png"], [("cat", "")]),
        (["cat/x/1.png", "dog/y/2.png"], [("cat", ""), ("dog", "")]),
        (["cat/1.png", "dog/1.png", "__MACOSX/1.png"], [("cat", ""), ("dog", "")]),
        (["pets/cat/1.png", "pets/logo.png", "__MACOSX/pets/cat/1.png", "pets/.x/3.png"], [("cat", "")]),
    ],
)
def test_classes_and_splits(tmp_path: Path, kind: str, names: list[str], expected: list[tuple[str, str]]) -> None:
    found = labelled(made(tmp_path, kind, dict.fromkeys(names, b"x")))
    assert [(label, split) for _, label, split in found] == expected


@every_kind
def test_what_is_left_out_is_said(tmp_path: Path, kind: str) -> None:
    hostile = {"/etc/cat/1.png": b"x", "pets/../../2.png": b"x", "C:/pets/3.png": b"x"}
    beside = {f"pets/{number}.png": b"x" for number in range(5)}
    others = {f"pets/cat/{number}.txt": b"x" for number in range(7)}
    source = made(tmp_path, kind, {**PETS, **hostile, **beside, **others})
    assert len(source.list()) == len(PETS)
    for number in (len(hostile), len(beside), len(others)):
        assert len(those(source.notes, number)) == 1


def test_links_and_devices_of_a_tar_are_left_out(tmp_path: Path) -> None:
    kinds = {"a": tarfile.SYMTYPE, "b": tarfile.LNKTYPE, "c": tarfile.FIFOTYPE, "d": tarfile.CHRTYPE}
    source = open_source(tar(tmp_path / "x.tar", PETS, **kinds))
    only(notes(source), 4)
    assert len(source.list()) == len(PETS)


def test_links_of_a_zip_are_left_out(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", PETS)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("pets/cat/link.png")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    only(notes(open_source(path)), 1)


def test_backslashes_of_windows_part_the_names_in_a_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"pets\\cat\\1.png": b"x", "pets\\dog\\1.png": b"x", "pets\\..\\..\\1.png": b"x"})
    source = open_source(path)
    assert labelled(source) == [("pets/cat/1.png", "cat", ""), ("pets/dog/1.png", "dog", "")]
    only(notes(source), 1, "'..'")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_the_last_of_a_name_counts(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / "x", PETS)
    twice = {**PETS, "./pets/cat/1.png": b"newer"}
    tar(path, twice, "w" if kind == "tar" else "w:gz")
    source = open_source(path)
    only(notes(source), 1)
    assert source.list()[-1].id == "pets/cat/1.png"  # where it is read
    assert dict(zip([entry.id for entry in source.list()], contents(source), strict=True))["pets/cat/1.png"] == b"newer"


def test_the_last_of_a_name_counts_in_a_zip(tmp_path: Path) -> None:
    source = open_source(zipped(tmp_path / "x.zip", {**PETS, "./pets/cat/1.png": b"newer"}))
    only(notes(source), 1)
    assert contents(source, [entry for entry in source.list() if entry.id == "pets/cat/1.png"]) == [b"newer"]


@every_kind
def test_the_stamp_is_that_of_the_archive(tmp_path: Path, kind: str) -> None:
    source = made(tmp_path, kind, PETS)
    os.utime(tmp_path / "data", ns=(1, 123_456_789))
    assert {entry.mtime_ns for entry in source.list()} == {123_456_789}
    assert [entry.size for entry in source.list()] == [len(content) for content in PETS.values()]


def test_undecodable_names_are_escaped_and_read(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9/\xff.png"), "dog/1.png"]
    source = open_source(tar(tmp_path / "x.tar", {names[0]: b"odd", names[1]: b"x"}))
    assert labelled(source)[0] == ("caf\\xe9/\\xff.png", "caf\\xe9", "")
    assert contents(source) == [b"odd", b"x"]


# Damage and malice


@every_kind
@pytest.mark.parametrize("names", [[], ["1.png"], ["cat/1.txt"]])
def test_archives_without_labelled_images(tmp_path: Path, kind: str, names: list[str]) -> None:
    with pytest.raises(DataError) as error:
        made(tmp_path, kind, dict.fromkeys(names, b"x")).list()
    says(error, "data", hint="folder")


@every_kind
def test_a_truncated_archive_is_an_error(tmp_path: Path, kind: str) -> None:
    noise = {f"{name}/{i}.png": os.urandom(5000) for name in ("cat", "dog") for i in range(20)}
    path = MAKERS[kind](tmp_path / f"x.{kind}", noise)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 + 100])
    with pytest.raises(DataError) as error:
        open_source(path).list()
    says(error, path.name, hint="truncated")


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_damaged_header_is_not_the_end(tmp_path: Path, kind: str) -> None:
    """tarfile itself would list the members before it, and say nothing."""
    whole = bytearray(tar(tmp_path / "x", {f"{name}/1.png": b"x" * 512 for name in ("cat", "dog", "owl")}).read_bytes())
    whole[1024:1030] = b"broken"
    (tmp_path / "x").write_bytes(gzip.compress(whole) if kind == "tar.gz" else whole)
    with tarfile.open(tmp_path / "x") as archive:
        assert len(archive.getnames()) == 1
    with pytest.raises(DataError) as error:
        open_source(tmp_path / "x").list()
    says(error, "x", "checksum")


def test_an_archive_without_an_end_mark_is_noted(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", {"cat/1.png": b"x" * 512, "dog/1.png": b"x" * 512})
    path.write_bytes(path.read_bytes()[: 4 * 512])
    only(notes(open_source(path)), "end")


def test_an_image_that_is_no_longer_in_a_compressed_tar(tmp_path: Path) -> None:
    source = made(tmp_path, "tar.gz", PETS)
    entries = source.list()
    made(tmp_path, "tar.gz", dict(list(PETS.items())[:3]))
    found = contents(source, entries)
    assert found[:3] == list(PETS.values())[:3]
    assert [isinstance(content, str) for content in found[3:]] == [True] * 5


def test_a_tar_that_was_cut_after_the_listing(tmp_path: Path) -> None:
    source = made(tmp_path, "tar", PETS)
    entries = source.list()
    os.truncate(tmp_path / "data", 700)
    assert isinstance(contents(source, entries)[1], str)


def test_a_compressed_tar_that_was_cut_after_the_listing(tmp_path: Path) -> None:
    noise = {f"{name}/{i}.png": os.urandom(5000) for name in ("cat", "dog") for i in range(20)}
    source = made(tmp_path, "tar.gz", noise)
    entries = source.list()
    os.truncate(tmp_path / "data", 60_000)
    found = contents(source, entries)
    assert found[:10] == list(noise.values())[:10]
    assert len(found) == 40
    assert "end-of-stream" in str(found[-1])


def test_an_encrypted_zip_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", PETS)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\1\2") + 8] |= 1  # the flag, in the central directory
    path.write_bytes(whole)
    with pytest.raises(DataError) as error:
        open_source(path).list()
    says(error, "x.zip", "'pets/cat/0.png'")


@every_kind
def test_an_image_declared_too_large_is_not_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = made(tmp_path, kind, {"cat/1.png": b"x" * 2000, "dog/1.png": b"x"})
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    large, small = contents(source)
    assert missing(str(large), [2000, 1000]) == []
    assert small == b"x"


def test_a_zip_that_unpacks_to_more_than_it_declares(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"cat/1.png": bytes(2**20), "dog/1.png": b"x"})
    whole = path.read_bytes()
    path.write_bytes(whole.replace((2**20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    source = open_source(path)
    assert [entry.size for entry in source.list()] == [10, 1]
    first, second = contents(source)
    assert "CRC" in str(first)
    assert second == b"x"


def test_a_zip_bomb_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"cat/1.png": bytes(2**26)})
    path.write_bytes(path.read_bytes().replace((2**26).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    source = open_source(path)
    entries = source.list()
    tracemalloc.start()
    try:
        assert "CRC" in str(contents(source, entries)[0])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_methods_without_a_bound_are_refused(tmp_path: Path) -> None:
    source = open_source(zipped(tmp_path / "x.zip", {"cat/1.png": bytes(9999)}, zipfile.ZIP_BZIP2))
    assert [missing(str(reason), ["stored", "deflated"]) for reason in contents(source)] == [[]]


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_giant_name_in_a_tar_is_not_read(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, 2**33 - 1
    path = tar(tmp_path / "x.tar", PETS)
    whole = path.read_bytes()
    path.write_bytes(whole[:1024] + member.tobuf(tarfile.GNU_FORMAT) + whole[1024:])
    with pytest.raises(DataError) as error:
        open_source(path).list()
    says(error, "x.tar", 2**33 - 1)


def test_a_sparse_member_is_left_out(tmp_path: Path) -> None:
    member = tarfile.TarInfo("cat/1.png")
    member.type = tarfile.GNUTYPE_SPARSE
    path = tar(tmp_path / "x.tar", {"cat/2.png": b"x", "dog/2.png": b"x"})
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
    only(notes(open_source(path)), 1)


def test_an_entry_that_is_not_in_the_archive(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        made(tmp_path, "zip", PETS).read(ImageEntry("no", "no", "", 0, 0))


def test_omniglot(shared: Path) -> None:
    source = open_source(shared / "data" / "omniglot_small1.tar")
    entries = source.list()
    assert (len(entries), len({entry.label for entry in entries}), source.notes) == (2720, 136, ())
    assert [len(content) for content in contents(source)] == [entry.size for entry in entries]
    assert all(str(content[:4]) == str(b"\x89PNG") for content in contents(source))


@pytest.mark.parametrize(
    ("name", "value"), [("size", "-5"), ("size", "9" * 40), ("GNU.sparse.map", ""), ("GNU.sparse.map", "x")]
)
def test_a_size_that_is_no_number(name: str, value: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("cat/0.png")
        info.pax_headers = {name: value}
        tar.addfile(info)
    with pytest.raises(DataError):
        open_source(path).list()


def test_a_size_in_base_256(tmp_path: Path) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("cat/0.png"))
    content = bytearray(path.read_bytes())
    for size in (b"\xff" * 12, b"\x80" + b"\xff" * 11):
        content[124:136] = size
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
        path.write_bytes(content)
        with pytest.raises(DataError):
            open_source(path).list()
