"""The command line and its backbones: options, layers, weights and models of one's own, lists, numerics, errors."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from conftest import Run, write_digits
from terminal import SMALL, VIT, cli, data_of, done, known, misused, refused
from tiny import State, pickled, state_of, with_classes

PLUGIN = Path(__file__).resolve().parents[1] / "examples" / "reproduce_paper" / "networks.py"
CONV4 = ("--plugin", PLUGIN, "--model", "conv4", "--random-init")
RESNET = ("--model", "test_resnet", "--random-init")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``pets``, for the whole module; nothing may change it."""
    return write_digits(tmp_path_factory.mktemp("data") / "pets", {"zero": 0, "one": 1, "two": 2}, 6)


@pytest.fixture
def data(folder: Path) -> tuple[object, ...]:
    """Nine images, for whatever extracts."""
    return ("--data", folder, "--max-per-class", 3)


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of one's own, for test_vit."""
    return state_of()


def saved(path: Path, state: State) -> Path:
    save_file(state, path)
    return path


def key_of(*arguments: object) -> tuple[str, dict[str, Any]]:
    """The id of what is extracted, and what its key says of it."""
    stored = data_of("extract", *arguments)["id"]
    return stored, data_of("cache", "show", stored)["key"]


# Variants


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--img-size", 64], "input_size", [3, 64, 64]),
        (["--mean", "0.4"], "mean", [0.4] * 3),
        (["--mean", "0.1,0.2,0.3"], "mean", [0.1, 0.2, 0.3]),
        (["--mean", "0.1 0.2 0.3"], "mean", [0.1, 0.2, 0.3]),
        (["--std", "0.25"], "std", [0.25] * 3),
        (["--crop-pct", "1"], "crop_pct", 1.0),
        (["--interpolation", "bilinear"], "interpolation", "bilinear"),
    ],
)
def test_a_transform_of_ones_own_makes_a_set_of_its_own(
    options: list[object], name: str, value: object, data: tuple[object, ...]
) -> None:
    plain, _ = key_of(*VIT, *data)
    other, key = key_of(*VIT, *data, *options)
    assert key["transform"][name] == value
    assert other != plain
    text = done("cache", "show", other).stdout
    assert f"{name} {value}" in text


def test_one_number_for_all_colours_is_three(data: tuple[object, ...]) -> None:
    one, three = (
        data_of("extract", *VIT, *data, "--mean", mean, "--std", "0.5") for mean in ("0.25", "0.25,0.25,0.25")
    )
    assert one["id"] == three["id"]
    assert three["reused"] == 9


@pytest.mark.parametrize("pool", ["cls", "avg", "max"])
def test_pooling_changes_the_features(pool: str, data: tuple[object, ...]) -> None:
    stored, key = key_of(*VIT, *data, "--pool", pool)
    assert key["pool"] == pool
    assert stored != key_of(*VIT, *data)[0]
    numbers = [data_of("collapse", name, "--pairs", 0)["metrics"]["cdnv"] for name in (stored, key_of(*VIT, *data)[0])]
    assert (numbers[0] == numbers[1]) == (pool == "cls")  # which test_vit does of itself


def test_dtypes_make_sets_of_their_own(data: tuple[object, ...]) -> None:
    _, key = key_of(*RESNET, *data, "--dtype", "bfloat16", "--store-dtype", "float16")
    assert (key["dtype"], key["store_dtype"]) == ("bfloat16", "float16")
    assert "bfloat16, stored as float16" in done("cache", "show", "test_resnet").stdout


@pytest.mark.parametrize(
    "words",
    [["--model-kwargs", "embed_dim=32 depth=2"], ["--model-kwargs", "embed_dim=32", "--model-kwargs", "depth=2"]],
)
def test_arguments_of_timm(words: list[str], data: tuple[object, ...]) -> None:
    stored, key = key_of(*VIT, *data, *words)
    assert key["model_kwargs"] == {"embed_dim": 32, "depth": 2}
    features = data_of("collapse", stored)["features"]
    assert features["dim"] == 32
    assert re.search(r"^arguments +embed_dim=32, depth=2 *$", done("cache", "show", stored).stdout, re.MULTILINE)
    again = data_of("extract", *VIT, *data, "--model-kwargs", "depth=2", "--model-kwargs", "embed_dim=32")
    assert (again["id"], again["reused"]) == (stored, 9)  # in any order


def test_values_of_arguments_are_literals_or_text(data: tuple[object, ...]) -> None:
    _, key = key_of(*VIT, *data, "--model-kwargs", "class_token=True norm_layer=layernorm drop_rate=0.5 depth=1")
    assert key["model_kwargs"] == {"class_token": True, "norm_layer": "layernorm", "drop_rate": 0.5, "depth": 1}


@pytest.mark.parametrize("pair", ["depth", "=1", "1a=2", "depth=1 2", "a-b=1", "depth =1"])
@pytest.mark.parametrize("command", ["extract", "check", "collapse"])
def test_arguments_that_are_no_pairs(command: str, pair: str) -> None:
    said = misused(command, *VIT, "--model-kwargs", pair)
    assert "Invalid value for --model-kwargs" in said
    assert "is not KEY=VALUE" in said


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("pretrained=True", "--checkpoint or --random-init"),
        ("num_classes=3", "as large as that of the weights"),
        ("img_size=64", "give --img-size"),
        ("global_pool=avg", "give --pool"),
        ("pretrained_strict=False", "loaded whole"),
        ("[bold]=3", ""),
        ("nope=[bold]", "cannot be built with nope='[bold]'"),
        ("x=__import__('os').abort()", "cannot be built with x="),
        ("depth=-1", "cannot be built with depth=-1"),
        ("embed_dim=" + "(" * 300, "cannot be built with embed_dim="),
        ("class=1", "cannot be built with class=1"),
    ],
)
def test_arguments_that_timm_may_not_have(pair: str, words: str, data: tuple[object, ...]) -> None:
    if not words:
        misused("extract", *VIT, *data, "--model-kwargs", pair)
        return
    assert words in refused("extract", *VIT, *data, "--model-kwargs", pair)
    assert data_of("cache", "list")["sets"] == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--mean", "x"),
        ("--mean", "0.5;0.5;0.5"),
        ("--mean", "[bold]"),
        ("--std", "1,2,y"),
        ("--crop-pct", "x"),
        ("--img-size", "0"),
        ("--img-size", "6.5"),
        ("--img-size", "-32"),
        ("--seed", "-1"),
        ("--batch-size", "0"),
    ],
)
def test_what_is_no_number_is_wrong_usage(option: str, value: str, data: tuple[object, ...]) -> None:
    said = misused("extract", *VIT, *data, option, value)
    assert re.search(f"Invalid value for '?{option}'?", said)


@pytest.mark.parametrize("value", ["", "nan", "inf", "1,2", "1,2,3,4"])
@pytest.mark.parametrize("option", ["--mean", "--std"])
def test_numbers_that_are_no_colours(option: str, value: str, data: tuple[object, ...]) -> None:
    complaint = refused("extract", *VIT, *data, option, value)
    assert f"error: the transform: {option[2:]} " in complaint
    assert "one number" in complaint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--crop-pct", "0"], "cannot keep 0.0 of an image\nhint: give a share up to 1"),
        (["--crop-pct", "nan"], "cannot keep nan"),
        (["--crop-pct", "1.5"], "cannot keep 1.5"),
        (["--interpolation", "[bold]"], "no interpolation '[bold]'\nhint: choose from nearest, box, bilinear"),
        (["--pool", "[red]"], "has no pooling '[red]'\nhint: ViTs have cls, avg, max"),
        (["--layers", "first"], "'first' names no layers\nhint: give all, last-N, or indices"),
        (["--layers", "last-0"], "'last-0' names no layers"),
        (["--layers", "-1"], "'-1' names no layers"),
        (["--layers", ""], "'' names no layers"),
        (["--layers", "0,6"], "test_vit has no layer 6\nhint: its layers are 0 to 5"),
        (["--dtype", "int8"], "no dtype 'int8'\nhint: choose from float32, bfloat16, float16"),
        (["--store-dtype", "bfloat16"], "no dtype 'bfloat16'\nhint: choose from float32, float16"),
        (["--device", "xpu"], "no device 'xpu' here\nhint: there is: "),
        (["--checkpoint", "x.pth"], "a checkpoint and random weights were asked for at once"),
        (["--plugin", "[bold].py"], "the plugin '[bold].py' is no file, or not there\nhint: give a .py file"),
        (["--plugin", "no_such_module"], "there is no module 'no_such_module'"),
    ],
)
def test_options_that_cannot_be_had(options: list[str], words: str, data: tuple[object, ...]) -> None:
    assert words in refused("extract", *VIT, *data, *options)


@pytest.mark.parametrize("command", ["extract", "check"])
@pytest.mark.parametrize("backbone", [(*VIT, "--img-size", 7), (*CONV4, "--img-size", 8)], ids=["patches", "pooling"])
def test_a_size_that_the_model_cannot_run(command: str, backbone: tuple[object, ...], folder: Path) -> None:
    assert "--img-size" in refused(command, *backbone, "--data", folder)


@pytest.mark.parametrize(
    "options", [["--std", "0"], ["--model-kwargs", "depth={1}"], ["--mean", "nan"]], ids=lambda words: words[0]
)
def test_every_error_has_a_hint(options: list[str], data: tuple[object, ...]) -> None:
    refused("extract", *VIT, *data, *options)


# Layers


def test_layers_are_stored_beside_and_looked_at_by_name(data: tuple[object, ...]) -> None:
    report = data_of("extract", *VIT, *data, "--layers", "all")
    shown = data_of("cache", "show", report["id"])
    layers = [f"layer_{index}" for index in range(6)]
    assert shown["columns"] == dict.fromkeys(["feature", *layers], 64)
    assert ", layer_5 (64)" in done("cache", "show", report["id"]).stdout
    assert [name for name in pd.read_parquet(report["path"]).columns if name.startswith("layer")] == layers
    last, first = (data_of("collapse", *options) for options in ([], ["--feature-column", "layer_0"]))
    assert (last["features"]["layer"], first["features"]["layer"]) == ("feature", "layer_0")
    assert last["metrics"] != first["metrics"]
    assert re.search(
        r"^layer +layer_0 *$",
        done("fewshot", *SMALL[:2], "--queries", 2, "--feature-column", "layer_0").stdout,
        re.MULTILINE,
    )


@pytest.mark.parametrize("where", ["named", "last", "extracted"])
@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_a_layer_that_is_not_stored(command: str, where: str, data: tuple[object, ...]) -> None:
    stored = data_of("extract", *VIT, *data, "--layers", "last-1")["id"]
    name = {"named": [stored], "last": [], "extracted": [*VIT, *data]}[where]
    complaint = refused(command, *name, "--feature-column", "layer_0[bold]")
    assert f"{stored} has no column 'layer_0[bold]'" in complaint
    assert "it has feature, layer_5; nctransfer extract --layers adds layers" in complaint
    error = json.loads(cli(command, stored, "--feature-column", "x", "--format", "json").stderr)["error"]
    assert error["type"] == "FeaturesError"


def test_layers_are_added_to_what_is_stored(data: tuple[object, ...]) -> None:
    first = data_of("extract", *RESNET, *data, "--layers", "0,2,0")
    second = data_of("extract", *RESNET, *data, "--layers", "0,1")
    assert (first["id"], second["extracted"]) == (second["id"], 9)
    assert set(data_of("cache", "show", first["id"])["columns"]) == {"feature", "layer_0", "layer_1", "layer_2"}
    assert data_of("extract", *RESNET, *data, "--layers", "1,2")["reused"] == 9
    sets = data_of("collapse", *RESNET, *data, "--layers", "1,2")["sets"]
    assert [found["features"]["layer"] for found in sets] == ["layer_1", "layer_2", "feature"]


@pytest.mark.parametrize("layers", ["last-x", "", "x"])
def test_layers_that_cannot_be_named(layers: str, data: tuple[object, ...]) -> None:
    stored = data_of("extract", *VIT, *data, "--layers", "0")["id"]
    assert f"{layers!r} names no layers" in refused("collapse", stored, "--layers", layers)


def test_layers_of_a_set_that_is_named(data: tuple[object, ...]) -> None:
    stored = data_of("extract", *VIT, *data)["id"]
    assert "--layers" in refused("collapse", stored, "--layers", "all")


# Weights of one's own


def test_a_checkpoint_whatever_its_classifier(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    own = saved(tmp_path / "own.safetensors", state)
    seven = saved(tmp_path / "seven.safetensors", with_classes(state, 7))
    plain = done("extract", "--model", "test_vit", "--checkpoint", own, *data, "--offline")
    assert "classes" not in plain.stderr.replace("class folders", "")
    result = done("extract", "--model", "test_vit", "--checkpoint", seven, *data, "--offline")
    assert "the classifier in seven.safetensors has 7 classes\n" in result.stderr
    assert re.search(r"^weights +seven.safetensors \(digest ", result.stdout, re.MULTILINE)
    sets = data_of("cache", "list")["sets"]
    assert len({stored["id"] for stored in sets}) == 2
    numbers = [known(data_of("collapse", stored["id"], "--pairs", 0)) for stored in sets]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)  # no feature depends on the classifier


def test_a_checkpoint_without_a_classifier(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    file = saved(tmp_path / "[bold].safetensors", {k: v for k, v in state.items() if not k.startswith("head")})
    command = ("extract", "--model", "test_vit", "--checkpoint", file, *data)
    complaint = refused(*command)
    assert "2 of 80 missing (head.weight, head.bias)" in complaint
    assert "hint: if only the classifier is missing, as it is here, --allow-missing goes on" in complaint
    result = done(*command, "--allow-missing")
    assert "warning: [bold].safetensors holds no classifier" in result.stderr
    checked = done("check", *command[1:5], "--allow-missing", "--images", 2, "--data", data[1])
    assert "warning: [bold].safetensors holds no classifier" in checked.stderr


def test_what_else_is_missing_is_never_allowed(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    command = ("extract", "--model", "test_vit", "--allow-missing", *data, "--checkpoint")
    lacking = {k: v for k, v in state.items() if not k.startswith("blocks.3")}
    assert "does not fit test_vit" in refused(*command, saved(tmp_path / "a.safetensors", lacking))
    other = saved(tmp_path / "b.safetensors", {"x": torch.zeros(2)})
    assert "80 of 80 missing" in refused(*command, other)
    assert data_of("cache", "list")["sets"] == []


@pytest.mark.parametrize("content", [b"", b"[bold]nothing[/bold]", pickled({"state_dict": object})])
def test_files_that_are_no_checkpoint(content: bytes, data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    complaint = refused("extract", "--model", "test_vit", "--checkpoint", tmp_path / "x.pth", *data)
    assert "cannot be read safely" in complaint
    assert "hint: needed is a state dict" in complaint


def test_a_checkpoint_that_is_not_there(data: tuple[object, ...], tmp_path: Path) -> None:
    refused("extract", "--model", "test_vit", "--checkpoint", tmp_path / "x.pth", *data)


@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot", "check"])
def test_offline_asks_no_server(command: str, data: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.backbones.hub._why_unreachable", lambda _: pytest.fail("a server was asked"))
    for model in ("test_vit", "hf-hub:owner/name"):
        complaint = refused(command, "--model", model, *data[:2], "--offline", HF_HUB_OFFLINE="0")
        assert "was not asked (--offline)" in complaint
        assert "--checkpoint FILE" in complaint


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("[bold]x", "there is no model '[bold]x'\nhint: all names"),
        ("resnet5O", "there is no model 'resnet5O'\nhint: nearest: resnet50"),
        ("test_vit.nope", "test_vit has no weights tagged 'nope'\nhint: its tags: r160_in1k"),
        ("owner/name", "hint: a model of the hub is hf-hub:owner/name"),
        ("hf-hub:[/red]", "'[/red]' is no name of a model on the hub"),
        ("local-dir:nothing", "local-dir:nothing: 'nothing/config.json' is not there"),
        ("../../etc", "there is no model '../../etc'"),
    ],
)
@pytest.mark.parametrize("command", ["extract", "check"])
def test_models_that_are_not_there(command: str, model: str, words: str, folder: Path) -> None:
    assert words in refused(command, "--model", model, "--data", folder, "--offline")


def test_an_empty_name_of_a_model(data: tuple[object, ...]) -> None:
    refused("extract", "--model", "", *data)


# Models of one's own


def test_the_example_of_a_plugin(data: tuple[object, ...], tmp_path: Path) -> None:
    stored, key = key_of(*CONV4, *data, "--layers", "all")
    assert (key["model"], key["transform"]["input_size"]) == ("conv4", [3, 32, 32])
    assert key["plugin"]
    features = data_of("collapse", "--feature-column", "layer_0")["features"]
    assert (features["id"], features["layer"], features["dim"]) == (stored, "layer_0", 64)
    wide, _ = key_of(*CONV4, *data, "--model-kwargs", "width=8")
    assert wide != stored
    assert data_of("cache", "show", wide)["columns"] == {"feature": 8}
    state = state_of("conv4")  # registered by now
    file = saved(tmp_path / "conv4.safetensors", with_classes(state, 5, "fc"))
    result = done("extract", *CONV4[:4], "--checkpoint", file, *data)
    assert "the classifier in conv4.safetensors has 5 classes" in result.stderr
    assert len(data_of("check", *CONV4, "--images", 2)["differences"]) == 8


def test_the_example_of_a_plugin_has_no_weights_of_its_own(data: tuple[object, ...]) -> None:
    complaint = refused("extract", *CONV4[:4], *data)
    assert "timm knows no published weights of conv4\nhint: give a file by --checkpoint FILE" in complaint
    assert "Network has no pooling 'max'" in refused("extract", *CONV4, *data, "--pool", "max")


@pytest.mark.filterwarnings("ignore:Overwriting .* in registry:UserWarning")
def test_a_plugin_that_changes_makes_a_set_of_its_own(data: tuple[object, ...], tmp_path: Path) -> None:
    plugin = tmp_path / "p.py"
    ids = set()
    for line in ("", "# another\n"):
        plugin.write_text(PLUGIN.read_text().replace("conv4", "conv4_of_tests") + line)
        ids.add(data_of("extract", "--plugin", plugin, "--model", "conv4_of_tests", "--random-init", *data)["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("code", "words"),
    [("raise ValueError('[bold]x[/bold]')", "fails: ValueError: [bold]x[/bold]"), ("def (", "fails: SyntaxError")],
)
def test_a_plugin_that_fails(code: str, words: str, data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(code)
    result = cli("extract", "--plugin", tmp_path / "p.py", *VIT, *data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr


def test_a_plugin_that_ends_the_program(data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("raise SystemExit(3)")
    result = cli("extract", "--plugin", tmp_path / "p.py", *VIT, *data)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: " in result.stderr


def test_a_plugin_that_prints_spoils_no_result(data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("print('hello')")
    assert data_of("extract", "--plugin", tmp_path / "p.py", *VIT, *data)["samples"] == 9


# Lists of models


def test_few_models_are_listed_with_their_size() -> None:
    models = data_of("models", "test_vit")["models"]
    assert [model["name"] for model in models] == ["test_vit2.r160_in1k", "test_vit3.r160_in1k", "test_vit.r160_in1k"]
    assert models[2] == {
        "name": "test_vit.r160_in1k",
        "aliases": [],
        "image_size": 160,
        "licence": "apache-2.0",
        "source": "timm/test_vit.r160_in1k",
        "at_hand": "",
        "parameters": sum(tensor.numel() for tensor in state_of("test_vit").values()),
        "width": 64,
        "megabytes": pytest.approx(models[2]["parameters"] * 4 / 1e6),
    }
    assert re.search(r"^test_vit.r160_in1k +160 +0.4M +64 ", done("models", "test_vit").stdout, re.MULTILINE)


def test_many_models_are_listed_without() -> None:
    models = data_of("models", "vit_base_*")["models"]
    assert len(models) > 12
    assert {model["parameters"] for model in models} == {None}
    assert all(model["name"].startswith("vit_base_") for model in models)
    shown = done("models", "vit_base_*").stdout
    assert "params" not in shown
    assert f"{len(models):,} models." in shown
    rows = list(csv.DictReader(io.StringIO(done("models", "vit_base_*", "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == [model["name"] for model in models]


@pytest.mark.parametrize(
    ("pattern", "hint"), [("vit_bsae", "nearest: vit_base"), ("[bold]zz[/bold]", "wildcards"), ("[", "wildcards")]
)
def test_no_model(pattern: str, hint: str) -> None:
    complaint = refused("models", pattern)
    assert f"no pretrained model fits {pattern!r}" in complaint
    assert hint in complaint
    error = json.loads(cli("models", pattern, "--format", "json").stderr)["error"]
    assert error["type"] == "ModelError"


# Numerics


def test_numerics_as_json_and_csv(folder: Path) -> None:
    command = ("check", *RESNET, "--data", folder, "--images", 4)
    found = data_of(*command)
    assert (found["model"], found["images"], found["device"]) == ("test_resnet", 4, found["device"])
    about = ("smallest_norm", "largest_norm", "largest_value", "alike")
    numbers = [found[name] for name in about]
    numbers += [row[name] for row in found["differences"] for name in ("largest", "median", "same_neighbour")]
    assert len(numbers) == 28
    assert all(isinstance(number, float) and math.isfinite(number) for number in numbers)  # not null, not "inf"
    ways = {difference["way"]: difference for difference in found["differences"]}
    assert list(ways) == [
        *("a second time", "one image at a time", "channels first", "BatchNorm folded"),
        *("float64", "bfloat16 autocast", "float16 autocast", "stored as float16"),
    ]
    assert ways["a second time"]["largest"] == 0
    assert 0 < ways["float64"]["largest"] < 1e-4 < ways["bfloat16 autocast"]["largest"]
    table = pd.read_csv(io.StringIO(done(*command, "--format", "csv").stdout), index_col="way")
    assert list(table.index) == list(ways)
    assert table["largest"]["stored as float16"] == ways["stored as float16"]["largest"]


def test_numerics_as_a_table(folder: Path) -> None:
    result = done("check", *VIT, "--data", folder, "--images", 4)
    assert result.stderr == ""
    assert f"4 of {folder}" in " ".join(result.stdout.split())
    assert re.search(r"^BatchNorm folded +– +– +– +no BatchNorm follows a convolution$", result.stdout, re.MULTILINE)
    assert re.search(r"^float64 +\d\.\d\de-\d\d .* rounding *$", result.stdout, re.MULTILINE)
    assert "| float64 | " in done("check", *VIT, "--data", folder, "-n", 4, "--format", "markdown").stdout


def test_numerics_of_the_default_and_what_it_is_run_on() -> None:
    result = done("check", "--images", 2, "--offline")
    assert "no --model: tf_efficientnet_lite0, whose weights are at hand" in result.stderr
    assert "2 of digits" in result.stdout


def test_numerics_of_what_cannot_be_checked(folder: Path, tmp_path: Path) -> None:
    misused("check", *VIT, "--images", 1)
    assert "'nothing' is not there" in refused("check", *VIT, "--data", "nothing")
    (tmp_path / "x" / "a").mkdir(parents=True)
    broken = tmp_path / "x" / "a" / "[bold].png"
    broken.write_bytes(b"no image")
    assert "has a single image\nhint: give --data with more" in refused("check", *VIT, "--data", tmp_path / "x")
    (tmp_path / "x" / "a" / "2.png").write_bytes(b"no image")
    complaint = refused("check", *VIT, "--data", tmp_path / "x")
    assert "the image 'a/2.png' cannot be used" in complaint or "the image 'a/[bold].png' cannot be used" in complaint


def test_numerics_of_a_split_that_is_not_there(folder: Path) -> None:
    assert "'train'" in refused("check", *VIT, "--data", folder, "--split", "train")


# As a program


def said(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.partition(": ")[0] for line in result.stderr.splitlines()[-2:]]


def test_errors_of_the_program_itself(run: Run, folder: Path) -> None:
    """In a process of its own nothing but the error is printed: no traceback, no warning of a library."""
    result = run("extract", "--model", "test_vit", "--layers", "all", "--data", folder, "--offline", "--quiet")
    assert (result.returncode, result.stdout, said(result)) == (1, "", ["error", "hint"])
    assert len(result.stderr.splitlines()) == 2
