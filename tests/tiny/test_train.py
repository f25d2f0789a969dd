from __future__ import annotations

import itertools
import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lmrel import InputError, files
from lmrel.problems import solve
from lmrel.registry import CHECKPOINTS, REGISTRY
from tiny import corpus, train
from tiny.shapes import ARCHITECTURES, BOS, EOS, build_model, build_tokenizer
from tiny.train import STAGES, learning_rate_factor, loss_on, make_batch


def pages(count: int, **options: Any) -> list[list[corpus.Segment]]:
    return [corpus.page(random.Random(i), **options) for i in range(count)]


def test_a_page_goes_on_after_every_answer() -> None:
    for segments in pages(200):
        assert not segments[-1][1]
        assert segments[-1][0].strip()


def test_the_noise_rate_is_the_one_that_is_set() -> None:
    def wrong_share(**options: Any) -> float:
        wrong = total = 0
        for segments in pages(600, **options):
            for (question, _), (answer, counts) in itertools.pairwise(segments):
                if counts and question.startswith("(") and question.endswith("="):
                    x, y, z, w = (int(n) for n in question.translate(str.maketrans("()-*+=", "      ")).split())
                    total += 1
                    wrong += int(answer.split(";")[0]) != (x - y) * z + w
        assert total > 1000
        return wrong / total

    assert wrong_share(slip_rate=0.0) == 0.0
    average = corpus.SLOPPY_SHARE * corpus.SLOPPY_SLIP_RATE + (1 - corpus.SLOPPY_SHARE) * corpus.CAREFUL_SLIP_RATE
    assert average == pytest.approx(0.15)
    assert wrong_share() == pytest.approx(average, abs=0.03)


def test_a_slip_is_always_wrong_and_steps_end_at_the_answer() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        problem = corpus.training_problem(rng)
        assert corpus.slip(problem, rng) != solve(problem)
        shown = corpus.steps(problem)
        assert all(eval(left) == result for left, result in shown)
        assert shown[-1][1] == solve(problem)


def test_page_tokens_are_those_of_the_whole_text_and_weigh_most_on_answers() -> None:
    tokenizer = build_tokenizer(chat=False)
    ids, weights = make_batch(STAGES["base"], 0, 0, tokenizer)
    assert ids.shape == weights.shape == (10, 160)
    flat = ids.flatten().tolist()
    first = flat[: flat.index(EOS) + 1]
    assert first[0] == BOS
    text = tokenizer.decode(first, skip_special_tokens=True)
    assert [*tokenizer.encode(text), EOS] == first
    counted = tokenizer.decode(ids.flatten()[: len(first)][weights.flatten()[: len(first)] == 1.0])
    assert set(counted) <= set("0123456789-+*=;, \n")


def chat_turns(stage: str, batches: int) -> list[tuple[str, str]]:
    """The whole turns in the batches of a stage: what was asked, and the tokens that count."""
    tokenizer, turns = build_tokenizer(chat=True), []
    for step in range(batches):
        ids, weights = (part.flatten() for part in make_batch(STAGES[stage], 0, step, tokenizer))
        starts = [*(ids == BOS).nonzero().flatten().tolist(), len(ids)]
        for start, end in itertools.pairwise(starts[:-1]):
            counts = weights[start:end] == 1.0
            assert ids[end - 1] == EOS
            assert counts[-1]
            turns.append((tokenizer.decode(ids[start:end][~counts]), tokenizer.decode(ids[start:end][counts][:-1])))
    return turns


def test_chat_targets_are_the_answer_and_the_end() -> None:
    for prompt, reply in chat_turns("instruct", 3):
        assert prompt.startswith("<s>[INST] ")
        assert prompt.endswith(" [/INST]")
        int(reply)


@pytest.mark.parametrize(("stage", "rate"), [("instruct", 0.0), ("instruct-noisy", 0.15)])
def test_chat_answers_are_as_wrong_as_the_stage_says(stage: str, rate: float) -> None:
    wrong = []
    for prompt, reply in chat_turns(stage, 60):
        if (asked := re.search(r"Problem: (\(\d+ - \d+\) \* \d+ \+ \d+)\n", prompt)) is not None:
            wrong.append(eval(asked[1]) != int(reply))
    assert len(wrong) > 200
    assert sum(wrong) / len(wrong) == pytest.approx(rate, abs=0.07 * (rate > 0))


def test_the_last_stages_differ_in_format_and_targets_only() -> None:
    names = ("instruct", "instruct-noisy", "continued", "continued-noisy", "continued-05")
    same = [replace(STAGES[name], kind="", stream="", slip_rate=None) for name in names]
    assert len(set(same)) == 1
    sizes = {make_batch(STAGES[name], 0, 0, build_tokenizer(chat=True))[0].shape for name in names}
    assert sizes == {(10, 160)}
    assert corpus.page(random.Random("pages 0 0")) != corpus.page(random.Random("continued 0 0"))


def test_wide_has_as_many_weights_as_sparse() -> None:
    counts = {name: build_model(name).num_parameters() for name in ARCHITECTURES}
    assert counts["wide"] == pytest.approx(counts["sparse"], rel=0.01)
    assert counts["sparse"] > 2.5 * counts["dense"]


def test_learning_rate_rises_to_each_cycles_peak_and_falls_to_a_twentieth() -> None:
    stage = STAGES["base"]
    factors = [learning_rate_factor(step, stage) for step in range(stage.steps)]
    start = 0
    for steps, peak in stage.cycles:
        cycle = factors[start : start + steps]
        assert cycle[stage.warmup] == peak == max(cycle)
        assert cycle[0] == pytest.approx(peak / stage.warmup)
        assert cycle[-1] == pytest.approx(0.05, abs=1e-3)
        start += steps


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_few_steps_lower_the_loss(architecture: str) -> None:
    tokenizer = build_tokenizer(chat=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(architecture)
    optimizer = train.Optimizer(model)
    assert any(".mlp." in name for name in optimizer.matrices)
    assert not any("gate.weight" in name or "norm" in name or "embed" in name for name in optimizer.matrices)
    batch = make_batch(STAGES["base"], 0, 0, tokenizer)
    losses = []
    for step in range(1, 9):
        loss, balance = loss_on(model, batch)
        assert (balance > 0) == (architecture in ("sparse", "olmoe"))
        losses.append(loss.item())
        (loss + balance).backward()
        optimizer.step(step, 0.01, 0.002)
    assert losses[-1] < losses[0] - 0.5


def test_a_killed_training_continues_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"steps": 5, "save_every": 2}
    whole = train.train("tiny-sparse-base", out=tmp_path / "a", work=tmp_path / "wa", **options)
    real, calls = train.loss_on, 0

    def killed(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(train, "loss_on", killed)
    with pytest.raises(KeyboardInterrupt):
        train.train("tiny-sparse-base", out=tmp_path / "b", work=tmp_path / "wb", **options)
    monkeypatch.setattr(train, "loss_on", real)
    resumed = train.train("tiny-sparse-base", out=tmp_path / "b", work=tmp_path / "wb", **options)
    for name in ("model.safetensors", "loss.csv", "tokenizer.json", "config.json"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    with pytest.raises(InputError, match="of a run of 5 steps, not 6"):
        train.train("tiny-sparse-base", 6, tmp_path / "b", tmp_path / "wb")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_state_ends_in_a_sentence(tmp_path: Path, damage: str) -> None:
    train.train("tiny-dense-base", 2, tmp_path, tmp_path / "work")
    path = tmp_path / "work" / "tiny-dense-base.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x5A
    path.write_bytes({"truncated": content[:-500], "flipped": content, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"tiny-dense-base\.safetensors .*; delete it to start over\."):
        train.train("tiny-dense-base", 2, tmp_path, tmp_path / "work")


def test_a_checkpoint_that_is_half_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train.train("tiny-dense-base", 1, tmp_path, tmp_path / "work")
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(
            train.PreTrainedTokenizerFast, "save_pretrained", lambda *_: (_ for _ in ()).throw(OSError(28, "full"))
        )
        with pytest.raises(InputError, match="tiny-dense-base could not be written: full"):
            train.train("tiny-dense-base", 2, tmp_path, tmp_path / "other")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == old
    (folder / "loss.csv").unlink()  # written last
    with pytest.raises(InputError, match="needs its base model"):
        train.train("tiny-dense-instruct", 1, tmp_path, tmp_path / "work")


def test_a_second_training_of_a_model_is_refused_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "places", lambda _: (tmp_path, tmp_path))
    monkeypatch.setattr("sys.argv", ["train", "tiny-dense-base"])
    with (
        files.locked(tmp_path / "tiny-dense-base.lock", ""),
        pytest.raises(SystemExit, match="error: another training is"),
    ):
        train.main()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_an_instruct_model_starts_from_the_base_and_is_saved_with_its_template(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match="needs its base model"):
        train.train(f"tiny-{kind}-instruct", 1, tmp_path, tmp_path / "work")
    train.train(f"tiny-{kind}-base", 1, tmp_path, tmp_path / "work")
    folder = train.train(f"tiny-{kind}-instruct", 1, tmp_path, tmp_path / "work")
    assert (folder / "chat_template.jinja").exists()
    base, tuned = (
        train.load_file(tmp_path / f"tiny-{kind}-{end}" / "model.safetensors") for end in ("base", "instruct")
    )
    for name, weight in base.items():
        assert (weight.float() - tuned[name].float()).abs().mean() < 0.01
    assert any((base[name] != tuned[name]).any() for name in base)


def test_the_cost_of_a_stage_is_that_of_its_steps_and_goes_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter(float(i) for i in range(100))
    monkeypatch.setattr(train.time, "perf_counter", lambda: next(times))  # every step takes a second
    names = ["tiny-dense-instruct", "tiny-sparse-base"]
    monkeypatch.setattr("sys.argv", ["train", *names, "--cost", str(tmp_path / "cost.json")])
    train.main()
    dense, sparse = json.loads((tmp_path / "cost.json").read_text())["rows"]
    timed = {"steps": 1600, "tokens": 2.6, "seconds a step": 1, "minutes": 26.7}
    specs = [REGISTRY[name] for name in names]
    assert dense == {"model": names[0], "weights": specs[0].total, "at work": specs[0].active, **timed}
    assert (sparse["weights"], sparse["at work"]) == (specs[1].total, specs[1].active)
    assert "2.6" in capsys.readouterr().out


def test_other_seeds_never_touch_what_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train.places(0)[0] == CHECKPOINTS
    assert train.places(1)[0] == Path("training/seed-1")
    asked: list[Any] = []
    monkeypatch.setattr(train, "train", lambda *arguments: asked.append(arguments))
    monkeypatch.setattr("sys.argv", ["train", "tiny-wide-base", "--seed", "3"])
    train.main()
    assert asked == [("tiny-wide-base", None, Path("training/seed-3"), Path("training/seed-3/state"), 3)]
    monkeypatch.setattr("sys.argv", ["train", "tiny-huge-base"])
    with pytest.raises(SystemExit, match="they are dense, sparse, wide"):
        train.main()
