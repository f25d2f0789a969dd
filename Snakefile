# From the study in study.yaml to the book: evaluate each model, compare, build. `make book` runs all of it, `make study`
# the evaluations and their comparison, here or on a cluster.
#
# Results are update() outputs: a failed run leaves the last good ones in place. The touch() file beside them says
# that they are of the present parameters, notebooks and code; without it the rule runs again.

import re
from pathlib import Path

import yaml

from lmrel.study import Study

configfile: "study.yaml"

STUDY = Study.of(config)
RUNS = STUDY.runs  # folder below results/, and model
OTHERS = sorted(str(path) for path in Path("results").glob("[!.]*/run.json") if path.parent.name not in RUNS and "{" not in str(path))
OWN_PAGES = sorted(str(path) for path in Path("results").glob("[!.]*/evaluate.ipynb") if "{" not in str(path))
AUDITED = ("tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base")
LIVE = ("tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base", "tiny-sparse-instruct")
PROBLEMS = [path for path in [config["parameters"]["problems"]] if path != "paper"]
NOT_IN_A_RUN = """
train tiny corpus card site bench floor drawings profiling bench_gpu factorial audit contrasts calibration routing
effects factorial_charts muon teaching teaching_charts learn live scale scale_charts study progress cluster devices
pdf tested licences factorial_tables targets batches arms
""".split()
CODE = [str(path) for path in sorted(Path("lmrel").glob("*.py")) if path.stem not in NOT_IN_A_RUN]
PAGES = ["index.md", *map(str, sorted(Path("book").rglob("*.md"))), "_config.yml", "_toc.yml", "book/references.bib"]
PAGES += map(str, sorted(Path("notebooks/learn").glob("*.ipynb")))


def shards(run):
    """The marks of a run's finished shards; none where it is not divided."""
    return [f"{folder}/.evaluated" for folder in STUDY.folders(run)]


def grown(asked, name, attempt):
    """The second try of a job gets twice the memory; a longer time might be more than a partition gives."""
    return asked[name] * (attempt if name == "mem_mb" else 1)


def asks(name):
    """What a job that draws asks for."""
    return lambda wildcards, attempt: grown(STUDY.asked[wildcards.run], name, attempt)


def asks_whole(name):
    """What the job of a whole run asks for: it draws, or joins what was drawn."""
    return lambda wildcards, attempt: grown(
        STUDY.joining if STUDY.folders(wildcards.run) else STUDY.asked[wildcards.run], name, attempt
    )


def one_line(parameters):
    """As YAML."""
    return yaml.safe_dump(parameters, default_flow_style=True, width=10**6).strip()


def checkpoint(name):
    """What of a checkpoint's folder a run reads; its card is not among it. Nothing for a repo id."""
    folders = [Path(name)] if Path(name).is_dir() else Path("checkpoints").glob(name)
    return sorted(str(path) for folder in folders for path in folder.glob("*") if path.suffix in (".json", ".jinja", ".safetensors"))


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),
    shard=r"\d+",
    of=r"\d+",


rule book:
    input:
        expand("results/{run}/.evaluated", run=RUNS),
        "results/.compared",
        "results/.engine",
        "results/.gpu",
        "results/.scale",
        "results/.tested",
        "results/.audit",
        "results/.factorial",
        "results/.live",
        PAGES,
        [path for path in OWN_PAGES if Path(path).parent.name not in RUNS],
        "lmrel/site.py",
        sorted(map(str, Path("lmrel/static").glob("*"))),
    output:
        update("_build/html/index.html"),
        touch("_build/.built"),
    log:
        "_build/book.log",
    shell:
        "echo 'Building the pages'; jupyter-book build . --path-output _build -n -W --keep-going >{log} 2>&1"
        # Without its cache the next build reads, and warns of, every page again.
        " || (cat {log}; rm -rf _build/_build; exit 1)\n"
        # The whole site at once: a page that left the table of contents is not published.
        "rm -rf _build/html; mv _build/_build/html _build/html"


rule study:
    input:
        expand("results/{run}/.evaluated", run=RUNS),
        "results/.compared",


rule evaluate_shard:
    input:
        "notebooks/evaluate.ipynb",
        CODE,
        PROBLEMS,
        lambda wildcards: checkpoint(RUNS[wildcards.run]),
    output:
        update("results/{run}/shards/{shard}-of-{of}/evaluate.ipynb"),
        update("results/{run}/shards/{shard}-of-{of}/draws.parquet"),
        update("results/{run}/shards/{shard}-of-{of}/summary.parquet"),
        update("results/{run}/shards/{shard}-of-{of}/run.json"),
        touch("results/{run}/shards/{shard}-of-{of}/.evaluated"),
    params:
        parameters=lambda wildcards: one_line(STUDY.evaluation(wildcards.run, int(wildcards.shard))),
    log:
        "results/{run}/shards/{shard}-of-{of}/evaluate.log",
    retries: 1
    resources:
        gpu=asks("gpu"),
        mem_mb=asks("mem_mb"),
        runtime=asks("runtime"),
    shell:
        "echo 'Evaluating {wildcards.run}, shard {wildcards.shard} of {wildcards.of}'; OMP_NUM_THREADS={threads} "
        "python -m lmrel.runner {input[0]} {output[0]} --gpus {resources.gpu} --title {wildcards.run} "
        "-y {params.parameters:q} >{log} 2>&1 "
        "|| (cat {log}; echo 'This job failed; its log is {log}'; exit 1)"


rule evaluate:
    input:
        "notebooks/evaluate.ipynb",
        CODE,
        PROBLEMS,
        lambda wildcards: checkpoint(RUNS[wildcards.run]),
        lambda wildcards: shards(wildcards.run),
    output:
        update("results/{run}/evaluate.ipynb"),
        update("results/{run}/draws.parquet"),
        update("results/{run}/summary.parquet"),
        update("results/{run}/run.json"),
        touch("results/{run}/.evaluated"),
    params:
        parameters=lambda wildcards: one_line(STUDY.evaluation(wildcards.run)),
    log:
        "results/{run}/evaluate.log",
    retries: 1
    resources:
        gpu=asks_whole("gpu"),
        mem_mb=asks_whole("mem_mb"),
        runtime=asks_whole("runtime"),
    shell:
        "echo 'Evaluating {wildcards.run}'; OMP_NUM_THREADS={threads} python -m lmrel.runner {input[0]} {output[0]} "
        "--gpus {resources.gpu} --title {wildcards.run} -y {params.parameters:q} >{log} 2>&1 "
        "|| (cat {log}; echo 'This job failed; its log is {log}'; exit 1)"


rule compare:
    input:
        "notebooks/compare.ipynb",
        CODE,
        expand("results/{run}/.evaluated", run=RUNS),
        OTHERS,
    output:
        update("results/compare.ipynb"),
        touch("results/.compared"),
    params:
        parameters=one_line({"results_dir": "results", "study": list(RUNS)}),
    log:
        "results/compare.log",
    retries: 1
    resources:
        gpu=0,
        mem_mb=STUDY.joining["mem_mb"],
        runtime=STUDY.joining["runtime"],
    shell:
        "echo 'Comparing the runs'; python -m lmrel.runner {input[0]} {output[0]} "
        "-y {params.parameters:q} >{log} 2>&1 || (cat {log}; exit 1)"


rule engine:
    input:
        "notebooks/engine.ipynb",
        CODE,
        "lmrel/floor.py",
        "lmrel/drawings.py",
        "book/data/bench/cpu.json",
        checkpoint("tiny-dense-base"),
    output:
        update("results/engine.ipynb"),
        touch("results/.engine"),
    log:
        "results/engine.log",
    shell:
        "echo 'Drawing the engine'; OMP_NUM_THREADS={threads} python -m lmrel.runner {input[0]} {output[0]} "
        ">{log} 2>&1 || (cat {log}; exit 1)"


rule factorial:
    input:
        "notebooks/factorial.ipynb",
        CODE,
        [f"lmrel/{name}.py" for name in ("factorial", "effects", "factorial_tables", "factorial_charts", "routing")],
        [f"lmrel/{name}.py" for name in ("contrasts", "drawings", "tested")],
        sorted(map(str, Path("book/data/factorial").glob("*.parquet"))),
        "book/data/training.json",
        checkpoint("tiny-*"),
    output:
        update("results/factorial.ipynb"),
        update("results/factorial-numbers.json"),
        update("results/cost.json"),
        touch("results/.factorial"),
    log:
        "results/factorial.log",
    shell:
        "echo 'The factorial'; OMP_NUM_THREADS={threads} python -m lmrel.runner {input[0]} {output[0]} "
        ">{log} 2>&1 || (cat {log}; exit 1)"


rule live:
    input:
        CODE,
        "lmrel/live.py",
        [checkpoint(name) for name in LIVE],
        # Of a model that the study leaves out, the draws of an earlier run, if any.
        [f"results/{name}/.evaluated" for name in LIVE if name in RUNS or Path(f"results/{name}/.evaluated").exists()],
    output:
        update("results/live/still.json"),
        touch("results/.live"),
    log:
        "results/live.log",
    shell:
        "echo 'Preparing the live figures'; OMP_NUM_THREADS={threads} python -m lmrel.live results results/live "
        ">{log} 2>&1 || (cat {log}; exit 1)"


rule gpu:
    input:
        "notebooks/gpu.ipynb",
        CODE,
        sorted(map(str, Path("book/data/gpu").glob("*.json"))),
    output:
        update("results/gpu.ipynb"),
        touch("results/.gpu"),
    log:
        "results/gpu.log",
    shell:
        "python -m lmrel.runner {input[0]} {output[0]} >{log} 2>&1 || (cat {log}; exit 1)"


rule scale:
    input:
        "notebooks/scale.ipynb",
        CODE,
        "lmrel/scale.py",
        "lmrel/scale_charts.py",
        "book/data/bench/cpu.json",
        sorted(map(str, Path("book/data/gpu").glob("*.json"))),
    output:
        update("results/scale.ipynb"),
        touch("results/.scale"),
    log:
        "results/scale.log",
    shell:
        "echo 'What scale costs'; python -m lmrel.runner {input[0]} {output[0]} >{log} 2>&1 || (cat {log}; exit 1)"


rule tested:
    input:
        "notebooks/tested.ipynb",
        CODE,
        "lmrel/tested.py",
        sorted(map(str, Path("book/data").glob("*.json"))),
    output:
        update("results/tested.ipynb"),
        touch("results/.tested"),
    log:
        "results/tested.log",
    shell:
        "python -m lmrel.runner {input[0]} {output[0]} >{log} 2>&1 || (cat {log}; exit 1)"


rule audit:
    input:
        "notebooks/audit.ipynb",
        CODE,
        [f"lmrel/{name}.py" for name in ("audit", "contrasts", "calibration", "drawings", "floor")],
        "book/data/failures.jsonl",
        [checkpoint(name) for name in AUDITED],
    output:
        update("results/audit.ipynb"),
        touch("results/.audit"),
    log:
        "results/audit.log",
    shell:
        "echo 'Auditing the claim'; OMP_NUM_THREADS={threads} python -m lmrel.runner {input[0]} {output[0]} "
        ">{log} 2>&1 || (cat {log}; exit 1)"
