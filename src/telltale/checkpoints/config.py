"""The configuration of a shallower model, from the whole model's. Plain JSON; knows no torch.

One entry a family that can be written. What a family's configuration says about single layers is
subset, recounted or made explicit here and nowhere else. Read from the configurations and models of
transformers 5.23 and 4.57.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Family:
    """How a model type's files name its layers, and the settings they have for single layers.

    ``layer_key`` matches a weight's name, with the layer's index as its second group.
    ``prefix_counts`` say how many first layers are of some kind, each with the count that
    transformers takes where the configuration has none. ``period`` is the setting that says of how
    many layers the last attends to everything and the others to a window, and its default.
    """

    layer_key: re.Pattern[str]
    prefix_counts: Mapping[str, int] = field(default_factory=dict)
    period: tuple[str, int] | None = None


def _key(layers: str) -> re.Pattern[str]:
    return re.compile(rf"({layers}\.)(\d+)(\..+)")


_LLAMA_KEY = _key(r"model\.layers")
_WINDOWS_LAST = {"max_window_layers": 28}
FAMILIES = {
    "llama": Family(_LLAMA_KEY),
    "mistral": Family(_LLAMA_KEY),
    "mixtral": Family(_LLAMA_KEY),
    "qwen2": Family(_LLAMA_KEY, prefix_counts=_WINDOWS_LAST),
    "qwen3": Family(_LLAMA_KEY, prefix_counts=_WINDOWS_LAST),
    "phi3": Family(_LLAMA_KEY),
    "olmo2": Family(_LLAMA_KEY),
    "gemma3_text": Family(_LLAMA_KEY, period=("sliding_window_pattern", 6)),
    "gpt2": Family(_key(r"(?:transformer\.)?h")),  # the hub's own checkpoints have the bare names
    "gpt_neox": Family(_key(r"gpt_neox\.layers")),
    "falcon": Family(_key(r"transformer\.h")),
}
DEPTHS = ("num_hidden_layers", "n_layer")  # how configurations name the number of layers
LISTS = ("layer_types",)  # one entry a layer, in every family that has them
# Lists that may be as long as the model is deep by chance, and say nothing of layers.
NOT_OF_LAYERS = ("architectures", "eos_token_id", "bos_token_id", "pad_token_id")
# Settings with which no checkpoint can be right, and why.
REFUSED = {
    "quantization_config": (
        "this checkpoint is quantised, and leaving layers out of quantised weights is not "
        "supported; export from the model it was made of and quantise the result"
    ),
    "scale_attn_by_inverse_layer_idx": (
        "this model divides each layer's attention scores by the layer's place "
        "(scale_attn_by_inverse_layer_idx), and no setting gives a layer that moved up its old "
        "divisor; it cannot be exported"
    ),
    "pruned_heads": (
        "attention heads were pruned from single layers of this model (pruned_heads), which only "
        "older releases of transformers can load; it cannot be exported"
    ),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        UnsupportedModelError: it cannot be written smaller; the message says why.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        why = (
            "its decoder is one part of a model for more than text; search and export a text-only "
            "model"
            if "text_config" in config
            else "which of its settings and weights belong to single layers is not known here; "
            "the search's result stands, and says which layers to leave out by other means"
        )
        raise UnsupportedModelError(
            f"models of type {kind!r} cannot be exported, only {', '.join(FAMILIES)}: {why}"
        )
    for name, reason in REFUSED.items():
        if config.get(name):
            raise UnsupportedModelError(reason)
    return FAMILIES[kind]


def shallower_config(config: Mapping[str, Any], path: LayerPath) -> dict[str, Any]:
    """The configuration of the model with only a path's layers.

    Raises:
        UnsupportedModelError: the type cannot be written, or something in the configuration is
            said layer by layer and not known.
    """
    family = family_of(config)
    depths = {name: config[name] for name in DEPTHS if name in config}
    if set(depths.values()) != {path.total}:
        said = " and ".join(f"{name} {depth}" for name, depth in depths.items())
        raise UnsupportedModelError(
            f"config.json says {said or 'no number of layers'} where the path is of {path.total}; "
            "was the model changed?"
        )
    explicit = _with_layer_types(config, family, path.total)
    shallower = {**explicit, **dict.fromkeys(depths, path.depth)}
    for name, value in explicit.items():
        if not isinstance(value, list) or len(value) != path.total or name in NOT_OF_LAYERS:
            continue
        if name not in LISTS:
            raise UnsupportedModelError(
                f"config.json holds {name!r}, one entry a layer, whose meaning for "
                f"{config['model_type']!r} is not known here; the model cannot be exported"
            )
        shallower[name] = [value[layer] for layer in path.kept]
    for name, default in family.prefix_counts.items():
        if (count := config.get(name, default)) is not None:
            shallower[name] = sum(layer < count for layer in path.kept)
    return shallower


def _with_layer_types(config: Mapping[str, Any], family: Family, depth: int) -> dict[str, Any]:
    """The configuration with its layers' types as a list, where a period implies them.

    The period is left out, since the layers that are kept need not follow one. Readers that know
    no ``layer_types`` (transformers before 4.53) take a period whatever the configuration says.
    """
    if family.period is None:
        return dict(config)
    name, default = family.period
    # transformers writes the underscored name beside layer_types, and does not read it.
    explicit = {key: config[key] for key in config if key not in (name, f"_{name}")}
    if explicit.get("layer_types") is None:
        period = config.get(name, default)
        explicit["layer_types"] = [
            "sliding_attention" if (layer + 1) % period else "full_attention"
            for layer in range(depth)
        ]
    return explicit
