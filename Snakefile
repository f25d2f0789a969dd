# From the study in study.yaml to the book: evaluate each model, compare, build. `make book` runs all of it;
# `snakemake --cores 2 --dry-run` shows what would run. Results depend on the notebooks and on lmrel's code.

from pathlib import Path

import yaml

configfile: "study.yaml"

MODELS = config["models"]
CODE = [str(path) for path in sorted(Path("lmrel").glob("*.py")) if path.stem not in ("train", "tiny", "corpus", "site")]
PAGES = ["index.md", *map(str, sorted(Path("book").rglob("*.md"))), "_config.yml", "_toc.yml", "book/references.bib"]


rule book:
    input:
        expand("results/{model}/evaluate.ipynb", model=MODELS),
        "results/compare.ipynb",
        PAGES,
        sorted(map(str, Path("lmrel").glob("s*/*"))),
        "lmrel/site.py",
    output:
        "_build/html/index.html",
    log:
        "_build/book.log",
    shell:
        # Without the old pages, one that left the table of contents is not published.
        "echo 'Building the pages'; rm -rf _build/html; jupyter-book build . -n -W --keep-going >{log} 2>&1"
        # Without its cache the next build reads, and warns of, every page again.
        " || (cat {log}; rm -rf _build/.doctrees; exit 1)\n"
        "touch {output}"


rule evaluate:
    input:
        "notebooks/evaluate.ipynb",
        CODE,
        lambda wildcards: sorted(map(str, Path("checkpoints", wildcards.model).glob("*"))),
    output:
        "results/{model}/evaluate.ipynb",
        "results/{model}/draws.parquet",
        "results/{model}/summary.parquet",
        "results/{model}/run.json",
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
        expand("results/{model}/draws.parquet", model=MODELS),
    output:
        "results/compare.ipynb",
        "results/numbers.json",
        "results/accuracy.json",
    log:
        "results/compare.log",
    shell:
        "echo 'Comparing the runs'; python -m lmrel.runner {input[0]} {output[0]} -y '{{results_dir: results}}' >{log} 2>&1 || (cat {log}; exit 1)"
