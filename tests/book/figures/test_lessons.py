from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import lmrel
from book.figures import lessons
from book.figures.style import NARROW, svg
from lmrel import Decoder, InputError, charts
from lmrel.prompts import render
from lmrel.stats.agreement import majority_at_k
from tests.conftest import tiny

PROBLEM = lessons.arithmetic(23, 7, 4, 5)
TABLE = pd.DataFrame({"token": list("abcd"), "logit": [2.0, 1.0, 0.5, -3.0]})
SIX = pd.DataFrame({"token": list("abcdef"), "logit": [2.0, 1.4, 1.0, 0.5, -1.0, -3.0]})


@pytest.fixture(scope="module")
def base() -> tuple[Any, Any]:
    return tiny("tiny-dense-base")


def test_a_problem_holds_its_answer() -> None:
    assert PROBLEM["answer"] == (23 - 7) * 4 + 5
    assert render(PROBLEM, "few_shot").endswith("(23 - 7) * 4 + 5 =")


def test_the_next_tokens_are_the_models_own(base: Any) -> None:
    model, tokenizer = base
    table = lessons.next_tokens(model, tokenizer, PROBLEM, " 6")
    text = render(PROBLEM, "few_shot") + " 6"
    logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
    assert len(table) == len(logits)
    assert (table["logit"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(table["logit"], logits.sort(descending=True).values, atol=1e-3)
    assert table["token"][0] == tokenizer.decode([int(logits.argmax())])
    assert model.dtype == torch.float32  # the copy in 64 bits left it alone


def test_a_distribution_is_the_softmax_of_the_logits_over_t() -> None:
    for temperature in (0.3, 1.0, 4.0):
        weights = np.exp(TABLE["logit"] / temperature)
        found = lessons.distribution(TABLE, temperature)["probability"]
        np.testing.assert_allclose(found, weights / weights.sum(), rtol=1e-5)
    assert lessons.distribution(TABLE, 0.0)["probability"].tolist() == [1, 0, 0, 0]
    assert lessons.distribution(TABLE, 1.0, top_k=2)["probability"].gt(0).sum() == 2


def test_entropy_goes_from_0_to_that_of_a_uniform_choice() -> None:
    found = lessons.entropy(TABLE, [0.0, 0.5, 1.0, 10.0]).set_index("temperature")
    assert found.loc[0.0].tolist() == [0.0, 1.0]
    assert found["bits"].is_monotonic_increasing
    assert found["top"].is_monotonic_decreasing
    p = np.exp(TABLE["logit"]) / np.exp(TABLE["logit"]).sum()
    assert found.loc[1.0, "bits"] == pytest.approx(stats.entropy(p, base=2), rel=1e-5)
    assert found.loc[10.0, "bits"] == pytest.approx(math.log2(4), abs=0.05)


def test_u_takes_the_token_on_whose_piece_it_falls() -> None:
    assert lessons.inverse_cdf([0.5, 0.25, 0.25], np.array([0.0, 0.49, 0.5, 0.74, 0.75, 0.999])).tolist() == [
        *(0, 0, 1, 1, 2, 2)
    ]
    assert lessons.inverse_cdf([1.0, 0.0], np.array([1 - 1e-12])).tolist() == [0]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_both_ways_to_draw_follow_the_distribution(temperature: float) -> None:
    """A chi-square test each; a right drawer fails it with a chance of 1 in 10,000."""
    count = 20_000
    wide = lessons.draw_both_ways(TABLE, temperature, count, seed=3, top=4).pivot(
        index="token", columns="way", values="share"
    )
    p = lessons.distribution(TABLE, temperature)["probability"].to_numpy()
    np.testing.assert_allclose(wide["probability"], p)
    for way in ("inverse CDF", "Gumbel-max"):
        assert stats.chisquare(wide[way] * count, p / p.sum() * count).pvalue > 1e-4, way


def test_an_answers_chance_is_the_product_of_its_tokens_chances(base: Any) -> None:
    found = lessons.token_by_token(*base, PROBLEM, " 69\n", 0.5)
    assert found["token"].tolist() == ["␣", "6", "9", "⏎"]
    assert found["product"].iloc[-1] == pytest.approx(math.prod(found["probability"]))
    first = lessons.distribution(lessons.next_tokens(*base, PROBLEM), 0.5).set_index("token")["probability"]
    assert found["probability"][1] == pytest.approx(first["6"], abs=1e-4)


def test_all_answers_have_the_chances_that_enumeration_finds(base: Any) -> None:
    temperatures = [0.0, 0.5, 1.0]
    found = lessons.all_answers(*base, PROBLEM, temperatures, least=1e-5)
    assert found.groupby("temperature")["probability"].sum().tolist() == pytest.approx([1, 1, 1])
    right = found[found["answer"].map(lambda text: lmrel.extract_answer(text)[0] == PROBLEM["answer"])]
    mine = right.groupby("temperature")["probability"].sum()
    others = found[found["answer"] == "(all others)"].set_index("temperature")["probability"]
    outcomes = lmrel.enumerate_outcomes(*base, pd.DataFrame([PROBLEM]), temperatures, tolerance=1e-4)
    exact = outcomes[outcomes["metric"] == "correct"].set_index("temperature")
    assert (mine <= exact["upper"] + 1e-5).all()
    assert (mine + others >= exact["lower"] - 1e-5).all()
    assert others.max() < 0.01


def test_an_answer_is_as_likely_in_the_table_as_token_by_token(base: Any) -> None:
    found = lessons.all_answers(*base, PROBLEM, [0.7]).set_index("answer")["probability"]
    assert found["61"] == pytest.approx(lessons.token_by_token(*base, PROBLEM, " 61\n", 0.7)["product"].iloc[-1])


def test_an_answer_that_can_end_in_two_ways_has_the_chance_of_both() -> None:
    model, tokenizer = tiny("tiny-dense-instruct")
    found = lessons.all_answers(model, tokenizer, PROBLEM, [3.0], least=1e-4).set_index("answer")["probability"]
    ends = [
        lessons.token_by_token(model, tokenizer, PROBLEM, f" 71{end}", 3.0)["product"].iloc[-1]
        for end in ("\n", tokenizer.eos_token)
    ]
    assert min(ends) > 1e-4
    assert sum(ends) - 1e-9 <= found["71"] < sum(ends) + 0.005  # more, as a space before the end is no other answer


def test_a_vote_of_one_is_the_accuracy_and_draws_are_sorted(base: Any) -> None:
    problems = lmrel.paper_problems().iloc[120:126]
    draws = lmrel.sample(*base, problems, [Decoder(0.0), Decoder(1.0)], runs=5)
    found = lessons.majority(draws, [1, 3])
    hot = draws[draws["temperature"] == 1.0]
    assert found["temperature"].unique().tolist() == ["T = 1"]
    assert found["accuracy"][0] == pytest.approx(hot["correct"].mean())
    one = hot[hot["problem_id"] == "ar-000"]
    alone = lessons.majority(one, [3])["accuracy"][0]
    assert alone == pytest.approx(majority_at_k(one["extracted"].tolist(), int(one["expected"].iloc[0]), 3))
    table = lessons.right_or_wrong(hot)
    shares = table.groupby("problem", sort=False)["outcome"].apply(lambda outcomes: (outcomes == "right").mean())
    assert shares.is_monotonic_decreasing
    assert (table["outcome"] == "right").mean() == hot["correct"].mean()


def test_a_table_on_the_page_has_equally_many_digits_and_no_index() -> None:
    shown = lessons.rounded(pd.DataFrame({"token": ["7"], "chance": [0.05], "count": [3]}))
    assert shown.iloc[0].tolist() == ["7", "0.050", "3"]
    assert shown.index.tolist() == [""]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_gumbel_max_needs_a_temperature_above_0(temperature: float) -> None:
    with pytest.raises(InputError, match=f"temperature is {temperature}; it must be a number above 0 to 10"):
        lessons.gumbel_max([1.0, 2.0], temperature, 5, 0)


@pytest.mark.parametrize("count", [0, -1])
def test_both_ways_need_a_temperature_and_a_draw(count: int) -> None:
    with pytest.raises(InputError, match="temperature is 0.0; it must be a number above 0"):
        lessons.draw_both_ways(TABLE, 0.0, 5)
    with pytest.raises(InputError, match=f"count is {count}; it must be an integer of at least 1"):
        lessons.draw_both_ways(TABLE, 1.0, count)


@pytest.mark.parametrize("u", [2.0, 1.0, -1.0, math.nan])
def test_u_beyond_the_line_falls_on_no_token(u: float) -> None:
    with pytest.raises(InputError, match=f"u holds {u}; it must hold numbers from 0 to below 1"):
        lessons.inverse_cdf([0.5, 0.5], np.array([0.2, u]))


@pytest.mark.parametrize("ask", [lessons.next_tokens, lessons.token_by_token], ids=["next_tokens", "token_by_token"])
def test_an_answer_beyond_the_models_context_is_refused(base: Any, ask: Any) -> None:
    with pytest.raises(InputError, match="a prompt and 1000 new tokens need 10.. positions; this model has 512"):
        ask(*base, PROBLEM, "1" * 1000)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperatures": []}, "there is no temperature"),
        ({"longest": -1}, "longest is -1; it must be an integer of at least 1"),
        ({"least": 0.0}, "least is 0.0; it must be a number above 0 to 1"),
    ],
    ids=["temperatures", "longest", "least"],
)
def test_all_answers_to_nothing_are_refused(base: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        lessons.all_answers(*base, PROBLEM, **({"temperatures": [1.0]} | given))


def test_temperature_changes_what_is_reported_and_not_what_is_right() -> None:
    model, tokenizer = tiny("tiny-dense-instruct")
    problems = lmrel.paper_problems().iloc[120:136]
    draws = lmrel.sample(model, tokenizer, problems, [Decoder(0.0)])
    found = lessons.reported_confidence(model, tokenizer, problems, draws, [0.0, 0.5, 1.0])
    assert len(found) == 8 * 3
    by = found.groupby("temperature")[["confidence", "accuracy"]].mean()
    assert by["confidence"].is_monotonic_decreasing
    assert by.loc[0.0, "confidence"] == 1
    assert by["accuracy"].tolist() == pytest.approx([draws["correct"].mean()] * 3)
    chances = [
        lessons.token_by_token(model, tokenizer, row, text, 0.5)["product"].iloc[-1]
        for row, text in zip(problems.to_dict("records"), draws["text"], strict=True)
    ]
    assert by.loc[0.5, "confidence"] == pytest.approx(np.mean(chances), abs=1e-6)


def test_two_tests_differ_as_two_binomials_do() -> None:
    """By simulation; a right table misses these bounds for one seed in 10,000."""
    table = lessons.luck(0.05, 240)
    assert table["probability"].sum() == pytest.approx(1, abs=1e-4)
    first, second = np.random.default_rng(0).binomial(240, 0.05, size=(2, 40_000))
    for gap in (0, 5, 9):
        share = table.loc[table["difference"].abs() >= gap, "probability"].sum()
        assert (
            abs((abs(first - second) >= gap).mean() - share) < 3.9 * math.sqrt(share * (1.0001 - share) / 40_000) + 1e-4
        )


# The figures


def bar_labels(chart: Any, **sliders: float) -> list[str]:
    """The labels of a chart's bars, from the picture that Vega draws with the sliders there."""
    spec = chart.to_dict()
    for parameter in spec["params"]:
        parameter["value"] = sliders.get(parameter["name"], parameter["value"])
    assert set(sliders) <= {parameter["name"] for parameter in spec["params"]}
    labels = svg(spec, 600).partition("mark-text role-mark")[2]  # not the axis
    return re.findall(r">([\d.]+%|cut)</text>", labels)


def percents(probabilities: Any) -> list[str]:
    return [f"{p:.1%}" for p in probabilities]


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0, 2.5])
def test_the_temperature_slider_shows_what_the_decoder_does(temperature: float) -> None:
    labels = bar_labels(lessons.tempered(SIX, "a", "b"), T=temperature)
    assert labels[: len(SIX)] == percents(lessons.distribution(SIX, temperature)["probability"])


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.2},
        {"top_k": 4, "top_p": 0.75, "min_p": 0.3},
        {"top_p": 0.05},
        {"top_k": 2, "top_p": 0.99},
    ],
)
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_truncation_sliders_show_what_the_decoder_does(temperature: float, knobs: dict[str, Any]) -> None:
    labels = bar_labels(lessons.truncated(SIX, "a", "b"), T=temperature, **knobs)
    expected = lessons.distribution(SIX, temperature, **knobs)["probability"]
    assert labels[: len(SIX)] == ["cut" if p == 0 else f"{p:.1%}" for p in expected]


@pytest.mark.parametrize(("u", "temperature"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.5, 4.0)])
def test_the_lit_token_is_the_one_that_is_drawn(u: float, temperature: float) -> None:
    spec = lessons.drawn(SIX, "a", "b").to_dict()
    for parameter in spec["params"]:
        parameter["value"] = {"u": u, "T": temperature}[parameter["name"]]
    bars = re.findall(r'aria-label="[^"]*token: (\w)[^"]*"[^>]* fill="(#\w+)"', svg(spec, 600))
    lit = [token for token, colour in bars if colour == charts.PALETTE[1]]
    p = lessons.distribution(SIX, temperature)["probability"]
    assert lit == [SIX["token"][int(lessons.inverse_cdf(p, np.array([u]))[0])]]


def test_every_figure_can_be_drawn_on_a_narrow_screen_and_is_light() -> None:
    runs = pd.DataFrame({"problem": ["a", "b"], "run": [1, 1], "outcome": ["right", "wrong"], "answer": ["1", "2"]})
    series = lessons.entropy(SIX, [0.5, 1.0]).assign(of="a")
    found = pd.DataFrame(
        {"answer": ["1", "2"] * 2, "temperature": [0.0, 0.0, 1.0, 1.0], "probability": [1, 0, 0.6, 0.4]}
    )
    group = {"group": 0, "confidence": 0.4, "accuracy": 0.3, "low": 0.1, "high": 0.6}
    reported = pd.DataFrame([{"temperature": t, **group} for t in (0.0, 1.0)])
    for chart in (
        lessons.tempered(SIX, "a", "b"),
        lessons.drawn(SIX, "a", "b"),
        lessons.truncated(SIX, "a", "b"),
        lessons.ways(lessons.draw_both_ways(SIX, 1.0, 50), "a", "b"),
        lessons.lines(series, "temperature", "top", "a", "b", by="of"),
        lessons.lines(series, "temperature", "bits", "a", "b", by="of", percent=False, log=True),
        lessons.runs_grid(runs, "a", "b"),
        lessons.answer_line(found, "1", "a", "b"),
        lessons.reported(reported, "a", "b"),
        lessons.differences(lessons.luck(0.05, 240), 5, "a", "b"),
    ):
        spec = chart.to_dict()
        assert "<svg" in svg(spec, NARROW)
        assert "currentColor" in str(spec)
        assert sum(map(len, spec["datasets"].values())) <= 1000
        assert spec["usermeta"]["function"].startswith("book.figures.lessons.")
