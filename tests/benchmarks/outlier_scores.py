"""Outlier scores: which one tells images of no class from new images of the classes, and how many of these are lost.

Features of three backbones, with 5 to 50 training images per class. Images of no class are `caltech_background.tar`
for Caltech, and for all three sets of data the images of classes that are not trained on. Each score sees the same
images. The data are in ``../shared``.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import solve_triangular
from sklearn.metrics import roc_auc_score

from page_tables import markdown

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulations"))

from laws import SHARED, feature_set, real_features
from racing import BACKBONES, IMG_SIZE

import nctransfer as nct
from nctransfer.evaluation.ridge_regression import RidgeRegressions
from nctransfer.heads.abstention import thresholds
from nctransfer.heads.head import HeldOut
from nctransfer.heads.unlikeness import fit_unlikeness
from nctransfer.neural_collapse.class_statistics import ClassStatistics

TITLE = "Outlier scores: telling images of no class from new images of the classes"
UNIT, LEDOIT_WOLF = ", unit length", ", shrunk by Ledoit and Wolf"
CHOSEN = f"relative Mahalanobis{UNIT} (chosen)"
MODELS = ("tf_efficientnet_lite0", "mobilenetv1_100", "resnet50")
SIZES = {"Caltech": (5, 15, 20), "CIFAR-FS": (5, 15, 50), "Omniglot": (5, 15)}
REPEATS = 2
LOST = 0.05

Array = np.ndarray


class Cell(NamedTuple):
    """Training images ``(C, n, d)``, new images of the classes and images of no class ``(m, d)``."""

    kind: str
    each: int
    known: Array
    new: Array
    unlike: Array


def cells(model: str, repeats: int) -> Iterator[Cell]:
    """All cells of a backbone."""
    rng = np.random.default_rng(5)
    for name, sizes in SIZES.items():
        settings = dict(BACKBONES[model])
        if "img_size" in settings:
            settings["img_size"] = IMG_SIZE.get(name, 128)
        rows = real_features(name, model, **settings)
        some = {"other classes": None}
        if name == "Caltech":
            background = nct.extract(model, SHARED / "data/caltech_background.tar", **settings)
            some["background"] = background.features.numpy()
        for kind, unlike in some.items():
            for each in sizes if unlike is None or name == "Caltech" else ():
                for _ in range(repeats):
                    mixed = np.stack([one[rng.permutation(len(one))] for one in rows[rng.permutation(len(rows))]])
                    classes = len(rows) if unlike is not None else len(rows) // 2
                    known, new = mixed[:classes, :each], np.concatenate(mixed[:classes, each:])
                    others = np.concatenate(mixed[classes:]) if unlike is None else unlike
                    yield Cell(f"{name}, {kind}", each, known, new, others)


def _nearest(rows: Array, others: Array, number: int = 1) -> Array:
    """The mean distance to the nearest of some others."""
    squared = (rows**2).sum(1)[:, None] + (others**2).sum(1) - 2 * rows @ others.T
    return np.sqrt(np.sort(squared.clip(0), axis=1)[:, :number]).mean(axis=1)


def _unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _whitened(rows: Array, residuals: Array, degrees: int, shrinkage: float | None) -> Array:
    """Rows in the metric of a covariance that is shrunk to a multiple of the identity; by Ledoit and Wolf if None."""
    covariance = residuals.T @ residuals / degrees
    size, mean = len(residuals), np.trace(covariance) / len(covariance)
    if shrinkage is None:
        squares = (covariance * degrees / size).ravel() @ (covariance * degrees / size).ravel()
        noise = (((residuals**2).sum(axis=1) ** 2).mean() - squares) / size
        share = min(1.0, noise / (squares - (mean * degrees / size) ** 2 * len(covariance)))
        covariance, shrinkage = (1 - share) * covariance, share
    factor = np.linalg.cholesky(covariance + max(shrinkage, 1e-6) * mean * np.eye(len(covariance)))
    return solve_triangular(factor, rows.T, lower=True).T


def _by_covariance(known: Array, labels: Array, tested: Array) -> dict[str, Array]:
    """Scores from covariances, of features as they are and at unit length."""
    found = {}
    for name, change in {LEDOIT_WOLF: lambda rows: rows, UNIT: _unit}.items():
        rows, new = change(known), change(tested)
        means = np.stack([rows[labels == code].mean(axis=0) for code in range(labels.max() + 1)])
        residuals, about = rows - means[labels], rows - rows.mean(axis=0)
        both = np.concatenate([new, means])
        white = _whitened(both, residuals, len(rows) - len(means), 3.0 if name == UNIT else None)
        near = _nearest(white[: len(new)], white[len(new) :]) ** 2
        far = (_whitened(new - rows.mean(axis=0), about, len(rows), 3.0 if name == UNIT else None) ** 2).sum(axis=1)
        found[f"Mahalanobis{name}"] = near
        found[f"relative Mahalanobis{name}" if name != UNIT else CHOSEN] = near - far
    return found


def _by_subspace(known: Array, tested: Array) -> dict[str, Array]:
    """What lies outside the principal subspace with 80% of the variance: absolute (as in ViM), and a share (NECO)."""
    mean = known.mean(axis=0)
    about = known - mean
    if len(known) < known.shape[1]:
        squares, vectors = np.linalg.eigh(about @ about.T)
        vectors = (about.T @ vectors / np.sqrt(squares.clip(1e-9 * squares[-1]))).T
    else:
        squares, vectors = np.linalg.eigh(about.T @ about)
        vectors = vectors.T
    squares, vectors = squares[::-1], vectors[::-1]
    number = int(np.searchsorted(np.cumsum(squares) / squares.sum(), 0.8)) + 1
    inside = (((tested - mean) @ vectors[:number].T) ** 2).sum(axis=1)
    every = ((tested - mean) ** 2).sum(axis=1)
    return {"residual outside the principal subspace": every - inside, "share of the norm inside it": -inside / every}


def _by_head(cell: Cell, tested: Array) -> dict[str, Array]:
    """Scores from a ridge head."""
    features = feature_set(cell.known)
    fits = RidgeRegressions(ClassStatistics.of(features, "cpu"), torch.device("cpu"))
    weight, intercept, centre = fits.linear_map(fits.left_out_errors(features).best)
    scores = ((torch.from_numpy(tested) - centre) @ weight.T + intercept).numpy()
    best = scores.max(axis=1)
    energy = best + 0.1 * np.log(np.exp((scores - best[:, None]) / 0.1).sum(axis=1))
    return {"largest score of ridge": -best, "energy of ridge": -energy}


def scores(cell: Cell) -> dict[str, Array]:
    """All scores of new images and of images of no class, in this order; a larger value is more unlike."""
    known = np.concatenate(cell.known).astype(np.float64)
    labels = np.arange(len(cell.known)).repeat(cell.each)
    tested = np.concatenate([cell.new, cell.unlike]).astype(np.float64)
    means, mean = cell.known.astype(np.float64).mean(axis=1), known.mean(axis=0)
    found = {
        "distance to the nearest image": _nearest(tested, known),
        "distance to the nearest image, by cosine": _nearest(_unit(tested), _unit(known)),
        "distance to the 5 nearest images, by cosine": _nearest(_unit(tested), _unit(known), 5),
        "distance to the nearest class centre": _nearest(tested, means),
        "nearest class centre, by cosine about the mean": _nearest(_unit(tested - mean), _unit(means - mean)),
    }
    return {**found, **_by_covariance(known, labels, tested), **_by_subspace(known, tested), **_by_head(cell, tested)}


def kept(cell: Cell) -> tuple[float, float, float]:
    """Of the chosen score as heads have it: AUROC, the share of new images lost, the share of no class held back."""
    model, left_out = fit_unlikeness(feature_set(cell.known), "cpu")
    everything = torch.ones(len(left_out))
    limit = thresholds(
        HeldOut(probability=everything, right=everything > 0, unlikeness=left_out), None, LOST
    ).unlikeness
    new, unlike = (model.of(torch.from_numpy(rows)).numpy() for rows in (cell.new, cell.unlike))
    return _auroc(new, unlike), float((new > limit).mean()), float((unlike > limit).mean())


def _auroc(new: Array, unlike: Array) -> float:
    return float(roc_auc_score(np.r_[np.zeros(len(new)), np.ones(len(unlike))], np.r_[new, unlike]))


def table(repeats: int = REPEATS) -> str:
    """Two tables: all scores, and the chosen one with thresholds of the training images alone."""
    areas: dict[str, dict[tuple[str, str, int], list[float]]] = defaultdict(lambda: defaultdict(list))
    held: dict[str, list[float]] = defaultdict(list)
    chosen: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
    for model in MODELS:
        for cell in cells(model, repeats):
            for name, values in scores(cell).items():
                new, unlike = values[: len(cell.new)], values[len(cell.new) :]
                areas[name][model, cell.kind, cell.each].append(_auroc(new, unlike))
                held[name].append(float((unlike > np.quantile(new, 1 - LOST)).mean()))
            chosen[cell.kind, cell.each].append(kept(cell))
        print(f"{model}: done", flush=True)
    return "\n\n".join([_compared(areas, held), _of_chosen(chosen)])


def _compared(areas: Mapping[str, Mapping[tuple[str, str, int], list[float]]], held: Mapping[str, list[float]]) -> str:
    means = {name: {key: float(np.mean(values)) for key, values in some.items()} for name, some in areas.items()}
    keys = list(next(iter(means.values())))
    best = {key: max(some[key] for some in means.values()) for key in keys}
    kinds, models = list(dict.fromkeys(kind for _, kind, _ in keys)), list(dict.fromkeys(model for model, *_ in keys))
    rows = []
    for name, some in means.items():
        by = [np.mean([some[key] for key in keys if key[1] == kind]) for kind in kinds]
        by += [np.mean([some[key] for key in keys if key[0] == model]) for model in models]
        behind = max(best[key] - some[key] for key in keys)
        mean = float(np.mean(list(some.values())))
        rows.append((mean, [name, *(f"{100 * one:.1f}" for one in [mean, *by, behind, np.mean(held[name])])]))
    heads = ["score", "mean", *kinds, *models, "furthest behind", "held back at 5% lost"]
    return markdown(heads, [row for _, row in sorted(rows, key=lambda row: -row[0])])


def _of_chosen(chosen: Mapping[tuple[str, int], list[tuple[float, float, float]]]) -> str:
    rows = []
    for (kind, each), values in chosen.items():
        area, lost, held = np.array(values).T
        shown = [f"{100 * area.mean():.1f}", f"{lost.mean():.1%}", f"{lost.std():.1%}", f"{held.mean():.0%}"]
        rows.append([kind, each, *shown])
    return markdown(["images of no class", "images per class", "AUROC", "lost", "spread of lost", "held back"], rows)
