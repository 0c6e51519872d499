"""The harness's own filters and one of its metrics as a scorer of single examples.

Only a metric that is a mean over examples, of which more is better, can be a search's objective,
and only one that needs no more than log-likelihoods or the text. Whether a metric is such a one is
tried on every example before anything is measured. Knows no model.
"""

from __future__ import annotations

import copy
import inspect
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError, MeasurementError
from telltale.support.files import sha256_of_file, sha256_of_json
from telltale.support.plain import printable
from telltale.tasks.harness_source import CHOICES, rendering
from telltale.tasks.scorer import as_score, reason, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from telltale.measure import ChoiceOutcome, Outcome
    from telltale.tasks.task import Example

INVALID = "[invalid]"  # what the harness's filters say where they find nothing
# What of a configuration says where the data are, or is a name, and decides no score.
_NO_MATTER = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata", "tag", "task_alias")


@dataclass(frozen=True, slots=True)
class Judge:
    """Computes the harness's metrics from a model's responses.

    Attributes:
        task: the harness's task.
        filters: those of its filters that responses go through first.
        templates: the Jinja environment that its templates are rendered in.
    """

    task: Any
    filters: Any
    templates: Any

    def __call__(self, doc: Any, responses: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
        """The filtered responses to one document, and its metrics.

        Args:
            doc: a document of the harness; a copy is used, since a user's function may change it.
            responses: for each request its log-likelihood and whether it is what the model would
                write; or the one text.
        """
        import numpy as np
        from lm_eval.api.instance import Instance

        doc = copy.deepcopy(doc)
        instances = [
            Instance(self.task.OUTPUT_TYPE, doc, (), index, resps=[response])
            for index, response in enumerate(responses)
        ]
        with rendering(self.templates), np.errstate(all="ignore"):
            self.filters.apply(instances)
            filtered = [instance.filtered_resps[self.filters.name] for instance in instances]
            return filtered, dict(self.task.process_results(doc, filtered))

    def tried(self, doc: Any, requests: int) -> list[dict[str, Any]]:
        """A document's metrics for made-up responses, varied in what telltale does not measure."""
        if self.task.OUTPUT_TYPE != CHOICES:
            return [self(doc, [""])[1]]
        logliks = [-1.0 - index for index in range(requests)]
        return [self(doc, [(one, greedy) for one in logliks])[1] for greedy in (False, True)]

    def why_not(self, metric: str, doc: Any, requests: int) -> str | None:
        """Why a metric cannot be the score of a document, or None."""
        from lm_eval.api.metrics import mean

        if self.task.aggregation().get(metric, mean) is not mean:
            return "is not a mean over examples"
        if not self.task.higher_is_better().get(metric, True):
            return "is better the lower it is"
        values = set()
        for metrics in self.tried(doc, requests):
            if metric not in metrics:
                return "is not given for every example"
            score = as_score(metrics[metric])
            if score is None:
                return f"is {shown(metrics[metric])} for an example, not a number from 0 to 1"
            values.add(score)
        if len(values) > 1:
            return "asks whether a choice is what the model would write, which is not measured"
        return None

    def nothing(self) -> frozenset[str]:
        """The filters' result where they find no answer."""
        given = [getattr(make(), "fallback", INVALID) for make in self.filters.filters]
        return frozenset({INVALID, "", *(one for one in given if isinstance(one, str))})


def _loglik(choice: ChoiceOutcome, _: ChoiceOutcome) -> float:
    return choice.loglik


# What the harness's metrics compare choices by: one read in its place, and read alone.
_MERITS: dict[str, Callable[[ChoiceOutcome, ChoiceOutcome], float]] = {
    "acc_norm": lambda choice, _: choice.loglik / choice.characters,
    "acc_bytes": lambda choice, _: choice.loglik / choice.bytes,
    "acc_mutual_info": lambda choice, alone: choice.loglik - alone.loglik,
}


@dataclass(frozen=True, slots=True, eq=False)
class HarnessScorer:
    """A metric of a harness's task as `telltale.tasks.task.Scorer`.

    Attributes:
        judge: what makes metrics.
        metric: which of them is the score.
        docs: the harness's documents, by the id of their examples.
        identity: all that decides a score.
    """

    judge: Judge
    metric: str
    docs: Mapping[str, Any]
    identity: dict[str, Any]

    def __call__(self, example: Example, outcome: Outcome) -> Outcome:
        """The outcome with the harness's score, and the answer that it judged.

        Raises:
            MeasurementError: the harness, or a user's function in it, failed or gave no score.
        """
        responses: list[Any]
        if outcome.generated is not None:
            responses = [outcome.generated.text]
        else:
            responses = [(choice.loglik, False) for choice in outcome.choices]
        what = f"the harness's {printable(self.metric)}"
        where = f"example {printable(example.id)!r}"
        try:
            filtered, metrics = self.judge(self.docs[example.id], responses)
        except (Exception, SystemExit) as problem:
            raise MeasurementError(
                f"{what} failed on {where} ({reason(problem)}); give another `metric`, or mend the "
                "task"
            ) from problem
        score = as_score(metrics.get(self.metric))
        if score is None:
            raise MeasurementError(
                f"{what} is {shown(metrics.get(self.metric))} for {where}, not a number from 0 to "
                "1; give another `metric`, or mend the task"
            )
        answer = self._chosen(outcome) if outcome.generated is None else self._read(filtered[0])
        return replace(outcome, score=score, answer=answer)

    def _chosen(self, outcome: Outcome) -> int:
        """The choice that the metric takes for the answer; the first of equals."""
        # For mutual information each choice is read a second time, with nothing before it.
        offered, alone = outcome.choices, outcome.choices
        if asks_twice(self.judge.task):
            half = len(offered) // 2
            offered, alone = offered[:half], offered[half:]
        merit = _MERITS.get(self.metric, _loglik)
        merits = [merit(choice, bare) for choice, bare in zip(offered, alone, strict=True)]
        return max(range(len(merits)), key=merits.__getitem__)

    def _read(self, filtered: Any) -> str | None:
        """What the filters found in a text."""
        found = filtered[0] if isinstance(filtered, list) and len(filtered) == 1 else filtered
        text = found if isinstance(found, str) else str(found)
        return None if text.strip() in self.judge.nothing() else text


def make_scorer(
    label: str,
    task: Any,
    asked: Mapping[str, tuple[Any, int]],
    metric: str | None,
    templates: Any,
) -> HarnessScorer:
    """The scorer for one metric.

    Args:
        label: what a person typed, for messages.
        task: the harness's task.
        asked: each document and the number of its requests, by the id of its example.
        metric: its name, with a comma and a filter's after it where there are several filters; by
            default the first metric with the first filter.
        templates: the Jinja environment that its templates are rendered in.

    Raises:
        InputError: there is no such metric, or it cannot be a score.
    """
    import lm_eval

    wanted, _, filtered_by = (metric or "").partition(",")
    filters = {one.name: one for one in task._filters}
    if filtered_by and filtered_by not in filters:
        raise InputError(
            f"{label} has no filter {printable(filtered_by)!r}; it has {', '.join(filters)}"
        )
    judge = Judge(task, filters[filtered_by or next(iter(filters))], templates)
    _check_known(label, task)
    first = next(iter(asked.values()))
    # In the order of its list, and after that what a function of its own gives.
    given = judge.tried(*first)[0]
    names = sorted(given, key=[*task._metric_fn_list, *given].index)
    shown_names = [f"{one},{way}" if len(filters) > 1 else one for one in names for way in filters]
    if not names:
        raise InputError(f"{label} has no metrics; give it a metric_list")
    wanted = wanted or names[0]
    if wanted not in names:
        raise InputError(
            f"{label} has no metric {printable(wanted)!r}; it has {', '.join(shown_names)}"
        )
    for id_, (doc, requests) in asked.items():
        why = judge.why_not(wanted, doc, requests)
        if why is not None:
            usable = [one for one in names if judge.why_not(one, *first) is None and one != wanted]
            remedy = f"give `metric` {' or '.join(usable)}" if usable else "give another task"
            raise InputError(
                f"{label}: {wanted} {why} (example {id_}), so it is no score; {remedy}"
            )
    identity = {
        "harness": lm_eval.__version__,
        "task config": sha256_of_json(_configuration(task)),
        "metric": f"{wanted},{judge.filters.name}",
        "docs": sha256_of_json([_as_json(doc) for doc, _ in asked.values()]),
    }
    return HarnessScorer(judge, wanted, {id_: doc for id_, (doc, _) in asked.items()}, identity)


def asks_twice(task: Any) -> bool:
    """Whether each choice is also read with nothing before it, for their mutual information."""
    return "acc_mutual_info" in task._metric_fn_list


def _check_known(label: str, task: Any) -> None:
    """Refuse metrics that the harness only says it has not found."""
    unknown = [name for name, function in task._metric_fn_list.items() if function is None]
    if unknown and task.config.process_results is None:
        raise InputError(
            f"{label}: neither the harness nor the evaluate library has the metric "
            f"{printable(unknown[0])!r}; mend its metric_list"
        )


def _configuration(task: Any) -> Any:
    """What a configuration says of asking and scoring, as JSON; functions by their files."""
    config = task.config.to_dict(keep_callable=True)
    return _as_json({key: value for key, value in config.items() if key not in _NO_MATTER})


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _code(value) if callable(value) else str(value)


def _code(function: Any) -> list[str]:
    """A function's name and the hash of the whole file that it is in."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        file = None
    return [name, sha256_of_file(Path(file)) if file and Path(file).is_file() else ""]
