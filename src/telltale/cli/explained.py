"""An explanation of layers on the screen: what follows, and a line for each layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from telltale.cli.columns import Column, print_table
from telltale.support.plain import printable
from telltale.support.words import NOTHING, counted, layers_named, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from telltale.evidence.explanation import Bits, Explanation, LayerExplained

FIRST_LEFT_OUT = ("angular", "influence", "Taylor", "neighbours")


def explanation(found: Explanation, out: Console) -> None:
    """Print what every layer does, and what follows."""
    without = f" without {layers_named(found.removed)}" if found.removed else ""
    out.print(
        f"{found.model['name']}{without} on {found.task['name']}: {percent(found.accuracy)} of "
        f"{counted(found.task['examples'], 'example')}"
        + (f"; whole model {percent(found.whole_accuracy)}" if found.removed else "")
    )
    print_table(
        _columns(found.kept),
        out,
        where="explain.json and the report have them",
        first=FIRST_LEFT_OUT,
    )
    out.print()
    for line in found.conclusions:
        out.print(Text(printable(line), style="bold"))
    for line in found.cautions:
        out.print(f"Mind: {line}.")


def _columns(layers: Sequence[LayerExplained]) -> list[Column]:
    def column(
        heading: str, text: Callable[[LayerExplained], str], *, is_text: bool = False
    ) -> Column:
        return Column(heading, [text(one) for one in layers], is_text=is_text)

    return [
        column("layer", lambda one: str(one.layer)),
        column("bits", lambda one: _bits(one.probe.information)),
        column("change", lambda one: _bits(one.probe.change, "+")),
        column("neighbours", lambda one: _bits(one.neighbours.change, "+")),
        column("", lambda one: one.verdict or NOTHING, is_text=True),
        column("lens", lambda one: _percent(one.lens_accuracy)),
        column("Taylor", lambda one: _measure(one, "taylor")),
        column("influence", lambda one: _measure(one, "block_influence")),
        column("angular", lambda one: _measure(one, "angular_distance")),
        column("joint", lambda one: _measure(one, "joint")),
        column("without it", lambda one: _percent(one.single_removal)),
    ]


def _bits(found: Bits | None, sign: str = "") -> str:
    return NOTHING if found is None else f"{found.bits:{sign}z.2f}"


def _percent(share: float | None) -> str:
    return NOTHING if share is None else percent(share)


def _measure(one: LayerExplained, name: str) -> str:
    value = one.measures.get(name)
    return NOTHING if value is None else f"{value:.3g}"
