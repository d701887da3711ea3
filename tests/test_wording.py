"""What the command line says, word for word, as golden/wording.txt has it: the one place where sentences are reviewed.

Whoever rewords a message runs ``pytest tests/test_wording.py --update-wording`` and reads the difference of that file.
Other tests check the facts of a message, and do not notice.
"""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from safetensors.torch import save_file

from clusters import labelled, normal_classes
from conftest import write_digits
from nctransfer.cli import app
from nctransfer.cli.cache import app as cache_app
from pictures import png
from terminal import cli
from tiny import state_of, with_classes

FILE = Path(__file__).parent / "golden" / "wording.txt"
HEAD = re.compile(r"^═══ (.*)$", re.MULTILINE)
VIT = "--model test_vit --random-init"
FEW = "--queries 5 --episodes 20 --no-theory"  # what fits twelve samples per class
SMALL = "--ways 2 --queries 3 --episodes 20"  # what fits six images per class

pytestmark = pytest.mark.usefixtures("hub_cache")


@dataclass(frozen=True)
class Section:
    """A command, as a shell has it, after ``nctransfer``.

    Attributes:
        command: Its words.
        stored: Whether the cache holds the features of the images; without, it is empty.
        before: What is done to the cache before.
        answer: What is typed.
    """

    command: str
    stored: bool = False
    before: Callable[[Path], object] | None = None
    answer: str | None = None


def _names(commands: object) -> list[str]:
    return sorted((one.name or one.callback.__name__).replace("_", "-") for one in commands.registered_commands)  # type: ignore[attr-defined]


HELP = {
    "help": Section("--help"),
    **{f"help: {name}": Section(f"{name} --help") for name in _names(app)},
    "help: cache": Section("cache --help"),
    **{f"help: cache {name}": Section(f"cache {name} --help") for name in _names(cache_app)},
}


def damage(cache: Path) -> None:
    (part,) = cache.rglob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-100])


def another(_: Path) -> None:
    cli("extract", "--model", "test_resnet", "--random-init", "--data", "pets")


RESULTS = {
    "version": Section("--version"),
    "extract": Section(f"extract {VIT} --data pets"),
    "extract: nothing to do": Section(f"extract {VIT} --data pets", stored=True),
    "extract: some images are new": Section(f"extract {VIT} --data more", stored=True),
    "extract: a part is damaged": Section(f"extract {VIT} --data pets --layers 0,2", stored=True, before=damage),
    "extract: a short name": Section("extract --model vit_tiny --random-init --data pets --max-per-class 1"),
    "extract: broken images are left out": Section(f"extract {VIT} --data broken --skip-broken"),
    "extract: a checkpoint with a prefix": Section("extract --model test_vit --checkpoint prefixed.pth --data pets"),
    "extract: a checkpoint without a classifier": Section(
        "extract --model test_vit --checkpoint headless.pth --allow-missing --data pets"
    ),
    "collapse": Section("collapse clusters.npz"),
    "collapse: Markdown": Section("collapse clusters.npz --format markdown"),
    "collapse: of the set used last": Section("collapse --pairs 2", stored=True),
    "collapse: a head": Section("collapse --fit-head ridge", stored=True),
    "collapse: layers": Section("collapse --layers all", stored=True),
    "collapse: source and target": Section("collapse other.npz --source-train clusters.npz --source-test again.npz"),
    "collapse: samples and classes that overlap": Section(
        "collapse mixed.npz --source-train clusters.npz --source-test leaky.npz"
    ),
    "collapse: odd features": Section("collapse odd.npz"),
    "fewshot": Section("fewshot clusters.npz --ways 2,5 --shots 1,5 --queries 5 --episodes 50"),
    "fewshot: every classifier": Section(f"fewshot clusters.npz --classifier all {FEW}"),
    "fewshot: confusions": Section(f"fewshot clusters.npz --confusions 2 {FEW}"),
    "fewshot: several sets": Section(f"fewshot clusters.npz again.npz {FEW}"),
    "fewshot: queries of another set": Section(f"fewshot clusters.npz --query-set fewer.npz --ways 2 {FEW}"),
    "fewshot: duplicates": Section(f"fewshot copies.npz {FEW}"),
    "fewshot: duplicates are left out": Section(f"fewshot copies.npz --drop-duplicates {FEW}"),
    "fewshot: queries that are labelled examples": Section(f"fewshot clusters.npz --query-set leaky.npz {FEW}"),
    "fewshot: small classes are left out": Section(f"fewshot odd.npz {SMALL} --drop-small --shots 2 --no-theory"),
    "fewshot: disjoint episodes": Section("fewshot clusters.npz --interval disjoint --queries 4 --no-theory"),
    "fewshot: LaTeX": Section(f"fewshot clusters.npz {FEW} --format latex"),
    "fewshot: probe": Section("fewshot clusters.npz --probe"),
    "labels": Section("labels clusters.npz --target 90%,99.9% --classifier ridge,ncc"),
    "labels: small classes are left out": Section("labels odd.npz --target 90% --drop-small"),
    "expect": Section("expect clusters.npz --ways 2,5 --shots 1,5"),
    "bounds": Section("bounds clusters.npz --ways 2,5 --shots 1,10,inf"),
    "explain": Section("explain 0000 0001 clusters.npz --shots 1,5,20 --episodes 100"),
    "trajectory": Section(f"trajectory run --model test_vit --data pets {SMALL}"),
    "trajectory: a checkpoint that cannot be used": Section(f"trajectory mixed --model test_vit --data pets {SMALL}"),
    "models: none but bundled": Section("models tf_efficientnet_lite0"),
    "data": Section("data splits"),
    "data: compared": Section("data splits pets"),
    "data: broken images and what is left out": Section("data broken"),
    "data: an archive": Section("data pets.tar"),
    "check": Section(f"check {VIT} --images 4 --device cpu"),
    "cache list: empty": Section("cache list"),
    "cache list": Section("cache list", stored=True),
    "cache show": Section("cache show test_vit", stored=True),
    "cache verify": Section("cache verify", stored=True),
    "cache verify: a part is damaged": Section("cache verify", stored=True, before=damage),
    "cache remove": Section("cache remove test_vit --yes", stored=True),
}

ERRORS = {
    # the command line
    "error: no such command": Section("fewshots"),
    "error: no such option": Section("fewshot --way 5"),
    "error: no such format": Section("fewshot --format yaml"),
    "error: a number out of range": Section("extract --batch-size 0"),
    "error: ways that are no numbers": Section("fewshot clusters.npz --ways many"),
    "error: model arguments without a value": Section("extract --model-kwargs pad_type"),
    "error: as JSON": Section("data absent --format json"),
    "error: an output in no folder": Section("collapse clusters.npz --output absent/a.txt"),
    "error: two results for one file": Section("collapse clusters.npz --output a.txt --save-pairs a.txt"),
    "error: a file of names that is not there": Section("collapse clusters.npz --classes absent.txt"),
    "error: class names that are there twice": Section("collapse codes.parquet --class-names twice.txt"),
    # images
    "error: no such data": Section("data absent"),
    "error: an empty folder": Section("data empty"),
    "error: images without class folders": Section("data flat"),
    "error: class folders without images": Section("data texts"),
    "error: a symlink that leads back": Section("data loop"),
    "error: a file that is no data": Section("data notes.txt"),
    "error: an option that a source does not use": Section("data pets --label-column label"),
    "error: a manifest without a label column": Section("data nolabel.csv"),
    "error: a manifest whose images are not there": Section("data elsewhere.csv"),
    "error: a manifest with two labels for an image": Section("data twolabels.csv"),
    "error: a manifest that leaves its folder": Section("data outside.csv"),
    "error: a manifest row that is too long": Section("data long.csv"),
    "error: a truncated archive": Section("data cut.zip"),
    "error: a Parquet file without images": Section("data codes.parquet"),
    "error: broken images": Section(f"extract {VIT} --data broken"),
    "error: nothing but broken images": Section(f"extract {VIT} --data rubbish"),
    "error: no such split": Section("collapse --split dev", stored=True),
    "error: no such class": Section("collapse --classes wrong.txt", stored=True),
    # backbones
    "error: no such model": Section("extract --model vit_bsae --data pets"),
    "error: no such tag": Section("extract --model test_vit.bogus --data pets"),
    "error: a model of the hub without its prefix": Section("extract --model timm/test_vit --data pets"),
    "error: weights that are not at hand": Section("extract --model test_vit --data pets --offline"),
    "error: no published weights": Section("extract --model test_coatnet --data pets"),
    "error: a checkpoint that is not there": Section("extract --model test_vit --checkpoint absent.pth --data pets"),
    "error: a checkpoint that is none": Section("extract --model test_vit --checkpoint notes.pth --data pets"),
    "error: a checkpoint that would run code": Section("extract --model test_vit --checkpoint bomb.pth --data pets"),
    "error: a checkpoint of another model": Section(
        "extract --model test_resnet --checkpoint headless.pth --data pets"
    ),
    "error: a checkpoint without a classifier": Section(
        "extract --model test_vit --checkpoint headless.pth --data pets"
    ),
    "error: a checkpoint and random weights": Section(f"extract {VIT} --checkpoint headless.pth --data pets"),
    "error: no such layer": Section(f"extract {VIT} --layers 99 --data pets"),
    "error: layers that are none": Section(f"extract {VIT} --layers first --data pets"),
    "error: no such pooling": Section(f"extract {VIT} --pool bogus --data pets"),
    "error: no such interpolation": Section(f"extract {VIT} --interpolation cubic --data pets"),
    "error: a crop of nothing": Section(f"extract {VIT} --crop-pct 0 --data pets"),
    "error: a standard deviation of zero": Section(f"extract {VIT} --std 0,1,1 --data pets"),
    "error: a model argument that timm does not know": Section(f"extract {VIT} --model-kwargs bogus=1 --data pets"),
    "error: a model argument with an option of its own": Section(
        f"extract {VIT} --model-kwargs checkpoint_path=x --data pets"
    ),
    "error: a plugin that is not there": Section("extract --model mine --plugin absent.py --data pets"),
    "error: a plugin that fails": Section("extract --model mine --plugin fails.py --data pets"),
    "error: no such dtype": Section(f"extract {VIT} --dtype float64 --data pets"),
    "error: no such device": Section(f"extract {VIT} --device tpu --data pets"),
    "error: no model fits": Section("models resnet5O"),
    "error: a check of one image": Section(f"check {VIT} --images 1"),
    # features
    "error: no such features": Section("collapse absent.npz"),
    "error: no such stored set": Section("collapse resnet", stored=True),
    "error: features and a model": Section(f"collapse clusters.npz {VIT}"),
    "error: no such column": Section("collapse --feature-column layer_9", stored=True),
    "error: features that are not finite": Section("collapse nan.npz"),
    "error: features without labels": Section("collapse unlabelled.npz"),
    "error: features that could be either of two arrays": Section("collapse either.npz"),
    "error: a file that is no features": Section("collapse notes.npz"),
    "error: pickled objects": Section("collapse objects.npz"),
    "error: a single class": Section("collapse single.npz"),
    "error: a damaged cache": Section("collapse", stored=True, before=damage),
    "error: comparisons of several kinds": Section("collapse clusters.npz again.npz --layers all"),
    "error: one half of the source": Section("collapse other.npz --source-train clusters.npz"),
    "error: the source is the same samples twice": Section(
        "collapse other.npz --source-train clusters.npz --source-test clusters.npz"
    ),
    "error: layers of a file": Section("collapse clusters.npz --layers all"),
    "error: no head": Section("collapse clusters.npz --head"),
    "error: names of another head": Section("collapse --head --head-names wrong.txt", stored=True),
    # episodes
    "error: more ways than classes": Section("fewshot clusters.npz --ways 9"),
    "error: more ways than classes of images": Section(f"fewshot {VIT} --data pets --ways 9"),
    "error: too few samples": Section("fewshot clusters.npz --queries 20"),
    "error: too few samples in one of two sets": Section(
        "fewshot clusters.npz --query-set fewer.npz --ways 2 --queries 9"
    ),
    "error: no such classifier": Section("fewshot clusters.npz --classifier svm"),
    "error: a penalty below zero": Section("fewshot clusters.npz --ridge-lambda -1"),
    "error: leave-one-out of one shot": Section("fewshot clusters.npz --ridge-lambda loo"),
    "error: queries of another width": Section("fewshot clusters.npz --query-set narrow.npz --ways 2"),
    "error: queries of the set itself": Section("fewshot clusters.npz --query-set clusters.npz"),
    "error: several sets and a probe": Section("fewshot clusters.npz again.npz --probe"),
    "error: a probe in episodes": Section("fewshot clusters.npz --probe --ways 2"),
    "error: an interval of too few classes": Section("fewshot clusters.npz --interval classes --queries 5"),
    "error: too few disjoint episodes": Section("fewshot clusters.npz --interval disjoint --queries 11"),
    "error: a target that is no percentage": Section("labels clusters.npz --target 120%"),
    "error: classes too small for a learning curve": Section("labels odd.npz"),
    "error: no expected form": Section("expect clusters.npz --classifier ridge"),
    "error: simpleshot without a reference": Section("expect clusters.npz --classifier simpleshot"),
    "error: no such class to explain": Section("explain 0000 0009 clusters.npz"),
    "error: the same class twice": Section("explain 0000 0000 clusters.npz"),
    # checkpoints
    "error: no checkpoints": Section("trajectory absent --model test_vit --data pets"),
    "error: a trajectory of random weights": Section(f"trajectory run {VIT} --data pets"),
    "error: a figure without a format": Section("trajectory run --model test_vit --data pets --figure a.txt"),
    # the cache
    "error: a set that is not removed": Section("cache remove test_vit", stored=True, answer="n\n"),
    "error: a cache that is a file": Section(f"extract {VIT} --data pets --cache-dir notes.txt"),
    "error: a prefix of several sets": Section("collapse t", stored=True, before=another),
}

SECTIONS = HELP | RESULTS | ERRORS


# What the commands are about


def csv(path: Path, *rows: str) -> None:
    path.write_text("path,label\n" + "".join(f"{row}\n" for row in rows))


def images(root: Path) -> None:
    """Folders, archives and manifests, sound and not."""
    whole = png(1)
    pets = write_digits(root / "pets", {"zero": 0, "one": 1, "two": 2}, 6)
    shutil.copytree(pets, root / "more")
    (root / "more" / "one" / "new.png").write_bytes(whole)
    for split in ("train", "test"):
        shutil.copytree(pets / "one", root / "splits" / split / "one")
    shutil.copytree(pets / "two", root / "splits" / "train" / "two")
    write_digits(root / "broken", {"zero": 0, "one": 1}, 3)
    for name, content in {
        "empty.png": b"",
        "text.jpg": b"not an image",
        "cut.png": (pets / "one" / "0.png").read_bytes()[:90],
    }.items():
        (root / "broken" / "zero" / name).write_bytes(content)
    (root / "broken" / "beside.png").write_bytes(whole)
    (root / "broken" / "one" / "notes.txt").touch()
    for name in ("rubbish/a/1.png", "rubbish/b/2.png", "texts/a/1.txt", "texts/b/2.txt", "flat/1.png", "flat/2.png"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not an image")
    (root / "empty").mkdir()
    shutil.copytree(pets / "one", root / "loop" / "one")
    (root / "loop" / "one" / "back").symlink_to("..")
    with tarfile.open(root / "pets.tar", "w") as archive:
        archive.add(pets, "pets")
        archive.add(root / "loop" / "one" / "back", "pets/back")
    with zipfile.ZipFile(root / "cut.zip", "w") as archive:
        archive.write(pets / "one" / "0.png", "one/0.png")
    (root / "cut.zip").write_bytes((root / "cut.zip").read_bytes()[:100])
    (root / "nolabel.csv").write_text("path,name\npets/one/0.png,one\n")
    csv(root / "elsewhere.csv", "0.png,one", "1.png,two")
    csv(root / "twolabels.csv", "pets/one/0.png,one", "pets/one/0.png,two")
    csv(root / "outside.csv", "pets/one/0.png,one", "../0.png,two")
    csv(root / "long.csv", "pets/one/0.png,one,1")
    for name in ("notes.txt", "notes.pth", "notes.npz"):
        (root / name).write_text("what was to be done\n")


def files_of_features(root: Path) -> None:
    """Feature files, sound and not."""
    few = {
        "clusters": ([12] * 5, 8, 0),
        "again": ([12] * 5, 8, 1),
        "fewer": ([6] * 3, 8, 2),
        "narrow": ([12] * 5, 3, 0),
    }
    for name, (counts, d, draw) in few.items():
        x, labels = labelled(normal_classes(counts, d, draw=draw))
        np.savez(root / f"{name}.npz", features=x, labels=labels)
    x, labels = labelled(normal_classes([12] * 3, 8, seed=1))
    np.savez(root / "other.npz", features=x, labels=np.char.add("other ", labels))
    seen, seen_labels = (np.load(root / "clusters.npz")[name] for name in ("features", "labels"))
    new, new_labels = (np.load(root / "again.npz")[name] for name in ("features", "labels"))
    joined = {
        "mixed": ([x, new[-12:]], [np.char.add("other ", labels), new_labels[-12:]]),  # a class of the source
        "leaky": ([new, seen[:4]], [new_labels, seen_labels[:4]]),
        "copies": ([seen, seen[:6], seen[:2]], [seen_labels, seen_labels[:6], seen_labels[-2:]]),
    }
    for name, (parts, part_labels) in joined.items():
        np.savez(root / f"{name}.npz", features=np.concatenate(parts), labels=np.concatenate(part_labels))
    x, labels = labelled(normal_classes([6, 5, 1, 4], 4))
    x[:6], x[:, 3] = x[0], 1
    np.savez(root / "odd.npz", features=x, labels=labels)
    np.savez(root / "single.npz", features=x, labels=["only"] * len(x))
    np.savez(root / "unlabelled.npz", features=x)
    np.savez(root / "either.npz", a=x, b=x, labels=labels)
    np.savez(root / "objects.npz", features=x, labels=np.array([{}] * len(x), dtype=object))
    x[4, 1] = np.nan
    np.savez(root / "nan.npz", features=x, labels=labels)
    rows = {"label": [0, 1] * 4, "feature": np.eye(8).tolist()}
    parquet.write_table(pa.table(rows), root / "codes.parquet")
    (root / "twice.txt").write_text("cat\ncat\n")
    (root / "wrong.txt").write_text("zero\nthree\n")


class Bomb:
    """A pickle that runs code when it is read."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("boom",)


def weights(root: Path) -> None:
    """Checkpoints, sound and not."""
    state = state_of()
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    torch.save(headless, root / "headless.pth")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, root / "prefixed.pth")
    torch.save({"state_dict": {}, "x": Bomb()}, root / "bomb.pth")
    for folder, numbers in {"run": (1, 2), "mixed": (1,)}.items():
        (root / folder).mkdir()
        for number in numbers:
            save_file(with_classes(state_of(seed=number), 3), root / folder / f"epoch-{number}.safetensors")
    shutil.copy(root / "notes.pth", root / "mixed" / "epoch-2.pth")
    (root / "fails.py").write_text("1 / 0\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all that the commands name, with a cache of the features of the images."""
    root = tmp_path_factory.mktemp("wording")
    images(root)
    files_of_features(root)
    weights(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        result = cli(*shlex.split(f"extract {VIT} --data pets --layers 0,2"), NCTRANSFER_CACHE=str(root / "cache"))
    assert result.exit_code == 0, result.stderr
    return root


# The file


def layout() -> str:
    """What draws the boxes of help, and may draw them otherwise in another version."""
    return ", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in ("typer", "rich"))


def read() -> tuple[str, dict[str, str]]:
    """The layout that the file was written with, and its sections."""
    if not FILE.exists():
        return layout(), {}
    first, *parts = HEAD.split(FILE.read_text(encoding="utf-8"))
    sections = {name: text.strip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}
    return first.strip().removeprefix("Boxes as drawn by "), sections


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The sections of the file; what the tests change in them is written, if that was asked for."""
    _, sections = read()
    yield sections
    if request.config.getoption("update_wording"):
        there = [f"═══ {name}\n\n{sections[name]}\n" for name in SECTIONS if name in sections]
        FILE.write_text("\n".join([f"Boxes as drawn by {layout()}\n", *there]), encoding="utf-8")


def without(text: str, *patterns: tuple[str, str]) -> str:
    for pattern, instead in patterns:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


def masked(result: Any, root: Path, tmp_path: Path, *, decimals: bool) -> str:
    """What a command says, without what hangs on the platform, on versions, and on the width of columns.

    Notes and errors go first, then results.

    Args:
        result: The run.
        root: The folder of what the commands name.
        tmp_path: The folder of the cache.
        decimals: Whether those of notes and errors vary too, as those of results do.
    """
    number = (r"(?<![\w.-])-?\d+(,\d{3})*\.\d+(e[+-]?\d+)?(?![\w.]*\w)", "#"), (r"(?<=is )\d+%", "#%")
    code = f"[exit code {result.exit_code}]\n" if result.exit_code else ""
    said = without(result.stderr, *number) if decimals else result.stderr
    text = f"{said}{without(result.stdout, *number)}{code}"
    text = text.replace(str(root), "<here>").replace(str(tmp_path), "<tmp>")
    return without(
        text,
        (r"\b[0-9a-f]{8,}\b", "<digest>"),
        (r"^nctransfer \d\S*$", "nctransfer <version>"),
        (r"[1-9][\d,]* bytes instead of [\d,]+", "# bytes instead of #"),
        (r"image file is truncated.*", "<reason>"),  # by Pillow
        (r"(×\d+ +\d+ +\d+ +)\d+$", r"\1#"),  # KiB of a stored set
        (r"(similar names: \w+)(, \w+)+", r"\1, …"),  # timm has more of them with each version
        (r"(?<=give one of: auto, ).*", "<devices>"),
        (r"(?<=\S) {2,}", "  "),
        (r"^ +", "  "),
        (r"─+", "───"),
        (r" +$", ""),
    )


@pytest.mark.parametrize("name", SECTIONS)
def test_wording(
    name: str,
    world: Path,
    golden: dict[str, str],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    section, is_update = SECTIONS[name], request.config.getoption("update_wording")
    if not is_update and "╭" in golden[name] and read()[0] != layout():
        pytest.skip(f"the boxes were drawn by {read()[0]}")
    monkeypatch.chdir(world)
    if section.stored:
        shutil.copytree(world / "cache", cache)
    if section.before:
        section.before(cache)
    width = "80" if name in HELP else "1000"  # where no line is folded, its length does not matter
    result = cli(*shlex.split(section.command), answer=section.answer, COLUMNS=width)
    found = result.stdout if name in HELP else masked(result, world, tmp_path, decimals=name in RESULTS)
    said = "\n".join([f"$ nctransfer {section.command}", *(line.rstrip() for line in found.splitlines())]).strip()
    if is_update:
        golden[name] = said
    difference = "\n".join(
        difflib.unified_diff(golden[name].splitlines(), said.splitlines(), FILE.name, "now", lineterm="")
    )
    assert not difference, (
        f"{difference}\n\nif that is how it should read: pytest {Path(__file__).name} --update-wording"
    )


def test_the_file_has_these_sections_in_this_order(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("update_wording"):
        pytest.skip("the file is being written")
    assert list(read()[1]) == list(SECTIONS)
