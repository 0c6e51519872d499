"""LoRA on the layers: gradients against the model's own forward, and the adapter's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from telltale.errors import InputError
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from telltale.tuning.answers import lay, lost
from telltale.tuning.lora import attach, check_tools, trained_weights
from telltale.tuning.settings import Loss, TuningSettings
from tests import tiny
from tests.tuning.test_answers import MIXED, lessons
from tests.tuning.words import DEVELOPMENT, TASK, tuned, weights

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


def with_lora(family: str, **given: Any) -> LayeredModel:
    """A model with LoRA that already does something."""
    model = LayeredModel(tiny.build(family))
    attach(model, TuningSettings(**{"rank": 2, **given}))
    torch.manual_seed(1)
    for weight in trained_weights(model).values():
        torch.nn.init.normal_(weight, std=0.1)
    return model


# Mixtral's experts are no linear projections; its attention is tuned.
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "falcon", "mixtral", "gemma3"])
def test_gradients_are_those_of_the_models_own_forward(family: str) -> None:
    model = with_lora(family)
    named = trained_weights(model)
    assert {name.split(".lora_")[0].count(".layers.") or 1 for name in named} == {1}
    part = lay(lessons(Loss.CHOICES, MIXED, TASK), CPU)
    tokens = part.layout.token_ids()
    own = model.model(tokens, use_cache=False).logits.flatten(0, 1)[part.reads.positions]
    expected = torch.autograd.grad(lost(Loss.CHOICES, part, own), list(named.values()))
    prepared = model.prepare(tokens, differentiable=True)
    driven = model.trainable_logits(prepared, part.reads.positions)
    found = torch.autograd.grad(lost(Loss.CHOICES, part, driven), list(named.values()))
    for name, one, other in zip(named, found, expected, strict=True):
        assert float(other.abs().max()) > 0, name
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_only_projections_of_the_layers_are_tuned_all_of_them_by_default() -> None:
    model = with_lora("llama")
    owners = {id(one) for layer in model.layers for one in layer.parameters()}
    named = trained_weights(model)
    assert all(id(one) in owners for one in named.values())
    assert len(named) == 6 * 7 * 2  # layers, projections, matrices
    few = trained_weights(with_lora("llama", targets=("q_proj", "down_proj")))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in few} == {"q_proj", "down_proj"}
    assert len(few) == 6 * 2 * 2


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "mlp"])
def test_a_target_that_is_no_projection_of_a_layer_is_refused(target: str) -> None:
    model = LayeredModel(tiny.build("llama"))
    with pytest.raises(InputError, match=f"`targets` {target} names no.*q_proj, k_proj.*down_proj"):
        attach(model, TuningSettings(targets=("q_proj", target)))
    assert all(one.requires_grad for one in model.model.parameters())


def test_a_name_that_stands_outside_of_the_layers_too_is_tuned_in_them_alone() -> None:
    inner = tiny.build("llama")
    inner.model.q_proj = torch.nn.Linear(32, 32)
    model = LayeredModel(inner)
    attach(model, TuningSettings(targets="q_proj"))
    assert len(trained_weights(model)) == 6 * 2


def test_four_bits_are_refused_without_a_gpu() -> None:
    check_tools(TuningSettings(), CPU)
    with pytest.raises(InputError, match="`four_bit` needs a CUDA GPU, and this is cpu"):
        check_tools(TuningSettings(four_bit=True), CPU)


def test_tuning_without_peft_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'telltale-llm\[tune\]'"):
        check_tools(TuningSettings(), CPU)


# peft's own model, on being made, asks this release of transformers for what is deprecated.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_plain_peft_loads_the_adapter_and_finds_the_development_loss(
    tiny_folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    found = tuned(tiny_folder, tmp_path, max_steps=4)
    inner = tiny.build("llama")
    loaded = PeftModel.from_pretrained(inner, str(found.adapter)).eval()
    part = lay(lessons(Loss.ANSWER, DEVELOPMENT), CPU)
    with torch.no_grad():
        logits = loaded(part.layout.token_ids()).logits.flatten(0, 1)[part.reads.positions]
    loss = float(lost(Loss.ANSWER, part, logits)) / sum(one.units for one in part.lessons)
    assert loss == pytest.approx(found.development_loss, rel=1e-5)
    assert loss < found.before - 0.1
    config = json.loads((found.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == tiny_folder.name  # and no path of this machine
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_model_with_its_adapter_merged_has_the_development_loss(
    family: str, tmp_path: Path
) -> None:
    model = tiny.save(tmp_path / "model", family, num_hidden_layers=2)
    found = tuned(model, tmp_path / "one", max_steps=4)
    again = tuned(model, tmp_path / "two", adapter=found.adapter, max_steps=1)
    assert again.before == pytest.approx(found.development_loss, rel=1e-5)
    other = tiny.save(tmp_path / "other", family, num_hidden_layers=2, initializer_range=0.2)
    with pytest.raises(InputError, match="whose bytes are not those of"):
        tuned(other, tmp_path / "three", adapter=found.adapter)


def test_of_a_model_in_bfloat16_the_adapter_is_float32(tiny_folder: Path, tmp_path: Path) -> None:
    found = tuned(tiny_folder, tmp_path, max_steps=2, dtype="bfloat16")
    assert {one.dtype for one in weights(found).values()} == {torch.float32}
    assert any(float(one.abs().max()) > 0 for n, one in weights(found).items() if "lora_B" in n)


def test_the_models_files_are_left_as_they_are(tiny_folder: Path, tmp_path: Path) -> None:
    before = resolve_model(str(tiny_folder)).sha256
    tuned(tiny_folder, tmp_path, max_steps=2)
    assert resolve_model(str(tiny_folder)).sha256 == before
