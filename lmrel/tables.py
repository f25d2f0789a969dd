"""Tables for people: what a summary or a few draws look like on a page. Every cell is text; pandas escapes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from shlex import quote

import pandas as pd

from lmrel import records
from lmrel.agreement import flips, repeated
from lmrel.errors import InputError, as_path, reads, visible
from lmrel.inference import paired_difference
from lmrel.registry import REGISTRY


def percent_with_interval(row: pd.Series, name: str) -> str:
    """Like ``41.7 % [36, 48]``."""
    low, high = (f"{100 * row[f'{name}_{end}']:.0f}" for end in ("low", "high"))
    return f"{100 * row[name]:.1f} % [{low}, {high}]"


@reads("model", "temperature", "task", "runs", "accuracy", "compliance", "consistency")
def by_temperature(summary: pd.DataFrame) -> pd.DataFrame:
    """The settings of a summary, all tasks together: the paper's four quantities, with 95 % intervals."""
    whole = summary[summary["task"] == "all"]
    rows = [
        {
            "model": row["model"],
            "T": f"{row['temperature']:g}",
            "accuracy": percent_with_interval(row, "accuracy"),
            "compliance": percent_with_interval(row, "compliance"),
            "consistency": f"{100 * row['consistency']:.2f} points" if row["runs"] > 1 else "one run",
            "confidence": f"{row['confidence']:.3f}",
            "processed": f"{row['confidence_processed']:.3f}",
        }
        for _, row in whole.iterrows()
    ]
    table = plain(pd.DataFrame(rows))
    return table if whole["model"].nunique() > 1 else table.drop(columns="model")


def agreement(draws: pd.DataFrame) -> pd.DataFrame:
    """How far repeated draws agree, and with the greedy one, by model and temperature: all tasks together."""
    rows = repeated(draws).merge(flips(draws)).query("task == 'all'")
    columns = {
        "model": rows["model"],
        "T": rows["temperature"].map("{:g}".format),
        "same answer in all runs": rows["same_answer"].map("{:.1%}".format),
        "other answer than greedy": rows["flipped"].map("{:.1%}".format),
        "entropy of answers, bits": rows["answer_entropy"].map("{:.2f}".format),
        "variance between problems": rows["problem_variance"].map("{:.3f}".format),
        "of a draw": rows["sampling_variance"].map("{:.3f}".format),
    }
    return plain(pd.DataFrame(columns))


@reads("model", "checkpoint", "task", "accuracy", "compliance")
def other_runs(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy and compliance of runs that need not be alike, each with its model, problems, prompt and decoding.

    `summary` is as from `lmrel.records.read_summaries`.
    """
    whole = summary[summary["task"] == "all"]
    columns = {
        "run": whole["model"],
        "model": whole["checkpoint"],
        "precision": whole["precision"],
        "problems": whole["problems"],
        "prompt": whole["prompt_style"],
        "decoding": whole["decoding"],
        "T": whole["temperature"].map("{:g}".format),
        "accuracy": whole.apply(percent_with_interval, axis=1, name="accuracy"),
        "compliance": whole.apply(percent_with_interval, axis=1, name="compliance"),
    }
    return plain(pd.DataFrame(columns))


@reads("model", "temperature", "task", "accuracy")
def by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by task (columns) and temperature (rows), with 95 % intervals."""
    parts = summary[summary["task"] != "all"]
    cells = parts.apply(percent_with_interval, axis=1, name="accuracy")
    table = parts.assign(cell=cells).pivot(index=["model", "temperature"], columns="task", values="cell").reset_index()
    table["temperature"] = table["temperature"].map("{:g}".format)
    return plain(table.rename(columns={"temperature": "T", "variable_binding": "variable binding"}))


@reads("temperature", "task", "run", "problem_id", "expected", "text", "correct", "compliant")
def samples(draws: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """The first `count` problems of each task at each temperature, run 0. Line ends are shown as ``⏎``."""
    chosen = draws[draws["run"] == draws.groupby("temperature")["run"].transform("min")]
    chosen = chosen.groupby(["temperature", "task"], sort=False).head(count)
    table = chosen[["temperature", "problem_id", "expected", "text", "correct", "compliant"]].copy()
    table["text"] = table["text"].str.replace("\n", "⏎")
    table["temperature"] = table["temperature"].map("{:g}".format)
    return plain(table.rename(columns={"temperature": "T", "problem_id": "problem", "text": "the model wrote"}))


@reads("model", "temperature", "problem_id", "correct", empty=True)
def drops(draws: pd.DataFrame, first: float = 0.0, second: float = 1.0) -> pd.DataFrame:
    """For each model, the paired change of accuracy between two temperatures, with a 95 % interval.

    Columns ``model, difference, low, high, problems``; models without both temperatures are left out.
    """
    rows = []
    for model, own in draws.groupby("model", sort=False):
        if {first, second} <= set(own["temperature"]) and own["problem_id"].nunique() > 1:
            rows.append({"model": model, **paired_difference(own, "correct", first, second)})
    return pd.DataFrame(rows, columns=["model", "difference", "low", "high", "problems"])


def drops_of(results: Path, runs: Sequence[str]) -> pd.DataFrame:
    """`drops` of `runs` below `results`, whose draws are read one run after the other."""
    columns = ["temperature", "run", "problem_id", "correct"]
    if not runs:
        raise InputError(f"there are no runs below {results} to compare.")
    tables = [drops(records.read_draws(as_path("results", results) / run, columns).assign(model=run)) for run in runs]
    return pd.concat(tables, ignore_index=True)


@reads("model", "difference", "low", "high", empty=True)
def shown_drops(table: pd.DataFrame) -> pd.DataFrame:
    """`drops` in percentage points, as text."""
    points = 100 * table[["difference", "low", "high"]]
    change = [f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" for row in points.itertuples()]
    change = [text.replace("-", "\N{MINUS SIGN}") for text in change]
    return plain(pd.DataFrame({"model": table["model"], "change of accuracy, points": change}))


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Everything as text on which no character acts, nothing for what is missing, no index to distract."""
    missing = table.isna().to_numpy()
    table = table.astype(object).map(lambda cell: visible(str(cell))).mask(missing, "")
    table.index = pd.Index([""] * len(table))
    table.columns = pd.Index([visible(str(name)) for name in table.columns])
    return table


def rests_on(models: Sequence[str], knobs: str, when: str = "") -> str:
    """The line that says what a page rests on: which models, which decoders, and when it was run (today)."""
    return visible(f"Rests on: {', '.join(map(str, models))} · {knobs} · run {when or date.today().isoformat()}")


@reads("temperature", "metric", "quantity", "lower", "upper")
def exact_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Of `metrics.exact_curves`, what follows for correctness: quantities in columns, temperatures in rows."""
    right = curves[curves["metric"] == "correct"]
    cells = right.apply(lambda row: percent_range(100 * row["lower"], 100 * row["upper"]), axis=1)
    table = right.assign(cell=cells, T=right["temperature"].map("{:g}".format))
    order = list(dict.fromkeys(right["quantity"]))
    wide = table.pivot(index="T", columns="quantity", values="cell")[order]
    return plain(wide.rename_axis(columns=None).reset_index())


def percent_range(low: float, high: float) -> str:
    """Like ``41.67 to 41.70 %``, or one number where both read the same."""
    ends = f"{low:.2f}", f"{high:.2f}"
    return f"{ends[0]} %" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} %"


@reads("contestant", "model", "seconds", "note")
def contestants(rows: pd.DataFrame) -> pd.DataFrame:
    """The times of `lmrel.bench`: contestants in rows, models in columns, seconds, or why there are none."""
    of_sample = rows["note"].map(lambda note: f" ({note})" if note else "")
    cells = (rows["seconds"].map("{:.2f} s".format) + of_sample).where(rows["seconds"].notna(), rows["note"])
    wide = rows.assign(cell=cells).pivot(index="contestant", columns="model", values="cell")
    wide = wide.reindex(rows["contestant"].unique()).rename(index=contestant)
    return plain(wide.rename_axis(columns=None).fillna("").reset_index())


def contestant(name: str) -> str:
    """How a contestant of `lmrel.bench` is called on a page."""
    return f"this engine, {name}" if name.endswith(" runs") else name


@reads("part", "model", "share")
def profiles(shares: pd.DataFrame) -> pd.DataFrame:
    """Where the engine's time goes, by `lmrel.bench`: parts in rows, models in columns."""
    cells = shares.assign(share=shares["share"].map("{:.0%}".format))
    wide = cells.pivot(index="part", columns="model", values="share").reindex(shares["part"].unique())
    return plain(wide.rename_axis(columns=None).reset_index())


def models() -> pd.DataFrame:
    """The registry's large models: what each is, where it comes from, and what it needs in its own precision."""
    rows = [
        {
            "model": spec.name,
            "fits on": spec.fits_on(spec.precision),
            "memory": f"{spec.memory(spec.precision) / 1e9:.1f} GB",
            "precision": spec.precision,
            "kind": f"{'sparse' if spec.sparse else 'dense'}, {'instruct' if spec.instruct else 'base'}",
            "parameters": _billions(spec.total),
            "for one token": _billions(spec.active),
            "licence": spec.licence,
            "gated": "yes" if spec.gated else "",
            "repo": spec.repo,
            "revision": spec.revision[:7],
        }
        for spec in REGISTRY.values()
        if not spec.tiny
    ]
    return plain(pd.DataFrame(rows))


def commands(models: Iterable[str], precision: str = "nf4", runs: int = 16) -> list[str]:
    """The command that evaluates each of `models`, all in one precision and with pure decoding."""
    return [
        f"papermill notebooks/evaluate.ipynb {quote(f'{name}.ipynb')} -p model {quote(name)} -p precision {precision} "
        f"-p decoding pure -p stop decided -p runs {runs} -p output_dir {quote(f'results/{name}')}"
        for name in models
    ]


def memory() -> pd.DataFrame:
    """What the registry's large models need in each precision, and the smallest device that has it."""
    specs = {spec.shape: spec for spec in REGISTRY.values() if not spec.tiny}
    cells = {
        precision: [f"{spec.memory(precision) / 1e9:.1f} GB · {spec.fits_on(precision)}" for spec in specs.values()]
        for precision in ("nf4", "bf16", "fp32")
    }
    return plain(pd.DataFrame({"model": list(specs), **cells}))


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B"


@reads("model", "precision", "seconds")
def full_size(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `lmrel.bench_gpu`: seconds for the whole experiment, and beside its peers."""
    columns = {
        "model": rows["model"] + ", " + rows["precision"],
        "logits": rows["logits"],
        "new tokens": rows["new_tokens"].map(str),
        "seconds": rows["seconds"].map("{:.1f}".format),
        "one at a time": rows["one prompt at a time, ratio"].map("{:.0f} times".format),
        "batched": rows["batched generate, ratio"].map("{:.1f} times".format),
        "bare forward": rows["floor, share"].map("{:.0%}".format),
        "tokens a second": rows["tokens_per_second"].map("{:,.0f}".format),
        "peak": (rows["peak_mb"] / 1000).map("{:.1f} GB".format),
    }
    return plain(pd.DataFrame(columns))


@reads("model", "above", "below", "value", "mark", "at_most", "reached", empty=True)
def marks(ratios: pd.DataFrame) -> pd.DataFrame:
    """The ratios of `lmrel.bench` beside the marks set for them."""
    columns = {
        "model": ratios["model"],
        "ratio": ratios["above"].map(contestant) + " / " + ratios["below"].map(contestant),
        "measured": ratios["value"].map("{:.1f}".format),
        "mark": ratios["at_most"].map({True: "at most ", False: "at least "}) + ratios["mark"].map("{:g}".format),
        "reached": ratios["reached"].map({True: "yes", False: "no"}),
    }
    return plain(pd.DataFrame(columns))
