"""Another model on a study's held-out examples: what may be used instead of a shallower one.

It is asked the same questions, by its own tokenizer and chat template, and is timed in turn with
the study's own models. Its outcomes are kept in a folder of their own; its weights are let go of
until it is timed. Knows no search.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.engine.speed import timed_in_turn, timing_job
from telltale.engine.unloaded import UnloadedRunner
from telltale.engine.workbench import Workbench
from telltale.errors import InputError
from telltale.measure import Batch
from telltale.paths import LayerPath
from telltale.study.keeping import measured_once
from telltale.tasks.sets import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.engine.runner import ModelFacts
    from telltale.measure import Outcome
    from telltale.models.source import ModelSource
    from telltale.study.question import Question
    from telltale.watcher import Watcher


@dataclass(frozen=True, slots=True)
class Beside:
    """Another model, and what it gives.

    Attributes:
        source: its files.
        dtype: the precision that it is measured in.
        facts: what they say of it.
        outcomes: by the example's position in the study.
        fingerprint: all that decides an outcome of it, as one hash.
    """

    source: ModelSource
    dtype: str
    facts: ModelFacts
    outcomes: Mapping[int, Outcome]
    fingerprint: str


def measured_beside(
    question: Question, source: ModelSource, dtype: str, folder: Path, watcher: Watcher
) -> Beside:
    """Measure another model on a question's held-out examples, or read what is kept in ``folder``.

    Raises:
        InputError: it is the question's own model, or cannot be asked.
        MeasurementError: measuring failed.
    """
    if source.sha256 == question.source.sha256:
        raise InputError(f"`against` {source.name} is the model itself; give another one")
    bench = _bench(question, source, dtype)
    facts = UnloadedRunner(source, bench.device, bench.dtype).facts
    whole = LayerPath.whole(facts.depth)
    found = measured_once(bench, [whole], folder, watcher, f"{HELD_OUT}: {source.name}")
    positions = question.positions[HELD_OUT]
    outcomes = {positions[place]: one for place, one in found.outcomes[whole].items()}
    return Beside(source, dtype, facts, outcomes, found.fingerprint)


def times_as_fast(
    question: Question, own: Workbench, paths: Sequence[LayerPath], other: Beside
) -> list[float]:
    """How many times as fast as the first path the others are, and at last another model.

    All read, or read and write, some of the held-out examples, in turn: medians of ratios of times
    that follow each other.
    """
    bench = _bench(question, other.source, other.dtype)
    positions = question.positions[HELD_OUT]
    batch = own.timed_part(Batch(tuple(positions)))
    engine = own.runner.engine(timing_job(own.job))
    same = Batch(tuple(position - positions.start for position in batch.examples))
    timed = timed_in_turn(
        [
            *((engine, path, batch) for path in paths),
            (bench.runner.engine(timing_job(bench.job)), LayerPath.whole(bench.depth), same),
        ]
    )
    first, *others = (one.seconds for one in timed)
    return [
        statistics.median(whole / taken for whole, taken in zip(first, seconds, strict=True))
        for seconds in others
    ]


def _bench(question: Question, source: ModelSource, dtype: str) -> Workbench:
    return Workbench(
        source,
        question.task,
        question.sets[HELD_OUT],
        question.device,
        dtype,
        seed=question.seed,
        cuts=question.cuts,
        once=True,
        memory=question.memory,
    )
