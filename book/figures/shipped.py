"""The four runs of the book's own study, checked: pages that tell what happened read these and no others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lmrel import files, records
from lmrel.errors import InputError, quoted
from lmrel.files import as_path, read_object
from lmrel.parameters import Parameters
from lmrel.registry import CHECKPOINTS, TINY_SUITE
from study.parts import HOW

# The book's protocol, here as well as in study.yaml: who edits that leaves the words of the pages as they are.
PROTOCOL: dict[str, Any] = {
    "prompt_style": "few_shot",
    "decoding": "pure",
    "temperatures": (0.0, 0.1, 0.5, 1.0),
    "runs": 4,
    "seed": 0,
    "max_new_tokens": 16,
    "stop": "eos",
    "answer": "first",
    "problems": "paper",
}


def shipped(results: Path | str) -> tuple[str, ...]:
    """The names of the four shipped models, each a folder below `results` that holds its run by the book's protocol.

    Raises `InputError`, with the file and the difference, for a run that is missing, was drawn with other parameters or
    from other weights than those in ``checkpoints/``, or whose tables are not those that it wrote.
    """
    for name in TINY_SUITE:
        folder = as_path("results", results) / name
        record = read_object(folder / records.RUN, "parameters", "hashes", "sha256")
        given, hashes, tables = (
            found if isinstance(found := record[each], dict) else {} for each in ("parameters", "hashes", "sha256")
        )
        asked = {each: value for each, value in asdict(Parameters(name, **PROTOCOL)).items() if each not in HOW}
        asked["temperatures"] = list(asked["temperatures"])  # as JSON has it
        for each in [*asked, *(more for more in given if more not in (*asked, *HOW))]:
            _check(folder / records.RUN, each, given.get(each), asked.get(each))
        weights = files.sha256(*sorted((CHECKPOINTS / name).glob("*.safetensors")))
        _check(folder / records.RUN, "hash of weights", hashes.get("weights"), weights)
        for each, table in (("draws", records.DRAWS), ("summary", records.SUMMARY)):
            _check(folder / records.RUN, f"hash of {table}", tables.get(each), files.sha256(folder / table))
    return TINY_SUITE


def _check(path: Path, name: str, found: Any, needed: Any) -> None:
    if found != needed or type(found) is not type(needed):
        raise InputError(
            f"{path} has {quoted(found)} as its {name}, and the book's own pages tell of {quoted(needed)}: "
            "evaluate other models and other settings in a study of your own."
        )
