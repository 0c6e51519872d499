"""What there is to say of a study in sentences. No HTML, no drawing, no terminal.

The page, its figures and the terminal all speak from here, so that they say the same. Of an
unfinished study only the search is told: its held-out examples say nothing before it has finished
choosing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from telltale.support.words import (
    between,
    counted,
    duration,
    layers_named,
    loss,
    percent,
    points,
    points_between,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.evidence.calibration import Arms, Calibration
    from telltale.evidence.result import PathModel, Result
    from telltale.paths import LayerPath
    from telltale.searches import Candidate, Round
    from telltale.study.reading import StoredStudy

# What a name of a result is called where there is little room.
NAMES = {
    "best": "BEST",
    "bsba": "BSBA",
    "fastest_safe": "safe",
    "confirmed_best": "gain shown",
    "target": "target",
}
# For which model the final set was looked at.
FINAL_NAMES = {
    "confirmed_best": "BEST",
    "fastest_safe": "the fastest safe model",
    "target": "the model chosen by the target",
}


def names_of(model: PathModel) -> tuple[str, ...]:
    """A model's names, as they are called where there is little room."""
    return tuple(short for name, short in NAMES.items() if name in model.names)


def labels_of(models: Sequence[PathModel]) -> dict[LayerPath, str]:
    """By path, the layer that a model lacks beside those that the one above lacks.

    Where it is not made of that one by leaving out one layer, these are all its layers removed.
    """
    labels = {model.path: "whole model" for model in models[:1]}
    for above, model in pairwise(models):
        shown = model.removed[-1:] if is_step(model.kept, above.path) else model.path.removed
        labels[model.path] = ", ".join(map(str, shown))
    return labels


def minds(result: Result) -> tuple[str, ...]:
    """Sentences that a reader should be told beside the verdict."""
    cautions = (f"{line}." for line in result.cautions)
    return (*cautions, *_looks(result.held_out_looks, result.verdict))


def _looks(held_out_looks: int | None, verdict: str) -> tuple[str, ...]:
    """That other searches have looked at the same examples, unless the verdict says it."""
    if not held_out_looks or "had looked at" in verdict:
        return ()
    return (
        f"{held_out_looks} other search{'es have' if held_out_looks > 1 else ' has'} "
        "looked at these held-out examples before; the more look, the less an interval says.",
    )


def final_sentence(result: Result) -> str | None:
    """What the sealed final set said; None where none was asked for."""
    size, found = result.task.get("final_examples"), result.final
    if size is None:
        return None
    if found is None:
        return (
            f"The final set of {counted(size, 'example')} stays sealed: no shallower model is "
            "recommended or chosen by a target, and it is looked at for one alone."
        )
    seen = found.seen
    lost = loss(seen.loses_at_most)
    bound = "nothing" if lost == "nothing" else f"at most {lost}"
    return (
        f"The final set of {counted(size, 'example')} was looked at once, for "
        f"{FINAL_NAMES[found.name]}, without "
        f"{layers_named(found.removed)}: "
        f"{percent(seen.accuracy)} ({between(seen.interval)}) where the whole model has "
        f"{percent(found.baseline_accuracy)}, so {points(seen.gain)} points "
        f"({points_between(seen.gain_interval)}); it loses {bound}."
    )


def arms_lines(result: Result) -> tuple[str, ...]:
    """The whole model and the one to look at first, each as it is and calibrated, in a line."""
    found, model = result.calibration, result.shown_first
    if found is None:
        return ()

    def told(arms: Arms) -> str:
        return f"{percent(arms.raw.accuracy)} and {percent(arms.calibrated.accuracy)}"

    said = f"Held out, as it is and calibrated: whole model {told(found.whole)}"
    arms = None if model is None else arms_of(found, model)
    if model is not None and arms is not None:
        low, high = arms.beyond.interval
        said += (
            f"; {' '.join(names_of(model))} {told(arms)}, beyond the whole model's by "
            f"{points(arms.beyond.gain)} ({points_between((low, high))})"
        )
    return (said,)


def offsets_shown(offsets: Sequence[float]) -> str:
    """Offsets in nats, to two places, none of them a negative zero."""
    return ", ".join(f"{round(one, 2) + 0.0:+.2f}" for one in offsets)


def arms_rows(result: Result) -> list[tuple[PathModel, Arms]]:
    """The models of which it is known what calibration does to them, the whole one first."""
    found = result.calibration
    if found is None:
        return []
    pairs = [(model, arms_of(found, model)) for model in result.models]
    return [(model, arms) for model, arms in pairs if arms is not None]


def arms_of(found: Calibration, model: PathModel) -> Arms | None:
    """A model's arms; None of one that has no name and lacks layers."""
    if not model.removed:
        return found.whole
    return next((found.named[name] for name in model.names if name in found.named), None)


def cost_of(study: StoredStudy) -> tuple[str, ...]:
    """What a study has cost, finished or not."""
    if study.result is not None:
        return cost_sentences(study.result)
    if not study.cost.batches_begun:
        return ()
    return (f"So far the search has measured for {duration(study.cost.seconds)}.",)


def cost_sentences(result: Result) -> tuple[str, ...]:
    """What a finished study has cost, beside each candidate by itself, and what made it slower."""
    cost, guards = result.cost, result.settings.get("guards")
    naive = cost.naive_passes
    if naive is None and not guards:  # a study begun before it was counted
        naive = naive_passes(result.rounds, result.model["layers"])
    searched = "The search and its guards" if guards else "The search"
    passes = f"{cost.dense_passes:.1f} passes of the search set through the whole model"
    beside = "" if naive is None else f"; each candidate by itself: {naive:.1f}"
    return (
        f"{searched} cost {passes} ({duration(cost.seconds)}){beside}.",
        *_precision(result),
        *(f"Slower than for other models: {why}." for why in cost.slowed_by),
    )


def _precision(result: Result) -> tuple[str, ...]:
    """In which precision all was measured, where timing chose it."""
    gain = result.cost.bfloat16_gain
    if gain is None:
        return ()
    return (
        f"Measured in {result.model['dtype']}: where the search began, bfloat16 ran the model's "
        f"layers {gain:.2g} times as fast as float32.",
    )


def naive_passes(rounds: Sequence[Round], layers: int) -> float:
    """The passes through the whole model of a search that shares nothing between candidates."""
    through = (sum(path.depth for path in done.tried) for done in rounds)
    return 1.0 + sum(each / layers for each in through)


def change_of(candidate: Candidate) -> str:
    """How a candidate differs from its parent, in words: ``layer 3 left out, layer 5 put back``."""
    parts = {"left out": candidate.left_out, "put back": candidate.put_back}
    said = [f"{layers_named(layers)} {what}" for what, layers in parts.items() if layers]
    return ", ".join(said) or "no layer changed"


def fate(done: Round) -> str:
    """What became of a round's first candidate, in words."""
    if done.accepted:
        return "left out"
    return "is refused by a guard" if done.first.path in done.refused else "falls below the floor"


def is_step(candidate: Candidate, parent: LayerPath | None = None) -> bool:
    """Whether a candidate is its parent without one layer, and the parent the one that is given."""
    if parent is not None and candidate.parent != parent:
        return False
    return len(candidate.left_out) == 1 and not candidate.put_back


def round_sentence(done: Round, rest: str = "") -> str:
    """A round in a line: what is changed, what became of it, and how accurate that is.

    ``rest`` is said after the accuracy.
    """
    first = done.first
    changed = layers_named(first.left_out)
    if done.parent is None or len(done.kept) > 1:
        whole = not first.path.removed
        made = "the whole model" if whole else f"without {layers_named(first.path.removed)}"
        changed = f"{made} ({change_of(first)})"
    accuracy = f"{percent(first.accuracy)}{rest}"
    if not (done.accepted or done.refused) and done.left_early:
        all_of_them = counted(len(done.tried), "candidate")
        return f"none of {all_of_them} can be kept, each would fall below the floor"
    if not done.accepted:
        return f"{changed} would be next, but {fate(done)}: {accuracy}"
    if done.parent is not None and len(done.kept) == 1:
        return f"{changed} {fate(done)} {accuracy}"
    more = len(done.kept) - 1
    return f"{changed} {accuracy}" + (f"; {counted(more, 'other model')} kept" if more else "")


def other_changes(rounds: Sequence[Round]) -> list[str]:
    """Of each round, what it tried beside leaving out one layer, in a sentence."""
    said = []
    for number, done in enumerate(rounds, start=1):
        others = [one for one in done.tried.values() if not is_step(one)]
        if not others:
            continue
        best = max(others, key=lambda one: (one.path in done.kept, one.examples, one.value))
        made = f"without {layers_named(best.path.removed)}" if best.path.removed else "whole"
        said.append(
            f"Round {number} tried {counted(len(others), 'other change')}, such as "
            f"{change_of(best)}, after which the model is {made}: {percent(best.accuracy)}, "
            f"{'kept' if best.path in done.kept else 'not kept'}."
        )
    return said
