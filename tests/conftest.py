"""Fixtures: a cache of its own for every test, the real command line, small folders of real images."""

from __future__ import annotations

import functools
import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Every run draws the same examples, and none has to end in time, as the machine may be busy. The option
# --hypothesis-profile=default draws new ones.
settings.register_profile(
    "steady",
    derandomize=True,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")

# Torch reads this when it is imported, here and in every process that a test starts. Models as small as those of the
# tests gain nothing from threads, and test processes that run side by side would wait for each other's threads.
os.environ["OMP_NUM_THREADS"] = "1"
# Otherwise each process that a test starts would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SHARED = Path(__file__).resolve().parents[2] / "shared"

Run = Callable[..., subprocess.CompletedProcess[str]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-wording", action="store_true", help="write what the command line says to golden/wording.txt"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """One process writes the wording, as one file holds all of it."""
    if config.getoption("update_wording") and config.pluginmanager.hasplugin("xdist"):
        config.option.numprocesses, config.option.dist = 0, "no"


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking for garbage, which some tests do, need not go through it."""
    gc.collect()
    gc.freeze()
    sys.dont_write_bytecode = True  # of modules that tests write, and write again within a second


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Whatever ran before in this process, a test that draws without a generator of its own draws the same."""
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk() -> Iterator[None]:
    """In this process, files need not outlive a power failure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; hub and torch caches empty too, and no network asked for."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NCTRANSFER_CACHE", str(folder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


@pytest.fixture
def hub_cache(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache in this process, empty and offline: huggingface_hub reads the environment only at its import."""
    from huggingface_hub import constants

    folder = tmp_path / "hf" / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


@pytest.fixture
def registered() -> Iterator[None]:
    """Takes back what a plugin registers."""
    from timm.models import _registry

    tables = [value for value in vars(_registry).values() if isinstance(value, dict | set)]
    before, modules = [table.copy() for table in tables], set(sys.modules)
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The command line in a process of its own, away from the project's folder."""

    def call(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nctransfer", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "80", **environment},
            check=False,
        )

    return call


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many images went through a backbone since it was last asked."""
    from nctransfer.backbones.backbone import Backbone

    counts: list[int] = []
    call = Backbone.__call__
    monkeypatch.setattr(Backbone, "__call__", lambda self, pixels: counts.append(len(pixels)) or call(self, pixels))

    def since() -> int:
        total = sum(counts)
        counts.clear()
        return total

    return since


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder of three classes with six real images each: scikit-learn's digits as PNG files."""
    return write_digits(tmp_path / "pets", {"zero": 0, "one": 1, "two": 2}, 6)


@functools.cache
def _digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()


def write_digits(root: Path, classes: dict[str, int], each: int) -> Path:
    """A folder of class folders: ``each`` images of the digit that each class name stands for."""
    from PIL import Image

    digits = _digits()
    for name, digit in classes.items():
        folder = root / name
        folder.mkdir(parents=True)
        chosen = digits.images[digits.target == digit][:each]
        for number, pixels in enumerate(chosen):
            image = Image.fromarray((pixels * (255 / 16)).round().astype("uint8"))
            image.resize((32, 32)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real data beside the project; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED
