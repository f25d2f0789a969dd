"""The factorial's page: its tables, its figures, and the numbers that the book's prose quotes.

What is estimated comes from `book.analysis`; here it becomes text and dots. Every cell of a table is text; differences
between accuracies are in percentage points.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from book.analysis.effects import (
    BINDING,
    MAIN,
    MARGIN,
    PLANNED,
    RATE,
    STAGE_NAMES,
    TUNED_MEAN,
    between_architectures,
    beyond_rate,
    effects,
    levels,
    planned_cells,
    planned_tests,
    robustness,
    solved_by_all,
    sparsity,
    within_architecture,
)
from book.analysis.routing import beyond_tokens, parted
from book.analysis.trends import holm
from book.figures.text import Lines, listed, plain
from lmrel.charts import GREY, PALETTE, SERIES, SHAPES, WRONG, coloured, figure, themed, titled
from lmrel.stats.contrasts import equivalence, paired
from lmrel.stats.inference import with_interval
from lmrel.stats.metrics import by_run, exact_curves
from tiny.factorial import DESIGN, TUNED
from tiny.shapes import ARCHITECTURES

ORDER = list(STAGE_NAMES.values())
NOISY, CLEAN = WRONG, PALETTE[0]
LINES = {  # how a stage is drawn: the colour says what the targets were, the dashes what the format
    "base": (GREY, [2, 3]),
    "continued-noisy": (NOISY, [1, 0]),
    "instruct-noisy": (NOISY, [7, 4]),
    "continued": (CLEAN, [1, 0]),
    "instruct": (CLEAN, [7, 4]),
}
PERCENT = alt.Axis(format=".0%", tickCount=6)
INTERVAL = ["estimate", "low", "high"]
CROSSED = ["estimate", "crossed_low", "crossed_high"]
RIGHT, RANDOM = "right", "random"
TAUGHT = {
    "continued": RIGHT,
    "instruct": RIGHT,
    "continued-noisy": RANDOM,
    "instruct-noisy": RANDOM,
}  # answers, by stage
KINDS = ["clean targets", "noisy targets"]
LEARNED = {  # for readers who know no design: what the last answers were, in two lines
    "clean": ("All answers right", "and so predictable"),
    "noisy": (f"{100 * RATE:g} % wrong at random", "and so not predictable"),
}
LAST = {"none": "pretrained only", "noisy": "noisy: some wrong at random", "clean": "clean: all right"}


def in_points(table: pd.DataFrame, columns: Iterable[Any] = INTERVAL) -> list[str]:
    """An estimate and its interval, by default the columns `INTERVAL`, of each row in percentage points."""
    return [with_interval(*row) for row in 100 * table[list(columns)].to_numpy(dtype=float)]


def shown_cells(models: pd.DataFrame) -> pd.DataFrame:
    """A row per cell of the design: accuracies and drop, mean and range over seeds, and the two other measures."""
    rows = []
    for kind, stage in itertools.product(models["architecture"].unique(), STAGE_NAMES):
        some = models[(models["architecture"] == kind) & (models["stage"] == stage)]
        if some.empty:
            continue
        row = {"architecture": kind, "last stage": STAGE_NAMES[stage], "seeds": len(some)}
        row |= {"greedy, %": _mean_and_range(some["greedy"]), "T = 1": f"{some['hot'].mean():.1%}"}
        row |= {"drop, points": _mean_and_range(some["drop"]), "retained": f"{some['retained'].mean():.0%}"}
        rows.append(row | {"log-odds per unit of T": with_interval(some["slope"].mean(), form="{:.2f}")})
    return plain(pd.DataFrame(rows))


def _mean_and_range(shares: pd.Series) -> str:
    """The mean, the lowest and the highest share in per cent, like ``87.5 (85.0 to 90.0)``."""
    return f"{100 * shares.mean():.1f} ({100 * shares.min():.1f} to {100 * shares.max():.1f})"


def shown_effects(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `effects` of a drop in points, with 95 % intervals over units, and over problems as well."""
    columns = {
        "effect": table["effect"],
        "points": in_points(table),
        "over problems too": in_points(table, CROSSED),
        "units": table["units"],
    }
    return plain(pd.DataFrame(columns))


def shown_tests(dropped: pd.DataFrame) -> pd.DataFrame:
    """The three planned tests with their p-values, adjusted by Holm's method for a family of three."""
    asked = dict.fromkeys(MAIN[:2], "differs from 0") | {MAIN[2]: f"lies within {100 * MARGIN:g} points"}
    found = planned_tests(dropped)
    rows = [{"effect": name, "asked": asked[name], "p, Holm": f"{p:.2g}"} for name, p in found.items()]
    return plain(pd.DataFrame(rows))


def shown_levels(dropped: pd.DataFrame) -> pd.DataFrame:
    """The rows of `levels`: accuracies in per cent and the drop in points, by task and by what was learned last."""
    table = levels(dropped)
    ends = 100 * table[["drop", "low", "high"]].to_numpy()
    columns = {
        "problems": table["task"].str.replace("_", " "),
        "learned last": table["targets"].map(LAST),
        "greedy": table["greedy"].map("{:.1%}".format),
        "T = 1": table["hot"].map("{:.1%}".format),
        "drop, points": [with_interval(*row, form="{:.1f}") for row in ends],
    }
    order = [f"{task}{targets}" for task in ("variable_binding", "arithmetic", "all") for targets in LAST]
    return plain(pd.DataFrame(columns).set_axis(table["task"] + table["targets"]).loc[order])


def shown_sparsity(dropped: pd.DataFrame) -> pd.DataFrame:
    """The rows of `sparsity` in points, on variable binding and on all problems: the mean, and each seed.

    The mean has its 90 % interval; the column after it says whether that lies within `MARGIN`.
    """
    parts = []
    for name, some in {"variable binding": dropped.query(BINDING), "all": dropped}.items():
        table = sparsity(robustness(some))
        seeds = [seed for seed in table if isinstance(seed, int)]
        columns = {"problems": name, "stages": table["stages"]}
        columns["mean, 90 % interval"] = in_points(table, ["estimate", "low_90", "high_90"])
        columns[f"within {100 * MARGIN:g} points"] = table["equivalent"].map({True: "yes", False: "not shown"})
        columns |= {f"seed {seed}": in_points(table, [seed]) for seed in seeds}
        parts.append(pd.DataFrame(columns))
    return plain(pd.concat(parts))


def shown_measures(dropped: pd.DataFrame) -> pd.DataFrame:
    """The effects on accuracies, on the drop, on the share retained, and on the slope of the log-odds.

    The 95 % intervals are over what was trained; none of them is corrected for their number.
    """
    names = {"greedy": "greedy accuracy", "hot": "accuracy at T = 1", "drop": "drop", "retained": "retained"}
    models, columns = robustness(dropped), {}
    for value, name in (names | {"slope": "log-odds per unit of T"}).items():
        found = effects(models, value).set_index("effect").loc[list(MAIN)]
        cells = [with_interval(*row, form="{:+.2f}") for row in found[INTERVAL].to_numpy()]
        columns[name] = pd.Series(cells if value == "slope" else in_points(found), index=found.index)
    return plain(pd.DataFrame(columns).reset_index())


def shown_doses(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `effects.doses` in points: the drop, what the noise alone would take, and what is left."""
    columns = {
        "wrong targets": table["noise"].map("{:.0%}".format),
        "drop": in_points(table, ["drop", "low", "high"]),
        "the noise alone": in_points(table, ["alone"]),
        "what remains": in_points(table, ["rest", "rest_low", "rest_high"]),
    }
    return plain(pd.DataFrame(columns).iloc[1:])


def shown_precisions(dropped: pd.DataFrame) -> pd.DataFrame:
    """Greedy accuracy in per cent and drop in points in both precisions, by stage.

    The numbers are means over dense and sparse models and all seeds.
    """
    means = 100 * planned_cells(dropped).groupby(["stage", "precision"])[["greedy", "drop"]].mean().unstack("precision")
    columns = {"last stage": pd.Series(STAGE_NAMES)}
    for value, precision in itertools.product(("greedy", "drop"), ("fp32", "nf4")):
        columns[f"{value}, {precision}"] = means[value][precision].map("{:.1f}".format)
    return plain(pd.DataFrame(columns).loc[list(STAGE_NAMES)])


def shown_within_architecture(dropped: pd.DataFrame) -> pd.DataFrame:
    """The rows of `within_architecture` in points: a row per architecture, a column per effect."""
    found = within_architecture(dropped)
    wide = found.assign(points=in_points(found)).pivot(index="architecture", columns="effect", values="points")
    kinds = [kind for kind in ARCHITECTURES if kind in wide.index]
    return plain(wide.loc[kinds, list(MAIN[:2])].rename_axis(columns=None).reset_index())


def shown_between_architectures(dropped: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The rows of `between_architectures` in points: a row per stage, a column per pair of architectures."""
    columns = {}
    for first, second in pairs:
        found = between_architectures(dropped, first, second).set_index("stage").rename(index=STAGE_NAMES)
        columns[f"{second} minus {first}"] = dict(zip(found.index, in_points(found, found), strict=True))
    return plain(pd.DataFrame(columns).rename_axis("last stage").reset_index())


def shown_runs(outcomes: pd.DataFrame, draws: pd.DataFrame, temperature: float = 1.0) -> pd.DataFrame:
    """The exact accuracy of each model that was drawn at `temperature`, beside its sampled runs, in per cent.

    Then the standard deviation of these runs, and the one that is expected from the exact probabilities.
    """
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


def cost_title(models: pd.DataFrame) -> str:
    """The sentence that says what T = 1 costs after either kind of answers: means over models of `robustness`."""
    means = (100 * models.groupby(models["stage"].map(TAUGHT))["drop"].mean()).reindex([RIGHT, RANDOM])
    return f"T = 1 costs {means[RIGHT]:.0f} points after right answers and {means[RANDOM]:.0f} after random wrong ones"


def curves_title(table: pd.DataFrame, temperature: float = 1.0) -> str:
    """The sentence that says how much is right at a temperature after each kind of answers: `tiny.factorial.curves`."""
    at = table[table["temperature"] == temperature]
    means = at.groupby(at["stage"].map(TAUGHT))["middle"].mean()
    return (
        f"At T = {temperature:g}, {listed(sorted(set(at['architecture'])))} models answer {means[RIGHT]:.0%} right "
        f"after right answers and {means[RANDOM]:.0%} after random wrong ones"
    )


def design_title(models: pd.DataFrame, papers: Mapping[tuple[str, str], str]) -> str:
    """The sentence that says in how many cells of the design the paper had a model."""
    cells = {*zip(models["architecture"], models["stage"], strict=True)}
    return f"The paper had models in {len(cells & {*papers})} of these {len(cells)} cells"


def forest_title(table: pd.DataFrame) -> str:
    """The sentence that says in how many analyses each effect is told from none: rows of `effects.sensitivity`."""
    apart = (table["low"] > 0) | (table["high"] < 0)
    found = [f"{effect} in {some.sum()} of {len(some)}" for effect, some in apart.groupby(table["effect"], sort=False)]
    return f"Told from no effect: {'; '.join(found)} analyses"


def dose_title(table: pd.DataFrame) -> str:
    """Whether the cost of T = 1 rises with every step of wrong answers: rows of `effects.doses`."""
    drops = table.sort_values("noise")["drop"]
    if drops.is_monotonic_increasing:
        return "The more answers were wrong at random, the more T = 1 costs"
    return "More answers wrong at random do not always make T = 1 cost more"


def drop_difference(draws: pd.DataFrame, first: str, second: str) -> Lines:
    """How much more of accuracy the first model loses at T = 1 than the second, in a sentence."""

    def drop(model: str) -> pd.Series:
        own = draws[draws["model"] == model]
        return paired(own[own["temperature"] == 1], own[own["temperature"] == 0])

    found = equivalence(drop(first) - drop(second), MARGIN)
    points = with_interval(*(100 * found[name] for name in ("difference", "low", "high")))
    verdict = "is" if found["equivalent"] else "is not"
    return Lines(
        [
            f"{first} loses {points} points more than {second}. That the two lose the same within {100 * MARGIN:g} "
            f"points {verdict} shown."
        ]
    )


def numbers(dropped: pd.DataFrame) -> dict[str, str]:
    """The numbers that the book's prose quotes, by key; `dropped` holds the rows of `drops` that are `PLANNED`.

    In brackets are 95 % intervals over what was trained and over problems; for sparsity within a kind of targets 90 %
    intervals over training seeds, those of the tests.
    """
    cells = planned_cells(dropped)
    found = {"factorial models": str(cells.groupby(["seed", "architecture", "stage"]).ngroups)}
    found["factorial seeds"] = f"{cells['seed'].nunique()} training seeds"
    table = effects(dropped).set_index("effect")
    for name, effect in zip(("targets", "format", "sparsity"), MAIN, strict=True):
        [found[f"factorial {name}"]] = in_points(table.loc[[effect]], CROSSED)
    for name in ("greedy", "hot"):
        changed = effects(dropped, name).set_index("effect")
        [found[f"factorial format {name}"]] = in_points(changed.loc[[MAIN[1]]], CROSSED)
    for row in levels(dropped).to_dict("records"):
        key = f"factorial {row['targets']} {row['task']}".replace("_", " ").removesuffix(" all")
        found[key] = with_interval(*(100 * row[name] for name in ("drop", "low", "high")), form="{:.1f}")
    beyond = pd.DataFrame([beyond_rate(dropped)])
    [found["factorial beyond"]] = in_points(beyond, CROSSED)
    found["factorial alone"] = f"{100 * beyond['alone'].iloc[0]:.1f}"
    within = sparsity(robustness(dropped.query(BINDING))).set_index("stages").loc[KINDS]
    for name, cell in zip(("clean", "noisy"), in_points(within, ["estimate", "low_90", "high_90"]), strict=True):
        found[f"factorial sparse {name}"] = cell
    first = dropped[dropped["seed"] == 0]
    for name, pair in {"wide": ("wide", "sparse"), "family": ("qwen2", "olmoe")}.items():
        mean = between_architectures(first, *pair).set_index("stage").loc[[TUNED_MEAN]]
        [found[f"factorial {name}"]] = in_points(mean, mean)
    kept = solved_by_all(dropped).groupby("seed")["problem_id"].nunique()
    found["factorial solved"] = " to ".join(map(str, sorted({kept.min(), kept.max()})))
    return found


def shown_training(costs: pd.DataFrame) -> pd.DataFrame:
    """What training the design takes, by architecture and in all; `costs` has a row per model: `tiny.train.cost`."""
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


def shown_divergence(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How routing diverges, and whether it tells of errors: for each model's table of `routing.divergence` a row.

    p-values are adjusted by Holm's method.
    """
    tests = {name: beyond_tokens(table) for name, table in found.items()}
    adjusted = holm({name: float(test["p"]["experts"]) for name, test in tests.items()})
    rows = []
    for name, table in found.items():
        means, apart = table[["tokens", "experts", "entropy"]].mean(), parted(table)
        right, wrong = apart.loc[~apart["greedy_wrong"], "wrong"], apart.loc[apart["greedy_wrong"], "wrong"]
        row = {"model": name, "positions after parting": f"{means['tokens']:.0%}"}
        row |= {"experts that differ there": f"{means['experts'] / means['tokens']:.0%}"}
        row |= {"routing entropy, nats": f"{means['entropy']:.2f}"}
        row |= {"parted from right: wrong": f"{right.sum()} of {len(right)}"}
        row |= {"parted from wrong: right": f"{(~wrong).sum()} of {len(wrong)}"}
        row |= {"slope of experts": with_interval(*tests[name].loc["experts", ["slope", "low", "high"]])}
        rows.append(row | {"p": f"{adjusted[name]:.2g}"})
    return plain(pd.DataFrame(rows))


@figure
def design(models: pd.DataFrame, papers: Mapping[tuple[str, str], str], title: str, description: str) -> Any:
    """The cells of the design with their numbers of training seeds, and the model that the paper had there.

    `papers` maps (architecture, stage) to a name.
    """
    table = models.groupby(["architecture", "stage"])["seed"].nunique().reset_index()
    papers_model = [papers.get(cell, "") for cell in zip(table["architecture"], table["stage"], strict=True)]
    seeds = [f"{count} seeds" if count > 1 else "1 seed" for count in table["seed"]]
    table = table.assign(stage=table["stage"].map(STAGE_NAMES), seeds=seeds, paper=papers_model)
    down = alt.Y(
        "stage:N", sort=ORDER, title=None, axis=alt.Axis(domain=False, ticks=False, labelLimit=120, minExtent=100)
    )
    base = alt.Chart(table.assign(had=table["paper"] != "")).encode(
        x=alt.X("architecture:N", title=None, axis=alt.Axis(orient="top", domain=False, ticks=False, labelAngle=0)),
        y=down,
        tooltip=["architecture:N", "stage:N", "seeds:N", "paper:N"],
    )
    colour = alt.Scale(domain=[True, False], range=[PALETTE[0], GREY])
    cell = base.mark_rect(opacity=0.25, stroke="currentColor", strokeOpacity=0.4).encode(
        color=alt.Color("had:N", scale=colour, legend=None)
    )
    ours = base.mark_text(fontSize=11, color="currentColor", dy=-7).encode(text="seeds:N")
    theirs = base.mark_text(fontSize=11, color="currentColor", dy=9, fontStyle="italic").encode(text="paper:N")
    return themed((cell + ours + theirs).properties(title=title), description)


@figure
def cost(models: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """What temperature takes from each model: a dot per seed, a bar at their mean. `models` comes from `robustness`."""
    answers = models["stage"].map(TAUGHT).map({RIGHT: "all right", RANDOM: "some wrong at random"}).fillna("none")
    table = models.assign(stage=models["stage"].map(STAGE_NAMES), answers=answers)
    table = table[["seed", "architecture", "stage", "answers", "greedy", "hot", "drop"]]
    kinds = [kind for kind in ARCHITECTURES if kind in set(table["architecture"])]
    told = {"all right": CLEAN, "some wrong at random": NOISY, "none": GREY}
    there = [name for name in told if name in set(answers)]
    base = alt.Chart(table.round(5)).encode(
        y=alt.Y("stage:N", sort=ORDER, title=None, axis=alt.Axis(labelLimit=120, minExtent=95)),
        yOffset=alt.YOffset("architecture:N", sort=kinds),
        color=coloured("answers:N", there, [told[name] for name in there], legend=alt.Legend(columns=1)),
    )
    x: dict[str, Any] = {"title": "accuracy lost", "axis": PERCENT, "scale": alt.Scale(zero=True)}
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("drop:Q", **x),
        shape=alt.Shape(
            "architecture:N",
            sort=kinds,
            scale=alt.Scale(domain=kinds, range=SHAPES[: len(kinds)]),
            legend=alt.Legend(columns=1, symbolFillColor="currentColor", symbolStrokeColor="currentColor"),
        ),
        tooltip=["architecture:N", "stage:N", "seed:Q"]
        + [alt.Tooltip(f"{name}:Q", format=".1%") for name in ("greedy", "hot", "drop")],
    )
    mean = base.mark_tick(thickness=2, size=16).encode(
        x=alt.X("mean(drop):Q", **x), color=alt.ColorValue("currentColor")
    )
    return themed((dots + mean).properties(title=titled(title, subtitle)), description)


@figure
def finding(dropped: pd.DataFrame, title: str, description: str) -> Any:
    """What T = 1 costs models whose last answers could be predicted, and models whose last answers could not.

    A dot is a model. The bar is the interval of `levels`, its tick the mean.
    `dropped` holds the rows of `drops` that are `PLANNED`.
    """
    found = levels(dropped).query("task == 'all' and targets != 'none'").set_index("targets")
    models = robustness(planned_cells(dropped)).query("stage != 'base'")
    dots = models.assign(row=models["stage"].map(lambda stage: LEARNED[TUNED[stage][1]][0]))
    dots = dots[["row", "architecture", "stage", "seed", "greedy", "hot", "drop"]].round(5)
    rows = [
        {"row": row, "what": what, "low": one["low"], "high": one["high"], "drop": one["drop"]}
        | {"points": f"{with_interval(*(100 * one[['drop', 'low', 'high']]), form='{:.1f}')} points lost"}
        for targets, (row, what) in LEARNED.items()
        for one in [found.loc[targets]]
    ]
    order = [row for row, _ in LEARNED.values()]
    scale = alt.Scale(domain=[0, math.ceil(20 * float(dots["drop"].max())) / 20], nice=False)
    x: dict[str, Any] = {
        "title": "accuracy lost from T = 0 to T = 1",
        "axis": alt.Axis(format=".0%", values=[0, 0.1, 0.2, 0.3]),
        "scale": scale,
    }
    y = alt.Y("row:N", sort=order, axis=None, scale=alt.Scale(paddingInner=0.1, paddingOuter=0))
    colour = alt.Color("row:N", scale=alt.Scale(domain=order, range=[CLEAN, NOISY]), legend=None)
    base = alt.Chart(pd.DataFrame(rows).round(5)).encode(y=y)
    text = base.encode(x=alt.value(0))
    name = text.mark_text(align="left", fontSize=14, fontWeight=600, dy=-44, color="currentColor").encode(text="row:N")
    what = text.mark_text(align="left", fontSize=12, dy=-27, color="currentColor").encode(text="what:N")
    number = text.mark_text(align="left", fontSize=12, dy=-11, color="currentColor").encode(text="points:N")
    interval = base.mark_bar(height=3, yOffset=42).encode(x=alt.X("low:Q", **x), x2="high:Q", color=colour)
    mean = base.mark_tick(thickness=3, size=18, yOffset=42).encode(x=alt.X("drop:Q", **x), color=colour)
    point = (
        alt.Chart(dots)
        .mark_point(filled=True, size=55, opacity=1, stroke=None, yOffset=16)
        .encode(
            x=alt.X("drop:Q", **x),
            y=y,
            color=colour,
            tooltip=["architecture:N", alt.Tooltip("row:N", title="learned last"), "seed:Q"]
            + [alt.Tooltip(f"{one}:Q", format=".1%") for one in ("greedy", "hot", "drop")],
        )
    )
    chart = alt.layer(interval, mean, point, name, what, number).properties(title=title)
    return themed(chart, description).properties(height=250)


@figure
def curves(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """Exact accuracy against temperature, a line per model: rows of `tiny.factorial.curves` of one architecture."""
    stages = [stage for stage in STAGE_NAMES if stage in set(table["stage"])]
    names = [STAGE_NAMES[stage] for stage in stages]
    rows = table.assign(stage=table["stage"].map(STAGE_NAMES))[["seed", "stage", "temperature", "middle"]].round(5)
    colour = alt.Scale(domain=names, range=[LINES[stage][0] for stage in stages])
    dash = alt.Scale(domain=names, range=[LINES[stage][1] for stage in stages])
    legend = alt.Legend(symbolSize=300, symbolStrokeWidth=2)
    chart = (
        alt.Chart(rows)
        .mark_line(strokeWidth=1.5)
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
    """The main effects under each analysis with their 95 % intervals: the rows of `effects.sensitivity`."""
    rows = table[["analysis", "effect", "units"]].join((100 * table[INTERVAL]).round(3))
    order, kinds = list(dict.fromkeys(rows["analysis"])), list(dict.fromkeys(rows["effect"]))
    base = alt.Chart(rows).encode(
        y=alt.Y("analysis:N", sort=order, title=None, axis=alt.Axis(labelLimit=130, minExtent=125)),
        yOffset=alt.YOffset("effect:N", sort=kinds),
        color=alt.Color(
            "effect:N",
            sort=kinds,
            scale=alt.Scale(domain=kinds, range=[SERIES[0], SERIES[3], SERIES[1]]),
            legend=alt.Legend(columns=1),
        ),
    )
    x: dict[str, Any] = {"title": "change of the drop, points", "axis": alt.Axis(tickCount=5)}
    interval = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q", **x), x2="high")
    point = base.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X("estimate:Q", **x),
        tooltip=["analysis:N", "effect:N", "units:Q"] + [alt.Tooltip(f"{name}:Q", format="+.1f") for name in INTERVAL],
    )
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(color="currentColor", opacity=0.5).encode(x=alt.X("x:Q", **x))
    chart = themed(
        (zero + interval + point).properties(title=titled(title, f"{subtitle} · 95 % intervals")), description
    )
    return chart.properties(height=420)


@figure
def dose(table: pd.DataFrame, title: str, description: str, *, subtitle: str = "") -> Any:
    """The drop against the share of wrong targets, and what that share alone would take: rows of `effects.doses`."""
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
