from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lmrel import InputError, enumerate_outcomes, paper_problems
from lmrel.registry import CHECKPOINTS, TINY
from tests.conftest import tiny
from tiny import factorial


def test_measuring_is_enumeration_in_every_precision_and_style(monkeypatch: pytest.MonkeyPatch) -> None:
    few = paper_problems().iloc[[3, 130]]
    monkeypatch.setattr(factorial, "paper_problems", lambda: few)
    found = factorial.measure_checkpoint(CHECKPOINTS / "tiny-dense-base", 0, (0.0, 1.0), max_nodes=50)
    assert len(found) == 2 * 3 * len(few) * 2 * 2
    assert set(found["stage"]) == {"base"}
    one = found.query("precision == 'fp32' and prompt_style == 'readme' and metric == 'correct'")
    again = enumerate_outcomes(*tiny("tiny-dense-base"), few, (0.0, 1.0), prompt_style="readme", max_nodes=50)
    expected = again[again["metric"] == "correct"]
    np.testing.assert_allclose(one["lower"], expected["lower"], atol=1e-5)
    assert one["task"].tolist() == ["variable_binding"] * 2 + ["arithmetic"] * 2


def test_what_stands_is_not_made_again_and_what_is_missing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    trained = tmp_path / "seed-1" / "tiny-dense-base"
    trained.mkdir(parents=True)
    (trained / "loss.csv").touch()

    def measure(folder: Path, seed: int) -> pd.DataFrame:
        made.append(f"measured {folder.name}")
        return pd.DataFrame({"seed": [seed], "stage": [folder.name]})

    def train(name: str, steps: None, out: Path, work: Path, seed: int) -> Path:
        made.append(f"trained {name}")
        return out / name

    monkeypatch.setattr(factorial, "measure_checkpoint", measure)
    monkeypatch.setattr(factorial, "DATA", tmp_path)
    monkeypatch.setattr(factorial.train, "train", train)
    monkeypatch.setattr(factorial.train, "places", lambda seed: (tmp_path / f"seed-{seed}", tmp_path / "state"))
    for names in (["tiny-dense-base"], ["tiny-dense-base", "tiny-dense-instruct"]):
        monkeypatch.setattr("sys.argv", ["factorial", *names, "--seed", "1"])
        factorial.main()
    assert made == ["measured tiny-dense-base", "trained tiny-dense-instruct", "measured tiny-dense-instruct"]
    assert factorial.measured(tmp_path)["stage"].tolist() == ["tiny-dense-base", "tiny-dense-instruct"]


def test_the_design_holds_every_cell_at_three_seeds_and_a_base_comes_first() -> None:
    for seed, names in factorial.DESIGN.items():
        assert len(set(names)) == len(names), seed
        for name in names:
            _, kind, _ = name.split("-", 2)
            assert names.index(f"tiny-{kind}-base") <= names.index(name)
    cells = [f"tiny-{kind}-{stage}" for kind in ("dense", "sparse") for stage in factorial.CELLS]
    assert all(set(cells) <= set(names) for names in factorial.DESIGN.values())
    assert set(cells) == set(TINY)


def test_what_is_stored_is_what_a_shipped_model_does() -> None:
    few = paper_problems().iloc[[5, 100, 200, 230]]
    stored = factorial.measured().query("seed == 0 and architecture == 'sparse' and stage == 'continued-noisy'")
    stored = stored.query("precision == 'fp32' and prompt_style == 'few_shot' and metric == 'correct'")
    again = enumerate_outcomes(*tiny("tiny-sparse-continued-noisy"), few, factorial.GRID, max_nodes=1000)
    both = stored.merge(again[again["metric"] == "correct"], on=["problem_id", "temperature"])
    assert len(both) == len(few) * len(factorial.GRID)
    np.testing.assert_allclose(both[["lower_x", "upper_x"]], both[["lower_y", "upper_y"]], atol=1e-3)


def test_a_training_that_is_refused_ends_in_its_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factorial, "DATA", tmp_path)
    monkeypatch.setattr(factorial.train, "places", lambda _: (tmp_path / "out", tmp_path / "state"))
    monkeypatch.setattr("sys.argv", ["factorial", "tiny-dense-instruct", "--seed", "1"])
    with pytest.raises(SystemExit, match="error: tiny-dense-instruct needs its base model"):
        factorial.main()


def test_a_damaged_measurement_is_named(tmp_path: Path) -> None:
    (tmp_path / "0-tiny.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="0-tiny.parquet is missing or damaged"):
        factorial.measured(tmp_path)
