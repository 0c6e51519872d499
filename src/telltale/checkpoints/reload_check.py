"""A program that reloads a checkpoint with plain transformers, compares logits and generates.

Run in a fresh process as ``python reload_check.py CHECKPOINT PROBE DEVICE DTYPE [ADAPTER]``.
Imports torch, transformers and, for an adapter, peft, and never telltale, as whoever uses the
checkpoint would. PROBE is a safetensors file with ``tokens`` (1, length) and the ``logits``
expected at its last positions, DTYPE what the model is loaded in: auto, as it is stored, or such as
float64. Prints a JSON object.
"""

import json
import sys
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

NEW_TOKENS = 8


@torch.inference_mode()
def check(
    folder: str, probe_file: str, device: str, dtype: str, adapter: str | None = None
) -> dict[str, Any]:
    """Differences of the reloaded model, absolute and in logits."""
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, output_loading_info=True
    )
    model = model.to(device).eval()
    if adapter is not None:
        from peft import PeftModel

        PeftModel.from_pretrained(model, adapter).eval()  # in the model, in place of its modules
    AutoTokenizer.from_pretrained(folder)
    probe = load_file(probe_file)
    tokens = probe["tokens"].to(device)
    read = torch.promote_types(model.dtype, torch.float32)
    expected = probe["logits"].to(read)
    # Logits of every position would take gigabytes where the vocabulary and the window are large.
    found = model(tokens, use_cache=False, logits_to_keep=len(expected)).logits[0].to("cpu", read)
    # Without an end token, so that every step is compared whatever the model says.
    generated = model.generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        use_cache=True,
        eos_token_id=-1,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    with_cache = torch.cat(generated.logits).to("cpu", read)
    again = model(generated.sequences, use_cache=False, logits_to_keep=NEW_TOKENS + 1)
    uncached = again.logits[0, :-1].to("cpu", read)
    return {
        "missing": sorted(loading["missing_keys"]),
        "unexpected": sorted(loading["unexpected_keys"]),
        "layers": model.config.get_text_config().num_hidden_layers,
        "dtype": str(model.dtype).removeprefix("torch."),
        "logit_difference": (found - expected).abs().max().item(),
        "cache_difference": (with_cache - uncached).abs().max().item(),
        "largest_logit": expected.abs().max().item(),
        "telltale_imported": "telltale" in sys.modules,
    }


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(json.dumps(check(*sys.argv[1:])))
