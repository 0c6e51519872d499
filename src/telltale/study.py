"""A study: one search from start to end, on disk, so that a crash loses at most one measurement.

A study that is run again goes on by searching again on a measure that remembers: the search itself
has no state to save. Settings that change no outcome may change between runs.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.cautions import cautions
from telltale.elsewhere import Page, built_in_page, perplexities, windows_of
from telltale.errors import InputError
from telltale.files import sha256_of_json, write_json
from telltale.ledger import note_look
from telltale.measure import Batch, BatchTooLargeError, Measurement, outcomes_by_path
from telltale.paths import LayerPath, check_layers
from telltale.question import differences
from telltale.records import Records, open_records, removed_text
from telltale.result import VERSION, NamedModel, named_models, round_document, verdict
from telltale.throughput import tokens_per_second
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.engine.shared import SharedEngine
    from telltale.measure import Outcome
    from telltale.question import Question
    from telltale.searches import GreedyRemoval, Removal
    from telltale.tasks import Task
    from telltale.workbench import Workbench

RESULT_FILE = "result.json"
LIBRARIES = ("telltale-llm", "torch", "transformers", "tokenizers")
COMPARING = {"math": "math-verify"}  # what an extraction compares answers with


@dataclass(frozen=True)
class Result:
    """A finished study: its document, and what a summary shows beside it."""

    document: dict[str, Any]
    models: dict[str, NamedModel]
    held_out_looks: int | None

    @property
    def verdict(self) -> str:
        """Whether the gain is shown, in one sentence."""
        return str(self.document["verdict"])


def run_study(
    question: Question,
    search: GreedyRemoval,
    folder: Path,
    *,
    watcher: Watcher | None = None,
    page: Page | None = None,
    resume_anyway: bool = False,
) -> Result:
    """Search, measure the named models on the held-out set, and write ``result.json``.

    Args:
        question: what to measure.
        search: how to choose.
        folder: the study's folder; one that holds the same question is gone on with.
        watcher: is told how it goes on.
        page: the text on which to see how much the models are hurt elsewhere.
        resume_anyway: go on although a library has another version than when the study began.

    Raises:
        InputError: the folder holds something else, or a library's version has changed.
        MeasurementError: measuring failed; what was measured is kept.
    """
    with open_records(folder, write=True) as records:
        identity = question.identity()
        _check_same_question(records, identity, folder)
        _check_versions(records, question.task, folder, resume_anyway=resume_anyway)
        shown = page or built_in_page()
        result = _Run(question, identity, search, records, watcher or Watcher(), shown).result()
    write_json(folder / RESULT_FILE, result.document)
    return result


def library_versions(task: Task) -> dict[str, str]:
    """The versions of the libraries that decide a task's outcomes."""
    extract = task.generation.extract if task.generation else ""
    names = [*LIBRARIES, *([COMPARING[extract]] if extract in COMPARING else [])]
    return {name: importlib.metadata.version(name) for name in names}


def _check_same_question(records: Records, identity: dict[str, Any], folder: Path) -> None:
    known = records.fact("identity")
    if known is not None and known != json.loads(json.dumps(identity)):
        raise InputError(
            f"{folder} holds another study, which differs in: "
            f"{'; '.join(differences(known, identity))}; give another --out"
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


class RememberingMeasure:
    """Measures only what the records do not hold, and keeps it there.

    Args:
        records: what is known.
        workbench: makes the engine when something is missing.
        watcher: is told of every measurement.
        counted: whether the work counts as the search's cost.
    """

    def __init__(
        self, records: Records, workbench: Workbench, watcher: Watcher, *, counted: bool
    ) -> None:
        self._records = records
        self._workbench = workbench
        self._watcher = watcher
        self._counted = counted

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        final = [half for batch in batches for half in self._records.halves(batch)]
        self._watcher.expect(len(final) * len(paths))
        missing: dict[tuple[LayerPath, ...], list[Batch]] = {}
        for batch in final:
            unknown = []
            for path in paths:
                outcomes = self._records.measured(batch, path)
                if outcomes is None:
                    unknown.append(path)
                else:
                    known = Measurement(batch, path, outcomes)
                    self._watcher.measured(known, remembered=True)
                    yield known
            if unknown:
                missing.setdefault(tuple(unknown), []).append(batch)
        for unknown_paths, of_batches in missing.items():
            yield from self._measure(unknown_paths, of_batches)

    def _measure(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        measure = self._workbench.measure
        if self._counted:
            self._records.begin()
        for measurement in measure(paths, batches):
            self._records.keep(measurement, counted=self._counted)
            self._watcher.measured(measurement, remembered=False)
            yield measurement
        if self._counted:
            self._records.end()


class _Run:
    """One run of a study, with what its parts share."""

    def __init__(
        self,
        question: Question,
        identity: dict[str, Any],
        search: GreedyRemoval,
        records: Records,
        watcher: Watcher,
        page: Page,
    ) -> None:
        self.question = question
        self.identity = identity
        self.search = search
        self.records = records
        self.watcher = watcher
        self.page = page
        plan = records.fact("plan")
        self.workbench = question.workbench(plan["capabilities"] if plan else None)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is frozen when a study begins: batches, and what was found out about the model."""
        known = self.records.fact("plan")
        if known is not None:
            return dict(known)
        bench, question = self.workbench, self.question
        capabilities = bench.capabilities  # also refuses a model whose layers cannot be left out
        model = bench.model
        whole = LayerPath.whole(model.depth)
        check_layers(sorted(self.search.protected), model.depth)
        windows_of(bench, self.page)  # a page that says nothing is refused before the search
        plan = {
            "layers": model.depth,
            "parameters": model.parameters_on(whole),
            "layer_parameters": [
                model.parameters_on(whole) - model.parameters_on(whole.without(layer))
                for layer in whole.kept
            ],
            "attention": model.attention,
            "capabilities": list(capabilities),
            "token_prefix": len(bench.engine.token_prefix),
            "search_tokens": sum(bench.encoded[i].tokens for i in question.search_positions),
            "truncated": sum(example.is_cut for example in bench.encoded),
            "search_batches": [b.examples for b in bench.batches(question.search_positions)],
            "held_out_batches": [b.examples for b in bench.batches(question.held_out_positions)],
        }
        self.records.set_examples(
            (
                position,
                "search" if position in question.search_positions else "held-out",
                example.id,
                example.context,
                json.dumps(example.choices),
                example.answer,
            )
            for position, example in enumerate(question.examples)
        )
        # From here on the study has begun, and its folder is taken.
        self.records.set_facts({"identity": self.identity, "plan": plan, "asked": self._asked()})
        return plan

    def _asked(self) -> dict[str, Any]:
        """What was asked, for whoever reads or exports the study later."""
        source, task = self.question.source, self.question.task
        return {
            "model": {
                "name": source.name,
                "given": source.given,
                "revision": source.revision,
                "sha256": source.sha256,
                "trust_remote_code": source.trust_remote_code,
                "from_gguf": source.from_gguf,
            },
            "task": {
                "name": task.name,
                "prompt": task.template,
                **task.settings(),
                "truncate": "left" if self.question.cuts else "no",
                "seed": self.question.seed,
                "search_examples": len(self.question.search_positions),
                "held_out_examples": len(self.question.held_out_positions),
            },
        }

    def _chosen_by(self) -> dict[str, Any]:
        """The search's settings, which change no outcome."""
        return {
            "method": "greedy removal",
            "tolerance": self.search.tolerance,
            "max_removed": self.search.max_removed,
            "protected": sorted(self.search.protected),
        }

    def batches(self, role: str) -> list[Batch]:
        name = f"{role.replace('-', '_')}_batches"
        return [Batch(tuple(examples)) for examples in self.plan[name]]

    def fingerprint(self) -> str:
        frozen = ("attention", "capabilities", "search_batches", "held_out_batches")
        plan = json.loads(json.dumps({name: self.plan[name] for name in frozen}))
        return sha256_of_json({"identity": self.identity, **plan})

    def result(self) -> Result:
        removal = self._searched()
        fingerprint = self.fingerprint()
        paths = list(dict.fromkeys([removal.start, removal.best.path, removal.bsba.path]))
        looks = self._note_look(fingerprint)
        searched = self._outcomes("search", paths)
        held_out = self._outcomes("held-out", paths)
        models = named_models(
            removal,
            searched,
            held_out,
            {path: self._parameters(path) for path in paths},
            self._perplexities(paths),
        )
        speeds = self._speeds(paths)
        asked = self.records.fact("asked")
        model = {name: asked["model"][name] for name in ("name", "revision", "sha256")}
        document = {
            "version": VERSION,
            "model": {
                **model,
                "layers": self.plan["layers"],
                "parameters": self.plan["parameters"],
                "dtype": self.identity["dtype"],
            },
            "task": asked["task"],
            "fingerprint": fingerprint,
            "search": self._chosen_by(),
            **{name: named.document() for name, named in models.items()},
            "rounds": [round_document(done) for done in removal.rounds],
            "verdict": verdict(removal, models["best"].held_out),
            "text": {"name": self.page.name, "sha256": self.page.sha256},
            "cautions": self._cautions(models, held_out),
            "cost": self._cost(
                {name: speeds[named.kept.path] for name, named in models.items()},
                searched[removal.start],
            ),
        }
        self.records.set_facts({"result": document, "held_out_looks": looks})
        return Result(document, models, looks)

    def _searched(self) -> Removal:
        self.watcher.phase("search")
        start = LayerPath.whole(self.plan["layers"])
        check_layers(sorted(self.search.protected), start.total)
        # Until it is finished, what was found with other settings is no longer this study's result.
        self.records.set_facts({"search": self._chosen_by(), "result": None})
        measure = RememberingMeasure(self.records, self.workbench, self.watcher, counted=True)
        while True:
            try:
                return self.search(measure, self.batches("search"), start, self.watcher.round_done)
            except BatchTooLargeError as problem:
                self._split(problem)

    def _outcomes(
        self, role: str, paths: Sequence[LayerPath]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        """The outcomes of some paths on the ``search`` or the ``held-out`` set."""
        # Those on the search set are remembered, and nothing to watch.
        watcher = self.watcher if role == "held-out" else Watcher()
        watcher.phase(role)
        measure = RememberingMeasure(self.records, self.workbench, watcher, counted=False)
        while True:
            try:
                return outcomes_by_path(measure(paths, self.batches(role)))
            except BatchTooLargeError as problem:
                self._split(problem)

    def _split(self, problem: BatchTooLargeError) -> None:
        """Halve a batch for good; who measures begins again, so that all paths see the halves."""
        if len(problem.batch.examples) == 1:
            raise problem
        self.records.split(problem.batch)

    def _perplexities(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        self.watcher.phase("text")
        known = self.records.fact("perplexities") or {}
        of_page = known.get(self.page.sha256, {})
        missing = [path for path in paths if removed_text(path) not in of_page]
        if missing:
            found = perplexities(self.workbench, self.page, missing)
            of_page |= {removed_text(path): value for path, value in found.items()}
            self.records.set_facts({"perplexities": {**known, self.page.sha256: of_page}})
        return {path: of_page[removed_text(path)] for path in paths}

    def _cautions(
        self,
        models: Mapping[str, NamedModel],
        held_out: Mapping[LayerPath, Mapping[int, Outcome]],
    ) -> list[str]:
        positions = self.question.held_out_positions
        outcomes = {
            name: [held_out[named.kept.path][position] for position in positions]
            for name, named in models.items()
        }
        examples = [self.question.examples[position] for position in positions]
        return cautions(models, outcomes, examples, truncated=self.plan["truncated"])

    def _note_look(self, fingerprint: str) -> int | None:
        held_out = [self.question.examples[i].digest for i in self.question.held_out_positions]
        return note_look(sha256_of_json([fingerprint, self._chosen_by()]), held_out)

    def _parameters(self, path: LayerPath) -> int:
        of_layers: list[int] = self.plan["layer_parameters"]
        return int(self.plan["parameters"]) - sum(of_layers[layer] for layer in path.removed)

    def _speeds(self, paths: Sequence[LayerPath]) -> dict[LayerPath, float]:
        self.watcher.phase("speed")
        known = {path: self.records.speed(path) for path in paths}
        found = {path: speed for path, speed in known.items() if speed is not None}
        if len(found) < len(paths):
            engine: SharedEngine = self.workbench.engine
            batches = self.batches("search")
            batch = self.workbench.timed_part(self.records.halves(batches[len(batches) // 2])[0])
            found = tokens_per_second(engine, paths, batch)
            self.records.set_speeds(found)
        return found

    def _cost(self, speeds: dict[str, float], whole: Mapping[int, Outcome]) -> dict[str, Any]:
        cost = self.records.cost()
        # What the whole model reads and writes on the search set, each token once.
        written = sum(one.generated.tokens for one in whole.values() if one.generated)
        search_tokens = self.plan["search_tokens"] + written
        dense_pass = self.plan["layers"] * search_tokens
        return {
            "layer_tokens": cost.layer_tokens,
            "dense_passes": cost.layer_tokens / dense_pass,
            "batches_measured": cost.batches_begun,
            "seconds": cost.seconds,
            "search_tokens": search_tokens,
            "tokens_per_second": speeds,
        }
