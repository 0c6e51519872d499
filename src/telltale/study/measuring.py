"""Measuring a study's sets, and remembering: only what its file does not hold is measured.

`Measuring` has a bench for the task and for each guard, and makes the measures that remember.
Nothing is loaded before something that is not remembered is asked for.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from telltale.engine.batches import RACE_BLOCK
from telltale.engine.layer_scores import LAYER_SCORES, score_named
from telltale.engine.perplexity import built_in_page, windows_of
from telltale.engine.runner import Job
from telltale.engine.selftest import Absence
from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, Calibrated
from telltale.measure import (
    Batch,
    BatchTooLargeError,
    Measurement,
    Shifted,
    closing,
    outcomes_by_path,
)
from telltale.objectives import default_objective, highest_of, values_by
from telltale.searches.search import no_text
from telltale.study.plan import Plan, blocks_from
from telltale.study.records import ALONE, StoredExample
from telltale.study.settings import admits_by
from telltale.study.text import TEXT, TextPerplexity, text_batches, variant_of
from telltale.tasks import Scoring
from telltale.tasks.sets import SEARCH, Part, Role
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from telltale.engine.layer_scores import LayerScore
    from telltale.engine.perplexity import Page
    from telltale.engine.workbench import Workbench
    from telltale.measure import Measure, Outcome
    from telltale.paths import LayerPath
    from telltale.searches import Search
    from telltale.study.question import Question
    from telltale.study.records import Records
    from telltale.study.settings import Settings

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Remembering:
    """Measures what a study's records do not hold, and keeps it.

    A caller may leave early at any time: what was measured is kept, and no more is begun.

    Attributes:
        records: what is known.
        measure: measures the rest.
        watcher: is told of every measurement.
        alone: where the work counts as the search's cost, the layer tokens that a measurement would
            take which shares nothing, padding not counted; else None.
        variant: which weights are measured; "" for the model's own.
    """

    records: Records
    measure: Measure
    watcher: Watcher
    alone: Callable[[Measurement], int] | None = None
    variant: str = ""

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        final = [half for batch in batches for half in self.records.halves(batch)]
        missing: dict[tuple[LayerPath, ...], list[Batch]] = {}
        for batch in final:
            unknown = []
            for path in paths:
                outcomes = self.records.measured(batch, path, self.variant)
                if outcomes is None:
                    unknown.append(path)
                else:
                    known = Measurement(batch, path, outcomes)
                    self.watcher.measured(known, remembered=True)
                    yield known
            if unknown:
                missing.setdefault(tuple(unknown), []).append(batch)
        for unknown_paths, of_batches in missing.items():
            yield from self._measured(unknown_paths, of_batches)

    def _measured(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        is_counted = self.alone is not None
        if is_counted:
            self.records.begin()
        try:
            with closing(self.measure(paths, batches)) as measurements:
                for found in measurements:
                    of_alone = 0 if self.alone is None else self.alone(found)
                    self.records.keep(found, self.variant, counted=is_counted, alone=of_alone)
                    self.watcher.measured(found, remembered=False)
                    yield found
        except GeneratorExit:  # the caller leaves: the next one is not begun
            if is_counted:
                self.records.end()
            raise
        if is_counted:
            self.records.end()


def with_halves(measuring: Callable[[], Found], halve: Callable[[Batch], None]) -> Found:
    """What ``measuring`` gives, begun again after each batch that had to be halved.

    Halves are for good, so that all paths see the same batches.

    Raises:
        BatchTooLargeError: a single example does not fit.
    """
    while True:
        try:
            return measuring()
        except BatchTooLargeError as problem:
            if len(problem.batch.examples) == 1:
                raise
            halve(problem.batch)


class Measuring:
    """Measures a question's sets, and remembers; by the plan of a study that has begun."""

    def __init__(
        self, question: Question, plan: Plan | None, records: Records, page: Page | None = None
    ) -> None:
        self.question = question
        self._page = page or built_in_page()
        self._records = records
        self._plan = plan
        self.bench = question.workbench(None if plan is None else list(plan.capabilities))
        of_guards = [None] * len(question.guards) if plan is None else plan.guard_capabilities
        self._guard_benches = {
            guard.task.name: question.guard_workbench(
                guard, self.bench, None if known is None else list(known)
            )
            for guard, known in zip(question.guards, of_guards, strict=True)
        }

    def begin(
        self, identity: Mapping[str, object], *, deals: bool, gain: float | None = None
    ) -> Plan:
        """Begin the study: find out what is to be frozen, and keep it with what is asked.

        Args:
            identity: all that decides an outcome.
            deals: see `Plan`.
            gain: how many times as fast as float32 bfloat16 was, if that chose the precision.

        Raises:
            UnsupportedModelError: the model's layers cannot be left out.
            InputError: an example does not fit the model.
        """
        bench, question, guards = self.bench, self.question, self._guard_benches.values()
        capabilities = bench.capabilities  # also refuses a model whose layers cannot be left out
        facts = bench.facts
        plan = Plan(
            layers=facts.depth,
            parameters=facts.parameters,
            layer_parameters=facts.layer_parameters,
            attention=facts.attention,
            capabilities=tuple(capabilities),
            absences=tuple(tuple(absence) for one in (bench, *guards) for absence in one.absences),
            guard_capabilities=tuple(tuple(one.capabilities) for one in guards),
            token_prefix=len(bench.token_prefix),
            search_tokens=sum(bench.encoded[i].tokens for i in question.positions[SEARCH]),
            truncated=sum(example.is_cut for example in bench.encoded),
            batches={
                role: self._canonical(role, in_blocks=role == SEARCH and not deals)
                for role in question.positions
            },
            deals=deals,
        )
        self._records.set_examples(
            StoredExample(
                position,
                role,
                example.id,
                example.context,
                example.choices,
                example.answer,
                question.clusters[position],
            )
            for role, examples in question.sets.items()
            for position, example in zip(question.positions[role], examples, strict=True)
        )
        self._plan = plan
        # From here on the study has begun, and its folder is taken.
        self._records.set_facts(
            {
                "identity": identity,
                "plan": plan.document(),
                "asked": question.asked(),
                "bfloat16_gain": gain,
                ALONE: 0,
            }
        )
        return plan

    def dealt(self, plan: Plan, settings: Settings, watcher: Watcher) -> Plan:
        """The plan with the search set's batches as they are to be searched by.

        How hard an example is, the whole model says, measured on the batches that the plan has
        (`telltale.engine.workbench.Workbench.batches_by`). Where candidates are raced, they are
        small random blocks instead.
        """
        if settings.speed == "fast":
            return self._in_blocks(plan)
        plan = replace(plan, blocks=())
        if not plan.deals:
            return plan
        known = self._records.fact("dealt")
        if known is None:
            batches, whole = plan.batches[SEARCH], plan.whole
            outcomes = self.outcomes(SEARCH, [whole], batches, watcher, counted=True)[whole]
            task, right = self.question.task, self.question.right
            objective = default_objective(task)
            value, highest = values_by(objective, task.scoring, right), highest_of(objective)
            losses = {example: highest - value(outcome) for example, outcome in outcomes.items()}
            known = [batch.examples for batch in self.bench.batches_by(losses)]
            self._records.set_facts({"dealt": known})
        self._plan = replace(plan, dealt=tuple(Batch(tuple(one)) for one in known))
        self._halve_too_large()
        return self._plan

    def _in_blocks(self, plan: Plan) -> Plan:
        known = self._records.fact("blocks")
        if known is None:
            batches = self.bench.batches(self.question.positions[SEARCH], block_size=RACE_BLOCK)
            known = [[batch.block, batch.examples] for batch in batches]
            self._records.set_facts({"blocks": known})
        return replace(plan, blocks=blocks_from(known))

    def of(self, role: Role, watcher: Watcher, *, counted: bool = False) -> Remembering:
        """What measures a set and remembers.

        Args:
            role: the set's.
            watcher: is told of every measurement.
            counted: whether it counts as the search's cost.
        """
        bench, start = self._bench_of(role)

        def measured(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            measure = Shifted(bench.measure, start) if start else bench.measure
            return measure(paths, batches)

        def alone(measurement: Measurement) -> int:
            return measurement.path.depth * sum(
                bench.tokens_of(replace(outcome, example=outcome.example - start))
                for outcome in measurement.outcomes
            )

        return Remembering(self._records, measured, watcher, alone if counted else None)

    def outcomes(
        self,
        role: Role,
        paths: Sequence[LayerPath],
        batches: Sequence[Batch],
        watcher: Watcher | None = None,
        *,
        counted: bool = False,
    ) -> dict[LayerPath, dict[int, Outcome]]:
        """The outcomes of some paths on a set; see `of`."""
        watcher = watcher or Watcher()
        watcher.expect(len(batches) * len(paths))
        measure = self.of(role, watcher, counted=counted)
        return with_halves(lambda: outcomes_by_path(measure(paths, batches)), self.halve)

    def halve(self, batch: Batch) -> None:
        """Halve a batch that did not fit, for good, and with it all that by their size will not.

        Those are the batches of the same task (another's may be read otherwise) with no fewer
        tokens. What was measured on any path has fitted, and stays.
        """
        positions = self.question.positions
        role = next(role for role, own in positions.items() if batch.examples[0] in own)
        self._records.split(batch)
        known = self._records.fact("too_many_tokens") or {}
        tokens = min(self._tokens_in(role, batch), known.get(role.guard, sys.maxsize))
        self._records.set_facts({"too_many_tokens": known | {role.guard: tokens}})
        self._halve_too_large()

    def _halve_too_large(self) -> None:
        """Halve what has no fewer tokens than a batch that did not fit."""
        too_many = self._records.fact("too_many_tokens") or {}
        plan = self._plan
        waiting = (
            [] if plan is None else [(r, one) for r in plan.batches for one in plan.batches_of(r)]
        )
        while waiting:
            role, batch = waiting.pop()
            halves = self._records.halves(batch)
            if len(halves) > 1:
                waiting += [(role, one) for one in halves]
            elif (
                role.guard in too_many
                and len(batch.examples) > 1
                and not self._records.is_measured(batch)
                and self._tokens_in(role, batch) >= too_many[role.guard]
            ):
                self._records.split(batch)
                waiting.append((role, batch))

    def _tokens_in(self, role: Role, batch: Batch) -> int:
        bench, start = self._bench_of(role)
        return bench.tokens_in(batch.shifted(-start))

    def search_by(self, settings: Settings, plan: Plan) -> Search:
        """The search that settings say, bound to this study's right answers and guards."""
        each = [
            admits_by(
                plan.batches_of(role),
                guard.most_loss,
                self.of(role, Watcher(), counted=True),  # a few, and nothing to watch
                plan.whole,
            )
            for guard in self.question.guards
            for role in [Role(Part.SEARCH, guard.task.name)]
        ]
        return settings.bound(
            values_by(settings.objective, self.question.task.scoring, self.question.right),
            lambda path: all(admits(path) for admits in each),
            self.layer_scores(settings, plan),
            self.perplexity_by(settings),
        )

    def perplexity_by(
        self, settings: Settings
    ) -> Callable[[Sequence[LayerPath]], Mapping[LayerPath, float]]:
        """The perplexity of the study's text, if the search goes by it; it counts as its cost."""
        if not settings.search.reads_text:
            return no_text
        bench, sha256 = self.bench, self._page.sha256
        windows = tuple(windows_of(bench, self._page))
        start = sum(map(len, self.question.positions.values()))
        self._records.set_facts({TEXT: {"sha256": sha256, "windows": len(windows)}})
        engines: list[Measure] = []  # which is made, and a model loaded, when something is unknown

        def measured(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            if not engines:
                job = Job(windows, Scoring.LOGLIK, memory_bytes=bench.memory)
                engines.append(bench.runner.engine(job))
            return Shifted(engines[0], start)(paths, batches)

        def alone(one: Measurement) -> int:
            return one.path.depth * sum(windows[i - start].tokens for i in one.batch.examples)

        measure = Remembering(self._records, measured, Watcher(), alone, variant_of(sha256))
        return TextPerplexity(measure, text_batches(start, len(windows)))

    def judged_by(
        self,
        settings: Settings,
        plan: Plan,
        measure: Measure,
        learns_from: Iterable[int] | None = None,
    ) -> Measure:
        """What measures the search set as settings have its choices judged.

        Args:
            settings: how to choose.
            plan: has the set's batches.
            measure: measures it.
            learns_from: the examples that offsets are learnt on; by default all.
        """
        if settings.scoring != CALIBRATED:
            return measure
        return Calibrated(
            measure,
            plan.batches_of(SEARCH),
            self.question.right,
            self.question.task.scoring,
            None if learns_from is None else frozenset(learns_from),
        )

    def layer_scores(self, settings: Settings, plan: Plan) -> dict[str, Sequence[float]]:
        """The scores of layers that the search goes by; made on the search set once, and kept."""
        wanted = needed_scores(settings)
        known = self._records.fact("layer_scores") or {}
        missing = [score for key, score in wanted.items() if key not in known]
        if missing:
            found = self.bench.layer_scores(missing, plan.batches_of(SEARCH))
            known |= {key: found[one.name] for key, one in wanted.items() if one.name in found}
            self._records.set_facts({"layer_scores": known})
        return {score.name: known[key] for key, score in wanted.items()}

    def _bench_of(self, role: Role) -> tuple[Workbench, int]:
        """What measures a set, and where among the study's examples its own begin."""
        if not role.guard:
            return self.bench, 0
        first = self.question.positions[Role(Part.SEARCH, role.guard)]
        return self._guard_benches[role.guard], first.start

    def _canonical(self, role: Role, *, in_blocks: bool) -> tuple[Batch, ...]:
        bench, start = self._bench_of(role)
        own = [position - start for position in self.question.positions[role]]
        block_size = bench.batch_settings["block_size"] if in_blocks else None
        return tuple(batch.shifted(start) for batch in bench.batches(own, block_size))


def needed_scores(settings: Settings) -> dict[str, LayerScore]:
    """The scores of layers that a search goes by, by what a study keeps them under.

    That is the name of a known one; of one's own, its settings too, so that another is made anew.

    Raises:
        InputError: there is no such score, it is none, or it bears the name of another.
    """
    found: dict[str, LayerScore] = {}
    search = settings.bound(lambda outcome: outcome.score)
    for one in search.scores_needed:
        known = score_named(one) if isinstance(one, str) else None
        if known is not None:
            found[known.name] = known
            continue
        name = getattr(one, "name", None)
        if not (callable(one) and isinstance(name, str) and hasattr(one, "needs_gradients")):
            raise InputError(
                f"the search {type(search).__name__} needs {one!r}, which is no score of layers; "
                f"give {', '.join(LAYER_SCORES)} or a telltale.engine.layer_scores.LayerScore"
            )
        if name in LAYER_SCORES and one != LAYER_SCORES[name]:
            raise InputError(
                f"a score of layers of your own is called {name}, as telltale's; give it another "
                "name"
            )
        found[name if name in LAYER_SCORES else f"{name} {one!r}"] = one
    return found


def absences_of(plan: Plan) -> list[Absence]:
    """The capabilities that measuring goes without, the guards' too, each with its reason."""
    return [Absence(*one) for one in plan.absences]
