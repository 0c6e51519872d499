"""An explanation's document, written and read back."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from telltale.errors import InputError
from telltale.evidence.explanation import explanation_from
from tests.report.explained import MadeExplanation

if TYPE_CHECKING:
    from collections.abc import Callable

MADE = {
    "whole": MadeExplanation(),
    "removed": MadeExplanation(removed=(3, 17)),
    "without classes": MadeExplanation(classes=()),
    "pairs": MadeExplanation(pairs=12),
    "one layer": MadeExplanation(layers=1, drops=()),
    "nothing removed singly": MadeExplanation(measured=False),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_read_is_what_was_written(name: str) -> None:
    explanation = MADE[name].made()
    document = json.loads(json.dumps(explanation.document))
    assert explanation_from(document) == explanation
    # As texts, so that the order of fields counts too.
    assert json.dumps(explanation_from(document).document) == json.dumps(document)


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_version_is_refused_in_a_line(version: Any) -> None:
    document = {**MadeExplanation().made().document, "version": version}
    with pytest.raises(InputError, match=r"of version .* cannot be read, only one of version 1"):
        explanation_from(document)


def without_layers(document: dict[str, Any]) -> None:
    del document["layers"]


def with_one_end(document: dict[str, Any]) -> None:
    document["before"]["information"]["interval"] = [0.1]


def with_a_number_for_layers(document: dict[str, Any]) -> None:
    document["layers"] = 3


@pytest.mark.parametrize("damage", [without_layers, with_one_end, with_a_number_for_layers])
def test_a_damaged_document_is_refused_in_a_line(damage: Callable[[dict[str, Any]], None]) -> None:
    document = copy.deepcopy(MadeExplanation().made().document)
    assert explanation_from(document)
    damage(document)
    with pytest.raises(InputError, match="the explanation is damaged") as refused:
        explanation_from(document)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("document", [[], None, 3, "text", {}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        explanation_from(document)
