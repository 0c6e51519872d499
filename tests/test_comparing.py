"""Methods compared at equal depth: each is its own search, seen as in a study, at its own cost."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale import InputError, LayerPath
from telltale.cli.commands import main
from telltale.evidence import compare
from telltale.evidence.methods import FILE, best_at, read_compared
from telltale.measure import Batch, Measurement, Outcome
from telltale.models.layered import LayeredModel
from telltale.report import write_figures, write_report
from telltale.searches import GreedyRemoval, SlebRemoval
from telltale.study import comparing, read_study
from telltale.study.beside import times_as_fast
from telltale.study.work import Work
from telltale.tasks.sets import HELD_OUT
from telltale.watcher import Watcher
from tests import tiny
from tests.report.markup import Markup
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.evidence.methods import Compared

ASKED: Any = {"limit": 24, "held_out": 20, "text": PAGE, "dtype": "float32"}
METHODS = ["greedy", "beam:2", "contiguous", "sleb", "evopress"]


def compared(model: Path, out: Path, methods: Sequence[str], **more: Any) -> Compared:
    asked = {"depths": [3, 2], **ASKED, **more}
    return telltale.compare(str(model), "capitals", methods=methods, out=out, **asked)


class Stops(Watcher):
    """Ends a run once so many searches have begun."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advised(self, advice: str) -> None:
        if " of 5: " in advice:
            self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that was stopped before its fourth search, and gone on with."""
    out = tmp_path_factory.mktemp("compared") / "c"
    with pytest.raises(KeyboardInterrupt):
        compared(model, out, METHODS, watcher=Stops(4))
    assert not (out / FILE).exists()
    compared(model, out, METHODS)
    return out


@pytest.fixture(scope="module")
def studies(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two of the methods, each as a study of its own."""
    out = tmp_path_factory.mktemp("studies")
    for name in ("greedy", "sleb"):
        telltale.search(
            str(model),
            "capitals",
            out=out / name,
            search=name,
            tolerance=1.0,
            max_removed=3,
            **ASKED,
        )
    return {name: out / name for name in ("greedy", "sleb")}


def test_what_is_found_of_a_method_is_what_its_own_study_finds(
    folder: Path, studies: dict[str, Path]
) -> None:
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert document["version"] == 1
    assert list(document["methods"]) == METHODS
    stored = {name: read_study(study) for name, study in studies.items()}
    for name, study in stored.items():
        found = document["methods"][name]["depths"]
        assert list(found) == ["2", "3"]
        result = study.document
        assert result is not None
        for depth, one in found.items():
            of_study = result["path"][int(depth)]
            for part in ("removed", "layers", "parameters", "search", "held_out", "loses_at_most"):
                assert one[part] == of_study[part]
        whole = document["baseline"]
        assert whole["held_out"] == result["baseline"]["held_out"]
        assert whole["search"] == result["baseline"]["search"]
    # Beside greedy removal of the same depth, on the same examples.
    for depth in (2, 3):
        outcomes = []
        for name in studies:
            removed = document["methods"][name]["depths"][str(depth)]["removed"]
            path = LayerPath.from_removed(removed, 6)
            outcomes.append((path, stored[name].outcomes[HELD_OUT, path]))
        (path, greedy), (other, own) = outcomes
        beside = compare(greedy, greedy if path == other else own)
        over = document["methods"]["sleb"]["depths"][str(depth)]["over_greedy"]
        assert over == {"gain": beside.gain, "interval": list(beside.gain_interval)}
        assert document["methods"]["greedy"]["depths"][str(depth)]["over_greedy"] is None


def test_the_cost_of_a_method_is_what_its_own_study_takes(
    folder: Path, studies: dict[str, Path]
) -> None:
    found = {one.name: one.cost for one in read_compared(folder).methods}
    for name, study in studies.items():
        taken = read_study(study).cost.layer_tokens
        assert found[name].layer_tokens == taken
    assert found["contiguous"].candidates == 3
    assert found["evopress"].candidates == 2
    assert found["greedy"].candidates == 6 + 5 + 4
    assert found["beam:2"].layer_tokens > found["greedy"].layer_tokens


def test_neither_the_order_of_methods_nor_other_depths_change_what_is_found(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    other = compared(model, tmp_path / "c", ["sleb", "greedy"], depths=[2]).document
    before = read_compared(folder).document
    assert other["baseline"] == before["baseline"]
    for name, one in other["methods"].items():
        assert one["depths"] == {"2": before["methods"][name]["depths"]["2"]}


def test_a_depth_of_each_method_is_reached_and_the_highest_are_named(folder: Path) -> None:
    found = read_compared(folder)
    assert found.document == json.loads((folder / FILE).read_text(encoding="utf-8"))
    for depth in (2, 3):
        accuracies = {
            one.name: model.held_out.accuracy
            for one in found.methods
            if (model := one.depths[depth]) is not None and len(model.removed) == depth
        }
        assert list(accuracies) == METHODS
        best = [name for name, one in accuracies.items() if one == max(accuracies.values())]
        assert [one.name for one in best_at(found, depth)] == best


def test_the_page_and_the_figures_are_made_of_the_file(folder: Path, tmp_path: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    write_report([folder], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    markup = Markup(page)
    assert markup.unbalanced == []
    for name in METHODS:
        assert name in markup.text
    assert "SLEB (arXiv 2402.09025)" in markup.text
    names = {file.name for file in write_figures(folder, tmp_path / "figures")}
    assert names == {"methods.svg", "methods.png", "methods.csv"}
    rows = (tmp_path / "figures/methods.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 1 + 2 * len(METHODS)
    with pytest.raises(InputError, match="holds a comparison, which has a page of its own"):
        write_report([folder, folder], tmp_path / "again.html")
    (folder / FILE).with_name("x").mkdir()
    ((folder / "x") / FILE).write_text('{"version": 9}', encoding="utf-8")
    with pytest.raises(InputError, match="is of version 9, and this telltale reads version 1"):
        write_report([folder / "x"], tmp_path / "again.html")
    ((folder / "x") / FILE).write_text("[]", encoding="utf-8")
    with pytest.raises(InputError, match="is no comparison, or is damaged"):
        write_report([folder / "x"], tmp_path / "again.html")


def test_every_field_is_in_its_page(folder: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/reference/compare.md").read_text(encoding="utf-8")
    document = json.loads((folder / FILE).read_text(encoding="utf-8"))
    method = document["methods"]["sleb"]
    parts = (document, document["search"], method, method["cost"], method["depths"]["2"])
    for name in {name for part in parts for name in part} | {"gain", "interval", "gain_interval"}:
        assert f"`{name}`" in page


def test_the_command_says_the_same(
    model: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", str(model), "capitals", "--out", str(folder), "--depths", "3"]
    arguments += [
        "--methods",
        "greedy, sleb",
        "--limit",
        "24",
        "--held-out",
        "20",
        "--dtype",
        "float32",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--text", str(PAGE)])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "Without 3 layers:" in said
    assert "Without 2 layers:" not in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("sleb ")]
    model_of = read_compared(folder).methods[1].depths[3]
    assert model_of is not None
    assert f"{100 * model_of.held_out.accuracy:.1f}%" in row
    assert "beside greedy: none can be told from it." in said


# What may be used instead


@pytest.fixture(scope="module")
def beside(
    model: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[dict[str, Any]]]:
    """A comparison beside a model of two layers, that model, and what was timed."""
    small = tiny.save(tmp_path_factory.mktemp("small"), num_hidden_layers=2)
    out = tmp_path_factory.mktemp("beside") / "c"
    timed: list[dict[str, Any]] = []

    def kept(*given: Any) -> list[float]:
        timed.append({"paths": given[2]})
        return times_as_fast(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparing, "times_as_fast", kept)
        with pytest.raises(KeyboardInterrupt):
            compared(model, out, METHODS, against=str(small), watcher=Stops(2))
        compared(model, out, METHODS, against=str(small))
        compared(model, out, METHODS, against=str(small))
    return out, small, timed


def test_another_model_is_asked_the_held_out_examples_and_nothing_else_changes(
    beside: tuple[Path, Path, list[dict[str, Any]]], folder: Path
) -> None:
    out, small, _ = beside
    found = read_compared(out)
    document = json.loads((out / FILE).read_text(encoding="utf-8"))
    assert found.document == document
    plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
    assert plain["against"] is None
    for name in ("model", "task", "fingerprint", "search", "baseline"):
        assert document[name] == plain[name]
    for name, one in plain["methods"].items():
        for depth, model in one["depths"].items():
            assert document["methods"][name]["depths"][depth] == model
    other = found.other
    assert other is not None
    assert (other.layers, other.name) == (2, small.name)
    # By itself, on these examples, as `telltale eval` says.
    study = read_study(out / "searched")
    held_out = study.outcomes[HELD_OUT, LayerPath.whole(6)]
    asked = [one for one in study.examples if one.role == HELD_OUT]
    by_context = {one.context: one for one in telltale.load_task("capitals").examples}
    task = replace(
        telltale.load_task("capitals"),
        examples=tuple(by_context[one.context] for one in asked),
    )
    alone = telltale.evaluate(str(small), task, dtype="float32")
    scores = [one["score"] for one in alone["examples"]]
    assert other.held_out.accuracy == alone["accuracy"]
    gain = statistics.mean(scores) - statistics.mean(one.score for one in held_out.values())
    assert other.held_out.gain == pytest.approx(gain)
    for depth, over in other.over_greedy.items():
        greedy = found.methods[0].depths[depth]
        assert greedy is not None
        assert over is not None
        assert over[0] == pytest.approx(other.held_out.accuracy - greedy.held_out.accuracy)
        assert over[1].low <= over[0] <= over[1].high


def test_speeds_are_timed_once_and_kept(beside: tuple[Path, Path, list[dict[str, Any]]]) -> None:
    out, _, timed = beside
    (once,) = timed
    assert [len(path.removed) for path in once["paths"]] == [0, 2, 3]
    other = read_compared(out).other
    assert other is not None
    assert set(other.speeds) == {2, 3}


def test_a_speed_is_how_many_times_less_the_same_examples_take(
    model: Path,
    beside: tuple[Path, Path, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that goes on with every token that a layer is run on."""
    clock, run_layer = [0], LayeredModel.run_layer

    def run(of_model: Any, layer: int, hidden: Any, prepared: Any) -> Any:
        clock[0] += hidden.shape[0] * hidden.shape[1]
        return run_layer(of_model, layer, hidden, prepared)

    monkeypatch.setattr(LayeredModel, "run_layer", run)
    monkeypatch.setattr("telltale.engine.speed.time.perf_counter", lambda: clock[0])
    small = beside[1]
    other = compared(model, tmp_path / "c", ["greedy"], against=str(small)).other
    assert other is not None
    # What prompts begin with is read once a call, and that counts too.
    assert other.speeds == pytest.approx({2: 6 / 4, 3: 6 / 3}, rel=0.05)
    assert other.speed == pytest.approx(6 / 2, rel=0.05)
    assert other.nearest == 3


def test_the_page_and_the_command_show_what_may_be_used_instead(
    model: Path,
    beside: tuple[Path, Path, list[dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, small, _ = beside
    markup = Markup((out / "report.html").read_text(encoding="utf-8"))
    assert markup.unbalanced == []
    assert "What may be used instead" in markup.text
    assert "without 2 layers, greedy" in markup.text
    arguments = ["compare", str(model), "capitals", "--out", str(out), "--depths", "2,3"]
    arguments += ["--methods", "greedy", "--limit", "24", "--held-out", "20", "--text", str(PAGE)]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--dtype", "float32", "--against", str(small)])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "What may be used instead:" in said
    assert f"{small.name}: " in said
    assert "nearest in speed is the one without" in said


def test_every_field_of_what_may_be_used_instead_is_in_its_page(
    beside: tuple[Path, Path, list[dict[str, Any]]],
) -> None:
    page = (Path(__file__).parents[1] / "docs/reference/compare.md").read_text(encoding="utf-8")
    document = json.loads((beside[0] / FILE).read_text(encoding="utf-8"))
    for name in document["against"]:
        assert f"`{name}`" in page


def test_the_model_itself_is_nothing_to_use_instead(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is the model itself; give another one"):
        compared(model, tmp_path / "c", ["greedy"], against=str(model))


# What is refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"methods": ["greedy", "slab"]}, "`methods` must be greedy, block-influence"),
        ({"methods": []}, "`methods` names none"),
        ({"methods": ["sleb", "sleb"]}, "`methods` names sleb twice"),
        ({"methods": ["beam:x"]}, "`methods` beam takes a number, its width"),
        ({"depths": []}, "`depths` names none"),
        ({"depths": [0, 2]}, "`depths` must be at least 1 layer removed, got 0"),
        ({"depths": [2, 6]}, "`depths` 6 is beyond this model, which has 6 layers; at most 5"),
        ({"depths": [5], "protect": [0, 1]}, "6 layers, 2 of them protected; at most 4"),
    ],
)
def test_what_cannot_be_compared_is_refused_and_nothing_is_left_behind(
    more: Any, said: str, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as told:
        compared(model, tmp_path / "c", **{"methods": ["greedy"], **more})
    assert "\n" not in str(told.value)
    assert not any(tmp_path.rglob("*.sqlite"))


def test_another_folder_is_refused(model: Path, studies: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a search; give another `out`"):
        compared(model, studies["greedy"], ["greedy"])
    (tmp_path / "mine").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="is not empty and no comparison"):
        compared(model, tmp_path, ["greedy"])
    with pytest.raises(InputError, match="is a file"):
        compared(model, tmp_path / "mine", ["greedy"])


def test_what_a_comparison_is_not_asked_is_no_argument(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tolerance'"):
        compared(model, tmp_path / "c", ["greedy"], tolerance=0.1)


# The count of work


def scored(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
    for batch in batches:
        for path in paths:
            yield Measurement(
                batch, path, tuple(Outcome(one, (), 0, 1.0) for one in batch.examples)
            )


def test_work_is_counted_by_layers_run_and_a_text_once_a_path() -> None:
    whole, batches = LayerPath.whole(4), [Batch((0, 1)), Batch((2,))]
    work = Work(lambda batch: 10 * len(batch.examples), text_tokens=7)
    search, measure = work.counting(GreedyRemoval(tolerance=1, max_removed=1, speed="full"), scored)
    search(measure, batches, whole)
    # The whole model, then all without one layer: of each the layers after the one left out, since
    # the states before it are kept.
    assert work.layer_tokens == 30 * (4 + 3 + 2 + 1 + 0)
    assert len(work.paths) == 5
    search(measure, batches, whole)
    assert work.layer_tokens == 30 * 10  # remembered
    by_text = Work(lambda _: 0, text_tokens=7)
    sleb = SlebRemoval(tolerance=1, max_removed=1, perplexity=lambda paths: dict.fromkeys(paths, 1))
    search, measure = by_text.counting(sleb, scored)
    search(measure, batches, whole)
    assert by_text.layer_tokens == 7 * (3 + 3 + 2 + 1)
