"""The shared engine gives what the naive one gives, for every family and any input."""

from __future__ import annotations

import random

import pytest

from telltale.engine.batches import canonical_batches
from telltale.engine.choosing import Choosing
from telltale.engine.encode import EncodedExample, common_token_prefix
from telltale.engine.layout import row_sizes
from telltale.engine.naive import NaiveEngine
from telltale.engine.selftest import find_capabilities
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore
from telltale.measure import Batch, Measurement, outcomes_by_path
from telltale.models.layered import LayeredModel
from telltale.paths import LayerPath
from telltale.tasks import Scoring
from tests import tiny
from tests.encoded import example

BOTH = Capabilities(keeps_prefix=True, shares_context=True, packs=True, padding_free=True)
PREFIX_ONLY = Capabilities(keeps_prefix=True, shares_context=False)
PLAIN = Capabilities(keeps_prefix=False, shares_context=False)
EXPECTED = {
    "llama": BOTH,
    "qwen2": BOTH,
    "qwen2-window": PREFIX_ONLY,
    "qwen3": BOTH,
    "qwen3-window": PREFIX_ONLY,
    "mistral": BOTH,
    "mistral-window": PREFIX_ONLY,
    "mixtral": BOTH,
    "phi3": BOTH,
    "phi3-window": PREFIX_ONLY,
    "olmo2": BOTH,
    "gemma3": PREFIX_ONLY,
    "gpt2": BOTH,
    "gpt_neox": BOTH,
    "falcon": BOTH,
    "falcon-40b": BOTH,
    "falcon-alibi": PREFIX_ONLY,  # a bias by index would place branches wrongly
}
LONGEST = 40
# Two seeds for a family whose layers are called as another's are.
SEEDS = dict.fromkeys(tiny.FAMILIES, 2) | dict.fromkeys(
    ["llama", "qwen2", "qwen2-window", "mistral", "mistral-window", "gemma3", "gpt2"], 6
)
CASES = [(family, seed) for family, seeds in SEEDS.items() for seed in range(seeds)]


def random_examples(source: random.Random, count: int) -> list[EncodedExample]:
    """Examples of any shape, with or without common first tokens."""
    prefix = tuple(source.randrange(300) for _ in range(source.choice([0, 0, 1, 5, 14])))
    examples = []
    for _ in range(count):
        own = tuple(source.randrange(300) for _ in range(source.randint(1, LONGEST - len(prefix))))
        if examples and source.random() < 0.3:  # as one of a subject, or a passage asked twice
            before = source.choice(examples).context[len(prefix) :]
            own = (before[: source.randint(1, len(before))] + own)[: LONGEST - len(prefix)]
        longest = source.choice([1, 1, 2, 6])
        choices = list(
            dict.fromkeys(
                tuple(source.randrange(300) for _ in range(source.randint(1, longest)))
                for _ in range(source.randint(2, 5))
            )
        )
        # A choice that begins as another does, and one that goes on from it.
        choices.append((*choices[0], 5))
        scored = [
            len(choice) if source.random() < 0.5 else source.randint(1, len(choice))
            for choice in choices
        ]
        examples.append(example(prefix + own, choices, source.randrange(2), scored=scored))
    return examples


def random_paths(source: random.Random, depth: int) -> list[LayerPath]:
    whole = LayerPath.whole(depth)
    some = [
        LayerPath(tuple(sorted(source.sample(range(depth), source.randint(1, depth)))), depth)
        for _ in range(3)
    ]
    return list(dict.fromkeys([whole, *some, whole.without(source.randrange(depth))]))


def compare(found: list[Measurement], oracle: list[Measurement]) -> None:
    ours, theirs = outcomes_by_path(found), outcomes_by_path(oracle)
    assert ours.keys() == theirs.keys()
    for path, outcomes in theirs.items():
        assert ours[path].keys() == outcomes.keys()
        for position, expected in outcomes.items():
            outcome = ours[path][position]
            assert outcome.answer == expected.answer
            assert outcome.score == expected.score
            for choice, other in zip(outcome.choices, expected.choices, strict=True):
                assert choice.loglik == pytest.approx(other.loglik, abs=1e-5, rel=0)
                assert (choice.tokens, choice.bytes) == (other.tokens, other.bytes)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_self_test_finds_what_an_architecture_can_do(family: str) -> None:
    assert find_capabilities(tiny.layered(family), longest=LONGEST) == EXPECTED[family]


@pytest.mark.parametrize("generates", [False, True])
def test_nothing_is_tried_past_what_a_model_takes(generates: bool) -> None:
    model = LayeredModel(tiny.build("gpt2", n_positions=64))  # a 65th token has no position
    found = find_capabilities(model, longest=64, branch=30, generates=generates)
    assert found == BOTH._replace(
        continues=generates, packs=not generates, padding_free=not generates
    )


@pytest.mark.parametrize("family", ["mistral-window", "gemma3", "qwen2-window"])
def test_a_window_longer_than_the_input_takes_nothing_away(family: str) -> None:
    assert find_capabilities(tiny.layered(family), longest=4, branch=2) == BOTH


@pytest.mark.parametrize(("family", "seed"), CASES)
def test_shared_and_naive_engines_agree(family: str, seed: int) -> None:
    source = random.Random(f"{family} {seed}")
    model = tiny.layered(family)
    examples = random_examples(source, source.randint(2, 9))
    prefix = common_token_prefix(examples)
    capabilities = find_capabilities(model, longest=LONGEST)
    sizes = {
        i: row_sizes(
            example,
            prefix_length=len(prefix) if capabilities.keeps_prefix else 0,
            shares_context=capabilities.shares_context,
        )
        for i, example in enumerate(examples)
    }
    batches = canonical_batches(sizes, token_budget=source.choice([1, 60, 200, 10_000]))
    paths = random_paths(source, model.depth)
    scoring = source.choice(list(Scoring))
    engine = SharedEngine(
        model,
        examples,
        Choosing(scoring),
        capabilities=capabilities,
        token_prefix=prefix,
        store=StateStore(source.choice([0, 20_000, 10**9])),
    )
    naive = NaiveEngine(model, examples, scoring)
    compare(list(engine(paths, batches)), list(naive(paths, batches)))


@pytest.mark.parametrize("family", ["llama", "mistral-window", "gemma3", "gpt2", "falcon-alibi"])
def test_choices_that_have_nothing_in_common_are_measured_alike(family: str) -> None:
    """As where the blank that choices fill is the first word, and no token begins texts."""
    source = random.Random(family)
    model = tiny.layered(family)

    def choice() -> tuple[int, ...]:
        return tuple(source.randrange(300) for _ in range(source.randint(5, 20)))

    examples = [
        example((), [choice() for _ in range(3)], scored=[source.randint(1, 4) for _ in range(3)])
        for _ in range(4)
    ]
    examples.append(random_examples(source, 1)[0])
    engine = SharedEngine(
        model,
        examples,
        Choosing(Scoring.LOGLIK_PER_CHARACTER),
        capabilities=find_capabilities(model, longest=LONGEST),
        token_prefix=common_token_prefix(examples),
    )
    naive = NaiveEngine(model, examples, Scoring.LOGLIK_PER_CHARACTER)
    paths, batches = random_paths(source, model.depth), [Batch((0, 1, 2)), Batch((3, 4))]
    compare(list(engine(paths, batches)), list(naive(paths, batches)))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_outcomes_do_not_depend_on_companions(family: str) -> None:
    """To the last bit: whatever paths are measured beside one, before one, or kept in the store."""
    source = random.Random(family)
    model = tiny.layered(family)
    examples = random_examples(source, 8)
    sizes = {i: (1, len(example.context)) for i, example in enumerate(examples)}
    batches = canonical_batches(sizes, token_budget=100)
    paths = random_paths(source, model.depth)

    def measured(asked: list[list[LayerPath]], budget: int) -> dict[LayerPath, object]:
        engine = SharedEngine(
            model,
            examples,
            Choosing(Scoring.LOGLIK),
            capabilities=EXPECTED[family],
            token_prefix=common_token_prefix(examples),
            store=StateStore(budget),
        )
        found = [m for together in asked for m in engine(together, batches)]
        return dict(outcomes_by_path(found))

    alone: dict[LayerPath, object] = {}
    for path in paths:
        alone.update(measured([[path]], 0))
    assert measured([paths], 0) == alone
    assert measured([paths[:2], paths[::-1], paths], 10**9) == alone
    assert measured([paths], 3000) == alone


def test_leaving_layers_out_equals_a_model_built_without_them() -> None:
    """Against the architecture itself: a physically smaller model, never driven by layers."""
    import torch

    whole = tiny.build("llama")
    model = tiny.layered("llama")
    path = LayerPath((0, 2, 5), 6)
    smaller = tiny.build("llama", num_hidden_layers=3)
    smaller.load_state_dict(
        {
            name.replace(f"layers.{old}.", f"layers.{new}."): value
            for new, old in enumerate(path.kept)
            for name, value in whole.state_dict().items()
            if "layers." not in name or f"layers.{old}." in name
        }
    )
    tokens = torch.arange(1, 30)[None]
    with torch.inference_mode():
        expected = smaller(tokens).logits[0]
    driven = model.logits(model.run_path(path, model.prepare(tokens))[0])
    torch.testing.assert_close(driven, expected, atol=1e-5, rtol=0)
