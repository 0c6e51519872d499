"""What is needed to repeat a study: its settings, and a command that asks the same."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from telltale.evidence.calibration import CALIBRATED
from telltale.evidence.targets import targets_from
from telltale.objectives import OBJECTIVES
from telltale.searches import SEARCHES, name_of, search_of
from telltale.support.plain import printable
from telltale.tasks.loading import HARNESS, HUB
from telltale.tasks.named import NAMED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telltale.evidence.result import Searched
    from telltale.study.reading import StoredStudy

SPOKEN = {
    "sha256": "SHA-256",
    "dtype": "precision",
    "from_gguf": "converted from GGUF",
    "held_out_examples": "held-out examples",
    "max_new_tokens": "most new tokens",
    "max_loss": "most loss",
    "max_removed": "most layers removed",
}
HIDDEN = ("given", "adapter_given", "guards", "trust_remote_code")


def settings_tables(study: StoredStudy, searched: Searched) -> dict[str, list[tuple[str, str]]]:
    """Every setting by the thing that it is of, as pairs of name and value."""
    asked = dict(searched.model)
    found = {
        "Model": settings_pairs(asked),
        "Task": settings_pairs(searched.task),
        "Search": settings_pairs(searched.settings),
    }
    guards = (study.asked or {}).get("guards", [])
    if guards:
        found["Guards"] = [(guard["task"], _guard(guard)) for guard in guards]
    measured = []
    if study.result is not None:
        text = study.result.text
        measured.append(("fingerprint", study.result.fingerprint))
        measured.append(("ordinary text", f"{text.name}, SHA-256 {text.sha256}"))
    measured += _versions(study.versions)
    found["Measured with"] = measured
    return {name: pairs for name, pairs in found.items() if pairs}


def _guard(guard: Mapping[str, Any]) -> str:
    return (
        f"no model is kept whose accuracy on {guard['search_examples']} examples is more than "
        f"{100 * guard['most_loss']:g} points below the whole model's, which is observed and no "
        f"bound; {guard['held_out_examples']} others say what is lost at most"
    )


def settings_pairs(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Settings as a reader has them: those that were not set are left out."""
    return [
        (SPOKEN.get(name, name.replace("_", " ")), _shown(value))
        for name, value in settings.items()
        if name not in HIDDEN and value is not None
    ]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, str):
        return repr(value) if value != value.strip() else printable(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _versions(runs: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The libraries of the runs, each set of versions once."""
    seen = []
    for versions in runs:
        words = ", ".join(f"{name} {version}" for name, version in versions.items())
        if words not in seen:
            seen.append(words)
    return [
        ("libraries" if len(seen) == 1 else f"libraries {i + 1}", one) for i, one in enumerate(seen)
    ]


def command(searched: Searched) -> str | None:
    """The command that asks the same, as far as it can be told; None where nothing was asked yet.

    What the file does not say is where data lie, and whether a scorer of one's own judged.
    """
    if not searched.model or not searched.settings or search_of(searched.settings) is None:
        return None  # no command has a search of one's own
    # A model with an adapter is called by both.
    name = str(searched.model["name"]).removesuffix(f" + {searched.model.get('adapter')}")
    parts = ["telltale", "search", name, *_task(searched)]
    parts += ["--out", "STUDY"]
    parts += _options(searched)
    return printable(shlex.join(parts))


def _search(settings: Mapping[str, Any]) -> str | None:
    """The search's name, where it has one and is not what is run if nothing is said."""
    search = search_of(settings)
    name = None if search is None else name_of(search)
    return None if name == next(iter(SEARCHES)) else name


def _task(searched: Searched) -> list[str]:
    """The task and how it is asked, which several tasks say for each, and a harness for its own."""
    task = searched.task
    name = str(task["name"])
    metric = (task.get("scorer") or {}).get("metric")
    if name.startswith(HARNESS) and metric is not None:
        return [name, "--shots", str(task["shots"]), "--metric", str(metric)]
    if HARNESS in name or "," in name:
        return [name]
    given = [name] if name in NAMED or name.startswith(HUB) else ["--data", name]
    given += ["--prompt", str(task["prompt"])]
    if task.get("shots"):
        given += ["--shots", str(task["shots"])]
    if task["protocol"] == "loglik":
        calibrates = searched.settings.get("scoring") == CALIBRATED
        return [*given, "--scoring", f"{task['scoring']}{f',{CALIBRATED}' if calibrates else ''}"]
    given += ["--protocol", str(task["protocol"]), "--extract", str(task["extract"])]
    for stop in task["stop"]:
        given += ["--stop", stop.replace("\n", "\\n")]
    return [*given, "--max-new-tokens", str(task["max_new_tokens"])]


def _options(searched: Searched) -> list[str]:
    task, settings = searched.task, searched.settings
    given = {
        "--limit": task["search_examples"],
        "--held-out": task["held_out_examples"],
        "--final": task.get("final_examples"),
        "--search": _search(settings),
        "--objective": settings["objective"] if settings["objective"] in OBJECTIVES else None,
        "--tolerance": f"{settings['tolerance']:g}",
        "--max-removed": settings["max_removed"],
        "--protect": ",".join(map(str, settings["protected"])) or None,
        "--max-loss": f"{settings['max_loss']:g}",
        "--confidence": f"{settings['confidence']:g}",
        "--seed": task["seed"],
        "--truncate": None if task["truncate"] == "no" else task["truncate"],
        "--dtype": searched.model.get("dtype"),
        "--adapter": searched.model.get("adapter"),
        "--revision": searched.model.get("revision"),
    }
    options = [
        word for name, value in given.items() if value is not None for word in (name, str(value))
    ]
    for name, value in targets_from(settings).asked.items():
        options += [f"--{name.replace('_', '-')}", f"{value:.10g}"]
    if price := settings.get("price"):
        options += ["--price", ",".join(f"{name}={value:g}" for name, value in price.items())]
    for guard in settings.get("guards", ()):
        options += ["--guard", f"{guard['task']}:{guard['most_loss']:g}"]
    return options
