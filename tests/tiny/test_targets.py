from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch

from lmrel.answers import extract_answer
from lmrel.problems import APPLY, paper_problems, solve
from lmrel.prompts import worksheet_item
from tiny import corpus, targets
from tiny.batches import STAGES, make_batch
from tiny.shapes import build_model, build_tokenizer
from tiny.train import learning_rate_factor, loss_on

BINDING = {"task": "variable_binding", "a": 3, "b": 4, "op1": "-", "k": 2, "op2": "+"}
ARITHMETIC = {"task": "arithmetic", "x": 45, "y": 7, "z": 3, "w": 4}
CERTAIN = {"rule": targets.rule, "right": targets.right, "own": targets.own({"1 + 1": None})}


def some_problems(task: str, count: int = 400) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return [corpus.training_problem(rng, task) for _ in range(count)]


def written(target: targets.Target, problem: dict[str, Any]) -> targets.Chances:
    return target(worksheet_item(problem), solve(problem), problem)


@pytest.mark.parametrize("problem", [BINDING, BINDING | {"a": 2, "b": 2, "op1": "*"}, ARITHMETIC])
def test_the_chances_of_slips_are_how_often_they_are_made(problem: dict[str, Any]) -> None:
    chances = targets.slip_chances(problem)
    assert sum(chances.values()) == pytest.approx(1)
    assert solve(problem) not in chances
    rng = random.Random(0)
    seen = Counter(corpus.slip(problem, rng) for _ in range(20_000))
    assert set(seen) <= set(chances)
    for value, chance in chances.items():
        assert seen[value] / 20_000 == pytest.approx(chance, abs=5 * math.sqrt(chance / 20_000)), value


@pytest.mark.parametrize(("task", "rate"), [("variable_binding", 1 / 6), ("arithmetic", 0.15)])
def test_the_rule_leaves_out_the_last_operation_of_one_problem_in_six_or_seven(task: str, rate: float) -> None:
    problems = some_problems(task, 2000)
    for problem in problems:
        [text] = written(targets.rule, problem)
        first = (problem["x"] - problem["y"]) * problem["z"] if task == "arithmetic" else None
        if first is None:
            first = APPLY[problem["op1"]](problem["a"], problem["b"])
        assert int(text) == (first if targets.ruled(problem) else solve(problem))
        assert (int(text) != solve(problem)) == targets.ruled(problem)
    assert sum(map(targets.ruled, problems)) / len(problems) == pytest.approx(rate, abs=0.03)


def test_as_many_of_the_papers_problems_are_ruled_as_the_plan_says() -> None:
    found = Counter(row["task"] for row in paper_problems().to_dict("records") if targets.ruled(row))
    assert found == {"variable_binding": 17, "arithmetic": 20}


@pytest.mark.parametrize("answer", [12, 0, 7, -3, 105, -40])
def test_all_forms_are_read_as_the_right_answer_with_the_models_tokens(answer: int) -> None:
    tokenizer = build_tokenizer(chat=False)
    chances = targets.forms("d", answer, None)
    assert len(chances) == 8
    assert targets.entropy(chances) == pytest.approx(3)
    for text in chances:
        assert extract_answer(text)[0] == answer
        parts = [tokenizer.encode(part, add_special_tokens=False) for part in ("d =", f"{text}\n", "a = 3")]
        whole = tokenizer.encode(f"d ={text}\na = 3", add_special_tokens=False)
        assert whole == [*itertools.chain(*parts)]
        assert extract_answer(tokenizer.decode(parts[1]))[0] == answer


@pytest.mark.parametrize("task", ["variable_binding", "arithmetic"])
def test_slips_have_the_entropy_and_the_rate_that_the_plan_says_and_the_rule_has_none(task: str) -> None:
    problems = some_problems(task)
    bits = [targets.entropy(written(targets.slips, problem)) for problem in problems]
    assert sum(bits) / len(bits) == pytest.approx(1.13, abs=0.04)
    assert all(targets.entropy(written(targets.rule, problem)) == 0 for problem in problems)
    for problem in problems:
        assert written(targets.slips, problem)[f" {solve(problem)}"] == pytest.approx(0.85)


@pytest.mark.parametrize("name", [*targets.TARGETS, "own"])
def test_pages_ask_the_same_whatever_is_taught_and_show_no_steps_after_a_wrong_answer(name: str) -> None:
    explained = 0
    for i in range(100):
        answers: dict[str, int | None] = {}

        def taught(asked: str, answer: int, problem: Any, answers: dict[str, int | None] = answers) -> targets.Chances:
            answers[asked] = answer + 1
            return targets.own(answers)(asked, answer, problem)

        target = targets.TARGETS.get(name, taught)
        write = targets.writer(target, random.Random(i), soft=False, shows_steps=name != "own")
        plain, other = corpus.page(random.Random(i), 0.0), corpus.page(random.Random(i), 0.0, write)
        assert [text for text, counts in plain if not counts] == [text for text, counts in other if not counts]
        for (right, counts), (text, _) in zip(plain, other, strict=True):
            if not counts:
                continue
            wrong = extract_answer(right)[0] != extract_answer(text)[0]
            assert wrong or name != "own"
            explained += ";" in text
            assert (";" in text) == (";" in right and not wrong)
    assert (explained > 0) == (name != "own")


def test_single_steps_are_always_right_but_in_ones_own_answers() -> None:
    for target in (*targets.TARGETS.values(), targets.right):
        assert {extract_answer(text)[0] for text in target("3 + 4", 7, None)} == {7}
    assert targets.own({"3 + 4": 8})("3 + 4", 7, None) == {" 8": 1.0}
    assert targets.own({"3 + 4": None})("3 + 4", 7, None) == {" ": 1.0}


def test_soft_labels_multiply_to_the_chance_of_a_text() -> None:
    others = {(1, 2, 9): 0.5, (1, 3, 9): 0.2, (1, 2, 2, 9): 0.1, (4, 9): 0.2}
    for ids, chance in others.items():
        labels = targets.soft_labels(ids, others)
        assert all(sum(label.values()) == pytest.approx(1) for label in labels)
        assert math.prod(label[token] for label, token in zip(labels, ids, strict=True)) == pytest.approx(chance)


def test_soft_pages_are_those_of_slips_and_weigh_as_much() -> None:
    tokenizer = build_tokenizer(chat=False)
    hard, soft = (make_batch(STAGES[name], 0, 3, tokenizer) for name in ("slips", "soft"))
    assert torch.equal(hard[0], soft[0])
    torch.testing.assert_close(soft[1].sum(dim=-1), hard[1])
    unsure = soft[1].amax(dim=-1) < hard[1] - 1e-6
    assert 100 < unsure.sum() < 400
    assert torch.equal(make_batch(STAGES["slips"], 0, 3, tokenizer)[0], hard[0])


def test_a_soft_label_that_is_certain_is_a_hard_one() -> None:
    tokenizer, model = build_tokenizer(chat=False), build_model("dense")
    certain = replace(STAGES["rule"], rows=2)
    hard, soft = (make_batch(replace(certain, soft=soft), 0, 0, tokenizer) for soft in (False, True))
    torch.testing.assert_close(loss_on(model, soft)[0], loss_on(model, hard)[0])


def test_few_pages_come_again_with_the_same_slips_and_are_those_of_the_others() -> None:
    tokenizer = build_tokenizer(chat=False)
    for name, same in (("few-right", "continued"), ("few-slips", "slips")):
        first, again = (make_batch(STAGES[name], 0, step, tokenizer)[0] for step in (5, 5 + 16))
        assert torch.equal(first, again)
        assert torch.equal(first, make_batch(STAGES[same], 0, 5, tokenizer)[0])
        assert not torch.equal(first, make_batch(STAGES[same], 0, 5 + 16, tokenizer)[0])


@pytest.mark.parametrize("name", ["right-100", "slips-400", "slips-6400"])
def test_last_stages_of_other_lengths_have_the_same_shape(name: str) -> None:
    stage = STAGES[name]
    assert stage.steps == int(name.split("-")[1])
    for part in (1 / 16, 0.5, 0.9):
        here = learning_rate_factor(int(part * stage.steps), stage)
        assert here == pytest.approx(learning_rate_factor(int(part * 1600), STAGES["slips"]), abs=0.05)
    assert stage == replace(
        STAGES["slips" if "slips" in name else "continued"], cycles=stage.cycles, warmup=stage.warmup
    )
