"""What is wanted less what is stored goes through the backbone, whatever happens on the way."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import logging
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from conftest import write_digits
from messages import logged, missing, says, those
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.hub import Progress
from nctransfer.backbones.names import DEFAULT_MODEL, resolve
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.weight_files import bundled
from nctransfer.errors import (
    BrokenImagesError,
    DataError,
    DeviceError,
    FeaturesError,
    ModelError,
    NCTransferError,
    StoreError,
    WeightsError,
)
from nctransfer.features.feature_set import FeatureSet
from nctransfer.sources import folder
from nctransfer.sources.decoding import decode
from nctransfer.sources.folder import ImageFolder
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source import ImageEntry, content_digest
from nctransfer.sources.tar_archive import TarArchive
from nctransfer.store import extraction, writing
from nctransfer.store.cache_folder import FeatureStore, load_features
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.extraction_report import ExtractionReport
from nctransfer.store.manifest import NAME
from nctransfer.store.pipeline import Runtime
from nctransfer.store.stored_set import StoredSet
from nctransfer.store.writing import SetWriter
from terminal import done

MODEL = "test_resnet"


def extract(data: Path, model: str = MODEL, **options: object) -> FeatureSet:
    """A small model of random weights."""
    return extraction.extract(model, data, **{"random_init": "checkpoint" not in options, **options})


def report(data: Path, progress: Progress | None = None, **selection: object) -> ExtractionReport:
    request = BackboneRequest(MODEL, random_init=True)
    return extract_to_store(FeatureStore(), request, open_source(data), Selection(**selection), Runtime(), progress)


def assert_same(found: FeatureSet, expected: FeatureSet) -> None:
    """The same samples, with features that differ by rounding at most."""
    assert (found.ids, found.classes) == (expected.ids, expected.classes)
    assert found.labels.tolist() == expected.labels.tolist()
    scale = float(expected.features.norm(dim=1).max())
    torch.testing.assert_close(found.features, expected.features, rtol=0, atol=1e-5 * scale)


def stored_sets() -> list[StoredSet]:
    return FeatureStore().sets()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many images went through a backbone since it was last asked."""
    counts: list[int] = []
    call = Backbone.__call__

    def counted(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        counts.append(len(pixels))
        return call(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", counted)

    def since() -> int:
        total = sum(counts)
        counts.clear()
        return total

    return since


@pytest.fixture
def reads(pets: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """How many times each file of the folder was read since it was last asked."""
    paths: list[str] = []
    read_file = folder.read_file
    monkeypatch.setattr(folder, "read_file", lambda path: paths.append(path) or read_file(path))

    def since() -> Counter[str]:
        found = Counter(Path(path).relative_to(pets).as_posix() for path in paths)
        paths.clear()
        return found

    return since


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part for each batch."""
    monkeypatch.setattr("nctransfer.store.pipeline.PART_SECONDS", 0)


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path, "PNG")


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), level).save(file, "PNG")
    return file.getvalue()


def write_folder(path: Path, images: Mapping[str, bytes]) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    for name, content in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_tar(path: Path, images: Mapping[str, bytes], compression: str = "") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in images.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path: Path, images: Mapping[str, bytes]) -> Path:
    """The name of a row goes with it in the struct; only the row's number is its id."""
    table = {
        "image": [{"bytes": content, "path": name} for name, content in images.items()],
        "label": [name.partition("/")[0] for name in images],
    }
    parquet.write_table(pa.table(table), path, row_group_size=7)
    return path


def write_weights(path: Path, seed: int = 0, model: str = MODEL) -> Path:
    """A checkpoint: random weights of a seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = load(BackboneRequest(model, random_init=True, seed=seed)).model.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


# What runs


def test_a_second_extraction_runs_nothing(pets: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    first = extract(pets)
    assert ran() == len(first) == 18
    assert first.classes == ("one", "two", "zero")
    monkeypatch.setattr("nctransfer.store.lazy_backbone.load", lambda *_: pytest.fail("the model was loaded"))
    second = extract(pets)
    assert ran() == 0
    assert torch.equal(second.features, first.features)
    assert second.info == first.info


def test_new_images_are_run_alone(pets: Path, ran: Callable[[], int]) -> None:
    before = extract(pets)
    ran()
    grey(pets / "one" / "new.png", 1)
    grey(pets / "blank" / "0.png", 2)
    after = extract(pets)
    assert ran() == 2
    assert after.classes == ("blank", "one", "two", "zero")
    old = [after.ids.index(id_) for id_ in before.ids]
    assert torch.equal(after.features[old], before.features)
    frame = pd.read_parquet(stored_sets()[0].rows_path)
    assert len(frame) == 20


def test_a_replaced_image_is_run_again(pets: Path, ran: Callable[[], int]) -> None:
    before = extract(pets)
    ran()
    grey(pets / "one" / "3.png", 200)
    after = extract(pets)
    assert ran() == 1
    assert after.ids == before.ids
    changed = (after.features != before.features).any(dim=1)
    assert [id_ for id_, new in zip(after.ids, changed, strict=True) if new] == ["one/3.png"]
    direct = load(BackboneRequest(MODEL, random_init=True))
    pixels = torch.from_numpy(np.asarray(direct.preprocess(decode((pets / "one" / "3.png").read_bytes()))))
    expected = direct(pixels[None])["feature"]
    torch.testing.assert_close(after.features[changed], expected, rtol=0, atol=1e-5 * float(expected.norm()))


def test_a_replaced_image_of_the_same_time_is_run_again(pets: Path, ran: Callable[[], int]) -> None:
    before = extract(pets)
    ran()
    path = pets / "one" / "3.png"
    old = path.stat()
    grey(path, 200)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size != old.st_size
    assert not torch.equal(extract(pets).features, before.features)
    assert ran() == 1


def test_removed_images_are_left_out(pets: Path, ran: Callable[[], int]) -> None:
    extract(pets)
    ran()
    (pets / "one" / "3.png").unlink()
    shutil.rmtree(pets / "two")
    found = extract(pets)
    assert ran() == 0
    assert found.classes == ("one", "zero")
    assert found.counts.tolist() == [5, 6]


def test_a_renamed_class_runs_nothing(pets: Path, ran: Callable[[], int]) -> None:
    before = extract(pets)
    ran()
    (pets / "zero").rename(pets / "nil")
    after = extract(pets)
    assert ran() == 0
    assert after.classes == ("nil", "one", "two")
    assert torch.equal(after.features[:6], before.features[12:])
    assert load_features(stored_sets()[0].id).classes == ("nil", "one", "two")


def test_touched_files_run_nothing(pets: Path, ran: Callable[[], int]) -> None:
    before = extract(pets)
    ran()
    for path in pets.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert torch.equal(extract(pets).features, before.features)
    assert ran() == 0


@pytest.mark.parametrize(
    ("selection", "samples"),
    [
        ({"split": "test"}, 12),
        ({"classes": ["two", "one"]}, 16),
        ({"max_per_class": 2}, 12),
        ({"exclude_classes": ["two"]}, 16),
        ({"split": "test", "exclude_classes": ["two", "zero"], "max_per_class": 3}, 3),
        ({"split": "train", "classes": ["one"], "max_per_class": 3, "seed": 1}, 3),
    ],
)
def test_subsets_of_a_stored_set_run_nothing(
    tmp_path: Path, ran: Callable[[], int], selection: dict[str, object], samples: int
) -> None:
    names = itertools.product(("train", "test"), ("zero", "one", "two"), range(4))
    for level, (split, label, number) in enumerate(names):
        grey(tmp_path / "pets" / split / label / f"{number}.png", 10 * level)
    weights = write_weights(tmp_path / "a.safetensors")  # the seed is of the selection only
    full = extract(tmp_path / "pets", checkpoint=weights)
    assert ran() == len(full) == 24
    found = extract(tmp_path / "pets", checkpoint=weights, **selection)
    assert ran() == 0
    assert len(found) == samples
    rows = [full.ids.index(id_) for id_ in found.ids]
    assert torch.equal(found.features, full.features[rows])


@pytest.mark.parametrize(
    "write",
    [write_folder, write_tar, lambda path, images: write_tar(path, images, "gz"), write_parquet],
    ids=["folder", "tar", "tar.gz", "parquet"],
)
def test_only_new_contents_run(
    tmp_path: Path, ran: Callable[[], int], write: Callable[[Path, Mapping[str, bytes]], Path]
) -> None:
    """Of sources that are written anew, and so have other times, sizes and even row numbers."""
    images = {f"{label}/{level}.png": png(level) for level in range(40) for label in ["abcd"[level % 4]]}
    path = write(tmp_path / "pets", images)
    before = extract(path)
    assert ran() == len(before) == 40
    images = {**{f"a/{level}.png": png(level) for level in range(100, 110)}, **images}
    grown = extract(write(path, images))
    assert ran() == 10
    assert grown.counts.tolist() == [20, 10, 10, 10]
    images["b/13.png"] = png(200)
    replaced = extract(write(path, images))
    assert ran() == 1
    renamed = extract(write(path, {name.replace("a/", "x/"): content for name, content in images.items()}))
    assert ran() == 0
    assert renamed.classes == ("b", "c", "d", "x")
    assert renamed.counts.tolist() == [10, 10, 10, 20]
    for found in (before, grown, replaced):
        rows = contents_of(path, found, "c")
        assert rows.keys() == {f"{level}.png" for level in range(2, 40, 4)}
        same = contents_of(path, before, "c")
        assert all(torch.equal(rows[name], same[name]) for name in rows)
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(1, 1))
    assert len(extract(path, max_per_class=3)) == 12
    assert ran() == 0


def contents_of(path: Path, found: FeatureSet, label: str) -> dict[str, torch.Tensor]:
    """The features of a class, by file name; of Parquet rows, which have none, in their order."""
    code = found.classes.index(label)
    rows = [row for row, here in enumerate(found.labels.tolist()) if here == code]
    if path.is_file() and not tarfile.is_tarfile(path):
        return {f"{2 + 4 * number}.png": found.features[row] for number, row in enumerate(rows)}
    return {found.ids[row].rpartition("/")[2]: found.features[row] for row in rows}


def test_a_subset_is_filled_up(pets: Path, ran: Callable[[], int]) -> None:
    assert len(extract(pets, classes=["one"], max_per_class=2)) == 2
    assert ran() == 2
    assert len(extract(pets, classes=["one"])) == 6
    assert ran() == 4
    assert len(load_features(MODEL, partial=True)) == 6
    assert len(extract(pets)) == 18
    assert ran() == 12


def test_identical_files_run_once_and_are_both_rows(pets: Path, ran: Callable[[], int]) -> None:
    shutil.copy(pets / "zero" / "0.png", pets / "one" / "twin.png")
    found = extract(pets)
    assert ran() == 18
    assert found.counts.tolist() == [7, 6, 6]
    twins = [found.ids.index(id_) for id_ in ("zero/0.png", "one/twin.png")]
    assert torch.equal(*found.features[twins])


def test_models_do_not_share_rows(pets: Path, ran: Callable[[], int]) -> None:
    extract(pets)
    ran()
    assert extract(pets, "test_efficientnet").dim == 256
    assert ran() == 18
    assert extract(pets, seed=1).info.id != extract(pets).info.id
    assert ran() == 18
    assert len(stored_sets()) == 3


def test_folders_of_one_name_do_not_share_a_set(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    one = extract(pets)
    other = extract(write_digits(tmp_path / "other" / "pets", {"three": 3}, 2))
    assert ran() == 20
    assert one.info.id != other.info.id
    assert extract(pets).ids == one.ids


def test_a_changed_checkpoint_is_another_set(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    path = tmp_path / "a.safetensors"
    found = []
    for seed, expected in ((1, 18), (1, 0), (2, 18), (1, 0)):
        write_weights(path, seed)
        found.append(extract(pets, checkpoint=path))
        assert ran() == expected
    assert found[0].info.id == found[1].info.id == found[3].info.id != found[2].info.id
    assert not torch.equal(found[0].features, found[2].features)
    path.unlink()
    with pytest.raises(WeightsError) as error:
        extract(pets, checkpoint=path)
    says(error, repr(str(path)))


def test_weights_of_the_hub_may_go_and_may_change(
    pets: Path, tmp_path: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"

    def publish(revision: str, seed: int) -> None:
        write_weights(root / "snapshots" / revision / "model.safetensors", seed)
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(revision)

    publish("first", 1)
    first = extract(pets, random_init=False)
    assert ran() == 18
    shutil.rmtree(root)
    assert torch.equal(extract(pets, random_init=False).features, first.features)
    assert ran() == 0
    publish("second", 2)
    second = extract(pets, random_init=False)
    assert ran() == 18
    assert second.info.id != first.info.id


def test_digits_are_extracted_by_name(ran: Callable[[], int]) -> None:
    found = extraction.extract(MODEL, "digits", random_init=True, max_per_class=2)
    assert ran() == len(found) == 20
    assert found.classes == tuple("0123456789")
    assert found.info.data == "digits"


def test_a_class_of_one_image(tmp_path: Path) -> None:
    grey(tmp_path / "pets" / "only" / "1.png", 3)
    found = extract(tmp_path / "pets")
    assert (len(found), found.classes) == (1, ("only",))


@pytest.mark.parametrize("selection", [{"max_per_class": 0}, {"max_per_class": -1}, {"classes": []}])
def test_to_want_nothing_is_an_error(pets: Path, selection: dict[str, object]) -> None:
    with pytest.raises(NCTransferError):
        extract(pets, **selection)


def test_an_absent_device_is_an_error_also_where_nothing_runs(pets: Path) -> None:
    extract(pets)
    with pytest.raises(DeviceError) as error:
        extract(pets, device="tpu")
    says(error, "'tpu'")


def test_unknown_classes_are_answered_by_those_there_are(pets: Path, ran: Callable[[], int]) -> None:
    with pytest.raises(FeaturesError) as error:
        extract(pets, classes=["three"])
    says(error, "'three'", hint=["'one'", "'two'", "'zero'"])
    assert ran() == 0


# What is read


def test_a_first_run_reads_each_image_once(
    pets: Path, ran: Callable[[], int], reads: Callable[[], Counter[str]]
) -> None:
    shutil.copy(pets / "one" / "0.png", pets / "two" / "twin.png")
    found = extract(pets)
    assert reads() == Counter(found.ids)
    assert ran() == 18
    extract(pets, "test_efficientnet")  # by now the digests are known
    assert reads() == Counter(found.ids) - Counter(["two/twin.png"])
    extract(pets)
    assert reads() == Counter()


def test_of_a_grown_folder_only_what_is_new_is_read(pets: Path, reads: Callable[[], Counter[str]]) -> None:
    extract(pets)
    reads()
    grey(pets / "one" / "new.png", 1)
    os.utime(pets / "one" / "0.png", ns=(1, 1))
    extract(pets)
    assert reads() == Counter({"one/new.png": 2, "one/0.png": 1})  # once to know it, and once to run it


@pytest.mark.parametrize("compression", ["", "gz"])
def test_images_are_asked_for_in_the_order_of_the_source(
    tmp_path: Path, compression: str, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    contents = TarArchive.contents

    def watched(self: TarArchive, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        asked.extend(entry.id for entry in entries)
        return contents(self, entries)

    images = {f"{label}/{level}.png": png(level) for label, level in itertools.product("ab", range(4))}
    path = write_tar(tmp_path / "pets.tar", dict(sorted(images.items(), reverse=True)), compression)
    monkeypatch.setattr(TarArchive, "contents", watched)
    extract(path)
    assert asked == sorted(images, reverse=True)
    asked.clear()
    ran()
    extract(path, "test_efficientnet")
    assert ran() == 4
    assert asked == [f"b/{level}.png" for level in (3, 2, 1, 0)]


# Layers


def frame_of(path: Path) -> pd.DataFrame:
    """The rows as a plain reader of Parquet finds them, one file after the other."""
    frames = [parquet.ParquetFile(file).read().to_pandas() for file in path.iterdir()]
    assert not any(frame.isna().to_numpy().any() for frame in frames)
    return pd.concat(frames)


def rows_by_columns() -> dict[tuple[str, ...], int]:
    """How many rows have which columns, if none is there twice."""
    (stored,) = stored_sets()
    assert frame_of(stored.rows_path)["digest"].is_unique
    assert {path.name for path in stored.rows_path.iterdir()} == stored.manifest().parts.keys()
    counts: Counter[tuple[str, ...]] = Counter()
    for part in stored.manifest().parts.values():
        counts[tuple(part.columns)] += part.rows
    return dict(counts)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
@pytest.mark.usefixtures("small_parts")
def test_layers_are_added_to_all_rows(pets: Path, ran: Callable[[], int], model: str) -> None:
    before = extract(pets, model, batch_size=7)
    assert ran() == 18
    after = extract(pets, model, batch_size=5, layers="0,1")
    assert ran() == 18
    assert_same(after, before)
    assert after.info.id == before.info.id
    assert rows_by_columns() == {("feature", "layer_0", "layer_1"): 18}
    frame = pd.read_parquet(stored_sets()[0].rows_path)
    assert list(frame.columns) == ["id", "class", "split", "digest", "feature", "layer_0", "layer_1"]
    assert frame["digest"].is_unique
    assert not frame.isna().any(axis=None)
    direct = load(BackboneRequest(model, random_init=True, layers="0,1"))
    pixels = [direct.preprocess(decode((pets / id_).read_bytes())) for id_ in after.ids]
    for name, expected in direct(torch.from_numpy(np.stack(pixels))).items():
        found = load_features(model, feature_column=name)
        assert found.ids == after.ids
        torch.testing.assert_close(found.features, expected, rtol=0, atol=1e-5 * float(expected.norm(dim=1).max()))


def test_layers_that_are_stored_run_nothing(
    pets: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(pets, layers="0,1,2")
    ran()
    monkeypatch.setattr(Backbone, "fold", lambda _: pytest.fail("something is to be run"))
    for layers in ("2", "0,1", "1,0", None):
        extract(pets, layers=layers)
    assert ran() == 0
    assert rows_by_columns() == {("feature", "layer_0", "layer_1", "layer_2"): 18}


def test_layers_add_up(pets: Path, ran: Callable[[], int]) -> None:
    extract(pets, layers="1")
    first = load_features(MODEL, feature_column="layer_1")
    extract(pets, layers="0")
    assert ran() == 36
    assert rows_by_columns() == {("feature", "layer_0", "layer_1"): 18}
    assert_same(load_features(MODEL, feature_column="layer_1"), first)


def test_layers_of_a_subset(pets: Path, ran: Callable[[], int], caplog: pytest.LogCaptureFixture) -> None:
    before = extract(pets)
    ran()
    extract(pets, layers="0", classes=["one"])
    assert ran() == 6
    assert rows_by_columns() == {("feature",): 12, ("feature", "layer_0"): 6}
    assert_same(load_features(MODEL), before)
    assert not logged(caplog, 18)
    assert load_features(MODEL, feature_column="layer_0", partial=True).classes == ("one",)
    assert logged(caplog, 6, 18)
    extract(pets, layers="0")
    assert ran() == 12
    assert rows_by_columns() == {("feature", "layer_0"): 18}
    assert_same(load_features(MODEL), before)


def test_new_images_have_all_columns_of_the_set(pets: Path, ran: Callable[[], int]) -> None:
    extract(pets, layers="0,2")
    ran()
    grey(pets / "one" / "new.png", 1)
    assert len(extract(pets)) == 19
    assert ran() == 1
    assert rows_by_columns() == {("feature", "layer_0", "layer_2"): 19}
    grey(pets / "one" / "newer.png", 2)
    extract(pets, layers="1", classes=["one"])
    assert ran() == 8
    every = ("feature", "layer_0", "layer_1", "layer_2")
    assert rows_by_columns() == {("feature", "layer_0", "layer_2"): 12, every: 8}
    assert len(load_features(MODEL, feature_column="layer_2")) == 20


def test_an_image_that_breaks_keeps_the_row_it_has(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layers are missing, its feature is not."""
    before = extract(pets)
    call = Backbone.__call__

    def spoiled(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {name: output.clone() for name, output in call(self, pixels).items()}
        outputs["layer_0"][3, 0] = torch.inf
        return outputs

    monkeypatch.setattr(Backbone, "__call__", spoiled)
    with pytest.raises(BrokenImagesError) as caught:
        extract(pets, layers="0")
    assert [broken.id for broken in caught.value.broken] == [before.ids[3]]
    assert rows_by_columns() == {("feature",): 1, ("feature", "layer_0"): 17}
    assert_same(load_features(MODEL), before)


def test_a_layer_that_is_not_stored(pets: Path) -> None:
    extract(pets, layers="0,2")
    with pytest.raises(FeaturesError) as error:
        load_features(MODEL, feature_column="layer_1")
    says(error, "'layer_1'", hint=["feature", "layer_0", "layer_2"])


class Killed(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("classes", [None, ["one"]])
@pytest.mark.parametrize("step", ["drop", "record", "delete"])
def test_a_kill_while_narrower_rows_are_dropped(
    pets: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch, classes: list[str] | None, step: str
) -> None:
    before = extract(pets)
    asked = {"layers": "0,1", "classes": classes}
    unlink, append, drop = Path.unlink, writing.append_records, SetWriter.drop_superseded
    is_dropping = False

    def dropping(self: SetWriter) -> None:
        nonlocal is_dropping
        is_dropping = True
        if step == "drop":
            raise Killed
        drop(self)

    def unlinked(self: Path, missing_ok: bool = False) -> None:
        if step == "delete" and self.parent.name == "rows":
            raise Killed
        unlink(self, missing_ok)

    def appended(path: Path, records: list[dict[str, object]], end: int) -> int:
        if step == "record" and is_dropping:
            raise Killed
        return append(path, records, end)

    with monkeypatch.context() as dying:
        dying.setattr(SetWriter, "drop_superseded", dropping)
        dying.setattr(Path, "unlink", unlinked)
        dying.setattr(writing, "append_records", appended)
        with pytest.raises(Killed):
            extract(pets, **asked)
    wider = 6 if classes else 18
    assert ran() == 18 + wider
    assert_same(load_features(MODEL), before)
    assert len(load_features(MODEL, feature_column="layer_1", partial=True)) == wider
    assert len(extract(pets, **asked)) == wider
    assert ran() == 0
    expected = {("feature", "layer_0", "layer_1"): wider, ("feature",): 18 - wider}
    assert rows_by_columns() == {columns: rows for columns, rows in expected.items() if rows}
    assert_same(load_features(MODEL), before)


def test_all_layers_are_known_without_the_weights(
    pets: Path, tmp_path: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    write_weights(root / "snapshots" / "first" / "model.safetensors", 1)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("first")
    for layers in ("all", "last-2"):
        extract(pets, random_init=False, layers=layers)
    assert ran() == 18
    shutil.rmtree(root)
    for layers in ("all", "last-2"):
        assert len(extract(pets, random_init=False, layers=layers)) == 18
    assert ran() == 0
    with pytest.raises(WeightsError):  # those that were never asked for are not known
        extract(pets, random_init=False, layers="last-1")
    (columns,) = rows_by_columns()
    assert columns == ("feature", *(f"layer_{index}" for index in range(len(columns) - 1)))
    assert len(columns) > 3


# What is said


def test_the_report_counts(pets: Path) -> None:
    first = report(pets, max_per_class=2)
    assert (first.samples, first.extracted, first.reused, first.failed) == (6, 6, 0, ())
    assert first.images_per_second is not None
    grey(pets / "one" / "new.png", 1)
    (pets / "one" / "bad.png").write_bytes(b"")
    second = report(pets)
    assert (second.samples, second.extracted, second.reused) == (19, 13, 6)
    assert [broken.id for broken in second.failed] == ["one/bad.png"]
    third = report(pets, classes=("two",))
    assert (third.samples, third.extracted, third.reused, third.images_per_second) == (6, 0, 6, None)
    told = json.loads(json.dumps(second.to_dict()))
    (failed,) = told["failed"]
    assert failed.keys() == {"id", "reason"}
    assert failed["id"] == "one/bad.png"
    assert those([failed["reason"]], 0)
    assert (told["id"], told["path"]) == (second.stored.id, str(second.stored.rows_path))


def test_it_is_said_what_is_done_and_why(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nctransfer")
    extract(pets)
    grey(pets / "one" / "new.png", 1)
    caplog.clear()
    extract(pets)
    assert logged(caplog, 18, 19, 1, level=logging.INFO)
    caplog.clear()
    extract(pets)
    assert logged(caplog, 19, level=logging.INFO)
    (part, *_) = stored_sets()[0].rows_path.iterdir()
    part.write_bytes(b"")
    caplog.clear()
    extract(pets)
    assert logged(caplog, part.name, 0)


def test_notes_of_the_source_are_passed_on(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        (pets / "one" / f"{number}.txt").touch()
    extract(pets)
    assert len(logged(caplog, pets.name, 7)) == 1


@pytest.mark.parametrize("broken", [(), ("one/0.png",), ("zero/9.png",), ("zero/8.png", "zero/9.png")])
@pytest.mark.parametrize("batch_size", [1, 18])
def test_progress_ends_at_the_total(pets: Path, broken: tuple[str, ...], batch_size: int) -> None:
    for number, name in enumerate(broken):
        (pets / name).write_bytes(b"broken %d" % number)
    told: list[tuple[str, int, int]] = []
    extract(pets, batch_size=batch_size, skip_broken=True, progress=lambda *event: told.append(event))
    files = len(list(pets.rglob("*.png")))
    assert {stage for stage, _, _ in told} == {"extracting"}
    events = [(done, total) for _, done, total in told]
    assert events[0] == (0, files)
    assert events[-1] == (files, files)
    assert events == sorted(events)
    assert {total for _, total in events} == {files}


def test_progress_of_reading_what_was_added(pets: Path) -> None:
    extract(pets)
    for level in range(100):
        grey(pets / "more" / f"{level}.png", level)
    told: list[tuple[str, int, int]] = []
    extract(pets, batch_size=40, progress=lambda *event: told.append(event))
    assert told == [
        *(("reading images", done, 100) for done in (64, 100)),
        *(("extracting", done, 100) for done in (0, 40, 80, 100, 100)),
    ]
    told.clear()
    extract(pets, progress=lambda *event: told.append(event))
    assert told == []


# What is computed


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_efficientnet"])
def test_features_are_those_of_a_plain_timm_loop(pets: Path, model: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = timm.create_model(model, num_classes=1000).eval()
    assert_plain_loop(extract(pets, model), pets, plain)


def test_features_of_the_bundled_weights(pets: Path) -> None:
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = torch.load(bundled(resolve(DEFAULT_MODEL)), weights_only=True).values()
    plain.load_state_dict(dict(zip(plain.state_dict(), tensors, strict=True)))
    found = extraction.extract(data=pets, max_per_class=1)
    assert found.dim == 1280
    assert found.info.model == "tf_efficientnet_lite0.in1k"
    assert_plain_loop(found, pets, plain)


def assert_plain_loop(found: FeatureSet, root: Path, plain: torch.nn.Module) -> None:
    config = timm.data.resolve_model_data_config(plain)
    transform = timm.data.create_transform(**config, is_training=False)
    images = torch.stack([transform(Image.open(root / id_).convert("RGB")) for id_ in found.ids])
    with torch.inference_mode():
        expected = plain.forward_head(plain.forward_features(images), pre_logits=True)
    error = (found.features - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-4
    assert torch.pdist(expected).min() / expected.norm(dim=1).max() > 1e-3  # the images differ by more


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 3), (5, 1), (18, 2), (100, 8)])
def test_features_do_not_depend_on_batches_and_workers(
    pets: Path, tmp_path: Path, batch_size: int, workers: int
) -> None:
    expected = extract(pets, "test_efficientnet", batch_size=7, workers=2)
    found = extract(pets, "test_efficientnet", batch_size=batch_size, workers=workers, cache_dir=tmp_path / "other")
    assert found.info.id == expected.info.id
    assert_same(found, expected)


def test_stored_halves_are_read_as_float32(pets: Path, ran: Callable[[], int]) -> None:
    exact, half = extract(pets), extract(pets, store_dtype="float16")
    assert ran() == 36
    assert half.features.dtype == torch.float32
    assert torch.equal(half.features, exact.features.half().float())
    (path,) = load_rows(half)
    assert str(parquet.read_schema(path).field("feature").type.value_type) == "halffloat"


def load_rows(features: FeatureSet) -> list[Path]:
    return sorted(FeatureStore().find(features.info.id).rows_path.iterdir())


def test_values_beyond_float16_are_reported_as_such(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Backbone.__call__
    monkeypatch.setattr(
        Backbone,
        "__call__",
        lambda self, pixels: {name: output + 70_000 for name, output in call(self, pixels).items()},
    )
    with pytest.raises((BrokenImagesError, FeaturesError)) as caught:
        extract(pets, store_dtype="float16")
    assert "float16" in str(caught.value) + str(getattr(caught.value, "broken", ""))


@pytest.mark.parametrize("column", ["feature", "layer_0", "layer_1"])
def test_features_not_finite_are_reported_by_image(pets: Path, monkeypatch: pytest.MonkeyPatch, column: str) -> None:
    call = Backbone.__call__
    shutil.copy(pets / "one" / "1.png", pets / "two" / "twin.png")

    def spoiled(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {name: output.clone() for name, output in call(self, pixels).items()}
        outputs[column][1, 5] = torch.nan
        return outputs

    monkeypatch.setattr(Backbone, "__call__", spoiled)
    with pytest.raises(BrokenImagesError) as caught:
        extract(pets, layers="0,1")
    assert [broken.id for broken in caught.value.broken] == ["one/1.png", "two/twin.png"]
    assert len(those([broken.reason for broken in caught.value.broken], "NaN", "float32")) == 2
    for stored in ("feature", "layer_0", "layer_1"):
        found = load_features(MODEL, feature_column=stored)
        assert len(found) == 17
        assert "one/1.png" not in found.ids


@pytest.mark.parametrize("message", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate memory"])
def test_too_little_memory_halves_the_batches(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, message: str
) -> None:
    expected = extract(pets, cache_dir=tmp_path / "undisturbed")
    run = Backbone._run
    sizes: list[int] = []

    def limited(self: Backbone, pixels: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise RuntimeError(message)
        return run(self, pixels)

    monkeypatch.setattr(Backbone, "_run", limited)
    assert_same(extract(pets, batch_size=9), expected)
    sizes = [size for size in sizes if size != 2]  # two images are run to check what makes the model fast
    assert sizes == [9, 5, 3, 3, 3, 3, 3, 3]
    assert logged(caplog, "cpu", 9, 5)
    assert logged(caplog, "cpu", 5, 3)


@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_the_head_is_the_models_classifier(pets: Path, model: str) -> None:
    found = extract(pets, model, classes=["one"])
    head = load_file(FeatureStore().find(found.info.id).path.parent / "head.safetensors")
    classifier = load(BackboneRequest(model, random_init=True)).model.get_classifier()
    assert torch.equal(head["weight"], classifier.weight)
    assert torch.equal(head["bias"], classifier.bias)


# Broken images


def spoil(pets: Path) -> dict[str, str]:
    """Broken images in every class, and a word of the reason for each."""
    content = (pets / "one" / "0.png").read_bytes()
    (pets / "one" / "empty.png").write_bytes(b"")
    (pets / "one" / "empty too.png").write_bytes(b"")
    (pets / "two" / "text.jpg").write_bytes(b"not an image")
    (pets / "two" / "cut.png").write_bytes(content[: len(content) // 2])
    (pets / "zero" / "dangling.png").symlink_to("nowhere")
    (pets / "zero" / "folder.png").mkdir()
    (pets / "zero" / "folder.png" / "cut.PNG").write_bytes(content[: len(content) // 2 + 1])
    return {
        "one/empty.png": "0 bytes",
        "one/empty too.png": "0 bytes",
        "two/text.jpg": "format",
        "two/cut.png": "truncated",
        "zero/dangling.png": "No such file",
        "zero/folder.png/cut.PNG": "truncated",
    }


def test_broken_images_are_all_listed_and_the_others_stored(pets: Path, ran: Callable[[], int]) -> None:
    good = extract(pets, cache_dir=pets.parent / "good")
    ran()
    expected = spoil(pets)
    with pytest.raises(BrokenImagesError) as error:
        extract(pets, batch_size=4)
    says(error, 6, 18, hint="--skip-broken")
    reasons = {broken.id: broken.reason for broken in error.value.broken}
    assert reasons.keys() == expected.keys()
    assert all(word in reasons[name] for name, word in expected.items())
    assert ran() == 18
    assert_same(load_features(MODEL), good)
    assert_same(extract(pets, skip_broken=True), good)
    assert ran() == 0


def test_a_mended_image_is_run_alone(pets: Path, ran: Callable[[], int]) -> None:
    (pets / "one" / "bad.png").write_bytes(b"bad")
    assert len(extract(pets, skip_broken=True)) == 18
    ran()
    grey(pets / "one" / "bad.png", 9)
    assert len(extract(pets)) == 19
    assert ran() == 1


def test_broken_images_that_are_not_wanted_do_not_matter(pets: Path) -> None:
    (pets / "one" / "bad.png").write_bytes(b"bad")
    assert len(extract(pets, classes=["two", "zero"])) == 12


def test_nothing_but_broken_images(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/2.png"):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    with pytest.raises(DataError) as error:
        extract(tmp_path / "pets", skip_broken=True)
    says(error, 2, "'a/1.png'")
    assert not isinstance(error.value, BrokenImagesError)


def after_reading(change: Callable[[], object]) -> Callable[[str, int, int], None]:
    """A progress that calls ``change`` once, between the reading of digests and the extraction."""
    left = [change]

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "extracting" and left:
            left.pop()()

    return progress


@pytest.mark.parametrize(
    ("change", "reason"),
    [(Path.unlink, "No such file"), (lambda path: grey(path, 77), "changed")],
)
def test_images_that_change_while_they_are_read(
    pets: Path, ran: Callable[[], int], change: Callable[[Path], object], reason: str
) -> None:
    extract(pets, classes=["one"])
    ran()
    with pytest.raises(BrokenImagesError) as caught:
        extract(pets, progress=after_reading(lambda: change(pets / "two" / "5.png")))
    ((name, found),) = caught.value.broken
    assert name == "two/5.png"
    assert reason in found
    assert ran() == 11
    grey(pets / "two" / "5.png", 77)
    assert len(extract(pets)) == 18
    assert ran() == 1


def test_an_image_that_changes_before_it_is_first_read(pets: Path, ran: Callable[[], int]) -> None:
    path = pets / "two" / "5.png"
    found = extract(pets, progress=after_reading(lambda: grey(path, 77)))
    assert ran() == 18
    again = extract(pets)
    assert ran() == 0
    assert torch.equal(again.features, found.features)
    other = pets.parent / "grey" / "two"
    grey(other / "5.png", 77)
    torch.testing.assert_close(extract(other.parent).features[0], found.features[found.ids.index("two/5.png")])


@pytest.mark.parametrize("change", [Path.unlink, lambda path: grey(path, 77)])
def test_the_twin_of_an_image_that_changes_is_not_lost(pets: Path, change: Callable[[Path], object]) -> None:
    shutil.copy(pets / "one" / "0.png", pets / "two" / "twin.png")
    extract(pets, "test_efficientnet")  # so that the digests are known
    done = report(pets, progress=after_reading(lambda: change(pets / "one" / "0.png")))
    names = {broken.id for broken in done.failed} | set(load_features(MODEL).ids)
    assert "two/twin.png" in names
    assert len(names) == 19


def test_odd_metadata_do_not_warn(pets: Path) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01"
    Image.new("RGB", (8, 8)).save(pets / "one" / "odd.jpg", exif=exif)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(extract(pets)) == 19
    assert caught == []


# Damaged sets


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def alter(path: Path) -> None:
    """Flip a bit in the vectors; the size stays."""
    group = parquet.ParquetFile(path).metadata.row_group(0)
    column = group.column(group.num_columns - 1)
    content = bytearray(path.read_bytes())
    content[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


def alter_in_secret(path: Path) -> None:
    """Bits that flip on the disk change no times."""
    before = path.stat()
    alter(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", [truncate, alter, alter_in_secret, Path.unlink])
@pytest.mark.usefixtures("small_parts")
def test_a_damaged_part_alone_is_redone(pets: Path, ran: Callable[[], int], damage: Callable[[Path], object]) -> None:
    expected = extract(pets, batch_size=6)
    assert ran() == 18
    assert len(load_rows(expected)) == 3
    path = load_rows(expected)[1]
    damage(path)
    with pytest.raises(StoreError) as error:
        load_features(MODEL)
    says(error, path.name, hint=["nctransfer cache repair", "nctransfer extract"])
    if damage is alter_in_secret:
        done("cache", "repair")
    assert_same(extract(pets), expected)
    assert ran() == 6


@pytest.mark.parametrize("file", [NAME, "sources/*.parquet", "keys/*.json"])
@pytest.mark.parametrize("content", [None, b"{", b'{"kind": 1}', b"less"])
def test_lost_notes_run_nothing_anew(
    pets: Path, cache: Path, ran: Callable[[], int], file: str, content: bytes | None
) -> None:
    expected = extract(pets)
    ran()
    (path,) = cache.rglob(file) if file == NAME else cache.glob(file)
    if content == b"less" and path.suffix == ".json":
        content = json.dumps(dict(list(json.loads(path.read_bytes()).items())[:-1])).encode()
    path.unlink() if content is None else path.write_bytes(content)
    assert_same(extract(pets), expected)
    assert ran() == 0


def test_weights_are_not_what_was_remembered(pets: Path, cache: Path, ran: Callable[[], int]) -> None:
    """New rows never go into the set of other weights."""
    expected = extract(pets, classes=["one"])
    (path,) = cache.glob("keys/*.json")
    kept, store = path.read_bytes(), FeatureStore()
    known = json.loads(kept)
    request, answer = known["request"], known["answer"]
    store.remember(request, {**answer, "key": {**answer["key"], "weights": "0" * 32}})
    assert path.read_bytes() != kept
    ran()
    found = extract(pets)
    assert ran() == 12
    assert found.info.id == expected.info.id
    assert [stored.manifest().rows for stored in stored_sets()] == [18]
    assert json.loads(path.read_bytes()) == known


def test_a_lost_set_is_run_anew(pets: Path, ran: Callable[[], int]) -> None:
    expected = extract(pets)
    FeatureStore().find(MODEL).remove()
    ran()
    assert_same(extract(pets), expected)
    assert ran() == 18


def rewrite_in_secret(path: Path, seed: int) -> None:
    """Other weights in a file of the same size and time."""
    before = path.stat()
    write_weights(path, seed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_weights_that_changed_in_secret_are_another_set(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    path = write_weights(tmp_path / "a.safetensors", 1)
    before = extract(pets, checkpoint=path, classes=["one"])
    other = write_weights(tmp_path / "b.safetensors", 2)
    expected = extract(pets, checkpoint=other, cache_dir=tmp_path / "undisturbed")
    rewrite_in_secret(path, 2)
    ran()
    assert extract(pets, checkpoint=path, classes=["one"]).info.id == before.info.id  # nothing is loaded
    assert ran() == 0
    found = extract(pets, checkpoint=path)
    assert ran() == 18
    assert_same(found, expected)
    assert {stored.id: stored.manifest().rows for stored in stored_sets()} == {before.info.id: 6, found.info.id: 18}
    assert torch.equal(load_features(before.info.id, partial=True).features, before.features)
    assert extract(pets, checkpoint=path, classes=["one"]).info.id == found.info.id


def test_layers_of_another_request_are_not_remembered_as_asked_for(pets: Path, tmp_path: Path) -> None:
    path = write_weights(tmp_path / "a.safetensors", 1)
    extract(pets, checkpoint=path, layers="0")
    extract(pets, checkpoint=path)
    rewrite_in_secret(path, 2)
    grey(pets / "one" / "new.png", 1)
    extract(pets, checkpoint=path)
    other = write_digits(tmp_path / "other", {"three": 3}, 2)
    stored = FeatureStore().find(extract(other, checkpoint=path).info.id)
    assert list(stored.manifest().columns) == ["feature"]


# Models of the user's own


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A folder as timm writes it."""
    folder = tmp_path / "model"
    write_weights(folder / "model.safetensors", 1)
    config = {"input_size": [3, 160, 160], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 1000}
    (folder / "config.json").write_text(json.dumps({"architecture": MODEL, "pretrained_cfg": config}))
    return folder


def test_the_description_of_a_local_model_is_in_the_key(pets: Path, local: Path, ran: Callable[[], int]) -> None:
    def found(**options: object) -> FeatureSet:
        return extract(pets, f"local-dir:{local}", random_init=False, **options)

    first = found()
    assert [ran(), len(found()), ran()] == [18, 18, 0]
    config = local / "config.json"
    before = config.read_text()
    config.write_text(before.replace("0.5", "0.3"))
    other = found()
    assert ran() == 18
    assert other.info.id != first.info.id
    assert not torch.allclose(other.features, first.features)
    config.write_text(before)
    assert_same(found(), first)
    assert ran() == 0
    assert len(stored_sets()) == 2


def test_the_weights_of_a_local_model_must_be_there(pets: Path, local: Path, ran: Callable[[], int]) -> None:
    def found() -> FeatureSet:
        return extract(pets, f"local-dir:{local}", random_init=False)

    first = found()
    assert ran() == 18
    away = (local / "model.safetensors").rename(local.parent / "away")
    with pytest.raises(WeightsError) as error:
        found()
    says(error, repr(str(local)), hint="model.safetensors")
    away.rename(local / "model.safetensors")
    assert found().info.id == first.info.id
    assert ran() == 0
    write_weights(local / "model.safetensors", 2)
    assert found().info.id != first.info.id
    assert ran() == 18


def test_weights_that_come_first_in_a_local_model_count(pets: Path, local: Path, ran: Callable[[], int]) -> None:
    def found() -> FeatureSet:
        return extract(pets, f"local-dir:{local}", random_init=False)

    torch.save(load_file(local / "model.safetensors"), local / "pytorch_model.bin")
    (local / "model.safetensors").unlink()
    first = found()
    assert ran() == 18
    write_weights(local / "model.safetensors", 2)
    assert found().info.id != first.info.id
    assert ran() == 18


PLUGIN = """
import timm
from timm.models import register_model

@register_model
def of_the_user(pretrained=False, **_):
    return timm.create_model("test_resnet")
"""


@pytest.mark.filterwarnings("ignore:Overwriting of_the_user")
def test_an_edited_plugin_is_another_set(
    pets: Path, tmp_path: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)

    def found() -> FeatureSet:
        return extract(pets, "of_the_user", plugin=str(plugin))

    first = found()
    assert ran() == 18
    with monkeypatch.context() as poisoned:
        poisoned.setattr("nctransfer.store.lazy_backbone.load", lambda *_: pytest.fail("the model was loaded"))
        assert found().info.id == first.info.id
    plugin.write_text(PLUGIN + "# edited\n")
    other = found()
    assert ran() == 18
    assert other.info.id != first.info.id
    assert_same(other, first)
    plugin.write_text(PLUGIN)
    assert found().info.id == first.info.id
    assert ran() == 0
    plugin.unlink()
    with pytest.raises(ModelError) as error:
        found()
    says(error, "plugin.py")


# Interruptions


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_what_was_computed_before_an_interruption_is_kept(
    pets: Path, tmp_path: Path, ran: Callable[[], int], kind: type[BaseException]
) -> None:
    expected = extract(pets, cache_dir=tmp_path / "undisturbed")
    ran()

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "extracting" and done >= 8:
            raise kind

    with pytest.raises(kind):
        extract(pets, batch_size=4, progress=interrupt)
    (stored,) = stored_sets()
    assert stored.manifest().rows >= 8
    assert ran() - stored.manifest().rows <= 4  # the batch that was on its way
    kept = stored.manifest().rows
    assert_same(extract(pets), expected)
    assert ran() == 18 - kept


def test_digests_that_were_read_before_an_interruption_are_kept(
    pets: Path, reads: Callable[[], Counter[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(pets, batch_size=4, workers=1, progress=interrupt)
    reads()
    listed = {row.id: row for row in FeatureStore().listing(open_source(pets).id)}
    known = {id_ for id_, row in listed.items() if row.digest}
    assert 8 <= len(known) < 18
    assert {listed[id_].digest for id_ in known} == {content_digest((pets / id_).read_bytes()) for id_ in known}
    stored = set(load_features(MODEL, partial=True).ids)
    assert stored <= known
    extract(pets)
    times = reads()
    assert not stored & times.keys()
    assert {id_ for id_, count in times.items() if count == 1} == known - stored
    assert {id_ for id_, count in times.items() if count == 2} == listed.keys() - known


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_an_error_of_the_source_keeps_what_was_computed(
    pets: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    contents = ImageFolder.contents

    def ending(self: ImageFolder, entries: Sequence[ImageEntry]) -> Iterator[Callable[[], bytes]]:
        yield from itertools.islice(contents(self, entries), 13)
        raise kind

    with monkeypatch.context() as broken:
        broken.setattr(ImageFolder, "contents", ending)
        with pytest.raises(kind):
            extract(pets, batch_size=2, workers=1)
    done = ran()
    (stored,) = stored_sets()
    assert done - 2 <= stored.manifest().rows <= done
    assert stored.manifest().rows >= 4
    kept = stored.manifest().rows
    assert len(extract(pets)) == 18
    assert ran() == 18 - kept


def test_an_interruption_while_reading_stores_nothing_false(pets: Path, ran: Callable[[], int]) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(pets, progress=interrupt)
    assert len(extract(pets)) == ran() == 18


KILLED = """
import os, pathlib, signal, sys, time
import pyarrow.dataset, timm, torch  # once, before the forks
from nctransfer.store import extraction, pipeline

pipeline.PART_SECONDS = 0
pets, root, *moments = sys.argv[1:]

def work(moment):
    left = int(moment.split()[1]) if moment.startswith("fsync") else 0
    fsync = os.fsync

    def dying(number):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(number)

    os.fsync = dying
    extraction.extract("test_resnet", pets, random_init=True, batch_size=4, cache_dir=f"{root}/{moment}")

def fork(moment):
    child = os.fork()
    if not child:
        code = 1
        try:
            work(moment)
            code = 0
        finally:
            os._exit(code)
    return child

for moment in moments:
    child = fork(moment)
    if moment.startswith("ms"):
        time.sleep(int(moment.split()[1]) / 1000)
        os.kill(child, signal.SIGKILL)
    print(moment, os.waitpid(child, 0)[1], sep=":", flush=True)
for child in [fork("together 0"), fork("together 0")]:
    print("together 0", os.waitpid(child, 0)[1], sep=":", flush=True)
"""

# the disk is waited for twice for a key, a listing, the beginning of a manifest, a head; twice for the part of each of
# three batches, once for its digests, once for its record; and for the listing with digests
MOMENTS = [f"fsync {number}" for number in (1, 3, 5, 7, 8, 10, 11, 12, 13, 14, 15, 19)]
TIMES = [f"ms {delay}" for delay in (20, 80, 200)]


def killed(root: Path, moments: Sequence[str]) -> Path:
    """The images; beside them are caches whose extractions were killed, each at its moment."""
    pets = write_digits(root / "pets", {"zero": 0, "one": 1}, 6)
    command = [sys.executable, "-c", KILLED, str(pets), str(root), "undisturbed 0", *moments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    ends = [line.split(":") for line in done.stdout.splitlines()]
    expected = [["undisturbed 0", "0"], *([moment, "9"] for moment in moments if moment in MOMENTS)]
    assert ends[: len(expected)] == expected, done.stderr
    assert ends[-2:] == [["together 0", "0"]] * 2, done.stderr
    return pets


def assert_killed_runs_resume(root: Path, ran: Callable[[], int], moments: Sequence[str]) -> None:
    pets = killed(root, moments)
    expected = load_features(MODEL, cache_dir=root / "undisturbed 0")
    assert len(expected) == 12
    for moment in moments:
        whole = [path for path in (root / moment).rglob("part-*.parquet") if path.parent.name == "rows"]
        kept = sum(parquet.read_metadata(path).num_rows for path in whole)
        assert_same(extract(pets, cache_dir=root / moment), expected)
        assert ran() == 12 - kept, moment
        stored = FeatureStore(root / moment).find(MODEL)
        assert stored.manifest().rows == 12
        assert stored.manifest().damaged(thorough=True) == {}
        assert {path.name for path in stored.path.iterdir()} == {".lock", NAME, stored.manifest().index, "rows"}
        assert len(list(stored.rows_path.iterdir())) == len(stored.manifest().parts)
        assert_same(extract(pets, cache_dir=root / moment), expected)
        assert ran() == 0, moment
    # and of two that started at once, neither spoiled what the other wrote
    stored = FeatureStore(root / "together 0").find(MODEL)
    assert stored.manifest().rows == 12
    assert stored.manifest().damaged(thorough=True) == {}
    assert_same(stored.read(), expected)
    assert len(extract(pets, cache_dir=root / "together 0")) == 12
    assert ran() == 0


def test_a_killed_run_resumes(tmp_path: Path, ran: Callable[[], int]) -> None:
    """Before the first part, between a part and its manifest, and between two parts."""
    assert_killed_runs_resume(tmp_path, ran, [MOMENTS[2], MOMENTS[4], MOMENTS[5]])


@pytest.mark.slow
def test_a_run_resumes_whenever_it_is_killed(tmp_path: Path, ran: Callable[[], int]) -> None:
    assert_killed_runs_resume(tmp_path, ran, [*MOMENTS, *TIMES])


SECOND = """
import logging, sys
from nctransfer.store.extraction import extract
logging.basicConfig(level="INFO", format="%(message)s")
print(len(extract("test_resnet", sys.argv[1], random_init=True, batch_size=4)))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_two_processes_at_once(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    expected = extract(pets, cache_dir=tmp_path / "undisturbed")
    ran()
    other: list[subprocess.CompletedProcess[str]] = []

    def progress(stage: str, done: int, total: int) -> None:
        """Half-way, let another process extract everything that is missing."""
        if stage == "extracting" and done >= 8 and not other:
            command = [sys.executable, "-c", SECOND, str(pets)]
            other.append(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True))

    assert_same(extract(pets, batch_size=4, progress=progress), expected)
    assert other[0].stdout == "18\n"
    assert those(other[0].stderr.splitlines(), 18)
    assert ran() == 18
    assert stored_sets()[0].manifest().rows == 18
    assert stored_sets()[0].manifest().damaged(thorough=True) == {}
    assert_same(load_features(MODEL), expected)


# Caches that cannot be written


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow larger: what a full disk does, for a moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_spoils_nothing(pets: Path, cache: Path, ran: Callable[[], int]) -> None:
    model = "test_efficientnet"
    before = extract(pets, model, classes=["one"])
    ran()
    with (
        file_size_limit(10_000),
        pytest.raises(StoreError) as error,
    ):
        extract(pets, model)
    says(error, "File too large")
    assert error.value.hint
    assert not list(cache.rglob("*.tmp"))
    assert_same(load_features(model, partial=True), before)
    ran()
    after = extract(pets, model)
    assert ran() == 12
    assert torch.equal(after.only_classes(torch.tensor([0])).features, before.features)


READ_ONLY = """
import sys
from nctransfer.errors import StoreError
from nctransfer.store.extraction import extract
from nctransfer.store.cache_folder import load_features
print(len(load_features("test_resnet", partial=True)))
try:
    extract("test_resnet", sys.argv[1], random_init=True)
except StoreError as error:
    print(error)
    print(error.hint)
"""


@pytest.fixture
def unprivileged() -> list[str]:
    """A command that runs another bound by permissions, as root is not."""
    if os.getuid():
        return []
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if not shutil.which("setpriv") or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("root, and no setpriv")
    return command


def test_a_cache_that_can_only_be_read(pets: Path, cache: Path, unprivileged: list[str]) -> None:
    extract(pets, classes=["one"])
    paths = [cache, *cache.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in paths:
        path.chmod(modes[path] & 0o555)
    try:
        done = subprocess.run(
            [*unprivileged, sys.executable, "-c", READ_ONLY, str(pets)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        for path in paths:
            path.chmod(modes[path])
    rows, message, hint = done.stdout.splitlines() or [done.stderr] * 3
    assert rows == "6"
    assert missing(message, ["Permission denied", cache]) == missing(hint, ["--cache-dir"]) == []


def test_a_cache_that_is_no_folder(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        extract(pets, cache_dir=tmp_path / "file")
    says(error, tmp_path / "file", hint="--cache-dir")


# What is loaded

CACHED = """
import sys
from nctransfer.store.extraction import extract
from nctransfer.store.cache_folder import load_features

def say(found):
    print(len(found), *(name in sys.modules for name in ("timm", "torchvision", "huggingface_hub")))

say(load_features("test_resnet", partial=True))
say(extract("test_resnet", sys.argv[1], random_init=True, classes=["one"]))
say(extract("test_resnet", sys.argv[1], random_init=True))
"""


@pytest.mark.slow
def test_a_stored_set_is_read_without_timm(pets: Path) -> None:
    """And only what is not stored needs it, so that the test can fail."""
    extract(pets, classes=["one"])
    command = [sys.executable, "-c", CACHED, str(pets)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines() == ["6 False False False", "6 False False False", "18 True True True"]
