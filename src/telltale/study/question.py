"""The question of a study: all that changes an outcome, and nothing else.

Two studies with the same identity measure the same numbers. The search's own settings (objective,
tolerance, maximum, protected layers) are not here: they choose among outcomes and change none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.engine.runner import LocalRunner
from telltale.engine.selftest import line_of
from telltale.engine.workbench import Workbench
from telltale.errors import InputError, MeasurementError, TelltaleError
from telltale.support.files import sha256_of
from telltale.tasks.sets import HELD_OUT, SEARCH, Part, Role
from telltale.tasks.shots import without_shown
from telltale.tasks.split import SMALLEST_SET, clusters_of, split_examples, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from telltale.engine.runner import ModelRunner
    from telltale.models.source import ModelSource
    from telltale.tasks import Example, Task
    from telltale.tasks.split import Split

# How a difference is told to a person; what is not here is told by its own name.
SPOKEN = {
    "model_sha256": "the model's bytes, or its adapter's",
    "tokenizer_sha256": "the tokenizer's bytes",
    "guards": "`guards`",
    "references": "whether reference answers are read (`objective`)",
    "device": "the kind of device",
    "asking": "how the task is asked and scored",
    "prompts_sha256": "the prompts as the model reads them (has the chat template named the date, "
    "or has `shots` changed?)",
    "truncate": "`truncate`",
    "examples_sha256": "the examples",
    "versions": "the libraries' releases",
}
# A set by its part of the identity: what it is called, its size in what is asked, its option.
SETS = {
    "search_sha256": ("the search set", "search_examples", "`limit`"),
    "held_out_sha256": ("the held-out set", "held_out_examples", "`held_out`"),
    **{
        f"{part}_sha256": (f"the {part} set", f"{part}_examples", f"`{part}`")
        for part in (Part.FINAL, Part.TRAIN, Part.DEVELOPMENT)
    },
}
# Of a set, how the identity and what is asked name its part.
FIELD = {part: part.replace("-", "_") for part in Part}
RUNNER = ("facts", "capabilities", "engine", "layer_scores")
GUARDED = (Part.SEARCH, Part.HELD_OUT)  # the sets of a guard


@dataclass(frozen=True, slots=True)
class Guard:
    """A task at which a model may lose no more than ``most_loss``, on examples of its own.

    Its search set keeps candidates out; its held-out set says how the models found do there.
    """

    task: Task
    split: Split
    most_loss: float


@dataclass(frozen=True)
class Question:
    """A model, a task's sets of examples, and how they are measured.

    ``reads_references`` says that where text is generated, the log-likelihood of the reference
    answer is read too. ``make_runner`` gives what has the model, by its source, device and dtype;
    by default it is in this process. ``memory`` is how many bytes the states that are kept may
    take, which changes no outcome; by default the runner decides.
    """

    source: ModelSource
    task: Task
    split: Split
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    cuts: bool = False
    guards: tuple[Guard, ...] = ()
    reads_references: bool = False
    make_runner: Callable[[ModelSource, str, str], ModelRunner] = LocalRunner
    memory: int | None = None

    @cached_property
    def runner(self) -> ModelRunner:
        """What has the model; it is loaded when something is first measured."""
        try:
            runner = self.make_runner(self.source, self.device, self.dtype)
        except TelltaleError:
            raise
        except Exception as problem:
            raise MeasurementError(f"no runner could be made: {line_of(problem)}") from problem
        lacks = [name for name in RUNNER if not hasattr(type(runner), name)]
        if lacks:
            raise InputError(
                f"runner must make a telltale.engine.runner.ModelRunner, and gave {runner!r}, "
                f"which has no {lacks[0]}"
            )
        return runner

    @cached_property
    def sets(self) -> dict[Role, tuple[Example, ...]]:
        """Every set of examples by its role; a study gives them sequential indices, in this order.

        The sets of the task searched come first.
        """
        own = {Role(part): _chosen(self.task, self.split[part]) for part in self.split.sets}
        of_guards = {
            Role(part, guard.task.name): _chosen(guard.task, guard.split[part])
            for guard in self.guards
            for part in GUARDED
        }
        return own | of_guards

    @cached_property
    def positions(self) -> dict[Role, range]:
        """Where each set is among the study's examples."""
        found: dict[Role, range] = {}
        start = 0
        for role, examples in self.sets.items():
            found[role] = range(start, start + len(examples))
            start += len(examples)
        return found

    @cached_property
    def clusters(self) -> dict[int, int]:
        """For each example, by position, the first of its set that it belongs together with."""
        return {
            self.positions[role][index]: self.positions[role][cluster]
            for role, examples in self.sets.items()
            for index, cluster in enumerate(clusters_of(examples))
        }

    @cached_property
    def right(self) -> dict[int, int]:
        """For each of its own examples, by position, which of the choices of an outcome is right.

        Where text is generated, an outcome's only choice is the reference answer.
        """
        return {
            position: 0 if self.task.generation else example.answer
            for role in self._own_roles()
            for position, example in zip(self.positions[role], self.sets[role], strict=True)
        }

    def workbench(self, known_capabilities: list[bool] | None = None) -> Workbench:
        """What measures this question, but for its guards."""
        return Workbench(
            source=self.source,
            task=self.task,
            examples=tuple(example for role in self._own_roles() for example in self.sets[role]),
            device_name=self.device,
            dtype_name=self.dtype,
            seed=self.seed,
            cuts=self.cuts,
            known_capabilities=known_capabilities,
            reads_references=self.reads_references,
            runner=self.runner,
            memory=self.memory,
        )

    def _own_roles(self) -> list[Role]:
        return [role for role in self.sets if not role.guard]

    def guard_workbench(
        self, guard: Guard, beside: Workbench, known_capabilities: list[bool] | None = None
    ) -> Workbench:
        """What measures a guard, with the model of another workbench."""
        examples = [one for part in GUARDED for one in self.sets[Role(part, guard.task.name)]]
        return beside.with_task(guard.task, tuple(examples), known_capabilities)

    def asked(self) -> dict[str, Any]:
        """What is asked, as JSON values, for whoever reads or exports the study later."""
        source, task = self.source, self.task
        sizes = {role: len(positions) for role, positions in self.positions.items()}
        return {
            "model": {
                "name": source.name,
                "given": source.given,
                "revision": source.revision,
                "sha256": source.sha256,
                "trust_remote_code": source.trust_remote_code,
                "from_gguf": source.from_gguf,
                **source.of_adapter,
            },
            "task": {
                "name": task.name,
                "prompt": task.template,
                **task.settings(),
                "truncate": "left" if self.cuts else "no",
                "seed": self.seed,
                **{f"{FIELD[role.part]}_examples": sizes[role] for role in self._own_roles()},
            },
            "guards": [
                {
                    "task": guard.task.name,
                    "most_loss": guard.most_loss,
                    **{
                        f"{FIELD[part]}_examples": sizes[Role(part, guard.task.name)]
                        for part in GUARDED
                    },
                }
                for guard in self.guards
            ],
        }

    def identity(self) -> dict[str, Any]:
        """All that changes an outcome, as JSON values."""
        bench = self.workbench()
        identity = {
            # First what a difference of others may come from, and is told first.
            "search_sha256": digest_of(self.sets[SEARCH]),
            "held_out_sha256": digest_of(self.sets[HELD_OUT]),
            **identity_of(bench),
            "references": self.reads_references,
        }
        for role in self._own_roles():
            if role not in (SEARCH, HELD_OUT):
                identity[f"{FIELD[role.part]}_sha256"] = digest_of(self.sets[role])
        if self.guards:
            identity["guards"] = [self._guard_identity(guard, bench) for guard in self.guards]
        return identity

    def _guard_identity(self, guard: Guard, bench: Workbench) -> dict[str, Any]:
        own = self.guard_workbench(guard, bench)
        return {
            "task": guard.task.name,
            "asking": guard.task.settings(),
            "prompts_sha256": sha256_of(*own.rendered_prompts()),
            "examples_sha256": digest_of(own.examples),
            "batches": own.batch_settings,
        }


def identity_of(bench: Workbench) -> dict[str, Any]:
    """All of a bench that changes an outcome but for which examples are asked, as JSON values."""
    return {
        "model_sha256": bench.source.sha256,
        "tokenizer_sha256": bench.source.tokenizer_sha256,
        "trust_remote_code": bench.source.trust_remote_code,
        "asking": bench.task.settings(),
        "prompts_sha256": sha256_of(*bench.rendered_prompts()),
        "truncate": "left" if bench.cuts else "no",
        "dtype": str(bench.dtype).removeprefix("torch."),
        "device": bench.device.type,
        "batches": bench.batch_settings,
    }


GUARD_SIZE = 200  # of each of a guard's two sets at most


def guard_by(task: Task, most_loss: float, searched: Task, seed: int) -> Guard:
    """A guard on some of a task's examples, none of which the search has.

    Raises:
        InputError: the loss is no share, the task is the one that is searched, or it has too few
            examples that the search does not have.
    """
    if not 0 <= most_loss < 1:
        raise InputError(
            f"the share of `guards` {task.name} must be in [0, 1), got {most_loss:g}; it is a part "
            f"of the examples, such as {task.name}:0.01 for one point"
        )
    taken = {text for example in searched.examples for text in texts_of(example)}
    own = [
        example for example in without_shown(task).examples if taken.isdisjoint(texts_of(example))
    ]
    if len(own) < 2 * SMALLEST_SET:
        raise InputError(
            f"`guards` {task.name} has {len(own)} examples that the search does not have; give "
            f"another task, or one with at least {2 * SMALLEST_SET}"
        )
    task = replace(task, examples=tuple(own))
    try:
        split = split_examples(
            own,
            held_out=GUARD_SIZE,
            seed=seed,
            shares=dict(task.shares),
            default_limit=GUARD_SIZE,
        )
    except InputError as problem:
        raise InputError(f"`guards` {task.name}: {problem}") from None
    return Guard(task, split, most_loss)


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    old_task: Mapping[str, Any],
    new_task: Mapping[str, Any],
) -> list[str]:
    """What differs between two identities, in words.

    Args:
        old: the identity that a study has.
        new: the one that is asked for.
        old_task: what is asked of the task there, as `Question.asked` has it.
        new_task: the same of what is asked for.
    """
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    sets = [name for name in SETS if name in names]
    if sets:
        names = [name for name in names if name != "prompts_sha256"]  # they follow the examples
    return [
        _of_set(name, old_task, new_task) if name in sets else SPOKEN.get(name, name)
        for name in names
    ]


def _of_set(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """A set that differs, and by which of the options that may be."""
    called, size, option = SETS[name]
    options = {"`seed`": "seed", "`prompt`": "prompt", "`limit`": "search_examples", option: size}
    changed = [
        f"{one} was {old.get(key)!r} and is {new.get(key)!r}"
        for one, key in options.items()
        if old.get(key) != new.get(key)
    ]
    return f"{called} ({', '.join(changed) or 'its data'})"


def _chosen(task: Task, indices: Iterable[int]) -> tuple[Example, ...]:
    return tuple(task.examples[index] for index in indices)


def digest_of(examples: Sequence[Example]) -> str:
    """A hash of what the model is asked."""
    return sha256_of(*(example.digest for example in examples))
