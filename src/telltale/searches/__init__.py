"""Searches over layer paths, by name. A search is a frozen value that is called with a measure."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.searches.found import Candidate, Certainty, Found, Kept, Round
from telltale.searches.found import removal as Removal  # noqa: N812 - its name until 0.2
from telltale.searches.greedy import GreedyRemoval
from telltale.searches.ranking import RankedRemoval
from telltale.searches.search import Search
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SEARCHES",
    "Candidate",
    "Certainty",
    "Found",
    "GreedyRemoval",
    "Kept",
    "RankedRemoval",
    "Removal",
    "Round",
    "Search",
    "check_search",
    "search_named",
    "search_of",
]

SEARCHES: Mapping[str, Search] = {
    "greedy": GreedyRemoval(),
    "block-influence": RankedRemoval(score="block-influence"),
    "gradient": RankedRemoval(score="gradient"),
    "gradient-absolute": RankedRemoval(score="gradient-absolute"),
    "gradient-squared": RankedRemoval(score="gradient-squared"),
    "angular-distance": RankedRemoval(score="angular-distance"),
    "magnitude": RankedRemoval(score="magnitude"),
    "joint": RankedRemoval(score="joint"),
}


def search_named(name: str) -> Search:
    """The search of that name.

    Raises:
        InputError: there is none.
    """
    if name not in SEARCHES:
        raise InputError(f"`search` must be {one_of(SEARCHES)}, got {name!r}")
    return SEARCHES[name]


def search_of(settings: Mapping[str, Any]) -> Search | None:
    """The search that a study's settings name; None where it was a program of its own."""
    of_method = {search.method: search for search in SEARCHES.values()}
    search = of_method.get(settings["method"])
    if search is None:
        return None
    own = {name: settings[name] for name in search.own_settings if name in settings}
    return replace(search, **own)


# What a field of every search follows from, where that has another name.
GIVEN_AS = {
    "protected": "protect",
    "value": "objective",
    "highest": "objective",
    "admits": "guards",
}
# What a study writes beside a search's own settings.
RESERVED = {"method", "objective", "max_loss", "confidence", "protected", "guards", "scoring"}


def check_search(search: Search) -> None:
    """Refuse a search of one's own that a study cannot run or write down.

    Raises:
        InputError: it has no ``method`` of its own, or another search's; a field that every search
            has is set, which is for `telltale.search` to do; or one of its own is no JSON value.
    """
    kind = type(search).__name__
    is_known = any(type(search) is type(one) for one in SEARCHES.values())
    taken = {one.method for one in SEARCHES.values()}
    method = vars(type(search)).get("method")
    if not is_known and (not isinstance(method, str) or method in taken):
        raise InputError(
            f"the search {kind} needs a method of its own, the words that name it in results, "
            f"other than {', '.join(sorted(taken))}"
        )
    for one in fields(Search):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if getattr(search, one.name) != default:
            name = GIVEN_AS.get(one.name, one.name)
            raise InputError(
                f"the search {kind} has {one.name} set, which a study gives it; leave it out, and "
                f"give telltale.search its `{name}`"
            )
    wrong = RESERVED & search.own_settings.keys()
    if wrong:
        raise InputError(
            f"the search {kind} has a field {wrong.pop()}, as a study has; give it another name"
        )
    try:
        json.dumps(search.own_settings)
    except (TypeError, ValueError) as problem:
        raise InputError(
            f"the settings of the search {kind} cannot be kept as JSON ({problem}); make its "
            "fields numbers, texts, or lists of such"
        ) from None
