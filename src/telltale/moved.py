"""Old names of modules and of what is in them: they work with a warning until release 0.2.

What they stand for is imported when it is asked for by an old name.
"""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.util import spec_from_loader
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

GONE_IN = "0.2"

MODULES = {
    "telltale.arguments": "telltale.support.arguments",
    "telltale.bounded": "telltale.evidence.bounded",
    "telltale.cautions": "telltale.evidence.cautions",
    "telltale.columns": "telltale.cli.columns",
    "telltale.elsewhere": "telltale.engine.perplexity",
    "telltale.evaluation": "telltale.study.evaluation",
    "telltale.exact": "telltale.evidence.exact",
    "telltale.files": "telltale.support.files",
    "telltale.home": "telltale.support.home",
    "telltale.ledger": "telltale.study.ledger",
    "telltale.options": "telltale.cli.options",
    "telltale.plain": "telltale.support.plain",
    "telltale.previews": "telltale.engine.previews",
    "telltale.question": "telltale.study.question",
    "telltale.reading": "telltale.study.reading",
    "telltale.records": "telltale.study.records",
    "telltale.remembering": "telltale.study.measuring",
    "telltale.resampling": "telltale.study.stability",
    "telltale.result": "telltale.evidence.result",
    "telltale.scratch": "telltale.support.scratch",
    "telltale.screen": "telltale.cli.screen",
    "telltale.search_options": "telltale.cli.search_options",
    "telltale.searches.removal": "telltale.searches",
    "telltale.selection": "telltale.evidence.selection",
    "telltale.settings": "telltale.study.settings",
    "telltale.showing": "telltale.cli.showing",
    "telltale.stats": "telltale.evidence.stats",
    "telltale.throughput": "telltale.engine.speed",
    "telltale.waiting": "telltale.support.waiting",
    "telltale.wheels": "telltale.support.wheels",
    "telltale.words": "telltale.support.words",
    "telltale.workbench": "telltale.engine.workbench",
}
# Of modules whose old names are folders now: in which module each name is.
NAMES = {
    "telltale.evidence": {"generation_counts": "telltale.evidence.comparison"},
    "telltale.study": {
        "RESULT_FILE": "telltale.study.run",
        **dict.fromkeys(
            ("COMPARING", "LIBRARIES", "chosen_by", "library_versions", "open_study"),
            "telltale.study.opening",
        ),
        "search_name": "telltale.study.opening",
    },
}


def find_moved_modules() -> None:
    """Let ``import`` find `MODULES` by their old names, where nothing else has such a name."""
    sys.meta_path.append(_Moved())


def moved_name(module: str, name: str) -> Any:
    """What a name of `NAMES` stands for, to be called by the ``__getattr__`` of its old module.

    Raises:
        AttributeError: the module never had it.
    """
    home = NAMES[module].get(name)
    if home is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    message = _message(f"{module}.{name}", f"{home}.{name}")
    warnings.warn(message, DeprecationWarning, stacklevel=3)  # at who called __getattr__
    return getattr(import_module(home), name)


class _Moved(MetaPathFinder, Loader):
    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        message = _message(old, MODULES[old])
        warnings.warn(message, DeprecationWarning, stacklevel=2)  # Python leaves out its own frames
        sys.modules[old] = import_module(MODULES[old])  # which is what import then gives


def _message(old: str, new: str) -> str:
    return f"{old} is {new} now; the old name goes in release {GONE_IN}"
