"""Whether a model can be run by this engine at all: tried before a run, on its own first prompt."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

import torch
from transformers import PreTrainedModel

from lmrel.engine.forest import walk
from lmrel.errors import InputError
from lmrel.precision import precision_of

_TREES: WeakSet[PreTrainedModel] = WeakSet()  # models that passed `check_tree`


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
    if context > limit:
        raise InputError(f"a prompt and {new_tokens} new tokens need {context} positions; this model has {limit}.")
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and context > window:
        raise InputError(
            f"a prompt and {new_tokens} new tokens are {context}; this model attends to the last {window} only."
        )


def check_tree(model: PreTrainedModel, prompt: Sequence[int]) -> None:
    """Raise `InputError` if a branch of a tree gets other logits than a plain forward over the same tokens.

    So it is for models that carry a state from token to token instead of attending to them. The error allowed is 0.1 %
    of the logits' spread in 32 bit, and 20 % in fewer, where a mixture may route a token elsewhere. A model that passed
    is not tried again.
    """
    if model in _TREES:
        return
    ends = [prompt[-1], prompt[0]]
    found: list[torch.Tensor] = []

    def children(numbers: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found.append(logits[-1].float())
        grown = [([1, 1], ends), ([3], ends[:1]), ([], [])][len(found) - 1]
        parent, token = (torch.tensor(column, dtype=torch.long, device=model.device) for column in grown)
        return parent, token

    refusal = f"{type(model).__name__} cannot be run as a tree of prefixes"
    try:
        walk(model, [[*prompt, *ends], prompt], children)
        path = torch.tensor([[*prompt, prompt[0], prompt[-1]]], device=model.device)
        with torch.inference_mode():
            plain = model(path).logits[0, -1].float()
    except (InputError, torch.OutOfMemoryError):
        raise
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{refusal}: {' '.join(str(error).split())}.") from error
    if len(plain) != model.config.get_text_config().vocab_size:
        raise InputError(f"{refusal}: it gives {len(plain)} logits, and its config.json says otherwise.")
    off = torch.where(found[-1] == plain, 0.0, found[-1] - plain).norm()  # two may be infinite alike
    finite = plain[plain.isfinite()]
    spread = (finite - finite.mean()).norm() or finite.norm()  # none, where a single token can be drawn
    error_share = (off / spread).item() if off else 0.0
    if not error_share <= (1e-3 if precision_of(model) == "fp32" else 0.2):
        raise InputError(f"{refusal}: its logits are off by {error_share:.1%} there.")
    _TREES.add(model)
