"""Which held-out examples a shallower model mends and which it breaks, with as much text as fits.

Text comes from data and from models. Here it becomes lines of printable characters, cut to size;
that it is escaped is the page's affair. A page is to be sent and opened anywhere, so all its
examples together have a budget in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from telltale.paths import LayerPath
from telltale.support.plain import printable
from telltale.tasks.sets import HELD_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from telltale.evidence.result import PathModel
    from telltale.measure import Outcome
    from telltale.study.reading import StoredStudy
    from telltale.study.records import StoredExample

MOST_SHOWN = 50  # of those mended, and of those broken
SHORT = 600  # characters of a text at first sight
LONG = 20_000  # characters of a text at most
MOST_CHOICES = 30
SAYS_SOMETHING = 16  # characters of a line
TAGS = 250  # bytes about a text
BUDGET = 900_000  # bytes of all texts on a page, as it is written


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is shown: ``short`` at once, ``whole`` in a box where it is there too.

    ``omitted`` counts the characters that are nowhere on the page.
    """

    short: str
    whole: str = ""
    omitted: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice, and who took it."""

    text: Text
    is_right: bool
    by_whole: bool
    by_shallower: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote, and the answer that was read from it, if any could be."""

    text: Text
    answer: Text | None
    cut_off: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """An example whose score a shallower model changes.

    Where choices were compared, ``choices`` are all of them but ``more_choices``; where text was
    generated, ``written`` has the whole model's and the shallower one's, and ``right`` the answer.
    """

    name: str
    glance: str
    before: float
    after: float
    context: Text
    choices: tuple[Choice, ...] = ()
    more_choices: int = 0
    right: Text | None = None
    written: tuple[Written, Written] | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """Examples mended, or broken: how many there are, and those that are shown."""

    count: int
    shown: tuple[Changed, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a shallower model changes on the held-out set."""

    mended: Kind
    broken: Kind
    total: int


class Difference(NamedTuple):
    """An example with its outcomes on the whole and on the shallower model."""

    example: StoredExample
    before: Outcome
    after: Outcome

    @property
    def by(self) -> float:
        """How much its score rises."""
        return self.after.score - self.before.score


def differences(study: StoredStudy, model: PathModel) -> list[Difference]:
    """Every held-out example with its outcomes on the whole model and on another, in order.

    Empty where the study's file does not have them.
    """
    whole = study.outcomes.get((HELD_OUT, LayerPath.whole(model.path.total)), {})
    shallower = study.outcomes.get((HELD_OUT, model.path), {})
    return [
        Difference(one, whole[one.position], shallower[one.position])
        for one in study.examples
        if one.position in whole and one.position in shallower
    ]


def changes(study: StoredStudy, model: PathModel, budget: int = BUDGET) -> Changes | None:
    """What a model of the path changes, with texts of so many bytes; None where nothing is known.

    Texts in short come first, mended and broken in turn; whole ones take what is left.
    """
    seen = differences(study, model)
    if not seen:
        return None
    mended = [one for one in seen if one.by > 0]
    broken = [one for one in seen if one.by < 0]
    shown = _within(list(_in_turn(mended[:MOST_SHOWN], broken[:MOST_SHOWN])), budget)
    return Changes(
        Kind(len(mended), tuple(found for one, found in shown if one.by > 0)),
        Kind(len(broken), tuple(found for one, found in shown if one.by < 0)),
        len(seen),
    )


def _within(seen: Sequence[Difference], budget: int) -> list[tuple[Difference, Changed]]:
    """As many examples as the budget allows in short, then as many of these whole."""
    shown: list[tuple[Difference, Changed]] = []
    left = budget
    for one in seen:
        for longest in (SHORT, SHORT // 6):
            found = _changed(one, longest)
            if _bytes_of(found) <= left:
                shown.append((one, found))
                left -= _bytes_of(found)
                break
    for index, (one, short) in enumerate(shown):
        whole = _changed(one, LONG)
        more = _bytes_of(whole) - _bytes_of(short)
        if more <= left:
            shown[index] = one, whole
            left -= more
    return shown


def _in_turn(left: Sequence[Difference], right: Sequence[Difference]) -> Iterable[Difference]:
    """One of each for as long as there are both, then the rest."""
    for index in range(max(len(left), len(right))):
        yield from left[index : index + 1]
        yield from right[index : index + 1]


def _changed(one: Difference, longest: int) -> Changed:
    example, before, after = one
    context = shown_text(example.context, longest)
    found = Changed(
        printable(example.id),
        _glance(context.short),
        before.score,
        after.score,
        context,
    )
    if before.generated is None or after.generated is None:
        choices = [
            Choice(
                shown_text(text, longest),
                index == example.answer,
                index == before.answer,
                index == after.answer,
            )
            for index, text in enumerate(example.choices)
        ]
        telling = [c for c in choices if c.is_right or c.by_whole or c.by_shallower]
        rest = choices if len(choices) <= MOST_CHOICES else telling
        return replace(found, choices=tuple(rest), more_choices=len(choices) - len(rest))
    right = shown_text(example.choices[example.answer], longest)
    return replace(
        found, right=right, written=(_written(before, longest), _written(after, longest))
    )


def _glance(text: str) -> str:
    """The line by which to know a text: the last that says more than ``Answer:``."""
    lines = [part.strip() for part in text.split("\n") if part.strip()]
    telling = [part for part in lines if len(part) >= SAYS_SOMETHING] or lines or [""]
    return in_the_middle(telling[-1], 90)


def _written(outcome: Outcome, longest: int) -> Written:
    assert outcome.generated is not None
    answer = None if outcome.answer is None else shown_text(str(outcome.answer), SHORT)
    return Written(shown_text(outcome.generated.text, longest), answer, outcome.generated.cut_off)


def shown_text(text: str, longest: int = LONG) -> Text:
    """A text in lines of printable characters, whole up to a length, in short up to `SHORT`."""
    plain = _in_lines(text[: LONG + 1])
    short = in_the_middle(plain, min(SHORT, longest))
    if short == plain and len(text) <= LONG:
        return Text(short)
    if longest <= SHORT:
        return Text(short, omitted=max(0, len(text) - longest))
    whole = plain[:LONG]
    return Text(short, whole, omitted=max(0, len(text) - LONG))


def _in_lines(text: str) -> str:
    """Line breaks and tabs as they are, all else that does not show itself as an escape."""
    return "\n".join(
        "\t".join(map(printable, part.split("\t")))
        for part in text.replace("\r\n", "\n").split("\n")
    )


def in_the_middle(text: str, most: int) -> str:
    """A text with its middle left out where it is longer than so many characters."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    return f"{text[:head]} […] {text[head - most :]}"


def _texts(found: Changed) -> Iterable[Text]:
    yield found.context
    yield from (choice.text for choice in found.choices)
    if found.right is not None:
        yield found.right
    for written in found.written or ():
        yield written.text
        if written.answer is not None:
            yield written.answer


def _bytes_of(found: Changed) -> int:
    """What an example takes in the page, with the tags about its texts."""
    return sum(
        len(escape(text.short + text.whole).encode("utf-8", "replace")) + TAGS
        for text in _texts(found)
    )


def as_rows(seen: Iterable[Difference]) -> list[Mapping[str, object]]:
    """Every held-out example's scores, without its text."""
    return [
        {
            "position": one.example.position,
            "id": one.example.id,
            "whole_model_score": one.before.score,
            "score": one.after.score,
            "change": "mended" if one.by > 0 else "broken" if one.by < 0 else "",
        }
        for one in seen
    ]
