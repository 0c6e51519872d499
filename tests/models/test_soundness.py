"""Files that contradict each other or are invalid are refused before anything is built."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file

from telltale.errors import InputError
from telltale.models.soundness import read_headers
from telltale.models.source import resolve_model
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_folder, tmp_path / "model")


def change(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(config))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_sound_models_pass(family: str, tmp_path: Path) -> None:
    resolve_model(str(tiny.save(tmp_path / "model", family)))


def test_headers_tell_what_loading_tells(tiny_folder: Path) -> None:
    file = tiny_folder / "model.safetensors"
    found, weights = read_headers([file], "model"), load_file(file)
    assert set(found.names) == set(weights)
    assert found.elements == sum(tensor.numel() for tensor in weights.values())
    assert found.most_layers == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, "its weights name 6 layers at most"),
        ({"num_hidden_layers": 7}, "its weights name 6 layers at most"),
        ({"num_hidden_layers": 0}, "a whole number above 0"),
        ({"num_hidden_layers": "6"}, "a whole number above 0"),
        ({"num_hidden_layers": True}, "a whole number above 0"),
        ({"n_layer": 10**9}, "n_layer"),
        ({"text_config": {"num_layers": 10**9}}, "num_layers"),
        ({"text_config": {"num_layers": 8}}, "6 layers at most"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, "1,000 at most"),
        ({"hidden_size": -32}, "a whole number above 0"),
        ({"hidden_size": 10**9}, "hidden_size.*at most"),
        ({"vocab_size": 10**12}, "vocab_size.*at most"),
        ({"intermediate_size": [48, -1]}, "intermediate_size"),
        ({"head_dim": 0.5}, "head_dim"),
        ({"max_position_embeddings": 10**12}, "134,217,728 at most"),
        ({"num_labels": 10**9}, "1,000,000 at most"),
        ({"rms_norm_eps": -1e-6}, "from 1e-20 to 1"),
        ({"rms_norm_eps": 0.0}, "from 1e-20 to 1"),
        ({"rms_norm_eps": math.nan}, "from 1e-20 to 1"),
        ({"layer_norm_epsilon": "small"}, "from 1e-20 to 1"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": -1.0}}, "rope_theta"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"initializer_range": math.inf}, "a finite number"),
        ({"eos_token_id": 10**30}, "no setting is as large"),
        ({"configuration_files": ["config.4.0.0.json"]}, "'configuration_files'"),
        ({"transformers_weights": "other.safetensors"}, "'transformers_weights'"),
        ({"attn_implementation": "org/kernel"}, "code from outside its folder"),
        ({"tokenizer_class": "AutoModelForCausalLM"}, "none of transformers' tokenizers"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(
    model: Path, changes: dict[str, Any], message: str
) -> None:
    resolve_model(str(model))
    change(model, **changes)
    with pytest.raises(InputError, match=message) as refused:
        resolve_model(str(model))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"time_step_limit": [0.0, math.inf]},  # as mamba's have it
        {"use_sliding_window": False, "sliding_window": 0},
        {"head_dim": None, "sliding_window": None},
        {"vision_config": {"num_hidden_layers": 27}},
        {"attn_implementation": "sdpa"},
        {"id2label": {"0": "no"}, "rope_scaling": None},
    ],
)
def test_what_real_configurations_hold_is_not_refused(model: Path, changes: dict[str, Any]) -> None:
    change(model, **changes)
    resolve_model(str(model))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"config"', "{" * 5000, "\ufeff{}", "1" * 9999]
)
def test_a_configuration_that_is_no_object_is_refused(model: Path, text: str) -> None:
    (model / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json of model is not a JSON object"):
        resolve_model(str(model))


def header(*tensors: tuple[str, Any]) -> bytes:
    text = json.dumps(dict(tensors)).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off"),
        (b"\x10\0\0", "cut off"),
        (b"\xff" * 100, "cut off"),
        (b"\x04\0\0\0\0\0\0\0{{{{", "header cannot be read"),
        (b"\x02\0\0\0\0\0\0\0[]", "header cannot be read"),
        (b"\x02\0\0\0\0\0\0\0{}", "hold no numbers"),
        (header(("a", {"shape": [2]})), "header cannot be read"),
        (header(("a", {"shape": "2", "data_offsets": [0, 0]})), "header is invalid"),
        (header(("a", {"shape": [-2], "data_offsets": [0, 0]})), "header is invalid"),
        (header(("a", {"shape": [10**18], "data_offsets": [0, 0]})), "header is invalid"),
        (header(("a", {"shape": [2], "data_offsets": [0, 8]})), "cut off"),
    ],
)
def test_weights_that_are_damaged_are_refused(model: Path, content: bytes, message: str) -> None:
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=message):
        resolve_model(str(model))


def test_weights_that_are_cut_off_anywhere_are_refused(model: Path) -> None:
    file = model / "model.safetensors"
    whole = file.read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"model\.safetensors of model is damaged"):
            resolve_model(str(model))
