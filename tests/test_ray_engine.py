"""Extraction by workers of Ray: who runs what, what is written, and what happens if workers die.

Here a stand-in takes the place of Ray, so that workers die exactly when a test wants it; test_ray.py runs a cluster.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import write_digits
from fake_ray import FakeRay
from messages import logged, missing, names, raises, says
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import (
    DeviceError,
    EngineError,
    ModelError,
    NCTransferError,
    SettingError,
    StoreError,
)
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions
from nctransfer.store import ray_blocks, ray_worker
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract, extract_to_store
from nctransfer.store.extraction_report import ExtractionReport
from nctransfer.store.listings import Listed, Listing
from nctransfer.store.pipeline import Runtime
from nctransfer.store.ray_blocks import Blocks
from nctransfer.store.ray_cluster import Crew, planned_crew
from nctransfer.store.ray_options import RayOptions
from nctransfer.store.ray_worker import Order, PartSink, RayWorker
from terminal import cli

MODEL = BackboneRequest("test_vit", random_init=True, img_size=32)
CLASSES = {name: number for number, name in enumerate(["zero", "one", "two", "three"])}


def listed(count: int, digests: bool = True) -> Listing:
    return Listing.of(Listed(f"{n:05}", "a", "", 1, 1, f"{n:032x}" if digests else "") for n in range(count))


# Blocks


@pytest.mark.parametrize("seed", range(30))
def test_every_image_is_written_once_whoever_dies(seed: int) -> None:
    """Workers of random speeds, which write now and then and die now and then, by hand."""
    draw = random.Random(seed)
    images = listed(draw.choice([1, 7, 300, 1_000]))
    poison = {image.id for image in draw.sample(list(images), draw.choice([0, 0, 1, 2]) if len(images) > 7 else 0)}
    blocks, names = Blocks(images, draw.choice([1, 8, 32])), itertools.count()
    running: dict[int, list[list[Listed]]] = {next(names): [] for _ in range(draw.choice([1, 2, 5]))}
    held: dict[int, list[Listed]] = {name: [] for name in running}
    written: Counter[str] = Counter()
    given_up: list[str] = []
    for _ in range(20_000):
        if blocks.are_done:
            break
        name = draw.choice(list(running))
        while block := blocks.take(name, len(running)):
            running[name].append(list(block.images))
        assert len(running[name]) <= ray_blocks.IN_FLIGHT
        first = running[name][0] if running[name] else []
        if (first and {image.id for image in first} & poison) or draw.random() < 0.05:
            given_up += [image.id for image in blocks.lost(name)]
            del running[name], held[name]
            name = next(names)
            running[name], held[name] = [], []
            continue
        if first:
            held[name] += running[name].pop(0)
            blocks.finished(name, draw.uniform(0.1, 10), {image.id: image.digest for image in first})
        if not first or draw.random() < 0.3:
            keep = draw.choice([0, len(held[name]) // 2])
            parts = held[name][: len(held[name]) - keep]
            held[name] = held[name][len(parts) :]
            written.update(image.id for image in parts)
            blocks.wrote(name, [image.digest for image in parts], keep)
    assert blocks.are_done
    assert set(given_up) == poison
    # what a worker had written but not all of, when it died, is not run again
    assert written == Counter(image.id for image in images if image.id not in poison)
    assert blocks.finished_images == len(images)


def test_blocks_follow_the_speed_of_their_worker_and_shrink_towards_the_end() -> None:
    blocks = Blocks(listed(100_000), 32)
    sizes = []
    while block := blocks.take("fast", 1):
        sizes.append(len(block.images))
        blocks.finished("fast", len(block.images) / 1_000, {})
        blocks.wrote("fast", (), 0)
    assert sizes[0] == ray_blocks.FIRST_BATCHES * 32
    assert max(sizes) == 5_024  # five seconds, in whole batches
    assert sizes[-1] <= 32
    assert sum(sizes) == 100_000
    assert all(size % 32 == 0 for size in sizes)
    assert [len(Blocks(listed(64), 32).take("one", 4).images)] == [32]  # type: ignore[union-attr]


def test_a_worker_has_at_most_two_blocks() -> None:
    blocks = Blocks(listed(1_000), 8)
    assert blocks.take("a", 2)
    assert blocks.take("a", 2)
    assert blocks.take("a", 2) is None
    assert blocks.take("b", 2)
    assert blocks.waiting == 1_000 - 3 * 32


# Shares of a cluster


@pytest.mark.parametrize(
    ("options", "device", "nodes", "expected"),
    [
        ({}, "auto", [{"CPU": 2}], Crew(actors=1, cpus=2, gpus=0.0, threads=2, room=1)),
        ({}, "auto", [{"CPU": 16}, {"CPU": 8}], Crew(actors=6, cpus=4, gpus=0.0, threads=4, room=6)),
        ({"actors": 2}, "auto", [{"CPU": 2}], Crew(actors=2, cpus=1, gpus=0.0, threads=1, room=2)),
        ({"actors": 4}, "auto", [{"CPU": 2}], Crew(actors=4, cpus=0.5, gpus=0.0, threads=1, room=4)),
        ({"actors": 3}, "cpu", [{"CPU": 1}] * 3, Crew(actors=3, cpus=1, gpus=0.0, threads=1, room=3)),
        ({}, "cuda", [{"CPU": 64, "GPU": 8}], Crew(actors=8, cpus=1, gpus=1.0, threads=8, room=8)),
        (
            *({"gpus_per_actor": 0.5}, "auto", [{"CPU": 8, "GPU": 2}, {"CPU": 8}]),
            Crew(actors=4, cpus=1, gpus=0.5, threads=2, room=4),
        ),
        ({"gpus_per_actor": 2}, "auto", [{"CPU": 2, "GPU": 4}], Crew(actors=2, cpus=1, gpus=2, threads=1, room=2)),
        ({}, "cpu", [{"CPU": 8, "GPU": 2}], Crew(actors=2, cpus=4, gpus=0.0, threads=4, room=2)),
        ({"actors": 9}, "auto", [{"CPU": 8, "GPU": 2}], Crew(actors=9, cpus=1, gpus=1.0, threads=4, room=2)),
    ],
)  # fmt: skip
def test_how_workers_share_a_cluster(
    options: dict[str, Any], device: str, nodes: list[dict[str, float]], expected: Crew
) -> None:
    assert planned_crew(RayOptions(**options), device, nodes) == expected


@pytest.mark.parametrize(
    ("options", "device", "nodes", "named"),
    [
        ({}, "cuda", [{"CPU": 8}], "cuda"),
        ({"gpus_per_actor": 1}, "cpu", [{"CPU": 8, "GPU": 1}], "cpu"),
        ({"gpus_per_actor": 4}, "auto", [{"CPU": 8, "GPU": 2}], 4),
        ({"gpus_per_actor": 1}, "auto", [{"CPU": 8}], "1 GPU fits"),
        ({"gpus_per_actor": 2}, "auto", [{"CPU": 8, "GPU": 1}], "2 GPUs fits"),
        ({}, "auto", [{"memory": 1.0}], "CPUs"),
    ],
)
def test_what_a_cluster_has_not(
    options: dict[str, Any], device: str, nodes: list[dict[str, float]], named: object
) -> None:
    with pytest.raises(DeviceError) as caught:
        planned_crew(RayOptions(**options), device, nodes)
    says(caught.value, named)


@pytest.mark.parametrize("wrong", [{"actors": 0}, {"gpus_per_actor": -1}, {"gpus_per_actor": 1.5}, {"address": ""}])
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        RayOptions(**wrong)


# The whole engine, with the stand-in


@pytest.fixture(autouse=True)
def _memory_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker changes the allocator for good, since its process does nothing else; this one does."""
    monkeypatch.setattr(ray_worker, "kept_memory", contextlib.nullcontext)


@pytest.fixture
def one_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers share one backbone, since loading takes longer than running; and they write after each second block."""
    made = load(MODEL)
    monkeypatch.setattr(ray_worker, "load", lambda *_: made)
    monkeypatch.setattr(ray_worker, "PART_SECONDS", 0.02)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, one_backbone: None) -> Callable[..., FakeRay]:
    def started(**settings: Any) -> FakeRay:
        ray = FakeRay(**settings)
        monkeypatch.setitem(sys.modules, "ray", ray)
        return ray

    return started


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write_digits(tmp_path / "pets", CLASSES, 20)


def run(data: Path, cache: Path | None = None, actors: int | None = 2, **settings: Any) -> ExtractionReport:
    return extract_to_store(
        FeatureStore(cache),
        MODEL,
        open_source(data),
        Selection(),
        Runtime(batch_size=4, workers=1, engine="ray" if actors else "local", ray=RayOptions(actors=actors)),
        **settings,
    )


def rows_of(report: ExtractionReport) -> dict[str, bytes]:
    """The stored features by the digests of their images; each image is there once."""
    from pyarrow import parquet

    found = {}
    for path in sorted(report.stored.rows_path.iterdir()):
        table = parquet.read_table(path)
        for digest, vector in zip(table["digest"].to_pylist(), table["feature"].to_pylist(), strict=True):
            assert digest not in found
            found[digest] = np.array(vector, np.float32).tobytes()
    assert report.stored.manifest().rows == len(found)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What this process alone stores for the same images."""
    folder = tmp_path_factory.mktemp("expected")
    return rows_of(run(write_digits(folder / "pets", CLASSES, 20), folder / "cache", actors=None))


@pytest.mark.parametrize("actors", [1, 2, 5])
def test_workers_write_what_one_process_would(
    start: Callable[..., FakeRay], pets: Path, expected: dict[str, bytes], actors: int
) -> None:
    ray = start(nodes=[{"CPU": 3}, {"CPU": 2}])
    steps: list[tuple[str, int, int]] = []
    report = run(pets, actors=actors, progress=lambda *step: steps.append(step))
    assert rows_of(report) == expected
    assert (report.samples, report.extracted, report.failed) == (80, 80, ())
    assert steps[-1] == ("extracting", 80, 80)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)
    assert len(ray.actors) == actors
    assert all(actor.is_dead for actor in ray.actors)  # none is left behind
    assert not list(report.stored.path.glob("*.tmp"))
    assert run(pets, actors=actors).extracted == 0


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 40))])
def test_workers_that_die_are_replaced(
    start: Callable[..., FakeRay], pets: Path, expected: dict[str, bytes], seed: int
) -> None:
    draw, calls = random.Random(seed), itertools.count()

    def dies(worker: int, method: str, values: tuple[Any, ...]) -> str:
        return "after" if next(calls) == 5 else draw.choices(["before", "after", "never"], [1, 1, 20])[0]

    ray = start(dies=dies, seed=seed)
    report = run(pets)
    assert rows_of(report) == expected
    assert (report.samples, report.failed) == (80, ())
    assert len(ray.actors) > 2


def test_an_image_that_kills_its_workers_is_named(
    start: Callable[..., FakeRay], pets: Path, expected: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    poison = "two/3.png"
    assert (pets / poison).exists()

    def dies(worker: int, method: str, values: tuple[Any, ...]) -> str:
        return "before" if method == "run" and any(image.id == poison for image in values[0]) else "never"

    ray = start(dies=dies)
    report = run(pets)
    [broken] = report.failed
    assert broken.id == poison
    assert names(broken.reason, "died")
    assert report.samples == 79
    assert set(rows_of(report)) < set(expected)
    assert len(ray.actors) < 15
    assert logged(caplog, "died")
    ray.dies = lambda *_: "never"
    assert run(pets).samples == 80  # it is tried again


def test_workers_that_always_die_end_the_run(start: Callable[..., FakeRay], pets: Path) -> None:
    start(dies=lambda worker, method, values: "before" if method == "run" else "never")
    with pytest.raises(EngineError) as caught:
        run(pets)
    says(caught.value, ".png")
    start(dies=lambda *_: "before")
    with pytest.raises(EngineError, match="died"):
        run(pets)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that went through a backbone."""
    sizes: list[int] = []
    call = Backbone.__call__
    monkeypatch.setattr(Backbone, "__call__", lambda self, pixels: sizes.append(len(pixels)) or call(self, pixels))  # type: ignore[func-returns-value]
    return sizes


@pytest.mark.parametrize("moment", [2, 4, 6, 9])
def test_what_was_computed_before_an_interruption_is_stored(
    start: Callable[..., FakeRay],
    pets: Path,
    expected: dict[str, bytes],
    moment: int,
    ran: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    ray = start()
    ran.clear()

    def interrupt(wait: int) -> None:
        if wait == moment:
            raise KeyboardInterrupt

    ray.on_wait = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(pets)
    assert all(actor.is_dead for actor in ray.actors)
    [stored] = FeatureStore().sets()
    assert stored.manifest().rows == sum(ran)
    assert sum(ran) < 80
    assert logged(caplog, "in the cache now", sum(ran), 80, level=logging.INFO)
    assert rows_of(run(pets)) == expected
    assert sum(ran) == 80


def test_broken_images_and_copies_are_reported_as_by_one_process(
    start: Callable[..., FakeRay], pets: Path, tmp_path: Path
) -> None:
    (pets / "one" / "3.png").write_bytes(b"no image")
    (pets / "two" / "4.png").write_bytes(b"no image")  # the same content
    for number in range(5):
        (pets / "three" / f"copy {number}.png").write_bytes((pets / "zero" / f"{number}.png").read_bytes())
    local = run(pets, tmp_path / "local", actors=None)
    start()
    report = run(pets, actors=4)
    assert rows_of(report) == rows_of(local)
    assert report.failed == local.failed
    assert report.samples == local.samples
    assert local.extracted <= report.extracted <= local.samples  # two workers may have run the same content
    assert report.stored.read().ids == local.stored.read().ids


def test_an_error_of_a_worker_ends_the_run_and_keeps_what_is_computed(
    start: Callable[..., FakeRay], pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    write, count = ray_worker.write_part, itertools.count()

    def full(*values: Any) -> Any:
        if next(count) == 2:
            raise StoreError("the disk is full", "make room")
        return write(*values)

    monkeypatch.setattr(ray_worker, "write_part", full)
    with pytest.raises(StoreError) as caught:
        run(pets)
    says(caught.value, "the disk is full")
    assert caught.value.hint == "make room"
    [stored] = FeatureStore().sets()
    assert stored.manifest().rows
    monkeypatch.setattr(ray_worker, "write_part", write)
    assert run(pets).samples == 80


def test_features_of_layers_are_added_to_all_rows(
    start: Callable[..., FakeRay], pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start()
    run(pets)
    deep = replace(MODEL, layers="1")
    backbone = load(deep)
    monkeypatch.setattr(ray_worker, "load", lambda *_: backbone)
    settings = Runtime(batch_size=4, workers=1, engine="ray", ray=RayOptions(actors=2))
    report = extract_to_store(FeatureStore(), deep, open_source(pets), Selection(), settings)
    assert report.stored.manifest().rows == 80
    assert set(report.manifest.columns) == {"feature", "layer_1"}


# What a worker refuses


@pytest.fixture
def order(tmp_path: Path, pets: Path) -> Order:
    source, folder = open_source(pets), tmp_path / "set"
    folder.mkdir()
    (folder / "proof").touch()
    return Order(
        request=MODEL,
        key=load(MODEL).key,
        about={"weights": "random", "data": "pets"},
        runtime=Runtime(device="cpu", batch_size=4, workers=1),
        threads=1,
        data=str(pets),
        reading=ReadingOptions(),
        source=source.id,
        folder=folder,
        proof="proof",
        start=str(Path.cwd()),
        versions=ray_worker.versions(),
    )


def test_a_worker_starts(order: Order) -> None:
    reply = RayWorker(pickle.loads(pickle.dumps(order))).start()
    assert (reply.error, reply.notes) == (None, [])


@pytest.mark.parametrize(
    ("change", "kind", "named"),
    [
        ({"folder": Path("/nowhere/set")}, EngineError, "/nowhere/set"),
        ({"proof": "another"}, EngineError, "set"),
        ({"start": "/nowhere"}, EngineError, "/nowhere"),
        ({"data": "/nowhere/pets"}, NCTransferError, "/nowhere/pets"),
        ({"source": "pets-12345678"}, EngineError, "pets-12345678"),
        ({"request": replace(MODEL, seed=1)}, ModelError, "weights"),
        ({"request": replace(MODEL, checkpoint=Path("/nowhere/w.pth"), random_init=False)}, NCTransferError, "w.pth"),
    ],
)
def test_what_a_worker_cannot_see_is_named_with_its_node(
    order: Order, change: dict[str, Any], kind: type[NCTransferError], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    error = pickle.loads(pickle.dumps(RayWorker(replace(order, **change)).start())).error
    assert isinstance(error, kind)
    says(error, "node-7", named)
    assert error.hint


def test_other_versions_are_noted(order: Order) -> None:
    reply = RayWorker(replace(order, versions={**ray_worker.versions(), "torch": "1.0"})).start()
    assert reply.error is None
    [(level, text)] = reply.notes
    assert level == 30
    assert "torch" in text


def test_a_sink_writes_few_parts(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = PartSink(order.folder, order.key, order.about)
    rows = list(listed(12))
    for start in range(0, 12, 4):
        sink.append(rows[start : start + 4], {"feature": np.ones((4, 3), np.float32)})
    assert (sink.held, sink.take_written()) == (12, [])
    sink.flush()
    [part] = sink.take_written()
    assert list(part.digests) == [row.digest for row in rows]
    assert (sink.held, sorted(sink.digests().to_pylist())) == (0, [row.digest for row in rows])
    monkeypatch.setattr(ray_worker, "PART_BYTES", 40)
    sink.append(rows[:4], {"feature": np.ones((4, 3), np.float32)})
    assert sink.held == 0


# Options of the command


def test_what_the_command_refuses(pets: Path) -> None:
    for options, named in (
        (("--actors", 2), ("--actors", "--engine")),
        (("--engine", "spark"), ("spark", "local", "ray")),
        (("--engine", "ray", "--gpus-per-actor", 1.5), ("--gpus-per-actor", 1.5)),
    ):
        wrong = cli("extract", "--data", pets, *options)
        assert (wrong.exit_code, missing(wrong.stderr, named)) == (2, [])


def test_without_ray_the_error_says_how_to_get_it(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError) as caught:
        run(pets)
    assert "nctransfer[ray]" in caught.value.hint


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999999"])
def test_a_cluster_that_is_not_there(
    pets: Path, address: str, start: Callable[..., FakeRay], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ray = start()
    ray.is_initialized = lambda: False  # type: ignore[method-assign]
    settings = Runtime(engine="ray", ray=RayOptions(address=address))
    with raises(EngineError, address, hint="ray status"):
        extract_to_store(FeatureStore(), MODEL, open_source(pets), Selection(), settings)
    assert logged(caplog, address, level=logging.INFO)


def test_a_cluster_that_wants_a_token(
    pets: Path, start: Callable[..., FakeRay], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself prints the reason once a second, and raises an error that lacks it."""
    line = b"[2026-01-01 W 1 1] gcs_client.cc:210: Failed: Unauthenticated: Authentication token is missing\n"

    def init(*_: object, **__: object) -> None:
        os.write(2, line * 3)
        raise ConnectionError("Failed to connect to Ray cluster at 192.0.2.2:44367")

    ray = start()
    ray.is_initialized = lambda: False  # type: ignore[method-assign]
    monkeypatch.setattr(ray, "init", init, raising=False)
    settings = Runtime(engine="ray", ray=RayOptions(address="auto"))
    facts = ("192.0.2.2:44367", "Authentication token is missing")
    with raises(EngineError, *facts, hint=["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"]):
        extract_to_store(FeatureStore(), MODEL, open_source(pets), Selection(), settings)
    os.write(2, b"the stream is back")
    assert "gcs_client" not in (printed := capfd.readouterr().err)
    assert "the stream is back" in printed


def test_images_without_a_name_cannot_be_opened_elsewhere(start: Callable[..., FakeRay], pets: Path) -> None:
    start()
    source = open_source(pets)
    source.opened_as = None
    settings = Runtime(engine="ray")
    with raises(EngineError, str(pets), hint="nctransfer.open_source"):
        extract_to_store(FeatureStore(), MODEL, source, Selection(), settings)


def test_the_library_has_the_same_settings(start: Callable[..., FakeRay], pets: Path) -> None:
    ray = start()
    features = extract(
        "test_vit", pets, random_init=True, img_size=32, engine="ray", ray=RayOptions(actors=3), batch_size=4
    )
    assert (len(features), len(ray.actors)) == (80, 3)
