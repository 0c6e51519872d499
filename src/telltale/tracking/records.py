"""What is tracked of a search, as flat names and plain values; the same for every tool.

Made of what a `telltale.watcher.Watcher` is told. Numbers are by how many layers are removed, so
that curves of the search set and of the held-out set lie over each other. No path of the machine
and no example's text is in it. Knows no tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.evidence.result import NAMED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telltale.measure import Measurement
    from telltale.searches import Round

Value = bool | int | float | str
PATHS = {"given"}  # of what a study asks: a model's folder or file


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of the model that lacks so many layers."""

    layers_removed: int
    numbers: Mapping[str, float]


@dataclass(slots=True)
class Course:
    """Turns what is told during a search into records."""

    _whole: dict[int, float] = field(default_factory=dict)
    _removed: list[int] = field(default_factory=list)
    _kept: dict[int, Record] = field(default_factory=dict)

    def measured(self, measurement: Measurement) -> None:
        """Something is measured on the search set; the whole model's scores are kept."""
        if not measurement.path.removed:
            self._whole.update((one.example, one.score) for one in measurement.outcomes)

    def round_done(self, done: Round) -> list[Record]:
        """What a round adds; nothing where it is told again and has not changed."""
        if not done.candidates.keys().isdisjoint(self._removed):
            self._removed.clear()  # no search removes a layer twice: this one has begun again
        found = [self._round(done)]
        if self._whole and not self._removed:
            found.insert(0, Record(0, {"search/accuracy": self._whole_accuracy()}))
        if done.accepted:
            self._removed.append(done.removed)
        new = [record for record in found if self._kept.get(record.layers_removed) != record]
        self._kept.update((record.layers_removed, record) for record in new)
        return new

    def _round(self, done: Round) -> Record:
        accuracy, value = done.candidates[done.removed], done.values[done.removed]
        if done.accepted:
            numbers = {
                "search/accuracy": accuracy,
                "search/objective": value,
                "removed_layer": done.removed,
            }
        else:  # apart from the path, which it is no part of
            numbers = {
                "refused/accuracy": accuracy,
                "refused/objective": value,
                "refused/layer": done.removed,
            }
        numbers["candidates"] = len(done.candidates)
        if self._whole:
            numbers["search/whole_accuracy"] = self._whole_accuracy()
        return Record(len(self._removed) + 1, numbers)

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


def path_records(document: Mapping[str, Any]) -> list[Record]:
    """What a finished study knows of every model on its path, the whole one first."""
    speeds = document["cost"]["path_tokens_per_second"]
    return [
        Record(
            len(model["removed"]),
            {
                **_numbers("held_out", model["held_out"]),
                "loses_at_most": model["loses_at_most"],
                "parameters": model["parameters"],
                "tokens_per_second": speed,
                "text_perplexity": model["text_perplexity"],
            },
        )
        for model, speed in zip(document["path"], speeds, strict=True)
    ]


def summary_of(document: Mapping[str, Any]) -> dict[str, Value]:
    """What a finished study has found: its verdict, and the models that have a name."""
    summary: dict[str, Value] = {
        "verdict": document["verdict"],
        "recommended": document["recommended"] or "the whole model",
    }
    for name in NAMED:
        model = document[name]
        summary[f"{name}/removed"] = "none" if model is None else _layers(model["removed"])
    final = document["final"]
    if final is not None:
        summary |= {
            "final/name": final["name"],
            "final/removed": _layers(final["removed"]),
            "final/loses_at_most": final["loses_at_most"],
            **_numbers("final", final),
        }
    summary["cost/dense_passes"] = document["cost"]["dense_passes"]
    summary["cost/seconds"] = document["cost"]["seconds"]
    return summary


def _numbers(name: str, evidence: Mapping[str, Any]) -> dict[str, float]:
    low, high = evidence["gain_interval"]
    return {
        f"{name}/accuracy": evidence["accuracy"],
        f"{name}/gain": evidence["gain"],
        f"{name}/gain_low": low,
        f"{name}/gain_high": high,
    }


def _layers(removed: list[int]) -> str:
    return ", ".join(map(str, removed)) or "nothing"
