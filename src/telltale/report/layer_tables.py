"""The tables of an explanation: all layers, how measures predict, pairs of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.evidence.explanation import MEASURES, LayerExplained
from telltale.report.layer_words import measure_name, predicts, sorted_predictions
from telltale.report.tables import Column, exact_rows
from telltale.support.words import NOTHING, bits, bits_between, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.evidence.explanation import Bits, Explanation, Read


class LayerRow(NamedTuple):
    """A layer, or the state before the first one, which has information alone."""

    name: str
    layer: LayerExplained
    is_left_out: bool = False


LayerColumn = Column[LayerRow]
MEASURE_NOTES = {
    "taylor": "first-order estimate of what the loss rises by without the layer, with its sign",
    "taylor_absolute": "the same, each example's size",
    "taylor_squared": "the same, each example's square",
    "block_influence": "1 less the cosine of the states before and after the layer",
    "angular_distance": "the angle between them",
    "magnitude": "the size of the layer's weights",
    "joint": "of information and gradient together",
}


def layer_rows(explained: Explanation, layers: Sequence[LayerExplained]) -> list[LayerRow]:
    """The rows of the table of some layers, the state before the first one ahead."""
    gone = set(explained.removed) if layers is explained.layers else set()
    before = LayerRow("before", LayerExplained(-1, explained.before))
    return [before, *(LayerRow(str(one.layer), one, one.layer in gone) for one in layers)]


def layer_columns() -> list[LayerColumn]:
    """All that is known of each layer."""
    return [
        Column("layer", lambda row: row.name, {"layer": lambda row: row.name}, is_text=True),
        Column("verdict", _verdict, {"verdict": _verdict}, is_text=True),
        *_read_columns("", "", lambda row: row.layer.probe, "by a linear probe, out of fold"),
        *_read_columns(
            "neighbours: ", "neighbours_", lambda row: row.layer.neighbours, "by nearest neighbours"
        ),
        _number("lens accuracy", "lens_accuracy", percent, "of the model's own head, read here"),
        _number("lens bits", "lens_bits", bits, "what that head tells; below 0 where it misleads"),
        *(_measure(name) for name in MEASURES),
        _number("accuracy without", "single_removal", percent, "without this layer too"),
        _number(
            "likelihood without",
            "single_likelihood",
            lambda value: f"{value:.3f}",
            "mean log-likelihood of right answers without this layer too, in nats",
        ),
    ]


def _verdict(row: LayerRow) -> str:
    if row.is_left_out:
        return "left out"
    return row.layer.verdict or NOTHING


def _exact(value: Any) -> Any:
    return NOTHING if value is None else value


def _number(heading: str, field: str, show: Callable[[float], str], note: str) -> LayerColumn:
    def shown(row: LayerRow) -> str:
        value = getattr(row.layer, field)
        return NOTHING if value is None else show(value)

    return Column(heading, shown, {field: lambda row: _exact(getattr(row.layer, field))}, note)


def _measure(name: str) -> LayerColumn:
    def value(row: LayerRow) -> float | None:
        return row.layer.measures.get(name)

    return Column(
        measure_name(name),
        lambda row: NOTHING if (found := value(row)) is None else f"{found:.3g}",
        {name: lambda row: _exact(value(row))},
        MEASURE_NOTES[name],
    )


def _read_columns(
    before: str, prefix: str, of: Callable[[LayerRow], Read], note: str
) -> list[LayerColumn]:
    """What an estimator finds: information, what shuffled answers give, and the change."""

    def values(part: str, of_part: Callable[[LayerRow], Bits | None]) -> dict[str, Any]:
        def value(get: Callable[[Bits], float]) -> Callable[[LayerRow], Any]:
            return lambda row: NOTHING if (found := of_part(row)) is None else get(found)

        return {
            f"{prefix}{part}": value(lambda found: found.bits),
            f"{prefix}{part}_low": value(lambda found: found.interval[0]),
            f"{prefix}{part}_high": value(lambda found: found.interval[1]),
            f"{prefix}{part}_null": value(lambda found: found.null),
        }

    def information(row: LayerRow) -> Bits | None:
        return of(row).information

    def change(row: LayerRow) -> Bits | None:
        return of(row).change

    def shown(found: Bits | None, *, signed: bool = False) -> str:
        if found is None:
            return NOTHING
        interval = bits_between(found.interval, signed=signed)
        return f"{bits(found.bits, signed=signed)} ({interval})"

    return [
        Column(
            f"{before}bits",
            lambda row: shown(information(row)),
            values("information", information),
            f"that the state after the layer tells of the answer, {note}, with the 95% interval",
        ),
        Column(
            f"{before}shuffled",
            lambda row: NOTHING if (found := information(row)) is None else bits(found.null),
            {},
            "bits found when the answers are shuffled",
        ),
        Column(
            f"{before}change",
            lambda row: shown(change(row), signed=True),
            values("change", change),
            "bits after the layer less those before it",
        ),
    ]


def layer_values(explained: Explanation, layers: Sequence[LayerExplained]) -> list[dict[str, Any]]:
    """The table of some layers with exact values."""
    return exact_rows(layer_columns(), layer_rows(explained, layers))


def prediction_values(explained: Explanation) -> list[dict[str, Any]]:
    """How each measure predicts, with exact values."""
    return [
        {
            "measure": name,
            "rank_correlation": one.rank_correlation,
            "p_value": one.p_value,
            "corrected_p_value": one.corrected,
            "chosen": _exact(one.chosen),
            "predicts": predicts(one),
        }
        for name, one in sorted_predictions(explained)
    ]


def pair_values(explained: Explanation) -> list[dict[str, Any]]:
    """Each pair of layers once."""
    pairs = explained.pairs
    if pairs is None:
        return []
    return [
        {
            "layer": layer,
            "other": other,
            "likelihood": pairs.likelihood[row][column],
            "accuracy": pairs.accuracy[row][column],
        }
        for row, layer in enumerate(pairs.layers)
        for column, other in enumerate(pairs.layers[:row])
    ]
