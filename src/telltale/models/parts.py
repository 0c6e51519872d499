"""Parts of a layer that work on each token by itself, found by trying.

Where a layer's output is wanted at some tokens alone, a part is run at these alone if its output at
a token follows from its input there, and bears on the layer's output there and nowhere else: a
feed-forward block, say, or the projection to queries, but not that to keys. Nothing is assumed of
names. A part is replaced for one call, and stands again after it whatever happens.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn

# The share of a layer's parameters that a part must have: a smaller one is not worth gathering for.
LEAST_SHARE = 0.05
STEPS = 16  # of the precision, by which two ways of computing the same may differ


def find_parts(
    layer: nn.Module, run: Callable[[], Tensor], shape: torch.Size, positions: Tensor
) -> tuple[str, ...]:
    """The parts, the largest that will do, by their names in the layer.

    A part is tried by giving it, and taking from it, NaN at all tokens but some: where the layer's
    output at these is then what it was, no number went from one token to another in the part or
    after it. At last all are tried together, as they are to be used.

    Args:
        layer: the layer.
        run: runs it on an example, and gives its output, (rows, tokens, width).
        shape: rows and tokens of the example.
        positions: flat, (positions,): those to keep, with others before them in their rows.
    """
    kept = torch.zeros(shape.numel(), dtype=torch.bool, device=positions.device)
    kept[positions] = True
    expected = run().flatten(0, 1)[positions]
    allowed = STEPS * torch.finfo(expected.dtype).eps * float(expected.abs().max())

    def is_right() -> bool:
        try:
            difference = (run().flatten(0, 1)[positions] - expected).abs().max()
        except Exception:  # whatever a part raises, it is run whole
            return False
        return float(difference) <= allowed  # which no NaN is

    def works(part: nn.Module) -> bool:
        with replaced_forwards([part], [_spoiled(part.forward, kept.reshape(shape))]):
            return is_right()

    least = LEAST_SHARE * _size(layer)

    def search(module: nn.Module, before: str) -> Iterator[str]:
        for name, part in module.named_children():
            if _size(part) < least:
                continue
            if works(part):
                yield before + name
            else:
                yield from search(part, f"{before}{name}.")

    found = tuple(search(layer, ""))
    with only_at(layer, found, shape, positions):
        return found if is_right() else ()


@contextmanager
def only_at(
    layer: nn.Module, parts: Sequence[str], shape: torch.Size, positions: Tensor
) -> Iterator[None]:
    """Run some parts of a layer at some positions alone within a block; elsewhere they give 0.

    Args:
        layer: the layer.
        parts: their names in it.
        shape: rows and tokens of what the layer is given.
        positions: flat, (positions,).
    """
    modules = [layer.get_submodule(name) for name in parts]
    functions = [_gathered(module.forward, shape, positions) for module in modules]
    with replaced_forwards(modules, functions):
        yield


def _gathered(
    forward: Callable[..., Any], shape: torch.Size, positions: Tensor
) -> Callable[..., Any]:
    """A part's forward, run at some positions as if they were one row."""

    def gather(value: Tensor) -> Tensor:
        return value.flatten(0, 1).index_select(0, positions)[None]

    def scatter(value: Tensor) -> Tensor:
        whole = value.new_zeros(shape.numel(), *value.shape[2:])
        return whole.index_copy_(0, positions, value[0]).reshape(*shape, *value.shape[2:])

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _changed(gather, shape, (args, kwargs))
        return _changed(scatter, torch.Size((1, len(positions))), forward(*args, **kwargs))

    return run


def _spoiled(forward: Callable[..., Any], kept: Tensor) -> Callable[..., Any]:
    """A part's forward that is given, and gives, NaN at tokens that are not kept."""

    def spoil(value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        return value.masked_fill(~kept.reshape(*kept.shape, *[1] * (value.dim() - 2)), torch.nan)

    def run(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = _changed(spoil, kept.shape, (args, kwargs))
        return _changed(spoil, kept.shape, forward(*args, **kwargs))

    return run


def _changed(change: Callable[[Tensor], Tensor], shape: torch.Size, value: Any) -> Any:
    """What a part is given or gives, with its tensors of (rows, tokens, ...) changed."""
    if isinstance(value, Tensor) and value.shape[:2] == shape:
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_changed(change, shape, one) for one in value)
    if type(value) is dict:
        return {name: _changed(change, shape, one) for name, one in value.items()}
    return value


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def replaced_forwards(
    layers: Sequence[nn.Module], functions: Sequence[Callable[..., Any]]
) -> Iterator[None]:
    """Call ``functions`` in place of the layers' forwards within a block."""
    # A layer may have a forward of its own instance (accelerate sets one), which comes back after.
    own = [layer.__dict__.get("forward") for layer in layers]
    try:
        for layer, function in zip(layers, functions, strict=True):
            layer.__dict__["forward"] = function
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.__dict__["forward"] = forward
