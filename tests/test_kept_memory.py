"""Freed memory is kept while a model runs: fewer page faults, the same numbers, and the process as before."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import nctransfer as nct
import nctransfer.backbones.kept_memory as module
from nctransfer.backbones.backbone import Backbone
from nctransfer.backbones.kept_memory import AFTERWARDS, KEEPING, kept_memory

ON_GLIBC = module._glibc() is not None

on_glibc = pytest.mark.skipif(not ON_GLIBC, reason="another allocator, or settings of the user")

RUN = """
import ctypes, json, resource
import torch
from torch import nn
from nctransfer.backbones.kept_memory import kept_memory

libc = ctypes.CDLL(None)
torch.manual_seed(0)
layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(224)]
model, images = nn.Sequential(*layers), torch.randn(12, 3, 224, 224)  # an output of 39 MB per layer

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd".split()]
    _fields_ += [(name, ctypes.c_size_t) for name in "usmblks fsmblks uordblks fordblks keepcost".split()]

libc.mallinfo2.restype = Info
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def mapped(size):
    before = libc.mallinfo2().hblkhd
    block = libc.malloc(size)
    found = libc.mallinfo2().hblkhd - before
    libc.free(block)
    return found >= size

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def run():
    before = faults()
    with torch.inference_mode():
        features = model(images).flatten().tolist()
    return faults() - before, features

plain = min(run() for _ in range(3))
before = resident()
with kept_memory() as kept:
    inside = min(run() for _ in range(4))
    with kept_memory():
        pass
    nested = min(run() for _ in range(3))
    held, big = resident(), mapped(1 << 30)
after = resident()
print(json.dumps({
    "kept": kept, "equal": plain[1] == inside[1] == nested[1], "faults": [plain[0], inside[0], nested[0]],
    "before": before, "held": held, "after": after,
    "big": big, "mapped": [mapped(20 << 20), mapped(1 << 30)], "again": run()[0],
}))
"""


def run_in_a_process(**environment: str) -> dict[str, Any]:
    """What happened in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={**os.environ, **environment},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@on_glibc
def test_a_model_faults_less_and_leaves_the_process_as_it_was() -> None:
    found = run_in_a_process()
    assert found["kept"]
    assert found["equal"]
    plain, inside, nested = found["faults"]
    assert plain > 9_000  # the pages of one output
    assert inside < plain / 100
    assert nested < plain / 100
    assert not found["big"]
    assert found["held"] > found["before"] + 50e6
    assert found["after"] < found["before"] + 20e6
    assert found["mapped"] == [False, True]
    assert found["again"] > plain / 2


@on_glibc
@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "100000"},
        {"MALLOC_MMAP_MAX_": "65536"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=65536"},
    ],
)
def test_settings_of_the_user_stay(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    calls = watch(monkeypatch)
    with kept_memory() as kept:
        assert not kept
    assert calls == []


@on_glibc
def test_settings_of_the_user_for_other_things_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    with kept_memory() as kept:
        assert kept


class Recorder:
    """A C library that only notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 1

    def malloc_trim(self, pad: int) -> int:
        self.calls.append((pad,))
        return 1


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    libc = Recorder()
    real = module._glibc
    monkeypatch.setattr(module, "_glibc", lambda: libc if real() is not None else None)
    return libc.calls


START, END = list(KEEPING.items()), [*AFTERWARDS.items(), (0,)]


@on_glibc
def test_the_last_context_restores_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watch(monkeypatch)
    opened, closed = threading.Event(), threading.Event()

    def other() -> None:
        with kept_memory():
            opened.set()
            assert closed.wait(60)

    thread = threading.Thread(target=other)
    with kept_memory():
        thread.start()
        assert opened.wait(60)
        assert calls == START
    assert calls == START
    closed.set()
    thread.join()
    assert calls == START + END
    with kept_memory():
        pass
    assert calls == 2 * (START + END)


@on_glibc
def test_an_error_restores_the_settings_too(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = watch(monkeypatch)
    with pytest.raises(RuntimeError), kept_memory():
        raise RuntimeError
    assert calls == START + END


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: pytest.fail("a C library was opened"))
    with kept_memory() as kept:
        assert not kept


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise ValueError(f"unrecognized configuration name: {name}")

    monkeypatch.setattr(os, "confstr", unknown)
    with kept_memory() as kept:
        assert not kept


@on_glibc
def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preloaded allocator has a ``malloc`` of its own."""
    real = ctypes.CDLL

    class Preloaded:
        malloc = real("libc.so.6").calloc

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Preloaded if name is None else real(name))
    with kept_memory() as kept:
        assert not kept


@on_glibc
def test_an_extraction_keeps_memory_while_images_run(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, runs = watch(monkeypatch), list[list[tuple[int, ...]]]()
    run = Backbone.__call__

    def noted(backbone: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        runs.append(list(calls))
        return run(backbone, pixels)

    monkeypatch.setattr(Backbone, "__call__", noted)
    nct.extract("test_vit", pets, random_init=True, device="cpu", batch_size=9)
    assert runs == [START, START]
    assert calls == START + END
