"""What a task is: examples, and the way an answer is scored. Knows no model and no tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from telltale.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model reads it.

    ``context`` is the rendered prompt; a choice is scored as `Task.delimiter` and its text after
    it. Examples that share a ``passage`` always stay on the same side of a split.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    answer: int
    passage: str = ""

    @property
    def digest(self) -> str:
        """Identity by content: equal for the same question, wherever it came from."""
        return sha256_of(self.context, str(self.answer), *self.choices)


class Scoring(StrEnum):
    """How a choice is taken from the log-likelihoods of all."""

    LOGLIK = "loglik"
    LOGLIK_PER_TOKEN = "loglik-per-token"

    def choose(self, logliks: Sequence[float], tokens: Sequence[int]) -> int:
        """The index of the winning choice; the first of equals.

        Args:
            logliks: the total log-likelihood of each choice, in nats.
            tokens: how many tokens each choice has.
        """
        if self is Scoring.LOGLIK_PER_TOKEN:
            merits = [loglik / count for loglik, count in zip(logliks, tokens, strict=True)]
        else:
            merits = list(logliks)
        return max(range(len(merits)), key=merits.__getitem__)


@dataclass(frozen=True, slots=True)
class Task:
    """Labelled examples and how they are scored."""

    name: str
    examples: tuple[Example, ...]
    template: str
    scoring: Scoring = Scoring.LOGLIK
    delimiter: str = " "
