"""The Pareto front of accuracy and size: by the definition, in the document and on the page."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from telltale.evidence.pareto import export_command, front, front_document
from telltale.report.figures import drawings, tables
from telltale.report.page import page
from telltale.report.svg import LIGHT
from tests.report.made import Made

if TYPE_CHECKING:
    from telltale.evidence.parts import PathModel


def points(*accuracies: tuple[float, int]) -> list[PathModel]:
    """Models with these held-out accuracies and parameters."""
    result = Made().finished().result
    assert result is not None
    model = result.models[0]
    assert model.held_out is not None
    return [
        replace(model, parameters=size, held_out=replace(model.held_out, accuracy=accuracy))
        for accuracy, size in accuracies
    ]


def of(models: tuple[PathModel, ...]) -> list[tuple[float, int]]:
    return [(one.held_out.accuracy, one.parameters) for one in models]  # type: ignore[union-attr, misc]


def test_who_is_beaten_in_both_is_not_on_the_front() -> None:
    assert of(front(points((0.7, 10), (0.8, 9), (0.75, 8), (0.6, 7), (0.65, 6)))) == [
        (0.8, 9),
        (0.75, 8),
        (0.65, 6),
    ]
    # As accurate and smaller is better; equal in both, the first stays.
    assert of(front(points((0.7, 10), (0.7, 9), (0.7, 9)))) == [(0.7, 9)]
    assert front([]) == ()


def test_the_front_is_that_of_the_definition() -> None:
    source = random.Random(5)
    for _ in range(200):
        given = list({(source.randint(0, 9) / 10, source.randint(1, 9)) for _ in range(8)})
        wanted = [
            (a, p)
            for a, p in given
            if not any(b >= a and q <= p and (b, q) != (a, p) for b, q in given)
        ]
        assert of(front(points(*given))) == wanted


def test_models_of_which_nothing_is_held_out_are_not_on_it() -> None:
    model = points((0.7, 10))[0]
    assert front([replace(model, held_out=None), replace(model, parameters=None)]) == ()


def test_every_point_has_its_recipe() -> None:
    result = Made(gain=0.05).finished().result
    assert result is not None
    document = json.loads(json.dumps(result.document))
    found = document["pareto"]
    assert found == front_document(result.models)
    path = {tuple(one["removed"]): one for one in document["path"]}
    assert len(found) > 1
    for point in found:
        model = path[tuple(point["removed"])]
        assert point["parameters"] == model["parameters"]
        assert (point["accuracy"], point["interval"]) == (
            model["held_out"]["accuracy"],
            model["held_out"]["interval"],
        )
        count = len(point["removed"])
        wanted = f"telltale export STUDY --pick {count} --to FOLDER" if count else None
        assert point["command"] == wanted
    assert export_command(result.models[0]) is None


def test_the_page_draws_it_with_the_commands() -> None:
    study = Made(gain=0.05).finished()
    result = study.result
    assert result is not None
    drawn = drawings(result, LIGHT)["pareto"].standalone()
    on_it = front(result.models)
    (line,) = re.findall(r"<polyline points=\"([^\"]+)\"", drawn)
    assert len(line.split()) == len(on_it)
    filled = len(re.findall(rf"<circle [^>]*fill=\"{LIGHT.held_out}\"", drawn))
    assert filled == len(on_it)
    assert drawn.count("<circle ") == len(result.models)
    text = page([study])
    assert "What accuracy costs" in text
    for model in on_it:
        command = export_command(model)
        assert command is None or f"<code>{command}</code>" in text
    rows = tables(study, result)["pareto"].splitlines()
    assert len(rows) == 1 + len(on_it)


def test_a_study_that_is_not_finished_has_none() -> None:
    study = Made().interrupted()
    assert "What accuracy costs" not in page([study])
    assert "pareto" not in drawings(study.searched, LIGHT)
    assert "pareto" not in tables(study, study.searched)
