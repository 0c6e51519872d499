"""A document is read and written again byte for byte, whichever version wrote it."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from telltale.evidence.document import LATER, VERSION, document_of
from telltale.evidence.result import Result, result_from
from telltale.evidence.stats import Interval
from telltale.paths import LayerPath
from tests.report.made import Made

if TYPE_CHECKING:
    from collections.abc import Callable

# Written by telltale 0.1.0 before results had a type: by choice, with a final set, with a guard,
# and with text.
WRITTEN = sorted(Path(__file__).with_name("documents").glob("*.json"))


def read(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return document


def test_there_are_documents_of_every_kind() -> None:
    found = {file.stem: read(file) for file in WRITTEN}
    assert set(found) == {"plain", "final", "guard", "writes"}
    assert found["final"]["final"]
    assert "guards" in found["guard"]["best"]
    assert "unparsable" in found["writes"]["best"]["search"]
    assert not found["guard"]["rounds"][-1]["accepted"]


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.stem)
def test_a_document_of_before_is_written_as_it_was(file: Path) -> None:
    document = read(file)
    result = result_from(document, 3)
    # As texts, so that the order of fields counts too.
    assert json.dumps(document_of(result)) == json.dumps(document)
    assert result.document == document
    assert result.held_out_looks == 3
    assert result_from(result.document, 3) == result


def of_version_1(document: dict[str, Any]) -> None:
    document["version"] = 1
    del document["claims"], document["cost"]["naive_passes"], document["cost"]["slowed_by"]


def without_slowed_by(document: dict[str, Any]) -> None:
    del document["cost"]["slowed_by"]
    document["cost"]["naive_passes"] = None


def without_naive_passes(document: dict[str, Any]) -> None:
    del document["cost"]["naive_passes"]


@pytest.mark.parametrize("change", [of_version_1, without_slowed_by, without_naive_passes])
@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.stem)
def test_a_document_that_lacks_fields_still_lacks_them(
    change: Callable[[dict[str, Any]], None], file: Path
) -> None:
    document = copy.deepcopy(read(file))
    change(document)
    result = result_from(document, None)
    assert json.dumps(document_of(result)) == json.dumps(document)
    assert result.lacks <= set(LATER)
    assert (result.claims is None) == ("claims" not in document)


@pytest.mark.parametrize(
    "made",
    [
        Made(),
        Made(guards=("arc_easy",), writes=True),
        Made(rounds=0),
        Made(rounds=1, objective="accuracy"),
        Made(gain=0.1, protected=(0, 7)),
    ],
    ids=["usual", "guarded text", "no rounds", "nothing removed", "gain"],
)
def test_a_result_is_the_same_after_being_written_and_read(made: Made) -> None:
    result = made.finished().result
    assert result is not None
    read_back = result_from(json.loads(json.dumps(result.document)), result.held_out_looks)
    assert read_back == result
    assert read_back.version == VERSION


def test_how_the_precision_was_chosen_is_written_where_it_was_timed() -> None:
    result = Made().finished().result
    assert result is not None
    timed = replace(result, cost=replace(result.cost, bfloat16_gain=1.9))
    assert timed.document["cost"]["bfloat16_gain"] == 1.9
    assert "bfloat16_gain" not in result.document["cost"]
    assert result_from(timed.document, result.held_out_looks) == timed


def test_what_is_read_has_the_types_of_what_was_measured() -> None:
    document = read(next(file for file in WRITTEN if file.stem == "guard"))
    result = result_from(document, 0)
    deepest, entry = result.models[-1], document["path"][-1]
    assert deepest.removed == tuple(entry["removed"])
    assert deepest.path == LayerPath.from_removed(entry["removed"], 6)
    assert deepest.kept.parent == result.models[-2].path
    assert deepest.held_out is not None
    assert deepest.held_out.gain_interval == Interval(*entry["held_out"]["gain_interval"])
    (guard,) = deepest.guards.values()
    assert guard.examples == entry["guards"]["boolean_expressions"]["examples"]
    first = result.rounds[0]
    assert first.parent == LayerPath.whole(6)
    assert {one.examples for one in first.tried.values()} == {document["task"]["search_examples"]}
    with pytest.raises(ValueError, match="compare the outcomes again"):
        deepest.held_out.risk(0.0)


def test_what_a_result_had_before_works_with_a_warning() -> None:
    result = Made().finished().result
    assert isinstance(result, Result)
    with pytest.warns(DeprecationWarning, match=r"Result.findings goes in release .* use the Resu"):
        findings = result.findings
    assert findings.best is result.best
    assert findings.named == result.named
    with pytest.warns(DeprecationWarning, match=r"use Result.models"):
        assert findings.path == result.models
    with pytest.warns(DeprecationWarning, match=r"use Result.document"):
        assert result["verdict"] == result.verdict
    with pytest.warns(DeprecationWarning, match=r"use telltale.study.Result"):
        from telltale.evidence.result import Findings
    assert Findings is Result
