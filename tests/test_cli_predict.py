"""``nctransfer predict``: every kind of images, files and streams of rows, going on, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

import nctransfer as nct
from conftest import write_digits
from heads_by_hand import by_hand
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.request import BackboneRequest
from nctransfer.cli.terminal import Terminal
from nctransfer.heads.prediction import COLUMNS
from terminal import cli, command_line, data_of, done, misused, noted, refusal, shows, tables, warned

CLASSES = {"zero": 0, "one": 1, "two": 2}
MODEL = {"model": "test_resnet", "img_size": 64, "random_init": True, "device": "cpu"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head, and new images in a folder."""
    root = tmp_path_factory.mktemp("there")
    head = by_hand(nct.extract(data=write_digits(root / "pets", CLASSES, 6), cache_dir=root / "cache", **MODEL))
    head.save(root / "pets.head")
    write_digits(root / "new", {**CLASSES, "seven": 7}, 9)
    (root / "new" / "flat.png").write_bytes((root / "new" / "one" / "8.png").read_bytes())
    (root / "new" / "broken.png").write_bytes(b"no image")
    return root


@pytest.fixture(autouse=True)
def here(there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own, with the head beside them."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "pets.head").write_bytes((there / "pets.head").read_bytes())
    (folder / "new").symlink_to(there / "new")
    return folder


def predict(*words: object, images: object = "new") -> tuple[object, ...]:
    return "predict", "pets.head", images, "--device", "cpu", *words


def rows_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# What is printed


def test_a_table_shows_the_first_rows_and_the_numbers() -> None:
    result = done(*predict(), COLUMNS="120")
    first, *mistakes, classes = tables(result.stdout)
    assert len(mistakes) == bool(data_of(*predict())["summary"]["mistakes"])
    assert len(first) == 21
    assert first[1][0] == "broken.png"
    assert shows(result.stdout, 38, "18 more images", "1 broken")
    assert {row[0] for row in classes[1:]} <= {*CLASSES}
    assert noted(result, "new", 38)
    assert sum(int(row[1]) for row in classes[1:]) == data_of(*predict())["summary"]["answered"]


def test_labels_give_an_accuracy_beside_the_promise(there: Path) -> None:
    summary = data_of(*predict())["summary"]
    head = nct.load_head("pets.head")
    new = [row for row in head.predict(there / "new", device="cpu") if row.id[:-5] in {f"{name}/" for name in CLASSES}]
    right = [row.label == row.id[:-6] for row in new if row.id[-5] in "678"]
    assert summary["fitted"] == 18
    assert summary["accuracy"]["images"] == len(right) == 9
    assert summary["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
    assert summary["promised"]["value"] == pytest.approx(head.promise.accuracy)
    low, high = summary["above_promise"]["interval"]
    assert low < summary["above_promise"]["value"] < high
    said = done(*predict()).stdout
    assert shows(said, f"{100 * sum(right) / len(right):.2f}%", f"{100 * head.promise.accuracy:.2f}%")


def test_folders_that_name_no_class_are_no_labels(here: Path, there: Path) -> None:
    shutil.copytree(there / "new" / "one", here / "photos" / "2024" / "06")
    summary = data_of(*predict(images="photos"))["summary"]
    assert (summary["images"], summary["accuracy"]["images"], summary["fitted"]) == (9, 0, 0)


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_rows_are_printed_as_they_are_made(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    call = Backbone.__call__
    monkeypatch.setattr(Backbone, "__call__", lambda self, pixels: ran.append(len(pixels)) or call(self, pixels))
    seen: list[int] = []
    written: list[str] = []
    monkeypatch.setattr(Terminal, "write", lambda self, text: (seen.append(sum(ran)), written.append(text)))
    result = done(*predict("--format", form, "--batch-size", "4"))
    assert sum(0 < images <= 12 for images in seen) >= 4  # rows came while few images had run
    shown = "".join(written)
    if form == "csv":
        head, *lines = csv.reader(io.StringIO(shown, newline=""))
        assert (tuple(head), len(lines)) == (COLUMNS, 38)
    else:
        rows = json.loads(shown)["predictions"] if form == "json" else rows_in(shown)
        assert [tuple(row) for row in rows] == [COLUMNS] * 38
        assert rows[0] == {**dict.fromkeys(COLUMNS), "id": "broken.png", "abstained": True, "reason": rows[0]["reason"]}
    assert noted(result, 38, "1 broken")
    assert warned(result, 1)


def test_other_formats_print_the_table() -> None:
    assert "| image | class |" in done(*predict("--format", "markdown")).stdout


def test_no_images_were_read_is_not_an_error_of_the_command(here: Path) -> None:
    (here / "list.txt").write_text("absent.png\n")
    (here / "only").mkdir()
    (here / "only" / "1.png").write_bytes(b"x")
    result = done(*predict("--format", "jsonl", images="only"))
    assert rows_in(result.stdout)[0]["reason"].startswith("broken: ")


# Kinds of images


def test_every_kind_of_source_gives_the_same_rows(here: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = there / "new" / "two"
    names = sorted(path.name for path in folder.iterdir())
    paths = [f"new/two/{name}" for name in names]
    (here / "list.csv").write_text("".join(f"{line}\n" for line in ["file", *paths]))
    parquet.write_table(pa.table({"image": [(folder / name).read_bytes() for name in names]}), here / "x.parquet")
    shutil.make_archive(str(here / "packed"), "zip", folder)
    found = {}
    for images in ("new/two", "list.csv", "x.parquet", "packed.zip", "-"):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO("\n".join(paths).encode())))
        typed = "\n".join(paths) if images == "-" else None
        result = cli(*predict("--format", "jsonl", images=images), answer=typed)
        assert result.exit_code == 0, result.stderr
        found[images] = {row["id"]: row for row in rows_in(result.stdout)}
        assert len(found[images]) == 9
    assert list(found["-"]) == paths
    assert {Path(name).name: row["class"] for name, row in found["-"].items()} == {
        name: row["class"] for name, row in found["new/two"].items()
    }
    for images in ("list.csv", "packed.zip"):
        assert {Path(name).name: row["class"] for name, row in found[images].items()} == {
            name: row["class"] for name, row in found["new/two"].items()
        }
    assert [row["class"] for row in found["x.parquet"].values()] == [row["class"] for row in found["-"].values()]


def test_no_limit_answers_every_image_that_can_be_read() -> None:
    for limit in ("none", "0"):
        rows = rows_in(done(*predict("--format", "jsonl", "--max-lost", limit, "--max-error", "none")).stdout)
        assert [row["id"] for row in rows if row["abstained"]] == ["broken.png"]
    rows = rows_in(done(*predict("--format", "jsonl", "--max-lost", "90%")).stdout)
    assert sum(row["reason"] == "unlike every class" for row in rows) > 5


def test_one_image_and_one_split(here: Path, there: Path) -> None:
    (row,) = rows_in(done(*predict("--format", "jsonl", images="new/one/0.png")).stdout)
    assert row["id"] == "new/one/0.png"
    for split in ("train", "test"):
        shutil.copytree(there / "new" / "one", here / "both" / split)
    rows = rows_in(done(*predict("--format", "jsonl", "--split", "test", images="both")).stdout)
    assert [row["id"][:5] for row in rows] == ["test/"] * 9
    refusal(*predict("--split", "tst", images="both")).expect("FeaturesError", "tst", hint="test")


# Files


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_holds_every_row(here: Path, suffix: str) -> None:
    output = here / f"labels.{suffix}"
    result = done(*predict("-o", output))
    assert shows(result.stdout, 38, "1 broken")
    assert noted(result, 38, output)
    rows = rows_in(done(*predict("--format", "jsonl")).stdout)
    uncertain = sorted((row for row in rows if not row["abstained"]), key=lambda row: row["probability"])[:5]
    assert shows(result.stdout, "broken.png", rows[0]["reason"], *(row["id"] for row in uncertain))
    if suffix == "csv":
        found = [row["id"] for row in csv.DictReader(io.StringIO(output.read_text(), newline=""))]
    else:
        table = parquet.read_table(output).to_pylist() if suffix == "parquet" else rows_in(output.read_text())
        found = [row["id"] for row in table]
    assert found == [row["id"] for row in rows]
    assert not list(here.glob("*.partial"))


def interrupted(after: int, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    """The command, interrupted once some images have run."""
    ran: list[int] = []
    call = Backbone.__call__

    def run(self: Backbone, pixels: Any) -> Any:
        if len(pixels) > 0 and sum(ran) >= after:
            raise KeyboardInterrupt
        ran.append(len(pixels))
        return call(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(Backbone, "__call__", run)
        return cli(*predict("--batch-size", "4", *words))


def test_an_interrupted_run_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[[], int]) -> None:
    done(*predict("--batch-size", "4", "-o", "whole.csv"))
    total = ran()
    result = interrupted(16, monkeypatch, "-o", "labels.csv")
    assert result.exit_code == 130
    assert shows(result.stderr, "--resume")
    kept = (here / "labels.csv.partial").read_text().splitlines()
    assert 8 <= len(kept) - 1 < total
    refusal(*predict("-o", "labels.csv")).expect(
        "NCTransferError", "labels.csv.partial", hint=("--resume", "--overwrite")
    )
    refusal(*predict("-o", "labels.csv", "--resume", "--max-lost", "50%")).expect(
        "NCTransferError", "labels.csv.partial", "--max-lost 5%", "50%", hint="--overwrite"
    )
    before = (here / "labels.csv.partial").read_bytes()
    for images in ("new/one", "-"):
        refused = cli(*predict("-o", "labels.csv", "--resume", images=images), answer="new/one/0.png\n")
        assert refused.exit_code == 1
        assert shows(refused.stderr, "labels.csv.partial", "'new'", "--overwrite")
    assert (here / "labels.csv.partial").read_bytes() == before
    other = replace(nct.load_head("pets.head"), counts=(6, 7, 5))
    other.save("other.head")
    refusal("predict", "other.head", "new", "-o", "labels.csv", "--resume").expect("NCTransferError", "head")
    ran()
    result = done(*predict("--batch-size", "4", "-o", "labels.csv", "--resume", images=here / "new"))
    again = sum(json.loads(line)["class"] is not None for line in kept[1:])
    assert ran() == total - again
    assert noted(result, again, "of 38")
    read = [list(csv.reader((here / name).read_text().splitlines())) for name in ("whole.csv", "labels.csv")]
    assert [row[:2] for row in read[0]] == [row[:2] for row in read[1]]
    assert [float(row[2] or 0) for row in read[0][1:]] == pytest.approx(
        [float(row[2] or 0) for row in read[1][1:]], rel=1e-4
    )


def test_an_interrupted_table_keeps_nothing(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    result = interrupted(8, monkeypatch)
    assert result.exit_code == 130
    assert "--resume" not in result.stderr
    assert not list(here.glob("*.partial"))


@pytest.mark.slow
def test_a_killed_run_goes_on(here: Path) -> None:
    """SIGKILL at three moments."""
    pixels = np.random.default_rng(0).integers(0, 256, (500, 8, 8), dtype=np.uint8)
    (here / "many").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(here / "many" / f"{number:03d}.png")
    words = predict("--batch-size", "1", "--workers", "1", "-o", "labels.csv", images="many")
    output, journal = here / "labels.csv", here / "labels.csv.partial"
    kept = 0
    for number in range(3):
        command = command_line(*words, *(["--resume"] if number else []), halts_after=150)
        process = subprocess.Popen(command, cwd=here, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > kept + 40 + 37 * number:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait(timeout=300) == -signal.SIGKILL
        assert not output.exists()
        lines = journal.read_bytes().count(b"\n")
        assert lines > kept
        kept = lines
    subprocess.run(command_line(*words, "--resume"), cwd=here, check=True, capture_output=True)
    rows = list(csv.DictReader(io.StringIO(output.read_text(), newline="")))
    assert [row["id"] for row in rows] == [f"{number:03d}.png" for number in range(500)]
    whole = nct.load_head("pets.head").predict("many", device="cpu")
    assert [row["class"] for row in rows] == [row.label for row in whole]
    assert not journal.exists()


# What is refused


def test_wrong_usage_is_refused() -> None:
    assert shows(misused("predict", "pets.head"), "IMAGES")
    assert shows(misused(*predict("--resume")), "--resume", "--output")
    assert shows(misused(*predict("--overwrite")), "--overwrite", "--output")
    assert shows(misused(*predict("--max-error", "x")), "--max-error", "'x'")
    assert shows(misused(*predict("--max-lost", "-3%")), "--max-lost", "-3%")
    refusal(*predict("-o", "labels.txt")).expect("SettingError", "labels.txt", hint="--output", tells=".parquet")


def test_bad_material_is_refused_before_images_run(here: Path, ran: Callable[[], int]) -> None:
    (here / "empty").mkdir()
    (here / "broken.head").write_bytes(b"no head")
    (here / "there.csv").write_text("x")
    refusal(*predict(images="empty")).expect("DataError", "empty", hint=".jpg")
    refusal(*predict(images="absent")).expect("DataError", "absent")
    refusal("predict", "broken.head", "new").expect("HeadError", "broken.head")
    refusal("predict", "absent.head", "new").expect("HeadError", "absent.head")
    refusal(*predict("-o", "there.csv")).expect("NCTransferError", "there.csv", hint="--overwrite")
    refusal(*predict("-o", "no/labels.csv")).expect("NCTransferError", "no/labels.csv", hint="--output")
    refusal(*predict("--max-error", "0.1%")).expect("FeaturesError", hint="--max-error")
    refusal(*predict("--checkpoint", "absent.pth")).expect("WeightsError", "absent.pth")
    assert ran() == 0
    assert not list(here.glob("*.partial"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused_before_images_run(here: Path, ran: Callable[[], int]) -> None:
    here.chmod(0o500)
    refusal(*predict("-o", "labels.csv")).expect("NCTransferError", "labels.csv.partial", hint="--output")
    here.chmod(0o700)
    assert ran() == 0


def test_another_backbone_is_refused(here: Path) -> None:
    head = nct.load_head("pets.head")
    assert head.origin.key is not None
    key = replace(head.origin.key, weights="0" * 32)
    replace(head, origin=replace(head.origin, key=key)).save("other.head")
    refusal("predict", "other.head", "new", "--device", "cpu").expect("WeightsError", "00000000", hint="--checkpoint")
    replace(head, origin=replace(head.origin, key=None)).save("foreign.head")
    refusal("predict", "foreign.head", "new").expect("ModelError", hint="nctransfer fit")


def test_weights_of_the_users_own_are_given_by_checkpoint(here: Path, there: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from tiny import state_of

    save_file(state_of("test_resnet", seed=3), here / "mine.safetensors")
    options = {**MODEL, "random_init": False, "checkpoint": here / "mine.safetensors"}
    by_hand(nct.extract(data=there / "pets", cache_dir=tmp_path / "cache", **options)).save("mine.head")
    refusal("predict", "mine.head", "new").expect(
        "WeightsError", "test_resnet", hint=("--checkpoint", "mine.safetensors")
    )
    assert (
        done("predict", "mine.head", "new/one", "--checkpoint", "mine.safetensors", "--format", "csv").stdout.count(
            "\n"
        )
        == 10
    )


def test_requests_are_as_they_were() -> None:
    """What a head is fitted with here is what ``extract`` is asked for in these tests."""
    assert BackboneRequest("test_resnet", img_size=64, random_init=True).transform == {"img_size": 64}
