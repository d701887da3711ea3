"""Mutated inputs for every reader, and odd values for every option: an error in words, or a result; nothing else.

A trial runs many inputs one after the other in one forked process with a limit of memory and of time. An exit code of
0, 1 or 2 with a message is right. A traceback, a hang, a crash, an exit without a message, and a file outside the
cache and the output are wrong.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from children import Ended, _main, _prepare_child, computed
from fuzzing_mutations import as_json_text, mutated, mutated_json
from fuzzing_options import command_line
from fuzzing_samples import SAMPLES, samples
from material import Material
from outcomes import Kind, Outcome, said, wrong

TITLE = "Mutated inputs"

BATCH = 25  # inputs of one trial
SECONDS = 30  # for one input
MEMORY = 4 * 2**30  # bytes beside what is there before
VIT = ("--model", "test_vit", "--random-init")
READ = ("collapse", "fewshot", "expect", "audit", "labels", "fit", "explain", "bounds", "report")
TASK = ("--ways", "2", "--shots", "1", "--queries", "1", "--episodes", "5")

_known: dict[Path, Mapping[str, Any]] = {}

Run = Callable[[random.Random, Mapping[str, Any], Path], list[str]]


def known(material: Material) -> Mapping[str, Any]:
    """What mutations begin with, and a folder with some images, features, a head and a cache."""
    if material.root not in _known:
        place = material.root / "fuzz"
        os.environ["FUZZ_MARKER"] = str(material.root / "code-was-run")
        _known[material.root] = computed(lambda: _made(place))
    return _known[material.root]


def _made(place: Path) -> Mapping[str, Any]:
    import numpy as np

    found = dict(samples())
    place.mkdir()
    for label in "ab":
        (place / "images" / label).mkdir(parents=True)
        for number in range(3):
            (place / "images" / label / f"{number}.png").write_bytes(found["images"]["png"] + bytes([number]))
    np.savez(place / "f.npz", features=found["features"], labels=found["labels"])
    (place / "h.head").write_bytes(found["head"])
    (place / "model").mkdir()
    os.mkfifo(place / "pipe")
    home = place / "made"
    (home / "work").mkdir(parents=True)
    _prepare_child(place / "streams", place / "cache", home)
    images = str(place / "images")
    for words in (["extract", *VIT, "--data", images, "--batch-size", "2"], ["collapse", "-q"], ["fewshot", *TASK]):
        _main(words, None)
    found["place"] = place
    return found


# What is run on each kind of input


def on_images(rng: random.Random, _: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads images."""
    if rng.random() < 0.5:
        return ["data", str(path), *rng.choice(([], ["--fast"], ["--format", "json"]))]
    return [
        "extract",
        "--model",
        "pixels",
        "--img-size",
        "8",
        "--data",
        str(path),
        *rng.choice(([], ["--skip-broken"])),
    ]


def on_image(rng: random.Random, given: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads a folder with one odd image."""
    folder = path.parent / "pictures"
    shutil.copytree(given["place"] / "images", folder)
    shutil.copy(path, folder / "a" / path.name)
    return on_images(rng, given, folder)


def on_features(rng: random.Random, _: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads features."""
    command = rng.choice((*READ, "collapse", "collapse", "fewshot"))
    more = {
        "fewshot": TASK,
        "expect": TASK[:4],
        "bounds": TASK[:4],
        "labels": ("--target", "90%"),
        "fit": ("-o", str(path.parent / "out.head"), "--overwrite"),
        "report": ("-o", str(path.parent / "out.html"), "--overwrite", "--most-images", "50"),
    }
    names = ["0", "1"] if command == "explain" else []
    return [command, *names, str(path), *more.get(command, ()), *rng.choice(([], ["--format", "json"]))][
        : None if command != "report" else -1
    ]


def on_checkpoint(rng: random.Random, given: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads weights."""
    data = ["--data", str(given["place"] / "images")]
    if rng.random() < 0.3:
        return ["trajectory", "--model", "test_vit", "--checkpoints", str(path), *data, *TASK]
    return ["extract", "--model", "test_vit", "--checkpoint", str(path), *data, *rng.choice(([], ["--allow-missing"]))]


def on_head(rng: random.Random, given: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads a head."""
    if rng.random() < 0.1:
        return ["export", str(path), "-o", str(path.parent / "x.onnx")]
    return [
        "predict",
        str(path),
        str(given["place"] / "images"),
        *rng.choice(([], ["--format", "json"], ["--format", "csv"])),
    ]


def on_table(rng: random.Random, given: Mapping[str, Any], path: Path) -> list[str]:
    """A command that reads a table or a list."""
    place = given["place"]
    features, images = str(place / "f.npz"), str(place / "images")
    if path.name == "classes.txt":
        return ["collapse", features, rng.choice(("--classes", "--exclude-classes")), str(path)]
    if path.name == "ticked.csv":
        return ["audit", features, "--ticked", str(path), "--corrections", str(path.parent / "corrected.csv")]
    if path.name == "models.txt":
        return ["rank", "--data", images, "--models", str(path), *TASK[:4]]
    if path.name == "images.txt":
        return ["predict", str(place / "h.head"), str(path)]
    names = rng.choice(([], ["--label-column", "label"], ["--image-column", "path"], ["--class-names", str(path)]))
    return [*on_images(rng, given, path), "--image-root", images, *names]


def on_config(_: random.Random, given: Mapping[str, Any], path: Path) -> list[str]:
    """A command that builds a model as a file describes it."""
    return ["extract", "--model", f"local-dir:{path.parent}", "--random-init", "--data", str(given["place"] / "images")]


RUNS: dict[str, Run] = {
    "archives": on_images,
    "images": on_image,
    "files of features": on_features,
    "images in Parquet": on_images,
    "checkpoints": on_checkpoint,
    "heads": on_head,
    "text tables": on_table,
    "descriptions of models": on_config,
}


def of_file(name: str) -> Callable[[random.Random, Mapping[str, Any], Path], list[str]]:
    """Makes an odd file of one kind, and a command that reads it."""

    def make(rng: random.Random, given: Mapping[str, Any], folder: Path) -> list[str]:
        file, content = SAMPLES[name](rng, given)
        (folder / file).write_bytes(content)
        return RUNS[name](rng, given, folder / file)

    return make


def of_cache(rng: random.Random, given: Mapping[str, Any], folder: Path) -> list[str]:
    """Mutates a JSON file of the cache, and makes a command that reads it."""
    place = given["place"]
    cache = Path(os.environ["NCTRANSFER_CACHE"])
    shutil.rmtree(cache, ignore_errors=True)
    shutil.copytree(place / "cache", cache)
    path = rng.choice(sorted(cache.rglob("*.json")))
    content = path.read_bytes()
    if rng.random() < 0.7:
        content = as_json_text(mutated_json(rng, json.loads(content))).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        content = mutated(rng, content)
    path.write_bytes(content)
    if rng.random() < 0.05:
        path.unlink()
        path.mkdir()
    images = ["--data", str(place / "images")]
    return rng.choice(
        (
            ["collapse", "--max-per-class", "2"],  # few images, should the built-in ones be extracted
            ["collapse", *VIT, *images],
            ["fewshot", *TASK, "--max-per-class", "2"],
            ["extract", *VIT, *images],
            ["cache", "list", "--format", "json"],
            ["cache", "verify"],
        )
    )


def of_options(rng: random.Random, given: Mapping[str, Any], folder: Path) -> list[str]:
    """A command with odd options."""
    place: Path = given["place"]
    (folder / "odd").write_bytes(rng.randbytes(100))
    (folder / "out").mkdir()
    places = {"images": place / "images", "features": place / "f.npz", "head": place / "h.head", "pipe": place / "pipe"}
    places |= {"config": place / "model", "odd": folder / "odd", "out": folder / "out"}
    return command_line(rng, places)


# Running


def trial_of(make: Run) -> Callable[[Material, random.Random, Path], Outcome]:
    """A trial with many inputs."""

    def trial(material: Material, rng: random.Random, folder: Path) -> Outcome:
        given = known(material)
        seeds = [rng.getrandbits(64) for _ in range(BATCH)]
        found = list(_ended(make, given, seeds, folder, material))
        codes = {code: sum(one.code == code for one in found) for code in (0, 1, 2)}
        about = ""
        faults = [
            f"{one.fault}\n    {' '.join(map(repr, one.arguments))}\n{_end(one.err)}" for one in found if one.fault
        ]
        if Path(os.environ["FUZZ_MARKER"]).exists():
            Path(os.environ["FUZZ_MARKER"]).rmdir()
            faults.append("code from data was run")
        outcome = wrong("\n".join(faults), about) if faults else said(about)
        return Outcome(outcome.verdict, outcome.why, f"{'some' if codes[0] else 'none'} of them read", len(found))

    return trial


def _end(text: str) -> str:
    lines = [line for line in text.splitlines() if "nctransfer" in line or not line.startswith(" ")]
    return "\n".join(f"      {line[:300]}" for line in lines[-8:])


def _ended(
    make: Run, given: Mapping[str, Any], seeds: Sequence[int], folder: Path, material: Material
) -> Iterator[Ended]:
    """Each input in turn, all in one process; in a new one after a crash or a hang."""
    for name in ("home", "work", "temporary", "inputs"):
        (folder / name).mkdir(exist_ok=True)
    done = 0
    while done < len(seeds):
        log = folder / "log"
        log.write_text("")
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            try:
                _prepare_child(folder / "streams", folder / "cache", folder)
                _run_all(make, given, seeds[done:], folder, log)
            except BaseException:
                log.write_text(json.dumps({"failed": traceback.format_exc()}))
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        if failed := [line["failed"] for line in lines if "failed" in line]:
            raise RuntimeError(failed[0])
        begun = [line for line in lines if "begun" in line]
        ended = [line for line in lines if "code" in line]
        for line in ended:
            yield Ended(arguments=line["arguments"], code=line["code"], out="", err=line["err"])
        done += len(ended)
        if len(begun) > len(ended):
            number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
            code = None if number == signal.SIGALRM else -number
            yield Ended(arguments=begun[-1]["begun"], code=code or (None if code is None else -99), out="", err="")
            done += 1
        elif not ended:
            raise RuntimeError("the process of a trial did nothing")
    shutil.rmtree(folder / "inputs", ignore_errors=True)


def _made_input(make: Run, rng: random.Random, given: Mapping[str, Any], place: Path) -> list[str]:
    """An input in a folder of its own, and the command that reads it; some mutations no library can write."""
    for _ in range(20):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            return make(rng, given, place)
        except BaseException as error:  # safetensors panics
            reason = error
    raise RuntimeError("no input could be made") from reason


def _run_all(make: Run, given: Mapping[str, Any], seeds: Sequence[int], folder: Path, log: Path) -> None:
    """Run each input, and write down how it ended; in the process of a trial."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.environ["NCTRANSFER_TRACEBACK"] = "1"
    with log.open("a", buffering=1, errors="backslashreplace") as file:
        for seed in seeds:
            place = folder / "inputs" / f"{seed}"
            words = _made_input(make, random.Random(seed), given, place)
            file.write(json.dumps({"begun": words}) + "\n")
            sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)
            code = _main(words, None)
            signal.alarm(0)
            err = sys.stderr.buffer.getvalue().decode(errors="replace")  # type: ignore[attr-defined]
            kept = err if len(err) < 8000 else err[:4000] + " … " + err[-4000:]
            file.write(json.dumps({"arguments": words, "code": code, "err": kept}) + "\n")
            shutil.rmtree(place, ignore_errors=True)


TRIALS = {
    "archives": 3500,
    "images": 2500,
    "files of features": 3500,
    "images in Parquet": 1000,
    "checkpoints": 2500,
    "heads": 1500,
    "text tables": 1500,
    "descriptions of models": 750,
}
KINDS = (
    *(Kind(f"mutated {name}", trial_of(of_file(name)), number // BATCH) for name, number in TRIALS.items()),
    Kind("mutated JSON of the cache", trial_of(of_cache), 750 // BATCH),
    Kind("odd options", trial_of(of_options), 2500 // BATCH),
)

__all__ = ["KINDS", "TITLE"]
