"""Configs that come with the package: `builtin:quickstart` wherever a config is named."""

from __future__ import annotations

from pathlib import Path

PREFIX = "builtin:"
PACKAGE = Path(__file__).parents[1]
# In a wheel they are inside the package; a checkout has them beside it, where people look for them.
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
NEEDS_NO_HUB = ("quickstart", "smoke")


def shipped_configs() -> dict[str, Path]:
    """builtin:NAME -> the file; those that train without the Hub and without data of the user's."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return {f"{PREFIX}{name}": folder / f"{name}.yaml" for name in NEEDS_NO_HUB if (folder / f"{name}.yaml").is_file()}
