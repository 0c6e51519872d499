"""Reading log-likelihoods of choices: what an engine does at the end of a path.

Logits are computed only where a choice's token is predicted, and once for all that are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from telltale.engine.scoring import judge, token_logliks

if TYPE_CHECKING:
    from torch import Tensor

    from telltale.engine.layout import Layout
    from telltale.engine.shared import Walked
    from telltale.measure import Batch, Outcome
    from telltale.models.layered import LayeredModel
    from telltale.tasks import Scoring

# A CPU lays out the whole head anew for each product, so few large ones: 128 MiB of float32.
LOGITS_AT_ONCE = 2**25


@dataclass(frozen=True, slots=True)
class Choosing:
    """Takes the choice that ``scoring`` prefers. See `telltale.engine.shared.Reader`."""

    scoring: Scoring
    needs_key_values: bool = False

    def __call__(
        self, model: LayeredModel, batch: Batch, walked: Walked
    ) -> tuple[tuple[Outcome, ...], int]:
        """Read one batch."""
        logliks = read_logliks(model, walked.layout, walked.hidden)
        outcomes = tuple(
            judge(position, example, of_choices, self.scoring)
            for position, example, of_choices in zip(
                batch.examples, walked.examples, logliks, strict=True
            )
        )
        return outcomes, 0

    def for_timing(self) -> Choosing:
        """Itself: what it does depends on no answer."""
        return self


def read_logliks(model: LayeredModel, layout: Layout, hidden: Tensor) -> list[list[float]]:
    """For each example, the total log-likelihood of each of its choices.

    Args:
        model: what turns states into logits.
        layout: where the choices are.
        hidden: the state after the last layer, (rows, length, width).
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    reads = [
        (position, target)
        for spans in layout.spans
        for span in spans
        for position, target in zip(span.positions, span.targets, strict=True)
    ]
    positions = sorted({position for position, _ in reads})
    logliks = dict[tuple[int, int], float]()
    by_position: dict[int, list[tuple[int, int]]] = {}
    for read in dict.fromkeys(reads):
        by_position.setdefault(read[0], []).append(read)
    at_once = max(1, LOGITS_AT_ONCE // model.vocabulary)
    for start in range(0, len(positions), at_once):
        chunk = positions[start : start + at_once]
        here = [(row, read) for row, position in enumerate(chunk) for read in by_position[position]]
        values = token_logliks(
            model.logits(flat[chunk]),
            torch.tensor([row for row, _ in here], device=hidden.device),
            torch.tensor([target for _, (_, target) in here], device=hidden.device),
        )
        logliks.update(zip((read for _, read in here), values.tolist(), strict=True))
    return [
        [
            sum(logliks[read] for read in zip(span.positions, span.targets, strict=True))
            for span in spans
        ]
        for spans in layout.spans
    ]
