"""Tables that fit a terminal: columns are left out where there is no room, and no word is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from telltale.support.plain import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

GAPS = (2, 1)  # characters between columns; the first that fits


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, and a text for each row.

    A text that is ``joined`` by something, such as a space, may be broken over lines there, down
    to ``at_least`` characters or its longest word. Numbers, which are set flush right, have what is
    in parentheses on a line of its own where there is little room.
    """

    heading: str
    cells: Sequence[str]
    joined: str | None = None
    at_least: int = 0
    is_text: bool = False

    @property
    def name(self) -> str:
        """The heading on one line."""
        return " ".join(self.heading.split())

    @property
    def texts(self) -> tuple[str, ...]:
        """The heading and every cell."""
        return (self.heading, *self.cells)

    @property
    def width(self) -> int:
        """In characters, where nothing is broken."""
        return _longest(line for text in self.texts for line in text.split("\n"))

    @property
    def narrowest(self) -> int:
        """In characters, where all is broken that may be."""
        if self.joined is None:
            return self.width
        pieces = _longest(piece for text in self.texts for piece in _pieces(text, self.joined))
        return max(pieces, min(self.at_least, self.width))

    def stacked(self) -> Column:
        """The same with what is in parentheses on a line of its own."""
        if self.is_text:
            return self
        heading, *cells = (text.replace(" (", "\n(") for text in self.texts)
        return Column(heading, cells)

    def broken(self, width: int) -> list[str]:
        """Its texts, broken where that may be, so that no line is wider."""
        if self.joined is None:
            return list(self.texts)
        return [_broken(text, width, self.joined) for text in self.texts]


def print_table(
    columns: Sequence[Column],
    out: Console,
    *,
    where: str,
    first: Sequence[str] = (),
    then: Sequence[str] = (),
) -> list[str]:
    """Print a table no wider than the console, and below it which columns it has no room for.

    Args:
        columns: the table's.
        out: where to.
        where: where a reader finds what is left out, such as ``result.json has them``.
        first: the names of columns that are left out, one after the other in this order, before
            anything is broken over lines.
        then: those that are left out after that.

    Returns:
        The names of the columns that are shown.
    """
    shown, gap = _fitting(columns, first, then, out.width)
    out.print(_table(shown, gap, out.width))
    names = [column.name for column in shown]
    if absent := [column.name for column in columns if column.name not in names]:
        out.print(f"Columns left out: {', '.join(absent)}; {where}.")
    return names


def _fitting(
    columns: Sequence[Column], first: Sequence[str], then: Sequence[str], width: int
) -> tuple[list[Column], int]:
    """The columns to show and the gap between them; the narrowest form where none fits."""
    for shown, is_broken in _forms(columns, first, then):
        widths = [column.narrowest if is_broken else column.width for column in shown]
        for gap in GAPS:
            if sum(widths) + gap * (len(shown) - 1) <= width:
                return shown, gap
    return shown, gap


def _forms(
    columns: Sequence[Column], first: Sequence[str], then: Sequence[str]
) -> Iterator[tuple[list[Column], bool]]:
    """Ever narrower choices of columns, and whether they are broken over lines."""
    shown = list(columns)
    yield shown, False
    for name in first:
        shown = [column for column in shown if column.name != name]
        yield shown, False
    yield shown, True
    shown = [column.stacked() for column in shown]
    yield shown, True
    for name in then:
        shown = [column for column in shown if column.name != name]
        yield shown, True


def _table(columns: Sequence[Column], gap: int, width: int) -> Table:
    """The columns that may be broken share what the others leave, the longest getting most."""
    widths = [column.narrowest for column in columns]
    wanted = [column.width for column in columns]
    room = width - sum(widths) - gap * (len(columns) - 1)
    for _ in range(min(room, sum(wanted) - sum(widths))):
        lacking = [want - has for want, has in zip(wanted, widths, strict=True)]
        widths[lacking.index(max(lacking))] += 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    texts = []
    for column, wide in zip(columns, widths, strict=True):
        heading, *cells = column.broken(wide)
        texts.append(cells)
        table.add_column(
            _plain(heading),
            justify="left" if column.is_text else "right",
            width=wide,
            overflow="fold",
        )
    for row in zip(*texts, strict=True):
        table.add_row(*map(_plain, row))
    return table


def _plain(text: str) -> Text:
    """A text, broken where it is broken, with nothing else that a terminal would obey."""
    return Text("\n".join(map(printable, text.split("\n"))))


def _pieces(text: str, joint: str) -> list[str]:
    """What a text may be broken into, each with what joins it to the next but for the space."""
    *pieces, last = text.split(joint)
    return [*(piece + joint.rstrip() for piece in pieces), last]


def _broken(text: str, width: int, joint: str) -> str:
    first, *rest = _pieces(text, joint)
    lines = [first]
    for piece in rest:
        if cell_len(f"{lines[-1]} {piece}") <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)


def _longest(texts: Iterable[str]) -> int:
    return max(cell_len(text) for text in texts)
