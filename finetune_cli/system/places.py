"""Paths as users write them."""

from __future__ import annotations

import os.path
from pathlib import Path

from finetune_cli.errors import ConfigError


def in_home(path: Path | str) -> Path:
    """The path with `~` or `~name` at its start as the home directory, as a shell reads it; any other as it is.

    A name that is no user's stays, too. Raises ConfigError when the home directory is asked for and not known: HOME is
    not set, and the system has no entry for this user.
    """
    found = os.path.expanduser(os.fspath(path))
    if found.partition("/")[0] == "~":
        raise ConfigError(f"{path}: HOME is not set, so ~ stands for no directory. Write the whole path, or set HOME.")
    return Path(found)
