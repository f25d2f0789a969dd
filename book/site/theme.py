"""The theme's part of the finished pages, made light and mended: one sheet of styles, no script without a use.

The theme ships styles for everything that it can do, and scripts for each page that only some need. What no page of the
finished site names is left out here, once all pages are written. Nothing here knows what a page says.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

from sphinx.application import Sphinx

STATIC = Path(__file__).parent / "static"
OWN = "lmrel.css"  # the book's styles for every page: last, and kept whole
SHEET = "site.css"
NEEDS = {  # a script, and what a page has that needs it
    "searchtools.js": 'id="search-results"',
    "language_data.js": 'id="search-results"',
    "searchindex.js": 'id="search-results"',
    "clipboard.min.js": 'class="highlight',
    "copybutton.js": 'class="highlight',
    "togglebutton.js": r'class="[^"]*\b(?:toggle\b|admonition[^"]* dropdown\b)',
    "design-tabs.js": 'class="sd-tab-set',
    "fontawesome.js": r"(?!)",  # nothing: its icons are in a font
    "bootstrap.js": 'data-bs-toggle="(?!tooltip)',  # it starts no tooltip; the pages' `title` is one
}
LEFTOVERS = (  # what of the theme no page loads; its icons are in the book's own font
    *("vendor", "locales", "images", "styles", "*.png", "play-solid.svg", "sphinx-thebe.*", "*webpack-macros.html"),
    *("scripts/bootstrap.js*", "scripts/fontawesome.js*", "copybutton_funcs.js", "**/*.map"),
)
KEPT_PICTURES = {"card.png"}
INNER = ("@media", "@supports", "@container", "@layer")
MENU = re.compile(  # of downloads: what its button shows, and its entries
    r'<div class="dropdown dropdown-download-buttons">\s*<button class="btn dropdown-toggle"[^>]*>'
    r"(.*?)</button>(.*?</ul>)\s*</div>",
    re.DOTALL,
)
SHEET_LINK = re.compile(r'\s*<link\b[^>]*\brel="stylesheet"[^>]*>')


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Mend and lighten all pages and what they load, at the end of a build."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    paths = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.relative_to(site).parts]
    pages = {path: mended(path.read_text(encoding="utf-8")) for path in paths}
    sheets = {path: _sheets(path, text) for path, text in pages.items()}
    shared = dict.fromkeys(sheet for of_all, _ in sheets.values() for sheet in of_all)
    names = _names(site, pages.values())
    styles = "".join(
        _own_folder(text if sheet.name == OWN else pruned(text, names), sheet.parent, site / "_static")
        for sheet in sorted(shared, key=lambda sheet: sheet.name == OWN)
        for text in [_whole(sheet)]
    )
    (site / "_static" / SHEET).write_text(styles, encoding="utf-8")
    for path, text in pages.items():
        of_all, own = sheets[path]
        text = _with_one_sheet(path, text, of_all, site / "_static" / SHEET, styles)
        if len(own) > 1:
            together, joined = (
                site / "_static" / f"{'-'.join(sheet.stem for sheet in own)}.css",
                "".join(map(_whole, own)),
            )
            together.write_text(joined, encoding="utf-8")
            text = _with_one_sheet(path, text, own, together, joined)
        path.write_text(text, encoding="utf-8")
    for pattern in LEFTOVERS:
        for found in [path for path in (site / "_static").glob(pattern) if path.name not in KEPT_PICTURES]:
            shutil.rmtree(found) if found.is_dir() else found.unlink()
    for script in (site / "_static" / "scripts").glob("*.js"):  # whose maps are gone
        text = script.read_text(encoding="utf-8")
        script.write_text(re.sub(r"\n//# sourceMappingURL=.*", "", text), encoding="utf-8")


def mended(text: str) -> str:
    """A page without the faults of its templates: scripts wait, or go where nothing needs them.

    The sidebar is no landmark, a name hides the text of a summary, the viewport is set three times, and the menu of
    downloads needs 80 kB of script to open.
    """
    text = re.sub(r'<link rel="preload" as="script"[^>]*>\s*', "", text)
    # All scripts may wait but the first, which sets what a script within the page then changes.
    text = re.sub(
        r'<script ((?:data-[\w-]+="[^"]*" )?)src="(?![^"]*documentation_options)', r'<script defer \1src="', text
    )
    text = MENU.sub(
        r'<details class="dropdown dropdown-download-buttons">'
        r'<summary class="btn" aria-label="Download this page">\1</summary>\2</details>',
        text,
    )
    for script, need in NEEDS.items():
        if not re.search(need, text):
            text = re.sub(rf'<script defer [^>]*src="[^"]*\b{re.escape(script)}[^"]*"></script>\s*', "", text)
    viewport = re.compile(r'<meta name="viewport"[^>]*>\s*')
    text = viewport.sub("", text).replace(
        "<head>", '<head>\n    <meta name="viewport" content="width=device-width, initial-scale=1">', 1
    )
    text = re.sub(r'<span class="pre">([^<]*)</span>', r"\1", text)  # a fifth of a page of the reference
    text = re.sub(r'<dt class="sig.*?</dt>', _plain_signature, text, flags=re.DOTALL)
    text = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", text)
    text = text.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    text = text.replace(
        'id="pst-primary-sidebar" class=',
        'id="pst-primary-sidebar" role="complementary" aria-label="Chapters" class=',
    )
    return text


def _plain_signature(found: re.Match[str]) -> str:
    """A signature whose names, colons and stars are no elements of their own."""
    text, before = found[0], ""
    while text != before:
        before, text = text, re.sub(r'<span class="(?:n|o|p|w|default_value)">([^<]*)</span>', r"\1", text)
    return text


def pruned(styles: str, names: set[str]) -> str:
    """The rules of a sheet that can hold for something whose classes and ids are among `names`; no fonts."""
    return "".join(_kept(re.sub(r"/\*.*?\*/", "", styles, flags=re.DOTALL), names))


def _kept(styles: str, names: set[str]) -> Iterator[str]:
    for head, body in _rules(styles):
        if body is None:
            yield f"{head};"
        elif head.startswith(INNER):
            if inner := "".join(_kept(body, names)):
                yield f"{head}{{{inner}}}"
        elif head.startswith("@"):
            if not head.startswith("@font-face"):
                yield f"{head}{{{body}}}"
        elif selectors := [one for one in _parts(head) if _possible(one, names)]:
            yield f"{','.join(selectors)}{{{body.strip()}}}"


def _rules(styles: str) -> Iterator[tuple[str, str | None]]:
    """Each rule's head and what stands in its braces; None for a statement without braces."""
    depth, start, head = 0, 0, ""
    for mark in re.finditer(r"""\"(?:[^"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|\([^()"']*\)|[{};]""", styles):
        if mark[0] == "{":
            if depth == 0:
                head, start = styles[start : mark.start()].strip(), mark.end()
            depth += 1
        elif mark[0] == "}":
            depth -= 1
            if depth == 0:
                yield head, styles[start : mark.start()]
                start = mark.end()
        elif mark[0] == ";" and depth == 0:
            if statement := styles[start : mark.start()].strip():
                yield statement, None
            start = mark.end()


def _parts(selectors: str) -> list[str]:
    """A list of selectors, split at the commas that stand in no parentheses."""
    return [one.strip() for one in re.findall(r"(?:\((?:[^()]|\([^()]*\))*\)|[^,(])+", selectors)]


def _possible(selector: str, names: set[str]) -> bool:
    """Whether all its classes and ids are among `names`; those in parentheses may be alternatives and do not count."""
    while selector != (selector := re.sub(r"\([^()]*\)|\[[^\]]*\]", "", selector)):
        pass
    return all(name.replace("\\", "") in names for name in re.findall(r"[.#]((?:[\w-]|\\.)+)", selector))


def _names(site: Path, pages: Iterable[str]) -> set[str]:
    """The classes and ids of all pages, and every word of the scripts, which may be one."""
    found: set[str] = set()
    for text in pages:
        for values in re.findall(r'\b(?:class|id)="([^"]*)"', text):
            found.update(values.split())
    scripts = [
        path for path in (site / "_static").rglob("*.js") if path.parent.name != "live" and path.name != "vega.js"
    ]
    for path in scripts:
        if path.name not in ("bootstrap.js", "fontawesome.js"):
            found.update(re.findall(r"[\w-]+", path.read_text(encoding="utf-8")))
    return found


def _sheets(path: Path, text: str) -> tuple[list[Path], list[Path]]:
    """The sheets that a page loads, in their order: those of all pages, and those of its own figures."""
    special = {sheet.name for sheet in STATIC.glob("*.css")} - {OWN}
    hrefs = [re.findall(r'href="([^"?]+)', link)[0] for link in SHEET_LINK.findall(text)]
    found = [(path.parent / href).resolve() for href in hrefs]
    return [sheet for sheet in found if sheet.name not in special], [sheet for sheet in found if sheet.name in special]


def _whole(sheet: Path) -> str:
    """A sheet with those that it imports."""
    text = sheet.read_text(encoding="utf-8")
    return re.sub(r'@import "([^"]+)";', lambda found: _whole((sheet.parent / found[1]).resolve()), text)


def _own_folder(styles: str, folder: Path, to: Path) -> str:
    """Styles whose addresses were relative to `folder`, with addresses relative to the folder `to`."""

    def moved(found: re.Match[str]) -> str:
        return f"url({found[1]}{os.path.relpath(folder / found[2], to)}{found[1]})"

    return re.sub(r"url\((['\"]?)(?!data:|#|['\"])([^)'\"]+)\1\)", moved, styles) + "\n"


def _with_one_sheet(path: Path, text: str, sheets: list[Path], one: Path, styles: str) -> str:
    """A page that loads `one` sheet, which holds `styles`, in place of those of `sheets` that it loads."""
    version = blake2b(styles.encode(), digest_size=4).hexdigest()
    href = f"{os.path.relpath(one, path.parent)}?v={version}"
    first = True

    def link(found: re.Match[str]) -> str:
        nonlocal first
        if (path.parent / re.findall(r'href="([^"?]+)', found[0])[0]).resolve() not in sheets:
            return found[0]
        first, was = False, first
        return f'\n    <link rel="stylesheet" href="{href}">' if was else ""

    return SHEET_LINK.sub(link, text)
