"""The count of work: by torch's own counter, by hand, and alike for models with fewer layers."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from telltale.models.layered import CACHE_NAMES
from telltale.models.work import Work, work_of
from telltale.paths import LayerPath
from tests import tiny

TOKENS = 12  # more than a window
# Kinds of matrices, heads and windows. torch counts neither experts nor attention with ALiBi.
COUNTED = ("llama", "qwen2-window", "gemma3", "gpt2", "falcon-40b")
PATH = LayerPath((0, 2, 5), 6)


def products(model: Any, tokens: Any, **given: Any) -> tuple[int, int, Any]:
    """Multiply-adds of a forward's products with weights, and of those of its attention."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        found = model(tokens, use_cache=True, logits_to_keep=1, **given)
    of_modules = {
        name: {str(kind): count // 2 for kind, count in counts.items()}
        for name, counts in counter.get_flop_counts().items()
    }
    # transformers 5.2 makes angles of positions by a product, which is no part of attention.
    angles = sum(
        sum(counts.values()) for name, counts in of_modules.items() if name.endswith("rotary_emb")
    )
    counts = of_modules["Global"]
    attention = sum(count for kind, count in counts.items() if "bmm" in kind) - angles
    return sum(counts.values()) - attention - angles, attention, found


@pytest.mark.parametrize("family", COUNTED)
def test_torch_counts_the_same(family: str) -> None:
    model = tiny.build(family, attn_implementation="eager")
    work = work_of(model)
    mask = torch.ones((1, TOKENS), dtype=torch.long)
    tokens = torch.arange(1, TOKENS + 1)[None]
    weights, attention, found = products(model, tokens, attention_mask=mask)
    matrices = sum(one.matrices for one in work.layers)
    assert weights == TOKENS * matrices + work.head
    # Plain attention scores all pairs, and hides those that lie ahead or before the window.
    assert attention == sum(one.attention for one in work.layers) * TOKENS**2
    name = next(name for name in CACHE_NAMES if name in inspect.signature(model.forward).parameters)
    held = {name: getattr(found, name)}
    weights, attention, _ = products(model, tokens[:, :1], **held)
    assert weights + attention == work.decoding(TOKENS, 2)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_path_has_the_work_of_a_model_with_its_layers(family: str) -> None:
    work = work_of(tiny.build(family))
    kinds = getattr(tiny.build(family).config, "layer_types", None)
    changes: dict[str, Any] = {"num_hidden_layers": PATH.depth}
    if kinds:
        changes["layer_types"] = [kinds[layer] for layer in PATH.kept]
    assert work.on(PATH) == work_of(tiny.build(family, **changes))
    assert work.on(LayerPath.whole(6)) == work


def test_numbers_by_hand() -> None:
    """Llama, width 32, inner 48, 4 heads of 8 of which 2 are kept, vocabulary 300, 6 layers."""
    work = work_of(tiny.build("llama"))
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48
    assert [one.matrices for one in work.layers] == [layer] * 6
    assert work.first_token(3) == 6 * (3 * layer + 64 * (1 + 2 + 3)) + 300 * 32
    assert work.decoding(3, 3) == 6 * (2 * layer + 64 * (4 + 5)) + 2 * 300 * 32
    parameters = sum(one.numel() for one in tiny.build("llama").parameters())
    assert work.numbers_held(2, 5) == parameters + 6 * 2 * 5 * 2 * 16
    assert work.longest == 256


def test_a_token_meets_the_experts_that_it_is_sent_to() -> None:
    some, every = (work_of(tiny.build("mixtral", num_experts_per_tok=count)) for count in (2, 3))
    experts = 3 * 3 * 32 * 48  # three of them, three matrices each
    assert every.layers[0].matrices - some.layers[0].matrices == experts // 3
    assert every.parameters == some.parameters


def test_a_window_bounds_what_is_looked_at() -> None:
    work = work_of(tiny.build("gemma3"))
    windows = [one.window for one in work.layers]
    assert windows == [tiny.WINDOW, None] * 3
    for tokens in (3, tiny.WINDOW, 20):
        pairs = {
            window: sum(
                1
                for token in range(tokens)
                for other in range(token + 1)
                if window is None or token - other < window
            )
            for window in (None, tiny.WINDOW)
        }
        rest = sum(one.matrices for one in work.layers) * tokens + work.head
        in_attention = sum(one.attention * pairs[one.window] for one in work.layers)
        assert work.first_token(tokens) == rest + in_attention


def test_nothing_but_the_head_is_there_without_layers() -> None:
    work = work_of(tiny.build("llama"))
    none = Work((), work.head, work.beside, work.longest)
    assert none.first_token(100) == work.head
    assert none.decoding(100, 6) == 5 * work.head
