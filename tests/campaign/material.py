"""What the trials work on: a few images, caches that nothing has disturbed, and the right numbers."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from children import Ended, computed, import_what_is_imported_by, run
from outcomes import Outcome, wrong

__all__ = ["ROLES", "Material", "StoredSet", "role_of", "rows_of"]

HIDDEN = ("path", "provenance", "seconds")  # in JSON: where and when it was made
Rows = dict[str, dict[str, bytes]]  # by digest: the bytes of each column of vectors

ROLES = ("rows", "manifest", "digests", "head", "listing", "keys", "results", "speeds", "last")


def role_of(path: Path) -> str:
    """What a file of the cache is for, by its path below the cache; empty for locks and what is unknown."""
    top, name = path.parts[0], path.name
    if name.endswith((".lock", ".tmp")):
        return ""
    if top in ("keys", "last.json"):
        return top.removesuffix(".json")
    if top == "sources":
        return "listing"
    if len(path.parts) > 4:
        return path.parts[3]
    found = {"head": "head", "manifest": "manifest", "digests": "digests"}
    return next((role for start, role in found.items() if name.startswith(start)), "")


def rows_of(folder: Path) -> tuple[Rows, int]:
    """The features in a folder of a stored set, read by Arrow alone, and the number of rows."""
    from pyarrow import parquet

    found: Rows = {}
    number = 0
    for path in sorted((folder / "rows").glob("part-*.parquet")):
        table = parquet.ParquetFile(path).read()
        number += len(table)
        columns = [name for name in table.column_names if name.startswith(("feature", "layer"))]
        vectors = {name: np.array(table[name].to_pylist(), np.float32) for name in columns}
        for place, digest in enumerate(table["digest"].to_pylist()):
            found[digest] = {name: matrix[place].tobytes() for name, matrix in vectors.items()}
    return found, number


@dataclass(frozen=True)
class StoredSet:
    """A stored set of the undisturbed cache, and what is right for it.

    Attributes:
        id: Its id.
        source: The id of its source.
        extraction: The arguments of ``nctransfer`` that make it.
        rows: Its features.
        numbers: What ``collapse`` must say, by its further arguments.
    """

    id: str
    source: str
    extraction: Sequence[str]
    rows: Rows
    numbers: Mapping[tuple[str, ...], Mapping[str, Any]]


@dataclass
class Material:
    """Images, undisturbed caches, and the right numbers; made once, in the folder ``root``.

    ``test_resnet`` runs over two folders of images, and ``test_vit`` with its layers over the first. The cache
    ``young`` is from a time when a class had another name, fewer images were wanted, and no layers; ``narrow`` is whole
    but for the layers. Each of two ``shards`` holds the features of a share of the images.

    Attributes:
        root: The folder.
        sets: The stored sets of the whole cache, by a short name.
    """

    root: Path
    sets: dict[str, StoredSet] = field(default_factory=dict)
    _followed: Any = None

    whole = property(lambda self: self.root / "whole")
    young = property(lambda self: self.root / "young")
    narrow = property(lambda self: self.root / "narrow")
    images = property(lambda self: self.root / "images")
    others = property(lambda self: self.root / "others")
    shards = property(lambda self: (self.root / "shard-1", self.root / "shard-2"))
    checkpoint = property(lambda self: self.root / "training" / "epoch-1.safetensors")

    def make(self) -> None:
        """Make everything, and compare one number with that of plain NumPy."""
        every = {name: self.extraction(name) for name in ("resnet", "vit", "others")}
        computed(self._write_images)
        old = self.images / "2"
        old.rename(self.images / "9")
        for name in every:
            self._done([*self.extraction(name, layers=False), "--max-per-class", "5"], self.young)
        (self.images / "9").rename(old)
        shutil.copytree(self.young, self.narrow)
        for name in every:
            self._done(self.extraction(name, layers=False), self.narrow)
        shutil.copytree(self.narrow, self.whole)
        for arguments in every.values():
            self._done(arguments, self.whole)
        self._follow_training(self.whole)
        every["training"] = [*self.extraction("vit", layers=False), "--checkpoint", str(self.checkpoint)]
        every["training"].remove("--random-init")
        for name, arguments in every.items():
            self.sets[name] = self._right(name, arguments)
        for number, shard in enumerate(self.shards, 1):
            self._done([*every["resnet"], "--shard", f"{number}/{len(self.shards)}"], shard)
        self._compare_with_numpy()
        for command in (["collapse", self.sets["resnet"].id, "--head"], ["cache", "verify"], every["vit"]):
            import_what_is_imported_by(command, self.whole, self.root / "made")
        self._done(["collapse", "-q", self.sets["resnet"].id], self.whole)  # it is the set used last

    def extraction(self, name: str, layers: bool = True) -> list[str]:
        """The arguments that make a set."""
        model = "test_vit" if name == "vit" else "test_resnet"
        data = self.others if name == "others" else self.images
        wide = ["--layers", "all"] if name == "vit" and layers else []
        return [
            *("extract", "--model", model, "--random-init", "--data", str(data)),
            *("--batch-size", "4", "--workers", "1", *wide),
        ]

    def trajectory(self) -> list[str]:
        """A command whose results are kept in the cache."""
        return [
            *("trajectory", "--model", "test_vit", "--data", str(self.images), "--batch-size", "4", "--workers", "1"),
            *(
                "--ways",
                "3",
                "--shots",
                "1",
                "--queries",
                "3",
                "--episodes",
                "20",
                "--checkpoints",
                str(self.checkpoint.parent),
                "--format",
                "json",
            ),
        ]

    def copy(self, cache: Path, folder: Path, name: str = "cache") -> Path:
        """A copy of a cache in the folder of a trial, with its times."""
        return Path(shutil.copytree(cache, folder / name))

    # What must come out

    def read(self, name: str, cache: Path, folder: Path, more: tuple[str, ...] = (), **child: Any) -> str:
        """Read a set by its id; returns "right", "said", or what is wrong."""
        stored = self.sets[name]
        ended = run(["collapse", "-q", stored.id, *more, "--format", "json"], cache, folder, **child)
        return self.judged(ended, stored.numbers[more])

    @staticmethod
    def judged(ended: Ended, expected: Mapping[str, Any]) -> str:
        """Whether a command gave the right numbers, or an error: "right", "said", or what is wrong."""
        if ended.fault:
            return ended.fault
        if ended.code:
            return "said"
        command = " ".join(ended.arguments)
        try:
            found = numbers_in(ended.out)
        except (ValueError, KeyError, TypeError) as error:
            return f"{command}: exit code 0, and no numbers: {error}: {ended.out[:200]!r}"
        return "right" if same(found, expected) else f"{command}: exit code 0, and other numbers: {_shown(found)}"

    def followed(self, text: str) -> str:
        """Whether ``trajectory`` has said what is right: "right", or what is wrong."""
        found = _without_places(json.loads(text))
        return (
            "right"
            if (why := _difference(found, self._followed)) == ""
            else f"trajectory: exit code 0, and other numbers: {why}"
        )

    def mended(
        self, names: Sequence[str], cache: Path, folder: Path, more: tuple[str, ...] = (), repairs: bool = True
    ) -> str:
        """Whether ``cache repair`` and the extractions of these sets mend the cache; empty, or what is still wrong.

        Args:
            names: The sets.
            cache: The cache.
            folder: The folder of the trial.
            more: What ``collapse`` is asked afterwards.
            repairs: Whether an error has said that ``cache repair`` is needed.
        """
        if repairs:
            repaired = run(["cache", "repair"], cache, folder)
            if repaired.fault or repaired.code:
                return f"cache repair: {repaired.fault or repaired.err.strip()[-300:]}"
        for name in names:
            ended = run(self.sets[name].extraction, cache, folder)
            if ended.fault or ended.code:
                return f"not mended: {ended.fault or ended.err.strip()[-300:]}"
            if why := self.differs(name, cache):
                return f"not mended: {why}"
            verdict = self.read(name, cache, folder, more)
            if verdict != "right":
                return f"not mended: {verdict}"
        return ""

    def differs(self, name: str, cache: Path) -> str:
        """How the rows of a set differ from those of the undisturbed one; empty if they do not."""
        stored = self.sets[name]
        try:
            rows, number = computed(lambda: rows_of(cache / "features" / stored.id))
        except RuntimeError as error:
            return f"rows cannot be read: {error}"
        if number != len(rows):
            return f"{number - len(rows)} rows are there twice"
        if rows.keys() != stored.rows.keys():
            lost, more = len(stored.rows.keys() - rows.keys()), len(rows.keys() - stored.rows.keys())
            return f"{lost} rows are lost, and {more} are new"
        other = sum(rows[digest] != stored.rows[digest] for digest in rows)
        return f"{other} rows have other features" if other else ""

    def checked(self, outcome: Outcome, folder: Path) -> Outcome:
        """The outcome, or a wrong one if something was written outside the cache and the output."""
        strange = [str(path) for path in self._outside(folder)]
        if outcome.verdict != "wrong" and strange:
            return wrong(f"written outside the cache: {', '.join(strange[:5])}", outcome.about)
        return outcome

    def _outside(self, folder: Path) -> Iterator[Path]:
        for name in ("home", "work", "temporary"):
            if (folder / name).is_dir():
                yield from (folder / name).iterdir()
        if {path: _stamp(path) for path in self._data()} != self._stamps:
            yield self.images

    def _data(self) -> Iterator[Path]:
        for folder in (self.images, self.others):
            yield from sorted(folder.rglob("*"))

    @cached_property
    def _stamps(self) -> dict[Path, tuple[int, ...]]:
        return {path: _stamp(path) for path in self._data()}

    # Making

    def _write_images(self) -> None:
        """Small images of blobs, whose place says the class; and a checkpoint."""
        from PIL import Image
        from safetensors.torch import save_file

        import tiny

        rng = np.random.default_rng(0)
        across, down = np.meshgrid(np.arange(24), np.arange(24))
        for folder, classes in ((self.images, 3), (self.others, 2)):
            for label in range(classes):
                (folder / str(label)).mkdir(parents=True)
                for number in range(8):
                    centre = 6 + 6 * label + rng.normal(size=2)
                    blob = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / 30)
                    noise = rng.uniform(0, 60, (24, 24, 3))
                    pixels = (190 * blob[..., None] + noise).astype(np.uint8)
                    Image.fromarray(pixels).save(folder / str(label) / f"{number}.png")
        self.checkpoint.parent.mkdir()
        save_file(tiny.state_of("test_vit", seed=1), self.checkpoint)

    def _follow_training(self, cache: Path) -> None:
        self._followed = _without_places(json.loads(self._done(self.trajectory(), cache).out))

    def _done(self, arguments: Sequence[str], cache: Path) -> Ended:
        ended = run(arguments, cache, self.root / "made")
        if ended.fault or ended.code:
            raise RuntimeError(f"{' '.join(arguments)} failed: {ended.fault}\n{ended.err}")
        return ended

    def _right(self, name: str, extraction: Sequence[str]) -> StoredSet:
        report = json.loads(self._done([*extraction, "--format", "json"], self.whole).out)
        id_ = report["features"]["id"] if "features" in report else report["id"]
        rows, _ = computed(lambda: rows_of(self.whole / "features" / id_))
        asked: list[tuple[str, ...]] = [(), ("--head",)]
        asked += [("--feature-column", "layer_1")] if name == "vit" else []
        numbers = {
            more: numbers_in(self._done(["collapse", "-q", id_, *more, "--format", "json"], self.whole).out)
            for more in asked
        }
        return StoredSet(id_, id_.split("/")[1], extraction, rows, numbers)

    def _compare_with_numpy(self) -> None:
        """The average CDNV of the first set, from its rows and the folders of the images, by its definition."""
        import hashlib

        found = self.sets["resnet"]
        listing = computed(lambda: _listing(self.whole / "sources" / f"{found.source}.parquet"))
        assert len(listing) == 24, hashlib.__name__
        classes = [
            np.stack(
                [
                    np.frombuffer(found.rows[listing[f"{label}/{number}.png"]]["feature"], np.float32)
                    for number in range(8)
                ]
            ).astype(np.float64)
            for label in range(3)
        ]
        spreads = [((rows - rows.mean(0)) ** 2).sum(1).mean() for rows in classes]
        pairs = [(0, 1), (0, 2), (1, 2)]
        cdnv = np.mean(
            [(spreads[i] + spreads[j]) / (2 * ((classes[i].mean(0) - classes[j].mean(0)) ** 2).sum()) for i, j in pairs]
        )
        assert math.isclose(cdnv, found.numbers[()]["cdnv"], rel_tol=1e-6), (cdnv, found.numbers[()]["cdnv"])


def numbers_in(text: str) -> dict[str, Any]:
    """The numbers in the JSON of ``collapse``."""
    found = json.loads(text)
    sizes = {name: found["features"][name] for name in ("samples", "classes", "dim")}
    pairs = {f"pair {place}": pair.get("cdnv") for place, pair in enumerate(found["pairs"])}
    return {**sizes, **found["metrics"], **pairs}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether numbers are the same to 1e-9."""
    return one.keys() == other.keys() and all(
        math.isclose(value, other[name], rel_tol=1e-9, abs_tol=1e-12)
        if isinstance(value, float) and isinstance(other[name], float)
        else value == other[name]
        for name, value in one.items()
    )


def _without_places(value: Any) -> Any:
    """A value of JSON without what says where and when it was made."""
    if isinstance(value, list):
        return [_without_places(one) for one in value]
    if isinstance(value, dict):
        return {name: _without_places(one) for name, one in value.items() if name not in HIDDEN}
    return value


def _difference(one: Any, other: Any, place: str = "") -> str:
    """Where two values of JSON first differ; empty if they are the same."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        pairs = [(one[name], other[name], f"{place} {name}") for name in one]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [
            (first, second, f"{place} {number}") for number, (first, second) in enumerate(zip(one, other, strict=True))
        ]
    else:
        return "" if one == other else f"{place}: {one!r} for {other!r}"[:300]
    return next((why for pair in pairs if (why := _difference(*pair))), "")


def _shown(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {numbers[name]}" for name in ("samples", "classes", "cdnv"))


def _listing(path: Path) -> dict[str, str]:
    from pyarrow import parquet

    table = parquet.ParquetFile(path).read()
    return dict(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True))


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
