"""A text's perplexity, for searches that go by it: measured as a set is, and remembered.

The text's windows are measured as if they were examples that follow the study's own, of a variant
of the model that bears the text's hash. Knows no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telltale.measure import Batch, outcomes_by_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.measure import Measure
    from telltale.paths import LayerPath

TEXT = "searched_text"  # a fact of the records: the hash and the windows of the text searched by


@dataclass(frozen=True, slots=True)
class TextPerplexity:
    """The perplexity a token of paths, on windows that a measure reads.

    Attributes:
        measure: gives of each window the log-likelihood of all but its start, as its only choice.
        batches: the windows, one each.
    """

    measure: Measure
    batches: Sequence[Batch]

    def __call__(self, paths: Sequence[LayerPath]) -> Mapping[LayerPath, float]:
        """See `telltale.searches.Search.perplexity`."""
        found = outcomes_by_path(self.measure(paths, self.batches))
        perplexities = {}
        for path in paths:
            choices = [outcome.choices[0] for outcome in found[path].values()]
            tokens = sum(choice.tokens for choice in choices)
            perplexities[path] = math.exp(-math.fsum(one.loglik for one in choices) / tokens)
        return perplexities


def text_batches(start: int, windows: int) -> tuple[Batch, ...]:
    """The batches of a text's windows, which come after so many examples."""
    return tuple(Batch((start + window,)) for window in range(windows))


def variant_of(sha256: str) -> str:
    """Under what a text's measurements are kept."""
    return f"text {sha256[:16]}"
