"""The book as a reader has it: real Chromium, files only, network off. Needs a finished `make book`."""

from __future__ import annotations

import html
import importlib
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import altair as alt
import nbformat
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser import opened as opened_at
from tests.conftest import ROOT

SITE = ROOT / "_build" / "html"
NOT_PAGES = {"genindex", "py-modindex", "search"}
PAGES = sorted(
    str(path.relative_to(SITE))
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts and path.stem not in NOT_PAGES
)
SCREENS = 8  # of a phone; as many a page is long at most
MAY_BE_LONGER = {  # and why
    r"book/api/\w+": "a reference",
    r"book/(data|settings)": "a reference",
    r"book/plan(-\w+)?": "a plan, which stays as it was written",
    r"results/\w+_appendix": "an appendix",
}
FIGURES, CAPTIONED = (
    [name for name in PAGES if mark in (SITE / name).read_text(encoding="utf-8")]
    for mark in ("lmrel-chart", "</figcaption>")
)


def opened(browser: Browser, name: str, **options: Any) -> tuple[Page, list[str]]:
    """A page of the site and everything that went wrong on it so far; the list goes on growing."""
    file, _, query = name.partition("?")
    return opened_at(browser, f"{(SITE / file).as_uri()}?{query}", **options)


def unfold(page: Page) -> None:
    """Open what waits on a page: answers behind a question, and what is folded."""
    page.evaluate("document.querySelectorAll('button.skip').forEach((button) => button.click())")
    page.evaluate("document.querySelectorAll('details:not(.choice)').forEach((one) => { one.open = true; })")


def test_the_pages_are_there() -> None:
    expected = {"index.html", "results/compare.html", "results/tiny-dense-base/evaluate.html", "book/references.html"}
    assert expected <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_without_error_request_or_overflow(browser: Browser, name: str) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        page, wrong = opened(browser, name, viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.wait_for_timeout(200)
        unfold(page)
        assert page.locator(".bd-article h1").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure in page.locator(".lmrel-chart").all():
            shown = figure.locator(".static:visible svg")
            assert shown.count() == 1
            box = shown.bounding_box()
            assert box is not None
            assert box["width"] > 200
            assert box["height"] > 150
            caption = page.locator(f"#{figure.get_attribute('aria-describedby')}")
            assert re.match(r"Figure \d+\. \w", caption.inner_text())
        assert wrong == []
        page.context.close()


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_comes_alive_with_the_network_off(browser: Browser, name: str) -> None:
    page, wrong = opened(browser, name)
    unfold(page)
    for figure in page.locator(".lmrel-chart").all():
        figure.focus()
        marks = figure.locator(".live svg .mark-symbol path, .live svg .mark-rect path, .live svg .mark-line path")
        figure.locator(".live svg").first.wait_for(timeout=20_000)
        assert marks.count() >= 4
        assert not figure.locator(".static.wide").is_visible()
    assert wrong == []
    page.context.close()


@pytest.mark.parametrize("name", FIGURES)
def test_a_live_figure_is_as_large_as_its_picture(browser: Browser, name: str) -> None:
    for width in (390, 1280):
        page, _ = opened(browser, name, viewport={"width": width, "height": 900})
        unfold(page)
        for figure in page.locator(".lmrel-chart:not([role=group])").all():
            before = figure.locator(".static:visible svg").bounding_box()
            figure.focus()
            live = figure.locator(".live svg")
            live.first.wait_for(timeout=20_000)
            after = live.bounding_box()
            assert before is not None
            assert after is not None
            assert abs(after["width"] - before["width"]) <= 2
            assert abs(after["height"] - before["height"]) <= 12  # a browser's letters are not those of the picture
        page.context.close()


@pytest.mark.parametrize("name", CAPTIONED)
def test_a_caption_is_not_what_stands_for_the_picture(name: str) -> None:
    text = (SITE / name).read_text(encoding="utf-8")
    labels = re.findall(r'aria-label="([^"]+)" aria-describedby', text)
    captions = re.findall(r"</span> (.*?)</figcaption>", text)
    assert len(labels) == len(captions)
    assert not {html.unescape(label) for label in labels} & {html.unescape(caption) for caption in captions}


@pytest.mark.parametrize("name", PAGES)
def test_what_folds_code_says_what_the_code_does(name: str) -> None:
    assert "Show code cell" not in (SITE / name).read_text(encoding="utf-8")


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


@pytest.mark.parametrize("name", FIGURES)
def test_without_javascript_the_figures_are_there(browser: Browser, name: str) -> None:
    page, _ = opened(browser, name, java_script_enabled=False)
    unfold(page)  # a reader can, without a script
    for figure in page.locator(".lmrel-chart").all():
        assert figure.locator(".static.wide svg").is_visible()
    page.context.close()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_a_number_its_data_and_the_function_that_drew_it(name: str) -> None:
    text = (SITE / name).read_text(encoding="utf-8")
    figures = re.findall(r'<figure class="lmrel-figure">.*?</figure>', text, re.DOTALL)
    assert [int(re.findall(r"Figure (\d+)\.", figure)[0]) for figure in figures] == [*range(1, len(figures) + 1)]
    for figure in figures:
        [data] = re.findall(r'href="data:text/csv;charset=utf-8,([^"]+)"', figure)
        assert len(pd.read_csv(io.StringIO(unquote(data)))) >= 1
        [(room, function)] = re.findall(r'<a href="[./a-z]*api/(\w+)\.html#([\w.]+)">drawn by', figure)
        module, _, own = function.rpartition(".")
        assert callable(getattr(importlib.import_module(module), own))
        assert f'id="{function}"' in (SITE / "book" / "api" / f"{room}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(browser: Browser, name: str) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        page, _ = opened(browser, name, viewport={"width": width, "height": 900}, color_scheme=scheme)
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found] == []
        page.context.close()


def loaded(browser: Browser, name: str) -> dict[str, int]:
    """What a page loads by itself, by name, in bytes as they lie on the disk."""
    page = browser.new_context(offline=True).new_page()
    files: set[Path] = set()
    page.on("request", lambda request: files.add(Path(unquote(urlparse(request.url).path))))
    page.goto((SITE / name).as_uri())
    page.wait_for_timeout(300)
    page.context.close()
    return {path.name: path.stat().st_size for path in files if path.is_file()}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_light_before_it_is_packed(browser: Browser, name: str) -> None:
    files = loaded(browser, name)
    weights = {file for file in files if file.startswith("weights-")}
    limit = 1_200_000 if weights else 700_000
    assert sum(size for file, size in files.items() if file not in weights) <= limit, files
    assert sum(size for file, size in files.items() if file.endswith(".woff2")) <= 60_000
    assert len([file for file in files if file.endswith(".css")]) <= 3
    assert not {"vega.js", "searchindex.js", "bootstrap.js", "fontawesome.js"} & files.keys()


def test_every_icon_of_the_theme_is_in_the_books_own_font() -> None:
    styles = (SITE / "_static" / "site.css").read_text(encoding="utf-8")
    [ranges] = re.findall(r"unicode-range:([^;]+);", styles)
    there = set()
    for first, last in re.findall(r"U\+([0-9A-F]+)(?:-([0-9A-F]+))?", ranges):
        there.update(range(int(first, 16), int(last or first, 16) + 1))
    used = re.findall(r'(?:content|--fa|--pst-icon-[\w-]+):\s*"(?:\\([0-9a-f]{4})|([\ue000-\uf8ff]))', styles)
    codes = {int(code, 16) if code else ord(sign) for code, sign in used}
    brands = {0xF09B, 0xF296}  # github and gitlab, to which nothing here leads
    assert len(codes) > 10
    assert codes - brands <= there


def test_the_search_finds_top_p_and_the_lesson_on_temperature_first(browser: Browser) -> None:
    for asked, found, first in (
        ("top-p", "Glossary", ""),
        ("temperature", "What temperature does", "What temperature does"),
    ):
        page, wrong = opened(browser, f"search.html?q={asked}")
        results = page.locator("#search-results ul.search li")
        results.first.wait_for(timeout=10_000)
        texts = results.all_inner_texts()
        assert any(found in text for text in texts)
        assert first in texts[0]
        assert wrong == []
        page.context.close()


def test_a_page_says_what_it_is_about_where_a_link_to_it_is_shown() -> None:
    said = set()
    for name in PAGES:
        text = (SITE / name).read_text(encoding="utf-8")
        head = text.partition("</head>")[0]
        [title] = re.findall(r'<meta property="og:title" content="([^"]+)">', head)
        [about] = re.findall(r'<meta property="og:description" content="([^"]+)">', head)
        [picture] = re.findall(r'<meta property="og:image" content="([^"]+)">', head)
        assert head.count('name="viewport"') == 1
        assert not about.startswith("Rests on")
        assert len(html.unescape(about)) <= 162
        assert ((SITE / name).parent / picture).resolve() == SITE / "_static" / "card.png"
        said.add(title)
    assert len(said) >= len(PAGES) - 1


def test_prose_keeps_to_its_measure_and_headings_to_their_rank(browser: Browser) -> None:
    for width in (1440, 390):
        page, _ = opened(browser, "book/question.html", viewport={"width": width, "height": 900})
        fonts = page.evaluate(
            "document.fonts.ready.then(() => [...document.fonts].filter((f) => f.status === 'loaded').length)"
        )
        assert fonts >= 2  # the text face, and the icons
        line, size, family = page.evaluate(
            """() => { const p = document.querySelectorAll('.bd-article section > p')[1], style = getComputedStyle(p);
            return [p.clientWidth, parseFloat(style.fontSize), style.fontFamily]; }"""
        )
        characters = line / (0.46 * size)  # the face's mean width, spaces among it
        assert "Source Serif Text" in family
        assert characters <= 75
        assert characters >= (60 if width == 1440 else 40)
        sizes = [
            page.evaluate(f"parseFloat(getComputedStyle(document.querySelector('.bd-article {tag}')).fontSize)")
            for tag in ("h1", "h2")
        ]
        assert sizes[0] > 1.3 * sizes[1] > 1.3 * size
        page.context.close()


def test_the_landing_page_shows_its_figure_first_and_is_read_in_four_screens_of_a_phone(browser: Browser) -> None:
    page, wrong = opened(browser, "index.html", viewport={"width": 390, "height": 844}, has_touch=True)
    dial = page.locator("[data-figure=landing] input[type=range]").first
    dial.wait_for()
    box = dial.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 844
    assert page.evaluate("document.documentElement.scrollHeight") <= 4 * 844
    text = page.locator(".bd-article").inner_text()
    assert text.index("At temperature 0") < text.index("points of accuracy") < text.index("Teach")
    assert wrong == []
    page.context.close()


def test_no_page_is_longer_than_eight_screens_of_a_phone(browser: Browser) -> None:
    context = browser.new_context(offline=True, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page, long = context.new_page(), {}
    for name in PAGES:
        if not any(re.fullmatch(rf"{pattern}\.html", name) for pattern in MAY_BE_LONGER):
            page.goto((SITE / name).as_uri())
            page.evaluate("document.querySelectorAll('button.skip').forEach((button) => button.click())")
            page.wait_for_timeout(300)
            long[name] = page.evaluate("document.documentElement.scrollHeight") / 844
    context.close()
    assert {name: round(screens, 2) for name, screens in long.items() if screens > SCREENS} == {}


def test_what_a_page_folds_of_its_own_is_there_in_print(browser: Browser) -> None:
    page, _ = opened(browser, "results/audit.html")
    text = page.get_by_text("This page is a notebook")
    assert not text.is_visible()
    page.emulate_media(media="print")
    assert text.is_visible()
    page.context.close()


def test_a_dial_that_a_reader_turned_stays_when_its_figure_scrolls_into_view(browser: Browser) -> None:
    page, wrong = opened(browser, "index.html", viewport={"width": 390, "height": 844}, has_touch=True)
    figure = page.locator("[data-figure=landing]")
    dial = figure.locator("input[type=range]").first
    dial.fill("1")
    page.evaluate("scrollBy(0, 240)")
    page.wait_for_timeout(700)
    assert dial.input_value() == "1"
    assert "T=1.00" in (figure.get_by_role("link", name="Try your own problem").get_attribute("href") or "")
    assert wrong == []
    page.context.close()


def test_the_contents_open_and_close_by_touch_on_a_phone(browser: Browser) -> None:
    page, wrong = opened(browser, "book/question.html", viewport={"width": 390, "height": 844}, has_touch=True)
    link = page.locator(".bd-links a", has_text="The temperature lab")
    assert not link.is_visible()
    for button in page.locator(".bd-header-article :is(button, summary):visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 40
        assert box["x"] + box["width"] <= 390
    page.locator(".primary-toggle").tap()
    link.wait_for()
    box = link.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= 390
    link.tap()
    page.wait_for_url("**/lab.html")
    assert wrong == []
    page.context.close()


def test_the_menu_of_downloads_opens_without_a_script(browser: Browser) -> None:
    page, _ = opened(browser, "book/question.html", java_script_enabled=False)
    menu = page.locator(".dropdown-download-buttons")
    assert not menu.locator("a").is_visible()
    menu.locator("summary").click()
    box = menu.locator("a").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 1280
    page.context.close()


def test_every_internal_link_and_anchor_leads_somewhere() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in SITE.rglob("*.html") if "_static" not in path.parts}
    ids = {path: set(re.findall(r'\b(?:id|name)="([^"]+)"', text)) for path, text in texts.items()}
    for path, text in texts.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*)"', text):
            if re.match(r"[a-z]+:", link) or link.startswith(("#pst", "#main")):
                continue
            file, _, anchor = unquote(html.unescape(link)).partition("#")
            target = (path.parent / file.partition("?")[0]).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            assert not anchor or anchor in ids.get(target, {anchor}), f"{path.name}: {link}"


def test_the_whole_book_is_one_tagged_pdf_with_an_outline(chromium: str, tmp_path: Path) -> None:
    command = ["make", "pdf", f"PDF={tmp_path}/book.pdf"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    content = (tmp_path / "book.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\s", content)) > 20
    for part in (b"/MarkInfo", b"/StructTreeRoot", b"/Outlines"):  # marked content, its tree of tags, the bookmarks
        assert part in content
    assert set(re.findall(rb"/MediaBox \[0 0 (\d+)", content)) == {b"594"}  # A4


def test_results_stand_on_the_pages_and_are_called_what_they_are() -> None:
    text = (SITE / "results" / "compare.html").read_text()
    assert "tiny-sparse-instruct" in text
    assert "the paper&#x27;s numbers, large models" in text
    assert "our tiny models" in text
    assert "{number}" not in (SITE / "index.html").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_rests_on(name: str) -> None:
    assert "rests on" in (SITE / name).read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("name", [name for name in PAGES if name.startswith("results/")])
def test_a_page_of_results_says_how_to_run_it_again(name: str) -> None:
    text = (SITE / name).read_text(encoding="utf-8")
    assert 'id="run-it-again"' in text
    assert "papermill notebooks/" in re.sub("<[^>]+>", "", text)
    [source] = set(re.findall(r'href="([^"]+\.ipynb)"', text))
    assert (SITE / name).parent.joinpath(source).exists()


def build(
    folder: Path, *cells: Any, page: str = "# Home\n", chapters: str = "file: note"
) -> subprocess.CompletedProcess[str]:
    """A book of one page and one notebook, with this book's configuration."""
    shutil.copy(ROOT / "_config.yml", folder)
    (folder / "book").mkdir()
    shutil.copy(ROOT / "book" / "references.bib", folder / "book")
    shutil.copytree(ROOT / "book" / "images", folder / "book" / "images")
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / "numbers.json").write_text('{"known": "42"}')
    (folder / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n- {chapters}\n")
    (folder / "index.md").write_text(page)
    notebook = nbformat.v4.new_notebook(metadata={"language_info": {"name": "python"}})
    notebook.cells = [nbformat.v4.new_markdown_cell("# Note"), *cells]
    nbformat.write(notebook, folder / "note.ipynb")
    return build_again(folder)


def build_again(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-n", "-W", "--keep-going", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_number_is_read_and_a_sound_notebook_passes(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("1", execution_count=1)
    done = build(tmp_path, cell, page="# Home\n\nIt is {number}`known`.\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It is 42." in (tmp_path / "_build" / "html" / "index.html").read_text()


def test_what_a_killed_build_left_is_not_trusted(tmp_path: Path) -> None:
    assert build(tmp_path).returncode == 0
    site = tmp_path / "_build" / "html"
    finished = {path: path.read_bytes() for path in (site / "note.html", site / "_static" / "vega.js")}
    for path in finished:
        path.write_bytes(b"half a fi")
    (site / "searchindex.js").unlink()  # written last
    (tmp_path / "index.md").write_text("# Home\n\nOnce more.\n")
    done = build_again(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path: path.read_bytes() for path in finished} == finished
    assert "note" in (site / "searchindex.js").read_text()


def test_a_missing_number_fails_the_build(tmp_path: Path) -> None:
    done = build(tmp_path, page="# Home\n\n{number}`unknown`\n")
    assert done.returncode != 0
    assert "has 'unknown'" in done.stdout + done.stderr


def outputs(fault: str) -> list[Any]:
    """What a cell with that fault left behind."""
    if fault == "traceback":
        return [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="x", traceback=["x"])]
    if fault == "chart":
        chart = alt.Chart(pd.DataFrame({"x": [1]})).mark_point()
        return [nbformat.v4.new_output("execute_result", chart._repr_mimebundle_(), execution_count=1)]
    return []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("traceback", "holds a traceback"),
        ("not run", "was not run"),
        ("chart", "has a chart that loads its scripts from the web"),
    ],
)
def test_a_notebook_that_did_not_end_well_or_needs_the_web_fails_the_build(
    tmp_path: Path, fault: str, said: str
) -> None:
    cell = nbformat.v4.new_code_cell("1 / 0", execution_count=None if fault == "not run" else 1)
    cell.outputs = outputs(fault)
    done = build(tmp_path, cell)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
