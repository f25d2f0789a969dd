from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import expit

import lmrel
from lmrel import InputError, files, records
from lmrel.stats.comparison import Comparison
from lmrel.stats.inference import clustered_wilson
from tests.conftest import tiny

BASE = {"precision": "fp32", "prompt_style": "few_shot", "decoding": "pure", "task": "arithmetic", "expected": 1}
HOSTILE = "<script>alert(1)</script>"


def run(cold: Any, hot: Any, **columns: Any) -> pd.DataFrame:
    """Draws of a model: of each problem the greedy answer, and those of its runs at temperature 1; 1 is right."""
    cold, hot = np.atleast_2d(cold).T if np.ndim(cold) == 1 else np.asarray(cold), np.asarray(hot)
    tables = []
    for temperature, answers in ((0.0, cold), (1.0, hot)):
        problems, runs = answers.shape
        table = pd.DataFrame(
            {
                "problem_id": np.repeat([f"p{i:04d}" for i in range(problems)], runs),
                "run": np.tile(range(runs), problems),
                "extracted": pd.array(answers.ravel(), dtype="Int64"),
            }
        )
        tables.append(table.assign(temperature=temperature, decoder=f"d{temperature:g}"))
    draws = pd.concat(tables, ignore_index=True).assign(model="m", **BASE)
    # Texts differ where answers are equal, as those of a model that explains itself.
    text = draws["extracted"].astype(str) + " by way " + draws.index.astype(str)
    return draws.assign(text=text, correct=draws["extracted"] == 1, **columns)


def answers(rng: np.random.Generator, chances: np.ndarray, runs: int) -> np.ndarray:
    """Answers of each problem: 1 with its chance, else 2 or 3."""
    right = rng.random((len(chances), runs)) < chances[:, None]
    return np.where(right, 1, rng.integers(2, 4, right.shape))


def two(seed: int = 0, problems: int = 60, runs: tuple[int, int] = (4, 4), **columns: Any) -> list[pd.DataFrame]:
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(0.8, 1.0, problems))
    return [
        run(answers(rng, p, 1)[:, 0], answers(rng, q, n), model=name, **columns)
        for name, q, n in (("one", p - 0.3 * p, runs[0]), ("other", p - 0.1 * p, runs[1]))
    ]


def row(found: Comparison, quantity: str, of: str) -> tuple[float, float, float]:
    rows = found.table[found.table["quantity"].str.startswith(quantity) & (found.table["of"] == of)]
    return tuple(rows[["estimate", "low", "high"]].to_numpy()[0])


def means(draws: pd.DataFrame, temperature: float, column: str = "correct") -> np.ndarray:
    return draws[draws["temperature"] == temperature].groupby("problem_id")[column].mean().to_numpy(float)


def test_levels_drops_and_their_difference_are_those_of_scipy_on_paired_problems() -> None:
    a, b = two()
    found = lmrel.compare(a, b.sample(frac=1, random_state=0))
    drops = [means(draws, 0.0) - means(draws, 1.0) for draws in (a, b)]
    for of, draws, drop in (("a", a, drops[0]), ("b", b, drops[1])):
        assert row(found, "correct at T = 1", of) == pytest.approx(clustered_wilson(means(draws, 1.0)))
        ends = stats.ttest_1samp(drop, 0.0).confidence_interval(0.95)
        assert row(found, "drop", of) == pytest.approx((drop.mean(), ends.low, ends.high))
    ends = stats.ttest_rel(*drops).confidence_interval(0.95)
    assert row(found, "drop", "difference") == pytest.approx(((drops[0] - drops[1]).mean(), ends.low, ends.high))
    assert row(found, "drop", "difference") == (found.difference, found.low, found.high)
    apart = means(a, 1.0) - means(b, 1.0)
    ends = stats.ttest_1samp(apart, 0.0).confidence_interval(0.95)
    assert row(found, "correct at T = 1", "difference") == pytest.approx((apart.mean(), ends.low, ends.high))
    assert (found.names, found.problems, found.runs) == (("one", "other"), 60, 4)


def test_repeats_are_judged_by_subsets_as_large_as_the_smaller_run_has() -> None:
    a, b = two(1, runs=(3, 5))
    found = lmrel.compare(a, b)
    assert found.runs == 3
    for of, draws in (("a", a), ("b", b)):
        hot = draws[draws["temperature"] == 1].groupby("problem_id")["extracted"].agg(list)
        subsets = [list(combinations(some, 3)) for some in hot]
        one_right = [np.mean([1 in three for three in some]) for some in subsets]
        assert row(found, "right in one of 3", of) == pytest.approx(clustered_wilson(one_right))
        alike = [np.mean([len(set(three)) == 1 for three in some]) for some in subsets]
        assert row(found, "same answer in 3", of) == pytest.approx(clustered_wilson(alike))
        greedy = draws[draws["temperature"] == 0]["extracted"].tolist()
        flipped = [np.mean([answer != first for answer in some]) for some, first in zip(hot, greedy, strict=True)]
        assert row(found, "other answer than greedy", of) == pytest.approx(clustered_wilson(flipped))


def test_wins_are_counted_by_problem_at_each_temperature() -> None:
    a = run([1, 1, 1, 2], [[1, 1], [1, 2], [2, 2], [1, 2]])
    b = run([1, 2, 2, 1], [[1, 1], [2, 1], [1, 2], [2, 2]])
    assert lmrel.compare(a, b).wins.to_numpy().tolist() == [[0, 2, 1, 1], [1, 1, 1, 2]]


def test_the_interval_of_the_difference_covers_the_truth_and_equivalence_keeps_its_level() -> None:
    rng, covered, wrongly, studies = np.random.default_rng(2), 0, 0, 50
    ease = rng.normal(0.8, 1.2, 50_000)
    chances = [(expit(ease) > 0.5).astype(float), expit(ease - 0.4), expit(ease), expit(ease - 0.6)]
    truth = float(np.mean(chances[0] - chances[1] - chances[2] + chances[3]))
    for _ in range(studies):
        some = rng.choice(len(ease), 80, replace=False)
        sides = [answers(rng, p[some], n) for p, n in zip(chances, (1, 3, 1, 3), strict=True)]
        found = lmrel.compare(run(sides[0][:, 0], sides[1]), run(sides[2][:, 0], sides[3]), margin=abs(truth))
        covered += found.low <= truth <= found.high
        wrongly += found.equivalent
    assert covered / studies == pytest.approx(0.95, abs=0.08)
    assert wrongly / studies <= 0.12


def test_problems_of_one_cluster_are_one_unit() -> None:
    a, b = two(3, 20)
    copies = [
        pd.concat([d.assign(problem_id=d["problem_id"] + str(i), cluster=d["problem_id"]) for i in range(10)])
        for d in (a, b)
    ]
    once, often = lmrel.compare(a, b), lmrel.compare(*copies)
    assert (often.difference, often.low, often.high) == pytest.approx((once.difference, once.low, once.high))
    unknown = lmrel.compare(a.assign(cluster=None), b.assign(cluster=b["problem_id"]))
    assert (unknown.low, unknown.high) == (once.low, once.high)
    half = lmrel.compare(copies[0].drop(columns="cluster"), copies[1])  # one run knows the clusters
    assert (half.low, half.high) == (often.low, often.high)
    with pytest.raises(InputError, match="all problems are of one cluster; at least 2"):
        lmrel.compare(a.assign(cluster="x"), b)
    single = [draws[draws["problem_id"] == "p0000"] for draws in (a, b)]
    with pytest.raises(InputError, match="all problems are of one cluster; at least 2"):
        lmrel.compare(*single)


@pytest.mark.parametrize(
    ("drop_a", "drop_b", "margin", "verdict"),
    [
        (0.5, 0.1, 0.05, "loses more"),
        (0.1, 0.5, 0.05, "loses less"),
        (0.3, 0.3, 0.2, "equivalent within ±20 points"),
        (0.4, 0.3, 0.3, "loses more, but within ±30 points"),
        (0.32, 0.3, 0.01, "not settled"),
    ],
)
def test_the_verdict_and_its_sentence(drop_a: float, drop_b: float, margin: float, verdict: str) -> None:
    rng, ones = np.random.default_rng(4), np.ones(300, int)
    hot = [answers(rng, np.full(300, 1 - drop), 4) for drop in (drop_a, drop_b)]
    runs = [run(ones, some, model=name) for some, name in zip(hot, "xy", strict=True)]
    found = lmrel.compare(*runs, margin=margin)
    assert found.verdict == verdict
    assert found.equivalent == ("within" in verdict)
    assert ("For a chance of 80 % it takes" in found.sentence) == (verdict == "not settled")
    assert "points in x and by" in found.sentence
    assert "95 % intervals over 300 problems" in found.sentence
    swapped = lmrel.compare(*reversed(runs), margin=margin)
    assert (swapped.difference, swapped.low) == pytest.approx((-found.difference, -found.high))


def test_what_would_settle_it_does_so_in_simulation() -> None:
    a, b = two(5, 150)
    found = lmrel.compare(a, b)
    needed = found.needed.set_index("aim")
    problems, runs = int(needed.loc["difference", "problems"]), found.runs
    assert lmrel.power(found.difference, problems, runs, **found.variances) == pytest.approx(0.8, abs=0.03)
    assert needed.loc["difference", "least_problems"] < problems
    rng = np.random.default_rng(6)
    differences = (means(a, 0.0) - means(a, 1.0)) - (means(b, 0.0) - means(b, 1.0))
    sampled = rng.choice(differences, (1000, problems))  # new studies, by the bootstrap
    shown = stats.ttest_1samp(sampled, 0.0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.06)


def test_a_single_draw_tells_problems_but_not_runs() -> None:
    found = lmrel.compare(*two(7, runs=(1, 1)))
    assert found.needed["runs"].isna().all()
    assert (found.needed["problems"] > 0).all()
    assert "with any number of runs" not in found.outlook
    assert any("one draw at the higher temperature" in note for note in found.notes)
    assert not found.table["quantity"].str.contains("pass@").any()


def test_a_run_against_itself_differs_by_nothing_and_the_interval_rests_on_the_number_of_problems() -> None:
    a, _ = two(8, 240)
    found = lmrel.compare(a, a.copy())
    assert found.difference == 0.0
    assert found.high == -found.low == pytest.approx(2 * stats.binomtest(0, 240).proportion_ci(method="exact").high)
    assert found.verdict == "equivalent within ±5 points"
    assert found.names == ("one (a)", "one (b)")
    assert any("all texts of the two runs are the same: they are one run" in note for note in found.notes)
    other = lmrel.compare(a, a.assign(prompt_style="another"), across=["prompt_style"])
    assert "all texts of the two runs are the same." in other.notes  # two prompts may have the same answers
    few = lmrel.compare(*[a[a["problem_id"] < "p0010"]] * 2)
    assert (few.difference, few.verdict) == (0.0, "not settled")
    assert few.needed.empty
    assert any("the same in all 10 problems; of others up to" in note for note in few.notes)


def test_no_interval_leaves_what_a_difference_can_be() -> None:
    right, wrong = np.ones((3, 4), int), np.full((3, 4), 2)
    several = np.where(np.arange(12).reshape(3, 4) % 4, wrong, right)
    several[0] = right[0]
    for one, other in ((right, wrong), (wrong, several), (several, right)):
        found = lmrel.compare(run(right[:, 0], one, model="a"), run(wrong[:, 0], other, model="b")).table
        reach = np.where(found["quantity"].eq("drop") & found["of"].eq("difference"), 2.0, 1.0)
        assert (found[["low", "high"]].abs().to_numpy() <= reach[:, None]).all()
        assert (found["low"] <= found["estimate"] + 1e-12).all()
        assert (found["estimate"] <= found["high"] + 1e-12).all()


def test_equivalence_at_a_floor_says_so_and_copies_are_named() -> None:
    rng = np.random.default_rng(9)
    low = [run(np.full(300, 2), answers(rng, np.full(300, 0.01), 4)) for _ in range(2)]
    assert any("so near a floor there is little to lose" in note for note in lmrel.compare(*low).notes)
    a, b = two(10, 60)
    alike = a["problem_id"].where(a["temperature"] == 1, a["text"])
    assert not any("are copies" in note for note in lmrel.compare(a, b).notes)
    [note] = lmrel.compare(a.assign(text=alike), b).notes
    assert note.startswith("the repeats of one at temperature 1 are copies")


@pytest.mark.parametrize("kind", ["bool", "boolean", "float64", "object"])
def test_any_outcome_from_0_to_1_may_be_compared_and_of_runaway_less_is_better(kind: str) -> None:
    rng = np.random.default_rng(11)
    a, b = (draws.assign(mine=rng.random(len(draws)) < 0.5).astype({"mine": kind}) for draws in two(12))
    found = lmrel.compare(a, b, metric="mine")
    assert row(found, "mine at T = 1", "b")[0] == pytest.approx(means(b, 1.0, "mine").mean())
    opposite = lmrel.compare(a.assign(runaway=a["mine"]), b.assign(runaway=b["mine"]), metric="runaway")
    assert opposite.metric == "not runaway"
    assert opposite.difference == pytest.approx(-found.difference)
    assert opposite.wins[["a", "b"]].to_numpy().tolist() == found.wins[["b", "a"]].to_numpy().tolist()


def test_temperatures_may_be_any_two_with_or_without_greedy_draws() -> None:
    a, b = (draws.replace({"temperature": {0.0: 0.5}}) for draws in two(13))
    found = lmrel.compare(a, b, temperatures=(0.5, 1.0))
    assert not found.table["quantity"].str.contains("greedy").any()
    assert lmrel.compare(a, b, temperatures=(1.0, 0.5)).difference == pytest.approx(-found.difference)
    assert lmrel.compare(*two(13)).table["quantity"].str.contains("greedy").any()


A, B = two(14, 10)
FIRST = A["problem_id"] == "p0000"


@pytest.mark.parametrize(
    ("a", "b", "options", "said"),
    [
        (A, B.assign(problem_id="q" + B["problem_id"]), {}, "a and b have no problem in common"),
        (
            A,
            B[B["problem_id"] != "p0003"],
            {},
            "a has 10 problems and b 9, of which 9 .* 'p0003' is in one only",
        ),
        (A, B.assign(expected=2), {}, r"a and b have another right answer for problem 'p0000': \[1, 2\]"),
        (A.assign(cluster="x"), B.assign(cluster="y"), {}, r"have another question for problem 'p0000': \['x', 'y'\]"),
        (A[~FIRST | (A["temperature"] == 0)], B, {}, "a at temperature 0 has 10 problems and a at temperature 1 9"),
        (
            A,
            B.assign(prompt_style="readme"),
            {},
            r"the prompt_style of a is 'few_shot' and that of b 'readme'; .*across=",
        ),
        (A, B.assign(decoder="x"), {}, "at temperature 0 the decoder of a is 'd0' and that of b 'x'"),
        (A.assign(answer="first"), B.assign(answer="last"), {}, "the answer of a is 'first' and that of b 'last'"),
        (A, B, {"temperatures": (0, 0.5)}, r"a at temperature 0.5 has no draw; its temperatures are \[0.0, 1.0\]"),
        (A, B, {"temperatures": (0, 0.5, 1)}, "temperatures is .*; it must be two, such as"),
        (A, B, {"temperatures": (1, 1)}, "temperatures is .*; each may occur once"),
        (A, B, {"metric": "mine"}, "a has no column 'mine'; it must be a table of draws"),
        (A, B.drop(columns="text"), {}, "b has no column 'text'"),
        (
            A,
            B,
            {"metric": "extracted"},
            "a at temperature 0 has .* draws whose extracted is missing or no",
        ),
        (A, B, {"metric": "model"}, "a at temperature 0 has 10 draws whose model is missing or no number"),
        (A, B.assign(correct=0.5), {}, "b has draws that are neither right nor wrong"),
        (A, B, {"margin": 5}, "margin is 5; it must be a number above 0 to 1"),
        (A, B, {"across": "prompt"}, "across is 'prompt'; it must be one of"),
        (
            pd.concat([A, A.assign(decoder="x", run=A["run"] + 9)]),
            B,
            {},
            r"several values of decoder, \['d0', 'x'\]",
        ),
        (pd.concat([A, A]), B, {}, "a at temperature 0 has a run of a problem twice"),
        (5, B, {}, "a is 5; it must be a table of draws or the folder of a run"),
        ("nowhere", B, {}, "nowhere/run.json cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(a: Any, b: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        lmrel.compare(a, b, **options)
    assert len(str(error.value).splitlines()) == 1


def test_what_is_named_may_differ() -> None:
    other = B.assign(prompt_style="readme", decoder="x", answer="last")
    found = lmrel.compare(A.assign(answer="first"), other, across=["prompt_style", "decoder", "answer"])
    assert found.difference == lmrel.compare(A, B).difference
    assert lmrel.compare(A, B.assign(decoder="x"), across="decoder").difference == found.difference


def written(folder: Path, draws: pd.DataFrame, system: str | None = None) -> Path:
    folder.mkdir(parents=True)
    draws.to_parquet(folder / records.DRAWS)
    files.write_json({"parameters": {"system": system}}, folder / records.RUN)
    return folder


def test_folders_of_runs_have_their_names_and_their_system_messages(tmp_path: Path) -> None:
    a, b = written(tmp_path / "x" / "mine", A), written(tmp_path / "theirs", B)
    found = lmrel.compare(a, str(b))
    assert found.names == ("mine", "theirs")
    assert found.difference == lmrel.compare(A, B).difference
    strict = written(tmp_path / "strict", B, "Be brief.")
    with pytest.raises(InputError, match="the system of a is '' and that of b 'Be brief.'"):
        lmrel.compare(a, strict)
    assert lmrel.compare(a, strict, across=["system"]).difference == found.difference


def test_it_prints_a_sentence_and_a_table_and_escapes_names_in_a_notebook() -> None:
    found = lmrel.compare(A.assign(model=HOSTILE), B)
    lines = str(found).splitlines()
    assert repr(found) == str(found)
    assert lines[0] == found.sentence
    assert HOSTILE in lines[0]
    assert "correct at T = 0" in str(found)
    assert f"{found.wins['alike'][0]} alike" in str(found)
    shown = found._repr_html_()
    assert "<script" not in shown
    assert "&lt;script" in shown
    assert "<table" in shown
    assert found.shown().columns.tolist() == [HOSTILE, "other", "difference, points"]


def test_draws_of_two_shipped_models_are_compared() -> None:
    decoders = [lmrel.Decoder(0.0), lmrel.Decoder(1.0)]
    problems = lmrel.paper_problems().iloc[::24]
    draws = [lmrel.sample(*tiny(f"tiny-dense-{stage}"), problems, decoders, runs=2) for stage in ("base", "instruct")]
    found = lmrel.compare(*draws)
    assert found.problems == 10
    assert found.names == ("tiny-dense-base", "tiny-dense-instruct")
    assert not any("copies" in note for note in found.notes)
