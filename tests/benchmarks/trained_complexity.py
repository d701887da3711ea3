"""Do complexity and information measures follow accuracy over the checkpoints of one method, where they are meant to?

    python tests/benchmarks/trained_complexity.py TRAIN TEST SOURCE_CLASSES TARGET_CLASSES [--epochs 12]

Trains a Conv-4 (examples/reproduce_paper/networks.py) on images of TRAIN of the classes that the file SOURCE_CLASSES
names, and measures it on images of TEST of the classes in TARGET_CLASSES, which it never sees. Prints two Markdown
tables: the checkpoints of one run; and the last checkpoints of runs that differ in their learning rate and weight
decay. Below each stands the rank correlation of each measure with the accuracy of class means on new classes
(5-way, 5 shots). For CIFAR-FS in Parquet files it takes about six minutes on one core.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from information import rank_correlation
from safetensors.torch import save_file

import nctransfer as nct
from nctransfer.backbones.building import load
from nctransfer.backbones.geometric_complexity import geometric_complexity
from nctransfer.backbones.plugins import import_plugin
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.class_names import read_class_names
from nctransfer.sources.decoding import decode
from nctransfer.sources.image_table import ImageTable
from nctransfer.sources.selection import Selection

PLUGIN = str(Path(__file__).parents[2] / "examples" / "reproduce_paper" / "networks.py")
MEASURES = (
    *("cdnv_debiased", "ncc_accuracy", "matrix_entropy", "effective_rank", "rankme"),
    *("mutual_information_ratio", "entropy_difference_ratio"),
)
COMPLEXITY = ("complexity", "relative")
BATCH = 64
KEPT = (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20)  # epochs


@dataclass(frozen=True)
class Run:
    """The settings of a run."""

    rate: float = 0.0625
    decay: float = 5e-4

    def __str__(self) -> str:
        return f"rate {self.rate:g}, decay {self.decay:g}"


RUNS = (
    Run(),
    *(Run(rate=rate) for rate in (0.002, 0.01, 0.25)),
    *(Run(decay=decay) for decay in (0.0, 5e-3)),
)


def read_images(path: str, selection: Selection) -> tuple[torch.Tensor, torch.Tensor]:
    """The selected images ``(n, 3, 32, 32)`` from −2 to 2, and their labels."""
    source = nct.open_source(path)
    entries = selection.choose(ImageTable.of(source.list()))
    images = np.stack([np.asarray(decode(content())) for content in source.contents(entries)])
    labels = np.unique([entry.label for entry in entries], return_inverse=True)[1]
    return (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25, torch.from_numpy(labels)


def train(x: torch.Tensor, y: torch.Tensor, run: Run, epochs: int) -> Iterator[tuple[int, dict[str, torch.Tensor]]]:
    """Train a network with flips and crops; yields the number of epochs so far and the weights."""
    torch.manual_seed(0)
    model = timm.create_model("conv4", num_classes=int(y.max()) + 1).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), run.rate, momentum=0.9, weight_decay=run.decay)
    for epoch in range(epochs + 1):
        yield epoch, {name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}
        if epoch == 2 * epochs // 3:
            optimizer.param_groups[0]["lr"] /= 10
        for rows in torch.randperm(len(x)).split(BATCH) if epoch < epochs else ():
            images = torch.nn.functional.pad(x[rows], (4, 4, 4, 4))
            top, left = torch.randint(0, 9, (2,)).tolist()
            images = images[:, :, top : top + 32, left : left + 32]
            flipped = (torch.rand(len(rows)) < 0.5)[:, None, None, None]
            loss = torch.nn.functional.cross_entropy(model(torch.where(flipped, images.flip(3), images)), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def measure(state: dict[str, torch.Tensor], data: str, classes: list[str], folder: Path) -> dict[str, float]:
    """The measures of one checkpoint on new classes."""
    path = folder / "weights.safetensors"
    save_file(state, path)
    settings = {"checkpoint": path, "plugin": PLUGIN}
    given = {"classes": classes, "max_per_class": 60}
    features = nct.extract("conv4", data, device="cpu", cache_dir=folder / "cache", **given, **settings)
    report = nct.collapse(features, head="ridge", device="cpu")
    few = nct.fewshot(features, 5, 5, episodes=1000, classifiers="ncc", precision=0, theory=False, device="cpu")
    backbone = load(BackboneRequest("conv4", **settings), "cpu", offline=True)
    found = geometric_complexity(backbone, nct.open_source(data), 64, Selection(**given), probes=6, target=0)
    complexity = {name: getattr(found, name).value for name in COMPLEXITY}
    return {"accuracy": few.rows[0].accuracy, **{name: report.metrics[name] for name in MEASURES}, **complexity}


def print_table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a Markdown table with the rank correlation of each measure with accuracy."""
    names = (*MEASURES, *COMPLEXITY)
    print(f"\n| {title} | accuracy | " + " | ".join(names) + " |\n|---" + "|---:" * (len(names) + 1) + "|")
    for name, row in rows.items():
        cells = ["–" if row[one] is None else f"{row[one]:.4g}" for one in names]
        print(f"| {name} | {100 * row['accuracy']:.1f}% | " + " | ".join(cells) + " |")
    cells, accuracies = [], [row["accuracy"] for row in rows.values()]
    for name in names:
        one = rank_correlation(name, [row[name] for row in rows.values()], accuracies)
        cells.append(f"{one.value:+.2f} ({one.interval[0]:+.2f} to {one.interval[1]:+.2f})" if one.interval else "–")
    print("| *rank correlation* | | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=4, metavar="FILE")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--per-class", type=int, default=50)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    import_plugin(PLUGIN)
    sources, targets = (list(read_class_names(Path(path))) for path in given.files[2:])
    x, y = read_images(given.files[0], Selection(classes=sources, max_per_class=given.per_class))
    start, checkpoints, ends = time.process_time(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for run in RUNS:
            for epoch, state in train(x, y, run, given.epochs):
                is_kept = run == Run() and epoch in KEPT
                if is_kept or epoch == given.epochs:
                    found = measure(state, given.files[1], targets, Path(folder))
                    checkpoints |= {f"{epoch} epochs": found} if is_kept else {}
                    ends |= {str(run): found} if epoch == given.epochs else {}
                    if given.output:
                        given.output.write_text(json.dumps({"checkpoints": checkpoints, "ends": ends}))
            if run == Run():
                print_table("one run", checkpoints)
    print_table(f"after {given.epochs} epochs", ends)
    print(f"\n{time.process_time() - start:.0f} CPU seconds; {len(x):,} images of {len(sources)} classes")


if __name__ == "__main__":
    main()
