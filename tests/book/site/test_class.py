"""The lessons, the class page and the sheet as the site has them. Needs a finished `make book`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.book.site.test_site import SITE, opened
from tools.lessons import LESSONS

NAMES = [f"notebooks/learn/{path.stem}.html" for path in LESSONS]


def loaded(page: Page) -> dict[str, int]:
    """What the page has loaded, itself included: bytes on the disk by name."""
    addresses = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    addresses += page.evaluate(
        "[...document.querySelectorAll('script[src], link[rel=stylesheet]')].map(x => x.src || x.href)"
    )
    files = {
        Path(address.removeprefix("file://").partition("?")[0]) for address in [page.url.partition("#")[0], *addresses]
    }
    return {path.name: path.stat().st_size for path in files if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_holds_its_answer_back_and_then_works_without_vega(browser: Browser, name: str) -> None:
    page, wrong = opened(browser, name, viewport={"width": 390, "height": 844})
    assert not page.get_by_role("heading", name="Exercise").is_visible()
    assert not page.locator(".lmrel-learn").first.is_visible()
    page.locator("details.choice summary").first.press("Enter")
    for choice in page.locator("details.choice:not(.right) summary").all():
        if choice.is_visible():
            choice.click()
    assert page.get_by_role("heading", name="Exercise").is_visible()
    figure = page.locator(".lmrel-learn").first
    assert figure.is_visible()
    slider = figure.locator("input[type=range], button").first
    slider.focus()
    slider.press("Home")
    slider.press("Enter")
    page.locator(".lmrel-exercise input").fill("12345")
    page.get_by_role("button", name="check", exact=True).click()
    assert page.locator(".lmrel-exercise [role=status]").inner_text().startswith("Not yet.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    files = loaded(page)
    assert "vega.js" not in files
    assert {"learn.js", "learn-figures.js", "live.js"} <= set(files)
    assert wrong == []
    page.context.close()


def test_the_class_page_goes_by_arrow_keys_and_each_step_has_its_figure(browser: Browser) -> None:
    page, wrong = opened(browser, "book/class.html", viewport={"width": 1440, "height": 900})
    seen = []
    for _ in range(7):
        [head] = [head for head in page.locator(".bd-article h2").all() if head.is_visible()]
        seen.append(head.inner_text())
        figure = page.locator(".lmrel-hands:visible, .lmrel-tree:visible, .lmrel-learn:visible, .lmrel-live:visible")
        if len(seen) < 7:
            figure.first.wait_for()
            box = figure.first.bounding_box()
            assert box is not None
            assert box["width"] > 1250
        assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.bd-article')).fontSize)") >= 20
        assert page.locator(".bd-article pre:visible").count() == 0
        page.keyboard.press("ArrowRight")
    assert len(set(seen)) == 7
    files = loaded(page)
    assert not [name for name in files if name.startswith("weights") or name == "vega.js"]
    assert sum(files.values()) <= 1_200_000
    assert wrong == []
    page.context.close()


@pytest.mark.parametrize("paper", ["A4", "Letter"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sheet_is_one_light_page_without_answers(browser: Browser, paper: str, scheme: Any) -> None:
    page, wrong = opened(browser, "book/sheet.html", color_scheme=scheme)
    assert not page.get_by_text("about 7 times").is_visible()

    def pages(of: Page) -> int:
        return len(re.findall(rb"/Type\s*/Page\b", of.pdf(format=paper)))

    assert pages(page) == 1
    page.locator("details summary", has_text="Answers").click()
    assert page.get_by_text("about 7 times").is_visible()
    assert pages(page) == 1
    page.emulate_media(media="print", color_scheme=scheme)
    assert not page.get_by_text("about 7 times").is_visible()
    style = "x => [getComputedStyle(x).color, getComputedStyle(x).backgroundColor]"
    colours = [page.locator(place).first.evaluate(style) for place in ("body", ".bd-article p")]
    assert colours[0] == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert colours[1][0] == "rgb(0, 0, 0)"
    page.goto((SITE / "book" / "teach.html").as_uri())
    assert pages(page) > 1  # so pages are counted
    assert wrong == []
    page.context.close()
