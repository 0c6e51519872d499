"""The processes that hold the models: `worker`, one for each, asked in turn."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from telltale.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO

PROGRAM = Path(__file__).with_name("worker.py")
TOO_LITTLE = (
    "if there is too little memory give smaller `batch_sizes` or `prompt_lengths`: all models are "
    "held at once"
)
LAST_LINES = 1  # of what a process that died has said


class Run(NamedTuple):
    """What one run of a cell took.

    Seconds until every prompt had its first token, and of all tokens after it; the same of
    processor time, None where the work is not done by a CPU; and the most memory meanwhile in
    bytes, None where that cannot be known.
    """

    first_s: float
    first_cpu_s: float | None
    decode_s: float
    decode_cpu_s: float | None
    peak_bytes: int | None


class Process:
    """A model held by a process of its own; ``said`` is what it said when it was loaded."""

    def __init__(
        self, name: str, process: subprocess.Popen[str], log: IO[str], remedy: str
    ) -> None:
        self._name, self._process, self._log = name, process, log
        self._remedy = remedy
        self.said: Mapping[str, Any] = self._answer()

    def run(self, asked: Mapping[str, Any]) -> Run:
        """Time a cell once.

        Raises:
            MeasurementError: it could not be.
        """
        assert self._process.stdin is not None
        with suppress(OSError):  # where it has died, as its answer will say
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        return Run(**self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in found:
            words = " ".join(found["error"].split())
            raise MeasurementError(f"timing {self._name} failed: {words[:240]}; {self._remedy}")
        return found

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        ended = f"its process ended with status {self._process.wait()}"
        return ": ".join([ended, *lines[-LAST_LINES:]])


@contextmanager
def held(name: str, given: Mapping[str, Any], remedy: str = TOO_LITTLE) -> Iterator[Process]:
    """A process that has loaded a model, for as long as the block lasts.

    Args:
        name: the model's, for people.
        given: what `worker` is given.
        remedy: what to do where it fails, for a message.

    Raises:
        MeasurementError: it could not load it.
    """
    # -I: neither the working folder nor PYTHONPATH can lend the fresh process anything.
    command = [sys.executable, "-I", str(PROGRAM), json.dumps(given)]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            encoding="utf-8",
        )
        with process:
            try:
                yield Process(name, process, log, remedy)
            finally:
                process.kill()  # it holds nothing that would be lost
                with suppress(OSError):  # what it was asked last may never have been read
                    process.stdin.close()  # type: ignore[union-attr]
