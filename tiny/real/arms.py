"""The arms of the experiment on a real model: ``python -m tiny.real.arms MODEL [ARM …] [--seed N]``.

MODEL is the folder that `make real` leaves. Arms are trained and measured one after the other; a killed training goes
on, and what is measured is not made again. It leaves a file of exact outcomes of each arm in ``book/data/real/``;
weights stay in ``training/real/``, outside git. The plan is on the book's page "The plan of the experiment on a real
model".
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from lmrel import files
from lmrel.enumeration import enumerate_outcomes
from lmrel.errors import InputError, command
from lmrel.models import load_model
from lmrel.problems import as_rows, load_problems, paper_problems, solve
from lmrel.tokens import encode_problems
from tiny import arms, measures, targets, train
from tiny.corpus import training_problem
from tiny.real import bodies

ROOT = Path(__file__).resolve().parent.parent.parent
DATA, WORK = ROOT / "book" / "data" / "real", Path("training") / "real"
SEEDS, PILOT = (0, 1, 2, 3), 9  # the pilot's seed decides the gates and is never analysed
STEPS, WARMUP, BATCH, RATE = 600, 20, 24, 1e-4  # 300 steps failed the first gate
STYLE, GRID = "zero_shot", (0.0, 0.1, 0.5, 1.0)
HOT: Any = {"temperatures": (1.5,), "max_nodes": 200}  # apart: there the search finds no end, and what is cooler waits
STEPS_OF = DATA / "r0" / "problems.csv"  # problems of one step
STEPS_STYLE: Any = "few_shot"  # as the untouched model was asked, and searched as far
STEPS_SEARCH: Any = {"tolerance": 0.02, "max_nodes": 200}
CODE = [
    *sorted(Path(__file__).parent.glob("*.py")),
    *(ROOT / f"tiny/{name}.py" for name in ("corpus", "measures", "split", "targets")),
]


@dataclass(frozen=True)
class Arm:
    """What a model is, how its problems are put to it, and what it learns to answer."""

    body: str
    chat: bool
    target: targets.Target


BODIES = {"D": lambda model, seed: model, "W": bodies.widen, "S": bodies.upcycle}
TAUGHT = {"right": targets.right, "slips": targets.slips, "rule": targets.rule}
ARMS = {f"{body}-{name}": Arm(body, False, TAUGHT[name]) for body in BODIES for name in ("right", "slips")}
ARMS |= {"D-rule": Arm("D", False, targets.rule)}
ARMS |= {f"C-{name}": Arm("D", True, TAUGHT[name]) for name in ("right", "slips")}


class Adam:
    """AdamW with its state by name, as `tiny.train` saves it; decay is 0.01 (Loshchilov and Hutter 2019)."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        kinds = ("mean", "square")
        self.state = {f"{kind}.{name}": torch.zeros_like(p) for kind in kinds for name, p in self.parameters.items()}

    @torch.no_grad()
    def step(self, step: int, rate: float) -> None:
        """Update the parameters from their gradients with this learning rate, and clear the gradients; from step 1."""
        for name, p in self.parameters.items():
            if p.grad is None:  # an expert that no token was given to
                continue
            mean, square = self.state[f"mean.{name}"], self.state[f"square.{name}"]
            mean.lerp_(p.grad, 0.1)
            square.lerp_(p.grad.square(), 0.001)
            p.mul_(1 - 0.01 * rate)
            p.addcdiv_(mean / (1 - 0.9**step), (square / (1 - 0.999**step)).sqrt_() + 1e-8, value=-rate)
            p.grad = None


def rate_at(step: int) -> float:
    """The learning rate at a step, counted from 0: a linear rise, then a cosine to 0."""
    if step < WARMUP:
        return RATE * (step + 1) / WARMUP
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def batch(arm: Arm, seed: int, step: int, tokenizer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The problems of a step with their written answers: token ids, which of them are there, and what is learned.

    All of shape (`BATCH`, tokens); labels are -100 but for the answer and the end of the text. The problems are the
    same in every arm of a seed; what is written comes from numbers of its own.
    """
    asked, noise = (random.Random(f"{what} {seed} {step}") for what in ("problems", "answers"))
    tasks = ("arithmetic", "variable_binding")
    rows = [training_problem(asked, tasks[i % 2]) for i in range(BATCH)]
    texts = []
    for row, prompt in zip(rows, encode_problems(rows, STYLE, tokenizer), strict=True):
        chances = arm.target("", solve(row), row)
        [text] = noise.choices(list(chances), list(chances.values()))
        written = tokenizer.encode(text.lstrip() if arm.chat else text, add_special_tokens=False)
        texts.append((prompt, [*written, tokenizer.eos_token_id]))
    width = max(len(prompt) + len(answer) for prompt, answer in texts)
    ids, there, labels = torch.zeros(3, BATCH, width, dtype=torch.long)
    labels -= 100
    for i, (prompt, answer) in enumerate(texts):
        end = len(prompt) + len(answer)
        ids[i, :end], there[i, :end] = torch.tensor(prompt + answer), 1
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return ids, there, labels


def loss(model: Any, ids: Tensor, there: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy of what is learned, of a batch as `batch` gives it.

    It is transformers' own loss; but words are scored only where one is learned, which saves a fifth of a step.
    """
    hidden = model.model(input_ids=ids, attention_mask=there, use_cache=False).last_hidden_state[:, :-1]
    learned = labels[:, 1:] >= 0
    return nn.functional.cross_entropy(model.lm_head(hidden[learned]), labels[:, 1:][learned])


def begun(arm: Arm, seed: int, source: Path) -> tuple[Any, Any]:
    """The model of an arm before its first step, and its tokenizer."""
    model, tokenizer = load_model(str(source), "fp32")
    if not arm.chat:
        tokenizer.chat_template = None  # so that prompts are plain text, here and where it is measured
    return BODIES[arm.body](model, seed).requires_grad_(), tokenizer


def trained(name: str, seed: int, source: Path, save_every: int = 25) -> tuple[Any, Any]:
    """The trained model of an arm with its tokenizer, as far as it was trained before going on from there."""
    arm = ARMS[name]
    model, tokenizer = begun(arm, seed, source)
    weights, saved = WORK / f"{seed}-{name}.safetensors", WORK / f"{seed}-{name}.state.safetensors"
    if weights.exists():
        model.load_state_dict(load_file(weights), strict=False)  # tied weights are stored once
        return model.eval(), tokenizer
    model.train()
    optimizer, losses = Adam(model), torch.zeros(STEPS)
    with files.locked(saved.with_suffix(".lock"), f"another training is writing to {saved}; wait for it to end."):
        first = train.restore(saved, model, optimizer, losses) if saved.exists() else 0
        for step in tqdm(range(first, STEPS), desc=f"{seed} {name}", initial=first, total=STEPS, mininterval=10):
            wrong = loss(model, *batch(arm, seed, step, tokenizer))
            wrong.backward()  # type: ignore[no-untyped-call]
            optimizer.step(step + 1, rate_at(step))
            losses[step] = wrong.detach()
            if (step + 1) % save_every == 0:
                train.save_state(saved, step + 1, model, optimizer, losses)
        kept = {key: p.detach() for key, p in model.named_parameters()}
        files.atomically(weights, partial(save_file, kept))
        saved.unlink(missing_ok=True)
    return model.eval(), tokenizer


def measure(name: str, seed: int, model: Any, tokenizer: Any) -> pd.DataFrame:
    """Bounds of the outcomes of the paper's problems, asked as the arm is taught, and of their texts' entropies.

    Of the rule also the answer that it teaches, ``taught``; of a sparse model also what is right greedily once routers
    give tokens to other experts, ``permuted``; of *D-right* also the problems of one step in `STEPS_OF`.
    """
    problems = paper_problems()
    ask = partial(enumerate_outcomes, model, tokenizer, temperatures=GRID, prompt_style=STYLE)
    parts = [
        ask(problems),
        ask(problems, **HOT),
        measures.entropies(model, tokenizer, problems, (1.0,), prompt_style=STYLE),
    ]
    if name.endswith("rule"):
        ruled = problems[[targets.ruled(row) for row in as_rows(problems)]]
        taught = ruled.assign(answer=[targets.by_rule(row) for row in as_rows(ruled)])
        parts.append(ask(taught).query("metric == 'correct'").assign(metric="taught"))
    if ARMS[name].body == "S":
        bodies.permute(model)
        parts.append(ask(problems, temperatures=(0.0,)).query("metric == 'correct'").assign(metric="permuted"))
        bodies.permute(model, -1)
    table = pd.concat(parts, ignore_index=True).merge(problems[["problem_id", "task"]])
    if name == "D-right":
        steps = load_problems(str(STEPS_OF))
        one = enumerate_outcomes(model, tokenizer, steps, (0.0, 1.0), prompt_style=STEPS_STYLE, **STEPS_SEARCH)
        table = pd.concat([table, one.merge(steps[["problem_id", "task"]])], ignore_index=True)
    return table.assign(seed=seed, arm=name).round({"lower": 6, "upper": 6})


@command()
def main() -> None:
    """Train and measure the arms that the command line names, or all, as far as they are missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="the folder of the real model, as `make real` leaves it")
    parser.add_argument("arms", nargs="*", help=f"some of {', '.join(ARMS)}; all by default")
    parser.add_argument("--seed", type=int, choices=(*SEEDS, PILOT), help="one seed; all but the pilot's by default")
    given = parser.parse_args()
    if unknown := [name for name in given.arms if name not in ARMS]:
        raise InputError(f"{unknown[0]!r} is no arm of this experiment; they are {', '.join(ARMS)}.")
    for seed in SEEDS if given.seed is None else [given.seed]:
        for name in given.arms or ARMS:
            path = DATA / f"{seed}-{name}.parquet"
            if not path.exists():
                table = measure(name, seed, *trained(name, seed, given.model))
                said: dict[str, Any] = {"code": arms.hashes(CODE), "versions": arms.versions()}
                said["start"] = files.sha256(*sorted(given.model.glob("*.safetensors")))
                arms.write(table, said, path)
            print(path, flush=True)


if __name__ == "__main__":
    main()
