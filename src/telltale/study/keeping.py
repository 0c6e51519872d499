"""What some paths give on some examples, measured once and kept beside a study.

It is kept in a folder of its own, named by all that decides an outcome, so that a call that was
stopped goes on, and one that asks for more paths measures only these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from telltale.engine.selftest import Absence, told, unable
from telltale.measure import Batch, outcomes_by_path
from telltale.study.measuring import Remembering, with_halves
from telltale.study.opening import library_versions
from telltale.study.question import digest_of, identity_of
from telltale.study.records import ALONE, open_records
from telltale.support.files import sha256_of_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from telltale.engine.workbench import Workbench
    from telltale.measure import Measurement, Outcome
    from telltale.paths import LayerPath
    from telltale.study.records import Records
    from telltale.watcher import Watcher


@dataclass(frozen=True, slots=True)
class MeasuredOnce:
    """What was measured.

    Attributes:
        outcomes: by path and the example's position.
        fingerprint: all that decides an outcome, as one hash.
        truncated: how many prompts have lost their beginning.
        unable: what the model's architecture lacks, in sentences.
    """

    outcomes: Mapping[LayerPath, Mapping[int, Outcome]]
    fingerprint: str
    truncated: int
    unable: tuple[str, ...]


def measured_once(
    bench: Workbench, paths: Sequence[LayerPath], folder: Path, watcher: Watcher, phase: str
) -> MeasuredOnce:
    """Measure what ``folder`` does not hold yet of a bench's examples on some paths."""
    identity = {
        "examples_sha256": digest_of(bench.examples),
        **identity_of(bench),
        "versions": library_versions(bench.task),
    }
    fingerprint = sha256_of_json(identity)
    with open_records(folder / fingerprint[:16], write=True) as records:
        records.start_run(identity["versions"])
        watcher.phase("self-test")
        kept = _begun(bench, records, identity)
        absences = [Absence(*one) for one in kept["absences"]]
        for line in told(absences):
            watcher.advised(line)
        watcher.phase(phase)
        batches = [Batch(tuple(one)) for one in kept["batches"]]
        watcher.expect(len(batches) * len(paths))
        known = replace(bench, known_capabilities=kept["capabilities"])

        remembering = Remembering(records, _Unloaded(known), watcher)
        outcomes = with_halves(lambda: outcomes_by_path(remembering(paths, batches)), records.split)
    return MeasuredOnce(outcomes, fingerprint, kept["truncated"], tuple(unable(absences)))


@dataclass(frozen=True, slots=True)
class _Unloaded:
    """Measures on a bench, whose model is not loaded before it is asked for something."""

    bench: Workbench

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        return self.bench.measure(paths, batches)


def _begun(bench: Workbench, records: Records, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What is frozen when examples are first measured."""
    plan: dict[str, Any] | None = records.fact("plan")
    if plan is None:
        plan = {
            "capabilities": list(bench.capabilities),
            "absences": [list(one) for one in bench.absences],
            "batches": [one.examples for one in bench.batches(range(len(bench.examples)))],
            "truncated": sum(one.is_cut for one in bench.encoded),
        }
        records.set_facts({"identity": identity, "plan": plan, ALONE: 0})
    return plan
