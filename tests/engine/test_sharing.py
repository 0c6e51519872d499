"""What is shared runs once: layer prefixes, the token prefix, contexts, logits."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from telltale.engine.choosing import Choosing
from telltale.engine.prefixes import prefixes
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.measure import Batch, BatchTooLargeError
from telltale.paths import LayerPath
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from telltale.engine.encode import EncodedExample
    from telltale.models.layered import LayeredModel

PREFIX = (1, 2, 3, 4, 5)
WHOLE = LayerPath.whole(6)
ROUND_ONE = [WHOLE.without(layer) for layer in range(6)]
BATCHES = [Batch((0, 1)), Batch((2, 3))]


def examples() -> list[EncodedExample]:
    return [example((*PREFIX, 9 + i, 7), ((11, 12, 13), (14,), (15, 16))) for i in range(4)]


class Counted:
    """A model that counts the layers run, apart for the token prefix and for rows."""

    def __init__(self, model: LayeredModel) -> None:
        self._model = model
        self.prefix_runs = self.row_runs = self.positions_read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_layer(self, layer: int, hidden: Any, prepared: Any) -> Any:
        if hidden.shape[:2] == (1, len(PREFIX)):
            self.prefix_runs += 1
        else:
            self.row_runs += 1
        return self._model.run_layer(layer, hidden, prepared)

    def logits(self, hidden: Any) -> Any:
        self.positions_read += len(hidden)
        return self._model.logits(hidden)


def counted_engine(
    budget: int = 10**9, *, keeps_prefix: bool = True
) -> tuple[Counted, SharedEngine]:
    model = Counted(tiny.layered("llama"))
    engine = SharedEngine(
        model,  # type: ignore[arg-type]
        examples(),
        Choosing(Scoring.LOGLIK),
        capabilities=Capabilities(keeps_prefix, shares_context=True),
        token_prefix=PREFIX,
        store=StateStore(budget),
    )
    return model, engine


def test_each_layer_prefix_runs_once_a_batch_and_the_token_prefix_once_a_path() -> None:
    model, engine = counted_engine()
    list(engine([WHOLE, *ROUND_ONE], BATCHES))
    distinct = len(prefixes([WHOLE, *ROUND_ONE]))
    # The whole model's 6, and for each layer left out those after it.
    assert distinct == 6 + 5 + 4 + 3 + 2 + 1
    assert model.row_runs == distinct * len(BATCHES)
    # At most once a path: a layer prefix that several paths share reads it once for all of them.
    assert model.prefix_runs == distinct


def test_a_token_prefix_is_read_again_for_no_batch_and_no_later_call() -> None:
    model, engine = counted_engine(budget=10**9)
    for batch in BATCHES:
        list(engine([WHOLE], [batch]))
    assert model.prefix_runs == 6
    assert model.row_runs == 12


def test_states_kept_from_the_round_before_are_not_computed_again() -> None:
    removed = 3
    round_two = [ROUND_ONE[removed].without(layer) for layer in ROUND_ONE[removed].kept]
    model, engine = counted_engine(budget=10**9)
    list(engine([WHOLE], BATCHES))
    list(engine(ROUND_ONE, BATCHES))
    before = model.row_runs
    list(engine(round_two, BATCHES))
    # Of a path without 3 and j: the layers after both are new, whichever of them was first.
    new = sum(6 - 1 - max(removed, layer) for layer in ROUND_ONE[removed].kept)
    assert model.row_runs - before == new * len(BATCHES)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_round_may_be_asked_a_few_paths_at_a_time_and_its_states_are_kept(at_once: int) -> None:
    model, engine = counted_engine(budget=10**9)
    list(engine([WHOLE], BATCHES))
    for start in range(0, 6, at_once):
        list(engine(ROUND_ONE[start : start + at_once], BATCHES))
    assert model.row_runs == len(prefixes([WHOLE, *ROUND_ONE])) * len(BATCHES)
    assert model.prefix_runs == len(prefixes([WHOLE, *ROUND_ONE]))
    round_two = [ROUND_ONE[3].without(layer) for layer in (0, 1)]
    before = model.row_runs
    for path in round_two:
        list(engine([path], BATCHES))
    assert model.row_runs - before == 2 * 2 * len(BATCHES)  # what comes after layer 3


def test_states_that_no_path_of_this_round_or_the_last_begins_with_are_let_go() -> None:
    _, engine = counted_engine(budget=10**9, keeps_prefix=False)
    path = WHOLE
    for layer in (5, 4, 3):
        list(engine([path.without(one) for one in path.kept], BATCHES))
        assert engine.store.get((BATCHES[0].id, (0, 1, 2)))
        path = path.without(layer)
    list(engine([path.without(one) for one in path.kept], BATCHES))
    assert engine.store.get((BATCHES[0].id, (0, 1, 2, 3))) is None
    assert engine.store.get((BATCHES[0].id, (0, 1)))


def test_logits_are_computed_once_for_each_position_that_is_read() -> None:
    model, engine = counted_engine()
    list(engine([WHOLE], [Batch((0,))]))
    # The context's last position, two of the first choice's and one of the third's.
    assert model.positions_read == 1 + 2 + 1


def test_layer_tokens_count_every_row_and_its_padding() -> None:
    model, engine = counted_engine(keeps_prefix=False)
    measured = list(engine([WHOLE], [Batch((0, 1))]))
    row = len(PREFIX) + 2 + 2 + 1
    assert sum(m.layer_tokens for m in measured) == 6 * 2 * row
    assert model.prefix_runs == 0


def test_paths_are_measured_in_groups_where_token_prefixes_do_not_fit() -> None:
    model, engine = counted_engine(budget=12_000)
    found = list(engine([WHOLE, *ROUND_ONE], BATCHES))
    assert Counter(m.path for m in found) == dict.fromkeys([WHOLE, *ROUND_ONE], len(BATCHES))
    distinct = len(prefixes([WHOLE, *ROUND_ONE]))
    assert model.prefix_runs == distinct  # what a later group begins with is kept for it
    # Each group goes through all batches before the next one's token prefixes are read.
    turns = 1 + sum(a.batch != b.batch for a, b in pairwise(found))
    assert turns > len(BATCHES)
    assert engine.store.required_bytes + engine.store.offered_bytes <= 12_000


def test_running_out_of_memory_names_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, engine = counted_engine()
    assert len(list(engine([WHOLE], BATCHES))) == 2  # the good case

    def fail(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(model, "run_layer", fail, raising=False)
    engine.store.retain(lambda key: key[0] == "token prefix")
    with pytest.raises(BatchTooLargeError) as caught:
        list(engine([WHOLE], [BATCHES[1]]))
    assert caught.value.batch == BATCHES[1]


def test_another_runtime_error_is_not_taken_for_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, engine = counted_engine(keeps_prefix=False)

    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(model, "run_layer", fail, raising=False)
    with pytest.raises(RuntimeError, match="shapes"):
        list(engine([WHOLE], BATCHES))
