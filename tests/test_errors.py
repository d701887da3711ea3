"""The tree of errors is the one that its docstring draws."""

from __future__ import annotations

import inspect
import re

import pytest

import nctransfer
from messages import says
from nctransfer import errors
from nctransfer.errors import BrokenImage, BrokenImagesError, NCTransferError


def _drawn() -> dict[str, str]:
    """Each class that the docstring draws, and its parent there."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:[├└│]...|    )*)(\w+Error)\b", line):
            depth = len(match[1]) // 4
            above[depth:] = [match[2]]
            parents[match[2]] = above[depth - 1] if depth else "Exception"
    return parents


def _classes() -> dict[str, type]:
    return {name: value for name, value in vars(errors).items() if inspect.isclass(value)}


def test_drawn_tree_is_the_real_one() -> None:
    real = {
        name: kind.__base__.__name__
        for name, kind in _classes().items()
        if issubclass(kind, Exception) and kind.__module__ == errors.__name__
    }
    assert _drawn() == real


def test_all_is_complete_and_sorted() -> None:
    public = [name for name, kind in _classes().items() if kind.__module__ == errors.__name__]
    assert sorted([*public, "counted", "did_you_mean", "join_names", "reason_of", "short_text"]) == errors.__all__


def test_root_is_the_public_one() -> None:
    assert nctransfer.NCTransferError is NCTransferError


@pytest.mark.parametrize("name", sorted(set(_drawn()) - {"BrokenImagesError"}))
def test_message_and_hint(name: str) -> None:
    error = getattr(errors, name)("too hot", "wait")
    assert (str(error), error.message, error.hint) == ("too hot", "too hot", "wait")
    assert getattr(errors, name)("too hot").hint == ""


@pytest.mark.parametrize("count", [1, 1234])
def test_broken_images_are_counted_and_kept(count: int) -> None:
    broken = [BrokenImage(str(i), "0 bytes") for i in range(count)]
    error = BrokenImagesError(broken, 5678)
    says(error, count, 5678, hint="--skip-broken")
    assert error.broken == tuple(broken)
