"""The page on one real model: its figures draw, its numbers are those of the stored draws, and its words are so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from book.analysis import smollm
from book.figures import smollm as page
from tests.book.figures.drawing import TEXT, assert_draws
from tests.conftest import ROOT

DRAWS, OUTCOMES, ABOUT = smollm.drawn(), smollm.exact_outcomes(), smollm.conditions()
READ = smollm.read_by_rules(DRAWS)
KNOWN = smollm.outcomes(OUTCOMES, READ)
RATED, AGREEMENT = smollm.accuracies(smollm.shared(READ)), smollm.agreement(READ, 1.0)
FAILURES = smollm.failures(smollm.at(DRAWS, [0.0, 1.0], paper=True, shipped=False))
FIGURES: dict[str, Callable[..., Any]] = {
    "response": lambda *text: page.response(smollm.curves(KNOWN), *text),
    "by rule, one step": lambda *text: page.by_rule(smollm.at(RATED, 1.0, paper=False), *text),
    "by rule, paper": lambda *text: page.by_rule(smollm.at(RATED, 1.0, paper=True), *text),
    "failed": lambda *text: page.failed(FAILURES, *text),
    "sure": lambda *text: page.sure(AGREEMENT, *text),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    assert_draws(FIGURES[name](*TEXT))


def test_the_same_draws_stand_behind_every_rule_and_the_first_integer_is_read_as_by_hand() -> None:
    assert READ.groupby("answer").size().nunique() == 1
    first = READ[READ["answer"] == "first"].reset_index(drop=True)
    found = first["text"].str.extract("([+-]?[0-9]+)", expand=False)
    by_hand = [bool(text == text and int(text) == right) for text, right in zip(found, first["expected"], strict=True)]
    assert by_hand == first["correct"].tolist()
    pd.testing.assert_series_equal(first["text"], DRAWS["text"])


def test_accuracies_are_means_over_draws_and_lie_in_their_intervals() -> None:
    means = READ.groupby(["condition", "temperature", "answer"])["correct"].mean() * 100
    rated = smollm.accuracies(READ).set_index(["condition", "temperature", "answer"])
    assert rated["accuracy"].sort_index().tolist() == pytest.approx(means.sort_index().tolist())
    assert (rated["low"] <= rated["accuracy"]).all()
    assert (rated["accuracy"] <= rated["high"]).all()


def test_conditions_of_one_step_that_stand_beside_each_other_ask_the_same_problems() -> None:
    steps = smollm.shared(READ).query("condition.str.startswith('steps-')")
    asked = steps.groupby("condition")["problem_id"].agg(lambda names: frozenset(names))
    assert asked.nunique() == 1


def test_exact_and_sampled_accuracies_agree_but_for_chance() -> None:
    some = READ[(READ["condition"] == smollm.PLAIN) & (READ["answer"] == "first")]
    greedy = some[some["temperature"] == 0].set_index("problem_id")["correct"].astype(float)
    certain = OUTCOMES[OUTCOMES["temperature"] == 0].set_index("problem_id")["correct"]
    assert (greedy[certain.index] == certain).mean() > 0.95  # a tie may break otherwise in another batch
    # By Hoeffding's inequality 4 draws of n problems are this far off in one of a million data sets.
    means = some[some["temperature"] == 1].groupby("problem_id")["correct"].mean()
    exact = OUTCOMES[OUTCOMES["temperature"] == 1].set_index("problem_id")
    far = (7.25 / (4 * len(exact))) ** 0.5
    assert exact["lower"].mean() - far < means[exact.index].mean() < exact["upper"].mean() + far


def test_changes_and_heat_are_counted_as_by_hand() -> None:
    rows = [("a", 0.0, 1.0), ("a", 1.0, 0.4), ("b", 0.0, 0.0), ("b", 1.0, 0.6), ("c", 0.0, 1.0), ("c", 1.0, 0.9)]
    table = pd.DataFrame(rows, columns=["problem_id", "temperature", "correct"]).assign(task="sum")
    table = table.assign(lower=table["correct"] - 0.01, upper=table["correct"] + 0.01)
    change = smollm.changes(table, 0.0, 1.0).set_index("task").loc["all"]
    assert change["change"] == pytest.approx(100 * (-0.6 + 0.6 - 0.1) / 3)
    helped = smollm.heat_helps(table).set_index("task").loc["sum"]
    assert helped[["problems", "right", "lost", "wrong", "gained"]].tolist() == [3, 2, 1, 1, 1]


def test_tied_answers_share_what_is_right() -> None:
    runs = pd.DataFrame({"extracted": pd.array([3, 3, 4, 4], "Int64"), "expected": 4, "problem_id": "a"})
    runs = runs.assign(condition=smollm.PLAIN, temperature=1.0, answer="first")
    assert smollm.agreement(runs, 1.0).loc[0, ["agree", "right"]].tolist() == [2, 0.5]


def test_shares_of_failures_are_of_all_draws() -> None:
    assert FAILURES.groupby(["condition", "temperature"])["share"].sum().tolist() == pytest.approx([1.0] * 6)
    assert set(FAILURES["what"]) <= set(page.CLASSES)


def test_all_conditions_are_of_one_models_weights() -> None:
    weights = {said["hashes"]["weights"] for said in ABOUT.values() if "hashes" in said}
    assert len(weights) == 1
    assert {name: said["draws"] for name, said in ABOUT.items() if "hashes" in said} == DRAWS[
        "condition"
    ].value_counts().to_dict()
    assert "/" not in json.dumps(ABOUT).replace("book/data/real/r0/problems.csv", "")


def test_what_captions_and_prose_say_in_words_is_so() -> None:
    assert (FAILURES.query("what == 'numeric_error'")["share"] < 0.1).all()  # "Few fail by a number alone"
    assert (smollm.at(RATED, 1.0, paper=True)["accuracy"] < 4).all()  # "what is hardly there"
    assert smollm.one_step().groupby("task").size().eq(16).all()
    best = smollm.at(RATED, 1.0, paper=False).groupby("condition")["accuracy"].idxmax()
    assert RATED.loc[best, "answer"].nunique() > 1  # "No rule is best everywhere"
    shipped = ABOUT["few_shot-as_shipped"]["decoders"][-1]
    pure = ABOUT["few_shot-pure"]["decoders"][-1]
    assert {name for name in pure if pure[name] != shipped[name]} == {"id", "top_k"}
    assert shipped["top_k"] == 50


def test_tables_are_text() -> None:
    changes = page.shown_changes(smollm.changes(KNOWN, 0.0, 1.0), smollm.heat_helps(OUTCOMES))
    for table in (page.shown_accuracies(RATED), changes):
        assert table.map(lambda cell: isinstance(cell, str) and cell != "nan").all(axis=None)


def test_prose_quotes_only_numbers_that_are_left() -> None:
    notebook = json.loads((ROOT / "notebooks" / "smollm.ipynb").read_text())
    source = "".join("".join(cell["source"]) for cell in notebook["cells"])
    source += (ROOT / "book" / "plan-real.md").read_text()
    quoted = {first or second for first, second in re.findall(r"{number}`([^`]+)`|facts\[.([a-z ]+).\]", source)}
    left = page.numbers(READ, OUTCOMES, ABOUT, AGREEMENT)
    assert quoted == set(left)
    assert not any("nan" in said for said in left.values())


def test_the_pilot_that_failed_its_gate_is_quoted_from_its_file() -> None:
    outcomes = pd.read_parquet(smollm.PILOT)
    cold = outcomes[(outcomes["metric"] == "correct") & (outcomes["temperature"] == 0)].groupby("task")["lower"].mean()
    assert cold["variable_binding"] < 0.8  # what the gate asks for
    said = (
        f"{100 * cold['variable_binding']:.0f} % of variable binding and {100 * cold['arithmetic']:.0f} % of arithmetic"
    )
    assert page._pilot(outcomes) == said
