"""What a run's page shows: sentences, tables, and all its problems with their draws, whatever model and problems."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from book.analysis import taxonomy
from book.figures.style import captioned
from book.figures.text import listed, percent_with_interval, plain, rests_on
from lmrel import charts
from lmrel.answers import kind_of
from lmrel.errors import needs_columns, visible
from lmrel.parameters import REGEX, Parameters
from lmrel.prompts import worksheet_item
from lmrel.records import DRAWS, SUMMARY
from lmrel.sources import rows_of
from lmrel.stats import calibration
from lmrel.stats.agreement import (
    against_greedy,
    flips,
    majority_at_k,
    pass_at_k,
    pass_power_k,
    repeated,
    same_at_k,
)
from lmrel.stats.contrasts import paired_difference
from lmrel.stats.independence import doubts
from lmrel.stats.inference import clustered_wilson, failure_shares, t_interval, with_interval
from lmrel.stats.metrics import clusters

REPORTS = ("logprobs", "return_token_ids")  # fields of a request that change what a server tells, and no draw
LIMIT = 1_400_000  # bytes of problems and draws that a page holds
CUTS = (None, 4000, 1000, 300)  # characters of a text that it holds, if all are too many
SHORTEST = 100  # the same, where one run is still too much
WORST = 20  # problems in the table that is there without JavaScript
BRIEF = 80  # characters of a text in a table's cell
COMMONEST = 2  # classes of wrong answers whose examples are not folded
MOST_VOTES = 4  # the k of pass@k and majority@k, or all runs where there are fewer
FEWEST, LEAST = 20, 0.1  # of calibration: the texts that a bin takes, and the probability that one of them must have


@dataclass(frozen=True)
class Block:
    """A piece of a page: as HTML, in which all text is escaped, and as plain text for viewers that show no HTML."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def said(*sentences: str, kind: str = "lmrel-said") -> Block:
    """A paragraph of the `sentences` that are not empty; `kind` is its class."""
    text = visible(" ".join(filter(None, sentences)))
    unbroken = html.escape(text).replace(" %", "&nbsp;%")
    return Block(f'<p class="{kind}">{unbroken}</p>', text)


def together(*blocks: Block) -> Block:
    """Several pieces as one."""
    return Block("".join(block.html for block in blocks), "\n\n".join(block.text for block in blocks))


def folded(title: str, block: Block) -> Block:
    """A piece that waits behind its title."""
    unbroken = html.escape(visible(title)).replace(" %", "&nbsp;%")
    return Block(f'<details class="more"><summary>{unbroken}</summary>{block.html}</details>', block.text)


def tabled(table: pd.DataFrame) -> Block:
    """A table whose cells are text, without its index."""
    with pd.option_context("display.max_colwidth", None):
        return Block(table.to_html(index=False, border=0), table.to_string(index=False))


# What comes first


def opening(draws: pd.DataFrame, summary: pd.DataFrame, record: Mapping[str, Any], knobs: str) -> Block:
    """The headline, what it rests on, what was asked, and what to know before the numbers.

    `record` is the run's run.json, and `knobs` names prompt, decoding and decoders.
    """
    model = record["parameters"]["model"]
    mind = cautions(draws, record)
    return together(
        said(headline(draws, summary), kind="lmrel-headline"),
        said(certainty(draws, summary)),
        said(rests_on([f"{model}, {record['precision']}"], knobs, record["started"][:10])),
        said(asked(draws, record), read_by(draws, record["parameters"]["answer"])),
        said(turned(draws), f"{mind[0].upper()}{mind[1:]}."),
    )


def headline(draws: pd.DataFrame, summary: pd.DataFrame) -> str:
    """How much is right at the lowest and the highest temperature, and the paired difference with its 95 % interval.

    Where there is one temperature, how much is right at it.
    """
    ends = _ends(summary)
    if len(ends) == 1:
        return f"{percent_with_interval(ends[0], 'accuracy')} right at T = {ends[0]['temperature']:g}"
    cold, hot = (f"{100 * row['accuracy']:.1f} %" for row in ends)
    change, low, high = _change(draws, ends)
    brackets = () if low == high else (low, high)
    points = with_interval(change, *brackets, form="{:+.1f} points", ends="{:+.1f}")
    return f"{cold} right at T = {ends[0]['temperature']:g}, {hot} at T = {ends[1]['temperature']:g}: {points}"


def certainty(draws: pd.DataFrame, summary: pd.DataFrame) -> str:
    """What the headline's interval means, and whether it leaves room for no change."""
    ends = _ends(summary)
    problems = int(ends[0]["problems"])
    if problems == 1:
        return "There is one problem, so nothing here says how other problems would do."
    what = "In brackets is the 95 % interval, with the problem as the unit: how far other such problems would move it"
    if len(ends) == 1:
        return f"{what}."
    _, low, high = _change(draws, ends)
    if math.isnan(low):
        return "All problems are versions of one, so nothing here says how other problems would do."
    if low == high:
        return "All problems changed by the same, so there is no interval that says how other problems would do."
    if low <= 0 <= high:
        return f"{what}. It holds 0: there may be no change at all."
    return f"{what}. All of it lies {'below 0: accuracy falls' if high < 0 else 'above 0: accuracy rises'}."


def _ends(summary: pd.DataFrame) -> list[pd.Series]:
    """The rows of the lowest and the highest temperature, all tasks together; one row where they are one."""
    whole = summary[summary["task"] == "all"].sort_values("temperature")
    return [whole.iloc[number] for number in sorted({0, len(whole) - 1})]


def _change(draws: pd.DataFrame, ends: Sequence[pd.Series]) -> list[float]:
    found = paired_difference(draws, "correct", *(row["temperature"] for row in ends))
    return [100 * found[name] for name in ("difference", "low", "high")]


def asked(draws: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """How many problems were asked, how often at which temperature, and in what form."""
    given = record["parameters"]
    problems, runs = draws["problem_id"].nunique(), draws.groupby("temperature")["run"].nunique()
    often = []
    for n, at in runs.groupby(runs, sort=False):
        temperatures = listed([f"{temperature:g}" for temperature in at.index])
        each = "each of " if len(at) > 1 else ""
        often.append(f"{'once' if n == 1 else f'{n:,} times'} at {each}T = {temperatures}")
    each = "It was asked" if problems == 1 else "Each was asked"
    templated = record["chat_template"] and given["chat_template"] != "off"
    form = "inside the tokenizer's chat template" if templated else "without a chat template"
    style = f"in the prompt style {given['prompt_style']}"
    if given["template"] is not None:
        style = f"with the template {Path(given['template']).name}"
    part = "" if given["shard"] is None else f" (shard {given['shard'] + 1} of {given['shards']})"
    return (
        f"{problems:,} problem{'s' * (problems > 1)}{part}, {len(draws):,} answers. {each} {', '.join(often)}, "
        f"{style}, {form}."
    )


def read_by(draws: pd.DataFrame, rule: str) -> str:
    """What the answer rule takes for the answer, in words that fit what is asked for."""
    kinds = {kind_of(answer) for answer in draws["expected"].unique()}
    noun = "line" if "text" in kinds else max(kinds)
    words = {
        "first": f"the first {'integer' if noun == 'number' else noun}",
        "last": f"the last {noun}",
        "sole": f"the only {noun}, if there is one",
        "marked": f"what is marked as the answer, or else the last {noun}",
    }
    meaning = words.get(rule, "what stands in the first pair of brackets")
    name = rule if len(rule) <= BRIEF else f"{rule[:BRIEF]}…"
    return f"An answer is read by the rule {name if rule.startswith(REGEX) else repr(name)}: {meaning}."


def turned(draws: pd.DataFrame) -> str:
    """How many answers at the highest temperature differ from the greedy one; empty where there is none to compare."""
    found = flips(draws).query("task == 'all'") if len(against_greedy(draws)) else pd.DataFrame()
    if found.empty:
        return ""
    hot = found.sort_values("temperature").iloc[-1]
    changed, lost, won = (f"{100 * hot[name]:.1f} %" for name in ("flipped", "right_to_wrong", "wrong_to_right"))
    return (
        f"At T = {hot['temperature']:g}, {changed} of all answers differ from the greedy one; {lost} went from right "
        f"to wrong and {won} from wrong to right."
    )


def cautions(draws: pd.DataFrame, record: Mapping[str, Any]) -> str:
    """What a reader should know before the numbers: texts cut off, draws that depend on their neighbours, copies.

    `record` is the run's run.json.
    """
    unfinished, limit = int((~draws["finished"]).sum()), record["parameters"]["max_new_tokens"]
    share = f"{100 * unfinished / len(draws):.1f} %"
    cut = f"{unfinished:,} of {len(draws):,} texts ({share}) had not ended after {limit} tokens"
    if not unfinished:
        cut = f"all texts ended within {limit} tokens"
    if loops := int(draws["runaway"].sum()):
        cut += f", {loops:,} of them in a loop"
    if record["parameters"]["stop"] == "decided":
        cut = "texts were cut short where their outcome was decided, and confidence is of what was drawn"
    if server := record.get("server"):
        return f"{cut}; {_of_server(draws, server, record['tried'])}"
    probe = record["determinism"]
    if not probe["draws"]:
        alone = "how far draws depend on what is drawn together was not tried"
    else:
        alone = f"drawn alone instead of together, {probe['flipped']} of {probe['draws']} draws changed"
    return "; ".join([cut, alone, *doubts(draws)])


def _of_server(draws: pd.DataFrame, server: Mapping[str, Any], tried: Mapping[str, Any]) -> str:
    """What is not known of draws that came from a server: which knobs held, and what its log-probabilities are."""
    words = ["drawn by a server"]
    if names := [name for name in [*server["refused"], *tried["unverified"]] if name not in REPORTS]:
        words.append(f"whether {', '.join(names)} held there is not known")
    greedy, sampled = (draws[(draws["temperature"] == 0) == is_greedy] for is_greedy in (True, False))
    if (
        len(greedy)
        and len(sampled)
        and (sampled["text"] == sampled["problem_id"].map(greedy.set_index("problem_id")["text"])).all()
    ):
        words.append("no draw differs from the greedy one, as where a server ignores the temperature")
    if tried["logprobs"] != "none":
        words.append(f"confidence is {tried['logprobs']}")
    return ", ".join(words)


# Tables by temperature and task


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


def compliance(summary: pd.DataFrame, knobs: str) -> Any:
    """The chart of compliance by temperature; None where it is within a point everywhere: the table says that."""
    whole = summary[summary["task"] == "all"]
    if whole["compliance"].max() - whole["compliance"].min() <= 0.01:
        return None
    chart = charts.response(
        whole,
        "compliance",
        "Compliance by temperature",
        "Line chart: the share of outputs that are the answer and nothing else, by temperature, with 95 % intervals.",
        subtitle=knobs,
    )
    return captioned(chart, "If the line falls, the form of the answers suffers as well, not only what they say.")


def by_task(summary: pd.DataFrame) -> pd.DataFrame:
    """Accuracy with 95 % intervals: a row per model and temperature, a column per task."""
    parts = summary[summary["task"] != "all"]
    cells = parts.apply(percent_with_interval, axis=1, name="accuracy")
    table = parts.assign(cell=cells).pivot(index=["model", "temperature"], columns="task", values="cell").reset_index()
    table["temperature"] = table["temperature"].map("{:g}".format)
    return plain(table.rename(columns={"temperature": "T", "variable_binding": "variable binding"}))


def tasks(summary: pd.DataFrame) -> Block | None:
    """The tasks apart, under a heading of their own; None where there is one."""
    if summary["task"].nunique() < 3:  # itself, and all
        return None
    return together(
        Block("<h2>By task</h2>", "By task"),
        said("Accuracy with 95 % intervals. Look for a task that loses more than the others."),
        tabled(by_task(summary).drop(columns="model")),
    )


# All problems


@needs_columns("problem_id", "task", "temperature", "run", "text", "ended", "extracted", "expected", "correct")
def explorer(draws: pd.DataFrame, problems: pd.DataFrame) -> Block:
    """All problems of a run with their draws, for ``run.js`` to make a grid of; without it, a table of the worst.

    `problems` says what was asked.
    """
    return _explorer(draws, problems, LIMIT)


def _explorer(draws: pd.DataFrame, problems: pd.DataFrame, limit: int) -> Block:
    rows, temperatures = _by_problem(draws, problems), _temperatures(draws)
    still = tabled(_worst(rows, temperatures))
    few = f"The {WORST} problems with the fewest right answers, of {len(rows):,}." if len(rows) > WORST else ""
    first = said(few or "All problems, those with the fewest right answers first.")
    source = _as_json(_fitting(draws, rows, limit)).replace("<", "\\u003c")
    return Block(
        f'<div class="lmrel-run"><div class="still">{first.html}{still.html}</div>'
        f'<script type="application/json">{source}</script></div>',
        together(first, still).text,
    )


def questions(problems: pd.DataFrame) -> dict[str, str]:
    """What each problem asks, on one line where it can be, by its id."""
    return {row["problem_id"]: worksheet_item(row) for row in rows_of(problems)}


def _by_problem(draws: pd.DataFrame, problems: pd.DataFrame) -> pd.DataFrame:
    """A row per problem, the one with the fewest right answers first, then as they come.

    Columns ``asked, task, expected, shares`` (by temperature), ``greedy, greedy_right`` and, of the highest temperature
    above 0, the most frequent answer: ``common, common_right, flipped``. No answer is an empty text. Ties go to the
    greedy answer, then to the one drawn first.
    """
    told = questions(problems)
    draws = draws.assign(answer=_answers(draws))
    rows = draws.drop_duplicates("problem_id").set_index("problem_id")[["task", "expected"]].astype(str)
    rows.insert(0, "asked", [told.get(name, name) for name in rows.index])
    shares = draws.groupby(["problem_id", "temperature"])["correct"].mean().unstack().reindex(rows.index)
    rows["shares"] = shares.to_numpy().tolist()
    greedy = draws[draws["temperature"] == 0].drop_duplicates("problem_id").set_index("problem_id")
    rows["greedy"], rows["greedy_right"] = greedy["answer"], greedy["correct"]
    hottest = draws["temperature"].max()
    hot = draws[(draws["temperature"] == hottest) & (hottest > 0)]
    counts = hot.groupby(["problem_id", "answer"], sort=False)["correct"].agg(["size", "first"]).reset_index()
    counts["as_greedy"] = counts["answer"] == counts["problem_id"].map(greedy["answer"])
    common = counts.sort_values(["size", "as_greedy"], ascending=False, kind="stable").drop_duplicates("problem_id")
    common = common.set_index("problem_id")
    rows["common"], rows["common_right"] = common["answer"], common["first"]
    rows["flipped"] = ~common["as_greedy"]
    return rows.loc[shares.mean(axis=1).sort_values(kind="stable").index]


def _temperatures(draws: pd.DataFrame) -> list[float]:
    return sorted(float(temperature) for temperature in draws["temperature"].unique())


def _answers(draws: pd.DataFrame) -> pd.Series:
    return draws["extracted"].astype("string").fillna("").astype(str)


def _worst(rows: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """The first problems of `_by_problem` as a table for readers without JavaScript."""
    rows = rows.head(WORST)
    table = {"problem": rows["asked"].map(_short), "right answer": rows["expected"].map(_short)}
    for number, temperature in enumerate(temperatures):
        table[f"T = {temperature:g}"] = pd.Series([_percent(shares[number]) for shares in rows["shares"]], rows.index)
    for name, title in {"greedy": "greedy answer", "common": f"most frequent at T = {temperatures[-1]:g}"}.items():
        if rows[name].notna().any():
            pairs = zip(rows[name], rows[f"{name}_right"], strict=True)
            table[title] = pd.Series([_marked(*pair) for pair in pairs], rows.index)
    return plain(pd.DataFrame(table))


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}".replace("%", " %")


def _marked(answer: str | float, right: bool) -> str:
    """An answer with a mark that says whether it is right; empty where there is none of the kind."""
    if not isinstance(answer, str):
        return ""
    return f"{'✓' if right else '✗'} {_short(answer) or 'no answer'}"


def _short(text: str, characters: int | None = BRIEF) -> str:
    """`text` with its middle left out where it is longer; its end, where an answer may stand, keeps more."""
    if characters is None or len(text) <= characters:
        return text
    head = characters // 3
    return f"{text[:head]} […] {text[head - characters :]}"


def _fitting(draws: pd.DataFrame, rows: pd.DataFrame, limit: int) -> dict[str, Any]:
    """What the grid is made of, in about `limit` bytes: if need be texts are cut, then runs left out, then problems.

    What was left out stands in its ``notes``.
    """
    runs, shown = draws.groupby("temperature")["run"].nunique().max(), len(rows)
    number = draws.groupby(["problem_id", "temperature"])["run"].rank(method="dense")
    lengths = draws.drop_duplicates(["problem_id", "text"])["text"].str.len()
    # From the first cut that can do: to try one takes as long as there is text.
    characters = next(cut for cut in CUTS if lengths.clip(upper=cut).sum() <= limit or cut == CUTS[-1])
    kept, left = runs, shown
    while True:
        data = _data(draws[number <= kept], rows.head(left), characters)
        share = limit / len(_as_json(data).encode())
        if share >= 1 or left == 1:
            break
        if characters in CUTS[:-1]:
            characters = CUTS[CUTS.index(characters) + 1]
        elif kept > 1:
            kept = min(kept - 1, max(1, int(kept * share)))
        elif characters != SHORTEST:
            characters = SHORTEST
        else:
            left = min(left - 1, max(1, int(left * share)))
    first = "the first" if kept == 1 else f"the first {kept:,}"
    cuts = [f"{first} of {runs:,} runs at each temperature"] if kept < runs else []
    cuts += [f"the {left:,} of {shown:,} problems with the fewest right answers"] if left < shown else []
    cuts += [f"{characters:,} characters of each longer text"] if characters else []
    if cuts:
        data["notes"] = [f"To keep the page light, the grid holds only {listed(cuts)}. All are in {DRAWS}."]
        if kept < runs:
            data["notes"].append("The shares in the grid are of all runs.")
    return data


def _data(draws: pd.DataFrame, rows: pd.DataFrame, characters: int | None) -> dict[str, Any]:
    """The problems in `rows` with their `draws`, all texts cut to so many `characters`.

    An output is a text with how it ended, whether it is right, its answer, its class of failure, the mean
    log-probability of its tokens, and how often it was drawn at each temperature.
    """
    temperatures = _temperatures(draws)
    prompts: dict[str, str] = {}
    if "prompt" in draws:
        first = draws.drop_duplicates("problem_id").set_index("problem_id")["prompt"]
        prompts = {name: visible(_short(first[name], characters)) for name in rows.index}
    shared = _beginning(prompts.values())
    outputs = _outputs(draws[draws["problem_id"].isin(rows.index)], temperatures, characters)
    found = [
        {
            "id": visible(str(name)),
            "asked": visible(_short(row["asked"], characters)),
            "task": visible(row["task"]),
            "expected": visible(_short(row["expected"], characters)),
            "shares": [None if math.isnan(share) else round(share, 4) for share in row["shares"]],
            "greedy": _pair(row, "greedy", characters),
            "common": _pair(row, "common", characters),
            "flipped": isinstance(row["greedy"], str) and isinstance(row["common"], str) and bool(row["flipped"]),
            "prompt": prompts.get(name, "")[len(shared) :],
            "outputs": outputs[name],
        }
        for name, row in zip(rows.index, rows.to_dict("records"), strict=True)
    ]
    return {"temperatures": temperatures, "prompt": shared, "problems": found, "notes": []}


def _beginning(texts: Collection[str]) -> str:
    """What all `texts` begin with; of texts in order, that is what the first and the last begin with."""
    pairs = zip(min(texts, default=""), max(texts, default=""), strict=False)
    return "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _pair(row: Mapping[Any, Any], name: str, characters: int | None) -> list[Any] | None:
    """An answer and whether it is right; None where there is none of the kind."""
    if not isinstance(row[name], str):
        return None
    return [visible(_short(row[name], characters)), bool(row[f"{name}_right"])]


def _outputs(
    draws: pd.DataFrame, temperatures: Sequence[float], characters: int | None
) -> dict[str, list[tuple[Any, ...]]]:
    """What was written to each problem, each text once: see `_data`."""
    alike = draws.assign(answer=_answers(draws)).groupby(["problem_id", "text", "ended"], sort=False)
    table = alike[["correct", "answer", "failure"]].first()
    table["failure"] = table["failure"].fillna("").astype(str)
    table["nats"] = alike["mean_logprob"].mean().round(3)
    counts = np.zeros((len(table), len(temperatures)), dtype=int)
    np.add.at(counts, (alike.ngroup().to_numpy(), draws["temperature"].map(temperatures.index).to_numpy()), 1)
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row, often in zip(table.reset_index().to_dict("records"), counts.tolist(), strict=True):
        text, answer, failure = (visible(_short(row[name], characters)) for name in ("text", "answer", "failure"))
        nats = None if math.isnan(row["nats"]) else row["nats"]
        output = (text, row["ended"], bool(row["correct"]), answer, failure, nats, often)
        found.setdefault(row["problem_id"], []).append(output)
    return found


def _as_json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


# How it goes wrong


def classed(draws: pd.DataFrame, problems: pd.DataFrame, record: Mapping[str, Any]) -> pd.DataFrame:
    """The draws with the book's own classes of failure, where these apply: to whole numbers read by the rule ``first``.

    Others keep the classes that are stored with them.
    """
    given = record["parameters"]
    if given["stop"] != "eos" or given["answer"] != "first" or not pd.api.types.is_integer_dtype(draws["expected"]):
        return draws
    return draws.assign(failure=taxonomy.of_draws(draws, problems))


def failures(draws: pd.DataFrame, problems: pd.DataFrame, examples: int = 3) -> Block:
    """The share of each class among all wrong answers, with its interval and some examples, the largest class first.

    All but the largest are folded.
    """
    wrong = draws[~draws["correct"]]
    if wrong.empty:
        return said("No answer was wrong.")
    if wrong["failure"].isna().all():
        return said(f"{len(wrong):,} answers were wrong. Texts that were ended once they were decided have no class.")
    told = questions(problems)
    shares = failure_shares(draws.assign(temperature=0.0, decoder="all")).sort_values("count", ascending=False)
    shares = shares.rename(columns={"low": "share_low", "high": "share_high"})
    parts: list[Block] = []
    titles: list[str] = []
    for _, share in shares.iterrows():
        some = wrong[wrong["failure"] == share["failure"]].drop_duplicates("problem_id").head(examples)
        name, count = share["failure"].replace("_", " "), f"{share['count']:,} answer{'s' * (share['count'] > 1)}"
        percent = percent_with_interval(share, "share")
        heading = f"{name}: {count}, {percent} of all wrong ones"
        columns = {
            "the model wrote": some["text"].map(_short).str.replace("\n", "⏎"),
            "right answer": some["expected"].astype(str).map(_short),
            "problem": some["problem_id"].map(told).fillna(some["problem_id"]).map(_short),
            "T": some["temperature"].map("{:g}".format),
        }
        parts.append(together(said(heading, kind="lmrel-class"), tabled(plain(pd.DataFrame(columns)))))
        titles.append(f"{name} {percent}")
    first = said(f"{len(wrong):,} of {len(draws):,} answers were wrong, all temperatures together.")
    rarer = f"Rarer, with examples: {', '.join(titles[COMMONEST:])}"
    last = [folded(rarer, together(*parts[COMMONEST:]))] if titles[COMMONEST:] else []
    return together(first, *parts[:COMMONEST], *last)


def failures_by_temperature(draws: pd.DataFrame, knobs: str) -> Any:
    """The chart of the classes by temperature; None where there are not several."""
    if draws["failure"].isna().all():  # all right, or cut short where decided
        return None
    shares = failure_shares(draws)
    if shares["failure"].nunique() < 2:
        return None
    chart = charts.failures(
        shares,
        "Wrong answers by class",
        "Points with 95 % intervals: of the wrong answers at each temperature, the share of each class.",
        subtitle=knobs,
    )
    return captioned(chart, "Look for a class that grows with the temperature: it is what heat adds to the errors.")


# What repeating says


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


def repeats(draws: pd.DataFrame) -> Block:
    """How far the draws of a problem agree, and what repeating buys, with 95 % intervals: a row per temperature."""
    several = draws[draws.groupby(["temperature", "problem_id"])["run"].transform("size") > 1]
    if several.empty:
        return said("Not shown: it takes several runs at a temperature above 0 to say how far they agree.")
    k = int(min(MOST_VOTES, several.groupby(["temperature", "problem_id"]).size().min()))
    against, rows = against_greedy(draws), []
    for temperature, some in several.groupby("temperature"):
        of_problem = {name: _repeated(one, k) for name, one in some.groupby("problem_id")}
        found = pd.DataFrame.from_dict(of_problem, orient="index")
        others = against[against["temperature"] == temperature].groupby("problem_id")["flipped"].mean()
        if len(others):
            found["unlike greedy"] = others
        cluster = clusters(some).groupby(some["problem_id"]).first()
        rows.append({"T": f"{temperature:g}"} | {name: _interval(found[name].dropna(), cluster) for name in found})
    return tabled(plain(pd.DataFrame(rows)))


def _repeated(draws: pd.DataFrame, k: int) -> dict[str, float]:
    """What the draws of one problem at one temperature say of `k` of them."""
    n, right = len(draws), int(draws["correct"].sum())
    answers = [None if pd.isna(answer) else answer for answer in draws["extracted"]]
    return {
        "all alike": same_at_k(answers, n),
        f"pass@{k}": pass_at_k(n, right, k),
        f"majority@{k}": majority_at_k(answers, draws["expected"].iloc[0], k),
        f"all {k} right": pass_power_k(n, right, k),
    }


def _interval(shares: pd.Series, cluster: pd.Series) -> str:
    """The mean of a share per problem with its 95 % interval, in per cent."""
    ends = (100 * end for end in clustered_wilson(shares.to_numpy(float), clusters=cluster[shares.index]))
    return with_interval(*ends, form="{:.1f} %", ends="{:.0f}")


def calibrated(draws: pd.DataFrame, record: Mapping[str, Any]) -> Block:
    """Whether the probability of a text tells if its answer is right: of one draw a problem, at the lowest temperature.

    One draw, since several of a problem are not independent, as the intervals take them to be.
    """
    if record.get("server"):
        return said("Not shown: we do not know whether a server's log-probabilities are those of the model itself.")
    lowest = draws[draws["temperature"] == draws["temperature"].min()]
    some = lowest[lowest["run"] == lowest["run"].min()]
    whole = some[some["ended"].isin(["eos", "stop_string"])]
    at = f"T = {some['temperature'].iloc[0]:g}"
    if len(whole) < FEWEST:
        return said(
            f"Not shown: it takes {FEWEST} problems whose text ended by itself, and at {at} there are {len(whole):,}."
        )
    confident, right = calibration.text_probability(whole), whole["correct"].to_numpy(bool)
    if confident.max() < LEAST:
        return said(f"Not shown: no text at {at} has a probability of {LEAST:.0%} as a whole; they are too long.")
    bins = calibration.reliability(confident, right, min(10, len(whole) // FEWEST))
    bins = bins.rename(columns={"low": "accuracy_low", "high": "accuracy_high"})
    score = t_interval((confident - right) ** 2, clusters=clusters(whole))
    error = calibration.expected_calibration_error(confident, right, len(bins))
    rows = {
        "probability of the text": bins["confidence"].map("{:.2f}".format),
        "right": bins.apply(percent_with_interval, axis=1, name="accuracy"),
        "texts": bins["count"].map("{:,}".format),
    }
    first = said(
        f"One text for each problem at {at}, if it ended by itself ({len(whole):,} did): the Brier score is "
        f"{with_interval(*score, form='{:.3f}')} (0 is best), and the calibration error {error['ece']:.3f}, where a "
        f"calibrated model would show {error['bias']:.3f} with these bins."
    )
    return together(first, tabled(plain(pd.DataFrame(rows))))


# The record


def downloads(folder: str) -> Block:
    """Where the run's files are. On a page beside these files, `book.site.extension` makes links of it."""
    return said(f"The run's folder is {folder}. It holds {DRAWS} and {SUMMARY}.", kind="lmrel-downloads")


def changed(record: Mapping[str, Any]) -> Block:
    """The parameters of a run that differ from the defaults."""
    usual = {field.name: None if field.default is MISSING else field.default for field in fields(Parameters)}
    rows = [
        {"parameter": name, "this run": _written(value), "default": _written(usual.get(name))}
        for name, value in record["parameters"].items()
        if _written(value) != _written(usual.get(name))
    ]
    return tabled(plain(pd.DataFrame(rows)))


def _written(value: Any) -> str:
    """A parameter's value as text; one that came through JSON reads like the default."""
    return "" if value is None else _short(json.dumps(value, ensure_ascii=False).strip('"'))


def recorded(record: Mapping[str, Any]) -> Block:
    """The whole of run.json, folded."""
    text = visible(json.dumps(record, indent=1, ensure_ascii=False))
    summary = "run.json: every parameter, every knob of every decoder, versions and hashes"
    return Block(
        f'<details class="lmrel-record"><summary>{summary}</summary><pre>{html.escape(text)}</pre></details>', text
    )
