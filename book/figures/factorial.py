"""The factorial's page: its tables, its figures, and the numbers that the book's prose quotes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from book.analysis.effects import (
    MAIN,
    MARGIN,
    NAMES,
    PLANNED,
    TUNED_MEAN,
    against,
    effects,
    planned_cells,
    robustness,
    solved_by_all,
    sparsity,
    within_architecture,
)
from book.figures.text import plain
from lmrel.charts import PALETTE, figure, themed, titled
from lmrel.stats.metrics import by_run, exact_curves
from tiny.factorial import DESIGN, TUNED
from tiny.shapes import ARCHITECTURES


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def points(estimate: float, low: float = math.nan, high: float = math.nan) -> str:
    """Like ``+14.6 [+11.2, +18.0]``, in percentage points; without the interval where there is none."""
    ends = "" if math.isnan(low) else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return _signed(f"{100 * estimate:+.1f}{ends}")


def shown_cells(models: pd.DataFrame) -> pd.DataFrame:
    """Each cell, mean over seeds: accuracies, the drop with its range over seeds, and the two other measures."""
    rows = []
    for kind, stage in itertools.product(models["architecture"].unique(), NAMES):
        some = models[(models["architecture"] == kind) & (models["stage"] == stage)]
        if some.empty:
            continue
        drop = 100 * some["drop"]
        row = {"architecture": kind, "last stage": NAMES[stage], "seeds": len(some)}
        greedy = 100 * some["greedy"]
        row |= {
            "greedy, %": f"{greedy.mean():.1f} ({greedy.min():.1f} to {greedy.max():.1f})",
            "T = 1": f"{some['hot'].mean():.1%}",
        }
        row |= {"drop, points": f"{drop.mean():.1f} ({drop.min():.1f} to {drop.max():.1f})"}
        row |= {
            "retained": f"{some['retained'].mean():.0%}",
            "log-odds per unit of T": _signed(f"{some['slope'].mean():.2f}"),
        }
        rows.append(row)
    return plain(pd.DataFrame(rows))


def shown_effects(table: pd.DataFrame) -> pd.DataFrame:
    """`effects` of a drop, in points, with 95 % intervals over units, and over problems as well."""
    columns = {
        "effect": table["effect"],
        "points": [points(*row) for row in table[["estimate", "low", "high"]].to_numpy()],
        "over problems too": [points(*row) for row in table[["estimate", "crossed_low", "crossed_high"]].to_numpy()],
        "units": table["units"],
    }
    return plain(pd.DataFrame(columns))


def shown_sparsity(table: pd.DataFrame) -> pd.DataFrame:
    """`sparsity` in points: each seed, the mean with its 90 % interval, and whether that lies within the margin."""
    seeds = [name for name in table if isinstance(name, int)]
    columns = {"stages": table["stages"]} | {f"seed {seed}": [points(value) for value in table[seed]] for seed in seeds}
    columns["mean, 90 % interval"] = [points(*row) for row in table[["estimate", "low_90", "high_90"]].to_numpy()]
    columns[f"within {100 * MARGIN:g} points"] = table["equivalent"].map({True: "yes", False: "not shown"})
    return plain(pd.DataFrame(columns))


def shown_measures(models: pd.DataFrame) -> pd.DataFrame:
    """The effects on the drop, on the share retained, and on the slope of the log-odds, with 95 % intervals."""
    columns = {}
    for name, value in {"drop": "drop", "retained": "retained", "log-odds per unit of T": "slope"}.items():
        found = effects(models, value).set_index("effect")[["estimate", "low", "high"]]
        if value == "slope":
            columns[name] = found.apply(lambda row: _signed("{:+.2f} [{:+.2f}, {:+.2f}]".format(*row)), axis=1)
        else:
            columns[f"{name}, points"] = found.apply(lambda row: points(*row), axis=1)
    return plain(pd.DataFrame(columns).drop("mean of the cells").reset_index())


def shown_precisions(dropped: pd.DataFrame) -> pd.DataFrame:
    """Greedy accuracy in per cent and drop in points, in both precisions: means over dense and sparse and all seeds."""
    means = 100 * planned_cells(dropped).groupby(["stage", "precision"])[["greedy", "drop"]].mean().unstack("precision")
    columns = {"last stage": pd.Series(NAMES)}
    for value, precision in itertools.product(("greedy", "drop"), ("fp32", "nf4")):
        columns[f"{value}, {precision}"] = means[value][precision].map("{:.1f}".format)
    return plain(pd.DataFrame(columns).loc[list(NAMES)])


def shown_within_architecture(dropped: pd.DataFrame) -> pd.DataFrame:
    """`alone`, in points: a row an architecture, a column an effect."""
    found = within_architecture(dropped)
    cells = [points(*row) for row in found[["estimate", "low", "high"]].to_numpy()]
    wide = found.assign(points=cells).pivot(index="architecture", columns="effect", values="points")
    kinds = [kind for kind in ARCHITECTURES if kind in wide.index]
    return plain(wide.loc[kinds, list(MAIN[:2])].rename_axis(columns=None).reset_index())


def shown_against(dropped: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """`against` of several pairs of architectures, in points."""
    columns = {}
    for first, second in pairs:
        found = against(dropped, first, second).set_index("stage").rename(index=NAMES)
        columns[f"{second} minus {first}"] = found.apply(lambda row: points(*row), axis=1)
    return plain(pd.DataFrame(columns).rename_axis("last stage").reset_index())


def shown_runs(outcomes: pd.DataFrame, draws: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """Of each model drawn at `temperature`, the exact accuracy beside its sampled runs, and both deviations of runs."""
    planned = outcomes.query(f"{PLANNED} and seed == 0 and temperature == {temperature}")
    of_runs = by_run(draws).query(f"task == 'all' and temperature == {temperature}")
    rows = []
    for model in of_runs["model"].unique():
        _, kind, stage = model.split("-", 2)
        runs = 100 * of_runs.loc[of_runs["model"] == model, "accuracy"].to_numpy()
        own = planned[(planned["architecture"] == kind) & (planned["stage"] == stage)]
        exact = 100 * exact_curves(own, runs=len(runs)).set_index("quantity")["lower"]
        row = {"model": model, "exact": f"{exact['mean']:.1f}", "runs": " ".join(map("{:.1f}".format, runs))}
        rows.append(row | {"their deviation": f"{runs.std():.1f}", "expected": f"{exact['run_std']:.1f}"})
    return plain(pd.DataFrame(rows))


def numbers(dropped: pd.DataFrame) -> dict[str, str]:
    """What the book's prose quotes of the factorial, by key; `dropped` holds the drops as planned."""
    cells = planned_cells(dropped)
    by_effect = {row["effect"]: row for row in effects(dropped).to_dict("records")}
    found = {"factorial models": str(cells.groupby(["seed", "architecture", "stage"]).ngroups)}
    found["factorial seeds"] = f"{cells['seed'].nunique()} training seeds"
    for name, effect in zip(("targets", "format", "sparsity"), MAIN, strict=True):
        row = by_effect[effect]
        found[f"factorial {name}"] = points(row["estimate"], row["crossed_low"], row["crossed_high"])
    for targets in ("noisy", "clean"):
        stages = [stage for stage, kind in TUNED.items() if kind[1] == targets]
        found[f"factorial {targets}"] = f"{100 * cells.loc[cells['stage'].isin(stages), 'drop'].mean():.1f}"
    within = sparsity(robustness(dropped)).set_index("stages")["equivalent"]
    overall, each = within[TUNED_MEAN], within[["clean targets", "noisy targets"]].all()
    words = {True: "excluded", False: "undecided"}
    found["factorial verdict"] = (
        f"is {words[bool(overall)]} on average over models trained last on clean or on noisy answers, "
        f"and {words[bool(each)]} within either kind"
    )
    first = dropped[dropped["seed"] == 0]
    for name, pair in {"wide": ("wide", "sparse"), "family": ("qwen2", "olmoe")}.items():
        mean = against(first, *pair).set_index("stage").loc[TUNED_MEAN]
        found[f"factorial {name}"] = points(*mean)
    kept = solved_by_all(dropped).groupby("seed")["problem_id"].nunique()
    found["factorial solved"] = " to ".join(map(str, sorted({kept.min(), kept.max()})))
    return found


def shown_training(costs: pd.DataFrame) -> pd.DataFrame:
    """What the design takes to train by the costs of its models, rows of `train.cost`: by architecture, and in all."""
    names = [name for design in DESIGN.values() for name in design]
    every = costs.set_index("model").loc[names].reset_index()
    every[["architecture", "stage"]] = every["model"].str.split("-", n=2, expand=True)[[1, 2]]
    rows = []
    for kind, some in every.groupby("architecture", sort=False):
        base = some["stage"] == "base"
        row = {
            "architecture": kind,
            "weights": f"{some['weights'].iloc[0]:,}",
            "at work": f"{some['at work'].iloc[0]:,}",
        }
        row["pretraining, min"] = f"{some.loc[base, 'minutes'].mean():.0f}"
        row["last stage, min"] = f"{some.loc[~base, 'minutes'].mean():.1f}"
        rows.append(row | {"models": len(some), "all, h": f"{some['minutes'].sum() / 60:.1f}"})
    rows.append({"architecture": "all", "models": len(every), "all, h": f"{every['minutes'].sum() / 60:.1f}"})
    return plain(pd.DataFrame(rows).fillna(""))


ORDER = list(NAMES.values())
NOISY, CLEAN, GREY = PALETTE[1], PALETTE[0], "#8a8a8a"
LINES = {  # of a stage: its colour says what the targets were, its dashes the format
    "base": (GREY, [2, 3]),
    "continued-noisy": (NOISY, [1, 0]),
    "instruct-noisy": (NOISY, [7, 4]),
    "continued": (CLEAN, [1, 0]),
    "instruct": (CLEAN, [7, 4]),
}
PERCENT = alt.Axis(format=".0%")


@figure
def design(models: pd.DataFrame, papers: Mapping[tuple[str, str], str], title: str, description: str) -> Any:
    """The cells with their numbers of training seeds, and what the paper had there by (architecture, stage)."""
    table = models.groupby(["architecture", "stage"])["seed"].nunique().reset_index()
    papers_model = [papers.get(cell, "") for cell in zip(table["architecture"], table["stage"], strict=True)]
    seeds = [f"{count} seeds" if count > 1 else "1 seed" for count in table["seed"]]
    table = table.assign(stage=table["stage"].map(NAMES), seeds=seeds, paper=papers_model)
    down = alt.Y(
        "stage:N", sort=ORDER, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=120, minExtent=100)
    )
    base = alt.Chart(table.assign(had=table["paper"] != "")).encode(
        x=alt.X("architecture:N", title=None, axis=alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0)),
        y=down,
        tooltip=["architecture:N", "stage:N", "seeds:N", "paper:N"],
    )
    colour = alt.Scale(domain=[True, False], range=[PALETTE[2], GREY])
    cell = base.mark_rect(opacity=0.25, stroke="currentColor", strokeOpacity=0.4).encode(
        color=alt.Color("had:N", scale=colour, legend=None)
    )
    ours = base.mark_text(fontSize=11, color="currentColor", dy=-7).encode(text="seeds:N")
    theirs = base.mark_text(fontSize=11, color="currentColor", dy=9, fontStyle="italic").encode(text="paper:N")
    return themed((cell + ours + theirs).properties(title=title), description)


@figure
def cost(models: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What temperature takes from each model: a dot a seed, a bar at their mean. Rows of `effects.robustness`."""
    table = models.assign(stage=models["stage"].map(NAMES))[["seed", "architecture", "stage", "greedy", "hot", "drop"]]
    kinds = [kind for kind in ARCHITECTURES if kind in set(table["architecture"])]
    base = alt.Chart(table.round(5)).encode(
        y=alt.Y("stage:N", sort=ORDER, title=None, axis=alt.Axis(labelLimit=120, minExtent=95)),
        yOffset=alt.YOffset("architecture:N", sort=kinds),
        color=alt.Color("architecture:N", scale=alt.Scale(domain=kinds, range=PALETTE[: len(kinds)])),
    )
    x: dict[str, Any] = {"title": "accuracy lost", "axis": PERCENT, "scale": alt.Scale(zero=True)}
    dots = base.mark_point(filled=True, size=70, opacity=0.55).encode(
        x=alt.X("drop:Q", **x),
        tooltip=["architecture:N", "stage:N", "seed:Q"]
        + [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("greedy", "hot", "drop")],
    )
    mean = base.mark_tick(thickness=2.5, size=16).encode(x=alt.X("mean(drop):Q", **x))
    return themed((dots + mean).properties(title=titled(title, subtitle)), description)


@figure
def curves(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Exact accuracy against temperature, a line a model: rows of `factorial.curves` of one architecture."""
    stages = [stage for stage in NAMES if stage in set(table["stage"])]
    names = [NAMES[stage] for stage in stages]
    rows = table.assign(stage=table["stage"].map(NAMES))[["seed", "stage", "temperature", "middle"]].round(5)
    colour = alt.Scale(domain=names, range=[LINES[stage][0] for stage in stages])
    dash = alt.Scale(domain=names, range=[LINES[stage][1] for stage in stages])
    legend = alt.Legend(symbolSize=300, symbolStrokeWidth=2)
    chart = (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.8, opacity=0.85)
        .encode(
            x=alt.X("temperature:Q", axis=alt.Axis(tickCount=5), scale=alt.Scale(nice=False)),
            y=alt.Y("middle:Q", title=None, axis=PERCENT, scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("stage:N", scale=colour, legend=legend),
            strokeDash=alt.StrokeDash("stage:N", scale=dash, legend=legend),
            detail="seed:N",
            tooltip=["stage:N", "seed:N", "temperature:Q", alt.Tooltip("middle:Q", format=".1%", title="accuracy")],
        )
    )
    return themed(chart.properties(title=titled(title, subtitle)), description)


@figure
def forest(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The main effects under each analysis with their 95 % intervals: `effects.sensitivity`."""
    ends = ["estimate", "low", "high"]
    rows = table[["analysis", "effect", "units"]].join((100 * table[ends]).round(3))
    order, kinds = list(dict.fromkeys(rows["analysis"])), list(dict.fromkeys(rows["effect"]))
    base = alt.Chart(rows).encode(
        y=alt.Y("analysis:N", sort=order, title=None, axis=alt.Axis(labelLimit=130, minExtent=125)),
        yOffset=alt.YOffset("effect:N", sort=kinds),
        color=alt.Color(
            "effect:N",
            sort=kinds,
            scale=alt.Scale(domain=kinds, range=[NOISY, PALETTE[2], PALETTE[3]]),
            legend=alt.Legend(columns=1),
        ),
    )
    x: dict[str, Any] = {"title": "change of the drop, points", "axis": alt.Axis(tickCount=5)}
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", **x), x2="high")
    point = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X("estimate:Q", **x),
        tooltip=["analysis:N", "effect:N", "units:Q"] + [alt.Tooltip(f"{name}:Q", format="+.1f") for name in ends],
    )
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(color="currentColor", opacity=0.5).encode(x=alt.X("x:Q", **x))
    chart = themed(
        (zero + interval + point).properties(title=titled(title, f"{subtitle} · 95 % intervals")), description
    )
    return chart.properties(height=420)


@figure
def dose(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The drop against the share of wrong targets, and what that share alone would take: `effects.doses`."""
    share: dict[str, Any] = {"title": "wrong answers to problems of the last stage", "axis": PERCENT}
    base = alt.Chart(table.round(5)).encode(x=alt.X("noise:Q", **share))
    line = base.mark_line(strokeDash=[4, 4], color="currentColor", opacity=0.6).encode(
        y=alt.Y("alone:Q", title="accuracy lost", axis=PERCENT)
    )
    interval = base.mark_rule(strokeWidth=1.5, color=NOISY).encode(y="low:Q", y2="high:Q")
    point = base.mark_point(filled=True, size=70, opacity=1, color=NOISY).encode(
        y="drop:Q",
        tooltip=[alt.Tooltip(f"{name}:Q", format=".1%") for name in ("noise", "drop", "low", "high", "alone")],
    )
    return themed((line + interval + point).properties(title=titled(title, subtitle)), description)
