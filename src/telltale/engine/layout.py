"""How a batch's examples become rows of tokens, and where its answers are read. Knows no model.

Two layouts. Shared: one row an example, the context once, then every branch (what must be read of
the choices) after it; a branch sees the context and itself. Plain: one row a branch, the context
before each. Where every example has one branch they are the same, and attention is simply causal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample, Tokens


class Span(NamedTuple):
    """Where one choice is read: the flat positions, in the order of its tokens."""

    positions: tuple[int, ...]
    targets: Tokens


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the context, then branches that each see the context and themselves."""

    context: Tokens
    branches: tuple[Tokens, ...]

    @property
    def tokens(self) -> Tokens:
        """All tokens in reading order."""
        return sum(self.branches, self.context)


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch as rows, padded to (rows, length), and where to read.

    ``spans`` holds, for each example, one span a choice; a position is row times length and
    column. ``branching`` says that some row has several branches, so that attention must be masked
    and positions given.
    """

    rows: tuple[Row, ...]
    spans: tuple[tuple[Span, ...], ...]

    @property
    def length(self) -> int:
        """The longest row's length."""
        return max(len(row.tokens) for row in self.rows)

    @property
    def branching(self) -> bool:
        """Whether any row has more than one branch."""
        return any(len(row.branches) > 1 for row in self.rows)

    def token_ids(self) -> Tensor:
        """(rows, length), padded on the right with token 0, which no real token sees."""
        ids = torch.zeros((len(self.rows), self.length), dtype=torch.long)
        for number, row in enumerate(self.rows):
            ids[number, : len(row.tokens)] = torch.tensor(row.tokens)
        return ids

    def position_ids(self, prefix_length: int) -> Tensor:
        """(rows, length): how far each token is from the text's start, on its own branch."""
        ids = torch.zeros((len(self.rows), self.length), dtype=torch.long)
        for number, row in enumerate(self.rows):
            start = len(row.context)
            ids[number, :start] = torch.arange(start)
            for branch in row.branches:
                ids[number, start : start + len(branch)] = torch.arange(len(branch)) + len(
                    row.context
                )
                start += len(branch)
        return ids + prefix_length

    def attention_mask(self, prefix_length: int, dtype: torch.dtype) -> Tensor:
        """(rows, 1, length, prefix and length): 0 where a token sees, the least number elsewhere.

        Every token sees the prefix and itself, so no row of scores is empty.
        """
        length = self.length
        sees = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(self.rows), 1, 1)
        for number, row in enumerate(self.rows):
            first = start = len(row.context)
            for branch in row.branches:
                sees[number, start : start + len(branch), first:start] = False
                start += len(branch)
        mask = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)
        prefix = torch.zeros((len(self.rows), length, prefix_length), dtype=dtype)
        return torch.cat([prefix, mask], dim=-1)[:, None]


def lay_out(
    examples: Sequence[EncodedExample], *, prefix_length: int, shares_context: bool
) -> Layout:
    """Arrange examples whose first ``prefix_length`` tokens are read apart."""
    rows: list[Row] = []
    places: list[list[tuple[int, int, Tokens]]] = []  # an example's (row, column, branch)
    for example in examples:
        context = example.context[prefix_length:]
        mine: list[tuple[int, int, Tokens]] = []
        if shares_context:
            column = len(context)
            for branch in example.branches:
                mine.append((len(rows), column, branch))
                column += len(branch)
            rows.append(Row(context, example.branches))
        else:
            for branch in example.branches:
                mine.append((len(rows), len(context), branch))
                rows.append(Row(context, (branch,)))
        places.append(mine)
    length = max(len(row.tokens) for row in rows)
    spans = []
    for example, mine in zip(examples, places, strict=True):
        last = len(example.context) - prefix_length - 1
        spans.append(
            tuple(
                _span(choice, size.tokens, mine, last, length)
                for choice, size in zip(example.choices, example.sizes, strict=True)
            )
        )
    return Layout(tuple(rows), tuple(spans))


def row_sizes(
    example: EncodedExample, *, prefix_length: int, shares_context: bool
) -> tuple[int, int]:
    """How many rows an example takes, and the length of the longest."""
    layout = lay_out([example], prefix_length=prefix_length, shares_context=shares_context)
    return len(layout.rows), layout.length


def tokens_read(
    examples: Sequence[EncodedExample], *, prefix_length: int, shares_context: bool
) -> int:
    """How many tokens a path reads of examples, the prefix once and no padding."""
    total = prefix_length
    for example in examples:
        own, branches = len(example.context) - prefix_length, example.branches
        contexts = 1 if shares_context else len(branches)
        total += contexts * own + sum(map(len, branches))
    return total


def _span(
    choice: Tokens,
    scored: int,
    places: Sequence[tuple[int, int, Tokens]],
    last: int,
    length: int,
) -> Span:
    """The context's last position predicts the first token, each branch token the next one."""
    read = choice[:-1]
    row, column, _ = next(place for place in places if place[2][: len(read)] == read)
    positions = (
        row * length + last,
        *(row * length + column + offset for offset in range(len(read))),
    )
    return Span(positions[-scored:], choice[-scored:])
