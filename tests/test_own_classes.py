"""Classes that hold for one command: what is only measured by other classes leaves those of the stored sets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file

import nctransfer as nct
from conftest import write_digits
from messages import logged
from nctransfer.backbones.request import BackboneRequest
from nctransfer.rank.candidates import candidates_of
from nctransfer.rank.contenders import RunBackbone, Workplace
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store import source_listing
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.listings import Listed, Listing, changed_classes
from nctransfer.store.pipeline import Runtime, Task
from nctransfer.store.source_listing import SourceListing
from nctransfer.store.wanted_images import wanted_images
from terminal import SMALL, data_of, done, noted, warned, warnings_of
from tiny import state_of

RESNET = ("--model", "test_resnet", "--random-init")
SPECIES, BREEDS = ("one", "two", "zero"), ("Manx", "Pug", "Rex", "Tabby")
BY_BREED = ("--label-column", "breed")
LEFT_OUT = re.compile("path|second|speed|provenance|pareto")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A manifest of 36 digits that have a species, and a breed across it."""
    return manifest(write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 12))


def manifest(folder: Path) -> Path:
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    lines = [f"{path},{path.split('/')[0]},{BREEDS[row % 4]}" for row, path in enumerate(paths)]
    (folder / "pets.csv").write_text("\n".join(["path,species,breed", *lines]))
    return folder / "pets.csv"


@pytest.fixture
def stored(pets: Path) -> str:
    """The set that is stored by species, with one layer."""
    options = ("--label-column", "species", "--layers", 0)
    found: str = data_of("extract", *RESNET, "--data", pets, *options)["id"]
    return found


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were read for their digests alone."""
    names: list[str] = []
    read = source_listing.read_digests

    def noting(source: Any, images: Sequence[Any], workers: int | None) -> Any:
        names.extend(image.id for image in images)
        return read(source, images, workers)

    monkeypatch.setattr(source_listing, "read_digests", noting)
    return names


def plain(found: Any) -> Any:
    """Results without what depends on the clock and on where the cache is."""
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items() if not LEFT_OUT.search(name)}
    return [plain(value) for value in found] if isinstance(found, list) else found


def listed() -> Listing:
    """The one listing of the cache."""
    [path] = FeatureStore().root.glob("sources/*.parquet")
    return FeatureStore().listing(path.stem)


MEASURING = {
    "collapse": ("collapse", *RESNET),
    "layers in passes": ("collapse", *RESNET, "--layers", 0),
    "layers in memory": ("fewshot", *RESNET, *SMALL, "--layers", 0, "--classifier", "ncc"),
    "fewshot": ("fewshot", *RESNET, *SMALL),
    "groups": ("fewshot", *RESNET, *SMALL, "--group", "species", "--classifier", "ncc"),
    "labels": ("labels", *RESNET, "--most-shots", 4),
    "ood": ("ood", *RESNET),
}


@pytest.mark.parametrize("command", MEASURING)
def test_measured_by_breed_a_set_stays_stored_by_species(
    command: str, pets: Path, stored: str, ran: Callable[[], int], tmp_path: Path
) -> None:
    before, _ = listed(), ran()
    words = (*MEASURING[command], "--data", pets, *BY_BREED, "--format", "json")
    measured = done(*words)
    assert ran() == 0
    fresh = done(*words, "--cache-dir", tmp_path / "fresh")
    assert warnings_of(measured) == warnings_of(fresh)
    assert plain(json.loads(measured.stdout)) == plain(json.loads(fresh.stdout))
    assert noted(measured, len(BREEDS), len(SPECIES), "nctransfer extract")
    assert not noted(fresh, "nctransfer extract")
    assert listed().equals(before)
    assert nct.load_features(stored).classes == SPECIES


def test_what_is_measured_says_its_label_column(pets: Path, stored: str) -> None:
    named = data_of("collapse", stored)["features"]
    assert (named["classes"], named["label_column"]) == (3, None)
    own = data_of("collapse", *RESNET, "--data", pets, *BY_BREED)["features"]
    assert (own["classes"], own["label_column"]) == (4, "breed")


def test_extract_changes_the_classes_and_says_so(pets: Path, stored: str) -> None:
    changed = done("extract", *RESNET, "--data", pets, *BY_BREED)
    assert warned(changed, len(BREEDS), len(SPECIES), "--label-column")
    assert nct.load_features(stored).classes == BREEDS
    assert not warnings_of(done("extract", *RESNET, "--data", pets, *BY_BREED))
    assert "classes     4 (Manx, Pug, Rex, …)" in changed.stdout


def test_the_first_command_says_the_classes(pets: Path) -> None:
    name = data_of("collapse", *RESNET, "--data", pets, *BY_BREED)["features"]["id"]
    done("collapse", *RESNET, "--data", pets, "--label-column", "species")
    assert nct.load_features(name).classes == BREEDS


def test_digests_found_meanwhile_are_kept(pets: Path, ran: Callable[[], int], reads: list[str]) -> None:
    few = ("--label-column", "species", "--max-per-class", 2)
    name = data_of("extract", *RESNET, "--data", pets, *few)["id"]
    assert (ran(), int(listed().is_known.sum())) == (6, 6)
    by_breed = ("collapse", *RESNET, "--data", pets, *BY_BREED, "--format", "json")
    first = done(*by_breed)
    assert (ran(), len(reads)) == (30, 30)
    assert listed().is_known.all()
    assert plain(json.loads(done(*by_breed).stdout)) == plain(json.loads(first.stdout))
    assert (ran(), len(reads)) == (0, 30)
    assert (nct.load_features(name).classes, len(nct.load_features(name))) == (SPECIES, 36)
    part = pq.read_table(FeatureStore().find(name).rows_path)
    assert set(part["class"].to_pylist()) == set(SPECIES)  # so that a listing that is lost is made anew of them


def test_a_depth_of_folders_is_for_one_command(pets: Path) -> None:
    root = pets.parent
    pets.unlink()
    for name in SPECIES:
        (root / name / "small").mkdir()
        for path in sorted((root / name).glob("*.png"))[:6]:
            path.rename(root / name / "small" / path.name)
    name = data_of("extract", *RESNET, "--data", root)["id"]
    fine = done("collapse", *RESNET, "--data", root, "--label-depth", 2, "--format", "json")
    assert json.loads(fine.stdout)["features"]["classes"] == 6
    assert not warned(fine, "--label-column")
    assert nct.load_features(name).classes == SPECIES
    assert len(nct.load_features(name, label_column="folder-1,folder-2").classes) == 6


def test_names_of_classes_are_for_one_command(pets: Path, tmp_path: Path) -> None:
    codes = {name: str(code) for code, name in enumerate(SPECIES)}
    lines = [line.split(",") for line in pets.read_text().splitlines()[1:]]
    text = "\n".join(["path,label,breed", *(f"{path},{codes[name]},{breed}" for path, name, breed in lines)])
    pets.write_text(text)
    (tmp_path / "names.txt").write_text("\n".join(SPECIES))
    name = data_of("extract", *RESNET, "--data", pets)["id"]
    named = ("--class-names", tmp_path / "names.txt")
    found = data_of("fewshot", *RESNET, *SMALL, "--data", pets, *named, "--classes", named[1])
    assert found["features"]["classes"] == 3
    assert nct.load_features(name).classes == ("0", "1", "2")
    assert nct.load_features(name, label_column="label").classes == ("0", "1", "2")


def test_other_images_in_other_classes_replace_what_is_listed(pets: Path, stored: str) -> None:
    """A new image has one class alone, that of the command: beside old classes it would be one of its own."""
    first, *lines = pets.read_text().splitlines()
    pets.write_text("\n".join([first, *lines[1:]]))
    same = ("collapse", *RESNET, "--data", pets, "--label-column", "species")
    assert not warned(done(*same), "--label-column")
    assert (nct.load_features(stored).classes, len(nct.load_features(stored))) == (SPECIES, 35)
    pets.write_text("\n".join([first, *lines]))
    changed = done("collapse", *RESNET, "--data", pets, *BY_BREED)
    assert warned(changed, len(BREEDS), len(SPECIES), "because images were added or removed", "--label-column")
    assert (nct.load_features(stored).classes, len(nct.load_features(stored))) == (BREEDS, 36)


def test_a_corrected_label_is_measured_and_stays_until_it_is_extracted(pets: Path, stored: str) -> None:
    pets.write_text(pets.read_text().replace("one/0.png,one", "one/0.png,two"))
    by_species = (*RESNET, "--data", pets, "--label-column", "species")
    data = data_of("collapse", *by_species)
    assert data["metrics"] != data_of("collapse", stored)["metrics"]
    assert warned(done("extract", *by_species), 3, 3, "--label-column")
    assert data["metrics"] == data_of("collapse", stored)["metrics"]


def test_a_command_without_a_name_says_that_the_classes_are_others(pets: Path, stored: str) -> None:
    assert not warned(done("collapse"), "--label-column")
    done("collapse", *RESNET, "--data", pets, *BY_BREED)
    following = done("collapse", "--format", "json")
    assert json.loads(following.stdout)["features"]["classes"] == len(SPECIES)
    assert warned(following, "--label-column")
    assert not warned(done("collapse"), "--label-column")  # the command before had the stored classes
    by_breed = done("collapse", *BY_BREED, "--format", "json")
    assert json.loads(by_breed.stdout)["features"]["classes"] == len(BREEDS)
    assert not warned(by_breed, "--label-column")
    done("collapse", stored)
    assert not warned(done("collapse"), "--label-column")


def test_a_trajectory_by_breed_leaves_the_species(pets: Path, stored: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        save_file(state_of("test_vit", seed), tmp_path / f"epoch-{seed}.safetensors")
    checkpoints = ("--model", "test_vit", "--checkpoints", tmp_path / "epoch-*", "--data", pets)
    words = ("trajectory", *checkpoints, *SMALL, "--no-theory")
    by_breed = data_of(*words, *BY_BREED)
    assert (last := FeatureStore().last_used()) is not None
    assert (last.stored.id, last.has_own_classes) == (by_breed["checkpoints"][-1]["fewshot"]["features"]["id"], True)
    assert set(listed().images.labels.to_pylist()) == set(SPECIES)
    fresh = data_of(*words, *BY_BREED, "--cache-dir", tmp_path / "fresh")
    assert plain(by_breed) == plain(fresh)
    assert plain(data_of(*words, "--label-column", "species")) != plain(by_breed)
    assert plain(data_of(*words, *BY_BREED)) == plain(by_breed)  # kept answers are those of the same classes


def test_a_candidate_of_a_ranking_leaves_the_species(pets: Path, stored: str, tmp_path: Path) -> None:
    store, wanted = FeatureStore(), Selection(max_per_class=5)
    source = open_source(pets, ReadingOptions(label_column="breed"))
    place = Workplace(
        store=store, source=source, listed=wanted_images(source, [wanted]), selection=wanted, runtime=Runtime()
    )
    [candidate] = candidates_of([BackboneRequest("test_resnet", random_init=True)])
    contender = RunBackbone(candidate=candidate, place=place)
    found = contender.features(None)
    assert (found.classes, found.counts.tolist()) == (BREEDS, [5, 5, 5, 5])
    alone = nct.extract(
        "test_resnet",
        pets,
        random_init=True,
        max_per_class=5,
        reading=ReadingOptions(label_column="breed"),
        cache_dir=tmp_path / "fresh",
    )
    assert found.ids == alone.ids
    assert found.labels.equal(alone.labels)
    assert nct.load_features(stored).classes == SPECIES
    contender.use()
    assert (last := store.last_used()) is not None
    assert (last.stored.id, last.has_own_classes) == (stored, True)


@pytest.mark.slow
def test_in_processes_of_their_own(pets: Path, stored: str, run: Any) -> None:
    named = run("collapse", stored, "--format", "csv").stdout
    own = run("collapse", *map(str, RESNET), "--data", pets, *BY_BREED, "--format", "csv")
    assert (own.returncode, "warning: the images" in own.stderr) == (0, False)
    assert own.stdout not in ("", named)
    assert run("collapse", stored, "--format", "csv").stdout == named


# Several at once


def task(pets: Path, column: str, keep_classes: bool) -> Task:
    source = open_source(pets, ReadingOptions(label_column=column))
    return Task(
        source=source,
        images=wanted_images(source, [Selection()]),
        selection=Selection(),
        runtime=Runtime(),
        tell=lambda *_: None,
        keep_classes=keep_classes,
    )


def test_of_two_commands_at_once_the_first_says_the_classes(pets: Path) -> None:
    store = FeatureStore()
    first, second = (SourceListing(store, task(pets, column, True)) for column in ("species", "breed"))
    first.update({"one/0.png": "a"})
    second.update({"two/0.png": "b"})
    for one in (first, second, first):
        one.save()
    first.update({"zero/0.png": "c"})
    first.save()
    assert set(listed().images.labels.to_pylist()) == set(SPECIES)
    assert sorted(filter(None, listed().digests.to_pylist())) == ["a", "b", "c"]
    assert first.in_other_classes() is None
    own = second.in_other_classes()
    assert own is not None
    assert set(own.images.labels.to_pylist()) == set(BREEDS)


def test_an_extraction_at_once_says_the_classes(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore()
    SourceListing(store, task(pets, "species", False)).save()
    measuring = SourceListing(store, task(pets, "species", True))
    assert logged(caplog, "--label-column") == []
    SourceListing(store, task(pets, "breed", False)).save()
    assert len(logged(caplog, "--label-column")) == 1
    measuring.update({"one/0.png": "a"})
    measuring.save()
    assert set(listed().images.labels.to_pylist()) == set(BREEDS)
    assert (own := measuring.in_other_classes()) is not None
    assert set(own.images.labels.to_pylist()) == set(SPECIES)
    assert own.digests.equals(listed().digests)


# Listings


def rows(*labels: str, order: Sequence[int] | None = None) -> Listing:
    every = [Listed(f"{number}.png", label, "", 1, 2, "") for number, label in enumerate(labels)]
    return Listing.of(every[number] for number in (order or range(len(labels))))


def test_how_many_classes_changed() -> None:
    one = rows("a", "b", "a").images
    assert changed_classes(one, rows("a", "b", "a", "c").images) is None
    assert changed_classes(one, rows("a", "b", "a", order=(2, 0, 1)).images) is None
    assert changed_classes(one, rows("a", "b", "c", order=(2, 0, 1)).images) == (2, 3)
    assert changed_classes(one, rows("b", "a", "b").images) == (2, 2)
    assert changed_classes(one, rows().images) is changed_classes(rows().images, one) is None


def test_images_stay_in_the_classes_of_another_order() -> None:
    now, before = rows("a", "b", "c"), rows("x", "y", "x", order=(2, 0, 1))
    assert [(row.id, row.label) for row in now.in_classes_of(before)] == [
        ("0.png", "x"),
        ("1.png", "y"),
        ("2.png", "x"),
    ]
    for other in (rows(), rows("x", "y"), rows("x", "y", "z", "x"), rows("x", "y", "z", "x")[1:]):
        assert now.in_classes_of(other) is now
