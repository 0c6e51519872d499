"""Progress while a search runs, and tables of what it found, for a terminal or a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from telltale.cli.columns import Column, print_table
from telltale.cli.naming import with_options
from telltale.paths import LayerPath
from telltale.report.sentences import (
    NAMES,
    arms_lines,
    cost_of,
    cost_sentences,
    final_sentence,
    labels_of,
    minds,
    names_of,
    offsets_shown,
    round_sentence,
)
from telltale.searches.found import removal_orders
from telltale.support.plain import printable
from telltale.support.words import (
    between,
    counted,
    duration,
    layers_named,
    listed,
    loss,
    millions,
    number,
    percent,
    points,
    points_between,
)
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from telltale.checkpoints.export import WithAdapter
    from telltale.evidence.result import PathModel, Result, Searched
    from telltale.measure import Measurement
    from telltale.searches import Round
    from telltale.study.reading import StoredStudy

LOG_WIDTH = 100  # of output that goes to a file or a pipe
MOST_ROWS = 14  # of the table of a path
BOUND = "loses at most"
# What that table leaves out where there is little room, the least important first: what depth says;
# then, with intervals below their numbers, the rest up to the bound, in which a gain shows too.
DEPTH = ("parameters", "layers")
LEAST = ("tokens/s", "search", "held out ({sure})", "gain ({sure})")
PHASES = {
    "self-test": "trying what the model can share",
    "search": "whole model",
    "held-out": "held-out set",
    "text": "ordinary text",
    "speed": "timing",
    "target": "timing for a target",
    "evaluation": "evaluating",
    "final": "final set",
    "put-back": "trying removed layers again",
    "tune": "tuning",
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
        self._rounds: list[Round] = []  # of the search as it is now
        self._written: list[Round] = []  # also where it has begun again
        self._whole_scores: dict[int, float] = {}
        self._started = time.monotonic()
        self._fresh = 0.0
        self._shares: Mapping[LayerPath, float] = {}
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._progress.stop()

    def phase(self, name: str) -> None:
        """Name the part on the live line."""
        self._phase = name
        self._progress.start()  # not before, so that others may show how they fetch and convert
        self._progress.update(
            self._bar, description=PHASES.get(name, name), total=None, left="", visible=True
        )

    def advised(self, advice: str) -> None:
        """Write it before the first round."""
        self._console.print(f"{with_options(advice)}.")

    def expect(self, measurements: int) -> None:
        """Start the bar anew."""
        self._started, self._fresh, self._shares = time.monotonic(), 0.0, {}
        self._progress.reset(
            self._bar, total=measurements, description=self._description(), left=""
        )

    def weighed(self, shares: Mapping[LayerPath, float]) -> None:
        """Have the bar go on with the work, not with how much is measured."""
        self._shares = shares

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """Advance the bar."""
        share = self._shares.get(measurement.path)
        step = 1.0 if share is None else share * len(self._shares)  # 1 where it is the mean share
        if self._phase == "search" and not measurement.path.removed:
            self._rounds.clear()  # a search begins with the whole model, also where it begins again
            self._whole_scores.update((one.example, one.score) for one in measurement.outcomes)
        if not remembered:
            self._fresh += step
        self._progress.advance(self._bar, step)
        self._progress.update(self._bar, left=self._time_left())

    def round_done(self, done: Round) -> None:
        """Write the round's line, unless it is told again and says the same."""
        if self._rounds and done.tried.keys() == self._rounds[0].tried.keys():
            self._rounds.clear()  # what the first round has tried: the search has begun again
        self._rounds.append(done)
        place = len(self._rounds)
        if self._written[place - 1 : place] == [done]:
            return
        self._written[place - 1 :] = [done]
        rest = f" on the search set (whole model {percent(self._whole())})"
        self._console.print(f"round {place}: {round_sentence(done, rest)}")

    def stepped(
        self,
        step: int,
        steps: int,
        *,
        seconds: float,
        tokens: int,
        loss: float,
        development_loss: float | None,
    ) -> None:
        """Advance the bar; write a line where the development loss was taken."""
        told = f"tuning, loss {loss:.3f}"
        if development_loss is not None:
            self._console.print(
                f"step {step} of {steps}: development loss {development_loss:.3f}, after "
                f"{duration(seconds)} and {counted(tokens, 'token')} of training"
            )
        left = f"at most {duration(seconds / step * (steps - step))} left"
        self._progress.update(
            self._bar, description=told, total=steps, completed=step, left=left, visible=True
        )

    def _description(self) -> str:
        if self._phase != "search" or not self._whole_scores:
            return PHASES.get(self._phase, "")
        kept = [done for done in self._rounds if done.accepted]
        if not kept:
            return f"round 1, whole model {percent(self._whole())}"
        last = kept[-1].first
        orders = removal_orders(LayerPath.whole(last.path.total), kept)
        removed = " ".join(map(str, orders[last.path])) or "nothing"
        return f"round {len(self._rounds) + 1}, without {removed}: {percent(last.accuracy)}"

    def _whole(self) -> float:
        return sum(self._whole_scores.values()) / max(1, len(self._whole_scores))

    def _time_left(self) -> str:
        task = self._progress.tasks[0]
        if not self._fresh or task.total is None:
            return ""
        each = (time.monotonic() - self._started) / self._fresh
        here = each * (task.total - task.completed)
        text = f"{duration(here)} left"
        rounds = (self._max_removed or 0) - len(self._rounds) - 1
        for place, done in enumerate(self._rounds, start=1):
            if len(done.first.path.removed) != place:
                rounds = 0  # it goes not one layer deeper a round: how many there are is not known
        if self._phase == "search" and self._whole_scores and rounds > 0 and task.completed > 1:
            text += f" in this round, at most {duration(here + rounds * each * task.total)} in all"
        return text


def shown_waiting(text: str, share: Callable[[], float | None]) -> Live | None:
    """A live line of a step that takes a while, with what is known of how far it is."""
    out = console(stderr=True)
    if not out.is_interactive:
        return None
    out.file = out.file  # whatever becomes of the standard error in the meantime
    begun = time.monotonic()

    def line() -> Text:
        done = share()
        so_far = "" if not done else f"{100 * done:.0f}%, "
        return Text(printable(f"{text}: {so_far}{duration(time.monotonic() - begun)}"))

    return Live(
        get_renderable=line,
        console=out,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def summary(result: Result, out: Console) -> None:
    """Print a finished study: its path, the verdict, what to mind, and the cost."""
    task = result.task
    out.print(
        f"{result.name}: {counted(task['search_examples'], 'example')} to search by, "
        f"{task['held_out_examples']:,} held out"
    )
    _path(result, out)
    for model in _named(result):
        if model.removed:
            out.print(f"{_label(model)} removes, in this order: {listed(model.removed)}")
    for line in (_perplexity(result), *_texts(result), *_guards(result), *arms_lines(result)):
        out.print(line)
    final = final_sentence(result)
    if final is not None:
        out.print(final)
    out.print()
    out.print(Text(printable(result.verdict), style="bold"))
    if result.target_said is not None:
        out.print(Text(printable(result.target_said), style="bold"))
    for line in minds(result):
        out.print(f"Mind: {line}")
    for line in cost_sentences(result):
        out.print(line)


def unfinished(found: StoredStudy, out: Console) -> None:
    """Print how far a search has come."""
    searched = found.searched
    if searched.model:
        out.print(searched.name)
    if searched.models:
        _path(searched, out)
    if searched.rounds and not searched.rounds[-1].accepted:
        said = round_sentence(searched.rounds[-1])
        out.print(said[0].upper() + said[1:])
    for line in cost_of(found):
        out.print(line)
    if found.is_running:
        out.print("The search is not finished: a run is at work on it now.")
    else:
        out.print("The search is not finished; give its command again to go on.")


def _path(searched: Searched, out: Console) -> None:
    """The models of the path as a table, folded where it is long, and how to read it."""
    shown, every = _folded(searched.models)
    table = _measured if searched.is_finished else _searched
    files = "result.json and the report have them" if searched.is_finished else "a report has them"
    names = print_table(
        [_removed(searched, shown), *table(searched, shown)],
        out,
        where=files,
        first=DEPTH,
        then=[name.format(sure=searched.confidence) for name in LEAST],
    )
    if every > 1:
        out.print(
            f"Shown are {len(shown)} of {len(searched.models)} models: every {every}th, the last, "
            "and those with a name; telltale report has them all."
        )
    if BOUND in names and len(shown) > 1:
        out.print(
            f"{BOUND}: the most accuracy that the model may lose against the whole one, in points, "
            f"with {searched.confidence} confidence (one-sided, from the held-out examples)."
        )


def _folded(models: Sequence[PathModel]) -> tuple[list[PathModel], int]:
    """The models to show, and that every so many are."""
    every = 1 if len(models) <= MOST_ROWS else max(4, -(-len(models) // MOST_ROWS))
    ends = (0, len(models) - 1)
    shown = [
        model
        for index, model in enumerate(models)
        if index % every == 0 or index in ends or model.names
    ]
    return shown, every


def _removed(searched: Searched, models: Sequence[PathModel]) -> Column:
    """Which model a row is about: the layer that is removed last, and its names."""
    labels = labels_of(searched.models)
    cells = [" ".join((labels[model.path], *_names(model))) for model in models]
    return Column("removed", cells, " ", is_text=True)


def _searched(searched: Searched, models: Sequence[PathModel]) -> list[Column]:
    """What is known while the search has not finished."""
    columns = [
        Column("layers", [str(model.layers) for model in models]),
        Column("search", [percent(model.accuracy) for model in models]),
    ]
    if searched.objective != "accuracy":
        cells = [number(model.value) for model in models]
        columns.append(Column(printable(searched.objective), cells))
    return columns


def _measured(searched: Searched, models: Sequence[PathModel]) -> list[Column]:
    """What is measured when the search has finished."""
    sure = searched.confidence
    seen = [(model, model.held_out) for model in models if model.held_out is not None]
    gains = [
        f"{points(found.gain)} ({points_between(found.gain_interval)})" if model.removed else ""
        for model, found in seen
    ]
    return [
        Column("layers", [str(model.layers) for model in models]),
        Column("parameters", [millions(model.parameters or 0) for model in models]),
        Column("search", [percent(model.accuracy) for model in models]),
        Column(
            f"held out ({sure})",
            [f"{percent(found.accuracy)} ({between(found.interval)})" for _, found in seen],
        ),
        Column(f"gain ({sure})", gains),
        Column(
            "loses\nat most",
            [loss(found.loses_at_most) if model.removed else "" for model, found in seen],
        ),
        Column("tokens/s", [f"{model.tokens_per_second or 0:,.0f}" for model in models]),
    ]


def _names(model: PathModel) -> list[str]:
    """What a model is called; whether its gain is shown is for the verdict to say."""
    return [name for name in names_of(model) if name != NAMES["confirmed_best"]]


def _label(model: PathModel) -> str:
    """A model that has a name by its names, the whole one as that."""
    return " ".join(_names(model)) if model.removed else "whole model"


def _named(searched: Searched) -> list[PathModel]:
    """The whole model and those that have a name."""
    return [model for model in searched.models if model.names or not model.removed]


def _perplexity(result: Result) -> str:
    """The models' perplexity on ordinary text."""
    parts = [
        f"{_label(model)} {model.perplexity or 0:.1f}"
        + (f" (x{result.perplexity_ratio(model) or 0:.2f})" if model.removed else "")
        for model in _named(result)
    ]
    return f"Perplexity on ordinary text ({result.text.name}): {'; '.join(parts)}"


def _texts(searched: Searched) -> list[str]:
    """How many generated texts held no answer or were cut off."""
    counts = [
        (_label(model), model.held_out.counts)
        for model in _named(searched)
        if model.held_out is not None and model.held_out.counts
    ]
    if not counts:
        return []
    parts = [f"{label} {found['unparsable']} and {found['cut_off']}" for label, found in counts]
    return [
        f"Of {searched.task['held_out_examples']} held-out texts, how many had no answer and how "
        f"many the token limit cut off: {'; '.join(parts)}"
    ]


def _guards(searched: Searched) -> list[str]:
    """What the models with a name gain or lose at each guard, on examples that kept none out."""
    models = [model for model in _named(searched) if model.removed]
    return [
        f"Guard {name} ({searched.confidence}), whole model {percent(whole.accuracy)}: "
        + "; ".join(
            f"{_label(model)} {points(model.guards[name].gain)} "
            f"({points_between(model.guards[name].gain_interval)}), loses at most "
            f"{loss(model.guards[name].loses_at_most)}"
            for model in models
        )
        for name, whole in searched.models[0].guards.items()
        if models
    ]


def evaluation(document: dict[str, Any], out: Console) -> None:
    """Print an evaluation in two lines."""
    interval = ""
    if document["interval"] is not None:  # of examples on one passage there is none
        low, high = document["interval"]
        interval = f" (95% interval {percent(low)} to {percent(high)})"
    removed = ", ".join(map(str, document["removed"])) or "none"
    out.print(
        f"{document['model']['name']} on {document['task']['name']}: "
        f"{percent(document['accuracy'])} of {len(document['examples'])} examples{interval}"
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
    if "calibration" in document:
        found = document["calibration"]
        out.print(
            f"Calibrated; as it is {percent(found['raw']['accuracy'])}. Offsets of the choices, in "
            f"nats: {offsets_shown(found['offsets'])}"
        )
    for line in document["cautions"]:
        out.print(f"Mind: {line}.")


def carried_summary(carried: WithAdapter) -> str:
    """Which adapter was carried onto a checkpoint, what was dropped, and how it was verified."""
    done, seen = carried.adapter, carried.verification
    dropped = (
        f"; dropped with {layers_named(done.dropped_layers)}: {', '.join(done.dropped)}"
        if done.dropped
        else ""
    )
    return (
        f"The adapter is in {done.folder}, for {counted(done.modules, 'module')}{dropped}. "
        f"Verified: with peft, its logits differ from those of the whole model with the adapter "
        f"and without these layers by at most {seen.logit_difference:.0e}."
    )


def stability_summary(document: dict[str, Any], out: Console) -> None:
    """Print how often each layer is removed, by the size of the parts, and what is gained."""
    sizes = document["sizes"]
    removed = [
        ", ".join(f"{layer} ({100 * share:.0f}%)" for layer, share in size["removed"].items())
        or "none"
        for size in sizes
    ]
    on_rest = [f"{points(size['unseen'])} (sd {100 * size['unseen_spread']:.1f})" for size in sizes]
    print_table(
        [
            Column("examples", [str(size["examples"]) for size in sizes]),
            Column("claimed", [points(size["claimed"]) for size in sizes]),
            Column("on the rest", on_rest),
            Column("layers removed", removed, ", ", at_least=24, is_text=True),
        ],
        out,
        where="stability.json has them",
        then=("claimed", "on the rest"),
    )
    out.print("layers removed: each with the share of the parts whose BEST lacks it.")
    out.print()
    out.print(Text(printable(document["said"]), style="bold"))
