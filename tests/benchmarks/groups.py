"""Groups and fine classes on real features: drawers of Omniglot, alphabets of Omniglot, superclasses of CIFAR-100.

    python tests/benchmarks/groups.py [drawers] [same] [fine] [cameras --caltech ARCHIVE]

Takes the stored sets of the cache ($NCTRANSFER_CACHE) whose data are named omniglot… or test.parquet (CIFAR-100; the 20
test classes of CIFAR-FS), with their layers. Prints Markdown tables: *drawers*, the accuracy by drawer of the query,
the worst drawer, the gap, and the accuracy on a new drawer; *same*, how much a labelled example of the same drawer
in the other classes disturbs; *fine*, how well fine classes are told apart inside coarse ones, by layer; *cameras*,
Caltech with a third of the images of each class saved as JPEG of quality 5, and a third turned grey.
"""

import argparse
import dataclasses
import io
import logging
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import nctransfer as nct
from nctransfer.episodes.classifier import ClassifierSettings
from nctransfer.episodes.episode import Episodes, EpisodeSpec
from nctransfer.episodes.groups import Groups
from nctransfer.episodes.pool import Pool
from nctransfer.episodes.registry import CLASSIFIERS
from nctransfer.episodes.sampling import sample
from nctransfer.evaluation.group_results import AcrossRow, GroupRow
from nctransfer.neural_collapse.fine_results import FineLayer
from nctransfer.store.cache_folder import FeatureStore

SUPERCLASSES = {  # of CIFAR-100, as far as two of their classes are test classes of CIFAR-FS
    "flowers": ("poppy", "rose"),
    "household furniture": ("bed", "table", "wardrobe"),
    "non-insect invertebrates": ("snail", "worm"),
    "people": ("baby", "man", "woman"),
    "vehicles 1": ("bicycle", "pickup_truck"),
}
OF_CLASS = {name: coarse for coarse, names in SUPERCLASSES.items() for name in names}


def stored(data: str, *, layers: bool = False) -> Iterator[tuple[str, dict[str, nct.FeatureSet]]]:
    """The stored sets of some data by the name of the backbone: their layers, the output last."""
    for one in FeatureStore().sets():
        if not one.id.partition("/")[2].startswith(data):
            continue
        snapshot = one.snapshot()
        names = sorted(
            (name for name in snapshot.manifest.columns if name != "feature"), key=lambda name: int(name[6:])
        )
        wanted = [*(names if layers else ()), "feature"]
        model = one.id.partition("/")[0].rpartition("-")[0].removeprefix("tf_").removesuffix(".in1k")
        yield model, {name: snapshot.read(None, name, partial=True) for name in wanted}


def alphabet_of(name: str) -> str:
    """The alphabet of a character of Omniglot."""
    return name.rpartition("_character")[0]


def with_drawers(features: nct.FeatureSet) -> nct.FeatureSet:
    """Omniglot with its drawers: the last number in the name of an image, 20 people for each alphabet."""
    numbers = [name.rpartition("_")[2].partition(".")[0] for name in features.ids]
    alphabets = [alphabet_of(features.classes[code]) for code in features.labels.tolist()]
    drawers = tuple(f"{alphabet} {number}" for alphabet, number in zip(alphabets, numbers, strict=True))
    return dataclasses.replace(features, attributes={"drawer": drawers})


def regrouped(features: nct.FeatureSet, coarse: list[str]) -> nct.FeatureSet:
    """Coarse labels as classes, and the classes as the attribute ``fine``; samples whose coarse label is "" go."""
    names = [features.classes[code] for code in features.labels.tolist()]
    kept = [place for place, name in enumerate(coarse) if name]
    return nct.FeatureSet.from_arrays(
        features.features[kept],
        [coarse[place] for place in kept],
        [features.ids[place] for place in kept],
        features.info,
        attributes={"fine": [names[place] for place in kept]},
    )


def row(cells: list[str]) -> None:
    """Print a row of a Markdown table."""
    print("| " + " | ".join(cells) + " |", flush=True)


def head(cells: list[str]) -> None:
    """Print the head of a Markdown table."""
    row(cells)
    print("|---" * len(cells) + "|")


def of_interval(ends: tuple[float, float] | None) -> str:
    """An interval in percent."""
    return "–" if ends is None else f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def drawers() -> None:
    """Accuracy by drawer, and on a new one."""
    head(
        [
            "backbone",
            "shots",
            "accuracy",
            "worst drawer",
            "interval",
            "may be the worst",
            "gap",
            "interval",
            "new drawer",
        ]
    )
    for model, layers in stored("omniglot"):
        features = with_drawers(layers["feature"])
        task: dict[str, Any] = {"classifiers": "ridge", "episodes": 4000, "device": "cpu"}
        by_group = nct.fewshot_by_group(features, "drawer", 5, (1, 5), **task).rows
        across = nct.fewshot_across_groups(features, "drawer", 5, (1, 5), **task).rows
        for one, new in zip(by_group, across, strict=True):
            drawers_row(model, one, new)


def drawers_row(model: str, one: GroupRow, new: AcrossRow) -> None:
    """One row of the table of drawers."""
    worst = one.worst
    assert worst is not None
    row(
        [
            model,
            str(one.shots),
            f"{100 * one.accuracy:.1f}",
            f"{worst.name}: {100 * worst.accuracy:.1f}",
            of_interval(worst.interval),
            f"{len(worst.possible)} of {len(one.groups)}",
            f"{100 * worst.gap:.1f}",
            of_interval(worst.gap_interval),
            str(sum(group.verdict in ("better", "worse") for group in one.groups)),
            f"{100 * new.accuracy:.1f} ({of_interval(new.over_groups)})",
        ]
    )


def same() -> None:
    """The other classes of an episode by the drawer of the query, against by other drawers: 5 ways of an alphabet."""
    head(["backbone", "others by other drawers", "others by the same drawer", "difference", "± episodes"])
    for model, layers in stored("omniglot"):
        features = with_drawers(layers["feature"])
        alphabets = [alphabet_of(name) for name in features.classes]
        parts = []
        for alphabet in sorted(set(alphabets)):
            codes = [code for code, name in enumerate(alphabets) if name == alphabet]
            parts.append(same_in(features.only_classes(torch.tensor(codes))))
        values = torch.cat(parts)
        difference = values[:, 1] - values[:, 0]
        half = 1.96 * float(difference.std()) / len(difference) ** 0.5
        means = [f"{100 * float(mean):.1f}" for mean in (*values.mean(dim=0), difference.mean())]
        row([model, *means, f"{100 * half:.1f}"])


def same_in(features: nct.FeatureSet) -> torch.Tensor:
    """Whether ridge is right in each episode of one alphabet, with the others by other and by the same drawer."""
    groups = Groups.of(features, "drawer")
    row_of = torch.zeros(len(features.classes), len(groups), dtype=torch.int64)
    row_of[features.labels, groups.codes] = torch.arange(len(features))
    pool, found = Pool(features.features, "cpu"), []
    generator = torch.Generator().manual_seed(0)
    for batch in sample(features, EpisodeSpec(5, 1, 1), 2048):
        order = torch.rand(len(batch), 5, len(groups), generator=generator).argsort(dim=2)
        drawer = order[:, 0, 0]  # of the query, which is of the first class
        other = torch.where(order[:, :, 0] == drawer[:, None], order[:, :, 1], order[:, :, 0])
        together = other.clone()
        together[:, 1:] = drawer[:, None]
        query = row_of[batch.classes[:, 0], drawer]
        right = []
        for by in (other, together):
            support = row_of[batch.classes, by][..., None]
            queries = query[:, None, None].expand(-1, 5, 1)
            episodes = Episodes(classes=batch.classes, queries=queries, support=support)
            scores = CLASSIFIERS["ridge"].scores(pool(episodes), ClassifierSettings())
            right.append(scores[:, 0].argmax(dim=1) == 0)
        found.append(torch.stack(right, dim=1).double())
    return torch.cat(found)


def fine() -> None:
    """Fine classes inside coarse ones, by layer."""
    head(
        [
            "data",
            "backbone",
            "layer",
            "accuracy inside",
            "permuted",
            "explained",
            "CDNV inside",
            "across",
            "coarse accuracy",
        ]
    )
    for data, name in (("omniglot", "Omniglot"), ("test.parquet", "CIFAR-FS")):
        for model, layers in stored(data, layers=True):
            features = layers["feature"]
            classes = [features.classes[code] for code in features.labels.tolist()]
            coarse = [alphabet_of(one) if data == "omniglot" else OF_CLASS.get(one, "") for one in classes]
            found = nct.fine_structure(
                {layer: regrouped(one, coarse) for layer, one in layers.items()}, "fine", permutations=19
            )
            for layer in found.layers:
                fine_row(name, model, layer)


def fine_row(data: str, model: str, layer: FineLayer) -> None:
    """One row of the table of layers."""
    row(
        [
            data,
            model,
            layer.name,
            f"{100 * layer.accuracy:.1f} ({of_interval(layer.accuracy_interval)})",
            f"{100 * layer.permuted:.1f}",
            f"{100 * layer.explained:.1f}",
            f"{layer.cdnv_inside:.2f}",
            f"{layer.cdnv_across or 0:.2f}",
            f"{100 * (layer.coarse_accuracy or 0):.1f}",
            "–" if layer.to_last is None else f"{100 * layer.to_last:+.1f} ({of_interval(layer.to_last_interval)})",
        ]
    )


def simulated(archive: Path, folder: Path) -> Path:
    """A manifest of the images of a tar archive, as three cameras take them."""
    lines, seen = ["path,label,camera"], Counter[str]()
    with tarfile.open(archive) as source:
        for member in sorted((one for one in source if one.isfile()), key=lambda one: one.name):
            name = Path(member.name).parent.name
            content = source.extractfile(member)
            assert content is not None
            image = Image.open(io.BytesIO(content.read())).convert("RGB")
            camera = ("original", "JPEG 5", "grey")[seen[name] % 3]
            if camera == "JPEG 5":
                saved = io.BytesIO()
                image.save(saved, "JPEG", quality=5)
                image = Image.open(saved)
            elif camera == "grey":
                image = image.convert("L").convert("RGB")
            path = folder / f"{name}_{seen[name]:03d}.png"
            image.save(path, compress_level=1)
            lines.append(f"{path.name},{name},{camera}")
            seen[name] += 1
    manifest = folder / "images.csv"
    manifest.write_text("\n".join(lines))
    return manifest


def cameras(archive: Path) -> None:
    """Accuracy by camera, and on a new one, with efficientnet_lite0."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = simulated(archive, Path(folder))
        nct.extract("tf_efficientnet_lite0", manifest, cache_dir=folder)
        features = next(iter(FeatureStore(Path(folder)).sets())).read(attributes=("camera",))
    task: dict[str, Any] = {"queries": 4, "classifiers": "ridge", "episodes": 4000, "device": "cpu"}
    by_group = nct.fewshot_by_group(features, "camera", 5, (1, 5), **task).rows
    across = nct.fewshot_across_groups(features, "camera", 5, (1, 5), **task).rows
    head(["shots", "camera", "accuracy", "to others", "interval", "on a new camera", "shift to the same", "interval"])
    for one, new in zip(by_group, across, strict=True):
        for group, alone in zip(one.groups, new.groups, strict=True):
            cells = [f"{100 * (value or 0):.1f}" for value in (group.accuracy, group.difference)]
            cells += [of_interval(group.difference_interval), f"{100 * (alone.accuracy or 0):.1f}", "", ""]
            row([str(one.shots), group.name, *cells])
        shift = new.shifts["same"]
        cells = [f"{100 * one.accuracy:.1f}", "", "", f"{100 * new.accuracy:.1f} ({of_interval(new.over_groups)})"]
        row([str(one.shots), "all", *cells, f"{100 * shift.value:+.1f}", of_interval(shift.interval)])


TABLES = {"drawers": drawers, "same": same, "fine": fine}


def main() -> None:
    """Print the tables that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("tables", nargs="*", help=f"from {', '.join(TABLES)}; by default all of these; or cameras")
    parser.add_argument("--caltech", type=Path, help="for cameras: a tar archive with a folder for each class")
    given = parser.parse_args()
    logging.getLogger("nctransfer").setLevel(logging.ERROR)
    for name in given.tables or TABLES:
        print(f"\n{name}\n")
        if name == "cameras":
            cameras(given.caltech)
        else:
            TABLES[name]()


if __name__ == "__main__":
    main()
