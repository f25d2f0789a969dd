from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from book.figures import published
from lmrel import InputError
from lmrel.registry import REGISTRY
from study import costs
from tests.conftest import ROOT


def folder(path: Path, stored: int, **config: Any) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config))
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(stored)  # takes no disk
    return str(path)


def data(path: Path, *records: dict[str, Any]) -> Path:
    (path / "bench").mkdir(parents=True)
    (path / "bench" / "cpu.json").write_text((ROOT / "book" / "data" / "bench" / "cpu.json").read_text())
    (path / "gpu").mkdir()
    for i, record in enumerate(records):
        (path / "gpu" / f"{i}.json").write_text(json.dumps(record))
    return path


def test_what_the_paper_did_is_counted_as_the_published_table_counts_it() -> None:
    assert costs.PAPER_PROBLEMS == published.PROBLEMS
    assert sum(4 if t else 1 for t in published.TEMPERATURES) == costs.PAPER_DRAWS
    assert len(published.ACCURACY) == costs.PAPER_MODELS
    assert math.isclose(costs.ALONE * 9360, 3.5 * 3600)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.parametrize("precision", ["auto", "bf16", "nf4", "fp32"])
def test_the_fewest_gpus_that_hold_a_model_are_requested(name: str, precision: str) -> None:
    spec = REGISTRY[name]
    asked = costs.request(name, precision, 40)
    assert all(type(value) is int for value in asked.values())
    assert (asked["gpu"] == 0) == spec.tiny
    if not spec.tiny:
        needed = costs.memory_needed(spec.weights(spec.precision if precision == "auto" else precision))
        assert (asked["gpu"] - 1) * 40e9 < needed <= asked["gpu"] * 40e9
        assert asked == costs.request(spec.repo, precision, 40)
    costs.check_request(name, precision, 40, asked)


def test_models_ask_for_different_things_and_for_more_of_smaller_gpus() -> None:
    small, large = costs.request("qwen2.5-3b-instruct", "auto", 40), costs.request("mixtral-8x7b-instruct", "auto", 40)
    assert all(small[name] < large[name] for name in ("mem_mb", "runtime"))
    assert large["gpu"] == 1
    assert costs.request("mixtral-8x7b-instruct", "auto", 24)["gpu"] == 2
    assert costs.request("mixtral-8x7b-instruct", "bf16", 40)["gpu"] == 3


def test_a_folder_counts_as_its_files_and_an_unknown_repo_as_one_gpu(tmp_path: Path) -> None:
    half = folder(tmp_path / "half", 50 * 10**9, dtype="bfloat16")
    wide = folder(tmp_path / "wide", 100 * 10**9, torch_dtype="float32")
    narrow = folder(tmp_path / "narrow", 25 * 10**9, quantization_config={"quant_method": "lmrel_nf4"})
    assert costs.size(half, "auto") == costs.Size("bf16", 50e9, 50e9)
    assert costs.size(half, "fp32") == costs.Size("fp32", 50e9, 100e9)
    assert costs.size(wide, "auto") == costs.Size("fp32", 100e9, 100e9)
    assert costs.size(wide, "bf16") == costs.Size("bf16", 100e9, 50e9)
    assert costs.size(narrow, "auto") == costs.Size("nf4", 25e9, 25e9)
    quantized = costs.size(half, "nf4")
    assert quantized is not None
    assert 50e9 / 4 < quantized.weights < 50e9 / 3.8
    assert [costs.request(name, "auto", 40)["gpu"] for name in (half, wide, narrow)] == [2, 3, 1]
    assert costs.request(str(ROOT / "checkpoints" / "tiny-dense-base"), "auto", 40)["gpu"] == 0
    assert costs.request("nobody/nothing", "auto", 40) == costs.UNKNOWN
    assert costs.request("http://localhost:8000/v1#nobody/nothing", "auto", 40)["gpu"] == 0
    costs.check_request("nobody/nothing", "auto", 40, {"gpu": 1})


@pytest.mark.parametrize(
    ("model", "precision", "asked", "said"),
    [
        (
            "mixtral-8x7b",
            "bf16",
            {"gpu": 2},
            "mixtral-8x7b in bf16 needs 109 GB, and its request is for 2 GPUs of 40 GB; "
            "3 GPUs or precision nf4, 30 GB, would do.",
        ),
        ("mixtral-8x7b", "fp32", {"gpu": 5}, "needs 216 GB, .* 5 GPUs of 40 GB; 6 GPUs or precision nf4"),
        ("mixtral-8x7b", "auto", {"gpu": 0, "mem_mb": 20_000}, "no GPU and 20 GB of memory; 1 GPU would do"),
        ("tiny-dense-base", "auto", {"mem_mb": 1000}, "no GPU and 1 GB of memory; 1.5 GB of memory would do"),
        ("mixtral-8x7b", "auto", {"gpus": 1}, "has 'gpus'; it may have gpu, mem_mb, runtime"),
        ("mixtral-8x7b", "auto", {"gpu": "two"}, "gpu, requested for mixtral-8x7b, is 'two'; it must be an integer"),
        ("mixtral-8x7b", "auto", {"runtime": 0}, "runtime, requested for mixtral-8x7b, is 0"),
    ],
)
def test_a_request_that_cannot_hold_the_model_is_refused(
    model: str, precision: str, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        costs.check_request(model, precision, 40, asked)


def test_a_request_that_can_is_not() -> None:
    costs.check_request("mixtral-8x7b", "bf16", 40, {"gpu": 3})
    costs.check_request("mixtral-8x7b", "auto", 24, {"gpu": 2, "runtime": 60})
    costs.check_request("mixtral-8x7b", "auto", 40, {"gpu": 0, "mem_mb": 64_000})
    with pytest.raises(InputError, match="2 GPUs would do"):
        costs.check_request("mixtral-8x7b", "auto", 24, {"gpu": 1})


@pytest.mark.parametrize("value", [0, -1, "40", None, True, math.inf, math.nan])
def test_the_memory_of_a_gpu_is_a_number(value: Any) -> None:
    with pytest.raises(InputError, match="gpu_gb is .*; it must be a number above 0"):
        costs.request("qwen2.5-3b", "auto", value)


def test_without_a_gpu_measurement_large_models_take_what_the_paper_took() -> None:
    measured = costs.read_measured(ROOT / "book" / "data")
    for name in ("qwen2.5-3b-instruct", "olmoe-1b-7b", "nobody/nothing"):
        if not measured.gpu:
            assert costs.estimate(name, "auto", 13, 240, measured) == costs.Estimate(4200, "assumed from the paper")
    alone = costs.Measured(measured.cpu, ())
    assert costs.estimate("mixtral-8x7b", "nf4", 26, 120, alone).seconds == pytest.approx(4200)


def test_a_gpu_measurement_is_used_where_there_is_one(tmp_path: Path) -> None:
    row = {"model": "OLMoE-1B-7B", "precision": "nf4", "logits": "uniform", "new_tokens": 16}
    rows = [
        row | {"draws": 3120, "seconds": 312.0},
        row | {"draws": 3120, "seconds": 31.2, "logits": "sure"},
        row | {"draws": 3120, "seconds": 999.0, "new_tokens": 64},
    ]
    faster = [row | {"draws": 3120, "seconds": 100.0}]
    found = costs.read_measured(
        data(
            tmp_path,
            {"device": "a GPU", "draws_per_problem": 13, "rows": rows},
            {"device": "another", "draws_per_problem": 13, "rows": faster},
            {"device": "a GPU", "rows": [{"of": "another benchmark"}]},
        )
    )
    assert costs.estimate("olmoe-1b-7b", "auto", 13, 240, found) == costs.Estimate(312.0, "measured on a GPU")
    assert costs.estimate("olmoe-1b-7b", "auto", 26, 120, found).seconds == pytest.approx(312)
    assert costs.estimate("olmoe-1b-7b", "auto", 1, 240, found).seconds == pytest.approx(312)
    assert costs.estimate("olmoe-1b-7b", "bf16", 13, 240, found).basis == "assumed from the paper"
    assert costs.estimate("mixtral-8x7b", "auto", 13, 240, found).basis == "assumed from the paper"


def test_a_tiny_model_takes_what_was_measured_at_that_many_draws() -> None:
    measured = costs.read_measured(ROOT / "book" / "data")
    rows = {(row["model"], row["contestant"]): row for row in measured.cpu}
    for stop, runs in itertools.product(("eos", "decided"), (4, 100, 1000)):
        row = rows["tiny-dense-base", f"{stop}, {runs} runs"]
        found = costs.estimate("tiny-dense-base", "auto", 3 * runs + 1, 240, measured, stop=stop)
        assert found.seconds == pytest.approx(row["seconds"])
    points = measured.points("tiny-dense-base", "eos", "nodes")
    few, many = (rows["tiny-dense-base", f"eos, {runs} runs"] for runs in (4, 1000))
    assert points[0] == (13, few["nodes"])
    assert points[-1] == (3001, pytest.approx(many["nodes"] * 30))  # of one problem in thirty
    known = [costs.estimate(name, "auto", 13, 240, measured).seconds for name in {row["model"] for row in measured.cpu}]
    assert costs.estimate("tiny-sparse-continued", "auto", 13, 240, measured).seconds == max(known)
    half = costs.estimate("tiny-dense-base", "auto", 13, 120, measured)
    assert half.seconds == pytest.approx(known_seconds(rows) / 2)
    assert half.basis == "measured on a CPU"


def known_seconds(rows: dict[tuple[str, str], dict[str, Any]]) -> float:
    return float(rows["tiny-dense-base", "eos, 4 runs"]["seconds"])


def test_a_power_law_is_prolonged_as_one() -> None:
    points = [(x, 3 * x**0.7) for x in (10.0, 100.0, 1000.0)]
    for x in (10, 31, 100, 101, 1000, 50_000):
        assert costs.prolonged(points, x) == pytest.approx(3 * x**0.7)
    assert costs.prolonged(points, 2) == points[0][1]
    kinked = [(1.0, 1.0), (10.0, 10.0), (100.0, 10.0)]
    assert costs.prolonged(kinked, 1e6) == pytest.approx(10)


CPU = json.loads((ROOT / "book" / "data" / "bench" / "cpu.json").read_text())["rows"]
LARGE = {"model": "OLMoE-1B-7B", "precision": "nf4", "logits": "uniform", "new_tokens": 16, "draws": 9, "seconds": 1}


@pytest.mark.parametrize(
    ("cpu", "gpu", "said"),
    [
        ([1, 2], {}, "cpu.json has the row 1; it must have model, contestant"),
        ([{}], {}, "cpu.json has the row {}; it must have"),
        ([row | {"draws": None} for row in CPU], {}, "draws of tiny-.* is None; it must be a number above 0"),
        ([row | {"seconds": "x"} for row in CPU], {}, "seconds of tiny-.* is 'x'; it must be a number above 0"),
        ([row | {"seconds": -1} for row in CPU], {}, "seconds of tiny-.* is -1; it must be a number above 0"),
        ([row | {"contestant": "z"} for row in CPU], {}, "for fewer than two numbers of draws"),
        ([row | {"draws": 9, "sample": 1} for row in CPU], {}, "for fewer than two numbers of draws"),
        (CPU, {"draws_per_problem": None, "rows": [LARGE]}, "draws_per_problem of OLMoE-1B-7B in .*0.json is None"),
        (CPU, {"draws_per_problem": 13}, "0.json holds no rows of `make bench`"),
        (CPU, {"draws_per_problem": 13, "rows": [1]}, "0.json has the row 1; it must have model, precision"),
        (CPU, {"draws_per_problem": 13, "rows": [LARGE | {"seconds": 0}]}, "seconds of OLMoE-1B-7B in .*0.json is 0"),
    ],
    ids=range(11),
)
def test_measurements_that_were_edited_end_in_a_sentence(tmp_path: Path, cpu: Any, gpu: Any, said: str) -> None:
    folder = data(tmp_path, gpu)
    (folder / "bench" / "cpu.json").write_text(json.dumps({"rows": cpu}))
    with pytest.raises(InputError, match=said):
        costs.estimate("tiny-dense-base", "auto", 13, 240, costs.read_measured(folder))
