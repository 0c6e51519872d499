"""Evaluating one path on one task: what `telltale eval` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.measure import BatchTooLargeError, Measurement, outcomes_by_path
from telltale.paths import LayerPath
from telltale.stats import wilson
from telltale.study import Watcher
from telltale.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.measure import Batch
    from telltale.models.source import ModelSource
    from telltale.tasks import Task


def evaluate_task(
    source: ModelSource,
    task: Task,
    *,
    removed: Sequence[int],
    limit: int | None,
    device: str,
    dtype: str,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """See `telltale.evaluate`."""
    watcher = watcher or Watcher()
    examples = task.examples[:limit]
    bench = Workbench(source, examples, task.scoring, task.delimiter, device, dtype)
    path = LayerPath.from_removed(removed, bench.model.depth)
    batches = list(bench.batches(range(len(examples))))
    watcher.phase("evaluation")
    watcher.expect(len(batches))
    measured = outcomes_by_path(_measured(bench, path, batches, watcher))[path]
    outcomes = [measured[position] for position in range(len(examples))]
    right = sum(outcome.score for outcome in outcomes)
    return {
        "version": 1,
        "model": {"name": source.name, "revision": source.revision, "sha256": source.sha256},
        "task": {
            "name": task.name,
            "prompt": task.template,
            "scoring": task.scoring.value,
            "dtype": str(bench.dtype).removeprefix("torch."),
        },
        "removed": list(removed),
        "layers": path.depth,
        "accuracy": right / len(outcomes),
        "interval": list(wilson(right, len(outcomes))),
        "examples": [
            {
                "id": example.id,
                "score": outcome.score,
                "answer": outcome.answer,
                "loglikelihoods": [choice.loglik for choice in outcome.choices],
            }
            for example, outcome in zip(examples, outcomes, strict=True)
        ],
    }


def _measured(
    bench: Workbench, path: LayerPath, batches: list[Batch], watcher: Watcher
) -> Iterator[Measurement]:
    """Measure batch by batch, halving those that do not fit."""
    while batches:
        batch = batches.pop(0)
        try:
            for measurement in bench.engine([path], [batch]):
                watcher.measured(measurement, remembered=False)
                yield measurement
        except BatchTooLargeError:
            if len(batch.examples) == 1:
                raise
            batches[:0] = batch.halves()
