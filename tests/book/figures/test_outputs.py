from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from book.figures import outputs as pages
from tests.book.figures.drawing import TEXT, assert_draws
from tests.conftest import ROOT

STORED = {path.stem: pd.read_parquet(path) for path in pages.DATA.glob("*.parquet")}
NAMES = ("changes", "consistency", "agreement", "mixing", "checks")
FIGURES: dict[str, Callable[..., Any]] = {
    "losses": lambda *text: pages.losses(STORED["losses"], *text),
    "differences": lambda *text: pages.differences(STORED["pairs"], *text),
    "changed": lambda *text: pages.changed(STORED["changes"], *text),
    "too alike": lambda *text: pages.too_alike(STORED["checks"], *text),
    "moved": lambda *text: pages.moved(STORED["consistency"], *text),
    "by temperature": lambda *text: pages.by_temperature(pages.hottest(STORED["consistency"]), *text),
}


def rows(chart: Any) -> pd.DataFrame:
    """The largest table in a chart."""
    return pd.DataFrame(max(chart.to_dict()["datasets"].values(), key=len))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_and_carries_its_text(name: str) -> None:
    assert_draws(FIGURES[name](*TEXT))


def test_figures_hold_the_stored_numbers() -> None:
    lost = STORED["losses"].query("task == 'all'").set_index("model")["loss"]
    shown = rows(FIGURES["losses"]("t", "d"))
    assert sorted(shown["loss"]) == pytest.approx(sorted(lost.round(2)))
    assert shown.set_index("model").loc["gpt-4+cot", "kind"] == "instruct, step by step"
    assert shown.set_index("model").loc["codellama-34b+cot", "kind"] == "not tuned to instructions"
    alike = rows(FIGURES["too alike"]("t", "d")).set_index("model")
    assert set(alike.index[alike["repeats"] == pages.DEPENDENT]) == {"gemini-1.0-pro", "gemini-1.5-pro"}
    assert (alike.loc[alike["repeats"] == pages.INDEPENDENT, "low"] < 0).all()
    moved = rows(FIGURES["moved"]("t", "d"))
    one = moved[(moved["model"] == "gpt-4") & (moved["what"] == pages.AGREE)].iloc[0]
    found = STORED["consistency"].query("model == 'gpt-4'").set_index("temperature")["agree"]
    assert [one["from"], one["to"]] == pytest.approx([found[0.1] / 100, found[1.0] / 100], abs=1e-4)


def test_what_captions_and_prose_say_in_words_is_so() -> None:
    kinds = STORED["losses"].query("task == 'all'").assign(kind=lambda table: table["model"].map(pages.kind_of))
    median = kinds.groupby("kind")["loss"].median()
    assert median["instruct"] < median["not tuned to instructions"] - 1  # "models tuned to instructions lose less"
    assert set(kinds["units"]) == {800}
    assert set(kinds["draws"]) == {10}
    assert STORED["pairs"]["kind"].value_counts().to_dict() == {
        "instruction tuning": 3,
        "other tuning": 8,
        "sparsity": 1,
        "chain of thought": 5,
    }
    by_model = STORED["consistency"].groupby("model")["temperature"].agg(list)
    assert len(by_model) == 9
    assert all(found[:11] == pytest.approx([t / 10 for t in range(11)]) for found in by_model)
    assert set(STORED["changes"]["problems"]) == {100}
    others = STORED["pairs"].query("kind == 'other tuning'")
    assert others["second"].map(pages.kind_of).eq("instruct").sum() == 5  # "five are instructions by other people"
    instructed = STORED["pairs"][STORED["pairs"]["second"].map(pages.kind_of) == "instruct"]
    assert instructed["first"].str.startswith("deepseek").sum() == 4  # "four of the models are DeepSeek's"
    hot = pages.hottest(STORED["consistency"]).set_index("temperature")
    assert hot.loc[1.6, "agree"] > hot.loc[1.4, "agree"]  # "agreement rises at the end"
    assert (hot["unanswered"].diff()[1.2:] > 0).all()


def test_sentences_follow_the_data() -> None:
    said = pages.real_numbers(STORED["losses"], STORED["pairs"])
    assert said["real sparsity"].endswith("points more: that the two lose the same within 2 points is shown")
    other = STORED["pairs"].assign(verdict="not settled")
    assert pages.real_numbers(STORED["losses"], other)["real tuning shown"] == "none of 3 sizes"
    assert pages.real_numbers(STORED["losses"], other)["real others"] == "8 are not settled"
    more = STORED["pairs"].assign(verdict="loses less")
    assert pages.real_numbers(STORED["losses"], more)["real sparsity"].endswith("the second loses more")
    changes, *others = (STORED[name] for name in NAMES)
    said = pages.reread_numbers(changes, *others)
    assert said["reread significant"] == "none of 7"
    assert re.match(r"gemini-1\.0-pro \(its .* %\) and gemini-1\.5-pro-preview-0409 \(its ", said["reread found"])
    certain = changes.assign(holm=0.01, p_equal=0.01)
    said = pages.reread_numbers(certain, *others)
    assert said["reread significant"] == "all 9"
    assert said["reread copied"] == ""


def test_tables_are_text_and_name_every_model() -> None:
    for table in (
        pages.shown_losses(STORED["losses"]),
        pages.shown_pairs(STORED["pairs"]),
        pages.shown_changes(STORED["changes"]),
        pages.shown_mixing(STORED["mixing"]),
    ):
        assert table.map(lambda cell: isinstance(cell, str) and cell != "nan").all(axis=None)
    assert len(pages.shown_losses(STORED["losses"])) == 31
    assert list(pages.shown_changes(STORED["changes"])["p (Holm)"]).count("not tested") == 2


@pytest.mark.parametrize("page", ["real", "reread"])
def test_prose_quotes_only_numbers_that_are_left(page: str) -> None:
    notebook = json.loads((ROOT / "notebooks" / f"{page}.ipynb").read_text())
    source = "".join("".join(cell["source"]) for cell in notebook["cells"])
    quoted = set(re.findall(r"{number}`([^`]+)`|facts\[.([a-z ]+).\]", source))
    quoted = {first or second for first, second in quoted}
    quoted = {key for key in quoted if not key.startswith("factorial ")}  # of another page
    left = pages.real_numbers(STORED["losses"], STORED["pairs"])
    left |= pages.reread_numbers(*(STORED[name] for name in NAMES))
    assert quoted <= set(left)
    assert {key for key in left if key.startswith(page)} == quoted


def test_titles_count_what_is_shown() -> None:
    lost = pages.read("losses")
    count = (lost["task"] == "all").sum()
    assert pages.losses_title(lost.assign(low=1.0)).endswith(f"from T = 0.2 to T = 0.8: all {count} models")
    assert pages.losses_title(lost.assign(low=-1.0)).endswith(f"none of {count} models")
    pairs = pages.read("pairs")
    assert pages.pairs_title(pairs.assign(verdict="not settled")).endswith(f"{len(pairs)} are not settled")
    assert pages.pairs_title(pairs.assign(verdict="loses more")).endswith(f"{len(pairs)} lose less")
