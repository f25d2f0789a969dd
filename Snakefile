# From the study in study.yaml to the book: evaluate each model, compare, build. `make book` runs all of it.
#
# Results are update() outputs: a failed run leaves the last good ones in place. The touch() file beside them says
# that they are of the present parameters, notebooks and code; without it the rule runs again.

from pathlib import Path

import yaml

configfile: "study.yaml"

MODELS = config["models"]
NOT_IN_A_RUN = ("train", "tiny", "corpus", "card", "site")
CODE = [str(path) for path in sorted(Path("lmrel").glob("*.py")) if path.stem not in NOT_IN_A_RUN]
PAGES = ["index.md", *map(str, sorted(Path("book").rglob("*.md"))), "_config.yml", "_toc.yml", "book/references.bib"]


rule book:
    input:
        expand("results/{model}/.evaluated", model=MODELS),
        "results/.compared",
        PAGES,
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


rule evaluate:
    input:
        "notebooks/evaluate.ipynb",
        CODE,
        lambda wildcards: sorted(map(str, Path("checkpoints", wildcards.model).glob("*"))),
    output:
        update("results/{model}/evaluate.ipynb"),
        update("results/{model}/draws.parquet"),
        update("results/{model}/summary.parquet"),
        update("results/{model}/run.json"),
        touch("results/{model}/.evaluated"),
    params:
        parameters=lambda wildcards: yaml.safe_dump(
            config["parameters"] | {"model": wildcards.model, "output_dir": f"results/{wildcards.model}"},
            default_flow_style=True,
            width=10**6,
        ).strip(),
    log:
        "results/{model}/evaluate.log",
    shell:
        "echo 'Evaluating {wildcards.model}'; OMP_NUM_THREADS={threads} python -m lmrel.runner {input[0]} {output[0]} "
        "--title {wildcards.model} -y {params.parameters:q} >{log} 2>&1 || (cat {log}; exit 1)"


rule compare:
    input:
        "notebooks/compare.ipynb",
        CODE,
        expand("results/{model}/.evaluated", model=MODELS),
    output:
        update("results/compare.ipynb"),
        update("results/numbers.json"),
        update("results/accuracy.json"),
        touch("results/.compared"),
    log:
        "results/compare.log",
    shell:
        "echo 'Comparing the runs'; python -m lmrel.runner {input[0]} {output[0]} -y '{{results_dir: results}}' "
        ">{log} 2>&1 || (cat {log}; exit 1)"
