"""The tasks by name give lm-evaluation-harness's own log-likelihoods, answers and accuracies.

On tiny models here; benchmarks/harness_agreement.py, whose pieces these are, does it for real ones.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "harness_agreement.py"
# How many questions of each; a tokenizer of 300 words makes long prompts of long texts.
TASKS = {"arc_easy": 5, "boolq": 2, "winogrande": 8, "piqa": 5, "hellaswag": 2, "mmlu": 4}
LONG = ("boolq", "hellaswag", "mmlu")  # with shots; they run with the slow tests
pytestmark = [
    # What the harness and its libraries say of themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def agreement(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The script, with no data set's cache written where the user's are."""
    from datasets import config
    from lm_eval import evaluator

    spec = importlib.util.spec_from_file_location("harness_agreement", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # where its dataclass looks for its types
        patch.setattr(config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        patch.setattr(evaluator, "add_env_info", lambda _: None)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models that take long prompts; one needs its beginning-of-text token and has windows."""
    made = {}
    for family in ("llama", "gemma3"):
        made[family] = tmp_path_factory.mktemp("models") / family
        tiny.save(made[family], family, max_position_embeddings=8192)
    tiny.tokenizer(adds_bos=True).save_pretrained(made["gemma3"])
    return made


@pytest.mark.parametrize(
    ("task", "shots"),
    [
        pytest.param(task, shots, marks=[pytest.mark.slow] if shots and task in LONG else [])
        for task in TASKS
        for shots in (0, 3)
    ],
)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_named_tasks_agree_with_the_harness(
    agreement: Any,
    folders: dict[str, Path],
    shared_tasks: Path,
    family: str,
    task: str,
    shots: int,
) -> None:
    count = TASKS[task]
    cell = agreement.Cell(str(folders[family]), task, shots, shared_tasks, limit=count)
    found = agreement.measured(cell)
    assert found["largest_difference"] < 1e-4
    assert (found["same_answers"], found["same_answers_norm"]) == (count, count)
    assert found["acc"][0] == found["acc"][1]
    assert found["acc_norm"][0] == found["acc_norm"][1]
    assert found["agrees"]


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_model_without_three_layers_agrees_too(
    agreement: Any, folders: dict[str, Path], shared_tasks: Path, family: str
) -> None:
    whole = agreement.Cell(str(folders[family]), "arc_easy", 0, shared_tasks, limit=6)
    without = agreement.Cell(
        str(folders[family]), "winogrande", 3, shared_tasks, removed=(0, 2, 5), limit=6
    )
    assert agreement.measured(without)["agrees"]
    # It can fail: another path than the harness's is told.
    task = agreement.telltale.load_task("arc_easy", data_dir=shared_tasks)
    task = agreement.replace(task, examples=task.examples[:6])
    theirs = agreement.harness(folders[family], whole, task, folders[family].parent)
    ours = agreement.telltale.evaluate(str(folders[family]), task, remove=(0, 2, 5))
    assert not agreement.compared(ours, theirs, task)["agrees"]
