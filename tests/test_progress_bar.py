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
    bar.console.print("a line above the bar")  # it draws the bar anew
    bar.stop()
    assert left in screen.getvalue()
    assert "4/10" in screen.getvalue()
