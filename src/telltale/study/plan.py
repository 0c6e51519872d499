"""The plan that a study freezes when it begins: batches, capabilities, the model's size.

In low precision another batch can flip an answer, and another run might find other capabilities; so
both are found once, and kept. Who runs it is `telltale.study.measuring`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from telltale.engine.batches import blocks_of
from telltale.measure import Batch
from telltale.paths import LayerPath
from telltale.support.files import sha256_of_json
from telltale.tasks.sets import SEARCH, role_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from telltale.study.records import Records
    from telltale.tasks.sets import Role

# What decides a result, beside the study's identity.
DECIDES = ("attention", "capabilities", "guard_capabilities", "batches")


@dataclass(frozen=True, slots=True)
class Plan:
    """A study's plan.

    Attributes:
        layers: the model's.
        parameters: the whole model's.
        layer_parameters: each layer's.
        attention: which implementation of attention the model runs.
        capabilities: what the architecture can share on the task's examples.
        absences: of each capability that measuring goes without, its name and reason, the guards'
            too.
        guard_capabilities: the capabilities on each guard's examples.
        token_prefix: how many tokens every prompt begins with.
        search_tokens: the tokens of the search set.
        truncated: how many prompts lost their beginning.
        batches: each set's; in random blocks only the search set's, where it is not dealt anew.
        deals: whether the search set is dealt into batches anew, once it is known how hard each
            example is for the whole model.
        dealt: these batches, the hardest first; empty where there are none yet.
        blocks: where candidates are raced, the search set's batches in small random blocks.
    """

    layers: int
    parameters: int
    layer_parameters: tuple[int, ...]
    attention: str
    capabilities: tuple[bool, ...]
    absences: tuple[tuple[Any, ...], ...]
    guard_capabilities: tuple[tuple[bool, ...], ...]
    token_prefix: int
    search_tokens: int
    truncated: int
    batches: Mapping[Role, tuple[Batch, ...]] = field(hash=False)
    deals: bool = False
    dealt: tuple[Batch, ...] = ()
    blocks: tuple[Batch, ...] = ()

    def batches_of(self, role: Role) -> tuple[Batch, ...]:
        """The batches in which a set is measured; the search set's as they are dealt last."""
        return (role == SEARCH and (self.blocks or self.dealt)) or self.batches[role]

    @property
    def whole(self) -> LayerPath:
        """The path through every layer."""
        return LayerPath.whole(self.layers)

    def parameters_of(self, path: LayerPath) -> int:
        """How many parameters a path has, embeddings and all."""
        return self.parameters - sum(self.layer_parameters[layer] for layer in path.removed)

    def fingerprint(self, identity: Mapping[str, Any]) -> str:
        """All that decides a result but the settings, as one hash."""
        document = json.loads(json.dumps(self.document()))
        return sha256_of_json({"identity": identity, **{name: document[name] for name in DECIDES}})

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "layers": self.layers,
            "parameters": self.parameters,
            "layer_parameters": list(self.layer_parameters),
            "attention": self.attention,
            "capabilities": list(self.capabilities),
            "absences": [list(absence) for absence in self.absences],
            "guard_capabilities": [list(one) for one in self.guard_capabilities],
            "token_prefix": self.token_prefix,
            "search_tokens": self.search_tokens,
            "truncated": self.truncated,
            "batches": {
                role: [list(batch.examples) for batch in of_role]
                for role, of_role in self.batches.items()
            },
            "deals": self.deals,
        }


def plan_of(records: Records) -> Plan | None:
    """The plan that a study's records hold; None where it has not begun."""
    document = records.fact("plan")
    if document is None:
        return None
    plan = plan_from(document, records.fact("identity"), records.fact("dealt"))
    is_raced = (records.fact("search") or {}).get("speed") == "fast"
    return replace(plan, blocks=blocks_from(records.fact("blocks") or ()) if is_raced else ())


def blocks_from(known: Iterable[tuple[int, Sequence[int]]]) -> tuple[Batch, ...]:
    """Batches, each given by its block and its examples."""
    return tuple(Batch(tuple(examples), block) for block, examples in known)


def plan_from(
    document: Mapping[str, Any],
    identity: Mapping[str, Any],
    dealt: Sequence[Sequence[int]] | None,
) -> Plan:
    """The plan that a study's file has.

    Args:
        document: what `Plan.document` gave.
        identity: the study's, which says how examples were dealt into blocks.
        dealt: the search set's batches that were dealt anew, if they were.
    """
    deals = document.get("deals", False)
    batches = {
        role_from(name): tuple(Batch(tuple(one)) for one in found)
        for name, found in document["batches"].items()
    }
    if not deals:
        batches[SEARCH] = _in_blocks(batches[SEARCH], identity["batches"])
    return Plan(
        layers=document["layers"],
        parameters=document["parameters"],
        layer_parameters=tuple(document["layer_parameters"]),
        attention=document["attention"],
        capabilities=tuple(document["capabilities"]),
        absences=tuple(map(tuple, document.get("absences", ()))),
        guard_capabilities=tuple(map(tuple, document.get("guard_capabilities", ()))),
        token_prefix=document["token_prefix"],
        search_tokens=document["search_tokens"],
        truncated=document["truncated"],
        batches=batches,
        deals=deals,
        dealt=tuple(Batch(tuple(one)) for one in dealt or ()),
    )


def _in_blocks(batches: Sequence[Batch], deal: Mapping[str, int]) -> tuple[Batch, ...]:
    """Batches with their blocks, which a file does not hold, since the deal says them."""
    blocks = blocks_of(
        [position for batch in batches for position in batch.examples],
        block_size=deal["block_size"],
        seed=deal["seed"],
    )
    return tuple(replace(batch, block=blocks[batch.examples[0]]) for batch in batches)
