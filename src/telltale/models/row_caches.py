"""Caches of keys and values whose rows go on token by token.

`RowCache` holds each row's own. `PromptCache` is for rows of several paths: up to a layer from
which they differ, a prompt's keys and values are the same on all of them. These are held once, and
attended to for all of the prompt's rows in one product, which takes a fraction of the time.

No model needs to know: where its attention is torch's `scaled_dot_product_attention`, that is done
in two parts, and wherever else keys and values are used, they are put together first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from telltale.models.layered import LayerCache

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from telltale.models.layered import KeyValue
    from telltale.paths import LayerPath

# A product of fewer rows may be made another way, its sums in another order: on a processor that of
# one row of bfloat16, and of one to three of float32.
FEWEST_ROWS = 4


class RowCache(LayerCache):
    """A cache that is written in place: the rows of one path go on token by token.

    What is ``held`` has more columns than the ``length`` that have come, and is given more in steps
    of ``STEP``.

    Args:
        length: the columns of prompts, which all end at the last of them.
        most: the most tokens of a row.
        prompts: how many prompts there are, each a row.
    """

    STEP = 64

    def __init__(self, length: int, most: int, prompts: int) -> None:
        super().__init__(length)
        self.most = most
        self._prompts = prompts
        self._before = 0  # how many tokens of each row are not in what is held

    def place(
        self, prefix: tuple[int, ...], first: int, key_value: KeyValue, lengths: Sequence[int]
    ) -> None:
        """Place keys and values of the last layer of a prefix.

        Args:
            prefix: the layers that the prompts went through.
            first: the number of the first of these prompts.
            key_value: each (prompts, heads, tokens, head width), padded on the right.
            lengths: the real tokens of each of them.
        """
        if prefix[-1] not in self.held:
            columns = min(self.length + self.STEP, self.most)
            self.held[prefix[-1]] = _zeros(key_value, self._prompts, columns)
        _move_right(self.held[prefix[-1]], first, key_value, lengths, self.length)

    def keep(self, rows: Tensor, layers: Container[int]) -> None:
        """Go on with some rows, by their index, and some layers only."""
        for layer in tuple(self.held):
            keys, values = self.held.pop(layer)
            if layer in layers:
                self.held[layer] = keys[rows], values[rows]

    @property
    def bytes(self) -> int:
        """The memory that it takes."""
        return sum(one.nbytes for pair in self.held.values() for one in pair)

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,  # noqa: ARG002 - see `LayerCache`
        *_: object,
        **__: object,
    ) -> KeyValue:
        """Add to the running layer's keys and values, and return all of them."""
        start = self.length - self._before
        end = start + key_states.shape[-2]
        if self.layer not in self.held:
            self.held[self.layer] = _zeros((key_states, value_states), len(key_states), 0)
        held = self.held[self.layer]
        if held[0].shape[-2] < end:
            most = self.most - self._before
            more = max(min(end + self.STEP, most), end) - held[0].shape[-2]
            keys, values = (torch.nn.functional.pad(one, (0, 0, 0, more)) for one in held)
            held = self.held[self.layer] = keys, values
        held[0][:, :, start:end] = key_states
        held[1][:, :, start:end] = value_states
        return held[0][:, :, :end], held[1][:, :, :end]


class Prompts(NamedTuple):
    """Keys and values of prompts, each (prompts, heads, tokens, head width), and who reads them.

    ``readers`` are the rows that read each prompt, (prompts, most rows), and at least
    `FEWEST_ROWS`; where there are fewer, the first of them fills up.
    """

    keys: Tensor
    values: Tensor
    readers: Tensor

    def kept(self, places: Tensor) -> Prompts | None:
        """Those that are still read, by the rows' new places, -1 for none; None where none is."""
        readers = places[self.readers].sort(dim=-1, descending=True).values
        readers[:, 1:].masked_fill_(readers[:, 1:] == readers[:, :-1], -1)  # what filled up
        readers = readers.sort(dim=-1, descending=True).values
        read = readers[:, 0] >= 0
        if not bool(read.any()):
            return None
        readers = readers[read]
        readers = readers[:, : int((readers >= 0).sum(dim=-1).max())]
        readers = _enough(torch.where(readers < 0, readers[:, :1], readers))
        keys, values = (one if bool(read.all()) else one[read] for one in self[:2])
        return Prompts(keys, values, readers)


class PromptCache(RowCache):
    """A cache of rows that have prompts in common: the same prompts on several paths.

    Args:
        length: the columns of prompts, which all end at the last of them.
        most: the most tokens of a row.
        prompts: how many prompts there are.
        paths: each has a row for each prompt, one path after another.
    """

    def __init__(self, length: int, most: int, prompts: int, paths: Sequence[LayerPath]) -> None:
        super().__init__(length, most, prompts)
        self._before = self._columns = length
        self._rows = prompts * len(paths)
        self._readers: dict[tuple[int, ...], list[int]] = {}  # paths' numbers, by what they share
        for number, path in enumerate(paths):
            for depth in range(1, path.depth + 1):
                self._readers.setdefault(path.kept[:depth], []).append(number)
        # Prompts with equally many readers lie together.
        self._alike: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for prefix, numbers in self._readers.items():
            self._alike.setdefault((prefix[-1], len(numbers)), []).append(prefix)
        self._held_prompts: dict[int, dict[int, Prompts]] = {}  # by layer and number of readers
        self._placed: set[tuple[tuple[int, ...], int]] = set()

    def place(
        self, prefix: tuple[int, ...], first: int, key_value: KeyValue, lengths: Sequence[int]
    ) -> None:
        """See `RowCache.place`. What is there is not placed again."""
        if (prefix, first) in self._placed:
            return
        self._placed.add((prefix, first))
        of_layer = self._held_prompts.setdefault(prefix[-1], {})
        count = len(self._readers[prefix])
        alike = self._alike[prefix[-1], count]
        if count not in of_layer:
            readers = torch.tensor([self._readers[one] for one in alike])[:, None] * self._prompts
            readers = (readers + torch.arange(self._prompts)[:, None]).flatten(0, 1)
            zeros = _zeros(key_value, len(alike) * self._prompts, self._columns)
            of_layer[count] = Prompts(*zeros, _enough(readers).to(key_value[0].device))
        start = alike.index(prefix) * self._prompts + first
        _move_right(of_layer[count][:2], start, key_value, lengths, self._columns)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> KeyValue:
        """Add to the running layer's keys and values, and return all of them, in pieces."""
        keys, values = super().update(key_states, value_states, 0)
        prompts = self._held_prompts.get(self.layer, {}).values()
        return (
            Pieces.of([(one.keys, one.readers) for one in prompts], self._columns, keys),
            Pieces.of([(one.values, one.readers) for one in prompts], self._columns, values),
        )

    def keep(self, rows: Tensor, layers: Container[int]) -> None:
        """See `RowCache.keep`."""
        super().keep(rows, layers)
        places = torch.full((self._rows,), -1, device=rows.device)
        self._rows = len(rows)
        places[rows] = torch.arange(len(rows), device=rows.device)
        for layer in tuple(self._held_prompts):
            of_layer = self._held_prompts.pop(layer)
            if layer in layers:
                kept = {count: one.kept(places) for count, one in of_layer.items()}
                self._held_prompts[layer] = {n: one for n, one in kept.items() if one is not None}

    @property
    def bytes(self) -> int:
        """See `RowCache.bytes`."""
        prompts = (one for of_layer in self._held_prompts.values() for one in of_layer.values())
        return super().bytes + sum(one.keys.nbytes + one.values.nbytes for one in prompts)


class Pieces(Tensor):
    """Keys or values, (rows, heads, tokens, width), as `Prompts` of rows and what comes after.

    It has a shape and no numbers: torch's attention goes through the pieces, and any other
    function gets them put together.
    """

    prompts: Sequence[tuple[Tensor, Tensor]]  # each with its readers
    columns: int  # the tokens of prompts
    written: Tensor

    @classmethod
    def of(cls, prompts: Sequence[tuple[Tensor, Tensor]], columns: int, written: Tensor) -> Pieces:
        """Some rows' prompts, and what was written after them."""
        rows, heads, tokens, width = written.shape
        shape = (rows, heads, columns + tokens, width)
        pieces = written.new_empty(()).expand(shape).as_subclass(cls)
        pieces.prompts, pieces.columns, pieces.written = prompts, columns, written
        return pieces

    def whole(self) -> Tensor:
        """All of it, in one piece."""
        rows, heads, _, width = self.written.shape
        before = self.written.new_zeros((rows, heads, self.columns, width))
        for tensor, readers in self.prompts:
            before[readers] = tensor[:, None]
        return torch.cat([before, self.written], dim=-2)

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what torch is asked to do with pieces."""
        given = kwargs or {}
        with torch._C.DisableTorchFunctionSubclass():
            if func in _TRAITS:
                return func(*args, **given)
            if func is torch.nn.functional.scaled_dot_product_attention:
                found = _attended(*args, **given)
                if found is not None:
                    return found
            return func(*(_whole(one) for one in args), **{k: _whole(v) for k, v in given.items()})


_TRAITS = frozenset(
    getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad")
)


def _whole(given: Any) -> Any:
    """What a function of torch is given, pieces put together."""
    if isinstance(given, Pieces):
        return given.whole()
    if isinstance(given, list | tuple):
        return type(given)(map(_whole, given))
    return given


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """What `scaled_dot_product_attention` gives; None where pieces are no help."""
    if not isinstance(key, Pieces) or not isinstance(value, Pieces) or dropout_p or is_causal:
        return None
    rows, heads, tokens, width = key.shape
    if query.shape[1] != heads:
        if not enable_gqa or query.shape[2] != 1:
            return None
        if attn_mask is not None and attn_mask.dim() == len(query.shape) and attn_mask.shape[1] > 1:
            attn_mask = attn_mask.reshape(rows, heads, -1, tokens)
    asked = query.reshape(rows, heads, -1, width) * (width**-0.5 if scale is None else scale)
    columns = key.columns
    scores = asked.new_zeros((*asked.shape[:3], tokens))
    scores[..., columns:] = asked @ key.written.transpose(-1, -2)
    for keys, readers in key.prompts:
        found = _by_prompt(asked, readers) @ keys.transpose(-1, -2)
        scores[readers, :, :, :columns] = _by_row(found, readers)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill_(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores += attn_mask
    weights = scores.softmax(dim=-1)
    output = weights[..., columns:] @ value.written
    for values, readers in value.prompts:
        found = _by_prompt(weights[..., :columns], readers) @ values
        output[readers] = output[readers] + _by_row(found, readers)
    return output.reshape(*query.shape[:3], output.shape[-1])


def filled(rows: Tensor, fewest: int) -> Tensor:
    """At least so many rows, (rows, ...): where there are fewer, the first fills up."""
    lacking = fewest - len(rows)
    if lacking <= 0:
        return rows
    return torch.cat([rows, rows[:1].expand(lacking, *rows.shape[1:])])


def _enough(readers: Tensor) -> Tensor:
    """Enough readers of each prompt, (prompts, rows)."""
    return filled(readers.T, FEWEST_ROWS).T


def _by_prompt(given: Tensor, readers: Tensor) -> Tensor:
    """(rows, heads, queries, any) as (prompts, heads, readers times queries, any)."""
    return given[readers].transpose(1, 2).flatten(2, 3)


def _by_row(given: Tensor, readers: Tensor) -> Tensor:
    """(prompts, heads, readers times queries, any) as (prompts, readers, heads, queries, any)."""
    prompts, heads, _, width = given.shape
    return given.reshape(prompts, heads, readers.shape[1], -1, width).transpose(1, 2)


def _zeros(key_value: KeyValue, rows: int, columns: int) -> KeyValue:
    """Room for keys and values like these, in so many rows and columns."""
    keys, values = (one.new_zeros((rows, one.shape[1], columns, one.shape[3])) for one in key_value)
    return keys, values


def _move_right(
    held: Sequence[Tensor],
    first: int,
    key_value: KeyValue,
    lengths: Sequence[int],
    end: int,
) -> None:
    """Place rows, padded on the right, from a first one on, so that they end at a column."""
    for mine, given in zip(held, key_value, strict=True):
        for row, (own, length) in enumerate(zip(given, lengths, strict=True), start=first):
            mine[row, :, end - length : end] = own[:, :length]
