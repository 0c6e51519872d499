"""The engine for use: nothing that two measurements share is computed twice.

- Every layer prefix that paths have in common runs once a batch, and not at all where the store
  still has its state from an earlier round.
- The tokens that all prompts begin with are read once a path, as keys and values.
- The choices of a question share its context in one row.
- Logits are computed only where a choice's token is predicted, and once for all that are there.

The second and third need a capability that `telltale.engine.selftest` looks for in a model.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch

from telltale.engine.layout import Layout, lay_out
from telltale.engine.prefixes import Walk, prefixes, walks
from telltale.engine.scoring import judge, token_logliks
from telltale.engine.store import StateStore, default_budget_bytes
from telltale.measure import BatchTooLargeError, Measurement
from telltale.models.layered import TokenPrefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from telltale.engine.encode import EncodedExample, Tokens
    from telltale.engine.prefixes import LayerPrefix
    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel, Prepared
    from telltale.paths import LayerPath
    from telltale.tasks import Scoring

LOGITS_AT_ONCE = 2**24  # float32 logits held at a time: 64 MiB
TOKEN_PREFIX = "token prefix"  # the store's name for it; a batch's is its id


class Capabilities(NamedTuple):
    """What an architecture can do beyond the plain way.

    ``keeps_prefix``: a token prefix read once stands for itself in every row.
    ``shares_context``: the choices of a question may follow its context in one row.
    """

    keeps_prefix: bool
    shares_context: bool


class SharedEngine:
    """Measures paths on encoded examples, which batches name by position.

    ``token_prefix`` is what every example's context begins with; it is kept as such only if
    ``capabilities`` says so. ``store`` holds states from batch to batch and round to round.
    """

    def __init__(
        self,
        model: LayeredModel,
        examples: Sequence[EncodedExample],
        scoring: Scoring,
        *,
        capabilities: Capabilities,
        token_prefix: Tokens = (),
        store: StateStore | None = None,
    ) -> None:
        self.model = model
        self.examples = examples
        self.scoring = scoring
        self.capabilities = capabilities
        self.token_prefix = token_prefix if capabilities.keeps_prefix else ()
        self.store = StateStore(default_budget_bytes(model.device)) if store is None else store
        self._layer_tokens = 0  # since the last measurement

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`.

        Raises:
            BatchTooLargeError: a batch does not fit; what was yielded before stands.
        """
        remaining = [walk.path for walk in walks(paths)]
        while remaining:
            wanted = prefixes(remaining)
            self.store.retain(lambda key, wanted=wanted: key[1] in wanted)  # type: ignore[misc]
            count = self._read_token_prefix(remaining)
            plan = walks(remaining[:count])
            for batch in batches:
                yield from self._measure(batch, plan)
            remaining = remaining[count:]

    def _measure(self, batch: Batch, plan: Sequence[Walk]) -> Iterator[Measurement]:
        examples = [self.examples[position] for position in batch.examples]
        layout = lay_out(
            examples,
            prefix_length=len(self.token_prefix),
            shares_context=self.capabilities.shares_context,
        )
        # The context is entered and left around each piece of work, never across a yield.
        with self._memory_errors(batch):
            prepared = self._prepare(layout)
            states = self._walk(batch, plan, prepared)
        while True:
            with self._memory_errors(batch):
                step = next(states, None)
                if step is None:
                    return
                path, hidden = step
                logliks = read_logliks(self.model, layout, hidden)
            outcomes = tuple(
                judge(position, example, of_choices, self.scoring)
                for position, example, of_choices in zip(
                    batch.examples, examples, logliks, strict=True
                )
            )
            done, self._layer_tokens = self._layer_tokens, 0
            yield Measurement(batch, path, outcomes, done)

    def _prepare(self, layout: Layout) -> Prepared:
        device, before = self.model.device, len(self.token_prefix)
        branching = layout.branching
        return self.model.prepare(
            layout.token_ids().to(device),
            position_ids=layout.position_ids(before).to(device) if branching else None,
            attention_mask=(
                layout.attention_mask(before, self.model.dtype).to(device) if branching else None
            ),
            prefix=TokenPrefix(before) if before else None,
        )

    def _walk(
        self, batch: Batch, plan: Sequence[Walk], prepared: Prepared
    ) -> Iterator[tuple[LayerPath, Tensor]]:
        """Each path, with the hidden state after its last layer."""
        held: dict[int, Tensor] = {0: prepared.hidden}  # by depth, on the path walked last
        previous: LayerPrefix = ()
        for walk in plan:
            kept = walk.path.kept
            held = {depth: held[depth] for depth in held if previous[:depth] == kept[:depth]}
            previous = kept
            depth, hidden = self._deepest(batch, kept, held)
            if depth in walk.shared_depths:
                held[depth] = hidden
            while depth < len(kept):
                depth += 1
                hidden = self._run(kept[:depth], hidden, prepared)
                if depth in walk.shared_depths:
                    held[depth] = hidden
                if depth < len(kept):  # no path of a later round goes on from a path's end
                    self.store.offer((batch.id, kept[:depth]), (hidden,))
            yield walk.path, hidden

    def _deepest(
        self, batch: Batch, kept: LayerPrefix, held: dict[int, Tensor]
    ) -> tuple[int, Tensor]:
        """The depth of the deepest state at hand on a path, and the state."""
        nearest = max(held)
        for depth in range(len(kept), nearest, -1):
            stored = self.store.get((batch.id, kept[:depth]))
            if stored is not None:
                return depth, stored[0]
        return nearest, held[nearest]

    def _run(self, prefix: LayerPrefix, hidden: Tensor, prepared: Prepared) -> Tensor:
        """Run the last layer of a layer prefix."""
        if prepared.prefix is not None:
            stored = self.store.get((TOKEN_PREFIX, prefix))
            prepared.prefix.entry = (stored[1], stored[2]) if stored else None
        self._layer_tokens += hidden.shape[0] * hidden.shape[1]
        return self.model.run_layer(prefix[-1], hidden, prepared)

    def _read_token_prefix(self, paths: Sequence[LayerPath]) -> int:
        """Read the token prefix along as many paths as the store has room for, and say how many.

        The store then has, for each of their layer prefixes, the hidden state, keys and values.
        """
        if not self.token_prefix:
            return len(paths)
        recorder = TokenPrefix(0)
        tokens = torch.tensor([self.token_prefix], device=self.model.device)
        prepared = self.model.prepare(tokens, prefix=recorder)
        for count, path in enumerate(paths):
            if count and self.store.required_bytes > self.store.budget_bytes // 2:
                return count
            hidden = prepared.hidden
            for depth in range(1, path.depth + 1):
                key = (TOKEN_PREFIX, path.kept[:depth])
                stored = self.store.get(key)
                if stored is None:
                    hidden = self._run(key[1], hidden, prepared)
                    assert recorder.recorded is not None  # the self-test has seen it work
                    self.store.require(key, (hidden, *recorder.recorded))
                else:
                    hidden = stored[0]
        return len(paths)

    @contextmanager
    def _memory_errors(self, batch: Batch) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, MemoryError) as problem:  # torch's own is a RuntimeError
            if not is_out_of_memory(problem):
                raise
            self.store.retain(lambda _: False)
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
            raise BatchTooLargeError(batch, str(self.model.device)) from problem


def read_logliks(model: LayeredModel, layout: Layout, hidden: Tensor) -> list[list[float]]:
    """For each example, the total log-likelihood of each of its choices.

    Args:
        model: what turns states into logits.
        layout: where the choices are.
        hidden: the state after the last layer, (rows, length, width).
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    reads = [
        (position, target)
        for spans in layout.spans
        for span in spans
        for position, target in zip(span.positions, span.targets, strict=True)
    ]
    positions = sorted({position for position, _ in reads})
    logliks = dict[tuple[int, int], float]()
    by_position: dict[int, list[tuple[int, int]]] = {}
    for read in dict.fromkeys(reads):
        by_position.setdefault(read[0], []).append(read)
    at_once = max(1, LOGITS_AT_ONCE // model.vocabulary)
    for start in range(0, len(positions), at_once):
        chunk = positions[start : start + at_once]
        here = [(row, read) for row, position in enumerate(chunk) for read in by_position[position]]
        values = token_logliks(
            model.logits(flat[chunk]),
            torch.tensor([row for row, _ in here], device=hidden.device),
            torch.tensor([target for _, (_, target) in here], device=hidden.device),
        )
        logliks.update(zip((read for _, read in here), values.tolist(), strict=True))
    return [
        [
            sum(logliks[read] for read in zip(span.positions, span.targets, strict=True))
            for span in spans
        ]
        for spans in layout.spans
    ]


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether an error says that memory ran out; a CPU's allocator raises a plain RuntimeError."""
    text = str(problem).lower()
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or any(
        sign in text for sign in ("can't allocate memory", "not enough memory", "out of memory")
    )
