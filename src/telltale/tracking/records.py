"""What is tracked of a search, as flat names and plain values; the same for every tool.

Made of what a `telltale.watcher.Watcher` is told. Numbers are by how many layers are removed, so
that curves of the search set and of the held-out set lie over each other. No path of the machine
and no example's text is in it. Knows no tool.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.evidence.parts import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.result import Result
    from telltale.measure import Measurement
    from telltale.searches import Round

Value = bool | int | float | str
PATHS = {"given", "adapter_given"}  # of what a study asks: a model's folder or file, an adapter's


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of the model that lacks so many layers."""

    layers_removed: int
    numbers: Mapping[str, float]


@dataclass(slots=True)
class Course:
    """Turns what is told during a search into records."""

    _whole: dict[int, float] = field(default_factory=dict)
    _rounds: list[Round] = field(default_factory=list)
    _kept: dict[int, Record] = field(default_factory=dict)

    def measured(self, measurement: Measurement) -> None:
        """Something is measured on the search set; the whole model's scores are kept."""
        if not measurement.path.removed:
            self._whole.update((one.example, one.score) for one in measurement.outcomes)

    def round_done(self, done: Round) -> list[Record]:
        """What a round adds; nothing where it is told again and has not changed."""
        if self._rounds and done.tried.keys() == self._rounds[0].tried.keys():
            self._rounds.clear()  # what the first round has tried: the search has begun again
        found = [self._round(done)] if self._is_best(done) else []
        if self._whole and not self._rounds:
            found.insert(0, Record(0, {"search/accuracy": self._whole_accuracy()}))
        self._rounds.append(done)
        new = [record for record in found if self._kept.get(record.layers_removed) != record]
        self._kept.update((record.layers_removed, record) for record in new)
        return new

    def _is_best(self, done: Round) -> bool:
        """Whether no round before has kept a better model that lacks as many layers."""
        before = [
            one.first.value
            for one in self._rounds
            if one.accepted and one.first.path.depth == done.first.path.depth
        ]
        return not done.accepted or done.first.value > max(before, default=-math.inf)

    def _round(self, done: Round) -> Record:
        first, is_kept = done.first, done.accepted
        # What is refused stands apart from the path, which it is no part of.
        part = "search" if is_kept else "refused"
        numbers: dict[str, float] = {
            f"{part}/accuracy": first.accuracy,
            f"{part}/objective": first.value,
        }
        if len(first.left_out) == 1 and not first.put_back:
            numbers["removed_layer" if is_kept else "refused/layer"] = first.left_out[0]
        numbers["candidates"] = len(done.tried)
        if self._whole:
            numbers["search/whole_accuracy"] = self._whole_accuracy()
        return Record(len(first.path.removed), numbers)

    def _whole_accuracy(self) -> float:
        return sum(self._whole.values()) / len(self._whole)


def name_of(asked: Mapping[str, Any]) -> str:
    """A run's name."""
    return f"{asked['model']['name']} on {asked['task']['name']}"


def config_of(asked: Mapping[str, Any]) -> dict[str, Value]:
    """The model, the task and the settings: ``model/name``, ``search/tolerance`` and so on.

    What is not set is left out; lists are JSON text.
    """
    return dict(_flat(asked))


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Value]]:
    for key, value in values.items():
        name = f"{before}{str(key).replace('/', '_')}"
        if value is None or key in PATHS:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}/")
        elif isinstance(value, bool | int | float | str):
            yield name, value
        elif any(isinstance(one, Mapping) for one in value):
            numbered = {str(number): one for number, one in enumerate(value, start=1)}
            yield from _flat(numbered, f"{name}/")
        else:
            yield name, json.dumps(value, ensure_ascii=False)


def path_records(result: Result) -> list[Record]:
    """What a finished study knows of every model that it kept, the whole one first."""
    records = []
    for model in result.models:
        numbers = {} if model.held_out is None else _numbers("held_out", model.held_out)
        more = {
            "loses_at_most": None if model.held_out is None else model.held_out.loses_at_most,
            "parameters": model.parameters,
            "tokens_per_second": model.tokens_per_second,
            "text_perplexity": model.perplexity,
        }
        numbers |= {name: value for name, value in more.items() if value is not None}
        records.append(Record(len(model.removed), numbers))
    return records


def summary_of(result: Result) -> dict[str, Value]:
    """What a finished study has found: its verdict, and the models that have a name."""
    summary: dict[str, Value] = {
        "verdict": result.verdict,
        "recommended": result.recommended or "the whole model",
    }
    for name in NAMED:
        if name == "target" and result.target is None:
            continue
        model = result.by_name(name)
        summary[f"{name}/removed"] = "none" if model is None else _layers(model.removed)
    final = result.final
    if final is not None:
        summary |= {
            "final/name": final.name,
            "final/removed": _layers(final.removed),
            "final/loses_at_most": final.seen.loses_at_most,
            **_numbers("final", final.seen),
        }
    summary["cost/dense_passes"] = result.cost.dense_passes
    summary["cost/seconds"] = result.cost.seconds
    return summary


def _numbers(name: str, found: Comparison) -> dict[str, float]:
    low, high = found.gain_interval
    return {
        f"{name}/accuracy": found.accuracy,
        f"{name}/gain": found.gain,
        f"{name}/gain_low": low,
        f"{name}/gain_high": high,
    }


def _layers(removed: Sequence[int]) -> str:
    return ", ".join(map(str, removed)) or "nothing"
