"""The configuration of a shallower model, from the whole model's. Plain JSON; knows no torch.

One entry a family that can be written. What a family's configuration says about single layers is
subset or recounted here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.paths import LayerPath


@dataclass(frozen=True, slots=True)
class Family:
    """How a model type's files name its layers.

    ``layer_key`` matches a weight's name, with the layer's index as its second group. ``lists``
    hold one entry a layer. ``prefix_counts`` count how many first layers are of some kind.
    """

    layer_key: re.Pattern[str]
    lists: tuple[str, ...] = ("layer_types",)
    prefix_counts: tuple[str, ...] = ()


_LLAMA_KEY = re.compile(r"(model\.layers\.)(\d+)(\..+)")
FAMILIES = {
    "llama": Family(_LLAMA_KEY),
    "mistral": Family(_LLAMA_KEY),
    "qwen2": Family(_LLAMA_KEY, prefix_counts=("max_window_layers",)),
}
# Lists that may be as long as the model is deep by chance, and say nothing of layers.
NOT_OF_LAYERS = ("architectures", "eos_token_id", "bos_token_id", "pad_token_id")


def family_of(config: Mapping[str, Any]) -> Family:
    """The family of a configuration.

    Raises:
        UnsupportedModelError: it cannot be written smaller; the message says why.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UnsupportedModelError(
            f"models of type {kind!r} cannot be exported yet, only {', '.join(FAMILIES)}: which of "
            "their settings belong to single layers is not known here; the search's result stands"
        )
    if config.get("quantization_config"):
        raise UnsupportedModelError(
            "this checkpoint is quantised, and leaving layers out of quantised weights is not "
            "supported; export from the model it was made of and quantise the result"
        )
    return FAMILIES[kind]


def shallower_config(config: Mapping[str, Any], path: LayerPath) -> dict[str, Any]:
    """The configuration of the model with only a path's layers.

    Raises:
        UnsupportedModelError: the type cannot be written, or something in the configuration is
            said layer by layer and not known.
    """
    family = family_of(config)
    depth = config.get("num_hidden_layers")
    if depth != path.total:
        raise UnsupportedModelError(
            f"config.json says {depth} layers where the path is of {path.total}; was the model "
            "changed?"
        )
    shallower = {**config, "num_hidden_layers": path.depth}
    for name, value in config.items():
        if not isinstance(value, list) or len(value) != depth or name in NOT_OF_LAYERS:
            continue
        if name not in family.lists:
            raise UnsupportedModelError(
                f"config.json holds {name!r}, one entry a layer, whose meaning for "
                f"{config['model_type']!r} is not known here; the model cannot be exported"
            )
        shallower[name] = [value[layer] for layer in path.kept]
    for name in family.prefix_counts:
        if isinstance(config.get(name), int):
            shallower[name] = sum(layer < config[name] for layer in path.kept)
    return shallower
