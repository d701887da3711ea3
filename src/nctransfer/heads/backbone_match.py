"""The backbone of a head, built again and compared with the one that the head was fitted with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.building import load, make_fast, own_transform
from nctransfer.backbones.feature_key import FEATURE
from nctransfer.backbones.names import resolve
from nctransfer.backbones.plugins import import_plugin, plugin_digest
from nctransfer.backbones.request import BackboneRequest
from nctransfer.errors import ModelError, NCTransferError, SettingError, WeightsError, join_names
from nctransfer.paths import expanded, is_folder

if TYPE_CHECKING:
    from nctransfer.backbones.backbone import Backbone
    from nctransfer.backbones.feature_key import FeatureKey
    from nctransfer.backbones.hub import Progress
    from nctransfer.heads.head import Head

__all__ = ["backbone_for", "differences", "fast_backbone_for", "request_for"]

FOLDER = "local-dir:"
RANDOM = re.compile(r"random, seed (\d+)\b")
"""How the origin of a head names random weights."""
SETTINGS = ("mean", "std", "crop_pct", "interpolation")
"""Parts of a transform that a request can set by the same names."""
FIELDS = {
    "weights": "the digest of the weights",
    "transform": "the transform of images",
    "pool": "the pooling",
    "dtype": "the dtype",
    "store_dtype": "the dtype of stored features",
    "model_kwargs": "the arguments of the model",
    "format": "the version of features",
}
"""What is compared, in words. The name of a model is not: a folder may have been renamed, and other names are asked for
as they are. Nor is the plugin, which is compared before it is run."""


def backbone_for(
    head: Head,
    *,
    checkpoint: Path | None = None,
    plugin: str | None = None,
    device: str = "auto",
    offline: bool = False,
    progress: Progress | None = None,
) -> Backbone:
    """The backbone that a head was fitted with, loaded again.

    Args:
        head: The head.
        checkpoint: The file of the weights, if they are not published; for a model of a folder, the folder.
        plugin: The Python file or module that registers the architecture, if there was one.
        device: Where to run; see :func:`nctransfer.devices.pick_device`.
        offline: If true, no server is ever asked for weights.
        progress: Called as ``progress(stage, done, total)`` while weights are downloaded.

    Raises:
        ModelError: The head was fitted on features made elsewhere, the model or its plugin is missing, or the backbone
            is not the one that the head was fitted with.
        WeightsError: The weights are missing, or are not those that the head was fitted with.
        DeviceError: There is no such device.
    """
    request = request_for(head, checkpoint=checkpoint, plugin=plugin, offline=offline, progress=progress)
    key = _key(head)
    try:
        backbone = load(request, device, offline, progress)
    except WeightsError as error:
        if checkpoint is not None:
            raise
        raise WeightsError(
            f"the head needs the weights of {key.model} (digest {key.weights[:8]}): {error.message}",
            f"connect to the network and run again, or give their file with --checkpoint FILE{_known_as(head)}",
        ) from error
    if found := differences(backbone.key, key):
        raise _refusal(head, found, checkpoint)
    return backbone


def fast_backbone_for(head: Head, **options: Any) -> Backbone:
    """The same as :func:`backbone_for`, prepared to run many images."""
    backbone = backbone_for(head, **options)
    make_fast(backbone)
    return backbone


def request_for(
    head: Head,
    *,
    checkpoint: Path | None = None,
    plugin: str | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> BackboneRequest:
    """The request that builds the backbone of a head again; see :func:`backbone_for`."""
    key, column = _key(head), head.origin.column
    _run_plugin(key, plugin)
    origin: dict[str, Any] = {"model": key.model}
    if key.model.startswith(FOLDER):
        origin = {"model": FOLDER + str(_folder(head, checkpoint))}
    elif checkpoint is not None:
        origin |= {"checkpoint": checkpoint, "allow_missing": True}  # features do not depend on the classifier
    elif drawn := RANDOM.match(head.origin.weights or ""):
        origin |= {"random_init": True, "seed": int(drawn[1])}
    wanted = {
        **origin,
        "dtype": key.dtype,
        "store_dtype": key.store_dtype,
        "pool": None if key.pool == "pre_logits" else key.pool,
        "layers": None if column == FEATURE else column.rpartition("_")[2],
        "model_kwargs": dict(key.model_kwargs),
        "plugin": plugin,
    }
    try:
        changes = _changes(head, BackboneRequest(**wanted), offline, progress)
        return BackboneRequest(**wanted, **changes)
    except SettingError as error:  # not of the user, but of whoever wrote the head
        raise ModelError(f"the backbone of the head cannot be built: {error.message}", "fit the head again") from error


def differences(given: FeatureKey, needed: FeatureKey) -> dict[str, tuple[Any, Any]]:
    """In which fields two keys differ, with both values; of transforms and arguments only the parts that differ.

    >>> from nctransfer.backbones.feature_key import FeatureKey
    >>> one = FeatureKey(model="m", weights="a", transform={"crop_pct": 0.9, "mean": (0.5,)})
    >>> other = FeatureKey(model="m", weights="b", transform={"crop_pct": 1.0, "mean": [0.5]})
    >>> differences(one, other)
    {'weights': ('a', 'b'), 'transform': ({'crop_pct': 0.9}, {'crop_pct': 1.0})}
    """
    found = {}
    one, other = (json.loads(json.dumps(asdict(key))) for key in (given, needed))
    for name in FIELDS:
        here, there = one[name], other[name]
        if here == there:
            continue
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            parts = [part for part in {**here, **there} if here.get(part) != there.get(part)]
            here, there = ({part: side[part] for part in parts if part in side} for side in (here, there))
        found[name] = here, there
    return found


def _key(head: Head) -> FeatureKey:
    """The key of the features that the head takes.

    Raises:
        ModelError: It is not known.
    """
    if head.origin.key is None:
        raise ModelError(
            "the head was fitted on features made elsewhere, so its backbone is not known",
            "compute the features of new images in the same way, and use head.linear.probabilities; or fit a head on "
            "features that nctransfer extracts: nctransfer fit --model NAME --data IMAGES",
        )
    return head.origin.key


def _run_plugin(key: FeatureKey, plugin: str | None) -> None:
    """Run the plugin of a head, if it is the one that the head was fitted with.

    Raises:
        ModelError: It is missing, or is another one, which is not run.
    """
    if plugin is None and key.plugin:
        raise ModelError(
            f"the model {key.model} of the head was registered by a plugin (digest {key.plugin[:8]})",
            "give this Python file with --plugin FILE",
        )
    if plugin is None:
        return
    if (given := plugin_digest(plugin)) != key.plugin:
        needed = f"another one, with the digest {key.plugin[:8]}" if key.plugin else "no plugin"
        raise ModelError(
            f"the plugin {plugin!r} has the digest {given[:8]}, and the head was fitted with {needed}",
            "give the plugin that the head was fitted with: --plugin FILE" if key.plugin else "leave out --plugin",
        )
    import_plugin(plugin)


def _folder(head: Head, checkpoint: Path | None) -> Path:
    """The folder of a ``local-dir:`` model; a head knows its name alone."""
    key = _key(head)
    if checkpoint is None or not is_folder(expanded(checkpoint)):
        raise WeightsError(
            f"the head needs the model in the folder {key.model.removeprefix(FOLDER)!r}"
            + ("" if checkpoint is None else f", and {str(checkpoint)!r} is not a folder"),
            "give this folder with --checkpoint FOLDER",
        )
    return expanded(checkpoint)


def _changes(head: Head, request: BackboneRequest, offline: bool, progress: Progress | None) -> dict[str, Any]:
    """The settings of the transform in which the head's features differ from the model's own."""
    key = _key(head)
    try:
        spec = resolve(request.model, offline, progress)
    except ModelError as error:
        timm = head.origin.versions.get("timm")
        fitted = f"; the head was fitted with timm {timm}" if timm else ""
        raise type(error)(f"{error.message}{fitted}", error.hint) from error
    is_published = not (request.checkpoint or request.random_init)
    if is_published and spec.name != key.model and not spec.folder:
        raise WeightsError(
            f"the head needs weights of {key.model} that are not the published ones (digest {key.weights[:8]})",
            f"give their file with --checkpoint FILE{_known_as(head)}",
        )
    own, wanted = (json.loads(json.dumps(one)) for one in (own_transform(spec, request), dict(key.transform)))
    changes = {name: wanted[name] for name in SETTINGS if name in wanted and wanted[name] != own[name]}
    changes |= {name: tuple(changes[name]) for name in ("mean", "std") if name in changes}
    size = wanted.get("input_size", own["input_size"])
    if size != own["input_size"] and size[1] == size[2]:
        changes["img_size"] = size[1]
    return changes


def _refusal(head: Head, found: Mapping[str, tuple[Any, Any]], checkpoint: Path | None) -> NCTransferError:
    """The error that names what differs from the backbone of the head, and what to do."""
    said = [
        f"{FIELDS[name]} is {_shown(name, given)} and should be {_shown(name, needed)}"
        for name, (given, needed) in found.items()
    ]
    message = f"this is not the backbone that the head was fitted with: {join_names(said, len(said))}"
    if "weights" in found:
        file = "another file" if checkpoint is not None else "the file of the right ones"
        return WeightsError(message, f"give {file} with --checkpoint FILE{_known_as(head)}, or fit the head again")
    versions = ", ".join(f"{name} {version}" for name, version in head.origin.versions.items())
    return ModelError(
        message, f"fit the head again{f', or install the versions that fitted it: {versions}' if versions else ''}"
    )


def _known_as(head: Head) -> str:
    """What the weights of the head were called, in parentheses."""
    return f" (they were {head.origin.weights})" if head.origin.weights else ""


def _shown(name: str, value: Any) -> str:
    if name == "weights":
        return str(value)[:8]
    if isinstance(value, Mapping):
        return ", ".join(f"{part} {one}" for part, one in value.items()) or "absent"
    return str(value)
