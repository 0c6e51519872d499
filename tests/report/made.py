"""Studies as their files would have them, made of numbers alone: no model, no search, no disk."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.result import Cost, PathModel, Result, Text, verdict, with_names
from telltale.evidence.selection import Level, claims
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.paths import LayerPath
from telltale.study import records
from telltale.study.reading import StoredStudy
from telltale.study.records import StoredExample
from telltale.tasks.sets import HELD_OUT, SEARCH, Role
from tests.rounds import found_by, step

if TYPE_CHECKING:
    from collections.abc import Callable

    from telltale.evidence.comparison import Comparison
    from telltale.searches import Found, Kept

CHOICES = ("Paris", "London", "Rome", "Madrid")
VERSIONS = {"telltale-llm": "0.1.0", "torch": "2.13.0"}


def question(position: int) -> str:
    return f"Question: What is the capital of country {position}?\nAnswer:"


@dataclass(frozen=True)
class Made:
    """What to make: a study of so many layers and rounds, the last of them not accepted."""

    layers: int = 8
    rounds: int = 4
    search: int = 40
    held_out: int = 60
    writes: bool = False
    objective: str = "likelihood"
    guards: tuple[str, ...] = ()
    protected: tuple[int, ...] = ()
    final: int | None = None
    context: Callable[[int], str] = question
    choices: tuple[str, ...] = CHOICES
    written: str = "The answer is ANSWER."
    model: str = "tiny-llama"
    task: str = "capitals"
    gain: float = 0.03  # of one layer more, about
    cautions: tuple[str, ...] = ()

    def finished(self) -> StoredStudy:
        """The study from start to end."""
        seen = self.outcomes()
        return self.stored(self.result(self.found(), seen), None, seen)

    def interrupted(self, rounds: int | None = 2) -> StoredStudy:
        """The study after so many rounds; None before the whole model was measured."""
        found = None
        if rounds is not None:
            whole = self.found()
            found = replace(whole, rounds=whole.rounds[:rounds])
        return self.stored(None, found, {})

    def found(self) -> Found:
        """A search's path: layers from the last on, accuracies by chance, always the same."""
        chance = random.Random(1)
        start = LayerPath.whole(self.layers)
        found, path = [], start
        for index in range(self.rounds):
            if path.depth == 1:
                break
            free = [layer for layer in path.kept if layer not in self.protected]
            accuracy = {layer: round(chance.uniform(0.3, 0.8), 3) for layer in free}
            values = accuracy
            if self.objective != "accuracy":
                values = {layer: -8 + 7 * share for layer, share in accuracy.items()}
            best = max(free, key=values.__getitem__)
            is_last = index == self.rounds - 1
            refused = free[:1] if self.guards else []
            chosen = None if is_last else best
            found.append(
                step(path, accuracy, chosen, values, refused=refused, examples=self.search)
            )
            if not is_last:
                path = path.without(best)
        value = 0.7 if self.objective == "accuracy" else -2.0
        return found_by(start, 0.7, found, value, self.search)

    def outcomes(self) -> dict[tuple[Role, LayerPath], dict[int, Outcome]]:
        """The held-out outcomes of every model kept; the deeper, the more differ."""
        found: dict[tuple[Role, LayerPath], dict[int, Outcome]] = {}
        chance = random.Random(2)
        right = {self.search + i: chance.random() < 0.6 for i in range(self.held_out)}
        for kept in self.found().kept:
            if kept.removed:
                right = {
                    position: was != (chance.random() < (0.08 if was else 0.08 + 2 * self.gain))
                    for position, was in right.items()
                }
            found[HELD_OUT, kept.path] = {
                position: self.outcome(position, is_right=is_right)
                for position, is_right in right.items()
            }
        return found

    def outcome(self, position: int, *, is_right: bool) -> Outcome:
        answer = position % len(self.choices)
        taken = answer if is_right else (answer + 1) % len(self.choices)
        if not self.writes:
            choices = tuple(ChoiceOutcome(-1.0 - i, 2, 5, 5) for i in range(len(self.choices)))
            return Outcome(position, choices, taken, float(is_right))
        text = Generated(self.written.replace("ANSWER", self.choices[taken]), 5, position % 3 == 0)
        read = None if position % 5 == 0 and not is_right else self.choices[taken]
        return Outcome(position, (), read, float(is_right), text)

    def asked_task(self) -> dict[str, Any]:
        how = (
            {"protocol": "text", "shots": 0, "extract": "exact", "max_new_tokens": 8, "stop": []}
            if self.writes
            else {"protocol": "loglik", "shots": 0, "scoring": "loglik", "delimiter": " "}
        )
        return {
            "name": self.task,
            "prompt": "Question: {question}\\nAnswer:",
            **how,
            "truncate": "no",
            "seed": 0,
            "search_examples": self.search,
            "held_out_examples": self.held_out,
            **({"final_examples": self.final} if self.final else {}),
        }

    def settings(self) -> dict[str, Any]:
        guards = [{"task": name, "most_loss": 0.05} for name in self.guards]
        return {
            "method": "greedy removal",
            "objective": self.objective,
            "tolerance": 0.08,
            "max_removed": None,
            "protected": list(self.protected),
            "max_loss": 0.03,
            "confidence": 0.95,
            **({"guards": guards} if guards else {}),
        }

    def result(
        self, found: Found, seen: dict[tuple[Role, LayerPath], dict[int, Outcome]]
    ) -> Result:
        """What it says."""
        whole = seen[HELD_OUT, found.start]
        compared = {kept.path: compare(whole, seen[HELD_OUT, kept.path]) for kept in found.kept}
        models = {kept.path: self.path_model(kept, compared[kept.path]) for kept in found.kept}
        claimed = claims(found, compared, compared, 0.03, Level(0.05))
        return Result(
            model={
                "name": self.model,
                "revision": None,
                "sha256": "a" * 64,
                "layers": self.layers,
                "parameters": 1_000_000 * self.layers,
                "dtype": "float32",
            },
            task=self.asked_task(),
            settings=self.settings(),
            models=with_names(found, models, claimed),
            rounds=found.rounds,
            fingerprint="f" * 64,
            claims=claimed,
            final=None,
            verdict=verdict(found, compared, claimed, 0.03, 0.95),
            cautions=self.cautions,
            text=Text("built-in page", "b" * 64),
            cost=Cost(
                layer_tokens=1000,
                dense_passes=4.5,
                naive_passes=None,
                batches_measured=10,
                seconds=61.0,
                search_tokens=100,
            ),
            held_out_looks=0,
        )

    def path_model(self, kept: Kept, seen: Comparison) -> PathModel:
        depth = len(kept.removed)
        return PathModel(
            kept,
            1_000_000 * kept.path.depth,
            seen,
            generation_counts([self.outcome(i, is_right=True) for i in range(self.search)]),
            20.0 * 1.1**depth,
            1000.0 + 40.0 * depth + (-9.0) ** (depth % 2),
            dict.fromkeys(self.guards, seen),
        )

    def stored(
        self,
        result: Result | None,
        found: Found | None,
        seen: dict[tuple[Role, LayerPath], dict[int, Outcome]],
    ) -> StoredStudy:
        examples = tuple(
            StoredExample(
                position,
                SEARCH if position < self.search else HELD_OUT,
                f"capitals-{position}",
                self.context(position),
                self.choices,
                position % len(self.choices),
                position,
            )
            for position in range(self.search + self.held_out)
        )
        asked = {
            "model": {"name": self.model, "given": "/home/me/tiny", "sha256": "a" * 64},
            "task": self.asked_task(),
            "guards": [
                {
                    "task": name,
                    "most_loss": 0.05,
                    "search_examples": 200,
                    "held_out_examples": 200,
                }
                for name in self.guards
            ],
        }
        return StoredStudy(
            result=result,
            asked=asked,
            settings=self.settings(),
            found=found,
            examples=examples,
            outcomes=seen,
            versions=[VERSIONS],
            cost=records.Cost(10, 1000, 61.0),
        )


def not_begun() -> StoredStudy:
    """A study that was stopped before anything was asked."""
    return StoredStudy(None, None, None, None, (), {}, (), records.Cost(0, 0, 0.0))
