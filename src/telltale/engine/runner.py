"""Runners: whoever has a loaded model, and makes the engines that measure on it.

All that touches a loaded model goes through a `ModelRunner`, so that the model may be in another
process: what goes in and comes out are values that can be pickled. `LocalRunner`, the default, has
the model in this process. Knows no tasks and no studies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable
from weakref import WeakSet

from telltale.engine.batches import tokens_at_once
from telltale.engine.choosing import Choosing
from telltale.engine.generating import Generating
from telltale.engine.layer_scores import layer_scores
from telltale.engine.selftest import EVERYTHING, PLAIN, Absence, find_capabilities
from telltale.engine.shared import SharedEngine
from telltale.engine.states import collect_states
from telltale.engine.store import StateStore, free_bytes, states_budget
from telltale.models.load import choose_device, choose_dtype, load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import torch

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.engine.layer_scores import LayerScore
    from telltale.engine.shared import Capabilities, Reader
    from telltale.engine.side_by_side import Writer
    from telltale.measure import Batch, Measure, Measurement
    from telltale.models.layered import LayeredModel
    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath
    from telltale.tasks import Example, Generation, Scoring


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a loaded model.

    ``parameters`` are all of them, ``layer_parameters`` those of each layer. ``longest_input`` is
    the most tokens that it was made for, where its configuration says. ``tokens_at_once`` is about
    how many its device had memory for in a batch when it was loaded, where that is known.
    """

    depth: int
    parameters: int
    layer_parameters: tuple[int, ...]
    attention: str
    longest_input: int | None
    end_tokens: frozenset[int]
    vocabulary: int
    tokens_at_once: int | None = None


class Trial(NamedTuple):
    """What capabilities are to be tried for. See `telltale.engine.selftest.find_capabilities`."""

    longest: int
    branch: int = 4
    generates: bool = False
    wanted: Capabilities = EVERYTHING
    prefix: int | None = None
    saves: float = float("inf")


@dataclass(frozen=True, slots=True)
class Writing:
    """Text is generated, and answers are read from it.

    ``questions`` are the encoded examples' own. Text ends at ``end_tokens``, or as ``generation``
    says.
    """

    generation: Generation
    questions: tuple[Example, ...]
    end_tokens: frozenset[int]


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine is to measure.

    ``examples`` are named by their position in batches. ``reads`` is how their choices are compared
    or what is written. ``token_prefix`` is what all contexts begin with; it is kept as such only if
    ``capabilities`` say so. Where ``keeps_states`` is False, nothing is kept from one call of the
    engine to the next, so that equal calls are equal work. ``memory_bytes`` is what the states may
    take that all engines of a runner keep together; by default it is the runner's to say.
    """

    examples: tuple[EncodedExample, ...]
    reads: Scoring | Writing
    capabilities: Capabilities = PLAIN
    token_prefix: Tokens = ()
    keeps_states: bool = True
    memory_bytes: int | None = None


class ModelRunner(Protocol):
    """Has a model, and makes engines that measure on it.

    ``device`` and ``dtype`` are known before the model is loaded. What ``auto`` is, where a search
    begins, a runner of one's own says; a study that goes on asks it for what it was begun with. The
    model is loaded when it is first needed, so that whatever asks for it may raise what loading
    raises.

    Raises:
        InputError: the files cannot be read as a model.
        UnsupportedModelError: the architecture cannot be driven.
        MeasurementError: measuring failed, or the process that has the model has ended.
    """

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The precision it runs in."""
        ...

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        ...

    def capabilities(self, trial: Trial) -> tuple[Capabilities, list[Absence]]:
        """What it can do beyond the plain way; and which of it it lacks, and why."""
        ...

    def engine(self, job: Job) -> Measure:
        """What measures the job's examples, by their position."""
        ...

    def layer_scores(
        self, job: Job, batches: Sequence[Batch], scores: Sequence[LayerScore]
    ) -> dict[str, tuple[float, ...]]:
        """Each score's numbers on a job's examples, one a layer, by its name.

        See `telltale.engine.layer_scores`. The examples have choices, and nothing is shared.
        """
        ...


@runtime_checkable
class CollectsStates(Protocol):
    """A `ModelRunner` that can collect hidden states too. Only explaining a model asks for it."""

    def collect_states(
        self, job: Job, batches: Sequence[Batch], path: LayerPath, folder: Path
    ) -> None:
        """Have the states of a job's examples on a path in a folder, which the caller reads.

        So both see the same files. See `telltale.engine.states.collect_states`.
        """
        ...


class LocalRunner:
    """A model in this process.

    Args:
        source: its files.
        device_name: see `telltale.models.load.choose_device`.
        dtype_name: see `telltale.models.load.choose_dtype`.
    """

    def __init__(
        self, source: ModelSource, device_name: str = "auto", dtype_name: str = "auto"
    ) -> None:
        self._source = source
        self._device_name = device_name
        self._dtype_name = dtype_name
        self._budgets: dict[int | None, int] = {}  # by what was asked for
        self._stores: WeakSet[StateStore] = WeakSet()  # of the engines that are in use

    @cached_property
    def device(self) -> torch.device:
        """See `ModelRunner`."""
        return choose_device(self._device_name)

    @cached_property
    def dtype(self) -> torch.dtype:
        """See `ModelRunner`."""
        return choose_dtype(self._dtype_name, self.device)

    @cached_property
    def model(self) -> LayeredModel:
        """The loaded model."""
        return load_model(self._source, self.device, self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self._source)

    @cached_property
    def facts(self) -> ModelFacts:
        """See `ModelRunner`."""
        model = self.model
        # On a CPU batches are small, and memory is other programs' too.
        free = free_bytes(self.device) if self.device.type == "cuda" else None
        return ModelFacts(
            depth=model.depth,
            parameters=model.parameters_on(model.whole),
            layer_parameters=model.layer_parameters,
            attention=model.attention,
            longest_input=model.longest_input,
            end_tokens=model.end_tokens,
            vocabulary=model.vocabulary,
            tokens_at_once=None if free is None else tokens_at_once(free, model.token_bytes),
        )

    def capabilities(self, trial: Trial) -> tuple[Capabilities, list[Absence]]:
        """See `ModelRunner`."""
        absences: list[Absence] = []
        found = find_capabilities(self.model, **trial._asdict(), absences=absences)
        return found, absences

    def engine(self, job: Job) -> Measure:
        """See `ModelRunner`."""
        if job.keeps_states:
            return self._engine(job, self._store(job.memory_bytes))

        def afresh(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            return self._engine(job, StateStore(0))(paths, batches)

        return afresh

    def layer_scores(
        self, job: Job, batches: Sequence[Batch], scores: Sequence[LayerScore]
    ) -> dict[str, tuple[float, ...]]:
        """See `ModelRunner`."""
        return layer_scores(self.model, job.examples, batches, scores)

    def collect_states(
        self, job: Job, batches: Sequence[Batch], path: LayerPath, folder: Path
    ) -> None:
        """See `CollectsStates`."""
        collect_states(self.model, job.examples, batches, path, folder, self._source.sha256)

    def _store(self, asked: int | None) -> StateStore:
        """A store for one more engine: all of them have equal parts of the memory.

        It is known once the weights are loaded, and stays the same.
        """
        device = self.model.device
        if asked not in self._budgets:
            self._budgets[asked] = states_budget(device, asked)
        store = StateStore(0)
        self._stores.add(store)
        for one in self._stores:
            one.limit(self._budgets[asked] // len(self._stores))
        return store

    def _engine(self, job: Job, store: StateStore) -> SharedEngine:
        return SharedEngine(
            self.model,
            job.examples,
            self._reader(job),
            capabilities=job.capabilities,
            token_prefix=job.token_prefix,
            store=store,
        )

    def _reader(self, job: Job) -> Reader | Writer:
        if not isinstance(job.reads, Writing):
            return Choosing(job.reads)
        return Generating(
            self.tokenizer,
            job.reads.generation,
            job.reads.questions,
            end_tokens=job.reads.end_tokens,
            continues=job.capabilities.continues,
        )
