"""What a study freezes when it begins, and what measures its sets of examples by it.

In low precision another batch can flip an answer, and another run might find other capabilities; so
both are found once, and kept. Nothing is loaded before something that is not remembered is asked.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from telltale.engine.selftest import Absence
from telltale.measure import Batch, Shifted, outcomes_by_path
from telltale.objectives import values_by
from telltale.paths import LayerPath
from telltale.study.records import ALONE, FINAL, HELD_OUT, SEARCH, StoredExample, guard_role
from telltale.study.remembering import RememberingMeasure, with_halves
from telltale.study.settings import admits_by
from telltale.support.files import sha256_of_json
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from telltale.engine.workbench import Workbench
    from telltale.measure import Measurement, Outcome
    from telltale.searches import GreedyRemoval
    from telltale.study.question import Question
    from telltale.study.records import Records
    from telltale.study.settings import Settings


class Plan:
    """A study's frozen plan, read from its records; `freeze` makes it where there is none."""

    def __init__(self, question: Question, records: Records) -> None:
        self.question = question
        self._records = records
        self._frozen: dict[str, Any] | None = records.fact("plan")
        self.workbench = question.workbench(self._known("capabilities"))
        of_guards = self._known("guard_capabilities") or [None] * len(question.guards)
        self._guard_benches = [
            question.guard_workbench(guard, self.workbench, known)
            for guard, known in zip(question.guards, of_guards, strict=True)
        ]

    def _known(self, name: str) -> Any:
        return None if self._frozen is None else self._frozen.get(name)

    def __getitem__(self, name: str) -> Any:
        assert self._frozen is not None
        return self._frozen[name]

    @property
    def is_frozen(self) -> bool:
        """Whether the study has begun."""
        return self._frozen is not None

    def freeze(self, identity: Mapping[str, Any]) -> None:
        """Begin the study: find out what is to be kept, and keep it with what is asked.

        Raises:
            UnsupportedModelError: the model's layers cannot be left out.
            InputError: an example does not fit the model.
        """
        bench, question = self.workbench, self.question
        capabilities = bench.capabilities  # also refuses a model whose layers cannot be left out
        facts = bench.facts
        frozen = {
            "layers": facts.depth,
            "parameters": facts.parameters,
            "layer_parameters": list(facts.layer_parameters),
            "attention": facts.attention,
            "capabilities": list(capabilities),
            "absences": [
                list(absence) for one in (bench, *self._guard_benches) for absence in one.absences
            ],
            "guard_capabilities": [list(one.capabilities) for one in self._guard_benches],
            "token_prefix": len(bench.token_prefix),
            "search_tokens": sum(bench.encoded[i].tokens for i in question.positions[SEARCH]),
            "truncated": sum(example.is_cut for example in bench.encoded),
            "batches": {
                role: [batch.examples for batch in self._canonical(role)]
                for role in question.positions
            },
        }
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
        # From here on the study has begun, and its folder is taken.
        self._records.set_facts(
            {"identity": identity, "plan": frozen, "asked": question.asked(), ALONE: 0}
        )
        self._frozen = frozen

    @property
    def absences(self) -> list[Absence]:
        """The capabilities that measuring goes without, the guards' too, each with its reason."""
        return [Absence(*one) for one in self._known("absences") or ()]

    @property
    def whole(self) -> LayerPath:
        """The path through every layer."""
        return LayerPath.whole(self["layers"])

    def parameters(self, path: LayerPath) -> int:
        """How many parameters a path has, embeddings and all."""
        of_layers: list[int] = self["layer_parameters"]
        return int(self["parameters"]) - sum(of_layers[layer] for layer in path.removed)

    def fingerprint(self) -> str:
        """All that decides a result but the settings, as one hash."""
        frozen = ("attention", "capabilities", "guard_capabilities", "batches")
        plan = json.loads(json.dumps({name: self[name] for name in frozen}))
        return sha256_of_json({"identity": self._records.fact("identity"), **plan})

    def batches(self, role: str) -> list[Batch]:
        """A set's batches."""
        return [Batch(tuple(examples)) for examples in self["batches"][role]]

    def measure(self, role: str, watcher: Watcher, *, counted: bool = False) -> RememberingMeasure:
        """What measures a set and remembers.

        Args:
            role: the set's.
            watcher: is told of every measurement.
            counted: whether it counts as the search's cost.
        """

        def measured(paths: Sequence[LayerPath], batches: Sequence[Batch]) -> Iterator[Measurement]:
            bench, start = self._bench_of(role)
            return iter(Shifted(bench.measure, start)(paths, batches))

        def alone(measurement: Measurement) -> int:
            bench, start = self._bench_of(role)
            return measurement.path.depth * sum(
                bench.tokens_of(replace(outcome, example=outcome.example - start))
                for outcome in measurement.outcomes
            )

        return RememberingMeasure(
            self._records, measured, watcher, alone=alone if counted else None
        )

    def search_by(self, settings: Settings) -> GreedyRemoval:
        """The search that settings say, bound to this study's right answers and guards."""
        each = [
            admits_by(
                self.batches(guard_role(guard.task.name)),
                guard.most_loss,
                # Their few measurements are nothing to watch.
                self.measure(guard_role(guard.task.name), Watcher(), counted=True),
                self.whole,
            )
            for guard in self.question.guards
        ]
        return settings.search(
            values_by(settings.objective, self.question.task.scoring, self.question.right),
            lambda path: all(admits(path) for admits in each),
        )

    def outcomes(
        self, role: str, paths: Sequence[LayerPath], watcher: Watcher | None = None
    ) -> dict[LayerPath, dict[int, Outcome]]:
        """The outcomes of some paths on a set."""
        measure = self.measure(role, watcher or Watcher())
        return with_halves(
            self._records, lambda: outcomes_by_path(measure(paths, self.batches(role)))
        )

    def _bench_of(self, role: str) -> tuple[Workbench, int]:
        """What measures a set, and where among the study's examples its own begin."""
        if role in (SEARCH, HELD_OUT, FINAL):
            return self.workbench, 0
        for guard, bench in zip(self.question.guards, self._guard_benches, strict=True):
            if role in (guard_role(guard.task.name), guard_role(guard.task.name, HELD_OUT)):
                return bench, self.question.positions[guard_role(guard.task.name)].start
        raise KeyError(role)

    def _canonical(self, role: str) -> list[Batch]:
        bench, start = self._bench_of(role)
        own = [position - start for position in self.question.positions[role]]
        return [batch.shifted(start) for batch in bench.batches(own)]
