"""Explaining: what a task's examples say of every layer, measured and kept in a folder.

What is measured is kept as a study keeps it, so that the same call goes on where it was stopped.
What the numbers are called, and what follows from them, is said in `telltale.evidence`.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from telltale.engine.layer_scores import LAYER_SCORES
from telltale.engine.runner import Job
from telltale.engine.selftest import Absence, told, unable
from telltale.engine.workbench import Workbench
from telltale.errors import InputError
from telltale.evidence.ablation import Ablation, ablation, pair_removals, single_removals
from telltale.evidence.cautions import evaluation_cautions, remedies_for
from telltale.evidence.conclusions import concluded
from telltale.evidence.explanation import (
    Explanation,
    LayerExplained,
    PairMap,
    Predicted,
    Read,
)
from telltale.evidence.lens import Lens, lens, lens_paths
from telltale.information import joint_score, predictions
from telltale.information.estimating import check_installed, entropy
from telltale.measure import Batch, accuracy, outcomes_by_path
from telltale.models.load import choose_device
from telltale.models.precision import choose_precision
from telltale.objectives import OBJECTIVES, values_by
from telltale.paths import LayerPath
from telltale.study.information import ESTIMATORS, Told, estimated, items_of, told_by
from telltale.study.measuring import Remembering, with_halves
from telltale.study.opening import library_versions
from telltale.study.picking import finished, picked_from, searched_source
from telltale.study.question import SPOKEN, digest_of, identity_of
from telltale.study.records import ALONE, has_begun, key_of, open_records
from telltale.support.files import sha256_of
from telltale.tasks import Example, Scoring, Task
from telltale.tasks.sets import SEARCH
from telltale.tasks.split import clusters_of
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from telltale.engine.encode import EncodedExample
    from telltale.measure import Outcome
    from telltale.models.source import ModelSource
    from telltale.study.records import Records

# A document's name of a measure, and the score of layers that it is.
SCORES = {
    "taylor": "gradient",
    "taylor_absolute": "gradient-absolute",
    "taylor_squared": "gradient-squared",
    "block_influence": "block-influence",
    "angular_distance": "angular-distance",
    "magnitude": "magnitude",
}
# On how many examples, about, the model is measured without each layer, which takes the most work:
# on fewer where they have more tokens than these together, but on no fewer than the least.
LEFT_OUT_ON, LEFT_OUT_TOKENS, LEAST_LEFT_OUT = 100, 8_000, 50
AUTO = "auto"
MEASURED = "measured"  # in an explanation's folder, what it has measured


def explain_task(
    source: ModelSource,
    task: Task,
    examples: Sequence[Example],
    folder: Path,
    *,
    removed: Sequence[int] = (),
    pairs: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    cuts: bool = False,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Explanation:
    """Explain the layers of a path, on ``examples``, which are some of the task's.

    See `telltale.explain`. ``folder`` keeps what is measured.
    """
    check_installed()
    if task.generation is not None:
        raise InputError(
            "an explanation compares choices by log-likelihood, and here the model writes; give a "
            "task with choices, by `protocol` loglik"
        )
    watcher = watcher or Watcher()
    check_explanation_folder(folder)
    with open_records(folder / MEASURED, write=True) as records:
        if dtype == AUTO:
            dtype = _precision(records, source, device, watcher)
        bench = Workbench(source, task, examples, device, dtype, seed=seed, cuts=cuts)
        _check_same(records, folder, identity := _identity(bench))
        watcher.phase("self-test")
        path = LayerPath.from_removed(removed, bench.depth)
        records.start_run(library_versions(task))
        bench = _begun(bench, records, identity)
        for line in told(_absences(records)):
            watcher.advised(line)
        return _Explaining(bench, records, folder, path, watcher, pairs=pairs).explanation()


def searched_by(study: Path, pick: str | int | None) -> tuple[ModelSource, Task, tuple[int, ...]]:
    """A finished study's model, its task with the examples searched by, and the layers removed.

    Args:
        study: its folder.
        pick: one of its models, as `picked_from` has it; by default the first that it shows.

    Raises:
        InputError: it is not finished, its model has changed or has no such one, or its prompts
            cannot be made again.
    """
    result, asked = finished(study)
    task = task_of(study)
    shown = result.shown_first if pick is None else picked_from(result, str(pick))
    return searched_source(asked), task, () if shown is None else shown.removed


def task_of(study: Path) -> Task:
    """A finished study's task, with the examples that it was searched by, from its file alone.

    Raises:
        InputError: their prompts cannot be made again from it, as those after shots.
    """
    with open_records(study, write=False) as records:
        asked, stored = records.fact("asked")["task"], records.examples()
        wanted = records.fact("identity")["prompts_sha256"]
    if "scoring" not in asked or "scorer" in asked:
        raise InputError(
            f"{study} was not searched by comparing choices, and an explanation compares them"
        )
    examples = tuple(
        Example(one.id, one.context, one.choices, one.answer, passage=f"cluster {one.cluster}")
        for one in stored
        if not one.role.guard
    )
    roles = [one.role for one in stored if not one.role.guard]
    task = Task(
        asked["name"], examples, asked["prompt"], Scoring(asked["scoring"]), asked["delimiter"]
    )
    if sha256_of(*(text for one in examples for text in sum(task.requests(one), ()))) != wanted:
        raise InputError(
            f"the prompts of {study} cannot be made again from its file, since they have shots or "
            "are a harness's; give the model and the task as the search had them, and `remove`"
        )
    searched = (one for one, role in zip(examples, roles, strict=True) if role == SEARCH)
    return replace(task, examples=tuple(searched))


def _identity(bench: Workbench) -> dict[str, Any]:
    """All that changes a number of an explanation but the layers left out, as JSON values."""
    identity = {
        "examples_sha256": digest_of(bench.examples),
        **identity_of(bench),
        "versions": library_versions(bench.task),
    }
    found: dict[str, Any] = json.loads(json.dumps(identity))
    return found


def _precision(records: Records, source: ModelSource, device: str, watcher: Watcher) -> str:
    """The precision that an explanation has, or on a CPU the one that pays for a new one."""
    if choose_device(device).type != "cpu":
        return AUTO
    known = records.fact("identity")
    if known is not None:
        return str(known["dtype"])
    chosen = choose_precision(source)
    if chosen.reason:
        watcher.advised(chosen.reason)
    return chosen.dtype


def check_explanation_folder(folder: Path) -> None:
    """Refuse a folder that holds something else than an explanation.

    Raises:
        InputError: it is a file, or holds other files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the explanation")
    if has_begun(folder):
        raise InputError(f"{folder} holds a search; give another `out`")
    if folder.is_dir() and not (folder / MEASURED).is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and no explanation; give another `out`")


def _check_same(records: Records, folder: Path, identity: dict[str, Any]) -> None:
    """Refuse a folder that holds another explanation.

    Raises:
        InputError: it does, and in what that differs.
    """
    known = records.fact("identity")
    if known is not None and known != identity:
        names = [name for name in identity if known.get(name) != identity[name]]
        what = ", ".join(SPOKEN.get(name, name) for name in names)
        raise InputError(f"{folder} explains something else: {what} differ; give another `out`")


def _begun(bench: Workbench, records: Records, identity: dict[str, Any]) -> Workbench:
    """The bench with what is frozen when an explanation begins, which it does once."""
    plan = records.fact("plan")
    if plan is None:
        batches = [one.examples for one in bench.batches(range(len(bench.examples)))]
        plan = {
            "capabilities": list(bench.capabilities),
            "absences": [list(one) for one in bench.absences],
            "batches": batches,
        }
        records.set_facts({"identity": identity, "plan": plan, ALONE: 0})
        return bench
    return replace(bench, known_capabilities=plan["capabilities"])


def _absences(records: Records) -> list[Absence]:
    """The capabilities that measuring goes without, as they were found when it began."""
    return [Absence(*one) for one in records.fact("plan")["absences"]]


def _with_right_choice(one: EncodedExample) -> EncodedExample:
    """A question with its right choice alone, by which its layers are scored."""
    choice, size = one.choices[one.answer], one.sizes[one.answer]
    return replace(one, choices=(choice,), sizes=(size,), answer=0)


class _Explaining:
    """One explanation, with what its parts share."""

    def __init__(
        self,
        bench: Workbench,
        records: Records,
        folder: Path,
        path: LayerPath,
        watcher: Watcher,
        *,
        pairs: bool,
    ) -> None:
        self.bench, self.records, self.folder = bench, records, folder
        self.path, self.whole = path, LayerPath.whole(path.total)
        self.watcher = watcher
        self.pairs = pairs
        self.items = items_of(bench.examples, bench.encoded)
        self.right = {place: one.answer for place, one in enumerate(bench.examples)}
        self.clusters = dict(enumerate(clusters_of(bench.examples)))

    def explanation(self) -> Explanation:
        """Measure what is not known yet, and say what follows."""
        whole, path = self.whole, self.path
        both = tuple(dict.fromkeys([whole, path]))
        lenses = [one for of in both for one in lens_paths(of)]
        outcomes = self._outcomes(lenses, "lens", self._batches)
        without = [*single_removals(whole), *(pair_removals(whole) if self.pairs else ())]
        few = self._few_batches
        left_out = self._outcomes(without, "layers left out", few)
        some = {place for batch in few for place in batch.examples}
        left_out[whole] = {place: outcomes[whole][place] for place in some}
        scores = self._scores()
        states, why_not = self._states(both)
        losses = self._ablation(left_out, "likelihood")
        measures = self._measures(scores, states.get(whole))
        layers = {
            one: self._layers(one, states.get(one), outcomes, left_out, measures, losses)
            for one in both
        }
        entropy_bits = entropy(self._answers) if states else None
        predicted = self._predictions(layers[whole], losses)
        cost = self.records.cost()
        return Explanation(
            model=self._model(),
            task={**self._task(), "examples_without_layers": len(some)},
            removed=path.removed,
            classes=self.items.classes if states else (),
            entropy=entropy_bits,
            accuracy=accuracy(outcomes[path].values()),
            before=states[path][0].probe if states else Read(),
            layers=layers[path],
            whole=layers[whole],
            whole_accuracy=accuracy(outcomes[whole].values()),
            predictions=predicted,
            pairs=self._pair_map(left_out, losses),
            conclusions=concluded(
                layers[path], path.removed, layers[whole], predicted, entropy_bits
            ),
            cautions=(*why_not, *self._cautions(outcomes[path])),
            cost={"layer_tokens": cost.layer_tokens, "seconds": cost.seconds},
        )

    # Measuring

    def _outcomes(
        self, paths: Sequence[LayerPath], phase: str, batches: Sequence[Batch]
    ) -> dict[LayerPath, dict[int, Outcome]]:
        """The outcomes of some paths."""
        if not paths:
            return {}
        wanted = [*dict.fromkeys(paths)]
        self.watcher.phase(phase)
        self.watcher.expect(len(batches) * len(wanted))
        measure = Remembering(self.records, self.bench.measure, self.watcher, lambda _: 0)
        return with_halves(lambda: outcomes_by_path(measure(wanted, batches)), self.records.split)

    @property
    def _batches(self) -> list[Batch]:
        known = (Batch(tuple(one)) for one in self.records.fact("plan")["batches"])
        return [half for batch in known for half in self.records.halves(batch)]

    @property
    def _few_batches(self) -> list[Batch]:
        """As many as have enough examples to leave each layer out on."""
        found: list[Batch] = []
        examples = tokens = 0
        for batch in self._batches:
            most = LEFT_OUT_ON if tokens < LEFT_OUT_TOKENS else LEAST_LEFT_OUT
            if examples < most:
                found.append(batch)
                examples += len(batch.examples)
                tokens += self.bench.tokens_in(batch)
        return found

    def _scores(self) -> dict[str, Sequence[float]]:
        """The whole model's scores of layers, by their names in a document."""
        known = self.records.fact("layer_scores")
        if known is None:
            self.watcher.phase("scores of layers")
            wanted = [LAYER_SCORES[name] for name in SCORES.values()]
            job = Job(tuple(map(_with_right_choice, self.bench.encoded)), Scoring.LOGLIK)
            known = self.bench.runner.layer_scores(job, self._batches, wanted)
            self.records.set_facts({"layer_scores": known})
        return {name: known[score] for name, score in SCORES.items()}

    def _states(
        self, paths: Sequence[LayerPath]
    ) -> tuple[dict[LayerPath, list[Told]], tuple[str, ...]]:
        """What the states of each path tell, that before the first layer first.

        Nothing, and why, where it cannot be estimated of these examples.
        """
        try:
            self.items.check()
        except InputError as problem:
            return {}, (f"what states tell is not estimated: {problem}",)
        return {path: self._told(path) for path in paths}, ()

    def _told(self, path: LayerPath) -> list[Told]:
        """What is found is kept, and the states, which are large, only until then."""
        key = key_of(path)
        found = {one: self.records.fact(f"information {one} {key}") for one in ESTIMATORS}
        folder = self.folder / MEASURED / f"states-{key or 'whole'}"
        if None in found.values():
            self.watcher.phase("states")
            items = self.items
            states = self.bench.states(path, items.encoded, items.batches(self.bench), folder)
            for one in [name for name, known in found.items() if known is None]:
                found[one] = estimated([*states.values], self.items, self.bench.seed, one)
                self.records.set_facts({f"information {one} {key}": found[one]})
        shutil.rmtree(folder, ignore_errors=True)
        return told_by(found)

    # What follows

    @property
    def _answers(self) -> Any:
        return np.array(self.items.answers)

    def _value(self, kind: str) -> Callable[[Outcome], float]:
        return values_by(OBJECTIVES[kind], self.bench.task.scoring, self.right)

    def _ablation(self, outcomes: Mapping[LayerPath, Mapping[int, Outcome]], kind: str) -> Ablation:
        return ablation(self.whole, outcomes, self._value(kind), self.clusters)

    def _measures(
        self, scores: Mapping[str, Sequence[float]], told_of_whole: Sequence[Told] | None
    ) -> dict[str, Sequence[float]]:
        """Every measure of the whole model's layers; jointly with information where there is."""
        if told_of_whole is None:
            return dict(scores)
        changed = [one.probe.change.bits for one in told_of_whole if one.probe.change is not None]
        return {**scores, "joint": joint_score(changed, scores["taylor"])}

    def _layers(
        self,
        path: LayerPath,
        states: Sequence[Told] | None,
        outcomes: Mapping[LayerPath, Mapping[int, Outcome]],
        left_out: Mapping[LayerPath, Mapping[int, Outcome]],
        measures: Mapping[str, Sequence[float]],
        losses: Ablation,
    ) -> tuple[LayerExplained, ...]:
        """What is known of every layer; of states and lens, where it is on the path."""
        lenses: dict[int, Lens] = {}
        for part in lens_paths(path):
            lenses[part.kept[-1]] = lens(
                outcomes[part], self.right, self.bench.task.scoring, self.clusters
            )
        after = dict(zip(path.kept, states[1:], strict=True)) if states else {}
        known = self._mean(left_out[self.whole])
        found = []
        for layer in self.whole.kept:
            seen, read = lenses.get(layer), after.get(layer)
            without = left_out.get(self.whole.without(layer)) if self.whole.depth > 1 else None
            loss = losses.singles.get(layer)
            found.append(
                LayerExplained(
                    layer=layer,
                    probe=Read() if read is None else read.probe,
                    neighbours=Read() if read is None else read.neighbours,
                    verdict=None if read is None else read.verdict,
                    lens_accuracy=None if seen is None else seen.accuracy,
                    lens_bits=None if seen is None else seen.bits,
                    measures={name: of_layers[layer] for name, of_layers in measures.items()},
                    single_removal=None if without is None else accuracy(without.values()),
                    single_likelihood=None if loss is None else known - loss.loss,
                )
            )
        return tuple(found)

    def _mean(self, outcomes: Mapping[int, Outcome]) -> float:
        """The mean log-likelihood of right choices."""
        value = self._value("likelihood")
        values = [value(one) for one in outcomes.values()]
        return math.fsum(values) / len(values)

    def _predictions(
        self, layers: Sequence[LayerExplained], losses: Ablation
    ) -> dict[str, Predicted]:
        """How each measure of the whole model's layers orders them, beside what is lost."""
        if not losses.singles:
            return {}
        measures: dict[str, list[float | None]] = {
            name: [one.measures[name] for one in layers] for name in layers[0].measures
        }
        changed = [None if one.probe.change is None else one.probe.change.bits for one in layers]
        if any(one is not None for one in changed):
            measures["information"] = changed
        lost = [losses.singles[one.layer].loss for one in layers]
        return {
            name: Predicted(
                found.rank_correlation,
                found.p_value,
                found.corrected_p_value,
                self._chosen(measures[name]),
            )
            for name, found in predictions(measures, lost, seed=self.bench.seed).items()
        }

    def _chosen(self, measure: Sequence[float | None]) -> int | None:
        """How many of the layers removed are among as many that a measure ranks lowest."""
        gone = self.path.removed
        if not gone:
            return None
        known = [layer for layer, one in enumerate(measure) if one is not None]
        lowest = sorted(known, key=lambda layer: (measure[layer], layer))[: len(gone)]
        return len(set(lowest) & set(gone))

    def _pair_map(
        self, outcomes: Mapping[LayerPath, Mapping[int, Outcome]], losses: Ablation
    ) -> PairMap | None:
        if not self.pairs or not losses.pairs:
            return None
        of_accuracy = self._ablation(outcomes, "accuracy")
        likelihood, scores = (
            tuple(tuple(0.0 if one is None else one for one in row) for row in found.matrix)
            for found in (losses, of_accuracy)
        )
        return PairMap(losses.layers, likelihood, scores)

    # What is asked

    def _model(self) -> dict[str, Any]:
        source = self.bench.source
        return {
            "name": source.name,
            "revision": source.revision,
            "sha256": source.sha256,
            "layers": self.whole.depth,
            "dtype": str(self.bench.dtype).removeprefix("torch."),
            **{name: one for name, one in source.of_adapter.items() if name == "adapter"},
        }

    def _task(self) -> dict[str, Any]:
        task = self.bench.task
        return {
            "name": task.name,
            "prompt": task.template,
            **task.settings(),
            "truncate": "left" if self.bench.cuts else "no",
            "examples": len(self.bench.examples),
        }

    def _cautions(self, outcomes: Mapping[int, Outcome]) -> list[str]:
        bench = self.bench
        return [
            *evaluation_cautions(
                [outcomes[place] for place in range(len(bench.examples))],
                bench.examples,
                truncated=sum(one.is_cut for one in bench.encoded),
                remedies=remedies_for(bench.task),
            ),
            *unable(_absences(self.records)),
        ]
