"""A batch written on many paths at once: in what parts it is read, and how many paths go together.

The prompts of a batch are walked along the paths a few at a time, and text is then written from the
ends of as many paths, on as many prompts, as the writer takes.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from telltale.engine.prefixes import walks
from telltale.measure import BatchTooLargeError, Outcome
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from telltale.engine.prefixes import Walk
    from telltale.engine.shared import Walked
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel

    # Gives some of a batch's examples at the end of each path of a plan.
    WalkParts = Callable[[Batch, Sequence[Walk]], Iterator[Walked]]
    # Makes of an error in its block, where memory was short, one of a batch's.
    MemoryErrors = Callable[[Batch], AbstractContextManager[None]]

# A path, a batch's outcomes at its end, and the tokens times layers that reading them took.
ReadAt = tuple[LayerPath, tuple[Outcome, ...], int]
# The most tokens, padding counted, that are read at once of prompts that are then gone on from.
PART_TOKENS = {"cpu": 512}


@runtime_checkable
class Writer(Protocol):
    """Reads outcomes as a `telltale.engine.shared.Reader` does, of several paths at once."""

    @property
    def needs_key_values(self) -> bool:
        """Whether it goes on from the keys and values of a path's layers."""
        ...

    def enough_rows(self, model: LayeredModel) -> float:
        """How many rows, of all paths together, are enough to read at once.

        A batch may then be read in sections; where that must not be, no number is enough.
        """
        ...

    def paths_at_once(
        self,
        model: LayeredModel,
        paths: Sequence[LayerPath],
        walked: Sequence[Walked],
        room_bytes: int,
    ) -> int:
        """How many of the first ``paths`` it can read at once, given the examples on the first."""
        ...

    def write(
        self,
        model: LayeredModel,
        positions: Sequence[int],
        paths: Sequence[LayerPath],
        walked: Iterable[Sequence[Walked]],
    ) -> tuple[list[tuple[Outcome, ...]], int]:
        """Read some examples at the ends of some paths.

        Args:
            model: what runs.
            positions: the examples, all of a batch or a section.
            paths: where they are read.
            walked: for each of the paths, the examples in parts, in order.

        Returns:
            Each path's outcomes, in the order of the examples, and the tokens times layers that
            were run for all of them.
        """
        ...


class SideBySide:
    """Reads batches at the ends of paths by a writer.

    Args:
        model: what runs.
        writer: what reads.
        lengths: by the position that batches name, the tokens of each prompt that are read.
        room_bytes: gives how much the writer may hold.
    """

    def __init__(
        self,
        model: LayeredModel,
        writer: Writer,
        lengths: Sequence[int],
        room_bytes: Callable[[], int],
    ) -> None:
        self._model = model
        self._writer = writer
        self._lengths = lengths
        self._room_bytes = room_bytes
        self._most_at_once = sys.maxsize  # paths
        self._at_once = 1

    def read(
        self, batch: Batch, plan: Sequence[Walk], walk: WalkParts, memory_errors: MemoryErrors
    ) -> Iterator[ReadAt]:
        """One batch at the end of each path, on fewer paths at once where they do not fit.

        Work that paths share is counted with the first of them; what ``walk`` runs is not counted.
        """
        remaining = {one.path: None for one in plan}
        while remaining:
            try:
                for read in self._read(batch, walks(remaining), walk, memory_errors):
                    del remaining[read[0]]
                    yield read
            except BatchTooLargeError:
                if self._at_once == 1:
                    raise
                self._most_at_once = self._at_once // 2  # and so for what comes after

    def _read(
        self, batch: Batch, plan: Sequence[Walk], walk: WalkParts, memory_errors: MemoryErrors
    ) -> Iterator[ReadAt]:
        """One batch, on as many paths at once as the writer will take."""
        writer, layer_tokens = self._writer, 0
        found: dict[LayerPath, tuple[Outcome, ...]] = {one.path: () for one in plan}
        for section in self._sections(batch, writer.enough_rows(self._model) / len(plan)):
            with memory_errors(batch):
                states = zip(*(walk(part, plan) for part in section), strict=True)
            positions = sum((part.examples for part in section), ())
            remaining = [*found]
            while remaining:
                self._at_once = 1
                with memory_errors(batch):
                    first = next(states)
                    count = writer.paths_at_once(self._model, remaining, first, self._room_bytes())
                    self._at_once = min(count, self._most_at_once)
                    paths, remaining = remaining[: self._at_once], remaining[self._at_once :]
                    walked = chain([first], islice(states, len(paths) - 1))
                    outcomes, ran = writer.write(self._model, positions, paths, walked)
                layer_tokens += ran
                for path, of_path in zip(paths, outcomes, strict=True):
                    found[path] += of_path
                    if len(found[path]) == len(batch.examples):
                        yield path, found[path], layer_tokens
                        layer_tokens = 0

    def _sections(self, batch: Batch, rows: float) -> Iterator[list[Batch]]:
        """The parts of a batch, as many together as have so many rows."""
        section: list[Batch] = []
        for part in self.parts(batch):
            section.append(part)
            if sum(len(one.examples) for one in section) >= rows:
                yield section
                section = []
        if section:
            yield section

    def parts(self, batch: Batch) -> list[Batch]:
        """What of a batch is walked at once.

        Parts have a few rows of like length, so that little is padded, and a processor's caches
        hold them. It takes many more rows to write well, but they may be those of several paths.
        """
        budget = PART_TOKENS.get(self._model.device.type)
        if budget is None:
            return [batch]
        parts: list[list[int]] = [[]]
        longest = 0
        for position in batch.examples:
            longest = max(longest, self._lengths[position])
            if parts[-1] and (len(parts[-1]) + 1) * longest > budget:
                parts.append([])
                longest = self._lengths[position]
            parts[-1].append(position)
        return [replace(batch, examples=tuple(part)) for part in parts]
