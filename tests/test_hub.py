"""Published files: from the cache, else downloaded, else an error that says what to do."""

from __future__ import annotations

import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from fake_hub import FakeHub, point_at
from messages import says
from nctransfer.backbones import hub
from nctransfer.backbones.building import load
from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import WeightsError
from tiny import REPOSITORY, State, in_hub, pickled, random, state_of

pytestmark = pytest.mark.usefixtures("hub_cache")

FILES = ["model.safetensors", "pytorch_model.bin"]
WHAT = "the weights of test_vit.r160_in1k"


@pytest.fixture(scope="module")
def state() -> State:
    return state_of()


# What is in the cache


def test_an_empty_cache_holds_nothing() -> None:
    assert hub.cached(REPOSITORY, FILES) is None
    assert hub.cached_url("https://example.org/a.pth") is None


def test_the_preferred_file_of_the_cache_comes_first(hub_cache: Path) -> None:
    other = in_hub(hub_cache, b"1", FILES[1])
    assert hub.cached(REPOSITORY, FILES) == hub.fetch(REPOSITORY, FILES, WHAT) == other
    first = in_hub(hub_cache, b"2", FILES[0])
    assert hub.cached(REPOSITORY, FILES) == hub.fetch(REPOSITORY, FILES, WHAT) == first
    assert hub.cached(REPOSITORY, FILES[::-1]) == other


def test_a_revision_of_the_cache_is_another_file(hub_cache: Path) -> None:
    main, old = in_hub(hub_cache, b"1"), in_hub(hub_cache, b"2", revision="v1")
    assert hub.cached(REPOSITORY, FILES) == main
    assert hub.cached(f"{REPOSITORY}@v1", FILES) == old
    assert hub.cached(f"{REPOSITORY}@v2", FILES) is None
    with pytest.raises(WeightsError) as error:
        hub.fetch(f"{REPOSITORY}@v2", FILES, WHAT)
    says(error, WHAT)


def test_files_of_torchs_cache(tmp_path: Path) -> None:
    path = tmp_path / "torch" / "hub" / "checkpoints" / "a-1234.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"1")
    url = "https://example.org/models/a-1234.pth"
    assert hub.cached_url(url) == hub.fetch_url(url, WHAT, offline=True) == path


# Not asked


def test_files_that_are_not_at_hand_offline() -> None:
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT)
    says(
        error,
        WHAT,
        "HF_HUB_OFFLINE",
        hint=["--checkpoint", "--random-init", "nctransfer models", DEFAULT_MODEL],
    )


def test_offline_by_argument_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("nctransfer.backbones.hub._why_unreachable", lambda _: pytest.fail("a server was asked"))
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT, offline=True)
    says(error, WHAT, "--offline")
    with pytest.raises(WeightsError) as error:
        hub.fetch_url("https://example.org/a.pth", WHAT, offline=True)
    says(error, WHAT, "https://example.org/a.pth", "--offline")


# Not reachable


def connections(server: socket.socket) -> int:
    """How many connections wait to be accepted; the first may still be on its way."""
    server.settimeout(60)
    taken = [server.accept()[0]]
    server.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            taken.append(server.accept()[0])
    for one in taken:
        one.close()
    return len(taken)


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_hub_that_is_not_reachable_is_asked_once(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("a download takes its time"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if answers:
            server.listen()  # connections are taken, and nothing is ever said
        point_at(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}", seconds=0.5)
        with pytest.raises(WeightsError) as error:
            hub.fetch(REPOSITORY, FILES, WHAT)
        says(error, WHAT, hint="--checkpoint")
        if answers:
            assert connections(server) == 1  # a client that tried again would wait as long again


def test_a_name_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no notice of the timeout of a request."""
    end, looked_up = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> None:
        end.wait(60)
        looked_up.set()
        raise socket.gaierror

    point_at(monkeypatch, "http://hub.invalid", seconds=0.1)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT)
    assert not looked_up.is_set()
    says(error, WHAT)
    end.set()


# A hub


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


@pytest.mark.parametrize("name", FILES)
def test_weights_are_downloaded_once_with_progress(fake_hub: FakeHub, state: State, hub_cache: Path, name: str) -> None:
    content = pickled(state) if name.endswith("bin") else save(state)
    fake_hub.files[name] = content
    told: list[tuple[str, int, int]] = []
    backbone = load(BackboneRequest("test_vit"), progress=lambda *event: told.append(event))
    assert backbone.key.weights == random(seed=42).key.weights
    assert backbone.weights.path is not None
    assert backbone.weights.path.is_relative_to(hub_cache)
    assert told[-1] == ("downloading weights", len(content), len(content))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    fake_hub.asked.clear()
    assert load(BackboneRequest("test_vit")).key == backbone.key
    assert fake_hub.asked == []


def test_a_download_without_anybody_to_tell(fake_hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    fake_hub.files["model.safetensors"] = b"1" * 99
    assert hub.fetch(REPOSITORY, FILES, WHAT).read_bytes() == b"1" * 99
    assert "".join(capfd.readouterr()) == ""


def test_a_repository_without_weights_is_told(fake_hub: FakeHub) -> None:
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT)
    says(error, REPOSITORY, *FILES)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_hub_that_refuses_is_not_a_repository_without_weights(
    fake_hub: FakeHub, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's retries
    fake_hub.status = status
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT)
    says(error, WHAT)
    assert FILES[1] not in error.value.message


def test_a_download_that_breaks_off(fake_hub: FakeHub, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the library's retries
    fake_hub.files["model.safetensors"] = save(state)
    fake_hub.cut = True
    with pytest.raises(WeightsError) as error:
        hub.fetch(REPOSITORY, FILES, WHAT)
    says(error, WHAT)
    fake_hub.cut = False
    assert load(BackboneRequest("test_vit")).key.weights == random(seed=42).key.weights


def test_a_file_of_a_url_is_downloaded_once(fake_hub: FakeHub, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{fake_hub.server_port}/{REPOSITORY}/resolve/main/a.pth"
    with pytest.raises(WeightsError, match="404"):  # an error that were kept would keep the connection open
        hub.fetch_url(url, WHAT)
    assert hub.cached_url(url) is None
    fake_hub.files["a.pth"] = pickled({"a": torch.ones(2)})
    path = hub.fetch_url(url, WHAT)
    assert path.is_relative_to(tmp_path / "torch")
    assert path.read_bytes() == fake_hub.files["a.pth"]
    fake_hub.asked.clear()
    assert hub.fetch_url(url, WHAT) == path
    assert fake_hub.asked == []
