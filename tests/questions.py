"""Made-up questions as files: a folder as --data-dir takes it, and a task of the harness."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ["red", "green", "blue", "grey", "brown", "pink", "black", "white", "gold", "teal"]
SUBJECTS = ["anatomy", "virology"]


def choices(split: str, count: int) -> list[dict[str, Any]]:
    """Questions with three choices of different lengths."""
    return [
        {
            "question": f"Which {split} colour is number {number}?",
            "choices": [COLOURS[(number + step) % 10] + "er" * step for step in range(3)],
            "answer": number % 3,
        }
        for number in range(count)
    ]


def remainders(split: str, count: int) -> list[dict[str, Any]]:
    """Questions whose answer is a digit, with a way to it."""
    return [
        {
            "question": f"Of the {split}'s {number} eggs in fours, how many are left?",
            "answer": str(number % 4),
            "rationale": f"{number // 4} are full.\n#### {number % 4}",
        }
        for number in range(count)
    ]


def of_subjects(split: str, count: int) -> list[dict[str, Any]]:
    return [
        {**row, "subject": SUBJECTS[number % 2]} for number, row in enumerate(choices(split, count))
    ]


def put(folder: Path, task: str, split: str, rows: list[dict[str, Any]]) -> Path:
    """Write a split of a task where --data-dir has it; gives the file."""
    file = folder / task / f"{split}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def data_dir(folder: Path) -> Path:
    """A folder of a few named tasks; sst2 has nothing to show."""
    put(folder, "arc_easy", "train", choices("train", 8))
    put(folder, "arc_easy", "validation", choices("validation", 40))
    put(folder, "arc_easy", "test", choices("test", 40))
    put(folder, "piqa", "train", choices("household train", 6))
    put(folder, "piqa", "validation", choices("household", 20))
    put(folder, "sst2", "validation", choices("film", 40))
    put(folder, "gsm8k", "train", remainders("train", 6))
    put(folder, "gsm8k", "test", remainders("test", 40))
    put(folder, "mmlu", "dev", of_subjects("dev", 4))
    put(folder, "mmlu", "test", of_subjects("exam", 40))
    return folder


# Over gsm8k: text of four tokens, and the first digit in it.
WRITTEN = {
    "output_type": "generate_until",
    "doc_to_choice": None,
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["zz"], "do_sample": False, "max_gen_toks": 4},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {
            "name": "digit",
            "filter": [
                {"function": "regex", "regex_pattern": "(\\d)"},
                {"function": "take_first"},
            ],
        }
    ],
}


def harness_file(
    data: Path, folder: Path, *, task: str = "arc_easy", name: str = "made", **config: Any
) -> Path:
    """A YAML file of the harness that asks one of the folder's tasks; ``config`` changes it."""
    splits = {split: str(data / task / f"{split}.jsonl") for split in ("train", "test")}
    found = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": splits},
        "output_type": "multiple_choice",
        "training_split": "train",
        "test_split": "test",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": True}
            for name in ("acc", "acc_norm")
        ],
        **config,
    }
    file = folder / f"{name}.yaml"
    # JSON is YAML.
    file.write_text(
        "".join(f"{key}: {json.dumps(value)}\n" for key, value in found.items()), encoding="utf-8"
    )
    return file
