"""Formatting numbers for the report and the terminal. Knows nothing else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_RANGE = re.compile(r"(?<=\d)-(?=\d)")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
NOTHING = "–"  # in a cell where there is nothing to say


def percent(share: float) -> str:
    """A share as a percentage: ``71.7%``."""
    return f"{100 * share:.1f}%"


def between(interval: Sequence[float]) -> str:
    """An interval of shares in percent: ``59.2-81.5``."""
    low, high = interval
    return f"{100 * low:.1f}-{100 * high:.1f}"


def points(share: float) -> str:
    """A difference of shares as signed percentage points: ``+4.1``."""
    found = f"{100 * share:+.1f}"
    return "0.0" if found in ("+0.0", "-0.0") else found


def points_between(interval: Sequence[float]) -> str:
    """An interval of differences in points: ``-11.9 to +8.3``."""
    low, high = interval
    return f"{points(low)} to {points(high)}"


def loss(share: float) -> str:
    """An upper bound of a loss, in points without a sign; ``nothing`` where it is not positive."""
    return "nothing" if share <= 0 else f"{100 * share:.1f}"


def millions(count: int) -> str:
    """A number of parameters: ``134.5M``."""
    return f"{count / 1e6:,.1f}M"


def number(value: float) -> str:
    """A number with about three significant digits: ``1,045``, ``44.6``, ``-2.17``."""
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def bits(amount: float, *, signed: bool = False) -> str:
    """An amount of information in bits: ``0.412``; a change with its sign, ``+0.031``."""
    found = f"{amount:{'+' if signed else ''}.3f}"
    return "0.000" if found in ("-0.000", "+0.000") else found


def bits_between(interval: Sequence[float], *, signed: bool = False) -> str:
    """An interval of bits: ``0.357 to 0.467``."""
    low, high = interval
    return f"{bits(low, signed=signed)} to {bits(high, signed=signed)}"


def duration(seconds: float) -> str:
    """A duration in its two largest units: ``1 min 05 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def counted(count: int, thing: str) -> str:
    """A number of things: ``1 layer``, ``1,000 layers``."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def one_of(names: Iterable[str]) -> str:
    """What may be given: ``float32, bfloat16 or auto``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def listed(layers: Sequence[int]) -> str:
    """Layers by their index: ``3, 17``; ``none``."""
    return ", ".join(map(str, layers)) or "none"


def layers_named(layers: Sequence[int]) -> str:
    """Removed layers in ascending order: ``layers 3, 17``."""
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, sorted(layers)))}"


def typeset(text: str) -> str:
    """Numbers with a typographic minus sign, and an en dash in ranges."""
    return _MINUS.sub("−", _RANGE.sub("–", text))
