"""Files of sums: what one worker found in its share of a set, written whole or not at all, and checked when read.

A file is in the format of safetensors, so that nothing in it is run. Its metadata say what the sums are of, and hold a
digest of themselves and of the tensors. A digest detects damage. It is not a signature.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from nctransfer.errors import FeaturesError, SettingError, reason_of
from nctransfer.sources.sharding import Shard
from nctransfer.store.atomic_files import replace_file, writing_errors

if TYPE_CHECKING:
    import torch

__all__ = ["KINDS", "SUFFIX", "SumsFile", "damage_of", "digest_of", "read_sums_file", "write_sums_file"]

T = TypeVar("T")

FORMAT = 1
SUFFIX = ".safetensors"
KINDS = ("names", "means", "moments", "answers")
OF_SHARE = re.compile(rf"(?:{'|'.join(KINDS)})-(\d+)-of-(\d+)")  # what workers call their files
DTYPES = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}


@dataclass(frozen=True, kw_only=True)
class SumsFile:
    """What a file of sums is about.

    Attributes:
        path: The file.
        kind: ``means`` for the first pass, ``moments`` for the second, ``answers`` for that of a classifier;
            ``names`` for the labels and ids of a share that is a set of its own.
        shard: The share of the set; ``None`` if the file holds the sums over all shares.
        content: A digest of the set, of its order, and of the classifier.
        features: The description of the set, as :meth:`~nctransfer.features.feature_info.FeatureInfo.to_dict` gives it.
        classes: The names of the C classes.
        notes: What a reader of the report should know about the set.
        head: The classifier that is wanted, in words; empty if none is.
        is_separate: Whether each share is a set of its own.
        rows: The number of samples.
        check: A checksum of the rows that were read, which every pass over this share must find again.
        sources: The digests of the files that these sums were computed from.
        facts: What belongs to these sums and is not a tensor.
        digest: The digest of the tensors.
    """

    path: Path
    kind: str
    shard: Shard | None
    content: str
    features: Mapping[str, Any]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    head: str
    is_separate: bool = False
    rows: int = 0
    check: int = 0
    sources: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    def tensors(self, shapes: Mapping[str, tuple[int, ...]], optional: Collection[str] = ()) -> dict[str, torch.Tensor]:
        """The tensors in the file.

        Args:
            shapes: The shape of each tensor, by name.
            optional: The names of those that may be missing.

        Raises:
            FeaturesError: The file is damaged, or was replaced since its metadata were read.
        """
        try:
            found = _tensors(self.path, self.digest)
        except (OSError, _DamageError) as error:
            raise _damaged(self.path, error) from error
        there = {name: tuple(tensor.shape) for name, tensor in found.items()}
        if there != {name: shape for name, shape in shapes.items() if name in there or name not in optional}:
            raise _damaged(self.path, _DamageError("its tensors are not those of such a file"))
        return found


def write_sums_file(file: SumsFile, tensors: Mapping[str, torch.Tensor]) -> SumsFile:
    """Write sums and what they are about; returns what was written, with the digest of the tensors.

    Raises:
        StoreError: The file cannot be written.
    """
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    file = replace(file, digest=digest_of(plain))
    about = json.dumps({**asdict(file), "path": None, "format": FORMAT})
    metadata = {"nctransfer.sums": about, "nctransfer.digest": _sha256(about.encode())}
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, tensor in plain.items():
        dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(opened: IO[bytes]) -> None:  # one tensor after the other, because many classes make them large
        opened.write(len(text).to_bytes(8, "little") + text)
        for tensor in plain.values():
            opened.write(tensor.numpy().data.cast("B") if tensor.numel() else b"")

    with writing_errors(file.path):
        replace_file(file.path, write)
    return file


def read_sums_file(path: Path) -> SumsFile:
    """What a file of sums is about; the tensors are read only when they are asked for.

    Raises:
        FeaturesError: It is no such file, it is damaged, or a newer version of nctransfer wrote it.
    """
    try:
        return _read(path)
    except (OSError, _DamageError) as error:
        raise _damaged(path, error) from error


def damage_of(path: Path) -> str:
    """What is wrong with the content of a file of sums; empty if it is whole, or cannot be read at all.

    Raises:
        FeaturesError: It is no such file, or another version of nctransfer wrote it.
    """
    try:
        _tensors(path, _read(path).digest)
    except _DamageError as error:
        return str(error)
    except OSError:
        return ""  # it may be whole
    return ""


class _DamageError(Exception):
    """What is wrong with the content of a file."""


def _opened(path: Path, read: Callable[[Any], T]) -> T:
    """What is read from a file of safetensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return read(file)
    except SafetensorError as error:
        raise _DamageError(reason_of(error)) from error


def _tensors(path: Path, digest: str) -> dict[str, torch.Tensor]:
    """The tensors in a file, which have this digest."""
    found = _opened(path, lambda file: {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    if digest_of(found) != digest:
        raise _DamageError("its content was altered")
    return found


def _read(path: Path) -> SumsFile:
    """What a file of sums is about."""
    metadata = _opened(path, lambda file: file.metadata() or {})
    if "nctransfer.sums" not in metadata:
        if OF_SHARE.fullmatch(path.stem):
            raise _DamageError("it holds no statistics of a shard")
        raise FeaturesError(
            f"{str(path)!r} holds no statistics of a shard", "keep statistics in a folder of their own, without it"
        )
    text = metadata["nctransfer.sums"]
    if metadata.get("nctransfer.digest") != _sha256(text.encode()):
        raise _DamageError("its description was altered")
    try:
        about = json.loads(text)
        version = about.pop("format")
        file = None if version != FORMAT else _described(path, about)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SettingError) as error:
        raise _DamageError("its description is not one that nctransfer writes") from error
    if file is None:
        raise FeaturesError(
            f"{str(path)!r} was written by another version of nctransfer", "use the same version for all shards"
        )
    return file


def _described(path: Path, about: dict[str, Any]) -> SumsFile:
    """What a file is about.

    Raises:
        ValueError: A value is of another type; a missing or unknown one raises other errors of Python.
    """
    lists = {name: tuple(about[name]) for name in ("classes", "notes", "sources")}
    shard = about["shard"] and Shard(int(about["shard"]["index"]), int(about["shard"]["of"]))
    file = SumsFile(**{**about, **lists, "path": path, "shard": shard})
    texts = (*file.classes, *file.notes, *file.sources, file.kind, file.content, file.head, file.digest)
    sizes = (file.features["samples"], file.features["dim"], file.features.get("missing", 0))
    numbers = (file.rows, file.check, *sizes)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(file.features["id"], str)
        and isinstance(file.facts, dict)
        and file.kind in KINDS
    ):
        raise ValueError("a value is of another type")
    return file


def _damaged(path: Path, error: Exception) -> FeaturesError:
    hint = "delete this file and run its shard again"
    if match := OF_SHARE.fullmatch(path.stem):  # its worker sees the damage
        hint = (
            f"run this shard again into this folder: nctransfer collapse … --shard {match[1]}/{match[2]} "
            f"--save-statistics {path.parent}"
        )
    return FeaturesError(f"the statistics {str(path)!r} are damaged: {reason_of(error)}", hint)


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """The SHA-256 digest of tensors on the CPU, with their names and shapes, in hex."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.numpy().data.cast("B"))
    return digest.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
