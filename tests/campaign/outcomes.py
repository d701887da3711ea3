"""Trials of the campaign, their seeds, and how they are counted."""

from __future__ import annotations

import math
import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from page_tables import markdown

if TYPE_CHECKING:
    from material import Material

__all__ = ["Impossible", "Kind", "Outcome", "Tally", "right", "said", "table_of", "tally", "wrong"]


class Impossible(Exception):  # noqa: N818 - it is no error of the program that is tested
    """This machine cannot make the fault, for example because it needs the superuser."""


@dataclass(frozen=True)
class Outcome:
    """What came out of one trial.

    Attributes:
        verdict: ``right`` (everything came out as if nothing had happened), ``said`` (an error named what was wrong,
            nothing else came out, and all was right again after it was mended), or ``wrong``.
        why: What was wrong.
        about: What the trial did, in a word or two.
        faults: How many faults were made.
    """

    verdict: str
    why: str = ""
    about: str = ""
    faults: int = 1


def right(about: str = "") -> Outcome:
    """All was as if nothing had happened."""
    return Outcome("right", about=about)


def said(about: str = "") -> Outcome:
    """An error named the fault, and it was mended."""
    return Outcome("said", about=about)


def wrong(why: str, about: str = "") -> Outcome:
    """A wrong number, a lost row, a traceback, a hang, a file outside cache and output."""
    return Outcome("wrong", why, about)


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: What the table calls it.
        trial: Makes the fault and looks at what comes out. It is given the material, a generator from which every draw
            of the trial comes, and an empty folder.
        trials: How many trials a whole campaign has.
    """

    name: str
    trial: Callable[[Material, random.Random, Path], Outcome]
    trials: int


@dataclass
class Tally:
    """The outcomes of the trials of one kind."""

    kind: Kind
    verdicts: Counter[str] = field(default_factory=Counter)
    abouts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    impossible: str = ""
    faults: int = 0

    def row(self) -> list[str]:
        """The row of the table."""
        if self.impossible:
            return [self.kind.name, f"not tried: {self.impossible}", *[""] * 4]
        numbers = [
            sum(self.verdicts.values()),
            self.faults,
            *(self.verdicts[name] for name in ("right", "said", "wrong")),
        ]
        return [self.kind.name, *(f"{number:,}" for number in numbers)]


def tally(
    kind: Kind, material: Material, trials: int, seed: int, seconds: float = math.inf, keep: bool = False
) -> Tally:
    """Run the trials of one kind, each with its own seed, which the report of a failure names.

    Args:
        kind: The kind.
        material: What they work on.
        trials: How many.
        seed: The seed of the first.
        seconds: When so much time has passed, no further trial begins.
        keep: Whether the folder of a trial that goes wrong is kept.
    """
    found = Tally(kind)
    start = time.monotonic()
    for number in range(seed, seed + trials):
        if time.monotonic() - start > seconds:
            break
        folder = material.root / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before = time.monotonic()
        try:
            outcome = kind.trial(material, random.Random(f"{kind.name} {number}"), folder)
            outcome = material.checked(outcome, folder)
        except Impossible as error:
            found.impossible = str(error)
            return found
        except Exception:
            outcome = wrong("the campaign itself failed:\n" + traceback.format_exc())
        took = time.monotonic() - before
        found.verdicts[outcome.verdict] += 1
        found.faults += outcome.faults
        found.abouts[outcome.about, outcome.verdict] += 1
        if outcome.verdict == "wrong":
            found.failures.append((number, outcome))
            again = f'python tests/campaign "{kind.name}" --seed {number} --trials 1'
            print(f"WRONG ({took:.1f} s): {outcome.about}: {outcome.why}\n  again: {again}", flush=True)
            if keep:
                shutil.copytree(folder, material.root / f"failed-{number}", symlinks=True, dirs_exist_ok=True)
    return found


def table_of(tallies: Iterable[Tally]) -> str:
    """The table of a campaign."""
    rows: list[Sequence[str]] = [one.row() for one in tallies]
    return markdown(["what", "trials", "faults", "right", "said and mended", "wrong"], rows)


def breakdown(found: Tally) -> str:
    """How the trials of one kind came out, by what they did."""
    abouts = sorted({about for about, _ in found.abouts})
    lines = []
    for about in abouts:
        numbers = [found.abouts[about, verdict] for verdict in ("right", "said", "wrong")]
        lines.append(f"    {about or '-'}: {numbers[0]} right, {numbers[1]} said, {numbers[2]} wrong")
    return "\n".join(lines)
