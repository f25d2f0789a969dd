from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lmrel import InputError
from tests.conftest import ROOT
from tools.licences import LOCK, LOCKED, TARGET, licence, listed, main, note

TEXT = LOCK.read_text(encoding="utf-8")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_holds_what_the_constraints_hold_with_hashes_and_no_place() -> None:
    locked = {plain(name): version for name, version in LOCKED.findall(TEXT)}
    lines = (ROOT / "constraints.txt").read_text().split()
    assert {plain(name): version for name, version in (line.split("==") for line in lines)}.items() <= locked.items()
    blocks = re.split(r"\n(?=\S)", TEXT.strip())
    assert len(blocks) == len(locked)
    for block in blocks:
        first, *hashes = block.split("\n")
        assert re.match(r"[\w.-]+==[\w.]+( ; .+)? \\$", first), first
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), first


def test_every_locked_package_is_listed() -> None:
    rows = json.loads(TARGET.read_text(encoding="utf-8"))
    assert [(row["name"], row["version"]) for row in rows] == LOCKED.findall(TEXT)
    assert all(row["note"] == note(row["licence"]) for row in rows if row["note"] != "other machines")


@pytest.mark.parametrize(
    ("metadata", "said", "noted"),
    [
        ({"license_expression": "MIT", "license": "other"}, "MIT", ""),
        ({"classifier": ["License :: OSI Approved :: BSD License", "Topic :: A"], "license": "x"}, "BSD License", ""),
        ({"classifier": ["License :: OSI Approved"], "license": "Apache 2.0"}, "Apache 2.0", ""),
        ({"license": "A page\nof text"}, "", "unknown"),
        ({"license": "UNKNOWN"}, "UNKNOWN", "unknown"),
        ({}, "", "unknown"),
        ({"license_expression": "MPL-2.0 AND MIT"}, "MPL-2.0 AND MIT", "copyleft"),
        ({"license": "LGPLv3"}, "LGPLv3", "copyleft"),
        ({"classifier": ["License :: Other/Proprietary License"]}, "Other/Proprietary License", "proprietary"),
    ],
)
def test_a_licence_is_read_and_noted(metadata: dict[str, Any], said: str, noted: str) -> None:
    assert (licence(metadata), note(said)) == (said, noted)


def test_a_package_for_other_machines_is_listed_and_another_version_is_an_error() -> None:
    report = {"install": [{"metadata": {"name": "A_b", "version": "1", "license_expression": "MIT"}}]}
    lock = "a-b==1 \\\n    --hash=sha256:0\nc==2 ; sys_platform == 'win32' \\\n"
    assert listed(lock, report) == [
        {"name": "a-b", "version": "1", "licence": "MIT", "note": ""},
        {"name": "c", "version": "2", "licence": "", "note": "other machines"},
    ]
    with pytest.raises(InputError, match="a-b is locked at 2"):
        listed("a-b==2 \\\n", report)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "^2$"),
        ("", "report.json cannot be read: Expecting value"),
        ("{}", "report.json holds something else: it has no 'install'"),
        ('{"install": [{}]}', "this is no report of pip's"),
        ('{"install": 5}', "this is no report of pip's"),
    ],
    ids=range(5),
)
def test_a_command_line_without_a_report_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(text or "")
    before = TARGET.read_bytes()
    monkeypatch.setattr("sys.argv", ["licences", *([str(path)] if text is not None else [])])
    with pytest.raises(SystemExit, match=said):
        main()
    assert TARGET.read_bytes() == before
