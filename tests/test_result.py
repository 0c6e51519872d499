"""The verdict says what the held-out interval says, and nothing more."""

from __future__ import annotations

import pytest

from telltale.measure import Outcome
from telltale.paths import LayerPath
from telltale.result import held_out_evidence, points, verdict
from telltale.searches import Removal, Round


def outcomes(scores: list[int]) -> dict[int, Outcome]:
    return {i: Outcome(i, (), 0, float(score)) for i, score in enumerate(scores)}


def removal(accuracy: float) -> Removal:
    return Removal(LayerPath.whole(9), 0.5, (Round(7, True, {7: accuracy}),))


WHOLE = [1] * 50 + [0] * 50


@pytest.mark.parametrize(
    ("shallower", "said"),
    [
        ([1] * 70 + [0] * 30, "The gain is shown: without layer 7 the model is +20.0 points more"),
        ([1] * 30 + [0] * 70, "A loss is shown: without layer 7 the model is -20.0 points less"),
        ([1] * 51 + [0] * 49, "No gain is shown: without layer 7 the model's accuracy changes by"),
        (WHOLE, "No gain is shown"),
    ],
)
def test_the_verdict_follows_the_interval(shallower: list[int], said: str) -> None:
    evidence = held_out_evidence(outcomes(WHOLE), outcomes(shallower))
    low, high = evidence.gain_interval
    sentence = verdict(removal(0.6), evidence)
    assert sentence.startswith(said)
    assert points(low) in sentence
    assert points(high) in sentence
    assert sentence.startswith("The gain") == (low > 0)
    assert sentence.startswith("A loss") == (high < 0)
    assert "100 examples that the search never saw" in sentence


def test_where_nothing_helps_it_says_so() -> None:
    evidence = held_out_evidence(outcomes(WHOLE), outcomes(WHOLE))
    assert verdict(removal(0.4), evidence).startswith("Nothing is worth removing")


def test_the_whole_model_gains_nothing_over_itself_for_certain() -> None:
    whole = outcomes(WHOLE)
    assert held_out_evidence(whole, whole).gain_interval == (0, 0)
    assert held_out_evidence(whole, outcomes(WHOLE)).gain_interval != (0, 0)
