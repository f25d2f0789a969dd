from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmrel import InputError
from lmrel.decoding import DECODINGS, Decoder
from study import shards
from study.jobs import CHOICES, Study, defaults
from study.run import Run
from tests.conftest import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "study.yaml").read_text())
LARGE = ["mixtral-8x7b-instruct", "qwen2.5-3b-instruct", "tiny-dense-base", "someone/some-model"]


def test_what_a_job_asks_for_comes_from_the_registry_and_yields_to_the_file() -> None:
    own = {"mixtral-8x7b-instruct": {"shards": 8, "runtime": 99}}
    study = Study.of(CONFIG | {"models": LARGE, "requests": own, "shards": 2, "gpu_gb": 24})
    asked = study.asked
    assert [asked[run]["gpu"] for run in asked] == [2, 1, 0, 1]  # two of 24 GB for Mixtral in NF4
    assert asked["mixtral-8x7b-instruct"]["runtime"] == 99
    assert asked["mixtral-8x7b-instruct"]["mem_mb"] > asked["qwen2.5-3b-instruct"]["mem_mb"]
    assert study.shards == dict(zip(study.runs, [8, 2, 2, 2], strict=True))
    assert study.runs["someone--some-model"] == "someone/some-model"


def test_memory_grows_with_the_draws_of_a_job() -> None:
    many = CONFIG["parameters"] | {"temperatures": [t / 10 for t in range(30)], "runs": 1000}
    few = Study.of(CONFIG | {"models": ["tiny-dense-base"]})
    whole, tenth = (
        Study.of(CONFIG | {"models": ["tiny-dense-base"], "parameters": many, "shards": n}) for n in (1, 10)
    )
    rows = 240 * 29_001
    assert (whole.draws, whole.problems) == (29_001, 240)
    [base], [most], [least] = ([asked["mem_mb"] for asked in study.asked.values()] for study in (few, whole, tenth))
    assert most - base == pytest.approx(0.002 * rows, abs=10)
    assert least - base == pytest.approx(0.0002 * rows, abs=10)
    assert tenth.joining["gpu"] == 0
    assert tenth.joining["mem_mb"] > 0.002 * rows


def test_a_divided_run_has_a_job_for_each_shard_whose_folder_is_where_the_shard_writes() -> None:
    study = Study.of(CONFIG | {"models": ["tiny-dense-base", "tiny-sparse-base"], "shards": 3})
    jobs = study.jobs()
    assert [job.name for job in jobs[:3]] == [f"tiny-dense-base, shard {shard} of 3" for shard in range(3)]
    for job in jobs:
        run = Run(**{"limit": None} | job.parameters)
        assert run.folder == job.folder == shards.shard_folder(Path("results") / job.run, 3, job.shard or 0)
    assert Run(**{"limit": None} | study.evaluation("tiny-dense-base")).folder == Path("results/tiny-dense-base")
    [whole] = Study.of(CONFIG | {"models": ["tiny-dense-base"]}).jobs()
    assert (whole.name, whole.folder) == ("tiny-dense-base", Path("results/tiny-dense-base"))
    assert Run(**{"limit": None} | whole.parameters).folder == whole.folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameters": {"temprature": 1}}, r"has 'temprature'\. Did you mean 'temperatures'\? It may have precision,"),
        ({"parameters": {5: 1}}, "parameters in study.yaml has 5. It may have precision"),
        ({"parameters": {"temperatures": []}}, r"temperatures in study.yaml is \[\]; it must be a list"),
        ({"parameters": {"temperatures": [1, 1.0]}}, r"temperatures in study.yaml is \[1, 1.0\]; each may occur once"),
        ({"parameters": {"max_new_tokens": "x"}}, "max_new_tokens in study.yaml is 'x'; it must be an integer"),
        (
            {"parameters": {"max_new_tokens": 32_769}},
            "max_new_tokens in study.yaml is 32769; it must be at most 32,768",
        ),
        ({"parameters": {"seed": 0.5}}, "seed in study.yaml is 0.5; it must be an integer"),
        ({"parameters": {"seed": 1 << 1024}}, "seed in study.yaml is 1797.*; it must be an integer"),
        ({"parameters": {"stop": "never"}}, "stop in study.yaml is 'never'; it must be 'eos' or 'decided'"),
        ({"parameters": {"prompt_style": 1}}, "prompt_style in study.yaml is 1; it must be one of readme"),
        ({"parameters": {"decoding": ""}}, "decoding in study.yaml is ''; it must be 'pure' or 'as_shipped'"),
        ({"requests": {"tiny-dense-base": {"gpu": False}}}, "gpu, requested for tiny-dense-base, is False"),
        ({"requests": {"tiny-dense-base": {"gpu": 0.0}}}, "gpu, requested for tiny-dense-base, is 0.0"),
        ({"models": ["a" * 200 + "/" + "b" * 90]}, "which gives its run a name of over 255 bytes"),
        ({"model": ["tiny-dense-base"]}, "study.yaml has 'model'; it may have models, parameters, shards, gpu_gb"),
        ({"models": []}, r"models in study.yaml is \[\]; it must be a list"),
        ({"models": "tiny-dense-base"}, "models in study.yaml is 'tiny-dense-base'; it must be a list"),
        ({"models": ["tiny-dense-base"] * 2}, "each may occur once"),
        ({"parameters": None}, "parameters in study.yaml is None"),
        ({"parameters": {"temperatures": 0.5}}, "temperatures in study.yaml is 0.5; it must be a list"),
        ({"parameters": {"runs": 0}}, "runs in study.yaml is 0"),
        ({"parameters": {"problems": "nowhere.jsonl"}}, "problems is 'nowhere.jsonl'"),
        ({"shards": 0}, "shards in study.yaml is 0; it must be an integer of at least 1"),
        ({"gpu_gb": 0}, "gpu_gb is 0; it must be a number above 0"),
        (
            {"requests": {"tiny-dense-bass": {"gpu": 1}}},
            "requests in study.yaml has 'tiny-dense-bass'.* the models are",
        ),
        ({"requests": {"tiny-dense-base": 3}}, "requests in study.yaml has 'tiny-dense-base': 3"),
        ({"requests": {"tiny-dense-base": {"gpus": 1}}}, "has 'gpus'; it may have gpu, mem_mb, runtime"),
        ({"requests": {"tiny-dense-base": {"shards": 0}}}, "shards, requested for tiny-dense-base, is 0"),
        (
            {"models": LARGE, "parameters": {"precision": "bf16"}, "requests": {"mixtral-8x7b-instruct": {"gpu": 1}}},
            r"mixtral-8x7b-instruct in bf16 needs \d+ GB, and its request is for 1 GPU of 40 GB; 3 GPUs or",
        ),
    ],
)
def test_a_study_that_cannot_run_ends_in_a_sentence(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Study.of(CONFIG | changes)


def test_parameters_that_a_study_leaves_out_are_those_of_the_notebook() -> None:
    run = Run.from_namespace(defaults())
    assert list(defaults()) == [field.name for field in fields(Run)]
    assert Study.of({"models": ["tiny-dense-base"], "parameters": {}}).draws == run.draws
    assert (CHOICES["decoding"], CHOICES["stop"]) == (DECODINGS, ("eos", "decided"))
    for stop in CHOICES["stop"]:
        assert Decoder(stop=stop, max_new_tokens=32_768).stop == stop
    with pytest.raises(InputError, match="to 32768"):
        Decoder(max_new_tokens=32_769)


def test_a_file_that_holds_no_study_ends_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with pytest.raises(InputError, match="study.yaml cannot be read"):
        Study.read(path)
    for text, said in (("models: [", "cannot be read"), ("- 1", "holds no study"), ("\xff", "holds no study")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            Study.read(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe cannot be read: it is no file"):
        Study.read(tmp_path / "pipe")


def test_planning_loads_no_torch() -> None:
    code = "import study.jobs, study.progress, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
