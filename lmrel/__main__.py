"""The command ``lmrel``: a study of one's own from the command line; each command is a call of the library.

``lmrel evaluate``, ``rescore`` and ``import`` come from the room ``study``, which the library does not know.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from lmrel import charts, files, records
from lmrel.errors import InputError, command, visible
from lmrel.problems import RANGES, Problem, new_problems
from lmrel.stats.comparison import ACROSS, compare
from lmrel.stats.inference import failure_shares, summarize_with_intervals
from lmrel.stats.metrics import by_run, summarize


def as_csv(table: pd.DataFrame) -> str:
    """`table` as CSV: lists as JSON, and all texts in quotes, since a model may have written any line end."""
    if "token_ids" in table:
        lists = [None if ids is None else json.dumps(ids.tolist()) for ids in table["token_ids"]]
        table = table.assign(token_ids=pd.Series(lists, table.index, dtype="str"))
    return table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)


WRITERS: dict[str, Callable[[pd.DataFrame], str]] = {
    ".csv": as_csv,
    ".jsonl": lambda table: table.to_json(orient="records", lines=True, force_ascii=False, double_precision=15),
}
PICTURES = ("svg", "png", "pdf")


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out one command; a sentence and status 1 where something cannot be used."""
    parser = argparse.ArgumentParser(
        prog="lmrel",
        description="How reliable a language model is under decoding temperature: draw, read, compare, plot.",
        epilog="lmrel COMMAND --help says what each takes; book/settings.md says it at length.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    import_module("study.commands").add(commands)  # by name alone: the library does not depend on that room
    for add in (_compare, _problems, _failures, _plot, _export):
        add(commands)
    found = parser.parse_args(arguments)
    with command():
        found.carry_out(found)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Let `parser` take the folder of a finished run, by position or as ``--input``."""
    parser.add_argument("run", nargs="?", help="the folder of a finished run")
    parser.add_argument("--input", metavar="RUN", help="the same")


def run_of(arguments: argparse.Namespace) -> Path:
    """The folder of a finished run that the command line names; `InputError` if there is none."""
    if (arguments.run is None) == (arguments.input is None):
        raise InputError("give the folder of one finished run, such as results/run.")
    folder = files.as_path("input", arguments.run or arguments.input)
    if not (folder / records.RUN).is_file():
        raise InputError(f"{folder} holds no finished run: it has no {records.RUN}.")
    return folder


def printed(table: pd.DataFrame) -> None:
    """Print a table; what a model wrote may stand in it."""
    print(visible(table.to_string(index=False)))


def write_as(table: pd.DataFrame, path: Path) -> Path:
    """`table` in the form that the path's suffix names; `InputError` for another."""
    if path.suffix not in WRITERS:
        raise InputError(f"output is {str(path)!r}; its name must end in {' or '.join(WRITERS)}.")
    return files.write_text(WRITERS[path.suffix](table), path)


def _problems(commands: Any) -> None:
    parser = commands.add_parser("problems", help="write new problems of the paper's two families")
    parser.add_argument("--num-examples", type=int, default=120, metavar="N", help="of each family; default: 120")
    parser.add_argument("--seed", type=int, default=42, help="with 42, the default, the first 120 are the paper's")
    parser.add_argument("--output", default="problems.jsonl", metavar="FILE", help="default: problems.jsonl")
    parser.add_argument("--held-out", action="store_true", help="none that the book's models trained on, no twins")
    for name, bounds in RANGES.items():
        limits = f"of {name}; default: {bounds[0]} {bounds[1]}"
        parser.add_argument(f"--{name}", nargs=2, type=int, default=bounds, metavar=("LOW", "HIGH"), help=limits)
    parser.set_defaults(carry_out=_write_problems)


def _write_problems(arguments: argparse.Namespace) -> None:
    path = files.as_path("output", arguments.output)
    if path.suffix != ".jsonl":
        raise InputError(f"output is {str(path)!r}; its name must end in .jsonl.")
    ranges = {name: tuple(getattr(arguments, name)) for name in RANGES}
    only = {"allowed": _held_out()} if arguments.held_out else {}
    rows = new_problems(arguments.num_examples, arguments.seed, ranges, **only)
    files.write_text("".join(json.dumps(row) + "\n" for row in rows), path)
    print(f"{len(rows)} problems: {path}")


def _held_out() -> Callable[[Problem], bool]:
    """Whether a problem is held out, and no twin of one that was asked about before."""
    split, seen = import_module("tiny.split"), set()

    def is_new(problem: Problem) -> bool:
        key = split.problem_key(problem)
        if key in seen or not split.is_held_out(problem):
            return False
        seen.add(key)
        return True

    return is_new


def _failures(commands: Any) -> None:
    parser = commands.add_parser("failures", help="how a run's answers were wrong, by temperature")
    add_run(parser)
    parser.add_argument("--output", metavar="FILE", help="write the table there, too: .csv or .jsonl")
    parser.set_defaults(carry_out=_count_failures)


def _count_failures(arguments: argparse.Namespace) -> None:
    draws = records.read_draws(run_of(arguments))
    shares = failure_shares(draws)
    if shares.empty:
        print("no answer was wrong")
    else:
        printed(shares[["model", "temperature", "failure", "count", "share", "low", "high"]].round(3))
    whole = summarize(draws).query("task == 'all'")[["temperature", "finished_share", "runaway_share"]]
    print("\nof all texts, finished and in a loop:")
    printed(whole.round(3))
    if arguments.output:
        print(write_as(shares, files.as_path("output", arguments.output)))


def figures(draws: pd.DataFrame) -> dict[str, Any]:
    """The figures of one run's `draws` by name: charts, or a sentence where there is nothing to draw."""
    draws = draws.assign(model=draws["model"].map(visible))  # SVG holds no control characters
    summary, model = summarize_with_intervals(draws).query("task == 'all'"), draws["model"].iloc[0]
    found: dict[str, Callable[[], Any]] = {
        name: partial(
            charts.response, summary, name, title, f"Line chart: {title.lower()} of {model}, with 95 % intervals."
        )
        for name, title in {
            "accuracy": "Accuracy by temperature",
            "compliance": "Compliance by temperature",
            "runaway_share": "Texts cut off in a loop, by temperature",
        }.items()
    }
    runs, dots = "Accuracy of each run", f"Dots: the accuracy of each run of {model}."
    found["runs"] = lambda: charts.runs(by_run(draws).query("task == 'all'"), runs, dots)
    wrong = "Wrong answers by class"
    found["failures"] = lambda: charts.failures(failure_shares(draws), wrong, f"{wrong} of {model}, by temperature.")
    if summary["confidence"].notna().all():
        title, tokens = "Confidence by temperature", f"Mean log-probability of {model}'s tokens."
        found["confidence"] = lambda: charts.confidence(summary, title, tokens)
    return {name: _drawn(draw) for name, draw in found.items()}


def _drawn(draw: Callable[[], Any]) -> Any:
    """A figure, or the sentence that says what it lacks: another tool's draws may leave out what it shows."""
    try:
        return draw()
    except InputError as error:
        return f"not shown: {error}"


def _plot(commands: Any) -> None:
    parser = commands.add_parser("plot", help="draw a run's figures as SVG, PNG or PDF files")
    add_run(parser)
    parser.add_argument("--output", default="figures", metavar="FOLDER", help="default: figures")
    parser.add_argument("--format", nargs="+", choices=PICTURES, default=["svg"], help="default: svg")
    parser.set_defaults(carry_out=_draw_figures)


def _draw_figures(arguments: argparse.Namespace) -> None:
    folder = files.as_path("output", arguments.output)
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, chart in figures(records.read_draws(run_of(arguments))).items():
        if isinstance(chart, str):
            print(f"{name}: {chart}")
            continue
        for form in arguments.format:
            print(_saved(chart, folder / f"{name}.{form}"))


def _compare(commands: Any) -> None:
    parser = commands.add_parser("compare", help="which of two runs loses more between two temperatures")
    parser.add_argument("a", help="the folder of a finished run")
    parser.add_argument("b", help="the folder of another")
    parser.add_argument("--temperatures", nargs=2, type=float, default=(0.0, 1.0), metavar="T", help="default: 0 1")
    parser.add_argument("--metric", default="correct", help="or compliant, finished, runaway; default: correct")
    parser.add_argument("--margin", type=float, default=0.05, help="drops so near count as equal; default: 0.05")
    parser.add_argument("--across", nargs="+", default=(), choices=ACROSS, help="what may differ between the runs")
    parser.add_argument("--output", metavar="FILE", help="draw the drops there, too: .svg, .png or .pdf")
    parser.set_defaults(carry_out=_compare_runs)


def _compare_runs(arguments: argparse.Namespace) -> None:
    path = None if arguments.output is None else files.as_path("output", arguments.output)
    if path is not None and path.suffix[1:] not in PICTURES:
        raise InputError(f"output is {str(path)!r}; its name must end in .{', .'.join(PICTURES)}.")
    options = {name: getattr(arguments, name) for name in ("metric", "margin", "across")}
    found = compare(arguments.a, arguments.b, temperatures=tuple(arguments.temperatures), **options)
    print(found)
    if path is not None:
        title = f"Drop of {found.metric} from T = {found.temperatures[0]:g} to {found.temperatures[1]:g}"
        chart = charts.comparison(found.drops, found.margin, title, f"{title}, of {' and '.join(found.names)}.")
        print(_saved(chart, path))


def _saved(chart: Any, path: Path) -> Path:
    """`chart` as the picture that the path's suffix names; `InputError` where nothing that draws it is installed."""
    try:
        import_module("vl_convert")
    except ImportError:
        raise InputError("figures as files need vl-convert-python: pip install vl-convert-python.") from None
    return files.atomically(path, partial(chart.save, format=path.suffix[1:]))


def _export(commands: Any) -> None:
    parser = commands.add_parser("export", help="write a run's draws as CSV or JSON lines")
    add_run(parser)
    parser.add_argument("--to", choices=[suffix[1:] for suffix in WRITERS], default="csv", help="default: csv")
    parser.add_argument("--output", metavar="FILE", help="default: draws.csv or draws.jsonl in the run's folder")
    parser.set_defaults(carry_out=_write_draws)


def _write_draws(arguments: argparse.Namespace) -> None:
    folder = run_of(arguments)
    path = files.as_path("output", arguments.output or folder / f"draws.{arguments.to}")
    print(files.write_text(WRITERS[f".{arguments.to}"](records.read_draws(folder)), path))


if __name__ == "__main__":
    main()
