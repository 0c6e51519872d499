r"""How much of what layers gain is a label's bias? Four arms on the recorded pairs.

For each pair of model and task that `objectives.py` has recorded, and each of two objectives, the
whole model and BEST of the recorded path are measured on the search set and the held-out set that
the search had. Offsets are learnt on the search set without right answers
(`telltale.evidence.calibration`), and judge the held-out set: the whole and the shallower model as
they are and calibrated, what layers give beyond calibration, and how much of the gain calibration
alone gives. Beside it the whole model by batch calibration as published, which is one step.

What is measured is kept in --studies, a folder a pair, and the same command goes on where it was
stopped; a pair that --out has is not measured again. With --limit and --held-out-limit fewer
examples are measured, for a try, and nothing is to be compared with the record.

    python benchmarks/calibrated.py --data-dir DIR --figures benchmarks/figures/objectives.json \
        --studies calibrated --out benchmarks/figures/calibrated.json
    python benchmarks/calibrated.py --out benchmarks/figures/calibrated.json --table
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives import MADE, begun, best_depth, commit, named

from telltale.evidence.calibration import Judging, fitted, judged
from telltale.evidence.parts import PathModel
from telltale.measure import accuracy
from telltale.models.source import resolve_model
from telltale.paths import LayerPath
from telltale.searches import Kept
from telltale.study.question import Question
from telltale.study.records import open_records
from telltale.support.files import write_json
from telltale.tasks.loading import load_task
from telltale.tasks.sets import HELD_OUT, SEARCH
from telltale.tasks.shots import without_shown
from telltale.tasks.split import split_examples

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence.calibration import Arms, Gain, Level
    from telltale.measure import Outcome

OBJECTIVES = ("accuracy", "likelihood")


def main() -> None:
    """Measure what is missing, or print what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="The figures, as JSON.")
    parser.add_argument("--table", action="store_true", help="Print the figures; measure nothing.")
    parser.add_argument("--figures", type=Path, help="Where the paths are recorded.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--studies", type=Path, help="Where to go on from.")
    parser.add_argument("--pairs", nargs="+", help="MODEL TASK, as the figures name them.")
    parser.add_argument("--limit", type=int, help="Fewer search examples, for a try.")
    parser.add_argument("--held-out-limit", type=int, help="Fewer held-out examples, for a try.")
    given = parser.parse_args()
    if not given.table:
        recorded = json.loads(given.figures.read_text(encoding="utf-8"))["pairs"]
        for key in given.pairs or recorded:
            if key not in known(given.out):
                pair = measured(key, recorded[key], given)
                write_json(given.out, known(given.out) | {key: pair})
    print(table(known(given.out)))


def known(file: Path) -> dict[str, Any]:
    """The figures that are there."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def measured(key: str, pair: Mapping[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The arms of one pair, by objective."""
    model, name = key.split(" ")
    task = without_shown(load_task(name, data_dir=None if name in MADE else given.data_dir))
    split = split_examples(
        task.examples,
        limit=given.limit or pair["search_examples"],
        held_out=given.held_out_limit or pair["held_out_examples"],
    )
    question = Question(resolve_model(model), task, split)
    started = time.monotonic()
    with open_records(given.studies / key.replace(":", "-"), write=True) as records:
        records.start_run({})
        plan, measuring = begun(question, records)
        whole = plan.whole
        bests = {
            objective: tuple(one["removed"][: best_depth(one)])
            for objective in OBJECTIVES
            for one in [pair["objectives"][objective]]
        }
        paths = {LayerPath.from_removed(removed, whole.total) for removed in bests.values()}
        searched, held_out = (
            measuring.outcomes(role, sorted({whole, *paths}), plan.batches[role])
            for role in (SEARCH, HELD_OUT)
        )
    judging = Judging(task.scoring, question.right, question.clusters)
    found = {}
    for objective, removed in bests.items():
        path = LayerPath.from_removed(removed, whole.total)
        models = [_model(whole, (), ()), _model(path, removed, ("best",))]
        told = judging.told(models if removed else models[:1], searched, held_out)
        assert told is not None
        found[objective] = {
            "removed": list(removed),
            "arms": {name: _document(arms) for name, arms in told.by_name.items()},
            "off_by": abs(
                told.whole.raw.accuracy - pair["objectives"][objective]["held_out_accuracy"][0]
            ),
        }
    return {
        "commit": commit(),
        "seconds": round(time.monotonic() - started),
        "search_examples": len(question.sets[SEARCH]),
        "held_out_examples": len(question.sets[HELD_OUT]),
        "as_published": _as_published(question, searched[whole], held_out[whole]),
        "objectives": found,
    }


def _model(path: LayerPath, removed: Sequence[int], names: tuple[str, ...]) -> PathModel:
    return PathModel(Kept(path, None, 0.0, 0.0, 0, tuple(removed)), names=names)


def _as_published(
    question: Question, searched: Mapping[int, Outcome], held_out: Mapping[int, Outcome]
) -> float:
    """The whole model's accuracy less offsets of one step."""
    scoring = question.task.scoring
    merits = [scoring.merits(searched[one].choices) for one in sorted(searched)]
    offsets = fitted(merits, most_steps=1)
    return accuracy(judged(held_out, offsets, question.right, scoring).values())


def _document(arms: Arms) -> dict[str, Any]:
    def level(found: Level) -> list[Any]:
        return [found.accuracy, list(found.interval)]

    def gain(found: Gain) -> list[Any]:
        return [found.gain, list(found.interval)]

    return {
        "raw": level(arms.raw),
        "calibrated": level(arms.calibrated),
        "calibrating": gain(arms.calibrating),
        "beyond": gain(arms.beyond),
        "offsets": list(arms.offsets),
    }


def table(pairs: Mapping[str, Any]) -> str:
    """Every pair and objective in Markdown, in percent and points of held-out accuracy."""
    heads = [
        "model, task, ranked by",
        "layers removed",
        "whole",
        "calibrated",
        "(one step)",
        "shallower",
        "calibrated",
        "gain",
        "offsets alone",
        "layers beyond",
        "of the gain, offsets alone",
    ]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for key, pair in pairs.items():
        for objective, found in pair["objectives"].items():
            arms = found["arms"]
            whole, best = arms["whole"], arms.get("best", arms["whole"])
            gain, alone = best["raw"][0] - whole["raw"][0], whole["calibrating"][0]
            cells = [
                f"{', '.join(named(key))}, {objective}",
                " ".join(map(str, found["removed"])) or "none",
                *(f"{100 * arm[0]:.1f}" for arm in (whole["raw"], whole["calibrated"])),
                f"{100 * pair['as_published']:.1f}",
                *(f"{100 * arm[0]:.1f}" for arm in (best["raw"], best["calibrated"])),
                f"{100 * gain:+.1f}",
                _points(whole["calibrating"]),
                _points(best["beyond"]),
                f"{100 * alone / gain:.0f}%" if gain > 0 else "no gain",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _points(gain: Sequence[Any]) -> str:
    low, high = gain[1]
    return f"{100 * gain[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


if __name__ == "__main__":
    main()
