"""From what a user wrote to the local directory of a model's files: a directory, a package's folder, or a Hub id."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from finetune_cli.errors import ConfigError, MissingError
from finetune_cli.models.adapters import base_model, merged_adapter
from finetune_cli.models.download import download
from finetune_cli.models.files import (
    ADAPTER_CONFIG,
    as_written,
    inner_model,
    note_as_written,
    require_tokenizer,
    require_weights,
)
from finetune_cli.models.runtimes import runtime_of
from finetune_cli.system.places import in_home

PACKAGE_PREFIX = "package:"


def resolve_model(
    name_or_path: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    weights: bool = True,
    code: bool = False,
    key: str = "model.name_or_path",
) -> Path:
    """The local directory that holds a model's files; a Hub model is downloaded (or found in the cache) first.

    name_or_path: a directory, `package:NAME/FOLDER` (a folder inside an installed package, whose code is not run), or a
    Hub id. weights: also require its weights; without it the configuration and tokenizer files are enough.
    code: also fetch the Python files of a Hub model. key: what names the model, for messages. An adapter (LoRA, as peft
    saves it) is merged into its base model once, and the result's directory in the cache is given back.
    Raises MissingError when something is not there, with what to type next.
    """
    directory = _directory_here(name_or_path, key)
    if directory is not None and revision is not None:
        raise ConfigError(f"model.revision: {name_or_path} is a directory, which has no revisions. Take it out.")
    if directory is None:
        directory = download(name_or_path, key, revision=revision, offline=offline, weights=weights, code=code)
        if not weights and (directory / ADAPTER_CONFIG).is_file():  # its own weights are needed to merge it
            directory = download(name_or_path, key, revision=revision, offline=offline, weights=True, code=code)
    directory = inner_model(directory)
    if (directory / ADAPTER_CONFIG).is_file():
        base_dir = _base_of_adapter(directory, name_or_path, offline=offline, key=key)
        directory = merged_adapter(directory, base_dir, name=name_or_path, key=key)
    note_as_written(directory, name_or_path)
    _require_files(directory, key, weights=weights)
    return directory


def _base_of_adapter(directory: Path, name: str, *, offline: bool, key: str) -> Path:
    base, revision = base_model(directory, name, key)
    try:
        local = Path(base).is_dir()
        return resolve_model(base, revision=None if local else revision, offline=offline, key=key)
    except MissingError as err:
        which = f"{base!r}, revision {revision}" if revision else repr(base)
        raise MissingError(
            f"{key}: {name} is an adapter on {which}, which is not there: {err} Its place can be changed: "
            f"base_model_name_or_path in {ADAPTER_CONFIG}."
        ) from err


def require_present(name_or_path: str, *, key: str = "model.name_or_path") -> None:
    """Raise MissingError for a model that is here, or should be, and lacks a file; one of the Hub is not looked for.

    An export has weights of another form, and is not looked into either.
    """
    directory = _directory_here(name_or_path, key)
    if directory is None or runtime_of(directory) is not None:
        return
    directory = inner_model(directory)
    note_as_written(directory, name_or_path)
    if not (directory / ADAPTER_CONFIG).is_file():
        _require_files(directory, key, weights=True)
        require_tokenizer(directory)


def _directory_here(name: str, key: str) -> Path | None:
    """The directory that a name stands for; None for a Hub id. Raises MissingError for a place that is not there."""
    if name.startswith(PACKAGE_PREFIX):
        return _package_folder(name, key)
    if name.startswith("~"):
        name = str(in_home(name))
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise MissingError(f"{key}: there is no directory {name!r}. Check the path.")
    return None


def _require_files(directory: Path, key: str, *, weights: bool) -> None:
    if not (directory / "config.json").is_file():
        raise MissingError(f"{key}: {_without_config(directory, as_written(directory))}")
    if weights:
        require_weights(directory)


def _without_config(directory: Path, name: str) -> str:
    if (directory / "config.yaml").is_file() and (directory / "model" / "config.json").is_file():
        return f"{name} is a run; its model is one folder further in. Name that: {Path(name) / 'model'}"
    return (
        f"{name} has no config.json, so it is not a model directory. Expected config.json, model.safetensors and "
        f"tokenizer files, as save_pretrained writes them."
    )


def _package_folder(name: str, key: str) -> Path:
    package, _, folder = name.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package)  # finds the package without importing it
    except (ImportError, ValueError):  # of `a.b` it imports a
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(
            f"{key}: {name!r} needs the Python package {package!r}, which is not installed here. "
            f"Install it, or name a Hub id or a directory."
        )
    directory = Path(next(iter(spec.submodule_search_locations))) / folder
    if not directory.is_dir():
        raise MissingError(f"{key}: the package {package!r} has no folder {folder!r}.")
    return directory
