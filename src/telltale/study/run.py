"""A study: one search from start to end, on disk, so that a crash loses at most one measurement.

A study that is run again goes on by searching again on a measure that remembers: the search itself
has no state to save. Settings that change no outcome may change between runs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from telltale.engine.forecast import layer_runs, states_kept
from telltale.engine.perplexity import Page, built_in_page, perplexities
from telltale.engine.selftest import slowed, unable
from telltale.engine.speed import tokens_per_second
from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, USES_OFFSETS, Judging
from telltale.evidence.cautions import advice, cautions, raced, remedies_for
from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.result import (
    Cost,
    FinalLook,
    PathModel,
    Result,
    Text,
    verdict,
    with_names,
    with_target,
)
from telltale.evidence.selection import Level, claims
from telltale.paths import LayerPath
from telltale.searches import Found
from telltale.study.ledger import Looks, note_look
from telltale.study.measuring import absences_of, with_halves
from telltale.study.opening import (
    OpenStudy,
    chosen_by,
    final_seen_before,
    names_of,
    open_study,
)
from telltale.study.records import key_of
from telltale.study.targeting import Timer, chosen_by_targets, costs_of
from telltale.support.files import write_json
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.engine.prefixes import LayerPrefix
    from telltale.evidence.comparison import Comparison
    from telltale.measure import Measure, Outcome
    from telltale.searches import Round
    from telltale.study.question import Question
    from telltale.study.settings import Settings
    from telltale.study.work import Work

RESULT_FILE = "result.json"


def run_study(
    question: Question,
    settings: Settings,
    folder: Path,
    *,
    watcher: Watcher | None = None,
    page: Page | None = None,
    resume_anyway: bool = False,
    is_taken: bool = False,
    timer: Timer | None = None,
) -> Result:
    """Search, measure the models kept on the held-out set, and write ``result.json``.

    Args:
        question: what to measure.
        settings: how to choose.
        folder: the study's folder; one that holds the same question is gone on with.
        watcher: is told how it goes on.
        page: the text on which perplexity is measured.
        resume_anyway: go on although a library has another version than when the study began.
        is_taken: the folder is taken already, by `telltale.study.records.only_writer`.
        timer: times models where settings have targets for which that must be.

    Raises:
        InputError: the folder holds something else, a library's version has changed, or examples of
            the final set were seen before.
        MeasurementError: measuring failed; what was measured is kept.
    """
    page, watcher = page or built_in_page(), watcher or Watcher()
    begun = open_study(
        question, settings, folder, page, watcher, resume_anyway=resume_anyway, is_taken=is_taken
    )
    with begun as study:
        result = Run(study, watcher, page, timer).result()
    write_json(folder / RESULT_FILE, result.document)
    watcher.finished(result)
    return result


class Run:
    """One run of a study, with what its parts share."""

    def __init__(
        self, study: OpenStudy, watcher: Watcher, page: Page, timer: Timer | None = None
    ) -> None:
        self.study = study
        self.question, self.settings = study.question, study.settings
        self.plan, self.measuring, self.records = study.plan, study.measuring, study.records
        self.watcher = watcher
        self.page = page
        self.timer = timer

    def result(self) -> Result:
        """The study from start to end."""
        self.watcher.begun(self.asked())
        self.watcher.advised(
            advice(
                len(self.question.sets[HELD_OUT]), self.settings.max_loss, self.settings.confidence
            )
        )
        found = self.searched()
        fingerprint = self.study.fingerprint
        noted = self.note_look(HELD_OUT)
        looks = None if noted is None else noted.before
        paths = [model.path for model in found.kept]
        as_measured = self._outcomes(SEARCH, paths), self._watched(HELD_OUT, paths)
        searched, held_out = (self._judged(one, as_measured[0]) for one in as_measured)
        compared = self._compared(held_out, found.start)
        models = self._models(found, searched, compared)
        asked, settings = self.asked(), self.settings
        claimed = claims(
            found,
            self._compared(searched, found.start),
            compared,
            settings.max_loss,
            Level.after(looks, 1 - settings.confidence),
        )
        named_models = with_names(found, models, claimed)
        calibration = self._judging.told(named_models, *as_measured)
        named = ("name", "adapter", "revision", "sha256", "layers", "parameters", "dtype")
        result = Result(
            model={name: asked["model"][name] for name in named if name in asked["model"]},
            task=asked["task"],
            settings=chosen_by(self.question, settings),
            models=named_models,
            rounds=found.rounds,
            fingerprint=fingerprint,
            layer_scores=self.measuring.layer_scores(settings, self.plan),
            claims=claimed,
            final=None,
            calibration=calibration,
            verdict=verdict(
                found,
                compared,
                claimed,
                settings.max_loss,
                settings.confidence,
                calibration=calibration,
                scoring=settings.scoring,
            ),
            cautions=(),
            text=Text(self.page.name, self.page.sha256),
            cost=self._cost(searched[found.start], found),
            held_out_looks=looks,
        )
        result = self._targeted(result)
        result = replace(result, final=self._final(result))
        result = replace(result, cautions=tuple(self._cautions(result, held_out)))
        self.records.set_facts({"result": result.document, "held_out_looks": looks})
        return result

    def _targeted(self, result: Result) -> Result:
        """The result, with the model that was chosen by targets where there are any."""
        settings, question = self.settings, self.question
        if not settings.targets:
            return result
        self.watcher.phase("target")
        tokens = self.plan.search_tokens / len(question.sets[SEARCH])
        costs, asked = costs_of(question, tokens, self.records.fact("identity")["dtype"])
        chosen = chosen_by_targets(
            result.models, settings.targets, costs, asked, self.records, self.timer
        )
        return with_target(result, chosen)

    def asked(self) -> dict[str, Any]:
        """What is asked, the settings too, and what is known of the model."""
        asked = self.records.fact("asked")
        model = {
            **asked["model"],
            "layers": self.plan.layers,
            "parameters": self.plan.parameters,
            "dtype": self.records.fact("identity")["dtype"],
        }
        return {**asked, "model": model, "search": self.settings.document()}

    def searched(self, work: Work | None = None) -> Found:
        """The search from start to end, on what the records hold; ``work`` counts what it takes."""
        self.watcher.phase("search")
        # Until it is finished, what was found with other settings is no longer this study's result.
        self.records.set_facts({"search": chosen_by(self.question, self.settings), "result": None})
        self.plan = self.measuring.dealt(self.plan, self.settings, self.watcher)
        search = self.measuring.search_by(self.settings, self.plan)
        measured: Measure = self.measuring.of(SEARCH, self.watcher, counted=True)
        if work is not None:
            search, measured = work.counting(search, measured)
        measure = self.measuring.judged_by(self.settings, self.plan, measured)
        batches = self.plan.batches_of(SEARCH)
        whole = self.plan.whole

        stored: frozenset[LayerPrefix] = frozenset()  # states that are likely kept by now

        def expect(kept: Sequence[LayerPath], *first: LayerPath) -> None:
            nonlocal stored
            runs: dict[LayerPath, int] = {}
            for paths in (first, search.children(kept, whole)):
                # An end, where answers are read, is work too, if no layer is left to run.
                runs |= {path: 1 + count for path, count in layer_runs(paths, stored).items()}
                stored = states_kept(paths, stored)
            self.watcher.expect(len(batches) * len(runs))
            if runs and self.question.task.generation is None:
                self.watcher.weighed({p: n / sum(runs.values()) for p, n in runs.items()})

        def told(done: Round) -> None:
            self.watcher.round_done(done)
            expect(done.kept)

        expect([whole], whole)
        found = with_halves(lambda: search(measure, batches, whole, told), self.measuring.halve)
        self._check(found)
        return found

    def _check(self, found: Any) -> None:
        """Refuse what a search of one's own may not give, before it is said to be found.

        Raises:
            InputError: it is no `Found`, does not start from the whole model measured in full, or
                has kept a model that it may not.
        """
        kind, settings = type(self.settings.search).__name__, self.settings
        if not isinstance(found, Found):
            raise InputError(f"the search {kind} gave {found!r}; it must give a Found")
        size = len(self.question.sets[SEARCH])
        if found.start != self.plan.whole or found.origin.examples != size:
            raise InputError(
                f"the search {kind} must start from the whole model, measured on all {size} "
                "examples; give Found what self.origin gives"
            )
        for model in found.kept:
            too_many = (
                settings.max_removed is not None and len(model.removed) > settings.max_removed
            )
            gone = settings.protected & set(model.removed)
            if too_many or gone or model.examples != size:
                raise InputError(
                    f"the search {kind} has kept the model without {list(model.removed)}, which it "
                    "may not: it goes against `max_removed` or `protect`, or was not measured on "
                    "all examples; take candidates from self.children and keep by self.chosen"
                )

    def _watched(
        self, role: Role, paths: Sequence[LayerPath]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        self.watcher.phase(role)
        return self._outcomes(role, paths, self.watcher)

    def _outcomes(
        self, role: Role, paths: Sequence[LayerPath], watcher: Watcher | None = None
    ) -> dict[LayerPath, dict[int, Outcome]]:
        return self.measuring.outcomes(role, paths, self.plan.batches_of(role), watcher)

    @property
    def _judging(self) -> Judging:
        question = self.question
        return Judging(
            question.task.scoring, question.right, question.clusters, self.settings.confidence
        )

    def _judged(
        self,
        outcomes: Mapping[LayerPath, Mapping[int, Outcome]],
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
    ) -> Mapping[LayerPath, Mapping[int, Outcome]]:
        """Outcomes as settings have choices judged, by what was measured on the search set."""
        if self.settings.scoring != CALIBRATED:
            return outcomes
        return self._judging.less_offsets(outcomes, searched)

    def _compared(
        self, outcomes: Mapping[LayerPath, Mapping[int, Outcome]], start: LayerPath
    ) -> dict[LayerPath, Comparison]:
        clusters, confidence = self.question.clusters, self.settings.confidence
        return {
            path: compare(outcomes[start], of_path, clusters, confidence)
            for path, of_path in outcomes.items()
        }

    def _models(
        self,
        found: Found,
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
        held_out: Mapping[LayerPath, Comparison],
    ) -> dict[LayerPath, PathModel]:
        """Every model kept, with its evidence."""
        paths = [model.path for model in found.kept]
        guards = {
            guard.task.name: self._compared(
                self._watched(Role(Part.HELD_OUT, guard.task.name), paths), found.start
            )
            for guard in self.question.guards
        }
        perplexities = self._perplexities(paths)
        speeds = self._speeds(paths)
        return {
            model.path: PathModel(
                model,
                self.plan.parameters_of(model.path),
                held_out[model.path],
                generation_counts(searched[model.path].values()),
                perplexities[model.path],
                speeds[model.path],
                {name: of_guard[model.path] for name, of_guard in guards.items()},
            )
            for model in found.kept
        }

    def _final(self, result: Result) -> FinalLook | None:
        """The model to look at, on the set that no model was ever looked at before.

        That is the one chosen by targets where one was and lacks a layer, else the one recommended.
        The set is looked at for one model in a study's life, and the look is noted before it.
        """
        if FINAL not in self.question.sets:
            return None
        sealed = self.records.fact("final")
        if sealed is None:
            names = ("target", result.recommended or "")
            found = ((name, result.by_name(name)) for name in names)
            wanted = next(((name, one) for name, one in found if one and one.removed), None)
            if wanted is None:
                return None
            name, model = wanted
            sealed = {"name": name, "removed": list(model.removed)}
            # Whoever has looked since the study began has broken the seal.
            seen = final_seen_before(self.question, self.study.name)
            unsealed = 0 if seen is None else seen.examples
            self.records.set_facts({"final": sealed, "final_unsealed": unsealed})
        self.note_look(FINAL)
        start = self.plan.whole
        path = LayerPath.from_removed(sealed["removed"], start.total)
        paths = [start, path]
        outcomes = self._judged(self._watched(FINAL, paths), self._outcomes(SEARCH, paths))
        compared = self._compared(outcomes, start)
        return FinalLook(
            sealed["name"], tuple(sealed["removed"]), compared[start].accuracy, compared[path]
        )

    def _perplexities(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        self.watcher.phase("text")
        known = self.records.fact("perplexities") or {}
        of_page = known.get(self.page.sha256, {})
        missing = [path for path in paths if key_of(path) not in of_page]
        if missing:
            found = perplexities(self.measuring.bench, self.page, missing)
            of_page |= {key_of(path): value for path, value in found.items()}
            self.records.set_facts({"perplexities": {**known, self.page.sha256: of_page}})
        return {path: of_page[key_of(path)] for path in paths}

    def _cautions(
        self, result: Result, held_out: Mapping[LayerPath, Mapping[int, Outcome]]
    ) -> list[str]:
        positions = self.question.positions[HELD_OUT]
        outcomes = {
            name: [held_out[model.path][position] for position in positions]
            for name, model in result.named.items()
        }
        unsealed = self.records.fact("final_unsealed") if result.final else 0
        named_now = {one.path for one in result.models if one.names}
        spent = None if result.final is None else result.final.removed
        said = cautions(
            result.named,
            outcomes,
            self.question.sets[HELD_OUT],
            truncated=self.plan.truncated,
            final_spent=spent is not None
            and LayerPath.from_removed(spent, self.plan.layers) not in named_now,
            absences=unable(absences_of(self.plan)),
            remedies=remedies_for(self.question.task),
        )
        said += raced(result.rounds, self.settings.objective.name)
        if self.settings.scoring == CALIBRATED:
            said.append(USES_OFFSETS)
        if result.held_out_looks is None:
            said.append(
                "the ledger of looks cannot be kept, so it is not known whether other searches "
                "have looked at these held-out examples; claims are made as if none had"
            )
        if unsealed:
            size = len(self.question.sets[FINAL])
            said.append(
                f"{unsealed} of the {size} final examples were searched or held out by other "
                "searches after this study sealed them, so the final set is not of unseen examples"
            )
        return said

    def note_look(self, role: Role) -> Looks | None:
        """Note a look, and keep with the study how many had looked before it."""
        known = self.records.fact("looks") or {}
        before = known.get(role, {}).get(self.study.name)
        once_known_as = [name for one in self.question.sets[role] for name in one.names]
        looks = note_look(self.study.name, names_of(self.question, {role}), before, once_known_as)
        if looks is not None and before is None:
            of_role = {**known.get(role, {}), self.study.name: looks.before}
            self.records.set_facts({"looks": {**known, role: of_role}})
        return looks

    def _speeds(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        self.watcher.phase("speed")
        known = {path: self.records.speed(path) for path in paths}
        found = {path: speed for path, speed in known.items() if speed is not None}
        if len(found) < len(paths):
            bench = self.measuring.bench
            batches = self.plan.batches_of(SEARCH)
            batch = bench.timed_part(self.records.halves(batches[len(batches) // 2])[0])
            found = tokens_per_second(bench, paths, batch)
            self.records.set_speeds(found)
        return found

    def _cost(self, whole: Mapping[int, Outcome], found: Found) -> Cost:
        cost = self.records.cost()
        # What the whole model reads and writes on the search set, each token once.
        written = sum(one.generated.tokens for one in whole.values() if one.generated)
        search_tokens = self.plan.search_tokens + written
        dense_pass = self.plan.layers * search_tokens
        alone = cost.layer_tokens_alone
        # What candidates that left early would have taken on the rest of their examples, and less
        # the whole model's second time, which is only for the order of examples.
        tried = [one for done in found.rounds for one in done.tried.values()]
        left = sum(one.path.depth * (1 - one.examples / len(whole)) for one in tried)
        not_alone = left / self.plan.layers - bool(self.plan.dealt)
        return Cost(
            layer_tokens=cost.layer_tokens,
            dense_passes=cost.layer_tokens / dense_pass,
            naive_passes=None if alone is None else alone / dense_pass + not_alone,
            batches_measured=cost.batches_begun,
            seconds=cost.seconds,
            search_tokens=search_tokens,
            slowed_by=tuple(slowed(absences_of(self.plan))),
            bfloat16_gain=self.records.fact("bfloat16_gain"),
        )
