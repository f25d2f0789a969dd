"""The Chromium in which tests open the site, and which prints the book.

``python -m tests.browser`` prints its path, and brings one first where there is none; with ``find`` it only looks. With
``skipped REPORT`` it says which tests of pytest's XML report were skipped because no browser could be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "there is no Chromium here"
INSTALL = "install Chromium, for example with `apt-get install chromium` or your system's package manager"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run"]


def find() -> str | None:
    """The path of a Chromium that starts: one on the PATH, else the one that playwright has downloaded, else None."""
    on_path = (path for name in NAMES if (path := shutil.which(name)) and starts(path))
    return next(on_path, None) or (own if starts(own := downloaded()) else None)


def downloaded() -> str:
    """Where playwright keeps its own Chromium, whether or not it has been downloaded."""
    with sync_playwright() as playwright:
        return playwright.chromium.executable_path


def starts(path: str) -> bool:
    """Whether a browser is more than a placeholder for a package, and has all libraries that it needs."""
    return Path(path).exists() and run(path, "--version")


def run(*command: str) -> bool:
    """Whether a command succeeds; it is given ten minutes and no keyboard, so that it cannot wait for an answer."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def bring() -> str | None:
    """The path of a Chromium, which is downloaded or installed if there is none; None where that needs a person."""
    if path := find():
        return path
    print("There is no Chromium here; playwright downloads one.", file=sys.stderr)
    run(sys.executable, "-m", "playwright", "install", "chromium")
    if path := find():
        return path
    # Debian's and Ubuntu's package manager may install without asking if this is root, or sudo wants no password.
    root = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
    if not run(*root, "apt-get", "--version"):
        return None
    print("apt-get installs what is missing.", file=sys.stderr)
    if Path(downloaded()).exists():  # it does not start, then: libraries are missing
        run(sys.executable, "-m", "playwright", "install-deps", "chromium")
    else:
        run(*root, "apt-get", "-qq", "update")
        run(*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "--yes", "install", "chromium")
    return find()


def opened(browser: Browser, address: str, **options: Any) -> tuple[Page, list[str]]:
    """A page, without a network, and everything that went wrong on it so far; the list goes on growing."""
    page = browser.new_context(offline=True, **options).new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
    )
    page.goto(address)
    return page, wrong


def skipped(report: str) -> str:
    """Which tests of a report (XML) were not run for want of a browser, and what to do, in a line; empty if none."""
    files = Counter(
        case.get("classname", "").replace(".", "/") + ".py"
        for case in ElementTree.fromstring(report).iter("testcase")
        if any(MISSING in (child.get("message") or "") for child in case.iter("skipped"))
    )
    named = ", ".join(f"{count} of {name}" for name, count in sorted(files.items()))
    return f"Not run, because {MISSING}: {named}. To run these tests, {INSTALL}." if files else ""


def main(what: str = "", report: str = "") -> None:
    """Command line."""
    if what == "skipped":
        said = skipped(Path(report).read_text(encoding="utf-8"))
        if said and os.environ.get("CI"):
            raise SystemExit(said)
        print(said, end="\n" if said else "")
    elif path := find() if what == "find" else bring():
        print(path)
    else:
        raise SystemExit(f"There is no Chromium, and none could be brought; {INSTALL}.")


if __name__ == "__main__":
    main(*sys.argv[1:])
