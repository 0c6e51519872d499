"""The tables of a study: for the page as people read them, for CSV files as they were measured.

One description makes both: a column has a heading and a way to show a model in a cell, and names
the exact values that stand behind it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.support.plain import printable
from telltale.support.words import (
    NOTHING,
    between,
    loss,
    millions,
    number,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from telltale.report.facts import Facts, Model, Seen

FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet takes for one at a text's beginning


@dataclass(frozen=True, slots=True)
class Column:
    """A column: how a model is shown in it, and the values behind that by their names in CSV."""

    heading: str
    show: Callable[[Model], str]
    values: Mapping[str, Callable[[Model], Any]] = field(default_factory=dict)
    note: str = ""
    is_text: bool = False


def path_columns(facts: Facts) -> list[Column]:
    """The columns of the path's table: all that this study knows of its models."""
    columns = [
        Column(
            "removed",
            lambda model: model.label,
            {
                "layers_removed": lambda model: len(model.removed),
                "removed_layer": lambda model: model.removed[-1] if model.removed else "",
            },
            "the layer that is left out next, after those above",
            is_text=True,
        ),
        Column("", lambda model: " ".join(model.names), {"names": _names}, is_text=True),
        Column("layers", lambda model: str(model.layers), {"layers": lambda m: m.layers}),
    ]
    if facts.is_finished:
        columns.append(
            Column(
                "parameters",
                lambda model: NOTHING if model.parameters is None else millions(model.parameters),
                {"parameters": lambda model: model.parameters},
            )
        )
    columns.append(
        Column("search", lambda m: percent(m.accuracy), {"search_accuracy": lambda m: m.accuracy})
    )
    if facts.objective != "accuracy":
        columns.append(
            Column(
                facts.objective,
                lambda model: number(model.value),
                {"search_objective": lambda model: model.value},
                "what candidates were ranked by: a mean over the search set",
            )
        )
    return [*columns, *_evidence(facts)] if facts.is_finished else columns


def _names(model: Model) -> str:
    return " ".join(model.names)


def _evidence(facts: Facts) -> list[Column]:
    sure = facts.confidence
    columns = [
        Column(
            f"held out ({sure})",
            _of_seen(lambda seen: f"{percent(seen.accuracy)} ({between(seen.interval)})"),
            {
                "held_out_accuracy": _of_seen(lambda seen: seen.accuracy),
                "held_out_low": _of_seen(lambda seen: seen.interval[0]),
                "held_out_high": _of_seen(lambda seen: seen.interval[1]),
            },
        ),
        Column(
            f"gain ({sure})",
            _unless_whole(
                lambda seen: f"{points(seen.gain)} ({points_between(seen.gain_interval)})"
            ),
            {
                "gain": _of_seen(lambda seen: seen.gain),
                "gain_low": _of_seen(lambda seen: seen.gain_interval[0]),
                "gain_high": _of_seen(lambda seen: seen.gain_interval[1]),
            },
            "points of accuracy over the whole model, on the same held-out examples",
        ),
        Column(
            "loses at most",
            _unless_whole(lambda seen: loss(seen.loses_at_most)),
            {"loses_at_most": _of_seen(lambda seen: seen.loses_at_most)},
            f"points, one-sided, {sure}",
        ),
        Column(
            "perplexity",
            lambda model: (
                NOTHING if model.perplexity_ratio is None else f"×{model.perplexity_ratio:.2f}"
            ),
            {
                "text_perplexity": lambda model: model.perplexity,
                "perplexity_ratio": lambda model: model.perplexity_ratio,
            },
            "on ordinary text, as a multiple of the whole model's",
        ),
        Column(
            "tokens/s",
            lambda model: (
                NOTHING if model.tokens_per_second is None else number(model.tokens_per_second)
            ),
            {"tokens_per_second": lambda model: model.tokens_per_second},
        ),
    ]
    for name in facts.models[0].guards:
        columns.append(_guard_column(name, sure))
    return columns


def _guard_column(name: str, sure: str) -> Column:
    def seen(model: Model) -> Seen:
        return model.guards[name]

    def show(model: Model) -> str:
        if not model.removed:
            return percent(seen(model).accuracy)
        return f"{points(seen(model).gain)} ({points_between(seen(model).gain_interval)})"

    return Column(
        f"guard {name} ({sure})",
        show,
        {
            f"guard {name} accuracy": lambda model: seen(model).accuracy,
            f"guard {name} gain": lambda model: seen(model).gain,
            f"guard {name} gain_low": lambda model: seen(model).gain_interval[0],
            f"guard {name} gain_high": lambda model: seen(model).gain_interval[1],
            f"guard {name} loses_at_most": lambda model: seen(model).loses_at_most,
        },
        "its accuracy on the whole model, then gains in points, on the guard's held-out examples",
    )


def _of_seen(of: Callable[[Seen], Any]) -> Callable[[Model], Any]:
    """Something of what is seen on the held-out set."""

    def found(model: Model) -> Any:
        return NOTHING if model.held_out is None else of(model.held_out)

    return found


def _unless_whole(of: Callable[[Seen], str]) -> Callable[[Model], str]:
    """The same, and nothing for the whole model, which gains and loses nothing over itself."""

    def found(model: Model) -> str:
        return NOTHING if model.held_out is None or not model.removed else of(model.held_out)

    return found


def path_rows(facts: Facts) -> list[dict[str, Any]]:
    """The path's table with exact values."""
    columns = path_columns(facts)
    return [
        {name: of(model) for column in columns for name, of in column.values.items()}
        for model in facts.models
    ]


def round_rows(facts: Facts) -> list[dict[str, Any]]:
    """Every candidate of every round with exact values."""
    return [
        {
            "round": index,
            "layer": layer,
            "accuracy": accuracy,
            "objective": done.values[layer],
            "left_out": int(done.accepted and layer == done.removed),
            "refused_by_guard": int(layer in done.guarded),
        }
        for index, done in enumerate(facts.rounds, start=1)
        for layer, accuracy in done.candidates.items()
    ]


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header; nothing where there are none.

    Names from data are printable, and no spreadsheet takes one for a formula.
    """
    found = list(rows)
    if not found:
        return ""
    written = io.StringIO()
    table = csv.writer(written, lineterminator="\n")
    table.writerow(map(_harmless, found[0]))
    table.writerows(map(_harmless, row.values()) for row in found)
    return written.getvalue()


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    plain = printable(value)
    return f"'{plain}" if plain.startswith(FORMULA) else plain
