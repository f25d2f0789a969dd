"""What SmolLM2-135M-Instruct writes, drawn and stored with the book: ``python -m tools.smollm [CONDITION …]``.

It needs the model that `make real` leaves, and draws only what is missing: what ``book/data/real/r0/`` holds stays,
wherever it was drawn. Whole runs are kept beside the model, outside the repository; of them the folder gets what the
page reads. No other part of the book needs them.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from book.analysis.smollm import ABOUT, EXACT, FAMILIES, PROBLEMS, STORED, TEMPERATURES
from lmrel import files
from lmrel.errors import InputError, command
from lmrel.records import read_draws
from study import Run
from tools.real import NAME, cache

EACH, SEED = 16, 25  # problems a family, and the seed that draws them
STEPS = str(PROBLEMS.relative_to(Path(__file__).resolve().parent.parent))  # so that a run holds no path of one machine
PLAIN: dict[str, Any] = {"problems": STEPS, "chat_template": "off", "determinism": False}
FEW: dict[str, Any] = {"temperatures": (0.0, 1.0), "runs": 2, "limit": 8}  # of each family so many problems
CHAT: dict[str, Any] = {"problems": STEPS, "max_new_tokens": 32, "determinism": False, **FEW}
STYLES = ("few_shot", "readme", "zero_shot")
# Every sampled condition by name: what differs from the defaults of notebooks/evaluate.ipynb, the paper's protocol.
CONDITIONS: dict[str, dict[str, Any]] = {
    f"{style}-{decoding}": {"prompt_style": style, "decoding": decoding}
    for style in STYLES
    for decoding in ("pure", "as_shipped")
}
CONDITIONS |= {"steps-plain": {**PLAIN, "temperatures": (0.0, 0.5, 1.0, 1.5, 2.0)}}
CONDITIONS |= {f"steps-{style}": {**CHAT, "prompt_style": style} for style in STYLES}
CONDITIONS |= {f"steps-plain-{precision}": {**PLAIN, **FEW, "precision": precision} for precision in ("bf16", "nf4")}
CONDITIONS |= {"steps-zero_shot-as_shipped": {**CHAT, "prompt_style": "zero_shot", "decoding": "as_shipped"}}
COLUMNS = ["condition", "temperature", "run", "problem_id", "text", "finished", "ended"]
NODES, TOLERANCE = 200, 0.02  # where the search for exact outcomes ends


def one_step(each: int = EACH, seed: int = SEED) -> Iterator[dict[str, Any]]:
    """`each` problems of one step of every family; none is another's twin with its numbers swapped."""
    rng = random.Random(seed)
    for task, (sign, low, high, work) in FAMILIES.items():
        seen: set[frozenset[int]] = set()
        while len(seen) < each:
            pair = [rng.randint(low, high), rng.randint(low, high)]
            a, b = sorted(pair, reverse=True) if sign == "-" else pair
            if frozenset(pair) not in seen:
                name = f"{task.replace(' ', '-')}-{len(seen):02}"
                yield {"problem_id": name, "task": task, "question": f"{a} {sign} {b}", "answer": work(a, b)}
                seen.add(frozenset(pair))


def run_of(name: str, model: Path) -> Run:
    """A condition as a run, which writes into a folder of its name beside the model."""
    return Run(model=str(model), output_dir=str(folder(model) / name), **CONDITIONS[name])


def folder(model: Path) -> Path:
    """Where whole runs of the model are kept."""
    return model.parent / f"{NAME}-draws"


def exact(model: Path) -> None:
    """Bounds of the outcomes of the one-step problems in plain text, family by family as far as they are missing."""
    from lmrel.enumeration import enumerate_outcomes  # torch, which takes seconds, once there is something to do
    from lmrel.models import load_model
    from lmrel.problems import load_problems

    problems = load_problems(str(PROBLEMS))
    place = folder(model) / "exact"
    if missing := [task for task in FAMILIES if task not in kept("exact") and not (place / f"{task}.parquet").exists()]:
        loaded, tokenizer = load_model(str(model), "fp32")
        tokenizer.chat_template = None  # plain text, as in `PLAIN`
        place.mkdir(parents=True, exist_ok=True)
        for task in missing:
            some, began = problems[problems["task"] == task], time.process_time()
            table = enumerate_outcomes(loaded, tokenizer, some, TEMPERATURES, tolerance=TOLERANCE, max_nodes=NODES)
            files.write_table(table.assign(task=task), place / f"{task}.parquet")
            print(f"exact, {task}: {time.process_time() - began:.0f} CPU-seconds", flush=True)


def noted() -> dict[str, Any]:
    """What the repository says of each stored condition; nothing where there is none yet."""
    return json.loads(ABOUT.read_text(encoding="utf-8")) if ABOUT.exists() else {}


def kept(name: str) -> set[str]:
    """What the repository holds of a condition: its name, or families of exact outcomes; nothing of another asking."""
    found = noted().get(name, {})
    if found.get("asked") != json.loads(json.dumps(asked(name))):
        return set()
    return set(found.get("families", [name] if found.get("draws") else []))


def asked(name: str) -> dict[str, Any]:
    """What is asked under a condition, or for exact outcomes."""
    knobs: dict[str, Any] = {"prompt_style": "few_shot", "chat_template": "off", "temperatures": TEMPERATURES}
    return CONDITIONS[name] if name in CONDITIONS else knobs | {"tolerance": TOLERANCE, "max_nodes": NODES}


def store(model: Path) -> None:
    """Put what the page reads of all finished conditions, with what they were made of, beside what is stored."""
    before = noted()
    about: dict[str, Any] = {}
    tables = []
    parts = ("precision", "versions", "hashes", "decoders", "started", "seconds", "draws", "threads")
    for name in CONDITIONS:
        about[name] = {"asked": asked(name), "draws": 0}
        if (folder(model) / name / "run.json").exists():
            run = run_of(name, model)
            tables.append(read_draws(run.folder).assign(condition=name)[COLUMNS])
            about[name] |= {part: run.record[part] for part in parts}
        elif kept(name):
            tables.append(pd.read_parquet(STORED).query("condition == @name"))
            about[name] = before[name]
    if not tables:
        raise InputError(f"{folder(model)} holds no finished condition.")
    found = {path.stem: pd.read_parquet(path) for path in sorted((folder(model) / "exact").glob("*.parquet"))}
    for task in kept("exact") - found.keys():
        found[task] = pd.read_parquet(EXACT).query("task == @task")
    families = [task for task in FAMILIES if task in found]
    about["exact"] = {"asked": asked("exact"), "families": families}
    files.write_table(pd.concat(tables, ignore_index=True), STORED)
    if found:
        files.write_table(pd.concat([found[task] for task in families], ignore_index=True).round(5), EXACT)
    files.write_json(about, ABOUT)


@command()
def main() -> None:
    """Draw the conditions that the command line names, or all, as far as they are missing, and store what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [*CONDITIONS, "exact"]
    parser.add_argument("conditions", nargs="*", help=f"some of {', '.join(names)}; all by default")
    given, model = parser.parse_args().conditions, cache() / NAME
    if unknown := [name for name in given if name not in names]:
        raise InputError(f"{unknown[0]!r} is no condition; they are {', '.join(names)}.")
    if not (model / "config.json").exists():
        raise InputError(f"there is no {NAME} yet; `make real` brings it.")
    if not PROBLEMS.exists():
        files.write_text(pd.DataFrame(one_step()).to_csv(index=False), PROBLEMS)
    for name in given or [name for name in names if name == "exact" or not kept(name)]:
        exact(model) if name == "exact" else run_of(name, model).carry_out()
        store(model)
        print(name, flush=True)


if __name__ == "__main__":
    main()
