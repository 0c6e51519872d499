"""Each tool is told the same search, in its own words; none of them costs a search."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from telltale.errors import InputError
from telltale.tracking import TOOLS, Ended, Tracker, tracker_named
from telltale.tracking.records import path_records, summary_of
from tests.tracking.standins import Calls, install
from tests.tracking.told import PRIVATE, result, tell, tell_search

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from telltale.tracking.records import Record, Value


def logged(name: str, calls: Calls) -> list[tuple[int, dict[str, float]]]:
    """What was logged in numbers, with how many layers are removed, whatever the tool."""
    if name == "mlflow":
        return [
            (given["metrics"][0].step, {one.key: one.value for one in given["metrics"]})
            for given in calls.of("log")
            if given["metrics"] and not given["tags"]
        ]
    found = []
    for given in calls.of("log"):
        numbers = dict(given["metrics"])
        step = numbers.pop("layers_removed") if name == "wandb" else given["step"]
        if "summary" not in numbers:
            found.append((step, numbers))
    return found


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_is_told_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(name, monkeypatch)
    with tracker_named(name) as tracker:
        tell(tracker)
    records = logged(name, calls)
    assert [step for step, _ in records] == [0, 1, 2, 3, 0, 1, 2]
    assert records[1][1]["removed_layer"] == 2
    assert records[1][1]["search/whole_accuracy"] == 0.5
    assert [numbers for _, numbers in records[4:]] == [
        dict(record.numbers) for record in path_records(result())
    ]
    assert calls.names[-1] == "finish"
    assert calls.names.count("init") == calls.names.count("finish") == 1


@pytest.mark.parametrize("name", TOOLS)
def test_a_run_has_a_name_and_no_path_of_the_machine(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install(name, monkeypatch)
    with tracker_named(name) as tracker:
        tell(tracker)
    assert calls.of("init")[0]["name"] == "small on capitals"
    assert "likelihood" in str(list(calls))
    assert PRIVATE not in str(list(calls))


def summary_in(name: str, calls: Calls) -> dict[str, Any]:
    if name == "wandb":
        (given,) = calls.of("summary")
        return dict(given["found"])
    if name == "trackio":
        (text,) = (g["metrics"]["summary"] for g in calls.of("log") if "summary" in g["metrics"])
        return dict(line.removeprefix("- **").split("**: ", 1) for line in text.splitlines())
    (given,) = (given for given in calls.of("log") if given["tags"])
    found = {one.key: one.value for one in (*given["metrics"], *given["tags"])}
    assert found.pop("mlflow.note.content") == found["verdict"]
    return found


@pytest.mark.parametrize("name", TOOLS)
def test_what_was_found_is_told_at_the_end(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(name, monkeypatch)
    with tracker_named(name) as tracker:
        tell(tracker)
    kept = {"trackio": str}.get(name, lambda value: value)
    expected = {key: kept(value) for key, value in summary_of(result()).items()}
    assert summary_in(name, calls) == expected


@pytest.mark.parametrize("name", TOOLS)
def test_a_project_may_be_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, project in ((name, "telltale"), (f"{name}:team: a", "team: a")):
        calls = install(name, monkeypatch)
        with tracker_named(given) as tracker:
            tell(tracker)
        what, key = ("create_experiment", "name") if name == "mlflow" else ("init", "project")
        assert calls.of(what)[0][key] == project


@pytest.mark.parametrize("name", TOOLS)
def test_the_report_goes_with_a_finished_run_where_it_exists(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.html"
    calls = install(name, monkeypatch)
    with tracker_named(name, report) as tracker:
        tell(tracker)
    assert calls.of("log_artifact") == []
    with tracker_named(name, report) as tracker:
        tell(tracker)
        report.write_text("<p>", encoding="utf-8")  # as late as this
    assert [given["path"] for given in calls.of("log_artifact")] == [str(report)]
    assert calls.names[-1] == "finish"
    with tracker_named(name, report) as tracker:
        tell_search(tracker)  # the report is of an earlier search
    assert len(calls.of("log_artifact")) == 1


def search_that_raises(name: str, problem: type[BaseException]) -> None:
    with tracker_named(name) as tracker:
        tell_search(tracker)
        raise problem


ENDS = {
    "trackio": ({}, {}, {}),
    "wandb": ({"exit_code": 0}, {"exit_code": 255}, {"exit_code": 1}),
    "mlflow": ({"status": "FINISHED"}, {"status": "KILLED"}, {"status": "FAILED"}),
}


@pytest.mark.parametrize("name", TOOLS)
def test_a_run_is_closed_however_it_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install(name, monkeypatch)
    with tracker_named(name) as tracker:
        tell(tracker)
    for problem in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(problem):
            search_that_raises(name, problem)
    assert tuple(calls.of("finish")) == ENDS[name]


@pytest.mark.parametrize("name", TOOLS)
def test_nothing_is_started_where_no_search_begins(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = install(name, monkeypatch)
    with pytest.raises(InputError), tracker_named(name):
        raise InputError("no such model")
    assert calls == []


def test_wandb_draws_against_the_layers_removed_and_sends_no_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = install("wandb", monkeypatch)
    with tracker_named("wandb") as tracker:
        tell(tracker)
    (begun,) = calls.of("init")
    assert begun["settings"] == {"console": "off", "disable_git": True}
    assert begun["reinit"] == "create_new"
    assert {"name": "*", "step_metric": "layers_removed"} in calls.of("define_metric")


def test_mlflow_is_told_names_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = install("mlflow", monkeypatch)
    subjects = {f"subject ({number})": 1.0 for number in range(120)}
    asked = {"model": {"name": "m"}, "task": {"name": "t", "shares": subjects}}
    with tracker_named("mlflow") as tracker:
        tracker.begun(asked)
    params = [one for given in calls.of("log") for one in given["params"]]
    assert len(params) == 122  # and never more than 100 at once: the stand-in minds it
    assert ("task/shares/subject _7_", "1.0") in params


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorboard", "trackio, wandb or mlflow"),
        ("", "trackio, wandb or mlflow"),
        ("WANDB\x1b", r"got 'WANDB\x1b'"),
        ("trackio:", "names no project"),
        ("wandb: ", "names no project"),
    ],
)
def test_what_is_no_tool_is_refused(given: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        tracker_named(given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_is_not_installed_is_said_before_anything_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()  # as wandb and trackio make for their runs, and no library
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(InputError, match=rf"pip install 'telltale-llm\[{name}\]'"):
        tracker_named(name)


class Failing:
    """A tool that fails at one of its parts."""

    name = "failing"

    def __init__(self, at: str, problem: BaseException) -> None:
        self.at = at
        self.problem = problem
        self.told: list[str] = []

    def _told(self, what: str) -> None:
        self.told.append(what)
        print("* said by the tool")  # noqa: T201 - as tools do
        if what == self.at:
            raise self.problem

    def start(self, name: str, config: Mapping[str, Value]) -> None:
        self._told("start")

    def log(self, record: Record) -> None:
        self._told("log")

    def conclude(self, summary: Mapping[str, Value]) -> None:
        self._told("conclude")

    def attach(self, file: Path) -> None:
        self._told("attach")

    def close(self, ended: Ended) -> None:
        self._told("close")


PARTS = ("start", "log", "conclude", "attach", "close")


@pytest.mark.parametrize("at", PARTS)
def test_a_tool_that_fails_costs_one_line_and_no_search(
    at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = tmp_path / "report.html"
    report.write_text("<p>", encoding="utf-8")
    tool = Failing(at, ConnectionError("no\nnetwork\x1b"))
    with caplog.at_level(logging.WARNING), Tracker(tool, report) as tracker:
        tell(tracker)
    (record,) = caplog.records
    message = record.getMessage()
    assert message.startswith("failing has failed")
    assert r"ConnectionError: no network\x1b" in message
    after = tool.told[tool.told.index(at) + 1 :]
    assert after == ([] if at == "close" else ["close"])


def test_a_tool_that_cannot_even_be_closed_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Failing):
        def close(self, ended: Ended) -> None:
            raise OSError("nor this")

    with caplog.at_level(logging.WARNING), Tracker(Broken("start", OSError("x"))) as tracker:
        tell(tracker)
    assert len(caplog.records) == 1


def test_an_interruption_in_a_tool_is_an_interruption() -> None:
    tool = Failing("start", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Tracker(tool) as tracker:
        tell(tracker)
    assert tool.told == ["start", "close"]


def test_what_a_tool_prints_goes_to_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with Tracker(Failing("nowhere", OSError())) as tracker:
        tell(tracker)
    said = capsys.readouterr()
    assert said.out == ""
    assert "said by the tool" in said.err


def test_tracking_imports_no_tool_and_no_torch() -> None:
    code = (
        "import sys, json, telltale.tracking; heavy = 'torch', 'trackio', 'wandb', 'mlflow'; "
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert json.loads(done.stdout) == []
