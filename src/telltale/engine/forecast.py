"""What the engine for use will run, told from the paths alone. Knows no torch and no model.

`telltale.engine.shared` runs every layer prefix that paths have in common once, and goes on from
the states that it has kept. So how many layers each path is run through follows from the paths, and
from how many states there is room for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from telltale.engine.prefixes import common_depth, prefixes, walks, worths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from telltale.engine.prefixes import LayerPrefix
    from telltale.paths import LayerPath


def layer_runs(
    paths: Iterable[LayerPath],
    stored: frozenset[LayerPrefix] = frozenset(),
    *,
    in_a_row: bool = False,
) -> dict[LayerPath, int]:
    """How many layers, its last ones, each path is run through when all are measured together.

    Args:
        paths: what is measured; a layer that several share is counted with the first of them.
        stored: the layer prefixes after which the state is kept from before.
        in_a_row: see `telltale.engine.prefixes.worths`.
    """
    found: dict[LayerPath, int] = {}
    previous: LayerPrefix = ()
    for walk in walks(paths):
        kept = walk.path.kept
        begin = common_depth(previous, kept)
        previous = kept
        for depth in range(begin + 1, len(kept) + 1):
            if kept[:depth] in stored:
                begin = depth
            elif in_a_row:
                break
        found[walk.path] = len(kept) - begin
    return found


def states_kept(
    paths: Iterable[LayerPath],
    stored: frozenset[LayerPrefix] = frozenset(),
    *,
    room: float = math.inf,
    in_a_row: bool = False,
) -> frozenset[LayerPrefix]:
    """The layer prefixes whose states are kept once some paths are measured, for those that follow.

    Args:
        paths: what is measured.
        stored: what was kept before.
        room: how many states there is room for, each of all tokens.
        in_a_row: see `telltale.engine.prefixes.worths`.
    """
    runs = layer_runs(paths, stored, in_a_row=in_a_row)
    made = {
        path.kept[:depth]
        for path, count in runs.items()
        for depth in range(max(1, path.depth - count + 1), path.depth)  # an end is of no use
    }
    found = made | (stored & prefixes(runs))
    if len(found) <= room:
        return frozenset(found)
    worth = worths(runs, in_a_row=in_a_row)
    return frozenset(sorted(found, key=lambda one: (-worth[one], one))[: int(room)])
