"""``nctransfer rank --html``: a page of its own, checked before the work like every file that is written."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest

from clusters import labelled, normal_classes
from terminal import data_of, done, refusal

ODD = "<i>noisy & more"  # the name of a file; markup in names is text


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two sets of features of the same images, in files."""
    rows, labels = labelled(normal_classes([8] * 3, 6, within=0.5))
    noise = np.random.default_rng(0).normal(size=rows.shape)
    files = []
    for name, scale in (("good", 0.0), (ODD, 2.0)):
        files.append(tmp_path / f"{name}.npz")
        np.savez(files[-1], features=(rows + scale * noise).astype(np.float32), labels=labels)
    return files


def test_the_page_has_the_ranking_and_what_made_it(two: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "rank.html"
    page.write_text("an older page")
    found = data_of("rank", *two, "--shots", 2, "--seed", 3, "--html", page)
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert found["recommendation"].split(".")[0] in text
    assert re.search(r"rank .*good\.npz .*--html", text)  # the command
    assert re.search(r"<dt>seed</dt><dd><bdi>3</bdi>", text)
    assert "<svg" in text
    assert "<i>" not in text
    assert "&lt;i&gt;noisy &amp; more.npz" in text
    best = f"{100 * found['candidates'][0]['accuracy']:.2f}"
    assert best in text


def test_a_page_that_could_not_be_written_is_refused_before_the_work(two: list[Path], tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "rank.html"
    refusal("rank", *two, "--html", nowhere).expect("NCTransferError", str(nowhere), hint="--html")
    refusal("rank", *two, "--html", tmp_path).expect("NCTransferError", str(tmp_path), hint="--html")
    same = tmp_path / "rank.html"
    refusal("rank", *two, "--html", same, "--output", same).expect("SettingError", str(same))
    assert not same.exists()


def test_a_list_of_candidates_has_no_page(tmp_path: Path) -> None:
    page = tmp_path / "rank.html"
    refusal("rank", "--list", "--model", "test_vit", "--html", page).expect("SettingError", "--html")
    assert not page.exists()


def test_the_table_is_printed_all_the_same(two: list[Path], tmp_path: Path) -> None:
    shown = done("rank", *two, "--shots", 2, "--html", tmp_path / "rank.html").stdout
    assert "What to take" in shown


def test_a_page_is_whole_or_is_not_there(two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    page = tmp_path / "rank.html"
    page.write_text("an older page")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        refusal("rank", *two, "--shots", 2, "--html", page).expect("NCTransferError", "No space left", hint="--html")
    assert page.read_text() == "an older page"
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".html", ".npz", ".npz"]


def test_the_front_is_not_known_without_speeds(two: list[Path], tmp_path: Path) -> None:
    done("rank", *two, "--shots", 2, "--html", tmp_path / "rank.html")
    text = (tmp_path / "rank.html").read_text("utf-8")
    assert 'aria-label="Chart of accuracy. The most accurate' in text
    assert "<bdi>no</bdi>" not in text


def test_the_page_does_not_tell_the_home_folder(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    done("rank", *two, "--shots", 2, "--html", tmp_path / "rank.html", "--cache-dir", tmp_path / "cache")
    assert str(tmp_path) not in (tmp_path / "rank.html").read_text("utf-8")
