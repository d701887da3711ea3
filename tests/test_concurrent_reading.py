"""A stored set is read while another process extracts into it: the right numbers or a clean error, never wrong ones."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from conftest import Run, write_digits
from messages import logged, raises
from nctransfer.errors import SetChangedError
from nctransfer.features.feature_stream import FeatureStream
from nctransfer.store import reading
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.stored_set import StoredSet
from terminal import VIT, data_of, done, error_of, known, refusal, warned

Extract = Callable[..., object]


def library_extract(data: Path | str, **options: Any) -> None:
    nct.extract("test_vit", data, random_init=True, device="cpu", **options)


@pytest.fixture
def stored(pets: Path) -> StoredSet:
    """A set whose rows lie in another order than that in which one extraction of all images leaves them."""
    for most in (2, None):
        library_extract(pets, max_per_class=most)
    (stored,) = FeatureStore().sets()
    assert len(stored.manifest().parts) == 2
    return stored


@pytest.fixture
def extract(run: Run, pets: Path) -> Extract:
    """``nctransfer extract`` on the same images, in another process."""

    def call(*options: str) -> None:
        result = run("extract", *VIT, "--data", pets, "--device", "cpu", *options)
        assert result.returncode == 0, result.stderr

    return call


# Between the passes, and within one


def disturbed(stream: FeatureStream, disturb: Callable[[], object], number: int, batches: int = 0) -> FeatureStream:
    """The same stream, but something happens in one of its passes, after some batches."""
    passes = itertools.count(1)

    def read() -> Iterator[np.ndarray]:
        is_the_one = next(passes) == number
        if is_the_one and not batches:
            disturb()
        for place, batch in enumerate(stream.read(), 1):
            yield batch
            if is_the_one and place == batches:
                disturb()

    return replace(stream, read=read)


def measures(stream: FeatureStream) -> dict[str, float]:
    return known(nct.collapse(stream, device="cpu").to_dict())


def test_rows_that_another_process_replaces(stored: StoredSet, extract: Extract) -> None:
    before = measures(stored.stream())
    stream = disturbed(stored.stream(), lambda: extract("--layers", "all"), 2)
    with raises(SetChangedError, stored.id):
        nct.collapse(stream, device="cpu")
    assert "layer_0" in stored.manifest().columns
    assert measures(stored.stream()) == pytest.approx(before, rel=1e-4)


def test_rows_that_are_replaced_within_a_pass(stored: StoredSet, pets: Path) -> None:
    stream = disturbed(stored.stream(), lambda: library_extract(pets, layers="all"), 1, batches=1)
    with raises(SetChangedError, stored.id):
        nct.collapse(stream, device="cpu")


def test_rows_that_another_process_adds(
    stored: StoredSet, pets: Path, extract: Extract, caplog: pytest.LogCaptureFixture
) -> None:
    before = measures(stored.stream())
    write_digits(pets, {"three": 3}, 5)
    assert measures(disturbed(stored.stream(), extract, 2)) == before
    assert stored.manifest().rows == 23
    assert measures(stored.stream()) != before
    assert not logged(caplog, stored.id)


def test_a_set_that_another_process_removes(stored: StoredSet, run: Run) -> None:
    stream = disturbed(stored.stream(), lambda: run("cache", "remove", stored.id, "--yes"), 2)
    with raises(SetChangedError, stored.id):
        nct.collapse(stream, device="cpu")
    assert not stored.path.exists()


def test_some_classes_of_a_set_that_changed(stored: StoredSet, pets: Path) -> None:
    stream = stored.stream().only_classes(torch.tensor([0, 2]))
    assert (stream.classes, len(list(stream.batches()))) == (("one", "zero"), 2)
    library_extract(pets, layers="all")
    with raises(SetChangedError, stored.id):
        list(stream.batches())


def test_columns_of_one_snapshot_are_of_the_same_images(stored: StoredSet, pets: Path) -> None:
    library_extract(pets, layers="all")
    snapshot = stored.snapshot()
    first = snapshot.stream(column="layer_0")
    write_digits(pets, {"three": 3}, 5)
    (pets / "one").rename(pets / "four")
    library_extract(pets, layers="all")
    second = snapshot.stream(column="layer_1")
    assert (second.classes, second.counts.tolist()) == (first.classes, first.counts.tolist())
    later = stored.stream(column="layer_1")
    assert (later.classes, len(later)) == (("four", "three", "two", "zero"), len(first) + 5)


# Starting over


def before_each_pass(monkeypatch: pytest.MonkeyPatch, disturb: Callable[[int], object]) -> None:
    """Something happens before each pass over the rows of a stored set, given the number of the pass."""
    rows_at, passes, is_disturbing = reading._rows_at, itertools.count(1), False

    def rows(*arguments: Any) -> Iterator[np.ndarray]:
        nonlocal is_disturbing
        if not is_disturbing:  # else it is the disturbance that reads
            is_disturbing = True
            disturb(next(passes))
            is_disturbing = False
        yield from rows_at(*arguments)

    monkeypatch.setattr(reading, "_rows_at", rows)


def test_reading_into_memory_starts_over(stored: StoredSet, pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored.read()
    before_each_pass(monkeypatch, lambda number: library_extract(pets, layers="all") if number == 1 else None)
    after = stored.read()
    assert (after.ids, after.classes) == (before.ids, before.classes)
    torch.testing.assert_close(after.features, before.features, rtol=0, atol=1e-5 * float(before.features.norm()))


def numbers(value: Any) -> list[float]:
    """All numbers in JSON but times."""
    if isinstance(value, dict):
        return [number for name, one in value.items() if name != "seconds" for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize(("command", "last_pass"), [("collapse", 2), ("bounds --ways 2", 1), ("fewshot --probe", 2)])
def test_a_command_starts_over(
    stored: StoredSet, pets: Path, monkeypatch: pytest.MonkeyPatch, command: str, last_pass: int
) -> None:
    words = [*command.split(), stored.id, "--device", "cpu"]
    before = data_of(*words)
    before_each_pass(monkeypatch, lambda number: library_extract(pets, layers="all") if number == last_pass else None)
    result = done(*words, "--format", "json")
    assert warned(result, stored.id)
    assert numbers(json.loads(result.stdout)) == pytest.approx(numbers(before), rel=1e-3)


@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_a_set_that_never_stays_is_an_error(
    stored: StoredSet, pets: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    before_each_pass(monkeypatch, lambda number: library_extract(pets, layers=str(number - 1)))
    refusal(command, stored.id, "--device", "cpu").expect("SetChangedError", stored.id)
    assert list(stored.manifest().columns) == ["feature", "layer_0", "layer_1", "layer_2"]


# Two command lines


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images, and a cache that holds their features in parts of another order."""
    root = tmp_path_factory.mktemp("digits")
    data = write_digits(root / "data", {str(digit): digit for digit in range(10)}, 60)
    for most in (20, 40, None):
        library_extract(data, max_per_class=most, cache_dir=root / "cache")
    return data, root / "cache"


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(4))
def test_two_command_lines_at_once(digits: tuple[Path, Path], tmp_path: Path, round_: int) -> None:
    data, cache = digits
    shutil.copytree(cache, tmp_path / "cache")
    name = FeatureStore(cache).sets()[0].id
    options = ("--device", "cpu", "--cache-dir", tmp_path / "cache")

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "nctransfer", *map(str, words), *map(str, options)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"}
        )

    undisturbed = known(data_of("collapse", name, "--device", "cpu", "--cache-dir", cache))
    writer = start("extract", *VIT, "--data", data, "--layers", "all")
    readers = [start("collapse", name, "--format", "json") for _ in range(3)]
    for reader in readers:
        out, err = reader.communicate(timeout=300)
        if reader.returncode == 0:
            assert known(json.loads(out)) == pytest.approx(undisturbed, rel=1e-3)
        else:
            error_of(err).expect("SetChangedError", name)
    out, err = writer.communicate(timeout=300)
    assert writer.returncode == 0, err
