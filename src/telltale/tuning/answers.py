"""From examples to what is learnt of them: which tokens are answers, and what is lost at them.

An answer is what the engine scores, as it tokenizes it. Logits are needed only where a token of one
is predicted. Each `Loss` is a sum over units (tokens, examples), so that a step's mean over its
units is the same however its examples go through the model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import kl_div, log_softmax

from telltale.engine.choosing import token_logliks
from telltale.engine.encode import InputLimit, encode_choices, encode_prompts
from telltale.engine.layout import lay_out
from telltale.engine.references import encode_references
from telltale.errors import DataError, InputError
from telltale.measure import ChoiceOutcome
from telltale.tuning.settings import Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample
    from telltale.engine.layout import Layout, Reads
    from telltale.tasks import Example, Scoring, Task


class Lesson(NamedTuple):
    """An example as it is learnt.

    It takes ``rows`` rows, the longest of ``length`` tokens and all together of ``tokens``. Its
    loss is a sum over ``units``; ``sizes`` are what the log-likelihoods of its choices are divided
    by where they are compared.
    """

    example: EncodedExample
    rows: int
    length: int
    tokens: int
    units: int
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """Some lessons laid out as rows, on a device, and which of ``reads`` each choice is made of.

    Every token of a choice has an entry in ``places``, (tokens,), its place among `Reads.places`,
    and in ``owners``, (tokens,), the number of its choice among those of all lessons.
    """

    lessons: tuple[Lesson, ...]
    layout: Layout
    reads: Reads
    places: Tensor
    owners: Tensor


def encode_lessons(
    task: Task,
    examples: Sequence[Example],
    tokenizer: Any,
    loss: str,
    *,
    longest: int | None,
    cuts: bool = False,
) -> tuple[Lesson, ...]:
    """Examples as tokens, with the choices that a loss looks at.

    Where text is generated, the answer is the reference answer as it follows the prompt, and after
    it the token that ends texts, so that the model learns to end.

    Args:
        task: how they are asked.
        examples: what to tokenize.
        tokenizer: a Hugging Face tokenizer.
        loss: a `Loss`.
        longest: how many tokens the model takes, where that is known.
        cuts: whether a prompt that is longer loses its beginning.

    Raises:
        InputError: the loss compares choices, and the task has none.
        DataError: an example's answer is empty, or it is longer than the model takes.
    """
    for example in examples:
        if not example.choices[example.answer].strip():
            raise DataError(
                f"example {example.id!r}", "its right answer is empty; give one, or leave it out"
            )
    limit = InputLimit(longest, cuts)
    if task.generation is not None:
        if loss != Loss.ANSWER:
            raise InputError(
                f"`loss` {loss} looks at choices, and the answers of {task.name} are written; give "
                "`loss` answer"
            )
        prompts = encode_prompts(task, examples, tokenizer, limit=limit)
        asked = encode_references(
            prompts, task, examples, tokenizer, longest, remedy="leave it out"
        )
        encoded = tuple(_ended(one, tokenizer.eos_token_id) for one in asked)
    else:
        encoded = encode_choices(task, examples, tokenizer, limit=limit)
        if loss == Loss.ANSWER:
            encoded = tuple(map(_right_only, encoded))
    return tuple(_lesson(one, loss, task.scoring) for one in encoded)


def lay(lessons: Sequence[Lesson], device: torch.device) -> Part:
    """Lessons as rows, each of a context with one branch of its choices."""
    layout = lay_out([one.example for one in lessons], prefix_length=0, shares_context=False)
    reads = layout.reads(device)
    place_of = {place: number for number, place in enumerate(reads.places)}
    choices = [span for spans in layout.spans for span in spans]
    found = [
        (place_of[place], owner)
        for owner, span in enumerate(choices)
        for place in zip(span.positions, span.targets, strict=True)
    ]
    places, owners = (torch.tensor(one, device=device) for one in zip(*found, strict=True))
    return Part(tuple(lessons), layout, reads, places, owners)


def lost(loss: str, part: Part, logits: Tensor, taught: Tensor | None = None) -> Tensor:
    """The loss of a part, a sum over its units, in nats.

    Args:
        loss: a `Loss`.
        part: what is learnt.
        logits: the model's at `Reads.positions`, (positions, vocabulary).
        taught: the teacher's there, where the loss asks for one.
    """
    return LOSSES[loss](part, logits, taught)


def _answer(part: Part, logits: Tensor, _: Tensor | None) -> Tensor:
    return -_logliks(part, logits).sum()


def _choices(part: Part, logits: Tensor, _: Tensor | None) -> Tensor:
    sizes = torch.tensor([size for one in part.lessons for size in one.sizes], device=logits.device)
    totals = torch.zeros(len(sizes), device=logits.device)
    merits = totals.index_add(0, part.owners, _logliks(part, logits)) / sizes
    counts = [len(one.sizes) for one in part.lessons]
    terms = [
        -log_softmax(own, dim=0)[one.example.answer]
        for one, own in zip(part.lessons, torch.split(merits, counts), strict=True)
    ]
    return torch.stack(terms).sum()


def _distillation(part: Part, logits: Tensor, taught: Tensor | None) -> Tensor:
    assert taught is not None
    own, wanted = (log_softmax(one.float(), dim=-1) for one in (logits, taught))
    divergence = kl_div(own, wanted, reduction="none", log_target=True).sum(-1)
    # A place is a position with a token; several tokens of choices may be predicted at one.
    return divergence.index_select(0, part.reads.rows.index_select(0, part.places)).sum()


LOSSES: dict[str, Callable[[Part, Tensor, Tensor | None], Tensor]] = {
    Loss.ANSWER: _answer,
    Loss.CHOICES: _choices,
    Loss.DISTILLATION: _distillation,
}


def _logliks(part: Part, logits: Tensor) -> Tensor:
    """The log-probability of every token of every choice, (tokens,)."""
    of_places = token_logliks(logits, part.reads.rows, part.reads.targets)
    return of_places.index_select(0, part.places)


def _lesson(example: EncodedExample, loss: str, scoring: Scoring) -> Lesson:
    layout = lay_out([example], prefix_length=0, shares_context=False)
    scored = sum(size.tokens for size in example.sizes)
    return Lesson(
        example,
        rows=len(layout.rows),
        length=layout.length,
        tokens=sum(len(row.tokens) for row in layout.rows),
        units=1 if loss == Loss.CHOICES else scored,
        sizes=tuple(scoring.sizes([ChoiceOutcome(0.0, *size) for size in example.sizes])),
    )


def _right_only(example: EncodedExample) -> EncodedExample:
    answer = example.answer
    return replace(
        example, choices=(example.choices[answer],), sizes=(example.sizes[answer],), answer=0
    )


def _ended(example: EncodedExample, end: int | None) -> EncodedExample:
    """With the token that ends texts after its answer, where the tokenizer has one."""
    if end is None:
        return example
    (choice,), (size,) = example.choices, example.sizes
    return replace(
        example,
        choices=((*choice, end),),
        sizes=(size._replace(tokens=size.tokens + 1),),
    )
