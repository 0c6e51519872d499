"""What models take, on the screen: a table for each figure, a line for each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from telltale.cli.columns import Column, print_table
from telltale.support.words import counted, layers_named, millions, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

MEBI = 2**20
# Of each figure: what it is called, and what its numbers are divided by.
NAMES = {
    "time_to_first_token_ms": ("Time to the first token, ms", 1),
    "time_to_first_token_cpu_ms": ("The same in CPU time, ms", 1),
    "decode_tokens_per_second": ("Decoding, tokens/s", 1),
    "decode_tokens_per_cpu_second": ("The same, tokens by CPU second", 1),
    "peak_memory_bytes": ("Peak memory, MiB", MEBI),
}


def timed(document: Mapping[str, Any], out: Console) -> None:
    """Print what was timed, and how fast it is."""
    for line in _about(document):
        out.print(line)
    cells = document["cells"]
    for name, (title, unit) in NAMES.items():
        known = [cell for cell in cells if cell[name] is not None]
        if known:
            out.print()
            out.print(title)
            columns = _columns(known, name, unit, is_pair=document["against"] is not None)
            print_table(columns, out, where="the file has them")
    if document["against"] is not None:
        out.print()
        out.print(
            "A ratio is how many times better the second is, by pairs of repeats; ideal is that "
            "of the work."
        )


def _about(document: Mapping[str, Any]) -> Iterator[str]:
    model, against = document["model"], document["against"]
    yield f"model: {_described(model)}"
    if against is not None:
        without = f" without {layers_named(against['removed'])}" if against["removed"] else ""
        smaller = number(document["size_on_disk_ratio"])
        yield f"against: {_described(against, without)}, {smaller} times smaller"
    engine = document["engine"]
    threads = document["threads"]
    yield ", ".join(
        one
        for one in (
            f"{engine['name']} {engine['version']}",
            document["device"],
            document["where"],
            document["dtype"],
            threads and counted(threads, "thread"),
            counted(document["new_tokens"], "new token"),
            counted(document["repeats"], "repeat"),
        )
        if one
    )


def _described(model: Mapping[str, Any], without: str = "") -> str:
    return (
        f"{model['name']}{without}: {counted(model['layers'], 'layer')}, "
        f"{millions(model['parameters'])} parameters, "
        f"{model['size_on_disk_bytes'] / MEBI:,.0f} MiB on disk"
    )


def _columns(
    cells: Sequence[Mapping[str, Any]], name: str, unit: int, *, is_pair: bool
) -> list[Column]:
    def column(heading: str, text: Callable[[Mapping[str, Any]], str]) -> Column:
        return Column(heading, [text(cell) for cell in cells])

    def figure(side: str, unit: int = 1) -> Callable[[Mapping[str, Any]], str]:
        return lambda cell: _with_interval(cell[name][side], unit)

    found = [
        column("batch", lambda cell: str(cell["batch_size"])),
        column("prompt", lambda cell: str(cell["prompt_length"])),
        column("model (95%)", figure("model", unit)),
    ]
    if not is_pair:
        return found
    found += [
        column("against (95%)", figure("against", unit)),
        column("ratio (95%)", figure("ratio")),
    ]
    if all(cell[name]["ideal"] is not None for cell in cells):
        found.append(column("ideal", lambda cell: number(cell[name]["ideal"])))
    return found


def _with_interval(found: Mapping[str, Any], unit: int) -> str:
    value, low, high = (number(one / unit) for one in (found["value"], *found["interval"]))
    return f"{value} ({low}-{high})"
