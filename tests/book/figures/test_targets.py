from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pandas as pd
import pytest

from book.analysis import clamping, targets
from book.figures import targets as pages
from tests.book.analysis.test_targets import table
from tests.book.figures.drawing import TEXT, assert_draws
from tests.conftest import ROOT
from tiny import arms, factorial


@cache
def stored() -> tuple[pd.DataFrame, pd.DataFrame]:
    outcomes = factorial.measured(arms.DATA)
    return outcomes, targets.levels(outcomes)


FIGURES: dict[str, Callable[[], Any]] = {
    "lost": lambda: pages.lost(stored()[1], *TEXT),
    "predictions": lambda: pages.predictions(targets.compare(stored()[1]), *TEXT),
    "whole": lambda: pages.predictions(targets.compare(table()), *TEXT),
    "entropy": lambda: pages.against_entropy(targets.curves(stored()[0]), *TEXT),
    "experts": lambda: pages.experts(pd.read_parquet(clamping.DATA), *TEXT),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    assert_draws(FIGURES[name]())


def test_the_headline_says_how_many_models_it_rests_on_and_decides_nothing_early() -> None:
    whole = table()
    found = pages.headline(whole, targets.compare(whole))
    assert re.fullmatch(
        r"On a task that all base models learned, temperature 1 costs 2\.\d \[1\.\d, 2\.\d\] points "
        r"after right answers, "
        r"\d\.\d \[\d\.\d, \d\.\d\] points after answers wrong by a rule that can be learned, "
        r"\d\.\d \[\d\.\d, \d\.\d\] points after right answers in random forms and 1[78]\.\d "
        r"\[1\d\.\d, 18\.\d\] points after answers of which 15 % were wrong at random "
        r"\(six base models of 3 seeds; 95 % intervals\)\. "
        r"Beside right answers, wrong ones that can be predicted add little to what temperature costs, "
        r"random ones much\. "
        r"Right answers in random forms add little, too\.",
        found,
    ), found
    two = whole[(whole["seed"] == 0)]
    assert pages.headline(two, targets.compare(two)).endswith(
        "So far this rests on two base models; nothing is decided until six are measured."
    )
    one = two[(two["architecture"] == "dense") & two["stage"].isin(["continued", "slips"])]
    early = pages.headline(one, targets.compare(one))
    assert "on one base model;" in early
    assert "rule" not in early
    assert "[" not in early  # one model has no interval
    assert pages.answer(two, targets.compare(two)) == "This is being tested."


@pytest.mark.parametrize(
    ("drops", "said"),
    [
        ({}, "random ones much. Right answers in random forms add little, too."),
        ({"forms": 14.0}, "points, and we had predicted less than 3."),
        ({"forms": 4.9}, "What right answers in random forms add is not settled."),
        ({"rule": 18.0}, "Of 3 predictions, 1 held; whether it is being wrong that costs is not settled."),
    ],
)
def test_what_is_concluded_follows_the_comparisons(drops: dict[str, float], said: str) -> None:
    whole = table(drops)
    compared = targets.compare(whole)
    assert pages.conclusion(compared).endswith(said)
    assert pages.headline(whole, compared).endswith(said)
    answer = pages.answer(whole, compared)
    assert answer.endswith("Our own explanation, that only doubt about the number does, is refuted by the last.") == (
        "forms" in drops and drops["forms"] > 5
    )
    assert ("So being wrong is not what adds to it there." in answer) == ("rule" not in drops)
    assert answer.count("[") == 4


def test_verdict_and_what_was_not_run_are_said_in_words() -> None:
    whole = table()
    assert "our reading could be wrong, six are ruled out by their intervals." in pages.verdict(
        targets.refuted(whole, targets.compare(whole))
    )
    wrong = table({"forms": 12.0})
    assert pages.verdict(targets.refuted(wrong, targets.compare(wrong))) == (
        "Of the plan's six ways in which our reading could be wrong, one came true "
        "(random forms of right answers cost) and five are ruled out by their intervals."
    )
    assert pages.not_run(targets.compare(whole)) == "All ten comparisons were run."
    part = whole[~whole["stage"].isin(["soft"]) & (whole["seed"] < 3)]
    assert pages.not_run(targets.compare(part)) == (
        "Not run in full: soft minus slips (0 of 6 units); "
        "sparse minus dense, right and sparse minus dense, slips (3 of 6 units)."
    )
    assert "six were not run (a, b, c, d, e and f)" in pages.verdict(dict.fromkeys("abcdef", targets.NOT_RUN))
    states = [targets.TRUE, targets.OUT, targets.OPEN, targets.OPEN, targets.NOT_RUN]
    assert pages.verdict(dict(zip("abcde", states, strict=True))).endswith(
        "one came true (a), one is ruled out by its interval, two are undecided (c and d) and one was not run (e)."
    )


def test_other_analyses_are_said_to_agree_only_where_they_do() -> None:
    whole = table()
    compared = targets.compare(whole)
    seeds, later = targets.by_seed(whole), targets.compare(whole, without=(0,))
    said = pages.sensitivity(compared, seeds, later)
    assert said.endswith("With seeds as units, all of them would pass Holm's correction; without seed 0, all of them "
                         "would pass Holm's correction.")  # fmt: skip
    weak = seeds.assign(holm=seeds["holm"].where(seeds["number"] == 2, 0.5))
    assert "With seeds as units, only slips minus rule would" in pages.sensitivity(compared, weak, later)
    assert "without seed 0, none of them would" in pages.sensitivity(compared, weak, later.assign(holm=0.2))
    assert (
        pages.sensitivity(compared.assign(verdict="not shown"), seeds, later) == "No prediction is shown to have held."
    )


def test_tables_are_text_with_all_that_is_measured() -> None:
    outcomes, levels = stored()
    stages = set(levels["stage"])
    assert len(pages.shown_levels(levels)) == len(stages)
    measures = pages.shown_measures(levels, outcomes, targets.curves(outcomes))
    assert len(measures) == len(stages)
    assert (measures["bits of the text"] != "").all()
    compared = targets.compare(table())
    shown = pages.shown_comparisons(compared)
    assert shown["units"].tolist() == ["6 of 6"] * 11
    assert shown["points"].iloc[8].count("[") == 1
    otherwise = pages.shown_otherwise(compared, targets.by_seed(table()), targets.compare(table(), without=(0,)))
    assert otherwise["seeds as units"].tolist()[-2:] == ["", ""]
    gates = pages.shown_gates(targets.gates(outcomes, targets.noted()))
    assert len(gates) == 5
    assert pages.shown_secondary(targets.secondary(table()))["95 % interval"].str.count(r"\[").tolist() == [1] * 6


def test_prose_takes_only_numbers_that_are_there_and_names_the_plan() -> None:
    outcomes, levels = stored()
    facts = pages.numbers(levels, outcomes, targets.noted(), pd.read_parquet(clamping.DATA))
    assert all(isinstance(value, str) and value for value in facts.values())
    texts = [(ROOT / "notebooks" / f"{name}.ipynb").read_text() for name in ("targets", "targets_appendix")]
    used = set(re.findall(r"\{number\}`(.+?)`", "".join(texts)))
    assert used <= set(facts)
    assert f"`{pages.PLAN}`" in texts[0]
    prose = sum(
        len("".join(cell["source"]).split())
        for cell in json.loads(texts[0])["cells"]
        if cell["cell_type"] == "markdown"
    )
    assert prose < 900


def test_what_the_page_says_of_experts_is_what_was_measured() -> None:
    table = pd.read_parquet(clamping.DATA).query("temperature == 1")
    middle = table.assign(middle=(table["lower"] + table["upper"]) / 2)
    means = 100 * middle.pivot_table(index="model", columns="experts", values="middle")
    assert len(means) >= 5
    assert (means[clamping.GREEDY] - means[clamping.OWN]).abs().max() < 1  # "save nothing"
    assert (means[clamping.ANOTHER] - means[clamping.OWN]).max() < -5  # "does harm"


def test_titles_follow_the_data() -> None:
    assert re.fullmatch(
        r"T = 1 takes 2 points after answers that can be predicted, 2 to 1[78] after others", pages.lost_title(table())
    )
    whole = targets.compare(table())
    assert pages.predictions_title(whole) == "Of 10 predictions: 10 held"
    assert pages.predictions_title(whole.assign(verdict="not run")) == "Of 10 predictions: 10 not run in full"
    wrong = targets.compare(table({"forms": 14.0, "soft": 20.9}), frozenset({"own"}))
    assert (
        pages.predictions_title(wrong)
        == "Of 10 predictions: 7 held, 1 undecided, 1 came out otherwise, 1 whose arm failed"
    )
    clamped = pd.read_parquet(clamping.DATA)
    title = pages.experts_title(clamped)
    harmless = clamped.assign(lower=0.5, upper=0.5)
    assert pages.experts_title(harmless) == (
        "Held experts change accuracy by +0.0 points at most, those of another problem by +0.0"
    )
    assert title != pages.experts_title(harmless)
