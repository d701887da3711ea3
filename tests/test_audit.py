"""An audit flags what was planted: wrong labels, duplicates, outliers; and labels can be corrected by hand."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import nctransfer as nct
from clusters import normal_classes, set_of
from conftest import write_digits
from messages import raises
from nctransfer.errors import EpisodeError, FeaturesError, NCTransferError, SettingError
from nctransfer.escaping import unguarded
from nctransfer.features.feature_set import FeatureSet
from nctransfer.label_audit.corrections import write_corrections
from nctransfer.label_audit.duplicate_groups import extra_images
from nctransfer.label_audit.near_duplicates import NearDuplicates
from nctransfer.label_audit.outliers import outliers
from nctransfer.report.audit_sheets import audit_sheets
from terminal import VIT, data_of, done, misused, noted, refusal, shows, warnings_of

WRONG = {"003": "b", "055": "c"}  # image and the label that it gets
CONTRADICTS, REPEATS, ODD = ("060", "100"), ("010", "011"), "110"


def planted() -> FeatureSet:
    """Three classes of 40 images; two labels are wrong, two pairs are near-duplicates, and one image is odd."""
    rows = np.concatenate(normal_classes([40, 40, 40], 30, within=0.3))
    rng = np.random.default_rng(0)
    for one, other in (CONTRADICTS, REPEATS):
        rows[int(other)] = rows[int(one)] + 0.05 * rng.normal(size=30)
    rows[int(ODD)] = np.random.default_rng(5).normal(size=30)
    labels = dict(zip(map("{:03}".format, range(120)), np.repeat(["a", "b", "c"], 40).tolist(), strict=True)) | WRONG
    return FeatureSet.from_arrays(rows, labels.values(), labels)


def turned(features: FeatureSet) -> FeatureSet:
    """The features of another backbone, which is as good."""
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(features.dim, features.dim)))
    noise = 0.02 * torch.from_numpy(np.random.default_rng(2).normal(size=features.features.shape))
    return replace(features, features=features.features @ torch.from_numpy(turn) + noise)


@pytest.fixture(scope="module")
def found() -> nct.AuditResult:
    return nct.audit(planted(), device="cpu")


# What is flagged


def test_what_was_planted_is_flagged_and_nothing_else(found: nct.AuditResult) -> None:
    assert {flag.id: flag.suggested for flag in found.of_kind("label")} == {"003": "a", "055": "b", "100": "b"}
    assert [(flag.id, flag.neighbours, flag.suggested) for flag in found.of_kind("duplicate")] == [
        ("100", ("060",), "b"),  # its label is the wrong one of the two: those around it are of class b
        ("011", ("010",), None),
    ]
    assert [flag.id for flag in found.of_kind("outlier")] == [ODD]
    assert found.counts == {"label": 3, "duplicate": 2, "outlier": 1}
    assert all(shows(warning, 120) for warning in found.warnings)  # that there are few images


def test_the_surest_come_first(found: nct.AuditResult) -> None:
    kinds = [(flag.kind, flag.contradicts) for flag in found.flags]
    assert kinds == [("duplicate", True), *[("label", False)] * 3, ("duplicate", False), ("outlier", False)]
    sure = [flag.expected_precision or 0.0 for flag in found.of_kind("label")]
    assert sure == sorted(sure, reverse=True)


def test_each_label_has_its_nearest_images(found: nct.AuditResult) -> None:
    features = planted().features - planted().features.mean(dim=0)
    unit = torch.nn.functional.normalize(features, dim=1)
    given = planted()
    names = [given.classes[code] for code in given.labels.tolist()]
    for flag in found.of_kind("label"):
        row = given.ids.index(flag.id)
        distance = (unit - unit[row]).norm(dim=1)
        distance[row] = torch.inf
        for label, neighbour in zip((flag.given, flag.suggested), flag.neighbours, strict=True):
            rows = [place for place, name in enumerate(names) if name == label]
            assert given.ids[min(rows, key=distance.__getitem__)] == neighbour


def test_the_expected_number_of_errors_is_the_sum_of_the_expected_precisions(found: nct.AuditResult) -> None:
    assert found.expected_wrong == pytest.approx(sum(flag.expected_precision or 0 for flag in found.of_kind("label")))
    assert 2 < found.expected_wrong <= 3
    assert found.noise_rate == pytest.approx(3 / 120, abs=0.01)


def test_a_lower_level_flags_more_labels() -> None:
    overlapping = set_of(normal_classes([40] * 4, 8, apart=1.0))
    flipped = replace(overlapping, labels=overlapping.labels.roll(8))
    flipped = FeatureSet.from_arrays(flipped.features, [f"c{code}" for code in flipped.labels.tolist()], flipped.ids)
    numbers = [nct.audit(flipped, kinds=["label"], level=level, device="cpu").counts for level in (0.05, 0.3, 0.9)]
    assert numbers[0]["label"] > numbers[1]["label"] >= numbers[2]["label"]


def test_only_the_kinds_that_are_asked_for() -> None:
    found = nct.audit(planted(), kinds=["duplicate"], device="cpu")
    assert found.counts == {"duplicate": 2}
    assert (found.noise_rate, found.outliers_by_chance) == (None, None)
    assert [flag.expected_precision for flag in found.flags] == [None, None]
    assert found.to_dict()["expected_wrong"] is None
    assert [sheet.title for sheet in audit_sheets(found)] == ["Near-duplicates"]


def test_several_backbones_decide_together() -> None:
    both = nct.audit([planted(), turned(planted())], device="cpu")
    assert {flag.id for flag in both.of_kind("label")} == {"003", "055", "100"}
    assert {flag.agreement for flag in both.flags} == {2}
    noise = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(120, 5)), _names(planted()), planted().ids)
    doubtful = nct.audit([planted(), noise], kinds=["label"], level=0.2, device="cpu")
    assert 1 in {flag.agreement for flag in doubtful.flags}
    assert "1 of 2" in {row[-1] for row in audit_sheets(doubtful)[0].rows}


def _names(features: FeatureSet) -> list[str]:
    return [features.classes[code] for code in features.labels.tolist()]


def test_images_that_not_all_sets_have_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    given = planted()
    fewer = given.only_rows(torch.arange(1, 120))
    found = nct.audit([given, fewer], device="cpu")
    assert len(found.labels) == 119
    assert "1 sample" in caplog.text


def test_an_image_that_is_alone_in_its_class_is_not_judged() -> None:
    given = planted()
    names = _names(given)
    names[0] = "alone"
    found = nct.audit(FeatureSet.from_arrays(given.features, names, given.ids), device="cpu")
    warning, _ = found.warnings
    assert "alone" in warning
    assert given.ids[0] not in {flag.id for flag in found.of_kind("label")}


# Outliers


def test_outliers_need_enough_images_and_more_than_one_class() -> None:
    few = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(10, 4)), "ab" * 5)
    one = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(50, 4)), "a" * 50)
    assert not outliers([few], 0.5, device="cpu").flagged.any()
    assert not outliers([one], 0.5, device="cpu").flagged.any()


def test_unlikeness_is_in_standard_deviations() -> None:
    found = outliers([set_of(normal_classes([300] * 6, 40, within=0.4))], 0.5, device="cpu")
    assert float(found.unlikeness.median()) == pytest.approx(0, abs=1e-3)
    assert float((found.unlikeness.abs() < 1.4826**-1).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert int(found.flagged.sum()) <= 3


# Groups of duplicates


def pairs(*each: tuple[int, int, float]) -> NearDuplicates:
    first, second, closeness = (torch.tensor(column) for column in zip(*each, strict=True))
    return NearDuplicates(first, second, closeness, torch.zeros(len(first)).bool(), torch.ones(len(first)).long())


def test_the_image_whose_label_is_least_in_doubt_is_kept() -> None:
    doubt = torch.tensor([0.2, 0.1, 0.9, 0.0, 0.0, 0.0])
    extras = extra_images(pairs((0, 1, 0.5), (0, 2, 0.1), (1, 2, 0.3), (4, 5, 0.2)), doubt)
    assert [(one.image, one.like, round(one.closeness, 1)) for one in extras] == [(5, 4, 0.2), (2, 1, 0.3), (0, 2, 0.1)]


# The result


def test_the_dictionary_is_what_the_interface_promises(found: nct.AuditResult) -> None:
    data = json.loads(json.dumps(found.to_dict()))
    assert (data["images"], data["contradictions"], data["counts"]["label"]) == (120, 1, 3)
    promised = {"id", "given", "suggested", "margin", "neighbours", "kind", "expected_precision"}
    assert all(promised <= set(flag) for flag in data["flags"])


def test_the_frame_has_a_row_for_each_flag(found: nct.AuditResult) -> None:
    frame = found.to_frame()
    assert frame["id"].tolist() == [flag.id for flag in found.flags]
    assert "neighbours" not in frame
    labels = frame[frame["kind"] == "label"]
    assert labels["suggested_neighbour"].notna().all()
    empty = nct.audit(set_of(normal_classes([20, 20], 30)), kinds=["duplicate"], device="cpu").to_frame()
    assert (len(empty), list(empty)) == (0, list(frame))


def test_the_table_shows_the_surest_and_says_how_many_more(found: nct.AuditResult) -> None:
    labels, duplicates, odd = audit_sheets(found, 1)
    assert [len(sheet.rows) for sheet in (duplicates, labels, odd)] == [1, 1, 1]
    assert shows(duplicates.reading, "1 more")
    assert shows(labels.reading, 3, f"{found.expected_wrong:.1f}", "2 more")
    assert "more" not in audit_sheets(found, None)[0].reading


def test_the_table_leaves_out_the_folder_of_all_images_and_those_of_classes() -> None:
    given = planted()
    ids = [f"data/pets/{name}/{key}.png" for name, key in zip(_names(given), given.ids, strict=True)]
    inside = nct.audit(FeatureSet.from_arrays(given.features, _names(given), ids), device="cpu")
    labels, duplicates, _ = audit_sheets(inside)
    assert labels.facts["images in"] == "data/pets/"
    assert [row[0] for row in duplicates.rows] == ["c/100.png", "a/011.png"]
    assert {row[0] for row in labels.rows} == {"b/003.png", "c/055.png", "c/100.png"}
    assert all("/" not in cell for row in labels.rows for cell in row[5:7])


@pytest.mark.parametrize(
    ("options", "kind", "facts", "hint"),
    [
        ({"kinds": ["lable"]}, SettingError, ["lable"], "--kind"),
        ({"kinds": []}, SettingError, [], "--kind"),
        ({"level": 0.0}, SettingError, [0], "--level"),
        ({"level": 1.5}, SettingError, [1.5], "--level"),
    ],
)
def test_wrong_settings_are_refused(options: Any, kind: type[NCTransferError], facts: Any, hint: str) -> None:
    with raises(kind, *facts, hint=hint):
        nct.audit(planted(), device="cpu", **options)


@pytest.mark.parametrize("labels", ["aaaa", "aaab"])
def test_labels_cannot_be_judged_without_a_second_class(labels: str) -> None:
    given = FeatureSet.from_arrays(np.eye(4), labels)
    with raises(FeaturesError, 1, hint="--kind"):
        nct.audit(given, device="cpu")
    assert nct.audit(given, kinds=["duplicate", "outlier"], device="cpu").flags == ()


def test_sets_of_other_images_and_no_sets_are_refused() -> None:
    with raises(FeaturesError):
        nct.audit([])
    given = planted()
    others = replace(given, ids=tuple(f"other {name}" for name in given.ids))
    with raises(EpisodeError):
        nct.audit([given, others], device="cpu")


# The table to correct labels in


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_all_images_are_in_the_table_and_those_with_flags_come_first(
    suffix: str, found: nct.AuditResult, tmp_path: Path
) -> None:
    path = tmp_path / f"labels{suffix}"
    write_corrections(found, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines] if suffix == ".jsonl" else table(path)
    assert {row["path"]: row["label"] for row in rows} == found.labels
    flagged = list(dict.fromkeys(flag.id for flag in found.flags))
    assert [row["path"] for row in rows[: len(flagged)]] == flagged
    assert (rows[0]["kind"], rows[0]["suggested"], rows[0]["like"]) == ("duplicate label", "b", "060")
    assert {row["kind"] for row in rows[len(flagged) :]} == {""}


@pytest.mark.parametrize("name", ['a "quoted", name', " spaces ", "two\nlines", "ü", "=1+1"])
def test_any_name_comes_back(name: str, tmp_path: Path) -> None:
    given = planted()
    names = [name if label == "a" else label for label in _names(given)]
    ids = [f"{name}/{key}.png" for key in given.ids]
    renamed = FeatureSet.from_arrays(given.features, names, ids)
    write_corrections(nct.audit(renamed, device="cpu"), tmp_path / "labels.csv")
    rows = {unguarded(row["path"]): unguarded(row["label"]) for row in table(tmp_path / "labels.csv")}
    assert rows == dict(zip(ids, names, strict=True))


def test_a_name_that_is_not_unicode_is_an_error(tmp_path: Path) -> None:
    given = planted()
    broken = replace(given, ids=("\udcff.png", *given.ids[1:]))
    with raises(NCTransferError, "udcff"):
        write_corrections(nct.audit(broken, device="cpu"), tmp_path / "labels.csv")
    assert list(tmp_path.iterdir()) == []


# The command

SMALL = ("--img-size", "64")  # a real backbone on small images


MOVED = {"zero": "four", "one": "zero", "seven": "two"}


def confused(folder: Path) -> Path:
    """Pets of five kinds; three images lie in the folder of another class, and one image is there twice."""
    write_digits(folder, {"zero": 0, "one": 1, "two": 2, "seven": 7, "four": 4}, 20)
    for old, new in MOVED.items():
        (folder / old / "5.png").rename(folder / new / "moved.png")
    shutil.copy(folder / "one" / "3.png", folder / "one" / "copy.png")
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the features of :func:`confused` by a real backbone, and the images."""
    folder = tmp_path_factory.mktemp("audit")
    confused(folder / "pets")
    done("extract", *SMALL, "--data", folder / "pets", "--cache-dir", folder / "cache", "--quiet")
    return folder


def test_labels_are_corrected_by_hand(digits: Path, tmp_path: Path) -> None:
    images, corrected = digits / "pets", tmp_path / "labels.csv"
    cached = ("--cache-dir", digits / "cache")
    result = done("audit", *cached, "--corrections", corrected)
    assert shows(result.stdout, *[f"{new}/moved.png" for new in MOVED.values()], "one/copy.png")
    assert noted(result, corrected, "--image-root", images)
    rows = table(corrected)
    suggested = {row["path"]: row["suggested"] for row in rows if row["suggested"]}
    assert suggested == {f"{new}/moved.png": old for old, new in MOVED.items()}
    kept = [row | {"label": row["suggested"] or row["label"]} for row in rows if row["like"] == ""]
    with corrected.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    source = nct.open_source(corrected, nct.ReadingOptions(image_root=images))
    assert {(entry.id, entry.label) for entry in source.list()} >= {("four/moved.png", "zero"), ("one/0.png", "one")}
    again = data_of("audit", *SMALL, "--data", corrected, "--image-root", images, "--cache-dir", tmp_path / "new")
    assert (again["images"], again["counts"]["label"], again["counts"]["duplicate"]) == (100, 0, 0)
    options = ("--data", corrected, "--image-root", images, "--cache-dir", tmp_path / "new")
    result = done("audit", *SMALL, *options, "--corrections", tmp_path / "again.csv")
    assert noted(result, tmp_path / "again.csv", "--image-root", images)


def test_the_command_does_what_the_library_does(digits: Path, tmp_path: Path) -> None:
    features = nct.load_features("tf_efficientnet_lite0", cache_dir=digits / "cache")
    expected = nct.audit(features, kinds=["label", "duplicate"], level=0.3)
    options = ("--kind", "duplicate,label", "--level", "30%", "--cache-dir", digits / "cache")
    data = data_of("audit", "tf_efficientnet_lite0", *options)
    assert data["flags"] == json.loads(json.dumps(expected.to_dict()["flags"]))
    done("audit", "tf_efficientnet_lite0", *options, "--save-flags", tmp_path / "flags.parquet")
    assert pq.read_table(tmp_path / "flags.parquet")["id"].to_pylist() == [flag.id for flag in expected.flags]


def npz(path: Path, features: FeatureSet) -> Path:
    np.savez(path, features=features.features.numpy(), labels=_names(features), ids=features.ids)
    return path


def test_several_sets_and_files_made_elsewhere(tmp_path: Path) -> None:
    one, other = (npz(tmp_path / f"{n}.npz", one) for n, one in enumerate((planted(), turned(planted()))))
    both = data_of("audit", one, other)
    assert both["sets"] == [str(one), str(other)]
    assert {flag["agreement"] for flag in both["flags"]} == {2}
    result = done("audit", one, other, "--corrections", tmp_path / "labels.csv")
    assert shows(result.stdout, "2 of 2")
    assert noted(result, tmp_path / "labels.csv", "--image-root")


@pytest.mark.parametrize("form", ["csv", "markdown", "latex", "html"])
def test_every_format_shows_the_flags(form: str, tmp_path: Path) -> None:
    shown = done("audit", npz(tmp_path / "set.npz", planted()), "--format", form).stdout
    assert ODD in shown


@pytest.mark.parametrize(
    ("options", "kind", "facts", "hint"),
    [
        (["--kind", "label,odd"], "SettingError", ["odd"], "--kind"),
        (["--corrections", "labels.txt"], "SettingError", ["labels.txt"], ".csv"),
        (["--corrections", "none/labels.csv"], "NCTransferError", ["labels.csv"], "--corrections"),
        (["--corrections", "there.csv"], "NCTransferError", ["there.csv"], "--overwrite"),
        (["--corrections", "folder.csv", "--overwrite"], "NCTransferError", ["folder.csv"], "--corrections"),
        (["--corrections", "new.csv", "--output", "new.csv"], "SettingError", ["new.csv"], "--corrections"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    options: list[str], kind: str, facts: Iterable[object], hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("labels that somebody corrected")
    (tmp_path / "folder.csv").mkdir()
    error = refusal("audit", "no such set", *options)
    assert error.type == kind
    assert shows(error.message, *facts)
    assert shows(error.hint, hint)
    assert (tmp_path / "there.csv").read_text() == "labels that somebody corrected"


def test_a_table_is_replaced_if_the_user_says_so(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("old")
    done("audit", npz(tmp_path / "set.npz", planted()), "--corrections", path, "--overwrite")
    assert len(table(path)) == 120


@pytest.mark.parametrize("options", [("--level", "2"), ("--level", "50%,20%"), ("--most", "many")])
def test_values_that_cannot_be_read_are_wrong_usage(options: tuple[str, str]) -> None:
    assert shows(misused("audit", *options), *options)


def test_one_class_is_refused_before_images_run(tmp_path: Path) -> None:
    write_digits(tmp_path / "pets", {"zero": 0}, 3)
    error = refusal("audit", *VIT, "--data", tmp_path / "pets")
    assert (error.type, shows(error.hint, "--kind")) == ("FeaturesError", True)
    assert not any((tmp_path / "cache").rglob("*.parquet"))


def test_a_class_of_one_image_is_warned_about(tmp_path: Path) -> None:
    given = planted()
    alone = FeatureSet.from_arrays(given.features, ["alone", *_names(given)[1:]], given.ids)
    warning, _ = warnings_of(done("audit", npz(tmp_path / "set.npz", alone)))
    assert shows(warning, "alone")


def test_the_most_doubtful_labels_are_shown_where_none_is_flagged() -> None:
    found = nct.audit(set_of(normal_classes([30] * 4, 6, apart=1.2)), level=0.999, device="cpu")
    assert [warning for warning in found.warnings if shows(warning, 120)]
    assert found.of_kind("label") == ()
    assert 0 < len(found.doubtful) <= 5
    margins = [flag.margin or 0.0 for flag in found.doubtful]
    assert margins == sorted(margins, reverse=True)
    assert margins[-1] > 0
    labels = audit_sheets(found)[0]
    assert [row[0] for row in labels.rows] == [flag.id for flag in found.doubtful]
    assert [flag["id"] for flag in found.to_dict()["doubtful"]] == [flag.id for flag in found.doubtful]
