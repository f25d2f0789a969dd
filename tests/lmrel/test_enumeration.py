from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from lmrel import Decoder, InputError, enumerate_outcomes, extract_answer, paper_problems, sample
from lmrel.engine.enumerator import METRICS
from lmrel.tokens import encode_problems, written
from tests.conftest import random_model, small_tokenizer, tiny

PROBLEMS = paper_problems()
GRID = [0.0, 0.1, 0.5, 1.0, 1.7]
LIMIT = 3


def toy() -> tuple[Any, Any, pd.DataFrame]:
    """A random model over twelve tokens, one of them a letter, so that most texts are numbers."""
    problems = PROBLEMS.head(3).assign(answer=[4, 47, 0])
    return random_model("mixtral"), small_tokenizer(), problems


def by_brute_force(model: Any, tokenizer: Any, problem: dict[str, Any], temperature: float) -> dict[str, float]:
    """Every text of at most LIMIT tokens, one plain forward per prefix."""
    [prompt] = encode_problems([problem], "few_shot", tokenizer)
    totals = dict.fromkeys(METRICS, 0.0)

    def end(tokens: list[int], mass: float, raw: float) -> None:
        extracted, compliant = extract_answer(written(tokens, tokenizer, [2]))
        correct = extracted == problem["answer"]
        values = (correct, compliant, correct and compliant, tokens[-1] == 2, raw / len(tokens))
        for metric, value in zip(METRICS, values, strict=True):
            totals[metric] += mass * value

    def grow(tokens: list[int], mass: float, raw: float) -> None:
        if tokens and (tokens[-1] == 2 or len(tokens) == LIMIT):
            return end(tokens, mass, raw)
        logits = model(torch.tensor([prompt + tokens])).logits[0, -1].double()
        logprob = logits.log_softmax(-1).tolist()
        if temperature == 0:
            best = int(logits.argmax())
            return grow([*tokens, best], mass, raw + logprob[best])
        for token, p in enumerate((logits / temperature).softmax(-1).tolist()):
            grow([*tokens, token], mass * p, raw + logprob[token])

    grow([], 1.0, 0.0)
    return totals


@pytest.mark.parametrize("stop", ["decided", "eos"])
def test_bounds_hold_and_close_on_brute_force(stop: str) -> None:
    model, tokenizer, problems = toy()
    found = enumerate_outcomes(
        model, tokenizer, problems, GRID, tolerance=0.0, max_nodes=10_000, max_new_tokens=LIMIT, stop=stop
    )
    loose = enumerate_outcomes(model, tokenizer, problems, GRID, max_nodes=12, max_new_tokens=LIMIT, stop=stop)
    index = ["problem_id", "temperature", "metric"]
    tables = [table.set_index(index) for table in (found, loose)]
    for row in problems.to_dict("records"):
        for temperature in GRID:
            truth = by_brute_force(model, tokenizer, row, temperature)
            for metric, value in truth.items():
                for table in tables:
                    lower, upper = table.loc[(row["problem_id"], temperature, metric)]
                    assert lower - 1e-5 <= value <= upper + 1e-5
                lower, upper = tables[0].loc[(row["problem_id"], temperature, metric)]
                if stop == "eos" or metric in ("correct", "compliant", "strict"):
                    assert upper - lower < 1e-6
    # Not all of it is trivial: some bounds of the small tree are wide, and some truths lie strictly inside.
    assert (loose["upper"] - loose["lower"]).max() > 0.05
    assert found.attrs["nodes"] > loose.attrs["nodes"]


def test_sampled_draws_fall_inside_the_bounds_as_often_as_they_should(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    problems, runs = PROBLEMS.iloc[::6], 2000
    grid = [0.0, 0.7, 1.2]
    bounds = enumerate_outcomes(model, tokenizer, problems, grid, tolerance=0.005)
    decoders = [Decoder(temperature, stop="decided") for temperature in grid]
    draws = sample(model, tokenizer, problems, decoders, runs=runs)
    draws["strict"] = draws["correct"] & draws["compliant"]
    keys = ["problem_id", "temperature"]
    counts = draws.groupby(keys)[["correct", "compliant", "strict", "finished"]].sum().stack().rename("count")
    counts.index.names = [*keys, "metric"]
    table = bounds[bounds["metric"] != "mean_logprob"].merge(counts.reset_index())
    n = np.where(table["temperature"] == 0, 1, runs)
    # One-sided binomial tails of the nearer bound; with this many comparisons the smallest should exceed 1e-6.
    below = stats.binom.cdf(table["count"], n, table["lower"].clip(0, 1))
    above = stats.binom.sf(table["count"] - 1, n, table["upper"].clip(0, 1))
    assert min(below.min(), above.min()) > 1e-6
    narrow = table[(table["upper"] - table["lower"] < 0.005) & (table["temperature"] > 0)]
    assert len(narrow) > 40
    # And not because the bounds are too wide: 5 % of the narrow ones' exact two-sided tests are below 5 %.
    middle = (narrow["lower"] + narrow["upper"]) / 2
    tails = np.minimum(
        stats.binom.cdf(narrow["count"], runs, middle), stats.binom.sf(narrow["count"] - 1, runs, middle)
    )
    assert (tails < 0.025 - 0.005).mean() < 0.12


def test_greedy_is_the_limit() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    problems = PROBLEMS.iloc[::6]
    bounds = enumerate_outcomes(model, tokenizer, problems, [0.0, 1e-6])
    greedy = sample(model, tokenizer, problems, [Decoder(0.0)]).set_index("problem_id")
    for temperature in (0.0, 1e-6):
        for metric in ("correct", "compliant"):
            chosen = bounds[(bounds["metric"] == metric) & (bounds["temperature"] == temperature)]
            exact = greedy.loc[chosen["problem_id"], metric].to_numpy(dtype=float)
            assert chosen["lower"].to_numpy() == pytest.approx(exact, abs=1e-6)
            assert chosen["upper"].to_numpy() == pytest.approx(exact, abs=1e-6)


def test_bounds_tighten_with_the_tolerance_and_keep_their_order(tiny_name: str) -> None:
    model, tokenizer = tiny(tiny_name)
    problems = PROBLEMS.iloc[::30]
    grid = [0.0, 0.3, 1.0, 2.0]
    outer = None
    for tolerance in (0.3, 0.03, 0.003):
        inner = enumerate_outcomes(model, tokenizer, problems, grid, tolerance=tolerance, max_nodes=400)
        assert (inner["lower"] <= inner["upper"] + 1e-9).all()
        shares = inner["metric"] != "mean_logprob"
        assert inner.loc[shares, ["lower", "upper"]].stack().between(0, 1).all()
        if outer is not None:
            # To the rounding of logits computed in other company.
            assert (inner["lower"] >= outer["lower"] - 2e-5).all()
            assert (inner["upper"] <= outer["upper"] + 2e-5).all()
            assert inner.attrs["nodes"] > outer.attrs["nodes"]
        outer = inner


def test_the_tolerance_is_reached_or_the_budget_spent() -> None:
    model, tokenizer = tiny("tiny-dense-base")
    problems = PROBLEMS.iloc[::40]
    verdicts = ["correct", "compliant", "strict"]
    reached = enumerate_outcomes(model, tokenizer, problems, [0.5], tolerance=0.02)
    reached = reached[reached["metric"].isin(verdicts)]
    assert (reached["upper"] - reached["lower"]).max() <= 0.02
    spent = enumerate_outcomes(model, tokenizer, problems, [2.0], tolerance=0.02, max_nodes=50)
    assert spent.attrs["nodes"] == 50 * len(problems)
    spent = spent[spent["metric"].isin(verdicts)]
    assert (spent["upper"] - spent["lower"]).max() > 0.02


def test_chunks_change_nothing() -> None:
    model, tokenizer = tiny("tiny-sparse-base")
    problems = PROBLEMS.iloc[::20]
    whole, parts = (enumerate_outcomes(model, tokenizer, problems, [0.5, 1.0], chunk=chunk) for chunk in (64, 5))
    assert whole[["problem_id", "temperature", "metric"]].equals(parts[["problem_id", "temperature", "metric"]])
    for bound in ("lower", "upper"):
        assert whole[bound].to_numpy() == pytest.approx(parts[bound].to_numpy(), abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problems": PROBLEMS.head(0)}, "nothing to enumerate"),
        ({"max_new_tokens": 600}, "this model has 512"),
    ],
)
def test_bad_input_is_named(changes: dict[str, Any], said: str) -> None:
    model, tokenizer = tiny("tiny-dense-base")
    arguments: dict[str, Any] = {"problems": PROBLEMS.head(2), "temperatures": [0.5]} | changes
    with pytest.raises(InputError, match=said):
        enumerate_outcomes(model, tokenizer, **arguments)


def test_an_end_of_text_that_is_a_digit_counts_in_the_text() -> None:
    model, tokenizer, problems = toy()
    model.generation_config.eos_token_id = [2, 3]  # 3 is "0"
    found = enumerate_outcomes(
        model, tokenizer, problems, [1.0], max_new_tokens=3, tolerance=0.0, max_nodes=10**5, stop="eos"
    )
    draws = sample(model, tokenizer, problems, [Decoder(1.0, max_new_tokens=3)], runs=3000)
    for metric in ("correct", "compliant"):
        exact = found[found["metric"] == metric]["lower"].to_numpy()
        drawn = draws.groupby("problem_id", sort=False)[metric].mean().to_numpy()
        assert abs(exact - drawn).max() < 0.04


def test_tokens_that_never_happen_leave_the_bounds_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer, problems = toy()
    real = type(model).forward

    def without_letters(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = real(self, *args, **kwargs)
        output.logits[..., 10:] = float("-inf")
        return output

    monkeypatch.setattr(type(model), "forward", without_letters)
    found = enumerate_outcomes(model, tokenizer, problems, [0.0, 1.0], max_new_tokens=3, stop="eos")
    assert found[["lower", "upper"]].notna().all().all()
    assert (found["lower"] <= found["upper"]).all()


def test_with_other_knobs_it_is_what_sampling_with_them_does() -> None:
    model, tokenizer, problems = toy()
    knobs: dict[str, Any] = {"top_k": 4, "top_p": 0.9, "max_new_tokens": 3}
    search: dict[str, Any] = {"tolerance": 0.0, "max_nodes": 10**5, "stop": "eos"}
    found = enumerate_outcomes(model, tokenizer, problems, [0.0, 1.5], **search, **knobs).query("temperature == 1.5")
    pure = enumerate_outcomes(model, tokenizer, problems, [1.5], **search, max_new_tokens=3)
    draws = sample(model, tokenizer, problems, [Decoder(1.5, **knobs)], runs=3000)
    for metric in ("correct", "compliant", "finished"):
        exact = found[found["metric"] == metric]["lower"].to_numpy()
        drawn = draws.groupby("problem_id", sort=False)[metric].mean().to_numpy()
        assert abs(exact - drawn).max() < 0.04
    mine, theirs = (table[table["metric"] == "compliant"]["lower"].to_numpy() for table in (found, pure))
    assert abs(mine - theirs).max() > 0.03
    with pytest.raises(InputError, match="no repetition_penalty and no stop_strings"):
        enumerate_outcomes(model, tokenizer, problems, [1.0], repetition_penalty=1.1)
