"""From text to tokens: what is read, and which tokens are scored.

A choice is scored as the task's delimiter and its text, after the context. Context and choice are
tokenized together and cut where the context alone ends, as evaluation harnesses do; white space
at the context's end belongs to the choice. Beginning-of-text tokens are added as the tokenizer adds
them by itself. A prompt in a chat's turn is rendered by the tokenizer's own chat template. Knows no
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tasks import Example, Generation

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as tokens; where text is generated, without choices.

    ``choice_bytes`` are the UTF-8 bytes of each choice's own text. ``is_cut`` says that the prompt
    lacks its beginning, since it was longer than the model takes.
    """

    context: Tokens
    choices: tuple[Tokens, ...]
    choice_bytes: tuple[int, ...]
    answer: int
    is_cut: bool = False

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


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens a model takes, where that is known, and whether longer prompts are cut."""

    longest: int | None
    cuts: bool = False

    def fit(
        self,
        where: str,
        context: Sequence[int],
        after: int,
        first: int | None,
        remedy: str = "shorten it or leave it out",
    ) -> Tokens:
        """A context that leaves room for the tokens after it.

        Args:
            where: the example's name, for a message.
            context: its tokens.
            after: how many tokens are read after it.
            first: the beginning-of-text token, which is kept where the context begins with it.
            remedy: what to do about an example that is too long, for a message.

        Raises:
            DataError: it is too long, and not to be cut or not short enough when cut.
        """
        length = len(context) + after
        if self.longest is None or length <= self.longest:
            return tuple(context)
        kept = tuple(context[:1]) if context[0] == first else ()
        space = self.longest - after - len(kept)
        if not self.cuts or space < 1:
            raise DataError(
                where,
                f"{length} tokens are more than the {self.longest} that this model takes; "
                + (remedy if self.cuts else f"{remedy}, or cut long prompts with --truncate left"),
            )
        return (*kept, *context[-space:])


def encode_examples(
    examples: Sequence[Example], tokenizer: Any, *, delimiter: str, room: Room
) -> tuple[EncodedExample, ...]:
    """Tokenize examples with their choices.

    Args:
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        delimiter: what stands between context and choice.
        room: what the model takes.

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
    context_tokens = tokenizer(contexts, verbose=False)["input_ids"]
    whole_tokens = iter(tokenizer(wholes, verbose=False)["input_ids"])
    encoded: list[EncodedExample] = []
    for example, context_ids in zip(examples, context_tokens, strict=True):
        choices = [tuple(next(whole_tokens)[len(context_ids) :]) for _ in example.choices]
        where = f"example {example.id!r}"
        if not context_ids or not all(choices):
            raise DataError(where, "a choice or the prompt has no tokens of its own; change it")
        after = max(map(len, choices)) - 1
        fitting = room.fit(where, context_ids, after, tokenizer.bos_token_id)
        encoded.append(
            EncodedExample(
                context=fitting,
                choices=tuple(choices),
                choice_bytes=tuple(len(choice.encode()) for choice in example.choices),
                answer=example.answer,
                is_cut=len(fitting) < len(context_ids),
            )
        )
    return tuple(encoded)


def encode_prompts(
    examples: Sequence[Example], tokenizer: Any, generation: Generation, *, room: Room
) -> tuple[EncodedExample, ...]:
    """Tokenize prompts that a model is to go on from.

    Args:
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        generation: whether it is a chat, and how many tokens may follow.
        room: what the model takes.

    Raises:
        InputError: there is no chat template, or it fails.
        DataError: an example is longer than the model takes, or has no tokens.
    """
    if generation.chat:
        # The template writes the beginning-of-text token itself where the model wants one.
        texts = chat_prompts(examples, tokenizer)
        tokens = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    else:
        texts = [example.context for example in examples]
        tokens = tokenizer(texts, verbose=False)["input_ids"]
    encoded: list[EncodedExample] = []
    for example, context_ids in zip(examples, tokens, strict=True):
        where = f"example {example.id!r}"
        if not context_ids:
            raise DataError(where, "the prompt has no tokens; change it")
        # The last token written is never read.
        after = generation.max_new_tokens - 1
        remedy = f"shorten it, leave it out, or lower --max-new-tokens (now {after + 1})"
        fitting = room.fit(where, context_ids, after, tokenizer.bos_token_id, remedy)
        is_cut = len(fitting) < len(context_ids)
        encoded.append(EncodedExample(fitting, (), (), example.answer, is_cut))
    return tuple(encoded)


def chat_prompts(examples: Sequence[Example], tokenizer: Any) -> list[str]:
    """Each prompt as the tokenizer's chat template renders a user's turn, ready for an answer.

    Raises:
        InputError: there is no chat template, or it fails.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "this model's tokenizer has no chat template, so it is no chat model; give "
            "--protocol text"
        )
    turns = [[{"role": "user", "content": example.context}] for example in examples]
    try:
        return [
            str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
            for turn in turns
        ]
    except Exception as problem:  # a template may raise whatever it likes
        reason = " ".join(str(problem).split())
        raise InputError(
            f"the model's chat template fails ({reason}); give --protocol text"
        ) from problem


def encode_text(text: str, tokenizer: Any, *, window: int, most: int) -> list[EncodedExample]:
    """A text's first tokens in windows, each an example whose only choice is all but its start.

    Args:
        text: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        window: the most tokens of a window.
        most: the most tokens in all.
    """
    # No token is as long as 32 characters on average, so what is left out would not be read.
    tokens = tokenizer(text[: 32 * most], verbose=False)["input_ids"][:most]
    begins = tokens[:1] if tokens and tokens[0] == tokenizer.bos_token_id else []
    rest = tokens[len(begins) :]
    size = window - len(begins)
    windows = [[*begins, *rest[start : start + size]] for start in range(0, len(rest), size)]
    return [
        EncodedExample((one[0],), (tuple(one[1:]),), (0,), answer=0)
        for one in windows
        if len(one) > 1
    ]


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
