"""Processes that take as long as a script says, on a clock that both share."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.timing.processes import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

SAID = {"version": "1.2", "where": "a machine", "threads": 1}


@dataclass
class Machine:
    """A machine that gets slower and faster: by ``slowness`` of how many runs there were."""

    slowness: Callable[[int], float] = lambda _: 1.0
    seconds: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # first, decoding
    on_cpu: bool = True
    log: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    @contextmanager
    def held(self, name: str, given: Mapping[str, Any], *_: str) -> Iterator[Any]:
        """In place of `telltale.timing.processes.held`."""
        self.open.append(name)
        yield _Process(name, self)
        self.open.remove(name)


@dataclass
class _Process:
    name: str
    machine: Machine

    @property
    def said(self) -> dict[str, Any]:
        return {**SAID, "threads": 1 if self.machine.on_cpu else None}

    def run(self, asked: Mapping[str, Any]) -> Run:
        slow = self.machine.slowness(len(self.machine.log) // 2)
        self.machine.log.append((self.name, dict(asked)))
        if asked["is_first"]:
            slow *= 100
        first, decoding = (slow * one for one in self.machine.seconds[self.name])
        on_cpu = self.machine.on_cpu
        return Run(
            first,
            first / 2 if on_cpu else None,
            decoding,
            decoding / 2 if on_cpu else None,
            1000 if on_cpu else None,
        )
