"""Verifying a checkpoint: its logits in a new process against those of the measured path.

The path is driven on the whole model in the checkpoint's precision, on text longer than any sliding
window; the checkpoint is then reloaded by `reload_check`, which knows nothing of telltale.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from telltale.errors import TelltaleError
from telltale.models.load import load_model
from telltale.models.tensors import save_tensors

if TYPE_CHECKING:
    from telltale.models.source import ModelSource
    from telltale.paths import LayerPath

SHORTEST_PROBE = 48
COMPARED = 32  # last positions, which lie past every window
# The allowed difference in logits. In float32 both sides run the same kernels on the same shapes,
# which on some processors give other sums in another process all the same (3e-5 apart was seen):
# then both sides are run in double precision, where nothing but a defect is as large.
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2, "float16": 2e-3}
# With a cache the shapes differ, so rounding does; relative to the largest logit.
CACHE_TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-1, "float16": 2e-2}


@dataclass(frozen=True, slots=True)
class Verification:
    """The largest differences in logits after reloading, over a number of tokens."""

    dtype: str
    tokens: int
    logit_difference: float
    cache_difference: float


def verify_checkpoint(
    checkpoint: Path,
    source: ModelSource,
    path: LayerPath,
    dtype: str,
    device: torch.device,
    adapters: tuple[Path, Path] | None = None,
) -> Verification:
    """Reload a checkpoint and compare it with the path on the whole model.

    Args:
        checkpoint: the folder written.
        source: the whole model.
        path: the layers the checkpoint should have.
        dtype: the checkpoint's precision.
        device: where both are run, one after the other.
        adapters: of the whole model and of the checkpoint, with which each is run; peft applies
            them.

    Raises:
        TelltaleError: it does not load, or is not the model that was measured.
    """
    probe = checkpoint.parent / "probe.safetensors"
    whole, carried = adapters or (None, None)

    def compared(own: torch.dtype, reloaded: str = "auto") -> tuple[int, dict[str, Any]]:
        tokens = _write_probe(probe, source, path, own, device, whole)
        return tokens, _reload(checkpoint, probe, device, reloaded, *([carried] if carried else []))

    tokens, found = compared(getattr(torch, dtype))
    if dtype == "float32" and found["logit_difference"] > TOLERANCE[dtype]:
        _, in_double = compared(torch.float64, "float64")
        found["logit_difference"] = in_double["logit_difference"]
    scale = max(1.0, found["largest_logit"])
    problems = [
        text
        for text, bad in {
            f"its layers are {found['layers']}, not {path.depth}": found["layers"] != path.depth,
            f"it lacks weights such as {found['missing'][:1]}": bool(found["missing"]),
            f"it holds unused weights such as {found['unexpected'][:1]}": bool(found["unexpected"]),
            f"its precision is {found['dtype']}, not {dtype}": found["dtype"] != dtype,
            f"its logits differ from the measured path's by {found['logit_difference']:.1e}": not (
                found["logit_difference"] <= TOLERANCE[dtype] * (1 if dtype == "float32" else scale)
            ),
            f"generating with a cache changes logits by {found['cache_difference']:.1e}": not (
                found["cache_difference"] <= CACHE_TOLERANCE[dtype] * scale
            ),
        }.items()
        if bad
    ]
    if problems:
        raise TelltaleError(
            f"the checkpoint was written but is not the model that was measured: "
            f"{'; '.join(problems)}; it was deleted, please report this model"
        )
    return Verification(dtype, tokens, found["logit_difference"], found["cache_difference"])


def _write_probe(
    probe: Path,
    source: ModelSource,
    path: LayerPath,
    dtype: torch.dtype,
    device: torch.device,
    adapter: Path | None = None,
) -> int:
    """Save tokens and the logits of the path at the last of them; says how many tokens."""
    model = load_model(source, device, dtype)
    if adapter is not None:
        _apply(adapter, model.model)
    config = model.model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    length = max(SHORTEST_PROBE, window + COMPARED)
    # Leave room for what is generated after it.
    length = min(length, (model.longest_input or length + 16) - 16)
    tokens = torch.tensor([[(7919 * i + 11) % model.vocabulary for i in range(max(1, length))]])
    hidden = model.run_path(path, model.prepare(tokens.to(device)))
    logits = model.logits(hidden[0, -COMPARED:])
    save_tensors({"tokens": tokens, "logits": logits.cpu().contiguous()}, probe)
    # The fresh process needs the memory that this model holds.
    del model, hidden, logits
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return tokens.shape[1]


def _apply(adapter: Path, model: Any) -> None:
    """Let peft put an adapter's modules in place of a model's own, where layers find them."""
    from peft import PeftModel

    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.24 for a property by the name that it had before.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        PeftModel.from_pretrained(model, adapter).eval()


def _reload(
    checkpoint: Path, probe: Path, device: torch.device, dtype: str, *adapter: Path
) -> dict[str, Any]:
    program = Path(__file__).with_name("reload_check.py")
    # -I: neither the working folder nor PYTHONPATH can lend the fresh process anything.
    command = [sys.executable, "-I", str(program)]
    command += map(str, (checkpoint, probe, device, dtype, *adapter))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise TelltaleError(
            f"the checkpoint was written but does not load in plain transformers: {lines[-1]}; it "
            "was deleted, please report this model"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
