"""From logits to outcomes: the one place where a choice's log-likelihood is summed and judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from telltale.errors import MeasurementError
from telltale.measure import ChoiceOutcome, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample
    from telltale.tasks import Scoring


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
