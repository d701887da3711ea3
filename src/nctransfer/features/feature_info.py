"""What a set of features is: where it came from, and its size."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nctransfer.backbones.feature_key import FeatureKey

__all__ = ["FeatureInfo"]


@dataclass(frozen=True)
class FeatureInfo:
    """What a set of features is and where it came from; a field is ``None`` where that is not known.

    The ``info`` of a feature set has no sizes; its ``describe()`` returns this description with the sizes.

    Attributes:
        id: The id of a stored set, the path of a file, or ``arrays``.
        model: The backbone.
        weights: Where the weights of the backbone came from, and their digest.
        data: The name of the data set.
        split: The split that was selected.
        layer: The column of the features: ``feature``, or a layer such as ``layer_3``.
        label_column: The column that the classes are from, or several, if it was named: a column of the data or an
            attribute of a stored set.
        path: The Parquet folder or the file that the features were read from.
        samples: The number of samples, n.
        classes: The number of classes, C.
        dim: The number of features per sample, d.
        missing: The number of wanted images that are not stored, because some were enough. Images that gave no
            features do not count.
        key: Everything about the backbone that changes the features; the id of a stored set stands for it already, so
            that two descriptions are equal without it.
    """

    id: str
    _: KW_ONLY
    model: str | None = None
    weights: str | None = None
    data: str | None = None
    split: str | None = None
    layer: str = "feature"
    label_column: str | None = None
    path: str | None = None
    samples: int | None = None
    classes: int | None = None
    dim: int | None = None
    missing: int = field(default=0, compare=False)
    key: FeatureKey | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dictionary for JSON."""
        return asdict(self)
