"""The verdict says what the held-out interval says, and nothing more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.measure import Generated, Outcome
from telltale.paths import LayerPath
from telltale.result import generation_counts, held_out_evidence, named_models, points, verdict
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


def written(texts: list[tuple[bool, bool]]) -> dict[int, Outcome]:
    """Generated texts, each with or without an answer, cut off or not."""
    return {
        i: Outcome(i, (), "x" if has_answer else None, 0.0, Generated("a text", 3, cut_off))
        for i, (has_answer, cut_off) in enumerate(texts)
    }


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1))
def test_texts_without_an_answer_and_cut_off_ones_are_counted_each(
    texts: list[tuple[bool, bool]],
) -> None:
    assert generation_counts(written(texts).values()) == {
        "unparsable": len([1 for has_answer, _ in texts if not has_answer]),
        "cut_off": len([1 for _, cut_off in texts if cut_off]),
    }


def test_where_choices_were_compared_there_are_no_texts_to_count() -> None:
    assert generation_counts(outcomes([1, 0]).values()) == {}
    assert held_out_evidence(outcomes([1]), outcomes([0])).counts == {}


def test_each_named_model_has_its_own_counts_from_each_set() -> None:
    found = removal(0.6)
    whole, best = found.start, found.best.path
    searched = {whole: written([(True, True)] * 9), best: written([(False, True)] * 9)}
    held_out = {whole: written([(False, False)] * 7), best: written([(True, False)] * 7)}
    models = named_models(found, searched, held_out, {whole: 9, best: 8}, {whole: 2.5, best: 3.5})
    documents = {name: model.document() for name, model in models.items()}
    parts = ("search", "held_out")
    counts = {
        name: [document[part][count] for part in parts for count in ("unparsable", "cut_off")]
        for name, document in documents.items()
    }
    assert counts == {"baseline": [0, 9, 7, 0], "best": [9, 9, 0, 0], "bsba": [9, 9, 0, 0]}
    assert [documents[name]["text_perplexity"] for name in documents] == [2.5, 3.5, 3.5]
    assert [documents[name]["parameters"] for name in documents] == [9, 8, 8]
