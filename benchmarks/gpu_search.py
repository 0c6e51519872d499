r"""How long does a whole search take on a GPU, by a model of real size?

Llama-3.1-8B's shapes with random weights, made on the device; examples of random tokens of which
all share the first, with four choices each. Nothing is downloaded. It is searched as a study does:
the whole model first, then the hardest examples first. A random model's choices are all about as
likely, so hardly a candidate is seen to have lost before its last example: with real weights, where
candidates leave early, a search costs less.

    python benchmarks/gpu_search.py --json h100.json
    python benchmarks/gpu_search.py --layers 4 --width 64 --examples 20 --rounds 2 --device cpu
    python benchmarks/gpu_search.py --width 64 --vocabulary 64 --device meta

The last computes nothing: on the meta device tensors have shapes alone, and numbers are drawn. It
counts layer tokens, which do not depend on the width, by what states a GPU would have memory for.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import resource
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from speed import Counting
from transformers import AutoConfig, AutoModelForCausalLM

from telltale.engine import choosing
from telltale.engine.batches import (
    batches_alike,
    batches_in_order,
    canonical_batches,
    tokens_at_once,
)
from telltale.engine.choosing import Choosing
from telltale.engine.encode import ChoiceSize, EncodedExample, common_token_prefix
from telltale.engine.layout import in_order_of_texts, row_sizes, tokens_in_row
from telltale.engine.selftest import find_capabilities
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.engine.store import StateStore, free_bytes, states_budget
from telltale.engine.workbench import FEWEST_BATCHES, GPU_TOKEN_BUDGET
from telltale.measure import outcomes_by_path
from telltale.models.layered import LayeredModel
from telltale.objectives import highest_of, objective_named, values_by
from telltale.searches.greedy import GreedyRemoval
from telltale.tasks import Scoring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from telltale.searches import Round

CHOICES, LONGEST_CHOICE = 4, 4
MATRIX = {"cuda": 8192}  # the side of the machine's own product
SMALL_MATRIX = 2048
REPEATS = 10
# For counting alone: about what Llama-3.1-8B leaves free of an H100's memory, and its width.
FREE_BYTES, WIDTH = 60 * 2**30, 4096


def main() -> None:
    """Make a model and examples, search, and print what it cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--width", type=int, default=4096, help="Heads, MLP follow in proportion.")
    parser.add_argument("--vocabulary", type=int, default=128256)
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=120, help="Of each prompt.")
    parser.add_argument("--shared", type=int, default=60, help="Of these, the first that all have.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--speed", default="exact", help="See telltale.searches.Search.")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=int, default=GPU_TOKEN_BUDGET, help="Tokens of a batch.")
    parser.add_argument("--memory", type=int, help="Bytes of states that are kept.")
    parser.add_argument("--json", type=Path, help="Keep all figures here.")
    given = parser.parse_args()
    found = searched(given)
    print("\n".join(told(found)))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


# ---- what is searched


def model_for(given: argparse.Namespace) -> LayeredModel:
    """A random model of Llama's kind, made on the device."""
    heads = max(8, given.width // 128)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=given.width,
        intermediate_size=given.width * 7 // 2,
        num_hidden_layers=given.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4,
        vocab_size=given.vocabulary,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=False,
    )
    is_counted = given.device == "meta"
    with torch.device("cpu" if is_counted else given.device):
        model = LayeredModel(AutoModelForCausalLM.from_config(config, dtype=dtype_of(given)))
    if is_counted:  # after it was tried, for which it needs values
        model.model.to("meta")
        model.device = torch.device("meta")
    return model


def dtype_of(given: argparse.Namespace) -> torch.dtype:
    """The precision asked for."""
    found: torch.dtype = getattr(torch, given.dtype)
    return found


def examples_for(given: argparse.Namespace) -> list[EncodedExample]:
    """Examples of random tokens, the same on every machine."""
    draw = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(given.vocabulary) for _ in range(count))

    shared = tokens(given.shared)
    found = []
    for _ in range(given.examples):
        choices = tuple(tokens(draw.randint(1, LONGEST_CHOICE)) for _ in range(CHOICES))
        sizes = tuple(ChoiceSize(len(one), len(one), len(one)) for one in choices)
        context = shared + tokens(given.tokens - given.shared)
        found.append(EncodedExample(context, choices, sizes, draw.randrange(CHOICES)))
    return found


class Drawn:
    """In place of what is fetched from a device that has no values: numbers, drawn."""

    draw = random.Random(0)

    def __init__(self, numbers: Tensor) -> None:
        self._count = len(numbers)

    def numbers(self) -> list[float]:
        """As many as were to be fetched."""
        return [-self.draw.random() for _ in range(self._count)]


# ---- the search


def searched(given: argparse.Namespace) -> dict[str, Any]:
    """Search, and what it cost once the model is ready."""
    started = time.perf_counter()
    torch.manual_seed(0)
    model = model_for(given)
    device, is_counted = model.device, given.device == "meta"
    examples = examples_for(given)
    made = time.perf_counter() - started
    if is_counted:
        choosing.Fetched = Drawn  # type: ignore[assignment, attr-defined]
        capabilities = Capabilities(
            keeps_prefix=True, shares_context=True, packs=True, padding_free=True
        )
    else:
        capabilities = find_capabilities(model, longest=given.tokens, branch=LONGEST_CHOICE)
    free = FREE_BYTES if is_counted else free_bytes(device)
    budget = given.budget
    if free is not None and not is_counted:
        budget = min(budget, tokens_at_once(free, model.token_bytes))
    if is_counted:
        memory = given.memory or FREE_BYTES // 4 * given.width // WIDTH
    else:
        memory = states_budget(device, given.memory)
    prefix = common_token_prefix(examples) if capabilities.keeps_prefix else ()
    sizes = {
        number: row_sizes(
            one, prefix_length=len(prefix), shares_context=capabilities.shares_context
        )
        for number, one in enumerate(examples)
    }
    if capabilities.padding_free:
        batches = batches_alike(
            in_order_of_texts(examples),
            lambda some: tokens_in_row([examples[number] for number in some], len(prefix)),
            token_budget=budget,
            block_size=len(examples),
            fewest=FEWEST_BATCHES,
        )
    else:
        batches = canonical_batches(sizes, token_budget=budget, block_size=len(examples))
    counting = Counting(
        SharedEngine(
            model,
            examples,
            Choosing(Scoring.LOGLIK),
            capabilities=capabilities,
            token_prefix=prefix,
            store=StateStore(memory),
        )
    )
    objective = objective_named("likelihood")
    right = {number: one.answer for number, one in enumerate(examples)}
    value = values_by(objective, Scoring.LOGLIK, right)
    search = GreedyRemoval(
        tolerance=1.0,
        max_removed=given.rounds,
        value=value,
        highest=highest_of(objective),
        speed=given.speed,
    )
    ready = time.perf_counter() - started
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    ends = [time.perf_counter()]

    def watch(_: Round) -> None:
        ends.append(time.perf_counter())

    outcomes = outcomes_by_path(counting([model.whole], batches))[model.whole]
    hardest_first = sorted(outcomes, key=lambda one: (value(outcomes[one]), one))
    batches = batches_in_order(
        hardest_first,
        sizes,
        token_budget=budget,
        pads=not capabilities.packs,
        fewest=FEWEST_BATCHES,
    )
    found = search(counting, batches, model.whole, watch)
    seconds = time.perf_counter() - ends[0]
    arithmetic = 2 * counting.layer_tokens * model.layer_parameters[0]
    return {
        "asked": {name: str(value) for name, value in vars(given).items()},
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "capabilities": capabilities._asdict(),
        "batches": len(batches),
        "token_budget": budget,
        "state_bytes": memory,
        "parameters": model.parameters_on(model.whole),
        "made_seconds": round(made, 2),
        "ready_seconds": round(ready, 2),
        "seconds": round(seconds, 2),
        "round_seconds": [round(b - a, 2) for a, b in pairwise(ends)],
        "layer_tokens": counting.layer_tokens,
        "by_round": list(counting.by_round.values()),
        "measurements": sum(map(len, counting.measured.values())),
        "layer_flops": arithmetic,
        "layer_flops_a_second": None if is_counted else arithmetic / seconds,
        "machine_flops_a_second": None if is_counted else machine_flops(device, dtype_of(given)),
        "peak_bytes": peak_bytes(device),
        "removed": [
            next(iter(set(a.path.kept) - set(b.path.kept))) for a, b in pairwise(found.kept)
        ],
    }


def machine_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The arithmetic of a large product of matrices, a second, the best of some."""
    side = MATRIX.get(device.type, SMALL_MATRIX)
    one = torch.randn((side, side), dtype=dtype, device=device)
    best = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        (one @ one)[0, 0].item()  # which waits for it
        best = max(best, 2 * side**3 / (time.perf_counter() - start))
    return best


def peak_bytes(device: torch.device) -> int:
    """The most memory in use since the search began; on a CPU, since the process did."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- what is printed


def told(found: dict[str, Any]) -> Iterator[str]:
    """The figures, a line each."""
    asked = found["asked"]
    yield (
        f"{asked['layers']} layers of width {asked['width']}, {found['parameters'] / 1e9:.2f}e9 "
        f"parameters, {asked['examples']} examples of {asked['tokens']} tokens ({asked['shared']} "
        f"shared), {asked['rounds']} rounds, {asked['dtype']}, {found['device']}, "
        f"torch {found['torch']}"
    )
    yield (
        f"{found['batches']} batches, {found['measurements']} measurements, "
        f"{found['layer_tokens']:,} layer tokens; by round {found['by_round']}"
    )
    if found["layer_flops_a_second"] is None:
        return  # counted, not run
    rounds = " ".join(f"{one:.1f}" for one in found["round_seconds"])
    yield f"{found['seconds']:.1f} s in all; by round {rounds}; ready in {found['ready_seconds']} s"
    yield (
        f"arithmetic of layers: {found['layer_flops_a_second'] / 1e12:.3f} TFLOP/s over the whole "
        f"search, of the {found['machine_flops_a_second'] / 1e12:.3f} of the machine's own product"
    )
    yield f"peak memory {found['peak_bytes'] / 2**30:.2f} GiB; removes {found['removed']}"


if __name__ == "__main__":
    main()
