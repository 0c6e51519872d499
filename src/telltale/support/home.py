"""Folders for what outlives a study: downloaded models and the ledger.

``TELLTALE_HOME`` overrides both places, which otherwise follow the platform's custom.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The folder of downloaded and converted files, which can be deleted at any time."""
    home = os.environ.get("TELLTALE_HOME")
    return Path(home) / "cache" if home else Path(platformdirs.user_cache_dir("telltale"))


def data_dir() -> Path:
    """The folder of the ledger of looks at held-out sets, which cannot be restored."""
    home = os.environ.get("TELLTALE_HOME")
    return Path(home) / "data" if home else Path(platformdirs.user_data_dir("telltale"))
