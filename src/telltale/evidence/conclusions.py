"""What follows from what is known of every layer, in plain sentences. Plain numbers; no torch.

A sentence says what was found on these examples, and no more; where nothing can be told it says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.evidence.explanation import ADDS, CANNOT_TELL, MEASURES, SUPPRESSES, layers_of
from telltale.support.words import counted, layers_named, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from telltale.evidence.explanation import LayerExplained, Predicted

SIGNIFICANT = 0.05
WORDS = {
    "information": "the change of information",
    "taylor": "the first-order loss (Taylor)",
    "taylor_absolute": "the absolute first-order loss",
    "taylor_squared": "the squared first-order loss",
    "block_influence": "block influence",
    "angular_distance": "angular distance",
    "magnitude": "the magnitude of weights",
    "joint": "the joint score of information and gradient",
}
assert WORDS.keys() == {"information", *MEASURES}


def concluded(
    layers: Sequence[LayerExplained],
    removed: Sequence[int],
    whole: Sequence[LayerExplained],
    predictions: Mapping[str, Predicted],
    entropy: float | None,
) -> tuple[str, ...]:
    """What follows, sentence by sentence.

    Args:
        layers: those of the path that is explained, by index.
        removed: the layers that it leaves out.
        whole: the whole model's.
        predictions: by measure, how its order agrees with what is lost without each layer.
        entropy: that of the answers, in bits; None where they have no classes.
    """
    return (
        *_of_states(layers, entropy),
        *_of_verdicts(layers),
        *_of_agreement(layers),
        *_of_removed(removed, whole),
        *_of_predictions(predictions),
    )


def _of_states(layers: Sequence[LayerExplained], entropy: float | None) -> Iterator[str]:
    """How much of the answer the states tell, and how much of that the model's own head reads."""
    told = [(one.probe.information, one) for one in layers if one.probe.information is not None]
    if not told or entropy is None:
        return
    last, (most, at) = told[-1][0], max(told, key=lambda pair: pair[0].bits)
    yield (
        f"After the last layer the state tells a probe {_bits(last.bits)} of the answer's "
        f"{entropy:.2f} bits (95% interval {_between(last.interval)}); the most, "
        f"{_bits(most.bits)}, after layer {at.layer}."
    )
    ends = [one.lens_bits for one in layers if one.lens_bits is not None]
    if ends:
        yield (
            f"The model's own head reads {_bits(ends[-1])} there"
            + (
                ": it misleads, which an offset for each label may mend."
                if ends[-1] < 0 < last.interval[0]
                else "."
            )
        )


def _of_verdicts(layers: Sequence[LayerExplained]) -> Iterator[str]:
    """Which layers add, suppress, and of how many it cannot be told."""
    judged = [one for one in layers if one.verdict is not None]
    if not judged:
        return
    suppress, add = layers_of(judged, SUPPRESSES), layers_of(judged, ADDS)
    unknown = len(layers_of(judged, CANNOT_TELL))
    changes = {one.layer: one.probe.change for one in judged}

    def amounts(some: Sequence[int]) -> str:
        return ", ".join(
            f"{layer} ({found.bits:+.2f})"
            for layer in some
            if (found := changes[layer]) is not None
        )

    if suppress:
        told = amounts(suppress)
        yield f"Layers that suppress what the state tells of the answer, in bits: {told}."
    else:
        yield "No layer is shown to suppress what the state tells of the answer."
    if add:
        yield f"Layers that add to it: {amounts(add)}."
    yield f"Of {counted(unknown, 'layer')} of {len(judged)} it cannot be told."


def _of_agreement(layers: Sequence[LayerExplained]) -> Iterator[str]:
    """Whether gradient and lens say the same of a layer that suppresses."""
    before: float | None = None
    for one in layers:
        if one.verdict == SUPPRESSES:
            taylor = one.measures.get("taylor")
            signs = {
                "the gradient": None if taylor is None else taylor < 0,
                "the model's own head": None
                if before is None or one.lens_bits is None
                else one.lens_bits < before,
            }
            agree = [name for name, says in signs.items() if says]
            differ = [name for name, says in signs.items() if says is False]
            said = [
                f"{' and '.join(names)} {verb}"
                for names, verb in ((agree, _verb(agree, "agree")), (differ, _verb(differ, "do")))
                if names
            ]
            if said:
                yield f"At layer {one.layer}, which suppresses, {'; '.join(said)}."
        before = one.lens_bits if one.lens_bits is not None else before


def _verb(names: Sequence[str], verb: str) -> str:
    if verb == "agree":
        return "agree" if len(names) > 1 else "agrees"
    return "do not" if len(names) > 1 else "does not"


def _of_removed(removed: Sequence[int], whole: Sequence[LayerExplained]) -> Iterator[str]:
    """What the layers removed do in the whole model."""
    gone = [one for one in whole if one.layer in set(removed) and one.verdict is not None]
    if not gone:
        return
    parts = [
        f"{listed(found)} {verb if len(found) > 1 else single}"
        for verdict, verb, single in (
            (SUPPRESSES, "suppress", "suppresses"),
            (ADDS, "add", "adds"),
        )
        if (found := layers_of(gone, verdict))
    ]
    unknown = layers_of(gone, CANNOT_TELL)
    if unknown:
        parts.append(f"of {listed(unknown)} it cannot be told")
    yield f"Of the removed {layers_named(removed)}, in the whole model: {'; '.join(parts)}."


def _of_predictions(predictions: Mapping[str, Predicted]) -> Iterator[str]:
    """Which measure, if any, orders layers as what is lost without them does."""
    if not predictions:
        return
    shown = {
        name: one
        for name, one in predictions.items()
        if one.corrected < SIGNIFICANT and one.rank_correlation > 0
    }
    if not shown:
        yield (
            f"None of {len(predictions)} measures is shown to order the layers as what is lost "
            "without each does."
        )
        return
    best = max(shown, key=lambda name: shown[name].rank_correlation)
    yield (
        f"What is lost without a layer is ordered best by {WORDS[best]}: rank correlation "
        f"{shown[best].rank_correlation:.2f}, p = {_p(shown[best].corrected)}, corrected for "
        f"{len(predictions)} measures."
    )
    others = [WORDS[name] for name in predictions if name not in shown]
    if others:
        yield f"Not shown to order them so: {', '.join(others)}."


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "0.001 or less"


def _bits(amount: float) -> str:
    return f"{amount:.2f} bits"


def _between(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2f} to {interval[1]:.2f}"
