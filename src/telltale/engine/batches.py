"""Canonical batches: a function of the examples and the settings alone.

In low precision a batch of another shape can give another answer, so batches never depend on which
paths are measured, on memory or on what was measured before. Examples are dealt into random
blocks where any few blocks are to be a fair sample; inside a block, or without blocks, they are
sorted by length, so that little is padded, or by their text, so that little is read twice; and cut
where a batch would hold more tokens than the budget. Knows no torch.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.measure import Batch
from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

BLOCK_SIZE = 128
# Of a device's free memory, what a layer may compute of a batch; the rest is for kept states, for
# logits and for what others take meanwhile.
BATCH_SHARE = 0.25
# Where candidates are raced: of a search set of 200 the worst leave after a twelfth. The smaller,
# the fewer rows go side by side.
RACE_BLOCK = 16
# In an order that is given, of so many examples those of like length go together.
WINDOW = 64
MOST_CUT = 4  # a budget keeps such a part of itself, however many batches there are to be


def blocks_of(
    examples: Iterable[int], *, block_size: int = BLOCK_SIZE, seed: int = 0
) -> dict[int, int]:
    """The block that each example is dealt into, in the order of the deal.

    It depends on which examples there are, the block's size and the seed alone, not on what they
    hold; so any few blocks are a random sample of the examples. All blocks but the last are full.

    Args:
        examples: by position.
        block_size: how many examples are dealt into a block.
        seed: another seed deals otherwise.
    """
    if block_size < 1:
        raise InputError(f"a block of {block_size} examples cannot be dealt; give at least 1")
    dealt = sorted(examples, key=lambda example: sha256_of(f"{seed} {example}"))
    return {example: number // block_size for number, example in enumerate(dealt)}


def tokens_at_once(free_bytes: int, token_bytes: int) -> int:
    """How many tokens a batch may have for a layer to be run on it in a device's memory.

    A power of two, so that a little more or less of free memory makes no other batches.

    Args:
        free_bytes: the device's free memory, weights loaded.
        token_bytes: what a layer computes of a token.
    """
    return 1 << max(0, int(BATCH_SHARE * free_bytes / token_bytes).bit_length() - 1)


def canonical_batches(
    sizes: Mapping[int, tuple[int, int]],
    *,
    token_budget: int,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> tuple[Batch, ...]:
    """Deal examples into batches, each of which knows its block.

    Args:
        sizes: for each example, the rows it takes and the tokens of its longest row.
        token_budget: the most tokens in a batch, padding counted; an example with more is alone.
        block_size: how many examples are dealt into a block.
        seed: another seed deals otherwise.
    """
    if token_budget < 1:
        raise InputError(f"a budget of {token_budget} tokens holds nothing; give at least 1")
    blocks: dict[int, list[int]] = {}
    for example, number in blocks_of(sizes, block_size=block_size, seed=seed).items():
        blocks.setdefault(number, []).append(example)
    batches: list[Batch] = []
    for number, block in blocks.items():
        batches += _cut_by_length(block, sizes, token_budget, number)
    return tuple(batches)


def batches_in_order(
    order: Sequence[int],
    sizes: Mapping[int, tuple[int, int]],
    *,
    token_budget: int,
    pads: bool,
    fewest: int = 1,
) -> tuple[Batch, ...]:
    """Examples in batches in the order that they are given.

    Args:
        order: the examples.
        sizes: see `canonical_batches`.
        token_budget: see `canonical_batches`.
        pads: whether all rows of a batch are as long as the longest. Then of every few examples
            that follow each other those of like length go together. Else batches are of like size.
        fewest: how many batches there are to be, as long as they keep a part of their budget.
    """
    tokens = {example: math.prod(sizes[example]) for example in order}
    total = sum(tokens.values())
    token_budget = _cut(token_budget, total, fewest)
    batches: list[Batch] = []
    if pads:
        for start in range(0, len(order), WINDOW):
            batches += _cut_by_length([*order[start : start + WINDOW]], sizes, token_budget, 0)
        return tuple(batches)
    each, before = total / math.ceil(total / token_budget), 0
    parts: dict[int, list[int]] = {}
    for example in order:
        middle = before + tokens[example] / 2
        parts.setdefault(int(middle / each), []).append(example)
        before += tokens[example]
    return tuple(Batch(tuple(part)) for part in parts.values())


def comes_early(batches: Iterable[Batch], losses: Mapping[int, float]) -> float:
    """How early the losses come if the batches with the highest mean come first, from 0 to 1.

    It is the share of all losses that is in the examples up to one, in the mean over these: 0.5
    where all batches are alike, or all losses are none, near 1 where the first example has all.
    """
    of_batches = sorted(
        ([losses[one] for one in batch.examples] for batch in batches), key=fmean, reverse=True
    )
    total, count = math.fsum(losses.values()), sum(map(len, of_batches))
    if total <= 0:
        return 0.5
    before, area = 0.0, 0.0
    for of_batch in of_batches:
        share = sum(of_batch) / total
        area += len(of_batch) * (before + share / 2)
        before += share
    return area / count


def _cut(token_budget: int, total: int, fewest: int) -> int:
    """What is left of a budget where of so many tokens so many batches are to be made."""
    return min(token_budget, max(1, total // fewest, token_budget // MOST_CUT))


def _cut_by_length(
    examples: list[int], sizes: Mapping[int, tuple[int, int]], token_budget: int, block: int
) -> Iterator[Batch]:
    """Sort examples by length, and cut them into batches."""
    examples.sort(key=lambda example: (sizes[example][1], example))
    batch: list[int] = []
    rows = 0
    for example in examples:
        example_rows, length = sizes[example]
        # Lengths rise, so this example's is the longest so far.
        if batch and (rows + example_rows) * length > token_budget:
            yield Batch(tuple(batch), block)
            batch, rows = [], 0
        batch.append(example)
        rows += example_rows
    yield Batch(tuple(batch), block)


def batches_alike(
    order: Sequence[int],
    tokens_in: Callable[[Sequence[int]], int],
    *,
    token_budget: int,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
    fewest: int = 1,
) -> tuple[Batch, ...]:
    """Deal examples into the same blocks, and keep those together in these that begin alike.

    Args:
        order: the examples, such that those follow each other that begin alike.
        tokens_in: how many tokens some examples take, what they begin with once.
        token_budget: the most tokens in a batch. Where single examples take more than half of it, a
            batch may hold twice what its first takes.
        block_size: how many examples are dealt into a block.
        seed: another seed deals otherwise.
        fewest: see `batches_in_order`.
    """
    dealt = blocks_of(order, block_size=block_size, seed=seed)
    budget = _cut(token_budget, tokens_in(order), fewest)
    blocks: dict[int, list[int]] = {number: [] for number in sorted(set(dealt.values()))}
    for example in order:
        blocks[dealt[example]].append(example)
    batches: list[Batch] = []
    for number, block in blocks.items():
        part: list[int] = []
        tokens = most = before = 0
        for example in block:
            alone = tokens_in([example])
            # What it adds to the last one it adds to all of them, or less.
            added = tokens_in([part[-1], example]) - before if part else alone
            if part and tokens + added > most:
                batches.append(Batch(tuple(part), number))
                part, tokens, added = [], 0, alone
            if not part:
                most = max(budget, 2 * alone)
            part.append(example)
            tokens, before = tokens + added, alone
        batches.append(Batch(tuple(part), number))
    return tuple(batches)
