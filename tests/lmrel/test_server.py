"""Against a server that no one here wrote, and, for faults, one that answers as it is told."""

from __future__ import annotations

import json
import math
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lmrel import Decoder, InputError, client, enumerate_outcomes, paper_problems, records, sample, server
from lmrel.parameters import Serving, served
from lmrel.registry import CHECKPOINTS
from study import origins
from study.run import Run
from tests.conftest import tiny
from tests.servers import CHAT, COMPLETIONS, MODELS, Fake, Reply, TransformersServe, chat, completion, free_port, usual
from tests.study.test_parameters import cases, refusal

PROBLEMS = paper_problems().iloc[[0, 1, 120, 121]]
GREEDY, WARM = Decoder(0.0), Decoder(1.0)
KEY = "sk-a-secret-0123456789"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransformersServe]:
    running = TransformersServe(tmp_path_factory.mktemp("home"))
    yield running
    running.kill()


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that the real server draws from: others it decodes greedily, whatever temperature it is asked for."""
    folder = tmp_path_factory.mktemp("models") / "sampled"
    shutil.copytree(CHECKPOINTS / "tiny-sparse-instruct", folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_sample": True, "top_k": 0}))
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fake]]:
    """Starts fakes that answer as they are told, by default as usual."""
    monkeypatch.setattr(client, "RETRIES", 2)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    started: list[Fake] = []

    def start(respond: Callable[[str, dict[str, Any]], Reply] = usual) -> Fake:
        started.append(Fake(respond))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize(("name", "chat_template"), [("tiny-dense-instruct", "auto"), ("tiny-dense-base", "off")])
def test_greedy_texts_of_a_real_server_are_the_engines(
    real: TransformersServe, name: str, chat_template: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"{real.url}#{CHECKPOINTS / name}"
    there = server.sample(asked, PROBLEMS, [GREEDY], chat_template=chat_template)
    here = sample(*tiny(name), PROBLEMS, [GREEDY], chat_template=chat_template)
    assert list(there.columns) == list(here.columns) == records.DRAWS_SCHEMA.names
    same = ["decoding", "decoder", "temperature", "run", "problem_id", "task", "cluster", "expected", "text"]
    same += ["n_tokens", "extracted", "correct", "compliant", "failure"]
    pd.testing.assert_frame_equal(there[same], here[same])
    assert set(there["model"]) == {asked}
    assert set(there["precision"]) == {"served"}
    assert there["token_ids"].map(len).sum() == 0
    assert there["mean_logprob"].isna().all()
    said = capsys.readouterr().err
    assert f"is asked at {'chat/completions' if chat_template == 'auto' else 'completions'}." in said
    assert "refuses min_p, repetition_penalty, return_token_ids, top_k: its own defaults hold" in said


def test_how_often_a_real_server_is_right_is_what_is_exact(
    real: TransformersServe, sampled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problem, runs = PROBLEMS.iloc[[3]], 100
    server.sample(f"{real.url}#{CHECKPOINTS / 'tiny-sparse-instruct'}", problem, [WARM], runs=1)
    assert "Whether it honours seed, temperature is not known." in capsys.readouterr().err  # it does not
    given = (f"{real.url}#{sampled}", problem, [WARM])
    draws = server.sample(*given, runs=runs, requests_at_once=1)  # it seeds one generator for all requests under way
    assert "Whether it honours seed is not known." in capsys.readouterr().err
    bounds = enumerate_outcomes(*tiny("tiny-sparse-instruct"), problem, temperatures=[1.0], tolerance=0.01)
    low, high = bounds.query("metric == 'correct'")[["lower", "upper"]].to_numpy()[0]
    assert 0.1 < low <= high < 0.9
    four = 4 * math.sqrt(high * (1 - high) / runs)
    assert low - four < draws["correct"].mean() < high + four
    again = server.sample(*given, runs=5, first_run=3, requests_at_once=1)
    assert list(again["run"]) == [3, 4]
    assert list(again["text"]) == list(draws["text"][3:5])  # the seeds of runs 3 and 4, which it honours


def test_a_run_goes_on_when_its_server_was_killed(
    real: TransformersServe, sampled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "RETRIES", 1)
    monkeypatch.setattr(origins, "SERVED_PART", 2)
    given: dict[str, Any] = {"model": f"{real.url}#{sampled}", "temperatures": [0.0, 1.0], "runs": 2, "limit": 2}
    whole, _ = Run(**given, output_dir=str(tmp_path / "whole"), requests_at_once=1).carry_out(progress=False)
    ask, asked, deadly = (
        client.Server.ask,
        list[str](),
        4 + 6 + 2,
    )  # what tries the temperature, a part, some of another

    def counted(self: client.Server, text: str, *more: Any) -> Any:
        asked.append(text)
        if len(asked) == deadly:
            real.kill()
        return ask(self, text, *more)

    monkeypatch.setattr(client.Server, "ask", counted)
    with pytest.raises(InputError, match=f"^{real.url} cannot be reached: .*Is the server running"):
        Run(**given, output_dir=str(tmp_path / "run"), requests_at_once=1).carry_out(progress=False)
    assert len(list((tmp_path / "run" / ".parts").glob("*.parquet"))) == 1
    real.start()
    deadly = 0
    asked.clear()
    draws, _ = Run(**given, output_dir=str(tmp_path / "run"), requests_at_once=1).carry_out(progress=False)
    assert len(asked) == 4 + 6  # the first part was not asked again
    pd.testing.assert_frame_equal(draws, whole)


def test_a_request_holds_every_knob_and_a_seed_of_its_problem_and_run(fake: Callable[..., Fake]) -> None:
    running = fake()
    decoders = [Decoder(0.5), Decoder(1.0, top_k=5, stop_strings=("\n",), max_new_tokens=9)]
    draws = server.sample(
        running.model, PROBLEMS.head(2), decoders, runs=3, seed=1, system="Be brief.", requests_at_once=1
    )
    assert len(draws) == 2 * 2 * 3
    path, last = running.asked[-1]
    assert path == CHAT
    knobs = {"temperature": 1.0, "top_p": 1.0, "top_k": 5, "min_p": 0.0, "repetition_penalty": 1.0, "max_tokens": 9}
    more = {"model": "m", "stop": ["\n"], "logprobs": True, "return_token_ids": True}
    system, user = last["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert {**knobs, **more, "seed": last["seed"], "messages": [system, user]} == last
    assert json.loads(draws["prompt"].iloc[-1]) == [system, user]
    bodies = [body for _, body in running.asked[-12:]]
    assert [body["top_k"] for body in bodies if body["temperature"] == 0.5] == [-1] * 6  # off, and said to be
    assert "stop" not in next(body for body in bodies if body["temperature"] == 0.5)
    seeds = {name: server.request_seed(1, name, 2) for name in PROBLEMS["problem_id"].head(2)}
    for body in bodies:
        of_run = [server.request_seed(1, name, run) for name in seeds for run in range(3)]
        assert body["seed"] in of_run
    assert len({body["seed"] for body in bodies}) == 6  # both decoders have the same
    assert server.request_seed(1, "vb-000", 2) != server.request_seed(2, "vb-000", 2)


def test_no_more_requests_are_under_way_than_were_asked_for(fake: Callable[..., Fake]) -> None:
    together, lock, under_way, most = threading.Barrier(3), threading.Lock(), [0], [0]

    def respond(path: str, body: dict[str, Any]) -> Reply:
        if path == MODELS or len(running.asked) == 1:  # the one that tries the decoder
            return usual(path, body)
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        together.wait(timeout=60)  # three are under way at once, or this fails
        with lock:
            under_way[0] -= 1
        return usual(path, body)

    running = fake(respond)
    server.sample(running.model, paper_problems().head(12), [GREEDY], requests_at_once=3)
    assert most == [3]
    assert len(running.asked) == 13


LOGPROBS = {
    "completions": (completion(logprobs={"token_logprobs": [-1.0, -3.0], "tokens": ["a", "b"]}), []),
    "vLLM's": (completion(logprobs={"token_logprobs": [-1.0, -3.0]}, token_ids=[5, 2]), [5, 2]),
    "llama.cpp's": (completion(logprobs={"content": [{"id": 5, "logprob": -1}, {"id": 2, "logprob": -3}]}), [5, 2]),
    "chat": (chat(logprobs={"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -3.0}]}), []),
}


@pytest.mark.parametrize("form", LOGPROBS)
def test_log_probs_and_token_ids_are_taken_where_they_are_given(fake: Callable[..., Fake], form: str) -> None:
    reply, ids = LOGPROBS[form]
    running = fake(lambda path, body: usual(path, body) if path == MODELS else reply)
    draws = server.sample(running.model, PROBLEMS.head(1), [GREEDY], chat_template="auto" if form == "chat" else "off")
    assert list(draws["mean_logprob"]) == [-2.0]
    assert draws["mean_logprob_processed"].isna().all()
    assert list(draws["token_ids"]) == [ids]
    assert list(draws["n_tokens"]) == [2]


@pytest.mark.parametrize(
    ("choice", "finished"),
    [
        ({"finish_reason": "stop"}, True),
        ({"finish_reason": "length"}, False),
        ({"finish_reason": "content_filter"}, False),
        ({"finish_reason": "stop", "stop_reason": "\n"}, False),
    ],
)
def test_a_text_is_finished_where_the_model_ended_it(
    fake: Callable[..., Fake], choice: dict[str, Any], finished: bool
) -> None:
    running = fake(lambda path, body: usual(path, body) if path == MODELS else chat(**choice))
    decoder = Decoder(0.0, stop_strings=("\n",) if "stop_reason" in choice else ())
    assert list(server.sample(running.model, PROBLEMS.head(1), [decoder])["finished"]) == [finished]


def test_a_response_without_counts_or_text_is_a_draw_all_the_same(fake: Callable[..., Fake], tmp_path: Path) -> None:
    bare = {"choices": [{"message": {"content": None}, "finish_reason": "stop", "logprobs": {"content": None}}]}
    half = {"choices": [{"message": {"content": "7\ud800"}, "finish_reason": "stop"}]}
    for reply, text in ((bare, ""), (half, "7?")):
        running = fake(lambda path, body, reply=reply: usual(path, body) if path == MODELS else (200, reply))
        draws = Run(running.model, limit=1, temperatures=(0.0,), output_dir=str(tmp_path / text)).carry_out(False)[0]
        assert list(draws["text"]) == [text] * 2
        assert draws["n_tokens"].isna().all()


def faulty(status: int, body: Any = None, **only: Any) -> Callable[[str, dict[str, Any]], Reply]:
    """A server that answers requests with an error."""
    return lambda path, request: (
        usual(path, request) if path == MODELS else (status, body or {"error": {"message": "no"}})
    )


FAULTS: dict[str, tuple[Callable[[str, dict[str, Any]], Reply], str]] = {
    "wrong key": (
        lambda *_: (401, {"error": {"message": f"Incorrect key: {KEY}"}}),
        r"refuses the key \(401\): set OPEN",
    ),
    "key repeated": (faulty(403, {"error": f"{KEY} may not"}), "answers 403: .*may not.*"),
    "too many": (
        faulty(429, {"error": {"message": f"slow down, {KEY}"}}),
        "still answers 429, too many requests: .*slow",
    ),
    "broken": (faulty(500), "answers 500: .*no.*chat_template='off'"),
    "other model": (
        lambda *_: (200, {"data": [{"id": "a"}, {"id": "b"}]}),
        "does not list the model 'm'; it lists a, b",
    ),
    "mistyped": (
        lambda *_: (200, {"data": [{"id": f"mm{i}"} for i in range(30)]}),
        "does not list the model 'm'; it lists mm0, .*, mm19 and 10 more",
    ),
    "no endpoint": (faulty(404, {"detail": "Not Found"}), "answers 404: .*Not Found"),
    "no JSON": (
        lambda path, body: usual(path, body) if path == MODELS else (200, b"{"),
        "answers what is no completion: '{'",
    ),
    "page": (lambda *_: (200, f"<html>{KEY}".encode()), "answers what is no completion: '<html>"),
    "no choice": (faulty(200, {"choices": []}), "answers what is no completion"),
    "list": (faulty(200, [1]), "answers what is no completion"),
    "number": (faulty(200, {"choices": [{"text": 5, "finish_reason": "stop"}]}), "answers what is no completion"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_without_the_key(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    respond, said = FAULTS[fault]
    running = fake(respond)
    with pytest.raises(InputError, match=f"^{running.model[:-2]} {said}") as found:
        server.sample(running.model, PROBLEMS, [WARM])
    assert KEY not in str(found.value)
    assert "\n" not in str(found.value)
    assert (
        found.value.__suppress_context__ or not found.value.__context__
    )  # what the client says itself may repeat the key
    assert running.keys == {f"Bearer {KEY}"}


def test_a_server_that_stumbles_is_asked_again(fake: Callable[..., Fake]) -> None:
    running = fake(lambda path, body: (500, {}) if body and len(running.asked) in (1, 4, 5) else usual(path, body))
    draws = server.sample(running.model, PROBLEMS, [GREEDY], requests_at_once=1)
    assert list(draws["text"]) == [" 7"] * 4
    assert len(running.asked) == 1 + 4 + 3


def test_a_server_that_is_not_there_or_hangs_is_named(
    fake: Callable[..., Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(InputError, match=f"^{gone} cannot be reached: .*[Rr]efused"):
        server.sample(f"{gone}#m", PROBLEMS, [GREEDY])
    monkeypatch.setattr(client, "RETRIES", 0)
    monkeypatch.setattr(client, "TIMEOUT", 0.2)
    ended = threading.Event()
    running = fake(lambda path, body: usual(path, body) if path == MODELS else (ended.wait(60), usual(path, body))[1])
    with pytest.raises(InputError, match=r"has not answered within 0\.2 seconds"):
        server.sample(running.model, PROBLEMS, [GREEDY])
    ended.set()


@pytest.mark.parametrize(
    "reply", [(404, {"detail": "Not Found"}), (400, {"error": "you must provide a chat template"})]
)
def test_without_a_chat_endpoint_or_template_texts_are_completed(
    fake: Callable[..., Fake], reply: Reply, capsys: pytest.CaptureFixture[str]
) -> None:
    running = fake(lambda path, body: reply if path == CHAT else usual(path, body))
    draws = server.sample(running.model, PROBLEMS.head(1), [GREEDY])
    assert "is asked at completions." in capsys.readouterr().err
    assert [path for path, _ in running.asked] == [CHAT, COMPLETIONS, COMPLETIONS]
    assert draws["prompt"].iloc[0] == running.asked[-1][1]["prompt"]
    with pytest.raises(InputError, match="^system is given, and .* has no chat template for it"):
        server.sample(running.model, PROBLEMS.head(1), [GREEDY], system="Be brief.")


def test_what_is_refused_is_left_out_only_if_it_asks_for_nothing(
    fake: Callable[..., Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    def picky(path: str, body: dict[str, Any]) -> Reply:
        for name in ("min_p", "seed"):
            if name in body:
                return 400, {"error": {"message": f"Unrecognized request argument supplied: {name}"}}
        return usual(path, body)

    running = fake(picky)
    server.sample(running.model, PROBLEMS.head(1), [WARM], runs=1)
    assert not {"min_p", "seed"} & running.asked[-1][1].keys()
    said = capsys.readouterr().err
    assert "It refuses min_p, seed: its own defaults hold, whatever they are." in said
    assert "Whether it honours top_k, repetition_penalty, temperature is not known." in said  # all texts were alike
    with pytest.raises(InputError, match="answers 400: .*min_p"):  # though the first decoder does without
        server.sample(running.model, PROBLEMS.head(1), [WARM, Decoder(1.0, min_p=0.1)])


def test_what_no_server_can_be_asked_is_refused_before_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9/v1#m"
    for decoder in (Decoder(1.0, stop="decided"), Decoder(1.0, typical_p=0.5)):
        with pytest.raises(InputError, match="stop='decided' or typical_p, which servers do not know"):
            server.sample(nowhere, PROBLEMS, [decoder])
    with pytest.raises(InputError, match="system is given, and no chat template"):
        server.sample(nowhere, PROBLEMS, [GREEDY], system="Be brief.", chat_template="off")
    with pytest.raises(InputError, match="nothing to sample"):
        server.sample(nowhere, PROBLEMS, [GREEDY], first_run=1)
    with pytest.raises(InputError, match=r"^model is 'tiny'; a server's is URL#NAME"):
        server.sample("tiny", PROBLEMS, [GREEDY])
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\u00e9")
    with pytest.raises(InputError, match="^OPENAI_API_KEY holds characters that no key has"):
        server.sample(nowhere, PROBLEMS, [GREEDY])
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match="the client is not installed: pip install openai"):
        server.sample(nowhere, PROBLEMS, [GREEDY])
    for name in Serving.__pydantic_fields__:  # type: ignore[attr-defined]
        for value, said in cases(Serving, name)[1]:
            assert refusal(server.sample, nowhere, None, None, **{name: value}) == said


@pytest.mark.parametrize(
    "name", ["http://h/v1", "http://h/v1#", "http:///v1#m", "ftp://h#m", "http://h:x#m", "http://[#m"]
)
def test_an_address_that_is_none_is_named(name: str) -> None:
    assert refusal(Run, name).startswith(
        f"model is '{name}'; a server's is URL#NAME, such as http://localhost:8000/v1#"
    )


@pytest.mark.parametrize("address", ["u:{}@h", "{}@h", "h/v1?key={}", "u:{}@[", "h?{}"])
def test_an_address_that_may_hold_a_secret_is_refused_and_not_repeated(address: str) -> None:
    for name in (f"https://{address.format(KEY)}#m", f"https://{address.format(KEY)}"):
        assert refusal(Run, name) == (
            "model has an address with a user or a query; a key is read from OPENAI_API_KEY alone."
        )


def test_names_of_models_are_no_addresses() -> None:
    assert served("https://h:1/v1/#org/m@main#x") == ("https://h:1/v1", "org/m@main#x")
    assert [served(name) for name in ("tiny-dense-base", "org/name@rev", "a#b", "./folder")] == [None] * 4
    given = {"precision": "bf16", "decoding": "as_shipped", "stop": "decided"}
    for name, value in given.items():
        assert refusal(Run, "http://h/v1#m", **{name: value}).startswith(f"{name} is {value!r}; ")


def test_the_key_is_in_no_file_and_a_finished_run_needs_no_server(
    fake: Callable[..., Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = fake(lambda path, body: usual(path, body) if path == MODELS else chat(f" {body['seed'] % 10}"))
    run = Run(running.model, temperatures=(0.0, 1.0), runs=2, limit=2, output_dir=str(tmp_path))
    draws, summary = run.carry_out(progress=False)
    record = run.record
    assert record["precision"] == "served"
    assert record["device"] == running.model.removesuffix("#m")
    assert record["server"] == {
        "url": record["device"],
        "model": "m",
        "endpoint": "chat/completions",
        "refused": [],
    }
    assert record["tried"]["unverified"] == ["top_k", "min_p", "repetition_penalty", "seed"]
    assert record["tried"]["logprobs"] == "none"
    assert summary["confidence"].isna().all()
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes()
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    assert said.err.count("Whether it honours") == 1
    count = len(running.asked)
    more = Run(running.model, temperatures=(0.0, 1.0), runs=3, limit=2, output_dir=str(tmp_path)).carry_out(False)[0]
    assert len(running.asked) == count + 2 + 4 + 4  # both decoders and the temperature are tried; one run of 4 problems
    running.close()
    again, _ = Run(running.model, temperatures=(0.0, 1.0), runs=3, limit=2, output_dir=str(tmp_path)).carry_out(False)
    pd.testing.assert_frame_equal(again, more)
    assert set(draws["text"]) <= set(more["text"])


def test_shards_of_a_served_run_join_to_the_undivided_one(fake: Callable[..., Fake], tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": fake().model, "temperatures": (0.0, 1.0), "runs": 2, "limit": 2}
    whole, _ = Run(**given, output_dir=str(tmp_path / "whole")).carry_out(progress=False)
    dealt = given | {"output_dir": str(tmp_path / "dealt"), "shards": 2}
    for shard in range(2):
        Run(**dealt, shard=shard).carry_out(progress=False)
    joined, _ = Run(**dealt).carry_out(progress=False)
    pd.testing.assert_frame_equal(joined, whole)
