"""Fewer rows than were wanted: an error that says what helps, unless some are enough or the images gave no features."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch

import nctransfer as nct
from conftest import write_digits
from messages import logged, missing, raises
from nctransfer.errors import IncompleteError
from nctransfer.sources.selection import Selection
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.stored_set import StoredSet
from terminal import VIT, cli, done

MODEL = "test_vit"


def extract(pets: Path, **settings: object) -> StoredSet:
    nct.extract(MODEL, pets, random_init=True, device="cpu", **settings)
    (stored,) = FeatureStore().sets()
    return stored


@pytest.fixture
def partly(pets: Path) -> StoredSet:
    """Two of the six images of each class are stored."""
    return extract(pets, max_per_class=2, layers="all")


def test_reading_what_is_not_stored_is_an_error(partly: StoredSet) -> None:
    hint = ["nctransfer extract", "--split", "--max-per-class", "--partial"]
    for read in (partly.read, partly.stream, lambda: nct.load_features(partly.id)):
        with raises(IncompleteError, 6, 18, partly.id, hint=hint):
            read()
    wanted = Selection(max_per_class=2)
    assert (
        len(partly.read(wanted))
        == len(partly.stream(wanted))
        == len(nct.load_features(partly.id, selection=wanted))
        == 6
    )


def test_some_are_enough_if_that_is_said(partly: StoredSet, caplog: pytest.LogCaptureFixture) -> None:
    expected = partly.read(Selection(max_per_class=2))
    caplog.clear()
    for found in (partly.read(partial=True), nct.load_features(partly.id, partial=True)):
        assert found.ids == expected.ids
        assert torch.equal(found.features, expected.features)
    assert len(partly.stream(partial=True)) == 6
    assert len(logged(caplog, 6, 18, partly.id)) == 3


def test_a_layer_that_some_images_lack(pets: Path) -> None:
    extract(pets)
    stored = extract(pets, max_per_class=2, layers="all")
    assert len(stored.read()) == 18
    with raises(IncompleteError, 6, 18, "layer_0", hint="--partial"):
        stored.read(column="layer_0")
    with raises(IncompleteError, 6, 18, "layer_1", hint="--partial"):
        stored.stream(beside=["layer_1"])
    assert len(stored.stream(beside=["layer_1"], partial=True)) == 6


@pytest.mark.parametrize(
    "command",
    [
        ["collapse"],
        ["collapse", "--layers", "all"],
        ["fewshot", "--ways", "2", "--shots", "1", "--episodes", "5"],
        ["fewshot", "--ways", "all", "--shots", "1"],
        ["expect", "--ways", "2", "--shots", "1"],
        ["bounds", "--ways", "2", "--shots", "1"],
        ["labels", "--target", "60%"],
        ["audit"],
        ["explain", "zero", "one"],
        ["fit", "--output", "head.safetensors"],
        ["report", "--output", "page.html"],
        ["rank"],
    ],
    ids=" ".join,
)
def test_no_command_takes_some_for_all(
    partly: StoredSet, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli(*command, partly.id)
    assert (result.exit_code, result.stdout) == (1, "")
    assert missing(result.stderr, [6, 18, "--partial"]) == []
    assert not list(tmp_path.glob("*.html")) + list(tmp_path.glob("*.safetensors"))


def test_a_command_goes_on_with_some(partly: StoredSet) -> None:
    result = done("collapse", partly.id, "--partial", "--format", "json")
    features = json.loads(result.stdout)["features"]
    assert (features["samples"], features["missing"]) == (6, 12)
    assert missing(result.stderr, [6, 18, partly.id]) == []
    assert missing(done("collapse", partly.id, "--max-per-class", "2").stderr, [18]) == [18]


@pytest.mark.parametrize(
    "command",
    [
        ["collapse"],
        ["collapse", "--layers", "all"],
        ["expect", "--ways", "2", "--shots", "1"],
        ["labels", "--target", "60%"],
        ["audit"],
    ],
    ids=" ".join,
)
def test_a_result_says_that_it_is_of_some(partly: StoredSet, command: list[str]) -> None:
    """Also where nobody reads notes, because the result is kept."""
    found = done(*command, partly.id, "--partial", "--quiet", "--format", "markdown").stdout
    assert missing(found, ["12 wanted images"]) == []
    found = done(*command, partly.id, "--max-per-class", "2", "--quiet", "--format", "markdown").stdout
    assert "wanted image" not in found


def test_images_that_gave_no_features_do_not_count_as_missing(pets: Path) -> None:
    (pets / "one" / "broken.png").write_bytes(b"no image")
    stored = extract(pets, skip_broken=True)
    write_digits(pets, {"three": 3}, 2)
    done("extract", *VIT, "--data", pets, "--max-per-class", "1", "--skip-broken")
    assert stored.read(partial=True).describe().missing == 1
    assert stored.stream(partial=True).describe().missing == 1


def test_images_that_gave_no_features_are_left_out_with_a_note(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pets / "one" / "broken.png").write_bytes(b"no image")
    (pets / "two" / "gone.png").symlink_to(pets / "nowhere.png")
    stored = extract(pets, skip_broken=True)
    caplog.set_level(logging.INFO)
    caplog.clear()
    assert len(stored.read()) == 18
    assert len(logged(caplog, 2, stored.path.name, level=logging.INFO)) == 1
    assert not logged(caplog)
    nct.extract("test_resnet", pets, random_init=True, device="cpu", skip_broken=True)
    first, second = (one.id for one in FeatureStore().sets())
    result = done("collapse", first, second)
    assert len([line for line in result.stderr.splitlines() if stored.path.name in line]) == 1


def test_a_new_image_is_not_one_that_gave_no_features(pets: Path) -> None:
    (pets / "one" / "broken.png").write_bytes(b"no image")
    stored = extract(pets, skip_broken=True)
    write_digits(pets, {"three": 3}, 2)
    done("extract", *VIT, "--data", pets, "--max-per-class", "1", "--skip-broken")
    with raises(IncompleteError, 19, 20):
        stored.read()


def test_an_image_that_is_known_and_cannot_be_read_any_more(pets: Path) -> None:
    nct.extract("test_resnet", pets, random_init=True, device="cpu")
    path = pets / "one" / "0.png"
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[::-1])  # its size and time are as before, so nobody reads it to find out
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    nct.extract(MODEL, pets, random_init=True, device="cpu", skip_broken=True)
    sets = {one.key.model: one for one in FeatureStore().sets()}
    assert len(sets["test_resnet"].read()) == 18
    assert len(sets["test_vit"].read()) == 17
