"""SVG from small pieces: tags, scales, ticks, names over points. Knows no studies.

Every text that comes in is escaped here, so what goes out may stand in a page as it is. Colours
come from a `Palette`: by custom properties of the page's style, or as they are in a file of its
own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from telltale.support.plain import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SIZE = 12  # of letters, in the drawing's own units
LETTER = 6.4  # how wide one is, about
FONT = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, 'DejaVu Sans', "
    "sans-serif"
)
WIDER = 1.14  # bold letters than others
BOLD = {"font_weight": 600}
MARGIN = 14.0  # about a drawing in a file of its own
SHADES = 16  # of a heat map
RAMPS = ("heat", "below")  # those colours of a palette that are ``SHADES`` each


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of a drawing.

    ``heat`` goes from the lowest value to the highest. Where values have a sign it goes from 0 up,
    and ``below`` from 0 down.
    """

    paper: str
    ink: str
    muted: str
    faint: str
    held_out: str
    search: str
    heat: tuple[str, ...]
    below: tuple[str, ...]

    def properties(self) -> dict[str, str]:
        """The colours by the custom properties that `INLINE` names."""
        named = {
            "paper": self.paper,
            "ink": self.ink,
            "muted": self.muted,
            "faint": self.faint,
            "held-out": self.held_out,
            "search": self.search,
        }
        for ramp in RAMPS:
            named |= {f"{ramp}-{at}": colour for at, colour in enumerate(getattr(self, ramp))}
        return named


def _ramp(*stops: str) -> tuple[str, ...]:
    """``SHADES`` colours, evenly from the first of some to the last."""
    parts = [[int(stop[at : at + 2], 16) for at in (1, 3, 5)] for stop in stops]
    found = []
    for shade in range(SHADES):
        place = shade / (SHADES - 1) * (len(parts) - 1)
        left = min(int(place), len(parts) - 2)
        mixed = (
            round(a + (b - a) * (place - left))
            for a, b in zip(parts[left], parts[left + 1], strict=True)
        )
        found.append("#" + "".join(f"{one:02x}" for one in mixed))
    return tuple(found)


# Blue and ochre are told apart by every kind of colour vision; a heat map has one hue, and says
# more by being further from the paper. Where values have a sign each sign has its hue.
LIGHT = Palette(
    paper="#fdfcfa",
    ink="#1d1e22",
    muted="#62646b",
    faint="#dedcd6",
    held_out="#1f5592",
    search="#b3560f",
    heat=_ramp("#f1f3f5", "#bdd0e4", "#5f93c4", "#215a96", "#0b2a52"),
    below=_ramp("#f1f3f5", "#eed3b4", "#cf8a48", "#96480c", "#4d2204"),
)
DARK = Palette(
    paper="#15171b",
    ink="#e8e6e1",
    muted="#a0a2a8",
    faint="#34373e",
    held_out="#83b5ef",
    search="#e79a4e",
    heat=_ramp("#1c2129", "#24405f", "#2f6ca6", "#77aee3", "#dcebfb"),
    below=_ramp("#1c2129", "#573a1e", "#9c6327", "#e0a15c", "#fbe9d4"),
)
INLINE = Palette(
    **{name: f"var(--{name.replace('_', '-')})" for name in Palette.__slots__ if name not in RAMPS},
    heat=tuple(f"var(--heat-{shade})" for shade in range(SHADES)),
    below=tuple(f"var(--below-{shade})" for shade in range(SHADES)),
)


def tag(name: str, *inner: str, **attributes: str | float) -> str:
    """An element. ``inner`` is SVG already; attributes are escaped, ``_`` in a name is ``-``."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_value(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(inner)}</{name}>" if inner else f"<{name}{given}/>"


def _value(value: str | float) -> str:
    return printable(value) if isinstance(value, str) else trimmed(value)


def trimmed(value: float) -> str:
    """A coordinate with as few digits as will do."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def words(text: str, x: float, y: float, colour: str, **attributes: str | float) -> str:
    """A line of text."""
    return tag("text", escape(printable(text)), x=x, y=y, fill=colour, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, **more: str | float) -> str:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=colour, **more)


def polyline(points: Iterable[tuple[float, float]], colour: str, **more: str | float) -> str:
    """A line through points."""
    shape = " ".join(f"{trimmed(x)},{trimmed(y)}" for x, y in points)
    return tag("polyline", points=shape, stroke=colour, fill="none", **more)


def tooltip(text: str) -> str:
    """What is shown where a pointer rests, and read aloud."""
    return tag("title", escape(printable(text)))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing: its size, what it shows in words, and what it is made of."""

    width: float
    height: float
    title: str
    parts: Sequence[str]

    def inline(self) -> str:
        """As it stands in a page, which sets its colours and its letters."""
        return self._svg(0)

    def standalone(self, palette: Palette = LIGHT) -> str:
        """As a file of its own, with a margin."""
        whole = {"width": self.width + 2 * MARGIN, "height": self.height + 2 * MARGIN}
        return self._svg(
            MARGIN,
            tag("rect", x=-MARGIN, y=-MARGIN, fill=palette.paper, **whole),
            xmlns="http://www.w3.org/2000/svg",
            font_family=FONT,
            font_size=SIZE,
            **whole,
        )

    def _svg(self, margin: float, *first: str, **attributes: str | float) -> str:
        box = (-margin, -margin, self.width + 2 * margin, self.height + 2 * margin)
        return tag(
            "svg",
            tooltip(self.title),
            *first,
            *self.parts,
            viewBox=" ".join(map(trimmed, box)),
            role="img",
            aria_label=self.title,
            **attributes,
        )


class Scale(NamedTuple):
    """Values from ``low`` to ``high``, drawn from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a value is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scale_for(values: Iterable[float], start: float, end: float, margin: float = 0.08) -> Scale:
    """A scale that holds some values with a margin on both sides; there is at least one."""
    seen = list(values)
    low, high = min(seen), max(seen)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return Scale(low - room, high + room, start, end)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from ``low`` to ``high``, at most so many and one more."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * by for by in (1, 2, 2.5, 5, 10) if power * by >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * index, 10) for index in range(first, last + 1)]


class Flag(NamedTuple):
    """A name over a point of a drawing."""

    x: float
    value: float
    text: str


ROW = 16  # the height of a row of names


@dataclass(frozen=True, slots=True)
class Flags:
    """Names above a plot that reaches from ``left`` to ``right``, each over its point.

    They stand in as many rows as it takes that none covers another.
    """

    flags: Sequence[Flag]
    left: float
    right: float

    @property
    def height(self) -> float:
        """How much room they take above the plot."""
        return ROW * (1 + max(self._rows(), default=-1))

    def drawn(self, top: float, y: Scale, ink: str) -> list[str]:
        """The names above ``top``, each with a fine line down to its point."""
        parts = []
        for flag, row in zip(self.flags, self._rows(), strict=True):
            at = top - 6 - ROW * row
            end = y.at(flag.value) - 6
            fine = {"stroke_dasharray": "1 3"}
            parts += [
                line(flag.x, at + 4, flag.x, end, ink, stroke_width=0.8, **fine),
                words(flag.text, self._middle(flag), at, ink, text_anchor="middle", **BOLD),
            ]
        return parts

    def _rows(self) -> list[int]:
        ends: list[float] = []
        rows = [0] * len(self.flags)
        order = sorted(range(len(self.flags)), key=lambda index: self._middle(self.flags[index]))
        for index in order:
            middle, half = self._middle(self.flags[index]), self._half(self.flags[index])
            row = next((row for row, end in enumerate(ends) if end <= middle - half), len(ends))
            ends[row : row + 1] = [middle + half + 10]
            rows[index] = row
        return rows

    def _middle(self, flag: Flag) -> float:
        """Over its point, or as near as the edges allow."""
        half = self._half(flag)
        return min(max(flag.x, self.left + half), self.right - half)

    def _half(self, flag: Flag) -> float:
        return width_of(flag.text) * WIDER / 2


def width_of(text: str) -> float:
    """About how wide a text is."""
    return LETTER * len(text)


class Entry(NamedTuple):
    """An entry of a legend: a symbol drawn about (12, 0), and what it means."""

    symbol: str
    text: str


def legend(
    entries: Sequence[Entry], left: float, top: float, right: float, muted: str
) -> tuple[list[str], float]:
    """A legend from ``top`` on, and how high it is."""
    parts, x, y = [], left, top
    for entry in entries:
        width = 30 + width_of(entry.text) + 14
        if x > left and x + width > right + 14:
            x, y = left, y + 18
        text = words(entry.text, 30, 4, muted)
        parts.append(tag("g", entry.symbol, text, transform=f"translate({x:.1f} {y:.1f})"))
        x += width
    return parts, y + 12 - top
