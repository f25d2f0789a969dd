from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lmrel import Decoder, InputError, files, load_model, prompts, records
from lmrel.decoding import decoders_id
from lmrel.parameters import DECODINGS, PROMPT_STYLES
from study import origins
from study.run import Run

PARAMETERS: dict[str, Any] = {
    "model": "tiny-sparse-instruct",
    "precision": "auto",
    "prompt_style": "few_shot",
    "decoding": "pure",
    "temperatures": [0.0, 0.7],
    "runs": 2,
    "seed": 0,
    "max_new_tokens": 16,
    "stop": "eos",
    "problems": "paper",
    "limit": 2,
}


def test_run_writes_three_files_that_agree(tmp_path: Path) -> None:
    finished = Run(**PARAMETERS, output_dir=str(tmp_path))
    draws, summary = finished.carry_out(progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draws.parquet", "run.json", "summary.parquet"]
    assert pq.read_schema(tmp_path / "draws.parquet").names == records.DRAWS_SCHEMA.names
    assert len(records.read_draws(tmp_path)) == len(draws) == 4 * 3
    assert len(pd.read_parquet(tmp_path / records.SUMMARY)) == len(summary) == 2 * 3
    record = json.loads((tmp_path / "run.json").read_text())
    given = {"output_dir": str(tmp_path), "replace": False, "shards": 1, "shard": None}
    knobs = dict.fromkeys(("top_k", "top_p", "min_p", "repetition_penalty", "stop_strings"))
    shape = dict.fromkeys(("template", "system", "chat_template_kwargs", "columns"))
    shape |= {"chat_template": "auto", "answer": "first"}
    assert record["parameters"] == PARAMETERS | given | knobs | shape | {"determinism": True, "requests_at_once": 16}
    assert [decoder["id"] for decoder in record["decoders"]] == [Decoder(0.0).id, Decoder(0.7).id]
    assert record["decoding_id"] == decoders_id([Decoder(0.0), Decoder(0.7)])
    assert record["determinism"]["flipped"] == 0
    assert record["determinism"]["draws"] == 2 * 2 * 3
    assert [decoder["temperature"] for decoder in record["decoders"]] == [0.0, 0.7]
    assert record["decoders"][1]["top_k"] == 0
    assert record["precision"] == "fp32"
    assert record["ends"] == [2]
    assert min(record["seconds"][name] for name in ("load", "check", "sample")) > 0
    assert record["sha256"]["draws"] == files.sha256(tmp_path / "draws.parquet")
    assert finished.subtitle == "few_shot · pure · T = 0, 0.7"


def test_the_trial_of_neighbours_can_be_left_out(tmp_path: Path) -> None:
    Run(**PARAMETERS, output_dir=str(tmp_path), determinism=False).carry_out(progress=False)
    assert json.loads((tmp_path / "run.json").read_text())["determinism"]["draws"] == 0


def test_a_template_shapes_the_prompts_and_belongs_to_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.txt"
    template.write_text("Compute the value. {question} =")
    run = Run(**PARAMETERS | {"template": str(template)}, output_dir=str(tmp_path / "run"))
    draws, _ = run.carry_out(progress=False)
    assert draws["prompt"].str.contains(r"Compute the value. .* =", regex=True).all()
    assert set(draws["prompt_style"]) == {str(template)}
    assert "the first prompt:\n<s>[INST] Compute the value. a = " in capsys.readouterr().err
    assert run.subtitle.startswith("mine.txt · pure")
    template.write_text("Find the value. {question} =")  # the same path, another prompt
    with pytest.raises(InputError, match=r"would replace: hashes\.template '.{8}' → '.{8}'\. Choose"):
        run.carry_out(progress=False)
    draws, _ = replace(run, replace=True).carry_out(progress=False)
    assert draws["prompt"].str.contains("Find the value").all()


def test_temperatures_of_a_finished_run_may_be_more_but_not_fewer(tmp_path: Path) -> None:
    parameters = PARAMETERS | {"output_dir": str(tmp_path), "determinism": False}
    Run(**parameters).carry_out(progress=False)
    more = Run(**parameters | {"temperatures": [0.7, 1.0, 0.0]})
    assert list(more.carry_out(progress=False)[0]["temperature"].unique()) == [0.7, 1.0, 0.0]
    with pytest.raises(InputError, match="Choose another output_dir, or pass replace=True"):
        Run(**parameters).carry_out(progress=False)


def test_knobs_that_are_given_reach_the_decoders_and_override_the_checkpoints(tmp_path: Path) -> None:
    knobs = {"top_k": 3, "min_p": 0.1, "stop_strings": ["\n"]}
    run = Run(**PARAMETERS | knobs, output_dir=str(tmp_path))
    draws, _ = run.carry_out(progress=False)
    decoders = json.loads((tmp_path / "run.json").read_text())["decoders"]
    assert [(each["top_k"], each["min_p"], each["stop_strings"]) for each in decoders] == [(3, 0.1, ["\n"])] * 2
    assert set(draws["decoding"]) == {"custom"}
    assert "custom" in run.subtitle
    model, _ = load_model("tiny-dense-base")
    model.generation_config.top_k, model.generation_config.repetition_penalty = 7, 1.2
    as_shipped = Run(**PARAMETERS | knobs | {"decoding": "as_shipped"})
    shipped = origins.decoders_of(as_shipped, model.generation_config)
    assert [(each.top_k, each.repetition_penalty) for each in shipped] == [(3, 1.2)] * 2


def test_draws_from_other_prompts_are_not_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = PARAMETERS | {"output_dir": str(tmp_path)}
    Run(**parameters).carry_out(progress=False)
    before = (tmp_path / "draws.parquet").read_bytes()
    monkeypatch.setattr(prompts, "FEW_SHOT", prompts.FEW_SHOT.replace("Compute", "Find"))  # as a template with a clock
    with pytest.raises(InputError, match="holds draws from other prompts; give another output_dir"):
        Run(**parameters | {"runs": 3}).carry_out(progress=False)
    assert (tmp_path / "draws.parquet").read_bytes() == before


def test_subtitles_fit_a_narrow_screen(tmp_path: Path) -> None:
    files.write_json({"parameters": {}, "decoding_id": "0123abcd"}, tmp_path / records.RUN)
    for prompt_style, decoding in itertools.product(PROMPT_STYLES, DECODINGS):
        changes = {"prompt_style": prompt_style, "decoding": decoding, "output_dir": str(tmp_path), "replace": True}
        assert len(Run(**(PARAMETERS | changes)).subtitle) <= 45


def test_equal_parameters_give_equal_bytes(tmp_path: Path) -> None:
    for name in "ab":
        Run(**PARAMETERS, output_dir=str(tmp_path / name)).carry_out(progress=False)
    assert (tmp_path / "a/draws.parquet").read_bytes() == (tmp_path / "b/draws.parquet").read_bytes()


def test_as_shipped_run_records_and_prints_what_it_inherited(tmp_path: Path, capsys: Any) -> None:
    parameters = PARAMETERS | {"decoding": "as_shipped", "output_dir": str(tmp_path)}
    draws, _ = Run(**parameters).carry_out(progress=False)
    assert set(draws["decoding"]) == {"as_shipped"}
    decoders = json.loads((tmp_path / "run.json").read_text())["decoders"]
    assert [decoder["top_k"] for decoder in decoders] == [0, 50]  # the library's 50, where a checkpoint is silent
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "asked for temperature 0; the checkpoint and generate() added nothing"
    assert said[1] == "asked for temperature 0.7; the checkpoint and generate() added top_k=50"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "tiny-dense-bass"}, "model is 'tiny-dense-bass', which is no .* Did you mean 'tiny-dense-base'"),
        ({"problems": "nowhere.jsonl"}, "problems is 'nowhere.jsonl'; it must be 'paper' or an existing"),
        ({"output_dir": "/proc/nowhere"}, "output_dir is '/proc/nowhere', which cannot be written to"),
        ({"shards": 5}, "shards is 5; there are only 4 problems"),
        ({"runs": 10**9, "limit": None}, "a table of them does not fit into the memory of this machine"),
    ],
)
def test_a_bad_parameter_ends_in_a_sentence_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(origins, "load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=said):
        Run(**({**PARAMETERS, "output_dir": str(tmp_path)} | changes)).carry_out(progress=False)


def test_a_list_given_as_text_is_read() -> None:
    # papermill -p temperatures "[0.0, 0.7]" hands over a string
    given = Run(**(PARAMETERS | {"temperatures": "[0.0, 0.7]", "output_dir": "results"}))
    assert given.temperatures == (0.0, 0.7)


def test_a_mistyped_name_is_an_error_with_a_guess() -> None:
    names = PARAMETERS | {
        "output_dir": "results",
        "temperature": [0.5],
        "_private": 1,
        "In": [],
        "draws": pd.DataFrame(),
        "json": json,
    }
    with pytest.raises(InputError, match="'temperature' is no parameter. Did you mean 'temperatures'"):
        Run.from_namespace(names)
    del names["temperature"]
    assert Run.from_namespace(names).runs == 2


def test_errors_show_in_notebooks_as_their_sentence_alone() -> None:
    assert InputError("no such thing")._render_traceback_() == ["InputError: no such thing"]


def test_values_that_are_not_plain_are_not_passed_over() -> None:
    given = PARAMETERS | {"output_dir": "results"}
    with pytest.raises(InputError, match="'shrads' is no parameter. Did you mean 'shards'"):
        Run.from_namespace(given | {"shrads": np.int64(3)})
    with pytest.raises(InputError, match="^output_dir is "):
        Run.from_namespace(given | {"output_dir": Path("results")})
    assert Run.from_namespace(given | {"runs": np.int64(2)}).runs == 2
    with pytest.raises(InputError, match="parameters are missing: model\\."):
        Run.from_namespace({})
