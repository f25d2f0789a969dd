"""The page of a study: its conditions, what is missing, and how each pair of them compares. Every cell is text.

A condition is a run in a folder of its own, and goes by that folder's name. The numbers come from `lmrel.stats`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from book.analysis.trends import holm, mean_test
from book.figures.text import Lines, listed, plain, rests_on, sweep, temperature_name
from lmrel import records
from lmrel.errors import SHOWN, InputError, quoted
from lmrel.files import as_path, read_object, read_text
from lmrel.parameters import Comparing, as_list, is_path
from lmrel.stats.comparison import WORSE, Comparison, compare
from lmrel.stats.contrasts import clusters_of, equivalence, paired
from lmrel.stats.inference import ALIKE, LEVEL, bounded_interval, summarize_with_intervals, with_interval
from lmrel.stats.metrics import DRAWN
from study.parts import HOW
from study.results import find_runs, started

FAILED = "evaluate.failed.txt"  # why the last try of a condition failed
READ = ("cluster", "prompt", "expected", "text", "extracted", "answer", "n_tokens")  # of draws, beside metrics.DRAWN
KNOBS = ("decoding", "top_k", "top_p", "min_p", "repetition_penalty", "stop_strings", "max_new_tokens", "stop")
NOTHING = "Nothing to compare: it takes two finished conditions"
Pairs = dict[tuple[str, str], Comparison | InputError]


@dataclass(frozen=True, eq=False)
class Found:
    """What the conditions of a study left in their folders below `place`.

    `records` has the run.json of each condition that has finished, in the order of the study, and `remarks` what is
    missing of the others. `kept` are finished runs that the study does not name. `summary` is that of all draws, with
    the condition in column ``model``. `shares` has a row per condition, temperature and problem: the mean of the metric
    in column ``share``, of which more is better, and what was asked.
    """

    place: Path
    asked: Comparing
    records: dict[str, dict[str, Any]]
    remarks: dict[str, str]
    kept: list[str]
    summary: pd.DataFrame
    shares: pd.DataFrame


def read(
    results: Path | str,
    runs: Sequence[str] | str,
    temperatures: Sequence[float] = (0.0, 1.0),
    metric: str = "correct",
    margin: float = 0.05,
) -> Found:
    """The conditions `runs`, folders below `results`: those that have finished, and why the others have not.

    Conditions are compared at one or two `temperatures`, as `lmrel.compare` does. Lists may be written as text, as
    papermill's ``-p`` does. A folder that cannot be read is missing.
    """
    place, runs, asked = as_path("results_dir", results), as_list(runs), Comparing(temperatures, metric, margin)  # type: ignore[arg-type]
    if not isinstance(runs, list) or not all(map(is_path, runs)) or len(set(runs)) < len(runs):
        raise InputError(f"runs is {quoted(runs)}; it must be a list of folders below {place}, each once.")
    if len(asked.temperatures) > 2:
        raise InputError(f"temperatures is {quoted(temperatures)}; it must be one or two, such as (0, 1).")
    found, remarks, summaries, shares = {}, {}, [], []
    for run in runs:
        failure = _failure(place / run)
        try:
            record = _record(place / run)
            draws = _draws(place, run, record, metric)
            summary, share = summarize_with_intervals(draws), _shares(draws, metric)
        except InputError as error:
            began = (place / run / records.RUN).exists()
            remarks[run] = failure or (str(error) if began else "not run yet")
            continue
        if failure:
            remarks[run] = f"its last try failed, and what is shown is of an earlier one: {failure}"
        found[run] = record | {"draws": len(draws)}
        summaries.append(summary)
        shares.append(share)
    kept = [folder.name for folder in find_runs(place) if folder.name not in runs]
    return Found(place, asked, found, remarks, kept, *map(_together, (summaries, shares)))


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"task": []})


def _failure(folder: Path) -> str:
    """Why the last try failed, of the run or else of one of its shards, on one line; empty where none did."""
    for path in (folder / FAILED, *sorted(folder.glob(f"shards/*/{FAILED}"))):
        with suppress(OSError, ValueError):
            return " ".join(read_text(path).removeprefix("InputError: ").split())
    return ""


def _record(folder: Path) -> dict[str, Any]:
    """A run's run.json, checked as far as this page needs it."""
    record = read_object(folder / records.RUN, "parameters", "precision", "decoding_id", "started")
    names = ("precision", "decoding_id", "started")
    if not isinstance(record["parameters"], dict) or not all(isinstance(record[name], str) for name in names):
        raise InputError(f"{folder / records.RUN} is no record of a run.")
    return record


def _draws(place: Path, run: str, record: Mapping[str, Any], metric: str) -> pd.DataFrame:
    """The draws of a run, of which the model is the condition; two conditions may be of one model."""
    draws = records.read_draws(place / run, list(dict.fromkeys([*DRAWN, *READ, metric])))
    if missing := [name for name in (*READ, metric) if name not in draws]:
        raise InputError(f"{place / run / records.DRAWS} has no column {quoted(missing[0])}.")
    return draws.assign(model=run, system=str(record["parameters"].get("system") or ""))


def _shares(draws: pd.DataFrame, metric: str) -> pd.DataFrame:
    """See `Found`."""
    values = pd.to_numeric(draws[metric].astype(object), errors="coerce").astype(float)
    if not values.between(0.0, 1.0).all():
        raise InputError(f"some draws have a {metric} that is missing or no number from 0 to 1.")
    cluster, expected = draws["cluster"].fillna(draws["problem_id"]), draws["expected"].astype(str)
    table = draws.assign(share=1.0 - values if metric in WORSE else values, cluster=cluster, expected=expected)
    table = table.assign(question=_questions(table))
    groups = table.groupby(["temperature", "problem_id"], sort=False)
    columns = {"share": "mean"} | dict.fromkeys(("cluster", "expected", "question"), "first")
    return groups.agg(columns).reset_index().assign(condition=draws["model"].iloc[0])


def _questions(draws: pd.DataFrame) -> pd.Series:
    """What each draw was asked: its cluster where that stands in the prompt, else the lines that not all begin with."""
    prompts = draws["prompt"].astype(object).fillna("").astype(str)
    first, last = prompts.min(), prompts.max()  # in order, so all begin with what these two do
    shared = next((place for place, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), 0)
    own = prompts.str.slice(first[:shared].rfind("\n") + 1).str.replace("\n", "⏎")
    asked = zip(draws["cluster"].astype(str), prompts, own, strict=True)
    return pd.Series([cluster if cluster in prompt else line for cluster, prompt, line in asked], index=draws.index)


def overview(found: Found) -> Lines:
    """How many conditions have finished, what they hold, and what that rests on."""
    names = list(found.records)
    said = f"{len(names)} of {len({*names, *found.remarks})} conditions have finished"
    if not names:
        return Lines([f"{said}."])
    draws = sum(record["draws"] for record in found.records.values())
    rests = rests_on(names, sweep(sorted(found.summary["temperature"].unique())), started(found.place, names))
    return Lines([rests, f"{said}: {draws:,} draws of {found.shares['problem_id'].nunique():,} problems."])


def conditions(found: Found) -> pd.DataFrame | Lines:
    """The model of each finished condition and the other parameters in which they differ, its problems and draws."""
    if not found.records:
        return Lines(["No condition has finished."])
    given = {run: record["parameters"] | {"precision": record["precision"]} for run, record in found.records.items()}
    names = dict.fromkeys(name for parameters in given.values() for name in parameters if name not in HOW)
    differ = [name for name in names if len({quoted(parameters.get(name)) for parameters in given.values()}) > 1]
    asked = found.shares.groupby("condition")["problem_id"].nunique()
    rows = [
        {"condition": run}
        | {name: _value(parameters.get(name)) for name in dict.fromkeys(["model", *differ])}
        | {"problems asked": f"{asked[run]:,}", "draws": f"{found.records[run]['draws']:,}"}
        for run, parameters in given.items()
    ]
    return plain(pd.DataFrame(rows))


def _value(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "not set" if value is None else "yes" if value else "no"
    text = value if isinstance(value, str) else quoted(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}\N{HORIZONTAL ELLIPSIS}"


def missing(found: Found) -> Lines:
    """What is not among the conditions that are shown, a sentence each: those that have not finished, and why.

    Then those whose last try failed, and the finished runs in the same folder that the study does not name.
    """
    left = ", ".join(found.kept)
    said = [f"{run}: {remark}" for run, remark in found.remarks.items()] or ["All conditions have finished."]
    return Lines([*said, *([f"Finished, but not in this study, and kept: {left}"] if left else [])])


def drops(found: Found) -> pd.DataFrame:
    """What each condition loses from the first temperature to the second, paired by problem, with a 95 % interval.

    Columns ``condition, drop, low, high, problems``; a condition without draws at both has no row.
    """
    rows = []
    for run, own in _by_condition(found):
        if len(found.asked.temperatures) == 2 and set(found.asked.temperatures) <= set(own["temperature"]):
            first, second = found.asked.temperatures
            falls = paired(_at(found, run, second), _at(found, run, first), "share")
            drop, low, high = bounded_interval(falls, clusters_of(falls))
            rows.append({"condition": run, "drop": drop, "low": low, "high": high, "problems": len(falls)})
    return pd.DataFrame(rows, columns=["condition", "drop", "low", "high", "problems"])


def lost(found: Found) -> Lines:
    """What each condition loses, with its 95 % interval, in a sentence; nothing where `drops` has no row."""
    table = drops(found)
    ends = (100 * table[["drop", "low", "high"]]).to_numpy(dtype=float)
    parts = [f"{run} {with_interval(*row, form='{:.1f}')}" for run, row in zip(table["condition"], ends, strict=True)]
    both = " to ".join(map(temperature_name, found.asked.temperatures))
    return Lines([f"Points lost from {both}: {listed(parts)} (95 % intervals over problems)."] if parts else [])


def shown_drops(found: Found) -> pd.DataFrame | Lines:
    """The `drops` in percentage points, as text."""
    table = drops(found)
    if table.empty:
        chosen = " and ".join(f"T = {t:g}" for t in found.asked.temperatures)
        return Lines([f"No finished condition has draws at two temperatures of those that are compared, {chosen}."])
    points = [_points(*row) for row in table[["drop", "low", "high"]].to_numpy()]
    problems = table["problems"].map("{:,}".format)
    return plain(
        pd.DataFrame(
            {"condition": table["condition"], f"drop of {found.asked.metric}, points": points, "problems": problems}
        )
    )


def loss_title(summary: pd.DataFrame) -> str:
    """What the conditions lose from the lowest temperature to the highest, all tasks together."""
    whole = summary[summary["task"] == "all"].sort_values("temperature", kind="stable")
    lost = 100 * whole.groupby("model", sort=False)["accuracy"].agg(lambda shares: shares.iloc[0] - shares.iloc[-1])
    ends = f"T = {whole['temperature'].min():g} to T = {whole['temperature'].max():g}"
    if lost.min() <= 0:
        return f"From {ends}, {int((lost > 0).sum())} of {len(lost)} lose accuracy"
    if len(lost) == 1:
        return f"From {ends}, accuracy falls by {lost.iloc[0]:.0f} points"
    return f"From {ends}, all lose: {lost.idxmin()} {lost.min():.0f} points, {lost.idxmax()} {lost.max():.0f}"


def compliance(summary: pd.DataFrame) -> Lines:
    """Over all temperatures, the least and the most of each condition's outputs that are the answer alone."""
    whole = summary[summary["task"] == "all"]
    ends = whole.groupby("model", sort=False)["compliance"].agg(["min", "max"])
    each = [
        f"{model} {' to '.join(dict.fromkeys(f'{share:.0%}' for share in shares))}"
        for model, shares in zip(ends.index, ends.to_numpy(), strict=True)
    ]
    return Lines([f"Outputs that are the answer and nothing else, over all temperatures: {'; '.join(each)}."])


def pairs(found: Found) -> Pairs:
    """Each pair of finished conditions as `lmrel.compare` finds it, or why it cannot; none at one temperature alone.

    What two conditions may differ in is what their parameters differ in.
    """
    first, second, metric = *found.asked.temperatures[:1], *found.asked.temperatures[-1:], found.asked.metric
    tables: Pairs = {}
    if first == second:
        return tables
    for a, b in combinations(found.records, 2):
        ours, theirs = (found.records[run] for run in (a, b))
        options: dict[str, Any] = {"metric": metric, "margin": found.asked.margin, "across": meant(ours, theirs)}
        both = (_draws(found.place, run, found.records[run], metric) for run in (a, b))
        try:
            tables[a, b] = compare(*both, temperatures=(first, second), **options)
        except InputError as error:
            tables[a, b] = error
    return tables


def meant(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What `lmrel.compare` may find to differ between two runs, given their run.json: what was asked to differ.

    Decoding as shipped asks for the decoders of the model.
    """
    ours, theirs = a["parameters"], b["parameters"]
    names = [name for name in ("prompt_style", "system", "answer") if ours.get(name) != theirs.get(name)]
    shipped = "as_shipped" in (ours.get("decoding"), theirs.get("decoding"))
    return [*names, "decoder"] if shipped or any(ours.get(name) != theirs.get(name) for name in KNOBS) else names


def shown_pairs(found: Found, compared: Pairs) -> pd.DataFrame | Lines:
    """The `pairs` as text: the difference of drops in points, and the verdict on the first, alone and corrected.

    Both tests of a pair, for a difference and for equivalence, are corrected by Holm's method for the number of pairs.
    """
    if not compared:
        return Lines([f"{NOTHING} and two temperatures."])
    tested = {pair: _drop_difference(found, *pair) for pair, one in compared.items() if isinstance(one, Comparison)}
    differ = _corrected(tested, mean_test)
    alike = _corrected(tested, lambda differences: _equivalence(differences, found.asked.margin))
    rows = []
    for (a, b), one in compared.items():
        if isinstance(one, InputError):
            cells = {"alone": "not compared"}
        else:
            p, q, level = differ[a, b], alike[a, b], 1.0 - LEVEL
            among = replace(one, equivalent=one.equivalent and q < level)
            if p >= level:
                among = replace(among, low=min(one.low, 0.0), high=max(one.high, 0.0))
            cells = {
                "difference, points": _points(one.difference, one.low, one.high),
                "alone": one.verdict,
                "p, corrected": f"{p:.2g}",
                "corrected": among.verdict,
            }
        rows.append({"condition": a, "against": b} | cells)
    return plain(pd.DataFrame(rows))


def refused(compared: Pairs) -> Lines:
    """Which pairs were not compared, and why."""
    said = [
        f"Not compared, {a} (a) with {b} (b): {one}" for (a, b), one in compared.items() if isinstance(one, InputError)
    ]
    return Lines(said or ["All pairs were compared."] * bool(compared))


def levels(found: Found) -> pd.DataFrame | Lines:
    """Each pair at each chosen temperature: the paired difference in points, and who is better in how many problems.

    p-values are corrected by Holm's method for all rows. A pair on different problems has no row.
    """
    tested = {
        (a, b, t): differences
        for t in found.asked.temperatures
        for a, b in combinations(found.records, 2)
        if (differences := _level_difference(found, a, b, t)) is not None
    }
    if not tested:
        return Lines([f"{NOTHING} on the same problems."])
    corrected, rows = _corrected(tested, mean_test), []
    for (a, b, t), differences in tested.items():
        difference = bounded_interval(differences, clusters_of(differences))
        better, worse = int((differences > ALIKE).sum()), int((differences < -ALIKE).sum())
        rows.append(
            {
                "T": f"{t:g}",
                "condition": a,
                "against": b,
                "difference, points": _points(*difference),
                "p, corrected": f"{corrected[a, b, t]:.2g}",
                "better": f"{better:,}",
                "worse": f"{worse:,}",
                "alike": f"{len(differences) - better - worse:,}",
            }
        )
    return plain(pd.DataFrame(rows))


def examples(found: Found, a: str, b: str, count: int = 2) -> pd.DataFrame | Lines:
    """Up to `count` problems in which each of two conditions is better by most, at each chosen temperature.

    The numbers are shares of draws.
    """
    parts = []
    for t in found.asked.temperatures:
        differences = _level_difference(found, a, b, t)
        if differences is None:
            continue
        ours, theirs = (_at(found, run, t).set_index("problem_id") for run in (a, b))
        apart = differences[differences.abs() > ALIKE].droplevel("cluster").sort_values(ascending=False, kind="stable")
        some = [*apart[apart > 0].index[:count], *apart[apart < 0].index[::-1][:count]]
        columns = {"problem": some, "question": ours["question"][some].to_numpy()}
        shares = {run: side["share"][some].map("{:.0%}".format).to_numpy() for run, side in ((a, ours), (b, theirs))}
        parts.append(pd.DataFrame({"T": f"{t:g}"} | columns | shares))
    table = pd.concat(parts) if parts else pd.DataFrame()
    return plain(table) if len(table) else Lines(["There is no problem in which one of them is better."])


def _by_condition(found: Found) -> Iterator[tuple[str, pd.DataFrame]]:
    return ((run, found.shares[found.shares["condition"] == run]) for run in found.records)


def _at(found: Found, run: str, temperature: float) -> pd.DataFrame:
    return found.shares[(found.shares["condition"] == run) & (found.shares["temperature"] == temperature)]


def _level_difference(found: Found, a: str, b: str, temperature: float) -> pd.Series | None:
    """The share of `a` minus that of `b`, by problem; None without draws of both, or of other problems."""
    ours, theirs = _at(found, a, temperature), _at(found, b, temperature)
    both = ours.merge(theirs, on=["problem_id", "cluster", "expected"])
    same = len(both) == len(ours) == len(theirs) and both["cluster"].nunique() > 1
    return paired(theirs, ours, "share") if same else None


def _drop_difference(found: Found, a: str, b: str) -> pd.Series:
    """The drop of `a` minus that of `b`, by problem."""
    first, second = found.asked.temperatures
    ours, theirs = (paired(_at(found, run, second), _at(found, run, first), "share") for run in (a, b))
    return ours - theirs


def _corrected(tested: Mapping[Any, pd.Series], test: Callable[[pd.Series], float]) -> dict[Any, float]:
    """The p-value of a test of each of the differences, corrected by Holm's method for their number."""
    found = {str(number): test(differences) for number, differences in enumerate(tested.values())}
    return dict(zip(tested, holm(found).values(), strict=True)) if found else {}


def _equivalence(differences: pd.Series, margin: float) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a floor; the comparison has a note of it
        return float(equivalence(differences, margin)["p"])


def _points(estimate: float, low: float, high: float) -> str:
    return with_interval(100 * estimate, 100 * low, 100 * high)
