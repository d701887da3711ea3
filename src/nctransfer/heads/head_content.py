"""A head as bytes: tensors in the format of safetensors, everything else as JSON in its metadata, and a digest of both.

Whoever reads such bytes trusts nothing in them: names, sizes, types and values are checked before they are used. The
digest detects damage. It is not a signature, so it does not say who wrote the head.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nctransfer import __version__
from nctransfer.checked_values import CheckedValues, check_text
from nctransfer.heads.head import Head, HeadOrigin, HeldOut, Promise
from nctransfer.heads.unlikeness import RELATIVE
from nctransfer.strict_json import parse_json

if TYPE_CHECKING:
    import torch

    from nctransfer.backbones.feature_key import FeatureKey

__all__ = ["FORMAT", "MOST_HEADER_BYTES", "NewerFormatError", "from_bytes", "header_bytes", "to_bytes"]

FORMAT = 2
"""The version of the format. A reader refuses newer ones. A head that an older reader knows is written as format 1."""
METADATA = "nctransfer_head"
MOST_HEADER_BYTES = 2**24
"""The largest header of a head that is read; 20,000 long class names take a tenth of it."""
SMALLEST_TEMPERATURE = 1e-30  # scores of ncc are squared distances, so features of the size 1e-6 give 1e-12
KINDS = ("ridge", "ncc", "cosine", "logistic", "proxies")
MOST_ROWS = 32  # of a class
UNLIKENESS = "unlikeness."  # begins the names of the tensors that find images unlike every class


class NewerFormatError(ValueError):
    """The format is newer than :data:`FORMAT`."""


def to_bytes(head: Head) -> bytes:
    """A head as bytes: the same head gives the same bytes."""
    from safetensors.torch import save

    tensors = _tensors(head)
    record = json.loads(json.dumps(_record(head)))  # tuples become lists, as they come back
    record["sha256"] = _digest(record, tensors)
    content: bytes = save(tensors, {METADATA: json.dumps(record, sort_keys=True)})
    return content


def header_bytes(start: bytes) -> int:
    """The size of the header of a file in the format of safetensors, from its first eight bytes.

    Raises:
        ValueError: There are fewer bytes, or the header is larger than that of any head.
    """
    if len(start) < 8:
        raise ValueError("it ends within its first eight bytes")
    size = int.from_bytes(start[:8], "little")
    if 2 <= size <= MOST_HEADER_BYTES:  # it may begin like a pickle
        return size
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        raise ValueError("it looks like a pickle, which can run any code and is never read")
    raise ValueError("it is not a file in the format of safetensors")


def from_bytes(content: bytes) -> Head:
    """The head that :func:`to_bytes` wrote, after everything in it was checked.

    Raises:
        NewerFormatError: A newer version of nctransfer wrote it; the message says which.
        ValueError: It is damaged, or not a head; the message says why.
    """
    try:
        record = _read_record(content)
        tensors = _read_tensors(content)
        expected = check_text(record.pop("sha256", None), "the digest")
        if _digest(record, tensors) != expected:
            raise ValueError("its content was altered: the digest in it is that of other content")
        return _checked_head(CheckedValues(record, "the head"), tensors)
    except RecursionError as error:
        raise ValueError("its description is nested too deeply") from error


def _read_record(content: bytes) -> dict[str, Any]:
    """The JSON of a head, of a format that is known."""
    size = header_bytes(content[:8])
    try:
        header = parse_json(content[8 : 8 + size])
    except ValueError as error:
        raise ValueError(f"its header is not JSON: {error}") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.keys() != {METADATA} or not isinstance(metadata[METADATA], str):
        raise ValueError("it is not a head that nctransfer saved")
    try:
        record = parse_json(metadata[METADATA])
    except ValueError as error:
        raise ValueError(f"its description is not JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("its description is not a JSON object")
    version = CheckedValues({"format": record.pop("format", None)}, "the head").whole("format", least=1)
    if version > FORMAT:
        by = check_text(record.get("nctransfer"), "the version of nctransfer")[:50]
        raise NewerFormatError(f"nctransfer {by} wrote it in format {version}, and this is nctransfer {__version__}")
    record["format"] = version
    return record


def _read_tensors(content: bytes) -> dict[str, torch.Tensor]:
    from safetensors.torch import load

    try:
        tensors: dict[str, torch.Tensor] = load(content)
    except Exception as error:  # a damaged file may make the library raise anything
        raise ValueError("its tensors are damaged, or the end of the file is missing") from error
    return tensors


def _digest(record: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """A digest of everything in a head: the JSON; and the names, types, shapes and bytes of the tensors."""
    import torch

    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if tensor.numel():
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# What is written


def _tensors(head: Head) -> dict[str, torch.Tensor]:
    """The tensors of a head by their names in the file."""
    linear, held_out = head.linear, head.held_out
    found = {
        "weight": linear.weight,
        "intercept": linear.intercept,
        "centre": linear.centre,
        **({} if linear.owners is None else {"owners": linear.owners}),
        "held_out.probability": held_out.probability,
        "held_out.right": held_out.right,
        "held_out.unlikeness": held_out.unlikeness,
        **{UNLIKENESS + name: tensor for name, tensor in head.unlikeness.tensors().items()},
    }
    if head.images is not None:
        found["images"] = head.images
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in found.items()}


def _record(head: Head) -> dict[str, Any]:
    """Everything of a head that is not a tensor."""
    linear, kind = head.linear, head.unlikeness.name
    is_usual = kind == RELATIVE
    return {
        "format": 1 if is_usual and linear.owners is None else FORMAT,
        **({} if is_usual else {"unlikeness": kind}),
        "nctransfer": __version__,
        "classes": linear.classes,
        "counts": head.counts,
        "unit_length": linear.unit_length,
        "temperature": linear.temperature,
        "classifier": head.classifier,
        "penalty": head.penalty,
        "promise": asdict(head.promise),
        "origin": asdict(head.origin),
        "max_error": head.max_error,
        "max_lost": head.max_lost,
    }


# What is read


def _checked_head(given: CheckedValues, tensors: Mapping[str, torch.Tensor]) -> Head:
    """The head that JSON and tensors describe, if they agree with each other."""
    from nctransfer.heads.linear_classifier import LinearClassifier
    from nctransfer.heads.unlikeness_kinds import UNLIKENESSES

    given.whole("format", least=1)
    given.text("nctransfer")
    classes, counts = _classes(given)
    kind = given.text("classifier")
    if kind not in KINDS:
        raise ValueError(f"there is no classifier {kind[:100]!r}")
    like = given.text_or("unlikeness", RELATIVE)
    if like not in UNLIKENESSES:
        raise ValueError(f"there is no unlikeness {like[:100]!r}")
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(UNLIKENESS)}
    of_unlikeness = {name.removeprefix(UNLIKENESS): tensors[name] for name in tensors.keys() - own.keys()}
    _check_tensors(own, len(classes), sum(counts))
    head = Head(
        linear=LinearClassifier(
            classes=classes,
            weight=own["weight"],
            intercept=own["intercept"],
            centre=own["centre"],
            unit_length=given.flag("unit_length"),
            temperature=given.number("temperature", least=SMALLEST_TEMPERATURE),
            owners=own.get("owners"),
        ),
        counts=counts,
        classifier=kind,
        penalty=given.number_or_none("penalty", least=0),
        unlikeness=UNLIKENESSES[like].from_tensors(of_unlikeness, own["weight"].shape[1], len(classes)),
        held_out=HeldOut(
            probability=own["held_out.probability"],
            right=own["held_out.right"],
            unlikeness=own["held_out.unlikeness"],
        ),
        promise=_promise(given.of("promise")),
        origin=_origin(given.of("origin")),
        images=own.get("images"),
        max_error=given.number_or_none("max_error", least=1e-9, most=1),
        max_lost=given.number("max_lost", least=0, most=1 - 1e-9),
    )
    given.end()
    _try(head)
    return head


def _classes(given: CheckedValues) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names of the classes, and the number of training images of each."""
    classes = tuple(check_text(name, "the class name") for name in given.items("classes"))
    counts = given.wholes("counts", least=1)
    if len(classes) < 2 or len(counts) != len(classes):
        raise ValueError(f"it has {len(classes):,} class names and {len(counts):,} counts of training images")
    if len(set(classes)) < len(classes):
        raise ValueError("two classes have the same name")
    return classes, counts


def _check_tensors(tensors: Mapping[str, torch.Tensor], classes: int, images: int) -> None:
    """Check names, types, shapes and values of the tensors of a head, but for those of its unlikeness."""
    import torch

    weight = tensors.get("weight")
    dim = weight.shape[-1] if weight is not None and weight.ndim else 0
    rows = _rows(tensors.get("owners"), classes)
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "weight": (torch.float32, (rows, dim)),
        "intercept": (torch.float32, (rows,)),
        "owners": (torch.int64, (rows,)),
        "centre": (torch.float32, (dim,)),
        "held_out.probability": (torch.float32, (images,)),
        "held_out.right": (torch.bool, (images,)),
        "held_out.unlikeness": (torch.float32, (images,)),
        "images": (torch.int64, (images,)),
    }
    for name, (dtype, shape) in expected.items():
        tensor = tensors.get(name)
        if tensor is None and name in {"images", "owners"}:
            continue
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape or not tensor.numel():
            found = "missing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            raise ValueError(f"the tensor {name} is {found}; expected {dtype} of shape {shape}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"the tensor {name} holds NaN or infinite values")
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise ValueError(f"it has an unknown tensor {unknown[0][:100]!a}")
    probability = tensors["held_out.probability"]
    if bool(((probability < 0) | (probability > 1)).any()):
        raise ValueError("the tensor held_out.probability holds values that are not probabilities")


def _rows(owners: torch.Tensor | None, classes: int) -> int:
    """The number of rows of the classifier, from the class of each row if there is one."""
    import torch

    if owners is None:
        return classes
    if owners.dtype != torch.int64 or owners.ndim != 1 or not len(owners):
        raise ValueError(f"the tensor owners is {owners.dtype} of shape {tuple(owners.shape)}; expected whole numbers")
    steps = owners.diff()
    if int(owners[0]) != 0 or int(owners[-1]) != classes - 1 or bool(((steps < 0) | (steps > 1)).any()):
        raise ValueError(
            f"the tensor owners does not name the classes 0 to {classes - 1:,} in order, each at least once"
        )
    if int(owners.bincount().max()) > MOST_ROWS:
        raise ValueError(f"a class has more than {MOST_ROWS} rows in the tensor owners")
    return len(owners)


def _promise(given: CheckedValues) -> Promise:
    promise = Promise(
        accuracy=given.number("accuracy", 0, 1),
        interval=given.interval("interval", 0, 1),
        balanced_accuracy=given.number("balanced_accuracy", 0, 1),
        calibration_error=given.number("calibration_error", 0, 1),
        calibration_error_before=given.number("calibration_error_before", 0, 1),
        images=given.whole("images", least=1),
    )
    given.end()
    return promise


def _origin(given: CheckedValues) -> HeadOrigin:
    key = given.take("key")
    origin = HeadOrigin(
        key=None if key is None else _key(key),
        column=given.text("column"),
        weights=given.text_or_none("weights"),
        licence=given.text("licence"),
        data=given.text_or_none("data"),
        versions=given.texts("versions"),
    )
    given.end()
    return origin


def _key(values: Any) -> FeatureKey:
    """What determines the features. What timm would read as the path of a file is refused."""
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.backbones.overrides import check_transform, why_reserved
    from nctransfer.errors import NCTransferError

    key = FeatureKey.from_json(values)
    try:
        check_transform("the backbone", key.transform)
        json.dumps([key.transform, key.model_kwargs], allow_nan=False)
    except NCTransferError as error:
        raise ValueError(error.message) from error
    if refused := [name for name in key.model_kwargs if why_reserved(name)]:
        raise ValueError(f"the backbone may not be built with {refused[0][:100]!a}")
    return key


def _try(head: Head) -> None:
    """Try a head on the centre of its features: whatever gives no finite answer there is refused."""
    features = head.linear.centre[None]
    for answer in (head.linear.probabilities(features), head.unlikeness.of(features)):
        if not bool(answer.isfinite().all()):
            raise ValueError("its numbers are so large that it gives no finite answer")
