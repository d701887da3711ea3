"""Command lines with odd values, made from the options that the commands have."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzzing_mutations import ODD_TEXTS

__all__ = ["command_line"]

NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "5",
    "1e400",
    "nan",
    "-inf",
    "99999999999999999999",
    "9" * 5000,
    "1.5",
    "0x10",
    "1_000",
    "٣",
)
SHARES = ("0%", "100%", "101%", "-5%", "5", "1e-300", "50%%", "%", "0.5,0.5", ",", ",,1", "90%,95%")
WORDS = (
    "all",
    "none",
    "auto",
    "loo",
    "paper",
    "ncc",
    "ridge",
    "json",
    "csv",
    "cpu",
    "cuda",
    "label",
    "duplicate",
    "bicubic",
)
LISTS = (
    "1,2,3",
    "2,",
    "5,5,5",
    "all,2",
    "1, 2",
    "last-2",
    "0,3,11",
    "3/8",
    "0/0",
    "9/8",
    "auto",
    "a=1",
    "depth=2",
    "a=(1,2",
    "x=__import__('os')",
)
TIMES = ("30m", "0s", "-5h", "1h30m", "1.2.3", "9" * 400 + "h", "10ms")
SKIPPED = {"install_completion", "show_completion", "actors", "address", "engine", "wait", "compile"}
LITTLE = {"model": "test_vit", "data": "{images}", "ways": "2", "queries": "1", "episodes": "5", "device": "cpu"}


def _commands() -> dict[str, Any]:
    import typer

    from nctransfer import cli

    found: dict[str, Any] = {}
    group: Any = typer.main.get_command(cli.application())
    for name, command in group.commands.items():
        for inner, one in getattr(command, "commands", {"": command}).items():
            found[f"{name} {inner}".strip()] = one
    return found


def command_line(rng: random.Random, places: dict[str, Path]) -> list[str]:
    """One command with some options, of which some have odd values.

    Args:
        rng: Draws them.
        places: Paths by name: images, features, a head, an odd file, a folder for outputs, a pipe.
    """
    commands = _commands()
    name = rng.choice([one for one in commands if one != "demo"])
    words = name.split()
    options = [one for one in commands[name].params if one.name not in SKIPPED and one.name != "help"]
    by_name = {one.name: one for one in options}
    given: dict[str, list[str]] = {}
    for usual, value in LITTLE.items():  # so that most commands work on little
        if usual in by_name and (usual in ("model", "data") or rng.random() < 0.8):
            given[usual] = [by_name[usual].opts[0], value.format(**places)]
    if "random_init" in by_name and rng.random() < 0.8:
        given["random_init"] = ["--random-init"]
    for one in rng.sample(options, min(len(options), rng.choice((1, 1, 2, 3)))):
        if one.param_type_name == "argument":
            given[one.name] = [_value(rng, one.name, places)] * (rng.choice((1, 1, 2)) if one.nargs != 1 else 1)
        elif getattr(one, "is_flag", False):
            given[one.name] = [one.opts[0]]
        else:
            flag = rng.choice((*one.opts, one.opts[0]))
            value = _value(rng, one.name, places)
            given[one.name] = [f"{flag}={value}"] if flag.startswith("--") and rng.random() < 0.3 else [flag, value]
    for one in options:  # what the command needs
        if one.param_type_name == "argument" and one.name not in given and (one.required or rng.random() < 0.5):
            given[one.name] = [_usual(one.name, places)]
    for output in ("output", "file", "figure", "save"):
        if output in by_name and output not in given and rng.random() < 0.2:
            given[output] = [
                by_name[output].opts[0],
                str(places["out"] / f"{output}{rng.choice(('.csv', '.json', '.png', '.html', '.head', ''))}"),
            ]
    parts = list(given.values())
    rng.shuffle(parts)
    return [*words, *(word for part in parts for word in part)]


def _usual(name: str, places: dict[str, Path]) -> str:
    return str(
        places["head"] if name == "head" else places["images"] if name in ("images", "data") else places["features"]
    )


def _value(rng: random.Random, name: str, places: dict[str, Path]) -> str:
    """An odd value, or a usual one. What would be written lies in the folder for outputs."""
    paths = [str(path) for key, path in places.items() if key != "out"]
    paths += ["/dev/null", "/dev/full", "/dev/zero", "/", "/proc/self/mem", str(places["images"] / "no" / "such")]
    if any(word in name for word in ("output", "figure", "corrections", "map", "html", "file", "save", "cache")):
        inside = places["out"]
        return rng.choice(
            (
                *(str(inside / one.replace("/", "_").replace("\x00", "")) for one in ODD_TEXTS),
                "/dev/null",
                "/dev/full",
                str(places["pipe"]),
                str(inside),
            )
        )
    kinds: Sequence[Sequence[str]] = (ODD_TEXTS, NUMBERS, NUMBERS, SHARES, WORDS, LISTS, TIMES, paths, paths)
    return rng.choice(rng.choice(kinds)).replace("\x00", "")
