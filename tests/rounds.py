"""Rounds of made-up searches, by the layer that is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.searches import Candidate, Found, Round

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from telltale.paths import LayerPath

EXAMPLES = 100


def step(
    parent: LayerPath,
    accuracies: Mapping[int, float],
    chosen: int | None = None,
    values: Mapping[int, float] | None = None,
    *,
    refused: Iterable[int] = (),
    examples: int = EXAMPLES,
) -> Round:
    """A round that leaves out one layer of one model; None is ``chosen`` where none is kept."""
    values = values or accuracies
    tried = {
        (path := parent.without(layer)): Candidate(path, parent, accuracy, values[layer], examples)
        for layer, accuracy in accuracies.items()
    }
    kept = () if chosen is None else (parent.without(chosen),)
    return Round(tried, kept, tuple(map(parent.without, refused)))


def found_by(
    start: LayerPath,
    accuracy: float,
    rounds: Sequence[Round],
    value: float | None = None,
    examples: int = EXAMPLES,
) -> Found:
    """A search that began with a model of that accuracy."""
    origin = Candidate(start, None, accuracy, accuracy if value is None else value, examples)
    return Found(origin, tuple(rounds))


def in_order(start: LayerPath, layers: Iterable[int], accuracies: Iterable[float]) -> list[Round]:
    """Rounds that have one candidate each, which is kept."""
    rounds, path = [], start
    for layer, accuracy in zip(layers, accuracies, strict=False):
        rounds.append(step(path, {layer: accuracy}, layer))
        path = path.without(layer)
    return rounds
