"""A carried adapter gives what the whole model gives with it and without the layers removed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from telltale.checkpoints.carry import carry_adapter, lift_adapter
from telltale.checkpoints.write import write_checkpoint
from telltale.errors import InputError, UnsupportedModelError
from telltale.models.adapter import merge_adapter
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from tests import tiny
from tests.adapters import load, save_adapter, with_adapter
from tests.contract import TOKENS, driven

if TYPE_CHECKING:
    from pathlib import Path

QUICK = ("llama", "qwen3", "mistral", "mixtral", "phi3", "gemma3", "gpt2", "gpt_neox")
FAMILIES = [
    *QUICK,
    *(pytest.param(one, marks=pytest.mark.slow) for one in ("qwen2", "olmo2", "falcon")),
]
PATH = LayerPath((1, 2, 4, 5), 6)
SETTINGS = {
    "llama": {"use_rslora": True, "modules_to_save": ["lm_head"]},
    "qwen2": {"bias": "lora_only"},
    "qwen3": {
        "rank_pattern": {"down_proj": 2, "layers.4.self_attn.q_proj": 3},
        "alpha_pattern": {r"layers\.[45]\.mlp\.down_proj": 30},
    },
    "mistral": {"use_dora": True},
    "olmo2": {"layers_to_transform": [0, 2, 4]},
    "gemma3": {"target_modules": r"model\.layers\.\d+\.(self_attn\.v|mlp\.up)_proj"},
    "gpt2": {"use_dora": True},
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
    layered = LayeredModel(load(whole))
    without = logits(layered.model)
    with_adapter(layered.model, adapter)  # in place, so that it is driven too
    expected = logits(layered.model)
    assert (expected - without).abs().max() > 0.05

    merge_adapter(source, adapter, tmp_path / "merged")
    torch.testing.assert_close(logits(load(tmp_path / "merged")), expected, atol=1e-4, rtol=0)

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


# Names and settings


@pytest.fixture(scope="module")
def lora(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tiny_folder, tmp_path_factory.mktemp("carry") / "lora")


def settings_of(adapter: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    return found


def test_what_is_dropped_is_named_and_the_rest_is_renumbered(lora: Path, tmp_path: Path) -> None:
    carried = carry_adapter(lora, PATH, tmp_path / "carried")
    modules = ("mlp.down_proj", "self_attn.q_proj")
    assert carried.dropped == tuple(f"model.layers.{n}.{one}" for n in (0, 3) for one in modules)
    assert carried.dropped_layers == (0, 3)
    assert carried.modules == 8
    old, new = (load_file(one / "adapter_model.safetensors") for one in (lora, carried.folder))
    assert len(new) == 16
    for key, value in new.items():
        layer = int(key.split(".")[4])
        assert torch.equal(
            value, old[key.replace(f"layers.{layer}.", f"layers.{PATH.kept[layer]}.")]
        )


def test_settings_stay_as_they_are_where_they_are_right_for_the_layers_left(
    lora: Path, tmp_path: Path
) -> None:
    before = settings_of(lora)
    carry_adapter(lora, PATH, tmp_path / "carried")
    assert settings_of(tmp_path / "carried") == {**before, "base_model_name_or_path": None}
    lift_adapter(tmp_path / "carried", PATH, tmp_path / "lifted")
    named = settings_of(tmp_path / "lifted")["target_modules"]
    assert {int(one.split(".")[2]) for one in named} == set(PATH.kept)


def test_an_adapter_of_other_layers_or_of_none_that_are_left_is_refused(
    lora: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    to = tmp_path / "x"
    with pytest.raises(InputError, match=r"changes layer \d, and its model has layers 0-3"):
        carry_adapter(lora, LayerPath((0, 1), 4), to)
    with pytest.raises(InputError, match=r"changes layer \d, and its model has layers 0-3"):
        lift_adapter(lora, PATH, to)
    few = save_adapter(tiny_folder, tmp_path / "few", layers_to_transform=[0, 3])
    with pytest.raises(InputError, match="all that the adapter few changes is in layers that are"):
        carry_adapter(few, PATH, to)
    elsewhere = shutil.copytree(lora, tmp_path / "elsewhere")
    found = load_file(elsewhere / "adapter_model.safetensors")
    renamed = {
        key.replace("model.layers", "model.decoder.layers"): one for key, one in found.items()
    }
    save_file(renamed, elsewhere / "adapter_model.safetensors")
    with pytest.raises(UnsupportedModelError, match="which layer that is of is not known"):
        carry_adapter(elsewhere, PATH, to)
    assert not to.exists()
