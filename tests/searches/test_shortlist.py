"""A shortlist tries the layers of the lowest score, and chooses among them as the search does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.errors import InputError
from telltale.paths import LayerPath
from telltale.searches import GreedyRemoval
from telltale.searches.search import Shortlist, shortlist_from
from tests.searches.properties import BATCHES, measure_of, random_table
from tests.studies import PAGE, result_of

if TYPE_CHECKING:
    from pathlib import Path

SCORES = (0.5, -1.0, 3.0, 0.1, 2.0, 0.1, 7.0)
SEARCH = GreedyRemoval(tolerance=1.0, layer_scores={"joint": SCORES})


def rounds_of(search: GreedyRemoval, seed: int = 3) -> list[set[int]]:
    found = search(measure_of(random_table(seed, 7)), BATCHES, LayerPath.whole(7))
    return [{one.left_out[0] for one in done.tried.values()} for done in found.rounds]


def test_only_the_layers_of_the_lowest_scores_are_tried_in_every_round() -> None:
    search = replace(SEARCH, shortlist=Shortlist("joint", 3))
    found = search(measure_of(random_table(3, 7)), BATCHES, LayerPath.whole(7))
    left = sorted(range(7), key=lambda layer: SCORES[layer])
    for done in found.rounds:
        assert {one.left_out[0] for one in done.tried.values()} == set(left[:3])
        (gone,) = done.first.left_out
        left.remove(gone)
    assert len(found.rounds) == 6


def test_a_shortlist_of_all_layers_changes_nothing() -> None:
    for seed in range(5):
        whole = SEARCH(measure_of(random_table(seed, 7)), BATCHES, LayerPath.whole(7))
        listed = replace(SEARCH, shortlist=Shortlist("joint", 7))
        assert listed(measure_of(random_table(seed, 7)), BATCHES, LayerPath.whole(7)) == whole


def test_protected_layers_take_no_place_in_a_shortlist() -> None:
    search = replace(SEARCH, shortlist=Shortlist("joint", 2), protected=frozenset({1}))
    assert rounds_of(search)[0] == {3, 5}


@pytest.mark.parametrize("given", ["joint", "joint:", ":8", "joint:0", "joint:-1", "joint:x", "8"])
def test_what_is_no_shortlist_is_refused(given: str) -> None:
    assert shortlist_from("block-influence:8") == Shortlist("block-influence", 8)
    with pytest.raises(InputError, match="`shortlist` must be a score of layers and how many"):
        shortlist_from(given)


def test_a_score_that_nobody_knows_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nonsense', which is no score of layers"):
        telltale.search(str(tiny_folder), "capitals", out=tmp_path / "s", shortlist="nonsense:2")


@pytest.mark.parametrize("score", ["block-influence", "joint"])
def test_a_study_tries_its_shortlist_alone(score: str, tiny_folder: Path, tmp_path: Path) -> None:
    asked: Any = {"limit": 40, "held_out": 30, "max_removed": 2, "tolerance": 1.0, "text": PAGE}
    folder = tmp_path / "s"
    telltale.search(
        str(tiny_folder), "boolean_expressions", out=folder, shortlist=f"{score}:2", **asked
    )
    result = result_of(folder)
    assert result["search"]["shortlist"] == f"{score}:2"
    scores = result["layer_scores"][score]
    lowest = sorted(range(6), key=lambda layer: scores[layer])
    first, second = result["rounds"]
    assert sorted(map(int, first["candidates"])) == sorted(lowest[:2])
    left = [layer for layer in lowest if layer != first["removed"]]
    assert sorted(map(int, second["candidates"])) == sorted(left[:2])
