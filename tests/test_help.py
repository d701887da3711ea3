"""What the help offers: commands by question, examples that run, and the nearest names where one is wrong."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import nctransfer as nct
from conftest import write_digits
from made_heads import made_head
from nctransfer.backbones.names import DEFAULT_MODEL
from nctransfer.cli import app
from terminal import done, misused, refusal, shows

ANIMALS = {"bird": 0, "cat": 1, "dog": 2, "fish": 3, "horse": 4}
MODEL = "resnet18"  # of the checkpoints in the examples


def commands(group: Any, prefix: str = "nctransfer") -> Iterator[tuple[str, Any]]:
    """Every command by its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def examples(command: Any) -> list[str]:
    """The examples at the end of a command's help."""
    head, *lines = command.epilog.splitlines()
    assert head == "Examples:"
    text = "\n".join(lines).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines()]


EXAMPLES = [(name, example) for name, command in COMMANDS.items() for example in examples(command)]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_one_or_two_examples(name: str) -> None:
    found = examples(COMMANDS[name])
    assert 1 <= len(found) <= 2
    assert all(example.startswith(name) for example in found)
    lines = COMMANDS[name].epilog.splitlines()
    assert max(map(len, lines)) < 79
    shown = done(*name.split()[1:], "--help").stdout.rstrip().splitlines()
    assert [line.strip() for line in shown[-len(lines) :]] == [line.strip() for line in lines]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples name, and a cache that holds the features of ``pets``."""
    import timm
    import torch
    from safetensors.torch import save_model

    folder = tmp_path_factory.mktemp("examples")
    write_digits(folder / "pets", ANIMALS, 20)
    write_digits(folder / "birds", {"wren": 0, "owl": 5}, 4)
    (folder / "candidates.txt").write_text(f"{DEFAULT_MODEL} --img-size 64\ntest_vit --random-init\n")
    (folder / "run").mkdir()
    torch.manual_seed(0)
    for epoch in (1, 2):
        model = timm.create_model(MODEL, num_classes=len(ANIMALS))
        save_model(model, str(folder / "run" / f"epoch-{epoch}.safetensors"))
    done("extract", "--data", folder / "pets", "--cache-dir", folder / "cache", "--quiet")
    features = nct.load_features(DEFAULT_MODEL, cache_dir=folder / "cache")
    head = made_head(features.classes, features.dim, 20, features.info.key)
    head.save(folder / "pets.head")
    write_digits(folder / "new_photos", {"cat": 1, "2024": 7}, 3)
    for copy in ("one set", "worker-1", "worker-2"):  # other examples add to the cache
        shutil.copytree(folder / "cache", folder / copy)
    return folder


LONG = ("nctransfer demo", "nctransfer trajectory", "nctransfer check", "nctransfer export")
"""Other tests run these commands on less."""


@pytest.mark.parametrize(
    ("name", "example"),
    [pytest.param(name, example, id=example, marks=[pytest.mark.slow] * (name in LONG)) for name, example in EXAMPLES],
)
def test_an_example_runs(
    name: str, example: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "nctransfer export":
        pytest.importorskip("onnxruntime")
    monkeypatch.chdir(prepared)
    cache = prepared / "cache"
    if name.startswith("nctransfer cache"):  # these name a set by its model alone, and one of them deletes it
        cache = shutil.copytree(prepared / "one set", tmp_path / "cache")
    monkeypatch.setenv("NCTRANSFER_CACHE", str(cache))
    words = shlex.split(example)[1:]
    written = [Path(words[place + 1]) for place, word in enumerate(words) if word in ("--output", "--figure")]
    for path in written:  # an example before it may have written the same file
        path.unlink(missing_ok=True)
    result = done(*words, "--offline") if "--offline" in typer_options(COMMANDS[name]) else done(*words)
    assert all((prepared / path).stat().st_size for path in written)
    assert result.stdout.strip() or "--output" in words or name == "nctransfer cache remove"


def typer_options(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts}


def test_commands_are_listed_under_the_question_that_they_answer() -> None:
    shown = done("--help").stdout
    panels = [line.strip("╭─╮ ") for line in shown.splitlines() if line.startswith("╭")]
    first = ["Options", "Start here", "Which backbone, and how many labels?", "Get features", "How good are they?"]
    assert panels == [*first, "Which labels look wrong?", "Label new images", "Follow training", "The cache"]


@pytest.mark.parametrize("name", ["collapse", "fewshot", "trajectory", "extract"])
def test_the_options_of_the_command_come_before_the_shared_ones(name: str) -> None:
    panels = [line.strip("╭─╮ ") for line in done(name, "--help").stdout.splitlines() if line.startswith("╭")]
    assert panels[-4:] == ["Data", "Backbone", "How to run", "Output"]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (("colapse",), "collapse"),
        (("cache", "lst"), "list"),
        (("fewshot", "--shot", "1"), "--shots"),
        (("extract", "--modle", "x"), "--model"),
        (("models", "--format", "jsn"), "json"),
    ],
)
def test_a_misspelt_word_is_told_the_nearest(wrong: tuple[str, ...], right: str) -> None:
    assert shows(misused(*wrong), wrong[-1] if wrong[-1] not in ("1", "x") else wrong[-2], right)


@pytest.mark.parametrize(
    ("wrong", "value", "right"),
    [
        (("extract", "--model", "resnet81"), "resnet81", "resnet18"),
        (("models", "resnett18"), "resnett18", "resnet18"),
        (("fewshot", "--classifier", "rigde"), "rigde", "ridge"),
        (("explain", "kat", "dog"), "kat", "cat"),
        (("collapse", "--split", "trian"), "trian", "train"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(
    wrong: tuple[str, ...], value: str, right: str, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "--split" in wrong:
        for split in ("train", "test"):
            write_digits(prepared / "split" / split, {"cat": 0, "dog": 1}, 2)
        wrong = (*wrong, "--data", str(prepared / "split"), "--model", "test_vit", "--random-init")
    monkeypatch.setenv("NCTRANSFER_CACHE", str(prepared / "cache"))
    found = refusal(*wrong)
    assert shows(found.message, value)
    assert shows(found.hint, right)
