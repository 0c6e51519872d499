"""Targets of a search: what no depth meets is refused before it, and a model is chosen after it."""

from __future__ import annotations

import itertools
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

import telltale
from telltale.cli.commands import main
from telltale.cli.screen import console, summary
from telltale.engine import unloaded
from telltale.engine.unloaded import Seconds, request_seconds
from telltale.errors import InputError
from telltale.evidence.result import result_from
from telltale.evidence.targets import LATENCY, MEMORY, PARAMETERS, SPEEDUP, Figure, Request, Targets
from telltale.models.layered import find_layers
from telltale.models.source import resolve_model
from telltale.models.work import work_of
from telltale.paths import LayerPath
from telltale.study import targeting
from telltale.study.reading import read_study
from telltale.study.settings import Settings
from telltale.study.targeting import Asked, Costs, Depths, request_of
from telltale.tasks.loading import load_task
from telltale.timing import targets as timing
from telltale.tracking.records import summary_of
from tests import tiny
from tests.studies import PAGE, result_of, search_arguments
from tests.test_docs import INLINE, ROOT, keys

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = Request(20, 4)
COSTS = Costs(work_of(tiny.build("falcon-40b")), REQUEST, 4)
UNEVEN = Costs(work_of(tiny.build("gemma3")), REQUEST, 4)


class Machine:
    """Takes 1 ms a layer and 2 beside; notes what it has timed."""

    def __init__(self) -> None:
        self.log: list[int] = []

    def __call__(self, asked: Asked) -> dict[str, Figure]:
        self.log.append(len(asked.path.removed))
        ms = 2.0 + asked.path.depth
        whole = 2.0 + asked.path.total
        found = {SPEEDUP: whole / ms, LATENCY: ms, MEMORY: 1e6 * ms}
        return {name: Figure(value, value, value) for name, value in found.items()}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine()
    monkeypatch.setattr(timing, "time_against_whole", found)
    monkeypatch.setattr(targeting, "request_seconds", lambda *_: Seconds(1e-3, 2e-3))
    return found


def search(model: Path, out: Path, **changes: Any) -> telltale.Result:
    settings = {"limit": 40, "held_out": 30, "tolerance": 1.0, "max_removed": 4, "text": PAGE}
    return telltale.search(str(model), "capitals", out=out, **{**settings, **changes})


def depths(costs: Costs, seconds: Seconds | None = None, **changes: Any) -> Depths:
    asked = Asked(None, costs.whole, costs.request, "cpu", "float32")  # type: ignore[arg-type]
    found = Depths(costs, Settings(**changes), asked)
    found.__dict__["_seconds"] = seconds
    return found


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("telltale: ")
    return line.removeprefix("telltale: ")


@pytest.mark.parametrize("costs", [COSTS, UNEVEN], ids=["alike", "unlike"])
@pytest.mark.parametrize("name", [SPEEDUP, MEMORY, PARAMETERS])
def test_the_cheapest_path_is_that_of_trying_all(costs: Costs, name: str) -> None:
    free = [0, 1, 3, 4, 5]
    for count in range(6):
        paths = [
            LayerPath.from_removed(removed, 6) for removed in itertools.combinations(free, count)
        ]
        least = min(costs.of(name, path) for path in paths)
        assert costs.of(name, costs.cheapest(name, free, count)) == least


def test_what_a_path_costs_is_counted() -> None:
    work, path = COSTS.work, LayerPath.from_removed([1, 2], 6)
    assert COSTS.of(PARAMETERS, path) == work.on(path).parameters
    assert COSTS.of(MEMORY, path) == 4 * work.on(path).numbers_held(1, 23)
    ideal = work.request(20, 4) / work.on(path).request(20, 4)
    assert COSTS.ideal_speedup(path) == ideal
    # Where layers take longer to call than to compute, time goes with their number.
    assert COSTS.at_best(path)[SPEEDUP].value == max(ideal, 6 / 4)
    assert work.request(20, 1) == work.first_token(20)
    assert work.request(20, 4) == work.first_token(20) + work.decoding(20, 4)


def test_how_deep_a_target_asks_to_go() -> None:
    whole = COSTS.of(PARAMETERS, COSTS.whole)
    each = COSTS.work.layers[0].parameters
    asked = {
        SPEEDUP: COSTS.ideal_speedup(LayerPath.from_removed([4, 5], 6)),
        PARAMETERS: whole - 2.5 * each,
        MEMORY: 10 * 4 * whole,
        LATENCY: 6.0,
    }
    found = depths(COSTS, Seconds(1e-3, 2e-3), targets=Targets(asked)).needs()
    # Of the times 2 ms beside and 1 ms a layer, 6 ms are 4 layers, and 8 to 5.2 are 3.
    assert found == {SPEEDUP: 2, PARAMETERS: 3, MEMORY: 0, LATENCY: 2}
    unknown = depths(COSTS, None, targets=Targets({SPEEDUP: 1.3, LATENCY: 0.1})).needs()
    assert unknown[LATENCY] is None


@pytest.mark.parametrize(
    ("asked", "changes", "words"),
    [
        ({SPEEDUP: 9}, {}, "`target_speedup` 9 cannot be had: with 1 layer of 6 left the model is"),
        (
            {LATENCY: 1},
            {},
            "with 1 layer of 6 left the model takes about 3.00 ms at least; ask for",
        ),
        (
            {PARAMETERS: 9},
            {},
            "`max_parameters` 9 cannot be had: with 1 layer of 6 left the model ",
        ),
        ({MEMORY: 9}, {}, "`max_memory` 9.00 bytes cannot be had: with 1 layer of 6 left"),
        (
            {SPEEDUP: 1.5},
            {"max_removed": 1},
            r"with `max_removed` 1: with 5 layers of 6 left the model is 1.\d\d times as fast at "
            r"most, and it takes \d removed; give `max_removed` \d or ask for less$",
        ),
        (
            {SPEEDUP: 2},
            {"protected": frozenset(range(5))},
            r"with 5 layers of 6 left the model is .*; ask for less or `protect` fewer$",
        ),
    ],
)
def test_what_no_depth_meets_is_refused_with_the_best_that_can_be_had(
    asked: dict[str, float], changes: dict[str, Any], words: str
) -> None:
    found = depths(COSTS, Seconds(1e-3, 2e-3), targets=Targets(asked), **changes)
    with pytest.raises(InputError, match=words) as told:
        found.needs()
    assert "\n" not in str(told.value)


def test_a_latency_that_is_near_is_not_refused_by_a_moments_timing() -> None:
    seconds = Seconds(1e-3, 2e-3)
    assert depths(COSTS, seconds, targets=Targets({LATENCY: 2.3})).needs() == {LATENCY: 5}
    with pytest.raises(InputError, match=r"`max_latency_ms` 2\.2 cannot be had"):
        depths(COSTS, seconds, targets=Targets({LATENCY: 2.2})).needs()


def test_time_says_more_than_work_where_it_promises_more() -> None:
    """Layers that are all of the time: six times as fast with one of six."""
    asked = Targets({SPEEDUP: 5.999})
    assert depths(COSTS, Seconds(1e-3, 0.0), targets=asked).needs() == {SPEEDUP: 5}
    with pytest.raises(InputError, match="cannot be had"):
        depths(COSTS, Seconds(1e-3, 1.0), targets=asked).needs()


def test_a_request_is_like_the_tasks() -> None:
    task = load_task("capitals")
    assert request_of(task, 34.6, None) == Request(35, 1)
    assert request_of(task, 34.6, 20) == Request(19, 1)
    writes = load_task("capitals", protocol="text", max_new_tokens=7)
    assert request_of(writes, 34.6, 256) == Request(35, 7)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "falcon-alibi"])
def test_a_moments_timing_needs_no_weights(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = resolve_model(str(tiny.save(tmp_path / "m", family)))
    for file in source.folder.glob("*.safetensors"):
        file.unlink()
    once = unloaded._request_once

    def timed(model: Any, *asked: Any) -> float:
        """It is run, and takes as long as its layers say: a busy machine shows no difference."""
        assert once(model, *asked) > 0
        return 0.002 + 0.001 * len(find_layers(model))

    monkeypatch.setattr(unloaded, "SECONDS", 0.0)
    monkeypatch.setattr(unloaded, "_request_once", timed)
    found = request_seconds(source, torch.device("cpu"), "float32", 20, 3)
    assert found is not None
    assert found == pytest.approx((0.001, 0.002))
    assert found.of(6) == pytest.approx(0.008)
    assert request_seconds(source, torch.device("cpu"), "no such", 20, 3) is None


def test_a_target_names_the_most_accurate_model_that_meets_it(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    result = search(tiny_folder, tmp_path / "s", target_speedup=1.3)
    # 8 ms to 6: of the depths from 2 on the most accurate, of equals the least deep.
    models = [model for model in result.models if len(model.removed) >= 2]
    wanted = max(models, key=lambda model: (model.accuracy, -len(model.removed)))
    named = result.by_name("target")
    assert named is not None
    assert named.removed == wanted.removed
    assert machine.log == [len(wanted.removed)]
    document = result_of(tmp_path / "s")
    target = document["target"]
    depth = 6 - len(wanted.removed)
    assert target["asked"] == {"target_speedup": 1.3}
    assert target["met"] is True
    assert target["removed"] == list(wanted.removed)
    figure = target["figures"]["target_speedup"]
    assert figure["value"] == 8 / (2 + depth)
    assert figure["ideal"] > 1.3
    assert target["request"]["new_tokens"] == 1
    assert document["search"]["target_speedup"] == 1.3
    assert result.shown_first == named
    # Read again, it is the same.
    assert result_from(json.loads(json.dumps(document | {"cost": result.document["cost"]})), 0) == (
        result_from(result.document, 0)
    )
    layers = str(summary_of(result)["target/removed"])
    assert layers.replace(" ", "") == ",".join(map(str, wanted.removed))
    read = read_study(tmp_path / "s").result
    assert read is not None
    assert read.target == result.target
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "Chosen by what was asked" in page
    assert "--target-speedup 1.3" in page


def test_a_target_changes_nothing_else(tiny_folder: Path, tmp_path: Path, machine: Machine) -> None:
    """Nor does it count as a look at the held-out examples."""
    search(tiny_folder, tmp_path / "plain")
    search(tiny_folder, tmp_path / "asked", max_latency_ms=6.5)
    search(tiny_folder, tmp_path / "asked", max_latency_ms=5.5, price="accuracy=1")
    plain, asked = result_of(tmp_path / "plain"), result_of(tmp_path / "asked")
    target = asked.pop("target")
    assert target["figures"]["max_latency_ms"]["value"] <= 5.5
    assert asked["search"].pop("max_latency_ms") == 5.5
    assert asked["search"].pop("price") == {"accuracy": 1.0}
    assert asked == plain
    assert "target" not in plain
    result = read_study(tmp_path / "plain").result
    assert result is not None
    assert "target/removed" not in summary_of(result)


def test_the_final_set_is_looked_at_for_the_model_that_the_target_names(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    asked = {"final": 20, "limit": 40, "held_out": 30, "max_loss": 0.9}
    plain = search(tiny_folder, tmp_path / "plain", **asked)
    # Of the models that are fast enough the deepest is none that would be recommended.
    result = search(tiny_folder, tmp_path / "s", target_speedup=8 / 5, **asked)
    target = result.by_name("target")
    assert target is not None
    assert plain.final is not None
    assert (plain.final.name, plain.final.removed) != ("target", target.removed)
    assert result.final is not None
    assert (result.final.name, result.final.removed) == ("target", target.removed)
    assert not any("looked at once, for a model that is no longer" in c for c in result.cautions)
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "looked at once, for the model chosen by the target" in page


def test_what_was_timed_is_kept(tiny_folder: Path, tmp_path: Path, machine: Machine) -> None:
    first = search(tiny_folder, tmp_path / "s", target_speedup=1.3)
    known = list(machine.log)
    again = search(tiny_folder, tmp_path / "s", target_speedup=1.3)
    assert machine.log == known
    assert again.document == first.document
    search(tiny_folder, tmp_path / "s", target_speedup=1.9)
    assert machine.log[: len(known)] == known
    assert machine.log[-1] == 4
    assert len(set(machine.log)) == len(machine.log)


def test_every_field_of_a_target_is_in_its_page(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    page = (ROOT / "docs/reference/result.md").read_text(encoding="utf-8")
    named = set(INLINE.findall(page))
    for asked in ({"target_speedup": 1.3, "price": "accuracy=1"}, {"target_speedup": 2.5}):
        search(tiny_folder, tmp_path / "s", **asked)
        assert keys(result_of(tmp_path / "s")["target"]) - named == set()
    assert machine.log


def test_a_target_that_the_search_does_not_reach_is_told_and_not_picked(
    tiny_folder: Path, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine's overhead of 2 ms is not in the count: 8 ms to 4 is twice as fast."""
    out = tmp_path / "s"
    result = search(tiny_folder, out, target_speedup=2.5)
    assert result.target is not None
    assert not result.target.is_met
    document = result_of(out)["target"]
    assert "removed" not in document
    assert len(document["nearest"]) == 4
    assert document["figures"]["target_speedup"]["value"] == 2.0
    assert result.by_name("target") is None
    summary(result, console())
    assert "The target is not met: none of the models kept" in " ".join(
        capsys.readouterr().out.split()
    )
    line = failed(capsys, "export", str(out), "--pick", "target", "--to", str(tmp_path / "x"))
    assert line.startswith("The target is not met: none of the models kept is shown to be at least")
    assert "is 2.00 times as fast" in line
    assert not (tmp_path / "x").exists()


def test_a_study_that_was_asked_for_none_has_none_to_pick(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search(tiny_folder, tmp_path / "s", max_removed=1)
    line = failed(
        capsys, "export", str(tmp_path / "s"), "--pick", "target", "--to", str(tmp_path / "x")
    )
    assert line.startswith("this study was asked for no target; search again with one, such as")


def test_parameters_are_counted_and_nothing_is_timed(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    result = search(tiny_folder, tmp_path / "s", max_parameters="50K")
    named = result.by_name("target")
    assert named is not None
    assert named.parameters is not None
    assert named.parameters <= 50_000
    more = [
        m for m in result.models if (m.parameters or 0) <= 50_000 and m.accuracy > named.accuracy
    ]
    assert more == []
    assert machine.log == []
    assert result.target is not None
    assert result.target.request is None
    assert result.target.figures[PARAMETERS].value == named.parameters
    exported = telltale.export(tmp_path / "s", pick="target", to=tmp_path / "x")
    assert exported.removed == named.removed


def test_memory_and_latency_are_met_together(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    result = search(tiny_folder, tmp_path / "s", max_memory="5MB", max_latency_ms=7)
    assert result.target is not None
    assert result.target.is_met
    assert len(result.target.removed) >= 3
    assert set(result.target.figures) == {LATENCY, MEMORY}


def test_a_price_chooses_by_what_was_measured(
    tiny_folder: Path, tmp_path: Path, machine: Machine
) -> None:
    result = search(tiny_folder, tmp_path / "s", price={"parameters": 1.0})
    assert result.target is not None
    assert len(result.target.removed) == 4  # accuracy has no price
    saved = 100 * (1 - result.models[-1].parameters / result.baseline.parameters)  # type: ignore[operator]
    assert result.target.worth == pytest.approx({"parameters": saved})
    assert machine.log == []
    document = result_of(tmp_path / "s")
    assert document["target"]["worth"]["parameters"] == pytest.approx(saved)
    page = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "--price parameters=1" in page


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--target-speedup", "9"], "--target-speedup 9 cannot be had: with 1 layer of 6 left the"),
        (["--target-speedup", "1"], "--target-speedup must be more than 1, got 1"),
        (["--max-latency-ms", "0.1"], "--max-latency-ms 0.1 cannot be had: with 1 layer of 6 left"),
        (["--max-memory", "10kB"], "--max-memory 10.0 kB cannot be had: with 1 layer of 6 left"),
        (["--max-memory", "much"], "--max-memory must be a number of bytes, or a size such as 2Gi"),
        (["--max-parameters", "10K"], "--max-parameters 10,000 cannot be had: with 1 layer of 6 l"),
        (["--max-parameters", "few"], "--max-parameters must be a number of parameters, such as 1"),
        (["--price", "speed=1"], "--price has no speed; give prices of accuracy, latency or param"),
        (["--price", "1"], "--price must be prices such as accuracy=1,latency=0.2, got '1'"),
        (
            ["--target-speedup", "1.9", "--max-removed", "2"],
            "--target-speedup 1.9 cannot be had with --max-removed 2: with 4 layers of 6 left",
        ),
    ],
)
@pytest.mark.usefixtures("machine")
def test_the_command_refuses_before_anything_is_measured(
    given: list[str],
    words: str,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: sys.exit("weights were loaded"))
    for more in ([], ["--dry-run"]):
        arguments = search_arguments(tiny_folder, tmp_path / "s", *given, *more)
        assert failed(capsys, *arguments).startswith(words)
    assert not (tmp_path / "s").exists() or not list((tmp_path / "s").glob("result*"))


def test_a_plan_says_how_deep_a_target_asks_to_go(
    tiny_folder: Path, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--target-speedup", "1.3", "--max-parameters", "50K", "--dry-run"]
    plan = tmp_path / "plan.json"
    main_ok(search_arguments(tiny_folder, tmp_path / "s", *given, "--plan", str(plan)))
    said = " ".join(capsys.readouterr().out.split())
    assert "To be at least 1.30 times as fast, the model must lack at least 2 of 6 layers" in said
    document = json.loads(plan.read_text(encoding="utf-8"))
    assert document["needs"] == {"target_speedup": 2, "max_parameters": 3}
    assert machine.log == []


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
