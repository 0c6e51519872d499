"""Batches, walks, layouts, encodings and the store: plain data, checked by properties."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.engine import choosing
from telltale.engine.batches import (
    WINDOW,
    batches_alike,
    batches_in_order,
    blocks_of,
    canonical_batches,
    comes_early,
    tokens_at_once,
)
from telltale.engine.choosing import judge, read_logliks, token_logliks
from telltale.engine.encode import (
    ChoiceSize,
    EncodedExample,
    InputLimit,
    common_token_prefix,
    encode_choices,
)
from telltale.engine.layout import (
    _evened,
    groups_of,
    in_order_of_texts,
    lay_out,
    tokens_in_row,
    tokens_read,
)
from telltale.engine.prefixes import prefixes, walks, worths
from telltale.engine.store import StateStore, states_budget
from telltale.engine.workbench import Workbench
from telltale.errors import DataError, InputError, MeasurementError
from telltale.measure import Batch
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks import Example, Request, Scoring, Task
from telltale.tasks.loading import load_task
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

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


@given(SIZES, st.integers(1, 400), st.integers(1, 40), st.integers(0, 3))
def test_each_batch_is_of_one_block_of_the_deal(
    sizes: dict[int, tuple[int, int]], budget: int, size: int, seed: int
) -> None:
    blocks = blocks_of(sizes, block_size=size, seed=seed)
    batches = canonical_batches(sizes, token_budget=budget, block_size=size, seed=seed)
    assert {example: b.block for b in batches for example in b.examples} == blocks
    counts = [count for _, count in sorted(Counter(blocks.values()).items())]
    assert counts[:-1] == [size] * (len(counts) - 1)
    assert 1 <= counts[-1] <= size


@given(SIZES, st.integers(1, 40), st.integers(0, 3), st.randoms(use_true_random=False))
def test_blocks_depend_on_positions_size_and_seed_alone(
    sizes: dict[int, tuple[int, int]], size: int, seed: int, source: random.Random
) -> None:
    """Not on what the examples hold or how they are listed: so a few blocks are a fair sample."""
    blocks = blocks_of(sizes, block_size=size, seed=seed)
    listed = list(sizes)
    source.shuffle(listed)
    assert blocks_of(listed, block_size=size, seed=seed) == blocks
    others = {e: (source.randint(1, 4), source.randint(1, 50)) for e in listed}
    batches = canonical_batches(others, token_budget=99, block_size=size, seed=seed)
    assert {example: b.block for b in batches for example in b.examples} == blocks


@given(st.integers(1, 2**40), st.integers(1, 2**24))
def test_a_batch_takes_an_eighth_to_a_quarter_of_free_memory(free: int, token: int) -> None:
    tokens = tokens_at_once(free, token)
    assert tokens.bit_count() == 1
    assert tokens == 1 or tokens * token <= free / 4
    assert 2 * tokens * token > free / 4


@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon", "mixtral"])
def test_a_layer_computes_no_more_of_a_token_than_is_reckoned(family: str) -> None:
    model = tiny.layered(family)
    seen: list[int] = []

    def note(_: object, __: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.dim() > 2:
            seen.append(output.shape[2:].numel() * output.element_size())

    layer = model.layers[2]
    hooks = [one.register_forward_hook(note) for one in layer.modules() if not list(one.children())]
    prepared = model.prepare(torch.arange(12).reshape(2, 6))
    model.run_layer(2, prepared.hidden, prepared)
    for hook in hooks:
        hook.remove()
    assert 0 < sum(seen) <= model.token_bytes
    assert family == "mixtral" or model.token_bytes < 4 * sum(seen)


def test_any_block_is_a_fair_sample_of_the_positions() -> None:
    """Over many seeds, each example is in the first of four blocks a quarter of the time."""
    drawn = Counter(
        example
        for seed in range(1000)
        for example, block in blocks_of(range(16), block_size=4, seed=seed).items()
        if block == 0
    )
    # Five standard deviations of a count of 1000 with chance 1/4.
    assert all(abs(drawn[example] - 250) < 5 * (1000 * 0.25 * 0.75) ** 0.5 for example in range(16))


DEAL = [(0, (1, 8)), (0, (9, 10)), (0, (6,)), (1, (0, 7, 2)), (1, (4, 5)), (2, (3,)), (2, (11,))]


def test_the_deal_is_that_of_studies_of_before() -> None:
    """Batches are in studies' files and their identities in results: another deal is a defect."""
    sizes = {i: (1 + i % 2, 5 + i % 7) for i in range(12)}
    batches = canonical_batches(sizes, token_budget=30, block_size=5, seed=3)
    assert [(b.block, b.examples) for b in batches] == DEAL


@settings(max_examples=200)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 120)), min_size=1, max_size=150),
    pads=st.booleans(),
    data=st.data(),
)
def test_batches_in_an_order_hold_every_example_once_and_go_by_it(
    sizes: list[tuple[int, int]], pads: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sizes))))
    budget = data.draw(st.integers(1, 900))
    batches = batches_in_order(order, dict(enumerate(sizes)), token_budget=budget, pads=pads)
    found = [example for batch in batches for example in batch.examples]
    assert sorted(found) == sorted(order)
    if not pads:
        assert found == list(order)
        # Each holds as much as the others, but for one example.
        tokens = [sum(math.prod(sizes[i]) for i in one.examples) for one in batches]
        largest = max(math.prod(size) for size in sizes)
        assert max(tokens) <= budget + largest
        return
    for start in range(0, len(order), WINDOW):
        end = start + WINDOW
        assert sorted(found[start:end]) == sorted(order[start:end])
    for batch in batches:
        padded = sum(sizes[i][0] for i in batch.examples) * max(sizes[i][1] for i in batch.examples)
        assert padded <= budget or len(batch.examples) == 1


@pytest.mark.parametrize("pads", [True, False])
def test_few_examples_in_an_order_are_still_dealt_into_some_batches(pads: bool) -> None:
    sizes = dict.fromkeys(range(40), (1, 12))  # together less than a batch may have
    assert len(canonical_batches(sizes, token_budget=512)) == 1
    assert len(batches_in_order(range(40), sizes, token_budget=512, pads=pads)) == 1
    assert len(batches_in_order(range(40), sizes, token_budget=512, pads=pads, fewest=8)) == 4
    large = dict.fromkeys(range(400), (1, 12))
    found = batches_in_order(range(400), large, token_budget=512, pads=pads, fewest=8)
    assert len(found) in (10, 13)


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(0, 3)), min_size=1, max_size=30))
def test_losses_come_early_where_batches_have_them_together(given: list[tuple[float, int]]) -> None:
    """Example by example, as the mean says it, those of a batch all alike."""
    losses = dict(enumerate(loss for loss, _ in given))
    batches = [
        Batch(tuple(one for one, (_, of) in enumerate(given) if of == number))
        for number in sorted({of for _, of in given})
    ]
    found = comes_early(batches, losses)
    if not sum(losses.values()) > 0:
        assert found == 0.5
        return
    means = [sum(losses[one] for one in batch.examples) / len(batch.examples) for batch in batches]
    in_order = sorted((mean, len(b.examples)) for mean, b in zip(means, batches, strict=True))[::-1]
    each = [mean for mean, count in in_order for _ in range(count)]
    shares = [sum(each[:i]) / sum(each) + each[i] / sum(each) / 2 for i in range(len(each))]
    assert found == pytest.approx(sum(shares) / len(shares))
    apart = comes_early([Batch((one,)) for one in losses], losses)
    assert 0.5 - 1e-9 <= found <= apart + 1e-9 <= 1 + 2e-9


def test_examples_are_dealt_anew_where_hard_ones_then_come_earlier(tiny_folder: Path) -> None:
    task = load_task("capitals")
    bench = Workbench(resolve_model(str(tiny_folder)), task, task.examples[:120], "cpu", "float32")
    alike = {position: 1 + position % 7 / 50 for position in range(120)}
    usual = bench.batches(range(120))
    assert bench.batches_by(alike) == usual
    apart = alike | dict.fromkeys(range(0, 120, 5), 9.0)
    dealt = bench.batches_by(apart)
    assert dealt != usual
    assert sorted(one for batch in dealt for one in batch.examples) == [*range(120)]
    hard = sum(len(batch.examples) for batch in dealt if apart[batch.examples[0]] == 9)
    assert 24 <= hard < 24 + max(len(batch.examples) for batch in dealt)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=14), st.integers(1, 14))
def test_rows_are_evened_and_no_exchange_of_two_would_even_them_more(
    sizes: list[int], count: int
) -> None:
    rows = _evened(sizes, count)
    assert len(rows) == count
    assert sorted(i for row in rows for i in row) == list(range(len(sizes)))
    sums = [sum(sizes[i] for i in row) for row in rows]
    longest = sums.index(max(sums))
    for row, one in itertools.product(set(range(count)) - {longest}, rows[longest]):
        for other in (0, *(sizes[i] for i in rows[row])):
            less = sizes[one] - other
            assert max(sums[longest] - less, sums[row] + less) >= max(sums)


def test_a_budget_or_a_block_of_nothing_is_refused() -> None:
    assert canonical_batches({0: (1, 5)}, token_budget=1, block_size=1)
    with pytest.raises(InputError, match="a budget of 0 tokens"):
        canonical_batches({0: (1, 5)}, token_budget=0)
    with pytest.raises(InputError, match="a block of 0 examples"):
        canonical_batches({0: (1, 5)}, token_budget=1, block_size=0)


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
    lambda context, choices, scored: example(
        tuple(context), choices, scored=[min(scored, len(choice)) for choice in choices]
    ),
    st.lists(st.integers(0, 9), min_size=3, max_size=8),
    st.lists(BRANCHES, min_size=2, max_size=5),
    st.integers(1, 4),
)


# In words of three letters, so that many begin alike.
ALIKE = st.builds(
    lambda context, choices: example(tuple(context), choices),
    st.lists(st.integers(0, 2), min_size=3, max_size=40),
    st.lists(BRANCHES, min_size=1, max_size=4),
)
# Whether contexts are shared, examples packed, and nothing padded.
LAYOUTS = [(False,) * 3, (True, False, False), (True, True, False), (True,) * 3]


@given(
    st.lists(ENCODED | ALIKE, min_size=1, max_size=7),
    st.integers(0, 2),
    st.sampled_from(LAYOUTS),
)
def test_every_read_sees_exactly_the_context_and_its_own_choice(
    examples: list[EncodedExample], prefix_length: int, how: tuple[bool, bool, bool]
) -> None:
    """The mask says what a position sees; that, with the prefix, must spell context and choice."""
    shares, packs, padding_free = how
    layout = lay_out(
        examples,
        prefix_length=prefix_length,
        shares_context=shares,
        packs=packs,
        padding_free=padding_free,
    )
    ids = layout.token_ids()
    positions = layout.position_ids(prefix_length)
    mask = layout.attention_mask(prefix_length, torch.float32)
    if padding_free:
        assert ids.shape == (1, tokens_in_row(examples, prefix_length))
    if layout.attends:  # what a token sees in the row in which its attention is computed
        columns, places = layout.gathered()
        rows, of_rows = places // columns.shape[1], places % columns.shape[1]
        assert columns[rows, of_rows].tolist() == list(range(ids.shape[1]))
        seen = torch.full((1, 1, ids.shape[1], prefix_length + ids.shape[1]), -1.0)
        seen[0, 0, :, :prefix_length] = mask[rows, 0, of_rows, :prefix_length]
        for token, (row, column) in enumerate(zip(rows, of_rows, strict=True)):
            visible = mask[row, 0, column, prefix_length:] == 0
            seen[0, 0, token, prefix_length + columns[row][visible]] = 0
        mask = seen
    for one, spans in zip(examples, layout.spans, strict=True):
        for choice, size, span in zip(one.choices, one.sizes, spans, strict=True):
            assert len(span.targets) == size.tokens
            scored = min(len(choice), len(span.targets))
            assert span.targets == choice[-scored:]
            assert len(span.positions) == scored
            for step, flat in enumerate(span.positions, start=len(choice) - scored):
                row, column = divmod(flat, layout.length)
                visible = mask[row, 0, column, prefix_length:] == 0
                seen = ids[row][visible].tolist()
                read = [*one.context[prefix_length:], *choice[:step]]
                assert seen == read
                assert positions[row][visible].tolist() == list(
                    range(prefix_length, prefix_length + len(read))
                )
                assert bool((mask[row, 0, column, :prefix_length] == 0).all())


@given(st.lists(ENCODED | ALIKE, min_size=1, max_size=9))
def test_packed_rows_read_nothing_twice_and_are_padded_little(
    examples: list[EncodedExample],
) -> None:
    packed = lay_out(examples, prefix_length=0, shares_context=True, packs=True)
    shared = lay_out(examples, prefix_length=0, shares_context=True)
    for row in packed.rows:
        texts = {row.tokens[:0]}
        for columns, seen in row.stretches():
            start = tuple(row.tokens[i] for part in seen for i in part)
            for column in columns:
                text = start + row.tokens[columns.start : column + 1]
                assert text not in texts
                texts.add(text)
    assert len(packed.rows) * packed.length <= len(shared.rows) * shared.length * (
        1 + packed.length / 2048
    )
    read = sum(len(row.tokens) for row in packed.rows)
    assert read <= sum(len(row.tokens) for row in shared.rows)
    assert read <= tokens_read(examples, prefix_length=0, shares_context=True, packs=True)
    assert lay_out(examples, prefix_length=0, shares_context=True, packs=True) == packed


@pytest.mark.parametrize(
    ("logits_at_once", "softmax_at_once"), [(1, 1), (60, 1), (60, 45), (999, 20)]
)
def test_what_is_read_does_not_depend_on_how_much_of_the_head_is_run_at_once(
    logits_at_once: int, softmax_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several tokens are predicted at a position, and some positions by none."""
    asked = [example((1, 2, 3), ((4, 5), (4, 6, 1), (7,))), example((1, 2, 8), ((4,), (9, 9)))]
    reads = lay_out(asked, prefix_length=0, shares_context=True, packs=True).reads()
    head = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    model: Any = SimpleNamespace(vocabulary=10, logits=lambda states: states @ head.T)
    hidden = torch.randn(1, 40, 6, generator=torch.Generator().manual_seed(1))
    logliks = token_logliks(hidden[0, reads.positions] @ head.T, reads.rows, reads.targets)
    monkeypatch.setattr(choosing, "LOGITS_AT_ONCE", logits_at_once)
    monkeypatch.setattr(choosing, "SOFTMAX_AT_ONCE", softmax_at_once)
    found = read_logliks(model, reads, hidden)
    assert len(found) == len(reads.places) > len(reads.firsts) > 4
    torch.testing.assert_close(found, logliks)


def test_what_a_group_begins_with_is_there_once_and_its_examples_are_in_one_batch() -> None:
    subjects = [tuple(range(100 * number, 100 * number + 40)) for number in range(3)]
    asked = [example((*subjects[i % 3], 7 + i), ((1,), (2,))) for i in range(9)]
    groups = groups_of(asked, 0)
    assert sorted(map(sorted, groups)) == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    batches = batches_alike(
        in_order_of_texts(asked),
        lambda some: tokens_in_row([asked[i] for i in some], 0),
        token_budget=50,
    )
    assert sorted(sorted(batch.examples) for batch in batches) == sorted(map(sorted, groups))
    for batch in batches:
        layout = lay_out(
            [asked[i] for i in batch.examples], prefix_length=0, shares_context=True, packs=True
        )
        assert [len(row.tokens) for row in layout.rows] == [43]


def test_short_texts_that_begin_alike_are_put_into_few_rows_in_order() -> None:
    """As expressions do: no two have half of their tokens alike, all together read two thirds."""
    random = Random(0)
    asked = [
        example((1, *(random.choice((2, 3)) for _ in range(9))), ((1,), (2,))) for _ in range(48)
    ]
    assert len(groups_of(asked, 0)) == len(asked)
    packed = lay_out(asked, prefix_length=0, shares_context=True, packs=True)
    read, apart = (
        sum(len(row.tokens) for row in packed.rows),
        sum(len(one.context) for one in asked),
    )
    assert tokens_in_row(asked, 0) <= read <= 0.8 * apart
    assert len(packed.rows) * packed.length <= 1.05 * read


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=40),
    st.integers(1, 60),
    st.integers(1, 9),
    st.integers(1, 8),
)
def test_batches_of_what_begins_alike_hold_every_example_once_within_the_budget_and_its_block(
    sizes: list[int], budget: int, block: int, fewest: int
) -> None:
    def tokens_in(some: Sequence[int]) -> int:
        return sum(sizes[one] for one in some)

    order = range(len(sizes))
    batches = batches_alike(order, tokens_in, token_budget=budget, block_size=block, fewest=fewest)
    assert sorted(one for batch in batches for one in batch.examples) == [*order]
    dealt = blocks_of(order, block_size=block)
    for batch in batches:
        assert {dealt[one] for one in batch.examples} == {batch.block}
        assert [*batch.examples] == sorted(batch.examples)
        assert tokens_in(batch.examples) <= max(budget, 2 * sizes[batch.examples[0]])


def test_a_question_of_one_token_choices_takes_one_row_in_either_layout() -> None:
    for shares in (True, False):
        layout = lay_out([example((1, 2, 3), ((4,), (5,)))], prefix_length=0, shares_context=shares)
        assert len(layout.rows) == 1
        assert not layout.branching


@given(st.lists(ENCODED, min_size=1, max_size=6))
def test_the_token_prefix_is_common_and_leaves_each_context_a_token(
    examples: list[EncodedExample],
) -> None:
    prefix = common_token_prefix(examples)
    assert all(one.context[: len(prefix)] == prefix for one in examples)
    assert all(len(prefix) < len(one.context) for one in examples)
    longer = {one.context[: len(prefix) + 1] for one in examples}
    shortest = min(len(one.context) for one in examples)
    assert len(longer) > 1 or len(prefix) == shortest - 1


def encode(one: Example, *, delimiter: str = " ", bos: bool = False) -> EncodedExample:
    task = Task("t", (one,), "", delimiter=delimiter)
    (found,) = encode_choices(task, [one], tiny.tokenizer(adds_bos=bos), limit=InputLimit(None))
    return found


def test_context_and_choice_are_tokenized_together_and_cut_where_the_context_ends() -> None:
    tokenizer = tiny.tokenizer()
    one = Example("a", "What is the capital of France?\nAnswer: ", ("Zürich", "Rome"), 0)
    encoded = encode(one)
    assert tokenizer.decode(encoded.context) == "What is the capital of France?\nAnswer:"
    assert [tokenizer.decode(c) for c in encoded.choices] == ["  Zürich", "  Rome"]
    assert [(size.characters, size.bytes) for size in encoded.sizes] == [(6, 7), (4, 4)]
    assert [size.tokens for size in encoded.sizes] == list(map(len, encoded.choices))
    assert encoded.tokens == len(encoded.context) + sum(map(len, encoded.choices))


def test_a_beginning_of_text_token_is_there_once_when_the_tokenizer_adds_one() -> None:
    one = Example("a", "Question", ("yes", "no"), 0)
    without, with_it = encode(one), encode(one, bos=True)
    assert with_it.context == (0, *without.context)
    assert with_it.choices == without.choices
    # A text that brings its own, as a chat's does, gets no second one.
    assert encode(replace(one, context="<s>Question"), bos=True) == with_it


@pytest.mark.parametrize("bos", [False, True])
def test_contexts_that_differ_are_read_but_not_scored(bos: bool) -> None:
    tokenizer = tiny.tokenizer(adds_bos=bos)
    requests = (
        Request("Ann met Bob because Ann", " was lonely."),
        Request("Ann met Bob because Bob", " was lonely."),
    )
    found = encode(Example("a", "?", ("Ann", "Bob"), 0, requests=requests), bos=bos)
    for request, choice, size in zip(requests, found.choices, found.sizes, strict=True):
        whole = tokenizer(request.context + request.continuation)["input_ids"]
        assert [*found.context, *choice] == whole
        assert tokenizer.decode(choice[-size.tokens :]) == request.continuation
    first = {choice[0] for choice in found.choices}
    assert len(first) == 2  # what is common is all in the context


def test_choices_may_have_nothing_in_common() -> None:
    requests = (Request("Ann", " was lonely."), Request("Bob", " was lonely."))
    found = encode(Example("a", "?", ("Ann", "Bob"), 0, requests=requests))
    assert found.context == ()
    assert all(
        size.tokens < len(choice) for choice, size in zip(found.choices, found.sizes, strict=True)
    )


def test_a_choice_after_nothing_comes_after_the_token_that_begins_texts() -> None:
    tokenizer = tiny.tokenizer()
    found = encode(
        Example("a", "?", ("yes", "no"), 0, requests=(Request("", "yes"), Request("", "no")))
    )
    assert found.context == (tokenizer.bos_token_id,)
    assert [tokenizer.decode(choice) for choice in found.choices] == ["yes", "no"]


def test_an_example_longer_than_the_model_is_refused_by_name() -> None:
    one = Example("row 7", "one two three four five", ("yes", "no"), 0)
    task = Task("t", (one,), "")
    assert encode_choices(task, [one], tiny.tokenizer(), limit=InputLimit(500))
    with pytest.raises(DataError, match=r"'row 7'.*more than the 3 that this model takes"):
        encode_choices(task, [one], tiny.tokenizer(), limit=InputLimit(3))


def test_a_choice_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="no tokens of its own"):
        encode(Example("row 7", "one", ("yes", ""), 0), delimiter="")


def test_scoring_takes_the_highest_in_total_per_token_or_per_character() -> None:
    sizes = (ChoiceSize(3, 3, 3), ChoiceSize(1, 9, 10), ChoiceSize(1, 2, 2))
    one = EncodedExample((1,), ((2, 3, 4), (5,), (6,)), sizes, 0)
    logliks = [-3.0, -2.0, -2.0]
    assert judge(0, one, logliks, Scoring.LOGLIK).answer == 1  # the first of equals
    per_token = judge(0, one, logliks, Scoring.LOGLIK_PER_TOKEN)
    assert (per_token.answer, per_token.score) == (0, 1.0)
    assert judge(0, one, logliks, Scoring.LOGLIK_PER_CHARACTER).answer == 1
    assert judge(0, one, [-3.0, -20.0, -1.9], Scoring.LOGLIK_PER_CHARACTER).answer == 2
    assert [(c.tokens, c.characters, c.bytes) for c in per_token.choices] == [*sizes]


def test_nan_is_a_failure_and_not_an_answer() -> None:
    with pytest.raises(MeasurementError, match="NaN"):
        judge(3, example((1,), ((2,), (5,))), [-1.0, float("nan")], Scoring.LOGLIK)


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


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=40),
    st.integers(0, 12),
    st.sets(st.integers(0, 9)),
)
def test_the_store_holds_what_is_worth_most_and_lets_go_of_nothing_awaited(
    offered: list[tuple[int, int]], room: int, awaited: set[int]
) -> None:
    state = (torch.zeros(1),)
    store = StateStore(4 * room)
    store.revalue(lambda key: key[1][0])
    waiting = [(f"early {one}", (one,)) for one in sorted(awaited)]
    for key in waiting:
        store.offer(key, state)
    held = [key for key in waiting if store.get(key)]
    store.revalue(lambda key: key[1][0], awaited=lambda key: key[0].startswith("early"))
    keys = [(f"late {number} {worth}", (worth,)) for number, worth in offered]
    for key in keys:
        store.offer(key, state)
        assert store.offered_bytes == 4 * len(store) <= store.budget_bytes
        assert all(store.get(one) for one in held)
    late = [key[1][0] for key in dict.fromkeys(keys) if store.get(key)]
    ranked = sorted((key[1][0] for key in dict.fromkeys(keys)), reverse=True)
    assert sorted(late, reverse=True) == ranked[: room - len(held)]
    # When they have been read, they give way as all others do.
    store.release(held)
    best = [(f"best {number}", (10,)) for number in range(room)]
    for key in best:
        store.offer(key, state)
    assert all(store.get(key) for key in best)


def layers_run(paths: list[LayerPath], held: set[tuple[int, ...]]) -> int:
    """How many layers a round runs that goes on from what is held, a batch."""
    run = set[tuple[int, ...]]()
    for path in paths:
        known = held | run
        nearest = next(d for d in range(path.depth, -1, -1) if not d or path.kept[:d] in known)
        run |= {path.kept[:depth] for depth in range(nearest + 1, path.depth + 1)}
    return len(run)


def children(path: LayerPath) -> list[LayerPath]:
    return [path.without(layer) for layer in path.kept]


@pytest.mark.parametrize(("count", "share"), [(30, 0.5), (60, 0.6), (100, 0.75)])
def test_a_few_states_save_most_of_what_all_would_whichever_layer_comes_out(
    count: int, share: float
) -> None:
    """Of 406 states after a round of 30 layers; first come, 100 of them would save a sixth."""
    whole = LayerPath.whole(30)
    values = worths(children(whole), in_a_row=False)
    best = set(sorted(values, key=lambda prefix: (-values[prefix], prefix))[:count])
    nothing, few, everything = 0, 0, 0
    for layer in whole.kept:
        paths = children(whole.without(layer))
        nothing += layers_run(paths, set())
        few += layers_run(paths, best)
        everything += layers_run(paths, set(values))
    assert nothing - few >= share * (nothing - everything)


def test_keys_and_values_are_worth_keeping_in_a_row_from_the_first_layer_on() -> None:
    values = worths(children(LayerPath.whole(8)), in_a_row=True)
    for prefix, worth in values.items():
        if len(prefix) > 1:
            assert worth <= values[prefix[:-1]]
    assert worths([LayerPath.whole(3)], in_a_row=False) == {(0,): 1.0, (0, 1): 1.0, (0, 1, 2): 0.0}


def test_the_default_budget_is_some_memory_but_not_all() -> None:
    assert 2**20 < states_budget(torch.device("cpu")) <= 4 * 2**30


settings.register_profile("steady", deadline=None, derandomize=True, max_examples=80)
settings.load_profile("steady")


@pytest.mark.parametrize("prefix_length", [0, 3, 13, 16])
def test_a_masks_rows_begin_where_a_gpu_need_not_copy_it(prefix_length: int) -> None:
    layout = lay_out([example((1, 2, 3), ((4, 7), (5, 8)))], prefix_length=0, shares_context=True)
    mask = layout.attention_mask(prefix_length, torch.bfloat16)
    assert mask.shape[-1] == prefix_length + layout.length
    assert mask.stride(-1) == 1
    assert not any(stride % 16 for stride in mask.stride()[:-1])
