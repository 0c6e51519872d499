"""LoRA adapters of tiny models, made by peft: random, so that every matrix matters."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# What is changed in each family: a part of attention, and a part of the rest.
TARGETS = {
    "gpt2": ["c_attn", "c_proj"],  # weights that are held as (in, out), one of them square
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
    "falcon": ["query_key_value", "dense_4h_to_h"],
    "phi3": ["qkv_proj", "down_proj"],
    "mixtral": ["q_proj", "o_proj"],  # transformers holds the experts in one tensor
}
OTHERS = ["q_proj", "down_proj"]


def load(folder: Path) -> Any:
    """A model as plain transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@contextmanager
def quiet_peft() -> Iterator[None]:
    """peft 0.21 asks transformers 5.24 for a property by the name that it had before.

    And it warns of an adapter on tied embeddings, which are here on purpose.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        warnings.filterwarnings("ignore", ".*ensure_weight_tying.*", UserWarning)
        yield


@quiet_peft()
def with_adapter(model: Any, adapter: Path) -> Any:
    """The model with an adapter as plain peft loads it, beside the weights and not merged."""
    return PeftModel.from_pretrained(model, adapter).eval()


@quiet_peft()
def save_adapter(whole: Path, to: Path, family: str = "llama", **settings: Any) -> Path:
    """A random adapter of the model in a folder, as peft saves it."""
    given = {"r": 4, "lora_alpha": 8, "target_modules": TARGETS.get(family, OTHERS), **settings}
    config = LoraConfig(task_type="CAUSAL_LM", fan_in_fan_out=family == "gpt2", **given)
    model = get_peft_model(load(whole), config)
    torch.manual_seed(11)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.requires_grad:
                spread = 0.1 * torch.randn_like(value)
                value.copy_(value * (1 + spread) if "magnitude" in name else value + spread)
    model.save_pretrained(to)
    return to
