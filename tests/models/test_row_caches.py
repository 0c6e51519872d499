"""What rows have in common is held once, and every function of torch sees it as if it were not."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations import sdpa_attention

from telltale.engine.continuing import Cached
from telltale.models.layered import LayerCache
from telltale.models.row_caches import FEWEST_ROWS, Pieces, PromptCache
from telltale.paths import LayerPath
from tests import tiny

WHOLE = LayerPath.whole(4)
PATHS = [WHOLE.without(layer) for layer in WHOLE.kept]
PROMPTS, COLUMNS, HEADS, WIDTH = 3, 5, 2, 8
LENGTHS = [3, 5, 2]
ROWS = len(PATHS) * PROMPTS


def filled() -> tuple[PromptCache, dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]]]:
    """A cache of prompts on four paths, and what was placed in it."""
    torch.manual_seed(1)
    cache = PromptCache(COLUMNS, COLUMNS + 9, PROMPTS, PATHS)
    placed: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor]] = {}
    for path in PATHS:
        for depth in range(1, path.depth + 1):
            prefix = path.kept[:depth]
            if prefix not in placed:
                keys, values = torch.randn(2, PROMPTS, HEADS, COLUMNS, WIDTH)
                placed[prefix] = keys, values
            cache.place(prefix, 0, placed[prefix], LENGTHS)
    return cache, placed


def added(cache: PromptCache, layer: int, rows: int) -> tuple[Any, Any]:
    cache.layer = layer
    keys, values = torch.randn(2, rows, HEADS, 1, WIDTH)
    return cache.update(keys, values)


def test_each_row_has_its_own_prompt_at_the_end_of_the_columns() -> None:
    cache, placed = filled()
    for layer in WHOLE.kept:
        keys, values = (one.whole() for one in added(cache, layer, ROWS))
        for row in range(ROWS):
            path, length = PATHS[row // PROMPTS], LENGTHS[row % PROMPTS]
            if layer in path.kept:
                prefix = path.kept[: path.kept.index(layer) + 1]
                for mine, given in zip((keys, values), placed[prefix], strict=True):
                    expected = given[row % PROMPTS, :, :length]
                    assert torch.equal(mine[row, :, COLUMNS - length : COLUMNS], expected)


def test_a_prompt_that_paths_have_in_common_is_held_once() -> None:
    cache, placed = filled()
    assert cache.bytes == sum(one.nbytes for pair in placed.values() for one in pair)


def test_a_prompt_is_read_by_enough_rows_at_once_whoever_goes_on() -> None:
    cache, _ = filled()
    for rows in (torch.arange(ROWS), torch.tensor([0, 4, 5, 11]), torch.tensor([1, 2])):
        cache.keep(rows, WHOLE.kept)
        for layer in WHOLE.kept:
            keys, _ = added(cache, layer, len(rows))
            assert all(readers.shape[1] >= FEWEST_ROWS for _, readers in keys.prompts)


@pytest.mark.parametrize("kind", ["none", "bool", "float"])
@pytest.mark.parametrize("queries", ["one a head", "several a head", "grouped"])
def test_attention_through_pieces_is_attention_through_the_whole(kind: str, queries: str) -> None:
    cache, _ = filled()
    seen = torch.rand(ROWS, 1, 1, COLUMNS + 1) < 0.7
    seen[..., -1] = True
    low = torch.finfo(torch.float32).min
    masks = {"none": None, "bool": seen, "float": torch.zeros(seen.shape).masked_fill(~seen, low)}
    heads, count = {"one a head": (2, 1), "several a head": (2, 3), "grouped": (6, 1)}[queries]
    asked: dict[str, Any] = {"attn_mask": masks[kind], "enable_gqa": queries == "grouped"}
    for layer in WHOLE.kept:
        keys, values = added(cache, layer, ROWS)
        query = torch.randn(ROWS, heads, count, WIDTH)
        expected = scaled_dot_product_attention(query, keys.whole(), values.whole(), **asked)
        keys.whole = values.whole = pytest.fail
        found = scaled_dot_product_attention(query, keys, values, **asked)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected)


def test_any_other_function_gets_pieces_put_together() -> None:
    cache, _ = filled()
    keys, _ = added(cache, 2, ROWS)
    assert isinstance(keys, Pieces)
    whole = keys.whole()
    assert type(whole) is torch.Tensor
    assert (keys.shape, keys.dtype, keys.device) == (whole.shape, whole.dtype, whole.device)
    for found, expected in [
        (keys * 2, whole * 2),
        (torch.cat([keys, keys], dim=2), torch.cat([whole, whole], dim=2)),
        (keys[:, :, None].expand(-1, -1, 2, -1, -1), whole[:, :, None].expand(-1, -1, 2, -1, -1)),
        (keys.mT, whole.mT),
        (torch.randn(1).mul(0) + keys, whole),
    ]:
        assert type(found) is torch.Tensor
        assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_leave_change_nothing_for_those_that_stay(seed: int) -> None:
    cache, _ = filled()
    source = random.Random(seed)
    expected = {layer: added(cache, layer, ROWS)[0].whole() for layer in WHOLE.kept}
    cache.length += 1
    rows = torch.arange(ROWS)
    while len(rows) > 1:
        before = cache.bytes
        stay = sorted(source.sample(range(len(rows)), source.randint(1, len(rows) - 1)))
        cache.keep(torch.tensor(stay), WHOLE.kept)
        rows = rows[stay]
        assert cache.bytes < before
        for layer in WHOLE.kept:
            cache.layer = layer
            keys, values = added(cache, layer, len(rows))
            reads = [layer in PATHS[row // PROMPTS].kept for row in rows.tolist()]
            found = keys.whole()[:, :, : COLUMNS + 1]
            assert torch.equal(found[reads], expected[layer][rows][reads])
            assert values.shape == keys.shape


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_no_layer_puts_pieces_together(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if family != "gpt2" and not hasattr(sdpa_attention, "pack_gqa"):
        pytest.skip("this release of transformers repeats keys before attention: right, but slower")
    model = tiny.layered(family)
    paths = [model.whole.without(layer) for layer in range(3)]
    tokens = torch.arange(12).reshape(2, 6)
    rows = Cached(model, paths, [6, 4], 3)
    for path in paths:
        prepared = model.prepare(tokens, cache=LayerCache(0))
        model.run_path(path, prepared)
        assert prepared.cache is not None
        held = tuple(prepared.cache.held[layer] for layer in path.kept)
        rows.place(Placed(path, held))
    monkeypatch.setattr(Pieces, "whole", pytest.fail)
    assert rows.step(torch.arange(6)).shape == (6, tiny.VOCABULARY)


class Placed:
    """Two examples at the end of a path, as much of it as `Cached` reads."""

    examples = (0, 1)

    def __init__(self, path: LayerPath, key_values: Any) -> None:
        self.path = path
        self.key_values = key_values
