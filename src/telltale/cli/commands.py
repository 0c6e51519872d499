"""The command: arguments and screen only."""

from __future__ import annotations

import errno
import functools
import inspect
import io
import logging
import os
import shlex
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer

from telltale import api
from telltale.cli.help import InSections
from telltale.cli.naming import OptionsFormatter, with_options
from telltale.cli.options import (
    DataDirOption,
    DeviceOption,
    LoadTask,
    ModelArgument,
    ModelLoading,
    ModelSettings,
    ResumeOption,
    RevisionOption,
    ScoringOption,
    TruncateOption,
    TrustOption,
    scoring_of,
    task_options,
)
from telltale.cli.search_options import (
    DEPTHS,
    NUMBERS,
    SIZES,
    ComparedSettings,
    SearchSettings,
    numbers_of,
)
from telltale.cli.tune_options import TuneSettings  # noqa: TC001 - typer reads it
from telltale.errors import InputError, TelltaleError
from telltale.evidence.calibration import CALIBRATED
from telltale.evidence.tuned import TuneResult
from telltale.searches import SEARCHES
from telltale.support.files import is_full_disk
from telltale.support.plain import printable
from telltale.support.waiting import shown_by
from telltale.support.words import one_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from rich.console import Console

    from telltale.evidence.result import Result
    from telltale.study.ahead import SearchPlan
    from telltale.tasks import Task

INTERRUPTED, TERMINATED = 130, 143  # what a shell reports of a command that a signal has ended
# Commands that keep what they have measured.
GOES_ON = ("search", "stability", "explain", "compare", "transfer", "tune")
KEPT = "what a search has measured is kept, and the same command goes on"
# typer may bring its own copy of click, so its error classes are taken from typer's public ones.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Make a language model shallower for one task, and show whether that helped.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command some of whose parameters are groups of options.

    Such a parameter's type is a partial function, annotated with the group: a function whose own
    parameters are the options. The command is given the group with the options filled in.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: one.annotation.__metadata__[0]
        for name, one in own.items()
        if get_origin(get_args(one.annotation)[0]) is functools.partial
    }
    parts = {
        name: inspect.signature(group, eval_str=True).parameters for name, group in groups.items()
    }
    # A dictionary keeps the first place of a name that several groups have.
    merged = {
        inner: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, one in own.items()
        for inner, parameter in parts.get(name, {name: one}).items()
    }

    @functools.wraps(command)
    def run(**given: Any) -> None:
        values = {name: given[name] for name in own if name not in groups}
        for name, group in groups.items():
            values[name] = functools.partial(group, **{part: given[part] for part in parts[name]})
        command(**values)

    del run.__wrapped__  # typer is to see the signature below, not the one that was wrapped
    run.__signature__ = inspect.Signature(list(merged.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in merged.items()}
    return run


@app.command(cls=InSections, short_help="Find the layers that a task does not need, with evidence.")
@takes_groups
def search(
    model: ModelArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The study's folder. The same command goes on where it was stopped.",
        ),
    ],
    resume_anyway: ResumeOption = False,
    track: Annotated[
        list[str] | None,
        typer.Option(
            "--track",
            metavar="trackio|wandb|mlflow[:PROJECT]",
            help="Keep the search with an experiment tracker; may be given several times.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what the search would do and cost, and stop: nothing is measured.",
        ),
    ] = False,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan",
            metavar="FILE.json",
            help="Write that, with the ids of every set, before the search goes on.",
        ),
    ] = None,
    *,
    task: LoadTask,
    asked: SearchSettings,
    settings: ModelSettings,
) -> None:
    """Find the layers that a task does not need, with evidence on unseen examples.

    By default layers are removed one at a time, always the one whose absence leaves the model best
    on the search set (TALE, arXiv 2510.22767). Every model on that path is then measured on
    held-out examples. Named are BEST, the most accurate on the search set; BSBA, the shallowest of
    those at least as accurate as the whole model there; and what the held-out set has shown:
    whether BEST gains, and the shallowest model that is certified to lose no more than --max-loss.
    Writes DIR/result.json and DIR/report.html.
    """
    from telltale.cli.screen import ScreenWatcher, console

    if plan is not None:
        _check_can_write(plan, "--plan")
    chosen = task()
    given = {"out": out, "resume_anyway": resume_anyway, **asked(), **settings()}
    if dry_run or plan is not None:
        _show_planned(api.plan(model, chosen, **given), plan, console(), in_full=dry_run)
    if dry_run:
        return
    with ScreenWatcher(asked.keywords["max_removed"]) as watcher:
        result = api.search(model, chosen, track=track or [], watcher=watcher, **given)
    _show_finished(result, out)


def _show_planned(plan: SearchPlan, file: Path | None, screen: Console, *, in_full: bool) -> None:
    """Print what a search would do and cost, or no more than where that is written."""
    from telltale.cli.planned import planned
    from telltale.support.files import write_json

    if in_full:
        planned(plan, screen)
    if file is not None:
        write_json(file, plan.document)
        screen.print(f"The plan is written to {file}")


@app.command(cls=InSections, short_help="Compare methods at equal depth.")
@takes_groups
def compare(
    model: ModelArgument,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="greedy,beam:8,sleb",
            help=f"Which searches, each by its name: {one_of(SEARCHES)}; random, evopress and beam "
            "also with a number, such as random:3.",
        ),
    ],
    depths: Annotated[
        str, typer.Option("--depths", metavar="2,4", help="How many layers are removed.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The comparison's folder. The same command goes on where it was stopped.",
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="Also what may be used instead, a smaller or quantised model: its held-out "
            "accuracy, and how fast it is beside every depth.",
        ),
    ] = None,
    resume_anyway: ResumeOption = False,
    *,
    task: LoadTask,
    asked: ComparedSettings,
    settings: ModelSettings,
) -> None:
    """Compare methods of choosing layers, on the same examples and at equal depth.

    Each method searches until so many layers are removed, whatever is lost. Its models are measured
    on held-out examples, beside the whole model and beside greedy removal's of the same depth, with
    paired intervals. What one method has measured, the next remembers; the cost of each is what it
    takes by itself. Writes DIR/compare.json and DIR/report.html.
    """
    from telltale.cli.compared import comparison
    from telltale.cli.screen import ScreenWatcher, console

    _check_uncalibrated(task.keywords["scoring"], "methods are compared uncalibrated")
    chosen = task()
    removed = numbers_of(depths, "--depths", DEPTHS)
    with ScreenWatcher(max(removed, default=None)) as watcher:
        found = api.compare(
            model,
            chosen,
            methods=[name for one in methods.split(",") if (name := one.strip())],
            depths=removed,
            out=out,
            against=against,
            resume_anyway=resume_anyway,
            watcher=watcher,
            **asked(),
            **settings(),
        )
    screen = console()
    comparison(found, screen)
    screen.print(f"Written to {out / 'compare.json'}, and to look at: {out / api.REPORT}")


@app.command(cls=InSections)
@takes_groups
def stability(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The study's folder.")],
    sizes: Annotated[
        str,
        typer.Option(
            "--sizes",
            metavar="50,100",
            help="How many examples a part has.  [default: a quarter, a half and three quarters "
            "of the search set]",
            show_default=False,
        ),
    ] = "",
    resamples: Annotated[
        int, typer.Option("--resamples", metavar="R", help="How many parts of each size.")
    ] = 10,
    resume_anyway: ResumeOption = False,
    *,
    task: LoadTask,
    asked: SearchSettings,
    settings: ModelSettings,
) -> None:
    """See how much a search's choice depends on its examples.

    The same search on parts of the search set: which layers every part would remove, and what BEST
    gains on the examples that its part did not have. Give a search's own options; what its study
    has measured is used and added to. Writes DIR/stability.json.
    """
    from telltale.cli.screen import ScreenWatcher, console, stability_summary

    with ScreenWatcher() as watcher:
        document = api.stability(
            model,
            task(),
            out=out,
            sizes=numbers_of(sizes, "--sizes", SIZES) or None,
            resamples=resamples,
            resume_anyway=resume_anyway,
            watcher=watcher,
            **asked(),
            **settings(),
        )
    screen = console()
    stability_summary(document, screen)
    screen.print(f"Written to {out / 'stability.json'}")


@app.command(name="eval", cls=InSections)
@takes_groups
def evaluate(
    model: ModelArgument,
    remove: Annotated[
        str, typer.Option("--remove", metavar="3,17", help="Layers to leave out, counted from 0.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.json", help="Write every example's outcome."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="Use the first N examples.")
    ] = None,
    scoring: ScoringOption = None,
    *,
    task: LoadTask,
    settings: ModelSettings,
) -> None:
    """Measure a model on a task, whole or with layers left out."""
    from telltale.cli.screen import ScreenWatcher, console, evaluation
    from telltale.support.files import write_json

    if out is not None:
        _check_can_write(out, "--out")
    with ScreenWatcher() as watcher:
        document = api.evaluate(
            model,
            task(),
            remove=numbers_of(remove, "--remove"),
            limit=limit,
            scoring=scoring_of(scoring)[1],
            watcher=watcher,
            **settings(),
        )
    evaluation(document, console())
    if out is not None:
        write_json(out, document)


@app.command(cls=InSections, short_help="Say why layers may go.")
@takes_groups
def explain(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model, as of a search; or a finished search's --out folder, and then no TASK.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The explanation's folder. The same command goes on where it was stopped.",
        ),
    ],
    remove: Annotated[
        str, typer.Option("--remove", metavar="3,17", help="Layers to leave out, counted from 0.")
    ] = "",
    pick: Annotated[
        str | None,
        typer.Option(
            "--pick",
            metavar="best|bsba|confirmed_best|fastest_safe|target|N",
            help="Which of a study's models.  [default: the one that it shows first]",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            help="How many examples are looked at.  [default: 200; of a study, its search set]",
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Also leave out each two layers, ten times the work.")
    ] = False,
    *,
    task: LoadTask,
    settings: ModelLoading,
) -> None:
    """Say why layers may go: what each tells of the answers, and what is lost without it.

    For every layer of the model, and of the model without some: the information that its state has
    on the right answer, what the model's own head reads there, importance by gradients and by
    similarity, and the accuracy without it; and which of these predicts the last. Writes
    DIR/explain.json and DIR/report.html.
    """
    from telltale.cli.explained import explanation
    from telltale.cli.screen import ScreenWatcher, console

    given = task.keywords
    _check_uncalibrated(given["scoring"], "is no part of why")
    is_study = given["task"] is None and given["data"] is None
    if is_study:
        _check_defaults(given)
    with ScreenWatcher() as watcher:
        found = api.explain(
            model,
            None if is_study else task(),
            out=out,
            remove=numbers_of(remove, "--remove"),
            pick=pick,
            limit=limit,
            pairs=pairs,
            seed=given["seed"],
            watcher=watcher,
            **settings(),
        )
    screen = console()
    explanation(found, screen)
    screen.print(f"Written to {out / 'explain.json'}, and to look at: {out / api.REPORT}")


@app.command(cls=InSections, short_help="Measure searches' models on other tasks.")
def transfer(
    studies: Annotated[
        list[Path],
        typer.Argument(metavar="STUDY", help="Finished searches' --out folders, of one model."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The transfer's folder. The same command goes on where it was stopped.",
        ),
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            metavar="A,B",
            help="Tasks by name, each to be measured by itself: one that a search was by as it was "
            "asked there, on the examples that it held out; others by their defaults.",
        ),
    ] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Your own examples as another task, as search reads them; may be given several "
            "times.",
            show_default=False,
        ),
    ] = None,
    pick: Annotated[
        str,
        typer.Option(
            "--pick",
            metavar="best|bsba|confirmed_best|fastest_safe|target|N",
            help="Which model of each search, by its name or by the layers removed.",
        ),
    ] = "best",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            help="How many examples of a task at most.  [default: 200; of a task that a search "
            "was by, all that it held out]",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDirOption = None,
    truncate: TruncateOption = "no",
    device: DeviceOption = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="float32|bfloat16|auto",
            help="The precision; auto is that of the searches, where it is one.",
        ),
    ] = "auto",
) -> None:
    """Measure what searches have found on other tasks, beside the whole model.

    Every search's model is measured on every task, on examples that none of the searches has seen,
    with paired intervals of its gain. Where one is shown to lose on another task, the command is
    printed that searches by both. Writes DIR/transfer.json and DIR/report.html.
    """
    from telltale.cli import transferred
    from telltale.cli.screen import ScreenWatcher, console

    with ScreenWatcher() as watcher:
        found = api.transfer(
            studies,
            tasks=[name for one in tasks.split(",") if (name := one.strip())],
            data=data or [],
            data_dir=data_dir,
            out=out,
            pick=pick,
            limit=limit,
            truncate=truncate,
            device=device,
            dtype=dtype,
            watcher=watcher,
        )
    screen = console()
    transferred.transfer(found, screen)
    screen.print(f"Written to {out / 'transfer.json'}, and to look at: {out / api.REPORT}")


@app.command(cls=InSections, short_help="Fine-tune before, after or around a search.")
@takes_groups
def tune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A model, as of a search; or a finished search's --out folder."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The run's folder. The same command goes on where it was stopped.",
        ),
    ],
    train: Annotated[
        Path | None,
        typer.Option(
            "--train",
            metavar="FILE",
            help="Examples to train on, in the form of --data.  [default: the task's train split, "
            "else a part of the data that no other set has]",
            show_default=False,
        ),
    ] = None,
    *,
    task: LoadTask,
    asked: TuneSettings,
    settings: ModelSettings,
) -> None:
    """Fine-tune a model by LoRA before, after or around a search for layers to remove.

    Held-out accuracy is measured after every step, on examples that no search and no training sees.
    A search after tuning may put layers back. --compare runs all regimes, for a table. Writes
    DIR/tune.json and a verified checkpoint, or DIR/comparison.json; and DIR/report.html.
    """
    from telltale.cli.screen import ScreenWatcher, console
    from telltale.cli.tuned import tuned
    from telltale.evidence.tuned import COMPARED_FILE, FILE

    given = task.keywords
    _check_uncalibrated(given["scoring"], "is no part of tuning")
    chosen = task()
    with ScreenWatcher() as watcher:
        found = api.tune(
            model,
            chosen,
            out=out,
            train=_trained_on(task, chosen, train),
            watcher=watcher,
            **asked(),
            **settings(),
        )
    screen = console()
    tuned(found, screen)
    file = COMPARED_FILE if asked.keywords["compare"] else FILE
    screen.print(f"Written to {out / file}, and to look at: {out / api.REPORT}")
    if isinstance(found, TuneResult):
        screen.print(f"The checkpoint is in {out / found.checkpoint}, verified by reloading it.")
        if found.adapter is not None:
            screen.print(f"The adapter that goes with it is in {out / found.adapter}.")


def _trained_on(task: functools.partial[Task], chosen: Task, file: Path | None) -> Task | None:
    """What is trained on, where that is no part of the task's own examples."""
    from telltale.cli.options import fields_of
    from telltale.tuning.sets import read_train, train_split

    given = task.keywords
    if file is not None:
        names = ("question_field", "choices_field", "answer_field", "passage_field", "answer_form")
        fields = fields_of(*(given[name] for name in names))
        return read_train(chosen, file, fields=fields, skip_bad_rows=given["skip_bad_rows"])
    if given["task"] is None:
        return None

    def load(**changes: Any) -> Task:
        return functools.partial(task, **changes)()

    return train_split(given["task"], given["split"], load)


@app.command(short_help="Write a shallower checkpoint, and verify it by reloading it.")
def export(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A search's --out folder.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The checkpoint's folder.")],
    pick: Annotated[
        str,
        typer.Option(
            "--pick",
            metavar="best|bsba|confirmed_best|fastest_safe|target|N",
            help="A model by its name, or the one with the first N layers of the path removed.",
        ),
    ] = "best",
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="float32|bfloat16|float16",
            help="Convert the weights.  [default: as they are; float32 from a GGUF]",
            show_default=False,
        ),
    ] = None,
    carry: Annotated[
        Path | None,
        typer.Option(
            "--carry",
            metavar="ADAPTER",
            help="A LoRA adapter of the whole model, as peft saves it: written into DIR/adapter "
            "for the shallower model, and verified with it.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write a shallower checkpoint, reload it in a fresh process and compare its logits."""
    from telltale.cli.screen import carried_summary, console

    done = api.export(study, pick=pick, to=to, dtype=dtype, carry=carry, device=device)
    seen = done.verification
    screen = console()
    screen.print(
        f"Verified: reloaded with plain transformers in a fresh process, {done.layers} layers, "
        f"{seen.dtype}; its logits on {seen.tokens} tokens differ from the measured path's by at "
        f"most {seen.logit_difference:.0e}; it generates with a cache."
    )
    if (carried := done.carried) is not None:
        screen.print(carried_summary(carried))
    screen.print(f"The checkpoint is in {done.folder}, with its recipe.json beside it.")


@app.command(cls=InSections, short_help="Time a model, or a shallower one against it.")
def bench(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model, as of a search; or a finished search's --out folder: its whole model "
            "against its shallower one.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.json", help="Write every figure there.")
    ],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="MODEL",
            help="Time MODEL against this one; of a study, such as its exported folder.",
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(
            "--pick",
            metavar="best|bsba|confirmed_best|fastest_safe|target|N",
            help="Which of a study's models.  [default: the one that it shows first]",
            show_default=False,
        ),
    ] = None,
    prompt_lengths: Annotated[
        str, typer.Option("--prompt-lengths", metavar="32,512", help="In tokens.")
    ] = "32,128,512",
    batch_sizes: Annotated[
        str, typer.Option("--batch-sizes", metavar="1,8", help="How many prompts at once.")
    ] = "1,4",
    new_tokens: Annotated[
        int, typer.Option("--new-tokens", metavar="N", help="How many tokens are written.")
    ] = 32,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="R", help="How often each is timed, at least 6.")
    ] = 9,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="transformers|llama.cpp|vllm",
            help="The program that runs the models; llama.cpp is the package xllamacpp.",
        ),
    ] = "transformers",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            metavar="N",
            help="Threads of a CPU.  [default: as the engine takes]",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = "auto",
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            metavar="float32|bfloat16|auto",
            help="The precision of both; auto is float32 on a CPU and bfloat16 on a GPU.",
        ),
    ] = "auto",
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
) -> None:
    """Time a model as whoever uses it has it, alone or against a shallower one in alternation.

    Time to the first token, tokens per second with a key-value cache and peak memory, for each
    batch size and prompt length, each with a 95% interval, in fresh processes and plain
    transformers. Beside each ratio is the ideal: that of the work, in which all but the embedding
    and the head scales with the layers.
    """
    from telltale.cli.screen import console
    from telltale.cli.timed import timed
    from telltale.support.files import write_json

    _check_can_write(out, "--out")
    document = api.bench(
        model,
        against=against,
        pick=pick,
        prompt_lengths=numbers_of(prompt_lengths, "--prompt-lengths", NUMBERS),
        batch_sizes=numbers_of(batch_sizes, "--batch-sizes", NUMBERS),
        new_tokens=new_tokens,
        repeats=repeats,
        engine=engine,
        threads=threads,
        device=device,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    write_json(out, document)
    screen = console()
    timed(document, screen)
    screen.print(f"Written to {out}")


@app.command(cls=InSections, short_help="List the tasks known by name, or show a task's questions.")
@takes_groups
def tasks(
    show: Annotated[
        int | None,
        typer.Option(
            "--show", metavar="N", help="Print the first N questions, with what is scored marked."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Show tokens as this model reads them."),
    ] = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
    *,
    task: LoadTask,
) -> None:
    """List the tasks known by name; with TASK describe one, or show its questions."""
    from telltale.cli.screen import console
    from telltale.cli.showing import questions, task_summary, task_table
    from telltale.tasks.named import NAMED, named_task

    given = task.keywords
    _check_uncalibrated(given["scoring"], "changes no question")
    if show is None and given["task"] is None and given["data"] is None:
        task_table(list(NAMED.values()), console())
    elif show is None and given["task"] is not None and not {":", ","} & set(given["task"]):
        task_summary(named_task(given["task"]), console())
    else:
        chosen = task()
        shown = api.preview(
            chosen,
            3 if show is None else show,
            model=model,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        questions(chosen, shown, console())


@app.command()
def show(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A search's --out folder.")],
) -> None:
    """Print what a study has found, or how far it has come."""
    from telltale.cli.screen import console, unfinished
    from telltale.study.reading import read_study

    found = read_study(study)
    if found.result is None:
        unfinished(found, console())
    else:
        _show_finished(found.result, study)


@app.command(short_help="Write one page on studies, to read, to print and to send.")
def report(
    studies: Annotated[
        list[Path],
        typer.Argument(
            metavar="STUDY",
            help="Searches' --out folders, or one of explain, compare, transfer or tune.",
        ),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FILE.html", help="The page to write.")],
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures",
            metavar="DIR",
            help="Write every figure as SVG and PNG, and every table as CSV.",
        ),
    ] = None,
) -> None:
    """Write one page on studies, finished or not, on an explanation or on a comparison."""
    from telltale.cli.screen import console
    from telltale.report import figure_folders, write_figures, write_report

    screen = console()
    if figures is not None:
        for study, folder in figure_folders(studies, figures).items():
            written = write_figures(study, folder)
            screen.print(f"{len(written)} figures and tables written to {folder}")
    write_report(studies, to)
    screen.print(f"Written to {to}")


def _check_uncalibrated(scoring: str | None, why: str) -> None:
    """Refuse to calibrate where no answer is judged."""
    if scoring_of(scoring)[1] == CALIBRATED:
        raise InputError(
            f"--scoring calibrated is of a model's answers, and {why}; give it to search, "
            "stability or eval"
        )


def _check_defaults(given: Mapping[str, Any]) -> None:
    """Refuse options of a task where there is none: a study has its own."""
    defaults = {
        name: one.default for name, one in inspect.signature(task_options).parameters.items()
    }
    for name in given.keys() - {"seed"}:
        if given[name] != defaults[name]:
            raise InputError(
                f"`{name}` goes with a task, and a study has its own; give the model and the task, "
                "or leave it out"
            )


def _check_can_write(file: Path, option: str) -> None:
    """Refuse a file that cannot be written, before anything is measured for it."""
    folder = file.absolute().parent
    if not folder.is_dir():
        raise InputError(f"cannot write {file}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise InputError(f"cannot write {file}: it is a folder; give a file's name")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise InputError(f"cannot write {file}: permission denied; give another {option}")


def _show_finished(result: Result, study: Path) -> None:
    """Print what a finished study has found, where it is written, and what to do next."""
    from telltale.cli.screen import console, summary
    from telltale.evidence.cautions import is_success

    screen = console()
    summary(result, screen)
    screen.print(f"Written to {study / 'result.json'}, and to look at: {study / api.REPORT}")
    pick = _worth_exporting(result)
    if pick is not None:
        word = "Next" if is_success(result) else "To have a smaller model all the same"
        # Left to the terminal to fold, so that it can be copied as one line.
        screen.print(
            f"{word}: telltale export {shlex.quote(str(study))} --pick {pick} --to FOLDER",
            soft_wrap=True,
        )


def _worth_exporting(result: Result) -> str | None:
    """What to export next, by its name or layers removed; None where nothing was removed."""
    from telltale.evidence.result import SHOWN_FIRST

    model = result.shown_first
    if model is None:
        return None
    return next((name for name in SHOWN_FIRST if name in model.names), str(len(model.removed)))


def main(arguments: list[str] | None = None) -> None:
    """Run the command: exit status 0, 1 for a failure, 2 for usage or input.

    It is 130 when interrupted (Ctrl-C) and 143 when asked to end (SIGTERM). Whatever goes wrong is
    told in one line on standard error, without a traceback; ``TELLTALE_DEBUG=1`` lets one through.
    """
    given = sys.argv[1:] if arguments is None else arguments
    _set_up_output()
    try:
        with _ended_by_sigterm(), shown_by(_shown_waiting):
            status = app(given, prog_name="telltale", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except _Terminated:
        status = TERMINATED
    except TelltaleError as problem:
        _fail(with_options(str(problem)), problem.exit_status)
    except UsageError as problem:
        _fail(f"{_usage_message(problem)} (see telltale --help)", InputError.exit_status)
    except BrokenPipeError:
        _abandon_output()  # whoever read it has enough
        sys.exit(TelltaleError.exit_status)
    except Exception as problem:
        if os.environ.get("TELLTALE_DEBUG"):
            raise
        _fail(_reason(problem), TelltaleError.exit_status)
    if status in (INTERRUPTED, TERMINATED):  # typer may have made a status of the first itself
        word = "interrupted" if status == INTERRUPTED else "terminated"
        if given[:1] and given[0] in GOES_ON:
            _complain(f"{word}; what was measured is kept, and the same command goes on:")
            _complain(f"  {shlex.join(['telltale', *given])}", prefix="")
        else:
            _complain(word)
    sys.exit(status if isinstance(status, int) else 0)


def _shown_waiting(
    text: str, share: Callable[[], float | None]
) -> AbstractContextManager[object] | None:
    from telltale.cli.screen import shown_waiting

    return shown_waiting(text, share)


class _Terminated(BaseException):
    """The process was asked to end: not an exception that anything on the way should mend."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does, by an exception; where a program may set signals.

    Whoever has set or ignored that signal before is left to it.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> None:
    raise _Terminated


def _usage_message(problem: Any) -> str:
    return str(problem.format_message())


def _set_up_output() -> None:
    """Log lines that name options, without what a terminal would obey; letters it lacks escaped."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OptionsFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("telltale").setLevel(logging.INFO)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reason(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return _file_problem(problem)
    if isinstance(problem, MemoryError):
        return f"not enough memory; close other programs or use a smaller model: {KEPT}"
    name = f"{type(problem).__name__}: {problem}"
    return f"{name} (TELLTALE_DEBUG=1 shows where; please report it)"


def _file_problem(problem: OSError) -> str:
    """What went wrong with which file, and the remedy."""
    reason = problem.strerror or str(problem) or type(problem).__name__
    file = problem.filename2 or problem.filename  # of a copy, the one that is written
    where = "" if file is None else f"{file}: "
    if is_full_disk(problem):
        limit = " or raise the limit (ulimit -f)" if problem.errno == errno.EFBIG else ""
        remedy = f"make room{limit}"
    elif isinstance(problem, PermissionError) or problem.errno == errno.EROFS:
        remedy = "change its permissions or give another place"
    else:
        remedy = "check the file and its disk"
    return f"{where}{reason}; {remedy}: {KEPT}"


def _abandon_output() -> None:
    """Write no more to standard output, of which Python would complain once more at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> Any:
    _complain(message)
    try:
        sys.stdout.flush()
    except OSError:
        _abandon_output()
    sys.exit(status)


def _complain(message: str, prefix: str = "telltale: ") -> None:
    """One line on standard error, with nothing that a terminal would obey."""
    line = " ".join(message.split()) if prefix else message
    print(prefix + printable(line), file=sys.stderr)  # noqa: T201
