"""States that are kept: keys and values of a token prefix, hidden states after layer prefixes.

Kept from batch to batch and from round to round, within a budget. What is required is held until it
is so no longer. What is offered is held while there is room or something worth less gives way.
Whoever asks for a state must be able to compute it again.
"""

from __future__ import annotations

import ctypes
import math
import os
from contextlib import suppress
from functools import cache
from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

    from telltale.engine.prefixes import LayerPrefix

# Where Linux says what is free, and what this process and its like may have, and have.
MEMINFO = Path("/proc/meminfo")
CGROUP, CGROUP_FILES = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")

State = tuple["Tensor", ...]
Key = tuple[str, "LayerPrefix"]  # what was read, and the layers it went through
Entry = tuple[float, int, Key]  # what a state is worth, and minus how many came before it


class StateStore:
    """States by what was read and the layers it went through, with a memory budget in bytes.

    What a state is worth, for each of its bytes and in whatever unit, follows from its key:
    `revalue` says how. Before that all are worth the same.

    ``reserved_share`` of the budget is for others to use: nothing is kept there that is offered.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.reserved_share = 0.0
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

    def require(self, key: Key, state: State, most_bytes: int | None = None) -> bool:
        """Keep ``state``, letting go of offered ones where the budget asks for it.

        Args:
            key: its name.
            state: the state.
            most_bytes: what is required may take so much; by default all of the budget.

        Returns:
            Whether it is kept as required: not where it has no room.
        """
        if key in self._required:
            return True
        most = self.budget_bytes if most_bytes is None else most_bytes
        size = size_bytes(state)
        if self.required_bytes + size > most:
            return False
        offered = self._offered.get(key)
        self._forget(key)
        self._required[key] = in_own_memory(state) if offered is None else offered
        self.required_bytes += size
        self._fit()
        return True

    def limit(self, budget_bytes: int) -> None:
        """Keep to another budget from now on."""
        self.budget_bytes = budget_bytes
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
        self._offered[key] = in_own_memory(state)
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
            if least is None:  # what is required stays, and the budget may have been lowered
                return
            self._forget(least[2])

    def _forget(self, key: Key) -> None:
        """Let go of what was offered under ``key``, if it is held."""
        state = self._offered.pop(key, None)
        if state is not None:
            self.offered_bytes -= size_bytes(state)
            del self._entries[key]

    @property
    def reserved_bytes(self) -> int:
        """What is for others to use; less where what is required has taken of it."""
        reserved = int(self.budget_bytes * self.reserved_share)
        return max(0, min(reserved, self.budget_bytes - self.required_bytes))

    @property
    def _room_bytes(self) -> int:
        return self.budget_bytes - int(self.budget_bytes * self.reserved_share)

    def __len__(self) -> int:
        return len(self._required) + len(self._offered)


def size_bytes(state: State) -> int:
    """The bytes of a state's numbers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state)


def in_own_memory(state: State) -> State:
    """The same state in memory that holds nothing else.

    Keys and values may be parts of a tensor that has queries too, and states parts of others.
    """
    parts = [one.untyped_storage().nbytes() > size_bytes((one,)) for one in state]
    if not any(parts):
        return state
    return tuple(one.clone() if is_part else one for one, is_part in zip(state, parts, strict=True))


def give_back_free_memory() -> None:
    """Give a process's free memory back to the system, where its C library does not do so itself.

    What a layer needs for a moment leaves holes between what is kept, and small objects in the
    holes, so that the next layer takes new memory: half as much again as what is kept was seen.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # it is the GNU library's
        return None
    return found


def states_budget(device: torch.device, asked: int | None = None) -> int:
    """The bytes that kept states may take, with the weights in memory.

    By default a quarter of a GPU's free memory; on a CPU an eighth of the machine's, at most 4 GiB.
    What is asked for is given, but no more than three quarters of what is free: on a CPU whoever
    takes too much is not refused but killed.
    """
    if asked is not None:
        return min(asked, free_bytes(device) * 3 // 4)
    if device.type == "cuda":
        return free_bytes(device) // 4
    return min(4 * 2**30, machine_bytes() // 8)


def free_bytes(device: torch.device) -> int:
    """The memory that can still be had on a device."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    found = [machine_bytes()]
    with suppress(OSError, ValueError, StopIteration):
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
        found.append(1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1]))
    with suppress(OSError, ValueError):  # there may be no bound, or the word "max"
        most, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in CGROUP_FILES)
        found.append(most - used)
    return max(0, min(found))


def machine_bytes() -> int:
    """The machine's memory."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return 8 * 2**30
