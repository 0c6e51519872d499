"""GSM8K-Hard: GSM8K's test questions with larger numbers; shots are from GSM8K."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from telltale.tasks.known import Hub, NamedTask, Record
from telltale.tasks.named.gsm8k import MAX_NEW_TOKENS, STOP, TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Mapping


def _record(row: Mapping[str, Any]) -> Record:
    answer = f"{Decimal(repr(float(row['target']))):f}"
    return {"question": row["input"], "answer": answer.removesuffix(".0"), "code": row["code"]}


TASK = NamedTask(
    name="gsm8k_hard",
    summary="GSM8K's test questions with larger numbers",
    licence="MIT",
    home="https://huggingface.co/datasets/reasoning-machines/gsm-hard",
    sizes={"test": 1319},
    split="test",
    folder="gsm_hard",
    # The only split that there is goes by the name of train, but none of it is meant for training.
    hub=Hub("reasoning-machines/gsm-hard", None, {"test": "train"}, _record),
    templates=TEMPLATES,
    extract="number",
    max_new_tokens=MAX_NEW_TOKENS,
    stop=STOP,
    shots_task="gsm8k",
    shot_answer="rationale",
)
