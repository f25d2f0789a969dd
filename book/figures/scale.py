"""Tables and the figure of the page on scale: what jobs ask for, what studies cost, and how many shards are best.

The arithmetic is that of `study.costs` and `book.analysis.schedule`; here its numbers become text, in every cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import altair as alt
import pandas as pd

from book.analysis.schedule import EVEN_SHARDS, Plan, Rates, Work, best_shards, plan_jobs, work_of
from book.figures.text import Lines, plain
from lmrel.charts import coloured, figure, themed, titled
from lmrel.registry import REGISTRY
from study.costs import (
    ALONE,
    PAPER_DRAWS,
    PAPER_HOURS,
    PAPER_MODELS,
    PAPER_PROBLEMS,
    Measured,
    estimate,
    memory_needed,
    prolonged,
    request,
)

PAPERS = ("qwen2.5-3b-instruct", "olmoe-1b-7b", "mixtral-8x7b-instruct")


def span(seconds: float) -> str:
    """A time as text, like ``40 min``, ``3.5 h`` or ``14.9 days``."""
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 100 * 3600 else f"{seconds / 86400:,.1f} days"


def requests(gpu_gb: float) -> pd.DataFrame:
    """What a job of each model in the registry asks for in its own precision; the tiny ones are alike, in one row."""
    rows = []
    for name, spec in REGISTRY.items():
        asked = request(name, "auto", gpu_gb)
        row = {
            "model": "tiny-*" if spec.tiny else name,
            "precision": spec.precision,
            "needs": f"{memory_needed(spec.weights(spec.precision)) / 1e9:.1f} GB",
            "gpu": asked["gpu"],
            "mem_mb": asked["mem_mb"],
            "runtime": f"{asked['runtime']} min",
        }
        rows.append(row)
    return plain(pd.DataFrame(rows).drop_duplicates("model"))


def papers_works(measured: Measured, gpu_gb: float) -> list[Work]:
    """What the paper's experiment takes, for each of `PAPERS`, the paper's three models."""
    return [work_of(name, "auto", PAPER_DRAWS, PAPER_PROBLEMS, measured, gpu_gb) for name in PAPERS]


def basis_of_times(measured: Measured) -> str:
    """The sentences that say whether times of large models were measured, and on what."""
    if measured.gpu:
        return f"Full size measured on: {', '.join(sorted({row['device'] for row in measured.gpu}))}."
    return (
        "No large model was timed on a GPU for this book. Below, their times are computed from an assumption: the "
        f"paper's {PAPER_HOURS:g} h on one A100, spread evenly over its {PAPER_MODELS} models, "
        f"{ALONE:.2f} s a draw. It drew one prompt at a time; an engine that shares should stay below that. "
        "`make bench-gpu` measures it; this page then uses what it left."
    )


def assumptions(rates: Rates) -> Lines:
    """The sentence that says which rates are assumed."""
    return Lines(
        [
            f"Assumed: a job reads weights at {rates.disk:g} GB/s and spends {rates.overhead:g} s beside reading and "
            f"drawing; all downloads share {rates.link:g} GB/s."
        ]
    )


def draws_of(models: int, temperatures: int, runs: int) -> Lines:
    """How many draws a study of this size makes, in a sentence."""
    draws = temperatures * runs
    return Lines(
        [
            f"{models} models at {temperatures} temperatures with {runs:,} runs make {draws:,} draws a problem, "
            f"{models * draws * PAPER_PROBLEMS:,} in all."
        ]
    )


def subtitle(works: Sequence[Work], measured: Measured) -> str:
    """The subtitle of a figure of costs: how many models there are, and what their times rest on."""
    bases = {estimate(name, "auto", PAPER_DRAWS, PAPER_PROBLEMS, measured).basis for name in PAPERS}
    return f"{len(works)} models on disk · {' or '.join(sorted(bases))}"


def mixed(works: Sequence[Work], count: int) -> list[Work]:
    """`count` models, of which those of `works` take turns."""
    return [works[i % len(works)] for i in range(count)]


def models(works: Sequence[Work], measured: Measured, rates: Rates) -> pd.DataFrame:
    """What each of the paper's models takes to fetch, to load in each job and to draw, and what the last rests on."""
    bases = [estimate(name, "auto", PAPER_DRAWS, PAPER_PROBLEMS, measured).basis for name in PAPERS]
    rows = [
        {
            "model": name,
            "on disk": f"{work.stored / 1e9:.0f} GB",
            "fetching, once": span(work.stored / (rates.link * 1e9)),
            "before drawing, each job": f"{work.load(rates):.0f} s",
            "drawing": span(work.draw),
            "drawing is": basis,
        }
        for name, work, basis in zip(PAPERS, works, bases, strict=True)
    ]
    return plain(pd.DataFrame(rows))


def costs(works: Sequence[Work], counts: Sequence[int], gpus: Sequence[int], rates: Rates) -> pd.DataFrame:
    """What the paper's experiment costs: a row for each number of models and of GPUs, with its best number of shards.

    Rates with an infinite `link` mean that the weights are on disk already.
    """
    rows = []
    for count in counts:
        some = mixed(works, count)
        for number in gpus:
            shards = best_shards(some, number, rates)
            found = plan_jobs(some, shards, number, rates)
            row: dict[str, Any] = {"models": count, "GPUs": number, "shards": shards}
            row |= {"problems a job": PAPER_PROBLEMS // shards, "time": span(found.wall)}
            rows.append(row | {"GPU hours": f"{_gpu_hours(found):,.1f}", "limited by": _limits(found)})
    return plain(pd.DataFrame(rows))


def _gpu_hours(found: Plan) -> float:
    """The hours in which GPUs load or draw, all together."""
    return (found.spent["loading"] + found.spent["drawing"]) / 3600


def _limits(found: Plan) -> str:
    """The two largest parts of the GPUs' time, with their shares."""
    largest = sorted(found.spent, key=lambda what: -found.spent[what])[:2]
    return ", ".join(f"{found.spent[what] / sum(found.spent.values()):.0%} {what}" for what in largest)


def growth(measured: Measured, draws: int) -> pd.DataFrame:
    """How the time for all problems grows with the draws of a problem, for each tiny model that was measured.

    The last column prolongs the measurements to `draws`.
    """
    rows = []
    for name, stop in _series(measured):
        points = measured.points(name, stop, "seconds")
        times = {f"{count:,.0f} draws": f"{seconds:.2f} s" for count, seconds in points}
        grown = prolonged(points, draws)
        rows.append({"model": name, "stop": stop} | times | {f"{draws:,} draws, prolonged": f"{grown:.1f} s"})
    return plain(pd.DataFrame(rows))


def large_study(
    measured: Measured, works: Sequence[Work], count: int, draws: int, gpus: int, rates: Rates
) -> pd.DataFrame:
    """What `count` models with `draws` draws a problem cost on `gpus` GPUs, with the weights on disk.

    The first row is for draws that share nothing. In the others, time grows from the paper's 13 draws on as the number
    of computed prefixes does in a tiny model.
    """
    factors = {("nothing is shared", ""): draws / PAPER_DRAWS}
    for name, stop in _series(measured):
        points = measured.points(name, stop, "nodes")
        factors[f"as in {name}", stop] = prolonged(points, draws) / prolonged(points, PAPER_DRAWS)
    rows = []
    for (sharing, stop), factor in factors.items():
        some = [replace(work, draw=work.draw * factor) for work in mixed(works, count)]
        assumed = replace(rates, link=math.inf)
        found = plan_jobs(some, best_shards(some, gpus, assumed), gpus, assumed)
        row = {"sharing": sharing, "stop": stop, "beside 13 draws": f"{factor:,.1f} times"}
        row["GPU hours"] = f"{_gpu_hours(found):,.0f}"
        rows.append(row | {f"on {gpus} GPUs": span(found.wall)})
    return plain(pd.DataFrame(rows))


def _series(measured: Measured) -> list[tuple[str, str]]:
    """The models that were measured on a CPU, each with both of the engine's ways to stop."""
    names = dict.fromkeys(row["model"] for row in measured.cpu)
    return [(name, stop) for stop in ("eos", "decided") for name in names]


def walls(works: Sequence[Work], gpus: Sequence[int], rates: Rates) -> pd.DataFrame:
    """The hours until the last job ends, for each number of GPUs and of shards, with the weights on disk.

    Columns ``gpus, shards, hours, best``; ``best`` marks the `best_shards` of each number of GPUs.
    """
    assumed, rows = replace(rates, link=math.inf), []
    for number in gpus:
        best = best_shards(works, number, assumed)
        for shards in EVEN_SHARDS:
            hours = plan_jobs(works, shards, number, assumed).wall / 3600
            rows.append({"gpus": number, "shards": shards, "hours": hours, "best": shards == best})
    return pd.DataFrame(rows)


def optima(table: pd.DataFrame) -> str:
    """The sentence that names the best number of shards of each number of GPUs, from the rows of `walls`."""
    rows = table[table["best"]].itertuples()
    done = [f"{row.gpus} GPUs are done first with {row.shards} shards, in {span(row.hours * 3600)}" for row in rows]  # type: ignore[operator,arg-type]
    return "; ".join(done) + "."


@figure
def wall_time(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Hours against shards, a line per number of GPUs with its name at the best: the rows of `walls`."""
    order = list(dict.fromkeys(table["gpus"]))
    base = alt.Chart(table.round(4)).encode(
        x=alt.X(
            "shards:Q",
            title="shards of each model",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100, 240], format="~g", grid=False),
        ),
        y=alt.Y(
            "hours:Q",
            title="hours",
            scale=alt.Scale(type="log", nice=False, padding=24),
            axis=alt.Axis(values=[0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], format="~g"),
        ),
        color=coloured("gpus:N", order, legend=None),
    )
    line = base.mark_line(strokeWidth=1.5).encode(tooltip=["gpus:N", "shards:Q", alt.Tooltip("hours:Q", format=".2f")])
    marked = base.transform_filter("datum.best").transform_calculate(
        label="datum.gpus + ' GPUs: ' + datum.shards + (datum.shards == 1 ? ' shard' : ' shards')"
    )
    point = marked.mark_point(filled=True, size=80, opacity=1)
    text = marked.mark_text(dy=16, align="left", fontSize=12).encode(text="label:N")
    return themed((line + point + text).properties(title=titled(title, subtitle)), description)
