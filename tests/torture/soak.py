"""An hour of sampling on CPU: does memory grow, do files stay open, does it get slower?

``python -m tests.torture.soak [--minutes 60]`` runs sweep after sweep, each the same work with another seed: every tiny
model of the study, the paper's problems, three temperatures, through `Run.carry_out` into a fresh folder. A model is
loaded for each of its runs, as in a study; what reading its file alone leaves in memory is measured beside it.
Writes ``book/data/soak.json``: a line through the sweeps after the warm-up for each, with its 95 % interval. Exits with
1 if memory may have grown by more than 5 %, files stayed open, or draws surely got slower by more than 5 % than a
yardstick, a fixed piece of work, did on the same machine.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import statsmodels.api as sm
import torch
from safetensors.torch import load_file
from transformers.utils import logging

from lmrel.checkpoint import resolve
from lmrel.files import write_json
from lmrel.registry import TINY_SUITE
from study.run import Run
from tests.torture.report import DATA, head

WARM_UP = 0.15  # share of the sweeps that come before the line
ALLOWED = 0.05
ROWS = 120  # of the sweeps that are kept in the file, at most
PARAMETERS: dict[str, Any] = {
    "precision": "auto",
    "prompt_style": "few_shot",
    "decoding": "pure",
    "temperatures": [0.0, 0.5, 1.0],
    "runs": 4,
    "max_new_tokens": 16,
    "stop": "eos",
    "problems": "paper",
    "limit": None,
}


def sweep(seed: int, folder: Path, models: tuple[str, ...] = TINY_SUITE) -> int:
    """One run of each model; the number of draws."""
    draws = 0
    for model in models:
        run = Run(**PARAMETERS, model=model, seed=seed, output_dir=str(folder / model))
        draws += len(run.carry_out(progress=False)[0])
    shutil.rmtree(folder)
    return draws


def yardstick() -> float:
    """Processor seconds for work that is always the same: others on the machine slow it as much as the draws."""
    busy, square = time.process_time(), torch.ones(128, 128)
    for _ in range(500):
        words = [str(number) for number in range(2000)]
        " ".join(sorted(words))
        for _ in range(10):
            square = square @ square / 128
    return time.process_time() - busy


def measured(minutes: float, folder: Path) -> pd.DataFrame:
    """A row a sweep: when it ended, draws a second of the clock and of the processor, memory, open files, threads."""
    process, rows = psutil.Process(), []
    began = time.perf_counter()
    while not rows or time.perf_counter() - began < 60 * minutes:
        clock, busy = time.perf_counter(), time.process_time()
        draws = sweep(len(rows), folder / str(len(rows)))
        now, used = time.perf_counter(), time.process_time() - busy
        gc.collect()
        row = {"minute": (now - began) / 60, "draws": draws, "per_second": draws / (now - clock)}
        row |= {"per_cpu_second": draws / used, "per_yardstick": draws / used * yardstick()}
        row["memory_mb"] = process.memory_info().rss / 1e6
        rows.append(row | {"files": process.num_fds(), "threads": process.num_threads()})
    return pd.DataFrame(rows)


def left_by_a_load(loads: int = 400) -> float:
    """KB that stay in memory each time that safetensors reads a tiny model, though its tensors are let go."""
    process, path = psutil.Process(), Path(resolve(TINY_SUITE[1])) / "model.safetensors"
    for _ in ("to warm up", "to measure"):
        before = process.memory_info().rss
        for _ in range(loads):
            load_file(path)
        gc.collect()
    return round((process.memory_info().rss - before) / 1e3 / loads, 2)


def change(minutes: pd.Series, values: pd.Series) -> dict[str, float]:
    """By how much a straight line through `values` rises from first to last, as a share of where it begins.

    With a 95 % interval that allows for neighbours being alike (Newey and West).
    """
    lags = max(1, round(len(values) ** 0.5))
    fit = sm.OLS(values.to_numpy(), sm.add_constant(minutes.to_numpy() - minutes.iloc[0])).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags}
    )
    start, span = fit.params[0], minutes.iloc[-1] - minutes.iloc[0]
    low, high = fit.conf_int()[1]
    shares = {"change": fit.params[1], "low": low, "high": high}
    return {"begins": round(float(start), 2)} | {n: round(float(v * span / start), 5) for n, v in shares.items()}


def verdict(sweeps: pd.DataFrame) -> dict[str, Any]:
    """What the sweeps say after the warm-up."""
    warm = sweeps.iloc[int(np.ceil(WARM_UP * len(sweeps))) :]
    lines = {
        name: change(warm["minute"], warm[name])
        for name in ("memory_mb", "per_second", "per_cpu_second", "per_yardstick")
    }
    files = {"least": int(warm["files"].min()), "most": int(warm["files"].max())}
    flat = {
        "memory": lines["memory_mb"]["high"] <= ALLOWED,
        "files": files["least"] == files["most"],
        "throughput": lines["per_yardstick"]["high"] >= -ALLOWED,
    }
    return {"after_warm_up": {"sweeps": len(warm), **lines, "files": files}, "flat": flat}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=DATA / "soak.json")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        sweeps = measured(arguments.minutes, Path(folder))
    found = verdict(sweeps)
    kept = sweeps.iloc[:: -(-len(sweeps) // ROWS)].round(2)
    total = {"minutes": round(sweeps["minute"].iloc[-1], 1), "sweeps": len(sweeps), "draws": int(sweeps["draws"].sum())}
    report = head() | total | {"models": list(TINY_SUITE), "parameters": PARAMETERS} | found
    report["left_by_a_load_kb"] = left_by_a_load()
    write_json(report | {"rows": kept.to_dict("records")}, arguments.out)
    print(f"{total['sweeps']} sweeps in {total['minutes']} minutes; flat: {found['flat']}; {arguments.out}")
    sys.exit(not all(found["flat"].values()))


if __name__ == "__main__":
    main()
