"""The command line in this process, where torch and timm are loaded once, and checks of what it says.

Tests check facts, not sentences. An error has a type, shows the value that the user gave, and its hint names the option
that helps (:func:`refusal`). A warning or a note shows its numbers and names (:func:`warned`, :func:`noted`).
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import pytest
import typer
from typer.testing import CliRunner

import nctransfer as nct
from messages import names
from nctransfer.cli import app

VIT = ("--model", "test_vit", "--random-init")  # a tiny backbone
SMALL = ("--ways", "2", "--queries", "3", "--episodes", "20")  # what fits six images a class

COMMAND = typer.main.get_command(app)


def cli(*arguments: object, charset: str = "utf-8", answer: str | None = None, **environment: str) -> Any:
    """A command, however it ends."""
    logger = logging.getLogger("nctransfer")
    before = logger.propagate, logger.level
    words = [str(argument) for argument in arguments]
    environment = {"COLUMNS": "80", "HF_HUB_OFFLINE": "1", **environment}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nctransfer", *words])
        # the runner would build all commands and their options anew each time, which takes longer than most of them
        patch.setattr("typer.testing._get_command", lambda _: COMMAND, raising=False)
        try:
            runner = CliRunner(charset=charset)
            return runner.invoke(app, words, input=answer, env=environment, catch_exceptions=False)
        finally:
            logger.propagate = before[0]
            logger.setLevel(before[1])


def done(*arguments: object, **settings: Any) -> Any:
    """A command that ends well."""
    result = cli(*arguments, **settings)
    assert (result.exit_code, result.stderr if result.exit_code else "") == (0, "")
    return result


def shows(text: str, *values: object) -> bool:
    """Whether a text shows each of the values as :func:`messages.names` has it.

    Control characters may be escaped, and an empty value shows as empty quotes or by the word "empty".
    """
    return not missing(text, *values)


def missing(text: str, *values: object) -> list[object]:
    """The values that a text does not show; see :func:`shows`."""
    return [value for value in values if not any(names(text, form) for form in _forms(value))]


def shows_line(text: str, *values: object) -> bool:
    """Whether one line of a text shows all of the values."""
    return any(shows(line, *values) for line in text.splitlines())


def _forms(value: object) -> Iterable[object]:
    if value == "":
        return ("''", '""', "empty")
    if isinstance(value, int):
        return (value,)
    text = str(value)
    return {text, repr(text)[1:-1], "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)}


def warnings_of(result: Any) -> list[str]:
    """The warnings of a command: lines on stderr."""
    return [line for line in result.stderr.splitlines() if line.startswith("warning: ")]


def notes_of(result: Any) -> list[str]:
    """What a command says on stderr beside warnings, broken images and its error."""
    before = re.split(r"^\{", result.stderr, maxsplit=1, flags=re.MULTILINE)[0]  # the error as JSON
    return [line for line in before.splitlines() if not re.match("warning: |error: |hint: |  ", line)]


def warned(result: Any, *values: object) -> bool:
    """Whether one warning shows all of the values."""
    return any(shows(line, *values) for line in warnings_of(result))


def noted(result: Any, *values: object) -> bool:
    """Whether one note shows all of the values."""
    return any(shows(line, *values) for line in notes_of(result))


@dataclass(frozen=True)
class Refusal:
    """An error of the command line, as its JSON has it.

    ``notes`` is what stderr says before. ``content`` is the whole JSON object.
    """

    type: str
    message: str
    hint: str
    notes: str
    content: dict[str, Any]

    def expect(
        self,
        kind: str,
        *values: object,
        hint: object | tuple[object, ...] | None = (),
        tells: object | tuple[object, ...] = (),
    ) -> Self:
        """Check the facts of an error.

        Args:
            kind: The name of its class.
            values: What the message must show: the value that was given.
            hint: What the hint must name: options, commands, names to choose from. With ``None`` there may be no hint.
            tells: What the message or the hint must show.
        """
        assert self.type == kind, self
        assert missing(self.message, *values) == [], self
        assert hint is None or self.hint.strip(), self
        assert hint is None or missing(self.hint, *_each(hint)) == [], self
        assert missing(f"{self.message}\n{self.hint}", *_each(tells)) == [], self
        return self


def _each(values: object) -> tuple[object, ...]:
    return values if isinstance(values, tuple) else (values,)


def refusal(*arguments: object, **settings: Any) -> Refusal:
    """The error that a command ends in: nothing on stdout, one error on stderr, exit code 2 if the usage was wrong."""
    result = cli(*arguments, "--format", "json", **settings)
    assert result.stdout == ""
    error = error_of(result.stderr)
    assert result.exit_code == (2 if error.type == "SettingError" else 1)
    return error


def error_of(stderr: str) -> Refusal:
    """The error at the end of what a command with ``--format json`` wrote to stderr; notes may go before."""
    assert "Traceback" not in stderr
    found = re.search(r"^\{", stderr, re.MULTILINE)
    assert found, stderr
    start = found.start()
    error = json.loads(stderr[start:], parse_constant=pytest.fail)["error"]
    assert error.keys() - {"broken"} == {"type", "message", "hint"}
    assert error["type"] in nct.errors.__all__
    assert error["message"].strip()
    return Refusal(error["type"], error["message"], error["hint"], stderr[:start], error)


def refused(*arguments: object, **settings: Any) -> str:
    """What a command says that ends in an error: what is wrong, and what to do next; notes may go before."""
    result = cli(*arguments, **settings)
    assert (result.exit_code in (1, 2), result.stdout) == (True, "")
    complaint: str = result.stderr
    assert "Traceback" not in complaint
    assert complaint.count("error: ") == 1
    said = complaint[complaint.index("error: ") :].splitlines()
    assert [line.partition(": ")[0] for line in said] == ["error", "hint"]
    return complaint


def misused(*arguments: object) -> str:
    """What a command says that nobody can mean: words of any length, in a box that folds them."""
    result = cli(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Usage: nctransfer" in result.stderr
    assert "Traceback" not in result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


def data_of(*arguments: object) -> dict[str, Any]:
    """The JSON of a command, without anything that JSON does not know."""
    found: dict[str, Any] = json.loads(done(*arguments, "--format", "json").stdout, parse_constant=pytest.fail)
    return found


def known(found: dict[str, Any]) -> dict[str, float]:
    """The measures of collapse that are defined."""
    return {name: value for name, value in found["metrics"].items() if value is not None}


def facts_of(shown: str) -> list[str]:
    """The lines between the title that a command prints and its first table."""
    return shown.partition("\n\n")[0].splitlines()[1:]


def tables(shown: str) -> list[list[list[str]]]:
    """The tables that a command prints, each as lines of words: its head, and its rows."""
    lines = shown.splitlines()
    found = []
    for number, line in enumerate(lines):
        if line.startswith("─"):
            end = next((place for place in range(number, len(lines)) if not lines[place].strip()), len(lines))
            found.append([words.split() for words in (lines[number - 1], *lines[number + 1 : end])])
    return found


HALTING = """
import sys, time
from nctransfer.backbones.backbone import Backbone
from nctransfer.cli import main

call, left = Backbone.__call__, int(sys.argv.pop(1))

def halting(self, pixels):
    global left
    left -= len(pixels)
    if left < 0:
        time.sleep(600)
    return call(self, pixels)

Backbone.__call__ = halting
main()
"""


def command_line(*arguments: object, halts_after: int | None = None) -> list[str]:
    """A command for a process of its own.

    Args:
        arguments: What is given to ``nctransfer``.
        halts_after: Once so many images are through the backbone, it waits for a signal. So a test that sends one while
            images run is never too late, however fast or busy the machine is.
    """
    start = ["-m", "nctransfer"] if halts_after is None else ["-c", HALTING, str(halts_after)]
    return [sys.executable, *start, *map(str, arguments)]


def on_terminal(
    *arguments: object,
    react: Callable[[bytes, subprocess.Popen[bytes]], object] = lambda *_: None,
    halts_after: int | None = None,
    **environment: str,
) -> tuple[int, str]:
    """Exit code and screen of a command in its own process on a terminal; ``react`` sees the screen as it grows."""
    master, slave = pytest.importorskip("pty").openpty()
    process = subprocess.Popen(
        command_line(*arguments, halts_after=halts_after),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment},
    )
    os.close(slave)
    limit = threading.Timer(300, process.kill)  # no test hangs
    limit.start()
    screen = b""
    try:
        while chunk := os.read(master, 65536):
            screen += chunk
            react(screen, process)
    except OSError:  # the other end is closed
        pass
    os.close(master)
    code = process.wait()
    limit.cancel()
    return code, screen.decode()
