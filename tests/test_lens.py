"""The logit lens: outcomes of first layers alone are the library's states through norm and head."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from telltale import LayerPath
from telltale.engine.choosing import Choosing
from telltale.engine.selftest import EVERYTHING, PLAIN
from telltale.engine.shared import SharedEngine
from telltale.errors import InputError
from telltale.evidence.lens import Lens, lens, lens_paths
from telltale.evidence.stats import Interval, mean_interval, wilson
from telltale.measure import Batch, ChoiceOutcome, Outcome, outcomes_by_path
from telltale.objectives.likelihood import FAINTEST
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from telltale.engine.shared import Capabilities

ENCODED = [
    example((5, 9, 7, 21, 40, 3), ((11,), (14,)), 0),
    example((5, 9, 8, 2, 77, 33, 60), ((31,), (16,), (18,)), 1),
    example((4, 250, 17), ((21, 22, 23), (25, 26)), 0, scored=[2, 2]),
]
WHOLE = LayerPath.whole(6)


def librarys_own(family: str, model: Any, path: LayerPath) -> list[list[list[float]]]:
    """After each layer, for each example, each choice's log-likelihood."""
    inner = model.transformer if family == "gpt2" else model.model
    norm = inner.ln_f if family == "gpt2" else inner.norm
    cap = getattr(model.config, "final_logit_softcapping", None)
    found: list[list[list[float]]] = [[] for _ in path.kept]
    for one in ENCODED:
        of_example: list[list[float]] = [[] for _ in path.kept]
        for choice, size in zip(one.choices, one.sizes, strict=True):
            with torch.inference_mode():
                states = model(
                    torch.tensor([[*one.context, *choice[:-1]]]),
                    output_hidden_states=True,
                    use_cache=False,
                ).hidden_states
                for number, state in enumerate(states[1:]):
                    # The library has the last state after the norm already.
                    ended = state if number + 1 == path.depth else norm(state)
                    logits = model.lm_head(ended)[0]
                    logits = logits if cap is None else cap * torch.tanh(logits / cap)
                    scored = logits.log_softmax(-1)[-size.tokens :, list(choice[-size.tokens :])]
                    of_example[number].append(float(scored.diagonal().sum()))
        for number, logliks in enumerate(of_example):
            found[number].append(logliks)
    return found


@pytest.mark.parametrize("capabilities", [PLAIN, EVERYTHING], ids=["plain", "shared"])
@pytest.mark.parametrize(
    ("family", "changes"),
    [("llama", {}), ("gpt2", {}), ("gemma3", {"final_logit_softcapping": 2.0})],
)
def test_the_lens_is_the_librarys_states_through_norm_and_head(
    family: str, changes: dict[str, Any], capabilities: Capabilities
) -> None:
    model = tiny.build(family, **changes)
    expected = librarys_own(family, model, WHOLE)
    engine = SharedEngine(
        tiny.LayeredModel(model), ENCODED, Choosing(Scoring.LOGLIK), capabilities=capabilities
    )
    paths = lens_paths(WHOLE)
    assert [path.kept for path in paths] == [tuple(range(count)) for count in range(1, 7)]
    measured = list(engine(paths, [Batch((0, 1, 2))]))
    by_path = outcomes_by_path(measured)
    for path, of_examples in zip(paths, expected, strict=True):
        for position, logliks in enumerate(of_examples):
            outcome = by_path[path][position]
            assert [one.loglik for one in outcome.choices] == pytest.approx(logliks, abs=2e-5)
            assert outcome.answer == logliks.index(max(logliks))
    # All of it is one pass through the layers.
    tokens = sum(one.layer_tokens for one in measured) / 6
    assert tokens == engine_tokens(model, capabilities)


def engine_tokens(model: Any, capabilities: Capabilities) -> float:
    engine = SharedEngine(
        tiny.LayeredModel(model), ENCODED, Choosing(Scoring.LOGLIK), capabilities=capabilities
    )
    return sum(one.layer_tokens for one in engine([WHOLE], [Batch((0, 1, 2))])) / 6


def test_the_lens_of_a_shallower_model_is_of_its_own_layers() -> None:
    path = LayerPath((0, 2, 5), 6)
    assert [one.kept for one in lens_paths(path)] == [(0,), (0, 2), (0, 2, 5)]


# What is made of the outcomes


def outcome(position: int, right: int, *probabilities: float) -> Outcome:
    """One example's; the probabilities need not sum to 1."""
    choices = tuple(ChoiceOutcome(math.log(one), 1, 1, 1) for one in probabilities)
    answer = probabilities.index(max(probabilities))
    return Outcome(position, choices, answer, float(answer == right))


RIGHT = {0: 0, 1: 1, 2: 0, 3: 0}
OUTCOMES = {
    0: outcome(0, 0, 0.1, 0.1),  # of those offered, a half
    1: outcome(1, 1, 0.1, 0.3),
    2: outcome(2, 0, 0.2, 0.6),
    3: outcome(3, 0, 0.4, 0.1),
}


def test_bits_are_the_labels_entropy_less_the_cross_entropy() -> None:
    found = lens(OUTCOMES, RIGHT, Scoring.LOGLIK)
    loglik = sum(map(math.log2, (0.5, 0.75, 0.25, 0.8))) / 4
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert found.accuracy == 0.75
    assert found.accuracy_interval == wilson(3, 4)
    assert found.loglik == pytest.approx(loglik)
    assert found.bits == pytest.approx(entropy + loglik)
    assert found.bits_interval.low < found.bits < found.bits_interval.high


def test_a_head_that_knows_has_all_bits_and_one_that_knows_nothing_none() -> None:
    right = {one: one % 4 for one in range(200)}

    def of(probability: float) -> Lens:
        others = (1 - probability) / 3
        return lens(
            {
                one: outcome(one, label, *(probability if i == label else others for i in range(4)))
                for one, label in right.items()
            },
            right,
            Scoring.LOGLIK,
        )

    assert of(1 - 1e-12).bits == pytest.approx(2)
    assert of(0.25).bits == pytest.approx(0)
    # Worse than nothing, but by no more than one example may say.
    wrong = of(1e-30)
    assert wrong.bits == pytest.approx(2 + FAINTEST / math.log(2))


def test_intervals_mind_clusters_and_the_entropys_own_uncertainty() -> None:
    """Labels unlike each other in frequency: were the entropy certain, the interval had no width.

    A head that says the labels' frequencies has 0 bits, whatever the labels of the sample are.
    """
    draw, inside = random.Random(3), 0
    for _ in range(100):
        right = {one: int(draw.random() < 0.2) for one in range(60)}
        outcomes = {one: outcome(one, label, 0.8, 0.2) for one, label in right.items()}
        found = lens(outcomes, right, Scoring.LOGLIK)
        inside += found.bits_interval.low <= 0 <= found.bits_interval.high
    assert inside >= 93
    alone = lens(OUTCOMES, RIGHT, Scoring.LOGLIK)
    together = lens(OUTCOMES, RIGHT, Scoring.LOGLIK, {0: 7, 1: 8, 2: 8, 3: 7})
    for name in ("accuracy_interval", "loglik_interval", "bits_interval"):
        one, other = (getattr(found, name) for found in (alone, together))
        assert other.high - other.low > one.high - one.low


def test_the_lens_needs_choices() -> None:
    assert lens(OUTCOMES, RIGHT, Scoring.LOGLIK).accuracy == 0.75
    only = {0: Outcome(0, (ChoiceOutcome(-1.0, 1, 1, 1),), "12", 1.0)}
    for outcomes in (only, {}):
        with pytest.raises(InputError, match="there are none to compare; give a task with choices"):
            lens(outcomes, RIGHT, Scoring.LOGLIK)


@pytest.mark.parametrize("size", [1, 5])
def test_the_interval_of_a_mean_holds_it_as_often_as_it_says(size: int) -> None:
    """Numbers of normal clusters; and it is wider where it says so more surely."""
    draw, inside = random.Random(1), 0
    for _ in range(400):
        of_clusters = [draw.gauss(0, 3) for _ in range(20)]
        values = [one + draw.gauss(0, 1) for one in of_clusters for _ in range(size)]
        clusters = [index // size for index in range(len(values))]
        low, high = mean_interval(values, clusters)
        inside += low <= 0 <= high
    assert 0.93 * 400 <= inside <= 0.985 * 400
    assert mean_interval(values, clusters, 0.99).low < low
    assert mean_interval([2.0], None) == Interval(-math.inf, math.inf)
    assert mean_interval([2.0, 2.0], [4, 4]) == Interval(-math.inf, math.inf)
    assert mean_interval([2.0] * 9).low < 2 < mean_interval([2.0] * 9).high
