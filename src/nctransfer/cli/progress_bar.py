"""The progress bar on stderr, drawn only if stderr is a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]


class _Step(NamedTuple):
    """How many of its steps a stage had done at some time, in seconds."""

    done: int
    total: int
    at: float


class ProgressBar:
    """One bar for the stage at hand; the bars of earlier stages disappear until these go on, or begin anew.

    Args:
        console: Where the bar is drawn.
        clock: The time in seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._progress = _progress(console, clock)
        self._stage = "loading"
        self._stages: dict[str, TaskID] = {self._stage: self._progress.add_task(self._stage, total=None)}
        self._first: dict[str, _Step] = {}
        self._latest: dict[str, _Step] = {}
        self._progress.start()

    @property
    def console(self) -> Console:
        """Prints above the bar."""
        return self._progress.console

    def update(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage has come."""
        if stage != self._stage:
            self._progress.update(self._stages[self._stage], visible=False)
            self._stage = stage
        if stage not in self._stages:
            self._stages[stage] = self._progress.add_task(stage, total=total)
        elif self._begins_anew(stage, done, total):
            self._progress.reset(self._stages[stage], total=total)
            del self._first[stage], self._latest[stage]
        self._progress.update(self._stages[stage], visible=True)
        self._progress.update(self._stages[stage], completed=done, total=total, end=self._end(stage, done, total))

    def _begins_anew(self, stage: str, done: int, total: int) -> bool:
        """Whether a stage is there again for the next backbone or round: steps that were lost are not its beginning."""
        latest = self._latest.get(stage)
        if latest is None or done >= latest.done:
            return False
        return done == 0 or latest.done >= latest.total or total != latest.total

    def _end(self, stage: str, done: int, total: int) -> float | None:
        """When a stage will end if all its steps take as long as those so far; ``None`` before the first step."""
        now = _Step(done, total, self._clock())
        first = self._first.setdefault(stage, now)
        latest = self._latest.get(stage, now)
        if done != latest.done:  # it falls if a worker is lost, whose steps are done again
            latest = now
        self._latest[stage] = latest
        if latest.done <= first.done:
            return None
        return latest.at + (latest.at - first.at) / (latest.done - first.done) * (total - latest.done)

    def stop(self) -> None:
        """Remove the bar from the screen."""
        self._progress.stop()


def _progress(console: Console, clock: Callable[[], float]) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed and task.total else "")

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            """Write the time that is left; all steps so far tell it if the last ones are too slow to show a speed."""
            end = task.fields.get("end")
            if task.time_remaining is not None or end is None:
                return super().render(task)
            minutes, seconds = divmod(math.ceil(max(end - clock(), 0)), 60)
            return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", style="progress.remaining")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count(),
        Rate(),
        Left(),
        console=console,
        transient=True,
        speed_estimate_period=10,
        get_time=clock,
    )
