"""How fast a path reads: tokens per second, paths timed in turn.

Machines are shared and clocks drift, so every path is timed several times, one after the other,
and its median is given. It is the speed of reading this task's own batches, which is what a search
or a multiple-choice service does; generating token by token is not timed here.
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
    """Every path's median speed on one batch, counting each text's tokens once."""
    tokens = sum(engine.examples[position].tokens for position in batch.examples)
    seconds: dict[LayerPath, list[float]] = {path: [] for path in paths}
    for repeat in range(repeats + 1):
        for path, times in seconds.items():
            # A fresh store, so that nothing is remembered from the time before.
            timed = SharedEngine(
                engine.model,
                engine.examples,
                engine.scoring,
                capabilities=engine.capabilities,
                token_prefix=engine.token_prefix,
                store=StateStore(0),
            )
            _wait_for(engine.model.device)
            start = time.perf_counter()
            for _ in timed([path], [batch]):
                pass
            _wait_for(engine.model.device)
            if repeat:  # the first time round only warms up
                times.append(time.perf_counter() - start)
    return {path: tokens / statistics.median(times) for path, times in seconds.items()}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
