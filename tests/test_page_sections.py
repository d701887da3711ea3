"""Sections of a page: what they say and hold agrees with the results that they are made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pytest
import torch

import nctransfer as nct
from clusters import labelled, normal_classes, set_of
from nctransfer.checkpoints.stored_checkpoints import trajectory_of_sets
from nctransfer.evaluation.fewshot_task import FewShotTask
from nctransfer.evaluation.label_counts import LabelCounts
from nctransfer.evaluation.margin_bounds import margin_bounds_or_reasons
from nctransfer.features.feature_info import FeatureInfo
from nctransfer.figures.bound_names import readable
from nctransfer.heads.mistakes import confusions
from nctransfer.intervals import wilson
from nctransfer.label_audit.flags import AuditResult
from nctransfer.maps.border_images import border_between
from nctransfer.maps.class_map import ClassMap, map_classes
from nctransfer.maps.image_map import Kept, map_images
from nctransfer.neural_collapse.bound_table import BoundTable, bound_table
from nctransfer.neural_collapse.class_statistics import ClassStatistics
from nctransfer.page.blocks import (
    Block,
    Chart,
    Facts,
    FindingList,
    ImageMapView,
    Matrix,
    Notice,
    PairCard,
    Paragraph,
    Section,
    Table,
)
from nctransfer.page.checkpoints_section import checkpoints_section
from nctransfer.page.class_map_section import class_map_section
from nctransfer.page.close_classes import closest_pairs
from nctransfer.page.closest_pairs_section import closest_pairs_section
from nctransfer.page.confusion_section import LISTED, confusion_section, confusion_shares
from nctransfer.page.image_map_section import image_map_section
from nctransfer.page.layers_section import layers_section
from nctransfer.page.learning_curve_section import learning_curve_section
from nctransfer.page.mistaken_images import mistaken_images
from nctransfer.page.rank_page import rank_content
from nctransfer.page.ranking_section import ranking_section
from nctransfer.page.suspects_section import suspects_section
from nctransfer.page.tables import first_rows, table_of
from nctransfer.page.thumbnails import wanted_images
from nctransfer.page.words_section import with_words, words_section
from nctransfer.rank.ranking import Ranking
from nctransfer.report.sheet import Sheet

One = TypeVar("One", bound=Block)


def only(section: Section | None, kind: type[One]) -> One:
    """The one block of a kind."""
    [found] = blocks(section, kind)
    return found


def blocks(section: Section | None, kind: type[One]) -> list[One]:
    assert section is not None
    return [block for block in section.blocks if isinstance(block, kind)]


def words(section: Section | None) -> str:
    """All that a section says in sentences."""
    assert section is not None
    texts: Iterable[str] = (block.text for block in section.blocks if isinstance(block, Paragraph | Notice))
    return " ".join([section.says, section.not_says, *texts])


def says_and_says_not(section: Section) -> bool:
    """Whether both sentences are there and end as sentences."""
    return all(text[:1].isupper() and text.endswith(".") for text in (section.says, section.not_says))


# Tables


def test_columns_of_class_names_are_found_by_their_cells() -> None:
    rows = [["cat", "3", "dog", "cat and dog"], ["dog", "4", "–", "cat"]]
    table = table_of(Sheet("t", ["class", ">n", "taken for", "words"], rows, {}, "How to read it."), ["cat", "dog"])
    assert table.class_columns == (0, 2)
    assert table.rows[1] == ("dog", "4", "–", "cat")
    assert table.caption == "How to read it."
    assert table_of(Sheet("t", ["class"], [["–"]], {}), ["–"]).class_columns == ()


def test_a_long_table_says_how_much_is_left_out() -> None:
    table = Table(columns=("class",), rows=tuple((str(number),) for number in range(5)), caption="All.")
    assert first_rows(table, 5) is table
    assert len(first_rows(table, 2).rows) == 2
    assert first_rows(table, 2).caption == "All. … and 3 more."


# Confusion


def answers(classes: int, each: int = 8, wrong: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, and predictions of which a share is drawn at random."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    drawn = rng.integers(classes, size=len(labels))
    return torch.from_numpy(np.where(rng.random(len(labels)) < wrong, drawn, labels)), torch.from_numpy(labels)


def confusion_of(
    predicted: torch.Tensor,
    labels: torch.Tensor,
    classes: Sequence[str],
    order: Iterable[int],
    *,
    probability: torch.Tensor | None = None,
    classifier: str = "ridge",
) -> Section:
    """The section for answers whose probabilities do not matter, unless they are given."""
    sure = torch.ones(len(labels)) if probability is None else probability
    section = confusion_section(predicted, labels, classes, list(order), probability=sure, classifier=classifier)
    assert section is not None
    return section


def hardest_of(section: Section) -> Table:
    [found] = [table for table in blocks(section, Table) if table.caption.startswith("The hardest classes")]
    return found


def test_the_matrix_is_the_confusion_matrix_in_the_order_of_the_class_map() -> None:
    from sklearn.metrics import confusion_matrix

    predicted, labels = answers(6)
    order = [3, 0, 5, 1, 2, 4]
    section = confusion_of(predicted, labels, "abcdef", order)
    matrix = only(section, Matrix)
    assert matrix.codes == tuple(order)
    expected = confusion_matrix(labels.numpy(), predicted.numpy(), labels=order, normalize="true")
    np.testing.assert_allclose(matrix.values, expected, rtol=1e-6)
    np.testing.assert_allclose(matrix.values.sum(axis=1), 1, rtol=1e-6)
    assert says_and_says_not(section)


def test_the_tables_have_the_most_confused_pairs_and_the_hardest_classes() -> None:
    predicted, labels = answers(6)
    section = confusion_of(predicted, labels, "abcdef", range(6))
    pairs = only(section, Matrix).table
    assert pairs is not None
    counts = [int(row[2]) for row in pairs.rows]
    assert counts == sorted(counts, reverse=True)
    for given, taken, number, *_ in pairs.rows:
        rows = labels == "abcdef".index(given)
        assert int(number) == int((predicted[rows] == "abcdef".index(taken)).sum())
    hardest = hardest_of(section)
    name, right, images, share, interval, *_ = hardest.rows[0]
    low, high = wilson(torch.tensor(float(right), dtype=torch.float64), torch.tensor(8.0, dtype=torch.float64))
    assert (images, share) == ("8", f"{100 * int(right) / 8:.2f}")
    assert interval == f"{100 * float(low):.2f} to {100 * float(high):.2f}"
    own = predicted[labels == "abcdef".index(name)] == "abcdef".index(name)
    assert int(right) == int(own.sum()) == min(int((predicted == labels)[labels == code].sum()) for code in range(6))
    assert f"{int((predicted == labels).sum())} of 48 images" in words(section)
    assert "not corrected for the images left out" in words(section)


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        ([0, 0, 1, 0], "There is 1 mistake: b is taken for a."),
        ([1, 0, 0, 0], "The 3 mistakes are spread over 2 pairs of classes; the most frequent one is that b is taken"),
        ([1, 0, 1, 0], "The 2 mistakes are spread over 2 pairs of classes, one in each."),
    ],
)
def test_the_most_frequent_mistake_is_named(predicted: list[int], said: str) -> None:
    section = confusion_of(torch.tensor(predicted), torch.tensor([0, 0, 1, 1]), "ab", [0, 1])
    assert said in words(section)


def test_without_a_mistake_the_tables_are_empty() -> None:
    _, labels = answers(3)
    section = confusion_of(labels, labels, "abc", range(3), classifier="ncc")
    assert only(section, Matrix).values.tolist() == np.eye(3).tolist()
    assert [table.rows for table in blocks(section, Table)] == [()]  # no mistakes, and no hardest class
    assert "no mistake" in only(section, Matrix).alt


def test_of_many_classes_the_matrix_has_the_confused_ones() -> None:
    classes = [f"class {code:03}" for code in range(200)]
    labels = torch.arange(200).repeat_interleave(3)
    predicted = labels.clone()
    predicted[[300, 301, 30]] = torch.tensor([7, 7, 150])  # class 100 twice to 7, class 10 once to 150
    order = list(range(199, -1, -1))
    section = confusion_of(predicted, labels, classes, order)
    matrix = only(section, Matrix)
    assert len(matrix.codes) == 50
    assert {100, 7, 10, 150} <= set(matrix.codes)
    assert list(matrix.codes) == sorted(matrix.codes, reverse=True)
    place = matrix.codes.index
    assert matrix.values[place(100), place(7)] == pytest.approx(2 / 3)
    assert "50" in matrix.caption
    assert "200" in matrix.caption


def test_images_that_get_a_class_that_is_not_shown_are_missing_from_their_row() -> None:
    shares = confusion_shares(torch.tensor([0, 2, 1, 0]), torch.tensor([0, 0, 1, 2]), [0, 1])
    assert shares.tolist() == [[0.5, 0.0], [0.0, 1.0]]


def test_only_some_pairs_are_listed_and_the_others_counted() -> None:
    predicted, labels = answers(20, wrong=0.9)
    section = confusion_of(predicted, labels, [str(code) for code in range(20)], range(20))
    table = only(section, Matrix).table
    assert table is not None
    assert len(table.rows) == LISTED
    assert f"{len(confusions(predicted, labels, range(20))) - LISTED:,} more" in table.caption  # type: ignore[arg-type]


def test_every_mistake_is_listed_the_surest_first() -> None:
    predicted, labels = answers(6)
    probability = torch.from_numpy(np.random.default_rng(1).random(len(labels)))
    section = confusion_of(predicted, labels, "abcdef", range(6), probability=probability)
    [found] = [table for table in blocks(section, Table) if table.image_columns]
    wrong = [row for row in range(len(labels)) if predicted[row] != labels[row]]
    wrong.sort(key=lambda row: -float(probability[row]))
    assert [row[0] for row in found.rows] == [str(row) for row in wrong]
    for image, given, taken, share in found.rows:
        assert "abcdef"[labels[int(image)]] == given
        assert "abcdef"[predicted[int(image)]] == taken
        assert share == f"{100 * float(probability[int(image)]):.1f}"
    assert wanted_images([section])[0] == [(row,) for row in wrong]  # they get thumbnails first


def test_of_many_mistakes_the_surest_are_listed_and_all_are_counted() -> None:
    labels = torch.zeros(150).long()
    found = mistaken_images(labels + 1, torch.linspace(0, 1, 150), labels, "ab")
    assert found is not None
    assert [int(row[0]) for row in found.rows] == list(range(149, 49, -1))
    assert "100 of 150" in found.caption


def test_one_class_has_no_confusion() -> None:
    zeros = torch.zeros(3).long()
    assert confusion_section(zeros, zeros, ["a"], [0], probability=zeros + 1.0, classifier="ridge") is None


# Suspicious images

WRONG = {"003": "b", "055": "c"}
ACROSS, WITHIN, ODD = ("060", "100"), ("010", "011"), "110"


@pytest.fixture(scope="module")
def planted() -> nct.FeatureSet:
    """Three classes of 40 images; two labels are wrong, two pairs are near-duplicates, and one image is odd."""
    rows = np.concatenate(normal_classes([40, 40, 40], 30, within=0.3))
    rng = np.random.default_rng(0)
    for one, other in (ACROSS, WITHIN):
        rows[int(other)] = rows[int(one)] + 0.05 * rng.normal(size=30)
    rows[int(ODD)] = np.random.default_rng(5).normal(size=30)
    ids = [f"{number:03}" for number in range(120)]
    labels = dict(zip(ids, np.repeat(["a", "b", "c"], 40).tolist(), strict=True)) | WRONG
    return nct.FeatureSet.from_arrays(rows, labels.values(), labels)


@pytest.fixture(scope="module")
def audited(planted: nct.FeatureSet) -> AuditResult:
    return nct.audit(planted, device="cpu")


def test_findings_are_the_flags_with_image_numbers(planted: nct.FeatureSet, audited: AuditResult) -> None:
    section = suspects_section(audited, planted)
    findings = only(section, FindingList).findings
    assert sorted(one.id for one in findings) == sorted(flag.id for flag in audited.flags)
    for one in findings:
        assert one.image is not None
        assert planted.ids[one.image] == one.id
        assert planted.classes[int(planted.labels[one.image])] == one.given
    assert [one.kind for one in findings] == sorted(
        [one.kind for one in findings], key=["label", "duplicate", "outlier"].index
    )
    labels = {one.id: one for one in findings if one.kind == "label"}
    assert labels.keys() >= WRONG.keys()
    for name, one in labels.items():
        [flag] = [flag for flag in audited.flags if flag.id == name and flag.kind == "label"]
        assert tuple(planted.ids[number] for number in one.neighbours) == flag.neighbours
        assert one.suggested == flag.suggested
        assert one.expected_precision == flag.expected_precision
        number = "nearly all" if flag.expected_precision > 0.99 else f"about {100 * flag.expected_precision:.0f}"
        assert f"{number} are wrong" in one.why
    assert f"About {audited.expected_wrong:.1f} of them" in words(section)
    assert f"nctransfer audit {audited.features.id} --corrections labels.csv --ticked suspects.csv" in words(section)
    assert says_and_says_not(section)


def test_duplicates_in_two_classes_come_before_those_in_one(planted: nct.FeatureSet, audited: AuditResult) -> None:
    found = [one for one in only(suspects_section(audited, planted), FindingList).findings if one.kind == "duplicate"]
    assert [bool(one.suggested) for one in found] == [True, False]
    across, within = found
    assert {across.id, planted.ids[across.neighbours[0]]} == set(ACROSS)
    assert {within.id, planted.ids[within.neighbours[0]]} == set(WITHIN)
    assert (across.like, within.like) == tuple(planted.ids[one.neighbours[0]] for one in found)
    assert "at least one of the two labels is wrong, unless a picture can belong to both" in across.why
    assert "wrong" not in within.why
    assert {one.expected_precision for one in found} == {None}  # it would suppose that one of the two is right


@pytest.mark.parametrize(
    ("digests", "noise", "said"),
    [
        ([7, 7], 0.0, "The file has the same content as that of"),
        ([7, 8], 0.0, "It has exactly the same features as"),
        (None, 0.0, "It has exactly the same features as"),
        ([7, 8], 0.01, "By its features, it shows the same picture as"),
    ],
)
def test_a_duplicate_is_called_what_is_known_of_it(digests: list[int] | None, noise: float, said: str) -> None:
    rows = np.concatenate(normal_classes([20, 20], 10, within=0.3))
    rows[1] = rows[0] + noise
    images = None if digests is None else torch.tensor([*digests, *range(100, 138)])
    features = replace(nct.FeatureSet.from_arrays(rows, np.repeat(["a", "b"], 20)), images=images)
    section = suspects_section(nct.audit(features, kinds=["duplicate"], device="cpu"), features)
    [one] = only(section, FindingList).findings
    assert one.why == f"{said} {one.like}."


def test_an_outlier_has_its_nearest_images_beside_it(planted: nct.FeatureSet, audited: AuditResult) -> None:
    [odd] = [one for one in only(suspects_section(audited, planted), FindingList).findings if one.kind == "outlier"]
    rows = planted.features.numpy() - planted.features.numpy().mean(axis=0)
    assert odd.image is not None
    cosines = rows @ rows[odd.image] / np.linalg.norm(rows, axis=1)
    assert list(odd.neighbours) == [place for place in np.argsort(-cosines) if place != odd.image][:3]


def test_at_most_so_many_of_each_kind_are_listed(planted: nct.FeatureSet, audited: AuditResult) -> None:
    section = suspects_section(audited, planted, most=1)
    kinds = [(one.kind, bool(one.suggested)) for one in only(section, FindingList).findings]
    assert kinds == [("label", True), ("duplicate", True), ("duplicate", False), ("outlier", False)]
    assert "the surest 1 are listed" in words(section)


def test_without_a_flag_the_most_doubtful_labels_are_listed_as_such() -> None:
    features = set_of(normal_classes([30] * 4, 6, apart=1.2))
    found = nct.audit(features, kinds=["label"], level=0.999, device="cpu")
    assert not found.flags
    assert found.doubtful
    section = suspects_section(found, features)
    findings = only(section, FindingList).findings
    assert [one.id for one in findings] == [flag.id for flag in found.doubtful]
    assert all("too few for a flag" in one.why and one.expected_precision is None for one in findings)
    assert [block.text.rstrip(".").lower() for block in blocks(section, Notice)] == [
        one.rstrip(".").lower() for one in found.warnings
    ]


def test_nothing_found_is_said() -> None:
    features = set_of(normal_classes([20, 20], 10, within=0.01))
    section = suspects_section(nct.audit(features, kinds=["duplicate", "outlier"], device="cpu"), features)
    assert blocks(section, FindingList) == []
    assert "by their features, no two images show the same picture" in words(section)
    assert "Outliers: there is none" in words(section)


def test_images_that_the_page_does_not_have_keep_their_finding(planted: nct.FeatureSet, audited: AuditResult) -> None:
    fewer = planted.only_rows((planted.labels != 0).nonzero()[:, 0])
    findings = only(suspects_section(audited, fewer), FindingList).findings
    assert len(findings) == len(audited.flags)
    assert {one.image is None for one in findings} == {True, False}
    for one in findings:
        assert one.image is None or fewer.ids[one.image] == one.id


def test_several_backbones_say_how_many_agree(planted: nct.FeatureSet) -> None:
    noise = 0.02 * torch.randn(planted.features.shape, generator=torch.Generator().manual_seed(0))
    found = nct.audit([planted, replace(planted, features=planted.features + noise)], device="cpu")
    for one in only(suspects_section(found, planted), FindingList).findings:
        assert "of 2 backbones find this" in one.why


# The learning curve


@pytest.fixture(scope="module")
def counted_labels() -> LabelCounts:
    features = set_of(normal_classes([12] * 4, 6, apart=1.5))
    return nct.labels(features, (0.6, 0.999), classifiers=("ridge", "ncc"), device="cpu")


def proven(features: nct.FeatureSet, shots: list[float]) -> BoundTable:
    stats = ClassStatistics.of(features)
    margins = partial(margin_bounds_or_reasons, features, stats, device="cpu")
    return bound_table(stats, features.describe(), [len(features.classes)], shots, margins)


def test_the_curve_has_the_numbers_of_the_result(counted_labels: LabelCounts) -> None:
    section = learning_curve_section(counted_labels)
    chart = only(section, Chart)
    assert chart.table is not None
    curve = counted_labels.curve
    assert [row[0] for row in chart.table.rows] == [str(shots) for shots in curve.task.shots]
    one = curve.estimates[curve.task.shots[0], "ncc"]
    assert f"{100 * one.accuracy:.2f} [{100 * one.interval[0]:.2f}, {100 * one.interval[1]:.2f}]" in chart.table.rows[0]
    assert f"{curve.estimates[curve.task.shots[-1], 'ridge'].accuracy:.1%}" in chart.alt
    targets = only(section, Table)
    assert [row[1] for row in targets.rows] == ["60%", "99.9%"] * 2
    assert chart.svg.startswith("<svg")
    assert "Dashed" in chart.caption
    assert "diamond" in chart.caption
    assert says_and_says_not(section)


def test_the_caption_of_a_curve_explains_only_what_is_drawn() -> None:
    easy = nct.labels(set_of(normal_classes([8] * 3, 6, within=0.05)), (0.5,), device="cpu")
    assert "Dashed" not in only(learning_curve_section(easy), Chart).caption
    hard = nct.labels(set_of(normal_classes([8] * 3, 6, within=3.0)), (0.999,), device="cpu")
    assert "diamond" not in only(learning_curve_section(hard), Chart).caption


def test_bounds_that_say_something_stand_below_the_curve(counted_labels: LabelCounts) -> None:
    tight = set_of(normal_classes([12] * 4, 6, apart=1.5, within=0.1))
    bounds = proven(tight, [1, 4])
    _, table = blocks(learning_curve_section(counted_labels, bounds), Table)
    assert [row[0] for row in table.rows] == ["1", "4"]
    assert table.folded
    for row, of in zip(table.rows, bounds.rows, strict=True):
        least = min(bound.value for bound in of.bounds.values() if bound.value is not None)
        assert row[1:3] == (f"{100 * (1 - least):.2f}", "25.00")
        assert {readable(name): bound.value for name, bound in of.bounds.items()}[row[3]] == least


def test_bounds_that_say_nothing_are_one_sentence(counted_labels: LabelCounts) -> None:
    wide = set_of(normal_classes([12] * 4, 6, within=4.0))
    section = learning_curve_section(counted_labels, proven(wide, [1, 4]))
    assert len(blocks(section, Table)) == 1
    assert "Nothing can be proven" in words(section)
    assert readable("margin_per_query") in words(section)


# The ranking


@pytest.fixture(scope="module")
def ranked() -> Ranking:
    rng = np.random.default_rng(0)
    rows, labels = labelled(normal_classes([12] * 4, 6, within=0.5))
    worse = rows + 2 * rng.normal(size=rows.shape)
    sets = {"good": rows, "<b>worse</b>": worse}
    return nct.rank_features(
        {name: nct.FeatureSet.from_arrays(one, labels) for name, one in sets.items()}, (1, 3), targets=(0.9,)
    )


def test_a_ranking_begins_with_what_to_take(ranked: Ranking) -> None:
    section = ranking_section(ranked)
    assert section.blocks[0] == Paragraph(text=ranked.recommendation)
    chart = only(section, Chart)
    assert chart.table is not None
    assert [row[0] for row in chart.table.rows] == ["good", "<b>worse</b>"]
    best = ranked.candidates[0].place
    assert best is not None
    assert chart.table.rows[0][1] == f"{100 * best.accuracy:.2f}"
    assert f"{best.accuracy:.1%}" in chart.alt
    ranking, *_ = blocks(section, Table)
    assert ranking.caption.startswith("Ranking. ")
    assert not any("--" in table.caption for table in blocks(section, Table))  # a reader of the page runs no command
    assert any("labels for 90%" in head for head in ranking.columns)
    assert "<b>worse</b>" not in chart.svg
    assert says_and_says_not(section)


def test_the_page_of_a_ranking_says_how_it_was_made(ranked: Ranking) -> None:
    made = {"command": "nctransfer rank a b", "seed": 7, "versions": {"nctransfer": "0.1", "torch": "2.9"}}
    content = rank_content(replace(ranked, data="/data/pets.tar"), made)
    assert content.title == "Backbones for pets.tar"
    assert [section.id for section in content.sections] == ["ranking", "words", "how-it-was-made"]
    assert (
        only(content.sections[-1], Facts).items.items()
        >= {
            "command": "nctransfer rank a b",
            "seed": "7",
            "versions": "nctransfer 0.1, torch 2.9",
        }.items()
    )
    assert content.version == nct.__version__
    assert not content.thumbnails


# The words


def terms(section: Section | None) -> list[str]:
    return [] if section is None else list(only(section, Facts).items)


def test_only_terms_that_the_page_uses_are_explained(ranked: Ranking) -> None:
    plain = Section(id="plain", title="Plain", says="It says that snapshots of ridges abound.", blocks=())
    assert words_section([plain]) is None
    assert with_words([plain]) == (plain,)
    made = Section(id="how-it-was-made", title="How it was made", says="All weights have a digest.")
    section = ranking_section(ranked)
    first, explained, last = with_words([section, made])
    assert (first, last) == (section, made)
    found = terms(explained)
    assert {"ridge regression", "shot", "CDNV", "GMACs", "Pareto front", "digest", "backbone"} <= set(found)
    assert not {"dendrogram", "query", "UMAP", "way", "bound"} & set(found)
    assert found == sorted(found, key=str.lower)
    assert all(meaning.endswith(".") for meaning in only(explained, Facts).items.values())


def test_names_of_classes_and_images_are_not_terms() -> None:
    rows = (("0", "collapse", "ncc"),)
    table = Table(columns=("image", "label", "taken for"), rows=rows, class_columns=(1, 2), image_columns=(0,))
    assert words_section([Section(id="a", title="A", says="It shows nothing.", blocks=(table,))]) is None


# The map of the classes, and its closest pairs


@pytest.fixture(scope="module")
def five() -> nct.FeatureSet:
    """Five classes of unequal sizes that overlap a little."""
    return set_of(normal_classes([9, 12, 7, 10, 8], 6, within=0.5))


@pytest.fixture(scope="module")
def five_mapped(five: nct.FeatureSet) -> ClassMap:
    return map_classes(five, device="cpu")


def test_the_heat_map_has_all_distances_in_leaf_order(five: nct.FeatureSet, five_mapped: ClassMap) -> None:
    section = class_map_section(five_mapped, five)
    matrix = only(section, Matrix)
    assert matrix.codes == tuple(five_mapped.order)
    for (row, a), (column, b) in itertools.product(enumerate(matrix.codes), repeat=2):
        assert matrix.values[row, column] == pytest.approx(five_mapped.distance[a, b])
    assert says_and_says_not(section)


def test_the_table_has_the_closest_pairs_first(five: nct.FeatureSet, five_mapped: ClassMap) -> None:
    table = only(class_map_section(five_mapped, five), Matrix).table
    assert table is not None
    by_hand = sorted((five_mapped.distance[a, b], a, b) for a, b in itertools.combinations(range(5), 2))
    assert [row[:2] for row in table.rows] == [(five.classes[a], five.classes[b]) for _, a, b in by_hand]
    assert [row[2] for row in table.rows] == [f"{distance:.2f}" for distance, _, _ in by_hand]
    assert float(table.rows[0][3]) == pytest.approx(by_hand[0][0] ** -2, rel=1e-3)
    assert closest_pairs(five_mapped, 3) == [(a, b) for _, a, b in by_hand[:3]]


def test_what_joins_first_is_said_in_the_table_of_the_dendrogram(five: nct.FeatureSet, five_mapped: ClassMap) -> None:
    chart = only(class_map_section(five_mapped, five), Chart)
    assert chart.table is not None
    assert len(chart.table.rows) == 4
    a, b = closest_pairs(five_mapped, 1)[0]
    assert set(chart.table.rows[0][:2]) == {five.classes[a], five.classes[b]}
    assert chart.table.rows[-1][3] == "5"
    heights = [float(row[2]) for row in chart.table.rows]
    assert heights == sorted(heights)


def test_of_many_classes_the_most_interesting_are_shown() -> None:
    features = set_of(normal_classes([3] * 160, 12))
    section = class_map_section(map_classes(features, most=10, device="cpu"), features)
    matrix = only(section, Matrix)
    assert len(matrix.codes) == 50
    assert "50 classes of the closest pairs, of 160" in matrix.caption


def test_pairs_that_are_not_told_apart_have_no_distance() -> None:
    rows = normal_classes([6, 6, 6], 20, apart=2.0)
    features = set_of([rows[0], rows[0] + 0.01, rows[2]])
    found = map_classes(features, device="cpu")
    section = class_map_section(found, features)
    table = only(section, Matrix).table
    assert table is not None
    assert table.rows[0][3] == "not known"
    assert blocks(section, Notice)
    cards = blocks(closest_pairs_section(found, features), PairCard)
    assert "not told apart" in cards[0].facts["distance"]
    assert "CDNV, debiased" not in cards[0].facts
    assert "CDNV, debiased" in cards[1].facts


def test_classes_that_do_not_vary_are_infinitely_far_apart() -> None:
    features = nct.FeatureSet.from_arrays(np.eye(4)[[0, 0, 1, 1, 2, 3]], "aabbcc")
    found = map_classes(features, device="cpu")
    matrix = only(class_map_section(found, features), Matrix)
    assert np.isnan(matrix.values).sum() == 2  # of a and b
    assert np.isfinite(matrix.values).sum() == 7
    assert matrix.table is not None
    assert matrix.table.rows[-1] == ("a", "b", "∞", "0.0000")


def test_a_card_of_a_pair_has_the_images_at_its_border(five: nct.FeatureSet, five_mapped: ClassMap) -> None:
    predicted = five.labels.clone()
    a, b = closest_pairs(five_mapped, 1)[0]
    predicted[(five.labels == a).nonzero()[:3, 0]] = b
    section = closest_pairs_section(five_mapped, five, predicted)
    cards = blocks(section, PairCard)
    assert [(card.class_a, card.class_b) for card in cards] == closest_pairs(five_mapped, 10)
    first, border = cards[0], border_between(five, a, b)
    assert first.images_a == tuple(border.rows_a[:5].tolist())
    assert {int(five.labels[image]) for image in first.images_b} == {b}
    assert first.facts["distance"].startswith(f"{five_mapped.distance[a, b]:.2f} ")
    names, count = five.classes, int(five.counts[a])
    assert f"3 of {count} images of {names[a]} are taken for {names[b]}" in first.facts["confused"]
    assert f"0 of {int(five.counts[b])} images of {names[b]} are taken for {names[a]}" in first.facts["confused"]
    right = border.right_a + border.right_b
    assert f"{right} of {count + int(five.counts[b])} images" in first.facts["nearest mean"]
    assert "confused" not in blocks(closest_pairs_section(five_mapped, five), PairCard)[0].facts
    assert says_and_says_not(section)


def test_a_class_of_one_image_has_no_card() -> None:
    features = set_of(normal_classes([5, 1, 5], 6))
    cards = blocks(closest_pairs_section(map_classes(features, device="cpu"), features), PairCard)
    assert [(card.class_a, card.class_b) for card in cards] == [(0, 2)]


# The map of the images


def test_a_map_of_images_says_how_much_it_keeps(five: nct.FeatureSet) -> None:
    found = map_images(five, device="cpu")
    section = image_map_section(found, five)
    view = only(section, ImageMapView)
    assert view.map is found
    assert f"{sum(found.shares):.1%} of the variance of 6 dimensions" in words(section)
    assert f"{found.kept.neighbours:.0%} are also among" in view.alt
    assert "All images" in view.caption
    assert "UMAP" not in words(section)
    assert says_and_says_not(section)


def test_a_map_of_some_images_says_so_and_umap_has_its_warning(five: nct.FeatureSet) -> None:
    found = map_images(five, most=20, device="cpu")
    layout = replace(found, umap_x=found.x, umap_y=found.y, umap_kept=Kept(0.25, None))
    section = image_map_section(layout, five)
    assert f"{len(found.rows)} of 46 images" in only(section, ImageMapView).caption
    assert "mean nothing" in words(section)
    assert "25%" in words(section)


# Layers and checkpoints


def test_layers_are_drawn_and_listed_from_the_first_to_the_last() -> None:
    layers = {f"layer_{number}": set_of(normal_classes([10] * 4, 6, within=2.0 / (number + 1))) for number in range(4)}
    found = nct.compare_layers(layers, device="cpu")
    section = layers_section(found)
    chart = only(section, Chart)
    assert chart.table is not None
    assert [row[0] for row in chart.table.rows] == list(layers)
    first, last = (found.reports[name].metrics["ncc_accuracy"] for name in ("layer_0", "layer_3"))
    assert f"from {first:.1%} at layer_0 to {last:.1%} at layer_3" in chart.alt
    assert f"factor of {found.fit['rho']:.2f}" in words(section)
    assert found.fit["saturated"] in words(section)
    assert says_and_says_not(section)
    assert layers_section(nct.compare_layers({"layer_3": layers["layer_3"]}, device="cpu")) is None


def test_checkpoints_are_drawn_and_listed_in_the_order_of_training() -> None:
    rows, labels = labelled(normal_classes([8] * 4, 6))
    noise = np.random.default_rng(0).normal(size=rows.shape)
    sets = [
        nct.FeatureSet.from_arrays(
            rows + 3 / step * noise, labels, info=FeatureInfo(str(step), model="vit", weights=f"epoch-{step}.pth")
        )
        for step in (9, 1)
    ]
    task = FewShotTask(ways=3, shots=2, queries=4, episodes=100, classifiers="ncc", theory=False)
    found = trajectory_of_sets(sets, task, device="cpu")
    section = checkpoints_section(found)
    chart = only(section, Chart)
    assert chart.table is not None
    assert [row[0] for row in chart.table.rows] == ["epoch-1", "epoch-9"]
    ends = [point.fewshot.rows[0].accuracy for point in found.points]
    assert f"from {ends[0]:.1%} to {ends[1]:.1%}" in chart.alt
    assert blocks(section, Table)[0].caption.startswith("Best checkpoint.")
    assert says_and_says_not(section)
    assert checkpoints_section(replace(found, points=found.points[:1])) is None
