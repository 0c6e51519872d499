"""What a model has to do for a token, counted from its shape: what a shallower one should save.

Counted are multiply-adds:

- In a layer, for each token: one for each number of its weight matrices; of a mixture of experts,
  those that a token is sent to.
- In a layer's attention, for each pair of a token and one that it may look at, itself included:
  two for each number of a query, one when scores are made and one when values are added. A sliding
  window bounds how far back it looks.
- In the head: one for each number of its matrix, for each token whose logits are wanted: the last
  one of a prompt, and every one that is decoded.

The embedding is looked up and costs none, and norms, activations and rotations are not counted. So
all work but the head's scales with the layers that there are. The ratio of two models' counts is
the ideal: how many times as fast the second would be if time were work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.models.layered import find_layers, longest_input_of

if TYPE_CHECKING:
    from torch import nn

    from telltale.paths import LayerPath

ATTENTION = ("full_attention", "sliding_attention", "chunked_attention")


@dataclass(frozen=True, slots=True)
class LayerWork:
    """One layer's work.

    Attributes:
        matrices: multiply-adds for each token.
        attention: multiply-adds for each pair of tokens.
        window: how many tokens one may look at, itself included; None where it is all.
        held: numbers that are kept of a token, its key and value.
        parameters: all of them.
    """

    matrices: int
    attention: int
    window: int | None
    held: int
    parameters: int


@dataclass(frozen=True, slots=True)
class Work:
    """A model's work.

    Attributes:
        layers: theirs, in order.
        head: multiply-adds for each token whose logits are wanted.
        beside: the parameters that are in no layer.
        longest: how many tokens the model takes; None where its configuration does not say.
    """

    layers: tuple[LayerWork, ...]
    head: int
    beside: int
    longest: int | None

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.beside + sum(one.parameters for one in self.layers)

    def on(self, path: LayerPath) -> Work:
        """The work of the model with only a path's layers."""
        return replace(self, layers=tuple(self.layers[layer] for layer in path.kept))

    def first_token(self, prompt: int) -> int:
        """Multiply-adds of reading a prompt of so many tokens, and of the logits at its end."""
        in_layers = sum(
            one.matrices * prompt + one.attention * _pairs(prompt, one.window)
            for one in self.layers
        )
        return in_layers + self.head

    def decoding(self, prompt: int, new_tokens: int) -> int:
        """Multiply-adds of the tokens that are written after the first one."""
        return sum(
            self.head
            + sum(one.matrices + one.attention * _seen(position, one.window) for one in self.layers)
            for position in range(prompt + 1, prompt + new_tokens)
        )

    def request(self, prompt: int, new_tokens: int) -> int:
        """Multiply-adds of reading a prompt and writing so many tokens, the first one included."""
        return self.first_token(prompt) + self.decoding(prompt, new_tokens)

    def numbers_held(self, texts: int, tokens: int) -> int:
        """How many numbers weights, and keys and values of texts of so many tokens, are."""
        held = sum(one.held * _seen(tokens, one.window) for one in self.layers)
        return self.parameters + texts * held


def work_of(model: nn.Module) -> Work:
    """The work of a causal language model of the Hugging Face form; weights need not be there."""
    config: Any = model.config.get_text_config()  # type: ignore[operator, union-attr]
    layers = find_layers(model)
    kinds = getattr(config, "layer_types", None) or [None] * len(layers)
    found = tuple(_layer_work(*one, config) for one in zip(layers, kinds, strict=True))
    total = sum(one.numel() for one in model.parameters())
    return Work(
        found,
        head=model.get_output_embeddings().weight.numel(),  # type: ignore[operator]
        beside=total - sum(one.parameters for one in found),
        longest=longest_input_of(model),
    )


def _layer_work(layer: nn.Module, kind: str | None, config: Any) -> LayerWork:
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    looks = kind is None or kind in ATTENTION
    window = None if kind == "full_attention" else getattr(config, "sliding_window", None)
    return LayerWork(
        matrices=sum(
            round(one.numel() * _share_used(one, config))
            for one in layer.parameters()
            if one.ndim > 1
        ),
        attention=2 * heads * width if looks else 0,
        window=window,
        held=2 * groups * width if looks else 0,
        parameters=sum(one.numel() for one in layer.parameters()),
    )


def _share_used(matrices: nn.Parameter, config: Any) -> float:
    """The share of a layer's weights that a token meets: of experts, those that it is sent to."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    used = getattr(config, "num_experts_per_tok", None)
    if matrices.ndim < 3 or not experts or not used or matrices.shape[0] != experts:
        return 1.0
    return float(used / experts)


def _seen(position: int, window: int | None) -> int:
    """How many tokens the one at a position, counted from 1, looks at."""
    return position if window is None else min(position, window)


def _pairs(tokens: int, window: int | None) -> int:
    """How many pairs of a token and one that it looks at a text of so many tokens has."""
    within = _seen(tokens, window)
    return within * (within + 1) // 2 + (tokens - within) * within
