"""The page on tuning: the steps of a run, or regimes beside each other, put into the template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.evidence.tuned import REGIMES, SEARCH, TUNE, RegimesCompared
from telltale.report.repeating import settings_pairs
from telltale.report.svg import INLINE
from telltale.report.template import KeyFigure, markup, rendered
from telltale.report.tuned_charts import tuned_drawings
from telltale.report.tuned_tables import compared_columns, steps_columns, steps_of
from telltale.report.tuned_words import REGIME_WORDS, conclusions, sizes, subject
from telltale.support.words import percent, points, points_between

if TYPE_CHECKING:
    from telltale.evidence.tuned import TuneResult

KIND_OF = {"search": SEARCH, "tuning": TUNE}  # the kind of step that each group of settings is of


def tuned_page(found: TuneResult | RegimesCompared) -> str:
    """A page, complete in itself: nothing in it is loaded from elsewhere."""
    columns: list[Any]
    rows: list[Any]
    kinds: tuple[str, ...]
    if isinstance(found, RegimesCompared):
        columns, rows = list(compared_columns(found)), list(found.rows)
        regimes = {row.regime: REGIME_WORDS[row.regime] for row in found.rows}
        kinds = (SEARCH, TUNE)
    else:
        columns, rows, regimes = list(steps_columns()), list(steps_of(found)), {}
        kinds = REGIMES[found.regime]
    return rendered(
        "tuned.html.j2",
        title=subject(found),
        found=found,
        is_compared=isinstance(found, RegimesCompared),
        sizes=sizes(found),
        lines=conclusions(found),
        key_figures=_key_figures(found),
        figures={name: markup(one) for name, one in tuned_drawings(found, INLINE).items()},
        columns=columns,
        rows=rows,
        regimes=regimes,
        settings={
            name: settings_pairs({key: value for key, value in of.items() if value != []})
            for name, of in found.settings.items()
            if KIND_OF[name] in kinds
        },
    )


def _key_figures(found: TuneResult | RegimesCompared) -> list[KeyFigure]:
    before = percent(found.baseline.held_out.accuracy)
    if isinstance(found, RegimesCompared):
        return [
            KeyFigure(
                row.regime,
                percent(row.held_out.accuracy),
                note=f"{points(row.held_out.gain)} points "
                f"({points_between(row.held_out.gain_interval)})",
            )
            for row in found.rows
        ]
    final, whole = found.final, found.baseline
    gain = final.held_out
    faster = found.tokens_per_second[1] / found.tokens_per_second[0]
    return [
        KeyFigure(
            "held-out accuracy",
            percent(gain.accuracy),
            before,
            f"{points(gain.gain)} points ({points_between(gain.gain_interval)})",
        ),
        KeyFigure("layers", str(final.layers), str(whole.layers)),
        KeyFigure("tokens per second, reading", f"×{faster:.2f}"),
    ]
