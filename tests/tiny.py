"""Models and a tokenizer for tests, built on the spot: random weights, real architectures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
)

from telltale.models.layered import LayeredModel
from telltale.tasks import boolean_expressions, capitals

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 300
WINDOW = 8  # shorter than the inputs of the tests that use it
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,  # so that every layer matters
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_LLAMA = {**_COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
_WINDOWS_LAST = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 3}
# Model type and settings, by names of our own where a type has several kinds.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {**_LLAMA, "rope_theta": 5000.0}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen2-window": ("qwen2", {**_LLAMA, **_WINDOWS_LAST}),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}),
    "qwen3-window": ("qwen3", {**_LLAMA, "head_dim": 8, **_WINDOWS_LAST}),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": None}),
    "mistral-window": ("mistral", {**_LLAMA, "sliding_window": WINDOW}),
    "mixtral": ("mixtral", {**_LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2}),
    "phi3": ("phi3", _LLAMA),
    "phi3-window": ("phi3", {**_LLAMA, "sliding_window": WINDOW}),
    "olmo2": ("olmo2", _LLAMA),
    "gemma3": (
        "gemma3_text",
        {
            **_LLAMA,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
        },
    ),
    "gpt2": ("gpt2", _COMMON),
    "gpt_neox": ("gpt_neox", {**_COMMON, "intermediate_size": 48}),
    # As the models of 7 and of 40 billion parameters, and as those with ALiBi.
    "falcon": ("falcon", _COMMON),
    "falcon-40b": ("falcon", {**_COMMON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-alibi": (
        "falcon",
        {**_COMMON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    ),
}


def build(family: str, **changes: Any) -> Any:
    """A random model of a family, always the same."""
    kind, settings = FAMILIES[family]
    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, **{**settings, **changes})
    return AutoModelForCausalLM.from_config(config).eval()


@cache
def layered(family: str) -> LayeredModel:
    """The family's model, ready to be driven; shared between tests, which never change it."""
    return LayeredModel(build(family))


@cache
def tokenizer(*, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer trained on the built-in tasks."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    texts = [
        f"{row.fields['question']} {' '.join(row.choices)}"
        for task in (capitals, boolean_expressions)
        for row in task.rows()
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="<s>")


def save(folder: Path, family: str = "llama", **changes: Any) -> Path:
    """A model folder as a user would have it: safetensors, configuration and tokenizer."""
    build(family, **changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
