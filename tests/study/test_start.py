"""What `make book` and `make study` call, against a script that stands in for Snakemake."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError
from study import devices, plan, start
from study.run import Run
from tests.study.test_jobs import BASE, INSTRUCT

OWN, SMALL = Path("study.yaml"), Path("studies/small.yaml")
TEXT = f"models: [{BASE}, {INSTRUCT}]\nparameters: {{limit: 2, temperatures: [0.0]}}\n"
FOLDERS = {OWN: Path("results"), SMALL: Path("results/studies/small")}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with two studies, two profiles, and a Snakemake that only notes what it was asked."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("local", "cores: all"), ("cluster", "executor: other")):
        (tmp_path / start.PROFILES / name).mkdir(parents=True)
        (tmp_path / start.PROFILES / name / "config.yaml").write_text(text)
    SMALL.parent.mkdir()
    for path in (OWN, SMALL):
        path.write_text(TEXT)
    monkeypatch.setattr(start, "SNAKEMAKE", str(tmp_path / "snakemake"))
    monkeypatch.setattr(devices, "gpus", list)
    snakemake("")
    return tmp_path


def snakemake(script: str) -> None:
    """Let Snakemake be this script of a shell, once it has noted what it was asked."""
    path = Path("snakemake").absolute()
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>asked\n{script}\n')
    path.chmod(0o755)


def asked() -> list[list[str]]:
    """The words of each call of Snakemake."""
    path = Path("asked")
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def targets() -> list[tuple[list[str], str]]:
    """What each call was to make, and which study it was told."""
    return [
        (words[: words.index("--profile")], words[words.index("--config") + 1].removeprefix("study=").strip('"'))
        for words in asked()
    ]


def carry_out(target: str = "study", source: Path = OWN, profile: str = "local", **given: Any) -> None:
    start.start(target, source, profile, **{"replace": False} | given)


def refused(*given: Any, **named: Any) -> list[str]:
    """The lines of what a start ends with."""
    with pytest.raises(InputError) as found:
        carry_out(*given, **named)
    return str(found.value).splitlines()


def failing(source: Path, run: str, why: str) -> str:
    """A script in which a job of a run fails."""
    path = FOLDERS[source] / run
    return f"mkdir -p {path}; printf %s {shlex.quote(why)} >{path}/evaluate.failed.txt; echo 'one failed' >&2; exit 1"


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("study", OWN, [(["study", "compare"], "study.yaml")]),
        ("book", OWN, [(["book"], "study.yaml")]),
        ("study", SMALL, [(["study"], "studies/small.yaml"), (["report"], "studies/small.yaml")]),
        (
            "book",
            SMALL,
            [(["study"], "studies/small.yaml"), (["report"], "studies/small.yaml"), (["book"], "study.yaml")],
        ),
    ],
)
def test_each_study_is_carried_out_then_shown(
    project: Path, target: str, source: Path, expected: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    carry_out(target, source)
    assert targets() == expected
    said = "The study: results/studies/small/study.ipynb; `make book` makes pages of it and of its conditions\n"
    assert capsys.readouterr().out == (said if source == SMALL else "")
    assert Path("results/snakemake.log").read_text() == ""


def test_on_this_machine_as_many_jobs_run_as_there_are_gpus_and_snakemake_is_quiet(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_out()
    monkeypatch.setattr(devices, "gpus", lambda: ["a", "b"])
    carry_out(replace=True)
    carry_out(profile="cluster")
    alone, two, cluster = asked()
    assert alone[2:6] == ["--profile", "study/profiles/local", "--config", 'study="study.yaml"']
    assert alone[6:] == ["--resources", "gpu=1", *start.QUIET]
    assert two[6:] == ["--resources", "gpu=2", *start.QUIET]  # there were no draws to replace
    assert cluster[2:] == ["--profile", "study/profiles/cluster", "--config", 'study="study.yaml"']


def test_a_job_that_failed_is_named_with_its_sentence_and_its_log(project: Path) -> None:
    snakemake(failing(OWN, INSTRUCT, "InputError: the model is no model.\nThe traceback is in x.\n"))
    assert refused() == [
        f"{INSTRUCT} failed: the model is no model.",
        f"  Its log is results/{INSTRUCT}/evaluate.log",
    ]
    assert Path("results/snakemake.log").read_text() == "one failed\n"


def test_what_has_finished_is_shown_although_some_failed(project: Path) -> None:
    SMALL.write_text(f"{TEXT}shards: 2\n")
    (FOLDERS[SMALL] / BASE).mkdir(parents=True)
    snakemake(f'[ "$1" != study ] || {{ {failing(SMALL, f"{BASE}/shards/1-of-2", "KeyError: 5")}; }}')
    assert refused("book", SMALL) == [
        f"{BASE}, shard 1 of 2 failed: KeyError: 5",
        f"  Its log is results/studies/small/{BASE}/shards/1-of-2/evaluate.log",
    ]
    assert [made for made, _ in targets()] == [["study"], ["report"], ["book"]]


def test_a_page_that_failed_too_is_not_hidden_by_the_job_that_did(project: Path) -> None:
    (FOLDERS[SMALL] / BASE).mkdir(parents=True)
    page = '[ "$1" != report ] || { echo "the page failed" >&2; exit 1; }'
    snakemake(f'[ "$1" != study ] || {{ {failing(SMALL, BASE, "KeyError: 5")}; }}\n{page}')
    said = refused("study", SMALL)
    assert said[0] == f"{BASE} failed: KeyError: 5"
    assert "  the page failed" in said


def test_a_failure_that_no_job_explains_shows_snakemakes_last_words_and_where_all_are(project: Path) -> None:
    snakemake("for i in $(seq 30); do echo word $i >&2; done; exit 1")
    said = refused()
    assert said[0] == "the study did not end well. Snakemake's last words:"
    assert said[1:-1] == [f"  word {number}" for number in range(19, 31)]
    assert said[-1] == "All are in results/snakemake.log"
    assert len(Path("results/snakemake.log").read_text().splitlines()) == 30


def test_an_error_in_the_snakefile_is_shown_whatever_failed_before(project: Path) -> None:
    old = Path("results", BASE)
    old.mkdir(parents=True)
    (old / "evaluate.failed.txt").write_text("InputError: the day before.\n")
    snakemake("echo \"KeyError in file Snakefile, line 29: 'gpu'\" >&2; exit 1")
    said = refused()
    assert "  KeyError in file Snakefile, line 29: 'gpu'" in said
    assert not [line for line in said if "the day before" in line]


def test_on_a_cluster_snakemakes_words_are_shown_as_they_come(
    project: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    snakemake("printf 'submitted \\377\\n' >&2")
    carry_out()
    assert capfdbinary.readouterr().err == b""
    carry_out(profile="cluster")
    assert capfdbinary.readouterr().err == b"submitted \xff\n"
    assert Path("results/snakemake.log").read_bytes() == b"submitted \xff\n"  # of the last start alone


def test_nothing_starts_that_would_replace_draws_or_cannot_be(project: Path) -> None:
    [job, _] = start.Study.read(OWN).jobs()
    Run(**job.parameters).carry_out(progress=False)
    OWN.write_text(TEXT.replace("limit: 2", "limit: 2, seed: 5"))
    assert refused() == [
        f"{BASE}: replaces 4 draws: seed 0 → 5",
        plan.LETS_GO,
    ]
    assert refused(profile="slrum") == ["PROFILE is 'slrum'; study/profiles has cluster, local."]
    assert refused("book", SMALL)[0] == f"{BASE}: replaces 4 draws: seed 0 → 5"  # the book's own, which follows
    OWN.write_text("models: [tiny-dense-bass]")
    assert refused(replace=True)[0].startswith("study.yaml: model is 'tiny-dense-bass'")
    assert asked() == []
    OWN.write_text(TEXT.replace("limit: 2", "limit: 2, seed: 5"))
    carry_out(replace=True)
    [words] = asked()
    assert f'replace=["{BASE}"]' in words  # and not those of the other condition, which are the study's


def test_a_dry_run_reports_what_snakemake_would_run_and_runs_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = f"rule evaluate:\n    jobid: 1\n    wildcards: run={BASE}\n\nrule study:\n    jobid: 0\n"
    snakemake(f"cat <<'END'\n{planned}END")
    monkeypatch.setattr(sys, "argv", ["start", "study", "--study", str(SMALL), "--dry"])
    start.main()
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{BASE}: evaluate, 4 draws, about ")
    assert last.startswith("1 jobs; drawing takes about ")
    [words] = asked()
    assert words[:2] == ["study", "--dry-run"]
    assert words[-2:] == ["--config", f'study="{SMALL}"']
    snakemake("echo one; echo two >&2; exit 1")
    with pytest.raises(InputError, match="^Snakemake could not plan the study: one\ntwo$"):
        start.dry_run(SMALL)
    assert not Path("results").exists()


def test_the_command_line_says_what_is_started(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "refuse", lambda _: pytest.fail("it was to be replaced"))
    monkeypatch.setattr(plan, "replacements", lambda study, weights: {study.name: "all of it"} if weights else {})
    line = ["start", "book", "--study", str(SMALL), "--profile", "cluster", "--replace"]
    monkeypatch.setattr(sys, "argv", line)
    start.main()
    assert [made for made, _ in targets()] == [["study"], ["report"], ["book"]]
    assert [words[-1] for words in asked()] == ['replace=["small"]', 'replace=["small"]', 'replace=["study"]']
    monkeypatch.setattr(sys, "argv", [*line[:-1], "--profile", "none"])
    with pytest.raises(SystemExit, match="^error: PROFILE is 'none'"):
        start.main()
