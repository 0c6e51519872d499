"""A study: one search from start to end, on disk, so that a crash loses at most one measurement.

A study that is run again goes on by searching again on a measure that remembers: the search itself
has no state to save. Settings that change no outcome may change between runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from telltale.engine.perplexity import Page, built_in_page, perplexities
from telltale.engine.selftest import slowed, unable
from telltale.engine.speed import tokens_per_second
from telltale.evidence.cautions import advice, cautions, remedies_for
from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.result import (
    VERSION,
    Findings,
    PathModel,
    findings,
    round_document,
    verdict,
)
from telltale.evidence.selection import Level, claims
from telltale.paths import LayerPath
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
from telltale.support.files import write_json
from telltale.tasks.sets import FINAL, HELD_OUT, SEARCH, Part, Role
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from telltale.evidence.comparison import Comparison
    from telltale.measure import Outcome
    from telltale.searches import Found
    from telltale.study.question import Question
    from telltale.study.settings import Settings

RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Result:
    """A finished study: its document, and what a summary shows beside it."""

    document: dict[str, Any]
    findings: Findings
    held_out_looks: int | None

    @property
    def verdict(self) -> str:
        """Whether the gain is shown, in one sentence."""
        return str(self.document["verdict"])


def run_study(
    question: Question,
    settings: Settings,
    folder: Path,
    *,
    watcher: Watcher | None = None,
    page: Page | None = None,
    resume_anyway: bool = False,
    is_taken: bool = False,
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
        result = _Run(study, watcher, page).result()
    write_json(folder / RESULT_FILE, result.document)
    watcher.finished(result.document)
    return result


class _Run:
    """One run of a study, with what its parts share."""

    def __init__(self, study: OpenStudy, watcher: Watcher, page: Page) -> None:
        self.study = study
        self.question, self.settings = study.question, study.settings
        self.plan, self.measuring, self.records = study.plan, study.measuring, study.records
        self.watcher = watcher
        self.page = page

    def result(self) -> Result:
        self.watcher.begun(self._asked())
        self.watcher.advised(
            advice(
                len(self.question.sets[HELD_OUT]), self.settings.max_loss, self.settings.confidence
            )
        )
        removal = self._searched()
        fingerprint = self.study.fingerprint
        noted = self._note_look(HELD_OUT)
        looks = None if noted is None else noted.before
        paths = [model.path for model in removal.kept]
        searched = self._outcomes(SEARCH, paths)
        held_out = self._watched(HELD_OUT, paths)
        found = self._findings(removal, searched, held_out, looks)
        final = self._final(found)
        asked, settings = self._asked(), self.settings
        model = ("name", "revision", "sha256", "layers", "parameters", "dtype")
        document = {
            "version": VERSION,
            "model": {name: asked["model"][name] for name in model},
            "task": asked["task"],
            "fingerprint": fingerprint,
            "search": chosen_by(self.question, settings),
            **found.documents(),
            "final": final,
            "rounds": [round_document(done) for done in removal.rounds],
            "verdict": verdict(found, settings.max_loss, settings.confidence),
            "text": {"name": self.page.name, "sha256": self.page.sha256},
            "cautions": self._cautions(found, held_out, final),
            "cost": self._cost(found, searched[removal.start]),
        }
        self.records.set_facts({"result": document, "held_out_looks": looks})
        return Result(document, found, looks)

    def _asked(self) -> dict[str, Any]:
        """What is asked, the settings too, and what is known of the model."""
        asked = self.records.fact("asked")
        model = {
            **asked["model"],
            "layers": self.plan.layers,
            "parameters": self.plan.parameters,
            "dtype": self.records.fact("identity")["dtype"],
        }
        return {**asked, "model": model, "search": self.settings.document()}

    def _searched(self) -> Found:
        self.watcher.phase("search")
        # Until it is finished, what was found with other settings is no longer this study's result.
        self.records.set_facts({"search": chosen_by(self.question, self.settings), "result": None})
        search = self.measuring.search_by(self.settings, self.plan)
        measure = self.measuring.of(SEARCH, self.watcher, counted=True)
        batches = self.plan.batches[SEARCH]
        return with_halves(
            self.records,
            partial(search, measure, batches, self.plan.whole, self.watcher.round_done),
        )

    def _watched(
        self, role: Role, paths: Sequence[LayerPath]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        self.watcher.phase(role)
        return self._outcomes(role, paths, self.watcher)

    def _outcomes(
        self, role: Role, paths: Sequence[LayerPath], watcher: Watcher | None = None
    ) -> dict[LayerPath, dict[int, Outcome]]:
        return self.measuring.outcomes(role, paths, self.plan.batches[role], watcher)

    def _compared(
        self, outcomes: Mapping[LayerPath, Mapping[int, Outcome]], start: LayerPath
    ) -> dict[LayerPath, Comparison]:
        clusters, confidence = self.question.clusters, self.settings.confidence
        return {
            path: compare(outcomes[start], of_path, clusters, confidence)
            for path, of_path in outcomes.items()
        }

    def _findings(
        self,
        removal: Found,
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
        looks: int | None,
    ) -> Findings:
        """Every model kept, with its evidence, and those that have a name."""
        paths = [model.path for model in removal.kept]
        compared = self._compared(held_out, removal.start)
        guards = {
            guard.task.name: self._compared(
                self._watched(Role(Part.HELD_OUT, guard.task.name), paths), removal.start
            )
            for guard in self.question.guards
        }
        perplexities = self._perplexities(paths)
        speeds = self._speeds(paths)
        models = {
            model.path: PathModel(
                model,
                self.plan.parameters_of(model.path),
                compared[model.path],
                generation_counts(searched[model.path].values()),
                perplexities[model.path],
                speeds[model.path],
                {name: of_guard[model.path] for name, of_guard in guards.items()},
            )
            for model in removal.kept
        }
        found = claims(
            removal,
            self._compared(searched, removal.start),
            compared,
            self.settings.max_loss,
            Level(1 - self.settings.confidence, looks),
        )
        return findings(removal, models, found)

    def _final(self, found: Findings) -> dict[str, Any] | None:
        """The model recommended, on the set that no model was ever looked at before.

        The set is looked at for one model in a study's life, and the look is noted before it.
        """
        if FINAL not in self.question.sets:
            return None
        sealed = self.records.fact("final")
        if sealed is None:
            model = found.confirmed_best or found.fastest_safe
            if model is None:
                return None
            sealed = {"name": found.recommended, "removed": list(model.kept.removed)}
            # Whoever has looked since the study began has broken the seal.
            seen = final_seen_before(self.question, self.study.name)
            unsealed = 0 if seen is None else seen.examples
            self.records.set_facts({"final": sealed, "final_unsealed": unsealed})
        self._note_look(FINAL)
        start = self.plan.whole
        path = LayerPath.from_removed(sealed["removed"], start.total)
        compared = self._compared(self._watched(FINAL, [start, path]), start)
        return {
            **sealed,
            "layers": path.depth,
            "baseline_accuracy": compared[start].accuracy,
            **compared[path].document(),
            "loses_at_most": compared[path].loses_at_most,
        }

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
        self,
        found: Findings,
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
        final: Mapping[str, Any] | None,
    ) -> list[str]:
        positions = self.question.positions[HELD_OUT]
        outcomes = {
            name: [held_out[model.kept.path][position] for position in positions]
            for name, model in found.named.items()
        }
        unsealed = self.records.fact("final_unsealed") if final else 0
        said = cautions(
            found.named,
            outcomes,
            self.question.sets[HELD_OUT],
            truncated=self.plan.truncated,
            final=final,
            absences=unable(absences_of(self.plan)),
            remedies=remedies_for(self.question.task),
        )
        if found.claims.level.looks is None:
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

    def _note_look(self, role: Role) -> Looks | None:
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
            batches = self.plan.batches[SEARCH]
            batch = bench.timed_part(self.records.halves(batches[len(batches) // 2])[0])
            found = tokens_per_second(bench, paths, batch)
            self.records.set_speeds(found)
        return found

    def _cost(self, found: Findings, whole: Mapping[int, Outcome]) -> dict[str, Any]:
        cost = self.records.cost()
        # What the whole model reads and writes on the search set, each token once.
        written = sum(one.generated.tokens for one in whole.values() if one.generated)
        search_tokens = self.plan.search_tokens + written
        dense_pass = self.plan.layers * search_tokens
        return {
            "layer_tokens": cost.layer_tokens,
            "dense_passes": cost.layer_tokens / dense_pass,
            "naive_passes": None
            if cost.layer_tokens_alone is None
            else cost.layer_tokens_alone / dense_pass,
            "batches_measured": cost.batches_begun,
            "seconds": cost.seconds,
            "search_tokens": search_tokens,
            "tokens_per_second": {
                name: model.tokens_per_second for name, model in found.named.items()
            },
            "path_tokens_per_second": [model.tokens_per_second for model in found.path],
            "slowed_by": slowed(absences_of(self.plan)),
        }
