"""What a draw's text is worth: its answer under a rule, whether it is right, and why not; of any stored draws again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lmrel.answers import Answer, as_answer, check_rule, failure, in_loop, is_right, kind_of, paper_failure, read_answer
from lmrel.decoding import Decoder
from lmrel.errors import InputError, needs_columns
from lmrel.numerals import Number
from lmrel.parameters import Asking
from lmrel.problems import Problem, as_table, extra_columns
from lmrel.prompts import worksheet_item

INT64 = np.iinfo(np.int64)
READ_FROM = ("text", "expected", "finished", "ended")


def labels_of(asked: Asking, decoders: Sequence[Decoder], model: str, precision: str) -> dict[str, str]:
    """What draws say of their run; `model` is what it is called unless `asked` names it."""
    all_pure = all(decoder.pure for decoder in decoders)
    return {
        "model": asked.model_name or model,
        "precision": precision,
        "prompt_style": asked.template or asked.prompt_style,
        "decoding": asked.decoding or ("pure" if all_pure else "custom"),
    }


def of_problems(problems: Sequence[Problem], prompts: Sequence[str]) -> pd.DataFrame:
    """What draws say of their problems, a row a problem, numbered from 0; further columns of theirs come last."""
    asked = {
        "problem_id": [problem["problem_id"] for problem in problems],
        "task": [problem["task"] for problem in problems],
        "cluster": [problem.get("cluster") or worksheet_item(problem) for problem in problems],
        "prompt": list(prompts),
    }
    right = as_table(problems)["answer"]
    right = right.astype("int64" if pd.api.types.is_integer_dtype(right) else "str")
    further = {name: [problem.get(name) for problem in problems] for name in extra_columns(problems)}
    return pd.DataFrame(asked | {"expected": right} | further)


@needs_columns(*READ_FROM)
def rescore(draws: pd.DataFrame, answer: str) -> pd.DataFrame:
    """`draws`, read again by the rule `answer` (see `extract_answer`), without the model.

    New are the columns ``answer, extracted, correct, compliant, runaway`` and ``failure``: the paper's classes under
    its rule, under others those of `answers.failure`. How a text ended may be missing, as in outputs of other tools:
    then ``runaway`` is. Raises `InputError` for a rule that is none, for draws without a text or a right answer, and
    for texts that were cut short where their first integer was decided.
    """
    check_rule(answer)
    for name, what in (("text", "text"), ("expected", "right answer")):
        if lacking := int(draws[name].isna().sum()):
            raise InputError(f"{lacking:,} of {len(draws):,} draws have no {what}, so they cannot be read by a rule.")
    if (draws["ended"] == "decided").any():
        raise InputError(
            "these texts were cut short where their first integer was decided, and other rules need whole ones; draw "
            "them with stop='eos'."
        )
    return judged(draws, answer)


def judged(draws: pd.DataFrame, answer: str) -> pd.DataFrame:
    """`draws` with the columns that `rescore` names, from those in `READ_FROM`. What is written alike is read once."""
    alike = draws.groupby([*READ_FROM], sort=False, dropna=False).ngroup().to_numpy()
    _, where = np.unique(alike, return_index=True)
    some = (draws[name].iloc[where] for name in READ_FROM)
    found = [_judge(answer, *row) for row in zip(*some, strict=True)]
    table = pd.DataFrame(found, columns=["extracted", "correct", "compliant", "runaway", "failure"])
    if pd.api.types.is_integer_dtype(draws["expected"]):
        table["extracted"] = pd.array([_in_64_bits(row[0]) for row in found], dtype="Int64")
    else:
        table["extracted"] = pd.array([None if row[0] is None else as_answer(row[0]) for row in found], dtype="string")
    table["failure"] = table["failure"].astype("str")
    return draws.assign(answer=answer, **table.take(alike).set_axis(draws.index).to_dict("series"))  # type: ignore[arg-type]


def _judge(
    rule: str, text: str, expected: Answer, finished: bool, ended: str
) -> tuple[Answer | None, bool, bool, bool | None, str | None]:
    right = expected if isinstance(expected, str) else int(expected)
    extracted, compliant = read_answer(text, rule, kind_of(right))
    known = isinstance(ended, str)  # missing where a tool does not say
    correct, runaway = is_right(extracted, right), ended == "length" and in_loop(text) if known else None
    if rule == "first" and isinstance(right, int):
        return extracted, correct, compliant, runaway, paper_failure(text, extracted, correct, compliant)
    why = None if correct else failure(text, extracted, finished if known else True, bool(runaway))
    return extracted, correct, compliant, runaway, why


def _in_64_bits(value: Answer | Number | None) -> int | None:
    return value if isinstance(value, int) and INT64.min <= value <= INT64.max else None
