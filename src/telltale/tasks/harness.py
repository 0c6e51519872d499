"""Tasks and groups of lm-evaluation-harness: its prompts, shots and metrics with telltale's engine.

The harness builds every request itself, with its own default seeds, so that a model reads exactly
what ``lm-eval run --num_fewshot K`` would send it. Where it shows what it also asks, as some data
sets have the same question in two splits, the question is marked, and no search uses it. Knows no
model.
"""

from __future__ import annotations

import json
import os.path
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.support.files import sha256_of
from telltale.support.plain import printable
from telltale.tasks.group import group
from telltale.tasks.harness_scorer import asks_twice, make_scorer
from telltale.tasks.harness_source import CHOICES, blaming, find, quietly
from telltale.tasks.scorer import shown
from telltale.tasks.split import folded
from telltale.tasks.task import Example, Generation, Request, Scoring, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PREFIX = "harness:"
DEFAULT_MAX_NEW_TOKENS = 256  # as the harness's own backend for Hugging Face models has it
# Settings of generation that mean nothing, or nothing with this value, where no sample is drawn.
_FOR_SAMPLES = {"temperature", "top_p", "top_k", "min_p", "typical_p", "do_sample"}
_NO_EFFECT = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1,
    "no_repeat_ngram_size": 0,
    "use_cache": True,
}


def harness_task(
    name: str,
    *,
    shots: int | None = None,
    limit: int | None = None,
    metric: str | None = None,
) -> Task:
    """A task of lm-evaluation-harness, or a group of them as one objective.

    A YAML file of the harness is code as much as data: ``!function`` runs the Python that it names,
    which is how the harness means it. The tasks of a group count by their numbers of examples where
    the group's score does (``weight_by_size``), and else alike.

    Args:
        name: the task's or group's name, as ``lm-eval ls tasks`` has it, or a YAML file's path.
        shots: how many examples are shown before each question; by default the task's own number.
        limit: ask only so many of each task, the first.
        metric: the metric that is the score, such as ``acc_norm`` or
            ``exact_match,flexible-extract``; by default the group's first, or the task's.

    Raises:
        InputError: there is no such task, its data cannot be had, it cannot be asked this way, its
            metric cannot be a score, or the tasks of a group are not asked in the same way.
    """
    for parameter, value, least in (("shots", shots, 0), ("limit", limit, 1)):
        if value is not None and value < least:
            raise InputError(f"`{parameter}` must be at least {least}, got {value}")
    source = find(name)
    with quietly(source.templates), blaming(source.label, reads_data=True):
        made = source.make()
        for task in made:
            _set_shots(source.label_of(task), task, shots)
        drawn = [(task, doc) for task in made for doc in _requests_built(task, limit)]
        shown_texts = {text for task, doc in drawn for text in _texts(task, doc)}
        own_metric, by_size = source.aggregated(metric)
        tasks = [
            _task(source.label_of(task), task, shown_texts, own_metric, source.templates)
            for task in made
        ]
    if source.group is None:
        return tasks[0]
    weights = [len(task.examples) if by_size else 1 for task in tasks]
    own_name = str(source.group.get("group", name))
    return group(tasks, weights, f"{PREFIX}{printable(own_name)}")


def _task(label: str, task: Any, shown_texts: set[str], metric: str | None, templates: Any) -> Task:
    """A task of the harness whose requests are built."""
    examples, docs = _examples(label, task)
    if shown_texts:
        examples = tuple(
            replace(one, is_shown=not shown_texts.isdisjoint(_texts(task, docs[one.id])))
            for one in examples
        )
    scorer = make_scorer(
        label,
        task,
        {one.id: (docs[one.id], len(one.requests)) for one in examples},
        metric,
        templates,
    )
    compares = task.OUTPUT_TYPE == CHOICES
    _check_sizes(label, examples, scorer.metric)
    template = task.config.doc_to_text
    per_character = compares and scorer.metric == "acc_norm"
    return Task(
        name=f"{PREFIX}{printable(str(task.config.task))}",
        examples=examples,
        template=template if isinstance(template, str) else label,
        scoring=Scoring.LOGLIK_PER_CHARACTER if per_character else Scoring.LOGLIK,
        generation=None if compares else _generation(label, task),
        scorer=scorer,
        shots=task.config.num_fewshot,
    )


# Shots


def _set_shots(label: str, task: Any, shots: int | None) -> None:
    """Give a task its number of shots, and its seed, as the harness's command does.

    Raises:
        InputError: there are not so many to show, or only the questions themselves.
    """
    own = task.config.num_fewshot
    if own == 0 and shots:
        raise InputError(
            f"{label} says itself that it has no shots, and the harness would ignore `shots` "
            f"{shots}; leave it out"
        )
    count = (own or 0) if shots is None else shots
    task.set_config(key="num_fewshot", value=count)
    if not count:
        return
    remedy = (
        "give `shots` 0, or a YAML file with another fewshot_split or with fewshot_config: samples"
    )
    shown_split = _split_of_shots(task)
    asked_split = task.config.test_split or task.config.validation_split
    if shown_split is not None and shown_split == asked_split:
        raise InputError(
            f"{label} would take its {count} shots from {printable(shown_split)!r}, the split that "
            f"it asks; {remedy}"
        )
    pool = len(task.sampler.df) if hasattr(task, "sampler") else 0
    if pool < count:
        raise InputError(f"{label} has {pool} examples to show, and {count} are wanted; {remedy}")


def _split_of_shots(task: Any) -> str | None:
    """The split that the harness takes shots from; None for a list of its own."""
    config = task.config
    if task.fewshot_cfg.split is not None or task.fewshot_cfg.samples is not None:
        return task.fewshot_cfg.split  # type: ignore[no-any-return]
    splits = config.training_split, config.validation_split, config.test_split
    return next((one for one in splits if one is not None), None)


def _requests_built(task: Any, limit: int | None) -> list[Any]:
    """Build requests as the harness's command does; the documents that were drawn to be shown."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED
    from lm_eval.evaluator_utils import get_sample_size

    task.set_fewshot_seed(DEFAULT_OTHER_SEED)
    drawn: dict[int, Any] = {}
    if task.config.num_fewshot:
        draw = type(task.sampler).sample

        def remembering(*args: Any, **options: Any) -> Sequence[Any]:
            docs: Sequence[Any] = draw(task.sampler, *args, **options)
            drawn.update((id(doc), doc) for doc in docs)
            return docs

        task.sampler.sample = remembering
    task.build_all_requests(limit=get_sample_size(task, limit))
    return list(drawn.values())


def _docs(task: Any) -> list[Any]:
    """The documents that are asked."""
    return [next(of_doc).doc for _, of_doc in _by_doc(task)]


def _by_doc(task: Any) -> Iterable[tuple[int, Any]]:
    return groupby(task.instances, key=lambda instance: instance.doc_id)


def _texts(task: Any, doc: Any) -> set[str]:
    """A document with its answer, as it is asked and as it is shown, white space folded."""
    config, shot = task.config, task.fewshot_cfg
    ways = [
        (config.doc_to_text, config.doc_to_choice, config.doc_to_target),
        (shot.doc_to_text, shot.doc_to_choice, shot.doc_to_target),
    ]
    texts = set()
    for text, choice, target in ways[: 1 if ways[0] == ways[1] else 2]:
        try:
            choices = task.doc_to_choice(doc, choice) if choice else []
            question, answers = task.doc_to_text(doc, text), task.doc_to_target(doc, target)
            parts = [question, *(answers if isinstance(answers, list) else [answers])]
            read = [choices[one] if choices and isinstance(one, int) else one for one in parts]
        except Exception:  # what is only shown may lack what questions have, and the reverse
            continue
        texts.add(folded(" ".join(map(str, read))))
    return texts


# Examples


def _examples(label: str, task: Any) -> tuple[tuple[Example, ...], dict[str, Any]]:
    """The examples, and the harness's document of each by its id."""
    make = _choice_example if task.OUTPUT_TYPE == CHOICES else _text_example
    examples: list[Example] = []
    docs: dict[str, Any] = {}
    texts = [_text_alone(task, doc) for doc in _docs(task)]
    # Where every question is asked in the same words, what is asked is in the choices.
    told = len(set(texts)) > 1 or len(texts) == 1
    for (number, of_doc), text in zip(_by_doc(task), texts, strict=True):
        instances = sorted(of_doc, key=lambda instance: instance.idx)
        doc = instances[0].doc
        requests = [instance.args for instance in instances]
        wanted = "loglikelihood" if make is _choice_example else "generate_until"
        if any(
            instance.request_type != wanted or not isinstance(instance.args[0], str)
            for instance in instances
        ):
            raise InputError(f"{label} mixes kinds of requests; give another task")
        docs[str(number)] = doc
        example = make(label, task, str(number), doc, requests, text if told else "")
        examples.append(replace(example, content=_content(doc)))
    return tuple(examples), docs


def _content(doc: Any) -> str:
    """A hash of a document, equal however a task asks it."""
    return sha256_of("doc", json.dumps(doc, sort_keys=True, default=str))


def _text_alone(task: Any, doc: Any) -> str:
    """A document's own prompt, without shots.

    Where a document has a prompt for each choice, what these have in common, and what is scored.
    """
    text = task.doc_to_text(doc)
    if not task.multiple_input:
        return str(text)
    choices = [str(one) for one in task.doc_to_choice(doc)]
    common = os.path.commonprefix(choices)  # noqa: RUF071 - of texts, by the character
    return f"{common[: common.rfind(' ') + 1]}... {task.doc_to_target(doc)}"


def _choice_example(
    label: str, task: Any, id_: str, doc: Any, requests: Sequence[Any], text: str
) -> Example:
    choices = [str(one) for one in task.doc_to_choice(doc)]
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    right = gold[0] if isinstance(gold, list) and gold else gold
    answer = choices.index(right) if right in choices else right
    if not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise InputError(
            f"{label}: the right answer of example {id_} is {shown(gold)}, none of its "
            f"{len(choices)} choices; give a split whose answers are known"
        )
    return Example(
        id=id_,
        context=text or " / ".join(choices),
        choices=tuple(choices * 2 if asks_twice(task) else choices),
        answer=int(answer),
        requests=tuple(Request(*one) for one in requests),
    )


def _text_example(
    label: str, task: Any, id_: str, doc: Any, requests: Sequence[Any], text: str
) -> Example:
    if len(requests) != 1:
        raise InputError(f"{label} asks {len(requests)} times a question; give another task")
    gold = task.doc_to_target(doc)
    if task.config.doc_to_choice is not None:
        gold = task.doc_to_choice(doc)[gold]
    right = gold[0] if isinstance(gold, list) and gold else gold
    prompt = requests[0][0]
    return Example(
        id=id_,
        context=text or prompt,
        choices=(str(right),),
        answer=0,
        requests=(Request(prompt, ""),),
    )


def _check_sizes(label: str, examples: Iterable[Example], metric: str) -> None:
    """Refuse empty choices where log-likelihoods are divided by their lengths."""
    for example in examples:
        if metric in ("acc_norm", "acc_bytes") and "" in example.choices:
            raise InputError(
                f"{label}: example {example.id} has an empty choice, which has no length for "
                f"{metric} to divide by; give `metric` acc"
            )


# Text


def _generation(label: str, task: Any) -> Generation:
    """How the harness's backend for Hugging Face models would let a model write.

    Raises:
        InputError: the text would be drawn at random, or not greedily.
    """
    from lm_eval.models.utils import normalize_gen_kwargs

    settings: Mapping[str, Any] = task.config.generation_kwargs or {}
    if task.config.repeats != 1:
        raise InputError(
            f"{label} asks each question {task.config.repeats} times to compare what is drawn, and "
            "a search needs answers that do not vary; give a task with repeats: 1"
        )
    found = dict(normalize_gen_kwargs(dict(settings), DEFAULT_MAX_NEW_TOKENS))
    until, most = found.pop("until"), found.pop("max_gen_toks")
    if found.get("do_sample"):
        raise InputError(
            f"{label} draws its text at random (do_sample or temperature in generation_kwargs), "
            "and a search needs answers that do not vary; give a task with do_sample: false"
        )
    for key, value in found.items():
        if key not in _FOR_SAMPLES and _NO_EFFECT.get(key) != value:
            raise InputError(
                f"{label} writes with {printable(str(key))}: {shown(value)}, and telltale takes "
                "the likeliest token each time; give a task without it"
            )
    if not all(isinstance(one, str) and one for one in until):
        raise InputError(
            f"{label} ends its text at {shown(until)}; mend its until, so that each is some text"
        )
    if most < 1:
        raise InputError(f"{label}: max_gen_toks must be at least 1, got {most}; mend it")
    return Generation(chat=False, extract="exact", max_new_tokens=most, stop=_stops(until))


def _stops(until: Sequence[str]) -> tuple[str, ...]:
    """Where text ends, without what could not end it.

    The harness cuts at one string after the other. One that contains a string that comes before it
    finds nothing then, where cutting at the first of all would.
    """
    kept: list[str] = []
    for one in until:
        if not any(before in one for before in kept):
            kept.append(one)
    return tuple(kept)
