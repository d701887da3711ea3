"""Images per second of an extraction against a bare loop of the same model over tensors in memory.

    python tests/benchmarks/extraction.py [images] [--folder]

With ``--folder`` the images are JPEG files of 500×375, decoded as they come; else the built-in digits.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nctransfer import images
from nctransfer.backbones import BackboneRequest, load
from nctransfer.extraction import Runtime, extract_to_store
from nctransfer.features import Selection
from nctransfer.store import FeatureStore

BATCH = 32


def bare(count: int) -> float:
    """Images a second of the model alone."""
    backbone = load(BackboneRequest())
    pixels = torch.randint(0, 256, (BATCH, 3, 224, 224), dtype=torch.uint8)
    backbone(pixels)
    start = time.perf_counter()
    for _ in range(count // BATCH):
        backbone(pixels)
    return count // BATCH * BATCH / (time.perf_counter() - start)


def jpegs(root: Path, count: int) -> Path:
    """JPEG files of photographic size; smoothed noise, which costs as much to decode as a photograph."""
    random = np.random.default_rng(0)
    for number in range(count):
        small = random.integers(0, 256, (94, 125, 3), dtype=np.uint8)
        path = root / str(number % 10) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
    return root


def whole(data: str | Path, count: int) -> float:
    """Images a second of an extraction into an empty store, without loading the model."""
    with tempfile.TemporaryDirectory() as cache:
        report = extract_to_store(
            FeatureStore(cache),
            BackboneRequest(),
            images.open_source(data),
            Selection(max_per_class=count // 10),
            Runtime(batch_size=BATCH),
        )
    assert report.extracted == count, report
    return report.images_per_second or 0.0


def main() -> None:
    """Measure in turns, so that a change of the machine's speed meets both."""
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 640) // 320 * 320
    with tempfile.TemporaryDirectory() as folder:
        data = jpegs(Path(folder), count) if "--folder" in sys.argv else "digits"
        for _ in range(3):
            alone, together = bare(count), whole(data, count)
            print(f"bare {alone:.1f} images/s, extract {together:.1f} images/s, ratio {together / alone:.3f}")


if __name__ == "__main__":
    main()
