"""Images per second of an extraction, against timm's own loop and against the model alone.

    python tests/benchmarks/extraction.py [images] [--model M …] [--small] [--device D]

The images are JPEG files of 500×375, or with ``--small`` PNG files of 32×32. In turns, so that a change of the
machine's speed meets all:

- *timm*: what users would write after timm's ``inference.py``: ``create_loader`` over the folder, worker
  processes, the model as it is built, features before the classifier.
- *model*: the same model over a batch in memory, channels last: the floor of eager PyTorch.
- *folded*: the same with BatchNorm folded: the floor of what ``extract`` runs on a CPU.
- *extract*: ``extract_to_store`` into an empty store, without loading the model.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from timm.data import ImageDataset, create_loader, resolve_model_data_config

from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.loading import threads
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime

BATCH = 32


def pictures(root: Path, count: int, small: bool) -> Path:
    """Smoothed noise, which costs as much to decode as a photograph."""
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (8, 8, 3) if small else (94, 125, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((32, 32) if small else (500, 375), Image.Resampling.BICUBIC)
        path = root / str(number % 10) / f"{number}.{'png' if small else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, quality=90)
    return root


def alone(backbone: Backbone, count: int) -> float:
    """Images a second of the model over one batch in memory."""
    pixels = torch.randint(0, 256, (BATCH, *backbone.key.transform["input_size"]), dtype=torch.uint8)
    backbone(pixels)["feature"].sum().item()
    start = time.perf_counter()
    for _ in range(max(1, count // BATCH)):
        backbone(pixels)["feature"].sum().item()
    return max(1, count // BATCH) * BATCH / (time.perf_counter() - start)


def with_timm(model: torch.nn.Module, folder: Path, device: str) -> float:
    """Images a second of timm's loader and model."""
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
    return count / (time.perf_counter() - start)


def with_extract(request: BackboneRequest, folder: Path, device: str) -> float:
    """Images a second of an extraction."""
    with tempfile.TemporaryDirectory() as cache:
        report = extract_to_store(
            FeatureStore(cache), request, open_source(folder), Selection(), Runtime(device=device, batch_size=BATCH)
        )
    return report.images_per_second or 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="?", type=int, default=640)
    parser.add_argument("--model", nargs="+", default=["tf_efficientnet_lite0"])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = pictures(Path(root), given.images, given.small)
        for name in given.model:
            request = BackboneRequest(name, random_init=True)
            plain, folded = load(request, given.device), load(request, given.device)
            folded.fold()
            model = timm.create_model(name).eval().to(given.device)
            rates: dict[str, list[float]] = {}
            for _ in range(3):
                rates.setdefault("timm", []).append(with_timm(model, folder, given.device))
                rates.setdefault("model", []).append(alone(plain, given.images))
                rates.setdefault("folded", []).append(alone(folded, given.images))
                rates.setdefault("extract", []).append(with_extract(request, folder, given.device))
            middle = {way: statistics.median(values) for way, values in rates.items()}
            print(f"{name}: " + ", ".join(f"{way} {rate:.1f}" for way, rate in middle.items()), end=" images/s; ")
            ratios = (f"extract/{way} {middle['extract'] / middle[way]:.2f}" for way in ("timm", "model", "folded"))
            print(", ".join(ratios), flush=True)


if __name__ == "__main__":
    main()
