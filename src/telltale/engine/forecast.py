"""What the engine for use will run, told from the paths alone. Knows no torch and no model.

`telltale.engine.shared` runs every layer prefix that paths have in common once, and goes on from
the states that it has kept. So how many layers each path is run through follows from the paths, and
from how many states there is room for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from telltale.engine.prefixes import common_depth, prefixes, walks, worths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from telltale.engine.prefixes import LayerPrefix
    from telltale.paths import LayerPath


class Sharing(NamedTuple):
    """How an engine shares what it runs.

    ``in_a_row``: a state is of use only where all before it are kept, as keys and values are.
    ``ends_apart``: a path's last layer is run for it alone, since it is read in part.
    """

    in_a_row: bool = False
    ends_apart: bool = False


PLAIN = Sharing()


def layer_runs(
    paths: Iterable[LayerPath],
    stored: frozenset[LayerPrefix] = frozenset(),
    sharing: Sharing = PLAIN,
) -> dict[LayerPath, int]:
    """How many layers, its last ones, each path is run through when all are measured together.

    Args:
        paths: what is measured; a layer that several share is counted with the first of them.
        stored: the layer prefixes after which the state is kept from before.
        sharing: how.
    """
    found: dict[LayerPath, int] = {}
    previous: LayerPrefix = ()
    for walk in walks(paths):
        kept = walk.path.kept
        last = len(kept) - sharing.ends_apart  # how many layers may be begun with
        begin = min(common_depth(previous, kept), last)
        previous = kept
        for depth in range(begin + 1, last + 1):
            if kept[:depth] in stored:
                begin = depth
            elif sharing.in_a_row:
                break
        found[walk.path] = len(kept) - begin
    return found


def states_kept(
    paths: Iterable[LayerPath],
    stored: frozenset[LayerPrefix] = frozenset(),
    sharing: Sharing = PLAIN,
    *,
    room: float = math.inf,
) -> frozenset[LayerPrefix]:
    """The layer prefixes whose states are kept once some paths are measured, for those that follow.

    Args:
        paths: what is measured.
        stored: what was kept before.
        sharing: how.
        room: how many states there is room for, each of all tokens.
    """
    runs = layer_runs(paths, stored, sharing)
    made = {
        path.kept[:depth]
        for path, count in runs.items()
        for depth in range(max(1, path.depth - count + 1), path.depth)  # an end is of no use
    }
    found = made | (stored & prefixes(runs))
    if len(found) <= room:
        return frozenset(found)
    worth = worths(runs, in_a_row=sharing.in_a_row)
    return frozenset(sorted(found, key=lambda one: (-worth[one], one))[: int(room)])
