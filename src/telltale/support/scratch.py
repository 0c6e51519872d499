"""Temporary folders in the cache; those that killed runs left are removed."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from telltale.support.home import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

ABANDONED_S = 24 * 60 * 60  # no fetching or converting takes a day


@contextmanager
def scratch_folder(kind: str) -> Iterator[Path]:
    """A new folder in the cache, removed at the end of the block.

    A run that is killed leaves its folder, a gigabyte or so, behind. Those of the same kind that
    are older than a day are removed first; a younger one may be in use by another run.
    """
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    for left in cache.glob(f"{kind}-*"):
        with suppress(OSError):  # another run may remove it at the same time
            if time.time() - left.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f"{kind}-") as folder:
        yield Path(folder)
