"""Extraction by several workers, each of which takes its shard of the images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Run, write_digits
from messages import logged, says, those
from nctransfer.backbones.hub import Progress
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import BrokenImagesError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.sharding import Shard
from nctransfer.store import extraction
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.extraction_report import ExtractionReport
from nctransfer.store.pipeline import Runtime
from terminal import cli

MODEL = "test_resnet"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of two classes with twenty images each."""
    return write_digits(tmp_path / "many", {"zero": 0, "one": 1}, 20)


def report(
    data: Path, progress: Progress | None = None, cache: Path | None = None, **chosen: object
) -> ExtractionReport:
    request = BackboneRequest(MODEL, random_init=True)
    return extract_to_store(FeatureStore(cache), request, open_source(data), Selection(**chosen), Runtime(), progress)


def extract(data: Path, **options: object) -> FeatureSet:
    return extraction.extract(MODEL, data, random_init=True, **options)


def bits(found: FeatureSet) -> dict[str, bytes]:
    """The features by id, every bit of them."""
    return {id_: row.numpy().tobytes() for id_, row in zip(found.ids, found.features, strict=True)}


def test_all_shards_together_are_a_plain_extraction(many: Path, tmp_path: Path, ran: Callable[[], int]) -> None:
    found = [report(many, shard=Shard(index, 3)) for index in (2, 3, 1)]
    ids = [entry.id for entry in open_source(many).list()]
    for index, one in zip((2, 3, 1), found, strict=True):
        mine = Shard(index, 3).rows(ids)
        assert one.samples == one.extracted == len(mine) > 0
        assert one.to_dict()["shard"] == f"{index}/3"
        assert str(Shard(index, 3)) in str(one.selection)
    assert ran() == 40
    again = report(many)
    assert (again.samples, again.reused, again.extracted, ran()) == (40, 40, 0, 0)
    assert again.to_dict()["shard"] is None
    # batches of other images may round differently
    plain = extract(many, cache_dir=tmp_path / "plain", batch_size=1)
    assert again.manifest.rows == 40
    whole = again.stored.read()
    assert (whole.ids, whole.labels.tolist()) == (plain.ids, plain.labels.tolist())
    assert float((whole.features - plain.features).abs().max()) < 1e-5 * float(plain.features.abs().max())


def test_a_shard_reads_and_runs_no_other_image(
    many: Path, ran: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nctransfer.sources import loading

    read: list[str] = []
    digest = loading.content_digest
    monkeypatch.setattr(loading, "content_digest", lambda content: read.append("") or digest(content))
    shard = Shard(1, 4)
    samples = report(many, shard=shard).samples
    assert len(read) == ran() == samples < 20
    assert report(many, shard=shard).reused == samples
    assert ran() == 0
    assert len(read) == samples
    other = report(many, shard=Shard(2, 4)).samples  # although the set holds rows, each image is read once
    assert len(read) == samples + other
    assert ran() == other


def test_what_other_workers_store_meanwhile_is_not_counted(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nctransfer.store.writing import SetWriter

    append = SetWriter.append

    def late(self: SetWriter, *given: object) -> None:
        monkeypatch.setattr(SetWriter, "append", append)
        report(many, shard=Shard(2, 2))
        append(self, *given)

    monkeypatch.setattr(SetWriter, "append", late)
    first = report(many, shard=Shard(1, 2))
    assert first.manifest.rows == 40
    assert first.extracted == first.samples == sum(entry.id in Shard(1, 2) for entry in open_source(many).list())


def test_the_library_gives_the_features_of_the_shard(many: Path) -> None:
    shard = extract(many, shard="2/3")
    assert list(shard.ids) == [one for one in extract(many).ids if one in Shard(2, 3)]
    assert bits(shard).items() <= bits(extract(many)).items()


def test_shards_divide_what_the_other_options_select(many: Path) -> None:
    drawn = {entry for index in range(1, 4) for entry in extract(many, max_per_class=5, shard=Shard(index, 3)).ids}
    assert drawn == set(extract(many, max_per_class=5).ids)
    assert len(drawn) == 10
    assert extract(many, classes=["one"], shard="1/2").classes == ("one",)


def test_progress_and_notes_name_the_shard(many: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="nctransfer")
    stages: set[str] = set()
    found = report(many, lambda stage, *_: stages.add(stage), shard=Shard(2, 3))
    assert "shard 2/3: extracting" in stages
    assert logged(caplog, "shard 2/3", found.samples, level=20)


def test_a_shard_without_images_is_no_error(pets: Path, ran: Callable[[], int]) -> None:
    ids = [entry.id for entry in open_source(pets).list()]
    empty = next(shard for index in range(1, 1000) if not len((shard := Shard(index, 1000)).rows(ids)))
    found = report(pets, shard=empty)
    assert (found.samples, found.extracted, found.failed, ran()) == (0, 0, (), 0)
    report(pets)
    assert report(pets, shard=empty).samples == 0


def test_broken_images_are_an_error_of_their_shard_alone(many: Path) -> None:
    broken = many / "zero" / "0.png"
    broken.write_bytes(b"no image")
    [its] = [Shard(index, 2) for index in (1, 2) if "zero/0.png" in Shard(index, 2)]
    other = Shard(3 - its.index, 2)
    assert report(many, shard=other).failed == ()
    with pytest.raises(BrokenImagesError) as caught:
        extract(many, shard=its)
    assert [one.id for one in caught.value.broken] == ["zero/0.png"]
    assert len(extract(many, shard=its, skip_broken=True)) + len(extract(many, shard=other)) == 39


def test_a_shard_of_broken_images_alone_is_no_worse(many: Path) -> None:
    """Its one image is broken: the same as if it stood among others."""
    (many / "zero" / "0.png").write_bytes(b"no image")
    ids = [entry.id for entry in open_source(many).list()]
    of = next(of for of in range(2, 10_000) for shard in [_its("zero/0.png", of)] if len(shard.rows(ids)) == 1)
    found = report(many, shard=_its("zero/0.png", of))
    assert [one.id for one in found.failed] == ["zero/0.png"]
    assert found.samples == 0


def _its(id_: str, of: int) -> Shard:
    return next(Shard(index, of) for index in range(1, of + 1) if id_ in Shard(index, of))


def test_images_of_equal_content_in_two_shards_are_stored_once(many: Path) -> None:
    ids = ["zero/0.png", *(f"zero/{number}.png" for number in range(5, 15))]
    copy = next(id_ for id_ in ids if (id_ in Shard(1, 2)) != (ids[0] in Shard(1, 2)))
    (many / copy).write_bytes((many / ids[0]).read_bytes())
    for index in (1, 2):
        report(many, shard=Shard(index, 2))
    found = report(many)
    assert (found.samples, found.extracted, found.manifest.rows) == (40, 0, 39)


def test_the_speed_of_a_shard_is_not_taken_as_that_of_the_machine(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []
    monkeypatch.setattr(extraction, "keep_speed", lambda *given: kept.append(given))
    report(many, shard=Shard(1, 2))
    assert kept == []
    report(many)
    assert len(kept) == 1


def test_the_command_line(many: Path, run: Run) -> None:
    options = ("--model", MODEL, "--random-init", "--data", many, "--format", "json")
    first = run("extract", *options, "--shard", "auto/2", JOB_COMPLETION_INDEX="0")
    assert first.returncode == 0, first.stderr
    data = json.loads(first.stdout)
    assert data["shard"] == "1/2"
    assert 0 < data["extracted"] < 40
    last = json.loads(Path(os.environ["NCTRANSFER_CACHE"], "last.json").read_text())
    assert last["id"] == data["id"]
    assert last["selection"].get("shard") is None  # what comes after extraction is about all images
    early = cli("collapse")  # it needs the other half
    assert early.exit_code == 1
    assert those([early.stderr], data["samples"], 40)
    wrong = cli("extract", *options, "--shard", "9/8")
    assert wrong.exit_code == 2
    assert those([wrong.stderr], "9/8")


def test_auto_without_a_scheduler_is_wrong_usage(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_ARRAY_TASK_ID", "SLURM_STEP_NUM_TASKS", "RANK", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingError) as caught:
        extract(many, shard="auto")
    says(caught, "SLURM_ARRAY_TASK_ID", hint="--shard")


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_two_processes_fill_one_set_at_once(many: Path, run: Run, attempt: int) -> None:
    options = ["--model", MODEL, "--random-init", "--data", str(many), "--batch-size", "2", "--format", "json"]
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "nctransfer", "extract", *options, "--shard", f"{index}/2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (1, 2)
    ]
    ended = [worker.communicate(timeout=300) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ended
    counts = [json.loads(out)["extracted"] for out, _ in ended]
    assert sum(counts) == 40
    again = run("extract", *options)
    data = json.loads(again.stdout)
    assert (data["samples"], data["extracted"]) == (40, 0)
    [stored] = FeatureStore().sets()
    assert stored.manifest().rows == 40
    plain = extract(many, cache_dir=many.parent / f"plain{attempt}", batch_size=2)
    whole = stored.read()
    assert whole.ids == plain.ids
    assert float((whole.features - plain.features).abs().max()) < 1e-5 * float(plain.features.abs().max())
