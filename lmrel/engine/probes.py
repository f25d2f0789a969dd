"""Whether a model can be run by this engine at all: tried before a run, on its own longest prompt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lmrel.engine.forest import refusal, walk
from lmrel.engine.memory import is_lack_of_memory
from lmrel.engine.rotary import longest_short
from lmrel.errors import InputError
from lmrel.precision import precision_of

_TRIED: WeakKeyDictionary[PreTrainedModel, int] = WeakKeyDictionary()  # which passed `check_tree`, with what length


def check_model(model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
    """Raise `InputError` if the tree cannot run on this model with these prompts and answers of so many tokens."""
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"a model is needed, as load_model gives one, not {type(model).__name__}")
    if not all(prompts):
        raise InputError(
            "a prompt has no token: the tokenizer's files are missing, or it or its chat template leaves nothing of it."
        )
    config = model.config.get_text_config()
    context, highest = max(map(len, prompts)) + new_tokens, max(map(max, prompts))
    if highest >= config.vocab_size:
        raise InputError(f"the tokenizer gives token {highest}; this model has {config.vocab_size} tokens.")
    limit = getattr(config, "max_position_embeddings", None) or context
    if context > limit > 0:
        raise InputError(f"a prompt and {new_tokens} new tokens need {context} positions; this model has {limit}.")
    short = longest_short(model) or context
    if crossing := [length for length in map(len, prompts) if length <= short < length + new_tokens]:
        raise InputError(
            f"a prompt of {crossing[0]} tokens would grow past {short} with {new_tokens} new ones; there this model "
            "changes how it encodes positions, those of the prompt too, which a tree cannot: use fewer new tokens."
        )


def check_tree(model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
    """Raise `InputError` if a tree gets other logits than a plain forward over each text alone.

    So it is for models that carry a state from token to token instead of attending to them, and for some only later in
    a text. Therefore the longest prompt is tried, with as many tokens as will be drawn, beside the shortest. The error
    allowed is 0.1 % of the logits' spread in 32 bit, and 20 % in fewer, where a mixture may route a token elsewhere.
    A model that passed is tried again only with a longer text.
    """
    longest, shortest = max(prompts, key=len), min(prompts, key=len)
    text = [*longest, *itertools.islice(itertools.cycle(longest), new_tokens)]
    if _TRIED.get(model, 0) >= len(text):
        return
    start = max(len(text) - 2, 1)  # the last tokens are grown, each beside another, which is to leave it alone
    found: list[Tensor] = []

    def children(numbers: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        if len(logits) != len(numbers):
            raise InputError(f"{refusal(model)}: it gives {len(logits)} logits where {len(numbers)} were asked for.")
        found.append(logits.float())
        token = [token for own in text[start:][len(found) - 1 : len(found)] for token in (text[0], own)]
        parent = numbers[0 if len(found) == 1 else -1].expand(len(token))
        return parent, torch.tensor(token, dtype=torch.long, device=model.device)

    def plain(ids: Sequence[int], keep: int) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = model(torch.tensor([ids], device=model.device), logits_to_keep=keep).logits[0].float()
        return logits

    try:
        walk(model, [text[:start], shortest], children)
        alone = plain(text, len(text) - start + 1)
        pairs = [(found[0][0], alone[start - 1 - len(text)]), (found[-1][-1], alone[-1])]
        pairs.append((found[0][1], plain(shortest, 1)[-1]))
    except Exception as error:  # whatever the model's own code comes up with
        if isinstance(error, InputError) or is_lack_of_memory(error):
            raise
        raise InputError(f"{refusal(model)}, as its own code fails there ({' '.join(str(error).split())}).") from error
    if alone.shape[-1] != model.config.get_text_config().vocab_size:
        raise InputError(f"{refusal(model)}: it gives {alone.shape[-1]} logits, and its config.json says otherwise.")
    off = max(error_share(*pair) for pair in pairs)
    if not off <= (1e-3 if precision_of(model) == "fp32" else 0.2):
        raise InputError(f"{refusal(model)}: its logits are off by {off:.1%} there.")
    _TRIED[model] = len(text)


def error_share(found: Tensor, plain: Tensor) -> float:
    """How far logits are from those of a plain forward, as a share of these one's spread."""
    off = torch.where(found == plain, 0.0, found - plain).norm()  # two may be infinite alike
    finite = plain[plain.isfinite()]
    spread = (finite - finite.mean()).norm() or finite.norm()  # none, where a single token can be drawn
    return (off / spread).item() if off else 0.0
