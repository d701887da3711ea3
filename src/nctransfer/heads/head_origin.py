"""Where the features of a head came from, and the licence of the weights that made them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nctransfer.errors import NCTransferError
from nctransfer.heads.head import HeadOrigin

if TYPE_CHECKING:
    from nctransfer.features.feature_stream import Features

__all__ = ["origin_of"]


def origin_of(features: Features) -> HeadOrigin:
    """Which features a head takes that is fitted to a set, and where they came from.

    A head is given to other people, so a full path becomes the name of its file or folder.

    Args:
        features: The training set.

    >>> import numpy as np, nctransfer as nct
    >>> origin = origin_of(nct.FeatureSet.from_arrays(np.eye(4), ["cat", "cat", "dog", "dog"]))
    >>> origin.key, origin.column, origin.licence, sorted(origin.versions)
    (None, 'feature', '', ['nctransfer', 'timm', 'torch'])
    """
    info = features.info
    data = info.data
    return HeadOrigin(
        key=info.key,
        column=info.layer,
        weights=info.weights,
        licence=_licence(info.key.model, info.weights or "") if info.key else "",
        data=Path(data).name if data and Path(data).is_absolute() else data,
        versions={name: version(name) for name in ("nctransfer", "timm", "torch")},
    )


def _licence(model: str, weights: str) -> str:
    """The licence of published weights, as timm records it; "" for weights of the user's own, or if it is not known.

    Args:
        model: timm's name of the model. Weights of the user's own may have a model with the name of published ones.
        weights: Where the weights came from, and their digest.
    """
    from nctransfer.backbones.names import resolve
    from nctransfer.backbones.weight_files import published_names

    try:
        spec = resolve(model, offline=True)
    except NCTransferError:  # a model of the user's own
        return ""
    is_published = weights.partition(" (digest ")[0] in published_names(spec)
    return str(spec.config.get("license") or "") if is_published else ""
