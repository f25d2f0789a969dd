from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmrel import InputError
from lmrel.registry import CHECKPOINTS
from study import shards
from study.jobs import Study
from study.run import Run
from tests.conftest import ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "study.yaml").read_text())
LARGE = ["mixtral-8x7b-instruct", "qwen2.5-3b-instruct", "tiny-dense-base", "someone/some-model"]
BASE, INSTRUCT = "tiny-dense-base", "tiny-dense-instruct"


def names(config: dict[str, Any]) -> list[str]:
    return list(Study.of(config).conditions)


def refused(config: Any, source: Path = Path("study.yaml")) -> str:
    """What is said of a study that cannot be."""
    with pytest.raises(InputError) as found:
        Study.of(config, source)
    return str(found.value)


# Conditions


def test_a_condition_of_a_model_alone_has_the_models_name() -> None:
    study = Study.of({"models": [BASE, "someone/some-model@v2"], "parameters": {"runs": 2}})
    assert list(study.conditions) == [BASE, "someone--some-model_v2"]
    assert [each.folder for each in study.conditions.values()] == [
        Path("results") / BASE,
        Path("results/someone--some-model_v2"),
    ]
    last = study.conditions["someone--some-model_v2"]
    assert last.given == {"runs": 2, "model": "someone/some-model@v2"}
    assert (last.parameters.model, last.parameters.runs) == ("someone/some-model@v2", 2)


def test_a_grid_of_lists_names_its_conditions_after_their_places(tmp_path: Path) -> None:
    template = tmp_path / "think.txt"
    template.write_text("Think. {question}")
    grid = {"prompt_style": ["few_shot", "readme"], "template": [None, str(template)]}
    study = Study.of({"models": [BASE, INSTRUCT], "parameters": {"runs": 2}, "grid": grid})
    assert list(study.conditions) == [
        f"{model}-{style}-{template}"
        for model in (BASE, INSTRUCT)
        for style in ("few_shot", "readme")
        for template in ("no-template", "think")
    ]
    one = study.conditions[f"{INSTRUCT}-readme-think"]
    assert one.given == {"runs": 2, "model": INSTRUCT, "prompt_style": "readme", "template": str(template)}
    assert study.conditions[f"{BASE}-few_shot-no-template"].parameters.template is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, 7], ["seed-1", "seed-7"]),
        ([-1, 2], ["seed--1", "seed-2"]),
    ],
)
def test_numbers_stand_in_names_with_what_they_are(values: list[Any], words: list[str]) -> None:
    assert names({"models": [BASE], "grid": {"seed": values}}) == [f"{BASE}-{word}" for word in words]


def test_what_fits_no_name_stands_there_by_its_number() -> None:
    grid = {"temperatures": [[0.0], [0.0, 1.0]], "system": ["Be brief.", "a/b c", None]}
    assert names({"models": [BASE], "grid": grid}) == [
        f"{BASE}-temperatures-{number}-{word}" for number in (1, 2) for word in ("system-1", "system-2", "no-system")
    ]
    on = {"determinism": [True, False], "top_p": [0.5, 1.0]}
    assert names({"models": [BASE], "grid": on})[0] == f"{BASE}-determinism-True-top_p-0.5"


def test_an_axis_may_have_named_levels_with_parameters_of_their_own() -> None:
    levels = {"paper": None, "mine": {"prompt_style": "readme", "system": "Be brief."}}
    for odd in (False, 5):  # as YAML reads a bare off, or a number
        said = refused({"models": [BASE], "grid": {"prompt": {odd: {"seed": 1}}}})
        assert said == f"study.yaml: grid has 'prompt' with a level named {odd}; put it in quotes."
    study = Study.of({"models": [BASE], "grid": {"prompt": levels, "seed": [1, 2]}})
    assert list(study.conditions) == [f"{BASE}-{p}-seed-{s}" for p in ("paper", "mine") for s in (1, 2)]
    assert study.conditions[f"{BASE}-paper-seed-1"].given == {"model": BASE, "seed": 1}
    mine = study.conditions[f"{BASE}-mine-seed-2"].parameters
    assert (mine.prompt_style, mine.system, mine.seed) == ("readme", "Be brief.", 2)


def test_conditions_are_listed_with_a_name_or_one_as_the_grid_gives() -> None:
    listed = [
        {"model": INSTRUCT, "name": "calm", "temperatures": [0.0]},
        {"model": INSTRUCT, "prompt_style": "readme", "seed": 3},
        {"model": INSTRUCT},
    ]
    study = Study.of({"models": [BASE], "parameters": {"seed": 1}, "conditions": listed})
    assert list(study.conditions) == [BASE, "calm", f"{INSTRUCT}-readme-seed-3", INSTRUCT]
    assert study.conditions["calm"].given == {"model": INSTRUCT, "temperatures": [0.0], "seed": 1}
    assert [each.parameters.seed for each in study.conditions.values()] == [1, 1, 3, 1]
    assert names({"conditions": listed[:1]}) == ["calm"]


def test_conditions_that_share_too_few_temperatures_are_compared_at_those_that_any_has() -> None:
    def between(*temperatures: list[float]) -> list[float]:
        listed = [{"model": BASE, "name": f"c{n}", "temperatures": each} for n, each in enumerate(temperatures)]
        return Study.of({"conditions": listed}).temperatures

    assert between([0.0, 0.5, 1.0], [0.5, 1.0, 2.0]) == [0.5, 1.0]
    assert between([0.0, 1.0], [1.0]) == between([0.0, 0.5], [0.7, 1.0]) == [0.0, 1.0]
    assert between([0.7]) == [0.7]


@pytest.mark.parametrize(
    "twice", ["models: [a]\nmodels: [b]", "parameters: {runs: 2, runs: 3}", "grid: {p: {a: {}, a: {}}}"]
)
def test_a_name_that_stands_twice_is_refused_with_its_place(twice: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(twice)
    with pytest.raises(InputError, match=r"mine.yaml cannot be read: '\w+' stands there twice in .*, line \d"):
        Study.read(path)


def test_names_that_are_one_folder_on_some_systems_are_two_of_one(tmp_path: Path) -> None:
    listed = [{"model": BASE, "name": name} for name in ("Calm", "calm")]
    assert "two conditions have the names 'Calm' and 'calm'" in refused({"conditions": listed})


def test_the_books_own_study_is_known_by_any_path_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert Study.read(ROOT / "study.yaml").own
    assert Study.read(Path("studies/../study.yaml")).own


def test_what_all_conditions_share_yields_to_what_one_says() -> None:
    config = {"models": [BASE], "parameters": {"seed": 1, "runs": 2}, "grid": {"seed": [5]}}
    assert Study.of(config).conditions[f"{BASE}-seed-5"].given == {"model": BASE, "seed": 5, "runs": 2}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"models": [BASE, BASE]}, f"two conditions have the name '{BASE}'; give each a name of its own, or leave one"),
        ({"models": [BASE], "conditions": [{"model": INSTRUCT, "name": BASE}]}, "two conditions have the name"),
        ({"models": ["a/b", "a--b"]}, "two conditions have the name 'a--b'"),
        ({"conditions": [{"model": BASE, "name": "live"}]}, "the name 'live', which is that of a folder that the book"),
        ({"conditions": [{"model": BASE, "name": "studies"}]}, "the name 'studies', which is that of a folder"),
        ({"models": ["./live"]}, "the name 'live', which is that of a folder"),
        ({"conditions": [{"model": BASE, "name": "a/b"}]}, "has the name 'a/b'; it may have letters, digits, '_', '-'"),
        ({"conditions": [{"model": BASE, "name": ".a"}]}, "has the name '.a'"),
        ({"conditions": [{"model": BASE, "name": "a\n"}]}, r"has the name 'a\\n'"),
        (
            {"conditions": [{"model": BASE, "name": 5}]},
            f"the condition of '{BASE}' has the name 5; it may have",
        ),
        ({"conditions": [{"model": BASE, "name": "é" * 128}]}, "at most 255 bytes"),
        ({"models": ["a" * 200 + "/" + "b" * 90]}, "at most 255 bytes"),
        ({"models": [BASE], "grid": {"shard": [0]}}, f"condition '{BASE}-shard-0' has 'shard', which the study gives"),
        ({"conditions": [{"model": BASE, "output_dir": "x"}]}, "has 'output_dir', which the study gives to each job"),
        ({"parameters": {"model": BASE}, "models": [BASE]}, "parameters has 'model', which the study gives"),
        ({"parameters": {"replace": True}, "models": [BASE]}, "parameters has 'replace', which the study gives"),
        ({"grid": {"seed": [1]}, "conditions": [{"model": BASE}]}, "it has a grid and no models"),
        ({"parameters": {}}, "it has neither models nor conditions"),
        ({"models": [BASE], "grid": {"seed": [1], "all": {"a": {"seed": 2}}}}, "two axes of the grid give 'seed'"),
        ({"models": [BASE], "grid": {"model": [INSTRUCT]}}, "two axes of the grid give 'model'"),
        ({"models": [BASE], "grid": {"seed": []}}, r"grid has 'seed': \[\]; it must be a list of values of one"),
        (
            {"models": [BASE], "grid": {"seed": 3}},
            "grid has 'seed': 3; it must be a list of values of one",
        ),
        ({"models": [BASE], "grid": {"sed": [3]}}, "'sed' is no parameter. Did you mean 'seed'"),
        ({"conditions": [{"name": "a"}]}, "conditions has {'name': 'a'}; each must have a model"),
        ({"conditions": [BASE]}, f"conditions is .'{BASE}'.; it must be a list, each entry with a model"),
        ({"conditions": []}, r"conditions is \[\]; it must be a list"),
        ({"model": [BASE]}, "'model' is no parameter. Did you mean 'models'?"),
        ({"models": []}, r"models is \[\]; it must be a list"),
        ({"models": BASE}, f"models is '{BASE}'; it must be a list"),
        ({"models": [BASE], "parameters": 3}, "parameters is 3; it must be names and values"),
        ({"models": [BASE], "parameters": {5: 1}}, "'5' is no parameter"),
        (
            {"models": [BASE], "parameters": {"temprature": 1}},
            r"'temprature' is no parameter\. Did you mean 'temperatures'\?",
        ),
        ({"models": [BASE], "parameters": {"problems": "nowhere.jsonl"}}, "problems is 'nowhere.jsonl'"),
        ({"models": [BASE], "shards": 0}, "shards is 0; it must be an integer from 1"),
        ({"models": [BASE], "gpu_gb": 0}, "gpu_gb is 0; it must be a number above 0"),
    ],
    ids=lambda part: str(part)[:40],
)
def test_conditions_that_cannot_be_end_in_a_sentence(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^study.yaml: .*{said}"):
        Study.of(config)


# Models


def test_models_are_looked_at_before_any_is_loaded(tmp_path: Path) -> None:
    said = refused({"models": [BASE, "tiny-dense-bass"]})
    assert "no known name, no folder and no repo id. Did you mean 'tiny-dense-base'?" in said
    assert said.endswith(" (condition tiny-dense-bass)")
    broken = shutil.copytree(CHECKPOINTS / BASE, tmp_path / "broken")
    (broken / "model.safetensors").unlink()
    assert refused({"models": [str(broken)]}).startswith(f"study.yaml: {broken} has no weights: no *.safetensors file.")
    assert "is no checkpoint: it has no config.json" in refused({"models": [str(tmp_path)]})


def test_a_model_in_the_home_folder_is_found_and_named_after_the_rest_of_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(CHECKPOINTS / BASE, tmp_path / "models" / "mine")
    study = Study.of({"models": ["~/models/mine"], "requests": {"~/models/mine": {"runtime": 7}}})
    [(name, condition)] = study.conditions.items()
    assert name == "models--mine"
    assert condition.parameters.model == str(tmp_path / "models" / "mine")
    assert (condition.asked["gpu"], condition.asked["runtime"]) == (0, 7)
    assert f"model is '{tmp_path}/models/other'" in refused({"models": ["~/models/other"]})


def test_a_revision_stays_with_its_model() -> None:
    study = Study.of({"models": ["qwen2.5-3b@abc", "qwen2.5-3b"]})
    assert [job.parameters["model"] for job in study.jobs()] == ["qwen2.5-3b@abc", "qwen2.5-3b"]
    one, other = study.conditions.values()
    assert one.asked == other.asked


def test_a_model_behind_a_server_is_a_run_like_any_other_but_for_what_a_server_does_not_know() -> None:
    name = "http://localhost:8000/v1#org/name"
    study = Study.of({"models": [BASE, name], "parameters": {"runs": 2}})
    [run] = [run for run, condition in study.conditions.items() if condition.parameters.model == name]
    assert run == "http_--localhost_8000--v1_org--name"
    assert study.conditions[run].asked["gpu"] == 0
    with pytest.raises(InputError, match=r"^study\.yaml: precision is 'nf4'; a server has loaded its model already"):
        Study.of({"models": [BASE, name], "parameters": {"precision": "nf4"}})
    said = refused({"models": [BASE, "http://u:secret@h/v1#m"], "parameters": {}})
    assert said.startswith("study.yaml: model has an address with a user")
    assert "secret" not in said


# What jobs ask for


def test_what_a_job_asks_for_comes_from_the_registry_and_yields_to_the_file() -> None:
    own = {"mixtral-8x7b-instruct": {"shards": 8, "runtime": 99}}
    study = Study.of(CONFIG | {"models": LARGE, "requests": own, "shards": 2, "gpu_gb": 24})
    mixtral, qwen, *_ = conditions = list(study.conditions.values())
    assert [each.asked["gpu"] for each in conditions] == [2, 1, 0, 1]  # two of 24 GB for Mixtral in NF4
    assert mixtral.asked["runtime"] == 99
    assert mixtral.asked["mem_mb"] > qwen.asked["mem_mb"]
    assert [each.shards for each in conditions] == [8, 2, 2, 2]


def test_a_request_of_a_condition_goes_before_that_of_its_model() -> None:
    requests = {INSTRUCT: {"runtime": 5, "mem_mb": 9000}, "calm": {"runtime": 6, "shards": 2}}
    listed = [{"model": INSTRUCT, "name": "calm"}, {"model": INSTRUCT, "name": "wild"}]
    study = Study.of({"models": [BASE], "conditions": listed, "requests": requests})
    base, calm, wild = study.conditions.values()
    assert (calm.asked["runtime"], calm.asked["mem_mb"], calm.shards) == (6, 9000, 2)
    assert (wild.asked["runtime"], wild.asked["mem_mb"], wild.shards) == (5, 9000, 1)
    assert (base.asked["runtime"], base.shards) == (60, 1)


def test_memory_grows_with_the_draws_of_a_job() -> None:
    many = CONFIG["parameters"] | {"temperatures": [t / 10 for t in range(30)], "runs": 1000}
    [few] = Study.of(CONFIG | {"models": [BASE]}).conditions.values()
    whole, tenth = (
        Study.of(CONFIG | {"models": [BASE], "parameters": many, "shards": n}).conditions[BASE] for n in (1, 10)
    )
    rows = 240 * 29_001
    assert (whole.parameters.n_draws, whole.problems) == (29_001, 240)
    assert whole.asked["mem_mb"] - few.asked["mem_mb"] == pytest.approx(0.002 * rows, abs=10)
    assert tenth.asked["mem_mb"] - few.asked["mem_mb"] == pytest.approx(0.0002 * rows, abs=10)
    assert tenth.joining["gpu"] == 0
    assert tenth.joining["mem_mb"] > 0.002 * rows


def test_a_divided_run_has_a_job_for_each_shard_whose_folder_is_where_the_shard_writes() -> None:
    study = Study.of(CONFIG | {"models": [BASE, "tiny-sparse-base"], "shards": 7})
    jobs = study.jobs()
    assert [job.name for job in jobs[:7]] == [f"{BASE}, shard {shard} of 7" for shard in range(7)]
    assert [job.problems for job in jobs[:7]] == [35, 35, 34, 34, 34, 34, 34]
    for job in jobs:
        run = Run(**job.parameters)
        assert run.folder == job.folder == shards.shard_folder(Path("results") / job.run, 7, job.shard or 0)
    divided = study.conditions[BASE]
    whole, *others = divided.all_jobs()
    assert [job.folder for job in others] == divided.shard_folders()
    assert (whole.shard, whole.problems, Run(**whole.parameters).folder) == (None, 240, Path("results") / BASE)
    [alone] = Study.of(CONFIG | {"models": [BASE]}).jobs()
    assert (alone.name, alone.folder, alone.problems) == (BASE, Path("results") / BASE, 240)
    assert Run(**alone.parameters).folder == alone.folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests": {BASE: {"gpu": False}}}, f"gpu, requested for {BASE}, is False"),
        ({"requests": {BASE: {"gpu": 0.0}}}, f"gpu, requested for {BASE}, is 0.0"),
        ({"requests": {BASE: {"mem_mb": 1.5}}}, f"mem_mb, requested for {BASE}, is 1.5"),
        (
            {"requests": {"tiny-dense-bass": {"gpu": 1}}},
            "requests has 'tiny-dense-bass'.* the conditions are tiny",
        ),
        ({"requests": {BASE: 3}}, f"requests has '{BASE}': 3"),
        ({"requests": {BASE: {"gpus": 1}}}, "has 'gpus'; it may have gpu, mem_mb, runtime"),
        ({"requests": {BASE: {"shards": 0}}}, f"shards, requested for {BASE}, is 0"),
        ({"shards": 241}, f"shards, requested for {BASE}, is 241; it must be an integer from 1 to 240"),
        (
            {"models": LARGE, "parameters": {"precision": "bf16"}, "requests": {"mixtral-8x7b-instruct": {"gpu": 1}}},
            r"mixtral-8x7b-instruct in bf16 needs \d+ GB, and its request is for 1 GPU of 40 GB; 3 GPUs or",
        ),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_a_study_asks_for_can_be_given(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=f"^study.yaml: .*{said}"):
        Study.of({"models": [BASE], "parameters": {}} | changes)


def test_parameters_that_a_study_leaves_out_are_the_defaults() -> None:
    run = Run(BASE)
    for parameters in ({}, None):
        [condition] = Study.of({"models": [BASE], "parameters": parameters}).conditions.values()
        assert (condition.parameters.n_draws, condition.problems) == (run.n_draws, 240)


def test_a_study_counts_the_problems_of_a_file_by_its_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt,gold\nPick A or B.,A\nAnd now?,B\n")
    own = {"problems": str(tmp_path / "mine.csv"), "columns": {"question": "prompt", "answer": "gold"}}
    with pytest.raises(InputError, match=r"study.yaml: template is 'none.txt', which cannot be read"):
        Study.of(CONFIG | {"parameters": CONFIG["parameters"] | own | {"template": "none.txt"}})
    study = Study.of(CONFIG | {"parameters": CONFIG["parameters"] | own})
    assert [job.problems for job in study.jobs()] == [2] * 4
    assert study.jobs()[0].parameters["columns"] == own["columns"]


# Files


def test_a_study_of_another_file_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    for path in ("study.yaml", "studies/small.yaml"):
        Path(path).write_text(yaml.safe_dump({"models": [BASE]}))
    own, other = Study.read(), Study.read(Path("studies/small.yaml"))
    assert (own.own, own.folder) == (True, Path("results"))
    assert (other.own, other.name, other.folder) == (False, "small", Path("results/studies/small"))
    assert other.jobs()[0].folder == Path("results/studies/small") / BASE
    assert other.jobs()[0].parameters["output_dir"] == f"results/studies/small/{BASE}"
    assert refused({"models": [BASE]}, Path("studies/a b.yaml")) == (
        "studies/a b.yaml would give its study the name 'a b'; rename the file."
    )
    assert refused({"models": 5}, Path("studies/small.yaml")).startswith("studies/small.yaml: models is 5")


def test_runs_that_are_no_condition_any_more_are_left_alone_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for study, run in (("small", BASE), ("small", "b"), ("small", "a"), ("other", "c")):
        folder = Path("results", "studies", study, run)
        folder.mkdir(parents=True)
        (folder / "run.json").touch()
    Path("results/studies/small/empty").mkdir()
    for unfinished in ("d/.parts", "e/shards/0-of-2"):
        Path("results/studies/small", unfinished).mkdir(parents=True)
        Path("results/studies/small", unfinished, "run.json").touch()
    small = Study.of({"models": [BASE]}, Path("studies/small.yaml"))
    assert small.left() == [Path("results/studies/small", name) for name in "abde"]
    Path("results/mine").mkdir()
    Path("results/mine/run.json").touch()
    assert Study.of({"models": [BASE]}).left() == []  # the book shows whatever else was run


def test_a_job_says_why_it_failed_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [job] = Study.of({"models": [BASE]}).jobs()
    assert job.why == "no reason is known"
    job.folder.mkdir(parents=True)
    for text, said in (
        ("InputError: the disk is full.\nThe traceback is elsewhere.\n", "the disk is full."),
        ("KeyError: 'x\x1b[31m'\n", "KeyError: 'x\\x1b[31m'"),
        ("", "no reason is known"),
    ):
        job.failed.write_text(text)
        assert job.why == said
    assert (job.failed, job.log) == (job.folder / "evaluate.failed.txt", job.folder / "evaluate.log")


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
    code = "import study.jobs, study.plan, study.progress, study.start, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
