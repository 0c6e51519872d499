"""A program that holds one model and times it when it is asked, with nothing of telltale.

Run in a fresh process as ``python worker.py SETTINGS``, a JSON object: the ``engine``, the
model's ``files`` (a folder, or a GGUF file), its ``vocabulary``, ``device``, ``dtype``, ``threads``
(or null), ``trust_remote_code``, the ``longest`` text in tokens, the ``largest`` batch, the
``share`` of a GPU's memory that vLLM may take, and for llama.cpp a token that is a ``letter``.

Says where the model is, then answers each line on standard input, a JSON object with
``batch_size``, ``prompt_length``, ``new_tokens`` and ``is_first``, by one: ``first_s`` until every
prompt has its first token, ``decode_s`` of all those after it, the same of processor time, null
where it is not a CPU that works, and ``peak_bytes``, the most memory the process had meanwhile,
null where that cannot be known. Where something goes wrong the answer has an ``error``.
"""

import ctypes
import gc
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROCESS = Path("/proc/self")
CACHE_NAMES = ("cache", "past_key_values")  # what forwards call it, by release of transformers
Clock = Callable[[], tuple[float, float]]


def now() -> tuple[float, float]:
    """Seconds, and seconds of this process's processor time, all threads together."""
    return time.perf_counter(), time.process_time()


def prompts_of(vocabulary: int) -> Callable[[int, int], list[list[int]]]:
    """What makes up so many texts of so many tokens, each another, always the same."""

    def prompts(count: int, length: int) -> list[list[int]]:
        tokens = [(7919 * place + 11) % vocabulary for place in range(count * length)]
        return [tokens[text * length :][:length] for text in range(count)]

    return prompts


class OnProcessor:
    """The memory of this process, as Linux counts it; elsewhere it is not known."""

    def forget(self) -> None:
        """Give back what the last work has left."""
        gc.collect()
        with suppress(OSError, AttributeError):  # where the C library has no such function
            ctypes.CDLL(None).malloc_trim(0)

    def begin(self) -> None:
        """Count the peak anew."""
        with suppress(OSError):
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int | None:
        """The most bytes that were resident since."""
        if not os.access(PROCESS / "clear_refs", os.W_OK):
            return None
        lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(one.split()[1]) for one in lines if one.startswith("VmHWM:"))


class Unknown:
    """Memory of which nothing is known."""

    def forget(self) -> None:
        """Nothing."""

    def begin(self) -> None:
        """Nothing."""

    def peak(self) -> None:
        """Nothing is known."""


class OnGpu:
    """What torch has on a GPU."""

    def __init__(self, torch: Any) -> None:
        self._cuda = torch.cuda

    def forget(self) -> None:
        """Give back what the last work has left."""
        gc.collect()
        self._cuda.empty_cache()

    def begin(self) -> None:
        """Count the peak anew."""
        self._cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """The most bytes since."""
        return int(self._cuda.max_memory_allocated())


def with_transformers(given: dict[str, Any]) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Plain transformers, greedy, one forward a token, with the model's own cache."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if given["threads"]:
        torch.set_num_threads(given["threads"])
    device, prompts = torch.device(given["device"]), prompts_of(given["vocabulary"])
    model: Any = AutoModelForCausalLM.from_pretrained(
        given["files"],
        dtype=getattr(torch, given["dtype"]),
        use_safetensors=True,
        trust_remote_code=given["trust_remote_code"],
    )
    model = model.to(device).eval()
    takes = inspect.signature(model.forward).parameters
    name = next((name for name in CACHE_NAMES if name in takes), None)
    if name is None:
        raise ValueError("the model takes no key-value cache")
    last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def step(tokens: Any, cache: Any) -> tuple[Any, Any]:
        """The next token of each text, known to the host as a user's program needs it."""
        found = model(tokens, use_cache=True, **last, **({name: cache} if cache else {}))
        following = found.logits[:, -1:].argmax(dim=-1)
        following.tolist()
        return following, getattr(found, name)

    @torch.inference_mode()
    def run(batch_size: int, prompt_length: int, new_tokens: int, clock: Clock) -> list[Any]:
        tokens = torch.tensor(prompts(batch_size, prompt_length), device=device)
        step(tokens[:1, :1], None)  # untimed: another process has just had the processor
        times = [clock()]
        tokens, cache = step(tokens, None)
        times.append(clock())
        for _ in range(new_tokens - 1):
            tokens, cache = step(tokens, cache)
        return [*times, clock()]

    if device.type == "cuda":
        memory: Any = OnGpu(torch)
        where = torch.cuda.get_device_name(device)
    else:
        memory = OnProcessor() if device.type == "cpu" else Unknown()
        where = platform.machine()
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return run, memory, {"where": where, "threads": threads}


def with_llama(given: dict[str, Any]) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """The server of llama.cpp in this process, one slot for each text, its tokens streamed.

    Every text goes on with one letter again and again: a token that is part of a letter would be
    told only with the next one.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = given["files"]
    params.n_parallel = given["largest"]
    params.n_ctx = given["largest"] * given["longest"]
    params.warmup = False
    threads = given["threads"] or os.cpu_count() or 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    on_cpu = given["device"] == "cpu"
    if on_cpu:
        params.n_gpu_layers = 0
    params.verbosity = -1
    server, prompts = xllamacpp.Server(params), prompts_of(given["vocabulary"])

    def run(batch_size: int, prompt_length: int, new_tokens: int, clock: Clock) -> list[Any]:
        waits = set(range(batch_size))
        firsts: list[Any] = []

        def told(part: Any) -> None:
            if not isinstance(part, dict):
                return
            if "error" in part or "choices" not in part:
                raise ValueError(str(part.get("error", part)))
            for choice in part["choices"]:
                if choice["index"] in waits:
                    waits.remove(choice["index"])
                    if not waits:
                        firsts.append(clock())

        start = clock()
        server.handle_completions(
            {
                "prompt": prompts(batch_size, prompt_length),
                "max_tokens": new_tokens,
                "ignore_eos": True,
                "cache_prompt": False,
                "temperature": 0,
                "logit_bias": [[given["letter"], 1000]],
                "stream": True,
            },
            told,
        )
        end = clock()
        return [start, *firsts, end]

    said = {"where": platform.machine(), "threads": threads if on_cpu else None}
    return run, OnProcessor() if on_cpu else Unknown(), said


def with_vllm(given: dict[str, Any]) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """The offline engine of vLLM; a request for one token is subtracted from one for all."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=given["files"],
        skip_tokenizer_init=True,
        dtype=given["dtype"],
        max_model_len=given["longest"],
        max_num_seqs=given["largest"],
        gpu_memory_utilization=given["share"],
        enable_prefix_caching=False,
        trust_remote_code=given["trust_remote_code"],
    )

    prompts = prompts_of(given["vocabulary"])

    def run(batch_size: int, prompt_length: int, new_tokens: int, clock: Clock) -> list[Any]:
        texts = [{"prompt_token_ids": one} for one in prompts(batch_size, prompt_length)]

        def seconds(tokens: int) -> float:
            asked = SamplingParams(
                temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False
            )
            start = clock()[0]
            engine.generate(texts, asked, use_tqdm=False)
            return clock()[0] - start

        # The work is done in processes of its own, whose processor time is not this one's.
        return [(0.0, 0.0), (seconds(1), 0.0), (seconds(new_tokens), 0.0)]

    return run, Unknown(), {"where": platform.machine(), "threads": None}


ENGINES = {
    "transformers": (with_transformers, "transformers"),
    "llama.cpp": (with_llama, "xllamacpp"),
    "vllm": (with_vllm, "vllm"),
}


def answer(
    run: Callable[..., Any], memory: Any, asked: dict[str, Any], *, on_cpu: bool
) -> dict[str, Any]:
    """One run of a cell."""
    cell = {name: asked[name] for name in ("batch_size", "prompt_length", "new_tokens")}
    if asked["is_first"]:
        memory.forget()
    memory.begin()
    start, first, end = run(**cell, clock=now)
    return {
        "first_s": first[0] - start[0],
        "first_cpu_s": first[1] - start[1] if on_cpu else None,
        "decode_s": end[0] - first[0],
        "decode_cpu_s": end[1] - first[1] if on_cpu else None,
        "peak_bytes": memory.peak(),
    }


@contextmanager
def answers_apart() -> Any:
    """Standard output for answers alone; what libraries print goes to standard error."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        yield lambda found: print(json.dumps(found), file=out, flush=True)


def main(given: dict[str, Any]) -> None:
    """Load the model and answer until there is no more to answer."""
    with answers_apart() as say:
        try:
            make, package = ENGINES[given["engine"]]
            run, memory, said = make(given)
            say({**said, "version": version(package)})
            for line in sys.stdin:
                say(answer(run, memory, json.loads(line), on_cpu=said["threads"] is not None))
        except Exception as problem:
            say({"error": f"{type(problem).__name__}: {problem}"})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
