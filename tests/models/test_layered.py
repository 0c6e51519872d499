"""Driving layers: any family, nothing changed, and a refusal where it cannot be right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from telltale.errors import UnsupportedModelError
from telltale.models.layered import LayerCache, LayeredModel, replaced_forwards
from telltale.paths import LayerPath
from tests import tiny

TOKENS = torch.arange(1, 41)[None]


def test_a_forward_of_an_instances_own_comes_back() -> None:
    layer = nn.Linear(2, 2)
    own = layer.forward
    layer.__dict__["forward"] = own
    with replaced_forwards([layer], [lambda _: "replaced"]):
        assert layer(torch.zeros(2)) == "replaced"
    assert layer.__dict__["forward"] is own


def test_a_forward_comes_back_after_an_error() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), replaced_forwards([layer], [lambda _: 1]):
        raise ZeroDivisionError
    assert layer(torch.zeros(2)).shape == (2,)


@pytest.mark.parametrize("queries", [3, torch.arange(5, 8)])
def test_masks_are_as_long_as_what_is_cached_and_what_asks(queries: Any) -> None:
    """Whether a release says how many tokens ask, or at which positions they are."""
    cache = LayerCache(5)
    assert cache.get_mask_sizes(queries, 0) == (8, 0)
    assert cache.get_mask_sizes(query_length=queries) == (8, 0)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_more_positions_may_be_read_at_once_than_a_text_can_have(family: str) -> None:
    """Those of many texts; GPT-2 has an embedding for each position of one."""
    model = tiny.layered(family)
    states = model.run_path(LayerPath.whole(6), model.prepare(TOKENS))[0]
    many = states.repeat(10, 1)
    assert model.longest_input is not None
    assert len(many) > model.longest_input
    found = model.logits(many)
    torch.testing.assert_close(found, model.logits(states).repeat(10, 1), atol=1e-5, rtol=0)


def test_parameters_are_counted_without_the_layers_left_out() -> None:
    model = tiny.layered("llama")
    smaller = tiny.build("llama", num_hidden_layers=4)
    path = LayerPath((0, 1, 2, 3), 6)
    assert model.parameters_on(path) == sum(p.numel() for p in smaller.parameters())


def broken(change: Any) -> Any:
    model = tiny.build("llama")
    change(model)
    return model


def test_a_model_that_runs_layers_twice_is_refused() -> None:
    model = tiny.build("llama")
    assert LayeredModel(model).depth == 6  # the good case
    layers = model.model.layers
    layers[5] = layers[0]
    with pytest.raises(UnsupportedModelError, match="once each and in order"):
        LayeredModel(model)


def test_a_model_whose_layers_cannot_be_found_is_refused() -> None:
    model = broken(lambda m: setattr(m.config, "num_hidden_layers", 17))
    with pytest.raises(UnsupportedModelError, match="no list of 17 decoder layers"):
        LayeredModel(model)


def test_a_model_that_works_on_states_between_layers_is_refused() -> None:
    """What happens outside the layers would be lost when they are driven one by one."""
    model = tiny.build("llama")
    norm = model.model.norm

    class Remembers(nn.Module):
        """Adds the first layer's output, which it takes behind the layers' backs."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: Any = None
            model.model.layers[0].register_forward_hook(self.keep)

        def keep(self, _: Any, __: Any, output: Any) -> None:
            self.seen = output

        def forward(self, hidden: Any) -> Any:
            return norm(hidden + self.seen.mean(dim=1, keepdim=True))

    model.model.norm = Remembers()
    with pytest.raises(UnsupportedModelError, match="does not give the model's own logits"):
        LayeredModel(model)


def test_a_model_that_sees_what_comes_after_is_refused() -> None:
    assert LayeredModel(tiny.build("gemma3")).depth == 6  # the good case
    with pytest.raises(UnsupportedModelError, match="it is no decoder"):
        LayeredModel(tiny.build("gemma3", use_bidirectional_attention=True))


def test_a_model_that_fails_on_plain_text_is_refused_with_its_own_words() -> None:
    model = tiny.build("llama")

    def fail(*_: Any, **__: Any) -> Any:
        raise ValueError("pixels are needed")

    model.model.forward = fail
    with pytest.raises(UnsupportedModelError, match=r"fails on plain text .*pixels are needed"):
        LayeredModel(model)


def test_a_model_that_raises_when_driven_is_refused() -> None:
    model = tiny.build("llama")
    layer = model.model.layers[2]
    forward = type(layer).forward
    calls: list[int] = []

    def only_once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise ValueError("no second time")
        return forward(layer, *args, **kwargs)

    layer.forward = only_once
    with pytest.raises(UnsupportedModelError, match="ValueError: no second time"):
        LayeredModel(model)


@pytest.mark.parametrize("family", ["BloomForCausalLM", "GPTNeoForCausalLM"])
def test_families_whose_layers_return_tuples_are_driven(family: str) -> None:
    import transformers

    configs: dict[str, dict[str, Any]] = {
        "BloomForCausalLM": {"n_layer": 4, "n_head": 4},
        "GPTNeoForCausalLM": {
            "num_layers": 4,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 8,
        },
    }
    config_class = getattr(transformers, family.replace("ForCausalLM", "Config"))
    torch.manual_seed(3)
    config = config_class(vocab_size=300, hidden_size=32, **configs[family])
    model = LayeredModel(getattr(transformers, family)(config).eval())
    with torch.inference_mode():
        expected = model.model(TOKENS, use_cache=False).logits[0]
    driven = model.logits(model.run_path(LayerPath.whole(4), model.prepare(TOKENS))[0])
    torch.testing.assert_close(driven, expected, atol=1e-5, rtol=0)


def test_a_model_whose_layers_change_nothing_is_refused_by_the_self_test() -> None:
    from telltale.engine.selftest import find_capabilities

    model = tiny.build("llama")
    for layer in model.model.layers:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    with pytest.raises(UnsupportedModelError, match="changes nothing"):
        find_capabilities(LayeredModel(model), longest=10)
    with pytest.raises(UnsupportedModelError, match="a single layer"):
        find_capabilities(LayeredModel(tiny.build("llama", num_hidden_layers=1)), longest=10)
