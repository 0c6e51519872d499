"""Regimes: what every step gives, by other means; what resumes; what is refused.

The model knows a task, and is tuned on the same task with answers exchanged: it begins with no
right answer, and a few steps of LoRA teach it all of them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import telltale
from telltale.cli.commands import main
from telltale.cli.screen import ScreenWatcher
from telltale.errors import InputError
from telltale.evidence.tuned import (
    REGIMES,
    RegimesCompared,
    TuneResult,
    compared_from,
    read_tuned,
)
from telltale.measure import ChoiceOutcome, Outcome
from telltale.paths import LayerPath
from telltale.report import write_report
from telltale.report.tuned import tuned_page
from telltale.study.reading import read_study
from telltale.tasks.sets import SEARCH
from telltale.tuning import regimes as module
from telltale.tuning.sets import tuning_sets
from telltale.watcher import Watcher
from tests import planted
from tests.adapters import with_adapter
from tests.studies import PAGE
from tests.test_docs import INLINE, ROOT, keys

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.tasks import Task

SIZES: dict[str, Any] = {"limit": 30, "held_out": 40}
LEARNS: dict[str, Any] = {"rank": 8, "learning_rate": 1e-2, "epochs": 9, "max_steps": 20}
ASKED: dict[str, Any] = {**SIZES, **LEARNS, "max_removed": 1, "pick": "bsba", "text": PAGE}
# What a run takes, which is another number each time.
TIMES = (
    "seconds",
    "cpu_seconds",
    "search_seconds",
    "reached_seconds",
    "tokens_per_second",
    "layer_tokens",
)


def write_rows(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{**row, "answer": 1 - row["answer"]} for row in planted.rows(180, seed=1)]
    return write_rows(tmp_path_factory.mktemp("data") / "exchanged.jsonl", rows)


@pytest.fixture(scope="module")
def task(file: Path) -> Task:
    return telltale.load_task(data=file, prompt=planted.PROMPT)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.save(tmp_path_factory.mktemp("models") / "knows", harmful=False)


@pytest.fixture(scope="module")
def compared(
    model: Path, task: Task, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RegimesCompared, Path]:
    out = tmp_path_factory.mktemp("runs") / "out"
    found = telltale.tune(str(model), task, out=out, compare=True, **ASKED)
    assert isinstance(found, RegimesCompared)
    return found, out


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints are not reloaded in another process, which takes seconds and is tried once."""
    monkeypatch.setattr(module, "verify_checkpoint", lambda *_: None)


def held_out(task: Task) -> Task:
    return replace(task, examples=tuning_sets(task, **SIZES).held_out)


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: without_times(v) for k, v in document.items() if k not in TIMES}
    return [without_times(one) for one in document] if isinstance(document, list) else document


def test_tuning_teaches_and_every_regime_does_its_steps(
    compared: tuple[RegimesCompared, Path],
) -> None:
    found, _ = compared
    assert [row.regime for row in found.rows] == list(REGIMES)
    for run in found.runs:
        assert tuple(step.kind for step in run.steps) == REGIMES[run.regime]
    accuracies = {row.regime: row.held_out.accuracy for row in found.rows}
    assert found.baseline.held_out.accuracy < 0.1
    assert accuracies["ft"] > 0.9
    assert accuracies["tale"] < 0.6
    assert accuracies["tale-ft"] > accuracies["tale"] + 0.2
    assert {row.regime: row.layers for row in found.rows}["tale"] == (planted.DEPTH - 1,) * 2
    assert found.rows[0].held_out.gain_interval.low > 0.5
    assert found.reached_loss is not None
    for row in found.rows:
        assert (row.seconds is None) == (row.regime == "tale")
        assert row.reached_tokens is None or 0 < row.reached_tokens <= (row.tokens or 0)


def test_accuracies_are_those_of_an_evaluation(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task
) -> None:
    found, out = compared
    steps = {run.regime: run.steps for run in found.runs}
    asked = held_out(task)
    for source, step in (
        (model, found.baseline),
        (model, steps["tale"][0]),
        (out / "ft-0/whole", steps["ft"][0]),
        (out / "ft-0/whole", steps["ft-tale"][1]),
        (out / "tale-ft-0/whole", steps["tale-ft"][1]),
    ):
        seen = telltale.evaluate(str(source), asked, remove=sorted(step.removed), text=PAGE)
        assert seen["accuracy"] == step.held_out.accuracy
        assert seen["interval"] == list(step.held_out.interval)


def test_the_whole_model_is_not_changed_where_it_lacked_layers_in_training(
    compared: tuple[RegimesCompared, Path], model: Path
) -> None:
    found, out = compared
    (layer,) = next(run for run in found.runs if run.regime == "tale-ft").steps[0].removed
    before, after = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict()
        for folder in (model, out / "tale-ft-0/whole")
    )
    for index in range(planted.DEPTH):
        name = f"model.layers.{index}.self_attn.q_proj.weight"
        assert torch.equal(before[name], after[name]) == (index == layer)


def test_what_regimes_have_in_common_is_done_once(
    compared: tuple[RegimesCompared, Path],
    model: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, out = compared

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("done already")

    for name in ("tune_model", "run_study", "merge_adapter", "Workbench"):
        monkeypatch.setattr(module, name, never)
    again = telltale.tune(str(model), task, out=out, compare=True, **ASKED)
    assert isinstance(again, RegimesCompared)
    assert again.document == found.document
    assert sorted(one.name for one in out.iterdir() if one.is_dir()) == [
        *("ft-0", "ft-tale-0", "tale", "tale-ft-0", "tale-ft-tale-0", "whole"),
    ]


@pytest.mark.usefixtures("unverified")
def test_a_finished_run_of_a_comparison_is_written_as_a_checkpoint(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task
) -> None:
    found, out = compared
    one = telltale.tune(str(model), task, out=out, regime="tale-ft", **ASKED)
    assert isinstance(one, TuneResult)
    assert one.steps == next(run for run in found.runs if run.regime == "tale-ft").steps
    assert json.loads((out / "tune.json").read_text()) == one.document
    assert (one.adapter, one.checkpoint) == (None, "tale-ft-0/checkpoint")
    seen = telltale.evaluate(str(out / one.checkpoint), held_out(task), text=PAGE)
    assert (seen["accuracy"], seen["layers"]) == (one.final.held_out.accuracy, one.final.layers)
    apart = telltale.tune(str(model), task, out=out, regime="tale-ft", output="adapter", **ASKED)
    assert isinstance(apart, TuneResult)
    assert apart.adapter is not None
    logits = []
    for folder, adapter in ((one.checkpoint, None), (apart.checkpoint, apart.adapter)):
        loaded = AutoModelForCausalLM.from_pretrained(out / folder)
        if adapter is not None:
            loaded = with_adapter(loaded, out / adapter)
        with torch.inference_mode():
            logits.append(loaded(torch.tensor([[5, 9, 30, 77, 12]])).logits)
    assert torch.allclose(*logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["merged", "adapter"])
def test_what_is_written_is_reloaded_in_another_process(
    output: str,
    compared: tuple[RegimesCompared, Path],
    model: Path,
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, out = compared
    verified: list[Any] = []
    verify = module.verify_checkpoint
    monkeypatch.setattr(module, "verify_checkpoint", lambda *a: verified.append(verify(*a)))
    asked = {**ASKED, "regime": "tale-ft-tale", "output": output}
    telltale.tune(str(model), task, out=out, **asked)
    telltale.tune(str(model), task, out=out, **asked)
    (once,) = verified
    assert once.logit_difference < 1e-4
    assert once.cache_difference < 1e-4


def test_documents_are_read_back_as_they_were_written(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task, tmp_path: Path
) -> None:
    found, out = compared
    document = json.loads((out / "comparison.json").read_text())
    assert compared_from(document).document == document == found.document
    assert read_tuned(out) == compared_from(document)
    with pytest.raises(InputError, match="holds no tune"):
        read_tuned(tmp_path)
    (tmp_path / "tune.json").write_text('{"version": 9}')
    with pytest.raises(InputError, match="is of version 9"):
        read_tuned(tmp_path)
    (tmp_path / "tune.json").write_text('{"version": 1}')
    with pytest.raises(InputError, match="is damaged"):
        read_tuned(tmp_path)


def test_every_field_is_in_its_page(compared: tuple[RegimesCompared, Path]) -> None:
    found, out = compared
    page = (ROOT / "docs/reference/tune.md").read_text(encoding="utf-8")
    result = (ROOT / "docs/reference/result.md").read_text(encoding="utf-8")
    document = found.document
    if (out / "tune.json").exists():
        document = {**document, **json.loads((out / "tune.json").read_text())}
    of_task, of_search = document.pop("task"), document["settings"].pop("search")
    assert keys(of_task) | keys(of_search) <= set(INLINE.findall(page + result))
    assert keys(document) <= set(INLINE.findall(page))


# Putting back


@pytest.mark.usefixtures("unverified")
def test_a_layer_that_is_missed_is_put_back_and_one_that_harms_is_not(tmp_path: Path) -> None:
    """Layers 0 and 1 do next to nothing, so that 3 has all that is known; 2 harms."""
    planted.save(tmp_path / "harmed", harmful=True)
    harmed = AutoModelForCausalLM.from_pretrained(tmp_path / "harmed")
    with torch.no_grad():
        for layer in harmed.model.layers[: planted.HARMFUL]:
            for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
                for weight in part.parameters():
                    weight.mul_(0.02)
    harmed.save_pretrained(tmp_path / "harmed")
    own = write_rows(tmp_path / "own.jsonl", planted.rows(180, seed=2))
    found = telltale.tune(
        str(tmp_path / "harmed"),
        telltale.load_task(data=own, prompt=planted.PROMPT),
        out=tmp_path / "out",
        regime="tale",
        remove=[3, planted.HARMFUL],
        max_removed=2,
        text=PAGE,
        **SIZES,
    )
    assert isinstance(found, TuneResult)
    assert found.start is not None
    assert found.start.removed == (3, planted.HARMFUL)
    (step,) = found.steps
    assert step.put_back == (3,)
    assert step.removed == (planted.HARMFUL,)
    assert step.held_out.accuracy > 0.9 > found.start.held_out.accuracy
    assert found.checkpoint == "tale/checkpoint"


@pytest.mark.parametrize(("gain", "is_back"), [(1.2, True), (0.8, False), (-3.0, False)])
def test_a_layer_is_missed_by_more_than_a_standard_error(
    gain: float, is_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    """Differences of known mean and error, in units of that error."""
    sets = tuning_sets(task, **SIZES)
    count = len(sets.search)
    spread = [(-1.0) ** one for one in range(count)]
    # With two more examples imagined, a unit above the mean and a unit below.
    error = ((count + 2) / (count * (count - 1))) ** 0.5
    whole = LayerPath.whole(3)

    def outcomes(_: Any, __: Any, paths: list[LayerPath]) -> Any:
        def of(position: int, path: LayerPath) -> Outcome:
            likely = -9.0 + (spread[position] + gain * error if path == whole else 0.0)
            return Outcome(position, (ChoiceOutcome(likely, 1, 1, 1),), 0, 1.0)

        return {path: {one: of(one, path) for one in range(count)} for path in paths}

    monkeypatch.setattr(module.Regimes, "_outcomes", outcomes)
    monkeypatch.setattr(module.Regimes, "_bench", lambda *_, **__: None)
    monkeypatch.setattr(module.Regimes, "_source", lambda *_: None)
    monkeypatch.setattr(module.Regimes, "_path", lambda *_: LayerPath.from_removed([1], 3))
    made = module.Regimes.__new__(module.Regimes)
    made.tuning, made.watcher = type("T", (), {"task": task, "sets": sets})(), Watcher()
    assert made._put_back(tmp_path, None) == ((1,) if is_back else ())  # type: ignore[arg-type]


# Going on


class Stops(Watcher):
    """Stops a run when it has been told of so much."""

    def __init__(self, after: int) -> None:
        self.left = after

    def _told(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def phase(self, name: str) -> None:
        self._told()

    def measured(self, measurement: Any, *, remembered: bool) -> None:
        self._told()

    def stepped(self, step: int, steps: int, **_: Any) -> None:
        self._told()


@pytest.mark.usefixtures("unverified")
def test_a_run_that_is_stopped_anywhere_goes_on_to_the_same(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task, tmp_path: Path
) -> None:
    found, out = compared
    asked = {"regime": "tale-ft-tale", "output": "merged", **ASKED}
    stops = 0
    for after in (1, 5, 11, 9, 13, 7, 12, 15, 8, 10**6):
        try:
            one = telltale.tune(
                str(model), task, out=tmp_path / "out", watcher=Stops(after), **asked
            )
        except KeyboardInterrupt:
            stops += 1
        else:
            break
    assert stops >= 5
    assert isinstance(one, TuneResult)
    run = next(run for run in found.document["runs"] if run["regime"] == "tale-ft-tale")
    assert without_times(one.document["steps"]) == without_times(run["steps"])
    name = "tale-ft-0/adapter/adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


# Refusals


def test_another_question_in_the_same_folder_is_refused_by_name(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task
) -> None:
    _, out = compared
    for changes, told in (
        ({"rank": 4}, "ft-0 holds another step, which differs in how is tuned"),
        ({"held_out": 41}, "whole holds another step, which differs in the held-out set"),
        ({"dtype": "bfloat16"}, "differs in `dtype`"),
    ):
        with pytest.raises(InputError, match=told):
            telltale.tune(str(model), task, out=out, **{**ASKED, **changes})
    with pytest.raises(InputError, match="tale holds another step, which differs in how is search"):
        telltale.tune(str(model), task, out=out, regime="tale", **{**ASKED, "tolerance": 0.2})


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a regime": ({"regime": "tale-tale"}, "`regime` must be ft, tale, tale-ft"),
    "output": ({"output": "both"}, "`output` must be merged or adapter"),
    "seeds": ({"seeds": 0}, "`seeds` must be at least 1"),
    "seeds of one": ({"seeds": 2}, "`seeds` goes with `compare`"),
    "all and one": ({"compare": True, "regime": "ft"}, "`compare` runs every regime"),
    "all written": ({"compare": True, "output": "adapter"}, "`compare` writes no checkpoint"),
    "an adapter of nothing": (
        {"regime": "tale", "output": "adapter"},
        "`output` adapter: the regime tale trains nothing",
    ),
    "a pick by held-out examples": ({"pick": "fastest_safe"}, "`pick` must be best, bsba or"),
    "no step": ({"max_steps": 0}, "`max_steps` must be at least 1"),
    "a rate": ({"learning_rate": -1.0}, "`learning_rate` must be a number above 0"),
    "no such loss": ({"loss": "mse"}, "`loss` must be answer, choices or distillation"),
    "all held out": ({"limit": 90, "held_out": 90}, "lower `limit` or `held_out`, give `train`"),
    "no such target": ({"targets": ["no_proj"]}, "no_proj"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_by_name(
    case: str, model: Path, task: Task, tmp_path: Path
) -> None:
    changes, told = BAD[case]
    with pytest.raises(InputError) as refused:
        telltale.tune(str(model), task, out=tmp_path / "out", **{**ASKED, **changes})
    assert told in str(refused.value)


def test_a_folder_with_something_else_is_refused(model: Path, task: Task, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and holds no tuning"):
        telltale.tune(str(model), task, out=tmp_path, **ASKED)
    with pytest.raises(InputError, match="is a file"):
        telltale.tune(str(model), task, out=tmp_path / "mine.txt", **ASKED)
    # ... before a model is fetched
    with pytest.raises(InputError, match="is not empty and holds no tuning"):
        telltale.tune("org/absent", task, out=tmp_path, **ASKED)


# A study as the model


def test_a_study_gives_its_model_and_layers_where_it_searched_by_the_same_examples(
    compared: tuple[RegimesCompared, Path], model: Path, task: Task, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    telltale.search(
        str(model), task, out=study, limit=30, held_out=40, max_removed=1, tolerance=1, text=PAGE
    )
    searched = [one.id for one in read_study(study).examples if one.role == SEARCH]
    assert searched == [one.id for one in tuning_sets(task, **SIZES).search]
    asked = {**ASKED, "pick": 1, "max_steps": 1}
    with pytest.raises(InputError, match="give the same task with `limit` 30 and `seed` 0"):
        telltale.tune(str(study), task, out=tmp_path / "out", **{**asked, "limit": 31})
    with pytest.raises(InputError, match="leave out `remove`, `adapter` and `revision`"):
        telltale.tune(str(study), task, out=tmp_path / "out", **{**asked, "remove": [1]})
    seen: dict[str, Any] = {}

    def stop(tuning: Any) -> None:
        seen["tuning"] = tuning
        raise InputError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Regimes, "__init__", lambda _, tuning, *__: stop(tuning))
        with pytest.raises(InputError, match="enough"):
            telltale.tune(str(study), task, out=tmp_path / "out", **asked)
    result = read_study(study).result
    assert result is not None
    assert seen["tuning"].removed == result.models[1].removed
    assert seen["tuning"].source.sha256 == result.model["sha256"]


# The command


@pytest.mark.usefixtures("unverified")
def test_the_command_trains_on_a_file_and_says_what_it_wrote(
    model: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "answer": 1 - row["answer"]} for row in planted.rows(400, seed=5)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    out = tmp_path / "out"
    arguments = [
        *("tune", str(model), "--data", str(file), "--prompt", planted.PROMPT, "--out", str(out)),
        *("--train", str(train), "--regime", "ft", "--rank", "8", "--learning-rate", "1e-2"),
        *("--limit", "30", "--held-out", "40", "--max-steps", "12", "--text", str(PAGE)),
    ]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    document = json.loads((out / "tune.json").read_text())
    assert document["sets"]["train"] > 200
    assert document["sets"]["origin"].endswith("train.jsonl")
    assert document["steps"][0]["train_examples"] == document["sets"]["train"]
    assert document["final"]["held_out"]["accuracy"] > 0.9
    assert "whole model" in printed.out
    assert "a gain is shown" in printed.out
    assert str(out / "ft-0/checkpoint") in printed.out.replace("\n", "")
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "ft" in page
    assert "http" not in page.replace("http-equiv", "")
    assert str(tmp_path) not in page


def test_a_page_of_a_comparison_has_every_regime(
    compared: tuple[RegimesCompared, Path], tmp_path: Path
) -> None:
    found, out = compared
    write_report([out], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page == tuned_page(found)
    with pytest.raises(InputError, match="holds a tuning, which has a page of its own"):
        write_report([out, out / "tale/study"], tmp_path / "page.html")
    for name in REGIMES:
        assert f'<th scope="row" class="words">{name}</th>' in page
    assert page.count("<svg") == 2
    assert "reached by all" in page


def test_a_log_says_how_training_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with ScreenWatcher() as watcher:
        watcher.phase("tune")
        watcher.stepped(1, 4, seconds=2.0, tokens=50, loss=1.5, development_loss=None)
        watcher.stepped(2, 4, seconds=4.0, tokens=100, loss=1.25, development_loss=1.375)
    assert capsys.readouterr().err.split("\n")[0] == (
        "step 2 of 4: development loss 1.375, after 4 s and 100 tokens of training"
    )
