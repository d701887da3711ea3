"""The command line and its data: every kind of source, what is chosen of it, what is in it, features made elsewhere."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import nctransfer as nct
from conftest import write_digits
from terminal import SMALL, VIT, cli, data_of, done, known, misused, refused

CLASSES = ("one", "two", "zero")
EACH = 6
OPENED_WITHOUT_WITH = "ignore:unclosed file:ResourceWarning"  # by the libraries that timm reads with


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``pets``, for the whole module; nothing may change it."""
    return write_digits(tmp_path_factory.mktemp("data") / "pets", {"zero": 0, "one": 1, "two": 2}, EACH)


def images_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def lines(path: Path, *names: str) -> Path:
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def manifest(path: Path, folder: Path, names: tuple[str, str] = ("path", "label"), codes: bool = False) -> Path:
    """A table of the images of a folder, by their absolute paths or those from the folder."""
    rows = [names]
    for image in images_of(folder):
        label = image.parent.name
        rows.append((f"{label}/{image.name}", str(CLASSES.index(label)) if codes else label))
    if path.suffix == ".jsonl":
        return lines(path, *(json.dumps(dict(zip(names, row, strict=True))) for row in rows[1:]))
    return lines(path, *(("\t" if path.suffix == ".tsv" else ",").join(row) for row in rows))


def of_images(path: Path, folder: Path, names: tuple[str, str] = ("image", "label"), codes: bool = False) -> Path:
    """Parquet of images, as on the hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = images_of(folder)
    labels: list[Any] = [image.parent.name for image in images]
    if codes:
        labels = [CLASSES.index(label) for label in labels]
    contents = [{"bytes": image.read_bytes(), "path": image.name} for image in images]
    pq.write_table(pa.table({names[0]: contents, names[1]: labels}), path)
    return path


def packed(path: Path, folder: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for image in images_of(folder):
                archive.write(image, f"pets/{image.parent.name}/{image.name}")
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            tar.add(folder, "pets")
    return path


def shards(root: Path, folder: Path) -> Path:
    """webdataset: images and codes in a tar."""
    root.mkdir()
    with tarfile.open(root / "pets-0.tar", "w") as tar:
        for number, image in enumerate(images_of(folder)):
            for suffix, content in (
                ("png", image.read_bytes()),
                ("cls", str(CLASSES.index(image.parent.name)).encode()),
            ):
                member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return root


def in_splits(root: Path, folder: Path) -> Path:
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / "test")
    return root


Source = tuple[list[object], str]  # what follows --data, and what it is said to be

SOURCES: dict[str, Callable[[Path, Path], Source]] = {
    "folder": lambda _, pets: ([pets], "folder of class folders"),
    "splits": lambda tmp, pets: ([in_splits(tmp / "s", pets), "--split", "test"], "folder of class folders"),
    "tar": lambda tmp, pets: ([packed(tmp / "p.tar", pets)], "tar archive"),
    "tar.gz": lambda tmp, pets: ([packed(tmp / "p.tar.gz", pets)], "compressed tar archive"),
    "zip": lambda tmp, pets: ([packed(tmp / "p.zip", pets)], "zip archive"),
    "csv": lambda tmp, pets: ([manifest(tmp / "p.csv", pets), "--image-root", pets], "manifest"),
    "tsv": lambda tmp, pets: ([manifest(tmp / "p.tsv", pets), "--image-root", pets], "manifest"),
    "jsonl": lambda tmp, pets: ([manifest(tmp / "p.jsonl", pets), "--image-root", pets], "manifest"),
    "parquet": lambda tmp, pets: ([of_images(tmp / "p.parquet", pets)], "Parquet files"),
    "folder of parquet": lambda tmp, pets: ([of_images(tmp / "d" / "p.parquet", pets).parent], "Parquet files"),
    "pattern": lambda tmp, pets: (
        [of_images(tmp / "p-0.parquet", pets).with_name("p-*.parquet")],
        "Parquet files",
    ),
    "torch": lambda tmp, pets: (
        ["torch/image_folder", "--data-dir", in_splits(tmp / "s", pets), "--split", "test"],
        "timm reader torch/image_folder",
    ),
    "hfds": lambda tmp, pets: (
        [f"hfds/{in_splits(tmp / 's', pets)}", "--split", "test"],
        f"timm reader hfds/{tmp / 's'}",
    ),
    "wds": lambda tmp, pets: (
        [f"wds/{shards(tmp / 's', pets)}", "--split", "pets-0.tar", "--class-names", lines(tmp / "names", *CLASSES)],
        f"timm reader wds/{tmp / 's'}",
    ),
}
NEEDS = {"torch": "torchvision", "hfds": "datasets", "wds": "webdataset"}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path, folder: Path) -> Source:
    """Each kind in turn, all of the same images."""
    if needed := NEEDS.get(request.param):
        pytest.importorskip(needed)
    return SOURCES[request.param](tmp_path, folder)


# Every kind of source


@pytest.mark.filterwarnings(OPENED_WITHOUT_WITH)
def test_each_kind_of_data_is_extracted_and_named(source: Source) -> None:
    data, kind = source
    first = done("extract", *VIT, "--data", *data, "--offline", "--format", "json")
    assert any(line.startswith(f"{data[0]}: {kind}, ") for line in first.stderr.splitlines())
    report = json.loads(first.stdout)
    assert (report["samples"], report["extracted"], report["failed"]) == (18, 18, [])
    classes = lines(Path(str(report["path"])).parent / "wanted.txt", *CLASSES)  # an error, if the names are others
    found = data_of("collapse", report["id"], "--classes", classes)
    assert (found["features"]["samples"], found["features"]["classes"]) == (18, 3)
    assert data_of("extract", *VIT, "--data", *data, "--offline")["reused"] == 18


@pytest.mark.filterwarnings(OPENED_WITHOUT_WITH)
def test_each_kind_of_data_is_looked_into(source: Source) -> None:
    data, kind = source
    result = done("data", *data, "--offline", "--format", "json")
    found = json.loads(result.stdout)
    assert (found["kind"], found["name"]) == (kind, str(data[0]))
    assert {row["class"]: row["images"] for row in found["counts"]} == dict.fromkeys(CLASSES, EACH)
    assert found["broken"] == []
    assert found["sizes"]["median"] == [32, 32]


def test_the_digits_are_built_in() -> None:
    result = done("data", "digits", "--fast")
    assert "built-in digits" in result.stdout
    assert "1,797" in result.stdout
    assert "--max-per-class" not in result.stdout
    assert data_of("data", "digits", "--max-per-class", 3)["images"] == 30


def test_equal_images_from_an_archive_give_equal_numbers(folder: Path, tmp_path: Path) -> None:
    of_folder, of_archive = (
        data_of("collapse", *VIT, "--data", data) for data in (folder, packed(tmp_path / "p.tar", folder))
    )
    assert known(of_archive) == pytest.approx(known(of_folder), rel=1e-3)
    assert of_archive["features"]["id"] != of_folder["features"]["id"]


# What is chosen of it


def counted(*arguments: object) -> dict[str, int]:
    return {row["class"]: row["images"] for row in data_of("data", *arguments)["counts"]}


def test_classes_are_chosen_and_left_out(folder: Path, tmp_path: Path) -> None:
    some = lines(tmp_path / "some", "zero", "", " two ")
    assert counted(folder, "--classes", some) == {"two": 6, "zero": 6}
    assert counted(folder, "--exclude-classes", some) == {"one": 6}
    two = lines(tmp_path / "two", "two")
    assert counted(folder, "--classes", some, "--exclude-classes", two) == {"zero": 6}
    report = data_of("extract", *VIT, "--data", folder, "--exclude-classes", some)
    assert (report["samples"], report["extracted"]) == (6, 6)
    assert data_of("extract", *VIT, "--data", folder, "--exclude-classes", two)["extracted"] == 6  # zero alone is new


def test_at_most_so_many_a_class_by_the_seed(folder: Path) -> None:
    assert counted(folder, "--max-per-class", 2) == dict.fromkeys(CLASSES, 2)
    sizes = [
        tuple(row["bytes"] for row in data_of("data", folder, "--max-per-class", 2, "--seed", seed)["counts"])
        for seed in (0, 0, 1)
    ]
    assert sizes[0] == sizes[1] != sizes[2]


def test_the_split_of_a_folder_and_of_a_manifest(folder: Path, tmp_path: Path) -> None:
    root = in_splits(tmp_path / "s", folder)
    everything = data_of("data", root)
    assert everything["splits"] == {"test": 18, "train": 18}
    assert data_of("data", root, "--split", "train")["splits"] == {"train": 18}
    names = [f"{image.parent.name}/{image.name}" for image in images_of(folder)]
    rows = [f"{name},{name.partition('/')[0]},{'train' if i % 2 else 'val'}" for i, name in enumerate(names)]
    table = lines(tmp_path / "m.csv", "path,label,split", *rows)
    found = data_of("collapse", *VIT, "--data", table, "--image-root", folder, "--split", "val")
    assert (found["features"]["samples"], found["features"]["split"]) == (9, "val")


@pytest.mark.parametrize(
    ("option", "names", "words"),
    [
        ("--classes", ["zero", "seven"], ["there is no class 'seven'", "'one', 'two', 'zero'"]),
        ("--classes", ["[bold]six", "seven"], ["'[bold]six' and 1 more"]),
        ("--exclude-classes", ["Zero"], ["there is no class 'Zero'"]),
    ],
)
def test_a_class_that_is_not_there(
    option: str, names: list[str], words: list[str], folder: Path, tmp_path: Path
) -> None:
    for command in (("data", folder), ("extract", *VIT, "--data", folder)):
        complaint = refused(*command, option, lines(tmp_path / "names", *names))
        assert [word for word in words if word not in complaint] == []


def test_a_split_that_is_not_there(folder: Path) -> None:
    assert "there is no split 'train'\nhint: these data have no splits" in refused("data", folder, "--split", "train")


@pytest.mark.parametrize(("option", "value"), [("--max-per-class", 0), ("--max-per-class", "x"), ("--workers", 0)])
def test_numbers_that_nobody_can_mean(option: str, value: object, folder: Path) -> None:
    assert f"Invalid value for '{option}'" in misused("data", folder, option, value)


# How it is read


def test_columns_of_any_name(folder: Path, tmp_path: Path) -> None:
    names = ("[bold]file", "kind")
    tables = [
        [manifest(tmp_path / "m.csv", folder, names), "--image-root", folder],
        [of_images(tmp_path / "p.parquet", folder, names)],
    ]
    for table in tables:
        assert counted(*table, "--image-column", names[0], "--label-column", names[1]) == dict.fromkeys(CLASSES, 6)
        complaint = refused("data", *table, "--image-column", names[0])
        assert "its columns: [bold]file, kind; name one by --label-column" in complaint
        wrong = refused("data", *table, "--image-column", "[red]", "--label-column", "kind")
        assert "has no column '[red]'" in wrong


def test_names_of_codes(folder: Path, tmp_path: Path) -> None:
    names = lines(tmp_path / "names", *CLASSES)
    for table in (
        [manifest(tmp_path / "m.csv", folder, codes=True), "--image-root", folder],
        [of_images(tmp_path / "p.parquet", folder, codes=True)],
    ):
        assert counted(*table) == {"0": 6, "1": 6, "2": 6}
        assert counted(*table, "--class-names", names) == dict.fromkeys(CLASSES, 6)
        complaint = refused("data", *table, "--class-names", lines(tmp_path / "few", "one"))
        assert "the label is 1" in complaint
        assert "a name for each code" in complaint


def test_names_where_there_are_no_codes(folder: Path, tmp_path: Path) -> None:
    names = lines(tmp_path / "names", *CLASSES)
    table = manifest(tmp_path / "m.csv", folder)
    assert "the label 'one' is no code" in refused("data", table, "--image-root", folder, "--class-names", names)
    parquet = of_images(tmp_path / "p.parquet", folder)
    assert "names already, not codes" in refused("data", parquet, "--class-names", names)


@pytest.mark.parametrize("command", ["data", "extract", "collapse", "fewshot", "check"])
def test_a_path_that_leaves_its_folder_is_refused(command: str, folder: Path, tmp_path: Path) -> None:
    table = lines(tmp_path / "m.csv", "path,label", f"{images_of(folder)[0]},one")
    data = [table] if command == "data" else [*VIT, "--data", table]
    complaint = refused(command, *data)
    assert "lies outside the folder" in complaint
    assert "--image-root" in complaint


@pytest.mark.parametrize("command", ["data", "extract", "collapse", "fewshot", "check"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("folder", ["--label-column", "--image-column", "--image-root", "--class-names", "--data-dir"]),
        ("tar", ["--label-column", "--image-root"]),
        ("csv", ["--data-dir"]),
        ("parquet", ["--image-root", "--data-dir"]),
        ("digits", ["--label-column", "--data-dir"]),
    ],
)
def test_an_option_of_no_use_is_no_option(
    command: str, kind: str, options: list[str], folder: Path, tmp_path: Path
) -> None:
    data, said = (["digits"], "built-in digits") if kind == "digits" else SOURCES[kind](tmp_path, folder)
    names = lines(tmp_path / "x", "x")
    for option in options:
        complaint = refused(command, *(data if command == "data" else [*VIT, "--data", *data]), option, names)
        assert f"({said}) has no use for {option}\nhint: leave out {option}" in complaint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing[/bold]", "'nothing[/bold]' is not there"),
        ("", "the name of the data is empty"),
        ("s3://bucket/pets", "is not there"),
        ("-", "'-' is not there"),
        ("null\0character", r"'null\x00character' is not there"),
        ("*.parquet", "has no Parquet files"),
        ("tfds/pets", "needs the package tensorflow_datasets\nhint: pip install tensorflow-datasets tensorflow"),
        ("torch/mnist", "needs a folder\nhint: name where it lies, or is downloaded to: --data-dir"),
        ("wds/pets", "needs the folder of its shards"),
        ("/dev/null", "'/dev/null' is no file or folder"),
    ],
)
def test_data_that_are_not_there(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("tfds"):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert words in refused("data", name, "--offline")


def test_files_that_are_no_data(tmp_path: Path) -> None:
    for name, words in (("x.txt", "is no folder, archive, manifest or Parquet file"), ("x.zip", "is no whole archive")):
        (tmp_path / name).write_bytes(b"\0" * 100)
        assert words in refused("data", tmp_path / name)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert "cannot be read as Parquet" in refused("data", tmp_path / "x.parquet")


@pytest.mark.parametrize("option", ["--classes", "--exclude-classes", "--class-names"])
def test_a_file_of_names_that_is_not_there(option: str, folder: Path, tmp_path: Path) -> None:
    complaint = refused("data", folder, option, tmp_path / "nothing")
    assert str(tmp_path / "nothing") in complaint
    assert "Errno" not in complaint


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_that_stands_for_two_codes(kind: str, folder: Path, tmp_path: Path) -> None:
    csv_ = [manifest(tmp_path / "m.csv", folder, codes=True), "--image-root", folder]
    data = csv_ if kind == "csv" else [of_images(tmp_path / "p.parquet", folder, codes=True)]
    twice = lines(tmp_path / "names", "crane", "crane", "dog")
    result = cli("data", *data, "--class-names", twice, "--format", "json")
    assert result.exit_code == 1 or json.loads(result.stdout)["classes"] == 3


def test_a_blank_line_among_the_names_of_codes(folder: Path, tmp_path: Path) -> None:
    data = of_images(tmp_path / "p.parquet", folder, codes=True)
    assert "empty line" in refused("data", data, "--class-names", lines(tmp_path / "names", "one", "", "two", "zero"))


def test_a_reader_is_quiet(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("datasets")
    data, _ = SOURCES["hfds"](tmp_path, folder)
    assert done("extract", *VIT, "--data", *data, "--quiet").stderr == ""


@pytest.mark.parametrize("arguments", [["data", "{}", ""], ["collapse", ""], ["check", *VIT, "-n", "2", "--data", ""]])
def test_an_empty_name_is_not_taken_for_none(
    arguments: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint = refused(*(argument.format(folder) for argument in arguments))
    assert "empty" in complaint


# What data a source holds


def png(path: Path, size: int = 32, mode: str = "RGB", colour: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (size, size), colour).convert(mode).save(path)
    return path


@pytest.fixture
def spoilt(tmp_path: Path, folder: Path) -> Path:
    """Images that leak, that are broken, and that have no class; names that Rich would take for markup."""
    root = in_splits(tmp_path / "[bold]spoilt[", folder)
    for image in images_of(root / "test"):
        if image.name != "0.png":
            image.unlink()
    shutil.copy(root / "train" / "one" / "1.png", root / "train" / "two" / "[red]copy.png")
    whole = (root / "train" / "one" / "2.png").read_bytes()
    (root / "train" / "one" / "[link=x]cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "train" / "one" / "none.png").write_bytes(b"no image")
    png(root / "stray.png")
    return root


def test_what_is_wrong_with_the_data_is_told(spoilt: Path) -> None:
    result = done("data", spoilt)
    shown = " ".join(result.stdout.split())
    for words in (
        f"data {spoilt} kind folder of class folders images 24,",
        "classes 3",
        "splits test 3, train 21",
        "class sizes 7 (zero) to 9 (one), median 8",
        "image sizes 32×32 each",
        "broken 2",
        "duplicates 6 images across splits, 2 images across classes",
        "left out 1 image beside the class folders left out",
        "train/one/[link=x]cut.png",
        "train/one/none.png no image in a known format",
        "train/one/1.png (one, train) = train/two/[red]copy.png (two, train)",
        "What stands in several splits leaks",
    ):
        assert words in shown
    assert result.stderr == ""


def test_what_is_wrong_with_the_data_as_json(spoilt: Path) -> None:
    found = data_of("data", spoilt)
    assert (found["images"], found["classes"], found["splits"]) == (24, 3, {"test": 3, "train": 21})
    assert [image["id"] for image in found["broken"]] == ["train/one/[link=x]cut.png", "train/one/none.png"]
    assert [found["duplicates"][f"across_{what}"]["contents"] for what in ("splits", "classes")] == [3, 1]
    assert {copy["id"] for copy in found["duplicates"]["across_classes"]["first"][0]} == {
        "train/one/1.png",
        "train/two/[red]copy.png",
    }
    assert found["notes"] == ["1 image beside the class folders left out: they have no class"]
    rows = list(csv.DictReader(io.StringIO(done("data", spoilt, "--format", "csv").stdout)))
    assert [{key: str(value) for key, value in row.items()} for row in found["counts"]] == rows
    assert {(row["class"], row["split"]): row["broken"] for row in rows}["one", "train"] == "2"


def test_markdown_escapes_what_would_be_markup(spoilt: Path) -> None:
    text = done("data", spoilt, "--format", "markdown").stdout
    assert r"\[link=x\]cut.png" in text
    assert r"\[bold\]spoilt\[" in text


def test_fast_does_not_find_the_truncated(spoilt: Path) -> None:
    fast = data_of("data", spoilt, "--fast")
    assert fast["headers_only"] is True
    assert [image["id"] for image in fast["broken"]] == ["train/one/none.png"]
    assert data_of("data", spoilt)["headers_only"] is False
    shown = " ".join(done("data", spoilt, "--fast").stdout.split())
    assert "broken 1 by their headers alone" in shown
    assert "truncated images are not found" in shown


def test_broken_images_end_an_extraction_and_no_report(spoilt: Path) -> None:
    command = ("extract", *VIT, "--data", spoilt, "--format", "json")
    result = cli(*command)
    assert result.exit_code == 1
    error = json.loads(result.stderr[result.stderr.index("{") :])["error"]
    broken = [image["id"] for image in data_of("data", spoilt)["broken"]]
    assert [image["id"] for image in error["broken"]] == broken
    assert "--skip-broken" in error["hint"]
    assert json.loads(result.stdout)["samples"] == 22
    skipped = done(*command, "--skip-broken")
    assert "warning: left out: 'train/one/[link=x]cut.png'" in skipped.stderr


def test_data_of_nothing_but_broken_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
        (tmp_path / "x" / name / "1.png").write_bytes(b"no image")
    found = data_of("data", tmp_path / "x")
    assert (found["images"], len(found["broken"]), found["sizes"], found["modes"]) == (2, 2, None, {})
    assert "0 usable images" in done("data", tmp_path / "x").stdout
    for more in ([], ["--skip-broken"]):
        result = cli("extract", *VIT, "--data", tmp_path / "x", *more)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "error: none of the 2 images could be used" in result.stderr


def test_images_of_every_mode_and_size(tmp_path: Path) -> None:
    for number, (mode, size) in enumerate([("RGB", 20), ("L", 40), ("RGBA", 30), ("P", 20), ("1", 20)]):
        png(tmp_path / "x" / "abc"[number % 3] / f"{number}.png", size, mode, number)
    found = data_of("data", tmp_path / "x")
    assert found["modes"] == dict.fromkeys(["RGB", "L", "RGBA", "P", "1"], 1)
    assert [found["sizes"][which][0] for which in ("smallest", "median", "largest")] == [20, 20, 40]
    assert data_of("extract", *VIT, "--data", tmp_path / "x")["samples"] == 5


def test_control_characters_reach_no_terminal(folder: Path, tmp_path: Path) -> None:
    name = "\x1b[31mred\n"
    shutil.copytree(folder / "one", tmp_path / name / name)
    (tmp_path / name / name / f"{name}.png").write_bytes(b"")
    for result in (
        done("data", tmp_path / name),
        cli("extract", *VIT, "--data", tmp_path / name),
        cli("data", tmp_path / name / "nothing"),
    ):
        assert "\x1b" not in result.stdout + result.stderr
        assert r"\x1b[31mred\n" in result.stdout + result.stderr


# Leakage


@pytest.fixture
def leaking(folder: Path, tmp_path: Path) -> Path:
    """Another data set with two images of the pets in it, under other names and of another kind."""
    other = write_digits(tmp_path / "other" / "x", {"two": 2, "seven": 7}, 3)
    shutil.rmtree(other / "two")
    for number in (1, 4):
        target = other / "[bold]two" / f"leak{number}.png"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(folder / "two" / f"{number}.png", target)
    (other / "zero").mkdir()
    shutil.copy(other / "seven" / "0.png", other / "zero" / "0.png")
    return packed(tmp_path / "other.tar", other)


def test_a_leak_is_found(folder: Path, leaking: Path) -> None:
    found = data_of("data", folder, leaking)["overlap"]
    assert (found["name"], found["other"]) == (str(folder), str(leaking))
    assert (found["images"], found["of"], found["share"]) == (2, 18, 2 / 18)
    assert found["classes"] == ["zero"]
    assert [(row["image"]["id"], row["same_as"]["class"]) for row in found["examples"]] == [
        ("two/1.png", "[bold]two"),
        ("two/4.png", "[bold]two"),
    ]
    shown = " ".join(done("data", folder, leaking).stdout.split())
    assert "images in both 2 of 18 (11.11%), by their content" in shown
    assert "classes in both 1: zero" in shown
    assert "two/4.png (two) pets/[bold]two/leak4.png ([bold]two)" in shown
    assert "2 of 18 (11.11%)" in done("data", folder, leaking, "--format", "markdown").stdout


def test_without_a_second_source_nothing_is_said_of_an_overlap(folder: Path) -> None:
    assert "overlap" not in data_of("data", folder)
    assert "Overlap" not in done("data", folder).stdout


def test_what_is_chosen_is_chosen_of_the_first_alone(folder: Path, leaking: Path, tmp_path: Path) -> None:
    names = lines(tmp_path / "names", "two")
    found = data_of("data", folder, leaking, "--classes", names, "--max-per-class", 6, "--fast")
    assert (found["images"], found["headers_only"]) == (6, True)
    assert (found["overlap"]["images"], found["overlap"]["of"]) == (2, 6)


def test_a_source_overlaps_with_itself(folder: Path, tmp_path: Path) -> None:
    found = data_of("data", packed(tmp_path / "p.tar", folder), folder)["overlap"]
    assert (found["images"], found["share"], found["classes"]) == (18, 1.0, list(CLASSES))


def test_images_that_are_not_there_overlap_with_nothing(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "x" / "one" / "1.png"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no image")
    found = data_of("data", tmp_path / "x", folder)
    assert len(found["broken"]) == 1
    assert (found["overlap"]["of"], found["overlap"]["share"]) == (0, None)


@pytest.mark.parametrize("root", [[], ["--image-root", "nothing"]])
def test_a_manifest_of_images_that_are_elsewhere(root: list[str], folder: Path, tmp_path: Path) -> None:
    complaint = refused("data", manifest(tmp_path / "m.jsonl", folder), *root)
    assert ("is not there" if root else "--image-root") in complaint


def test_a_second_source_that_is_not_there(folder: Path) -> None:
    assert "'nothing' is not there" in refused("data", folder, "nothing")


def test_a_leak_is_in_csv_too(folder: Path, leaking: Path) -> None:
    with_other = done("data", folder, leaking, "--format", "csv").stdout
    assert with_other != done("data", folder, "--format", "csv").stdout


def test_what_could_not_be_compared_is_said(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    png(other / "a" / "1.png")
    (other / "a" / "2.png").write_bytes(b"no image")
    shutil.copy(folder / "one" / "1.png", other / "stray.png")
    result = done("data", folder, other)
    assert "1 image beside the class folders" in result.stdout + result.stderr


# Features made elsewhere


def clouds() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Three classes of eight samples, well apart."""
    labels = np.repeat([0, 1, 2], 8)
    noise = np.random.default_rng(0).normal(size=(24, 5))
    return (noise + 20 * np.eye(5)[labels]).astype("float32"), labels


def npz(path: Path) -> Path:
    features, labels = clouds()
    np.savez(path, features=features, labels=labels, classes=np.array(CLASSES), split=np.array(["a", "b"] * 12))
    return path


def safetensors(path: Path) -> Path:
    features, labels = clouds()
    texts = {"classes": json.dumps(CLASSES), "split": json.dumps(["a", "b"] * 12)}
    save_file({"feature": torch.from_numpy(features), "label": torch.from_numpy(labels)}, path, texts)
    return path


def parquet(path: Path, label: str = "label", feature: str = "feature") -> Path:
    features, labels = clouds()
    names = [CLASSES[code] for code in labels]
    pq.write_table(pa.table({label: names, feature: features.tolist(), "split": ["a", "b"] * 12}), path)
    return path


WRITERS = {"f.npz": npz, "f.safetensors": safetensors, "f.parquet": parquet}
each_file = pytest.mark.parametrize("name", WRITERS)


@each_file
def test_features_of_any_file_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    file = WRITERS[name](tmp_path / name)
    found = data_of("collapse", file)
    own = nct.FeatureSet.from_arrays(clouds()[0], [CLASSES[code] for code in clouds()[1]])
    assert known(found) == pytest.approx(known(nct.collapse(own).to_dict()), rel=1e-6)
    about = found["features"]
    assert (about["id"], about["data"], about["model"]) == (str(file), name, None)
    assert (about["samples"], about["classes"], about["dim"]) == (24, 3, 5)
    assert {pair["class_a"] for pair in found["pairs"]} | {pair["class_b"] for pair in found["pairs"]} == set(CLASSES)
    rows = data_of("fewshot", file, "--ways", 3, "--queries", 4, "--episodes", 20)["results"]
    assert [row["accuracy"] for row in rows] == [1.0, 1.0]
    assert f"{name}: 24 samples, 3 classes, width 5" in done("collapse", file).stdout
    assert data_of("cache", "list")["sets"] == []


@each_file
def test_samples_are_chosen_of_any_file(name: str, tmp_path: Path) -> None:
    file = WRITERS[name](tmp_path / name)
    some = lines(tmp_path / "some", "two", "zero")
    for options, samples, classes in (
        (["--classes", some], 16, 2),
        (["--exclude-classes", lines(tmp_path / "one", "one")], 16, 2),
        (["--max-per-class", 3, "--split", "a"], 9, 3),
        (["--split", "b"], 12, 3),
    ):
        features = data_of("collapse", file, *options)["features"]
        assert (features["samples"], features["classes"]) == (samples, classes)
    assert "there is no split 'c'\nhint: the splits are: 'a', 'b'" in refused("collapse", file, "--split", "c")
    assert "there is no class 'x'" in refused("fewshot", file, "--classes", lines(tmp_path / "x", "x"))


def test_names_of_coded_features(tmp_path: Path) -> None:
    names = lines(tmp_path / "names", "[bold]a", "b", "c")
    for name in ("f.npz", "f.safetensors"):
        pairs = data_of("collapse", WRITERS[name](tmp_path / name), "--class-names", names)["pairs"]
        assert {pair["class_a"] for pair in pairs} | {pair["class_b"] for pair in pairs} == {"[bold]a", "b", "c"}
    assert "[bold]a / b" in done("collapse", tmp_path / "f.npz", "--class-names", names).stdout
    few = refused("collapse", tmp_path / "f.npz", "--class-names", lines(tmp_path / "few", "x"))
    assert "the label 1" in few
    twice = refused("collapse", tmp_path / "f.npz", "--class-names", lines(tmp_path / "twice", "x", "x", "y"))
    assert "'x'" in twice
    assert "each code" in twice
    file = parquet(tmp_path / "f.parquet")
    assert "no whole numbers" in refused("collapse", file, "--class-names", names)


def test_arrays_of_any_name(tmp_path: Path) -> None:
    features, labels = clouds()
    np.savez(tmp_path / "f.npz", good=features, bad=features[::-1], fine=labels, coarse=labels // 2)
    named = ["--feature-column", "good", "--label-column", "fine"]
    assert data_of("collapse", tmp_path / "f.npz", *named)["features"]["layer"] == "good"
    complaint = refused("collapse", tmp_path / "f.npz")
    assert "'good' and 'bad' might each be the matrix of features" in complaint
    assert "--feature-column" in complaint
    wrong = refused("fewshot", tmp_path / "f.npz", "--feature-column", "[bold]x", *named[2:])
    assert "no matrix of features named '[bold]x'" in wrong
    table = parquet(tmp_path / "f.parquet", "y", "x")
    assert "has no column 'label'; it has 'y', 'x', 'split'" in refused("collapse", table)
    assert data_of("collapse", table, "--label-column", "y", "--feature-column", "x")["features"]["samples"] == 24


def test_what_would_run_code_is_refused(tmp_path: Path) -> None:
    features, _ = clouds()
    np.savez(tmp_path / "f.npz", features=features, labels=np.array(["a"] * 24, dtype=object))
    assert "could run any code" in refused("collapse", tmp_path / "f.npz")
    torch.save({"features": torch.zeros(2, 2)}, tmp_path / "f.pt")
    assert "could run any code" in refused("collapse", tmp_path / "f.pt")


def test_files_that_hold_no_features(tmp_path: Path) -> None:
    features, _ = clouds()
    np.save(tmp_path / "f.npy", features)
    assert "is a single array, without labels" in refused("collapse", tmp_path / "f.npy")
    for name in ("x.npz", "x.safetensors", "x.parquet", "x.txt"):
        (tmp_path / name).write_bytes(b"[bold]nothing[/bold]" * 9)
        assert f"{str(tmp_path / name)!r} cannot be read as" in refused("collapse", tmp_path / name)
    features[3] = np.nan
    np.savez(tmp_path / "nan.npz", features=features, labels=np.repeat([0, 1], 12))
    assert "1 of 24 rows hold NaN" in refused("collapse", tmp_path / "nan.npz")


def test_features_and_data_at_once_are_refused(folder: Path, tmp_path: Path) -> None:
    file = npz(tmp_path / "f.npz")
    assert "too\nhint: give one or the other" in refused("collapse", file, "--data", folder)


@pytest.mark.parametrize("option", ["--image-column", "--image-root", "--data-dir"])
def test_an_option_of_no_use_to_features(option: str, tmp_path: Path) -> None:
    assert option in refused("collapse", npz(tmp_path / "f.npz"), option, "x")


@pytest.mark.parametrize("option", ["--label-column", "--class-names", "--image-root"])
def test_an_option_of_no_use_to_a_stored_set(option: str, folder: Path, tmp_path: Path) -> None:
    stored = data_of("extract", *VIT, "--data", folder)["id"]
    assert option in refused("collapse", stored, option, lines(tmp_path / "x", "x"))


# The whole path of a study


def test_a_study_across_classes(folder: Path, tmp_path: Path) -> None:
    novel, others = lines(tmp_path / "novel", "two", "zero"), lines(tmp_path / "others", "zero")
    base = data_of("collapse", *VIT, "--data", folder, "--exclude-classes", others)
    assert (base["features"]["samples"], base["features"]["classes"]) == (12, 2)
    rows = data_of("fewshot", *VIT, "--data", folder, "--classes", novel, *SMALL)
    assert rows["features"]["samples"] == 12
    again = done("fewshot", *SMALL)
    assert "2 chosen classes" in again.stderr
    assert "pets: 12 samples, 2 classes" in again.stdout
    third = done("collapse", "--exclude-classes", others, "--format", "json")
    assert {json.loads(third.stdout)["pairs"][0][side] for side in ("class_a", "class_b")} == {"one", "two"}
