"""What must not pass, and what looks odd and must: a table of cases for every public function, then properties.

A case is refused with an `InputError` of one line that says what is wrong, or, where only a programmer can have meant
it, with a TypeError or ValueError raised here. Notebook parameters are in `test_bad_notebooks`.
"""

from __future__ import annotations

import json
import math
import string
import sys
import traceback
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, PreTrainedTokenizerFast

import lmrel
from book.analysis import design, effects, routing, taxonomy, trends
from book.figures import audit, compare, engine, evaluate, lessons, live, scale
from book.figures.style import bundle, main, write_svg
from lmrel import (
    Decoder,
    InputError,
    charts,
    enumerate_outcomes,
    extract_answer,
    load_model,
    load_problems,
    paper_problems,
    records,
    sample,
)
from lmrel.answers import Verdict, sole_number, verdict_after
from lmrel.decoding import as_shipped, stops
from lmrel.errors import quoted
from lmrel.problems import one_of
from lmrel.registry import CHECKPOINTS
from lmrel.stats import agreement, calibration, contrasts, inference, metrics
from study import costs, devices, jobs, progress, results, runner
from study.run import Run
from tests.conftest import ROOT, random_model, small_tokenizer, tiny
from tests.study import test_run
from tiny import factorial, train
from tiny.split import held_out_problems
from tools import bench_gpu
from tools import lessons as tool_lessons

NAN, INF = math.nan, math.inf
HUGE = 10**5000  # Python itself refuses to write it
BRIEF = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
QUESTIONS = pd.DataFrame(
    {"problem_id": ["a", "b"], "task": "custom", "question": ["1 + 1", "2 + 2"], "answer": pd.array([2, 4], "Int64")}
)
GOOD = '{"problem_id": "a", "question": "1 + 1", "answer": 2}\n'
PARAMETERS: dict[str, Any] = test_run.PARAMETERS | {"model": "tiny-dense-base"}
STUDY: dict[str, Any] = {"models": ["tiny-dense-base"], "parameters": {"temperatures": [0.0, 1.0], "runs": 2}}


# What the cases call: each takes a folder of its own, and what is bad in one place.


@cache
def small() -> tuple[Any, Any]:
    return random_model("mistral", 40), small_tokenizer(40)


@cache
def draws() -> pd.DataFrame:
    return sample(*tiny("tiny-dense-base"), paper_problems().iloc[::60], [Decoder(0.0), Decoder(1.0)], runs=2)


def sampling(tmp: Path, model: Any = None, tokenizer: Any = None, problems: Any = QUESTIONS, **changes: Any) -> Any:
    decoders = changes.pop("decoders", [Decoder(0.0, max_new_tokens=3), Decoder(1.0, max_new_tokens=3)])
    return sample(model or small()[0], tokenizer or small()[1], problems, decoders, **changes)


def enumerating(tmp: Path, model: Any = None, tokenizer: Any = None, problems: Any = QUESTIONS, **changes: Any) -> Any:
    given_ = {"temperatures": [0.0, 1.0], "max_new_tokens": 3} | changes
    return enumerate_outcomes(model or small()[0], tokenizer or small()[1], problems, **given_)


def running(tmp: Path, **changes: Any) -> Any:
    return Run(**(PARAMETERS | {"output_dir": str(tmp / "run")} | changes))


def carrying_out(tmp: Path, **changes: Any) -> Any:
    return running(tmp, **changes).carry_out(progress=False)


def reading(tmp: Path, text: str | bytes, name: str = "mine.jsonl") -> pd.DataFrame:
    (tmp / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return load_problems(str(tmp / name))


def parquet(tmp: Path, **columns: Any) -> pd.DataFrame:
    rows = {"problem_id": ["a"], "question": ["1"], "answer": [1]} | columns
    pd.DataFrame(rows).to_parquet(tmp / "mine.parquet")
    return load_problems(str(tmp / "mine.parquet"))


def planning(tmp: Path, **changes: Any) -> Any:
    return jobs.Study.of(STUDY | changes)


def study_with(tmp: Path, **parameters: Any) -> Any:
    return planning(tmp, parameters=STUDY["parameters"] | parameters)


def study_file(tmp: Path, text: str | bytes) -> Any:
    (tmp / "study.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return jobs.Study.read(tmp / "study.yaml")


def checkpoint(tmp: Path, **files: Any) -> str:
    """A copy of a tiny model, with files replaced (text), changed (a dict) or removed (None)."""
    for path in (CHECKPOINTS / "tiny-dense-base").glob("*"):
        if path.suffix in (".json", ".jinja", ".safetensors"):
            (tmp / path.name).write_bytes(path.read_bytes())
    for name, content in files.items():
        path = tmp / name.replace("__", ".")
        if content is None:
            path.unlink()
        else:
            changed = json.dumps(json.loads(path.read_text()) | content) if isinstance(content, dict) else content
            path.write_text(changed)
    return str(tmp)


def drawing_from(tmp: Path, **files: Any) -> Any:
    model, tokenizer = load_model(checkpoint(tmp, **files))
    return sample(model, tokenizer, paper_problems().head(1), [Decoder(0.0)])


def shipped(tmp: Path, **knobs: Any) -> Decoder:
    config = GenerationConfig()
    for name, value in knobs.items():
        setattr(config, name, value)
    return as_shipped(0.5, config)


def broken(change: Callable[[torch.Tensor], Any]) -> Any:
    """A model whose logits go through `change`."""
    model = random_model("mistral", 40)

    def hook(_: Any, __: Any, output: Any) -> Any:
        output.logits = change(output.logits)
        return output

    model.register_forward_hook(hook)
    return model


def with_end(token: Any) -> Any:
    model = random_model("mistral", 40)
    model.generation_config.eos_token_id = token
    return model


def with_template(template: str) -> Any:
    tokenizer = small_tokenizer(40)
    tokenizer.chat_template = template
    return tokenizer


def only(token: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda logits: torch.where(torch.arange(logits.shape[-1]) == token, value, logits)


def ab_tokenizer() -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1})))


def probabilities(logits: Any, seen: Any = None, **knobs: Any) -> Any:
    return Decoder(**knobs).processed(torch.tensor(logits) if isinstance(logits, list) else logits, seen)


def json_file(tmp: Path, value: Any, name: str = "some/run.json") -> Path:
    (tmp / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp / name).write_text(value if isinstance(value, str) else json.dumps(value))
    return tmp


def measured() -> Any:
    return costs.read_measured(ROOT / "book" / "data")


def command(main: Callable[[], None], *arguments: str) -> Callable[[Path], None]:
    def call(tmp: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["lmrel", *(a.replace("TMP", str(tmp)) for a in arguments)])
            main()

    return call


def spec(tmp: Path, text: str) -> None:
    write_svg({"mark": text}, tmp / "a.svg")


Case = tuple[str, Callable[[Path], Any], str]

TEXTS: list[Case] = [
    (f"{reads.__name__} of {value!r}", lambda _, f=reads, v=value: f(v), "string")  # type: ignore[misc]
    for reads in (extract_answer, sole_number)
    for value in (None, 5, b"5", ["5"], np.int64(5), pd.NA)
]

PROBLEMS: list[Case] = [
    ("no source", lambda _: load_problems(None), "problems is None; it must be a path"),  # type: ignore[arg-type]
    ("a number as source", lambda _: load_problems(5), "problems is 5; it must be a path"),  # type: ignore[arg-type]
    ("bytes as source", lambda _: load_problems(b"paper"), "problems is b'paper'; it must be a path"),  # type: ignore[arg-type]
    ("empty source", lambda _: load_problems(""), "problems is ''; it must be a path"),
    ("NUL in the source", lambda _: load_problems("a\0.jsonl"), r"problems is 'a\\x00.jsonl'; it must be a path"),
    ("half a character in the source", lambda _: load_problems("\ud800.jsonl"), "it must be a path"),
    ("an endless source", lambda _: load_problems("x" * 5000 + ".jsonl"), "problems is 'xxx.*…; it must be a path"),
    ("a folder as source", lambda tmp: load_problems(str(tmp)), "it must be 'paper' or an existing"),
    ("huge limit", lambda _: load_problems("paper", HUGE), "limit is a number of thousands of digits; it must be at"),
    ("numpy limit", lambda _: load_problems("paper", np.int64(2)), r"limit is np.int64\(2\)"),  # type: ignore[arg-type]
    ("UTF-16", lambda tmp: reading(tmp, GOOD.encode("utf-16")), "is not UTF-8 text"),
    ("a stray byte", lambda tmp: reading(tmp, GOOD.encode() + b"\xff"), "is not UTF-8 text"),
    ("a raw NUL", lambda tmp: reading(tmp, GOOD.replace("+", "\0")), "line 1: not valid JSON"),
    ("NaN as answer", lambda tmp: reading(tmp, GOOD.replace("2}", "NaN}")), "answer is nan; it must be an integer"),
    ("infinity as answer", lambda tmp: reading(tmp, GOOD.replace("2}", "-Infinity}")), "answer is -inf"),
    ("beyond float range", lambda tmp: reading(tmp, GOOD.replace("2}", "1e400}")), "answer is inf"),
    ("a float that lost digits", lambda tmp: reading(tmp, GOOD.replace("2}", "12345678901234567.0}")), "18 digits"),
    ("true as answer", lambda tmp: reading(tmp, GOOD.replace("2}", "true}")), "answer is True"),
    ("a string as answer", lambda tmp: reading(tmp, GOOD.replace("2}", '"2"}')), "answer is '2'"),
    ("an Arabic digit as answer", lambda tmp: reading(tmp, GOOD.replace("2}", '"٣"}')), "answer is '٣'"),
    ("a list as answer", lambda tmp: reading(tmp, GOOD.replace("2}", "[2]}")), r"answer is \[2\]"),
    ("nested lists", lambda tmp: reading(tmp, GOOD.replace("2}", "[" * 900 + "]" * 900 + "}")), r"answer is \[\[.*…"),
    ("one name twice", lambda tmp: reading(tmp, '{"problem_id": "a", ' + GOOD[1:]), "line 1: .*a name occurs twice"),
    ("duplicate ids over CRLF", lambda tmp: reading(tmp, GOOD.replace("\n", "\r\n") * 2), "line 2: .* already at"),
    ("an empty name", lambda tmp: reading(tmp, GOOD.replace('"question"', '""')), "line 1: unknown field ''"),
    ("null as id", lambda tmp: reading(tmp, GOOD.replace('"a"', "null")), "problem_id is missing"),
    ("an enormous wrong id", lambda tmp: reading(tmp, GOOD.replace('"a"', "9" * 4000)), "problem_id must be .* 999.*…"),
    (
        "operands beyond 18 digits in their result",
        lambda tmp: reading(
            tmp, '{"problem_id": "a", "task": "arithmetic", "x": 1' + "0" * 17 + ', "y": 0, "z": 99, "w": 1}'
        ),
        "the answer is 99000.*; it must be an integer of at most 18 digits",
    ),
    ("Parquet: times", lambda tmp: parquet(tmp, answer=[pd.Timestamp("2020")]), "row 0: answer is Timestamp"),
    ("Parquet: durations", lambda tmp: parquet(tmp, answer=[pd.Timedelta("1s")]), "row 0: answer is Timedelta"),
    ("Parquet: booleans", lambda tmp: parquet(tmp, answer=[True]), "row 0: answer is True"),
    ("Parquet: fractions", lambda tmp: parquet(tmp, answer=[1.5]), "row 0: answer is 1.5"),
    ("Parquet: decimals", lambda tmp: parquet(tmp, answer=[Decimal("1.5")]), "row 0: answer is Decimal"),
    ("Parquet: large floats", lambda tmp: parquet(tmp, answer=[2.0**60]), "row 0: answer is 1.15.*18 digits"),
    ("Parquet: lists", lambda tmp: parquet(tmp, answer=[[1]]), r"row 0: answer is array\(\[1\]"),
    ("Parquet: bytes", lambda tmp: parquet(tmp, problem_id=[b"a"]), "row 0: problem_id must be .* not b'a'"),
    ("Parquet: unsigned", lambda tmp: parquet(tmp, answer=np.array([2**63], "uint64")), "row 0: answer is 9223"),
    ("Parquet: missing", lambda tmp: parquet(tmp, answer=[None]), "row 0: a question needs its integer answer"),
    ("Parquet: no rows", lambda tmp: parquet(tmp, problem_id=[], question=[], answer=[]), "holds no problems"),
    ("held out: none", lambda _: held_out_problems(0), "per_task is 0; it must be an integer of at least 1"),
    ("held out: fewer", lambda _: held_out_problems(-1), "per_task is -1"),
    ("held out: True", lambda _: held_out_problems(True), "per_task is True"),
    ("held out: a text", lambda _: held_out_problems("3"), "per_task is '3'"),  # type: ignore[arg-type]
    ("row beyond the last", lambda _: one_of(QUESTIONS, 2), "problem is 2; it must be an integer from 0 to 1"),
    ("row before the first", lambda _: one_of(QUESTIONS, -1), "problem is -1"),
    ("row True", lambda _: one_of(QUESTIONS, True), "problem is True"),
]

DECODERS: list[Case] = [
    (f"{knob} is {quoted(value)[:30]}", lambda _, k=knob, v=value: Decoder(**{k: v}), f"{knob} is .*; it must be")  # type: ignore[misc]
    for knob, value in [
        ("temperature", HUGE),
        ("temperature", np.float32(0.5)),
        ("temperature", torch.tensor(1.0)),
        ("temperature", "٣"),
        ("temperature", 1j),
        ("top_k", HUGE),
        ("top_k", True),
        ("top_k", np.int64(3)),
        ("top_p", NAN),
        ("min_p", [0.1]),
        ("typical_p", -INF),
        ("repetition_penalty", HUGE),
        ("max_new_tokens", HUGE),
        ("max_new_tokens", 2.0),
        ("stop", ["eos"]),
        ("stop", pd.NA),
        ("stop", np.array(["eos", "eos"])),
        ("stop_strings", {"a": 1}),
        ("stop_strings", "x" * 10_000),
    ]
]
DECODERS += [
    ("NaN logits", lambda _: probabilities([[NAN, 1.0]]), "logits hold NaN or infinity, or a row in which no token"),
    ("NaN logits, greedily", lambda _: probabilities([[NAN, 1.0]], temperature=0.0), "logits hold NaN"),
    ("nothing can be drawn", lambda _: probabilities([[1.0, 1.0], [-INF, -INF]]), "a row in which no token"),
    ("infinite logits", lambda _: probabilities([[INF, 1.0]], top_k=1), "logits hold NaN or infinity"),
    (
        "a penalty beyond float range",
        lambda _: probabilities([[3e38, 0.0]], torch.tensor([[True, True]]), repetition_penalty=0.01),
        "logits hold NaN or infinity",
    ),
    ("no logits", lambda _: probabilities([[]]), "logits must be a tensor whose last dimension is the vocabulary"),
    ("a single number", lambda _: probabilities(torch.tensor(1.0)), "logits must be a tensor"),
    ("logits that are no tensor", lambda _: Decoder().processed([[1.0]]), "logits must be a tensor"),  # type: ignore[arg-type]
    ("a penalty without a mask", lambda _: probabilities([[1.0]], repetition_penalty=2.0), "needs the mask of tokens"),
    (
        "a mask of numbers",
        lambda _: probabilities([[1.0]], torch.ones(1, 1), repetition_penalty=2.0),
        "one bool for each",
    ),
    (
        "a mask of another shape",
        lambda _: probabilities([[1.0]], torch.ones(2, 1) > 0, repetition_penalty=2.0),
        "one bool",
    ),
    ("an unknown knob", lambda _: Decoder(temprature=1.0), "unexpected keyword argument 'temprature'"),  # type: ignore[call-arg]
    ("shipped top_p", lambda tmp: shipped(tmp, top_p=5), "top_p is 5"),
    ("shipped penalty", lambda tmp: shipped(tmp, repetition_penalty="x"), "repetition_penalty is 'x'"),
    ("shipped stop strings", lambda tmp: shipped(tmp, stop_strings=5), "stop_strings is 5"),
    ("shipped top_k", lambda tmp: shipped(tmp, top_k=1.5), "top_k is 1.5"),
]

TABLE = "problems is .*; it must be a table"
MODELS: list[Case] = []
for name, call in (("sample", sampling), ("enumerate", enumerating)):
    MODELS += [
        (f"{name}: {what}", lambda tmp, c=call, k=changes: c(tmp, **k()), said)  # type: ignore[misc]
        for what, changes, said in [
            (
                "a name as model",
                lambda: {"model": "tiny-dense-base"},
                "a model is needed, as load_model gives one, not str",
            ),
            ("a layer as model", lambda: {"model": torch.nn.Linear(2, 2)}, "a model is needed, .* not Linear"),
            ("a name as tokenizer", lambda: {"tokenizer": "x"}, "a tokenizer is needed, .* not str"),
            ("problems None", lambda: {"problems": None}, TABLE),
            ("problems a name", lambda: {"problems": "paper"}, TABLE),
            ("problems a list", lambda: {"problems": [{"problem_id": "a"}]}, TABLE),
            (
                "no answers",
                lambda: {"problems": QUESTIONS.drop(columns="answer")},
                "row 0: a question needs its integer",
            ),
            ("no ids", lambda: {"problems": QUESTIONS.drop(columns="problem_id")}, "row 0: problem_id is missing"),
            (
                "an id twice",
                lambda: {"problems": QUESTIONS.assign(problem_id="a")},
                "row 1: problem_id 'a' is already at",
            ),
            (
                "numbers as ids",
                lambda: {"problems": QUESTIONS.assign(problem_id=[1, 2])},
                "problem_id must be .* not 1",
            ),
            (
                "columns twice",
                lambda: {"problems": pd.concat([QUESTIONS, QUESTIONS], axis=1)},
                "two columns of one name",
            ),
            (
                "NaN as answer",
                lambda: {"problems": QUESTIONS.assign(answer=NAN)},
                "a question needs its integer answer",
            ),
            ("a fraction as answer", lambda: {"problems": QUESTIONS.assign(answer=1.5)}, "answer is 1.5"),
            (
                "an answer beyond 64 bits",
                lambda: {"problems": QUESTIONS.assign(answer=2**64)},
                "answer is 18446744073709551616",
            ),
            ("a boolean as answer", lambda: {"problems": QUESTIONS.assign(answer=True)}, "answer is True"),
            (
                "an empty question",
                lambda: {"problems": QUESTIONS.assign(question=" ")},
                "question must be a non-empty string",
            ),
            ("a number as question", lambda: {"problems": QUESTIONS.assign(question=5)}, "question must be .* not 5"),
            (
                "no operands",
                lambda: {"problems": QUESTIONS.assign(task="arithmetic")},
                "a question goes without operands and",
            ),
            ("a missing operand", lambda: {"problems": paper_problems().tail(1).assign(x=pd.NA)}, "x is missing"),
            ("an operator of no meaning", lambda: {"problems": paper_problems().head(1).assign(op1="/")}, "op1 is '/'"),
            ("an enormous question", lambda: {"problems": QUESTIONS.assign(question="1" * 9999)}, "this model has 128"),
            ("style None", lambda: {"prompt_style": None}, "prompt_style is None"),
            ("style a list", lambda: {"prompt_style": ["few_shot"]}, r"prompt_style is \['few_shot'\]"),
            ("chunk True", lambda: {"chunk": True}, "chunk is True"),
            ("chunk of numpy", lambda: {"chunk": np.int64(1)}, r"chunk is np.int64\(1\)"),
            (
                "NaN logits",
                lambda: {"model": broken(lambda x: x * NAN)},
                "MistralForCausalLM returned NaN or infinite logits",
            ),
            ("one NaN logit", lambda: {"model": broken(only(5, NAN))}, "returned NaN or infinite logits"),
            ("rows of -inf", lambda: {"model": broken(lambda x: x * 0 - INF)}, "returned NaN or infinite logits"),
            ("infinite logits", lambda: {"model": broken(lambda x: x * 0 + INF)}, "returned NaN or infinite logits"),
            ("no logits", lambda: {"model": broken(lambda _: None)}, "cannot be run as a tree of prefixes"),
            (
                "too few logits",
                lambda: {"model": broken(lambda x: x[..., :20])},
                "it gives 20 logits, and its config.json",
            ),
            ("too many logits", lambda: {"model": broken(lambda x: torch.cat([x, x], -1))}, "it gives 80 logits"),
            (
                "a vocabulary larger than the embedding",
                lambda: {"model": random_model("mistral", 12)},
                "gives token 39; this model has 12 tokens",
            ),
            (
                "an end-of-text beyond the vocabulary",
                lambda: {"model": with_end(40)},
                "end-of-text token is 40; this model has tokens from 0 to 39",
            ),
            ("a negative end-of-text", lambda: {"model": with_end([2, -1])}, r"end-of-text token is \[2, -1\]"),
            ("a word as end-of-text", lambda: {"model": with_end("</s>")}, "end-of-text token is '</s>'"),
            ("True as end-of-text", lambda: {"model": with_end(True)}, "end-of-text token is True"),
            (
                "a tokenizer that knows too little",
                lambda: {"tokenizer": ab_tokenizer()},
                "the tokenizer cannot read a prompt: .*UNK",
            ),
            (
                "a template that says nothing",
                lambda: {"tokenizer": with_template("{% for m in messages %}{% endfor %}")},
                "which is no prompt",
            ),
            ("a template that forgets", lambda: {"tokenizer": with_template("2 + 2")}, "different prompts become one"),
            ("a template with a mistake", lambda: {"tokenizer": with_template("{% for %}")}, "chat template fails"),
        ]
    ]
MODELS += [
    (
        "one empty prompt",
        lambda tmp: sampling(tmp, tokenizer=with_template("{{ '' }}"), problems=QUESTIONS.head(1)),
        "which is no prompt",
    ),
    ("decoders None", lambda tmp: sampling(tmp, decoders=None), "decoders is None; it must be a list of Decoder"),
    ("one decoder", lambda tmp: sampling(tmp, decoders=Decoder(0.5)), r"decoders is Decoder\(.*; it must be a list"),
    ("decoders that are numbers", lambda tmp: sampling(tmp, decoders=[0.5]), r"decoders is \[0.5\]; it must be a list"),
    ("a decoder twice", lambda tmp: sampling(tmp, decoders=[Decoder(0.5)] * 2), "each may occur once"),
    ("runs of numpy", lambda tmp: sampling(tmp, runs=np.int64(2)), r"runs is np.int64\(2\)"),
    (
        "a thousand million runs",
        lambda tmp: sampling(tmp, runs=10**9),
        "these are 2,000,000,002 draws; .* use fewer runs",
    ),
    (
        "more runs than that",
        lambda tmp: sampling(tmp, runs=HUGE),
        "runs is a number of thousands of digits; it must be at most",
    ),
    (
        "first_run None",
        lambda tmp: sampling(tmp, first_run=None),
        "first_run is None; it must be an integer of at least 0",
    ),
    ("first_run a list", lambda tmp: sampling(tmp, first_run=[]), r"first_run is \[\]"),
    ("seed None", lambda tmp: sampling(tmp, seed=None), "seed is None; it must be an integer"),
    ("a seed of numpy", lambda tmp: sampling(tmp, seed=np.int64(2)), r"seed is np.int64\(2\)"),
    (
        "a seed without end",
        lambda tmp: sampling(tmp, seed=HUGE),
        "seed is a number of thousands of digits; .* 1024 bits",
    ),
    ("a list as label", lambda tmp: sampling(tmp, model_name=[]), r"model_name is \[\]; it must be None or a text"),
    ("temperatures None", lambda tmp: enumerating(tmp, temperatures=None), "temperatures is None; it must be a list"),
    (
        "temperatures a text",
        lambda tmp: enumerating(tmp, temperatures="[0.5]"),
        "temperatures is '.0.5.'; it must be a list",
    ),
    ("temperatures nested", lambda tmp: enumerating(tmp, temperatures=[[0.5]]), r"temperature is \[0.5\]"),
    ("temperatures of True", lambda tmp: enumerating(tmp, temperatures=[True]), "temperature is True"),
    ("a temperature twice", lambda tmp: enumerating(tmp, temperatures=[0.0, -0.0]), "each may occur once"),
    ("tolerance NaN", lambda tmp: enumerating(tmp, tolerance=NAN), "tolerance is nan"),
    ("tolerance without end", lambda tmp: enumerating(tmp, tolerance=HUGE), "tolerance is a number of thousands"),
    ("nodes without end", lambda tmp: enumerating(tmp, max_nodes=10**30), "max_nodes is 1000.*; it must be at most"),
    ("more tokens than the context", lambda tmp: enumerating(tmp, max_new_tokens=200), "this model has 128"),
    ("an unknown knob, enumerated", lambda tmp: enumerating(tmp, bogus=1), "unexpected keyword argument 'bogus'"),
]
MODELS += [
    (f"load_model({quoted(value)[:25]})", lambda _, v=value: load_model(v), "model is .*|is no checkpoint")  # type: ignore[misc]
    for value in [None, 5, True, ["a"], b"a", "\0", "\ud800", "x" * 5000, "a/" + "b" * 5000, "٣/٣", "..", "/dev/null"]
]
MODELS += [
    (
        f"precision {value!r}",
        lambda _, v=value: load_model("tiny-dense-base", v),
        "precision is .*; it must be one of auto",
    )  # type: ignore[misc]
    for value in [None, True, ["fp32"], "fp8", "FP32"]
]
MODELS += [
    (f"checkpoint: {what}", lambda tmp, f=files: drawing_from(tmp, **f), said)  # type: ignore[misc]
    for what, files, said in [
        ("fewer tokens than rows", {"config__json": {"vocab_size": 64}}, "could not be loaded"),
        ("a negative vocabulary", {"config__json": {"vocab_size": -1}}, "could not be loaded"),
        ("an immense vocabulary", {"config__json": {"vocab_size": 10**12}}, "could not be loaded"),
        ("more layers than weights", {"config__json": {"num_hidden_layers": 8}}, "lacks 36 of the model's weights"),
        ("heads that do not divide", {"config__json": {"num_attention_heads": 3}}, "could not be loaded"),
        ("an unknown kind", {"config__json": {"model_type": "nope"}}, "could not be loaded"),
        ("a short context", {"config__json": {"max_position_embeddings": 5}}, "this model has 5"),
        ("brackets without end", {"config__json": "[" * 100_000}, "config.json cannot be read"),
        ("a number without end", {"config__json": '{"a": ' + "9" * 5000 + "}"}, "config.json cannot be read"),
        ("no tokenizer", {"tokenizer__json": None}, "could not be loaded"),
        ("an empty tokenizer", {"tokenizer__json": "{}"}, "could not be loaded"),
        ("a list as tokenizer config", {"tokenizer_config__json": "[]"}, "it is no JSON object"),
        ("a word as end-of-text", {"generation_config__json": '{"eos_token_id": "x"}'}, "end-of-text token is 'x'"),
        ("an end-of-text too high", {"generation_config__json": '{"eos_token_id": 500}'}, "end-of-text token is 500"),
        ("a negative window", {"config__json": {"sliding_window": -1}}, "attends to the last -1 only"),
        ("a window that is a word", {"config__json": {"sliding_window": "x"}}, "could not be loaded"),
        ("empty weights", {"model__safetensors": ""}, "could not be loaded"),
        ("a template with a mistake", {"chat_template__jinja": "{% for"}, "chat template fails"),
    ]
]

RUNS: list[Case] = [
    (f"{name} is {quoted(value)[:30]}", lambda tmp, n=name, v=value: running(tmp, **{n: v}), said)  # type: ignore[misc]
    for name, value, said in [
        ("model", "x" * 5000, "model is 'xxx.*…, which is no known name"),
        ("precision", np.array(["auto", "auto"]), r"precision is array\("),
        ("precision", pd.NA, "precision is <NA>"),
        ("prompt_style", ["few_shot"], "prompt_style is .*; it must be one of"),
        ("decoding", np.array(["pure", "pure"]), "decoding is .*; it must be 'pure' or 'as_shipped'"),
        ("temperatures", [True], "temperature is True"),
        ("temperatures", [None], "temperature is None"),
        ("temperatures", [[0.5]], r"temperature is \[0.5\]"),
        ("temperatures", {0.5: 1}, "temperatures is {0.5: 1}; it must be a list"),
        ("temperatures", "[NaN]", "temperature is nan"),
        ("temperatures", "1" * 5000, "temperatures is '111.*…; it must be a list"),
        ("temperatures", "[" * 100_000, r"temperatures is '\[\[.*…; it must be a list"),
        ("temperatures", np.array([0.5]), r"temperatures is array\(\[0.5\]\); it must be a list"),
        ("temperatures", [0, -0.0], "each may occur once"),
        ("temperatures", [10**400], "temperature is 1000.*…; it must be a number from 0 to 10"),
        ("runs", True, "runs is True"),
        ("runs", 10**9, "these are 4,000,000,004 draws; a table of them does not fit"),
        ("runs", 2**70, "runs is 1180591620717411303424; it must be at most 1,000,000,000"),
        ("runs", "٣", "runs is '٣'"),
        ("seed", HUGE, "seed is a number of thousands of digits"),
        ("seed", 0.0, "seed is 0.0; it must be an integer"),
        ("seed", True, "seed is True"),
        ("max_new_tokens", 2**70, "max_new_tokens is 1180591620717411303424; it must be an integer from 1 to 32768"),
        ("stop", ["eos"], "stop is"),
        ("limit", True, "limit is True"),
        ("limit", 2.0, "limit is 2.0"),
        ("limit", HUGE, "limit is a number of thousands of digits"),
        ("problems", "a\0b", "it must be a path"),
        ("problems", Path("paper"), "problems is PosixPath"),
        ("output_dir", "a\0b", r"output_dir is 'a\\x00b'; it must be a path"),
        ("output_dir", "\ud800", "output_dir is .*; it must be a path"),
        ("output_dir", "٣" * 200, "output_dir is .*; it must be a path"),
        ("output_dir", "/dev/null/x", "which cannot be written to: Not a directory"),
        ("replace", 1, "replace is 1; it must be True or False"),
        ("shards", HUGE, "shards is a number of thousands of digits; there are only 4 problems"),
        ("shards", 1.0, "shards is 1.0"),
        ("shard", NAN, "shard is nan"),
    ]
]
RUNS += [
    (
        "a run of more tokens than the context",
        lambda tmp: carrying_out(tmp, max_new_tokens=30_000),
        "this model has 512",
    ),
    (
        "a run of another run's parameters",
        lambda tmp: (json_file(tmp, "{oops", "run/run.json"), running(tmp)),
        "cannot be read",
    ),
]

STUDIES: list[Case] = [
    (f"study: {name} is {quoted(value)[:30]}", lambda tmp, n=name, v=value: planning(tmp, **{n: v}), said)  # type: ignore[misc]
    for name, value, said in [
        ("models", [None], r"models in study.yaml is \[None\]; it must be a list of names"),
        ("models", HUGE, "models in study.yaml is a number of thousands"),
        ("models", ["x" * 5000], "a model in study.yaml is .*; it must be a path"),
        ("models", ["\ud800"], "a model in study.yaml is .*; it must be a path"),
        ("models", [".."], "gives its run no name"),
        ("models", ["./live"], "gives its run the name of a folder that the book keeps"),
        ("models", ["a/b", "a--b"], "each may occur once"),
        ("parameters", [1], r"parameters in study.yaml is \[1\]"),
        ("shards", 241, "shards, requested for tiny-dense-base, is 241; it must be at most 240"),
        ("shards", True, "shards in study.yaml is True"),
        ("gpu_gb", True, "gpu_gb is True"),
        ("gpu_gb", HUGE, "gpu_gb is a number of thousands"),
        ("requests", [1], r"requests in study.yaml is \[1\]; it must hold models"),
        ("requests", "x", "requests in study.yaml is 'x'"),
        ("requests", {"tiny-dense-base": {"gpu": HUGE}}, "gpu, requested for tiny-dense-base, is a number of"),
        ("requests", {"tiny-dense-base": {"mem_mb": 1.5}}, "mem_mb, requested for tiny-dense-base, is 1.5"),
        (5, 1, r"study.yaml has 5; it may have models"),
    ]
    if isinstance(name, str)
]
STUDIES += [
    (f"study: parameter {name} is {quoted(value)[:30]}", lambda tmp, n=name, v=value: study_with(tmp, **{n: v}), said)  # type: ignore[misc]
    for name, value, said in [
        ("temperatures", [True], "temperature in study.yaml is True"),
        ("temperatures", ["0.5"], "temperature in study.yaml is '0.5'"),
        ("temperatures", [[0.5]], r"temperature in study.yaml is \[0.5\]"),
        ("runs", 2**70, "runs in study.yaml is 1180591620717411303424; it must be at most"),
        ("runs", True, "runs in study.yaml is True"),
        ("problems", None, "problems is None; it must be a path"),
        ("problems", [1], r"problems is \[1\]; it must be a path"),
        ("limit", "x", "limit is 'x'"),
        ("precision", "x", "precision in study.yaml is 'x'; it must be one of auto"),
        ("precision", [], r"precision in study.yaml is \[\]"),
        ("model", "x", "parameters in study.yaml has 'model', which the study gives to each job itself"),
        ("replace", True, "has 'replace', which the study gives"),
    ]
]
STUDIES += [
    ("study: no mapping", lambda _: jobs.Study.of(None), "study.yaml holds None"),  # type: ignore[arg-type]
    ("study: a list", lambda _: jobs.Study.of([]), r"study.yaml holds \[\]"),  # type: ignore[arg-type]
    ("study file: brackets without end", lambda tmp: study_file(tmp, "x: " + "[" * 2000), "cannot be read"),
    ("study file: a date of no calendar", lambda tmp: study_file(tmp, "a: 2020-13-45"), "cannot be read"),
    ("study file: code", lambda tmp: study_file(tmp, "models: !!python/object/apply:os.system [ls]"), "cannot be read"),
    ("study file: NUL", lambda tmp: study_file(tmp, b"\0"), "cannot be read"),
    ("study file: UTF-16", lambda tmp: study_file(tmp, b"\xff\xfea"), "cannot be read"),
    (
        "study file: itself in itself",
        lambda tmp: study_file(tmp, "models: &x [tiny-dense-base, *x]\nparameters: {}"),
        "models in study.yaml is",
    ),
    ("study file: empty", lambda tmp: study_file(tmp, ""), "holds no study"),
]

OF_DRAWS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "summarize": metrics.summarize,
    "by_problem": metrics.by_problem,
    "by_run": metrics.by_run,
    "summarize_with_intervals": inference.summarize_with_intervals,
    "samples": evaluate.samples,
    "flips": agreement.flips,
    "text_probability": calibration.text_probability,
    "variances": audit.variances,
    "confidences": audit.confidences,
    "variance_reduction": lambda table: trends.variance_reduction(table, 0.0, 1.0),
    "trend": trends.trend,
    "tree_of": lambda table: engine.tree_of(table, small()[1]),
    "right_or_wrong": lessons.right_or_wrong,
    "majority": lambda table: lessons.majority(table, [1]),
}
TABLES: list[Case] = []
for name, function in OF_DRAWS.items():
    TABLES += [
        (f"{name} of no draws", lambda _, f=function: f(draws().head(0)), "was given a table without rows"),  # type: ignore[misc]
        (f"{name} of a table without columns", lambda _, f=function: f(pd.DataFrame(index=[0])), "without the column"),  # type: ignore[misc]
        (f"{name} of None", lambda _, f=function: f(None), "was given None; it needs a table"),  # type: ignore[misc]
    ]
TABLES += [
    (
        "draws neither right nor wrong",
        lambda _: metrics.summarize(draws().assign(correct=NAN)),
        "neither right nor wrong",
    ),
    ("failures of None", lambda _: inference.failure_shares(None), "it needs a table"),  # type: ignore[arg-type]
    (
        "draws of other problems",
        lambda _: taxonomy.of_draws(draws(), QUESTIONS),
        "a problem 'ar-000' that is not among",
    ),
    ("a tree of four problems", lambda _: engine.tree_of(draws(), small()[1]), "these draws are of 4"),
    ("routing of no draws", lambda _: routing.divergence(*small(), QUESTIONS, None), "no column 'problem_id'"),  # type: ignore[arg-type]
    (
        "a temperature that was not run",
        lambda _: trends.variance_reduction(draws(), 0.5, 1.0),
        "no correct of draws at temperature 0.5",
    ),
    ("an unknown column", lambda _: contrasts.paired(draws(), draws(), "nope"), "the draws have no column 'nope'"),
    ("an unknown trend", lambda _: trends.trend(draws(), "nope"), "the draws have no column 'nope'"),
    ("equivalence of one", lambda _: contrasts.equivalence(np.array([0.1]), 0.05), "at least 2 are needed"),
    ("equivalence with NaN", lambda _: contrasts.equivalence(np.array([NAN, 0.1]), 0.05), "none may be missing"),
    (
        "equivalence within nothing",
        lambda _: contrasts.equivalence(np.array([0.0, 0.1]), 0),
        "margin is 0; it must be a number above",
    ),
    ("bootstrap of nothing", lambda _: contrasts.bootstrap_interval(np.array([])), "at least 1 are needed"),
    ("power of no problems", lambda _: design.power(0.1, 0, 4, 0.1, 0.1), "problems is 0"),
    ("power of no runs", lambda _: design.power(0.1, 240, 0, 0.1, 0.1), "runs is 0"),
    ("power of NaN", lambda _: design.power(NAN, 240, 4, 0.1, 0.1), "change is nan"),
    ("power of a text", lambda _: design.power("x", 240, 4, 0.1, 0.1), "change is 'x'"),  # type: ignore[arg-type]
    ("power of a negative variance", lambda _: design.power(0.1, 240, 4, -1, 0), "between is -1"),
    ("power where nothing varies", lambda _: audit.power(0.0, 0.0), "neither problems nor draws vary"),
    ("problems for no change", lambda _: design.problems_needed(0, 4, 0.1, 0.1), "change is 0"),
    ("problems for a variance of NaN", lambda _: design.problems_needed(0.1, 4, NAN, 0.1), "between is nan"),
    ("Wilson of no trials", lambda _: inference.wilson(0.5, 0), "n is 0; it must be a number above 0"),
    ("Wilson of two wholes", lambda _: inference.wilson(2, 5), "share is 2; it must be a number from 0 to 1"),
    ("Wilson of NaN", lambda _: inference.wilson(NAN, 5), "share is nan"),
    ("Brier of nothing", lambda _: calibration.brier(np.array([]), np.array([])), "no draw to calibrate"),
    (
        "calibration of nothing",
        lambda _: calibration.expected_calibration_error(np.array([]), np.array([])),
        "no draw to",
    ),
    ("no bins", lambda _: calibration.reliability(np.array([0.5]), np.array([True]), 0), "bins is 0"),
    ("the better half of nothing", lambda _: calibration.selective_accuracy(np.array([]), np.array([])), "no draw to"),
    ("curves of no outcomes", lambda _: metrics.exact_curves(pd.DataFrame()), "without the column 'temperature'"),
    ("curves of no runs", lambda _: metrics.exact_curves(outcomes(), 0), "runs is 0"),
    (
        "curves of endless votes",
        lambda _: metrics.exact_curves(outcomes(), 4, 10**9),
        "k is 1000000000; it must be an integer",
    ),
    ("a summary of nothing", lambda _: evaluate.by_temperature(summary().head(0)), "was given a table without rows"),
    ("tasks of nothing", lambda _: evaluate.by_task(summary().head(0)), "was given a table without rows"),
    ("other runs of nothing", lambda _: compare.other_runs(summary()), "without the column 'checkpoint'"),
    ("a figure of nothing", lambda _: charts.response(summary().head(0), "accuracy", "t", "d"), "without rows"),
    (
        "a figure of NaN",
        lambda _: charts.response(summary().assign(accuracy=NAN), "accuracy", "t", "d"),
        "there is no accuracy with",
    ),
    (
        "a figure of an unknown metric",
        lambda _: charts.response(summary(), "nope", "t", "d"),
        "there is no nope with an interval",
    ),
    ("a figure of no runs", lambda _: charts.runs(pd.DataFrame(), "t", "d"), "without the column 'temperature'"),
    ("a figure without words", lambda _: bundle({"mark": "bar"}), "a chart needs a description"),
    ("no specification", lambda tmp: spec(tmp, "nope"), "this is no chart's specification"),
    (
        "curves without runs",
        lambda _: engine.exact(metrics.exact_curves(outcomes()), pd.DataFrame(), "t", "d"),
        "needs the accuracy of each sampled run",
    ),
    ("effects of nothing", lambda _: effects.drops(pd.DataFrame()), "without the column 'seed'"),
    ("doses of nothing", lambda _: effects.doses(pd.DataFrame()), "without the column 'seed'"),
    ("no measurements", lambda tmp: factorial.measured(tmp), "there is no measurement in"),
    ("measurements in no folder", lambda _: factorial.measured(None), "data is None; it must be a path"),  # type: ignore[arg-type]
    ("no results", lambda tmp: results.read_summaries(tmp), "there is no finished run below"),
    ("results None", lambda _: results.read_summaries(None), "results is None; it must be a path"),  # type: ignore[arg-type]
    ("a summary of something else", lambda tmp: other_summary(tmp), "holds no summary of a run"),
    ("no draws", lambda tmp: records.read_draws(tmp), "draws.parquet is missing or damaged"),
    ("a run that is not there", lambda tmp: results.count_draws(tmp, ["nope"]), r"nope/run.json cannot be read"),
    ("a record that is no JSON", lambda tmp: results.started(json_file(tmp, "[oops"), ["some"]), "cannot be read"),
    ("a record without draws", lambda tmp: results.count_draws(json_file(tmp, {}), ["some"]), "it has no 'draws'"),
    (
        "a record of words",
        lambda tmp: results.count_draws(json_file(tmp, {"draws": "x"}), ["some"]),
        "its draws is 'x'",
    ),
    (
        "a record of numbers",
        lambda tmp: results.decoders_of(json_file(tmp, {"decoding_id": 7}), ["some"]),
        "decoding_id is 7",
    ),
    ("no runs to name", lambda tmp: results.started(tmp, []), r"the runs are \[\]; they must be a list"),
    ("a text as runs", lambda tmp: results.decoders_of(tmp, "some"), "the runs are 'some'"),
    ("no runs to compare", lambda tmp: compare.changes_of(tmp, []), "there are no runs below"),
    ("no benchmark", lambda tmp: costs.read_measured(tmp), "cpu.json cannot be read"),
    (
        "an empty benchmark",
        lambda tmp: costs.read_measured(json_file(tmp, {"rows": []}, "bench/cpu.json")),
        "holds no rows of `make bench`",
    ),
    ("GPUs without memory", lambda _: scale.requests(0), "gpu_gb is 0"),
    ("a disk that stands still", lambda _: costs.Rates(0, 1, 1), "disk is 0; it must be a number above 0"),
    ("a link of NaN", lambda _: costs.Rates(1, NAN, 1), "link is nan"),
    ("time to spare", lambda _: costs.Rates(1, 1, -5), "overhead is -5"),
    ("a rate in words", lambda _: costs.Rates("fast", 1, 1), "disk is 'fast'"),  # type: ignore[arg-type]
    ("fewer GPUs than none", lambda _: devices.claimed(-1).__enter__(), "gpus is -1"),
]


@cache
def outcomes() -> pd.DataFrame:
    return enumerating(Path())


@cache
def summary() -> pd.DataFrame:
    return inference.summarize_with_intervals(draws())


def other_summary(tmp: Path) -> pd.DataFrame:
    json_file(tmp, {})
    pd.DataFrame({"x": [1]}).to_parquet(tmp / "some" / "summary.parquet")
    return results.read_summaries(tmp)


NOTEBOOK = str(ROOT / "notebooks" / "gpu.ipynb")
COMMANDS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("runner: YAML that is none", command(runner.main, NOTEBOOK, "TMP/o.ipynb", "-y", "{a: ["), "which is no YAML"),
    (
        "runner: a list",
        command(runner.main, NOTEBOOK, "TMP/o.ipynb", "-y", "[1]"),
        r"-y is '\[1\]'; it must hold names",
    ),
    ("runner: nothing", command(runner.main, NOTEBOOK, "TMP/o.ipynb", "-y", ""), "-y is ''; it must hold names"),
    ("runner: a number as name", command(runner.main, NOTEBOOK, "TMP/o.ipynb", "-y", "{5: 1}"), "has no parameter 5"),
    ("runner: no notebook", command(runner.main, "TMP/a.ipynb", "TMP/o.ipynb"), "is no notebook that can be read"),
    ("runner: something else", command(runner.main, str(ROOT / "README.md"), "TMP/o.ipynb"), "is no notebook"),
    ("runner: nowhere to write", command(runner.main, NOTEBOOK, "/dev/null/o.ipynb"), "could not be written"),
    ("runner: fewer GPUs than none", command(runner.main, NOTEBOOK, "TMP/o.ipynb", "--gpus", "-1"), "gpus is -1"),
    ("runner: no arguments", command(runner.main), "2"),
    ("train: an unknown model", command(train.main, "tiny-dense-bass"), "is no tiny-<architecture>-<stage>"),
    ("train: a folder outside", command(train.main, "../x-dense-base"), "'../x-dense-base' is no tiny-"),
    ("train: a seed in words", command(train.main, "--seed", "x"), "2"),
    ("factorial: an unknown model", command(factorial.main, "nope"), "'nope' is no model of the design"),
    ("factorial: an unknown seed", command(factorial.main, "--seed", "9"), "2"),
    ("charts: no file", command(main, "TMP/a.json", "TMP/a.svg"), "a.json cannot be read"),
    ("charts: no arguments", command(main), "2"),
    ("live: no arguments", command(live.main), "2"),
    ("live: nowhere to write", command(live.main, "TMP", "/dev/null/x"), "could not be written: Not a directory"),
    ("learn: nowhere to write", command(tool_lessons.main, "--exercises", "/dev/null/x"), "could not be written"),
    ("bench on a GPU: no such model", command(bench_gpu.main, "--arms", "x:nf4"), "the model of --arms is 'x'"),
    (
        "bench on a GPU: no such precision",
        command(bench_gpu.main, "--arms", "Mistral-7B:x"),
        "the precision of --arms is 'x'",
    ),
    ("bench on a GPU: no tokens", command(bench_gpu.main, "--new-tokens", "16,٣"), "'٣' is no integer of at least 1"),
    ("bench on a GPU: no problems", command(bench_gpu.main, "--problems", "0"), "2"),
]

CASES = [*TEXTS, *PROBLEMS, *DECODERS, *MODELS, *RUNS, *STUDIES, *TABLES]


def table(cases: list[Case]) -> Any:
    return pytest.mark.parametrize(("call", "said"), [case[1:] for case in cases], ids=[case[0] for case in cases])


@table(CASES)
@pytest.mark.filterwarnings("ignore")  # of transformers, about a damaged checkpoint
def test_what_cannot_be_meant_is_refused_in_one_line(call: Callable[[Path], Any], said: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, TypeError, ValueError), match=said) as found:
        call(tmp_path)
    assert str(found.value).count("\n") == 0
    assert len(str(found.value)) < 1000
    if type(found.value) is not InputError:  # a programmer's: then it is ours, not of something below
        where = traceback.extract_tb(found.value.__traceback__)[-1].filename
        assert Path(where).is_relative_to(ROOT)


@table(COMMANDS)
def test_a_command_line_ends_in_a_sentence(
    call: Callable[[Path], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as found:
        call(tmp_path)
    if said == "2":  # argparse's own
        assert found.value.code == 2
        assert "usage: " in capsys.readouterr().err
    else:
        assert pd.Series([found.value.code]).str.match(f"error: .*{said}").all(), found.value.code


def test_progress_without_a_study_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="error: study.yaml cannot be read"):
        command(progress.main)(tmp_path)


# What looks odd and is right.


@pytest.mark.parametrize(
    ("text", "answer", "compliant", "sole"),
    [
        ("٣", None, False, None),
        ("१२", None, False, None),
        ("１２ 7", 7, False, 7),
        ("⑤ Ⅷ ½", None, False, None),
        ("−5", 5, False, -5),
        ("1,234", 1, False, 1234),
        ("1e3", 1, False, None),
        ("9" * 10_000, None, True, None),
        ("-" + "9" * 10_000 + " 5", None, False, None),
        ("0" * 4299 + "7", 7, True, 7),
        ("\ufeff5", 5, False, 5),
        ("\u200b5", 5, False, 5),
        ("\u202e5", 5, False, 5),
        ("5\0", 5, False, 5),
        ("\x1b[31m7", 31, False, 31),
        ("5\x1c", 5, False, 5),
        ("5\x85", 5, False, 5),
        ("5\u2028", 5, False, 5),
        ("\ud8005", 5, False, 5),
        ("x" * 1_000_000 + " 7", 7, False, 7),
        (" " * 1_000_000, None, False, None),
        ("-" * 1_000_000, None, False, None),
        ("\\boxed{" * 100_000, None, False, None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_extraction_says_what_it_does_with_odd_text(
    text: str, answer: int | None, compliant: bool, sole: int | None
) -> None:
    assert extract_answer(text) == (answer, compliant)
    assert sole_number(text) == sole


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        "\n\r\n  \n" + GOOD,
        GOOD.strip(),
        GOOD.replace("2}", "2.0}"),
        GOOD.replace("1 + 1", "1\\u0000\\u202e"),
        GOOD.replace("1 + 1", "x" * 1_000_000),
        GOOD.replace("1 + 1", "1\u2028+ 1"),
    ],
    ids=["BOM", "CRLF", "CR", "blank lines", "no last newline", "2.0", "NUL, escaped", "enormous", "a line separator"],
)
def test_odd_files_of_problems_are_read_as_they_are_meant(text: str | bytes, tmp_path: Path) -> None:
    assert reading(tmp_path, text)[["problem_id", "answer"]].to_numpy().tolist() == [["a", 2]]


def test_large_integers_beside_missing_ones_keep_every_digit(tmp_path: Path) -> None:
    rows = [
        {"problem_id": "a", "question": "1", "answer": 2**53 + 1},
        {"problem_id": "b", "task": "arithmetic", "x": 2**53 + 1, "y": 0, "z": 1, "w": 0},
    ]
    columns = {name: [row.get(name) for row in rows] for name in ["problem_id", "task", "question", *"xyzw", "answer"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("a.parquet", "a.jsonl"):
        found = load_problems(str(tmp_path / name))
        assert found["answer"].tolist() == [2**53 + 1] * 2
        assert found["x"].tolist() == [pd.NA, 2**53 + 1]


@pytest.mark.parametrize("end", ["configured", "tokenizer's", "none"])
def test_a_tokenizer_without_special_tokens_draws_and_enumerates(end: str, tmp_path: Path) -> None:
    model, tokenizer = random_model("mistral", 40), small_tokenizer(40)
    if end != "configured":
        model.generation_config = None
    if end != "tokenizer's":
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer)
    drawn = sampling(tmp_path, model, tokenizer, runs=8)
    assert (drawn["n_tokens"] <= 3).all()
    assert drawn["finished"].any() == (end != "none")
    assert enumerating(tmp_path, model, tokenizer)["upper"].notna().all()


def test_a_single_token_that_can_be_drawn_is_drawn(tmp_path: Path) -> None:
    def but_five(logits: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(40) == 5, logits, -INF)

    assert set(sampling(tmp_path, broken(but_five))["text"]) == {"2 2 2"}
    right = enumerating(tmp_path, broken(but_five), problems=QUESTIONS.assign(answer=2)).query("metric == 'correct'")
    assert right[["lower", "upper"]].to_numpy().tolist() == [[1.0, 1.0]] * 4


def test_a_model_with_impossible_tokens_whose_tree_is_wrong_is_refused(tmp_path: Path) -> None:
    def shaky(logits: torch.Tensor) -> torch.Tensor:
        return only(5, -INF)(logits * (1 + logits.shape[1]))

    with pytest.raises(InputError, match="its logits are off by"):
        sampling(tmp_path, broken(shaky))


def test_greedy_runs_without_number_cost_nothing(tmp_path: Path) -> None:
    decoders = [Decoder(0.0, max_new_tokens=3)]
    assert len(sampling(tmp_path, decoders=decoders, runs=10**9)) == 2
    assert len(sampling(tmp_path, decoders=iter(decoders))) == 2


def test_seeds_of_any_size_below_their_limit_draw(tmp_path: Path) -> None:
    found = [sampling(tmp_path, seed=seed, runs=8)["text"].tolist() for seed in (2**70, -(2**70), 2**128)]
    assert found[0] != found[1] != found[2]


def test_a_broken_checkpoint_is_named_and_a_run_ends_before_it_draws(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    weights = {name: tensor.clone() for name, tensor in load_file(f"{folder}/model.safetensors").items()}
    weights["lm_head.weight"][3] = NAN
    save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"{folder} returned NaN or infinite logits"):
        carrying_out(tmp_path, model=folder)


def test_a_checkpoint_whose_tokenizer_has_more_tokens_than_its_embedding_is_refused(tmp_path: Path) -> None:
    random_model("mistral", 12).save_pretrained(tmp_path / "model")
    small_tokenizer(40).save_pretrained(tmp_path / "model")
    with pytest.raises(InputError, match="the tokenizer gives token 39; this model has 12 tokens"):
        carrying_out(tmp_path, model=str(tmp_path / "model"))


def test_numpy_floats_are_the_numbers_they_are() -> None:
    assert Decoder(np.float64(0.5)) == Decoder(0.5)
    assert Decoder(np.float64(0.5)).id == Decoder(0.5).id


# Properties: whatever comes, there is an answer or an `InputError`.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ANYTHING = JSON | st.sampled_from(
    [HUGE, -HUGE, 2**70, "\0", "\ud800", b"x", np.float32(1), np.int64(1), pd.NA, {1}, 1j]
)
NUMBERISH = st.text(st.sampled_from("0123456789+-., \n٣１−x\\{}boxed^/e"), max_size=30) | st.text(max_size=30)


def refusal(call: Callable[[], Any]) -> str:
    """What an `InputError` says; nothing where the call succeeds."""
    try:
        call()
    except InputError as error:
        return str(error)
    return ""


@BRIEF
@given(ANYTHING)
def test_any_value_is_quoted_on_one_short_line(value: Any) -> None:
    assert len(quoted(value).splitlines()) <= 1
    assert len(quoted(value)) <= 201


@BRIEF
@given(NUMBERISH)
def test_the_rules_read_any_text_alike(text: str) -> None:
    number, compliant = extract_answer(text)
    verdict = verdict_after(Verdict.BLANK, text)
    assert compliant == (verdict in (Verdict.NUMBER, Verdict.AFTER))
    assert (number is None) == (
        verdict in (Verdict.BLANK, Verdict.MINUS, Verdict.PLUS, Verdict.TEXT, Verdict.TEXT_MINUS)
    )
    sole = sole_number(text)
    assert sole is None or isinstance(sole, int)
    if compliant:
        assert sole == number
    if not set(text) & set(string.digits):
        assert number is sole is None


@BRIEF
@given(st.integers(-(10**30), 10**30), st.sampled_from(["{}", " {}\n", "d = {}", "The answer is {}."]))
def test_one_integer_is_read_by_both_rules_and_with_commas_by_the_stricter(number: int, around: str) -> None:
    assert extract_answer(around.format(number))[0] == sole_number(around.format(number)) == number
    assert sole_number(around.format(f"{number:,}")) == number


@BRIEF
@given(NUMBERISH, st.integers(0, 30))
def test_reading_in_pieces_is_reading_at_once(text: str, cut: int) -> None:
    assert verdict_after(verdict_after(Verdict.BLANK, text[:cut]), text[cut:]) == verdict_after(Verdict.BLANK, text)


@BRIEF
@given(st.text("ab\n", max_size=8), st.text("ab\n", max_size=8), st.lists(st.text("ab\n", min_size=1, max_size=4)))
def test_a_stop_string_ends_in_the_new_piece_or_does_not(before: str, piece: str, strings: list[str]) -> None:
    ends = range(len(before) + 1, len(before + piece) + 1)
    assert stops(before, piece, strings) == any((before + piece)[:end].endswith(s) for end in ends for s in strings)


KNOBS = {
    "temperature": st.sampled_from([0.0, 1e-6, 0.3, 1, 10.0]),
    "top_k": st.integers(0, 50),
    "top_p": st.floats(0.0, 1.0, exclude_min=True),
    "min_p": st.floats(0.0, 1.0),
    "typical_p": st.floats(0.0, 1.0, exclude_min=True),
    "repetition_penalty": st.floats(0.01, 100.0),
}


@BRIEF
@given(
    st.fixed_dictionaries({}, optional=KNOBS), st.lists(st.floats(width=32) | st.floats(-50, 50, width=32), min_size=1)
)
def test_any_logits_give_a_distribution_or_a_sentence(knobs: dict[str, Any], logits: list[float]) -> None:
    decoder, row = Decoder(**knobs), torch.tensor([logits])
    try:
        found = decoder.distribution(row, torch.zeros_like(row, dtype=torch.bool))
    except InputError:
        assert not math.isfinite(row.amax())
        return
    assert math.isfinite(row.amax())
    assert abs(float(found.sum()) - 1) < 1e-5
    assert ((found >= 0) & ((found == 0) | (row > -INF))).all()


@BRIEF
@given(st.sampled_from([*KNOBS, "stop", "stop_strings", "max_new_tokens"]), ANYTHING)
def test_any_knob_makes_a_decoder_or_a_sentence(knob: str, value: Any) -> None:
    said = refusal(lambda: Decoder(**{knob: value}))
    assert said.startswith(f"{knob} is ") or len(Decoder(**{knob: value}).id) == 8


@BRIEF
@given(st.sampled_from([*PARAMETERS, "output_dir", "replace", "shards", "shard"]), ANYTHING)
def test_any_parameter_makes_a_run_or_a_sentence(tmp_path: Path, name: str, value: Any) -> None:
    if name == "output_dir" and isinstance(value, str):
        value = f"{tmp_path}/{value}"
    assert "\n" not in refusal(lambda: running(tmp_path, **{name: value}))


@BRIEF
@given(st.sampled_from(["models", "parameters", "shards", "gpu_gb", "requests", *PARAMETERS]), ANYTHING)
def test_any_study_is_planned_or_refused(name: str, value: Any) -> None:
    plan = study_with if name in PARAMETERS else planning
    assert "\n" not in refusal(lambda: plan(Path(), **{name: value}))


FIELDS = ["problem_id", "task", "question", "answer", "a", "op1", "x"]


@BRIEF
@given(
    st.lists(
        st.binary(max_size=40) | st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda r: json.dumps(r).encode())
    )
)
def test_any_file_of_problems_is_read_or_its_line_is_named(tmp_path: Path, lines: list[bytes]) -> None:
    said = refusal(lambda: reading(tmp_path, b"\n".join(lines)))
    if said:
        assert "mine.jsonl" in said
        return
    found = load_problems(str(tmp_path / "mine.jsonl"))
    assert found["problem_id"].is_unique
    assert found["answer"].notna().all()


@settings(BRIEF, max_examples=8)
@given(
    st.integers(12, 20),
    st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 3.0]), min_size=1, unique=True),
    st.fixed_dictionaries({}, optional={name: KNOBS[name] for name in ("top_k", "top_p", "min_p", "typical_p")}),
    st.sampled_from(["eos", "decided"]),
    st.integers(-20, 20),
)
def test_bounds_of_random_models_are_bounds(
    vocabulary: int, temperatures: list[float], knobs: dict[str, Any], stop: str, answer: int
) -> None:
    model, tokenizer = random_model("mistral", vocabulary), small_tokenizer(vocabulary)
    problems = QUESTIONS.assign(answer=answer)
    search: dict[str, Any] = {"max_new_tokens": 2, "stop": stop, **knobs}
    loose = enumerate_outcomes(model, tokenizer, problems, temperatures, tolerance=1.0, **search)
    tight = enumerate_outcomes(model, tokenizer, problems, temperatures, tolerance=0.0, max_nodes=200, **search)
    shares = tight[tight["metric"] != "mean_logprob"]
    assert (tight["lower"] <= tight["upper"]).all()
    assert shares["lower"].between(0, 1).all()
    assert shares["upper"].between(0, 1).all()
    # Another width of a step is another rounding of the logits.
    assert (loose["lower"] <= tight["lower"] + 1e-4).all()
    assert (loose["upper"] >= tight["upper"] - 1e-4).all()


def test_every_public_name_has_a_case() -> None:
    text = Path(__file__).read_text()
    assert all(text.count(name) > 1 for name in lmrel.__all__)
    assert len(CASES) + len(COMMANDS) >= 150
