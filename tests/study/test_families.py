"""The whole of `evaluate.ipynb` on random checkpoints of each family, in fp32 and NF4."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from study.runner import run_notebook
from tests.conftest import ROOT
from tests.families import FAMILIES, family_checkpoint


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp32", "nf4"])
def test_the_evaluation_notebook_runs_on_every_family(family: str, precision: str, tmp_path: Path) -> None:
    folder = family_checkpoint(family, tmp_path / family)
    parameters = {"model": folder, "precision": precision, "limit": 2, "runs": 2, "max_new_tokens": 6}
    parameters |= {"decoding": "as_shipped", "temperatures": [0.0, 1.0], "output_dir": str(tmp_path / "run")}
    run_notebook(ROOT / "notebooks" / "evaluate.ipynb", tmp_path / "out.ipynb", parameters)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["precision"] == precision
    assert record["chat_template"] == bool(FAMILIES[family]["template"])
    bits = record["bits_per_weight"]
    assert bits == {"blocks": 32.0, "wide_share": 1.0} if precision == "fp32" else 4.1 < bits["blocks"] < 4.2
    knobs = FAMILIES[family]["knobs"]
    sampled = record["decoders"][1]
    assert sampled["top_p"] == knobs.get("top_p", 1.0)
    assert sampled["top_k"] == knobs.get("top_k", 50)  # what generate() fills in where nothing is said
    assert sampled["repetition_penalty"] == knobs.get("repetition_penalty", 1.0)
    draws = pd.read_parquet(tmp_path / "run" / "draws.parquet")
    assert len(draws) == 4 * 3
    assert (draws["mean_logprob"] != draws["mean_logprob_processed"]).any()
