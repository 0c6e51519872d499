"""The engine for use: nothing that two measurements share is computed twice.

- Every layer prefix that paths have in common runs once a batch, and not at all where the store
  still has its state from an earlier round. The store keeps what saves the next round most.
- The tokens that all prompts begin with are read once a path, as keys and values.
- The choices of a question share its context in one row, and questions the beginnings of theirs.
- Nothing is padded but in attention.

All but the first need capabilities that `telltale.engine.selftest` looks for in a model. What is
then read of the states, log-likelihoods of choices or generated text, is a reader's business:
`telltale.engine.choosing` and `telltale.engine.generating`. Text is written on several paths at
once by `telltale.engine.side_by_side`.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from telltale.engine.layout import Layout, lay_out
from telltale.engine.prefixes import Walk, common_depth, prefixes, walks, worths
from telltale.engine.side_by_side import SideBySide, Writer
from telltale.engine.store import StateStore, give_back_free_memory, size_bytes, states_budget
from telltale.engine.transfers import sent
from telltale.errors import MeasurementError
from telltale.measure import BatchTooLargeError, Measurement, Outcome
from telltale.models.layered import LayerCache, is_out_of_memory
from telltale.models.row_masks import RowMask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.engine.layout import Reads
    from telltale.engine.prefixes import LayerPrefix
    from telltale.engine.side_by_side import ReadAt
    from telltale.engine.store import Key, State
    from telltale.measure import Batch
    from telltale.models.layered import KeyValue, LayeredModel, Prepared
    from telltale.paths import LayerPath

TOKEN_PREFIX = "token prefix"  # the store's name for it; a batch's is its id
# What writes on many paths at once is faster by more than what the store could keep instead saves.
WRITERS_SHARE = 0.75


# Where a device works while the host goes on: how many paths are walked beyond the one that is
# read, so that it has work while the host waits. They are lost where a caller leaves.
READ_AHEAD = {"cuda": 1}


class Capabilities(NamedTuple):
    """What an architecture can do beyond the plain way.

    ``keeps_prefix``: a token prefix read once stands for itself in every row.
    ``shares_context``: the choices of a question may follow its context in one row.
    ``continues``: text goes on token by token from keys and values; needed for generation only.
    ``packs``: several examples may lie in one row, and what they begin with alike be there once.
    ``padding_free``: all of a batch may lie in one row, with attention in rows made of it.
    """

    keeps_prefix: bool
    shares_context: bool
    continues: bool = False
    packs: bool = False
    padding_free: bool = False


@dataclass(frozen=True, slots=True)
class Walked:
    """A batch at the end of a path.

    ``reads`` is what is read of choices, on the model's device. ``hidden`` is the state after the
    last layer, (rows, length, width). ``key_values`` are those of each layer of the path, token
    prefix included, where the reader needs them.
    """

    examples: tuple[EncodedExample, ...]
    layout: Layout
    reads: Reads
    path: LayerPath
    hidden: Tensor
    key_values: tuple[KeyValue, ...]


class _LaidOut(NamedTuple):
    """A batch as rows, on the model's device; of ``gathered`` see `Layout`."""

    layout: Layout
    reads: Reads
    gathered: tuple[Tensor, ...]


class _Passing(NamedTuple):
    """The token prefix as it was last read beside a batch, where the store has no room for it."""

    prepared: Prepared
    layers: LayerPrefix
    state: State  # after those layers


class Reader(Protocol):
    """Reads outcomes of a batch at the end of a path.

    A call begins to read. What it gives is called to have the outcomes, in the order of the batch,
    and may wait for the device; it should hold no states.
    """

    @property
    def needs_key_values(self) -> bool:
        """Whether it goes on from the keys and values of a path's layers."""
        ...

    def __call__(
        self, model: LayeredModel, batch: Batch, walked: Walked
    ) -> Callable[[], tuple[Outcome, ...]]:
        """Begin to read one batch."""
        ...


class Begun(NamedTuple):
    """A path that is being read, with the layer tokens that it took."""

    path: LayerPath
    outcomes: Callable[[], tuple[Outcome, ...]]
    layer_tokens: int


class SharedEngine:
    """Measures paths on encoded examples, which batches name by position.

    ``token_prefix`` is what every example's context begins with; it is kept as such only if
    ``capabilities`` says so. ``store`` holds states from batch to batch and round to round.
    """

    def __init__(
        self,
        model: LayeredModel,
        examples: Sequence[EncodedExample],
        reader: Reader | Writer,
        *,
        capabilities: Capabilities,
        token_prefix: Tokens = (),
        store: StateStore | None = None,
    ) -> None:
        self.model = model
        self.examples = examples
        self.reader = reader
        self._side_by_side: SideBySide | None = None
        self.capabilities = capabilities
        self.token_prefix = token_prefix if capabilities.keeps_prefix else ()
        self.store = StateStore(states_budget(model.device)) if store is None else store
        if isinstance(reader, Writer):  # which holds keys and values of its own
            held = self.store  # no engine that holds itself: its states go when it does
            held.reserved_share = WRITERS_SHARE
            lengths = [len(example.context) - len(self.token_prefix) for example in examples]
            self._side_by_side = SideBySide(model, reader, lengths, lambda: held.reserved_bytes)
        self._layer_tokens = 0  # since the last measurement
        self._round: frozenset[LayerPath] = frozenset()  # what was asked since a round began
        self._round_before: frozenset[LayerPath] = frozenset()
        # What states are worth after this round, those of rows and those of the token prefix.
        self._worths: tuple[dict[LayerPrefix, float], dict[LayerPrefix, float]] = ({}, {})
        self._layouts: dict[Batch, _LaidOut] = {}
        self._passing: _Passing | None = None
        self._token_prefix_bytes = 0  # of its state after a layer, once one is known
        self._ahead = READ_AHEAD.get(model.device.type, 0)

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`.

        Several calls may be open side by side; each is right, but they let go of each other's
        states, which are then computed again.

        Raises:
            BatchTooLargeError: a batch does not fit; what was yielded before stands.
        """
        self._layer_tokens = 0  # what an earlier call did not finish is no work of this one
        remaining = [walk.path for walk in walks(paths)]
        self._note(paths)
        try:
            while remaining:
                self._value_states(remaining, batches)
                self._bound_token_prefix(remaining[0])
                with self._memory_errors(None):
                    count = self._read_token_prefix(remaining)
                plan = walks(remaining[:count])
                read = prefixes(remaining[:count])
                for batch in batches:
                    yield from self._measure(batch, plan)
                    parts = self._parts(batch)
                    self.store.release((part.id, prefix) for part in parts for prefix in read)
                remaining = remaining[count:]
        finally:
            self._passing = None

    def _note(self, paths: Sequence[LayerPath]) -> None:
        """Note what is asked: a path with fewer layers than all before it begins a round."""
        asked = frozenset(paths)
        if asked <= self._round:
            return
        if self._round and min(path.depth for path in asked) < min(
            path.depth for path in self._round
        ):
            self._round_before, self._round = self._round, frozenset()
        self._round |= asked
        self._worths = (
            worths(self._round, in_a_row=self.reader.needs_key_values),
            worths(self._round, in_a_row=True) if self.token_prefix else {},
        )
        # What neither this round nor the one before it can read is read by none.
        wanted = prefixes(self._round | self._round_before)
        self.store.retain(lambda key: key[1] in wanted)

    def _value_states(self, paths: Sequence[LayerPath], batches: Sequence[Batch]) -> None:
        """Have the store hold what these paths will read, and keep what saves the next round most.

        Token prefixes' states that they read are required.
        """
        of_rows, of_token_prefix = self._worths
        read, ids = prefixes(paths), {part.id for one in batches for part in self._parts(one)}

        def worth(key: Key) -> float:
            values = of_token_prefix if key[0] == TOKEN_PREFIX else of_rows
            return values.get(key[1], 0.0)

        self.store.revalue(
            worth,
            required=lambda key: key[1] in read,
            awaited=lambda key: key[1] in read and key[0] in ids,
        )

    def _parts(self, batch: Batch) -> list[Batch]:
        """What of a batch is read at once."""
        return [batch] if self._side_by_side is None else self._side_by_side.parts(batch)

    def _measure(self, batch: Batch, plan: Sequence[Walk]) -> Iterator[Measurement]:
        if self._side_by_side is None:
            read = self._read(batch, plan)
        else:
            read = self._side_by_side.read(batch, plan, self._walked, self._memory_errors)
        for path, outcomes, layer_tokens in read:
            done, self._layer_tokens = self._layer_tokens + layer_tokens, 0
            self._give_back()
            yield Measurement(batch, path, outcomes, done)

    def _walked(self, part: Batch, plan: Sequence[Walk]) -> Iterator[Walked]:
        examples = tuple(self.examples[position] for position in part.examples)
        layout = lay_out(
            examples,
            prefix_length=len(self.token_prefix),
            shares_context=self.capabilities.shares_context,
        )
        reads, prepared = layout.reads(self.model.device), self._prepare(layout)
        for path, hidden, key_values in self._walk(part, plan, prepared):
            yield Walked(examples, layout, reads, path, hidden, key_values)

    def _read(self, batch: Batch, plan: Sequence[Walk]) -> Iterator[ReadAt]:
        assert not isinstance(self.reader, Writer)
        examples = tuple(self.examples[position] for position in batch.examples)
        # The context is entered and left around each piece of work, never across a yield.
        with self._memory_errors(batch):
            layout, reads, gathered = self._laid_out(batch, examples)
            prepared = self._prepare(layout, gathered)
            states = self._walk(batch, plan, prepared)
        begun: deque[Begun] = deque()
        is_walked = False
        while begun or not is_walked:
            with self._memory_errors(batch):
                step = None if is_walked else next(states, None)
                if step is not None:
                    path, hidden, key_values = step
                    walked = Walked(examples, layout, reads, path, hidden, key_values)
                    outcomes = self.reader(self.model, batch, walked)
                    begun.append(Begun(path, outcomes, self._layer_tokens))
                    self._layer_tokens = 0
            is_walked = step is None
            if begun and (is_walked or len(begun) > self._ahead):
                done = begun.popleft()
                with self._memory_errors(batch):
                    found = done.outcomes()
                yield done.path, found, done.layer_tokens

    def _laid_out(self, batch: Batch, examples: Sequence[EncodedExample]) -> _LaidOut:
        """A batch as rows, and what is read of it, made once."""
        if batch not in self._layouts:
            layout = lay_out(
                examples,
                prefix_length=len(self.token_prefix),
                shares_context=self.capabilities.shares_context,
                packs=self.capabilities.packs,
                padding_free=self.capabilities.padding_free,
            )
            device = self.model.device
            gathered = tuple(sent(one, device) for one in layout.gathered())
            self._layouts[batch] = _LaidOut(layout, layout.reads(device), gathered)
        return self._layouts[batch]

    def _give_back(self) -> None:
        if len(self.store) and self.model.device.type == "cpu":
            give_back_free_memory()

    def _prepare(self, layout: Layout, gathered: Sequence[Tensor] = ()) -> Prepared:
        device, before = self.model.device, len(self.token_prefix)
        branching = layout.branching
        mask = layout.attention_mask(before, self.model.dtype, device) if branching else None
        if mask is not None and gathered:
            mask = RowMask.of(mask, *gathered)
        return self.model.prepare(
            sent(layout.token_ids(), device),
            position_ids=sent(layout.position_ids(before), device) if branching else None,
            attention_mask=mask,
            cache=LayerCache(before) if before or self.reader.needs_key_values else None,
        )

    def _walk(
        self, batch: Batch, plan: Sequence[Walk], prepared: Prepared
    ) -> Iterator[tuple[LayerPath, Tensor, tuple[KeyValue, ...]]]:
        """Each path, with the state after its last layer, and its keys and values if needed."""
        held: dict[int, Tensor] = {0: prepared.hidden}  # by depth, on the path walked last
        key_values: list[KeyValue] = []  # of the layers of that path, where they are needed
        previous: LayerPrefix = ()
        for walk in plan:
            kept = walk.path.kept
            shared = common_depth(previous, kept)
            previous = kept
            held = {depth: held[depth] for depth in held if depth <= shared}
            depth, hidden = self._deepest(batch, kept, held, key_values)
            if depth in walk.shared_depths:
                held[depth] = hidden
            while depth < len(kept):
                depth += 1
                state = self._run(kept[:depth], hidden, prepared)
                if self.reader.needs_key_values:
                    key_values.append((state[1], state[2]))
                else:
                    state = state[:1]
                hidden = state[0]
                if depth in walk.shared_depths:
                    held[depth] = hidden
                if depth < len(kept):  # no path of a later round goes on from a path's end
                    self.store.offer((batch.id, kept[:depth]), state)
            yield walk.path, hidden, tuple(key_values)

    def _deepest(
        self,
        batch: Batch,
        kept: LayerPrefix,
        held: dict[int, Tensor],
        key_values: list[KeyValue],
    ) -> tuple[int, Tensor]:
        """The depth of the deepest state at hand on a path, and the state.

        Where keys and values are needed, ``key_values`` is left with those of all layers up to it.
        """
        nearest = max(held)
        hidden = held[nearest]
        if not self.reader.needs_key_values:
            for depth in range(len(kept), nearest, -1):
                stored = self.store.get((batch.id, kept[:depth]))
                if stored is not None:
                    return depth, stored[0]
            return nearest, hidden
        del key_values[nearest:]
        for depth in range(nearest + 1, len(kept) + 1):
            stored = self.store.get((batch.id, kept[:depth]))
            if stored is None:
                break
            nearest, (hidden, keys, values) = depth, stored
            key_values.append((keys, values))
        return nearest, hidden

    def _run(self, prefix: LayerPrefix, hidden: Tensor, prepared: Prepared) -> State:
        """The state after the last layer of a layer prefix, with its keys and values if cached."""
        layer, cache = prefix[-1], prepared.cache
        if cache is not None:
            cache.held = {layer: self._token_prefix_at(prefix)} if cache.length else {}
        self._layer_tokens += hidden.shape[0] * hidden.shape[1]
        hidden = self.model.run_layer(layer, hidden, prepared)
        return (hidden,) if cache is None else (hidden, *cache.held.pop(layer))

    def _bound_token_prefix(self, first: LayerPath) -> None:
        """Where more is left of the token prefix than half the budget, keep the next path's alone.

        Else calls that are left early would each leave a path's states to those after them.
        """
        if self.store.required_bytes > self.store.budget_bytes // 2:
            own = prefixes([first])
            self.store.retain(lambda key: key[0] != TOKEN_PREFIX or key[1] in own)

    def _read_token_prefix(self, paths: Sequence[LayerPath]) -> int:
        """Read the token prefix along as many paths as the store has room for, and say how many.

        The store then has, for each of their layer prefixes, the hidden state, keys and values.
        Where it has no room for one path's, all paths are walked, and what it lacks is read again
        beside each batch.
        """
        if not self.token_prefix:
            return len(paths)
        prepare = cache(self._prepare_token_prefix)  # once, and only where something is to be read
        for count, path in enumerate(paths):
            budget = self.store.budget_bytes
            if not self._run_token_prefix(path.kept, prepare, budget // 2 if count else budget):
                return count or len(paths)
        return len(paths)

    def _prepare_token_prefix(self) -> Prepared:
        tokens = sent(torch.tensor([self.token_prefix]), self.model.device)
        return self.model.prepare(tokens, cache=LayerCache(0))

    def _run_token_prefix(
        self, layers: LayerPrefix, prepare: Callable[[], Prepared], most_bytes: int
    ) -> bool:
        """Have the token prefix's state in the store after each of a path's first layers.

        False where all that is required would then take more than so many bytes; the store has as
        many as do not.
        """
        before: State | None = None
        for depth in range(1, len(layers) + 1):
            key = (TOKEN_PREFIX, layers[:depth])
            stored = self.store.get(key)
            if stored is None:
                if self.store.required_bytes + self._token_prefix_bytes > most_bytes:
                    return False  # layers' states are mostly of one size, and none is run in vain
                hidden = prepare().hidden if before is None else before[0]
                stored = self._run(key[1], hidden, prepare())
            self._token_prefix_bytes = size_bytes(stored)
            if not self.store.require(key, stored, most_bytes):
                return False
            before = stored
        return True

    def _token_prefix_at(self, layers: LayerPrefix) -> KeyValue:
        """The token prefix's keys and values at the last of some first layers of a path."""
        stored = self.store.get((TOKEN_PREFIX, layers))
        if stored is None:  # there was no room, or another call, open beside this one, let go of it
            stored = self._pass_on(layers)
        return stored[1], stored[2]

    def _pass_on(self, layers: LayerPrefix) -> State:
        """The token prefix's state after layers that the store has none of, from the last it has.

        A path asks for one layer after the other, so that what was read last is mostly next.
        """
        last = self._passing
        prepared = self._prepare_token_prefix() if last is None else last.prepared
        nearest = 0
        state: State = (prepared.hidden,)
        if last is not None and layers[: len(last.layers)] == last.layers:
            nearest, state = len(last.layers), last.state
        for depth in range(len(layers) - 1, nearest, -1):
            stored = self.store.get((TOKEN_PREFIX, layers[:depth]))
            if stored is not None:
                nearest, state = depth, stored
                break
        for depth in range(nearest + 1, len(layers) + 1):
            state = self._run(layers[:depth], state[0], prepared)
            self.store.offer((TOKEN_PREFIX, layers[:depth]), state)
        self._passing = _Passing(prepared, layers, state)
        return state

    @contextmanager
    def _memory_errors(self, batch: Batch | None) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as problem:  # torch's own is a RuntimeError
            if not is_out_of_memory(problem):
                raise
            self.store.retain(lambda _: False)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            if batch is None:
                raise MeasurementError(
                    f"the {len(self.token_prefix)} tokens that all prompts begin with do not fit "
                    f"in the memory of {self.model.device}; close other programs or use `dtype` "
                    "bfloat16"
                ) from problem
            raise BatchTooLargeError(batch, str(self.model.device)) from problem
