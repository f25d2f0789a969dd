"""Data of the live figures: trees with raw logits, recorded runs as bits, exact chances, recorded texts.

A tree holds, for one problem and one model, the raw logits of the prefixes that matter at temperatures up to 2. From
these a reader's browser works out what any decoder does (``live.js``), as `answers` does here.
``python -m book.figures.live results FOLDER`` writes the files. They are scripts, since a page opened from disk may
load a script and nothing else; each hands its data to ``lmrelLive.put``.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel import files, records
from lmrel.answers import DIGITS, extract_answer
from lmrel.decoding import Decoder
from lmrel.engine.forest import walk
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import command, visible
from lmrel.files import writing
from lmrel.models import load_model
from lmrel.problems import paper_problems
from lmrel.prompts import worksheet_item
from lmrel.registry import TINY_SUITE
from lmrel.sampling import sample
from lmrel.stats.inference import clustered_wilson
from lmrel.tokens import AS_IS, PieceReader, encode_problems, eos_ids

DIALLED = ("ar-103", "ar-111", "ar-009", "vb-089", "vb-102", "vb-084")  # problems on which the four models differ
STYLE, LIMIT, RUNS, SHOWN = "few_shot", 16, 64, 4
NODES, LEAST = 150, 0.002  # of one tree: how many nodes at most, and the mass that a node has under some decoder
QWEN: dict[str, Any] = {"top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}  # what Qwen2.5-Instruct ships beside T
PRESETS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "transformers' silent top-k": {"top_k": 50},
    "Qwen2.5-Instruct's knobs": QWEN,
}
FOLLOWED = [Decoder(t, **knobs) for knobs in ({}, QWEN) for t in (0.0, 0.5, 1.0, 1.5, 2.0)]
RECORDED = (0.0, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Tree:
    """Prefixes of the answer to one problem, parents first; the root, number 0, is the end of the prompt.

    Each is undecided: its first integer has not begun, or is not over. `answer` is that integer so far, None before it
    begins. A text ends with one of the tokens `ends`; all but those and `through` (digits, and what adds no text) end
    an integer that has begun.
    """

    parent: list[int]  # -1 for the root
    token: list[int]
    answer: list[int | None]
    logits: Tensor  # (nodes, vocabulary), raw, float32
    seen: list[int]  # the tokens of the prompt
    ends: list[int]
    through: list[int]

    def mask(self) -> Tensor:
        """Of each node the tokens in the prompt and the prefix, boolean (nodes, vocabulary)."""
        seen = torch.zeros(self.logits.shape, dtype=torch.bool)
        for node, (parent, token) in enumerate(zip(self.parent, self.token, strict=True)):
            if node:
                seen[node] = seen[parent]
                seen[node, token] = True
            else:
                seen[node, self.seen] = True
        return seen

    def packed(self) -> dict[str, Any]:
        """As JSON; the logits as base64 of little-endian float32, row by row."""
        fields = {name: getattr(self, name) for name in ("parent", "token", "answer", "seen", "ends", "through")}
        return fields | {"logits": _base64(self.logits.numpy().astype("<f4"))}


def grow(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: dict[str, Any]) -> Tree:
    """The tree of `problem`: the `NODES` prefixes with the greatest mass under any of `FOLLOWED`, if above `LEAST`."""
    [prompt] = encode_problems([problem], STYLE, tokenizer)
    reader, ends = PieceReader(tokenizer), eos_ids(model, tokenizer)
    pieces = [reader.piece(token) for token in range(model.config.vocab_size)]
    if any(DIGITS & set(piece) and not set(piece) <= DIGITS for piece in pieces):
        raise ValueError("a token of this tokenizer mixes digits and other text; a live tree cannot hold it")
    through = [t for t, piece in enumerate(pieces) if set(piece) <= DIGITS and t not in ends]
    # Of each prefix, in the walk's order: parent, tokens, the integer so far; mass under each decoder; logits.
    prefixes: list[tuple[int, list[int], int | None]] = [(-1, [], None)]
    masses, rows = [torch.ones(len(FOLLOWED), dtype=torch.double)], list[Tensor]()

    def children(numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        before = len(prefixes)
        for number, row in zip(numbers.tolist(), logits.float(), strict=True):
            _, path, answer = prefixes[number]
            seen = torch.zeros(1, len(row), dtype=torch.bool)
            seen[0, [*prompt, *path]] = True
            mass = torch.cat([decoder.distribution(row[None], seen) for decoder in FOLLOWED]) * masses[number][:, None]
            worth = mass.amax(dim=0) > LEAST
            worth[ends] = False
            if answer is not None:
                worth &= torch.isin(torch.arange(len(row)), torch.tensor(through))
            rows.append(row.clone())
            for token in worth.nonzero().flatten().tolist() if len(path) + 1 < LIMIT else []:
                text = tokenizer.decode([*path, token], skip_special_tokens=True, **AS_IS)
                prefixes.append((number, [*path, token], extract_answer(text)[0]))
                masses.append(mass[:, token])
        grown = [(parent, path[-1]) for parent, path, _ in prefixes[before:]]
        return tuple(torch.tensor(grown, dtype=torch.long).reshape(-1, 2).unbind(1))  # type: ignore[return-value]

    walk(model, [prompt], children, onward=True)
    # A child's mass is below its parent's, so that what is kept is a tree; sorted again, parents come first.
    kept = torch.stack(masses).amax(dim=1).argsort(descending=True, stable=True)[:NODES].sort().values.tolist()
    place = {node: i for i, node in enumerate(kept)} | {-1: -1}
    parents, paths, integers = map(list, zip(*(prefixes[node] for node in kept), strict=True))
    parents, tokens = [place[parent] for parent in parents], [path[-1] if path else -1 for path in paths]
    return Tree(
        parents, tokens, integers, torch.stack([rows[node] for node in kept]), sorted(set(prompt)), ends, through
    )


def answers(tree: Tree, decoder: Decoder) -> dict[str, float]:
    """The probability of each complete answer, by its digits; "none" is a text without any, "other" left the tree."""
    probabilities = decoder.distribution(tree.logits, tree.mask()).tolist()
    child = {(parent, token): i for i, (parent, token) in enumerate(zip(tree.parent, tree.token, strict=True))}
    mass, found = [1.0] + [0.0] * (len(tree.parent) - 1), defaultdict[str, float](float)
    for node, answer in enumerate(tree.answer):
        for token, below in enumerate(mass[node] * probability for probability in probabilities[node]):
            if below == 0.0:
                continue
            if (node, token) in child:
                mass[child[node, token]] = below
            elif token in tree.ends:
                found["none" if answer is None else str(answer)] += below
            elif answer is not None and token not in tree.through:
                found[str(answer)] += below
            else:
                found["other"] += below
    return dict(found)


def recorded(results: Path, name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """The study's draws of one model; where it has none for the paper's problems, the same ones drawn now."""
    problems = paper_problems()
    if (results / name / records.DRAWS).exists():
        draws = records.read_draws(results / name)
        if set(problems["problem_id"]) <= set(draws["problem_id"]):
            return draws
    decoders = [Decoder(t, max_new_tokens=LIMIT) for t in RECORDED]
    return sample(model, tokenizer, problems, decoders, runs=SHOWN, prompt_style=STYLE)


def texts(draws: pd.DataFrame) -> dict[str, Any]:
    """Of each problem and temperature the first `SHOWN` draws, each a text and whether it is right."""
    draws = draws[draws["run"] < SHOWN].sort_values(["temperature", "run"])
    temperatures = sorted({float(t) for t in draws["temperature"]})
    rows: dict[str, list[list[Any]]] = {name: [[] for _ in temperatures] for name in paper_problems()["problem_id"]}
    for name, t, text, right in draws[["problem_id", "temperature", "text", "correct"]].itertuples(index=False):
        if name in rows:
            rows[name][temperatures.index(t)].append([visible(text), int(right)])
    return {"temperatures": temperatures, "texts": list(rows.values())}


def dice(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Whether each draw at T = 1 is right, boolean (runs, problems)."""
    decoder = Decoder(1.0, max_new_tokens=LIMIT, stop="decided")
    draws = sample(model, tokenizer, paper_problems(), [decoder], runs=RUNS, prompt_style=STYLE)
    return draws["correct"].to_numpy(dtype=bool).reshape(-1, RUNS).T


def exact(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """P(correct) of each problem at T = 1, within half a point, rounded to 4 decimals."""
    bounds = enumerate_outcomes(model, tokenizer, paper_problems(), [1.0], prompt_style=STYLE, max_new_tokens=LIMIT)
    correct = bounds[bounds["metric"] == "correct"]
    return ((correct["lower"] + correct["upper"]) / 2).round(4).to_numpy()


def write_live(results: Path, folder: Path) -> None:
    """All files: ``suite.js``, a script for each problem of the dial and each model's texts, and ``still.json``."""
    problems: list[dict[str, Any]] = paper_problems().to_dict("records")  # type: ignore[assignment]
    by_id = {problem["problem_id"]: problem for problem in problems}
    trees: dict[str, dict[str, Tree]] = {name: {} for name in DIALLED}
    rolls, right = {}, {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in TINY_SUITE:
        model, tokenizer = load_model(name)
        for key in DIALLED:
            trees[key][name] = grow(model, tokenizer, by_id[key])
        rolls[name], right[name] = dice(model, tokenizer), exact(model, tokenizer)
        _put(folder, f"draws-{name}", texts(recorded(results, name, model, tokenizer)))
    for key, by_model in trees.items():
        _put(folder, key, {name: tree.packed() for name, tree in by_model.items()})
    suite = {
        "models": TINY_SUITE,
        "problems": [[p["problem_id"], f"{worksheet_item(p)} =", int(p["answer"]), p["task"]] for p in problems],
        "dial": DIALLED,
        "presets": list(PRESETS.items()),
        "runs": RUNS,
        "right": {name: values.tolist() for name, values in right.items()},
        "bits": {name: _base64(np.packbits(bits)) for name, bits in rolls.items()},
    }
    _put(folder, "suite", suite)
    files.write_json(still(by_id[DIALLED[0]], trees[DIALLED[0]], rolls, right), folder / "still.json")


def still(
    problem: dict[str, Any], trees: dict[str, Tree], rolls: dict[str, np.ndarray], right: dict[str, np.ndarray]
) -> dict[str, Any]:
    """For readers without JavaScript a table a figure: ``caption`` and ``rows``, the first of which is the head."""
    grid, counts, ends = (0.0, 0.5, 1.0, 1.5, 2.0), (1, 4, 16, RUNS), (0.1, 0.5, 0.9)
    answer = str(int(problem["answer"]))
    dial = [["model", *(f"T = {t:g}" for t in grid)]]
    runs = [["model", "1 run", *(f"{n} runs" for n in counts[1:]), "endless runs"]]
    bins = [["model", "below 0.1", "0.1 to 0.5", "0.5 to 0.9", "0.9 and above"]]
    for name in TINY_SUITE:
        dial.append([name, *(f"{answers(trees[name], Decoder(t)).get(answer, 0.0):.3f}" for t in grid)])
        found = [clustered_wilson(share) for share in [*(rolls[name][:n].mean(axis=0) for n in counts), right[name]]]
        runs.append([name, *(f"{mean:.1%} ({low:.1%} to {high:.1%})" for mean, low, high in found)])
        bins.append([name, *map(str, np.bincount(np.digitize(right[name], ends), minlength=4).tolist())])
    return {
        "dial": {"caption": f"P(correct) of {worksheet_item(problem)} = {answer} by temperature.", "rows": dial},
        "dice": {"caption": "Accuracy at T = 1 and its 95 % interval after some recorded runs.", "rows": runs},
        "problems": {"caption": "How many of the 240 problems have which P(correct) at T = 1.", "rows": bins},
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _put(folder: Path, name: str, data: dict[str, Any]) -> None:
    source = json.dumps(data, separators=(",", ":"), sort_keys=True)  # in ASCII
    files.write_text(f"lmrelLive.put({json.dumps(name)},{source});\n", folder / f"{name}.js")


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="where the study's runs are")
    parser.add_argument("folder", type=Path, help="where the files go")
    given = parser.parse_args()
    write_live(given.results, given.folder)


if __name__ == "__main__":
    main()
