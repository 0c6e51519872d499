"""In which order to walk paths so that every shared layer prefix runs once, and what to keep.

Knows no torch.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from telltale.paths import LayerPath

LayerPrefix = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Walk:
    """One path, and how many of its first layers a later path of the same plan begins with.

    The states after ``shared_depths`` layers must be held until a path that does not begin with
    them is walked.
    """

    path: LayerPath
    shared_depths: frozenset[int]


def walks(paths: Iterable[LayerPath]) -> tuple[Walk, ...]:
    """Every distinct path once, such that paths with a common prefix follow each other.

    Paths are taken in descending order: of two that part, the one that leaves the earlier layer
    out comes first. In a round of greedy removal only one state is then held at a time.
    """
    ordered = sorted(set(paths), reverse=True)
    found: list[Walk] = []
    for position, path in enumerate(ordered):
        shared = path.depth
        depths = set[int]()
        for later in ordered[position + 1 :]:
            shared = min(shared, common_depth(path.kept, later.kept))
            depths.add(shared)
        found.append(Walk(path, frozenset(depths - {0})))
    return tuple(found)


def common_depth(one: LayerPrefix, other: LayerPrefix) -> int:
    """How many first layers two paths share."""
    depth = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        depth += 1
    return depth


def prefixes(paths: Iterable[LayerPath]) -> frozenset[LayerPrefix]:
    """Every layer prefix of every path, the empty one left out."""
    return frozenset(path.kept[:depth] for path in paths for depth in range(1, path.depth + 1))


def worths(paths: Iterable[LayerPath], *, in_a_row: bool) -> dict[LayerPrefix, float]:
    """What the state after each layer prefix is worth to the next round: the layers it saves.

    It is expected that the next round's paths are one of these with one more layer left out, any
    path and any layer alike. Where layer b comes out of the one that lacks a, what ran on past a
    without b serves up to there; so states of a path's own part are wanted, and few of them, far
    apart, save nearly as much as all.

    Args:
        paths: what is measured in a round.
        in_a_row: whether a state is of use only where all before it are kept as well, as keys and
            values are; else it is enough to go on from.
    """
    distinct = set(paths)
    count = len(distinct)
    sharing = Counter(path.kept[:depth] for path in distinct for depth in range(1, path.depth + 1))
    found: dict[LayerPrefix, float] = {}
    for path in distinct:
        own = next((d for d in range(path.depth, 0, -1) if sharing[path.kept[:d]] > 1), 0)
        for depth in range(1, path.depth + 1):
            prefix, after = path.kept[:depth], path.depth - depth
            if count == 1:  # whatever comes out of it begins so
                worth = float(after > 0)
            elif depth <= own or in_a_row:
                worth = after / count
            else:
                # Every second state of the own part halves the distance between those kept, and
                # every fourth that between those. It saves up to `apart` layers, where the layer
                # that comes out lies among the `apart` after it.
                apart = depth & -depth
                worth = min(apart, depth - own) * min(apart, after) / count
            found[prefix] = max(worth, found.get(prefix, 0.0))
    return found
