"""Stability: how much a search's choice depends on the examples it was given.

The same search on parts of the search set, of several sizes: which layers every part would remove,
and what BEST gains on the examples of the search set that its part did not have. That judges the
procedure, as cross-fitting does; it says of no model that it is better, since parts overlap. The
held-out set is not looked at.
"""

from __future__ import annotations

import logging
import random
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.measure import accuracy, outcomes_by_path
from telltale.study.measuring import with_halves
from telltale.support.words import layers_named, points
from telltale.tasks.sets import SEARCH
from telltale.tasks.split import SMALLEST_SET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.paths import LayerPath
    from telltale.searches import Search
    from telltale.study.opening import OpenStudy
    from telltale.watcher import Watcher

LOG = logging.getLogger(__name__)
VERSION = 1
SHARES = (0.25, 0.5, 0.75)  # of the search set, where no sizes are given
RESAMPLES = 10


@dataclass(frozen=True, slots=True)
class Within:
    """Measures as another measure does, and tells of some examples only."""

    measure: Measure
    examples: frozenset[int]

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        for found in self.measure(paths, batches):
            kept = tuple(one for one in found.outcomes if one.example in self.examples)
            yield replace(found, outcomes=kept)


@dataclass(frozen=True, slots=True)
class Part:
    """A search on a part of the search set.

    ``removed`` are BEST's layers, in order of removal. ``claimed`` is what it gains on the part
    that chose it, ``unseen`` what it gains on the rest of the search set.
    """

    removed: tuple[int, ...]
    claimed: float
    unseen: float


def sizes_for(given: Sequence[int] | None, examples: int) -> list[int]:
    """The sizes of parts, by default a quarter, a half and three quarters of the search set.

    Raises:
        InputError: a part, or what it leaves, is too small to choose or to judge by.
    """
    sizes = list(given) if given else [round(share * examples) for share in SHARES]
    if not given:
        asked = sizes
        sizes = [size for size in asked if SMALLEST_SET <= size <= examples - SMALLEST_SET]
        if len(sizes) < len(asked):
            dropped = [str(size) for size in asked if size not in sizes]
            LOG.info(
                "Of a search set of %d no parts of %s are searched: a part needs at least %d "
                "examples, and as many must be left to judge it by",
                examples,
                " or ".join(dropped),
                SMALLEST_SET,
            )
    most = examples - SMALLEST_SET
    if most < SMALLEST_SET:
        raise InputError(
            f"a search set of {examples} is too small to search parts of it; give a `limit` of at "
            f"least {2 * SMALLEST_SET}"
        )
    for size in sizes:
        if not SMALLEST_SET <= size <= most:
            raise InputError(
                f"`sizes` must be in [{SMALLEST_SET}, {most}] for a search set of {examples}, got "
                f"{size}; at least {SMALLEST_SET} examples must be left to judge a part by"
            )
    return sorted(set(sizes))


def parts_of(
    clusters: Mapping[int, int], size: int, resamples: int, seed: int
) -> list[tuple[list[int], list[int]]]:
    """Random parts of a set, and for each what may judge it; another seed gives others.

    Args:
        clusters: the set: for each example, by position, a number that is equal for those that
            share a passage. What shares one with a part does not judge it.
        size: how many examples a part has.
        resamples: how many parts.
        seed: chooses them.

    Raises:
        InputError: nothing is left to judge a part by.
    """
    members: dict[int, list[int]] = {}
    for position, cluster in clusters.items():
        members.setdefault(cluster, []).append(position)
    source = random.Random(f"{seed} {size}")
    found = []
    for _ in range(resamples):
        order = source.sample(sorted(members), len(members))
        part = [position for cluster in order for position in members[cluster]][:size]
        taken = {clusters[position] for position in part}
        rest = [position for position, cluster in clusters.items() if cluster not in taken]
        if not rest:
            raise InputError(
                f"parts of {size} examples leave none that shares no passage with them; give "
                "smaller `sizes`"
            )
        found.append((sorted(part), rest))
    return found


def measure_stability(
    study: OpenStudy,
    *,
    sizes: Sequence[int],
    resamples: int,
    watcher: Watcher,
) -> dict[str, Any]:
    """Search every part, and say what they have in common; see `telltale.stability`."""
    if study.settings.search.needs or study.settings.shortlist:
        raise InputError(
            "`search` or `shortlist` goes by a score of layers, which is made of the whole search "
            "set, so it has seen what judges it; give a search that goes by measurements alone, "
            "such as greedy, and no shortlist"
        )
    question, plan, measuring = study.question, study.plan, study.measuring
    positions = question.positions[SEARCH]
    clusters = {position: question.clusters[position] for position in positions}
    search = measuring.search_by(study.settings, plan)
    batches = plan.batches_of(SEARCH)
    measure = measuring.of(SEARCH, watcher)
    found: list[dict[str, Any]] = []
    for size in sizes:
        parts: list[Part] = []
        for part, rest in parts_of(clusters, size, resamples, question.seed):
            watcher.phase(f"{len(parts) + 1} of {resamples} parts of {size}")
            judged = measuring.judged_by(study.settings, plan, measure, part)
            search_part = partial(searched, search, judged, batches, plan.whole, part, rest)
            parts.append(with_halves(search_part, measuring.halve))
        found.append(of_size(size, parts))
    return {
        "version": VERSION,
        "fingerprint": study.fingerprint,
        "search": study.settings.document(),
        "search_examples": len(positions),
        "sizes": found,
        "said": said(found),
    }


def searched(
    search: Search,
    measure: Measure,
    batches: Sequence[Batch],
    start: LayerPath,
    part: Sequence[int],
    rest: Sequence[int],
) -> Part:
    """Search by a part of the examples, and judge BEST by others."""
    removal = search(Within(measure, frozenset(part)), batches, start)
    best = removal.best
    outcomes = outcomes_by_path(measure(list(dict.fromkeys([start, best.path])), batches))
    return Part(
        removed=best.removed,
        claimed=best.accuracy - removal.baseline,
        unseen=_accuracy(outcomes[best.path], rest) - _accuracy(outcomes[start], rest),
    )


def _accuracy(outcomes: Mapping[int, Outcome], examples: Sequence[int]) -> float:
    return accuracy(outcomes[example] for example in examples)


def of_size(size: int, parts: Sequence[Part]) -> dict[str, Any]:
    """What the searches of one size have in common."""
    counts = Counter(layer for part in parts for layer in part.removed)
    order = sorted(counts, key=lambda layer: (-counts[layer], layer))
    return {
        "examples": size,
        "resamples": len(parts),
        "removed": {str(layer): counts[layer] / len(parts) for layer in order},
        "claimed": statistics.mean(part.claimed for part in parts),
        "unseen": statistics.mean(part.unseen for part in parts),
        "unseen_spread": statistics.stdev(part.unseen for part in parts),
        "parts": [
            {"removed": list(part.removed), "claimed": part.claimed, "unseen": part.unseen}
            for part in parts
        ],
    }


def said(sizes: Sequence[Mapping[str, Any]]) -> str:
    """The largest parts in words."""
    last = sizes[-1]
    always = [int(layer) for layer, share in last["removed"].items() if share == 1]
    chosen = f"always removes {layers_named(always)}" if always else "removes no layer always"
    return (
        f"Given {last['examples']} examples, the search {chosen}. Its BEST claims "
        f"{points(last['claimed'])} points on the examples that chose it, and gains "
        f"{points(last['unseen'])} on the rest of the search set, on average over "
        f"{last['resamples']} parts (standard deviation {100 * last['unseen_spread']:.1f}). This "
        "judges the procedure, and shows no model to be better: parts overlap."
    )
