"""Text to token ids and back: the chat template, exactly one BOS, the tokens that end a text, what each token adds.

The module knows the tokenizer, and nothing of what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lmrel.answers import Verdict, verdict_after
from lmrel.errors import InputError, is_text, quoted
from lmrel.problems import Problem
from lmrel.prompts import render

AS_IS = {"clean_up_tokenization_spaces": False}


@dataclass(frozen=True)
class Prepared:
    """Problems that were checked, and the token ids of their prompts, in one order: what sampling trusts."""

    rows: Sequence[Problem]
    ids: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Prepared:
        return Prepared(self.rows[part], self.ids[part])

    @property
    def names(self) -> list[str]:
        """The problems' ids."""
        return [row["problem_id"] for row in self.rows]


def encode_problems(rows: Iterable[Problem], style: str, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of the prompts of `rows` in `style`: see `prompts.render` and `encode`."""
    return encode([render(row, style) for row in rows], tokenizer)


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of prompts, chat template applied where there is one, with one BOS if the tokenizer uses one.

    A templated string that is tokenized with special tokens gets a second BOS; hence no special tokens are
    added after templating, and one is added where the template leaves it out.
    """
    if not hasattr(tokenizer, "chat_template"):
        raise TypeError(f"a tokenizer is needed, as load_model gives one, not {type(tokenizer).__name__}")
    if not tokenizer.chat_template:
        return _tokenized(texts, tokenizer)
    templated = [_templated(text, tokenizer) for text in texts]
    if len(set(templated)) < len(set(texts)):
        raise InputError("the tokenizer's chat template leaves out what it is given: different prompts become one.")
    found = _tokenized(templated, tokenizer, add_special_tokens=False)
    bos = tokenizer.encode("")[:1]
    if bos != [tokenizer.bos_token_id]:
        return found
    return [ids if ids[:1] == bos else [*bos, *ids] for ids in found]


def _templated(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """`text` in the chat template: a program of the checkpoint, run in a sandbox, which raises what it likes."""
    chat = [{"role": "user", "content": text}]
    try:
        found = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise InputError(f"the tokenizer's chat template fails: {str(error) or type(error).__name__}") from error
    if not is_text(found):
        raise InputError(f"the tokenizer's chat template gives {found!r:.100}, which is no prompt.")
    return str(found)


def _tokenized(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, **options: Any) -> list[list[int]]:
    try:
        found: list[list[int]] = tokenizer(list(texts), **options)["input_ids"]
    except Exception as error:  # of its own kind, where a tokenizer has no token for what it does not know
        raise InputError(f"the tokenizer cannot read a prompt: {error}") from error
    return found


class PieceReader:
    """Applies `read` token by token; what a token adds to the text is looked up once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # SentencePiece drops a space at the start of a text, so a piece is read behind another one.
        self.anchor = tokenizer.encode("1", add_special_tokens=False)
        self.skip = len(tokenizer.decode(self.anchor, **AS_IS))
        self.pieces: dict[int, str] = {}

    def piece(self, token: int) -> str:
        """What `token` adds to a text that has begun."""
        if token not in self.pieces:
            text = self.tokenizer.decode([*self.anchor, token], skip_special_tokens=True, **AS_IS)
            self.pieces[token] = text[self.skip :]
        return self.pieces[token]

    def read(self, verdicts: Tensor, tokens: Tensor) -> Tensor:
        """The verdict of each child, from its parent's and its token."""
        pairs = zip(verdicts.tolist(), tokens.tolist(), strict=True)
        return torch.tensor([verdict_after(Verdict(v), self.piece(t)) for v, t in pairs], device=tokens.device)


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the checkpoint's generation config's, or else the tokenizer's."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return []
    ids = list(configured) if isinstance(configured, (list, tuple)) else [configured]
    size = model.config.get_text_config().vocab_size
    if not all(isinstance(token, int) and not isinstance(token, bool) and 0 <= token < size for token in ids):
        raise InputError(f"the end-of-text token is {quoted(configured)}; this model has tokens from 0 to {size - 1}.")
    return ids
