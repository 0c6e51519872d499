"""What is said to be shown is, on made-up paths, what an independent reading of the rule says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from telltale.evidence import Comparison
from telltale.paths import LayerPath
from telltale.searches import Removal, Round
from telltale.selection import confirmed_best, fastest_safe, order_of_asking
from telltale.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

# For each model of a path: its value on the search set, and what it loses at most.
PATHS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.3, 0.4]), st.sampled_from([0.0, 0.02, 0.03, 0.04])),
    min_size=0,
    max_size=7,
)


def removal(values: Sequence[float]) -> Removal:
    rounds = [Round(i, True, {i: value}, {i: value}) for i, value in enumerate(values)]
    return Removal(LayerPath.whole(len(values) + 1), 0.25, 0.25, tuple(rounds))


def losing(most: float, low: float = -1.0) -> Comparison:
    return Comparison(0.5, Interval(0.4, 0.6), 0.0, Interval(low, 1.0), most, 100, {})


@given(PATHS)
def test_models_are_asked_about_by_value_until_the_first_that_fails(
    path: list[tuple[float, float]],
) -> None:
    found = removal([value for value, _ in path])
    losses = [0.0, *(loss for _, loss in path)]
    held_out = {model.path: losing(loss) for model, loss in zip(found.kept, losses, strict=True)}
    safe = fastest_safe(found.kept, held_out, 0.03)
    # A model is certified if it and all that the search set prefers lose no more.
    expected = 0
    for depth in range(1, len(losses)):
        mine = (path[depth - 1][0], depth)
        before = [d for d in range(1, len(losses)) if (path[d - 1][0], d) >= mine]
        if all(losses[d] <= 0.03 for d in before):
            expected = max(expected, depth)
    assert (0 if safe is None else len(safe.removed)) == expected


def test_the_order_is_by_the_search_set_alone_and_leaves_the_whole_model_out() -> None:
    found = removal([0.3, 0.4, 0.3, 0.1])
    assert [len(model.removed) for model in order_of_asking(found.kept)] == [2, 3, 1, 4]


def test_best_is_confirmed_where_its_interval_is_above_zero() -> None:
    found = removal([0.4, 0.3])
    for low, shown in ((0.001, True), (0.0, False), (-0.2, False)):
        held_out = {model.path: losing(0.0, low) for model in found.kept}
        assert (confirmed_best(found, held_out) is not None) == shown
    # Another model's gain says nothing of BEST's.
    others = {model.path: losing(0.0, 0.1) for model in found.kept}
    others[found.best.path] = losing(0.0, -0.1)
    assert confirmed_best(found, others) is None
