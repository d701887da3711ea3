"""Results in a notebook: each shows itself as tables, in which nothing is run."""

from __future__ import annotations

import html
import inspect
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from nctransfer.backbones.building import load
from nctransfer.backbones.geometric_complexity import geometric_complexity
from nctransfer.backbones.numerics import check
from nctransfer.backbones.request import BackboneRequest
from nctransfer.neural_collapse.bound_table import bound_table
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.notebook import ShownInNotebooks
from nctransfer.report import result_sheets
from nctransfer.report.result_sheets import sheets_of
from nctransfer.sources.digits import Digits
from nctransfer.sources.opening import open_source
from nctransfer.sources.selection import Selection
from nctransfer.store.cache_folder import FeatureStore
from nctransfer.store.extraction import extract_to_store
from nctransfer.store.pipeline import Runtime

NASTY = "<script>alert(1)</script>"


def features(name: str = "a", shift: float = 0.0) -> nct.FeatureSet:
    """Three classes of eight samples; one class name is HTML."""
    labels = [label for label in (NASTY, "b", "c") for _ in range(8)]
    centres = np.repeat(np.eye(3, 4), 8, axis=0)
    noise = np.random.default_rng(0).normal(size=(24, 4))
    sites = [site for _ in range(8) for site in (NASTY, "x", "y")]
    return nct.FeatureSet.from_arrays(centres + 0.3 * noise + shift, labels, attributes={"site": sites})


def extraction(pets: Path) -> Any:
    request = BackboneRequest("test_vit", random_init=True)
    return extract_to_store(FeatureStore(), request, open_source(pets), Selection(), Runtime(device="cpu"))


def predictions(pets: Path) -> Any:
    head = nct.fit(nct.extract("test_vit", pets, random_init=True, device="cpu"), "ncc", device="cpu").head
    return head.predict(pets, device="cpu")


def trajectory(pets: Path) -> nct.Trajectory:
    import timm
    from safetensors.torch import save_model

    for number in range(2):
        torch.manual_seed(number)
        save_model(timm.create_model("test_vit", num_classes=3), str(pets.parent / f"epoch-{number}.safetensors"))
    return nct.trajectory("test_vit", str(pets.parent / "epoch-*.safetensors"), pets, shots=1, **TASK)


TASK: Mapping[str, Any] = {"ways": 2, "queries": 3, "episodes": 20, "device": "cpu"}
RESULTS: Mapping[str, Callable[[Path], Any]] = {
    "FeatureSet": lambda pets: features(),
    "ExtractionReport": extraction,
    "DataReport": lambda pets: nct.inspect(open_source(pets)),
    "LookAlikes": lambda pets: nct.look_alikes(open_source(pets), open_source(pets)),
    "NumericsReport": lambda pets: check(load(BackboneRequest("test_vit", random_init=True), "cpu"), Digits(), 4),
    "GeometricComplexity": lambda pets: geometric_complexity(
        load(BackboneRequest("test_vit", random_init=True), "cpu"), Digits(), 4
    ),
    "CollapseReport": lambda pets: nct.collapse(features()),
    "CollapseComparison": lambda pets: nct.compare_sets({"1": features(), "2": features("b", 1.0)}),
    "FewShotResult": lambda pets: nct.fewshot(features(), **TASK),
    "FewShotComparison": lambda pets: nct.compare_fewshot({"1": features(), "2": features("b", 1.0)}, **TASK),
    "GroupResult": lambda pets: nct.fewshot_by_group(features(), "site", **TASK),
    "AcrossResult": lambda pets: nct.fewshot_across_groups(features(), "site", **TASK),
    "FewShotLayers": lambda pets: nct.fewshot_layers({"layer_0": features(), "feature": features("b", 1.0)}, **TASK),
    "FineStructure": lambda pets: nct.fine_structure(features(), "site", permutations=3),
    "ExpectedAccuracies": lambda pets: nct.expect(features(), [2, 3], [1, 2]),
    "BoundTable": lambda pets: bound_table(ClassStatistics.of(features(), "cpu"), features().describe(), [2], [1, 10]),
    "PairExplanation": lambda pets: nct.explain(features(), NASTY, "b", [1], episodes=20),
    "ProbeResult": lambda pets: nct.probe(features()),
    "LabelCounts": lambda pets: nct.labels(features(), device="cpu"),
    "Predictions": predictions,
    "FitResult": lambda pets: nct.fit(features(), device="cpu"),
    "Ranking": lambda pets: nct.rank_features({"1": features(), NASTY: features("b", 1.0)}, 1, scores=True),
    "OodResult": lambda pets: nct.detect_ood(features(), {NASTY: features("b", 1.0)}, device="cpu"),
    "AuditResult": lambda pets: nct.audit(features(), device="cpu"),
    "Trajectory": trajectory,
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_shows_its_sheets(name: str, pets: Path) -> None:
    result = RESULTS[name](pets)
    assert type(result).__name__ == name
    text = result._repr_html_()
    assert NASTY not in text
    sheets = sheets_of(result)
    assert sheets
    for sheet in sheets:
        cells = [cell for row in [sheet.heads, *sheet.rows] for cell in row]
        words = [sheet.title, sheet.reading, *sheet.facts, *sheet.facts.values(), *cells]
        assert [word for word in words if html.escape(word) not in text] == []


def subclasses(kind: type) -> set[str]:
    return {kind.__name__ for kind in kind.__subclasses__()}


def test_every_result_that_shows_itself_is_tried() -> None:
    result_sheets._makers()  # imports them all
    assert subclasses(ShownInNotebooks) == set(RESULTS)


def test_something_else_has_no_sheets() -> None:
    with pytest.raises(TypeError, match="int"):
        sheets_of(1)


def test_a_class_of_a_result_s_kind_is_shown_too() -> None:
    class Mine(type(nct.collapse(features()))):  # type: ignore[misc]
        pass

    report = nct.collapse(features())
    mine = Mine(**{name: getattr(report, name) for name in inspect.signature(type(report)).parameters})
    assert sheets_of(mine) == sheets_of(report)


def test_the_wing_of_reports_is_imported_only_when_a_notebook_shows_a_result() -> None:
    code = """
import sys, nctransfer as nct
features = nct.FeatureSet.from_arrays([[0.0], [1.0]], "ab")
assert not any(name.startswith("nctransfer.report") for name in sys.modules)
assert "<h4>" in features._repr_html_()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_result_shows_its_warnings() -> None:
    plain = nct.fewshot(features(), **TASK)
    assert "Warning:" not in plain._repr_html_()
    rows = features().features
    twice = nct.FeatureSet.from_arrays(torch.cat([rows, rows[:2]]), [*("a" * 8 + "b" * 8 + "c" * 8), "a", "a"])
    shown = nct.fewshot(twice, **TASK)
    [warning] = shown.warnings
    assert f"<strong>Warning:</strong> {html.escape(warning)}" in shown._repr_html_()
