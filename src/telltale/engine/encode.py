"""From text to tokens: what is read, and which tokens are scored.

A choice is scored as the task's delimiter and its text, after the context. Context and choice are
tokenized together and cut where the context alone ends, as evaluation harnesses do; white space
at the context's end belongs to the choice. Beginning-of-text tokens are added as the tokenizer adds
them by itself. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tasks import Example

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as tokens. ``choice_bytes`` are the UTF-8 bytes of each choice's own text."""

    context: Tokens
    choices: tuple[Tokens, ...]
    choice_bytes: tuple[int, ...]
    answer: int

    @property
    def branches(self) -> tuple[Tokens, ...]:
        """The distinct token sequences that must be read after the context to score the choices.

        A choice's last token is predicted, never read; and what begins a longer branch is read
        with it. So a question whose choices are single tokens has one branch, an empty one.
        """
        read = sorted({choice[:-1] for choice in self.choices})
        return tuple(
            one
            for position, one in enumerate(read)
            # In sorted order, what begins with `one` comes right after it.
            if position + 1 == len(read) or read[position + 1][: len(one)] != one
        )

    @property
    def tokens(self) -> int:
        """The size of the example, context and choices, each read once."""
        return len(self.context) + sum(map(len, self.choices))


def encode_examples(
    examples: Sequence[Example], tokenizer: Any, *, delimiter: str, longest: int | None
) -> tuple[EncodedExample, ...]:
    """Tokenize examples.

    Args:
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        delimiter: what stands between context and choice.
        longest: the most tokens that the model takes, if it is known.

    Raises:
        DataError: an example is longer than that, or a choice has no tokens of its own.
    """
    contexts: list[str] = []
    wholes: list[str] = []
    for example in examples:
        context = example.context.rstrip()
        space = example.context[len(context) :]
        contexts.append(context)
        wholes += [context + space + delimiter + choice for choice in example.choices]
    context_tokens = tokenizer(contexts)["input_ids"]
    whole_tokens = iter(tokenizer(wholes)["input_ids"])
    encoded: list[EncodedExample] = []
    for example, context_ids in zip(examples, context_tokens, strict=True):
        choices = [tuple(next(whole_tokens)[len(context_ids) :]) for _ in example.choices]
        where = f"example {example.id!r}"
        if not context_ids or not all(choices):
            raise DataError(where, "a choice or the prompt has no tokens of its own; change it")
        length = len(context_ids) + max(map(len, choices)) - 1
        if longest is not None and length > longest:
            raise DataError(
                where,
                f"{length} tokens are more than the {longest} that this model takes; shorten it "
                "or leave it out",
            )
        encoded.append(
            EncodedExample(
                context=tuple(context_ids),
                choices=tuple(choices),
                choice_bytes=tuple(len(choice.encode()) for choice in example.choices),
                answer=example.answer,
            )
        )
    return tuple(encoded)


def common_token_prefix(examples: Sequence[EncodedExample]) -> Tokens:
    """The tokens that every context begins with, short of the last token of the shortest.

    That last token is where a choice's first token is predicted, so each example keeps its own.
    """
    first = min(example.context for example in examples)
    last = max(example.context for example in examples)
    longest = min(len(example.context) for example in examples) - 1
    length = 0
    # What the first and the last in sorted order share, all share.
    while length < min(longest, len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]
