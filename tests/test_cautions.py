"""Cautions say what a recount says, and nothing where there is nothing to say."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telltale.evidence.cautions import (
    NAMES,
    SAFE_AT_CHANCE,
    advice,
    at_chance,
    cautions,
    cut_off,
    evaluation_cautions,
    is_success,
    never_answered,
    remedies_for,
    too_few_held_out,
    unread,
    worse_at_a_guard,
    worse_perplexity,
)
from telltale.evidence.comparison import compare
from telltale.evidence.result import PathModel
from telltale.evidence.stats import two_sided
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.paths import LayerPath
from telltale.searches import Kept
from telltale.tasks import Example
from telltale.tasks.group import group
from telltale.tasks.loading import load_task
from tests import questions
from tests.report.made import Made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.study import Result

WHOLE = LayerPath.whole(6)
LETTERS = ("A", "B", "C")
MODELS = {name: NAMES[name] for name in ("baseline", "best", "bsba")}
# The right answers, and what each of three models says: a letter, or None for a text without one.
TABLES = st.integers(2, 60).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 2), min_size=size, max_size=size),
        st.tuples(
            *(
                st.lists(st.sampled_from([*LETTERS, None]), min_size=size, max_size=size)
                for _ in MODELS
            )
        ),
        st.lists(st.booleans(), min_size=size, max_size=size),
    )
)


def examples(answers: Sequence[int], choices: tuple[str, ...] = LETTERS) -> list[Example]:
    return [Example(str(i), f"context {i}", choices, right) for i, right in enumerate(answers)]


def written(
    answers: Sequence[int], said: Sequence[str | None], cut: Sequence[bool] = ()
) -> list[Outcome]:
    """Outcomes of generated text."""
    ends = cut or [False] * len(said)
    return [
        Outcome(i, (), answer, float(answer == LETTERS[right]), Generated("text", 4, end))
        for i, (right, answer, end) in enumerate(zip(answers, said, ends, strict=True))
    ]


def chosen(answers: Sequence[int], said: Sequence[int]) -> list[Outcome]:
    """Outcomes of choices that were compared."""
    some = (ChoiceOutcome(-1.0, 1, 1, 1),) * 2
    return [
        Outcome(i, some, answer, float(answer == right))
        for i, (right, answer) in enumerate(zip(answers, said, strict=True))
    ]


def scored(right: int, total: int) -> list[Outcome]:
    return [Outcome(i, (), 0, float(i < right)) for i in range(total)]


def named(
    outcomes: Mapping[str, Sequence[Outcome]],
    *,
    removed: Mapping[str, tuple[int, ...]] | None = None,
    search: Mapping[str, float] | None = None,
    perplexity: Mapping[str, float] | None = None,
) -> dict[str, PathModel]:
    removed = removed or {"baseline": (), "best": (3,), "bsba": (3, 1)}
    table = {name: dict(enumerate(some)) for name, some in outcomes.items()}
    return {
        name: PathModel(
            kept=Kept(
                LayerPath.from_removed(removed[name], 6),
                None,
                (search or {}).get(name, 0.5),
                0.0,
                100,
                removed[name],
            ),
            parameters=1,
            held_out=compare(table["baseline"], table[name]),
            perplexity=(perplexity or {}).get(name, 10.0),
            tokens_per_second=1.0,
        )
        for name in table
    }


@given(TABLES)
def test_cautions_are_what_a_recount_says(
    table: tuple[list[int], tuple[list[str | None], ...], list[bool]],
) -> None:
    answers, said, cut = table
    outcomes = {
        name: written(answers, of_model, cut) for name, of_model in zip(MODELS, said, strict=True)
    }
    total = len(answers)
    found = "\n".join(cautions(named(outcomes), outcomes, examples(answers)))
    # A model beats guessing where the score test rejects it: what Wilson's interval inverts.
    most_common = max(answers.count(right) for right in set(answers)) / total
    chance = max(1 / 3, most_common)
    accuracy = sum(LETTERS[r] == s for r, s in zip(answers, said[0], strict=True)) / total
    deviation = math.sqrt(chance * (1 - chance) / total)
    # Where only one answer is right, saying it always is a guess that nothing can beat.
    beats = chance < 1 and (accuracy - chance) > two_sided(0.95) * deviation
    assert ("not shown to be more than guessing" in found) == (not beats)
    for (name, spoken), of_model in zip(MODELS.items(), said, strict=True):
        for index, letter in enumerate(LETTERS):
            right = answers.count(index)
            line = f"{spoken} never answers {letter!r}, which is right for {right} of {total}"
            # Of a model that gave no answer at all, another caution says so.
            is_told = letter not in of_model and right > 0 and any(of_model)
            assert (line in found) == is_told, name
        line = f"the token limit cut off {sum(cut)} of {total} texts of {spoken}"
        assert (line in found) == (20 * sum(cut) > total)


def test_a_choice_that_is_never_taken_is_told_for_log_likelihoods_too() -> None:
    answers = [0, 1, 2] * 10
    every = examples(answers)
    assert never_answered("best", chosen(answers, answers), every) == []
    assert never_answered("best", chosen(answers, [0, 2, 2] * 10), every) == [
        "BEST never answers 'B', which is right for 10 of 30 held-out examples"
    ]
    # One that is never right need not be taken.
    twos = [0, 1] * 10
    assert never_answered("best", chosen(twos, twos), examples(twos)) == []


def test_an_evaluation_is_told_of_one_model_and_its_examples() -> None:
    answers = [0, 1] * 15
    assert evaluation_cautions(chosen(answers, answers), examples(answers)) == []
    told = evaluation_cautions(chosen(answers, [0] * 30), examples(answers), truncated=1)
    assert [line.split(",")[0] for line in told] == [
        "the model is right on 50.0% of 30 examples",
        "the model never answers 'B'",
        "1 prompt was longer than the model takes and lost its beginning",
    ]


def test_choices_that_differ_from_question_to_question_are_no_labels() -> None:
    answers = [0, 0]
    some = [Example("a", "a", ("Rome", "Oslo"), 0), Example("b", "b", ("Bonn", "Bern"), 0)]
    assert never_answered("best", chosen(answers, [1, 1]), examples(answers))
    assert never_answered("best", chosen(answers, [1, 1]), some) == []


def test_free_text_has_neither_chance_nor_choices() -> None:
    free = [Example(str(i), "", ("Paris",), 0) for i in range(30)]
    wrong = [Outcome(i, (), None, 0.0, Generated("x", 1, False)) for i in range(30)]
    assert at_chance("baseline", wrong, examples([0, 1] * 15))
    assert at_chance("baseline", wrong, free) == []
    assert never_answered("best", wrong, free) == []


def test_chance_is_that_of_the_choices_each_question_has() -> None:
    # Half of the questions have two choices and half have five, and no two have the same.
    some = [
        Example(str(i), "", tuple(f"{i} {j}" for j in range(2 + 3 * (i % 2))), 0)
        for i in range(150)
    ]
    assert at_chance("baseline", scored(69, 150), some) == []
    (told,) = at_chance("baseline", scored(60, 150), some)
    assert "right on 40.0% of 150 held-out examples" in told
    assert "guessing (35.0%)" in told


def reading(whole: float, shallower: float) -> dict[str, PathModel]:
    outcomes = {name: scored(5, 10) for name in MODELS}
    return named(outcomes, perplexity={"baseline": whole, "best": whole, "bsba": shallower})


@pytest.mark.parametrize(
    ("whole", "shallower", "rise"), [(10.0, 12.51, "25%"), (2.0, 3.0, "50%"), (10.0, 99.0, "890%")]
)
def test_a_rise_of_perplexity_past_a_quarter_is_told(
    whole: float, shallower: float, rise: str
) -> None:
    models = reading(whole, shallower)
    (told,) = worse_perplexity("bsba", models)
    assert f"{rise} higher than the whole model's" in told
    assert worse_perplexity("baseline", models) == worse_perplexity("best", models) == []


@pytest.mark.parametrize("shallower", [12.5, 10.0, 9.0])
def test_no_smaller_rise_of_perplexity_is_told(shallower: float) -> None:
    assert worse_perplexity("bsba", reading(10.0, shallower)) == []


def claiming(
    claimed: float, right: int, total: int
) -> tuple[dict[str, PathModel], dict[str, list[Outcome]]]:
    """BEST claims so much on the search set, and is right on so many held-out examples."""
    outcomes = {name: scored(total // 2, total) for name in MODELS}
    outcomes["best"] = scored(right, total)
    search = {"baseline": 0.5, "best": 0.5 + claimed, "bsba": 0.5}
    return named(outcomes, search=search), outcomes


def test_a_held_out_set_too_small_for_the_gain_is_told_with_what_was_measured() -> None:
    models, outcomes = claiming(0.05, 11, 20)
    low, high = models["best"].held_out.gain_interval
    (told,) = too_few_held_out(models, outcomes)
    assert "20 held-out examples are too few to see the 5.0 points that BEST gains" in told
    assert f"the interval of its gain there reaches {50 * (high - low):.1f} points to each" in told
    assert "its score differs from the whole model's on 1 of them" in told


@pytest.mark.parametrize(
    ("claimed", "right", "total"),
    [
        (0.05, 505, 1000),  # enough examples to see so much
        (0.0, 11, 20),  # nothing is claimed
        (0.05, 19, 20),  # it is shown all the same
        (0.05, 2, 20),  # a loss is shown
    ],
)
def test_a_held_out_set_large_enough_for_the_gain_is_not(
    claimed: float, right: int, total: int
) -> None:
    assert too_few_held_out(*claiming(claimed, right, total)) == []


def test_advice_is_what_is_expected_where_as_many_answers_change_as_in_eight_pairs() -> None:
    assert advice(400, 0.03, 0.95) == (
        "With 400 held-out examples a difference under about 4.4 points (one layer removed, 20% of "
        "answers change) to 5.6 points (four layers, 33%) is expected not to be seen, and to "
        "certify a loss of at most 3 points is expected to take about 1,400 to 2,300; these shares "
        "are the medians of eight pairs of a model and a task"
    )
    assert "certify" not in advice(400, 0.0, 0.95)
    assert "is expected to take about 2;" in advice(400, 0.9, 0.95)
    assert "is expected to take about 1;" in advice(400, 0.999, 0.5)


@pytest.mark.parametrize(("changed", "which"), [(80, 0), (132, 1)])  # 20% and 33%
def test_before_and_after_agree_where_as_many_answers_change_as_was_expected(
    changed: int, which: int
) -> None:
    half = changed // 2
    before = [1.0] * half + [0.0] * (400 - half)
    after = [0.0] * half + [1.0] * half + [0.0] * (400 - changed)
    outcomes = {
        name: [Outcome(i, (), 0, score) for i, score in enumerate(scores)]
        for name, scores in {"baseline": before, "best": after, "bsba": before}.items()
    }
    models = named(outcomes, search={"baseline": 0.5, "best": 0.53, "bsba": 0.5})
    (told,) = too_few_held_out(models, outcomes)
    (measured,) = re.findall(r"reaches (\S+) points to each side", told)
    expected = re.findall(r"(\S+) points \(", advice(400, 0.03, 0.95))
    assert float(measured) == pytest.approx(float(expected[which]), abs=0.11)
    assert f"on {changed} of them" in told


def recommending(name: str | None, told: Sequence[str]) -> Result:
    """A result with these cautions, whose first shallower model alone has a name, if any has."""
    result = Made().finished().result
    assert result is not None
    models = [replace(model, names=()) for model in result.models]
    models[1] = replace(models[1], names=() if name is None else (name,))
    return replace(result, models=tuple(models), cautions=tuple(told))


def test_a_safe_model_of_a_whole_one_that_guesses_is_no_success() -> None:
    answers = [0, 1] * 15
    names = ("baseline", "best", "bsba", "fastest_safe")
    removed = {"baseline": (), "best": (3,), "bsba": (3, 1), "fastest_safe": (3, 1, 2)}
    for whole, guesses in ((answers, False), ([0, 1, 1, 0] * 7 + [0, 0], True)):
        outcomes = dict.fromkeys(names, chosen(answers, whole))
        told = cautions(named(outcomes, removed=removed), outcomes, examples(answers))
        assert (SAFE_AT_CHANCE in told) == guesses
        for recommended in ("fastest_safe", "confirmed_best", None):
            result = recommending(recommended, told)
            assert result.recommended == recommended
            shown = recommended == "confirmed_best"
            shown |= recommended == "fastest_safe" and not guesses
            assert is_success(result) == shown
        without = {name: outcomes[name] for name in MODELS}
        assert SAFE_AT_CHANCE not in cautions(named(without), without, examples(answers))
    assert "not shown to be more than guessing" in SAFE_AT_CHANCE


def test_what_is_lost_at_a_guard_is_told_with_its_bound() -> None:
    outcomes = {name: scored(150, 200) for name in MODELS}
    models = named(outcomes)
    found = compare(dict(enumerate(scored(150, 200))), dict(enumerate(scored(130, 200))))
    models["best"] = replace(models["best"], guards={"boolq": found})
    models["bsba"] = replace(models["bsba"], guards={"boolq": models["bsba"].held_out})
    (told,) = worse_at_a_guard("best", models)
    assert told.startswith("BEST is worse at boolq: -10.0 points on 200 examples")
    assert f"where it loses at most {100 * found.loses_at_most:.1f}" in told
    assert worse_at_a_guard("bsba", models) == []


@pytest.mark.parametrize(("cut", "is_told"), [(1, False), (2, True)])
def test_cut_off_texts_are_told_past_one_in_twenty(cut: int, is_told: bool) -> None:
    ends = [i < cut for i in range(20)]
    assert bool(cut_off("best", written([0] * 20, ["A"] * 20, ends))) == is_told
    assert cut_off("best", scored(5, 20)) == []  # no texts at all


def test_a_model_that_has_two_names_is_told_of_once_by_the_first() -> None:
    answers = [0, 1, 2] * 10
    right: list[str | None] = [LETTERS[i] for i in answers]
    silent = {**dict.fromkeys(MODELS, written(answers, right))}
    silent["best"] = silent["bsba"] = written(answers, ["A"] * 30)
    perplexity = {"baseline": 10.0, "best": 99.0, "bsba": 99.0}
    apart = named(silent, perplexity=perplexity)
    same = named(
        silent, removed={"baseline": (), "best": (3,), "bsba": (3,)}, perplexity=perplexity
    )
    every = examples(answers)
    told = cautions(apart, silent, every)
    assert sum("BSBA" in line for line in told) == sum("BEST" in line for line in told) == 3
    assert cautions(same, silent, every) == [line for line in told if "BSBA" not in line]


def test_a_result_without_fault_has_no_caution() -> None:
    answers = [0, 1, 2] * 40
    right: list[str | None] = [LETTERS[i] for i in answers]
    outcomes = dict.fromkeys(MODELS, written(answers, right))
    assert cautions(named(outcomes), outcomes, examples(answers)) == []


# Options that a caution may name, with something to give.
OPTIONS: dict[str, dict[str, Any]] = {
    "--extract": {"extract": "exact"},
    "--prompt": {"prompt": "{question}, then?"},
    "--protocol": {"protocol": "text"},
    "--max-new-tokens": {"max_new_tokens": 99},
    "--stop": {"stop": "."},
}


def fair(text: str, right: str) -> bool:
    return right in text


@pytest.mark.parametrize("given", [{}, {"scorer": fair}])
def test_every_option_that_is_advised_is_one_that_the_task_takes(given: dict[str, Any]) -> None:
    given = {"protocol": "chat", **given}
    remedies = remedies_for(load_task("capitals", **given))
    options = re.findall(r"--[a-z-]+", " ".join(remedies))
    assert len(options) == 5 - ("scorer" in given)
    for option in options:
        assert load_task("capitals", **(given | OPTIONS[option])).examples


def test_what_is_advised_for_a_harness_task_is_a_file_that_it_takes(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    data = questions.data_dir(tmp_path / "data")

    def task(name: str, tokens: int) -> Any:
        config = {**questions.WRITTEN}
        config["generation_kwargs"] = {**config["generation_kwargs"], "max_gen_toks": tokens}
        file = questions.harness_file(data, tmp_path, task="gsm8k", name=name, **config)
        return load_task(f"harness:{file}")

    short = task("short", 4)
    for one in (short, group([short, task("other", 4)], [1, 1])):
        remedies = remedies_for(one)
        assert "--" not in " ".join(remedies)
        ends = written([0] * 20, [None] * 20, [True] * 20)
        assert "larger max_gen_toks" in cut_off("best", ends, remedies)[0]
        assert "filter_list" in unread("best", ends, remedies)[0]
    assert task("longer", 40).generation.max_new_tokens == 40
