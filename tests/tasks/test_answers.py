"""Answers are read from text as they are written there, and compared by what they mean."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.errors import InputError
from telltale.tasks.answers import LETTERS, exact, is_number, last_number
from telltale.tasks.extractions import extraction


@st.composite
def written_numbers(draw: st.DrawFn) -> tuple[Decimal, str]:
    """A number, and one of the ways in which people write it."""
    whole = draw(st.just(0) | st.integers(0, 10**9))
    digits = f"{whole:,}" if draw(st.booleans()) else str(whole)
    fraction = draw(st.from_regex(r"(\.[0-9]{1,6})?", fullmatch=True))
    exponent = draw(st.sampled_from(["", "", "", "e2", "E+3", "e-4"]))
    minus = draw(st.sampled_from(["", "-", "\u2212"]))
    currency = draw(st.sampled_from(["", "$", "€", "£"]))
    sign_and_currency = draw(st.permutations([minus, currency]))
    value = Decimal(f"{whole}{fraction}{exponent}") * (-1 if minus else 1)
    return value, "".join(sign_and_currency) + digits + fraction + exponent


@given(
    written_numbers(),
    st.sampled_from(["", "So it is ", "4 + 2 = ", "x=", "(", "**", "\n", "It is 3, no, ", "a: "]),
    st.sampled_from(["", ".", " apples.", ")", "**", "%", "\n", ", I think", "kg"]),
)
def test_a_number_is_read_as_its_value_wherever_it_stands(
    number: tuple[Decimal, str], before: str, after: str
) -> None:
    value, text = number
    found = last_number(before + text + after)
    assert found is not None
    assert Decimal(found) == value
    # One form for one value: no exponent, no needless digit, no negative zero.
    assert found == f"{value.normalize():f}".removeprefix("-" if value == 0 else "none")
    assert is_number(text)
    assert is_number(f" {text}\n")
    assert last_number(found) == found


@given(written_numbers(), written_numbers())
def test_an_answer_is_right_if_its_value_is(
    one: tuple[Decimal, str], other: tuple[Decimal, str]
) -> None:
    number = extraction("number")
    answer = number.find(f"that makes {one[1]}.")
    assert number.score(answer, one[1]) == 1
    assert number.score(answer, other[1]) == float(one[0] == other[0])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234", "1234"),
        ("$18", "18"),
        ("18.0", "18"),
        ("-3", "-3"),
        ("-$3.50", "-3.5"),
        ("-0.0", "0"),
        ("10-3", "3"),  # a minus between two terms
        ("f(2)-3", "3"),
        ("from 3 to -3", "-3"),
        ("12,34", "34"),  # no thousands
        ("1,2,3", "3"),
        ("007", "7"),
        ("2024-05-06", "6"),
        ("no number", None),
        ("", None),
        ("-", None),
        ("$", None),
    ],
)
def test_the_last_number_counts_and_a_sign_is_no_hyphen(text: str, found: str | None) -> None:
    assert last_number(text) == found


@pytest.mark.parametrize("text", ["", "-", "about 5", "5 apples", "3 4", "3-4", "1,23", "five"])
def test_what_is_more_or_less_than_one_number_is_none(text: str) -> None:
    assert is_number("5")
    assert not is_number(text)


WORDS = st.lists(st.sampled_from(["Paris", "is", "ÉTÉ", "straße", "1.5", "no."]), min_size=1)


@given(WORDS, st.sampled_from([" ", "  ", "\n", "\t "]), st.sampled_from(["", ".", " . "]))
def test_an_exact_answer_is_the_same_in_any_case_and_spacing(
    words: list[str], space: str, end: str
) -> None:
    plain = " ".join(words).removesuffix(".")
    noisy = f" {space.join(words).removesuffix('.').upper()}{end}{space}"
    assert exact(noisy) == exact(plain)
    assert exact(plain + " x") != exact(plain)


@pytest.mark.parametrize("text", ["", " \n", ".", " . "])
def test_a_text_of_nothing_holds_no_exact_answer(text: str) -> None:
    assert exact("Paris.") == "paris"
    assert exact(text) is None


# Texts that come near to an answer by letter: words, contractions, brackets, marks of emphasis.
LETTERED = st.text(alphabet="AABBCDab'’ 1.()*:\n", max_size=12)


@given(LETTERED, st.integers(2, 4))
def test_a_letter_is_the_first_that_stands_alone_and_names_a_choice(
    text: str, choices: int
) -> None:
    def is_alone(at: int) -> bool:
        further, before, _, after, beyond = padded[at - 2 : at + 3]
        joined_before = before.isalnum() or (before in "'’" and further.isalnum())
        joined_after = after.isalnum() or (after in "'’" and beyond.isalpha())
        return not joined_before and not joined_after

    padded = f"  {text}  "
    alone = [
        padded[at]
        for at in range(2, len(padded) - 2)
        if padded[at] in LETTERS[:choices] and is_alone(at)
    ]
    assert extraction("letter", choices).find(text) == (alone[0] if alone else None)


@given(LETTERED)
def test_an_answer_is_final_just_where_the_rest_of_a_word_would_not_change_it(text: str) -> None:
    letter = extraction("letter", 4)
    assert letter.is_final is not None
    found = letter.find(text)
    assert letter.is_final(text) == (found is not None and letter.find(text + "s") == found)


@given(LETTERED, st.sampled_from("ABCD"), st.sampled_from(" .,:)*\n"), LETTERED)
def test_no_text_changes_an_answer_that_is_final(
    before: str, answer: str, after: str, more: str
) -> None:
    letter = extraction("letter", 4)
    assert letter.is_final is not None
    text = f"{before} {answer}{after}"
    assert letter.is_final(text)
    assert letter.find(text) is not None
    assert letter.find(text + more) == letter.find(text)


@given(st.text(alphabet="abd 1.()*:\n", max_size=12), st.sampled_from("ABCD"))
def test_a_letter_at_the_end_waits_for_what_may_follow(before: str, answer: str) -> None:
    letter = extraction("letter", 4)
    assert letter.is_final is not None
    for end in ("", "'", "’"):
        text = f"{before} {answer}{end}"
        assert letter.find(text) == answer
        assert not letter.is_final(text)
        assert letter.find(text + "s") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("B", "B"),
        ("The answer is (C).", "C"),
        ("**D**", "D"),
        ("B. Paris", "B"),
        ("The answer is 'B'.", "B"),
        ("DÉCIDER", None),
        ("b", None),
        ("Because", None),
        ("E", None),
        ("I don't know", None),
        ("Plan B or A", "B"),
    ],
)
def test_letters_are_read_from_the_ways_in_which_models_answer(
    text: str, found: str | None
) -> None:
    letter = extraction("letter", 4)
    assert letter.find(text) == found
    assert letter.score(found, "B") == float(found == "B")


def test_a_pattern_gives_its_first_group_or_all_that_it_matches() -> None:
    whole, grouped = extraction("regex:[a-z]+ly"), extraction(r"regex:answer is (\w+)( or \w+)?")
    assert whole.find("It went Badly and sadly.") == "adly"
    assert grouped.find("The answer is Paris or Rome; the answer is Oslo") == "paris"
    assert whole.find("nothing") is None
    assert extraction("regex:x(y?)").find("x") is None  # an empty match is no answer
    assert extraction("regex:x(y)?").find("x") is None  # nor is a group that took no part


def test_a_pattern_reads_the_right_answer_too_where_it_is_there() -> None:
    way = extraction(r"regex:#### (\S+)")
    assert way.score(way.find("2 + 2 is 4\n#### 4"), "First add them up.\n#### 4") == 1
    assert way.score(way.find("2 + 2 is 5\n#### 5"), "First add them up.\n#### 4") == 0
    assert way.score(way.find("#### Paris"), " paris. ") == 1


@pytest.mark.parametrize("name", ["exact", "letter", "number", "regex:."])
@given(st.text(max_size=30))
def test_any_text_gives_an_answer_or_none_and_none_is_wrong(name: str, text: str) -> None:
    way = extraction(name, 4)
    assert way.find(text) != ""
    assert way.score(None, "B") == 0
    assert way.name == name


def test_a_way_that_is_none_is_refused_with_those_there_are() -> None:
    for good in ("exact", "letter", "number", "regex:a"):
        assert extraction(good, 2).max_new_tokens > 0
    for name in ("first", "", "regex", "regex:", "Exact", "letter "):
        with pytest.raises(
            InputError,
            match=rf"`extract` must be exact, .* or regex:PATTERN, got {name!r}",
        ):
            extraction(name, 2)


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", r"\p{L}", "*"])
def test_a_pattern_that_is_none_is_refused_in_one_line(pattern: str) -> None:
    assert extraction("regex:(a)")
    with pytest.raises(
        InputError, match=r"is not a regular expression.*quote it for the shell"
    ) as e:
        extraction(f"regex:{pattern}")
    assert "\n" not in str(e.value)


def test_letters_need_two_to_twenty_six_choices() -> None:
    assert extraction("letter", 2).find("B") == "B"
    assert extraction("letter", 26).find("Z") == "Z"
    with pytest.raises(InputError, match="there are 1; give choices, or `extract` exact"):
        extraction("letter", 1)
    with pytest.raises(InputError, match="there are 27; give `extract` exact"):
        extraction("letter", 27)
