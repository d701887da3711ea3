"""Backbones: names, where weights come from, that they are the right ones, and pooled features in ``eval()``."""

from __future__ import annotations

import gc
import http.server
import io
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from nctransfer import backbones
from nctransfer.backbones import ALIASES, Backbone, BackboneRequest, find_weights, load, resolve_name
from nctransfer.devices import pick_device
from nctransfer.errors import DeviceError, ModelError, WeightsError
from nctransfer.images import Digits, decode

REPOSITORY = "timm/test_vit.r160_in1k"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, offline; the library reads the environment only when it is imported."""
    folder = tmp_path / "hf" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models gain nothing by threads, and lose much where the cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random(model: str = "test_vit", **options: object) -> Backbone:
    return load(BackboneRequest(model, random_init=True, **options))


def pixels(backbone: Backbone, n: int = 4) -> torch.Tensor:
    digits = Digits()
    images = [decode(digits.read(entry)) for entry in digits.list()[:n]]
    return torch.from_numpy(np.stack([np.asarray(backbone.preprocess(image)) for image in images]))


def near(one: torch.Tensor, other: torch.Tensor) -> float:
    """The relative error."""
    return float((one - other).norm() / other.norm())


# Names


@pytest.mark.parametrize("alias", ALIASES)
def test_short_names_are_models_with_weights(alias: str) -> None:
    name = resolve_name(alias)
    assert name.partition(".")[0] == ALIASES[alias].partition(".")[0]
    assert name in timm.list_models(f"{name}*", pretrained=True)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0.in1k"),
        ("test_vit", "test_vit.r160_in1k"),
        ("test_vit.r160_in1k", "test_vit.r160_in1k"),
        ("mae_base", "vit_base_patch16_224.mae"),
    ],
)
def test_names_get_their_tag(name: str, full: str) -> None:
    assert resolve_name(name) == full


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("vit_bsae", "vit_base"), ("resnet5O", "resnet50"), ("efficientnet_lite_0", "efficientnet_lite0")],
)
def test_unknown_models_are_answered_by_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(ModelError, match=f"no model '{name}'") as caught:
        resolve_name(name)
    assert nearest in caught.value.hint


@pytest.mark.parametrize(
    "name", ["", ".", "../test_vit", "timm/test_vit", "hf-hub:timm/test_vit", "local-dir:/tmp", "test_vit.x/../y", "\0"]
)
def test_names_of_places_are_no_models(name: str) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        resolve_name(name)


def test_unknown_tag_is_answered_by_those_there_are() -> None:
    with pytest.raises(ModelError, match="test_vit has no weights tagged 'bogus'") as caught:
        resolve_name("test_vit.bogus")
    assert "r160_in1k" in caught.value.hint


# Requests


def test_checkpoint_and_random_weights_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="at once"):
        BackboneRequest(checkpoint=tmp_path / "x.pth", random_init=True)


@pytest.mark.parametrize(
    ("field", "value"), [("dtype", "float64"), ("dtype", "int8"), ("store_dtype", "bfloat16"), ("store_dtype", "")]
)
def test_unknown_dtypes_are_refused(field: str, value: str) -> None:
    with pytest.raises(DeviceError, match=f"no dtype '{value}'") as caught:
        BackboneRequest(**{field: value})
    assert "float32" in caught.value.hint


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "tpu", "cpu:1", "", "CPU", "cuda:x"])
def test_absent_devices_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=f"no device '{name}'") as caught:
        pick_device(name)
    assert caught.value.hint == "there is: cpu"
    assert pick_device("auto").type == pick_device("cpu").type == "cpu"


@pytest.mark.parametrize(("name", "there"), [("cuda:1", True), ("cuda:2", False), ("cuda", True), ("cuda:-1", False)])
def test_accelerators_by_number(name: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto").type == "cuda"
    if there:
        assert str(pick_device(name)) == name
    else:
        with pytest.raises(DeviceError):
            pick_device(name)


# Features


@pytest.mark.parametrize(
    ("model", "dim"), [("test_vit", 64), ("test_resnet", 96), ("test_efficientnet", 256), ("test_convnext", 64)]
)
def test_features_are_pooled_and_before_the_classifier(model: str, dim: int) -> None:
    backbone = random(model)
    images = pixels(backbone)
    found = backbone(images)
    assert found.shape == (4, dim)
    assert (found.dtype, found.device.type) == (torch.float32, "cpu")
    head = backbone.head(dim)
    assert head is not None
    with torch.inference_mode():
        logits = backbone.model((images.float() - backbone._mean) / backbone._std)
    torch.testing.assert_close(found @ head["weight"].T + head["bias"], logits, rtol=1e-3, atol=1e-4)


def test_the_model_is_frozen_and_in_eval() -> None:
    backbone = random("test_resnet")
    assert not any(module.training for module in backbone.model.modules())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    images = pixels(backbone)
    first = backbone(images)
    assert torch.equal(backbone(images), first)
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())
    assert any("running_mean" in name for name in before)


def test_features_do_not_depend_on_the_others_in_the_batch() -> None:
    backbone = random("test_resnet")
    images = pixels(backbone)
    assert near(backbone(images[2:3]), backbone(images)[2:3]) < 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_is_used_and_near_float32(dtype: str) -> None:
    exact, rough = random(), random(dtype=dtype)
    images = pixels(exact)
    found = rough(images)
    assert found.dtype == torch.float32
    assert 0 < near(found, exact(images)) < 0.03
    assert exact.key.digest != rough.key.digest


def test_there_is_no_head_of_another_width() -> None:
    assert random().head(63) is None


def test_maps_in_place_of_vectors_are_refused() -> None:
    backbone = random()
    images = pixels(backbone)
    backbone.model = SimpleNamespace(forward_features=lambda x: x, forward_head=lambda x, pre_logits: x)
    with pytest.raises(ModelError, match=r"test_vit gives \(4, 3, 160, 160\) for 4 images"):
        backbone(images)


def test_too_little_memory_is_told() -> None:
    backbone = random()
    images = pixels(backbone)

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    backbone.model = SimpleNamespace(forward_features=fail, forward_head=None)
    with pytest.raises(DeviceError, match="too little memory for 4 images") as caught:
        backbone(images)
    assert "--batch-size" in caught.value.hint


# The key


def test_the_key_names_what_changes_a_number() -> None:
    key = random().key
    assert (key.model, key.dtype, key.store_dtype) == ("test_vit", "float32", "float32")
    assert key.transform["input_size"] == (3, 160, 160)
    others = [
        random(seed=1).key,
        random(dtype="bfloat16").key,
        random(store_dtype="float16").key,
        replace(key, transform={**key.transform, "crop_pct": 1.0}),
        replace(key, pool="token"),
        replace(key, format=key.format + 1),
    ]
    assert len({other.digest for other in [key, *others]}) == 7
    assert random().key == key


def test_random_weights_are_those_of_their_seed() -> None:
    one, same, other = random(seed=3), random(seed=3), random(seed=4)
    images = pixels(one)
    assert torch.equal(one(images), same(images))
    assert near(other(images), one(images)) > 0.1
    assert one.weights.kind == "random"
    assert "3" in one.weights.name


def test_random_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    weights = random(seed=3).key.weights
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert random(seed=3).key.weights == weights


@pytest.mark.parametrize("name", ["vit_tiny", "vit_tiny_patch16_224"])
def test_random_weights_of_a_short_name_are_those_of_the_model(name: str) -> None:
    assert random(name).key.model == "vit_tiny_patch16_224"


# The bundled weights


def test_bundled_weights_are_at_hand_and_always_the_same() -> None:
    one, other = (load(BackboneRequest()) for _ in range(2))
    assert one.weights.kind == "bundled"
    assert one.key == other.key
    assert one.key.model == "tf_efficientnet_lite0.in1k"
    assert one(pixels(one, 2)).shape == (2, 1280)


def test_bundled_weights_stand_in_the_order_of_the_model() -> None:
    """Loaded by position, they must be of the same kind as well as of the same shape."""
    path = find_weights(BackboneRequest()).path
    stored = torch.load(path, weights_only=True)
    backbone = load(BackboneRequest())
    loaded = backbone.model.state_dict()
    kinds = [name.rpartition(".")[2] for name in stored]
    assert kinds == [name.rpartition(".")[2] for name in loaded]
    assert all(torch.equal(a, b) for a, b in zip(stored.values(), loaded.values(), strict=True))


# Checkpoints


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Weights of a test_vit of one's own."""
    return {name: tensor.contiguous() for name, tensor in random(seed=42).model.state_dict().items()}


def checkpoint(path: Path, model: str = "test_vit") -> Backbone:
    return load(BackboneRequest(model, checkpoint=path))


def prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("a.safetensors", lambda state: state),
        ("a.pth", lambda state: state),
        ("a.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("a.bin", lambda state: {"model": state}),
        ("a.pth", prefixed),
        ("a.pth.tar", lambda state: {"state_dict": prefixed(state), "optimizer": {"lr": 0.1}}),
        ("a", lambda state: state),
    ],
)
def test_checkpoints_of_any_layout_are_one_key(
    tmp_path: Path, state: dict[str, torch.Tensor], name: str, wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    content = wrap(state)
    (save_file if name.endswith(".safetensors") else torch.save)(content, tmp_path / name)
    backbone = checkpoint(tmp_path / name)
    own = random(seed=42)
    assert (backbone.weights.kind, backbone.weights.name) == ("checkpoint", name)
    assert backbone.key.digest == own.key.digest
    images = pixels(own)
    assert torch.equal(backbone(images), own(images))


def test_a_changed_tensor_is_another_key(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["norm.bias"][-1] += 1e-6
    save_file(changed, tmp_path / "a.safetensors")
    assert checkpoint(tmp_path / "a.safetensors").key.weights != random(seed=42).key.weights


def test_counters_of_training_steps_may_be_left_out(tmp_path: Path) -> None:
    full = {name: tensor.contiguous() for name, tensor in random("test_resnet", seed=1).model.state_dict().items()}
    counters = {name: torch.tensor(7) for name in full if name.endswith("num_batches_tracked")}
    lean = {name: tensor for name, tensor in full.items() if name not in counters}
    assert counters
    full.update(counters)
    for name, content in (("full", full), ("lean", lean)):
        save_file(content, tmp_path / f"{name}.safetensors")
    one, other = (checkpoint(tmp_path / f"{name}.safetensors", "test_resnet") for name in ("full", "lean"))
    assert one.key == other.key
    images = pixels(one)
    assert torch.equal(one(images), other(images))


def test_home_folder_in_the_path_of_a_checkpoint(
    tmp_path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(state, tmp_path / "a.safetensors")
    assert checkpoint(Path("~/a.safetensors")).weights.path == tmp_path / "a.safetensors"


def test_checkpoint_of_another_architecture_is_counted(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "a.pth")
    needed = len(random("test_resnet").model.state_dict())
    with pytest.raises(WeightsError, match=rf"a\.pth' does not fit test_resnet.*: \d+ of {needed} missing") as caught:
        checkpoint(tmp_path / "a.pth", "test_resnet")
    assert "conv1" in str(caught.value)
    assert f"{len(state)} unexpected (" in str(caught.value)
    assert "cls_token" in str(caught.value)


def test_checkpoint_with_gaps_and_surplus_names_them(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    content = {name: tensor for name, tensor in state.items() if name != "norm.bias"}
    torch.save({**content, "extra": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"1 of \d+ missing \(norm\.bias\); 1 unexpected \(extra\)") as caught:
        checkpoint(tmp_path / "a.pth")
    assert "--model" in caught.value.hint


def test_checkpoint_of_another_number_of_classes_names_the_shapes(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    content = {**state, "head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}
    save_file(content, tmp_path / "a.safetensors")
    with pytest.raises(
        WeightsError, match=r"2 of \d+ of another shape \(head\.weight \(10, 64\) instead of \(1000, 64\)"
    ):
        checkpoint(tmp_path / "a.safetensors")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_no_pickle_is_executed(tmp_path: Path, save: Callable[[object, Path], object]) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pth"
    save({"state_dict": {}, "x": Bomb(marker)}, path)
    with pytest.raises(WeightsError, match="cannot be read safely") as caught:
        checkpoint(path)
    assert not marker.exists()
    assert ".safetensors" in caught.value.hint
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert marker.exists()  # it would have gone off


def _pickled(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "cannot be read safely"),
        ("a.safetensors", b"garbage" * 99, "cannot be read safely"),
        ("a.safetensors", (1 << 62).to_bytes(8, "little") + b"{}", "cannot be read safely"),
        ("a.pth", b"", "cannot be read safely"),
        ("a.pth", b"garbage" * 99, "cannot be read safely"),
        ("a.pth", _pickled({"a": torch.ones(9)})[:-40], "cannot be read safely"),
        ("a.pth", _pickled({}), "is no state dict"),
        ("a.pth", _pickled({"epoch": 3}), "is no state dict"),
        ("a.pth", _pickled({"state_dict": None}), "cannot be read safely|is no state dict"),
        ("a.pth", _pickled([torch.ones(1)]), "cannot be read safely|is no state dict"),
        ("a.pth", _pickled(torch.ones(1)), "cannot be read safely|is no state dict"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        checkpoint(tmp_path / name)
    assert name in str(caught.value)


def test_checkpoint_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="is no file, or not there"):
            checkpoint(path)


# The hub's cache


def cached(hub: Path, content: Callable[[Path], object], name: str = "model.safetensors") -> Path:
    """A file in the cache of the hub, as a download leaves it."""
    root = hub / f"models--{REPOSITORY.replace('/', '--')}"
    path = root / "snapshots" / "abc123" / name
    path.parent.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc123")
    content(path)
    return path


def test_weights_of_the_hubs_cache_are_taken(hub: Path, state: dict[str, torch.Tensor]) -> None:
    path = cached(hub, lambda path: save_file(state, path))
    backbone, own = load(BackboneRequest("test_vit")), random(seed=42)
    assert backbone.weights == backbones.Weights("hub", REPOSITORY, path)
    assert backbone.key.model == "test_vit.r160_in1k"
    assert backbone.key.weights == own.key.weights
    images = pixels(own)
    assert torch.equal(backbone(images), own(images))


def test_weights_of_the_hubs_cache_as_pickle(hub: Path, state: dict[str, torch.Tensor]) -> None:
    path = cached(hub, lambda path: torch.save(state, path), "pytorch_model.bin")
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
        ("pytorch_model.bin", _pickled({"cls_token": torch.ones(1)})),
    ],
)
def test_damaged_weights_in_the_hubs_cache(hub: Path, name: str, content: bytes) -> None:
    cached(hub, lambda path: path.write_bytes(content), name)
    with pytest.raises(WeightsError, match=REPOSITORY):
        load(BackboneRequest("test_vit"))


def test_no_pickle_of_the_hubs_cache_is_executed(hub: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    cached(hub, lambda path: torch.save({"x": Bomb(marker)}, path), "pytorch_model.bin")
    with pytest.raises(WeightsError):
        load(BackboneRequest("test_vit"))
    assert not marker.exists()


# The hub itself


def test_weights_that_are_not_at_hand_offline() -> None:
    with pytest.raises(
        WeightsError, match=r"weights of test_vit\.r160_in1k are not at hand.*HF_HUB_OFFLINE is set"
    ) as caught:
        load(BackboneRequest("test_vit"))
    for word in ("--checkpoint", "--random-init", backbones.DEFAULT_MODEL):
        assert word in caught.value.hint


def test_offline_by_argument_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(backbones, "_why_unreachable", lambda _: pytest.fail("a server was asked"))
    with pytest.raises(WeightsError, match="--offline"):
        load(BackboneRequest("test_vit"), offline=True)


def test_models_without_weights_say_so() -> None:
    name = next(name for name in timm.list_models("test_*") + timm.list_models() if not timm.is_model_pretrained(name))
    with pytest.raises(WeightsError, match="no published weights") as caught:
        find_weights(BackboneRequest(name))
    assert "--random-init" in caught.value.hint


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_hub_that_is_not_reachable_is_given_up_soon(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()  # connections are taken, and nothing is ever said
        point_at(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(WeightsError, match="is not reachable") as caught:
            find_weights(BackboneRequest("test_vit"))
        assert time.monotonic() - start < 10
    assert "--checkpoint" in caught.value.hint


def test_a_name_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no notice of the timeout of a request."""
    end = threading.Event()
    point_at(monkeypatch, "http://hub.invalid")
    monkeypatch.setattr(backbones, "HUB_SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: end.wait(30))
    start = time.monotonic()
    with pytest.raises(WeightsError, match="no answer within"):
        find_weights(BackboneRequest("test_vit"))
    assert time.monotonic() - start < 10
    end.set()


class FakeHub(http.server.ThreadingHTTPServer):
    """A hub on this machine that serves some files of one repository."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.files: dict[str, bytes] = {}
        self.status = 404  # of every other file
        self.cut = False  # close the connection in the middle of a file
        self.asked: list[str] = []


class FakeHubHandler(http.server.BaseHTTPRequestHandler):
    server: FakeHub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        content = self.server.files.get(self.path.removeprefix(f"/{REPOSITORY}/resolve/main/"))
        if self.path == "/":
            content = b"hub"
        self.send_response(200 if content is not None else self.server.status)
        if content is None and self.server.status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", '"0123456789"')
        self.send_header("X-Repo-Commit", "abc123")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as server:
        point_at(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    gc.collect()  # what the client left open is told here, not in some later test


def _bytes(state: dict[str, torch.Tensor], path: Path) -> bytes:
    save_file(state, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_are_downloaded_once_with_progress(
    fake_hub: FakeHub, state: dict[str, torch.Tensor], tmp_path: Path, hub: Path, name: str
) -> None:
    content = _pickled(state) if name.endswith("bin") else _bytes(state, tmp_path / "x.safetensors")
    fake_hub.files[name] = content
    told: list[tuple[str, int, int]] = []
    backbone = load(BackboneRequest("test_vit"), progress=lambda *event: told.append(event))
    assert backbone.key.weights == random(seed=42).key.weights
    assert backbone.weights.path is not None
    assert backbone.weights.path.is_relative_to(hub)
    assert told[-1] == ("downloading weights", len(content), len(content))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    fake_hub.asked.clear()
    assert load(BackboneRequest("test_vit")).key == backbone.key
    assert fake_hub.asked == []


def test_a_repository_without_weights_is_told(fake_hub: FakeHub) -> None:
    with pytest.raises(WeightsError, match=f"{REPOSITORY} holds none of model.safetensors, pytorch_model.bin"):
        find_weights(BackboneRequest("test_vit"))


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_hub_that_refuses_is_not_a_repository_without_weights(
    fake_hub: FakeHub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's retries
    fake_hub.status = status
    with pytest.raises(WeightsError, match="could not be downloaded"):
        find_weights(BackboneRequest("test_vit"))


def test_a_download_that_breaks_off(
    fake_hub: FakeHub, state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's retries
    fake_hub.files["model.safetensors"] = _bytes(state, tmp_path / "x.safetensors")
    fake_hub.cut = True
    with pytest.raises(WeightsError, match=r"weights of test_vit\.r160_in1k"):
        find_weights(BackboneRequest("test_vit"))
    fake_hub.cut = False
    assert load(BackboneRequest("test_vit")).key.weights == random(seed=42).key.weights


# Preprocessing


@pytest.mark.parametrize("size", [(8, 8), (300, 200), (20, 500), (1, 1)])
def test_images_of_any_size_fit_the_model(size: tuple[int, int]) -> None:
    found = np.asarray(random().preprocess(Image.new("RGB", size, (10, 20, 30))))
    assert found.shape == (3, 160, 160)
    assert found.dtype == np.uint8
    assert found.reshape(3, -1).mean(axis=1).tolist() == [10, 20, 30]
