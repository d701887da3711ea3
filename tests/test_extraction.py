"""What is wanted less what is stored goes through the backbone, whatever happens on the way."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from conftest import write_digits
from nctransfer import extraction
from nctransfer.backbones import Backbone, BackboneRequest, find_weights, load
from nctransfer.errors import (
    BrokenImagesError,
    DataError,
    DeviceError,
    FeaturesError,
    NCTransferError,
    StoreError,
    WeightsError,
)
from nctransfer.extraction import ExtractionReport, Runtime, extract_to_store
from nctransfer.features import FeatureSet, Selection
from nctransfer.images import decode, open_source
from nctransfer.store import FeatureStore, StoredSet, load_features

MODEL = "test_resnet"


def extract(data: Path, model: str = MODEL, **options: object) -> FeatureSet:
    """A small model of random weights."""
    return extraction.extract(model, data, **{"random_init": "checkpoint" not in options, **options})


def report(data: Path, batch_size: int = 32, **selection: object) -> ExtractionReport:
    request = BackboneRequest(MODEL, random_init=True)
    return extract_to_store(
        FeatureStore(), request, open_source(data), Selection(**selection), Runtime(batch_size=batch_size)
    )


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

    def counted(self: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        counts.append(len(pixels))
        return call(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", counted)

    def since() -> int:
        total = sum(counts)
        counts.clear()
        return total

    return since


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing by threads, and lose much where the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part for each batch."""
    monkeypatch.setattr(extraction, "PART_SECONDS", 0)


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), level).save(path, "PNG")


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
    monkeypatch.setattr(extraction, "load", lambda *_: pytest.fail("the model was loaded"))
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
    assert len({*zip(frame["class"], frame["label"], strict=True)}) == 4


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
    torch.testing.assert_close(after.features[changed], direct(pixels[None]))


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


def test_a_subset_is_filled_up(pets: Path, ran: Callable[[], int]) -> None:
    assert len(extract(pets, classes=["one"], max_per_class=2)) == 2
    assert ran() == 2
    assert len(extract(pets, classes=["one"])) == 6
    assert ran() == 4
    assert len(load_features(MODEL)) == 6  # the set is what has been extracted
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
    with pytest.raises(WeightsError, match="is no file, or not there"):
        extract(pets, checkpoint=path)


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
    with pytest.raises(DeviceError, match="no device 'tpu'"):
        extract(pets, device="tpu")


def test_unknown_classes_are_answered_by_those_there_are(pets: Path, ran: Callable[[], int]) -> None:
    with pytest.raises(FeaturesError) as caught:
        extract(pets, classes=["three"])
    assert caught.value.hint == "the classes are: 'one', 'two', 'zero'"
    assert ran() == 0


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
    assert told["failed"] == [{"id": "one/bad.png", "reason": "the file is empty (0 bytes)"}]
    assert (told["id"], told["path"]) == (second.stored.id, str(second.stored.rows_path))


def test_it_is_said_what_is_done_and_why(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "nctransfer")
    extract(pets)
    grey(pets / "one" / "new.png", 1)
    caplog.clear()
    extract(pets)
    assert "18 of 19 images are in the cache; extracting 1 that are new, changed, or were lost" in caplog.text
    caplog.clear()
    extract(pets)
    assert "all 19 images are in the cache: nothing to extract" in caplog.text
    (part, *_) = stored_sets()[0].rows_path.iterdir()
    part.write_bytes(b"")
    caplog.clear()
    extract(pets)
    assert f"{part.name} is damaged (0 bytes instead of" in caplog.text


def test_notes_of_the_source_are_passed_on(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    (pets / "one" / "notes.txt").touch()
    extract(pets)
    assert "1 file without the suffix of an image left out" in caplog.text


@pytest.mark.parametrize("broken", [(), ("one/0.png",), ("zero/9.png",), ("zero/8.png", "zero/9.png")])
@pytest.mark.parametrize("batch_size", [1, 18])
def test_progress_ends_at_the_total(pets: Path, broken: tuple[str, ...], batch_size: int) -> None:
    for number, name in enumerate(broken):
        (pets / name).write_bytes(b"broken %d" % number)
    told: list[tuple[str, int, int]] = []
    extract(pets, batch_size=batch_size, skip_broken=True, progress=lambda *event: told.append(event))
    files = len(list(pets.rglob("*.png")))
    for stage in ("reading images", "extracting"):
        events = [(done, total) for name, done, total in told if name == stage]
        assert events[-1] == (files, files)
        assert events == sorted(events)
        assert {total for _, total in events} == {files}


# What is computed


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_efficientnet"])
def test_features_are_those_of_a_plain_timm_loop(pets: Path, model: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = timm.create_model(model, num_classes=1000).eval()
    assert_plain_loop(extract(pets, model), pets, plain)


def test_features_of_the_bundled_weights(pets: Path) -> None:
    plain = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = torch.load(find_weights(BackboneRequest()).path, weights_only=True).values()
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
    monkeypatch.setattr(Backbone, "__call__", lambda self, pixels: call(self, pixels) + 70_000)
    with pytest.raises((BrokenImagesError, DataError)) as caught:
        extract(pets, store_dtype="float16")
    assert "float16" in str(caught.value) + str(getattr(caught.value, "broken", ""))


def test_features_not_finite_are_reported_by_image(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = Backbone.__call__

    def spoiled(self: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        features = call(self, pixels).clone()
        features[1, 5] = torch.nan
        return features

    monkeypatch.setattr(Backbone, "__call__", spoiled)
    with pytest.raises(BrokenImagesError) as caught:
        extract(pets)
    ((name, reason),) = caught.value.broken
    assert name == "one/1.png"
    assert "NaN or infinite features in float32" in reason
    found = load_features(MODEL)
    assert len(found) == 17
    assert name not in found.ids


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
        "two/text.jpg": "no image",
        "two/cut.png": "truncated",
        "zero/dangling.png": "No such file",
        "zero/folder.png/cut.PNG": "truncated",
    }


def test_broken_images_are_all_listed_and_the_others_stored(pets: Path, ran: Callable[[], int]) -> None:
    good = extract(pets, cache_dir=pets.parent / "good")
    ran()
    expected = spoil(pets)
    with pytest.raises(BrokenImagesError, match="the other 18 are stored") as caught:
        extract(pets, batch_size=4)
    reasons = {broken.id: broken.reason for broken in caught.value.broken}
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
    with pytest.raises(DataError, match=r"none of the 2 images could be used; the first: 'a/1\.png'") as caught:
        extract(tmp_path / "pets", skip_broken=True)
    assert not isinstance(caught.value, BrokenImagesError)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(Path.unlink, "No such file"), (lambda path: grey(path, 77), "changed while it was being read")],
)
def test_images_that_change_while_they_are_read(
    pets: Path, ran: Callable[[], int], change: Callable[[Path], object], reason: str
) -> None:
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "reading images":
            change(pets / "two" / "5.png")

    with pytest.raises(BrokenImagesError) as caught:
        extract(pets, progress=progress)
    ((name, found),) = caught.value.broken
    assert name == "two/5.png"
    assert reason in found
    assert ran() == 17


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
    with pytest.raises(StoreError, match=f"{path.name} .*is damaged") as caught:
        load_features(MODEL)
    assert "run the same nctransfer extract again" in caught.value.hint
    with contextlib.suppress(StoreError):
        extract(pets, batch_size=6)
    assert_same(extract(pets), expected)
    assert ran() == 6


@pytest.mark.parametrize("file", ["manifest.json", "sources/*.parquet", "keys/*.json", "last.json"])
@pytest.mark.parametrize("content", [None, b"{", b'{"kind": 1}'])
def test_lost_notes_run_nothing_anew(
    pets: Path, cache: Path, ran: Callable[[], int], file: str, content: bytes | None
) -> None:
    expected = extract(pets)
    ran()
    (path,) = cache.rglob(file) if file == "manifest.json" else cache.glob(file)
    path.unlink() if content is None else path.write_bytes(content)
    assert_same(extract(pets), expected)
    assert ran() == 0


def test_weights_are_not_what_was_remembered(pets: Path, cache: Path, ran: Callable[[], int]) -> None:
    """New rows never go into the set of other weights."""
    expected = extract(pets, classes=["one"])
    (path,) = cache.glob("keys/*.json")
    known = json.loads(path.read_bytes())
    path.write_text(json.dumps({**known, "key": {**known["key"], "weights": "0" * 32}}))
    ran()
    found = extract(pets)
    assert ran() == 12
    assert found.info.id == expected.info.id
    assert [stored.rows for stored in stored_sets()] == [18]
    assert json.loads(path.read_bytes()) == known


def test_a_lost_set_is_run_anew(pets: Path, ran: Callable[[], int]) -> None:
    expected = extract(pets)
    FeatureStore().find(MODEL).remove()
    ran()
    assert_same(extract(pets), expected)
    assert ran() == 18


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
    assert ran() == stored_sets()[0].rows == 8
    assert_same(extract(pets), expected)
    assert ran() == 10


def test_an_interruption_while_reading_stores_nothing_false(pets: Path, ran: Callable[[], int]) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(pets, progress=interrupt)
    assert len(extract(pets)) == ran() == 18


KILLED = """
import os, pathlib, signal, sys, time
import pyarrow.dataset, timm, torch  # once, before the forks
from nctransfer import extraction

extraction.PART_SECONDS = 0
pets, root, *moments = sys.argv[1:]

def work(moment):
    left = int(moment.split()[1]) if moment.startswith("rename") else 0
    replace = pathlib.Path.replace

    def dying(self, target):
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(self, target)

    pathlib.Path.replace = dying
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

# a key, a listing, a head, a part and a manifest for each of three batches, the set used last: one rename each
MOMENTS = [f"rename {number}" for number in (1, 2, 3, 4, 5, 8, 9, 10)]
TIMES = [f"ms {delay}" for delay in (20, 80, 200)]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The images, and a folder of caches whose extractions were killed, each at its moment."""
    root = tmp_path_factory.mktemp("killed")
    pets = write_digits(root / "pets", {"zero": 0, "one": 1}, 6)
    moments = ["undisturbed 0", *MOMENTS, *TIMES]
    command = [sys.executable, "-c", KILLED, str(pets), str(root), *moments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    ends = [line.split(":") for line in done.stdout.splitlines()]
    expected = [["undisturbed 0", "0"], *([moment, "9"] for moment in MOMENTS)]
    assert ends[: len(expected)] == expected, done.stderr
    assert ends[-2:] == [["together 0", "0"]] * 2, done.stderr
    return pets, root


@pytest.mark.parametrize("moment", [*MOMENTS, *TIMES])
def test_a_killed_run_resumes(killed: tuple[Path, Path], ran: Callable[[], int], moment: str) -> None:
    pets, root = killed
    expected = load_features(MODEL, cache_dir=root / "undisturbed 0")
    assert len(expected) == 12
    whole = [path for path in (root / moment).rglob("part-*.parquet") if path.parent.name == "rows"]
    kept = sum(parquet.read_metadata(path).num_rows for path in whole)
    assert_same(extract(pets, cache_dir=root / moment), expected)
    assert ran() == 12 - kept
    stored = FeatureStore(root / moment).find(MODEL)
    assert stored.rows == 12
    assert stored.damaged(thorough=True) == {}
    assert {path.name for path in stored.path.iterdir()} == {".lock", "manifest.json", "rows"}
    assert len(list(stored.rows_path.iterdir())) == len(stored.parts)
    assert_same(extract(pets, cache_dir=root / moment), expected)
    assert ran() == 0


def test_processes_that_start_at_once(killed: tuple[Path, Path], ran: Callable[[], int]) -> None:
    pets, root = killed
    stored = FeatureStore(root / "together 0").find(MODEL)
    assert stored.rows == 12
    assert stored.damaged(thorough=True) == {}
    assert_same(stored.read(), load_features(MODEL, cache_dir=root / "undisturbed 0"))
    assert len(extract(pets, cache_dir=root / "together 0")) == 12
    assert ran() == 0


SECOND = """
import logging, sys
from nctransfer.extraction import extract
logging.basicConfig(level="INFO", format="%(message)s")
print(len(extract("test_resnet", sys.argv[1], random_init=True, batch_size=4)))
"""


@pytest.mark.usefixtures("small_parts")
def test_two_processes_at_once(pets: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    expected = extract(pets, cache_dir=tmp_path / "undisturbed")
    ran()
    heard = tmp_path / "stderr"
    other: list[subprocess.Popen[str]] = []

    def progress(stage: str, done: int, total: int) -> None:
        """Half-way, start the other process and go on once it waits."""
        if stage != "extracting" or done < 8 or other:
            return
        with heard.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", SECOND, str(pets)], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        other.append(process)
        while "waiting for another process" not in heard.read_text():
            assert process.poll() is None, heard.read_text()
            time.sleep(0.01)

    assert_same(extract(pets, batch_size=4, progress=progress), expected)
    out, _ = other[0].communicate(timeout=120)
    assert (other[0].returncode, out) == (0, "18\n"), heard.read_text()
    assert "all 18 images are in the cache" in heard.read_text()
    assert ran() == 18
    assert stored_sets()[0].rows == 18
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
        pytest.raises(StoreError, match="the cache cannot be written: File too large") as caught,
    ):
        extract(pets, model)
    assert "make room and run again" in caught.value.hint
    assert not list(cache.rglob("*.tmp"))
    assert_same(load_features(model), before)
    ran()
    after = extract(pets, model)
    assert ran() == 12
    assert torch.equal(after.only_classes(torch.tensor([0])).features, before.features)


READ_ONLY = """
import sys
from nctransfer.errors import StoreError
from nctransfer.extraction import extract
from nctransfer.store import load_features
print(len(load_features("test_resnet")))
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
            timeout=120,
            check=False,
        )
    finally:
        for path in paths:
            path.chmod(modes[path])
    rows, message, hint = done.stdout.splitlines() or [done.stderr] * 3
    assert rows == "6"
    assert message.startswith("the cache cannot be written: Permission denied")
    assert str(cache) in message
    assert "--cache-dir" in hint


def test_a_cache_that_is_no_folder(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        extract(pets, cache_dir=tmp_path / "file")


# What is loaded

CACHED = """
import sys
from nctransfer.extraction import extract
from nctransfer.store import load_features

def say(found):
    print(len(found), *(name in sys.modules for name in ("timm", "torchvision", "huggingface_hub")))

say(load_features("test_resnet"))
say(extract("test_resnet", sys.argv[1], random_init=True, classes=["one"]))
say(extract("test_resnet", sys.argv[1], random_init=True))
"""


def test_a_stored_set_is_read_without_timm(pets: Path) -> None:
    """And only what is not stored needs it, so that the test can fail."""
    extract(pets, classes=["one"])
    command = [sys.executable, "-c", CACHED, str(pets)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["6 False False False", "6 False False False", "18 True True True"]
