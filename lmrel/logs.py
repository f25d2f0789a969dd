"""What the files of evaluation tools say of their draws: lm-evaluation-harness, Inspect and every_eval_ever.

A reader turns a file into rows under our names, a row a draw. What the file does not say is not in them, and beyond the
shape that the tool documents nothing is checked: `lmrel.outputs` makes draws of them.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, ValidationError

from lmrel.errors import InputError, quoted
from lmrel.files import read_object
from lmrel.sources import Rows

Row = dict[str, Any]
HARNESS, INSPECT, EVER = "lm-evaluation-harness", "inspect_ai", "every_eval_ever"
LARGEST = 2**30  # bytes of a zip's members, unpacked
ZSTANDARD = 93  # how Inspect packs its logs today; Python's own reader knows it from 3.14 on
KNOBS = (  # of Inspect, those on which a draw depends
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "stop_seqs",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "reasoning_effort",
    "reasoning_tokens",
    "system_message",
)
CUT_OFF = ("max_tokens", "model_length")  # Inspect's words for it


@dataclass(frozen=True)
class Found:
    """What one file says: its format, the version of the tool that wrote it where that is named, and a row a draw."""

    form: str
    version: str | None
    rows: list[Row]


class Shape(BaseModel):
    """The part of a tool's object that is read; further fields are kept."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


S = TypeVar("S", bound=Shape)


def shaped(shape: type[S], value: Any, where: str, tool: str) -> S:
    """`value` as this shape; `InputError` that names the part which is another."""
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        part = ".".join(map(str, first["loc"])) or "it"
        raise InputError(f"{where}: {part} is not as {tool} writes it: {first['msg']}.") from error


def one_of(names: Sequence[str], verdict: str | None, path: Path) -> str:
    """The one of the verdicts that a file has which is meant, any for ""; `InputError` where that is not clear."""
    if verdict == "" or (len(names) == 1 and verdict is None):
        return names[0] if names else ""
    if verdict is None or verdict not in names:
        lack = f"has {len(names)} verdicts on a draw" if verdict is None else f"has no verdict {quoted(verdict)}"
        raise InputError(f"{path} {lack}; verdict must name one of its own: {quoted('; '.join(names))}.")
    return verdict


class Response(Shape):
    """A line of the harness: a problem, all responses to it, and what one filter made of them."""

    doc_id: StrictInt
    target: Any = None
    arguments: dict[str, dict[str, Any]]
    resps: list[list[Any]]
    filtered_resps: list[Any]
    filter: StrictStr
    metrics: list[StrictStr]


def read_harness(rows: Rows, path: Path, verdict: str | None) -> Found:
    """Samples of lm-evaluation-harness; model, task and version stand in the file of results beside them."""
    lines = [(where, shaped(Response, row, where, HARNESS)) for where, row in rows]
    names = list(dict.fromkeys(f"{metric},{line.filter}" for _, line in lines for metric in line.metrics or [""]))
    metric, _, chosen = one_of(names, verdict, path).rpartition(",")
    task, results = _results_of(path)
    said: list[Row] = []
    seen: dict[int, str] = {}
    for where, line in ((where, line) for where, line in lines if line.filter == chosen):
        if line.doc_id in seen:
            raise InputError(f"{where}: the problem {line.doc_id} is already at {seen[line.doc_id]}.")
        seen[line.doc_id] = where
        asked = line.arguments.get("gen_args_0", {})
        texts, knobs = line.resps[0] if len(line.resps) == 1 else [], asked.get("arg_1")
        if not texts or not isinstance(knobs, dict) or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{where}: nothing was drawn, as where choices are scored by their log-likelihoods.")
        judged = {"correct": (line.model_extra or {}).get(metric), "answer": only(only(line.filtered_resps))}
        if judged["answer"] == "[invalid]":  # the harness' word for no match
            judged["answer"] = None
        if len(set(texts)) > 1:  # filters take one response, and its verdict is not that of the others
            judged = {"lack": f"{HARNESS} keeps one verdict for all {len(texts)} responses"}
        common = {
            "where": where,
            "model": results.get("model_name"),
            "task": task,
            "problem_id": f"{task}-{line.doc_id}" if task else line.doc_id,
            "prompt": text_or_none(asked.get("arg_0")),
            "expected": only(line.target),
            "temperature": _harness_temperature(knobs),
            "knobs": knobs,
        }
        said += [common | judged | {"text": text} for text in texts]
    return Found(HARNESS, text_or_none(results.get("lm_eval_version")), said)


def _results_of(path: Path) -> tuple[str | None, Row]:
    """The task that a file of samples is of, from its name, and the results that were written at the same time."""
    name, _, date = path.stem.rpartition("_")
    beside = path.with_name(f"results_{date}.json")
    task = name.removeprefix("samples_") if name.startswith("samples_") else None
    return task, read_object(beside, "results") if beside.is_file() else {}


def _harness_temperature(knobs: Row) -> Any:
    """What the harness asked for: greedy unless told; None where its two knobs contradict each other."""
    temperature, sampled = knobs.get("temperature"), knobs.get("do_sample")
    if sampled is not None and bool(sampled) != bool(temperature):
        return None if sampled or temperature else 0.0
    return temperature or 0.0


class Instance(Shape):
    """A line of every_eval_ever: an instance under one of the results of its evaluation."""

    evaluation_id: StrictStr
    model_id: StrictStr
    evaluation_name: StrictStr
    evaluation_result_id: StrictStr | None = None
    sample_id: StrictStr
    interaction_type: StrictStr
    input: dict[str, Any]
    output: dict[str, Any] | None = None
    answer_attribution: list[dict[str, Any]] = []
    evaluation: dict[str, Any]
    token_usage: dict[str, Any] | None = None


class Evaluation(Shape):
    """The file of an evaluation of every_eval_ever, which its instances refer to."""

    evaluation_id: StrictStr
    eval_library: dict[str, Any]
    evaluation_results: list[dict[str, Any]]


def read_ever(rows: Rows, path: Path, verdict: str | None) -> Found:
    """Instances of every_eval_ever; temperature and version stand in the file of the evaluation beside them."""
    lines = [(where, shaped(Instance, row, where, EVER)) for where, row in rows]
    names = list(dict.fromkeys(line.evaluation_result_id or line.evaluation_name for _, line in lines))
    chosen = one_of(names, verdict, path)
    lines = [(where, line) for where, line in lines if chosen in (line.evaluation_result_id, line.evaluation_name)]
    evaluations = {name: _evaluation_of(path, name) for name in dict.fromkeys(line.evaluation_id for _, line in lines)}
    repeats = Counter((line.evaluation_id, line.sample_id) for _, line in lines)
    said: list[Row] = []
    for where, line in lines:
        _, knobs = evaluations[line.evaluation_id]
        texts = (line.output or {}).get("raw")
        if line.interaction_type != "single_turn" or not isinstance(texts, list):
            raise InputError(f"{where}: it is of {quoted(line.interaction_type)}; only single_turn is one draw.")
        several = max(len(texts), repeats[line.evaluation_id, line.sample_id])
        answers = [one.get("extracted_value") for one in line.answer_attribution if one.get("is_terminal")]
        judged: Row = {"correct": line.evaluation.get("score"), "answer": only(answers)}
        if several > 1:  # its converters give each repeat the score of all of them
            judged = {"lack": f"{EVER} keeps one score for all {several} repeats"}
        common = {
            "where": where,
            "model": line.model_id,
            "task": line.evaluation_name,
            "problem_id": f"{line.evaluation_name}-{line.sample_id}",
            "cluster": text_or_none(line.input.get("raw")),
            "prompt": text_or_none(line.input.get("formatted")),
            "expected": only(line.input.get("reference")),
            "n_tokens": (line.token_usage or {}).get("output_tokens") if len(texts) == 1 else None,
            "temperature": knobs.get("temperature"),
            "knobs": knobs,
        }
        said += [common | judged | {"text": text_or_none(text)} for text in texts]
    versions = {library for library, _ in evaluations.values() if library}
    return Found(EVER, "; ".join(sorted(versions)) or None, said)


def _evaluation_of(path: Path, evaluation: str) -> tuple[str | None, Row]:
    """The tool that an evaluation was made with, and its knobs, from the file that was written with its instances."""
    beside = path.with_name(f"{path.stem.removesuffix('_samples')}.json")
    if not beside.is_file():
        return None, {}
    found = shaped(Evaluation, read_object(beside), str(beside), EVER)
    if found.evaluation_id != evaluation:
        raise InputError(f"{path} is of the evaluation {quoted(evaluation)}, and {beside.name} of another.")
    said = [_inside(result, "generation_config", "generation_args") for result in found.evaluation_results]
    knobs = [{name: one[name] for name in KNOBS if one.get(name) is not None} for one in said]
    alike = all(one == knobs[0] for one in knobs)  # else it is not known with which an instance was drawn
    tool = [found.eval_library.get(name) for name in ("name", "version")]
    return " ".join(filter(None, map(text_or_none, tool))) or None, knobs[0] if knobs and alike else {}


class Output(Shape):
    """What a model wrote for a sample."""

    choices: list[dict[str, Any]]
    usage: dict[str, Any] | None = None


class Sample(Shape):
    """One epoch of one problem."""

    id: StrictInt | StrictStr
    epoch: StrictInt
    input: Any
    target: Any
    messages: list[dict[str, Any]]
    output: Output
    scores: dict[str, dict[str, Any]] | None = None
    events: list[dict[str, Any]] = []


class Evaluated(Shape):
    """What was evaluated, and how."""

    task: StrictStr
    model: StrictStr
    model_generate_config: dict[str, Any] = {}
    packages: dict[str, Any] = {}


class Plan(Shape):
    """The steps of an evaluation."""

    config: dict[str, Any] = {}


class Log(Shape):
    """A whole log."""

    status: StrictStr
    eval: Evaluated
    plan: Plan = Plan()
    samples: list[Sample] | None = None


def read_inspect(log: Any, path: Path, verdict: str | None) -> Found:
    """The `log` of Inspect in the file `path`: a sample for each epoch of each problem."""
    found = shaped(Log, log, str(path), INSPECT)
    if found.status != "success" or not found.samples:
        raise InputError(f"{path} is no whole log: its status is {quoted(found.status)}, and it must be 'success'.")
    scorer = one_of(list(dict.fromkeys(name for one in found.samples for name in one.scores or {})), verdict, path)
    said: list[Row] = []
    seen: set[tuple[int | str, int]] = set()
    for one in sorted(found.samples, key=lambda one: one.epoch):
        where = f"{path}, sample {one.id}, epoch {one.epoch}"
        if (one.id, one.epoch) in seen:
            raise InputError(f"{where}: it is there twice.")
        seen.add((one.id, one.epoch))
        if len(one.output.choices) != 1:
            raise InputError(f"{where}: it has {len(one.output.choices)} outputs, and a draw is one.")
        message, stopped = one.output.choices[0].get("message"), one.output.choices[0].get("stop_reason")
        message = message if isinstance(message, dict) else {}
        score, knobs = (one.scores or {}).get(scorer, {}), _knobs_of(one, message.get("id"), found)
        ended = "length" if stopped in CUT_OFF else "eos" if stopped == "stop" and "stop_seqs" not in knobs else None
        before = [each for each in one.messages if each.get("id") != message.get("id")]
        prompt = [{"role": each.get("role"), "content": each.get("content")} for each in before]
        said.append(
            {
                "where": where,
                "model": found.eval.model,
                "task": found.eval.task,
                "problem_id": f"{found.eval.task}-{one.id}",
                "cluster": text_or_none(one.input),
                "prompt": json.dumps(prompt, ensure_ascii=False),
                "expected": only(one.target),
                "text": _written(message.get("content")),
                "n_tokens": (one.output.usage or {}).get("output_tokens"),
                "ended": ended,
                "answer": score.get("answer"),
                "correct": {"C": 1, "I": 0}.get(str(score.get("value")), score.get("value")),
                "temperature": knobs.get("temperature"),
                "knobs": knobs,
            }
        )
    return Found(INSPECT, text_or_none(found.eval.packages.get(INSPECT)), said)


def _knobs_of(sample: Sample, message: Any, log: Log) -> Row:
    """The knobs with which a sample's output was drawn: those of the call that gave it, or else of the whole log."""
    config = log.eval.model_generate_config | {name: knob for name, knob in log.plan.config.items() if knob is not None}
    for event in sample.events:
        given, knobs = _inside(event, "output").get("choices"), _inside(event, "config")
        if message is not None and isinstance(given, list) and message in map(_message_id, given):
            config = knobs or config
    return {name: config[name] for name in KNOBS if config.get(name) is not None}


def _message_id(choice: Any) -> Any:
    return _inside(choice, "message").get("id")


def _written(content: Any) -> str | None:
    """What a message says: its text, or the texts among its parts, which may be thoughts, too."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [_inside(part).get("text") for part in parts if _inside(part).get("type") == "text"]
    return "".join(map(str, texts)) if texts and all(isinstance(text, str) for text in texts) else None


def _inside(value: Any, *names: str) -> Row:
    """The object at the end of a path of names; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def only(value: Any) -> Any:
    """The one thing in a list of one; None for a list of several; anything else as it is."""
    return value if not isinstance(value, list) else value[0] if len(value) == 1 else None


def text_or_none(value: Any) -> str | None:
    """`value` if it is a text."""
    return value if isinstance(value, str) else None


def unpacked(path: Path) -> Row:
    """The log of Inspect in a zip of JSON, its samples included, as its format documents it."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if strange := [one.filename for one in members if one.filename.startswith("/") or ".." in one.filename]:
                raise InputError(f"{path} is no log of {INSPECT}: it holds a file named {quoted(strange[0])}.")
            if (size := sum(one.file_size for one in members)) > LARGEST:
                raise InputError(f"{path} would be {size:,} bytes unpacked; at most {LARGEST:,} are read.")
            there = {one.filename: one for one in members}
            if "header.json" not in there:
                raise InputError(f"{path} is no whole log of {INSPECT}: it has no header.json.")
            names = [name for name in there if name.startswith("samples/") and name.endswith(".json")]
            log, *samples = [_member(file, path, there[name]) for name in ("header.json", *names)]
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged: {error}.") from error
    if not isinstance(log, dict):
        raise InputError(f"{path} is no log of {INSPECT}: its header is no object.")
    return log | {"samples": samples}


def _member(file: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo) -> Any:
    """A member of a zip as JSON, with its checksum compared."""
    if member.compress_type != ZSTANDARD:
        return json.loads(file.read(member))
    with open(path, "rb") as raw:
        raw.seek(member.header_offset + 26)  # of a local header, where the lengths of what follows it stand
        name, extra = struct.unpack("<HH", raw.read(4))
        raw.seek(name + extra, 1)
        packed = raw.read(member.compress_size)
    content = pa.input_stream(pa.py_buffer(packed), compression="zstd").read(member.file_size + 1)
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} has another checksum")
    return json.loads(content)


def by_its_own_reader(path: Path) -> Row | None:
    """The log of Inspect as its own package reads it, older forms included; None where that is not installed."""
    if find_spec(INSPECT) is None:
        return None
    try:
        return import_module(f"{INSPECT}.log").read_eval_log(str(path)).model_dump(mode="json")
    except Exception as error:  # whatever it meets in a file
        raise InputError(f"{path} cannot be read by {INSPECT}: {str(error).splitlines()[0]}") from error
