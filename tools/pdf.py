"""The book as a PDF: its single page, printed by Chromium. ``python -m tools.pdf PAGE TARGET``."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

from lmrel.errors import InputError, command
from lmrel.files import writing

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def print_page(page: Path, target: Path) -> Path:
    """`page`, a local HTML file, as a tagged A4 PDF with an outline."""
    if not page.is_file():
        raise InputError(f"there is no page {page}; `make book` makes one.")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise InputError("a PDF needs Chromium; install it with your system's package manager.")
    with writing(target):
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


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    print_page(given.page, given.target)


if __name__ == "__main__":
    main()
