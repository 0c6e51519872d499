"""The type of a task: examples, and how answers are scored. Knows no model and no tokens.

Two ways to answer. By log-likelihood, each choice is scored as what comes after the prompt. By
generation, the model writes, and an answer is read from its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple
from typing import Protocol as Interface

from telltale.support.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.measure import ChoiceOutcome, Outcome

SEPARATOR = "\n\n"  # after each example that is shown before a question in plain text


class Shot(NamedTuple):
    """An example with its answer, shown before the question."""

    question: str
    answer: str


class Request(NamedTuple):
    """A context and the continuation that is scored, which is empty where text is generated."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Example:
    """One question as the model reads it.

    ``context`` is the question's own prompt, by which it is known. ``description`` and ``shots``
    are read before it. A choice is scored as `Task.delimiter` and its text after it, unless
    ``requests`` say otherwise, one for each choice. Where text is generated, ``choices`` are the
    answers that could be read from it: letters, or the right answer alone. Examples that share a
    ``passage`` always stay on the same side of a split. ``part`` is the task that an example of
    several tasks together is from. ``is_shown`` says that it is also a shot before others: a
    harness asks it all the same, and a search must not. ``content`` is a hash of what is asked,
    whatever the prompt; empty where the example came without a row.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    answer: int
    passage: str = ""
    description: str = ""
    shots: tuple[Shot, ...] = ()
    requests: tuple[Request, ...] = ()
    part: str = ""
    is_shown: bool = False
    content: str = ""

    @property
    def digest(self) -> str:
        """A hash of what the model reads: equal for equal prompts, whatever their origin."""
        return sha256_of(self.context, str(self.answer), *self.choices)

    @property
    def names(self) -> tuple[str, ...]:
        """Hashes that identify it across studies: of what is read, and of what is asked."""
        return (self.digest, self.content) if self.content else (self.digest,)


class Scoring(StrEnum):
    """How the answer is chosen from the choices' log-likelihoods."""

    LOGLIK = "loglik"
    LOGLIK_PER_TOKEN = "loglik-per-token"
    LOGLIK_PER_CHARACTER = "loglik-per-character"

    def choose(self, choices: Sequence[ChoiceOutcome]) -> int:
        """The index of the highest choice, the lowest index if several are equal."""
        merits = self.merits(choices)
        return max(range(len(merits)), key=merits.__getitem__)

    def merits(self, choices: Sequence[ChoiceOutcome]) -> list[float]:
        """The values by which choices are compared, in nats: total, per token or per character."""
        sizes = self.sizes(choices)
        return [choice.loglik / size for choice, size in zip(choices, sizes, strict=True)]

    def sizes(self, choices: Sequence[ChoiceOutcome]) -> list[int]:
        """What each choice's log-likelihood is divided by: 1, its tokens or its characters."""
        if self is Scoring.LOGLIK_PER_TOKEN:
            return [choice.tokens for choice in choices]
        if self is Scoring.LOGLIK_PER_CHARACTER:
            return [choice.characters for choice in choices]
        return [1] * len(choices)


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


class Scorer(Interface):
    """Scores outcomes in place of `Scoring` and `Generation.extract`.

    A call gives the outcome with its own ``answer`` and ``score``, the latter in [0, 1]; it must
    depend on nothing but the example and what was measured. ``identity`` holds all that decides
    what it says, as JSON values.
    """

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that determines its scores."""
        ...

    def __call__(self, example: Example, outcome: Outcome) -> Outcome:
        """The outcome as it is to be judged."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """Labelled examples and how they are scored: by ``generation``, or by ``scoring``.

    Where there is a ``scorer`` it has the last word. ``shots`` is how many examples are shown
    before each question, by the examples' ``shots`` or within their ``requests``. ``shares`` are
    those of several tasks together in every set of examples; they add up to 1.
    """

    name: str
    examples: tuple[Example, ...]
    template: str
    scoring: Scoring = Scoring.LOGLIK
    delimiter: str = " "
    generation: Generation | None = None
    scorer: Scorer | None = None
    shots: int = 0
    shares: tuple[tuple[str, float], ...] = ()

    def requests(self, example: Example) -> tuple[Request, ...]:
        """What is read and scored: a request for each choice, or one whose context is continued."""
        before = example.description + "".join(
            shot.question + self.delimiter + shot.answer + SEPARATOR for shot in example.shots
        )
        if example.requests:
            return tuple(Request(before + context, rest) for context, rest in example.requests)
        if self.generation is not None:
            return (Request(before + example.context, ""),)
        return tuple(
            Request(before + example.context, self.delimiter + choice) for choice in example.choices
        )

    def turns(self, example: Example) -> list[dict[str, str]]:
        """A chat's turns: the shots, then the question; the first begins with the description."""
        turns = [
            {"role": role, "content": content}
            for shot in example.shots
            for role, content in (("user", shot.question), ("assistant", shot.answer))
        ]
        turns.append({"role": "user", "content": example.context})
        turns[0]["content"] = example.description + turns[0]["content"]
        return turns

    @property
    def protocol(self) -> Protocol:
        """How the model is asked."""
        if self.generation is None:
            return Protocol.LOGLIK
        return Protocol.CHAT if self.generation.chat else Protocol.TEXT

    def settings(self) -> dict[str, Any]:
        """Every setting by which an example is asked and scored, as JSON values."""
        settings: dict[str, Any] = {
            "protocol": self.protocol.value,
            "shots": self.shots,
        }
        if self.generation is None:
            settings |= {"scoring": self.scoring.value, "delimiter": self.delimiter}
        else:
            settings |= {
                "extract": self.generation.extract,
                "max_new_tokens": self.generation.max_new_tokens,
                "stop": list(self.generation.stop),
            }
        if self.scorer is not None:
            settings["scorer"] = self.scorer.identity
        if self.shares:
            settings["shares"] = dict(self.shares)
        return settings
