"""``examples/reproduce_paper``: its networks, its training and its claims, and the whole command on the digits."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torch.nn.functional as F
import typer
from safetensors.torch import load_file
from typer.testing import CliRunner

import nctransfer as nct
import tiny
from messages import raises, says
from nctransfer.backbones.plugins import import_plugin
from nctransfer.errors import DataError, ModelError, NCTransferError, StoreError
from nctransfer.sources.opening import open_source
from nctransfer.sources.source_kind import ReadingOptions
from terminal import shows, tables

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "reproduce_paper"
NETWORKS = str(EXAMPLE / "networks.py")
WIDTHS = {"conv4": 64, "resnet12": 640, "wrn_28_4": 256, "conv_28_4": 256}
PLACES = {"conv4": 2, "resnet12": 2, "wrn_28_4": 8, "conv_28_4": 8}  # height and width of the last map, of 32 pixels
CLASSES = ("ant", "bee", "cat")


@pytest.fixture(scope="module", autouse=True)
def example() -> Iterator[None]:
    """The modules of the example within reach, its networks in timm's registry; and neither of it afterwards."""
    from timm.models import _registry

    tables = [value for value in vars(_registry).values() if isinstance(value, dict | set)]
    before, modules = [table.copy() for table in tables], set(sys.modules)
    own = {path.stem for path in EXAMPLE.glob("*.py")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLE)
        import_plugin(NETWORKS)
        yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    for name in set(sys.modules) - modules:
        if name in own or "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def samples() -> ModuleType:
    return importlib.import_module("samples")


@pytest.fixture
def training() -> ModuleType:
    return importlib.import_module("training")


@pytest.fixture
def claims() -> ModuleType:
    return importlib.import_module("claims")


def network(name: str, seed: int = 0, **options: Any) -> Any:
    """As it is after some training, in eval mode: BatchNorm is no identity."""
    torch.manual_seed(seed)
    model = timm.create_model(name, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.uniform_(tensor, -0.5, 0.5)
    return model.eval()


def weights(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Networks


@pytest.mark.parametrize("name", WIDTHS)
@torch.no_grad()
def test_shapes_of_a_network(name: str) -> None:
    model, images = network(name, num_classes=7), torch.rand(2, 3, 32, 32)
    maps = model.forward_features(images)
    assert maps.shape == (2, WIDTHS[name], PLACES[name], PLACES[name])
    pooled = model.forward_head(maps, pre_logits=True)
    assert torch.allclose(pooled, maps.flatten(2).mean(2))
    assert model(images).shape == (2, 7)
    assert torch.equal(model(images), model.get_classifier()(pooled))
    last, intermediate = model.forward_intermediates(images, indices=[0, 3])
    assert torch.equal(last, maps)
    assert torch.equal(intermediate[0], model.stages[0](images))
    assert [len(map_) for map_ in intermediate] == [2, 2]
    assert len(model.forward_intermediates(images)[1]) == len(model.stages)
    model.reset_classifier(5)
    assert model(images).shape == (2, 5)
    model.reset_classifier(0)
    assert torch.equal(model(images), pooled)


def test_numbers_of_parameters() -> None:
    counts = {name: weights(timm.create_model(name, num_classes=64)) for name in WIDTHS}
    assert counts["conv4"] == 9 * 64 * (3 + 3 * 64) + 4 * 2 * 64 + 65 * 64
    channels = ((3, 64), (64, 160), (160, 320), (320, 640))
    blocks = sum(9 * o * (i + 2 * o) + i * o + 4 * 2 * o for i, o in channels)  # a shortcut has a BatchNorm of its own
    assert blocks == 12_424_320  # that of Tian et al., without a classifier
    assert counts["resnet12"] == blocks + 641 * 64
    shortcuts = 16 * 64 + 64 * 128 + 128 * 256
    assert counts["wrn_28_4"] - counts["conv_28_4"] == shortcuts
    assert counts["wrn_28_4"] - 257 * 64 + 257 * 10 == 5_849_050  # the 5.8 M of the published one, for 10 classes


@pytest.mark.parametrize(("name", "skip"), [("wrn_28_4", True), ("conv_28_4", False)])
@torch.no_grad()
def test_a_wide_network(name: str, skip: bool) -> None:
    model = network(name)
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum(conv.kernel_size == (3, 3) for conv in convs) == 25  # with the classifier and shortcuts: 28 layers
    x = torch.randn(2, 3, 32, 32)
    expected = F.conv2d(x, model.stages[0].weight, padding=1)
    blocks = [block for block in model.modules() if type(block).__name__ == "WideBlock"]
    assert len(blocks) == 12
    for number, block in enumerate(blocks):
        stride = 2 if number in (4, 8) else 1
        active = block.bn1(expected).relu()
        y = F.conv2d(active, block.conv1.weight, stride=stride, padding=1)
        y = F.conv2d(block.bn2(y).relu(), block.conv2.weight, padding=1)
        if skip:
            first = number in (0, 4, 8)  # where the width changes
            y = y + (F.conv2d(active, block.shortcut.weight, stride=stride) if first else expected)
        expected = y
    last = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)][-1]
    assert tiny.near(model.forward_features(x), last(expected).relu()) < 1e-5


@torch.no_grad()
def test_conv4() -> None:
    model = network("conv4")
    x = expected = torch.randn(2, 3, 32, 32)
    for conv, norm, *_ in model.stages:
        expected = F.max_pool2d(norm(F.conv2d(expected, conv.weight, padding=1)).relu(), 2)
    assert tiny.near(model.forward_features(x), expected) < 1e-5


@torch.no_grad()
def test_resnet12() -> None:
    model = network("resnet12")
    x = expected = torch.randn(2, 3, 32, 32)
    for stage in model.stages:
        y = expected
        for conv, norm, slope in zip(stage.convs, stage.norms, (0.1, 0.1, 1.0), strict=True):
            y = F.leaky_relu(norm(F.conv2d(y, conv.weight, padding=1)), slope)
        beside = stage.shortcut[1](F.conv2d(expected, stage.shortcut[0].weight))
        expected = F.max_pool2d(F.leaky_relu(y + beside, 0.1), 2)
    assert tiny.near(model.forward_features(x), expected) < 1e-5  # and nothing is dropped in eval mode


@torch.no_grad()
def test_drop_block_is_in_the_last_two_stages() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet12", drop=0.5).train()
    image = torch.rand(4, 3, 32, 32)
    differ = []
    for stage in model.stages:
        one, other = stage(image), stage(image)
        differ.append(not torch.equal(one, other))
        image = one
    assert differ == [False, False, True, True]
    plain = timm.create_model("resnet12", drop=0.0).train()
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(plain(image), plain(image))


@pytest.mark.parametrize("name", WIDTHS)
def test_no_weights_are_published(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize("name", WIDTHS)
def test_a_network_is_a_backbone(name: str) -> None:
    backbone = tiny.random(name, plugin=NETWORKS, layers="all")
    found = backbone(tiny.pixels(backbone, 2))
    assert found["feature"].shape == (2, WIDTHS[name])
    assert len(found) == 1 + len(backbone.model.stages)  # with each of the layers
    assert torch.allclose(found["feature"], found[f"layer_{len(found) - 2}"], atol=1e-5)


def test_a_wider_network() -> None:
    backbone = tiny.random("conv4", plugin=NETWORKS, model_kwargs={"width": 128})
    assert tiny.features(backbone, 2).shape == (2, 128)


# Samples


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images, wider than high, of no size that a network wants, in splits."""
    from PIL import Image

    root, draw = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for split, label, number in itertools.product(("train", "test"), CLASSES, range(6)):
        folder = root / split / label
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype="uint8"))
        coarse.resize((56, 44), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return root


def config(training: ModuleType, name: str = "conv4") -> dict[str, Any]:
    from timm.data import resolve_model_data_config

    found: dict[str, Any] = resolve_model_data_config(training.build(name, 2))
    return found


@pytest.fixture
def images(photographs: Path, samples: ModuleType, training: ModuleType) -> Any:
    return samples.load(str(photographs), ReadingOptions(), ("ant", "cat"), config(training))


def test_images_are_those_of_the_training(images: Any) -> None:
    assert images.labels == ("ant",) * 6 + ("cat",) * 6
    assert (images.pixels.shape, images.pixels.dtype) == ((12, 3, 32, 32), torch.uint8)
    pixels, codes = images.of(["cat", "ant"])
    assert codes.tolist() == [1] * 6 + [0] * 6
    assert torch.equal(pixels, images.pixels)
    pixels, codes = images.of(["cat"])
    assert codes.tolist() == [0] * 6
    assert torch.equal(pixels, images.pixels[6:])


def recipe(training: ModuleType, **settings: Any) -> Any:
    plain = {"network": "conv4", "data": "photographs", "updates": 6, "saved": {0: 0, 1: 3, 2: 6}, "batch_size": 4}
    return training.Recipe(**plain | settings)


def test_what_is_trained_on_is_what_is_extracted_from(
    images: Any, photographs: Path, training: ModuleType, tmp_path: Path
) -> None:
    model, path = network("conv4", num_classes=2), tmp_path / "saved.safetensors"
    training._save(model, path)
    plain = recipe(training, batch_size=12, crop=False, flip=False)
    pixels, codes = next(training._batches(plain, *images.of(["cat", "ant"]), "cpu", 0))
    with torch.no_grad():
        trained = model.forward_head(model.forward_features(pixels), pre_logits=True)
    kept = nct.extract(
        "conv4", photographs, split="train", classes=["ant", "cat"], checkpoint=path, plugin=NETWORKS, device="cpu"
    )
    distances = torch.cdist(trained.double(), kept.features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert sorted(distances.argmin(1).tolist()) == list(range(12))  # each image once
    assert distances.min(1).values.max() < 1e-4 * distances.median()
    assert [["cat", "ant"][code] for code in codes] == [kept.classes[kept.labels[row]] for row in distances.argmin(1)]


def test_the_transform_is_that_of_the_network(photographs: Path, samples: ModuleType, training: ModuleType) -> None:
    wanted = {**config(training), "input_size": (3, 20, 20), "crop_pct": 0.5}
    assert samples.load(str(photographs), ReadingOptions(), CLASSES, wanted).pixels.shape == (18, 3, 20, 20)


def test_a_broken_image_is_named(photographs: Path, samples: ModuleType, training: ModuleType, tmp_path: Path) -> None:
    for name in ("train/a/whole.png", "train/a/broken.png", "train/b/whole.png", "test/a/whole.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((photographs / "train" / "ant" / "0.png").read_bytes())
    (tmp_path / "train" / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(DataError, match=r"broken\.png"):
        samples.load(str(tmp_path), ReadingOptions(), ("a", "b"), config(training))


def test_data_with_splits_are_taken_as_they_are(photographs: Path, samples: ModuleType, tmp_path: Path) -> None:
    assert samples.with_splits(str(photographs), ReadingOptions(), 0.25, 0, tmp_path) == str(photographs)
    assert not [*tmp_path.iterdir()]


def test_data_without_splits_are_divided(samples: ModuleType, tmp_path: Path) -> None:
    copy = samples.with_splits("digits", ReadingOptions(), 0.25, 0, tmp_path)
    assert Path(copy).parent == tmp_path
    before, after = open_source("digits", ReadingOptions()), open_source(copy, ReadingOptions())
    whole = Counter(entry.label for entry in before.list())
    assert Counter(entry.label for entry in after.list()) == whole
    tested = Counter(entry.label for entry in after.list() if entry.split == "test")
    assert tested == {label: round(count / 4) for label, count in whole.items()}
    assert {entry.split for entry in after.list()} == {"train", "test"}

    def contents(source: Any) -> Counter[tuple[str, bytes]]:
        entries = source.list()
        return Counter((e.label, read()) for e, read in zip(entries, source.contents(entries), strict=True))

    assert contents(after) == contents(before)


def splits(data: str) -> list[tuple[str, str, str]]:
    return sorted((entry.id, entry.label, entry.split) for entry in open_source(data, ReadingOptions()).list())


def test_a_division_is_by_its_seed(samples: ModuleType, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        copy = samples.with_splits("digits", ReadingOptions(), 0.25, seed, tmp_path / name)
        found.append([split for *_, split in splits(copy)])
    assert found[0] == found[1] != found[2]


def test_the_same_data_are_copied_once(samples: ModuleType, tmp_path: Path) -> None:
    arguments = ("digits", ReadingOptions(), 0.25, 0, tmp_path)
    copy = samples.with_splits(*arguments)
    before = Path(copy).stat().st_mtime_ns
    assert samples.with_splits(*arguments) == copy
    assert Path(copy).stat().st_mtime_ns == before


@pytest.mark.parametrize("changed", ["share", "seed", "data"])
def test_a_copy_made_otherwise_is_not_taken(changed: str, samples: ModuleType, pets: Path, tmp_path: Path) -> None:
    """Refused or made anew, but never silently what was asked for the last time."""
    first, reading = samples.with_splits("digits", ReadingOptions(), 0.25, 0, tmp_path), ReadingOptions()
    before = splits(first)
    data = str(pets) if changed == "data" else "digits"
    wanted = (data, reading, 0.5 if changed == "share" else 0.25, int(changed == "seed"))
    try:
        again = samples.with_splits(*wanted, tmp_path)
    except (NCTransferError, SystemExit):
        return
    assert splits(again) != before


def test_classes_are_divided_at_random(samples: ModuleType) -> None:
    def divide(seed: int) -> Any:
        return samples.divide("digits", ReadingOptions(), (), (), seed)

    source, target = divide(0)
    assert len(target) == 5  # a fifth, but five at least
    assert sorted(source + target) == sorted("0123456789")
    assert list(target) == sorted(target)
    assert divide(0) == (source, target)
    assert len({divide(seed)[1] for seed in range(8)}) > 4
    assert len({divide(seed)[0] for seed in range(8)}) > 4


def test_a_fifth_of_many_classes_is_the_target(samples: ModuleType, tmp_path: Path) -> None:
    from conftest import write_digits

    root = write_digits(tmp_path / "many", {f"c{number:02d}": number % 10 for number in range(40)}, 1)
    source, target = samples.divide(str(root), ReadingOptions(), (), (), 0)
    assert (len(source), len(target)) == (32, 8)


def test_named_classes(samples: ModuleType) -> None:
    def divide(source: Sequence[str], target: Sequence[str], seed: int = 0) -> Any:
        return samples.divide("digits", ReadingOptions(), source, target, seed)

    source, target = divide(("1", "2", "3", "4"), ("9", "8", "0"))
    assert sorted(source) == ["1", "2", "3", "4"]
    assert sorted(target) == ["0", "8", "9"]
    assert len({divide(("1", "2", "3", "4"), ("9",), seed)[0] for seed in range(8)}) > 2  # in a random order
    source, target = divide((), ("9", "8", "0"))
    assert sorted(source) == list("1234567")
    source, target = divide(("1", "2"), ())
    assert sorted(source) == ["1", "2"]
    assert len(target) == 5
    assert not {*target} & {"1", "2"}


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (["1", "x"], ["2"], "'x'"),
        (["1"], ["x"], "'x'"),
        (["1", "2"], ["2", "3"], "'2'"),
    ],
)
def test_classes_that_cannot_be(source: list[str], target: list[str], said: str, samples: ModuleType) -> None:
    with raises(DataError, said):
        samples.divide("digits", ReadingOptions(), source, target, 0)


def test_names_of_a_file(samples: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("maple tree\r\n\n  bär \n".encode())
    assert samples.names(path) == ("maple tree", "bär")
    assert samples.names(None) == ()


# Batches


def marked(count: int, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose pixels say which image, row and column they are."""
    pixels = torch.empty(count, 3, size, size, dtype=torch.uint8)
    pixels[:, 0] = torch.arange(count)[:, None, None] + 1
    pixels[:, 1] = torch.arange(size)[:, None] + 1
    pixels[:, 2] = torch.arange(size) + 1
    return pixels, torch.arange(count) % 7


def undone(batch: torch.Tensor) -> torch.Tensor:
    """The bytes before normalisation: mean 0.5 and deviation 0.25, as networks.py says."""
    raw = (batch * 0.25 + 0.5) * 255
    assert (raw - raw.round()).abs().max() < 1e-3
    return raw.round().long()


def moves(training: ModuleType, batches: int = 24, **settings: Any) -> Counter[tuple[int, int, bool]]:
    """How far images were moved down and to the right, and whether they were mirrored."""
    pixels, codes = marked(200)
    plain = recipe(training, batch_size=50, **settings)
    found: Counter[tuple[int, int, bool]] = Counter()
    for batch, labels in itertools.islice(training._batches(plain, pixels, codes, "cpu", 0), batches):
        for image, label in zip(undone(batch), labels, strict=True):
            which, row, column = (int(value) for value in image[:, 4, 4])
            mirrored = bool(image[2, 4, 5] == column - 1)  # zero, beyond the margin, is before one
            down, right = row - 5, column - 5
            window = F.pad(pixels[which - 1].long(), (4,) * 4)[:, 4 + down : 13 + down, 4 + right : 13 + right]
            assert torch.equal(image, window.flip(2) if mirrored else window)
            assert label == codes[which - 1]
            found[down, right, mirrored] += 1
    return found


def test_augmentation(training: ModuleType) -> None:
    found = moves(training)
    total = found.total()
    assert total == 24 * 50
    assert len({(down, right) for down, right, _ in found}) == 81  # 9 × 9 places, 15 draws of each
    batch = moves(training, batches=1)  # each image by itself
    assert len(batch) > 25
    assert len({mirrored for *_, mirrored in batch}) == 2
    for axis, wanted in ((0, range(-4, 5)), (1, range(-4, 5)), (2, (False, True))):
        counts = Counter(move[axis] for move in found.elements())
        assert sorted(counts) == [*wanted]
        share = 1 / len(counts)
        far = 5 * math.sqrt(total * share * (1 - share))
        assert all(abs(count - total * share) < far for count in counts.values())


def test_augmentation_is_off_when_it_is_off(training: ModuleType) -> None:
    assert set(moves(training, crop=False, flip=False)) == {(0, 0, False)}
    assert {move[:2] for move in moves(training, crop=False)} == {(0, 0)}
    assert {move[2] for move in moves(training, flip=False)} == {False}


def order(training: ModuleType, count: int, skipped: int = 0, size: int = 4, **settings: Any) -> list[list[int]]:
    batches = training._batches(recipe(training, batch_size=size, **settings), *marked(22), "cpu", skipped)
    return [undone(batch)[:, 0, 4, 4].tolist() for batch, _ in itertools.islice(batches, count)]


def test_a_pass_has_every_image_once_at_most(training: ModuleType) -> None:
    batches = order(training, 15)  # 5 whole ones a pass
    assert {len(batch) for batch in batches} == {4}
    passes = [[*itertools.chain(*batches[start : start + 5])] for start in (0, 5, 10)]
    assert all(len({*images}) == 20 for images in passes)
    assert len({tuple(images) for images in passes}) == 3
    assert len(order(training, 3, size=100)[2]) == 22  # as many as there are


def test_batches_depend_on_the_seed(training: ModuleType) -> None:
    assert order(training, 5) == order(training, 5) != order(training, 5, seed=1)
    assert moves(training) == moves(training) != moves(training, seed=1)


@pytest.mark.parametrize("skipped", [1, 5, 7])
def test_batches_that_were_had_are_left_out(skipped: int, training: ModuleType) -> None:
    def batches(left_out: int) -> Any:
        return training._batches(recipe(training), *marked(22), "cpu", left_out)

    whole = [*itertools.islice(batches(0), 14)][skipped:]
    for one, other in zip(whole, itertools.islice(batches(skipped), 14 - skipped), strict=True):
        assert all(map(torch.equal, one, other))


# Training


def test_the_learning_rate_falls_to_a_tenth_twice(training: ModuleType) -> None:
    plain = recipe(training, updates=10, learning_rate=0.5)
    assert [plain.rate(update) for update in range(10)] == pytest.approx([0.5] * 6 + [0.05] * 2 + [0.005] * 2)
    constant = recipe(training, updates=10, milestones=())
    assert {constant.rate(update) for update in range(10)} == {2**-4}  # that of the paper


def checkpoints(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, state in one.items():
        assert state.keys() == other[name].keys()
        for key, tensor in state.items():
            assert torch.equal(tensor, other[name][key]), (name, key)


def test_every_update_is_as_the_recipe_says(
    images: Any, training: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training by hand."""
    plain = recipe(training, learning_rate=0.1, momentum=0.7, weight_decay=0.01, milestones=(0.5,), seed=3)
    monkeypatch.setattr(training, "_batches", lambda *_: itertools.repeat((fixed, codes)))
    fixed, codes = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    training.train(plain, ("ant", "cat"), images, tmp_path, "cpu")
    found = checkpoints(tmp_path)
    model = training.build("conv4", 2)
    model.load_state_dict(found["epoch-000.safetensors"])
    velocity: dict[str, torch.Tensor] = {}
    for update in range(6):
        model.zero_grad()
        F.cross_entropy(model.train()(fixed), codes).backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gradient = parameter.grad + 0.01 * parameter
                velocity[name] = 0.7 * velocity.get(name, 0) + gradient
                parameter -= (0.1 if update < 3 else 0.01) * velocity[name]
    for name, tensor in model.state_dict().items():
        assert torch.allclose(tensor, found["epoch-002.safetensors"][name], rtol=1e-3, atol=1e-4), name


def test_a_training(images: Any, training: ModuleType, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        folder.mkdir()
        training.train(recipe(training, seed=seed), ("cat", "ant"), images, folder, "cpu")
    one, same, other = map(checkpoints, folders)
    assert [*one] == ["epoch-000.safetensors", "epoch-001.safetensors", "epoch-002.safetensors"]
    assert sorted(path.name for path in folders[0].iterdir()) == [*one]  # and nothing else is left
    assert_same(one, same)
    for name in one:  # neither the initial weights nor the later ones
        assert not torch.equal(one[name]["fc.weight"], other[name]["fc.weight"])
    steps = [state["fc.weight"] for state in one.values()]
    assert not torch.equal(steps[0], steps[1])
    assert not torch.equal(steps[1], steps[2])
    assert [int(state["stages.0.1.num_batches_tracked"]) for state in one.values()] == [0, 3, 6]


class Killed(BaseException):
    """As a signal would."""


def little_resnet(_: str, classes: int) -> Any:
    """One stage of ``resnet12``, which draws random numbers in training."""
    networks = sys.modules[type(timm.create_model("conv4")).__module__]
    return networks.Network([networks.ResidualBlock(3, 8, 0.5)], 8, classes)


@pytest.mark.parametrize(
    ("name", "when", "killed"),
    [
        ("conv4", "before", 1),
        ("conv4", "after", 1),
        ("conv4", "before", 2),
        ("conv4", "after", 2),
        ("drop", "after", 1),
    ],
)
def test_a_killed_training_goes_on(
    name: str,
    when: str,
    killed: int,
    images: Any,
    training: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the same weights, wherever it was killed around the n-th time that its state is kept."""
    plain, classes, keep, count = recipe(training), ("ant", "cat"), training._keep, 0
    if name == "drop":
        monkeypatch.setattr(training, "build", little_resnet)

    def kill(*arguments: Any) -> None:
        nonlocal count
        count += 1
        if when == "after" or count < killed:
            keep(*arguments)
        if count == killed:
            raise Killed

    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    for place in (undisturbed, folder):
        assert not training.is_done(plain, place, classes)
    training.train(plain, classes, images, undisturbed, "cpu")
    with monkeypatch.context() as patch:
        patch.setattr(training, "_keep", kill)
        with pytest.raises(Killed):
            training.train(plain, classes, images, folder, "cpu")
    if when == "after" or killed == 1:  # at the very end, all checkpoints may be there
        assert not training.is_done(plain, folder, classes)
    made: list[Any] = []
    save = training._save
    monkeypatch.setattr(training, "_save", lambda model, path: (made.append(path.name), save(model, path)))
    training.train(plain, classes, images, folder, "cpu")
    assert_same(checkpoints(folder), checkpoints(undisturbed))
    kept = killed if when == "after" else killed - 1
    if kept:  # it did not begin again
        assert made == [f"epoch-{epoch:03d}.safetensors" for epoch in range(kept + 1, 3)]
    assert training.is_done(plain, folder, classes)
    assert not [*folder.glob("state*")]


def test_settings_that_changed_are_refused(training: ModuleType, tmp_path: Path) -> None:
    plain, classes = recipe(training), ("ant", "cat")
    folder = tmp_path / "run"
    assert not training.is_done(plain, folder, classes)
    assert not training.is_done(recipe(training), folder, [*classes])
    before = (folder / "settings.json").read_bytes()
    changes: dict[str, Any] = {
        "network": "resnet12",
        "data": "others",
        "updates": 7,
        "saved": {0: 0, 1: 3},
        "batch_size": 5,
        "learning_rate": 0.1,
        "momentum": 0.8,
        "weight_decay": 0.0,
        "milestones": (0.5,),
        "crop": False,
        "flip": False,
        "precision": "bfloat16",
        "seed": 1,
    }
    assert changes.keys() == training.Recipe.__dataclass_fields__.keys()
    wanted = [(recipe(training, **{name: value}), classes) for name, value in changes.items()]
    for changed, names in [*wanted, (plain, ("cat", "ant")), (plain, ("ant", "bee"))]:
        with raises(StoreError, folder, hint="--output"):
            training.is_done(changed, folder, names)
    assert (folder / "settings.json").read_bytes() == before


def test_a_checkpoint_that_was_deleted_is_made_again(images: Any, training: ModuleType, tmp_path: Path) -> None:
    plain, classes = recipe(training), ("ant", "cat")
    training.is_done(plain, tmp_path, classes)
    training.train(plain, classes, images, tmp_path, "cpu")
    assert training.is_done(plain, tmp_path, classes)
    before = checkpoints(tmp_path)
    training.checkpoint(tmp_path, 1).unlink()
    assert not training.is_done(plain, tmp_path, classes)
    training.train(plain, classes, images, tmp_path, "cpu")
    assert_same(checkpoints(tmp_path), before)


def test_a_loss_that_is_no_number_ends_the_training(images: Any, training: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\b(nan|inf)\b") as caught:
        training.train(recipe(training, learning_rate=1e30), ("ant", "cat"), images, tmp_path, "cpu")
    says(caught, 2, hint="--learning-rate")  # of how many classes the network is
    assert "epoch-002.safetensors" not in checkpoints(tmp_path)


def test_bfloat16(images: Any, training: ModuleType, tmp_path: Path) -> None:
    once = {"updates": 1, "saved": {1: 1}}
    for precision in ("float32", "bfloat16"):
        (tmp_path / precision).mkdir()
        training.train(
            recipe(training, precision=precision, **once), ("ant", "cat"), images, tmp_path / precision, "cpu"
        )
    one, other = (checkpoints(tmp_path / name)["epoch-001.safetensors"] for name in ("float32", "bfloat16"))
    assert other["fc.weight"].dtype == torch.float32
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    assert tiny.near(other["fc.weight"], one["fc.weight"]) < 0.1


# Claims


def frame(**runs: Sequence[Sequence[float]]) -> pd.DataFrame:
    """Rows of ``l``, step, source-train, source-test, target, directional, accuracy; rows of a run as they come."""
    names = ["source_train_cdnv", "source_test_cdnv", "cdnv", "directional_cdnv", "ridge_5way_1shot"]
    rows = [
        {"l": int(key[1:]), "step": step, **dict(zip(names, values, strict=True))}
        for key, run in runs.items()
        for step, *values in run
    ]
    return pd.DataFrame(rows)


GOOD: dict[str, list[list[float]]] = {
    # by twos, as strings of numbers would not be sorted; checkpoints out of order
    "l4": [[4, 0.2, 0.4, 0.9, 0.30, 0.60], [0, 1.0, 1.1, 1.2, 0.50, 0.40], [2, 0.5, 0.6, 1.0, 0.40, 0.50]],
    "l16": [[0, 1.0, 1.1, 1.2, 0.50, 0.42], [2, 0.6, 0.7, 0.8, 0.30, 0.60], [4, 0.3, 0.5, 0.6, 0.20, 0.70]],
    "l32": [[0, 1.0, 1.1, 1.2, 0.50, 0.41], [2, 0.7, 0.8, 0.7, 0.20, 0.65], [4, 0.4, 0.6, 0.4, 0.10, 0.80]],
}
ORDER = ["falls", "source-test", "target", "cdnv", "directional", "accuracy", "again"]


def held(claims: ModuleType, found: pd.DataFrame) -> dict[str, bool]:
    return dict(zip(ORDER, (one.held for one in claims.check(found, ["ridge_5way_1shot"])), strict=True))


def changed(run: str, row: int, column: int, value: float) -> pd.DataFrame:
    rows = {name: [[*line] for line in lines] for name, lines in GOOD.items()}
    rows[run][row][column] = value
    return frame(**rows)


EVERY = dict.fromkeys(ORDER, True) | {"again": False}


def test_claims_that_hold(claims: ModuleType) -> None:
    found = claims.check(frame(**GOOD), ["ridge_5way_1shot"])
    assert held(claims, frame(**GOOD)) == EVERY
    numbers = [
        (4, "1.00", "0.20", 16, "0.30", 32, "0.40"),
        ("1.10", "0.40"),
        ("1.20", "0.90"),
        ("0.900", "0.600", "0.400", "-1.00"),
        ("0.300", "0.200", "0.100"),
        ("0.600", "0.700", "0.800", "+1.00"),
        (),
    ]
    assert [shows(one.numbers, *expected) for one, expected in zip(found, numbers, strict=True)] == [True] * 7
    assert not re.search(r"\d", found[6].numbers)  # for no number of classes
    shuffled = frame(**GOOD).sample(frac=1, random_state=0)
    assert claims.check(shuffled, ["ridge_5way_1shot"]) == found  # whatever the order of the rows


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (("l32", 2, 1, 1.0), {"falls", "source-test", "target"}),  # source-train is where it began, at one l
        (("l32", 2, 2, 1.2), {"source-test"}),  # source-test rises in the end
        (("l16", 1, 2, 0.3), {"source-test"}),  # falls, but not along with source-train: rank correlation 0.5
        (("l32", 1, 3, 1.3), {"target"}),
        (("l4", 1, 3, 0.85), {"target"}),  # the target was better untrained
        (("l4", 0, 3, 0.5), {"cdnv"}),  # 0.5, 0.6, 0.4: rank correlation -0.5
        (("l16", 2, 4, 0.31), {"directional"}),
        (("l32", 2, 5, 0.65), {"accuracy"}),
    ],
)
def test_claims_that_do_not_hold(change: tuple[str, int, int, float], broken: set[str], claims: ModuleType) -> None:
    if change == ("l32", 2, 1, 1.0):  # its order among the checkpoints is another, too
        assert not held(claims, changed(*change))["falls"]
        return
    found = held(claims, changed(*change))
    assert {name for name in ORDER if not found[name]} - {"again"} == broken


def test_a_tendency_must_be_clear(claims: ModuleType) -> None:
    """Rank correlations over five numbers of classes: 0.7 holds, 0.6 does not."""

    def accuracies(*ranks: int) -> pd.DataFrame:
        first = [0, 1, 1, 1, 1, 0]
        return frame(**{f"l{2**n}": [first, [1, 0.5, 0.5, 0.5 / n, 0.5 / n, rank]] for n, rank in enumerate(ranks, 1)})

    assert held(claims, accuracies(1, 3, 4, 2, 5))["accuracy"]  # 1 - 6·6 / 120 = 0.7
    assert not held(claims, accuracies(1, 4, 3, 2, 5))["accuracy"]  # 0.6
    assert not held(claims, accuracies(5, 4, 3, 2, 1))["accuracy"]
    assert not held(claims, accuracies(3))["accuracy"]  # of one network none can be told


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ([[0, 1, 1.1, 1.2, 0.5, 0], [1, 0.8, 1, 0.8, 0.4, 0], [2, 0.6, 0.9, 0.9, 0.3, 0]], True),
        ([[0, 1, 1.1, 1.2, 0.5, 0], [1, 0.8, 1, 0.8, 0.4, 0], [2, 0.6, 0.9, 0.9, 0.41, 0]], False),  # along with it
        (
            [[0, 1, 1.1, 1.2, 0.5, 0], [1, 0.8, 1, 0.8, 0.4, 0], [2, 0.6, 0.9, 0.81, 0.3, 0]],
            False,
        ),  # by hardly anything
        ([[0, 1, 1.1, 1.2, 0.5, 0], [1, 0.8, 1, 0.9, 0.4, 0], [2, 0.6, 0.9, 0.8, 0.3, 0]], False),  # it goes on falling
    ],
)
def test_counter_evidence(run: list[list[float]], expected: bool, claims: ModuleType) -> None:
    found = frame(**{**GOOD, "l8": run})
    last = claims.check(found, ["ridge_5way_1shot"])[-1]
    assert last.held == expected
    if expected:
        assert shows(last.numbers, 8, 1, 2, "0.800", "0.900", "0.4000", "0.3000")


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize("run", ["l4", "l32"])
def test_an_order_that_is_undefined_is_none(run: str, claims: ModuleType) -> None:
    """One that does not exist (nothing to rank) holds for no run, be it the first or the last."""
    rows = {name: [[*line] for line in lines] for name, lines in GOOD.items()}
    for line in rows[run]:
        line[1] = 0.5
    found = held(claims, frame(**rows))
    assert not found["falls"]
    assert not found["source-test"]
    assert not found["target"]


def test_a_measure_that_is_undefined_holds_nothing(claims: ModuleType) -> None:
    found = held(claims, changed("l32", 2, 3, math.nan))
    assert not found["target"]


# Report


def results(shots: Sequence[int] = (1, 10)) -> pd.DataFrame:
    """What ``nctransfer trajectory`` could have measured, for figures."""
    table = frame(**GOOD)
    for name in ("nc1", "variability_collapse_index", "source_train_directional_cdnv", "source_test_directional_cdnv"):
        table[name] = table["cdnv"] / 3
    for number, kind in itertools.product(shots, ("ridge", "ncc")):
        task = f"{kind}_5way_{number}shot"
        table[task] = table["ridge_5way_1shot"]
        table[f"{task}_ci95"] = 0.01
        if kind == "ncc":
            table[f"{task}_galanti2022"] = 2.0
            table[f"{task}_luthra2025"] = 3.0
            table[f"{task}_luthra2026"] = 4.0 if number == 10 else None
    return table


def test_a_bound_that_there_is_none_of_is_drawn_without_a_word() -> None:
    plots = importlib.import_module("plots")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = plots.bounds(results([1]), 5, [1], ["galanti2022", "luthra2025", "luthra2026"])
    assert [axes.get_title() for axes in figure.axes] == ["galanti2022", "luthra2025", "luthra2026"]
    assert [len(axes.collections) for axes in figure.axes] == [1, 1, 0]


def test_figures_show_every_number() -> None:
    plots, found = importlib.import_module("plots"), results()
    collapse = plots.collapse(found)
    assert len(collapse.axes) == 6
    for axes, column in zip(
        collapse.axes,
        [sample + name for name in ("cdnv", "directional_cdnv") for sample in ("source_train_", "source_test_", "")],
        strict=True,
    ):
        for line, (_, run) in zip(axes.lines, found.groupby("l"), strict=True):
            run = run.sort_values("step")
            assert line.get_xydata().tolist() == run[["step", column]].to_numpy().tolist()
    legend = collapse.axes[0].get_legend()
    assert legend is not None
    for text, number in zip(legend.get_texts(), (4, 16, 32), strict=True):
        assert shows(text.get_text(), number)
    accuracy = plots.accuracy(found, 5, [1, 10])
    assert len(accuracy.axes) == 6  # two classifiers; two numbers of shots over epochs, and both at the end
    assert accuracy.axes[1].lines[0].get_xydata().tolist() == [[0, 0.4], [2, 0.5], [4, 0.6]]
    assert [line.get_xydata().tolist() for line in accuracy.axes[5].lines if len(line.get_xdata()) == 3] == [
        [[4, 0.6], [16, 0.7], [32, 0.8]]
    ] * 2
    measures = plots.measures(found, ["ridge_5way_1shot"])
    assert len(measures.axes) == 4
    points = np.concatenate([part.get_offsets() for part in measures.axes[0].collections])
    assert sorted(points.tolist()) == sorted(found[["cdnv", "ridge_5way_1shot"]].to_numpy().tolist())
    rank = found["cdnv"].corr(found["ridge_5way_1shot"], method="spearman")
    assert measures.axes[0].get_title().endswith(f" {rank:+.2f}")
    bounds = plots.bounds(found, 5, [1, 10], ["galanti2022"])
    drawn = np.concatenate([part.get_offsets() for part in bounds.axes[0].collections])
    assert sorted(drawn[:, 1]) == pytest.approx(sorted([*(1 - found["ncc_5way_1shot"])] * 2))
    assert {*drawn[:, 0]} == {2.0}


# The command

SETTINGS = {
    "--data": "digits",
    "--classes": "3,2",
    "--epochs": "1",
    "--checkpoints": "0",
    "--network": "conv4",
    "--batch-size": "64",
    "--max-per-class": "30",
    "--episodes": "50",
    "--queries": "5",
    "--shots": "1",
    "--ways": "4",
    "--device": "cpu",
    "--jobs": "1",
}
WORDS = [*itertools.chain.from_iterable(SETTINGS.items())]
FIGURES = ("collapse", "accuracy", "measures", "bounds")


def in_process(*arguments: object, **environment: str) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(importlib.import_module("reproduce").main)
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200", **environment})


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory, example: None) -> tuple[Path, str]:
    """The whole command."""
    folder = tmp_path_factory.mktemp("reproduced")
    done = in_process(*WORDS, "--output", folder / "out", NCTRANSFER_CACHE=str(folder / "cache"))
    if done.exception:
        raise done.exception
    assert (done.exit_code, done.stderr) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["out"]  # all is kept in --output
    return folder / "out", done.stdout


def printed(said: str) -> list[str]:
    """The command that is printed first, as a shell takes it."""
    return shlex.split(said.splitlines()[0])


def test_the_command_prints_every_setting(reproduced: tuple[Path, str]) -> None:
    python, program, *words = printed(reproduced[1])
    assert (python, Path(program)) == ("python", EXAMPLE / "reproduce.py")
    pairs = [*itertools.pairwise(words)]
    also = {"--learning-rate": "0.0625", "--momentum": "0.9", "--weight-decay": "0.0005", "--milestones": "0.6,0.8"}
    for pair in {**SETTINGS, **also, "--seed": "0", "--output": str(reproduced[0]), "--equal": "updates"}.items():
        assert pair in pairs
    assert {"--crop", "--flip"} < {*words}


def test_what_the_command_leaves(reproduced: tuple[Path, str]) -> None:
    from PIL import Image

    folder, said = reproduced
    for name in FIGURES:
        assert (folder / f"{name}.svg").read_text().startswith("<?xml")
        with Image.open(folder / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG"
    text = (folder / "results.md").read_text(encoding="utf-8")
    for name in FIGURES:
        assert f"({name}.svg)" in text
    assert len(re.findall("^### .", text, re.MULTILINE)) == len(tables(said)) == 4
    for number in (2, 3):
        run = folder / f"classes-{number:03d}"
        names = {f"epoch-{epoch:03d}.safetensors" for epoch in range(2)} | {"settings.json"}
        assert {path.name for path in run.iterdir()} == names
    assert any(shows(line, 3, 1) for line in said.splitlines()[1:])  # classes, and the epoch that is over


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own(reproduced: tuple[Path, str], tmp_path: Path) -> None:
    """The same numbers, and nothing on stderr."""
    done = subprocess.run(
        [sys.executable, EXAMPLE / "reproduce.py", *WORDS, "--output", tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found, expected = (pd.read_parquet(folder / "results.parquet") for folder in (tmp_path / "out", reproduced[0]))
    pd.testing.assert_frame_equal(found.select_dtypes("number"), expected.select_dtypes("number"), rtol=1e-3)


def test_results_are_what_nctransfer_measures(reproduced: tuple[Path, str], samples: ModuleType) -> None:
    folder, _ = reproduced
    table = pd.read_parquet(folder / "results.parquet")
    assert sorted(zip(table["l"], table["step"], strict=True)) == [*itertools.product((2, 3), (0, 1))]
    data = samples.with_splits("digits", ReadingOptions(), 0.25, 0, folder)
    source, target = samples.divide(data, ReadingOptions(), (), (), 0)
    row = table[(table["l"] == 3) & (table["step"] == 1)].iloc[0]
    path = folder / "classes-003" / "epoch-001.safetensors"
    options: dict[str, Any] = {
        "cache_dir": folder / "cache",
        "max_per_class": 30,
        "checkpoint": path,
        "plugin": NETWORKS,
    }
    for prefix, split, names in (
        ("source_train_", "train", source[:3]),
        ("source_test_", "test", source[:3]),
        ("", "test", target),
    ):
        features = nct.extract("conv4", data, split=split, classes=names, device="cpu", **options)
        found = nct.collapse(features)
        assert row[f"{prefix}cdnv"] == pytest.approx(found.cdnv, rel=1e-6)
        assert row[f"{prefix}directional_cdnv"] == pytest.approx(found.directional_cdnv, rel=1e-6)
        assert row[f"{prefix}classes"] == len(names)
    again = nct.fewshot(features, ways=4, shots=1, queries=5, episodes=50, seed=0, ridge_lambda="paper")
    accuracies = again.to_frame().set_index(["classifier", "shots"])["accuracy"]
    for classifier in ("ridge", "ncc"):
        assert row[f"{classifier}_4way_1shot"] == pytest.approx(accuracies[classifier, 1], abs=1e-9)


def test_fewer_classes_get_as_many_updates(reproduced: tuple[Path, str]) -> None:
    folder, _ = reproduced
    two, three = (json.loads((folder / f"classes-00{number}" / "settings.json").read_text()) for number in (2, 3))
    assert two["updates"] == three["updates"] == len(three["classes"]) * 135 // 64  # 135 or so images a class
    assert two["classes"] == three["classes"][:2]
    tracked = load_file(folder / "classes-002" / "epoch-001.safetensors")["stages.0.1.num_batches_tracked"]
    assert int(tracked) == two["updates"]


def test_the_claims_are_printed_with_their_numbers(reproduced: tuple[Path, str], claims: ModuleType) -> None:
    folder, said = reproduced
    names = ["ridge_4way_1shot", "ncc_4way_1shot"]
    found = claims.check(pd.read_parquet(folder / "results.parquet"), names)
    assert len(found) == 6 + len(names)
    assert any(shows(line, sum(bool(one.held) for one in found), len(found)) for line in said.splitlines())
    assert {one.held for one in found} >= {None}  # there are two values of l
    text = (folder / "results.md").read_text(encoding="utf-8")
    verdicts: dict[bool | None, set[str]] = {}
    for one in found:
        [line] = [line for line in text.splitlines() if line.startswith("|") and one.text in line]
        assert one.numbers in line
        verdicts.setdefault(one.held, set()).add(line.split("|")[1].strip())
    assert [len(words) for words in verdicts.values()] == [1] * len(verdicts)  # held, not held, or too few to tell
    assert len(set.union(*verdicts.values())) == len(verdicts)


def test_the_second_time_nothing_is_trained(reproduced: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """And the command that was printed is the same as the one that was given."""
    folder, said = reproduced
    reproduce = importlib.import_module("reproduce")
    monkeypatch.setattr(reproduce, "train", lambda *_: pytest.fail("trained again"))
    reported: list[Any] = []
    monkeypatch.setattr(reproduce.report, "write", lambda *arguments: reported.extend(arguments))
    kept = [*folder.glob("*/*.safetensors"), folder / "data.parquet"]
    before = [path.stat().st_mtime_ns for path in kept]
    done = in_process(*printed(said)[2:])
    assert (done.exit_code, done.exception) == (0, None)
    assert [path.stat().st_mtime_ns for path in kept] == before
    pd.testing.assert_frame_equal(
        reported[0].convert_dtypes(), pd.read_parquet(folder / "results.parquet").convert_dtypes(), check_dtype=False
    )
    assert reported[1:] == [4, [1], folder]


@pytest.mark.parametrize(
    "change", [("--learning-rate", "0.1"), ("--epochs", "3"), ("--seed", "1"), ("--test-share", "0.5"), ("--no-flip",)]
)
def test_another_setting_in_the_same_folder_is_refused(
    change: tuple[str, ...], reproduced: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reproduce = importlib.import_module("reproduce")
    monkeypatch.setattr(reproduce, "train_all", lambda *_: pytest.fail("trained"))
    done = in_process(*WORDS, "--output", reproduced[0], *change)
    assert done.exit_code == 1
    assert isinstance(done.exception, StoreError)


@pytest.mark.parametrize(
    "words",
    [
        ("--classes", "1,2"),
        ("--classes", "2,6"),  # of 10 digits, 5 are the target
        ("--classes", "two"),
        ("--checkpoints", "0,2"),
        ("--checkpoints", "-1,0"),
        ("--epochs", "0"),
        ("--equal", "foo"),
        ("--precision", "float16"),
        ("--milestones", "a"),
        ("--test-share", "1.5"),
        ("--target-classes", "nowhere.txt"),
        ("--source-classes", "nowhere.txt"),
    ],
    ids=" ".join,
)
def test_what_nobody_can_mean(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce = importlib.import_module("reproduce")
    monkeypatch.setattr(reproduce, "train_all", lambda *_: pytest.fail("trained"))
    done = in_process(*WORDS, "--output", tmp_path / "out", *words)
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)


@pytest.mark.parametrize("words", [("--batch-size", "5000"), ("--ways", "6")], ids=" ".join)
def test_what_cannot_be_measured_is_not_trained(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More ways than target classes; and a batch of more than all images is not an epoch of none."""
    reproduce = importlib.import_module("reproduce")
    asked: list[Any] = []

    def train_all(recipes: dict[Path, Any], *_: Any) -> None:
        asked.extend(recipe.updates for recipe, _ in recipes.values())
        raise NCTransferError("as far as it goes")

    monkeypatch.setattr(reproduce, "train_all", train_all)
    done = in_process(*WORDS, "--output", tmp_path / "out", *words)
    assert done.exit_code
    assert 0 not in asked
    if words[0] == "--ways":
        assert not asked
