"""Images per second as measured in an extraction: what is timed, what is kept, and what is believed."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import write_digits
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.feature_key import json_digest
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.extraction_report import ExtractionReport
from nctransfer.store.kept_results import KeptResults
from nctransfer.store.measured_speed import keep_speed, measured_speed, speed_of
from nctransfer.store.pipeline import Runtime

RUNTIME = Runtime(device="cpu", batch_size=1, workers=1)


def extract(
    data: Path, runtime: Runtime = RUNTIME, most: int | None = None, cache: Path | None = None
) -> ExtractionReport:
    """18 images at most, under a small model of random weights."""
    request, source = BackboneRequest("test_resnet", random_init=True), open_source(data)
    return extract_to_store(FeatureStore(cache), request, source, Selection(max_per_class=most), runtime)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ExtractionReport:
    folder = tmp_path_factory.mktemp("speed")
    return extract(write_digits(folder / "pets", {"zero": 0, "one": 1, "two": 2}, 6), cache=folder / "cache")


@pytest.fixture
def report(made: ExtractionReport) -> ExtractionReport:
    """An extraction of 18 images, whose speed alone is kept."""
    shutil.rmtree(made.stored.path / "speeds")
    keep_speed(made.stored, made, RUNTIME)
    return made


def kept_file(report: ExtractionReport) -> Path:
    [path] = (report.stored.path / "speeds").glob("*.json")
    return path


def forge(report: ExtractionReport, answer: Any) -> None:
    """Replace what is kept, with a right digest."""
    content = json.loads(kept_file(report).read_text()) | {"answer": answer}
    content["digest"] = json_digest([content["question"], answer], 32)
    kept_file(report).write_text(json.dumps(content))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which only the backbone takes time: 100 s for the first batch, 1 s for each further one."""
    now = [0.0]
    call = Backbone.__call__

    def slow(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        now[0] += 1 if now[0] else 100
        return call(self, pixels)

    monkeypatch.setattr(Backbone, "__call__", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("size", "images", "seconds"), [(1, 17, 17.0), (2, 16, 8.0), (4, 18, 104.0), (32, 18, 100.0)])
def test_the_first_batch_is_left_out_if_16_images_remain(pets: Path, size: int, images: int, seconds: float) -> None:
    runtime = replace(RUNTIME, batch_size=size)
    speed = speed_of(extract(pets, runtime), runtime)
    assert speed is not None
    assert (speed.images, speed.seconds, speed.has_first_batch) == (images, seconds, images == 18)
    assert speed.images_per_second == images / seconds
    assert speed.to_dict()["images_per_second"] == images / seconds


def test_a_later_run_finds_the_speed(pets: Path) -> None:
    report = extract(pets)
    first = speed_of(report, RUNTIME)
    assert first is not None
    assert not first.is_earlier
    again = extract(pets)
    assert (again.extracted, again.timed_images) == (0, 0)
    assert speed_of(again, RUNTIME) is None
    assert measured_speed(again.stored, RUNTIME) == replace(first, is_earlier=True)


def test_the_conditions_are_said(report: ExtractionReport) -> None:
    speed = speed_of(report, RUNTIME)
    assert speed is not None
    found = speed.conditions
    assert (found.device, found.dtype, found.batch_size, found.workers) == ("cpu", "float32", 1, 1)
    assert found.threads == torch.get_num_threads()
    assert found.processor
    for word in ("cpu", found.processor, "float32", "batches of 1", f"torch {version('torch')}"):
        assert word in str(found)
    assert json.loads(json.dumps(speed.to_dict()))["conditions"]["batch_size"] == 1


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"workers": 2}, {"compile": True}])
def test_other_conditions_have_no_speed(report: ExtractionReport, change: dict[str, Any]) -> None:
    assert measured_speed(report.stored, replace(RUNTIME, **change)) is None
    assert measured_speed(report.stored, replace(RUNTIME, offline=True)) is not None


def test_another_processor_has_no_speed(report: ExtractionReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.store.measured_speed._processor", lambda device: "abacus")
    assert measured_speed(report.stored, RUNTIME) is None


def test_fewer_than_16_images_give_no_speed(pets: Path) -> None:
    report = extract(pets, most=5)
    assert report.extracted == 15
    assert speed_of(report, RUNTIME) is None
    assert measured_speed(report.stored, RUNTIME) is None
    assert not (report.stored.path / "speeds").exists()


@pytest.mark.parametrize(
    ("images", "has_first_batch", "is_replaced"),
    [(16, False, True), (33, False, True), (36, False, False), (1000, False, False), (1000, True, True)],
)
def test_a_more_precise_measurement_stays(
    report: ExtractionReport, images: int, has_first_batch: bool, is_replaced: bool
) -> None:
    """The extraction timed 17 images."""
    forge(report, {"images": images, "seconds": 123.0, "has_first_batch": has_first_batch})
    assert getattr(measured_speed(report.stored, RUNTIME), "images", None) == images
    keep_speed(report.stored, report, RUNTIME)
    assert getattr(measured_speed(report.stored, RUNTIME), "images", None) == (17 if is_replaced else images)


GOOD = {"images": 20, "seconds": 2.0, "has_first_batch": False}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "fast",
        {},
        {**GOOD, "more": 1},
        {"images": 20, "seconds": 2.0},
        *({**GOOD, "images": images} for images in (15, 0, -20, 20.0, True, "20", None, [20], 10**400)),
        *({**GOOD, "seconds": seconds} for seconds in (0.0, -1.0, 2, "2", None, True, 5e-324)),
        {**GOOD, "has_first_batch": 0},
    ],
    ids=str,
)
def test_what_is_no_measurement_is_ignored_and_replaced(report: ExtractionReport, answer: Any) -> None:
    forge(report, GOOD)
    assert getattr(measured_speed(report.stored, RUNTIME), "images_per_second", math.nan) == 10
    forge(report, answer)
    assert measured_speed(report.stored, RUNTIME) is None
    keep_speed(report.stored, report, RUNTIME)
    assert getattr(measured_speed(report.stored, RUNTIME), "images", None) == 17


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b'{"answer": {"images": 1e999}}'])
def test_a_damaged_file_is_ignored_and_replaced(report: ExtractionReport, content: bytes) -> None:
    kept_file(report).write_bytes(content)
    assert measured_speed(report.stored, RUNTIME) is None
    keep_speed(report.stored, report, RUNTIME)
    assert measured_speed(report.stored, RUNTIME) is not None


def test_where_nothing_can_be_kept_the_extraction_goes_on(pets: Path) -> None:
    stored = extract(pets, most=1).stored
    (stored.path / "speeds").write_bytes(b"a file in the place of the folder")
    report = extract(pets, most=5)
    assert report.samples == 15
    report = extract(pets)
    assert (report.samples, measured_speed(stored, RUNTIME)) == (18, None)


def test_speeds_are_no_results_and_go_with_their_set(pets: Path) -> None:
    report = extract(pets)
    assert (report.stored.path / "speeds").is_dir()
    assert KeptResults(report.stored).size().number == 0
    report.stored.remove()
    assert not report.stored.path.exists()
    keep_speed(report.stored, report, RUNTIME)  # by a process that still runs
    assert not report.stored.path.exists()
