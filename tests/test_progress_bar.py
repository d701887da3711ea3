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
