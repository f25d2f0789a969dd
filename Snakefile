# From a study to its results and, for the book's own study, to the book: evaluate each condition, compare, build.
# `make book` and `make study` run it through `study.start`, here or on a cluster. `--config study=FILE` names another
# study than the book's; replace=[NAME, …] lets the jobs of these conditions replace finished draws.
#
# Results are update() outputs: a failed run leaves the last good ones in place. The touch() file beside them says
# that they are of the present parameters, notebooks and code; without it the rule runs again. Which code that is, is
# read from a notebook's imports, so nothing here names a module but to run it.

import re
from pathlib import Path

import yaml

from lmrel.checkpoint import resolve
from lmrel.parameters import served
from lmrel.registry import TINY, TINY_SUITE
from study.code import ROOMS, sources
from study.jobs import BOOK, Study
from study.plan import to_join

STUDY = Study.read(Path(config.get("study", BOOK)))
FOLDER, RUNS = STUDY.folder, STUDY.conditions
# What a job asks for that reads the draws of all.
JOINING = {name: max(each.joining[name] for each in RUNS.values()) for name in ("gpu", "mem_mb", "runtime")}
# The book's results follow its code and its checkpoints; another study's finished draws go only where that is asked for.
REPLACED = list(RUNS) if STUDY.own else config.get("replace", [])


def files(folder, pattern):
    """What `pattern` finds in a folder. Snakemake would take braces in a path for wildcards."""
    return sorted(str(path) for path in Path(folder).glob(pattern) if "{" not in str(path))


def code(*starts):
    """The project's own modules behind a notebook or a module."""
    return [str(path.relative_to(Path.cwd())) for path in sources(*starts)]


def checkpoint(name):
    """What a run reads of a checkpoint's folder; its card is not among it. Nothing for a repo id or a server's model."""
    place = Path(name if served(name) else resolve(name))
    if place.is_relative_to(Path.cwd()):  # nothing is due because the project was moved
        place = place.relative_to(Path.cwd())
    found = [str(place)] if place.is_file() else files(place, "*")
    return [path for path in found if path.endswith((".json", ".jinja", ".safetensors", ".gguf")) and "{" not in path]


def given(wildcards):
    """The files that the run of a condition reads: its problems and template, if they are files here, its checkpoint."""
    parameters = RUNS[wildcards.run].parameters
    own = [path for path in (parameters.problems, parameters.template) if path and Path(path).is_file() and "{" not in path]
    return [*own, *checkpoint(parameters.model)]


def one_line(parameters):
    """The parameters of a notebook as YAML for a command line."""
    return yaml.safe_dump(parameters, default_flow_style=True, width=10**6).strip()


def asks(name, whole=False):
    """How much of a resource a job asks for. The job of a `whole` run draws, or only joins what its shards drew.

    A second try gets twice the memory; a longer time might be more than a partition gives.
    """

    def asked(wildcards, attempt):
        condition = RUNS[wildcards.run]
        found = condition.joining if whole and condition.shards > 1 else condition.asked
        return found[name] * (attempt if name == "mem_mb" else 1)

    return asked


# Executes the first input into the first output. If that fails, the log says why at its end; it is kept.
EXECUTE = "OMP_NUM_THREADS={threads} python -m study.runner {input[0]} {output[0]}"
LOGGED = " >{log} 2>&1 || (sed -n '/^error: /,$p' {log}; echo 'Its log is {log}'; exit 1)"
EVALUATE = EXECUTE + " --gpus {resources.gpu} --attempt {resources.attempt} --title {wildcards.run} -y {params.parameters:q}"
EVALUATE += " -y '{{replace: {resources.replace}}}'"  # no parameter of the rule, which would run again because of it
# The notebooks that are pages of their own: what each reads beside its code, and leaves beside the page.
MEASURED, GPUS = "book/data/bench/cpu.json", files("book/data/gpu", "*.json")
READS = {
    "engine": [MEASURED, "book/data/bench/smollm.json", "book/data/architectures.json", checkpoint("tiny-dense-base")],
    "gpu": GPUS,
    "scale": [MEASURED, GPUS],
    "tested": files("book/data", "*.json"),
    "audit": files("book/data/factorial", "*.parquet"),
    "audit_appendix": [
        "book/data/failures.jsonl",
        [checkpoint(name) for name in ("tiny-dense-base", "tiny-dense-instruct", "tiny-sparse-base")],
    ],
    "factorial": files("book/data/factorial", "*.parquet"),
    "factorial_appendix": [
        files("book/data/factorial", "*.parquet"),
        "book/data/training.json",
        [checkpoint(name) for name in TINY],
    ],
}
READS |= dict.fromkeys(
    ("targets", "targets_appendix"), [files("book/data/arms", "*.parquet"), "book/data/experts.parquet"]
)
READS |= dict.fromkeys(("real", "reread", "gates"), files("book/data/outputs", "*.parquet"))
READS["smollm"] = ["book/data/real/r0/problems.csv", files("book/data/real/r0", "*.json"), files("book/data/real/r0", "*.parquet")]
LEAVES = {page: [f"results/{page}-numbers.json"] for page in ("targets", "real", "reread", "gates", "smollm")}
LEAVES |= {"factorial": ["results/factorial-numbers.json", "results/cost.json"]}


wildcard_constraints:
    run="|".join(map(re.escape, RUNS)),
    shard=r"\d+",
    of=r"\d+",


rule book:
    input:
        [f"{FOLDER}/{run}/.evaluated" for run in RUNS],
        "results/.compared",
        "results/.live",
        "results/.lab",
        expand("results/.{page}", page=READS),
        # The pages of whatever else was run.
        [path for path in files("results", "[!.]*/evaluate.ipynb") if Path(path).parent.name not in RUNS],
        files("results/studies", "*/study.ipynb"),
        files("results/studies", "*/*/evaluate.ipynb"),
        ["index.md", "_config.yml", "_toc.yml", "book/references.bib"],
        files("book", "**/*.md"),
        files("notebooks/learn", "*.ipynb"),
        files("book/site/static", "**/*.*"),
        [files(room, "**/*.py") for room in ROOMS],  # of their docstrings the reference is made
    output:
        update("_build/html/index.html"),
        touch("_build/.built"),
    log:
        "_build/book.log",
    shell:
        "echo 'Building the pages'; (python -m book.site.contents _build/contents.yml &&"
        " jupyter-book build . --toc _build/contents.yml --path-output _build -n -W --keep-going) >{log} 2>&1"
        # Without its cache the next build reads, and warns of, every page again.
        " || (cat {log}; rm -rf _build/_build; exit 1)\n"
        # The whole site at once: a page that left the table of contents is not published.
        "rm -rf _build/html; mv _build/_build/html _build/html"


rule study:
    input:
        [f"{FOLDER}/{run}/.evaluated" for run in RUNS],


rule evaluate_shard:
    input:
        "notebooks/evaluate.ipynb",
        code("notebooks/evaluate.ipynb"),
        given,
    output:
        update(f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/evaluate.ipynb"),
        update(f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/draws.parquet"),
        update(f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/summary.parquet"),
        update(f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/run.json"),
        touch(f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/.evaluated"),
    params:
        parameters=lambda wildcards: one_line(RUNS[wildcards.run].evaluation(int(wildcards.shard))),
    log:
        f"{FOLDER}/{{run}}/shards/{{shard}}-of-{{of}}/evaluate.log",
    retries: 1
    resources:
        attempt=lambda wildcards, attempt: attempt,
        replace=lambda wildcards: str(wildcards.run in REPLACED).lower(),
        gpu=asks("gpu"),
        mem_mb=asks("mem_mb"),
        runtime=asks("runtime"),
    shell:
        "echo 'Evaluating {wildcards.run}, shard {wildcards.shard} of {wildcards.of}'; " + EVALUATE + LOGGED


rule evaluate:
    input:
        "notebooks/evaluate.ipynb",
        code("notebooks/evaluate.ipynb"),
        given,
        lambda wildcards: [f"{folder}/.evaluated" for folder in to_join(STUDY, RUNS[wildcards.run])],
    output:
        update(f"{FOLDER}/{{run}}/evaluate.ipynb"),
        update(f"{FOLDER}/{{run}}/draws.parquet"),
        update(f"{FOLDER}/{{run}}/summary.parquet"),
        update(f"{FOLDER}/{{run}}/run.json"),
        touch(f"{FOLDER}/{{run}}/.evaluated"),
    params:
        parameters=lambda wildcards: one_line(RUNS[wildcards.run].evaluation()),
    log:
        f"{FOLDER}/{{run}}/evaluate.log",
    retries: 1
    resources:
        attempt=lambda wildcards, attempt: attempt,
        replace=lambda wildcards: str(wildcards.run in REPLACED).lower(),
        gpu=asks("gpu", whole=True),
        mem_mb=asks("mem_mb", whole=True),
        runtime=asks("runtime", whole=True),
    shell:
        "echo 'Evaluating {wildcards.run}'; " + EVALUATE + LOGGED


# The page "What happened", of the book's own study.
rule compare:
    input:
        "notebooks/compare.ipynb",
        code("notebooks/compare.ipynb"),
        [f"results/{name}/.evaluated" for name in TINY_SUITE],
        [checkpoint(name) for name in TINY_SUITE],
    output:
        update("results/compare.ipynb"),
        touch("results/.compared"),
    params:
        parameters=one_line({"results_dir": "results"}),
    log:
        "results/compare.log",
    resources:
        **JOINING,
    shell:
        "echo 'Comparing the runs'; " + EXECUTE + " -y {params.parameters:q}" + LOGGED


# The page of another study, as far as that is finished: `study.start` asks for it once all has run that could.
rule report:
    input:
        "notebooks/study.ipynb",
        code("notebooks/study.ipynb"),
        files(FOLDER, "*/run.json"),
        files(FOLDER, "**/evaluate.failed.txt"),
    output:
        update(f"{FOLDER}/study.ipynb"),
        touch(f"{FOLDER}/.reported"),
    params:
        parameters=one_line(
            {"results_dir": str(FOLDER), "runs": list(RUNS), "temperatures": STUDY.temperatures}
        ),
        title=STUDY.name,
    log:
        f"{FOLDER}/study.log",
    resources:
        **JOINING,
    shell:
        "echo 'Comparing the conditions'; " + EXECUTE + " --title {params.title:q} -y {params.parameters:q}" + LOGGED


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
        [checkpoint(name) for name in TINY_SUITE],
        [f"results/{name}/.evaluated" for name in TINY_SUITE],
    output:
        update("results/live/still.json"),
        touch("results/.live"),
    log:
        "results/live.log",
    shell:
        "echo 'Preparing the live figures'; OMP_NUM_THREADS={threads} python -m book.figures.live results results/live" + LOGGED


rule lab:
    input:
        code("book.figures.lab"),
        [checkpoint(name) for name in TINY_SUITE],
    output:
        update("results/lab/still.json"),
        touch("results/.lab"),
    log:
        "results/lab.log",
    shell:
        "echo 'Preparing the lab'; OMP_NUM_THREADS={threads} python -m book.figures.lab results/lab" + LOGGED
