"""A study of a user's own, from its file to its pages, in which a model fails and the coordinator is killed.

What the pages say is checked against the data. Nothing here knows the models that ship but as files to copy.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lmrel import records
from lmrel.registry import CHECKPOINTS
from tests.conftest import ROOT

QUESTIONS = [
    "(16 - 18) * 5 + 3",
    "(8 + 4) * 2 - 1",
    "(7 - 2) * 3 + 4",
    "(30 - 12) * 2 + 5",
    "Tom & Ann have <3> apples each. How many?",
]
ANSWERS = [-7, 23, 19, 41, 6]
GIVEN = ("asked", "told")  # the two prompts
FAILS = "halved"
PATIENCE = 600  # seconds for anything to come to pass; a machine may be busy


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a study of four conditions: two prompts, each of a model and of one that fails."""
    folder = tmp_path_factory.mktemp("project")
    for room in ("lmrel", "study", "tiny", "book", "tools", "notebooks", "checkpoints"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__", ".lock"))
    for name in ("Snakefile", "study.yaml", "_config.yml", "_toc.yml"):
        shutil.copy2(ROOT / name, folder / name)
    shutil.copytree(CHECKPOINTS / "tiny-dense-instruct", folder / "own")
    shutil.copytree(folder / "own", folder / FAILS)
    config = json.loads((folder / FAILS / "config.json").read_text())
    (folder / FAILS / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] // 2}))
    pd.DataFrame({"question": QUESTIONS, "answer": ANSWERS}).to_csv(folder / "mine.csv", index=False)
    (folder / "told.txt").write_text("Answer with a number alone. {question}")
    study = {
        "models": ["own", FAILS],
        "grid": {"prompt": {GIVEN[0]: {"prompt_style": "zero_shot"}, GIVEN[1]: {"template": "told.txt"}}},
        "parameters": {"problems": "mine.csv", "temperatures": [0, 0.8], "runs": 3},
    }
    (folder / "studies").mkdir()
    (folder / "studies" / "mine.yaml").write_text(yaml.safe_dump(study))
    return folder


BINARIES = Path(sys.executable).parent


def command(project: Path, *words: str | Path) -> subprocess.Popen[str]:
    environment = os.environ | {"PATH": f"{BINARIES}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(words, cwd=project, env=environment, text=True, start_new_session=True, **pipes)


def module(project: Path, *words: str) -> subprocess.Popen[str]:
    return command(project, sys.executable, "-m", *words)


def start(project: Path, *more: str) -> subprocess.Popen[str]:
    return module(project, "study.start", "study", "--study", "studies/mine.yaml", *more)


@pytest.fixture(scope="module")
def said(project: Path) -> str:
    """What the second start says: the first is killed once a condition has finished."""
    first = start(project)
    deadline = time.monotonic() + PATIENCE
    while not (done := [path.parent for path in (project / "results/studies/mine").glob("*/.evaluated")]):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    before = {folder: (folder / records.DRAWS).stat().st_ino for folder in done}
    second = start(project)
    out, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 1
    assert {folder: (folder / records.DRAWS).stat().st_ino for folder in done} == before  # drawn once
    return out


def test_what_failed_is_said_with_its_reason_and_the_rest_is_finished(project: Path, said: str) -> None:
    end = said[said.index("error: halved-") :]
    for prompt in GIVEN:
        assert f"{FAILS}-{prompt} failed: {FAILS} has " in said
        assert f"Its log is results/studies/mine/{FAILS}-{prompt}/evaluate.log" in end
        assert (project / f"results/studies/mine/own-{prompt}/run.json").exists()
    assert re.search(r"has \S+ of shape \(\d+, \d+\), and its config\.json asks for \(\d+, \d+\)", end)
    assert "Traceback" not in end
    assert "not tried again" in said


def test_progress_and_plan_tell_what_is_missing_and_nothing_is_replaced_without_a_word(
    project: Path, said: str
) -> None:
    assert said
    out, _ = module(project, "study.progress", "studies/mine.yaml").communicate()
    assert "4 jobs: 2 finished, 2 failed" in out
    path = project / "studies" / "mine.yaml"
    text = path.read_text()
    path.write_text(text.replace("runs: 3", "runs: 2"))
    out, _ = start(project, "--dry").communicate()
    drawn = len(QUESTIONS) * (1 + 3)
    for prompt in GIVEN:
        assert f"own-{prompt}: replaces {drawn} draws: runs 3 → 2" in out
    refused = start(project)
    out, _ = refused.communicate()
    path.write_text(text)
    assert refused.returncode == 1
    assert "Nothing was started. REPLACE=1" in out
    out, _ = start(project, "--dry").communicate()
    assert "replaces" not in out


@pytest.fixture(scope="module")
def pages(project: Path, said: str) -> dict[str, str]:
    """The text of the study's pages, by the name of their folders."""
    assert said
    contents, _ = module(project, "book.site.contents").communicate()
    table = yaml.safe_load(contents[contents.index("format:") :])
    [part] = [part for part in table["parts"] if part["caption"] == "Study: mine"]
    (project / "index.md").write_text("# A book\n\nOf one study.\n")
    (project / "_toc.yml").write_text(yaml.safe_dump(table | {"parts": [part]}))
    building = command(project, BINARIES / "jupyter-book", "build", ".", "--path-output", "_build", "--keep-going")
    out, _ = building.communicate(timeout=PATIENCE)
    site = project / "_build" / "_build" / "html"
    found = {}
    for chapter in part["chapters"]:
        page = site / f"{chapter['file']}.html"
        assert page.exists(), out
        article = re.search(r"<article.*?</article>", page.read_text(), re.S)
        assert article
        shown = re.sub(r"<(script|style|pre)\b.*?</\1>", " ", article[0], flags=re.S)
        found[page.parent.name] = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", shown)).split())
    return found


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(change: float) -> str:
    return f"{100 * change or 0.0:+.1f}".replace("-", "−")


def test_the_pages_say_what_the_data_say(project: Path, pages: dict[str, str]) -> None:
    assert set(pages) == {"mine", *(f"own-{prompt}" for prompt in GIVEN)}
    for prompt in GIVEN:
        draws = records.read_draws(project / f"results/studies/mine/own-{prompt}")
        page, study = pages[f"own-{prompt}"], pages["mine"]
        accuracy = draws.groupby("temperature")["correct"].mean()
        cold, hot = accuracy[0.0], accuracy[0.8]
        change = 100 * (hot - cold)
        assert (
            f"{percent(cold)} right at T = 0, {percent(hot)} at T = 0.8: {change:+.1f} points".replace("-", "−") in page
        )
        assert f"{len(QUESTIONS)} problems, {len(draws)} answers" in page
        assert all(" ".join(question.split()) in page for question in QUESTIONS)
        assert f"own-{prompt}" in study
        assert re.search(
            rf"own-{prompt} {re.escape(points(cold - hot))}( \[| {len(QUESTIONS)})", study
        )  # what it loses
    assert "told.txt" in pages["own-told"]
    assert "zero_shot" in pages["own-asked"]


def test_the_studys_page_says_what_is_missing_and_why(pages: dict[str, str]) -> None:
    for prompt in GIVEN:
        assert re.search(rf"{FAILS}-{prompt}\W+{FAILS} has \S+ of shape", pages["mine"])


@pytest.mark.parametrize("word", ["tiny", "the paper", "dense", "sparse", "the four", "240", "grid"])
def test_no_page_of_it_speaks_of_the_books_own_study(pages: dict[str, str], word: str) -> None:
    assert {name: text for name, text in pages.items() if re.search(rf"\b{word}\b", text, re.I)} == {}
