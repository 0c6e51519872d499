"""Built-in tasks, prompts and splits."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from telltale.errors import DataError, InputError
from telltale.tasks import Asking, Example, boolean_expressions, capitals, make_task
from telltale.tasks.capitals import capitals_by_region
from telltale.tasks.named import named_task
from telltale.tasks.rows import Row
from telltale.tasks.split import check_answers_differ, split_examples

if TYPE_CHECKING:
    from types import ModuleType


def row(**fields: str) -> Row:
    return Row("1", fields, ("yes", "no"), 0, "data.jsonl, line 1")


def test_there_is_every_country_once_with_four_choices_of_which_one_is_its_capital() -> None:
    rows = capitals.rows()
    assert len(rows) == len({r.fields["country"] for r in rows}) == 193 + 2
    truth = {c: k for region in capitals_by_region().values() for c, k in region.items()}
    for r in rows:
        assert len(set(r.choices)) == 4
        assert r.choices[r.answer] == truth[r.fields["country"]]
    answers = Counter(r.answer for r in rows)
    assert max(answers.values()) < 70  # no position gives the answer away


def value_of(text: str) -> bool:
    """An expression's value by Python's own parser, walked without evaluating text."""

    def walk(node: ast.expr) -> bool:
        if isinstance(node, ast.Constant):
            return bool(node.value)
        if isinstance(node, ast.UnaryOp):
            return not walk(node.operand)
        assert isinstance(node, ast.BoolOp)
        values = [walk(value) for value in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)

    return walk(ast.parse(text, mode="eval").body)


def test_boolean_expressions_have_the_value_that_python_gives_them() -> None:
    rows = boolean_expressions.rows()
    assert len({r.fields["question"] for r in rows}) == len(rows) == 1000
    for r in rows:
        assert r.choices[r.answer] == str(value_of(r.fields["question"].removesuffix(" is")))
    assert 0.35 < sum(r.answer for r in rows) / len(rows) < 0.65


@pytest.mark.parametrize("task", [capitals, boolean_expressions])
def test_built_in_tasks_are_the_same_each_time_and_render(task: ModuleType) -> None:
    assert task.rows() == task.rows()
    example = make_task("t", task.rows()).examples[0]
    assert example.context.startswith("Question: ")
    assert example.context.endswith("\nAnswer:")


def test_an_unknown_task_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InputError, match=r"arc_easy, .*capitals and mmlu_SUBJECT, and `data`"):
        named_task("capital")


def test_the_default_prompt_has_the_passage_where_rows_have_one() -> None:
    with_passage = row(question="Is it?", passage="Long ago.")
    assert make_task("t", [with_passage]).examples[0].context == (
        "Long ago.\nQuestion: Is it?\nAnswer:"
    )
    assert make_task("t", [row(question="Is it?")]).examples[0].context == (
        "Question: Is it?\nAnswer:"
    )


def test_a_template_names_fields_breaks_lines_and_escapes_braces() -> None:
    asking = Asking(template=r"{{x}} {tone}\n{question}")
    task = make_task("t", [row(question="Q", tone="kind")], asking)
    assert task.examples[0].context == "{x} kind\nQ"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{question.__class__}", "plain field names"),
        ("{question[0]}", "plain field names"),
        ("{question!r}", "plain field names"),
        ("{question:>9}", "plain field names"),
        ("{}", "plain field names"),
        ("{question", "malformed"),
        ("Say yes.", "names no field.*the rows have {question}"),
    ],
)
def test_a_template_can_reach_nothing_but_fields(template: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task("t", [row(question="Q")], Asking(template=template))


def test_a_missing_field_and_an_empty_prompt_are_named_by_row() -> None:
    assert make_task("t", [row(question="Q", topic="T")], Asking(template="{topic}"))
    with pytest.raises(DataError, match=r"line 1: no field 'topic'.*the row has {question}"):
        make_task("t", [row(question="Q")], Asking(template="{topic}"))
    with pytest.raises(DataError, match="line 1: the prompt is empty"):
        make_task("t", [row(question="Q", topic=" ")], Asking(template="{topic}"))


def examples(count: int, **changes: str) -> list[Example]:
    return [Example(str(i), f"context {i}", ("a", "b"), 0, **changes) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "limit", "held_out", "sizes"),
    [
        (3000, None, None, (500, 1000)),
        (600, None, None, (300, 300)),
        (195, None, None, (97, 98)),
        (40, None, None, (20, 20)),
        (872, 150, 400, (150, 400)),
        (100, 70, 500, (70, 30)),
    ],
)
def test_sizes_of_the_two_sets(
    count: int, limit: int | None, held_out: int | None, sizes: tuple[int, int]
) -> None:
    split = split_examples(examples(count), limit=limit, held_out=held_out)
    assert (len(split.search), len(split.held_out)) == sizes


def test_the_split_is_fixed_by_the_seed_and_not_by_the_order_of_the_file() -> None:
    some = examples(100)
    chosen = {some[i].context for i in split_examples(some, seed=1).search}
    turned = some[::-1]
    assert {turned[i].context for i in split_examples(turned, seed=1).search} == chosen
    assert {some[i].context for i in split_examples(some, seed=2).search} != chosen


@pytest.mark.parametrize(
    ("count", "limit", "held_out", "message"),
    [
        (39, None, None, "39 examples are too few.*give 40 or more"),
        (100, 90, None, "leave fewer than 20 to hold out beside a search set of 90"),
        (100, 500, None, "lower `limit`"),
        (100, 5, None, "`limit` must be at least 20, got 5"),
        (100, 0, None, "`limit` must be at least 20, got 0"),
        (100, None, 3, "`held_out` must be at least 20, got 3"),
    ],
)
def test_too_few_examples_are_refused(
    count: int, limit: int | None, held_out: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        split_examples(examples(count), limit=limit, held_out=held_out)


def test_examples_of_one_context_cannot_be_split() -> None:
    same = [Example(str(i), "same", ("a", "b"), i % 2) for i in range(100)]
    with pytest.raises(InputError, match="100 examples with 1 different contexts are too few"):
        split_examples(same)


def test_examples_that_all_have_the_same_answer_are_refused() -> None:
    some = [Example(str(i), f"context {i}", ("a", "b"), int(i == 7)) for i in range(40)]
    check_answers_differ(some)
    with pytest.raises(InputError, match=r"of all 7 examples is 'a', so any .* two answers"):
        check_answers_differ(some[:7])
    # Texts count and not places: here the answer differs, though it is always the first.
    check_answers_differ([Example("1", "x", ("a", "b"), 0), Example("2", "y", ("b", "a"), 0)])
    with pytest.raises(InputError, match="of all 2 examples is 'a'"):
        check_answers_differ([Example("1", "x", ("a", "b"), 0), Example("2", "y", ("b", "a"), 1)])


def test_questions_on_one_passage_stay_on_one_side(shared_tasks: object) -> None:
    from pathlib import Path

    from telltale.tasks.datafile import read_data_file

    rows = read_data_file(Path(str(shared_tasks)) / "boolq" / "validation.jsonl").rows
    task = make_task("boolq", rows)
    split = split_examples(task.examples)
    sides = [{task.examples[i].passage for i in side} for side in (split.search, split.held_out)]
    assert len(sides[0]) < 500  # some passages do have several questions
    assert not sides[0] & sides[1]
