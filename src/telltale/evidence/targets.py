"""What a model is to cost at most, and which of the models kept is chosen by it. Plain numbers.

Of the models that meet every target the one that is worth most is chosen, by the search set: the
most accurate, or by the prices given. A target of a figure that is timed is met where the whole
interval of the timing meets it. Knows no clock: what a model takes is asked of a function.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.errors import InputError
from telltale.support.arguments import real
from telltale.support.words import counted, layers_named, millions, number, one_of, points

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from telltale.evidence.comparison import Comparison
    from telltale.evidence.parts import PathModel


class Figure(NamedTuple):
    """What a model has of a figure, with its interval; of one that is counted both ends are it.

    ``ideal`` is what the work that was counted says; None where that says nothing.
    """

    value: float
    low: float
    high: float
    ideal: float | None = None


class Kind(NamedTuple):
    """A kind of target.

    Attributes:
        at_least: whether more is better; else less is.
        is_timed: whether a model must be run to know.
        verbs: "is" of what a model is, and "be" of what it is to be.
        short: a figure in words.
        more: what stands after it.
    """

    at_least: bool
    is_timed: bool
    verbs: tuple[str, str]
    short: Callable[[float], str]
    more: str = ""

    def say(self, value: float) -> str:
        """A figure with what it counts."""
        return f"{self.short(value)}{self.more}"

    @property
    def easier(self) -> str:
        """What to ask for where it cannot be had."""
        return "less" if self.at_least else "more"

    def meets(self, asked: float, figure: Figure) -> bool:
        """Whether all of a figure's interval does."""
        return figure.low >= asked if self.at_least else figure.high <= asked


def bytes_named(count: float) -> str:
    """A number of bytes: ``1.20 GB``."""
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    unit, name = next((one for one in units if count >= one[0]), (1, "bytes"))
    return f"{number(count / unit)} {name}"


def _parameters(count: float) -> str:
    return millions(int(count)) if count >= 1e5 else f"{count:,.0f}"


# By the name of the parameter that asks it.
SPEEDUP, LATENCY, MEMORY, PARAMETERS = (
    *("target_speedup", "max_latency_ms"),
    *("max_memory", "max_parameters"),
)
KINDS = {
    SPEEDUP: Kind(True, True, ("is", "be"), lambda it: f"{it:.2f}", " times as fast"),
    LATENCY: Kind(False, True, ("takes", "take"), number, " ms"),
    MEMORY: Kind(False, True, ("holds", "hold"), bytes_named),
    PARAMETERS: Kind(False, False, ("has", "have"), _parameters, " parameters"),
}
PRICED = ("accuracy", "latency", "parameters")


@dataclass(frozen=True, slots=True)
class Targets:
    """What is asked of the model that is chosen.

    Attributes:
        asked: by the names of `KINDS`: how many times as fast as the whole model it is to be, how
            many milliseconds a request may take, how many bytes a process may hold meanwhile, how
            many parameters it may have.
        price: what a point of accuracy, and a percent of latency or of parameters saved, is worth,
            by the names of `PRICED`; empty where accuracy alone counts.

    Raises:
        InputError: one of them cannot be.
    """

    asked: Mapping[str, float] = field(default_factory=dict)
    price: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in self.asked.items():
            least = 1 if name == SPEEDUP else 0
            if not (math.isfinite(value) and value > least):
                raise InputError(f"`{name}` must be more than {least}, got {value:g}")
        wrong = [name for name in self.price if name not in PRICED]
        if wrong:
            raise InputError(
                f"`price` has no {wrong[0]}; give prices of {one_of(PRICED)}, such as "
                "accuracy=1,latency=0.2"
            )
        values = self.price.values()
        if values and not (all(math.isfinite(one) and one >= 0 for one in values) and any(values)):
            raise InputError(
                "`price` must be numbers from 0 on, not all 0, such as accuracy=1,latency=0.2"
            )

    def __bool__(self) -> bool:
        return bool(self.asked or self.price)

    @property
    def timed(self) -> tuple[str, ...]:
        """The targets for which a model must be run."""
        return tuple(name for name in self.asked if KINDS[name].is_timed)

    def document(self) -> dict[str, Any]:
        """As JSON values: what was asked, and nothing else."""
        return {**self.asked, **({"price": dict(self.price)} if self.price else {})}


def targets_from(document: Mapping[str, Any]) -> Targets:
    """The targets that `Targets.document` gave, among other settings."""
    return Targets(
        {name: document[name] for name in KINDS if name in document}, document.get("price", {})
    )


def price_from(given: str | Mapping[str, float]) -> dict[str, float]:
    """The prices of ``accuracy=1,latency=0.2``.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if isinstance(given, Mapping):
        return {str(name): real(value) for name, value in given.items()}
    if not isinstance(given, str):
        raise TypeError
    parts = [re.fullmatch(r"\s*(\w+)\s*=\s*(\S+)\s*", one) for one in given.split(",")]
    found = {one[1]: float(one[2]) for one in parts if one is not None}
    if len(found) < len(parts):
        raise ValueError
    return found


class Request(NamedTuple):
    """What is timed: one prompt of so many tokens, continued by so many."""

    prompt_tokens: int
    new_tokens: int

    @property
    def words(self) -> str:
        """It in a sentence."""
        read = counted(self.prompt_tokens, "token")
        return f"one request of {read} read and {counted(self.new_tokens, 'token')} written"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model that was chosen by targets, or, where none meets them, the one that costs least.

    Attributes:
        targets: what was asked.
        is_met: whether it meets that.
        removed: the layers that it lacks, in order of removal.
        figures: what it has, by target.
        request: what was timed; None where nothing was.
        worth: by price, what it is worth over the whole model; empty without prices.
    """

    targets: Targets
    is_met: bool
    removed: tuple[int, ...]
    figures: Mapping[str, Figure]
    request: Request | None
    worth: Mapping[str, float]

    def said(self, held_out: Comparison | None, confidence: str) -> str:
        """What came of it, in sentences.

        Args:
            held_out: the model beside the whole one on the held-out set.
            confidence: of the held-out interval, in words.
        """
        who = f"without {layers_named(self.removed)}" if self.removed else "with all its layers"
        has = [
            f"{KINDS[name].verbs[0]} {_of_figure(name, one)}" for name, one in self.figures.items()
        ]
        timed = f", for {self.request.words}" if self.request else ""
        if not self.is_met:
            wanted = " and ".join(
                asked_for(name, value) for name, value in self.targets.asked.items()
            )
            return (
                f"The target is not met: none of the models kept is shown to {wanted}. The "
                f"best that can be had of them, {who}, {' and '.join(has)}{timed}. Ask for what "
                "can be had, or let the search go further, by a larger tolerance above all."
            )
        said = f"Chosen by what was asked: {who} the model"
        said += f" {' and '.join(has)}{timed}." if has else " is worth most."
        if self.worth:
            parts = [f"{one:+.2f} for {name}" for name, one in self.worth.items()]
            said += f" By the prices it is worth {sum(self.worth.values()):+.2f}"
            said += f" more than the whole model: {', '.join(parts)}."
        if held_out is not None and self.removed:
            low, high = held_out.gain_interval
            said += (
                f" On held-out examples its accuracy changes by {points(held_out.gain)} points "
                f"({confidence} interval {points(low)} to {points(high)})."
            )
        return said


def asked_for(name: str, value: float) -> str:
    """A target as what a model is to do: ``be at least 1.30 times as fast``."""
    kind = KINDS[name]
    return f"{kind.verbs[1]} at {'least' if kind.at_least else 'most'} {kind.say(value)}"


def _of_figure(name: str, figure: Figure) -> str:
    kind = KINDS[name]
    said = kind.say(figure.value)
    if not kind.is_timed:
        return said
    ideal = "" if figure.ideal is None else f"; {kind.short(figure.ideal)} by its work"
    return f"{said} (95% interval {kind.short(figure.low)} to {kind.short(figure.high)}{ideal})"


def worth_of(model: PathModel, whole: PathModel, price: Mapping[str, float]) -> dict[str, float]:
    """What a model is worth over the whole one, by what is priced.

    A point of accuracy on the search set, a percent of the time that the task's examples take, a
    percent of the parameters: each times its price.

    Args:
        model: it.
        whole: the whole model.
        price: as `Targets` has it.
    """
    saved = {
        "accuracy": lambda: model.accuracy - whole.accuracy,
        "latency": lambda: 1 - (whole.tokens_per_second or 1) / (model.tokens_per_second or 1),
        "parameters": lambda: 1 - (model.parameters or 1) / (whole.parameters or 1),
    }
    return {name: 100 * value * saved[name]() for name, value in price.items()}


class Candidate(NamedTuple):
    """A model that may be chosen.

    Attributes:
        model: it.
        work: of a request, as it was counted.
        at_best: by target, what it may have at best, however fast the machine.
    """

    model: PathModel
    work: float
    at_best: Mapping[str, Figure]


def choose(
    candidates: Sequence[Candidate],
    targets: Targets,
    request: Request | None,
    measure: Callable[[PathModel], Mapping[str, Figure]],
) -> Chosen:
    """The model that meets the targets and is worth most; of equals that with the fewest removed.

    A model is timed only where none that is worth more has met them. Where one has not, none is
    timed that has no less work and no fewer parameters.

    Args:
        candidates: the models kept, the whole one first.
        targets: what is asked.
        request: what is timed.
        measure: gives the figures of a model, those that are asked and maybe others.
    """
    whole = candidates[0].model
    price = targets.price or {"accuracy": 1.0}

    def found(one: Candidate, figures: Mapping[str, Figure], *, is_met: bool) -> Chosen:
        worth = worth_of(one.model, whole, targets.price)
        return Chosen(targets, is_met, one.model.removed, figures, request, worth)

    def order(one: Candidate) -> tuple[float, int]:
        return -sum(worth_of(one.model, whole, price).values()), len(one.model.removed)

    def measured(one: Candidate) -> dict[str, Figure]:
        figures = measure(one.model) if targets.asked else {}
        return {name: figures[name] for name in targets.asked}

    failed: list[Candidate] = []
    for one in sorted(candidates, key=order):
        if not _all_met(targets, one.at_best) or any(_costs_no_less(one, bad) for bad in failed):
            continue
        figures = measured(one)
        if _all_met(targets, figures):
            return found(one, figures, is_met=True)
        failed.append(one)
    least = min(candidates, key=lambda one: (one.work, one.model.parameters or 0))
    return found(least, measured(least), is_met=False)


def _all_met(targets: Targets, figures: Mapping[str, Figure]) -> bool:
    return all(
        KINDS[name].meets(asked, figures[name])
        for name, asked in targets.asked.items()
        if name in figures
    )


def _costs_no_less(one: Candidate, other: Candidate) -> bool:
    return one.work >= other.work and (one.model.parameters or 0) >= (other.model.parameters or 0)
