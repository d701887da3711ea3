"""Time and memory of predictions, beside an extraction of the same images.

    python tests/benchmarks/predict.py [--images N] [--rounds N] [--data FOLDER|FILE]

In turns, so that a change of the machine's speed meets all, and each after the model has been loaded:

- *model*: the backbone over batches in memory: the floor of both.
- *extract*: ``extract_to_store`` into an empty store: reading, decoding, resizing, the model, and writing features.
- *predict*: the same images to a CSV file: reading, decoding, resizing, the model, the head, the journal, and the file.

The images are JPEG files of 500×375, or with ``--data`` some of those images. CPU times are those of all threads. Wall
times of a machine that does other work too say less.

The memory is the peak of a process of its own that predicts images of 32×32 from a folder, without that of a run of 64
images: what grows is the listing of the folder.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from nctransfer.cli.waiting import wait_passively

wait_passively()  # as the command does; it has an effect only before torch is imported

TITLE = "Predictions, beside an extraction of the same images"
MODEL, CLASSES, BATCH = "tf_efficientnet_lite0", 60, 32
SIZES = (64, 2000, 20000)


def head_of(model: str, folder: Path, **options: int):  # type: ignore[no-untyped-def]  # importing its type would import torch
    """A head on 60 classes of noise: what it says is nonsense, and takes as long as any other."""
    import torch
    from extraction import pictures

    import nctransfer as nct

    one = pictures(folder / "one", 1, "png")
    features = nct.extract(model, one, cache_dir=folder / "cache", random_init=True, **options)
    drawn = torch.Generator().manual_seed(0)
    rows = torch.randn(4 * CLASSES, features.dim, generator=drawn)
    names = [f"class {number // 4:02d}" for number in range(4 * CLASSES)]
    return nct.fit(nct.FeatureSet.from_arrays(rows, names, info=features.info), "ncc", device="cpu").head


def some_of(data: str, count: int, folder: Path) -> Path:
    """Some of the images of a source, evenly over all, as files in class folders."""
    from nctransfer.sources.opening import open_source

    source = open_source(data)
    entries = source.list()
    chosen = entries[:: max(1, len(entries) // count)][:count]
    for entry, read in zip(chosen, source.contents(chosen), strict=True):
        path = folder / entry.label / Path(entry.id).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(read())
    return folder


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - cpu


def costs(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds and CPU milliseconds per image of each way, in the median of some rounds."""
    import torch
    from extraction import prepared, with_extract

    from nctransfer.backbones.kept_memory import kept_memory
    from nctransfer.backbones.request import BackboneRequest
    from nctransfer.heads.backbone_match import fast_backbone_for
    from nctransfer.heads.predicting import Predictor, limits_of
    from nctransfer.heads.prediction_journal import open_journal
    from nctransfer.heads.prediction_summary import PredictionTally
    from nctransfer.heads.run_settings import RunSettings
    from nctransfer.sources.opening import open_source
    from nctransfer.sources.source_kind import ReadingOptions

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        head = head_of(MODEL, root)
        source = open_source(folder, ReadingOptions(labels_optional=True))
        entries = source.list()
        predictor = Predictor(
            head=head, backbone=fast_backbone_for(head, device="cpu"), limits=limits_of(head, None, None)[1]
        )
        settings = RunSettings(head="x", source=source.id, images=source.name, max_error=None, max_lost=0.05)
        request = BackboneRequest(MODEL, random_init=True)
        ready = prepared(request, "cpu")
        pixels = torch.zeros((BATCH, *ready.key.transform["input_size"]), dtype=torch.uint8)

        def model() -> None:
            with kept_memory():
                for start in range(0, len(entries), BATCH):
                    ready(pixels[: len(entries) - start])

        def predict() -> None:
            with open_journal(root / "labels.csv", settings, overwrite=True) as journal:
                for _ in predictor.rows(source, entries, PredictionTally(head), journal=journal):
                    pass
                journal.finish(entries)

        found: dict[str, list[tuple[float, float]]] = {"model": [], "extract": [], "predict": []}
        for _ in range(rounds):
            found["model"].append(timed(model))
            _, seconds, cpu = with_extract(request, folder, "cpu")
            found["extract"].append((seconds, cpu))
            found["predict"].append(timed(predict))
    return {
        way: tuple(1000 * statistics.median(column) / len(entries) for column in zip(*runs, strict=True))
        for way, runs in found.items()
    }


def many(folder: Path, count: int) -> Path:
    """Small images in one flat folder."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number:06d}.jpg")
    return folder


PREDICT = """
import sys
from peak_memory import peak
from nctransfer.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
print(peak(), file=sys.stderr)
"""


def memory(sizes: Sequence[int]) -> dict[int, float]:
    """The peak of the command in MiB, by the number of images."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        head_of("test_resnet", root, img_size=32).save(root / "noise.head")
        found = {}
        for size in sizes:
            words = [
                "predict",
                root / "noise.head",
                many(root / str(size), size),
                "-o",
                root / f"{size}.csv",
                "--quiet",
            ]
            command = [sys.executable, "-c", PREDICT, *map(str, words), "--workers", "1", "--device", "cpu"]
            run = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
            found[size] = float(run.stderr.split()[-1])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", default=None)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    from extraction import pictures

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        if given.data:
            some_of(given.data, given.images, folder)
        else:
            pictures(folder, given.images, "jpeg")
        found = costs(folder, given.rounds)
    print("| way | ms per image | CPU ms per image | times extract | CPU, times extract |\n|" + " --- |" * 5)
    base = found["extract"]
    for way, one in found.items():
        print(f"| {way} | {one[0]:.1f} | {one[1]:.1f} | {one[0] / base[0]:.3f} | {one[1] / base[1]:.3f} |")
    if given.sizes:
        peaks = memory(given.sizes)
        least = min(peaks.values())
        print("\n| images | peak, MiB | more than the least |\n|" + " --- |" * 3)
        for size, one in peaks.items():
            print(f"| {size:,} | {one:.0f} | {one - least:.1f} |")


if __name__ == "__main__":
    main()
