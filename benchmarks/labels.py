r"""How many of the labelled examples should search, and how many confirm? Simulated studies.

Whoever has so many labelled examples divides them: one part chooses layers, the other says what was
gained. The worlds, whose truth is known, and the studies are `simulation.py`'s, ranked by
likelihood; telltale's own code chooses and concludes. What counts is what a user may rely on: the
true gain of BEST where a gain is shown on the held-out part and nothing where none is (*shown*),
and the layers that are certified to be left out.

    python benchmarks/labels.py --studies 200 --out benchmarks/figures/labels.json
    python benchmarks/labels.py --out benchmarks/figures/labels.json --table

Said before anything was simulated: the share that has the highest mean of *shown* over all worlds
and numbers of examples is the one to confirm on real pairs as a default, if it has a quarter of a
point more than one half has, and certifies no fewer layers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from simulation import Row, study, summary, worlds

from telltale.support.files import write_json
from telltale.tasks.split import SMALLEST_SET

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TOTALS = (100, 200, 400, 800, 1600)
SHARES = {"1/6": 1 / 6, "1/4": 1 / 4, "1/3": 1 / 3, "1/2": 1 / 2, "2/3": 2 / 3}
FIGURES = ("gain", "confirmed", "confirmed_gain", "safe_depth", "confirmed_wrongly", "safe_wrongly")


def rows() -> Iterator[tuple[str, int, str, Row]]:
    """World, number of examples, share that searches, and the kind of study."""
    for world in worlds().values():
        for total in TOTALS:
            for share, part in SHARES.items():
                search = max(SMALLEST_SET, round(total * part))
                yield world.name, total, share, Row(world, "likelihood", (search, total - search))


def run(studies: int, out: Path) -> None:
    """Simulate what is missing in the file."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    for world, total, share, row in rows():
        key = f"{world}; {total}; {share}"
        if known.get(key, {}).get("studies", 0) >= studies:
            continue
        source = np.random.default_rng([*row.sizes, *world.encode()])
        found = summary([study(row, source, check=False, covers=False) for _ in range(studies)])
        known[key] = {"studies": studies, **{name: found[name] for name in FIGURES}}
        write_json(out, known)
        print(key, known[key], flush=True)


def table(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Markdown: by number of examples in the mean of all worlds, then by world."""
    names = list(worlds())
    yield "| studies | " + " | ".join(f"{share} search" for share in SHARES) + " |"
    yield "| --- |" + " --- |" * len(SHARES)
    for label, of_worlds, totals in (
        *((f"{total} examples in all", names, (total,)) for total in TOTALS),
        *((name, [name], TOTALS) for name in names),
        ("all", names, TOTALS),
    ):
        cells = (
            cell([found[f"{name}; {total}; {share}"] for name in of_worlds for total in totals])
            for share in SHARES
        )
        yield f"| {label} | " + " | ".join(cells) + " |"


def cell(of: Sequence[Mapping[str, float]]) -> str:
    """What studies of several kinds gave in the mean: shown, gained and certified."""
    shown, gain, layers = (
        float(np.mean([one[figure] for one in of]))
        for figure in ("confirmed_gain", "gain", "safe_depth")
    )
    return f"{shown:+.2f}, {gain:+.2f}, {layers:.1f}"


def main() -> None:
    """Simulate, or print what was simulated."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--table", action="store_true", help="Print the file; simulate nothing.")
    given = parser.parse_args()
    if not given.table:
        run(given.studies, given.out)
    print("\n".join(table(json.loads(given.out.read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main()
