"""Features with their labels, in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nctransfer.errors import FeaturesError, counted, did_you_mean, join_names
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.notebook import ShownInNotebooks
from nctransfer.sources.arrow_arrays import as_flags, integers, strings_of, text_bytes, values_of
from nctransfer.sources.attribute_columns import column_names
from nctransfer.sources.attributes import MOST_LETTERS, MOST_NAME, attribute_text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from numpy.typing import ArrayLike, NDArray

__all__ = ["FeatureSet", "coded", "id_ranks"]

MOST_DIGITS = 18  # of a number in 64 bits


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FeatureSet(ShownInNotebooks):
    """Features and labels of n samples from C classes.

    Attributes:
        features: ``(n, d)``, float32 or float64, on the CPU.
        labels: ``(n,)`` int64 codes in ascending order: sample ``i`` is of class ``classes[labels[i]]``.
        classes: The C class names, sorted.
        ids: The n sample names, sorted within each class.
        info: Where the features came from.
        images: A digest of each image, ``(n,)`` int64; ``None`` if the images are not known.
        attributes: What else is known of the samples, for example the site where each was taken: n texts for each name;
            "" where a sample has none.

    >>> import numpy as np
    >>> FeatureSet.from_arrays(np.eye(4), ["b", "a", "b", "a"]).counts.tolist()
    [2, 2]
    """

    features: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    info: FeatureInfo
    images: torch.Tensor | None = None
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        features: ArrayLike | torch.Tensor,
        labels: Iterable[object],
        ids: Iterable[object] | None = None,
        info: FeatureInfo | None = None,
        *,
        images: torch.Tensor | None = None,
        attributes: Mapping[str, Iterable[object]] | None = None,
        copy: bool = True,
    ) -> FeatureSet:
        """A feature set from arrays.

        Args:
            features: ``(n, d)``; float64 is kept, other types become float32.
            labels: n class names or codes.
            ids: n distinct sample names; by default the numbers of the rows.
            info: Where the features came from.
            images: A digest of each image, ``(n,)`` int64, if they are known.
            attributes: What else is known of the samples: n texts for each name. Whole numbers and booleans become
                text, None and NaN become "".
            copy: If false, an array whose rows are in order already is not copied, and must not be changed later.

        Raises:
            FeaturesError: The shapes do not fit together, there is no row, a value is NaN or infinite, or an attribute
                holds something else.
        """
        import numpy as np
        import torch

        matrix = _as_floats(features)
        names = [str(label.item() if hasattr(label, "item") else label) for label in labels]
        if matrix.ndim != 2 or len(matrix) != len(names) or matrix.size == 0:
            raise FeaturesError(
                f"features of shape {matrix.shape} do not go with {len(names):,} labels",
                "expected a matrix with one row per sample, at least one, and one label for each row",
            )
        width = len(str(len(names) - 1))
        keys = [str(i) for i in ids] if ids is not None else [f"{i:0{width}d}" for i in range(len(names))]
        if len(keys) != len(names):
            raise FeaturesError(f"{len(keys):,} ids do not go with {len(names):,} labels")
        classes, codes = np.unique(np.array(names, dtype=object), return_inverse=True)
        order = np.lexsort((id_ranks(keys), codes))
        in_order = bool((order[:-1] < order[1:]).all())
        rows = torch.from_numpy(matrix if in_order and not copy else np.take(matrix, order, axis=0))
        ordered = tuple(keys[i] for i in order.tolist())
        _check_finite(rows, ordered)
        return cls(
            features=rows,
            labels=torch.from_numpy(codes[order].astype(np.int64)),
            classes=tuple(classes.tolist()),
            ids=ordered,
            info=info or FeatureInfo("arrays"),
            images=None if images is None else images[torch.from_numpy(order)],
            attributes={
                name: tuple(map(_texts(name, values, len(names)).__getitem__, order.tolist()))
                for name, values in (attributes or {}).items()
            },
        )

    def __repr__(self) -> str:
        size = f"{len(self):,} samples, {counted(len(self.classes), 'class', 'classes')}, width {self.dim:,}"
        return f"FeatureSet({self.info.id}: {size})"

    def __len__(self) -> int:
        """The number of samples, n."""
        return len(self.labels)

    @property
    def dim(self) -> int:
        """The feature width, d."""
        return self.features.shape[1]

    @property
    def counts(self) -> torch.Tensor:
        """The number of samples of each class, ``(C,)`` int64."""
        return self.labels.bincount(minlength=len(self.classes))

    @property
    def order(self) -> torch.Tensor:
        """The numbers of the rows, sorted by class and then by id, as they are, ``(n,)`` int64."""
        import torch

        return torch.arange(len(self))

    def attribute(self, name: str) -> tuple[str, ...]:
        """What one attribute says of each sample, n texts.

        Args:
            name: The name of an attribute, or several names that commas separate: of ``species,site``, texts such as
                ``cat/north``, and "" where one of the attributes is empty.

        Raises:
            FeaturesError: There is no such attribute.

        >>> given = {"species": ["cat", "dog"], "site": ["north", ""]}
        >>> FeatureSet.from_arrays([[1.0], [2.0]], "ab", attributes=given).attribute("species,site")
        ('cat/north', '')
        """
        if name in self.attributes:
            return self.attributes[name]
        if len(parts := column_names(name, self.attributes)) > 1:
            rows = zip(*map(self.attribute, parts), strict=True)
            return tuple("/".join(texts) if all(texts) else "" for texts in rows)
        there = sorted(self.attributes)
        has = f"{did_you_mean(name, there)} it has {join_names(list(map(repr, there)), 20)}".strip()
        raise FeaturesError(
            f"{self.info.id} has no attribute {name!r}",
            has if there else f"read them with the features: load_features(…, attributes=({name!r},))",
        )

    def batches(self, rows: int = 1024) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features and labels in batches of up to ``rows``; 1024 rows mostly stay in the cache of a core."""
        for start in range(0, len(self), rows):
            yield self.features[start : start + rows], self.labels[start : start + rows]

    def only_classes(self, codes: torch.Tensor) -> FeatureSet:
        """The samples of some classes, which are given by their codes in ascending order."""
        import torch

        chosen = self.only_rows(torch.isin(self.labels, codes).nonzero()[:, 0])
        return replace(
            chosen,
            labels=torch.searchsorted(codes, chosen.labels),
            classes=tuple(self.classes[code] for code in codes.tolist()),
        )

    def only_rows(self, rows: torch.Tensor) -> FeatureSet:
        """The samples at some positions, in an order in which labels ascend. Classes without samples stay."""
        return replace(
            self,
            features=self.features[rows],
            labels=self.labels[rows],
            ids=tuple(self.ids[row] for row in rows.tolist()),
            images=None if self.images is None else self.images[rows],
            attributes={name: tuple(values[row] for row in rows.tolist()) for name, values in self.attributes.items()},
        )

    def describe(self) -> FeatureInfo:
        """Where the features came from, with the numbers of samples, classes and dimensions."""
        return replace(self.info, samples=len(self), classes=len(self.classes), dim=self.dim)

    def to_dict(self) -> dict[str, Any]:
        """The description as a dictionary for JSON; see :meth:`describe`."""
        return self.describe().to_dict()


def coded(labels: Sequence[str]) -> tuple[torch.Tensor, tuple[str, ...]]:
    """Class names as codes ``(n,)``, and the sorted names that the codes stand for.

    >>> codes, names = coded(["dog", "cat", "dog"])
    >>> codes.tolist(), names
    ([1, 0, 1], ('cat', 'dog'))
    """
    import torch

    classes = sorted(set(labels))
    code = {name: number for number, name in enumerate(classes)}
    return torch.tensor([code[label] for label in labels], dtype=torch.int64), tuple(classes)


def _as_floats(features: ArrayLike | torch.Tensor) -> NDArray[Any]:
    """The values as an array: float64 if they are, else float32."""
    import numpy as np
    import torch

    if isinstance(features, torch.Tensor):
        tensor = features.detach().cpu()
        features = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
    try:
        matrix = np.asarray(features)
    except ValueError as error:
        raise FeaturesError("the features are not a matrix: rows are of unequal length") from error
    if matrix.dtype.kind not in "fiub":
        raise FeaturesError(f"the features are of type {matrix.dtype}, not real numbers")
    kept = np.float64 if matrix.dtype.kind == "f" and matrix.dtype.itemsize == 8 else np.float32
    return matrix.astype(kept, copy=False)


def id_ranks(keys: Sequence[str] | pa.Array) -> NDArray[np.intp]:
    """The rank of each key: numbers are sorted by value, names by their letters.

    Raises:
        FeaturesError: Two keys are equal, so that the order of their rows would depend on the order in the file.

    >>> id_ranks(["10", "9", "09"]).tolist(), id_ranks(["10", "9", "a"]).tolist()
    ([2, 1, 0], [0, 1, 2])
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    # as bytes of UTF-8, names are in the order of their letters
    given = keys if isinstance(keys, pa.Array) else strings_of(*_as_bytes(keys))
    names = given.cast(pa.large_binary())
    if as_flags(compute.less(names[:-1], names[1:])).all():
        by_letters, in_order = np.arange(len(names)), names
    else:
        by_letters = values_of(compute.sort_indices(names)).astype(np.intp)
        in_order = names.take(integers(by_letters))
    if len(names) > 1 and (twice := as_flags(compute.equal(in_order[:-1], in_order[1:]))).any():
        text = in_order[int(twice.argmax())].as_py().decode(errors="surrogatepass")
        raise FeaturesError(f"the id {text!r} stands for more than one sample", "ids must be distinct")
    order = by_letters[_by_value(in_order)] if _are_numbers(names) else by_letters
    ranks = np.empty(len(names), dtype=np.intp)
    ranks[order] = np.arange(len(names))
    return ranks


def _as_bytes(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int64]]:
    """Texts in UTF-8, one after the other, and the length of each; half of a surrogate pair is taken as a letter."""
    import numpy as np

    parts = [text.encode(errors="surrogatepass") for text in texts]
    return b"".join(parts), np.fromiter(map(len, parts), np.int64, len(parts))


def _are_numbers(names: pa.Array) -> bool:
    """Whether each name is a number: at least one ASCII digit, and nothing else."""
    lengths, content = text_bytes(names)
    return bool((lengths > 0).all() and ((content >= ord("0")) & (content <= ord("9"))).all())


def _by_value(numbers: pa.Array) -> NDArray[np.intp]:
    """The order of numbers by their value, which may have any number of digits; equal ones stay in their order."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    digits = compute.ascii_ltrim(numbers.cast(pa.large_string()), characters="0")
    lengths = text_bytes(digits)[0]
    if len(lengths) and lengths.max() <= MOST_DIGITS:
        padded = compute.ascii_lpad(digits, int(max(1, lengths.max())), padding="0")
        return np.argsort(values_of(padded.cast(pa.int64())), kind="stable")
    ranks = np.unique(np.array(digits.to_pylist(), dtype=object), return_inverse=True)[1]
    return np.lexsort((ranks, lengths))


def _texts(name: str, values: Iterable[object], size: int) -> list[str]:
    """The texts of an attribute.

    Raises:
        FeaturesError: There is not one for each sample, or a value is no text, or too long.
    """
    given = list(values)
    if len(given) != size:
        raise FeaturesError(
            f"the attribute {name!r} has {counted(len(given), 'value')} for {counted(size, 'sample')}",
            "give one text for each sample",
        )
    known = {(type(value), str(value)): attribute_text(_plain(value)) for value in given}
    if wrong := [said for (_, said), text in known.items() if text is None]:
        raise FeaturesError(
            f"the attribute {name!r} holds {wrong[0]!r}, which is neither text nor a whole number nor a boolean",
            "give texts",
        )
    if len(name) > MOST_NAME or max(len(text or "") for text in known.values()) > MOST_LETTERS:
        raise FeaturesError(
            f"the attribute {name[:50]!r} has a longer name or text than tables hold",
            f"give names of at most {MOST_NAME} and texts of at most {MOST_LETTERS:,} characters",
        )
    return [known[type(value), str(value)] or "" for value in given]


def _plain(value: object) -> object:
    """A value of NumPy as one of Python, and ``None`` for NaN."""
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and math.isnan(plain) else plain


def _check_finite(matrix: torch.Tensor, ids: Sequence[str]) -> None:
    import torch

    bad = torch.cat([~rows.isfinite().all(dim=1) for rows in torch.split(matrix, 4096)])
    if count := int(bad.sum()):
        first = ids[int(bad.nonzero()[0])]
        raise FeaturesError(
            f"{count:,} of {len(matrix):,} rows hold NaN or infinite values; the first is {first!r}",
            "leave these samples out, or correct the program that wrote them",
        )
