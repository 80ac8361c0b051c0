"""Where what can be made again is kept: prepared rows, what models take in, adapters merged into their models."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_cli.errors import ConfigError
from finetune_cli.system.places import in_home


def cache_dir() -> Path:
    """$FINETUNE_CACHE, else finetune/ in $XDG_CACHE_HOME or ~/.cache. Raises ConfigError when HOME is not known."""
    if own := os.environ.get("FINETUNE_CACHE"):
        return in_home(own)
    try:
        return in_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "finetune"
    except ConfigError as err:
        raise ConfigError(
            "There is no place for the prepared rows: HOME is not set. Set FINETUNE_CACHE to a directory."
        ) from err
