"""``nctransfer fit``: the head that it writes, what it prints, and what it refuses before any image runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nctransfer as nct
from clusters import labelled, normal_classes
from conftest import write_digits
from terminal import done, misused, noted, refusal, shows


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of four noisy classes, one of which is smaller."""
    path = tmp_path_factory.mktemp("features") / "made.npz"
    rows, labels = labelled(normal_classes([30, 30, 30, 20], d=10, apart=0.9))
    np.savez(path, features=rows.astype(np.float32), labels=labels)
    return path


def test_the_head_that_is_written_is_the_one_that_was_judged(file: Path, tmp_path: Path) -> None:
    head, out = tmp_path / "made.head", "json"
    printed = json.loads(done("fit", file, "-o", head, "--format", out, "--max-error", "20%").stdout)
    loaded = nct.load_head(head)
    assert printed["path"] == str(head)
    assert printed["promise"]["accuracy"] == loaded.promise.accuracy
    assert printed["head"]["classifier"] == loaded.classifier == printed["candidates"][0]["name"]
    assert (loaded.max_error, loaded.max_lost) == (0.2, 0.05)
    assert printed["thresholds"]["error_bound"] <= 0.2
    assert {"images", "gain", "classifier"} == set(printed["more_labels"])
    library = nct.fit(nct.load_features(file), max_error=0.2, more_labels=True, device="cpu")
    without = {name: value for name, value in printed.items() if name not in ("path", "provenance")}
    assert without == json.loads(json.dumps(library.to_dict()))


def test_the_table_shows_what_to_expect_and_what_is_hard(file: Path) -> None:
    text = done("fit", file, "--no-more-labels").stdout
    found = nct.fit(nct.load_features(file), device="cpu")
    promise, hardest, pair = found.head.promise, found.classes[0], found.confusions[0]
    assert shows(text, *(f"{100 * value:.2f}" for value in (promise.accuracy, promise.balanced_accuracy)))
    assert shows(text, *(one.name for one in found.candidates), hardest.name, f"{hardest.right} of {hardest.images}")
    assert shows(text, f"{pair.images} of {pair.of}")
    assert "gain" not in text


def test_without_a_file_nothing_is_written(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = done("fit", file, "--no-more-labels", "-c", "ncc")
    assert noted(result, "--output")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_only_if_that_is_asked_for(file: Path, tmp_path: Path) -> None:
    head = tmp_path / "made.head"
    head.write_text("mine")
    refusal("fit", file, "-o", head).expect("HeadError", str(head), hint="--overwrite")
    assert head.read_text() == "mine"
    done("fit", file, "-o", head, "--overwrite", "--no-more-labels", "-c", "ncc")
    assert nct.load_head(head).classifier == "ncc"


def test_a_head_of_proxies_says_how_many_there_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    means = 4 * rng.normal(size=(3, 2, 1, 8))
    rows = (means + rng.normal(size=(3, 2, 12, 8))).reshape(72, 8)
    np.savez(tmp_path / "parts.npz", features=rows, labels=np.repeat(["cat", "dog", "owl"], 24))
    head = tmp_path / "parts.head"
    result = done("fit", tmp_path / "parts.npz", "-c", "proxies", "-o", head, "--no-more-labels")
    number = nct.load_head(head).linear.rows_per_class
    assert number >= 2
    assert f"proxies, {number} proxies per class" in result.stdout


def test_a_better_classifier_than_the_named_one_is_in_the_table(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3)) * [1, 30, 30]
    rows[:100, 0] += 5
    np.savez(tmp_path / "one.npz", features=rows, labels=np.repeat(["cat", "dog"], 100))
    result = done("fit", tmp_path / "one.npz", "-c", "ncc", "--no-more-labels", "--quiet")
    assert shows(result.stdout, "ridge would be more accurate", "Without --classifier")
    assert "more accurate" not in done("fit", tmp_path / "one.npz", "-c", "ridge", "--no-more-labels").stdout


@pytest.mark.parametrize(("option", "value"), [("--max-error", "2"), ("--max-error", "0"), ("--max-lost", "100%")])
def test_a_share_that_is_none_is_wrong_usage(file: Path, option: str, value: str) -> None:
    assert shows(misused("fit", file, option, value), option, value)


def test_an_unknown_classifier_is_refused_before_images_run(tmp_path: Path) -> None:
    error = refusal("fit", "--data", tmp_path / "no images here", "--classifier", "ridg")
    error.expect("SettingError", "ridg", hint="ridge")


def test_what_no_head_can_hold_is_refused_before_images_run(tmp_path: Path) -> None:
    write_digits(tmp_path / "pets", {"cat\n": 0, "dog": 1}, 3)
    options = ("--data", tmp_path / "pets", "--cache-dir", tmp_path / "cache")
    error = refusal("fit", *options, "-o", tmp_path / "pets.head")
    error.expect("HeadError", repr("cat\n"), hint="rename")
    assert nct.FeatureStore(tmp_path / "cache").sets() == []
