"""The method rewritten from its description, on plain tables, as a judge of the search.

A table gives the accuracy of every set of removed layers. Exact fractions, no shared code.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

Table = Callable[[frozenset[int]], Fraction]


def removal_order(
    table: Table,
    layers: int,
    tolerance: Fraction,
    most: int | None,
    values: Table | None = None,
    guarded: Callable[[frozenset[int]], bool] = lambda _: True,
) -> list[int]:
    """By what is taken for a value, of the sets that the table and the guard let stay."""
    floor = table(frozenset()) - tolerance
    gone: list[int] = []
    while len(gone) < layers - 1 and (most is None or len(gone) < most):
        top, top_layer = None, None
        for layer in range(layers):
            if layer not in gone:
                candidate = frozenset([*gone, layer])
                if table(candidate) < floor or not guarded(candidate):
                    continue
                score = (values or table)(candidate)
                if top is None or score > top:
                    top, top_layer = score, layer
        if top_layer is None:
            break
        gone.append(top_layer)
    return gone


def best_and_bsba(table: Table, order: list[int]) -> tuple[list[int], list[int]]:
    best, bsba = [], []
    for count in range(len(order) + 1):
        score = table(frozenset(order[:count]))
        if score > table(frozenset(best)):
            best = order[:count]
        if score >= table(frozenset()):
            bsba = order[:count]
    return best, bsba
