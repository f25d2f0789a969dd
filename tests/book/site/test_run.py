"""The grid of a run's problems, in real Chromium, on a page that holds nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page
from sphinx.errors import ExtensionError

from book.figures import evaluate
from book.site import extension
from book.site.extension import STATIC
from lmrel import files, records
from lmrel.__main__ import as_csv
from tests.book.figures.test_evaluate import HOSTILE, made, of_problems

HEAD = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>a</title><style>body { margin: 1rem } .wide-table { overflow-x: auto }
html[data-theme=dark] { --pst-color-background: #121212; --pst-color-text-base: #eee; --pst-color-text-muted: #aaa }
html[data-theme=dark] { color-scheme: dark; color: #eee; background: #121212 }</style>"""


def draws() -> pd.DataFrame:
    """45 problems, of which a third is never right, and one is right only greedily."""
    found = made((0.0, 1.0), runs=25, problems=45)
    found["text"] = found["text"].mask((found["problem_id"] == "p2") & (found["run"] == 3), "needle")
    found["text"] = found["text"].mask(found["problem_id"] == "p4", [f"other {i}" for i in range(len(found))])
    return found.assign(task=found["problem_id"].map(lambda name: "odd" if int(name[1:]) % 2 else HOSTILE))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = draws()
    block = evaluate._explorer(found, of_problems(found), 300_000)
    styles, make, script = ((STATIC / name).read_text() for name in ("run.css", "dom.js", "run.js"))
    page = tmp_path_factory.mktemp("page") / "run.html"
    page.write_text(
        f"{HEAD}<style>{styles}</style><main><h1>A</h1><h2>B</h2>{block.html}</main><script>{make}{script}</script>"
    )
    return page


@pytest.fixture
def page(browser: Browser, path: Path) -> Any:
    opened = browser.new_context(offline=True).new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    opened.goto(path.as_uri())
    yield opened
    assert wrong == []
    opened.context.close()


def column(page: Page, name: str) -> list[str]:
    """The cells of a column, as they stand."""
    titles = page.locator(".grid th").all_inner_texts()
    return [row.locator("td").nth(titles.index(name)).inner_text() for row in page.locator(".grid tbody tr").all()]


def drawer(page: Page) -> Locator:
    return page.locator("dialog[open]")


def test_the_worst_come_first_and_any_heading_sorts(page: Page) -> None:
    assert not page.locator(".still").is_visible()
    assert column(page, "T = 1") == ["0 %"] * 16 + ["100 %"] * 4  # 15 never right, 1 only greedily
    assert page.locator("[role=status]").inner_text() == "45 of 45 problems, those with the fewest right answers first"
    page.get_by_role("button", name="show 25 more").click()
    assert len(column(page, "T = 1")) == 45
    head = page.get_by_role("button", name="T = 1", exact=True)
    head.press("Enter")
    head.press("Enter")
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("T = 1")
    assert column(page, "T = 1") == ["100 %"] * 20
    page.get_by_role("button", name="flip", exact=True).click()
    assert column(page, "flip")[:2] == ["flip", ""]
    assert column(page, "greedy answer")[0] == "✓ yes"
    assert column(page, "most frequent at T = 1")[0] == "✗ no answer"
    page.get_by_role("button", name="reset").click()
    assert column(page, "T = 1")[0] == "0 %"


def test_problems_are_searched_in_their_outputs_and_filtered(page: Page) -> None:
    rows = page.locator(".grid tbody tr")
    page.get_by_label("search").fill("NEEDLE")
    assert rows.count() == 1
    assert page.locator("[role=status]").inner_text().startswith("1 of 45 problems")
    page.get_by_label("search").fill("nowhere to be found")
    assert rows.count() == 0
    page.get_by_role("button", name="reset").click()
    page.get_by_label("show").select_option(label="greedy right, T = 1 wrong (1)")
    assert rows.count() == 1
    page.get_by_label("show").select_option(label="greedy wrong, T = 1 right (0)")
    assert rows.count() == 0
    page.get_by_label("show").select_option("all")
    page.get_by_label("task").select_option("odd")
    assert page.locator("[role=status]").inner_text().startswith("22 of 45")


def test_the_drawer_shows_what_was_drawn_by_temperature_and_text(page: Page) -> None:
    found = draws()
    page.get_by_label("search").fill("needle")
    page.locator(".grid tbody button").focus()
    page.keyboard.press("Enter")
    assert "Problem p2" in drawer(page).inner_text()
    own = found[(found["problem_id"] == "p2") & (found["temperature"] == 1.0)]
    section = drawer(page).locator("section", has_text="T = 1")
    assert section.locator("h4").inner_text() == "T = 1: 25 of 25 right"
    counts = [int(text.split(" ")[0]) for text in section.locator("li > p").all_inner_texts()]
    assert counts == sorted(own["text"].value_counts(), reverse=True)
    assert "✓ right · answer yes · ended by itself · confidence −0.100" in section.locator("li > p").first.inner_text()
    assert drawer(page).locator("h4").first.inner_text() == "T = 0 (greedy): 1 of 1 right"
    drawer(page).locator("summary").click()
    assert drawer(page).locator("details pre").inner_text() == "Say yes: " + HOSTILE
    page.keyboard.press("Escape")
    assert drawer(page).count() == 0
    assert page.evaluate("document.activeElement.closest('td').className") == "asked"


def test_the_drawer_goes_on_to_the_next_problem_and_shows_many_texts_when_asked(page: Page) -> None:
    page.locator(".grid tbody tr").first.click(position={"x": 5, "y": 5})
    first = drawer(page).locator("h3").inner_text()
    assert drawer(page).get_by_role("button", name="previous").is_disabled()
    drawer(page).get_by_role("button", name="next").click()
    assert drawer(page).locator("h3").inner_text() != first
    drawer(page).get_by_role("button", name="close").click()
    page.get_by_label("search").fill("other ")
    page.locator(".grid tbody button").click()
    texts = drawer(page).locator("section").last.locator("li")
    assert texts.count() == 20
    drawer(page).get_by_role("button", name="show 5 more texts").click()
    assert texts.count() == 25


def test_hostile_text_is_shown_as_text(page: Page) -> None:
    page.get_by_label("search").fill("</script>")
    page.locator(".grid tbody button").first.click()
    shown = drawer(page).locator("pre", has_text="</script>").last
    assert shown.text_content() == HOSTILE
    assert shown.locator("*").count() == 0
    assert page.locator(".lmrel-run").locator("img, iframe, script:not([type='application/json'])").count() == 0


def test_what_was_left_out_is_said(page: Page) -> None:
    assert page.locator(".note").all_inner_texts()
    assert re.search(
        r"To keep the page light, the grid holds only .* in draws\.parquet\.", page.locator(".note").first.inner_text()
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_grid_fits_any_screen_and_is_accessible(browser: Browser, path: Path, width: int, scheme: Any) -> None:
    page = browser.new_context(
        offline=True, viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width == 390
    ).new_page()
    page.goto(path.as_uri())
    page.evaluate("theme => (document.documentElement.dataset.theme = theme)", scheme)
    for open_drawer in (False, True):
        if open_drawer:
            row = page.locator(".grid tbody tr").first
            row.tap() if width == 390 else row.click()
            assert (drawer(page).bounding_box() or {})["width"] < width + 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.wait_for_timeout(300)  # for the drawer to have come in
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found] == []
    page.context.close()


def test_without_motion_the_drawer_is_there_at_once(browser: Browser, path: Path) -> None:
    for wish, expected in (("reduce", "none"), ("no-preference", "lmrel-in")):
        page = browser.new_context(offline=True, reduced_motion=wish).new_page()
        page.goto(path.as_uri())
        page.locator(".grid tbody button").first.click()
        assert drawer(page).evaluate("e => getComputedStyle(e).animationName") == expected
        page.context.close()


def test_without_javascript_and_in_print_there_is_a_table(browser: Browser, path: Path) -> None:
    page = browser.new_context(offline=True, java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator(".still tbody tr:visible").count() == 20
    assert "The 20 problems with the fewest right answers, of 45." in page.locator(".still").inner_text()
    page.context.close()
    page = browser.new_page()
    page.goto(path.as_uri())
    page.emulate_media(media="print")
    assert page.locator(".still").is_visible()
    assert not page.locator(".grid").is_visible()
    page.close()


# Beside the page


@pytest.fixture
def app(tmp_path: Path) -> Any:
    """A book with the pages of two runs, of which one has its draws beside it."""
    folder = tmp_path / "results" / "a b"
    folder.mkdir(parents=True)
    found = draws().head(10).assign(expected="yes")
    files.write_table(found, folder / records.DRAWS)
    files.write_table(found, folder / records.SUMMARY)
    files.write_json({}, folder / records.RUN)
    for name in ("a b", "elsewhere"):
        (tmp_path / "site" / "results" / name).mkdir(parents=True)
    pages = {"results/a b/evaluate", "results/elsewhere/evaluate", "index"}
    env = SimpleNamespace(found_docs=pages)
    return SimpleNamespace(srcdir=tmp_path, outdir=tmp_path / "site", env=env, builder=SimpleNamespace(name="html"))


def test_a_runs_files_lie_beside_its_page(app: Any) -> None:
    extension.write_downloads(app, None)
    site = Path(app.outdir) / "results"
    assert {path.name for path in (site / "a b").iterdir()} == {"draws.parquet", "draws.csv", "summary.parquet"}
    assert [*(site / "elsewhere").iterdir()] == []
    assert (site / "a b" / "draws.csv").read_text() == as_csv(records.read_draws(app.srcdir / "results" / "a b"))
    (app.srcdir / "results" / "a b" / records.DRAWS).write_bytes(b"no")
    with pytest.raises(ExtensionError, match="missing or damaged"):
        extension.write_downloads(app, None)


def test_only_a_page_beside_its_runs_files_links_to_them(app: Any) -> None:
    body = evaluate.downloads(HOSTILE).html
    for name, linked in (("a b", True), ("elsewhere", False)):
        context: dict[str, Any] = {"body": body}
        extension.finish_body(app, f"results/{name}/evaluate", "page.html", context, None)
        links = re.findall(r'<a href="([^"]+)" download>', context["body"])
        assert links == (["draws.parquet", "draws.csv", "summary.parquet"] if linked else [])
        assert "<img" not in context["body"]


def test_the_script_is_on_pages_with_a_grid_only() -> None:
    for body, expected in (('<div class="lmrel-run">', ["run.css", "dom.js", "run.js"]), ("lmrel-run", [])):
        added: list[str] = []
        app = SimpleNamespace(add_css_file=added.append, add_js_file=lambda name, added=added, **_: added.append(name))
        extension.choose_scripts(app, "a", "page.html", {"body": body}, None)
        assert added == expected
