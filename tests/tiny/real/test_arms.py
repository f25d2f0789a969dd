"""The arms of the experiment on a real model, with a tiny one as the start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from lmrel import extract_answer
from lmrel.errors import InputError
from lmrel.registry import CHECKPOINTS
from tiny import arms as tiny_arms
from tiny.real import arms

START = CHECKPOINTS / "tiny-dense-instruct"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arms, "DATA", tmp_path / "data")
    (tmp_path / "data").mkdir()
    arms.WORK.mkdir(parents=True)
    monkeypatch.setattr(arms, "STEPS", 6)
    monkeypatch.setattr(arms, "WARMUP", 2)
    monkeypatch.setattr(arms, "BATCH", 8)


def written(name: str, seed: int = 0, step: int = 0) -> list[tuple[str, str]]:
    """What a batch asks and what it teaches, as text."""
    arm = arms.ARMS[name]
    _, tokenizer = arms.begun(arm, seed, START)
    ids, there, labels = arms.batch(arm, seed, step, tokenizer)
    assert (ids[labels >= 0] == labels[labels >= 0]).all()
    assert (there[labels >= 0] == 1).all()
    asked = [tokenizer.decode(row[(on == 1) & (label < 0)]) for row, on, label in zip(ids, there, labels, strict=True)]
    return list(zip(asked, (tokenizer.decode(label[label >= 0]) for label in labels), strict=True))


def test_arms_of_a_seed_see_the_same_problems_and_only_the_answers_differ() -> None:
    right, slips, rule = (written(name) for name in ("D-right", "D-slips", "D-rule"))
    assert [asked for asked, _ in right] == [asked for asked, _ in slips] == [asked for asked, _ in rule]
    assert all(answer.endswith("</s>") and answer.startswith(" ") for _, answer in right)
    assert written("W-slips") == slips == written("S-slips")
    assert written("D-right", seed=1) != right
    assert written("D-right", step=1) != right
    chat = written("C-right")
    assert all("[INST]" in asked and "[INST]" not in plain for (asked, _), (plain, _) in zip(chat, right, strict=True))
    assert [answer for _, answer in chat] == [answer.lstrip() for _, answer in right]


def test_slips_are_some_fifteen_per_cent_and_drawn_anew() -> None:
    """A share of .15 of 400 answers is off by .06 less than once in a thousand times."""
    pairs = [
        (right[1], slip[1])
        for step in range(50)
        for right, slip in zip(written("D-right", 0, step), written("D-slips", 0, step), strict=True)
    ]
    wrong = sum(extract_answer(right)[0] != extract_answer(slip)[0] for right, slip in pairs) / len(pairs)
    assert wrong == pytest.approx(0.15, abs=0.06)


@pytest.mark.parametrize("name", ["D-slips", "S-right", "C-right"])
def test_the_loss_and_its_gradients_are_those_of_transformers(name: str) -> None:
    model, tokenizer = arms.begun(arms.ARMS[name], 0, START)
    given = arms.batch(arms.ARMS[name], 0, 0, tokenizer)
    theirs = model(**dict(zip(("input_ids", "attention_mask", "labels"), given, strict=True)), use_cache=False).loss
    expected = torch.autograd.grad(theirs, list(model.parameters()), allow_unused=True)
    ours = arms.loss(model, *given)
    torch.testing.assert_close(ours, theirs)
    for mine, its in zip(torch.autograd.grad(ours, list(model.parameters()), allow_unused=True), expected, strict=True):
        torch.testing.assert_close(mine, its)


def test_the_optimizer_is_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    adam = arms.Adam(ours)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=0.01)
    for step in range(4):
        x = torch.randn(7, 5)
        for model in (ours, theirs):
            (model(x) ** 2).mean().backward()
        adam.step(step + 1, 0.01)
        other.step()
        other.zero_grad()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("name", ["S-slips", "W-right"])
def test_a_killed_training_ends_in_the_same_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = arms.trained(name, 0, START, save_every=2)
    again, _ = arms.trained(name, 0, START)  # from the stored weights
    weights = arms.WORK / f"0-{name}.safetensors"
    weights.unlink()
    calls = iter(range(100))

    def batch(*given: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return kept(*given)

    kept = arms.batch
    monkeypatch.setattr(arms, "batch", batch)
    with pytest.raises(KeyboardInterrupt):
        arms.trained(name, 0, START, save_every=2)
    assert not weights.exists()
    monkeypatch.setattr(arms, "batch", kept)
    resumed, _ = arms.trained(name, 0, START, save_every=2)
    begun, _ = arms.begun(arms.ARMS[name], 0, START)
    moved = 0.0
    for (key, p), q, r, s in zip(
        whole.named_parameters(), again.parameters(), resumed.parameters(), begun.parameters(), strict=True
    ):
        assert torch.equal(p, q), key
        assert torch.equal(p, r), key
        moved = max(moved, float((p - s).detach().abs().max()))
    assert moved > 0


def test_the_command_leaves_outcomes_with_what_made_them(monkeypatch: pytest.MonkeyPatch) -> None:
    few = pd.concat([arms.paper_problems().iloc[:2], arms.paper_problems().iloc[120:240]]).reset_index(drop=True)
    few = few[[arms.targets.ruled(row) for row in arms.as_rows(few)]].iloc[:3]
    monkeypatch.setattr(arms, "paper_problems", lambda: few)
    monkeypatch.setattr(sys, "argv", ["arms", str(START), "D-rule", "--seed", "9"])
    arms.main()
    table = pd.read_parquet(arms.DATA / "9-D-rule.parquet")
    assert set(table["problem_id"]) == set(few["problem_id"])
    assert {"correct", "taught"} <= set(table["metric"])
    assert set(table["temperature"]) == {*arms.GRID, 1.5}
    assert (table["lower"] <= table["upper"]).all()
    assert {"code", "versions", "start"} <= set(tiny_arms.about(arms.DATA / "9-D-rule.parquet"))
    before = (arms.DATA / "9-D-rule.parquet").stat().st_mtime_ns
    arms.main()
    assert (arms.DATA / "9-D-rule.parquet").stat().st_mtime_ns == before
    monkeypatch.setattr(sys, "argv", ["arms", str(START), "X-right"])
    with pytest.raises((InputError, SystemExit)):
        arms.main()


def test_a_sparse_arm_is_measured_with_its_routers_permuted_too_and_right_ones_on_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = arms.paper_problems().iloc[[0, 1, 200]].reset_index(drop=True)
    monkeypatch.setattr(arms, "paper_problems", lambda: few)
    model, tokenizer = arms.begun(arms.ARMS["S-right"], 0, START)
    weights = [parameter.clone() for parameter in model.parameters()]
    table = arms.measure("S-right", 0, model.eval(), tokenizer)
    assert set(table.loc[table["metric"] == "permuted", "temperature"]) == {0.0}
    assert len(table[table["metric"] == "permuted"]) == len(few)
    assert set(table.loc[table["metric"] == "text_entropy", "temperature"]) == {1.0}
    assert all(torch.equal(one, other) for one, other in zip(weights, model.parameters(), strict=True))
    model, tokenizer = arms.begun(arms.ARMS["D-right"], 0, START)
    table = arms.measure("D-right", 0, model.eval(), tokenizer)
    steps = table[~table["task"].isin(["arithmetic", "variable_binding"])]
    assert steps["problem_id"].nunique() == len(pd.read_csv(arms.STEPS_OF))
    assert set(steps["temperature"]) == {0.0, 1.0}
    assert "permuted" not in set(table["metric"])
