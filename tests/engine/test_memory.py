"""Memory: what is kept stays within the budget, and no budget or long example ends a search."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch

import telltale
from telltale.engine import store as store_module
from telltale.engine.choosing import Choosing
from telltale.engine.layer_scores import LAYER_SCORES, layer_scores
from telltale.engine.layout import lay_out
from telltale.engine.runner import Job, LocalRunner
from telltale.engine.shared import TOKEN_PREFIX, Capabilities, SharedEngine
from telltale.engine.store import (
    StateStore,
    free_bytes,
    in_own_memory,
    size_bytes,
    states_budget,
)
from telltale.engine.workbench import TOKEN_BUDGETS, Workbench
from telltale.measure import Batch, BatchTooLargeError, Measurement, in_halves
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.study.records import open_records
from telltale.support.arguments import size
from telltale.tasks import Scoring, make_task
from telltale.tasks.rows import Row
from tests import tiny
from tests.encoded import example
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
CPU = torch.device("cpu")
PREFIX = tuple(range(1, 21))
WHOLE = LayerPath.whole(6)
ROUND = [WHOLE, *(WHOLE.without(layer) for layer in range(6))]
ENCODED = [example((*PREFIX, 40 + i, 7), ((11, 12, 13), (14,), (15, 16))) for i in range(6)]
BATCHES = [Batch((0, 1)), Batch((2,)), Batch((3, 4, 5))]
ONE_STATE = len(PREFIX) * (32 + 2 * 16) * 4  # of the tiny Llama's token prefix


# A process of its own, whose memory nobody else has used. After a large tensor has gone, the C
# library maps none that is smaller by itself.
HOLES = """
import torch
from telltale.engine.store import StateStore, give_back_free_memory

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024

large = torch.ones(4096, 1024)
del large
give_back_free_memory()
store, small, before = StateStore(64 * 2**20), [], resident()
for number in range(60):
    store.offer((str(number), (number,)), (torch.ones(256, 1024),))
    needed = torch.ones(200 + 20 * number, 1024)  # for a moment, and larger than any hole
    small += [torch.ones(10) for _ in range(200)]
    del needed
held = store.offered_bytes // 2**20
with_holes = resident() - before
give_back_free_memory()
print(held, with_holes, resident() - before)
"""


# What the engine keeps


class Counted:
    """A model that counts the layers it runs on the token prefix."""

    def __init__(self, family: str) -> None:
        self._model = tiny.layered(family)
        self.prefix_runs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def run_layer(self, layer: int, hidden: Any, prepared: Any) -> Any:
        self.prefix_runs += hidden.shape[:2] == (1, len(PREFIX))
        return self._model.run_layer(layer, hidden, prepared)


def engine_on(family: str, budget: int) -> tuple[Counted, SharedEngine]:
    model = Counted(family)
    engine = SharedEngine(
        model,  # type: ignore[arg-type]
        ENCODED,
        Choosing(Scoring.LOGLIK),
        capabilities=Capabilities(keeps_prefix=True, shares_context=True),
        token_prefix=PREFIX,
        store=StateStore(budget),
    )
    return model, engine


def held_by(engine: SharedEngine) -> int:
    """The bytes of all that a store holds, each tensor once, as PyTorch has them."""
    store = engine.store
    states = [*store._required.values(), *store._offered.values()]
    storages = [tensor.untyped_storage() for state in states for tensor in state]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi3", "falcon"])
@pytest.mark.parametrize(
    "budget", [0, 1, ONE_STATE, 4 * ONE_STATE, 7 * ONE_STATE, 13 * ONE_STATE, 10**9, 10**13]
)
def test_what_is_kept_never_takes_more_than_the_budget_and_changes_no_outcome(
    family: str, budget: int
) -> None:
    expected = {(m.batch, m.path): m.outcomes for m in engine_on(family, 10**9)[1](ROUND, BATCHES)}
    _, engine = engine_on(family, budget)
    for _ in range(2):
        found = {}
        for measured in engine(ROUND, BATCHES):
            found[measured.batch, measured.path] = measured.outcomes
            assert held_by(engine) <= budget
        assert found == expected
    assert held_by(engine) > 0 or budget < 2 * ONE_STATE


def test_a_token_prefix_without_room_is_read_beside_each_batch_a_layer_at_a_time() -> None:
    model, engine = engine_on("llama", 0)
    read = list(engine([WHOLE], BATCHES))
    assert model.prefix_runs == 1 + 6 * len(BATCHES)  # the first is tried, and finds no room
    assert len(engine.store) == 0
    for path in ROUND:
        assert engine._passing is None
        for _ in engine([path], BATCHES):
            assert engine._passing is not None
            assert engine._passing.layers == path.kept  # one state, that after the last layer
    model, engine = engine_on("llama", 10**9)
    assert [one.outcomes for one in engine([WHOLE], BATCHES)] == [one.outcomes for one in read]
    assert model.prefix_runs == 6


def test_what_there_is_room_for_of_a_token_prefix_is_read_once() -> None:
    model, engine = engine_on("llama", 4 * ONE_STATE)
    list(engine([WHOLE], BATCHES))
    assert model.prefix_runs == 4 + 2 * len(BATCHES)
    kept = [key for key in engine.store._required if key[0] == TOKEN_PREFIX]
    assert sorted(len(prefix) for _, prefix in kept) == [1, 2, 3, 4]


@pytest.mark.parametrize("tokens", [5, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_is_kept_in_memory_that_holds_nothing_else(tokens: int, dtype: torch.dtype) -> None:
    queries, keys, values = torch.rand(2, 4, tokens, 33, dtype=dtype).split(11, dim=-1)
    hidden = torch.rand(2, 3, tokens, dtype=dtype).transpose(1, 2)
    state = (hidden, keys, values)
    kept = in_own_memory(state)
    assert all(torch.equal(one, other) for one, other in zip(kept, state, strict=True))
    assert [one.dtype for one in kept] == [dtype] * 3
    assert kept[0].stride() == hidden.stride()  # a layer's kernels may go by it
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in kept}
    assert sum(storages.values()) == size_bytes(state)
    (alone,) = in_own_memory((queries.contiguous(),))
    assert torch.equal(alone, queries)


@pytest.mark.skipif(store_module._trim() is None, reason="the C library has no such holes")
def test_what_is_kept_leaves_no_holes_that_take_as_much_again() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLES], stdout=subprocess.PIPE, check=True, text=True
    )
    held, with_holes, given_back = map(int, done.stdout.split())
    assert held == 60
    assert given_back < 90 < with_holes


# Engines of one runner


def test_the_engines_of_a_runner_keep_within_the_memory_together(tiny_folder: Path) -> None:
    runner = LocalRunner(resolve_model(str(tiny_folder)), "cpu", "float32")
    job = Job(tuple(ENCODED), Scoring.LOGLIK, memory_bytes=60_000)
    engines: list[Any] = [runner.engine(job)]
    assert engines[0].store.budget_bytes == 60_000
    list(engines[0](ROUND, BATCHES))
    assert held_by(engines[0]) > 30_000
    engines += [runner.engine(job), runner.engine(job)]
    assert [one.store.budget_bytes for one in engines] == [20_000] * 3
    for one in engines:
        list(one(ROUND, BATCHES))
        assert sum(map(held_by, engines)) <= 60_000
    del one, engines[1:]
    gc.collect()
    engines.append(runner.engine(job))
    assert [one.store.budget_bytes for one in engines] == [30_000] * 2


def test_every_engine_of_a_bench_is_told_the_memory(tiny_folder: Path) -> None:
    class Noting(LocalRunner):
        jobs: list[Job] = []  # noqa: RUF012

        def engine(self, job: Job) -> Any:
            self.jobs.append(job)
            return super().engine(job)

    telltale.search(
        str(tiny_folder),
        telltale.load_task("capitals", protocol="text", max_new_tokens=3),
        out=tiny_folder.parent / "noted",
        runner=Noting,
        memory="3 MB",
        objective="likelihood",
        guards=[("boolean_expressions", 0.9)],
        limit=20,
        held_out=20,
        max_removed=1,
        text=PAGE,
    )
    assert len(Noting.jobs) > 4  # the task's, its references', the guard's, the text's, speeds
    assert {job.memory_bytes for job in Noting.jobs} == {3_000_000}


# How much there is


def test_what_is_asked_for_is_given_but_not_more_than_there_is() -> None:
    assert states_budget(CPU, 0) == 0
    assert states_budget(CPU, 12_345) == 12_345
    assert 2**20 < states_budget(CPU, 10**13) < 10**13
    assert 2**20 < states_budget(CPU) <= 4 * 2**30


def test_what_is_free_is_the_least_of_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(store_module, "CGROUP", tmp_path)
    monkeypatch.setattr(store_module, "machine_bytes", lambda: 10_000_000)
    assert free_bytes(CPU) == 10_000_000
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    assert free_bytes(CPU) == 5_120_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert free_bytes(CPU) == 5_120_000
    (tmp_path / "memory.max").write_text("4000000\n")
    assert free_bytes(CPU) == 3_000_000
    assert states_budget(CPU, 10**13) == 2_250_000
    (tmp_path / "memory.current").write_text("5000000\n")
    assert states_budget(CPU, 10**13) == 0
    (tmp_path / "meminfo").write_text("nothing\n")
    assert free_bytes(CPU) == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (0, 0),
        ("1", 1),
        ("500MB", 500_000_000),
        ("2GiB", 2**31),
        (" 1.5 gib ", 3 * 2**29),
        ("64 KiB", 65_536),
        ("7b", 7),
        ("10TB", 10**13),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(given: Any, expected: int) -> None:
    assert size(given) == expected


# Whole searches


def test_a_search_is_the_same_with_any_memory_and_a_study_may_change_it(
    tiny_folder: Path, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"limit": 20, "held_out": 20, "max_removed": 2, "text": PAGE}
    asked |= {"tolerance": 0.5}

    def result(memory: Any, folder: str) -> dict[str, Any]:
        found = telltale.search(
            str(tiny_folder), "capitals", out=tmp_path / folder, memory=memory, **asked
        ).document
        return {name: value for name, value in found.items() if name != "cost"}

    expected = result(None, "default")
    for number, memory in enumerate([0, 1, "10TB", "100KiB"]):
        assert result(memory, f"study {number}") == expected
    assert result("5 MiB", "study 0") == expected


def long_and_short(count: int) -> list[Row]:
    """Questions of some words, and one of some 4,000 tokens."""
    rows = [
        Row(
            str(number),
            {"question": f"{'What ' * (number % 5 + 1)}is {number}?"},
            ("one", "two"),
            0,
            "",
        )
        for number in range(count)
    ]
    rows[count // 2] = Row("long", {"question": "What is " * 1400}, ("one", "two"), 1, "")
    return rows


def test_a_long_example_is_a_batch_of_its_own_and_pads_no_other(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", max_position_embeddings=8192)
    task = make_task("mixed", long_and_short(60))
    bench = Workbench(resolve_model(str(folder)), task, task.examples, "cpu", memory=0)
    lengths = [len(one.context) for one in bench.encoded]
    assert max(lengths) > 4000
    longest = lengths.index(max(lengths))
    batches = bench.batches(range(60))
    assert [one.examples for one in batches if longest in one.examples] == [(longest,)]
    others = [one for one in batches if longest not in one.examples]
    assert all(bench.tokens_in(one) <= TOKEN_BUDGETS["cpu"] for one in others)
    assert len(others) < 15
    found = list(bench.measure([WHOLE, WHOLE.without(3)], batches))
    assert len(found) == 2 * len(batches)


# Batches that do not fit


def test_after_a_batch_that_does_not_fit_none_as_large_is_tried_whole() -> None:
    tried: list[int] = []

    def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        (batch,) = batches
        tried.append(len(batch.examples))
        if len(batch.examples) > 3:
            raise BatchTooLargeError(batch, "cpu")
        yield from (Measurement(batch, path, ()) for path in paths)

    batches = [Batch(tuple(range(8 * i, 8 * i + 8))) for i in range(5)]
    found = list(in_halves(measure, [WHOLE], batches, lambda one: len(one.examples)))
    assert tried == [8, 4, *[2] * 20]
    assert sorted(i for one in found for i in one.batch.examples) == list(range(40))


def test_layer_scores_learn_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from telltale.engine import layer_scores as module

    model = tiny.layered("llama")
    scores = [LAYER_SCORES["block-influence"]]
    batches = [Batch((0, 1, 2, 3)), Batch((4, 5, 0, 1)), Batch((2, 3, 4, 5))]
    expected = layer_scores(model, ENCODED, batches, scores)
    observe, tried = module._observe, list[int]()

    def small_memory(model: Any, examples: Any, *rest: Any) -> Any:
        tried.append(len(examples))
        if len(examples) > 2:
            raise RuntimeError("out of memory")
        return observe(model, examples, *rest)

    monkeypatch.setattr(module, "_observe", small_memory)
    found = layer_scores(model, ENCODED, batches, scores)
    assert tried == [4, 2, 2, 2, 2, 2, 2]
    assert found["block-influence"] == pytest.approx(expected["block-influence"])


def test_a_search_halves_all_that_is_as_large_as_what_did_not_fit(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, failed = 200, list[int]()
    measure = SharedEngine._measure

    def small_memory(engine: SharedEngine, batch: Batch, plan: Any) -> Any:
        layout = lay_out(
            [engine.examples[position] for position in batch.examples],
            prefix_length=len(engine.token_prefix),
            shares_context=engine.capabilities.shares_context,
            packs=engine.capabilities.packs,
            padding_free=engine.capabilities.padding_free,
        )
        tokens = len(layout.rows) * layout.length
        is_tried = len(engine.examples) < 160  # the self-test's, whose batches are not the study's
        if len(batch.examples) > 1 and tokens > most and not is_tried:
            failed.append(tokens)
            raise BatchTooLargeError(batch, "cpu")
        return measure(engine, batch, plan)

    monkeypatch.setattr(SharedEngine, "_measure", small_memory)
    telltale.search(
        str(tiny_folder),
        "capitals",
        out=tmp_path / "study",
        limit=80,
        held_out=80,
        max_removed=1,
        text=PAGE,
    )
    with open_records(tmp_path / "study", write=False) as records:
        planned = [
            Batch(tuple(one))
            for of_role in records.fact("plan")["batches"].values()
            for one in of_role
        ]
        halved = [one for one in planned if len(records.halves(one)) > 1]
    assert len(halved) > 4
    assert failed == sorted(set(failed), reverse=True)  # each smaller than all before it
    assert len(failed) < len(halved)
