"""What can be named: timm's names and short ones, models of the hub and of a folder, plugins; and the list of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from messages import says
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.listing import list_models
from nctransfer.backbones.names import ALIASES, DEFAULT_MODEL, resolve
from nctransfer.backbones.overrides import RESERVED
from nctransfer.backbones.plugins import import_plugin, plugin_file
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.tensor_digests import tensor_digest
from nctransfer.backbones.weight_files import BUNDLED, at_hand, bundled
from nctransfer.errors import ModelError, SettingError, WeightsError
from tiny import REPOSITORY, Bomb, features, in_hub, near, random, state_of, with_classes

pytestmark = pytest.mark.usefixtures("hub_cache")

Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def own() -> Any:
    """A test_vit of one's own, for five classes."""
    model = unpacked(random(seed=42))
    model.reset_classifier(5)
    return model


@pytest.fixture
def folder(tmp_path: Path, own: Any) -> Path:
    """The same as timm saves it."""
    path = tmp_path / "saved"
    timm.models.save_for_hf(own, path, safe_serialization=True, data_config={"mean": (0.1, 0.2, 0.3)})
    return path


def unpacked(backbone: Backbone) -> Any:
    """The model with tensors as they are saved."""
    return backbone.model.to(memory_format=torch.contiguous_format)


def of_folder(path: Path) -> Backbone:
    return load(BackboneRequest(f"local-dir:{path}"))


# Names of timm


@pytest.mark.parametrize("alias", ALIASES)
def test_short_names_are_models_with_weights(alias: str) -> None:
    spec = resolve(alias)
    assert spec.name.partition(".")[0] == spec.architecture == ALIASES[alias].partition(".")[0]
    assert timm.is_model_pretrained(spec.name)
    assert spec.repository or spec.url


def test_short_names_hide_no_name_of_timm() -> None:
    assert not set(ALIASES) & set(timm.list_models())


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"),
        ("test_vit", "test_vit.r160_in1k"),
        ("test_vit.r160_in1k", "test_vit.r160_in1k"),
        ("vit_tiny_patch16_224.augreg_in21k", "vit_tiny_patch16_224.augreg_in21k"),
        ("mae_base", "vit_base_patch16_224.mae"),
    ],
)
def test_names_get_their_tag(name: str, full: str) -> None:
    assert resolve(name).name == full


def test_what_a_name_stands_for() -> None:
    spec = resolve("test_vit")
    assert (spec.architecture, spec.repository, spec.url, spec.folder) == ("test_vit", REPOSITORY, "", None)
    assert spec.filenames == ("model.safetensors", "pytorch_model.bin")
    assert spec.config["input_size"] == (3, 160, 160)
    assert not spec.arguments


def test_a_model_whose_weights_are_not_on_the_hub() -> None:
    spec = resolve("gcvit_base.in1k")
    assert (spec.repository, spec.filenames) == ("", ())
    assert spec.url.endswith(".pth")


def test_a_model_without_published_weights_has_a_name_all_the_same() -> None:
    name = next(name for name in timm.list_models("test_*") + timm.list_models() if not timm.is_model_pretrained(name))
    spec = resolve(name)
    assert (spec.architecture, spec.repository, spec.url, spec.filenames) == (name, "", "", ())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("vit_bsae", "vit_base"), ("resnet5O", "resnet50"), ("efficientnet_lite_0", "efficientnet_lite0")],
)
def test_unknown_models_are_answered_by_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ModelError) as error:
        resolve(name)
    says(error, f"'{name}'", hint=nearest)


@pytest.mark.parametrize(
    "name", ["", ".", "../test_vit", "timm/test_vit", "test_vit.x/../y", "\0", "hf-hub:", "local-dir:", "https://a/b"]
)
def test_names_of_places_are_no_models(name: str) -> None:
    with pytest.raises(ModelError) as error:
        resolve(name)
    says(error, repr(name))


def test_a_place_without_its_prefix_is_answered_by_it() -> None:
    with pytest.raises(ModelError) as error:
        resolve("timm/test_vit")
    says(error, "'timm/test_vit'", hint=["hf-hub:timm/test_vit", "local-dir:timm/test_vit"])


def test_unknown_tag_is_answered_by_those_there_are() -> None:
    with pytest.raises(ModelError) as error:
        resolve("test_vit.bogus")
    says(error, "test_vit", "'bogus'", hint="r160_in1k")


# Models of a folder, and of the hub


def test_a_folder_that_timm_has_saved(folder: Path, own: Any) -> None:
    backbone = of_folder(folder)
    assert backbone.key.model == f"local-dir:{folder.name}"  # wherever it lies
    assert backbone.weights.kind == "folder"
    assert backbone.weights.path == folder / "model.safetensors"
    assert tuple(backbone.key.transform["mean"]) == (0.1, 0.2, 0.3)
    assert backbone.key.weights == tensor_digest(own.state_dict())
    assert torch.equal(features(backbone), features(random(seed=42, mean=(0.1, 0.2, 0.3))))
    head = backbone.head(64)
    assert head is not None
    assert torch.equal(head["weight"], own.head.weight)


@pytest.mark.parametrize("model", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_folders_of_other_families(tmp_path: Path, model: str) -> None:
    saved = random(model, seed=42)
    timm.models.save_for_hf(unpacked(saved), tmp_path / "saved", safe_serialization=False)
    backbone = of_folder(tmp_path / "saved")
    assert backbone.weights.path == tmp_path / "saved" / "pytorch_model.bin"
    assert torch.equal(features(backbone, 2), features(saved, 2))


def test_the_home_folder_in_the_name_of_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert resolve("local-dir:~/saved").folder == folder


def test_arguments_that_a_folder_was_built_with(tmp_path: Path) -> None:
    saved = random(seed=42, model_kwargs={"depth": 2})
    timm.models.save_for_hf(unpacked(saved), tmp_path / "saved", safe_serialization=True)
    backbone = of_folder(tmp_path / "saved")
    assert len(backbone.model.blocks) == 2
    assert torch.equal(features(backbone), features(saved))


def test_a_model_of_the_hub(folder: Path, hub_cache: Path, own: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    in_hub(hub_cache, config, "config.json", "someone/mine")
    path = in_hub(hub_cache, own.state_dict(), repository="someone/mine")
    for name in ("hf-hub:someone/mine", "hf_hub:someone/mine"):
        backbone = load(BackboneRequest(name))
        assert (backbone.key.model, backbone.weights.kind, backbone.weights.path) == (name, "hub", path)
        assert torch.equal(features(backbone), features(of_folder(folder)))


def test_a_revision_of_a_model_of_the_hub(folder: Path, hub_cache: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for seed, revision in ((1, "main"), (2, "v1")):
        in_hub(hub_cache, config, "config.json", "someone/mine", revision)
        state = with_classes(state_of(seed=seed), 5)
        in_hub(hub_cache, state, repository="someone/mine", revision=revision)
    main, old = (load(BackboneRequest(f"hf-hub:someone/mine{revision}")) for revision in ("", "@v1"))
    assert old.weights.path.parent.name == "of-v1"
    assert near(features(old), features(main)) > 0.1
    assert main.key.weights == tensor_digest(with_classes(state_of(seed=1), 5))


def test_a_model_of_the_hub_that_is_not_at_hand() -> None:
    with pytest.raises(WeightsError) as error:
        resolve("hf-hub:someone/mine")
    says(error, "hf-hub:someone/mine")


def test_a_model_of_the_hub_whose_weights_are_not_at_hand(folder: Path, hub_cache: Path) -> None:
    in_hub(hub_cache, json.loads((folder / "config.json").read_text()), "config.json", "someone/mine")
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest("hf-hub:someone/mine"))
    says(error, "hf-hub:someone/mine")


@pytest.mark.parametrize("place", ["a/b/c", "no such!", "../../etc", "@", "a/..", "/etc"])
def test_what_is_no_name_of_the_hub(place: str) -> None:
    with pytest.raises(ModelError):
        resolve(f"hf-hub:{place}")


def test_a_folder_that_is_not_there_or_holds_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError) as error:
        of_folder(folder)
    says(error, repr(str(folder)), hint="model.safetensors")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError) as error:
        of_folder(folder)
    says(error, "config.json", hint="save_for_hf")


@pytest.mark.parametrize("content", ["", "not JSON", "null", "[]", "3", '"x"', "{}", "[" * 200_000, '{"a": ', "\0"])
def test_descriptions_that_are_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError) as error:
        of_folder(folder)
    says(error, "config.json")


def test_a_description_that_is_no_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(ModelError) as error:
        of_folder(folder)
    says(error, "config.json")


def edit(folder: Path, change: Change) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def in_config(**fields: Any) -> Change:
    return lambda content: content["pretrained_cfg"].update(fields)


def in_arguments(**fields: Any) -> Change:
    return lambda content: content["model_args"].update(fields)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda content: content.update(architecture="nope_vit"), ["'nope_vit'", "timm"]),
        (lambda content: content.update(architecture=["test_vit"]), ["['test_vit']", "timm"]),
        (lambda content: content.update(architecture="hf-hub:a/b"), ["'hf-hub:a/b'", "timm"]),
        (lambda content: content.update(architecture="local-dir:/tmp"), ["'local-dir:/tmp'", "timm"]),
        (lambda content: content.update(architecture="test_resnet"), ["test_resnet"]),
        (lambda content: content.update(pretrained_cfg="x"), ["config.json"]),
        (lambda content: content.update(model_args="x"), ["config.json"]),
        (lambda content: content.update(model_args=[1]), ["config.json"]),
        (in_arguments(checkpoint_path="/etc/passwd"), ["checkpoint_path"]),
        (in_arguments(pretrained_cfg={"file": "/etc/passwd"}), ["pretrained_cfg"]),
        (in_arguments(pretrained_cfg_overlay={"file": "/etc/passwd"}), ["pretrained_cfg_overlay"]),
        (in_arguments(pretrained=True), ["pretrained"]),
        (in_arguments(cache_dir="/tmp", features_only=True), ["cache_dir", "features_only"]),
        (in_arguments(in_chans=1), [1]),
        (in_arguments(bogus=1), ["bogus"]),
        (in_arguments(norm_layer="bogus"), ["norm_layer"]),
        (in_arguments(pretrained_strict=False), ["pretrained_strict"]),
        (in_arguments(embed_dim=128), ["model.safetensors"]),
        (in_arguments(depth=8), ["model.safetensors"]),
    ],
)
def test_hostile_descriptions_are_refused(folder: Path, change: Change, facts: list[object]) -> None:
    edit(folder, change)
    with pytest.raises(ModelError) as error:
        of_folder(folder)
    says(error, *facts)


@pytest.mark.parametrize("given", ["file", "url", "hf_hub_id", "state_dict", "source", "custom_load"])
def test_a_description_names_no_other_weights(folder: Path, tmp_path: Path, given: str) -> None:
    """Neither a file of this machine nor a server."""
    evil = tmp_path / "evil.safetensors"
    save_file(with_classes(state_of(seed=1), 5), evil)
    expected = features(of_folder(folder))
    values = {"file": str(evil), "url": evil.as_uri(), "hf_hub_id": "a/b", "state_dict": {"a": 1}, "source": "hf-hub"}
    edit(folder, in_config(**{given: values.get(given, True)}))
    backbone = of_folder(folder)
    assert backbone.weights.path == folder / "model.safetensors"
    assert torch.equal(features(backbone), expected)
    assert given not in resolve(f"local-dir:{folder}").config


@pytest.mark.parametrize(
    "odd",
    [
        {"mean": "abc"},
        {"mean": [1, 2]},
        {"mean": [0, 0, "a"]},
        {"mean": [0, 0, float("nan")]},
        {"std": [0, 0, 0]},
        {"std": [1, 1, float("inf")]},
        {"interpolation": "foo"},
        {"interpolation": 5},
        {"crop_pct": "x"},
        {"crop_pct": 0},
        {"crop_pct": 1.5},
        {"input_size": "x"},
        {"input_size": [3, "a", "b"]},
        {"input_size": [3, 160]},
        {"input_size": [1, 160, 160]},
        {"input_size": [3, 0, 0]},
        {"input_size": [3, -1, -1]},
    ],
    ids=str,
)
def test_a_description_of_no_transform_is_refused(folder: Path, odd: dict[str, Any]) -> None:
    edit(folder, in_config(**odd))
    with pytest.raises(ModelError):
        of_folder(folder)


def test_a_description_by_a_later_timm(folder: Path) -> None:
    """It may hold fields that this one does not know."""
    expected = features(of_folder(folder))
    edit(folder, in_config(of_the_future=1))
    edit(folder, lambda content: content.update(of_the_future=1))
    assert torch.equal(features(of_folder(folder)), expected)


@pytest.mark.parametrize("classes", [3, 1000])
@pytest.mark.parametrize("arguments", [True, False])
def test_a_description_of_another_number_of_classes_is_refused(folder: Path, classes: int, arguments: bool) -> None:
    edit(folder, lambda content: content.update(num_classes=classes))
    edit(folder, in_arguments(num_classes=classes) if arguments else lambda content: content.pop("model_args"))
    edit(folder, in_config(fixed_input_size=True))
    with pytest.raises(WeightsError) as error:
        of_folder(folder)
    says(error, "model.safetensors")


def test_a_description_without_arguments(folder: Path) -> None:
    """As timm wrote it before 1.0.31."""
    expected = features(of_folder(folder))
    edit(folder, lambda content: content.pop("model_args"))
    edit(folder, in_config(fixed_input_size=True))
    assert torch.equal(features(of_folder(folder)), expected)


def test_a_changed_description_is_another_key(folder: Path) -> None:
    before = of_folder(folder).key
    edit(folder, in_config(crop_pct=0.5))
    assert of_folder(folder).key.digest != before.digest


def test_no_pickle_of_a_folder_is_executed(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"x": Bomb(tmp_path / "marker")}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError):
        of_folder(folder)
    assert not (tmp_path / "marker").exists()


# The bundled weights


def test_the_default_model_is_bundled() -> None:
    spec = resolve(DEFAULT_MODEL)
    path = bundled(spec)
    assert spec.name in BUNDLED
    assert path is not None
    assert at_hand(spec) == ("bundled", path)


def test_a_bundle_that_is_not_installed_is_not_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUNDLED, "test_vit.r160_in1k", "no_such_package")
    assert bundled(resolve("test_vit")) is None
    assert at_hand(resolve("test_vit")) is None


# Plugins

PLUGIN = """
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

@register_model
def test_plugin_vit(pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **kwargs):
    return VisionTransformer(**{"img_size": 32, "patch_size": 16, "embed_dim": 24, "depth": DEPTH, "num_heads": 2,
                                "num_classes": 3, **kwargs})
"""


@pytest.fixture
def plugin(tmp_path: Path, registered: None) -> Path:
    path = tmp_path / "my plugin.py"
    path.write_text(PLUGIN.replace("DEPTH", "2"))
    return path


def with_plugin(plugin: str, **options: Any) -> Backbone:
    return load(BackboneRequest("test_plugin_vit", plugin=plugin, **{"img_size": 32, "random_init": True, **options}))


def test_a_plugin_registers_an_architecture(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        resolve("test_plugin_vit")
    says(error, "'test_plugin_vit'")
    backbone = with_plugin(str(plugin))
    assert backbone.key.model == "test_plugin_vit"
    assert features(backbone).shape == (4, 24)
    save_file(unpacked(backbone).state_dict(), tmp_path / "a.safetensors")
    again = with_plugin(str(plugin), random_init=False, checkpoint=tmp_path / "a.safetensors")
    assert again.key.digest == backbone.key.digest
    assert torch.equal(features(again), features(backbone))


def test_the_digest_of_a_plugin_is_in_the_key(plugin: Path) -> None:
    before = with_plugin(str(plugin)).key
    assert before.plugin == import_plugin(str(plugin))
    assert random().key.plugin == ""
    plugin.write_text(plugin.read_text() + "\n# another\n")
    with pytest.warns(UserWarning, match="Overwriting"):  # by timm
        after = with_plugin(str(plugin)).key
    assert after.plugin != before.plugin
    assert after.digest != before.digest
    assert after.weights == before.weights


def test_a_plugin_is_run_once(plugin: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    plugin.write_text(
        f"from pathlib import Path\npath = Path({str(marker)!r})\n"
        "path.write_text(path.read_text() + 'x' if path.exists() else 'x')\n"
    )
    assert import_plugin(str(plugin)) == import_plugin(str(plugin))
    assert marker.read_text() == "x"


def test_a_plugin_that_is_a_module(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "some_plugin_module.py"
    plugin.rename(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugin_file("some_plugin_module") == module
    by_name = with_plugin("some_plugin_module")
    assert features(by_name).shape == (4, 24)
    assert by_name.key.plugin == import_plugin("some_plugin_module") != ""


@pytest.mark.parametrize("name", ["absent.py", "no_such_module", "no.such.module", "", ".", "..", "a b", "sys"])
def test_plugins_that_are_not_there(name: str) -> None:
    with pytest.raises(ModelError) as error:
        import_plugin(name)
    says(error, f"'{name}'", hint=".py")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_module", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
        ("raise ValueError", "ValueError"),
    ],
)
def test_a_plugin_that_fails_is_told_each_time(plugin: Path, content: str, reason: str) -> None:
    plugin.write_text(content)
    for _ in range(2):
        with pytest.raises(ModelError) as error:
            import_plugin(str(plugin))
        says(error, plugin.name, reason)


# Lists


def test_a_list_of_few_tells_what_they_are() -> None:
    (found,) = list_models("resnet18.tv_in1k")
    assert (found.name, found.image_size, found.width, found.parameters) == ("resnet18.tv_in1k", 224, 512, 11_689_512)
    assert found.megabytes == pytest.approx(46.8, abs=0.1)
    assert (found.source, found.at_hand, found.aliases) == ("timm/resnet18.tv_in1k", "", ())
    assert found.licence == "bsd-3-clause"


@pytest.mark.parametrize(
    ("pattern", "width", "parameters"),
    [("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 192, 5_717_416), ("tf_efficientnet_lite0.in1k", 1280, 4_652_008)],
)
def test_parameters_and_width_are_those_of_the_model(pattern: str, width: int, parameters: int) -> None:
    (found,) = list_models(pattern)
    assert (found.width, found.parameters) == (width, parameters)


def test_a_list_of_many_does_not_build_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.backbones.listing.measured", lambda *_: pytest.fail("a model was built"))
    found = list_models("resnet*")
    assert len(found) > 12
    assert {(info.parameters, info.width, info.megabytes) for info in found} == {(None, None, None)}
    assert all(info.name.startswith("resnet") for info in found)


def test_a_list_finds_parts_of_names_and_short_names() -> None:
    assert {info.name for info in list_models("st_vit.r160")} == {"test_vit.r160_in1k"}
    (found,) = list_models("mae_huge")
    assert (found.name, found.aliases) == ("vit_huge_patch14_224.mae", ("mae_huge",))


def test_the_list_without_a_pattern_is_short_names_and_what_is_at_hand(hub_cache: Path, own: Any) -> None:
    in_hub(hub_cache, own.state_dict())
    found = {info.name: info for info in list_models()}
    assert {alias for info in found.values() for alias in info.aliases} == set(ALIASES)
    packages = {name: "package" for name in BUNDLED if bundled(resolve(name))}
    assert {name: info.at_hand for name, info in found.items() if info.at_hand} == {
        "test_vit.r160_in1k": "cache",
        **packages,
    }
    assert found["tf_efficientnet_lite0.in1k"].source == BUNDLED["tf_efficientnet_lite0.in1k"]
    assert found["test_vit.r160_in1k"].source == REPOSITORY


def test_a_list_of_nothing_is_answered_by_the_nearest() -> None:
    with pytest.raises(ModelError) as error:
        list_models("resnet5O")
    says(error, "'resnet5O'", hint="resnet50")
    with pytest.raises(ModelError) as error:
        list_models("%%%")
    says(error, "'%%%'", hint="*")


# What --model-kwargs may not say


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_arguments_are_answered_by_the_option_for_them(name: str) -> None:
    with pytest.raises(SettingError) as error:
        BackboneRequest(model_kwargs={name: 1})
    says(error, name)
    assert error.value.hint == RESERVED[name]


def test_reserved_arguments_do_not_reach_timm_by_a_plugin_either(plugin: Path) -> None:
    with pytest.raises(SettingError) as error:
        with_plugin(str(plugin), model_kwargs={"checkpoint_path": "x"})
    says(error, "checkpoint_path")
