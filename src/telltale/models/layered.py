"""Running a model's layers one by one, whatever its architecture.

The one place that knows Hugging Face models. Nothing here is written for an architecture: the
model's own forward is called with its layers replaced, for the length of that call, by functions
that compute nothing. What it passes to each of them (masks, rotary embeddings, caches) is recorded,
and any layer can then be called with it. The model's weights and layers are never changed.

Does not know tasks, examples or engines.
"""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import Cache

from telltale.errors import MeasurementError, UnsupportedModelError
from telltale.paths import LayerPath

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KeyValue = tuple[Tensor, Tensor]  # each (rows, heads, tokens, head width)
# What forwards call the key-value cache that they are given: transformers 5.24 renamed it.
CACHE_NAMES = ("cache", "past_key_values")
# How configuration values are called that are lengths from which on attention is another.
LENGTH_NAMES = re.compile("(window|window_size|chunk_size|original_max_position_embeddings)$")


@dataclass(frozen=True, slots=True)
class LayerCall:
    """A layer's arguments other than the hidden state."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An embedded input with the arguments of every layer."""

    hidden: Tensor  # (rows, tokens, width)
    calls: tuple[LayerCall, ...]  # one a layer
    cache: LayerCache | None


class LayerCache(Cache):  # type: ignore[misc]  # transformers is untyped
    """A key-value cache, by the layers' indices in the whole model, in place of transformers' own.

    Whoever runs a layer sets ``layer`` first, so that no layer's own idea of its place matters, the
    same layer may be run on different paths, and a layer that is left out leaves no gap. ``length``
    is how many tokens come before those given; ``held`` may be set and read between runs.
    """

    is_compileable = False

    def __init__(self, length: int) -> None:
        super().__init__(layers=[])
        self.length = length
        self.layer = 0
        self.held: dict[int, KeyValue] = {}

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,  # noqa: ARG002 - see above
        *_: object,
        **__: object,
    ) -> KeyValue:
        """Append to the running layer's keys and values, and return all of them.

        Each (rows, heads, tokens, head width); what is held for one row stands for every row.
        """
        if self.layer in self.held:
            rows = key_states.shape[0]
            keys, values = (held.expand(rows, -1, -1, -1) for held in self.held[self.layer])
            key_states = torch.cat([keys, key_states], dim=-2)
            value_states = torch.cat([values, value_states], dim=-2)
        self.held[self.layer] = key_states, value_states
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """How many tokens come before those given."""
        return self.length

    def get_mask_sizes(
        self,
        query_length: int | Tensor,
        layer_idx: int = 0,  # noqa: ARG002
    ) -> tuple[int, int]:
        """The number of keys, and the offset of the first, for building a mask.

        Some releases of transformers give the positions of the queries in place of their number.
        """
        queries = len(query_length) if isinstance(query_length, Tensor) else query_length
        return self.length + queries, 0


class _Recorded(Exception):  # noqa: N818 - not an error
    """All layers have been called; the rest of the forward is not needed."""


class LayeredModel:
    """A causal language model whose layers can be run one by one.

    Construction checks that the layers can be found, that each is called once and in order, and
    that driving all of them gives the model's own logits.

    Raises:
        UnsupportedModelError: one of these does not hold; the message says which.
        MeasurementError: the model gives no numbers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = model.eval()
        self.layers: Sequence[nn.Module] = find_layers(model)
        parameter = next(model.parameters())
        self.device = parameter.device
        self.dtype = parameter.dtype
        self._output_lengths: list[int] = [0] * len(self.layers)
        takes = inspect.signature(self.model.forward).parameters
        # A model with positional biases in its attention takes none.
        self._takes_positions = "position_ids" in takes
        self._cache_name = next((name for name in CACHE_NAMES if name in takes), None)
        self._at_end: dict[str, LayerCache] = {}
        self._check()

    @property
    def depth(self) -> int:
        """How many layers the whole model has."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """The width of a hidden state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def attention(self) -> str:
        """The attention implementation in use, such as ``sdpa``."""
        return str(getattr(self.model.config, "_attn_implementation", "unknown"))

    @property
    def longest_input(self) -> int | None:
        """The most tokens the model takes, if its configuration gives it."""
        return longest_input_of(self.model)

    def minds_length(self, length: int) -> bool:
        """Whether by its configuration the model treats an input of that length differently.

        That is: attention over windows or chunks that are shorter, layers of another kind than
        attention, biases by distance, or rotary embeddings that are stretched from some length on.
        """
        config = self.model.config.get_text_config().to_dict()
        limits = list(_lengths_in(config))
        kinds = set(config.get("layer_types") or ()) - {"full_attention"}
        if limits:  # windows no shorter than the input are none
            kinds -= {"sliding_attention", "chunked_attention"}
        return any(limit < length for limit in limits) or bool(kinds or config.get("alibi"))

    def one_of_each_kind(self, tokens: Sequence[int]) -> LayerPath:
        """The path through the first layer of each kind.

        Layers are of one kind if they have the same parts with the same plain attributes, and are
        given the same beside the hidden state when the model reads ``tokens``. Their own index,
        where they know it, is no difference.
        """
        calls = self.prepare(torch.tensor([tokens], device=self.device)).calls
        seen = [_traits(layer, call) for layer, call in zip(self.layers, calls, strict=True)]
        first: list[int] = []
        for index, traits in enumerate(seen):
            if not any(_are_alike(seen[one], one, traits, index) for one in first):
                first.append(index)
        return LayerPath(tuple(first), self.depth)

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end the model's own generation."""
        generation = getattr(self.model, "generation_config", None)
        ends = getattr(generation, "eos_token_id", None)
        if ends is None:
            ends = getattr(self.model.config.get_text_config(), "eos_token_id", None)
        return frozenset([ends] if isinstance(ends, int) else ends or ())

    @property
    def whole(self) -> LayerPath:
        """The path through every layer."""
        return LayerPath.whole(self.depth)

    @property
    def layer_parameters(self) -> tuple[int, ...]:
        """The number of parameters of each layer."""
        return tuple(sum(p.numel() for p in layer.parameters()) for layer in self.layers)

    @property
    def token_bytes(self) -> int:
        """About as many bytes as the largest layer computes of one token.

        Each of a layer's parameters but a few is in a matrix with the model's width as one side, so
        their number over the width is that of all that its matrices give; as much again is for
        copies, such as keys repeated for each head.
        """
        width = self.model.get_input_embeddings().weight.shape[1]
        return int(2 * max(self.layer_parameters) / width * self.dtype.itemsize) + 1

    def parameters_on(self, path: LayerPath) -> int:
        """The number of parameters of the model with only this path's layers."""
        gone = {id(p) for layer in path.removed for p in self.layers[layer].parameters()}
        return sum(p.numel() for p in self.model.parameters() if id(p) not in gone)

    def prepare(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: LayerCache | None = None,
        differentiable: bool = False,
    ) -> Prepared:
        """Embed tokens, and record what the model would pass to each layer.

        Args:
            input_ids: (rows, tokens), padded on the right: a causal model's real tokens never see
                padding that comes after them.
            position_ids: (rows, tokens), where they are not simply counted from the left.
            attention_mask: (rows, 1, tokens, cached and tokens), added to the attention scores,
                where attention is not simply causal.
            cache: the tokens before these; layers that are run add to it.
            differentiable: whether a gradient will be asked for, which costs memory.
        """
        seen: list[tuple[Tensor, LayerCall]] = []

        def recorder(index: int) -> Callable[..., Any]:
            def record(*args: Any, **kwargs: Any) -> Any:
                hidden = args[0] if args else kwargs.pop("hidden_states")
                seen.append((hidden, LayerCall(args[1:], kwargs)))
                if index + 1 == self.depth:
                    raise _Recorded  # the model's end, with its large head, is not wanted here
                return self._as_output(index, hidden)

            return record

        extra: dict[str, Any] = {}
        if position_ids is not None:
            extra["position_ids"] = position_ids
        if attention_mask is not None:
            extra["attention_mask"] = attention_mask
        if cache is not None:
            extra |= self._given(cache)
        with (
            # What is made in inference mode can be part of no gradient.
            torch.no_grad() if differentiable else torch.inference_mode(),
            replaced_forwards(self.layers, [recorder(i) for i in range(self.depth)]),
            suppress(_Recorded),
        ):
            self._own_forward(input_ids, **extra)
        return Prepared(seen[0][0], tuple(call for _, call in seen), cache)

    @torch.inference_mode()
    def run_layer(self, layer: int, hidden: Tensor, prepared: Prepared) -> Tensor:
        """One layer's output, (rows, tokens, width), for an input of the same shape."""
        return self._run_layer(layer, hidden, prepared)

    def _run_layer(self, layer: int, hidden: Tensor, prepared: Prepared) -> Tensor:
        call = prepared.calls[layer]
        if prepared.cache is not None:
            prepared.cache.layer = layer
        output = self.layers[layer](hidden, *call.args, **call.kwargs)
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]

    @torch.inference_mode()
    def run_path(self, path: LayerPath, prepared: Prepared) -> Tensor:
        """The hidden state after the last layer of a path."""
        hidden = prepared.hidden
        for layer in path.kept:
            hidden = self.run_layer(layer, hidden, prepared)
        return hidden

    def gradient_before(
        self, layer: int, hidden: Tensor, gradient: Tensor, prepared: Prepared
    ) -> Tensor:
        """The gradient with respect to a layer's input, from that with respect to its output.

        No parameter is given a gradient.

        Args:
            layer: the layer.
            hidden: its input, (rows, tokens, width).
            gradient: with respect to its output, of the same shape.
            prepared: made to be differentiable.
        """
        with torch.enable_grad():
            entering = hidden.clone().requires_grad_()
            leaving = self._run_layer(layer, entering, prepared)
            (found,) = torch.autograd.grad(leaving, entering, gradient)
        return found

    def gradient_before_end(self, hidden: Tensor, value: Callable[[Tensor], Tensor]) -> Tensor:
        """The gradient with respect to the last layer's output of a value of the logits.

        Args:
            hidden: the state after the last layer at any positions, (positions, width).
            value: a number made of their logits, (positions, vocabulary).
        """
        with torch.enable_grad():
            entering = hidden.clone().requires_grad_()
            (found,) = torch.autograd.grad(value(self._logits(entering)), entering)
        return found

    def trainable_logits(self, prepared: Prepared, positions: Tensor) -> Tensor:
        """The whole model's logits, (positions, vocabulary), as a part of a graph.

        Whatever of the layers has weights to be trained gets its gradient from what is made of
        them. The model's end is run at these positions alone.

        Args:
            prepared: made to be differentiable.
            positions: (positions,), each a row times the rows' length and a column; none twice.
        """
        with torch.enable_grad():
            hidden = prepared.hidden
            for layer in range(self.depth):
                hidden = self._run_layer(layer, hidden, prepared)
            # Not by indexing, whose gradient several threads of a CPU add up in any order.
            return self._logits(hidden.flatten(0, 1).index_select(0, positions))

    @torch.inference_mode()
    def next_logits(
        self,
        layers: Mapping[int, Tensor | None],
        tokens: Tensor,
        seen: Tensor,
        position_ids: Tensor,
        cache: LayerCache,
    ) -> Tensor:
        """The logits, (rows, vocabulary), after one more token in each row.

        The model's own forward, with the layers left out passing their input on: one call a token,
        where preparing, running and reading out would be two and a loop. Rows may be of different
        paths: each layer is run for all of them at once, and those that leave it out go on with
        what they had before it. (Running it for the others alone would need to know which of its
        arguments have rows, in every architecture.)

        Args:
            layers: those to run, each with the rows that leave it out, (rows,) of bool, if any do.
            tokens: (rows,), the token of each row that has not been read yet.
            seen: (rows, cached and 1), 1 where a token is real and 0 where it is padding.
            position_ids: (rows,), how far each token is from the start of its text.
            cache: the tokens before; the new ones are added to it.
        """

        def skip(index: int) -> Callable[..., Any]:
            return lambda *args, **kwargs: self._as_output(
                index, args[0] if args else kwargs["hidden_states"]
            )

        def run(index: int) -> Callable[..., Any]:
            forward, left_out = self.layers[index].forward, layers[index]

            def forward_with_cache(*args: Any, **kwargs: Any) -> Any:
                cache.layer = index
                output = forward(*args, **kwargs)
                if left_out is None:
                    return output
                before = args[0] if args else kwargs["hidden_states"]
                after = output[0] if isinstance(output, tuple) else output
                return self._as_output(index, torch.where(left_out[:, None, None], before, after))

            return forward_with_cache

        functions = [run(i) if i in layers else skip(i) for i in range(self.depth)]
        extra: dict[str, Any] = {"attention_mask": seen, **self._given(cache)}
        if self._takes_positions:
            extra["position_ids"] = position_ids[:, None]
        with replaced_forwards(self.layers, functions):
            logits: Tensor = self._own_forward(tokens[:, None], **extra).logits
        cache.length += 1
        return logits[:, -1]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """The logits, (positions, vocabulary), by the model's final norm and head.

        Args:
            hidden: the state after the last layer at any positions, (positions, width). A model's
                end (norm, head, caps) works on each position alone.
        """
        return self._logits(hidden)

    def _logits(self, hidden: Tensor) -> Tensor:
        def skip(index: int) -> Callable[..., Any]:
            return lambda *_, **__: self._as_output(index, hidden[:, None])

        # The tokens given do not matter: their embeddings are replaced by the first layer. Each
        # has a row, since a model may have no embedding of positions past its longest text.
        tokens = torch.zeros((hidden.shape[0], 1), dtype=torch.long, device=self.device)
        with replaced_forwards(self.layers, [skip(i) for i in range(self.depth)]):
            logits: Tensor = self._own_forward(tokens, **self._at_end).logits
        return logits[:, 0]

    def _given(self, cache: LayerCache) -> dict[str, LayerCache]:
        """The cache by the name under which this model's forward takes one."""
        if self._cache_name is None:
            raise UnsupportedModelError(
                f"the forward of {type(self.model).__name__} takes no key-value cache: none of its "
                f"parameters is called {' or '.join(CACHE_NAMES)}"
            )
        return {self._cache_name: cache}

    def _own_forward(self, input_ids: Tensor, **extra: Any) -> Any:
        return self.model(input_ids=input_ids, use_cache=False, **extra)

    def _as_output(self, index: int, hidden: Tensor) -> Any:
        """A hidden state in the form in which this layer returns it."""
        length = self._output_lengths[index]
        return (hidden, *([None] * (length - 1))) if length else hidden

    def _check(self) -> None:
        name = type(self.model).__name__
        if getattr(self.model.config.get_text_config(), "use_bidirectional_attention", False):
            raise UnsupportedModelError(
                f"{name} is configured to see what comes after each token, so it is no decoder; "
                "this is not supported"
            )
        tokens = torch.arange(2, 9, device=self.device)[None] % self.vocabulary
        expected = self._own_logits(tokens)
        if bool(expected.isnan().any()):
            raise MeasurementError(
                f"{name} gives NaN on plain text in {str(self.dtype).removeprefix('torch.')}; try "
                "`dtype` float32, or get the model again: its weights may be damaged"
            )
        try:
            prepared = self.prepare(tokens)
            hidden = self.run_path(LayerPath.whole(self.depth), prepared)
            driven = self.logits(hidden[0])
        except Exception as problem:
            raise UnsupportedModelError(
                f"{name} cannot be driven layer by layer ({type(problem).__name__}: {problem}); "
                "this architecture is not supported"
            ) from problem
        self._spare_the_end(hidden[0], driven)
        difference = (driven - expected).abs().max().item()
        # Kernels may depend on shapes, so that one way is not bit-equal to the other.
        if not difference <= 16 * torch.finfo(self.dtype).eps * expected.abs().max().item():
            raise UnsupportedModelError(
                f"driving the layers of {name} one by one does not give the model's own logits (a "
                f"difference of {difference:.1e}); this architecture is not supported"
            )

    def _spare_the_end(self, hidden: Tensor, logits: Tensor) -> None:
        """Give the model's end an empty cache, where that does not change its logits.

        Without one, transformers look in the positions for several texts in a row, for which a host
        waits until its GPU is done.
        """
        if self._cache_name is None:
            return
        try:
            self._at_end = self._given(LayerCache(0))
            is_same = torch.equal(self.logits(hidden), logits)
        except Exception:  # whatever it is, the end is asked without one
            is_same = False
        if not is_same:
            self._at_end = {}

    @torch.inference_mode()
    def _own_logits(self, tokens: Tensor) -> Tensor:
        """The model's own logits, (tokens, vocabulary), seeing that each layer is run as it must.

        It is noted on the way in what form each layer gives its output.
        """
        name = type(self.model).__name__
        called: list[int] = []

        def note(index: int) -> Callable[..., None]:
            def hook(_: nn.Module, __: Any, output: Any) -> None:
                called.append(index)
                self._output_lengths[index] = len(output) if isinstance(output, tuple) else 0

            return hook

        hooks = [layer.register_forward_hook(note(i)) for i, layer in enumerate(self.layers)]
        try:
            logits: Tensor = self._own_forward(tokens).logits[0]
        except Exception as problem:
            if is_out_of_memory(problem):
                raise
            raise UnsupportedModelError(
                f"{name} fails on plain text ({type(problem).__name__}: {problem}); its "
                "config.json may be damaged, or this architecture needs other inputs"
            ) from problem
        finally:
            for hook in hooks:
                hook.remove()
        if called != list(range(self.depth)):
            raise UnsupportedModelError(
                f"{name} does not run its {self.depth} layers once each and in order (it ran "
                f"{called}), so leaving one out has no meaning; this architecture is not supported"
            )
        return logits

    @property
    def vocabulary(self) -> int:
        """The size of the model's vocabulary."""
        return int(self.model.get_input_embeddings().weight.shape[0])


def longest_input_of(model: Any) -> int | None:
    """The most tokens a model takes, if its configuration gives it."""
    length = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length is not None else None


def find_layers(model: Any) -> Sequence[nn.Module]:
    """The model's decoder layers, in order.

    Raises:
        UnsupportedModelError: no list of modules has as many as the configuration says.
    """
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    roots = [decoder, model] if decoder is not None else [model]
    for root in roots:
        lists = [
            child
            for child in root.modules()
            if isinstance(child, nn.ModuleList) and len(child) == depth
        ]
        if lists:
            return list(lists[0])
    raise UnsupportedModelError(
        f"{type(model).__name__} has no list of {depth} decoder layers; this architecture is not "
        "supported"
    )


def _lengths_in(config: dict[str, Any]) -> Iterator[int]:
    """The values of a configuration, rotary embeddings' included, from which on length matters."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _lengths_in(value)
        elif type(value) is int and LENGTH_NAMES.search(name):
            yield value


def _traits(layer: nn.Module, call: LayerCall) -> dict[str, Any]:
    """What tells a layer's kind, by name: its parts, their plain attributes, what it is given."""
    traits: dict[str, Any] = {"": repr(layer)}
    for name, part in layer.named_modules():
        traits |= {
            f"{name}.{key}": value
            for key, value in vars(part).items()
            if isinstance(value, int | float | str | None)
        }
    given = [*enumerate(call.args), *call.kwargs.items()]
    return traits | {f"given {name}": value for name, value in given}


def _are_alike(one: dict[str, Any], index: int, other: dict[str, Any], other_index: int) -> bool:
    def same(a: Any, b: Any) -> bool:
        if a is b or (type(a) is type(b) is int and (a, b) == (index, other_index)):
            return True
        return type(a) is type(b) and isinstance(a, int | float | str) and a == b

    return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error means out of memory; a CPU's allocator raises a plain RuntimeError."""
    text = str(problem).lower()
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory")
    )


@contextmanager
def replaced_forwards(
    layers: Sequence[nn.Module], functions: Sequence[Callable[..., Any]]
) -> Iterator[None]:
    """Call ``functions`` in place of the layers' forwards within a block."""
    # A layer may have a forward of its own instance (accelerate sets one), which comes back after.
    own = [layer.__dict__.get("forward") for layer in layers]
    try:
        for layer, function in zip(layers, functions, strict=True):
            layer.__dict__["forward"] = function
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            if forward is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.__dict__["forward"] = forward
