"""Hostile text: whatever a model, a problem, a checkpoint or a name says, it is shown and nothing comes of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import torch
import yaml
from playwright.sync_api import Browser, Page
from safetensors.torch import load_file, save_file
from sphinx.errors import ExtensionError
from transformers.utils.import_utils import is_env_variable_true

from book.figures import live
from book.figures.style import MIME, bundle, enable, inert, svg
from book.figures.text import plain, rests_on
from book.site.extension import check_names
from lmrel import Decoder, InputError, charts, files, load_model, load_problems, paper_problems, records, sample
from lmrel.checkpoint import resolve
from lmrel.errors import visible
from lmrel.files import read_object
from lmrel.registry import CHECKPOINTS
from lmrel.stats import inference
from lmrel.tokens import encode
from study import jobs, progress, runner
from study.jobs import Study, run_name
from study.run import Run
from study.runner import run_notebook
from tests.book.site.test_site import build
from tests.conftest import small_tokenizer
from tests.lmrel.stats.test_metrics import table
from tests.lmrel.test_charts import SUMMARY
from tests.study.test_jobs import CONFIG
from tests.study.test_runner import notebook

SCRIPT = "<script>window.hostile=1;alert(1)</script>"
WRITTEN = [  # each is told from the others by its first 40 characters, as cells are cut
    SCRIPT,
    "</script>" + SCRIPT,
    "</td></table></div>" + SCRIPT[:-9],
    "<img src=http://h.invalid/a.png onerror=window.hostile=2>",
    "<svg onload=window.hostile=3><iframe srcdoc='&lt;script>alert(1)'>",
    "<style>@import 'http://h.invalid/a.css'</style>",
    "\" autofocus onfocus='window.hostile=4' x=\"",
    "&lt;b&gt; &#60;script&#62; <!-- --!> ]]> <![CDATA[ ?>",
    "[a](javascript:window.hostile=5)",
    "![a](http://h.invalid/b.png) **b** `c`",
    "```{raw} html\n<script>alert(1)</script>\n```",
    "{raw-html}`<b>`{doc}`/x`{{ 7*7 }}{% for x in y %}",
    "$$\\href{javascript:alert(1)}{x}$$ \\(y\\)",
    "datum.x; #{7*7} ${7*7} \\input{/etc/passwd}\\write18{id}",
    '1 id="x" url(#y) role="list" <table',
    "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07",
    "\x1b]8;;http://h.invalid\x1b\\x\x1b]8;;\x1b\\",
    "7\u202e8 is 87\u2066 4\u200b2\ufeff\u00ad\u2060",
    "a\r\nb\x85c\u2028d\u2029e\x0bf\x0cg",
    "\x00\x01\x08\x0e\x7f\x9b31m\ufffe x\U000e0041\ue000\U0010ffff",
]
NAMES = [text.replace("\n", " ") for text in WRITTEN]  # of models, tasks and problems
TITLE = NAMES[1] + NAMES[-5] + NAMES[-3]
NO_UNICODE = os.fsdecode(b"a\xffb")  # a folder's name that is none
QUOTED = {"\N{EN DASH}": "--", **dict.fromkeys("\u2018\u2019", "'"), **dict.fromkeys("\u201c\u201d", '"')}  # by Sphinx
AS_TEXTS = pytest.mark.parametrize("text", WRITTEN, ids=lambda text: ascii(text)[:20])

# In a page

CELL = """
from pathlib import Path
from book.figures import compare, evaluate, style, text
from lmrel import charts, load_problems, records
from lmrel.stats import inference, metrics
from study import results as found
style.enable()
place = Path(results)
draws, runs = records.read_draws(place / 'main'), found.read_summaries(place)
print(text.rests_on(names, name))
models = runs.assign(model=runs['checkpoint'])
for first in range(0, len(models), 7):
    display(charts.response(models[first : first + 7], 'accuracy', name, name, subtitle=name))
display(charts.runs(metrics.by_run(draws).query("task == 'all'"), name, name, subtitle=name))
display(charts.failures(inference.failure_shares(draws.assign(failure=draws['text'], correct=False)), name, name))
written = text.plain(draws[['text']].replace('\\n', '⏎', regex=True))
display(evaluate.by_task(inference.summarize_with_intervals(draws)), written)
study = compare.read(place, [folder.name for folder in found.find_runs(place)], temperatures=[0.5])
print(compare.overview(study)); display(compare.missing(compare.read(place, [])))
display(compare.conditions(study), compare.missing(study), compare.levels(study))
display(compare.examples(study, *list(study.records)[:2], count=100))
drawn = draws.assign(ended='eos', extracted=draws['text'], prompt=draws['text'])
display(evaluate.explorer(drawn, load_problems(str(place.parent / 'mine.jsonl'))))
display(evaluate.recorded({'parameters': {'model': name, 'models': names}}))
"""
INDEX = """# Home

{number}`hostile`

```{chart} chart.json
```

```{live} problems
```
"""


def answers(path: Path) -> pd.DataFrame:
    """Two draws of each problem in a file, of every text."""
    lines = [{"problem_id": f"{n} {i}", "task": n, "question": n, "answer": i} for i, n in enumerate(NAMES)]
    path.write_text("\n".join(map(json.dumps, lines)))
    problems = load_problems(str(path))[["problem_id", "task", "answer"]].rename(columns={"answer": "expected"})
    both = pd.concat([problems.assign(text=WRITTEN, run=run) for run in (0, 1)], ignore_index=True)
    right = both.index % 3 > 0
    same = table().drop(columns=both.columns, errors="ignore").iloc[[0] * len(both)].reset_index(drop=True)
    return same.assign(correct=right, compliant=right, runaway=right).join(both)


def write_live(folder: Path) -> None:
    """What the live figures read: one model, which wrote hostile texts."""
    ids = paper_problems()["problem_id"]
    drawn = pd.DataFrame({"problem_id": ids[: len(WRITTEN)], "temperature": 1.0, "run": 0, "correct": False})
    folder.mkdir()
    live.put_script(folder, "draws-it", live.texts(drawn.assign(text=WRITTEN)))
    problems = [[visible(name), visible(name), 1, "arithmetic"] for name in NAMES]
    live.put_script(folder, "suite", {"models": ["it"], "problems": problems, "right": {"it": [0.5] * len(problems)}})
    still = {"problems": {"caption": SCRIPT, "rows": [["head"], [SCRIPT]]}}
    (folder / "still.json").write_text(json.dumps(still))


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a notebook that ran on hostile problems, answers and names, and a page with the other figures."""
    folder = tmp_path_factory.mktemp("book")
    results, drawn = folder / "results", answers(folder / "mine.jsonl")
    for model in ["main", *NAMES]:
        run = results / model.replace("/", "\N{DIVISION SLASH}").replace("\0", "")
        run.mkdir(parents=True)
        summary = inference.summarize_with_intervals(drawn.assign(model=model)).query("task == 'all'")
        files.write_table(summary, run / records.SUMMARY)
        record = {"parameters": {"model": model, "system": model}, "decoding_id": model, "started": model}
        files.write_json(record | ({"precision": model} if model in NAMES[:2] else {}), run / records.RUN)
        asked = {"prompt": drawn["text"], "cluster": drawn["text"], "extracted": 1, "answer": "first"}
        files.write_table(drawn.assign(correct=model == NAMES[0], **asked), run / records.DRAWS)
    files.write_table(drawn, results / "main" / records.DRAWS)
    write_live(results / "live")
    (results / "x-numbers.json").write_text(json.dumps({"hostile": SCRIPT}))
    chart = charts.response(SUMMARY.assign(model=TITLE), "accuracy", TITLE, TITLE)
    (folder / "chart.json").write_text(json.dumps(chart.to_dict()))

    source = folder / "source.ipynb"
    notebook(source, ("results = ''\nname = ''\nnames = []", ["parameters"]), (CELL, []))
    parameters = {"results": str(results), "name": TITLE, "names": NAMES}
    run_notebook(source, folder / "ran.ipynb", parameters, title=" ".join(NAMES))
    done = build(folder, *nbformat.read(folder / "ran.ipynb", as_version=4).cells, page=INDEX)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html"


def watched(browser: Browser, path: Path) -> tuple[Page, list[str]]:
    """A page, and all that it did which text must not do; the list goes on growing."""
    page = browser.new_context(offline=True).new_page()
    done: list[str] = []
    page.on("dialog", lambda dialog: (done.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or done.append(request.url))
    page.on("requestfailed", lambda request: done.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: done.append(f"error: {error}"))
    page.on("framenavigated", lambda frame: frame.parent_frame and done.append(f"frame: {frame.url}"))
    page.goto(path.as_uri())
    return page, done


def nothing_came_of_it(page: Page, done: list[str]) -> None:
    page.wait_for_timeout(300)
    assert done == []
    assert page.evaluate("window.hostile") is None
    assert page.locator("article").locator("iframe, img, object, embed, [onerror], [onload], [onfocus]").count() == 0
    assert page.locator("article a[href^=javascript]").count() == 0
    assert not [char for char in page.locator("article").text_content() or "" if visible(char) != char]


def test_hostile_text_in_a_notebooks_page_is_text(browser: Browser, book: Path) -> None:
    page, done = watched(browser, book / "note.html")
    cells = set(page.locator("td, th").all_text_contents())
    assert {visible(name)[:40] for name in NAMES} <= {cell[:40] for cell in cells}  # pandas cuts at 50
    assert {visible(text.replace("\n", "⏎"))[:40] for text in WRITTEN} <= {cell[:40] for cell in cells}
    title = page.locator("h1").last.inner_text().translate(str.maketrans(QUOTED))
    assert title == " ".join(visible(" ".join(NAMES)).split())
    told: list[str] = []
    for figure in page.locator(".lmrel-chart").all():
        figure.focus()
        figure.locator(".live svg").first.wait_for(timeout=20_000)
        for mark in figure.locator(".live svg .mark-symbol.role-mark path").all():
            mark.hover(force=True)
            page.locator("#vg-tooltip-element.visible").wait_for()
            told += page.locator("#vg-tooltip-element td.value").all_text_contents()
    assert {visible(name) for name in NAMES} <= set(told)
    for text in WRITTEN:
        page.locator(".lmrel-run input").fill(visible(text).lower())
        page.locator(".lmrel-run tbody button").first.click()
        shown = page.locator("dialog pre").all_text_contents()
        assert visible(text) in shown
        page.keyboard.press("Escape")
    nothing_came_of_it(page, done)
    page.context.close()


def test_hostile_text_in_live_figures_charts_and_numbers_is_text(browser: Browser, book: Path) -> None:
    page, done = watched(browser, book / "index.html")
    assert SCRIPT in page.locator("article p").first.inner_text()
    assert visible(TITLE) in page.locator("figcaption").inner_text()
    cells = page.locator(".lmrel-live .grid button")
    cells.first.wait_for()
    for number, text in enumerate(WRITTEN):
        cells.nth(number).click()
        shown = page.locator(".lmrel-live .detail li code")
        shown.first.wait_for()
        assert shown.text_content() == visible(text).replace("\n", "⏎")
    nothing_came_of_it(page, done)
    page.context.close()


@pytest.mark.parametrize("name", ["x'; alert(1); '", "<script>", "a\nb", "\x1b[31m", "a\u202eb", "{x}", NO_UNICODE])
def test_a_page_whose_name_the_theme_would_run_stops_the_build(name: str) -> None:
    with pytest.raises(ExtensionError, match="cannot be a page: rename its folder") as found:
        check_names(None, None, {"index", f"results/{name}/evaluate"}, set(), set())
    assert visible(str(found.value)) == str(found.value)
    good = {"results/Qwen--2.5_3B, mine é/evaluate"}
    assert check_names(None, None, good, set(), set()) == []


def test_the_site_looks_at_the_names_of_its_pages(tmp_path: Path) -> None:
    name = f"x'; alert(1); '{NO_UNICODE}"
    (tmp_path / "results" / name).mkdir(parents=True)
    (tmp_path / "results" / name / "evaluate.md").write_text("# Mine\n")
    done = build(tmp_path, chapters="glob: results/*/evaluate")
    assert done.returncode != 0
    assert "cannot be a page: rename its folder" in done.stderr


# In sentences, tables and figures


def test_what_is_seen_stays_and_what_acts_is_spelled_out() -> None:
    for seen in ("", "plain", "\u00e9\u00a0\u2212\u2009\u05d0\u5b57", "two\nlines", "\U0001f600"):
        assert visible(seen) == seen
    assert visible("\x1b[31m\0\u202e\u200b\ud800\r") == "\\x1b[31m\\x00\\u202e\\u200b\\ud800\\r"


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def inside(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return str(folder / name)


def templated(template: str) -> list[list[int]]:
    tokenizer = small_tokenizer(39)
    tokenizer.chat_template = template
    return encode(["1 + 1"], tokenizer)


UNSEEN = "<b>\x1b[31m\x1b]0;x\x07\u202e\u200b\x85\u2028\ufeff"
TEMPLATE = "{{{{ raise_exception({!a}) }}}}"
SENTENCES: dict[str, Callable[[str, Path], Any]] = {  # what each says holds the text, or a file of that name
    "a model": lambda text, _: resolve(text),
    "a model's folder": lambda text, folder: resolve(inside(folder, text.replace("\0", ""))),
    "a file of problems": lambda text, folder: load_problems(str(folder / f"{text}.jsonl")),
    "a line": lambda text, folder: load_problems(written(folder / "a.jsonl", json.dumps({text: 1}))),
    "a parameter": lambda text, _: Run.from_namespace({"model": "a", text: 1}),
    "a value": lambda text, _: Run("a", temperatures=[text]),  # type: ignore[arg-type]
    "an object": lambda text, folder: read_object(folder / text),
    "a run's folder": lambda text, folder: records.read_draws(folder / text),
    "a study's models": lambda text, _: Study.of(CONFIG | {"models": [text, text]}),
    "a condition's name": lambda text, _: Study.of({"conditions": [{"model": "tiny-dense-base", "name": text}]}),
    "a grid's level": lambda text, _: Study.of(CONFIG | {"grid": {"prompt": {text: {}}}}),
    "a grid's axis": lambda text, _: Study.of(CONFIG | {"grid": {text: 1}}),
    "a request": lambda text, _: Study.of(CONFIG | {"requests": {text: {}}}),
    "a notebook's parameter": lambda text, folder: run_notebook(
        notebook(folder / "a.ipynb", ("x = 1", ["parameters"])), folder / "b.ipynb", {text: 1}
    ),
    "YAML": lambda text, _: runner.read_parameters(f"- {text!r}"),
    "a chat template": lambda text, _: templated(TEMPLATE.format(text)),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_quotes_but_does_not_obey(name: str, tmp_path: Path) -> None:
    for text in (UNSEEN, f"a{NO_UNICODE}", "a\0b"):
        with pytest.raises(InputError) as found:
            SENTENCES[name](text, tmp_path)
        said = str(found.value)
        assert said.encode()
        assert visible(said) == said
        assert "\n" not in said


@AS_TEXTS
def test_figures_and_tables_hold_text_on_which_nothing_acts(text: str) -> None:
    chart = charts.response(SUMMARY.assign(model=text), "accuracy", text, text, subtitle=text).to_dict()
    stored = bundle(chart)
    assert stored[MIME] == inert(chart)
    assert visible(stored["text/plain"]) == stored["text/plain"]
    picture = svg(chart, 300)
    assert visible(picture) == picture
    assert not re.search(r"<(script|img|iframe|style|foreignObject|image|a)\b", picture)
    shown = plain(pd.DataFrame({text: [text]}))
    assert shown.columns.tolist() == shown.iloc[:, 0].tolist() == [visible(text)]
    assert not re.search("<(script|img|svg|iframe|style)", shown.to_html())
    assert visible(text) in rests_on([text], "knobs")


def test_viewers_are_told_not_to_set_formulas() -> None:
    enable()
    assert "mathjax_ignore" in pd.DataFrame({"a": ["$x$"]})._repr_html_()


# Names and parameters


@pytest.mark.parametrize(
    ("model", "run"),
    [
        ("Qwen/Qwen2.5-0.5B", "Qwen--Qwen2.5-0.5B"),
        ("../../x", "x"),
        ("a/../b/./c//", "a--b--c"),
        ("/data/models/mine", "data--models--mine"),
        ("-rf", "rf"),
        ("x'; touch y; '", "x___touch_y___"),
        ("$(id)`id`{x}*?", "__id__id__x___"),
        ("a b\n\x1b[31m\u202e", "a_b___31m_"),
    ],
)
def test_a_run_is_a_folder_below_results_whatever_its_model_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, run: str
) -> None:
    assert run_name(model) == run
    assert Path("results", run).resolve().parent == Path("results").resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "resolve", lambda name: name)  # as if there were such a model
    [job] = Study.of(CONFIG | {"models": [model]}).jobs()
    assert job.folder == Path("results", run)
    assert job.parameters["model"] == model
    Path(job.folder).mkdir(parents=True)
    job.failed.write_text("KeyError: \x1b[31m\u202e\n")
    said = progress.report([progress.State(job, 0, 1, (), "failed", job.why)], 0.0)
    assert "KeyError: \\x1b" in said
    assert visible(said) == said


@pytest.mark.parametrize("model", ["..", ".", "/", "../..", "-", "./.-"])
def test_a_model_that_would_give_its_run_no_folder_is_refused(model: str) -> None:
    with pytest.raises(InputError, match=r"^study.yaml: the condition of '.*' has the name ''; it may have letters"):
        Study.of(CONFIG | {"models": [model]})


CODE = "\"; import os; open('hostile', 'w'); \""
NO_VALUES = [CODE.encode(), {CODE}, (CODE,), {1: CODE}, {CODE: (1,)}, [(CODE,)], [{CODE}], [[[[1]]]], object()]
NO_VALUES += map(yaml.safe_load, ["!!binary Ijsg", "!!set {a}", "2026-01-01", "!!pairs [a: 1]", "&a [*a]"])


@pytest.mark.parametrize("value", NO_VALUES, ids=lambda value: repr(value).split(" at 0x")[0])
def test_a_parameters_value_is_a_value(value: Any, tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]))
    with pytest.raises(InputError, match="x is .* it must be a number, text"):
        run_notebook(source, tmp_path / "b.ipynb", {"x": value})
    assert [path.name for path in tmp_path.iterdir()] == ["a.ipynb"]


def test_a_map_in_a_parameter_is_a_map_whatever_its_keys_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"]), ("assert [*x] == [x[k] for k in x], x", []))
    run_notebook(source, tmp_path / "b.ipynb", {"x": {CODE: CODE}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ipynb", "b.ipynb"]


@pytest.mark.parametrize("name", ["__import__('os').system('id');x", "x; y", "x = 1\nx", "", "__builtins__", "In", 1])
def test_a_parameters_name_is_one_of_the_notebooks(name: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no parameter .* it has x"):
        run_notebook(notebook(tmp_path / "a.ipynb", ("x = 1", ["parameters"])), tmp_path / "b.ipynb", {name: 1})


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "!!python/object/apply:os.system [id]", "{a: [", "a: " + "9" * 5000, "[" * 500, "\0", "a: 2020-13-45"],
)
def test_yaml_that_is_no_mapping_or_would_run_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="-y is"):
        runner.read_parameters(text)
    with pytest.raises(InputError, match="study.yaml (cannot be read|holds)"):
        Study.read(Path(written(tmp_path / "study.yaml", text)))


def test_text_stays_text_on_its_way_through_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = notebook(tmp_path / "it's a.ipynb", ("x = 1", ["parameters"]), ("print(ascii(x))", []))
    given = [*WRITTEN, CODE, "'''\n```\n# No title\n", "${HOME}", "\\", '\\"']
    target = run_notebook(source, tmp_path / "out.ipynb", {"x": given}, title="# [x](y)\n_z_")
    done = nbformat.read(target, as_version=4)
    assert done.cells[3].outputs[0].text == ascii(given) + "\n"
    assert done.cells[0].source == "# \\# \\[x\\]\\(y\\) \\_z\\_\n\nText."
    assert not Path("hostile").exists()
    [(_, block)] = re.findall(r"^(````+)bash\n(.*?)\n\1$", done.cells[-1].source, re.S | re.M)
    command = block.partition("\n")[2]
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True).stdout
    words = told.decode().split("\0")[:-1]
    assert words[:4] == ["papermill", str(source), "out.ipynb", "-y"]
    assert runner.read_parameters(words[4]) == {"x": given}


# Checkpoints

CONFIG_FILE, INDEX_FILE, NAN = "config.json", "model.safetensors.index.json", float("nan")
REFUSED: list[tuple[str, Any, str]] = [  # a file of a checkpoint; its text, or entries to change
    (CONFIG_FILE, {"auto_map": {"AutoModel": "evil.Model"}}, r"its own code \(auto_map in config.json\)"),
    ("tokenizer_config.json", {"auto_map": ["evil.T"]}, r"its own code \(auto_map in tokenizer_config.json\)"),
    (CONFIG_FILE, {"_attn_implementation": "evil/kernel"}, "its own code .*_attn_implementation in config.json"),
    (CONFIG_FILE, {"transformers_weights": "adapter_model.bin"}, "names 'adapter_model.bin' as weights"),
    (INDEX_FILE, {"weight_map": {"a": "w.bin"}}, "names 'w.bin' as weights"),
    (INDEX_FILE, {"weight_map": {"a": "../w.safetensors"}}, "names '../w.safetensors' as weights"),
    (INDEX_FILE, {"weight_map": {"a": "/w.safetensors"}}, "names '/w.safetensors' as weights"),
    (CONFIG_FILE, {"quantization_config": {"quant_method": "evil"}}, "was quantized by 'evil', which is not supported"),
    (CONFIG_FILE, {"vocab_size": 64}, r"has lm_head.weight of shape \(128, 128\)"),
    (CONFIG_FILE, {"vocab_size": 10**12}, "could not be loaded"),
    (CONFIG_FILE, {"model_type": "nope"}, "could not be loaded"),
    (CONFIG_FILE, "[" * 100_000, "config.json cannot be read"),
    ("tokenizer.json", "{}", "could not be loaded"),
    ("tokenizer_config.json", "[]", "it is no JSON object"),
    ("model.safetensors", "", "could not be loaded"),
    ("model.safetensors", {"lm_head.weight": NAN}, "mine returned NaN or infinite logits"),
]


def copied(folder: Path, name: str, content: Any) -> Path:
    """A shipped checkpoint with one of its files replaced or changed."""
    copy = shutil.copytree(CHECKPOINTS / "tiny-dense-base", folder / "mine")
    path = copy / name
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".safetensors":
        weights = load_file(path)
        save_file(weights | {key: weights[key] * value for key, value in content.items()}, path, {"format": "pt"})
    else:
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | content))
    return copy


@pytest.mark.parametrize(("name", "content", "said"), REFUSED, ids=lambda part: str(part)[:40])
@pytest.mark.filterwarnings("ignore")  # of transformers, about a damaged checkpoint
def test_a_checkpoint_that_brings_code_pickles_or_nonsense_is_refused(
    name: str, content: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as found:
        sample(*load_model(str(copied(tmp_path, name, content))), paper_problems().head(1), [Decoder(0.0)])
    assert "\n" not in str(found.value)


def test_pickles_beside_safetensors_are_neither_read_nor_converted_elsewhere(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model.bin"}}
    copy = copied(tmp_path, "pytorch_model.bin.index.json", index)
    (copy / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch hostile'\ntR.")
    model, _ = load_model(str(copy))
    weights = load_file(copy / "model.safetensors")
    assert torch.equal(model.model.embed_tokens.weight, weights["model.embed_tokens.weight"])
    assert is_env_variable_true("DISABLE_SAFETENSORS_CONVERSION")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ cycler.__init__.__globals__.os.popen('id') }}", "access to attribute '__init__'"),
        ("{{ lipsum.__globals__['os'] }}", "access to attribute '__globals__'"),
        ("{{ messages.append(1) }}", "access to attribute 'append'"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion"),
        ("{{ 'x' * 10 ** 18 }}", "MemoryError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% import 'os' as x %}", "no loader"),
    ],
)
def test_a_chat_template_stays_in_its_sandbox(template: str, said: str) -> None:
    with pytest.raises(InputError, match=f"chat template .*{said}"):
        templated(template)
