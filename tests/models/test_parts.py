"""A layer whose output is wanted at some tokens alone: what of it may be run at these alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from telltale.models.layered import LayerCache
from telltale.models.parts import find_parts, only_at
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    from telltale.models.layered import LayeredModel

WIDTH = 16
SHAPE = torch.Size((2, 7))
POSITIONS = torch.tensor([4, 13])
SOME = torch.tensor([0, 3, 19, 20, 38])
TOKENS = torch.arange(1, 41).reshape(2, 20)


# ---- real architectures


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_layer_is_right_where_it_is_wanted(family: str) -> None:
    model = tiny.layered(family)
    prepared = model.prepare(TOKENS)
    for layer in (0, 5):
        whole = model.run_layer(layer, prepared.hidden, prepared).flatten(0, 1)
        part = model.run_layer_at(layer, prepared.hidden, prepared, SOME).flatten(0, 1)
        torch.testing.assert_close(part[SOME], whole[SOME], atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_most_of_a_layer_may_be_run_at_some_tokens_alone(family: str) -> None:
    model = tiny.layered(family)
    found = model.parts_by_token(5)
    assert any(name.endswith("mlp") for name in found)
    sizes = {name: size(model.layers[5].get_submodule(name)) for name in found}
    assert sum(sizes.values()) > 0.5 * size(model.layers[5])
    keys_and_values = ("k_proj", "v_proj", "qkv", "query_key_value", "c_attn")
    assert not any(name.endswith(keys_and_values) for name in found)


@pytest.mark.parametrize("family", ["llama", "mixtral", "gpt2"])
def test_the_rest_of_the_tokens_are_not_run(family: str) -> None:
    model = tiny.layered(family)
    seen: dict[str, set[int]] = {name: set() for name in model.parts_by_token(5)}
    hooks = [
        model.layers[5].get_submodule(name).register_forward_hook(noting(seen[name]))
        for name in seen
    ]
    prepared = model.prepare(TOKENS)
    model.run_layer_at(5, prepared.hidden, prepared, SOME)
    # A hook sees what a part gives its layer: all tokens, zeros where it was not run.
    assert all(counts == {len(SOME)} for counts in seen.values())
    for hook in hooks:
        hook.remove()


def noting(counts: set[int]) -> Callable[..., None]:
    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        counts.add(int((output.flatten(0, 1) != 0).any(-1).sum()))

    return note


def test_keys_and_values_are_those_of_all_tokens() -> None:
    model = tiny.layered("llama")
    held = []
    for run in (model.run_layer, lambda *given: model.run_layer_at(*given, SOME)):
        prepared = model.prepare(TOKENS, cache=LayerCache(0))
        run(5, prepared.hidden, prepared)
        assert prepared.cache is not None
        held.append(prepared.cache.held[5])
    assert all(torch.equal(one, other) for one, other in zip(*held, strict=True))


# ---- a model is never left changed


def is_untouched(model: LayeredModel) -> bool:
    return not any("forward" in one.__dict__ for one in model.model.modules())


def test_a_layer_is_as_it_was_whatever_happens_in_it() -> None:
    model = tiny.layered("llama")
    prepared = model.prepare(TOKENS)
    model.run_layer_at(5, prepared.hidden, prepared, SOME)
    assert is_untouched(model)
    with pytest.raises(IndexError):
        model.run_layer_at(5, prepared.hidden, prepared, torch.tensor([40]))
    assert is_untouched(model)


def test_a_forward_of_an_instances_own_stands_again() -> None:
    layer = Plain()
    own = layer.mlp.__dict__["forward"] = layer.mlp.forward
    with only_at(layer, ["mlp"], SHAPE, POSITIONS):
        assert layer.mlp.forward is not own
    assert layer.mlp.__dict__["forward"] is own


# ---- what may not be run so


class Plain(nn.Module):
    """Attention as a mean over what came before, and a feed-forward block."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.keys, self.mlp = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        seen = self.keys(hidden).cumsum(1)
        return hidden + seen + self.mlp(hidden + seen)


class Parallel(Plain):
    """Both from the same input, as in GPT-NeoX and Falcon."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.keys(hidden).cumsum(1) + self.mlp(hidden)


class Twice(Plain):
    """The block once before attention, where all tokens' are needed, and once after it."""

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden + self.mlp(hidden))


class Mixing(Plain):
    """A block that looks at the token before."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Shift()  # type: ignore[assignment]


class Shift(nn.Linear):
    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden + hidden.roll(1, 1))


class Crowded(Plain):
    """An expert that takes the first so many tokens, and lets the others pass."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Expert()  # type: ignore[assignment]


class Expert(nn.Linear):
    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        flat = hidden.flatten(0, 1)
        taken = torch.arange(len(flat)) < 4
        return torch.where(taken[:, None], super().forward(flat), 0 * flat).reshape(hidden.shape)


class Fussy(Plain):
    """A block that takes whole rows alone."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Whole()  # type: ignore[assignment]


class Whole(nn.Linear):
    def __init__(self) -> None:
        super().__init__(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        if hidden.shape[:2] != SHAPE:
            raise ValueError(hidden.shape)
        return super().forward(hidden)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Plain, ("mlp",)),
        (Parallel, ("mlp",)),
        (Twice, ()),
        (Mixing, ()),
        (Crowded, ()),
        (Fussy, ()),
    ],
)
def test_a_part_is_found_only_where_tokens_have_nothing_to_do_with_each_other(
    kind: type[Plain], expected: tuple[str, ...]
) -> None:
    layer = kind()
    hidden = torch.randn(*SHAPE, WIDTH)
    with torch.inference_mode():
        assert find_parts(layer, lambda: layer(hidden), SHAPE, POSITIONS) == expected
    assert not any("forward" in one.__dict__ for one in layer.modules())


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
