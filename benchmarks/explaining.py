r"""Why layers go on real tasks: what `telltale explain` says of two models and four tasks.

Where `objectives.py` has recorded a search of a pair, the shallower model is its BEST by
likelihood, so that it is told too whether a measure picks the layers that were removed; else the
whole model alone is explained. Each explanation is kept in --studies and gone on with, and a pair
that --out has is not made again.

    python benchmarks/explaining.py --data-dir DIR --figures benchmarks/figures/objectives.json \
        --studies explained --out benchmarks/figures/explaining.json
    python benchmarks/explaining.py --out benchmarks/figures/explaining.json --table
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives import MADE, MODEL_NAMES, best_depth, commit, named

import telltale
from telltale.support.files import write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TASKS = ("sst2", "boolean_expressions", "arc_easy", "boolq")


def main() -> None:
    """Make what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="The figures, as JSON.")
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--figures", type=Path, help="Where the searches are recorded.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--studies", type=Path, help="The explanations' folders.")
    parser.add_argument("--models", nargs="+", default=list(MODEL_NAMES))
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    if not given.table:
        for task in given.tasks:
            for model in given.models:
                if f"{model} {task}" not in kept_in(given.out):
                    found = explained(model, task, given)
                    write_json(given.out, kept_in(given.out) | {f"{model} {task}": found})
    print("\n".join(table(kept_in(given.out))))


def kept_in(path: Path) -> dict[str, Any]:
    """What was made before."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def explained(model: str, name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One explanation, what it took, and its conclusions."""
    task = telltale.load_task(name, data_dir=None if name in MADE else given.data_dir)
    out = given.studies / f"{model.replace(':', '-')} {name}"
    seconds, cpu = time.perf_counter(), time.process_time()
    telltale.explain(
        model,
        task,
        out=out,
        remove=recorded(given.figures, f"{model} {name}"),
        limit=given.limit,
        dtype=given.dtype,
    )
    document = json.loads((out / "explain.json").read_text(encoding="utf-8"))
    return {
        "seconds": round(time.perf_counter() - seconds),
        "cpu_seconds": round(time.process_time() - cpu),
        "cores": os.cpu_count(),
        "commit": commit(),
        **{name: document[name] for name in KEPT},
        "layers": [
            {name: layer[name] for name in ("layer", "change", "verdict", "single_removal")}
            for layer in document["whole"] or document["layers"]
        ],
    }


KEPT = ("removed", "task", "accuracy", "whole_accuracy", "entropy", "predictions", "conclusions")


def recorded(figures: Path, pair: str) -> list[int]:
    """The layers that BEST of the recorded search by likelihood lacks; none without a record."""
    pairs = json.loads(figures.read_text(encoding="utf-8"))["pairs"]
    if pair not in pairs:
        return []
    by_likelihood = pairs[pair]["objectives"]["likelihood"]
    return list(by_likelihood["removed"][: best_depth(by_likelihood)])


def table(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Every pair: which layers add and suppress, and what predicts a single removal."""
    yield "| model, task | examples | removed | adds | suppresses | predicts | CPU s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for key, one in figures.items():
        model, task = named(key)
        told = {
            verdict: [layer["layer"] for layer in one["layers"] if layer["verdict"] == verdict]
            for verdict in ("adds", "suppresses")
        }
        predicting = [
            f"{name} {found['rank_correlation']:+.2f}"
            for name, found in one["predictions"].items()
            if found["corrected_p_value"] < 0.05
        ]
        cells = (one["removed"], told["adds"], told["suppresses"])
        yield (
            f"| {model}, {task} | {one['task']['examples']} | "
            + " | ".join(", ".join(map(str, cell)) or "none" for cell in cells)
            + f" | {', '.join(predicting) or 'nothing'} | {one['cpu_seconds']} |"
        )


if __name__ == "__main__":
    main()
