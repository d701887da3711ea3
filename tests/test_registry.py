"""Registries: entries of this package and of others, and what another package's measure and classifier give."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from messages import says
from nctransfer.episodes.registry import CLASSIFIERS, choose_classifiers, reported_names
from nctransfer.errors import PluginError, SettingError
from nctransfer.neural_collapse.measure_attributes import MeasureAttributes
from nctransfer.neural_collapse.registry import MEASURES, correlated_measures
from nctransfer.registry import Registry
from other_package import install


@dataclass(frozen=True)
class Shape:
    """An entry: a name, and one thing more."""

    name: str
    corners: int = 0


SHAPES = (Shape("round"), Shape("angular", 4))
STAR = "from test_registry import Shape\n\nSTAR = Shape('star', 10)\nOTHER = Shape('other')\nTEXT = 'star'\n"


@pytest.fixture
def shapes() -> Registry[Shape]:
    """A registry that has not looked for other packages yet."""
    return Registry("nctransfer.shapes", Shape, SHAPES)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which packages are found; modules that a test imports from there are forgotten."""
    folder = tmp_path / "site"
    monkeypatch.syspath_prepend(folder)
    for name in ("star_package", "second_package"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


# Registries


def test_entries_stand_in_the_given_order(shapes: Registry[Shape]) -> None:
    assert list(shapes) == ["round", "angular"]
    assert list(shapes.values()) == list(SHAPES)
    assert len(shapes) == 2
    assert "round" in shapes
    assert "star" not in shapes
    assert shapes.get("star") is None
    with pytest.raises(KeyError):
        shapes["star"]


def test_no_two_entries_have_one_name() -> None:
    with pytest.raises(AssertionError):
        Registry("nctransfer.shapes", Shape, (*SHAPES, Shape("round", 1)))


def test_entries_of_other_packages_come_after_ours_by_name(shapes: Registry[Shape], site: Path) -> None:
    install(site, "star_package", STAR, shapes="star=STAR")
    install(site, "second_package", STAR, shapes="other=OTHER")
    assert list(shapes) == ["round", "angular", "other", "star"]
    assert len(shapes) == 4
    assert shapes["star"] == Shape("star", 10)


def test_another_package_is_imported_when_its_entry_is_first_used(shapes: Registry[Shape], site: Path) -> None:
    install(site, "star_package", STAR, shapes="star=STAR")
    assert "star" in shapes
    assert list(shapes)[-1] == "star"
    assert shapes["round"].corners == 0
    assert "star_package" not in sys.modules
    assert shapes["star"] is sys.modules["star_package"].STAR is shapes["star"]


@pytest.mark.parametrize(
    ("code", "point", "facts"),
    [
        ("raise RuntimeError('no such thing')", "star=STAR", ["RuntimeError", "no such thing"]),
        ("import no_such_module", "star=STAR", ["no_such_module"]),
        (STAR, "star=NO_SUCH_NAME", ["NO_SUCH_NAME"]),
        (STAR, "star=TEXT", ["Shape"]),
        (STAR, "star=OTHER", ["Shape", "other"]),
    ],
    ids=["raises", "imports what is not there", "no such name", "another type", "another name"],
)
def test_an_entry_that_cannot_be_used(
    code: str, point: str, facts: list[str], shapes: Registry[Shape], site: Path
) -> None:
    install(site, "star_package", code, shapes=point)
    assert shapes["round"] == SHAPES[0]
    for _ in range(2):  # each time
        with pytest.raises(PluginError) as error:
            shapes["star"]
        says(error, "'star'", "star_package", *facts, hint="star_package")


def test_a_name_of_ours_is_taken(shapes: Registry[Shape], site: Path) -> None:
    install(site, "star_package", STAR, shapes="round=STAR")
    assert shapes["round"] == SHAPES[0]
    with pytest.raises(PluginError) as error:
        list(shapes)
    says(error, "'round'", "star_package", "nctransfer.shapes", hint="star_package")


def test_two_packages_with_one_name(shapes: Registry[Shape], site: Path) -> None:
    install(site, "star_package", STAR, shapes="star=STAR")
    install(site, "second_package", STAR, shapes="star=STAR")
    with pytest.raises(PluginError) as error:
        list(shapes)
    says(error, "'star'", "nctransfer.shapes")


# Entries of this package


def test_measures_and_classifiers_have_the_names_of_their_functions() -> None:
    for registry in (MEASURES, CLASSIFIERS):
        for name, entry in registry.items():
            assert name == entry.name
            assert name.replace("-", "_") == entry.function.__name__
            assert entry.meaning
            assert entry.function.__doc__


def test_every_measure_is_an_attribute_of_reports() -> None:
    declared = [name for name in vars(MeasureAttributes) if not name.startswith("_")]
    assert declared == list(MEASURES)


def test_correlations_are_of_measures_that_have_a_direction_or_rank_checkpoints() -> None:
    collapse, width = correlated_measures()[:4], correlated_measures()[4:]
    assert collapse == ("cdnv", "directional_cdnv", "nc1", "variability_collapse_index")
    assert all(MEASURES[name].direction for name in collapse)
    assert width == ("matrix_entropy", "rankme")


def test_names_of_classifiers() -> None:
    assert choose_classifiers(["all"]) == tuple(CLASSIFIERS)
    assert choose_classifiers(("knn", "ncc", "knn")) == ("knn", "ncc")
    assert reported_names(["ncc"]) == reported_names(["logistic", "ridge"]) == ("gradient_norm", "proxies_per_class")
    for names in (["svm"], ["ncc", "all"]):
        with pytest.raises(SettingError) as error:
            choose_classifiers(names)
        says(error, repr(names[-1]), hint=["--classifier", *CLASSIFIERS])


# A measure and a classifier of another package

PACKAGE = '''
from nctransfer.episodes.classifier import Classifier
from nctransfer.episodes.nearest import ncc
from nctransfer.neural_collapse.measure import Measure, Undefined


def smallest_distance(stats):
    """The smallest distance between two class means."""
    distances = stats.distances.clone().fill_diagonal_(float("inf"))
    return distances.min()


def never(stats):
    """Never defined."""
    raise Undefined("it is never defined")


def farthest(products, report):
    """The farthest class centre."""
    report("longest", products.squares.amax(dim=1))
    return -ncc(products)


SMALLEST = Measure(
    name="smallest_distance",
    function=smallest_distance,
    meaning="of two class means",
    aspect="NC2",
    direction="higher",
    range="0 to infinity",
    in_trajectories=True,
)
NEVER = Measure(name="never", function=never, meaning="no value", aspect="NC1")
FARTHEST = Classifier(name="farthest", function=farthest, meaning="farthest class centre", reports=("longest",))
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path on which another package is found, with a measure and a classifier."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "other_measures", PACKAGE, measures="smallest_distance=SMALLEST", classifiers="farthest=FARTHEST")
    install(folder, "more_measures", PACKAGE, measures="never=NEVER")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes on a line, at 0, 10 and 30."""
    path = tmp_path_factory.mktemp("features") / "line.npz"
    rows = np.array([0.0, 10.0, 30.0]).repeat(10)[:, None] + np.random.default_rng(0).normal(size=(30, 1))
    np.savez(path, features=rows.astype(np.float32), labels=np.repeat(["a", "b", "c"], 10))
    return path


def results(run: Run, package: str, *arguments: str | Path) -> Any:
    done = run(*arguments, "--format", "json", PYTHONPATH=package)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow  # test_extending.py runs the same as one package
def test_a_measure_of_another_package_is_in_results(run: Run, package: str, features: Path) -> None:
    found = results(run, package, "collapse", features)
    assert list(found["metrics"])[-2:] == ["never", "smallest_distance"]
    assert found["metrics"]["smallest_distance"] == pytest.approx(10, abs=1.5)
    assert found["metrics"]["never"] is None
    assert found["undefined"]["never"] == "it is never defined"
    shown = run("collapse", features, "--all", "--explain", PYTHONPATH=package).stdout
    assert shown.count("smallest_distance") == 2  # among the measures, and what they mean
    assert "The smallest distance between two class means" in " ".join(shown.split())


@pytest.mark.slow  # test_extending.py runs the same as one package
def test_a_classifier_of_another_package_is_in_results(run: Run, package: str, features: Path) -> None:
    few = ("--ways", "2", "--queries", "5", "--episodes", "50")
    rows = results(run, package, "fewshot", features, "--classifier", "ncc,farthest", *few)["results"]
    assert {row["classifier"]: row["accuracy"] for row in rows} == {"ncc": 1.0, "farthest": 0.0}
    for row in rows:
        assert row["gradient_norm"] is None
        assert (row["longest"] is None) == (row["classifier"] == "ncc")
    assert next(row["longest"] for row in rows if row["classifier"] == "farthest") > 100
    everything = results(run, package, "fewshot", features, "--classifier", "all", "--no-theory", *few)["results"]
    assert list(dict.fromkeys(row["classifier"] for row in everything)) == [*CLASSIFIERS, "farthest"]


@pytest.mark.slow  # test_extending.py runs the same as one package
def test_a_classifier_of_another_package_is_in_the_help(run: Run, package: str) -> None:
    done = run("fewshot", "--help", PYTHONPATH=package, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    assert "farthest" in done.stdout
    assert all(name in done.stdout for name in CLASSIFIERS)


@pytest.mark.slow  # test_extending.py runs the same as one package
def test_a_package_that_cannot_be_imported_is_named(run: Run, tmp_path: Path, features: Path) -> None:
    code = "raise RuntimeError('no such thing')"
    site = install(tmp_path / "site", "broken_package", code, measures="m=M", classifiers="c=C")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    for arguments in (["collapse", features], ["fewshot", features, "--queries", "5", "--classifier", "c"]):
        done = run(*arguments, PYTHONPATH=path)
        assert done.returncode == 1
        assert all(word in done.stderr for word in ("broken_package", "no such thing")), done.stderr
        assert "Traceback" not in done.stderr
    fine = run("fewshot", features, "--ways", "2", "--queries", "5", "--episodes", "9", PYTHONPATH=path)
    assert fine.returncode == 0, fine.stderr  # it uses classifiers of ours only
