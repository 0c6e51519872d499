"""Tasks known by name, one file each. How to add one: docs/adding-a-task.md."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from telltale.errors import InputError
from telltale.tasks.named import (
    arc_challenge,
    arc_easy,
    boolean_expressions,
    boolq,
    capitals,
    commonsense_qa,
    gsm8k,
    gsm8k_hard,
    hellaswag,
    math500,
    mmlu,
    piqa,
    sst2,
    winogrande,
)

if TYPE_CHECKING:
    from telltale.tasks.known import NamedTask

NAMED: dict[str, NamedTask] = {
    module.TASK.name: module.TASK
    for module in (
        arc_easy,
        arc_challenge,
        boolq,
        mmlu,
        commonsense_qa,
        winogrande,
        boolean_expressions,
        gsm8k_hard,
        math500,
        gsm8k,
        hellaswag,
        piqa,
        sst2,
        capitals,
    )
}
_ONE_SUBJECT = f"{mmlu.TASK.name}_"
_SHOWN = 5  # subjects that an error names


def named_task(name: str) -> NamedTask:
    """The task of that name; ``mmlu_anatomy`` and the like are one subject of mmlu.

    Raises:
        InputError: there is no such task, or mmlu has no such subject.
    """
    if name in NAMED:
        return NAMED[name]
    if name.startswith(_ONE_SUBJECT):
        return _mmlu_of(name.removeprefix(_ONE_SUBJECT))
    raise InputError(
        f"no task is named {name!r}; the tasks are {', '.join(NAMED)} and {_ONE_SUBJECT}SUBJECT, "
        "and `data` FILE takes your own"
    )


def _mmlu_of(subject: str) -> NamedTask:
    if subject not in mmlu.SUBJECTS:
        like = get_close_matches(subject, mmlu.SUBJECTS, _SHOWN, 0.4) or mmlu.SUBJECTS[:_SHOWN]
        raise InputError(
            f"mmlu has no subject {subject!r}; its {len(mmlu.SUBJECTS)} are written like "
            f"{', '.join(_ONE_SUBJECT + known for known in like)}, and mmlu is all of them"
        )
    return replace(
        mmlu.TASK,
        name=f"{_ONE_SUBJECT}{subject}",
        summary=f"exam questions of {subject.replace('_', ' ')}",
        only=("subject", subject),
    )
