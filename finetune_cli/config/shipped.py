"""Configs that come with the package: `builtin:quickstart` wherever a config is named."""

from pathlib import Path

from finetune_cli.system.places import in_home

PREFIX = "builtin:"
YAML_ENDINGS = (".yaml", ".yml")
PACKAGE = Path(__file__).parents[1]
# In a wheel they are inside the package; a checkout has them beside it, where people look for them.
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")
NEED_NOTHING = ("quickstart", "smoke")  # neither the Hub nor data of the user's


def shipped_configs() -> dict[str, Path]:
    """builtin:NAME -> the file."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    return {f"{PREFIX}{name}": folder / f"{name}.yaml" for name in NEED_NOTHING}


def config_file(name: Path | str) -> Path:
    """The file that a config's name stands for. Raises ConfigError for a builtin: that there is none of."""
    if not str(name).startswith(PREFIX):
        return in_home(name)
    path = shipped_configs().get(str(name))
    if path is None:
        from finetune_cli.config.text import single_problem  # it takes PyYAML, and TAB asks for names alone

        raise single_problem(name, f"no such config. Allowed: {', '.join(shipped_configs())}")
    return path


def names_a_config(name: Path | str) -> bool:
    """Whether a name that may stand for several things stands for a config."""
    path = in_home(name)
    return str(name).startswith(PREFIX) or path.suffix in YAML_ENDINGS or path.is_file()
