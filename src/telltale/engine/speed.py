"""How fast a path reads: tokens per second, paths timed in turn.

Machines are shared and clocks drift, so every path is timed several times, one after the other,
and its median is given. What is timed is the work of this task: reading its prompts and choices, or
reading prompts and writing a few tokens after each.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from telltale.engine.runner import Job, Writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.engine.workbench import Workbench
    from telltale.measure import Batch
    from telltale.paths import LayerPath

REPEATS = 5
TIMED_TOKENS = 16


def tokens_per_second(
    bench: Workbench, paths: Sequence[LayerPath], batch: Batch, *, repeats: int = REPEATS
) -> dict[LayerPath, float]:
    """Every path's median speed on one batch, counting each token read or written once."""
    engine = bench.runner.engine(timing_job(bench.job))
    tokens = 0
    seconds: dict[LayerPath, list[float]] = {path: [] for path in paths}
    for repeat in range(repeats + 1):
        for path, times in seconds.items():
            start = time.perf_counter()
            # Outcomes are plain numbers, so whatever the device had to do is done.
            (measured,) = engine([path], [batch])
            if repeat:  # the first time round only warms up
                times.append(time.perf_counter() - start)
            tokens = sum(
                bench.encoded[one.example].tokens + (one.generated.tokens if one.generated else 0)
                for one in measured.outcomes
            )
    return {path: tokens / statistics.median(times) for path, times in seconds.items()}


def timing_job(job: Job) -> Job:
    """The same work each time: nothing is kept, and a fixed number of tokens is written."""
    reads = job.reads
    if isinstance(reads, Writing):
        generation = replace(
            reads.generation, extract="exact", max_new_tokens=TIMED_TOKENS, stop=()
        )
        reads = replace(reads, generation=generation, end_tokens=frozenset())
    return replace(job, reads=reads, keeps_states=False)
