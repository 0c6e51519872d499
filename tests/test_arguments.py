"""Arguments of the public functions: each is checked, and errors name the parameter."""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import telltale
from telltale import api
from telltale.errors import InputError
from telltale.tasks.datafile import AnswerForm, Fields

if TYPE_CHECKING:
    from telltale.study.request import SearchRequest

PUBLIC = [getattr(api, name) for name in api.__all__]
COUNTS = ("40", "many", 1.5, True, [40])
SHARES = ("x", "0.1", True, [0.1], 1j)
LAYERS = ("3", "0,1", 3, [1.5], ["3"], [True], {3: 1})
PATHS = (["a.csv"], 3, True, b"a")
SWITCHES = ("yes", 1)
NAMES = (3, ["a"], Path("a"))

# For each parameter of a function, what it refuses.
WRONG: dict[str, dict[str, tuple[Any, ...]]] = {
    "load_task": {
        "task": NAMES,
        "data": PATHS,
        "data_dir": PATHS,
        "split": NAMES,
        "shots": COUNTS,
        "seed": COUNTS,
        "protocol": NAMES,
        "prompt": NAMES,
        "scoring": NAMES,
        "extract": NAMES,
        "scorer": (3, ["a"]),
        "metric": NAMES,
        "stop": (3, [3], {"a": 1}),
        "max_new_tokens": COUNTS,
        "fields": ({"question": "q"}, "q", Fields(question=3), Fields(answer_form="x")),  # type: ignore[arg-type]
        "skip_bad_rows": SWITCHES,
    },
    "search": {
        "model": NAMES,
        "task": (3, ["capitals"], None, {"capitals": 1}),
        "out": PATHS,
        "limit": COUNTS,
        "held_out": COUNTS,
        "final": COUNTS,
        "search": (3, ["greedy"], abs),
        "objective": (3, ["accuracy"], abs),
        "guards": ("boolq:0.1", ["boolq"], [("boolq", "0.1")], {"boolq": True}, {3: 0.1}, 3),
        "tolerance": SHARES,
        "max_removed": COUNTS,
        "protect": LAYERS,
        "max_loss": SHARES,
        "confidence": SHARES,
        "speed": NAMES,
        "scoring": NAMES,
        "shortlist": NAMES,
        "paper": SWITCHES,
        "target_speedup": SHARES,
        "max_latency_ms": SHARES,
        "max_memory": ("much", "2 XB", "-1", -1, 1.5, True, "", ["2GiB"]),
        "max_parameters": ("many", "1T", "-1", 1.5, True, "", "M", ["1M"]),
        "price": ("much", "accuracy", "accuracy=", "accuracy=1,", "a=b", 3, True, ["accuracy=1"]),
        "truncate": (True, 3),
        "device": (0,),
        "dtype": (np.float32,),
        "memory": ("much", "2 XB", "-1", -1, 1.5, True, "", "GiB", "nan", ["2GiB"]),
        "adapter": PATHS,
        "revision": NAMES,
        "trust_remote_code": SWITCHES,
        "seed": COUNTS,
        "text": PATHS,
        "resume_anyway": SWITCHES,
        "track": (3, [3], {"wandb": 1}),
        "watcher": (print, "screen"),
        "runner": (3, "local"),
    },
    "evaluate": {"remove": LAYERS, "limit": COUNTS, "scoring": NAMES},
    "explain": {"remove": LAYERS, "limit": COUNTS, "pairs": SWITCHES, "pick": (True, 1.5)},
    "compare": {
        "methods": (3, [3], {"greedy": 1}),
        "depths": LAYERS,
        "limit": COUNTS,
        "against": NAMES,
    },
    "stability": {"sizes": LAYERS, "resamples": COUNTS, "limit": COUNTS, "protect": LAYERS},
    "export": {
        "study": PATHS,
        "pick": (True, 1.5, ["best"]),
        "to": PATHS,
        "dtype": (3,),
        "carry": PATHS,
    },
    "bench": {
        "model": NAMES,
        "against": NAMES,
        "pick": (True, 1.5),
        "prompt_lengths": LAYERS,
        "batch_sizes": LAYERS,
        "new_tokens": COUNTS,
        "repeats": COUNTS,
        "engine": NAMES,
        "threads": COUNTS,
    },
    "plan": {"model": NAMES, "out": PATHS, "limit": COUNTS, "protect": LAYERS},
    "preview": {"count": COUNTS, "model": NAMES},
    "transfer": {
        "studies": (3, [3], {"a": 1}),
        "tasks": (3, [3], {"capitals": 1}),
        "data": (3, [3]),
        "data_dir": PATHS,
        "limit": COUNTS,
        "pick": (True, 1.5),
    },
    "tune": {
        "train": (3, ["a.jsonl"], True),
        "regime": NAMES,
        "compare": SWITCHES,
        "seeds": COUNTS,
        "output": NAMES,
        "remove": LAYERS,
        "pick": (True, 1.5),
        "rank": COUNTS,
        "alpha": SHARES,
        "dropout": SHARES,
        "targets": (3, [3], {"q_proj": 1}),
        "learning_rate": SHARES,
        "epochs": COUNTS,
        "max_steps": COUNTS,
        "batch_size": COUNTS,
        "micro_batch": COUNTS,
        "loss": NAMES,
        "patience": COUNTS,
        "four_bit": SWITCHES,
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "load_task": {"task": "capitals"},
    "search": {"model": "m", "task": "capitals", "out": "s"},
    "compare": {"model": "m", "task": "capitals", "methods": ["greedy"], "depths": [2], "out": "s"},
    "stability": {"model": "m", "task": "capitals", "out": "s"},
    "evaluate": {"model": "m", "task": "capitals"},
    "explain": {"model": "m", "task": "capitals", "out": "s"},
    "export": {"study": "s", "to": "t"},
    "bench": {"model": "m"},
    "plan": {"model": "m", "task": "capitals", "out": "s"},
    "preview": {"task": "capitals"},
    "transfer": {"studies": ["s"], "tasks": ["capitals"], "out": "t"},
    "tune": {"model": "m", "task": "capitals", "out": "s"},
}


@pytest.mark.parametrize(
    ("function", "name", "value"),
    [
        (function, name, value)
        for function, names in WRONG.items()
        for name, values in names.items()
        for value in values
    ],
)
def test_a_wrong_argument_is_named_with_what_is_allowed_and_what_was_given(
    function: str, name: str, value: Any
) -> None:
    with pytest.raises(InputError, match=rf"^`{name}` must be .*, got ") as told:
        getattr(telltale, function)(**{**GOOD[function], name: value})
    assert "\n" not in str(told.value)
    assert "--" not in str(told.value)


def test_the_message_says_what_is_counted() -> None:
    with pytest.raises(InputError, match=r"^`limit` must be a whole number of examples, got '40'$"):
        telltale.search("m", "capitals", out="s", limit="40")  # type: ignore[arg-type]


def test_every_parameter_of_every_public_function_is_among_the_wrong_ones() -> None:
    tried = {name for names in WRONG.values() for name in names}
    of_all = {name for one in PUBLIC for name in inspect.signature(one).parameters}
    assert of_all - {"asked"} == tried
    assert len(PUBLIC) == len(WRONG)


def test_numbers_of_numpy_and_others_are_taken_as_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def stop(request: SearchRequest) -> None:
        seen.update(asdict(request))
        raise InputError("enough")

    monkeypatch.setattr(api, "opened", stop)
    with pytest.raises(InputError, match="enough"):
        telltale.search(
            "m",
            "capitals",
            out=tmp_path,
            limit=np.int64(40),
            tolerance=np.float32(0.5),
            max_loss=Fraction(1, 4),  # type: ignore[arg-type]
            confidence=np.float64(0.9),
            protect=np.array([0, 3]),
            guards={"boolean_expressions": 0},
        )
    wanted = {
        "limit": 40,
        "tolerance": 0.5,
        "max_loss": 0.25,
        "confidence": 0.9,
        "protect": (0, 3),
        "guards": (("boolean_expressions", 0.0),),
    }
    assert {name: seen[name] for name in wanted} == wanted
    assert [type(seen[name]) for name in ("limit", "tolerance")] == [int, float]


def test_one_text_alone_is_one_and_not_as_many_as_it_has_letters(tmp_path: Path) -> None:
    given = {"protocol": "text", "stop": "END"}
    task = telltale.load_task("capitals", **given)  # type: ignore[arg-type]
    assert task.generation is not None
    assert task.generation.stop == ("END",)
    with pytest.raises(InputError, match=r"^`track` must be trackio, .*, got 'mine'"):
        telltale.search("m", "capitals", out=tmp_path / "s", track="mine")


def test_an_answer_form_may_be_given_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("question,choice_1,choice_2,answer\nq,x,y,1\n")
    for form in ("number", AnswerForm.NUMBER):
        fields = Fields(answer_form=form)  # type: ignore[arg-type]
        assert telltale.load_task(data=file, fields=fields).examples[0].answer == 0


@pytest.mark.parametrize("name", ["limt", "track", "resume"])
def test_a_parameter_that_is_not_there_is_pythons_own_error(name: str) -> None:
    with pytest.raises(TypeError, match=rf"stability\(\) got an unexpected keyword .*'{name}'"):
        telltale.stability("m", "capitals", out="s", **{name: 1})
    with pytest.raises(TypeError, match=r"search\(\) missing 1 required keyword-only argument"):
        telltale.search("m", "capitals")  # type: ignore[call-arg]


CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "a small set": ("search", {"limit": 5}, "`limit` must be at least 20, got 5"),
    "confidence in percent": (
        "search",
        {"confidence": 95},
        "`confidence` must be in [0.5, 1), got 95",
    ),
    "a tolerance": (
        "search",
        {"tolerance": float("nan")},
        "`tolerance` must be in [0, 1], got nan",
    ),
    "a speed": (
        "search",
        {"speed": "fastest"},
        "`speed` must be full, exact or fast, got 'fastest'",
    ),
    "the published method": (
        "search",
        {"paper": True, "objective": "margin"},
        "`paper` is the published method: it searches greedily, ranks by accuracy, guards "
        "nothing, calibrates nothing and tries all; leave out `search`, `objective`, `guards`, "
        "`scoring` and `shortlist`",
    ),
    "a guard": (
        "search",
        {"guards": {"boolean_expressions": 2}},
        "the share of `guards` boolean_expressions must be in [0, 1), got 2",
    ),
    "no example": ("evaluate", {"limit": 0}, "`limit` must be at least 1, got 0"),
    "no part": ("stability", {"resamples": 1}, "`resamples` must be at least 2, got 1"),
    "no question": ("preview", {"count": 0}, "`count` must be at least 1, got 0"),
    "no shots": ("load_task", {"shots": -1}, "`shots` must be at least 0, got -1"),
    "no tokens": ("load_task", {"max_new_tokens": 0}, "`max_new_tokens` must be at least 1, got 0"),
    "two tasks": ("load_task", {"data": "x.csv"}, "give either a task's name or `data` FILE"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_from_below_name_the_parameter(case: str, tmp_path: Path, tiny_folder: Path) -> None:
    function, changes, message = CASES[case]
    given = {**GOOD[function], **changes}
    given |= {"out": tmp_path / "s"} if "out" in given else {}
    given |= {"model": str(tiny_folder)} if "model" in given else {}
    with pytest.raises(InputError) as told:
        getattr(telltale, function)(**given)
    assert str(told.value).startswith(message)
    assert "--" not in str(told.value)


def test_fields_are_named_as_what_they_are_part_of(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_text("a,b\nx,y\n")
    with pytest.raises(InputError, match=r"only 'a', 'b'; name it with `fields\.question`$"):
        telltale.load_task(data=file)


def test_no_module_has_the_name_of_a_public_function() -> None:
    """An import of the module would put it in the function's place."""
    modules = {module.name for module in pkgutil.iter_modules(telltale.__path__)}
    functions = {name for name in telltale.__all__ if inspect.isfunction(getattr(telltale, name))}
    assert {"search", "preview", "export"} <= functions
    assert not modules & functions


def test_questions_can_be_previewed_twice() -> None:
    assert telltale.preview("capitals", 1) == telltale.preview("capitals", 1)
