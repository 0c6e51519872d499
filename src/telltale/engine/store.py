"""States that are kept: keys and values of a token prefix, hidden states after layer prefixes.

Kept from batch to batch and from round to round. What is required is held whatever it takes. What
is offered is held while there is room or something worth less gives way, and whoever asks for it
must be able to compute it again.
"""

from __future__ import annotations

import math
import os
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from telltale.engine.prefixes import LayerPrefix

State = tuple["Tensor", ...]
Key = tuple[str, "LayerPrefix"]  # what was read, and the layers it went through
Entry = tuple[float, int, Key]  # what a state is worth, and minus how many came before it


class StateStore:
    """States by what was read and the layers it went through, with a memory budget in bytes.

    What a state is worth, for each of its bytes and in whatever unit, follows from its key:
    `revalue` says how. Before that all are worth the same.

    ``reserved_bytes`` of the budget are for others to use: nothing is kept in them that is offered.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.reserved_bytes = 0
        self._required: dict[Key, State] = {}
        self._offered: dict[Key, State] = {}
        self._worth: Callable[[Key], float] = lambda _: 0.0
        # What is offered, the least worth first, and of equals the last that came. An entry that is
        # not its key's own any more means nothing.
        self._queue: list[Entry] = []
        self._entries: dict[Key, Entry] = {}
        self._came = 0
        self.required_bytes = 0
        self.offered_bytes = 0

    def get(self, key: Key) -> State | None:
        """The state kept under ``key``, if one is."""
        return self._required.get(key) or self._offered.get(key)

    def require(self, key: Key, state: State) -> None:
        """Keep ``state``, letting go of offered ones where the budget asks for it."""
        if key in self._required:
            return
        self._forget(key)
        self._required[key] = state
        self.required_bytes += size_bytes(state)
        self._fit()

    def offer(self, key: Key, state: State) -> None:
        """Keep ``state`` if there is room, or if what is worth less makes room enough."""
        if self.get(key) is not None:
            return
        worth, size = self._worth(key), size_bytes(state)
        room = self._room_bytes - self.required_bytes - self.offered_bytes
        leaving: list[Entry] = []
        while room < size and (least := self._least()) is not None and least[0] < worth:
            leaving.append(heappop(self._queue))
            room += size_bytes(self._offered[least[2]])
        if room < size:
            for entry in leaving:
                heappush(self._queue, entry)
            return
        for entry in leaving:
            self._forget(entry[2])
        self._offered[key] = state
        self.offered_bytes += size
        self._enter(key, worth)

    def revalue(
        self,
        worth: Callable[[Key], float],
        *,
        required: Callable[[Key], bool] = lambda _: False,
        awaited: Callable[[Key], bool] = lambda _: False,
    ) -> None:
        """Value every state anew.

        Args:
            worth: what a state is worth, by its key.
            required: which states are so still, of those that are; others become offered ones.
            awaited: what is sure to be read, which gives way to nothing offered until `release`.
        """
        self._worth = worth
        for key in [key for key in self._required if not required(key)]:
            state = self._required.pop(key)
            self._offered[key] = state
            self.required_bytes -= size_bytes(state)
            self.offered_bytes += size_bytes(state)
        self._queue.clear()
        self._entries.clear()
        for key in self._offered:
            self._enter(key, math.inf if awaited(key) else worth(key))
        self._fit()

    def release(self, keys: Iterable[Key]) -> None:
        """Value states that were awaited as all others."""
        for key in keys:
            if key in self._offered:
                self._enter(key, self._worth(key))

    def retain(self, wanted: Callable[[Key], bool]) -> None:
        """Let go of every state whose key is not wanted."""
        self._required = {key: state for key, state in self._required.items() if wanted(key)}
        self.required_bytes = sum(map(size_bytes, self._required.values()))
        for key in [key for key in self._offered if not wanted(key)]:
            self._forget(key)

    def _enter(self, key: Key, worth: float) -> None:
        self._came += 1
        self._entries[key] = entry = (worth, -self._came, key)
        heappush(self._queue, entry)

    def _least(self) -> Entry | None:
        """What is worth least of all that is offered, first in the queue."""
        while self._queue:
            entry = self._queue[0]
            if self._entries.get(entry[2]) is entry:
                return entry
            heappop(self._queue)
        return None

    def _fit(self) -> None:
        """Let go of offered states until the rest are within the budget."""
        while self.required_bytes + self.offered_bytes > self._room_bytes:
            least = self._least()
            if least is None:  # what is required is held whatever it takes
                return
            self._forget(least[2])

    def _forget(self, key: Key) -> None:
        """Let go of what was offered under ``key``, if it is held."""
        state = self._offered.pop(key, None)
        if state is not None:
            self.offered_bytes -= size_bytes(state)
            del self._entries[key]

    @property
    def _room_bytes(self) -> int:
        return self.budget_bytes - self.reserved_bytes

    def __len__(self) -> int:
        return len(self._required) + len(self._offered)


def size_bytes(state: State) -> int:
    """The memory that a state holds."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state)


def default_budget_bytes(device: torch.device) -> int:
    """A quarter of a GPU's free memory; on a CPU an eighth of the machine's, at most 2 GiB."""
    free = free_bytes(device)
    if free is not None:
        return free // 4
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        memory = 8 * 2**30
    return int(min(2 * 2**30, memory // 8))


def free_bytes(device: torch.device) -> int | None:
    """A GPU's free memory; None of other devices, whose memory programs share."""
    if device.type != "cuda":
        return None
    free: int = torch.cuda.mem_get_info(device)[0]
    return free
