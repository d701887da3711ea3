"""``nctransfer report``: what is measured for the page, what is on it, and what happens when something is missing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import labelled, normal_classes, set_of
from conftest import write_digits
from nctransfer.errors import FeaturesError, NCTransferError, SettingError
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.page.blocks import Paragraph, Verdict
from nctransfer.page.measured import Measured, Missing, tried
from nctransfer.page.measuring import Questions, at_most, measure, per_class
from nctransfer.page.verdict_section import verdict_section
from terminal import VIT, data_of, done, misused, refusal, warned

EVERY = {
    "verdict",
    "data",
    "backbone",
    "class-map",
    "image-map",
    "closest-pairs",
    "confusion",
    "learning-curve",
    "suspects",
    "words",
    "how-it-was-made",
}


class Reader(HTMLParser):
    """The sections and the loose text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "section" and dict(attrs).get("id"):
            self.sections.append(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        self.text += data


def page(path: Path) -> Reader:
    return Reader(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of four noisy classes, made elsewhere."""
    path = tmp_path_factory.mktemp("features") / "made.npz"
    rows, labels = labelled(normal_classes([14, 14, 14, 9], d=8, apart=1.2))
    np.savez(path, features=rows.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="module")
def pets_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Mapping[str, Any]]:
    """A report on a folder of real images with hostile class names, written by the real command in a process."""
    folder = tmp_path_factory.mktemp("report")
    data = write_digits(folder / "pets", {"<b>zero</b>": 0, "one & 'two'": 1, "two \u202e": 2}, 8)
    command = [sys.executable, "-m", "nctransfer", "report", *VIT, "--data", data, "--cache-dir", folder / "cache"]
    written = subprocess.run(
        [*map(str, command), "--output", str(folder / "pets.html"), "--format", "json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return folder / "pets.html", data, json.loads(written.stdout)


def test_the_page_has_every_section(pets_report: tuple[Path, Path, Mapping[str, Any]]) -> None:
    path, _, printed = pets_report
    assert set(printed["sections"]) == EVERY
    assert page(path).sections == printed["sections"]
    assert printed["bytes"] == path.stat().st_size
    assert printed["missing"] == {}
    assert printed["thumbnails"] == 24


def test_the_page_says_what_the_library_finds(pets_report: tuple[Path, Path, Mapping[str, Any]]) -> None:
    path, data, printed = pets_report
    features = nct.extract("test_vit", data, random_init=True, cache_dir=path.parent / "cache")
    promise = nct.fit(features, "ridge").head.promise
    assert printed["accuracy"] == pytest.approx(promise.accuracy)
    assert f"{100 * promise.accuracy:.1f}%" in page(path).text
    assert printed["cdnv"] == pytest.approx(nct.collapse(features).cdnv)


def test_the_page_refers_to_nothing_outside(pets_report: tuple[Path, Path, Mapping[str, Any]]) -> None:
    text = pets_report[0].read_text("utf-8")
    urls = set(re.findall(r"[a-z]+://[^\s\"'<>)]+", text))
    assert {url for url in urls if not url.startswith("http://www.w3.org/")} == set()  # names of XML vocabularies


def test_names_are_text_and_not_markup(pets_report: tuple[Path, Path, Mapping[str, Any]]) -> None:
    text = pets_report[0].read_text("utf-8")
    assert "<b>zero" not in text
    assert "&lt;b&gt;zero" in text
    loose = re.sub(r"<script.*?</script>|<bdi.*?</bdi>", "", text, flags=re.DOTALL)
    assert "\u202e" not in re.sub(r"<[^>]*>", "", loose)  # marks of direction act only on the name itself


def test_features_made_elsewhere_have_no_images(made: Path, tmp_path: Path) -> None:
    result = done("report", made, "-o", tmp_path / "made.html", "--format", "json")
    printed = json.loads(result.stdout)
    assert printed["thumbnails"] == 0
    assert warned(result, "--images")
    assert "data" in printed["sections"]
    assert printed["features"]["samples"] == 51


def test_several_sets_are_ranked(made: Path, tmp_path: Path) -> None:
    rows, labels = labelled(normal_classes([14, 14, 14, 9], d=8, apart=1.2, within=2.0))
    np.savez(tmp_path / "worse.npz", features=rows.astype(np.float32), labels=labels)
    printed = data_of("report", made, tmp_path / "worse.npz", "-o", tmp_path / "both.html")
    assert "ranking" in printed["sections"]
    assert "backbones" in printed["sections"]
    assert len(printed["sets"]) == 2


def test_layers_have_a_section(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    options = ("--cache-dir", tmp_path / "cache")
    done("extract", *VIT, "--layers", "all", "--data", data, *options)
    assert "layers" in data_of("report", "-o", tmp_path / "r.html", *options)["sections"]


def test_images_are_found_in_another_place(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    options = ("--cache-dir", tmp_path / "cache")
    done("extract", *VIT, "--data", data, *options)
    data.rename(tmp_path / "moved")
    gone = done("report", "-o", tmp_path / "gone.html", *options, "--format", "json")
    assert json.loads(gone.stdout)["thumbnails"] == 0
    assert warned(gone, "--images")
    moved = data_of("report", "-o", tmp_path / "moved.html", "--images", tmp_path / "moved", *options)
    assert moved["thumbnails"] == 18


def test_a_place_without_images_is_refused_before_the_work(made: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = refusal("report", made, "-o", tmp_path / "r.html", "--images", tmp_path / "empty")
    error.expect("DataError", str(tmp_path / "empty"))
    assert not (tmp_path / "r.html").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nctransfer.page.report_page.measure", lambda *_, **__: pytest.fail("it was measured"))
        refusal("report", made, "-o", tmp_path / "r.html", "--images", tmp_path / "empty")


def test_no_thumbnails_are_made_if_none_are_wanted(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "pets", {"zero": 0, "one": 1}, 6)
    options = ("--cache-dir", tmp_path / "cache", "--data", data, *VIT, "--max-thumbnails", 0)
    assert data_of("report", "-o", tmp_path / "r.html", *options)["thumbnails"] == 0
    assert "UklGR" not in (tmp_path / "r.html").read_text("utf-8")  # how WebP begins in base64


def test_a_file_that_exists_is_replaced_only_if_that_is_asked_for(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    file.write_text("mine")
    refusal("report", made, "-o", file).expect("NCTransferError", str(file), hint="--overwrite")
    assert file.read_text() == "mine"
    done("report", made, "-o", file, "--overwrite")
    assert "verdict" in page(file).sections


@pytest.mark.parametrize("options", [["--target", "x"], ["--max-images", "1"], ["--max-thumbnails", "-1"], []])
def test_wrong_options_are_wrong_usage(made: Path, tmp_path: Path, options: list[str]) -> None:
    misused("report", made, *(["-o", tmp_path / "r.html"] if options else []), *options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["map.csv", "there.parquet", "none/map.parquet"])
def test_a_map_that_cannot_be_written_is_refused_before_images_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.parquet").write_text("mine")
    options = ("--data", tmp_path / "no images here", "-o", tmp_path / "r.html")
    refusal("report", *options, "--save-map", tmp_path / name)
    assert (tmp_path / "there.parquet").read_text() == "mine"


def test_umap_is_asked_for_only_if_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    error = refusal("report", "--data", tmp_path / "no images here", "-o", tmp_path / "r.html", "--umap")
    error.expect("NCTransferError", "UMAP", hint="pip install")


@pytest.mark.parametrize("name", ["r.pdf", "r", "r.html.gz"])
def test_a_page_is_named_as_one(made: Path, tmp_path: Path, name: str) -> None:
    refusal("report", made, "-o", tmp_path / name).expect("SettingError", name, hint=".html")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused_before_images_run(tmp_path: Path) -> None:
    error = refusal("report", "--data", tmp_path / "no images here", "-o", tmp_path / "none" / "r.html")
    error.expect("NCTransferError", str(tmp_path / "none" / "r.html"))


def test_the_map_is_a_table_too(made: Path, tmp_path: Path) -> None:
    import pandas as pd

    done("report", made, "-o", tmp_path / "r.html", "--save-map", tmp_path / "map.parquet")
    frame = pd.read_parquet(tmp_path / "map.parquet")
    assert len(frame) == 51
    assert {"id", "label", "x", "y", "neighbors"} <= set(frame.columns)


# How many images are looked at


@pytest.mark.parametrize(
    ("counts", "most", "limit"),
    [([10, 10], 20, None), ([10, 10], 19, 9), ([3, 50, 50], 43, 20), ([5, 5, 5], 2, 2), ([2, 1000], 500, 498)],
)
def test_classes_get_as_many_images_as_there_is_room_for(counts: list[int], most: int, limit: int | None) -> None:
    assert per_class(counts, most) == limit


def test_fewer_images_are_drawn_evenly_and_always_the_same() -> None:
    features = set_of(normal_classes([30, 10, 4]))
    fewer = at_most(features, 16)
    assert fewer.counts.tolist() == [6, 6, 4]
    assert at_most(features, 16).ids == fewer.ids
    assert at_most(features, 44) is features


def test_the_page_says_that_it_looks_at_some_images(made: Path, tmp_path: Path) -> None:
    result = done("report", made, "-o", tmp_path / "r.html", "--max-images", 20, "--format", "json")
    printed = json.loads(result.stdout)
    assert (printed["features"]["samples"], printed["images_of"]) == (20, 51)
    assert warned(result, 20, 51)
    assert "20 of 51" in page(tmp_path / "r.html").text


# What cannot be measured


def test_a_question_without_an_answer_does_not_cost_the_others() -> None:
    def fails() -> int:
        raise FeaturesError("too few", "add some")

    assert tried(fails) == Missing(reason="too few; add some")
    with pytest.raises(ZeroDivisionError):
        tried(lambda: 1 // 0)


def test_classes_of_one_image_are_left_out() -> None:
    found = measure({"a": set_of(normal_classes([6, 6, 1]))}, device="cpu")
    assert len(found.features.classes) == 2
    assert any("0002" in note for note in found.left_out)


def test_a_class_of_one_image_does_not_cost_the_ranking() -> None:
    sets = {"a": set_of(normal_classes([6, 6, 1])), "b": set_of(normal_classes([6, 6, 1], within=2.0))}
    found = measure(sets, device="cpu")
    assert not isinstance(found.ranking, Missing | None)
    assert found.ranking.classes == 2
    assert not isinstance(found.audit, Missing)
    assert len(found.audit.labels) == 12


def test_classes_of_two_images_give_a_page(tmp_path: Path) -> None:
    written = nct.write_report(set_of(normal_classes([2, 2])), tmp_path / "r.html", device="cpu")
    assert written.page.sections[0].id == "verdict"
    assert page(tmp_path / "r.html").sections == [section.id for section in written.page.sections]


def test_without_two_classes_there_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(FeaturesError):
        nct.write_report(set_of(normal_classes([5])), tmp_path / "r.html", device="cpu")
    with pytest.raises(SettingError):
        nct.write_report({}, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_the_same_features_give_the_same_page(tmp_path: Path) -> None:
    features = set_of(normal_classes([6, 6, 6]))
    pages = []
    for _ in range(2):
        nct.write_report(features, tmp_path / "r.html", overwrite=True, device="cpu")
        pages.append(re.sub(r"seconds.*?</d[dl]>", "", (tmp_path / "r.html").read_text("utf-8"), flags=re.DOTALL))
    assert pages[0] == pages[1]


def test_targets_are_asked_for(tmp_path: Path) -> None:
    asked = Questions(targets=[0.5])
    written = nct.write_report(set_of(normal_classes([9, 9])), tmp_path / "r.html", asked=asked, device="cpu")
    assert [one["target"] for one in written.to_dict()["labels_needed"]] == [0.5]


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "r.html"
    folder.mkdir()
    with pytest.raises(NCTransferError, match="folder"):
        nct.write_report(set_of(normal_classes([5, 5])), folder, device="cpu")


def test_layers_are_of_the_images_that_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_digits(tmp_path / "pets", {"zero": 0, "one": 1}, 6)
    asked: list[Questions] = []
    write = nct.write_report

    def seen(*args: Any, **options: Any) -> Any:
        asked.append(options["asked"])
        return write(*args, **options)

    monkeypatch.setattr("nctransfer.page.report_page.write_report", seen)
    options = ("--layers", "all", "--max-images", 8, "--cache-dir", tmp_path / "cache")
    done("report", *VIT, "--data", data, "-o", tmp_path / "r.html", *options)
    assert {len(layer) for layer in asked[0].layers.values()} == {8}


def test_the_sizes_of_classes_are_those_of_all_images(tmp_path: Path) -> None:
    rows, labels = labelled(normal_classes([40, 5, 5]))
    np.savez(tmp_path / "made.npz", features=rows.astype(np.float32), labels=labels)
    done("report", tmp_path / "made.npz", "-o", tmp_path / "r.html", "--max-images", 15)
    text = page(tmp_path / "r.html").text
    assert "Class 0000 has 40 images, the most, and 2 classes have 5 images each, the fewest." in text
    written = nct.write_report(set_of(normal_classes([40, 5, 5])), tmp_path / "l.html", most_images=15, device="cpu")
    assert list(written.measured.of.values()) == [40, 5, 5]
    assert len(written.measured.features) == 15


# What a page says of labels


def suspected(found: Measured, *kinds: str) -> Verdict:
    """The verdict on labels if flags of some kinds are looked for."""
    again = replace(found, audit=nct.audit(found.features, kinds=kinds, device="cpu"))
    return [
        block for block in verdict_section(again).blocks if isinstance(block, Verdict) and "to check" in block.label
    ][-1]


def test_two_labels_of_one_picture_are_to_be_checked_whether_or_not_one_is_flagged() -> None:
    rows, labels = labelled(normal_classes([30, 30], 20, apart=2.0))
    rows[40] = rows[3] + 0.001  # in the other class
    labels[[8, 9]] = labels[40]  # two wrong labels
    found = measure({"a": nct.FeatureSet.from_arrays(rows, labels)}, device="cpu")
    flagged, unflagged = suspected(found, "label", "duplicate"), suspected(found, "duplicate")
    assert (flagged.value, unflagged.value) == ("3", "1")  # the label of 40 is flagged too, and counts once
    assert "of 3 flagged labels are expected to be wrong" in flagged.detail
    assert unflagged.detail == "1 image shows the same picture as one of another class"


def test_the_hardest_classes_are_named_together() -> None:
    found = measure({"a": set_of(normal_classes([8, 8, 8], 2, apart=0.3))}, device="cpu")
    assert not isinstance(found.fit, Missing)
    equal = [replace(one, right=3) for one in found.fit.classes]
    for classes, said in (
        ([*equal[:2], replace(equal[2], right=8)], f"classes are {equal[0].name}, {equal[1].name}: 6 of their 16"),
        ([replace(equal[0], right=1), *equal[1:]], f"class is {equal[0].name}: 1 of its 8"),
    ):
        section = verdict_section(replace(found, fit=replace(found.fit, classes=tuple(classes))))
        assert any(said in block.text for block in section.blocks if isinstance(block, Paragraph))


# What is passed on


def test_the_page_does_not_tell_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "ann"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    rows, labels = labelled(normal_classes([8, 8]))
    info = FeatureInfo("pets", data=str(home / "data" / "pets"), model="resnet50")
    features = replace(nct.FeatureSet.from_arrays(rows, labels, info=info), images=torch.arange(16))
    made_by = {"command": f"nctransfer report --data={home / 'data'}", "versions": {}}
    nct.write_report(features, tmp_path / "r.html", provenance=made_by, device="cpu")
    text = (tmp_path / "r.html").read_text("utf-8")
    assert str(home) not in text
    assert "~/data/pets" in text


# The file


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_stays_and_its_file_is_written(made: Path, tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    link = tmp_path / "latest.html"
    link.symlink_to(tmp_path / "pages" / "today.html")
    refusal("report", made, "-o", link).expect("NCTransferError", str(link), hint="--overwrite")
    done("report", made, "-o", link, "--overwrite")
    assert link.is_symlink()
    assert "verdict" in page(tmp_path / "pages" / "today.html").sections
    (tmp_path / "lost.html").symlink_to(tmp_path / "none" / "lost.html")
    refusal("report", made, "-o", tmp_path / "lost.html", "--overwrite").expect("NCTransferError", "none")
