"""Examples mended and broken: counted, marked, and cut to what a page can hold."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from telltale.report.examples import (
    LONG,
    MOST_SHOWN,
    SHORT,
    Changes,
    changes,
    differences,
    in_the_middle,
    shown_text,
)
from tests.report.made import Made

if TYPE_CHECKING:
    from telltale.evidence import PathModel


def looked_at(made: Made) -> PathModel:
    model = made.finished().searched.worth
    assert model is not None
    return model


def changed(made: Made, budget: int = 900_000) -> Changes:
    found = changes(made.finished(), looked_at(made), budget)
    assert found is not None
    return found


def test_mended_and_broken_make_up_the_gain() -> None:
    made = Made(held_out=500)
    found, model = changed(made), looked_at(made)
    assert model.held_out is not None
    assert found.total == 500
    gain = (found.mended.count - found.broken.count) / found.total
    assert abs(gain - model.held_out.gain) < 1e-9
    assert found.broken.count > 0


def test_at_most_so_many_of_each_are_shown() -> None:
    found = changed(Made(held_out=1000))
    for kind in (found.mended, found.broken):
        assert kind.count > MOST_SHOWN
        assert len(kind.shown) == MOST_SHOWN


def test_choices_are_marked_by_who_took_them() -> None:
    found = changed(Made(held_out=200))
    for one in found.mended.shown:
        (right,) = [choice for choice in one.choices if choice.is_right]
        assert right.by_shallower
        assert not right.by_whole
        assert sum(choice.by_whole for choice in one.choices) == 1
    for one in found.broken.shown:
        (right,) = [choice for choice in one.choices if choice.is_right]
        assert right.by_whole
        assert not right.by_shallower


def test_of_many_choices_those_that_matter_are_shown() -> None:
    made = Made(held_out=200, choices=tuple(f"choice {i}" for i in range(100)))
    for one in changed(made).mended.shown:
        assert len(one.choices) + one.more_choices == 100
        assert {choice.is_right or choice.by_whole for choice in one.choices} == {True}


def test_written_answers_are_shown_as_they_were_read() -> None:
    found = changed(Made(held_out=200, writes=True))
    for one in found.mended.shown:
        assert one.written is not None
        assert one.right is not None
        before, after = one.written
        assert after.answer == one.right
        assert after.text.short == f"The answer is {one.right.short}."
        assert before.answer != one.right
    unread = [one for one in found.mended.shown if one.written and one.written[0].answer is None]
    assert unread
    assert any(one.written[1].cut_off for one in found.mended.shown if one.written)


def test_scores_between_right_and_wrong_count_as_changes() -> None:
    made = Made(held_out=30)
    study, model = made.finished(), looked_at(made)
    outcomes = {
        key: {
            position: replace(one, score=0.25 if key[1].removed else 0.5)
            for position, one in of_path.items()
        }
        for key, of_path in study.outcomes.items()
    }
    found = changes(replace(study, outcomes=outcomes), model)
    assert found is not None
    assert (found.mended.count, found.broken.count) == (0, 30)
    assert found.broken.shown[0].after == 0.25


def test_outcomes_that_the_file_lacks_are_not_made_up() -> None:
    made = Made()
    study = replace(made.finished(), outcomes={})
    assert changes(study, looked_at(made)) is None
    assert differences(study, looked_at(made)) == []


def test_a_budget_keeps_as_many_examples_in_short_as_fit() -> None:
    made = Made(held_out=700, context=lambda i: f"{i} " + "<" * 20_000)
    sizes = {}
    for budget in (20_000, 200_000, 900_000):
        found = changed(made, budget)
        shown = [*found.mended.shown, *found.broken.shown]
        sizes[budget] = len(shown)
        spent = sum(len(escape(one.context.short + one.context.whole)) for one in shown)
        assert spent <= budget
        assert abs(len(found.mended.shown) - len(found.broken.shown)) <= 1
    assert sizes[20_000] < sizes[900_000] == 2 * MOST_SHOWN
    assert any(one.context.whole for one in changed(made).mended.shown)


def test_a_text_says_how_much_of_it_is_nowhere() -> None:
    assert shown_text("a" * SHORT).short == "a" * SHORT
    longer = shown_text("a" * (SHORT + 1))
    assert len(longer.whole) == SHORT + 1
    assert longer.omitted == 0
    cut = shown_text("a" * (LONG + 7))
    assert (len(cut.whole), cut.omitted) == (LONG, 7)
    alone = shown_text("a" * 1000, SHORT)
    assert (alone.whole, alone.omitted) == ("", 400)


def test_a_short_text_of_many_escapes_is_still_short() -> None:
    found = shown_text("\x00" * 20_000)
    assert len(found.short) < SHORT + 10
    assert len(found.whole) == LONG


def test_lines_stay_lines_and_all_else_is_printable() -> None:
    assert shown_text("a\r\n\tb\x1b\u202ec").short == "a\n\tb\\x1b\\u202ec"


def test_the_middle_is_what_is_left_out() -> None:
    assert in_the_middle("0123456789", 10) == "0123456789"
    assert in_the_middle("0123456789x", 9) == "012345 […] 89x"


def test_an_example_is_known_by_its_last_line_that_says_something() -> None:
    found = changed(Made(context=lambda i: f"A passage.\nQuestion: is this number {i}?\nAnswer:"))
    assert found.mended.shown[0].glance.startswith("Question: is this number")
