"""The book as a reader has it: real Chromium, files only, network off. Needs a finished `make book`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.conftest import ROOT

SITE = ROOT / "_build" / "html"
NOT_PAGES = {"genindex", "search"}
PAGES = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path.stem not in NOT_PAGES
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "the book's tests need Chromium: install it with your system's package manager"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


def opened(browser: Browser, name: str, **options: Any) -> tuple[Page, list[str]]:
    """A page of the site and everything that went wrong on it so far; the list goes on growing."""
    page = browser.new_context(offline=True, **options).new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url)
    )
    page.goto((SITE / name).as_uri())
    return page, wrong


def test_the_pages_are_there() -> None:
    expected = {"index.html", "results/compare.html", "results/tiny-dense-base/evaluate.html", "book/references.html"}
    assert expected <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_error_request_or_overflow(browser: Browser, name: str) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        page, wrong = opened(browser, name, viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.wait_for_timeout(200)
        assert page.locator(".bd-article h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure in page.locator(".lmrel-chart").all():
            shown = figure.locator(".static:visible svg")
            assert shown.count() == 1
            box = shown.bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert box["height"] > 150
            assert figure.get_attribute("aria-label")
        assert wrong == []
        page.context.close()


@pytest.mark.parametrize("name", [name for name in PAGES if "lmrel-chart" in (SITE / name).read_text()])
def test_every_figure_comes_alive_with_the_network_off(browser: Browser, name: str) -> None:
    page, wrong = opened(browser, name)
    for figure in page.locator(".lmrel-chart").all():
        figure.focus()
        marks = figure.locator(".live svg .mark-symbol path, .live svg .mark-rect path, .live svg .mark-line path")
        figure.locator(".live svg").first.wait_for(timeout=20_000)
        assert marks.count() >= 4
        assert not figure.locator(".static.wide").is_visible()
    assert wrong == []
    page.context.close()


def test_a_tooltip_tells_the_interval(browser: Browser) -> None:
    page, _ = opened(browser, "results/compare.html")
    figure = page.locator(".lmrel-chart").first
    figure.focus()
    points = figure.locator(".live svg .mark-symbol.role-mark path")
    points.first.wait_for()
    points.first.hover()
    page.locator("#vg-tooltip-element.visible").wait_for()
    assert "95 % interval from" in page.locator("#vg-tooltip-element").inner_text()
    page.context.close()


def test_without_javascript_the_figures_are_there(browser: Browser) -> None:
    page, _ = opened(browser, "index.html", java_script_enabled=False)
    assert page.locator(".lmrel-chart .static.wide svg").is_visible()
    page.context.close()


def test_results_stand_on_the_pages_and_are_called_what_they_are() -> None:
    text = (SITE / "results" / "compare.html").read_text()
    assert "tiny-sparse-instruct" in text
    assert "Published accuracy (large models)" in text
    assert "Accuracy (tiny models)" in text
    assert "{number}" not in (SITE / "index.html").read_text()


def build(folder: Path, *cells: Any, page: str = "# Home\n") -> subprocess.CompletedProcess[str]:
    """A book of one page and one notebook, with this book's configuration."""
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    (folder / "results").mkdir()
    (folder / "results" / "numbers.json").write_text('{"known": "42"}')
    (folder / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: note\n")
    (folder / "index.md").write_text(page)
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    notebook.cells = [nbformat.v4.new_markdown_cell("# Note"), *cells]
    nbformat.write(notebook, folder / "note.ipynb")
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-n", "-W", "--keep-going"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_number_is_read_and_a_sound_notebook_passes(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("1", execution_count=1)
    done = build(tmp_path, cell, page="# Home\n\nIt is {number}`known`.\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It is 42." in (tmp_path / "_build" / "html" / "index.html").read_text()


def test_a_missing_number_fails_the_build(tmp_path: Path) -> None:
    done = build(tmp_path, page="# Home\n\n{number}`unknown`\n")
    assert done.returncode != 0
    assert "has no 'unknown'" in done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["error", "not run"])
def test_a_notebook_that_did_not_end_well_fails_the_build(tmp_path: Path, fault: str) -> None:
    cell = nbformat.v4.new_code_cell("1 / 0", execution_count=1)
    if fault == "error":
        cell.outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="x", traceback=["x"])]
    else:
        cell.execution_count = None
    done = build(tmp_path, cell)
    assert done.returncode != 0
    said = "holds a traceback" if fault == "error" else "was not run"
    assert said in done.stdout + done.stderr
