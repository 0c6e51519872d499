"""A carried adapter gives what the whole model gives with it and without the layers removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from telltale.checkpoints.carry import carry_adapter, lift_adapter
from telltale.checkpoints.write import write_checkpoint
from telltale.models.adapter import merge_adapter
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from tests import tiny
from tests.adapters import load, save_adapter, with_adapter
from tests.contract import TOKENS, driven

if TYPE_CHECKING:
    from pathlib import Path

FAMILIES = (
    *("llama", "qwen2", "qwen3", "mistral", "mixtral", "phi3", "olmo2", "gemma3"),
    *("gpt2", "gpt_neox", "falcon"),
)
PATH = LayerPath((1, 2, 4, 5), 6)
SETTINGS = {
    "llama": {"use_rslora": True, "bias": "lora_only"},
    "qwen2": {"bias": "lora_only"},
    "qwen3": {
        "rank_pattern": {"down_proj": 2, "layers.4.self_attn.q_proj": 3},
        "alpha_pattern": {r"layers\.[45]\.mlp\.down_proj": 30},
    },
    "mistral": {"use_dora": True},
    "olmo2": {"layers_to_transform": [0, 2, 4]},
    "gemma3": {"target_modules": r"model\.layers\.\d+\.(self_attn\.v|mlp\.up)_proj"},
    "gpt2": {"use_dora": True},
    "gpt_neox": {"modules_to_save": ["embed_out"]},
}


@torch.inference_mode()
def logits(model: object) -> torch.Tensor:
    return model(TOKENS, use_cache=False).logits[0]  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_and_carried_an_adapter_is_what_peft_makes_of_it(
    family: str, tmp_path: Path
) -> None:
    whole = tiny.save(tmp_path / "whole", family)
    source = resolve_model(str(whole))
    adapter = save_adapter(whole, tmp_path / "lora", family, **SETTINGS.get(family, {}))
    expected = logits(with_adapter(load(whole), adapter))
    assert (expected - logits(load(whole))).abs().max() > 0.05

    merge_adapter(source, adapter, tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), expected, atol=1e-4, rtol=0)

    # The oracle: peft beside the whole model's weights, layers left out one by one.
    layered = LayeredModel(load(whole))
    with_adapter(layered.model, adapter)
    expected = driven(layered, PATH, TOKENS)
    write_checkpoint(source, PATH, tmp_path / "smaller")
    carried = carry_adapter(adapter, PATH, tmp_path / "carried")
    found = logits(with_adapter(load(tmp_path / "smaller"), carried.folder))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert set(carried.dropped_layers) == ({0} if family == "olmo2" else {0, 3})

    # And back: what was dropped changes nothing, what was kept is as it was.
    lifted = lift_adapter(carried.folder, PATH, tmp_path / "lifted")
    layered = LayeredModel(load(whole))
    with_adapter(layered.model, lifted.folder)
    assert torch.equal(driven(layered, PATH, TOKENS), expected)
    again = carry_adapter(lifted.folder, PATH, tmp_path / "again")
    one, two = (load_file(x.folder / "adapter_model.safetensors") for x in (carried, again))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
