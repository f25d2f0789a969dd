from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from book.analysis.prefixes import distinct_prefixes
from book.figures import engine
from book.figures.style import bundle
from lmrel import Decoder, InputError, paper_problems, sample
from lmrel.stats import metrics
from tests.conftest import tiny


@pytest.fixture(scope="module")
def grown() -> tuple[pd.DataFrame, pd.DataFrame]:
    model, tokenizer = tiny("tiny-dense-base")
    problem = paper_problems().iloc[[170]]
    draws = sample(model, tokenizer, problem, [Decoder(t, stop="decided") for t in (0.0, 1.0)], runs=6)
    return draws, engine.tree_of(draws, tokenizer)


def test_a_tree_holds_every_draw_and_computes_what_the_floor_computes(grown: Any) -> None:
    draws, nodes = grown
    assert nodes["inner"].sum() == len(distinct_prefixes(draws, draws[["problem_id"]].drop_duplicates())[0])
    root, others = nodes.iloc[0], nodes.iloc[1:]
    assert root["draws"] == len(draws) == others[others["depth"] == 1]["draws"].sum()
    assert nodes.loc[~nodes["inner"], "draws"].sum() == len(draws)
    depths = nodes.set_index("node")["depth"]
    assert (depths[others["parent"]].to_numpy() + 1 == others["depth"].to_numpy()).all()
    children = others.groupby("parent")["draws"].sum()
    assert (nodes.set_index("node").loc[children.index, "draws"] == children).all()


def test_the_mask_has_a_cell_for_each_ancestor(grown: Any) -> None:
    _, nodes = grown
    spec = engine.mask(nodes, "Mask", "A mask.").to_dict()
    cells = next(iter(spec["datasets"].values()))
    assert len(cells) == (nodes.loc[nodes["inner"], "depth"] + 1).sum()


def test_every_figure_can_be_drawn_and_is_described(grown: Any) -> None:
    draws, nodes = grown
    curves = pd.DataFrame({"temperature": [0.0, 1.0], "lower": [0.9, 0.7], "upper": [0.9, 0.72]})
    times = pd.DataFrame({"model": ["a", "b"], "contestant": ["x", "y"], "seconds": [1.0, None]})
    for chart in (
        engine.tree(nodes, "Tree", "A tree."),
        engine.mask(nodes, "Mask", "A mask."),
        engine.exact(curves, metrics.by_run(draws), "Exact", "A band.", subtitle="pure"),
        engine.speeds(times, "Times", "Dots."),
    ):
        found = bundle(chart.to_dict())
        assert found["image/png"]
        assert found["text/plain"]


def test_a_tree_is_of_one_problem(grown: Any) -> None:
    draws, _ = grown
    two = pd.concat([draws, draws.assign(problem_id="another")])
    with pytest.raises(InputError, match="a tree is of one problem; these draws are of 2"):
        engine.tree_of(two, tiny("tiny-dense-base")[1])


def test_a_mark_that_was_missed_is_said() -> None:
    ratios = pd.DataFrame({"model": ["a", "b"], "above": "x", "below": "eos, 4 runs", "value": [4.0, 6.0]})
    ratios = ratios.assign(mark=5, at_most=True, reached=[True, False])
    assert engine.missed(ratios) == ["1 of 2 marks were reached. Missed: 1 for b."]
    assert engine.missed(ratios[:1]) == ["1 of 1 marks were reached."]


def test_times_on_a_real_model_are_ratios_of_paired_ones() -> None:
    size = {"new_tokens": 16, "runs": 4, "problems": 2, "peak_mb": 1234}
    rows = [
        size | {"contestant": "this engine", "times": [1.0, 2.0, 4.0], "seconds": 2.0},
        size | {"contestant": "vLLM", "times": [3.0, 4.0, 20.0], "seconds": 4.0},
        size | {"contestant": "floor", "times": [1.0, 1.0, 1.0], "seconds": 1.0},
        size | {"runs": 100, "contestant": "this engine", "times": [5.0], "seconds": 5.0},
        size | {"runs": 100, "contestant": "vLLM", "times": [4.0], "seconds": 4.0},
    ]
    [said], table = engine.on_real({"rows": rows, "dtype": "fp32", "date": "2026-12-01", "threads": 2})
    assert said == (
        "On SmolLM2 in fp32, measured on 2026-12-01 with 2 threads, peers take at 16 new tokens and 4 runs, vLLM 3.0 "
        "times as long; at 16 new tokens and 100 runs, vLLM 0.8 times as long, each in a process of its own."
    )
    assert table["vLLM"].tolist() == ["3.0 x", "0.8 x"]
    assert table["floor"].tolist() == ["0.5 x", ""]
    assert table["peak, MB"].tolist() == ["1,234", "1,234"]


def test_titles_say_what_is_drawn(grown: Any) -> None:
    draws, nodes = grown
    computed = int(nodes["inner"].sum())
    tokens = sum(len(ids) for ids in draws["token_ids"])
    assert engine.tree_title(nodes) == f"{len(draws)} draws hold {tokens} tokens, and {computed} had to be computed"
    curves = pd.DataFrame({"temperature": [0.0, 1.0], "lower": [0.9, 0.7], "upper": [0.9, 0.72]})
    runs = pd.DataFrame({"temperature": [0.0, 1.0, 2.0], "accuracy": [0.9, 0.66, 0.1]})
    assert engine.exact_title(curves, runs) == "Single runs lie up to 5.0 points from the exact accuracy"
