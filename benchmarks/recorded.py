r"""The models of the recorded paths measured again, every outcome kept.

`objectives.py` keeps which layers each objective removed and the held-out scores of every model on
its path, but of the search set only accuracies. What certifies a model may order the models by the
search set's own evidence, so this measures the few models of each recorded path again, on the
search set and, with --held-out, on the held-out set, and keeps the log-likelihood of every choice.
It draws the sets and batches that the search had, which for these tasks later commits draw too, and
says how far its accuracies are from the recorded.

    python benchmarks/recorded.py --data-dir DIR --figures benchmarks/figures/objectives.json \
        --studies recorded --out benchmarks/figures/recorded
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives import MADE, begun, commit

from telltale.measure import accuracy
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.study.question import Question
from telltale.study.records import open_records
from telltale.tasks.loading import load_task
from telltale.tasks.sets import HELD_OUT, SEARCH, Role
from telltale.tasks.shots import without_shown
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.measure import Outcome


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="A file a pair and set goes here.")
    parser.add_argument("--studies", type=Path, required=True, help="Where to go on from.")
    parser.add_argument("--held-out", action="store_true", help="The held-out set too.")
    parser.add_argument("--pairs", nargs="+", help="MODEL TASK, as the figures name them.")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    pairs = json.loads(given.figures.read_text(encoding="utf-8"))["pairs"]
    for key in given.pairs or pairs:
        for role in (SEARCH, HELD_OUT) if given.held_out else (SEARCH,):
            file = given.out / f"{key.replace(':', '-').replace(' ', '.')}.{role}.json.gz"
            if file.exists():
                continue
            found = measured(key, role, pairs[key], given)
            file.write_bytes(gzip.compress(json.dumps(found).encode(), mtime=0))
            print(f"{key} {role}: {found['seconds']} s, off by {found['off_by']:.4f}", flush=True)


def measured(
    key: str, role: Role, pair: dict[str, Any], given: argparse.Namespace
) -> dict[str, Any]:
    """Every outcome of one set on each model of a pair's recorded paths."""
    model, name = key.split(" ")
    task = without_shown(load_task(name, data_dir=None if name in MADE else given.data_dir))
    split = split_examples(
        task.examples, limit=pair["search_examples"], held_out=pair["held_out_examples"]
    )
    question = Question(resolve_model(model), task, split)
    started = time.monotonic()
    with open_records(given.studies / key.replace(":", "-"), write=True) as records:
        records.start_run({})
        plan, measuring = begun(question, records)
        paths = {
            LayerPath.from_removed(one["removed"][:depth], plan.whole.total)
            for one in pair["objectives"].values()
            for depth in range(len(one["removed"]) + 1)
        }
        outcomes = measuring.outcomes(role, sorted(paths), plan.batches[role])
    positions = question.positions[role]
    recorded = "search_accuracy" if role == SEARCH else "held_out_accuracy"
    off_by = max(
        abs(accuracy(outcomes[path].values()) - one[recorded][depth])
        for one in pair["objectives"].values()
        for depth in range(len(one["removed"]) + 1)
        for path in [LayerPath.from_removed(one["removed"][:depth], plan.whole.total)]
    )
    return {
        "pair": key,
        "set": str(role),
        "commit": commit(),
        "seconds": round(time.monotonic() - started),
        "off_by": off_by,
        "examples": [example.id for example in question.sets[role]],
        "right": [example.answer for example in question.sets[role]],
        "clusters": [question.clusters[position] for position in positions],
        "models": [
            {
                "removed": list(path.removed),
                "logliks": [logliks(outcomes[path][position]) for position in positions],
                "answers": [outcomes[path][position].answer for position in positions],
            }
            for path in sorted(paths)
        ],
    }


def logliks(outcome: Outcome) -> Sequence[float]:
    """Every choice's log-likelihood, in nats, to four places."""
    return [round(choice.loglik, 4) for choice in outcome.choices]


if __name__ == "__main__":
    main()
