"""Evaluating one path on one task: what `telltale eval` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.engine.perplexity import Page, built_in_page, perplexities
from telltale.engine.selftest import told, unable
from telltale.engine.workbench import Workbench
from telltale.evidence.calibration import (
    CALIBRATED,
    FITTED_HERE,
    RAW,
    judged,
    offsets_of,
)
from telltale.evidence.cautions import evaluation_cautions, remedies_for
from telltale.evidence.comparison import generation_counts
from telltale.evidence.stats import clustering, wilson
from telltale.measure import in_halves, outcomes_by_path
from telltale.paths import LayerPath
from telltale.tasks.split import clusters_of, first_examples
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from telltale.measure import Measurement, Outcome
    from telltale.models.source import ModelSource
    from telltale.tasks import Example, Task


def evaluate_task(
    source: ModelSource,
    task: Task,
    *,
    removed: Sequence[int],
    limit: int | None,
    scoring: str = RAW,
    device: str,
    dtype: str,
    cuts: bool = False,
    page: Page | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """See `telltale.evaluate`."""
    watcher = watcher or Watcher()
    examples = first_examples(task, limit)
    bench = Workbench(source, task, examples, device, dtype, cuts=cuts, once=True)
    path = LayerPath.from_removed(removed, bench.depth)
    watcher.phase("self-test")
    absences = bench.absences
    for line in told(absences):
        watcher.advised(line)
    batches = list(bench.batches(range(len(examples))))
    watcher.phase("evaluation")
    watcher.expect(len(batches))

    def watched() -> Iterator[Measurement]:
        for measurement in in_halves(bench.measure, [path], batches, bench.tokens_in):
            watcher.measured(measurement, remembered=False)
            yield measurement

    measured = outcomes_by_path(watched())[path]
    offsets: tuple[float, ...] = ()
    raw = measured
    if scoring == CALIBRATED:
        right = {position: example.answer for position, example in enumerate(examples)}
        offsets = offsets_of(raw.values(), task.scoring)
        measured = judged(raw, offsets, right, task.scoring)
    outcomes = [measured[position] for position in range(len(examples))]
    truncated = sum(example.is_cut for example in bench.encoded)
    return {
        "version": 1,
        "model": {"name": source.name, "revision": source.revision, "sha256": source.sha256},
        "task": {
            "name": task.name,
            "prompt": task.template,
            **task.settings(),
            "dtype": str(bench.dtype).removeprefix("torch."),
        },
        "removed": list(removed),
        "layers": path.depth,
        **_accuracy(outcomes, examples),
        **(
            {
                "calibration": {
                    "offsets": list(offsets),
                    "raw": _accuracy([raw[one] for one in range(len(examples))], examples),
                }
            }
            if scoring == CALIBRATED
            else {}
        ),
        **generation_counts(outcomes),
        "cautions": [
            *evaluation_cautions(
                outcomes, examples, truncated=truncated, remedies=remedies_for(task)
            ),
            *([FITTED_HERE] if scoring == CALIBRATED else []),
            *unable(absences),
        ],
        **_perplexity(bench, page or built_in_page(), path, watcher),
        "examples": [
            _example_document(example, outcome, raw[position])
            for position, (example, outcome) in enumerate(zip(examples, outcomes, strict=True))
        ],
    }


def _accuracy(outcomes: Iterable[Outcome], examples: Sequence[Example]) -> dict[str, Any]:
    """The accuracy of outcomes, in the order of their examples, with its interval."""
    scores = [outcome.score for outcome in outcomes]
    shared = clustering(scores, clusters_of(examples))
    interval = wilson(sum(scores), len(scores), shared=shared)
    return {
        "accuracy": sum(scores) / len(scores),
        "interval": list(interval)
        if shared.freedom
        else None,  # one passage says nothing of others
    }


def _perplexity(bench: Workbench, page: Page, path: LayerPath, watcher: Watcher) -> dict[str, Any]:
    """Perplexity on ordinary text beside the whole model's, where layers are left out."""
    whole = LayerPath.whole(path.total)
    if path == whole:
        return {}
    watcher.phase("text")
    found = perplexities(bench, page, [whole, path])
    return {
        "text": {
            "name": page.name,
            "sha256": page.sha256,
            "perplexity": found[path],
            "whole_perplexity": found[whole],
        }
    }


def _example_document(example: Example, outcome: Outcome, measured: Outcome) -> dict[str, Any]:
    """An example's outcome as it was judged, with log-likelihoods as they were measured."""
    document = {"id": example.id, "score": outcome.score, "answer": outcome.answer}
    if outcome.generated is None:
        return {**document, "loglikelihoods": [choice.loglik for choice in measured.choices]}
    return {
        **document,
        "right": example.choices[example.answer],
        "text": outcome.generated.text,
        "cut_off": outcome.generated.cut_off,
    }
