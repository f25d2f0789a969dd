"""The lab: its models, in real Chromium from disk, against torch, and what its page shows against the package."""

from __future__ import annotations

import base64
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from safetensors.torch import load_file

from book.figures import lab
from book.figures.lab import EXAMPLES, TREES, packed_weights
from book.figures.live import answers, grow_tree
from book.site.extension import STATIC
from lmrel import Decoder, enumerate_outcomes, paper_problems
from lmrel.problems import new_problems, paper_rows
from lmrel.prompts import worksheet_item
from lmrel.registry import CHECKPOINTS, TINY_SUITE
from lmrel.tokens import encode_problems
from tests.book.figures.test_live import set_range
from tests.book.site.test_site import build
from tests.browser import opened
from tests.conftest import tiny

SCRIPTS = ("live.js", "lab-model.js", "lab-tree.js")
HARNESS = """
const suite = () => lmrelLive.load("lab");
const models = {};
const model = (name) => (models[name] ??= (async () => {
  const { architecture, vocabulary } = (await suite()).models[name];
  const weights = await lmrelLab.unpack(await lmrelLive.load(`weights-${name}`));
  return { run: lmrelLab.createModel(architecture, weights), encode: lmrelLab.createTokenizer(vocabulary), vocabulary };
})());
"""


MADE_UP = {name: np.random.default_rng(i).random((240, 21)) for i, name in enumerate(TINY_SUITE)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the lab loads. The stored curves are made up: what the page shows of them is compared with them."""
    folder = tmp_path_factory.mktemp("data")
    made = iter(MADE_UP.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab, "curves", lambda model, tokenizer: next(made))
        lab.write_lab(folder)
    return folder


@pytest.fixture(scope="module")
def site(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the lab's scripts and data, and nothing else."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "live").symlink_to(data)
    for name in SCRIPTS:
        shutil.copy(STATIC / name, folder)
    scripts = "".join(f'<script src="{name}"></script>' for name in SCRIPTS)
    (folder / "index.html").write_text(f"<!doctype html><title>lab</title>{scripts}<script>{HARNESS}</script>")
    return folder


@pytest.fixture(scope="module")
def page(browser: Browser, site: Path) -> Iterator[Page]:
    page = browser.new_context(offline=True).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((site / "index.html").as_uri())
    yield page
    assert wrong == []
    page.context.close()


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of printable characters, words of the vocabulary and characters that it lacks, in no order."""
    generator = random.Random(seed)
    words = [
        " the",
        " expression",
        "Problem:",
        "Answer",
        " = ",
        ", ",
        "12",
        "-3",
        ". ",
        "\n",
        "é",
        "€",
        "数",
        "\t",
        " ",
    ]
    words += [chr(code) for code in range(32, 127)]
    return ["".join(generator.choices(words, k=generator.randint(1, 60))) for _ in range(count)]


def test_token_ids_are_those_of_the_tokenizer(page: Page, tiny_name: str) -> None:
    _, tokenizer = tiny(tiny_name)
    texts = [text for text in random_texts(120, 1) if not any(one in text for one in tokenizer.all_special_tokens)]
    items = [worksheet_item(problem) for problem in new_problems(50, 5)]
    given = [*texts, *items]
    assert len(given) >= 200
    script = "async ([name, texts]) => { const { encode } = await model(name); return texts.map(encode); }"
    assert page.evaluate(script, [tiny_name, given]) == tokenizer(given, add_special_tokens=False)["input_ids"]


def test_a_typed_problem_has_the_packages_prompt(page: Page, tiny_name: str) -> None:
    _, tokenizer = tiny(tiny_name)
    problems = new_problems(100, 7)
    script = """async ([name, items]) => {
      const { prompt: [before, after] } = (await suite()).models[name];
      const { encode } = await model(name);
      return items.map((item) => encode(before + item + after));
    }"""
    found = page.evaluate(script, [tiny_name, [worksheet_item(problem) for problem in problems]])
    assert found == encode_problems(problems, "few_shot", tokenizer)


def drawn(model: Any, prompt: list[int], length: int, generator: torch.Generator) -> list[int]:
    """Tokens that the model writes behind a prompt at temperature 1."""
    tokens = list(prompt)
    for _ in range(length):
        chances = (model(torch.tensor([tokens])).logits[0, -1]).softmax(dim=-1)
        tokens.append(int(torch.multinomial(chances, 1, generator=generator)))
    return tokens[len(prompt) :]


def test_logits_are_torchs_at_a_prompts_end_and_in_each_branch_of_a_tree(page: Page, tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    generator = torch.Generator().manual_seed(3)
    prompts = encode_problems(new_problems(25, 11), "few_shot", tokenizer)
    # Two branches of three tokens that part at once, read in turns: neither may see the other. The model itself would
    # write them. Where texts make no sense to it, torch's own fp32 is up to 5e-4 from its fp64.
    branches = [[drawn(model, prompt, 3, generator) for _ in range(2)] for prompt in prompts]
    script = """async ([name, prompts, branches]) => {
      const { run } = await model(name);
      return prompts.map((prompt, i) => {
        const root = run.begin(prompt);
        const found = [root.logits];
        const tips = [root, root];
        for (let step = 0; step < 3; step++) branches[i].forEach((tokens, b) => {
          tips[b] = run.extend(tips[b].context, tokens[step]);
          found.push(tips[b].logits);
        });
        return found.map((logits) => [...logits]);
      });
    }"""
    found = page.evaluate(script, [tiny_name, prompts, branches])
    worst = 0.0
    for prompt, pair, mine in zip(prompts, branches, found, strict=True):
        plain = model(torch.tensor([prompt + tokens for tokens in pair])).logits[:, len(prompt) - 1 :]
        expected = torch.stack([plain[0][0], *(plain[b][step] for step in (1, 2, 3) for b in (0, 1))])
        worst = max(worst, float((torch.tensor(mine) - expected).abs().max()))
    assert worst < 1e-4


GROW = """async ([name, items, answers, temperatures, knobs, nodes]) => {
  const { limit, models } = await suite();
  const { prompt: [before, after] } = models[name];
  const { run, encode, vocabulary } = await model(name);
  return items.map((item, i) => {
    const tree = lmrelTree.createTree(run, vocabulary, encode(before + item + after), answers[i], limit);
    const all = temperatures.map((temperature) => ({ temperature, ...knobs }));
    for (let round = 0; round < 400 && tree.nodes.length < nodes; round++) {
      tree.weigh(all[round % all.length]);
      tree.grow(8, 1e-4, { hopeful: true });
    }
    return all.map((settings) => {
      return { ...tree.weigh(settings), answers: [...tree.answers()] };
    });
  });
}"""
KNOBS: list[dict[str, Any]] = [{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}]
IN_THE_PAGE = {"top_k": "topK", "top_p": "topP", "min_p": "minP"}


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_p_correct_lies_within_the_packages_bounds(page: Page, tiny_name: str, knobs: dict[str, Any]) -> None:
    model, tokenizer = tiny(tiny_name)
    rows = paper_problems().sample(5 if knobs else 13, random_state=4)
    temperatures = [0.0, 0.3, 0.7, 1.0, 2.0]
    bounds = enumerate_outcomes(model, tokenizer, rows, temperatures, tolerance=0.01, max_nodes=300, **knobs)
    bounds = bounds[bounds["metric"] == "correct"]
    items = [worksheet_item(row) for row in rows.to_dict("records")]
    asked = {IN_THE_PAGE[name]: value for name, value in knobs.items()}
    found = page.evaluate(GROW, [tiny_name, items, [int(x) for x in rows["answer"]], temperatures, asked, 120])
    flat = [each for of_problem in found for each in of_problem]
    for mine, (lower, upper) in zip(flat, bounds[["lower", "upper"]].itertuples(index=False), strict=True):
        assert mine["correct"] + mine["wrong"] + mine["unknown"] + mine["lost"] == pytest.approx(1, abs=1e-9)
        # The truth lies in both intervals. What the page shows, its own lower bound, may lack no more than it says.
        assert mine["correct"] <= upper + 1e-4
        assert mine["correct"] + mine["unknown"] >= lower - 1e-4
    unknown = np.array([each["unknown"] for each in flat]).reshape(-1, len(temperatures))
    assert (unknown[:, :4] < 0.005).all()
    assert unknown[:, 4].mean() < 0.05


def test_a_number_picks_each_answer_as_often_as_its_probability(page: Page) -> None:
    script = """async ([name, item, answer]) => {
      const { limit, models } = await suite();
      const { prompt: [before, after] } = models[name];
      const { run, encode, vocabulary } = await model(name);
      const tree = lmrelTree.createTree(run, vocabulary, encode(before + item + after), answer, limit);
      for (let round = 0; round < 10; round++) {
        tree.weigh({ temperature: 1.3 });
        tree.grow(8, 1e-4);
      }
      tree.weigh({ temperature: 1.3 });
      const counted = {};
      for (let i = 0; i < 20000; i++) {
        const way = tree.pick((i + 0.5) / 20000);
        const name = way.open ? "open" : String(way.answer);
        counted[name] = (counted[name] ?? 0) + 1 / 20000;
      }
      const exact = Object.fromEntries([...tree.answers()].map(([answer, p]) => [String(answer), p]));
      return [counted, exact, 1 - [...tree.answers().values()].reduce((a, b) => a + b)];
    }"""
    item, answer = "a = 6, b = 7, c = a * b, d = c + 9, d", 51
    counted, exact, rest = page.evaluate(script, ["tiny-sparse-instruct", item, answer])
    for name in counted.keys() | exact.keys() - {"open"}:
        assert counted.get(name, 0.0) == pytest.approx(rest if name == "open" else exact.get(name, 0.0), abs=1e-3)


def stored(line: str, model: str, temperature: float) -> dict[str, float]:
    """The probability of each answer to a paper's problem, by the package."""
    [row] = [row for row in paper_rows() if worksheet_item(row).removesuffix(", d") == line]
    return answers(grow_tree(*tiny(model), dict(row)), Decoder(temperature))


def test_the_examples_are_what_they_are_called() -> None:
    right = {worksheet_item(row).removesuffix(", d"): str(row["answer"]) for row in paper_rows()}
    wrong, swap, sure, plain = EXAMPLES
    assert [stored(*wrong[:2], t).get(right[wrong[0]], 0) for t in (0.0,)] == [0]
    assert stored(*wrong[:2], 0.7)[right[wrong[0]]] > 0.4
    assert max(cold := stored(*swap[:2], 0.3), key=lambda answer: cold[answer]) == right[swap[0]]
    assert max(hot := stored(*swap[:2], 1.0), key=lambda answer: hot[answer]) != right[swap[0]]
    assert max(stored(*sure[:2], 0.1).values()) > 0.98
    assert stored(*sure[:2], 0.1).get(right[sure[0]], 0) < 0.01
    assert max(stored(*sure[:2], 1.5).values()) < 0.3
    assert stored(*plain[:2], 0.0) == {right[plain[0]]: 1.0}
    assert stored(*plain[:2], 2.0)[right[plain[0]]] < 0.3


@pytest.mark.parametrize("name", TREES)
def test_a_stored_tree_is_small_and_says_what_the_package_says(page: Page, site: Path, name: str) -> None:
    (problem, model, _), _ = TREES[name]
    assert (site / "live" / f"{name}.js").stat().st_size <= 60_000
    script = """async ([name, temperatures]) => {
      const tree = lmrelTree.openTree(await lmrelLive.load(name));
      return temperatures.map((temperature) => {
        const sums = { ...tree.weigh({ temperature }) };
        return [sums, [...tree.answers()].filter(([answer]) => answer !== null)];
      });
    }"""
    temperatures = [0.0, 0.3, 0.8, 1.0, 1.7, 2.0]
    for (sums, found), t in zip(page.evaluate(script, [name, temperatures]), temperatures, strict=True):
        expected = stored(problem, model, t)
        assert sum(sums.values()) == pytest.approx(1)
        # The page takes what ends at the limit of tokens as an answer, and what left the tree as not followed.
        for answer in expected.keys() - {"other", "none"}:
            assert dict(found)[answer] == pytest.approx(expected[answer], abs=1e-3)
        assert sums["unknown"] + sums["lost"] == pytest.approx(expected.get("other", 0.0), abs=1e-3)


def entropy(symbols: np.ndarray) -> float:
    """Bits a symbol, if each is coded without looking at the others."""
    shares = np.bincount(symbols) / len(symbols)
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


def test_weights_are_packed_near_their_entropy_and_nothing_without_loss_is_half_as_large(tiny_name: str) -> None:
    tensors = load_file(CHECKPOINTS / tiny_name / "model.safetensors")
    halves = np.concatenate([tensor.view(torch.uint16).numpy().ravel() for tensor in tensors.values()])
    least = entropy(halves) * len(halves) / 8
    packed = len(base64.b64decode(packed_weights(tiny_name)["data"]))
    assert least < packed < 1.06 * least
    assert entropy(halves & 127) > 6.95  # of the 7 bits of a mantissa
    if "sparse" in tiny_name:
        assert entropy(halves) == pytest.approx(10.75, abs=0.05)
        assert least > 2.4e6


# The page

TREE_PAGE = "# Trees\n\nA tree.\n\n```{live} tree-heat\n```\n\nAnother.\n\n```{live} tree-swap big lines T=0.3\n```\n"


@pytest.fixture(scope="module")
def book(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of the lab, of stored trees, and of the landing page's figure."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "results").mkdir()
    (folder / "results" / "lab").symlink_to(data)
    (folder / "trees.md").write_text(TREE_PAGE)
    (folder / "landing.md").write_text("# Landing\n\nA sentence.\n\n```{live} landing\n```\n")
    chapters = "file: note\n- file: trees\n- file: landing"
    done = build(folder, page="# Home\n\nA figure.\n\n```{live} lab\n```\n", chapters=chapters)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_build" / "html" / "index.html"


def visit(browser: Browser, book: Path, words: str = "", **options: Any) -> tuple[Page, list[str]]:
    """The lab's page, answered, and everything that went wrong on it."""
    page, wrong = opened(browser, f"{book.as_uri()}{words}", **options)
    page.locator(".lmrel-lab .head strong").first.wait_for()
    return page, wrong


@pytest.fixture(scope="module")
def shared(browser: Browser, book: Path) -> Iterator[Page]:
    """A lab that tests share which need no context of their own; nothing may go wrong on it."""
    page, wrong = visit(browser, book)
    yield page
    assert wrong == []
    page.context.close()


@pytest.fixture
def lab_page(shared: Page, book: Path) -> Page:
    """The shared lab as one finds it: the first problem and model, no knob, nothing drawn."""
    shared.evaluate("location.hash = 'p=(50 - 9) * 6 %2B 2&T=1.00&m=dense-instruct'")
    shared.wait_for_function(
        "document.querySelectorAll('.lmrel-lab section').length === 1 && "
        "document.querySelector('.lmrel-lab section .name').textContent === 'dense instruct' && "
        "document.querySelector('.lmrel-lab input.problem').value === '(50 - 9) * 6 + 2'"
    )
    shared.get_by_role("button", name="Clear").click()
    at_rest(shared)
    return shared


def at_rest(page: Page, models: int = 1) -> None:
    """Waits until each shown model's tree has grown and its curves stand."""
    page.wait_for_function(
        "n => document.querySelectorAll('.lmrel-lab section[aria-busy=false]').length >= n", arg=models, timeout=120_000
    )


def turn(page: Page, temperature: float) -> None:
    """Turns the dial, and waits for the frame in which the page follows."""
    set_range(page, "Temperature", temperature)
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def shown(page: Page, model: str) -> float:
    return float(page.get_by_role("region", name=model, exact=True).locator(".head strong").inner_text())


def test_the_page_shows_the_packages_probabilities_at_any_turn_of_the_dial(lab_page: Page) -> None:
    page = lab_page
    page.get_by_label("Problem", exact=True).fill("(21 - 8) * 10 + 10")
    page.get_by_role("checkbox", name="sparse instruct").check()
    page.get_by_role("region", name="sparse instruct").locator(".head strong").wait_for()
    at_rest(page, 2)
    [row] = [row for row in paper_rows() if worksheet_item(row) == "(21 - 8) * 10 + 10"]
    table, temperatures = paper_problems().set_index("problem_id", drop=False), [0.0, 0.35, 1.0, 1.4]
    for name in ("tiny-dense-instruct", "tiny-sparse-instruct"):
        bounds = enumerate_outcomes(*tiny(name), table.loc[[row["problem_id"]]], temperatures, tolerance=0.003)
        bounds = bounds[bounds["metric"] == "correct"]
        for t, lower, upper in bounds[["temperature", "lower", "upper"]].itertuples(index=False):
            turn(page, t)
            assert lower - 0.006 <= shown(page, name.removeprefix("tiny-").replace("-", " ")) <= upper + 0.001
    page.wait_for_function("location.hash.includes('T=1.40')")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "Type a problem."),
        ("   ", "Type a problem."),
        ("two plus two", "no words"),
        ("x = 6, y = 7, c = x * y, d = c + 9", "no words"),
        ("(16 / 18) * 5 + 3", "never saw a division"),
        ("(16 - 18) % 5 + 3", "never saw a division"),
        ("(16 - 18) * " + "5" * 40 + " + 3", "too long"),
        ("5" * 40, "too long"),
        ("16 + 18", "neither"),
        ("16 - 18 * 5 + 3", "brackets"),
        ("<img src=x onerror=alert(1)>", "no words"),
    ],
)
def test_bad_input_gets_a_sentence(shared: Page, typed: str, said: str) -> None:
    page = shared
    page.get_by_label("Problem", exact=True).fill(typed)
    assert said in page.locator(".lmrel-lab .said").inner_text()
    assert page.locator(".lmrel-lab .answer").inner_text() == ""
    page.get_by_label("Problem", exact=True).fill("a=6; b=7; c=a*b; d=c+9")  # and a good one is answered after it
    assert page.locator(".lmrel-lab .answer").inner_text() == "= 51"


def test_a_models_weights_load_when_first_needed_and_once(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(Path(request.url).stem))
    box = page.get_by_role("checkbox", name="sparse base")
    for _ in range(2):
        box.check()
        page.get_by_role("region", name="sparse base").locator(".head strong").wait_for()
        box.uncheck()
    assert [name for name in asked if name.startswith("weights")] == ["weights-tiny-sparse-base"]
    loaded = page.evaluate("[...document.scripts].map(script => script.src).filter(src => src.includes('weights'))")
    assert len(loaded) == 2
    assert wrong == []
    page.context.close()


def test_the_address_holds_what_is_seen(browser: Browser, book: Path) -> None:
    page, _ = visit(browser, book)
    page.get_by_label("Problem", exact=True).fill("(14 - 20) * 2 + 4")
    page.get_by_role("checkbox", name="dense base").check()
    turn(page, 0.9)
    page.get_by_text("More knobs").click()
    set_range(page, "top-k", 5)
    page.get_by_label("added", exact=True).select_option("Qwen2.5-Instruct's knobs")
    set_range(page, "u", 0.25)
    page.wait_for_timeout(700)
    address = page.url
    rows = "[...document.querySelectorAll('table.knobs tbody tr')].map(row => row.innerText)"
    table = page.evaluate(rows)
    assert [row.split("\t")[1:] for row in table] == [
        ["0.90", "–"],
        ["5", "–"],
        ["–", "0.8"],
        ["–", "–"],
        ["–", "1.05"],
    ]
    page.context.close()
    page, wrong = visit(browser, book, address.partition("index.html")[2])
    assert page.get_by_label("Problem", exact=True).input_value() == "(14 - 20) * 2 + 4"
    assert page.locator(".lmrel-lab section .name").all_inner_texts() == ["dense base", "dense instruct"]
    page.get_by_text("More knobs").click()
    assert page.evaluate(rows) == table
    assert "u = 0.250" in page.locator(".lmrel-lab .picked").inner_text()
    assert wrong == []
    page.context.close()


def test_a_heading_in_the_address_changes_nothing(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book, "#home")
    at_rest(page)
    assert page.url.endswith("#home")
    page.get_by_label("Problem", exact=True).fill("(14 - 20) * 2 + 4")
    page.evaluate("location.hash = 'home'")
    page.wait_for_timeout(100)
    assert page.get_by_label("Problem", exact=True).input_value() == "(14 - 20) * 2 + 4"
    assert wrong == []
    page.context.close()


def test_draws_fall_and_are_counted_without_motion_at_once(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book, reduced_motion="reduce")
    at_rest(page)
    for _ in range(3):
        page.get_by_role("button", name="Draw", exact=True).click()
    rained = page.locator(".lmrel-lab .rained")
    assert re.match(r"[0-3] of 3 draws right", rained.inner_text())
    page.get_by_role("button", name="Let it rain").click()
    page.get_by_role("button", name="Let it rain").wait_for(timeout=60_000)  # it has stopped of itself
    right, draws = map(int, re.findall(r"(\d+) of (\d+) draws", rained.inner_text())[0])
    assert abs(right / draws - shown(page, "dense instruct")) < 0.1  # the pile is nowhere 4 % off, at two borders
    page.get_by_role("button", name="Clear").click()
    assert rained.inner_text() == ""
    assert wrong == []
    page.context.close()


def test_tokens_are_chosen_and_problems_taken_by_keyboard(lab_page: Page) -> None:
    page = lab_page
    page.locator("canvas.icicle").focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    path = page.locator(".lmrel-lab .path")
    assert "“␣2” begins" in path.inner_text()
    page.keyboard.press("Enter")
    assert "You chose “␣2”" in path.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert "You chose" not in path.inner_text()
    cells = page.locator(".cells canvas")
    cells.focus()
    for key in ("ArrowRight", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    assert page.get_by_label("Problem", exact=True).input_value() != "(50 - 9) * 6 + 2"


def test_accuracy_and_grid_are_the_stored_ones_and_say_so_when_a_knob_is_on(lab_page: Page) -> None:
    page = lab_page
    page.get_by_label("The 240 of").select_option("tiny-sparse-base")
    note = page.locator(".lmrel-lab .pure")
    assert not note.is_visible()
    for t, i in ((0.0, 0), (1.0, 10), (2.0, 20)):
        turn(page, t)
        expected = MADE_UP["tiny-sparse-base"][:, i]
        text = page.locator(".lmrel-lab .cells .more").inner_text().replace("\u00a0", " ")
        assert f"gets {100 * expected.mean():.0f} % right" in text
        assert f"{(expected > 0.95).sum()} problems nearly always" in text
        assert f"{(expected < 0.05).sum()} nearly never" in text
    page.get_by_text("More knobs").click()
    set_range(page, "top-k", 1)
    assert note.is_visible()
    assert "temperature alone" in note.inner_text()
    assert page.locator(".lmrel-lab .cells .more").inner_text().replace("\u00a0", " ") == text
    set_range(page, "top-k", 0)
    assert not note.is_visible()
    page.get_by_text("More knobs").click()


def test_the_page_fits_at_any_width_and_axe_finds_nothing(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book)
    at_rest(page)
    figure = page.locator(".lmrel-lab")
    widths: list[tuple[int, Any]] = [(390, "light"), (390, "dark"), (768, "light"), (1440, "dark")]
    for width, scheme in widths:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        kept = figure.evaluate("e => parseFloat(getComputedStyle(e).minHeight)")
        assert (figure.bounding_box() or {})["height"] <= kept + 1
    assert wrong == []  # axe itself reads style sheets, which a page from disk may not
    for width, scheme in widths:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found] == []
    page.context.close()


PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_a_finger_turns_the_dial_and_chooses_a_token(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book, **PHONE)
    at_rest(page)
    dial = page.get_by_label("Temperature", exact=True)
    dial.scroll_into_view_if_needed()
    box = dial.bounding_box()
    assert box is not None
    assert box["height"] >= 24
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}  # the thumb, at T = 1
    finger = page.context.new_cdp_session(page)
    finger.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
    for step in range(1, 9):
        moved = [{**at, "x": at["x"] - step * box["width"] / 32}]
        finger.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": moved})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert float(dial.input_value()) == pytest.approx(0.5, abs=0.1)
    icicle = page.locator("canvas.icicle")
    size = icicle.bounding_box() or {}
    icicle.tap(position={"x": 40, "y": size["height"] / 2})  # behind the narrow column of the space
    assert "You chose “␣2”" in page.locator(".lmrel-lab .path").inner_text()
    assert wrong == []
    page.context.close()


TYPED = """async ([first, second, gap]) => {
  const input = document.querySelector(".lmrel-lab input.problem");
  const type = (text) => ((input.value = text), input.dispatchEvent(new Event("input", { bubbles: true })));
  type(first);
  await new Promise((done) => setTimeout(done, gap));
  type(second);
}"""


def turned(page: Page, temperature: float) -> str:
    """What stands above the tree once the dial is turned and all is worked out."""
    turn(page, temperature)
    at_rest(page)
    return page.locator(".lmrel-lab .head").inner_text()


def test_a_problem_that_replaces_another_while_a_model_reads_gets_its_own_answers(browser: Browser, book: Path) -> None:
    """The first prompt is the longer: its tokens must not get into the places of the second's."""
    page, wrong = visit(browser, book, "#T=0.00&m=sparse-base")
    longer, asked = "a = 9, b = 12, c = a + b, d = c - 8", "(68 - 1) * 3 + 7"
    page.get_by_role("textbox", name="Problem").fill(asked)
    at_rest(page)
    expected = turned(page, 0), turned(page, 1.5)
    for gap in (0, 5, 10, 20):
        page.get_by_role("textbox", name="Problem").fill("(12 - 11) * 2 + 3")
        turned(page, 0)
        page.evaluate(TYPED, [longer, asked, gap])
        at_rest(page)
        assert (turned(page, 0), turned(page, 1.5)) == expected, gap
    assert wrong == []
    page.context.close()


def test_what_is_cleared_or_asked_anew_takes_falling_draws_and_the_line_along(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book, "#p=(50 - 9) * 6 %2B 2&T=1.00&m=dense-instruct&u=0.5")
    at_rest(page)
    before = page.locator(".lmrel-lab output.picked").inner_text()
    assert before.startswith("u = 0.500 picks")
    rained = page.locator(".lmrel-lab .rained")
    for stop in (
        lambda: page.get_by_role("button", name="Clear").click(),
        lambda: page.get_by_role("textbox", name="Problem").fill("(68 - 1) * 3 + 7"),
    ):
        page.get_by_role("button", name="Let it rain").click()
        page.wait_for_timeout(250)
        stop()
        page.wait_for_timeout(1300)
        assert rained.inner_text() == ""
        assert page.get_by_role("button", name="Let it rain").is_visible()
    at_rest(page)
    assert page.locator(".lmrel-lab output.picked").inner_text() not in ("", before)
    assert wrong == []
    page.context.close()


def test_full_screen_is_entered_and_left(lab_page: Page) -> None:
    page = lab_page
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.classList.contains('lmrel-lab')")
    page.get_by_role("button", name="Leave full screen").click()
    page.get_by_role("button", name="Full screen", exact=True).wait_for()
    assert page.evaluate("document.fullscreenElement === null")


def test_embedded_there_is_the_figure_and_nothing_else(browser: Browser, book: Path) -> None:
    page, wrong = visit(browser, book, "?embed#T=0.50")
    assert page.locator(".lmrel-lab").is_visible()
    assert not page.get_by_text("A figure.").is_visible()
    assert not page.locator(".bd-sidebar-primary").is_visible()
    assert wrong == []
    page.context.close()


def test_without_javascript_there_is_a_table(browser: Browser, book: Path) -> None:
    page = browser.new_context(offline=True, java_script_enabled=False).new_page()
    page.goto(book.as_uri())
    table = page.locator(".bd-article table:visible")
    assert f"{100 * MADE_UP['tiny-dense-base'][:, 0].mean():.0f} %" in table.inner_text()
    assert not page.locator(".lmrel-lab").is_visible()
    page.context.close()


# Stored trees


def test_a_page_of_stored_trees_loads_no_model_and_shows_the_packages_shares(browser: Browser, book: Path) -> None:
    page, wrong = opened(browser, "about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(Path(request.url.partition("?")[0]).name))
    page.goto(book.with_name("trees.html").as_uri())
    heat, swap = (page.locator(f".lmrel-tree[data-figure=tree-{name}]") for name in ("heat", "swap"))
    swap.locator(".head b").wait_for()
    assert [name for name in asked if "weights" in name or name in ("lab.js", "lab-model.js", "live-figures.js")] == []
    problem, model, _ = TREES["tree-swap"][0]
    for t, right in ((0.3, True), (1.2, False)):
        swap.get_by_label("Temperature").evaluate(
            "(dial, t) => { dial.value = t; dial.dispatchEvent(new Event('input')); }", t
        )
        page.wait_for_timeout(100)
        found = stored(problem, model, t)
        first, share = max(found.items(), key=lambda item: item[1])
        said = swap.locator(".head").inner_text()
        assert f"At T = {t:.2f} this model answers {first} in {100 * share:.0f} of 100 draws" in said
        assert f"{first} is {'right' if right else 'wrong'}." in said
    link = heat.get_by_role("link", name="Try your own problem").get_attribute("href") or ""
    assert link.startswith("book/lab.html#p=")
    assert wrong == []
    page.context.close()


def test_the_words_of_a_stored_tree_do_what_they_say(browser: Browser, book: Path) -> None:
    page, wrong = opened(browser, book.with_name("trees.html").as_uri(), viewport={"width": 1920, "height": 1080})
    heat, swap = (page.locator(f".lmrel-tree[data-figure=tree-{name}]") for name in ("heat", "swap"))
    swap.locator(".head b").wait_for()
    assert swap.get_by_label("Temperature").input_value() == "0.3"
    assert swap.locator("canvas").count() == heat.locator("canvas").count() + 1
    size = "e => parseFloat(getComputedStyle(e).fontSize)"
    assert swap.locator(".head").evaluate(size) > 1.4 * heat.locator(".head").evaluate(size)
    heat.locator("canvas.icicle").focus()
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    assert "You chose “␣2”" in heat.locator(".path").inner_text()
    swap.get_by_label("u", exact=True).evaluate("u => { u.value = 0.99; u.dispatchEvent(new Event('input')); }")
    page.wait_for_timeout(100)
    assert "u = 0.990 picks 49 ✗" in swap.locator(".picked").inner_text()
    assert wrong == []
    page.context.close()


@pytest.mark.parametrize("name", ["trees", "landing"])
def test_stored_trees_fit_and_axe_finds_nothing(browser: Browser, book: Path, name: str) -> None:
    page, wrong = opened(browser, book.with_name(f"{name}.html").as_uri(), reduced_motion="reduce")
    page.locator(".lmrel-tree .head b").first.wait_for()
    sizes: list[tuple[int, int, Any]] = [(390, 844, "light"), (390, 844, "dark"), (1440, 900, "light")]
    for width, height, scheme in sizes:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for figure in page.locator(".lmrel-tree").all():
            kept = figure.evaluate("e => parseFloat(getComputedStyle(e).minHeight)")
            assert (figure.bounding_box() or {})["height"] <= kept + 1
        if name == "landing":
            icicle = page.locator("canvas.icicle").bounding_box() or {}
            assert icicle["y"] + icicle["height"] <= height  # above the fold
    assert wrong == []
    schemes: list[Any] = ["dark", "light"]
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"][:3]]) for one in found] == []
    page.context.close()


def test_the_landing_figure_turns_by_itself_until_a_reader_touches_it(browser: Browser, book: Path) -> None:
    page, wrong = opened(browser, book.with_name("landing.html").as_uri())
    dial = page.get_by_label("Temperature", exact=True)
    page.wait_for_function("Number(document.querySelector('.lmrel-tree input.dial')?.value) > 0.05", timeout=60_000)
    page.get_by_role("button", name="Pause").click()
    stands = dial.input_value()
    page.wait_for_timeout(500)
    assert dial.input_value() == stands
    page.get_by_role("button", name="Turn by itself").click()
    page.wait_for_function("before => document.querySelector('.lmrel-tree input.dial').value !== before", arg=stands)
    page.locator("canvas.icicle").click()
    page.get_by_role("button", name="Turn by itself").wait_for()
    assert wrong == []
    page.context.close()


def test_with_reduced_motion_the_landing_figure_rests(browser: Browser, book: Path) -> None:
    page, _ = opened(browser, book.with_name("landing.html").as_uri(), reduced_motion="reduce")
    page.locator(".lmrel-tree .head b").first.wait_for()
    page.wait_for_timeout(500)
    assert page.get_by_label("Temperature", exact=True).input_value() == f"{TREES['landing'][1]}"
    page.context.close()
