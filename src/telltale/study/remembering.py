"""A measure that remembers: it measures only what a study's records do not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from telltale.measure import Batch, BatchTooLargeError, Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from telltale.measure import Measure
    from telltale.paths import LayerPath
    from telltale.study.records import Records
    from telltale.watcher import Watcher

Found = TypeVar("Found")


class RememberingMeasure:
    """Measures what is missing, and keeps it.

    Args:
        records: what is known.
        measure: measures the rest.
        watcher: is told of every measurement.
        alone: where the work counts as the search's cost, the layer tokens that a measurement
            would take which shares nothing, padding not counted; else None.
    """

    def __init__(
        self,
        records: Records,
        measure: Measure,
        watcher: Watcher,
        *,
        alone: Callable[[Measurement], int] | None,
    ) -> None:
        self._records = records
        self._measure = measure
        self._watcher = watcher
        self._alone = alone

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
            yield from self._measured(unknown_paths, of_batches)

    def _measured(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        measure, alone = self._measure, self._alone
        if alone is not None:
            self._records.begin()
        for measurement in measure(paths, batches):
            of_alone = 0 if alone is None else alone(measurement)
            self._records.keep(measurement, counted=alone is not None, alone=of_alone)
            self._watcher.measured(measurement, remembered=False)
            yield measurement
        if alone is not None:
            self._records.end()


def with_halves(records: Records, measuring: Callable[[], Found]) -> Found:
    """What ``measuring`` gives, begun again after each batch that had to be halved.

    Halves are for good, so that all paths see the same batches.

    Raises:
        BatchTooLargeError: a single example does not fit.
    """
    while True:
        try:
            return measuring()
        except BatchTooLargeError as problem:
            if len(problem.batch.examples) == 1:
                raise
            records.split(problem.batch)
