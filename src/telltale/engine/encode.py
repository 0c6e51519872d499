"""From text to tokens: what is read, and which tokens are scored.

A request's context and continuation are tokenized together and cut where the context alone ends,
as evaluation harnesses do; white space at the context's end belongs to the continuation. Where the
requests of an example have different contexts, what these have in common is the example's context,
and the rest is read with the choice but not scored. Beginning-of-text tokens are added as the
tokenizer adds them by itself. A prompt in a chat's turn is rendered by the tokenizer's own chat
template. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from telltale.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tasks import Example, Request, Task

Tokens = tuple[int, ...]
Text = TypeVar("Text", str, Tokens)


class ChoiceSize(NamedTuple):
    """How many of a choice's tokens are scored, and its own text's characters and UTF-8 bytes."""

    tokens: int
    characters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """An example as tokens; where text is generated, without choices.

    ``choices`` are read after the context, and the last ``sizes[i].tokens`` of each are scored; the
    context has no tokens where the choices have none in common. ``is_cut`` says that the prompt
    lacks its beginning, since it was longer than the model takes.
    """

    context: Tokens
    choices: tuple[Tokens, ...]
    sizes: tuple[ChoiceSize, ...]
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
class InputLimit:
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
        kept = tuple(context[:1]) if context and context[0] == first else ()
        space = self.longest - after - len(kept)
        if not self.cuts or space < 1:
            raise DataError(
                where,
                f"{length} tokens are more than the {self.longest} that this model takes; "
                + (remedy if self.cuts else f"{remedy}, or cut long prompts with `truncate` left"),
            )
        return (*kept, *context[-space:])


def encode_choices(
    task: Task, examples: Sequence[Example], tokenizer: Any, *, limit: InputLimit
) -> tuple[EncodedExample, ...]:
    """Tokenize examples with their choices.

    Args:
        task: how they are asked.
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        limit: what the model takes.

    Raises:
        DataError: an example is longer than that, or a choice has no tokens of its own.
    """
    of_examples = [task.requests(example) for example in examples]
    pairs = iter(_pairs([one for requests in of_examples for one in requests], tokenizer))
    encoded: list[EncodedExample] = []
    for example, requests in zip(examples, of_examples, strict=True):
        mine = [next(pairs) for _ in requests]
        where = f"example {example.id!r}"
        if not all(context and scored for context, scored in mine):
            raise DataError(where, "a choice or the prompt has no tokens of its own; change it")
        common = common_start([context for context, _ in mine])
        choices = tuple((*context[len(common) :], *scored) for context, scored in mine)
        after = max(map(len, choices)) - 1
        fitting = limit.fit(where, common, after, tokenizer.bos_token_id)
        sizes = tuple(
            ChoiceSize(len(scored), len(choice), len(choice.encode()))
            for (_, scored), choice in zip(mine, example.choices, strict=True)
        )
        is_cut = len(fitting) < len(common)
        encoded.append(EncodedExample(fitting, choices, sizes, example.answer, is_cut))
    return tuple(encoded)


def _pairs(requests: Sequence[Request], tokenizer: Any) -> list[tuple[Tokens, Tokens]]:
    """Each request's context and what is scored after it, as tokens."""
    contexts = [context.rstrip() for context, _ in requests]
    contexts_read = list(dict.fromkeys(contexts))
    found = dict(zip(contexts_read, _tokens(contexts_read, tokenizer), strict=True))
    wholes = _tokens([context + continuation for context, continuation in requests], tokenizer)
    pairs: list[tuple[Tokens, Tokens]] = []
    for context, whole, (_, continuation) in zip(contexts, wholes, requests, strict=True):
        if context:
            pairs.append((found[context], whole[len(found[context]) :]))
            continue
        # With nothing before it, a text begins after the token that begins or ends texts.
        bare = tuple(tokenizer(continuation, add_special_tokens=False, verbose=False)["input_ids"])
        first = tokenizer.bos_token_id
        first = tokenizer.eos_token_id if first is None else first
        start = () if first is None or bare[:1] == (first,) else (first,)
        pairs.append(((*start, *bare)[:1], (*start, *bare)[1:]))
    return pairs


def _tokens(texts: list[str], tokenizer: Any) -> list[Tokens]:
    """Texts as tokens, with one beginning-of-text token where the tokenizer adds them."""
    begins = tokenizer.bos_token
    found: list[Tokens] = []
    if begins and any(text.startswith(begins) for text in texts):
        for text in texts:
            own = text.startswith(begins)
            tokens = tokenizer(text, add_special_tokens=not own, verbose=False)["input_ids"]
            found.append(tuple(tokens))
        return found
    return [tuple(tokens) for tokens in tokenizer(texts, verbose=False)["input_ids"]]


def common_start(sequences: Sequence[Text]) -> Text:
    """What all begin with, be they texts or tokens."""
    # What the first and the last in sorted order share, all share.
    first, last = min(sequences), max(sequences)
    length = 0
    while length < min(len(first), len(last)) and first[length] == last[length]:
        length += 1
    return first[:length]


def encode_prompts(
    task: Task, examples: Sequence[Example], tokenizer: Any, *, limit: InputLimit
) -> tuple[EncodedExample, ...]:
    """Tokenize prompts that a model is to go on from.

    Args:
        task: how they are asked; its text is generated.
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        limit: what the model takes.

    Raises:
        InputError: there is no chat template, or it fails.
        DataError: an example is longer than the model takes, or has no tokens.
    """
    assert task.generation is not None
    if task.generation.chat:
        # The template writes the beginning-of-text token itself where the model wants one.
        texts = chat_prompts(task, examples, tokenizer)
        tokens = [
            tuple(ids)
            for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ]
    else:
        tokens = _tokens([task.requests(example)[0].context for example in examples], tokenizer)
    encoded: list[EncodedExample] = []
    for example, context_ids in zip(examples, tokens, strict=True):
        where = f"example {example.id!r}"
        if not context_ids:
            raise DataError(where, "the prompt has no tokens; change it")
        # The last token written is never read.
        after = task.generation.max_new_tokens - 1
        remedy = f"shorten it, leave it out, or lower `max_new_tokens` (now {after + 1})"
        fitting = limit.fit(where, context_ids, after, tokenizer.bos_token_id, remedy)
        is_cut = len(fitting) < len(context_ids)
        encoded.append(EncodedExample(fitting, (), (), example.answer, is_cut))
    return tuple(encoded)


def chat_prompts(task: Task, examples: Sequence[Example], tokenizer: Any) -> list[str]:
    """Each prompt as the tokenizer's chat template renders its turns, ready for an answer.

    Raises:
        InputError: there is no chat template, or it fails.
    """
    if not tokenizer.chat_template:
        raise InputError(
            "this model's tokenizer has no chat template, so it is no chat model; give "
            "`protocol` text"
        )
    try:
        return [
            str(
                tokenizer.apply_chat_template(
                    task.turns(example), tokenize=False, add_generation_prompt=True
                )
            )
            for example in examples
        ]
    except Exception as problem:  # a template may raise whatever it likes
        reason = " ".join(str(problem).split())
        raise InputError(
            f"the model's chat template fails ({reason}); give `protocol` text"
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
        EncodedExample((one[0],), (tuple(one[1:]),), (ChoiceSize(len(one) - 1, 0, 0),), answer=0)
        for one in windows
        if len(one) > 1
    ]


def common_token_prefix(examples: Sequence[EncodedExample]) -> Tokens:
    """The tokens that every context begins with, short of the last token of the shortest.

    That last token is where a choice's first token is predicted, so each example keeps its own.
    """
    common = common_start([example.context for example in examples])
    shortest = min(len(example.context) for example in examples)
    return common[: max(0, min(len(common), shortest - 1))]
