"""Attention in rows made of one: what the dense mask gives, and nothing else is done with it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from telltale.engine.layout import Layout, lay_out
from telltale.engine.selftest import DIFFERS, Absence, find_capabilities
from telltale.models.layered import LayeredModel
from telltale.models.row_masks import OtherAttentionError, RowMask
from tests import tiny
from tests.encoded import example


def layout_of(source: random.Random, count: int) -> Layout:
    """Some questions, which begin alike more or less, as one row."""
    asked = []
    for _ in range(count):
        context = tuple(source.randrange(3) for _ in range(source.randint(1, 40)))
        choices = tuple({(source.randrange(9), source.randrange(9)) for _ in range(3)})
        asked.append(example((1, *context), choices))
    return lay_out(asked, prefix_length=0, shares_context=True, packs=True, padding_free=True)


def masks(layout: Layout, prefix: int) -> tuple[RowMask, torch.Tensor]:
    """The mask of its rows, and the dense one, (1, 1, tokens, prefix and tokens)."""
    rows = layout.attention_mask(prefix, torch.float32)
    dense = Layout(layout.rows, ()).attention_mask(prefix, torch.float32)
    return RowMask.of(rows, *layout.gathered()), dense


def queries_keys_values(tokens: int, prefix: int, *, heads_first: bool, seed: int) -> Any:
    """Of four heads, keys and values of two, as they lie in memory after a projection or not."""
    made = torch.Generator().manual_seed(seed)
    for heads, length, width in ((4, tokens, 8), (2, prefix + tokens, 8), (2, prefix + tokens, 6)):
        if heads_first:
            yield torch.randn(1, heads, length, width, generator=made)
        else:
            yield torch.randn(1, length, heads, width, generator=made).transpose(1, 2)


@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_attention_is_what_the_dense_mask_gives(seed: int, heads_first: bool) -> None:
    source = random.Random(seed)
    layout, prefix = layout_of(source, source.randint(5, 9)), source.choice([0, 0, 1, 5])
    assert len(layout.rows) == 1 < len(layout.attends)
    tokens = len(layout.rows[0].tokens)
    given = [*queries_keys_values(tokens, prefix, heads_first=heads_first, seed=seed)]
    mask, dense = masks(layout, prefix)
    assert mask.shape == dense.shape == (1, 1, tokens, prefix + tokens)
    ours = scaled_dot_product_attention(*given, attn_mask=mask, enable_gqa=True, scale=0.3)
    right = scaled_dot_product_attention(*given, attn_mask=dense, enable_gqa=True, scale=0.3)
    torch.testing.assert_close(ours, right)
    causal = scaled_dot_product_attention(*given, is_causal=True, enable_gqa=True, scale=0.3)
    assert not torch.allclose(ours, causal)


def test_a_mask_may_be_looked_at_and_cut_to_the_length_it_has() -> None:
    mask, dense = masks(layout_of(random.Random(0), 4), 3)
    tokens = mask.shape[-1]
    assert (mask.dim(), mask.dtype, mask.size()) == (4, dense.dtype, dense.size())
    assert mask[:, :, :, :tokens] is mask
    assert mask.to(torch.float32) is mask


@pytest.mark.parametrize(
    "work",
    [
        lambda mask: mask + 1,
        lambda mask: torch.randn(mask.shape) + mask,
        lambda mask: mask[..., :-1],
        lambda mask: mask.to(torch.float64),
        lambda mask: mask == 0,
        lambda mask: torch.softmax(mask, -1),
    ],
)
def test_a_mask_has_no_numbers(work: Any) -> None:
    mask, _ = masks(layout_of(random.Random(0), 4), 0)
    with pytest.raises(OtherAttentionError, match="of its attention mask"):
        work(mask)


def test_rows_of_queries_that_are_not_the_one_row_are_refused() -> None:
    mask, _ = masks(layout_of(random.Random(0), 4), 0)
    two = torch.zeros(2, 1, mask.shape[-2], 4)
    with pytest.raises(OtherAttentionError, match="other rows than its layers"):
        scaled_dot_product_attention(two, two, two, attn_mask=mask)


def test_a_model_that_computes_its_attention_itself_reads_padded_rows() -> None:
    absences: list[Absence] = []
    model = LayeredModel(tiny.build("llama", attn_implementation="eager"))
    found = find_capabilities(model, longest=40, absences=absences)
    assert found.packs
    assert not found.padding_free
    (absence,) = absences
    assert (absence.capability, absence.kind) == ("padding_free", DIFFERS)
    assert absence.reason == "it computes add of its attention mask"
    assert "please report" not in absence.words
