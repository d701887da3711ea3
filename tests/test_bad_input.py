"""What users get wrong: each ends in exit code 1 and one clear message, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nctransfer as nct
from conftest import Run, write_digits
from test_cli import SMALL, VIT, cli, data_of, done, parquet


def refused(*arguments: object, **settings: Any) -> str:
    """What a command says that ends in an error: one message, and nothing on stdout."""
    result = cli(*arguments, **settings)
    assert (result.exit_code, result.stdout) == (1, "")
    complaint: str = result.stderr
    assert complaint.count("error: ") == 1
    assert "Traceback" not in complaint
    return complaint


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """As ``pets``, for the whole module, and a cache with their features."""
    root = tmp_path_factory.mktemp("kept")
    data = write_digits(root / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    done("extract", *VIT, "--data", data, "--cache-dir", root / "cache")
    return data, root / "cache"


@pytest.fixture
def stored(kept: tuple[Path, Path], cache: Path) -> Path:
    """A folder whose features lie in this test's cache."""
    shutil.copytree(kept[1], cache)
    return kept[0]


# The folder


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    complaint = refused("extract", *VIT, "--data", tmp_path / "nothing")
    assert f"{str(tmp_path / 'nothing')!r} is not there" in complaint
    assert "'digits'" in complaint


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    complaint = refused("extract", *VIT, "--data", tmp_path / "empty")
    assert "empty' is empty" in complaint
    assert "one folder a class" in complaint


def test_images_without_class_folders(pets: Path) -> None:
    complaint = refused("extract", *VIT, "--data", pets / "one")
    assert "has 6 images but no class folders" in complaint
    assert "one folder a class" in complaint


def test_class_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "notes.txt").write_text("no image")
    assert "has no images (1 other file)" in refused("extract", *VIT, "--data", tmp_path / "data")


def test_a_file_in_place_of_a_folder(pets: Path) -> None:
    assert "0.png' is no folder" in refused("extract", *VIT, "--data", pets / "one" / "0.png")


@pytest.mark.parametrize("deep", [False, True])
def test_a_loop_of_symlinks(deep: bool, pets: Path) -> None:
    link = pets / "one" / "again"
    link.symlink_to(pets if deep else link)
    complaint = refused("extract", *VIT, "--data", pets)
    assert "again" in complaint
    assert "symlink" in complaint


def test_a_folder_that_may_not_be_read(pets: Path, tmp_path: Path) -> None:
    (pets / "one").chmod(0)
    result = as_nobody_special("extract", *VIT, "--data", pets, cwd=tmp_path)
    assert result.returncode == 1
    assert f"the folder {str(pets / 'one')!r} cannot be read: Permission denied" in result.stderr
    assert "Traceback" not in result.stderr


# Classes


def test_one_class_only(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0}, 3)
    assert data_of("extract", *VIT, "--data", data)["extracted"] == 3
    for command in ("collapse", "fewshot"):
        complaint = refused(command)
        assert "1 class" in complaint
        assert "two" in complaint


def test_a_class_of_one_image(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0, "one": 1}, 4)
    write_digits(data, {"lone": 3}, 1)
    assert data_of("extract", *VIT, "--data", data)["extracted"] == 9
    result = done("collapse", "--format", "json")
    assert "warning: 1 class of one sample left out: 'lone'" in result.stderr
    found = json.loads(result.stdout)
    assert (found["features"]["classes"], found["features"]["samples"]) == (2, 8)
    complaint = refused("fewshot", "--ways", 2, "--queries", 1)
    assert "'lone' (1)" in complaint
    assert "--drop-small" in complaint


def test_more_ways_than_classes(stored: Path) -> None:
    complaint = refused("fewshot", "--queries", 1)
    assert "5 ways" in complaint
    assert "3 classes" in complaint
    assert "--ways 3" in complaint


@pytest.mark.parametrize(("shots", "hint"), [(1, "--queries 2"), (3, "fewer shots")])
def test_more_samples_than_there_are(shots: int, hint: str, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"few": 0, "small": 1}, 3)
    write_digits(data, {"many": 2}, 6)
    done("extract", *VIT, "--data", data)
    complaint = refused("fewshot", "--ways", 2, "--shots", shots, "--queries", 3)
    assert f"need {shots + 3} samples of every class; 2 of 3 have fewer: 'few' (3), 'small' (3)" in complaint
    assert hint in complaint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["classes.txt", "No such file"]),
        (b"zero\nonce\n", ["no class 'once'", "'one', 'two', 'zero'"]),
        (b"\n \n", ["empty", "classes"]),
        (b"\xff\xfe", ["classes.txt"]),
    ],
    ids=["missing", "unknown", "empty", "no text"],
)
@pytest.mark.parametrize("command", ["extract", "collapse"])
def test_a_file_of_classes_that_will_not_do(
    command: str, content: bytes | None, words: list[str], stored: Path, tmp_path: Path
) -> None:
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content)
    complaint = refused(command, *VIT, "--data", stored, "--classes", file)
    assert [word for word in words if word not in complaint] == []


def test_a_split_that_is_not_there(pets: Path) -> None:
    complaint = refused("extract", *VIT, "--data", pets, "--split", "train")
    assert "no split 'train'" in complaint
    assert "no splits" in complaint


# Broken images


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(side: int) -> bytes:
    """A small PNG file of an enormous black image."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def broken(pets: Path) -> Path:
    """The pets, and four files that are no images."""
    whole = (pets / "one" / "0.png").read_bytes()
    (pets / "one" / "bomb.png").write_bytes(bomb(20_000))
    (pets / "one" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pets / "two" / "text.jpg").write_text("an image, honestly")
    (pets / "two" / "void.png").write_bytes(b"")
    return pets


BROKEN = {
    "one/bomb.png": "too large to be safe",
    "one/cut.png": "truncated or damaged",
    "two/text.jpg": "no image in a known format",
    "two/void.png": "empty (0 bytes)",
}


def test_broken_images_are_listed_and_the_others_kept(broken: Path) -> None:
    result = cli("extract", *VIT, "--data", broken)
    assert result.exit_code == 1
    for name, reason in BROKEN.items():
        [line] = (line for line in result.stderr.splitlines() if name in line)
        assert reason in line
    assert "error: 4 images could not be used; the features of the other 18 are stored" in result.stderr
    assert "--skip-broken" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(nct.load_features("test_vit")) == 18

    again = cli("extract", *VIT, "--data", broken, "--format", "json", "--quiet")
    assert again.exit_code == 1
    report = json.loads(again.stdout)
    assert (report["samples"], report["extracted"], report["reused"]) == (18, 0, 18)
    assert [row["id"] for row in report["failed"]] == list(BROKEN)
    error = json.loads(again.stderr)["error"]
    assert error["type"] == "BrokenImagesError"
    assert [row["id"] for row in error["broken"]] == list(BROKEN)


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_nothing_is_measured_without_broken_images_unasked(command: str, broken: Path) -> None:
    more = SMALL if command == "fewshot" else ()
    complaint = refused(command, *VIT, "--data", broken, *more)
    assert [name for name in BROKEN if name not in complaint] == []
    result = done(command, *VIT, "--data", broken, "--skip-broken", *more)
    assert "18 samples, 3 classes" in result.stdout
    assert "4 images could not be used" in result.stderr


def test_broken_images_are_left_out_on_request(broken: Path) -> None:
    result = done("extract", *VIT, "--data", broken, "--skip-broken", "--format", "json")
    assert [row["id"] for row in json.loads(result.stdout)["failed"]] == list(BROKEN)
    assert [name for name in BROKEN if f"warning: left out: {name!r}" not in result.stderr] == []


def test_broken_images_alone(tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "void.png").write_bytes(b"")
    for more in ((), ("--skip-broken",)):
        complaint = refused("extract", *VIT, "--data", tmp_path / "data", *more)
        assert "'cat/void.png'" in complaint
        assert "0 bytes" in complaint


def test_many_broken_images_are_not_all_printed(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0, "one": 1}, 2)
    for number in range(60):
        (data / "zero" / f"void{number:02d}.png").write_bytes(b"\0" * number)
    complaint = cli("extract", *VIT, "--data", data).stderr
    assert complaint.count("zero/void") == 50
    assert "and 10 more" in complaint


# Names

NAMES = ["new\nline", 'it\'s "q"', "[red]", "emoji 😀", "\x1b[31mred", "a|b`c`", "-o", " space "]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Classes of odd names in a folder of an odd name."""
    return write_digits(tmp_path / "o\nd[d]\x1b[1m", dict(zip(NAMES, range(len(NAMES)), strict=True)), 3)


def fact(text: str, name: str) -> str:
    [line] = (line for line in text.splitlines() if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def test_odd_names_are_shown_as_they_are(odd: Path) -> None:
    screens = [done("extract", *VIT, "--data", odd)]
    assert fact(screens[0].stdout, "samples") == "24"
    screens.append(done("collapse", "--pairs", 28))
    screens += [done("cache", "list"), done("cache", "show", "test_vit"), cli("fewshot", "--queries", 5)]
    text = "".join(screen.stdout + screen.stderr for screen in screens)
    assert "\x1b" not in text
    for shown in (r"new\nline", '"q"', "[red]", "emoji 😀", r"\x1b[31mred", "a|b`c`", r"o\nd[d]\x1b[1m: 24 samples, 8"):
        assert shown in text
    rows = [line for line in screens[1].stdout.splitlines() if " / " in line]
    assert len(rows) == 1 + 28


def test_odd_names_in_json_and_markdown(odd: Path) -> None:
    assert data_of("extract", *VIT, "--data", odd)["samples"] == 24
    found = data_of("collapse", "--pairs", 28)
    assert found["features"]["classes"] == 8
    assert found["features"]["data"] == str(odd)
    assert {name for pair in found["pairs"] for name in (pair["class_a"], pair["class_b"])} == set(NAMES)
    markdown = done("collapse", "--pairs", 28, "--format", "markdown").stdout
    assert "\x1b" not in markdown
    assert r"a\|b\`c\`" in markdown
    assert r"\[red\]" in markdown


@pytest.mark.parametrize("names", [["[red]", "emoji 😀"], ['it\'s "q"', "\x1b[31mred", "-o"]])
def test_odd_names_in_a_file_of_classes(names: list[str], odd: Path, tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(names), encoding="utf-8")
    found = data_of("extract", *VIT, "--data", odd, "--classes", file)
    assert found["samples"] == 3 * len(names)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names there are Unicode")
@pytest.mark.parametrize("kind", ["table", "json", "csv", "markdown"])
def test_a_name_that_is_no_text(kind: str, tmp_path: Path) -> None:
    data = write_digits(tmp_path / os.fsdecode(b"p\xffts"), {os.fsdecode(b"\xfe"): 0, "one": 1}, 2)
    done("extract", *VIT, "--data", data, "--format", kind)
    result = done("collapse", "--format", kind)
    done("collapse", "--format", kind, "--output", tmp_path / "result")
    if kind == "json":
        for text in (result.stdout, (tmp_path / "result").read_text("utf-8")):
            assert json.loads(text)["pairs"][0]["class_a"] == r"\xfe"


# Models and weights


@pytest.mark.parametrize(("name", "near"), [("resnet5", "resnet50"), ("vit_bas", "vit_base"), ("dinov2", "dinov2_")])
def test_an_unknown_model(name: str, near: str, pets: Path) -> None:
    complaint = refused("extract", "--model", name, "--data", pets)
    assert f"no model {name!r}" in complaint
    assert near in complaint.partition("hint:")[2]
    assert "nctransfer models" in complaint


def test_nothing_is_near_to_nonsense(pets: Path) -> None:
    complaint = refused("extract", "--model", "../..//x", "--data", pets)
    assert "no model '../..//x'" in complaint
    assert "nctransfer models" in complaint


def test_an_unknown_tag(pets: Path) -> None:
    complaint = refused("extract", "--model", "resnet18.nope", "--data", pets)
    assert "'nope'" in complaint
    assert "a1_in1k" in complaint


def test_weights_that_are_not_at_hand(run: Run, pets: Path) -> None:
    result = run("extract", "--model", "vit_base", "--data", pets, HF_HUB_OFFLINE="1")
    assert (result.returncode, result.stdout) == (1, "")
    assert "vit_base is vit_base_patch16_224.augreg2_in21k_ft_in1k\n" in result.stderr
    assert "error: the weights of vit_base_patch16_224.augreg2_in21k_ft_in1k are not at hand" in result.stderr
    hint = result.stderr.partition("hint: ")[2]
    assert "--checkpoint" in hint
    assert "--random-init" in hint
    assert "tf_efficientnet_lite0" in hint
    assert "Traceback" not in result.stderr


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_checkpoint_that_would_run_code(pets: Path, tmp_path: Path) -> None:
    import torch

    file, trace = tmp_path / "bomb.pth", tmp_path / "trace"
    torch.save({"weight": Bomb(trace)}, file)
    complaint = refused("extract", "--model", "test_vit", "--checkpoint", file, "--data", pets)
    assert not trace.exists()
    assert "bomb.pth" in complaint
    assert "cannot be read safely" in complaint
    assert "weights_only=False" not in complaint, "no advice that cannot be followed, and ought not to be"
    torch.load(file, weights_only=False)
    assert trace.exists(), "the bomb is real"


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "void.pth"])
def test_a_checkpoint_that_is_none(name: str, pets: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("" if "void" in name else "these are no weights")
    complaint = refused("extract", "--model", "test_vit", "--checkpoint", tmp_path / name, "--data", pets)
    assert name in complaint
    assert ".safetensors" in complaint


def test_a_checkpoint_of_another_model(pets: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    complaint = refused("extract", "--model", "test_vit", "--checkpoint", tmp_path / "other.pth", "--data", pets)
    assert "does not fit test_vit" in complaint
    assert "missing" in complaint
    assert "1 unexpected (weight)" in complaint


def test_a_checkpoint_that_is_not_there(pets: Path, tmp_path: Path) -> None:
    complaint = refused("extract", "--model", "test_vit", "--checkpoint", tmp_path / "no.pth", "--data", pets)
    assert "is no file, or not there" in complaint
    assert "no.pth" in complaint


def test_two_kinds_of_weights_at_once(pets: Path, tmp_path: Path) -> None:
    complaint = refused("extract", *VIT, "--checkpoint", tmp_path / "a.pth", "--data", pets)
    assert "checkpoint" in complaint
    assert "random" in complaint


# Devices and dtypes


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "tpu", "cpu:x"])
@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot"])
def test_a_device_that_is_not_there(command: str, device: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    more = {"extract": [*VIT, "--data", stored], "fewshot": SMALL}.get(command, ())
    complaint = refused(command, *more, "--device", device)
    assert f"no device {device!r}" in complaint
    assert "there is: cpu" in complaint


@pytest.mark.parametrize("option", ["--dtype", "--store-dtype"])
@pytest.mark.parametrize("command", ["extract", "collapse"])
def test_a_dtype_that_is_not_there(command: str, option: str, pets: Path) -> None:
    complaint = refused(command, *VIT, "--data", pets, option, "foo")
    assert "no dtype 'foo'" in complaint
    assert "float32" in complaint
    assert "float16" in complaint


# Features


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_features_that_are_not_finite(command: str, tmp_path: Path) -> None:
    features = np.ones((20, 3), np.float32)
    features[7, 2], features[11, 0] = np.nan, np.inf
    file = parquet(tmp_path / "f.parquet", features, ["a"] * 10 + ["b"] * 10)
    complaint = refused(command, file)
    assert "NaN or infinite values; the first" in complaint
    assert "7" in complaint.partition("the first")[2]
    assert "--dtype" not in complaint, "these features were not extracted here"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["no column 'label'", "'y', 'x'", "--label-column"]),
        (("--label-column", "y"), ["no column 'feature'", "'y', 'x'", "--feature-column"]),
        (("--label-column", "x", "--feature-column", "x"), ["'x'", "not names"]),
        (("--label-column", "y", "--feature-column", "y"), ["'y'", "not vectors"]),
    ],
)
def test_a_column_that_is_not_there(options: tuple[str, ...], words: list[str], tmp_path: Path) -> None:
    file = parquet(tmp_path / "f.parquet", np.eye(4), list("aabb"), ("y", "x"))
    complaint = refused("collapse", file, *options)
    assert [word for word in words if word not in complaint] == []


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(content)
    complaint = refused("collapse", tmp_path / "f.parquet")
    assert "f.parquet' cannot be read as Parquet" in complaint
    assert "hint: " in complaint


def test_features_that_pandas_wrote_with_gaps(tmp_path: Path) -> None:
    features = [[1.0, 2.0], [float("nan"), 2.0]]  # pandas writes null for NaN
    pd.DataFrame({"label": ["a", "b"], "feature": features}).to_parquet(tmp_path / "f.parquet")
    assert "'feature' holds nulls" in refused("collapse", tmp_path / "f.parquet")


def test_vectors_of_unequal_length(tmp_path: Path) -> None:
    pd.DataFrame({"label": ["a", "b"], "feature": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "f.parquet")
    assert "of unequal length: 1 to 2" in refused("collapse", tmp_path / "f.parquet")


def test_an_unknown_set_where_nothing_is_stored() -> None:
    assert "nothing is stored yet" in refused("collapse", "nothing")


def test_an_unknown_set(stored: Path) -> None:
    [name] = [one.id for one in nct.FeatureStore().sets()]
    complaint = refused("collapse", "nothing")
    assert "'nothing' is neither a stored set nor a file of features" in complaint
    assert name in complaint


def test_a_beginning_of_several_sets(stored: Path) -> None:
    done("extract", *VIT, "--seed", 1, "--data", stored)
    complaint = refused("collapse", "test_vit")
    assert "'test_vit' fits 2 stored sets" in complaint
    assert [one.id for one in nct.FeatureStore().sets() if one.id not in complaint] == []


@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot", "cache show"])
def test_with_json_an_error_is_json_too(command: str, stored: Path, tmp_path: Path) -> None:
    given: tuple[object, ...] = {
        "extract": (*VIT, "--data", tmp_path / "nothing"),
        "fewshot": ("test_vit", "--queries", 1),
    }.get(command, ("nothing",))
    result = cli(*command.split(), *given, "--format", "json")
    assert (result.exit_code, result.stdout) == (1, "")
    error = json.loads(result.stderr)["error"]
    assert error.keys() == {"type", "message", "hint"}
    assert error["type"] in nct.errors.__all__
    assert error["message"]
    assert error["hint"]


def test_with_json_an_error_after_notes_is_one_json_value_still(stored: Path) -> None:
    result = cli("fewshot", "--format", "json")
    assert result.exit_code == 1
    notes, brace, error = result.stderr.partition("{")
    assert "the set used last" in notes
    assert json.loads(brace + error)["error"]["type"] == "EpisodeError"


# A cache that may be read only

LIMITED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def as_nobody_special(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line for whom permissions hold, root too."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("permissions do not hold for root")
    return subprocess.run(
        [*(LIMITED if os.geteuid() == 0 else ()), sys.executable, "-m", "nctransfer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        check=False,
    )


@pytest.fixture
def read_only(pets: Path, cache: Path) -> Path:
    """A cache with the pets in it that cannot be written."""
    done("extract", *VIT, "--data", pets)
    for path in (cache, *cache.rglob("*")):
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    return cache


def test_stored_features_are_read_from_a_cache_that_cannot_be_written(read_only: Path, tmp_path: Path) -> None:
    result = as_nobody_special("collapse", "--pairs", 0, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "18 samples" in result.stdout


def test_new_features_for_a_cache_that_cannot_be_written(read_only: Path, pets: Path, tmp_path: Path) -> None:
    (pets / "one" / "0.png").rename(pets / "two" / "7.png")
    (pets / "one" / "1.png").write_bytes((pets / "zero" / "1.png").read_bytes())
    result = as_nobody_special("extract", *VIT, "--data", pets, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    assert "the cache cannot be written" in result.stderr
    assert str(read_only) in result.stderr
    assert "--cache-dir" in result.stderr
    assert "Traceback" not in result.stderr
    assert data_of("cache", "verify")["damaged"] == []


def test_a_cache_that_is_a_file(pets: Path, cache: Path) -> None:
    cache.write_text("not a folder")
    complaint = refused("extract", *VIT, "--data", pets)
    assert "the cache cannot be written" in complaint
    assert "--cache-dir" in complaint
    assert cache.read_text() == "not a folder"
