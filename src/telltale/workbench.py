"""A model and its examples, made ready to measure when first needed.

Knows nothing of searches or studies. Each part is made once, on first use, so that reading a
finished study loads no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from telltale.engine.batches import BLOCK_SIZE, canonical_batches
from telltale.engine.encode import EncodedExample, common_token_prefix, encode_examples
from telltale.engine.layout import row_sizes
from telltale.engine.selftest import find_capabilities
from telltale.engine.shared import Capabilities, SharedEngine
from telltale.models.load import choose_device, choose_dtype, load_model, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from telltale.measure import Batch
    from telltale.models.layered import LayeredModel
    from telltale.models.source import ModelSource
    from telltale.tasks import Example, Scoring

TOKEN_BUDGET = {"cpu": 512}  # a CPU's caches are small; measured on two cores
GPU_TOKEN_BUDGET = 16384


@dataclass(frozen=True)
class Workbench:
    """What measuring needs, each part on first use.

    ``capabilities`` are found by trying them unless they are given, as a study that goes on does.
    """

    source: ModelSource
    examples: Sequence[Example]
    scoring: Scoring
    delimiter: str
    device_name: str = "auto"
    dtype_name: str = "auto"
    seed: int = 0
    known_capabilities: list[bool] | None = field(default=None)

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs."""
        return choose_device(self.device_name)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The precision it runs in."""
        return choose_dtype(self.dtype_name, self.device)

    @cached_property
    def model(self) -> LayeredModel:
        """The loaded model."""
        return load_model(self.source, self.device, self.dtype)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return load_tokenizer(self.source)

    @cached_property
    def encoded(self) -> tuple[EncodedExample, ...]:
        """The examples as tokens."""
        return encode_examples(
            self.examples,
            self.tokenizer,
            delimiter=self.delimiter,
            longest=self.model.longest_input,
        )

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the architecture can do on inputs as long as these."""
        if self.known_capabilities is not None:
            return Capabilities(*self.known_capabilities)
        return find_capabilities(
            self.model,
            longest=max(len(example.context) for example in self.encoded),
            branch=max(len(choice) for example in self.encoded for choice in example.choices),
        )

    @cached_property
    def engine(self) -> SharedEngine:
        """The engine that measures these examples."""
        return SharedEngine(
            self.model,
            self.encoded,
            self.scoring,
            capabilities=self.capabilities,
            token_prefix=common_token_prefix(self.encoded),
        )

    @property
    def batch_settings(self) -> dict[str, int]:
        """What batches depend on beside the examples."""
        budget = TOKEN_BUDGET.get(self.device.type, GPU_TOKEN_BUDGET)
        return {"token_budget": budget, "block_size": BLOCK_SIZE, "seed": self.seed}

    def batches(self, positions: Sequence[int]) -> tuple[Batch, ...]:
        """The canonical batches of some of the examples."""
        prefix_length = len(self.engine.token_prefix)
        sizes = {
            position: row_sizes(
                self.encoded[position],
                prefix_length=prefix_length,
                shares_context=self.capabilities.shares_context,
            )
            for position in positions
        }
        return canonical_batches(sizes, **self.batch_settings)
