"""Paths that are written side by side write what each writes alone, in the room there is."""

from __future__ import annotations

import gc
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.engine import generating
from telltale.engine.continuing import Cached, give_the_same, may_go_together
from telltale.engine.shared import Capabilities
from telltale.engine.side_by_side import PART_TOKENS
from telltale.measure import Batch, BatchTooLargeError, outcomes_by_path
from telltale.models.layered import LayeredModel
from telltale.models.row_caches import FEWEST_ROWS, RowCache
from telltale.paths import LayerPath
from tests import tiny
from tests.encoded import example
from tests.engine.test_generating import NEW_TOKENS, Spelling, batches_of, engine_for, prompts

if TYPE_CHECKING:
    from telltale.engine.shared import SharedEngine
    from telltale.measure import Outcome

WHOLE = LayerPath.whole(6)
ROUND = [WHOLE.without(layer) for layer in WHOLE.kept]
PLAIN = Capabilities(keeps_prefix=False, shares_context=True, continues=False)
CACHED = PLAIN._replace(continues=True)


class Counted:
    """What a model is asked: tokens times layers, the rows of each step, the bytes of its cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.layer_tokens = 0
        self.rows: list[int] = []
        self.cached_bytes = 0
        run_layer, next_logits = LayeredModel.run_layer, LayeredModel.next_logits

        def run(model: Any, layer: int, hidden: Any, prepared: Any) -> Any:
            self.layer_tokens += hidden.shape[0] * hidden.shape[1]
            return run_layer(model, layer, hidden, prepared)

        def step(model: Any, layers: Any, tokens: Any, *rest: Any) -> Any:
            self.layer_tokens += len(layers) * len(tokens)
            self.rows.append(len(tokens))
            found = next_logits(model, layers, tokens, *rest)
            self.cached_bytes = max(self.cached_bytes, rest[-1].bytes)
            return found

        monkeypatch.setattr(LayeredModel, "run_layer", run)
        monkeypatch.setattr(LayeredModel, "next_logits", step)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts are read in parts, and caches grow twice while a text is written."""
    monkeypatch.setattr(RowCache, "STEP", 3)
    monkeypatch.setitem(PART_TOKENS, "cpu", 60)


def by_path(engine: SharedEngine, paths: list[LayerPath], batches: Any) -> Any:
    return outcomes_by_path(engine(paths, batches))


@pytest.mark.usefixtures("many_parts")
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_round_side_by_side_writes_what_reading_the_whole_text_again_gives(
    family: str, counted: Counted
) -> None:
    encoded = prompts(5, seed=11)
    batches = batches_of(encoded, 10_000)
    paths = [*ROUND, WHOLE.without(1).without(4)]
    slow = by_path(engine_for(family, encoded, capabilities=PLAIN), paths, batches)
    assert not counted.rows
    fast = engine_for(family, encoded)
    assert fast.capabilities.continues
    assert by_path(fast, paths, batches) == slow
    assert max(counted.rows) > 2 * len(encoded)


PATHS = st.lists(
    st.sets(st.integers(0, 5), max_size=4).map(lambda gone: LayerPath.from_removed(gone, 6)),
    min_size=1,
    max_size=9,
    unique=True,
)


class Words(Spelling):
    """Spells few words, so that texts repeat and stop strings come."""

    def decode(self, tokens: list[int], **_: object) -> str:
        return "".join("abc "[token % 4] for token in tokens)


@settings(max_examples=25, deadline=None)
@given(
    PATHS,
    st.sampled_from(["llama", "mistral-window", "gemma3", "falcon-alibi"]),
    st.sets(st.integers(0, 299), max_size=60),
    st.lists(st.text("abc ", min_size=1, max_size=3), max_size=2),
    st.integers(1, 12),
    st.sampled_from([0, 300_000, 10**9]),
    st.integers(0, 10**6),
)
def test_endings_limits_and_room_change_no_text(
    paths: list[LayerPath],
    family: str,
    ends: set[int],
    stops: list[str],
    max_new_tokens: int,
    budget: int,
    seed: int,
) -> None:
    encoded = prompts(4, seed=seed)
    batches = batches_of(encoded, 150)
    asked: dict[str, Any] = {
        "end_tokens": frozenset(ends),
        "stop": tuple(stops),
        "max_new_tokens": max_new_tokens,
        "tokenizer": Words(),
    }
    slow = by_path(engine_for(family, encoded, capabilities=PLAIN, **asked), paths, batches)
    fast = engine_for(family, encoded, capabilities=CACHED, budget=budget, **asked)
    assert by_path(fast, paths, batches) == slow


def test_each_layer_is_run_once_a_step_for_all_paths(counted: Counted) -> None:
    encoded = prompts(3, seed=12)
    (batch,) = batches_of(encoded, 10_000)
    engine = engine_for("llama", encoded, capabilities=CACHED, end_tokens=frozenset())
    by_path(engine, ROUND, [batch])
    assert counted.rows == [len(ROUND) * len(encoded)] * (NEW_TOKENS - 1)


def test_layer_tokens_are_those_that_ran_whenever_the_caller_leaves(counted: Counted) -> None:
    encoded = prompts(6, seed=13)
    batches = batches_of(encoded, 100)
    for count in range(1, len(ROUND) * len(batches)):
        counted.layer_tokens = 0
        measuring = engine_for("llama", encoded, capabilities=CACHED)(ROUND, batches)
        found = [next(measuring) for _ in range(count)]
        measuring.close()  # type: ignore[attr-defined]
        assert sum(one.layer_tokens for one in found) == counted.layer_tokens


def test_a_short_prompt_is_not_padded_to_a_long_one() -> None:
    encoded = [example(tuple(range(1, 11))), example(tuple(range(1, 101)) * 2)]
    engine = engine_for("llama", encoded, capabilities=CACHED, max_new_tokens=1)
    (measured,) = engine([WHOLE], [Batch((0, 1))])
    assert measured.layer_tokens == 6 * (2 * 200)
    encoded[1] = example(tuple(range(1, 251)) * 2)  # too long for both to be read at once
    engine = engine_for("llama", encoded, capabilities=CACHED, max_new_tokens=1)
    (measured,) = engine([WHOLE], [Batch((0, 1))])
    assert measured.layer_tokens == 6 * (10 + 500)


@pytest.mark.parametrize("budget", [0, 200_000, 600_000, 2_000_000, 10**9])
def test_caches_of_several_paths_stay_in_the_room_reserved(budget: int, counted: Counted) -> None:
    encoded = prompts(4, seed=14)
    batches = batches_of(encoded, 10_000)
    engine = engine_for("llama", encoded, capabilities=CACHED, budget=budget)
    by_path(engine, ROUND, batches)
    side_by_side = max(counted.rows) > len(encoded)
    assert side_by_side == (budget >= 600_000)
    if side_by_side:
        assert counted.cached_bytes <= engine.store.reserved_bytes
    assert engine.store.offered_bytes <= budget - engine.store.reserved_bytes


@pytest.mark.parametrize("most", [1, 2, 5])
def test_where_caches_do_not_fit_fewer_paths_are_written_at_once(
    most: int, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    encoded = prompts(4, seed=15)
    batches = batches_of(encoded, 80)
    expected = by_path(engine_for("llama", encoded), ROUND, batches)
    largest = max(len(batch.examples) for batch in batches)
    small_memory(monkeypatch, most * largest)
    counted.rows.clear()
    engine = engine_for("llama", encoded)
    measured = list(engine(ROUND, batches))
    assert len(measured) == len(ROUND) * len(batches)  # none is given twice
    assert outcomes_by_path(measured) == expected
    assert max(counted.rows) <= most * largest
    assert max(counted.rows) > largest or most < 3  # of six: half, then one
    refused = Refused.count
    by_path(engine, ROUND, batches)
    assert Refused.count == refused  # what fits is remembered


def test_a_single_path_that_does_not_fit_is_a_batch_too_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoded = prompts(4, seed=16)
    (batch,) = batches_of(encoded, 10_000)
    small_memory(monkeypatch, len(encoded) - 1)
    with pytest.raises(BatchTooLargeError):
        list(engine_for("llama", encoded)(ROUND, [batch]))
    first, second = batch.halves()
    halves = by_path(engine_for("llama", encoded), ROUND, [first, second])
    monkeypatch.undo()
    assert halves == by_path(engine_for("llama", encoded), ROUND, [batch])


class Refused:
    """How often more rows were asked for than there is memory for."""

    count = 0


def small_memory(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    begin = Cached.__init__

    def limited(self: Any, model: Any, paths: Any, lengths: Any, steps: int) -> None:
        if len(paths) * len(lengths) > rows:
            Refused.count += 1
            raise RuntimeError("out of memory")
        begin(self, model, paths, lengths, steps)

    monkeypatch.setattr(Cached, "__init__", limited)


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models in bfloat16."""
    layered = cache(lambda family: LayeredModel(tiny.build(family).to(torch.bfloat16)))
    monkeypatch.setattr(tiny, "layered", layered)


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("count", [1, 2, 5])  # prompts: fewer than the fewest rows, and more
@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3", "gpt2", "falcon-alibi"])
def test_in_low_precision_a_path_writes_what_it_writes_without_companions(
    family: str, count: int, counted: Counted
) -> None:
    encoded = prompts(count, seed=17)
    (batch,) = batches_of(encoded, 10_000)
    asked: dict[str, Any] = {"capabilities": CACHED, "end_tokens": frozenset(range(0, 300, 9))}
    together: dict[LayerPath, dict[int, Outcome]] = by_path(
        engine_for(family, encoded, **asked), ROUND, [batch]
    )
    lengths = {len(one.generated.text) for of in together.values() for one in of.values()}  # type: ignore[union-attr]
    assert len(lengths) > 1 or count < 5  # rows end at different times
    for path in ROUND:
        alone = engine_for(family, encoded, budget=0, **asked)
        assert by_path(alone, [path], [batch]) == {path: together[path]}
    assert min(counted.rows) >= FEWEST_ROWS


@pytest.mark.usefixtures("low", "many_parts")
def test_in_low_precision_a_batch_is_written_whole_however_many_paths_there_are(
    monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    monkeypatch.setattr(generating, "ROWS_AT_ONCE", 4)
    encoded = prompts(9, seed=19)
    (batch,) = batches_of(encoded, 10_000)
    by_path(engine_for("llama", encoded, capabilities=CACHED), [WHOLE], [batch])
    assert counted.rows[0] == len(encoded)


@pytest.mark.usefixtures("low")
@pytest.mark.parametrize("independent", [True, False])
def test_in_low_precision_paths_are_written_together_where_rows_do_not_depend_on_each_other(
    *, independent: bool, monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    step = LayeredModel.next_logits

    def stepped(model: Any, layers: Any, tokens: Any, *rest: Any) -> Any:
        """Numbers of which each row has its own; but where they are not independent."""
        found = step(model, layers, tokens, *rest)
        own = torch.zeros_like(found) + tokens[:, None]
        return own if independent else own + len(tokens)

    monkeypatch.setattr(LayeredModel, "next_logits", stepped)
    encoded = prompts(5, seed=17)
    (batch,) = batches_of(encoded, 10_000)
    engine = engine_for("llama", encoded, capabilities=CACHED, end_tokens=frozenset())
    asked: list[int] = []
    monkeypatch.setattr(
        generating,
        "give_the_same",
        lambda *given: asked.append(given[-1]) or give_the_same(*given),  # type: ignore[func-returns-value]
    )
    found = by_path(engine, ROUND, [batch])
    assert set(found) == set(ROUND)
    tried = len(counted.rows) - (NEW_TOKENS - 1) * (1 if independent else len(ROUND))
    assert tried > 0
    written = len(encoded) * (len(ROUND) if independent else 1)
    assert set(counted.rows[-(NEW_TOKENS - 1) :]) == {written}
    by_path(engine, ROUND, [batch])
    assert asked == [len(ROUND)] or not independent  # tried once


@pytest.mark.usefixtures("low")
def test_where_there_is_no_memory_to_try_paths_together_each_is_written_alone(
    monkeypatch: pytest.MonkeyPatch, counted: Counted
) -> None:
    encoded = prompts(4, seed=20)
    (batch,) = batches_of(encoded, 10_000)
    small_memory(monkeypatch, len(encoded))
    engine = engine_for("llama", encoded, capabilities=CACHED)
    assert len(list(engine(ROUND, [batch]))) == len(ROUND)
    assert max(counted.rows) == len(encoded)


@pytest.mark.usefixtures("low")
def test_on_a_gpu_no_paths_are_tried_together_in_low_precision() -> None:
    class OnGpu:
        dtype = torch.bfloat16
        device = torch.device("cuda")

    assert not may_go_together(OnGpu())  # type: ignore[arg-type]
    OnGpu.dtype = torch.float32
    assert may_go_together(OnGpu())  # type: ignore[arg-type]


def test_an_engine_that_is_let_go_of_leaves_no_states_behind() -> None:
    gc.disable()
    try:
        encoded = prompts(3, seed=18)
        engine = engine_for("llama", encoded, capabilities=CACHED)
        by_path(engine, ROUND, batches_of(encoded, 10_000))
        store = weakref.ref(engine.store)
        del engine
        assert store() is None
    finally:
        gc.enable()
