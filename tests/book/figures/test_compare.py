from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

import lmrel
from book.figures import compare
from book.figures.text import Lines
from lmrel import InputError, files, records
from study.runner import run_notebook
from tests.conftest import ROOT
from tests.lmrel.stats.test_comparison import two

HOSTILE = "<script>alert(1)</script>"
OTHERS = {"compliant": True, "runaway": False, "finished": True, "mean_logprob": -1.0, "mean_logprob_processed": -1.0}
PARAMETERS = {"model": "m", "prompt_style": "few_shot", "system": None, "decoding": "pure", "output_dir": "x"}


def whole(draws: pd.DataFrame) -> pd.DataFrame:
    """Draws with all columns that a study's page reads."""
    question = "Solve.\n" + draws["problem_id"].astype(str) + " plus 1 ="
    return draws.assign(n_tokens=3, answer="first", cluster=draws["problem_id"], prompt=question, **OTHERS)


def finished(folder: Path, draws: pd.DataFrame, **parameters: Any) -> Path:
    folder.mkdir(parents=True)
    whole(draws).to_parquet(folder / records.DRAWS)
    record = {"parameters": PARAMETERS | parameters, "precision": "fp32", "decoding_id": "0d", "started": "2026-11-30T"}
    files.write_json(record, folder / records.RUN)
    return folder


def study(place: Path, **draws: pd.DataFrame) -> list[str]:
    for name, some in draws.items():
        finished(place / name, some)
    return list(draws)


def cells(table: pd.DataFrame | str) -> list[list[str]]:
    assert isinstance(table, pd.DataFrame)
    return table.to_numpy().tolist()


def test_conditions_show_their_model_and_what_they_differ_in_and_nothing_else(tmp_path: Path) -> None:
    a, b = two(problems=12)
    finished(tmp_path / "one", a, output_dir="y", top_p=None)
    finished(tmp_path / "other", b, prompt_style="zero_shot", top_p=0.9)
    found = compare.read(tmp_path, ["one", "other"])
    table = compare.conditions(found)
    assert isinstance(table, pd.DataFrame)
    assert [*table] == ["condition", "model", "prompt_style", "top_p", "problems asked", "draws"]
    assert cells(table) == [
        ["one", "m", "few_shot", "not set", "12", "60"],
        ["other", "m", "zero_shot", "0.9", "12", "60"],
    ]
    assert set(found.summary["model"]) == {"one", "other"}  # and not the model that both are of
    assert compare.overview(found)[-1] == "2 of 2 conditions have finished: 120 draws of 12 problems."


def test_what_has_not_finished_is_said_and_the_others_are_compared(tmp_path: Path) -> None:
    a, b = two(problems=12)
    names = study(tmp_path, one=a, two=b, again=a, kept=b)
    (tmp_path / "again" / compare.FAILED).write_text("It broke\nlater.\n")
    for name in ("failed", "damaged"):
        (tmp_path / name).mkdir()
    (tmp_path / "failed" / "shards" / "1-of-2").mkdir(parents=True)
    (tmp_path / "failed" / "shards" / "1-of-2" / compare.FAILED).write_text(f"InputError: {HOSTILE}\x1b\n")
    (tmp_path / "damaged" / records.RUN).write_text("{}")
    found = compare.read(tmp_path, [*names[:3], "failed", "damaged", "later"])
    said = dict(line.split(": ", 1) for line in compare.missing(found))
    assert said["failed"] == f"{HOSTILE}\x1b"
    assert said["later"] == "not run yet"
    assert "damaged/run.json holds something else: it has no 'parameters'" in said["damaged"]
    assert said["again"] == "its last try failed, and what is shown is of an earlier one: It broke later."
    assert list(found.records) == ["one", "two", "again"]
    assert said["Finished, but not in this study, and kept"] == "kept"
    (tmp_path / "again" / compare.FAILED).unlink()
    assert compare.missing(compare.read(tmp_path, [*names, "damaged"]))[0].startswith("damaged: ")
    (tmp_path / "damaged" / records.RUN).unlink()
    assert compare.missing(compare.read(tmp_path, [*names])) == ["All conditions have finished."]
    assert len(compare.pairs(found)) == 3


@pytest.mark.parametrize("count", [0, 1])
def test_with_fewer_than_two_finished_runs_nothing_is_compared(tmp_path: Path, count: int) -> None:
    names = study(tmp_path, one=two(problems=12)[0])[:count]
    found = compare.read(tmp_path, [*names, "later"])
    assert compare.overview(found)[-1].startswith(f"{count} of {count + 1} conditions have finished")
    assert compare.shown_pairs(found, compare.pairs(found)) == [f"{compare.NOTHING} and two temperatures."]
    assert compare.levels(found) == [f"{compare.NOTHING} on the same problems."]
    assert isinstance(compare.conditions(found), Lines if count == 0 else pd.DataFrame)
    assert isinstance(compare.shown_drops(found), Lines if count == 0 else pd.DataFrame)


def test_a_drop_that_is_the_same_in_all_problems_is_not_certain(tmp_path: Path) -> None:
    a, _ = two(problems=12)
    found = compare.read(tmp_path, study(tmp_path, one=a.assign(correct=True), two=a.assign(correct=True)))
    [one, _] = compare.drops(found).to_dict("records")
    assert (one["drop"], one["high"]) == (0.0, pytest.approx(1 - 0.025 ** (1 / 12)))
    [[_, _, _, difference, *_], _] = cells(compare.levels(found))
    assert "[" in difference
    assert "[+0.0, +0.0]" not in difference


def test_drops_are_paired_and_fall_where_accuracy_does(tmp_path: Path) -> None:
    a, _ = two()
    found = compare.read(tmp_path, study(tmp_path, one=a))
    means = a.groupby("temperature")["correct"].mean()
    [row] = compare.drops(found).to_dict("records")
    assert row["drop"] == pytest.approx(means[0.0] - means[1.0])
    assert row["low"] < row["drop"] < row["high"]
    [[name, shown, problems]] = cells(compare.shown_drops(found))
    assert (name, problems) == ("one", "60")
    assert shown.startswith(f"{100 * row['drop']:+.1f} [")
    [said] = compare.lost(found)
    assert said.startswith(f"Points lost from greedy to T = 1: one {100 * row['drop']:.1f} [")
    alone = compare.read(tmp_path, ["one"], temperatures=[0.0])
    assert compare.drops(alone).empty
    assert compare.lost(alone) == []


def test_verdicts_are_those_of_compare_and_are_corrected_for_the_number_of_pairs(tmp_path: Path) -> None:
    a, b = two()
    hot = b["temperature"] == 1
    same = b.assign(correct=b["correct"].where(hot | (b["problem_id"] != "p0000"), ~b["correct"]))
    found = compare.read(tmp_path, study(tmp_path, one=a, two=b, same=same), margin=0.1)
    compared = compare.pairs(found)
    shown = compare.shown_pairs(found, compared)
    assert isinstance(shown, pd.DataFrame)
    direct = lmrel.compare(whole(a), whole(b), margin=0.1)
    assert shown["alone"].iloc[0] == direct.verdict
    assert shown["difference, points"].iloc[0] == direct.shown().loc["drop of correct, points"].iloc[-1]
    single = compare.read(tmp_path, ["one", "two"], margin=0.1)
    [alone] = compare.shown_pairs(single, compare.pairs(single))["p, corrected"]  # type: ignore[call-overload,index]
    assert float(shown["p, corrected"].iloc[0]) > float(alone)
    assert shown["corrected"].iloc[2] == "equivalent within ±10 points"


def test_a_pair_that_alone_differs_may_not_do_so_among_many(tmp_path: Path) -> None:
    for seed in range(100):
        a, b = two(seed, problems=40)
        direct = lmrel.compare(a, b)
        if 0.01 < abs(direct.low) < 0.02 and direct.verdict.startswith("loses"):
            break
    names = study(tmp_path, one=a, two=b, three=a, four=b, five=a)
    found = compare.read(tmp_path, names)
    first = cells(compare.shown_pairs(found, compare.pairs(found)))[0]
    assert first[3].startswith("loses more")
    assert first[5] == "not settled"


def test_what_parameters_differ_in_may_differ_and_nothing_else(tmp_path: Path) -> None:
    a, b = two(problems=12)
    finished(tmp_path / "one", a)
    finished(tmp_path / "zero", b.assign(prompt_style="zero_shot", decoder="x"), prompt_style="zero_shot", top_p=0.5)
    finished(tmp_path / "told", b, system="Be brief.")
    finished(tmp_path / "odd", b.assign(decoder="x"))
    finished(tmp_path / "elsewhere", b.assign(expected=2))
    names = ["one", "zero", "told", "odd", "elsewhere"]
    compared = compare.pairs(found := compare.read(tmp_path, names))
    assert not isinstance(compared["one", "zero"], InputError)
    assert not isinstance(compared["one", "told"], InputError)
    verdicts = {(row[0], row[1]): row[3] for row in cells(compare.shown_pairs(found, compared))}
    assert verdicts["one", "odd"] == verdicts["one", "elsewhere"] == "not compared"
    said = dict(line.split(": ", 1) for line in compare.refused(compared))
    assert said["Not compared, one (a) with odd (b)"].startswith("at temperature 0 the decoder of a is 'd0'")
    assert "have another right answer for problem" in said["Not compared, one (a) with elsewhere (b)"]
    assert not any("zero" in pair and "one" in pair for pair in said)
    assert compare.refused({("one", "zero"): compared["one", "zero"]}) == ["All pairs were compared."]
    assert ["one", "elsewhere"] not in [row[1:3] for row in cells(compare.levels(found))]
    record = {"parameters": {"decoding": "as_shipped"}}
    assert compare.meant(record, record) == ["decoder"]  # those of the model
    assert compare.meant({"parameters": {}}, {"parameters": {"answer": "last", "template": "t"}}) == ["answer"]


def test_at_one_temperature_wins_are_counted_and_shown_with_their_questions(tmp_path: Path) -> None:
    a, b = two(problems=12)
    greedy = a["temperature"] == 0
    a = a.assign(correct=a["correct"] | greedy)
    b = b.assign(correct=a["correct"] & (b["problem_id"].isin(["p0003"]) == ~greedy))
    found = compare.read(tmp_path, study(tmp_path, one=a, two=b), temperatures=[0.0])
    [row] = cells(compare.levels(found))
    assert row[:3] == ["0", "one", "two"]
    assert row[5:] == ["1", "0", "11"]
    assert row[3] == "+8.3 [−10.0, +26.7]"
    assert cells(compare.examples(found, "one", "two")) == [["0", "p0003", "p0003", "100%", "0%"]]
    assert compare.pairs(found) == {}
    worse = compare.read(tmp_path, ["two", "one"], metric="runaway")  # alike in both
    assert compare.examples(worse, "two", "one") == ["There is no problem in which one of them is better."]


def test_a_question_is_what_was_asked_or_the_lines_that_prompts_do_not_share() -> None:
    def asked(prompts: list[str], clusters: list[str]) -> list[str]:
        return compare._questions(pd.DataFrame({"prompt": prompts, "cluster": clusters})).tolist()

    assert asked(["Add.\n1 + 2 = [/I]", "Add.\n1 + 3 = [/I]"], ["1 + 2", "1 + 3"]) == ["1 + 2", "1 + 3"]
    assert asked(["Add.\nAnn has 2\n", "Add.\nAnn had 1\n"], ["q1", "q2"]) == ["Ann has 2⏎", "Ann had 1⏎"]
    assert asked(["one", "one"], ["q1", "q1"]) == ["one", "one"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"runs": ["one", "one"]}, "it must be a list of folders below .*, each once"),
        ({"runs": "one"}, "it must be a list of folders"),
        ({"runs": [1]}, "it must be a list of folders"),
        ({"temperatures": [0, 0.5, 1]}, "it must be one or two"),
        ({"margin": 0}, "margin is 0"),
    ],
)
def test_what_no_study_can_have_is_refused(tmp_path: Path, changes: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        compare.read(tmp_path, **({"runs": ["one"]} | changes))


def test_a_metric_that_draws_lack_or_that_is_no_share_is_said_of_each(tmp_path: Path) -> None:
    study(tmp_path, one=two(problems=12)[0])
    assert "has no column 'nice'" in compare.read(tmp_path, ["one"], metric="nice").remarks["one"]
    assert "no number from 0 to 1" in compare.read(tmp_path, ["one"], metric="mean_logprob").remarks["one"]


def falls(**accuracies: list[float]) -> pd.DataFrame:
    rows = [
        {"model": model, "task": "all", "temperature": float(t), "accuracy": share, "compliance": share}
        for model, shares in accuracies.items()
        for t, share in enumerate(shares)
    ]
    return pd.DataFrame(rows)


def test_a_title_says_what_is_lost_and_only_where_it_is() -> None:
    assert compare.loss_title(falls(a=[0.9, 0.7], b=[0.5, 0.44])) == ("From T = 0 to T = 1, all lose: b 6 points, a 20")
    assert compare.loss_title(falls(a=[0.9, 0.7], b=[0.5, 0.5])) == "From T = 0 to T = 1, 1 of 2 lose accuracy"
    assert compare.loss_title(falls(a=[0.9, 0.7])) == "From T = 0 to T = 1, accuracy falls by 20 points"


def test_compliance_is_said_with_its_range() -> None:
    assert compare.compliance(falls(a=[1.0, 0.98], b=[0.0, 0.0])) == [
        "Outputs that are the answer and nothing else, over all temperatures: a 98% to 100%; b 0%."
    ]


def test_the_page_of_a_study_is_built_from_what_has_finished(tmp_path: Path) -> None:
    a, b = two(problems=12)
    study(tmp_path, one=a, two=b, other=b.assign(expected=2))
    parameters = {"runs": ["one", "two", "other", "later"], "results_dir": str(tmp_path), "temperatures": [1.0, 0.0]}
    done = run_notebook(ROOT / "notebooks" / "study.ipynb", tmp_path / "out.ipynb", parameters, title=HOSTILE)
    notebook = nbformat.read(done, as_version=4)
    assert notebook["cells"][0]["source"].startswith("# \\<script\\>")
    outputs = [each for cell in notebook["cells"] for each in cell.get("outputs", [])]
    text = "\n".join(str(output.get("data") or output["text"]) for output in outputs)
    assert "3 of 4 conditions have finished" in text
    assert "not run yet" in text
    assert "another right answer for problem" in text
    assert lmrel.compare(whole(a), whole(b), temperatures=(1.0, 0.0)).sentence.split(" points in")[0] in text
    assert sum("application/vnd.vegalite.v6+json" in output.get("data", {}) for output in outputs) == 2


def test_the_page_of_a_study_of_which_nothing_has_finished_says_so(tmp_path: Path) -> None:
    parameters = {"runs": ["later"], "results_dir": str(tmp_path)}
    done = run_notebook(ROOT / "notebooks" / "study.ipynb", tmp_path / "out.ipynb", parameters)
    text = done.read_text()
    assert "0 of 1 conditions have finished" in text
    assert compare.NOTHING in text
