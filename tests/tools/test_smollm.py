"""The problems of one step, and what drawing and storing leave, with a tiny model in the place of the real one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from book.analysis.smollm import FAMILIES, PROBLEMS
from lmrel import InputError
from lmrel.registry import CHECKPOINTS
from tools import smollm


def test_problems_have_their_answers_and_no_twins() -> None:
    table = pd.DataFrame(smollm.one_step())
    assert (table["question"].map(lambda text: eval(text)) == table["answer"]).all()
    twins = table["question"].str.split(" ").map(lambda parts: (parts[1], frozenset(parts[::2])))
    assert not pd.concat([table["task"], twins], axis=1).duplicated().any()
    assert table.groupby("task").size().to_dict() == dict.fromkeys(FAMILIES, smollm.EACH)
    pd.testing.assert_frame_equal(pd.read_csv(PROBLEMS), table, check_dtype=False)


def test_what_is_drawn_is_stored_and_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(smollm.PROBLEMS.parents[4])
    monkeypatch.setenv("LMREL_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["smollm", "steps-plain", "exact"])
    with pytest.raises(InputError, match="there is no smollm2-135m-instruct yet; `make real` brings it"):
        smollm.main.__wrapped__()  # type: ignore[attr-defined]
    shutil.copytree(CHECKPOINTS / "tiny-dense-base", tmp_path / smollm.NAME)
    few = {**smollm.PLAIN, "temperatures": (0.0, 1.0), "runs": 1, "limit": 1, "max_new_tokens": 4}
    monkeypatch.setattr(smollm, "CONDITIONS", {"steps-plain": few, "other": few})
    for name in ("STORED", "EXACT", "ABOUT"):
        monkeypatch.setattr(smollm, name, tmp_path / name)
    monkeypatch.setattr(smollm, "NODES", 2)
    smollm.main.__wrapped__()  # type: ignore[attr-defined]
    assert list(pd.read_parquet(tmp_path / "STORED")) == smollm.COLUMNS
    assert len(pd.read_parquet(tmp_path / "STORED")) == 2 * len(FAMILIES)
    about = json.loads((tmp_path / "ABOUT").read_text())
    assert [about[name]["draws"] for name in ("steps-plain", "other")] == [8, 0]
    assert set(pd.read_parquet(tmp_path / "EXACT")["task"]) == set(FAMILIES)
    monkeypatch.setattr("lmrel.models.load_model", lambda *_: pytest.fail("it was drawn"))
    smollm.main.__wrapped__()  # type: ignore[attr-defined]
    # The whole runs are lost; what is stored stays, and only what is missing is drawn.
    monkeypatch.undo()
    monkeypatch.chdir(smollm.PROBLEMS.parents[4])
    monkeypatch.setenv("LMREL_CACHE", str(tmp_path))
    monkeypatch.setattr(smollm, "CONDITIONS", {"steps-plain": few, "other": few})
    for name in ("STORED", "EXACT", "ABOUT"):
        monkeypatch.setattr(smollm, name, tmp_path / name)
    monkeypatch.setattr(smollm, "NODES", 2)
    monkeypatch.setattr(sys, "argv", ["smollm"])
    shutil.rmtree(smollm.folder(tmp_path / smollm.NAME))
    before = {name: pd.read_parquet(tmp_path / name) for name in ("STORED", "EXACT")}
    smollm.main.__wrapped__()  # type: ignore[attr-defined]
    stored = pd.read_parquet(tmp_path / "STORED")
    pd.testing.assert_frame_equal(stored[stored["condition"] == "steps-plain"], before["STORED"])
    assert len(stored[stored["condition"] == "other"]) == 2 * len(FAMILIES)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "EXACT"), before["EXACT"])
    after = json.loads((tmp_path / "ABOUT").read_text())
    assert after["steps-plain"] == about["steps-plain"]
    assert after["other"]["draws"] == 8
    assert not (smollm.folder(tmp_path / smollm.NAME) / "steps-plain").exists()
