"""The parts of a result: the models found, what was searched, the final look, the cost.

Plain values; what is not measured yet is None. Knows no JSON and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from telltale.objectives import OBJECTIVES, highest_of
from telltale.support.words import layers_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telltale.evidence.comparison import Comparison
    from telltale.paths import LayerPath
    from telltale.searches import Kept, Round

# The models that a result names beside the whole one.
NAMED = ("best", "bsba", "confirmed_best", "fastest_safe", "target")


@dataclass(frozen=True, slots=True)
class PathModel:
    """A model that a search has kept, with its evidence.

    Attributes:
        kept: what the search says of it: path, parent, layers removed, accuracy.
        parameters: how many it has, embeddings included.
        held_out: it beside the whole model on the held-out set.
        search_counts: what `generation_counts` gives on the search set.
        perplexity: of a token, on text that has nothing to do with the task.
        tokens_per_second: that it reads, on the search set.
        guards: it beside the whole model on each guard's own held-out examples.
        names: those of `NAMED` that are its.
    """

    kept: Kept
    parameters: int | None = None
    held_out: Comparison | None = None
    search_counts: Mapping[str, int] = field(default_factory=dict)
    perplexity: float | None = None
    tokens_per_second: float | None = None
    guards: Mapping[str, Comparison] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @property
    def path(self) -> LayerPath:
        """The layers that it has."""
        return self.kept.path

    @property
    def removed(self) -> tuple[int, ...]:
        """The layers that it lacks, in order of removal."""
        return self.kept.removed

    @property
    def layers(self) -> int:
        """How many layers it has."""
        return self.kept.path.depth

    @property
    def accuracy(self) -> float:
        """That on the search set."""
        return self.kept.accuracy

    @property
    def value(self) -> float:
        """What it was ranked by."""
        return self.kept.value

    @property
    def words(self) -> str:
        """The model in a sentence."""
        if not self.removed:
            return "the whole model"
        return f"the model without {layers_named(self.removed)}"


@dataclass(frozen=True, slots=True)
class FinalLook:
    """What the final set said of the one model that it was looked at for.

    ``name`` and ``removed`` are of the model that was recommended then, or chosen by a target;
    ``baseline_accuracy`` is the whole model's on the set.
    """

    name: str
    removed: tuple[int, ...]
    baseline_accuracy: float
    seen: Comparison


@dataclass(frozen=True, slots=True)
class Text:
    """The page on which perplexity was measured."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished study has taken: work, time, and how fast its models are.

    Attributes:
        layer_tokens: tokens times the layers they went through, of the search and its guards.
        dense_passes: the same in passes of the search set through the whole model.
        naive_passes: the passes that the same measurements would have taken, each by itself; None
            where it was not counted.
        batches_measured: batches, once for each path they were begun on.
        seconds: of the search, over all its runs.
        search_tokens: of the search set, each once, with what the whole model wrote.
        slowed_by: what the model cannot share, each in a sentence.
        bfloat16_gain: where the precision was chosen by timing, how many times as fast as float32
            bfloat16 was when the search began.
    """

    layer_tokens: int
    dense_passes: float
    naive_passes: float | None
    batches_measured: int
    seconds: float
    search_tokens: int
    slowed_by: tuple[str, ...] = ()
    bfloat16_gain: float | None = None


@dataclass(frozen=True, kw_only=True)
class Searched:
    """A search: what it was asked, and what it has found by now.

    Attributes:
        model: the whole model, as JSON values: ``name``, ``revision``, ``sha256``, ``layers``,
            ``parameters`` and ``dtype``.
        task: what was asked, and how, as JSON values.
        settings: how the search chose, as JSON values.
        models: every model kept, the whole one first, by how many layers are removed.
        rounds: every round of the search.
    """

    model: Mapping[str, Any]
    task: Mapping[str, Any]
    settings: Mapping[str, Any]
    models: tuple[PathModel, ...]
    rounds: tuple[Round, ...]

    @property
    def is_finished(self) -> bool:
        """Whether more than the search set is known."""
        return False

    @property
    def name(self) -> str:
        """The model on the task."""
        if not self.model:
            return "a study that had not begun"
        return f"{self.model['name']} on {self.task['name']}"

    @property
    def layers(self) -> int | None:
        """The whole model's; None where nothing is known of it."""
        return self.models[0].path.total if self.models else None

    @property
    def highest(self) -> float | None:
        """The most that the objective gives an example; None of one that is not telltale's."""
        objective = OBJECTIVES.get(self.objective)
        return None if objective is None else highest_of(objective)

    @property
    def objective(self) -> str:
        """What candidates were ranked by."""
        return str(self.settings.get("objective", "accuracy"))

    @property
    def confidence(self) -> str:
        """That of the intervals, in percent: ``95%``."""
        return f"{100 * self.settings.get('confidence', 0.95):g}%"

    @property
    def floor(self) -> float | None:
        """The accuracy on the search set below which no model is kept."""
        return self.models[0].accuracy - self.settings["tolerance"] if self.models else None

    @property
    def recommended(self) -> str | None:
        """By what name the model to take is known; None where it is the whole one."""
        return None

    @property
    def shown_first(self) -> PathModel | None:
        """The model to look at first; None where there is none."""
        return None

    def perplexity_ratio(self, model: PathModel) -> float | None:
        """A model's perplexity as a multiple of the whole model's."""
        whole = self.models[0].perplexity
        return None if whole is None or model.perplexity is None else model.perplexity / whole
