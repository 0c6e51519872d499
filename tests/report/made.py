"""Studies as their files would have them, made of numbers alone: no model, no search, no disk."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from telltale.evidence.comparison import compare, generation_counts
from telltale.evidence.result import PathModel, findings, round_document, verdict
from telltale.evidence.selection import Level, claims
from telltale.measure import ChoiceOutcome, Generated, Outcome
from telltale.paths import LayerPath
from telltale.report.examples import HELD_OUT
from telltale.searches import Kept, Removal, Round
from telltale.study.reading import StoredStudy
from telltale.study.records import Cost, StoredExample

if TYPE_CHECKING:
    from collections.abc import Callable

    from telltale.evidence.comparison import Comparison

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
        removal, seen = self.removal(), self.outcomes()
        document = self.document(removal, seen)
        return self.stored(document, None, seen)

    def interrupted(self, rounds: int | None = 2) -> StoredStudy:
        """The study after so many rounds; None before the whole model was measured."""
        removal = None
        if rounds is not None:
            whole = self.removal()
            removal = Removal(
                whole.start, whole.baseline, whole.baseline_value, whole.rounds[:rounds]
            )
        return self.stored(None, removal, {})

    def removal(self) -> Removal:
        """A search's path: layers from the last on, accuracies by chance, always the same."""
        chance = random.Random(1)
        start = LayerPath.whole(self.layers)
        found, path = [], start
        for index in range(self.rounds):
            free = [layer for layer in path.kept if layer not in self.protected]
            accuracy = {layer: round(chance.uniform(0.3, 0.8), 3) for layer in free}
            values = accuracy
            if self.objective != "accuracy":
                values = {layer: -8 + 7 * share for layer, share in accuracy.items()}
            best = max(free, key=values.__getitem__)
            is_last = index == self.rounds - 1
            found.append(Round(best, not is_last, accuracy, values, (free[0],) * bool(self.guards)))
            if not is_last:
                path = path.without(best)
        return Removal(start, 0.7, 0.7 if self.objective == "accuracy" else -2.0, tuple(found))

    def outcomes(self) -> dict[tuple[str, tuple[int, ...]], dict[int, Outcome]]:
        """The held-out outcomes of every model kept; the deeper, the more differ."""
        found: dict[tuple[str, tuple[int, ...]], dict[int, Outcome]] = {}
        chance = random.Random(2)
        right = {self.search + i: chance.random() < 0.6 for i in range(self.held_out)}
        for kept in self.removal().kept:
            if kept.removed:
                right = {
                    position: was != (chance.random() < (0.08 if was else 0.08 + 2 * self.gain))
                    for position, was in right.items()
                }
            found[HELD_OUT, kept.removed] = {
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

    def document(
        self, removal: Removal, seen: dict[tuple[str, tuple[int, ...]], dict[int, Outcome]]
    ) -> dict[str, Any]:
        """What ``result.json`` would hold."""
        whole = seen[HELD_OUT, ()]
        compared = {
            kept.path: compare(whole, seen[HELD_OUT, kept.removed]) for kept in removal.kept
        }
        models = {kept.path: self.path_model(kept, compared[kept.path]) for kept in removal.kept}
        claimed = claims(removal, compared, compared, 0.03, Level(0.05))
        found = findings(removal, models, claimed)
        return {
            "version": 2,
            "model": {
                "name": self.model,
                "revision": None,
                "sha256": "a" * 64,
                "layers": self.layers,
                "parameters": 1_000_000 * self.layers,
                "dtype": "float32",
            },
            "task": self.asked_task(),
            "fingerprint": "f" * 64,
            "search": self.settings(),
            **found.documents(),
            "final": None,
            "rounds": [round_document(done) for done in removal.rounds],
            "verdict": verdict(found, 0.03, 0.95),
            "text": {"name": "built-in page", "sha256": "b" * 64},
            "cautions": list(self.cautions),
            "cost": {
                "layer_tokens": 1000,
                "dense_passes": 4.5,
                "batches_measured": 10,
                "slowed_by": [],
                "seconds": 61.0,
                "search_tokens": 100,
                "tokens_per_second": {},
                "path_tokens_per_second": [one.tokens_per_second for one in found.path],
            },
        }

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
        document: dict[str, Any] | None,
        removal: Removal | None,
        seen: dict[tuple[str, tuple[int, ...]], dict[int, Outcome]],
    ) -> StoredStudy:
        examples = tuple(
            StoredExample(
                position,
                "search" if position < self.search else HELD_OUT,
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
            document=document,
            held_out_looks=0,
            asked=asked,
            settings=self.settings(),
            removal=removal,
            examples=examples,
            outcomes=seen,
            versions=[VERSIONS],
            cost=Cost(10, 1000, 61.0),
        )


def not_begun() -> StoredStudy:
    """A study that was stopped before anything was asked."""
    return StoredStudy(None, None, None, None, None, (), {}, (), Cost(0, 0, 0.0))
