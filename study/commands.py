"""The commands that make runs: ``lmrel evaluate`` draws one, ``rescore`` reads one again, ``import`` another tool's."""

from __future__ import annotations

import argparse
import ast
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from lmrel import files, records
from lmrel.__main__ import add_run, printed, run_of
from lmrel.errors import InputError, quoted
from lmrel.outputs import imported
from lmrel.parameters import Parameters, in_words
from lmrel.rescoring import rescore
from lmrel.stats.independence import doubts
from lmrel.stats.inference import summarize_with_intervals, with_interval

HELP = {  # of each parameter, a line; what it may be follows from the table
    "model": "a name such as qwen, a folder, a repo id, NAME@REVISION, a .gguf file, or a server's URL#NAME",
    "precision": "of the weights; auto: the registry's, else bf16 on a GPU and fp32 without one",
    "prompt_style": "one of the paper's three prompts",
    "template": "a file with {question} in it, instead of these prompts",
    "system": "a system message, for a model with a chat template",
    "chat_template": "auto: used where the tokenizer has one",
    "chat_template_kwargs": "arguments of its own for it, such as enable_thinking=false",
    "answer": "the rule that reads an answer",
    "decoding": "pure: temperature alone; as_shipped: what generate() inherits from the checkpoint",
    "top_k": "only so many of the likeliest tokens",
    "top_p": "only the likeliest tokens, of so much probability in all",
    "min_p": "only tokens of at least this share of the likeliest one's probability",
    "repetition_penalty": "above 1: less of what is there already",
    "stop_strings": "a text ends with any of them",
    "temperatures": "0 is greedy",
    "runs": "draws a problem, at each temperature above 0",
    "seed": "draws are a function of it, of problem and run",
    "max_new_tokens": "a text is cut off after so many",
    "stop": "decided: end a text where its first integer cannot change any more",
    "problems": "paper, a .jsonl, .json, .csv or .parquet file, or hf://datasets/OWNER/NAME/FILE",
    "columns": "our columns and those of the file, such as question=prompt answer=gold",
    "limit": "the first so many problems of each task",
    "output_dir": "a folder, made if missing; a run that was killed goes on there",
    "replace": "replace a run with other parameters in that folder",
    "shards": "among how many jobs the problems are dealt out",
    "shard": "which of them this is, from 0; without, finished ones are joined",
    "determinism": "do not try first how far draws depend on what is drawn together",
    "requests_at_once": "to a server, at most so many",
}
OTHER_NAMES = {"temperatures": ("--temperature", "--temperatures"), "output_dir": ("--output", "--output-dir")}
TABLE: Any = Parameters.__pydantic_fields__  # type: ignore[attr-defined]
PAIRS = ("columns", "chat_template_kwargs")
LISTS = ("temperatures", "stop_strings", *PAIRS)
AS_WRITTEN = (
    "model",
    "template",
    "system",
    "answer",
    "problems",
    "output_dir",
    "verdict",
)  # texts that may look like numbers


def add(commands: Any) -> None:
    """Add the three commands to those of ``lmrel``."""
    parser = commands.add_parser("evaluate", help="draw a model's answers at several temperatures")
    for field in fields(Parameters):
        names = OTHER_NAMES.get(field.name, (f"--{field.name.replace('_', '-')}",))
        if isinstance(field.default, bool):
            flag = names[0].replace("--", "--no-") if field.default else names[0]
            switch = {"action": "store_const", "const": not field.default}
            parser.add_argument(flag, dest=field.name, help=HELP[field.name], **switch)
            continue
        words, options = in_words(TABLE[field.name])
        notes = [] if options or field.name == "model" else [words.removeprefix("None or ")]
        notes += [] if field.default in (MISSING, None) else [f"default: {_shown(field.default)}"]
        parser.add_argument(
            *names,
            dest=field.name,
            required=field.default is MISSING,
            nargs="+" if field.name in LISTS else None,
            metavar="|".join(options) or ("KEY=VALUE" if field.name in PAIRS else field.name.upper()),
            help=f"{HELP[field.name]} ({'; '.join(notes)})".removesuffix(" ()").replace("%", "%%"),
        )
    parser.set_defaults(carry_out=evaluate)
    parser = commands.add_parser("rescore", help="read a finished run's texts by another rule, without the model")
    add_run(parser)
    parser.add_argument("--answer", required=True, help="first, last, marked, sole, or regex:…")
    parser.add_argument("--output", metavar="FOLDER", help="default: beside the run, its name and the rule's")
    parser.set_defaults(carry_out=rescored)
    parser = commands.add_parser("import", help="make a run of what another tool drew, from its files")
    parser.add_argument(
        "path", help="a file of lm-evaluation-harness, Inspect, every_eval_ever or a table; or a folder"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the run is written")
    parser.add_argument("--model", help="where the files do not say it")
    parser.add_argument("--temperature", help="where the files do not say it")
    parser.add_argument("--columns", nargs="+", metavar="KEY=VALUE", help=f"of a table: {HELP['columns']}")
    parser.add_argument("--verdict", help="which of the files' own, such as exact_match,strict-match, or a scorer")
    parser.add_argument("--answer", help="a rule that reads the texts, instead of the files' verdicts")
    parser.set_defaults(carry_out=import_outputs)


def evaluate(arguments: argparse.Namespace) -> None:
    """Carry out the run that the command line describes, and say what came out."""
    from study.run import Run  # torch is not waited for where a parameter is wrong

    given = {field.name: getattr(arguments, field.name) for field in fields(Parameters)}
    run = Run(**{name: _value(name, value) for name, value in given.items() if value is not None})
    _, summary = run.carry_out()
    _say(summary)
    print(f"\n{run.folder}: {records.DRAWS}, {records.SUMMARY}, {records.RUN}")


def _value(name: str, value: Any) -> Any:
    """What was written on the command line as the value that the notebook would hold."""
    if name in PAIRS:
        return " ".join(value)
    if name in AS_WRITTEN or name == "stop_strings" or not isinstance(value, (str, list)):
        return value
    if isinstance(value, list):
        return [_value("", one) for one in value]
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(value)
    return value


def _shown(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _say(summary: Any) -> None:
    whole = summary[summary["task"] == "all"]
    columns = {"T": whole["temperature"], "problems": whole["problems"], "runs": whole["runs"]}
    for name in whole[["accuracy", "compliance", "runaway_share"]].dropna(axis="columns", how="all"):
        ends = 100 * whole[[name, f"{name}_low", f"{name}_high"]].to_numpy()
        columns[name.replace("_", " ")] = [with_interval(*row, form="{:.1f} %", ends="{:.1f}") for row in ends]
    printed(whole[[]].assign(**columns))


def rescored(arguments: argparse.Namespace) -> None:
    """Write a run again as another rule reads it, into a folder of its own."""
    folder = run_of(arguments)
    record, draws = files.read_object(folder / records.RUN, "parameters"), records.read_draws(folder)
    origin = {"folder": str(folder), "draws": files.sha256(folder / records.DRAWS)}
    before, after = draws, rescore(draws, arguments.answer)
    name = f"{folder.name}-{arguments.answer.partition(':')[0]}"
    target = files.as_path("output", arguments.output or folder.with_name(name))
    if (target / records.RUN).exists() and files.read_object(target / records.RUN).get("rescored_from") is None:
        raise InputError(f"{target} holds a run that was drawn; give another output.")
    if target.resolve() == folder.resolve():
        raise InputError(f"{target} is what is read again; give another output.")
    parameters = {**record["parameters"], "answer": arguments.answer, "output_dir": str(target)}
    summary = _write(after, record | {"parameters": parameters, "rescored_from": origin}, target)
    _say(summary)
    changed = (before["correct"] != after["correct"]).to_numpy()
    right = int((after["correct"].to_numpy() & changed).sum())
    print(f"\n{changed.sum():,} of {len(after):,} verdicts changed, {right:,} of them to right")
    print(f"{target}: {records.DRAWS}, {records.SUMMARY}, {records.RUN}")


def import_outputs(arguments: argparse.Namespace) -> None:
    """Write the draws of another tool as a run, and say what is not known of them."""
    names = ("model", "temperature", "columns", "verdict", "answer")
    given = {name: _value(name, value) for name in names if (value := getattr(arguments, name)) is not None}
    target = files.as_path("output", arguments.output)
    if (target / records.RUN).exists() and files.read_object(target / records.RUN).get("imported_from") is None:
        raise InputError(f"{target} holds a run that was not imported; give another output.")
    draws, origin = imported(arguments.path, **given)
    if len(models := draws["model"].unique().tolist()) > 1:
        raise InputError(f"{arguments.path} holds draws of {len(models)} models, {quoted(models)}; a run is of one.")
    summary = _write(draws, {"parameters": given, "draws": len(draws), "imported_from": origin}, target)
    _say(summary)
    print(f"\nof these draws of {origin['format']} is not known: {', '.join(origin['missing']) or 'nothing'}")
    for doubt in doubts(draws):
        print(f"note: {doubt}")
    print(f"{target}: {records.DRAWS}, {records.SUMMARY}, {records.RUN}")


def _write(draws: Any, record: dict[str, Any], target: Path) -> Any:
    """Write a run into the folder `target`: its draws, their summary, which is returned, and what it says of itself."""
    with files.writing(target):
        target.mkdir(parents=True, exist_ok=True)
    summary = summarize_with_intervals(draws)
    hashes = {
        "draws": files.sha256(records.write_draws(draws, target / records.DRAWS)),
        "summary": files.sha256(files.write_table(summary, target / records.SUMMARY)),
    }
    files.write_json(record | {"sha256": hashes}, target / records.RUN)
    return summary
