from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from book.analysis.effects import PLANNED
from book.analysis.trends import trend
from book.figures import audit, evaluate
from book.figures.published import ACCURACY
from book.figures.style import bundle
from lmrel import Decoder, extract_answer, paper_problems, sample
from lmrel.answers import only_answer
from lmrel.stats import calibration, design
from lmrel.stats.inference import with_interval
from tests.conftest import tiny
from tiny.factorial import measured


@pytest.fixture(scope="module")
def draws() -> pd.DataFrame:
    model, tokenizer = tiny("tiny-dense-base")
    return sample(model, tokenizer, paper_problems().iloc[::6], [Decoder(t) for t in (0.0, 1.0)], runs=4)


def numbers(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"[-+]?[\d.]+", cell.replace("\N{MINUS SIGN}", "-"))]


def test_published_accuracies_are_counts_with_wilsons_intervals() -> None:
    found = audit.counts().set_index("model")
    assert found.loc["OLMoE-7B", "greedy"] == "14 of 240 [3.5 %, 9.5 %]"
    assert found.loc["OLMoE-7B", "T = 1"] == "9 of 240 [2.0 %, 7.0 %]"


def test_no_published_change_is_shown_to_be_small_and_none_to_be_there() -> None:
    found = audit.stability().set_index("model")
    assert set(found["within 5 points"]) == {"not shown"}
    for model, accuracies in ACCURACY.items():
        change, low, high = numbers(found.loc[model, "change, points"])
        assert change == pytest.approx(100 * (accuracies[-1] - accuracies[0]), abs=0.06)
        error = math.sqrt(sum(p * (1 - p) / 240 for p in (accuracies[0], accuracies[-1])))
        assert high - low == pytest.approx(100 * 2 * 1.96 * error, abs=0.15)
        assert low < 0 < high
    assert set(audit.stability(margin=0.2)["within 20 points"]) == {"yes"}


def shipped() -> pd.DataFrame:
    four = "seed == 0 and architecture in ['dense', 'sparse'] and stage in ['base', 'instruct']"
    return measured().query(f"{PLANNED} and {four}")


def test_what_pairing_spares_is_what_paired_draws_show() -> None:
    spared = audit.spared_by_pairing(shipped())
    assert 0.7 < spared.min() < spared.max() < 0.82
    cold, hot = (shipped().query("temperature == @t") for t in (0.0, 1.0))
    rng = np.random.default_rng(0)
    own = hot.query("architecture == 'dense' and stage == 'base'").set_index("problem_id")["lower"].clip(0, 1)
    greedy = cold.query("architecture == 'dense' and stage == 'base'").set_index("problem_id")["lower"]
    changes = [(rng.binomial(4, own) / 4 - greedy.loc[own.index]).var(ddof=1) for _ in range(400)]
    independent = sum(side.mean() * (1 - side.mean()) for side in (own, greedy))
    assert spared["tiny-dense-base"] == pytest.approx(1 - np.mean(changes) / independent, abs=0.01)


def test_what_the_page_says_of_stability_is_what_the_table_shows() -> None:
    spared = audit.spared_by_pairing(shipped())
    found = audit.stability([0.0, spared.min(), spared.max()]).assign(z=lambda t: t["z"].map(lambda z: numbers(z)[0]))
    alone, paired_too = found[found["variance"] == "independent"], found[found["variance"] != "independent"]
    assert set(alone["within 5 points"]) == {"not shown"}
    assert set(paired_too["within 5 points"]) == {"yes"}
    beyond = paired_too[paired_too["z"].abs() > norm.ppf(0.975)]
    assert set(beyond["model"]) == {"OLMoE-7B"}
    assert 3 * 2 * norm.sf(paired_too["z"].abs().max()) > 0.05  # the smallest p of three, by Holm's method
    relative = found.groupby("model", sort=False)["within 25% of greedy"].agg(set)
    assert relative.tolist() == [{"not shown"}, {"yes", "not shown"}, {"yes"}]
    assert min(numbers(cell)[0] for cell in paired_too["of the greedy accuracy"]) < -65


def test_the_first_integer_is_read_where_the_sum_begins() -> None:
    read = audit.first_integers(["69", "(23 - 7) * 4 + 5 = 69"])
    assert read["first integer"].tolist() == ["69", "23"]
    assert read["the only number"].tolist() == ["69", "none"]
    assert read["marked answer"].tolist() == ["69", "69"]


def test_of_the_rules_the_one_that_looks_for_marks_reads_outputs_best(draws: pd.DataFrame) -> None:
    rows = list(map(json.loads, audit.ANSWERS.read_text(encoding="utf-8").splitlines()))
    assert len(rows) >= 150
    assert sum(row["split"] == "test" for row in rows) == pytest.approx(len(rows) / 3, abs=1)
    table = audit.answer_rules().set_index(["asked for", "rule"])
    recall = {key: numbers(cell)[0] for key, cell in table["recall"].items()}
    precision = {key: numbers(cell)[0] for key, cell in table["precision"].items()}
    for other in ("first", "last", "sole", "math-verify 0.9.0"):
        assert recall["a number", "marked"] > recall["a number", other] + 10
    assert precision["a number", "marked"] > precision["a number", "first"] + 50
    assert precision["a number", "sole"] > 90
    labelled = [row for row in rows if row["split"] == "test" and row["kind"] == "number"]
    right = sum(extract_answer(row["text"])[0] == only_answer(row["answer"]) for row in labelled if row["answer"])
    assert recall["a number", "first"] == round(100 * right / sum(row["answer"] is not None for row in labelled))
    by_rule = audit.by_rule({"m": draws}).set_index("rule")
    assert by_rule.index.tolist() == ["first", "last", "marked", "sole"]
    for temperature in ("T = 0", "T = 1"):  # it goes on after its answer
        share = {rule: float(by_rule.loc[rule, temperature].rstrip("%")) for rule in by_rule.index}
        assert share["marked"] > share["first"] - 5
        assert max(share["last"], share["sole"]) < share["first"] / 10
    hot = draws[draws["temperature"] == 1.0]
    assert by_rule.loc["first", "T = 1"] == f"{hot['correct'].mean():.1%}"


def test_a_constant_answer_solves_one_problem_more_than_the_published_floor() -> None:
    constant = paper_problems()["answer"].value_counts().iloc[0]
    assert constant == round(ACCURACY["OLMoE-7B"][-1] * 240) + 1


def test_power_grows_with_runs_and_with_the_drop(draws: pd.DataFrame) -> None:
    given = design.variances([(draws.query("temperature == 0"), draws.query("temperature == 1"))])
    table = audit.power(**given)
    for _, some in table.groupby("runs"):
        assert some["power"].is_monotonic_increasing
    at = table[table["drop"] == 0.05].set_index("runs")["power"]
    assert at["1 run"] < at["4 runs"] < at["16 runs"]
    assert at["4 runs"] == design.power(0.05, 240, 4, **given)


def test_arms_stand_beside_each_other_with_their_drops(draws: pd.DataFrame) -> None:
    found = audit.arms(pd.concat([draws.assign(arm="one"), draws.assign(arm="two", correct=True)])).set_index("arm")
    assert found.loc["two"].tolist() == ["100.0%", "100.0%", "+0.0 [+0.0, +0.0]"]
    assert numbers(found.loc["one", "change, points"])[0] < 0


def test_confidences_agree_at_greedy_and_at_one_and_differ_between(draws: pd.DataFrame) -> None:
    found = audit.confidences(draws).set_index("T")
    assert found.loc["0", "raw"] == found.loc["0", "as published"]
    assert found.loc["1", "raw"] == found.loc["1", "as published"]


def test_the_papers_rules_never_say_wrong_operation_and_ours_are_scored_on_both_parts() -> None:
    labelled = audit.labelled()
    assert "wrong_operation" not in set(labelled["papers"])
    crossed = audit.confusion(labelled).set_index("label")
    assert int(crossed.loc["ran_on", "(counted as right)"]) == (labelled["label"] == "ran_on").sum()
    rules = audit.rules(labelled).set_index("class")
    assert rules.loc["empty", "precision, all"] == "100 % [51, 100]"
    assert rules.loc["transposed", "precision, test"] == "100 % [21, 100]"  # "100 % may be as little as 21"
    assert labelled["source"].value_counts().to_dict() == {"written": 90, "tiny": 78}
    assert {"recall, test", "labelled, all"} <= set(rules.columns)


def test_every_figure_and_table_of_the_page_can_be_drawn(draws: pd.DataFrame) -> None:
    hot = draws.query("temperature == 1")
    confident, right = calibration.text_probability(hot), hot["correct"].to_numpy(bool)
    for chart in (
        audit.power_curves(audit.power(0.03, 0.17), "Power", "Curves."),
        audit.reliability_diagram(calibration.reliability(confident, right), "Calibration", "Points.", subtitle="pure"),
    ):
        assert bundle(chart.to_dict())["image/png"]
    assert evaluate.agreement(draws)["T"].tolist() == ["1"]


def test_chance_on_the_papers_problems() -> None:
    found = audit.chance().set_index("rule")["accuracy"]
    binding = paper_problems().query("task == 'variable_binding'")
    shares = {name: (binding[name] == binding["answer"]).mean() for name in "abk"}
    assert found["always 13"] == f"{10 / 240:.1%}"
    assert max(shares, key=lambda name: shares[name]) == "a"
    assert found["always a, variable binding"] == f"{shares['a']:.1%}"


def test_trends_and_what_pairing_spares_are_shown_by_model(draws: pd.DataFrame) -> None:
    found = audit.trends({"a": draws, "b": draws}).set_index("model")
    slope = trend(draws)
    assert found.loc["a", "slope"] == with_interval(slope["slope"], slope["low"], slope["high"], form="{:+.2f}")
    assert float(found.loc["a", "p, Holm"]) == pytest.approx(2 * slope["p"], rel=0.1)
    more = pd.concat([draws, draws[draws["temperature"] == 1.0].assign(temperature=0.5)])
    assert audit.spared({"a": more})["common random numbers"].tolist() == ["100%"]


def test_titles_follow_the_data() -> None:
    table = pd.DataFrame(
        {"runs": ["1 run"] * 2 + ["16 runs"] * 2, "drop": [0.1, 0.15] * 2, "power": [0.3, 0.7, 0.8, 0.9]}
    )
    assert audit.power_title(table) == (
        "80% of the time, 240 problems find a drop of more than 15.0 points with 1 run and 10.0 points with 16 runs"
    )
    bins = pd.DataFrame({"confidence": [0.5, 0.9], "low": [0.4, 0.8], "high": [0.6, 1.0]})
    assert audit.reliability_title(bins) == "In all 2 groups, confidence lies within the interval of accuracy"
    assert audit.reliability_title(bins.assign(confidence=[0.5, 0.7])).startswith(
        "Confidence misses accuracy in 1 of 2"
    )
