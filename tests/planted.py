"""A small model that was trained, and the same with one layer that harms; made on the spot.

The task: whether an x or a y is among some letters. The harmful layer adds so large a constant that
what a state says of the answer is lost in its rounding.
"""

from __future__ import annotations

import json
import random
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

DEPTH = 3  # of the trained model
HARMFUL = 2  # where the layer is put in
STEPS = 200
LETTERS = "abcdefgh"
CHOICES = ("False", "True")  # a token each
PROMPT = "{question}:"


def rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Questions and answers, no two alike."""
    source, found = random.Random(seed), {}
    while len(found) < count:
        letters = [source.choice(LETTERS) for _ in range(4)]
        answer = source.randrange(2)
        letters[source.randrange(4)] = "xy"[answer]
        word = " ".join(letters)
        found[word] = {"question": word, "choices": list(CHOICES), "answer": answer}
    return list(found.values())


def data(folder: Path, count: int = 200) -> Path:
    """A file of questions that the model was not trained on."""
    file = folder / "words.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(count, seed=1)))
    return file


def _config(depth: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tiny.VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_hidden_layers=depth,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        mlp_bias=True,
    )


@cache
def trained() -> Any:
    """The model that has learnt the task."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(_config(DEPTH))
    tokenizer = tiny.tokenizer()
    asked = rows(1500, seed=0)
    texts = [tokenizer(PROMPT.format(question=row["question"]))["input_ids"] for row in asked]
    ends = [tokenizer(f" {choice}")["input_ids"][0] for choice in CHOICES]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    source = random.Random(0)
    for _ in range(STEPS):
        batch = source.sample(range(len(asked)), 32)
        longest = max(len(texts[one]) for one in batch)
        ids = torch.zeros((len(batch), longest), dtype=torch.long)
        for place, one in enumerate(batch):
            ids[place, : len(texts[one])] = torch.tensor(texts[one])
        lasts = torch.tensor([len(texts[one]) - 1 for one in batch])
        logits = model(ids).logits[torch.arange(len(batch)), lasts]
        wanted = torch.tensor([ends[asked[one]["answer"]] for one in batch])
        loss = torch.nn.functional.cross_entropy(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def save(folder: Path, *, harmful: bool) -> Path:
    """The trained model's folder, with the harmful layer or without it."""
    model = trained()
    if harmful:
        torch.manual_seed(3)
        planted = AutoModelForCausalLM.from_config(_config(DEPTH + 1)).eval()
        state = model.state_dict()
        own = planted.state_dict()
        for name in own:
            parts = name.split(".")
            if "layers" in parts:
                at = parts.index("layers") + 1
                layer = int(parts[at])
                if layer == HARMFUL:
                    continue
                parts[at] = str(layer - (layer > HARMFUL))
            own[name] = state[".".join(parts)]
        planted.load_state_dict(own)
        _harm(planted)
        model = planted
    model.save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@torch.no_grad()
def _harm(model: Any) -> None:
    layer = model.model.layers[HARMFUL]
    layer.self_attn.o_proj.weight.zero_()
    layer.mlp.down_proj.weight.zero_()
    layer.mlp.down_proj.bias.fill_(1e8)  # of which a number in float32 keeps no units
