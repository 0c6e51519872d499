"""Hidden states at the scored position: the library's own, whatever stops their collection."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import telltale
from telltale import LayerPath
from telltale.engine import states as module
from telltale.engine.runner import LocalRunner
from telltale.engine.states import collect_states, read_states
from telltale.engine.workbench import Workbench
from telltale.errors import InputError, MeasurementError
from telltale.measure import Batch, BatchTooLargeError
from telltale.models.layered import LayeredModel
from telltale.models.source import resolve_model
from telltale.timing.worker import OnProcessor
from tests import tiny
from tests.encoded import example

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ENCODED = [
    example((5, 9, 7, 21, 40, 3), ((11, 12, 13), (14,)), 0),
    example((5, 9, 8, 2, 77, 33, 60, 61, 62, 63, 64, 65), ((31, 32, 33), (16, 17)), 1),
    example((4, 250, 17), ((21, 22), (25, 26)), 0),
    example((101, 102, 103, 104, 105, 106, 107), ((41,), (42,), (43,)), 2),
    example((9, 8, 7, 6), ((1,), (2,)), 0),
    example((77,)),  # whose text is written
]
BATCHES = [Batch((4, 0)), Batch((5,)), Batch((1, 2))]  # not all examples, nor in order
ORDER = (0, 1, 2, 4, 5)
WHOLE = LayerPath.whole(6)


def librarys_own(model: Any, examples: Sequence[Any] = ENCODED) -> NDArray[np.float32]:
    """(layers and 1, examples, width), of the library's forward on each context alone."""
    last: list[Any] = []  # the library gives the last state after the norm, and this is before it
    layer = LayeredModel(model).layers[-1]
    hook = layer.register_forward_hook(lambda *given: last.append(given[2]))
    found = []
    for one in examples:
        with torch.inference_mode():
            given = model(
                torch.tensor([one.context]), output_hidden_states=True, use_cache=False
            ).hidden_states
        end = last[-1][0] if isinstance(last[-1], tuple) else last[-1]
        found.append(torch.stack([state[0, -1] for state in (*given[:-1], end)]))
    hook.remove()
    return torch.stack(found, dim=1).numpy()


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mistral-window"])
def test_states_are_the_librarys_own(family: str, tmp_path: Path) -> None:
    expected = librarys_own(tiny.build(family))[:, ORDER]
    collect_states(tiny.layered(family), ENCODED, BATCHES, WHOLE, tmp_path / "states")
    found = read_states(tmp_path / "states")
    assert (found.path, found.examples) == (WHOLE, ORDER)
    assert (found.values.dtype, found.values.shape) == (np.float32, (7, 5, 32))
    assert isinstance(found.values, np.memmap)
    assert found.values == pytest.approx(expected, abs=2e-5)


def test_states_of_a_path_are_those_of_a_model_without_the_other_layers(tmp_path: Path) -> None:
    path = WHOLE.without(1).without(4)
    model = tiny.build("llama")
    model.model.layers = nn.ModuleList(model.model.layers[layer] for layer in path.kept)
    model.config.num_hidden_layers = 4
    collect_states(tiny.layered("llama"), ENCODED, BATCHES, path, tmp_path)
    found = read_states(tmp_path)
    assert found.path == path
    assert found.values == pytest.approx(librarys_own(model)[:, ORDER], abs=2e-5)


# Stopping, and going on


def collected(folder: Path) -> NDArray[np.float32]:
    collect_states(tiny.layered("llama"), ENCODED, BATCHES, WHOLE, folder, "a model")
    return np.array(read_states(folder).values)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many examples were read together, call by call."""
    counts: list[int] = []
    original = module._read

    def counted(model: Any, examples: Any, path: Any) -> Any:
        counts.append(len(examples))
        return original(model, examples, path)

    monkeypatch.setattr(module, "_read", counted)
    return counts


@pytest.mark.parametrize("written", [0, 1, 2])
@pytest.mark.parametrize("place", ["_write", "write_json"])
def test_a_collection_that_was_stopped_goes_on_where_it_was(
    written: int, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    """Stopped between a batch's states and its record, at most that batch is read again."""
    expected = collected(tmp_path / "at once")
    assert read == [2, 1, 2]
    calls = 0
    original = getattr(module, place)

    def stopped(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == written + 1 + (place == "write_json"):  # the first is of an empty record
            raise KeyboardInterrupt
        original(*given)

    monkeypatch.setattr(module, place, stopped)
    with pytest.raises(KeyboardInterrupt):
        collected(tmp_path / "twice")
    monkeypatch.setattr(module, place, original)
    with pytest.raises(MeasurementError, match="damaged, or not all there; collect them again"):
        read_states(tmp_path / "twice")
    read.clear()
    assert np.array_equal(collected(tmp_path / "twice"), expected)
    assert read == [2, 1, 2][written:]
    read.clear()
    assert np.array_equal(collected(tmp_path / "twice"), expected)
    assert read == []


def test_what_is_damaged_is_noticed_and_read_again(
    tmp_path: Path, read: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    expected = collected(tmp_path)
    file = tmp_path / "states.npy"
    intact = file.read_bytes()
    for damaged, again in (
        (intact[:-3] + b"abc", [1]),  # the last row is example 5's, a batch by itself
        (intact[:-100], [2, 1, 2]),
        (b"", [2, 1, 2]),
    ):
        file.write_bytes(damaged)
        with pytest.raises(MeasurementError, match="collect them again"):
            read_states(tmp_path)
        read.clear()
        caplog.clear()
        assert np.array_equal(collected(tmp_path), expected)
        assert read == again
        assert "are damaged; they are read again" in caplog.text
    (tmp_path / "states.json").write_text("{")
    with pytest.raises(InputError, match=r"states\.json is damaged .*delete the folder"):
        collected(tmp_path)


def test_states_of_another_model_path_or_examples_are_not_mixed(tmp_path: Path) -> None:
    collected(tmp_path)
    model = tiny.layered("llama")
    for batches, path, name in (
        (BATCHES[:2], WHOLE, "a model"),
        (BATCHES, WHOLE.without(3), "a model"),
        (BATCHES, WHOLE, "another"),
    ):
        with pytest.raises(InputError, match="another model, path or set of examples; give an"):
            collect_states(model, ENCODED, batches, path, tmp_path, name)
    # The same examples in other batches are the same states.
    collect_states(model, ENCODED, [Batch(ORDER)], WHOLE, tmp_path, "a model")
    with pytest.raises(InputError, match="holds no hidden states"):
        read_states(tmp_path / "nothing")


def test_batches_are_read_in_halves_where_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    expected = collected(tmp_path / "whole")
    model, batches = tiny.layered("llama"), [Batch(ORDER)]
    monkeypatch.setattr(module, "MOST_TOKENS", 24)
    read.clear()
    collect_states(model, ENCODED, batches, WHOLE, tmp_path / "few tokens")
    assert read == [2, 3]
    assert read_states(tmp_path / "few tokens").values == pytest.approx(expected, abs=2e-5)

    original, most = LayeredModel.run_layer, 1

    def small(self: LayeredModel, layer: int, hidden: Any, prepared: Any) -> Any:
        if hidden.shape[0] > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return original(self, layer, hidden, prepared)

    monkeypatch.setattr(LayeredModel, "run_layer", small)
    collect_states(model, ENCODED, batches, WHOLE, tmp_path / "little memory")
    assert read_states(tmp_path / "little memory").values == pytest.approx(expected, abs=2e-5)
    most = 0
    with pytest.raises(BatchTooLargeError, match="a batch of 1 examples did not fit"):
        collect_states(model, ENCODED, batches, WHOLE, tmp_path / "none")


def test_a_full_disk_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    original, calls = os.fsync, 0

    def filling(handle: int) -> None:
        nonlocal calls
        calls += 1
        (full if calls == 2 else original)(handle)  # after the empty record, the first batch

    monkeypatch.setattr(module.os, "fsync", filling)
    with pytest.raises(OSError, match="No space left") as caught:
        collected(tmp_path)
    assert caught.value.filename == str(tmp_path / "states.npy")
    assert len(collected(tmp_path)) == 7


# What is refused


def test_there_is_something_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give at least one example"):
        collect_states(tiny.layered("llama"), ENCODED, [], WHOLE, tmp_path / "states")


@pytest.mark.parametrize("layer", [None, 2])
def test_states_that_are_no_numbers_are_refused(layer: int | None, tmp_path: Path) -> None:
    inner = tiny.build("llama")
    model = LayeredModel(inner)
    collect_states(model, ENCODED, BATCHES, WHOLE, tmp_path / "good")
    part = inner.get_input_embeddings() if layer is None else inner.model.layers[2].mlp.down_proj
    with torch.no_grad():
        part.weight[0].fill_(float("inf"))
        part.weight[17].fill_(float("nan"))
    where = "before the first layer" if layer is None else "after layer 2"
    with pytest.raises(MeasurementError, match=f"states {where} are not finite; try `dtype`"):
        collect_states(model, [example((3, 17))], [Batch((0,))], WHOLE, tmp_path / "bad")


def bench_of(folder: Path, rows: str, **asked: Any) -> Workbench:
    data = folder / "data.jsonl"
    data.write_text(rows, encoding="utf-8")
    task = telltale.load_task(data=data, **asked)
    model = tiny.save(folder / "model")
    return Workbench(resolve_model(str(model)), task, task.examples, "cpu", "float32")


ROW = '{"question": "What is so?", "choices": ["it is", "it is not"], "answer": 1}\n'


@pytest.mark.parametrize(
    "asked", [{}, {"prompt": "{question} is"}, {"protocol": "text", "max_new_tokens": 4}]
)
def test_a_workbench_gives_states_and_goes_on(
    asked: dict[str, Any], tmp_path: Path, read: list[int]
) -> None:
    bench = bench_of(tmp_path, ROW + ROW.replace("What", "Who"), **asked)
    batches = bench.batches(range(2))
    states = bench.states(LayerPath.whole(6), bench.encoded, batches, tmp_path / "states")
    assert states.values.shape == (7, 2, 32)
    assert states.values == pytest.approx(librarys_own(bench.model.model, bench.encoded), abs=2e-5)
    read.clear()
    again = bench.states(LayerPath.whole(6), bench.encoded, batches, tmp_path / "states")
    assert np.array_equal(again.values, states.values)
    assert read == []


def test_choices_that_stand_in_the_text_have_no_position_to_read_at(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, ROW, prompt="{question} I say {choice} and so it is")
    with pytest.raises(InputError, match=r"example 0 has no single position .* with a `prompt`"):
        bench.states(LayerPath.whole(6), bench.encoded, bench.batches([0]), tmp_path / "states")
    assert not (tmp_path / "states").exists()


class WithoutStates:
    """A runner as a user may have written it before there were states to collect."""

    def __init__(self, runner: LocalRunner) -> None:
        self._runner = runner
        self.device, self.dtype, self.facts = runner.device, runner.dtype, runner.facts
        self.engine, self.layer_scores = runner.engine, runner.layer_scores
        self.capabilities = runner.capabilities


def test_a_runner_that_collects_no_states_is_refused_when_asked(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, ROW)
    local = LocalRunner(bench.source, "cpu", "float32")
    bench = Workbench(bench.source, bench.task, bench.examples, runner=WithoutStates(local))
    batches = bench.batches([0])
    assert len(list(bench.measure([WHOLE], batches))) == 1
    with pytest.raises(InputError, match="the runner WithoutStates has no collect_states"):
        bench.states(WHOLE, bench.encoded, batches, tmp_path / "states")


# Memory

MEASURE = """
import sys
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from telltale import LayerPath
from telltale.engine.encode import EncodedExample
from telltale.engine.states import collect_states, read_states
from telltale.measure import Batch
from telltale.models.layered import LayeredModel
from telltale.timing.worker import OnProcessor

torch.set_num_threads(1)
config = LlamaConfig(vocab_size=64, hidden_size=4096, intermediate_size=8, num_hidden_layers=30,
                     num_attention_heads=1, num_key_value_heads=1, head_dim=8, pad_token_id=0)
model = LayeredModel(LlamaForCausalLM(config).eval())
examples = [EncodedExample((1 + n % 60, 1 + n // 60), (), (), 0) for n in range(2000)]
batches = [Batch(tuple(range(n, n + 100))) for n in range(0, 2000, 100)]
folder, stop = Path(sys.argv[1]), int(sys.argv[2])
if stop:
    from telltale.engine import states
    read, calls = states._read, []
    def killed(*given):
        calls.append(0)
        if len(calls) > stop:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
        return read(*given)
    states._read = killed
collect_states(model, examples, batches, LayerPath.whole(30), folder)
found = read_states(folder)
assert found.values.shape == (31, 2000, 4096)
# Not ru_maxrss, which a process takes over from the one that started it.
print(OnProcessor().peak())
# What is read of the file is counted too from here on, though the system may let go of it.
assert all(found.values[k].any(axis=-1).all() for k in range(31))
print(OnProcessor().peak())
"""


@pytest.mark.slow
def test_2000_examples_of_30_layers_and_width_4096_take_less_than_2_gigabytes(
    tmp_path: Path,
) -> None:
    """Half a gigabyte of it is torch itself; killed half way, the rest is read."""
    if shutil.disk_usage(tmp_path).free < 2**31:
        pytest.skip("needs 2 GiB on disk")
    if OnProcessor().peak() is None:
        pytest.skip("needs a system that says how much memory a process had at most")

    def run(stop: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", MEASURE, str(tmp_path), str(stop)]
        return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)

    assert run(stop=10).returncode == -9
    assert len(json.loads((tmp_path / "states.json").read_text())["done"]) == 10
    done = run(stop=0)
    assert done.returncode == 0, done.stderr
    collecting, with_all_read = map(int, done.stdout.split())
    assert collecting < 1e9
    assert with_all_read < 2e9
