"""What the lessons compute and draw: a next token's logits, draws by hand, all answers to one problem.

A table of tokens has a row per token of the vocabulary, likeliest first, with columns ``token, logit``. Problems are
shown in the few-shot style. The figures with sliders work the decoder's arithmetic out anew in Vega, in the reader's
browser; the tests compare it with `Decoder`.
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
    return copy.deepcopy(model).double()


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


def _slider(name: str, label: str, value: float, low: float, high: float, step: float) -> alt.Parameter:
    return alt.param(name=name, value=value, bind=alt.binding_range(min=low, max=high, step=step, name=label))


def _weighted(table: pd.DataFrame) -> Any:
    """A chart of the tokens with their softmax at the chart's parameter T, worked out by Vega.

    Fields ``weight``, exp((logit - max) / T); ``share``, the probability; ``rank`` by logit from 1; ``to``, the sum of
    the shares down to this rank.
    """
    return (
        alt.Chart(table[["token", "logit"]])
        .transform_joinaggregate(top="max(logit)")
        .transform_calculate(weight="exp((datum.logit - datum.top) / T)")
        .transform_joinaggregate(total="sum(weight)")
        .transform_calculate(share="datum.weight / datum.total")
        .transform_window(rank="row_number()", sort=BEST_FIRST)
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
    return themed(chart.add_params(_slider("T", "temperature ", 1, 0.1, 5, 0.1)).properties(title=title), description)


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
        _slider("u", "u ", 0.5, 0, 0.999, 0.001), _slider("T", "temperature ", 1, 0.1, 5, 0.1)
    )
    return themed(chart.properties(title=title), description)


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
        _slider("T", "temperature ", 1, 0.1, 5, 0.1),
        _slider("top_k", "top-k (0 is off) ", 0, 0, 12, 1),
        _slider("top_p", "top-p ", 1, 0.05, 1, 0.01),
        _slider("min_p", "min-p ", 0, 0, 0.5, 0.01),
    )
    return themed(chart.properties(title=title), description)


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
) -> Any:
    """Column `y` against `x`, a line with dots for each value of `by`. With `percent`, `y` is a share from 0 to 1."""
    names = list(dict.fromkeys(map(str, table[by])))
    data = table[[x, y, by]].round(4).astype({by: str})
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(nice=False, zero=False, padding=8)
    axis = alt.Axis(tickCount=6, labelOverlap="greedy")
    vertical = alt.Y(f"{y}:Q", title=None, **UNIT) if percent else alt.Y(f"{y}:Q", title=None)
    base = alt.Chart(data).encode(
        x=alt.X(f"{x}:Q", scale=scale, axis=axis),
        y=vertical,
        color=coloured(f"{by}:N", names),
        tooltip=[f"{by}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".1%" if percent else ".2f")],
    )
    shape = alt.Shape(f"{by}:N", sort=names, scale=alt.Scale(domain=names, range=SHAPES[: len(names)]))
    chart = base.mark_line(strokeWidth=1.5) + base.mark_point(filled=True, size=35, opacity=1).encode(shape=shape)
    return themed(chart.properties(title=title), description)


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
            color=alt.Color("outcome:N", sort=outcomes, scale=alt.Scale(domain=outcomes, range=PALETTE[:2])),
            tooltip=["problem:N", "run:O", "answer:N", "outcome:N"],
        )
    )
    return themed(chart.properties(title=title), description)
