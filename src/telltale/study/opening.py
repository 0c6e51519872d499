"""Opening a study's folder: a new study, or one that holds the same question and is resumed.

What is refused is refused before anything is measured: another question, libraries that have
changed, a final set that was seen before.
"""

from __future__ import annotations

import importlib.metadata
import json
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.engine.perplexity import Page, windows_of
from telltale.engine.runner import LocalRunner
from telltale.engine.selftest import told
from telltale.errors import InputError
from telltale.evidence.calibration import RAW
from telltale.models.load import DTYPES
from telltale.models.precision import choose_precision
from telltale.paths import check_layers
from telltale.searches.search import EXACT
from telltale.study.ledger import Seen, note_searched, seen_before
from telltale.study.measuring import Measuring, absences_of
from telltale.study.plan import Plan, plan_of
from telltale.study.question import differences
from telltale.study.records import Records, has_begun, open_records
from telltale.study.targeting import check_targets
from telltale.support.files import sha256_of, sha256_of_json
from telltale.tasks.sets import FINAL, HELD_OUT
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from telltale.study.question import Question
    from telltale.study.settings import Settings
    from telltale.tasks import Example, Task
    from telltale.tasks.sets import Role

LIBRARIES = ("telltale-llm", "torch", "transformers", "tokenizers")
COMPARING = {"math": "math-verify"}  # what an extraction compares answers with


@dataclass(frozen=True, slots=True)
class OpenStudy:
    """A study that has begun: what is asked and how it chooses, what is frozen, what measures it.

    ``name`` is how the ledger knows the search.
    """

    question: Question
    settings: Settings
    plan: Plan
    measuring: Measuring
    records: Records
    name: str

    @property
    def fingerprint(self) -> str:
        """All that decides the result but the settings, as one hash."""
        return self.plan.fingerprint(self.records.fact("identity"))


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
) -> Iterator[OpenStudy]:
    """Open a study to measure what it lacks; begin it where there is none.

    Args, errors: see `telltale.study.run.run_study`.
    """
    with open_records(folder, write=True, is_taken=is_taken) as records:
        question, gain = _with_precision(question, records.fact("identity"), watcher)
        identity = question.identity()
        name = search_name(identity, question, settings, page)
        plan = _checked(records, question, identity, name, folder, resume_anyway=resume_anyway)
        if not _has_result_by(records, question, settings):
            check_targets(question, settings)
        records.start_run(library_versions(question.task))
        measuring = Measuring(question, plan, records, page)
        layers = measuring.bench.depth if plan is None else plan.layers
        check_layers(sorted(settings.protected), layers)
        if plan is None:
            windows_of(measuring.bench, page)  # refused where it says nothing
            watcher.phase("self-test")
            plan = measuring.begin(identity, deals=not settings.search.goes_by_blocks, gain=gain)
        note_searched(name, names_of(question, set(question.sets) - {HELD_OUT, FINAL}))
        for line in told(absences_of(plan)):
            watcher.advised(line)
        yield OpenStudy(question, settings, plan, measuring, records, name)


def check_before(
    question: Question, settings: Settings, folder: Path, page: Page, *, resume_anyway: bool
) -> tuple[Question, Plan | None]:
    """Refuse what opening a study refuses before it asks for the model, and write nothing.

    Args, errors: see `telltale.study.run.run_study`.

    Returns:
        The question with its precision, and the study's plan, where it has begun.
    """
    with ExitStack() as stack:
        records = None
        if has_begun(folder):
            records = stack.enter_context(open_records(folder, write=False))
        known = None if records is None else records.fact("identity")
        question, _ = _with_precision(question, known, Watcher())
        identity = question.identity()
        name = search_name(identity, question, settings, page)
        plan = _checked(records, question, identity, name, folder, resume_anyway=resume_anyway)
        return question, plan


def _has_result_by(records: Records, question: Question, settings: Settings) -> bool:
    """Whether the study is finished and has chosen by these settings."""
    result = records.fact("result")
    return result is not None and result["search"] == json.loads(
        json.dumps(chosen_by(question, settings))
    )


def _checked(
    records: Records | None,
    question: Question,
    identity: dict[str, Any],
    name: str,
    folder: Path,
    *,
    resume_anyway: bool,
) -> Plan | None:
    """The plan of a study that may be gone on with; None where it has not begun."""
    plan = None
    if records is not None:
        _check_same_question(records, question, identity, folder)
        plan = plan_of(records)
    if plan is None:
        _check_sealed(question, name)
    if records is not None:
        _check_versions(records, question.task, folder, resume_anyway=resume_anyway)
    return plan


def _with_precision(
    question: Question, known: Mapping[str, Any] | None, watcher: Watcher
) -> tuple[Question, float | None]:
    """Where the precision is left to telltale, the one that the study has, or that pays here.

    Beside it how many times as fast bfloat16 was, where that was timed.

    A study keeps what it was begun with, on whatever machine it goes on. A runner of one's own
    says itself what it begins with.

    Args:
        question: what is asked.
        known: the identity of the study, where it has begun.
        watcher: is told of what was timed.
    """
    if question.dtype != "auto":
        return question, None
    if known is not None:  # what a runner of one's own gave may be no precision to ask for
        is_a_name = known["dtype"] in DTYPES
        return (replace(question, dtype=known["dtype"]) if is_a_name else question), None
    if question.make_runner is not LocalRunner or question.runner.device.type != "cpu":
        return question, None
    chosen = choose_precision(question.source)
    if chosen.reason:
        watcher.advised(chosen.reason)
    return replace(question, dtype=chosen.dtype), chosen.gain


def chosen_by(question: Question, settings: Settings) -> dict[str, Any]:
    """How a study chooses, its guards too, as JSON values."""
    guards = [{"task": guard.task.name, "most_loss": guard.most_loss} for guard in question.guards]
    return {**settings.document(), **({"guards": guards} if guards else {})}


def search_name(
    identity: Mapping[str, Any], question: Question, settings: Settings, page: Page
) -> str:
    """By what the ledger knows a search: equal where it is run again, in whatever folder."""
    chosen = chosen_by(question, settings)
    if settings.speed in EXACT:  # at either speed the same is found
        del chosen["speed"]
    if settings.search.reads_text:
        chosen["text_sha256"] = page.sha256
    if settings.scoring == RAW:  # as it was before it could be chosen
        del chosen["scoring"]
    for name in settings.targets.document():  # they change neither the search nor a claim
        del chosen[name]
    return sha256_of_json([identity, chosen])


def names_of(question: Question, roles: Collection[Role]) -> list[str]:
    """Every name by which the ledger knows the examples of some sets."""
    return [
        name
        for role in question.sets
        if role in roles
        for example in question.sets[role]
        for name in _names_of_one(question, example)
    ]


def _names_of_one(question: Question, example: Example) -> list[str]:
    """An example's names, each with this model: looks of other models do not count."""
    return [sha256_of(question.source.sha256, name) for name in example.names]


def final_seen_before(question: Question, search: str) -> Seen | None:
    """How many final examples others have looked at; ledgers of old have no model beside them."""
    examples = question.sets.get(FINAL, ())
    return seen_before(search, [[*_names_of_one(question, one), *one.names] for one in examples])


def _check_sealed(question: Question, search: str) -> None:
    """Refuse a final set of which examples were looked at before it is sealed.

    Raises:
        InputError: they were.
    """
    examples = question.sets.get(FINAL, ())
    seen = final_seen_before(question, search)
    if seen is not None and seen.examples:
        by = f"{seen.searches} search{'es' if seen.searches > 1 else ''}"
        raise InputError(
            f"{seen.examples} of the {len(examples)} final examples were searched or held out "
            f"before, by {by} of this model on this machine, and "
            "a final set is of examples never looked at; give more examples or a smaller `final` "
            "(with the `seed` of those searches it takes what they come to last)"
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
        had, given = (f"`final` {size}" if size else "no `final`" for size in sizes)
        again = f"give {had} again" if sizes[0] else "leave it out"
        raise InputError(
            f"{folder} was begun with {had}, and a final set is sealed when a study begins, so it "
            f"cannot go on with {given}; {again}, or another `out`"
        )
    raise InputError(
        f"{folder} holds another study, which differs in: "
        f"{'; '.join(differences(known, identity, before, now))}; give another `out`"
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
            "outcomes; install the old ones, give another `out`, or add `resume_anyway`"
        )
