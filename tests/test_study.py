"""A study from start to end, and what it survives."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.cli.screen import PlainConsole, console, summary, unfinished
from telltale.engine.runner import LocalRunner
from telltale.errors import InputError, TelltaleError
from telltale.evidence.result import result_from
from telltale.measure import Batch, BatchTooLargeError, Measurement
from telltale.report import write_report
from telltale.report.sentences import naive_passes
from telltale.study import opening
from telltale.study import records as records_module
from telltale.study.ledger import Looks, note_look
from telltale.study.reading import read_study
from telltale.study.records import open_records
from telltale.study.run import Watcher
from tests.studies import PAGE, result_of, search_arguments, start_command

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.study import Result
    from telltale.study.reading import StoredStudy


ASKING = ("prompt", "scoring", "protocol", "shots")


def search(model: Path, out: Path, **changes: Any) -> Result:
    settings = {"limit": 40, "held_out": 30, "tolerance": 0.2, "max_removed": 3, "text": PAGE}
    settings |= changes
    asking = {name: settings.pop(name) for name in ASKING if name in settings}
    task = telltale.load_task("capitals", **asking)
    return telltale.search(str(model), task, out=out, **settings)


class Counting(Watcher):
    """Counts what was measured anew."""

    def __init__(self) -> None:
        self.fresh = self.remembered = 0

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.fresh += not remembered
        self.remembered += remembered


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; tests do not change it."""
    folder = tmp_path_factory.mktemp("studies") / "finished"
    search(tiny_folder, folder)
    return folder


def test_the_result_has_what_scripts_rely_on(finished: Path, tiny_folder: Path) -> None:
    result = result_of(finished, cost=True)
    for name in ("baseline", "best", "bsba"):
        model = result[name]
        assert 0 <= model["search"]["accuracy"] <= 1
        held_out = model["held_out"]
        assert held_out["interval"][0] <= held_out["accuracy"] <= held_out["interval"][1]
        assert held_out["gain_interval"][0] <= held_out["gain"] <= held_out["gain_interval"][1]
        gain = held_out["accuracy"] - result["baseline"]["held_out"]["accuracy"]
        assert held_out["gain"] == pytest.approx(gain)
        assert model["layers"] == 6 - len(model["removed"])
    accepted = [done["removed"] for done in result["rounds"] if done["accepted"]]
    for name in ("best", "bsba"):
        assert result[name]["removed"] == accepted[: len(result[name]["removed"])]
    assert result["bsba"]["search"]["accuracy"] >= result["baseline"]["search"]["accuracy"]
    assert len(result["rounds"][0]["candidates"]) == 6
    cost = result["cost"]
    assert cost["dense_passes"] == cost["layer_tokens"] / (6 * cost["search_tokens"])
    naive = naive_passes(result_from(result, 0).rounds, 6)
    assert cost["naive_passes"] == pytest.approx(naive, rel=0.1)
    assert cost["seconds"] > 0
    assert result["version"] == 2
    assert len(result["fingerprint"]) == 64
    assert result["verdict"].endswith(".")


def test_the_result_holds_no_path(finished: Path, tiny_folder: Path) -> None:
    text = (finished / "result.json").read_text(encoding="utf-8")
    assert str(tiny_folder.parent) not in text
    assert str(finished.parent) not in text


def test_only_the_models_kept_are_measured_on_the_held_out_set(finished: Path) -> None:
    with open_records(finished, write=False) as records:
        plan, result = records.fact("plan"), records.fact("result")
        rows = sqlite3.connect(finished / "study.sqlite").execute(
            "SELECT batch, removed FROM measurements"
        )
        measured = set(rows.fetchall())
    held_out = {Batch(tuple(examples)).id for examples in plan["batches"]["held-out"]}
    looked_at = {removed for batch, removed in measured if batch in held_out}
    kept = {",".join(map(str, sorted(model["removed"]))) for model in result["path"]}
    assert looked_at == kept


def test_a_finished_study_is_read_again_without_a_model(
    finished: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = result_of(finished, cost=True)

    def no_model(_: LocalRunner) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(LocalRunner, "model", property(no_model))
    search(tiny_folder, finished)
    assert result_of(finished, cost=True) == before


def test_settings_that_change_no_outcome_may_change_and_use_what_is_known(
    tiny_folder: Path, tmp_path: Path
) -> None:
    first, second = Counting(), Counting()
    search(tiny_folder, tmp_path / "s", max_removed=1, watcher=first)
    search(tiny_folder, tmp_path / "s", max_removed=2, protect=[0], watcher=second)
    with open_records(tmp_path / "s", write=False) as records:
        batches = len(records.fact("plan")["batches"]["search"])
    assert first.fresh > 0
    assert second.remembered >= (1 + 5) * batches
    anew = search(tiny_folder, tmp_path / "anew", max_removed=2, protect=[0])
    assert result_of(tmp_path / "s") == result_of(tmp_path / "anew")
    assert anew.document["fingerprint"] == result_of(tmp_path / "s")["fingerprint"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "the search set"),
        ({"limit": 41}, "the search set"),
        ({"held_out": 31}, "the held-out set"),
        ({"prompt": "{question}"}, "the search set"),
        ({"scoring": "loglik-per-token"}, "how the task is asked and scored"),
        ({"dtype": "bfloat16"}, "dtype"),
    ],
)
def test_another_study_in_the_folder_is_refused(
    finished: Path, tiny_folder: Path, changes: dict[str, Any], message: str
) -> None:
    before = (finished / "study.sqlite").read_bytes()
    with pytest.raises(InputError, match=f"holds another study, which differs in: .*{message}"):
        search(tiny_folder, finished, **changes)
    assert (finished / "study.sqlite").read_bytes() == before


def test_only_what_has_changed_is_suspected(finished: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        search(tiny_folder, finished, held_out=31)
    said = str(caught.value).partition("differs in: ")[2]
    assert said == "the held-out set (`held_out` was 30 and is 31); give another `out`"
    with pytest.raises(InputError) as caught:
        search(tiny_folder, finished, seed=1)
    said = str(caught.value).partition("differs in: ")[2]
    assert said.startswith("the search set (`seed` was 0 and is 1); the held-out set (`seed` was")
    assert "`shots`" not in said


def test_another_model_in_the_folder_is_refused(finished: Path, tmp_path: Path) -> None:
    from tests import tiny

    with pytest.raises(InputError, match="the model's bytes"):
        search(tiny.save(tmp_path / "other", num_hidden_layers=5), finished)


def test_a_folder_that_is_not_ours_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and not a study"):
        search(tiny_folder, tmp_path / "mine")
    with pytest.raises(InputError, match="is a file"):
        search(tiny_folder, tmp_path / "mine" / "thesis.txt")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_changed_libraries_are_refused_unless_told_otherwise_and_then_recorded(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tiny_folder, tmp_path / "s", max_removed=1)
    versions = opening.library_versions
    before = importlib.metadata.version("torch")
    monkeypatch.setattr(
        opening, "library_versions", lambda task: {**versions(task), "torch": "9.9"}
    )
    with pytest.raises(InputError, match=r"torch .* to 9.9.*add `resume_anyway`"):
        search(tiny_folder, tmp_path / "s", max_removed=1)
    search(tiny_folder, tmp_path / "s", max_removed=1, resume_anyway=True)
    with open_records(tmp_path / "s", write=False) as records:
        assert [versions["torch"] for versions in records.versions()] == [before, "9.9"]


def test_a_second_run_at_the_same_time_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with (
        open_records(tmp_path / "s", write=True),
        pytest.raises(InputError, match="another run is at work"),
    ):
        search(tiny_folder, tmp_path / "s")
    assert (tmp_path / "s" / "study.sqlite").is_file()  # the other run's, though it has not begun


def test_a_damaged_file_is_a_failure_that_says_what_to_do(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    whole = (finished / "study.sqlite").read_bytes()
    (tmp_path / "s" / "study.sqlite").write_bytes(whole[: len(whole) // 2 - 100])
    with pytest.raises(TelltaleError, match="move the folder away") as caught:
        search(tiny_folder, tmp_path / "s")
    assert caught.value.exit_status == 1


def test_a_folder_is_taken_before_its_model_is_fetched(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(model: str, **_: object) -> None:
        fetched.append(model)
        with pytest.raises(InputError, match="another run is at work"):
            search(tiny_folder, tmp_path / "s")
        raise TelltaleError("no such model")

    monkeypatch.setattr("telltale.models.source.resolve_model", fetch)
    with pytest.raises(TelltaleError, match="no such model"):
        search(tiny_folder, tmp_path / "s")
    assert fetched == [str(tiny_folder)]  # not by the second, which was refused before
    assert not (tmp_path / "s").exists()


def test_a_study_at_work_is_told_from_one_that_was_stopped(
    tiny_folder: Path, tmp_path: Path
) -> None:
    class Looking(Watcher):
        def round_done(self, done: Any) -> None:
            self.seen, self.shown = _shown(tmp_path / "s")
            with pytest.raises(InputError, match="is not finished; wait for the run"):
                telltale.export(tmp_path / "s", to=tmp_path / "checkpoint")
            raise KeyboardInterrupt

    watcher = Looking()
    with pytest.raises(KeyboardInterrupt):
        search(tiny_folder, tmp_path / "s", watcher=watcher)
    assert watcher.seen.is_running
    assert "not finished: a run is at work on it now." in watcher.shown
    assert "again" not in watcher.shown
    stopped, shown = _shown(tmp_path / "s")
    assert not stopped.is_running
    assert "The search is not finished; give its command again to go on." in shown
    with pytest.raises(InputError, match="is not finished; give its command again first"):
        telltale.export(tmp_path / "s", to=tmp_path / "checkpoint")


def _shown(folder: Path) -> tuple[StoredStudy, str]:
    """An unfinished study, and what the screen says of it."""
    found, out = read_study(folder), console()
    with out.capture() as capture:
        unfinished(found, out)
    return found, capture.get()


def test_a_study_of_the_last_format_is_read_and_not_gone_on_with(
    finished: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(finished, old)
    with sqlite3.connect(old / "study.sqlite") as db:
        db.create_function("seal_of", -1, records_module._seal_of)
        facts = {
            name: json.loads(value) for name, value in db.execute("SELECT name, value FROM facts")
        }
        facts["format"] = 4
        # What that format's studies do not have.
        del facts["result"]["claims"], facts["plan"]["absences"], facts["looks"]
        del facts["layer_tokens_alone"]
        for name in ("naive_passes", "slowed_by"):
            del facts["result"]["cost"][name]
        db.execute("DELETE FROM facts")
        rows = [(name, json.dumps(value)) for name, value in facts.items()]
        db.executemany("INSERT INTO facts VALUES (?1, ?2, seal_of(?1, ?2))", rows)
    assert read_study(old).document == facts["result"]
    shown = io.StringIO()
    summary(result_from(facts["result"], 0), PlainConsole(file=shown, width=100))
    assert facts["result"]["verdict"] in " ".join(shown.getvalue().split())
    write_report([old], tmp_path / "page.html")
    assert "tiny-llama" in (tmp_path / "page.html").read_text(encoding="utf-8")
    telltale.export(old, pick="1", to=tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "recipe.json").is_file()
    before = (old / "study.sqlite").read_bytes()
    with pytest.raises(InputError, match=r"format 4\), whose sets .* only read .*another `out`"):
        search(tiny_folder, old)
    assert (old / "study.sqlite").read_bytes() == before


def test_a_study_of_another_format_is_refused(tmp_path: Path) -> None:
    with open_records(tmp_path / "s", write=True) as records:
        records.set_facts({"format": 99})
    with (
        pytest.raises(InputError, match="format 99, this one reads 5"),
        open_records(tmp_path / "s", write=False),
    ):
        pass


def test_a_study_that_is_refused_before_it_begins_leaves_nothing_behind(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="layer 17 is not"):
        search(tiny_folder, tmp_path / "s", protect=[17])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    long = "{question} " + "and so on, " * 200
    with pytest.raises(InputError, match="more than the 256 that this model takes"):
        search(tiny_folder, tmp_path / "mine", prompt=long)
    assert list((tmp_path / "mine").iterdir()) == []
    search(tiny_folder, tmp_path / "mine", max_removed=1)


def test_a_protected_layer_outside_the_model_is_refused_when_going_on_too(
    finished: Path, tiny_folder: Path
) -> None:
    with pytest.raises(InputError, match="layer 17 is not"):
        search(tiny_folder, finished, protect=[17])
    assert read_study(finished).document == result_of(finished, cost=True)


def rounded(document: Any) -> Any:
    """A document without the last digits, which another shape of a batch may change."""
    if isinstance(document, dict):
        return {name: rounded(value) for name, value in document.items()}
    if isinstance(document, list):
        return [rounded(value) for value in document]
    return round(document, 4) if isinstance(document, float) else document


@pytest.mark.parametrize(
    "objective", ["likelihood", "accuracy", pytest.param("margin", marks=pytest.mark.slow)]
)
def test_exact_elimination_finds_what_full_measuring_finds_with_less_work(
    objective: str, tiny_folder: Path, tmp_path: Path
) -> None:
    asked = {"limit": 120, "objective": objective, "tolerance": 0.3}
    exact, full = (
        search(tiny_folder, tmp_path / speed, speed=speed, **asked).document
        for speed in ("exact", "full")
    )
    for name in ("path", "best", "bsba", "fastest_safe", "verdict", "claims", "baseline"):
        assert exact[name] == full[name]
    assert [one["removed"] for one in exact["rounds"] if one["accepted"]] == [
        one["removed"] for one in full["rounds"] if one["accepted"]
    ]
    assert exact["cost"]["layer_tokens"] < full["cost"]["layer_tokens"]
    assert all("examples" not in one for one in full["rounds"])
    assert any("examples" in one for one in exact["rounds"])
    naive = naive_passes(result_from(full, 0).rounds, 6)
    assert full["cost"]["naive_passes"] == pytest.approx(naive)
    # The same study goes on at another speed, and measures only what it lacks.
    again = search(tiny_folder, tmp_path / "exact", speed="full", **asked).document
    assert again["rounds"] == full["rounds"]
    assert again["cost"]["layer_tokens"] > exact["cost"]["layer_tokens"]


def test_a_fast_search_says_how_good_each_round_is_at_least_and_costs_less(
    tiny_folder: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"limit": 120, "objective": "likelihood", "tolerance": 1.0}
    fast, full = (
        search(tiny_folder, tmp_path / speed, speed=speed, **asked).document
        for speed in ("fast", "full")
    )
    assert fast["search"]["speed"] == "fast"
    assert fast["cost"]["layer_tokens"] < full["cost"]["layer_tokens"]
    told = [line for line in fast["cautions"] if "candidates were raced" in line]
    assert len(told) == 1
    assert not any("candidates were raced" in line for line in full["cautions"])
    assert all("certainty" not in one for one in full["rounds"])
    first, true = fast["rounds"][0], full["rounds"][0]["objective"]
    assert first["certainty"]["probability"] == 0.95
    kept = str(first["removed"])
    assert kept not in first["examples"]  # measured on all
    assert first["objective"][kept] == pytest.approx(true[kept])
    assert max(true.values()) - true[kept] <= first["certainty"]["epsilon"] + 1e-9
    assert result_from(fast, 0).document == fast
    # The same study goes on exactly, and finds what it would have found.
    again = search(tiny_folder, tmp_path / "fast", speed="exact", **asked).document
    assert [one["removed"] for one in again["rounds"]] == [one["removed"] for one in full["rounds"]]
    assert not any("candidates were raced" in line for line in again["cautions"])
    assert (
        search(tiny_folder, tmp_path / "fast", speed="fast", **asked).document["rounds"]
        == (fast["rounds"])
    )


@pytest.mark.slow
def test_a_fast_search_that_was_stopped_anywhere_goes_on_to_the_same_result(
    tiny_folder: Path, tmp_path: Path
) -> None:
    class Stop(Counting):
        def __init__(self, after: int) -> None:
            super().__init__()
            self.after = after

        def measured(self, measurement: Measurement, *, remembered: bool) -> None:
            super().measured(measurement, remembered=remembered)
            if self.fresh == self.after:
                raise KeyboardInterrupt

    asked: dict[str, Any] = {"limit": 100, "objective": "likelihood", "speed": "fast"}
    counting = Counting()
    whole = search(tiny_folder, tmp_path / "whole", watcher=counting, **asked).document
    fresh, stops = 0, 0
    for after in (1, 7, 40, 3, 25, 60):
        watcher = Stop(after)
        with pytest.raises(KeyboardInterrupt):
            search(tiny_folder, tmp_path / "stopped", watcher=watcher, **asked)
        fresh, stops = fresh + watcher.fresh, stops + 1
        if fresh + 60 > counting.fresh:
            break
    last = Counting()
    found = search(tiny_folder, tmp_path / "stopped", watcher=last, **asked).document
    assert rounded(found | {"cost": 0}) == rounded(whole | {"cost": 0})
    assert fresh + last.fresh <= counting.fresh + stops


def test_a_batch_that_does_not_fit_is_halved_for_good(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from telltale.engine.shared import SharedEngine

    measure = SharedEngine._measure

    def small_memory(engine: SharedEngine, batch: Batch, plan: Any) -> Any:
        # Only removed paths run out, so a batch's outcomes are there before it is split.
        if len(batch.examples) > 9 and plan[0].path.removed:
            raise BatchTooLargeError(batch, "cpu")
        return measure(engine, batch, plan)

    search(tiny_folder, tmp_path / "whole")
    monkeypatch.setattr(SharedEngine, "_measure", small_memory)
    search(tiny_folder, tmp_path / "split")
    whole, split = (rounded(result_of(tmp_path / name)) for name in ("whole", "split"))
    assert whole == split  # in float32 the shape of a batch decides no answer here
    with open_records(tmp_path / "split", write=False) as records:
        planned = [Batch(tuple(b)) for b in records.fact("dealt")]
        final = [half for batch in planned for half in records.halves(batch)]
    assert max(len(batch.examples) for batch in final) <= 9
    assert sorted(e for b in final for e in b.examples) == list(range(40))


def test_one_example_that_does_not_fit_is_a_failure_that_keeps_what_is_known(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from telltale.engine.shared import SharedEngine

    measure = SharedEngine._measure

    def no_memory(engine: SharedEngine, batch: Batch, plan: Any) -> Any:
        if plan[0].path.removed and 7 in batch.examples:
            raise BatchTooLargeError(batch, "cpu")
        return measure(engine, batch, plan)

    with monkeypatch.context() as broken:
        broken.setattr(SharedEngine, "_measure", no_memory)
        with pytest.raises(TelltaleError, match="did not fit in the memory of cpu"):
            search(tiny_folder, tmp_path / "s")
    watcher = Counting()
    search(tiny_folder, tmp_path / "s", watcher=watcher)
    assert watcher.remembered > 0


def test_the_ledger_counts_other_searches_on_the_same_examples(
    tiny_folder: Path, tmp_path: Path
) -> None:
    first = search(tiny_folder, tmp_path / "a", max_removed=1)
    again = search(tiny_folder, tmp_path / "b", max_removed=1)
    other = search(tiny_folder, tmp_path / "c", max_removed=2)
    assert [first.held_out_looks, again.held_out_looks, other.held_out_looks] == [0, 0, 1]
    assert note_look("elsewhere", ["other examples"]) == Looks(0)


def test_a_ledger_that_cannot_be_kept_stops_no_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "file"))
    assert note_look("search", ["example"]) is None
    assert "ledger" in caplog.text


def test_an_unfinished_study_tells_how_far_it_has_come(
    tiny_folder: Path, tmp_path: Path, finished: Path
) -> None:
    class Enough(Exception):  # noqa: N818
        pass

    class Stop(Watcher):
        rounds = 0

        def round_done(self, done: Any) -> None:
            self.rounds += 1
            if self.rounds == 2:
                raise Enough

    with pytest.raises(Enough):
        search(tiny_folder, tmp_path / "s", watcher=Stop())
    found = read_study(tmp_path / "s")
    assert found.document is None
    rounds = result_of(finished)["rounds"]
    assert found.found is not None
    left_out = [list(done.first.left_out) for done in found.found.rounds]
    assert left_out == [[r["removed"]] for r in rounds[:2]]
    assert read_study(finished).document == result_of(finished, cost=True)
    with pytest.raises(InputError, match="is not a study"):
        read_study(tmp_path)


def test_an_evaluation_halves_what_does_not_fit(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from telltale.engine.shared import SharedEngine

    whole = telltale.evaluate(str(tiny_folder), "capitals", limit=20)
    measure = SharedEngine._measure
    smallest = 5

    def small_memory(engine: SharedEngine, batch: Batch, plan: Any) -> Any:
        if len(engine.examples) == 20 and len(batch.examples) > smallest:  # not the self-test
            raise BatchTooLargeError(batch, "cpu")
        return measure(engine, batch, plan)

    monkeypatch.setattr(SharedEngine, "_measure", small_memory)
    halved = telltale.evaluate(str(tiny_folder), "capitals", limit=20)
    assert halved["accuracy"] == whole["accuracy"]
    smallest = 0
    with pytest.raises(TelltaleError, match="a batch of 1 examples did not fit"):
        telltale.evaluate(str(tiny_folder), "capitals", limit=20)


@pytest.mark.slow
def test_twenty_kills_change_nothing_and_lose_one_batch_each(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests import tiny

    # Deep and slow enough that measuring, not loading, takes most of the time.
    model = tiny.save(
        tmp_path_factory.mktemp("models") / "deep",
        num_hidden_layers=8,
    )

    def timed(out: Path) -> float:
        start = time.monotonic()
        process = start_command(search_arguments(model, out, "--max-removed", "3"))
        process.join()
        assert process.exitcode == 0
        return time.monotonic() - start

    timed(tmp_path / "warm-up")
    seconds = timed(tmp_path / "undisturbed")
    source = random.Random(20)
    kills = 0
    out = tmp_path / "killed"
    while kills < 20:
        process = start_command(search_arguments(model, out, "--max-removed", "3"))
        process.join(timeout=seconds * source.uniform(0.10, 0.95))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            # What was left took less than the time drawn: begin a new study and go on killing.
            assert process.exitcode == 0
            _compare(out, tmp_path / "undisturbed", kills)
            out = tmp_path / f"killed-after-{kills}"
    timed(out)
    _compare(out, tmp_path / "undisturbed", kills)


def _compare(killed: Path, undisturbed: Path, kills: int) -> None:
    assert result_of(killed) == result_of(undisturbed)
    excess = [result_of(f, cost=True)["cost"]["batches_measured"] for f in (killed, undisturbed)]
    assert 0 <= excess[0] - excess[1] <= kills
