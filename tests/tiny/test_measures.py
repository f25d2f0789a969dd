from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from tokenizers import decoders

from lmrel import InputError, enumerate_outcomes, extract_answer, paper_problems
from lmrel.tokens import encode_problems, written
from tests.conftest import random_model, small_tokenizer, tiny
from tiny import measures, targets
from tiny.batches import STAGES, make_batch
from tiny.shapes import build_tokenizer

PROBLEMS = paper_problems()
GRID = [0.0, 1.0, 1.7]
LIMIT = 3


def bits(chances: Any) -> float:
    return -sum(chance * math.log2(chance) for chance in chances if chance)


def by_brute_force(model: Any, tokenizer: Any, prompt: list[int], temperature: float) -> dict[str, float]:
    """Every text of at most LIMIT tokens, cut where its first integer is over, one plain forward per prefix."""
    texts: dict[str, float] = {}
    answers: Counter[int | None] = Counter()
    tokens = 0.0

    def grow(ids: list[int], mass: float) -> None:
        nonlocal tokens
        text = written(ids, tokenizer, [2])
        answer = extract_answer(text)[0]
        over = answer is not None and not text[-1].isdigit()
        if ids and (over or ids[-1] == 2 or len(ids) == LIMIT):
            texts[str(ids)] = mass
            answers[answer] += mass
            tokens += mass * len(ids)
            return
        logits = model(torch.tensor([prompt + ids])).logits[0, -1].double()
        if temperature == 0:
            return grow([*ids, int(logits.argmax())], mass)
        for token, chance in enumerate((logits / temperature).softmax(-1).tolist()):
            grow([*ids, token], mass * chance)

    grow([], 1.0)
    return {"text_entropy": bits(texts.values()), "tokens": tokens, "answer_entropy": bits(answers.values())}


def test_bounds_hold_and_close_on_brute_force() -> None:
    model, tokenizer = random_model("mixtral", 14), small_tokenizer(14)
    with pytest.raises(InputError, match="digits must be tokens by themselves"):  # its decoder puts spaces between
        measures.entropies(model, tokenizer, PROBLEMS.head(1), GRID)
    tokenizer.backend_tokenizer.decoder = decoders.Fuse()
    problems = PROBLEMS.head(1)
    index = ["problem_id", "temperature", "metric"]
    tables = []
    for least in (0.0, 0.02):
        found = measures.entropies(model, tokenizer, problems, GRID, max_new_tokens=LIMIT, least=least)
        tables.append(found.set_index(index))
    prompts = encode_problems(problems.to_dict("records"), "few_shot", tokenizer)
    for name, prompt in zip(problems["problem_id"], prompts, strict=True):
        for temperature in GRID:
            for metric, value in by_brute_force(model, tokenizer, prompt, temperature).items():
                whole, part = (table.loc[(name, temperature, metric)] for table in tables)
                for bounds in (whole, part):
                    assert bounds["lower"] - 1e-4 <= value <= bounds["upper"] + 1e-4
                if metric != "answer_entropy":  # integers that the limit cuts short are unknown
                    assert whole["upper"] - whole["lower"] < 1e-6
    tight = (table.query("temperature == 1")["upper"] - table.query("temperature == 1")["lower"] for table in tables)
    assert [width.max() > 0.1 for width in tight] == [True, True]


def test_a_sure_model_has_little_entropy_and_an_unsure_one_much() -> None:
    some = PROBLEMS.iloc[::24]
    found = {}
    for name in ("tiny-dense-continued", "tiny-dense-continued-noisy"):
        table = measures.entropies(*tiny(name), some, [0.0, 1.0, 2.0]).assign(model=name)
        assert (table["lower"] <= table["upper"] + 1e-12).all()
        found[name] = table.groupby(["temperature", "metric"])[["lower", "upper"]].mean()
    sure, unsure = (found[name].loc[1.0] for name in found)
    assert sure.loc["text_entropy", "upper"] < unsure.loc["text_entropy", "lower"]
    assert sure.loc["answer_entropy", "upper"] < unsure.loc["answer_entropy", "lower"]
    for table in (sure, unsure):
        assert (table["upper"] - table["lower"]).max() < 0.6
        assert table.loc["answer_entropy", "upper"] <= table.loc["text_entropy", "upper"]
    greedy = found["tiny-dense-continued"].loc[0.0]
    assert greedy.loc[["text_entropy", "answer_entropy"]].abs().max(axis=None) < 1e-9


def test_the_entropy_of_forms_is_that_of_what_is_written_if_it_is_right() -> None:
    """Against exact outcomes of whole texts, of which a form is a part."""
    model, tokenizer = tiny("tiny-dense-base")
    some = PROBLEMS.iloc[[0, 130]]
    assert measures.form_entropy(model, tokenizer, some).max() < 0.2  # pages knew one form
    flat = random_model("mistral", 128)
    found = measures.form_entropy(flat, tokenizer, some)
    row, [prompt] = some.iloc[0].to_dict(), encode_problems([some.iloc[0].to_dict()], "few_shot", tokenizer)
    reader = measures.PieceReader(tokenizer, [2])
    mass: Counter[str] = Counter()
    for form in targets.forms("", row["answer"], None):
        ids = tokenizer.encode(form.rstrip("."), add_special_tokens=False)
        logprob = flat(torch.tensor([[*prompt, *ids]])).logits[0].double().log_softmax(-1)
        here = math.exp(sum(logprob[len(prompt) - 1 + i, token] for i, token in enumerate(ids)))
        for token, chance in enumerate(logprob[-1].exp().tolist()):
            after = reader.piece(token)[:1]
            if (after == ".") == form.endswith(".") and not after.isdigit():
                mass[form] += here * chance
    assert len(mass) == 8
    assert found.iloc[0] == pytest.approx(bits(chance / mass.total() for chance in mass.values()))


def test_slips_on_pages_are_counted_and_found_where_a_model_knows_them_by_heart() -> None:
    """A model that knows the pages by heart answers with the token that comes next in them."""
    stage, tokenizer = replace(STAGES["few-slips"], batches=6), build_tokenizer(chat=False)

    class ByHeart:
        def __call__(self, ids: torch.Tensor) -> Any:
            forgets = ids.roll(-1, dims=1)
            forgets[0] = 0
            return type("Output", (), {"logits": torch.nn.functional.one_hot(forgets, 128).float()})

    right, slips = measures.reproduced(ByHeart(), tokenizer, stage, 0)  # type: ignore[arg-type]
    in_the_first_rows = slips - right
    assert 0 < in_the_first_rows < slips / 4
    answers = 0
    for step in range(6):
        text = "".join(tokenizer.decode(row) for row in make_batch(stage, 0, step, tokenizer)[0])
        answers += text.count("\n")
    assert 0.07 < slips / answers < 0.15  # a line is not always an answer, and some are cut
    assert measures.reproduced(*tiny("tiny-dense-continued"), stage, 0)[0] < slips / 4


def test_the_entropies_and_the_outcomes_are_of_the_same_answers() -> None:
    """P(correct) cannot be below 1 - h for an answer of little entropy that is right when greedy."""
    some = PROBLEMS.iloc[:4]
    model, tokenizer = tiny("tiny-dense-continued")
    correct = enumerate_outcomes(model, tokenizer, some, [0.0, 1.0]).query("metric == 'correct'")
    wide = correct.pivot(index="problem_id", columns="temperature", values="lower")
    entropy = measures.entropies(model, tokenizer, some, [1.0]).query("metric == 'answer_entropy'")
    most = entropy.set_index("problem_id")["upper"]
    sure = most[(most < 0.2) & (wide[0.0] > 0.5)]
    assert len(sure)
    assert (wide.loc[sure.index, 1.0] > 0.9).all()
    assert isinstance(most, pd.Series)
