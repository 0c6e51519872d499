"""A model and its examples, made ready to measure when first needed.

Knows nothing of searches or studies. Each part is made once, on first use, so that reading a
finished study loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.engine.batches import (
    BLOCK_SIZE,
    batches_alike,
    batches_in_order,
    canonical_batches,
    comes_early,
)
from telltale.engine.encode import (
    EncodedExample,
    InputLimit,
    chat_prompts,
    common_token_prefix,
    encode_choices,
    encode_prompts,
)
from telltale.engine.layout import (
    in_order_of_texts,
    lay_out,
    row_sizes,
    tokens_in_row,
    tokens_read,
)
from telltale.engine.references import WithReferences, encode_references
from telltale.engine.runner import CollectsStates, Job, LocalRunner, Trial, Writing
from telltale.engine.shared import Capabilities
from telltale.engine.states import read_states
from telltale.errors import InputError
from telltale.measure import Batch, Measurement, closing
from telltale.models.load import load_tokenizer
from telltale.tasks import Protocol, Scoring

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import torch

    from telltale.engine.encode import Tokens
    from telltale.engine.layer_scores import LayerScore
    from telltale.engine.runner import ModelFacts, ModelRunner
    from telltale.engine.selftest import Absence
    from telltale.engine.states import States
    from telltale.measure import Measure, Outcome
    from telltale.models.layered import LayeredModel
    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath
    from telltale.tasks import Example, Scorer, Task

# The most tokens in a batch. A CPU's caches are small; measured on two cores. What is generated
# comes token by token, and each reads all weights, so many rows go side by side. On a GPU no more
# are needed for products to be fast (an estimate, not measured), and a search can leave a candidate
# only between batches.
TOKEN_BUDGETS = {"cpu": 512}
GENERATION_TOKEN_BUDGETS = {"cpu": 4096}
GPU_TOKEN_BUDGET = 16384
# Rows that follow a kept prefix need a mask, and attention then skips nothing. Where contexts are
# longer than this, and have no branches, which need a mask too, the prefix is to be this share.
UNMASKED_TOKENS, LEAST_PREFIX = 512, 0.25
# After each batch candidates may leave, so that there are to be some. What is written is written
# faster the more rows there are.
FEWEST_BATCHES = 8
# What is left to read where no beginning of any examples is read twice is to be at most this share,
# or examples are dealt into batches without regard to what they begin with.
MOST_LEFT = 0.75
# By so much of the losses' mean share hard examples are to come earlier, or dealing them together
# saves less than the pass through the whole model that it costs. On recorded rounds of SmolLM2-135M
# they come 0.10 to 0.23 earlier on four tasks, where that saves candidates 5 to 30% of their
# examples, and 0.04 to 0.05 on sst2, where it saves none.
LEAST_EARLIER = 0.075


@dataclass(frozen=True)
class Workbench:
    """What measuring needs, each part on first use.

    ``task`` says how the examples, which are some of its own, are asked. ``cuts`` says that prompts
    longer than the model takes lose their beginning. ``reads_references`` says that where text is
    generated, the log-likelihood of the right answer is read too. ``capabilities`` are found by
    trying them unless they are given, as a study that goes on does. ``once`` says that a single
    path is measured, so that a trial may cost more than it saves. ``runner`` has the model, and
    makes every engine; where none is given it is in this process, as ``device_name`` and
    ``dtype_name`` say. ``memory`` is how many bytes the states may take that its engines keep, all
    together; by default the runner decides.
    """

    source: ModelSource
    task: Task
    examples: Sequence[Example]
    device_name: str = "auto"
    dtype_name: str = "auto"
    seed: int = 0
    cuts: bool = False
    reads_references: bool = False
    known_capabilities: list[bool] | None = field(default=None)
    once: bool = False
    runner: ModelRunner = field(default=None, compare=False)  # type: ignore[assignment]
    memory: int | None = None

    def __post_init__(self) -> None:
        if not self.runner:  # whose default depends on other fields
            runner = LocalRunner(self.source, self.device_name, self.dtype_name)
            object.__setattr__(self, "runner", runner)

    def with_task(
        self, task: Task, examples: Sequence[Example], known_capabilities: list[bool] | None = None
    ) -> Workbench:
        """A workbench for another task, with this one's model."""
        return replace(
            self,
            task=task,
            examples=examples,
            reads_references=False,
            known_capabilities=known_capabilities,
        )

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.runner.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision it runs in."""
        return self.runner.dtype

    @property
    def facts(self) -> ModelFacts:
        """What is known of the loaded model."""
        return self.runner.facts

    @property
    def depth(self) -> int:
        """How many layers the whole model has."""
        return self.facts.depth

    @property
    def model(self) -> LayeredModel:
        """The loaded model, where it is in this process."""
        assert isinstance(self.runner, LocalRunner)
        return self.runner.model

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        if isinstance(self.runner, LocalRunner):  # which may need it too: it is loaded once
            return self.runner.tokenizer
        return load_tokenizer(self.source)

    @cached_property
    def encoded(self) -> tuple[EncodedExample, ...]:
        """The examples as tokens."""
        limit = InputLimit(self.facts.longest_input, self.cuts)
        if self.task.generation is not None:
            return encode_prompts(self.task, self.examples, self.tokenizer, limit=limit)
        return encode_choices(self.task, self.examples, self.tokenizer, limit=limit)

    @property
    def capabilities(self) -> Capabilities:
        """What the architecture can do on inputs as long as these."""
        return self._tried[0]

    @property
    def absences(self) -> list[Absence]:
        """Which capabilities it lacks, and why; empty where they were not tried here."""
        return self._tried[1]

    @cached_property
    def _tried(self) -> tuple[Capabilities, list[Absence]]:
        if self.known_capabilities is not None:
            return Capabilities(*self.known_capabilities), []
        return self.runner.capabilities(self._trial())

    def _trial(self) -> Trial:
        """What may save work on these examples."""
        encoded, generation = self.encoded, self.task.generation
        longest = max(len(example.context) for example in encoded)
        prefix = len(common_token_prefix(encoded))
        is_worth_it = longest <= UNMASKED_TOKENS or prefix >= LEAST_PREFIX * longest
        if generation is not None:
            return Trial(
                longest=longest + generation.max_new_tokens,
                generates=True,
                wanted=Capabilities(
                    keeps_prefix=prefix > 0 and len(encoded) > 1 and is_worth_it,
                    shares_context=False,
                    continues=generation.max_new_tokens > 1,
                ),
                prefix=prefix,
            )
        branches = [len(example.branches) for example in encoded]
        is_masked = max(branches) > 1
        packs = len(encoded) > 1 and (is_masked or longest <= UNMASKED_TOKENS or self._begin_alike)
        wanted = Capabilities(
            keeps_prefix=prefix > 0 and sum(branches) > 1 and (is_masked or is_worth_it),
            shares_context=is_masked or packs,
            packs=packs,
            padding_free=packs,
        )
        plain = self._padded_tokens()
        shared = tokens_read(
            encoded,
            prefix_length=prefix if wanted.keeps_prefix else 0,
            shares_context=wanted.shares_context,
            packs=wanted.packs,
        )
        paths = 1 if self.once else self.depth + 1  # at least: the whole model and a round
        return Trial(
            longest=longest,
            branch=max(len(choice) for example in encoded for choice in example.choices),
            wanted=wanted,
            prefix=prefix,
            saves=paths * self.depth * (plain - shared),
        )

    def _padded_tokens(self) -> int:
        """How many tokens the plain way reads of all examples, padding counted."""
        sizes = {
            position: row_sizes(example, prefix_length=0, shares_context=False)
            for position, example in enumerate(self.encoded)
        }
        return sum(
            sum(sizes[one][0] for one in batch.examples)
            * max(sizes[one][1] for one in batch.examples)
            for batch in canonical_batches(sizes, **self._dealing)
        )

    @cached_property
    def _begin_alike(self) -> bool:
        """Whether much is saved by reading once what any of the examples begin with."""
        prefix = len(common_token_prefix(self.encoded))
        apart = prefix + sum(tokens_in_row([one], prefix) for one in self.encoded)
        return prefix + tokens_in_row(self.encoded, prefix) <= MOST_LEFT * apart

    @cached_property
    def token_prefix(self) -> Tokens:
        """The tokens that every prompt begins with and that are read once a path, if any are."""
        return common_token_prefix(self.encoded) if self.capabilities.keeps_prefix else ()

    @cached_property
    def job(self) -> Job:
        """What is measured, but for reference answers and the task's own scorer."""
        return Job(
            self.encoded,
            self._reads(),
            self.capabilities,
            self.token_prefix,
            memory_bytes=self.memory,
        )

    def _reads(self) -> Scoring | Writing:
        if self.task.generation is None:
            return self.task.scoring
        ends = {self.tokenizer.eos_token_id} - {None}
        end_tokens = self.facts.end_tokens | ends
        return Writing(self.task.generation, tuple(self.examples), end_tokens)

    @cached_property
    def engine(self) -> Measure:
        """The engine that measures these examples."""
        return self.runner.engine(self.job)

    @cached_property
    def measure(self) -> Measure:
        """What measures: the engine, and after it the task's own scorer where there is one."""
        measure = self.engine
        if self.reads_references:
            # Little work beside generation, so that nothing but layer prefixes is shared.
            references = self.runner.engine(
                Job(self._encoded_references, Scoring.LOGLIK, memory_bytes=self.memory)
            )
            measure = WithReferences(measure, references)
        scorer = self.task.scorer
        return measure if scorer is None else Judged(measure, self.examples, scorer)

    def layer_scores(
        self, scores: Sequence[LayerScore], batches: Sequence[Batch]
    ) -> dict[str, tuple[float, ...]]:
        """Each score's numbers on some examples, one a layer of the whole model, by its name.

        Where text is generated, the right answer is taken as its reference gives it.

        Raises:
            DataError: an example has no reference answer that can be read.
            BatchTooLargeError: a single example does not fit in memory.
        """
        examples = self.encoded if self.task.generation is None else self._encoded_references
        return self.runner.layer_scores(Job(examples, Scoring.LOGLIK), batches, scores)

    def states(
        self,
        path: LayerPath,
        examples: tuple[EncodedExample, ...],
        batches: Sequence[Batch],
        folder: Path,
    ) -> States:
        """Hidden states of some texts on a path, at the end of their contexts.

        What the folder holds of them, as a collection that was stopped leaves it, is not read
        again. See `telltale.engine.states`.

        Args:
            path: whose layers are run.
            examples: what is read: the bench's own, or others.
            batches: of ``examples``, by their position.
            folder: where the states are kept.

        Raises:
            InputError: an example has no such position, the folder holds other states, or the
                runner collects none.
            MeasurementError: a state is not finite.
            BatchTooLargeError: a single example does not fit in memory.
        """
        if not isinstance(self.runner, CollectsStates):
            raise InputError(
                f"the runner {type(self.runner).__name__} has no collect_states, as "
                "telltale.engine.runner.CollectsStates has it, so hidden states cannot be read; "
                "add it, or leave out the runner"
            )
        self.runner.collect_states(Job(examples, Scoring.LOGLIK), batches, path, folder)
        return read_states(folder)

    @cached_property
    def _encoded_references(self) -> tuple[EncodedExample, ...]:
        objective = "give `objective` accuracy"
        return encode_references(
            self.encoded,
            self.task,
            self.examples,
            self.tokenizer,
            self.facts.longest_input,
            objective if self.reads_references else "leave out the scores of layers that read it",
        )

    def tokens_of(self, outcome: Outcome) -> int:
        """What measuring an example by itself reads and writes, each token once, no padding."""
        read = self.encoded[outcome.example].tokens
        if self.reads_references:
            read += self._encoded_references[outcome.example].tokens
        return read + (outcome.generated.tokens if outcome.generated else 0)

    @property
    def batch_settings(self) -> dict[str, int]:
        """What batches depend on beside the examples, where memory holds them.

        Where it does not, they are smaller. This is no part of these settings, by which a study is
        known again: the batches themselves are frozen when it begins.
        """
        budgets = TOKEN_BUDGETS if self.task.generation is None else GENERATION_TOKEN_BUDGETS
        budget = budgets.get(self.device.type, GPU_TOKEN_BUDGET)
        return {"token_budget": budget, "block_size": BLOCK_SIZE, "seed": self.seed}

    def tokens_in(self, batch: Batch) -> int:
        """What is read of a batch at once, padding counted, before anything is written."""
        layout = lay_out(
            [self.encoded[position] for position in batch.examples],
            prefix_length=len(self.token_prefix),
            shares_context=self.capabilities.shares_context,
            packs=self.capabilities.packs,
            padding_free=self.capabilities.padding_free,
        )
        return len(layout.rows) * layout.length

    def timed_part(self, batch: Batch) -> Batch:
        """As much of a batch as is enough to time paths on."""
        budget = TOKEN_BUDGETS.get(self.device.type, GPU_TOKEN_BUDGET)
        longest = max(len(self.encoded[position].context) for position in batch.examples)
        return Batch(batch.examples[: max(1, budget // longest)])

    def rendered_prompts(self) -> list[str]:
        """All that the model reads, as text: in a chat as its template renders it.

        A template may name the date, and then another day's prompts are other prompts.
        """
        if self.task.protocol is Protocol.CHAT:
            return chat_prompts(self.task, self.examples, self.tokenizer)
        return [text for example in self.examples for text in sum(self.task.requests(example), ())]

    def batches(self, positions: Sequence[int], block_size: int | None = None) -> tuple[Batch, ...]:
        """The canonical batches of some of the examples.

        Where nothing is padded, or much is saved by it, those go together that begin alike.

        Args:
            positions: the examples.
            block_size: by default they are dealt into no blocks.
        """
        deal = self._dealing | {"block_size": block_size or max(1, len(positions))}
        prefix_length = len(self.token_prefix)
        if self.capabilities.padding_free or (self.capabilities.packs and self._begin_alike):
            asked = [self.encoded[position] for position in positions]
            return batches_alike(
                [positions[index] for index in in_order_of_texts(asked)],
                lambda some: tokens_in_row([self.encoded[i] for i in some], prefix_length),
                fewest=FEWEST_BATCHES,
                **deal,
            )
        return canonical_batches(self._sizes(positions), **deal)

    def batches_by(self, losses: Mapping[int, float]) -> tuple[Batch, ...]:
        """Batches of examples by which candidates leave early, who lose where the whole one does.

        Examples go together that are about as hard, unless much is saved by keeping those together
        that begin alike, or hard ones would hardly come earlier: then as `batches` deals them, and
        what was measured on these need not be measured again.

        Args:
            losses: by how much the whole model's value is below the highest on each example.
        """
        usual = self.batches(sorted(losses))
        if self.capabilities.packs and self._begin_alike:
            return usual
        dealt = self.batches_in_order(sorted(losses, key=lambda one: (-losses[one], one)))
        is_earlier = comes_early(dealt, losses) - comes_early(usual, losses) >= LEAST_EARLIER
        return dealt if is_earlier else usual

    def batches_in_order(self, order: Sequence[int]) -> tuple[Batch, ...]:
        """Batches of some of the examples, those first that come first."""
        return batches_in_order(
            order,
            self._sizes(order),
            token_budget=self._dealing["token_budget"],
            pads=not self.capabilities.packs,
            fewest=FEWEST_BATCHES if self.task.generation is None else 1,
        )

    @property
    def _dealing(self) -> dict[str, int]:
        """The settings of batches, with no more tokens than memory holds."""
        settings, most = self.batch_settings, self.facts.tokens_at_once
        if most is not None:
            settings["token_budget"] = min(settings["token_budget"], most)
        return settings

    def _sizes(self, positions: Sequence[int]) -> dict[int, tuple[int, int]]:
        """For each example, the rows it takes and the tokens of its longest row."""
        return {
            position: row_sizes(
                self.encoded[position],
                prefix_length=len(self.token_prefix),
                shares_context=self.capabilities.shares_context,
            )
            for position in positions
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """Measures as another measure does, and has its outcomes judged by a scorer."""

    measure: Measure
    examples: Sequence[Example]
    scorer: Scorer

    def __call__(
        self, paths: Sequence[LayerPath], batches: Sequence[Batch]
    ) -> Iterator[Measurement]:
        """See `telltale.measure.Measure`."""
        with closing(self.measure(paths, batches)) as measurements:
            for measured in measurements:
                outcomes = tuple(
                    self.scorer(self.examples[outcome.example], outcome)
                    for outcome in measured.outcomes
                )
                yield replace(measured, outcomes=outcomes)
