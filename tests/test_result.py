"""The verdict says what the held-out intervals say, and nothing more."""

from __future__ import annotations

import pytest

from telltale.evidence.comparison import Comparison, compare
from telltale.evidence.document import document_of
from telltale.evidence.result import Cost, PathModel, Result, Text, verdict, with_names
from telltale.evidence.selection import Level, claims
from telltale.measure import Outcome
from telltale.paths import LayerPath
from telltale.support.words import points
from tests.rounds import found_by as searched_by
from tests.rounds import in_order


def outcomes(scores: list[int]) -> dict[int, Outcome]:
    return {i: Outcome(i, (), 0, float(score)) for i, score in enumerate(scores)}


def found_by(
    search: list[float],
    held_out: list[list[int]],
    max_loss: float = 0.03,
    looks: int | None = 0,
    searched: list[list[int]] | None = None,
) -> Result:
    """A search that removed layers 7, 2 and so on, by its accuracies; the whole model's first.

    Where the search set's scores are not given, they are the held-out set's.
    """
    whole = LayerPath.whole(9)
    found = searched_by(whole, search[0], in_order(whole, (7, 2, 4), search[1:]))

    def by_path(of: list[list[int]]) -> dict[LayerPath, Comparison]:
        before = outcomes(of[0])
        return {
            model.path: compare(before, outcomes(scores) if model.removed else before)
            for model, scores in zip(found.kept, of, strict=True)
        }

    compared = by_path(held_out)
    models = {
        model.path: PathModel(model, 9, compared[model.path], {}, 2.5, 10.0) for model in found.kept
    }
    claimed = claims(
        found, by_path(searched or held_out), compared, max_loss, Level.after(looks, 0.05)
    )
    return Result(
        model={"name": "small", "layers": 9},
        task={"name": "capitals", "search_examples": 100, "held_out_examples": len(held_out[0])},
        settings={},
        models=with_names(found, models, claimed),
        rounds=found.rounds,
        fingerprint="f" * 64,
        claims=claimed,
        final=None,
        verdict=verdict(found, compared, claimed, max_loss, 0.95),
        cautions=(),
        text=Text("page", "b" * 64),
        cost=Cost(100, 1.0, None, 1, 1.0, 10),
        held_out_looks=looks,
    )


def of_held_out(model: PathModel) -> Comparison:
    assert model.held_out is not None
    return model.held_out


WHOLE = [1] * 50 + [0] * 50
BETTER, WORSE = [1] * 70 + [0] * 30, [1] * 30 + [0] * 70


@pytest.mark.parametrize(
    ("shallower", "said"),
    [
        (BETTER, "The gain is shown: without layer 7 the model is +20.0 points more"),
        (WORSE, "A loss is shown: without layer 7 the model is -20.0 points less"),
        ([1] * 51 + [0] * 49, "No gain is shown: without layer 7 the model's accuracy changes by"),
        (WHOLE, "No gain is shown"),
    ],
)
def test_the_verdict_follows_the_interval(shallower: list[int], said: str) -> None:
    found = found_by([0.5, 0.6], [WHOLE, shallower])
    low, high = of_held_out(found.best).gain_interval
    sentence = found.verdict
    assert sentence.startswith(said)
    assert points(low) in sentence
    assert points(high) in sentence
    assert sentence.startswith("The gain") == (low > 0) == (found.confirmed_best is not None)
    assert sentence.startswith("A loss") == (high < 0)
    assert "100 examples that the search never saw" in sentence


def test_the_verdict_names_the_shallowest_model_that_is_safe() -> None:
    safe = found_by([0.5, 0.6, 0.55], [WHOLE, BETTER, BETTER])
    assert safe.fastest_safe is safe.models[2]
    said = "to lose no more than 3 points lacks layers 2, 7: it loses at most 0.0."
    assert said in safe.verdict
    none = found_by([0.5, 0.6], [WHOLE, WORSE])
    assert none.fastest_safe is None
    assert "No shallower model is certified to lose at most 3 points with 95% confidence" in (
        none.verdict
    )


def test_where_nothing_was_kept_it_says_so() -> None:
    assert found_by([0.5], [WHOLE]).verdict.startswith("No layer should go")


def test_where_nothing_gains_on_the_search_set_no_gain_is_looked_for() -> None:
    found = found_by([0.5, 0.4], [WHOLE, BETTER])
    assert found.verdict.startswith("No gain is shown: on the search set")
    assert found.confirmed_best is None


def test_the_model_recommended_is_one_that_gains_or_else_one_that_is_safe() -> None:
    assert found_by([0.5, 0.6], [WHOLE, BETTER]).recommended == "confirmed_best"
    assert found_by([0.5, 0.4], [WHOLE, BETTER]).recommended == "fastest_safe"
    assert found_by([0.5, 0.6], [WHOLE, WORSE]).recommended is None


def test_documents_hold_every_model_of_the_path_in_one_form() -> None:
    found = document_of(found_by([0.5, 0.6, 0.55], [WHOLE, BETTER, WHOLE]))
    assert [model["removed"] for model in found["path"]] == [[], [7], [7, 2]]
    assert found["baseline"] == found["path"][0]
    assert found["best"] == found["confirmed_best"] == found["path"][1]
    assert found["bsba"] == found["path"][2]
    assert {frozenset(model) for model in found["path"]} == {frozenset(found["best"])}
    assert found["best"]["loses_at_most"] < -0.1
    assert found["baseline"]["loses_at_most"] == 0
    assert document_of(found_by([0.5, 0.6], [WHOLE, WORSE]))["confirmed_best"] is None


def scores(mended: int, broken: int) -> list[int]:
    """Of 400 examples, the whole model has the first 200 right."""
    return [0] * broken + [1] * (200 - broken) + [1] * mended + [0] * (200 - mended)


HALF = scores(0, 0)


def test_a_model_that_seems_safe_by_itself_is_told_why_it_is_not_certified() -> None:
    """The safest on the search set fails, and this one must pass at a fifth of the level."""
    found = found_by(
        [0.5, 0.5, 0.5],
        [HALF, scores(10, 12), scores(40, 48)],
        searched=[HALF, scores(0, 40), HALF],
    )
    said = found.verdict
    one = next(one for one in found.claims.asked if len(one.model.removed) == 1)
    assert of_held_out(found.models[1]).loses_at_most < 0.03
    assert not one.certified
    assert "No shallower model is certified" in said
    assert "Taken by itself, the model without layer 7 loses at most 2." in said
    assert (
        "since 2 models are asked about together: its part of the chance of error of 5% is 1%"
        in (said)
    )


def test_where_none_is_certified_the_nearest_is_named() -> None:
    said = found_by([0.5, 0.5, 0.5], [HALF, scores(0, 40), scores(5, 30)]).verdict
    assert "Without layers 2, 7, which comes closest, it loses at most" in said
    assert "Taken by itself" not in said


@pytest.mark.parametrize(("looks", "level"), [(1, "1.2%"), (3, "0.31%"), (40, "0.003%")])
def test_looks_before_are_said_with_the_chance_of_error_that_they_leave(
    looks: int, level: str
) -> None:
    fresh = found_by([0.5, 0.6], [WHOLE, BETTER])
    assert "had looked" not in fresh.verdict
    found = found_by([0.5, 0.6], [WHOLE, BETTER], looks=looks)
    who = "1 other search" if looks == 1 else f"{looks} other searches"
    sentence = found.verdict
    assert f"Since {who} of this model had looked at some of these held-out examples" in sentence
    assert f"is allowed a chance of error of {level} instead of 5%" in sentence
    assert document_of(found)["claims"]["looks_before"] == looks


def test_one_model_that_is_not_certified_for_the_looks_alone_is_told_so() -> None:
    said = found_by([0.5, 0.5], [HALF, scores(10, 12)], looks=1).verdict
    assert "It is not certified, since other searches have looked: its part of the chance" in said
    assert "models are asked about" not in said


def test_where_looks_are_not_known_the_document_says_so() -> None:
    found = found_by([0.5, 0.6], [WHOLE, BETTER], looks=None)
    assert document_of(found)["claims"]["looks_before"] is None
    assert document_of(found)["claims"]["safety_level"] == pytest.approx(0.05)
    assert "had looked" not in found.verdict


def test_a_gain_that_is_not_shown_after_many_looks_is_said_so() -> None:
    gains = scores(30, 12)
    assert found_by([0.5, 0.6], [HALF, gains]).confirmed_best is not None
    worn = found_by([0.5, 0.6], [HALF, gains], looks=9)
    assert worn.confirmed_best is None
    said = worn.verdict
    assert said.startswith("No gain is shown: ")
    assert "the chance of as much without a gain is" in said
    assert "and 0.025% is wanted after the looks before" in said


def test_the_document_says_of_which_models_it_was_asked() -> None:
    found = document_of(found_by([0.5, 0.6, 0.55], [WHOLE, BETTER, WORSE]))["claims"]
    assert [one["removed"] for one in found["asked"]] == [[7], [7, 2]]
    assert [one["certified"] for one in found["asked"]] == [True, False]
    assert found["safety_level"] == 2 * found["gain_level"] == pytest.approx(0.05)
    assert all((one["p_value"] <= one["level"]) == one["certified"] for one in found["asked"])
