"""What there is to say of an explanation in sentences. No HTML, no drawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from telltale.evidence.explanation import CANNOT_TELL
from telltale.support.words import (
    bits,
    bits_between,
    counted,
    duration,
    layers_named,
    percent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.evidence.explanation import Bits, Explanation, LayerExplained, Predicted

SURE = 0.05  # a corrected p-value below which a measure is said to predict
YES, NO, REVERSED = "yes", "no", "reversed"
MANY = 8  # classes or layers to name in a sentence
NAMES = {
    "information": "information",
    "taylor": "signed Taylor",
    "taylor_absolute": "absolute Taylor",
    "taylor_squared": "squared Taylor",
    "block_influence": "block influence",
    "angular_distance": "angular distance",
    "magnitude": "weight magnitude",
    "joint": "joint score",
}


def measure_name(name: str) -> str:
    """A measure of layers, as it is called on the page."""
    return NAMES.get(name, name.replace("_", " "))


def subject(explained: Explanation) -> str:
    """What an explanation is of, for the titles of figures."""
    return f"{explained.model['name']} on {explained.task['name']}"


def p_words(value: float) -> str:
    """A p-value: ``0.012``, ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def predicts(one: Predicted) -> str:
    """Whether a measure orders layers by what is lost without each: yes, no, or reversed."""
    if one.corrected >= SURE:
        return NO
    return YES if one.rank_correlation > 0 else REVERSED


def sorted_predictions(explained: Explanation) -> list[tuple[str, Predicted]]:
    """The measures that were asked, the highest rank correlation first."""
    return sorted(
        explained.predictions.items(), key=lambda item: (-item[1].rank_correlation, item[0])
    )


def says_of_prediction(name: str, one: Predicted, removed: int) -> str:
    """A measure in a line."""
    says = {
        YES: "predicts what leaving out a layer costs",
        NO: "cannot be told from chance",
        REVERSED: "orders layers the other way round",
    }
    found = ""
    if one.chosen is not None:
        found = (
            f"; {one.chosen} of the {removed} left out are among the {removed} that it ranks lowest"
        )
    sure = f"p {p_words(one.p_value)}, corrected {p_words(one.corrected)}"
    return (
        f"{measure_name(name)}: rank correlation {one.rank_correlation:+.2f}, {sure}: "
        f"{says[predicts(one)]}{found}"
    )


def predictions_sentence(explained: Explanation) -> str:
    """Which measures predict what leaving out a layer costs, and that the others do not."""
    found = sorted_predictions(explained)
    of = {
        answer: [measure_name(name) for name, one in found if predicts(one) == answer]
        for answer in (YES, NO, REVERSED)
    }
    asked, no, other = counted(len(found), "measure"), len(of[NO]), of[REVERSED]
    if of[YES]:
        said = f"Yes, {_and(of[YES])}, of {asked}."
        said += f" The other{'s' if no > 1 else ''} cannot be told from chance." if no else ""
    else:
        said = (
            f"No. Of {asked} none orders layers by what leaving them out costs, as far as can be "
        )
        said += "told from chance."
    if other:
        said += f" The other way round order{'s' if len(other) == 1 else ''} them {_and(other)}."
    return said


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def sizes(explained: Explanation) -> str:
    """How many examples, layers and classes there are, and what is left out."""
    said = [counted(explained.task["examples"], "example")]
    said.append(f"{counted(len(explained.layers), 'layer')}, numbered from 0")
    gone = explained.removed
    if len(gone) > MANY:
        said.append(f"without {counted(len(gone), 'layer')}")
    elif gone:
        said.append(f"without {layers_named(gone)}")
    else:
        said.append("none left out")
    return "; ".join(said)


def classes_words(explained: Explanation) -> str:
    """What the answers are told apart as; nothing where they have no classes."""
    if not explained.classes:
        return ""
    shown = ", ".join(explained.classes[:MANY])
    more = len(explained.classes) - MANY
    rest = f" and {more} more" if more > 0 else ""
    entropy = ""
    if explained.entropy is not None:
        entropy = f"; their entropy is {explained.entropy:.2f} bits"
    return f"Answers are told apart as {shown}{rest}{entropy}."


def cost_sentence(explained: Explanation) -> str:
    """What the explanation has cost."""
    cost = explained.cost
    said = f"It took {duration(cost['seconds'])}"
    if "layer_tokens" in cost:
        said += f"; {cost['layer_tokens']:,} tokens went through a layer"
    return f"{said}."


def says_of_layer(explained: Explanation, place: int) -> str:
    """All that the figures show of a layer, in a line; of -1, the state before the first."""
    if place < 0:
        found = explained.before.information
        return f"before the first layer: {_amount(found)}"
    path, whole = explained.layers[place], explained.whole[place]
    if not explained.removed:
        return f"layer {place}: {_layer_words(path)}"
    if place in explained.removed:
        return f"layer {place}, left out; in the whole model: {_layer_words(whole)}"
    return f"layer {place}: {_layer_words(path)}. Whole model: {_layer_words(whole)}"


def _amount(found: Bits | None) -> str:
    if found is None:
        return "not known"
    return f"{bits(found.bits)} bits ({bits_between(found.interval)}), shuffled {bits(found.null)}"


def _layer_words(one: LayerExplained) -> str:
    said = []
    if one.probe.information is not None:
        said.append(_amount(one.probe.information))
    if one.neighbours.information is not None:
        said.append(f"by neighbours {bits(one.neighbours.information.bits)}")
    change = one.probe.change
    if change is not None:
        of = f"{bits(change.bits, signed=True)} ({bits_between(change.interval, signed=True)})"
        said.append(f"{one.verdict or CANNOT_TELL} {of}")
    if one.lens_accuracy is not None:
        said.append(f"its head is right on {percent(one.lens_accuracy)}")
    if one.lens_bits is not None:
        said.append(f"and tells {bits(one.lens_bits)} bits")
    return ", ".join(said) or "nothing measured"
