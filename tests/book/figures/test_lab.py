"""The lab: its models, in real Chromium from disk, against torch, and what its page shows against the package."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from book.figures.lab import write_models
from book.figures.live import put_script
from book.site.extension import STATIC
from lmrel import enumerate_outcomes, paper_problems
from lmrel.problems import new_problems
from lmrel.prompts import worksheet_item
from lmrel.tokens import encode_problems
from tests.conftest import tiny

HARNESS = """
const suite = () => lmrelLive.load("lab");
const models = {};
const model = (name) => (models[name] ??= (async () => {
  const { architecture, vocabulary } = (await suite()).models[name];
  const weights = await lmrelLab.unpack(await lmrelLive.load(`weights-${name}`));
  return { run: lmrelLab.createModel(architecture, weights), encode: lmrelLab.createTokenizer(vocabulary), vocabulary };
})());
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the lab's scripts and data, and nothing else."""
    folder = tmp_path_factory.mktemp("lab")
    put_script(folder / "live", "lab", write_models(folder / "live"))
    for name in ("live.js", "lab-model.js"):
        shutil.copy(STATIC / name, folder)
    scripts = "".join(f'<script src="{name}"></script>' for name in ("live.js", "lab-model.js"))
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
    const tree = lmrelLab.createTree(run, vocabulary, encode(before + item + after), answers[i], limit);
    const all = temperatures.map((temperature) => ({ temperature, ...knobs }));
    for (let round = 0; round < 400 && tree.nodes.length < nodes; round++) {
      tree.weigh(all[round % all.length]);
      tree.grow(8, 1e-4, true);
    }
    return all.map((settings) => {
      tree.weigh(settings);
      return { ...tree.sum(), answers: [...tree.answers()] };
    });
  });
}"""
KNOBS: list[dict[str, Any]] = [{}, {"top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1}]
IN_THE_PAGE = {"top_k": "topK", "top_p": "topP", "min_p": "minP"}


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
def test_p_correct_lies_within_the_packages_bounds(page: Page, tiny_name: str, knobs: dict[str, Any]) -> None:
    model, tokenizer = tiny(tiny_name)
    rows = paper_problems().sample(5 if knobs else 25, random_state=4)
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
