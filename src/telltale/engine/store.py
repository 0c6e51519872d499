"""States that are kept: keys and values of a token prefix, hidden states after layer prefixes.

Kept from batch to batch and from round to round. What is required is held whatever it takes; what
is offered is held while there is room, and whoever asks for it must be able to compute it again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from telltale.engine.prefixes import LayerPrefix

State = tuple["Tensor", ...]
Key = tuple[str, "LayerPrefix"]  # what was read, and the layers it went through


class StateStore:
    """States by what was read and the layers it went through, with a memory budget in bytes.

    ``reserved_bytes`` of the budget are for others to use: nothing is kept in them that is offered.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.reserved_bytes = 0
        self._required: dict[Key, State] = {}
        self._offered: dict[Key, State] = {}
        self.required_bytes = 0
        self.offered_bytes = 0

    def get(self, key: Key) -> State | None:
        """The state kept under ``key``, if one is."""
        return self._required.get(key) or self._offered.get(key)

    def require(self, key: Key, state: State) -> None:
        """Keep ``state``, letting go of offered ones where the budget asks for it."""
        self._required[key] = state
        self.required_bytes += size_bytes(state)
        while self._offered and self.required_bytes + self.offered_bytes > self._room_bytes:
            _, dropped = self._offered.popitem()
            self.offered_bytes -= size_bytes(dropped)

    def offer(self, key: Key, state: State) -> None:
        """Keep ``state`` if there is room."""
        size = size_bytes(state)
        if self.required_bytes + self.offered_bytes + size <= self._room_bytes:
            self._offered[key] = state
            self.offered_bytes += size

    def retain(self, wanted: Callable[[Key], bool]) -> None:
        """Let go of every state whose key is not wanted."""
        self._required = {key: state for key, state in self._required.items() if wanted(key)}
        self._offered = {key: state for key, state in self._offered.items() if wanted(key)}
        self.required_bytes = sum(map(size_bytes, self._required.values()))
        self.offered_bytes = sum(map(size_bytes, self._offered.values()))

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
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free // 4
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system tells
        memory = 8 * 2**30
    return int(min(2 * 2**30, memory // 8))
