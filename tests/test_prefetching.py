"""Weights downloaded while another backbone runs, from a hub on this machine that waits until it may answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants
from safetensors.torch import save

from fake_hub import FakeHub, point_at
from messages import says
from nctransfer.backbones.building import load
from nctransfer.backbones.hub import cached, why_offline
from nctransfer.backbones.names import of_timm
from nctransfer.backbones.prefetching import WeightsAhead, is_at_hand
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import ModelError, WeightsError
from tiny import REPOSITORY, in_hub, state_of

pytestmark = pytest.mark.usefixtures("hub_cache")

VIT = BackboneRequest("test_vit")
FILES = ["model.safetensors"]


class SlowHub(FakeHub):
    """A hub that sends no file before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_send = threading.Event()

    def process_request_thread(self, request: object, address: object) -> None:
        self.may_send.wait(30)
        super().process_request_thread(request, address)  # type: ignore[arg-type]


@pytest.fixture
def slow_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowHub]:
    with SlowHub() as server:
        server.files["model.safetensors"] = save(state_of())
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        point_at(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        yield server
        server.may_send.set()
        server.shutdown()


def test_weights_are_fetched_while_something_else_runs(slow_hub: SlowHub) -> None:
    with WeightsAhead() as ahead:
        ahead.start(VIT)
        ahead.start(VIT)  # once is enough
        assert not is_at_hand(VIT)
        assert ahead.is_busy_with(VIT)
        assert not ahead.is_busy_with(BackboneRequest("test_resnet"))
        slow_hub.may_send.set()
        shown: list[tuple[str, int, int]] = []
        ahead.wait(VIT, lambda *step: shown.append(step))
        assert not ahead.is_busy_with(VIT)
    assert cached(REPOSITORY, FILES)
    assert is_at_hand(VIT)
    assert all(done <= total for _, done, total in shown)
    assert sum(line.startswith("GET") and line.endswith("safetensors") for line in slow_hub.asked) == 1
    asked = len(slow_hub.asked)
    assert load(VIT, "cpu").weights.kind == "hub"
    assert len(slow_hub.asked) == asked


def test_an_error_is_kept_until_the_weights_are_wanted(slow_hub: SlowHub) -> None:
    slow_hub.files.clear()
    slow_hub.may_send.set()
    with WeightsAhead() as ahead:
        ahead.start(VIT)
        ahead.wait(BackboneRequest("test_resnet"))  # nothing was started for it
        with pytest.raises(WeightsError) as error:
            ahead.wait(VIT)
        ahead.wait(VIT)  # it is raised once
        asked = len(slow_hub.asked)
        ahead.start(VIT)  # and not tried again
        ahead.wait(VIT)
        assert len(slow_hub.asked) == asked
    says(error, REPOSITORY, hint="--checkpoint")


def test_the_next_download_waits_for_the_one_before(slow_hub: SlowHub) -> None:
    other = BackboneRequest("test_resnet")
    with WeightsAhead() as ahead:
        ahead.start(VIT)
        ahead.start(other)
        slow_hub.may_send.set()
        with pytest.raises(WeightsError):
            ahead.wait(other)  # the hub has none
        assert cached(REPOSITORY, FILES)


@pytest.mark.parametrize("offline", [False, True])
def test_offline_starts_nothing(offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not offline)  # asked for by the environment, or by the argument
    monkeypatch.setattr("nctransfer.backbones.prefetching.find", lambda *_, **__: pytest.fail("it was fetched"))
    before = set(threading.enumerate())
    with WeightsAhead(offline) as ahead:
        ahead.start(VIT)
        assert set(threading.enumerate()) <= before
        ahead.wait(VIT)
    assert why_offline(offline)


@pytest.mark.parametrize(
    "request_",
    [
        BackboneRequest("tf_efficientnet_lite0"),
        BackboneRequest("pixels"),
        BackboneRequest("test_vit", random_init=True),
        BackboneRequest("test_vit", checkpoint=Path("/nowhere.pth")),
        BackboneRequest("local-dir:/nowhere"),
        BackboneRequest("no_such_model"),
    ],
)
def test_nothing_is_started_without_need(
    request_: BackboneRequest, slow_hub: SlowHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WeightsAhead() as ahead:
        ahead.start(request_)
        ahead.wait(request_)
    assert slow_hub.asked == []


def test_leaving_does_not_wait(slow_hub: SlowHub) -> None:
    with pytest.raises(KeyboardInterrupt), WeightsAhead() as ahead:  # noqa: PT012
        ahead.start(VIT)
        ahead.start(BackboneRequest("test_resnet"))
        raise KeyboardInterrupt
    assert not cached(REPOSITORY, FILES)
    [second] = [one for one in threading.enumerate() if one.name == "weights of test_resnet"]
    slow_hub.may_send.set()
    second.join(30)
    assert not any("test_resnet" in line for line in slow_hub.asked)


HANGS = """
import socket
from huggingface_hub import constants
from nctransfer.backbones import hub
from nctransfer.backbones.prefetching import WeightsAhead
from nctransfer.backbones.request import BackboneRequest
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
constants.ENDPOINT = f"http://127.0.0.1:{server.getsockname()[1]}"
constants.HF_HUB_OFFLINE = False
hub.HUB_SECONDS = 600
with WeightsAhead() as ahead:
    ahead.start(BackboneRequest("test_vit"))
    server.accept()
    print("asked", flush=True)
    raise KeyboardInterrupt
"""


@pytest.mark.slow
def test_a_download_does_not_keep_the_process_alive() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=300, check=False)
    assert ended.stdout == "asked\n"
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")


def test_what_is_at_hand(hub_cache: Path) -> None:
    described = replace(VIT, model=f"hf-hub:{REPOSITORY}")
    assert not is_at_hand(VIT)
    assert not is_at_hand(described)
    in_hub(hub_cache, state_of())
    assert is_at_hand(VIT)
    assert not is_at_hand(described)  # without its description
    in_hub(hub_cache, {"architecture": "test_vit", "pretrained_cfg": of_timm("test_vit").config}, "config.json")
    assert is_at_hand(described)
    with pytest.raises(ModelError):
        is_at_hand(BackboneRequest("no_such_model"))
