"""From the states at the end of a path to outcomes, by log-likelihoods of choices.

Logits are computed only where a choice's token is predicted, and once for all that are there. The
one place where a choice's log-likelihood is summed and judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from telltale.engine.transfers import Fetched
from telltale.errors import MeasurementError
from telltale.measure import ChoiceOutcome, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample
    from telltale.engine.layout import Reads
    from telltale.engine.shared import Walked
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel
    from telltale.tasks import Scoring

# A CPU lays out the whole head anew for each product, so few large ones: 128 MiB of float32.
LOGITS_AT_ONCE = 2**25
# Of them, and for each of its threads, so many are made log-probabilities together: 4 MiB, which
# stays in its cache, where new memory for all would be as dear as the product.
SOFTMAX_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class Choosing:
    """Takes the choice that ``scoring`` prefers. See `telltale.engine.shared.Reader`."""

    scoring: Scoring
    needs_key_values: bool = False

    def __call__(
        self, model: LayeredModel, batch: Batch, walked: Walked
    ) -> Callable[[], tuple[Outcome, ...]]:
        """Begin to read one batch."""
        reads, examples = walked.reads, walked.examples
        # No state is held by what is given: the next path is walked before it is called.
        fetched = Fetched(read_logliks(model, reads, walked.hidden))
        spans = walked.layout.spans

        def outcomes() -> tuple[Outcome, ...]:
            logliks = dict(zip(reads.places, fetched.numbers(), strict=True))
            return tuple(
                judge(
                    position,
                    example,
                    [
                        sum(
                            logliks[place] for place in zip(one.positions, one.targets, strict=True)
                        )
                        for one in of_choices
                    ],
                    self.scoring,
                )
                for position, example, of_choices in zip(
                    batch.examples, examples, spans, strict=True
                )
            )

        return outcomes


def read_logliks(model: LayeredModel, reads: Reads, hidden: Tensor) -> Tensor:
    """The log-probability of each token that is read, (places,), in float32.

    Args:
        model: what turns states into logits.
        reads: which tokens are predicted where.
        hidden: the state after the last layer, (rows, length, width).
    """
    flat = hidden.flatten(0, 1)
    at_once = max(1, LOGITS_AT_ONCE // model.vocabulary)
    found = [hidden.new_empty(0, dtype=torch.float32)]
    for part in _parts(range(len(reads.firsts)), at_once):
        logits = model.logits(flat.index_select(0, reads.positions[part.start : part.stop]))
        few = at_once
        if logits.device.type == "cpu":
            few = torch.get_num_threads() * max(1, SOFTMAX_AT_ONCE // model.vocabulary)
        for rows in _parts(part, few):
            last = reads.firsts[rows.stop] if rows.stop < len(reads.firsts) else len(reads.places)
            places = slice(reads.firsts[rows.start], last)
            found.append(
                token_logliks(
                    logits[rows.start - part.start : rows.stop - part.start],
                    reads.rows[places] - rows.start,
                    reads.targets[places],
                )
            )
    return torch.cat(found)


def _parts(whole: range, size: int) -> Iterator[range]:
    """A range in parts of so many."""
    for start in whole[::size]:
        yield range(start, min(start + size, whole.stop))


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
