"""Choices judged less offsets learnt without labels, and what a study says of that."""

from __future__ import annotations

import inspect
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import telltale
from telltale import InputError, LayerPath
from telltale.cli.commands import main
from telltale.evidence.calibration import (
    Arms,
    Calibrated,
    Calibration,
    Gain,
    Judging,
    Level,
    calibrated,
    fitted,
    judged,
    offsets_of,
    sentences,
)
from telltale.evidence.result import result_from
from telltale.evidence.stats import Interval, gain_interval, pairs
from telltale.measure import Batch, ChoiceOutcome, Measurement, Outcome, accuracy, outcomes_by_path
from telltale.objectives import OBJECTIVES, values_by
from telltale.report.figures import tables
from telltale.searches import GreedyRemoval, Search
from telltale.study import read_study
from telltale.study.stability import Within
from telltale.tasks.sets import HELD_OUT, SEARCH
from telltale.tasks.task import Scoring
from telltale.watcher import Watcher
from tests import biased
from tests.studies import PAGE, result_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.tasks import Task

SEED = 5


def outcome(example: int, logliks: Sequence[float], right: int, source: random.Random) -> Outcome:
    """What was measured of choices of different sizes, as they are judged in total."""
    choices = tuple(
        ChoiceOutcome(one, source.randint(1, 4), source.randint(1, 9), 9) for one in logliks
    )
    answer = Scoring.LOGLIK.choose(choices)
    return Outcome(example, choices, answer, float(answer == right))


def outcomes(
    count: int, widths: Sequence[int] = (4,), bias: float = 0.0, noise: float = 1.0
) -> tuple[dict[int, Outcome], dict[int, int]]:
    """Questions whose right choice is likelier by 1 nat, and the first one by ``bias``."""
    source = random.Random(SEED)
    right = {one: source.randrange(widths[one % len(widths)]) for one in range(count)}
    found = {}
    for example, answer in right.items():
        logliks = [source.gauss(-9, noise) for _ in range(widths[example % len(widths)])]
        logliks[answer] += 1.0
        logliks[0] += bias
        found[example] = outcome(example, logliks, answer, source)
    return found, right


def published(merits: Sequence[Sequence[float]]) -> Any:
    """Batch calibration where all questions offer as many choices."""
    likely = np.exp(np.array(merits))
    prior = (likely / likely.sum(1, keepdims=True)).mean(0)
    return np.log(prior) - np.log(prior).mean()


@pytest.mark.parametrize("scoring", Scoring)
def test_offsets_are_the_logs_of_mean_probabilities(scoring: Scoring) -> None:
    found, _ = outcomes(90, bias=0.4)
    merits = [scoring.merits(one.choices) for one in found.values()]
    assert fitted(merits, most_steps=1) == pytest.approx(published(merits), abs=1e-4)
    assert offsets_of(found.values(), scoring) == pytest.approx(published(merits), abs=1e-4)


def test_steps_are_repeated_until_choices_are_nearly_even() -> None:
    found, _ = outcomes(90, bias=8.0, noise=3.0)
    merits = [Scoring.LOGLIK.merits(one.choices) for one in found.values()]
    less, taken, uneven = np.array(merits), [np.zeros(4)], 1.0
    while uneven > 1 / 16:
        taken.append(published(less))
        less = less - taken[-1]
        likely = np.exp(less)
        uneven = np.abs((likely / likely.sum(1, keepdims=True)).mean(0) - 1 / 4).sum() / 2
    assert len(taken) > 2
    assert fitted(merits) == pytest.approx(sum(taken), abs=1e-4)


def test_of_unequally_many_choices_each_is_beside_its_even_share() -> None:
    found, _ = outcomes(120, widths=(2, 3, 5))
    merits = [Scoring.LOGLIK.merits(one.choices) for one in found.values()]
    prior, even = np.zeros(5), np.zeros(5)
    for one in merits:
        likely = np.exp(one)
        prior[: len(one)] += likely / likely.sum()
        even[: len(one)] += 1 / len(one)
    expected = np.log(prior / even)
    assert fitted(merits, most_steps=1) == pytest.approx(
        expected - even @ expected / even.sum(), abs=1e-4
    )
    # No choice is preferred here, though the later ones are likely seldom, as they are offered.
    assert max(map(abs, fitted(merits))) < 0.4


def test_what_says_nothing_of_a_preference_is_passed_over() -> None:
    found, _ = outcomes(60, widths=(2,), bias=1.0)
    merits = [Scoring.LOGLIK.merits(one.choices) for one in found.values()]
    odd = [[-1.0], [-1.0, -np.inf], [np.nan, 0.0]]
    assert fitted([*merits, *odd]) == fitted(merits)
    assert fitted(odd) == (0.0, 0.0)
    assert fitted([]) == ()
    rare = fitted([*merits, *[[0.0, 0.0, 9.0]] * 3])  # three questions offer a third
    assert rare[2] == 0.0
    assert calibrated(Outcome(0, (found[0].choices[0],), 0, 1.0), (1.0,), 0, Scoring.LOGLIK) == (
        Outcome(0, (found[0].choices[0],), 0, 1.0)
    )


def test_no_right_answer_is_used() -> None:
    found, right = outcomes(90, bias=1.5)
    assert "right" not in inspect.signature(offsets_of).parameters
    shuffled = list(right.values())
    random.Random(1).shuffle(shuffled)
    others = [
        replace(one, score=float(one.answer == answer), answer=0)
        for one, answer in zip(found.values(), shuffled, strict=True)
    ]
    random.Random(2).shuffle(others)  # nor the order in which they came
    assert offsets_of(others, Scoring.LOGLIK) == offsets_of(found.values(), Scoring.LOGLIK)


@pytest.mark.parametrize("bias", [0.5, 3.0, 12.0])
def test_a_constant_of_one_label_is_taken_out(bias: float) -> None:
    """Exactly only in the limit: batch calibration is not invariant, its repetition nearly."""
    without, right = outcomes(400, widths=(2,), noise=0.3)
    added, _ = outcomes(400, widths=(2,), bias=bias, noise=0.3)

    def accuracies(found: Mapping[int, Outcome]) -> tuple[float, float]:
        offsets = offsets_of(found.values(), Scoring.LOGLIK)
        less = judged(found, offsets, right, Scoring.LOGLIK)
        return accuracy(found.values()), accuracy(less.values())

    assert accuracies(without)[1] > 0.95
    assert accuracies(added)[1] == pytest.approx(accuracies(without)[1], abs=0.02)
    if bias > 2:
        assert accuracies(added)[0] < 0.6


def test_a_constant_of_all_choices_changes_no_offset() -> None:
    found, _ = outcomes(50)
    merits = [Scoring.LOGLIK.merits(one.choices) for one in found.values()]
    moved = [[one + place for one in own] for place, own in enumerate(merits)]
    assert fitted(moved) == pytest.approx(fitted(merits), abs=2e-4)


@pytest.mark.parametrize("scoring", Scoring)
def test_objectives_are_of_calibrated_merits(scoring: Scoring) -> None:
    found, right = outcomes(40, widths=(3, 4))
    offsets = (0.7, -1.3, 0.2)  # of a fourth choice nothing is known
    for example, less in judged(found, offsets, right, scoring).items():
        raw = np.array(scoring.merits(found[example].choices))
        merits = raw - np.array([*offsets, 0.0])[: len(raw)]
        assert scoring.merits(less.choices) == pytest.approx(merits)
        assert less.answer == int(np.argmax(merits))
        assert less.score == float(less.answer == right[example])
        likely = np.exp(merits) / np.exp(merits).sum()
        value = values_by(OBJECTIVES["likelihood"], scoring, right)(less)
        assert value == pytest.approx(np.log(likely[right[example]]))
        assert value <= OBJECTIVES["likelihood"].highest  # type: ignore[attr-defined]
        others = np.delete(merits, right[example])
        margin = values_by(OBJECTIVES["margin"], scoring, right)(less)
        assert margin == pytest.approx(merits[right[example]] - others.max())


# The measure that judges

WHOLE = LayerPath.whole(4)
PATHS = [WHOLE, WHOLE.without(1), WHOLE.without(2)]
SET = tuple(Batch(tuple(range(start, start + 20))) for start in (0, 20, 40))


def table(path: LayerPath) -> tuple[dict[int, Outcome], dict[int, int]]:
    """A path's outcomes, and right answers that are the same for all."""
    return outcomes(60, widths=(3,), bias=2.0 * len(path.removed), noise=0.5)


def measured(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
    for batch in batches:
        for path in paths:
            own, _ = table(path)
            yield Measurement(batch, path, tuple(own[one] for one in batch.examples))


RIGHT = table(WHOLE)[1]


def by_hand(path: LayerPath, learns_from: Sequence[int] = range(60)) -> dict[int, Outcome]:
    own, _ = table(path)
    offsets = offsets_of([own[one] for one in learns_from], Scoring.LOGLIK)
    return judged(own, offsets, RIGHT, Scoring.LOGLIK)


def test_each_path_is_judged_by_its_own_offsets_of_the_whole_set() -> None:
    measure = Calibrated(measured, SET, RIGHT, Scoring.LOGLIK)
    found = outcomes_by_path(measure(PATHS, SET))
    assert found == {path: by_hand(path) for path in PATHS}
    some = outcomes_by_path(measure(PATHS, SET[1:2]))
    assert some.keys() == found.keys()
    assert all(set(own) == set(SET[1].examples) for own in some.values())
    assert all(own[one] == found[path][one] for path, own in some.items() for one in own)


def test_a_part_learns_its_own_offsets_and_the_rest_is_judged_by_them() -> None:
    part = frozenset(range(0, 60, 3))
    measure = Calibrated(measured, SET, RIGHT, Scoring.LOGLIK, part)
    assert outcomes_by_path(measure(PATHS[1:2], SET)) == {PATHS[1]: by_hand(PATHS[1], sorted(part))}
    within = outcomes_by_path(Within(measure, part)(PATHS[1:2], SET))
    assert set(within[PATHS[1]]) == part


def test_a_search_by_it_is_the_search_on_calibrated_tables() -> None:
    def plain(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for path in paths:
            for batch in batches:
                own = by_hand(path)
                yield Measurement(batch, path, tuple(own[one] for one in batch.examples))

    search: Search = GreedyRemoval(tolerance=0.3, speed="full")
    measure = Calibrated(measured, SET, RIGHT, Scoring.LOGLIK)
    found = search(measure, SET, WHOLE)
    assert found == search(plain, SET, WHOLE)
    assert found != search(measured, SET, WHOLE)


# What a study says

NOTHING = Gain(0.0, Interval(0.0, 0.0))


def arms(raw: float, less: float, alone: Gain, beyond: Gain = NOTHING) -> Arms:
    around = Interval(0.0, 1.0)
    return Arms(Level(raw, around), Level(less, around), alone, beyond, (0.5, -0.5))


def gain(value: float, reach: float) -> Gain:
    return Gain(value, Interval(value - reach, value + reach))


SST2 = (arms(0.545, 0.718, gain(0.173, 0.05)), arms(0.759, 0.757, gain(-0.002, 0.02)))
SAID = {
    "a bias is most of it": (SST2[0], replace(SST2[1], beyond=gain(0.039, 0.05)), "may be all"),
    "as much without layers": (
        arms(0.5, 0.56, gain(0.06, 0.07)),
        arms(0.55, 0.56, gain(0.01, 0.03)),
        "may be all",
    ),
    "layers are beyond": (SST2[0], replace(SST2[1], beyond=gain(0.039, 0.03)), "More than a bias"),
    "calibration hurts": (
        arms(0.605, 0.555, gain(-0.05, 0.04)),
        arms(0.682, 0.68, gain(0.0, 0.03), gain(0.125, 0.05)),
        "No bias",
    ),
    "not known": (
        arms(0.605, 0.625, gain(0.02, 0.04)),
        arms(0.682, 0.68, gain(0.0, 0.03), gain(0.055, 0.06)),
        "is not known",
    ),
    "a small part": (
        arms(0.5, 0.53, gain(0.03, 0.02)),
        arms(0.7, 0.6, gain(-0.1, 0.02), gain(0.07, 0.08)),
        "is not known",
    ),
    "no gain, a biased model": (SST2[0], arms(0.54, 0.7, gain(0.16, 0.05)), "is biased towards"),
    "no layer goes, a biased model": (SST2[0], None, "is biased towards"),
    "no layer goes, nothing to say": (arms(0.5, 0.51, gain(0.01, 0.02)), None, ""),
}


@pytest.mark.parametrize("case", SAID)
def test_the_verdict_says_whether_a_bias_may_be_all(case: str) -> None:
    whole, best, words = SAID[case]
    found = Calibration(whole, {} if best is None else {"best": best})
    told = " ".join(sentences(found, (10, 4), "raw", 0.95, is_shown=True))
    assert (words in told) if words else told == ""
    assert ("no layer need go" in told) == (words == "may be all")
    if words != "":
        assert f"{100 * whole.calibrating.gain:+.1f} points (95% interval" in told


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return biased.questions(tmp_path_factory.mktemp("days"))


@pytest.fixture(scope="module")
def model(days: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right on every question without its last layer, and always False with it."""
    return biased.save(tmp_path_factory.mktemp("biased"), days, bias=6.0)


ASKED: dict[str, Any] = {"limit": 60, "held_out": 80, "max_removed": 1, "text": PAGE}


@pytest.fixture(scope="module")
def studies(
    days: Task, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, telltale.study.Result]]:
    """The model searched as it is, and calibrated in the same folder; copies of the folder."""
    import shutil

    folder = tmp_path_factory.mktemp("studies")
    found = {}
    for scoring in ("raw", "calibrated"):
        result = telltale.search(
            str(model), days, out=folder / "both", scoring=scoring, speed="full", **ASKED
        )
        found[scoring] = (shutil.copytree(folder / "both", folder / scoring), result)
    return found


def test_a_planted_bias_is_what_a_layer_mends(studies: Any) -> None:
    _, result = studies["raw"]
    assert result.baseline.held_out.accuracy < 0.6
    assert result.best.removed == (2,)
    assert result.best.held_out.accuracy == 1.0
    whole, best = result.calibration.whole, result.calibration.named["best"]
    assert whole.raw.accuracy == result.baseline.held_out.accuracy
    assert whole.calibrated.accuracy == 1.0
    assert best.beyond.gain == 0.0
    assert whole.offsets[0] > 1 > abs(best.offsets[0])
    assert "If so, no layer need go" in result.verdict


def test_calibrated_no_layer_need_go(studies: Any) -> None:
    _, result = studies["calibrated"]
    assert result.baseline.held_out.accuracy == result.calibration.whole.calibrated.accuracy == 1.0
    assert result.best.removed == ()
    assert result.settings["scoring"] == "calibrated"
    assert any("an exported checkpoint does not hold them" in one for one in result.cautions)
    assert result.calibration.whole == studies["raw"][1].calibration.whole


def test_what_was_measured_in_full_is_not_measured_again(studies: Any) -> None:
    raw, less = (result for _, result in studies.values())
    assert less.cost.batches_measured == raw.cost.batches_measured
    assert less.fingerprint == raw.fingerprint


def test_the_arms_are_those_of_the_outcomes(studies: Any, days: Task) -> None:
    folder, result = studies["raw"]
    study = read_study(folder)
    right = {one.position: one.answer for one in study.examples}
    whole = LayerPath.whole(biased.LAYERS)
    scores = {}
    for path in (whole, result.best.path):
        offsets = offsets_of(study.outcomes[SEARCH, path].values(), days.scoring)
        held_out = study.outcomes[HELD_OUT, path]
        less = judged(held_out, offsets, right, days.scoring)
        scores[path] = [
            [found[position].score for position in sorted(held_out)] for found in (held_out, less)
        ]
        arms = result.calibration.named["best"] if path.removed else result.calibration.whole
        assert (arms.raw.accuracy, arms.calibrated.accuracy) == tuple(map(np.mean, scores[path]))
        assert arms.offsets == offsets
        alone = pairs(*scores[path])
        assert arms.calibrating == Gain(alone.gain, gain_interval(alone))
    beyond = pairs(scores[whole][1], scores[result.best.path][1])
    assert result.calibration.named["best"].beyond == Gain(beyond.gain, gain_interval(beyond))


def test_a_document_holds_the_arms_and_is_read_back(studies: Any) -> None:
    for folder, result in studies.values():
        document = json.loads(json.dumps(result.document))
        assert result_from(document, result.held_out_looks) == result
        assert result_from(document, result.held_out_looks).document == document
        calibration = document["calibration"]
        removing = {
            name
            for name in ("best", "bsba", "confirmed_best", "fastest_safe")
            if document[name] is not None and document[name]["removed"]
        }
        assert set(calibration) == {"whole", *removing}
        for arms in calibration.values():
            assert set(arms["raw"]) == set(arms["calibrated"]) == {"accuracy", "interval"}
            assert set(arms["beyond"]) == {"gain", "interval"}
        assert calibration["whole"]["beyond"] == {"gain": 0.0, "interval": [0.0, 0.0]}
        assert "Calibrated choices" in (folder / "report.html").read_text(encoding="utf-8")
        study = read_study(folder)
        rows = tables(study, study.searched)["calibration"].splitlines()
        assert len(rows) == 1 + len({m.path for m in result.models if m.names or not m.removed})


def test_a_study_is_read_as_it_was_judged(studies: Any) -> None:
    for folder, result in studies.values():
        study = read_study(folder)
        for model in result.models:
            for role, seen in ((SEARCH, model.accuracy), (HELD_OUT, model.held_out.accuracy)):
                assert accuracy(study.outcomes[role, model.path].values()) == pytest.approx(seen)


class Stops(Watcher):
    """Ends a run after so many measurements."""

    def __init__(self, after: int) -> None:
        self.left = after

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        self.left -= not remembered
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_search_that_was_stopped_goes_on_to_the_same(
    studies: Any, days: Task, model: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {**ASKED, "scoring": "calibrated", "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        telltale.search(str(model), days, watcher=Stops(24), **asked)
    part = read_study(tmp_path)
    assert part.result is None
    assert part.found is not None
    assert part.found.baseline == 1.0  # as it is, it would be half
    telltale.search(str(model), days, **asked)
    stopped, whole = result_of(tmp_path), result_of(studies["calibrated"][0])
    for name in ("search", "rounds", "calibration"):
        assert stopped[name] == whole[name]
    assert stopped["baseline"]["held_out"] == whole["baseline"]["held_out"]


def test_an_evaluation_is_calibrated_on_its_own_examples(days: Task, model: Path) -> None:
    raw = telltale.evaluate(str(model), days, limit=40)
    less = telltale.evaluate(str(model), days, limit=40, scoring="calibrated")
    assert "calibration" not in raw
    assert (raw["accuracy"], less["accuracy"]) == (0.5, 1.0)
    logliks = [one["loglikelihoods"] for one in less["examples"]]
    assert logliks == [one["loglikelihoods"] for one in raw["examples"]]
    assert less["calibration"]["offsets"] == pytest.approx(published(logliks), abs=1.0)
    assert less["calibration"]["raw"] == {name: raw[name] for name in ("accuracy", "interval")}
    assert any("these very examples" in one for one in less["cautions"])


def test_parts_of_a_set_are_searched_calibrated(days: Task, model: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {**ASKED, "sizes": [30], "resamples": 2, "out": tmp_path}
    raw = telltale.stability(str(model), days, **asked)
    less = telltale.stability(str(model), days, scoring="calibrated", **asked)
    assert raw["sizes"][0]["removed"] == {"2": 1.0}
    assert less["sizes"][0]["removed"] == {}


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "raced": ("capitals", {"speed": "fast"}, "`speed` fast judges candidates by some"),
    "as published": ("capitals", {"paper": True}, "`paper` is the published method"),
    "no such way": ("capitals", {"scoring": "mild"}, "`scoring` must be raw or calibrated"),
    "several tasks": ("capitals,boolean_expressions", {}, "`scoring` calibrated is of compared"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_calibrated_is_refused(case: str, tiny_folder: Path, tmp_path: Path) -> None:
    task, given, message = REFUSED[case]
    asked: dict[str, Any] = {"scoring": "calibrated", "out": tmp_path / "s", **given}
    with pytest.raises(InputError) as told:
        telltale.search(str(tiny_folder), task, **asked)
    assert str(told.value).startswith(message)
    assert not (tmp_path / "s").exists()


def test_written_answers_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    task = telltale.load_task("capitals", protocol="text")
    for call in (
        lambda: telltale.search(str(tiny_folder), task, out=tmp_path / "s", scoring="calibrated"),
        lambda: telltale.evaluate(str(tiny_folder), task, scoring="calibrated"),
    ):
        with pytest.raises(InputError, match=r"answered by text.*ask it by `protocol` loglik"):
            call()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["eval", "--limit", "20", "--scoring", "calibrated"], "Calibrated; as it is"),
        (["eval", "--limit", "20", "--scoring", "loglik-per-token,calibrated"], "Calibrated; as"),
        (["eval", "--limit", "20", "--scoring", "loglik-per-token"], "layers; removed: none"),
        (["tasks", "--scoring", "calibrated"], "give it to search, stability or eval"),
        (["eval", "--scoring", "mild"], "--scoring must be loglik"),
    ],
)
def test_the_command_takes_one_option_for_both(
    given: list[str], said: str, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = given
    model = [str(tiny_folder)] if command == "eval" else []
    with pytest.raises(SystemExit):
        main([command, *model, "capitals", *options])
    written = capsys.readouterr()
    assert said in written.out + written.err


def test_what_a_scorer_judges_otherwise_has_no_arms() -> None:
    found, right = outcomes(60)
    ours = Judging(Scoring.LOGLIK, right)
    marks = {example: replace(one, score=one.score / 2) for example, one in found.items()}
    texts = {example: replace(one, choices=one.choices[:1]) for example, one in found.items()}
    assert ours._is_ours(found)
    assert not ours._is_ours(marks)
    assert not ours._is_ours(texts)
