"""Every family that can be exported keeps the contract; one that is not named is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomForCausalLM

from telltale.checkpoints.config import FAMILIES
from telltale.checkpoints.write import write_checkpoint
from telltale.errors import UnsupportedModelError
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from tests import tiny
from tests.contract import ModelContract

if TYPE_CHECKING:
    from pathlib import Path


def forget_layer_types(folder: Path) -> dict[str, Any]:
    """Leave out what older releases do not write, so that a count or a period must say it."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    del config["layer_types"]
    if (period := config.pop("_sliding_window_pattern", None)) is not None:
        config["sliding_window_pattern"] = period
    (folder / "config.json").write_text(json.dumps(config))
    return config


class TestLlama(ModelContract):
    family = "llama"


class TestMistral(ModelContract):
    family = "mistral"


class TestMistralWithWindows(ModelContract):
    family = "mistral-window"


class TestMixtral(ModelContract):
    family = "mixtral"


class TestQwen2(ModelContract):
    family = "qwen2"


class TestQwen2WithWindows(ModelContract):
    family = "qwen2-window"

    @classmethod
    def save(cls, folder: Path) -> Path:
        assert forget_layer_types(super().save(folder))["max_window_layers"] == 3
        return folder


class TestQwen3(ModelContract):
    family = "qwen3"


class TestQwen3WithWindows(ModelContract):
    family = "qwen3-window"

    @classmethod
    def save(cls, folder: Path) -> Path:
        assert forget_layer_types(super().save(folder))["max_window_layers"] == 3
        return folder


class TestPhi3(ModelContract):
    family = "phi3"


class TestPhi3WithWindows(ModelContract):
    family = "phi3-window"


class TestOlmo2(ModelContract):
    family = "olmo2"


class TestGemma3(ModelContract):
    family = "gemma3"


class TestGemma3WindowsOnly(TestGemma3):
    path: ClassVar[LayerPath] = LayerPath((0, 2, 4), 6)


class TestGemma3NoWindows(TestGemma3):
    path: ClassVar[LayerPath] = LayerPath((3, 5), 6)


class TestGemma3ByItsPeriod(TestGemma3):
    """As the files of older releases say it: every third layer attends to everything."""

    @classmethod
    def save(cls, folder: Path) -> Path:
        tiny.save(folder, "gemma3", layer_types=None, sliding_window_pattern=3)
        assert forget_layer_types(folder)["sliding_window_pattern"] == 3
        return folder


class TestGpt2(ModelContract):
    family = "gpt2"


class TestGpt2AsOnTheHub(TestGpt2):
    """The first GPT-2 files have weights without a prefix, and the causal mask among them."""

    @classmethod
    def save(cls, folder: Path) -> Path:
        super().save(folder)
        weights = load_file(folder / "model.safetensors")
        bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
        masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 256, 256).tril() for i in range(6)}
        save_file({**bare, **masks}, folder / "model.safetensors", metadata={"format": "pt"})
        return folder


class TestGptNeoX(ModelContract):
    family = "gpt_neox"


class TestFalcon(ModelContract):
    family = "falcon"


class TestFalcon40B(ModelContract):
    family = "falcon-40b"


class TestFalconWithAlibi(ModelContract):
    family = "falcon-alibi"


def test_every_family_that_can_be_written_keeps_the_contract() -> None:
    tried = {tiny.FAMILIES[suite.family][0] for suite in ModelContract.__subclasses__()}
    assert tried == set(FAMILIES)


def test_a_family_that_is_not_named_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    BloomForCausalLM(
        BloomConfig(vocab_size=300, hidden_size=32, n_layer=6, n_head=4)
    ).save_pretrained(tmp_path / "bloom")
    source = resolve_model(str(tmp_path / "bloom"))
    with pytest.raises(
        UnsupportedModelError, match=r"type 'bloom' cannot.*only llama, .*not known"
    ):
        write_checkpoint(source, LayerPath((0, 2, 3, 5), 6), tmp_path / "smaller")
    assert not (tmp_path / "smaller").exists()
