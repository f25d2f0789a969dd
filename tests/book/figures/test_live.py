"""The live figures: their data against the models, and the page, in real Chromium, against the package."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from book.figures.live import DIALLED, PRESETS, QWEN, RUNS, Tree, answers, put_script, texts, write_live
from lmrel import Decoder, InputError, enumerate_outcomes, paper_problems, sample
from lmrel.charts import PALETTE
from lmrel.records import read_draws
from lmrel.registry import TINY_SUITE
from lmrel.stats.inference import clustered_wilson
from lmrel.tokens import encode_problems
from tests.book.site.test_site import build, opened
from tests.conftest import ROOT, tiny

DATA = ROOT / "results" / "live"
PAGE = "book/live.html"
PROBLEMS = paper_problems().set_index("problem_id", drop=False)
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.1},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 2.0},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 2.0, "top_k": 5, "top_p": 0.8},
    {"temperature": 1.0, "min_p": 0.1},
    {"temperature": 0.0, "repetition_penalty": 1.05},
    {"temperature": 1.0, **QWEN},
    {"temperature": 2.0, **QWEN},
    {"temperature": 1.0, "repetition_penalty": 1.5},
]
IN_THE_PAGE = {"top_k": "topK", "top_p": "topP", "min_p": "minP", "repetition_penalty": "repetitionPenalty"}


@cache
def data(name: str) -> Any:
    """What a script hands to the page."""
    source = (DATA / f"{name}.js").read_text()
    start = f'lmrelLive.put("{name}",'
    assert source.startswith(start)
    assert source.endswith(");\n")
    return json.loads(source[len(start) : -3])


@cache
def tree(problem: str, model: str) -> Tree:
    packed = data(problem)[model]
    logits = np.frombuffer(base64.b64decode(packed["logits"]), "<f4").reshape(len(packed["parent"]), -1)
    return Tree(**(packed | {"logits": torch.from_numpy(logits.copy())}))


def path(of: Tree, node: int) -> list[int]:
    return [*path(of, of.parent[node]), of.token[node]] if node else []


def in_the_page(knobs: dict[str, Any]) -> dict[str, Any]:
    return {IN_THE_PAGE.get(name, name): value for name, value in knobs.items()}


# The data


@pytest.mark.parametrize("problem", DIALLED[:4])
def test_the_stored_logits_are_those_of_a_plain_forward(problem: str, tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    of = tree(problem, tiny_name)
    [prompt] = encode_problems([PROBLEMS.loc[problem].to_dict()], "few_shot", tokenizer)
    assert of.seen == sorted(set(prompt))
    for node in {0, 1, len(of.parent) // 2, len(of.parent) - 1}:
        tokens = prompt + path(of, node)
        plain = model(torch.tensor([tokens])).logits[0, -1].float()
        assert torch.allclose(of.logits[node], plain, atol=2e-4)
        assert of.mask()[node].nonzero().flatten().tolist() == sorted(set(tokens))


@pytest.mark.parametrize("problem", DIALLED)
def test_the_right_answer_has_the_mass_that_enumeration_gives_it(problem: str, tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    of, right = tree(problem, tiny_name), str(PROBLEMS.loc[problem, "answer"])
    temperatures = [0.0, 0.1, 0.7, 1.0, 2.0]
    for knobs in ({}, {"top_k": 5}, {"top_p": 0.8}, {"top_k": 5, "top_p": 0.8}, {"min_p": 0.1}):
        exact = enumerate_outcomes(model, tokenizer, PROBLEMS.loc[[problem]], temperatures, **knobs)
        exact = exact[exact["metric"] == "correct"]
        for t, lower, upper in exact[["temperature", "lower", "upper"]].itertuples(index=False):
            found = answers(of, Decoder(t, **knobs))
            assert sum(found.values()) == pytest.approx(1, abs=1e-5)
            assert found.get(right, 0.0) <= upper + 1e-4
            assert found.get(right, 0.0) + found.get("other", 0.0) >= lower - 1e-4
            assert found.get("other", 0.0) < (0.05 if t <= 1 else 0.4)


def test_with_a_repetition_penalty_the_tree_agrees_with_draws() -> None:
    runs = 4000
    for name, problem, knobs in (("tiny-dense-base", "vb-102", QWEN), ("tiny-sparse-instruct", "ar-103", QWEN)):
        model, tokenizer = tiny(name)
        decoder = Decoder(1.0, stop="decided", **knobs)
        drawn = sample(model, tokenizer, PROBLEMS.loc[[problem]], [decoder], runs=runs)["extracted"]
        frequencies = drawn.astype(str).value_counts(normalize=True)
        for answer, p in answers(tree(problem, name), decoder).items():
            if answer not in ("none", "other"):
                # Five standard errors: false alarm below 1 in 10,000 for all answers together.
                assert abs(frequencies.get(answer, 0.0) - p) < 5 * np.sqrt(0.25 / runs), answer


def test_the_page_keeps_what_it_promises_to_show() -> None:
    penalized, rising = set(), []
    for problem in DIALLED:
        right = str(PROBLEMS.loc[problem, "answer"])
        for name in TINY_SUITE:
            of = tree(problem, name)
            [greedy] = answers(of, Decoder(0.0))
            if [greedy] != list(answers(of, Decoder(0.0, repetition_penalty=1.05))):
                penalized.add(problem)
            if greedy != right:
                rising.append(answers(of, Decoder(1.0)).get(right, 0.0))
    assert len(penalized) == 1  # the problem whose greedy answer the penalty changes
    assert len(rising) > 3
    assert min(rising) > 0.02  # where greedy is wrong, P(correct) rises from 0


def test_the_dice_are_what_a_fresh_sample_gives_and_the_exact_chances_fit(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    suite = data("suite")
    packed = np.frombuffer(base64.b64decode(suite["bits"][tiny_name]), np.uint8)
    bits = np.unpackbits(packed).astype(bool).reshape(RUNS, 240)
    fresh = sample(model, tokenizer, paper_problems(), [Decoder(1.0)], runs=8)["correct"]
    assert (fresh.to_numpy(dtype=bool).reshape(240, 8) == bits[:8].T).all()
    right = np.asarray(suite["right"][tiny_name])
    # Each difference is a mean of 64 draws: in units of its standard error its mean square is about 1.
    error = np.sqrt((right * (1 - right)).clip(0.004) / RUNS)
    assert np.mean(((bits.mean(axis=0) - right) / error) ** 2) < 1.4
    some = PROBLEMS.index[::20]
    exact = enumerate_outcomes(model, tokenizer, PROBLEMS.loc[some], [1.0])
    exact = exact[exact["metric"] == "correct"].set_index("problem_id")
    assert (right[::20] >= exact["lower"] - 0.0051).all()
    assert (right[::20] <= exact["upper"] + 0.0051).all()


def test_the_texts_are_draws_of_the_shipped_run() -> None:
    stored = data("draws-tiny-dense-base")
    draws = read_draws(ROOT / "results" / "tiny-dense-base")
    assert stored == json.loads(json.dumps(texts(draws)))
    for number in (0, 100, 239):
        mine = draws[(draws["problem_id"] == PROBLEMS.index[number]) & (draws["temperature"] == 1.0)].sort_values("run")
        place = stored["temperatures"].index(1.0)
        assert stored["texts"][number][place] == [
            list(pair) for pair in zip(mine["text"], mine["correct"], strict=True)
        ]


def test_of_other_runs_no_figure_is_made(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tiny-dense-base/run\.json cannot be read"):
        write_live(tmp_path, tmp_path / "live")
    assert not (tmp_path / "live").exists()


def test_the_scripts_are_light_and_in_ascii() -> None:
    names = {path.name for path in DATA.glob("*.js")}
    assert names == {"suite.js", *(f"{p}.js" for p in DIALLED), *(f"draws-{m}.js" for m in TINY_SUITE)}
    for script in DATA.glob("*.js"):
        assert script.stat().st_size <= 350_000
        assert script.read_bytes().isascii()


def test_the_colours_are_the_charts() -> None:
    style = (ROOT / "book" / "site" / "static" / "live.css").read_text()
    for colour in ("#3b82c4", "#2e9e6b", "#d9730d"):
        assert colour in PALETTE
        assert colour in style


def test_a_book_with_a_live_figure_and_no_data_says_what_to_do(tmp_path: Path) -> None:
    done = build(tmp_path, page="# Home\n\n```{live} dial\n```\n")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert re.search(
        r"index\.md:3: .*results/live is missing: run `make book`, or `python -m book\.figures\.live", said
    )


# The page


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    found, wrong = opened(browser, PAGE, viewport={"width": 1280, "height": 900})
    found.locator("[data-figure=problems] .grid button").first.wait_for()
    found.locator("[data-figure=dial] .bar").first.wait_for()
    found.wait_for_function("document.querySelector('[data-figure=dial] table td')")
    yield found
    assert wrong == []
    found.context.close()


def set_range(page: Page, name: str, value: float) -> None:
    page.get_by_label(name, exact=True).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input', {bubbles: true})); }", value
    )


def shown_panel(page: Page, model: str) -> tuple[float, list[tuple[str, float]]]:
    """P(correct) and the rows of one panel, as a reader sees them."""
    panel = page.get_by_role("region", name=model)
    rows = [row.inner_text().split("\n") for row in panel.locator("li:not(.empty)").all()]
    return float(panel.locator("strong").inner_text()), [(row[0], float(row[1])) for row in rows]


@pytest.mark.parametrize("problem", [DIALLED[0], DIALLED[4]])
def test_the_pages_arithmetic_is_the_packages(page: Page, problem: str) -> None:
    script = """async ([problem, model, all]) => {
      const tree = (await lmrelLive.load(problem))[model];
      return all.map((settings) => Object.fromEntries(lmrelLive.answers(tree, settings)));
    }"""
    for model in TINY_SUITE:
        found = page.evaluate(script, [problem, model, [in_the_page(knobs) for knobs in SETTINGS]])
        for knobs, mine in zip(SETTINGS, found, strict=True):
            expected = answers(tree(problem, model), Decoder(**knobs))
            for answer in mine.keys() | expected.keys():
                assert mine.get(answer, 0) == pytest.approx(expected.get(answer, 0), abs=5e-4), (model, knobs, answer)


def test_the_pages_interval_is_the_packages(page: Page) -> None:
    suite = data("suite")
    generator = np.random.default_rng(5)
    cases = [suite["right"][model] for model in TINY_SUITE]
    cases += [generator.integers(0, 2, 240).tolist(), [0.0] * 240, [0.5] * 240, [1.0] * 30, [2 / 3] * 10]
    cases += [(generator.integers(0, 5, n) / 4).tolist() for n in (8, 60, 240)]
    for shares in cases:
        found = page.evaluate("shares => lmrelLive.interval(shares)", shares)
        assert [found["mean"], found["low"], found["high"]] == pytest.approx(clustered_wilson(shares), abs=5e-4)


@pytest.mark.parametrize(("problem", "preset"), [(DIALLED[0], 0), (DIALLED[3], 1), (DIALLED[4], 2)])
def test_the_dial_shows_what_it_says(page: Page, problem: str, preset: int) -> None:
    right = str(PROBLEMS.loc[problem, "answer"])
    page.get_by_label("problem", exact=True).select_option(problem)
    page.get_by_label("added", exact=True).select_option(list(PRESETS)[preset])
    added = list(PRESETS.values())[preset]
    for asked in ({"temperature": 0.0}, {"temperature": 0.7}, {"temperature": 2.0, "top_k": 5, "top_p": 0.8}):
        set_range(page, "temperature", asked["temperature"])
        set_range(page, "top-k", asked.get("top_k", 0))
        set_range(page, "top-p", asked.get("top_p", 1))
        inherited = {k: v for k, v in added.items() if asked["temperature"] or k == "repetition_penalty"}
        decoder = Decoder(**(inherited | asked))
        page.wait_for_function(
            "t => document.querySelector('.knobs td').textContent === t", arg=f"{asked['temperature']:g}"
        )
        for model in TINY_SUITE:
            expected = answers(tree(problem, model), decoder)
            correct, rows = shown_panel(page, model)
            assert correct == pytest.approx(expected.get(right, 0), abs=1.1e-3)
            for answer, p in rows[:-1]:
                assert p == pytest.approx(
                    expected[{"no number": "none"}.get(answer, answer.removeprefix("✓ "))], abs=1.1e-3
                )
                assert answer.startswith("✓") == (answer.removeprefix("✓ ") == right)
            assert rows[-1][0] == "others"
            assert sum(p for _, p in rows) == pytest.approx(1, abs=0.005)
            top = sorted((p for answer, p in expected.items() if answer != "other"), reverse=True)[:6]
            if len(top) == 6 and 0 < expected.get(right, 0) < top[-1]:
                top[-1] = expected[right]  # the right answer is always among those shown
            assert [p for _, p in rows[:-1]] == pytest.approx(top, abs=1.1e-3)
    table = [row.inner_text().split("\t")[1:] for row in page.locator(".knobs tbody tr").all()]
    penalty = str(added["repetition_penalty"]) if "repetition_penalty" in added else "–"
    assert table == [["2", "–"], ["5", "–"], ["0.8", "–"], ["–", penalty]]  # what was asked is not replaced


def test_the_dial_turns_by_keyboard(page: Page) -> None:
    before = shown_panel(page, "tiny-dense-base")[0]
    control = page.get_by_label("temperature", exact=True)
    control.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.knobs td').textContent === '1'")
    assert control.get_attribute("aria-valuetext") == "1.00"
    assert shown_panel(page, "tiny-dense-base")[0] < before
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.knobs td').textContent === '0'")
    assert control.get_attribute("aria-valuetext") == "0 (greedy)"
    page.locator("[data-figure=dial] [role=status]", has_text="P(correct) at temperature 0: tiny-dense-base").wait_for(
        state="attached"
    )


def test_the_dice_add_recorded_runs(page: Page) -> None:
    figure = page.locator("[data-figure=dice]")
    model = "tiny-sparse-base"
    suite = data("suite")
    figure.get_by_label("model").select_option(model)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(suite["bits"][model]), np.uint8)).reshape(RUNS, 240)
    _, low, high = clustered_wilson(suite["right"][model])
    floor = f"floor {50 * (high - low):.1f}"
    roll, ten, reset = (figure.get_by_role("button", name=name, exact=True) for name in ("roll", "roll 10", "reset"))
    roll.focus()
    page.keyboard.press("Enter")
    for runs in (1, 11, 21, 64):
        if runs == 64:
            for _ in range(5):
                ten.press("Space")
        elif runs > 1:
            ten.press("Space")
        mean, low, high = clustered_wilson(bits[:runs].mean(axis=0))
        text = figure.inner_text()
        assert f"Runs so far: {runs} of 64" in text
        assert f"Accuracy so far: {100 * mean:.1f} %, 95 % interval {100 * low:.1f} % to {100 * high:.1f} %" in text
        assert f"Half-width: {50 * (high - low):.1f} points; {floor}" in text
        assert figure.locator(".widths i").count() == figure.locator(".scale i").count() == runs
    assert roll.get_attribute("aria-disabled") == "true"
    assert ten.evaluate("button => button === document.activeElement")  # a disabled button would lose the focus
    reset.press("Enter")
    assert "Runs so far: 0 of 64" in figure.inner_text()
    assert roll.get_attribute("aria-disabled") == "false"


def test_the_grid_is_worked_by_keyboard_and_shows_the_recorded_draws(page: Page) -> None:
    figure = page.locator("[data-figure=problems]")
    cells = figure.locator(".grid button")
    assert cells.count() == 240
    assert figure.locator(".grid button[tabindex='0']").count() == 1
    cells.first.focus()
    for key, number in (
        ("ArrowRight", 1),
        ("ArrowDown", 21),
        ("ArrowLeft", 20),
        ("End", 239),
        ("Home", 0),
        ("ArrowUp", 0),
    ):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.number") == str(number)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    detail = figure.locator(".detail")
    detail.locator("li").first.wait_for()
    stored, suite = data("draws-tiny-dense-base"), data("suite")
    assert suite["problems"][20][1] in detail.inner_text()
    assert f"right answer {suite['problems'][20][2]}" in detail.inner_text()
    assert f"{suite['right']['tiny-dense-base'][20]:.2f}" in (cells.nth(20).get_attribute("aria-label") or "")
    drawn = [draw for of_temperature in stored["texts"][20] for draw in of_temperature]
    assert detail.locator("li code").all_text_contents() == [text.replace("\n", "⏎") or "(empty)" for text, _ in drawn]
    assert [("✓" in row) for row in detail.locator("li").all_inner_texts()] == [bool(right) for _, right in drawn]


def test_the_text_of_a_model_stays_text(page: Page) -> None:
    hostile = '<img src=x onerror="window.owned = 1"><script>window.owned = 1</script>'
    page.evaluate(
        "texts => lmrelLive.put('draws-tiny-sparse-base', {temperatures: [1], texts})", [[[[hostile, 0]]]] * 240
    )
    figure = page.locator("[data-figure=problems]")
    figure.get_by_label("model").select_option("tiny-sparse-base")
    figure.locator(".grid button").nth(5).click()
    code = figure.locator(".detail li code")
    code.wait_for()
    assert code.text_content() == hostile
    assert code.locator("*").count() == 0
    page.wait_for_timeout(100)
    assert page.evaluate("window.owned") is None


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_moves_when_the_figures_are_drawn(browser: Browser, width: int) -> None:
    page, wrong = opened(browser, PAGE, viewport={"width": width, "height": 900}, has_touch=width == 390)
    page.locator("[data-figure=problems] .grid button").first.wait_for()
    page.wait_for_function("document.querySelector('[data-figure=dial] table td')")
    for figure in page.locator(".lmrel-live").all():
        reserved = figure.evaluate("e => parseFloat(getComputedStyle(e).minHeight)")
        height = (figure.bounding_box() or {})["height"]
        assert height <= reserved + 1
    if width == 390:
        figure = page.locator("[data-figure=problems]")
        cell = figure.locator(".grid button").nth(7)
        box = cell.bounding_box() or {}
        assert min(box["width"], box["height"]) >= 24
        cell.tap()
        figure.locator(".detail li").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert wrong == []
    page.context.close()


def test_without_motion_nothing_glides(browser: Browser) -> None:
    for wish, expected in (("reduce", "0s"), ("no-preference", "0.12s")):
        page, _ = opened(browser, PAGE, reduced_motion=wish)
        bar = page.locator("[data-figure=dial] .bar").first
        bar.wait_for(state="attached")
        assert bar.evaluate("e => getComputedStyle(e).transitionDuration") == expected
        page.context.close()


def test_without_javascript_there_are_tables(browser: Browser) -> None:
    page, _ = opened(browser, PAGE, java_script_enabled=False)
    tables = page.locator(".bd-article table:visible")
    assert tables.count() == 3
    of = tree(DIALLED[0], "tiny-dense-base")
    expected = answers(of, Decoder(1.0))[str(PROBLEMS.loc[DIALLED[0], "answer"])]
    assert f"{expected:.3f}" in tables.first.inner_text()
    assert not page.locator(".lmrel-live").first.is_visible()
    page.context.close()


def test_the_scripts_are_on_that_page_only(browser: Browser) -> None:
    assert "live-figures.js" in (ROOT / "_build" / "html" / PAGE).read_text()
    assert "live" not in {Path(name).stem for name in _scripts(ROOT / "_build" / "html" / "index.html")}


def _scripts(page: Path) -> list[str]:
    return [part.split('"')[0].split("?")[0] for part in page.read_text().split('<script src="')[1:]]


def test_data_that_cannot_be_written_leave_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.js"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="could not be written: No space left on device"):
        put_script(tmp_path, "a", {})
    assert path.read_text() == "old"
