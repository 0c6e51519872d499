"""LoRA on the decoder layers, by peft; the one place that knows it.

Hu et al. 2021, arXiv:2106.09685. Embeddings, norms and head are left as they are, so that what is
learnt belongs to layers, and goes with them where a model is made shallower.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from telltale.errors import InputError
from telltale.models.adapter import PREFIX, TENSORS_FILE, note_base
from telltale.models.folder import ADAPTER_FILE
from telltale.models.layered import LayeredModel
from telltale.models.quiet import quiet_transformers
from telltale.models.tensors import save_tensors
from telltale.support.files import write_json
from telltale.support.words import one_of

if TYPE_CHECKING:
    from telltale.models.source import ModelSource
    from telltale.tuning.settings import TuningSettings


def check_tools(settings: TuningSettings, device: torch.device) -> None:
    """Refuse to begin without what is needed.

    Raises:
        InputError: a package is missing, or the device cannot do what is asked.
    """
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            "tuning needs the package peft; install it with: pip install 'telltale-llm[tune]'"
        )
    if settings.four_bit and device.type != "cuda":
        raise InputError(f"`four_bit` needs a CUDA GPU, and this is {device}; leave it out")
    if settings.four_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            "`four_bit` needs the package bitsandbytes; install it with: pip install bitsandbytes"
        )


def projections(model: LayeredModel) -> dict[str, list[nn.Module]]:
    """The linear projections of the decoder layers by their last name, such as ``q_proj``."""
    found: dict[str, list[nn.Module]] = {}
    for layer in model.layers:
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear | Conv1D):
                found.setdefault(name.rpartition(".")[2], []).append(module)
    return found


def attach(model: LayeredModel, settings: TuningSettings) -> None:
    """Put LoRA into a model's layers, where it changes nothing yet; the rest is frozen.

    Args:
        model: changed in place; what it is asked for afterwards is of the tuned model.
        settings: its rank, alpha, dropout, targets and seed.

    Raises:
        InputError: a target is no linear projection of the decoder layers.
    """
    from peft import LoraConfig, inject_adapter_in_model

    known = projections(model)
    for target in settings.targets:
        if target not in known:
            raise InputError(
                f"`targets` {target} names no linear projection of the decoder layers of "
                f"{type(model.model).__name__}; give any of {one_of(known) or 'none: it has none'}"
            )
    targets = sorted(set(settings.targets or known))
    wanted = {id(module) for name in targets for module in known[name]}
    # peft goes by a name's end, wherever it stands; what is outside of the layers is left out.
    others = [
        name
        for name, module in model.model.named_modules()
        if name.rpartition(".")[2] in targets and id(module) not in wanted
    ]
    is_turned = {isinstance(module, Conv1D) for name in targets for module in known[name]}
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        exclude_modules=others or None,
        fan_in_fan_out=is_turned == {True},
        bias="none",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        # Not peft's own model around it, which nothing here needs: on being made it asks this
        # release of transformers for what is deprecated.
        inject_adapter_in_model(config, model.model)
    for weight in trained_weights(model).values():
        # In bfloat16 a step of the optimiser is often less than a weight's last digit.
        weight.data = weight.data.float()
    drop(model, on=False)


def drop(model: LayeredModel, *, on: bool) -> None:
    """Turn LoRA's own dropout on or off. The model's own parts are as they are when it is used."""
    from peft.tuners.lora import LoraLayer

    for module in model.model.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout.train(on)


def trained_weights(model: LayeredModel) -> dict[str, nn.Parameter]:
    """The weights that are trained, by name, of a model with LoRA."""
    return {name: one for name, one in model.model.named_parameters() if one.requires_grad}


def write_adapter(model: LayeredModel, source: ModelSource, folder: Path) -> None:
    """Write the adapter as peft reads it, whole or not at all, in place of what is there.

    Its configuration names the base as people may be shown it, so that nothing of this machine goes
    with it; the base's hash is beside it.

    Args:
        model: with LoRA, whose weights are to be kept.
        source: the model that was tuned.
        folder: where to write.

    Raises:
        OSError: there is no room for it.
    """
    from peft import get_peft_model_state_dict

    config = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in model.model.peft_config["default"].to_dict().items()
    }
    config |= {
        "base_model_name_or_path": source.name,
        "revision": source.revision,
        "inference_mode": True,
    }
    state = get_peft_model_state_dict(model.model, save_embedding_layers=False)
    tensors = {f"{PREFIX}{name}": one.detach().cpu().contiguous() for name, one in state.items()}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".telltale-") as parent:
        fresh = Path(parent) / folder.name
        fresh.mkdir()
        save_tensors(tensors, fresh / TENSORS_FILE, {"format": "pt"})
        write_json(fresh / ADAPTER_FILE, config)
        note_base(fresh, source)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)


def load_four_bit(source: ModelSource, device: torch.device) -> LayeredModel:
    """Load a model with its layers' weights in 4 bits, computing in bfloat16.

    Dettmers et al. 2023, arXiv:2305.14314, section 3: NormalFloat, quantised twice.
    """
    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            source.folder,
            dtype=torch.bfloat16,
            use_safetensors=True,
            trust_remote_code=source.trust_remote_code,
            quantization_config=how,
            device_map={"": device},
        )
    return LayeredModel(model)
