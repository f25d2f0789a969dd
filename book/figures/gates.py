"""The page "How many runs, what threshold": figures, tables and sentences from the rows of `book.analysis.gates`.

Shares come in, points and per cent go out. `advice` says of a log of yours what the page says of its example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from book.analysis import gates
from book.figures.text import Lines, listed, plain
from lmrel.charts import coloured, figure, themed, titled

DRAWS = 10  # of a problem; models with fewer are shown, and are not taken as the example
MEDIAN_OF = "problem_variance"  # the plan's first quantity, whose median model is the example
ALARM = 0.05
RUNS, OTHER = (1, 4, 16), "other problems, 16 runs"
SOURCES = {"cruxeval": "CRUXEval", "renze": "Renze & Guven"}


def models(table: pd.DataFrame) -> pd.DataFrame:
    """The row of each model over all tasks, at its highest temperature, where draws vary most."""
    whole = table[table["task"] == "all"].sort_values("temperature", kind="stable")
    return whole.groupby(["source", "model"], sort=True).tail(1).sort_values(["source", "model"], ignore_index=True)


def example(table: pd.DataFrame) -> pd.Series:
    """The row of the model with the median `MEDIAN_OF`, the lower of two, of those with `DRAWS` independent draws."""
    some = models(table)
    some = some[(some["runs"] >= DRAWS) & some["independent"]]
    return some.sort_values(MEDIAN_OF, kind="stable").iloc[(len(some) - 1) // 2]


@figure
def bought(row: pd.Series, problems: int, title: str, description: str, *, subtitle: str = "") -> Any:
    """The smallest change against the draws in all, from one of each of `problems` on: more runs, or more problems."""
    times = [2**i for i in range(8)]
    variances = row["temperature_between"], row["temperature_sampling"]
    runs = gates.bought(*variances, [problems], times).assign(more="more runs")
    wider = gates.bought(*variances, [problems * n for n in times], [1]).assign(more="more problems")
    rows = pd.concat([runs, wider]).assign(draws=lambda table: table["problems"] * table["runs"])
    rows["points"] = 100 * rows["smallest"]
    order = ["more runs", "more problems"]
    base = alt.Chart(rows.round(3)).encode(
        x=alt.X(
            "draws:Q", title="draws, each time", scale=alt.Scale(type="log"), axis=alt.Axis(tickCount=4, format=",")
        ),
        y=alt.Y("points:Q", title="points", scale=alt.Scale(zero=True)),
        color=coloured("more:N", order, legend=None),
    )
    tips = [alt.Tooltip("problems:Q", format=","), "runs:Q", alt.Tooltip("points:Q", format=".1f")]
    line = base.mark_line(strokeWidth=2) + base.mark_point(filled=True, size=45, opacity=1).encode(tooltip=tips)
    # To the right of a falling line and above it nothing is in the way.
    label = base.transform_filter(f"datum.draws == {problems * times[3]}")
    label = label.mark_text(align="left", dx=7, dy=-8, fontSize=13).encode(text="more:N")
    return themed((line + label).properties(title=titled(title, subtitle)), description)


@figure
def alarms(row: pd.Series, problems: int, title: str, description: str, *, subtitle: str = "") -> Any:
    """How often a gate fails a model that did not change, against the fall that it allows, by runs."""
    falls = [i / 200 for i in range(17)]
    table = gates.alarms(row["problem_variance"], row["sampling_variance"], problems, RUNS, falls)
    names = {runs: f"{runs} run{'s' if runs > 1 else ''}" for runs in RUNS}
    table["what"] = table["runs"].map(names).where(table["where"] == "same", OTHER)
    table = table[(table["where"] == "same") | (table["runs"] == RUNS[-1])].assign(points=100 * table["fall"])
    order = [*names.values(), OTHER]
    chart = (
        alt.Chart(table[["what", "points", "chance"]].round(4))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("points:Q", title="fails if accuracy falls by more than, points", axis=alt.Axis(tickCount=5)),
            y=alt.Y("chance:Q", title=None, axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 0.5])),
            color=coloured("what:N", order),
            strokeDash=alt.StrokeDash(
                "what:N", sort=order, scale=alt.Scale(domain=order, range=[[1, 0], [1, 0], [1, 0], [5, 3]])
            ),
            tooltip=["what:N", "points:Q", alt.Tooltip("chance:Q", format=".1%")],
        )
    )
    return themed(chart.properties(title=titled(title, subtitle)), description)


# Tables.


def shown_thresholds(row: pd.Series, problems: Sequence[int] = (100, 200, 400, 1600)) -> pd.DataFrame:
    """The gate that fails one unchanged model in twenty, and the loss that it catches four times in five, as text."""
    found = gates.thresholds(row["sampling_variance"], problems, RUNS, ALARM)
    found["cell"] = [f"{100 * fall:.1f} ({100 * loss:.1f})" for fall, loss in found[["fall", "loss"]].to_numpy()]
    wide = found.pivot(index="problems", columns="runs", values="cell")
    columns = {"problems": [f"{n:,}" for n in wide.index]}
    return plain(pd.DataFrame(columns | {f"{n} run{'s' if n > 1 else ''}": wide[n].tolist() for n in RUNS}))


def shown_models(table: pd.DataFrame) -> pd.DataFrame:
    """A row per model as text: its variances, what its design can find or show, and a gate's false alarms."""
    some = models(table)
    names = some["model"].where(some["independent"], some["model"] + " (not independent)")
    columns: dict[str, Any] = {"model": names, "from": some["source"].map(SOURCES).fillna(some["source"])}
    columns["T"] = some["temperature"].map("{:g}".format)
    columns["problems, draws"] = [f"{n:,.0f}, {k:.0f}" for n, k in some[["problems", "runs"]].to_numpy()]
    columns["accuracy"] = some["accuracy"].map("{:.1%}".format)
    for name, title in {"problem_variance": "between problems", "sampling_variance": "of a draw"}.items():
        columns[title] = some[name].map("{:.3f}".format)
    for name, title in {"smallest_change": "smallest change", "margin": "margin"}.items():
        columns[title] = ["" if math.isnan(value) else f"{100 * value:.1f}" for value in some[name]]
    for fall in gates.FALLS:
        columns[f"alarms at {100 * fall:g}"] = some[f"alarm_same_{100 * fall:g}"].map(_percent)
    return plain(pd.DataFrame(columns))


def _percent(share: float) -> str:
    """A chance in per cent, without decimals from 1 % on."""
    return "under 0.1 %" if share < 0.0005 else f"{100 * share:.1f} %" if share < 0.0095 else f"{100 * share:.0f} %"


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"


# Sentences.


def numbers(table: pd.DataFrame, problems: int) -> dict[str, str]:
    """The sentences that the page's prose quotes, by key; those of a gate are of so many `problems`."""
    row = example(table)
    found = {"gates headline": headline(row, problems), "gates split": split(table, row)}
    found |= {"gates changes": changes(row), "gates margin": margin(row), "gates bought": of_bought(row, problems)}
    found |= {"gates missed": missed(row, problems), "gates copies": copies(table), "gates new": others(row, problems)}
    return found


def headline(row: pd.Series, problems: int, fall: float = 0.01) -> str:
    """What a gate at so many points does to a model that did not change, and where it had to stand."""
    ends = (RUNS[0], RUNS[-1])
    few, many = gates.alarms(0.0, row["sampling_variance"], problems, ends, [fall]).query("where == 'same'")["chance"]
    falls = [_points(at) for at in gates.thresholds(row["sampling_variance"], [problems], ends, ALARM)["fall"]]
    return (
        f"A check that allows accuracy to fall by {100 * fall:g} point, on {problems:,} problems with one draw each, "
        f"fails a model that did not change {_percent(few)} of the time; with {ends[1]} draws of each, "
        f"{_percent(many)}. For one false alarm in {1 / ALARM:.0f} it has to allow {falls[0]}, or with {ends[1]} draws "
        f"{falls[1]}."
    )


def alarms_title(row: pd.Series, problems: int, fall: float = 0.02) -> str:
    """How often a gate at so many points fails a model that did not change, with the fewest and the most runs."""
    table = gates.alarms(row["problem_variance"], row["sampling_variance"], problems, (RUNS[0], RUNS[-1]), [fall])
    few, many = table.query("where == 'same'")["chance"]
    return (
        f"A gate at {100 * fall:g} points fails an unchanged model {_percent(few)} of the time with one run, "
        f"{_percent(many)} with {RUNS[-1]}"
    )


def bought_title(row: pd.Series, problems: int, times: int = 16) -> str:
    """Down to which change so many times the draws reach, as runs and as problems."""
    first, runs, wider = _bought(row, problems, times)
    return f"{times} times the draws: from {first} down to {runs} as runs, to {wider} as problems"


def _bought(row: pd.Series, problems: int, times: int) -> list[str]:
    """The smallest change that one draw of each of the `problems` finds; so many runs; so many times the problems."""
    variances = row["temperature_between"], row["temperature_sampling"]
    found = gates.bought(*variances, [problems, times * problems], [1, times]).set_index(["problems", "runs"])
    cells = found["smallest"]
    return [_points(cells[at]) for at in ((problems, 1), (problems, times), (times * problems, 1))]


def split(table: pd.DataFrame, row: pd.Series) -> str:
    """How the variance of one draw splits, of the example and over all models."""
    some = models(table)
    some = some[some["independent"]]
    share = some["sampling_variance"] / (some["sampling_variance"] + some["problem_variance"].clip(lower=0))
    own = row["sampling_variance"] / (row["sampling_variance"] + max(0.0, row["problem_variance"]))
    return (
        f"{row['model']} at T = {row['temperature']:g} is right in {_percent(row['accuracy'])} of its draws. Of the "
        f"variance of a single draw, {_percent(1 - own)} lies between problems and {_percent(own)} between draws of "
        "one problem. "
        f"Over {len(some)} models the latter share goes from {_percent(share.min())} to {_percent(share.max())}."
    )


def _design(row: pd.Series) -> str:
    return f"{row['problems']:,} problems with {row['runs']:.0f} draws each"


def changes(row: pd.Series) -> str:
    """The smallest changes that a setting's design could find."""
    parts = [f"{_points(row['smallest_shift'])} if it is the same on every problem"]
    if not math.isnan(row["smallest_change"]):
        ends = " and ".join(f"{end:g}" for end in sorted([row["temperature"], row["other_temperature"]]))
        parts.append(f"{_points(row['smallest_change'])} if it is as uneven as between T = {ends}")
    if not math.isnan(row["smallest_model_change"]):
        parts.append(f"{_points(row['smallest_model_change'])} against another model, {row['other_model']}")
    return f"{_design(row)} could find a change of {'; '.join(parts)}."


def margin(row: pd.Series) -> str:
    """The margin that a setting's design could show by equivalence."""
    return f"If nothing changed, it could show that the change is within {_points(row['margin'])}, up or down."


def of_bought(row: pd.Series, problems: int, times: int = 16) -> str:
    """What so many times the draws buy, as runs and as problems."""
    first, runs, wider = _bought(row, problems, times)
    return (
        f"{problems:,} problems with one draw could find a change of {first}. With {times} draws each it is {runs}; "
        f"with {times} times the problems, and as many draws in all, {wider}."
    )


def missed(row: pd.Series, problems: int, fall: float = 0.03) -> str:
    """How often a gate passes a model that lost what it allows, and twice that, with one draw a problem."""
    chances = []
    for loss in (fall, 2 * fall):
        table = gates.alarms(0.0, row["sampling_variance"], problems, [1], [fall], loss)
        chances.append(1 - table["chance"].iloc[0])
    return (
        f"A gate at {100 * fall:g} points, {problems:,} problems and one draw each passes a model that lost "
        f"{100 * fall:g} points {_percent(chances[0])} of the time, and one that lost {200 * fall:g} "
        f"points {_percent(chances[1])}."
    )


def others(row: pd.Series, problems: int, fall: float = 0.03) -> str:
    """What the same gate does where before and after are asked other problems."""
    table = gates.alarms(row["problem_variance"], row["sampling_variance"], problems, [16], [fall]).set_index("where")
    same, new = table.loc[["same", "new"], "chance"]
    return (
        f"At {100 * fall:g} points and 16 draws, it fails an unchanged model {_percent(same)} of the time on the same "
        f"problems, and {_percent(new)} on {problems:,} others of the same kind."
    )


def copies(table: pd.DataFrame) -> str:
    """Which models' repeats are no independent draws."""
    found = listed(sorted(table.loc[~table["independent"], "model"].unique()))
    if not found:
        return "All models' repeats pass for independent draws."
    return (
        f"Repeats of {found} are not independent, so all that follows from their variance comes out too small. They "
        "are in the table of all models and nowhere else."
    )


def advice(draws: pd.DataFrame) -> Lines:
    """What an evaluation of yours can tell, a paragraph per setting: draws as `lmrel.read_outputs` gives them."""
    table = gates.gates(draws)
    whole = table[table["task"] == "all"]
    return Lines(_advised(row) for _, row in whole.iterrows())


def _advised(row: pd.Series) -> str:
    """The accuracy of a setting, what its design can find and show, and its gate."""
    who = f"{row['model']} at T = {row['temperature']:g}: {_percent(row['accuracy'])} right."
    if row["sampling_variance"] == 0:
        return f"{who} Its repeats never differ in {_design(row)}, so they do not say how far new draws would."
    gate = gates.thresholds(row["sampling_variance"], [row["problems"]], [round(row["runs"])], ALARM).iloc[0]
    return (
        f"{who} {changes(row)} {margin(row)} A gate at {_points(gate['fall'])} fails one unchanged model in "
        f"{1 / ALARM:.0f}, and catches a loss of {_points(gate['loss'])} four times in five."
    )
