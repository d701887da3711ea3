"""``fewshot --group``, ``--across-groups`` and ``collapse --fine-column``: options, results, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

import nctransfer as nct
from conftest import write_digits
from terminal import VIT, data_of, done, refusal, tables

TASK = ("--ways", "3", "--queries", "3", "--episodes", "60", "--classifier", "ncc")
SITES = ("east", "north", "south")


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features made elsewhere, with a site and a kind; images of class f are all of one site."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("made") / "features.npz"
    codes = np.repeat(np.arange(6), 24)
    site = np.where(codes == 5, 0, np.arange(144) % 3)
    x = rng.normal(size=(6, 8))[codes] + 2 * rng.normal(size=(3, 8))[site] + rng.normal(size=(144, 8))
    kind = np.array(["round", "square"])[np.arange(144) // 12 % 2]
    np.savez(path, feature=x, label=np.array([*"abcdef"])[codes], site=np.array(SITES)[site], kind=kind)
    return path


def test_by_group_it_is_what_the_library_says(npz: Path) -> None:
    found = data_of("fewshot", npz, *TASK, "--group", "site", "--seed", "3")
    features = nct.load_features(str(npz), attributes=("site",))
    expected = nct.fewshot_by_group(features, "site", 3, queries=3, episodes=60, classifiers="ncc", seed=3)
    assert found["column"] == "site"
    assert found["results"] == json.loads(json.dumps(expected.to_dict()["results"]))


def test_the_table_has_the_worst_group_first(npz: Path) -> None:
    [head, *rows] = tables(done("fewshot", npz, *TASK, "--group", "site").stdout)[0]
    assert head[0] == "site"
    accuracies = [float(row[3]) for row in rows]
    assert accuracies == sorted(accuracies)
    assert sorted(row[0] for row in rows) == sorted(SITES)


def test_across_groups_it_is_what_the_library_says(npz: Path) -> None:
    found = data_of("fewshot", npz, *TASK, "--group", "site", "--across-groups", "--drop-small")
    features = nct.load_features(str(npz), attributes=("site",))
    expected = nct.fewshot_across_groups(
        features, "site", 3, queries=3, episodes=60, classifiers="ncc", drop_small=True
    )
    assert found["dropped"] == ["f"]
    assert found["results"] == json.loads(json.dumps(expected.to_dict()["results"]))
    shown = tables(done("fewshot", npz, *TASK, "--group", "site", "--across-groups", "--drop-small").stdout)[0]
    assert [row[3:5] for row in shown[1:]] == [["other", "groups"], ["all", "groups"], ["the", "same"]]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_flat_rows_across_groups_are_of_all_groups_and_of_each(form: str, npz: Path) -> None:
    command = ("fewshot", npz, *TASK, "--group", "site", "--across-groups", "--drop-small")
    groups = data_of(*command)["results"][0]["groups"]
    text = done(*command, "--format", form).stdout
    rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else list(map(json.loads, text.splitlines()))
    assert [row["group"] or None for row in rows] == [None, *SITES]
    assert [str(row["images"]) for row in rows[1:]] == [str(group["images"]) for group in groups]
    assert [float(row["accuracy"]) for row in rows[1:]] == [group["accuracy"] for group in groups]


def test_fine_classes_are_what_the_library_says(npz: Path) -> None:
    found = data_of("collapse", npz, "--fine-column", "kind")
    expected = nct.fine_structure(nct.load_features(str(npz), attributes=("kind",)), "kind")
    assert [layer["accuracy"] for layer in found["layers"]] == [layer.accuracy for layer in expected.layers]
    assert [row[0] for row in tables(done("collapse", npz, "--fine-column", "kind").stdout)[0][1:]] == ["feature"]


@pytest.mark.parametrize("suffix", ["npz", "parquet", "safetensors"])
def test_groups_of_several_columns(suffix: str, npz: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(npz))
    arrays["site"][:5] = ""  # these have no group
    joined = [f"{site}/{kind}" if site else "" for site, kind in zip(arrays["site"], arrays["kind"], strict=True)]
    given = tmp_path / f"two.{suffix}"
    texts = {name: arrays[name].tolist() for name in ("label", "site", "kind")} | {"both": joined}
    if suffix == "npz":
        np.savez(given, **arrays, both=joined)
    elif suffix == "parquet":
        pq.write_table(pa.table({"feature": list(arrays["feature"]), **texts}), given)
    else:
        codes = np.unique(arrays["label"], return_inverse=True)[1]
        metadata = {name: json.dumps(values) for name, values in texts.items() if name != "label"}
        save_file({"feature": arrays["feature"], "label": codes}, given, metadata)
    for command in (("fewshot", *TASK, "--group"), ("collapse", "--fine-column")):
        one, other = (data_of(*command[:1], given, *command[1:], column) for column in ("both", "site, kind"))
        assert other.pop("column") == "site, kind"
        assert {**one, "column": "site, kind", "provenance": 0} == {**other, "column": "site, kind", "provenance": 0}
    groups = {
        group["name"] for group in data_of("fewshot", given, *TASK, "--group", "site,kind")["results"][0]["groups"]
    }
    assert groups == {f"{site}/{kind}" for site in SITES for kind in ("round", "square")}
    refusal("fewshot", given, *TASK, "--group", "site,camera").expect("FeaturesError", "camera")


def test_groups_and_fine_classes_of_a_manifest_with_layers(tmp_path: Path) -> None:
    write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 8)
    lines = ["path,label,site,kind"]
    for number, path in enumerate(sorted((tmp_path / "pets").rglob("*.png"))):
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name},{SITES[number % 2]},{number % 4 // 2}")
    (tmp_path / "pets.csv").write_text("\n".join(lines))
    done("extract", *VIT, "--data", tmp_path / "pets.csv", "--layers", "all", "--quiet")
    found = data_of("fewshot", "--ways", "2", "--queries", "1", "--episodes", "20", "--group", "site")
    assert [group["name"] for group in found["results"][0]["groups"]] == ["east", "north"]
    both = data_of("fewshot", "--ways", "2", "--queries", "1", "--episodes", "20", "--group", "site,kind")
    assert [group["name"] for group in both["results"][0]["groups"]] == ["east/0", "east/1", "north/0", "north/1"]
    layers = data_of("collapse", "--fine-column", "kind", "--layers", "all")["layers"]
    assert [layer["name"] for layer in layers][-1] == "feature"
    assert len(layers) > 1


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("--across-groups",), "--group"),
        (("--group", "site", "--probe"), "--probe"),
        (("--group", "site", "--confusions", "3"), "--confusions"),
        (("--group", "site", "--no-theory"), "--no-theory"),
        (("--group", "site", "--layers", "all"), "--layers"),
        (("--group", "site", "--interval", "disjoint"), "--interval"),
        (("--group", "site", "--across-groups", "--interval", "samples"), "--interval"),
        (("--group", "site", "--across-groups", "--query-split", "test"), "--query-split"),
    ],
)
def test_what_does_not_go_with_groups_is_refused(npz: Path, arguments: tuple[str, ...], option: str) -> None:
    error = refusal("fewshot", npz, *TASK, *arguments)
    assert (error.type, option in error.hint) == ("SettingError", True)


@pytest.mark.parametrize(
    "options",
    [("--interval", "disjoint"), ("--across-groups", "--interval", "samples"), ("--query-prior", "empirical")],
)
def test_wrong_tasks_are_refused_before_anything_is_read(options: tuple[str, ...]) -> None:
    assert refusal("fewshot", "no-such-set", *TASK, "--group", "site", *options).type == "SettingError"


def test_several_sets_by_group_are_refused(npz: Path) -> None:
    assert refusal("fewshot", npz, npz, *TASK, "--group", "site").type == "SettingError"


@pytest.mark.parametrize("others", [("--head",), ("--pairs", "3"), ("--source-train", "a", "--source-test", "b")])
def test_what_does_not_go_with_fine_classes_is_refused(npz: Path, others: tuple[str, ...]) -> None:
    error = refusal("collapse", npz, "--fine-column", "kind", *others)
    assert (error.type, others[0] in error.message) == ("SettingError", True)


@pytest.mark.parametrize(
    "command", [("fewshot", *TASK, "--group", "site"), ("collapse", "--fine-column", "kind")], ids=lambda one: one[0]
)
def test_a_figure_is_drawn(npz: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done(*command, npz, "--figure", tmp_path / "x.svg")
    drawn = (tmp_path / "x.svg").read_text()
    assert command[-1] in drawn


@pytest.mark.parametrize("command", [("fewshot", *TASK, "--group"), ("collapse", "--fine-column")])
def test_a_column_that_is_not_there_is_an_error(npz: Path, command: tuple[str, ...]) -> None:
    error = refusal(*command, "place", npz)
    assert (error.type, "place" in error.message) == ("FeaturesError", True)
