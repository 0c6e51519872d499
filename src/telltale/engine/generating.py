"""Generating text greedily from the end of a path, and reading an answer from it.

Rows are read padded on the right, as all rows are. To go on, each is moved to the right, so that
its tokens, cached and new, are next to each other: a sliding window or a positional bias then sees
the distances that it would see in a row alone. Where a model cannot go on from keys and values,
every token is computed from the whole text again, which is slow and right.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from telltale.errors import MeasurementError
from telltale.measure import Generated, Outcome
from telltale.models.layered import LayerCache
from telltale.tasks.extractions import extraction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from telltale.engine.shared import Walked
    from telltale.measure import Batch
    from telltale.models.layered import KeyValue, LayeredModel
    from telltale.paths import LayerPath
    from telltale.tasks import Example, Generation
    from telltale.tasks.answers import Extraction


class Continuation(Protocol):
    """Rows of text that go on token by token. ``tokens_read`` counts what went through layers."""

    tokens_read: int

    def step(self, tokens: Tensor) -> Tensor:
        """The logits, (rows, vocabulary), after one more token a row, (rows,)."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with some rows only, by their index."""
        ...


class Cached:
    """Goes on from keys and values.

    Args:
        model: what runs.
        path: its layers.
        key_values: for each layer of the path, (rows, heads, tokens, head width), each row padded
            on the right.
        lengths: the real tokens of each row.
    """

    def __init__(
        self,
        model: LayeredModel,
        path: LayerPath,
        key_values: Sequence[KeyValue],
        lengths: Sequence[int],
    ) -> None:
        self.model = model
        self.path = path
        total = key_values[0][0].shape[-2]
        pads = [total - length for length in lengths]
        self._cache = LayerCache(total)
        for layer, (keys, values) in zip(path.kept, key_values, strict=True):
            self._cache.held[layer] = _moved_right(keys, pads), _moved_right(values, pads)
        self.tokens_read = 0
        self._positions = torch.tensor(lengths, device=model.device)
        columns = torch.arange(total, device=model.device)
        self._seen = (columns >= total - self._positions[:, None]).long()

    def step(self, tokens: Tensor) -> Tensor:
        """See `Continuation`."""
        self._seen = torch.cat([self._seen, torch.ones_like(self._seen[:, :1])], dim=-1)
        logits = self.model.next_logits(self.path, tokens, self._seen, self._positions, self._cache)
        self._positions = self._positions + 1
        self.tokens_read += len(tokens)
        return logits

    def keep(self, rows: Tensor) -> None:
        """See `Continuation`."""
        self._seen, self._positions = self._seen[rows], self._positions[rows]
        held = self._cache.held
        for layer, (keys, values) in held.items():
            held[layer] = keys[rows], values[rows]


class Recomputed:
    """Goes on by reading the whole text again: for models that have no keys and values."""

    def __init__(
        self, model: LayeredModel, path: LayerPath, texts: Sequence[Sequence[int]]
    ) -> None:
        self.model = model
        self.path = path
        self.tokens_read = 0
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
            self.tokens_read += len(text)
        return self.model.logits(torch.stack(ends))

    def keep(self, rows: Tensor) -> None:
        """See `Continuation`."""
        self._texts = [self._texts[row] for row in rows.tolist()]


def continuation(model: LayeredModel, walked: Walked) -> Continuation:
    """What goes on from the end of a path: from keys and values where there are some."""
    if walked.key_values:
        lengths = [len(example.context) for example in walked.examples]
        return Cached(model, walked.path, walked.key_values, lengths)
    return Recomputed(model, walked.path, [example.context for example in walked.examples])


def last_logits(model: LayeredModel, walked: Walked) -> Tensor:
    """The logits, (rows, vocabulary), after each row's last token."""
    before = len(walked.examples[0].context) - len(walked.layout.rows[0].context)
    ends = [len(example.context) - before - 1 for example in walked.examples]
    rows = torch.arange(len(ends), device=walked.hidden.device)
    return model.logits(walked.hidden[rows, torch.tensor(ends, device=rows.device)])


class Generating:
    """Lets the model write, and reads its answers. See `telltale.engine.shared.Reader`.

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

    def __call__(
        self, model: LayeredModel, batch: Batch, walked: Walked
    ) -> tuple[tuple[Outcome, ...], int]:
        """Read one batch."""
        ways = [self._extraction(len(self._examples[i].choices)) for i in batch.examples]
        written, ended, tokens_read = self._write(model, walked, ways)
        outcomes = []
        for position, way, tokens, has_ended in zip(
            batch.examples, ways, written, ended, strict=True
        ):
            text = self._text(tokens)
            answer = way.find(text)
            example = self._examples[position]
            score = way.score(answer, example.choices[example.answer])
            generated = Generated(text, len(tokens), cut_off=not has_ended)
            outcomes.append(Outcome(position, (), answer, score, generated))
        return tuple(outcomes), tokens_read * walked.path.depth

    def _write(
        self, model: LayeredModel, walked: Walked, ways: Sequence[Extraction]
    ) -> tuple[list[list[int]], list[bool], int]:
        """Each row's tokens, whether it ended by itself, and how many tokens were read for all."""
        written: list[list[int]] = [[] for _ in ways]
        ended = [False] * len(ways)
        live = list(range(len(ways)))  # the rows that still go on
        logits = last_logits(model, walked)
        rows: Continuation | None = None
        while True:
            if bool(logits.isnan().any()):
                raise MeasurementError(
                    "the model gave NaN while generating; try `dtype` float32, since float16 and "
                    "bfloat16 can overflow"
                )
            tokens = logits.argmax(dim=-1)
            going_on = []
            for index, (row, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
                if token in self._end_tokens:
                    ended[row] = True
                    continue
                written[row].append(token)
                ended[row] = self._is_ended(written[row], ways[row])
                if not ended[row] and len(written[row]) < self._generation.max_new_tokens:
                    going_on.append(index)
            if not going_on:
                return written, ended, rows.tokens_read if rows else 0
            rows = rows or continuation(model, walked)
            if len(going_on) < len(live):
                chosen = torch.tensor(going_on, device=tokens.device)
                tokens = tokens[chosen]
                rows.keep(chosen)
                live = [live[index] for index in going_on]
            logits = rows.step(tokens)

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


def _moved_right(states: Tensor, pads: Sequence[int]) -> Tensor:
    """(rows, heads, tokens, width): each row's padding moved from its right to its left."""
    if not any(pads):
        return states
    return torch.stack(
        [row.roll(pad, dims=-2) for row, pad in zip(states.unbind(), pads, strict=True)]
    )
