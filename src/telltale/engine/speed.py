"""How fast a path reads: tokens per second, paths timed in turn.

Machines are shared and clocks drift, so every path is timed several times, one after the other,
and its median is given. What is timed is the work of this task: reading its prompts and choices, or
reading prompts and writing a few tokens after each.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from telltale.engine.runner import Job, Writing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.engine.workbench import Workbench
    from telltale.measure import Batch, Measure, Measurement
    from telltale.paths import LayerPath

REPEATS = 5
TIMED_TOKENS = 16


class Timed(NamedTuple):
    """What was measured, and the seconds of each turn but the first, which only warms up."""

    measured: Measurement
    seconds: list[float]


def timed_in_turn(
    runs: Sequence[tuple[Measure, LayerPath, Batch]], *, repeats: int = REPEATS
) -> list[Timed]:
    """Time each run, what measures and a path and a batch, several times, one after the other."""
    found = []
    for repeat in range(repeats + 1):
        for number, (measure, path, batch) in enumerate(runs):
            start = time.perf_counter()
            # Outcomes are plain numbers, so whatever the device had to do is done.
            (measured,) = measure([path], [batch])
            taken = time.perf_counter() - start
            if repeat == 0:
                found.append(Timed(measured, []))
            else:
                found[number].seconds.append(taken)
    return found


def tokens_per_second(
    bench: Workbench, paths: Sequence[LayerPath], batch: Batch, *, repeats: int = REPEATS
) -> dict[LayerPath, float]:
    """Every path's median speed on one batch, counting each token read or written once."""
    engine = bench.runner.engine(timing_job(bench.job))
    timed = timed_in_turn([(engine, path, batch) for path in paths], repeats=repeats)
    tokens = sum(
        bench.encoded[one.example].tokens + (one.generated.tokens if one.generated else 0)
        for one in timed[-1].measured.outcomes
    )
    return {
        path: tokens / statistics.median(one.seconds)
        for path, one in zip(paths, timed, strict=True)
    }


def timing_job(job: Job) -> Job:
    """The same work each time: nothing is kept, and a fixed number of tokens is written."""
    reads = job.reads
    if isinstance(reads, Writing):
        generation = replace(
            reads.generation, extract="exact", max_new_tokens=TIMED_TOKENS, stop=()
        )
        reads = replace(reads, generation=generation, end_tokens=frozenset())
    return replace(job, reads=reads, keeps_states=False)
