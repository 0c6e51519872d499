"""Rows of text that go on token by token, from keys and values or by reading all of it again.

Rows are read padded on the right, as all rows are. To go on, each is moved to the right, so that
its tokens, cached and new, are next to each other: a sliding window or a positional bias then sees
the distances that it would see in a row alone. Where a model cannot go on from keys and values,
every token is computed from the whole text again, which is slow and right.

The rows of several paths may lie side by side, so that each layer's weights are read once for all
of them. Whether a row then gives bit for bit what it gives alone is a matter of the products of
matrices: whether each row's sums are made in the same order, however many rows there are. A
processor's are (but for fewer rows than `FEWEST_ROWS`, where other products may be taken, so that
rows are filled up), a GPU's are chosen by the number of rows. It is tried, not assumed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch

from telltale.models.row_caches import FEWEST_ROWS, PromptCache, RowCache, filled
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from telltale.engine.shared import Walked
    from telltale.models.layered import LayeredModel

FULL_PRECISION_BITS = 32
TRIED_SHARE = 0.7  # of the rows go on after each step of a trial


class Continuation(Protocol):
    """Rows of text that go on token by token.

    ``layer_tokens`` counts what went through layers. ``fewest`` is the least number of rows to go
    on with: where fewer are read, others go on with them.
    """

    layer_tokens: int
    fewest: int

    def step(self, tokens: Tensor) -> Tensor:
        """The logits, (rows, vocabulary), after one more token a row, (rows,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only, by their index."""
        ...


class Cached:
    """Goes on from keys and values, with the rows of several paths side by side.

    Each layer's weights are then read once for all of them. A layer that only some of the paths
    have is run for all rows, and changes only theirs.

    Args:
        model: what runs.
        paths: the rows' paths; each has the same rows, one after another.
        lengths: the real tokens of each row of a path.
        steps: how many tokens are added to each row at most.
    """

    def __init__(
        self, model: LayeredModel, paths: Sequence[LayerPath], lengths: Sequence[int], steps: int
    ) -> None:
        self.model = model
        self.layer_tokens = 0
        # What a row gives alone is then made as it is beside other paths, to be equal to the bit.
        agrees = is_low_precision(model) and may_go_together(model)
        self.fewest = FEWEST_ROWS if agrees else 1
        device, total = model.device, max(lengths)
        self._lengths = lengths
        self._placed = 0
        filling = max(0, self.fewest - len(paths) * len(lengths))
        sizes = total, total + steps, len(lengths)
        is_alone = len(paths) == 1 and not agrees
        self._cache = RowCache(*sizes) if is_alone else PromptCache(*sizes, paths)
        self._layers: dict[int, Tensor | None] = {}
        for layer in sorted({layer for path in paths for layer in path.kept}):
            left_out = [layer not in path.kept for path in paths for _ in lengths]
            left_out += [False] * filling
            self._layers[layer] = torch.tensor(left_out, device=device) if any(left_out) else None
        self._positions = torch.tensor([*lengths] * len(paths) + [0] * filling, device=device)
        columns = torch.arange(total, device=device)
        self._seen = (columns >= total - self._positions[:, None]).long()

    def place(self, walked: Walked) -> None:
        """Take over the keys and values of the next rows, in the order of paths and rows."""
        count = len(walked.examples)
        first = self._placed % len(self._lengths)
        lengths = self._lengths[first : first + count]
        for depth, key_value in enumerate(walked.key_values, start=1):
            self._cache.place(walked.path.kept[:depth], first, key_value, lengths)
        self._placed += count

    def step(self, tokens: Tensor) -> Tensor:
        """See `Continuation`."""
        self._seen = torch.cat([self._seen, torch.ones_like(self._seen[:, :1])], dim=-1)
        logits = self.model.next_logits(
            self._layers, filled(tokens, self.fewest), self._seen, self._positions, self._cache
        )
        self._positions = self._positions + 1
        self.layer_tokens += len(tokens) * len(self._layers)
        return logits[: len(tokens)]

    def keep(self, rows: Tensor) -> None:
        """See `Continuation`."""
        self._seen, self._positions = self._seen[rows], self._positions[rows]
        for layer, left_out in tuple(self._layers.items()):
            remaining = None if left_out is None else left_out[rows]
            if remaining is not None and bool(remaining.all()):
                del self._layers[layer]
            else:
                self._layers[layer] = remaining
        self._cache.keep(rows, self._layers)


class Recomputed:
    """Goes on by reading the whole text again: for models that have no keys and values."""

    def __init__(
        self, model: LayeredModel, path: LayerPath, texts: Sequence[Sequence[int]]
    ) -> None:
        self.model = model
        self.path = path
        self.layer_tokens = 0
        self.fewest = 1
        self._texts = [list(text) for text in texts]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Continuation`."""
        for text, token in zip(self._texts, tokens.tolist(), strict=True):
            text.append(token)
        device = self.model.device
        # A row at a time: what carries a state from token to token would carry padding too.
        ends = []
        for text in self._texts:
            prepared = self.model.prepare(torch.tensor([text], device=device))
            ends.append(self.model.run_path(self.path, prepared)[0, -1])
            self.layer_tokens += len(text) * self.path.depth
        return self.model.logits(torch.stack(ends))

    def keep(self, rows: Tensor) -> None:
        """See `Continuation`."""
        self._texts = [self._texts[row] for row in rows.tolist()]


def continuation(model: LayeredModel, walked: Walked, steps: int) -> Continuation:
    """What goes on for a few steps from a path's end: from keys and values if there are some."""
    contexts = [example.context for example in walked.examples]
    if not walked.key_values:
        return Recomputed(model, walked.path, contexts)
    cached = Cached(model, [walked.path], [len(context) for context in contexts], steps)
    cached.place(walked)
    return cached


def last_states(walked: Walked) -> Tensor:
    """The state, (rows, width), of each row's last token."""
    before = len(walked.examples[0].context) - len(walked.layout.rows[0].context)
    ends = [len(example.context) - before - 1 for example in walked.examples]
    rows = torch.arange(len(ends), device=walked.hidden.device)
    return walked.hidden[rows, torch.tensor(ends, device=rows.device)]


def is_low_precision(model: LayeredModel) -> bool:
    """Whether a difference in the last digit of a number may well change a token."""
    return torch.finfo(model.dtype).bits < FULL_PRECISION_BITS


def may_go_together(model: LayeredModel) -> bool:
    """Whether rows of several paths may go side by side: in low precision, where they may be tried.

    A GPU's libraries choose a product by its number of rows.
    """
    return not is_low_precision(model) or model.device.type == "cpu"


def give_the_same(model: LayeredModel, walked: Sequence[Walked], count: int) -> bool:
    """Whether rows of so many paths side by side give, bit for bit, what those of one give.

    It is tried on this machine: on a path's first layers, as far as each kind of layer is among
    them, and the model's end. Again and again some rows go on, until there are only a few.

    Args:
        model: what runs.
        walked: the prompts, in parts, at the end of a path.
        count: how many paths.
    """
    contexts = [example.context for part in walked for example in part.examples]
    kept, last = walked[0].path.kept, model.one_of_each_kind(contexts[0]).kept[-1]
    begin = LayerPath(kept[: max(1, sum(layer <= last for layer in kept))], model.depth)
    sizes = [count * len(contexts)]
    while sizes[-1] > FEWEST_ROWS:
        sizes.append(max(FEWEST_ROWS, int(TRIED_SHARE * sizes[-1])))
    alone, together = (
        Cached(model, [begin] * paths, [len(context) for context in contexts], len(sizes))
        for paths in (1, count)
    )
    for part in walked:
        begun = replace(part, path=begin, key_values=part.key_values[: begin.depth])
        alone.place(begun)
        together.place(begun)
    rows = torch.arange(sizes[0], device=model.device) % len(contexts)
    for step, size in enumerate(sizes):
        if size < len(rows):
            some = torch.arange(size, device=rows.device) * len(rows) // size
            together.keep(some)
            rows = rows[some]
        tokens = torch.tensor(
            [context[step % len(context)] for context in contexts], device=rows.device
        )
        if not torch.equal(alone.step(tokens)[rows], together.step(tokens[rows])):
            return False
    return True
