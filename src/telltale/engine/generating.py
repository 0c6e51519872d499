"""Generating text greedily from the end of a path, and reading an answer from it.

Several paths of a batch are written side by side, so that each layer's weights are read once for
all of them. What a row gives may then differ by rounding from what it gives alone, which in float32
changes no token but where two are equal to the last digits. In low precision it would, and an
outcome must not depend on companions: there paths are written side by side only where that was
tried to give the same bit for bit, as it does on a processor, and else each alone. See
`telltale.engine.continuing`.

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
from typing import TYPE_CHECKING, Any

import torch

from telltale.engine.continuing import (
    Cached,
    Recomputed,
    give_the_same,
    is_low_precision,
    last_states,
    may_go_together,
)
from telltale.engine.prefixes import prefixes
from telltale.engine.store import size_bytes
from telltale.errors import MeasurementError
from telltale.measure import Generated, Outcome
from telltale.models.layered import is_out_of_memory
from telltale.models.row_caches import filled
from telltale.tasks.extractions import extraction

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from telltale.engine.continuing import Continuation
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
        # Whether so many rows of so many paths give what they give alone.
        self._tried: dict[tuple[int, int], bool] = {}

    def enough_rows(self, model: LayeredModel) -> float:
        """See `telltale.engine.side_by_side.Writer`."""
        # How long a section's rows are, and so how its sums are made, would hang on companions.
        is_bound = not self.needs_key_values or is_low_precision(model)
        return math.inf if is_bound else ROWS_AT_ONCE

    def paths_at_once(
        self,
        model: LayeredModel,
        paths: Sequence[LayerPath],
        walked: Sequence[Walked],
        room_bytes: int,
    ) -> int:
        """How many of the first ``paths`` are to be written side by side; at least one.

        As many as have room for all keys and values, given those of the first path, and as have
        most layers in common. In low precision one, where what a row gives depends on how many are
        beside it: an outcome must not.
        """
        if not self.needs_key_values or not may_go_together(model):
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
                even = -(-len(paths) // rounds)  # no last one alone
                return even if self._goes_together(model, walked, even) else 1
        return 1

    def _goes_together(self, model: LayeredModel, walked: Sequence[Walked], count: int) -> bool:
        """Whether so many paths may be written side by side; in low precision it is tried once."""
        if not is_low_precision(model):
            return True
        tried = sum(len(part.examples) for part in walked), count
        if tried not in self._tried:
            try:
                self._tried[tried] = give_the_same(model, walked, count)
            except (RuntimeError, MemoryError) as problem:
                if not is_out_of_memory(problem):
                    raise
                self._tried[tried] = False  # alone they may have room
        return self._tried[tried]

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
            highest, tokens = logits.max(dim=-1)  # of bfloat16 quicker than its argmax
            if bool(highest.isnan().any()):
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
            if len(going_on) <= len(live) * (1 - LEAST_DONE) and len(live) > rows.fewest:
                others = [index for index in range(len(live)) if live[index] in done]
                kept = going_on + others[: max(0, rows.fewest - len(going_on))]
                chosen = torch.tensor(kept, device=tokens.device)
                tokens = tokens[chosen]
                rows.keep(chosen)
                live = [live[index] for index in kept]
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
        begun = rows or Recomputed(model, paths[0], contexts)
        states = torch.cat(ends)
        return model.logits(filled(states, begun.fewest))[: len(states)], begun

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
