"""Reading a study: what it has found, or how far it has come. Runs nothing and loads no model."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from telltale.evidence.calibration import CALIBRATED, Calibrated, Judging
from telltale.evidence.result import PathModel, Result, Searched, result_from
from telltale.measure import Measurement, outcomes_by_path
from telltale.moved import GONE_IN
from telltale.objectives import values_by
from telltale.searches import Found, Round
from telltale.searches.search import no_text
from telltale.study.plan import plan_of
from telltale.study.records import Records, is_at_work, open_records
from telltale.study.settings import admits_by, settings_from
from telltale.study.text import TEXT, TextPerplexity, text_batches, variant_of
from telltale.tasks import Scoring
from telltale.tasks.sets import SEARCH, Part, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.measure import Batch, Measure, Outcome
    from telltale.paths import LayerPath
    from telltale.study.records import Cost, StoredExample
    from telltale.study.settings import Settings


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study as its file has it, finished or not.

    Attributes:
        result: what it says; None while the search is not finished.
        asked: the model and the task; None where it was stopped before it began.
        settings: how it chooses.
        found: the search as far as it has come; None where it is finished, since the result says it
            all, where not even the whole model is measured, or where its objective or its search
            was a program of its own.
        examples: every example by its position, with its text and the set it is in.
        outcomes: of every model kept, by set and path: each example's outcome, by its position,
            as the study has choices judged. Only what was measured in full.
        versions: the libraries of every run, the oldest first.
        cost: what was spent so far.
        is_running: whether a process is at work on it now.
    """

    result: Result | None
    asked: dict[str, Any] | None
    settings: dict[str, Any] | None
    found: Found | None
    examples: tuple[StoredExample, ...]
    outcomes: Mapping[tuple[Role, LayerPath], Mapping[int, Outcome]]
    versions: Sequence[Mapping[str, str]]
    cost: Cost
    is_running: bool = False

    @property
    def document(self) -> dict[str, Any] | None:
        """What ``result.json`` holds; None while the search is not finished."""
        return None if self.result is None else self.result.document

    @property
    def held_out_looks(self) -> int | None:
        """How many other searches had looked at the held-out examples."""
        return None if self.result is None else self.result.held_out_looks

    @property
    def searched(self) -> Searched:
        """The result, or the search as far as it has come."""
        if self.result is not None:
            return self.result
        asked, found = self.asked or {}, self.found
        return Searched(
            model=asked.get("model", {}),
            task=asked.get("task", {}),
            settings=self.settings or {},
            models=() if found is None else tuple(map(PathModel, found.kept)),
            rounds=() if found is None else found.rounds,
        )

    @property
    def removal(self) -> Found | None:
        """The search as far as it has come. Deprecated: `found`."""
        said = f"StoredStudy.removal goes in release {GONE_IN}; use StoredStudy.found"
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return self.found


class _NotMeasuredError(Exception):
    """The records do not hold what is asked for."""


def read_study(folder: Path) -> StoredStudy:
    """Read a study, finished or not.

    Raises:
        InputError: the folder is no study.
        TelltaleError: its file is damaged.
    """
    with open_records(folder, write=False) as records:
        result = result_of(records)
        found = None if result is not None else _searched_so_far(records)
        if result is not None:
            paths = [model.path for model in result.models]
        else:
            paths = [model.path for model in found.kept] if found else []
        return StoredStudy(
            result=result,
            asked=records.fact("asked"),
            settings=records.fact("search"),
            found=found,
            examples=tuple(records.examples()),
            outcomes=_judged(records, _outcomes(records, paths)),
            versions=records.versions(),
            cost=records.cost(),
            is_running=is_at_work(folder),
        )


def result_of(records: Records) -> Result | None:
    """What a study says; None while the search is not finished."""
    document = records.fact("result")
    return None if document is None else result_from(document, records.fact("held_out_looks"))


def _measured(
    records: Records, paths: Sequence[LayerPath], batches: Sequence[Batch], variant: str = ""
) -> Iterator[Measurement]:
    """What the records hold, as a measure gives it."""
    for batch in (half for whole in batches for half in records.halves(whole)):
        for path in paths:
            outcomes = records.measured(batch, path, variant)
            if outcomes is None:
                raise _NotMeasuredError
            yield Measurement(batch, path, outcomes)


def _searched_so_far(records: Records) -> Found | None:
    """The search, run again on what the records hold, up to the first thing they do not."""
    plan, chosen_by, asked = plan_of(records), records.fact("search"), records.fact("asked")
    settings = None if chosen_by is None else settings_from(chosen_by)
    if plan is None or settings is None:
        return None
    measure: Measure = partial(_measured, records)
    guards = [
        admits_by(
            plan.batches_of(Role(Part.SEARCH, guard["task"])),
            guard["most_loss"],
            measure,
            plan.whole,
        )
        for guard in asked["guards"]
    ]
    scoring, right = _scoring(asked), _right(records)
    scores = records.fact("layer_scores") or {}
    search = settings.bound(
        values_by(settings.objective, scoring, right),
        lambda path: all(admits(path) for admits in guards),
        scores,
        _perplexity_by(records, settings),
    )
    batches, rounds = plan.batches_of(SEARCH), list[Round]()
    if settings.scoring == CALIBRATED:
        measure = Calibrated(measure, batches, right, scoring)
    try:
        origin = search.origin(measure, batches, plan.whole)
    except _NotMeasuredError:
        return None
    lacks_text = search.reads_text and records.fact(TEXT) is None
    # It has not begun to choose.
    if lacks_text or not all(name in scores for name in search.scores_needed):
        return Found(origin, ())
    with suppress(_NotMeasuredError):
        search(measure, batches, plan.whole, rounds.append)
    return Found(origin, tuple(rounds))


def _perplexity_by(
    records: Records, settings: Settings
) -> Callable[[Sequence[LayerPath]], Mapping[LayerPath, float]]:
    """The perplexity of the text that the search goes by, as far as it was measured."""
    text = records.fact(TEXT)
    if not settings.search.reads_text or text is None:
        return no_text
    measure: Measure = partial(_measured, records, variant=variant_of(text["sha256"]))
    return TextPerplexity(measure, text_batches(len(records.examples()), text["windows"]))


def _scoring(asked: Mapping[str, Any]) -> Scoring:
    return Scoring(asked["task"].get("scoring", Scoring.LOGLIK))


def _right(records: Records) -> dict[int, int]:
    """Which choice is right; where the model writes, the only one that an outcome has."""
    writes = "scoring" not in records.fact("asked")["task"]
    return {one.position: 0 if writes else one.answer for one in records.examples()}


def _judged(
    records: Records, outcomes: Mapping[tuple[Role, LayerPath], Mapping[int, Outcome]]
) -> Mapping[tuple[Role, LayerPath], Mapping[int, Outcome]]:
    """Outcomes as the study has choices judged; a guard's stay as they are."""
    if (records.fact("search") or {}).get("scoring") != CALIBRATED:
        return outcomes
    searched = {path: own for (role, path), own in outcomes.items() if role == SEARCH}
    judging = Judging(_scoring(records.fact("asked")), _right(records))
    return {
        (role, path): own if role.guard else judging.less_offsets({path: own}, searched)[path]
        for (role, path), own in outcomes.items()
        if role.guard or path in searched
    }


def _outcomes(
    records: Records, paths: Sequence[LayerPath]
) -> dict[tuple[Role, LayerPath], Mapping[int, Outcome]]:
    found: dict[tuple[Role, LayerPath], Mapping[int, Outcome]] = {}
    plan = plan_of(records)
    if plan is None:
        return found
    for role in plan.batches:
        for path in paths:
            with suppress(_NotMeasuredError):
                measured = _measured(records, [path], plan.batches_of(role))
                found[role, path] = outcomes_by_path(measured)[path]
    return found
