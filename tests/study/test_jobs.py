from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmrel import InputError
from study import shards
from study.jobs import Study
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
    assert study.shards == dict(zip(study.folders, [8, 2, 2, 2], strict=True))
    assert study.folders["someone--some-model"] == "someone/some-model"


def test_memory_grows_with_the_draws_of_a_job() -> None:
    many = CONFIG["parameters"] | {"temperatures": [t / 10 for t in range(30)], "runs": 1000}
    few = Study.of(CONFIG | {"models": ["tiny-dense-base"]})
    whole, tenth = (
        Study.of(CONFIG | {"models": ["tiny-dense-base"], "parameters": many, "shards": n}) for n in (1, 10)
    )
    rows = 240 * 29_001
    assert (whole.n_draws, whole.problems) == (29_001, 240)
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
        run = Run(**job.parameters)
        assert run.folder == job.folder == shards.shard_folder(Path("results") / job.run, 3, job.shard or 0)
    assert Run(**study.evaluation("tiny-dense-base")).folder == Path("results/tiny-dense-base")
    [whole] = Study.of(CONFIG | {"models": ["tiny-dense-base"]}).jobs()
    assert (whole.name, whole.folder) == ("tiny-dense-base", Path("results/tiny-dense-base"))
    assert Run(**whole.parameters).folder == whole.folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parameters": {"temprature": 1}}, r"'temprature' is no parameter\. Did you mean 'temperatures'\?"),
        ({"parameters": {5: 1}}, "study.yaml: '5' is no parameter"),
        ({"parameters": {"output_dir": "elsewhere"}}, "parameters has 'output_dir', which the study gives to each job"),
        ({"requests": {"tiny-dense-base": {"gpu": False}}}, "gpu, requested for tiny-dense-base, is False"),
        ({"requests": {"tiny-dense-base": {"gpu": 0.0}}}, "gpu, requested for tiny-dense-base, is 0.0"),
        ({"models": ["a" * 200 + "/" + "b" * 90]}, "which gives its run a name of over 255 bytes"),
        ({"model": ["tiny-dense-base"]}, "study.yaml: 'model' is no parameter. Did you mean 'models'?"),
        ({"models": []}, r"study.yaml: models is \[\]; it must be a list"),
        ({"models": "tiny-dense-base"}, "models is 'tiny-dense-base'; it must be a list"),
        ({"models": ["tiny-dense-base"] * 2}, "each may occur once"),
        ({"models": ["tiny-dense-bass"]}, "no known name, no folder and no repo id. Did you mean 'tiny-dense-base'?"),
        ({"parameters": 3}, "parameters is 3; it must be names and values"),
        ({"parameters": {"problems": "nowhere.jsonl"}}, "problems is 'nowhere.jsonl'"),
        ({"shards": 0}, "shards is 0; it must be an integer from 1"),
        ({"gpu_gb": 0}, "gpu_gb is 0; it must be a number above 0"),
        (
            {"requests": {"tiny-dense-bass": {"gpu": 1}}},
            "requests has 'tiny-dense-bass'.* the models are",
        ),
        ({"requests": {"tiny-dense-base": 3}}, "requests has 'tiny-dense-base': 3"),
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


def test_parameters_that_a_study_leaves_out_are_the_defaults() -> None:
    run = Run("tiny-dense-base")
    for parameters in ({}, None):
        study = Study.of({"models": ["tiny-dense-base"], "parameters": parameters})
        assert (study.n_draws, study.problems) == (run.n_draws, 240)


def test_a_study_counts_the_problems_of_a_file_by_its_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt,gold\nPick A or B.,A\nAnd now?,B\n")
    own = {"problems": str(tmp_path / "mine.csv"), "columns": {"question": "prompt", "answer": "gold"}}
    with pytest.raises(InputError, match=r"study.yaml: template is 'none.txt', which cannot be read"):
        Study.of(CONFIG | {"parameters": CONFIG["parameters"] | own | {"template": "none.txt"}})
    study = Study.of(CONFIG | {"parameters": CONFIG["parameters"] | own})
    assert study.problems == 2
    assert study.jobs()[0].parameters["columns"] == own["columns"]


def test_a_file_that_holds_no_study_ends_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    with pytest.raises(InputError, match="study.yaml cannot be read"):
        Study.read(path)
    for text, said in (("models: [", "cannot be read"), ("- 1", "study.yaml holds"), ("\xff", "study.yaml holds")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            Study.read(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe cannot be read: it is no file"):
        Study.read(tmp_path / "pipe")


def test_planning_loads_no_torch() -> None:
    code = "import study.jobs, study.progress, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["./live"]}, "gives its run the name of a folder that the book keeps"),
        ({"models": ["a/b", "a--b"]}, "each may occur once"),
        ({"shards": 241}, "shards, requested for tiny-dense-base, is 241; it must be an integer from 1 to 240"),
        ({"requests": {"tiny-dense-base": {"mem_mb": 1.5}}}, "mem_mb, requested for tiny-dense-base, is 1.5"),
    ],
)
def test_what_a_study_asks_for_can_be_given(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^study.yaml: .*{said}"):
        Study.of({"models": ["tiny-dense-base"], "parameters": {}} | changes)


def test_a_model_behind_a_server_is_a_run_like_any_other_but_for_what_a_server_does_not_know() -> None:
    name = "http://localhost:8000/v1#org/name"
    study = Study.of({"models": ["tiny-dense-base", name], "parameters": {"runs": 2}})
    [run] = [run for run, model in study.folders.items() if model == name]
    assert run == "http_--localhost_8000--v1_org--name"
    assert study.asked[run]["gpu"] == 0
    with pytest.raises(InputError, match=r"^study\.yaml: precision is 'nf4'; a server has loaded its model already"):
        Study.of({"models": ["tiny-dense-base", name], "parameters": {"precision": "nf4"}})
    with pytest.raises(InputError, match=r"^study\.yaml: model has an address with a user") as found:
        Study.of({"models": ["tiny-dense-base", "http://u:secret@h/v1#m"], "parameters": {}})
    assert "secret" not in str(found.value)
