"""What a search would do and cost, before it: nothing is loaded, and nothing left behind."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

import telltale
from telltale.cli.commands import main
from telltale.engine.forecast import layer_runs, states_kept
from telltale.engine.runner import LocalRunner
from telltale.errors import InputError, TelltaleError, UnsupportedModelError
from telltale.models import load
from telltale.paths import LayerPath
from telltale.searches import Found, GreedyRemoval, Round
from telltale.searches.search import SPEEDS
from telltale.study import planning
from telltale.study.records import open_records
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role
from telltale.watcher import Watcher
from tests import tiny
from tests.studies import PAGE, search_arguments

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.measure import Measurement
    from telltale.study.ahead import SearchPlan

ASKED: dict[str, Any] = {"limit": 40, "held_out": 30, "tolerance": 1.0, "text": PAGE}


def planned(model: Path, out: Path, task: Any = "capitals", **changes: Any) -> SearchPlan:
    return telltale.plan(str(model), task, out=out, **{**ASKED, **changes})


def searched(model: Path, out: Path, task: Any = "capitals", **changes: Any) -> Any:
    return telltale.search(str(model), task, out=out, **{**ASKED, **changes})


@pytest.fixture
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever loads a model's weights fails."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(load.AutoModelForCausalLM, "from_pretrained", fail)
    monkeypatch.setattr("safetensors.torch.load_file", fail)


def everything(folder: Path) -> dict[str, bytes | None]:
    """All that a folder holds, at any depth."""
    return {
        str(one.relative_to(folder)): one.read_bytes() if one.is_file() else None
        for one in sorted(folder.rglob("*"))
    }


@pytest.mark.usefixtures("_no_weights")
def test_a_plan_reads_no_weights_and_leaves_nothing_behind(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "home"))
    found = planned(tiny_folder, tmp_path / "deep" / "study", final=20, max_removed=2)
    assert found.model["layers"] == 6
    assert found.model["parameters"] == 65_696  # what the loaded model has
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_no_weights")
def test_weights_are_missed_by_a_search_where_they_are_not_to_be_loaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(TelltaleError, match="weights were loaded"):
        searched(tiny_folder, tmp_path / "study")


def test_the_ids_are_those_of_the_study_that_follows(tiny_folder: Path, tmp_path: Path) -> None:
    guards = {"boolean_expressions": 0.9}
    asked = {"guards": guards, "final": 20, "max_removed": 1}
    found = planned(tiny_folder, tmp_path / "study", **asked)
    searched(tiny_folder, tmp_path / "study", **asked)
    with open_records(tmp_path / "study", write=False) as records:
        ids: dict[str, list[str]] = {}
        for one in records.examples():
            ids.setdefault(one.role, []).append(one.id)
        plan = records.fact("plan")
    assert found.document["sets"] == ids
    assert list(found.sets) == [
        SEARCH,
        HELD_OUT,
        FINAL,
        *(Role(part, "boolean_expressions") for part in (Part.SEARCH, Part.HELD_OUT)),
    ]
    assert found.model["layers"] == plan["layers"]
    assert found.model["parameters"] == plan["parameters"]


class Counted(Watcher):
    """The layer tokens of the search, by how many layers are left out."""

    def __init__(self) -> None:
        self.work: dict[int, int] = {}
        self._is_search = False

    def phase(self, name: str) -> None:
        self._is_search = name == "search"

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        if self._is_search and not remembered:
            removed = len(measurement.path.removed)
            self.work[removed] = self.work.get(removed, 0) + measurement.layer_tokens


def test_the_work_foreseen_is_the_work_of_the_search(tmp_path: Path) -> None:
    model = tiny.save(tmp_path / "model", num_hidden_layers=12)
    found = planned(model, tmp_path / "study", speed="full")
    counted = Counted()
    result = searched(model, tmp_path / "study", speed="full", watcher=counted)
    assert found.rounds is not None
    assert [one.candidates for one in found.rounds] == list(range(12, 1, -1))
    begin, first = found.begin.layer_tokens, found.rounds[0].work["full"].layer_tokens
    assert begin.low == begin.high == pytest.approx(counted.work[0], rel=0.1)
    assert first.low == first.high == pytest.approx(counted.work[1], rel=0.1)
    # Of the rounds after it, which layers go decides; that is not known before.
    stored = states_kept([LayerPath.whole(12)])
    for removed, done in enumerate(result.rounds, start=1):
        paths = list(done.tried)
        layers = sum(layer_runs(paths, stored).values())
        assert layers * begin.high / (2 * 12) == pytest.approx(counted.work[removed], rel=0.1)
        stored = states_kept(paths, stored)
    total = found.searched("full").layer_tokens
    assert total.low < total.high
    assert sum(counted.work.values()) <= 1.1 * total.high


def test_what_exact_elimination_leaves_is_within_the_range(
    tiny_folder: Path, tmp_path: Path
) -> None:
    found = planned(tiny_folder, tmp_path / "study")
    full, exact = found.searched("full").layer_tokens, found.searched("exact").layer_tokens
    result = searched(tiny_folder, tmp_path / "study")
    assert 0 < exact.low < full.low < exact.high < full.high
    assert 0.9 * exact.low <= result.cost.layer_tokens <= 1.1 * exact.high


@pytest.mark.parametrize("speed", SPEEDS)
def test_every_speed_can_be_planned(speed: str, tiny_folder: Path, tmp_path: Path) -> None:
    found = planned(tiny_folder, tmp_path / "study", speed=speed, max_removed=2)
    assert found.speed == speed
    assert found.speeds == SPEEDS
    work, full = found.searched(speed), found.searched("full")
    assert 0 < work.layer_tokens.low <= work.layer_tokens.high <= full.layer_tokens.high


def test_held_out_sets_are_work_too(tiny_folder: Path, tmp_path: Path) -> None:
    asked = {"final": 20, "guards": {"boolean_expressions": 0.9}, "max_removed": 2}
    found = planned(tiny_folder, tmp_path / "study", **asked)
    assert list(found.after) == [HELD_OUT, FINAL, Role(Part.HELD_OUT, "boolean_expressions")]
    alone = planned(tiny_folder, tmp_path / "study", max_removed=2)
    assert found.searched("full").layer_tokens > alone.searched("full").layer_tokens


def test_seconds_are_work_times_what_a_layer_takes(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = []
    for seconds in (1.0, 2.0):
        monkeypatch.setattr(planning, "layer_token_seconds", lambda *_, s=seconds: s)
        works.append(planned(tiny_folder, tmp_path / "study").searched("full"))
    one, two = works
    assert one.seconds is not None
    assert two.seconds == pytest.approx([2 * s for s in one.seconds])
    assert one.seconds.high > one.layer_tokens.high  # the model's end is work as well


def test_a_layer_that_cannot_be_run_alone_leaves_the_seconds_unknown(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnsupportedModelError("no")

    monkeypatch.setattr("telltale.engine.unloaded.layers_of", fail)
    found = planned(tiny_folder, tmp_path / "study")
    assert found.layer_token_seconds is None
    assert found.searched("exact").seconds is None
    assert found.searched("exact").layer_tokens.high > 0


def test_of_text_that_is_written_the_least_and_the_most_is_said(
    tiny_folder: Path, tmp_path: Path
) -> None:
    works = []
    for most in (2, 20):
        task = telltale.load_task("capitals", protocol="text", max_new_tokens=most)
        works.append(planned(tiny_folder, tmp_path / "study", task).searched("full"))
    assert [work.seconds for work in works] == [None, None]
    assert works[0].layer_tokens.low == works[1].layer_tokens.low
    assert works[0].layer_tokens.high < works[1].layer_tokens.high


def test_a_ranked_search_tries_one_candidate_a_round(tiny_folder: Path, tmp_path: Path) -> None:
    found = planned(tiny_folder, tmp_path / "study", search="block-influence", max_removed=3)
    assert found.rounds is not None
    assert [one.candidates for one in found.rounds] == [1, 1, 1]


@dataclass(frozen=True)
class Pairs(GreedyRemoval):
    """Two candidates a round are gone on with."""

    method = "pairs"

    def __call__(self, measure: Any, batches: Any, start: Any, watch: Any = lambda _: None) -> Any:
        origin = self.origin(measure, batches, start)
        paths, rounds = (start,), list[Round]()
        while candidates := self.children(paths, start):
            rounds.append(self.decided(measure, batches, candidates, origin, most=2))
            watch(rounds[-1])
            paths = rounds[-1].kept
        return Found(origin, tuple(rounds))


@dataclass(frozen=True)
class Curious(GreedyRemoval):
    """Looks at what no made-up outcome has."""

    method = "curious"

    def __call__(self, measure: Any, batches: Any, start: Any, watch: Any = None) -> Any:
        found = next(iter(measure([start], batches)))
        found.outcomes[0].choices[0]
        raise AssertionError


def test_a_search_of_ones_own_is_run_on_made_up_outcomes(tiny_folder: Path, tmp_path: Path) -> None:
    found = planned(tiny_folder, tmp_path / "study", search=Pairs(), max_removed=2)
    assert found.rounds is not None
    assert [one.candidates for one in found.rounds] == [6, 9]
    unknown = planned(tiny_folder, tmp_path / "study", search=Curious())
    assert unknown.rounds is None
    assert unknown.candidates is None
    assert unknown.document["rounds"] is None


class OwnRunner(LocalRunner):
    """Runs elsewhere, and fails if it is asked for the model."""

    @property
    def model(self) -> Any:  # type: ignore[override]
        raise AssertionError

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return torch.float16


def test_a_runner_of_ones_own_is_asked_for_device_and_precision_alone(
    tiny_folder: Path, tmp_path: Path
) -> None:
    found = planned(tiny_folder, tmp_path / "study", runner=OwnRunner)
    assert found.model["dtype"] == "float16"
    assert found.memory["weights"] == 2 * found.model["parameters"]
    assert found.layer_token_seconds is None  # how fast it is elsewhere is not known here


def test_a_study_that_has_begun_is_read_and_left_as_it_was(
    tiny_folder: Path, tmp_path: Path
) -> None:
    searched(tiny_folder, tmp_path / "study", max_removed=1)
    before = everything(tmp_path)
    found = planned(tiny_folder, tmp_path / "study", max_removed=2)
    assert found.is_begun
    assert everything(tmp_path) == before
    assert not planned(tiny_folder, tmp_path / "other").is_begun


def _other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")


def _file_above(folder: Path) -> None:
    folder.parent.joinpath("file").write_text("x")


REFUSED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a small set": (None, {"limit": 5}),
    "a layer that is not there": (None, {"protect": [6]}),
    "a share": (None, {"tolerance": 2}),
    "a device": (None, {"device": "cuda:99"}),
    "a precision": (None, {"dtype": "float8"}),
    "no model": (None, {"model": "./nowhere"}),
    "a folder of something else": (_other_files, {}),
    "a file in the way": (_file_above, {"out": "file/study"}),
    "a guard": (None, {"guards": {"boolean_expressions": 2}}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_plan_is_refused_as_the_search_is(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    prepare, changes = REFUSED[case]
    asked = {"model": str(tiny_folder), **ASKED, **changes}
    out = tmp_path / asked.pop("out", "study")
    if prepare is not None:
        prepare(out if case.startswith("a folder") else tmp_path / "study")
    said = []
    for function in (telltale.plan, telltale.search):
        with pytest.raises(InputError) as told:
            function(task="capitals", out=out, **asked)
        said.append(str(told.value))
    assert said[0] == said[1]


def test_another_study_or_a_final_set_seen_before_is_refused_as_by_the_search(
    tiny_folder: Path, tmp_path: Path
) -> None:
    searched(tiny_folder, tmp_path / "study", max_removed=1)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("holds another study", {"out": tmp_path / "study", "limit": 30}),
        ("searched or held out", {"out": tmp_path / "new", "final": 150, "limit": 20, "seed": 3}),
    ]
    for words, changes in cases:
        asked = {**ASKED, "held_out": 20, **changes}
        said = []
        for function in (telltale.plan, telltale.search):
            with pytest.raises(InputError, match=words) as told:
                function(str(tiny_folder), "capitals", **asked)
            said.append(str(told.value))
        assert said[0] == said[1]


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.usefixtures("_no_weights")
def test_a_dry_run_says_what_the_search_would_cost_and_stops(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = search_arguments(tiny_folder, tmp_path / "study", "--max-removed", "2")
    assert run([*arguments, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "6 layers" in text
    assert "Examples: 40 to search by, 30 held out" in text
    assert re.search(r"^up to round 2 +11 ", text, re.M)
    assert "With 30 held-out examples" in text
    assert "Nothing was measured" in text
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_written_and_the_search_goes_on(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = search_arguments(tiny_folder, tmp_path / "study", "--max-removed", "1")
    file = tmp_path / "plan.json"
    assert run([*arguments, "--plan", str(file), "--dry-run"]) == 0
    assert not (tmp_path / "study").exists()
    before = json.loads(file.read_text(encoding="utf-8"))
    assert run([*arguments, "--plan", str(file)]) == 0
    assert (tmp_path / "study" / "result.json").exists()
    after = json.loads(file.read_text(encoding="utf-8"))
    for document in (before, after):  # what depends on the machine's moment
        for name in ("layer_token_seconds", "begin", "rounds", "total", "after"):
            document.pop(name)
    assert before == after
    assert "plan.json" in capsys.readouterr().out


def test_a_plan_that_cannot_be_written_is_refused_first(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = search_arguments(tiny_folder, tmp_path / "study")
    assert run([*arguments, "--plan", str(tmp_path / "nowhere" / "plan.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
