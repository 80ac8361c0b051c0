"""`finetune validate`: every mistake in a config at once, without the heavy imports."""

from collections.abc import Sequence
from pathlib import Path

from finetune_cli.config import RunConfig, load_config


def validate(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The config with everything filled in; ConfigError with all mistakes when it has any."""
    return load_config(path, overrides)
