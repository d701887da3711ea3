"""Options of ``nctransfer collapse`` for several workers, and what one of them does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nctransfer.cli.parsing import duration

if TYPE_CHECKING:
    from nctransfer.neural_collapse.collapse_in_shards import ShardProgress
    from nctransfer.sources.sharding import Shard

__all__ = ["IMAGES", "StatisticsOptions"]

IMAGES = "--model or --data"
_SEVERAL = "Several workers"


@dataclasses.dataclass(frozen=True)
class StatisticsOptions:
    """Statistics that several workers compute, each of a share of the samples."""

    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            rich_help_panel=_SEVERAL,
            metavar="I/N",
            help="Pass over one share of the samples: 3/8 for the third of eight workers. With auto, SLURM or torchrun "
            "says which it is. Kubernetes does not say how many there are: auto/8.",
        ),
    ] = None
    save_statistics: Annotated[
        Path | None,
        typer.Option(
            "--save-statistics",
            rich_help_panel=_SEVERAL,
            metavar="FOLDER",
            help="With --shard: save what this pass finds in FOLDER. When all workers have done so, the same command "
            "does the next pass: there are two, and a third for a classifier.",
        ),
    ] = None
    separate: Annotated[
        bool,
        typer.Option(
            "--separate",
            rich_help_panel=_SEVERAL,
            help="FEATURES hold the samples of this share alone, for example because each worker has a disk of its "
            "own. A pass more, the first, shares their names.",
            show_default=False,
        ),
    ] = False
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait",
            rich_help_panel=_SEVERAL,
            metavar="TIME",
            help="Do all passes in one command: wait for the other workers after each pass, at most for this time, for "
            "example 30m. All workers must run at the same time.",
        ),
    ] = None
    merge: Annotated[
        Path | None,
        typer.Option(
            "--merge",
            rich_help_panel=_SEVERAL,
            metavar="FOLDER",
            help="Print the report from the statistics that all workers have saved in FOLDER.",
        ),
    ] = None

    def check(self, others: Mapping[str, bool]) -> None:
        """Refuse options that do not go together, before anything is read.

        Args:
            others: Which other options were given, or groups of them, by name; true for those that only a command for
                the whole set can obey.

        Raises:
            SettingError: Some do not.
        """
        from nctransfer.errors import SettingError
        from nctransfer.sources.sharding import Shard

        if (self.shard is None) != (self.save_statistics is None):
            there, absent = ("--shard", "--save-statistics")[:: 1 if self.save_statistics is None else -1]
            raise SettingError(f"{there} was given without {absent}", "give --shard 3/8 --save-statistics FOLDER")
        for name, is_given in {"--wait": self.wait is not None, "--separate": self.separate}.items():
            if is_given and self.shard is None:
                raise SettingError(f"{name} was given without --shard", "give --shard 3/8 --save-statistics FOLDER too")
        if self.wait is not None:
            duration(self.wait, "--wait")
        if self.shard is None and self.merge is None:
            return
        if self.shard is not None and self.merge is not None:
            raise SettingError("--shard and --merge were given at once", "save all shares first, then --merge them")
        if self.shard is not None:
            Shard.parse(self.shard)
        for name, is_given in others.items():
            if is_given:
                doing = f"--merge {self.merge}" if self.shard is None else "--shard"
                hint = _HINTS[self.shard is None]
                if name == IMAGES and self.shard is not None:
                    hint = (
                        "name the stored set instead, as nctransfer cache list shows it: nctransfer collapse SET "
                        f"--shard {self.shard} --save-statistics {self.save_statistics}"
                    )
                raise SettingError(f"{name} does not go with {doing}", hint)

    def run(self, one_pass: Callable[[Shard, Path, float], ShardProgress]) -> ShardProgress:
        """Do the next pass, or all of them if the command waits for the other workers.

        Args:
            one_pass: Does the next pass of a worker over its share and saves what it found in a folder; the number is
                for how many seconds it waits for the others.

        Raises:
            FeaturesError: The other workers have not done the pass before, or not in time.
        """
        from nctransfer.sources.sharding import Shard

        assert self.shard is not None
        assert self.save_statistics is not None
        shard, seconds = Shard.parse(self.shard), duration(self.wait, "--wait") if self.wait else 0.0
        progress = one_pass(shard, self.save_statistics, seconds)
        while self.wait and not progress.is_done:
            progress = one_pass(shard, self.save_statistics, seconds)
        return progress


_HINTS = {
    False: "a worker saves statistics and prints no report: give options of the report to --merge, and name one stored "
    "set or file of features",
    True: "the statistics are of features and options that were chosen when they were saved",
}
