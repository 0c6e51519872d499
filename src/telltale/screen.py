"""What a person sees: progress while a search runs, tables of what it found. Decides nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from telltale.plain import printable
from telltale.result import points
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from types import TracebackType

    from telltale.measure import Measurement
    from telltale.reading import StoredStudy
    from telltale.searches import Round

LOG_WIDTH = 100  # of output that goes to a file or a pipe
ROWS = {"baseline": "whole model", "best": "BEST", "bsba": "BSBA"}
PHASES = {
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
        verb = "left out" if done.accepted else "would be next, but falls below the floor:"
        self._console.print(
            f"round {len(self._rounds)}: layer {done.removed} {verb} "
            f"{_percent(done.candidates[done.removed])} on the search set "
            f"(whole model {_percent(self._whole())})"
        )

    def _description(self) -> str:
        if self._phase != "search" or not self._whole_scores:
            return PHASES.get(self._phase, "")
        kept = [done for done in self._rounds if done.accepted]
        if not kept:
            return f"round 1, whole model {_percent(self._whole())}"
        removed = " ".join(str(done.removed) for done in kept)
        now = kept[-1].candidates[kept[-1].removed]
        return f"round {len(kept) + 1}, without {removed}: {_percent(now)}"

    def _whole(self) -> float:
        return sum(self._whole_scores) / max(1, len(self._whole_scores))

    def _time_left(self) -> str:
        task = self._progress.tasks[0]
        if not self._fresh or task.total is None:
            return ""
        each = (time.monotonic() - self._started) / self._fresh
        here = each * (task.total - task.completed)
        text = f"{_duration(here)} left"
        rounds = (self._max_removed or 0) - len(self._rounds) - 1
        if self._phase == "search" and self._whole_scores and rounds > 0 and task.completed > 1:
            text += f" in this round, at most {_duration(here + rounds * each * task.total)} in all"
        return text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def summary(document: dict[str, Any], held_out_looks: int | None, out: Console) -> None:
    """Print a finished study: its table, the layers, the verdict, the looks and the cost."""
    model, task, cost = document["model"], document["task"], document["cost"]
    out.print(
        f"{model['name']} on {task['name']}: {task['search_examples']} examples to search by, "
        f"{task['held_out_examples']} held out"
    )
    out.print(_table(document))
    for name in ("best", "bsba"):
        removed = document[name]["removed"]
        layers = ", ".join(map(str, removed)) if removed else "nothing"
        out.print(f"{ROWS[name]} removes, in this order: {layers}")
    out.print(_elsewhere(document))
    if "cut_off" in document["baseline"]["held_out"]:
        out.print(_texts(document))
    out.print()
    out.print(Text(printable(document["verdict"]), style="bold"))
    for line in document["cautions"]:
        out.print(f"Mind: {line}.")
    if held_out_looks:
        out.print(
            f"Mind: {held_out_looks} other search{'es have' if held_out_looks > 1 else ' has'} "
            "looked at these held-out examples before; the more look, the less an interval says."
        )
    out.print(
        f"The search cost {cost['dense_passes']:.1f} passes of the search set through the whole "
        f"model ({_duration(cost['seconds'])}); each candidate by itself: {_naive(document):.1f}."
    )


def _elsewhere(document: dict[str, Any]) -> str:
    """How the models read ordinary text."""
    whole = document["baseline"]["text_perplexity"]
    parts = [f"whole model {whole:.1f}"]
    for name in ("best", "bsba"):
        if document[name]["removed"]:
            here = document[name]["text_perplexity"]
            parts.append(f"{ROWS[name]} {here:.1f} (x{here / whole:.2f})")
    return f"Perplexity on ordinary text ({document['text']['name']}): {', '.join(parts)}"


def _texts(document: dict[str, Any]) -> str:
    """How many generated texts held no answer or were cut off."""
    total = document["task"]["held_out_examples"]
    parts = [
        f"{label} {held_out['unparsable']} and {held_out['cut_off']}"
        for name, label in ROWS.items()
        for held_out in [document[name]["held_out"]]
    ]
    return (
        f"Of {total} held-out texts, how many had no answer and how many the token limit cut off: "
        f"{', '.join(parts)}"
    )


def _naive(document: dict[str, Any]) -> float:
    """The passes through the whole model of a search that shares nothing between candidates."""
    layers, removed = document["model"]["layers"], 0
    passes = 1.0
    for done in document["rounds"]:
        passes += len(done["candidates"]) * (layers - removed - 1) / layers
        removed += done["accepted"]
    return passes


def _table(document: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for heading in ("layers", "parameters", "search", "held out (95%)", "gain (95%)", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    speeds = document["cost"]["tokens_per_second"]
    for name, label in ROWS.items():
        row, held_out = document[name], document[name]["held_out"]
        low, high = held_out["interval"]
        gain_low, gain_high = held_out["gain_interval"]
        table.add_row(
            label,
            str(row["layers"]),
            f"{row['parameters'] / 1e6:,.1f}M",
            _percent(row["search"]["accuracy"]),
            f"{_percent(held_out['accuracy'])} ({100 * low:.1f}-{100 * high:.1f})",
            f"{points(held_out['gain'])} ({points(gain_low)} to {points(gain_high)})"
            if row["removed"]
            else "",
            f"{speeds[name]:,.0f}",
        )
    return table


def unfinished(found: StoredStudy, out: Console) -> None:
    """Print how far a search has come."""
    if found.asked is not None:
        model, task = found.asked["model"], found.asked["task"]
        out.print(f"{model['name']} on {task['name']}")
    for number, done in enumerate(found.rounds, start=1):
        verb = "left out" if done.accepted else "falls below the floor"
        accuracy = _percent(done.candidates[done.removed])
        out.print(f"round {number}: layer {done.removed} {verb}, {accuracy} on the search set")
    out.print("The search is not finished; give its command again to go on.")


def evaluation(document: dict[str, Any], out: Console) -> None:
    """Print an evaluation in two lines."""
    low, high = document["interval"]
    removed = ", ".join(map(str, document["removed"])) or "none"
    out.print(
        f"{document['model']['name']} on {document['task']['name']}: "
        f"{_percent(document['accuracy'])} of {len(document['examples'])} examples "
        f"(95% interval {_percent(low)} to {_percent(high)})"
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
