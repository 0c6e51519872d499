"""What must hold for every family of models that can be exported: one suite, inherited.

A subclass names its model in `tests.tiny`. Whoever adds a family adds a subclass, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from telltale.checkpoints import reload_check
from telltale.checkpoints.write import write_checkpoint
from telltale.models.layered import LayeredModel
from telltale.models.source import ModelSource, resolve_model
from telltale.paths import LayerPath
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = torch.arange(1, 60)[None]  # longer than any window
GENERATED = 12
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Written:
    """A whole model and a path's checkpoint, both read from disk."""

    source: ModelSource
    whole: LayeredModel
    weights: dict[str, torch.Tensor]  # the whole model's, as they were before anything was done
    reloaded: Any
    found: dict[str, Any]  # what the fresh process of an export would find


class ModelContract:
    """Drive = model, path = checkpoint; the checkpoint generates; the model is as it was."""

    family: ClassVar[str]
    # Neither the first layer nor any period of two or three stays where it was.
    path: ClassVar[LayerPath] = LayerPath((1, 2, 4, 5), 6)

    @classmethod
    def save(cls, folder: Path) -> Path:
        """The whole model's folder, as a user would have it."""
        return tiny.save(folder, cls.family)

    @pytest.fixture(scope="class")
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory) -> Written:
        place = tmp_path_factory.mktemp(cls.family)
        source = resolve_model(str(cls.save(place / "whole")))
        model = AutoModelForCausalLM.from_pretrained(source.folder).eval()
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        whole = LayeredModel(model)
        folder, probe = place / "smaller", place / "probe.safetensors"
        write_checkpoint(source, cls.path, folder)
        save_file({"tokens": TOKENS, "logits": driven(whole, cls.path, TOKENS)}, probe)
        found = reload_check.check(str(folder), str(probe), "cpu", "auto")
        reloaded = AutoModelForCausalLM.from_pretrained(folder).eval()
        return Written(source, whole, weights, reloaded, found)

    def test_driving_every_layer_gives_the_models_own_logits(self, written: Written) -> None:
        whole = written.whole
        with torch.inference_mode():
            expected = whole.model(TOKENS, use_cache=False).logits[0]
        found = driven(whole, LayerPath.whole(6), TOKENS)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

    def test_the_checkpoint_reloads_as_the_path(self, written: Written) -> None:
        found = written.found
        assert found["logit_difference"] <= 1e-5
        assert (found["missing"], found["unexpected"]) == ([], [])
        assert found["layers"] == self.path.depth
        # The difference would show: the path that keeps as many first layers is another model.
        first = LayerPath(tuple(range(self.path.depth)), 6)
        ours, other = (driven(written.whole, path, TOKENS) for path in (self.path, first))
        assert (ours - other).abs().max() > 0.01

    def test_a_cache_changes_no_logits(self, written: Written) -> None:
        assert written.found["cache_difference"] <= 1e-5

    def test_it_generates_what_the_path_would(self, written: Written) -> None:
        start = TOKENS[:, :20]
        generated = written.reloaded.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=GENERATED,
            do_sample=False,
            use_cache=True,
            eos_token_id=-1,
            pad_token_id=0,
        )
        tokens = start
        for _ in range(GENERATED):
            last = driven(written.whole, self.path, tokens)[-1]
            tokens = torch.cat([tokens, last.argmax()[None, None]], dim=1)
        assert generated.tolist() == tokens.tolist()

    def test_what_is_said_of_each_layer_survives(self, written: Written) -> None:
        """Its kind of attention, its window, its scale: whatever the model built from the files."""
        kept = [written.whole.layers[layer] for layer in self.path.kept]
        found = LayeredModel(written.reloaded).layers
        assert [plain_settings(layer) for layer in found] == [plain_settings(one) for one in kept]
        types = getattr(written.whole.model.config, "layer_types", None)
        expected = types and [types[layer] for layer in self.path.kept]
        assert getattr(written.reloaded.config, "layer_types", None) == expected

    def test_the_model_is_as_it_was(self, written: Written) -> None:
        after = written.whole.model.state_dict()
        assert written.weights.keys() == after.keys()
        assert all(torch.equal(after[name], value) for name, value in written.weights.items())
        assert resolve_model(str(written.source.folder)) == written.source
        assert not any("forward" in layer.__dict__ for layer in written.whole.layers)


def driven(model: LayeredModel, path: LayerPath, tokens: torch.Tensor) -> torch.Tensor:
    """The logits, (tokens, vocabulary), of a path on the whole model."""
    return model.logits(model.run_path(path, model.prepare(tokens))[0])


def plain_settings(layer: torch.nn.Module) -> dict[str, Any]:
    """Every plain attribute of a layer and its parts, but for the place it has in its model."""
    return {
        f"{part}.{name}": value
        for part, module in layer.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, PLAIN) and name != "layer_idx"
    }
