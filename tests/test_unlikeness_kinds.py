"""The kinds of unlikeness of a head: left-out values by really leaving out, files, hostile tensors, graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import normal_classes, set_of
from made_heads import made_head
from nctransfer.errors import HeadError, SettingError
from nctransfer.features.feature_set import FeatureSet
from nctransfer.heads.abstention import thresholds
from nctransfer.heads.class_distances import ClassDistances
from nctransfer.heads.head_content import from_bytes, to_bytes
from nctransfer.heads.neighbour_distance import NeighbourDistance, fit_neighbour_distance
from nctransfer.heads.onnx_graph import _hushed
from nctransfer.heads.principal_share import PrincipalShare, principal_share
from nctransfer.heads.unlikeness import RELATIVE, Unlikeness, fit_mahalanobis
from nctransfer.heads.unlikeness_kinds import UNLIKENESSES
from terminal import data_of, done, refusal
from test_unlikeness import CASES, ODD, ByMatrices

KNOWN = set_of(normal_classes([12, 10, 11], 6, apart=1.5, offset=1), np.float32)
OTHER_KINDS = [name for name in UNLIKENESSES if name != RELATIVE]


@pytest.mark.parametrize("name", CASES)
def test_mahalanobis_is_the_distance_to_the_nearest_class(name: str) -> None:
    features = set_of(CASES[name])
    expected = ByMatrices(features, is_relative=False)
    unlikeness, left_out = fit_mahalanobis(features, "cpu")
    values = expected.left_out()
    assert left_out.numpy() == pytest.approx(values, rel=1e-5, abs=1e-5 * np.ptp(values))
    new = np.random.default_rng(1).normal(expected.rows.mean(axis=0), 2.0, size=(20, features.dim))
    values = [expected.unlikeness(None, new=one) for one in new]
    assert unlikeness.of(torch.from_numpy(new)).numpy() == pytest.approx(values, abs=2e-3 * np.ptp(values), rel=2e-3)


def test_a_neighbour_is_left_out_by_leaving_it_out() -> None:
    model, left_out = fit_neighbour_distance(KNOWN, "cpu")
    unit = torch.nn.functional.normalize(KNOWN.features).half().double().numpy()
    assert model.neighbours == round(11 / 4)
    for place in range(len(KNOWN)):
        distances = np.sort(np.linalg.norm(np.delete(unit, place, axis=0) - unit[place], axis=1))
        assert float(left_out[place]) == pytest.approx(distances[model.neighbours - 1], abs=1e-5)


def test_of_many_images_some_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nctransfer.heads.neighbour_distance.MOST_ROWS", 11)
    model, left_out = fit_neighbour_distance(KNOWN, "cpu")
    assert len(model.rows) == 11
    assert float(left_out.min()) > 0  # a stored image is not its own neighbour


def test_the_principal_share_of_left_out_images_is_that_of_other_axes() -> None:
    _, left_out = UNLIKENESSES["neco"].fit(KNOWN, "cpu")
    own = principal_share(KNOWN, "cpu").of(KNOWN.features)
    assert float(left_out.mean()) > float(own.mean())
    pairs = FeatureSet.from_arrays(np.random.default_rng(0).normal(size=(4, 3)), "aabb")
    _, found = UNLIKENESSES["neco"].fit(pairs, "cpu")
    for group in (torch.tensor([0, 2]), torch.tensor([0, 3])):  # the halves, however they are drawn
        others = torch.tensor([row for row in range(4) if row not in group.tolist()])
        expected = principal_share(pairs.only_rows(others), "cpu").of(pairs.features[group])
        if torch.allclose(found[group], expected):
            break
    else:
        pytest.fail("no halving gives these values")


@pytest.mark.parametrize("name", UNLIKENESSES)
@pytest.mark.parametrize("odd", ODD)
def test_odd_features_give_finite_values(name: str, odd: str) -> None:
    features = FeatureSet.from_arrays(ODD[odd].astype(np.float32), "aaaabbbb")
    found, left_out = UNLIKENESSES[name].fit(features, "cpu")
    UNLIKENESSES[name].from_tensors(found.tensors(), 5, 2)
    assert left_out.isfinite().all()
    assert found.of(torch.cat([features.features, torch.zeros(1, 5)])).isfinite().all()


@pytest.mark.parametrize("name", UNLIKENESSES)
def test_a_head_is_written_with_its_kind_and_read(name: str, tmp_path: Path) -> None:
    head = nct.fit(KNOWN, "ncc", unlikeness=name, device="cpu").head
    head.save(tmp_path / "a.head")
    found = nct.load_head(tmp_path / "a.head")
    assert found.unlikeness.name == name
    new = torch.randn(20, 6, generator=torch.manual_seed(0))
    assert found.unlikeness.of(new).numpy() == pytest.approx(head.unlikeness.of(new).numpy(), rel=1e-5, abs=1e-5)
    assert found.held_out.unlikeness.equal(head.held_out.unlikeness)
    assert to_bytes(found) == to_bytes(head)


def test_the_usual_head_is_of_the_first_format() -> None:
    import json

    content = to_bytes(made_head())
    size = int.from_bytes(content[:8], "little")
    record = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["nctransfer_head"])
    assert record["format"] == 1
    assert "unlikeness" not in record


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("knn", {"rows": torch.zeros(5, 7, dtype=torch.float16)}),
        ("knn", {"rows": torch.zeros(5, 6)}),
        ("knn", {"rows": torch.zeros(0, 6, dtype=torch.float16)}),
        ("knn", {"rows": torch.full((33, 6), torch.nan, dtype=torch.float16)}),
        ("knn", {"rows": torch.zeros(20_001, 6, dtype=torch.float16)}),
        ("knn", {"neighbours": torch.tensor(0.0)}),
        ("knn", {"neighbours": torch.tensor(1.5)}),
        ("knn", {"neighbours": torch.tensor(34.0)}),
        ("knn", {"neighbours": torch.tensor(torch.inf)}),
        ("knn", {"neighbours": torch.ones(1)}),
        ("knn", {"evil": torch.zeros(1)}),
        ("neco", {"axes": torch.zeros(2, 7, dtype=torch.float16)}),
        ("neco", {"axes": torch.zeros(4, 6, dtype=torch.float16)}),
        ("neco", {"axes": torch.zeros(0, 6, dtype=torch.float16)}),
        ("neco", {"axes": torch.tensor(1.0).half()}),
        ("neco", {"centre": torch.full((6,), torch.inf)}),
        ("neco", {"evil": torch.zeros(1)}),
        ("mahalanobis", {"weight": torch.zeros(2, 6)}),
    ],
)
def test_hostile_tensors_are_refused(name: str, change: dict[str, torch.Tensor]) -> None:
    kind = UNLIKENESSES[name]
    tensors = kind.fit(KNOWN, "cpu")[0].tensors()
    kind.from_tensors(tensors, 6, 3)
    with pytest.raises(ValueError, match="unlikeness"):
        kind.from_tensors({**tensors, **change}, 6, 3)


def test_a_kind_that_is_not_there_is_refused() -> None:
    class Evil:
        name = "../evil"

        def tensors(self) -> dict[str, torch.Tensor]:
            return {}

    evil: Any = Evil()
    with pytest.raises(ValueError, match=r"\.\./evil"):
        from_bytes(to_bytes(replace(made_head(), unlikeness=evil)))
    with pytest.raises(SettingError, match="knnn"):
        nct.fit(KNOWN, unlikeness="knnn")
    with pytest.raises(HeadError):
        replace(made_head(), unlikeness=evil).save("never.head")


@pytest.mark.parametrize("name", UNLIKENESSES)
def test_about_as_many_good_images_are_lost_as_was_said(name: str) -> None:
    lost = []
    for draw in range(6):
        known = set_of(normal_classes([20] * 5, 30, draw=2 * draw), np.float32)
        new = set_of(normal_classes([200] * 5, 30, draw=2 * draw + 1), np.float32)
        head = nct.fit(known, "ncc", unlikeness=name, max_lost=0.1, device="cpu").head
        limit = thresholds(head.held_out, None, 0.1).unlikeness
        lost.append(float((head.unlikeness.of(new.features) > limit).double().mean()))
    assert 0.03 < np.mean(lost) < 0.13


def test_the_distances_of_left_out_images_need_no_second_term() -> None:
    distances = ClassDistances(KNOWN, torch.device("cpu"))
    both, first = distances.left_out(), distances.left_out(is_relative=False)
    assert bool((first > both).all())


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_graph_has_the_unlikeness(name: str, tmp_path: Path) -> None:
    """The module of a head alone, traced as the export traces it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    found, _ = UNLIKENESSES[name].fit(KNOWN, "cpu")

    class Alone(torch.nn.Module):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return found.of(features)

    new = torch.randn(7, 6, generator=torch.manual_seed(0))
    path = tmp_path / "alone.onnx"
    names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "b"}}}
    with _hushed():
        torch.onnx.export(Alone(), (new[:2],), str(path), dynamo=False, opset_version=17, **names)
    [answer] = onnxruntime.InferenceSession(path.read_bytes()).run(None, {"x": new.numpy()})
    assert answer == pytest.approx(found.of(new).numpy(), rel=1e-4, abs=1e-5)


def test_fit_takes_the_kind_by_name(tmp_path: Path) -> None:
    features = tmp_path / "known.npz"
    np.savez(features, feature=KNOWN.features.numpy(), label=KNOWN.labels.numpy())
    options = ("fit", features, "--classifier", "ncc", "--no-more-labels", "--unlikeness", "knn")
    assert data_of(*options)["head"]["unlikeness"] == "knn"
    done(*options, "--output", tmp_path / "a.head")
    assert isinstance(nct.load_head(tmp_path / "a.head").unlikeness, NeighbourDistance)
    refusal("fit", features, "--unlikeness", "nearest").expect("SettingError", "'nearest'", hint="knn")


def test_types_by_kind() -> None:
    assert isinstance(UNLIKENESSES["neco"].fit(KNOWN, "cpu")[0], PrincipalShare)
    assert isinstance(UNLIKENESSES["mahalanobis"].fit(KNOWN, "cpu")[0], Unlikeness)
