"""Each rival search is its own definition, rewritten in a few lines, on tables and on a model."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

import telltale
from telltale.engine.layer_scores import layer_scores, score_named
from telltale.engine.perplexity import page_from
from telltale.errors import InputError
from telltale.models.layered import LayeredModel
from telltale.paths import LayerPath
from telltale.searches import (
    SEARCHES,
    SOURCES,
    BeamSearch,
    BlockRemoval,
    Evolution,
    EvolvedRemoval,
    LastLayers,
    PerplexityRemoval,
    RandomRemoval,
    Round,
    Search,
    SlebRemoval,
    SwapRemoval,
    name_of,
    search_named,
    search_of,
    source_of,
)
from telltale.searches.evolution import switched
from telltale.study import read_study
from telltale.study.forecast import search_ahead
from telltale.study.settings import Settings
from telltale.watcher import Watcher
from tests import tiny
from tests.engine.test_layer_scores import BATCHES as ENCODED_BATCHES
from tests.engine.test_layer_scores import ENCODED, cosines, states_of
from tests.searches.properties import BATCHES, measure_of, random_table
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LAYERS = 7
WHOLE = LayerPath.whole(LAYERS)
LIBERAL: Any = {"tolerance": 1.0, "highest": 1.0}


def without(*layers: int) -> LayerPath:
    return LayerPath.from_removed(layers, LAYERS)


def text_table(seed: int) -> Any:
    """A perplexity for every path, that of paths with fewer layers higher."""

    def perplexity(paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        return {
            path: 10 + len(path.removed) + random.Random(f"text {seed} {path.removed}").random()
            for path in paths
        }

    return perplexity


def removed_by(search: Search, seed: int = 1) -> list[tuple[int, ...]]:
    found = search(measure_of(random_table(seed, LAYERS)), BATCHES, WHOLE)
    return [model.removed for model in found.kept]


def values(seed: int, size: int) -> dict[frozenset[int], float]:
    """The table's accuracy of every set of so many layers removed."""
    table = random_table(seed, LAYERS)
    return {
        frozenset(gone): float(table(frozenset(gone)))
        for gone in itertools.combinations(range(LAYERS), size)
    }


# On tables


def test_the_last_layers_go_from_the_end_and_the_very_last_stays() -> None:
    assert removed_by(LastLayers(**LIBERAL))[-1] == (5, 4, 3, 2, 1, 0)
    assert removed_by(LastLayers(**LIBERAL, protected=frozenset({4}), max_removed=2))[-1] == (5, 3)


def test_a_random_order_is_that_of_its_seed_and_no_layer_is_favoured() -> None:
    orders = [removed_by(RandomRemoval(**LIBERAL, seed=seed))[-1] for seed in range(210)]
    assert removed_by(RandomRemoval(**LIBERAL, seed=5), seed=2)[-1] == orders[5]
    firsts = [sum(order[0] == layer for order in orders) for layer in range(LAYERS)]
    chi_squared = sum((count - 30) ** 2 / 30 for count in firsts)
    assert chi_squared < 22.5  # of 6 degrees of freedom: one of a thousand


@pytest.mark.parametrize("seed", range(5))
def test_one_shot_perplexity_ranks_layers_by_the_text_without_each(seed: int) -> None:
    text = text_table(seed)
    order = sorted(range(LAYERS), key=lambda layer: text([without(layer)])[without(layer)])
    assert removed_by(PerplexityRemoval(**LIBERAL, perplexity=text))[-1] == tuple(order[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_sleb_removes_step_by_step_what_the_text_misses_least(seed: int) -> None:
    text, gone = text_table(seed), list[int]()
    while len(gone) < LAYERS - 1:
        paths = {one: without(*gone, one) for one in range(LAYERS) if one not in gone}
        gone.append(min(paths, key=lambda one: text([paths[one]])[paths[one]]))
    assert removed_by(SlebRemoval(**LIBERAL, perplexity=text))[-1] == tuple(gone)
    one_shot = removed_by(PerplexityRemoval(**LIBERAL, perplexity=text))[-1]
    assert one_shot[0] == gone[0]
    assert seed or one_shot != tuple(gone)


@pytest.mark.parametrize("protected", [frozenset[int](), frozenset({2})])
def test_the_block_of_each_size_is_that_of_the_least_distance(protected: frozenset[int]) -> None:
    source = random.Random(3)
    distances = {
        "angular-distance" if size == 1 else f"angular-distance:{size}": [
            source.random() if first + size <= LAYERS else 1.0 for first in range(LAYERS)
        ]
        for size in range(1, 5)
    }
    search = BlockRemoval(**LIBERAL, max_removed=4, protected=protected, layer_scores=distances)
    assert list(search.needs) == list(distances)
    for size, (of_size, found) in enumerate(
        zip(distances.values(), removed_by(search)[1:], strict=True), start=1
    ):
        blocks = [tuple(range(first, first + size)) for first in range(LAYERS - size + 1)]
        free = [block for block in blocks if protected.isdisjoint(block)]
        assert found == min(free, key=lambda block: of_size[block[0]])


def test_blocks_need_to_know_how_large_they_may_be() -> None:
    with pytest.raises(InputError, match="contiguous compares blocks of every size up to `max_re"):
        _ = BlockRemoval().needs
    # Larger than the model: there are no more.
    scores = {name: [0.5] * LAYERS for name in BlockRemoval(max_removed=9).needs}
    search = BlockRemoval(**LIBERAL, max_removed=9, layer_scores=scores)
    assert len(removed_by(search)) == LAYERS


@pytest.mark.parametrize("speed", ["full", "exact"])
@pytest.mark.parametrize("width", [1, 3, 100])
def test_a_beam_is_the_best_children_of_the_beam_before(width: int, speed: str) -> None:
    for seed in range(8):
        table = random_table(seed, LAYERS)
        beam, best = [frozenset[int]()], [()]
        for _ in range(LAYERS - 1):
            children = dict.fromkeys(
                gone | {layer} for gone in beam for layer in range(LAYERS) if layer not in gone
            )
            beam = sorted(children, key=lambda gone: -table(gone))[:width]
            best.append(tuple(sorted(beam[0])))
        found = removed_by(BeamSearch(**LIBERAL, width=width, speed=speed), seed)
        assert [tuple(sorted(gone)) for gone in found] == best
    # As wide as there are paths, it finds the best of every depth.
    if width == 100:
        assert table(frozenset(best[3])) == max(values(seed, 3).values())


def test_a_beam_of_one_is_greedy_removal() -> None:
    for seed in range(10):
        one = removed_by(BeamSearch(tolerance=0.1, highest=1.0, width=1), seed)
        assert one == removed_by(replace(SEARCHES["greedy"], tolerance=0.1, highest=1.0), seed)


def swapped_by_hand(seed: int, most: int) -> list[tuple[int, ...]]:
    """The path of each depth, by greedy removal and swaps, from the description alone."""
    table = random_table(seed, LAYERS)

    def best(some: Sequence[frozenset[int]]) -> frozenset[int]:
        return max(some, key=table)  # of equals the first

    def children(gone: frozenset[int]) -> list[frozenset[int]]:
        return [gone | {layer} for layer in range(LAYERS) if layer not in gone]

    gone, tried, seen = frozenset[int](), set[frozenset[int]](), [frozenset[int]()]
    for _ in range(most):
        tried.add(gone)
        gone = best(children(gone))
        seen.append(gone)
        while True:
            back = [gone - {one} for one in sorted(gone)]
            back = [one for one in back if one not in tried and one]
            if not back:
                break
            longer = best(back)
            tried.add(longer)
            other = best([one for one in children(longer) if one != gone])
            seen += [longer, other]
            if table(other) <= table(gone):
                break
            gone = other
    return [
        tuple(sorted(max((one for one in seen if len(one) == size), key=table)))
        for size in range(most + 1)
    ]


def test_swaps_are_as_described_and_never_end_below_greedy_removal_of_that_step() -> None:
    better = 0
    for seed in range(40):
        search = SwapRemoval(**LIBERAL, max_removed=4, speed=("full", "exact")[seed % 2])
        found = search(measure_of(random_table(seed, LAYERS)), BATCHES, WHOLE)
        kept = [tuple(sorted(model.removed)) for model in found.kept]
        assert kept == swapped_by_hand(seed, 4)
        greedy = replace(SEARCHES["greedy"], **LIBERAL, max_removed=2)
        alone = greedy(measure_of(random_table(seed, LAYERS)), BATCHES, WHOLE).kept
        assert found.kept[2].value >= alone[2].value
        better += found.kept[2].value > alone[2].value
    assert better > 3


def test_an_evolution_that_tries_every_path_finds_the_best_of_each_depth() -> None:
    better = 0
    for seed in range(4):
        speed = ("full", "exact")[seed % 2]
        search = EvolvedRemoval(**LIBERAL, max_removed=4, generations=2, offspring=90, speed=speed)
        found = search(measure_of(random_table(seed, LAYERS)), BATCHES, WHOLE)
        greedy = replace(SEARCHES["greedy"], **LIBERAL, max_removed=4)
        alone = greedy(measure_of(random_table(seed, LAYERS)), BATCHES, WHOLE).kept
        for count in range(1, 5):
            assert found.kept[count].value == pytest.approx(
                float(max(values(seed, count).values()))
            )
        better += found.kept[4].value > alone[4].value
    assert better > 0


def test_an_evolution_tries_so_many_paths_and_none_twice_in_a_depth() -> None:
    search = EvolvedRemoval(**LIBERAL, generations=3, offspring=5, protected=frozenset({1}))
    found = search(measure_of(random_table(2, LAYERS)), BATCHES, WHOLE)
    by_depth: dict[int, list[LayerPath]] = {}
    for done in found.rounds:
        assert len(done.tried) <= max(LAYERS, 5)
        assert all(1 in path.kept for path in done.tried)
        if any(one.put_back for one in done.tried.values()):
            by_depth.setdefault(next(iter(done.tried)).depth, []).extend(done.tried)
    assert max(map(len, by_depth.values())) == 15
    for tried in by_depth.values():
        assert len(set(tried)) == len(tried)
    other = replace(search, seed=1)(measure_of(random_table(2, LAYERS)), BATCHES, WHOLE)
    assert other.rounds != found.rounds
    with pytest.raises(InputError, match="an evolution needs numbers of at least 1, got 0"):
        EvolvedRemoval(generations=0)


def test_a_level_switch_keeps_how_many_are_gone_and_changes_at_most_three() -> None:
    source, free = random.Random(1), range(9)
    gone = frozenset({0, 4, 5, 7})
    counts = [0, 0, 0, 0]
    for _ in range(900):
        other = switched(gone, free, source)
        assert len(other) == 4
        counts[len(other - gone)] += 1
    # The lesser of two draws from 1 to 3: five, three and one of nine.
    assert counts[0] == 0
    for count, expected in zip(counts[1:], (500, 300, 100), strict=True):
        assert abs(count - expected) < 4 * math.sqrt(expected)
    assert switched(frozenset({1}), [1], source) == {1}


def test_evolution_finds_what_the_text_misses_least_and_only_measures_what_survives() -> None:
    text = text_table(2)
    asked: list[LayerPath] = []

    def counting(paths: Sequence[LayerPath]) -> Mapping[LayerPath, float]:
        asked.extend(paths)
        found: Mapping[LayerPath, float] = text(paths)
        return found

    search = Evolution(**LIBERAL, counts=(2, 4), perplexity=counting)
    found = search(measure_of(random_table(1, LAYERS)), BATCHES, WHOLE)
    assert [len(model.removed) for model in found.kept] == [0, 2, 4]
    for model in found.kept[1:]:
        every = map(
            without, *zip(*itertools.combinations(range(LAYERS), len(model.removed)), strict=True)
        )
        best = min(every, key=lambda path: text([path])[path])
        assert model.path == best
    assert all(len(done.tried) == 1 for done in found.rounds)
    assert len(asked) < 2 * (32 + 20 * 17) + 1
    assert removed_by(search) == removed_by(search)
    few = Evolution(**LIBERAL, max_removed=3, generations=1, beginnings=2, perplexity=text)
    assert [len(gone) for gone in removed_by(few)] == [0, 1, 2, 3]


@pytest.mark.parametrize("fields", [{"counts": (0,)}, {"offspring": 0}, {"generations": 0}])
def test_an_evolution_of_nothing_is_refused(fields: Any) -> None:
    with pytest.raises(InputError, match="needs numbers of at least 1"):
        Evolution(**fields)


# Names


def test_a_name_may_have_a_number_and_is_found_again() -> None:
    assert search_named("beam:8") == BeamSearch(width=8)
    assert search_named("random:3") == RandomRemoval(seed=3)
    for name in (*SEARCHES, "beam:8", "random:3", "evopress:1"):
        search = search_named(name)
        assert name_of(search) == name
        assert source_of(name)
        assert search_of({"method": search.method, **search.own_settings}) == search
    assert SOURCES.keys() == SEARCHES.keys()
    assert name_of(Evolution(generations=3)) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("slab", "`search` must be greedy"),
        ("sleb:3", "`search` must be greedy"),
        ("beam:", "takes a number, its width, such as beam:3"),
        ("beam:x", "takes a number, its width"),
        ("random:-1", "takes a number, its seed"),
        ("beam:0", "the width of a beam must be at least 1"),
    ],
)
def test_a_name_that_is_none_is_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        search_named(name)


def test_a_search_by_a_text_without_one_says_so() -> None:
    with pytest.raises(InputError, match="goes by the perplexity of a text"):
        removed_by(SlebRemoval(**LIBERAL))


# On a model


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_distance_over_a_block_is_that_of_the_librarys_own_states(family: str) -> None:
    model = tiny.build(family).double()
    expected = []
    for first in range(6):
        angles = []
        for one in ENCODED:
            right, scored = one.choices[one.answer], one.sizes[one.answer].tokens
            lasts = [
                state[-1]
                for state in states_of(model, [*one.context, *right[: len(right) - scored]])
            ]
            if first + 3 < len(lasts):
                angle = cosines(lasts[first], lasts[first + 3]).clamp(-1, 1).arccos()
                angles.append(float(angle) / math.pi)
        expected.append(sum(angles) / len(angles) if angles else 1.0)
    score = score_named("angular-distance:3")
    assert score is not None
    found = layer_scores(LayeredModel(model), ENCODED, ENCODED_BATCHES, [score])
    assert found["angular-distance:3"] == pytest.approx(expected, rel=1e-9)
    assert expected[4:] == [1.0, 1.0]
    for name in ("angular-distance:1", "angular-distance:x", "magnitude:2", "nonsense"):
        assert score_named(name) is None


def perplexity_by_hand(removed: Sequence[int]) -> float:
    """Of `PAGE` in windows as the model reads them, by plain transformers on fewer layers."""
    from telltale.engine.perplexity import WINDOW

    model, tokenizer = tiny.build("llama"), tiny.tokenizer()
    layers = [layer for at, layer in enumerate(model.model.layers) if at not in removed]
    model.model.layers = torch.nn.ModuleList(layers)
    tokens = tokenizer(page_from(PAGE).text)["input_ids"]
    size, total, count = min(WINDOW, 256), 0.0, 0
    for start in range(0, len(tokens), size):
        window = torch.tensor([tokens[start : start + size]])
        if window.shape[1] > 1:
            with torch.inference_mode():
                logits = model(window, use_cache=False).logits[0, :-1]
            logliks = logits.log_softmax(-1).gather(1, window[0, 1:, None])
            total, count = total + float(logliks.sum()), count + len(logliks)
    return math.exp(-total / count)


ASKED: Any = {
    "limit": 24,
    "held_out": 20,
    "tolerance": 1.0,
    "max_removed": 3,
    "text": PAGE,
    "dtype": "float32",
}


def search(model: Path, out: Path, name: str | Search, **more: Any) -> Any:
    return telltale.search(str(model), "capitals", out=out, search=name, **{**ASKED, **more})


class Stops(Watcher):
    """Ends a search after its second round."""

    def round_done(self, done: Round) -> None:
        if len(done.first.path.removed) == 2:
            raise KeyboardInterrupt


def test_searches_by_a_text_are_those_by_plain_transformers_also_where_they_were_stopped(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tiny_folder, tmp_path / "s", "sleb", watcher=Stops())
    so_far = read_study(tmp_path / "s").found
    assert so_far is not None
    result = search(tiny_folder, tmp_path / "s", "sleb")
    gone = list[int]()
    for _ in range(3):
        left = [layer for layer in range(6) if layer not in gone]
        found = {one: perplexity_by_hand([*gone, one]) for one in left}
        gone.append(min(found, key=lambda one: found[one]))
    assert [list(model.removed) for model in result.models] == [gone[:n] for n in range(4)]
    assert [list(model.removed) for model in so_far.kept] == [gone[:n] for n in range(3)]
    assert result.models[3].perplexity == pytest.approx(perplexity_by_hand(gone))
    first = {one: perplexity_by_hand([one]) for one in range(6)}
    one_shot = search(tiny_folder, tmp_path / "s", "perplexity")
    assert list(one_shot.models[-1].removed) == sorted(first, key=lambda one: first[one])[:3]
    assert read_study(tmp_path / "s").document == one_shot.document


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_can_be_planned(name: str) -> None:
    settings = Settings(search=search_named(name), max_removed=3)
    ahead = search_ahead(settings, WHOLE, room=100, in_a_row=False, place=0.5)
    assert ahead.kept == 4
    reads = [done.text_layers > 0 for done in ahead.rounds]
    assert any(reads) == search_named(name).reads_text
    # By one-shot perplexity the text is read for the first round alone.
    assert name not in ("sleb", "evopress") or all(reads)
    assert name != "perplexity" or reads == [True, False, False]


def test_blocks_without_a_largest_size_are_refused_before_anything_is_loaded(
    tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="give that too, such as 8"):
        search(tiny_folder, tmp_path / "s", "contiguous", max_removed=None)
    assert not (tmp_path / "s").exists()
