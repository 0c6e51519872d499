"""What libraries say of themselves never reaches the user's screen, whatever their release.

Run with the lowest, the locked and the newest releases: `make test-lowest`, `test`, `test-newest`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from telltale.checkpoints import reload_check
from tests import tiny
from tests.studies import PAGE, search_arguments

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import json, sys
from telltale.cli.commands import main

for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as ended:
        assert not ended.code, arguments
"""


def in_a_process(*arguments: Any) -> subprocess.CompletedProcess[str]:
    """A Python of its own, which shows warnings as it does when nobody has said otherwise."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=600, env=environment
    )


def assert_quiet(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr + done.stdout
    assert "deprecated" not in (done.stderr + done.stdout).lower()


@pytest.mark.parametrize(
    "family",
    ["llama", *(pytest.param(family, marks=pytest.mark.slow) for family in ("gemma3", "gpt2"))],
)
def test_commands_show_no_warnings_of_libraries(family: str, tmp_path: Path) -> None:
    model, study = tiny.save(tmp_path / "model", family), tmp_path / "study"
    rows = [{"question": f"{a} and {a}?", "answer": str(2 * a)} for a in range(30)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asking = [
        "--data",
        str(tmp_path / "sums.jsonl"),
        "--protocol",
        "text",
        "--prompt",
        "{question}",
    ]
    writes = ["--limit", "10", "--max-new-tokens", "4", *asking]
    commands = [
        search_arguments(model, study, "--max-removed", "1", "--tolerance", "1"),
        ["show", str(study)],
        ["export", str(study), "--pick", "1", "--to", str(tmp_path / "smaller")],
        ["eval", str(model), *writes, "--remove", "2", "--text", str(PAGE)],
    ]
    done = in_a_process("-c", PROGRAM, json.dumps(commands))
    assert_quiet(done)
    assert "Verified" in done.stdout


def test_reloading_a_checkpoint_shows_no_warnings_of_libraries(
    tiny_folder: Path, tmp_path: Path
) -> None:
    tokens = torch.arange(1, 41)[None]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()(tokens).logits[0]
    save_file({"tokens": tokens, "logits": logits}, tmp_path / "probe.safetensors")
    probe = tmp_path / "probe.safetensors"
    done = in_a_process("-I", reload_check.__file__, tiny_folder, probe, "cpu", "auto")
    assert_quiet(done)
    assert json.loads(done.stdout)["logit_difference"] <= 1e-5


def test_a_warning_that_is_shown_would_be_seen() -> None:
    done = in_a_process("-c", "import warnings; warnings.warn('old', FutureWarning)")
    with pytest.raises(AssertionError, match="Warning"):
        assert_quiet(done)
