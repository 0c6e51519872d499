"""How fast a path reads: tokens per second, paths timed in turn.

Machines are shared and clocks drift, so every path is timed several times, one after the other,
and its median is given. What is timed is the work of this task: reading its prompts and choices, or
reading prompts and writing a few tokens after each.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from telltale.engine.shared import SharedEngine
from telltale.engine.store import StateStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.measure import Batch
    from telltale.paths import LayerPath

REPEATS = 5


def tokens_per_second(
    engine: SharedEngine, paths: Sequence[LayerPath], batch: Batch, *, repeats: int = REPEATS
) -> dict[LayerPath, float]:
    """Every path's median speed on one batch, counting each token read or written once."""
    reader = engine.reader.for_timing()
    tokens = 0
    seconds: dict[LayerPath, list[float]] = {path: [] for path in paths}
    for repeat in range(repeats + 1):
        for path, times in seconds.items():
            # A fresh store, so that nothing is remembered from the time before.
            timed = SharedEngine(
                engine.model,
                engine.examples,
                reader,
                capabilities=engine.capabilities,
                token_prefix=engine.token_prefix,
                store=StateStore(0),
            )
            _wait_for(engine.model.device)
            start = time.perf_counter()
            (measured,) = timed([path], [batch])
            _wait_for(engine.model.device)
            if repeat:  # the first time round only warms up
                times.append(time.perf_counter() - start)
            tokens = sum(
                engine.examples[one.example].tokens + (one.generated.tokens if one.generated else 0)
                for one in measured.outcomes
            )
    return {path: tokens / statistics.median(times) for path, times in seconds.items()}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
