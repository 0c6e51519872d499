"""What is said of the work before it is done is what the engine then does."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.engine.choosing import Choosing
from telltale.engine.forecast import layer_runs, states_kept
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.measure import Batch
from telltale.paths import LayerPath
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LAYERS, LENGTH = 6, 8
WHOLE = LayerPath.whole(LAYERS)
EVERYTHING = 10**9


class StandIn:
    """A model that counts, for its layers do nothing."""

    def __init__(self) -> None:
        self._model = tiny.layered("llama")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_layer(self, _: int, hidden: Any, __: Any) -> Any:
        return hidden.clone()


def engine(budget: int) -> SharedEngine:
    return SharedEngine(
        StandIn(),  # type: ignore[arg-type]
        [example(tuple(range(LENGTH)), ((9,), (10,)))],
        Choosing(Scoring.LOGLIK),
        capabilities=Capabilities(keeps_prefix=False, shares_context=True),
        store=StateStore(budget),
    )


def rounds(removed: Sequence[int]) -> Iterator[list[LayerPath]]:
    """The whole model, then every round of a search that removes these layers."""
    path = WHOLE
    yield [path]
    for layer in (*removed, None):
        yield [path.without(one) for one in path.kept]
        if layer is not None:
            path = path.without(layer)


REMOVED = st.permutations(range(LAYERS)).map(lambda layers: layers[: LAYERS - 2])


@given(REMOVED)
@settings(max_examples=25)
def test_every_layer_that_the_engine_runs_is_foreseen(removed: list[int]) -> None:
    measure, stored = engine(EVERYTHING), frozenset[tuple[int, ...]]()
    for paths in rounds(removed):
        found = {one.path: one.layer_tokens / LENGTH for one in measure(paths, [Batch((0,))])}
        assert layer_runs(paths, stored) == found
        stored = states_kept(paths, stored)


@given(REMOVED, st.integers(0, 20))
@settings(max_examples=25)
def test_where_there_is_room_for_few_states_the_work_is_foreseen_nearly(
    removed: list[int], room: int
) -> None:
    size = LENGTH * 32 * 4  # tokens, width and bytes of a state
    measure, stored = engine(room * size), frozenset[tuple[int, ...]]()
    foreseen, done = 0, 0.0
    for paths in rounds(removed):
        foreseen += sum(layer_runs(paths, stored).values())
        done += sum(one.layer_tokens / LENGTH for one in measure(paths, [Batch((0,))]))
        stored = states_kept(paths, stored, room=room)
        assert len(stored) <= room
    assert foreseen == pytest.approx(done, rel=0.2)


@given(REMOVED)
@settings(max_examples=25)
def test_what_is_kept_in_a_row_is_of_use_only_up_to_a_gap(removed: list[int]) -> None:
    *_, before, paths = rounds(removed)
    stored = states_kept(before)
    row = layer_runs(paths, stored, in_a_row=True)
    for path, count in layer_runs(paths, stored).items():
        assert row[path] >= count
    gap = stored - {one for one in stored if len(one) == 1}
    without_gap = layer_runs(paths, frozenset(), in_a_row=True)
    assert layer_runs(paths, gap, in_a_row=True) == without_gap


def test_more_room_is_never_more_work() -> None:
    whole, first, second = (list(one) for one in list(rounds([2]))[:3])
    work = []
    for room in range(30):
        stored = states_kept(first, states_kept(whole, room=room), room=room)
        work.append(sum(layer_runs(second, stored).values()))
    assert all(less >= more for less, more in pairwise(work))
    assert work[0] > work[-1]
