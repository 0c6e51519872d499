"""Ablation maps: what two layers lose together beyond what each loses alone."""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING

import pytest

from telltale import LayerPath
from telltale.engine.choosing import Choosing
from telltale.engine.forecast import layer_runs
from telltale.engine.naive import NaiveEngine
from telltale.engine.selftest import EVERYTHING
from telltale.engine.shared import SharedEngine
from telltale.engine.store import StateStore
from telltale.evidence.ablation import ablation, pair_removals, single_removals
from telltale.evidence.stats import mean_interval
from telltale.measure import Batch, ChoiceOutcome, Outcome, outcomes_by_path
from telltale.objectives import OBJECTIVES, values_by
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WHOLE = LayerPath.whole(6)
HELP = [[0.9, 0.1, 0.2, -1.6, 0.3, 0.8], [0.5, 0.8, -0.3, 1.1, 0.8, 0.9], [0.3, 0.5, 0.5, 0, 1, 2]]


def measured(
    of: Callable[[int, LayerPath], float], paths: Sequence[LayerPath]
) -> dict[LayerPath, dict[int, Outcome]]:
    """Outcomes whose right choice has this log-likelihood, and is the only one."""
    return {
        path: {
            one: Outcome(one, (ChoiceOutcome(of(one, path), 1, 1, 1),), 0, 1.0)
            for one in range(len(HELP))
        }
        for path in paths
    }


LIKELIHOOD = values_by(OBJECTIVES["likelihood"], Scoring.LOGLIK, {0: 0, 1: 0, 2: 0})
PATHS = [WHOLE, *single_removals(WHOLE), *pair_removals(WHOLE)]


def test_where_layers_do_not_mind_each_other_pairs_lose_the_sum() -> None:
    outcomes = measured(lambda one, path: -9 + sum(HELP[one][i] for i in path.kept), PATHS)
    found = ablation(WHOLE, outcomes, LIKELIHOOD)
    alone = [sum(row[layer] for row in HELP) / 3 for layer in range(6)]
    assert [found.singles[layer].loss for layer in range(6)] == pytest.approx(alone)
    assert list(found.pairs) == list(combinations(range(6), 2))
    for (one, other), pair in found.pairs.items():
        assert pair.loss == pytest.approx(alone[one] + alone[other])
        assert pair.beyond == pytest.approx(0, abs=1e-12)
        assert pair.interval.low < 0 < pair.interval.high


def test_layers_that_stand_in_for_each_other_and_one_that_mends_another_are_seen() -> None:
    def loglik(_: int, path: LayerPath) -> float:
        stands = 0.0 if {1, 4} & set(path.kept) else -3.0  # either is enough
        mends = -2.0 if 2 in path.kept and 5 not in path.kept else 0.0  # 5 mends what 2 harms
        return -1 + stands + mends

    found = ablation(WHOLE, measured(loglik, PATHS), LIKELIHOOD)
    matrix = found.matrix
    assert all(matrix[layer][layer] is None for layer in range(6))
    for one, other in combinations(range(6), 2):
        expected = {(1, 4): 3.0, (2, 5): -2.0}.get((one, other), 0.0)
        assert matrix[one][other] == matrix[other][one] == pytest.approx(expected, abs=1e-12)
    assert found.singles[5].loss == pytest.approx(2)
    assert found.singles[1].loss == 0


def test_the_map_of_a_real_model_is_of_what_each_path_gives_by_itself() -> None:
    """By the oracle, one choice at a time; and intervals are of the examples' differences."""
    encoded = [
        example((5, 9, 7, 21, 40, 3), ((11, 12), (14,)), 0),
        example((5, 9, 8, 2, 77, 33, 60), ((31,), (16, 17)), 1),
        example((4, 250, 17), ((21,), (25,)), 0),
    ]
    model, reader = tiny.layered("llama"), Choosing(Scoring.LOGLIK)
    path = WHOLE.without(2)
    paths = [path, *single_removals(path), *pair_removals(path)]
    assert len(paths) == 1 + 5 + 10
    engine = SharedEngine(model, encoded, reader, capabilities=EVERYTHING, store=StateStore(0))
    naive = NaiveEngine(model, encoded, Scoring.LOGLIK)
    value = values_by(OBJECTIVES["likelihood"], Scoring.LOGLIK, {0: 0, 1: 1, 2: 0})
    batches = [Batch((0, 1, 2))]
    found = ablation(path, outcomes_by_path(engine(paths, batches)), value)
    expected = outcomes_by_path(naive(paths, batches))

    def mean(without: Sequence[int], one: int) -> float:
        kept = tuple(layer for layer in path.kept if layer not in without)
        return value(expected[LayerPath(kept, 6)][one])

    for (one, other), pair in found.pairs.items():
        beyond = [
            mean([one], i) + mean([other], i) - mean([], i) - mean([one, other], i)
            for i in range(3)
        ]
        assert pair.beyond == pytest.approx(math.fsum(beyond) / 3, abs=2e-5)
        assert pair.interval == pytest.approx(mean_interval(beyond), abs=1e-4)
    by_accuracy = ablation(path, outcomes_by_path(engine(paths, batches)), lambda one: one.score)
    assert {round(3 * loss.loss, 9) for loss in by_accuracy.singles.values()} <= set(range(-3, 4))


def test_clusters_make_intervals_wider_and_pairs_may_be_left_out() -> None:
    outcomes = measured(lambda one, path: -9 + sum(HELP[one][i] for i in path.kept), PATHS[:7])
    found = ablation(WHOLE, outcomes, LIKELIHOOD)
    assert (len(found.singles), found.pairs) == (6, {})
    assert found.matrix == ((None,) * 6,) * 6
    together = ablation(WHOLE, outcomes, LIKELIHOOD, {0: 4, 1: 4, 2: 5})
    wide = [one.singles[3].interval.high - one.singles[3].interval.low for one in (found, together)]
    assert wide[0] < wide[1]


@pytest.mark.parametrize(("depth", "singles", "pairs"), [(1, 0, 0), (2, 2, 0), (3, 3, 3)])
def test_some_layer_is_always_left(depth: int, singles: int, pairs: int) -> None:
    path = LayerPath(tuple(range(depth)), 6)
    assert (len(single_removals(path)), len(pair_removals(path))) == (singles, pairs)


def test_what_paths_share_is_run_once() -> None:
    """Of 30 layers, all pairs take a third of the layers that their paths have."""
    path = LayerPath.whole(30)
    singles, pairs = single_removals(path), pair_removals(path)
    assert (len(singles), len(pairs)) == (30, 435)
    runs = {
        name: sum(layer_runs(some).values())
        for name, some in (
            ("singles", [path, *singles]),
            ("all", [path, *singles, *pairs]),
        )
    }
    # 30 + 29 + ... + 1 + 0, and for each pair what is after the higher of the two.
    assert runs == {"singles": 30 + 435, "all": 30 + 435 + 4060}
    assert runs["all"] / 30 == pytest.approx(150.8, abs=0.05)  # dense passes
    assert sum(one.depth for one in [*singles, *pairs]) / 30 == 435
