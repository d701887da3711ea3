"""Images per second and CPU time per image of an extraction, against timm's own loop and against the model alone.

    python tests/benchmarks/extraction.py [images] [--model M …] [--kinds jpeg png] [--dtype T] [--device D]

The images are JPEG files of 500×375, and PNG files of 32×32. In turns, so that a change of the machine's speed meets
all:

- *timm*: what users would write after timm's ``inference.py``: ``create_loader`` over the folder, worker
  processes, the model as it is built, features before the classifier.
- *bare*: the same model over a batch in memory, channels last: the floor of eager PyTorch.
- *prepared*: the model as ``extract`` runs it, over a batch in memory: the floor of ``extract``.
- *extract*: ``extract_to_store`` into an empty store, without loading the model.

CPU times are those of all threads and of timm's worker processes. The peak is that of the resident memory while one
way runs; it holds everything that the process has loaded before. Other processes on the machine disturb the images per
second more than the CPU times.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
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
from nctransfer.backbones.request import BackboneRequest  # noqa: E402
from nctransfer.sources.loading import threads  # noqa: E402
from nctransfer.sources.opening import open_source  # noqa: E402
from nctransfer.sources.selection import Selection  # noqa: E402
from nctransfer.store.cache_folder import FeatureStore  # noqa: E402
from nctransfer.store.extraction import extract_to_store  # noqa: E402
from nctransfer.store.lazy_backbone import LazyBackbone  # noqa: E402
from nctransfer.store.pipeline import Runtime  # noqa: E402

BATCH = 32


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


def alone(backbone: Backbone, count: int) -> tuple[int, float]:
    """The model over one batch in memory; returns the number of images, and the seconds."""
    pixels = torch.randint(0, 256, (BATCH, *backbone.key.transform["input_size"]), dtype=torch.uint8)
    start = time.perf_counter()
    for _ in range(max(1, count // BATCH)):
        backbone(pixels)[FEATURE].sum().item()
    return max(1, count // BATCH) * BATCH, time.perf_counter() - start


def with_timm(model: torch.nn.Module, folder: Path, device: str) -> tuple[int, float]:
    """timm's loader and model; returns the number of images, and the seconds."""
    config = resolve_model_data_config(model)
    loader = create_loader(
        ImageDataset(str(folder)),
        batch_size=BATCH,
        use_prefetcher=device != "cpu",
        num_workers=threads(None),
        device=torch.device(device),
        **config,
    )
    start, count = time.perf_counter(), 0
    with torch.inference_mode():
        for images, _ in loader:
            model.forward_head(model.forward_features(images.to(device)), pre_logits=True).cpu().numpy()
            count += len(images)
    return count, time.perf_counter() - start


def with_extract(request: BackboneRequest, folder: Path, device: str) -> tuple[int, float]:
    """An extraction; returns the number of images, and the seconds."""
    with tempfile.TemporaryDirectory() as cache:
        report = extract_to_store(
            FeatureStore(cache), request, open_source(folder), Selection(), Runtime(device=device, batch_size=BATCH)
        )
    return report.extracted, report.seconds


def prepared(request: BackboneRequest, device: str) -> Backbone:
    """The backbone as ``extract`` prepares it."""
    with tempfile.TemporaryDirectory() as cache:
        return LazyBackbone(FeatureStore(cache), request, Runtime(device=device, batch_size=BATCH), None).get([FEATURE])


def cost(run: Callable[[], tuple[int, float]]) -> Cost:
    """Run one way, and measure it. The CPU time of an extraction includes loading the model, see :func:`main`."""
    Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
    before = cpu_seconds()
    images, seconds = run()
    used = cpu_seconds() - before
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    return Cost(images / seconds, 1000 * used / images, peak)


def cpu_seconds() -> float:
    """CPU seconds of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(name: str, folder: Path, images: int, dtype: str, device: str, rounds: int) -> dict[str, Cost]:
    """The cost of every way, in the median of some rounds."""
    request = BackboneRequest(name, random_init=True, dtype=dtype)
    bare, ready = load(BackboneRequest(name, random_init=True), device), prepared(request, device)
    model = timm.create_model(name).eval().to(device)
    few = folder / "0"  # loading and preparing are taken off: they are what an extraction of one image costs
    one = Path(tempfile.mkdtemp(dir=folder.parent)) / "one"
    one.mkdir()
    first = next(few.iterdir())
    (one / first.name).write_bytes(first.read_bytes())
    runs: dict[str, Callable[[], tuple[int, float]]] = {
        "timm": lambda: with_timm(model, folder, device),
        "bare": lambda: alone(bare, images),
        "prepared": lambda: alone(ready, images),
        "extract": lambda: with_extract(request, folder, device),
    }
    costs: dict[str, list[Cost]] = {way: [] for way in runs}
    loading = cost(lambda: with_extract(request, one.parent, device)).cpu
    for _ in range(rounds):
        for way, run in runs.items():
            found = cost(run)
            costs[way].append(found._replace(cpu=found.cpu - loading / images) if way == "extract" else found)
    return {
        way: Cost(*(statistics.median(column) for column in zip(*found, strict=True))) for way, found in costs.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="?", type=int, default=640)
    parser.add_argument("--model", nargs="+", default=["tf_efficientnet_lite0"])
    parser.add_argument("--kinds", nargs="+", default=["jpeg", "png"], choices=["jpeg", "png"])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for kind in given.kinds:
            folder = pictures(Path(root) / kind, given.images, kind)
            for name in given.model:
                found = measure(name, folder, given.images, given.dtype, given.device, given.rounds)
                print(f"{name}, {kind}, {given.dtype}")
                for way, one in found.items():
                    print(f"  {way:10}{one.rate:8.1f} images/s {one.cpu:8.2f} CPU ms/image {one.peak:8.0f} MiB peak")
                extract = found["extract"]
                ratios = (
                    f"extract/{way} {extract.rate / found[way].rate:.2f} (CPU {found[way].cpu / extract.cpu:.2f})"
                    for way in ("timm", "bare", "prepared")
                )
                print("  speed: " + ", ".join(ratios), flush=True)


if __name__ == "__main__":
    main()
