"""Shots: which examples are shown before a question, and that they are never asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telltale.errors import DataError, InputError
from telltale.tasks import Asking, Request, Shot, Task, make_task
from telltale.tasks.known import NamedTask
from telltale.tasks.rows import Row
from telltale.tasks.shots import Pool, without_shown
from telltale.tasks.split import split_examples, texts_of

SPACES = st.sampled_from([" ", "  ", "\n", "\t "])


def row(question: str, answer: int = 1, *choices: str, **fields: str) -> Row:
    named = {"question": question, **fields}
    return Row(question, named, choices or ("yes", "no"), answer, f"line {question}")


def ask(rows: list[Row], pool: Pool | None = None, **asking: Any) -> Task:
    return make_task("t", rows, Asking(**asking), pool=pool)


# Few different words, so that rows recur within a set and between the sets, written otherwise too.
@st.composite
def rows(draw: st.DrawFn, *, least: int) -> list[Row]:
    found = []
    for _ in range(draw(st.integers(least, least + 40))):
        words = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=2))
        fields = {}
        if draw(st.booleans()):
            fields["passage"] = draw(SPACES).join(["Once", draw(st.sampled_from("uvwxyz"))])
        question = draw(SPACES).join(["Is", *words])
        found.append(row(question, draw(st.integers(0, 1)), **fields))
    return found


def shown(task: Task) -> set[str]:
    return {" ".join(shot.question.split()) for example in task.examples for shot in example.shots}


@settings(deadline=None, max_examples=60)
@given(rows(least=1), rows(least=1), st.integers(1, 3), st.integers(0, 5))
def test_no_shot_of_another_split_is_asked(
    asked: list[Row], pool: list[Row], count: int, seed: int
) -> None:
    try:
        source = Pool(pool, "the train split")
        task = ask(asked, source, shots=count, seed=seed, template="{question}")
    except InputError as problem:
        assert "the train split has" in str(problem)  # nothing is left that is not asked
        return
    assert len(task.examples) == len(asked)
    of_pool = ask(pool, template="{question}").examples
    taken = {text for example in task.examples for text in texts_of(example)}
    # A question may stand in the pool twice with other passages; one of them is the one shown.
    assert all(len(example.shots) == count for example in task.examples)
    for question in shown(task):
        same = [one for one in of_pool if shown_as(one) == question]
        assert any(taken.isdisjoint(texts_of(one)) for one in same)


def shown_as(example: Any) -> str:
    return " ".join(example.context.split())


@settings(deadline=None, max_examples=60)
@given(rows(least=60), st.integers(1, 3), st.integers(0, 5))
def test_no_shot_of_the_set_itself_is_searched_by_or_held_out(
    asked: list[Row], count: int, seed: int
) -> None:
    try:
        task = ask(asked, shots=count, seed=seed)
        split = split_examples(task.examples, limit=20, held_out=20, seed=seed)
    except InputError:
        return  # too few are left
    sets = [task.examples[index] for index in (*split.search, *split.held_out)]
    assert shown(task).isdisjoint(shown_as(example) for example in sets)
    # All that is not asked has a text in common with a shot.
    assert len({example.shots for example in task.examples}) == 1


def test_shots_are_chosen_by_seed_and_content_and_not_by_order() -> None:
    pool = [row(f"Is it {number}?") for number in range(50)]
    asked = [row("Is it so?")]
    first = ask(asked, Pool(pool, "train"), shots=4).examples[0].shots
    assert ask(asked, Pool(pool[::-1], "train"), shots=4).examples[0].shots == first
    assert ask(asked, Pool(pool, "train"), shots=4, seed=1).examples[0].shots != first
    assert ask(asked, Pool(pool, "train"), shots=3).examples[0].shots == first[:3]
    assert ask(asked, Pool(pool, "train"), shots=0) == ask(asked)


def test_shots_by_a_field_are_its_own_in_their_order() -> None:
    pool = [row(f"{subject} {n}", subject=subject) for subject in ("art", "law") for n in range(5)]
    asked = [row("law?", subject="law"), row("art?", subject="art")]
    law, art = ask(asked, Pool(pool, "dev", "subject"), shots=2).examples
    assert [shot.question for shot in law.shots] == [
        "Question: law 0\nAnswer:",
        "Question: law 1\nAnswer:",
    ]
    assert [shot.question for shot in art.shots] == [
        "Question: art 0\nAnswer:",
        "Question: art 1\nAnswer:",
    ]
    with pytest.raises(InputError, match=r"dev \(law\) has 5; give fewer"):
        ask(asked, Pool(pool, "dev", "subject"), shots=6)


def test_a_question_that_a_fixed_set_shows_is_in_no_set_of_a_search() -> None:
    pool = [row("Is it?", subject="art"), row("law 1", subject="law")]
    asked = [row("Is  it?", subject="law"), row("law?", subject="law"), row("art?", subject="art")]
    found = ask(asked, Pool(pool, "dev", "subject"), shots=1)
    assert [example.is_shown for example in found.examples] == [True, False, False]
    assert [example.id for example in without_shown(found).examples] == ["law?", "art?"]


def test_text_shots_stand_before_the_question_as_a_harness_writes_them() -> None:
    known = NamedTask("t", "", "", "", {}, "test", "t", description=r"About {question}.\n\n")
    pool = Pool([row("Was it?", 0)], "train")
    task = make_task("t", [row("Is it?")], Asking(shots=1), known=known, pool=pool)
    before = "About Is it?.\n\nQuestion: Was it?\nAnswer: yes\n\nQuestion: Is it?\nAnswer:"
    assert task.requests(task.examples[0]) == (Request(before, " yes"), Request(before, " no"))
    assert task.examples[0].context == "Question: Is it?\nAnswer:"


def test_chat_shots_are_turns() -> None:
    pool = Pool([row("Was it?", 0)], "train")
    task = ask([row("Is it?")], pool, shots=1, protocol="chat")
    end = "\nA. yes\nB. no\nAnswer with the letter of the right choice."
    assert task.turns(task.examples[0]) == [
        {"role": "user", "content": f"Was it?{end}"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": f"Is it?{end}"},
    ]


def test_a_worked_answer_is_shown_where_there_is_one() -> None:
    known = NamedTask("t", "", "", "", {}, "test", "t", shot_answer="rationale")
    worked = Row("a", {"question": "1+1?", "rationale": "One and one. #### 2"}, ("2",), 0, "a")
    rows = [worked, Row("b", {"question": "2+2?"}, ("4",), 0, "b")]
    task = make_task("t", [row("3+3?", 0, "6")], Asking(shots=2), known=known, pool=Pool(rows, "x"))
    assert set(task.examples[0].shots) == {Shot("1+1?", "One and one. #### 2"), Shot("2+2?", "4")}


BLANK = "{before}{choice} {after}"


def blank(before: str, after: str, *choices: str) -> Row:
    return row(f"{before}_{after}", 1, *choices, before=before, after=after)


def test_what_comes_after_the_choice_is_scored() -> None:
    pool = Pool([blank("Eve saw Max, and ", "waved.", "Eve", "Max")], "train")
    task = ask([blank("Ann met Bob as ", "left.", "Ann", "Bob")], pool, shots=1, template=BLANK)
    shot = "Eve saw Max, and Max waved.\n\n"
    assert task.requests(task.examples[0]) == (
        Request(f"{shot}Ann met Bob as Ann", " left."),
        Request(f"{shot}Ann met Bob as Bob", " left."),
    )
    assert task.examples[0].context == "Ann met Bob as _ left."
    assert task.examples[0].choices == ("Ann met Bob as Ann", "Ann met Bob as Bob")


def test_a_choice_that_ends_the_prompt_leaves_nothing_to_score() -> None:
    with pytest.raises(DataError, match=r"nothing comes after the \{choice\}"):
        ask([blank("It was ", "", "Ann", "Bob")], template=BLANK)
    with pytest.raises(InputError, match="or give `protocol` loglik"):
        ask([blank("It was ", "so.", "Ann", "Bob")], template=BLANK, protocol="text")


def test_lettered_choices_may_be_compared_by_log_likelihood() -> None:
    task = ask([row("Is it?")], template=r"{question}\n{options}\nAnswer:")
    assert task.requests(task.examples[0]) == (
        Request("Is it?\nA. yes\nB. no\nAnswer:", " A"),
        Request("Is it?\nA. yes\nB. no\nAnswer:", " B"),
    )


@pytest.mark.parametrize(
    ("count", "message"),
    [(-1, "must be at least 0, got -1"), (9, "the set itself has 1; give fewer")],
)
def test_shots_that_cannot_be_are_refused(count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask([row("Is it?")], shots=count)
