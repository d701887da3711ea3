"""The progress bar on stderr, drawn only if stderr is a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

__all__ = ["ProgressBar"]


class ProgressBar:
    """One bar for the stage at hand; the bars of earlier stages disappear.

    Args:
        console: Where the bar is drawn.
    """

    def __init__(self, console: Console) -> None:
        self._progress = _progress(console)
        self._stages: dict[str, TaskID] = {"loading": self._progress.add_task("loading", total=None)}
        self._progress.start()

    @property
    def console(self) -> Console:
        """Prints above the bar."""
        return self._progress.console

    def update(self, stage: str, done: int, total: int) -> None:
        """Show how far a stage has come."""
        if stage not in self._stages:
            for task in self._stages.values():
                self._progress.update(task, visible=False)
            self._stages[stage] = self._progress.add_task(stage, total=total)
        self._progress.update(self._stages[stage], completed=done, total=total)

    def stop(self) -> None:
        """Remove the bar from the screen."""
        self._progress.stop()


def _progress(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
    from rich.text import Text

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:,.0f}/{task.total:,.0f}" if task.total else "")

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.1f}/s" if task.speed and task.total else "")

    return Progress(
        "{task.description}",
        BarColumn(),
        Count(),
        Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        speed_estimate_period=10,
    )
