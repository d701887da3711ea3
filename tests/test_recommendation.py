"""What a ranking says in words: what to take, what cannot be told apart, how many labels."""

from __future__ import annotations

from dataclasses import replace

from nctransfer.evaluation.labels_needed import LabelsNeeded
from nctransfer.rank.ranking import Placed, RankedCandidate
from nctransfer.rank.recommendation import recommend
from nctransfer.store.measured_speed import Speed, SpeedConditions

CONDITIONS = SpeedConditions(
    device="cpu", processor="EPYC", dtype="float32", batch_size=32, threads=2, workers=2, engine="torch", version="0"
)


def row(name, accuracy, *, possible=True, control=False, below=False, speed=None, **more):
    place = Placed(
        accuracy=accuracy,
        interval=(accuracy - 0.02, accuracy + 0.02),
        difference=0.0,
        difference_interval=(-0.01, 0.0),
        is_possible_best=possible,
        is_below_control=below,
        images=20,
        draws=64,
    )
    status = "control" if control else "possible best" if possible else "not best"
    rate = speed and Speed(images=100, seconds=100 / speed, has_first_batch=False, conditions=CONDITIONS)
    return RankedCandidate(name=name, status=status, places={5: place}, speed=rate, **more)


def test_one_best():
    said = recommend([row("a", 0.9), row("b", 0.8, possible=False)])
    assert said == "Take a. It is better than every other candidate on other images of these classes."


def test_several_that_cannot_be_told_apart_and_a_faster_one():
    said = recommend([row("a", 0.9, speed=10), row("b", 0.89, speed=60), row("c", 0.88, speed=11)])
    price = "b is about 6.0 times as fast, and at most 1.0 points behind the best."
    assert said == f"Take a. b and c cannot be told apart from it. {price}"


def test_many_that_cannot_be_told_apart_are_counted():
    said = recommend([row(name, 0.9) for name in "abcdefgh"])
    assert said == "Take a. b, c, d and 4 others cannot be told apart from it."


def test_equal_features_are_said_to_be_equal():
    rows = [row("a", 0.9), row("b", 0.9, same_as="a"), row("c", 0.7, possible=False)]
    assert "b has exactly the same features." in recommend(rows)
    swapped = [row("b", 0.9, same_as="a"), row("a", 0.9)]
    assert "a has exactly the same features." in recommend(swapped)


def test_a_control_that_is_not_beaten_is_a_warning():
    said = recommend([row("pixels 16×16", 0.91, control=True), row("a", 0.9), row("b", 0.5, possible=False)])
    assert "cannot be told apart from the control pixels 16×16" in said
    assert not said.startswith("Take a.")
    worse = recommend([row("pixels 16×16", 0.95, control=True), row("a", 0.9, possible=False)])
    assert "pixels" in worse
    assert "Take a" not in worse


def test_one_candidate():
    alone = row("a", 0.9)
    assert recommend([alone]) == "a is the only candidate."
    control = row("pixels 16×16", 0.3, possible=False, control=True)
    assert recommend([alone, control]) == "a is the only candidate. It is better than the controls."


def test_nothing_ran():
    assert "could be run" in recommend([RankedCandidate(name="a", status="failed", reason="no weights")])


def test_labels():
    def needed(**values):
        return {0.9: LabelsNeeded(target=0.9, classifier="ridge", **{"extrapolated": False, **values})}

    read = recommend([row("a", 0.9, labels_needed=needed(value=7, interval=(5, 12)))])
    assert read.endswith("For 90%, a needs about 7 labelled images per class (5 to 12).")
    exact = recommend([row("a", 0.9, labels_needed=needed(value=1, interval=(1, 1)))])
    assert exact.endswith("about 1 labelled image per class.")
    beyond = needed(value=None, interval=(50, 90), extrapolated=True, reason="not reached; the best is 88.2%")
    said = recommend([row("a", 0.9, labels_needed=beyond)])
    assert said.endswith(
        "90% is not reached; the best is 88.2%; by extrapolation, a needs 50 to 90 labelled images per class."
    )
    endless = {0.9: replace(beyond[0.9], interval=(400, None))}
    assert "400 or more labelled images" in recommend([row("a", 0.9, labels_needed=endless)])


def test_time_that_ran_out_is_said():
    assert "Time ran out" in recommend([row("a", 0.9), row("b", 0.9)], is_complete=False)


def test_a_control_that_is_better_is_not_said_to_be_as_good():
    said = recommend([row("pixels", 0.9, control=True), row("a", 0.7, below=True), row("b", 0.6, possible=False)])
    assert said.startswith("Take none of them: the control pixels is better than a")
    assert "told apart" not in said


def test_only_controls_that_may_be_the_best_are_named():
    rows = [row("pixels", 0.9, control=True), row("a", 0.9), row("noise", 0.5, control=True, possible=False)]
    assert "the control pixels." in recommend(rows)
    assert "the controls pixels and noise." in recommend([*rows[:2], row("noise", 0.9, control=True)])


def test_nothing_is_said_of_candidates_that_were_not_measured():
    absent = RankedCandidate(name="c", status="not run")
    assert recommend([row("a", 0.9), absent]).startswith("a is the only candidate that was measured.")
    said = recommend([row("a", 0.9), row("b", 0.8, possible=False), absent])
    assert "every other candidate that was measured, on" in said


def test_time_that_ran_out_is_said_whatever_the_advice():
    absent = RankedCandidate(name="c", status="not run", reason="there was no time for it")
    assert "before time ran out" in recommend([row("pixels", 0.9, control=True), absent], is_complete=False)
    assert "Time ran out" in recommend([row("pixels", 0.9, control=True), row("a", 0.9)], is_complete=False)


def test_another_candidate_that_is_better_with_fewer_labels_is_named():
    a, b, c = row("a", 0.9), row("b", 0.8, possible=False), row("pixels", 0.5, possible=False, control=True)
    few = {name: replace(a.places[5], is_possible_best=name != "a") for name in ("a", "b")}
    rows = [replace(one, places={1: few[one.name], 5: one.places[5]}) for one in (a, b)]
    said = recommend([*rows, c])
    assert said.startswith("Take a. It is better than")
    assert said.endswith("With 1 labelled image per class, take b instead.")
    both = [rows[1], replace(rows[0], places={1: few["b"], 5: a.places[5]})]
    assert "instead" not in recommend(both[::-1])
