"""Images per second and CPU time per image of an extraction, against timm's own loop and against the model alone.

    python tests/benchmarks/extraction.py [--images N] [--model M …] [--kinds jpeg png] [--dtype T …] [--device D]

The images are JPEG files of 500×375, and PNG files of 32×32. In turns, so that a change of the machine's speed meets
all:

- *timm*: what users would write after timm's ``inference.py``: ``create_loader`` over the folder, worker
  processes, the model as it is built, features before the classifier.
- *bare*: the same model over a batch in memory, channels last: the floor of eager PyTorch.
- *prepared*: the model as ``extract`` runs it, over a batch in memory: the floor of ``extract``.
- *extract*: ``extract_to_store`` into an empty store, without loading the model: reading, decoding, resizing, the
  model, and writing.

CPU times are those of all threads and of timm's worker processes. The peak is that of the resident memory while one
way runs; it holds everything that the process has loaded before. Other processes on the machine disturb the images per
second more than the CPU times, and shares of CPU times least of all.
"""

import argparse
import contextlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from nctransfer.cli.waiting import wait_passively

wait_passively()  # as the command does; it has an effect only before torch is imported

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from timm.data import ImageDataset, create_loader, resolve_model_data_config  # noqa: E402

from nctransfer.backbones.backbone import Backbone  # noqa: E402
from nctransfer.backbones.building import load  # noqa: E402
from nctransfer.backbones.feature_key import FEATURE  # noqa: E402
from nctransfer.backbones.kept_memory import kept_memory  # noqa: E402
from nctransfer.backbones.request import BackboneRequest  # noqa: E402
from nctransfer.sources.loading import threads  # noqa: E402
from nctransfer.sources.opening import open_source  # noqa: E402
from nctransfer.sources.selection import Selection  # noqa: E402
from nctransfer.store import resuming  # noqa: E402
from nctransfer.store.cache_folder import FeatureStore  # noqa: E402
from nctransfer.store.extraction import extract_to_store  # noqa: E402
from nctransfer.store.lazy_backbone import LazyBackbone  # noqa: E402
from nctransfer.store.pipeline import Runtime, Work  # noqa: E402

TITLE = "Extraction, beside timm's own loop and the model alone"
BATCH = 32
MODELS = ("tf_efficientnet_lite0",)
COLUMNS = ("model", "images", "numbers", "way", "images/s", "CPU ms per image", "extract, as a share", "of CPU", "MiB")
Run = tuple[int, float, float]
"""A number of images, the seconds that they took, and the CPU seconds."""


class Cost(NamedTuple):
    """What one way of running costs: images per second, CPU milliseconds per image, peak of resident MiB."""

    rate: float
    cpu: float
    peak: float


def pictures(root: Path, count: int, kind: str) -> Path:
    """Smoothed noise, which costs as much to decode as a photograph."""
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (8, 8, 3) if kind == "png" else (94, 125, 3), dtype=np.uint8)
        size = (32, 32) if kind == "png" else (500, 375)
        image = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        path = root / str(number % 10) / f"{number}.{kind}"
        path.parent.mkdir(exist_ok=True, parents=True)
        image.save(path, quality=90)
    return root


def timed(run: Callable[[], int]) -> Run:
    """Run something that returns a number of images."""
    start, cpu = time.perf_counter(), cpu_seconds()
    count = run()
    return count, time.perf_counter() - start, cpu_seconds() - cpu


def alone(backbone: Backbone, count: int, keep: bool) -> Run:
    """The model over one batch in memory."""
    pixels = torch.randint(0, 256, (BATCH, *backbone.key.transform["input_size"]), dtype=torch.uint8)

    def run() -> int:
        for _ in range(max(1, count // BATCH)):
            backbone(pixels)[FEATURE].sum().item()
        return max(1, count // BATCH) * BATCH

    with kept_memory() if keep else contextlib.nullcontext():
        return timed(run)


def with_timm(model: torch.nn.Module, folder: Path, device: str) -> Run:
    """timm's loader and model."""

    def run() -> int:
        loader = create_loader(
            ImageDataset(str(folder)),
            batch_size=BATCH,
            use_prefetcher=device != "cpu",
            num_workers=threads(None),
            device=torch.device(device),
            **resolve_model_data_config(model),
        )
        count = 0
        with torch.inference_mode():
            for images, _ in loader:
                model.forward_head(model.forward_features(images.to(device)), pre_logits=True).cpu().numpy()
                count += len(images)
        del loader  # ends its workers, whose CPU time counts from then on
        return count

    return timed(run)


def with_extract(request: BackboneRequest, folder: Path, device: str) -> Run:
    """An extraction, from the first image to the last, after the model has been loaded."""
    used = []

    class Timed(Work):
        def run(self) -> None:
            used.append(timed(lambda: super(Timed, self).run() or len(self.missing)))

    resuming.Work = Timed  # type: ignore[misc]
    try:
        with tempfile.TemporaryDirectory() as cache:
            runtime = Runtime(device=device, batch_size=BATCH)
            extract_to_store(FeatureStore(cache), request, open_source(folder), Selection(), runtime)
    finally:
        resuming.Work = Work  # type: ignore[misc]
    return used[0]


def prepared(request: BackboneRequest, device: str) -> Backbone:
    """The backbone as ``extract`` prepares it."""
    with tempfile.TemporaryDirectory() as cache:
        return LazyBackbone(FeatureStore(cache), request, Runtime(device=device, batch_size=BATCH), None).get([FEATURE])


def cost(way: Callable[[], Run]) -> Cost:
    """Run one way, and measure it."""
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
    images, seconds, cpu = way()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    return Cost(images / seconds, 1000 * cpu / images, peak)


def cpu_seconds() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, folder: Path, images: int, dtype: str, device: str, rounds: int) -> dict[str, Cost]:
    """The cost of every way, in the median of some rounds."""
    request = BackboneRequest(name, random_init=True, dtype=dtype)
    bare, ready = load(BackboneRequest(name, random_init=True), device), prepared(request, device)
    model = timm.create_model(name).eval().to(device)
    ways: dict[str, Callable[[], Run]] = {
        "timm": lambda: with_timm(model, folder, device),
        "bare": lambda: alone(bare, images, keep=False),
        "prepared": lambda: alone(ready, images, keep=True),
        "extract": lambda: with_extract(request, folder, device),
    }
    for backbone in (bare, ready):
        alone(backbone, 1, keep=False)  # the first run prepares kernels
    costs: dict[str, list[Cost]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            costs[way].append(cost(run))
    return {
        way: Cost(*(statistics.median(column) for column in zip(*found, strict=True))) for way, found in costs.items()
    }


def rows(given: argparse.Namespace) -> Iterable[list[str]]:
    """One row for each way of each model, kind of images and dtype."""
    with tempfile.TemporaryDirectory() as root:
        for kind in given.kinds:
            folder = pictures(Path(root) / kind, given.images, kind)
            for name in given.model:
                for dtype in given.dtype:
                    found = measure(name, folder, given.images, dtype, given.device, given.rounds)
                    extract = found["extract"]
                    for way, one in found.items():
                        yield [
                            *(name, kind, dtype, way, f"{one.rate:.1f}", f"{one.cpu:.1f}"),
                            *(f"{extract.rate / one.rate:.2f}", f"{one.cpu / extract.cpu:.2f}", f"{one.peak:.0f}"),
                        ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--model", nargs="+", default=["tf_efficientnet_lite0"])
    parser.add_argument("--kinds", nargs="+", default=["jpeg", "png"], choices=["jpeg", "png"])
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    print("| " + " | ".join(COLUMNS) + " |\n" + "| --- " * len(COLUMNS) + "|")
    for row in rows(parser.parse_args()):
        print("| " + " | ".join(row) + " |", flush=True)


def table() -> str:
    """The table for the usual models, made by a fresh process, in which torch has not been imported yet."""
    command = [sys.executable, __file__, "--model", *MODELS, "--images", "320"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
