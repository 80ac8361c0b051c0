"""A run writes rows of its own (history, predictions): they must not lie where the data are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_cli.data.folders import HUB_FOLDER, is_called_like_split
from finetune_cli.data.source_files import WILDCARDS
from finetune_cli.errors import ConfigError
from finetune_cli.system.places import in_home

WRITTEN = ("run.json", "history.jsonl", "eval/validation/metrics.json", "eval/validation/predictions.jsonl")


def require_apart(output_dir: str, data_path: str | None, splits: Mapping[str, Any], model: str | None) -> None:
    """Raise ConfigError where the files of a run in `output_dir` would be taken as data, or for the model.

    data_path, model: a place here, or an id of the Hub, which a folder of that name would hide. splits: data.splits.
    """
    run = _absolute(output_dir)
    if model is not None and run == _absolute(model):
        _refuse(output_dir, "is the name of the model too, which the run would hide")
    if data_path is None:
        return
    place = _absolute(data_path)
    named = [str(path) for path in (place, *(place / value for value in splits.values() if isinstance(value, str)))]
    if _is_read(place, run) or any(_matches(pattern, run) for pattern in named if WILDCARDS.search(pattern)):
        _refuse(
            output_dir, f"lies where data.path ({data_path}) is read, so that files of the run would be taken as rows"
        )


def _refuse(output_dir: str, why: str) -> None:
    raise ConfigError(f"output_dir: {output_dir} {why}. Name another directory: --output-dir runs/NAME")


def _is_read(place: Path, run: Path) -> bool:
    """Whether a directory of data is the run's, or has it as a split, or as the `data` of a copy from the Hub."""
    if run == place:
        return True
    if not run.is_relative_to(place):
        return False
    first = run.relative_to(place).parts[0]
    return is_called_like_split(first) or (first == HUB_FOLDER and _is_read(place / first, run))


def _matches(pattern: str, run: Path) -> bool:
    before, stars, _ = pattern.partition("**")
    if stars:
        return run.is_relative_to(before)
    return any((run / name).match(pattern) for name in WRITTEN)


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(in_home(path)))
