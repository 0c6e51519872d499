"""From the states at the end of a path to outcomes, by log-likelihoods of choices.

Logits are computed only where a choice's token is predicted, and once for all that are there. The
one place where a choice's log-likelihood is summed and judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from telltale.errors import MeasurementError
from telltale.measure import ChoiceOutcome, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample
    from telltale.engine.layout import Layout
    from telltale.engine.shared import Walked
    from telltale.measure import Batch
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


def token_logliks(logits: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
    """The log-probability of each target where it is predicted, (targets,), in float32.

    Args:
        logits: (positions, vocabulary), in any precision.
        rows: (targets,), the row of ``logits`` that predicts each target.
        targets: (targets,), token ids.
    """
    # Not logsumexp, which is closer to the truth: over a large vocabulary this loses the smallest
    # probabilities (1e-5 a token, seen with 49,152), and so does the harness that ours must equal.
    return torch.log_softmax(logits.float(), dim=-1)[rows, targets]


def judge(
    position: int, example: EncodedExample, logliks: Sequence[float], scoring: Scoring
) -> Outcome:
    """One example's outcome from the total log-likelihood of each of its choices.

    Raises:
        MeasurementError: a log-likelihood is not a number.
    """
    if any(loglik != loglik for loglik in logliks):
        raise MeasurementError(
            f"the model gave NaN for example {position}; try `dtype` float32, since float16 and "
            "bfloat16 can overflow"
        )
    choices = tuple(
        ChoiceOutcome(loglik, *size) for loglik, size in zip(logliks, example.sizes, strict=True)
    )
    answer = scoring.choose(choices)
    return Outcome(position, choices, answer, score=float(answer == example.answer))
