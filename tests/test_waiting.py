"""The command lets waiting threads sleep, unless the user has settled it."""

from __future__ import annotations

import os

import pytest

from nctransfer import cli
from nctransfer.cli.waiting import wait_passively

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {name: text for name, text in os.environ.items() if name not in SETTINGS})


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_user_has_settled_stays(name: str) -> None:
    os.environ[name] = "7"
    before = dict(os.environ)
    wait_passively()
    assert os.environ == before


def test_the_command_settles_it_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(cli, "application", lambda _: lambda: seen.append(os.environ.get("OMP_WAIT_POLICY")))
    cli.main()
    assert seen == ["PASSIVE"]
