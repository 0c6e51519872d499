"""Batches, walks, layouts, encodings and the store: plain data, checked by properties."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.engine.batches import canonical_batches
from telltale.engine.encode import EncodedExample, Room, common_token_prefix, encode_examples
from telltale.engine.layout import lay_out
from telltale.engine.prefixes import prefixes, walks
from telltale.engine.scoring import judge
from telltale.engine.store import StateStore, default_budget_bytes
from telltale.errors import DataError, InputError, MeasurementError
from telltale.paths import LayerPath
from telltale.tasks import Example, Scoring
from tests import tiny

SIZES = st.dictionaries(
    st.integers(0, 500), st.tuples(st.integers(1, 4), st.integers(1, 50)), min_size=1, max_size=60
)


@given(SIZES, st.integers(1, 400), st.integers(1, 40), st.integers(0, 3))
def test_batches_hold_every_example_once_within_the_budget(
    sizes: dict[int, tuple[int, int]], budget: int, block: int, seed: int
) -> None:
    batches = canonical_batches(sizes, token_budget=budget, block_size=block, seed=seed)
    assert Counter(e for b in batches for e in b.examples) == Counter(sizes.keys())
    for batch in batches:
        rows = sum(sizes[e][0] for e in batch.examples)
        longest = max(sizes[e][1] for e in batch.examples)
        assert rows * longest <= budget or len(batch.examples) == 1
        assert len(batch.examples) <= block
        assert [sizes[e][1] for e in batch.examples] == sorted(sizes[e][1] for e in batch.examples)


@given(SIZES, st.randoms(use_true_random=False))
def test_batches_do_not_depend_on_the_order_of_the_examples(
    sizes: dict[int, tuple[int, int]], source: object
) -> None:
    shuffled = list(sizes)
    source.shuffle(shuffled)  # type: ignore[attr-defined]
    again = {example: sizes[example] for example in shuffled}
    assert canonical_batches(sizes, token_budget=99) == canonical_batches(again, token_budget=99)


def test_a_budget_of_nothing_is_refused() -> None:
    assert canonical_batches({0: (1, 5)}, token_budget=1)
    with pytest.raises(InputError):
        canonical_batches({0: (1, 5)}, token_budget=0)


PATHS = st.sets(
    st.sets(st.integers(0, 6), min_size=1).map(lambda kept: LayerPath(tuple(sorted(kept)), 7)),
    min_size=1,
    max_size=12,
)


@given(PATHS)
def test_walks_run_each_layer_prefix_once_from_held_states(paths: set[LayerPath]) -> None:
    """A walk simulated with states that are only labels."""
    held: dict[int, tuple[int, ...]] = {0: ()}
    runs: list[tuple[int, ...]] = []
    previous: tuple[int, ...] = ()
    plan = walks(paths)
    for walk in plan:
        kept = walk.path.kept
        held = {d: s for d, s in held.items() if previous[:d] == kept[:d]}
        previous = kept
        start = max(held)
        assert held[start] == kept[:start]
        if start in walk.shared_depths:
            held[start] = kept[:start]
        for depth in range(start + 1, len(kept) + 1):
            runs.append(kept[:depth])
            if depth in walk.shared_depths:
                held[depth] = kept[:depth]
    assert {walk.path for walk in plan} == paths
    assert Counter(runs) == Counter(prefixes(paths))


def test_a_round_of_greedy_removal_holds_one_state_at_a_time() -> None:
    whole = LayerPath.whole(8)
    plan = walks(whole.without(layer) for layer in range(8))
    assert [walk.path.removed for walk in plan] == [(layer,) for layer in range(8)]
    for walk in plan[1:-1]:
        # What later paths go on from is this path's own next branching, and those before it.
        assert max(walk.shared_depths) == walk.path.removed[0]


BRANCHES = st.lists(st.integers(0, 9), min_size=1, max_size=4).map(tuple)
ENCODED = st.builds(
    lambda context, choices: EncodedExample(
        tuple(context), tuple(choices), tuple(map(len, choices)), 0
    ),
    st.lists(st.integers(0, 9), min_size=3, max_size=8),
    st.lists(BRANCHES, min_size=2, max_size=5),
)


@given(st.lists(ENCODED, min_size=1, max_size=4), st.integers(0, 2), st.booleans())
def test_every_read_sees_exactly_the_context_and_its_own_choice(
    examples: list[EncodedExample], prefix_length: int, shares: bool
) -> None:
    """The mask says what a position sees; that, with the prefix, must spell context and choice."""
    layout = lay_out(examples, prefix_length=prefix_length, shares_context=shares)
    ids = layout.token_ids()
    positions = layout.position_ids(prefix_length)
    mask = layout.attention_mask(prefix_length, torch.float32)
    for example, spans in zip(examples, layout.spans, strict=True):
        for choice, span in zip(example.choices, spans, strict=True):
            assert span.targets == choice
            for step, flat in enumerate(span.positions):
                row, column = divmod(flat, layout.length)
                visible = mask[row, 0, column, prefix_length:] == 0
                seen = ids[row][visible].tolist()
                read = [*example.context[prefix_length:], *choice[:step]]
                assert seen == read
                assert positions[row][visible].tolist() == list(
                    range(prefix_length, prefix_length + len(read))
                )
                assert bool((mask[row, 0, column, :prefix_length] == 0).all())


def test_a_question_of_one_token_choices_takes_one_row_in_either_layout() -> None:
    example = EncodedExample((1, 2, 3), ((4,), (5,)), (1, 1), 0)
    for shares in (True, False):
        layout = lay_out([example], prefix_length=0, shares_context=shares)
        assert len(layout.rows) == 1
        assert not layout.branching


@given(st.lists(ENCODED, min_size=1, max_size=6))
def test_the_token_prefix_is_common_and_leaves_each_context_a_token(
    examples: list[EncodedExample],
) -> None:
    prefix = common_token_prefix(examples)
    assert all(example.context[: len(prefix)] == prefix for example in examples)
    assert all(len(prefix) < len(example.context) for example in examples)
    longer = {example.context[: len(prefix) + 1] for example in examples}
    shortest = min(len(example.context) for example in examples)
    assert len(longer) > 1 or len(prefix) == shortest - 1


def test_context_and_choice_are_tokenized_together_and_cut_where_the_context_ends() -> None:
    tokenizer = tiny.tokenizer()
    example = Example("a", "What is the capital of France?\nAnswer: ", ("Paris", "Rome"), 0)
    (encoded,) = encode_examples([example], tokenizer, delimiter=" ", room=Room(None))
    assert tokenizer.decode(encoded.context) == "What is the capital of France?\nAnswer:"
    assert [tokenizer.decode(c) for c in encoded.choices] == ["  Paris", "  Rome"]
    assert encoded.choice_bytes == (5, 4)
    assert encoded.tokens == len(encoded.context) + sum(map(len, encoded.choices))


def test_a_beginning_of_text_token_is_there_when_the_tokenizer_adds_one() -> None:
    example = Example("a", "Question", ("yes", "no"), 0)
    (without,) = encode_examples([example], tiny.tokenizer(), delimiter=" ", room=Room(None))
    (with_it,) = encode_examples(
        [example], tiny.tokenizer(adds_bos=True), delimiter=" ", room=Room(None)
    )
    assert with_it.context == (0, *without.context)
    assert with_it.choices == without.choices


def test_an_example_longer_than_the_model_is_refused_by_name() -> None:
    example = Example("row 7", "one two three four five", ("yes", "no"), 0)
    assert encode_examples([example], tiny.tokenizer(), delimiter=" ", room=Room(500))
    with pytest.raises(DataError, match=r"'row 7'.*more than the 3 that this model takes"):
        encode_examples([example], tiny.tokenizer(), delimiter=" ", room=Room(3))


def test_a_choice_without_tokens_is_refused() -> None:
    example = Example("row 7", "one", ("yes", ""), 0)
    with pytest.raises(DataError, match="no tokens of its own"):
        encode_examples([example], tiny.tokenizer(), delimiter="", room=Room(None))


def test_scoring_takes_the_highest_in_total_or_per_token_and_the_first_of_equals() -> None:
    example = EncodedExample((1,), ((2, 3, 4), (5,), (6,)), (3, 1, 2), 0)
    logliks = [-3.0, -2.0, -2.0]
    assert judge(0, example, logliks, Scoring.LOGLIK).answer == 1
    per_token = judge(0, example, logliks, Scoring.LOGLIK_PER_TOKEN)
    assert (per_token.answer, per_token.score) == (0, 1.0)
    assert [(c.tokens, c.bytes) for c in per_token.choices] == [(3, 3), (1, 1), (1, 2)]


def test_nan_is_a_failure_and_not_an_answer() -> None:
    example = EncodedExample((1,), ((2,), (5,)), (1, 1), 0)
    with pytest.raises(MeasurementError, match="NaN"):
        judge(3, example, [-1.0, float("nan")], Scoring.LOGLIK)


def test_the_store_keeps_to_its_budget_and_gives_way_to_what_is_required() -> None:
    state = (torch.zeros(10),)  # 40 bytes
    store = StateStore(100)
    for number in range(4):
        store.offer((str(number), ()), state)
    assert len(store) == 2
    store.require(("prefix", ()), state)
    assert store.get(("prefix", ())) is state
    assert store.required_bytes + store.offered_bytes <= 100
    store.retain(lambda key: key[0] == "prefix")
    assert (len(store), store.offered_bytes, store.required_bytes) == (1, 0, 40)
    assert store.get(("0", ())) is None


def test_the_default_budget_is_some_memory_but_not_all() -> None:
    assert 2**20 < default_budget_bytes(torch.device("cpu")) <= 2 * 2**30


settings.register_profile("steady", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("steady")
