"""Figures and tables of the engine's page: a tree of answers, its mask, exact curves, and times beside its peers.

Every cell of a table is text. Times are read from what `tools.bench` left; nothing is measured here.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd
from transformers import PreTrainedTokenizerBase

from book.analysis.prefixes import distinct_prefixes
from book.figures.text import Lines, listed, percent_range, plain, spelled
from lmrel.charts import GREY, PALETTE, coloured, figure, looks, themed, titled
from lmrel.errors import InputError
from lmrel.tokens import PieceReader

OURS = "this engine"  # as `tools.bench_real` calls it
AXIS: dict[str, Any] = {"domain": False, "ticks": False, "labelPadding": 6, "grid": False}


def tree_of(draws: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """The tree of one problem's draws: a row per distinct prefix of an answer, parents first.

    Columns ``node, parent`` and ``depth``: node 0, the root, is the end of the prompt, and its parent -1; ``token``,
    what the node adds to the text; ``draws``, how many pass through it; ``inner``, whether it had to be computed: the
    other nodes end a draw. ``y`` is where to draw it: leaves stand one below the other, parents amid their children.
    """
    reader = PieceReader(tokenizer, [tokenizer.eos_token_id])
    problems = draws[["problem_id"]].drop_duplicates()
    if len(problems) > 1:
        raise InputError(f"a tree is of one problem; these draws are of {len(problems)}.")
    inner = distinct_prefixes(draws, problems)[0]
    texts = [tuple(ids) for ids in draws["token_ids"]]
    passing = {prefix: sum(text[: len(prefix)] == prefix for text in texts) for prefix in [*inner, *texts]}
    prefixes = sorted(passing, key=lambda prefix: (len(prefix), prefix))
    number = {prefix: i for i, prefix in enumerate(prefixes)}
    leaves = {prefix: float(i) for i, prefix in enumerate(sorted(set(texts)))}
    for prefix in sorted(prefixes, key=len, reverse=True):
        below = [leaves[other] for other in prefixes if other[:-1] == prefix and other and other != prefix]
        leaves.setdefault(prefix, sum(below) / max(len(below), 1))
    rows = [
        {
            "node": number[prefix],
            "parent": number[prefix[:-1]] if prefix else -1,
            "depth": len(prefix),
            "y": leaves[prefix],
            "token": (spelled(reader.piece(prefix[-1])) or "end") if prefix else "prompt",
            "draws": passing[prefix],
            "inner": prefix in set(inner),
        }
        for prefix in prefixes
    ]
    return pd.DataFrame(rows)


def tree_title(nodes: pd.DataFrame) -> str:
    """How many draws the tree of `tree_of` holds, and how many tokens had to be computed for them."""
    draws, tokens = nodes["draws"].iloc[0], int(nodes.loc[nodes["depth"] > 0, "draws"].sum())
    return f"{draws} draws hold {tokens} tokens, and {int(nodes['inner'].sum())} had to be computed"


@figure
def tree(nodes: pd.DataFrame, title: str, description: str) -> Any:
    """The tree of `tree_of` with its root at the left; a line is the wider, the more draws go that way."""
    places = nodes.set_index("node")
    edges = nodes[nodes["parent"] >= 0]
    lines = edges.assign(x=edges["parent"].map(places["depth"]), y0=edges["parent"].map(places["y"])).round(3)
    across: dict[str, Any] = {
        "title": "tokens",
        "axis": alt.Axis(tickMinStep=1, **AXIS),
        "scale": alt.Scale(nice=False, padding=24),
    }
    down: dict[str, Any] = {"axis": None, "scale": alt.Scale(reverse=True, padding=14)}
    width = alt.StrokeWidth("draws:Q", legend=None)
    edge = (
        alt.Chart(lines)
        .mark_rule(color=PALETTE[0])
        .encode(x=alt.X("x:Q", **across), x2="depth:Q", y=alt.Y("y0:Q", **down), y2="y:Q", strokeWidth=width)
    )
    x, y = alt.X("depth:Q", **across), alt.Y("y:Q", **down)
    base = alt.Chart(nodes.round(3)).encode(x=x, y=y, tooltip=["token:N", "draws:Q"])
    kinds = alt.Scale(domain=[True, False], range=[PALETTE[0], GREY])
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("inner:N", scale=kinds, legend=None)
    )
    label = base.mark_text(dy=-12, fontSize=11, color="currentColor").encode(text="token:N")
    height = max(140, 46 * len(nodes[~nodes["inner"]]))
    return themed((edge + point + label).properties(title=title), description).properties(height=height)


@figure
def mask(nodes: pd.DataFrame, title: str, description: str) -> Any:
    """Which computed node of `tree_of` (row) sees which (column): itself and its ancestors."""
    inner = nodes[nodes["inner"]]
    parent = dict(zip(nodes["node"], nodes["parent"], strict=True))
    name = {row["node"]: f"{row['node']} · {row['token']}" for _, row in inner.iterrows()}
    cells = []
    for node in inner["node"]:
        seen = node
        while seen >= 0:
            cells.append({"query": name[node], "key": name[seen]})
            seen = parent[seen]
    order = list(name.values())
    axis = {**AXIS, "labelLimit": 90}
    chart = (
        alt.Chart(pd.DataFrame(cells))
        .mark_rect(color=PALETTE[0])
        .encode(
            x=alt.X("key:N", sort=order, title="sees", axis=alt.Axis(**axis, labelAngle=-60)),
            y=alt.Y("query:N", sort=order, title=None, axis=alt.Axis(**axis)),
            tooltip=["query:N", "key:N"],
        )
    )
    return themed(chart.properties(title=title), description).properties(height=max(120, 24 * len(order)))


@figure
def exact(curves: pd.DataFrame, sampled: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Exact accuracy against temperature as the band between its bounds, with a dot for each sampled run.

    `curves` holds rows of `metrics.exact_curves` with quantity ``mean``; `sampled` comes from `metrics.by_run`.
    """
    scale = alt.Scale(zero=False)
    band = curves[["temperature", "lower", "upper"]].round(5)
    axis = alt.Axis(format=".0%")
    area = (
        alt.Chart(band)
        .mark_area(color=PALETTE[0], opacity=0.35)
        .encode(
            x=alt.X("temperature:Q", axis=alt.Axis(tickCount=5), scale=alt.Scale(nice=False, padding=8)),
            y=alt.Y("lower:Q", title=None, axis=axis, scale=scale),
            y2="upper:Q",
        )
    )
    line = alt.Chart(band).mark_line(color=PALETTE[0], strokeWidth=1.5).encode(x="temperature:Q", y="lower:Q")
    dots = (
        alt.Chart(sampled[["temperature", "run", "accuracy"]].round(5))
        .mark_point(filled=True, size=40, color="currentColor", opacity=1)
        .encode(
            x="temperature:Q",
            y="accuracy:Q",
            tooltip=["temperature:Q", "run:Q", alt.Tooltip("accuracy:Q", format=".1%")],
        )
    )
    return themed((area + line + dots).properties(title=titled(title, subtitle)), description).properties(height=220)


def exact_title(curves: pd.DataFrame, sampled: pd.DataFrame) -> str:
    """How far from the exact accuracy a single run lies at most: what `exact` shows."""
    middle = curves.set_index("temperature")[["lower", "upper"]].mean(axis=1)
    at = sampled[sampled["temperature"].isin(middle.index)]
    apart = (at["accuracy"].to_numpy() - middle[at["temperature"]].to_numpy()).tolist()
    return f"Single runs lie up to {100 * max(map(abs, apart)):.1f} points from the exact accuracy"


def exactness(exact: pd.DataFrame) -> Lines:
    """How much was followed, and how exactly accuracy is known from it: rows of `lmrel.enumerate_outcomes`."""
    width = (exact["upper"] - exact["lower"])[exact["metric"] == "correct"].max()
    return Lines(
        [
            f"{exact.attrs['nodes']:,} tokens were followed. The chance of a right answer is then known to "
            f"{100 * width:.2f} points or better, for every problem."
        ]
    )


def conditions(measured: Mapping[str, Any]) -> Lines:
    """Where, when and how `tools.bench` measured, in a sentence."""
    threads = f"{measured['threads']} thread{'s' * (measured['threads'] > 1)}"
    return Lines(
        [
            f"Measured on {measured['date']} on a machine with {measured['device']}, with {threads}: medians of "
            f"{measured['repeats']} runs."
        ]
    )


def contestant(name: str) -> str:
    """The name of a contestant of `tools.bench` on a page."""
    return f"engine, {name}" if name.endswith(" runs") else name


@figure
def speeds(rows: pd.DataFrame, title: str, description: str) -> Any:
    """Seconds of each contestant of `tools.bench` on a logarithmic scale, a colour per model.

    Contestants without a time, which `contestants` explains, are left out.
    """
    timed = rows.dropna(subset=["seconds"])[["model", "contestant", "seconds"]].round(4)
    timed["contestant"] = timed["contestant"].map(contestant)
    order = timed.groupby("contestant")["seconds"].median().sort_values(ascending=False).index.tolist()
    models = list(dict.fromkeys(timed["model"]))
    colours, shapes, _ = looks(models)
    seconds = alt.Axis(format="~g", labelOverlap=True, labelSeparation=6)
    chart = (
        alt.Chart(timed)
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x=alt.X("seconds:Q", title="seconds", scale=alt.Scale(type="log"), axis=seconds),
            y=alt.Y("contestant:N", sort=order, title=None, axis=alt.Axis(labelLimit=175)),
            color=coloured("model:N", models, colours, legend=alt.Legend(columns=1)),
            shape=alt.Shape("model:N", sort=models, scale=alt.Scale(domain=models, range=shapes)),
            tooltip=["model:N", "contestant:N", "seconds:Q"],
        )
    )
    return themed(chart.properties(title=title), description)


def shown_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of `metrics.exact_curves` for correctness in per cent: quantities in columns, temperatures in rows."""
    right = curves[curves["metric"] == "correct"]
    cells = right.apply(lambda row: percent_range(row["lower"], row["upper"]), axis=1)
    table = right.assign(cell=cells, T=right["temperature"].map("{:g}".format))
    order = list(dict.fromkeys(right["quantity"]))
    wide = table.pivot(index="T", columns="quantity", values="cell")[order]
    return plain(wide.rename_axis(columns=None).reset_index())


def contestants(rows: pd.DataFrame) -> pd.DataFrame:
    """The times of `tools.bench`, contestants in rows and models in columns: seconds, or why there is no time."""
    of_sample = rows["note"].map(lambda note: f" ({note})" if note else "")
    cells = (rows["seconds"].map("{:.2f} s".format) + of_sample).where(rows["seconds"].notna(), rows["note"])
    wide = rows.assign(cell=cells).pivot(index="contestant", columns="model", values="cell")
    wide = wide.reindex(rows["contestant"].unique()).rename(index=contestant)
    return plain(wide.rename_axis(columns=None).fillna("").reset_index())


def profiles(shares: pd.DataFrame) -> pd.DataFrame:
    """The share of the engine's time that each part takes, by `tools.bench`: parts in rows, models in columns."""
    cells = shares.assign(share=shares["share"].map("{:.0%}".format))
    wide = cells.pivot(index="part", columns="model", values="share").reindex(shares["part"].unique())
    return plain(wide.rename_axis(columns=None).reset_index())


def marks(ratios: pd.DataFrame) -> pd.DataFrame:
    """The ratios of times by `tools.bench`, and whether they reach the marks that were set for them."""
    columns = {
        "model": ratios["model"],
        "ratio": ratios["above"].map(contestant) + " / " + ratios["below"].map(contestant),
        "measured": ratios["value"].map("{:.1f}".format),
        "mark": ratios["at_most"].map({True: "at most ", False: "at least "}) + ratios["mark"].map("{:g}".format),
        "reached": ratios["reached"].map({True: "yes", False: "no"}),
    }
    return plain(pd.DataFrame(columns))


def missed(ratios: pd.DataFrame) -> Lines:
    """How many of the marks were reached, and in which models one was missed."""
    rows = marks(ratios)
    lost = rows[rows["reached"] == "no"]
    reached = f"{len(rows) - len(lost)} of {len(rows)} marks were reached."
    each = [f"{count} for {model}" for model, count in lost["model"].value_counts(sort=False).items()]
    return Lines([f"{reached} Missed: {listed(each)}." if each else reached])


def on_real(measured: Mapping[str, Any]) -> tuple[Lines, pd.DataFrame]:
    """What `tools.bench_real` found on a real model: a sentence, and how many times as long as this engine peers take.

    A ratio is the median of paired times. Below one, a peer is faster.
    """
    rows = pd.DataFrame(measured["rows"])
    names = [name for name in dict.fromkeys(rows["contestant"]) if name != OURS]
    table, said = [], []
    for (tokens, runs, problems), some in rows.groupby(["new_tokens", "runs", "problems"], sort=False):
        by_name = some.set_index("contestant")
        ours = by_name.loc[[OURS]].iloc[0]
        ratios = {
            name: statistics.median(a / b for a, b in zip(by_name["times"][name], ours["times"], strict=True))
            for name in names
            if name in by_name.index
        }
        row = {"new tokens": tokens, "runs": runs, "problems": problems, "this engine": f"{ours['seconds']:.1f} s"}
        row |= {name: f"{ratios[name]:.1f} x" if name in ratios else "" for name in names}
        table.append(row | {"peak, MB": f"{ours['peak_mb']:,.0f}"})
        others = [f"{name} {ratio:.1f}" for name, ratio in ratios.items() if name != "floor"]
        said.append(f"at {tokens} new tokens and {runs} runs, {listed(others)} times as long")
    sentence = (
        f"On SmolLM2 in {measured['dtype']}, measured on {measured['date']} with {measured['threads']} threads, peers "
        f"take {'; '.join(said)}, each in a process of its own."
    )
    return Lines([sentence]), plain(pd.DataFrame(table))


def tried(found: Mapping[str, Any]) -> Lines:
    """How many architectures were tried and how many run, and with which version: what `tools.architectures` left."""
    states = [row["state"] for row in found["rows"]]
    return Lines(
        [
            f"{states.count('runs')} of {len(states)} architectures of transformers {found['transformers']} run; they "
            f"were tried on {found['date']}."
        ]
    )


def architectures(rows: pd.DataFrame) -> tuple[pd.DataFrame, Lines]:
    """What became of each architecture that `tools.architectures` tried: a table of outcomes, and the names of each.

    The most frequent outcome comes first.
    """
    # Numbers, and what a model's own code said, differ from model to model.
    why = rows["why"].str.replace(r" by [\d.]+% there|,? ?\(.*\)", "", regex=True).where(rows["state"] == "refused", "")
    outcome = rows["state"].where(why == "", rows["state"] + ": " + why.str.removesuffix("."))
    which = rows.groupby(outcome.rename("outcome"))["architecture"].agg(["size", ", ".join])
    which = which.sort_values("size", ascending=False).set_axis(["how many", "names"], axis=1).reset_index()
    return plain(which[["how many", "outcome"]]), Lines(which["outcome"] + ": " + which["names"])
