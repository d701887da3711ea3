"""Laws of classes and images, from which the simulations draw: their truth is known, or known by symmetry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import nctransfer as nct
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.features.feature_set import FeatureSet

WIDTH = 48
Rng = np.random.Generator


@dataclass(frozen=True)
class Law:
    """How class means, and images about them, are drawn.

    Attributes:
        name: What the tables call it.
        means: From a generator and a number of classes to means, ``(C, d)``.
        noise: From a generator, C and the number of images per class to what is added to the means, ``(C, n, d)``.
        spread: The standard deviation over classes of the logarithm of how far their images lie from their mean.
    """

    name: str
    means: Callable[[Rng, int], np.ndarray]
    noise: Callable[[Rng, int, int], np.ndarray]
    spread: float = 0.0


SPECTRUM = 1 / np.sqrt(np.arange(1, WIDTH + 1))  # standard deviations whose squares fall as 1/k
SPECTRUM *= np.sqrt(WIDTH / (SPECTRUM**2).sum())


def _normal(rng: Rng, classes: int, each: int) -> np.ndarray:
    return rng.normal(size=(classes, each, WIDTH))


def _power_law(rng: Rng, classes: int, each: int) -> np.ndarray:
    return _normal(rng, classes, each) * SPECTRUM


def _heavy(rng: Rng, classes: int, each: int) -> np.ndarray:
    """Images far out: t with 4 degrees of freedom."""
    return _normal(rng, classes, each) * np.sqrt(2 / rng.chisquare(4, size=(classes, each, 1)))


FAMILIES = 0.4 * np.random.default_rng(0).normal(size=(8, WIDTH))


def _families(rng: Rng, classes: int) -> np.ndarray:
    """Every class belongs to one of eight families, and is confused with its own."""
    return FAMILIES[rng.integers(0, len(FAMILIES), classes)] + 0.25 * rng.normal(size=(classes, WIDTH))


LAWS = (
    Law("Gaussian", lambda rng, classes: 0.4 * rng.normal(size=(classes, WIDTH)), _normal),
    Law("power-law spectrum", lambda rng, classes: 0.6 * rng.normal(size=(classes, WIDTH)) * SPECTRUM, _power_law),
    Law("heavy tails", lambda rng, classes: 0.4 * rng.normal(size=(classes, WIDTH)), _heavy, 0.4),
    Law("families", _families, _normal),
)


SHARED = Path(__file__).resolve().parents[3] / "shared"
REAL = {
    "Caltech": ("data/caltech60.tar", None),
    "CIFAR-FS": ("data/cifar100/test.parquet", "data/cifar100/splits/cifar_fs/test.txt"),
    "Omniglot": ("data/omniglot_small1.tar", None),
}


NAMES = {"caltech60.tar": "Caltech", "omniglot_small1.tar": "Omniglot", "test.parquet": "CIFAR-FS"}


def real_features(name: str, model: str = "tf_efficientnet_lite0", **backbone: Any) -> np.ndarray:
    """Features of real images, ``(C, n, d)``: as many per class as all classes have.

    Args:
        name: The data.
        model: The backbone.
        **backbone: How it runs, as in :func:`nctransfer.extract`.

    Raises:
        FileNotFoundError: The data are not in ``../shared``.
    """
    data, classes = REAL[name]
    if not (SHARED / data).exists():
        raise FileNotFoundError(f"{SHARED / data} is not there")
    names = None if classes is None else (SHARED / classes).read_text().split("\n")
    chosen = None if names is None else [line.strip() for line in names if line.strip()]
    found = nct.extract(model, SHARED / data, classes=chosen, **backbone)
    each = int(found.counts.min())
    rows = [found.features[found.labels == code][:each].numpy() for code in range(len(found.classes))]
    return np.stack(rows)


def real_sets() -> Iterator[tuple[str, str, np.ndarray]]:
    """Real features: the name of the data, that of the set, and features ``(C, n, d)``.

    They are those of the stored sets in the folder ``$NCTRANSFER_FEATURES``, or else of ``tf_efficientnet_lite0`` on
    the data in ``../shared``.
    """
    folder = os.environ.get("NCTRANSFER_FEATURES")
    if folder is None:
        for name in REAL:
            try:
                yield name, name, real_features(name)
            except FileNotFoundError as error:
                print(error)
        return
    for path in sorted({one.parent for one in Path(folder).rglob("*.parquet")}):
        found = nct.load_features(path)
        each = int(found.counts.min())
        rows = np.stack([found.features[found.labels == code][:each].numpy() for code in range(len(found.classes))])
        data = Path(found.info.data or path.name).name
        yield NAMES.get(data, data), path.parent.name, rows


def halves(rows: np.ndarray, images: Rng, count: int) -> list[FeatureSet]:
    """Two disjoint halves of the images of some classes, as if they were two backbones: they are equal in truth.

    Args:
        rows: Features, ``(C, n, d)``.
        images: The generator.
        count: How many classes are drawn.
    """
    classes = images.permutation(len(rows))[:count]
    size = rows.shape[1] // 2
    mixed = np.stack([rows[code][images.permutation(rows.shape[1])[: 2 * size]] for code in classes])
    return [feature_set(mixed[:, :size]), feature_set(mixed[:, size:])]


def feature_set(rows: np.ndarray) -> FeatureSet:
    """Features ``(C, n, d)`` as a set."""
    classes, each, width = rows.shape
    labels = np.repeat([f"{code:05}" for code in range(classes)], each)
    return FeatureSet.from_arrays(rows.reshape(-1, width).astype(np.float32), labels, info=FeatureInfo("simulated"))


def backbones(
    law: Law,
    classes: Rng,
    images: Rng,
    count: int,
    each: int,
    scales: Sequence[float],
    own_means: bool,
    shared: float = 0.5,
) -> list[FeatureSet]:
    """Features of the same images under several backbones.

    Backbones of equal scale are equal in truth: over other images of these classes if they have the same class means,
    over other classes of this kind in any case.

    Args:
        law: The law.
        classes: The generator of the classes. The same seed draws the same classes.
        images: The generator of the images.
        count: The number of classes.
        each: Images per class.
        scales: How noisy each backbone is.
        own_means: Whether backbones differ in where the classes lie, and not only in where images lie about them.
        shared: The share of the variance of what is not equal that backbones have in common.
    """
    common, own = np.sqrt(shared), np.sqrt(1 - shared)
    means = law.means(classes, count)
    spread = np.exp(law.spread * classes.normal(size=(count, 1, 1)))
    hard = law.noise(images, count, each)
    found = []
    for scale in scales:
        centres = common * means + own * law.means(classes, count) if own_means else means
        noise = common * hard + own * law.noise(images, count, each)
        found.append(feature_set(centres[:, None] + scale * spread * noise))
    return found
