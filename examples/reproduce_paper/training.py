"""Networks trained from scratch on some classes, and their checkpoints."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.data import resolve_model_data_config
from torch import nn

from nctransfer.backbones.plugins import import_plugin
from nctransfer.errors import ModelError, StoreError
from samples import Images

NETWORKS = Path(__file__).with_name("networks.py")
PADDING = 4


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        network: One of ``networks.py``, or any of timm's.
        data: Where the images come from.
        updates: Steps of SGD.
        saved: At which of them, ascending, a checkpoint is saved; by epoch.
        milestones: Shares of the updates after which the learning rate falls to a tenth.
        crop: Whether images are moved by up to 4 pixels at random.
        flip: Whether they are mirrored at random.
        precision: ``float32`` or ``bfloat16`` (autocast).
    """

    network: str
    data: str
    updates: int
    saved: dict[int, int]
    batch_size: int = 64
    learning_rate: float = 2**-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.6, 0.8)
    crop: bool = True
    flip: bool = True
    precision: str = "float32"
    seed: int = 0

    def rate(self, update: int) -> float:
        """The learning rate of an update."""
        return self.learning_rate * 0.1 ** sum(update >= share * self.updates for share in self.milestones)


def build(network: str, classes: int) -> nn.Module:
    """A network with random weights.

    Raises:
        ModelError: There is no such network.
    """
    import_plugin(str(NETWORKS))
    if not timm.is_model(network):
        raise ModelError(f"there is no network {network!r}", f"give one of timm's, or one of {NETWORKS.name}")
    return timm.create_model(network, pretrained=False, num_classes=classes)


def train(recipe: Recipe, classes: Sequence[str], images: Images, folder: Path, device: str) -> None:
    """Train on some classes, and save the checkpoints in a folder; goes on where an earlier run stopped.

    The last state lies beside them until all is done, so that at most the time since the last checkpoint is lost.
    """
    torch.manual_seed(recipe.seed)  # of the initial weights
    model = build(recipe.network, len(classes)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay
    )
    done = _restore(model, optimizer, folder / "state.pt", device)
    epochs = {update: epoch for epoch, update in recipe.saved.items()}
    if done == 0 and 0 in epochs:
        _save(model, checkpoint(folder, epochs[0]))
    batches = itertools.islice(_batches(recipe, *images.of(classes), device, done), recipe.updates - done)
    model.train()
    start, loss_sum, right, seen = time.perf_counter(), 0.0, 0.0, 0
    losses = torch.zeros(2, device=device)
    for update, (pixels, labels) in enumerate(batches, done + 1):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(update - 1)
        torch.manual_seed(hash((recipe.seed, update)) % 2**63)  # of what a network draws, as DropBlock does
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            logits = model(pixels)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            losses += torch.stack([loss * len(labels), (logits.argmax(1) == labels).sum()])
        seen += len(labels)
        if update in epochs:
            loss_sum, right = (losses / seen).tolist()
            if not math.isfinite(loss_sum):
                raise ModelError(f"{len(classes)} classes: the loss is {loss_sum}", "try a lower --learning-rate")
            _save(model, checkpoint(folder, epochs[update]))
            _keep(model, optimizer, update, folder / "state.pt")
            rate = seen / (time.perf_counter() - start)
            print(
                f"{len(classes):>3} classes, epoch {epochs[update]:>3} ({update:,} updates): loss {loss_sum:.3f}, "
                f"training accuracy {right:.1%}, {rate:,.0f} images/s",
                flush=True,
            )
            start, seen = time.perf_counter(), 0
            losses.zero_()
    (folder / "state.pt").unlink(missing_ok=True)


def checkpoint(folder: Path, epoch: int) -> Path:
    """The file of a checkpoint."""
    return folder / f"epoch-{epoch:03d}.safetensors"


def is_done(recipe: Recipe, folder: Path, classes: Sequence[str]) -> bool:
    """Whether all checkpoints are there, of this very recipe and these classes.

    Raises:
        StoreError: The folder holds those of another recipe.
    """
    settings = folder / "settings.json"
    wanted = json.dumps({**asdict(recipe), "classes": list(classes)}, indent=2)
    if settings.exists() and settings.read_text() != wanted:
        raise StoreError(f"{str(folder)!r} holds a run with other settings", "give another --output, or remove it")
    if not settings.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = settings.with_suffix(".tmp")
        draft.write_text(wanted)
        draft.replace(settings)
    return all(checkpoint(folder, epoch).exists() for epoch in recipe.saved) and not (folder / "state.pt").exists()


def _batches(
    recipe: Recipe, pixels: torch.Tensor, codes: torch.Tensor, device: str, skipped: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented batches without end, all on the device; those of a pass depend on the seed and its number only."""
    config = resolve_model_data_config(build(recipe.network, 2))
    mean, std = (torch.tensor(config[name], device=device) * 255 for name in ("mean", "std"))
    height, width = pixels.shape[2:]
    size = min(recipe.batch_size, len(codes))
    margin = PADDING if recipe.crop else 0
    padded = F.pad(pixels, (margin,) * 4).to(device)
    codes = codes.to(device)
    first, rest = divmod(skipped, len(codes) // size)
    for number in itertools.count(first):
        generator = torch.Generator().manual_seed(hash((recipe.seed, number)) % 2**63)
        order = torch.randperm(len(codes), generator=generator)
        moves = torch.randint(2 * margin + 1, (2, len(codes), 1), generator=generator)
        mirrored = torch.rand(len(codes), 1, generator=generator) < (0.5 if recipe.flip else 0.0)
        rows = moves[0] + torch.arange(height)
        columns = moves[1] + torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
        order, rows, columns = (part.to(device) for part in (order, rows, columns))
        for place in range(rest, len(codes) // size):
            part = slice(place * size, (place + 1) * size)
            chosen = order[part]
            cut = padded[chosen[:, None, None], :, rows[part][:, :, None], columns[part][:, None, :]]  # (B, h, w, 3)
            yield cut.float().sub_(mean).div_(std).permute(0, 3, 1, 2), codes[chosen]
        rest = 0


def _save(model: nn.Module, path: Path) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    draft = path.with_suffix(".tmp")
    save_file(state, draft)
    draft.replace(path)


def _keep(model: nn.Module, optimizer: torch.optim.Optimizer, update: int, path: Path) -> None:
    draft = path.with_suffix(".tmp")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "update": update}, draft)
    draft.replace(path)


def _restore(model: nn.Module, optimizer: torch.optim.Optimizer, path: Path, device: str) -> int:
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["update"])
