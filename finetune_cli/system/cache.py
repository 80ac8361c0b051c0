"""Where what can be made again is kept: prepared rows, what models take in, adapters merged into their models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$FINETUNE_CACHE, else finetune/ in $XDG_CACHE_HOME or ~/.cache."""
    if own := os.environ.get("FINETUNE_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "finetune"
