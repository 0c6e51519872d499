"""Small studies for tests: a tiny model on the capitals, and commands run in forked processes."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("page.txt")  # shorter than telltale's own
PRELOADED = [
    "torch",
    "transformers",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "telltale.models.load",
    "telltale.study.run",
    "telltale.checkpoints.export",
    "telltale.cli.commands",
]


def search_arguments(model: Path, out: Path, *more: str) -> list[str]:
    """A search of a few seconds."""
    return [
        *("search", str(model), "capitals", "--out", str(out)),
        *("--limit", "40", "--held-out", "30", "--tolerance", "0.2", "--text", str(PAGE), *more),
    ]


def result_of(folder: Path, *, cost: bool = False) -> dict[str, Any]:
    """A study's result, by default without its cost."""
    document: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if not cost:
        del document["cost"]
    return document


def _run(arguments: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    from telltale.cli.commands import main

    sys.stdout = sys.stderr = open("/dev/null", "w")  # noqa: SIM115 - as long as the process
    main(arguments)


def start_command(arguments: list[str]) -> multiprocessing.process.BaseProcess:
    """The command in a process of its own, which has what is slow to import already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(arguments,), daemon=True)
    process.start()
    return process
