"""An OpenAI-compatible server and how it is asked for one answer: found, tried, and its errors put into sentences.

The client is the `openai` package, which retries and waits by itself. A key is read from the environment variable
OPENAI_API_KEY, and stands in no message.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from lmrel.decoding import Decoder
from lmrel.errors import InputError, guess, quoted
from lmrel.parameters import ChatTemplate, served
from lmrel.prompts import check_untemplated

RETRIES, TIMEOUT = 6, 600.0  # tries after the first, within half a minute or as the server asks; seconds for an answer
NO_KEY = "no-key"  # what servers that want none are sent
NEUTRAL = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # knobs, each where it is off
BEYOND = ("top_k", "min_p", "repetition_penalty", "seed")  # that a server may read or pass over without a word
ASIDE = ("seed", "logprobs", "return_token_ids")  # fields that change no distribution


@dataclass(frozen=True)
class Server:
    """A server that was tried: how it is asked, what it refuses, and what is not known to be honoured."""

    client: Any = field(repr=False)  # it holds the key
    url: str
    name: str
    system: str | None
    chat: bool
    own: Mapping[str, Any] = field(default_factory=dict)  # arguments of the model's chat template
    refused: frozenset[str] = frozenset()
    unverified: tuple[str, ...] = ()
    logprobs: str = "none"

    def prompt(self, text: str) -> Any:
        """What is sent for `text`: the text as it is, or messages for the server to put into its chat template."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": text}] if self.chat else text

    def shown(self, text: str) -> str:
        """`prompt` as a draw records it; messages as JSON."""
        return json.dumps(self.prompt(text), ensure_ascii=False) if self.chat else text

    def fields(self, decoder: Decoder, seed: int) -> dict[str, Any]:
        """A request's fields beside model and prompt: every knob, also one that is off, so that none is inherited."""
        sent = {
            "temperature": decoder.temperature,
            "top_p": decoder.top_p,
            "top_k": decoder.top_k or NEUTRAL["top_k"],  # 0 is off here; servers take -1, and not all take 0
            "min_p": decoder.min_p,
            "repetition_penalty": decoder.repetition_penalty,
            "max_tokens": decoder.max_new_tokens,
            **({"stop": list(decoder.stop_strings)} if decoder.stop_strings else {}),
            "seed": seed,
            "logprobs": True if self.chat else 1,
            "return_token_ids": True,
            **({"chat_template_kwargs": dict(self.own)} if self.own else {}),
        }
        return {k: v for k, v in sent.items() if k not in self.refused or not (k in ASIDE or v == NEUTRAL.get(k))}

    def send(self, text: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """One answer, as columns of a draw. Raises the client's errors, and `InputError` for what is no answer."""
        prompt, asked = self.prompt(text), {"model": self.name, "extra_body": fields}
        if self.chat:
            raw = self.client.chat.completions.with_raw_response.create(messages=prompt, **asked)
        else:
            raw = self.client.completions.with_raw_response.create(prompt=prompt, **asked)
        try:
            return _answer(json.loads(raw.content), bool(fields.get("stop")))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            said = quoted(self._without_key(raw.content.decode(errors="replace")))
            raise InputError(f"{self.url} answers what is no completion: {said}") from None

    def ask(self, text: str, decoder: Decoder, seed: int) -> dict[str, Any]:
        """`send`, with an `InputError` for whatever goes wrong."""
        try:
            return self.send(text, self.fields(decoder, seed))
        except _openai().OpenAIError as error:
            raise self.failure(error) from None  # whose own message may repeat the key

    def failure(self, error: Any, hint: str = "") -> InputError:
        """What one of the client's errors means, in a sentence."""
        status, said = getattr(error, "status_code", None), quoted(self._without_key(_told(error)))
        if isinstance(error, _openai().APITimeoutError):
            return InputError(f"{self.url} has not answered within {TIMEOUT:g} seconds.")
        if status is None:
            cause = self._without_key(str(error.__cause__ or error))
            return InputError(f"{self.url} cannot be reached: {quoted(cause)}. Is the server running?")
        if status == 401:
            return InputError(f"{self.url} refuses the key (401): set OPENAI_API_KEY in the environment to its own.")
        if status == 429:
            return InputError(
                f"{self.url} still answers 429, too many requests: {said}. "
                "Ask for fewer requests_at_once, or start again later; finished parts are kept."
            )
        return InputError(f"{self.url} answers {status}: {said}.{hint}")

    def _without_key(self, text: str) -> str:
        key = self.client.api_key
        return text if key == NO_KEY else text.replace(key, "\N{HORIZONTAL ELLIPSIS}")

    @property
    def record(self) -> dict[str, Any]:
        """How it is asked, for run.json."""
        endpoint = "chat/completions" if self.chat else "completions"
        return {"url": self.url, "model": self.name, "endpoint": endpoint, "refused": sorted(self.refused)}

    @property
    def remarks(self) -> list[str]:
        """What a user should know before draws are made, a sentence each."""
        said = [f"{self.url} is asked at {self.record['endpoint']}."]
        if self.refused:
            said.append(f"It refuses {', '.join(sorted(self.refused))}: its own defaults hold, whatever they are.")
        if self.unverified:
            said.append(f"Whether it honours {', '.join(self.unverified)} is not known.")
        return said


def connect(
    model: str,
    text: str,
    decoders: Sequence[Decoder],
    system: str | None = None,
    chat_template: ChatTemplate = "auto",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Server:
    """The server of `model`, ``URL#NAME``, once it has answered the prompt `text` with each of `decoders`.

    Fields that it refuses are left out from then on if they ask for nothing; otherwise they raise an `InputError`, as
    do a server that cannot be reached, a key that it refuses, and a model that it does not list. With `chat_template`
    ``"auto"`` it is asked at its chat endpoint, and where that or the model's template is missing, as with ``"off"``,
    at the one for completions.
    """
    found = served(model)
    if found is None:
        raise InputError(f"model is {quoted(model)}; a server's is URL#NAME, such as http://localhost:8000/v1#NAME.")
    for decoder in decoders:
        if decoder.stop != "eos" or decoder.typical_p != 1:
            raise InputError("a decoder has stop='decided' or typical_p, which servers do not know.")
    if chat_template == "off":
        check_untemplated(system, chat_template_kwargs)
    key = os.environ.get("OPENAI_API_KEY", "").strip() or NO_KEY
    if not (key.isascii() and key.isprintable()):
        raise InputError("OPENAI_API_KEY holds characters that no key has.")
    client = _openai().OpenAI(base_url=found[0], api_key=key, max_retries=RETRIES, timeout=TIMEOUT)
    server = Server(client, *found, system, chat=chat_template == "auto", own=chat_template_kwargs or {})
    _check_listed(server)
    for decoder in decoders:
        server, answer = _tried(server, text, decoder)
    if math.isfinite(answer["mean_logprob"]):
        server = replace(server, logprobs="the server's own; whether raw or processed is not known")
    unverified = [name for name in BEYOND if name not in server.refused]
    if any(not decoder.greedy for decoder in decoders):
        # No server refuses temperature 2; where texts such as these are all alike, they were hardly drawn.
        texts = {server.ask("Numbers at random:", Decoder(2.0), seed)["text"] for seed in range(4)}
        unverified += ["temperature"] if len(texts) == 1 else []
    return replace(server, unverified=tuple(unverified))


def _openai() -> Any:
    try:
        import openai
    except ImportError:
        raise InputError("model is on a server, and the client is not installed: pip install openai.") from None
    return openai


def _check_listed(server: Server) -> None:
    """Raise `InputError` for a server that cannot be reached, or that lists models and not this one."""
    openai = _openai()
    try:
        listed = server.client.with_options(max_retries=0, timeout=30.0).models.list()
        names = [str(each.id) for each in listed.data]
    except (openai.APIConnectionError, openai.AuthenticationError) as error:
        raise server.failure(error) from None
    except (openai.OpenAIError, ValueError, AttributeError, TypeError):
        return  # not every server has a list
    if names and server.name not in names:
        some = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        hint = guess(server.name, names)
        raise InputError(f"{server.url} does not list the model {quoted(server.name)}; it lists {some}.{hint}")


def _tried(server: Server, text: str, decoder: Decoder) -> tuple[Server, dict[str, Any]]:
    """The server as it takes requests with `decoder`, and its answer to the first one that it took."""
    openai = _openai()
    while True:
        fields = server.fields(decoder, seed=0)
        try:
            return server, server.send(text, fields)
        except openai.OpenAIError as error:
            status, said = getattr(error, "status_code", None), _told(error)
            refuses = status in (400, 422) and [name for name in fields if re.search(rf"\b{name}\b", said)]
            if refuses and all(name in ASIDE or fields[name] == NEUTRAL.get(name) for name in refuses):
                server = replace(server, refused=server.refused.union(refuses))
            elif server.chat and (status == 404 or (status == 400 and re.search("chat.?template", said))):
                if server.system is not None:
                    raise InputError(f"system is given, and {server.url} has no chat template for it.") from None
                server = replace(server, chat=False)
            else:
                hint = " With chat_template='off' the text is completed without one." if server.chat else ""
                raise server.failure(error, hint if status not in (401, 403, 429) else "") from None


def _told(error: Any) -> str:
    """What a server said of a request that failed: the whole response, since servers differ in where they say it."""
    return str(error.response.text) if hasattr(error, "response") else str(error)


def _answer(body: dict[str, Any], stop_strings: bool) -> dict[str, Any]:
    """The columns of a draw that a response holds. Raises whatever comes of one that is not as it should be."""
    choice = body["choices"][0]
    text = (choice["message"]["content"] or "") if "message" in choice else choice["text"]
    found = choice.get("logprobs") or {}
    tokens = found.get("content") or []  # chat's form, which llama.cpp uses everywhere; it has the ids too
    logprobs = [token["logprob"] for token in tokens] or found.get("token_logprobs") or []
    if not all(isinstance(value, Real) for value in logprobs):
        logprobs = []
    ids = choice.get("token_ids") or [token["id"] for token in tokens if isinstance(token.get("id"), int)]
    count = (body.get("usage") or {}).get("completion_tokens") or len(logprobs) or len(ids) or None
    ended = "eos" if choice["finish_reason"] == "stop" else "length"
    # vLLM and SGLang name the string, or say None where it was the model that ended; of others it is not known.
    if ended == "eos" and stop_strings and choice.get("stop_reason", "") is not None:
        ended = "stop_string"
    return {
        "text": text.encode(errors="replace").decode(),
        "token_ids": [int(token) for token in ids],
        "n_tokens": count,
        "finished": ended == "eos",
        "ended": ended,
        "mean_logprob": sum(logprobs) / len(logprobs) if logprobs else math.nan,
    }
