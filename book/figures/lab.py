"""Data of the lab, in which the shipped models run in a reader's browser: weights, tokens, prompts, stored curves.

The page works out everything about a problem that a reader types from the weights alone (``lab-model.js``). What it
shows of the book's 240 problems was enumerated here. A stored tree is the same figure of one problem, without weights.
``python -m book.figures.lab FOLDER`` writes the files, which are scripts that hand their data to ``lmrelLive.put``, as
those of `book.figures.live`. The module knows nothing of how the page draws them.
"""

from __future__ import annotations

import argparse
import base64
import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from book.figures.live import LIMIT, PRESETS, STYLE, Tree, answers, grow_tree, put_script
from lmrel import files
from lmrel.answers import DIGITS
from lmrel.decoding import Decoder, as_shipped
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import command
from lmrel.files import writing
from lmrel.models import load_model
from lmrel.problems import OPERANDS, RANGES, paper_problems, paper_rows
from lmrel.prompts import worksheet_item
from lmrel.registry import CHECKPOINTS, TINY_SUITE
from lmrel.tokens import PieceReader, encode_problems, eos_ids, written

TEMPERATURES = tuple(step / 10 for step in range(21))  # of the stored curves
TOLERANCE, MOST = 0.02, 300  # of a stored P(correct): how well it is known, and how many nodes are spent on it
# Where something happens that a reader would not expect: a problem, a model, and what happens.
EXAMPLES = (
    ("(50 - 9) * 6 + 2", "tiny-dense-instruct", "greedy is always wrong, heat helps"),
    ("a = 6, b = 7, c = a * b, d = c + 9", "tiny-sparse-instruct", "two answers change places"),
    ("(14 - 20) * 2 + 4", "tiny-dense-instruct", "sure of a wrong sum, until it is hot"),
    ("(99 - 9) * 9 + 1", "tiny-sparse-instruct", "right when cold, and heat spoils it"),
)
HEAT, SWAP, _, PLAIN = EXAMPLES
# The figures that stand in a page without weights, by the name that ``{live}`` knows them by.
# With each, the temperature at which its dial stands first.
TREES = {"tree-heat": (HEAT, 0.7), "tree-swap": (SWAP, 1.0), "tree-plain": (PLAIN, 1.0), "landing": (SWAP, 0.8)}
STEP = 1024  # of a stored logit: it lies that part of 1 apart from the next
SHOWN = (0.0, 0.5, 1.0, 1.5, 2.0)  # temperatures of a table for readers without JavaScript
LINES = 4  # answers that a table or a picture of curves names
WHOLE = 10_000  # a stored P(correct) is a whole number of these parts


def packed_weights(name: str) -> dict[str, Any]:
    """The weights of a shipped checkpoint as JSON holds them, without loss: ``shapes`` by name and ``data``.

    A bfloat16 is the upper half of a float32. All upper bytes come first, then all lower ones, compressed by zlib
    and in base64: an upper byte is a sign and most of an exponent, and those repeat.

    That is within 6 % of what is possible weight by weight. The seven bits of a mantissa are noise (6.97 bits of
    entropy), and with sign and exponent a weight holds 10.7 bits: no sparse model is below 2.4 MB without loss. The
    tests measure it.
    """
    tensors = load_file(CHECKPOINTS / name / "model.safetensors")
    if any(tensor.dtype != torch.bfloat16 for tensor in tensors.values()):
        raise ValueError(f"{name} has weights that are not bfloat16; the page reads nothing else")
    halves = np.concatenate([tensor.view(torch.uint16).numpy().ravel() for tensor in tensors.values()])
    planes = np.concatenate([halves >> 8, halves & 255]).astype(np.uint8)
    shapes = [[key, list(tensor.shape)] for key, tensor in tensors.items()]
    return {"shapes": shapes, "data": base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()}


def architecture(model: PreTrainedModel) -> dict[str, Any]:
    """What the page's forward pass needs to know of a model beside its weights. Raises `ValueError` for other kinds."""
    config = model.config
    rope = config.rope_parameters
    if config.model_type not in ("mistral", "mixtral") or config.hidden_act != "silu":
        raise ValueError(f"{config.model_type} with {config.hidden_act} is no model that the page can run")
    if rope["rope_type"] != "default" or config.sliding_window is not None or config.tie_word_embeddings:
        raise ValueError("the page knows plain rotary positions, no sliding window and an output layer of its own")
    return {
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "groups": config.num_key_value_heads,
        "width": config.head_dim,
        "epsilon": config.rms_norm_eps,
        "theta": rope["rope_theta"],
        "experts": getattr(config, "num_local_experts", 0),
        "chosen": getattr(config, "num_experts_per_tok", 0),
    }


def vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer: ``pieces`` by id with their ``scores``, ids of ``special`` tokens, ``unknown``, and ``ends``."""
    inner = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = inner["model"]
    if kind["type"] != "Unigram" or kind["byte_fallback"] or inner["normalizer"] or inner["pre_tokenizer"]:
        raise ValueError("the page reads a Unigram tokenizer without normalizer, pre-tokenizer and byte fallback")
    ends = eos_ids(model, tokenizer)
    reader = PieceReader(tokenizer, ends)
    for token, (piece, _) in enumerate(kind["vocab"]):
        if token not in ends and reader.piece(token) != piece:
            raise ValueError(f"token {token} is {piece!r} to the tokenizer and reads {reader.piece(token)!r} in a text")
        # The page reads a token as part of the integer or as its end, never as both.
        if DIGITS & set(piece) and not set(piece) <= DIGITS:
            raise ValueError(f"token {token}, {piece!r}, mixes digits and other text")
    return {
        "pieces": pieces_of(tokenizer),
        "scores": [score for _, score in kind["vocab"]],
        "special": [token["id"] for token in inner["added_tokens"]],
        "unknown": kind["unk_id"],
        "ends": ends,
    }


def around_the_problem(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The prompt's text before and after the line of a problem, special tokens spelled out."""
    row = paper_rows()[0]
    [prompt] = encode_problems([row], STYLE, tokenizer)
    before, _, after = written(prompt, tokenizer).rpartition(worksheet_item(row))
    return [before, after]


def blanks(task: str) -> str:
    """The line of a problem of that family, with each operand's name in braces where it stands."""
    return worksheet_item({"task": task, **{name: f"{{{name}}}" for name in OPERANDS[task]}})


def inherited(model: PreTrainedModel) -> dict[str, Any]:
    """The knobs that transformers adds to a temperature for this checkpoint: see `lmrel.decoding.as_shipped`."""
    plain, shipped = asdict(Decoder(1.0)), asdict(as_shipped(1.0, model.generation_config))
    return {knob: value for knob, value in shipped.items() if value != plain[knob]}


def curves(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """P(correct) of the paper's problems at `TEMPERATURES`, the middle of its bounds: (problems, temperatures)."""
    bounds = enumerate_outcomes(
        model,
        tokenizer,
        paper_problems(),
        TEMPERATURES,
        tolerance=TOLERANCE,
        max_nodes=MOST,
        prompt_style=STYLE,
        max_new_tokens=LIMIT,
    )
    correct = bounds[bounds["metric"] == "correct"]
    return ((correct["lower"] + correct["upper"]) / 2).to_numpy().reshape(-1, len(TEMPERATURES))


def still(found: dict[str, np.ndarray]) -> dict[str, Any]:
    """The table for readers without JavaScript: a ``caption`` and ``rows``, of which the first is the head."""
    shown = [TEMPERATURES.index(t) for t in SHOWN]
    head = ["model", *(f"T = {t:g}" for t in SHOWN)]
    rows = [[name, *(f"{100 * mean:.0f} %" for mean in curve.mean(axis=0)[shown])] for name, curve in found.items()]
    caption = "How many of the 240 problems a model gets right at temperature T, on average over its answers."
    return {"lab": {"caption": caption, "rows": [head, *rows]}}


def stored_tree(tree: Tree, tokenizer: PreTrainedTokenizerBase, right: int) -> dict[str, Any]:
    """The tree as the page reads it, in at most 60 kB. For a temperature alone: it lacks what a penalty goes by.

    A temperature sees differences of logits and nothing else, so each is stored as its distance from the greatest of
    its node, in whole numbers of 1 / `STEP`: little-endian uint16, row by row, in base64. At T = 1 that changes a
    probability by a two-thousandth part at most.
    """
    apart = (tree.logits.max(dim=1, keepdim=True).values - tree.logits) * STEP
    rows = apart.round().clamp(max=2**16 - 1).numpy().astype("<u2")
    return {
        "answer": right,
        "limit": LIMIT,
        "vocabulary": {"pieces": pieces_of(tokenizer), "ends": tree.ends},
        "parent": tree.parent,
        "token": tree.token,
        "step": STEP,
        "logits": base64.b64encode(rows.tobytes()).decode(),
    }


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text of each token, by id."""
    return [piece for piece, _ in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]]


def still_tree(tree: Tree, problem: str, model: str, right: int) -> dict[str, Any]:
    """The table of a stored tree for readers without JavaScript: its likeliest answers over temperature."""
    found = [answers(tree, Decoder(t)) for t in SHOWN]
    names = {answer for each in found for answer in each} - {"other", "none", str(right)}
    wrong = sorted(names, key=lambda answer: -max(each.get(answer, 0.0) for each in found))[: LINES - 1]
    head = ["answer", *(f"T = {t:g}" for t in SHOWN)]
    rows = [
        [label, *(f"{100 * each.get(answer, 0.0):.0f} %" for each in found)]
        for answer, label in ((str(right), f"{right} (right)"), *((each, f"{each} (wrong)") for each in wrong))
    ]
    rows = [[cell.replace("-", "\u2212") for cell in row] for row in rows]
    return {"caption": f"How often {model} gives each answer to {problem}, at temperature T.", "rows": [head, *rows]}


def write_trees(folder: Path) -> dict[str, Any]:
    """Write the stored trees, a script a name, and return the tables for readers without JavaScript, by name."""
    rows = {worksheet_item(row).removesuffix(", d"): row for row in paper_rows()}
    tables = {}
    for name, ((problem, model, _), temperature) in TREES.items():
        loaded = load_model(model)
        tree, right = grow_tree(*loaded, dict(rows[problem])), rows[problem]["answer"]
        stored = stored_tree(tree, loaded[1], right)
        about = {"problem": worksheet_item(rows[problem]), "typed": problem, "model": model, "t": temperature}
        put_script(folder, name, about | stored)
        tables[name] = still_tree(tree, problem, model, right)
    return tables


def write_models(folder: Path) -> dict[str, Any]:
    """Write the weights of each shipped model, a script a model, and return what the page must know of all."""
    suite: dict[str, Any] = {"models": {}, "limit": LIMIT, "presets": list(PRESETS.items())}
    suite["items"] = {task: blanks(task) for task in OPERANDS}
    suite["ranges"] = RANGES
    suite["examples"] = [dict(zip(("problem", "model", "says"), example, strict=True)) for example in EXAMPLES]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in TINY_SUITE:
        model, tokenizer = load_model(name)
        put_script(folder, f"weights-{name}", packed_weights(name))
        suite["models"][name] = {
            "architecture": architecture(model),
            "vocabulary": vocabulary(model, tokenizer),
            "prompt": around_the_problem(tokenizer),
            "inherited": inherited(model),
        }
    return suite


def write_lab(folder: Path) -> None:
    """Write the weights, ``lab.js`` with all else, the stored trees, and ``still.json``."""
    suite = write_models(folder)
    found = {name: curves(*load_model(name)) for name in TINY_SUITE}
    suite["temperatures"] = TEMPERATURES
    suite["problems"] = [[row["problem_id"], row["task"], worksheet_item(row), row["answer"]] for row in paper_rows()]
    suite["curves"] = {
        name: base64.b64encode((curve * WHOLE).round().astype("<u2").tobytes()).decode()
        for name, curve in found.items()
    }
    suite["whole"] = WHOLE
    put_script(folder, "lab", suite)
    files.write_json(still(found) | write_trees(folder), folder / "still.json")


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the files go")
    write_lab(parser.parse_args().folder)


if __name__ == "__main__":
    main()
