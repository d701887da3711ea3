"""Fine structure inside classes as a result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nctransfer.notebook import ShownInNotebooks

if TYPE_CHECKING:
    import pandas as pd

    from nctransfer.features.feature_info import FeatureInfo

__all__ = ["FineClass", "FineLayer", "FineStructure"]

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FineClass:
    """The fine classes inside one coarse class.

    Attributes:
        name: The coarse class.
        fine_classes: The number of its fine classes of two samples or more.
        samples: Their samples.
        accuracy: Leave-one-out accuracy of the nearest fine-class centre, fine classes weighted equally.
        chance: One over the number of fine classes.
        permuted: The mean of ``accuracy`` with the fine labels of this class permuted. It is below chance.
        explained: The share of the variance inside the coarse class that lies between its fine classes, adjusted so
            that it is 0 on average for labels at random.
        cdnv: The CDNV of pairs of its fine classes, averaged.
    """

    name: str
    fine_classes: int
    samples: int
    accuracy: float
    chance: float
    permuted: float
    explained: float
    cdnv: float

    def to_row(self) -> dict[str, Any]:
        """The class as a row of a table."""
        row = asdict(self)
        return row | {"class": row.pop("name"), "cdnv_inside": row.pop("cdnv")}


@dataclass(frozen=True, kw_only=True)
class FineLayer:
    """The fine structure of one layer: averages over coarse classes, with 95% intervals over other coarse classes.

    Attributes:
        name: The layer; ``feature`` is the pooled output.
        accuracy: Leave-one-out accuracy of the nearest fine-class centre inside the coarse class.
        accuracy_interval: Its interval; ``None`` for fewer than three coarse classes.
        permuted: The same with fine labels permuted inside each coarse class.
        p_value: How often permuted labels reach the accuracy: ``(1 + times) / (1 + permutations)``.
        explained: The share of the variance inside coarse classes that lies between fine classes, adjusted.
        explained_interval: Its interval.
        cdnv_inside: The CDNV of pairs of fine classes of one coarse class.
        cdnv_inside_interval: Its interval.
        cdnv_across: The CDNV of pairs of fine classes of two coarse classes; ``None`` if there is one coarse class.
        cdnv_across_interval: Its interval.
        coarse_accuracy: Leave-one-out accuracy of the nearest coarse-class centre, coarse classes weighted equally;
            ``None`` if there is one coarse class.
        classes: Each coarse class.
        to_last: ``accuracy`` less that of the last layer; ``None`` in the last.
        to_last_interval: Its interval, paired by coarse class; those of all layers hold together (Bonferroni).
    """

    name: str
    accuracy: float
    accuracy_interval: Range | None
    permuted: float
    p_value: float
    explained: float
    explained_interval: Range | None
    cdnv_inside: float
    cdnv_inside_interval: Range | None
    cdnv_across: float | None
    cdnv_across_interval: Range | None
    coarse_accuracy: float | None
    classes: tuple[FineClass, ...]
    to_last: float | None = None
    to_last_interval: Range | None = None

    def to_row(self) -> dict[str, Any]:
        """The layer as a row of a table."""
        row: dict[str, Any] = {"layer": self.name}
        for name in ("accuracy", "explained", "cdnv_inside", "cdnv_across", "to_last"):
            low, high = getattr(self, f"{name}_interval") or (None, None)
            row |= {name: getattr(self, name), f"{name}_low": low, f"{name}_high": high}
        return row | {
            "permuted": self.permuted,
            "p_value": self.p_value,
            "coarse_accuracy": self.coarse_accuracy,
            "chance": sum(one.chance for one in self.classes) / len(self.classes),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """The row of all classes together, whose ``class`` is ``None``, and one for each coarse class."""
        whole = {"layer": self.name, "class": None} | self.to_row()
        return [whole, *({"layer": self.name} | one.to_row() for one in self.classes)]


@dataclass(frozen=True, kw_only=True)
class FineStructure(ShownInNotebooks):
    """How well fine classes are told apart inside their coarse class, by layer.

    Attributes:
        features: What was measured; the last layer.
        column: The attribute that names the fine classes.
        layers: The layers, from the first to the last.
        permutations: How often fine labels were permuted.
        chance: The mean over coarse classes of one over the number of fine classes.
        fine_classes: The number of fine classes in all.
        left_out: Coarse classes with fewer than two fine classes of two samples, which are left out.
        without_label: Samples without a fine label.
        undefined: Why a value is missing, by name.
    """

    features: FeatureInfo
    column: str
    layers: tuple[FineLayer, ...]
    permutations: int
    chance: float
    fine_classes: int
    left_out: tuple[str, ...] = ()
    without_label: int = 0
    undefined: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The result as a dictionary for JSON."""
        return asdict(self) | {
            "features": self.features.to_dict(),
            "left_out": list(self.left_out),
            "layers": [asdict(layer) for layer in self.layers],
        }

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer, with no ``class``, and after it one for each coarse class."""
        import pandas as pd

        frame = pd.DataFrame([row for layer in self.layers for row in layer.to_rows()])
        return frame.astype(dict.fromkeys(("fine_classes", "samples"), "Int64"))  # whole numbers, where some have none
