"""The oracle: one choice at a time, its whole text through every layer, logits everywhere.

Slow, and short enough to be obviously right. The shared engine must give the same outcomes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from telltale.engine.choosing import judge, token_logliks
from telltale.measure import Measurement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel
    from telltale.paths import LayerPath
    from telltale.tasks import Scoring


class NaiveEngine:
    """Measures paths on encoded examples, which batches name by position."""

    def __init__(
        self, model: LayeredModel, examples: Sequence[EncodedExample], scoring: Scoring
    ) -> None:
        self.model = model
        self.examples = examples
        self.scoring = scoring

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        for batch in batches:
            for path in paths:
                outcomes = []
                layer_tokens = 0
                for position in batch.examples:
                    example = self.examples[position]
                    logliks = [
                        self._loglik(path, example.context, choice, size.tokens)
                        for choice, size in zip(example.choices, example.sizes, strict=True)
                    ]
                    outcomes.append(judge(position, example, logliks, self.scoring))
                    layer_tokens += path.depth * sum(
                        len(example.context) + len(choice) - 1 for choice in example.choices
                    )
                yield Measurement(batch, path, tuple(outcomes), layer_tokens)

    def _loglik(self, path: LayerPath, context: Tokens, choice: Tokens, scored: int) -> float:
        """The total log-likelihood of a choice's last ``scored`` tokens."""
        device = self.model.device
        tokens = torch.tensor([[*context, *choice[:-1]]], device=device)
        hidden = self.model.run_path(path, self.model.prepare(tokens))
        logits = self.model.logits(hidden[0])[-scored:]
        targets = torch.tensor(choice[-scored:], device=device)
        logliks = token_logliks(logits, torch.arange(scored, device=device), targets)
        return float(sum(logliks.tolist()))
