"""What a search would do and cost, said before it is begun and without its model's weights.

The configuration and the tokenizer say how many layers there are and how many tokens; batches are
made as a study makes them, as if the model could share all that ordinary decoders share; how long a
token takes in a layer, a moment's timing of one layer says. What is refused is what the search
would refuse before it loads the model. Nothing is written, in the study's folder or elsewhere.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import replace
from functools import reduce
from itertools import zip_longest
from typing import TYPE_CHECKING

from telltale.engine.batches import RACE_BLOCK
from telltale.engine.perplexity import windows_of
from telltale.engine.prefixes import prefixes
from telltale.engine.runner import LocalRunner
from telltale.engine.shared import WRITERS_SHARE
from telltale.engine.store import states_budget
from telltale.engine.unloaded import UnloadedRunner, layer_token_seconds
from telltale.errors import TelltaleError
from telltale.evidence.cautions import advice
from telltale.objectives import highest_of
from telltale.paths import LayerPath, check_layers
from telltale.searches.search import EXACT, SPEEDS
from telltale.study.ahead import PlannedRound, Range, SearchPlan, Work
from telltale.study.forecast import search_ahead
from telltale.study.opening import check_before, chosen_by
from telltale.study.targeting import depths_of
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from telltale.engine.perplexity import Page
    from telltale.engine.workbench import Workbench
    from telltale.measure import Batch
    from telltale.study.forecast import RoundAhead, SearchAhead
    from telltale.study.plan import Plan
    from telltale.study.question import Question
    from telltale.study.settings import Settings

# Where the layers that go may lie, from the first to the last: the range of what is expected.
PLACES = (0.25, 0.75)
# Of a round's work, what is left at each speed. In rounds of real tasks ranked by likelihood exact
# elimination measured candidates on 50% (arc_easy), 75% (winogrande) and 90% (sst2) of their
# examples; where an objective has no bound that a candidate could come to, the floor alone remains.
# Raced, rounds like those took 17 to 23% of the layer tokens by likelihood, 26 to 59% by accuracy.
LEFT = {"full": (1.0, 1.0), "exact": (0.5, 0.95), "fast": (0.15, 0.6)}
LEFT_BY_FLOOR = {**LEFT, "exact": (0.5, 1.0)}
# Numbers that a token takes at once while a layer runs, in widths of a state and of a layer inside:
# the state twice, queries, keys, values and what attention gives, and three inside the layer.
STATES_AT_ONCE, INSIDE_AT_ONCE = 8, 3


def plan_search(
    question: Question, settings: Settings, folder: Path, page: Page, *, resume_anyway: bool
) -> SearchPlan:
    """What a search would do and cost.

    Args:
        question: what it would measure. Of a runner of one's own only the device and the precision
            are asked, and no seconds are given.
        settings: how it would choose.
        folder: the study's folder; one that holds the study is read.
        page: the text on which perplexity would be measured.
        resume_anyway: see `telltale.study.run.run_study`.

    Raises:
        InputError, UnsupportedModelError: the search would be refused.
    """
    question, frozen = check_before(question, settings, folder, page, resume_anyway=resume_anyway)
    depths = depths_of(question, settings)
    is_local = question.make_runner is LocalRunner
    # Neither is asked of the model: whoever would run it is not asked for more.
    runner = UnloadedRunner(question.source, question.runner.device, question.runner.dtype)
    question = replace(question, make_runner=lambda *_: runner)
    found = _Planning(question, settings, runner, frozen, page, is_local=is_local).plan()
    return found if depths is None else replace(found, needs=depths.needs())


def _either(works: Sequence[Work]) -> Work:
    """The work that is one of several."""

    def both(ranges: Sequence[Range]) -> Range:
        return Range(min(one.low for one in ranges), max(one.high for one in ranges))

    seconds = [one.seconds for one in works if one.seconds is not None]
    return Work(both([one.layer_tokens for one in works]), both(seconds) if seconds else None)


class _Planning:
    """What the parts of a plan are made of."""

    def __init__(
        self,
        question: Question,
        settings: Settings,
        runner: UnloadedRunner,
        frozen: Plan | None,
        page: Page,
        *,
        is_local: bool,
    ) -> None:
        self.question, self.settings, self.runner = question, settings, runner
        self.frozen = frozen
        self.bench = question.workbench(None if frozen is None else list(frozen.capabilities))
        self.depth = self.bench.depth
        check_layers(sorted(settings.protected), self.depth)
        # Refused where it says nothing.
        self.text_tokens = sum(one.tokens for one in windows_of(self.bench, page))
        self._guards: dict[str, Workbench] = {}
        self._read: dict[Role, int] = {}  # the tokens that a path reads of a set
        self.generation = question.task.generation
        self.batches = self._searched_batches()
        self.seconds = self._timed() if is_local and self.generation is None else None

    def plan(self) -> SearchPlan:
        question, facts = self.question, self.bench.facts
        own = [one.tokens for one in self.bench.encoded]
        asked = question.asked()
        named = ("name", "adapter", "revision", "sha256")
        searches = self._searches()
        return SearchPlan(
            model={
                **{name: asked["model"][name] for name in named if name in asked["model"]},
                "layers": self.depth,
                "parameters": facts.parameters,
                "dtype": str(self.runner.dtype).removeprefix("torch."),
            },
            device=str(self.runner.device),
            task=asked["task"],
            settings=chosen_by(question, self.settings),
            sets={role: tuple(one.id for one in some) for role, some in question.sets.items()},
            tokens={"mean": round(statistics.mean(own), 1), "longest": max(own)},
            begin=self._begin(),
            rounds=self._rounds(searches) if searches else None,
            after=self._after(searches),
            memory=self._memory(),
            batches=len(self.batches),
            advice=advice(
                len(question.sets[HELD_OUT]), self.settings.max_loss, self.settings.confidence
            ),
            is_begun=self.frozen is not None,
            layer_token_seconds=self.seconds,
        )

    def _searches(self) -> list[SearchAhead]:
        """The search at either place; none where that is not known before."""
        share = 1 if self.generation is None else 1 - WRITERS_SHARE
        room = share * self._budget() / self._all_states_bytes()
        whole, in_a_row = LayerPath.whole(self.depth), self.generation is not None
        try:
            return [
                search_ahead(self.settings, whole, room=room, in_a_row=in_a_row, place=one)
                for one in PLACES
            ]
        except TelltaleError:
            return []

    def _begin(self) -> Work:
        """The whole model on the search set, once more where that says which order is best."""
        work = self._work(SEARCH, self.depth, 1)
        return work if self._goes_by_blocks else work.plus(work)

    def _rounds(self, searches: Sequence[SearchAhead]) -> tuple[PlannedRound, ...]:
        return tuple(
            self._round([one for one in of_round if one is not None])
            for of_round in zip_longest(*(search.rounds for search in searches))
        )

    def _round(self, ahead: Sequence[RoundAhead]) -> PlannedRound:
        searched = _either(
            [self._work(SEARCH, one.layers, one.candidates, one.deepest) for one in ahead]
        )
        guarded = [  # asked of one candidate at least, on all of its examples
            self._work(Role(Part.SEARCH, guard.task.name), ahead[0].deepest, 1)
            for guard in self.question.guards
        ]
        guarded.append(_either([self._text_work(one.text_layers) for one in ahead]))
        left = LEFT if highest_of(self.settings.objective) <= 1 else LEFT_BY_FLOOR
        work = {speed: reduce(Work.plus, guarded, searched.times(*left[speed])) for speed in SPEEDS}
        return PlannedRound(max(one.candidates for one in ahead), work)

    def _text_work(self, layers: int) -> Work:
        """The work of reading the text through so many layers."""
        read = float(layers * self.text_tokens)
        seconds = None if self.seconds is None else Range(self.seconds * read, self.seconds * read)
        return Work(Range(read, read), seconds)

    def _after(self, searches: Sequence[SearchAhead]) -> dict[Role, Work]:
        """The other sets: the models kept are measured on them, on the final set two of them."""
        found = {}
        for role in self.question.positions:
            if role == FINAL:
                found[role] = self._work(role, 2 * self.depth, 2)
            elif role.part == Part.HELD_OUT:
                works = [self._work(role, one.layers, one.kept) for one in searches]
                found[role] = _either(works or [self._work(role, self.depth, 1)])
        return found

    def _work(self, role: Role, layers: float, paths: float, depth: int | None = None) -> Work:
        """The work of measuring paths on a set.

        Args:
            role: the set's.
            layers: through how many layers each token read goes.
            paths: how many paths are measured.
            depth: how many layers the deepest has, through which each token written goes.
        """
        bench, positions = self._bench_of(role)
        if role not in self._read:
            batches = self.batches if role == SEARCH else bench.batches(positions)
            self._read[role] = self._tokens(batches, bench)
        read = layers * self._read[role]
        if bench.task.generation is not None:
            most = bench.task.generation.max_new_tokens
            written = most * len(positions) * paths * (depth or self.depth)
            return Work(Range(read, read + written), None)
        if self.seconds is None:
            return Work(Range(read, read), None)
        # The model's end is as much work as so many layers, by its number of weights.
        facts, (width, _) = bench.facts, self.runner.sizes
        end = facts.vocabulary * width / statistics.mean(facts.layer_parameters)
        scored = sum(
            size.tokens for position in positions for size in bench.encoded[position].sizes
        )
        seconds = self.seconds * (read + end * scored * paths)
        return Work(Range(read, read), Range(seconds, seconds))

    def _bench_of(self, role: Role) -> tuple[Workbench, Sequence[int]]:
        """What measures a set, and where its examples are among those of its bench."""
        positions = self.question.positions
        if not role.guard:
            return self.bench, positions[role]
        if role.guard not in self._guards:
            guard = next(one for one in self.question.guards if one.task.name == role.guard)
            self._guards[role.guard] = self.question.guard_workbench(guard, self.bench)
        start = positions[Role(Part.SEARCH, role.guard)].start
        return self._guards[role.guard], [one - start for one in positions[role]]

    @property
    def _goes_by_blocks(self) -> bool:
        """Whether examples come in random order, and not the hardest first."""
        return self.settings.search.goes_by_blocks or self.settings.speed not in EXACT

    def _searched_batches(self) -> tuple[Batch, ...]:
        """The search set's; where they are dealt by what is not known yet, in any order."""
        if self.frozen is not None:
            return self.frozen.batches_of(SEARCH)
        positions = self.question.positions[SEARCH]
        if self.settings.speed not in EXACT:
            return self.bench.batches(positions, block_size=RACE_BLOCK)
        if self._goes_by_blocks:
            return self.bench.batches(positions, self.bench.batch_settings["block_size"])
        source = random.Random(0)
        return self.bench.batches_by({position: source.random() for position in positions})

    def _tokens(self, batches: Sequence[Batch], bench: Workbench) -> int:
        """What a path reads of batches, padding counted, and what all begin with once."""
        if bench.task.generation is not None:  # in parts of like length, so that little is padded
            prefix = len(bench.token_prefix)
            read = sum(len(bench.encoded[i].context) - prefix for b in batches for i in b.examples)
            return prefix + read
        return len(bench.token_prefix) + sum(map(bench.tokens_in, batches))

    def _timed(self) -> float | None:
        """The seconds that a token takes in a layer, on a batch like the middle one."""
        batch = self.batches[len(self.batches) // 2]
        tokens, prefix = self.bench.tokens_in(batch), len(self.bench.token_prefix)
        longest = max(self.bench.encoded[one].tokens for one in batch.examples)
        length = min(tokens, max(1, longest - prefix))
        return layer_token_seconds(
            self.question.source, self.runner.device, self.runner.dtype, tokens // length, length
        )

    def _all_states_bytes(self) -> int:
        """The bytes of what is kept after a layer, of all tokens of the search set."""
        width, _ = self.runner.sizes
        kept = 3 if self.generation is not None else 1  # with keys and values
        tokens = self._tokens(self.batches, self.bench)
        return tokens * width * self.runner.dtype.itemsize * kept

    def _budget(self) -> int:
        """The bytes that kept states may take."""
        return states_budget(self.runner.device, self.question.memory)

    def _memory(self) -> dict[str, int]:
        size, facts = self.runner.dtype.itemsize, self.bench.facts
        width, inside = self.runner.sizes
        tokens = max(map(self.bench.tokens_in, self.batches))
        batch = tokens * size * (STATES_AT_ONCE * width + INSIDE_AT_ONCE * inside)
        paths = [LayerPath.whole(self.depth).without(layer) for layer in range(self.depth)]
        most = 2 * len(prefixes(paths)) * self._all_states_bytes()  # of a round and one before it
        return {
            "weights": facts.parameters * size,
            "states": int(min(self._budget(), most)),
            "batch": batch,
        }
