"""Boolean expressions of BIG-Bench-Hard, or a thousand generated ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.boolean_expressions import CHOICES, SIZE, rows
from telltale.tasks.known import GENERATED, Hub, NamedTask, Record
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


def _from_hub(row: Mapping[str, Any]) -> Record:
    return {
        "question": row["input"],
        "choices": list(CHOICES),
        "answer": CHOICES.index(row["target"]),
    }


def _fields(record: Record) -> dict[str, str]:
    return {"expression": record["question"].removesuffix(" is")}


TASK = NamedTask(
    name="boolean_expressions",
    summary="the value of an expression such as: not ( True ) and False",
    licence="MIT",
    home="https://huggingface.co/datasets/SaylorTwift/bbh",
    sizes={"test": 250, GENERATED: SIZE},
    split="test",
    folder="bbh_boolean_expressions",
    hub=Hub("SaylorTwift/bbh", "boolean_expressions", {"test": "test"}, _from_hub),
    built_in=rows,
    fields=_fields,
    templates={
        Protocol.CHAT: (
            r"What is the value of this Boolean expression?\n{expression}\n{options}\n"
            "Answer with the letter of the right choice."
        ),
    },
    shots_split=None,
)
