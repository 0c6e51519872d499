"""A model that is known by its files' words alone: what can be said of it before it is loaded.

Its configuration says how many layers and parameters it has; one layer of random weights, of the
same shape, says how fast this machine is at it.
"""

from __future__ import annotations

import statistics
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from telltale.engine.runner import ModelFacts
from telltale.errors import MeasurementError
from telltale.models.layered import LayeredModel, find_layers, longest_input_of
from telltale.models.load import hollow_model
from telltale.models.precision import layers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from telltale.engine.layer_scores import LayerScore
    from telltale.engine.runner import Job, Trial
    from telltale.engine.selftest import Absence
    from telltale.engine.shared import Capabilities
    from telltale.measure import Batch, Measure
    from telltale.models.source import ModelSource

# A CPU is timed on no more than this many operations at once, some tenths of a second.
MOST_OPERATIONS = 5e10
LEAST_TOKENS = 16
SECONDS = 0.5  # after which no more turns are begun
LEAST_TURNS = 3  # the first does not count


class UnloadedRunner:
    """A `telltale.engine.runner.ModelRunner` that has no weights: it says all but what is measured.

    It is assumed to have every capability that saves work, as ordinary decoders do.

    Args:
        source: the model's files.
        device: where it would run.
        dtype: the precision that it would run in.
    """

    def __init__(self, source: ModelSource, device: torch.device, dtype: torch.dtype) -> None:
        self.source, self.device, self.dtype = source, device, dtype

    @cached_property
    def _model(self) -> Any:
        return hollow_model(self.source)

    @cached_property
    def facts(self) -> ModelFacts:
        """See `ModelRunner`."""
        model = self._model
        layers = find_layers(model)
        return ModelFacts(
            depth=len(layers),
            parameters=sum(one.numel() for one in model.parameters()),
            layer_parameters=tuple(sum(p.numel() for p in one.parameters()) for one in layers),
            attention=str(getattr(model.config, "_attn_implementation", "unknown")),
            longest_input=longest_input_of(model),
            end_tokens=frozenset(),
            vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """The width of a hidden state, and of what is widest inside a layer."""
        config = self._model.config.get_text_config()
        width = int(config.hidden_size)
        return width, int(getattr(config, "intermediate_size", None) or 4 * width)

    def capabilities(self, trial: Trial) -> tuple[Capabilities, list[Absence]]:
        """See `ModelRunner`."""
        if trial.generates:  # see `telltale.engine.selftest.find_capabilities`
            return trial.wanted._replace(shares_context=True, continues=True), []
        return trial.wanted, []

    def engine(self, job: Job) -> Measure:
        """Refuse to measure.

        Raises:
            MeasurementError: always.
        """
        raise _nothing_to_run(self.source, f"{len(job.examples)} examples")

    def layer_scores(
        self,
        job: Job,
        batches: Sequence[Batch],  # noqa: ARG002
        scores: Sequence[LayerScore],  # noqa: ARG002
    ) -> dict[str, tuple[float, ...]]:
        """Refuse to measure.

        Raises:
            MeasurementError: always.
        """
        raise _nothing_to_run(self.source, f"{len(job.examples)} examples")


def _nothing_to_run(source: ModelSource, what: str) -> MeasurementError:
    return MeasurementError(f"{source.name} is not loaded, so {what} cannot be measured; load it")


def layer_token_seconds(
    source: ModelSource, device: torch.device, dtype: torch.dtype, rows: int, length: int
) -> float | None:
    """The seconds that a token takes in one of the model's layers, by a moment's timing.

    Args:
        source: says the layer's shape; its weights are random.
        device: where it runs.
        dtype: the precision that it runs in.
        rows: of a batch; fewer are run where a CPU would take too long.
        length: of a row, in tokens.

    Returns:
        None where such a layer cannot be made or run alone.
    """
    try:
        model = LayeredModel(layers_of(source).model.to(device=device, dtype=dtype))
        if device.type == "cpu":
            most = int(MOST_OPERATIONS / (2 * max(model.layer_parameters)))
            rows = max(1, min(rows, most // length))
            length = min(length, max(most, LEAST_TOKENS))
        length = min(length, model.longest_input or length)
        tokens = (torch.arange(rows * length, device=device) % model.vocabulary).view(rows, length)
        prepared = model.prepare(tokens)
        turns: list[float] = []
        begun = time.perf_counter()
        while len(turns) < LEAST_TURNS or time.perf_counter() - begun < SECONDS:
            before = time.perf_counter()
            model.run_path(model.whole, prepared)[0, 0, 0].item()  # waits for a GPU
            turns.append(time.perf_counter() - before)
    except Exception:  # loading the model will say what is wrong with it
        return None
    return statistics.median(turns[1:]) / (rows * length * model.depth)
