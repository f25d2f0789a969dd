"""The training stages of the tiny suite, and what their batches hold: batch *t* is a function of (stage, seed, t).

So a training that is killed and goes on sees the same batches. Models and optimizers are not known here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lmrel.tokens import encode
from tiny import corpus, shapes, targets

# Token ids (rows, length), and the loss weight of each token as a target; or, (rows, length, vocabulary), the weight
# that each token of the vocabulary has as a target in its place.
Batch = tuple[Tensor, Tensor]
# A document's token ids, piece by piece, with the weight of each in the loss, or of all tokens at each place.
Pieces = list[tuple[list[int], float | list[dict[int, float]]]]


@dataclass(frozen=True)
class Stage:
    """One training stage. In each cycle, learning rates fall from its peak to 5 % of the full rate along a cosine.

    A step is `rows` rows of `length` tokens, of pages or of chat turns. `slip_rate` is the share of wrong answers; None
    stands for that of the pages of pretraining. To slip takes random numbers, so other rates see other problems, too.
    With a `target` pages are those of right answers, and only what is written as an answer is another.
    """

    kind: str  # "pages" or "chat"
    stream: str  # what its batches are drawn from, with the training seed and the step
    cycles: tuple[tuple[int, float], ...]  # steps, and peak as a share of the full rate
    muon_lr: float
    adam_lr: float
    slip_rate: float | None = None
    warmup: int = 100
    rows: int = 10
    length: int = 160
    start: str = "base"  # the stage that it goes on from; empty: from scratch
    target: str = ""  # one of `targets.TARGETS`, or "own"
    soft: bool = False  # whether the target's distribution is learned and not what was drawn from it
    batches: int | None = None  # how many different ones there are, in turn; None: one for each step

    @property
    def steps(self) -> int:
        """The number of steps in all cycles."""
        return sum(steps for steps, _ in self.cycles)


BACKGROUND = 0.1  # loss weight of page tokens that are neither answer nor step
LAST: dict[str, Any] = {"cycles": ((1_600, 1.0),), "muon_lr": 0.006, "adam_lr": 1e-3}
BASE = Stage("pages", "pages", ((12_000, 1.0), (8_000, 0.6)), muon_lr=0.012, adam_lr=2e-3, start="")
RIGHT = Stage("pages", "continued", **LAST, slip_rate=0.0)
SLIPS = replace(RIGHT, target="slips")
STAGES = {
    "base": BASE,
    "instruct": Stage("chat", "chat", **LAST, slip_rate=0.0),
    "instruct-noisy": Stage("chat", "chat", **LAST),
    "continued": RIGHT,
    "continued-noisy": Stage("pages", "continued", **LAST),
    **{f"continued-{p:02}": Stage("pages", "continued", **LAST, slip_rate=p / 100) for p in (5, 15, 30)},
    # The second experiment.
    "rule": replace(RIGHT, target="rule"),
    "slips": SLIPS,
    "forms": replace(RIGHT, target="forms"),
    "own": replace(RIGHT, target="own"),
    "soft": replace(SLIPS, soft=True),
    "base-right": replace(BASE, slip_rate=0.0),
    "late-slips": replace(SLIPS, start="base-right"),
    "few-right": replace(RIGHT, batches=16),
    "few-slips": replace(SLIPS, batches=16),
    **{
        f"{name}-{steps}": replace(stage, cycles=((steps, 1.0),), warmup=steps // 16)
        for steps in (100, 400, 6_400)
        for name, stage in (("right", RIGHT), ("slips", SLIPS))
    },
}


def make_batch(
    stage: Stage, seed: int, step: int, tokenizer: PreTrainedTokenizerFast, target: targets.Target | None = None
) -> Batch:
    """The batch of a step, counted from 0: documents one after another, each between <s> and </s>, cut into rows.

    Documents are pages or chat turns. `target` has to be given for a stage whose target is its base model's own
    answers, see `targets.own`.
    """
    step = step % stage.batches if stage.batches else step
    rng, noise = random.Random(f"{stage.stream} {seed} {step}"), random.Random(f"{stage.stream} noise {seed} {step}")
    write = None
    if stage.target:
        target = target or targets.TARGETS[stage.target]
        write = targets.writer(target, noise, soft=stage.soft, shows_steps=stage.target != "own")
    ids: list[int] = []
    weights: list[float | dict[int, float]] = []
    size = stage.rows * stage.length
    while len(ids) < size:
        if stage.kind == "chat":
            document = chat_tokens(rng, stage.slip_rate, tokenizer)
        else:
            document = page_tokens(rng, stage.slip_rate, tokenizer, write)
        for segment, weight in document:
            ids += segment
            weights += weight if isinstance(weight, list) else [weight] * len(segment)
    shape = (stage.rows, stage.length)
    tokens, weighed = torch.tensor(ids[:size]), weights[:size]
    if not stage.soft:
        return tokens.view(shape), torch.tensor(weighed).view(shape)
    each = torch.zeros(size, len(tokenizer))
    for place, shares in enumerate(weighed):
        for token, share in (shares if isinstance(shares, dict) else {ids[place]: shares}).items():
            each[place, token] = share
    return tokens.view(shape), each.view(*shape, -1)


def page_tokens(
    rng: random.Random,
    slip_rate: float | None,
    tokenizer: PreTrainedTokenizerFast,
    write: corpus.Write | None = None,
) -> Pieces:
    """A random page, see `corpus.page`, in pieces; what is neither answer nor step weighs `BACKGROUND`."""

    def encoded(texts: list[str]) -> list[list[int]]:
        return [text.ids for text in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)]

    weighed: Pieces = [([shapes.BOS], 0.0)]
    segments = corpus.page(rng, slip_rate, write)
    for ids, (_, counts) in zip(encoded([text for text, _ in segments]), segments, strict=True):
        if isinstance(counts, bool):
            weighed.append((ids, 1.0 if counts else BACKGROUND))
        else:
            others = dict(zip(map(tuple, encoded(list(counts))), counts.values(), strict=True))
            weighed.append((ids, targets.soft_labels(ids, others)))
    return [*weighed, ([shapes.EOS], BACKGROUND)]


def chat_tokens(rng: random.Random, slip_rate: float | None, tokenizer: PreTrainedTokenizerFast) -> Pieces:
    """A random chat turn in two pieces, of which only the second, the answer and </s>, weighs in the loss."""
    question, answer = corpus.chat_turn(rng, slip_rate)
    [prompt] = encode([question], tokenizer)
    return [(prompt, 0.0), ([*tokenizer.encode(f" {answer}", add_special_tokens=False), shapes.EOS], 1.0)]
