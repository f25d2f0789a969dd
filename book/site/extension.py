"""The Sphinx extension of the book: charts that draw without a network, numbers in prose, notebooks that did run.

A chart becomes two static pictures in the page (one for narrow screens) and its specification. The Vega scripts are
shipped once per site and loaded when a reader points at, touches or focuses a chart. The extension computes nothing:
numbers, charts and live figures come from files below ``results/``.
"""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import vl_convert
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective, SphinxRole

from book.figures import style
from book.figures.style import MIME, NARROW, PHONE, VEGALITE, WIDE, fitted, svg
from book.site import theme
from lmrel import files
from lmrel.__main__ import as_csv
from lmrel.errors import InputError, quoted
from lmrel.files import read_object
from lmrel.records import DRAWS, RUN, SUMMARY, read_draws

STATIC = theme.STATIC
CODE = [*sorted(Path(__file__).parent.glob("*.py")), Path(style.__file__)]  # what pages are made with
NUMBERS = "results/*numbers.json"
LESSONS = "notebooks/learn"
SCORER = Path(__file__).parent / "scorer.js"
API = "book/api"  # the pages that document the functions, one a room
LIVE = {  # where the data of the live figures are, and what writes them
    "results/live": "python -m book.figures.live results results/live",
    "results/lab": "python -m book.figures.lab results/lab",
}
LAB = "book/lab"  # the page of the lab
WORD = r"big|lines|T=([01](\.\d+)?|2)"  # what a stored tree may be asked for
WORKED = ["dom.js", "live.js", "lab-tree.js", "lab-draw.js", "lab-figure.js"]  # what the lab and stored trees share
LOADED: tuple[tuple[str, list[str], list[str]], ...] = (  # a mark in a page, and the styles and scripts that it needs
    ("lmrel-chart", [], ["chart.js"]),
    ("lmrel-live", ["live.css"], ["dom.js", "live.js", "live-figures.js"]),
    ('class="choice|lmrel-exercise|class="sheet', ["learn.css"], ["dom.js", "learn.js"]),
    ('class="lmrel-step', ["class.css"], ["dom.js", "class.js"]),
    ('class="lmrel-lab', ["lab.css"], [*WORKED, "lab-model.js", "lab.js"]),
    ('class="lmrel-tree', ["lab.css"], [*WORKED, "lab-stored.js"]),
    ('class="lmrel-learn', ["learn.css"], ["dom.js", "live.js", "learn-figures.js"]),
    ('class="lmrel-run"', ["run.css"], ["dom.js", "run.js"]),
)
TOGETHER = re.compile(r"(?<=\d) (?=%)|(?<=\d,) (?=[^ \]]*\d\])")  # spaces in "15 %" and "[4.8, 9.7]"
UNSEEN = re.compile(
    r'<path class="(?:back|fore)ground" aria-hidden="true" d="[^"]*"(?: (?:pointer-events|display)="none")*/>'
)
UNREAD = re.compile(r' (?:aria-\w+|role|class|pointer-events)="[^"]*"| opacity="1"')
CSV = "draws.csv"
CARD = "_static/card.png"  # what is shown beside a link to a page
CARD_SAYS = (
    "Each answer of a tiny model as a block, as high as it is likely: 51, which is right, 35 %; 49, wrong, 36 %."
)


class ChartPlugin:
    """Renders a chart that a notebook stored as a Vega-Lite specification: a plugin of myst-nb for its MIME type."""

    mime_priority_overrides = (("*", MIME, 0),)

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """The page's nodes for a chart; None for any other MIME type, which myst-nb then renders itself."""
        if data.mime_type != MIME or inline:
            return None
        spec = data.content if isinstance(data.content, dict) else json.loads(data.string)
        return [nodes.raw("", chart_html(spec), format="html")]


def chart_html(spec: dict[str, Any]) -> str:
    """The HTML of one chart: its title, two pictures, and its caption or, where it has none, its description.

    The title is no part of the pictures, so it breaks into lines where it must. All text is escaped; the specification
    cannot end its script element. The caption's number and the address of the function that drew the chart are filled
    in by `finish_body`.
    """
    spec = fitted(spec, WIDE)
    title, subtitle = _title(spec.pop("title", ""))
    live = spec.get("usermeta", {}).get("live")
    if live:  # a figure of learn-figures.js, which needs the rows and not how Vega would draw them
        live = live | {"rows": max(spec["datasets"].values(), key=len)}
    source = json.dumps(live or spec, sort_keys=True).replace("<", "\\u003c")
    name = "c" + blake2b(source.encode(), digest_size=5).hexdigest()
    pictures = "".join(
        f'<div class="static {kind}" aria-hidden="true">{_slim(svg(spec, width), f"{name}{kind}")}</div>'
        for kind, width in (("wide", WIDE), ("narrow", NARROW))
    )
    label = html.escape(spec["description"], quote=True)
    caption = html.escape(spec.get("usermeta", {}).get("caption", spec["description"]))
    # What is in an image is no control to a screen reader, so a chart with sliders must not be one.
    role = "group" if any("bind" in parameter for parameter in spec.get("params", [])) else "img"
    function = html.escape(spec.get("usermeta", {}).get("function", ""), quote=True)
    drawn_by = f'<a data-function="{function}">drawn by {function.rpartition(".")[2]}</a>' if function else ""
    if live:
        place = (
            f'<div class="lmrel-learn" data-kind="{live["kind"]}" role="group" aria-label="{label}" '
            f'aria-describedby="{name}"><script type="application/json">{source}</script></div>'
            f"<noscript>{pictures}</noscript>"
        )
    else:
        place = (
            f'<div class="lmrel-chart" tabindex="0" role="{role}" aria-label="{label}" aria-describedby="{name}" '
            f'data-phone="{PHONE}">{pictures}<div class="live"></div>'
            f'<script type="application/json">{source}</script></div>'
        )
    heading = f"<b>{html.escape(title)}</b> {html.escape(subtitle)}"
    return (
        f'<figure class="lmrel-figure"><p class="heading">{heading}</p>{place}'
        f'<figcaption id="{name}"><span class="number"></span> {caption}</figcaption>'
        f'<p class="behind">{_data_link(spec, name)} {drawn_by}</p></figure>'
    )


def _title(title: str | dict[str, Any]) -> tuple[str, str]:
    """The text of a chart's title and of the line below it."""
    given = title if isinstance(title, dict) else {"text": title}
    parts = (given.get(name, "") for name in ("text", "subtitle"))
    text, subtitle = (" ".join(part) if isinstance(part, list) else str(part) for part in parts)
    return text, subtitle


def _data_link(spec: dict[str, Any], name: str) -> str:
    """A link to the chart's largest table, as a CSV file within the page; empty for a chart without a table."""
    tables = sorted(spec.get("datasets", {}).values(), key=len)
    if not tables:
        return ""
    text = pd.DataFrame(tables[-1]).to_csv(index=False)
    return f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(text)}">data</a>'


def _slim(picture: str, prefix: str) -> str:
    """An SVG with `prefix` before each id, as pictures in one page must not share clip paths, and half as large.

    What goes is what nobody sees: frames without a line, words on each mark for screen readers, who are told what
    the chart's label says, classes, and decimals beyond a hundredth of a pixel.
    """
    picture = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', picture)
    picture = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", picture)

    def leaner(tag: re.Match[str]) -> str:
        kept = UNREAD.sub("", tag[0])
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), kept)

    return re.sub(r"<[^>]*>", leaner, UNSEEN.sub("", picture))


class NumberRole(SphinxRole):  # type: ignore[misc]
    """The role ``number``: a number that a notebook left. A key that is not there is an error."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The number as text."""
        found: dict[str, str] = {}
        for path in sorted(Path(self.env.srcdir).glob(NUMBERS)):
            self.env.note_dependency(str(path))
            found |= _read_result(path)
        if self.text not in found:
            message = self.inliner.reporter.error(f"no {NUMBERS} has {self.text!r}", line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        return [nodes.Text(found[self.text])], []


def check_names(app: Sphinx, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """End the build for a page with a name that would be code: the theme writes names into a script as they are."""
    for name in sorted(added):
        if not re.fullmatch(r"[\w/ .,+=@-]+", name):
            allowed = "letters, digits, spaces and any of .,+=@_-"
            raise ExtensionError(f"{name!r} cannot be a page: rename its folder; a name may have {allowed}.")
    return []


def check_notebook(app: Sphinx, docname: str, source: list[str]) -> None:
    """End the build for a notebook that failed, was not run to its end, or shows what no reader can use.

    That is a chart that needs the web, or a value as Python writes it.
    """
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    for number, cell in enumerate(notebook["cells"], start=1):
        if cell["cell_type"] != "code" or not "".join(cell["source"]).strip():
            continue
        if any(output["output_type"] == "error" for output in cell["outputs"]):
            raise ExtensionError(f"{path}: cell {number} holds a traceback; run the notebook again.")
        if any("altair-viz-" in "".join(output.get("data", {}).get("text/html", "")) for output in cell["outputs"]):
            chart = f"cell {number} has a chart that loads its scripts from the web, and is blank without a network"
            raise ExtensionError(f"{path}: {chart}; call book.figures.style.enable() before it.")
        if "remove-output" not in (tags := cell["metadata"].get("tags", [])) and "remove-cell" not in tags:
            for output in cell["outputs"]:
                if set(output.get("data", {})) == {"text/plain"}:
                    value = "".join(output["data"]["text/plain"])
                    shown = f"cell {number} shows {quoted(value)} as Python writes it"
                    raise ExtensionError(f"{path}: {shown}; end the cell with a table, or print a sentence.")
        if cell["execution_count"] is None:
            raise ExtensionError(f"{path}: cell {number} was not run; run the notebook to its end.")
    if notebook["metadata"].get("papermill", {}).get("exception"):
        raise ExtensionError(f"{path}: papermill did not finish it; run the notebook again.")


def _read_result(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; what is wrong with it ends the build with a sentence."""
    try:
        return read_object(path)
    except InputError as error:
        raise ExtensionError(str(error)) from error


class ChartDirective(SphinxDirective):  # type: ignore[misc]
    """``{chart} PATH``: the chart whose specification a notebook left at PATH below the book's root."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The chart's HTML."""
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        return [nodes.raw("", chart_html(_read_result(path)), format="html")]


def is_tree(name: str) -> bool:
    """Whether a live figure is a stored tree: `book.figures.lab.TREES`."""
    return name == "landing" or name.startswith("tree-")


class LessonDirective(SphinxDirective):  # type: ignore[misc]
    """``{lesson} NAME CELL``: the figure that the lesson's cell of that id left."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """The figure's HTML."""
        name, cell = self.arguments
        path = Path(self.env.srcdir) / LESSONS / f"{name}.ipynb"
        self.env.note_dependency(str(path))
        for one in _read_result(path).get("cells", []):
            for output in one.get("outputs", []) if one.get("id") == cell else []:
                if MIME in output.get("data", {}):
                    return [nodes.raw("", chart_html(output["data"][MIME]), format="html")]
        raise self.error(f"{path.name} has no cell {cell!r} with a figure")


class LiveDirective(SphinxDirective):  # type: ignore[misc]
    """``{live} NAME WORDS``: a figure to work; without JavaScript, a table.

    ``dial``, ``dice`` and ``problems`` are the live figures, ``lab`` is the lab, and ``landing`` and ``tree-…`` are
    stored trees (`book.figures.lab.TREES`). These may have words: ``big`` for a projector, ``lines`` for the curves of
    the likeliest answers, and ``T=0.5`` for where the dial stands.
    """

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The HTML of the figure's place and of the table."""
        name, *words = self.arguments[0].split()
        folder = "results/lab" if name == "lab" or is_tree(name) else "results/live"
        path = Path(self.env.srcdir) / folder / "still.json"
        self.env.note_dependency(str(path))
        if not path.exists():
            raise self.error(f"{folder} is missing: run `make book`, or `{LIVE[folder]}`.")
        tables = _read_result(path)
        if name not in tables:
            raise self.error(f"there is no live figure {name!r}, only {', '.join(tables)}")
        unknown = [word for word in words if not (is_tree(name) and re.fullmatch(WORD, word))]
        if unknown:
            raise self.error(
                f"{name} has no word {unknown[0]!r}; a stored tree has big, lines and T=NUMBER, from 0 to 2"
            )
        lab = self.env.app.builder.get_relative_uri(self.env.docname, LAB)
        return [nodes.raw("", live_html(name, words, lab, **tables[name]), format="html")]


def live_html(name: str, words: list[str], lab: str, caption: str, rows: list[list[str]]) -> str:
    """The place where a live figure is drawn, and the table for readers without JavaScript. All text is escaped.

    `words` are those of the directive, `lab` is the address of the lab's page.
    """

    def line(tag: str, cells: list[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"

    head, body = line("th", rows[0]), "".join(line("td", row) for row in rows[1:])
    table = f"<caption>{html.escape(caption)}</caption><thead>{head}</thead><tbody>{body}</tbody>"
    place, label = html.escape(name), html.escape(f"Live figure. {caption}")
    kind, more = "lmrel-live", ""
    if name == "lab":
        kind = "lmrel-lab lab-figure"
    elif is_tree(name):
        kind = " ".join(["lmrel-tree lab-figure", *(word for word in words if "=" not in word)])
        more = f' data-lab="{html.escape(lab)}"' + "".join(f' data-t="{word[2:]}"' for word in words if "=" in word)
    return (
        f'<div class="{kind}" data-figure="{place}"{more} role="group" aria-label="{label}"></div>'
        f'<noscript><table class="table">{table}</table></noscript>'
    )


def begin_anew(app: Sphinx, config: Any) -> None:
    """Remove what a killed build left in the folder of the site: Sphinx would trust it, and its search lacks pages.

    A build that ends well leaves nothing there, as the Snakefile moves the site away.
    """
    for path in Path(app.outdir).iterdir():
        if path != Path(app.doctreedir):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def copy_live(app: Sphinx, exception: Exception | None) -> None:
    """Copy the data of the live figures into the site, into one folder."""
    found = [path for folder in LIVE for path in sorted((Path(app.srcdir) / folder).glob("*.js"))]
    for path in found if exception is None else []:
        target = Path(app.outdir) / "_static" / "live" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)


def run_folder(app: Sphinx, pagename: str) -> Path | None:
    """The folder of the finished run whose page this is, with its draws; None for any other page."""
    folder = Path(app.srcdir, pagename).parent
    is_page = re.fullmatch(r"results/.+/evaluate", pagename)
    return folder if is_page and all((folder / name).is_file() for name in (RUN, DRAWS, SUMMARY)) else None


def write_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Put the files of each run beside its page: draws as Parquet and as CSV, and the summary."""
    for pagename in sorted(app.env.found_docs) if exception is None and app.builder.name == "html" else []:
        if folder := run_folder(app, pagename):
            target = Path(app.outdir, pagename).parent
            for name in (DRAWS, SUMMARY):
                shutil.copy2(folder / name, target)
            try:
                files.write_text(as_csv(read_draws(folder)), target / CSV)
            except InputError as error:
                raise ExtensionError(str(error)) from error


def choose_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Add the scripts of charts and figures to pages with some; take thebe's away, which fails on every page.

    It is loaded twice, and the second time is an error.
    """
    body = context.get("body", "")
    needed = [(styles, scripts) for mark, styles, scripts in LOADED if re.search(mark, body)]
    for name in dict.fromkeys(name for styles, _ in needed for name in styles):
        app.add_css_file(name)
    for name in dict.fromkeys(name for _, scripts in needed for name in scripts):
        app.add_js_file(name, loading_method="defer")
    scripts = context.get("script_files", [])
    scripts[:] = [
        script for script in scripts if "thebe" not in f"{script} {getattr(script, 'attributes', {})}".lower()
    ]


def finish_body(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Number figures and link each to the function that drew it, link a run's files, let wide tables scroll."""
    numbers = itertools.count(1)
    body = re.sub(
        r'<span class="number"></span>',
        lambda _: f'<span class="number">Figure {next(numbers)}.</span>',
        context.get("body", ""),
    )

    def to_reference(drawn_by: re.Match[str]) -> str:
        room = drawn_by[1].partition(".")[0]
        return f'<a href="{context["pathto"](f"{API}/{room}")}#{drawn_by[1]}"'

    body = re.sub(r'<a data-function="([\w.]+)"', to_reference, body)
    body = re.sub(r"<table\b.*?</table>", r'<div class="wide-table" tabindex="0">\g<0></div>', body, flags=re.DOTALL)
    body = body.replace('<th class="head"><p></p></th>', "<td></td>")  # what heads nothing is no header
    body = body.replace("<th></th>", '<td class="blank"></td>')
    if run_folder(app, pagename) and app.builder.name == "html":  # one page for all has no folders beside it
        links = ", ".join(f'<a href="{name}" download>{name}</a>' for name in (DRAWS, CSV, SUMMARY))
        body = re.sub(r'(<p class="lmrel-downloads">).*?(?=</p>)', rf"\1Download: {links}", body, flags=re.DOTALL)
    # Sphinx puts these roles on elements that may not have them.
    context["body"] = re.sub(r'(<[^<>]*) role="(doc-biblioentry|list)"', r"\1", body)
    if doctree:
        context["metatags"] = context.get("metatags", "") + described(app, pagename, context, doctree)


def described(app: Sphinx, pagename: str, context: dict[str, Any], doctree: Any) -> str:
    """The elements of a page's head that say what it is about, to search engines and where a link to it is shown.

    The description is the first paragraph that is not on what the page rests on. A picture needs its whole address,
    which there is once ``html_baseurl`` is set.
    """
    paragraphs = [" ".join(node.astext().split()) for node in doctree.findall(nodes.paragraph)]
    about = next((text for text in paragraphs if not text.startswith("Rests on")), "")
    about = about if len(about) <= 160 else about[:160].rpartition(" ")[0] + " …"
    own_title = html.unescape(re.sub("<[^>]+>", "", context.get("title", "")))
    base = app.config.html_baseurl
    picture = f"{base.rstrip('/')}/{CARD}" if base else context["pathto"](CARD, 1)
    said = {"description": about, "og:title": own_title, "og:description": about, "og:image": picture}
    said |= {"og:image:alt": CARD_SAYS, "og:type": "article", "og:site_name": app.config.html_title}
    said |= {"twitter:card": "summary_large_image"}
    return "".join(
        f'\n<meta {"property" if ":" in name else "name"}="{name}" content="{html.escape(text, quote=True)}">'
        for name, text in said.items()
        if text
    )


def write_vega(app: Sphinx, exception: Exception | None) -> None:
    """Write the Vega scripts, once per site."""
    target = Path(app.outdir) / "_static" / "vega.js"
    if exception is None and app.builder.format == "html" and not target.exists():
        bundle = vl_convert.javascript_bundle(vl_version=VEGALITE)  # type: ignore[call-arg]
        # In a function of its own, or its names collide with those of Sphinx' scripts.
        target.write_text(f"(() => {{\n{bundle}\n}})();\n", encoding="utf-8")


class Unbroken(SphinxPostTransform):  # type: ignore[misc]
    """Keeps a number and its percent sign, and the ends of an interval, on one line of prose."""

    default_priority = 900  # numbers from the results stand in the text by then

    def run(self, **options: Any) -> None:
        """Put no-break spaces into the document's text, not into its code."""
        for text in list(self.document.findall(nodes.Text)):
            if not isinstance(text.parent, nodes.literal | nodes.literal_block | nodes.raw):
                text.parent.replace(text, nodes.Text(TOGETHER.sub("\N{NO-BREAK SPACE}", text)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension: Sphinx's entry point."""
    app.add_role("number", NumberRole())
    app.add_directive("chart", ChartDirective)
    app.add_directive("live", LiveDirective)
    app.add_directive("lesson", LessonDirective)
    app.add_post_transform(Unbroken)
    app.add_css_file("lmrel.css")
    app.connect("config-inited", lambda _, config: config.html_static_path.append(str(STATIC)))
    app.connect("config-inited", lambda _, config: setattr(config, "html_search_scorer", str(SCORER)))
    app.connect("config-inited", begin_anew)
    app.connect("env-get-outdated", check_names)
    app.connect("source-read", check_notebook)
    app.connect("html-page-context", choose_scripts, priority=900)
    app.connect("html-page-context", finish_body)
    app.connect("build-finished", write_vega)
    app.connect("build-finished", copy_live)
    app.connect("build-finished", write_downloads)
    app.connect("build-finished", theme.finish, priority=900)  # when all else is written
    # Pages that an older version of this code read are read again: Sphinx keeps what they became, charts among it.
    code = b"".join(path.read_bytes() for path in CODE)
    version = int.from_bytes(blake2b(code, digest_size=6).digest()) + 1
    return {"version": "1", "env_version": version, "parallel_read_safe": True, "parallel_write_safe": True}
