"""What a reader should be told beside a result, in plain sentences. Plain numbers; no torch.

A caution never changes a result. Each names what was seen and what to do.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from telltale.evidence.stats import clustering, one_sided, two_sided, wilson
from telltale.support.words import loss, percent, points
from telltale.tasks.loading import HARNESS
from telltale.tasks.split import clusters_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence.parts import PathModel
    from telltale.evidence.result import Result
    from telltale.measure import Outcome
    from telltale.paths import LayerPath
    from telltale.searches import Round
    from telltale.tasks import Example, Task

WORST_RISE = 0.25  # of perplexity on ordinary text, above which a caution is given
# The share of answers that change between the whole model and one that lacks so many layers:
# medians over the eight pairs of a model and a task of benchmarks/objectives.py.
USUAL_CHANGE = {1: 0.20, 4: 0.33}
FEW_PASSAGES = 10  # below which intervals that mind them rest on little
MUCH_CUT_OFF = 0.05  # of texts; more may explain a difference
MUCH_UNREAD = 0.05  # of texts without an answer; the same
NAMES = {
    "baseline": "the whole model",
    "best": "BEST",
    "bsba": "BSBA",
    "fastest_safe": "the fastest safe model",
    "evaluated": "the model",
}
FINAL_OF_ANOTHER = (
    "the final set was looked at once, for a model that is no longer one of those named; for fresh "
    "examples give another --seed and another --out"
)
SAFE_AT_CHANCE = (
    "the fastest safe model is safe only beside a whole model that is not shown to be more than "
    "guessing, so neither is shown to do the task; another prompt may help before it is exported"
)


class Remedies(NamedTuple):
    """What to do about texts: where no answer is read from them, and where they are cut off."""

    unread: str
    cut_off: str


_LONGER = "give a larger --max-new-tokens, or a --stop"
BY_RULE = Remedies("another --extract, --prompt or --protocol may help", _LONGER)
BY_SCORER = Remedies("another --prompt or --protocol may help", _LONGER)
# A harness's task says itself how it is asked, and refuses the options.
BY_HARNESS = Remedies(
    "give harness:FILE.yaml with another filter_list or doc_to_text",
    "give harness:FILE.yaml with a larger max_gen_toks, or another until, in its generation_kwargs",
)


def remedies_for(task: Task) -> Remedies:
    """What a user can do about a task's texts: nothing that the task refuses."""
    if any(name.startswith(HARNESS) for name in [task.name, *dict(task.shares)]):
        return BY_HARNESS
    return BY_RULE if task.scorer is None else BY_SCORER


def advice(held_out: int, max_loss: float, confidence: float) -> str:
    """What can be seen with so many held-out examples, before anything is measured."""
    few, many = USUAL_CHANGE[1], USUAL_CHANGE[4]
    unseen = [100 * two_sided(confidence) * math.sqrt(share / held_out) for share in (few, many)]
    said = (
        f"With {held_out:,} held-out examples a difference under about {unseen[0]:.1f} points (one "
        f"layer removed, {100 * few:.0f}% of answers change) to {unseen[1]:.1f} points (four "
        f"layers, {100 * many:.0f}%) is expected not to be seen"
    )
    if max_loss:
        # A model that loses nothing is certified four times in five with so many.
        each = ((one_sided(confidence) + one_sided(0.8)) / max_loss) ** 2
        said += (
            f", and to certify a loss of at most {100 * max_loss:g} points is expected to take "
            f"about {' to '.join(dict.fromkeys([_about(few * each), _about(many * each)]))}"
        )
    return f"{said}; these shares are the medians of eight pairs of a model and a task"


def _about(count: float) -> str:
    """A number of examples, to two digits."""
    return f"{max(float(f'{count:.2g}'), 1):,.0f}"


def cautions(
    models: Mapping[str, PathModel],
    outcomes: Mapping[str, Sequence[Outcome]],
    examples: Sequence[Example],
    *,
    truncated: int = 0,
    final_spent: bool = False,
    absences: Sequence[str] = (),
    remedies: Remedies = BY_RULE,
) -> list[str]:
    """Every caution about a study.

    Args:
        models: the named models, with their evidence.
        outcomes: theirs on the held-out set, each in the order of ``examples``.
        examples: the held-out set.
        truncated: how many prompts lost their beginning.
        final_spent: whether the final set was looked at for a model that has no name now.
        absences: what the model cannot do because it raised, each in a sentence.
        remedies: what can be done about the task's texts.
    """
    first_names: dict[LayerPath, str] = {}
    for name, model in models.items():
        first_names.setdefault(model.kept.path, name)
    names = list(first_names.values())
    return [
        *few_passages("baseline", outcomes["baseline"], examples),
        *at_chance("baseline", outcomes["baseline"], examples),
        *safe_at_chance(models, outcomes["baseline"], examples),
        *(line for name in names for line in never_answered(name, outcomes[name], examples)),
        *too_few_held_out(models, outcomes),
        *(line for name in names for line in unread(name, outcomes[name], remedies)),
        *(line for name in names for line in cut_off(name, outcomes[name], remedies)),
        *([cut_prompts(truncated)] if truncated else []),
        *(line for name in names for line in worse_perplexity(name, models)),
        *(line for name in names for line in worse_at_a_guard(name, models)),
        *([FINAL_OF_ANOTHER] if final_spent else []),
        *absences,
    ]


def evaluation_cautions(
    outcomes: Sequence[Outcome],
    examples: Sequence[Example],
    *,
    truncated: int = 0,
    remedies: Remedies = BY_RULE,
) -> list[str]:
    """Every caution about one model on some examples, in the same order as its outcomes."""
    return [
        *few_passages("evaluated", outcomes, examples),
        *at_chance("evaluated", outcomes, examples),
        *never_answered("evaluated", outcomes, examples),
        *unread("evaluated", outcomes, remedies),
        *cut_off("evaluated", outcomes, remedies),
        *([cut_prompts(truncated)] if truncated else []),
    ]


def few_passages(name: str, outcomes: Sequence[Outcome], examples: Sequence[Example]) -> list[str]:
    """Whether examples share so few passages that little is known of others."""
    clusters = clusters_of(examples)
    shared = clustering([outcome.score for outcome in outcomes], clusters)
    if shared.freedom + 1 >= FEW_PASSAGES:
        return []
    count = len(set(clusters))
    if count == 1:
        return [
            f"all {_examples(name, examples)} share one passage or prompt, which is one "
            "observation: nothing can be said of other passages, so no interval is given"
        ]
    alike = shared.freedom + 1
    unequal = f", which differ so much in size that they count as {alike:.1f}"
    return [
        f"{_examples(name, examples)} share {count} passages or prompts"
        f"{unequal if alike < count - 0.05 else ''}: on fewer than {FEW_PASSAGES}, intervals are "
        "wide and rest on little; give examples on more passages"
    ]


def at_chance(name: str, outcomes: Sequence[Outcome], examples: Sequence[Example]) -> list[str]:
    """Whether a model cannot be told from one that guesses."""
    offered = [len(example.choices) for example in examples]
    if min(offered) < 2:
        return []
    chance = sum(1 / count for count in offered) / len(offered)
    right = Counter(example.choices[example.answer] for example in examples)
    if len({example.choices for example in examples}) == 1:  # labels: one may be frequent
        chance = max(chance, max(right.values()) / len(examples))
    scores = [outcome.score for outcome in outcomes]
    accuracy = sum(scores) / len(scores)
    shared = clustering(scores, clusters_of(examples))
    if wilson(sum(scores), len(scores), shared=shared).low > chance:
        return []
    return [
        f"{NAMES[name]} is right on {percent(accuracy)} of {_examples(name, examples)}, which is "
        f"not shown to be more than guessing ({percent(chance)}); another prompt may help, and "
        "what a search finds on such a task may be noise"
    ]


def safe_at_chance(
    models: Mapping[str, PathModel], whole: Sequence[Outcome], examples: Sequence[Example]
) -> list[str]:
    """Whether all that is certified is to keep up with a model that may guess."""
    safe = "fastest_safe" in models and at_chance("baseline", whole, examples)
    return [SAFE_AT_CHANCE] if safe else []


def is_success(result: Result) -> bool:
    """Whether a result recommends a model, and not for keeping up with one that may guess."""
    if result.recommended == "fastest_safe":
        return SAFE_AT_CHANCE not in result.cautions
    return result.recommended is not None


def never_answered(
    name: str, outcomes: Sequence[Outcome], examples: Sequence[Example]
) -> list[str]:
    """Choices that every example offers, that are right somewhere and that a model never takes."""
    choices = [
        choice
        for choice in examples[0].choices
        if all(choice in example.choices for example in examples)
    ]
    taken = {
        (example.choices[answer] if isinstance(answer, int) else answer).casefold()
        for outcome, example in zip(outcomes, examples, strict=True)
        if (answer := outcome.answer) is not None
    }
    if len(choices) < 2 or not taken:
        return []
    right = Counter(example.choices[example.answer] for example in examples)
    return [
        f"{NAMES[name]} never answers {choice!r}, which is right for {right[choice]} of "
        f"{_examples(name, examples)}"
        for choice in choices
        if right[choice] and choice.casefold() not in taken
    ]


def too_few_held_out(
    models: Mapping[str, PathModel], outcomes: Mapping[str, Sequence[Outcome]]
) -> list[str]:
    """Whether the held-out set could not have shown the gain that the search set claims."""
    best, held_out = models["best"], models["best"].held_out
    if held_out is None:
        return []
    claimed = best.accuracy - models["baseline"].accuracy
    low, high = held_out.gain_interval
    seen = (high - low) / 2
    if claimed <= 0 or seen < claimed or not low <= 0 <= high:
        return []
    changed = sum(
        before.score != after.score
        for before, after in zip(outcomes["baseline"], outcomes["best"], strict=True)
    )
    return [
        f"{held_out.examples} held-out examples are too few to see the {100 * claimed:.1f} "
        "points that BEST gains on the search set: the interval of its gain there reaches "
        f"{100 * seen:.1f} points to each side, since its score differs from the whole model's on "
        f"{changed} of them; hold out more"
    ]


def unread(name: str, outcomes: Sequence[Outcome], remedies: Remedies = BY_RULE) -> list[str]:
    """Whether no answer could be found in many texts."""
    texts = [outcome for outcome in outcomes if outcome.generated is not None]
    missing = sum(outcome.answer is None for outcome in texts)
    if missing <= MUCH_UNREAD * len(texts):
        return []
    return [
        f"no answer could be read from {missing} of {len(texts)} texts of {NAMES[name]}; "
        f"{remedies.unread}"
    ]


def cut_off(name: str, outcomes: Sequence[Outcome], remedies: Remedies = BY_RULE) -> list[str]:
    """Whether the token limit cut off many texts."""
    texts = [outcome.generated for outcome in outcomes if outcome.generated is not None]
    cut = sum(text.cut_off for text in texts)
    if cut <= MUCH_CUT_OFF * len(texts):
        return []
    return [
        f"the token limit cut off {cut} of {len(texts)} texts of {NAMES[name]}, which may explain "
        f"a difference; {remedies.cut_off}"
    ]


def cut_prompts(truncated: int) -> str:
    """That prompts were cut, in words."""
    words = "1 prompt was" if truncated == 1 else f"{truncated} prompts were"
    its = "its" if truncated == 1 else "their"
    return f"{words} longer than the model takes and lost {its} beginning"


def worse_perplexity(name: str, models: Mapping[str, PathModel]) -> list[str]:
    """Whether a shallower model has a much higher perplexity on ordinary text."""
    before, after = models["baseline"].perplexity, models[name].perplexity
    rise = 0.0 if before is None or after is None else after / before - 1
    if not rise > WORST_RISE:
        return []
    return [
        f"{NAMES[name]} is hurt elsewhere: its perplexity on ordinary text is {100 * rise:.0f}% "
        f"higher than the whole model's (past {100 * WORST_RISE:.0f}% this is said); use it for "
        "this task only"
    ]


def worse_at_a_guard(name: str, models: Mapping[str, PathModel]) -> list[str]:
    """Guards at which a model is shown to be worse, on examples that kept no candidate out."""
    return [
        f"{NAMES[name]} is worse at {guard}: {points(found.gain)} points on {found.examples} "
        f"examples that kept no model out, where it loses at most {loss(found.loses_at_most)}; "
        "what a guard promises was observed on others, and is no bound; give a smaller --guard"
        for guard, found in models[name].guards.items()
        if found.gain_interval.high < 0
    ]


def raced(rounds: Sequence[Round], objective: str) -> list[str]:
    """What is not certain of rounds in which candidates left before it was sure that they lose."""
    said = [done.certainty for done in rounds if done.certainty is not None]
    if not said:
        return []
    unit = {"accuracy": "points of accuracy", "likelihood": "nats", "margin": "nats"}.get(objective)
    factor = 100 if objective == "accuracy" else 1
    sizes = sorted({f"{factor * one.epsilon:.3g}" for one in said}, key=float)
    by = "shown by simulation and not proven"
    if all(one.is_proven for one in said):
        by = "for examples in random order"
    between = " to ".join(dict.fromkeys([sizes[0], sizes[-1]]))
    return [
        "candidates were raced (--speed fast): in each round, none that could have been kept is "
        f"better on the search set than the one that was by more than {between} "
        f"{unit or 'of the objective'}, with a probability of {percent(said[0].probability)}, "
        f"{by}; it is not guaranteed that --speed exact would remove the same layers"
    ]


def _examples(name: str, examples: Sequence[Example]) -> str:
    kind = "" if name == "evaluated" else "held-out "
    return f"{len(examples)} {kind}examples"
