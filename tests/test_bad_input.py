"""What users get wrong: each mistake ends in exit code 1 and one error with a hint, and nothing stored is lost."""

from __future__ import annotations

import json
import os
import re
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
from conftest import write_digits
from terminal import SMALL, VIT, cli, data_of, done, error_of, noted, refusal, shows, shows_line, warned
from test_cli import parquet


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
    refusal("extract", *VIT, "--data", tmp_path / "nothing").expect("DataError", tmp_path / "nothing", hint="digits")


@pytest.mark.parametrize(
    ("name", "counts"),
    [("void", []), ("pets/one", [6]), ("notes", [1]), ("pets/one/0.png", [])],
    ids=["empty", "images without class folders", "class folders without images", "a file"],
)
def test_what_is_no_folder_of_class_folders(name: str, counts: list[int], pets: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    (tmp_path / "notes" / "cat").mkdir(parents=True)
    (tmp_path / "notes" / "cat" / "notes.txt").write_text("no image")
    refusal("extract", *VIT, "--data", tmp_path / name).expect("DataError", tmp_path / name, *counts)


@pytest.mark.parametrize("deep", [False, True])
def test_a_loop_of_symlinks(deep: bool, pets: Path) -> None:
    link = pets / "one" / "again"
    link.symlink_to(pets if deep else link)
    refusal("extract", *VIT, "--data", pets).expect("DataError", link)


def test_a_folder_that_may_not_be_read(pets: Path, tmp_path: Path) -> None:
    (pets / "one").chmod(0)
    result = as_nobody_special("extract", *VIT, "--data", pets, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    error_of(result.stderr).expect("DataError", pets / "one", "Permission denied", hint=None)


# Classes


def test_one_class_only(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0}, 3)
    assert data_of("extract", *VIT, "--data", data)["extracted"] == 3
    for command, kind in (("collapse", "FeaturesError"), ("fewshot", "EpisodeError")):
        refusal(command).expect(kind, 1)


def test_a_class_of_one_image(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0, "one": 1}, 4)
    write_digits(data, {"lone": 3}, 1)
    assert data_of("extract", *VIT, "--data", data)["extracted"] == 9
    result = done("collapse", "--format", "json")
    assert warned(result, 1, "lone")
    found = json.loads(result.stdout)
    assert (found["features"]["classes"], found["features"]["samples"]) == (2, 8)
    error = refusal("fewshot", "--ways", 2, "--queries", 1)
    error.expect("EpisodeError", "lone", 1, hint="--drop-small")


def test_more_ways_than_classes(stored: Path) -> None:
    refusal("fewshot", "--queries", 1).expect("EpisodeError", 5, 3, hint=("--ways", 3))


@pytest.mark.parametrize(("shots", "hint"), [(1, ("--queries", 2)), (3, ())])
def test_more_samples_than_there_are(shots: int, hint: tuple[object, ...], tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"few": 0, "small": 1}, 3)
    write_digits(data, {"many": 2}, 6)
    done("extract", *VIT, "--data", data)
    error = refusal("fewshot", "--ways", 2, "--shots", shots, "--queries", 3)
    error.expect("EpisodeError", shots + 3, 2, 3, "few", "small", hint=hint)
    assert ("--queries" in error.hint) == bool(hint), "fewer queries help only where some are left"


@pytest.mark.parametrize(
    ("content", "kind"),
    [(None, "DataError"), (b"zero\nonce\n", "FeaturesError"), (b"\n \n", "FeaturesError"), (b"\xff\xfe", "DataError")],
    ids=["missing", "unknown", "empty", "no text"],
)
@pytest.mark.parametrize("command", ["extract", "collapse"])
def test_a_file_of_classes_that_will_not_do(
    command: str, content: bytes | None, kind: str, stored: Path, tmp_path: Path
) -> None:
    file = tmp_path / "classes.txt"
    if content is not None:
        file.write_bytes(content)
    error = refusal(command, *VIT, "--data", stored, "--classes", file)
    if kind == "DataError":
        error.expect(kind, file)
    elif content and content.strip():
        error.expect(kind, "once", hint=("one", "two", "zero"))
    else:
        error.expect(kind, hint=None)


def test_a_split_that_is_not_there(pets: Path) -> None:
    refusal("extract", *VIT, "--data", pets, "--split", "train").expect("FeaturesError", "train")


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


BROKEN = ["one/bomb.png", "one/cut.png", "two/text.jpg", "two/void.png"]


def test_broken_images_are_listed_and_the_others_kept(broken: Path) -> None:
    result = cli("extract", *VIT, "--data", broken)
    assert result.exit_code == 1
    listed = [line for line in result.stderr.splitlines() if line.startswith("  ")]
    assert "Traceback" not in result.stderr
    assert len(nct.load_features("test_vit")) == 18

    again = cli("extract", *VIT, "--data", broken, "--format", "json", "--quiet")
    assert again.exit_code == 1
    report = json.loads(again.stdout)
    assert (report["samples"], report["extracted"], report["reused"]) == (18, 0, 18)
    assert [row["id"] for row in report["failed"]] == BROKEN
    assert len({row["reason"] for row in report["failed"]}) == 4, "each is broken in its own way"
    assert shows(report["failed"][3]["reason"], 0)  # bytes
    assert listed == [f"  {row['id']}: {row['reason']}" for row in report["failed"]]
    error = error_of(again.stderr).expect("BrokenImagesError", 4, 18, hint="--skip-broken")
    assert error.content["broken"] == report["failed"]
    assert f"\nerror: {error.message}\nhint: {error.hint}\n" in result.stderr


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_nothing_is_measured_without_broken_images_unasked(command: str, broken: Path) -> None:
    more = SMALL if command == "fewshot" else ()
    error = refusal(command, *VIT, "--data", broken, *more)
    error.expect("BrokenImagesError", 4, hint="--skip-broken")
    assert [image["id"] for image in error.content["broken"]] == BROKEN
    result = done(command, *VIT, "--data", broken, "--skip-broken", *more, "--format", "json")
    features = json.loads(result.stdout)["features"]
    assert (features["samples"], features["classes"]) == (18, 3)
    assert noted(result, 4)


def test_broken_images_are_left_out_on_request(broken: Path) -> None:
    result = done("extract", *VIT, "--data", broken, "--skip-broken", "--format", "json")
    assert [row["id"] for row in json.loads(result.stdout)["failed"]] == BROKEN
    assert [name for name in BROKEN if not warned(result, name)] == []


def test_broken_images_alone(tmp_path: Path) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "void.png").write_bytes(b"")
    for more in ((), ("--skip-broken",)):
        error = refusal("extract", *VIT, "--data", tmp_path / "data", *more)
        error.expect("DataError", 1, "cat/void.png", 0, hint=None)


def test_many_broken_images_are_not_all_printed(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "data", {"zero": 0, "one": 1}, 2)
    for number in range(60):
        (data / "zero" / f"void{number:02d}.png").write_bytes(b"\0" * number)
    lines = cli("extract", *VIT, "--data", data).stderr.splitlines()
    assert sum(line.startswith("  zero/void") for line in lines) == 50
    [more] = (line for line in lines if line.startswith("  …"))
    assert shows(more, 10)


# Names

NAMES = ["new\nline", 'it\'s "q"', "[red]", "emoji 😀", "\x1b[31mred", "a|b`c`", "-o", " space "]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Classes of odd names in a folder of an odd name."""
    return write_digits(tmp_path / "o\nd[d]\x1b[1m", dict(zip(NAMES, range(len(NAMES)), strict=True)), 3)


def test_odd_names_are_shown_as_they_are(odd: Path) -> None:
    screens = [done("extract", *VIT, "--data", odd)]
    assert shows(screens[0].stdout, 24)
    screens.append(done("collapse", "--pairs", 28))
    screens += [done("cache", "list"), done("cache", "show", "test_vit"), cli("fewshot", "--queries", 5)]
    text = "".join(screen.stdout + screen.stderr for screen in screens)
    assert "\x1b" not in text
    for shown in (r"new\nline", '"q"', "[red]", "emoji 😀", r"\x1b[31mred", "a|b`c`"):
        assert shown in text
    assert shows_line(screens[1].stdout, odd.name, 24, 8)
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


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet5", "resnet50"), ("vit_bas", "vit_base"), ("dinov2", "dinov2_"), ("../..//x", "")],  # nothing is near
)
def test_an_unknown_model(name: str, near: str, pets: Path) -> None:
    error = refusal("extract", "--model", name, "--data", pets).expect("ModelError", name, hint="nctransfer models")
    assert near in error.hint


def test_an_unknown_tag(pets: Path) -> None:
    refusal("extract", "--model", "resnet18.nope", "--data", pets).expect("ModelError", "nope", tells="a1_in1k")


def test_weights_that_are_not_at_hand(pets: Path) -> None:
    model = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
    error = refusal("extract", "--model", "vit_base", "--data", pets, HF_HUB_OFFLINE="1")
    error.expect("WeightsError", model, hint=("--checkpoint", "--random-init", "tf_efficientnet_lite0"))
    assert shows_line(error.notes, "vit_base", model)


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
    error = refusal("extract", "--model", "test_vit", "--checkpoint", file, "--data", pets)
    assert not trace.exists()
    error.expect("WeightsError", "bomb.pth", hint=".safetensors")
    assert "weights_only" not in f"{error.message} {error.hint}", "nobody should follow this advice of torch"
    torch.load(file, weights_only=False)
    assert trace.exists(), "the bomb is real"


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "void.pth"])
def test_a_checkpoint_that_is_none(name: str, pets: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text("" if "void" in name else "these are no weights")
    error = refusal("extract", "--model", "test_vit", "--checkpoint", tmp_path / name, "--data", pets)
    error.expect("WeightsError", name, hint=".safetensors")


def test_a_checkpoint_of_another_model(pets: Path, tmp_path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    error = refusal("extract", "--model", "test_vit", "--checkpoint", tmp_path / "other.pth", "--data", pets)
    error.expect("WeightsError", "other.pth", "test_vit", 80, 1, "weight")  # 80 tensors are missing, one is not known


def test_a_checkpoint_that_is_not_there(pets: Path, tmp_path: Path) -> None:
    error = refusal("extract", "--model", "test_vit", "--checkpoint", tmp_path / "no.pth", "--data", pets)
    error.expect("WeightsError", tmp_path / "no.pth")


def test_two_kinds_of_weights_at_once(pets: Path, tmp_path: Path) -> None:
    error = refusal("extract", *VIT, "--checkpoint", tmp_path / "a.pth", "--data", pets).expect("SettingError")
    assert re.search("checkpoint.*random|random.*checkpoint", error.message)


# Devices and dtypes


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "tpu", "cpu:x"])
@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot"])
def test_a_device_that_is_not_there(command: str, device: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    more = {"extract": [*VIT, "--data", stored], "fewshot": SMALL}.get(command, ())
    refusal(command, *more, "--device", device).expect("DeviceError", device, hint="cpu")


@pytest.mark.parametrize("option", ["--dtype", "--store-dtype"])
@pytest.mark.parametrize("command", ["extract", "collapse"])
def test_a_dtype_that_is_not_there(command: str, option: str, pets: Path) -> None:
    error = refusal(command, *VIT, "--data", pets, option, "foo")
    error.expect("SettingError", "foo", hint=("float32", "float16"))
    assert ("bfloat16" in error.hint) == (option == "--dtype")


# Features


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_features_that_are_not_finite(command: str, tmp_path: Path) -> None:
    features = np.ones((20, 3), np.float32)
    features[7, 2], features[11, 0] = np.nan, np.inf
    file = parquet(tmp_path / "f.parquet", features, ["a"] * 10 + ["b"] * 10)
    error = refusal(command, file).expect("FeaturesError", "NaN", 7)
    assert "--dtype" not in error.hint, "these features were not extracted here"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["label", "y", "x", "--label-column"]),
        (("--label-column", "y"), ["feature", "y", "x", "--feature-column"]),
        (("--label-column", "x", "--feature-column", "x"), ["x"]),
        (("--label-column", "y", "--feature-column", "y"), ["y"]),
    ],
    ids=["no labels", "no features", "labels are vectors", "features are names"],
)
def test_a_column_that_is_not_there(options: tuple[str, ...], words: list[str], tmp_path: Path) -> None:
    file = parquet(tmp_path / "f.parquet", np.eye(4), list("aabb"), ("y", "x"))
    refusal("collapse", file, *options).expect("FeaturesError", words[0], tells=tuple(words[1:]), hint=None)


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.parquet").write_bytes(content)
    refusal("collapse", tmp_path / "f.parquet").expect("FeaturesError", "f.parquet", "Parquet")


def test_features_that_pandas_wrote_with_gaps(tmp_path: Path) -> None:
    features = [[1.0, 2.0], [float("nan"), 2.0]]  # pandas writes null for NaN
    pd.DataFrame({"label": ["a", "b"], "feature": features}).to_parquet(tmp_path / "f.parquet")
    refusal("collapse", tmp_path / "f.parquet").expect("FeaturesError", "feature")


def test_vectors_of_unequal_length(tmp_path: Path) -> None:
    pd.DataFrame({"label": ["a", "b"], "feature": [[1.0], [1.0, 2.0]]}).to_parquet(tmp_path / "f.parquet")
    refusal("collapse", tmp_path / "f.parquet").expect("FeaturesError", "feature", 1, 2, hint=None)


def test_an_unknown_set_where_nothing_is_stored() -> None:
    refusal("collapse", "nothing").expect("FeaturesError", "nothing", hint="nctransfer extract")


def test_an_unknown_set(stored: Path) -> None:
    [name] = [one.id for one in nct.FeatureStore().sets()]
    refusal("collapse", "nothing").expect("FeaturesError", "nothing", hint=name)


def test_a_beginning_of_several_sets(stored: Path) -> None:
    done("extract", *VIT, "--seed", 1, "--data", stored)
    ids = [one.id for one in nct.FeatureStore().sets()]
    refusal("collapse", "test_vit").expect("FeaturesError", "test_vit", 2, tells=tuple(ids))


@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot", "cache show"])
def test_an_error_says_the_same_as_text_and_as_json(command: str, stored: Path, tmp_path: Path) -> None:
    given: tuple[object, ...] = {
        "extract": (*VIT, "--data", tmp_path / "nothing"),
        "fewshot": ("test_vit", "--queries", 1),
    }.get(command, ("nothing",))
    error = refusal(*command.split(), *given)
    assert error.content.keys() == {"type", "message", "hint"}
    result = cli(*command.split(), *given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"{error.notes}error: {error.message}\nhint: {error.hint}\n"


def test_with_json_an_error_after_notes_is_one_json_value_still(stored: Path) -> None:
    [name] = [one.id for one in nct.FeatureStore().sets()]
    result = cli("fewshot", "--format", "json")
    assert result.exit_code == 1
    assert noted(result, name)
    error_of(result.stderr).expect("EpisodeError")


# A cache that may be read only

LIMITED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]


def as_nobody_special(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command with ``--format json`` in its own process, for which file permissions hold even if root runs it."""
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("permissions do not hold for root")
    return subprocess.run(
        [
            *(LIMITED if os.geteuid() == 0 else ()),
            sys.executable,
            "-m",
            "nctransfer",
            *map(str, arguments),
            "-f",
            "json",
        ],
        capture_output=True,
        text=True,
        timeout=300,
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
    assert json.loads(result.stdout)["features"]["samples"] == 18


def test_new_features_for_a_cache_that_cannot_be_written(read_only: Path, pets: Path, tmp_path: Path) -> None:
    (pets / "one" / "0.png").rename(pets / "two" / "7.png")
    (pets / "one" / "1.png").write_bytes((pets / "zero" / "1.png").read_bytes())
    result = as_nobody_special("extract", *VIT, "--data", pets, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (1, "")
    error_of(result.stderr).expect("StoreError", hint="--cache-dir", tells=str(read_only))
    assert data_of("cache", "verify")["damaged"] == []


def test_a_cache_that_is_a_file(pets: Path, cache: Path) -> None:
    cache.write_text("not a folder")
    refusal("extract", *VIT, "--data", pets).expect("StoreError", hint="--cache-dir", tells=cache)
    assert cache.read_text() == "not a folder"
