"""Processes that write, repair, merge and remove one stored set at once, at the moments at which it matters."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from messages import raises
from nctransfer.errors import StoreError
from nctransfer.store import manifest, part_files, repairing
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.part_files import write_part
from nctransfer.store.repairing import repair
from nctransfer.store.stored_set import StoredSet
from nctransfer.store.verifying import verify
from test_store import ABOUT, KEY, MORE, ROWS, digests, features, fill
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
