"""A browser is found or brought, or its tests are left out and named; with stand-ins for Chromium and for downloads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import browser

REPORT = """<testsuite>
<testcase classname="tests.test_a" name="test_1"/>
<testcase classname="tests.test_a" name="test_2"><skipped message="no /proc"/></testcase>
<testcase classname="tests.book.test_b" name="test_3"><skipped message="there is no Chromium here"/></testcase>
<testcase classname="tests.book.test_b" name="test_4"><skipped message="there is no Chromium here"/></testcase>
</testsuite>"""


def stand_in(path: Path, status: int = 0) -> Path:
    """A program that does nothing, well or badly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine with no browser, which nothing downloads or installs; the commands by which that was tried."""
    commands: list[str] = []

    def run(*command: str) -> bool:
        commands.append(" ".join(command))
        return command[-1] == "--version" and "apt-get" not in command and not os.system(f"'{command[0]}'")

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(browser, "run", run)
    monkeypatch.setattr(browser, "downloaded", lambda: str(tmp_path / "own"))
    return commands


def then(monkeypatch: pytest.MonkeyPatch, after: str, happens: Callable[[], object]) -> None:
    """What a command with `after` in it does, if it is run."""
    before = browser.run
    monkeypatch.setattr(
        browser, "run", lambda *command: (after in " ".join(command) and bool(happens())) or before(*command)
    )


def test_a_browser_on_the_path_is_taken_and_a_placeholder_for_one_is_not(tmp_path: Path, asked: list[str]) -> None:
    stand_in(tmp_path / "bin" / "chromium", status=1)
    assert browser.find() is None
    there = stand_in(tmp_path / "bin" / "google-chrome")
    assert browser.bring() == browser.find() == str(there)
    assert all(command.endswith("--version") for command in asked)


def test_a_browser_is_downloaded_where_there_is_none(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    then(monkeypatch, "playwright install chromium", lambda: stand_in(tmp_path / "own"))
    assert browser.bring() == str(tmp_path / "own")
    assert not any("apt-get" in command for command in asked)


@pytest.mark.parametrize("who", ["root", "a user whose sudo asks nothing"])
def test_a_browser_is_installed_where_it_cannot_be_downloaded(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0 if who == "root" else 1000)
    then(monkeypatch, "apt-get --version", lambda: True)
    then(monkeypatch, "--yes install chromium", lambda: stand_in(tmp_path / "bin" / "chromium"))
    assert browser.bring() == str(tmp_path / "bin" / "chromium")
    sudo = "" if who == "root" else "sudo -n "
    assert f"{sudo}apt-get -qq update" in asked


def test_a_downloaded_browser_that_lacks_libraries_is_given_them(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "own", status=127)
    then(monkeypatch, "apt-get --version", lambda: True)
    then(monkeypatch, "playwright install-deps chromium", lambda: stand_in(tmp_path / "own"))
    assert browser.bring() == str(tmp_path / "own")


def test_where_no_browser_can_be_had_it_says_what_to_install(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="none could be brought; install Chromium, for example with"):
        browser.main()
    assert [command.split()[0] for command in asked[-1:]] == ["sudo"]  # would it ask?
    assert not any("--yes" in command for command in asked)
    assert capsys.readouterr().out == ""


def test_tests_that_were_not_run_are_named_in_a_line_which_on_ci_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "tests.xml"
    report.write_text(REPORT)
    monkeypatch.delenv("CI", raising=False)
    browser.main("skipped", str(report))
    said = capsys.readouterr().out
    assert said.startswith("Not run, because there is no Chromium here: 2 of tests/book/test_b.py. To run")
    assert said.count("\n") == 1
    monkeypatch.setenv("CI", "true")
    with pytest.raises(SystemExit, match="2 of tests/book/test_b.py"):
        browser.main("skipped", str(report))
    report.write_text("<testsuite/>")
    browser.main("skipped", str(report))
    assert capsys.readouterr().out == ""
