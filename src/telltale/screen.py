"""What a person sees: progress while a search runs, tables of what it found. Decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from telltale.plain import printable
from telltale.report.facts import NAMES, fate, finished, so_far
from telltale.watcher import Watcher
from telltale.words import (
    between,
    counted,
    duration,
    listed,
    loss,
    millions,
    number,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from telltale.measure import Measurement
    from telltale.reading import StoredStudy
    from telltale.report.facts import Facts, Model
    from telltale.searches import Round

LOG_WIDTH = 100  # of output that goes to a file or a pipe
MOST_ROWS = 14  # of the table of a path
# Whether that table has what depth says too, and the room between columns: the first that fits.
FORMS = ((True, 2), (True, 1), (False, 2), (False, 1))
PHASES = {
    "self-test": "trying what the model can share",
    "search": "whole model",
    "held-out": "held-out set",
    "text": "ordinary text",
    "speed": "timing",
    "evaluation": "evaluating",
    "final": "final set",
}


class PlainConsole(Console):
    """Prints strings without what a terminal would obey: names come from files and models."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string that is printed, in tables too, comes by here."""
        return super().render_str(printable(text), **options)


def console(*, stderr: bool = False) -> Console:
    """A console that folds lines in a terminal only, so that a log can be searched."""
    plain: dict[str, Any] = {"stderr": stderr, "highlight": False, "emoji": False, "markup": False}
    found = PlainConsole(**plain)
    return found if found.is_terminal else PlainConsole(**plain, width=LOG_WIDTH, soft_wrap=True)


class ScreenWatcher(Watcher):
    """Draws a live line in a terminal; in a log, writes one line a round."""

    def __init__(self, max_removed: int | None = None) -> None:
        self._console = console(stderr=True)
        self._max_removed = max_removed
        self._phase = ""
        self._rounds: list[Round] = []
        self._whole_scores: list[float] = []
        self._started = time.monotonic()
        self._fresh = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=None, left="", visible=False)

    def __enter__(self) -> ScreenWatcher:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str) -> None:
        """Name the part on the live line."""
        self._phase = name
        self._progress.update(
            self._bar, description=PHASES.get(name, name), total=None, left="", visible=True
        )

    def advised(self, advice: str) -> None:
        """Write it before the first round."""
        self._console.print(f"{advice}.")

    def expect(self, measurements: int) -> None:
        """Start the bar anew."""
        self._started, self._fresh = time.monotonic(), 0
        self._progress.reset(
            self._bar, total=measurements, description=self._description(), left=""
        )

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """Advance the bar."""
        if self._phase == "search" and not measurement.path.removed:
            self._whole_scores += [outcome.score for outcome in measurement.outcomes]
        self._fresh += not remembered
        self._progress.advance(self._bar)
        self._progress.update(self._bar, left=self._time_left())

    def round_done(self, done: Round) -> None:
        """Write the round's line."""
        self._rounds.append(done)
        verb = fate(done) if done.accepted else f"would be next, but {fate(done)}:"
        self._console.print(
            f"round {len(self._rounds)}: layer {done.removed} {verb} "
            f"{percent(done.candidates[done.removed])} on the search set "
            f"(whole model {percent(self._whole())})"
        )

    def _description(self) -> str:
        if self._phase != "search" or not self._whole_scores:
            return PHASES.get(self._phase, "")
        kept = [done for done in self._rounds if done.accepted]
        if not kept:
            return f"round 1, whole model {percent(self._whole())}"
        removed = " ".join(str(done.removed) for done in kept)
        now = kept[-1].candidates[kept[-1].removed]
        return f"round {len(kept) + 1}, without {removed}: {percent(now)}"

    def _whole(self) -> float:
        return sum(self._whole_scores) / max(1, len(self._whole_scores))

    def _time_left(self) -> str:
        task = self._progress.tasks[0]
        if not self._fresh or task.total is None:
            return ""
        each = (time.monotonic() - self._started) / self._fresh
        here = each * (task.total - task.completed)
        text = f"{duration(here)} left"
        rounds = (self._max_removed or 0) - len(self._rounds) - 1
        if self._phase == "search" and self._whole_scores and rounds > 0 and task.completed > 1:
            text += f" in this round, at most {duration(here + rounds * each * task.total)} in all"
        return text


def summary(document: Mapping[str, Any], held_out_looks: int | None, out: Console) -> None:
    """Print a finished study: its path, the verdict, what to mind, and the cost."""
    facts = finished(document, held_out_looks)
    task = facts.task
    out.print(
        f"{facts.name}: {counted(task['search_examples'], 'example')} to search by, "
        f"{task['held_out_examples']:,} held out"
    )
    _path(facts, out)
    for model in _named(facts):
        if model.removed:
            out.print(f"{_label(model)} removes, in this order: {listed(model.removed)}")
    for line in (_elsewhere(facts), *_texts(facts), *_guards(facts)):
        out.print(line)
    if facts.final is not None:
        out.print(facts.final)
    out.print()
    out.print(Text(printable(facts.verdict or ""), style="bold"))
    for line in facts.minds:
        out.print(f"Mind: {line}")
    for line in facts.cost:
        out.print(line)


def unfinished(found: StoredStudy, out: Console) -> None:
    """Print how far a search has come."""
    facts = so_far(found)
    if facts.asked:
        out.print(facts.name)
    if facts.models:
        _path(facts, out)
    if facts.rounds and not facts.rounds[-1].accepted:
        last = facts.rounds[-1]
        accuracy = percent(last.candidates[last.removed])
        out.print(f"Layer {last.removed} would be next, but {fate(last)}: {accuracy}")
    for line in facts.cost:
        out.print(line)
    out.print("The search is not finished; give its command again to go on.")


def _path(facts: Facts, out: Console) -> None:
    """The models of the path as a table, folded where it is long."""
    shown, every = _folded(facts.models)
    anything = out.options.update(max_width=1000)
    tables = (_table(facts, shown, wide=wide, gap=gap) for wide, gap in FORMS)
    for table in tables:
        if out.measure(table, options=anything).maximum <= out.width:
            break
    out.print(table)
    if every > 1:
        out.print(
            f"Shown are {len(shown)} of {len(facts.models)} models: every {every}th, the last, and "
            "those with a name; telltale report has them all."
        )


def _folded(models: Sequence[Model]) -> tuple[list[Model], int]:
    """The models to show, and that every so many are."""
    every = 1 if len(models) <= MOST_ROWS else max(4, -(-len(models) // MOST_ROWS))
    ends = (0, len(models) - 1)
    shown = [
        model
        for index, model in enumerate(models)
        if index % every == 0 or index in ends or model.names
    ]
    return shown, every


def _table(facts: Facts, models: Sequence[Model], *, wide: bool, gap: int) -> Table:
    """A row for each model; only a ``wide`` one has layers and parameters."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    columns: dict[str, list[str]] = {
        "removed": [" ".join((model.label, *_names(model))) for model in models]
    }
    if wide or not facts.is_finished:
        columns["layers"] = [str(model.layers) for model in models]
    if wide and facts.is_finished:
        columns["parameters"] = [millions(model.parameters or 0) for model in models]
    columns["search"] = [percent(model.accuracy) for model in models]
    if not facts.is_finished and facts.objective != "accuracy":
        columns[printable(facts.objective)] = [number(model.value) for model in models]
    if facts.is_finished:
        columns |= _evidence(facts, models)
    for heading in columns:
        is_first = heading == "removed"
        side: Any = "left" if is_first else "right"
        table.add_column(Text(heading), justify=side, no_wrap=not is_first, vertical="bottom")
    for cells in zip(*columns.values(), strict=True):
        table.add_row(*cells)
    return table


def _evidence(facts: Facts, models: Sequence[Model]) -> dict[str, list[str]]:
    """What is measured when the search has finished, by its heading."""
    sure = facts.confidence
    seen = [(model, model.held_out) for model in models if model.held_out is not None]
    return {
        f"held out ({sure})": [
            f"{percent(found.accuracy)} ({between(found.interval)})" for _, found in seen
        ],
        f"gain ({sure})": [
            f"{points(found.gain)} ({points_between(found.gain_interval)})" if model.removed else ""
            for model, found in seen
        ],
        "loses\nat most": [
            loss(found.loses_at_most) if model.removed else "" for model, found in seen
        ],
        "tokens/s": [f"{model.tokens_per_second or 0:,.0f}" for model in models],
    }


def _names(model: Model) -> list[str]:
    """What a model is called; whether its gain is shown is for the verdict to say."""
    return [name for name in model.names if name != NAMES["confirmed_best"]]


def _label(model: Model) -> str:
    """A model by its names, the whole one as that."""
    return " ".join(_names(model)) if model.removed and model.names else model.label


def _named(facts: Facts) -> list[Model]:
    """The whole model and those that have a name."""
    return [model for model in facts.models if model.names or not model.removed]


def _elsewhere(facts: Facts) -> str:
    """How the models read ordinary text."""
    parts = [
        f"{_label(model)} {model.perplexity or 0:.1f}"
        + (f" (x{model.perplexity_ratio:.2f})" if model.removed else "")
        for model in _named(facts)
    ]
    return f"Perplexity on ordinary text ({facts.text_name}): {'; '.join(parts)}"


def _texts(facts: Facts) -> list[str]:
    """How many generated texts held no answer or were cut off."""
    counts = [
        (_label(model), model.held_out.counts)
        for model in _named(facts)
        if model.held_out is not None and model.held_out.counts
    ]
    if not counts:
        return []
    parts = [f"{label} {found['unparsable']} and {found['cut_off']}" for label, found in counts]
    return [
        f"Of {facts.task['held_out_examples']} held-out texts, how many had no answer and how many "
        f"the token limit cut off: {'; '.join(parts)}"
    ]


def _guards(facts: Facts) -> list[str]:
    """What the models with a name gain or lose at each guard."""
    models = [model for model in _named(facts) if model.removed]
    return [
        f"Guard {name} ({facts.confidence}), whole model {percent(whole.accuracy)}: "
        + "; ".join(
            f"{_label(model)} {points(model.guards[name].gain)} "
            f"({points_between(model.guards[name].gain_interval)})"
            for model in models
        )
        for name, whole in facts.models[0].guards.items()
        if models
    ]


def evaluation(document: dict[str, Any], out: Console) -> None:
    """Print an evaluation in two lines."""
    low, high = document["interval"]
    removed = ", ".join(map(str, document["removed"])) or "none"
    out.print(
        f"{document['model']['name']} on {document['task']['name']}: "
        f"{percent(document['accuracy'])} of {len(document['examples'])} examples "
        f"(95% interval {percent(low)} to {percent(high)})"
    )
    out.print(f"{document['layers']} layers; removed: {removed}")
    if "cut_off" in document:
        out.print(
            f"Texts without an answer: {document['unparsable']}; cut off by the token limit: "
            f"{document['cut_off']}"
        )
    if "text" in document:
        here, whole = document["text"]["perplexity"], document["text"]["whole_perplexity"]
        out.print(
            f"Perplexity on ordinary text ({document['text']['name']}): whole model {whole:.1f}, "
            f"this one {here:.1f} (x{here / whole:.2f})"
        )
    for line in document["cautions"]:
        out.print(f"Mind: {line}.")


def stability_summary(document: dict[str, Any], out: Console) -> None:
    """Print how often each layer is removed, by the size of the parts, and what is gained."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("examples", "claimed", "on the rest", "removed in so many of the parts"):
        table.add_column(heading, justify="left" if "parts" in heading else "right")
    for size in document["sizes"]:
        layers = [f"{layer} ({100 * share:.0f}%)" for layer, share in size["removed"].items()]
        table.add_row(
            str(size["examples"]),
            points(size["claimed"]),
            f"{points(size['unseen'])} (sd {100 * size['unseen_spread']:.1f})",
            ", ".join(layers) or "none",
        )
    out.print(table)
    out.print()
    out.print(Text(printable(document["said"]), style="bold"))
