"""Explanations made of numbers alone: seeded, of any shape that a real one may have."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from telltale.evidence.explanation import (
    ADDS,
    CANNOT_TELL,
    MEASURES,
    SUPPRESSES,
    Bits,
    Explanation,
    LayerExplained,
    PairMap,
    Predicted,
    Read,
)


@dataclass(frozen=True)
class MadeExplanation:
    """What to make: information rises to ``most`` at two thirds of the layers and then stays.

    ``drops`` are layers that suppress; ``measured`` says whether single removals were.
    """

    layers: int = 30
    removed: tuple[int, ...] = ()
    drops: tuple[int, ...] = (11, 17)
    classes: tuple[str, ...] = ("negative", "positive")
    most: float = 0.6
    pairs: int = 0
    measured: bool = True
    model: str = "tiny-llama"
    task: str = "sst2"
    conclusions: tuple[str, ...] = (
        "Layers 11 and 17 suppress what the state says of the answer.",
        "Block influence predicts what leaving out a layer costs; the other measures do not.",
    )
    cautions: tuple[str, ...] = ("The examples are few: intervals are wide",)
    seed: int = 0

    def made(self) -> Explanation:
        """The explanation."""
        chance = random.Random(self.seed)
        whole = self._layers(chance, ())
        path = self._layers(chance, self.removed) if self.removed else whole
        size = math.log2(len(self.classes)) if self.classes else None
        return Explanation(
            model={
                "name": self.model,
                "revision": None,
                "sha256": "a" * 64,
                "layers": self.layers,
                "dtype": "float32",
            },
            task={"name": self.task, "protocol": "choices", "examples": 200},
            removed=self.removed,
            classes=self.classes,
            entropy=size,
            accuracy=0.665 if self.removed else 0.58,
            before=self._read(chance, 0.02, None),
            layers=path,
            whole=whole,
            whole_accuracy=0.58,
            predictions=self._predictions(chance) if self.measured else {},
            pairs=self._pairs(chance) if self.pairs else None,
            conclusions=self.conclusions,
            cautions=self.cautions,
            cost={"seconds": 184.2, "layer_tokens": 1_234_567},
        )

    def _layers(
        self, chance: random.Random, removed: tuple[int, ...]
    ) -> tuple[LayerExplained, ...]:
        found, level, top = [], 0.02, max(1, 2 * self.layers // 3)
        for layer in range(self.layers):
            if layer in removed:
                found.append(LayerExplained(layer))
                continue
            before = level
            level += -0.13 if layer in self.drops else (self.most + 0.13 * len(self.drops)) / top
            level = max(min(level, self.most) + chance.gauss(0, 0.006), 0.0)
            found.append(self._layer(chance, layer, level, level - before))
        return tuple(found)

    def _layer(
        self, chance: random.Random, layer: int, level: float, change: float
    ) -> LayerExplained:
        probe = self._read(chance, level, change)
        verdict = None
        if probe.change is not None:
            low, high = probe.change.interval
            verdict = ADDS if low > 0 else SUPPRESSES if high < 0 else CANNOT_TELL
        late = 1 / (1 + math.exp(-(layer - 0.75 * self.layers) / 2))
        return LayerExplained(
            layer,
            probe,
            self._read(chance, 0.85 * level, change + chance.gauss(0, 0.02)),
            verdict,
            lens_accuracy=0.5 + 0.15 * late + chance.gauss(0, 0.012),
            lens_bits=(-0.4 + 0.6 * late + chance.gauss(0, 0.03)) if self.classes else None,
            measures={name: chance.gauss(0.1, 0.1) for name in MEASURES},
            single_removal=0.55 + chance.gauss(0, 0.03) if self.measured else None,
            single_likelihood=-0.7 + chance.gauss(0, 0.05) if self.measured else None,
        )

    def _read(self, chance: random.Random, level: float, change: float | None) -> Read:
        if not self.classes:
            return Read()
        half, null = 0.05 + 0.02 * chance.random(), abs(chance.gauss(0, 0.01))
        return Read(
            Bits(level, (level - half, level + half), null),
            None
            if change is None
            else Bits(change, (change - 0.6 * half, change + 0.6 * half), chance.gauss(0, 0.01)),
        )

    def _predictions(self, chance: random.Random) -> dict[str, Predicted]:
        found = {}
        for name in (*(["information"] if self.classes else []), *MEASURES):
            strong = name in ("block_influence", "taylor_absolute")
            rank = 0.72 + 0.05 * chance.random() if strong else chance.uniform(-0.3, 0.3)
            p = 0.0004 if strong else chance.uniform(0.1, 0.9)
            chosen = chance.randrange(len(self.removed) + 1) if self.removed else None
            found[name] = Predicted(rank, p, min(1.0, 8 * p), chosen)
        return found

    def _pairs(self, chance: random.Random) -> PairMap:
        layers = tuple(range(self.pairs))
        by_likelihood = [[0.0] * self.pairs for _ in layers]
        by_accuracy = [[0.0] * self.pairs for _ in layers]
        for one in layers:
            for other in range(one):
                value = chance.gauss(0.02, 0.05) * math.exp(-(one - other) / 6)
                by_likelihood[one][other] = by_likelihood[other][one] = value
                share = round(40 * value) / 200
                by_accuracy[one][other] = by_accuracy[other][one] = share
        return PairMap(layers, tuple(map(tuple, by_likelihood)), tuple(map(tuple, by_accuracy)))
