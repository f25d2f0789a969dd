"""Tables of a run's page. Every cell is text; the numbers come from `lmrel.stats`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from book.figures.text import percent_with_interval, plain
from lmrel.stats.agreement import copies, flips, repeated

# Why a run may have no confidence to show, by its `stop`.
NO_CONFIDENCE = {
    "decided": "with stop='decided' it is that of the part of a text that was drawn",
    "eos": "the server gives no log-probabilities",
}

REPORTS = ("logprobs", "return_token_ids")  # fields of a request that change what a server tells, and no draw


def by_temperature(summary: pd.DataFrame) -> pd.DataFrame:
    """The paper's four quantities with 95 % intervals: a row per model and temperature, all tasks together.

    Where there are runaways, texts cut off in a loop, their share is a fifth.
    """
    whole = summary[summary["task"] == "all"]
    rows = [
        {
            "model": row["model"],
            "T": f"{row['temperature']:g}",
            "accuracy": percent_with_interval(row, "accuracy"),
            "compliance": percent_with_interval(row, "compliance"),
            "runaway": percent_with_interval(row, "runaway_share"),
            "consistency": f"{100 * row['consistency']:.2f} points" if row["runs"] > 1 else "one run",
            "confidence": _nats(row["confidence"]),
            "processed": _nats(row["confidence_processed"]),
        }
        for _, row in whole.iterrows()
    ]
    table = plain(pd.DataFrame(rows))
    idle = {"model": whole["model"].nunique() == 1, "runaway": not whole["runaway_share"].any()}
    return table.drop(columns=[name for name, says_nothing in idle.items() if says_nothing])


def _nats(value: float) -> str:
    return "not given" if math.isnan(value) else f"{value:.3f}"


def agreement(draws: pd.DataFrame) -> pd.DataFrame:
    """How far repeated draws agree with each other and with the greedy one: a row per model and temperature."""
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


def cautions(draws: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """What a reader should know before the numbers: texts cut off, draws that depend on their neighbours, copies.

    `record` is the run's run.json.
    """
    unfinished, limit = int((~draws["finished"]).sum()), record["parameters"]["max_new_tokens"]
    cut = f"{unfinished:,} of {len(draws):,} texts ({unfinished / len(draws):.0%}) had not ended after {limit} tokens"
    if loops := int(draws["runaway"].sum()):
        cut += f", {loops:,} of them in a loop"
    if record["parameters"]["stop"] == "decided":
        cut = "texts were cut short where their outcome was decided"
    if server := record.get("server"):
        return f"{cut}; {_of_server(draws, server, record['tried'])}"
    probe = record["determinism"]
    if not probe["draws"]:
        alone = "how far draws depend on what is drawn together was not tried"
    else:
        alone = f"drawn alone instead of together, {probe['flipped']} of {probe['draws']} draws changed"
    return "; ".join(filter(None, [cut, alone, copies(draws)]))


def _of_server(draws: pd.DataFrame, server: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    """What is not known of draws that came from a server: which knobs held, and what its log-probabilities are."""
    said = ["drawn by a server"]
    if names := [name for name in [*server["refused"], *tried["unverified"]] if name not in REPORTS]:
        said.append(f"whether {', '.join(names)} held there is not known")
    greedy, sampled = (draws[(draws["temperature"] == 0) == is_greedy] for is_greedy in (True, False))
    if (
        len(greedy)
        and len(sampled)
        and (sampled["text"] == sampled["problem_id"].map(greedy.set_index("problem_id")["text"])).all()
    ):
        said.append("no draw differs from the greedy one, as where a server ignores the temperature")
    if tried["logprobs"] != "none":
        said.append(f"confidence is {tried['logprobs']}")
    return ", ".join(said)


def by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with 95 % intervals: a row per model and temperature, a column per task."""
    parts = summary[summary["task"] != "all"]
    cells = parts.apply(percent_with_interval, axis=1, name="accuracy")
    table = parts.assign(cell=cells).pivot(index=["model", "temperature"], columns="task", values="cell").reset_index()
    table["temperature"] = table["temperature"].map("{:g}".format)
    return plain(table.rename(columns={"temperature": "T", "variable_binding": "variable binding"}))


def samples(draws: pd.DataFrame, count: int = 3) -> pd.DataFrame:
    """What the model wrote in its first run to the first `count` problems of each task, at each temperature.

    Line ends are shown as ``⏎``.
    """
    chosen = draws[draws["run"] == draws.groupby("temperature")["run"].transform("min")]
    chosen = chosen.groupby(["temperature", "task"], sort=False).head(count)
    table = chosen[["temperature", "problem_id", "expected", "text", "correct", "compliant"]].copy()
    table["text"] = table["text"].str.replace("\n", "⏎")
    table["temperature"] = table["temperature"].map("{:g}".format)
    return plain(table.rename(columns={"temperature": "T", "problem_id": "problem", "text": "the model wrote"}))
