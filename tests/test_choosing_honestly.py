"""Objectives, guards, what is certified and the final set, in studies of a tiny model."""

from __future__ import annotations

import itertools
import json
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import telltale
from telltale.cli.commands import main
from telltale.errors import InputError
from telltale.evidence.result import result_from
from telltale.measure import Batch
from telltale.paths import LayerPath
from telltale.report.sentences import cost_sentences
from telltale.study.reading import StoredStudy, read_study
from telltale.study.records import open_records
from telltale.tasks.loading import names_apart
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role
from telltale.watcher import Watcher
from tests import tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from telltale.measure import Measurement, Outcome
    from telltale.tasks import Scoring

SMALL: dict[str, Any] = {
    "limit": 40,
    "held_out": 30,
    "tolerance": 0.5,
    "max_removed": 2,
    "text": PAGE,
}


def without(removed: Iterable[int]) -> LayerPath:
    """A path of the tiny model."""
    return LayerPath.from_removed(removed, 6)


class Counting(Watcher):
    """Counts what was measured anew, and hears advice."""

    def __init__(self) -> None:
        self.fresh = 0
        self.advice = ""

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.fresh += not remembered

    def advised(self, advice: str) -> None:
        self.advice = advice


@pytest.fixture(scope="module")
def studied(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StoredStudy]:
    """One folder's study by each objective in turn."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    found = {}
    for objective in ("accuracy", "likelihood", "margin"):
        telltale.search(str(tiny_folder), "capitals", out=folder, objective=objective, **SMALL)
        found[objective] = read_study(folder)
    return found


def mean(outcomes: dict[int, Outcome], value: Any) -> float:
    return sum(value(one) for one in outcomes.values()) / len(outcomes)


@pytest.mark.parametrize("objective", ["accuracy", "likelihood", "margin"])
def test_each_round_keeps_the_candidate_of_highest_value_that_may_be_kept(
    studied: dict[str, StoredStudy], objective: str
) -> None:
    result = studied[objective].document
    assert result is not None
    assert result["search"]["objective"] == objective
    floor = result["baseline"]["search"]["accuracy"] - 0.5
    for done in result["rounds"]:
        may = [layer for layer, accuracy in done["candidates"].items() if accuracy >= floor - 1e-9]
        best = max(may, key=lambda layer, done=done: done["objective"][layer])  # type: ignore[misc]
        assert done["removed"] == int(best)
        assert (done["objective"] == done["candidates"]) == (objective == "accuracy")


def test_values_are_those_of_the_stored_outcomes(studied: dict[str, StoredStudy]) -> None:
    right = {one.position: one.answer for one in studied["margin"].examples}

    most = math.log(1e6)  # that one example may say

    def margin(one: Outcome) -> float:
        logliks = [choice.loglik for choice in one.choices]
        return min(max(logliks.pop(right[one.example]) - max(logliks), -most), most)

    def likelihood(one: Outcome) -> float:
        logliks = torch.tensor([choice.loglik for choice in one.choices], dtype=torch.float64)
        return max(float(logliks.log_softmax(0)[right[one.example]]), -most)

    for objective, value in (("margin", margin), ("likelihood", likelihood)):
        study = studied[objective]
        assert study.document is not None
        for model in study.document["path"]:
            outcomes = study.outcomes[SEARCH, without(model["removed"])]
            assert model["search"]["objective"] == pytest.approx(mean(dict(outcomes), value))


def test_the_path_has_every_model_kept_measured_on_the_held_out_set(
    studied: dict[str, StoredStudy],
) -> None:
    study = studied["accuracy"]
    result = study.document
    assert result is not None
    accepted = [done["removed"] for done in result["rounds"] if done["accepted"]]
    assert [model["removed"] for model in result["path"]] == [
        accepted[:count] for count in range(len(accepted) + 1)
    ]
    for model in result["path"]:
        outcomes = study.outcomes[HELD_OUT, without(model["removed"])]
        assert model["held_out"]["accuracy"] == mean(dict(outcomes), lambda one: one.score)
        assert model["loses_at_most"] >= -model["held_out"]["gain"] - 1e-9
        assert model["loses_at_most"] <= -model["held_out"]["gain_interval"][0] + 1e-9


def test_another_objective_uses_what_is_measured(tiny_folder: Path, tmp_path: Path) -> None:
    fresh = []
    for objective in ("accuracy", "likelihood"):
        watcher = Counting()
        telltale.search(
            str(tiny_folder),
            "capitals",
            out=tmp_path / "s",
            objective=objective,
            watcher=watcher,
            **{**SMALL, "max_removed": 1},
        )
        fresh.append(watcher.fresh)
    assert fresh[1] < fresh[0] / 2  # at most one more model, on the held-out set
    assert "With 30 held-out examples a difference under about 16.0 points" in watcher.advice


def test_an_objective_of_ones_own_is_searched_by_and_read_again(
    tiny_folder: Path, tmp_path: Path
) -> None:
    class Worst:
        """Prefers wrong answers."""

        name = "worst"
        fewest_choices = 0

        def __call__(self, outcome: Outcome, right: int, scoring: Scoring) -> float:
            return -outcome.score

    result = telltale.search(
        str(tiny_folder), "capitals", out=tmp_path / "s", objective=Worst(), **SMALL
    ).document
    floor = result["baseline"]["search"]["accuracy"] - 0.5 - 1e-9
    first = result["rounds"][0]["candidates"]
    kept = {layer: accuracy for layer, accuracy in first.items() if accuracy >= floor}
    assert first[str(result["rounds"][0]["removed"])] == min(kept.values())
    stored = read_study(tmp_path / "s")
    assert stored.document == json.loads(json.dumps(result))
    assert (HELD_OUT, without(())) in stored.outcomes


def test_the_published_method_is_by_accuracy_and_unguarded(
    tiny_folder: Path, tmp_path: Path, studied: dict[str, StoredStudy]
) -> None:
    model, out = str(tiny_folder), tmp_path / "s"
    result = telltale.search(model, "capitals", out=out, paper=True, **SMALL).document
    published = studied["accuracy"].document
    assert published is not None
    assert result["search"] == published["search"]
    assert result["rounds"] == json.loads(json.dumps(published["rounds"]))
    for more in ({"objective": "margin"}, {"guards": {"boolean_expressions": 0.1}}):
        with pytest.raises(InputError, match=r"^`paper` is the published method"):
            telltale.search(model, "capitals", out=out, paper=True, **SMALL, **more)


# Guards


def guarded(model: Path, out: Path, share: float, **changes: Any) -> dict[str, Any]:
    guards = [(telltale.load_task("boolean_expressions"), share)]
    settings = {**SMALL, **changes}
    return telltale.search(str(model), "capitals", out=out, guards=guards, **settings).document


def test_no_model_is_kept_that_loses_more_at_a_guard(tiny_folder: Path, tmp_path: Path) -> None:
    free = telltale.search(str(tiny_folder), "capitals", out=tmp_path / "free", **SMALL).document
    found = guarded(tiny_folder, tmp_path / "s", 0.01)
    study = read_study(tmp_path / "s")
    role = Role(Part.SEARCH, "boolean_expressions")
    scores = {
        removed: mean(dict(study.outcomes[role, without(removed)]), lambda one: one.score)
        for removed in (tuple(model["removed"]) for model in found["path"])
    }
    assert () in scores
    assert all(score >= scores[()] - 0.01 - 1e-9 for score in scores.values())
    for done in found["rounds"]:
        # Who was refused was worth more, and has left the round to the one kept.
        for layer in done.get("guarded", []):
            assert done["objective"][str(layer)] >= done["objective"][str(done["removed"])]
    assert found["rounds"][0]["candidates"] == free["rounds"][0]["candidates"]
    judging = Role(Part.HELD_OUT, "boolean_expressions")
    for model in found["path"]:
        evidence = model["guards"]["boolean_expressions"]
        outcomes = study.outcomes[judging, without(model["removed"])]
        assert evidence["examples"] == len(outcomes)
        assert evidence["accuracy"] == mean(dict(outcomes), lambda one: one.score)
    assert found["search"]["guards"] == [{"task": "boolean_expressions", "most_loss": 0.01}]


def test_both_sides_of_the_cost_count_the_work_at_guards(tiny_folder: Path, tmp_path: Path) -> None:
    """Each candidate by itself is the sum of what was measured, taken from the study's file."""
    found = guarded(tiny_folder, tmp_path / "s", 0.01, speed="full")
    cost, depth = found["cost"], found["model"]["layers"]
    passes = {"search": 0.0, "guard boolean_expressions search": 0.0}
    with open_records(tmp_path / "s", write=False) as records:
        plan = records.fact("plan")
        paths = [
            path
            for size in range(depth)
            for removed in itertools.combinations(range(depth), size)
            for path in [LayerPath.from_removed(removed, depth)]
        ]
        for role in passes:
            dealt = records.fact("dealt") if role == "search" else plan["batches"][role]
            batches = [Batch(tuple(examples)) for examples in dealt]
            for path in paths:
                is_there = [records.measured(batch, path) is not None for batch in batches]
                assert len(set(is_there)) == 1
                passes[role] += is_there[0] * path.depth / depth
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)

    def size(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    read = dict.fromkeys(passes, 0)
    for one in read_study(tmp_path / "s").examples:
        if str(one.role) in read:
            of_choices = [size(f"{one.context} {choice}") for choice in one.choices]
            read[str(one.role)] += sum(of_choices) - (len(of_choices) - 1) * size(one.context)
    assert read["search"] == cost["search_tokens"]
    assert passes["guard boolean_expressions search"] > 1
    expected = sum(passes[role] * read[role] for role in passes) / read["search"]
    assert cost["naive_passes"] == pytest.approx(expected)
    (line,) = cost_sentences(result_from(found, 0))
    assert line.startswith(f"The search and its guards cost {cost['dense_passes']:.1f} passes")
    assert line.endswith(f"; each candidate by itself: {expected:.1f}.")


def test_a_guard_that_admits_nothing_ends_the_search(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telltale.study.measuring.admits_by", lambda *_: lambda _: False)
    found = guarded(tiny_folder, tmp_path / "s", 0.0, max_removed=1)
    (done,) = found["rounds"]
    assert not done["accepted"]
    assert len(done["guarded"]) == len(
        [
            a
            for a in done["candidates"].values()
            if a >= found["baseline"]["search"]["accuracy"] - 0.5
        ]
    )
    assert [model["removed"] for model in found["path"]] == [[]]


def test_a_guards_examples_are_its_own(tiny_folder: Path, tmp_path: Path) -> None:
    guarded(tiny_folder, tmp_path / "s", 0.3, max_removed=1)
    examples = read_study(tmp_path / "s").examples
    contexts: dict[str, set[str]] = {}
    for one in examples:
        contexts.setdefault(str(one.role), set()).add(one.context)
    roles = list(contexts)
    assert roles == [
        "search",
        "held-out",
        "guard boolean_expressions search",
        "guard boolean_expressions held-out",
    ]
    for number, role in enumerate(roles):
        for other in roles[number + 1 :]:
            assert contexts[role].isdisjoint(contexts[other])
    with pytest.raises(InputError, match="has 0 examples that the search does not have"):
        telltale.search(
            str(tiny_folder), "capitals", out=tmp_path / "t", guards={"capitals": 0.1}, **SMALL
        )


# The final set


def final_of(model: Path, out: Path, **changes: Any) -> Any:
    settings = {**SMALL, "final": 20, "max_loss": 0.9, **changes}
    return telltale.search(str(model), "capitals", out=out, **settings).document


def test_the_final_set_is_looked_at_for_one_model_only(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    first = final_of(tiny_folder, out)
    assert first["recommended"] == first["final"]["name"]
    assert first["final"]["removed"] == first[first["recommended"]]["removed"]
    study = read_study(out)
    looked_at = {path for role, path in study.outcomes if role == FINAL}
    assert looked_at == {without(()), without(first["final"]["removed"])}
    roles = [str(one.role) for one in study.examples]
    assert (roles.count("search"), roles.count("held-out"), roles.count("final")) == (40, 30, 20)
    # Another choice does not get another look, and the reader is told.
    assert len(first["final"]["removed"]) == 2
    shorter = final_of(tiny_folder, out, max_removed=1)
    assert shorter["recommended"]
    assert shorter["final"]["removed"] == first["final"]["removed"]
    assert any("looked at once, for a model that is no longer" in c for c in shorter["cautions"])


def test_the_final_set_stays_sealed_where_no_model_is_recommended(
    tiny_folder: Path, tmp_path: Path
) -> None:
    found = final_of(tiny_folder, tmp_path / "s", max_loss=0.0, held_out=20)
    assert found["recommended"] is None
    assert found["final"] is None
    with open_records(tmp_path / "s", write=False) as records:
        assert records.fact("final") is None
    assert all(role != FINAL for role, _ in read_study(tmp_path / "s").outcomes)


def test_a_final_set_is_no_other_sets(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a final set of 100; lower `limit` or `final`"):
        final_of(tiny_folder, tmp_path / "s", final=100, limit=80)
    final_of(tiny_folder, tmp_path / "s", max_removed=1)
    sets: dict[str, set[str]] = {}
    for one in read_study(tmp_path / "s").examples:
        sets.setdefault(one.role, set()).add(one.context)
    assert sets["final"].isdisjoint(sets["search"] | sets["held-out"])
    with pytest.raises(InputError, match=r"begun with `final` 20, .* give `final` 20 again"):
        final_of(tiny_folder, tmp_path / "s", final=None)


# Where the model writes


def test_a_reference_answers_likelihood_is_the_models_own(
    tiny_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sums.jsonl"
    rows = [{"question": f"What is {i} and one?", "answer": str(i + 1)} for i in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    asking: dict[str, Any] = {"protocol": "text", "max_new_tokens": 3}
    settings = {"limit": 30, "held_out": 30, "tolerance": 1, "max_removed": 1}
    by_likelihood = telltale.search(
        str(tiny_folder),
        telltale.load_task(data=file, **asking),
        out=tmp_path / "s",
        objective="likelihood",
        **settings,
    ).document
    study = read_study(tmp_path / "s")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    values = []
    for one in study.examples[:30]:
        outcome = study.outcomes[SEARCH, without(())][one.position]
        assert outcome.generated is not None
        prompt = tokenizer(one.context)["input_ids"]
        answer = tokenizer(" " + one.choices[0], add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
        expected = sum(float(logits[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))
        assert outcome.choices[0].loglik == pytest.approx(expected, abs=1e-4)
        assert outcome.choices[0].tokens == len(answer)
        values.append(expected / len(answer))
    baseline = by_likelihood["baseline"]["search"]["objective"]
    assert baseline == pytest.approx(sum(values) / len(values), abs=1e-4)
    # Writing is what it is without the references, and reading them is another study.
    plain = telltale.search(
        str(tiny_folder), telltale.load_task(data=file, **asking), out=tmp_path / "p", **settings
    ).document
    assert plain["search"]["objective"] == "accuracy"
    assert plain["rounds"][0]["candidates"] == by_likelihood["rounds"][0]["candidates"]
    with pytest.raises(InputError, match="whether reference answers are read"):
        telltale.search(
            str(tiny_folder),
            telltale.load_task(data=file, **asking),
            out=tmp_path / "s",
            **settings,
        )


def files_of_one_name(place: Path, *folders: str) -> list[Any]:
    """A task of each folder's validation.jsonl, no two of which hold the same."""
    tasks = []
    for folder in folders:
        (place / folder).mkdir(parents=True)
        file = place / folder / "validation.jsonl"
        rows = [{"text": f"{folder} is {i}.", "label": ("yes", "no")[i % 2]} for i in range(44)]
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        tasks.append(telltale.load_task(data=file))
    return tasks


def test_files_of_one_name_are_told_apart_by_their_folders_and_else_by_what_they_hold(
    tmp_path: Path,
) -> None:
    films, old, new = files_of_one_name(tmp_path, "films", "old/books", "new/books")
    assert films.name == "films/validation.jsonl"
    assert old.name == new.name == "books/validation.jsonl"
    assert names_apart([films, old]) == ["films/validation.jsonl", "books/validation.jsonl"]
    apart = names_apart([old, new, films, old])
    assert apart[0] == apart[3] != apart[1]
    assert all(re.fullmatch(r"books/validation\.jsonl [0-9a-f]{8}", apart[i]) for i in (0, 1, 3))
    assert apart[2] == films.name
    assert not any(str(tmp_path) in name for name in apart)


def test_guards_and_a_task_of_one_file_name_are_kept_apart_in_a_study(
    tiny_folder: Path, tmp_path: Path
) -> None:
    tasks = files_of_one_name(tmp_path, "a/data", "b/data", "c/data")
    found = telltale.search(
        str(tiny_folder),
        tasks[0],
        out=tmp_path / "s",
        guards=[(tasks[1], 0.9), (tasks[2], 0.9)],
        **{**SMALL, "limit": 20, "held_out": 20, "max_removed": 1},
    ).document
    names = [guard["task"] for guard in found["search"]["guards"]]
    assert len({found["task"]["name"], *names}) == 3
    assert all(set(model["guards"]) == set(names) for model in found["path"])
    with pytest.raises(InputError, match=r"`guards` names data/validation\.jsonl \w+ twice"):
        telltale.search(
            str(tiny_folder),
            tasks[0],
            out=tmp_path / "t",
            guards=[(tasks[1], 0.9), (tasks[1], 0.1)],
            limit=20,
        )


# The command


def test_the_command_takes_what_the_function_takes(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "guard.jsonl"
    rows = [{"text": f"It is {i}.", "label": ("yes", "no")[i % 2]} for i in range(44)]
    more.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(SystemExit, match="0"):
        main(
            [
                *("search", str(tiny_folder), "capitals", "--out", str(tmp_path / "s")),
                *("--limit", "40", "--held-out", "30", "--final", "20", "--max-removed", "1"),
                *("--tolerance", "0.5", "--objective", "margin", "--guard", f"{more}:0.9"),
                *("--max-loss", "0.9", "--confidence", "0.8"),
            ]
        )
    result = json.loads((tmp_path / "s" / "result.json").read_text())
    assert result["search"]["objective"] == "margin"
    assert result["search"]["confidence"] == 0.8
    assert result["search"]["guards"] == [
        {"task": f"{tmp_path.name}/guard.jsonl", "most_loss": 0.9}
    ]
    assert result["fastest_safe"]["removed"]
    assert result["final"]["removed"] == result[result["recommended"]]["removed"]
    assert "--pick" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--objective", "f1"), "--objective must be accuracy, likelihood or margin, got 'f1'"),
        (("--guard", "arc_easy"), "--guard 'arc_easy' names no task with a share"),
        (("--guard", "arc_easy:much"), "names no task with a share of its examples"),
        (("--guard", "boolean_expressions:2"), "boolean_expressions must be in [0, 1), got 2"),
        (("--guard", "nothing:0.1"), "nothing"),
        (
            ("--guard", "boolean_expressions:0.1", "--guard", "boolean_expressions:0.2"),
            "--guard names boolean_expressions twice",
        ),
        (("--max-loss", "-0.1"), "--max-loss must be in [0, 1), got -0.1"),
        (("--max-loss", "nan"), "--max-loss must be in [0, 1), got nan"),
        (("--confidence", "1"), "--confidence must be in [0.5, 1), got 1"),
        (("--confidence", "0.3"), "--confidence must be in [0.5, 1), got 0.3"),
        (("--final", "5"), "--final must be at least 20, got 5"),
        (("--paper", "--objective", "margin"), "--paper is the published method"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(SystemExit) as end:
        main(
            [
                *("search", str(tiny_folder), "capitals", "--out", str(tmp_path / "s")),
                *("--limit", "40", "--held-out", "30", *options),
            ]
        )
    said = capsys.readouterr().err.strip().splitlines()
    assert end.value.code == 2
    assert message in said[-1]
    assert not (tmp_path / "s").exists()


# Export


def test_models_are_exported_by_what_is_shown_of_them(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", num_hidden_layers=4)
    study = tmp_path / "s"
    settings = {**SMALL, "max_removed": 1, "max_loss": 0.9}
    found = telltale.search(str(folder), "capitals", out=study, **settings).document
    telltale.export(study, pick="fastest_safe", to=tmp_path / "safe")
    recipe = json.loads((tmp_path / "safe" / "recipe.json").read_text())
    assert recipe["layers_removed"] == found["fastest_safe"]["removed"]
    assert "fastest_safe" in recipe["named"]
    assert recipe["evidence"]["loses_at_most"] == found["fastest_safe"]["loses_at_most"]
    if found["confirmed_best"] is None:
        with pytest.raises(InputError, match="confirmed_best is no model of this study"):
            telltale.export(study, pick="confirmed_best", to=tmp_path / "best")
