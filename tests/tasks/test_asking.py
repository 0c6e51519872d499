"""How a task is asked follows from its rows and from what a user says, or is refused."""

from __future__ import annotations

from typing import Any

import pytest

from telltale.errors import DataError, InputError
from telltale.tasks import Asking, Protocol, Scoring, Task, make_task
from telltale.tasks.rows import Row


def choice_row(*choices: str, answer: int = 1, **fields: str) -> Row:
    fields = {"question": "Is it?", **fields}
    return Row("1", fields, choices or ("yes", "no"), answer, "data.jsonl, line 1")


def free_row(answer: str, **fields: str) -> Row:
    return choice_row(answer, answer=0, **fields)


def asked(*rows: Row, **asking: Any) -> Task:
    return make_task("t", rows or [choice_row()], Asking(**asking))


def test_choices_are_compared_by_log_likelihood_unless_told_otherwise() -> None:
    task = make_task("t", [choice_row()])
    assert (task.protocol, task.scoring, task.generation) == (
        Protocol.LOGLIK,
        Scoring.LOGLIK,
        None,
    )
    assert task.examples[0].choices == ("yes", "no")
    assert asked(scoring="loglik-per-token").scoring is Scoring.LOGLIK_PER_TOKEN
    assert asked() == asked(protocol="loglik") == task


def test_free_text_is_asked_for_in_a_chat_unless_told_otherwise() -> None:
    chat, text = asked(free_row("Paris")), asked(free_row("Paris"), protocol="text")
    assert chat.generation is not None
    assert text.generation is not None
    assert (chat.protocol, text.protocol) == (Protocol.CHAT, Protocol.TEXT)
    assert chat.examples[0].context == "Is it?"
    assert text.examples[0].context == "Question: Is it?\nAnswer:"
    # A chat model ends its turn by itself; one that goes on from text writes the next line.
    assert (chat.generation.stop, text.generation.stop) == ((), ("\n",))
    assert chat.examples[0].choices == text.examples[0].choices == ("Paris",)


def test_generated_choices_are_offered_as_letters() -> None:
    row = choice_row("up", "down", "left", answer=2)
    text, chat = asked(row, protocol="text"), asked(row, protocol="chat")
    lines = "A. up\nB. down\nC. left"
    assert text.examples[0].context == f"Question: Is it?\n{lines}\nAnswer:"
    assert chat.examples[0].context == (
        f"Is it?\n{lines}\nAnswer with the letter of the right choice."
    )
    for task in (text, chat):
        assert task.examples[0].choices == ("A", "B", "C")
        assert task.examples[0].answer == 2
        assert task.generation is not None
        assert task.generation.extract == "letter"


def test_a_field_named_options_is_the_rows_own() -> None:
    row = choice_row(options="as you like")
    task = asked(row, protocol="text", template="{question} {options}")
    assert task.examples[0].context == "Is it? as you like"


def test_choices_may_be_written_out_instead_of_their_letters() -> None:
    task = asked(protocol="text", extract="exact")
    assert task.examples[0].choices == ("no",)  # the right one alone
    assert task.examples[0].context == "Question: Is it?\nAnswer:"


def test_passages_come_before_the_question_under_every_protocol() -> None:
    for protocol in Protocol:
        task = asked(choice_row(passage="Long ago."), protocol=protocol.value)
        assert task.examples[0].context.startswith("Long ago.\n")


@pytest.mark.parametrize(
    ("answers", "extract"),
    [
        (["1,234", "-3", "$18.0"], "number"),
        (["1,234", "many"], "exact"),
        (["Paris", "Rome"], "exact"),
        (["5 apples", "6 apples"], "exact"),
    ],
)
def test_free_answers_are_read_as_numbers_where_all_are_numbers(
    answers: list[str], extract: str
) -> None:
    task = asked(*(free_row(answer) for answer in answers))
    assert task.generation is not None
    assert task.generation.extract == extract
    given = asked(*(free_row(answer) for answer in answers), extract="exact").generation
    assert given is not None
    assert given.extract == "exact"


def test_what_is_given_goes_before_what_the_way_brings() -> None:
    plain = asked(protocol="text").generation
    own = asked(protocol="text", stop=("END", "\n\n"), max_new_tokens=7).generation
    none = asked(protocol="text", stop=()).generation
    assert plain is not None
    assert own is not None
    assert none is not None
    assert (plain.stop, plain.max_new_tokens) == (("\n",), 32)
    assert (own.stop, own.max_new_tokens) == (("END", "\n\n"), 7)
    assert none.stop == ()
    long = asked(free_row("5"), protocol="text").generation
    assert long is not None
    assert (long.stop, long.max_new_tokens) == (("\nQuestion:",), 256)


CHANGES: list[dict[str, Any]] = [
    {},
    {"protocol": "text"},
    {"protocol": "chat"},
    {"protocol": "text", "extract": "exact"},
    {"protocol": "text", "max_new_tokens": 9},
    {"protocol": "text", "stop": ("x",)},
    {"scoring": "loglik-per-token"},
]


def test_whatever_changes_an_outcome_changes_the_settings() -> None:
    settings = [str(asked(**changes).settings()) for changes in CHANGES]
    assert len(set(settings)) == len(CHANGES)
    assert settings == [str(asked(**changes).settings()) for changes in CHANGES]


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        (
            {"protocol": "text"},
            {"protocol": "talk"},
            "`protocol` must be loglik, chat or text, got 'talk'",
        ),
        ({"scoring": "loglik"}, {"scoring": "best"}, "`scoring` must be loglik, .*, got 'best'"),
        ({"extract": "letter"}, {"extract": "first"}, "`extract` must be .*, got 'first'"),
        ({"extract": "regex:a"}, {"extract": "regex:("}, "not a regular expression"),
        (
            {"max_new_tokens": 1},
            {"max_new_tokens": 0},
            "`max_new_tokens` must be at least 1, got 0",
        ),
        ({"stop": ("a",)}, {"stop": ("a", "")}, "`stop` must be some text"),
    ],
)
def test_what_is_invalid_is_refused_before_any_row_is_read(
    good: dict[str, Any], bad: dict[str, Any], message: str
) -> None:
    assert Asking(**good)
    with pytest.raises(InputError, match=message):
        Asking(**bad)


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ({"protocol": "text"}, {}, "`extract` is for generated text"),
        ({"protocol": "chat"}, {"protocol": "loglik"}, "give `protocol` chat or text"),
    ],
)
@pytest.mark.parametrize(
    ("option", "value"), [("extract", "letter"), ("stop", ("x",)), ("max_new_tokens", 5)]
)
def test_options_of_generated_text_are_refused_for_log_likelihoods(
    good: dict[str, Any], bad: dict[str, Any], message: str, option: str, value: Any
) -> None:
    assert asked(**good, **{option: value})
    with pytest.raises(InputError, match=message.replace("extract", option)):
        asked(**bad, **{option: value})


def test_what_does_not_fit_the_rows_is_refused() -> None:
    assert asked(scoring="loglik")
    with pytest.raises(InputError, match="`scoring` is for log-likelihoods, and t is answered"):
        asked(protocol="text", scoring="loglik")
    assert asked(free_row("Paris"), protocol="text")
    with pytest.raises(InputError, match="t offers no choices, so `protocol` loglik has nothing"):
        asked(free_row("Paris"), protocol="loglik")
    with pytest.raises(InputError, match="there are 1; give choices, or `extract` exact"):
        asked(free_row("Paris"), extract="letter")
    many = [str(number) for number in range(27)]
    assert asked(choice_row(*many), protocol="text", extract="exact")
    with pytest.raises(InputError, match="there are 27"):
        asked(choice_row(*many), protocol="text")


def test_an_answer_that_no_text_could_give_is_refused_by_line() -> None:
    assert asked(free_row("-1,234.5"), extract="number")
    with pytest.raises(DataError, match=r"line 1: answer 'five' is not one number; give `extract`"):
        asked(free_row("five"), extract="number")
    assert asked(free_row("a."), extract="exact")
    with pytest.raises(DataError, match=r"line 1: answer ' . ' is nothing but white space"):
        asked(free_row(" . "), extract="exact")
    # A choice that is not the answer may be anything.
    assert asked(choice_row("five", "6"), protocol="text", extract="number")


def test_a_template_may_name_the_options_and_nothing_that_is_not_there() -> None:
    task = asked(protocol="chat", template=r"{options}\n{question}")
    assert task.examples[0].context == "A. yes\nB. no\nIs it?"
    assert asked(template="{options}").examples[0].choices == ("A", "B")
    with pytest.raises(DataError, match=r"no field 'opinions'.*the row has {question}"):
        asked(template="{opinions}")


# What an example is known by


def test_content_is_what_is_asked_however_it_is_asked() -> None:
    row = choice_row("up", "down", "left", answer=2, passage="Here.")
    ways: list[dict[str, Any]] = [
        {},
        {"template": "{question}"},
        {"template": "{question} {options}"},
        {"template": "{choice} is it? {question}"},
        {"protocol": "chat"},
        {"protocol": "text", "scorer": None, "extract": "exact"},
    ]
    examples = [asked(row, **way).examples[0] for way in ways]
    assert len({one.content for one in examples}) == 1
    assert len({one.digest for one in examples}) == len(ways)
    turned = choice_row("left", "up", "down", answer=0, passage=" Here. ", id="another")
    assert asked(turned).examples[0].content == examples[0].content
    others = [
        choice_row("up", "down", "left", answer=1, passage="Here."),
        choice_row("up", "down", "right", answer=2, passage="Here."),
        choice_row("up", "down", "left", answer=2, passage="There."),
        choice_row("up", "down", "left", answer=2, passage="Here.", question="Was it?"),
    ]
    contents = {asked(one).examples[0].content for one in others} | {examples[0].content}
    assert len(contents) == 5


def test_shots_and_their_seed_change_no_content() -> None:
    rows = [choice_row(question=f"Is it {number}?", answer=number % 2) for number in range(30)]
    plain = {one.content for one in asked(*rows).examples}
    shown = {one.content for one in asked(*rows, shots=2, seed=3).examples}
    assert len(plain) == 30
    assert shown < plain
