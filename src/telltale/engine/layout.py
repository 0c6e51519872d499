"""How a batch's examples become rows of tokens, and where its answers are read. Knows no model.

A row is a tree of tokens: each sees those between it and the root, and itself. Three layouts.
Plain: one row for every branch (what must be read of the choices), the context before each;
attention is simply causal. Shared: one row an example, the context once, then every branch. Packed:
examples are put into rows of like lengths, and what any in a row begin with alike is there once, be
it the shots of a subject, a passage asked twice or the first words of two choices. Padding-free:
all that is read of a batch is one row, in which nothing is there twice and nothing is padded, and
attention is computed in packed rows, whose tokens are taken from it.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch

from telltale.engine.encode import common_start
from telltale.engine.transfers import sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample, Tokens

# A token in a row of so many costs as much for what it sees as for all else.
DEAR_LENGTH = 2048
# Where attention alone is computed in rows, a token costs beside what it sees as much as if it saw
# so many more: it is taken from one row and put into another. (Measured on a CPU.)
GATHERED = 64
# Contexts are of one group if the shorter has so many tokens, and so large a share of it, alike.
GROUP_TOKENS, GROUP_SHARE = 16, 0.5
# Attention on GPUs copies a mask before each use unless its rows begin at multiples of so many.
MASK_ALIGNMENT = 16
FEW = 48  # sizes, of which it pays to try which of them change places
CPU = torch.device("cpu")


class Span(NamedTuple):
    """Where one choice is read: the flat positions, in the order of its tokens."""

    positions: tuple[int, ...]
    targets: Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Reads:
    """What is read of a batch at the end of a path: which tokens are predicted where.

    ``places`` holds each flat position with a token that is predicted there, once and in ascending
    order. The tensors are on the model's device: ``positions``, (positions,), each position once;
    ``targets``, (places,), each place's token; ``rows``, (places,), at which of ``positions`` it is
    predicted. Those of the n-th position are the places from ``firsts[n]`` on.
    """

    places: tuple[tuple[int, int], ...]
    firsts: tuple[int, ...]
    positions: Tensor
    rows: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """One row, or what follows a fork of one: tokens, then branches that each see these tokens."""

    context: Tokens
    branches: tuple[Row, ...] = ()

    @property
    def tokens(self) -> Tokens:
        """All tokens in the order in which they lie."""
        return sum((branch.tokens for branch in self.branches), self.context)

    @property
    def forks(self) -> bool:
        """Whether any two tokens come after the same one."""
        return len(self.branches) > 1 or any(branch.forks for branch in self.branches)

    def stretches(self, start: int = 0, seen: tuple[range, ...] = ()) -> Iterator[Stretch]:
        """The parts between forks, the first of which lies at ``start``."""
        here = range(start, start + len(self.context))
        yield Stretch(here, seen)
        start, seen = here.stop, (*seen, here)
        for branch in self.branches:
            for stretch in branch.stretches(start, seen):
                yield stretch
                start = stretch.columns.stop

    def columns(self) -> dict[tuple[int, int], int]:
        """The column of a token that comes after another column, -1 before the first, by both.

        So any text that is read from the row's first token on is found step by step.
        """
        tokens, found = self.tokens, dict[tuple[int, int], int]()
        for here, seen in self.stretches():
            before = next((part[-1] for part in reversed(seen) if part), -1)
            for column in here:
                found[before, tokens[column]] = before = column
        return found


class Stretch(NamedTuple):
    """A part of a row without forks: its columns, and those that it sees before it."""

    columns: range
    seen: tuple[range, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A batch as rows, padded to (rows, length), and where to read.

    ``spans`` holds, for each example, one span a choice; a position is row times length and
    column. ``branching`` says that some row forks, so that attention must be masked and positions
    given. ``attends`` are the rows in which attention is computed, where they are not those that
    are read: then a single one is read, with each text of these.
    """

    rows: tuple[Row, ...]
    spans: tuple[tuple[Span, ...], ...]
    attends: tuple[Row, ...] = ()

    @property
    def length(self) -> int:
        """The longest row's length."""
        return max(len(row.tokens) for row in self.rows)

    @property
    def branching(self) -> bool:
        """Whether any row forks."""
        return any(row.forks for row in self.rows)

    def token_ids(self) -> Tensor:
        """(rows, length), padded on the right with token 0, which no real token sees."""
        ids = torch.zeros((len(self.rows), self.length), dtype=torch.long)
        for number, row in enumerate(self.rows):
            ids[number, : len(row.tokens)] = torch.tensor(row.tokens)
        return ids

    def position_ids(self, prefix_length: int) -> Tensor:
        """(rows, length): how far each token is from the start of a text that it ends."""
        ids = torch.zeros((len(self.rows), self.length), dtype=torch.long)
        for number, row in enumerate(self.rows):
            for columns, seen in row.stretches():
                first = sum(map(len, seen))
                ids[number, columns.start : columns.stop] = torch.arange(len(columns)) + first
        return ids + prefix_length

    def attention_mask(
        self, prefix_length: int, dtype: torch.dtype, device: torch.device = CPU
    ) -> Tensor:
        """(rows, 1, length, prefix and length): 0 where a token sees, the least number elsewhere.

        The rows are those in which attention is computed. Every token sees the prefix and itself,
        so no row of scores is empty. It is added to the scores as it is: a mask of truth values
        would be made into this one anew in every layer.
        """
        rows = self.attends or self.rows
        length = max(len(row.tokens) for row in rows)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        sees = causal.repeat(len(rows), 1, 1)
        for number, row in enumerate(rows):
            for columns, seen in row.stretches():
                of_stretch = sees[number, columns.start : columns.stop, : columns.start]
                of_stretch[:] = False
                for before in seen:
                    of_stretch[:, before.start : before.stop] = True
        width = prefix_length + length
        aligned = -(-width // MASK_ALIGNMENT) * MASK_ALIGNMENT
        mask = torch.zeros((len(rows), 1, length, aligned), dtype=dtype, device=device)
        own = mask[:, 0, :, prefix_length:width]
        own.masked_fill_(~sent(sees, device), torch.finfo(dtype).min)
        return mask[..., :width]

    def gathered(self) -> tuple[Tensor, ...]:
        """How the rows in which attention is computed are made of the one that is read.

        Returns:
            For each of their columns which token of that row it is, (rows, length), 0 where it is
            padding; and for each token a place, row times length and column, where it is one,
            (tokens,). Nothing where they are those that are read.
        """
        if not self.attends:
            return ()
        (read,) = self.rows
        after, tokens = read.columns(), len(read.tokens)
        length = max(len(row.tokens) for row in self.attends)
        columns = torch.zeros((len(self.attends), length), dtype=torch.long)
        places = torch.zeros(tokens, dtype=torch.long)
        for number, row in enumerate(self.attends):
            token_of = {-1: -1}  # by the row's column; one that comes after has a higher number
            for (before, token), column in row.columns().items():
                token_of[column] = after[token_of[before], token]
            own = torch.tensor([token_of[column] for column in range(len(row.tokens))])
            columns[number, : len(own)] = own
            places[own] = number * length + torch.arange(len(own))
        return columns, places

    def reads(self, device: torch.device = CPU) -> Reads:
        """What is read of the choices, on the model's device."""
        places = sorted(
            {
                place
                for spans in self.spans
                for span in spans
                for place in zip(span.positions, span.targets, strict=True)
            }
        )
        positions = sorted({position for position, _ in places})
        row_of = {position: row for row, position in enumerate(positions)}
        rows = [row_of[position] for position, _ in places]
        return Reads(
            tuple(places),
            tuple(bisect_left(rows, row) for row in range(len(positions))),
            *(
                sent(torch.tensor(one, dtype=torch.long), device)
                for one in (positions, rows, [target for _, target in places])
            ),
        )


def lay_out(
    examples: Sequence[EncodedExample],
    *,
    prefix_length: int,
    shares_context: bool,
    packs: bool = False,
    padding_free: bool = False,
) -> Layout:
    """Arrange examples whose first ``prefix_length`` tokens are read apart.

    See `telltale.engine.shared.Capabilities` for the rest.
    """
    texts = [_texts(example, prefix_length) for example in examples]
    rows: list[Row] = []
    homes: list[Sequence[int]] = [()] * len(examples)  # each example's rows
    if packs:
        cost = partial(_attention_cost, prefix_length) if padding_free else _cost
        for members in _packed(examples, prefix_length, cost):
            for member in members:
                homes[member] = (len(rows),)
            rows.append(_tree({text for i in members for text in texts[i]}))
    else:
        for number, of_example in enumerate(texts):
            first = len(rows)
            rows += [_tree(of_example)] if shares_context else [Row(text) for text in of_example]
            homes[number] = range(first, len(rows))
    attends: tuple[Row, ...] = ()
    if packs and padding_free:
        whole = _tree({text for of_example in texts for text in of_example})
        attends = tuple(rows) if whole.forks else ()
        rows, homes = [whole], [(0,)] * len(examples)
    length = max(len(row.tokens) for row in rows)
    columns = [row.columns() for row in rows]
    spans = tuple(
        tuple(
            _span(example.context[prefix_length:], choice, size.tokens, columns, home, length)
            for choice, size in zip(example.choices, example.sizes, strict=True)
        )
        for example, home in zip(examples, homes, strict=True)
    )
    return Layout(tuple(rows), spans, attends)


def _texts(example: EncodedExample, prefix_length: int) -> list[Tokens]:
    """What is read of an example: its context with each branch, or, to be gone on with, alone."""
    context = example.context[prefix_length:]
    return [context + branch for branch in example.branches] or [context]


def _tree(texts: Iterable[Tokens]) -> Row:
    """The row in which each of some texts is read, none of its beginnings twice.

    At least one text is not empty.
    """
    return _tree_of(sorted(texts))


def _tree_of(texts: Sequence[Tokens]) -> Row:
    common = common_start(texts)
    by_first: dict[int, list[Tokens]] = {}
    for text in texts:
        if len(text) > len(common):  # else it ends where others go on
            by_first.setdefault(text[len(common)], []).append(text[len(common) :])
    return Row(common, tuple(map(_tree_of, by_first.values())))


def _packed(
    examples: Sequence[EncodedExample], prefix_length: int, cost: Callable[[Sequence[int]], float]
) -> list[list[int]]:
    """Which examples go into each row, by their index.

    In one way groups of examples make rows as even as can be, which pads little; in the other each
    row has examples that follow each other in the order of their texts, which share most. Of both,
    and of all numbers of rows, what costs least is taken.
    """

    def length(members: Sequence[int]) -> int:
        return tokens_in_row([examples[i] for i in members], prefix_length)

    groups = groups_of(examples, prefix_length)
    sizes = [length(members) for members in groups]
    counts = range(1, len(groups) + 1)
    evened = min(
        (_evened(sizes, count) for count in counts),
        key=lambda rows: cost([sum(sizes[group] for group in row) for row in rows]),
    )
    ways = [
        [[i for group in row for i in groups[group]] for row in evened],
        _runs(in_order_of_texts(examples), length, cost),
    ]
    return min(ways, key=lambda rows: cost([length(row) for row in rows]))


def _cost(lengths: Sequence[int]) -> float:
    """What rows of these lengths cost: their tokens, padding counted, and what these see."""
    longest = max(lengths)
    return len(lengths) * longest * (1 + longest / DEAR_LENGTH)


def _attention_cost(prefix_length: int, lengths: Sequence[int]) -> float:
    """What attention alone costs in rows of these lengths, each of which sees the prefix."""
    longest = max(lengths)
    return len(lengths) * (prefix_length + longest) * (longest + GATHERED)


def _runs(
    order: Sequence[int],
    length: Callable[[Sequence[int]], int],
    cost: Callable[[Sequence[int]], float],
) -> list[list[int]]:
    """Of the ways to cut an order into even rows the one that costs least."""
    alone = [length([one]) for one in order]
    # What one adds to a row in which the one before it is the last.
    added = [0, *(length(pair) - size for pair, size in zip(pairwise(order), alone, strict=False))]

    def filled(most: int) -> list[tuple[int, int]]:
        """Where each row starts that takes what it can, and its length; one example at least."""
        found: list[tuple[int, int]] = []
        for place, (size, more) in enumerate(zip(alone, added, strict=True)):
            if found and found[-1][1] + more <= most:
                found[-1] = found[-1][0], found[-1][1] + more
            else:
                found.append((place, size))
        return found

    every = range(max(alone), sum(alone) + 1)
    cuts = [
        filled(every[bisect_left(every, -count, key=lambda most: -len(filled(most)))])
        for count in range(1, min(len(order), FEW) + 1)
    ]
    best = min(cuts, key=lambda rows: cost([size for _, size in rows]))
    starts = [start for start, _ in best]
    return [[*order[start:stop]] for start, stop in pairwise([*starts, len(order)])]


def _evened(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Sizes, by their index, in so many rows whose sums are much alike."""
    rows: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    # Each into the emptiest row, the largest first.
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        row = sums.index(min(sums))
        rows[row].append(index)
        sums[row] += sizes[index]
    # Then whatever makes the longest row shorter, and no other as long, changes places. Of many
    # sizes the smallest have evened the rows.
    while len(sizes) <= FEW and (change := _change(sizes, rows, sums)) is not None:
        (longest, one), (row, other) = change
        for place, gone, come in ((longest, one, other), (row, other, one)):
            if gone is not None:
                rows[place].remove(gone)
                sums[place] -= sizes[gone]
            if come is not None:
                rows[place].append(come)
                sums[place] += sizes[come]
    return rows


Place = tuple[int, int | None]  # a row, and which of its sizes; None for none


def _change(
    sizes: Sequence[int], rows: Sequence[Sequence[int]], sums: Sequence[int]
) -> tuple[Place, Place] | None:
    """What of the longest row is best exchanged for what of another; None if nothing helps."""
    longest = sums.index(max(sums))
    best, found = sums[longest], None
    for row, others in enumerate(rows):
        for one in rows[longest] if row != longest else ():
            for other in (None, *others):
                less = sizes[one] - (0 if other is None else sizes[other])
                higher = max(sums[longest] - less, sums[row] + less)
                if higher < best:
                    best, found = higher, ((longest, one), (row, other))
    return found


def in_order_of_texts(examples: Sequence[EncodedExample]) -> list[int]:
    """Examples, by their index, such that those follow each other that begin alike."""
    return sorted(range(len(examples)), key=lambda index: (examples[index].context, index))


def groups_of(examples: Sequence[EncodedExample], prefix_length: int) -> list[list[int]]:
    """Examples, by their index, whose contexts begin alike for a large part, each in one group."""
    found: list[list[int]] = []
    before: Tokens = ()
    for index in in_order_of_texts(examples):
        context = examples[index].context[prefix_length:]
        alike = len(common_start([before, context]))
        if alike >= max(GROUP_TOKENS, GROUP_SHARE * min(len(before), len(context))):
            found[-1].append(index)
        else:
            found.append([index])
        before = context
    return found


def tokens_in_row(examples: Sequence[EncodedExample], prefix_length: int) -> int:
    """How many tokens examples take that lie in one row."""
    texts = {text for example in examples for text in _texts(example, prefix_length)}
    # In sorted order, what a text shares with any before it, it shares with the one right before.
    shared = sum(len(common_start(pair)) for pair in pairwise(sorted(texts)))
    return sum(map(len, texts)) - shared


def row_sizes(
    example: EncodedExample, *, prefix_length: int, shares_context: bool
) -> tuple[int, int]:
    """How many rows an example takes if it is not packed, and the length of the longest."""
    layout = lay_out([example], prefix_length=prefix_length, shares_context=shares_context)
    return len(layout.rows), layout.length


def tokens_read(
    examples: Sequence[EncodedExample],
    *,
    prefix_length: int,
    shares_context: bool,
    packs: bool = False,
) -> int:
    """How many tokens a path reads of examples, the prefix once and no padding."""
    total = prefix_length
    if packs:
        groups = groups_of(examples, prefix_length)
        return total + sum(
            tokens_in_row([examples[i] for i in one], prefix_length) for one in groups
        )
    for example in examples:
        own, branches = len(example.context) - prefix_length, example.branches
        contexts = 1 if shares_context else len(branches)
        total += contexts * own + sum(map(len, branches))
    return total


def _span(
    context: Tokens,
    choice: Tokens,
    scored: int,
    columns: Sequence[Mapping[tuple[int, int], int]],
    home: Sequence[int],
    length: int,
) -> Span:
    """The context's last position predicts the first token, each branch token the next one."""
    text = context + choice[:-1]
    found = ((number, _columns_of(text, columns[number])) for number in home)
    row, of_text = next((row, one) for row, one in found if len(one) == len(text))
    return Span(tuple(row * length + column for column in of_text)[-scored:], choice[-scored:])


def _columns_of(text: Tokens, columns: Mapping[tuple[int, int], int]) -> list[int]:
    """The columns of a text, as far as it is in a row. See `Row.columns`."""
    found: list[int] = []
    before = -1
    for token in text:
        if (before, token) not in columns:
            break
        before = columns[before, token]
        found.append(before)
    return found
