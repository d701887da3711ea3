"""Listings: images and their digests in columns, kept in a file that is not believed when a bit of it is wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pyarrow import parquet

from messages import logged
from nctransfer.features.feature_set import id_ranks
from nctransfer.sources.arrow_arrays import are_in, codes_and_names, places_in, same_text, strings, text_bytes
from nctransfer.sources.source import content_digest, digest_number, digest_numbers
from nctransfer.store import source_listing
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.listing_files import load_listing
from nctransfer.store.listings import Listed, Listing
from nctransfer.store.source_listing import SourceListing
from nctransfer.store.wanted_images import WantedImages


def image(number: int, size: int = 10, time: int = 0, digest: str | None = None) -> Listed:
    name = f"c{number % 3}/ä {number}.png"
    known = content_digest(name.encode()) if digest is None else digest
    return Listed(name, f"c{number % 3}", ("train", "")[number % 2], size, time, known)


ROWS = [image(number, digest=None if number % 4 else "") for number in range(30)]


@pytest.fixture
def path() -> Path:
    """The file of a listing of 30 images."""
    store = FeatureStore()
    store.save_listing("pets-1", ROWS)
    return store.root / "sources" / "pets-1.parquet"


def test_the_rows_of_a_listing_are_those_it_was_made_of() -> None:
    listing = Listing.of(iter(ROWS))
    assert list(listing) == [listing[place] for place in range(30)] == ROWS
    assert list(listing[3:9]) == ROWS[3:9]
    assert list(listing.take(np.array([7, 2]))) == [ROWS[7], ROWS[2]]
    assert listing.is_known.tolist() == [bool(number % 4) for number in range(30)]
    assert listing.equals(Listing.of(ROWS))
    assert not listing.equals(listing[:29])
    assert not listing.equals(listing.with_digests(np.array([4]), strings(["x"])))


def test_no_bit_of_the_file_changes_what_is_read(path: Path) -> None:
    content = path.read_bytes()
    whole = load_listing(path)
    believed = 0
    for bit in random.Random(0).sample(range(8 * len(content)), 400):
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        found = load_listing(path)
        believed += len(found) > 0
        assert not len(found) or found.equals(whole)  # some bits mean nothing, as in statistics
    assert believed < 200


def test_a_damaged_listing_is_said_and_made_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100], b"", bytes(1000)):
        path.write_bytes(damaged)
        caplog.clear()
        assert list(load_listing(path)) == []
        assert logged(caplog, "pets-1.parquet")
    assert list(FeatureStore().save_listing("pets-1", ROWS)) == list(load_listing(path)) == ROWS


def test_the_listing_of_another_source_or_layout_is_not_believed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = path.with_name("cars-1.parquet")
    other.write_bytes(path.read_bytes())
    assert list(load_listing(other)) == []
    assert logged(caplog, "another source")
    table = parquet.read_table(path)
    for metadata in (None, {**table.schema.metadata, b"nctransfer.listing": b"1"}):
        parquet.write_table(table.replace_schema_metadata(metadata), path)
        caplog.clear()
        assert list(load_listing(path)) == []
        assert logged(caplog, "another version")


def test_a_file_that_is_not_there_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert list(load_listing(tmp_path / "pets-1.parquet")) == []
    assert not caplog.records


def oracle(rows: Sequence[Listed], known: Sequence[Listed]) -> list[Listed]:
    """The rows with known digests, image by image."""
    digests = {row[:1] + row[3:5]: row.digest for row in known}
    return [
        row._replace(digest=digests.get(row[:1] + row[3:5], row.digest)) if row.digest == "" else row for row in rows
    ]


def test_digests_hold_while_size_and_time_are_the_same() -> None:
    rng = random.Random(0)
    for _ in range(50):
        rows, known = (
            [
                image(number, rng.randint(0, 1), rng.randint(0, 1), rng.choice(["", None, "new"]))
                for number in rng.sample(range(12), rng.randint(0, 12))
            ]
            for _ in range(2)
        )
        assert list(Listing.of(rows).with_known_digests(Listing.of(known))) == oracle(rows, known)
        changed = [row._replace(digest="", size=rng.randint(0, 1)) for row in known]
        assert list(Listing.of(changed).with_known_digests(Listing.of(known))) == oracle(changed, known)


def test_the_content_of_a_listing_is_what_it_says_of_the_images() -> None:
    listing = Listing.of(ROWS)
    assert Listing.of([row._replace(size=7, mtime_ns=8) for row in ROWS]).content() == listing.content()
    others = [
        [*ROWS[1:], ROWS[0]],
        ROWS[1:],
        *([ROWS[0]._replace(**{name: "x"}), *ROWS[1:]] for name in ROWS[0]._fields[:3]),
    ]
    assert len({listing.content(), *(Listing.of(rows).content() for rows in others)}) == 6


def test_what_is_found_is_saved_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    store, unread = FeatureStore(), Listing.of([row._replace(digest="") for row in ROWS])
    images = WantedImages(entries=unread.images, rows=np.arange(30))
    listing = SourceListing(
        store, SimpleNamespace(source=SimpleNamespace(id="pets-1"), images=images, keep_classes=False)
    )  # type: ignore[arg-type]

    def saved() -> list[str]:
        return [row.digest for row in store.listing("pets-1") if row.digest]

    listing.note({ROWS[0].id: "a", ROWS[7].id: "b"})
    assert saved() == []
    monkeypatch.setattr(source_listing, "SAVED_EVERY", -1.0)
    listing.note({ROWS[3].id: "c", ROWS[0].id: "d", "gone.png": "e"})  # what was noted last holds
    assert saved() == ["d", "c", "b"]
    monkeypatch.setattr(listing, "_seconds_to_save", 1000.0)  # it takes long, so the next time is far away
    listing.note({ROWS[4].id: "f"})
    assert saved() == ["d", "c", "b"]
    listing.save()
    assert saved() == ["d", "c", "f", "b"]


# Columns


def test_numbers_of_digests_are_those_of_one_at_a_time() -> None:
    digests = [row.digest for row in ROWS]
    assert digest_numbers(strings(digests)).tolist() == [digest_number(digest) for digest in digests]
    assert digest_numbers(strings([])).tolist() == []


def plain_order(keys: Sequence[str]) -> list[int]:
    if all(key.isascii() and key.isdigit() for key in keys):
        return sorted(range(len(keys)), key=lambda place: (int(keys[place]), keys[place]))
    return sorted(range(len(keys)), key=keys.__getitem__)


@pytest.mark.parametrize("letters", ["01", "0123456789", "09a", "aé𝔸\ud800z/_", "٣1"])
@pytest.mark.parametrize("length", [1, 3, 25])
def test_ranks_are_those_of_a_plain_sort(letters: str, length: int) -> None:
    rng = random.Random(length)
    for _ in range(60):
        drawn = ["".join(rng.choices(letters, k=rng.randint(0, length))) for _ in range(rng.randint(0, 12))]
        keys = list(dict.fromkeys(drawn))
        assert np.argsort(id_ranks(keys)).tolist() == plain_order(keys)


def test_columns_against_plain_python() -> None:
    rng = random.Random(0)
    for _ in range(50):
        texts, among = (rng.choices(["", "a", "bb", "ä", "c"], k=rng.randint(0, 8)) for _ in range(2))
        expected = [among.index(text) if text in among else -1 for text in texts]
        assert places_in(strings(texts), strings(among)).tolist() == expected
        assert are_in(strings(texts), strings(among)).tolist() == [text in among for text in texts]
        codes, names = codes_and_names(strings(texts).dictionary_encode()[2:])
        assert ([names[code] for code in codes], list(names)) == (texts[2:], sorted(set(texts[2:])))
        lengths, content = text_bytes(strings(texts)[1:])
        assert (lengths.tolist(), bytes(content)) == (
            [len(text.encode()) for text in texts[1:]],
            "".join(texts[1:]).encode(),
        )
    assert same_text("ab", 3).to_pylist() == ["ab"] * 3
