"""Recipes on other tasks: measured as an evaluation is, on examples that no search has seen."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale import InputError
from telltale.cli.commands import main
from telltale.engine.runner import LocalRunner
from telltale.evidence.comparison import Comparison
from telltale.evidence.stats import Interval, gain_interval, pairs
from telltale.evidence.transfers import (
    FILE,
    Cell,
    MeasuredTask,
    Recipe,
    Transferred,
    read_transferred,
    warning_of,
)
from telltale.report import write_figures, write_report
from telltale.study import read_study
from telltale.study.ledger import seen_before
from telltale.study.transferring import choose_tasks, studies_from, tasks_from
from telltale.support.files import sha256_of
from telltale.tasks.sets import HELD_OUT, SEARCH
from telltale.tasks.split import first_drawn
from telltale.watcher import Watcher
from tests import tiny
from tests.report.markup import Markup
from tests.studies import PAGE, start_command

if TYPE_CHECKING:
    from telltale.measure import Measurement
    from telltale.tasks import Task

TASKS = ["capitals", "boolean_expressions"]
PICK = 2  # of the layers that a search removed
LIMIT = 60


def search(model: Path, task: Task | str, out: Path, **more: Any) -> Path:
    asked: Any = {"limit": 40, "held_out": 30, "tolerance": 1.0, "max_removed": 2, "text": PAGE}
    telltale.search(str(model), task, out=out, **{"dtype": "float32", **asked, **more})
    return out


class Counts(Watcher):
    """Counts what is measured anew, and ends a run after so many."""

    def __init__(self, most: int | None = None) -> None:
        self.fresh, self.most = 0, most

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.fresh += not remembered
        if self.fresh == self.most:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a study on each of two tasks, and questions whose right answers are the model's."""
    folder = tmp_path_factory.mktemp("transfer")
    model = tiny.save(folder / "model")
    for name in TASKS:
        search(model, name, folder / f"of-{name}")
    rows = [
        {"question": f"Say whether {example.context}", "choices": ["True", "False"], "answer": 0}
        for example in telltale.load_task("boolean_expressions").examples[:120]
    ]
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    said = telltale.evaluate(str(model), telltale.load_task(data=file), dtype="float32")
    for row, found in zip(rows, said["examples"], strict=True):
        row["answer"] = found["answer"]
    rows[0]["answer"] = 1 - rows[0]["answer"]  # not all alike
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def studies(place: Path) -> list[Path]:
    return [place / f"of-{name}" for name in TASKS]


def transferred(place: Path, out: Path, **more: Any) -> Transferred:
    asked = {"tasks": TASKS, "data": place / "mine.jsonl", "pick": PICK, "limit": LIMIT}
    return telltale.transfer(studies(place), out=out, **{**asked, "dtype": "float32", **more})


@pytest.fixture(scope="module")
def folder(place: Path) -> Path:
    """A transfer that was stopped twice, and gone on with."""
    out = place / "transfer"
    for most in (2, 7):
        with pytest.raises(KeyboardInterrupt):
            transferred(place, out, watcher=Counts(most))
    assert not (out / FILE).exists()
    transferred(place, out)
    return out


def task_of(place: Path, name: str) -> Task:
    mine = name.endswith("mine.jsonl")
    return telltale.load_task(data=place / "mine.jsonl") if mine else telltale.load_task(name)


def test_a_cell_is_what_an_evaluation_of_its_examples_gives(place: Path, folder: Path) -> None:
    found = read_transferred(folder)
    stored = {one.name: read_study(place / one.name) for one in found.recipes}
    for task in found.tasks:
        whole_task = task_of(place, task.name)
        if task.held_out_of is None:
            examples = first_drawn(whole_task, LIMIT, seed=0)
        else:
            ids = [e.id for e in stored[task.held_out_of].examples if e.role == HELD_OUT]
            by_id = {example.id: example for example in whole_task.examples}
            examples = tuple(by_id[one] for one in ids)
            assert len(examples) == 30
        assert task.baseline.examples == len(examples)
        asked = replace(whole_task, examples=examples)

        def scores(removed: tuple[int, ...], asked: Task = asked) -> list[float]:
            said = telltale.evaluate(
                str(place / "model"), asked, remove=removed, dtype="float32", text=PAGE
            )
            return [one["score"] for one in said["examples"]]

        before = scores(())
        assert task.baseline.accuracy == sum(before) / len(before)
        for recipe in found.recipes:
            after, cell = scores(recipe.removed), recipe.results[task.name].found
            assert len(recipe.removed) == PICK
            assert cell.accuracy == sum(after) / len(after)
            assert cell.gain_interval == gain_interval(pairs(before, after))


def test_examples_on_one_passage_count_as_one(place: Path, tmp_path: Path) -> None:
    rows = [
        json.loads(line) | {"passage": f"Text {number // 5}."}
        for number, line in enumerate((place / "mine.jsonl").read_text().splitlines()[:60])
    ]
    file = tmp_path / "passages.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = telltale.transfer(
        studies(place)[0], data=file, out=tmp_path / "t", pick=PICK, dtype="float32"
    )
    (cell,) = found.recipes[0].results.values()
    task = telltale.load_task(data=file)
    scores = {}
    for removed in ((), found.recipes[0].removed):
        said = telltale.evaluate(
            str(place / "model"), task, remove=removed, dtype="float32", text=PAGE
        )
        scores[removed] = [one["score"] for one in said["examples"]]
    both = scores.values()
    together = gain_interval(pairs(*both, [place // 5 for place in range(60)]))
    assert cell.found.gain_interval == pytest.approx(together)
    assert cell.found.gain_interval != pytest.approx(gain_interval(pairs(*both)))


def test_on_its_own_task_a_recipe_has_the_evidence_of_its_study(place: Path, folder: Path) -> None:
    found = read_transferred(folder)
    for recipe in found.recipes:
        result = read_study(place / recipe.name).result
        assert result is not None
        (model,) = [one for one in result.models if one.removed == recipe.removed]
        cell = recipe.results[recipe.task]
        assert (cell.searched, cell.found) == (True, model.held_out)
        assert [one for one, other in recipe.results.items() if other.searched] == [recipe.task]


def test_no_example_was_seen_by_a_search_also_where_that_was_by_several_tasks(
    place: Path, tmp_path: Path
) -> None:
    joint = search(place / "model", ",".join(TASKS), tmp_path / "joint", final=20, seed=1)
    given = studies_from([*studies(place), joint], str(PICK))
    chosen = choose_tasks(tasks_from(TASKS, [], None), given, None, cuts=False)
    for one in chosen:
        contexts = {example.context for example in one.task.examples}
        for study in given:
            others = {e.context for e in study.examples if e.role != HELD_OUT}
            assert contexts.isdisjoint(others)
        assert one.searched == {f"of-{one.task.name}", "joint"}
        # Of what the task's own study held out, only what the joint search has seen lacks.
        own = next(s for s in given if s.task == one.task.name)
        held_out = {e.context for e in own.examples if e.role == HELD_OUT}
        seen = {e.context for e in given[2].examples if e.role != HELD_OUT}
        assert contexts == held_out - seen
    # That the joint search has seen some makes this worth its time.
    assert min(len(one.task.examples) for one in chosen) < 30


def test_a_task_of_many_searched_together_is_drawn_of_what_that_search_has_not_seen(
    place: Path, tmp_path: Path
) -> None:
    joint = search(place / "model", ",".join(TASKS), tmp_path / "joint")
    given = studies_from([joint], str(PICK))
    (one,) = choose_tasks(tasks_from(["capitals"], [], None), given, None, cuts=False)
    searched = {e.context for e in given[0].examples if e.role == SEARCH}
    assert (one.held_out_of, one.searched) == (None, {"joint"})
    assert searched.isdisjoint(example.context for example in one.task.examples)
    assert len(one.task.examples) == len(telltale.load_task("capitals").examples) - 20


def test_a_guards_examples_that_kept_candidates_out_are_not_measured(
    place: Path, tmp_path: Path
) -> None:
    guards = {"boolean_expressions": 0.9}
    study = search(place / "model", "capitals", tmp_path / "guarded", guards=guards)
    given = studies_from([study], str(PICK))
    (one,) = choose_tasks(tasks_from(["boolean_expressions"], [], None), given, None, cuts=False)
    kept_out = {
        e.context for e in given[0].examples if e.role == "guard boolean_expressions search"
    }
    assert len(kept_out) > 20
    assert kept_out.isdisjoint(example.context for example in one.task.examples)
    assert one.searched == frozenset()  # a guard is no objective


# Going on


def test_a_transfer_that_was_stopped_gives_the_same_file_to_the_byte(
    place: Path, folder: Path, tmp_path: Path
) -> None:
    transferred(place, tmp_path / "t")
    assert (tmp_path / "t" / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_the_second_time_nothing_is_measured_and_no_weights_are_loaded(
    place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(_: object) -> None:
        raise AssertionError("the model was loaded")

    before, counts = (folder / FILE).read_bytes(), Counts()
    monkeypatch.setattr(LocalRunner, "model", property(loads))
    transferred(place, folder, watcher=counts)
    assert counts.fresh == 0
    assert (folder / FILE).read_bytes() == before
    with pytest.raises(AssertionError, match="the model was loaded"):
        transferred(place, folder, limit=LIMIT - 1)


def test_what_was_measured_of_others_is_not_measured_for_one_more(
    place: Path, tmp_path: Path
) -> None:
    first, more = Counts(), Counts()
    asked: Any = {"out": tmp_path / "t", "pick": PICK, "dtype": "float32"}
    telltale.transfer(studies(place)[0], tasks="capitals", watcher=first, **asked)
    telltale.transfer(studies(place), tasks="capitals", watcher=more, **asked)
    assert 0 < more.fresh == first.fresh / 2  # of the whole model and a recipe, one more recipe


@pytest.mark.slow
def test_twenty_kills_change_nothing(place: Path, tmp_path: Path) -> None:
    def arguments(out: Path) -> list[str]:
        given = ["transfer", *map(str, studies(place)), "--tasks", ",".join(TASKS)]
        more = ["--data", str(place / "mine.jsonl"), "--pick", str(PICK), "--dtype", "float32"]
        return [*given, *more, "--out", str(out)]

    def timed(out: Path) -> float:
        start, process = time.monotonic(), start_command(arguments(out))
        process.join()
        assert process.exitcode == 0
        return time.monotonic() - start

    timed(tmp_path / "warm-up")
    seconds = timed(tmp_path / "undisturbed")
    wanted = (tmp_path / "undisturbed" / FILE).read_bytes()
    source, kills, out = random.Random(20), 0, tmp_path / "killed"
    while kills < 20:
        process = start_command(arguments(out))
        process.join(timeout=seconds * source.uniform(0.05, 0.95))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert (out / FILE).read_bytes() == wanted
            out = tmp_path / f"killed-after-{kills}"
    timed(out)
    assert (out / FILE).read_bytes() == wanted


def test_every_search_counts_as_one_that_looked_at_the_examples(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TELLTALE_HOME", str(tmp_path / "home"))
    found = transferred(place, tmp_path / "t", data=[])
    drawn = studies_from(studies(place), str(PICK))
    (one, _) = choose_tasks(tasks_from(TASKS, [], None), drawn, LIMIT, cuts=False)
    names = [
        [sha256_of(found.model["sha256"], name) for name in example.names]
        for example in one.task.examples
    ]
    seen = seen_before("another search", names)
    assert seen is not None
    assert (seen.examples, seen.searches) == (len(one.task.examples), len(drawn))


# How tasks are asked


def test_a_studys_own_task_is_asked_as_the_study_asked_it(place: Path, tmp_path: Path) -> None:
    settings: Any = {"shots": 2, "seed": 3, "scoring": "loglik-per-token", "prompt": "Q {question}"}
    asked = telltale.load_task("capitals", **settings)
    study = search(place / "model", asked, tmp_path / "shots", seed=3, truncate="left")
    found = telltale.transfer(
        study, tasks=["capitals"], out=tmp_path / "t", pick=PICK, dtype="float32"
    )
    (task,) = found.tasks
    wanted = {"shots": 2, "scoring": "loglik-per-token", "prompt": "Q {question}"}
    wanted |= {"truncate": "left"}
    assert {name: task.settings[name] for name in wanted} == wanted
    result = read_study(study).result
    assert result is not None
    assert found.recipes[0].results["capitals"].found == result.models[PICK].held_out
    # Studies that ask it differently cannot both be asked.
    with pytest.raises(InputError, match=r"ask capitals in different ways"):
        telltale.transfer(
            [study, studies(place)[0]], tasks=["capitals"], out=tmp_path / "u", pick=PICK
        )
    # What a guard or one of several was asked otherwise is not told from what was seen.
    group = search(
        place / "model",
        telltale.load_task(",".join(TASKS), prompt="Q {question}"),
        tmp_path / "group",
    )
    with pytest.raises(InputError, match="cannot be said which its search has seen"):
        telltale.transfer(group, tasks=["capitals"], out=tmp_path / "u", pick=PICK)


def test_what_a_name_a_precision_or_calibration_does_to_a_cell_is_told(
    place: Path, tmp_path: Path
) -> None:
    more: Any = {"scoring": "calibrated", "tolerance": 0.5, "max_loss": 0.9}
    study = search(place / "model", "boolean_expressions", tmp_path / "calibrated", **more)
    asked: Any = {"tasks": "capitals", "out": tmp_path / "t", "limit": 5, "pick": "fastest_safe"}
    found = telltale.transfer(study, dtype="bfloat16", **asked)
    assert [said.partition(" ")[0] for said in found.cautions] == [
        "fastest_safe",
        *["calibrated"] * 2,
    ]
    assert "judged choices calibrated, and here they are judged as they are" in found.cautions[1]
    assert "was measured in float32 and here it is in bfloat16" in found.cautions[2]
    found = telltale.transfer(study, dtype="float32", **{**asked, "pick": 1})
    assert len(found.cautions) == 1


def test_it_is_measured_in_the_precision_that_all_searches_had(place: Path, tmp_path: Path) -> None:
    low = search(place / "model", "boolean_expressions", tmp_path / "low", dtype="bfloat16")
    asked: Any = {"tasks": "capitals", "limit": 5, "pick": PICK}
    alone = telltale.transfer(low, out=tmp_path / "alone", **asked)
    assert alone.model["dtype"] == "bfloat16"
    assert not [one for one in alone.cautions if "was measured in" in one]
    both = telltale.transfer([low, studies(place)[1]], out=tmp_path / "both", **asked)
    assert both.model["dtype"] == "float32"  # as in `evaluate`
    assert len([one for one in both.cautions if "low was measured in" in one]) == 1


def test_text_that_is_written_is_measured_too(place: Path, tmp_path: Path) -> None:
    written: Any = {"protocol": "text", "extract": "exact", "max_new_tokens": 3}
    task = telltale.load_task("capitals", **written)
    found = telltale.transfer(
        studies(place)[1],
        tasks=[replace(task, name="written")],
        out=tmp_path / "t",
        pick=PICK,
        limit=5,
    )
    assert set(found.tasks[0].baseline.counts) == {"unparsable", "cut_off"}
    assert read_transferred(tmp_path / "t") == found


def test_a_harnesss_task_keeps_its_metric_and_its_shots(
    place: Path, tmp_path: Path, own_datasets: None
) -> None:
    pytest.importorskip("lm_eval")
    from tests.tasks.test_harness import choice, questions

    made = choice(tmp_path / "made")
    made.rows["test"] = questions("test", 50)
    name = f"harness:{made.write()}"
    task = telltale.load_task(name, shots=1, metric="acc_norm")
    study = search(place / "model", task, tmp_path / "study", limit=20, held_out=20)
    found = telltale.transfer(
        study, tasks=[name, "capitals"], out=tmp_path / "t", pick=PICK, dtype="float32", limit=20
    )
    (own, _) = found.tasks
    assert (own.settings["shots"], own.settings["scorer"]["metric"]) == (1, "acc_norm,none")
    result = read_study(study).result
    assert result is not None
    assert found.recipes[0].results[own.name].found == result.models[PICK].held_out
    assert (own.name, own.given) == ("harness:made", name)


def test_a_studys_own_task_from_python_or_a_file(place: Path, tmp_path: Path) -> None:
    file = place / "mine.jsonl"
    study = search(place / "model", telltale.load_task(data=file), tmp_path / "mine", seed=2)
    found = telltale.transfer(study, data=file, out=tmp_path / "t", pick=PICK, dtype="float32")
    assert found.tasks[0].held_out_of == "mine"
    fewer = tmp_path / place.name / "mine.jsonl"  # the same name, without the last rows
    fewer.parent.mkdir()
    fewer.write_text("".join(file.read_text().splitlines(keepends=True)[:90]))
    with pytest.raises(InputError, match=r"of the 30 held-out examples of mine are not among"):
        telltale.transfer(study, data=fewer, out=tmp_path / "u", pick=PICK)


# What is said


def test_a_recipe_that_breaks_a_task_is_warned_of_with_a_command_that_runs(
    place: Path, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = read_transferred(folder)
    mine = found.tasks[2].name
    for recipe in found.recipes:
        cell = recipe.results[mine]
        assert cell.breaks == (cell.found.gain_interval.high < 0)
    broken = [one for one in found.recipes if one.results[mine].breaks]
    assert broken
    assert len(found.warnings) == len(broken)
    for recipe, said in zip(broken, found.warnings, strict=True):
        assert said.startswith(f"{recipe.name}, without layer")
        assert f"breaks {mine} (-" in said
        command = shlex.split(said.partition("guard what is lost in the search: ")[2])
        assert command[:4] == ["telltale", "search", str(place / "model"), recipe.task]
        assert command[4:6] == ["--guard", f"{place / 'mine.jsonl'}:0.01"]
        command[command.index("--out") + 1] = str(tmp_path / "joint")
        with pytest.raises(SystemExit) as ended:
            main([*command[1:], "--limit", "40", "--dry-run"])
        assert (ended.value.code, capsys.readouterr().out == "") == (0, False)


def comparison(gain: float, low: float, high: float) -> Comparison:
    return Comparison(0.5, Interval(0.4, 0.6), gain, Interval(low, high), -low, 100)


def made(place: Path, cells: dict[str, Cell], **settings: Any) -> str | None:
    """The warning of a recipe for capitals with some cells."""
    by_default = telltale.load_task("capitals").settings()
    asked = {**by_default, **settings}
    tasks = [
        MeasuredTask(name, by_default, name, None, "", "", comparison(0, 0, 0)) for name in cells
    ]
    recipe = Recipe("a study", "capitals", (3, 1), 4, "", cells)
    return warning_of(
        recipe,
        tasks,
        {
            "model": {"given": str(place / "model"), "revision": None, "trust_remote_code": False},
            "task": {"name": "capitals", "truncate": "no", **asked},
        },
        None,
    )


def test_several_named_tasks_are_one_search(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, level = comparison(-0.2, -0.3, -0.1), comparison(-0.2, -0.3, 0.0)
    assert made(place, {"capitals": Cell(lost, True), "boolq": Cell(level, False)}) is None
    said = made(
        place, {"capitals": Cell(level, True), "boolean_expressions": Cell(lost, False)}, shots=2
    )
    assert said is not None
    command = (
        f"telltale search {place / 'model'} capitals,boolean_expressions --shots 2 --out joint"
    )
    assert said == (
        "a study, without layers 1, 3 for capitals, breaks boolean_expressions (-20.0 points, "
        f"-30.0 to -10.0); search by all of them as one objective: {command}"
    )
    arguments = shlex.split(command)
    arguments[arguments.index("joint")] = str(tmp_path / "joint")
    with pytest.raises(SystemExit) as ended:
        main([*arguments[1:], "--limit", "40", "--dry-run"])
    assert ended.value.code == 0
    assert "boolean_expressions" in capsys.readouterr().out


def test_tasks_that_cannot_be_one_objective_are_guarded(place: Path) -> None:
    lost = Cell(comparison(-0.2, -0.3, -0.1), False)
    said = made(place, {"boolq": lost, "other/f.jsonl": lost})
    assert said is not None  # a file has no name
    assert "capitals --guard boolq:0.01 --guard other/f.jsonl:0.01 --out joint" in said
    written = {"protocol": "chat", "shots": 1}  # of the study alone
    asked: Any = {"capitals": Cell(lost.found, True), "boolq": lost}
    for settings, wanted in (({}, "capitals,boolq --out"), (written, "--guard boolq:0.01 --out")):
        said = made(place, asked, **settings)
        assert said is not None
        assert wanted in said


def test_the_page_and_the_figures_are_made_of_the_file(folder: Path, tmp_path: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    write_report([folder], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    markup = Markup(page)
    assert markup.unbalanced == []
    found = read_transferred(folder)
    assert found.document == json.loads((folder / FILE).read_text(encoding="utf-8"))
    for said in (found.conclusion, *found.warnings, *found.cautions):
        assert " ".join(said.replace("-", "").split())[:60] in markup.text.replace("-", "").replace(
            "−", ""
        )
    cells = [attributes for tag, attributes in markup.tags if tag == "rect"]
    fills = [one["fill"] for one in cells if one.get("fill", "").startswith("var(--")]
    assert any("--below-" in one for one in fills)
    names = {file.name for file in write_figures(folder, tmp_path / "figures")}
    assert names == {"transfer.svg", "transfer.png", "transfer.csv"}
    rows = (tmp_path / "figures/transfer.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + len(found.tasks) * len(found.recipes)
    with pytest.raises(InputError, match="holds a transfer, which has a page of its own"):
        write_report([folder, folder], tmp_path / "again.html")
    other = tmp_path / "other"
    other.mkdir()
    for text, wanted in (('{"version": 9}', "is of version 9"), ("[]", "is no transfer, or is")):
        (other / FILE).write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=wanted):
            write_report([other], tmp_path / "again.html")


def test_every_field_is_in_its_page(folder: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/reference/transfer.md").read_text(encoding="utf-8")
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    task, recipe = (next(iter(document[name].values())) for name in ("tasks", "recipes"))
    parts = (document, document["model"], task, task["baseline"], recipe)
    for name in {name for one in (*parts, recipe["results"]["capitals"]) for name in one}:
        assert f"`{name}`" in page


def test_the_command_says_the_same(
    place: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["transfer", *map(str, studies(place)), "--tasks", ", ".join(TASKS)]
    arguments += ["--data", str(place / "mine.jsonl"), "--pick", str(PICK), "--limit", str(LIMIT)]
    before = (folder / FILE).read_bytes()
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dtype", "float32", "--out", str(folder)])
    assert ended.value.code == 0
    assert (folder / FILE).read_bytes() == before
    said, found = capsys.readouterr().out, read_transferred(folder)
    for task in found.tasks:
        assert f"{100 * task.baseline.accuracy:.1f}%" in said
    for line in (found.conclusion, *found.warnings):
        assert line in said


# What is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tasks": [], "data": []}, "`tasks` names none"),
        ({"tasks": ["capitols"]}, "no task is named 'capitols'"),
        ({"tasks": ["capitals", "capitals"]}, "`tasks` names capitals twice"),
        ({"pick": 5}, "of-capitals: `pick` 5 names no model of this study"),
        ({"limit": 0}, "`limit` must be at least 1, got 0"),
        ({"truncate": "right"}, "`truncate` must be left or no"),
        ({"dtype": "float8"}, "`dtype`"),
        ({"data": ["no.jsonl"]}, "no.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused_and_nothing_is_left_behind(
    more: Any, said: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as told:
        transferred(place, tmp_path / "t", **more)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "t").exists()


def test_other_folders_are_refused(place: Path, tmp_path: Path) -> None:
    first, second = studies(place)
    cases: list[tuple[list[Path], str]] = [
        ([], "`studies` names none"),
        ([first, second, place / "model" / ".." / first.name], "is given twice; give it once"),
        ([place / "model"], "is not a study: it holds no study.sqlite"),
        ([tmp_path / "nowhere"], "is not a study"),
    ]
    with pytest.raises(KeyboardInterrupt):
        search(place / "model", "capitals", tmp_path / "half", watcher=Counts(9))
    cases.append(([first, tmp_path / "half"], "half is not finished; give its command again"))
    other = search(tiny.save(tmp_path / "m2", "qwen2"), "capitals", tmp_path / "other")
    cases.append(([first, other], "of-capitals and other are searches of different models"))
    for given, said in cases:
        with pytest.raises(InputError, match=said) as told:
            telltale.transfer(given, tasks=TASKS, out=tmp_path / "t", pick=PICK)
        assert "\n" not in str(told.value)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for out, said in (
        (first, "holds a search; give another `out`"),
        (tmp_path, "is not empty and no transfer"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(InputError, match=said):
            transferred(place, out)
    assert not (tmp_path / "t").exists()


def test_the_command_refuses_in_one_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["transfer", str(studies(place)[0]), "--out", str(tmp_path / "t")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("telltale: --tasks names none; give those to measure on")
