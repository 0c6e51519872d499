"""What a study asks: all that changes an outcome, and nothing else.

Two studies with the same identity measure the same numbers. The search's own settings (tolerance,
maximum, protected layers) are not here: they choose among outcomes and change none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.files import sha256_of
from telltale.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.models.source import ModelSource
    from telltale.tasks import Example, Task
    from telltale.tasks.split import Split

# How a difference is told to a person; what is not here is told by its own name.
SPOKEN = {
    "model_sha256": "the model's bytes",
    "tokenizer_sha256": "the tokenizer's bytes",
    "search_sha256": "the search set (data, prompt, --limit or --seed)",
    "held_out_sha256": "the held-out set (data, prompt, --held-out or --seed)",
    "device": "the kind of device",
    "asking": "how the task is asked and scored",
    "prompts_sha256": "the prompts as the model reads them (has the chat template named the date, "
    "or has --shots changed?)",
    "truncate": "--truncate",
}


@dataclass(frozen=True)
class Question:
    """A model, a task's two sets of examples, and how they are measured."""

    source: ModelSource
    task: Task
    split: Split
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    cuts: bool = False

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The study's examples: the search set first, then the held-out set."""
        order = (*self.split.search, *self.split.held_out)
        return tuple(self.task.examples[index] for index in order)

    @property
    def search_positions(self) -> range:
        """Where the search set is among the examples."""
        return range(len(self.split.search))

    @property
    def held_out_positions(self) -> range:
        """Where the held-out set is among the examples."""
        return range(len(self.split.search), len(self.examples))

    def workbench(self, known_capabilities: list[bool] | None = None) -> Workbench:
        """What measures this question."""
        return Workbench(
            source=self.source,
            task=self.task,
            examples=self.examples,
            device_name=self.device,
            dtype_name=self.dtype,
            seed=self.seed,
            cuts=self.cuts,
            known_capabilities=known_capabilities,
        )

    def identity(self) -> dict[str, Any]:
        """All that changes an outcome, as JSON values."""
        bench = self.workbench()
        return {
            "model_sha256": self.source.sha256,
            "tokenizer_sha256": self.source.tokenizer_sha256,
            "trust_remote_code": self.source.trust_remote_code,
            "search_sha256": _digest([self.examples[i] for i in self.search_positions]),
            "held_out_sha256": _digest([self.examples[i] for i in self.held_out_positions]),
            "asking": self.task.settings(),
            "prompts_sha256": sha256_of(*bench.rendered_prompts()),
            "truncate": "left" if self.cuts else "no",
            "dtype": str(bench.dtype).removeprefix("torch."),
            "device": bench.device.type,
            "batches": bench.batch_settings,
        }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, in words."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [SPOKEN.get(name, name) for name in names]


def _digest(examples: Sequence[Example]) -> str:
    return sha256_of(*(example.digest for example in examples))
