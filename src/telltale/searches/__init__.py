"""Searches over layer paths, by name. A search is a frozen value that is called with a measure."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.searches.found import Candidate, Found, Kept, Round
from telltale.searches.greedy import GreedyRemoval
from telltale.searches.ranking import RankedRemoval
from telltale.searches.search import Search
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SEARCHES",
    "Candidate",
    "Found",
    "GreedyRemoval",
    "Kept",
    "RankedRemoval",
    "Round",
    "Search",
    "search_named",
]

SEARCHES: Mapping[str, Search] = {
    "greedy": GreedyRemoval(),
    "block-influence": RankedRemoval(score="block-influence"),
    "gradient": RankedRemoval(score="gradient"),
}


def search_named(name: str) -> Search:
    """The search of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SEARCHES:
        raise InputError(f"`search` must be {one_of(SEARCHES)}, got {name!r}")
    return SEARCHES[name]


def __getattr__(name: str) -> Any:
    if name != "Removal":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    said = (
        "telltale.searches.Removal goes in telltale 0.2; a search gives a telltale.searches.Found"
    )
    warnings.warn(said, DeprecationWarning, stacklevel=2)
    return Found
