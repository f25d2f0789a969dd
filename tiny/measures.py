"""What is measured of a model beside its accuracy: entropies of its answers, and whether it learned what it was taught.

The plan is on the book's page "The plan of the second experiment".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.answers import DIGITS, Verdict, extract_answer, verdict_after
from lmrel.engine.forest import walk
from lmrel.errors import InputError
from lmrel.problems import as_rows
from lmrel.tokens import PieceReader, encode_problems, eos_ids
from tiny.batches import Stage, make_batch

METRICS = ("text_entropy", "tokens", "answer_entropy")
LEAST = 1e-4  # a prefix is followed if it is likelier than this at some temperature of the grid
OVER = (Verdict.AFTER, Verdict.DECIDED)  # the first integer is settled


class Texts:
    """Follows the texts of answers up to where their first integer is settled, at all temperatures of a grid at once.

    Every prefix likelier than `least` at some temperature is followed. The others are unknown, and widen the bounds.
    See `walk`. Digits have to be tokens by themselves, as in the tiny suite.
    """

    def __init__(
        self,
        rows: int,
        reader: PieceReader,
        vocabulary: int,
        eos: Sequence[int],
        temperatures: Sequence[float],
        least: float,
        limit: int,
    ) -> None:
        self.temperatures, self.least, self.limit, self.bits = temperatures, least, limit, math.log2(vocabulary)
        self.pieces = [reader.piece(token) for token in range(vocabulary)]
        if any(len(piece) > 1 and set(piece) & DIGITS for piece in self.pieces):
            raise InputError("digits must be tokens by themselves here, as those of the tiny models.")
        after = [[verdict_after(reading, piece) for piece in self.pieces] for reading in Verdict]
        self.after, self.eos = torch.tensor(after), torch.isin(torch.arange(vocabulary), torch.tensor(list(eos)))
        # The prefixes being computed: problem, text, reading, and probability at each temperature.
        self.row, self.text, self.depth = torch.arange(rows), [""] * rows, 0
        self.reading, self.mass = torch.zeros(rows, dtype=torch.long), torch.ones(rows, len(temperatures)).double()
        # Of each problem at each temperature: bits and tokens so far, and what is left over, by its probability.
        self.entropy, self.tokens = (torch.zeros(rows, len(temperatures)).double() for _ in range(2))
        self.missing, self.missing_tokens, self.missing_bits = (self.entropy.clone() for _ in range(3))
        self.answers: list[dict[int | None, Tensor]] = [{} for _ in range(rows)]

    def children(self, numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Account for the nodes just computed; the prefixes to compute next."""
        chances = torch.stack([_chances(logits.double(), temperature) for temperature in self.temperatures], dim=1)
        self.entropy.index_add_(0, self.row, self.mass * _bits(chances))
        self.tokens.index_add_(0, self.row, self.mass)
        mass, reading = self.mass[:, :, None] * chances, self.after[self.reading]
        settled = torch.isin(reading, torch.tensor(OVER)) | self.eos
        for row, text, part in zip(self.row.tolist(), self.text, (mass * settled[:, None]).sum(dim=-1), strict=True):
            answer = extract_answer(text)[0]
            self.answers[row][answer] = self.answers[row].get(answer, 0.0) + part
        self.depth += 1
        left = self.limit - self.depth
        followed = ~settled & (mass.amax(dim=1) > self.least) & (left > 0)
        lost = mass * (~settled & ~followed)[:, None]
        self.missing.index_add_(0, self.row, lost.sum(dim=-1))
        self.missing_tokens.index_add_(0, self.row, left * lost.sum(dim=-1))
        self.missing_bits.index_add_(0, self.row, _bits(lost))
        parent, token = followed.nonzero(as_tuple=True)
        self.row, self.mass, self.reading = self.row[parent], mass[parent, :, token], reading[parent, token]
        self.text = [self.text[node] + self.pieces[t] for node, t in zip(parent.tolist(), token.tolist(), strict=True)]
        return numbers[parent], token

    def bounds(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest value of each of `METRICS`: (problems, temperatures, metrics) each.

        A text that is left over goes on for no token or up to the limit, each of log2(vocabulary) bits at most. It may
        end in the likeliest answer, or in answers of its own. Where the limit cuts an integer short, its answer is
        unknown, too.
        """
        known = [torch.stack(list(answers.values())) for answers in self.answers]  # (answers, temperatures) each
        most = torch.stack([_bits(parts.mT) for parts in known]) + self.missing_bits + self.bits * self.missing_tokens
        least = torch.zeros_like(most)
        for row, parts in enumerate(known):
            parts.scatter_add_(0, parts.argmax(dim=0, keepdim=True), self.missing[row][None])
            least[row] = _bits(parts.mT)
        entropy = self.entropy + self.bits * self.missing_tokens
        lower = torch.stack([self.entropy, self.tokens, least], dim=-1)
        upper = torch.stack([entropy, self.tokens + self.missing_tokens, torch.minimum(most, entropy)], dim=-1)
        return lower, upper


def _chances(logits: Tensor, temperature: float) -> Tensor:
    """The distribution of the next token, (nodes, vocabulary)."""
    if temperature == 0:
        return torch.zeros_like(logits).scatter_(1, logits.argmax(dim=-1, keepdim=True), 1.0)
    return (logits / temperature).softmax(dim=-1)


def _bits(chances: Tensor) -> Tensor:
    """The sum of -p log2(p) over the last dimension."""
    return -torch.special.xlogy(chances, chances).sum(dim=-1) / math.log(2)


def entropies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: pd.DataFrame,
    temperatures: Sequence[float],
    *,
    prompt_style: str = "few_shot",
    max_new_tokens: int = 16,
    least: float = LEAST,
    chunk: int = 16,
) -> pd.DataFrame:
    """Bounds on the entropies of each problem's answer, columns ``problem_id, temperature, metric, lower, upper``.

    ``text_entropy`` is that of the text up to where its first integer is settled, in bits: the sum over its prefixes of
    their probability times the entropy of the next token. ``tokens`` is how many tokens that takes on average,
    ``answer_entropy`` the entropy of the first integer, "none" being one more of its values. Rounded to 4 places.
    """
    rows = as_rows(problems)
    ids = encode_problems(rows, prompt_style, tokenizer)
    eos, vocabulary = eos_ids(model, tokenizer), model.config.vocab_size
    reader = PieceReader(tokenizer, eos)
    found = []
    for start in range(0, len(ids), chunk):
        some = ids[start : start + chunk]
        texts = Texts(len(some), reader, vocabulary, eos, temperatures, least, max_new_tokens)
        walk(model, some, texts.children, onward=True)
        found.append(texts.bounds())
    lower, upper = (torch.cat(parts).flatten().numpy() for parts in zip(*found, strict=True))
    names = [[row["problem_id"] for row in rows], list(map(float, temperatures)), METRICS]
    index = pd.MultiIndex.from_product(names, names=["problem_id", "temperature", "metric"])
    return index.to_frame(index=False).assign(lower=lower.round(4), upper=upper.round(4))


@torch.inference_mode()
def form_entropy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame) -> pd.Series:
    """The entropy, in bits at temperature 1, of the form in which each problem is answered if it is answered right.

    The eight forms are those of `targets.forms`. A number is over when no digit follows it.
    """
    rows = as_rows(problems)
    reader = PieceReader(tokenizer, eos_ids(model, tokenizer))
    pieces = [reader.piece(token) for token in range(model.config.vocab_size)]
    stops, digits = (torch.tensor([piece[:1] in some for piece in pieces]) for some in ({"."}, DIGITS))
    found = []
    for row, prompt in zip(rows, encode_problems(rows, "few_shot", tokenizer), strict=True):
        sign, number = "-" if row["answer"] < 0 else "", abs(int(row["answer"]))
        chances = []
        for space, zero in itertools.product((" ", ""), ("", "0")):
            text = tokenizer.encode(f"{space}{sign}{zero}{number}", add_special_tokens=False)
            after = model(torch.tensor([[*prompt, *text]])).logits[0, len(prompt) - 1 :].double().softmax(dim=-1)
            here = after[range(len(text)), text].prod()
            chances += [here * after[-1, stops].sum(), here * after[-1, ~stops & ~digits].sum()]
        each = torch.stack(chances)
        found.append(float(_bits(each / each.sum())))
    return pd.Series(found, index=[row["problem_id"] for row in rows])


@torch.inference_mode()
def reproduced(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: Stage, seed: int) -> tuple[int, int]:
    """How many of the slips on the pages of a stage of `targets.slips` a model writes greedily, and of how many.

    Slips that are cut by the end of a row are left out.
    """
    right = found = 0
    for step in range(stage.batches or stage.steps):
        # A place's distribution tells an answer, which weighs 1 in all, from the rest; the right one is at least .85.
        ids, labels = make_batch(replace(stage, soft=True), seed, step, tokenizer)
        greedy = model(ids).logits.argmax(dim=-1)
        answers, drawn = labels.sum(dim=-1) > 0.99, labels.gather(-1, ids[:, :, None])[:, :, 0]
        for row, within in enumerate(answers):
            for inside, group in itertools.groupby(range(len(within)), key=lambda place: bool(within[place])):
                places = list(group)
                whole = places[0] > 0 and places[-1] < len(within) - 1
                if inside and whole and bool((drawn[row, places] < 0.5).any()):
                    found += 1
                    right += bool((greedy[row, [place - 1 for place in places]] == ids[row, places]).all())
    return right, found
