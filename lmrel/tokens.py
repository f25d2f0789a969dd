"""Text to token ids and back: the chat template, exactly one BOS, the tokens that end a text, what each token adds.

The module knows the tokenizer, and nothing of what is asked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template

from lmrel.answers import Verdict, verdict_after
from lmrel.errors import InputError, is_text, quoted
from lmrel.problems import Problem
from lmrel.prompts import check_untemplated, rendered

AS_IS = {"clean_up_tokenization_spaces": False}
TODAY = date(2026, 1, 1)  # in chat templates that write the date: a prompt must not change with the clock
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # stands for a token that the tokenizer does not know


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


def encode_problems(
    rows: Iterable[Problem],
    style: str,
    tokenizer: PreTrainedTokenizerBase,
    template: str | None = None,
    system: str | None = None,
    chat_template: str = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Token ids of the prompts of `rows` in `style`, or in the file `template`: see `prompts.render` and `encode`."""
    return encode(rendered(rows, style, template), tokenizer, system, chat_template, chat_template_kwargs)


def encode(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    system: str | None = None,
    chat_template: str = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Token ids of prompts, with one BOS if the tokenizer uses one.

    Where the tokenizer has a chat template it is applied, with the message `system` first if there is one, unless
    `chat_template` is ``"off"``; `chat_template_kwargs` are arguments that the template itself knows, such as
    ``enable_thinking``. A templated string that is tokenized with special tokens gets a second BOS; hence no special
    tokens are added after templating, and one is added where the template leaves it out.
    """
    if not hasattr(tokenizer, "chat_template"):
        raise TypeError(f"a tokenizer is needed, as load_model gives one, not {type(tokenizer).__name__}")
    _refuse_special([*texts, *([] if system is None else [system])], tokenizer)
    if not tokenizer.chat_template or chat_template == "off":
        check_untemplated(system, chat_template_kwargs)
        before, found = _put_before(tokenizer, texts[0]), _tokenized(texts, tokenizer)
        return [[*before, *ids] for ids in found]
    for name in chat_template_kwargs or {}:
        if not re.search(rf"\b{name}\b", str(tokenizer.get_chat_template())):
            raise InputError(f"chat_template_kwargs has {quoted(name)}, which the model's chat template does not use.")
    templated = [_templated(text, tokenizer, system, chat_template_kwargs or {}) for text in texts]
    if len(set(templated)) < len(set(texts)):
        raise InputError("the tokenizer's chat template leaves out what it is given: different prompts become one.")
    bos, found = _put_before(tokenizer, texts[0])[:1], _tokenized(templated, tokenizer)
    if bos != [tokenizer.bos_token_id]:
        return found
    return [ids if ids[:1] == bos else [*bos, *ids] for ids in found]


def _refuse_special(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` if a special token stands in one of `texts`, before a template adds its own.

    One for what is unknown may come of any text; it is refused only where it is written out.
    """
    roles = set(tokenizer.all_special_ids)  # of tokens that are no text: an end may be one that is, such as a line's
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special or i in roles}
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    for text, ids in zip(texts, _tokenized(texts, tokenizer), strict=True):
        for name in map(str, tokenizer.convert_ids_to_tokens(sorted(special.intersection(ids)))):
            if name in text or (normalizer and name in normalizer.normalize_str(text)):
                raise InputError(
                    f"a prompt holds {quoted(name)}, which this tokenizer reads as a special token and no text."
                )


def _put_before(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The special tokens that a tokenizer puts before any text; those that it puts behind one would end a prompt."""
    [plain], [whole] = _tokenized([text], tokenizer), _tokenized([text], tokenizer, add_special_tokens=True)
    starts = range(len(whole) - len(plain) + 1)
    return next((whole[:start] for start in starts if whole[start : start + len(plain)] == plain), [])


def _templated(text: str, tokenizer: PreTrainedTokenizerBase, system: str | None, own: Mapping[str, Any]) -> str:
    """`text` in the chat template: a program of the checkpoint, run in a sandbox, which raises what it likes."""
    chat: list[Any] = [] if system is None else [{"role": "system", "content": system}]
    chat.append({"role": "user", "content": text})
    try:
        # transformers keeps a compiled template, and hands it the clock; a template's own globals come first.
        _compile_jinja_template(tokenizer.get_chat_template()).globals["strftime_now"] = TODAY.strftime
        found = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True, **own)
    except Exception as error:
        raise InputError(f"the tokenizer's chat template fails: {str(error) or type(error).__name__}") from error
    if not is_text(found):
        raise InputError(f"the tokenizer's chat template gives {found!r:.100}, which is no prompt.")
    return str(found)


def _tokenized(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, add_special_tokens: bool = False
) -> list[list[int]]:
    try:
        found: list[list[int]] = tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"]
    except Exception as error:  # of its own kind, where a tokenizer has no token for what it does not know
        raise InputError(f"the tokenizer cannot read a prompt: {error}") from error
    return found


def written(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, ends: Collection[int] = ()) -> str:
    """The text of an answer's token ids, but for one of `ends` as its last.

    Any other special token is spelled out, and one that the tokenizer does not know is a replacement character: left
    out, it would join what stands on its two sides.
    """
    ids = ids[:-1] if ids and ids[-1] in ends else ids
    size = len(tokenizer)
    known = [token < size and tokenizer.convert_ids_to_tokens(token) is not None for token in ids]
    if all(known):
        return str(tokenizer.decode(ids, **AS_IS))
    runs = [
        (there, [token for token, _ in run]) for there, run in groupby(zip(ids, known, strict=True), lambda x: x[1])
    ]
    return "".join(tokenizer.decode(run, **AS_IS) if there else UNREADABLE * len(run) for there, run in runs)


class PieceReader:
    """Applies `read` token by token; what a token adds to the text is looked up once. `ends` add nothing to it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> None:
        self.tokenizer = tokenizer
        # SentencePiece drops a space at the start of a text, so a piece is read behind another one.
        self.anchor = tokenizer.encode("1", add_special_tokens=False)
        self.skip = len(written(self.anchor, tokenizer))
        self.pieces = dict.fromkeys(ends, "")
        self.checked = False

    def _check(self) -> None:
        """Raise `InputError` if a token reads otherwise once another follows, as where "@@" joins it to that one."""
        self.checked = True
        ids = self.tokenizer.encode("1 2 34 5x", add_special_tokens=False)
        alone = "".join(map(self.piece, ids))
        if written([*self.anchor, *ids], self.tokenizer)[self.skip :] != alone:
            raise InputError(
                "this tokenizer's tokens read otherwise once others follow, so no text can be read token by token: "
                "only stop='eos' without stop strings works."
            )

    def piece(self, token: int) -> str:
        """What `token` adds to a text that has begun."""
        if not self.checked:
            self._check()
        if token not in self.pieces:
            self.pieces[token] = written([*self.anchor, token], self.tokenizer)[self.skip :]
        return self.pieces[token]

    def read(self, verdicts: Tensor, tokens: Tensor) -> Tensor:
        """The verdict of each child, from its parent's and its token."""
        pairs = zip(verdicts.tolist(), tokens.tolist(), strict=True)
        return torch.tensor([verdict_after(Verdict(v), self.piece(t)) for v, t in pairs], device=tokens.device)


def eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text, in ascending order: all that generation config, config or tokenizer name.

    They may differ, as after a fine-tune on chats. Raises `InputError` for one that the model does not have.
    """
    config, shipped = model.config.get_text_config(), model.generation_config
    sources = [tokenizer.eos_token_id, shipped.eos_token_id if shipped else None]
    # A config whose file names none has that of its class, which may be any word of another's vocabulary.
    if sources[1] is None or config.eos_token_id != getattr(type(config), "eos_token_id", None):
        sources.append(config.eos_token_id)
    ids = [token for found in sources for token in (found if isinstance(found, (list, tuple)) else [found])]
    size = config.vocab_size
    for token in ids:
        if token is not None and (not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < size):
            raise InputError(f"the end-of-text token is {quoted(token)}; this model has tokens from 0 to {size - 1}.")
    return sorted({token for token in ids if token is not None})
