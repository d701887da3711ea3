"""A head and its backbone as one ONNX graph, which computes what PyTorch computes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
import tiny
from made_heads import made_head
from messages import logged, raises
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.errors import DataError, HeadError, SettingError, WeightsError
from nctransfer.heads import onnx_check, onnx_export, onnx_graph
from nctransfer.heads.abstention import thresholds
from nctransfer.heads.head import Head
from nctransfer.heads.onnx_check import compare, random_images
from nctransfer.heads.onnx_graph import graph_of
from nctransfer.sources.source import content_digest, digest_number
from terminal import data_of, done, noted, refusal, shows

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in onnx_graph.PACKAGES), reason="needs onnx, onnxruntime and onnxscript"
)
SIZE = 32


def backbone_of(model: str = "test_vit", **options: Any) -> Backbone:
    return tiny.random(model, img_size=SIZE, **options)


def head_of(backbone: Backbone, *classes: str, column: str = FEATURE) -> Head:
    """A head for the features of a backbone with random weights."""
    dim = backbone(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))[column].shape[1]
    head = made_head(classes or ("zero", "one", "two"), dim, 6, backbone.key)
    return replace(head, origin=replace(head.origin, weights=backbone.weights.name, column=column))


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return backbone_of()


@pytest.fixture(scope="module")
def head(backbone: Backbone) -> Head:
    return head_of(backbone)


def answers(graph: bytes | Path, pixels: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """What another program gets from a graph."""
    import onnxruntime

    content = graph if isinstance(graph, bytes) else graph.read_bytes()
    found: list[np.ndarray[Any, Any]] = onnxruntime.InferenceSession(content).run(None, {"pixels": pixels.numpy()})
    return found


@needs_onnx
def test_a_graph_gives_the_answers_of_the_head(backbone: Backbone, head: Head, tmp_path: Path) -> None:
    found = nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    assert (found.images, found.data, found.trained_on) == (8, "random pixels", None)
    assert found.differences.probability < 1e-5
    assert found.bytes == found.path.stat().st_size
    for count in (1, 3, 5):  # any batch
        pixels = tiny.pixels(backbone, count)
        features = backbone(pixels)[FEATURE]
        probabilities, unlikeness = answers(found.path, pixels)
        np.testing.assert_allclose(probabilities, head.linear.probabilities(features), atol=1e-6)
        np.testing.assert_allclose(unlikeness, head.unlikeness.of(features), rtol=1e-5)
        assert probabilities.dtype == unlikeness.dtype == np.float32


@needs_onnx
def test_metadata_says_how_to_use_the_graph(backbone: Backbone, tmp_path: Path) -> None:
    import onnx

    tricks = ("../../etc/passwd", "[red]x[/red]", "猫")
    head = head_of(backbone, *tricks)
    nct.export_onnx(head, tmp_path / "pets.onnx", offline=True, opset=15)
    assert list(tmp_path.iterdir()) == [tmp_path / "pets.onnx"]
    model = onnx.load(tmp_path / "pets.onnx")
    onnx.checker.check_model(model, full_check=True)
    said = {one.key: one.value for one in model.metadata_props}
    assert json.loads(said["classes"]) == list(tricks)
    steps = json.loads(said["preprocessing"])
    assert steps["mean"] == [0.5, 0.5, 0.5]
    assert steps["steps"][0].startswith("Resize(size=33")  # 32 / 0.95, as timm rounds
    limits = thresholds(head.held_out, None, 0.05)
    assert json.loads(said["thresholds"])["probability"] == limits.probability
    assert json.loads(said["thresholds"])["unlikeness"] in (limits.unlikeness, None)
    assert json.loads(said["promise"])["accuracy"] == head.promise.accuracy
    assert json.loads(said["temperature"]) == head.linear.temperature
    assert said["weights_digest"] == backbone.key.weights
    assert (said["backbone"], said["licence"], said["nctransfer"]) == ("test_vit", "apache-2.0", nct.__version__)
    assert model.opset_import[0].version == 15
    assert str(Path(nct.__file__).parent).encode() not in (tmp_path / "pets.onnx").read_bytes()


@needs_onnx
def test_a_user_can_follow_the_metadata(backbone: Backbone, head: Head, pets: Path, tmp_path: Path) -> None:
    """Pixels made by Pillow alone, from what the metadata says, give the answers of the head."""
    import onnx
    from PIL import Image

    nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    said = {one.key: one.value for one in onnx.load(tmp_path / "pets.onnx").metadata_props}
    height, width = json.loads(said["preprocessing"])["input_size"][1:]
    image = Image.open(pets / "zero" / "0.png").convert("RGB").resize((33, 33), Image.Resampling.BICUBIC)
    pixels = np.asarray(image.crop((0, 0, width, height))).transpose(2, 0, 1)[None]
    mine = answers(tmp_path / "pets.onnx", torch.from_numpy(pixels.copy()))[0][0]
    features = backbone(torch.from_numpy(backbone.preprocess(Image.open(pets / "zero" / "0.png").convert("RGB")))[None])
    np.testing.assert_allclose(mine, head.linear.probabilities(features[FEATURE])[0], atol=1e-6)


@needs_onnx
@pytest.mark.parametrize(
    ("model", "column", "options"),
    [("test_resnet", FEATURE, {}), ("test_vit", "layer_1", {"layers": "1"}), ("test_vit", FEATURE, {"pool": "avg"})],
)
def test_other_models_layers_and_poolings(model: str, column: str, options: Any, tmp_path: Path) -> None:
    backbone = backbone_of(model, **options)
    head = head_of(backbone, column=column)
    nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    pixels = tiny.pixels(backbone, 3)
    probabilities = answers(tmp_path / "pets.onnx", pixels)[0]
    np.testing.assert_allclose(probabilities, head.linear.probabilities(backbone(pixels)[column]), atol=1e-6)


@needs_onnx
@pytest.mark.parametrize("exporter", ["tracing", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_several_rows_per_class(backbone: Backbone, head: Head, exporter: str) -> None:
    drawn = torch.Generator().manual_seed(1)
    linear = replace(
        head.linear,
        weight=torch.randn(6, head.linear.dim, generator=drawn),
        intercept=torch.randn(6, generator=drawn),
        owners=torch.tensor([0, 0, 0, 1, 2, 2]),
    )
    several = replace(head, linear=linear, classifier="proxies")
    pixels = tiny.pixels(backbone, 3)
    probabilities = answers(graph_of(several, backbone, 17, exporter), pixels)[0]
    np.testing.assert_allclose(probabilities, linear.probabilities(backbone(pixels)[FEATURE]), atol=1e-6)


@needs_onnx
def test_what_makes_a_backbone_fast_is_not_in_the_graph(head: Head, backbone: Backbone) -> None:
    fast = backbone_of()
    fast.fold()
    fast.pack()
    operators = {node.op_type for node in _model(graph_of(head, fast, 17, "tracing")).graph.node}
    assert operators == {node.op_type for node in _model(graph_of(head, backbone, 17, "tracing")).graph.node}
    convolutional = backbone_of("test_resnet")
    assert convolutional.fold() > 0
    other = head_of(convolutional)
    assert compare(graph_of(other, convolutional, 17, "tracing"), other, convolutional, tiny.pixels(backbone)).are_small


def _model(graph: bytes) -> Any:
    import onnx

    return onnx.load_from_string(graph)


@needs_onnx
def test_the_same_head_gives_the_same_graph(head: Head, backbone: Backbone) -> None:
    assert graph_of(head, backbone, 17, "tracing") == graph_of(head, backbone, 17, "tracing")


@needs_onnx
@pytest.mark.slow
def test_the_newer_exporter_takes_over(
    head: Head, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "EXPORTERS", ("none", "dynamo"))
    export = onnx_export.graph_of

    def failing(*arguments: Any) -> bytes:
        if arguments[-1] == "none":
            raise RuntimeError("no such operator")
        return export(*arguments)

    monkeypatch.setattr(onnx_export, "graph_of", failing)
    found = nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    assert found.opset == 18  # the oldest that it knows
    assert found.differences.are_small
    pixels = tiny.pixels(backbone, 5)
    expected = head.linear.probabilities(backbone(pixels)[FEATURE])
    np.testing.assert_allclose(answers(found.path, pixels)[0], expected, atol=1e-6)
    assert b".py" not in found.path.read_bytes()  # no stack traces with the paths of this computer


# What differs is not written


@needs_onnx
def test_a_graph_that_differs_is_not_written(
    head: Head, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = replace(head, linear=replace(head.linear, intercept=head.linear.intercept + torch.tensor([1e-3, 0, 0])))
    made = graph_of(shifted, backbone, 17, "tracing")
    differences = compare(made, head, backbone, random_images(backbone).pixels)
    assert 1e-4 < differences.probability < 1e-2
    monkeypatch.setattr(onnx_export, "graph_of", lambda *_: made)
    with raises(HeadError, "test_vit", f"{differences.probability:.2g}"):
        nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    assert list(tmp_path.iterdir()) == []


@needs_onnx
def test_a_difference_of_the_unlikeness_alone_counts(head: Head, backbone: Backbone) -> None:
    other = replace(head, unlikeness=replace(head.unlikeness, constant=head.unlikeness.constant + 0.1))
    differences = compare(graph_of(other, backbone, 17, "tracing"), head, backbone, random_images(backbone).pixels)
    assert differences.probability < 1e-6
    assert not differences.are_small


@needs_onnx
def test_a_model_that_no_exporter_knows(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("operator aten::riddle is not known")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with raises(HeadError, "test_vit", "aten::riddle", hint="--opset"):
        nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)


@needs_onnx
def test_a_file_of_onnx_has_a_limit(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "MOST_BYTES", 1000)
    with raises(HeadError, 1000):
        nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)


@needs_onnx
def test_a_head_of_half_precision_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = backbone_of(dtype="bfloat16")
    head = head_of(backbone)
    found = nct.export_onnx(head, tmp_path / "pets.onnx", offline=True)
    assert logged(caplog, "bfloat16", "float32")
    assert found.differences.are_small
    pixels = tiny.pixels(backbone)
    exact = head.linear.probabilities(backbone.in_float32()(pixels)[FEATURE])
    np.testing.assert_allclose(answers(found.path, pixels)[0], exact, atol=1e-6)


@needs_onnx
def test_what_exists_and_what_cannot_be_written(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pets.onnx"
    path.write_text("precious")
    with raises(HeadError, path, hint="--overwrite"):
        nct.export_onnx(head, path)
    with raises(HeadError, tmp_path / "no" / "pets.onnx"):
        nct.export_onnx(head, tmp_path / "no" / "pets.onnx")
    assert path.read_text() == "precious"
    nct.export_onnx(head, path, overwrite=True, offline=True)
    assert len(path.read_bytes()) > 10_000

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_export, "replace_file", full)
    with raises(HeadError, path, "No space left on device"):
        nct.export_onnx(head, path, overwrite=True, offline=True)


@pytest.mark.parametrize("opset", [0, 13, 21])
def test_an_opset_that_is_not_there(opset: int, head: Head, tmp_path: Path) -> None:
    with raises(SettingError, opset, hint=("--opset", 14, 20)):
        nct.export_onnx(head, tmp_path / "pets.onnx", opset=opset)


def test_missing_packages_are_named(head: Head, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with raises(HeadError, "onnx", "onnxruntime", hint="pip install onnx onnxruntime onnxscript"):
        nct.export_onnx(head, tmp_path / "pets.onnx")


# Images


def _training(head: Head, *files: Path) -> Head:
    """The head, fitted on these files as far as it knows."""
    digests = [digest_number(content_digest(file.read_bytes())) for file in files]
    return replace(head, images=torch.tensor(digests))


@needs_onnx
def test_images_of_the_training_set_are_counted(
    head: Head, pets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitted = _training(head, pets / "one" / "1.png", pets / "two" / "5.png")
    (pets / "one" / "2.png").write_text("no image")
    found = nct.export_onnx(fitted, tmp_path / "pets.onnx", pets, offline=True)
    assert (found.images, found.trained_on, found.data) == (17, 2, str(pets))
    assert logged(caplog, "one/2.png")
    some = nct.export_onnx(head, tmp_path / "some.onnx", pets, most_images=2, offline=True)
    assert (some.images, some.trained_on) == (2, 0)


def test_stored_sets_count_images_in_the_same_way(pets: Path) -> None:
    features = nct.extract("test_vit", pets, random_init=True, device="cpu")
    assert features.images is not None
    digests = {digest_number(content_digest(file.read_bytes())) for file in pets.rglob("*.png")}
    assert set(features.images.tolist()) == digests


@needs_onnx
def test_images_need_no_labels(head: Head, pets: Path, tmp_path: Path) -> None:
    found = nct.export_onnx(head, tmp_path / "pets.onnx", pets / "one", offline=True)
    assert found.images == 6


@needs_onnx
def test_broken_images_alone_are_an_error(head: Head, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_text("no image")
    with raises(DataError, tmp_path / "a"):
        nct.export_onnx(head, tmp_path / "pets.onnx", tmp_path / "a", offline=True)


def test_random_images_differ_from_each_other(backbone: Backbone) -> None:
    pixels = random_images(backbone).pixels
    assert pixels.shape == (8, 3, SIZE, SIZE)
    assert pixels.dtype == torch.uint8
    assert len({tuple(one.flatten().tolist()) for one in pixels}) == 8
    assert random_images(backbone).pixels.equal(pixels)  # the same every time


@pytest.mark.parametrize("count", [1, 2, 3, 4, 40])
def test_images_are_compared_in_batches_of_several_sizes(count: int) -> None:
    numbers = torch.arange(count).view(-1, 1, 1, 1)
    batches = onnx_check._batches(numbers)
    assert {len(batch) for batch in batches} >= {1, 2}
    assert torch.cat(batches)[:count].equal(numbers)
    assert sum(map(len, batches)) == max(count, 3)


@needs_onnx
def test_a_graph_for_one_size_of_batch_is_noticed(head: Head, backbone: Backbone) -> None:
    whole = onnx_graph._whole(head, backbone)

    class OfTwo(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> Any:
            return whole(pixels.reshape(2, 3, SIZE, SIZE))

    made = onnx_graph._exported(OfTwo().eval(), (3, SIZE, SIZE), 17, "tracing").SerializeToString()
    assert len(answers(made, tiny.pixels(backbone, 2))[0]) == 2
    with pytest.raises(Exception, match=r"(?i)shape"):
        compare(made, head, backbone, tiny.pixels(backbone, 1))


# The command


@pytest.fixture
def saved(head: Head, tmp_path: Path) -> Path:
    head.save(tmp_path / "pets.head")
    return tmp_path / "pets.head"


@needs_onnx
def test_the_command_exports(saved: Path, pets: Path, tmp_path: Path) -> None:
    path = tmp_path / "pets.onnx"
    shown = done("export", saved, "-o", path, "--offline")
    assert shows(shown.stdout, "probabilities", "unlikeness", "test_vit")
    assert noted(shown, "--data")
    found = data_of(
        "export", saved, "-o", path, "--overwrite", "--data", pets, "--images", 5, "--opset", 16, "--offline"
    )
    assert (found["path"], found["images"], found["opset"], found["trained_on"]) == (str(path), 5, 16, 0)
    assert 0 <= found["differences"]["probability"] < found["tolerance"] == 1e-4
    assert answers(path, torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8))[0].shape == (2, 3)


@needs_onnx
def test_the_command_refuses(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "pets.onnx"
    refusal("export", saved, "-o", path, "--opset", "3").expect("SettingError", 3, hint="--opset")
    refusal("export", saved, "-o", path, "--device", "cuda").expect("SettingError", "cuda", hint="--device")
    refusal("export", saved, "-o", saved, "--overwrite").expect("SettingError", saved, hint="--output")
    refusal("export", tmp_path / "no.head", "-o", path).expect("HeadError", tmp_path / "no.head", hint="nctransfer fit")
    refusal("export", saved, "-o", path, "--data", tmp_path / "no").expect("DataError", tmp_path / "no", hint=None)
    path.write_text("precious")
    refusal("export", saved, "-o", path).expect("HeadError", path, hint="--overwrite")
    assert path.read_text() == "precious"


@needs_onnx
def test_a_head_for_features_made_elsewhere_has_no_graph(tmp_path: Path) -> None:
    made_head().save(tmp_path / "pets.head")
    refused = refusal("export", tmp_path / "pets.head", "-o", tmp_path / "pets.onnx")
    refused.expect("ModelError", hint="nctransfer fit")
    assert not (tmp_path / "pets.onnx").exists()


@needs_onnx
def test_weights_that_are_not_those_of_the_head(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = tmp_path / "other.safetensors"
    save_file(tiny.state_of(seed=7, img_size=SIZE), other)
    refused = refusal("export", saved, "-o", tmp_path / "pets.onnx", "--checkpoint", other, "--offline")
    refused.expect("WeightsError", hint="--checkpoint")
    assert not (tmp_path / "pets.onnx").exists()


@needs_onnx
def test_a_checkpoint_that_is_missing(head: Head, tmp_path: Path) -> None:
    with raises(WeightsError, tmp_path / "no.pth"):
        nct.export_onnx(head, tmp_path / "pets.onnx", checkpoint=tmp_path / "no.pth", offline=True)
