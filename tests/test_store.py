"""The cache: parts that say what they are, that damage cannot hide in, and that any reader of Parquet opens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import platformdirs
import pyarrow as pa
import pytest
import torch
from pyarrow import dataset, parquet

import nctransfer as nct
from messages import logged, missing, raises, says
from nctransfer.backbones.feature_key import FeatureKey
from nctransfer.errors import FeaturesError, IncompleteError, SetChangedError, StoreError
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import content_digest
from nctransfer.store import atomic_files, journal, repairing, writing
from nctransfer.store.cache_folder import FeatureStore, load_features
from nctransfer.store.heads import head_damage, load_head, save_head
from nctransfer.store.listings import Listed
from nctransfer.store.manifest import NAME
from nctransfer.store.stored_set import StoredSet
from nctransfer.store.verifying import verify
from terminal import VIT, cli, done

KEY = FeatureKey(model="vit.tag", weights="w" * 32, transform={"input_size": (3, 8, 8), "crop_pct": 0.9})
ABOUT = {"weights": "of nobody", "data": "pets"}
DIM = 32


def row(label: str, number: int, split: str = "") -> Listed:
    name = f"{label}/{number}.png"
    return Listed(name, label, split, 10, number, content_digest(name.encode()))


ROWS = [
    row(label, number, split) for label in ("cat", "dog") for number, split in enumerate(("train", "train", "test"))
]


MORE = row("eel", 0)
LAYERS = ("feature", "layer_0", "layer_3")


def vectors(rows: Sequence[Listed], dtype: str = "float32") -> np.ndarray:
    """The feature of an image follows from its digest, so that each row can be checked."""
    seeds = [int.from_bytes(image.digest.encode()[-9:], "big") for image in rows]
    return np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds]).astype(dtype)


def features(rows: Sequence[Listed], *columns: str, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Of each column the vectors; those of ``layer_3`` are 4 times those of the pooled output, and longer by 4."""
    found = {}
    for name in columns or ("feature",):
        more = int(name.removeprefix("layer_")) + 1 if name != "feature" else 0
        found[name] = np.pad(vectors(rows, dtype) * max(1, more), [(0, 0), (0, more)])
    return found


def fill(
    store: FeatureStore,
    rows: Sequence[Listed] = ROWS,
    parts: int = 3,
    key: FeatureKey = KEY,
    source: str = "pets-1",
    listing: Sequence[Listed] | None = None,
    columns: Sequence[str] = ("feature",),
) -> StoredSet:
    store.save_listing(source, rows if listing is None else listing)
    stored = store.open(key, source, ABOUT)
    with stored.writer() as writer:
        for part in np.array_split(np.arange(len(rows)), parts):
            chosen = [rows[i] for i in part]
            writer.append(chosen, features(chosen, *columns, dtype=key.store_dtype))
    return stored


@pytest.fixture
def store() -> FeatureStore:
    return FeatureStore()


@pytest.fixture
def stored(store: FeatureStore) -> StoredSet:
    return fill(store)


def part_files(stored: StoredSet) -> list[Path]:
    """The part files, in the order in which they were written."""
    return sorted(stored.rows_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)


def repair(stored: StoredSet) -> dict[str, str]:
    return repairing.repair(stored)


# Where it is


def test_the_folder_of_the_environment(cache: Path) -> None:
    assert FeatureStore().root == cache


def test_the_folder_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCTRANSFER_CACHE")
    assert FeatureStore().root == Path(platformdirs.user_cache_dir("nctransfer"))


def test_the_folder_of_the_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert FeatureStore("~/x").root == FeatureStore(tmp_path / "x").root == FeatureStore("x").root == tmp_path / "x"


def test_nothing_is_written_before_something_is_stored(cache: Path) -> None:
    store = FeatureStore()
    assert (store.sets(), store.last_used(), list(store.listing("x")), store.recall({})) == ([], None, [], {})
    assert not cache.exists()


# The key


@pytest.mark.parametrize(
    "change",
    [
        {"model": "x"},
        {"weights": "x"},
        {"transform": {"input_size": (3, 8, 9), "crop_pct": 0.9}},
        {"pool": "x"},
        {"dtype": "bfloat16"},
        {"store_dtype": "float16"},
        {"model_kwargs": {"img_size": 8}},
        {"format": 0},
    ],
)
def test_every_field_of_the_key_is_in_its_digest(change: dict[str, object]) -> None:
    assert set(change) <= set(asdict(KEY))
    assert replace(KEY, **change).digest != KEY.digest


def test_digest_of_the_key_survives_json() -> None:
    assert re.fullmatch("[0-9a-f]{8}", KEY.digest)
    assert FeatureKey(**json.loads(json.dumps(asdict(KEY)))).digest == KEY.digest
    assert replace(KEY, transform=dict(reversed(KEY.transform.items()))).digest == KEY.digest


@pytest.mark.parametrize("model", ["../../etc", "a/b", "", "..", "vit.\n"])
def test_the_folder_of_a_set_stays_in_the_cache(store: FeatureStore, model: str) -> None:
    path = store.open(replace(KEY, model=model), "pets-1", ABOUT).path.resolve()
    assert path.parent.parent == (store.root / "features").resolve()


# The part files


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_schema_of_a_part(store: FeatureStore, dtype: str) -> None:
    stored = fill(store, key=replace(KEY, store_dtype=dtype))
    schema = parquet.read_schema(part_files(stored)[0])
    kind = {"float32": pa.float32(), "float16": pa.float16()}[dtype]
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "id": pa.string(),
        "class": pa.string(),
        "split": pa.string(),
        "digest": pa.string(),
        "feature": pa.list_(pa.field("item", kind, nullable=False), DIM),
    }
    assert not any(field.nullable for field in schema)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_layers_are_further_columns(store: FeatureStore, dtype: str) -> None:
    stored = fill(store, key=replace(KEY, store_dtype=dtype), columns=LAYERS)
    assert stored.manifest().columns == {"feature": DIM, "layer_0": DIM + 1, "layer_3": DIM + 4}
    assert stored.manifest().to_dict()["columns"] == stored.manifest().columns
    kind = {"float32": pa.float32(), "float16": pa.float16()}[dtype]
    for path in part_files(stored):
        schema = parquet.read_schema(path)
        assert schema.names == ["id", "class", "split", "digest", *LAYERS]
        for name, dim in stored.manifest().columns.items():
            assert schema.field(name).type == pa.list_(pa.field("item", kind, nullable=False), dim)
            assert not schema.field(name).nullable
        group = parquet.ParquetFile(path).metadata.row_group(0)
        of_vectors = [group.column(i) for i in range(4, group.num_columns)]
        assert len(of_vectors) == 3
        assert not any(column.is_stats_set for column in of_vectors)
        assert {column.compression for column in of_vectors} == {"UNCOMPRESSED"}


def test_a_part_says_what_it_is(stored: StoredSet) -> None:
    for path in part_files(stored):
        metadata = parquet.read_schema(path).metadata
        key = json.loads(metadata[b"nctransfer.key"])
        assert FeatureKey(**key).digest == KEY.digest
        assert key["format"] == KEY.format
        assert json.loads(metadata[b"nctransfer.about"]) == ABOUT
        versions = {name: version(name) for name in ("nctransfer", "timm", "torch")}
        assert json.loads(metadata[b"nctransfer.versions"]) == versions


def test_vectors_have_neither_dictionary_nor_statistics(stored: StoredSet) -> None:
    group = parquet.ParquetFile(part_files(stored)[0]).metadata.row_group(0)
    columns = {group.column(i).path_in_schema.partition(".")[0]: group.column(i) for i in range(group.num_columns)}
    vector = columns["feature"]
    assert not vector.is_stats_set
    assert not any("DICTIONARY" in encoding for encoding in vector.encodings)
    assert columns["class"].is_stats_set


def test_the_rows_are_a_plain_dataset(stored: StoredSet) -> None:
    assert all(re.fullmatch(r"part-[0-9a-f]{32}\.parquet", path.name) for path in stored.rows_path.iterdir())
    assert len(part_files(stored)) == 3
    for frame in (pd.read_parquet(stored.rows_path), dataset.dataset(stored.rows_path).to_table().to_pandas()):
        frame = frame.set_index("id").loc[[image.id for image in ROWS]]
        assert list(frame.columns) == ["class", "split", "digest", "feature"]
        assert frame["class"].tolist() == [image.label for image in ROWS]
        assert frame["split"].tolist() == [image.split for image in ROWS]
        np.testing.assert_array_equal(np.stack(frame["feature"]), vectors(ROWS))


def test_sizes_of_a_set(stored: StoredSet) -> None:
    assert stored.manifest().rows == 6
    assert stored.manifest().bytes == sum(path.stat().st_size for path in part_files(stored))
    assert [part.columns for part in stored.manifest().parts.values()] == [{"feature": DIM}] * 3
    assert stored.manifest().columns == {"feature": DIM}
    found = json.loads(json.dumps(stored.manifest().to_dict()))
    assert found["id"] == stored.id == f"vit.tag-{KEY.digest}/pets-1"
    assert (found["rows"], found["parts"], found["data"], found["key"]["model"]) == (6, 3, "pets", "vit.tag")


# Reading


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_stored_is_read(store: FeatureStore, dtype: str) -> None:
    found = fill(store, key=replace(KEY, store_dtype=dtype)).read()
    assert found.ids == tuple(image.id for image in ROWS)
    assert found.classes == ("cat", "dog")
    assert found.features.dtype == torch.float32
    np.testing.assert_array_equal(found.features.numpy(), vectors(ROWS, dtype).astype("float32"))
    assert (found.info.model, found.info.data, found.info.path) == ("vit.tag", "pets", str(store.sets()[0].rows_path))
    assert found.info.weights == "of nobody (digest wwwwwwww)"


def test_a_selection_is_read(stored: StoredSet) -> None:
    found = stored.read(Selection("train", classes=("dog",), max_per_class=1))
    assert (len(found), found.classes, found.info.split) == (1, ("dog",), "train")
    np.testing.assert_array_equal(found.features.numpy(), vectors([image for image in ROWS if image.id in found.ids]))


def test_names_are_those_of_the_listing(store: FeatureStore) -> None:
    renamed = [image._replace(id=f"x{image.id}", label=image.label.upper()) for image in ROWS]
    found = fill(store, listing=renamed).read()
    assert found.classes == ("CAT", "DOG")
    assert found.ids == tuple(image.id for image in renamed)
    np.testing.assert_array_equal(found.features.numpy(), vectors(ROWS))


def test_images_of_one_content_are_all_rows(store: FeatureStore) -> None:
    twin = row("dog", 9)._replace(digest=ROWS[0].digest)
    found = fill(store, listing=[*ROWS, twin]).read()
    assert found.counts.tolist() == [3, 4]
    np.testing.assert_array_equal(found.features[6].numpy(), vectors(ROWS[:1])[0])


def test_what_is_not_stored_is_left_out(store: FeatureStore) -> None:
    unread = row("cat", 8)._replace(digest="")
    found = fill(store, listing=[*ROWS[:4], row("eel", 0), unread]).read(partial=True)
    assert found.ids == tuple(image.id for image in ROWS[:4])


def test_nothing_stored_is_wanted(store: FeatureStore) -> None:
    stored = fill(store, listing=[*ROWS, row("eel", 0)])
    with pytest.raises(FeaturesError) as error:
        stored.read(Selection(classes=("eel",)))
    says(error, stored.id, hint="nctransfer extract")


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"PAR1garbagePAR1"])
def test_without_a_listing_names_are_as_of_extraction(stored: StoredSet, content: bytes | None) -> None:
    (listing,) = stored.store.root.glob("sources/*.parquet")
    listing.unlink() if content is None else listing.write_bytes(content)
    with pytest.raises(StoreError) as error:
        stored.read()
    says(error, stored.id, listing.stem, hint=["nctransfer extract", "nctransfer cache repair"])
    (damage,) = verify(stored.store, stored.store.folders()).damaged
    assert damage.file == listing.name
    assert repairing.repair(stored, thorough=True) == {}
    found = stored.read(Selection("train"))
    wanted = [image for image in ROWS if image.split == "train"]
    assert found.ids == tuple(image.id for image in wanted)
    np.testing.assert_array_equal(found.features.numpy(), vectors(wanted))


# Columns


def layered(store: FeatureStore) -> StoredSet:
    """Three parts of features alone, and a wider one that holds two of their rows and one row more."""
    stored = fill(store, listing=[*ROWS, MORE])
    append(stored, [ROWS[1], ROWS[2], MORE], *LAYERS)
    return stored


def append(stored: StoredSet, rows: Sequence[Listed], *columns: str) -> None:
    with stored.writer() as writer:
        writer.append(rows, features(rows, *columns))


def drop(stored: StoredSet) -> None:
    repairing.repair(stored)
    with stored.writer() as writer:
        writer.drop_superseded()


def digests(rows: Sequence[Listed]) -> list[str]:
    return sorted(image.digest for image in rows)


def rows_of(stored: StoredSet) -> dict[tuple[str, ...], list[str]]:
    """The digests in the folder of rows by the columns that they have, as any reader of Parquet finds them."""
    found: dict[tuple[str, ...], list[str]] = {}
    for path in stored.rows_path.iterdir():
        table = parquet.ParquetFile(path).read()
        found.setdefault(tuple(table.column_names[4:]), []).extend(table["digest"].to_pylist())
        assert sum(column.null_count for column in table.columns) == 0
    return {columns: sorted(rows) for columns, rows in found.items()}


def test_digests_are_those_with_all_columns(store: FeatureStore) -> None:
    stored = layered(store)
    wide = {ROWS[1].digest, ROWS[2].digest, MORE.digest}
    everything = {image.digest for image in [*ROWS, MORE]}
    manifest = stored.manifest()
    for columns, expected in [
        ([], everything),
        (["feature"], everything),
        (["layer_0"], wide),
        (reversed(LAYERS), wide),
        (["feature", "layer_9"], set()),
        (iter(["layer_9"]), set()),
    ]:
        assert set(manifest.digests(manifest.parts_with(columns)).to_pylist()) == expected


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("column", LAYERS)
def test_a_column_is_read(store: FeatureStore, column: str, dropped: bool, caplog: pytest.LogCaptureFixture) -> None:
    stored = layered(store)
    if dropped:
        drop(stored)
    there = [*ROWS, MORE] if column == "feature" else [ROWS[1], ROWS[2], MORE]
    if column != "feature":
        with raises(IncompleteError, 3, 7, column):
            stored.read(column=column)
    found = stored.read(column=column, partial=True)
    assert found.ids == tuple(image.id for image in there)
    assert found.info.layer == column
    np.testing.assert_array_equal(found.features.numpy(), features(there, column)[column])
    assert len(logged(caplog, 3, 7)) == len(logged(caplog)) == (column != "feature")
    assert stored.read(Selection(classes=("eel",)), column).ids == (MORE.id,)
    assert load_features(stored.id, feature_column=column, partial=True).dim == found.dim


def test_a_column_that_is_not_there(store: FeatureStore) -> None:
    stored = layered(store)
    with pytest.raises(FeaturesError) as error:
        stored.read(column="layer_9")
    says(error, stored.id, "'layer_9'", hint=["feature", "layer_0", "layer_3", "--layers"])
    with pytest.raises(FeaturesError) as error:
        stored.read(Selection(classes=("dog",)), "layer_0")
    says(error, stored.id)


def test_rows_that_a_wider_part_holds_are_dropped(store: FeatureStore) -> None:
    stored = layered(store)
    before = stored.read()
    untouched = {path: path.stat().st_mtime_ns for path in part_files(stored)[-2:]}
    assert stored.manifest().rows == 9
    drop(stored)
    left = [ROWS[0], *ROWS[3:]]
    assert rows_of(stored) == {("feature",): digests(left), LAYERS: digests([ROWS[1], ROWS[2], MORE])}
    assert stored.manifest().rows == 7
    assert {path.name for path in stored.rows_path.iterdir()} == stored.manifest().parts.keys()
    assert untouched.items() <= {path: path.stat().st_mtime_ns for path in part_files(stored)}.items()
    assert stored.manifest().damaged(thorough=True) == {}
    after = stored.read()
    assert after.ids == before.ids
    assert torch.equal(after.features, before.features)
    assert {json.loads(parquet.read_schema(path).metadata[b"nctransfer.key"])["model"] for path in part_files(stored)}


def test_dropping_again_changes_nothing(store: FeatureStore) -> None:
    stored = layered(store)
    drop(stored)
    before = {path: path.stat().st_mtime_ns for path in sorted(stored.path.rglob("*")) if path.name != ".lock"}
    drop(stored)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("columns", [("feature",), ("feature", "layer_1")])
def test_rows_that_no_wider_part_holds_stay(store: FeatureStore, columns: tuple[str, ...]) -> None:
    stored = fill(store, parts=1, columns=columns)
    append(stored, ROWS[:2], "feature", "layer_0")
    drop(stored)
    narrower = columns == ("feature",)
    assert rows_of(stored)[columns] == digests(ROWS[2:] if narrower else ROWS)
    assert rows_of(stored)["feature", "layer_0"] == digests(ROWS[:2])
    drop(fill(store, parts=2, source="pets-2"))
    assert store.open(KEY, "pets-2", ABOUT).manifest().rows == 6


def test_the_same_rows_with_more_columns_are_another_file(store: FeatureStore) -> None:
    stored = fill(store, parts=1)
    append(stored, ROWS, "feature", "layer_0")
    assert len(part_files(stored)) == len(stored.manifest().parts) == 2
    drop(stored)
    assert rows_of(stored) == {("feature", "layer_0"): digests(ROWS)}


def test_several_steps_of_width_are_dropped_at_once(store: FeatureStore) -> None:
    stored = fill(store, parts=2)
    append(stored, ROWS[:4], "feature", "layer_0")
    append(stored, ROWS[1:3], *LAYERS)
    drop(stored)
    assert rows_of(stored) == {
        ("feature",): digests(ROWS[4:]),
        ("feature", "layer_0"): digests([ROWS[0], ROWS[3]]),
        LAYERS: digests(ROWS[1:3]),
    }


class Killed(BaseException):
    """Nobody catches it."""


def die_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Die before the first part is written (or put in the manifest, or deleted) while rows are dropped."""
    unlink, replace_by, append = Path.unlink, Path.replace, writing.append_records

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        if step == "delete" and self.parent.name == "rows":
            raise Killed
        unlink(self, missing_ok)

    def replaced(self: Path, target: Path) -> Path:
        if step == "write" and target.parent.name == "rows":
            raise Killed
        return replace_by(self, target)

    def appended(path: Path, records: list[dict[str, object]], end: int) -> int:
        if step == "record":
            raise Killed
        return append(path, records, end)

    monkeypatch.setattr(writing, "append_records", appended)
    monkeypatch.setattr(Path, "unlink", unlinked)
    monkeypatch.setattr(Path, "replace", replaced)


@pytest.mark.parametrize("step", ["write", "record", "delete"])
def test_a_kill_while_rows_are_dropped_spoils_nothing(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    stored = layered(store)
    before = stored.read()
    with monkeypatch.context() as dying:
        die_at(dying, step)
        with pytest.raises(Killed):
            drop(stored)
    for mend in (lambda _: None, repair, drop):
        mend(stored)
        assert torch.equal(stored.read().features, before.features)
        assert len(stored.read(column="layer_0", partial=True)) == 3
        assert stored.manifest().damaged(thorough=True) == {}
    assert rows_of(stored) == {
        ("feature",): digests([ROWS[0], *ROWS[3:]]),
        LAYERS: digests([ROWS[1], ROWS[2], MORE]),
    }
    assert {path.name for path in stored.rows_path.iterdir()} == stored.manifest().parts.keys()


# Damage


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def alter(path: Path) -> None:
    """Flip a bit in the vectors; the size stays."""
    group = parquet.ParquetFile(path).metadata.row_group(0)
    column = group.column(group.num_columns - 1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


def alter_in_secret(path: Path) -> None:
    """Bits that flip on the disk change no times."""
    stat = path.stat()
    alter(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (truncate, lambda before, after: [before, after]),
        (alter, lambda before, after: []),
        (lambda path: path.write_bytes(b""), lambda before, after: [before, 0]),
        (Path.unlink, lambda before, after: ["No such file"]),
    ],
    ids=["truncated", "altered", "emptied", "missing"],
)
def test_damage_is_found_and_named(
    stored: StoredSet, damage: Callable[[Path], object], facts: Callable[[int, int], list[object]]
) -> None:
    path = part_files(stored)[1]
    before = path.stat().st_size
    assert stored.manifest().damaged() == stored.manifest().damaged(thorough=True) == {}
    damage(path)
    ((name, found),) = stored.manifest().damaged().items()
    assert name == path.name
    reason = facts(before, path.stat().st_size if path.exists() else 0)
    assert missing(found, reason) == []
    with pytest.raises(StoreError) as error:
        stored.read()
    says(error, path.name, stored.id, *reason, hint=["nctransfer cache repair", "nctransfer extract"])
    assert list(repair(stored)) == [path.name]
    assert not path.exists()
    assert stored.manifest().damaged() == {}
    assert stored.read(partial=True).ids == tuple(image.id for image in (*ROWS[:2], *ROWS[4:]))


def test_a_touched_part_is_whole(stored: StoredSet) -> None:
    os.utime(part_files(stored)[0], ns=(5, 5))
    assert stored.manifest().damaged() == repair(stored) == {}
    assert len(stored.read()) == 6


def test_damage_in_secret_is_never_read(stored: StoredSet) -> None:
    path = part_files(stored)[1]
    alter_in_secret(path)
    assert stored.manifest().damaged() == {}
    assert list(stored.manifest().damaged(thorough=True)) == [path.name]
    with pytest.raises(StoreError) as error:
        stored.read()
    says(error, path.name, "altered", hint="cache repair")
    assert repair(stored) == {}
    assert list(repairing.repair(stored, thorough=True)) == [path.name]
    assert len(stored.read(partial=True)) == 4


def records_of(stored: StoredSet) -> list[dict[str, Any]]:
    return journal.read_records(stored.path / NAME)[0]


def damage_manifest(stored: StoredSet, how: str) -> None:
    """Lose the manifest, spoil it, or write records into it whose checksums are right and whose content is nonsense."""
    path, records = stored.path / NAME, records_of(stored)
    content = path.read_bytes()
    if how == "lost":
        path.unlink()
    elif how in NONSENSE:
        path.write_bytes(journal.as_lines([*records, NONSENSE[how]]))
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        spoilt = {"empty": b"", "zeros": bytes(len(content)), "cut": content[:40], "flipped": flipped, "text": b"[]\n"}
        path.write_bytes(spoilt[how])


NONSENSE: dict[str, dict[str, object]] = {
    "no record": {"x": 1},
    "a part without a size": {"part": "part-x.parquet"},
    "a part elsewhere": {"part": "../x"},
    "columns that are none": {
        "part": "x",
        "rows": 1,
        "columns": [],
        "bytes": 1,
        "mtime_ns": 1,
        "sha256": "",
        "start": 0,
    },
    "another version": {"format": 99},
    "a drop of nothing": {"drop": None},
    "nesting": {"unusable": [[[]]]},
}


@pytest.mark.parametrize("how", ["lost", "empty", "zeros", "cut", "flipped", "text", *NONSENSE])
def test_a_damaged_manifest_is_never_believed_and_made_anew_of_whole_parts(stored: StoredSet, how: str) -> None:
    before = stored.manifest()
    damage_manifest(stored, how)
    with pytest.raises(StoreError) as error:
        stored.read()
    says(error, stored.id, hint="nctransfer cache repair")
    (same,) = stored.store.sets()  # the rows say which set it is
    assert (same.id, same.key.digest, same.about) == (stored.id, stored.key.digest, stored.about)
    found = verify(stored.store, stored.store.folders())
    assert [(damage.id, damage.file) for damage in found.damaged] == [(stored.id, NAME)]
    truncate(part_files(stored)[2])
    lost = part_files(stored)[2].name
    assert list(repair(stored)) == [lost]
    after = stored.manifest()
    assert {name: part.sha256 for name, part in after.parts.items()} == {
        name: part.sha256 for name, part in before.parts.items() if name != lost
    }
    assert len(stored.read(partial=True)) == 4
    assert verify(stored.store, stored.store.folders()).damaged == ()


def test_every_flipped_bit_of_a_manifest_or_an_index_is_noticed(stored: StoredSet) -> None:
    before = stored.read()
    for path in (stored.path / NAME, *stored.path.glob("digests-*.bin")):
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
            with pytest.raises(StoreError):
                stored.read()
            assert verify(stored.store, stored.store.folders()).damaged
        path.write_bytes(content)
    assert torch.equal(stored.read().features, before.features)


def test_a_line_that_was_not_finished_is_overwritten(stored: StoredSet) -> None:
    path = stored.path / NAME
    content = path.read_bytes()
    path.write_bytes(content + b"0123456789abcdef {")
    assert len(stored.read()) == 6
    append(stored, [MORE])
    assert path.read_bytes().startswith(content)
    assert stored.manifest().rows == 7


def data_of_repair() -> tuple[list[str], list[str]]:
    """The files that ``cache repair`` deletes, and those that it restores."""
    data = json.loads(done("cache", "repair", "--format", "json").stdout)
    return [row["file"] for row in data["deleted"]], [row["file"] for row in data["restored"]]


def test_what_is_made_anew_is_said(stored: StoredSet) -> None:
    assert data_of_repair() == ([], [])
    (stored.path / NAME).unlink()
    (listing,) = stored.store.root.glob("sources/*.parquet")
    listing.unlink()
    lost = part_files(stored)[0]
    truncate(lost)
    assert data_of_repair() == ([lost.name], [NAME, listing.name])


def test_a_set_with_a_damaged_manifest_hides_no_other_and_can_be_removed(store: FeatureStore) -> None:
    one, other = fill(store), fill(store, source="pets-2")
    (one.path / NAME).write_bytes(b"0")
    listed = cli("cache", "list", "--format", "json")
    assert [row["id"] for row in json.loads(listed.stdout)["sets"]] == [other.id]
    assert listed.exit_code == 1
    assert cli("cache", "remove", one.id, answer="y\n").exit_code == 0
    assert [stored.id for stored in store.sets()] == [other.id]


def test_a_lost_index_is_made_anew(stored: StoredSet) -> None:
    (index,) = stored.path.glob("digests-*.bin")
    index.unlink()
    assert verify(stored.store, stored.store.folders()).damaged
    assert repair(stored) == {}
    assert len(stored.read()) == 6


def test_records_of_the_end_that_are_lost_are_said_and_found_again(stored: StoredSet) -> None:
    path = stored.path / NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    (damage,) = verify(stored.store, stored.store.folders()).damaged
    assert damage.file not in stored.manifest().parts
    with pytest.raises(IncompleteError) as error:
        stored.read()
    says(error, stored.id, hint="cache repair")
    assert data_of_repair() == ([], [damage.file])
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert repair(stored) == {}
    assert len(stored.read()) == 6


def test_a_set_of_an_earlier_version_is_taken_over(stored: StoredSet) -> None:
    before = stored.read()
    (stored.path / NAME).unlink()
    (stored.path / "manifest.json").write_text("{}")
    for number, path in enumerate(part_files(stored)):
        table = parquet.ParquetFile(path).read()
        table = table.add_column(2, pa.field("label", pa.int32(), False), pa.array([0] * len(table), pa.int32()))
        parquet.write_table(table, stored.rows_path / f"part-{number:016x}.parquet")
        path.unlink()
    assert repair(stored) == {}
    assert torch.equal(stored.read().features, before.features)
    assert {path.name for path in part_files(stored)} == stored.manifest().parts.keys()
    assert not (stored.path / "manifest.json").exists()


@pytest.mark.parametrize("columns", [(), LAYERS])
def test_a_part_that_the_manifest_does_not_know_is_adopted(stored: StoredSet, columns: tuple[str, ...]) -> None:
    manifest = stored.path / NAME
    known = manifest.read_bytes()
    append(stored, [MORE], *columns)
    whole = manifest.read_bytes()
    manifest.write_bytes(known)  # killed between the part and the manifest
    assert stored.manifest().rows == 6
    assert repair(stored) == {}
    assert stored.manifest().rows == 7
    assert manifest.read_bytes() == whole


@pytest.mark.parametrize("kind", ["of another key", "truncated", "altered", "of somebody else"])
def test_a_part_of_no_use_is_not_adopted(store: FeatureStore, stored: StoredSet, kind: str) -> None:
    foreign = stored.rows_path / "part-0000000000000000.parquet"
    other = fill(store, parts=1, key=replace(KEY, weights="x"), source="pets-2")
    (path,) = part_files(other)
    if kind == "of another key":
        path.rename(foreign)
    elif kind == "of somebody else":
        parquet.write_table(pa.table({"feature": [[1.0]]}), foreign)
    else:
        foreign.write_bytes(part_files(stored)[0].read_bytes())
        truncate(foreign) if kind == "truncated" else alter(foreign)
    before = stored.manifest().parts
    assert list(repair(stored)) == [foreign.name]
    assert not foreign.exists()
    assert stored.manifest().parts == before


def test_leftovers_of_processes_that_are_gone_are_removed(stored: StoredSet) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = atomic_files._host()
    dead = [f"rows.0a.{host}.{child.pid}.tmp", "rows.0a.otherhost.1.tmp", "odd.tmp", f"rows.0a.{host}.9{'0' * 30}.tmp"]
    alive = [f"rows.0a.{host}.{os.getpid()}.tmp", "rows.0a.elsewhere.1.tmp"]
    for name in (*dead, *alive):
        (stored.path / name).write_bytes(b"half")
    for name in dead[1:]:
        os.utime(stored.path / name, (0, 0))
    assert repair(stored) == {}
    left = {path.name for path in stored.path.glob("*.tmp")}
    assert left == {*alive, dead[3]}  # a number that no process can have is not taken for one


def test_a_write_that_fails_leaves_nothing(stored: StoredSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(stored.store.root.rglob("*"))
    with pytest.raises(StoreError) as error:
        append(stored, [row("eel", 0)])
    says(error, "No space left on device")
    assert error.value.hint
    assert sorted(stored.store.root.rglob("*")) == before
    assert len(stored.read()) == 6


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        fill(FeatureStore(tmp_path / "file"))
    says(error, tmp_path / "file", hint="--cache-dir")


# Finding


def test_sets_are_found_by_what_stands_for_them(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, other = fill(store), fill(store, key=replace(KEY, model="resnet"))
    assert [found.id for found in store.sets()] == sorted([stored.id, other.id])
    monkeypatch.chdir(stored.path.parent)
    for name in [stored.id, "vit", str(stored.path), str(stored.rows_path), "pets-1", "./pets-1/rows", stored.id[:-1]]:
        assert store.find(name).path == stored.path, name


def test_an_ambiguous_prefix_names_the_candidates(store: FeatureStore) -> None:
    ids = [fill(store, key=replace(KEY, model=model)).id for model in ("vit_a", "vit_b", "resnet")]
    with pytest.raises(FeaturesError) as error:
        store.find("vit")
    says(error, "'vit'", 2, ids[0], ids[1], hint="id")
    assert ids[2] not in error.value.message


def test_an_id_that_begins_another_is_found(store: FeatureStore) -> None:
    stored = fill(store)
    fill(store, source="pets-12")
    assert store.find(stored.id).id == stored.id


def test_a_whole_name_is_not_the_beginning_of_a_longer_one(store: FeatureStore) -> None:
    short, long = (fill(store, source=source) for source in ("cal-a2d3ebdb", "cal2-b1bcfb82"))
    for name, stored in (("cal", short), ("cal2", long), (short.id.removesuffix("-a2d3ebdb"), short)):
        assert store.find(name).id == stored.id
    with pytest.raises(FeaturesError):
        store.find("ca")


@pytest.mark.parametrize("name", ["resnet", "/absent", "pets-1/x", "\0"])
def test_unknown_names_are_answered_by_what_is_stored(store: FeatureStore, name: str) -> None:
    with pytest.raises(FeaturesError) as error:
        store.find(name)
    says(error, repr(name))
    assert error.value.hint
    stored = fill(store)
    with pytest.raises(FeaturesError) as error:
        store.find(name)
    says(error, repr(name), hint=stored.id)


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-that-name/x"])
def test_names_that_cannot_be_paths(name: str) -> None:
    with pytest.raises(FeaturesError):
        load_features(name)


def test_a_removed_set_is_gone_and_others_stay(store: FeatureStore) -> None:
    one, other = fill(store), fill(store, source="pets-2")
    save_head(one.path.parent, {"weight": torch.zeros(2, DIM)})
    one.remove()
    assert [found.id for found in store.sets()] == [other.id]
    assert not one.path.exists()
    assert (other.path.parent / "head.safetensors").is_file()
    other.remove()
    assert store.sets() == []
    assert not other.path.parent.exists()


def test_features_by_name(stored: StoredSet, tmp_path: Path) -> None:
    for name in (stored.id, "vit", stored.path, stored.rows_path, str(stored.rows_path)):
        assert len(load_features(name)) == 6
    assert load_features("vit", selection=Selection("test")).ids == ("cat/2.png", "dog/2.png")
    assert load_features("vit", cache_dir=stored.store.root).info.id == stored.id
    with pytest.raises(FeaturesError) as error:
        load_features("vit", cache_dir=tmp_path / "other")
    says(error, "'vit'")


def test_parquet_made_elsewhere_by_its_path(stored: StoredSet, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    parquet.write_table(pa.table({"species": ["a", "b"], "x": [[1.0], [2.0]]}), folder / "a.parquet")
    for path in (folder, folder / "a.parquet"):
        assert load_features(path, label_column="species", feature_column="x").classes == ("a", "b")
    copied = tmp_path / "copy.parquet"
    copied.write_bytes(part_files(stored)[0].read_bytes())
    assert load_features(copied).ids == tuple(image.id for image in ROWS[:2])


# The set used last


def test_the_set_used_last_is_remembered(store: FeatureStore, stored: StoredSet) -> None:
    selection = Selection("train", classes=("cat",), max_per_class=3, seed=4)
    store.use(stored, selection)
    found = FeatureStore().last_used()
    assert found is not None
    assert (found[0].id, found[1]) == (stored.id, selection)
    store.use(stored, Selection())
    assert store.last_used() is not None
    assert store.last_used()[1] == Selection()
    stored.remove()
    assert store.last_used() is None


def test_the_library_leaves_what_the_command_line_used_last(store: FeatureStore, stored: StoredSet, pets: Path) -> None:
    store.use(stored, Selection("train"))
    nct.extract("test_vit", pets, random_init=True, device="cpu")
    assert len(store.sets()) == 2
    last = store.last_used()
    assert last is not None
    assert (last[0].id, last[1]) == (stored.id, Selection("train"))
    done("extract", *VIT, "--data", pets, "--device", "cpu")
    last = store.last_used()
    assert last is not None
    assert last[0].key.model.startswith("test_vit")


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"[]", b"{}", b'{"id": "x"}', b'{"id": 1, "selection": {}}', b'{"id": "x", "selection": "abc"}'],
)
def test_a_damaged_note_of_the_last_set_is_an_error(store: FeatureStore, stored: StoredSet, content: bytes) -> None:
    """Else a command without a name would be about another set, or about the built-in images."""
    store.use(stored, Selection())
    (store.root / "last.json").write_bytes(content)
    with pytest.raises(StoreError, match="which set was used last is not known"):
        store.last_used()
    store.use(stored, Selection())
    assert store.last_used() is not None


def test_one_letter_of_the_note_of_the_last_set(store: FeatureStore, stored: StoredSet) -> None:
    store.use(stored, Selection("train"))
    path = store.root / "last.json"
    path.write_text(path.read_text().replace(stored.id, stored.id[:-1] + "~"))
    with pytest.raises(StoreError, match="its content was altered"):
        store.last_used()


# Keys and listings


def test_answers_are_recalled_by_their_request(store: FeatureStore) -> None:
    store.remember({"model": "a", "size": [1, 2]}, {"key": 1})
    assert store.recall({"size": [1, 2], "model": "a"}) == {"key": 1}
    assert store.recall({"size": [1, 3], "model": "a"}) == {}
    (path,) = store.root.glob("keys/*.json")
    whole = path.read_bytes()
    for content in (b'{"key"', whole.replace(b'"key": 1', b'"key": 3'), b"[" * 50_000):
        path.write_bytes(content)
        assert store.recall({"size": [1, 2], "model": "a"}) == {}


def test_the_answer_to_another_request_is_none(store: FeatureStore) -> None:
    """As if two files had changed places."""
    store.remember({"model": "a", "size": (1, 2)}, {"key": 1})
    (path,) = store.root.glob("keys/*.json")
    store.remember({"model": "b"}, {"key": 2})
    (other,) = set(store.root.glob("keys/*.json")) - {path}
    contents = path.read_bytes(), other.read_bytes()
    path.write_bytes(contents[1])
    other.write_bytes(contents[0])
    assert store.recall({"model": "a", "size": (1, 2)}) == {}
    assert store.recall({"model": "b"}) == {}
    other.rename(path)
    assert store.recall({"model": "a", "size": (1, 2)}) == {"key": 1}


def test_a_listing_is_read_as_written(store: FeatureStore) -> None:
    assert list(store.save_listing("x", ROWS)) == list(store.listing("x")) == ROWS
    store.save_listing("x", ROWS[1:])
    assert list(store.listing("x")) == ROWS[1:]
    assert list(store.listing("y")) == []


def test_digests_that_another_process_found_are_kept(store: FeatureStore) -> None:
    store.save_listing("x", ROWS)
    unread = [image._replace(digest="") for image in ROWS]
    unread[1] = unread[1]._replace(mtime_ns=99)
    unread[2] = unread[2]._replace(size=99)
    found = [image.digest for image in store.save_listing("x", unread)]
    assert found == [ROWS[0].digest, "", "", *(image.digest for image in ROWS[3:])]


def test_an_unchanged_listing_is_not_written(store: FeatureStore) -> None:
    store.save_listing("x", ROWS)
    (path,) = store.root.glob("sources/*.parquet")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    store.save_listing("x", [image._replace(digest="") for image in ROWS])
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


# Locks and heads


def test_writers_do_not_wait_and_each_row_is_kept_once(store: FeatureStore) -> None:
    store.save_listing("pets-1", ROWS)
    stored = store.open(KEY, "pets-1", ABOUT)
    with stored.writer() as one, store.open(KEY, "pets-1", ABOUT).writer() as other:
        one.append(ROWS[:3], features(ROWS[:3]))
        other.append(ROWS[2:], features(ROWS[2:]))
        one.append([*ROWS[4:], MORE], features([*ROWS[4:], MORE]))
        other.append(ROWS, features(ROWS))
        one.append(ROWS[:2], features(ROWS[:2], "feature", "layer_0"))  # wider rows are others
        assert (one.written, other.written) == (8, 10)
    assert rows_of(stored) == {("feature",): digests([*ROWS, MORE]), ("feature", "layer_0"): digests(ROWS[:2])}
    assert {path.name for path in part_files(stored)} == stored.manifest().parts.keys()
    drop(stored)
    assert rows_of(stored) == {("feature",): digests([*ROWS[2:], MORE]), ("feature", "layer_0"): digests(ROWS[:2])}


def test_many_writers_at_once(store: FeatureStore) -> None:
    store.save_listing("pets-1", ROWS)
    stored = store.open(KEY, "pets-1", ABOUT)
    rows = [row(label, number) for label in ("cat", "dog") for number in range(40)]
    all_are_open = threading.Barrier(4)  # a writer leaves out only what others record after it has begun

    def write(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(rows))
        with FeatureStore().open(KEY, "pets-1", ABOUT).writer() as writer:
            all_are_open.wait(60)
            for some in np.array_split(order, 16):
                writer.append([rows[i] for i in some], features([rows[i] for i in some]))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows_of(stored) == {("feature",): digests(rows)}
    assert verify(store, store.folders()).damaged == ()


def test_a_writer_goes_on_in_a_set_that_was_removed_or_made_anew(stored: StoredSet) -> None:
    with stored.writer() as writer:
        (stored.path / NAME).unlink()
        assert repair(stored) == {}
        writer.append([MORE], features([MORE]))
        assert stored.manifest().rows == 7
        stored.remove()
        with pytest.raises(SetChangedError) as error:
            writer.append([row("eel", 1)], features([row("eel", 1)]))
        says(error, stored.id)
    assert repair(stored) == {}
    assert stored.manifest().rows == 1


def test_what_gave_no_features_is_noted_once(stored: StoredSet) -> None:
    with stored.writer() as writer:
        writer.note_unusable({"x": "it is broken"})
    before = (stored.path / NAME).read_bytes()
    with stored.writer() as writer:
        writer.note_unusable({"x": "it is broken"})
    assert (stored.path / NAME).read_bytes() == before
    assert stored.manifest().unusable == {"x": "it is broken"}


def test_a_head_is_stored_once(stored: StoredSet) -> None:
    folder = stored.path.parent
    assert stored.head() is load_head(folder) is None
    assert head_damage(folder)
    head = {"weight": torch.randn(3, DIM), "bias": torch.randn(3)}
    save_head(folder, head)
    save_head(folder, {"weight": torch.zeros(1)})
    found = stored.head()
    assert found is not None
    assert found.keys() == head.keys()
    assert all(torch.equal(found[name], head[name]) for name in head)


def test_a_backbone_without_a_head_is_told_from_one_whose_head_is_lost(stored: StoredSet) -> None:
    save_head(stored.path.parent, None)
    assert stored.head() is None
    assert head_damage(stored.path.parent) == ""


def test_every_flipped_bit_of_a_head_is_noticed(stored: StoredSet) -> None:
    save_head(stored.path.parent, {"weight": torch.randn(3, 4), "bias": torch.randn(3)})
    path = stored.path.parent / "head.safetensors"
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        with pytest.raises(StoreError):
            stored.head()
    assert [damage.file for damage in verify(stored.store, stored.store.folders()).damaged] == [path.name]
    assert list(repairing.repair(stored, thorough=True)) == [path.name]
    assert stored.head() is None


def test_rows_of_another_version_are_not_read(store: FeatureStore) -> None:
    stored = fill(store, key=replace(KEY, format=1))
    with pytest.raises(StoreError) as error:
        stored.read()
    says(error, stored.id, 1, hint="extract")
