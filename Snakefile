# From the study in study.yaml to the book: evaluate each model, compare, build. `make book` runs all of it, `make study`
# the evaluations and their comparison, here or on a cluster.
#
# Results are update() outputs: a failed run leaves the last good ones in place. The touch() file beside them says
# that they are of the present parameters, notebooks and code; without it the rule runs again. Which code that is, is
# read from a notebook's imports, so nothing here names a module but to run it.

import re
from pathlib import Path

import yaml

from study.code import ROOMS, sources
from study.jobs import Study

configfile: "study.yaml"

STUDY = Study.of(config)
RUNS = STUDY.folders  # folder below results/, and model
# The files beside checkpoints that all runs read; problems may be the paper's, or on the hub.
GIVEN = [path for name in ("problems", "template") if (path := STUDY.parameters.get(name)) and Path(path).is_file()]


def files(folder, pattern):
    """What `pattern` finds in a folder. Snakemake would take braces in a path for wildcards."""
    return sorted(str(path) for path in Path(folder).glob(pattern) if "{" not in str(path))


def of_others(paths):
    """Those of `paths` that are in the folder of a run that is not in study.yaml."""
    return [path for path in paths if Path(path).parent.name not in RUNS]


def code(*starts):
    """The project's own modules behind a notebook or a module."""
    return [str(path.relative_to(Path.cwd())) for path in sources(*starts)]


def checkpoint(name):
    """What a run reads of a checkpoint's folder; its card is not among it. Nothing for a repo id."""
    folders = [Path(name)] if Path(name).is_dir() else Path("checkpoints").glob(name)
    return [path for folder in folders for path in files(folder, "*") if path.endswith((".json", ".jinja", ".safetensors"))]


def one_line(parameters):
    """The parameters of a notebook as YAML for a command line."""
    return yaml.safe_dump(parameters, default_flow_style=True, width=10**6).strip()


def asks(name, whole=False):
    """How much of a resource a job asks for. The job of a `whole` run draws, or only joins what its shards drew.

    A second try gets twice the memory; a longer time might be more than a partition gives.
    """

    def asked(wildcards, attempt):
        joins = whole and STUDY.shard_folders(wildcards.run)
        found = STUDY.joining if joins else STUDY.asked[wildcards.run]
        return found[name] * (attempt if name == "mem_mb" else 1)

    return asked


# Executes the first input into the first output; the log is shown if that fails, and kept.
EXECUTE = "OMP_NUM_THREADS={threads} python -m study.runner {input[0]} {output[0]}"
LOGGED = " >{log} 2>&1 || (cat {log}; exit 1)"
EVALUATE = (
    EXECUTE + " --gpus {resources.gpu} --title {wildcards.run} -y {params.parameters:q} >{log} 2>&1 "
    "|| (cat {log}; echo 'This job failed; its log is {log}'; exit 1)"
)
# The notebooks that are pages of their own: what each reads beside its code, and leaves beside the page.
MEASURED, GPUS = "book/data/bench/cpu.json", files("book/data/gpu", "*.json")
READS = {
    "engine": [MEASURED, "book/data/architectures.json", checkpoint("tiny-dense-base")],
    "gpu": GPUS,
    "scale": [MEASURED, GPUS],
    "tested": files("book/data", "*.json"),
    "audit": [
        "book/data/failures.jsonl",
        files("book/data/factorial", "*.parquet"),
        [checkpoint(name) for name in ("tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base")],
    ],
    "factorial": [files("book/data/factorial", "*.parquet"), "book/data/training.json", checkpoint("tiny-*")],
}
READS |= dict.fromkeys(
    ("targets", "targets_appendix"), [files("book/data/arms", "*.parquet"), "book/data/experts.parquet"]
)
LEAVES = {"targets": ["results/targets-numbers.json"], "factorial": ["results/factorial-numbers.json", "results/cost.json"]}
LIVE = ("tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base", "tiny-sparse-instruct")


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),
    shard=r"\d+",
    of=r"\d+",


rule book:
    input:
        expand("results/{run}/.evaluated", run=RUNS),
        "results/.compared",
        "results/.live",
        expand("results/.{page}", page=READS),
        of_others(files("results", "[!.]*/evaluate.ipynb")),
        ["index.md", "_config.yml", "_toc.yml", "book/references.bib"],
        files("book", "**/*.md"),
        files("notebooks/learn", "*.ipynb"),
        files("book/site/static", "*"),
        [files(room, "**/*.py") for room in ROOMS],  # of their docstrings the reference is made
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
        code("notebooks/evaluate.ipynb"),
        GIVEN,
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
        "echo 'Evaluating {wildcards.run}, shard {wildcards.shard} of {wildcards.of}'; " + EVALUATE


rule evaluate:
    input:
        "notebooks/evaluate.ipynb",
        code("notebooks/evaluate.ipynb"),
        GIVEN,
        lambda wildcards: checkpoint(RUNS[wildcards.run]),
        lambda wildcards: [f"{folder}/.evaluated" for folder in STUDY.shard_folders(wildcards.run)],
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
        gpu=asks("gpu", whole=True),
        mem_mb=asks("mem_mb", whole=True),
        runtime=asks("runtime", whole=True),
    shell:
        "echo 'Evaluating {wildcards.run}'; " + EVALUATE


rule compare:
    input:
        "notebooks/compare.ipynb",
        code("notebooks/compare.ipynb"),
        expand("results/{run}/.evaluated", run=RUNS),
        of_others(files("results", "[!.]*/run.json")),
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
        "echo 'Comparing the runs'; " + EXECUTE + " -y {params.parameters:q}" + LOGGED


for page in READS:

    rule:
        name:
            page
        input:
            f"notebooks/{page}.ipynb",
            code(f"notebooks/{page}.ipynb"),
            READS[page],
        output:
            update(f"results/{page}.ipynb"),
            [update(path) for path in LEAVES.get(page, [])],
            touch(f"results/.{page}"),
        log:
            f"results/{page}.log",
        shell:
            "echo 'Executing the page {rule}'; " + EXECUTE + LOGGED


rule live:
    input:
        code("book.figures.live"),
        [checkpoint(name) for name in LIVE],
        # Of a model that the study leaves out, the draws of an earlier run, if any.
        [f"results/{name}/.evaluated" for name in LIVE if name in RUNS or Path(f"results/{name}/.evaluated").exists()],
    output:
        update("results/live/still.json"),
        touch("results/.live"),
    log:
        "results/live.log",
    shell:
        "echo 'Preparing the live figures'; OMP_NUM_THREADS={threads} python -m book.figures.live results results/live" + LOGGED
