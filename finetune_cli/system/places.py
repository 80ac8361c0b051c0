"""Paths as users write them, and the cache."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_cli.errors import ConfigError


def in_home(path: Path | str) -> Path:
    """The path with `~` or `~name` at its start as the home directory, as a shell reads it; any other as it is.

    A name that is no user's stays, too. Raises ConfigError when the home directory is asked for and not known: HOME is
    not set, and the system has no entry for this user.
    """
    expanded = os.path.expanduser(os.fspath(path))
    if expanded.partition("/")[0] == "~":
        raise ConfigError(f"{path}: HOME is not set, so ~ stands for no directory. Write the whole path, or set HOME.")
    return Path(expanded)


def cache_dir() -> Path:
    """Where what can be made again is kept: prepared rows, what models take in, adapters merged into their models.

    $FINETUNE_CACHE, else finetune/ in $XDG_CACHE_HOME or ~/.cache. Raises ConfigError when HOME is not known."""
    if own := os.environ.get("FINETUNE_CACHE"):
        return in_home(own)
    try:
        return in_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "finetune"
    except ConfigError as err:
        raise ConfigError(
            "There is no place for the prepared rows: HOME is not set. Set FINETUNE_CACHE to a directory."
        ) from err
