"""Damage to one file of a whole cache: what ``cache verify``, a reader and the next extraction make of it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from children import computed, run
from material import ROLES, Material, role_of
from outcomes import Kind, Outcome, right, said, wrong

TITLE = "Damage"
READ = ("rows", "manifest", "digests", "head", "listing")  # files whose content becomes numbers


@dataclass(frozen=True)
class Damage:
    """What was done to a cache.

    Attributes:
        paths: The files, below the cache.
        must_be_said: Whether ``cache verify`` has to find it.
        hides_the_last: Whether a damaged note of the set used last may not pass for none, or for an earlier one.
    """

    paths: Sequence[Path]
    must_be_said: bool
    hides_the_last: bool = True


def files(cache: Path) -> dict[str, list[Path]]:
    """The files of a cache by what they are for, below the cache."""
    found: dict[str, list[Path]] = {role: [] for role in ROLES}
    for path in sorted(cache.rglob("*")):
        if path.is_file() and (role := role_of(path.relative_to(cache))):
            found.setdefault(role, []).append(path.relative_to(cache))
    return {role: paths for role, paths in found.items() if paths}


def drawn(cache: Path, rng: random.Random, roles: Sequence[str] = ROLES) -> Path:
    """A file of the cache: first what it is for is drawn, so that many parts do not hide the rest."""
    there = files(cache)
    return rng.choice(there[rng.choice([role for role in roles if role in there])])


def rewrite(path: Path, content: bytes, keeps_time: bool) -> None:
    """Another content for a file, with its time restored or not."""
    before = path.stat()
    path.write_bytes(content)
    if keeps_time:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def one_bit(cache: Path, young: Path, rng: random.Random, keeps_time: bool) -> Damage:
    path = drawn(cache, rng)
    content = bytearray((cache / path).read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    rewrite(cache / path, bytes(content), keeps_time)
    return Damage([path], role_of(path) in READ)


def cut(cache: Path, young: Path, rng: random.Random) -> Damage:
    path = drawn(cache, rng)
    content = (cache / path).read_bytes()
    end = rng.choice([0, len(content) - 1, rng.randrange(len(content))])
    rewrite(cache / path, content[:end], rng.random() < 0.5)
    return Damage([path], role_of(path) in READ and not is_whole_up_to(path, content, end))


def is_whole_up_to(path: Path, content: bytes, end: int) -> bool:
    """Whether a journal that is cut here looks like that of an earlier time, or of a writer at work.

    The rows that it lists no longer may all be there; they are adopted by the next extraction.
    """
    return path.suffix == ".jsonl" and end > content.index(b"\n")


def zeros(cache: Path, young: Path, rng: random.Random) -> Damage:
    """A file, or a stretch of it, becomes zeros: what some file systems leave when the power fails."""
    path = drawn(cache, rng)
    content = (cache / path).read_bytes()
    start = rng.choice([0, rng.randrange(len(content))])
    end = rng.choice([len(content), min(len(content), start + 512)])
    rewrite(cache / path, content[:start] + bytes(end - start) + content[end:], rng.random() < 0.5)
    return Damage([path], role_of(path) in READ and any(content[start:end]))


def missing(cache: Path, young: Path, rng: random.Random) -> Damage:
    path = drawn(cache, rng)
    (cache / path).unlink()
    return Damage([path], role_of(path) in ("rows", "manifest", "digests"), hides_the_last=False)


def swapped(cache: Path, young: Path, rng: random.Random) -> Damage:
    """Two files for the same thing change places."""
    there = {role: paths for role, paths in files(cache).items() if len(paths) > 1}
    role = rng.choice(sorted(there))
    one, other = rng.sample(there[role], 2)
    contents = (cache / one).read_bytes(), (cache / other).read_bytes()
    keeps_time = rng.random() < 0.5
    rewrite(cache / one, contents[1], keeps_time)
    rewrite(cache / other, contents[0], keeps_time)
    return Damage([one, other], role in READ and contents[0] != contents[1])


def stale(cache: Path, young: Path, rng: random.Random) -> Damage:
    """A file as it was at an earlier time, as a backup or a slow network file system may give it back."""
    before = files(young)
    there = {
        role: changed
        for role, paths in files(cache).items()
        if (changed := [path for path in paths if path in before.get(role, []) and not _equal(cache, young, path)])
    }
    path = rng.choice(there[rng.choice(sorted(there))])
    rewrite(cache / path, (young / path).read_bytes(), rng.random() < 0.5)
    return Damage([path], must_be_said=False, hides_the_last=False)


def _equal(one: Path, other: Path, path: Path) -> bool:
    return (one / path).read_bytes() == (other / path).read_bytes()


def foreign(cache: Path, young: Path, rng: random.Random) -> Damage:
    """In the place of a file lies one that is no part of the cache: noise, text, a table of others."""
    path = drawn(cache, rng)
    contents = [
        rng.randbytes(2_000),
        b"<!DOCTYPE html><html>login</html>",
        b"{}",
        b"[]",
        b"null",
        b"\n" * 9,
        b"[" * 50_000,
    ]
    role = role_of(path)
    others = [other for other in files(cache)["rows" if role == "listing" else "listing"] if other != path]
    content = rng.choice([*contents, (cache / rng.choice(others)).read_bytes()])
    rewrite(cache / path, content, rng.random() < 0.5)
    return Damage([path], role in READ)


def stray(cache: Path, young: Path, rng: random.Random) -> Damage:
    """A file lies in the cache that does not belong there."""
    folders = [path for path in sorted(cache.rglob("*")) if path.is_dir()]
    name = rng.choice(
        ["Thumbs.db", ".DS_Store", "part-0.parquet", "notes.txt", "a.json", "x.parquet", "manifest.json~"]
    )
    there = [path for paths in files(cache).values() for path in paths]
    content = rng.choice([b"", rng.randbytes(100), (cache / rng.choice(there)).read_bytes()])
    path = rng.choice(folders) / name
    path.write_bytes(content)
    return Damage([path.relative_to(cache)], must_be_said=False)


def _trial(
    make: Callable[[Path, Path, random.Random], Damage], material: Material, rng: random.Random, folder: Path
) -> Outcome:
    cache = material.copy(material.whole, folder)
    damage = make(cache, material.young, rng)
    about = role_of(damage.paths[0]) or "a stray file"
    return _examined(damage, about, material, cache, rng, folder)


def _examined(damage: Damage, about: str, material: Material, cache: Path, rng: random.Random, folder: Path) -> Outcome:
    """Verify, read, mend, read and verify again."""
    verified = run(["cache", "verify"], cache, folder)
    if verified.fault:
        return wrong(verified.fault, about)
    must_be_said = damage.must_be_said and not all(is_unused(material.whole, cache, path) for path in damage.paths)
    if must_be_said and not verified.code:
        return wrong(f"cache verify is silent about {_names(damage)}", about)
    names = affected(material, damage.paths)
    more = _question(about, names, material, rng)
    verdicts = _read_by_others(about, damage, material, cache, folder)  # first: what is named becomes the set used last
    verdicts |= {material.read(name, cache, folder, more) for name in names}
    if bad := verdicts - {"right", "said"}:
        return wrong(f"{_names(damage)}: {bad.pop()}", about)
    if why := material.mended(names, cache, folder, more, repairs=bool(verified.code) or "said" in verdicts):
        return wrong(f"{_names(damage)}: {why}", about)
    after = run(["cache", "verify"], cache, folder)
    if after.fault or after.code:
        return wrong(f"{_names(damage)}: verify after it was mended: {after.fault or after.err.strip()[-300:]}", about)
    return said(about) if "said" in verdicts or verified.code else right(about)


def _question(about: str, names: Sequence[str], material: Material, rng: random.Random) -> tuple[str, ...]:
    """What ``collapse`` is asked of all these sets: the plain question, that of the head, or that of a layer."""
    if about == "head":
        return ("--head",)
    every = [set(material.sets[name].numbers) for name in names]
    return rng.choice(sorted(set.intersection(*every)))


def is_unused(whole: Path, cache: Path, path: Path) -> bool:
    """Whether damage hit only what is never read: digests of parts that are not listed, spare bits of a listing."""
    if role_of(path) == "listing" and (cache / path).exists():
        return computed(lambda: _rows(cache / path) == _rows(whole / path) is not None)
    if role_of(path) != "digests" or not (cache / path).exists():
        return False
    lines = (whole / path).with_name("manifest.jsonl").read_text().splitlines()
    records = [json.loads(line.partition(" ")[2]) for line in lines]
    dropped = {name for record in records for name in record.get("drop", [])}
    before, after = (whole / path).read_bytes(), (cache / path).read_bytes()
    width = 32
    slices = [
        slice(width * record["start"], width * (record["start"] + record["rows"]))
        for record in records
        if "part" in record and record["part"] not in dropped
    ]
    return all(before[one] == after[one] for one in slices)


def _rows(listing: Path) -> list[dict[str, object]] | None:
    """All rows of a listing as Arrow reads them; ``None`` if it cannot."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(listing).read().to_pylist()  # type: ignore[no-any-return]
    except (OSError, pa.ArrowException, ValueError):
        return None


def affected(material: Material, paths: Sequence[Path]) -> list[str]:
    """The sets whose numbers the files have to do with; the set used last if there is none."""
    found = [
        name
        for name, stored in material.sets.items()
        for path in paths
        if path.parts[:3] == ("features", *stored.id.split("/"))
        or (len(path.parts) == 3 and path.parts[1] == stored.id.split("/")[0])
        or (path.parts[0] == "sources" and path.stem == stored.source)
    ]
    return list(dict.fromkeys(found)) or ["resnet"]


def _read_by_others(about: str, damage: Damage, material: Material, cache: Path, folder: Path) -> set[str]:
    """What commands say that read the other files: the set used last, kept results, keys."""
    stored = material.sets["resnet"]
    if about == "last" and damage.hides_the_last:
        ended = run(["collapse", "-q", "--format", "json"], cache, folder)
        return {material.judged(ended, stored.numbers[()])}
    if about in ("keys", "speeds"):
        command = ["collapse", "-q", *stored.extraction[1:], "--format", "json"]
        return {material.judged(run(command, cache, folder), stored.numbers[()])}
    if about == "results":
        ended = run(material.trajectory(), cache, folder)
        return {ended.fault or ("said" if ended.code else material.followed(ended.out))}
    return set()


def _names(damage: Damage) -> str:
    return " and ".join(str(path) for path in damage.paths)


KINDS = tuple(
    Kind(name, partial(_trial, make), trials)
    for name, make, trials in (
        ("one bit, size and time kept", partial(one_bit, keeps_time=True), 300),
        ("one bit", partial(one_bit, keeps_time=False), 100),
        ("a file cut short", cut, 150),
        ("zeros in a file", zeros, 100),
        ("a file missing", missing, 100),
        ("two files swapped", swapped, 100),
        ("a file of an earlier time", stale, 50),
        ("a foreign file in the place of one", foreign, 100),
        ("a stray file", stray, 50),
    )
)

__all__ = ["KINDS", "TITLE", "affected", "drawn", "files"]
