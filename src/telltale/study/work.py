"""What a search takes by itself, counted from the paths it asks for and not from what was run.

Methods that are compared share a study's records, so that what one has measured costs the next
nothing. Counted is what the engine would run, had the records been empty and were there room for
all states that it can go on from (`telltale.engine.forecast`, `telltale.engine.shared`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from telltale.engine.forecast import layer_runs, states_kept
from telltale.engine.prefixes import prefixes
from telltale.measure import closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from telltale.engine.prefixes import LayerPrefix
    from telltale.measure import Batch, Measure, Measurement
    from telltale.paths import LayerPath
    from telltale.searches import Search

TEXT, TOKEN_PREFIX = "text", "token prefix"  # what is read beside batches


@dataclass
class EngineWork:
    """Counts what an engine runs, and notes which states it can go on from.

    As the engine does, it holds states that this round or the one before can read; a path with
    fewer layers than all before it begins a round.
    """

    layer_tokens: int = 0
    _seen: set[tuple[Batch | str, LayerPath]] = field(default_factory=set)
    _stored: dict[Batch | str, frozenset[LayerPrefix]] = field(
        default_factory=lambda: defaultdict(frozenset)
    )
    _round: frozenset[LayerPath] = frozenset()
    _before: frozenset[LayerPath] = frozenset()

    def add(self, read: Batch | str, paths: Iterable[LayerPath], tokens: int) -> None:
        """Paths are measured together on what has so many tokens; but for what was before."""
        new = [path for path in paths if (read, path) not in self._seen]
        if not new:
            return
        self._note(frozenset(new))
        stored = self._stored[read]
        self.layer_tokens += tokens * sum(layer_runs(new, stored).values())
        self._stored[read] = stored | states_kept(new, stored)
        self._seen.update((read, path) for path in new)

    def _note(self, asked: frozenset[LayerPath]) -> None:
        if asked <= self._round:
            return
        if self._round and _shallowest(asked) < _shallowest(self._round):
            self._before, self._round = self._round, frozenset()
        self._round |= asked
        wanted = prefixes(self._round | self._before)
        for read, stored in self._stored.items():
            self._stored[read] = stored & wanted


def _shallowest(paths: Iterable[LayerPath]) -> int:
    return min(path.depth for path in paths)


@dataclass
class Work:
    """Counts what a search and its measure are asked for.

    Attributes:
        tokens_in: how many tokens are read of a batch.
        prefix_tokens: how many come before each batch, and are read once a path.
        text_tokens: how many the text has.
        paths: those that were measured on the search set, in whole or in part.
    """

    tokens_in: Callable[[Batch], int]
    prefix_tokens: int = 0
    text_tokens: int = 0
    paths: set[LayerPath] = field(default_factory=set)
    _examples: EngineWork = field(default_factory=EngineWork)
    _text: EngineWork = field(default_factory=EngineWork)

    @property
    def layer_tokens(self) -> int:
        """Tokens times the layers that they go through, so far."""
        return self._examples.layer_tokens + self._text.layer_tokens

    def counting(self, search: Search, measure: Measure) -> tuple[Search, Measure]:
        """A search and its measure, which do the same and are counted."""
        perplexity = search.perplexity

        def counted_text(paths: Sequence[LayerPath]) -> Mapping[LayerPath, float]:
            self._text.add(TEXT, paths, self.text_tokens)
            return perplexity(paths)

        def counted(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            asked: dict[Batch, list[LayerPath]] = {}
            try:
                with closing(measure(paths, batches)) as measurements:
                    for one in measurements:
                        asked.setdefault(one.batch, []).append(one.path)
                        yield one
            finally:  # also where the caller has left
                for batch, of_batch in asked.items():
                    self._examples.add(TOKEN_PREFIX, of_batch, self.prefix_tokens)
                    self._examples.add(batch, of_batch, self.tokens_in(batch))
                    self.paths.update(of_batch)

        return replace(search, perplexity=counted_text), counted
