"""A caller may leave a measure at any time and ask again: outcomes, memory and work stay right."""

from __future__ import annotations

import itertools
import weakref
from inspect import GEN_CLOSED, getgeneratorstate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example as found_before
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.engine.choosing import Choosing
from telltale.engine.references import WithReferences
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.engine.workbench import Judged
from telltale.measure import Batch, BatchTooLargeError, Measurement, Shifted, in_halves
from telltale.paths import LayerPath
from telltale.tasks import Example, Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from telltale.measure import Measure, Outcome

PREFIX = (1, 2, 3, 4, 5)
WHOLE = LayerPath.whole(6)
PATHS = [WHOLE, *(WHOLE.without(layer) for layer in range(6)), WHOLE.without(2).without(4)]
BATCHES = [Batch((0, 1)), Batch((2,)), Batch((3, 4, 5))]
ENCODED = [example((*PREFIX, 9 + i, 7), ((11, 12, 13), (14,), (15, 16))) for i in range(6)]
BUDGETS = [0, 12_000, 10**9]
# What is asked, how many measurements are taken of it, and whether it is closed or forgotten.
LEFT = st.lists(
    st.tuples(
        st.lists(st.sampled_from(PATHS), min_size=1, max_size=8, unique=True),
        st.lists(st.sampled_from(BATCHES), min_size=1, max_size=3, unique=True),
        st.integers(0, 24),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


class Watched:
    """A model that counts the tokens it runs through layers, and knows which states live."""

    def __init__(self) -> None:
        self._model = tiny.layered("llama")
        self.layer_tokens = 0
        self.states: list[weakref.ref[Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_layer(self, layer: int, hidden: Any, prepared: Any) -> Any:
        self.layer_tokens += hidden.shape[0] * hidden.shape[1]
        state = self._model.run_layer(layer, hidden, prepared)
        self.states.append(weakref.ref(state))
        return state

    @property
    def live(self) -> int:
        """How many states are held somewhere."""
        return sum(state() is not None for state in self.states)


def engine_on(model: Any, budget: int, *, keeps_prefix: bool = True) -> SharedEngine:
    return SharedEngine(
        model,
        ENCODED,
        Choosing(Scoring.LOGLIK),
        capabilities=Capabilities(keeps_prefix, shares_context=True),
        token_prefix=PREFIX,
        store=StateStore(budget),
    )


def fresh(*, keeps_prefix: bool = True) -> dict[tuple[Batch, LayerPath], tuple[Outcome, ...]]:
    """What an engine gives that has never been asked anything."""
    engine = engine_on(tiny.layered("llama"), 0, keeps_prefix=keeps_prefix)
    return {(m.batch, m.path): m.outcomes for m in engine(PATHS, BATCHES)}


EXPECTED = fresh()
EXPECTED_WITHOUT_PREFIX = fresh(keeps_prefix=False)


def leave(measurements: Iterator[Measurement], count: int, *, closes: bool) -> list[Measurement]:
    found = list(itertools.islice(measurements, count))
    if closes:
        measurements.close()  # type: ignore[attr-defined]
    return found


@settings(max_examples=40, deadline=None)
@found_before(
    left=[([WHOLE], [BATCHES[0]], 1, False), ([WHOLE, WHOLE.without(0)], [BATCHES[0]], 1, False)],
    budget=0,
    keeps_prefix=True,
)
@given(LEFT, st.sampled_from(BUDGETS), st.booleans())
def test_an_engine_that_is_left_at_any_time_gives_the_same_and_holds_nothing_stale(
    left: list[Any], budget: int, keeps_prefix: bool
) -> None:
    model = Watched()
    engine = engine_on(model, budget, keeps_prefix=keeps_prefix)
    found: list[Measurement] = []
    for paths, batches, count, closes in left:
        found += leave(engine(paths, batches), count, closes=closes)
        assert sum(one.layer_tokens for one in found) == model.layer_tokens
        # What lives is in the store, and that within its budget.
        assert model.live <= len(engine.store)
        assert engine.store.offered_bytes + engine.store.required_bytes <= budget
    found += engine(PATHS, BATCHES)
    assert sum(one.layer_tokens for one in found) == model.layer_tokens
    expected = EXPECTED if keeps_prefix else EXPECTED_WITHOUT_PREFIX
    assert all(one.outcomes == expected[one.batch, one.path] for one in found)
    assert {(one.batch, one.path) for one in found} == expected.keys()


@pytest.mark.parametrize("budget", BUDGETS)
def test_two_calls_side_by_side_do_not_lose_each_others_token_prefix(budget: int) -> None:
    engine = engine_on(tiny.layered("llama"), budget)
    one, other = engine(PATHS[:4], BATCHES), engine(PATHS[4:], BATCHES)
    found = [m for pair in itertools.zip_longest(one, other) for m in pair if m is not None]
    assert {(m.batch, m.path): m.outcomes for m in found} == EXPECTED


def test_work_that_ended_in_an_error_is_not_counted_with_the_next_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Watched()
    engine = engine_on(model, 0, keeps_prefix=False)
    (alone,) = engine([WHOLE], BATCHES[:1])
    run_layer = Watched.run_layer

    def fails_at_five(self: Watched, layer: int, *rest: Any) -> Any:
        if layer == 5:
            raise RuntimeError("out of memory")
        return run_layer(self, layer, *rest)

    with monkeypatch.context() as small:
        small.setattr(Watched, "run_layer", fails_at_five)
        with pytest.raises(BatchTooLargeError):
            list(engine([WHOLE], BATCHES[:1]))
    (again,) = engine([WHOLE], BATCHES[:1])
    assert again == alone


def judged(measure: Measure) -> Measure:
    examples = [Example(str(i), "", ("a", "b", "c"), 0) for i in range(6)]
    return Judged(measure, examples, lambda _, outcome: outcome)


WRAPPERS: dict[str, Callable[[Measure], Measure]] = {
    "references": lambda measure: WithReferences(measure, measure),
    "shifted": lambda measure: Shifted(measure, 0),
    "judged": judged,
    "halves": lambda measure: (
        lambda paths, batches: in_halves(measure, paths, batches, lambda one: len(one.examples))
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_whoever_leaves_a_wrapped_measure_has_closed_what_is_within(name: str) -> None:
    engine = engine_on(tiny.layered("llama"), 10**9)
    opened = []  # so that none is closed because nobody knows of it

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        opened.append(engine(paths, batches))
        return opened[-1]

    wrapped = WRAPPERS[name](measure)
    for count in range(1, 9):
        found = leave(wrapped(PATHS, BATCHES), count, closes=True)
        assert len(found) == count
        assert opened
        assert all(getgeneratorstate(one) == GEN_CLOSED for one in opened)  # type: ignore[arg-type]
        assert all(one.outcomes == EXPECTED[one.batch, one.path] for one in found)
    assert {(m.batch, m.path): m.outcomes for m in wrapped(PATHS, BATCHES)} == EXPECTED
