"""Reading reference answers: how likely the right answer is, where the model's own is generated.

The reference's tokens follow the prompt's as those that the model writes do. It is other work than
writing, and done only where an objective asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from telltale.engine.encode import ChoiceSize, EncodedExample
from telltale.errors import DataError
from telltale.measure import closing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.measure import Batch, Measure, Measurement, Outcome
    from telltale.paths import LayerPath
    from telltale.tasks import Example, Task


@dataclass(frozen=True, slots=True)
class WithReferences:
    """Gives one measure's outcomes, with the choices of another's: the reference answers.

    The two go on side by side, so that what is ready is given before more is measured.
    """

    measure: Measure
    references: Measure

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        with (
            closing(self.references(paths, batches)) as references,
            closing(self.measure(paths, batches)) as writing,
        ):
            reading = (((one.batch, one.path), one) for one in references)
            # The reference is read before the text is written: it is the cheaper one to lose.
            read = dict(islice(reading, 1))
            for written in writing:
                wanted = written.batch, written.path
                while wanted not in read:  # each of the two may have an order of its own
                    read.update([next(reading)])
                reference = read.pop(wanted)
                yield replace(
                    written,
                    outcomes=_with_choices(written.outcomes, reference.outcomes),
                    layer_tokens=written.layer_tokens + reference.layer_tokens,
                )
                if not read:
                    read.update(islice(reading, 1))


def _with_choices(written: Sequence[Outcome], references: Sequence[Outcome]) -> tuple[Outcome, ...]:
    choices = {outcome.example: outcome.choices for outcome in references}
    return tuple(replace(outcome, choices=choices[outcome.example]) for outcome in written)


def encode_references(
    prompts: Sequence[EncodedExample],
    task: Task,
    examples: Sequence[Example],
    tokenizer: Any,
    longest: int | None,
    remedy: str = "give `objective` accuracy",
) -> tuple[EncodedExample, ...]:
    """Each prompt with its right answer as the one choice.

    Args:
        prompts: the examples as `encode_prompts` gives them.
        task: how they are asked; its text is generated.
        examples: the same examples.
        tokenizer: a Hugging Face tokenizer.
        longest: how many tokens the model takes, where that is known.
        remedy: what reads no reference answers, for a message.

    Raises:
        DataError: a right answer has no tokens, or does not fit after its prompt.
    """
    assert task.generation is not None
    before = "" if task.generation.chat else task.delimiter
    found: list[EncodedExample] = []
    for prompt, example in zip(prompts, examples, strict=True):
        where = f"example {example.id!r}"
        text = example.choices[example.answer]
        tokens = tuple(
            tokenizer(before + text, add_special_tokens=False, verbose=False)["input_ids"]
        )
        if not tokens:
            raise DataError(where, f"the right answer has no tokens; change it, or {remedy}")
        if longest is not None and len(prompt.context) + len(tokens) - 1 > longest:
            raise DataError(
                where,
                f"the prompt and its right answer are longer than the {longest} tokens that this "
                f"model takes; leave it out, or {remedy}",
            )
        size = ChoiceSize(len(tokens), len(text), len(text.encode()))
        found.append(replace(prompt, choices=(tokens,), sizes=(size,), answer=0))
    return tuple(found)
