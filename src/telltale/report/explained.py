"""The page of an explanation: what is said of layers, put into its template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.evidence.explanation import ADDS, CANNOT_TELL, SUPPRESSES, layers_of
from telltale.report.figures import layer_drawings
from telltale.report.layer_tables import layer_columns, layer_rows
from telltale.report.layer_words import (
    classes_words,
    cost_sentence,
    predictions_sentence,
    sizes,
    subject,
)
from telltale.report.svg import INLINE
from telltale.report.template import KeyFigure, markup, rendered
from telltale.support.words import percent

if TYPE_CHECKING:
    from telltale.evidence.explanation import Explanation


def explanation_page(explained: Explanation) -> str:
    """A page on why layers go, complete in itself: nothing in it is loaded from elsewhere."""
    tables = {"all layers": layer_rows(explained, explained.layers)}
    if explained.removed:
        tables = {
            "the shallower model": layer_rows(explained, explained.layers),
            "the whole model": layer_rows(explained, explained.whole),
        }
    removed, layers = len(explained.removed), len(explained.layers)
    return rendered(
        "explained.html.j2",
        title=subject(explained),
        explained=explained,
        sizes=sizes(explained),
        classes=classes_words(explained),
        key_figures=_key_figures(explained),
        figures={
            name: markup(drawing) for name, drawing in layer_drawings(explained, INLINE).items()
        },
        predicted=predictions_sentence(explained) if explained.predictions else "",
        by_chance=f"{removed * removed / layers:.1f}",
        tables=tables,
        columns=layer_columns(),
        cost=cost_sentence(explained),
    )


def _key_figures(explained: Explanation) -> list[KeyFigure]:
    before = percent(explained.whole_accuracy) if explained.removed else ""
    figures = [
        KeyFigure("accuracy", percent(explained.accuracy), before, "on the examples explained")
    ]
    known = [
        (one.probe.information.bits, one.layer)
        for one in explained.kept
        if one.probe.information is not None
    ]
    if not known:
        return figures
    most, layer = max(known, key=lambda one: (one[0], -one[1]))
    kinds = (ADDS, SUPPRESSES, CANNOT_TELL)
    counts = {kind: len(layers_of(explained.layers, kind)) for kind in kinds}
    of = "" if explained.entropy is None else f" of {explained.entropy:.2f}"
    return [
        *figures,
        KeyFigure(
            "most information", f"{most:.2f}", note=f"{of} bits, after layer {layer}".strip()
        ),
        KeyFigure(
            "layers that suppress",
            str(counts[SUPPRESSES]),
            str(len(layers_of(explained.whole, SUPPRESSES))) if explained.removed else "",
            f"{counts[ADDS]} add; {counts[CANNOT_TELL]} cannot tell",
        ),
    ]
