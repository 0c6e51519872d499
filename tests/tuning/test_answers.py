"""What is lost at which tokens: against the model's own forward, one choice at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from telltale.engine.encode import InputLimit, encode_choices, encode_prompts
from telltale.engine.naive import NaiveEngine
from telltale.errors import DataError, InputError
from telltale.measure import Batch
from telltale.tasks import Example, Generation, Request, Scoring, Task
from telltale.tuning.answers import encode_lessons, lay, lost
from telltale.tuning.settings import Loss
from tests import tiny
from tests.tuning.words import EXAMPLES, LONGER, TASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.tuning.answers import Lesson

CPU = torch.device("cpu")
# As in WinoGrande: the choices are in the contexts, and what follows is scored.
PARTIAL = tuple(
    replace(
        one,
        choices=("Ann", "the old man"),
        answer=number % 2,
        requests=(Request("It was Ann", " who won."), Request("It was the old man", " who won.")),
    )
    for number, one in enumerate(EXAMPLES[:2])
)
MIXED = (*EXAMPLES[:5], *LONGER, *PARTIAL)
WRITTEN = replace(TASK, generation=Generation(False, "exact", 8, ("\n",)))


def lessons(loss: str, examples: Sequence[Example], task: Task = TASK) -> tuple[Lesson, ...]:
    return encode_lessons(task, examples, tiny.tokenizer(), loss, longest=256)


def lost_by(
    loss: str, found: Sequence[Lesson], model: Any, teacher: Any = None
) -> tuple[float, int]:
    """The loss of lessons that are laid out together, by the model's own forward."""
    part = lay(found, CPU)
    with torch.no_grad():
        flat = [
            None
            if one is None
            else one(part.layout.token_ids()).logits.flatten(0, 1)[part.reads.positions]
            for one in (model, teacher)
        ]
    return float(lost(loss, part, *flat)), sum(one.units for one in found)  # type: ignore[arg-type]


def logits_after(model: Any, context: Sequence[int], choice: Sequence[int]) -> torch.Tensor:
    """What predicts each token of a choice, alone in its row."""
    with torch.no_grad():
        logits: torch.Tensor = model(torch.tensor([[*context, *choice[:-1]]])).logits[0]
    return logits[len(context) - 1 :]


@pytest.mark.parametrize("scoring", list(Scoring))
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_answer_and_choices_are_lost_as_the_naive_engine_scores_them(
    family: str, scoring: Scoring
) -> None:
    task = replace(TASK, scoring=scoring)
    encoded = encode_choices(task, MIXED, tiny.tokenizer(), limit=InputLimit(256))
    model = tiny.layered(family)
    measure = NaiveEngine(model, encoded, scoring)
    (measured,) = measure([model.whole], [Batch(tuple(range(len(MIXED))))])
    right = [one.choices[e.answer] for one, e in zip(measured.outcomes, MIXED, strict=True)]
    total, units = lost_by(Loss.ANSWER, lessons(Loss.ANSWER, MIXED, task), model.model)
    assert total == pytest.approx(-sum(one.loglik for one in right), rel=1e-4)
    assert units == sum(one.tokens for one in right)
    merits = [torch.tensor(scoring.merits(one.choices)) for one in measured.outcomes]
    expected = [
        float(torch.nn.functional.cross_entropy(one, torch.tensor(e.answer)))
        for one, e in zip(merits, MIXED, strict=True)
    ]
    total, units = lost_by(Loss.CHOICES, lessons(Loss.CHOICES, MIXED, task), model.model)
    assert total == pytest.approx(sum(expected), rel=1e-4)
    assert units == len(MIXED)


def test_distillation_is_the_divergence_wherever_a_choices_token_is_predicted() -> None:
    model, teacher = tiny.build("llama"), tiny.build("llama", num_hidden_layers=4)
    examples = MIXED[: -len(PARTIAL)]
    encoded = encode_choices(TASK, examples, tiny.tokenizer(), limit=InputLimit(256))
    expected, tokens = 0.0, 0
    for one in encoded:
        for choice in one.choices:
            own, wanted = (logits_after(m, one.context, choice) for m in (model, teacher))
            p, q = torch.softmax(wanted.double(), -1), torch.softmax(own.double(), -1)
            expected += float((p * (p / q).log()).sum())
            tokens += len(choice)
    found = lessons(Loss.DISTILLATION, examples)
    total, units = lost_by(Loss.DISTILLATION, found, model, teacher)
    assert total == pytest.approx(expected, rel=1e-4)
    assert units == tokens
    assert lost_by(Loss.DISTILLATION, found, model, model)[0] == pytest.approx(0, abs=1e-4)
    # Which answer is right is not looked at.
    others = [replace(one, answer=(one.answer + 1) % len(one.choices)) for one in examples]
    assert lost_by(Loss.DISTILLATION, lessons(Loss.DISTILLATION, others), model, teacher)[
        0
    ] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("loss", [Loss.ANSWER, Loss.CHOICES])
def test_the_loss_of_a_part_is_the_sum_of_its_lessons(loss: Loss) -> None:
    model = tiny.build("qwen2")
    found = lessons(loss, MIXED)
    apart = [lost_by(loss, [one], model) for one in found]
    together = lost_by(loss, found, model)
    assert together[0] == pytest.approx(sum(one for one, _ in apart), rel=1e-5)
    assert together[1] == sum(units for _, units in apart)


def test_sizes_are_those_of_the_rows() -> None:
    for one in lessons(Loss.CHOICES, MIXED):
        rows = lay([one], CPU).layout.rows
        assert (one.rows, one.length) == (len(rows), max(len(row.tokens) for row in rows))
        assert one.tokens == sum(len(row.tokens) for row in rows)


# Answers that are written


def test_a_written_answer_follows_its_prompt_and_ends() -> None:
    (prompt,) = encode_prompts(WRITTEN, EXAMPLES[:1], tiny.tokenizer(), limit=InputLimit(256))
    (lesson,) = lessons(Loss.ANSWER, EXAMPLES[:1], WRITTEN)
    text = f" {EXAMPLES[0].choices[EXAMPLES[0].answer]}"
    end = tiny.tokenizer().eos_token_id
    assert lesson.example.context == prompt.context
    assert lesson.example.choices == ((*tiny.tokenizer()(text)["input_ids"], end),)
    assert lesson.units == len(lesson.example.choices[0])


@pytest.mark.parametrize("loss", [Loss.CHOICES, Loss.DISTILLATION])
def test_a_loss_of_choices_is_refused_where_answers_are_written(loss: Loss) -> None:
    with pytest.raises(InputError, match="looks at choices, and the answers of words are written"):
        lessons(loss, EXAMPLES[:1], WRITTEN)


@pytest.mark.parametrize("task", [TASK, WRITTEN])
def test_an_empty_right_answer_is_refused_by_name(task: Task) -> None:
    empty = replace(EXAMPLES[1], choices=(" ", "True"), answer=0)
    with pytest.raises(DataError, match=r"^example '1': its right answer is empty"):
        lessons(Loss.ANSWER, (EXAMPLES[0], empty), task)
    assert len(lessons(Loss.ANSWER, (EXAMPLES[0], replace(empty, answer=1)), task)) == 2


def test_an_example_that_is_too_long_is_refused_or_loses_its_beginning() -> None:
    long = replace(EXAMPLES[0], context="a " * 300 + EXAMPLES[0].context)
    with pytest.raises(DataError, match="more than the 256 that this model takes"):
        lessons(Loss.ANSWER, [long])
    (cut,) = encode_lessons(TASK, [long], tiny.tokenizer(), Loss.ANSWER, longest=256, cuts=True)
    assert cut.length == 256
