"""The linear classifier of a backbone, stored beside its sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import StoreError
from nctransfer.store.atomic_files import replace_file, writing_errors

if TYPE_CHECKING:
    import torch

__all__ = ["load_head", "save_head"]

NAME = "head.safetensors"


def save_head(folder: Path, head: Mapping[str, torch.Tensor] | None) -> None:
    """Store the classifier in the folder of a backbone, unless there is one already."""
    from safetensors.torch import save

    path = folder / NAME
    if head is not None and not path.exists():
        content = save(dict(head))
        with writing_errors(path):
            replace_file(path, lambda file: file.write(content))


def load_head(folder: Path) -> dict[str, torch.Tensor] | None:
    """The classifier in the folder of a backbone; ``None`` if the backbone has none.

    Returns:
        ``weight`` ``(K, d)``, and ``bias`` ``(K,)`` if the classifier has one.

    Raises:
        StoreError: The file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{str(path)!r} is damaged: {error}", "delete it, and extract again") from error
    return tensors
