"""What the lessons compute and draw: a next token's logits, draws by hand, all answers to one problem.

A table of tokens has a row per token of the vocabulary, likeliest first, with columns ``token, logit``. Problems are
shown in the few-shot style. The figures with sliders work the decoder's arithmetic out anew in Vega, in the reader's
browser; the tests compare it with `Decoder`. On the site the same rows become a lighter figure: a chart says in its
``usermeta`` which one of ``learn-figures.js``.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from book.analysis.prefixes import Prefix, follow_prefixes
from book.figures.style import enable
from book.figures.text import plain, spelled, temperature_name
from lmrel.charts import PALETTE, SHAPES, coloured, figure, themed
from lmrel.decoding import Decoder
from lmrel.engine.probes import check_model
from lmrel.errors import InputError, check_count, check_number
from lmrel.parameters import MAX_TEMPERATURE
from lmrel.problems import Problem, solve
from lmrel.stats.agreement import majority_at_k
from lmrel.stats.inference import wilson
from lmrel.tokens import encode_problems, eos_ids

STYLE = "few_shot"
TOKEN_AXIS = alt.Axis(labelFontSize=13, ticks=False, domain=False)
BEST_FIRST: Any = [alt.SortField("logit", "descending")]
UNIT: dict[str, Any] = {"axis": alt.Axis(format=".0%", tickCount=5), "scale": alt.Scale(domain=[0, 1])}


def set_up() -> None:
    """Make a notebook show charts as the book does, and no progress bars, which would differ from run to run."""
    enable()
    logging.disable_progress_bar()


def rounded(table: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """A copy of `table` for the page: fractions with so many digits, everything as text, no index."""
    number = f"{{:.{digits}f}}".format
    return plain(table.apply(lambda column: column.map(number) if column.dtype.kind == "f" else column))


def arithmetic(x: int, y: int, z: int, w: int) -> dict[str, Any]:
    """The problem ``(x - y) * z + w`` with its answer, as a row for `lmrel.sample` and the functions here."""
    problem: dict[str, Any] = {"task": "arithmetic", "x": x, "y": y, "z": z, "w": w}
    return problem | {"answer": solve(problem), "problem_id": f"({x} - {y}) * {z} + {w}"}


@functools.lru_cache(maxsize=4)
def _in_64_bits(model: PreTrainedModel) -> PreTrainedModel:
    """A copy in 64 bits, so that the digits shown are the same on every machine: for small models only."""
    copied = copy.deepcopy(model).double()
    if getattr(copied.config, "num_local_experts", 0):
        copied.set_experts_implementation("eager")  # the grouped product knows no 64 bits
    return copied


def _logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, answer: Sequence[int]
) -> Tensor:
    """Raw logits, float64 (tokens + 1, vocabulary), of what follows the prompt and each beginning of `answer`."""
    [prompt] = encode_problems([problem], STYLE, tokenizer)
    check_model(model, [prompt], len(answer))
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    with torch.inference_mode():
        return _in_64_bits(model)(ids).logits[0, len(prompt) - 1 :].double().cpu()


def next_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, so_far: str = " "
) -> pd.DataFrame:
    """The table of tokens after the prompt and the answer `so_far`; an answer begins with a space."""
    ids = tokenizer.encode(so_far, add_special_tokens=False)
    logits = _logits(model, tokenizer, problem, ids)[-1].tolist()
    tokens = [spelled(str(tokenizer.decode([token]))) for token in range(len(logits))]
    table = pd.DataFrame({"token": tokens, "logit": logits}).round({"logit": 4})
    return table.sort_values("logit", ascending=False, kind="stable", ignore_index=True)


def distribution(table: pd.DataFrame, temperature: float, **knobs: Any) -> pd.DataFrame:
    """`table` with each token's ``probability`` under a `Decoder` with these knobs; at temperature 0 one has all."""
    probabilities = Decoder(temperature, **knobs).distribution(torch.tensor(table["logit"].to_numpy()))
    return table.assign(probability=probabilities.numpy())


def entropy(table: pd.DataFrame, temperatures: Sequence[float]) -> pd.DataFrame:
    """Shannon's entropy of the next token at each temperature: ``temperature, bits, top``, the highest probability."""
    rows = []
    for temperature in temperatures:
        p = distribution(table, temperature)["probability"].to_numpy()
        bits = -(p[p > 0] * np.log2(p[p > 0])).sum()
        rows.append({"temperature": temperature, "bits": abs(float(bits)), "top": float(p.max())})
    return pd.DataFrame(rows)


def inverse_cdf(probabilities: Sequence[float] | np.ndarray, u: np.ndarray) -> np.ndarray:
    """The place at which the running sum of `probabilities` exceeds each number of `u`, from 0 to below 1."""
    outside = np.extract(~((np.asarray(u) >= 0) & (np.asarray(u) < 1)), u)
    if len(outside):
        raise InputError(f"u holds {outside[0]}; it must hold numbers from 0 to below 1.")
    cumulative = np.cumsum(np.asarray(probabilities))
    return np.searchsorted(cumulative / cumulative[-1], u, side="right")


def gumbel_max(logits: Sequence[float] | np.ndarray, temperature: float, count: int, seed: int) -> np.ndarray:
    """`count` draws, as places: the highest of logit / T plus Gumbel noise, which is -log(-log u) (Gumbel 1954)."""
    check_number("temperature", temperature, 0.0, MAX_TEMPERATURE, open_below=True)
    u = np.random.default_rng(seed).random((count, len(logits)))
    return np.asarray((np.asarray(logits) / temperature - np.log(-np.log(u))).argmax(axis=1))


def draw_both_ways(table: pd.DataFrame, temperature: float, count: int, seed: int = 0, top: int = 6) -> pd.DataFrame:
    """The probability of the `top` likeliest tokens, and their share of `count` draws by each of two ways to draw.

    Columns ``token, way, share``; a ``way`` is "probability", "inverse CDF" or "Gumbel-max".
    """
    check_count("count", count)
    p = distribution(table, temperature)["probability"].to_numpy()
    draws = {
        "inverse CDF": inverse_cdf(p, np.random.default_rng(seed).random(count)),
        "Gumbel-max": gumbel_max(table["logit"].to_numpy(), temperature, count, seed + 1),
    }
    ways = {"probability": p} | {way: np.bincount(drawn, minlength=len(p)) / count for way, drawn in draws.items()}
    parts = [pd.DataFrame({"token": table["token"], "way": way, "share": share})[:top] for way, share in ways.items()]
    return pd.concat(parts, ignore_index=True)


def token_by_token(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: Problem, text: str, temperature: float = 1.0
) -> pd.DataFrame:
    """How likely the answer `text` is: a row per token, ``token, probability, product`` of the probabilities so far."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    distributions = Decoder(temperature).distribution(_logits(model, tokenizer, problem, ids))
    p = np.array([distributions[place, token].item() for place, token in enumerate(ids)])
    tokens = [spelled(str(tokenizer.decode([token]))) for token in ids]
    return pd.DataFrame({"token": tokens, "probability": p, "product": p.cumprod()})


def all_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problem: Problem,
    temperatures: Sequence[float],
    *,
    least: float = 1e-3,
    longest: int = 8,
) -> pd.DataFrame:
    """Every answer, to the end of its line, that has a probability of `least` or more at one of `temperatures`.

    Columns ``answer, temperature, probability``; probabilities are exact, the likeliest at the first temperature come
    first. The last rows, ``(all others)``, hold what is left: less likely answers, and those of `longest` tokens.
    """
    check_number("least", least, 0.0, 1.0, open_below=True)
    check_count("longest", longest)
    if not len(temperatures):
        raise InputError("there is no temperature at which to look for answers.")
    [prompt] = encode_problems([problem], STYLE, tokenizer)
    check_model(model, [prompt], longest)
    ends = eos_ids(model, tokenizer)
    ending = torch.tensor([t in ends or "\n" in tokenizer.decode([t]) for t in range(model.config.vocab_size)])
    found: dict[str, np.ndarray] = {}

    def likely(prefix: Prefix, mass: Tensor) -> Tensor:
        worth = mass.amax(dim=0) >= least
        for token in (worth & ending).nonzero().flatten().tolist():
            text = tokenizer.decode(prefix).strip()
            found[text] = found.get(text, 0.0) + mass[:, token].numpy()
        return worth & ~ending

    follow_prefixes(_in_64_bits(model), prompt, [Decoder(t) for t in temperatures], likely, longest)
    order = sorted(found, key=lambda text: -found[text][0])
    shares = np.array([found[text] for text in order]).reshape(len(order), len(temperatures))
    shares = np.vstack([shares, (1 - shares.sum(axis=0)).clip(min=0)])
    index = pd.MultiIndex.from_product([[*order, "(all others)"], temperatures], names=["answer", "temperature"])
    return pd.DataFrame({"probability": shares.ravel()}, index=index).reset_index()


def majority(draws: pd.DataFrame, sizes: Sequence[int]) -> pd.DataFrame:
    """Accuracy of a vote among k draws, mean over problems, for each sampled temperature and each k in `sizes`.

    Columns ``temperature`` (as text), ``k, accuracy``.
    """
    rows = []
    for temperature, some in draws[draws["temperature"] > 0].groupby("temperature"):
        votes = [(own["extracted"].tolist(), int(own["expected"].iloc[0])) for _, own in some.groupby("problem_id")]
        votes = [([None if pd.isna(answer) else answer for answer in answers], right) for answers, right in votes]
        for k in sizes:
            mean = float(np.mean([majority_at_k(answers, right, k) for answers, right in votes]))
            rows.append({"temperature": temperature_name(float(str(temperature))), "k": k, "accuracy": mean})
    return pd.DataFrame(rows)


def right_or_wrong(draws: pd.DataFrame) -> pd.DataFrame:
    """A row per draw, ready for `runs_grid`: columns ``problem, run, outcome, answer``, the hardest problem last."""
    share = draws.groupby("problem_id")["correct"].transform("mean")
    table = draws.assign(share=share).sort_values(["share", "problem_id", "run"], ascending=[False, True, True])
    columns = {
        "problem": table["problem_id"],
        "run": table["run"] + 1,
        "outcome": table["correct"].map({True: "right", False: "wrong"}),
        "answer": table["text"].str.strip().str.split("\n").str[0],
    }
    return pd.DataFrame(columns)


def reported_confidence(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    draws: pd.DataFrame,
    temperatures: Sequence[float],
) -> pd.DataFrame:
    """What programs report as confidence at each temperature, by groups of `draws`, of one draw a problem.

    There are eight groups, by the chance that the model without temperature gives to the text. Columns ``temperature,
    group, confidence, accuracy, low, high``: the mean chance after temperature, the share of right answers and its 95 %
    interval.
    """
    rows_of = problems.set_index("problem_id").to_dict("index")
    chances = []
    for name, text in zip(draws["problem_id"], draws["text"], strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False)
        logits = _logits(model, tokenizer, {str(key): one for key, one in rows_of[name].items()}, ids)[: len(ids)]
        own = [Decoder(t).distribution(logits)[torch.arange(len(ids)), ids].prod().item() for t in (1.0, *temperatures)]
        chances.append(own)
    table = np.array(chances)
    rows = []
    for group, members in enumerate(np.array_split(np.argsort(table[:, 0], kind="stable"), 8)):
        share = float(draws["correct"].to_numpy(bool)[members].mean())
        low, high = wilson(share, len(members))
        for place, temperature in enumerate(temperatures, start=1):
            confidence = float(table[members, place].mean())
            row = {"temperature": temperature, "group": group, "confidence": confidence, "accuracy": share}
            rows.append(row | {"low": low, "high": high})
    return pd.DataFrame(rows)


def luck(share: float, problems: int) -> pd.DataFrame:
    """How the counts of two tests of `problems` differ for a model that solves each with chance `share`.

    Columns ``difference, probability``; differences rarer than 1 in 100,000 are left out.
    """
    chances = stats.binom.pmf(np.arange(problems + 1), problems, share)
    both = np.convolve(chances, chances[::-1])
    table = pd.DataFrame({"difference": np.arange(-problems, problems + 1), "probability": both})
    return table[table["probability"] >= 1e-5].reset_index(drop=True)


def _alive(chart: Any, kind: str, **options: Any) -> Any:
    """`chart`, which the site draws from its largest table as the figure `kind` of ``learn-figures.js``."""
    chart.usermeta = {"live": {"kind": kind, **options}}
    return chart


def _slider(name: str, label: str, value: float, low: float, high: float, step: float) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=step, name=label))


def _weighted(table: pd.DataFrame) -> Any:
    """A chart of the tokens with their softmax at the chart's parameter T, worked out by Vega.

    Fields ``weight``, exp((logit - max) / T), at T = 0 a 1 for the likeliest; ``share``, the probability; ``rank`` by
    logit from 1; ``to``, the sum of the shares down to this rank.
    """
    return (
        alt.Chart(table[["token", "logit"]])
        .transform_window(rank="row_number()", sort=BEST_FIRST)
        .transform_joinaggregate(top="max(logit)")
        .transform_calculate(weight="T == 0 ? +(datum.rank == 1) : exp((datum.logit - datum.top) / T)")
        .transform_joinaggregate(total="sum(weight)")
        .transform_calculate(share="datum.weight / datum.total")
        .transform_window(to="sum(share)", sort=BEST_FIRST, ignorePeers=True)
    )


@figure
def tempered(table: pd.DataFrame, title: str, description: str, *, count: int = 8) -> Any:
    """The `count` likeliest next tokens and their probabilities, with a slider for the temperature."""
    order = table["token"].tolist()[:count]
    base = (
        _weighted(table)
        .transform_filter(f"datum.rank <= {count}")
        .encode(
            y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS),
            x=alt.X("share:Q", title="probability", **UNIT),
            tooltip=["token:N", "logit:Q", alt.Tooltip("share:Q", format=".2%", title="probability")],
        )
    )
    label = base.mark_text(align="left", dx=4, color="currentColor", fontSize=12)
    chart = base.mark_bar(color=PALETTE[0]) + label.encode(text=alt.Text("share:Q", format=".1%"))
    chart = chart.add_params(_slider("T", "temperature ", 1, 0, 5, 0.05))
    return _alive(themed(chart.properties(title=title), description), "bars", count=count)


@figure
def drawn(table: pd.DataFrame, title: str, description: str, *, count: int = 7) -> Any:
    """The `count` likeliest tokens as pieces of the line from 0 to 1, with sliders for the temperature and for u.

    The piece on which u falls is lit: its token is drawn.
    """
    order = table["token"].tolist()[:count]
    hit = alt.condition("datum.from <= u && u < datum.to", alt.value(PALETTE[1]), alt.value(PALETTE[0]))
    base = _weighted(table).transform_calculate(**{"from": "datum.to - datum.share", "u": "u"})
    base = base.transform_filter(f"datum.rank <= {count}")
    scale = alt.Scale(domain=[0, 1])
    bars = base.mark_bar().encode(
        y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS),
        x=alt.X("from:Q", title="running sum of probabilities", scale=scale, axis=alt.Axis(tickCount=5)),
        x2="to:Q",
        color=hit,
        tooltip=["token:N", alt.Tooltip("from:Q", format=".3f"), alt.Tooltip("to:Q", format=".3f")],
    )
    rule = base.transform_filter("datum.rank == 1").mark_rule(color="currentColor", strokeDash=[4, 3])
    chart = (bars + rule.encode(x=alt.X("u:Q", scale=scale))).add_params(
        _slider("u", "u ", 0.5, 0, 0.999, 0.001), _slider("T", "temperature ", 1, 0, 5, 0.05)
    )
    return _alive(themed(chart.properties(title=title), description), "line", count=count)


@figure
def truncated(table: pd.DataFrame, title: str, description: str, *, count: int = 10) -> Any:
    """What temperature, top-k, top-p and min-p leave of the `count` likeliest tokens, with a slider for each.

    They apply in this order. Pale bars behind show temperature alone.
    """
    order = table["token"].tolist()[:count]
    base = (
        _weighted(table)
        .transform_calculate(w="top_k == 0 || datum.rank <= top_k ? datum.weight : 0")
        .transform_joinaggregate(sum_k="sum(w)")
        .transform_calculate(p="datum.w / datum.sum_k")
        .transform_window(mass="sum(p)", sort=BEST_FIRST, ignorePeers=True)
        .transform_calculate(w2="top_p >= 1 || datum.mass - datum.p < top_p ? datum.w : 0")
        .transform_calculate(w3="datum.w2 >= min_p ? datum.w2 : 0")
        .transform_joinaggregate(sum_all="sum(w3)")
        .transform_calculate(left="datum.w3 / datum.sum_all", label="datum.w3 > 0 ? format(datum.left, '.1%') : 'cut'")
        .transform_filter(f"datum.rank <= {count}")
        .encode(y=alt.Y("token:N", sort=order, title=None, axis=TOKEN_AXIS), tooltip=["token:N", "label:N"])
    )
    pale = base.mark_bar(color="currentColor", opacity=0.2).encode(x=alt.X("share:Q", title="probability", **UNIT))
    bars = base.mark_bar(color=PALETTE[0], height={"band": 0.45}).encode(x=alt.X("left:Q", title="probability", **UNIT))
    place = "max(datum.left, datum.share)"
    label = base.transform_calculate(place=place).mark_text(align="left", dx=4, color="currentColor", fontSize=12)
    chart = (pale + bars + label.encode(x=alt.X("place:Q", title="probability", **UNIT), text="label:N")).add_params(
        _slider("T", "temperature ", 1, 0, 5, 0.05),
        _slider("top_k", "top-k (0 is off) ", 0, 0, 12, 1),
        _slider("top_p", "top-p ", 1, 0.05, 1, 0.01),
        _slider("min_p", "min-p ", 0, 0, 0.5, 0.01),
    )
    return _alive(themed(chart.properties(title=title), description), "bars", count=count, cuts=True)


@figure
def lines(
    table: pd.DataFrame,
    x: str,
    y: str,
    title: str,
    description: str,
    *,
    by: str,
    percent: bool = True,
    log: bool = False,
    right: str = "",
) -> Any:
    """Column `y` against `x`, a line with dots for each value of `by`. With `percent`, `y` is a share from 0 to 1.

    The value `right` of `by` takes the colour of what is right.
    """
    names = list(dict.fromkeys(map(str, table[by])))
    others = iter([PALETTE[1], PALETTE[3], *PALETTE[4:]]) if right else iter(PALETTE)
    colours = [PALETTE[2] if name == right else next(others) for name in names]
    data = table[[x, y, by]].round(4).astype({by: str})
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(nice=False, zero=False, padding=8)
    axis = alt.Axis(tickCount=6, labelOverlap="greedy")
    vertical = alt.Y(f"{y}:Q", title=None, **UNIT) if percent else alt.Y(f"{y}:Q", title=None)
    base = alt.Chart(data).encode(
        x=alt.X(f"{x}:Q", scale=scale, axis=axis),
        y=vertical,
        color=alt.Color(f"{by}:N", sort=names, scale=alt.Scale(domain=names, range=colours)),
        tooltip=[f"{by}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".1%" if percent else ".2f")],
    )
    shape = alt.Shape(f"{by}:N", sort=names, scale=alt.Scale(domain=names, range=SHAPES[: len(names)]))
    chart = base.mark_line(strokeWidth=1.5) + base.mark_point(filled=True, size=35, opacity=1).encode(shape=shape)
    chart = themed(chart.properties(title=title), description)
    return _alive(chart, "curves", x=x, y=y, by=by, percent=percent, log=log, colours=colours)


@figure
def ways(table: pd.DataFrame, title: str, description: str) -> Any:
    """The share of each token by each way to draw: the rows of `draw_both_ways`."""
    tokens, names = (list(dict.fromkeys(table[column])) for column in ("token", "way"))
    chart = (
        alt.Chart(table.round(4))
        .mark_bar()
        .encode(
            y=alt.Y("token:N", sort=tokens, title=None, axis=TOKEN_AXIS),
            yOffset=alt.YOffset("way:N", sort=names),
            x=alt.X("share:Q", title="share of draws", **UNIT),
            color=coloured("way:N", names),
            tooltip=["token:N", "way:N", alt.Tooltip("share:Q", format=".2%")],
        )
    )
    return themed(chart.properties(title=title), description)


@figure
def runs_grid(table: pd.DataFrame, title: str, description: str) -> Any:
    """A square per draw, problems down and runs across, coloured by outcome: the rows of `right_or_wrong`."""
    order = list(dict.fromkeys(table["problem"]))
    outcomes = ["right", "wrong"]
    chart = (
        alt.Chart(table)
        .mark_rect(stroke="white", strokeWidth=1, strokeOpacity=0.4)
        .encode(
            x=alt.X("run:O", axis=alt.Axis(labelAngle=0, ticks=False, labelOverlap="greedy")),
            y=alt.Y("problem:N", sort=order, title=None, axis=alt.Axis(ticks=False)),
            color=alt.Color(
                "outcome:N", sort=outcomes, scale=alt.Scale(domain=outcomes, range=[PALETTE[2], PALETTE[1]])
            ),
            tooltip=["problem:N", "run:O", "answer:N", "outcome:N"],
        )
    )
    return _alive(themed(chart.properties(title=title), description), "runs")


@figure
def answer_line(found: pd.DataFrame, right: str, title: str, description: str, *, count: int = 6) -> Any:
    """Whole answers as pieces of the line from 0 to 1, with sliders for the temperature and for u: see `all_answers`.

    The `count` likeliest at T = 1 have pieces of their own; all others share the last one.
    """
    own = found[(found["temperature"] == 1) & (found["answer"] != "(all others)")]
    names = own.nlargest(count, "probability")["answer"].tolist()
    grouped = found.assign(answer=found["answer"].where(found["answer"].isin(names), "others"))
    table = grouped.groupby(["temperature", "answer"], sort=False, as_index=False)["probability"].sum().round(5)
    order = [*names, "others"]
    step = float(table["temperature"].drop_duplicates().diff().max())
    bars = (
        alt.Chart(table)
        .transform_filter("abs(datum.temperature - T) < 1e-6")
        .transform_window(to="sum(probability)", ignorePeers=True)
        .transform_calculate(**{"from": "datum.to - datum.probability"})
        .mark_bar()
        .encode(
            y=alt.Y("answer:N", sort=order, title=None, axis=TOKEN_AXIS),
            x=alt.X("from:Q", title="running sum of probabilities", scale=alt.Scale(domain=[0, 1])),
            x2="to:Q",
            color=alt.condition("datum.from <= u && u < datum.to", alt.value(PALETTE[1]), alt.value(PALETTE[0])),
            tooltip=["answer:N", alt.Tooltip("probability:Q", format=".1%")],
        )
    )
    top = float(table["temperature"].max())
    chart = bars.add_params(_slider("u", "u ", 0.5, 0, 0.999, 0.001), _slider("T", "temperature ", 1, 0, top, step))
    chart = themed(chart.properties(title=title), description)
    return _alive(chart, "line", answers=True, right=right, order=order)


@figure
def reported(table: pd.DataFrame, title: str, description: str) -> Any:
    """Accuracy against the confidence that is reported at a temperature, with a slider: see `reported_confidence`."""
    share: dict[str, Any] = {"scale": alt.Scale(domain=[0, 1]), "axis": alt.Axis(format=".0%")}
    base = alt.Chart(table.round(4)).transform_filter("abs(datum.temperature - T) < 1e-6")
    x = alt.X("confidence:Q", title="reported confidence", **share)
    interval = base.mark_rule(color=PALETTE[0]).encode(x=x, y=alt.Y("low:Q", title="right", **share), y2="high:Q")
    point = base.mark_point(filled=True, size=60, opacity=1, color=PALETTE[0]).encode(
        x=x,
        y=alt.Y("accuracy:Q", title="right", **share),
        tooltip=[alt.Tooltip(f"{name}:Q", format=".1%") for name in ("confidence", "accuracy")],
    )
    diagonal = base.mark_rule(strokeDash=[4, 4], color="currentColor", opacity=0.5)
    ends = {"x": alt.datum(0), "y": alt.datum(0), "x2": alt.datum(1), "y2": alt.datum(1)}
    temperatures = table["temperature"].drop_duplicates()
    low, high = float(temperatures.min()), float(temperatures.max())
    slider = _slider("T", "temperature ", 1, low, high, float(temperatures.diff().max()))
    chart = (diagonal.encode(**ends) + interval + point).add_params(slider)
    return _alive(themed(chart.properties(title=title), description), "reliability")


@figure
def differences(table: pd.DataFrame, gap: int, title: str, description: str) -> Any:
    """How the counts of two tests differ by luck alone: the rows of `luck`, from `gap` on in another colour."""
    chart = (
        alt.Chart(table.round(6))
        .mark_bar()
        .encode(
            x=alt.X("difference:Q", title="difference of the two counts"),
            y=alt.Y("probability:Q", title=None, axis=alt.Axis(format=".0%")),
            color=alt.condition(f"abs(datum.difference) >= {gap}", alt.value(PALETTE[1]), alt.value(PALETTE[0])),
            tooltip=["difference:Q", alt.Tooltip("probability:Q", format=".2%")],
        )
    )
    return _alive(themed(chart.properties(title=title), description), "luck", gap=gap)
