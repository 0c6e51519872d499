"""A model that is known by its files' words alone: what can be said of it before it is loaded.

Its configuration says how many layers and parameters it has; one layer of random weights, of the
same shape, says how fast this machine is at it.
"""

from __future__ import annotations

import inspect
import statistics
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from telltale.engine.runner import ModelFacts
from telltale.errors import MeasurementError
from telltale.models.layered import CACHE_NAMES, LayeredModel, find_layers, longest_input_of
from telltale.models.load import hollow_model
from telltale.models.precision import layers_of, one_of_each_kind
from telltale.models.quiet import quiet_transformers

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
TIMED_TOKENS = 8  # that are written at most; a request's others are taken to be like them


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


class Seconds(NamedTuple):
    """How long a request takes in each layer, and beside the layers."""

    layer: float
    beside: float

    def of(self, layers: int) -> float:
        """How long it takes with so many layers."""
        return self.beside + layers * self.layer


def request_seconds(
    source: ModelSource, device: torch.device, dtype: str, prompt: int, new_tokens: int
) -> Seconds | None:
    """How long a request takes at least by a moment's timing, as plain transformers does it.

    A model of one layer of each kind and one of two are timed in turns; none has weights of its
    own.

    Args:
        source: says the model's shape.
        device: where it runs.
        dtype: the precision that it runs in.
        prompt: how many tokens are read.
        new_tokens: how many are written, the first of them where the prompt ends.

    Returns:
        None where such models cannot be made or run, or no difference can be seen.
    """
    try:
        models = [_hollow_filled(source, device, dtype, times) for times in (1, 2)]
        layers = int(models[0].config.get_text_config().num_hidden_layers)
        turns: list[tuple[float, ...]] = []
        begun = time.perf_counter()
        while len(turns) < LEAST_TURNS or time.perf_counter() - begun < SECONDS:
            turns.append(tuple(_request_once(one, device, prompt, new_tokens) for one in models))
    except Exception:  # loading the model will say what is wrong with it
        return None
    # The least, since a busy machine is only ever slower than it can be.
    once, twice = (min(turn[place] for turn in turns[1:]) for place in (0, 1))
    layer = (twice - once) / layers
    return Seconds(layer, max(0.0, once - (twice - once))) if layer > 0 else None


def _hollow_filled(source: ModelSource, device: torch.device, dtype: str, times: int) -> Any:
    """A model of one layer of each kind, so many times; all of its numbers are small and alike."""
    trusts = source.trust_remote_code
    with quiet_transformers():
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trusts)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                one_of_each_kind(config, times, vocabulary=None),
                dtype=getattr(torch, dtype),
                trust_remote_code=trusts,
            )
        model = model.to_empty(device=device).eval()
    with torch.no_grad():
        for one in (*model.parameters(), *model.buffers()):
            one.fill_(0.01 if one.is_floating_point() else 0)
    return model


@torch.inference_mode()
def _request_once(model: Any, device: torch.device, prompt: int, new_tokens: int) -> float:
    """The seconds of a request; of those after the first token only a few are written."""
    takes = inspect.signature(model.forward).parameters
    name = next(name for name in CACHE_NAMES if name in takes)
    last = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    def step(tokens: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        found = model(tokens, use_cache=True, **last, **({name: cache} if cache else {}))
        following = found.logits[:, -1:].argmax(dim=-1)
        following.tolist()  # waits for a GPU
        return following, getattr(found, name)

    times = [time.perf_counter()]
    tokens, cache = step(torch.zeros((1, prompt), dtype=torch.long, device=device))
    times.append(time.perf_counter())
    written = min(new_tokens - 1, TIMED_TOKENS)
    for _ in range(written):
        tokens, cache = step(tokens, cache)
    times.append(time.perf_counter())
    decoding = (times[2] - times[1]) / written * (new_tokens - 1) if written else 0.0
    return times[1] - times[0] + decoding
