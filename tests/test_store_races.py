"""Processes that write, repair, merge and remove one stored set at once, at the moments at which it matters."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from messages import raises
from nctransfer.errors import IncompleteError, StoreError
from nctransfer.store import atomic_files, journal, manifest, part_files, repairing
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.journal import read_records
from nctransfer.store.listings import Listing
from nctransfer.store.merging import merge
from nctransfer.store.part_files import write_part
from nctransfer.store.repairing import repair
from nctransfer.store.stored_set import StoredSet
from nctransfer.store.verifying import verify
from nctransfer.store.writing import SetWriter
from test_store import ABOUT, KEY, MORE, ROWS, append, digests, drop, features, fill, row, rows_of
from test_store import part_files as files_of


@pytest.fixture
def store() -> FeatureStore:
    return FeatureStore()


@pytest.fixture
def stored(store: FeatureStore) -> StoredSet:
    return fill(store)


def all_rows(stored: StoredSet) -> list[str]:
    """The digests of all rows, sorted; one that is there twice is listed twice."""
    now = stored.manifest()
    return sorted(now.digests(now.parts).to_pylist())


# What cannot be read is kept


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ESTALE, errno.EIO, errno.ENOMEM])
@pytest.mark.parametrize("is_listed", [True, False])
def test_a_file_that_cannot_be_read_now_is_not_deleted(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch, number: int, is_listed: bool
) -> None:
    if is_listed:
        path = files_of(stored)[0]
        os.utime(path, (1, 1))  # else its content is not looked at
    else:
        path = stored.rows_path / write_part(stored.path, KEY, ABOUT, [MORE], features([MORE])).name

    def refused(path: Path) -> str:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as broken:
        for module in (manifest, part_files):
            broken.setattr(module, "file_sha256", refused)
        for thorough in (False, True):
            with raises(StoreError, os.strerror(number), hint="cache repair"):
                repair(stored, thorough)
        assert [damage.reason for damage in verify(stored.store, [stored.path]).damaged]
    assert path.is_file()
    assert repair(stored) == {}
    assert all_rows(stored) == sorted(digests(ROWS if is_listed else [*ROWS, MORE]))


# Locks


@contextmanager
def locks_counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is read of files of rows while the lock of a set is held."""
    read: list[str] = []
    held = 0
    lock = StoredSet.lock

    @contextmanager
    def locked(self: StoredSet) -> Iterator[None]:
        nonlocal held
        with lock(self):
            held += 1
            try:
                yield
            finally:
                held -= 1

    identified, sha256 = part_files.identified_part, manifest.file_sha256

    with monkeypatch.context() as counted:
        counted.setattr(StoredSet, "lock", locked)
        counted.setattr(
            repairing, "identified_part", lambda path, key: (held and read.append(path.name)) or identified(path, key)
        )
        counted.setattr(manifest, "file_sha256", lambda path: (held and read.append(path.name)) or sha256(path))
        yield read


@pytest.mark.parametrize("is_lost", [True, False])
def test_files_are_read_before_the_lock_is_taken(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    write_part(stored.path, KEY, ABOUT, [MORE], features([MORE]))
    if is_lost:
        (stored.path / manifest.NAME).unlink()
    with locks_counted(monkeypatch) as read:
        assert repair(stored, thorough=True) == {}
    assert read == []
    assert all_rows(stored) == sorted(digests([*ROWS, MORE]))


# Writers


def test_what_others_had_stored_and_lost_is_stored_again(stored: StoredSet) -> None:
    with stored.writer() as one, stored.writer() as other:
        other.append([MORE], features([MORE]))
        one.note_unusable({"x": "y"})  # it learns of the row of the other
        lost = stored.rows_path / next(name for name, part in stored.manifest().parts.items() if part.rows == 1)
        lost.unlink()
        assert list(repair(stored)) == [lost.name]
        one.append([MORE, ROWS[0]], features([MORE, ROWS[0]]))
    assert MORE.digest in all_rows(stored)


def test_a_part_that_was_found_and_replaced_before_it_was_recorded(stored: StoredSet) -> None:
    with stored.writer() as writer:
        part = write_part(stored.path, KEY, ABOUT, [MORE], features([MORE]))
        assert repair(stored) == {}  # finds and records it
        wider = ("feature", "layer_0")
        append(stored, [MORE], *wider)
        drop(stored)
        assert part.name not in stored.manifest().parts
        writer.record([part])
    assert rows_of(stored) == {("feature",): digests(ROWS), wider: [MORE.digest]}
    assert verify(stored.store, [stored.path]).damaged == ()


def test_two_writers_whose_lock_does_not_work_lose_no_record(stored: StoredSet) -> None:
    class Overtaken(SetWriter):
        """Another process records a part after this one has read the manifest."""

        def refresh(self) -> None:
            super().refresh()
            append(stored, [MORE], "feature")

    with raises(StoreError, stored.id, hint="cache merge"):
        Overtaken(stored.manifest(), nullcontext).append([row("eel", 1)], features([row("eel", 1)]))
    assert stored.manifest().rows == len([*ROWS, MORE])
    assert repair(stored) == {}
    assert all_rows(stored) == sorted(digests([*ROWS, MORE, row("eel", 1)]))


def test_a_kill_while_copies_are_left_out_leaves_no_copies(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store.open(KEY, "pets-1", ABOUT)
    with stored.writer() as one, stored.writer() as other, monkeypatch.context() as dying:
        one.append(ROWS[:3], features(ROWS[:3]))

        unlink = Path.unlink

        def killed(path: Path, missing_ok: bool = False) -> None:
            if path.parent.name == "rows":  # the part without copies is written, and that with copies not deleted
                raise KeyboardInterrupt
            unlink(path, missing_ok)

        dying.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            other.append(ROWS[2:], features(ROWS[2:]))
    assert repair(stored) == {}
    with stored.writer() as writer:
        assert writer.has_copies
        writer.drop_superseded()
        assert not writer.has_copies
    assert all_rows(stored) == sorted(digests(ROWS))


def test_dropping_many_parts_is_one_record(store: FeatureStore) -> None:
    stored = fill(store, parts=6)
    append(stored, ROWS, "feature", "layer_0")
    before = len(read_records(stored.path / manifest.NAME)[0])
    drop(stored)
    records = read_records(stored.path / manifest.NAME)[0][before:]
    assert [len(record["drop"]) for record in records] == [6]
    assert [path.name for path in files_of(stored)] == list(stored.manifest().parts)


# Readers


def test_a_line_that_is_overwritten_while_it_is_read_is_no_damage(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, seen = journal._lines, []

    def torn_once(path: Path, start: int) -> bytes:
        seen.append(start)
        content = lines(path, start)
        return content[:-20] + b"x" + content[-19:] if len(seen) == 1 else content

    monkeypatch.setattr(journal, "_lines", torn_once)
    assert stored.manifest().rows == len(ROWS)
    assert len(seen) == 2


# Listings and removal


def test_merges_at_once_lose_no_image_of_the_listing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(FeatureStore(tmp_path / "one"), ROWS[:3])
    fill(FeatureStore(tmp_path / "two"), ROWS[3:])
    listing, is_first = FeatureStore.listing, True

    def with_another_merge(self: FeatureStore, source: str) -> Listing:
        """The listing as it was before another process merged."""
        nonlocal is_first
        found = listing(self, source)
        if is_first:
            is_first = False
            merge(FeatureStore(), [tmp_path / "two"])
        return found

    monkeypatch.setattr(FeatureStore, "listing", with_another_merge)
    merge(store, [tmp_path / "one"])
    assert len(store.sets()[0].read()) == len(ROWS)


def test_a_damaged_listing_of_another_cache_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    other = FeatureStore(tmp_path / "one")
    fill(other)
    path = other.listing_file("pets-1")
    path.write_bytes(path.read_bytes()[:-9])
    assert [refused.path for refused in merge(store, [other.root]).refused] == [str(path)]
    assert store.sets()[0].manifest().rows == len(ROWS)


def test_a_lost_listing_is_made_anew_of_all_sets_of_the_source(store: FeatureStore) -> None:
    few = fill(store, ROWS[:2], 2, key=dataclasses.replace(KEY, model="a.tag"))
    many = fill(store, ROWS)
    store.listing_file("pets-1").unlink()
    for one in store.sets():
        repair(one, thorough=True)
    assert len(many.read()) == len(ROWS)
    with raises(IncompleteError, 2, len(ROWS)):
        few.read()


def test_a_listing_that_an_extraction_writes_meanwhile_stays(
    stored: StoredSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.store.listing_file("pets-1").unlink()
    listed = repairing.listed_by_parts

    def meanwhile(now: manifest.Manifest) -> Listing:
        stored.store.save_listing("pets-1", [*ROWS, MORE])
        return listed(now)

    monkeypatch.setattr(repairing, "listed_by_parts", meanwhile)
    repair(stored, thorough=True)
    assert list(stored.store.listing("pets-1")) == [*ROWS, MORE]


def test_removing_a_set_spares_one_that_is_begun_beside_it(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    rmtree = shutil.rmtree

    def removed(path: Path, **options: bool) -> None:
        rmtree(path, **options)
        if path == stored.path:
            monkeypatch.undo()
            inside = Path.iterdir
            monkeypatch.setattr(Path, "iterdir", lambda path: begun(path, list(inside(path))))

    def begun(path: Path, there: list[Path]) -> Iterator[Path]:
        if path == stored.path.parent:  # after the folder was looked at
            monkeypatch.undo()
            fill(FeatureStore(cache), source="pets-2")
        return iter(there)

    cache = stored.store.root
    monkeypatch.setattr(shutil, "rmtree", removed)
    stored.remove()
    (other,) = FeatureStore(cache).sets()
    assert len(other.read()) == len(ROWS)


# What somebody else wrote


@pytest.mark.parametrize(
    "change",
    [
        {"part": ".."},
        {"part": "part-\0.parquet"},
        {"part": "part-\ud800.parquet"},
        {"part": "/etc/passwd"},
        {"rows": 2**60},
        {"rows": 2**39},
        {"start": 2**62},
        {"start": 10**30},
        {"bytes": 2**70},
        {"mtime_ns": 10**40},
        {"columns": {"feature": 2**80}},
        {"columns": [1]},
        {"sha256": 5},
    ],
)
def test_a_record_with_a_true_checksum_and_other_values(stored: StoredSet, change: dict[str, object]) -> None:
    before = all_rows(stored)
    path = stored.path / manifest.NAME
    records, _ = read_records(path)
    path.write_bytes(journal.as_lines([*records[:-1], records[-1] | change]))
    (damage,) = {damage.file for damage in verify(stored.store, [stored.path]).damaged} & {manifest.NAME}
    assert damage == manifest.NAME
    assert repair(stored) == {}
    assert all_rows(stored) == before


@pytest.mark.parametrize("index", ["..", ".", "", "/dev/zero", "manifest.jsonl", 3])
def test_an_index_of_another_name(stored: StoredSet, index: object) -> None:
    path = stored.path / manifest.NAME
    records, _ = read_records(path)
    path.write_bytes(journal.as_lines([records[0] | {"index": index}, *records[1:]]))
    with raises(StoreError, stored.id, hint="cache repair"):
        stored.manifest()
    assert repair(stored) == {}
    assert stored.manifest().rows == len(ROWS)


def test_a_first_line_without_an_end_is_not_read_whole(stored: StoredSet) -> None:
    path = stored.path / manifest.NAME
    with path.open("r+b") as file:
        file.truncate(0)
        file.truncate(2**33)  # a file of holes, of 8 GiB
    assert stored.store.at(stored.path) is not None
    with raises(StoreError, stored.id, hint="cache repair"):
        stored.manifest()
    assert repair(stored) == {}
    assert stored.manifest().rows == len(ROWS)


# Files


def test_a_part_that_is_written_again_is_known_to_be_whole(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored.rows_path / write_part(stored.path, KEY, ABOUT, [MORE], features([MORE])).name
    os.utime(path, (1, 1))
    assert repair(stored) == {}
    assert write_part(stored.path, KEY, ABOUT, [MORE], features([MORE])).mtime_ns == 10**9
    monkeypatch.setattr(manifest, "file_sha256", None)  # no content has to be compared
    assert stored.manifest().damaged() == {}


def test_the_names_of_new_folders_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(atomic_files, "sync_folder", synced.append)
    atomic_files.replace_file(tmp_path / "a" / "b" / "file", lambda file: file.write(b"x"))
    assert set(synced) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}


def test_files_of_processes_that_are_numbered_elsewhere_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic_files._host.cache_clear()
    monkeypatch.setattr(Path, "readlink", lambda _: Path("pid:[1]"))
    other = atomic_files._host()
    monkeypatch.undo()
    atomic_files._host.cache_clear()
    path = tmp_path / f"x.0a.{other}.999999999.tmp"
    path.touch()
    atomic_files.clear_stale_files(tmp_path)
    assert path.exists()
    assert other != atomic_files._host()
