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

from telltale.errors import InputError
from telltale.files import sha256_of_json, write_json
from telltale.ledger import note_look
from telltale.measure import Batch, BatchTooLargeError, Measurement, outcomes_by_path
from telltale.paths import LayerPath, check_layers
from telltale.question import differences
from telltale.records import Records, open_records
from telltale.result import VERSION, NamedModel, named_models, round_document, verdict
from telltale.throughput import tokens_per_second

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from telltale.engine.shared import SharedEngine
    from telltale.measure import Outcome
    from telltale.question import Question
    from telltale.searches import GreedyRemoval, Removal, Round
    from telltale.workbench import Workbench

RESULT_FILE = "result.json"
LIBRARIES = ("telltale-llm", "torch", "transformers", "tokenizers")


class Watcher:
    """Is told how a study goes on. This one ignores it; a screen draws it."""

    def phase(self, name: str) -> None:
        """A part of the study begins: ``search``, ``held-out`` or ``speed``."""

    def expect(self, measurements: int) -> None:
        """So many measurements are asked for next."""

    def measured(self, measurement: Measurement, *, remembered: bool) -> None:
        """One of them is there."""

    def round_done(self, done: Round) -> None:
        """The search has finished a round."""


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
    resume_anyway: bool = False,
) -> Result:
    """Search, measure the named models on the held-out set, and write ``result.json``.

    Args:
        question: what to measure.
        search: how to choose.
        folder: the study's folder; one that holds the same question is gone on with.
        watcher: is told how it goes on.
        resume_anyway: go on although a library has another version than when the study began.

    Raises:
        InputError: the folder holds something else, or a library's version has changed.
        MeasurementError: measuring failed; what was measured is kept.
    """
    with open_records(folder, write=True) as records:
        identity = question.identity()
        _check_same_question(records, identity, folder)
        _check_versions(records, folder, resume_anyway=resume_anyway)
        result = _Run(question, identity, search, records, watcher or Watcher()).result()
    write_json(folder / RESULT_FILE, result.document)
    return result


def library_versions() -> dict[str, str]:
    """The versions of the libraries that compute."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def _check_same_question(records: Records, identity: dict[str, Any], folder: Path) -> None:
    known = records.fact("identity")
    if known is not None and known != json.loads(json.dumps(identity)):
        raise InputError(
            f"{folder} holds another study, which differs in: "
            f"{'; '.join(differences(known, identity))}; give another --out"
        )


def _check_versions(records: Records, folder: Path, *, resume_anyway: bool) -> None:
    now = library_versions()
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
        engine = self._workbench.engine
        if self._counted:
            self._records.begin()
        for measurement in engine(paths, batches):
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
    ) -> None:
        self.question = question
        self.identity = identity
        self.search = search
        self.records = records
        self.watcher = watcher
        plan = records.fact("plan")
        self.workbench = question.workbench(plan["capabilities"] if plan else None)

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What is frozen when a study begins: batches, and what was found out about the model."""
        known = self.records.fact("plan")
        if known is not None:
            return dict(known)
        bench, question = self.workbench, self.question
        model = bench.model
        whole = LayerPath.whole(model.depth)
        check_layers(sorted(self.search.protected), model.depth)
        plan = {
            "layers": model.depth,
            "parameters": model.parameters_on(whole),
            "layer_parameters": [
                model.parameters_on(whole) - model.parameters_on(whole.without(layer))
                for layer in whole.kept
            ],
            "attention": model.attention,
            "capabilities": list(bench.capabilities),
            "token_prefix": len(bench.engine.token_prefix),
            "search_tokens": sum(bench.encoded[i].tokens for i in question.search_positions),
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
                "scoring": task.scoring.value,
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
        return [Batch(tuple(examples)) for examples in self.plan[f"{role}_batches"]]

    def fingerprint(self) -> str:
        frozen = ("attention", "capabilities", "search_batches", "held_out_batches")
        plan = json.loads(json.dumps({name: self.plan[name] for name in frozen}))
        return sha256_of_json({"identity": self.identity, **plan})

    def result(self) -> Result:
        removal = self._searched()
        fingerprint = self.fingerprint()
        paths = list(dict.fromkeys([removal.start, removal.best.path, removal.bsba.path]))
        looks = self._note_look(fingerprint)
        held_out = self._held_out(paths)
        models = named_models(removal, held_out, {path: self._parameters(path) for path in paths})
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
            "cost": self._cost({name: speeds[named.kept.path] for name, named in models.items()}),
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

    def _held_out(self, paths: Sequence[LayerPath]) -> dict[LayerPath, dict[int, Outcome]]:
        self.watcher.phase("held-out")
        measure = RememberingMeasure(self.records, self.workbench, self.watcher, counted=False)
        while True:
            try:
                return outcomes_by_path(measure(paths, self.batches("held_out")))
            except BatchTooLargeError as problem:
                self._split(problem)

    def _split(self, problem: BatchTooLargeError) -> None:
        """Halve a batch for good; who measures begins again, so that all paths see the halves."""
        if len(problem.batch.examples) == 1:
            raise problem
        self.records.split(problem.batch)

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
            batch = self.records.halves(batches[len(batches) // 2])[0]
            found = tokens_per_second(engine, paths, batch)
            self.records.set_speeds(found)
        return found

    def _cost(self, speeds: dict[str, float]) -> dict[str, Any]:
        cost = self.records.cost()
        dense_pass = self.plan["layers"] * self.plan["search_tokens"]
        return {
            "layer_tokens": cost.layer_tokens,
            "dense_passes": cost.layer_tokens / dense_pass,
            "batches_measured": cost.batches_begun,
            "seconds": cost.seconds,
            "search_tokens": self.plan["search_tokens"],
            "tokens_per_second": speeds,
        }
