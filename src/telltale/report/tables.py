"""The tables of a study: for the page as people read them, for CSV files as they were measured.

One description makes both: a column has a heading and a way to show a model in a cell, and names
the exact values that stand behind it.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from telltale.evidence.pareto import export_command, front
from telltale.report.sentences import arms_rows, labels_of, names_of, offsets_shown
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
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from telltale.evidence.calibration import Arms, Gain, Level
    from telltale.evidence.comparison import Comparison
    from telltale.evidence.result import PathModel, Result, Searched
    from telltale.searches import Candidate

FORMULA = ("=", "+", "-", "@", "\t")  # what a spreadsheet takes for one at a text's beginning


Row = TypeVar("Row")  # what a table has a row for, such as a model


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column: how a row is shown in it, and the values behind that by their names in CSV."""

    heading: str
    show: Callable[[Row], str]
    values: Mapping[str, Callable[[Row], Any]] = field(default_factory=dict)
    note: str = ""
    is_text: bool = False


def path_columns(searched: Searched) -> list[Column[PathModel]]:
    """The columns of the path's table: all that this study knows of its models."""
    columns = [
        _removed_column(searched),
        Column("", _names, {"names": _names}, is_text=True),
        Column("layers", lambda model: str(model.layers), {"layers": lambda m: m.layers}),
    ]
    if searched.is_finished:
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
    if searched.objective != "accuracy":
        columns.append(
            Column(
                searched.objective,
                lambda model: number(model.value),
                {"search_objective": lambda model: model.value},
                "what candidates were ranked by: a mean over the search set",
            )
        )
    return [*columns, *_evidence(searched)] if searched.is_finished else columns


def _removed_column(searched: Searched) -> Column[PathModel]:
    """Which layers a model lacks: one beside those above it, or all of them."""
    labels = labels_of(searched.models)
    shown = [(model, labels[model.path]) for model in searched.models[1:]]
    by_steps = all(label == str(model.removed[-1]) for model, label in shown)
    note = "the layer that is left out next, after those above"
    values: dict[str, Callable[[PathModel], Any]] = {
        "layers_removed": lambda model: len(model.removed),
        "removed_layer": lambda model: model.removed[-1] if model.removed else "",
    }
    if not by_steps:
        note += "; where it is not that model without one more layer, all that are left out"
        values |= {"removed": lambda model: _listed(model.path.removed)}
        del values["removed_layer"]
    return Column("removed", lambda model: labels[model.path], values, note, is_text=True)


def _listed(layers: Iterable[int]) -> str:
    return " ".join(map(str, layers))


def _names(model: PathModel) -> str:
    return " ".join(names_of(model))


def _evidence(searched: Searched) -> list[Column[PathModel]]:
    sure, ratio_of = searched.confidence, searched.perplexity_ratio
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
            lambda model: NOTHING if (ratio := ratio_of(model)) is None else f"×{ratio:.2f}",
            {
                "text_perplexity": lambda model: model.perplexity,
                "perplexity_ratio": ratio_of,
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
    for name in searched.models[0].guards:
        columns.append(_guard_column(name, sure))
    return columns


def _guard_column(name: str, sure: str) -> Column[PathModel]:
    def seen(model: PathModel) -> Comparison:
        return model.guards[name]

    def show(model: PathModel) -> str:
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


def _of_seen(of: Callable[[Comparison], Any]) -> Callable[[PathModel], Any]:
    """Something of what is seen on the held-out set."""

    def found(model: PathModel) -> Any:
        return NOTHING if model.held_out is None else of(model.held_out)

    return found


def _unless_whole(of: Callable[[Comparison], str]) -> Callable[[PathModel], str]:
    """The same, and nothing for the whole model, which gains and loses nothing over itself."""

    def found(model: PathModel) -> str:
        return NOTHING if model.held_out is None or not model.removed else of(model.held_out)

    return found


def path_rows(searched: Searched) -> list[dict[str, Any]]:
    """The path's table with exact values."""
    return exact_rows(path_columns(searched), searched.models)


def exact_rows(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A table with the values that stand behind what it shows."""
    return [
        {name: of(row) for column in columns for name, of in column.values.items()} for row in rows
    ]


def arms_columns(confidence: str) -> list[tuple[str, Callable[[Arms], str]]]:
    """The columns of what calibration does to a model: a heading, and how it is shown."""

    def level(found: Level) -> str:
        return f"{percent(found.accuracy)} ({between(found.interval)})"

    def gain(found: Gain) -> str:
        return f"{points(found.gain)} ({points_between(found.interval)})"

    return [
        (f"as it is ({confidence})", lambda arms: level(arms.raw)),
        ("calibrated", lambda arms: level(arms.calibrated)),
        ("offsets alone", lambda arms: gain(arms.calibrating)),
        ("layers beyond", lambda arms: gain(arms.beyond)),
        ("offsets, nats", lambda arms: offsets_shown(arms.offsets)),
    ]


def arms_table(result: Result) -> tuple[list[str], list[list[str]]]:
    """What calibration does to the models of a study, with headings; no rows where none is known.

    Layers give nothing beyond the whole model to the whole model.
    """
    columns = arms_columns(result.confidence)
    rows = [
        [
            " ".join(names_of(model)) if model.removed else "whole model",
            *(
                NOTHING if heading == "layers beyond" and not model.removed else show(arms)
                for heading, show in columns
            ),
        ]
        for model, arms in arms_rows(result)
    ]
    return ["", *(heading for heading, _ in columns)], rows


def calibration_rows(result: Result) -> list[dict[str, Any]]:
    """The same with exact values."""
    return [
        {
            "removed": _listed(model.path.removed),
            "names": _names(model),
            "raw": arms.raw.accuracy,
            "raw_low": arms.raw.interval.low,
            "raw_high": arms.raw.interval.high,
            "calibrated": arms.calibrated.accuracy,
            "calibrated_low": arms.calibrated.interval.low,
            "calibrated_high": arms.calibrated.interval.high,
            "calibrating": arms.calibrating.gain,
            "calibrating_low": arms.calibrating.interval.low,
            "calibrating_high": arms.calibrating.interval.high,
            "beyond": arms.beyond.gain,
            "beyond_low": arms.beyond.interval.low,
            "beyond_high": arms.beyond.interval.high,
            "offsets": " ".join(map(str, arms.offsets)),
        }
        for model, arms in arms_rows(result)
    ]


def round_rows(searched: Searched) -> list[dict[str, Any]]:
    """Every candidate of every round with exact values.

    By layer where every round leaves out one layer of one model, else by all layers removed.
    """
    by_layer = all(done.parent is not None and len(done.kept) < 2 for done in searched.rounds)
    return [
        {
            "round": index,
            **({"layer": one.left_out[0]} if by_layer else _change(one)),
            "accuracy": one.accuracy,
            "objective": one.value,
            **({"examples": one.examples} if by_layer else {}),
            "left_out" if by_layer else "kept": int(one.path in done.kept),
            "refused_by_guard": int(one.path in done.refused),
        }
        for index, done in enumerate(searched.rounds, start=1)
        for one in sorted(done.tried.values(), key=lambda one: one.left_out)
    ]


def _change(candidate: Candidate) -> dict[str, Any]:
    return {
        "removed": _listed(candidate.path.removed),
        "layers_left_out": _listed(candidate.left_out),
        "layers_put_back": _listed(candidate.put_back),
        "examples": candidate.examples,
    }


def front_columns(searched: Searched) -> list[Column[PathModel]]:
    """The columns of the Pareto front: each model's layers removed, evidence, cost and command."""
    whole = searched.models[0].tokens_per_second

    def speed(model: PathModel) -> str:
        now = model.tokens_per_second
        return NOTHING if not whole or not now else f"×{now / whole:.2f}"

    return [
        Column(
            "removed",
            lambda model: ", ".join(map(str, model.path.removed)) or "whole model",
            {"removed": lambda model: _listed(model.path.removed)},
            is_text=True,
        ),
        Column(
            "parameters",
            lambda model: NOTHING if model.parameters is None else millions(model.parameters),
            {"parameters": lambda model: model.parameters},
        ),
        *(one for one in _evidence(searched) if one.heading.startswith("held out")),
        Column("speed", speed, {"tokens_per_second": lambda model: model.tokens_per_second}),
        Column(
            "to have it",
            lambda model: export_command(model) or NOTHING,
            {"command": lambda model: export_command(model) or ""},
            is_text=True,
        ),
    ]


def front_rows(searched: Searched) -> list[dict[str, Any]]:
    """The Pareto front with exact values; none where nothing is held out yet."""
    return exact_rows(front_columns(searched), front(searched.models)) if searched.models else []


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
