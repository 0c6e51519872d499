"""Why layers go, from the call to the document: a planted harmful layer is named as such."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import telltale
from telltale.cli.commands import main
from telltale.errors import InputError, MeasurementError
from telltale.evidence.explanation import MEASURES, read_explanation
from telltale.measure import Batch
from telltale.models.precision import Precision
from telltale.study import explaining
from telltale.study.information import A_CHOICE, items_of
from telltale.watcher import Watcher
from tests import planted, tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from telltale.evidence.explanation import Explanation
    from telltale.tasks import Task

EXAMPLES = 80


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Task:
    file = planted.data(tmp_path_factory.mktemp("data"))
    return telltale.load_task(data=file, prompt=planted.PROMPT)


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.save(tmp_path_factory.mktemp("models") / "harmed", harmful=True)


@pytest.fixture(scope="module")
def study(harmed: Path, words: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "study"
    telltale.search(
        str(harmed), words, out=folder, limit=EXAMPLES, held_out=40, max_removed=1, text=PAGE
    )
    return folder


@pytest.fixture(scope="module")
def explained(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Explanation, Path]:
    """The study's model with the layer that its search has removed, on its search set."""
    folder = tmp_path_factory.mktemp("explained") / "of-study"
    return telltale.explain(str(study), out=folder, pairs=True), folder


def test_a_harmful_layer_suppresses_and_is_removed_first(
    explained: tuple[Explanation, Path],
) -> None:
    found, _ = explained
    assert found.removed == (planted.HARMFUL,)
    verdicts = [one.verdict for one in found.whole]
    assert verdicts[planted.HARMFUL] == "suppresses"
    assert verdicts.count("suppresses") == 1
    before, after = found.whole[planted.HARMFUL - 1], found.whole[planted.HARMFUL]
    assert before.probe.information is not None
    assert after.probe.information is not None
    assert before.probe.information.bits > 0.9
    assert after.probe.information.bits < 0.1
    assert before.lens_accuracy == 1.0
    assert after.lens_accuracy is not None
    assert after.lens_accuracy < 0.7
    said = " ".join(found.conclusions)
    assert f"Of the removed layer {planted.HARMFUL}, in the whole model: " in said
    assert f"{planted.HARMFUL} suppresses" in said


def test_what_is_said_without_the_layer_is_of_a_model_that_knows_the_answer(
    explained: tuple[Explanation, Path],
) -> None:
    found, _ = explained
    assert found.accuracy == 1.0 > found.whole_accuracy
    assert found.layers[planted.HARMFUL].verdict is None
    assert found.layers[planted.HARMFUL].probe.information is None
    last = found.kept[-1].probe.information
    assert last is not None
    assert last.bits > 0.9


def test_single_removals_and_pairs_are_those_of_an_evaluation(
    explained: tuple[Explanation, Path], harmed: Path, words: Task
) -> None:
    found, _ = explained
    assert found.pairs is not None
    searched = _first(words)
    whole, *singles = (
        telltale.evaluate(str(harmed), searched, remove=gone, device="cpu")["accuracy"]
        for gone in [(), (0,), (planted.HARMFUL,)]
    )
    assert [found.whole[0].single_removal, found.whole[planted.HARMFUL].single_removal] == singles
    both = telltale.evaluate(str(harmed), searched, remove=(0, planted.HARMFUL), device="cpu")
    beyond = (whole - both["accuracy"]) - sum(whole - one for one in singles)
    assert found.pairs.accuracy[0][planted.HARMFUL] == pytest.approx(beyond)


def test_the_precision_is_timed_once_and_kept(
    harmed: Path, words: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def choose(source: Any) -> Precision:
        timed.append(source.name)
        return Precision("bfloat16", "bfloat16 is much faster here")

    monkeypatch.setattr(explaining, "choose_precision", choose)
    heard = Heard()
    asked: dict[str, Any] = {"limit": 20, "device": "cpu", "out": tmp_path / "e"}
    for _ in range(2):
        found = telltale.explain(str(harmed), words, watcher=heard, **asked)
        assert found.model["dtype"] == "bfloat16"
    assert timed == [harmed.name]
    assert heard.advice.count("bfloat16 is much faster here") == 1
    with pytest.raises(InputError, match="explains something else: dtype differ"):
        telltale.explain(str(harmed), words, dtype="float32", **asked)


@pytest.mark.parametrize(("tokens", "examples"), [(20, 100), (80, 100), (120, 68), (400, 52)])
def test_layers_are_left_out_on_fewer_examples_where_these_are_long(
    tokens: int, examples: int
) -> None:
    batches = [Batch(tuple(range(start, start + 4))) for start in range(0, 200, 4)]
    bench = SimpleNamespace(tokens_in=lambda batch: tokens * len(batch.examples))
    of: Any = explaining._Explaining._few_batches
    chosen = of.fget(SimpleNamespace(_batches=batches, bench=bench))
    assert sum(len(one.examples) for one in chosen) == examples
    assert chosen == batches[: len(chosen)]


class Heard(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.advice: list[str] = []

    def advised(self, advice: str) -> None:
        self.advice.append(advice)


def _first(words: Task) -> Task:
    """The examples that a search of that size has as its search set."""
    from telltale.tasks.split import first_drawn

    return replace(words, examples=first_drawn(words, EXAMPLES, seed=0))


def test_a_study_and_its_model_and_task_say_the_same(
    explained: tuple[Explanation, Path], harmed: Path, words: Task, tmp_path: Path
) -> None:
    of_study, _ = explained
    found = telltale.explain(
        str(harmed), words, out=tmp_path / "again", remove=[planted.HARMFUL], limit=EXAMPLES
    )
    assert found.layers == of_study.layers
    assert found.whole == of_study.whole


def test_the_document_has_every_measure_and_is_read_back(
    explained: tuple[Explanation, Path],
) -> None:
    found, folder = explained
    document = json.loads((folder / "explain.json").read_text())
    assert document["version"] == 1
    assert [one["layer"] for one in document["layers"]] == list(range(planted.DEPTH + 1))
    for one in document["whole"]:
        assert all(isinstance(one[name], float) for name in MEASURES)
        assert set(one["change"]) == {"bits", "interval", "null"}
    assert read_explanation(folder) == found
    assert "<svg" in (folder / "report.html").read_text()
    assert not list(folder.glob("measured/states-*"))


class Stopping(Watcher):
    """Fails after so many measurements."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.seen: set[Any] = set()
        self.fresh = 0

    def measured(self, measurement: Any, *, remembered: bool) -> None:
        self.seen.add((measurement.batch, measurement.path))
        self.fresh += not remembered
        self.left -= 1
        if not self.left:
            raise MeasurementError("the machine is needed")


def test_what_was_measured_is_not_measured_again(
    explained: tuple[Explanation, Path], harmed: Path, words: Task, tmp_path: Path
) -> None:
    asked: Any = {"out": tmp_path / "e", "remove": [planted.HARMFUL], "limit": EXAMPLES}
    with pytest.raises(MeasurementError):
        telltale.explain(str(harmed), words, watcher=Stopping(after=4), **asked)
    second = Stopping(after=10**9)
    found = telltale.explain(str(harmed), words, watcher=second, **asked)
    assert found.layers == explained[0].layers
    third = Stopping(after=10**9)
    telltale.explain(str(harmed), words, watcher=third, **asked)
    assert third.fresh == 0 < second.fresh == len(third.seen) - 4


def test_a_folder_of_something_else_is_refused(
    explained: tuple[Explanation, Path], study: Path, harmed: Path, words: Task
) -> None:
    with pytest.raises(InputError, match="holds a search; give another `out`"):
        telltale.explain(str(harmed), words, out=study)
    with pytest.raises(
        InputError, match="explains something else: the examples, the prompts as the model reads"
    ):
        telltale.explain(str(harmed), words, out=explained[1], limit=30)


def test_examples_of_one_answer_are_refused(harmed: Path, words: Task, tmp_path: Path) -> None:
    same = replace(words, examples=tuple(one for one in words.examples if one.answer == 1))
    with pytest.raises(InputError, match="give examples of at least two answers"):
        telltale.explain(str(harmed), same, out=tmp_path / "e", limit=30)


def test_too_few_examples_to_estimate_by_leave_the_rest(
    harmed: Path, words: Task, tmp_path: Path
) -> None:
    found = telltale.explain(str(harmed), words, out=tmp_path / "e", limit=6)
    assert found.classes == ()
    assert {one.verdict for one in found.layers} == {None}
    assert any("what states tell is not estimated: " in one for one in found.cautions)
    assert found.layers[0].measures["taylor"] is not None
    assert found.layers[0].single_removal is not None
    assert not any("bits" in one for one in found.conclusions)


def test_text_that_a_model_writes_is_refused(harmed: Path, tmp_path: Path) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text('{"question": "1+1", "answer": "2"}\n')
    with pytest.raises(InputError, match="compares choices by log-likelihood"):
        telltale.explain(str(harmed), telltale.load_task(data=file), out=tmp_path / "e")


def test_a_study_takes_no_layers_and_a_task_no_pick(
    study: Path, harmed: Path, words: Task, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="of a study give `pick`"):
        telltale.explain(str(study), out=tmp_path / "e", remove=[1])
    with pytest.raises(InputError, match="with a task give `remove`"):
        telltale.explain(str(harmed), words, out=tmp_path / "e", pick="best")


def test_the_command_prints_what_follows(
    harmed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = planted.data(tmp_path)
    arguments = ["explain", str(harmed), "--data", str(data), "--prompt", planted.PROMPT]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--limit", str(EXAMPLES), "--out", str(tmp_path / "e")])
    assert ended.value.code in (0, None)
    out = capsys.readouterr().out
    assert f"in bits: {planted.HARMFUL} (" in out
    assert "explain.json" in out


def test_items_are_questions_where_choices_are_alike_and_choices_where_not(
    words: Task, tmp_path: Path
) -> None:
    from telltale.engine.encode import InputLimit, encode_choices
    from tests import tiny

    def items(task: Task) -> Any:
        encoded = encode_choices(task, task.examples, tiny.tokenizer(), limit=InputLimit(None))
        return items_of(task.examples, encoded), encoded

    found, encoded = items(words)
    assert found.classes == tuple(sorted(planted.CHOICES))
    assert [one.context for one in found.encoded] == [one.context for one in encoded]
    told = [found.classes[answer] for answer in found.answers]
    assert told == [one.choices[one.answer] for one in words.examples]
    # The same choices in another order are the same classes.
    turned = tuple(
        replace(one, choices=one.choices[::-1], answer=1 - one.answer) if place % 2 else one
        for place, one in enumerate(words.examples)
    )
    assert items(replace(words, examples=turned))[0].answers == found.answers
    # Where one differs, each choice is an item, and those of a question stay together.
    other = (replace(words.examples[0], choices=("False", "Maybe")), *words.examples[1:])
    apart, encoded = items(replace(words, examples=other))
    assert apart.classes == A_CHOICE
    assert apart.clusters[0] == apart.clusters[1] != apart.clusters[2]
    assert sum(apart.answers) == len(other)
    assert apart.encoded[1].context == encoded[0].context + encoded[0].choices[1]


def test_an_explanation_that_is_asked_for_again_says_the_same(tmp_path: Path) -> None:
    """What the model cannot share is found once, and told of every time."""
    model = tiny.save(tmp_path / "m", "falcon-alibi")
    first, again = (
        telltale.explain(str(model), "boolean_expressions", out=tmp_path / "e", limit=30)
        for _ in range(2)
    )
    assert any("cannot read several examples in one row" in one for one in first.cautions)
    assert again.cautions == first.cautions
    assert again.layers == first.layers


def test_other_releases_of_libraries_are_another_explanation(
    explained: tuple[Explanation, Path],
    harmed: Path,
    words: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(explaining, "library_versions", lambda _: {"torch": "1.0"})
    with pytest.raises(InputError, match="the libraries' releases differ; give another `out`"):
        telltale.explain(str(harmed), words, out=explained[1], limit=EXAMPLES)


def test_a_folder_of_something_else_is_refused_before_a_model_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not empty and no explanation; give another `out`"):
        telltale.explain("org/absent", "boolean_expressions", out=tmp_path)
