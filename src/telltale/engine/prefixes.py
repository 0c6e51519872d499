"""In which order to walk paths so that every shared layer prefix runs once. Knows no torch."""

from __future__ import annotations

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
