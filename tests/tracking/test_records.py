"""What is tracked is what was told, by how many layers are removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from telltale.tracking.records import (
    Course,
    Record,
    config_of,
    name_of,
    path_records,
    summary_of,
)
from tests.rounds import step
from tests.tracking.told import ASKED, PRIVATE, ROUNDS, WHOLE, result, whole_measured


def course() -> Course:
    made = Course()
    for measurement in whole_measured():
        made.measured(measurement)
    return made


def test_the_first_round_tells_of_the_whole_model_too() -> None:
    whole, first = course().round_done(ROUNDS[0])
    assert whole == Record(0, {"search/accuracy": 0.5})  # of examples, not of batches
    assert first == Record(
        1,
        {
            "search/accuracy": 0.75,
            "search/objective": -1.0,
            "removed_layer": 2,
            "candidates": 3,
            "search/whole_accuracy": 0.5,
        },
    )


def test_a_round_that_keeps_nothing_is_apart_from_the_path() -> None:
    made = course()
    records = [record for done in ROUNDS for record in made.round_done(done)]
    assert [record.layers_removed for record in records] == [0, 1, 2, 3]
    assert records[2].numbers["search/accuracy"] == 0.5
    assert records[3].numbers == {
        "refused/accuracy": 0.0,
        "refused/objective": -4.0,
        "refused/layer": 3,
        "candidates": 1,
        "search/whole_accuracy": 0.5,
    }


def test_rounds_that_are_told_again_are_not_logged_again() -> None:
    made = course()
    for done in ROUNDS[:2]:
        made.round_done(done)
    assert [record for done in ROUNDS[:2] for record in made.round_done(done)] == []
    (last,) = made.round_done(ROUNDS[2])
    assert last.layers_removed == 3


def test_rounds_that_have_changed_are_logged_again() -> None:
    made = course()
    for done in ROUNDS[:2]:
        made.round_done(done)
    changed = step(WHOLE, {1: 0.5, 2: 0.8, 3: 0.25}, 2, {1: -2.0, 2: -1.0, 3: -3.0})
    (record,) = made.round_done(changed)
    assert record.layers_removed == 1
    assert record.numbers["search/accuracy"] == 0.8


def test_rounds_without_the_whole_models_scores_are_logged_without_them() -> None:
    (record,) = Course().round_done(ROUNDS[0])
    assert "search/whole_accuracy" not in record.numbers


def test_what_is_asked_is_flat_and_has_no_path_of_the_machine() -> None:
    config = config_of(ASKED)
    assert config == {
        "model/name": "small",
        "model/sha256": "ab12",
        "model/trust_remote_code": False,
        "model/layers": 4,
        "task/name": "capitals",
        "task/prompt": "Question: {question}\nAnswer:",
        "task/shots": 0,
        "task/stop": '["\\n", "é"]',
        "task/shares/hf:org_one": 2.0,
        "guards/1/task": "arc (easy)",
        "guards/1/most_loss": 0.01,
        "search/objective": "likelihood",
        "search/tolerance": 0.08,
        "search/protected": "[0]",
    }
    assert PRIVATE in json.dumps(ASKED)
    assert PRIVATE not in json.dumps(config)
    assert name_of(ASKED) == "small on capitals"


def test_every_model_on_the_path_has_its_evidence() -> None:
    said = result()
    records = path_records(said)
    assert [record.layers_removed for record in records] == [0, 1, 2]
    held_out = said.models[1].held_out
    assert held_out is not None
    gain_low, gain_high = held_out.gain_interval
    assert records[1].numbers == {
        "held_out/accuracy": 0.9,
        "held_out/gain": pytest.approx(0.4),
        "held_out/gain_low": gain_low,
        "held_out/gain_high": gain_high,
        "loses_at_most": held_out.loses_at_most,
        "parameters": 90,
        "tokens_per_second": 51.0,
        "text_perplexity": 21.0,
    }


def test_the_summary_names_the_models_and_says_the_verdict() -> None:
    said = result()
    summary = summary_of(said)
    assert said.final is not None
    final = said.final.seen
    assert summary == {
        "verdict": said.verdict,
        "recommended": "confirmed_best",
        "best/removed": "2",
        "bsba/removed": "2, 1",
        "confirmed_best/removed": "2",
        "fastest_safe/removed": "none",
        "final/name": "confirmed_best",
        "final/removed": "2",
        "final/loses_at_most": final.loses_at_most,
        "final/accuracy": final.accuracy,
        "final/gain": final.gain,
        "final/gain_low": final.gain_interval.low,
        "final/gain_high": final.gain_interval.high,
        "cost/dense_passes": 3.5,
        "cost/seconds": 12.0,
    }


def test_the_whole_model_is_said_in_words() -> None:
    said = result(final=False)
    models = [replace(model, names=()) for model in said.models]
    models[0] = replace(models[0], names=("best", "bsba"))
    summary = summary_of(replace(said, models=tuple(models)))
    assert summary["recommended"] == "the whole model"
    assert summary["best/removed"] == "nothing"
    assert not any(name.startswith("final/") for name in summary)
