"""The system's Chromium, driven by Playwright; tests skip where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Visit", "chromium", "frames", "visit"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000  # milliseconds until an action is given up, on a busy machine


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser. Without one that starts, or without Playwright, the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("needs Chromium")
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as running:
        try:
            browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"] if is_root else [])
        except playwright.Error as error:  # some systems have only a stub of this name
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is open, and what went wrong on it.

    Attributes:
        page: Playwright's page.
        problems: Errors, warnings, dialogs and violations of the page's policy.
        requests: The addresses that were asked for, without those of data within the page.
    """

    page: Any
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Any, path: Path, width: int = 1200, scheme: str = "light", **options: Any) -> Iterator[Visit]:
    """Open a file with the network cut, and watch what happens.

    Args:
        browser: The browser.
        path: The file.
        width: Of the window, in pixels.
        scheme: What the system prefers: ``light`` or ``dark``.
        options: Further options of Playwright's context.
    """
    context = browser.new_context(
        offline=True, viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True, **options
    )
    context.set_default_timeout(PATIENCE)
    seen = Visit(context.new_page())
    page = seen.page
    page.on("console", lambda message: seen.problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.problems.append(f"error: {error}"))
    page.on("request", lambda one: one.url.startswith(("data:", "blob:")) or seen.requests.append(one.url))

    def refuse(dialog: Any) -> None:
        seen.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)
    page.goto(path.as_uri())
    if options.get("java_script_enabled", True):
        frames(page)
    yield seen
    context.close()


def frames(page: Any) -> None:
    """Wait until the page has drawn what it was asked to."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
