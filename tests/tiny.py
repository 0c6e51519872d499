"""Models and a tokenizer for tests, built on the spot: random weights, real architectures."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from telltale.models.layered import LayeredModel
from telltale.tasks import built_in_rows

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY = 300
WINDOW = 8  # shorter than the inputs of the tests that use it
_COMMON = {
    "vocab_size": VOCABULARY,
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "initializer_range": 0.1,  # so that every layer matters
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_LLAMA = {
    **_COMMON,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {**_LLAMA, "rope_theta": 5000.0}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, _LLAMA),
    "qwen2-window": (
        Qwen2ForCausalLM,
        Qwen2Config,
        {**_LLAMA, "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 3},
    ),
    "mistral": (MistralForCausalLM, MistralConfig, {**_LLAMA, "sliding_window": None}),
    "mistral-window": (MistralForCausalLM, MistralConfig, {**_LLAMA, "sliding_window": WINDOW}),
    "gemma3": (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        {
            **_LLAMA,
            "head_dim": 8,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
        },
    ),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config,
        {**_COMMON, "n_embd": 32, "n_layer": 6, "n_head": 4, "n_positions": 256},
    ),
}


def build(family: str, **changes: Any) -> Any:
    """A random model of a family, always the same."""
    model_class, config_class, settings = FAMILIES[family]
    settings = {k: v for k, v in settings.items() if family != "gpt2" or k not in _LLAMA_ONLY}
    torch.manual_seed(7)
    return model_class(config_class(**{**settings, **changes})).eval()


_LLAMA_ONLY = ("num_hidden_layers", "num_attention_heads")


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
        for name in ("capitals", "boolean_expressions")
        for row in built_in_rows(name)
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
