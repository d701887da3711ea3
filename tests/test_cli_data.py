"""The command line and its data: every kind of source, choosing from it, inspecting it, features made elsewhere."""

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
from pictures import DETAILED, photographs
from terminal import (
    SMALL,
    VIT,
    cli,
    data_of,
    done,
    error_of,
    known,
    misused,
    noted,
    notes_of,
    refusal,
    shows,
    shows_line,
    warned,
    warnings_of,
)

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


Source = tuple[list[object], str]  # the arguments after --data, and a word that its kind is called by

SOURCES: dict[str, Callable[[Path, Path], Source]] = {
    "folder": lambda _, pets: ([pets], "folder"),
    "splits": lambda tmp, pets: ([in_splits(tmp / "s", pets), "--split", "test"], "folder"),
    "tar": lambda tmp, pets: ([packed(tmp / "p.tar", pets)], "tar"),
    "tar.gz": lambda tmp, pets: ([packed(tmp / "p.tar.gz", pets)], "tar"),
    "zip": lambda tmp, pets: ([packed(tmp / "p.zip", pets)], "zip"),
    "csv": lambda tmp, pets: ([manifest(tmp / "p.csv", pets), "--image-root", pets], "manifest"),
    "tsv": lambda tmp, pets: ([manifest(tmp / "p.tsv", pets), "--image-root", pets], "manifest"),
    "jsonl": lambda tmp, pets: ([manifest(tmp / "p.jsonl", pets), "--image-root", pets], "manifest"),
    "parquet": lambda tmp, pets: ([of_images(tmp / "p.parquet", pets)], "Parquet"),
    "folder of parquet": lambda tmp, pets: ([of_images(tmp / "d" / "p.parquet", pets).parent], "Parquet"),
    "pattern": lambda tmp, pets: ([of_images(tmp / "p-0.parquet", pets).with_name("p-*.parquet")], "Parquet"),
    "torch": lambda tmp, pets: (
        ["torch/image_folder", "--data-dir", in_splits(tmp / "s", pets), "--split", "test"],
        "torch/image_folder",
    ),
    "hfds": lambda tmp, pets: ([f"hfds/{in_splits(tmp / 's', pets)}", "--split", "test"], f"hfds/{tmp / 's'}"),
    "wds": lambda tmp, pets: (
        [f"wds/{shards(tmp / 's', pets)}", "--split", "pets-0.tar", "--class-names", lines(tmp / "names", *CLASSES)],
        f"wds/{tmp / 's'}",
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
    notes = [line.replace(str(data[0]), "", 1) for line in notes_of(first) if str(data[0]) in line]
    assert any(shows(note, kind) for note in notes)
    report = json.loads(first.stdout)
    assert (report["samples"], report["extracted"], report["failed"]) == (18, 18, [])
    classes = lines(Path(str(report["path"])).parent / "wanted.txt", *CLASSES)  # an error, if the names are others
    found = data_of("collapse", report["id"], "--classes", classes, "--partial")  # of one split, if there are several
    assert (found["features"]["samples"], found["features"]["classes"]) == (18, 3)
    assert data_of("extract", *VIT, "--data", *data, "--offline")["reused"] == 18


@pytest.mark.filterwarnings(OPENED_WITHOUT_WITH)
def test_each_kind_of_data_is_looked_into(source: Source) -> None:
    data, kind = source
    result = done("data", *data, "--offline", "--format", "json")
    found = json.loads(result.stdout)
    assert found["name"] == str(data[0])
    assert shows(found["kind"], kind)
    assert {row["class"]: row["images"] for row in found["counts"]} == dict.fromkeys(CLASSES, EACH)
    assert found["broken"] == []
    assert found["sizes"]["median"] == [32, 32]


def test_the_digits_are_built_in() -> None:
    assert shows(done("data", "digits", "--fast").stdout, "digits", 1797)
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
    ("option", "names", "values"),
    [
        ("--classes", ["zero", "seven"], ["seven"]),
        ("--classes", ["[bold]six", "seven"], ["[bold]six", 1]),  # and one more
        ("--exclude-classes", ["Zero"], ["Zero"]),
    ],
)
def test_a_class_that_is_not_there(
    option: str, names: list[str], values: list[object], folder: Path, tmp_path: Path
) -> None:
    for command in (("data", folder), ("extract", *VIT, "--data", folder)):
        error = refusal(*command, option, lines(tmp_path / "names", *names))
        error.expect("FeaturesError", *values, hint=CLASSES)


def test_a_split_that_is_not_there(folder: Path) -> None:
    refusal("data", folder, "--split", "train").expect("FeaturesError", "train")


@pytest.mark.parametrize(("option", "value"), [("--max-per-class", 0), ("--max-per-class", "x"), ("--workers", 0)])
def test_numbers_that_nobody_can_mean(option: str, value: object, folder: Path) -> None:
    assert shows(misused("data", folder, option, value), option)


# How it is read


def test_columns_of_any_name(folder: Path, tmp_path: Path) -> None:
    names = ("[bold]file", "kind")
    tables = [
        [manifest(tmp_path / "m.csv", folder, names), "--image-root", folder],
        [of_images(tmp_path / "p.parquet", folder, names)],
    ]
    for table in tables:
        assert counted(*table, "--image-column", names[0], "--label-column", names[1]) == dict.fromkeys(CLASSES, 6)
        error = refusal("data", *table, "--image-column", names[0])
        error.expect("DataError", table[0], hint="--label-column", tells=names)
        error = refusal("data", *table, "--image-column", "[red]", "--label-column", "kind")
        error.expect("DataError", "[red]", tells=names)


def test_names_of_codes(folder: Path, tmp_path: Path) -> None:
    names = lines(tmp_path / "names", *CLASSES)
    for table in (
        [manifest(tmp_path / "m.csv", folder, codes=True), "--image-root", folder],
        [of_images(tmp_path / "p.parquet", folder, codes=True)],
    ):
        assert counted(*table) == {"0": 6, "1": 6, "2": 6}
        assert counted(*table, "--class-names", names) == dict.fromkeys(CLASSES, 6)
        error = refusal("data", *table, "--class-names", lines(tmp_path / "few", "one"))
        error.expect("DataError", 1)  # the code that has no name


def test_names_where_there_are_no_codes(folder: Path, tmp_path: Path) -> None:
    names = lines(tmp_path / "names", *CLASSES)
    table = manifest(tmp_path / "m.csv", folder)
    error = refusal("data", table, "--image-root", folder, "--class-names", names)
    error.expect("DataError", "one")
    parquet = of_images(tmp_path / "p.parquet", folder)
    refusal("data", parquet, "--class-names", names).expect("DataError", parquet, hint="--class-names")


@pytest.mark.parametrize("command", ["data", "extract", "collapse", "fewshot", "check"])
def test_a_path_that_leaves_its_folder_is_refused(command: str, folder: Path, tmp_path: Path) -> None:
    table = lines(tmp_path / "m.csv", "path,label", f"{images_of(folder)[0]},one")
    data = [table] if command == "data" else [*VIT, "--data", table]
    refusal(command, *data).expect("DataError", images_of(folder)[0], hint="--image-root")


READING = ["--label-column", "--image-column", "--image-root", "--class-names", "--data-dir"]


@pytest.mark.parametrize(
    ("command", "kind", "options"),
    [
        *((command, "folder", READING) for command in ("data", "extract", "collapse", "fewshot", "check")),
        ("data", "tar", ["--label-column", "--image-root"]),
        ("data", "csv", ["--data-dir"]),
        ("data", "parquet", ["--image-root", "--data-dir"]),
        ("data", "digits", ["--label-column", "--data-dir"]),
    ],
)
def test_an_option_of_no_use_is_no_option(
    command: str, kind: str, options: list[str], folder: Path, tmp_path: Path
) -> None:
    data, said = (["digits"], "digits") if kind == "digits" else SOURCES[kind](tmp_path, folder)
    names = lines(tmp_path / "x", "x")
    for option in options:
        error = refusal(command, *(data if command == "data" else [*VIT, "--data", *data]), option, names)
        error.expect("DataError", data[0], said, option, hint=option)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nothing[/bold]", "digits"),
        ("", ()),
        ("s3://bucket/pets", ()),
        ("-", ()),
        ("null\0character", ()),
        ("*.parquet", ()),
        ("tfds/pets", "tensorflow-datasets"),  # the package to install
        ("torch/mnist", "--data-dir"),
        ("wds/pets", ()),
        ("/dev/null", ()),
    ],
)
def test_data_that_are_not_there(name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("tfds"):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    refusal("data", name, "--offline").expect("DataError", name, hint=hint)


@pytest.mark.parametrize(("name", "content"), [("x.txt", bytes(100)), ("x.zip", bytes(100)), ("x.parquet", b"PAR1")])
def test_files_that_are_no_data(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    refusal("data", tmp_path / name).expect("DataError", tmp_path / name)


@pytest.mark.parametrize("option", ["--classes", "--exclude-classes", "--class-names"])
def test_a_file_of_names_that_is_not_there(option: str, folder: Path, tmp_path: Path) -> None:
    error = refusal("data", folder, option, tmp_path / "nothing").expect("DataError", tmp_path / "nothing")
    assert "Errno" not in error.message


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_that_stands_for_two_codes(kind: str, folder: Path, tmp_path: Path) -> None:
    csv_ = [manifest(tmp_path / "m.csv", folder, codes=True), "--image-root", folder]
    data = csv_ if kind == "csv" else [of_images(tmp_path / "p.parquet", folder, codes=True)]
    twice = lines(tmp_path / "names", "crane", "crane", "dog")
    refusal("data", *data, "--class-names", twice).expect("DataError", twice, "crane")


def test_a_blank_line_among_the_names_of_codes(folder: Path, tmp_path: Path) -> None:
    data = of_images(tmp_path / "p.parquet", folder, codes=True)
    names = lines(tmp_path / "names", "one", "", "two", "zero")
    refusal("data", data, "--class-names", names).expect("DataError", names)


def test_a_reader_is_quiet(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("datasets")
    data, _ = SOURCES["hfds"](tmp_path, folder)
    assert done("extract", *VIT, "--data", *data, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("DataError", ["data", "{}", ""]),
        ("FeaturesError", ["collapse", ""]),
        ("DataError", ["check", *VIT, "-n", "2", "--data", ""]),
    ],
)
def test_an_empty_name_is_not_taken_for_none(
    kind: str, arguments: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(*(argument.format(folder) for argument in arguments)).expect(kind, "")


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
    assert (warnings_of(result), result.stderr) == ([], "")
    for values in (
        (spoilt,),
        ("images", 24),
        ("classes", 3),
        ("test", 3, "train", 21),
        (7, "zero", 9, "one", 8),  # the sizes of classes: smallest, largest and median
        ("32×32",),
        ("broken", 2),
        ("duplicates", 6, 2),  # across splits, across classes
        (*data_of("data", spoilt)["notes"],),
        ("train/one/[link=x]cut.png",),
        ("train/one/none.png",),
        ("train/one/1.png", "one", "train", "train/two/[red]copy.png", "two"),
    ):
        assert shows_line(result.stdout, *values), values


def test_what_is_wrong_with_the_data_as_json(spoilt: Path) -> None:
    found = data_of("data", spoilt)
    assert (found["images"], found["classes"], found["splits"]) == (24, 3, {"test": 3, "train": 21})
    assert [image["id"] for image in found["broken"]] == ["train/one/[link=x]cut.png", "train/one/none.png"]
    assert [found["duplicates"][f"across_{what}"]["contents"] for what in ("splits", "classes")] == [3, 1]
    assert {copy["id"] for copy in found["duplicates"]["across_classes"]["first"][0]} == {
        "train/one/1.png",
        "train/two/[red]copy.png",
    }
    [note] = found["notes"]
    assert shows(note, 1)  # the stray image
    rows = list(csv.DictReader(io.StringIO(done("data", spoilt, "--format", "csv").stdout)))
    alike = [row.pop("look_alikes") for row in rows]
    assert [{key: str(value) for key, value in row.items()} for row in found["counts"]] == rows
    assert sum(map(int, alike)) == len({image["id"] for image in images_in(found["look_alikes"]["pairs"])})
    assert {(row["class"], row["split"]): row["broken"] for row in rows}["one", "train"] == "2"


def images_in(pairs: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [pair[side] for pair in pairs for side in ("image", "looks_like")]


def test_markdown_escapes_what_would_be_markup(spoilt: Path) -> None:
    text = done("data", spoilt, "--format", "markdown").stdout
    assert r"\[link=x\]cut.png" in text
    assert r"\[bold\]spoilt\[" in text


def test_fast_does_not_find_the_truncated(spoilt: Path) -> None:
    fast = data_of("data", spoilt, "--fast")
    assert fast["headers_only"] is True
    assert [image["id"] for image in fast["broken"]] == ["train/one/none.png"]
    assert data_of("data", spoilt)["headers_only"] is False
    fast, full = (
        next(line for line in done("data", spoilt, *more).stdout.splitlines() if line.startswith("broken"))
        for more in (["--fast"], [])
    )
    assert (shows(fast, 1), shows(full, 2)) == (True, True)
    assert len(fast.split()) > len(full.split()), "it is said that only headers were read"


def test_broken_images_end_an_extraction_and_no_report(spoilt: Path) -> None:
    command = ("extract", *VIT, "--data", spoilt, "--format", "json")
    result = cli(*command)
    assert result.exit_code == 1
    error = error_of(result.stderr).expect("BrokenImagesError", 2, 22, hint="--skip-broken")
    broken = [image["id"] for image in data_of("data", spoilt)["broken"]]
    assert [image["id"] for image in error.content["broken"]] == broken
    assert json.loads(result.stdout)["samples"] == 22
    skipped = done(*command, "--skip-broken")
    assert all(warned(skipped, name) for name in broken)


def test_data_of_nothing_but_broken_images(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
        (tmp_path / "x" / name / "1.png").write_bytes(b"no image")
    found = data_of("data", tmp_path / "x")
    assert (found["images"], len(found["broken"]), found["sizes"], found["modes"]) == (2, 2, None, {})
    assert shows(done("data", tmp_path / "x").stdout, 2, 0)
    for more in ([], ["--skip-broken"]):
        refusal("extract", *VIT, "--data", tmp_path / "x", *more).expect("DataError", 2, "a/1.png", hint=None)


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


# Look-alikes


@pytest.fixture
def resaved(tmp_path: Path) -> Path:
    """Two splits of photographs: two of test are saved again from train, one of them under another class."""
    chosen = [photographs()[i] for i in DETAILED[:6]]
    for number, image in enumerate(chosen):
        path = tmp_path / "s" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    for name, image in (
        ("a/0.jpg", chosen[0]),
        ("a/[red]1.webp", chosen[1]),
        ("b/new.png", photographs()[DETAILED[6]]),
    ):
        path = tmp_path / "s" / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return tmp_path / "s"


def test_look_alikes_are_told(resaved: Path) -> None:
    found = data_of("data", resaved)["look_alikes"]
    assert (found["across_splits"], found["across_classes"], found["across_sources"]) == (4, 2, 0)
    assert [pair["across"] for pair in found["pairs"]] == [["split", "class"], ["split"]]
    assert [(pair["image"]["id"], pair["looks_like"]["id"]) for pair in found["pairs"]] == [
        ("test/a/[red]1.webp", "train/b/1.png"),
        ("test/a/0.jpg", "train/a/0.png"),
    ]
    assert {image["source"] for image in images_in(found["pairs"])} == {str(resaved)}
    shown = done("data", resaved).stdout
    assert shows_line(shown, "test/a/[red]1.webp", "train/b/1.png")
    assert shows(shown.partition("Look-alikes")[2], 2, "test", "train")


def test_look_alikes_of_another_source_are_told(resaved: Path) -> None:
    found = data_of("data", resaved / "test", resaved / "train")["look_alikes"]
    assert (found["images"], found["other_images"], found["across_sources"]) == (3, 6, 2)
    assert [pair["looks_like"]["source"] for pair in found["pairs"]] == [str(resaved / "train")] * 2
    shown = done("data", resaved / "test", resaved / "train").stdout
    assert shows(shown.partition("Look-alikes")[2], 2, resaved / "train")


@pytest.mark.parametrize("options", [["--no-look-alikes"], ["--fast"]])
def test_look_alikes_are_not_looked_for(options: list[str], resaved: Path) -> None:
    result = done("data", resaved, resaved, *options, "--format", "json")
    assert "look_alikes" not in json.loads(result.stdout)
    assert "Look-alikes" not in done("data", resaved, *options).stdout


def test_headers_have_no_look_alikes(resaved: Path) -> None:
    refusal("data", resaved, "--fast", "--look-alikes").expect("DataError", hint=("--fast", "--no-look-alikes"))


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
    shown = done("data", folder, leaking).stdout
    for values in ((2, 18, "11.11"), (1, "zero"), ("two/4.png", "two", "pets/[bold]two/leak4.png", "[bold]two")):
        assert shows_line(shown, *values), values
    assert shows(done("data", folder, leaking, "--format", "markdown").stdout, 2, 18, "11.11")


def test_without_a_second_source_nothing_is_said_of_an_overlap(folder: Path) -> None:
    assert "overlap" not in data_of("data", folder)
    assert "overlap" not in done("data", folder).stdout.lower()


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
    error = refusal("data", manifest(tmp_path / "m.jsonl", folder), *root)
    error.expect("DataError", *root[1:], tells=() if root else "--image-root")


def test_a_second_source_that_is_not_there(folder: Path) -> None:
    refusal("data", folder, "nothing").expect("DataError", "nothing")


def test_a_leak_is_in_csv_too(folder: Path, leaking: Path) -> None:
    with_other = done("data", folder, leaking, "--format", "csv").stdout
    assert with_other != done("data", folder, "--format", "csv").stdout


def test_what_could_not_be_compared_is_said(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    png(other / "a" / "1.png")
    (other / "a" / "2.png").write_bytes(b"no image")
    shutil.copy(folder / "one" / "1.png", other / "stray.png")
    result = done("data", folder, other)
    found = warnings_of(result)
    assert len(found) == 2, "the stray image, and the broken one"
    assert all(shows(warning, other, 1) for warning in found)


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
    assert shows_line(done("collapse", file).stdout, name, 24, 3, 5)
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
    refusal("collapse", file, "--split", "c").expect("FeaturesError", "c", hint=("a", "b"))
    refusal("fewshot", file, "--classes", lines(tmp_path / "x", "x")).expect("FeaturesError", "x", hint=CLASSES)


def test_names_of_coded_features(tmp_path: Path) -> None:
    names = lines(tmp_path / "names", "[bold]a", "b", "c")
    for name in ("f.npz", "f.safetensors"):
        pairs = data_of("collapse", WRITERS[name](tmp_path / name), "--class-names", names)["pairs"]
        assert {pair["class_a"] for pair in pairs} | {pair["class_b"] for pair in pairs} == {"[bold]a", "b", "c"}
    assert "[bold]a / b" in done("collapse", tmp_path / "f.npz", "--class-names", names).stdout
    few, twice = lines(tmp_path / "few", "x"), lines(tmp_path / "twice", "x", "x", "y")
    refusal("collapse", tmp_path / "f.npz", "--class-names", few).expect("FeaturesError", 1)  # the code without a name
    refusal("collapse", tmp_path / "f.npz", "--class-names", twice).expect("DataError", twice, "x")
    file = parquet(tmp_path / "f.parquet")
    refusal("collapse", file, "--class-names", names).expect("FeaturesError", "label")


def test_arrays_of_any_name(tmp_path: Path) -> None:
    features, labels = clouds()
    np.savez(tmp_path / "f.npz", good=features, bad=features[::-1], fine=labels, coarse=labels // 2)
    named = ["--feature-column", "good", "--label-column", "fine"]
    assert data_of("collapse", tmp_path / "f.npz", *named)["features"]["layer"] == "good"
    refusal("collapse", tmp_path / "f.npz").expect("FeaturesError", "good", "bad", hint="--feature-column")
    error = refusal("fewshot", tmp_path / "f.npz", "--feature-column", "[bold]x", *named[2:])
    error.expect("FeaturesError", "[bold]x")
    table = parquet(tmp_path / "f.parquet", "y", "x")
    refusal("collapse", table).expect("FeaturesError", "label", tells=("y", "x", "split"))
    assert data_of("collapse", table, "--label-column", "y", "--feature-column", "x")["features"]["samples"] == 24


@pytest.mark.parametrize(("name", "value"), [("f.npz", "labels"), ("f.pt", "f.pt")])
def test_what_would_run_code_is_refused(name: str, value: str, tmp_path: Path) -> None:
    features, _ = clouds()
    np.savez(tmp_path / "f.npz", features=features, labels=np.array(["a"] * 24, dtype=object))
    torch.save({"features": torch.zeros(2, 2)}, tmp_path / "f.pt")
    refusal("collapse", tmp_path / name).expect("FeaturesError", value)


@pytest.mark.parametrize("name", ["f.npy", "x.npz", "x.safetensors", "x.parquet", "x.txt"])
def test_files_that_hold_no_features(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", clouds()[0])
    if name.startswith("x"):
        (tmp_path / name).write_bytes(b"[bold]nothing[/bold]" * 9)
    refusal("collapse", tmp_path / name).expect("FeaturesError", tmp_path / name)


@pytest.mark.parametrize("form", ["folder", "csv", "tar", "zip"])
def test_images_that_are_named_as_features(form: str, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "pets", {"zero": 0, "one": 1}, 2)
    given = folder if form == "folder" else tmp_path / f"pets.{form}"
    if form == "csv":
        given.write_text("path,label\npets/zero/0.png,zero\n")
    elif form != "folder":
        shutil.make_archive(str(folder), form, folder)
    for command in (("fewshot",), ("fewshot", "--layers", "all"), ("collapse",)):
        refusal(*command, given).expect("FeaturesError", given, hint=f"--data {given}")


def test_a_zip_archive_of_arrays_holds_features(tmp_path: Path) -> None:
    made = npz(tmp_path / "f.npz").rename(tmp_path / "f.zip")
    assert data_of("collapse", made)["features"]["samples"] == 24


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    features, _ = clouds()
    features[3] = np.nan
    np.savez(tmp_path / "nan.npz", features=features, labels=np.repeat([0, 1], 12))
    refusal("collapse", tmp_path / "nan.npz").expect("FeaturesError", "NaN", 1, 24)


def test_features_and_data_at_once_are_refused(folder: Path, tmp_path: Path) -> None:
    file = npz(tmp_path / "f.npz")
    refusal("collapse", file, "--data", folder).expect("FeaturesError", file, "--data")


@pytest.mark.parametrize("option", ["--image-column", "--image-root", "--data-dir"])
def test_an_option_of_no_use_to_features(option: str, tmp_path: Path) -> None:
    refusal("collapse", npz(tmp_path / "f.npz"), option, "x").expect("FeaturesError", "f.npz", option, hint=option)


@pytest.mark.parametrize("option", ["--class-names", "--image-root", "--label-depth"])
def test_an_option_of_no_use_to_a_stored_set(option: str, folder: Path, tmp_path: Path) -> None:
    stored = data_of("extract", *VIT, "--data", folder)["id"]
    error = refusal("collapse", stored, option, lines(tmp_path / "x", "x"))
    error.expect("FeaturesError", stored, option, hint=option)


# The whole path of a study


def test_a_study_across_classes(folder: Path, tmp_path: Path) -> None:
    novel, others = lines(tmp_path / "novel", "two", "zero"), lines(tmp_path / "others", "zero")
    base = data_of("collapse", *VIT, "--data", folder, "--exclude-classes", others)
    assert (base["features"]["samples"], base["features"]["classes"]) == (12, 2)
    rows = data_of("fewshot", *VIT, "--data", folder, "--classes", novel, *SMALL)
    assert rows["features"]["samples"] == 12
    again = done("fewshot", *SMALL)
    assert noted(again, 2)  # classes are chosen
    assert shows_line(again.stdout, "pets", 12, 2)
    third = done("collapse", "--exclude-classes", others, "--format", "json")
    assert {json.loads(third.stdout)["pairs"][0][side] for side in ("class_a", "class_b")} == {"one", "two"}
