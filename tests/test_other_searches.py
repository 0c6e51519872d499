"""Searches that are not greedy: their results are written, read, shown, tracked and exported."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale import InputError, LayerPath
from telltale.cli.screen import PlainConsole, ScreenWatcher, summary, unfinished
from telltale.evidence.result import result_from
from telltale.report import write_report
from telltale.report.figures import drawings, tables
from telltale.report.page import page
from telltale.report.sentences import labels_of, other_changes
from telltale.report.svg import LIGHT
from telltale.searches import Candidate, Found, Round, Search
from telltale.study import read_study
from telltale.study.picking import picked_from
from telltale.tracking.records import Course, path_records
from tests.report.made import Made
from tests.report.markup import Markup
from tests.rounds import found_by
from tests.studies import PAGE, result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from telltale.measure import Batch, Measure
    from telltale.study import Result

WHOLE = LayerPath.whole(6)


def without(*layers: int) -> LayerPath:
    return LayerPath.from_removed(layers, 6)


def tried(
    parents: Mapping[tuple[int, ...], tuple[int, ...]],
    accuracies: Sequence[float],
    *kept: tuple[int, ...],
    refused: Sequence[tuple[int, ...]] = (),
    examples: Sequence[int] = (),
) -> Round:
    """A round of paths by their layers removed, each with its parent's."""
    counts = examples or [40] * len(parents)
    of_round = {
        without(*path): Candidate(without(*path), without(*parent), accuracy, accuracy, count)
        for (path, parent), accuracy, count in zip(parents.items(), accuracies, counts, strict=True)
    }
    paths = tuple(without(*path) for path in kept)
    return Round(of_round, paths, tuple(without(*path) for path in refused))


# Two models are kept, then one of their children; a layer is put back and two are left out for it;
# last it is tried to put one back alone.
ROUNDS = (
    tried({(0,): (), (2,): (), (5,): ()}, [0.7, 0.8, 0.4], (2,), (0,)),
    tried({(2, 5): (2,), (0, 2): (2,), (0, 3): (0,), (0, 5): (0,)}, [0.5, 0.6, 0.75, 0.65], (0, 3)),
    tried({(2, 3, 4): (0, 3), (3, 4, 5): (0, 3)}, [0.72, 0.7], (2, 3, 4), refused=[(3, 4, 5)]),
    tried({(2, 4): (2, 3, 4), (3, 4): (2, 3, 4)}, [0.5, 0.3], examples=[40, 20]),
)


@dataclass(frozen=True)
class General(Made):
    """A study of these rounds."""

    layers: int = 6
    objective: str = "accuracy"

    def found(self) -> Found:
        return found_by(WHOLE, 0.7, ROUNDS[: self.rounds], examples=40)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"method": "beam and swap"}


STUDY = General().finished()


def the_result() -> Result:
    assert STUDY.result is not None
    return STUDY.result


def test_a_document_holds_a_round_by_all_layers_removed() -> None:
    result = the_result()
    document = result.document
    first, second, third, last = document["rounds"]
    assert first == {
        "accepted": True,
        "candidates": {"0": 0.7, "2": 0.8, "5": 0.4},
        "objective": {"0": 0.7, "2": 0.8, "5": 0.4},
        "parents": {"0": "", "2": "", "5": ""},
        "kept": ["2", "0"],
    }
    assert second["parents"] == {"2,5": "2", "0,2": "2", "0,3": "0", "0,5": "0"}
    assert (third["kept"], third["refused"]) == (["2,3,4"], ["3,4,5"])
    assert (last["accepted"], last["kept"], last["examples"]) == (False, [], {"3,4": 20})
    read = result_from(json.loads(json.dumps(document)), result.held_out_looks)
    assert read == result
    assert read.document == document
    assert [done.first for done in read.rounds] == [done.first for done in result.rounds]


def test_a_path_names_a_parent_that_is_not_the_entry_before() -> None:
    path = the_result().document["path"]
    assert [one["removed"] for one in path] == [[], [2], [0, 3], [3, 2, 4]]
    assert [one.get("parent") for one in path] == [None, None, [0], None]


def test_a_round_that_leaves_out_one_layer_of_the_model_kept_last_keeps_its_form() -> None:
    rounds = (
        tried({(0,): (), (2,): ()}, [0.7, 0.8], (2,), examples=[30, 40]),
        tried({(0, 2): (2,), (2, 4): (2,)}, [0.5, 0.9], (2, 4)),
    )
    result = replace(the_result(), rounds=rounds)
    first, second = result.document["rounds"]
    assert first == {
        "removed": 2,
        "accepted": True,
        "candidates": {"0": 0.7, "2": 0.8},
        "objective": {"0": 0.7, "2": 0.8},
        "examples": {"0": 30},
        "at_most": {"0": {"accuracy": 0.775, "objective": 0.775}},
    }
    assert second == {
        "removed": 4,
        "accepted": True,
        "candidates": {"0": 0.5, "4": 0.9},
        "objective": {"0": 0.5, "4": 0.9},
    }
    assert result_from(result.document, 0).rounds == rounds


def test_a_model_is_picked_by_its_layers_and_not_by_its_place() -> None:
    result = the_result()
    assert picked_from(result, "2").removed == (0, 3)
    assert picked_from(result, "3").path == without(2, 3, 4)
    some = replace(result, models=(*result.models[:2], result.models[3]))
    assert picked_from(some, "3").path == without(2, 3, 4)
    with pytest.raises(InputError, match=r"a number of removed layers, 1, 3$"):
        picked_from(some, "2")


def test_a_table_names_every_layer_where_a_model_is_not_the_one_above_without_one_more() -> None:
    assert list(labels_of(the_result().models).values()) == ["whole model", "2", "0, 3", "2, 3, 4"]
    rows = list(csv.DictReader(io.StringIO(tables(STUDY, STUDY.searched)["path"])))
    assert [row["removed"] for row in rows] == ["", "2", "0 3", "2 3 4"]
    assert [row["layers_removed"] for row in rows] == ["0", "1", "2", "3"]


def test_the_rounds_table_has_every_candidate_by_all_layers_removed() -> None:
    rows = list(csv.DictReader(io.StringIO(tables(STUDY, STUDY.searched)["rounds"])))
    assert len(rows) == sum(len(done.tried) for done in ROUNDS)
    (swap,) = [row for row in rows if row["removed"] == "2 3 4"]
    assert (swap["layers_left_out"], swap["layers_put_back"], swap["kept"]) == ("2 4", "0", "1")
    (partial,) = [row for row in rows if row["examples"] == "20"]
    assert (partial["removed"], partial["round"]) == ("3 4", "4")
    assert [row["removed"] for row in rows if row["refused_by_guard"] == "1"] == ["3 4 5"]


def test_a_page_shows_the_best_of_each_layer_and_says_the_other_changes() -> None:
    text = page([STUDY])
    found = Markup(text)
    assert found.unbalanced == []
    # Layer 5 is left out of two models: the better one is shown, with all that it lacks.
    assert "round 2, without layers 0, 5: accuracy 65.0%" in found.text
    assert "without layers 2, 5" not in found.text
    assert "each cell the best model that lacks that layer too" in found.text
    assert other_changes(ROUNDS) == [
        "Round 3 tried 2 other changes, such as layers 2, 4 left out, layer 0 put back, after "
        "which the model is without layers 2, 3, 4: 72.0%, kept.",
        "Round 4 tried 2 other changes, such as layer 3 put back, after which the model is without "
        "layers 2, 4: 50.0%, not kept.",
    ]
    for line in other_changes(ROUNDS):
        assert line in found.text
    assert "greedy removal of layers (TALE" not in found.text
    assert "greedy removal of layers (TALE" in Markup(page([Made().finished()])).text


@pytest.mark.parametrize("rounds", range(5))
def test_a_study_is_drawn_however_far_it_has_come(rounds: int) -> None:
    study = General().interrupted(rounds)
    assert len(study.searched.rounds) == rounds
    assert ("rounds-accuracy" in drawings(study.searched, LIGHT)) == (rounds > 0)
    assert "This study is not finished." in Markup(page([study])).text


def shown(prints: Callable[[PlainConsole], None]) -> str:
    text = io.StringIO()
    prints(PlainConsole(file=text, width=200, color_system=None, markup=False))
    return text.getvalue()


def test_a_screen_shows_what_a_model_lacks() -> None:
    text = shown(lambda out: summary(the_result(), out))
    lines = text.splitlines()
    rows = lines[next(i for i, line in enumerate(lines) if line.startswith("removed")) + 1 :][:4]
    assert [line.split("  ")[0].split(" B")[0] for line in rows] == [
        "whole model",
        "2",
        "0, 3",
        "2, 3, 4",
    ]
    assert "BEST removes, in this order: 2" in text or "BEST BSBA removes, in this order: 2" in text
    last = shown(lambda out: unfinished(General().interrupted(4), out))
    assert "None of 2 candidates can be kept, each would fall below the floor" in last


def test_a_round_is_told_by_what_it_leaves_out_and_puts_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ScreenWatcher() as watcher:
        for done in ROUNDS:
            watcher.round_done(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" on the search set")[0] for line in lines] == [
        "round 1: without layer 2 (layer 2 left out) 80.0%",
        "round 2: without layers 0, 3 (layer 3 left out) 75.0%",
        "round 3: without layers 2, 3, 4 (layers 2, 4 left out, layer 0 put back) 72.0%",
        "round 4: none of 2 candidates can be kept, each would fall below the floor",
    ]
    assert lines[0].endswith("; 1 other model kept")


def test_a_round_is_tracked_by_how_many_layers_its_best_model_lacks() -> None:
    course = Course()
    records = [record for done in ROUNDS for record in course.round_done(done)]
    assert [record.layers_removed for record in records] == [1, 2, 3, 2]
    accuracies = [record.numbers.get("search/accuracy") for record in records]
    assert accuracies == [0.8, 0.75, 0.72, None]
    assert [record.numbers.get("removed_layer") for record in records] == [2, 3, None, None]
    assert records[3].numbers["refused/accuracy"] == 0.5
    assert [one.layers_removed for one in path_records(the_result())] == [0, 1, 2, 3]


def test_a_worse_model_of_as_many_layers_does_not_replace_the_better_one() -> None:
    course = Course()
    assert len(course.round_done(ROUNDS[0])) == 1
    worse = tried({(4,): (0,)}, [0.72], (4,))
    better = tried({(3,): (0,)}, [0.9], (3,))
    assert course.round_done(worse) == []
    (record,) = course.round_done(better)
    assert (record.layers_removed, record.numbers["search/accuracy"]) == (1, 0.9)


# From start to end, on a model


@dataclass(frozen=True)
class Swap(Search):
    """Greedy removal; once two layers are removed, one is put back for another."""

    method = "greedy removal with a swap"

    def __call__(
        self,
        measure: Measure,
        batches: Sequence[Batch],
        start: LayerPath,
        watch: Callable[[Round], None] = lambda _: None,
    ) -> Found:
        origin = self.origin(measure, batches, start)
        path, rounds = start, list[Round]()
        while paths := self.children([path], start) if len(rounds) != 2 else self.swaps(path):
            rounds.append(self.chosen(self.measured(measure, batches, paths), origin))
            watch(rounds[-1])
            if not rounds[-1].kept:
                break
            path = rounds[-1].kept[0]
        return Found(origin, tuple(rounds))

    def swaps(self, path: LayerPath) -> dict[LayerPath, LayerPath]:
        first, *rest = path.removed
        return {
            LayerPath.from_removed([*rest, layer], path.total): path
            for layer in path.kept
            if layer != first
        }


@pytest.mark.slow
def test_a_search_that_puts_a_layer_back_is_told_shown_and_exported(
    tiny_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "study"
    result = telltale.search(
        str(tiny_folder),
        "capitals",
        out=out,
        limit=40,
        held_out=30,
        tolerance=1,
        max_removed=3,
        text=PAGE,
        search=Swap(),
    )
    document = result_of(out, cost=True)
    assert document == result.document
    stored = read_study(out)
    assert stored.result == result
    swap = result.rounds[2].first
    assert len(swap.put_back) == len(swap.left_out) == 1
    deepest = result.models[-1]
    assert document["path"][-1].get("parent") == (
        None if deepest.kept.parent == result.models[-2].path else list(swap.path.removed)
    )
    write_report([out], tmp_path / "page.html")
    text = Markup((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert other_changes(result.rounds)[0] in text
    done = telltale.export(out, pick=3, to=tmp_path / "smaller")
    assert done.removed == deepest.removed
    recipe = json.loads((tmp_path / "smaller" / "recipe.json").read_text(encoding="utf-8"))
    assert recipe["layers_kept"] == list(deepest.path.kept)
    assert recipe["evidence"]["held_out"] == document["path"][-1]["held_out"]
