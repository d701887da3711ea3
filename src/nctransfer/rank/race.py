"""Races: all candidates run on few images first, and only those that may be the best run on more.

Every candidate runs on a few images per class. Those that are worse than the best of the others drop out, the others
get twice the images, and so on until all images are used. The images of a round are among those of the next one, so
that no image is run twice.

Controls are judged by all others, and judge nobody: backbones that the pixels beat still compete among themselves.

Who is worse is judged by :mod:`~nctransfer.rank.clear_losers`. The level is divided over the rounds: it is
``1 − error/R`` with R rounds. So the true best is lost in at most the share ``error`` of races, however many candidates
are equal to it. With few images the accuracy at a number of shots is imprecise, but it is the same on average as with
many, so that rounds with few images do not mislead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nctransfer.errors import NCTransferError, SettingError

if TYPE_CHECKING:
    from nctransfer.evaluation.all_ways import AllWaysResult

__all__ = ["Failure", "Key", "Race", "Round", "race", "sizes_of_rounds"]

Key = tuple[int, str]  # shots, classifier
FEWEST = 8  # images per class in the first round
NEARLY_ALL = 1.5  # a round is left out if all images are not more than this many times its images

Measure = Callable[[str, int], "AllWaysResult"]


class Failure(NamedTuple):
    """Why a candidate has no result.

    Attributes:
        images: Images per class, at most, on which it failed.
        reason: What went wrong.
        hint: What to do about it; may be empty.
    """

    images: int
    reason: str
    hint: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """One round: the candidates that ran on the same images, and which of them may still be the best.

    Attributes:
        images: Images per class, at most.
        level: The level of the comparisons with the best.
        results: The result of each candidate that ran, in the order of the candidates.
        possible: For each number of shots and classifier the candidates that have been possible bests in every round so
            far, this one included.
        failed: The candidates that failed in this round.
        not_run: The candidates of this round for which there was no time. Only the first round may have some.
    """

    images: int
    level: float
    results: Mapping[str, AllWaysResult]
    possible: Mapping[Key, tuple[str, ...]]
    failed: Mapping[str, Failure]
    not_run: tuple[str, ...] = ()

    @property
    def survivors(self) -> tuple[str, ...]:
        """The candidates that are still in: possible bests at any number of shots and classifier."""
        return tuple(name for name in self.results if any(name in names for names in self.possible.values()))

    @property
    def dropped(self) -> tuple[str, ...]:
        """The candidates that ran and are out."""
        return tuple(name for name in self.results if name not in self.survivors)


@dataclass(frozen=True, kw_only=True, eq=False)
class Race:
    """How a race went.

    Attributes:
        names: The candidates, in the order in which they ran.
        sizes: Images per class, at most, of the rounds that were planned.
        rounds: The rounds that count. A round for which time ran out is not among them, unless it is the first.
        results: The last result of each candidate that has one, from the rounds that count.
        images: Images per class, at most, that each candidate has been through; also in a round that does not count.
        failed: Why candidates failed.
        not_run: The candidates for which there was no time.
        is_complete: Whether the survivors have been through all images.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    rounds: tuple[Round, ...]
    results: Mapping[str, AllWaysResult]
    images: Mapping[str, int]
    failed: Mapping[str, Failure]
    not_run: tuple[str, ...]
    is_complete: bool

    @property
    def survivors(self) -> tuple[str, ...]:
        """The candidates that may be the best at any number of shots and classifier; empty if all failed."""
        return self.rounds[-1].survivors if self.rounds else ()

    @property
    def possible(self) -> Mapping[Key, tuple[str, ...]]:
        """The candidates that may be the best, for each number of shots and classifier."""
        return self.rounds[-1].possible if self.rounds else {}

    def share_saved(self, class_sizes: Sequence[int]) -> float:
        """The share of image passes that candidates did not need because they dropped out.

        One pass is one image through one candidate. Candidates that failed or did not run do not count, and what
        survivors have not run for lack of time is not saved.

        Args:
            class_sizes: How many images each class has.

        Returns:
            A number from 0 to 1.
        """
        ran = [name for name in self.images if name not in self.failed]
        kept = [self.sizes[-1] if name in self.survivors else self.images[name] for name in ran]
        passes = sum(min(size, one) for size in kept for one in class_sizes)
        return 1 - passes / (len(ran) * sum(class_sizes)) if ran else 0.0


def sizes_of_rounds(class_sizes: Sequence[int], shots: int) -> tuple[int, ...]:
    """How many images per class the rounds of a race have: doubling, and all in the last round.

    The first round has at least 8 images per class, and twice the shots. A class with fewer images gives all it has. A
    round with two thirds of all images or more is left out.

    Args:
        class_sizes: How many images each class has.
        shots: The largest number of shots.

    >>> sizes_of_rounds([100] * 5, shots=5), sizes_of_rounds([30] * 5, shots=5), sizes_of_rounds([100] * 5, shots=20)
    ((10, 20, 40, 100), (10, 30), (40, 100))
    """
    size, every = max(FEWEST, 2 * shots), sum(class_sizes)
    sizes = []
    while NEARLY_ALL * sum(min(size, one) for one in class_sizes) < every:
        sizes.append(size)
        size *= 2
    return (*sizes, max(class_sizes))


def race(
    names: Sequence[str],
    sizes: Sequence[int],
    measure: Measure,
    *,
    keys: Sequence[Key],
    controls: Collection[str] = (),
    error: float = 0.05,
    has_time: Callable[[], bool] = lambda: True,
    on_measured: Callable[[str, int, AllWaysResult | Failure], None] | None = None,
    on_round: Callable[[Round], None] | None = None,
) -> Race:
    """Find the candidates that may be the best, and run the others on few images only.

    Within a round the candidates run in the order given, and none drops out before the round has ended: the order
    decides nothing but who has run when time is spent. A candidate of which ``measure`` raises an error of nctransfer
    fails and leaves. If it fails after the first round, candidates that dropped out because of it come back.

    If time is spent within a round, the rounds before it count. If it is the first, the candidates that have run are
    compared.

    Args:
        names: The candidates.
        sizes: Images per class in each round, ascending, see :func:`sizes_of_rounds`.
        measure: From a candidate and a number of images per class to its result, which has all ``keys``. It is called
            at most once for each candidate and number.
        keys: Numbers of shots with classifiers. If there are several, a candidate stays as long as it may be the best
            at any of them, and ``error`` is that of each by itself.
        controls: Candidates that are there to be beaten. They are compared with all others, but nobody drops out
            because of them: the others compete among themselves.
        error: The share of races in which the best may be lost, at most.
        has_time: Whether there is time to measure one more candidate.
        on_measured: Called with each candidate, its images per class, and its result or why it failed.
        on_round: Called after each round; also after an earlier round in which candidates came back.

    Raises:
        SettingError: A candidate is named twice, or there are no keys or no ascending sizes.
    """
    _check(names, sizes, keys)
    running = _Running(
        names=tuple(names),
        sizes=tuple(sizes),
        measure=measure,
        keys=tuple(keys),
        controls=frozenset(controls),
        level=1 - error / len(sizes),
        has_time=has_time,
        on_measured=on_measured,
        on_round=on_round,
    )
    rounds = None
    while rounds is None:
        rounds = running.rounds()
    return running.race(rounds)


def _check(names: Sequence[str], sizes: Sequence[int], keys: Sequence[Key]) -> None:
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise SettingError(f"the candidate {twice!r} is there twice", "name each candidate once")
    if not sizes or list(sizes) != sorted(set(sizes)):
        raise SettingError(
            f"the sizes of the rounds are {tuple(sizes)}; expected ascending numbers", "take those of sizes_of_rounds"
        )
    if not keys:
        raise SettingError("there is nothing by which to compare the candidates", "give one number of shots or more")


@dataclass(kw_only=True)
class _Running:
    """A race as it runs: what has been measured, and who has failed."""

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    measure: Measure
    keys: tuple[Key, ...]
    controls: frozenset[str]
    level: float
    has_time: Callable[[], bool]
    on_measured: Callable[[str, int, AllWaysResult | Failure], None] | None
    on_round: Callable[[Round], None] | None
    measured: dict[tuple[str, int], AllWaysResult] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    reported: dict[int, set[str]] = field(default_factory=dict)  # who was still in, by the images of the round

    def rounds(self) -> list[Round] | None:
        """The rounds that count; ``None`` if a candidate failed that others have been compared with before."""
        running = tuple(name for name in self.names if name not in self.failed)
        possible = dict.fromkeys(self.keys, running)
        rounds: list[Round] = []
        for size in self.sizes:
            if rounds and len(running) == 1 and size != self.sizes[-1]:
                continue  # nobody is left to compare with
            earlier = len(self.failed)
            results = self._results_of(running, size)
            has_failed = len(self.failed) > earlier
            if rounds and has_failed:
                return None
            not_run = tuple(name for name in running if name not in results and name not in self.failed)
            if rounds and not_run:
                break
            possible = {key: self._possible(key, names, results) for key, names in possible.items()}
            failed = {name: one for name, one in self.failed.items() if one.images == size}
            rounds.append(
                Round(
                    images=size,
                    level=self.level,
                    results=results,
                    possible=possible,
                    failed=failed,
                    not_run=not_run,
                )
            )
            self._report(rounds[-1])
            running = rounds[-1].survivors
            if not running or not_run:
                break
        return rounds

    def _results_of(self, names: tuple[str, ...], size: int) -> dict[str, AllWaysResult]:
        """The results of those that could be measured before time was spent."""
        for name in names:
            if (name, size) in self.measured:
                continue
            if not self.has_time():
                break
            outcome: AllWaysResult | Failure
            try:
                outcome = self.measured[name, size] = self.measure(name, size)
            except NCTransferError as error:
                reason = " ".join(error.message.split())  # a row of a table is one line
                outcome = self.failed[name] = Failure(size, reason, error.hint)
            if self.on_measured:
                self.on_measured(name, size, outcome)
        return {name: self.measured[name, size] for name in names if (name, size) in self.measured}

    def _possible(self, key: Key, names: tuple[str, ...], results: Mapping[str, AllWaysResult]) -> tuple[str, ...]:
        """Those of some candidates that may be the best of them; and the controls that may be the best of all."""
        there = [name for name in names if name in results]
        own = [name for name in there if name not in self.controls]
        kept = self._kept(key, own, results)
        if len(own) < len(there):
            kept |= self._kept(key, there, results) & self.controls
        return tuple(name for name in there if name in kept)

    def _kept(self, key: Key, names: Sequence[str], results: Mapping[str, AllWaysResult]) -> set[str]:
        from nctransfer.rank.clear_losers import clear_losers

        lost = clear_losers([results[name].estimates[key] for name in names], self.level)
        return {name for name, is_lost in zip(names, lost, strict=True) if not is_lost}

    def _report(self, done: Round) -> None:
        before = self.reported.get(done.images)
        self.reported[done.images] = set(done.survivors)
        if self.on_round and (before is None or set(done.survivors) - before):
            self.on_round(done)

    def race(self, rounds: Sequence[Round]) -> Race:
        """The race after these rounds."""
        last = rounds[-1] if rounds else None
        results = {name: result for (name, _), result in self.measured.items() if name in self.failed}
        for one in rounds:
            results |= one.results
        images: dict[str, int] = {}
        for name, size in self.measured:
            images[name] = max(size, images.get(name, 0))
        return Race(
            names=self.names,
            sizes=self.sizes,
            rounds=tuple(rounds),
            results={name: results[name] for name in self.names if name in results},
            images={name: images[name] for name in self.names if name in images},
            failed={name: self.failed[name] for name in self.names if name in self.failed},
            not_run=rounds[0].not_run if rounds else (),
            is_complete=last is not None and (last.images == self.sizes[-1] or not last.survivors) and not last.not_run,
        )
