"""timm is imported without the compiler of PyTorch, which is there as soon as something needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nctransfer.backbones import timm_import

BEFORE = "import sys; from nctransfer.backbones.timm_import import import_timm; import_timm(); import torch; "
NOT_YET = "assert 'timm' in sys.modules and 'torch._dynamo' not in sys.modules; "


@pytest.mark.slow
@pytest.mark.parametrize(
    "use",
    [
        "from torchvision.ops.roi_align import is_compile_supported; assert is_compile_supported('cpu')",
        "assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).item() == 2",
        "from torch._dynamo import utils; assert utils.is_compile_supported('cpu')",
        "import timm; timm.create_model('naflexvit_base_patch16_siglip').eval()(torch.zeros(1, 3, 224, 224))",
    ],
)
def test_the_compiler_is_imported_late_or_never(use: str) -> None:
    subprocess.run([sys.executable, "-c", BEFORE + NOT_YET + use], check=True, timeout=300)


def test_what_stands_for_the_compiler_gives_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo.utils as real

    stand_in = timm_import._StandIn(timm_import.COMPILER)
    monkeypatch.setitem(sys.modules, timm_import.COMPILER, stand_in)
    assert not hasattr(stand_in, "__path__")
    assert sys.modules[timm_import.COMPILER] is stand_in
    monkeypatch.setattr("importlib.import_module", lambda _: real)
    assert stand_in.counters is real.counters
    assert timm_import.COMPILER not in sys.modules
    assert stand_in.is_compile_supported("cpu") == real.is_compile_supported("cpu")


def test_an_import_leaves_pytorch_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    timm_import.import_timm()  # what this imports only once is there, whichever test runs first
    before = torch.compiler.disable
    for name in ("timm", timm_import.COMPILER):
        monkeypatch.delitem(sys.modules, name, raising=False)
    imported = []

    def fake(name: str) -> object:
        imported.append((name, torch.compiler.disable is before, timm_import.COMPILER in sys.modules))
        return torch

    monkeypatch.setattr("importlib.import_module", fake)
    timm_import.import_timm()
    assert imported == [("torch", True, False), ("timm.data", False, True)]
    assert torch.compiler.disable is before
    assert timm_import.COMPILER not in sys.modules


def test_functions_are_marked_at_once_where_pytorch_cannot_do_it_later() -> None:
    marked = []

    def at_once(function: object, recursive: bool = True, **settings: object) -> object:
        marked.append((function, recursive, settings))
        return function

    timm_import._disable_later(at_once, None)(len)
    timm_import._disable_later(at_once, lambda *_: None)(len, reason="why")
    timm_import._disable_later(at_once, lambda *_: None)(reason="why")
    assert marked == [(len, True, {}), (len, True, {"reason": "why"}), (None, True, {"reason": "why"})]
    later = timm_import._disable_later(at_once, lambda *given: given)
    assert later(at_once, False) == (at_once, False)
    assert later(len, False) is len  # what is no plain function is marked at once
    assert marked[-1] == (len, False, {})
