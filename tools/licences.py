"""The licences of all that requirements.lock installs, from the packages' own metadata: book/data/licences.json.

``python -m tools.licences REPORT``; REPORT is what pip says of a dry run: ``pip install --dry-run --ignore-installed
--require-hashes -r requirements.lock --report REPORT``, which fetches some GB to look into them; an old pip passes over
SPDX expressions. It knows the packages for the machine it ran on; the locked ones for others are without a licence.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmrel.errors import InputError, command, quoted
from lmrel.files import read_object, writing

ROOT = Path(__file__).resolve().parent.parent
LOCK, TARGET = ROOT / "requirements.lock", ROOT / "book" / "data" / "licences.json"
LOCKED = re.compile(r"^([\w.-]+)==(\S+)", re.M)
NOTES = {"copyleft": r"GPL|MPL|Mozilla|EPL|EUPL|CeCILL", "proprietary": r"Proprietary|NVIDIA"}


def licence(metadata: Mapping[str, Any]) -> str:
    """As the metadata has it: an SPDX expression, else the classifiers', else a licence on one line; empty if none."""
    classifiers = [one.rpartition(" :: ")[2] for one in metadata.get("classifier", []) if one.startswith("License ::")]
    own = str(metadata.get("license") or "").strip()
    named = " AND ".join(one for one in classifiers if one != "OSI Approved")
    return metadata.get("license_expression") or named or (own if "\n" not in own else "")


def note(text: str) -> str:
    """What to look at: ``unknown``, ``copyleft`` or ``proprietary``; empty for a permissive licence."""
    if not text or text.upper() == "UNKNOWN":
        return "unknown"
    return next((name for name, pattern in NOTES.items() if re.search(pattern, text, re.I)), "")


def listed(lock: str, report: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each locked package: ``name, version, licence, note``."""
    try:
        found = {_plain(one["metadata"]["name"]): one["metadata"] for one in report["install"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"this is no report of pip's: {quoted(report)}.") from error
    rows = []
    for name, version in LOCKED.findall(lock):
        metadata = found.get(_plain(name))
        if metadata and metadata.get("version") != version:
            raise InputError(f"{name} is locked at {version}, and the report is of {metadata.get('version')}.")
        text = licence(metadata) if metadata else ""
        rows.append(
            {"name": name, "version": version, "licence": text, "note": note(text) if metadata else "other machines"}
        )
    return rows


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@command()
def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="what pip says of a dry run")
    rows = listed(LOCK.read_text(encoding="utf-8"), read_object(parser.parse_args().report, "install"))
    with writing(TARGET):
        TARGET.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
