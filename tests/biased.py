"""A small model that has learnt to tell good from bad, and a layer more that prefers one label."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

from telltale.tasks.loading import load_task
from tests.tiny import build, tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.tasks import Task

LABELS = ["False", "True"]
WORDS = [["bad", "sad", "ill"], ["good", "glad", "well"]]
LAYERS = 3  # the last one is the biased one
STEPS = 60


def questions(folder: Path, count: int = 160) -> Task:
    """Questions with a word that says the answer; half of them are True."""
    rows = [
        {
            "question": f"Day {number} was {WORDS[number % 2][number // 2 % 3]}.",
            "choices": LABELS,
            "answer": number % 2,
        }
        for number in range(count)
    ]
    file = folder / "days.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_task(data=file)


def save(folder: Path, task: Task, bias: float) -> Path:
    """A model that answers right, but for its last layer, which adds a constant towards False."""
    model = build(
        "llama", num_hidden_layers=LAYERS - 1, attention_bias=True, initializer_range=0.05
    )
    _teach(model, task)
    whole = build("llama", num_hidden_layers=LAYERS, attention_bias=True)
    whole.load_state_dict(model.state_dict(), strict=False)
    last = whole.model.layers[-1]
    reader = tokenizer()
    false, true = (reader.encode(f" {label}", add_special_tokens=False)[0] for label in LABELS)
    assert false != true
    towards = whole.lm_head.weight[false] - whole.lm_head.weight[true]
    with torch.no_grad():
        last.self_attn.o_proj.weight.zero_()
        last.mlp.down_proj.weight.zero_()
        last.self_attn.o_proj.bias.copy_(bias * towards / towards.norm())
    whole.save_pretrained(folder)
    reader.save_pretrained(folder)
    return folder


def _teach(model: Any, task: Task) -> None:
    """The first token of every right answer, from its question."""
    reader = tokenizer()
    rows = []
    for example in task.examples:
        context, answer = task.requests(example)[example.answer]
        rows.append(reader.encode(context) + reader.encode(answer, add_special_tokens=False)[:1])
    longest = max(map(len, rows))
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for step in range(STEPS):
        few = torch.arange(step * 32, step * 32 + 32) % len(rows)
        out = model(tokens[few, :-1], attention_mask=mask[few, :-1]).logits[:, -1]
        loss = torch.nn.functional.cross_entropy(out, tokens[few, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
