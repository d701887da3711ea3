"""Shares that are sets of their own, each with one worker that knows nothing of the others' samples.

The classes and the halves of the whole set follow from the labels and ids of all samples. So before the first pass each
worker leaves those of its own samples, which takes no pass over features. Then every worker knows the whole set as if
all shares lay in one file, one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from nctransfer.features.feature_set import FeatureSet, id_ranks
from nctransfer.features.feature_stream import FeatureStream

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from nctransfer.neural_collapse.sums_files import SumsFile

__all__ = ["names_of", "separate_digest", "whole_of"]


def names_of(features: FeatureSet) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The labels and ids of the samples of a share, as tensors and facts of a file of sums."""
    import numpy as np
    import torch

    encoded = [one.encode("utf-8", "surrogatepass") for one in features.ids]
    tensors = {
        "codes": features.labels.int(),
        "lengths": torch.tensor([len(one) for one in encoded], dtype=torch.int32),
        "ids": torch.from_numpy(np.frombuffer(b"".join(encoded), np.uint8).copy()),
    }
    return tensors, {
        "classes": list(features.classes),
        "are_numbers": _are_numbers(features.ids),
        "bytes": sum(map(len, encoded)),
    }


def separate_digest(features: FeatureSet) -> str:
    """A digest of what sets must have in common to be shares of one: the backbone, the layer, and the width."""
    key = None if features.info.key is None else asdict(features.info.key)
    common = json.dumps([key, features.info.layer, features.dim], sort_keys=True)
    return hashlib.blake2b(common.encode(), digest_size=16).hexdigest()


def whole_of(own: FeatureSet, index: int, files: Sequence[SumsFile]) -> tuple[FeatureStream, range]:
    """The whole set as a worker knows it, of which it can read its own rows only, and which these are.

    Args:
        own: The samples of this worker.
        index: The number of its share.
        files: What all workers have left by :func:`names_of`, in the order of the shares.

    Raises:
        FeaturesError: An id stands for more than one sample.
    """
    import torch

    classes = sorted({name for file in files for name in file.facts["classes"]})
    code = {name: number for number, name in enumerate(classes)}
    labels, keys, sizes = [], [], []
    for file in files:
        shapes = {"codes": (file.rows,), "lengths": (file.rows,), "ids": (file.facts["bytes"],)}
        tensors = file.tensors(shapes)
        codes = torch.tensor([code[name] for name in file.facts["classes"]], dtype=torch.int64)
        labels.append(codes[tensors["codes"].long()])
        keys.append(_decoded(tensors["ids"], tensors["lengths"]))
        sizes.append(len(labels[-1]))
    start = sum(sizes[: index - 1])
    if all(file.facts["are_numbers"] for file in files):
        places = torch.cat([torch.tensor([int(key) + sum(sizes[:k]) for key in some]) for k, some in enumerate(keys)])
    else:
        places = torch.from_numpy(id_ranks([key for some in keys for key in some]))
    stream = FeatureStream.of(own)

    def read(first: int = 0, last: int = sum(sizes)) -> Iterator[NDArray[Any]]:
        yield from stream.read(first - start, last - start)

    return FeatureStream(
        labels=torch.cat(labels),
        classes=tuple(classes),
        dim=own.dim,
        info=replace(
            own.info,
            path=None,
            id=_shared(files, "id") or "arrays",
            data=_shared(files, "data"),
            missing=sum(file.features.get("missing", 0) for file in files),
        ),
        read=read,
        places=places.long(),
    ), range(start, start + sizes[index - 1])


def _shared(files: Sequence[SumsFile], field: str) -> str | None:
    """What several sets are called, in a few words."""
    if any(file.features[field] is None for file in files):
        return None
    first, *others = dict.fromkeys(str(file.features[field]) for file in files)
    return first + (f" and {others[0]}" if len(others) == 1 else f" and {len(others)} others" if others else "")


def _are_numbers(ids: Sequence[str]) -> bool:
    """Whether ids are the numbers of the rows, from 0: other shares have the same ones, so they name no sample."""
    return all(one.isascii() and one.isdigit() for one in ids) and sorted(map(int, ids)) == list(range(len(ids)))


def _decoded(content: torch.Tensor, lengths: torch.Tensor) -> list[str]:
    text, ends = content.numpy().tobytes(), lengths.cumsum(dim=0).tolist()
    return [text[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *ends], ends, strict=False)]
