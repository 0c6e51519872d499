"""A model in another process is measured as one in this process is, by public names alone."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import telltale
from telltale import LayerPath
from telltale.engine.layer_scores import LAYER_SCORES
from telltale.engine.perplexity import Page, perplexities
from telltale.engine.runner import LocalRunner
from telltale.engine.speed import tokens_per_second
from telltale.engine.workbench import Workbench
from telltale.errors import InputError, MeasurementError, TelltaleError
from telltale.measure import Batch, BatchTooLargeError, in_halves, outcomes_by_path, pack_outcomes
from telltale.models.source import resolve_model
from tests import tiny
from tests.studies import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from pathlib import Path

    from telltale.engine.layer_scores import LayerScore
    from telltale.engine.runner import Job, ModelFacts, Trial
    from telltale.engine.selftest import Absence
    from telltale.engine.shared import Capabilities
    from telltale.measure import Measure, Measurement
    from telltale.models.source import ModelSource

pytestmark = pytest.mark.slow  # each process imports torch
MOST = 23
WHOLE = LayerPath.whole(6)
PATHS = [WHOLE, *(WHOLE.without(layer) for layer in range(6))]


class SmallRunner(LocalRunner):
    """A model in this process, with memory for no more than `MOST` examples together."""

    def engine(self, job: Job) -> Measure:
        measure = super().engine(job)

        def limited(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            for batch in batches:
                if len(batch.examples) > MOST:
                    raise BatchTooLargeError(batch, "cpu")
                yield from measure(paths, [batch])

        return limited


def serve(pipe: Connection, source: ModelSource) -> None:
    """The other process: does what it is asked, and gives an error where there is one."""
    torch.set_num_threads(1)
    runner = SmallRunner(source, "cpu", "float32")
    engines: list[Measure] = []
    calls: dict[int, Any] = {}
    measured = 0
    while True:
        name, *given = pipe.recv()
        answer: Any = None
        try:
            if name == "facts":
                answer = runner.facts
            elif name == "engine":
                engines.append(runner.engine(*given))
                answer = len(engines) - 1
            elif name == "measure":
                answer = max(calls, default=0) + 1
                calls[answer] = engines[given[0]](*given[1:])
            elif name == "next":
                answer = next(calls[given[0]], None)
                measured += answer is not None
            elif name == "close":
                calls.pop(given[0]).close()
            elif name == "done":
                answer = measured, len(calls)
            else:
                answer = getattr(runner, name)(*given)
        except TelltaleError as problem:
            answer = problem
        pipe.send(answer)


class OtherProcess:
    """A `ModelRunner` whose model lives in a process of its own."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, source: ModelSource) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, source), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is the other's end

    def ask(self, *request: Any) -> Any:
        try:
            self._pipe.send(request)
            answer = self._pipe.recv()
        except (EOFError, OSError) as problem:
            raise MeasurementError(
                "the process that has the model has ended; try again"
            ) from problem
        if isinstance(answer, TelltaleError):
            raise answer
        return answer

    @cached_property
    def facts(self) -> ModelFacts:
        return self.ask("facts")  # type: ignore[no-any-return]

    def capabilities(self, trial: Trial) -> tuple[Capabilities, list[Absence]]:
        return self.ask("capabilities", trial)  # type: ignore[no-any-return]

    def layer_scores(
        self, job: Job, batches: Sequence[Batch], scores: Sequence[LayerScore]
    ) -> dict[str, tuple[float, ...]]:
        return self.ask("layer_scores", job, list(batches), list(scores))  # type: ignore[no-any-return]

    def collect_states(
        self, job: Job, batches: Sequence[Batch], path: LayerPath, folder: Path
    ) -> None:
        self.ask("collect_states", job, list(batches), path, folder)

    def engine(self, job: Job) -> Measure:
        number = self.ask("engine", job)

        def measure(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            call = self.ask("measure", number, list(paths), list(batches))
            try:
                while (found := self.ask("next", call)) is not None:
                    yield found
            finally:
                with contextlib.suppress(MeasurementError):  # there is nothing left to close
                    self.ask("close", call)

        return measure


@contextlib.contextmanager
def started(folder: Path) -> Iterator[OtherProcess]:
    runner = OtherProcess(resolve_model(str(folder)))
    yield runner
    runner.process.kill()
    runner.process.join()


@pytest.fixture(scope="module")
def runner(tiny_folder: Path) -> Iterator[OtherProcess]:
    with started(tiny_folder) as one:
        yield one


def bench_on(
    folder: Path, runner: OtherProcess | None = None, protocol: str = "loglik"
) -> Workbench:
    writes = {} if protocol == "loglik" else {"max_new_tokens": 6}
    task = telltale.load_task("capitals", protocol=protocol, **writes)
    source = resolve_model(str(folder))
    more = {} if runner is None else {"runner": runner}
    references = protocol != "loglik"
    return Workbench(
        source, task, task.examples[:24], "cpu", "float32", reads_references=references, **more
    )


@pytest.mark.parametrize("protocol", ["loglik", "text"])
def test_a_model_in_another_process_gives_the_same_byte_for_byte(
    tiny_folder: Path, runner: OtherProcess, protocol: str, tmp_path: Path
) -> None:
    here = bench_on(tiny_folder, protocol=protocol)
    there = bench_on(tiny_folder, runner, protocol)
    assert there.facts == here.facts
    assert there.capabilities == here.capabilities
    assert there.absences == here.absences
    assert there.token_prefix == here.token_prefix
    batches = here.batches(range(20))
    assert there.batches(range(20)) == batches
    ours, theirs = (list(bench.measure(PATHS, batches)) for bench in (here, there))
    assert theirs == ours
    assert [pack_outcomes(m.outcomes) for m in theirs] == [pack_outcomes(m.outcomes) for m in ours]
    page = Page("page", PAGE.read_text(encoding="utf-8"))
    assert perplexities(there, page, PATHS) == perplexities(here, page, PATHS)
    scores = [one for one in LAYER_SCORES.values() if one.name != "joint"]  # of too few examples
    assert there.layer_scores(scores, batches) == here.layer_scores(scores, batches)
    states = [
        bench.states(PATHS[3], bench.encoded, batches, tmp_path / name).values
        for bench, name in ((here, "here"), (there, "there"))
    ]
    assert states[0].shape == (6, 20, 32)
    assert np.array_equal(*states)
    speeds = tokens_per_second(there, PATHS[:2], there.timed_part(batches[0]), repeats=1)
    assert all(speed > 0 for speed in speeds.values())


def test_measurements_come_as_they_are_ready_and_a_caller_may_leave(
    tiny_folder: Path, runner: OtherProcess
) -> None:
    bench = bench_on(tiny_folder, runner)
    batches = bench.batches(range(24))
    before, _ = runner.ask("done")
    measurements = bench.measure(PATHS, batches)
    for count in (1, 2, 3):
        next(measurements)
        assert runner.ask("done") == (before + count, 1)
    measurements.close()  # type: ignore[attr-defined]
    assert runner.ask("done") == (before + 3, 0)
    expected = outcomes_by_path(bench_on(tiny_folder).measure(PATHS, batches))
    assert outcomes_by_path(bench.measure(PATHS, batches)) == expected


def test_a_batch_that_does_not_fit_there_is_known_here_and_halved(
    tiny_folder: Path, runner: OtherProcess
) -> None:
    bench = bench_on(tiny_folder, runner)
    large = Batch(tuple(range(24)))
    with pytest.raises(BatchTooLargeError, match="did not fit in the memory of cpu") as caught:
        list(bench.measure([WHOLE], [large]))
    assert (caught.value.batch, caught.value.device) == (large, "cpu")
    found = [one.batch for one in in_halves(bench.measure, [WHOLE], [large], bench.tokens_in)]
    assert found == list(large.halves())


def test_errors_of_the_other_process_are_raised_here(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model")
    with started(folder) as runner:
        bench = bench_on(folder, runner)
        (folder / "model.safetensors").write_bytes(b"no weights")
        with pytest.raises(InputError, match="cannot load"):
            _ = bench.depth
        model = tiny.build("llama")
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(float("nan"))
        model.save_pretrained(folder)
        with pytest.raises(MeasurementError, match="gives NaN on plain text"):
            _ = bench.depth
        tiny.build("llama").save_pretrained(folder)
        assert bench.depth == 6


def test_a_process_that_ends_is_a_failed_measurement_and_no_wait(tiny_folder: Path) -> None:
    with started(tiny_folder) as runner:
        bench = bench_on(tiny_folder, runner)
        batches = bench.batches(range(24))
        measurements = bench.measure(PATHS, batches)
        assert len(list(itertools.islice(measurements, 2))) == 2
        runner.process.kill()
        for asked in (measurements, bench.measure(PATHS, batches)):
            with pytest.raises(MeasurementError, match="has ended"):
                list(asked)


def test_a_search_whose_model_is_in_another_process_has_the_same_result(
    tiny_folder: Path, tmp_path: Path
) -> None:
    processes: list[OtherProcess] = []

    def other_process(source: ModelSource, device: str, dtype: str) -> OtherProcess:
        processes.append(OtherProcess(source))
        return processes[-1]

    asked: dict[str, Any] = {"limit": 60, "held_out": 30, "max_removed": 2, "tolerance": 0.3}
    results = [
        telltale.search(
            str(tiny_folder), "capitals", out=tmp_path / name, text=PAGE, runner=runner, **asked
        ).document
        for name, runner in (("here", SmallRunner), ("there", other_process))
    ]
    for result in results:
        for timed in ("seconds", "tokens_per_second", "path_tokens_per_second"):
            del result["cost"][timed]
    assert results[0] == results[1]
    (process,) = processes
    measured, open_calls = process.ask("done")
    assert measured > 40
    assert open_calls == 0
