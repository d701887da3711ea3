"""Attributes of images: from every kind of source, through the listing, to features in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.numpy import save_file

import nctransfer as nct
from conftest import write_digits
from messages import logged, raises
from nctransfer.errors import DataError, FeaturesError, StoreError
from nctransfer.sources import attributes
from nctransfer.sources.attribute_columns import joined_texts, texts_at, texts_of
from nctransfer.sources.attributes import FolderAttributes, RowAttributes
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.manifest import Manifest
from nctransfer.sources.parquet import ParquetFiles
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import ImageEntry, ImageSource
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.listing_files import change_listing, load_listing
from nctransfer.store.listings import Listing
from pictures import png
from terminal import done, refused, shows_line

Attributes = dict[str, list[str]]


def found(source: ImageSource) -> Attributes:
    images = ImageTable.of(source.list())
    return {name: list(texts_of(column)) for name, column in images.attributes.items()}


def table(texts: Mapping[str, Sequence[str]]) -> ImageTable:
    """Images 0, 1, … with attributes."""
    rows, columns = len(next(iter(texts.values()))), {}
    for name, values in texts.items():
        columns[name] = pa.array(values, pa.string()).dictionary_encode()
    images = ImageTable.of(ImageEntry(f"{row:03d}.png", "a", "", 1, 2) for row in range(rows))
    return images.with_attributes(columns)


# Sources


def manifest(folder: Path, name: str, content: str) -> Manifest:
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    (folder / name).write_text(content, "utf-8")
    return Manifest(folder / name)


def test_further_columns_of_a_manifest_are_attributes(tmp_path: Path):
    lines = ["path,label,split,site,wet", "1.png,a,test,Kent,1", "0.png,b,test,,0", "2.png,a,train,Ütrecht,1"]
    expected = {"label": ["b", "a", "a"], "site": ["", "Kent", "Ütrecht"], "wet": ["0", "1", "1"]}
    assert found(manifest(tmp_path, "x.csv", "\n".join(lines))) == expected
    assert found(manifest(tmp_path, "y.csv", "path,label,split\n1.png,a,test\n")) == {}
    shares = found(manifest(tmp_path, "z.csv", "path,label,share,day\n1.png,a,0.5,2026-01-02\n"))
    assert shares == {"label": ["a"], "share": ["0.5"], "day": ["2026-01-02"]}  # all that a table without types holds


def test_lines_of_json_may_lack_keys_and_mix_types(tmp_path: Path):
    rows: list[dict[str, Any]] = [
        {"path": "0.png", "label": "a", "many": 3, "vector": [1], "share": 1},
        {"path": "1.png", "label": "a", "site": "\ud800", "many": "three", "share": 0.5},
        {"path": "2.png", "label": "b", "site": None, "many": True, "late": "x", "": "nameless"},
    ]
    source = manifest(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)))
    assert found(source) == {
        "label": ["a", "a", "b"],
        "many": ["3", "three", "true"],
        "site": ["", "\\ud800", ""],
        "late": ["", "", "x"],
    }


def test_several_label_columns_make_one_class(tmp_path: Path):
    manifest(tmp_path, "x.csv", "path,species,breed\n0.png,cat,Manx\n1.png,dog,Pug\n2.png,cat,Rex\n")
    source = Manifest(tmp_path / "x.csv", label_column="species,breed")
    assert [entry.label for entry in source.list()] == ["cat/Manx", "dog/Pug", "cat/Rex"]
    assert found(source) == {"species": ["cat", "dog", "cat"], "breed": ["Manx", "Pug", "Rex"]}
    with raises(DataError, "no column 'size'", hint="path, species, breed"):
        Manifest(tmp_path / "x.csv", label_column="species,size").list()
    with raises(DataError, 2, hint="--class-names"):
        Manifest(tmp_path / "x.csv", label_column="species,breed", class_names=["a"]).list()


def test_columns_with_too_many_or_too_long_texts_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attributes, "MOST_VALUES", 3)
    monkeypatch.setattr(attributes, "MOST_LETTERS", 5)
    rows = RowAttributes(["path"])
    for number in range(6):
        rows.add(
            {"path": "p", "three": "abc"[number % 3], "four": str(number % 4), "long": "x" * number, "is": number > 2}
        )
    assert {name: list(texts_of(column)) for name, column in rows.columns().items()} == {
        "three": ["a", "b", "c", "a", "b", "c"],
        "is": ["false"] * 3 + ["true"] * 3,
    }


@pytest.mark.parametrize("values", [10_000, 10_001])
def test_ten_thousand_different_values_are_the_most(values: int):
    rows = RowAttributes([])
    for number in range(values):
        rows.add({"number": number, "site": "x"})
    assert ("number" in rows.columns()) == (values == 10_000)


def test_further_columns_of_parquet_files_are_attributes(tmp_path: Path):
    hub = {"info": {"features": {"coarse": {"_type": "ClassLabel", "names": ["fruit", "tree"]}}}}
    images = pa.array([{"bytes": png(number), "path": None} for number in range(4)])
    one = {
        "image": images,
        "label": pa.array([0, -1, 1, 0]),
        "coarse": pa.array([0, 1, None, -1]),
        "site": pa.array(["a", "b", None, " "], pa.large_string()),
        "night": pa.array([True, None, False, True]),
        "camera": pa.array([7, 8, 9, 7]),
        "lens": pa.array(["w", "t", "w", None]).dictionary_encode(),
        "score": pa.array([0.5, 1.0, 1.0, 1.0]),
        "caption": pa.array(["x" * 2000, "", "", ""]),
    }
    schema = pa.table(one).replace_schema_metadata({"huggingface": json.dumps(hub)})
    parquet.write_table(schema, tmp_path / "a.parquet", row_group_size=3)
    two = {"image": images[:2], "label": pa.array([1, 1]), "site": ["c", "a"]}
    parquet.write_table(pa.table(two), tmp_path / "b.parquet")
    assert found(ParquetFiles(tmp_path)) == {
        "label": ["0", "1", "0", "1", "1"],
        "coarse": ["fruit", "", "", "", ""],
        "site": ["a", "", "", "c", "a"],
        "night": ["true", "false", "true", "", ""],
        "camera": ["7", "9", "7", "", ""],
        "lens": ["w", "w", "", "", ""],
    }
    both = ParquetFiles(tmp_path / "a.parquet", label_column="site,camera")
    assert [entry.label for entry in both.list()] == ["a/7", "b/8", " /7"]


def test_folders_below_the_split_are_attributes(tmp_path: Path):
    for name in ("test/fruit/apple/red/1.png", "test/fruit/2.png", "train/tree/oak/3.png", "train/tree/oak/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    assert found(ImageFolder(tmp_path)) == {
        "folder-1": ["fruit", "fruit", "tree", "tree"],
        "folder-2": ["", "apple", "oak", "oak"],
        "folder-3": ["", "red", "", ""],
    }


def test_folders_of_classes_alone_have_no_attributes(pets: Path):
    assert found(ImageFolder(pets)) == {}


@given(st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=3), st.integers(0, 3)), max_size=6))
def test_folder_attributes_are_those_of_each_image(runs: list[tuple[list[str], int]]):
    columns = FolderAttributes()
    for folders, images in runs:
        columns.add(folders, images)
    deepest = max((len(folders) for folders, images in runs if images), default=0)
    expected = {
        f"folder-{level + 1}": [
            (folders[level] if level < len(folders) else "") for folders, images in runs for _ in range(images)
        ]
        for level in range(deepest)
    }
    given = {name: list(texts_of(column)) for name, column in columns.columns().items()}
    assert given == (expected if deepest > 1 else {})


def test_names_that_nobody_would_give(tmp_path: Path):
    names = ["x" * 1000, "[red]", "a\x1b[31m\nb", "\ud800", "a,b", " ", "日本"]
    rows = [{"path": f"{number}.png", "label": "a"} | dict.fromkeys(names, f"v{number}") for number in range(4)]
    source = manifest(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)))
    assert found(source).keys() == {"label", *names[1:3], "\\ud800", *names[4:]}
    shown = done("data", tmp_path / "x.jsonl", "--fast").stdout
    assert "[red]" in shown
    assert "\x1b" not in shown
    stored = nct.extract("test_resnet", tmp_path / "x.jsonl", random_init=True).info.id
    assert nct.load_features(stored, label_column="a,b").classes == ("v0", "v1", "v2", "v3")
    assert nct.load_features(stored, attributes=["日本"]).attributes["日本"] == ("v0", "v1", "v2", "v3")
    wrong = refused("collapse", stored, "--label-column", "[bold]a\x1b")
    assert "[bold]a" in wrong
    assert "\x1b" not in wrong


def test_the_first_64_columns_count(tmp_path: Path):
    rows = RowAttributes([])
    rows.add({f"c{number}": "x" for number in range(70)})
    rows.add({"late": "x"})
    assert sorted(rows.columns()) == sorted(f"c{number}" for number in range(64))


# Columns


words = st.lists(st.sampled_from(["", "a", "b", "a/b", "é"]), min_size=1, max_size=6)


@given(words, words)
def test_joined_texts_are_those_of_each_row(one: list[str], other: list[str]):
    rows = list(zip(one, other, strict=False))
    columns = [pa.array(column, pa.string()).dictionary_encode() for column in zip(*rows, strict=True)]
    joined = joined_texts(columns)
    assert list(texts_of(joined)) == [f"{a}/{b}" if a and b else "" for a, b in rows]
    names = joined.dictionary.to_pylist()
    assert len(set(names)) == len(names)


@given(words, st.lists(st.integers(-1, 5), max_size=6))
def test_texts_at_places(texts: list[str], places: list[int]):
    places = [place for place in places if place < len(texts)]
    column = texts_at(pa.array(texts, pa.string()).dictionary_encode(), np.array(places, np.int64))
    assert list(texts_of(column)) == [texts[place] if place >= 0 else "" for place in places]


def test_attributes_follow_their_images():
    images = table({"site": ["c", "b", "c", ""]})
    reverse = images.take(np.array([3, 1, 0]))
    assert texts_of(reverse.attributes["site"]) == ("", "b", "c")
    assert texts_of(reverse.sorted().attributes["site"]) == ("c", "b", "")
    assert texts_of(images[1:3].attributes["site"]) == ("b", "c")
    assert images[1].id == "001.png"
    assert images == table({"site": ["c", "b", "c", ""]})
    assert images != table({"site": ["c", "b", "c", "b"]})
    assert images != table({"city": ["c", "b", "c", ""]})
    assert images[1:2] == table({"site": ["x", "b"]})[1:]  # other codes, the same texts
    assert images == list(images)


# Listings


def test_a_listing_holds_attributes(tmp_path: Path):
    path = tmp_path / "pets-1.parquet"
    listing = Listing.unread(table({"site": ["c", "", "日本"], "ward": ["1", "2", "1"]}))
    change_listing(path, lambda _: listing)
    assert load_listing(path).equals(listing)
    whole = path.read_bytes()
    for place in range(4, len(whole), 131):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert len(load_listing(path)) == 0 or load_listing(path).equals(listing)


def test_joined_listings_have_the_attributes_of_both():
    plain = Listing.unread(table({"x": ["0"] * 4}).with_attributes({})[:2])
    rich = Listing.unread(table({"site": list("abcd")}))
    assert texts_of(plain.joined_with(rich).images.attributes["site"]) == tuple("abcd")
    assert texts_of(rich.joined_with(plain).images.attributes["site"]) == tuple("abcd")
    part, rest = Listing.unread(table({"site": list("abcd")})[:3]), Listing.unread(table({"ward": list("1234")})[2:])
    both = part.joined_with(rest).images.attributes
    assert {name: texts_of(column) for name, column in both.items()} == {
        "site": ("a", "b", "c", ""),
        "ward": ("", "", "3", "4"),
    }


# Stored sets


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A manifest of 18 digits with two sites."""
    folder = write_digits(tmp_path / "photos", {"zero": 0, "one": 1, "two": 2}, 6)
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [
        f"{path},{path.split('/')[0]},{'Kent' if row % 2 else 'Oslo'},{row % 3 or ''}" for row, path in enumerate(paths)
    ]
    (folder / "photos.csv").write_text("\n".join(["path,label,site,ward", *lines]))
    return folder / "photos.csv"


def test_stored_features_come_with_attributes(photos: Path, ran: Callable[[], int]):
    plain = nct.extract("test_resnet", photos, random_init=True)
    assert plain.attributes == {}
    name = plain.info.id
    features = nct.load_features(name, attributes=["site", "ward"])
    rows = [line.split(",") for line in photos.read_text().splitlines()[1:]]
    assert features.ids == plain.ids
    assert dict(zip(features.ids, features.attributes["site"], strict=True)) == {row[0]: row[2] for row in rows}
    assert dict(zip(features.ids, features.attributes["ward"], strict=True)) == {row[0]: row[3] for row in rows}
    one = nct.load_features(name, selection=Selection(classes=("one",)), attributes=("site",))
    assert set(one.ids) == {row[0] for row in rows if row[1] == "one"}
    with raises(FeaturesError, "sites", hint=["'site'?", "'label', 'site', 'ward'"]):
        nct.load_features(name, attributes=["sites"])


def test_classes_of_a_stored_set_can_be_an_attribute(photos: Path, caplog: pytest.LogCaptureFixture):
    plain = nct.extract("test_resnet", photos, random_init=True)
    by_site = nct.load_features(plain.info.id, label_column="site")
    assert (by_site.classes, len(by_site)) == (("Kent", "Oslo"), 18)
    few = nct.load_features(plain.info.id, label_column="site", selection=Selection(classes=("Oslo",), max_per_class=2))
    assert (few.classes, len(few)) == (("Oslo",), 2)
    with caplog.at_level("INFO"):
        both = nct.load_features(plain.info.id, label_column="site,ward", attributes=["label"])
    assert both.classes == ("Kent/1", "Kent/2", "Oslo/1", "Oslo/2")
    assert len(both) == len(both.attributes["label"]) == 12
    assert "6 images of" in caplog.text
    stored = FeatureStore().find(plain.info.id)
    stream = stored.stream(label_column="site,ward")
    assert (stream.classes, sorted(stream.counts.tolist())) == (both.classes, sorted(both.counts.tolist()))


def test_the_command_line_takes_an_attribute_as_the_class(photos: Path):
    nct.extract("test_resnet", photos, random_init=True)
    name = FeatureStore().sets()[0].id
    said = json.loads(done("collapse", name, "--label-column", "site", "--format", "json").stdout)
    assert (said["features"]["classes"], said["features"]["label_column"]) == (2, "site")
    assert shows_line(done("collapse", name, "--label-column", "site").stdout, "label column", "site")
    assert "no attribute 'town'" in refused("collapse", name, "--label-column", "town")
    assert "--class-names has no effect" in refused("collapse", name, "--class-names", photos)


def test_other_classes_of_the_same_images_are_said(photos: Path, caplog: pytest.LogCaptureFixture):
    model = ("--model", "test_resnet", "--random-init", "--data", photos)
    first = json.loads(done("collapse", *model, "--format", "json").stdout)["features"]
    assert (first["classes"], first["label_column"]) == (3, None)
    for command in ("collapse", "collapse --layers 0"):
        by_site = json.loads(done(*command.split(), *model, "--label-column", "site", "--format", "json").stdout)
        features = by_site["sets"][0]["features"] if "sets" in by_site else by_site["features"]
        assert (features["classes"], features["label_column"]) == (2, "site")
    with caplog.at_level("WARNING"):
        nct.extract("test_resnet", photos, random_init=True)  # what only measures has stored no other classes
        assert logged(caplog, "--label-column") == []
        for options in (ReadingOptions(label_column="site"), None, None):
            nct.extract("test_resnet", photos, random_init=True, reading=options)
    to_sites, back = logged(caplog, "--label-column")
    assert "2 in place of 3" in to_sites
    assert "3 in place of 2" in back


@pytest.mark.parametrize(("split", "said"), [("", "nor any other"), ("test", "nor any other but their split")])
def test_an_earlier_listing_gets_attributes_without_running_an_image(
    photos: Path, ran: Callable[[], int], split: str, said: str
):
    if split:
        first, *rows = photos.read_text().splitlines()
        photos.write_text("\n".join([f"{first},split", *(f"{row},{split}" for row in rows)]))
    plain = nct.extract("test_resnet", photos, random_init=True)
    assert ran() == 18
    store = FeatureStore()
    path = store.listing_file(store.find(plain.info.id).path.name)
    bare = load_listing(path)
    path.unlink()
    change_listing(path, lambda _: Listing(bare.images.with_attributes({}), bare.digests))
    assert len(nct.load_features(plain.info.id)) == 18  # an earlier listing is as good as before
    with raises(FeaturesError, f"no attribute 'site', {said}", hint="run the same nctransfer extract again"):
        nct.load_features(plain.info.id, attributes=["site"])
    nct.extract("test_resnet", photos, random_init=True)
    assert ran() == 0
    assert load_listing(path).equals(bare)
    assert set(nct.load_features(plain.info.id, attributes=["site"]).attributes["site"]) == {"Kent", "Oslo"}


def test_attributes_of_shards_come_with_a_merge(photos: Path, tmp_path: Path):
    roots = [tmp_path / f"worker-{index}" for index in (1, 2)]
    for index, root in enumerate(roots, 1):
        nct.extract("test_resnet", photos, random_init=True, shard=f"{index}/2", cache_dir=root, batch_size=1)
    done("cache", "merge", *roots)
    features = nct.load_features(FeatureStore().sets()[0].id, attributes=["site"])
    assert sorted(features.attributes["site"]) == ["Kent"] * 9 + ["Oslo"] * 9


def test_a_listing_with_odd_columns_is_made_anew(photos: Path, caplog: pytest.LogCaptureFixture):
    plain = nct.extract("test_resnet", photos, random_init=True)
    store = FeatureStore()
    path = store.listing_file(store.find(plain.info.id).path.name)
    listing = load_listing(path)
    for name, values in (("attribute:x", pa.array([1] * 18)), ("other", pa.array(["a"] * 18).dictionary_encode())):
        odd = Listing(ImageTable(listing.images.columns.append_column(name, values)), listing.digests)
        change_listing(path, lambda _, odd=odd: odd)
        assert len(load_listing(path)) == 0
        assert "not those of a listing" in caplog.text
        with raises(StoreError, plain.info.id, hint="nctransfer extract"):
            nct.load_features(plain.info.id)
        nct.extract("test_resnet", photos, random_init=True)
        assert load_listing(path).equals(listing)
        caplog.clear()


def test_a_listing_of_another_cache_is_not_believed(photos: Path, tmp_path: Path):
    nct.extract("test_resnet", photos, random_init=True, cache_dir=tmp_path / "worker")
    [path] = (tmp_path / "worker" / "sources").glob("*.parquet")
    listing = load_listing(path)
    columns = listing.images.columns
    assert listing.is_plain
    for name, values in (("attribute:x", [1] * 18), ("other", ["a"] * 18), ("attribute:n", [None, *"a" * 17])):
        texts = pa.array(values)
        added = texts if name == "attribute:x" else texts.cast(pa.string()).dictionary_encode()
        assert not Listing(ImageTable(columns.append_column(name, added)), listing.digests).is_plain
    many = {f"{number}": columns["attribute:site"].combine_chunks() for number in range(200)}
    assert not Listing(listing.images.with_attributes(many), listing.digests).is_plain


def test_splits_are_an_attribute(tmp_path: Path):
    for split in ("train", "test"):
        write_digits(tmp_path / "pets" / split, {"zero": 0, "one": 1}, 2)
    plain = nct.extract("test_resnet", tmp_path / "pets", random_init=True)
    assert (
        sorted(nct.load_features(plain.info.id, attributes=["split"]).attributes["split"])
        == ["test"] * 4 + ["train"] * 4
    )


# Features made elsewhere


def test_features_made_elsewhere_come_with_columns(tmp_path: Path):
    columns = {
        "feature": pa.array(np.eye(4).tolist()),
        "class": ["b", "a", "b", "a"],
        "site": ["x", None, "y", "x"],
        "camera": [1, 2, 3, 4],
        "share": [0.5] * 4,
    }
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    features = nct.load_features(tmp_path / "x.parquet", attributes=["site", "camera"])
    assert features.ids == ("1", "3", "0", "2")
    assert features.attributes == {"site": ("", "x", "x", "y"), "camera": ("2", "4", "1", "3")}
    assert nct.load_features(tmp_path / "x.parquet", label_column="class,camera").classes == (
        "a/2",
        "a/4",
        "b/1",
        "b/3",
    )
    with raises(FeaturesError, "no column 'city'"):
        nct.load_features(tmp_path / "x.parquet", attributes=["city"])
    with raises(FeaturesError, "'share' holds double, not text"):
        nct.load_features(tmp_path / "x.parquet", attributes=["share"])


def test_arrays_made_elsewhere_come_with_vectors(tmp_path: Path):
    np.savez(
        tmp_path / "x.npz", x=np.eye(3), y=[1, 0, 1], site=np.array(["p", "q", "r"]), wet=np.array([True, False, True])
    )
    features = nct.load_features(tmp_path / "x.npz", label_column="y", attributes=["site", "wet"])
    assert features.attributes == {"site": ("q", "p", "r"), "wet": ("false", "true", "true")}
    with raises(FeaturesError, "has no vector named 'city'"):
        nct.load_features(tmp_path / "x.npz", label_column="y", attributes=["city"])


# Of features in memory and in files made elsewhere


def test_values_of_attributes_become_texts():
    values = {
        "site": ["x", None, float("nan"), np.str_("y")],
        "ward": np.array([1, 2, 2, 1]),
        "new": [True, False, 1, 0],
    }
    found = nct.FeatureSet.from_arrays(np.eye(4), "aabb", attributes=values).attributes
    assert found == {
        "site": ("x", "", "", "y"),
        "ward": ("1", "2", "2", "1"),
        "new": ("true", "false", "1", "0"),
    }
    assert {type(text) for texts in found.values() for text in texts} == {str}


@pytest.mark.parametrize(
    ("values", "said"), [(["x"] * 3, 3), (["x"] * 8, 8), ([0.5, *"xyz"], "0.5"), ([[1], *"xyz"], "1")]
)
def test_other_values_are_no_attribute(values: list[object], said: object):
    with raises(FeaturesError, "site", said):
        nct.FeatureSet.from_arrays(np.eye(4), "aabb", attributes={"site": values})


@pytest.mark.parametrize("values", [{"x" * 10_000: [*"abcd"]}, {"x": ["a" * 1_001, *"bcd"]}])
def test_attributes_that_no_table_holds_are_refused(values: dict[str, list[str]]):
    with raises(FeaturesError, hint=[200, "1,000"]):
        nct.FeatureSet.from_arrays(np.eye(4), "aabb", attributes=values)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_several_columns_of_a_file_make_classes(tmp_path: Path, suffix: str):
    path, rows = tmp_path / f"features{suffix}", np.arange(8.0).reshape(4, 2).astype(np.float32)
    kinds, breeds = [0, 0, 1, 1], [0, 1, 0, 1]
    if suffix == ".npz":
        np.savez(path, feature=rows, kind=kinds, breed=breeds)
    elif suffix == ".safetensors":
        save_file({"feature": rows, "kind": np.array(kinds), "breed": np.array(breeds)}, path)
    else:
        parquet.write_table(pa.table({"feature": rows.tolist(), "kind": kinds, "breed": breeds}), path)
    found = nct.load_features(str(path), label_column="kind,breed", attributes=["breed"])
    assert found.classes == ("0/0", "0/1", "1/0", "1/1")
    assert found.attributes["breed"] == ("0", "1", "0", "1")
    with raises(FeaturesError, "'breeds'", "'breed'"):
        nct.load_features(str(path), label_column="kind", attributes=["breeds"])
