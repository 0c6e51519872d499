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
    wide = logits.float()
    return wide[rows, targets] - torch.logsumexp(wide, dim=-1)[rows]


def judge(
    position: int, example: EncodedExample, logliks: Sequence[float], scoring: Scoring
) -> Outcome:
    """One example's outcome from the total log-likelihood of each of its choices.

    Raises:
        MeasurementError: a log-likelihood is not a number.
    """
    if any(loglik != loglik for loglik in logliks):
        raise MeasurementError(
            f"the model gave NaN for example {position}; try --dtype float32, since float16 and "
            "bfloat16 can overflow"
        )
    answer = scoring.choose(logliks, [len(choice) for choice in example.choices])
    return Outcome(
        example=position,
        choices=tuple(
            ChoiceOutcome(loglik, len(choice), size)
            for loglik, choice, size in zip(
                logliks, example.choices, example.choice_bytes, strict=True
            )
        ),
        answer=answer,
        score=float(answer == example.answer),
    )
