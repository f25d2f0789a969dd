"""Draws from a model behind an OpenAI-compatible server: the table of `lmrel.sample`, one request a draw."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any

import pandas as pd
from tqdm import tqdm

from lmrel import records
from lmrel.client import Server, connect
from lmrel.decoding import Decoder, due
from lmrel.parameters import ChatTemplate, PromptStyle, Serving
from lmrel.problems import Problem, as_rows, extra_columns
from lmrel.prompts import rendered
from lmrel.rescoring import judged, labels_of, of_problems


def request_seed(seed: int, problem_id: str, run: int) -> int:
    """The seed of a request, of 31 bits: a function of (seed, problem id, run), and not of temperature or decoder."""
    digest = blake2b(f"{seed} {problem_id} {run}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") >> 1


def sample(
    model: str,
    problems: pd.DataFrame,
    decoders: Sequence[Decoder],
    *,
    runs: int = 4,
    first_run: int = 0,
    seed: int = 0,
    prompt_style: PromptStyle = "few_shot",
    template: str | None = None,
    system: str | None = None,
    chat_template: ChatTemplate = "auto",
    chat_template_kwargs: dict[str, Any] | None = None,
    answer: str = "first",
    requests_at_once: int = 16,
    model_name: str | None = None,
    decoding: str | None = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Every draw of every decoder for every problem from the server of `model`, as `lmrel.sample` returns them.

    `model` is ``URL#NAME``; at most `requests_at_once` requests are under way. What a server does not give is empty:
    ``token_ids`` a list without elements, ``n_tokens`` missing, ``mean_logprob`` NaN. That is what the server says,
    which may be of its own distribution; ``mean_logprob_processed`` is always NaN. See `connect` for what is tried
    first, and for what raises an `InputError`.
    """
    shape = (template, system, chat_template, chat_template_kwargs)
    asked = Serving(runs, first_run, seed, prompt_style, *shape, answer, model_name, decoding, requests_at_once)
    rows = as_rows(problems)
    decoders = due(rows, decoders, asked)
    texts = rendered(rows, asked.prompt_style, asked.template)
    server = connect(model, texts[0], decoders, asked.system, asked.chat_template, asked.chat_template_kwargs)
    for remark in server.remarks:
        tqdm.write(remark, file=sys.stderr)
    return draw(server, rows, texts, decoders, asked, progress)


def draw(
    server: Server,
    rows: Sequence[Problem],
    texts: Sequence[str],
    decoders: Sequence[Decoder],
    asked: Serving,
    progress: bool = False,
) -> pd.DataFrame:
    """`sample` behind its door: everything was checked, and the server was tried."""
    draws = [
        (number, decoder, run)
        for number in range(len(rows))
        for decoder in decoders
        for run in range(asked.first_run, decoder.n_draws(asked.runs))
    ]
    bar = tqdm(total=len(draws), unit="draw", disable=not progress)

    def answer(number: int, decoder: Decoder, run: int) -> dict[str, Any]:
        found = server.ask(texts[number], decoder, request_seed(asked.seed, rows[number]["problem_id"], run))
        bar.update()
        return found

    # The first error ends it: what waits is not begun.
    with ThreadPoolExecutor(asked.requests_at_once) as pool:
        answers = list(pool.map(lambda one: answer(*one), draws))
    bar.close()
    labels = labels_of(asked, decoders, f"{server.url}#{server.name}", "served") | {"mean_logprob_processed": math.nan}
    frame = of_problems(rows, [server.shown(text) for text in texts]).loc[[number for number, *_ in draws]]
    said = [
        labels | decoder.columns | {"run": run} | found for (_, decoder, run), found in zip(draws, answers, strict=True)
    ]
    table = pd.concat([frame.reset_index(drop=True), pd.DataFrame(said)], axis=1)
    return judged(table, asked.answer)[[*records.DRAWS_SCHEMA.names, *extra_columns(rows)]]
