"""The linear classifier of a backbone, stored beside its sets.

The file holds a digest of its tensors and of the key of the backbone. A backbone without a classifier has a file
without tensors, so that a file that is lost is told from one that was never needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import StoreError
from nctransfer.store.atomic_files import replace_file, writing_errors

if TYPE_CHECKING:
    import torch

__all__ = ["NAME", "head_damage", "load_head", "save_head"]

NAME = "head.safetensors"
DIGEST = "nctransfer.digest"


def save_head(folder: Path, head: Mapping[str, torch.Tensor] | None) -> None:
    """Store the classifier in the folder of a backbone, unless there is a whole one already.

    Args:
        folder: The folder.
        head: ``weight`` ``(K, d)``, and ``bias`` ``(K,)`` if there is one; ``None`` if there is no classifier.

    Raises:
        StoreError: It cannot be written.
    """
    from safetensors.torch import save

    path = folder / NAME
    if head_damage(folder):
        tensors = {name: tensor.contiguous() for name, tensor in (head or {}).items()}
        content = save(tensors, metadata={DIGEST: _digest(folder, save(tensors))})
        with writing_errors(path):
            replace_file(path, lambda file: file.write(content))


def load_head(folder: Path) -> dict[str, torch.Tensor] | None:
    """The classifier in the folder of a backbone; ``None`` if the backbone has none.

    Returns:
        ``weight`` ``(K, d)``, and ``bias`` ``(K,)`` if the classifier has one.

    Raises:
        StoreError: The file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    from safetensors.torch import load

    try:
        return load(_whole(path)) or None
    except ValueError as error:
        raise StoreError(
            f"{str(path)!r} is damaged: {error}", "run the same nctransfer extract again: it is stored anew"
        ) from error


def head_damage(folder: Path) -> str:
    """Why the file of the classifier in a folder cannot be used; empty if it can."""
    path = folder / NAME
    try:
        if path.is_file():
            _whole(path)
            return ""
    except ValueError as error:
        return str(error)
    return "it is not there"


def _whole(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ValueError: It is not what was written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        content = path.read_bytes()
        with safe_open(path, "np") as file:
            digest = (file.metadata() or {}).get(DIGEST)
        is_whole = digest == _digest(path.parent, content)
    except (OSError, SafetensorError) as error:
        raise ValueError(str(error)) from error
    if not is_whole:
        raise ValueError("its tensors are not those that were written for this backbone")
    return content


def _digest(folder: Path, content: bytes) -> str:
    """A digest of the tensors in a file, and of the name of the folder, which says which backbone it is."""
    from safetensors import deserialize

    digest = hashlib.blake2b(folder.name.encode() + b"\0", digest_size=16)
    for name, tensor in sorted(deserialize(content), key=lambda pair: pair[0]):  # type: ignore[no-untyped-call]
        digest.update(f"{name} {tensor['dtype']} {tensor['shape']}\0".encode())
        digest.update(tensor["data"])
    return digest.hexdigest()
