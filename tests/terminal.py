"""The command line in this process, where torch and timm are loaded but once, and what it must hold to."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from nctransfer.cli import app

VIT = ("--model", "test_vit", "--random-init")  # a tiny backbone
SMALL = ("--ways", "2", "--queries", "3", "--episodes", "20")  # what fits six images a class


def cli(*arguments: object, charset: str = "utf-8", answer: str | None = None, **environment: str) -> Any:
    """A command, however it ends."""
    logger = logging.getLogger("nctransfer")
    before = logger.propagate, logger.level
    words = [str(argument) for argument in arguments]
    environment = {"COLUMNS": "80", "HF_HUB_OFFLINE": "1", **environment}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nctransfer", *words])
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


def refused(*arguments: object, **settings: Any) -> str:
    """What a command says that ends in an error: what is wrong, and what to do next; notes may go before."""
    result = cli(*arguments, **settings)
    assert (result.exit_code, result.stdout) == (1, "")
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
