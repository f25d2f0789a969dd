"""The book as a PDF: its single page, printed by Chromium. ``python -m lmrel.pdf PAGE TARGET``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def print_page(page: Path, target: Path) -> Path:
    """`page`, a local HTML file, as a tagged A4 PDF with an outline."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("error: a PDF needs Chromium; install it with your system's package manager.")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        sheet = running.new_context(offline=True, color_scheme="light").new_page()
        sheet.goto(page.resolve().as_uri())
        sheet.pdf(
            path=temporary,
            format="A4",
            tagged=True,
            outline=True,
            print_background=True,
            margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
        )
        running.close()
    os.replace(temporary, target)
    return target


if __name__ == "__main__":
    print_page(Path(sys.argv[1]), Path(sys.argv[2]))
