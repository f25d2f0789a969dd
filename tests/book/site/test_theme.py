"""Sheets are pruned by what pages name, and templates mended; by sheets and pages made up for it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from book.site import theme
from book.site.theme import mended, pruned

NAMES = {"here", "there", "md:w-1"}


@pytest.mark.parametrize(
    ("styles", "kept"),
    [
        (".here{a:b}.gone{a:b}", ".here{a:b}"),
        (".here .gone{a:b}", ""),
        (".gone,.here>p{a:b}", ".here>p{a:b}"),
        ("p:not(.gone){a:b}", "p:not(.gone){a:b}"),
        (":is(.gone,.here) b{a:b}", ":is(.gone,.here) b{a:b}"),
        ("#gone{a:b}#there{a:b}", "#there{a:b}"),
        (r".md\:w-1{a:b}", r".md\:w-1{a:b}"),
        ('a[href=".gone"]{a:b}', 'a[href=".gone"]{a:b}'),
        ("@media print{.gone{a:b}}", ""),
        ("@media print{.gone{a:b}.here{a:b}}", "@media print{.here{a:b}}"),
        ("@media a{@supports (b:c){.here{a:b}}}", "@media a{@supports (b:c){.here{a:b}}}"),
        ("@font-face{font-family:x}p{a:b}", "p{a:b}"),
        ("@keyframes spin{from{a:b}to{a:c}}", "@keyframes spin{from{a:b}to{a:c}}"),
        ('@charset "utf-8";p{a:b}', '@charset "utf-8";p{a:b}'),
        ("/* } .gone */p{content:'}';a:url(data:x;{)}", "p{content:'}';a:url(data:x;{)}"),
        ("", ""),
    ],
)
def test_a_rule_stays_if_a_page_may_have_what_it_names(styles: str, kept: str) -> None:
    assert pruned(styles, NAMES) == kept


def test_a_script_goes_where_nothing_needs_it() -> None:
    script = '<script src="_static/copybutton.js?v=1"></script>'
    assert "copybutton" not in mended(f"<head></head>{script}")
    assert (
        mended(f'<head></head>{script}<div class="highlight-sh">').count('<script defer src="_static/copybutton.js')
        == 1
    )


def test_the_menu_of_downloads_needs_no_script() -> None:
    menu = (
        '<div class="dropdown dropdown-download-buttons"><button class="btn dropdown-toggle" data-bs-toggle="dropdown">'
        '<i></i></button><ul class="dropdown-menu"><li>a</li></ul></div>'
    )
    page = mended(f'<head></head>{menu}<script defer src="../_static/scripts/bootstrap.js?digest=1"></script>')
    assert "bootstrap" not in page
    assert "</summary><ul" in page
    assert page.endswith("</ul></details>")


def test_a_signature_keeps_its_text_and_code_its_colours() -> None:
    inner = '<span class="n"><span class="pre">x</span></span><span class="p"><span class="pre">:</span></span>'
    page = mended(f'<dt class="sig" id="f"><em>{inner}</em></dt><pre><span class="n">x</span></pre>')
    assert page == '<dt class="sig" id="f"><em>x:</em></dt><pre><span class="n">x</span></pre>'


def test_pages_load_one_sheet_of_all_shared_ones_with_the_books_own_last(tmp_path: Path) -> None:
    static = tmp_path / "_static"
    (static / "styles").mkdir(parents=True)
    (static / "vendor").mkdir()
    (static / "styles" / "theme.css").write_text('@import "../basic.css";.gone{a:b}.here{b:url(../x.svg)}')
    (static / "basic.css").write_text("p{a:b}")
    (static / "lmrel.css").write_text(".own{a:url('fonts/y.woff2')}")
    (static / "run.css").write_text("")
    links = "".join(
        f'<link rel="stylesheet" href="../_static/{name}?v=1" />'
        for name in ("lmrel.css", "styles/theme.css", "run.css")
    )
    (tmp_path / "book").mkdir()
    page = tmp_path / "book" / "page.html"
    page.write_text(f'<head>{links}</head><p class="here">')
    app = SimpleNamespace(outdir=str(tmp_path), builder=SimpleNamespace(format="html"))
    theme.finish(cast(Any, app), None)
    text = page.read_text()
    assert text.count("stylesheet") == 2
    assert text.index("../_static/site.css?v=") < text.index("../_static/run.css")
    assert (static / "site.css").read_text().split() == ["p{a:b}.here{b:url(x.svg)}", ".own{a:url('fonts/y.woff2')}"]
    assert not (static / "vendor").exists()


def test_what_a_page_needs_for_its_own_figures_is_one_sheet_as_well(tmp_path: Path) -> None:
    static = tmp_path / "_static"
    static.mkdir()
    for name in ("lmrel", "lab", "live"):
        (static / f"{name}.css").write_text(f".{name}{{a:b}}")
    page = tmp_path / "page.html"
    names = ("lab", "lmrel", "live")
    page.write_text("".join(f'<link rel="stylesheet" href="_static/{name}.css?v=1" />' for name in names))
    theme.finish(cast(Any, SimpleNamespace(outdir=str(tmp_path), builder=SimpleNamespace(format="html"))), None)
    assert re.findall(r'href="([^"?]+)', page.read_text()) == ["_static/lab-live.css", "_static/site.css"]
    assert (static / "lab-live.css").read_text() == ".lab{a:b}.live{a:b}"
