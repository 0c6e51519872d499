"""A task's questions as a model sees them, before anything is measured. Loads a tokenizer only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.engine.encode import (
    InputLimit,
    chat_prompts,
    common_start,
    encode_choices,
    encode_prompts,
)
from telltale.tasks.split import first_examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.engine.encode import Tokens
    from telltale.tasks import Example, Task


class Line(NamedTuple):
    """One choice: what is read after the prompt, then what is scored, in tokens if known."""

    read: str
    scored: tuple[str, ...]
    is_right: bool


class Preview(NamedTuple):
    """A question: its prompt, and its choices, or where text is written the right answer."""

    id: str
    prompt: str
    choices: tuple[Line, ...]
    right: str
    tokens: int | None


def previews(task: Task, count: int, tokenizer: Any | None = None) -> list[Preview]:
    """The first questions of a task.

    Args:
        task: what is asked.
        count: how many questions.
        tokenizer: a model's; without one texts are shown, and a chat's turns by their roles.

    Raises:
        TelltaleError: they cannot be tokenized, or the chat template fails.
    """
    examples = first_examples(task, count)
    if tokenizer is None:
        return [_as_text(task, example) for example in examples]
    if task.generation is not None:
        texts = chat_prompts(task, examples, tokenizer) if task.generation.chat else None
        encoded = encode_prompts(task, examples, tokenizer, limit=InputLimit(None))
        return [
            _preview(
                example,
                texts[number] if texts else _decoded(tokenizer, one.context),
                (),
                len(one.context),
            )
            for number, (example, one) in enumerate(zip(examples, encoded, strict=True))
        ]
    found = []
    for example, one in zip(
        examples, encode_choices(task, examples, tokenizer, limit=InputLimit(None)), strict=True
    ):
        lines = tuple(
            Line(
                _decoded(tokenizer, tokens[: -size.tokens]),
                _pieces(tokenizer, tokens[-size.tokens :]),
                index == example.answer,
            )
            for index, (tokens, size) in enumerate(zip(one.choices, one.sizes, strict=True))
        )
        prompt = _decoded(tokenizer, one.context)
        found.append(_preview(example, prompt, lines, len(one.context)))
    return found


def _as_text(task: Task, example: Example) -> Preview:
    if task.generation is not None and task.generation.chat:
        turns = [f"[{turn['role']}]\n{turn['content']}\n" for turn in task.turns(example)]
        return _preview(example, "".join([*turns, "[assistant]\n"]), (), None)
    requests = task.requests(example)
    if task.generation is not None:
        return _preview(example, requests[0].context, (), None)
    # What contexts have in common is cut at a space, so that words stay whole.
    common = common_start([request.context for request in requests])
    if any(request.context != common for request in requests):
        common = common[: common.rfind(" ") + 1]
    lines = tuple(
        Line(context[len(common) :], (continuation,), index == example.answer)
        for index, (context, continuation) in enumerate(requests)
    )
    return _preview(example, common, lines, None)


def _preview(example: Example, prompt: str, lines: tuple[Line, ...], tokens: int | None) -> Preview:
    return Preview(example.id, prompt, lines, example.choices[example.answer], tokens)


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False))


def _pieces(tokenizer: Any, tokens: Tokens) -> tuple[str, ...]:
    """Each token's text; where tokens are parts of characters, the tokenizer's names of them."""
    pieces = tuple(_decoded(tokenizer, [token]) for token in tokens)
    if "".join(pieces) == _decoded(tokenizer, tokens):
        return pieces
    return tuple(map(str, tokenizer.convert_ids_to_tokens(list(tokens))))
