"""An attention mask for texts that lie end to end in one row, without padding.

Whatever of a layer works on each token alone (norms, projections, feed-forward) is given every
token once. Only attention needs the texts apart: it is computed in rows, whose queries, keys and
values are taken from the one row, and what it gives is put back.

No model needs to know: it passes on the mask that it is given, and torch's
`scaled_dot_product_attention` does the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class OtherAttentionError(Exception):
    """A model does something else with its mask than to give it to torch's attention."""


class RowMask(Tensor):
    """A mask of all tokens, (1, 1, tokens, prefix and tokens), as one of the rows that they make.

    It has a shape and no numbers: torch's attention goes through the rows, and any other function
    that asks for numbers is an error.
    """

    rows: Tensor
    columns: Tensor
    key_columns: Tensor
    places: Tensor
    _is: tuple[torch.Size, torch.dtype, int]

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, places: Tensor) -> RowMask:
        """The mask of rows that are made of one.

        Args:
            rows: their own, (rows, 1, length, prefix and length), added to the scores.
            columns: which token of the one row each of theirs is, (rows, length).
            places: where each token is among theirs, row times length and column, (tokens,).
        """
        prefix, tokens = rows.shape[-1] - rows.shape[-2], len(places)
        shown = rows.new_zeros(()).expand(1, 1, tokens, prefix + tokens)
        mask = shown.as_subclass(cls)
        mask._is = shown.shape, shown.dtype, shown.data_ptr()
        before = torch.arange(prefix, device=columns.device).expand(len(columns), prefix)
        mask.rows, mask.columns, mask.places = rows, columns, places
        mask.key_columns = torch.cat([before, columns + prefix], dim=-1)
        return mask

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what torch is asked to do with the mask.

        Raises:
            OtherAttentionError: it would need the mask's numbers.
        """
        given = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func is torch.nn.functional.scaled_dot_product_attention:
                return _attended(*args, **given)
            found = func(*args, **given)
        if not isinstance(found, Tensor):
            return found
        for mask in (one for one in (*args, *given.values()) if isinstance(one, cls)):
            # All of it, as where it is cut to the keys' length.
            if (found.shape, found.dtype, found.data_ptr()) == mask._is:
                return mask
        raise OtherAttentionError(f"it computes {func.__name__} of its attention mask")


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    **given: Any,
) -> Tensor:
    """What `scaled_dot_product_attention` gives, (1, heads, tokens, width), row by row."""
    if not isinstance(attn_mask, RowMask) or len(query) > 1:
        raise OtherAttentionError("its attention is given other rows than its layers")
    found = torch.nn.functional.scaled_dot_product_attention(
        _taken(query, attn_mask.columns),
        _taken(key, attn_mask.key_columns),
        _taken(value, attn_mask.key_columns),
        attn_mask=attn_mask.rows,
        **given,
    )
    back: Tensor = found.transpose(1, 2).flatten(0, 1).index_select(0, attn_mask.places)
    return back.transpose(0, 1)[None]


def _taken(given: Tensor, columns: Tensor) -> Tensor:
    """Some tokens of (1, heads, tokens, width) as (rows, heads, length, width)."""
    one = given[0]
    # What lies together in memory is copied together.
    if one.stride(0) < one.stride(1):
        taken = one.transpose(0, 1).index_select(0, columns.flatten())
        return taken.view(*columns.shape, *taken.shape[1:]).transpose(1, 2)
    taken = one.index_select(1, columns.flatten())
    return taken.view(len(one), *columns.shape, -1).transpose(0, 1)
