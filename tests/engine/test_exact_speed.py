"""Whatever is shared and whoever leaves early, a search finds what the slow way finds."""

from __future__ import annotations

import random

import pytest

from telltale.engine.batches import batches_in_order
from telltale.engine.choosing import Choosing
from telltale.engine.encode import common_token_prefix
from telltale.engine.layout import row_sizes
from telltale.engine.naive import NaiveEngine
from telltale.engine.selftest import find_capabilities
from telltale.engine.shared import SharedEngine
from telltale.engine.store import StateStore
from telltale.measure import Batch
from telltale.objectives import OBJECTIVES, highest_of, values_by
from telltale.paths import LayerPath
from telltale.searches import Found, GreedyRemoval
from telltale.tasks import Scoring
from tests import tiny
from tests.engine.test_agreement import LONGEST, random_examples

# Each has layers that are called in another way, or other capabilities.
TWELVE = (
    *("llama", "qwen2-window", "qwen3", "mistral-window", "mixtral", "phi3", "olmo2", "gemma3"),
    *("gpt2", "gpt_neox", "falcon", "falcon-alibi"),
)
COUNT = 9


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("family", TWELVE)
def test_exact_elimination_on_shared_work_finds_what_the_slow_way_finds(
    family: str, objective: str
) -> None:
    source = random.Random(f"{family} {objective}")
    model = tiny.layered(family)
    examples = random_examples(source, COUNT)
    capabilities = find_capabilities(model, longest=LONGEST)
    prefix = common_token_prefix(examples) if capabilities.keeps_prefix else ()
    right = {position: one.answer or 0 for position, one in enumerate(examples)}
    order = source.sample(range(COUNT), COUNT)
    sizes = {
        position: row_sizes(
            examples[position],
            prefix_length=len(prefix),
            shares_context=capabilities.shares_context,
        )
        for position in order
    }
    batches = batches_in_order(order, sizes, token_budget=100, pads=not capabilities.packs)
    refused, *protected = source.sample(range(model.depth), 2)
    reader = Choosing(Scoring.LOGLIK)

    def found(speed: str) -> Found:
        engine = SharedEngine(
            model,
            examples,
            reader,
            capabilities=capabilities,
            token_prefix=prefix,
            store=StateStore(source.choice([0, 20_000, 10**9])),
        )
        search = GreedyRemoval(
            tolerance=0.3,
            max_removed=2,
            protected=frozenset(protected),
            value=values_by(OBJECTIVES[objective], Scoring.LOGLIK, right),
            highest=highest_of(OBJECTIVES[objective]),
            admits=lambda path: refused not in path.removed,
            speed=speed,
        )
        if speed == "full":
            slow = [Batch((position,)) for position in range(COUNT)]
            return search(NaiveEngine(model, examples, Scoring.LOGLIK), slow, model.whole)
        return search(engine, batches, model.whole)

    slow, exact = found("full"), found("exact")
    assert [one.removed for one in exact.kept] == [one.removed for one in slow.kept]
    assert [one.accuracy for one in exact.kept] == [one.accuracy for one in slow.kept]
    values = [[one.value for one in found.kept] for found in (exact, slow)]
    assert values[0] == pytest.approx(values[1], abs=1e-5)
    assert [done.refused for done in exact.rounds] == [done.refused for done in slow.rounds]
    assert LayerPath.whole(model.depth) == exact.start
