"""A study tells its watcher when it begins and what it has found, each time it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.errors import InputError
from telltale.tracking import Tracker
from telltale.tracking.records import config_of, path_records, summary_of
from telltale.watcher import Watcher, Watchers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.measure import Measurement
    from telltale.study import Result
    from telltale.tracking import Ended
    from telltale.tracking.records import Record, Value


class Keeping:
    """A tool that keeps what it is told."""

    name = "keeping"

    def __init__(self) -> None:
        self.begun: list[tuple[str, Mapping[str, Value]]] = []
        self.records: list[Record] = []
        self.summaries: list[Mapping[str, Value]] = []
        self.ended: list[Ended] = []

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        self.begun.append((name, config))

    def log(self, record: Record) -> None:
        self.records.append(record)

    def conclude(self, summary: Mapping[str, Value]) -> None:
        self.summaries.append(summary)

    def attach(self, file: Path) -> None: ...

    def close(self, ended: Ended) -> None:
        self.ended.append(ended)


class Order(Watcher):
    """Notes what it is told of, each kind once."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def begun(self, asked: Mapping[str, Any]) -> None:
        assert "begun" not in self.told
        assert "measured" not in self.told
        self.told["begun"] = json.loads(json.dumps(asked))

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.told["measured"] = True

    def finished(self, result: Result) -> None:
        assert "finished" not in self.told
        self.told["finished"] = result


def search(model: Path, out: Path, watcher: Watcher, **settings: Any) -> None:
    task = telltale.load_task("capitals")
    sizes = {"limit": 40, "held_out": 30, "tolerance": 0.2, "max_removed": 2}
    telltale.search(str(model), task, out=out, watcher=watcher, **{**sizes, **settings})


def tracked(model: Path, out: Path) -> tuple[Keeping, Order]:
    tool, order = Keeping(), Order()
    with Tracker(tool) as tracker:
        search(model, out, Watchers([order, tracker]))
    return tool, order


def test_a_study_is_tracked_from_start_to_end_and_again_when_it_goes_on(
    tiny_folder: Path, tmp_path: Path
) -> None:
    tool, order = tracked(tiny_folder, tmp_path / "study")
    document = json.loads((tmp_path / "study" / "result.json").read_text(encoding="utf-8"))
    result = order.told["finished"]
    assert result.document == document
    asked = order.told["begun"]
    assert asked["search"]["tolerance"] == 0.2
    assert asked["task"] == document["task"]
    ((name, config),) = tool.begun
    assert name == f"{tiny_folder.name} on capitals"
    assert config == config_of(asked)
    assert str(tiny_folder) not in json.dumps(dict(config))
    assert tool.summaries == [summary_of(result)]
    rounds = tool.records[: -len(document["path"])]
    assert tool.records[len(rounds) :] == path_records(result)
    whole = document["baseline"]["search"]["accuracy"]
    assert rounds[0].numbers == {"search/accuracy": pytest.approx(whole)}
    for record, done in zip(rounds[1:], document["rounds"], strict=True):
        chosen = str(done["removed"])
        kind = "search" if done["accepted"] else "refused"
        assert record.numbers[f"{kind}/accuracy"] == done["candidates"][chosen]
        assert record.numbers[f"{kind}/objective"] == done["objective"][chosen]
        assert record.numbers["search/whole_accuracy"] == pytest.approx(whole)
    again, _ = tracked(tiny_folder, tmp_path / "study")
    assert (again.begun, again.records, again.summaries) == (
        tool.begun,
        tool.records,
        tool.summaries,
    )


def test_a_study_that_is_refused_begins_no_run(tiny_folder: Path, tmp_path: Path) -> None:
    order = Order()
    with pytest.raises(InputError):
        search(tiny_folder, tmp_path / "study", order, protect=[99])
    assert order.told == {}
