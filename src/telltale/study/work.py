"""What a search takes by itself, counted from the paths it asks for and not from what was run.

Methods that are compared share a study's records, so that what one has measured costs the next
nothing. Counted is what the engine would run, had the records been empty: as
`telltale.engine.forecast` says, of every call, with the states kept of the calls before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from telltale.engine.forecast import layer_runs, states_kept
from telltale.measure import closing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from telltale.engine.prefixes import LayerPrefix
    from telltale.measure import Batch, Measure, Measurement
    from telltale.paths import LayerPath
    from telltale.searches import Search

TEXT = "text"  # what stands for all of the text, among batches


@dataclass
class Work:
    """Counts what a search and its measure are asked for.

    Attributes:
        tokens_in: how many tokens are read of a batch.
        text_tokens: how many the text has.
        layer_tokens: the sum so far.
        paths: those that were measured on the search set, in whole or in part.
    """

    tokens_in: Callable[[Batch], int]
    text_tokens: int
    layer_tokens: int = 0
    paths: set[LayerPath] = field(default_factory=set)
    _seen: set[tuple[Batch | str, LayerPath]] = field(default_factory=set)
    _stored: dict[Batch | str, frozenset[LayerPrefix]] = field(default_factory=dict)

    def counting(self, search: Search, measure: Measure) -> tuple[Search, Measure]:
        """A search and its measure, which do the same and are counted."""
        perplexity = search.perplexity

        def counted_text(paths: Sequence[LayerPath]) -> Mapping[LayerPath, float]:
            self._add(TEXT, paths, self.text_tokens)
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
                    self._add(batch, of_batch, self.tokens_in(batch))
                    self.paths.update(of_batch)

        return replace(search, perplexity=counted_text), counted

    def _add(self, read: Batch | str, paths: Iterable[LayerPath], tokens: int) -> None:
        """Paths are measured together on a batch; what was measured before is remembered."""
        new = [path for path in paths if (read, path) not in self._seen]
        stored = self._stored.get(read, frozenset())
        self.layer_tokens += tokens * sum(layer_runs(new, stored).values())
        self._stored[read] = states_kept(new, stored) if new else stored
        self._seen.update((read, path) for path in new)
