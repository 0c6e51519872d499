"""Generating text greedily from the end of a path, and reading an answer from it.

Rows are read padded on the right, as all rows are. To go on, each is moved to the right, so that
its tokens, cached and new, are next to each other: a sliding window or a positional bias then sees
the distances that it would see in a row alone. Where a model cannot go on from keys and values,
every token is computed from the whole text again, which is slow and right.

Several paths of a batch are written side by side, so that each layer's weights are read once for
all of them. What a row gives may then differ by rounding from what it gives alone, which in float32
changes no token but where two are equal to the last digits. In low precision it would, and an
outcome must not depend on companions: there each path is written alone. (Products of a fixed number
of rows, 64, filled up where there are fewer, would make a row's result its own in bfloat16 too. On
a processor with bfloat16 products a row would then take a fifth less than alone among 20, but a
single path, of which held-out sets are measured, twice as long.)

No text of a nearby path is taken as a draft. Without one layer SmolLM2-135M goes on as the whole
model does for 5 tokens on average (11% of those written; the first 16 prompts of gsm8k, 48 tokens).
With so many rows side by side a draft's token costs about half of a written one, so that by this
count drafts of 4 or 8 tokens would save less than 2%. With few rows, where a step takes as long as
reading the weights, a draft read in one pass could save no more than these 5 steps: 3% of 64 with 8
rows on a CPU, where the pass takes as long as three steps, and 6% where it takes as long as one.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from telltale.engine.prefixes import prefixes
from telltale.engine.store import size_bytes
from telltale.errors import MeasurementError
from telltale.measure import Generated, Outcome
from telltale.models.row_caches import PromptCache, RowCache
from telltale.tasks.extractions import extraction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from telltale.engine.encode import Tokens
    from telltale.engine.shared import Walked
    from telltale.models.layered import LayeredModel
    from telltale.paths import LayerPath
    from telltale.tasks import Example, Generation
    from telltale.tasks.answers import Extraction

# More rows than these make a product no faster.
ROWS_AT_ONCE = 256
# Of the layers that are run for paths side by side, the share that a path must have of its own.
LEAST_USED = 0.75
# The share of rows that are done from which on the others are copied together.
LEAST_DONE = 1 / 8
FULL_PRECISION_BITS = 32


class Continuation(Protocol):
    """Rows of text that go on token by token. ``layer_tokens`` counts what went through layers."""

    layer_tokens: int

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
        device, total = model.device, max(lengths)
        self._lengths = lengths
        self._placed = 0
        sizes = total, total + steps, len(lengths)
        self._cache = PromptCache(*sizes, paths) if len(paths) > 1 else RowCache(*sizes)
        self._layers: dict[int, Tensor | None] = {}
        for layer in sorted({layer for path in paths for layer in path.kept}):
            left_out = [layer not in path.kept for path in paths for _ in lengths]
            self._layers[layer] = torch.tensor(left_out, device=device) if any(left_out) else None
        self._positions = torch.tensor([*lengths] * len(paths), device=device)
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
            self._layers, tokens, self._seen, self._positions, self._cache
        )
        self._positions = self._positions + 1
        self.layer_tokens += len(tokens) * len(self._layers)
        return logits

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


class Generating:
    """Lets the model write, and reads its answers. See `telltale.engine.side_by_side.Writer`.

    Args:
        tokenizer: turns tokens into text.
        generation: how text ends, and how an answer is read.
        examples: the questions, by the position that batches name.
        end_tokens: those at which a model ends its text.
        continues: whether the model can go on from keys and values.
    """

    def __init__(
        self,
        tokenizer: Any,
        generation: Generation,
        examples: Sequence[Example],
        *,
        end_tokens: frozenset[int],
        continues: bool,
    ) -> None:
        self.needs_key_values = continues
        self._tokenizer = tokenizer
        self._generation = generation
        self._examples = examples
        self._end_tokens = end_tokens
        self._extraction = cache(lambda choices: extraction(generation.extract, choices))
        # A stop string may be spread over as many tokens as it has bytes, after some of the text.
        longest = max((len(stop.encode()) for stop in generation.stop), default=0)
        self._tail = longest + 8
        self._steps = generation.max_new_tokens - 1  # the last token written is never read

    def enough_rows(self, model: LayeredModel) -> float:
        """See `telltale.engine.side_by_side.Writer`."""
        return ROWS_AT_ONCE if self._writes_together(model) else math.inf

    def _writes_together(self, model: LayeredModel) -> bool:
        return self.needs_key_values and torch.finfo(model.dtype).bits >= FULL_PRECISION_BITS

    def paths_at_once(
        self,
        model: LayeredModel,
        paths: Sequence[LayerPath],
        walked: Sequence[Walked],
        room_bytes: int,
    ) -> int:
        """How many of the first ``paths`` are to be written side by side; at least one.

        As many as have room for all keys and values, given those of the first path, and as have
        most layers in common. In low precision one: what a row gives may there depend on how many
        are beside it, and an outcome must not.
        """
        if not self._writes_together(model):
            return 1
        rows = sum(len(part.examples) for part in walked)
        longest = max(len(example.context) for part in walked for example in part.examples)
        keys, values = walked[0].key_values[0]
        of_token = size_bytes((keys[:1, :, :1], values[:1, :, :1]))
        for count in range(min(ROWS_AT_ONCE // rows, len(paths)), 1, -1):
            together = paths[:count]
            layers = {layer for path in together for layer in path.kept}
            used = sum(path.depth for path in together)
            read = len(prefixes(together)) * longest  # the prompts, once where paths are one
            tokens = rows * (read + count * len(layers) * self._steps)
            if tokens * of_token <= room_bytes and used >= LEAST_USED * count * len(layers):
                rounds = -(-len(paths) // count)
                return -(-len(paths) // rounds)  # no last one alone
        return 1

    def write(
        self,
        model: LayeredModel,
        positions: Sequence[int],
        paths: Sequence[LayerPath],
        walked: Iterable[Sequence[Walked]],
    ) -> tuple[list[tuple[Outcome, ...]], int]:
        """See `telltale.engine.side_by_side.Writer`."""
        examples = [self._examples[position] for position in positions]
        ways = [self._extraction(len(example.choices)) for example in examples]
        written, ended, layer_tokens = self._write(model, paths, walked, ways)
        outcomes = []
        for start in range(0, len(written), len(examples)):
            of_path = []
            for offset, (position, example, way) in enumerate(
                zip(positions, examples, ways, strict=True)
            ):
                tokens, has_ended = written[start + offset], ended[start + offset]
                text = self._text(tokens)
                answer = way.find(text)
                score = way.score(answer, example.choices[example.answer])
                generated = Generated(text, len(tokens), cut_off=not has_ended)
                of_path.append(Outcome(position, (), answer, score, generated))
            outcomes.append(tuple(of_path))
        return outcomes, layer_tokens

    def _write(
        self,
        model: LayeredModel,
        paths: Sequence[LayerPath],
        walked: Iterable[Sequence[Walked]],
        ways: Sequence[Extraction],
    ) -> tuple[list[list[int]], list[bool], int]:
        """Each row's tokens, whether it ended by itself, and the work that all took."""
        logits, rows = self._begun(model, paths, walked)
        ways = [*ways] * len(paths)
        written: list[list[int]] = [[] for _ in ways]
        ended = [False] * len(ways)
        live = list(range(len(ways)))  # the rows that are still read, some of them done
        done = set[int]()
        while True:
            tokens = logits.argmax(dim=-1)
            if bool(logits.gather(1, tokens[:, None]).isnan().any()):
                raise MeasurementError(
                    "the model gave NaN while generating; try `dtype` float32, since float16 and "
                    "bfloat16 can overflow"
                )
            going_on = []
            for index, (row, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
                if row in done:
                    continue
                if token in self._end_tokens:
                    ended[row] = True
                else:
                    written[row].append(token)
                    ended[row] = self._is_ended(written[row], ways[row])
                if ended[row] or len(written[row]) == self._generation.max_new_tokens:
                    done.add(row)
                else:
                    going_on.append(index)
            if not going_on:
                return written, ended, rows.layer_tokens
            # To keep some rows copies all that is cached, so it is done when it is worth it.
            if len(going_on) <= len(live) * (1 - LEAST_DONE):
                chosen = torch.tensor(going_on, device=tokens.device)
                tokens = tokens[chosen]
                rows.keep(chosen)
                live = [live[index] for index in going_on]
            logits = rows.step(tokens)

    def _begun(
        self,
        model: LayeredModel,
        paths: Sequence[LayerPath],
        walked: Iterable[Sequence[Walked]],
    ) -> tuple[Tensor, Continuation]:
        """The logits after each row's prompt, and what goes on from there."""
        ends: list[Tensor] = []
        rows: Cached | None = None
        contexts: list[Tokens] = []
        for parts in walked:
            contexts = [example.context for part in parts for example in part.examples]
            ends += [last_states(part) for part in parts]
            if self.needs_key_values:
                lengths = [len(context) for context in contexts]
                rows = rows or Cached(model, paths, lengths, self._steps)
                for part in parts:
                    rows.place(part)
        logits = model.logits(torch.cat(ends))
        return logits, rows or Recomputed(model, paths[0], contexts)

    def _is_ended(self, tokens: list[int], way: Extraction) -> bool:
        """Whether a stop string has come, or no more text can change the answer."""
        stops = self._generation.stop
        if stops:
            tail = self._decoded(tokens[-self._tail :])
            if any(stop in tail for stop in stops):
                return True
        return way.is_final is not None and way.is_final(self._text(tokens))

    def _text(self, tokens: list[int]) -> str:
        """What was written, up to the first stop string."""
        text = self._decoded(tokens)
        ends = [text.find(stop) for stop in self._generation.stop if stop in text]
        return text[: min(ends)] if ends else text

    def _decoded(self, tokens: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
