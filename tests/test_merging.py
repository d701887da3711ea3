"""Caches that several workers have filled, joined into one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from conftest import write_digits
from messages import raises
from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.errors import StoreError
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.source import ImageEntry, content_digest
from nctransfer.store import atomic_files, extraction, merging, taken_parts
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.heads import load_head, save_head
from nctransfer.store.listings import Listed
from nctransfer.store.merging import MergeReport, merge
from nctransfer.store.stored_set import StoredSet
from terminal import cli, done, shows

KEY = FeatureKey(model="toy.tag", weights="0" * 32, transform={"input_size": [3, 8, 8]})
SOURCE = "pets-1a2b3c4d"


def image(number: int) -> Listed:
    name = f"{'cat' if number % 2 else 'dog'}/{number:03d}.png"
    return Listed(name, name[:3], "", 100 + number, number, content_digest(name.encode()))


def vectors(numbers: Sequence[int], width: int = 4) -> np.ndarray:
    """The features of images: they follow from the number alone."""
    return np.array([[number + column / 8 for column in range(width)] for number in numbers], np.float32)


def fill(
    root: Path, *parts: Sequence[int], key: FeatureKey = KEY, source: str = SOURCE, layer: bool = False
) -> StoredSet:
    """A cache with some parts, given by the numbers of their images, and the listing of these images."""
    store = FeatureStore(root)
    stored = store.open(key, source, {"weights": "toy weights", "data": "pets"})
    with stored.writer() as writer:
        for numbers in parts:
            features = {"feature": vectors(numbers), **({"layer_1": vectors(numbers, 2)} if layer else {})}
            writer.append([image(number) for number in numbers], features)
    rows = {row.id: row for row in store.listing(source)}
    rows |= {image(number).id: image(number) for numbers in parts for number in numbers}
    store.save_listing(source, list(rows.values()))
    return stored


def held(root: Path, column: str = "feature") -> dict[str, bytes]:
    """What the one set of a cache holds, by id, from its files alone."""
    [stored] = FeatureStore(root).sets()
    found = [
        (row["id"], np.array(row[column], np.float32).tobytes())
        for name in stored.manifest().parts_with([column])
        for row in parquet.read_table(stored.rows_path / name).to_pylist()
    ]
    assert len(dict(found)) == len(found)  # every row once
    return dict(found)


def expected(numbers: Sequence[int]) -> dict[str, bytes]:
    return {image(number).id: vectors([number]).tobytes() for number in numbers}


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    """The content and time of every file, without locks."""
    return {
        path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


def numbers_of(report: MergeReport) -> tuple[int, int, int]:
    """New rows, rows that were there, and parts."""
    [one] = report.sets
    return one.rows, one.known, one.parts


@pytest.fixture
def here(cache: Path) -> FeatureStore:
    return FeatureStore(cache)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The caches of three workers, with four images each."""
    roots = [tmp_path / f"worker-{number}" for number in range(3)]
    for number, root in enumerate(roots):
        fill(root, [4 * number, 4 * number + 1], [4 * number + 2, 4 * number + 3])
    return roots


def test_caches_are_joined(here: FeatureStore, folders: list[Path]) -> None:
    before = [tree(folder) for folder in folders]
    report = merge(here, folders)
    assert numbers_of(report) == (12, 0, 6)
    assert report.refused == ()
    assert held(here.root) == expected(range(12))
    [stored] = here.sets()
    assert stored.about == {"weights": "toy weights", "data": "pets"}
    assert [tree(folder) for folder in folders] == before  # they are only read


def test_a_merge_is_idempotent(here: FeatureStore, folders: list[Path]) -> None:
    merge(here, folders)
    before = tree(here.root)
    assert numbers_of(merge(here, [*reversed(folders), folders[0]])) == (0, 16, 0)
    assert tree(here.root) == before


def test_a_merge_adds_to_what_is_here_and_stores_no_row_twice(here: FeatureStore, folders: list[Path]) -> None:
    fill(here.root, [1, 2, 6, 7, 20])  # half of two parts, and all of a third
    report = merge(here, folders[:2])
    assert numbers_of(report) == (4, 4, 3)
    assert held(here.root) == expected([*range(8), 20])


def test_workers_that_overlap(here: FeatureStore, tmp_path: Path) -> None:
    fill(tmp_path / "a", [0, 1, 2, 3])
    fill(tmp_path / "b", [2, 3, 4, 5])
    fill(tmp_path / "c", [0, 1], [3, 5])
    report = merge(here, [tmp_path / name for name in "abc"])
    assert numbers_of(report) == (6, 6, 2)
    assert held(here.root) == expected(range(6))


def test_rows_with_more_columns_replace_those_with_fewer(here: FeatureStore, tmp_path: Path) -> None:
    fill(here.root, [0, 1, 2])
    fill(tmp_path / "wide", [1, 2, 3], layer=True)
    fill(tmp_path / "narrow", [3, 4])
    assert numbers_of(merge(here, [tmp_path / "wide", tmp_path / "narrow"])) == (4, 1, 2)
    assert held(here.root) == expected(range(5))
    assert set(held(here.root, "layer_1")) == {image(number).id for number in (1, 2, 3)}


def test_parts_that_a_killed_worker_did_not_list_are_taken(here: FeatureStore, tmp_path: Path) -> None:
    from nctransfer.store.part_files import write_part

    stored = fill(tmp_path / "killed", [0, 1])
    write_part(stored.path, KEY, stored.about, [image(2), image(3)], {"feature": vectors([2, 3])})
    fill(here.root, [3])
    assert numbers_of(merge(here, [tmp_path / "killed"])) == (3, 1, 2)
    assert here.sets()[0].manifest().rows == 4


def test_a_part_that_a_worker_writes_meanwhile(
    here: FeatureStore, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its folder was walked through, and before its manifest is read."""
    from nctransfer.store import other_cache

    identity = other_cache.set_identity

    def late(folder: Path) -> object:
        fill(folders[0], [50, 51])
        return identity(folder)

    monkeypatch.setattr(other_cache, "set_identity", late)
    assert merge(here, folders[:1]).refused == ()
    assert held(here.root) == expected([0, 1, 2, 3, 50, 51])


def test_a_set_is_made_for_each_backbone_and_source(here: FeatureStore, tmp_path: Path) -> None:
    other = replace(KEY, weights="1" * 32)
    fill(tmp_path / "a", [0, 1])
    fill(tmp_path / "a", [0], key=other)
    fill(tmp_path / "b", [2], source="wild-00000000")
    report = merge(here, [tmp_path / "a", tmp_path / "b"])
    assert [one.rows for one in report.sets] == [stored.manifest().rows for stored in here.sets()]
    assert sorted(one.rows for one in report.sets) == [1, 1, 2]
    assert {stored.id.partition("-")[2] for stored in here.sets()} == {
        f"{KEY.digest}/{SOURCE}",
        f"{other.digest}/{SOURCE}",
        f"{KEY.digest}/wild-00000000",
    }


# Listings


def test_listings_are_joined(here: FeatureStore, folders: list[Path]) -> None:
    unread = [image(number)._replace(digest="") for number in range(4)]
    changed = image(3)._replace(size=7, digest="")
    here.save_listing(SOURCE, [*unread[:3], changed, image(30)])
    merge(here, folders[:2])
    # the third file is another here, so the worker's digest says nothing about it
    assert set(here.listing(SOURCE)) == {changed, *(image(number) for number in (0, 1, 2, 4, 5, 6, 7, 30))}
    assert len(here.listing(SOURCE)) == 9


def test_the_listing_of_a_worker_may_be_missing(here: FeatureStore, folders: list[Path]) -> None:
    shutil.rmtree(folders[0] / "sources")
    assert merge(here, folders[:1]).refused == ()
    assert here.sets()[0].manifest().rows == 4


def test_a_damaged_listing_is_left_out(here: FeatureStore, folders: list[Path]) -> None:
    path = folders[0] / "sources" / f"{SOURCE}.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    merge(here, folders)
    assert {row.id for row in here.listing(SOURCE)} == set(expected(range(4, 12)))
    assert held(here.root) == expected(range(12))


def test_reasons_why_images_gave_no_features_are_joined(here: FeatureStore, folders: list[Path]) -> None:
    fill(here.root, [40])
    for stored, reasons in (
        (FeatureStore(folders[0]).sets()[0], {image(40).digest: "a passing fault", image(41).digest: "truncated"}),
        (here.sets()[0], {image(42).digest: "empty"}),
    ):
        with stored.writer() as writer:
            writer.note_unusable(reasons)
    merge(here, folders[:1])
    assert here.sets()[0].manifest().unusable == {image(41).digest: "truncated", image(42).digest: "empty"}


# The data lay at another place


def test_the_source_can_be_another_here(here: FeatureStore, folders: list[Path]) -> None:
    images = ImageTable.of(ImageEntry(*image(number)[:5]) for number in range(20))
    report = merge(here, folders, "pets-99999999", images)
    assert [one.id.split("/")[1] for one in report.sets] == ["pets-99999999"]
    assert held(here.root) == expected(range(12))
    assert len(here.listing("pets-99999999")) == 12
    assert numbers_of(merge(here, folders, as_source="pets-99999999")) == (0, 12, 0)


@pytest.mark.parametrize("change", [{"size": 99}, {"id": "other.png"}, None])
def test_features_of_other_images_are_not_mixed_in(
    here: FeatureStore, folders: list[Path], change: dict[str, object] | None
) -> None:
    (other,) = FeatureStore(folders[0]).sets()
    entries = list(FeatureStore(folders[0]).listing(other.path.name).images)
    images = None if change is None else ImageTable.of([entries[0]._replace(**change), *entries[1:]])
    (refused,) = merge(here, folders[:1], "pets-99999999", images).refused
    assert shows(refused.reason, len(entries) if images is None else 1, "--as")
    assert here.sets() == []
    assert len(here.listing("pets-99999999")) == 0


def test_features_of_several_sources_are_not_taken_as_one(here: FeatureStore, folders: list[Path]) -> None:
    fill(folders[0], [50], source="wild-00000000")
    with raises(StoreError, 2, "pets-99999999", hint="--as"):
        merge(here, folders, as_source="pets-99999999")
    assert here.sets() == []


# What is refused


def part_of(stored: StoredSet, number: int = 0) -> Path:
    return sorted(stored.rows_path.glob("part-*.parquet"))[number]


def damage_content(stored: StoredSet) -> str:
    path = part_of(stored)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path.name


def cut(stored: StoredSet) -> str:
    path = part_of(stored)
    path.write_bytes(path.read_bytes()[:-9])
    return path.name


def lose(stored: StoredSet) -> str:
    part_of(stored).unlink()
    return "it is listed, but not there"


def swap(stored: StoredSet) -> str:
    """The content of one part under the name of another."""
    part_of(stored).write_bytes(part_of(stored, 1).read_bytes())
    return part_of(stored).name


@pytest.mark.parametrize("harm", [damage_content, cut, lose, swap])
def test_a_damaged_part_is_refused_and_the_others_are_taken(
    here: FeatureStore, folders: list[Path], harm: Callable[[StoredSet], str]
) -> None:
    named = harm(FeatureStore(folders[0]).sets()[0])
    report = merge(here, folders)
    [refused] = report.refused
    assert named in (Path(refused.path).name, refused.reason)
    assert numbers_of(report)[0] == here.sets()[0].manifest().rows == 10
    assert len(list(here.root.rglob("part-*"))) == 5
    assert list(here.root.rglob("*.tmp")) == []


def write_hostile(stored: StoredSet, table: pa.Table) -> Path:
    """A part with the right name for its content and the right key, but other columns."""
    import hashlib

    metadata = parquet.read_schema(part_of(stored)).metadata
    sink = pa.BufferOutputStream()
    parquet.write_table(table.replace_schema_metadata(metadata), sink)
    content = sink.getvalue().to_pybytes()
    path = stored.rows_path / f"part-{hashlib.sha256(content).hexdigest()[:32]}.parquet"
    path.write_bytes(content)
    return path


def rows(**changes: object) -> pa.Table:
    kind = pa.list_(pa.field("item", pa.float32(), False), 4)
    columns: dict[str, object] = {
        "id": ["cat/001.png"],
        "class": ["cat"],
        "split": [""],
        "digest": ["0" * 32],
        "feature": pa.array([[1.0, 2.0, 3.0, 4.0]], kind),
        **changes,
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


@pytest.mark.parametrize(
    "table",
    [
        rows(digest=["../../../etc/passwd"]),
        rows(digest=["0" * 31]),
        rows(digest=[None]),
        rows(digest=None),
        rows(id=[7]),
        rows(split=pa.array([None], pa.string())),
        rows(feature=None),
        rows(feature=[[1.0, 2.0, 3.0, 4.0]]),
        rows(feature=pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))),
        rows(feature=pa.array([[1.0, 2.0, 3.0, 4.0]], pa.list_(pa.float64(), 4))),
        rows(more=["text"]),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(here: FeatureStore, tmp_path: Path, table: pa.Table) -> None:
    fill(here.root, [30])
    path = write_hostile(fill(tmp_path / "worker", [0, 1]), table)
    report = merge(here, [tmp_path / "worker"])
    assert [one.path for one in report.refused] == [str(path)]
    assert held(here.root) == expected([0, 1, 30])
    assert not (here.sets()[0].rows_path / path.name).exists()


def test_the_same_rows_well_formed_are_taken(here: FeatureStore, tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    write_hostile(fill(tmp_path / "worker", [0, 1]), rows())
    assert numbers_of(merge(here, [tmp_path / "worker"])) == (3, 0, 2)


def test_a_part_of_another_backbone_is_refused(here: FeatureStore, tmp_path: Path) -> None:
    other = fill(tmp_path / "other", [5], key=replace(KEY, weights="1" * 32))
    stored = fill(tmp_path / "worker", [0, 1])
    shutil.copy(part_of(other), stored.rows_path)
    report = merge(here, [tmp_path / "worker"])
    assert [Path(one.path).name for one in report.refused] == [part_of(other).name]
    assert held(here.root) == expected([0, 1])


def test_a_set_of_another_version_is_refused_by_name(here: FeatureStore, tmp_path: Path) -> None:
    stored = fill(tmp_path / "worker", [0, 1], key=replace(KEY, format=9))
    fill(tmp_path / "worker", [2])
    [refused] = merge(here, [tmp_path / "worker"]).refused
    assert refused.path == str(stored.path)
    assert "format 9" in refused.reason
    assert held(here.root) == expected([2])


def test_a_damaged_manifest_is_told_and_whole_parts_are_taken(here: FeatureStore, folders: list[Path]) -> None:
    stored = FeatureStore(folders[0]).sets()[0]
    path = stored.path / "manifest.jsonl"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    report = merge(here, folders)
    assert [one.path for one in report.refused] == [str(path)]
    assert held(here.root) == expected(range(12))


@pytest.mark.skipif(os.name != "posix", reason="links and pipes")
@pytest.mark.parametrize("where", ["features", "backbone", "set", "rows", "part", "manifest", "listing", "pipe"])
def test_nothing_outside_the_folder_is_read(here: FeatureStore, tmp_path: Path, where: str) -> None:
    """Each of these is a link to the real thing elsewhere, which would be taken over if it were followed."""
    secret, worker = tmp_path / "secret", tmp_path / "worker"
    real = fill(secret, [0, 1], [2, 3])
    shutil.copytree(secret, worker, symlinks=True)
    stored = FeatureStore(worker).sets()[0]
    there = {
        "features": (worker / "features", secret / "features"),
        "backbone": (stored.path.parent, real.path.parent),
        "set": (stored.path, real.path),
        "rows": (stored.rows_path, real.rows_path),
        "part": (part_of(stored), part_of(real)),
        "manifest": (stored.path / "manifest.jsonl", real.path / "manifest.jsonl"),
        "listing": (worker / "sources" / f"{SOURCE}.parquet", secret / "sources" / f"{SOURCE}.parquet"),
        "pipe": (part_of(stored), None),
    }
    path, target = there[where]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target) if target else os.mkfifo(path)
    report = merge(here, [worker])
    assert report.refused != ()
    if where == "listing":
        assert len(here.listing(SOURCE)) == 0
        assert here.sets()[0].manifest().rows == 4
    else:
        assert here.sets() == []


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_the_folder_itself_may_be_a_link(here: FeatureStore, folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders[0])
    assert numbers_of(merge(here, [tmp_path / "link"])) == (4, 0, 2)


def test_what_is_no_cache_is_an_error(here: FeatureStore, folders: list[Path], tmp_path: Path) -> None:
    for wrong in (tmp_path / "absent", tmp_path):
        with raises(StoreError, repr(str(wrong)), hint="cache"):
            merge(here, [folders[0], wrong])
    assert here.sets() == []
    fill(here.root, [0])
    with raises(StoreError, repr(str(here.root)), hint="--cache-dir"):
        merge(here, [here.root])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_can_be_merged(here: FeatureStore, folders: list[Path]) -> None:
    for path in [folders[0], *folders[0].rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert numbers_of(merge(here, folders[:1])) == (4, 0, 2)


# Classifiers of backbones


def head(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 4), value), "bias": torch.zeros(3)}


def test_the_classifier_of_a_backbone_is_taken_over(here: FeatureStore, folders: list[Path]) -> None:
    for folder in folders[1:]:
        save_head(FeatureStore(folder).sets()[0].path.parent, head(0.5))
    assert merge(here, folders).refused == ()
    found = load_head(here.sets()[0].path.parent)
    assert found is not None
    assert torch.equal(found["weight"], head(0.5)["weight"])


def test_another_classifier_of_the_same_backbone_is_refused(here: FeatureStore, folders: list[Path]) -> None:
    fill(here.root, [30])
    save_head(here.sets()[0].path.parent, head(1))
    save_head(FeatureStore(folders[0]).sets()[0].path.parent, head(2))
    save_head(FeatureStore(folders[1]).sets()[0].path.parent, None)
    report = merge(here, folders)
    assert [Path(one.path).parents[2] for one in report.refused] == folders[:2]
    assert held(here.root) == expected([*range(12), 30])
    found = load_head(here.sets()[0].path.parent)
    assert found is not None
    assert torch.equal(found["weight"], head(1)["weight"])


# Interruptions, and several merges at once


@pytest.mark.parametrize("step", range(3))
def test_a_merge_that_is_stopped_goes_on(
    here: FeatureStore, folders: list[Path], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """It stops while the third part is copied, before it is recorded, or before the listing is joined."""

    class Stopped(BaseException):
        pass

    calls: list[object] = []

    def stopping(function: Callable[..., object], at: int) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            calls.append(0)
            if len(calls) == at:
                raise Stopped
            return function(*arguments)

        return wrapped

    where = [(taken_parts, "_check_name", 3), (taken_parts, "_described", 3), (merging, "load_listing", 2)][step]
    with monkeypatch.context() as patch:
        patch.setattr(where[0], where[1], stopping(getattr(where[0], where[1]), where[2]))
        with pytest.raises(Stopped):
            merge(here, folders)
    merge(here, folders)
    assert held(here.root) == expected(range(12))
    assert len(here.listing(SOURCE)) == 12
    assert list(here.root.rglob("*.tmp")) == []


PROGRAM = """
import sys
from pathlib import Path
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.merging import merge
print("begun", flush=True)
merge(FeatureStore(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
"""


def process(here: FeatureStore, folders: Sequence[Path]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, str(here.root), *map(str, folders)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def larger(tmp_path: Path) -> list[Path]:
    roots = [tmp_path / f"large-{number}" for number in range(3)]
    for number, root in enumerate(roots):
        fill(root, *[range(90 * number + 3 * part, 90 * number + 3 * part + 3) for part in range(30)])
    return roots


@pytest.mark.skipif(os.name != "posix", reason="elsewhere nobody knows which processes there are")
def test_a_merge_clears_what_a_killed_one_has_left(here: FeatureStore, folders: list[Path]) -> None:
    merge(here, folders)
    [stored] = here.sets()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left = [
        folder / f"x.0a.{atomic_files._host()}.{ended.pid}.tmp"
        for folder in (stored.path, stored.path.parent, here.root, here.root / "sources")
    ]
    for path in left:
        path.touch()
    merge(here, folders)
    assert [path for path in left if path.exists()] == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_a_merge_that_is_killed_goes_on(here: FeatureStore, larger: list[Path], delay: float) -> None:
    with process(here, larger) as running:
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(delay)
        running.send_signal(signal.SIGKILL)
    merge(here, larger)
    assert held(here.root) == expected(range(270))


@pytest.mark.slow
def test_two_merges_at_once(here: FeatureStore, larger: list[Path]) -> None:
    fill(larger[0], [100, 101, 102, 103])  # also in the second, in other parts
    with process(here, larger) as one, process(here, larger[::-1]) as other:
        assert (one.wait(300), other.wait(300)) == (0, 0)
    assert held(here.root) == expected(range(270))


# The command line


@pytest.mark.parametrize(("most", "expected"), [((2, 2), 2), ((2, 3), None)])
def test_what_all_workers_selected_is_selected_after_the_merge(
    tmp_path: Path, most: tuple[int, int], expected: int | None
) -> None:
    images = write_digits(tmp_path / "many", {"zero": 0, "one": 1}, 4)
    roots = [tmp_path / f"worker-{index}" for index in (1, 2)]
    for index, root in enumerate(roots, 1):
        options = ("--max-per-class", most[index - 1], "--shard", f"{index}/2", "--cache-dir", root)
        done("extract", "--model", "test_resnet", "--random-init", "--data", images, *options)
    done("cache", "merge", *roots)
    last = FeatureStore().last_used()
    assert last is not None
    assert last[1].max_per_class == expected


def test_shards_in_caches_of_their_own_are_joined(tmp_path: Path, cache: Path, ran: Callable[[], int]) -> None:
    images = write_digits(tmp_path / "many", {"zero": 0, "one": 1}, 10)
    roots = [tmp_path / f"worker-{index}" for index in (1, 2)]
    for index, root in enumerate(roots, 1):
        extraction.extract("test_resnet", images, random_init=True, shard=f"{index}/2", cache_dir=root, batch_size=1)
    assert ran() == 20
    data = json.loads(done("cache", "merge", *roots, "--format", "json").stdout)
    assert sum(one["rows"] for one in data["sets"]) == 20
    last = FeatureStore().last_used()
    assert last is not None
    assert last[0].id == data["sets"][0]["id"]
    merged = extraction.extract("test_resnet", images, random_init=True)
    assert ran() == 0
    plain = extraction.extract("test_resnet", images, random_init=True, cache_dir=tmp_path / "plain", batch_size=1)
    assert (merged.ids, merged.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert torch.equal(merged.features, plain.features)
    assert load_head(FeatureStore().sets()[0].path.parent) is not None


def test_features_of_copies_of_the_images(tmp_path: Path, cache: Path, ran: Callable[[], int]) -> None:
    images = write_digits(tmp_path / "home" / "many", {"zero": 0, "one": 1}, 6)
    scratch = tmp_path / "scratch" / "many"
    shutil.copytree(images, scratch)
    extraction.extract("test_resnet", scratch, random_init=True, cache_dir=tmp_path / "worker")
    assert ran() == 12
    done("cache", "merge", tmp_path / "worker", "--as", images)
    assert len(extraction.extract("test_resnet", images, random_init=True)) == 12
    assert ran() == 0
    done("cache", "merge", tmp_path / "worker", "--as", ImageFolder(images).id)
    assert len(FeatureStore().sets()) == 1


def test_refused_parts_are_named_and_the_exit_code_is_1(folders: list[Path], cache: Path) -> None:
    name = damage_content(FeatureStore(folders[0]).sets()[0])
    result = cli("cache", "merge", *folders)
    assert result.exit_code == 1
    assert name in result.stderr
    assert held(cache).items() < expected(range(12)).items()
    result = cli("cache", "merge", *folders, "--format", "json")
    assert [Path(one["path"]).name for one in json.loads(result.stdout)["refused"]] == [name]
