"""The progress bar: how long a stage still takes, also if its steps are slow."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nctransfer.cli.progress_bar import ProgressBar


@pytest.mark.parametrize(("step", "pause", "left"), [(1, 0, "0:00:06"), (30, 0, "0:03:00"), (30, 10, "0:02:50")])
def test_the_time_that_is_left_is_known_however_slow_steps_are(step: int, pause: int, left: str) -> None:
    now, screen = [0.0], io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=80), lambda: now[0])
    for done in range(5):
        bar.update("candidates", done, 10)
        now[0] += step
    now[0] += pause - step
    bar.update("candidates", 4, 10)
    bar.stop()  # it draws the bar for the last time
    assert left in screen.getvalue()
    assert "4/10" in screen.getvalue()


@pytest.mark.parametrize(
    ("stages", "name", "count", "left"),
    [
        (1, "one", "5/10", "0:01:40"),
        (2, "two", "3/10", "0:03:30"),
        (3, "one", "2/10", "0:05:20"),
    ],
)
def test_a_stage_that_begins_anew_is_shown_again(stages: int, name: str, count: str, left: str) -> None:
    now, screen = [0.0], io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=80), lambda: now[0])
    for stage, steps, seconds in [("one", 5, 20), ("two", 3, 30), ("one", 2, 40)][:stages]:
        for done in range(steps + 1):
            bar.update(stage, done, 10)
            now[0] += seconds
        now[0] -= seconds
    screen.seek(0)
    screen.truncate()
    bar.stop()  # it draws the bar for the last time
    drawn = screen.getvalue()
    assert [word in drawn for word in ("loading", "one", "two")] == [False, name == "one", name == "two"]
    assert count in drawn
    assert left in drawn


def test_steps_that_are_lost_and_done_again_are_no_new_beginning() -> None:
    now, screen = [0.0], io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=80), lambda: now[0])
    for done in (0, 100, 200, 300, 250, 280):
        bar.update("extracting", done, 1000)
        now[0] += 30
    now[0] -= 30
    screen.seek(0)
    screen.truncate()
    bar.stop()  # it draws the bar for the last time
    assert "280/1,000" in screen.getvalue()
    assert "0:06:26" in screen.getvalue()  # 720 more if 280 took 150 seconds


@pytest.mark.parametrize("total", [10, 8])
def test_a_stage_that_had_ended_or_has_another_total_begins_anew_without_a_zero(total: int) -> None:
    now, screen = [0.0], io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=80), lambda: now[0])
    steps = [(0, 10), (5, 10), (10, 10)] if total == 10 else [(0, 10), (4, 10)]
    for done, of in [*steps, (1, total), (2, total)]:
        bar.update("candidates", done, of)
        now[0] += 30
    now[0] -= 30
    screen.seek(0)
    screen.truncate()
    bar.stop()  # it draws the bar for the last time
    assert f"2/{total}" in screen.getvalue()
    assert {10: "0:04:00", 8: "0:03:00"}[total] in screen.getvalue()


@pytest.mark.parametrize("stage", ["run[fold1].pth", "a [/b]", ":dog:"])
def test_the_name_of_a_stage_is_shown_as_it_is(stage: str) -> None:
    screen = io.StringIO()
    bar = ProgressBar(Console(file=screen, force_terminal=True, width=80, color_system=None))
    bar.update(stage, 1, 2)
    bar.stop()
    assert stage in screen.getvalue()
