"""Folds keep clusters together and spread answers; shuffled answers belong to other examples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telltale.information.folds import dealt, shuffled

LABELS = st.lists(st.integers(0, 3), min_size=10, max_size=60)


@given(LABELS, st.integers(0, 9))
def test_single_examples_are_dealt_evenly_of_every_answer_and_of_all(
    labels: list[int], seed: int
) -> None:
    answers = np.array(labels)
    folds = dealt(answers, np.arange(len(labels)), 5, np.random.default_rng(seed))
    for of in (answers == one for one in range(4)):
        counts = np.bincount(folds[of], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 4  # one for each answer at most


@given(LABELS, st.integers(2, 20), st.integers(0, 9))
def test_a_cluster_is_in_one_fold(labels: list[int], groups: int, seed: int) -> None:
    source = np.random.default_rng(seed)
    clusters = source.integers(groups, size=len(labels))
    folds = dealt(np.array(labels), clusters, 5, source)
    for one in np.unique(clusters):
        assert len(set(folds[clusters == one])) == 1


def test_clusters_are_dealt_evenly_where_they_can_be() -> None:
    clusters = np.arange(200) // 4
    answers = (clusters % 2).astype(np.int64)
    folds = dealt(answers, clusters, 5, np.random.default_rng(0))
    assert {int((folds[answers == one] == f).sum()) for one in (0, 1) for f in range(5)} == {20}


@given(st.integers(2, 40), st.integers(0, 9))
def test_shuffled_answers_are_the_same_ones_and_no_single_example_keeps_its_own(
    examples: int, seed: int
) -> None:
    own = np.arange(examples)
    found = shuffled(own, np.arange(examples), np.random.default_rng(seed))
    assert sorted(found) == list(own)
    assert (found != own).all()


def test_shuffled_answers_of_clusters_of_one_size_stay_together() -> None:
    clusters = np.repeat(np.random.default_rng(1).permutation(12), 3)
    found = shuffled(10 * clusters + np.tile([0, 1, 2], 12), clusters, np.random.default_rng(2))
    for one in range(12):
        given_to = found[clusters == one]
        assert len(set(given_to // 10)) == 1
        assert given_to[0] // 10 != one
        assert list(given_to % 10) == [0, 1, 2]
