"""Canonical batches: a function of the examples and the settings alone.

In low precision a batch of another shape can give another answer, so batches never depend on which
paths are measured, on memory or on what was measured before. Examples are dealt into random
blocks, so that any few blocks are a fair sample; inside a block they are sorted by length, so that
little is padded; and cut where a batch would hold more tokens than the budget. Knows no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.measure import Batch
from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK_SIZE = 128


def canonical_batches(
    sizes: Mapping[int, tuple[int, int]],
    *,
    token_budget: int,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> tuple[Batch, ...]:
    """Deal examples into batches.

    Args:
        sizes: for each example, the rows it takes and the tokens of its longest row.
        token_budget: the most tokens in a batch, padding counted; an example with more is alone.
        block_size: how many examples are dealt into a block.
        seed: another seed deals otherwise.
    """
    if token_budget < 1 or block_size < 1:
        raise InputError("a token budget and a block size must be at least 1")
    shuffled = sorted(sizes, key=lambda example: sha256_of(f"{seed} {example}"))
    batches: list[Batch] = []
    for start in range(0, len(shuffled), block_size):
        block = shuffled[start : start + block_size]
        block.sort(key=lambda example: (sizes[example][1], example))
        batch: list[int] = []
        rows = 0
        for example in block:
            example_rows, length = sizes[example]
            # Lengths rise within a block, so this example's is the longest so far.
            if batch and (rows + example_rows) * length > token_budget:
                batches.append(Batch(tuple(batch)))
                batch, rows = [], 0
            batch.append(example)
            rows += example_rows
        batches.append(Batch(tuple(batch)))
    return tuple(batches)
