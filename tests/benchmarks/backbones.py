"""The backbone alone on the CPU: what folding, kept memory and packed linear layers bring, beside the machine's peak.

    python tests/benchmarks backbones
    python tests/benchmarks/backbones.py MODEL FORM

Every model runs on one thread, with one batch of 32 random images in memory. In turns, so that a change of the
machine's speed meets all:

- *timm*: the model as timm builds it, channels first, as users would run it.
- *folded*: channels last, with BatchNorms folded.
- *memory*: and freed memory is kept.
- *packed*: and linear layers are packed: what ``extract`` runs.

The peak is what a product of two float32 matrices of 2,048 × 2,048 reaches, plain or packed, whichever is faster. A
model's operations are those that PyTorch counts. Peaks of memory are those of processes that run one form alone. The
second command is such a process.

Weights are trained where the machine has them, and random for the other models.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TITLE = "Backbones on the CPU"
WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights"
MODELS = (
    "tf_efficientnet_lite0",
    "resnet50",
    "mobilenetv1_100",
    "vit_small_patch16_224",
    "vit_base_patch16_224",
    "convnext_tiny",
    "swin_tiny_patch4_window7_224",
    "vit_small_patch14_dinov2",
)
FORMS = ("timm", "folded", "memory", "packed")
BATCH, TURNS = 32, 3


def request(name: str) -> Any:
    """The backbone, with trained weights if there are any."""
    from nctransfer.backbones.request import BackboneRequest

    files = {
        "resnet50": "resnet50_keras_in1k.safetensors",
        "mobilenetv1_100": "mobilenetv1_100_tf_in1k.safetensors",
    }
    checkpoint = WEIGHTS / files[name] if name in files else None
    known = name == "tf_efficientnet_lite0" or (checkpoint is not None and checkpoint.is_file())
    size = 224 if "dinov2" in name else None
    return BackboneRequest(name, random_init=not known, checkpoint=checkpoint if known else None, img_size=size)


def prepared(name: str, form: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels to features, in one of the forms."""
    from nctransfer.backbones.building import load

    backbone = load(request(name), "cpu")
    if form != "timm":
        backbone.fold()
        if form == "packed":
            backbone.pack()
        return lambda pixels: backbone(pixels)["feature"]
    model = backbone.model.to(memory_format=torch.contiguous_format)
    mean, std = (torch.tensor(backbone.key.transform[part]).view(1, 3, 1, 1) for part in ("mean", "std"))

    @torch.inference_mode()
    def run(pixels: torch.Tensor) -> torch.Tensor:
        images = (pixels.float() / 255 - mean) / std
        features: torch.Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return features

    return run


def batch(name: str) -> torch.Tensor:
    """Random pixels of the model's size."""
    from nctransfer.backbones.building import load

    size = load(request(name), "cpu").key.transform["input_size"]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (BATCH, *size), dtype=torch.uint8, generator=generator)


def memory(form: str) -> contextlib.AbstractContextManager[object]:
    """The context that a form runs in."""
    from nctransfer.backbones.kept_memory import kept_memory

    return kept_memory() if form in ("memory", "packed") else contextlib.nullcontext()


def seconds(run: Callable[..., object], *arguments: object) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    run(*arguments)
    return time.process_time() - start


def peak() -> float:
    """Float32 operations per CPU second of a large matrix product."""
    from nctransfer.backbones.packed_linear import can_pack, packed_weight, run_packed

    one, other = torch.randn(2, 2048, 2048)
    ways: list[Callable[[], object]] = [lambda: one @ other]
    if can_pack():
        packed = packed_weight(other, 2048)
        ways.append(lambda: run_packed(one, packed, None))
    with torch.inference_mode():
        return 2 * 2048**3 / min(seconds(way) for way in 4 * ways)


def operations(name: str) -> float:
    """Floating-point operations of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    run, pixels = prepared(name, "timm"), batch(name)[:1]
    with FlopCounterMode(display=False) as counter:
        run(pixels)
    return float(counter.get_total_flops())


def measure(name: str) -> dict[str, Any]:
    """Images per CPU second of each form, the share of the peak, and how much features differ from timm's."""
    torch.set_num_threads(1)
    forms, pixels = {form: prepared(name, form) for form in FORMS}, batch(name)
    features = {form: run(pixels[:8]) for form, run in forms.items()}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    peaks = []
    for _ in range(TURNS):
        peaks.append(peak())
        for form in ("timm", "folded"):
            times[form].append(seconds(forms[form], pixels))
        with memory("packed"):
            forms["packed"](pixels)
            for form in ("memory", "packed"):
                times[form].append(seconds(forms[form], pixels))
    rates = {form: BATCH / statistics.median(values) for form, values in times.items()}
    plain = features["timm"]
    different = {
        form: float(((found - plain).norm(dim=1) / plain.norm(dim=1)).max()) for form, found in features.items()
    }
    share = rates["packed"] * operations(name) / statistics.median(peaks)
    return {"rates": rates, "peak": statistics.median(peaks), "share": share, "different": different}


def memory_peak(name: str, form: str) -> float:
    """Peak memory of this process in MiB after some batches in one form."""
    from peak_memory import peak as peak_of_memory

    torch.set_num_threads(1)
    run, pixels = prepared(name, form), batch(name)
    with memory(form):
        for _ in range(3):
            run(pixels)
    return peak_of_memory()


def child(*arguments: str) -> Any:
    """What a process of its own measures."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(models: tuple[str, ...] = MODELS) -> str:
    """Images per CPU second as a Markdown table."""
    from page_tables import markdown

    rows, factors = [], []
    for name in models:
        found = child(name)
        rates, differ = found["rates"], max(found["different"].values())
        factors.append(rates["packed"] / rates["folded"])
        peaks = [f"{child(name, form):,.0f}" for form in ("folded", "packed")]
        share = f"{found['share']:.0%} of {found['peak'] / 1e9:.0f} GFLOP/s"
        rows.append(
            [name, *(f"{rates[form]:.1f}" for form in FORMS), f"{factors[-1]:.2f}", share, f"{differ:.1e}", *peaks]
        )
    rows.append(["geometric mean", *[""] * 4, f"{statistics.geometric_mean(factors):.2f}", *[""] * 4])
    return markdown(
        [
            *("model", "timm", "folded", "+ kept memory", "+ packed linear layers", "factor over folded"),
            *("share of the peak", "features differ by", "MiB before", "MiB after"),
        ],
        rows,
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    print(json.dumps(measure(sys.argv[1]) if len(sys.argv) == 2 else memory_peak(sys.argv[1], sys.argv[2])))
