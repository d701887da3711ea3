"""The command line and its backbones: options, layers, weights and models of one's own, lists, numerics, errors."""

from __future__ import annotations

import csv
import io
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
from terminal import SMALL, VIT, data_of, done, known, misused, noted, refusal, shows, shows_line, warned
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
    assert shows_line(done("cache", "show", other).stdout, name, value)


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
    numbers = [
        data_of("collapse", name, "--pairs", 0, "--partial")["metrics"]["cdnv"]
        for name in (stored, key_of(*VIT, *data)[0])
    ]
    assert (numbers[0] == numbers[1]) == (pool == "cls")  # which test_vit does of itself


def test_dtypes_make_sets_of_their_own(data: tuple[object, ...]) -> None:
    _, key = key_of(*RESNET, *data, "--dtype", "bfloat16", "--store-dtype", "float16")
    assert (key["dtype"], key["store_dtype"]) == ("bfloat16", "float16")
    assert shows_line(done("cache", "show", "test_resnet").stdout, "bfloat16", "float16")


@pytest.mark.parametrize(
    "words",
    [["--model-kwargs", "embed_dim=32 depth=2"], ["--model-kwargs", "embed_dim=32", "--model-kwargs", "depth=2"]],
)
def test_arguments_of_timm(words: list[str], data: tuple[object, ...]) -> None:
    stored, key = key_of(*VIT, *data, *words)
    assert key["model_kwargs"] == {"embed_dim": 32, "depth": 2}
    features = data_of("collapse", stored, "--partial")["features"]
    assert features["dim"] == 32
    shown = done("cache", "show", stored).stdout
    assert shows_line(shown, "embed_dim=32", "depth=2")
    again = data_of("extract", *VIT, *data, "--model-kwargs", "depth=2", "--model-kwargs", "embed_dim=32")
    assert (again["id"], again["reused"]) == (stored, 9)  # in any order


def test_values_of_arguments_are_literals_or_text(data: tuple[object, ...]) -> None:
    _, key = key_of(*VIT, *data, "--model-kwargs", "class_token=True norm_layer=layernorm drop_rate=0.5 depth=1")
    assert key["model_kwargs"] == {"class_token": True, "norm_layer": "layernorm", "drop_rate": 0.5, "depth": 1}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("depth", "depth"),
        ("=1", "=1"),
        ("1a=2", "1a=2"),
        ("depth=1 2", "2"),
        ("a-b=1", "a-b=1"),
        ("depth =1", "depth"),
        ("[bold]=3", "[bold]=3"),
    ],
)
@pytest.mark.parametrize("command", ["extract", "check", "collapse"])
def test_arguments_that_are_no_pairs(command: str, text: str, wrong: str) -> None:
    assert shows(misused(command, *VIT, "--model-kwargs", text), "--model-kwargs", "KEY=VALUE", wrong)


@pytest.mark.parametrize(
    ("pair", "kind", "hint"),
    [
        ("pretrained=True", "SettingError", ("--checkpoint", "--random-init")),
        ("num_classes=3", "SettingError", ()),
        ("img_size=64", "SettingError", "--img-size"),
        ("global_pool=avg", "SettingError", "--pool"),
        ("pretrained_strict=False", "SettingError", ()),
        ("nope=[bold]", "ModelError", ()),
        ("x=__import__('os').abort()", "ModelError", ()),
        ("depth=-1", "ModelError", ()),
        ("embed_dim=" + "(" * 300, "ModelError", ()),
        ("class=1", "ModelError", ()),
    ],
)
def test_arguments_that_timm_may_not_have(
    pair: str, kind: str, hint: tuple[object, ...], data: tuple[object, ...]
) -> None:
    error = refusal("extract", *VIT, *data, "--model-kwargs", pair)
    error.expect(kind, pair.partition("=")[0], hint=hint)
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
    assert shows(misused("extract", *VIT, *data, option, value), option)


@pytest.mark.parametrize("value", ["", "nan", "inf", "1,2", "1,2,3,4"])
@pytest.mark.parametrize("option", ["--mean", "--std"])
def test_numbers_that_are_no_colours(option: str, value: str, data: tuple[object, ...]) -> None:
    error = refusal("extract", *VIT, *data, option, value)
    error.expect("SettingError", option[2:], *(float(number) for number in value.split(",") if number))


@pytest.mark.parametrize(
    ("option", "value", "kind", "hint"),
    [
        ("--crop-pct", "0", "SettingError", (1,)),
        ("--crop-pct", "nan", "SettingError", (1,)),
        ("--crop-pct", "1.5", "SettingError", (1,)),
        ("--interpolation", "[bold]", "SettingError", ("nearest", "box", "bilinear")),
        ("--pool", "[red]", "ModelError", ("cls", "avg", "max")),
        ("--layers", "first", "SettingError", ("all", "last-N")),
        ("--layers", "last-0", "SettingError", ("all", "last-N")),
        ("--layers", "-1", "SettingError", ("all", "last-N")),
        ("--layers", "", "SettingError", ("all", "last-N")),
        ("--layers", "0,6", "ModelError", (0, 5)),
        ("--dtype", "int8", "SettingError", ("float32", "bfloat16", "float16")),
        ("--store-dtype", "bfloat16", "SettingError", ("float32", "float16")),
        ("--device", "xpu", "DeviceError", ("cpu",)),
        ("--plugin", "[bold].py", "ModelError", (".py",)),
        ("--plugin", "no_such_module", "ModelError", ()),
    ],
)
def test_options_that_cannot_be_had(
    option: str, value: str, kind: str, hint: tuple[object, ...], data: tuple[object, ...]
) -> None:
    shown: object = {"--crop-pct 0": 0.0, "--layers 0,6": 6}.get(f"{option} {value}", value)
    refusal("extract", *VIT, *data, option, value).expect(kind, shown, hint=hint)


@pytest.mark.parametrize("command", ["extract", "check"])
@pytest.mark.parametrize("backbone", [(*VIT, "--img-size", 7), (*CONV4, "--img-size", 8)], ids=["patches", "pooling"])
def test_a_size_that_the_model_cannot_run(command: str, backbone: tuple[object, ...], folder: Path) -> None:
    refusal(command, *backbone, "--data", folder).expect("ModelError", backbone[-1], hint="--img-size")


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [("--std", "0", ("std", 0.0)), ("--model-kwargs", "depth={1}", ("--model-kwargs",))],
    ids=["std", "depth"],
)
def test_values_that_do_not_fit(option: str, value: str, shown: tuple[object, ...], data: tuple[object, ...]) -> None:
    refusal("extract", *VIT, *data, option, value).expect("SettingError", *shown)


# Layers


def test_layers_are_stored_beside_and_looked_at_by_name(data: tuple[object, ...]) -> None:
    report = data_of("extract", *VIT, *data, "--layers", "all")
    shown = data_of("cache", "show", report["id"])
    layers = [f"layer_{index}" for index in range(6)]
    assert shown["columns"] == dict.fromkeys(["feature", *layers], 64)
    assert shows(done("cache", "show", report["id"]).stdout, "layer_5", 64)
    assert [name for name in pd.read_parquet(report["path"]).columns if name.startswith("layer")] == layers
    last, first = (data_of("collapse", *options) for options in ([], ["--feature-column", "layer_0"]))
    assert (last["features"]["layer"], first["features"]["layer"]) == ("feature", "layer_0")
    assert last["metrics"] != first["metrics"]
    assert shows(done("fewshot", *SMALL[:2], "--queries", 2, "--feature-column", "layer_0").stdout, "layer_0")


@pytest.mark.parametrize("where", ["named", "last", "extracted"])
@pytest.mark.parametrize("command", ["collapse", "fewshot"])
def test_a_layer_that_is_not_stored(command: str, where: str, data: tuple[object, ...]) -> None:
    stored = data_of("extract", *VIT, *data, "--layers", "last-1")["id"]
    name = {"named": [stored], "last": [], "extracted": [*VIT, *data]}[where]
    task = ("--ways", 2, "--queries", 2) if command == "fewshot" else ()
    error = refusal(command, *name, *task, "--feature-column", "layer_0[bold]")
    error.expect("FeaturesError", stored, "layer_0[bold]", hint="--layers", tells=("feature", "layer_5"))


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
    refusal("collapse", stored, "--layers", layers).expect("SettingError", layers, hint=("all", "last-N"))


def test_layers_of_a_set_that_is_named(data: tuple[object, ...]) -> None:
    stored = data_of("extract", *VIT, *data)["id"]
    refusal("collapse", stored, "--layers", "all").expect("FeaturesError", stored, hint="--layers")


# Weights of one's own


def test_a_checkpoint_whatever_its_classifier(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    own = saved(tmp_path / "own.safetensors", state)
    seven = saved(tmp_path / "seven.safetensors", with_classes(state, 7))
    plain = done("extract", "--model", "test_vit", "--checkpoint", own, *data, "--offline")
    assert not noted(plain, "own.safetensors")
    result = done("extract", "--model", "test_vit", "--checkpoint", seven, *data, "--offline")
    assert noted(result, "seven.safetensors", 7)
    assert shows(result.stdout, "seven.safetensors")
    sets = data_of("cache", "list")["sets"]
    assert len({stored["id"] for stored in sets}) == 2
    numbers = [known(data_of("collapse", stored["id"], "--pairs", 0, "--partial")) for stored in sets]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-4)  # no feature depends on the classifier


def test_a_checkpoint_without_a_classifier(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    file = saved(tmp_path / "[bold].safetensors", {k: v for k, v in state.items() if not k.startswith("head")})
    command = ("extract", "--model", "test_vit", "--checkpoint", file, *data)
    error = refusal(*command)
    error.expect("WeightsError", file.name, 2, 80, "head.weight", "head.bias", hint="--allow-missing")
    assert warned(done(*command, "--allow-missing"), file.name)
    assert warned(done("check", *command[1:5], "--allow-missing", "--images", 2, "--data", data[1]), file.name)


def test_what_else_is_missing_is_never_allowed(data: tuple[object, ...], state: State, tmp_path: Path) -> None:
    command = ("extract", "--model", "test_vit", "--allow-missing", *data, "--checkpoint")
    lacking = {k: v for k, v in state.items() if not k.startswith("blocks.3")}
    missing = len(state) - len(lacking)
    error = refusal(*command, saved(tmp_path / "a.safetensors", lacking))
    error.expect("WeightsError", "a.safetensors", "test_vit", missing, 80)
    error = refusal(*command, saved(tmp_path / "b.safetensors", {"x": torch.zeros(2)}))
    error.expect("WeightsError", "b.safetensors", "test_vit", 80, 1, "x")
    assert data_of("cache", "list")["sets"] == []


@pytest.mark.parametrize("content", [b"", b"[bold]nothing[/bold]", pickled({"state_dict": object})])
def test_files_that_are_no_checkpoint(content: bytes, data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    error = refusal("extract", "--model", "test_vit", "--checkpoint", tmp_path / "x.pth", *data)
    error.expect("WeightsError", "x.pth", hint=".safetensors")


@pytest.mark.parametrize("command", ["extract", "collapse", "fewshot", "check"])
def test_offline_asks_no_server(command: str, data: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.backbones.hub._why_unreachable", lambda _: pytest.fail("a server was asked"))
    task = ("--ways", 2, "--queries", 2) if command == "fewshot" else ()
    for model in ("test_vit", "hf-hub:owner/name"):
        error = refusal(command, "--model", model, *data[:2], *task, "--offline", HF_HUB_OFFLINE="0")
        error.expect("WeightsError", "--offline", hint="--checkpoint")


@pytest.mark.parametrize(
    ("model", "value", "hint"),
    [
        ("[bold]x", "[bold]x", "nctransfer models"),
        ("resnet5O", "resnet5O", "resnet50"),
        ("test_vit.nope", "nope", "r160_in1k"),
        ("owner/name", "owner/name", "hf-hub:owner/name"),
        ("hf-hub:[/red]", "[/red]", ()),
        ("local-dir:nothing", "nothing/config.json", ()),
        ("../../etc", "../../etc", "nctransfer models"),
        ("", "", ()),
    ],
)
@pytest.mark.parametrize("command", ["extract", "check"])
def test_models_that_are_not_there(command: str, model: str, value: str, hint: str, folder: Path) -> None:
    refusal(command, "--model", model, "--data", folder, "--offline").expect("ModelError", value, hint=hint)


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
    assert noted(result, "conv4.safetensors", 5)
    assert len(data_of("check", *CONV4, "--images", 2)["differences"]) == 8


def test_the_example_of_a_plugin_has_no_weights_of_its_own(data: tuple[object, ...]) -> None:
    refusal("extract", *CONV4[:4], *data).expect("WeightsError", "conv4", hint="--checkpoint")
    refusal("extract", *CONV4, *data, "--pool", "max").expect("ModelError", "max")


@pytest.mark.filterwarnings("ignore:Overwriting .* in registry:UserWarning")
def test_a_plugin_that_changes_makes_a_set_of_its_own(data: tuple[object, ...], tmp_path: Path) -> None:
    plugin = tmp_path / "p.py"
    ids = set()
    for line in ("", "# another\n"):
        plugin.write_text(PLUGIN.read_text().replace("conv4", "conv4_of_tests") + line)
        ids.add(data_of("extract", "--plugin", plugin, "--model", "conv4_of_tests", "--random-init", *data)["id"])
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("raise ValueError('[bold]x[/bold]')", ["ValueError", "[bold]x[/bold]"]),
        ("def (", ["SyntaxError"]),
        ("raise SystemExit(3)", ["SystemExit", 3]),
    ],
    ids=["an error", "no Python", "the end of the program"],
)
def test_a_plugin_that_fails(code: str, values: list[object], data: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(code)
    error = refusal("extract", "--plugin", tmp_path / "p.py", *VIT, *data)
    error.expect("ModelError", tmp_path / "p.py", *values, hint=None)


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
    assert shows(shown, len(models))
    rows = list(csv.DictReader(io.StringIO(done("models", "vit_base_*", "--format", "csv").stdout)))
    assert [row["name"] for row in rows] == [model["name"] for model in models]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [("vit_bsae", "vit_base"), ("[bold]zz[/bold]", ()), ("[", ())],  # nothing is near to the last two
)
def test_no_model(pattern: str, hint: str) -> None:
    refusal("models", pattern).expect("ModelError", pattern, hint=hint)


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
    assert len(ways) == 8
    again, _, _, folded, *others = ways
    assert ways[again]["largest"] == 0, "a second run gives the same features"
    assert shows(folded, "BatchNorm")
    assert [float_of(way) for way in others] == ["float64", "bfloat16", "float16", "float16"]
    largest = {float_of(way): ways[way]["largest"] for way in others[:2]}
    assert 0 < largest["float64"] < 1e-4 < largest["bfloat16"]
    table = pd.read_csv(io.StringIO(done(*command, "--format", "csv").stdout), index_col="way")
    assert table["largest"].to_dict() == {way: ways[way]["largest"] for way in ways}


def float_of(way: str) -> str:
    """The dtype that a way of running is about."""
    return re.findall(r"\bb?float\d\d\b", way)[0]


def test_numerics_as_a_table(folder: Path) -> None:
    command = ("check", *VIT, "--data", folder, "--images", 4)
    result = done(*command)
    assert result.stderr == ""
    assert shows_line(result.stdout, 4, folder)
    [folded] = (line for line in result.stdout.splitlines() if line.startswith("BatchNorm"))
    assert folded.count("–") == 3, "a ViT has no BatchNorm to fold"
    assert re.search(r"^float64 +\d\.\d\de-\d\d ", result.stdout, re.MULTILINE)
    assert "| float64 | " in done(*command, "--format", "markdown").stdout


def test_numerics_of_the_default_and_what_it_is_run_on() -> None:
    result = done("check", "--images", 2, "--offline")
    assert noted(result, "tf_efficientnet_lite0")
    assert shows_line(result.stdout, 2, "digits")


def test_numerics_of_what_cannot_be_checked(folder: Path, tmp_path: Path) -> None:
    misused("check", *VIT, "--images", 1)
    refusal("check", *VIT, "--data", "nothing").expect("DataError", "nothing")
    (tmp_path / "x" / "a").mkdir(parents=True)
    broken = tmp_path / "x" / "a" / "[bold].png"
    broken.write_bytes(b"no image")
    refusal("check", *VIT, "--data", tmp_path / "x").expect("DataError", tmp_path / "x", hint="--data")
    (tmp_path / "x" / "a" / "2.png").write_bytes(b"no image")
    error = refusal("check", *VIT, "--data", tmp_path / "x").expect("DataError", hint=None)
    assert shows(error.message, "a/2.png") or shows(error.message, "a/[bold].png")


def test_numerics_of_a_split_that_is_not_there(folder: Path) -> None:
    refusal("check", *VIT, "--data", folder, "--split", "train").expect("FeaturesError", "train")


# As a program


def said(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.partition(": ")[0] for line in result.stderr.splitlines()[-2:]]


def test_errors_of_the_program_itself(run: Run, folder: Path) -> None:
    """In a process of its own nothing but the error is printed: no traceback, no warning of a library."""
    result = run("extract", "--model", "test_vit", "--layers", "all", "--data", folder, "--offline", "--quiet")
    assert (result.returncode, result.stdout, said(result)) == (1, "", ["error", "hint"])
    assert len(result.stderr.splitlines()) == 2
