"""Scores of layers are what a direct computation through transformers gives, for every family."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import telltale
from telltale.engine.layer_scores import LAYER_SCORES, Observation, layer_scores, observations
from telltale.engine.workbench import Workbench
from telltale.errors import InputError, MeasurementError
from telltale.measure import Batch, BatchTooLargeError
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# Uneven, with choices of one token and of several, of which the last two are scored.
ENCODED = [
    example((5, 9, 7, 21, 40, 3), ((11, 12, 13), (14,)), 0),
    example((5, 9, 8, 2, 77, 33, 60, 61, 62, 63, 64, 65), ((31, 32, 33), (16, 17)), 1),
    example((4, 250, 17), ((21, 22, 23, 24), (25, 26)), 0, scored=[2, 2]),
    example((101, 102, 103, 104, 105, 106, 107), ((41,), (42,), (43,)), 2),
]
BATCHES = [Batch((0, 2, 1)), Batch((3,))]
# All but the joint score, which takes more examples than these tests have.
FEW = {name: score for name, score in LAYER_SCORES.items() if name != "joint"}
INFLUENCE, GRADIENT = LAYER_SCORES["block-influence"], LAYER_SCORES["gradient"]
TAYLOR = [LAYER_SCORES[f"gradient{kind}"] for kind in ("", "-absolute", "-squared")]


def texts(encoded: Sequence[Any]) -> list[tuple[int, ...]]:
    """What is read: each example's context with each distinct branch."""
    return [(*one.context, *branch) for one in encoded for branch in one.branches]


def states_of(model: Any, text: Sequence[int]) -> list[torch.Tensor]:
    """The library's own hidden states, each (tokens, width), the last before the norm."""
    last: list[Any] = []  # the library gives the last state after the norm, and this is before it
    layer = LayeredModel(model).layers[-1]
    hook = layer.register_forward_hook(lambda *given: last.append(given[2]))
    with torch.inference_mode():
        found = model(torch.tensor([text]), output_hidden_states=True, use_cache=False)
    hook.remove()
    end = last[0][0] if isinstance(last[0], tuple) else last[0]
    return [state[0] for state in (*found.hidden_states[:-1], end)]


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum(-1) / (one.norm(dim=-1) * other.norm(dim=-1))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_block_influence_is_that_of_the_librarys_own_hidden_states(family: str) -> None:
    model = tiny.build(family)
    of_layers: list[list[float]] = [[] for _ in range(6)]
    for text in texts(ENCODED):
        for of_layer, pair in zip(of_layers, pairwise(states_of(model, text)), strict=True):
            of_layer += cosines(*pair).tolist()
    expected = [1 - sum(of_layer) / len(of_layer) for of_layer in of_layers]
    scores = layer_scores(tiny.layered(family), ENCODED, BATCHES, [INFLUENCE])
    assert scores["block-influence"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_the_angular_distance_is_that_at_the_librarys_last_token_before_the_answer(
    family: str,
) -> None:
    model = tiny.build(family).double()
    angles = []
    for one in ENCODED:
        right, scored = one.choices[one.answer], one.sizes[one.answer].tokens
        text = [*one.context, *right[: len(right) - scored]]
        lasts = [state[-1] for state in states_of(model, text)]
        angles.append([float(cosines(*pair).arccos()) / math.pi for pair in pairwise(lasts)])
    expected = [sum(of_layer) / len(ENCODED) for of_layer in zip(*angles, strict=True)]
    score = LAYER_SCORES["angular-distance"]
    found = layer_scores(LayeredModel(model), ENCODED, BATCHES, [score])["angular-distance"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert 0.01 < min(found) < max(found) < 0.6


@pytest.mark.parametrize(
    ("family", "matrices"),
    [
        ("llama", r"model\.layers\.(\d+)\..*_proj\.weight"),
        ("gpt2", r"transformer\.h\.(\d+)\..*c_(?:attn|proj|fc)\.weight"),
        ("gpt_neox", r"gpt_neox\.layers\.(\d+)\..*(?:dense|query_key_value|_4h)\S*weight"),
    ],
)
def test_magnitude_is_the_mean_of_the_weights_without_their_signs(
    family: str, matrices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny.build(family)
    with torch.no_grad():
        LayeredModel(model).layers[3].mlp.apply(
            lambda part: part.weight.mul_(3) if hasattr(part, "weight") else None
        )
    weights: list[list[float]] = [[] for _ in range(6)]
    for name, weight in model.state_dict().items():
        if found := re.fullmatch(matrices, name):
            weights[int(found[1])] += weight.abs().flatten().tolist()
    expected = [sum(of_layer) / len(of_layer) for of_layer in weights]
    layered, score = LayeredModel(model), LAYER_SCORES["magnitude"]
    seen = observations(layered, ENCODED, BATCHES, with_gradients=False)
    assert score(seen) == pytest.approx(expected, rel=1e-5)
    # Nothing is read for it.
    monkeypatch.setattr(LayeredModel, "prepare", lambda *_, **__: pytest.fail("data were read"))
    found = layer_scores(layered, ENCODED, BATCHES, [score])["magnitude"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert max(found) == found[3] > 1.2 * found[2]


def logliks(model: Any, layer: int, gate: float) -> torch.Tensor:
    """Each right answer's, by the library's forward, a layer's step taken by ``gate`` only."""
    rights = [one.choices[one.answer] for one in ENCODED]
    read = [[*one.context, *right[:-1]] for one, right in zip(ENCODED, rights, strict=True)]
    longest = max(map(len, read))
    ids = torch.tensor([[*text, *[1] * (longest - len(text))] for text in read])

    def gated(_: Any, given: Any, options: Any, output: Any) -> Any:
        before = given[0] if given else options["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        step = before + gate * (after - before)
        return (step, *output[1:]) if isinstance(output, tuple) else step

    hook = LayeredModel(model).layers[layer].register_forward_hook(gated, with_kwargs=True)
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits.double().log_softmax(-1)
    hook.remove()
    found = []
    for one, right, text, row in zip(ENCODED, rights, read, logits, strict=True):
        scored = one.sizes[one.answer].tokens
        at_targets = row[len(text) - scored : len(text), list(right[-scored:])].diagonal()
        found.append(at_targets.sum())
    return torch.stack(found)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_taylor_scores_are_of_the_slopes_of_each_examples_fall_as_a_layer_is_gated(
    family: str,
) -> None:
    """By central differences of sixth order, in float64 but for what the library rounds itself."""
    if family == "mixtral":  # whose experts the library does not run in float64
        # Where a token changes its experts the fall jumps, and has no slope: so all are asked.
        model, near = tiny.build(family, num_experts_per_tok=3), 1e-4
    else:
        model, near = tiny.build(family).double(), 1e-9
    scores = layer_scores(LayeredModel(model), ENCODED, BATCHES, TAYLOR)
    step, weights = 0.04, {1: 45, 2: -9, 3: 1}
    for layer in range(6):
        differences = [
            weight * (logliks(model, layer, 1 + by * step) - logliks(model, layer, 1 - by * step))
            for by, weight in weights.items()
        ]
        slopes = torch.stack(differences).sum(0) / (60 * step)
        assert float(slopes.abs().max()) > 0.01
        expected = [slopes.mean(), slopes.abs().mean(), slopes.square().mean()]
        for score, value in zip(TAYLOR, expected, strict=True):
            assert scores[score.name][layer] == pytest.approx(float(value), rel=1e-3, abs=near)


def test_without_a_layer_that_hardly_does_anything_the_fall_is_the_score() -> None:
    """The sign and the size, on a layer whose step is made a thousandth."""
    model = tiny.build("llama").double()
    with torch.no_grad():
        for part in (model.model.layers[2].self_attn.o_proj, model.model.layers[2].mlp.down_proj):
            part.weight.mul_(1e-3)
    fall = float((logliks(model, 2, 1.0) - logliks(model, 2, 0.0)).mean())
    score = layer_scores(LayeredModel(model), ENCODED, BATCHES, [GRADIENT])["gradient"][2]
    assert abs(fall) > 1e-5
    assert score == pytest.approx(fall, rel=0.02)


@pytest.mark.parametrize("family", ["llama", "gemma3", "mixtral", "gpt2", "falcon-alibi"])
def test_scores_do_not_depend_on_how_examples_are_batched(family: str) -> None:
    model, scores = tiny.layered(family), list(FEW.values())
    expected = layer_scores(model, ENCODED, BATCHES, scores)
    for batches in ([Batch((3, 2, 1, 0))], [Batch((i,)) for i in range(4)]):
        found = layer_scores(model, ENCODED, batches, scores)
        assert found.keys() == expected.keys() == FEW.keys()
        for name, values in expected.items():
            assert found[name] == pytest.approx(values, abs=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_model_is_as_it_was_after_its_layers_were_scored(family: str) -> None:
    inner = tiny.build(family)
    weights = {name: value.clone() for name, value in inner.state_dict().items()}
    wanted = [p.requires_grad for p in inner.parameters()]
    model = LayeredModel(inner)
    tokens = torch.arange(30)[None]
    logits = model.logits(model.run_path(model.whole, model.prepare(tokens))[0])
    layer_scores(model, ENCODED, BATCHES, list(FEW.values()))
    after = inner.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert [p.requires_grad for p in inner.parameters()] == wanted
    assert all(p.grad is None for p in inner.parameters())
    assert not any("forward" in layer.__dict__ for layer in model.layers)
    again = model.logits(model.run_path(model.whole, model.prepare(tokens))[0])
    assert torch.equal(again, logits)


def test_an_observation_is_made_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = 0
    prepare = LayeredModel.prepare

    def counted(self: LayeredModel, *given: Any, **options: Any) -> Any:
        nonlocal prepared
        prepared += 1
        return prepare(self, *given, **options)

    monkeypatch.setattr(LayeredModel, "prepare", counted)
    seen = observations(tiny.layered("llama"), ENCODED, BATCHES, with_gradients=True)
    assert prepared == 0
    for count, one in enumerate(seen, start=1):
        assert prepared == count
        assert one.gradients is not None
        shape = (len(one.layout.rows), one.layout.length, 32)
        assert {state.shape for state in (*one.states, *one.gradients)} == {shape}
        assert (len(one.states), len(one.gradients)) == (7, 7)
        assert [int(n) for n in one.real.sum(-1)] == [len(row.tokens) for row in one.layout.rows]
        assert all(bool((gradient[~one.real] == 0).all()) for gradient in one.gradients)
    (plain,) = observations(tiny.layered("llama"), ENCODED, BATCHES[:1], with_gradients=False)
    assert plain.gradients is None


@pytest.mark.parametrize("with_gradients", [False, True])
def test_scores_that_are_means_share_one_pass(
    monkeypatch: pytest.MonkeyPatch, with_gradients: bool
) -> None:
    passed = {"forth": 0, "back": 0}
    run_layer, gradient_before = LayeredModel.run_layer, LayeredModel.gradient_before

    def forth(*given: Any) -> Any:
        passed["forth"] += 1
        return run_layer(*given)

    def back(*given: Any) -> Any:
        passed["back"] += 1
        return gradient_before(*given)

    model = tiny.layered("llama")
    monkeypatch.setattr(LayeredModel, "run_layer", forth)
    monkeypatch.setattr(LayeredModel, "gradient_before", back)
    known = [one for one in FEW.values() if with_gradients or not one.needs_gradients]
    found = layer_scores(model, ENCODED, BATCHES, known)
    assert passed == {"forth": 12, "back": 12 * with_gradients}
    # One that is no such mean has a pass of its own, and changes nothing.
    assert layer_scores(model, ENCODED, BATCHES, [StepLength(), *known]).items() >= found.items()
    assert passed == {"forth": 36, "back": 24 * with_gradients}


def test_no_more_is_read_at_once_than_memory_is_expected_to_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Batches are made for layouts that share more: here they have tens of tokens in common."""
    model, scores = tiny.layered("llama"), list(FEW.values())
    expected = layer_scores(model, ENCODED, BATCHES, scores)
    monkeypatch.setattr("telltale.engine.layer_scores.MOST_TOKENS", 30)
    seen = observations(model, ENCODED, [Batch((0, 1, 2, 3))], with_gradients=False)
    sizes = [(len(one.examples), one.states[0][..., 0].numel()) for one in seen]
    assert sizes == [(1, 8), (1, 28), (2, 21)]
    found = layer_scores(model, ENCODED, [Batch((0, 1, 2, 3))], scores)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-5)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.layered("llama")
    expected = layer_scores(model, ENCODED, BATCHES, [GRADIENT])["gradient"]
    gradient_before, most = LayeredModel.gradient_before, 3

    def small(self: LayeredModel, layer: int, hidden: Any, *rest: Any) -> Any:
        if hidden.shape[0] > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return gradient_before(self, layer, hidden, *rest)

    monkeypatch.setattr(LayeredModel, "gradient_before", small)
    found = layer_scores(model, ENCODED, BATCHES, [GRADIENT])["gradient"]
    assert found == pytest.approx(expected, abs=1e-5)
    most = 1
    with pytest.raises(BatchTooLargeError, match="a batch of 1 examples did not fit") as caught:
        layer_scores(model, ENCODED, BATCHES, [GRADIENT])
    assert caught.value.batch == Batch((2,))


@dataclass(frozen=True)
class StepLength:
    """A score of the test's own: how long a layer's step is beside its input."""

    name: str = "step-length"
    needs_gradients: bool = False

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        ratios = [
            [
                float(((after - before).norm(dim=-1) / before.norm(dim=-1))[one.real].mean())
                for before, after in pairwise(one.states)
            ]
            for one in observations
        ]
        return [sum(of_layer) / len(of_layer) for of_layer in zip(*ratios, strict=True)]


@pytest.mark.parametrize("writes", [{}, {"protocol": "text", "max_new_tokens": 6}])
def test_a_score_of_ones_own_is_given_what_the_others_are(
    tiny_folder: Path, writes: dict[str, Any]
) -> None:
    task = telltale.load_task("capitals", **writes)
    source = resolve_model(str(tiny_folder))
    bench = Workbench(source, task, task.examples[:12], "cpu", "float32")
    scores = [*FEW.values(), StepLength()]
    found = bench.layer_scores(scores, bench.batches(range(12)))
    assert list(found) == [*FEW, "step-length"]
    assert all(len(values) == bench.depth for values in found.values())
    assert all(value > 0 for value in found["step-length"])


@dataclass(frozen=True)
class Constant:
    values: tuple[float, ...]
    name: str = "constant"
    needs_gradients: bool = False

    def __call__(self, observations: Iterable[Observation]) -> Sequence[float]:
        return self.values


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ((1.0,) * 5, InputError, "gave 5 numbers for 6 layers"),
        ((1.0, float("nan")) * 3, MeasurementError, "gave a number that is not finite"),
    ],
)
def test_a_score_gives_a_finite_number_a_layer(
    values: tuple[float, ...], error: type[Exception], message: str
) -> None:
    model = tiny.layered("llama")

    def scored(score: Constant) -> dict[str, tuple[float, ...]]:
        return layer_scores(model, ENCODED, BATCHES, [score])

    assert scored(Constant((1.0,) * 6)) == {"constant": (1.0,) * 6}
    with pytest.raises(error, match=f"the layer score constant {message}"):
        scored(Constant(values))


def test_layers_are_scored_on_examples_with_answers() -> None:
    for encoded, batches in (([example((1, 2, 3))], [Batch((0,))]), (ENCODED, [])):
        with pytest.raises(InputError, match="examples with a right answer"):
            layer_scores(tiny.layered("llama"), encoded, batches, [INFLUENCE])


@pytest.mark.slow
def test_the_joint_score_is_that_of_states_and_gradients_taken_apart(tiny_folder: Path) -> None:
    """Of questions with the same choices: the state after the context."""
    pytest.importorskip("sklearn", reason="information is estimated with scikit-learn")
    from telltale.information import changes, estimate, joint_score

    task = telltale.load_task("boolean_expressions")
    bench = Workbench(resolve_model(str(tiny_folder)), task, task.examples[:60], "cpu", "float32")
    batches = bench.batches(range(60))
    found = bench.layer_scores([LAYER_SCORES["joint"], GRADIENT], batches)
    model = bench.model.model
    states = [[one[-1] for one in states_of(model, e.context)] for e in bench.encoded]
    order = [i for batch in batches for i in batch.examples]
    names = sorted(bench.encoded[0].choices)
    answers = np.array([names.index(one.choices[one.answer]) for one in bench.encoded])[order]
    estimates = [
        estimate(np.array([states[i][k].numpy() for i in order]), answers, np.arange(60))
        for k in range(bench.depth + 1)
    ]
    changed = [one.bits for one in changes(estimates, np.arange(60))]
    assert found["joint"] == pytest.approx(joint_score(changed, found["gradient"]), abs=1e-6)
    assert len(set(found["joint"])) > 1
