"""timm's readers, on data made here: torchvision, Hugging Face data sets, webdataset; TensorFlow's by a stand-in."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from messages import only, says
from nctransfer.errors import DataError
from nctransfer.sources import timm_reader
from nctransfer.sources.attribute_columns import texts_of
from nctransfer.sources.decoding import decode
from nctransfer.sources.opening import open_source
from nctransfer.sources.source import ImageSource
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.sources.timm_reader import TimmReader, prefix_of
from pictures import contents, labelled, notes, png

pytestmark = pytest.mark.filterwarnings("ignore")  # those of datasets, webdataset and torchvision


def opened(name: str, **options: object) -> ImageSource:
    source = open_source(name, ReadingOptions(**options))  # type: ignore[arg-type]
    assert isinstance(source, TimmReader)
    assert source.kind == f"timm reader {name}"
    return source


def pixel(content: bytes | str) -> list[int]:
    assert isinstance(content, bytes), content
    return np.asarray(decode(content))[0, 0].tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits, two classes, two images each; the pixels are split, class and number."""
    for part, split in enumerate(("train", "test")):
        for code, name in enumerate(("cat", "dog")):
            for number in range(2):
                path = tmp_path / "folder" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(part, code, number))
    return tmp_path / "folder"


EXPECTED = [(code, number) for code in (0, 1) for number in (0, 1)]


def any_order_reads_alike(source: ImageSource) -> None:
    entries = source.list()
    everything = contents(source)
    for chosen in ([1, 3], [3, 0, 0, 2], [2]):
        assert contents(source, [entries[i] for i in chosen]) == [everything[i] for i in chosen]
    assert source.read(entries[-1]) == everything[-1]


# torchvision


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """MNIST's files, with five and three images of one shade each."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 5), ("t10k", 3)):
        pixels = np.arange(count, dtype=np.uint8).repeat(784)
        head = np.array([count, 28, 28], ">i4").tobytes()
        (raw / f"{name}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + head + pixels.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + head[:4] + bytes(range(count)))
    return tmp_path / "data"


def test_a_torch_data_set_in_memory(mnist: Path) -> None:
    source = opened("torch/mnist", data_dir=mnist, split="train")
    names = ["0 - zero", "1 - one", "2 - two", "3 - three", "4 - four"]
    assert labelled(source) == [(f"{code:07d}", name, "train") for code, name in enumerate(names)]
    assert [pixel(content) for content in contents(source)] == [[code] * 3 for code in range(5)]
    assert {content[:13] for content in contents(source)} == {b"P6\n28 28\n255\n"}
    assert source.notes == ()
    any_order_reads_alike(source)


def test_the_split_of_timm_is_taken_and_said(mnist: Path) -> None:
    source = opened("torch/mnist", data_dir=mnist)
    only(notes(source), "'validation'")
    assert {entry.split for entry in source.list()} == {"validation"}
    assert len(source.list()) == 3
    assert source.id != opened("torch/mnist", data_dir=mnist, split="train").id
    assert source.id == opened("torch/mnist", data_dir=mnist, split="validation").id
    assert source.id != opened("torch/mnist", data_dir=mnist / "MNIST").id


def test_stamps_change_with_the_pixels(mnist: Path) -> None:
    before = opened("torch/mnist", data_dir=mnist).list()
    raw = mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    raw.write_bytes(raw.read_bytes()[:-1] + b"\xff")
    after = opened("torch/mnist", data_dir=mnist).list()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_a_torch_data_set_of_files_is_read_as_it_is(folder: Path) -> None:
    source = opened("torch/image_folder", data_dir=folder, split="test")
    assert labelled(source) == [(f"{name}/{i}.png", name, "test") for name in ("cat", "dog") for i in (0, 1)]
    assert contents(source) == [png(1, code, number) for code, number in EXPECTED]
    any_order_reads_alike(source)
    (folder / "test" / "cat" / "0.png").unlink()
    assert len(open_source("torch/image_folder", ReadingOptions(data_dir=folder, split="test")).list()) == 3


def test_inaturalist_is_read_as_files(tmp_path: Path) -> None:
    names = [f"{code:05d}_A_B_C_D_E_f_g{code}" for code in range(2)]
    for code, name in enumerate(names):
        (tmp_path / "2021_valid" / name).mkdir(parents=True)
        (tmp_path / "2021_valid" / name / "x.jpg").write_bytes(png(code, 0, 0))
    source = opened("torch/inaturalist", data_dir=tmp_path)
    assert labelled(source) == [(f"{name}/x.jpg", name, "validation") for name in names]
    assert contents(source) == [png(0, 0, 0), png(1, 0, 0)]


def test_names_that_are_tuples_and_equal_are_told_apart(mnist: Path) -> None:
    """As those of torchvision's ImageNet."""
    source = opened("torch/mnist", data_dir=mnist)
    source.list()
    source._dataset.classes = [("tench", "Tinca tinca"), ("crane",), ("crane",)]  # type: ignore[attr-defined]
    assert [label for _, label, _ in labelled(source)] == ["tench, Tinca tinca", "crane (1)", "crane (2)"]


def test_what_is_not_there_is_not_fetched_when_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def create(self: TimmReader, **options: bool) -> None:
        asked.append(options["download"])
        raise RuntimeError("Dataset not found.\nMore.")

    monkeypatch.setattr(TimmReader, "_create", create)
    for offline, expected in ((True, [False]), (False, [False, True])):
        asked.clear()
        with pytest.raises(DataError) as error:
            opened("torch/mnist", data_dir=tmp_path, offline=offline).list()
        assert asked == expected
        says(error, "torch/mnist", "'validation'", "Dataset not found.", hint="--data-dir")
        assert "More" not in error.value.message


@pytest.mark.parametrize("name", ["torch/nothing", "torch/"])
def test_unknown_names(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError) as error:
        open_source(name, ReadingOptions(data_dir=tmp_path, offline=True)).list()
    says(error, repr(name), "Unknown torchvision dataset")
    assert capsys.readouterr().out == ""


# Hugging Face


@pytest.mark.parametrize("prefix", ["hfds", "hfids"])
def test_a_hugging_face_data_set(folder: Path, prefix: str) -> None:
    pytest.importorskip("datasets")
    source = opened(f"{prefix}/{folder}", split="test")
    labels = ["cat", "cat", "dog", "dog"]
    assert labelled(source) == [(f"{number:07d}", label, "test") for number, label in enumerate(labels)]
    assert [pixel(content) for content in contents(source)] == [[1, *pair] for pair in EXPECTED]
    if prefix == "hfds":
        assert contents(source) == [png(1, *pair) for pair in EXPECTED]
    any_order_reads_alike(source)
    again = opened(f"{prefix}/{folder}", split="test")
    assert again.list() == source.list()
    assert again.id == source.id


def test_the_stamp_changes_with_the_data_set(folder: Path) -> None:
    pytest.importorskip("datasets")
    before = opened(f"hfds/{folder}", split="test").list()
    (folder / "test" / "cat" / "0.png").write_bytes(png(9, 9, 9) + b"longer")
    after = opened(f"hfds/{folder}", split="test").list()
    assert before[0].mtime_ns != after[0].mtime_ns


def test_parquet_by_way_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog"]), "note": datasets.Value("string")}
    )
    rows = {"img": [{"bytes": png(i, 0, 0)} for i in range(3)], "fine": [1, -1, 0], "note": ["a", "b", "c"]}
    (tmp_path / "d").mkdir()
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "d" / "train.parquet")
    name = f"hfds/{tmp_path}/d"
    source = opened(name, split="train", image_column="img", label_column="fine")
    assert [label for _, label, _ in labelled(source)] == ["dog", "cat"]
    assert contents(source) == [png(0, 0, 0), png(2, 0, 0)]
    only(notes(source), 1)
    attributes = source.list().attributes
    assert {name: texts_of(column) for name, column in attributes.items()} == {
        "fine": ("dog", "cat"),
        "note": ("a", "c"),
    }
    texts = opened(name, split="train", image_column="img", label_column="note")
    assert [label for _, label, _ in labelled(texts)] == ["a", "b", "c"]
    with pytest.raises(DataError) as error:
        opened(name, split="train", image_column="img", label_column="note", class_names=("x",)).list()
    says(error, name, hint="--class-names")
    with pytest.raises(DataError) as error:
        opened(name, split="train").list()
    says(error, name, "'train'")


@pytest.mark.parametrize("prefix", ["hfds", "hfids"])
def test_a_split_that_is_not_there(folder: Path, prefix: str) -> None:
    pytest.importorskip("datasets")
    with pytest.raises(DataError) as error:
        opened(f"{prefix}/{folder}").list()
    says(error, f"{prefix}/{folder}", "'validation'", hint="--split")


def test_offline_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    from huggingface_hub import constants

    seen: list[tuple[bool, bool]] = []
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def create(self: TimmReader, **options: object) -> None:
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        raise ValueError

    monkeypatch.setattr(TimmReader, "_create", create)
    for offline in (True, False):
        with pytest.raises(DataError) as error:
            opened("hfds/cifar10", offline=offline).list()
        says(error, "hfds/cifar10", "ValueError")
    assert seen == [(True, True), (False, False)]
    assert (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE) == (False, False)


# webdataset


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of three images, a grey one with transparency among them; the labels are 0, 1, 0."""
    pytest.importorskip("webdataset")
    root = tmp_path / "shards"
    root.mkdir()
    for shard in range(2):
        with tarfile.open(root / f"pets-{shard}.tar", "w") as tar:
            for number in range(3):
                image = png(shard, number, 0)
                if (shard, number) == (1, 2):
                    buffer = io.BytesIO()
                    Image.new("LA", (2, 2), (7, 0)).save(buffer, "PNG")
                    image = buffer.getvalue()
                for suffix, content in (("png", image), ("cls", str(number % 2).encode())):
                    member = tarfile.TarInfo(f"{shard}{number}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return root


BOTH = "pets-{0..1}.tar"


def test_shards(shards: Path) -> None:
    source = opened(f"wds/{shards}", split=BOTH)
    assert [(id_, label) for id_, label, _ in labelled(source)] == [(f"{i:07d}", "010010"[i]) for i in range(6)]
    expected = [[0, 0, 0], [0, 1, 0], [0, 2, 0], [1, 0, 0], [1, 1, 0], [255, 255, 255]]
    assert [pixel(content) for content in contents(source)] == expected
    any_order_reads_alike(source)
    named = opened("wds/pets", split=BOTH, data_dir=shards, class_names=("cat", "dog"))
    assert [label for _, label, _ in labelled(named)] == ["cat", "dog", "cat"] * 2


def test_shards_with_a_description(shards: Path) -> None:
    split = {"name": "test", "num_samples": 4, "filenames": ["pets-1.tar"], "shard_lengths": [3]}
    (shards / "_info.json").write_text(json.dumps({"splits": {"test": split}}))
    source = opened(f"wds/{shards}", split="test")
    only(notes(source), 4, 3)
    for outside in ("../pets-1.tar", f"{shards}/pets-1.tar"):
        split["filenames"] = [outside]
        (shards / "_info.json").write_text(json.dumps({"splits": {"test": split}}))
        with pytest.raises(DataError) as error:
            opened(f"wds/{shards}", split="test").list()
        says(error, f"'{outside}'")


def test_shards_that_cannot_be_found(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        opened("wds/pets", split=BOTH).list()
    says(error, "'wds/pets'", hint=["--data-dir", "--split"])
    with pytest.raises(DataError) as error:
        opened(f"wds/{shards}").list()
    says(error, "'validation'", "split validation not found in info")


def test_shards_that_are_gone_when_read(shards: Path) -> None:
    source = opened(f"wds/{shards}", split=BOTH)
    entries = source.list()
    (shards / "pets-1.tar").unlink()
    found = contents(source, entries)
    assert [isinstance(one, bytes) for one in found] == [True] * 3 + [False] * 3
    assert found[3]


# TensorFlow: too heavy to install; the reader of timm gives arrays


class ArrayReader:
    def __init__(self) -> None:
        self.class_to_idx = {"dog": 1, "cat": 0}

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.int64]]:
        yield np.full((2, 2, 3), 5, np.uint8), np.int64(0)
        yield np.full((2, 2, 1), 6, np.uint8), np.int64(-1)
        yield np.full((2, 2, 1), 7, np.uint8), np.int64(1)


def test_arrays_become_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def create(self: TimmReader, **options: object) -> object:
        asked.append(options)
        return SimpleNamespace(reader=ArrayReader())

    monkeypatch.setattr(TimmReader, "_create", create)
    monkeypatch.setitem(timm_reader.PREFIXES, "tfds", ("numpy", ""))
    source = opened("tfds/pets", split="test", offline=True)
    assert labelled(source) == [("0000000", "cat", "test"), ("0000002", "dog", "test")]
    assert [pixel(content) for content in contents(source)] == [[5] * 3, [7] * 3]
    assert {option["download"] for option in asked} == {False}


# What is not there


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("hfds/x", "pip install datasets"),
        ("hfids/x", "pip install datasets"),
        ("wds/x", "pip install webdataset"),
        ("tfds/x", ""),
    ],
)
def test_a_missing_package_is_named(name: str, install: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError) as error:
        open_source(name)
    says(error, name, hint=["pip install", install])
    assert error.value.hint.startswith("pip install")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [("hfds/x", "hfds"), ("HFDS/x/y", "hfds"), ("torch/", "torch"), ("torch", ""), ("x/hfds", ""), ("./torch/x", "")],
)
def test_prefixes(name: str, prefix: str) -> None:
    assert prefix_of(name) == prefix
