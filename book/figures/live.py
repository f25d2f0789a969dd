"""Data of the live figures: trees with raw logits, recorded runs as bits, exact probabilities, recorded texts.

A tree holds, for one problem and one model, the raw logits of the prefixes that matter at temperatures up to 2. From
these a reader's browser works out what any decoder does (``live.js``), as `answers` does here; the tests compare both.
``python -m book.figures.live results FOLDER`` writes the files. They are scripts, since a page opened from disk may
load a script and nothing else; each hands its data to ``lmrelLive.put``. The module knows nothing of how the page
draws them.
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

from book.analysis.prefixes import Prefix, follow_prefixes
from book.figures.shipped import shipped
from lmrel import files, records
from lmrel.answers import DIGITS, first_integer
from lmrel.decoding import Decoder
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import command, visible
from lmrel.files import writing
from lmrel.models import load_model
from lmrel.parameters import PromptStyle
from lmrel.problems import paper_problems
from lmrel.prompts import worksheet_item
from lmrel.registry import TINY_SUITE
from lmrel.sampling import sample
from lmrel.stats.inference import clustered_wilson, with_interval
from lmrel.tokens import PieceReader, encode_problems, eos_ids, written

DIALLED = ("ar-103", "ar-111", "ar-009", "vb-089", "vb-102", "vb-084")  # problems on which the four models differ
STYLE: PromptStyle = "few_shot"
LIMIT, RUNS, SHOWN = 16, 64, 4
NODES, LEAST = 150, 0.002  # of one tree: how many nodes at most, and the mass that a node has under some decoder
QWEN: dict[str, Any] = {"top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}  # what Qwen2.5-Instruct ships beside T
PRESETS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "transformers' silent top-k": {"top_k": 50},
    "Qwen2.5-Instruct's knobs": QWEN,
}
FOLLOWED = [Decoder(t, **knobs) for knobs in ({}, QWEN) for t in (0.0, 0.5, 1.0, 1.5, 2.0)]


@dataclass(frozen=True)
class Tree:
    """Prefixes of the answer to one problem, parents first; the root, number 0, is the end of the prompt.

    In each the answer is still open: its first integer has not begun, or could go on. A text ends with one of the
    tokens `ends`. An integer that has begun ends with any token that is not in `through`.
    """

    parent: list[int]  # the number of each node's parent, -1 for the root
    token: list[int]  # its last token, -1 for the root
    answer: list[int | None]  # its first integer so far, None before one begins
    logits: Tensor  # (nodes, vocabulary), raw, float32
    seen: list[int]  # the tokens of the prompt
    ends: list[int]
    through: list[int]  # the tokens of digits alone, or of no text, that end nothing

    def mask(self) -> Tensor:
        """Which tokens stand in the prompt and the prefix of each node, boolean (nodes, vocabulary)."""
        seen = torch.zeros(self.logits.shape, dtype=torch.bool)
        seen[0, self.seen] = True
        for node in range(1, len(self.parent)):
            seen[node] = seen[self.parent[node]]
            seen[node, self.token[node]] = True
        return seen

    def packed(self) -> dict[str, Any]:
        """The tree as JSON holds it, with the logits as base64 of little-endian float32, row by row."""
        fields = {name: getattr(self, name) for name in ("parent", "token", "answer", "seen", "ends", "through")}
        return fields | {"logits": _base64(self.logits.numpy().astype("<f4"))}


def grow_tree(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problem: dict[str, Any]) -> Tree:
    """The tree of `problem`: the `NODES` prefixes with the greatest mass under any of `FOLLOWED`, if above `LEAST`."""
    [prompt] = encode_problems([problem], STYLE, tokenizer)
    ends = eos_ids(model, tokenizer)
    reader = PieceReader(tokenizer, ends)
    pieces = [reader.piece(token) for token in range(model.config.vocab_size)]
    # The page reads a node's token as part of the integer or as its end, never as both.
    if any(DIGITS & set(piece) and not set(piece) <= DIGITS for piece in pieces):
        raise ValueError("a token of this tokenizer mixes digits and other text; a live tree cannot hold it")
    inside = torch.tensor([set(piece) <= DIGITS for piece in pieces])
    inside[ends] = False

    def integer(prefix: Prefix) -> int | None:
        return first_integer(written(prefix, tokenizer, ends))[0]

    def undecided(prefix: Prefix, mass: Tensor) -> Tensor:
        worth = mass.amax(dim=0) > LEAST
        worth[ends] = False
        return worth if integer(prefix) is None else worth & inside

    nodes, logits = follow_prefixes(model, prompt, FOLLOWED, undecided, LIMIT)
    # A child's mass is below its parent's, so what is kept is a tree; sorted by number again, parents come first.
    mass = torch.stack([node.mass for node in nodes]).amax(dim=1)
    kept = mass.argsort(descending=True, stable=True)[:NODES].sort().values.tolist()
    place = {-1: -1} | {number: i for i, number in enumerate(kept)}
    chosen = [nodes[number] for number in kept]
    return Tree(
        parent=[place[node.parent] for node in chosen],
        token=[node.prefix[-1] if node.prefix else -1 for node in chosen],
        answer=[integer(node.prefix) for node in chosen],
        logits=logits[kept].float(),
        seen=sorted(set(prompt)),
        ends=ends,
        through=inside.nonzero().flatten().tolist(),
    )


def answers(tree: Tree, decoder: Decoder) -> dict[str, float]:
    """The probability of each complete answer under `decoder`, by its digits.

    ``"none"`` stands for texts without a number, ``"other"`` for those that leave the tree. They add up to 1.
    """
    probabilities = decoder.distribution(tree.logits, tree.mask()).tolist()
    child = {pair: node for node, pair in enumerate(zip(tree.parent, tree.token, strict=True))}
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


def texts(draws: pd.DataFrame) -> dict[str, Any]:
    """The first `SHOWN` draws of each of the paper's problems at each temperature: a text, and 1 if it is right.

    ``temperatures`` is a list; ``texts`` has a list for each problem, in it a list for each temperature.
    """
    draws = draws[draws["run"] < SHOWN].sort_values(["temperature", "run"])
    temperatures = sorted({float(t) for t in draws["temperature"]})
    rows: dict[str, list[list[Any]]] = {name: [[] for _ in temperatures] for name in paper_problems()["problem_id"]}
    for name, t, text, right in draws[["problem_id", "temperature", "text", "correct"]].itertuples(index=False):
        if name in rows:
            rows[name][temperatures.index(t)].append([visible(text), int(right)])
    return {"temperatures": temperatures, "texts": list(rows.values())}


def dice(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Whether each of `RUNS` draws of the paper's problems at T = 1 is right, boolean (runs, problems)."""
    decoder = Decoder(1.0, max_new_tokens=LIMIT, stop="decided")
    draws = sample(model, tokenizer, paper_problems(), [decoder], runs=RUNS, prompt_style=STYLE)
    return draws["correct"].to_numpy(dtype=bool).reshape(-1, RUNS).T


def exact(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """P(correct) of each of the paper's problems at T = 1, to half a point or better, rounded to 4 decimals."""
    bounds = enumerate_outcomes(model, tokenizer, paper_problems(), [1.0], prompt_style=STYLE, max_new_tokens=LIMIT)
    correct = bounds[bounds["metric"] == "correct"]
    return ((correct["lower"] + correct["upper"]) / 2).round(4).to_numpy()


def write_live(results: Path, folder: Path) -> None:
    """Write ``suite.js``, a script for each problem of the dial and for each model's texts, and ``still.json``.

    The texts are draws of the four runs below `results` that `shipped` lets pass.
    """
    models = shipped(results)
    problems: list[dict[str, Any]] = paper_problems().to_dict("records")  # type: ignore[assignment]
    by_id = {problem["problem_id"]: problem for problem in problems}
    trees: dict[str, dict[str, Tree]] = {name: {} for name in DIALLED}
    rolls, right = {}, {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in models:
        model, tokenizer = load_model(name)
        for key in DIALLED:
            trees[key][name] = grow_tree(model, tokenizer, by_id[key])
        rolls[name], right[name] = dice(model, tokenizer), exact(model, tokenizer)
        put_script(folder, f"draws-{name}", texts(records.read_draws(results / name)))
    for key, by_model in trees.items():
        put_script(folder, key, {name: tree.packed() for name, tree in by_model.items()})
    suite = {
        "models": models,
        "problems": [[p["problem_id"], f"{worksheet_item(p)} =", int(p["answer"]), p["task"]] for p in problems],
        "dial": DIALLED,
        "presets": list(PRESETS.items()),
        "runs": RUNS,
        "right": {name: values.tolist() for name, values in right.items()},
        "bits": {name: _base64(np.packbits(bits)) for name, bits in rolls.items()},
    }
    put_script(folder, "suite", suite)
    files.write_json(still(by_id[DIALLED[0]], trees[DIALLED[0]], rolls, right), folder / "still.json")


def still(
    problem: dict[str, Any], trees: dict[str, Tree], rolls: dict[str, np.ndarray], right: dict[str, np.ndarray]
) -> dict[str, Any]:
    """A table per figure for readers without JavaScript: ``caption`` and ``rows``, of which the first is the head."""
    grid, counts, ends = (0.0, 0.5, 1.0, 1.5, 2.0), (1, 4, 16, RUNS), (0.1, 0.5, 0.9)
    answer = str(int(problem["answer"]))
    dial = [["model", *(f"T = {t:g}" for t in grid)]]
    runs = [["model", "1 run", *(f"{n} runs" for n in counts[1:]), "endless runs"]]
    bins = [["model", "below 0.1", "0.1 to 0.5", "0.5 to 0.9", "0.9 and above"]]
    for name in TINY_SUITE:
        dial.append([name, *(f"{answers(trees[name], Decoder(t)).get(answer, 0.0):.3f}" for t in grid)])
        found = [clustered_wilson(share) for share in [*(rolls[name][:n].mean(axis=0) for n in counts), right[name]]]
        runs.append([name, *(with_interval(*shares, form="{:.1%}") for shares in found)])
        bins.append([name, *map(str, np.bincount(np.digitize(right[name], ends), minlength=4).tolist())])
    return {
        "dial": {"caption": f"P(correct) of {worksheet_item(problem)} = {answer} by temperature.", "rows": dial},
        "dice": {"caption": "Accuracy at T = 1 and its 95 % interval after some recorded runs.", "rows": runs},
        "problems": {"caption": "How many of the 240 problems have which P(correct) at T = 1.", "rows": bins},
    }


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def put_script(folder: Path, name: str, data: dict[str, Any]) -> None:
    """Write the script ``NAME.js``, which hands `data` to the page under that name."""
    source = json.dumps(data, separators=(",", ":"), sort_keys=True)  # in ASCII
    files.write_text(f"lmrelLive.put({json.dumps(name)},{source});\n", folder / f"{name}.js")


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="where the runs of the shipped models are")
    parser.add_argument("folder", type=Path, help="where the files go")
    given = parser.parse_args()
    write_live(given.results, given.folder)


if __name__ == "__main__":
    main()
