"""Draw docs/report.webp, a picture of the report on the built-in digits.

python docs/make_report_picture.py

It needs Chromium, which Playwright drives. Features are taken from the cache if they are there.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).with_name("report.webp")
SECTIONS = ("verdict", "class-map", "image-map", "closest-pairs")
WIDTH, HEIGHT = 1000, 700  # pixels of the window
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    """Write the report, open it, and put four views beside each other."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        command = [sys.executable, "-m", "nctransfer", "report", "--data", "digits", "--output", page, "--quiet"]
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
        views = [Image.open(io.BytesIO(view)) for view in photographs(page)]
    sheet = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
    for number, view in enumerate(views):
        sheet.paste(view, (number % 2 * WIDTH, number // 2 * HEIGHT))
    sheet.resize((1400, 1400 * HEIGHT // WIDTH), Image.Resampling.LANCZOS).save(PICTURE, quality=75, method=6)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def photographs(page: Path) -> list[bytes]:
    """What a window shows that is scrolled to each section."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=options)
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.goto(page.as_uri())
        shots = []
        for section in SECTIONS:
            tab.evaluate("id => document.getElementById(id).scrollIntoView()", section)
            tab.wait_for_timeout(500)
            shots.append(tab.screenshot())
        browser.close()
    return shots


if __name__ == "__main__":
    main()
