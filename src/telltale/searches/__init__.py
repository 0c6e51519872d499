"""Searches over layer paths, by name. A search is a frozen value that is called with a measure."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.searches.beam import BeamSearch
from telltale.searches.evolution import Evolution, EvolvedRemoval
from telltale.searches.found import Candidate, Certainty, Found, Kept, Round
from telltale.searches.found import removal as Removal  # noqa: N812 - its name until 0.2
from telltale.searches.greedy import GreedyRemoval
from telltale.searches.ranking import (
    BlockRemoval,
    LastLayers,
    PerplexityRemoval,
    RandomRemoval,
    RankedRemoval,
    SlebRemoval,
)
from telltale.searches.search import Search
from telltale.searches.swap import SwapRemoval
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SEARCHES",
    "BeamSearch",
    "BlockRemoval",
    "Candidate",
    "Certainty",
    "Evolution",
    "EvolvedRemoval",
    "Found",
    "GreedyRemoval",
    "Kept",
    "LastLayers",
    "PerplexityRemoval",
    "RandomRemoval",
    "RankedRemoval",
    "Removal",
    "Round",
    "Search",
    "SlebRemoval",
    "SwapRemoval",
    "check_search",
    "name_of",
    "search_named",
    "search_of",
    "source_of",
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
    "last-layers": LastLayers(),
    "random": RandomRemoval(),
    "contiguous": BlockRemoval(),
    "perplexity": PerplexityRemoval(),
    "sleb": SlebRemoval(),
    "evopress": Evolution(),
    "beam": BeamSearch(),
    "swap": SwapRemoval(),
    "evolve": EvolvedRemoval(),
}
# What a number after a search's name sets, such as beam:8.
NUMBERED: Mapping[str, str] = {
    "random": "seed",
    "evopress": "seed",
    "beam": "width",
    "evolve": "seed",
}
# Where each is from.
SOURCES: Mapping[str, str] = {
    "greedy": "TALE (arXiv 2510.22767)",
    "block-influence": "ShortGPT (arXiv 2403.03853)",
    "gradient": "Taylor, signed (arXiv 1611.06440)",
    "gradient-absolute": "Taylor, absolute (arXiv 1611.06440)",
    "gradient-squared": "Taylor, squared (arXiv 1906.10771)",
    "angular-distance": "angular distance of single layers (arXiv 2403.17887)",
    "magnitude": "magnitude (arXiv 2402.02834)",
    "joint": "telltale: information and gradient",
    "last-layers": "the last layers but one (arXiv 2403.17887, section 4.4)",
    "random": "no choice: a random order",
    "contiguous": "angular distance of blocks (arXiv 2403.17887)",
    "perplexity": "Shortened LLaMA, by perplexity (arXiv 2402.02834)",
    "sleb": "SLEB (arXiv 2402.09025)",
    "evopress": "EvoPress (arXiv 2410.14649)",
    "beam": "beam search over TALE's candidates",
    "swap": "floating search (Pudil et al. 1994) over TALE's candidates",
    "evolve": "EvoPress's mutations (arXiv 2410.14649) of TALE's paths",
}


def search_named(name: str, parameter: str = "search") -> Search:
    """The search of that name, or of one with a number, such as ``beam:8`` or ``random:3``.

    Args:
        name: what was given.
        parameter: of which parameter, for a message.

    Raises:
        InputError: there is none, or it cannot have that number.
    """
    own, colon, number = name.partition(":")
    if own not in SEARCHES or (colon and own not in NUMBERED):
        raise InputError(f"`{parameter}` must be {one_of(SEARCHES)}, got {name!r}")
    if not colon:
        return SEARCHES[own]
    if not (number.isascii() and number.isdecimal() and len(number) < 9):
        raise InputError(
            f"`{parameter}` {own} takes a number, its {NUMBERED[own]}, such as {own}:3; got "
            f"{name!r}"
        )
    given: dict[str, Any] = {NUMBERED[own]: int(number)}
    return replace(SEARCHES[own], **given)


def name_of(search: Search) -> str | None:
    """By what name, with a number perhaps, a search is had; None where there is none such."""
    for name, one in SEARCHES.items():
        if one == search:
            return name
        if type(one) is type(search) and (field := NUMBERED.get(name)):
            number = getattr(search, field)
            if replace(one, **{field: number}) == search:
                return f"{name}:{number}"
    return None


def source_of(name: str) -> str:
    """Where the search of that name is from; of one with a number too."""
    return SOURCES[name.partition(":")[0]]


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
    "perplexity": "text",
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
