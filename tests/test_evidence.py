"""A comparison of two models is about the same examples, and minds what they share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.document import comparison_document
from telltale.measure import Generated, Outcome


def outcomes(scores: list[float]) -> dict[int, Outcome]:
    return {i: Outcome(i, (), 0, float(score)) for i, score in enumerate(scores)}


WHOLE = [1.0] * 50 + [0.0] * 50


def test_the_whole_model_gains_nothing_over_itself_for_certain() -> None:
    whole = outcomes(WHOLE)
    same = compare(whole, whole)
    assert (same.gain_interval, same.loses_at_most) == ((0, 0), 0)
    assert compare(whole, outcomes(WHOLE)).gain_interval != (0, 0)


def test_a_wider_confidence_gives_wider_intervals() -> None:
    better = outcomes([1.0] * 60 + [0.0] * 40)
    wide, narrow = (compare(outcomes(WHOLE), better, None, level) for level in (0.99, 0.8))
    assert wide.gain_interval.low < narrow.gain_interval.low < 0.1 == narrow.gain
    assert wide.interval.low < narrow.interval.low
    assert wide.loses_at_most > narrow.loses_at_most


def test_examples_that_share_a_passage_say_less() -> None:
    better = outcomes([1.0] * 60 + [0.0] * 40)
    shared = {i: i // 10 for i in range(100)}
    apart, together = (compare(outcomes(WHOLE), better, of) for of in (None, shared))
    assert together.accuracy == apart.accuracy
    assert together.gain == apart.gain
    assert together.gain_interval.low < apart.gain_interval.low
    assert together.interval.low < apart.interval.low
    assert together.loses_at_most > apart.loses_at_most


@given(st.permutations(range(20)))
def test_the_order_of_examples_says_nothing(order: list[int]) -> None:
    whole, better = outcomes(WHOLE[40:60]), outcomes([1.0] * 15 + [0.0] * 5)
    found = compare(whole, {i: better[i] for i in order})
    assert found == compare(whole, better)


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
    counts = {
        "unparsable": len([1 for has_answer, _ in texts if not has_answer]),
        "cut_off": len([1 for _, cut_off in texts if cut_off]),
    }
    assert generation_counts(written(texts).values()) == counts
    assert comparison_document(compare(written(texts), written(texts))).items() >= counts.items()


def test_where_choices_were_compared_there_are_no_texts_to_count() -> None:
    assert generation_counts(outcomes([1, 0]).values()) == {}
    assert compare(outcomes([1]), outcomes([0])).counts == {}


def test_scores_between_0_and_1_are_compared_by_their_means() -> None:
    whole, better = outcomes([0.25] * 40), outcomes([0.5] * 40)
    found = compare(whole, better)
    assert found.gain == pytest.approx(0.25)
    assert 0 < found.gain_interval.low < 0.25
