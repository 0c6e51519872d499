"""Which precision is worth its digits on a CPU: found by timing layers of the model's own shape.

A model of random weights with one layer of each kind and a small vocabulary, by the model's own
configuration, is run in float32 and in bfloat16 by turns. No weights are read.
"""

from __future__ import annotations

import copy
import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from telltale.models.layered import LayeredModel
from telltale.models.quiet import quiet_transformers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telltale.models.source import ModelSource

# What bfloat16 must save to be taken. It has 8 bits of a number where float32 has 24, and examples
# whose choices are nearly equal may then be answered otherwise, so that a tie of timing, or what
# looks like a little more on a busy machine, goes to float32.
LEAST_GAIN = 1.25
# Layers of fewer parameters take longer to call than to compute, in whatever precision.
LEAST_PARAMETERS = 1_000_000
VOCABULARY = 64  # a model's own is large, and no part of its layers
# What is run at once: as many tokens as an engine's batch has on a CPU, fewer where a layer is
# large, so that a model of 8 billion parameters takes some seconds of one core.
ROWS, LENGTH = 4, 128
LEAST_TOKENS, MOST_OPERATIONS = 16, 3e10
SECONDS = 0.5  # of processor time, after which no more turns are begun
LEAST_TURNS = 4  # the first does not count
TICK = 1e-9


class Precision(NamedTuple):
    """What was chosen, ``float32`` or ``bfloat16``, and why, in one line; "" where it is plain.

    ``gain`` is how many times as fast as float32 bfloat16 was, None where that was not timed.
    """

    dtype: str
    reason: str = ""
    gain: float | None = None


def choose_precision(source: ModelSource) -> Precision:
    """The precision that a search on the CPU of this machine should take; takes a moment."""
    try:
        plain = layers_of(source)
    except Exception:  # whatever is wrong with the model, loading it will say
        return Precision("float32")
    if max(plain.layer_parameters) < LEAST_PARAMETERS:
        return Precision("float32")
    try:
        gain = gain_of(plain, LayeredModel(copy.deepcopy(plain.model).to(torch.bfloat16)))
    except Exception as problem:  # a kernel may be missing, or the memory
        kind = type(problem).__name__
        return Precision(
            "float32",
            f"`dtype` auto is float32: the model's layers could not be run in bfloat16 ({kind})",
        )
    if gain >= LEAST_GAIN:
        return Precision(
            "bfloat16",
            f"`dtype` auto is bfloat16: on this machine it runs the model's layers {gain:.1f} "
            "times as fast as float32",
            gain,
        )
    return Precision(
        "float32",
        f"`dtype` auto is float32: on this machine bfloat16 runs the model's layers {gain:.2f} "
        f"times as fast, and less than {LEAST_GAIN} times is not worth its digits",
        gain,
    )


def layers_of(source: ModelSource) -> LayeredModel:
    """The model's first layer of each kind, of random weights, in float32."""
    trusts = source.trust_remote_code
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=trusts)
        model = AutoModelForCausalLM.from_config(
            one_of_each_kind(config), dtype=torch.float32, trust_remote_code=trusts
        )
    return LayeredModel(model)


def one_of_each_kind(config: Any, times: int = 1, vocabulary: int | None = VOCABULARY) -> Any:
    """The same configuration with the first layer of each kind alone, and few tokens to know.

    Args:
        config: it.
        times: how often the layers come, one set after the other.
        vocabulary: how many tokens it is to know; None for as many as it does.
    """
    config = copy.deepcopy(config)
    text = config.get_text_config()
    depth = text.num_hidden_layers
    kinds = getattr(text, "layer_types", None) or [None] * depth
    first = [kinds.index(kind) for kind in dict.fromkeys(kinds)] * times
    for name, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == depth:  # one a layer
            setattr(text, name, type(value)(value[layer] for layer in first))
    text.num_hidden_layers = len(first)
    if vocabulary is None:
        return config
    text.vocab_size = vocabulary
    for token in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(text, token, None)
    return config


def gain_of(plain: LayeredModel, low: LayeredModel) -> float:
    """How many times as fast the second model's layers are as the first's."""
    most = int(MOST_OPERATIONS / (2 * sum(plain.layer_parameters)))
    length = min(LENGTH, plain.longest_input or LENGTH, max(LEAST_TOKENS, most))
    rows = max(1, min(ROWS, most // length))
    tokens = (torch.arange(rows * length) % plain.vocabulary).view(rows, length)

    def run_of(model: LayeredModel) -> Callable[[], object]:
        prepared = model.prepare(tokens)
        return lambda: model.run_path(model.whole, prepared)

    with _one_thread():
        return times_as_fast(run_of(low), run_of(plain))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one core: threads that wait for others take processor time, much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def times_as_fast(
    one: Callable[[], object],
    other: Callable[[], object],
    clock: Callable[[], float] = time.process_time,
) -> float:
    """How many times as fast one piece of work is as another, both done by turns.

    The median over turns, so that neither a machine that slows down nor a single disturbance
    decides; by processor time, which other programs take little of.
    """
    ratios: list[float] = []
    begun = clock()
    while len(ratios) < LEAST_TURNS or clock() - begun < SECONDS:
        times = [clock()]
        for work in (one, other):
            work()
            times.append(clock())
        ratios.append((times[2] - times[1]) / max(times[1] - times[0], TICK))
    return statistics.median(ratios[1:])  # the first has fetched memory and chosen kernels
