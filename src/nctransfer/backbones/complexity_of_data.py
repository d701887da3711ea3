"""The geometric complexity of a backbone on labelled images, both by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nctransfer.backbones.building import load
from nctransfer.backbones.geometric_complexity import PROBES, TARGET, geometric_complexity
from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.backbones.request import BackboneRequest
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.sources.source_kind import ReadingOptions

if TYPE_CHECKING:
    from nctransfer.backbones.geometric_complexity import GeometricComplexity
    from nctransfer.backbones.hub import Progress

__all__ = ["complexity"]


def complexity(
    model: str = DEFAULT_MODEL,
    data: str | os.PathLike[str] = "digits",
    images: int = 32,
    *,
    probes: int = PROBES,
    target: float = TARGET,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    exclude_classes: Sequence[str] = (),
    max_per_class: int | None = None,
    reading: ReadingOptions | None = None,
    seed: int = 0,
    device: str = "auto",
    offline: bool = False,
    progress: Progress | None = None,
    **backbone: Any,
) -> GeometricComplexity:
    """How much the features of a backbone change with the image: ``E ‖∂f/∂x‖²_F``, by Hutchinson's method.

    Args:
        model: A timm model or short name (``"vit_base"``), ``hf-hub:owner/name`` or ``local-dir:folder``.
        data: Labelled images of any kind that :mod:`nctransfer.sources.opening` reads, or ``"digits"``.
        images: How many images to take at most, at least 2.
        probes: Random vectors per image, each with one backward pass.
        target: No more images are taken once the relative standard error is below it; 0 takes all.
        split: Take only this split of the data.
        classes: Take only these classes.
        exclude_classes: Leave these classes out.
        max_per_class: Take up to this many images per class, drawn at random with ``seed``.
        reading: How to read the data, for example the names of columns; see
            :class:`~nctransfer.sources.source_kind.ReadingOptions`.
        seed: The seed of every random draw.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        offline: If true, no server is ever asked for weights.
        progress: Called as ``progress(stage, done, total)``.
        **backbone: Further fields of :class:`~nctransfer.backbones.request.BackboneRequest`, as for
            :func:`~nctransfer.store.extraction.extract`.

    Raises:
        NCTransferError: See :mod:`nctransfer.errors`.
        TypeError: There is no such argument.
    """
    if backbone.get("checkpoint") is not None:
        backbone["checkpoint"] = Path(backbone["checkpoint"])
    selection = Selection(
        split,
        classes=None if classes is None else tuple(classes),
        exclude_classes=tuple(exclude_classes),
        max_per_class=max_per_class,
        seed=seed,
    )
    return geometric_complexity(
        load(BackboneRequest(model, seed=seed, **backbone), device, offline, progress),
        open_source(data, replace(reading or ReadingOptions(), split=split, offline=offline)),
        images,
        selection,
        probes=probes,
        target=target,
        seed=seed,
        progress=progress,
    )
