from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmrel import files, paper_problems
from lmrel.problems import as_rows
from lmrel.registry import CHECKPOINTS
from tiny import arms, factorial, measures, targets, train
from tiny.batches import STAGES, make_batch
from tiny.shapes import build_tokenizer


def test_every_model_comes_once_and_after_what_it_starts_from() -> None:
    assert len(set(arms.ORDER)) == len(arms.ORDER)
    for place, (seed, name) in enumerate(arms.ORDER):
        _, kind, stage = name.split("-", 2)
        if STAGES[stage].start:
            assert (seed, f"tiny-{kind}-{STAGES[stage].start}") in arms.ORDER[:place]
    for name in ("continued", "slips"):
        assert {seed for seed, other in arms.ORDER if other == f"tiny-sparse-{name}"} == set(range(6))


def test_what_is_missing_is_trained_and_measured_and_what_ships_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def train_it(name: str, steps: None, out: Path, work: Path, seed: int) -> Path:
        made.append(f"{seed} {name}")
        (out / name).mkdir(parents=True)
        for file in ("model.safetensors", train.LAST_WRITTEN):
            shutil.copy(CHECKPOINTS / "tiny-dense-continued" / file, out / name)
        return out / name

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arms, "DATA", tmp_path / "data")
    monkeypatch.setattr(arms.train, "train", train_it)
    monkeypatch.setattr(arms, "measure", lambda folder, seed: pd.DataFrame({"stage": [folder.name]}))
    monkeypatch.setattr("sys.argv", ["arms", "tiny-dense-base", "tiny-dense-slips", "--seed", "0"])
    arms.main()
    assert made == ["0 tiny-dense-slips"]  # the base model is there
    path = tmp_path / "data" / "0-tiny-dense-slips.parquet"
    about = arms.about(path)
    assert about["weights"] == files.sha256(CHECKPOINTS / "tiny-dense-continued" / "model.safetensors")
    assert about["started from"] == files.sha256(CHECKPOINTS / "tiny-dense-base" / "model.safetensors")
    assert about["code"]["tiny/targets.py"] == files.sha256(Path(targets.__file__))
    assert about["versions"]["torch"].startswith("2.13.0")
    assert (about["stage"]["target"], about["seed"]) == ("slips", 0)
    arms.main()
    # A file without the later measures, as the first ones were: measured again, and not trained; or left, or refused.
    old = {name: value for name, value in about.items() if name != "measured"} | {"machine": "another"}
    arms.write(pd.DataFrame({"stage": ["old"]}), old, path)
    arms.main()
    assert arms.about(path) == about | {"machine": "another"}
    assert pd.read_parquet(path)["stage"].tolist() == ["tiny-dense-slips"]
    arms.write(pd.DataFrame({"stage": ["old"]}), old | {"weights": "others"}, path)
    with pytest.raises(SystemExit, match="holds other weights"):
        arms.main()
    weights = Path("training/seed-0/tiny-dense-slips")
    weights.rename("elsewhere")
    capsys.readouterr()
    arms.main()
    assert "lacks measures, and the weights are not in" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["arms", "--list", "--seed", "0"])
    capsys.readouterr()
    arms.main()
    assert made == ["0 tiny-dense-slips"]
    assert capsys.readouterr().out.startswith("measured 0 tiny-dense-base\nmissing  0 tiny-sparse-base\n")
    Path("elsewhere").rename(weights)
    monkeypatch.setattr("sys.argv", ["arms", "tiny-dense-instruct"])
    with pytest.raises(SystemExit, match="'tiny-dense-instruct' is no model of this experiment"):
        arms.main()


def test_own_answers_are_asked_of_the_base_model_once_and_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms.shipped("tiny-sparse-own", 0, tmp_path)
    folder = train.train("tiny-sparse-own", 2, tmp_path, tmp_path / "state")
    assert folder.name == "tiny-sparse-own"
    kept = json.loads((tmp_path / "state" / "tiny-sparse-own.json").read_text())
    monkeypatch.setattr(train, "ask", lambda *_: pytest.fail("asked again"))
    again = train.own_target(tmp_path / "tiny-sparse-base", STAGES["own"], 0, tmp_path / "state/tiny-sparse-own.json")
    text = build_tokenizer(chat=False).decode(make_batch(STAGES["own"], 0, 1, build_tokenizer(False), again)[0][0])
    lines = [line for line in text.split("\n")[1:-1] if line.startswith(("(", "a = ")) and line.rsplit(" = ", 1)[1:]]
    assert len(lines) > 2
    for line in lines:
        asked, answer = line.rsplit(" = ", 1)
        assert kept["answers"][asked] == int(answer)
    wrong = 0
    for asked, answer in kept["answers"].items():
        if asked.startswith("("):
            wrong += eval(asked) != answer
    assert 10 < wrong < len(kept["answers"]) / 2


def test_the_answers_as_they_were_taught() -> None:
    base = CHECKPOINTS / "tiny-dense-base"
    ruled = arms.as_taught(paper_problems(), "rule", base)
    assert [targets.ruled(row) for row in as_rows(ruled)] == [True] * 37
    assert ruled["answer"].tolist() == [targets.by_rule(row) for row in as_rows(ruled)]
    some = paper_problems().iloc[100:200]
    own = arms.as_taught(some, "own", base)
    stored = factorial.measured().query(
        "seed == 0 and architecture == 'dense' and stage == 'base' and temperature == 0"
    )
    stored = stored.query("precision == 'fp32' and prompt_style == 'few_shot' and metric == 'correct' and upper < 0.5")
    assert set(own["problem_id"]) == set(stored["problem_id"]) & set(some["problem_id"])
    assert arms.as_taught(some, "slips", base).empty


def test_what_is_taught_is_measured_beside_what_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = paper_problems().iloc[[0, 1, 2, 3, 4, 5]]
    for module in (arms, factorial):
        monkeypatch.setattr(module, "paper_problems", lambda: few)
    shutil.copytree(CHECKPOINTS / "tiny-dense-continued", tmp_path / "tiny-dense-rule")
    found = arms.measure(tmp_path / "tiny-dense-rule", 0).query("temperature == 1")
    values = found.pivot(index="problem_id", columns="metric", values="lower")
    ruled = [row["problem_id"] for row in as_rows(few) if targets.ruled(row)]
    assert 0 < len(ruled) < len(few)
    others = values.drop(ruled)
    np.testing.assert_array_equal(others["taught"], others["correct"])
    assert (values.loc[ruled, "taught"] < 0.1).all()
    assert (values.loc[ruled, "correct"] > 0.5).all()
    assert set(values) == {"correct", "strict", "taught", *measures.METRICS}
    assert set(found["task"]) == {"variable_binding"}
    assert set(found["precision"]) == {"fp32"}
    assert set(found["prompt_style"]) == {"few_shot"}


def test_metadata_names_every_file_that_trains() -> None:
    names = {path.name for path in arms.CODE}
    assert names >= {"train.py", "batches.py", "targets.py", "corpus.py", "problems.py", "prompts.py"}


def test_the_arms_of_the_main_question_come_first() -> None:
    stages = [name.split("-", 2)[2] for _, name in arms.ORDER]
    assert set(stages[: 3 * 2 * 7]) == {"base", "continued", "rule", "slips", "forms", "own", "soft"}
