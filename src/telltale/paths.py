"""A path through a model's layers: which of them are kept.

Indices are 0-based and always the original, whole model's. Knows nothing of models or torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, order=True)
class LayerPath:
    """The layers kept, strictly increasing, of a model with ``total`` layers.

    Raises:
        InputError: an index outside the model, a repeated or unordered one, or no layer kept.
    """

    kept: tuple[int, ...]
    total: int

    def __post_init__(self) -> None:
        check_layers(self.kept, self.total)
        if any(a >= b for a, b in zip(self.kept, self.kept[1:], strict=False)):
            raise InputError(f"a path's layers must increase, got {list(self.kept)}")
        if not self.kept:
            raise InputError(
                f"removing all {self.total} layers leaves nothing; keep at least one layer"
            )

    @classmethod
    def whole(cls, total: int) -> LayerPath:
        """The path through every layer."""
        return cls(tuple(range(total)), total)

    @classmethod
    def from_removed(cls, removed: Iterable[int], total: int) -> LayerPath:
        """The path through every layer but ``removed``, given in any order."""
        gone = list(removed)
        check_layers(gone, total)
        for layer in gone:
            if gone.count(layer) > 1:
                raise InputError(f"layer {layer} is given twice; name each removed layer once")
        return cls(tuple(layer for layer in range(total) if layer not in gone), total)

    @property
    def removed(self) -> tuple[int, ...]:
        """The layers left out, increasing."""
        return tuple(layer for layer in range(self.total) if layer not in self.kept)

    @property
    def depth(self) -> int:
        """How many layers are kept."""
        return len(self.kept)

    def without(self, layer: int) -> LayerPath:
        """This path with one more layer left out."""
        if layer not in self.kept:
            raise InputError(f"layer {layer} is not on this path, so it cannot be left out")
        return LayerPath(tuple(kept for kept in self.kept if kept != layer), self.total)


def check_layers(layers: Iterable[int], total: int) -> None:
    """Refuse indices that a model with ``total`` layers does not have.

    Raises:
        InputError: names the first of them.
    """
    for layer in layers:
        if not 0 <= layer < total:
            raise InputError(
                f"layer {layer} is not in this model, whose layers are 0-{total - 1} (counted from "
                "0); were the layers chosen on another model?"
            )
