"""Draws of other tools: what their files say becomes a table of draws, and what they do not say is missing in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from lmrel.answers import Answer, as_answer, kind_of, only_answer, plain_text
from lmrel.errors import InputError, quoted
from lmrel.files import as_path, sha256
from lmrel.formats import files_of, read_file
from lmrel.logs import Row
from lmrel.numerals import as_text
from lmrel.parameters import (
    MAX_RUNS,
    PENALTY,
    SHARE,
    SHARE_OR_NONE,
    TEMPERATURE,
    TEXT,
    TOP_K,
    Allowed,
    Importing,
    number,
    real,
    whole,
)
from lmrel.problems import right_answer
from lmrel.records import ANSWERS, COUNTS, DRAWS_SCHEMA, IMPORTED, UNKNOWN, as_draws
from lmrel.rescoring import INT64, rescore

MOST = 10**7  # draws
SURROGATE = re.compile("[\ud800-\udfff]")
WRITTEN = Allowed("a text of valid Unicode", lambda found: isinstance(found, str) and not SURROGATE.search(found))
NAME = Allowed("a text or an integer", TEXT.fits, lambda value: str(value) if type(value) is int else value)
COUNT = whole(0, MAX_RUNS)
CHECKS: dict[str, Allowed] = {  # of what a row says under our names; answers and verdicts are read
    "model": TEXT,
    "task": TEXT,
    "problem_id": NAME,
    "cluster": WRITTEN,
    "temperature": TEMPERATURE,
    "run": COUNT,
    "prompt": WRITTEN,
    "text": WRITTEN,
    "n_tokens": COUNT,
    "ended": TEXT,
    "mean_logprob": real(-1e6, 0.0),
    "draws": whole(1, MOST),
    "correct": COUNT,  # of counts
}
NUMBERS = {"temperature", "run", "n_tokens", "mean_logprob", "draws", "correct"}
SETTING = ("model", "temperature", "decoder")  # all that tells draws of a problem apart
KNOBS = {"top_k": TOP_K, "top_p": SHARE, "min_p": SHARE_OR_NONE, "repetition_penalty": PENALTY}
NO_KNOBS = {"temperature", "do_sample"}  # the temperature has a column, and the other says whether it counts
VERDICTS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def read_outputs(
    path: str | Path,
    *,
    model: str | None = None,
    temperature: float | None = None,
    columns: Mapping[str, str] | None = None,
    verdict: str | None = None,
    answer: str | None = None,
) -> pd.DataFrame:
    """The draws in a file of another tool, or in all files of a folder, with the columns of `records.DRAWS_SCHEMA`.

    The format is recognised: ``samples_*.jsonl`` of lm-evaluation-harness, ``.eval`` and ``.json`` logs of Inspect,
    instances of every_eval_ever; or a plain table as CSV, JSON or Parquet, with columns ``problem_id``, ``correct`` or
    both ``answer`` and ``expected``, and if you like ``model, temperature, run, task, cluster, prompt, text, n_tokens``
    and ``mean_logprob``. `columns` says under which names ours stand in it, as ``{"problem_id": "id"}``. A row of
    *counts* has ``draws`` and how many of them are ``correct``: it becomes so many draws.

    `model` and `temperature` are for files that do not say them. A verdict is the file's own; where it has several,
    `verdict` names one of them, such as ``"exact_match,strict-match"`` or a scorer. With `answer`, a rule (see
    `extract_answer`), the texts are read by it instead.

    What a file does not say is missing, and `precision`, `prompt_style`, `decoding` and `decoder` are ``"unknown"``;
    but where it names knobs beside the temperature, `decoder` is an id that stands for those. `answer` is
    ``"imported"``. Draws of a problem are numbered in the order in which they stand where no ``run`` is said. Of counts
    `answer` is ``"counts"``, and the order of a problem's runs means nothing: what looks at single runs refuses them.
    Raises `InputError` for a file that is damaged or contradicts itself or the arguments.
    """
    return imported(path, model, temperature, columns, verdict, answer)[0]


def imported(
    path: str | Path,
    model: str | None = None,
    temperature: float | None = None,
    columns: Mapping[str, str] | None = None,
    verdict: str | None = None,
    answer: str | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """`read_outputs`, and where the draws come from: ``format, version, files`` and which columns are ``missing``."""
    asked = Importing(model, temperature, columns, verdict, answer)
    if asked.verdict and asked.answer:
        raise InputError("verdict takes the file's own and answer reads the texts instead; give one of them.")
    source, verdict = as_path("path", path), asked.verdict if asked.answer is None else ""
    found = {file: said for file in files_of(source) if (said := read_file(file, asked.columns, verdict))}
    if not found:
        raise InputError(f"{source} holds no file of draws.")
    if len(forms := sorted({said.form for said in found.values()})) > 1:
        raise InputError(f"{source} holds files of several formats, {', '.join(forms)}; read them one by one.")
    hashes: dict[str, Path] = {}
    for file in found:
        if (same := hashes.setdefault(sha256(file), file)) != file:
            raise InputError(f"{file} holds the same as {same}; take one of them away.")
    draws = _draws(source, [row for said in found.values() for row in said.rows], forms[0], asked)
    versions = sorted({said.version for said in found.values() if said.version})
    return draws, {
        "format": forms[0],
        "version": ", ".join(versions) or None,
        "files": {str(file.relative_to(source) if file != source else file.name): one for one, file in hashes.items()},
        "missing": [name for name in DRAWS_SCHEMA.names if draws[name].isna().all()],
    }


def _draws(source: Path, rows: Sequence[Row], form: str, asked: Importing) -> pd.DataFrame:
    """The table of draws from what the files say, checked row by row and then against each other."""
    answered = any("answer" in row for row in rows)
    said = [_judged(row, _checked(row, asked), form, asked.answer, answered) for row in rows]
    kind, answers = _answers(said)
    fields = [field.with_type(kind) if field.name in ANSWERS else field for field in DRAWS_SCHEMA]
    table = pa.Table.from_pylist([row | more for row, more in zip(said, answers, strict=True)], pa.schema(fields))
    draws = as_draws(source, table)
    where = np.array([row["where"] for row in rows], dtype=object)
    if form == COUNTS:
        spread = np.repeat(np.arange(len(said)), [row["draws"] for row in said])
        draws, where = draws.take(spread).reset_index(drop=True), where[spread]
        run = pd.Series(spread).groupby(spread).cumcount()
        draws = draws.assign(run=run, correct=run < np.array([row["right"] for row in said])[spread])
    draws["run"] = _runs(draws, where)
    _check_alike(draws, where)
    return draws if asked.answer is None else rescore(draws, asked.answer)


def _checked(row: Row, asked: Importing) -> Row:
    """What one row says, each value checked, with what was given for what it does not say."""
    where = row["where"]
    there = {name: row[name] for name in CHECKS.keys() - {"correct"} if row.get(name) is not None}
    said = {name: _fitting(where, name, value) for name, value in there.items()}
    for name, given in (("model", asked.model), ("temperature", asked.temperature)):
        if given is not None and said.setdefault(name, given) != given:
            raise InputError(f"{where}: the {name} is {quoted(said[name])} there; leave out {name}={given!r}.")
        if name not in said:
            raise InputError(f"{where}: it does not say the {name}; give it as {name}.")
    if "problem_id" not in said:
        raise InputError(f"{where}: problem_id is missing.")
    knobs = {name: knob for name, knob in row.get("knobs", {}).items() if knob is not None}
    columns = {name: number(knobs[name]) for name, check in KNOBS.items() if check.fits(number(knobs.get(name)))}
    ended = said.get("ended")
    return {
        "precision": UNKNOWN,
        "prompt_style": UNKNOWN,
        "decoding": UNKNOWN,
        "decoder": _id_of(knobs) if knobs.keys() - NO_KNOBS else UNKNOWN,
        "task": "custom",
        "finished": None if ended is None else ended == "eos",
        **columns,
        **said,
        "expected": _answer(where, "expected", row.get("expected"), right_answer),
        "extracted": _answer(where, "answer", row.get("answer"), _read),
    }


def _fitting(where: str, name: str, value: Any) -> Any:
    """A value as it is checked; where it must be a number it may be written as text, as all is in CSV."""
    check = CHECKS[name]
    try:
        return check.checked(_as_number(value) if name in NUMBERS else value)
    except ValueError:
        raise InputError(f"{where}: {name} is {quoted(value)}; it must be {check.words}.") from None


def _as_number(value: Any) -> Any:
    if not isinstance(value, str):
        whole = isinstance(value, float) and value.is_integer()  # as a column with gaps holds integers
        return int(value) if whole else value
    return int(value) if re.fullmatch("[0-9]{1,18}", value) else float(value)


def _id_of(knobs: Row) -> str:
    """Eight hexadecimal digits, the same for the same knobs."""
    text = json.dumps(knobs, sort_keys=True, default=str)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def _answer(where: str, name: str, value: Any, read: Callable[[Any], Answer | None]) -> Answer | None:
    try:
        return None if value is None else read(value)
    except ValueError as error:
        raise InputError(f"{where}: {error}.".replace("answer is", f"{name} is", 1)) from None


def _read(value: Any) -> Answer | None:
    """An answer that a tool read; None where that is blank, or nothing but marks."""
    if not isinstance(value, str):
        return right_answer(value)
    if not WRITTEN.fits(value):
        raise ValueError(f"answer is {quoted(value)}; it must be {WRITTEN.words}")
    found = only_answer(value)
    return as_text(found) if isinstance(found, Fraction) else found


def _judged(row: Row, checked: Row, form: str, rule: str | None, answered: bool) -> Row:
    """A checked row with its verdict, its own or by its answer; of counts, with how many draws are right."""
    where, said = row["where"], row.get("correct")
    if form == COUNTS:
        if rule is not None or said is None or "draws" not in checked:
            raise InputError(f"{where}: counts are draws and how many of them are correct, and no texts for a rule.")
        right = _fitting(where, "correct", said)
        if right > checked["draws"]:
            raise InputError(f"{where}: of {checked['draws']} draws {right} are correct.")
        return checked | {"answer": COUNTS, "right": right}
    if rule is not None:
        return checked
    expected, extracted = checked["expected"], checked["extracted"]
    if said is None and answered and expected is not None:
        said = extracted is not None and plain_text(as_answer(extracted)) == plain_text(as_answer(expected))
    if said is None or "lack" in row:
        lack = row.get("lack", "it has neither correct, nor an answer beside what is expected")
        raise InputError(f"{where}: {lack}; where there are texts, answer names a rule that reads them.")
    if (verdict := VERDICTS.get(str(said).strip().lower())) is None:
        raise InputError(f"{where}: correct is {quoted(said)}; it must be 1, for right, or 0.")
    return checked | {"answer": IMPORTED, "correct": verdict}


def _answers(said: Sequence[Row]) -> tuple[pa.DataType, list[Row]]:
    """The type of both columns of answers, and theirs of each row: integers if all of them are, else text."""
    found = [{name: row[name] for name in ANSWERS} for row in said]
    if all(isinstance(row["expected"], int) for row in said) and all(
        row["extracted"] is None or (isinstance(row["extracted"], int) and INT64.min <= row["extracted"] <= INT64.max)
        for row in said
    ):
        return pa.int64(), found
    texts = any(kind_of(row["expected"]) == "text" for row in said if row["expected"] is not None)
    written: Callable[[Answer], str] = (lambda value: plain_text(as_answer(value))) if texts else as_answer
    return pa.string(), [{k: None if v is None else written(v) for k, v in row.items()} for row in found]


def _runs(draws: pd.DataFrame, where: np.ndarray) -> pd.Series:
    """The number of each draw among those of its problem and setting: its own, or else its place."""
    unsaid = draws["run"].isna().to_numpy()
    if unsaid.all():
        return draws.groupby([*SETTING, "problem_id"]).cumcount()
    if unsaid.any():
        raise InputError(f"{where[unsaid.argmax()]}: run is missing, and other draws have one.")
    twice = draws.duplicated([*SETTING, "problem_id", "run"]).to_numpy()
    if twice.any():
        problem, temperature, run = draws.loc[twice.argmax(), ["problem_id", "temperature", "run"]]
        at = f"the problem {quoted(problem)} at temperature {temperature:g}"
        raise InputError(f"{where[twice.argmax()]}: run {run:g} of {at} is there twice.")
    return draws["run"].astype("int64")


def _check_alike(draws: pd.DataFrame, where: np.ndarray) -> None:
    """Refuse a problem of two tasks, or with two right answers."""
    for name, what in (("task", "tasks"), ("expected", "right answers")):
        first = draws.groupby("problem_id")[name].transform("first")
        other = (first.notna() & draws[name].notna() & (draws[name] != first)).to_numpy()
        if other.any():
            at = int(other.argmax())
            both = " and ".join(quoted(column.tolist()[at]) for column in (first, draws[name]))
            raise InputError(f"{where[at]}: the problem {quoted(draws.loc[at, 'problem_id'])} has two {what}, {both}.")
