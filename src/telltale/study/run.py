"""A study: one search from start to end, on disk, so that a crash loses at most one measurement.

A study that is run again goes on by searching again on a measure that remembers: the search itself
has no state to save. Settings that change no outcome may change between runs.
"""

from __future__ import annotations

import importlib.metadata
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.engine.perplexity import Page, built_in_page, perplexities, windows_of
from telltale.engine.selftest import slowed, told, unable
from telltale.engine.speed import tokens_per_second
from telltale.errors import InputError
from telltale.evidence.cautions import advice, cautions, remedies_for
from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.result import VERSION, Findings, PathModel, findings, round_document, verdict
from telltale.evidence.selection import Level, claims
from telltale.paths import LayerPath, check_layers
from telltale.study.ledger import Looks, Seen, note_look, note_searched, seen_before
from telltale.study.plan import Plan
from telltale.study.question import differences
from telltale.study.records import (
    FINAL,
    HELD_OUT,
    SEARCH,
    Records,
    guard_role,
    open_records,
    removed_text,
)
from telltale.study.remembering import with_halves
from telltale.support.files import sha256_of, sha256_of_json, write_json
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.evidence.comparison import Comparison
    from telltale.measure import Outcome
    from telltale.searches import Removal
    from telltale.study.question import Question
    from telltale.study.settings import Settings
    from telltale.tasks import Example, Task

RESULT_FILE = "result.json"
LIBRARIES = ("telltale-llm", "torch", "transformers", "tokenizers")
COMPARING = {"math": "math-verify"}  # what an extraction compares answers with


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
        page: the text on which to see how much the models are hurt elsewhere.
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
    with begun as (plan, records):
        result = _Run(plan, settings, records, watcher, page).result()
    write_json(folder / RESULT_FILE, result.document)
    watcher.finished(result.document)
    return result


@contextmanager
def open_study(
    question: Question,
    settings: Settings,
    folder: Path,
    page: Page,
    watcher: Watcher,
    *,
    resume_anyway: bool,
    is_taken: bool = False,
) -> Iterator[tuple[Plan, Records]]:
    """Open a study to measure what it lacks; begin it where there is none.

    Args, errors: see `run_study`.
    """
    with open_records(folder, write=True, is_taken=is_taken) as records:
        identity = question.identity()
        name = search_name(identity, question, settings)
        _check_same_question(records, question, identity, folder)
        if records.fact("plan") is None:
            _check_sealed(question, name)
        _check_versions(records, question.task, folder, resume_anyway=resume_anyway)
        plan = Plan(question, records)
        layers = plan["layers"] if plan.is_frozen else plan.workbench.depth
        check_layers(sorted(settings.protected), layers)
        if not plan.is_frozen:
            windows_of(plan.workbench, page)  # refused where it says nothing
            watcher.phase("self-test")
            plan.freeze(identity)
        note_searched(name, _names(question, set(question.sets) - {HELD_OUT, FINAL}))
        for line in told(plan.absences):
            watcher.advised(line)
        yield plan, records


def chosen_by(question: Question, settings: Settings) -> dict[str, Any]:
    """How a study chooses, its guards too, as JSON values."""
    guards = [{"task": guard.task.name, "most_loss": guard.most_loss} for guard in question.guards]
    return {**settings.document(), **({"guards": guards} if guards else {})}


def search_name(identity: Mapping[str, Any], question: Question, settings: Settings) -> str:
    """By what the ledger knows a search: equal where it is run again, in whatever folder."""
    return sha256_of_json([identity, chosen_by(question, settings)])


def _names(question: Question, roles: Collection[str]) -> list[str]:
    """Every name by which the ledger knows the examples of some sets."""
    return [
        name
        for role in question.sets
        if role in roles
        for example in question.sets[role]
        for name in _names_of(question, example)
    ]


def _names_of(question: Question, example: Example) -> list[str]:
    """An example's names, each with this model: looks of other models do not count."""
    return [sha256_of(question.source.sha256, name) for name in example.names]


def _seen_before(question: Question, search: str) -> Seen | None:
    """How many final examples others have looked at; ledgers of old have no model beside them."""
    examples = question.sets.get(FINAL, ())
    return seen_before(search, [[*_names_of(question, one), *one.names] for one in examples])


def _check_sealed(question: Question, search: str) -> None:
    """Refuse a final set of which examples were looked at before it is sealed.

    Raises:
        InputError: they were.
    """
    examples = question.sets.get(FINAL, ())
    seen = _seen_before(question, search)
    if seen is not None and seen.examples:
        by = f"{seen.searches} search{'es' if seen.searches > 1 else ''}"
        raise InputError(
            f"{seen.examples} of the {len(examples)} final examples were searched or held out "
            f"before, by {by} of this model on this machine, and "
            "a final set is of examples never looked at; give more examples or a smaller --final "
            "(with the --seed of those searches it takes what they come to last)"
        )


def library_versions(task: Task) -> dict[str, str]:
    """The versions of the libraries that decide a task's outcomes."""
    extract = task.generation.extract if task.generation else ""
    names = [*LIBRARIES, *([COMPARING[extract]] if extract in COMPARING else [])]
    return {name: importlib.metadata.version(name) for name in names}


def _check_same_question(
    records: Records, question: Question, identity: dict[str, Any], folder: Path
) -> None:
    known = records.fact("identity")
    if known is None or known == json.loads(json.dumps(identity)):
        return
    before, now = records.fact("asked")["task"], question.asked()["task"]
    sizes = [task.get("final_examples") for task in (before, now)]
    if sizes[0] != sizes[1]:
        had, given = (f"--final {size}" if size else "no --final" for size in sizes)
        again = f"give {had} again" if sizes[0] else "leave it out"
        raise InputError(
            f"{folder} was begun with {had}, and a final set is sealed when a study begins, so it "
            f"cannot go on with {given}; {again}, or another --out"
        )
    raise InputError(
        f"{folder} holds another study, which differs in: "
        f"{'; '.join(differences(known, identity, before, now))}; give another --out"
    )


def _check_versions(records: Records, task: Task, folder: Path, *, resume_anyway: bool) -> None:
    now = library_versions(task)
    before = records.versions()
    if before and before[-1] != now and not resume_anyway:
        changed = ", ".join(
            f"{name} {before[-1].get(name)} to {now[name]}"
            for name in now
            if before[-1].get(name) != now[name]
        )
        raise InputError(
            f"since {folder} was begun, libraries have changed ({changed}), which can change "
            "outcomes; install the old ones, give another --out, or add --resume-anyway"
        )
    records.start_run(now)


class _Run:
    """One run of a study, with what its parts share."""

    def __init__(
        self, plan: Plan, settings: Settings, records: Records, watcher: Watcher, page: Page
    ) -> None:
        self.plan = plan
        self.question = plan.question
        self.settings = settings
        self.records = records
        self.watcher = watcher
        self.page = page
        self.search = search_name(records.fact("identity"), plan.question, settings)

    def result(self) -> Result:
        self.watcher.begun(self._asked())
        self.watcher.advised(
            advice(
                len(self.question.sets[HELD_OUT]), self.settings.max_loss, self.settings.confidence
            )
        )
        removal = self._searched()
        fingerprint = self.plan.fingerprint()
        noted = self._note_look(HELD_OUT)
        looks = None if noted is None else noted.before
        paths = [model.path for model in removal.kept]
        searched = self.plan.outcomes(SEARCH, paths)
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
            "layers": self.plan["layers"],
            "parameters": self.plan["parameters"],
            "dtype": self.records.fact("identity")["dtype"],
        }
        return {**asked, "model": model, "search": self.settings.document()}

    def _searched(self) -> Removal:
        self.watcher.phase("search")
        # Until it is finished, what was found with other settings is no longer this study's result.
        self.records.set_facts({"search": chosen_by(self.question, self.settings), "result": None})
        search = self.plan.search_by(self.settings)
        measure = self.plan.measure(SEARCH, self.watcher, counted=True)
        batches = self.plan.batches(SEARCH)
        return with_halves(
            self.records,
            lambda: search(measure, batches, self.plan.whole, self.watcher.round_done),
        )

    def _watched(
        self, role: str, paths: Sequence[LayerPath]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        self.watcher.phase(role)
        return self.plan.outcomes(role, paths, self.watcher)

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
        removal: Removal,
        searched: Mapping[LayerPath, Mapping[int, Outcome]],
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
        looks: int | None,
    ) -> Findings:
        """Every model kept, with its evidence, and those that have a name."""
        paths = [model.path for model in removal.kept]
        compared = self._compared(held_out, removal.start)
        guards = {
            guard.task.name: self._compared(
                self._watched(guard_role(guard.task.name, HELD_OUT), paths), removal.start
            )
            for guard in self.question.guards
        }
        perplexities = self._perplexities(paths)
        speeds = self._speeds(paths)
        models = {
            model.path: PathModel(
                model,
                self.plan.parameters(model.path),
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
            seen = _seen_before(self.question, self.search)
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
        missing = [path for path in paths if removed_text(path) not in of_page]
        if missing:
            found = perplexities(self.plan.workbench, self.page, missing)
            of_page |= {removed_text(path): value for path, value in found.items()}
            self.records.set_facts({"perplexities": {**known, self.page.sha256: of_page}})
        return {path: of_page[removed_text(path)] for path in paths}

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
            truncated=self.plan["truncated"],
            final=final,
            absences=unable(self.plan.absences),
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

    def _note_look(self, role: str) -> Looks | None:
        """Note a look, and keep with the study how many had looked before it."""
        known = self.records.fact("looks") or {}
        before = known.get(role, {}).get(self.search)
        once_known_as = [name for one in self.question.sets[role] for name in one.names]
        looks = note_look(self.search, _names(self.question, {role}), before, once_known_as)
        if looks is not None and before is None:
            of_role = {**known.get(role, {}), self.search: looks.before}
            self.records.set_facts({"looks": {**known, role: of_role}})
        return looks

    def _speeds(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        self.watcher.phase("speed")
        known = {path: self.records.speed(path) for path in paths}
        found = {path: speed for path, speed in known.items() if speed is not None}
        if len(found) < len(paths):
            batches = self.plan.batches(SEARCH)
            batch = self.plan.workbench.timed_part(
                self.records.halves(batches[len(batches) // 2])[0]
            )
            found = tokens_per_second(self.plan.workbench, paths, batch)
            self.records.set_speeds(found)
        return found

    def _cost(self, found: Findings, whole: Mapping[int, Outcome]) -> dict[str, Any]:
        cost = self.records.cost()
        # What the whole model reads and writes on the search set, each token once.
        written = sum(one.generated.tokens for one in whole.values() if one.generated)
        search_tokens = self.plan["search_tokens"] + written
        dense_pass = self.plan["layers"] * search_tokens
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
            "slowed_by": slowed(self.plan.absences),
        }
