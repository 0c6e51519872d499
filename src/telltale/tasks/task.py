"""What a task is: examples, and the way an answer is scored. Knows no model and no tokens.

Two ways to answer. By log-likelihood, each choice is scored as what comes after the prompt. By
generation, the model writes, and an answer is read from its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from telltale.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model reads it.

    ``context`` is the rendered prompt; a choice is scored as `Task.delimiter` and its text after
    it. Where text is generated, ``choices`` are the answers that could be read from it: letters, or
    the right answer alone. Examples that share a ``passage`` always stay on the same side of a
    split.
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


class Protocol(StrEnum):
    """How a model is asked: by log-likelihood, in a chat's turn, or to go on with plain text."""

    LOGLIK = "loglik"
    CHAT = "chat"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Generation:
    """How text is generated, greedily, and how an answer is read from it.

    ``extract`` is a name that `telltale.tasks.answers.extraction` knows. Text ends before the first
    of ``stop``, at the model's own end, or at ``max_new_tokens``.
    """

    chat: bool
    extract: str
    max_new_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """Labelled examples and how they are scored: by ``generation``, or by ``scoring``."""

    name: str
    examples: tuple[Example, ...]
    template: str
    scoring: Scoring = Scoring.LOGLIK
    delimiter: str = " "
    generation: Generation | None = None

    @property
    def protocol(self) -> Protocol:
        """How the model is asked."""
        if self.generation is None:
            return Protocol.LOGLIK
        return Protocol.CHAT if self.generation.chat else Protocol.TEXT

    def settings(self) -> dict[str, Any]:
        """All that decides how an example is asked and scored, as JSON values."""
        if self.generation is None:
            return {
                "protocol": self.protocol.value,
                "scoring": self.scoring.value,
                "delimiter": self.delimiter,
            }
        return {
            "protocol": self.protocol.value,
            "extract": self.generation.extract,
            "max_new_tokens": self.generation.max_new_tokens,
            "stop": list(self.generation.stop),
        }
